//! Partial results of batches, and of some classes of a row, computed apart and merged.

use core::ffi::{c_char, c_void};

use crate::arrays::{Arrays, Place, value};
use crate::options::{
    Labels, Loss, backend, reduction, rwwce_label_type, rwwce_options, rwwce_reduction, rwwce_zero_denominator,
    with_labels, zero_denominator,
};
use crate::status::*;
use kernel::{Backend, CrossEntropy, RowPartial, Total};

/// Running totals over batches: loss sum, row counts and weight sums, enough for every reduction. Start from
/// `RWWCE_TOTAL_INIT`. Plain data, to be stored and sent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_total {
    /// The sum of the losses of the rows that count.
    pub sum: f64,
    /// Σ w[y]·s over the rows that count.
    pub weight_sum: f64,
    /// Σ s over the rows that count.
    pub sample_weight_sum: f64,
    /// The number of rows that count.
    pub rows: u64,
    /// The number of rows that count times C.
    pub rows_times_classes: u64,
    /// The number of rows whose loss is NaN or infinite.
    pub non_finite: u64,
}

impl From<Total> for rwwce_total {
    fn from(total: Total) -> Self {
        let Total { sum, weight_sum, sample_weight_sum, rows, rows_times_classes, non_finite } = total;
        Self { sum, weight_sum, sample_weight_sum, rows, rows_times_classes, non_finite }
    }
}

impl From<rwwce_total> for Total {
    fn from(total: rwwce_total) -> Self {
        let rwwce_total { sum, weight_sum, sample_weight_sum, rows, rows_times_classes, non_finite } = total;
        Self { sum, weight_sum, sample_weight_sum, rows, rows_times_classes, non_finite }
    }
}

/// Sums rows and weights of these labels, `[N, D]`, without the loss, into `total`: the denominators of every
/// reduction, for `rwwce_total_denominator`.
///
/// Every error leaves `total` unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_weigh(
    options: *const rwwce_options,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    total: *mut rwwce_total,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let total = arrays.place(total)?;
            let Loss { loss, .. } = rwwce_options::read(options, arrays)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            total.write(with_labels!(labels, |labels| loss.weigh(labels))?.into())
        })
    }
}

/// As `rwwce_weigh`, for target probabilities, shaped as the logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_weigh_soft(
    options: *const rwwce_options,
    targets: *const f32,
    targets_count: usize,
    total: *mut rwwce_total,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let total = arrays.place(total)?;
            let Loss { loss, .. } = rwwce_options::read(options, arrays)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            total.write(loss.weigh_soft(targets)?.into())
        })
    }
}

/// Number of rows of a chunk, the unit of summation over rows: a multiple of `positions`, which is at least 1. Each
/// chunk is summed apart, and the chunk sums are added in order. So where a batch is cut into calls of a chunk each,
/// the last of which may be shorter, their totals merged in order into `RWWCE_TOTAL_INIT` have the bits of one call.
#[unsafe(no_mangle)]
pub extern "C" fn rwwce_chunk_rows(classes: usize, positions: usize) -> usize {
    CrossEntropy::new(classes).positions(positions).chunk_rows()
}

/// Denominator of a reduction of `total`; `RWWCE_REDUCTION_DEFAULT` is the mean over the weight sum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_total_denominator(
    total: *const rwwce_total,
    how: rwwce_reduction,
    denominator: *mut f64,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let denominator = Place::alone(RWWCE_ARGUMENT_RESULT, denominator)?;
            let total = Total::from(value(RWWCE_ARGUMENT_PARTIAL, total)?);
            denominator.write(total.denominator(reduction(how)?.unwrap_or_default()))
        })
    }
}

/// Adds `other` to `total`, in double precision: another order may round differently.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_total_merge(
    total: *mut rwwce_total,
    other: *const rwwce_total,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let place = Place::alone(RWWCE_ARGUMENT_PARTIAL, total)?;
            let mut merged = Total::from(value(RWWCE_ARGUMENT_PARTIAL, total)?);
            merged.merge(&value(RWWCE_ARGUMENT_PARTIAL, other)?.into());
            place.write(merged.into())
        })
    }
}

/// Reduced loss of all batches merged into `total`; `RWWCE_REDUCTION_DEFAULT` is the mean over the weight sum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_total_reduce(
    total: *const rwwce_total,
    how: rwwce_reduction,
    if_zero: rwwce_zero_denominator,
    loss: *mut f32,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let loss = Place::alone(RWWCE_ARGUMENT_RESULT, loss)?;
            let total = Total::from(value(RWWCE_ARGUMENT_PARTIAL, total)?);
            loss.write(total.reduce(reduction(how)?.unwrap_or_default(), zero_denominator(if_zero)?)?)
        })
    }
}

