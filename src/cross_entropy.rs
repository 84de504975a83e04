//! The public face of the weighted loss.

use crate::backend::Backend;
use crate::error::{Argument, Error};
use crate::kernel::buffers::{Buffers, InPlace, LossOnly, Separate};
use crate::kernel::probabilities::ProbabilityRows;
use crate::kernel::weighted::WeightedRows;
use crate::label::{Label, Labels};
use crate::problem::{Rows, Shape, check_length};
use crate::reduction::{Divisor, GradientScale, Reduction, Summary, Upstream, ZeroDenominator};

/// Weighted softmax cross-entropy, −w\[y\]·log p_y with p = softmax(x), and its options.
///
/// | argument | shape | type |
/// |---|---|---|
/// | logits x | `[N, C]`, flat, row after row | f32, any value |
/// | labels y | `[N]` | `u8`, `u16`, `u32`, `i32` or `i64`, in `[0, C)` or equal to the ignored index |
/// | class weights w | `[C]`; all ones when absent | f32, finite |
///
/// N is the number of labels. A row whose label is the ignored index does not count. A row whose weight is zero counts
/// (in the number of rows) and contributes exactly 0 whatever its logits hold.
///
/// Each method checks everything before it writes anything: [`Error`] tells which argument is wrong, where, and what
/// was expected, and leaves every output as it was. Nothing panics and nothing is allocated.
///
/// # Accuracy
///
/// The loss of a row has a relative error of at most 2 ulp, an element of the gradient of at most 4 ulp (measured; see
/// the crate's documentation), down to the smallest normal f32: a confident prediction has a small loss, never a loss
/// of 0 by rounding. NaN and infinite logits follow the table in the crate's documentation.
///
/// # Examples
///
/// ```
/// use rwwce::{CrossEntropy, Denominator, Reduction};
///
/// let logits = [17.0, 0.0, 0.0, /* row 1 */ 0.5, 2.0, -1.0];
/// let labels = [0u8, 2];
/// let weights = [1.0, 1.0, 20.0];
///
/// let loss = CrossEntropy::new(3).class_weights(&weights);
/// let mut rows = [0.0; 2];
/// let summary = loss.row_losses(&logits, &labels, &mut rows)?;
/// assert_eq!(rows[0], 8.279_875e-8);
/// assert_eq!(summary.denominator, 21.0);
///
/// let mut gradient = [0.0; 6];
/// let by_rows = loss.reduction(Reduction::Mean(Denominator::Rows));
/// by_rows.gradient(&logits, &labels, 1.0, &mut gradient)?;
/// assert!(gradient[5] < -9.0);
/// # Ok::<(), rwwce::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CrossEntropy<'a> {
    shape: Shape<'a>,
    reduction: Reduction,
    zero_denominator: ZeroDenominator,
    backend: Option<Backend>,
}

impl<'a> CrossEntropy<'a> {
    /// The loss over this number of classes C, every option at its default: no class weights, no ignored index, mean
    /// over the weight sum, NaN where that is zero, the best backend.
    pub const fn new(classes: usize) -> Self {
        Self {
            shape: Shape { classes, row_stride: None, class_weights: None, ignore_index: None },
            reduction: Reduction::Mean(crate::Denominator::WeightSum),
            zero_denominator: ZeroDenominator::NaN,
            backend: None,
        }
    }

    /// The cost of each class, `[C]`, finite.
    pub const fn class_weights(mut self, weights: &'a [f32]) -> Self {
        self.shape.class_weights = Some(weights);
        self
    }

    /// Rows with this label do not count. Any value, inside or outside `[0, C)`.
    pub const fn ignore_index(mut self, label: i64) -> Self {
        self.shape.ignore_index = Some(label);
        self
    }

    /// How the losses of the rows become one number.
    pub const fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// What a mean is when its denominator is zero.
    pub const fn zero_denominator(mut self, policy: ZeroDenominator) -> Self {
        self.zero_denominator = policy;
        self
    }

    /// The number of elements from the start of one row of logits (and of gradient) to the start of the next, for rows
    /// that are padded: at least C, which is the default. The logits then have N × stride elements. What lies between
    /// the rows is neither read nor written.
    pub const fn row_stride(mut self, elements: usize) -> Self {
        self.shape.row_stride = Some(elements);
        self
    }

    /// Computes with this backend instead of the best one.
    pub const fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// The reduced loss of logits `[N, C]`.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::LabelOutOfRange`],
    /// [`Error::NotFinite`] for a class weight, [`Error::OutOfRange`] for a row stride below C, and
    /// [`Error::ZeroDenominator`] where that was asked for.
    pub fn loss<L: Label>(&self, logits: &[f32], labels: &[L]) -> Result<Summary, Error> {
        self.losses(logits, L::labels(labels), None)
    }

    /// The loss of each row into `row_losses`, `[N]`; 0 for a row that does not count. The reduced loss beside it.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`].
    pub fn row_losses<L: Label>(&self, logits: &[f32], labels: &[L], row_losses: &mut [f32]) -> Result<Summary, Error> {
        self.losses(logits, L::labels(labels), Some(row_losses))
    }

