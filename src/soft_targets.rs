//! Losses of target probabilities instead of labels.

use crate::cross_entropy::CrossEntropy;
use crate::error::Error;
use crate::logits::Logits;
use crate::reduction::{Summary, Total, Upstream};
use crate::rows::Targets;

/// Targets q are probabilities, one per class, shaped and padded as the logits: finite, not required to sum to 1. The
/// loss of a row is −Σ_c w\[c\]·q_c·log p_c; a term with q_c = 0 is 0, even if p_c = 0. Its gradient
/// is Σ_c w\[c\]·q_c·p_i − w\[i\]·q_i. The default mean is over the [rows](crate::Denominator::Rows), as in PyTorch.
///
/// Options that need a label (ignored index, mislabel costs, focal factor) are [`Error::Incompatible`].
impl CrossEntropy<'_> {
    /// Reduced loss of logits and target probabilities, both `[N, C, D]`.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], [`Error::NotFinite`] for a target, [`Error::Incompatible`].
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let summary = CrossEntropy::new(2).soft_loss(&[0.0, 0.0], &[0.25, 0.75])?;
    /// assert_eq!(summary.loss, 2f32.ln());
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn soft_loss<'l>(&self, logits: impl Into<Logits<'l>>, targets: &[f32]) -> Result<Summary, Error> {
        self.with_terms().losses(logits.into(), Targets::Soft(targets), None)
    }

    /// Sums rows and weights of these target probabilities, without the loss: the denominators of every reduction.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::soft_loss`].
    pub fn weigh_soft(&self, targets: &[f32]) -> Result<Total, Error> {
        self.with_terms().weigh_targets(targets)
    }

    /// Writes the loss of each row to `row_losses`, `[N, D]`, and returns the reduced loss.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::soft_loss`].
    pub fn soft_row_losses<'l>(
        &self,
        logits: impl Into<Logits<'l>>,
        targets: &[f32],
        row_losses: &mut [f32],
    ) -> Result<Summary, Error> {
        self.with_terms().losses(logits.into(), Targets::Soft(targets), Some(row_losses))
    }

    /// Writes the gradient with respect to the logits to `gradient`, as [`CrossEntropy::gradient`] has it.
    ///
    /// With the negated upstream gradient of the log-probabilities as targets and [`Reduction::Sum`](crate::Reduction)
    /// this is the gradient of [`CrossEntropy::log_probabilities`].
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::soft_loss`], and [`Error::NotFinite`] for an upstream factor.
    pub fn soft_gradient<'l, 'u>(
        &self,
        logits: impl Into<Logits<'l>>,
        targets: &[f32],
        upstream: impl Into<Upstream<'u>>,
        gradient: &mut [f32],
    ) -> Result<Summary, Error> {
        self.with_terms().gradients(Some(logits.into()), Targets::Soft(targets), upstream.into(), gradient)
    }

    /// Writes the gradient over the logits, and returns the loss.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::soft_gradient`].
    pub fn soft_gradient_in_place<'u>(
        &self,
        logits: &mut [f32],
        targets: &[f32],
        upstream: impl Into<Upstream<'u>>,
    ) -> Result<Summary, Error> {
        self.with_terms().gradients(None, Targets::Soft(targets), upstream.into(), logits)
    }
}
