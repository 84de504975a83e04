//! Losses of logits, probabilities and log-probabilities, and log-softmax.

use core::ffi::{c_char, c_void};

use crate::arrays::Arrays;
use crate::options::{Labels, Loss, backend, rwwce_label_type, rwwce_options, with_labels};
use crate::partials::rwwce_total;
use crate::status::*;
use kernel::{Backend, Summary};

/// Reduced loss of a batch, with its sum, denominator and row counts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_summary {
    /// `sum / denominator`, rounded.
    pub loss: f32,
    /// The sum of the losses of the rows that count, added in double precision in an order that depends on the shape
    /// alone.
    pub sum: f64,
    /// The denominator; 1 for `RWWCE_REDUCTION_SUM`.
    pub denominator: f64,
    /// The number of rows that count.
    pub rows: usize,
    /// The number of rows whose loss is NaN or infinite.
    pub non_finite: usize,
    /// Loss sum, row counts and weight sums, to merge with those of other batches by `rwwce_total_merge`.
    pub total: rwwce_total,
}

impl From<Summary> for rwwce_summary {
    fn from(summary: Summary) -> Self {
        let Summary { loss, sum, denominator, rows, non_finite, total, .. } = summary;
        Self { loss, sum, denominator, rows, non_finite, total: total.into() }
    }
}

/// Loss of logits `[N, C, D]` and labels `[N, D]`: −w[y]·log p_y, or the loss that `rwwce_options` describe.
///
/// `row_losses`, `[N, D]`, receives the loss of each row, 0 for one that does not count; NULL with a count of 0 for
/// none. `summary` may be NULL. The weighted loss of a row has an error of at most 3 ulp (of up to 7.5 in rare rows of more than
/// 8 classes) down to the smallest normal float, other losses 6 ulp of the sum of the magnitudes of their terms, 2·(γ + 1)
/// with a focal exponent γ above 2.
///
/// Every error leaves `row_losses` and `summary` unchanged. `row_losses` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_loss(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    row_losses: *mut f32,
    row_losses_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let row_losses = arrays.optional_output(RWWCE_ARGUMENT_ROW_LOSSES, row_losses, row_losses_count)?;
            let result = match row_losses {
                None => with_labels!(labels, |labels| loss.loss(logits, labels)),
                Some(out) => with_labels!(labels, |labels| loss.row_losses(logits, labels, out)),
            };
            summary.write(result?.into())
        })
    }
}

/// Writes the weighted loss −w[y]·log p_y of each row of logits `[N, C]` to `row_losses`, `[N]`, with the best
/// backend, in the bits of `rwwce_loss`: for programs without room for other options, whose code is then not linked.
///
/// `class_weights`, `[C]`, are finite; NULL with a count of 0 for ones. Logits of another type are converted to float
/// by `rwwce_widen`, as many rows at a time as there is room for.
///
/// Every error leaves `row_losses` unchanged. `row_losses` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_weighted_row_losses(
    classes: usize,
    class_weights: *const f32,
    class_weights_count: usize,
    logits: *const f32,
    logits_count: usize,
    labels: *const i32,
    labels_count: usize,
    row_losses: *mut f32,
    row_losses_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    struct Read<'a> {
        weights: Option<&'a [f32]>,
        logits: &'a [f32],
        labels: &'a [i32],
        row_losses: &'a mut [f32],
    }
    // Outlined: the stack frame of the checks is free again when the losses are computed.
    #[inline(never)]
    unsafe fn read<'a>(
        weights: (*const f32, usize),
        logits: (*const f32, usize),
        labels: (*const i32, usize),
        row_losses: (*mut f32, usize),
    ) -> Result<Read<'a>, rwwce_error> {
        let arrays = &mut Arrays::new();
        // SAFETY: as the caller has promised.
        unsafe {
            Ok(Read {
                weights: arrays.optional_input(RWWCE_ARGUMENT_CLASS_WEIGHTS, weights.0, weights.1)?,
                logits: arrays.input(RWWCE_ARGUMENT_LOGITS, logits.0, logits.1)?,
                labels: arrays.input(RWWCE_ARGUMENT_LABELS, labels.0, labels.1)?,
                row_losses: arrays.output(RWWCE_ARGUMENT_ROW_LOSSES, row_losses.0, row_losses.1)?,
            })
        }
    }
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let Read { weights, logits, labels, row_losses } = read(
                (class_weights, class_weights_count),
                (logits, logits_count),
                (labels, labels_count),
                (row_losses, row_losses_count),
            )?;
            Ok(kernel::weighted_row_losses(classes, logits, labels, weights, row_losses)?)
        })
    }
}

