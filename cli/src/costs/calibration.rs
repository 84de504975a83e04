//! How far to trust a classifier: a temperature from cases that it was not trained with.

use rwwce::CrossEntropy;

use super::folds::{FOLDS, Part, deal};
use super::model::Linear;

/// The temperature by which the logits of held-out cases have the least loss (Guo, Pleiss, Sun & Weinberger, "On Calibration of
/// Modern Neural Networks", ICML 2017), each case held out from a training with four fifths of the others.
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
    // The loss has one minimum along the logarithm of the temperature, from which thirds that cannot have it are cut off.
    let (mut low, mut high) = (-4.0_f32, 4.0_f32);
    let loss_at = |logarithm: f32| Ok(loss.temperature(logarithm.exp()).loss(&logits, &labels)?.sum);
    while high - low > 1e-3 {
        let third = (high - low) / 3.0;
        if loss_at(low + third)? < loss_at(high - third)? { high -= third } else { low += third }
    }
    Ok(((low + high) / 2.0).exp())
}
