//! Calibration of logits by a temperature, fitted to cases held out from the training.

use rwwce::CrossEntropy;

use super::folds::{FOLDS, Part, deal};
use super::model::Linear;

/// Temperature that minimises the loss of held-out logits (Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern
/// Neural Networks", ICML 2017), from five-fold cross-validation on the training cases.
pub(crate) fn temperature(
    loss: &CrossEntropy<'_>,
    classes: usize,
    part: &Part,
    penalty: f64,
) -> Result<f32, rwwce::Error> {
    let fold_of = deal(&part.labels, 0);
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    for fold in 0..FOLDS {
        let (training, held_out) = part.split(&fold_of, fold);
        logits.extend(Linear::train(loss, classes, &training, penalty)?.logits(&held_out));
        labels.extend(held_out.labels);
    }
    // Ternary search: the loss has one minimum along the logarithm of the temperature.
    let (mut low, mut high) = (-4.0_f32, 4.0_f32);
    let loss_at = |logarithm: f32| Ok(loss.temperature(logarithm.exp()).loss(&logits, &labels)?.sum);
    while high - low > 1e-3 {
        let third = (high - low) / 3.0;
        if loss_at(low + third)? < loss_at(high - third)? { high -= third } else { low += third }
    }
    Ok(((low + high) / 2.0).exp())
}
