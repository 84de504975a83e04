//! The loss of probabilities that somebody else has computed.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_row_losses};
use crate::kernel::given::ProbabilityRows;
use crate::label::Label;
use crate::reduction::Summary;
use crate::rows::Targets;

impl CrossEntropy<'_> {
    /// The reduced loss of *probabilities* `[N, C, D]` instead of logits: −w\[y\]·log(p_y + `eps`), `eps` ≥ 0, and with
    /// mislabel costs − Σ_{j≠y} fp\[y,j\]·log(1 − p_j + `eps`).
    ///
    /// Probabilities are the second choice. A softmax in f32 has already rounded the confident ones to 1 and the
    /// hopeless ones to 0, so give the logits wherever they can be had; PyTorch's `cross_entropy`, too, wants logits, and
    /// given probabilities it takes their softmax once more without a word.
    ///
    /// `eps` keeps the logarithm of 0 away, at a price. With the usual 1e-10 no row can cost more than 23.03
    /// (−log 1e-10), and since the derivative −1/(p_y + eps) no longer grows as p_y falls below eps while that of the
    /// softmax still vanishes, the worst mistakes stop learning. With 0 a probability of 0 costs what it should: +∞.
    ///
    /// Whoever writes the mean as a sum over N should know that PyTorch divides by the sum of the weights instead:
    /// [`Denominator`](crate::Denominator) names both.
    ///
    /// Nothing requires a row to sum to 1, and the formula is taken at its word: a NaN or a negative sum gives
    /// NaN, p_y > 1 a negative loss.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], [`Error::OutOfRange`] for an `eps` that is negative or not finite, and
    /// [`Error::Incompatible`] for options that are about logits.
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

    /// The loss of each row of probabilities into `row_losses`, `[N, D]`, as [`CrossEntropy::loss_from_probabilities`] has
    /// it; 0 for a row that does not count.
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
