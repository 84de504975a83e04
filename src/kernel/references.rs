//! The reference of each row: the label, or for losses that need every log p the argmax. NaN must not get lost when
//! sums leave the reference out: the maximum passes over NaN (unless a row has only NaN and −∞), or is NaN itself.

use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::tile::RowBlock;
use super::{from_row, part, whole};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// Fills the logit of each row's reference, whose class is known.
pub(crate) struct ReferenceLogits<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for ReferenceLogits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, _: S) {
        let mut at = 0_usize;
        for block in self.blocks {
            let (classes, mut logits) = (block.class, Lanes::splat(0.0));
            for (logit, class) in logits.iter_mut().zip(classes) {
                *logit = self.logits.get(at.wrapping_add(class)).copied().unwrap_or(0.0);
                at = at.wrapping_add(self.classes);
            }
            block.logit = logits;
        }
    }
}

/// Fills class and logit of each row with its argmax and maximum.
pub(crate) struct References<'a> {
    /// Rows of `classes` elements; faster if at least a vector of elements follows them.
    pub(crate) logits: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for References<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { logits, classes, blocks } = self;
        let found = match classes.div_ceil(S::LANES) {
            _ if !S::WIDE => 0,
            1 => find::<S, 1>(s, logits, classes, blocks),
            2 => find::<S, 2>(s, logits, classes, blocks),
            _ => find::<S, 0>(s, logits, classes, blocks),
        };
        let mut rows = from_row(logits, found, classes);
        for row in found..blocks.len().wrapping_mul(ROWS) {
            let (Some(block), lane) = (blocks.get_mut(row / ROWS), Lane::of(row)) else { return };
            (block.logit[lane], block.class[lane]) = largest(s, part(rows, 0, classes.min(rows.len())));
            rows = rows.get(classes..).unwrap_or(&[]);
        }
    }
}

/// Rows while at least a vector of elements follows them; returns their number. `VECTORS` is the number of vectors of a
/// row, 0 for any number.
#[inline(always)]
fn find<S: Vector, const VECTORS: usize>(s: S, logits: &[f32], classes: usize, blocks: &mut [RowBlock]) -> usize {
    let (mut rows, mut found) = (logits, 0_usize);
    for block in blocks {
        for first in (0..ROWS).step_by(S::LANES) {
            if rows.len() < S::LANES.saturating_mul(classes.saturating_add(1)) {
                return found;
            }
            found = found.wrapping_add(S::LANES);
            if VECTORS == 0 {
                find_in_long_rows(s, rows, classes, block, first);
                rows = from_row(rows, S::LANES, classes);
                continue;
            }
            s.store(largest_of_rows::<S, VECTORS>(s, rows, classes), block.logit.as_mut_slice(), first);
            for lane in Lane::starting_at(first).take(S::LANES) {
                block.class[lane] = first_class::<S, VECTORS>(s, rows, classes, block.logit[lane]);
                rows = rows.get(classes..).unwrap_or(&[]);
            }
        }
    }
    found
}

/// Argmax and maximum of `LANES` rows, from row `first` of the block on, in one pass: beside its running maximum each
/// lane keeps the first class that had it.
#[inline(always)]
fn find_in_long_rows<S: Vector>(s: S, rows: &[f32], classes: usize, block: &mut RowBlock, first: usize) {
    // Class c is kept as the float 2²³ + c, whose bits increase by 1 with c.
    let (lowest, base, step) = (s.splat(f32::NEG_INFINITY), s.splat(8_388_608.0), s.splat_bits(S::LANES as u32));
    let lanes = s.add(s.lanes(), base);
    let whole = whole(classes.saturating_sub(1), S::LANES);
    let last = s.first_lanes(classes.wrapping_sub(whole));
    let (mut largest, mut found, mut row) = ([lowest; VIRTUAL_LANES], [lowest; VIRTUAL_LANES], rows);
    for (largest, found) in largest.iter_mut().zip(&mut found).take(S::LANES) {
        let (mut of_row, mut class, mut lanes) = (lowest, lanes, lanes);
        for x in part(row, 0, whole).chunks_exact(S::LANES) {
            let x = s.load(x, 0);
            class = s.select(s.less(of_row, x), lanes, class);
            of_row = s.at_least(of_row, x);
            lanes = s.of_bits(s.add_bits(s.to_bits(lanes), step));
        }
        let x = s.select(last, s.load(row, whole), lowest);
        class = s.select(s.less(of_row, x), lanes, class);
        (*largest, *found) = (s.at_least(of_row, x), class);
        row = row.get(classes..).unwrap_or(&[]);
    }
    s.store(largest_lanes(s, largest), block.logit.as_mut_slice(), first);
    // Classes are negated: the maximum is the first of those that tie.
    for ((found, &of_row), lane) in found.iter_mut().zip(&largest).zip(Lane::starting_at(first)).take(S::LANES) {
        let is_largest = s.equal(of_row, s.splat(block.logit[lane]));
        *found = s.select(is_largest, s.sub(base, *found), s.splat(-(classes as f32)));
    }
    let firsts = s.to_array(largest_lanes(s, found));
    for (class, first) in block.class.iter_mut().skip(first).zip(firsts).take(S::LANES) {
        let found = (0.0 - first) as usize;
        *class = if found < classes { found } else { 0 };
    }
}