/// Loss as in `rwwce_loss`, and its gradient with respect to the logits, written to `gradient`, shaped as the logits.
///
/// The gradient is that of the reduced loss times `options->upstream`, or, with `options->row_upstream`, that of the
/// loss of each row times the factor of the row. Rows that do not count, or whose weight or factor is 0, get exact
/// zeros; padding between samples is left unchanged. An element that is a normal float has an error of at most 5 ulp.
///
/// Every error leaves `gradient` and `summary` unchanged. `gradient` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_loss_gradient(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    gradient: *mut f32,
    gradient_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, upstream } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let gradient = arrays.output(RWWCE_ARGUMENT_GRADIENT, gradient, gradient_count)?;
            let result = with_labels!(labels, |labels| loss.gradient(logits, labels, upstream, gradient));
            summary.write(result?.into())
        })
    }
}

/// As `rwwce_loss_gradient`, with the gradient written over the logits, which are float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_loss_gradient_in_place(
    options: *const rwwce_options,
    logits: *mut f32,
    logits_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, upstream } = rwwce_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_NONE)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let logits = arrays.output(RWWCE_ARGUMENT_LOGITS, logits, logits_count)?;
            let result = with_labels!(labels, |labels| loss.gradient_in_place(logits, labels, upstream));
            summary.write(result?.into())
        })
    }
}

/// Loss of logits and target probabilities q, both `[N, C, D]`: −Σ_c w[c]·q_c·log p_c, a term with q_c = 0 being 0.
/// Targets are finite and need not sum to 1. Otherwise as `rwwce_loss`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_soft_loss(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    targets: *const f32,
    targets_count: usize,
    row_losses: *mut f32,
    row_losses_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let row_losses = arrays.optional_output(RWWCE_ARGUMENT_ROW_LOSSES, row_losses, row_losses_count)?;
            let result = match row_losses {
                None => loss.soft_loss(logits, targets),
                Some(out) => loss.soft_row_losses(logits, targets, out),
            };
            summary.write(result?.into())
        })
    }
}

/// Loss as in `rwwce_soft_loss`, and its gradient as in `rwwce_loss_gradient`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_soft_gradient(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    targets: *const f32,
    targets_count: usize,
    gradient: *mut f32,
    gradient_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, upstream } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let gradient = arrays.output(RWWCE_ARGUMENT_GRADIENT, gradient, gradient_count)?;
            summary.write(loss.soft_gradient(logits, targets, upstream, gradient)?.into())
        })
    }
}

/// As `rwwce_soft_gradient`, with the gradient written over the logits, which are float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_soft_gradient_in_place(
    options: *const rwwce_options,
    logits: *mut f32,
    logits_count: usize,
    targets: *const f32,
    targets_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, upstream } = rwwce_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_NONE)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let logits = arrays.output(RWWCE_ARGUMENT_LOGITS, logits, logits_count)?;
            summary.write(loss.soft_gradient_in_place(logits, targets, upstream)?.into())
        })
    }
}

/// Loss of given *probabilities* `[N, C, D]`: −w[y]·log(p_y + eps), `eps` at least 0, and with mislabel costs
/// − Σ_{j≠y} fp[y,j]·log(1 − p_j + eps). Give logits wherever they can be had. Otherwise as `rwwce_loss`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_loss_from_probabilities(
    options: *const rwwce_options,
    probabilities: *const f32,
    probabilities_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    eps: f32,
    row_losses: *mut f32,
    row_losses_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_PROBABILITIES)?;
            let p = arrays.input(RWWCE_ARGUMENT_PROBABILITIES, probabilities, probabilities_count)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let row_losses = arrays.optional_output(RWWCE_ARGUMENT_ROW_LOSSES, row_losses, row_losses_count)?;
            let result = match row_losses {
                None => with_labels!(labels, |labels| loss.loss_from_probabilities(p, labels, eps)),
                Some(out) => with_labels!(labels, |labels| loss.row_losses_from_probabilities(p, labels, eps, out)),
            };
            summary.write(result?.into())
        })
    }
}

