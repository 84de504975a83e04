//! Reductions of row losses: sums in a fixed order, named denominators.

use core::num::NonZero;
use core::ops::{Index, RangeFull};

use crate::backend::vector::VIRTUAL_LANES;
use crate::error::{Argument, Error, check_finite, check_length};
use crate::kernel::lanes::Lanes;
use crate::kernel::limits::ROWS;

/// Reduction of the row losses: their sum, or their mean over a named denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// Σ over the rows that count.
    Sum,
    /// The sum divided by a denominator.
    Mean(Denominator),
}

impl Default for Reduction {
    /// The mean over the weight sum, as in PyTorch and ONNX for class indices.
    fn default() -> Self {
        Self::Mean(Denominator::WeightSum)
    }
}

/// Denominator of a mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denominator {
    /// Σ w\[y\]·s over the rows that count: PyTorch's and ONNX's `mean` with class indices. With target probabilities
    /// Σ s·Σ_c w\[c\]·q_c.
    WeightSum,
    /// The number of rows that count: a mean written by hand; PyTorch's `mean` with target probabilities; the default
    /// for target probabilities and with mislabel costs.
    Rows,
    /// Σ s, the sum of the sample weights of the rows that count: Keras and scikit-learn.
    SampleWeightSum,
    /// Rows that count times C: a mean over all terms of the real-world-weight loss, as in the code of its authors.
    RowsTimesClasses,
}

/// Result of a mean whose denominator is zero: an empty batch, every row ignored, or weights that sum to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ZeroDenominator {
    /// NaN, as in PyTorch.
    #[default]
    NaN,
    /// Zero, in loss and gradient.
    Zero,
    /// [`Error::ZeroDenominator`].
    Error,
}

/// Reduced loss of a batch, with its sum, denominator and row counts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// `sum / denominator`, rounded.
    pub loss: f32,
    /// The sum of the losses of the rows that count, added in f64 in an order that depends on the shape alone.
    pub sum: f64,
    /// The denominator; 1 for [`Reduction::Sum`].
    pub denominator: f64,
    /// The number of rows that count: those whose label is not the ignored one.
    pub rows: usize,
    /// The number of rows whose loss is NaN or infinite.
    pub non_finite: usize,
    /// Loss sum, row counts and weight sums, to merge with those of other batches.
    pub total: Total,
}

/// Running totals over batches: loss sum, row counts and weight sums, enough for every reduction.
///
/// Plain data of a fixed size, to be stored and sent. Merging is an addition in f64, so another order may round
/// differently. The totals of the chunks of a batch, merged in order, have the bits of the batch's total: see
/// [`CrossEntropy::chunk_rows`](crate::CrossEntropy::chunk_rows).
///
/// ```
/// use rwwce::{CrossEntropy, Reduction, Total, ZeroDenominator};
///
/// let loss = CrossEntropy::new(2);
/// let mut total = Total::default();
/// for (logits, labels) in [([2.0, -1.0, 0.0, 0.0], [0u8, 0]), ([1.0, 0.0, -1.0, 3.0], [0, 1])] {
///     total.merge(&loss.loss(&logits, &labels)?.total);
/// }
/// assert_eq!(total.rows, 4);
/// assert_eq!(total.reduce(Reduction::default(), ZeroDenominator::NaN)?, 0.268_286_53);
/// # Ok::<(), rwwce::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Total {
    /// The sum of the losses of the rows that count.
    pub sum: f64,
    /// See [`Denominator::WeightSum`].
    pub weight_sum: f64,
    /// See [`Denominator::SampleWeightSum`].
    pub sample_weight_sum: f64,
    /// See [`Denominator::Rows`].
    pub rows: u64,
    /// See [`Denominator::RowsTimesClasses`].
    pub rows_times_classes: u64,
    /// The number of rows whose loss is NaN or infinite.
    pub non_finite: u64,
}

impl Total {
    /// Adds the sums and counts of another batch.
    pub fn merge(&mut self, other: &Self) {
        self.sum = canonical(self.sum + other.sum);
        self.weight_sum += other.weight_sum;
        self.sample_weight_sum += other.sample_weight_sum;
        self.rows = self.rows.wrapping_add(other.rows);
        self.rows_times_classes = self.rows_times_classes.wrapping_add(other.rows_times_classes);
        self.non_finite = self.non_finite.wrapping_add(other.non_finite);
    }

    /// Reduced loss of all merged batches.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroDenominator`], if chosen.
    pub fn reduce(&self, reduction: Reduction, zero_denominator: ZeroDenominator) -> Result<f32, Error> {
        Ok(Divisor::new(None, reduction, zero_denominator, self)?.divide(self.sum))
    }

    /// Denominator of a reduction; 1 for [`Reduction::Sum`].
    #[must_use]
    pub fn denominator(&self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean(Denominator::WeightSum) => self.weight_sum,
            Reduction::Mean(Denominator::Rows) => self.rows as f64,
            Reduction::Mean(Denominator::SampleWeightSum) => self.sample_weight_sum,
            Reduction::Mean(Denominator::RowsTimesClasses) => self.rows_times_classes as f64,
        }
    }
}

