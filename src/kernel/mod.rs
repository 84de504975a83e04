//! The mathematics, written once over [`Vector`](crate::backend::vector::Vector).
//!
//! A call is computed tile by tile: a *tile* is some rows of logits in the first cache, a *phase* a function with a
//! plain loop over all of it, which [`Vector::run`](crate::backend::vector::Vector::run) compiles for the processor.
//! Row scalars (the sum, the logarithm, the factors of the gradient) are stored in *blocks* of 16 rows, so that their
//! phases compute as many rows at once as a vector has lanes. Where memory is small and there are no vectors, a block
//! is one row.
//!
//! | phase of the weighted loss | file |
//! |---|---|
//! | labels are read and checked, class and sample weights looked up and added up | `classes` |
//! | logits of any type and layout are copied into the tile as rows of f32 | `tile`; as columns `tile_columns` |
//! | exponentials; f32 holds them without a reference for logits within ±44, other rows are *marked* | `exp`, `marks` |
//! | the exponential of the label is set to 0; row sums | `sums`, in the order of `partial_sums`; `column_sums` for `[N, C, D]`, with the exponentials |
//! | row scalars: log(1 + E), 1 − p, the factor from exponential to probability | `row_scalars`, with `log1p` and `f64_math` |
//! | the focal factor and z-loss | `label_terms` |
//! | marked rows again: any logits, any weights, NaN and infinity | `general`; `general_columns` for blocks of short rows and of `[N, C, D]` |
//! | weighted losses and their sum | `row_scalars` |
//! | exponentials times the row's factor: the gradient, copied to the layout of the caller | `scales`, `weighted`, `tile` |
//!
//! | entry point | file |
//! |---|---|
//! | the weighted loss, focal factor and z-loss | `weighted`; from the gaps of the logits `two_classes` for C = 2, `few_classes` for 3 and 4; `positions` for `[N, C, D]`, `few_rows` for at most 3 rows, `long_rows` where a row does not fit a tile |
//! | soft targets (weighed by `weigh_targets`), label smoothing (`spread`), mislabel costs (`costs`), with focal factor and z-loss | `terms`, with `term_tile`, `references`, `term_sums`, `term_scalars` and `term_gradient`; `two_class_terms` for C = 2, `term_columns` for `[N, C, D]` without costs, `long_terms` where a row does not fit a tile; marked rows `terms_general` |
//! | log-probabilities, log-sum-exps, parts of rows | `log_softmax` |
//! | the diagonal of the Hessian, and a bound of it | `curvature` |
//! | decisions of least expected cost | `decide` |
//! | binary, multi-label: one logit a label | `binary` |
//! | losses from given probabilities | `from_probabilities` |
//! | the weighted loss in one lane, in pairs of f32 | `one_lane`, with `pair` and `log_of_pair` |
//!
//! `limits` has every numeric limit with its derivation, `lanes` the row index of a block and arrays that it indexes.

pub(crate) mod binary;
pub(crate) mod classes;
pub(crate) mod column_sums;
pub(crate) mod costs;
pub(crate) mod curvature;
pub(crate) mod decide;
pub(crate) mod exp;
pub(crate) mod f64_math;
pub(crate) mod few_classes;
pub(crate) mod few_rows;
pub(crate) mod from_probabilities;
pub(crate) mod general;
pub(crate) mod general_columns;
pub(crate) mod label_terms;
pub(crate) mod lanes;
pub(crate) mod limits;
pub(crate) mod log1p;
pub(crate) mod log_of_pair;
pub(crate) mod log_softmax;
pub(crate) mod long_rows;
pub(crate) mod long_terms;
pub(crate) mod marks;
pub(crate) mod one_lane;
pub(crate) mod pair;
mod partial_sums;
pub(crate) mod positions;
pub(crate) mod references;
pub(crate) mod row_scalars;
pub(crate) mod scales;
pub(crate) mod spread;
pub(crate) mod sums;
pub(crate) mod term_columns;
pub(crate) mod term_gradient;
pub(crate) mod term_scalars;
pub(crate) mod term_sums;
pub(crate) mod term_tile;
pub(crate) mod terms;
pub(crate) mod terms_general;
pub(crate) mod tile;
pub(crate) mod tile_columns;
pub(crate) mod two_class_terms;
pub(crate) mod two_classes;
pub(crate) mod weigh_targets;
pub(crate) mod weighted;

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod elementary_tests;
#[cfg(all(test, target_arch = "x86_64"))]
mod work_tests;

