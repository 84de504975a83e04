//! The options of the softmax losses, and their entry points for class labels.

use core::num::NonZero;

use crate::backend::Backend;
use crate::error::{Argument, Error, check_cost, check_finite, check_length, check_row_losses, square};
use crate::kernel::classes::{WeighRows, Weights};
use crate::kernel::few_rows::{FewRows, are_few};
use crate::kernel::label_terms::{LabelOptions, LabelTerms, Plain};
use crate::kernel::term_scalars::Terms;
use crate::kernel::terms::TermRows;
use crate::kernel::tile::Batch;
use crate::kernel::weigh_targets::WeighTargets;
use crate::kernel::weighted::WeightedRows;
use crate::label::Label;
use crate::logits::{Adjustment, Logits};
use crate::reduction::{
    Denominator, Divisor, GradientScale, Reduction, Summary, Tally, Total, Upstream, ZeroDenominator,
};
use crate::rows::{Rows, Shape, Targets, chunk_of};
#[cfg(feature = "rayon")]
use crate::threads::Threads;

/// Softmax cross-entropy of logits, with class weights, label smoothing, mislabel costs and further options.
///
/// The loss of a row is −w\[y\]·log p_y with p = softmax(x), as in PyTorch's `cross_entropy`; options change it.
///
/// | argument | shape | type |
/// |---|---|---|
/// | logits x | `[N, C, D]`, flat; D, the [positions](Self::positions), is 1 by default | f32, any value; or [other types](Logits) |
/// | labels y | `[N, D]` | `u8`, `u16`, `u32`, `i32`, `i64` or `usize`, in `[0, C)` or equal to the ignored index |
/// | class weights w | `[C]`; all ones when absent | f32, finite |
/// | sample weights s | `[N, D]`; all ones when absent | f32, finite |
///
/// A *row* is one (n, d): C logits and a label. N·D is the number of labels. The methods that return `Self` set
/// options; the others compute. A row whose label is the ignored index does not count. A row whose total weight is zero
/// counts (in the number of rows) and contributes exactly 0 whatever its logits.
///
/// Every argument is checked before anything is written: an [`Error`] names the argument, the index and the expected
/// value, and leaves every output unchanged. Nothing panics and nothing is allocated.
///
/// # Accuracy
///
/// The weighted loss of a row has a relative error of at most 3 ulp, an element of its gradient of at most 5 ulp (2.6
/// and 4.4 in ten million random rows for each number of classes; the [crate](crate#accuracy) has rows of more than 16
/// classes with more, and the worst case), down to the smallest normal f32: a confident prediction has a small loss, which never rounds to 0.
/// Loss and gradient with other options have at most 6 ulp of the sum of the magnitudes of their terms, with a focal
/// exponent γ above 2 at most 2·(γ + 1). NaN and infinite logits follow the table in the crate's documentation.
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
/// assert!((rows[0] - 8.279_875e-8).abs() < 1e-14);
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
    pub(crate) shape: Shape<'a>,
    adjustment: Adjustment<'a>,
    mislabel_costs: Option<&'a [f32]>,
    label_smoothing: f32,
    label_options: LabelOptions,
    /// Kernel of the losses with terms; `None` unless such an option was set, so that other programs do not link it.
    kernel: Option<TermKernel>,
    /// `None` for the default, which depends on the other options.
    reduction: Option<Reduction>,
    /// Denominator set by the caller; overrides that of the reduction.
    denominator: Option<f64>,
    zero_denominator: ZeroDenominator,
    backend: Option<Backend>,
    /// Those over which large calls are split.
    #[cfg(feature = "rayon")]
    pub(crate) threads: Threads<'a>,
}

impl<'a> CrossEntropy<'a> {
    /// The loss over `classes` classes (C), all options at their defaults: one position, no weights, no ignored index,
    /// no further terms, mean over the weight sum, NaN where the weight sum is zero, the best backend.
    pub const fn new(classes: usize) -> Self {
        Self {
            shape: Shape::new(classes),
            adjustment: Adjustment::NONE,
            mislabel_costs: None,
            label_smoothing: 0.0,
            label_options: LabelOptions::NONE,
            kernel: None,
            reduction: None,
            denominator: None,
            zero_denominator: ZeroDenominator::NaN,
            backend: None,
            #[cfg(feature = "rayon")]
            threads: Threads::One,
        }
    }