/// Denominator of one call, and its inverse.
#[derive(Clone, Copy)]
pub(crate) struct Divisor {
    denominator: f64,
    /// 1 / denominator; 0 or NaN for a denominator of zero, as the policy says.
    inverse: f64,
}

impl Divisor {
    /// The denominator `given` by the caller, or that of the reduction.
    pub(crate) fn new(
        given: Option<f64>,
        reduction: Reduction,
        policy: ZeroDenominator,
        counts: &Total,
    ) -> Result<Self, Error> {
        let denominator = given.unwrap_or(counts.denominator(reduction));
        let inverse = match policy {
            _ if given.is_some_and(|given| !given.is_finite()) => {
                return Err(Error::OutOfRange { argument: Argument::Denominator });
            }
            _ if denominator != 0.0 => bounded(1.0 / denominator),
            ZeroDenominator::NaN => f64::NAN,
            ZeroDenominator::Zero => 0.0,
            ZeroDenominator::Error => return Err(Error::ZeroDenominator),
        };
        Ok(Self { denominator, inverse })
    }

    fn divide(&self, sum: f64) -> f32 {
        if self.denominator != 0.0 {
            (sum / self.denominator) as f32
        } else if self.inverse == 0.0 {
            0.0
        } else {
            f32::NAN
        }
    }

    /// Reduces the totals of all rows.
    pub(crate) fn summary(&self, total: Total) -> Summary {
        Summary {
            loss: self.divide(total.sum),
            sum: total.sum,
            denominator: self.denominator,
            rows: total.rows as usize,
            non_finite: total.non_finite as usize,
            total,
        }
    }
}

/// The constant NaN for a NaN: sign and payload of a computed one depend on the processor.
pub(crate) fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x }
}

/// `scale`, bounded so that its product with two weights and 1 / temperature, and so 0 times it, is finite.
fn bounded(scale: f64) -> f64 {
    const MOST: f64 = 1e186;
    scale.clamp(-MOST, MOST)
}

/// Upstream gradient of the chain rule: one factor for the reduced loss, or one factor per row.
///
/// A scalar is the derivative with respect to the *reduced* loss: the gradient is divided by the denominator of the
/// mean, as the loss is. A slice `[N, D]` holds the derivatives with respect to the loss of each *row* (PyTorch's
/// `reduction="none"`): nothing is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Upstream<'a> {
    /// With respect to the reduced loss.
    Loss(f32),
    /// With respect to the loss of each row.
    Rows(&'a [f32]),
}

impl From<f32> for Upstream<'_> {
    fn from(factor: f32) -> Self {
        Self::Loss(factor)
    }
}

/// From references to slices, arrays, vectors, and all other types that `[..]` makes a slice of.
impl<'a, T> From<&'a T> for Upstream<'a>
where
    T: Index<RangeFull, Output = [f32]> + ?Sized,
{
    fn from(factors: &'a T) -> Self {
        Self::Rows(&factors[..])
    }
}

/// Factor of each row's gradient, apart from its weights: upstream / denominator, or one upstream factor per row.
#[derive(Clone, Copy)]
pub(crate) enum GradientScale<'a> {
    Same(f64),
    Rows(&'a [f32]),
}

impl<'a> GradientScale<'a> {
    pub(crate) fn check(upstream: Upstream<'a>, divisor: &Divisor, rows: usize) -> Result<Self, Error> {
        match upstream {
            Upstream::Loss(factor) => {
                check_finite(Argument::Upstream, &[factor])?;
                Ok(Self::Same(bounded(f64::from(factor) * divisor.inverse)))
            }
            Upstream::Rows(factors) => {
                check_length(Argument::Upstream, rows, factors.len())?;
                check_finite(Argument::Upstream, factors)?;
                Ok(Self::Rows(factors))
            }
        }
    }

    /// The factors of the first `rows` rows, and those of the other rows.
    #[cfg(feature = "rayon")]
    pub(crate) fn split_at(self, rows: usize) -> (Self, Self) {
        match self {
            Self::Same(scale) => (Self::Same(scale), Self::Same(scale)),
            Self::Rows(factors) => {
                let (factors, others) = crate::slices::split(factors, rows);
                (Self::Rows(factors), Self::Rows(others))
            }
        }
    }

    #[inline(always)]
    pub(crate) fn of_row(&self, row: usize) -> f64 {
        match self {
            Self::Same(factor) => *factor,
            Self::Rows(factors) => factors.get(row).map_or(0.0, |&factor| f64::from(factor)),
        }
    }
}

/// Sum of f64 over rows, in a fixed order. Within a chunk, the value of row i is added to lane i % [`VIRTUAL_LANES`],
/// or values of several rows to the lanes of their classes; at its end the lanes are added by [`sum_of_lanes`], and the
/// sums of the chunks are added in order. So chunks may be summed apart, and their sums merged in the order of the
/// rows.
pub(crate) struct RowSum {
    lanes: [f64; VIRTUAL_LANES],
    /// Sum of the earlier chunks; `start` is the first row of the present chunk.
    before: f64,
    start: usize,
    chunk: NonZero<usize>,
}

