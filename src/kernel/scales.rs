//! The scale of a row: a gradient element is the exponential of its class times factor·share, a product in f32 where the
//! scale is *held* by f32, as 0 or a normal number, else in f64. Where both are possible they round to the same bits.

use super::column_sums::{map_vectors, of_rows, set_elements};
use super::f64_math::power_of_two;
use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::sums::is_worth_code;
use super::tile::{Place, RowBlock};
use super::{chunks_mut, part_mut};
use crate::backend::vector::Vector;

/// Fills `scale` = factor·share and `at_reference` = −factor·miss; returns whether all scales are held. If not, they
/// are 1 instead, and [`scale_rows`] or [`scale_columns_in_f64`] has to multiply the exponentials by the scales in f64;
/// rows whose scale is infinite or NaN are marked. Unless that [`is_worth_code`], all rows are marked whose scale is
/// not held.
pub(crate) fn fill_scales<S: Vector>(s: S, blocks: &mut [RowBlock]) -> bool {
    round_scales(s, blocks) || {
        mark_by_scale(is_worth_code::<S>(), blocks);
        false
    }
}

/// Fills `scale` and `at_reference`, rounded to f32; returns whether all scales are held.
pub(crate) fn round_scales<S: Vector>(s: S, blocks: &mut [RowBlock]) -> bool {
    s.run(
        #[inline(always)]
        move || {
            // Sign bit: |scale| is below the smallest or above the largest normal f32.
            let mut outside = Lanes::splat(0);
            for block in blocks {
                let (factor, share, miss) = (block.factor, block.share, block.one_minus_p);
                let (mut scales, mut at_reference) = (Lanes::splat(0.0), Lanes::splat(0.0));
                for i in Lane::all() {
                    // + 0.0 turns −0 to +0: of a factor of 0 the gradient is exactly +0, though z-loss has negative shares.
                    let scale = factor[i] * share[i] + 0.0;
                    scales[i] = scale as f32;
                    at_reference[i] = (0.0 - factor[i] * miss[i]) as f32;
                    let size = if factor[i] == 0.0 { LEAST_BITS } else { scale.to_bits() & !SIGN_BIT };
                    outside[i] |= size.wrapping_sub(LEAST_BITS) | LARGEST_BITS.wrapping_sub(size);
                }
                (block.scale, block.at_reference) = (scales, at_reference);
            }
            outside.iter().fold(0, |all, bits| all | bits) & SIGN_BIT == 0
        },
    )
}

/// The marks of [`fill_scales`], and its scales of 1 if there is code that multiplies by others in f64.
#[cold]
#[inline(never)]
fn mark_by_scale(has_f64: bool, blocks: &mut [RowBlock]) {
    for block in blocks {
        for lane in Lane::of_bits(u32::MAX) {
            let factor = block.factor[lane];
            let scale = if factor == 0.0 { 1.0 } else { factor * block.share[lane] };
            let is_refused = if has_f64 { !scale.is_finite() } else { !is_held(scale) };
            block.marked |= if is_refused { lane.bit() } else { 0 };
        }
        if has_f64 {
            block.scale = Lanes::splat(1.0);
        }
    }
}

const SIGN_BIT: u64 = 1 << 63;
const LEAST_BITS: u64 = (f32::MIN_POSITIVE as f64).to_bits();
const LARGEST_BITS: u64 = (f32::MAX as f64).to_bits();

/// Whether a number is in the range of normal f32.
#[inline(always)]
pub(crate) fn is_held(number: f64) -> bool {
    let size = number.abs();
    (size >= f64::from(f32::MIN_POSITIVE)) & (size <= f64::from(f32::MAX))
}

/// The scale of a row, 0·∞ being 0. If it is held without 2^power it is rounded to f32, as [`fill_scales`] has it.
#[inline(always)]
pub(crate) fn scale_of(block: &RowBlock, lane: Lane) -> f64 {
    let (scale, unit) = (block.factor[lane] * block.share[lane], power_of_two(f64::from(block.power[lane])));
    let without = scale * unit;
    let scale = if is_held(without) { f64::from(without as f32) / unit } else { scale };
    if block.factor[lane] == 0.0 { 0.0 } else { scale }
}

/// Multiplies the exponentials of rows by their scales.
pub(crate) fn scale_rows<S: Vector>(s: S, exponentials: &mut [f32], classes: usize, blocks: &[RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (block, rows) in blocks.iter().zip(chunks_mut(exponentials, classes.wrapping_mul(ROWS))) {
                for (lane, row) in Lane::all().zip(chunks_mut(rows, classes)) {
                    scale_row(row, scale_of(block, lane));
                }
            }
        },
    )
}

/// [`scale_rows`] for columns of `rows` rows, `stride` elements from one class to the next.
pub(crate) fn scale_columns_in_f64<S: Vector>(
    s: S,
    exponentials: &mut [f32],
    rows: usize,
    stride: usize,
    classes: usize,
    blocks: &[RowBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            for (first, block) in (0_usize..).step_by(ROWS).zip(blocks) {
                let (mut scales, in_block) = (Lanes::splat(0.0), ROWS.min(rows.saturating_sub(first)));
                for i in Lane::all() {
                    scales[i] = scale_of(block, i);
                }
                for class in 0..classes {
                    let at = class.wrapping_mul(stride).wrapping_add(first);
                    for (e, scale) in part_mut(exponentials, at, in_block).iter_mut().zip(&scales) {
                        *e = (f64::from(*e) * scale) as f32;
                    }
                }
            }
        },
    )
}

/// Multiplies exponentials by a scale in f64.
#[inline(always)]
pub(crate) fn scale_row(row: &mut [f32], scale: f64) {
    for e in row {
        *e = (f64::from(*e) * scale) as f32;
    }
}

/// Scales the exponentials of a piece of columns to the gradient, in place, and sets the elements of the labels.
pub(crate) fn scale_columns<S: Vector>(
    s: S,
    (exponentials, stride): (&mut [f32], usize),
    place: Place,
    blocks: &[RowBlock],
    are_held: bool,
) {
    if are_held || !is_worth_code::<S>() {
        s.run(
            #[inline(always)]
            || {
                let scale = of_rows(blocks.iter().map(|block| &block.scale));
                for to in chunks_mut(&mut *exponentials, stride).take(place.width) {
                    map_vectors(
                        s,
                        part_mut(to, 0, place.rows),
                        #[inline(always)]
                        |at, e| s.mul(e, s.load(&scale.0, at)),
                    );
                }
            },
        );
    } else {
        let Place { rows, width: classes, .. } = place;
        scale_columns_in_f64(s, exponentials, rows, stride, classes, blocks);
    }
    set_labels(exponentials, stride, place, blocks);
}

/// Sets the gradient elements of the labels that are in a piece of columns.
#[inline(never)]
fn set_labels(gradient: &mut [f32], stride: usize, place: Place, blocks: &[RowBlock]) {
    for (row, block) in (0_usize..).step_by(ROWS).zip(blocks) {
        set_elements(gradient, place, (row, stride), &block.class, &block.at_reference);
    }
}