    /// Sets the number of positions D (pixels, tokens) of a sample, for logits `[N, C, D]` as in PyTorch: at least 1,
    /// the default. The C logits of a row are D elements apart. Row (n, d) has index n·D + d.
    pub const fn positions(mut self, positions: usize) -> Self {
        self.shape.positions = positions;
        self
    }

    /// Sets the number of elements from one sample to the next, for padded samples: at least C·D, the default. The
    /// stride is that of logits, gradient, log-probabilities and target probabilities, which have N × stride elements.
    /// Padding is neither read nor written, and may hold anything.
    pub const fn row_stride(mut self, elements: usize) -> Self {
        self.shape.row_stride = Some(elements);
        self
    }

    /// Sets the weight w of each class, `[C]`, finite (PyTorch's `weight`). With [mislabel costs](Self::mislabel_costs)
    /// the weights are the miss costs fn, ≥ 0.
    pub const fn class_weights(mut self, weights: &'a [f32]) -> Self {
        self.shape.class_weights = Some(weights);
        self
    }

    /// Sets the weight s of each row, `[N, D]`, finite; a negative one changes the sign of loss and gradient.
    pub const fn sample_weights(mut self, weights: &'a [f32]) -> Self {
        self.shape.sample_weights = Some(weights);
        self
    }

    /// Ignores rows with this label, any value inside or outside `[0, C)` (PyTorch's `ignore_index`).
    pub const fn ignore_index(mut self, label: i64) -> Self {
        self.shape.ignore_index = Some(label);
        self
    }

    /// Sets the label smoothing ε in [0, 1]: a share ε of the target is spread evenly over all classes, as in PyTorch,
    ///
    /// (1 − ε)·(−w\[y\]·log p_y) + (ε/C)·Σ_c w\[c\]·(−log p_c).
    ///
    /// Target probabilities q become (1 − ε)·q + ε/C (Szegedy et al., "Rethinking the Inception Architecture for
    /// Computer Vision", CVPR 2016).
    pub const fn label_smoothing(mut self, share: f32) -> Self {
        self.label_smoothing = share;
        self.kernel = Some(TermKernel::NEW);
        self
    }

