//! Monitoring of a model in use.

use core::ffi::c_void;

use crate::arrays::Arrays;
use crate::options::{Labels, Loss, rwwce_label_type, rwwce_options, with_labels};
use crate::status::*;
use kernel::{ClassSums, decision_cost};

/// Adds number, weights w[y]·s and losses of rows to the sums of their classes, `[C]` each. `row_losses`, `[N, D]`,
/// are those of `rwwce_loss`. To be called batch by batch; set the sums to 0 before the first.
///
/// Every error leaves the sums unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_add_class_sums(
    options: *const rwwce_options,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    row_losses: *const f32,
    row_losses_count: usize,
    counts: *mut u64,
    counts_count: usize,
    weight_sums: *mut f64,
    weight_sums_count: usize,
    loss_sums: *mut f64,
    loss_sums_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let Loss { loss, .. } = rwwce_options::read(options, arrays)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let row_losses = arrays.input(RWWCE_ARGUMENT_ROW_LOSSES, row_losses, row_losses_count)?;
            let sums = ClassSums {
                counts: arrays.output(RWWCE_ARGUMENT_COUNTS, counts, counts_count)?,
                weights: arrays.output(RWWCE_ARGUMENT_WEIGHT_SUMS, weight_sums, weight_sums_count)?,
                losses: arrays.output(RWWCE_ARGUMENT_LOSS_SUMS, loss_sums, loss_sums_count)?,
            };
            Ok(with_labels!(labels, |labels| loss.add_class_sums(labels, row_losses, sums))?)
        })
    }
}

/// Adds the argmax decision of each row to a confusion matrix `[C, C]`, row = truth, column = class of the largest
/// logit, the lowest index in a tie. Rows that do not count are left out, as are rows with a NaN; `undecided`, which
/// may be NULL, receives the number of rows with a NaN.
///
/// Every error leaves the matrix and `undecided` unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_add_confusion(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    confusion: *mut u64,
    confusion_count: usize,
    undecided: *mut usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let undecided = arrays.optional_place(undecided)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let confusion = arrays.output(RWWCE_ARGUMENT_CONFUSION, confusion, confusion_count)?;
            undecided.write(with_labels!(labels, |labels| loss.add_confusion(logits, labels, confusion))?)
        })
    }
}

/// Total cost of the decisions in a confusion matrix `[C, C]`, Σ_{y≠j} n[y,j]·(fn[y] + fp[y,j]), written to `cost`,
/// from miss costs fn `[C]`, whose length is the number of classes, and mislabel costs fp `[C, C]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_decision_cost(
    confusion: *const u64,
    confusion_count: usize,
    miss_costs: *const f32,
    miss_costs_count: usize,
    mislabel_costs: *const f32,
    mislabel_costs_count: usize,
    cost: *mut f64,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let cost = arrays.place(cost)?;
            let confusion = arrays.input(RWWCE_ARGUMENT_CONFUSION, confusion, confusion_count)?;
            let miss_costs = arrays.input(RWWCE_ARGUMENT_MISS_COSTS, miss_costs, miss_costs_count)?;
            let mislabel_costs = arrays.input(RWWCE_ARGUMENT_MISLABEL_COSTS, mislabel_costs, mislabel_costs_count)?;
            cost.write(decision_cost(confusion, miss_costs, mislabel_costs)?)
        })
    }
}
