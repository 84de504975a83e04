//! The binary and multi-label loss: its options and entry points.

use core::num::NonZero;

use crate::backend::Backend;
use crate::error::{Argument, Error, check_cost, check_finite, check_length, check_row_losses};
use crate::kernel::binary::{BinaryCosts, BinaryElements};
use crate::logits::Logits;
use crate::reduction::{Divisor, GradientScale, Reduction, RowSum, Summary, Tally, Total, Upstream, ZeroDenominator};
use crate::rows::chunk_of;

/// Binary and multi-label cross-entropy of logits, with a cost of misses and of false alarms for each label.
///
/// The loss of one logit z with target t is
///
/// −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)), σ(z) = 1/(1 + e^(−z)).
///
/// | argument | shape | type |
/// |---|---|---|
/// | logits z | `[N, L]`, flat | f32, any value; or [other types](Logits) |
/// | targets t | `[N, L]` | f32 in [0, 1] |
/// | miss costs fn, false-alarm costs fp | `[L]`; all ones when absent | f32, finite, ≥ 0 |
/// | sample weights s | `[N, L]`; all ones when absent | f32, finite |
///
/// L is the number of labels of a sample, 1 for a binary classifier. Each logit is a row of its own, and the default
/// reduction is the mean over all N·L, as in PyTorch's `binary_cross_entropy_with_logits`, whose `pos_weight` and
/// `weight` are the miss costs and the sample weights. (Ho & Wookey, "The Real-World-Weight Cross-Entropy Loss
/// Function: Modeling the Costs of Mislabeling", IEEE Access 8, 2020.) The gradient is
/// (1 − t)·fp·σ(z) − t·fn·(1 − σ(z)).
///
/// The error is at most 6 ulp of the sum of the magnitudes of the terms, for any finite logit. A logit of ±∞ has loss 0
/// or +∞, depending on its target; NaN gives NaN. Where both costs or the sample weight are zero, loss and gradient are
/// exactly 0 for any logit and target. The denominator [`WeightSum`](crate::Denominator::WeightSum) is
/// Σ s·(fn·t + fp·(1 − t)).
///
/// ```
/// use rwwce::BinaryCrossEntropy;
///
/// // To miss a case costs 20 times what a false alarm does.
/// let loss = BinaryCrossEntropy::new(1).miss_costs(&[20.0]);
/// let mut gradient = [0.0; 2];
/// let summary = loss.gradient(&[17.0, -3.0], &[1.0, 1.0], 1.0, &mut gradient)?;
/// assert_eq!(summary.loss, 30.485_875);
/// assert_eq!(gradient, [-4.139_937_5e-7, -9.525_742]);
/// # Ok::<(), rwwce::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BinaryCrossEntropy<'a> {
    labels: usize,
    costs: BinaryCosts<'a>,
    reduction: Reduction,
    /// Denominator set by the caller; overrides that of the reduction.
    denominator: Option<f64>,
    zero_denominator: ZeroDenominator,
    backend: Option<Backend>,
}

impl<'a> BinaryCrossEntropy<'a> {
    /// The loss of samples of `labels` labels each (L), all options at their defaults.
    pub const fn new(labels: usize) -> Self {
        Self {
            labels,
            costs: BinaryCosts { misses: None, false_alarms: None, samples: None },
            reduction: Reduction::Mean(crate::Denominator::Rows),
            denominator: None,
            zero_denominator: ZeroDenominator::NaN,
            backend: None,
        }
    }

    /// Sets the cost fn of missing each label, `[L]`, finite, ≥ 0 (PyTorch's `pos_weight`).
    pub const fn miss_costs(mut self, costs: &'a [f32]) -> Self {
        self.costs.misses = Some(costs);
        self
    }

    /// Sets the cost fp of a false alarm for each label, `[L]`, finite, ≥ 0.
    pub const fn false_alarm_costs(mut self, costs: &'a [f32]) -> Self {
        self.costs.false_alarms = Some(costs);
        self
    }

    /// Sets the weight s of each logit, `[N, L]`, finite (PyTorch's `weight`); a negative one flips the sign of its
    /// loss.
    pub const fn sample_weights(mut self, weights: &'a [f32]) -> Self {
        self.costs.samples = Some(weights);
        self
    }

