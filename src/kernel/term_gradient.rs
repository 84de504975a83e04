//! The gradient of the losses with terms: a linear combination of exponentials, u and odds, fp·e/(1 − p).

use super::lanes::Lane;
use super::limits::ROWS;
use super::spread::U;
use super::sums::has_long_vectors;
use super::term_scalars::TermBlock;
use super::tile::RowBlock;
use super::{part, part_mut};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// Writes the gradient of the rows that are not marked; with u, if there is a spread, and `odds`, fp·e/(1 − p), if
/// there are costs.
pub(crate) fn write_term_gradient<S: Vector>(
    s: S,
    exponentials: &[f32],
    u: Option<U<'_>>,
    odds: Option<&[f32]>,
    to: &mut [f32],
    classes: usize,
    blocks: &[RowBlock],
    terms: &[TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            // A row's last vector may store into the next row, which is written afterwards unless it is marked.
            let overlap = blocks.iter().all(|block| block.marked == 0);
            let (reach, end) = (classes.next_multiple_of(S::LANES), to.len());
            let written = if has_long_vectors::<S>() && overlap && classes <= VIRTUAL_LANES {
                write_short_rows(s, exponentials, u, odds, to, classes, blocks, terms)
            } else {
                0
            };
            for ((first_row, block), terms) in (0_usize..).step_by(ROWS).zip(blocks).zip(terms) {
                for (row, lane) in (first_row..).zip(Lane::all()) {
                    let first = row.wrapping_mul(classes);
                    if first >= end {
                        break;
                    }
                    if row < written || block.is_marked(lane) {
                        continue;
                    }
                    let is_inside = overlap && first.saturating_add(reach) <= end;
                    let to = part_mut(to, first, if is_inside { reach } else { classes });
                    GradientFactors::new(s, block, terms, lane).write(s, to, exponentials, u, odds, first);
                }
            }
            // The elements of labels and references, which are row scalars.
            let mut start = 0;
            for (block, terms) in blocks.iter().zip(terms) {
                for lane in Lane::all() {
                    let row = part_mut(to, start, classes);
                    start = start.wrapping_add(classes);
                    if !block.is_marked(lane) {
                        terms.set_elements(block, lane, row, 0);
                    }
                }
            }
        },
    )
}

/// Writes rows of at most 16 classes as long as 16 elements fit; returns how many rows.
#[inline(always)]
fn write_short_rows<S: Vector>(
    s: S,
    exponentials: &[f32],
    u: Option<U<'_>>,
    odds: Option<&[f32]>,
    to: &mut [f32],
    classes: usize,
    blocks: &[RowBlock],
    terms: &[TermBlock],
) -> usize {
    let mut row = 0_usize;
    for (block, terms) in blocks.iter().zip(terms) {
        for lane in Lane::all() {
            let start = row.wrapping_mul(classes);
            let (e, to) = (exponentials.get(start..).unwrap_or(&[]), to.get_mut(start..).unwrap_or(&mut []));
            let (Some(e), Some(to)) = (e.first_chunk::<VIRTUAL_LANES>(), to.first_chunk_mut::<VIRTUAL_LANES>()) else {
                return row;
            };
            let elements = GradientFactors::new(s, block, terms, lane);
            for at in (0..classes).step_by(S::LANES) {
                s.store(elements.of_classes_from(s, s.load(e, at), u, odds, start, at), to, at);
            }
            row = row.wrapping_add(1);
        }
    }
    row
}

/// Factors of the exponentials, of u and of the odds of a row, in every lane.
pub(crate) struct GradientFactors<S: Vector> {
    scale: S::F,
    factor: S::F,
    of_odds: S::F,
}

impl<S: Vector> GradientFactors<S> {
    /// The factors of the row in `lane`.
    #[inline(always)]
    pub(crate) fn new(s: S, block: &RowBlock, terms: &TermBlock, lane: Lane) -> Self {
        Self {
            scale: s.splat(block.scale[lane]),
            factor: s.splat(-terms.factor[lane]),
            of_odds: s.splat(terms.odds_scale[lane]),
        }
    }

    /// Elements from exponentials alone; `with_u` and `with_odds` add the parts of u and of the odds.
    #[inline(always)]
    fn of(&self, s: S, e: S::F) -> S::F {
        s.mul(e, self.scale)
    }

