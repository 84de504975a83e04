//! Losses of given probabilities instead of logits.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_row_losses};
use crate::kernel::from_probabilities::ProbabilityRows;
use crate::label::Label;
use crate::reduction::Summary;
use crate::rows::Targets;

impl CrossEntropy<'_> {
    /// Reduced loss of *probabilities* `[N, C, D]` instead of logits: −w\[y\]·log(p_y + `eps`), `eps` ≥ 0, and with
    /// mislabel costs − Σ_{j≠y} fp\[y,j\]·log(1 − p_j + `eps`).
    ///
    /// Give logits wherever they can be had: a softmax in f32 has already rounded confident probabilities to 1 and the
    /// smallest to 0. PyTorch's `cross_entropy` expects logits, too; probabilities silently get a second softmax there.
    ///
    /// `eps` avoids log 0, at a price. With the usual 1e-10 no row can cost more than 23.03 (−log 1e-10), and since the
    /// derivative −1/(p_y + eps) no longer grows as p_y falls below eps while that of the softmax still vanishes, the
    /// gradient of the worst mistakes vanishes. With `eps` = 0 a probability of 0 has loss +∞.
    ///
    /// PyTorch's weighted mean divides by the sum of weights, not by N: see [`Denominator`](crate::Denominator).
    ///
    /// Rows need not sum to 1, and the formula is evaluated as it stands: a NaN or a negative argument of the logarithm
    /// gives NaN, p_y > 1 a negative loss.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], [`Error::OutOfRange`] for an `eps` that is negative or not finite, and
    /// [`Error::Incompatible`] for options that need logits.
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let p = [0.0, 1.0];
    /// let loss = CrossEntropy::new(2);
    /// assert_eq!(loss.loss_from_probabilities(&p, &[0u8], 0.0)?.loss, f32::INFINITY);
    /// assert_eq!(loss.loss_from_probabilities(&p, &[0u8], 1e-10)?.loss, 23.025_85);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn loss_from_probabilities<L: Label>(
        &self,
        probabilities: &[f32],
        labels: &[L],
        eps: f32,
    ) -> Result<Summary, Error> {
        self.probability_losses(probabilities, Targets::Labels(L::labels(labels)), eps, None)
    }

    /// Writes the loss of each row of probabilities to `row_losses`, `[N, D]`, 0 where a row does not count. The loss
    /// is that of [`CrossEntropy::loss_from_probabilities`].
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss_from_probabilities`].
    pub fn row_losses_from_probabilities<L: Label>(
        &self,
        probabilities: &[f32],
        labels: &[L],
        eps: f32,
        row_losses: &mut [f32],
    ) -> Result<Summary, Error> {
        self.probability_losses(probabilities, Targets::Labels(L::labels(labels)), eps, Some(row_losses))
    }

    fn probability_losses(
        &self,
        probabilities: &[f32],
        targets: Targets<'_>,
        eps: f32,
        row_losses: Option<&mut [f32]>,
    ) -> Result<Summary, Error> {
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(Error::OutOfRange { argument: Argument::Eps });
        }
        let (rows, total) = self.check(Argument::Probabilities, probabilities.len(), targets)?;
        let divisor = self.divisor(targets, &total)?;
        check_row_losses(rows.count(), row_losses.as_deref())?;
        let costs = self.costs();
        let tally = ProbabilityRows { rows: &rows, probabilities, eps, costs }.losses(row_losses);
        Ok(divisor.summary(tally.total(&total)))
    }
}
