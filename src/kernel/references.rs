//! The reference of each row: the label, or for losses that need every log p the argmax. NaN must not get lost when
//! sums leave the reference out: the maximum passes over NaN (unless a row has only NaN and −∞), or is NaN itself.

use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::sums::is_worth_code;
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
                _ if !is_worth_code::<S>() => 0,
                1 => find::<S, 1>(s, logits, classes, blocks),
                2 => find::<S, 2>(s, logits, classes, blocks),
                3 => find::<S, 3>(s, logits, classes, blocks),
                4 => find::<S, 4>(s, logits, classes, blocks),
                5..=8 => find::<S, 8>(s, logits, classes, blocks),
                _ => 0,
            };
            let mut rows = from_row(logits, found, classes);
            for row in found..blocks.len().wrapping_mul(ROWS) {
                let (Some(block), lane) = (blocks.get_mut(row / ROWS), Lane::of(row)) else { return };
                (block.logit[lane], block.class[lane]) = largest(s, rows, classes.min(rows.len()));
                rows = from(rows, classes);
            }
        },
    )
}

/// Rows of `VECTORS` vectors or, if that is more than a [`GROUP`], of up to so many, while at least a vector of elements
/// follows them; returns how many rows.
#[inline(always)]
fn find<S: Vector, const VECTORS: usize>(s: S, logits: &[f32], classes: usize, blocks: &mut [RowBlock]) -> usize {
    let (mut rows, mut found) = (logits, 0_usize);
    for block in blocks {
        for first in (0..ROWS).step_by(S::LANES) {
            if rows.len() < S::LANES.saturating_mul(classes.saturating_add(1)) {
                return found;
            }
            found = found.wrapping_add(S::LANES);
            let largest = if VECTORS > GROUP {
                largest_of_rows::<S, 0>(s, rows, classes)
            } else {
                largest_of_rows::<S, VECTORS>(s, rows, classes)
            };
            s.store(largest, block.logit.as_mut_slice(), first);
            for lane in Lane::starting_at(first).take(S::LANES) {
                let class = first_lane::<S, VECTORS>(s, rows, block.logit[lane]);
                block.class[lane] = if class < classes { class } else { 0 };
                rows = from(rows, classes);
            }
        }
    }
    found
}

/// The row-wise maximum of the first `LANES` rows, which at least `LANES` more elements follow; `VECTORS` is the number of
/// vectors of a row, 0 for any number.
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

/// The horizontal maximum of one vector.
#[inline(always)]
fn largest_lane<S: Vector>(s: S, mut of: S::F) -> f32 {
    let mut left = S::LANES;
    while left > 1 {
        let (a, b) = s.interleave(of, of);
        of = s.at_least(a, b);
        left /= 2;
    }
    let [largest, ..] = s.to_array(of);
    largest
}

/// The vectors of a group of classes: their masks fit 64 bits.
const GROUP: usize = 4;

/// The first lane of `VECTORS` vectors that has this logit, at least their number of lanes if none has.
#[inline(always)]
fn first_lane<S: Vector, const VECTORS: usize>(s: S, vectors: &[f32], logit: f32) -> usize {
    let (sought, mut masks) = (s.splat(logit), [0_u64; 2]);
    for vector in 0..VECTORS {
        let bits = s.bits_of_mask(s.equal(s.load(vectors, vector.wrapping_mul(S::LANES)), sought));
        if let Some(mask) = masks.get_mut(vector / GROUP) {
            *mask |= u64::from(bits).wrapping_shl((vector % GROUP).wrapping_mul(S::LANES) as u32);
        }
    }
    let [first, second] = masks;
    if VECTORS > GROUP && first == 0 {
        return const { GROUP * S::LANES }.wrapping_add(second.trailing_zeros() as usize);
    }
    first.trailing_zeros() as usize
}

/// The maximum of the row with which `row` begins, of fewer than 2²³ classes, and the first class that has it, class 0 if
/// none does. One pass finds the first group of classes that has the maximum, [`first_lane`] the class.
#[inline(always)]
pub(crate) fn largest<S: Vector>(s: S, row: &[f32], classes: usize) -> (f32, usize) {
    // Class c, the first of a group, is kept as this float minus c: the maximum is the first group, and the bits decrease
    // by 1 with c.
    const CLASS_0: f32 = 16_777_215.0;
    let (lanes, of_two) = (const { GROUP * S::LANES }, S::LANES_OF_TWO);
    let (vectors, tail) = part(row, 0, classes).split_at_checked(whole(classes, S::LANES)).unwrap_or_default();
    let (groups, rest) = vectors.split_at_checked(whole(vectors.len(), lanes)).unwrap_or_default();
    let (mut kept, step) = (s.splat(CLASS_0), s.splat_bits(lanes as u32));
    let lowest = s.splat(f32::NEG_INFINITY);
    let (mut of_lanes, mut found) = (lowest, kept);
    for group in groups.chunks_exact(lanes) {
        let first = s.at_least(s.load(group, 0), s.load(group, S::LANES));
        let second = s.at_least(s.load(group, of_two), s.load(group, of_two.wrapping_add(S::LANES)));
        let of_group = s.at_least(first, second);
        found = s.select(s.less(of_lanes, of_group), kept, found);
        of_lanes = s.at_least(of_lanes, of_group);
        kept = s.of_bits(s.sub_bits(s.to_bits(kept), step));
    }
    let mut of_group = s.load_partial(tail, f32::NEG_INFINITY);
    for x in rest.chunks_exact(S::LANES) {
        of_group = s.at_least(of_group, s.load(x, 0));
    }
    found = s.select(s.less(of_lanes, of_group), kept, found);
    of_lanes = s.at_least(of_lanes, of_group);
    let largest = largest_lane(s, of_lanes);
    let found = largest_lane(s, s.select(s.equal(of_lanes, s.splat(largest)), found, lowest));
    let first = (CLASS_0 - found) as usize;
    let group = from(row, first);
    let lane = if group.len() >= lanes {
        first_lane::<S, GROUP>(s, group, largest)
    } else {
        group.iter().position(|&x| x == largest).unwrap_or(classes)
    };
    let class = first.saturating_add(lane);
    (largest, if class < classes { class } else { 0 })
}

/// [`largest`] as a phase.
pub(crate) fn argmax<S: Vector>(s: S, row: &[f32]) -> (f32, usize) {
    s.run(
        #[inline(always)]
        || largest(s, row, row.len()),
    )
}
