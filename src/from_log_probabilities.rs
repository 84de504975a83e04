//! Negative log-likelihood of given log-probabilities: a gather and a weight per row.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_row_losses};
use crate::label::Label;
use crate::reduction::{GradientScale, Summary, Tally, Upstream};
use crate::rows::{Rows, Targets};

/// The negative log-likelihood −w\[y\]·s·log p_y of *log-probabilities* `[N, C, D]`, as
/// [`CrossEntropy::log_probabilities`] writes them: PyTorch's `nll_loss`.
///
/// Each row loss is rounded once. A row of weight 0 has loss 0 even if log p_y = −∞; otherwise log p_y = −∞ gives +∞.
/// The probabilities of a row need not sum to 1. From logits, [`CrossEntropy::loss`] is as exact and reads them once.
impl CrossEntropy<'_> {
    /// Reduced loss of log-probabilities and labels: PyTorch's `nll_loss`.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], and [`Error::Incompatible`] for options that need logits and for mislabel costs.
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let loss = CrossEntropy::new(2);
    /// let mut log_p = [0.0; 4];
    /// loss.log_probabilities(&[17.0, 0.0, 0.0, 1.0], &mut log_p)?;
    /// let nll = loss.loss_from_log_probabilities(&log_p, &[0u8, 1])?;
    /// assert_eq!(nll.loss, loss.loss(&[17.0, 0.0, 0.0, 1.0], &[0u8, 1])?.loss);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn loss_from_log_probabilities<L: Label>(
        &self,
        log_probabilities: &[f32],
        labels: &[L],
    ) -> Result<Summary, Error> {
        self.log_probability_losses(log_probabilities, Targets::Labels(L::labels(labels)), None)
    }

    /// Writes the loss of each row of log-probabilities to `row_losses`, `[N, D]`, 0 where a row does not count.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss_from_log_probabilities`].
    pub fn row_losses_from_log_probabilities<L: Label>(
        &self,
        log_probabilities: &[f32],
        labels: &[L],
        row_losses: &mut [f32],
    ) -> Result<Summary, Error> {
        self.log_probability_losses(log_probabilities, Targets::Labels(L::labels(labels)), Some(row_losses))
    }

    /// Writes the gradient with respect to the log-probabilities to `gradient`, shaped and padded as the
    /// log-probabilities: −w\[y\]·s at the label, times `upstream` as in [`CrossEntropy::gradient`], and 0 elsewhere.
    /// The gradient does not depend on the values of the log-probabilities, which are no argument.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss_from_log_probabilities`], and [`Error::NotFinite`] for an upstream factor.
    ///
    /// ```
    /// # use rwwce::{CrossEntropy, Reduction};
    /// let loss = CrossEntropy::new(2).class_weights(&[1.0, 3.0]).reduction(Reduction::Sum);
    /// let mut gradient = [f32::NAN; 4];
    /// loss.gradient_from_log_probabilities(&[0u8, 1], 1.0, &mut gradient)?;
    /// assert_eq!(gradient, [-1.0, 0.0, 0.0, -3.0]);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn gradient_from_log_probabilities<'u, L: Label>(
        &self,
        labels: &[L],
        upstream: impl Into<Upstream<'u>>,
        gradient: &mut [f32],
    ) -> Result<(), Error> {
        self.log_probability_gradient(Targets::Labels(L::labels(labels)), upstream.into(), gradient)
    }

    fn log_probability_losses(
        &self,
        log_probabilities: &[f32],
        targets: Targets<'_>,
        mut row_losses: Option<&mut [f32]>,
    ) -> Result<Summary, Error> {
        let (rows, total) = self.check(Argument::LogProbabilities, log_probabilities.len(), targets)?;
        let divisor = self.divisor(targets, &total)?;
        check_row_losses(rows.count(), row_losses.as_deref())?;
        let mut tally = Tally::new(rows.chunk());
        for row in 0..rows.count() {
            let (weight, class) = whole_weight(&rows, row);
            let mut loss = 0.0;
            if weight != 0.0 {
                let log_p = log_probabilities.get(rows.element(row, class)).copied().unwrap_or(f32::NAN);
                loss = (0.0 - weight * f64::from(log_p)) as f32;
            }
            tally.add(row, loss);
            if let Some(to) = row_losses.as_deref_mut().and_then(|out| out.get_mut(row)) {
                *to = loss;
            }
        }
        Ok(divisor.summary(tally.total(&total)))
    }

    fn log_probability_gradient(
        &self,
        targets: Targets<'_>,
        upstream: Upstream<'_>,
        gradient: &mut [f32],
    ) -> Result<(), Error> {
        let (rows, total) = self.check(Argument::Gradient, gradient.len(), targets)?;
        let divisor = self.divisor(targets, &total)?;
        let scale = GradientScale::check(upstream, &divisor, rows.count())?;
        for row in 0..rows.count() {
            for class in 0..rows.classes() {
                if let Some(to) = gradient.get_mut(rows.element(row, class)) {
                    *to = 0.0;
                }
            }
            let (weight, class) = whole_weight(&rows, row);
            if let Some(to) = gradient.get_mut(rows.element(row, class)).filter(|_| weight != 0.0) {
                *to = (0.0 - weight * scale.of_row(row)) as f32;
            }
        }
        Ok(())
    }
}

/// w\[y\]·s and y; a weight of 0 where the row does not count.
fn whole_weight(rows: &Rows<'_>, row: usize) -> (f64, usize) {
    let weigh = |class| f64::from(rows.weight(class)) * f64::from(rows.sample_weight(row));
    rows.class(row).map_or((0.0, 0), |class| (weigh(class), class))
}