    #[inline(always)]
    fn with_u(&self, s: S, e: S::F, u: S::F) -> S::F {
        // Not the other way round: a tiny exponential times the scale may be subnormal, which takes longer.
        s.mul_add(e, self.scale, s.mul(u, self.factor))
    }

    #[inline(always)]
    fn with_odds(&self, s: S, element: S::F, odds: S::F) -> S::F {
        s.mul_add(odds, self.of_odds, element)
    }

    /// Elements of the classes from `class` on, in the row that begins at `start`.
    #[inline(always)]
    fn of_classes_from(
        &self,
        s: S,
        e: S::F,
        u: Option<U<'_>>,
        odds: Option<&[f32]>,
        start: usize,
        class: usize,
    ) -> S::F {
        let element = match u {
            Some(u) => self.with_u(s, e, u.of_classes_from(s, start, class)),
            None => self.of(s, e),
        };
        match odds {
            Some(odds) => self.with_odds(s, element, s.load(odds, start.wrapping_add(class))),
            None => element,
        }
    }

    /// Writes the row that begins at `start`: a loop for each combination of u and odds.
    #[inline(always)]
    pub(crate) fn write(
        &self,
        s: S,
        to: &mut [f32],
        exponentials: &[f32],
        u: Option<U<'_>>,
        odds: Option<&[f32]>,
        start: usize,
    ) {
        if !S::WIDE {
            // One loop for all combinations, where memory is small.
            for (class, to) in to.chunks_exact_mut(S::LANES).enumerate() {
                let e = s.load(exponentials, start.wrapping_add(class));
                s.store(self.of_classes_from(s, e, u, odds, start, class), to, 0);
            }
            return;
        }
        let reach = to.len().next_multiple_of(S::LANES);
        let e = part(exponentials, start, reach);
        match (u, odds.map(|odds| part(odds, start, reach))) {
            (None, None) => write_vectors(
                s,
                to,
                [e],
                #[inline(always)]
                |[e]| self.of(s, e),
            ),
            (None, Some(odds)) => write_vectors(
                s,
                to,
                [e, odds],
                #[inline(always)]
                |[e, odds]| self.with_odds(s, self.of(s, e), odds),
            ),
            // Costs exclude target probabilities: u is one row, the same for all.
            (Some(u), Some(odds)) => write_vectors(
                s,
                to,
                [e, part(u.shared, 0, reach), odds],
                #[inline(always)]
                |[e, u, odds]| self.with_odds(s, self.with_u(s, e, u), odds),
            ),
            (Some(u), None) => self.write_with_u(s, to, e, u, start),
        }
    }

    #[inline(always)]
    fn write_with_u(&self, s: S, to: &mut [f32], e: &[f32], u: U<'_>, start: usize) {
        if let Some(u) = u.even {
            let u = s.splat(u);
            return write_vectors(
                s,
                to,
                [e],
                #[inline(always)]
                |[e]| self.with_u(s, e, u),
            );
        }
        let shared = part(u.shared, 0, e.len());
        let Some(targets) = u.targets else {
            return write_vectors(
                s,
                to,
                [e, shared],
                #[inline(always)]
                |[e, u]| self.with_u(s, e, u),
            );
        };
        write_vectors(
            s,
            to,
            [e, part(targets, start, e.len()), shared],
            #[inline(always)]
            |[e, q, w]| self.with_u(s, e, u.of_targets(s, q, w)),
        );
    }
}

/// Fills `to` with `vector` of the inputs, whose lengths are that of `to` rounded up to whole vectors.
#[inline(always)]
fn write_vectors<S: Vector, const N: usize>(
    s: S,
    to: &mut [f32],
    from: [&[f32]; N],
    vector: impl Fn([S::F; N]) -> S::F,
) {
    let mut columns = from.map(|from| from.chunks_exact(S::LANES));
    let mut of_next = || {
        columns.each_mut().map(
            #[inline(always)]
            |vectors| s.load(vectors.next().unwrap_or(&[]), 0),
        )
    };
    let mut vectors = to.chunks_exact_mut(S::LANES);
    for to in vectors.by_ref() {
        s.store(vector(of_next()), to, 0);
    }
    let rest = vectors.into_remainder();
    if !rest.is_empty() {
        s.store_partial(vector(of_next()), rest);
    }
}