/// Partial result of one row over some of its classes, to merge with the other classes: for classes split over
/// machines, or over chunks that fit a small memory. Plain data, to be stored and sent; start from
/// `RWWCE_ROW_PARTIAL_INIT` or `rwwce_row_partial_of`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_row_partial {
    /// The largest logit so far: −∞ before the first, NaN after a NaN.
    pub largest: f32,
    /// The logit of the label; 0 if no part so far has held the label.
    pub label_logit: f32,
    /// Σ exp(x_k − largest) over all classes but one with the largest logit.
    pub excluded_sum: f64,
    /// The number of classes so far.
    pub classes: u64,
    /// The number of parts that have held the label: 1 for a whole row.
    pub labels: u64,
}

impl From<RowPartial> for rwwce_row_partial {
    fn from(part: RowPartial) -> Self {
        let RowPartial { largest, label_logit, excluded_sum, classes, labels } = part;
        Self { largest, label_logit, excluded_sum, classes, labels }
    }
}

impl From<rwwce_row_partial> for RowPartial {
    fn from(part: rwwce_row_partial) -> Self {
        let rwwce_row_partial { largest, label_logit, excluded_sum, classes, labels } = part;
        Self { largest, label_logit, excluded_sum, classes, labels }
    }
}

// The header has it from cbindgen.toml: cbindgen does not write `usize::MAX` as a constant.
pub const RWWCE_NO_LABEL: usize = usize::MAX;

fn label_of(index: usize) -> Option<usize> {
    (index != RWWCE_NO_LABEL).then_some(index)
}

/// Reduces a part of a row into `part`: its logits, and the index of the label among them, or `RWWCE_NO_LABEL`.
/// `backend_name` may be NULL for the best backend. Logits of another type are converted to float by `rwwce_widen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_row_partial_of(
    logits: *const f32,
    logits_count: usize,
    label: usize,
    backend_name: *const c_char,
    part: *mut rwwce_row_partial,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let part = Place::alone(RWWCE_ARGUMENT_PARTIAL, part)?;
            let logits = Arrays::new().input(RWWCE_ARGUMENT_LOGITS, logits, logits_count)?;
            let backend = backend(backend_name)?.unwrap_or_else(Backend::active);
            part.write(RowPartial::with_backend(logits, label_of(label), backend)?.into())
        })
    }
}

/// Merges another part of the same row into `part`. Parts may come in any order; another order may round differently.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_row_partial_merge(
    part: *mut rwwce_row_partial,
    other: *const rwwce_row_partial,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let place = Place::alone(RWWCE_ARGUMENT_PARTIAL, part)?;
            let mut merged = RowPartial::from(value(RWWCE_ARGUMENT_PARTIAL, part)?);
            merged.merge(&value(RWWCE_ARGUMENT_PARTIAL, other)?.into());
            place.write(merged.into())
        })
    }
}

/// Writes the loss of the whole row, −`weight`·log p of the label, to `loss`, with the error of a loss.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_row_partial_loss(
    part: *const rwwce_row_partial,
    weight: f32,
    loss: *mut f32,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let loss = Place::alone(RWWCE_ARGUMENT_RESULT, loss)?;
            loss.write(RowPartial::from(value(RWWCE_ARGUMENT_PARTIAL, part)?).loss(weight)?)
        })
    }
}

/// Writes log-sum-exp over the classes so far to `result`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_row_partial_log_sum_exp(
    part: *const rwwce_row_partial,
    result: *mut f32,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let result = Place::alone(RWWCE_ARGUMENT_RESULT, result)?;
            result.write(RowPartial::from(value(RWWCE_ARGUMENT_PARTIAL, part)?).log_sum_exp())
        })
    }
}

/// Writes the gradient `factor`·(p_i − [i = y]) of a part of the row to `gradient`: `whole` is the merged row,
/// `logits` those of the part, `label` as in `rwwce_row_partial_of`, and `factor` = weight · upstream / denominator.
///
/// Every error leaves `gradient` unchanged; `gradient` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_row_partial_gradient(
    whole: *const rwwce_row_partial,
    logits: *const f32,
    logits_count: usize,
    label: usize,
    factor: f32,
    gradient: *mut f32,
    gradient_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let whole = RowPartial::from(value(RWWCE_ARGUMENT_PARTIAL, whole)?);
            let logits = arrays.input(RWWCE_ARGUMENT_LOGITS, logits, logits_count)?;
            let gradient = arrays.output(RWWCE_ARGUMENT_GRADIENT, gradient, gradient_count)?;
            Ok(whole.gradient(logits, label_of(label), factor, gradient)?)
        })
    }
}