/// Negative log-likelihood −w[y]·log p_y of given *log-probabilities* `[N, C, D]`, such as those of
/// `rwwce_log_probabilities`: PyTorch's `nll_loss`. Otherwise as `rwwce_loss`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_loss_from_log_probabilities(
    options: *const rwwce_options,
    log_probabilities: *const f32,
    log_probabilities_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    row_losses: *mut f32,
    row_losses_count: usize,
    summary: *mut rwwce_summary,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let summary = arrays.optional_place(summary)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_LOG_PROBABILITIES)?;
            let log_p = arrays.input(RWWCE_ARGUMENT_LOG_PROBABILITIES, log_probabilities, log_probabilities_count)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let row_losses = arrays.optional_output(RWWCE_ARGUMENT_ROW_LOSSES, row_losses, row_losses_count)?;
            let result = match row_losses {
                None => with_labels!(labels, |labels| loss.loss_from_log_probabilities(log_p, labels)),
                Some(out) => with_labels!(labels, |labels| loss.row_losses_from_log_probabilities(log_p, labels, out)),
            };
            summary.write(result?.into())
        })
    }
}

/// Writes the gradient of `rwwce_loss_from_log_probabilities` with respect to the log-probabilities to `gradient`,
/// `[N, C, D]`: −w[y]·s at the label times the upstream factors of the options, 0 elsewhere.
///
/// Every error leaves `gradient` unchanged; `gradient` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_gradient_from_log_probabilities(
    options: *const rwwce_options,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    gradient: *mut f32,
    gradient_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, logit_type, upstream, .. } = rwwce_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_LOG_PROBABILITIES)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let gradient = arrays.output(RWWCE_ARGUMENT_GRADIENT, gradient, gradient_count)?;
            Ok(with_labels!(labels, |labels| loss.gradient_from_log_probabilities(labels, upstream, gradient))?)
        })
    }
}

/// Writes log-softmax, log p of every class, to `log_probabilities`, shaped and padded as the logits `[N, C, D]`. Of
/// the options only the shape, the type of the logits, the temperature, the class bias and the backend matter;
/// weights, costs and terms of the loss are checked all the same. The error of a number is at most 3 ulp but for rare
/// rows, as that of a loss, also where p is near 1.
///
/// Every error leaves `log_probabilities` unchanged; `log_probabilities` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_log_probabilities(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    log_probabilities: *mut f32,
    log_probabilities_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let out = arrays.output(RWWCE_ARGUMENT_LOG_PROBABILITIES, log_probabilities, log_probabilities_count)?;
            Ok(loss.log_probabilities(logits, out)?)
        })
    }
}

/// Writes log-sum-exp of every row to `log_sum_exps`, `[N, D]`; options and errors as for `rwwce_log_probabilities`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_log_sum_exps(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    log_sum_exps: *mut f32,
    log_sum_exps_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let out = arrays.output(RWWCE_ARGUMENT_LOG_SUM_EXPS, log_sum_exps, log_sum_exps_count)?;
            Ok(loss.log_sum_exps(logits, out)?)
        })
    }
}

/// Log-sum-exp, log Σ exp(x), of one row of logits, written to `result`. An empty row, or one with all logits −∞,
/// gives −∞; any NaN gives NaN; otherwise any +∞ gives +∞. `backend_name` may be NULL for the best backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_log_sum_exp(
    logits: *const f32,
    logits_count: usize,
    backend_name: *const c_char,
    result: *mut f32,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let result = arrays.place(result)?;
            let logits = arrays.input(RWWCE_ARGUMENT_LOGITS, logits, logits_count)?;
            let backend = backend(backend_name)?.unwrap_or_else(Backend::active);
            result.write(backend.log_sum_exp(logits))
        })
    }
}
