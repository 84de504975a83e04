//! The mathematics, written once over [`Vector`](crate::backend::vector::Vector).
//!
//! What a kernel promises:
//! - Element k of a row belongs to virtual lane `k % VIRTUAL_LANES`, whatever the width of the hardware. The `DEPTH`
//!   elements of a lane in one block of `BLOCK` are added in a fixed tree, the blocks (and at the end of a row quarters of
//!   one) in their order as unevaluated pairs, the lanes in a fixed tree at the end. So every backend adds the same
//!   numbers in the same order, and the error of a sum does not grow with its length.
//! - Short rows stand across: one row a lane, whose terms are added class by class, again in small trees and pairs. What
//!   a row comes to never depends on the rows beside it.
//! - A missing element at the end of a row counts as −∞, whose exponential is +0: adding it changes no bit, so it may
//!   as well be left out.

pub(crate) mod binary;
pub(crate) mod buffers;
pub(crate) mod combined;
#[cfg(test)]
mod elementary_tests;
pub(crate) mod exp;
mod from_largest;
pub(crate) mod log1p;
pub(crate) mod log_probabilities;
pub(crate) mod long_rows;
pub(crate) mod narrow_rows;
pub(crate) mod one_row;
pub(crate) mod pair;
pub(crate) mod probabilities;
pub(crate) mod rare_rows;
mod row_gradient;
pub(crate) mod row_part;
mod short_rows;
pub(crate) mod terms;
mod tile;
pub(crate) mod views;
pub(crate) mod weighted;

/// The number of partial sums of a row, the same on every backend.
pub(crate) const VIRTUAL_LANES: usize = 16;
/// The number of elements of one lane in a block.
pub(crate) const DEPTH: usize = 16;
/// The number of elements that are summed before their total is added to those of the blocks before.
pub(crate) const BLOCK: usize = VIRTUAL_LANES * DEPTH;

/// `slice[start..start + len]`, or nothing where that is out of bounds, which validation has ruled out.
#[inline(always)]
pub(crate) fn part<T>(slice: &[T], start: usize, len: usize) -> &[T] {
    slice.get(start..).and_then(|rest| rest.get(..len)).unwrap_or(&[])
}

/// The mutable form of [`part`].
#[inline(always)]
pub(crate) fn part_mut<T>(slice: &mut [T], start: usize, len: usize) -> &mut [T] {
    slice.get_mut(start..).and_then(|rest| rest.get_mut(..len)).unwrap_or(&mut [])
}

/// Copies as many elements as both have, and so cannot panic.
#[inline(always)]
pub(crate) fn copy(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
