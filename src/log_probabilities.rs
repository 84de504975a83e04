//! Log-softmax and log-sum-exp of every row.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_length};
use crate::kernel::log_softmax::LogProbabilityRows;
use crate::kernel::tile::Batch;
use crate::logits::Logits;
use crate::reduction::GradientScale;
use crate::rows::Targets;

impl CrossEntropy<'_> {
    /// Writes log-softmax, log p of every class, to `log_probabilities`, shaped and padded as the logits `[N, C, D]`:
    /// the second output of ONNX's SoftmaxCrossEntropyLoss. Of the options only shape, temperature, bias and backend
    /// matter; weights, costs and terms of the loss are checked all the same.
    ///
    /// The relative error is at most 3 ulp but for [rare rows](crate#accuracy), also where p is near 1. A row with a
    /// NaN or with all logits −∞ gets NaN. Where several logits are +∞, their classes get NaN and the others −∞.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::OutOfRange`] for a scalar option,
    /// [`Error::NotFinite`] for a class bias, weights and costs, [`Error::Negative`] for costs, [`Error::CostOfTruth`].
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let mut log_p = [0.0; 2];
    /// CrossEntropy::new(2).log_probabilities(&[17.0, 0.0], &mut log_p)?;
    /// assert_eq!(log_p, [-4.139_937_5e-8, -17.0]);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn log_probabilities<'l>(
        &self,
        logits: impl Into<Logits<'l>>,
        log_probabilities: &mut [f32],
    ) -> Result<(), Error> {
        self.write_logs(logits.into(), Some(log_probabilities), None)
    }

    /// Writes log-sum-exp, log Σ exp(x), of every row to `log_sum_exps`, `[N, D]`, with the options and errors of
    /// [`CrossEntropy::log_probabilities`]. Its gradient is p = exp(log p). −∞ and +∞ are as in
    /// [`log_sum_exp`](crate::log_sum_exp()).
    pub fn log_sum_exps<'l>(&self, logits: impl Into<Logits<'l>>, log_sum_exps: &mut [f32]) -> Result<(), Error> {
        self.write_logs(logits.into(), None, Some(log_sum_exps))
    }

    fn write_logs(
        &self,
        logits: Logits<'_>,
        log_probabilities: Option<&mut [f32]>,
        log_sum_exps: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        logits.check()?;
        let (rows, _) = self.check(Argument::Logits, logits.len(), Targets::None)?;
        if let Some(out) = &log_probabilities {
            check_length(Argument::LogProbabilities, logits.len(), out.len())?;
        }
        if let Some(out) = &log_sum_exps {
            check_length(Argument::LogSumExps, rows.count(), out.len())?;
        }
        let (adjustment, scale) = (self.adjustment(), GradientScale::Same(0.0));
        let batch = Batch { rows: &rows, logits: Some(logits), adjustment, gradient: log_probabilities, scale };
        self.chosen_backend().drive(LogProbabilityRows { batch, log_sum_exps });
        Ok(())
    }
}
