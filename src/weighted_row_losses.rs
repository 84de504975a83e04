//! The weighted loss of each row and nothing else, for small memories.

use crate::CrossEntropy;
use crate::backend::Backend;
use crate::backend::vector::{Driver, Vector};
use crate::error::{Argument, Error, check_finite, check_length};
use crate::kernel::one_lane;
use crate::label::Label;
use crate::rows::class_of;

/// Writes the weighted cross-entropy of each row, −w\[y\]·log p_y, without reduction and further options.
///
/// Losses of logits `[N, C]` go to `row_losses`, `[N]`, with the best backend, in the bits and with the accuracy of
/// [`CrossEntropy::row_losses`](crate::CrossEntropy::row_losses), for programs without room for other options,
/// reductions and their arithmetic in f64.
///
/// Class weights w, `[C]`, are finite; all ones when absent.
///
/// # Errors
///
/// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::NotFinite`] for class weights,
/// [`Error::LabelOutOfRange`]; `row_losses` are then unchanged.
///
/// ```
/// let mut rows = [0.0; 2];
/// rwwce::weighted_row_losses(3, &[17.0, 0.0, 0.0, 0.5, 2.0, -1.0], &[0u8, 2], Some(&[1.0, 1.0, 20.0]), &mut rows)?;
/// assert_eq!(rows, [8.279_875e-8, 64.826_225]);
/// # Ok::<(), rwwce::Error>(())
/// ```
pub fn weighted_row_losses<L: Label>(
    classes: usize,
    logits: &[f32],
    labels: &[L],
    class_weights: Option<&[f32]>,
    row_losses: &mut [f32],
) -> Result<(), Error> {
    if !Backend::ONLY_SCALAR {
        let loss = CrossEntropy::new(classes);
        let loss = if let Some(weights) = class_weights { loss.class_weights(weights) } else { loss };
        return loss.row_losses(logits, labels, row_losses).map(|_| ());
    }
    check(classes, logits, labels, class_weights, row_losses)?;
    Backend::active().drive(EachRow { classes, logits, labels, class_weights, row_losses });
    Ok(())
}

/// Losses of validated rows, one after the other, in one lane.
struct EachRow<'a, L> {
    classes: usize,
    logits: &'a [f32],
    labels: &'a [L],
    class_weights: Option<&'a [f32]>,
    row_losses: &'a mut [f32],
}

impl<L: Label> Driver for EachRow<'_, L> {
    type Output = ();

    // Outlined: its stack frame and that of `check` are never live at once.
    #[inline(never)]
    fn drive<S: Vector>(self, s: S) {
        let mut logits = self.logits;
        // `check` has found `row_losses` and `labels` equally long.
        for (to, label) in self.row_losses.iter_mut().zip(self.labels) {
            let (row, rest) = logits.split_at_checked(self.classes).unwrap_or_default();
            logits = rest;
            let label = label.value() as usize;
            let weight = self.class_weights.map_or(1.0, |weights| weights.get(label).copied().unwrap_or(0.0));
            *to = one_lane::loss(s.lane(), row, label, weight);
        }
    }
}

// Outlined: its stack frame is free again when the losses are computed.
#[inline(never)]
fn check<L: Label>(
    classes: usize,
    logits: &[f32],
    labels: &[L],
    class_weights: Option<&[f32]>,
    row_losses: &[f32],
) -> Result<(), Error> {
    if classes == 0 {
        return Err(Error::NoClasses);
    }
    let too_long = Error::SizeOverflow { rows: labels.len(), row_stride: classes };
    check_length(Argument::Logits, labels.len().checked_mul(classes).ok_or(too_long)?, logits.len())?;
    if let Some(weights) = class_weights {
        check_length(Argument::ClassWeights, classes, weights.len())?;
        check_finite(Argument::ClassWeights, weights)?;
    }
    for (row, label) in labels.iter().enumerate() {
        let label = label.value();
        if class_of(label, classes).is_none() {
            return Err(Error::LabelOutOfRange { row, label, classes });
        }
    }
    check_length(Argument::RowLosses, labels.len(), row_losses.len())
}
