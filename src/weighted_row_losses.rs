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
/// assert!((rows[0] - 8.279_875e-8).abs() < 1e-14);
/// assert_eq!(rows[1], 64.826_225);
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

// Where there are vectors, `weighted_row_losses` does not come here.
#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn each_row_has_its_loss_in_one_lane() {
        let classes = 5;
        let logits: Vec<f32> = (0..4 * classes).map(|i| (i * 7 % 11) as f32 - 4.0).collect();
        let (labels, weights) = ([0_u8, 4, 2, 3], [1.0, 0.5, 2.0, 0.0, 3.0]);
        for weights in [None, Some(&weights[..])] {
            let loss = CrossEntropy::new(classes);
            let loss = weights.map_or(loss, |weights| loss.class_weights(weights));
            for backend in Backend::available() {
                let (mut losses, mut expected) = ([9.0; 4], [9.0; 4]);
                let row_losses = &mut losses;
                backend.drive(EachRow {
                    classes,
                    logits: &logits,
                    labels: &labels,
                    class_weights: weights,
                    row_losses,
                });
                let _ = loss.backend(backend).row_losses(&logits, &labels, &mut expected).unwrap();
                for (found, expected) in losses.into_iter().zip(expected) {
                    assert!((found - expected).abs() <= 3e-7 * expected, "{backend}: {found} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let check = |classes, labels: &[u8], weights, losses| {
            check(classes, &[0.0; 4], labels, weights, &vec![0.0; losses][..]).map_err(|error| error.code())
        };
        let wide = Error::Length { argument: Argument::Logits, expected: 6, found: 4 };
        assert_eq!(check(2, &[0, 1], Some(&[1.0, 2.0][..]), 2), Ok(()));
        assert_eq!(check(0, &[0, 1], None, 2), Err(Error::NoClasses.code()));
        assert_eq!(check(3, &[0, 1], None, 2), Err(wide.code()));
        assert_eq!(check(2, &[0, 1], Some(&[1.0][..]), 2), Err(wide.code()));
        let infinite = Error::NotFinite { argument: Argument::ClassWeights, index: 1 };
        assert_eq!(check(2, &[0, 1], Some(&[1.0, f32::INFINITY][..]), 2), Err(infinite.code()));
        let beyond = Error::LabelOutOfRange { row: 1, label: 2, classes: 2 };
        assert_eq!(check(2, &[0, 2], None, 2), Err(beyond.code()));
        assert_eq!(check(2, &[0, 1], None, 3), Err(wide.code()));
    }
}