/// The row-wise maximum of the first `LANES` rows, which at least `LANES` more elements follow; `VECTORS` as in
/// [`find`].
#[inline(always)]
pub(crate) fn largest_of_rows<S: Vector, const VECTORS: usize>(s: S, rows: &[f32], classes: usize) -> S::F {
    let lowest = s.splat(f32::NEG_INFINITY);
    let of_vectors = VECTORS.saturating_sub(1).wrapping_mul(S::LANES);
    let whole = if VECTORS > 0 { of_vectors } else { whole(classes.saturating_sub(1), S::LANES) };
    let last = s.first_lanes(classes.wrapping_sub(whole));
    let (mut most, mut row) = ([lowest; VIRTUAL_LANES], rows);
    for most in most.iter_mut().take(S::LANES) {
        let mut of_row = s.select(last, s.load(row, whole), lowest);
        for x in part(row, 0, whole).chunks_exact(S::LANES) {
            of_row = s.at_least(of_row, s.load(x, 0));
        }
        *most = of_row;
        row = row.get(classes..).unwrap_or(&[]);
    }
    largest_lanes(s, most)
}

/// The horizontal maximum of each of the first `LANES` vectors.
#[inline(always)]
fn largest_lanes<S: Vector>(s: S, mut of: [S::F; VIRTUAL_LANES]) -> S::F {
    let mut half = S::LANES / 2;
    while half > 0 {
        let (low, high) = of.split_at_mut_checked(half).unwrap_or_default();
        for (low, high) in low.iter_mut().zip(high) {
            let (a, b) = s.interleave(*low, *high);
            *low = s.at_least(a, b);
        }
        half /= 2;
    }
    let [largest, ..] = of;
    largest
}

/// The first class with this logit in a row of `VECTORS` vectors, 0 if there is none. Loads may reach beyond the row.
#[inline(always)]
fn first_class<S: Vector, const VECTORS: usize>(s: S, row: &[f32], classes: usize, logit: f32) -> usize {
    let (sought, mut bits) = (s.splat(logit), 0);
    for at in (0..VECTORS.wrapping_mul(S::LANES)).step_by(S::LANES) {
        bits |= s.bits_of_mask(s.equal(s.load(row, at), sought)).wrapping_shl(at as u32);
    }
    let class = bits.trailing_zeros() as usize;
    if class < classes { class } else { 0 }
}

/// The maximum of a row and the first class that has it, class 0 if none does.
#[inline(always)]
pub(crate) fn largest<S: Vector>(s: S, row: &[f32]) -> (f32, usize) {
    let mut most = s.splat(f32::NEG_INFINITY);
    let whole = row.chunks_exact(S::LANES);
    let tail = s.load_partial(whole.remainder(), f32::NEG_INFINITY);
    for x in whole {
        most = s.at_least(most, s.load(x, 0));
    }
    let lanes = s.to_array(s.at_least(most, tail));
    let mut largest = lanes[0];
    for &lane in lanes.iter().take(S::LANES) {
        largest = if lane > largest { lane } else { largest };
    }
    // Backwards, so that the first match wins by a select instead of an unpredictable branch.
    let sought = s.splat(largest);
    let whole = row.chunks_exact(S::LANES);
    let mut start = row.len().wrapping_sub(whole.remainder().len());
    let bits = s.bits_of_mask(s.equal(tail, sought));
    // Padding lanes are −∞, which matches only if all logits are.
    let mut found = if bits != 0 { start.wrapping_add(bits.trailing_zeros() as usize) } else { 0 };
    for x in whole.rev() {
        start = start.wrapping_sub(S::LANES);
        let bits = s.bits_of_mask(s.equal(s.load(x, 0), sought));
        found = if bits != 0 { start.wrapping_add(bits.trailing_zeros() as usize) } else { found };
    }
    (largest, if found < row.len() { found } else { 0 })
}