    /// Sets the costs fp\[y,j\] of predicting class j where y is true, `[C, C]` (row y, column j): finite, ≥ 0,
    /// diagonal 0.
    ///
    /// The loss of a row becomes the real-world-weight cross-entropy of Ho & Wookey ("The Real-World-Weight
    /// Cross-Entropy Loss Function: Modeling the Costs of Mislabeling", IEEE Access 8, 2020),
    ///
    /// −fn\[y\]·log p_y − Σ_{j≠y} fp\[y,j\]·log(1 − p_j),
    ///
    /// where the miss costs fn are the [class weights](Self::class_weights), ≥ 0, and 1 without any: fp comes on top of
    /// them. To train by a full matrix of costs, let the class weights be 0. With s_j = fp\[y,j\]·p_j/(1 − p_j)
    /// and s_y = 0 the gradient is fn\[y\]·(p_i − \[i = y\]) + s_i − p_i·Σ_j s_j. Nothing is clipped: a confident
    /// mistake keeps its loss and gradient. If all costs are zero the loss is the weighted one, in the same bits.
    ///
    /// The default reduction is then the mean over [`Denominator::Rows`].
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// // To say 0 where 1 is true costs 19 more than missing 1.
    /// let costs = [0.0, 0.0, 0.0, 19.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    /// let loss = CrossEntropy::new(3).mislabel_costs(&costs);
    /// let mut gradient = [0.0; 3];
    /// let summary = loss.gradient(&[30.0, 0.0, 0.0], &[1u8], 1.0, &mut gradient)?;
    /// assert_eq!(summary.loss, 586.830_2);
    /// assert_eq!(gradient, [20.0, -10.5, -9.5]);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub const fn mislabel_costs(mut self, costs: &'a [f32]) -> Self {
        self.mislabel_costs = Some(costs);
        self.kernel = Some(TermKernel::NEW);
        self
    }

    /// Sets the focal exponent γ ≥ 0: the label's term −w\[y\]·log p_y, and no other, is multiplied by (1 − p_y)^γ,
    /// which moves the gradient to rows that are still wrong (Lin, Goyal, Girshick, He & Dollár, "Focal Loss for Dense
    /// Object Detection", ICCV 2017). The power amplifies the error of a small 1 − p_y, at most 1 ulp: about γ + 1
    /// times that of −log p_y alone.
    pub const fn focal(mut self, exponent: f32) -> Self {
        self.label_options.focal = exponent;
        self.kernel = Some(TermKernel::NEW);
        self
    }

    /// Sets the z-loss factor λ ≥ 0: adds λ·W·(log Σ exp x)² to the loss of a row, W = w\[y\] or Σ_c w\[c\]·q_c, with
    /// label smoothing applied, to keep logits from drifting away from 0 (Chowdhery et al., "PaLM: Scaling Language
    /// Modeling with Pathways", 2022).
    pub const fn z_loss(mut self, factor: f32) -> Self {
        self.label_options.z_loss = factor;
        self.kernel = Some(TermKernel::NEW);
        self
    }

    /// Sets a bias added to the logits of each class, `[C]`, finite, after the division by the temperature. With τ·log
    /// of the class frequencies this is the logit adjustment for long-tailed data (Menon et al., "Long-tail learning
    /// via logit adjustment", ICLR 2021). The sum is rounded to f32; the accuracy bounds hold for the rounded sum.
    pub const fn class_bias(mut self, bias: &'a [f32]) -> Self {
        self.adjustment.bias = Some(bias);
        self
    }

    /// Sets the temperature T > 0 of logits x/T: T > 1 softens the probabilities, T < 1 sharpens them (Guo, Pleiss, Sun
    /// & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017). The quotient is rounded to f32.
    pub const fn temperature(mut self, temperature: f32) -> Self {
        self.adjustment.temperature = temperature;
        self
    }

    /// Sets the reduction: by default the mean over the [weight sum](Denominator::WeightSum), for target probabilities
    /// and with mislabel costs the mean over the [rows](Denominator::Rows).
    pub const fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = Some(reduction);
        self
    }

    /// Divides by this finite value instead of the denominator of the reduction. For a call on a part of the batch (a
    /// chunk of rows, one batch of a gradient accumulation, the share of one worker) set the denominator of the whole,
    /// from [`CrossEntropy::weigh`] and [`Total::denominator`]: the gradient then has the bits of the whole's gradient,
    /// and the losses of the parts add up to the loss of the whole.
    ///
    /// ```
    /// # use rwwce::{CrossEntropy, Reduction};
    /// let (logits, labels) = ([2.0, -1.0, 0.0, 0.5, 1.0, 0.0, -1.0, 3.0], [0u8, 0, 1, 1]);
    /// let loss = CrossEntropy::new(2).class_weights(&[1.0, 3.0]);
    /// let mut whole = [0.0; 8];
    /// loss.gradient(&logits, &labels, 1.0, &mut whole)?;
    ///
    /// let denominator = loss.weigh(&labels)?.denominator(Reduction::default());
    /// let part = loss.denominator(denominator);
    /// let mut gradient = [0.0; 8];
    /// part.gradient(&logits[..4], &labels[..2], 1.0, &mut gradient[..4])?;
    /// part.gradient(&logits[4..], &labels[2..], 1.0, &mut gradient[4..])?;
    /// assert_eq!(gradient, whole);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
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

    /// Number of rows of a chunk, the unit of summation over rows: a multiple of the number of positions that depends
    /// on classes and positions alone. Each chunk is summed apart, and the chunk sums are added in order. So where a
    /// batch is cut into calls of a chunk each, the last of which may be shorter, their totals merged in order have the
    /// bits of one call:
    ///
    /// ```
    /// # use rwwce::{CrossEntropy, Total};
    /// let loss = CrossEntropy::new(2);
    /// let labels = [1u8; 50_000];
    /// let logits: Vec<f32> = (0..100_000).map(|i| (i % 97) as f32 / 7.0).collect();
    /// let rows = loss.chunk_rows();
    /// let mut total = Total::default();
    /// for (logits, labels) in logits.chunks(2 * rows).zip(labels.chunks(rows)) {
    ///     total.merge(&loss.loss(logits, labels)?.total);
    /// }
    /// assert_eq!(total, loss.loss(&logits, &labels)?.total);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    #[must_use]
    pub fn chunk_rows(&self) -> usize {
        let positions = NonZero::new(self.shape.positions).unwrap_or(NonZero::<usize>::MIN);
        chunk_of(self.shape.classes, positions).get()
    }

    /// Sums rows and weights of these labels, `[N, D]`, without the loss: the denominators of every reduction.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::LabelOutOfRange`],
    /// [`Error::NotFinite`] for weights, [`Error::OutOfRange`] for positions and row stride.
    pub fn weigh<L: Label>(&self, labels: &[L]) -> Result<Total, Error> {
        let targets = Targets::Labels(L::labels(labels));
        Ok(self.check_labels_and_weights(self.shape, labels.len(), targets)?.1)
    }

    /// Reduced loss of logits `[N, C, D]` and labels `[N, D]`.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::LabelOutOfRange`],
    /// [`Error::NotFinite`] and [`Error::Negative`] for weights, costs and bias, [`Error::CostOfTruth`],
    /// [`Error::OutOfRange`] for a scalar option, and [`Error::ZeroDenominator`] if chosen.
    pub fn loss<'l, L: Label>(&self, logits: impl Into<Logits<'l>>, labels: &[L]) -> Result<Summary, Error> {
        self.losses(logits.into(), Targets::Labels(L::labels(labels)), None)
    }

    /// Writes the loss of each row to `row_losses`, `[N, D]`, 0 for uncounted rows, and returns the reduced loss.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`].
    pub fn row_losses<'l, L: Label>(
        &self,
        logits: impl Into<Logits<'l>>,
        labels: &[L],
        row_losses: &mut [f32],
    ) -> Result<Summary, Error> {
        self.losses(logits.into(), Targets::Labels(L::labels(labels)), Some(row_losses))
    }

    /// Writes the gradient with respect to the logits to `gradient`, shaped as the logits, and returns the loss.
    ///
    /// The gradient of a row is s·w\[y\]·(p_i − \[i = y\]) times `upstream`: a scalar with respect to the reduced loss,
    /// divided by the denominator of the reduction; or a slice `[N, D]` with respect to the row losses, undivided. Rows
    /// that do not count, or whose weight or upstream factor is zero, get exact zeros.
    ///
    /// A row whose loss is NaN has gradient NaN, but for terms of +∞ and −∞ by weights of both signs; a row whose loss is
    /// infinite has the limit of the gradient, and NaN if several logits are +∞.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], and [`Error::NotFinite`] for an upstream factor.
    pub fn gradient<'l, 'u, L: Label>(
        &self,
        logits: impl Into<Logits<'l>>,
        labels: &[L],
        upstream: impl Into<Upstream<'u>>,
        gradient: &mut [f32],
    ) -> Result<Summary, Error> {
        self.gradients(Some(logits.into()), Targets::Labels(L::labels(labels)), upstream.into(), gradient)
    }

    /// Writes the gradient of [`CrossEntropy::gradient`] over the logits, and returns the reduced loss.
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
        self.gradients(None, Targets::Labels(L::labels(labels)), upstream.into(), logits)
    }

    // Not generic over the type of the labels, so compiled once, with this crate.

    pub(crate) fn losses(
        &self,
        logits: Logits<'_>,
        targets: Targets<'_>,
        mut row_losses: Option<&mut [f32]>,
    ) -> Result<Summary, Error> {
        logits.check()?;
        let rows = Rows::new(self.shape, Argument::Logits, logits.len(), targets)?;
        self.check_options(Argument::Logits, targets)?;
        // Without outputs to leave unchanged, labels are checked by the kernel that reads them.
        let is_soft = matches!(targets, Targets::Soft(_));
        let checked = if is_soft || row_losses.is_some() { Some(self.check_targets(&rows)?) } else { None };
        checked.map_or(Ok(()), |total| self.divisor(targets, &total).map(drop))?;
        check_row_losses(rows.count(), row_losses.as_deref())?;
        let mut total = Total::default();
        if !self.few_losses(&rows, logits, row_losses.as_deref_mut(), &mut total)? {
            let call = Call { logits: Some(logits), gradient: None, row_losses, scale: GradientScale::Same(0.0) };
            total = self.compute::<false>(&rows, call, checked)?;
        }
        Ok(self.divisor(targets, &total)?.summary(total))
    }

    /// Losses of a few rows without options; `false` if these are others.
    #[inline(always)]
    fn few_losses(
        &self,
        rows: &Rows<'_>,
        logits: Logits<'_>,
        row_losses: Option<&mut [f32]>,
        total: &mut Total,
    ) -> Result<bool, Error> {
        let are_plain = self.adjustment.is_none() && self.terms(rows.targets()).are_plain();
        let logits = logits.as_f32().filter(|_| are_plain && are_few(rows));
        let few = logits.map(|logits| FewRows { rows, logits, row_losses, total });
        few.map_or(Ok(false), |few| self.chosen_backend().drive(few))
    }

    /// Writes the gradient; over the logits if they are `None`.
    pub(crate) fn gradients(
        &self,
        logits: Option<Logits<'_>>,
        targets: Targets<'_>,
        upstream: Upstream<'_>,
        gradient: &mut [f32],
    ) -> Result<Summary, Error> {
        logits.map_or(Ok(()), |logits| logits.check())?;
        let len = logits.map_or(gradient.len(), |logits| logits.len());
        let (rows, total) = self.check(Argument::Logits, len, targets)?;
        let divisor = self.divisor(targets, &total)?;
        check_length(Argument::Gradient, len, gradient.len())?;
        let scale = GradientScale::check(upstream, &divisor, rows.count())?;
        let call = Call { logits, gradient: Some(gradient), row_losses: None, scale };
        Ok(divisor.summary(self.compute::<true>(&rows, call, Some(total))?))
    }

    /// Losses and gradient of validated rows; labels are validated by the kernel unless `weighed` has their totals.
    fn compute<const GRADIENT: bool>(
        &self,
        rows: &Rows<'_>,
        call: Call<'_>,
        weighed: Option<Total>,
    ) -> Result<Total, Error> {
        #[cfg(feature = "rayon")]
        if self.splits(rows) {
            return self.compute_in_chunks::<GRADIENT>(rows, call, weighed);
        }
        let Call { logits, gradient, row_losses, scale } = call;
        let (backend, terms) = (self.chosen_backend(), self.terms(rows.targets()));
        let (mut tally, mut weights) = (Tally::new(rows.chunk()), Weights::new(rows));
        let sums = (&mut tally, weighed.is_none().then_some(&mut weights));
        // Built where it is used: moving a `Batch` takes a small call a tenth of its time.
        let batch = || Batch { rows, logits, adjustment: self.adjustment, gradient, scale };
        match self.kernel.filter(|_| !terms.are_plain()) {
            Some(kernel) => (kernel.compute)(backend, batch(), terms, row_losses, sums)?,
            None => weighted::<Plain, GRADIENT>(backend, batch(), Plain, row_losses, sums)?,
        }
        Ok(tally.total(&weighed.unwrap_or_else(|| weights.total(rows))))
    }

    /// [`CrossEntropy::compute`], split over threads.
    #[cfg(feature = "rayon")]
    fn compute_in_chunks<const GRADIENT: bool>(
        &self,
        rows: &Rows<'_>,
        call: Call<'_>,
        weighed: Option<Total>,
    ) -> Result<Total, Error> {
        let of_chunk = weighed.map(|_| Total::default());
        let total = self.in_chunks(rows, call, |loss, rows, call| loss.compute::<GRADIENT>(rows, call, of_chunk));
        // A label of some chunk is wrong: all rows again, in order, for the first wrong one.
        let total = total.map_or_else(|| self.weigh_rows(rows), Ok)?;
        Ok(weighed.map_or(total, |weighed| Total { sum: total.sum, non_finite: total.non_finite, ..weighed }))
    }

    /// Validates every label or target probability, and sums rows and weights of the rows that count.
    fn check_targets(&self, rows: &Rows<'_>) -> Result<Total, Error> {
        #[cfg(feature = "rayon")]
        if self.splits_targets(rows) {
            let (logits, gradient, row_losses, scale) = (None, None, None, GradientScale::Same(0.0));
            let call = Call { logits, gradient, row_losses, scale };
            if let Some(total) = self.in_chunks(rows, call, |loss, rows, _| loss.weigh_rows(rows)) {
                return Ok(total);
            }
        }
        self.weigh_rows(rows)
    }

    /// [`CrossEntropy::check_targets`] on one thread.
    fn weigh_rows(&self, rows: &Rows<'_>) -> Result<Total, Error> {
        let mut weights = Weights::new(rows);
        match rows.targets() {
            Targets::Labels(_) => self.chosen_backend().drive(WeighRows { rows, weights: &mut weights })?,
            Targets::Soft(probabilities) => {
                if let Some(kernel) = self.kernel {
                    (kernel.weigh_soft)(self.chosen_backend(), rows, probabilities, &mut weights);
                }
                // Finite f32 terms have a finite sum in f64, so a finite sum proves every target finite.
                if !weights.weights.total().is_finite() {
                    let is_wrong = |&(index, q): &(usize, &f32)| !q.is_finite() && rows.has_element(index);
                    if let Some((index, _)) = probabilities.iter().enumerate().find(is_wrong) {
                        return Err(Error::NotFinite { argument: Argument::Targets, index });
                    }
                }
            }
            Targets::None => return Ok(Total::default()),
        }
        Ok(weights.total(rows))
    }

    /// Validates shape, weights, targets and options; returns the totals of the rows without losses.
    pub(crate) fn check<'l>(
        &'l self,
        argument: Argument,
        len: usize,
        targets: Targets<'l>,
    ) -> Result<(Rows<'l>, Total), Error> {
        let rows = Rows::new(self.shape, argument, len, targets)?;
        self.check_options(argument, targets)?;
        let total = self.check_targets(&rows)?;
        Ok((rows, total))
    }

    /// Totals of rows with these target probabilities, without their losses.
    pub(crate) fn weigh_targets(&self, probabilities: &[f32]) -> Result<Total, Error> {
        let targets = Targets::Soft(probabilities);
        let rows = Rows::new(self.shape, Argument::Targets, probabilities.len(), targets)?;
        self.check_options(Argument::Logits, targets)?;
        self.check_targets(&rows)
    }

    /// Validates labels and weights of `count` rows without logits; returns their totals without losses.
    pub(crate) fn check_labels_and_weights<'l>(
        &self,
        shape: Shape<'l>,
        count: usize,
        targets: Targets<'l>,
    ) -> Result<(Rows<'l>, Total), Error> {
        let Shape { classes, positions, row_stride, .. } = shape;
        let samples = count.checked_div(positions).unwrap_or(0);
        let sample_stride = row_stride.unwrap_or(classes.saturating_mul(positions));
        let too_long = Error::SizeOverflow { rows: samples, row_stride: sample_stride };
        let len = samples.checked_mul(sample_stride).ok_or(too_long)?;
        let rows = Rows::new(shape, Argument::Logits, len, targets)?;
        let total = self.check_targets(&rows)?;
        Ok((rows, total))
    }

    pub(crate) fn adjustment(&self) -> Adjustment<'a> {
        self.adjustment
    }

    pub(crate) fn terms<'t>(&'t self, targets: Targets<'t>) -> Terms<'t> {
        Terms {
            soft: if let Targets::Soft(probabilities) = targets { Some(probabilities) } else { None },
            smoothing: self.label_smoothing,
            costs: self.costs(),
            label: self.label_options,
        }
    }

    /// The mislabel costs, unless all are zero.
    pub(crate) fn costs(&self) -> Option<&'a [f32]> {
        self.mislabel_costs.filter(|costs| costs.iter().any(|&cost| cost != 0.0))
    }

    /// The same options with the kernel of the terms, which soft targets need.
    pub(crate) const fn with_terms(mut self) -> Self {
        self.kernel = Some(TermKernel::NEW);
        self
    }

    pub(crate) fn divisor(&self, targets: Targets<'_>, total: &Total) -> Result<Divisor, Error> {
        let by_rows = self.mislabel_costs.is_some() || matches!(targets, Targets::Soft(_));
        let default = if by_rows { Reduction::Mean(Denominator::Rows) } else { Reduction::default() };
        Divisor::new(self.denominator, self.reduction.unwrap_or(default), self.zero_denominator, total)
    }

    /// Whether any option is set that [`CrossEntropy::check_options`] looks at: most short calls have none.
    fn has_options(&self) -> bool {
        let are_none = self.label_smoothing == 0.0 && self.label_options.are_none() && self.adjustment.is_none();
        !are_none || self.mislabel_costs.is_some() || self.shape.ignore_index.is_some()
    }

    fn check_options(&self, argument: Argument, targets: Targets<'_>) -> Result<(), Error> {
        if !self.has_options() {
            return Ok(());
        }
        let classes = self.shape.classes;
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::OutOfRange { argument: Argument::LabelSmoothing });
        }
        let label_options = self.label_options.table();
        if let Some(option) = label_options.iter().find(|option| !(option.number.is_finite() && option.number >= 0.0)) {
            return Err(Error::OutOfRange { argument: option.argument });
        }
        let temperature = self.adjustment.temperature;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::OutOfRange { argument: Argument::Temperature });
        }
        if let Some(bias) = self.adjustment.bias {
            check_length(Argument::ClassBias, classes, bias.len())?;
            check_finite(Argument::ClassBias, bias)?;
        }
        if let Some(costs) = self.mislabel_costs {
            check_length(Argument::MislabelCosts, square(classes)?, costs.len())?;
            check_cost(Argument::MislabelCosts, costs)?;
            check_cost(Argument::ClassWeights, self.shape.class_weights.unwrap_or(&[]))?;
            let mut of_truth = costs.iter().step_by(classes.saturating_add(1));
            if let Some(class) = of_truth.position(|&cost| cost != 0.0) {
                return Err(Error::CostOfTruth { class });
            }
        }
        // Options, whether they are set, and whether they need a label.
        let options = [
            (Argument::MislabelCosts, self.mislabel_costs.is_some(), true),
            (Argument::LabelSmoothing, self.label_smoothing != 0.0, false),
        ];
        let options = options
            .into_iter()
            .chain(label_options.map(|option| (option.argument, option.number != 0.0, option.needs_label)))
            .chain([
                (Argument::Temperature, temperature != 1.0, false),
                (Argument::ClassBias, self.adjustment.bias.is_some(), false),
                (Argument::IgnoreIndex, self.shape.ignore_index.is_some(), true),
            ]);
        // `Argument::Gradient` is the gradient with respect to log-probabilities.
        let input = if argument == Argument::Gradient { Argument::LogProbabilities } else { argument };
        for (option, _, needs_label) in options.filter(|(_, is_set, _)| *is_set) {
            if needs_label && matches!(targets, Targets::Soft(_)) {
                return Err(Error::Incompatible { option, with: Argument::Targets });
            }
            let needs_logits = match option {
                Argument::IgnoreIndex => false,
                Argument::MislabelCosts => input != Argument::Probabilities,
                _ => true,
            };
            if needs_logits && input != Argument::Logits {
                return Err(Error::Incompatible { option, with: input });
            }
        }
        Ok(())
    }

    pub(crate) fn chosen_backend(&self) -> Backend {
        self.backend.unwrap_or_else(Backend::active)
    }
}

