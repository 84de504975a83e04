//! Batches, and classes of a row, that are computed apart and merged.

use core::ffi::{c_char, c_void};

use crate::arrays::{Arrays, Place, value};
use crate::options::{
    Labels, Loss, backend, reduction, rwwce_label_type, rwwce_options, rwwce_reduction, rwwce_zero_denominator,
    with_labels, zero_denominator,
};
use crate::status::*;
use kernel::{Backend, CrossEntropy, RowPartial, Total};

/// A running total over batches: what each of them adds to the sum and to every denominator. Start from
/// `RWWCE_TOTAL_INIT`; it is plain data, which can be stored and sent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_total {
    /// The sum of the losses of the rows that count.
    pub sum: f64,
    /// Σ w[y]·s over them.
    pub weight_sum: f64,
    /// Σ s over them.
    pub sample_weight_sum: f64,
    /// Their number.
    pub rows: u64,
    /// Their number times that of classes.
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

/// What rows with these labels, `[N, D]`, weigh, without a loss, into `total`: what every reduction divides by, as
/// `rwwce_total_denominator` tells it.
///
/// Every error leaves `total` as it was.
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

/// What rows with these target probabilities, shaped as logits, weigh: as `rwwce_weigh`.
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

/// The number of rows of a chunk, a multiple of `positions`, which is at least 1. Sums over rows are made of those of chunks,
/// one after the other. So where a batch is cut into calls of a chunk each, the last of which may be shorter, their totals
/// merged in order into `RWWCE_TOTAL_INIT` have the bits of one call: whatever threads have computed them.
#[unsafe(no_mangle)]
pub extern "C" fn rwwce_chunk_rows(classes: usize, positions: usize) -> usize {
    CrossEntropy::new(classes).positions(positions).chunk_rows()
}

/// What a reduction of `total` divides by; `RWWCE_REDUCTION_DEFAULT` is the mean over the weight sum.
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

/// Adds `other` to `total`. Merging is an addition in double precision: another order may differ by its rounding.
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

/// The loss of everything that was merged into `total`; `RWWCE_REDUCTION_DEFAULT` is the mean over the weight sum.
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

/// What is known of a row of logits after some of its classes, enough to merge it with the rest of them: for classes that
/// are split over machines, or over chunks that fit a small memory. Plain data, which can be stored and sent; start from
/// `RWWCE_ROW_PARTIAL_INIT` or from `rwwce_row_partial_of`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_row_partial {
    /// The largest logit so far: −∞ before the first, NaN after a NaN.
    pub largest: f32,
    /// The logit of the label; 0 where no part has held it.
    pub label_logit: f32,
    /// Σ exp(x_k − largest) over all but one of the largest.
    pub excluded_sum: f64,
    /// The number of classes so far.
    pub classes: u64,
    /// The number of parts that have held the logit of the label: to be 1 in the end.
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

// In the header by cbindgen.toml, since the largest number of this type is no constant that cbindgen writes.
pub const RWWCE_NO_LABEL: usize = usize::MAX;

fn label_of(index: usize) -> Option<usize> {
    (index != RWWCE_NO_LABEL).then_some(index)
}

/// A part of a row into `part`: its logits, and the index among them of the label, or `RWWCE_NO_LABEL`. `backend_name` may be
/// NULL for the best one. Logits of another type are made float by `rwwce_widen`.
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

/// Adds another part of the same row to `part`. Parts may come in any order; the sum may differ by the rounding of double
/// precision.
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

/// −`weight`·log p of the label into `loss`, with an error of at most 3 ulp.
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

/// log Σ exp over the classes so far into `result`.
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

/// The gradient `factor`·(p_i − [i = y]) of a part of the row whose whole is `whole`: for the logits of the part, the index
/// among them of the label or `RWWCE_NO_LABEL`, and weight, upstream factor and denominator in one.
///
/// Every error leaves `gradient` as it was; it must not overlap any other array.
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
