//! The reference of each row: the label, or for losses that need every log p the argmax. NaN must not get lost when
//! sums leave the reference out: the maximum passes over NaN (unless a row has only NaN and −∞), or is NaN itself.

use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::tile::RowBlock;
use super::{from, from_row, part, whole};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// Fills the logit of each row's reference, whose class is known.
pub(crate) fn read_reference_logits<S: Vector>(s: S, logits: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (number, block) in blocks.iter_mut().enumerate() {
                let logits = from_row(logits, number.wrapping_mul(ROWS), classes);
                block.logit = logits_of(logits, classes, &block.class);
            }
        },
    )
}

/// The logit of a class of each row of a block; any number if there is no such class.
#[inline(always)]
pub(crate) fn logits_of(rows: &[f32], classes: usize, of: &Lanes<usize>) -> Lanes<f32> {
    let (mut at, mut logits) = (0_usize, Lanes::splat(0.0));
    for (logit, &class) in logits.iter_mut().zip(of) {
        *logit = rows.get(at.wrapping_add(class)).copied().unwrap_or(0.0);
        at = at.wrapping_add(classes);
    }
    logits
}

/// Fills class and logit of each row with its argmax and maximum; faster if at least a vector of elements follows the rows.
pub(crate) fn find_references<S: Vector>(s: S, logits: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
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
                rows = from(rows, classes);
            }
        },
    )
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
                rows = from(rows, classes);
            }
        }
    }
    found
}

/// Argmax and maximum of `LANES` rows, from row `first` of the block on.
#[inline(always)]
fn find_in_long_rows<S: Vector>(s: S, rows: &[f32], classes: usize, block: &mut RowBlock, first: usize) {
    let lowest = s.splat(f32::NEG_INFINITY);
    let whole = whole(classes.saturating_sub(1), S::LANES);
    let last = s.first_lanes(classes.wrapping_sub(whole));
    let (mut largest, mut found, mut row) = ([lowest; VIRTUAL_LANES], [lowest; VIRTUAL_LANES], rows);
    for (largest, found) in largest.iter_mut().zip(&mut found).take(S::LANES) {
        (*largest, *found) = largest_of_lanes(
            s,
            part(row, 0, whole),
            #[inline(always)]
            || s.select(last, s.load(row, whole), lowest),
        );
        row = from(row, classes);
    }
    s.store(largest_lanes(s, largest), block.logit.as_mut_slice(), first);
    let mut firsts = [lowest; VIRTUAL_LANES];
    let of_rows = largest.iter().zip(&found).zip(Lane::starting_at(first)).take(S::LANES);
    for (to, ((&largest, &found), lane)) in firsts.iter_mut().zip(of_rows) {
        *to = s.select(s.equal(largest, s.splat(block.logit[lane])), found, lowest);
    }
    let firsts = s.to_array(largest_lanes(s, firsts));
    for (class, first) in block.class.iter_mut().skip(first).zip(firsts).take(S::LANES) {
        *class = class_of(first, classes);
    }
}

/// Class c is kept as the float `CLASS_0` − c: a maximum is the first class, and its bits decrease by 1 with c.
const CLASS_0: f32 = 16_777_215.0;

/// The class of such a float, 0 if it is none.
#[inline(always)]
fn class_of(kept: f32, classes: usize) -> usize {
    let class = (CLASS_0 - kept) as usize;
    if class < classes { class } else { 0 }
}

/// The maximum of each lane of a row of fewer than 2²³ classes and the first class that has it, in one pass.
/// `tail` loads the logits after the whole vectors.
#[inline(always)]
fn largest_of_lanes<S: Vector>(s: S, whole: &[f32], tail: impl FnOnce() -> S::F) -> (S::F, S::F) {
    let (mut lanes, step) = (s.sub(s.splat(CLASS_0), s.lanes()), s.splat_bits(S::LANES as u32));
    let (mut largest, mut class) = (s.splat(f32::NEG_INFINITY), s.splat(CLASS_0));
    for x in whole.chunks_exact(S::LANES) {
        let x = s.load(x, 0);
        class = s.select(s.less(largest, x), lanes, class);
        largest = s.at_least(largest, x);
        lanes = s.of_bits(s.sub_bits(s.to_bits(lanes), step));
    }
    let tail = tail();
    class = s.select(s.less(largest, tail), lanes, class);
    (s.at_least(largest, tail), class)
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
        row = from(row, classes);
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

/// The maximum of a row of fewer than 2²³ classes and the first class that has it, class 0 if none does.
#[inline(always)]
pub(crate) fn largest<S: Vector>(s: S, row: &[f32]) -> (f32, usize) {
    let (whole, tail) = row.split_at_checked(whole(row.len(), S::LANES)).unwrap_or_default();
    let (of_lanes, classes) = largest_of_lanes(
        s,
        whole,
        #[inline(always)]
        || s.load_partial(tail, f32::NEG_INFINITY),
    );
    let lanes = s.to_array(of_lanes);
    let mut largest = lanes[0];
    for &lane in lanes.iter().take(S::LANES) {
        largest = if lane > largest { lane } else { largest };
    }
    // Mostly one lane.
    let (mut left, classes) = (s.bits_of_mask(s.equal(of_lanes, s.splat(largest))), s.to_array(classes));
    let mut found = 0.0;
    while left != 0 {
        let class = classes.get(left.trailing_zeros() as usize).copied().unwrap_or(0.0);
        found = if class > found { class } else { found };
        left &= left.wrapping_sub(1);
    }
    (largest, class_of(found, row.len()))
}

/// [`largest`] as a phase.
pub(crate) fn argmax<S: Vector>(s: S, row: &[f32]) -> (f32, usize) {
    s.run(
        #[inline(always)]
        || largest(s, row),
    )
}