    /// Sets the reduction; the default is the mean over all N·L logits.
    pub const fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Divides by this finite value instead of the denominator of the reduction, as
    /// [`CrossEntropy::denominator`](crate::CrossEntropy::denominator) does.
    pub const fn denominator(mut self, denominator: f64) -> Self {
        self.denominator = Some(denominator);
        self
    }

    /// Sets the result of a mean whose denominator is zero; the default is NaN.
    pub const fn zero_denominator(mut self, policy: ZeroDenominator) -> Self {
        self.zero_denominator = policy;
        self
    }

    /// Computes with this backend instead of the best one.
    pub const fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sums rows and weights of these targets, `[N, L]`, without the loss: the denominators of every reduction.
    ///
    /// # Errors
    ///
    /// As [`BinaryCrossEntropy::loss`].
    pub fn weigh(&self, targets: &[f32]) -> Result<Total, Error> {
        self.check(Argument::Targets, targets.len(), targets).map(|(_, counts, _)| counts)
    }

    /// Reduced loss of logits and targets, both `[N, L]`.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`] for L = 0, [`Error::Length`], [`Error::NotFinite`] and [`Error::Negative`] for costs and
    /// weights, [`Error::TargetOutOfRange`], [`Error::OutOfRange`], and [`Error::ZeroDenominator`] if chosen.
    pub fn loss<'l>(&self, logits: impl Into<Logits<'l>>, targets: &[f32]) -> Result<Summary, Error> {
        self.losses(logits.into(), targets, None)
    }

    /// Writes the loss of each logit to `row_losses`, `[N, L]`, and returns the reduced loss.
    ///
    /// # Errors
    ///
    /// As [`BinaryCrossEntropy::loss`].
    pub fn row_losses<'l>(
        &self,
        logits: impl Into<Logits<'l>>,
        targets: &[f32],
        row_losses: &mut [f32],
    ) -> Result<Summary, Error> {
        self.losses(logits.into(), targets, Some(row_losses))
    }

    /// Writes the gradient with respect to the logits to `gradient`, `[N, L]`, and returns the reduced loss. `upstream`
    /// is as in [`CrossEntropy::gradient`](crate::CrossEntropy::gradient).
    ///
    /// # Errors
    ///
    /// As [`BinaryCrossEntropy::loss`], and [`Error::NotFinite`] for an upstream factor.
    pub fn gradient<'l, 'u>(
        &self,
        logits: impl Into<Logits<'l>>,
        targets: &[f32],
        upstream: impl Into<Upstream<'u>>,
        gradient: &mut [f32],
    ) -> Result<Summary, Error> {
        self.derivatives(Some(logits.into()), targets, upstream.into(), Argument::Gradient, gradient)
    }

    /// Writes the gradient over the logits, and returns the reduced loss.
    ///
    /// # Errors
    ///
    /// As [`BinaryCrossEntropy::gradient`].
    pub fn gradient_in_place<'u>(
        &self,
        logits: &mut [f32],
        targets: &[f32],
        upstream: impl Into<Upstream<'u>>,
    ) -> Result<Summary, Error> {
        self.derivatives(None, targets, upstream.into(), Argument::Gradient, logits)
    }

    /// Writes the second derivative with respect to each logit to `curvature`, `[N, L]`:
    /// s·(fn·t + fp·(1 − t))·σ(z)·(1 − σ(z)) times `upstream`, divided as the gradient is, and negative where s is. The
    /// error is at most 2 ulp.
    ///
    /// # Errors
    ///
    /// As [`BinaryCrossEntropy::gradient`].
    ///
    /// ```
    /// # use rwwce::BinaryCrossEntropy;
    /// let mut curvature = [0.0; 2];
    /// BinaryCrossEntropy::new(1).miss_costs(&[20.0]).curvature(&[0.0, -17.0], &[1.0, 0.0], 2.0, &mut curvature)?;
    /// assert_eq!(curvature, [5.0, 4.139_937_5e-8]);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn curvature<'l, 'u>(
        &self,
        logits: impl Into<Logits<'l>>,
        targets: &[f32],
        upstream: impl Into<Upstream<'u>>,
        curvature: &mut [f32],
    ) -> Result<(), Error> {
        self.derivatives(Some(logits.into()), targets, upstream.into(), Argument::Curvature, curvature).map(drop)
    }

    /// Writes the gradient or, if that is the `argument`, the curvature `to` its slice; over the logits if they are `None`.
    fn derivatives(
        &self,
        logits: Option<Logits<'_>>,
        targets: &[f32],
        upstream: Upstream<'_>,
        argument: Argument,
        to: &mut [f32],
    ) -> Result<Summary, Error> {
        let len = logits.map_or(to.len(), |logits| logits.len());
        logits.map_or(Ok(()), |logits| logits.check())?;
        let (labels, counts, divisor) = self.check(Argument::Logits, len, targets)?;
        check_length(argument, len, to.len())?;
        let scale = GradientScale::check(upstream, &divisor, len)?;
        let (costs, gradient, row_losses) = (&self.costs, Some(to), None);
        let curvature = argument == Argument::Curvature;
        let tally = self.run(BinaryElements { labels, costs, logits, targets, gradient, curvature, row_losses, scale });
        Ok(divisor.summary(tally.total(&counts)))
    }

    fn losses(&self, logits: Logits<'_>, targets: &[f32], row_losses: Option<&mut [f32]>) -> Result<Summary, Error> {
        logits.check()?;
        let (labels, counts, divisor) = self.check(Argument::Logits, logits.len(), targets)?;
        check_row_losses(logits.len(), row_losses.as_deref())?;
        let (costs, curvature) = (&self.costs, false);
        let (logits, gradient, scale) = (Some(logits), None, GradientScale::Same(0.0));
        let tally = self.run(BinaryElements { labels, costs, logits, targets, gradient, curvature, row_losses, scale });
        Ok(divisor.summary(tally.total(&counts)))
    }

    fn check(
        &self,
        argument: Argument,
        len: usize,
        targets: &[f32],
    ) -> Result<(NonZero<usize>, Total, Divisor), Error> {
        let labels = NonZero::new(self.labels).ok_or(Error::NoClasses)?;
        check_length(argument, (len / labels).saturating_mul(labels.get()), len)?;
        check_length(Argument::Targets, len, targets.len())?;
        let costs = &self.costs;
        for (argument, numbers) in
            [(Argument::MissCosts, costs.misses), (Argument::FalseAlarmCosts, costs.false_alarms)]
        {
            if let Some(numbers) = numbers {
                check_length(argument, self.labels, numbers.len())?;
                check_cost(argument, numbers)?;
            }
        }
        if let Some(samples) = costs.samples {
            check_length(Argument::SampleWeights, len, samples.len())?;
            check_finite(Argument::SampleWeights, samples)?;
        }
        // An element of weight zero may have any target, NaN included.
        let weighs = |index: usize| {
            let (miss, false_alarm) = costs.of_label(index % labels);
            costs.sample(index) != 0.0 && (miss != 0.0 || false_alarm != 0.0)
        };
        let wrong = |&(index, target): &(usize, &f32)| !(0.0..=1.0).contains(target) && weighs(index);
        if let Some((index, _)) = targets.iter().enumerate().find(wrong) {
            return Err(Error::TargetOutOfRange { index });
        }
        let chunk = chunk_of(1, labels);
        let (mut weights, mut samples) = (RowSum::new(chunk), RowSum::new(chunk));
        for (index, &target) in targets.iter().enumerate() {
            let (miss, false_alarm) = costs.weights(index, index % labels, target);
            weights.add(index, miss + false_alarm);
            samples.add(index, f64::from(costs.sample(index)));
        }
        let rows = len as u64;
        let counts = Total {
            weight_sum: weights.total(),
            sample_weight_sum: samples.total(),
            rows,
            rows_times_classes: rows,
            ..Total::default()
        };
        let divisor = Divisor::new(self.denominator, self.reduction, self.zero_denominator, &counts)?;
        Ok((labels, counts, divisor))
    }

    fn run(&self, elements: BinaryElements<'_>) -> Tally {
        self.backend.unwrap_or_else(Backend::active).drive(elements)
    }
}
