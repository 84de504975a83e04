//! The binary and multi-label loss.

use core::ffi::c_void;

use crate::arrays::Arrays;
use crate::losses::rwwce_summary;
use crate::options::{Loss, rwwce_binary_options};
use crate::partials::rwwce_total;
use crate::status::*;

/// Binary loss of logits z and targets t in [0, 1], both `[N, L]`: −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)).
///
/// `row_losses`, `[N, L]`, receives the loss of each logit; NULL with a count of 0 for none. `summary` may be NULL.
/// The error is at most 6 ulp of the sum of the magnitudes of the terms.
///
/// Every error leaves `row_losses` and `summary` unchanged. `row_losses` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_binary_loss(
    options: *const rwwce_binary_options,
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
            let Loss { loss, logit_type, .. } = rwwce_binary_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let row_losses = arrays.optional_output(RWWCE_ARGUMENT_ROW_LOSSES, row_losses, row_losses_count)?;
            let result = match row_losses {
                None => loss.loss(logits, targets),
                Some(out) => loss.row_losses(logits, targets, out),
            };
            summary.write(result?.into())
        })
    }
}

/// Sums rows and weights of these targets, `[N, L]`, without the loss, into `total`: the denominators of every
/// reduction, for `rwwce_total_denominator`.
///
/// Every error leaves `total` unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_binary_weigh(
    options: *const rwwce_binary_options,
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
            let Loss { loss, .. } = rwwce_binary_options::read(options, arrays)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            total.write(loss.weigh(targets)?.into())
        })
    }
}

/// Loss as in `rwwce_binary_loss`, and its gradient (1 − t)·fp·σ(z) − t·fn·(1 − σ(z)) times the upstream factors of
/// the options, written to `gradient`, `[N, L]`.
///
/// Every error leaves `gradient` and `summary` unchanged. `gradient` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_binary_gradient(
    options: *const rwwce_binary_options,
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
            let Loss { loss, logit_type, upstream, .. } = rwwce_binary_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let gradient = arrays.output(RWWCE_ARGUMENT_GRADIENT, gradient, gradient_count)?;
            summary.write(loss.gradient(logits, targets, upstream, gradient)?.into())
        })
    }
}

/// As `rwwce_binary_gradient`, with the gradient written over the logits, which are float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_binary_gradient_in_place(
    options: *const rwwce_binary_options,
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
            let Loss { loss, logit_type, upstream, .. } = rwwce_binary_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_NONE)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let logits = arrays.output(RWWCE_ARGUMENT_LOGITS, logits, logits_count)?;
            summary.write(loss.gradient_in_place(logits, targets, upstream)?.into())
        })
    }
}