/// Input and output buffers of one call, and the scale of the gradient.
pub(crate) struct Call<'a> {
    /// `None` if the logits are in `gradient`, and overwritten.
    pub(crate) logits: Option<Logits<'a>>,
    pub(crate) gradient: Option<&'a mut [f32]>,
    pub(crate) row_losses: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

/// Accumulators of the row losses, and of the weights where these have not been summed before.
type Sums<'a> = (&'a mut Tally, Option<&'a mut Weights>);
/// Losses and, if the batch has a gradient, gradients.
type Compute = fn(Backend, Batch<'_>, Terms<'_>, Option<&mut [f32]>, Sums<'_>) -> Result<(), Error>;

/// Kernel of the losses with terms, as function pointers: linked only into programs that set such an option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TermKernel {
    compute: Compute,
    weigh_soft: fn(Backend, &Rows<'_>, &[f32], &mut Weights),
}

// Never inlined: otherwise a program that sets an option would compile the kernel once more.
impl TermKernel {
    pub(crate) const NEW: Self = Self { compute: Self::compute, weigh_soft: Self::weigh_soft };

    #[inline(never)]
    fn compute(
        backend: Backend,
        batch: Batch<'_>,
        terms: Terms<'_>,
        row_losses: Option<&mut [f32]>,
        sums: Sums<'_>,
    ) -> Result<(), Error> {
        if let Some(terms) = terms.of_label_alone() {
            return weighted::<_, true>(backend, batch, terms, row_losses, sums);
        }
        let (tally, weights) = sums;
        backend.drive(TermRows { batch, terms, row_losses, tally, weights })
    }

    #[inline(never)]
    fn weigh_soft(backend: Backend, rows: &Rows<'_>, targets: &[f32], weights: &mut Weights) {
        backend.drive(WeighTargets { rows, targets, weights });
    }
}

fn weighted<L: LabelTerms, const GRADIENT: bool>(
    backend: Backend,
    batch: Batch<'_>,
    terms: L,
    row_losses: Option<&mut [f32]>,
    (tally, weights): Sums<'_>,
) -> Result<(), Error> {
    backend.drive(WeightedRows::<L, GRADIENT> { batch, terms, row_losses, tally, weights })
}