impl RowSum {
    /// An empty sum of rows in chunks of `chunk` rows.
    pub(crate) const fn new(chunk: NonZero<usize>) -> Self {
        Self { lanes: [0.0; VIRTUAL_LANES], before: 0.0, start: 0, chunk }
    }

    /// Adds the value of a row; rows come in ascending order.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, number: f64) {
        let index = self.index_in_chunk(row);
        if let Some(lane) = self.lanes.get_mut(index % VIRTUAL_LANES) {
            *lane += number;
        }
    }

    /// Adds sums of values of consecutive rows, from row `first` on, all of one chunk.
    #[inline(always)]
    pub(crate) fn add_lanes(&mut self, first: usize, numbers: &[f64; VIRTUAL_LANES]) {
        self.index_in_chunk(first);
        for (lane, number) in self.lanes.iter_mut().zip(numbers) {
            *lane += number;
        }
    }

    /// Index of a row in its chunk, which becomes the present chunk.
    #[inline(always)]
    fn index_in_chunk(&mut self, row: usize) -> usize {
        let mut index = row.wrapping_sub(self.start);
        if index >= self.chunk.get() {
            self.end_chunk(row.wrapping_sub(index % self.chunk));
            index %= self.chunk;
        }
        index
    }

    #[cold]
    #[inline(never)]
    fn end_chunk(&mut self, next: usize) {
        (self.before, self.lanes, self.start) = (self.total(), [0.0; VIRTUAL_LANES], next);
    }

    /// Adds the values of blocks of rows of one chunk, from row `first` on; values past the last row are 0.
    #[inline(always)]
    pub(crate) fn add_blocks<B>(&mut self, first: usize, blocks: &mut [B], numbers_of: impl Fn(&mut B) -> Lanes<f64>) {
        if ROWS < VIRTUAL_LANES {
            for (block, first) in blocks.iter_mut().zip((first..).step_by(ROWS)) {
                for (index, number) in (first..).zip(numbers_of(block)) {
                    self.add(index, number);
                }
            }
            return;
        }
        // Rotated so that row `first` belongs to lane 0.
        let turn = self.index_in_chunk(first) % VIRTUAL_LANES;
        if turn > 0 {
            turn_left(&mut self.lanes, turn);
        }
        // A local copy stays in registers.
        let mut lanes = self.lanes;
        for block in blocks {
            for (lane, number) in lanes.iter_mut().zip(&numbers_of(block)) {
                *lane += number;
            }
        }
        self.lanes = lanes;
        if turn > 0 {
            turn_left(&mut self.lanes, VIRTUAL_LANES.wrapping_sub(turn));
        }
    }

    /// Whether all partial sums are finite.
    #[inline(always)]
    pub(crate) fn is_finite(&self) -> bool {
        self.lanes.iter().fold(self.before.is_finite(), |all, lane| all & lane.is_finite())
    }

    #[inline(always)]
    pub(crate) fn total(&self) -> f64 {
        self.before + sum_of_lanes(self.lanes)
    }
}

/// Horizontal sum: the upper half of the lanes is added to the lower half until one lane is left.
#[inline(always)]
pub(crate) fn sum_of_lanes(mut lanes: [f64; VIRTUAL_LANES]) -> f64 {
    let mut width = VIRTUAL_LANES / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        for (a, b) in low.iter_mut().zip(high) {
            *a += *b;
        }
        width /= 2;
    }
    let [sum, ..] = lanes;
    sum
}

/// The sum of three rows, as [`RowSum`] has it: +0 for −0.
#[inline(always)]
pub(crate) fn sum_of_three([a, b, c]: [f64; 3]) -> f64 {
    0.0 + ((a + c) + b)
}

/// Rotates the lanes: lane `by` becomes lane 0.
#[inline(never)]
fn turn_left(lanes: &mut [f64; VIRTUAL_LANES], by: usize) {
    let given = *lanes;
    let (last, first) = given.split_at_checked(by).unwrap_or_default();
    for (lane, given) in lanes.iter_mut().zip(first.iter().chain(last)) {
        *lane = *given;
    }
}

/// Sum of the row losses, and the number of those that are not finite.
pub(crate) struct Tally {
    pub(crate) sum: RowSum,
    pub(crate) non_finite: usize,
}

impl Tally {
    pub(crate) const fn new(chunk: NonZero<usize>) -> Self {
        Self { sum: RowSum::new(chunk), non_finite: 0 }
    }

    /// The totals `of_weights` with the sum and the count of the losses.
    pub(crate) fn total(&self, of_weights: &Total) -> Total {
        Total { sum: canonical(self.sum.total()), non_finite: self.non_finite as u64, ..*of_weights }
    }

    /// Adds the loss of a row.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, loss: f32) {
        self.sum.add(row, f64::from(loss));
        self.count(&[loss]);
    }

    /// Counts the losses that are not finite.
    #[inline(always)]
    pub(crate) fn count<'a>(&mut self, losses: impl IntoIterator<Item = &'a f32>) {
        let count = losses.into_iter().filter(|loss| !loss.is_finite()).count();
        self.non_finite = self.non_finite.saturating_add(count);
    }
}