    /// The gradient with respect to the logits into `gradient`, shaped as they are; the loss beside it.
    ///
    /// The gradient of a row is w\[y\]·(p_i − \[i = y\]) times `upstream`: a number, with respect to the reduced loss, so
    /// that the gradient is divided as the loss is; or a slice `[N]`, with respect to the loss of each row, undivided.
    /// Rows that do not count, or whose weight or upstream factor is zero, get exact zeros.
    ///
    /// Where a row's loss is NaN its gradient is NaN; where the loss is infinite the gradient is its limit, and NaN if
    /// several logits are +∞.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], and [`Error::NotFinite`] for an upstream factor.
    pub fn gradient<'u, L: Label>(
        &self,
        logits: &[f32],
        labels: &[L],
        upstream: impl Into<Upstream<'u>>,
        gradient: &mut [f32],
    ) -> Result<Summary, Error> {
        self.separate_gradient(logits, L::labels(labels), upstream.into(), gradient)
    }

    /// The gradient as [`CrossEntropy::gradient`] has it, written over the logits.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::gradient`].
    pub fn gradient_in_place<'u, L: Label>(
        &self,
        logits: &mut [f32],
        labels: &[L],
        upstream: impl Into<Upstream<'u>>,
    ) -> Result<Summary, Error> {
        self.gradient_over_logits(logits, L::labels(labels), upstream.into())
    }

    /// The reduced loss of *probabilities* `[N, C]` instead of logits: −w\[y\]·log(p_y + `eps`), `eps` ≥ 0.
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
    /// As [`CrossEntropy::loss`], and [`Error::OutOfRange`] for an `eps` that is negative or not finite.
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
        self.probability_losses(probabilities, L::labels(labels), eps, None)
    }

    /// The loss of each row of probabilities into `row_losses`, `[N]`, as [`CrossEntropy::loss_from_probabilities`] has
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
        self.probability_losses(probabilities, L::labels(labels), eps, Some(row_losses))
    }

    // What follows does not depend on the type of the labels, so that it is compiled once, with this crate.

    fn losses(&self, logits: &[f32], labels: Labels<'_>, row_losses: Option<&mut [f32]>) -> Result<Summary, Error> {
        let (rows, divisor) = self.check(Argument::Logits, logits.len(), labels)?;
        check_row_losses(&rows, row_losses.as_deref())?;
        Ok(self.run(&rows, &divisor, LossOnly(logits), row_losses, GradientScale::Same(0.0)))
    }

    fn separate_gradient(
        &self,
        logits: &[f32],
        labels: Labels<'_>,
        upstream: Upstream<'_>,
        gradient: &mut [f32],
    ) -> Result<Summary, Error> {
        let (rows, divisor) = self.check(Argument::Logits, logits.len(), labels)?;
        check_length(Argument::Gradient, logits.len(), gradient.len())?;
        let scale = GradientScale::check(upstream, &divisor, rows.count())?;
        Ok(self.run(&rows, &divisor, Separate { logits, gradient }, None, scale))
    }

    fn gradient_over_logits(
        &self,
        logits: &mut [f32],
        labels: Labels<'_>,
        upstream: Upstream<'_>,
    ) -> Result<Summary, Error> {
        let (rows, divisor) = self.check(Argument::Logits, logits.len(), labels)?;
        let scale = GradientScale::check(upstream, &divisor, rows.count())?;
        Ok(self.run(&rows, &divisor, InPlace(logits), None, scale))
    }

    fn probability_losses(
        &self,
        probabilities: &[f32],
        labels: Labels<'_>,
        eps: f32,
        row_losses: Option<&mut [f32]>,
    ) -> Result<Summary, Error> {
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(Error::OutOfRange { argument: Argument::Eps, range: "a finite number of at least 0" });
        }
        let (rows, divisor) = self.check(Argument::Probabilities, probabilities.len(), labels)?;
        check_row_losses(&rows, row_losses.as_deref())?;
        let backend = self.backend.unwrap_or_else(Backend::active);
        Ok(divisor.summary(&backend.run(ProbabilityRows { rows: &rows, probabilities, eps, row_losses })))
    }

    fn check<'l>(&self, argument: Argument, len: usize, labels: Labels<'l>) -> Result<(Rows<'l>, Divisor), Error>
    where
        'a: 'l,
    {
        let rows = Rows::check(&self.shape, argument, len, labels)?;
        let divisor = Divisor::new(self.reduction, self.zero_denominator, rows.counted, rows.weight_sum)?;
        Ok((rows, divisor))
    }

    fn run<B: Buffers>(
        &self,
        rows: &Rows<'_>,
        divisor: &Divisor,
        buffers: B,
        row_losses: Option<&mut [f32]>,
        scale: GradientScale<'_>,
    ) -> Summary {
        let backend = self.backend.unwrap_or_else(Backend::active);
        divisor.summary(&backend.run(WeightedRows { rows, buffers, row_losses, scale }))
    }
}

fn check_row_losses(rows: &Rows<'_>, row_losses: Option<&[f32]>) -> Result<(), Error> {
    row_losses.map_or(Ok(()), |row_losses| check_length(Argument::RowLosses, rows.count(), row_losses.len()))
}
