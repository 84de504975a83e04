//! The gradient of the losses with terms: a linear combination of exponentials, u and odds, fp·e/(1 − p).

use super::lanes::Lane;
use super::spread::U;
use super::sums::has_long_vectors;
use super::term_scalars::TermBlock;
use super::tile::RowBlock;
use super::{from, part_mut};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// Writes the gradient of the rows that are not marked; with `odds`, fp·e/(1 − p), if there are costs.
pub(crate) fn write_term_gradient<S: Vector>(
    s: S,
    exponentials: &[f32],
    u: U<'_>,
    odds: Option<&[f32]>,
    to: &mut [f32],
    classes: usize,
    blocks: &[RowBlock],
    terms: &[TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let rows = GradientRows { s, to, classes, blocks, terms };
            match (u.targets, odds, u.even.map(|u| s.splat(u))) {
                // Costs exclude target probabilities.
                (Some(q), _, _) => rows.write(
                    [exponentials, q, u.shared],
                    #[inline(always)]
                    |row, [e, q, w]| row.of(s, e, u.of_targets(s, q, w)),
                ),
                (None, Some(odds), _) => rows.write(
                    [exponentials, odds, u.shared],
                    #[inline(always)]
                    |row, [e, odds, u]| s.mul_add(odds, row.of_odds, row.of(s, e, u)),
                ),
                (None, None, Some(u)) => rows.write(
                    [exponentials; 3],
                    #[inline(always)]
                    |row, [e, _, _]| row.of(s, e, u),
                ),
                (None, None, None) => rows.write(
                    [exponentials, exponentials, u.shared],
                    #[inline(always)]
                    |row, [e, _, u]| row.of(s, e, u),
                ),
            }
        },
    )
}

/// Writes the gradient of a piece of a row but for the elements of label and reference; without costs.
pub(crate) fn write_piece<S: Vector>(
    s: S,
    e: &[f32],
    u: U<'_>,
    to: &mut [f32],
    (block, terms, lane): (&RowBlock, &TermBlock, Lane),
) {
    s.run(
        #[inline(always)]
        move || {
            let row = GradientFactors::new(s, block, terms, lane);
            match (u.targets, u.even.map(|u| s.splat(u))) {
                (Some(q), _) => write_row(
                    s,
                    to,
                    [e, q, u.shared],
                    #[inline(always)]
                    |[e, q, w]| row.of(s, e, u.of_targets(s, q, w)),
                ),
                (None, Some(u)) => write_row(
                    s,
                    to,
                    [e; 3],
                    #[inline(always)]
                    |[e, _, _]| row.of(s, e, u),
                ),
                (None, None) => write_row(
                    s,
                    to,
                    [e, e, u.shared],
                    #[inline(always)]
                    |[e, _, u]| row.of(s, e, u),
                ),
            }
        },
    )
}

/// Factors of the exponentials, of u and of the odds of a row, in every lane.
struct GradientFactors<S: Vector> {
    scale: S::F,
    minus_factor: S::F,
    of_odds: S::F,
}

impl<S: Vector> GradientFactors<S> {
    /// The factors of the row in `lane`.
    #[inline(always)]
    fn new(s: S, block: &RowBlock, terms: &TermBlock, lane: Lane) -> Self {
        Self {
            scale: s.splat(block.scale[lane]),
            minus_factor: s.splat(-terms.factor[lane]),
            of_odds: s.splat(terms.odds_scale[lane]),
        }
    }

    /// Elements from exponentials and u.
    #[inline(always)]
    fn of(&self, s: S, e: S::F, u: S::F) -> S::F {
        // Not the other way round: a tiny exponential times the scale may be subnormal, which takes longer.
        s.mul_add(e, self.scale, s.mul(u, self.minus_factor))
    }
}

/// Rows of a tile, and where their gradient goes.
struct GradientRows<'t, S> {
    s: S,
    to: &'t mut [f32],
    classes: usize,
    blocks: &'t [RowBlock],
    terms: &'t [TermBlock],
}

impl<S: Vector> GradientRows<'_, S> {
    /// Writes the rows: `element` computes a vector from three arrays, two of all rows and one that the rows share. They
    /// are followed by as many elements as a vector.
    #[inline(always)]
    fn write(self, arrays: [&[f32]; 3], element: impl Fn(&GradientFactors<S>, [S::F; 3]) -> S::F + Copy) {
        let Self { s, to, classes, blocks, terms } = self;
        // A row's last vector may store into the next row, which is written afterwards unless it is marked.
        let overlap = S::WIDE && blocks.iter().all(|block| block.marked == 0);
        let are_short = has_long_vectors::<S>() && overlap && classes <= VIRTUAL_LANES;
        let reach = classes.next_multiple_of(S::LANES);
        let [mut first, mut second, shared] = arrays;
        let mut to = to;
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in Lane::all() {
                if to.is_empty() {
                    return;
                }
                let factors = GradientFactors::new(s, block, terms, lane);
                let of_row = [first, second, shared].map(|array| array.first_chunk::<VIRTUAL_LANES>());
                if let (true, [Some(a), Some(b), Some(c)], Some(to)) =
                    (are_short, of_row, to.first_chunk_mut::<VIRTUAL_LANES>())
                {
                    for at in (0..classes).step_by(S::LANES) {
                        s.store(element(&factors, [s.load(a, at), s.load(b, at), s.load(c, at)]), to, at);
                    }
                    terms.set_elements(block, lane, to, 0);
                } else if !block.is_marked(lane) {
                    let len = if overlap && reach <= to.len() { reach } else { classes };
                    let to = part_mut(to, 0, len);
                    write_row(
                        s,
                        to,
                        [first, second, shared],
                        #[inline(always)]
                        |vectors| element(&factors, vectors),
                    );
                    terms.set_elements(block, lane, to, 0);
                }
                (first, second) = (from(first, classes), from(second, classes));
                to = to.get_mut(classes..).unwrap_or(&mut []);
            }
        }
    }
}

/// Fills `to` with `element` of vectors of three arrays, which reach to the end of its last vector.
#[inline(always)]
fn write_row<S: Vector>(s: S, to: &mut [f32], arrays: [&[f32]; 3], element: impl Fn([S::F; 3]) -> S::F) {
    let reach = to.len().next_multiple_of(S::LANES);
    let [Some(first), Some(second), Some(third)] = arrays.map(|array| array.get(..reach)) else { return };
    if !S::WIDE {
        // In small code `zip` would divide by the length of chunks.
        for (at, to) in to.chunks_exact_mut(S::LANES).enumerate() {
            s.store(element([s.load(first, at), s.load(second, at), s.load(third, at)]), to, 0);
        }
        return;
    }
    let vectors = first.chunks_exact(S::LANES).zip(second.chunks_exact(S::LANES));
    let mut inputs = vectors.zip(third.chunks_exact(S::LANES));
    let mut vectors = to.chunks_exact_mut(S::LANES);
    for (to, ((a, b), c)) in vectors.by_ref().zip(inputs.by_ref()) {
        s.store(element([s.load(a, 0), s.load(b, 0), s.load(c, 0)]), to, 0);
    }
    if let (rest @ [_, ..], Some(((a, b), c))) = (vectors.into_remainder(), inputs.next()) {
        s.store_partial(element([s.load(a, 0), s.load(b, 0), s.load(c, 0)]), rest);
    }
}