/// `slice[start..start + len]`; empty where that is out of bounds, which validation has ruled out.
#[inline(always)]
pub(crate) fn part<T>(slice: &[T], start: usize, len: usize) -> &[T] {
    slice.get(start..).and_then(|rest| rest.get(..len)).unwrap_or(&[])
}

/// The mutable form of [`part`].
#[inline(always)]
pub(crate) fn part_mut<T>(slice: &mut [T], start: usize, len: usize) -> &mut [T] {
    slice.get_mut(start..).and_then(|rest| rest.get_mut(..len)).unwrap_or(&mut [])
}

/// `count` rows of `width` elements, from row `first` on.
#[inline(always)]
pub(crate) fn rows_of<T>(slice: &[T], first: usize, count: usize, width: usize) -> &[T] {
    part(slice, first.wrapping_mul(width), count.wrapping_mul(width))
}

/// The mutable form of [`rows_of`].
#[inline(always)]
pub(crate) fn rows_of_mut<T>(slice: &mut [T], first: usize, count: usize, width: usize) -> &mut [T] {
    part_mut(slice, first.wrapping_mul(width), count.wrapping_mul(width))
}

/// Row `row`, of `width` elements.
#[inline(always)]
pub(crate) fn row_of<T>(slice: &[T], row: usize, width: usize) -> &[T] {
    rows_of(slice, row, 1, width)
}

/// The mutable form of [`row_of`].
#[inline(always)]
pub(crate) fn row_of_mut<T>(slice: &mut [T], row: usize, width: usize) -> &mut [T] {
    rows_of_mut(slice, row, 1, width)
}

/// The elements from `at` on; empty where that is out of bounds.
#[inline(always)]
pub(crate) fn from<T>(slice: &[T], at: usize) -> &[T] {
    slice.get(at..).unwrap_or(&[])
}

/// Row `row`, of `width` elements, and all that follows.
#[inline(always)]
pub(crate) fn from_row<T>(slice: &[T], row: usize, width: usize) -> &[T] {
    slice.get(row.wrapping_mul(width)..).unwrap_or(&[])
}

/// The mutable form of [`from_row`].
#[inline(always)]
pub(crate) fn from_row_mut<T>(slice: &mut [T], row: usize, width: usize) -> &mut [T] {
    slice.get_mut(row.wrapping_mul(width)..).unwrap_or(&mut [])
}

/// The largest multiple of `of` that is not above `len`.
#[inline(always)]
pub(crate) fn whole(len: usize, of: usize) -> usize {
    len.wrapping_sub(len.checked_rem(of).unwrap_or(0))
}

/// 0, `step`, 2·`step` and so on below `len`. A `step` of 0, for which `step_by` would panic, counts as 1.
#[inline(always)]
pub(crate) fn steps(len: usize, step: usize) -> impl Iterator<Item = usize> {
    let mut next = 0_usize;
    core::iter::from_fn(move || {
        let at = next;
        next = at.saturating_add(step.max(1));
        (at < len).then_some(at)
    })
}

/// `slice.chunks(len)`, opaque to `zip`, which would divide by `len`. A `len` of 0, for which `chunks` would panic, counts
/// as 1.
#[inline(always)]
pub(crate) fn chunks<T>(slice: &[T], len: usize) -> impl Iterator<Item = &[T]> {
    let mut chunks = slice.chunks(len.max(1));
    core::iter::from_fn(move || chunks.next())
}

/// The mutable form of [`chunks`].
#[inline(always)]
pub(crate) fn chunks_mut<T>(slice: &mut [T], len: usize) -> impl Iterator<Item = &mut [T]> {
    let mut chunks = slice.chunks_mut(len.max(1));
    core::iter::from_fn(move || chunks.next())
}

/// Copies as many elements as both have, and so cannot panic.
#[inline(always)]
pub(crate) fn copy(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
