//! Second derivatives of the losses.

use core::ffi::c_void;

use crate::arrays::Arrays;
use crate::options::{Labels, Loss, rwwce_binary_options, rwwce_label_type, rwwce_options, unknown, with_labels};
use crate::status::*;
use kernel::Curvature;

/// Kind of second derivative: the diagonal of the Hessian, or an upper bound of the Hessian.
pub type rwwce_curvature_kind = u32;

/// The diagonal of the Hessian of the loss with respect to the logits of a row. With s_j = fp[y,j]·p_j/(1 − p_j), and
/// W = w[y] or, for target probabilities, Σ_c w[c]·q_c, either of them with label smoothing applied, the diagonal is
/// W·p_i·(1 − p_i) + fp[y,i]·p_i − p_i·(1 − p_i)·Σ_j s_j + p_i²·Σ_{j≠i} s_j/(1 − p_j).
pub const RWWCE_CURVATURE_DIAGONAL: rwwce_curvature_kind = 0;
/// For boosting: 2·p_i·((|W| + fp[y,i])·(1 − p_i) + Σ_{j≠i} fp[y,j]·p_j), never negative. Where neither sample weight
/// nor upstream factor is, the diagonal matrix of these bounds minus the Hessian of a row is positive semidefinite.
pub const RWWCE_CURVATURE_BOUND: rwwce_curvature_kind = 1;

fn kind(number: rwwce_curvature_kind) -> Result<Curvature, rwwce_error> {
    match number {
        RWWCE_CURVATURE_DIAGONAL => Ok(Curvature::Diagonal),
        RWWCE_CURVATURE_BOUND => Ok(Curvature::Bound),
        _ => Err(unknown(RWWCE_ARGUMENT_CURVATURE_KIND, number)),
    }
}

/// Writes the second derivative of the loss of `rwwce_loss` with respect to each logit to `curvature`, shaped as the
/// logits, multiplied and divided as the gradient is. Options with a focal factor or z-loss are refused. The error is
/// at most 2 ulp of the sum of the magnitudes of the terms.
///
/// Every error leaves `curvature` unchanged. `curvature` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_curvature(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    which: rwwce_curvature_kind,
    curvature: *mut f32,
    curvature_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, logit_type, upstream, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let curvature = arrays.output(RWWCE_ARGUMENT_CURVATURE, curvature, curvature_count)?;
            let which = kind(which)?;
            Ok(with_labels!(labels, |labels| loss.curvature(logits, labels, upstream, which, curvature))?)
        })
    }
}

/// As `rwwce_curvature`, for the loss of `rwwce_soft_loss`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_soft_curvature(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    targets: *const f32,
    targets_count: usize,
    which: rwwce_curvature_kind,
    curvature: *mut f32,
    curvature_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, logit_type, upstream, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let curvature = arrays.output(RWWCE_ARGUMENT_CURVATURE, curvature, curvature_count)?;
            Ok(loss.soft_curvature(logits, targets, upstream, kind(which)?, curvature)?)
        })
    }
}

/// Writes the second derivative of the loss of `rwwce_binary_loss` with respect to each logit, times upstream factors
/// and divided as the gradient is, to `curvature`, `[N, L]`: s·(fn·t + fp·(1 − t))·σ(z)·(1 − σ(z)).
///
/// Every error leaves `curvature` unchanged. `curvature` must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_binary_curvature(
    options: *const rwwce_binary_options,
    logits: *const c_void,
    logits_count: usize,
    targets: *const f32,
    targets_count: usize,
    curvature: *mut f32,
    curvature_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, logit_type, upstream, .. } = rwwce_binary_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let targets = arrays.input(RWWCE_ARGUMENT_TARGETS, targets, targets_count)?;
            let curvature = arrays.output(RWWCE_ARGUMENT_CURVATURE, curvature, curvature_count)?;
            Ok(loss.curvature(logits, targets, upstream, curvature)?)
        })
    }
}
