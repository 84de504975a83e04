//! From the losses of the rows to one number: sums in a fixed shape, named denominators.

use core::num::NonZero;

use crate::backend::vector::VIRTUAL_LANES;
use crate::error::{Argument, Error, check_finite, check_length};
use crate::kernel::lanes::Lanes;
use crate::kernel::limits::ROWS;

/// How the losses of the rows become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// Σ over the rows that count.
    Sum,
    /// The sum over a denominator.
    Mean(Denominator),
}

impl Default for Reduction {
    /// The mean over the weight sum, as PyTorch and ONNX have it for class indices.
    fn default() -> Self {
        Self::Mean(Denominator::WeightSum)
    }
}

/// What a mean divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denominator {
    /// Σ w\[y\]·s over the rows that count: PyTorch's and ONNX's `mean` with class indices. With target probabilities
    /// Σ s·Σ_c w\[c\]·q_c.
    WeightSum,
    /// The number of rows that count: a mean written by hand; PyTorch's `mean` with target probabilities; the
    /// default there and where there are mislabel costs.
    Rows,
    /// Σ s, the sum of the sample weights of the rows that count: Keras and scikit-learn.
    SampleWeightSum,
    /// The number of rows that count times that of classes: a mean over all terms of the real-world-weight loss, as
    /// the code of its authors has it.
    RowsTimesClasses,
}

/// What a mean is when its denominator is zero: an empty batch, every row ignored, weights that add up to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ZeroDenominator {
    /// NaN, as in PyTorch.
    #[default]
    NaN,
    /// Zero, loss and gradient.
    Zero,
    /// [`Error::ZeroDenominator`].
    Error,
}

/// The loss of a batch, and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// `sum / denominator`, rounded.
    pub loss: f32,
    /// The sum of the losses of the rows that count, added in f64 in an order that depends on the shape alone.
    pub sum: f64,
    /// What the sum is divided by; 1 for [`Reduction::Sum`].
    pub denominator: f64,
    /// The number of rows that count: those whose label is not the ignored one.
    pub rows: usize,
    /// The number of rows whose loss is NaN or infinite.
    pub non_finite: usize,
    /// What batches add up to.
    pub total: Total,
}

/// A running total over batches: what each of them adds to the sum and to every denominator.
///
/// Plain data of a fixed size, so that it can be stored and sent. Merging is an addition in f64, so totals that are
/// merged in another order may differ by its rounding. Those of the chunks of a batch, merged in their order, are that of the
/// batch in its bits: see [`CrossEntropy::chunk_rows`](crate::CrossEntropy::chunk_rows).
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
    /// Adds another total to this one.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.weight_sum += other.weight_sum;
        self.sample_weight_sum += other.sample_weight_sum;
        self.rows = self.rows.wrapping_add(other.rows);
        self.rows_times_classes = self.rows_times_classes.wrapping_add(other.rows_times_classes);
        self.non_finite = self.non_finite.wrapping_add(other.non_finite);
    }

    /// The loss of everything that was merged.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroDenominator`] where that was asked for.
    pub fn reduce(&self, reduction: Reduction, zero_denominator: ZeroDenominator) -> Result<f32, Error> {
        Ok(Divisor::new(reduction, zero_denominator, self)?.divide(self.sum))
    }

    /// What a reduction divides by.
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

/// The reduction of one call, its denominator known.
#[derive(Clone, Copy)]
pub(crate) struct Divisor {
    denominator: f64,
    /// What stands for 1 / denominator.
    inverse: f64,
}

impl Divisor {
    pub(crate) fn new(reduction: Reduction, policy: ZeroDenominator, counts: &Total) -> Result<Self, Error> {
        Self::of(counts.denominator(reduction), policy)
    }

    /// Of the denominator that is given, if there is one.
    pub(crate) fn chosen(
        given: Option<f64>,
        reduction: Reduction,
        policy: ZeroDenominator,
        counts: &Total,
    ) -> Result<Self, Error> {
        match given {
            None => Self::new(reduction, policy, counts),
            Some(denominator) if denominator.is_finite() => Self::of(denominator, policy),
            Some(_) => Err(Error::OutOfRange { argument: Argument::Denominator }),
        }
    }

    fn of(denominator: f64, policy: ZeroDenominator) -> Result<Self, Error> {
        let inverse = match policy {
            _ if denominator != 0.0 => 1.0 / denominator,
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

    /// The summary of all rows.
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

/// What the gradient is multiplied by, as the chain rule has it.
///
/// A number is the derivative of something with respect to the *reduced* loss: the gradient is divided by the
/// denominator of the mean as the loss is. A slice `[N, D]` holds the derivatives with respect to the loss of each *row*
/// (the reduction "none" of other libraries): nothing is divided.
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

impl<'a> From<&'a [f32]> for Upstream<'a> {
    fn from(factors: &'a [f32]) -> Self {
        Self::Rows(factors)
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Upstream<'a> {
    fn from(factors: &'a [f32; N]) -> Self {
        Self::Rows(factors)
    }
}

/// What each row's gradient is multiplied by, its weight apart.
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
                Ok(Self::Same(f64::from(factor) * divisor.inverse))
            }
            Upstream::Rows(factors) => {
                check_length(Argument::Upstream, rows, factors.len())?;
                check_finite(Argument::Upstream, factors)?;
                Ok(Self::Rows(factors))
            }
        }
    }

    /// Those of the first rows, and of the others.
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

/// A sum of f64 over rows, whose shape is fixed. Rows come in chunks. Within one, number i belongs to lane
/// i % [`VIRTUAL_LANES`], and lanes are halved at its end; the sums of the chunks are added one after the other. So chunks
/// may be added up apart, and their sums in the order of the rows.
pub(crate) struct RowSum {
    lanes: [f64; VIRTUAL_LANES],
    /// The sum of the chunks before this one, and its first row.
    before: f64,
    start: usize,
    chunk: NonZero<usize>,
}

impl RowSum {
    /// None yet, of rows in chunks of so many.
    pub(crate) const fn new(chunk: NonZero<usize>) -> Self {
        Self { lanes: [0.0; VIRTUAL_LANES], before: 0.0, start: 0, chunk }
    }

    /// Adds the number of a row that comes after those before.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, number: f64) {
        let index = self.index_in_chunk(row);
        if let Some(lane) = self.lanes.get_mut(index % VIRTUAL_LANES) {
            *lane += number;
        }
    }

    /// The number of a row in its chunk, which becomes the present one.
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

    /// Adds the numbers of blocks of rows of one chunk, from `first` on, which are 0 after the last.
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
        // Where the first number is not for the first lane, the lanes are turned.
        let turn = self.index_in_chunk(first) % VIRTUAL_LANES;
        if turn > 0 {
            turn_left(&mut self.lanes, turn);
        }
        // A copy, which stays in registers.
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

    /// Whether all numbers were finite.
    #[inline(always)]
    pub(crate) fn is_finite(&self) -> bool {
        self.lanes.iter().fold(self.before.is_finite(), |all, lane| all & lane.is_finite())
    }

    #[inline(always)]
    pub(crate) fn total(&self) -> f64 {
        self.before + halved(self.lanes)
    }
}

/// The sum of lanes, the two halves of which are added until one lane is left.
#[inline(always)]
pub(crate) fn halved(mut lanes: [f64; VIRTUAL_LANES]) -> f64 {
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

/// Lane `by` becomes the first, and so on, round.
#[inline(never)]
fn turn_left(lanes: &mut [f64; VIRTUAL_LANES], by: usize) {
    let given = *lanes;
    let (last, first) = given.split_at_checked(by).unwrap_or_default();
    for (lane, given) in lanes.iter_mut().zip(first.iter().chain(last)) {
        *lane = *given;
    }
}

/// What the losses of the rows add up to.
pub(crate) struct Tally {
    pub(crate) sum: RowSum,
    pub(crate) non_finite: usize,
}

impl Tally {
    pub(crate) const fn new(chunk: NonZero<usize>) -> Self {
        Self { sum: RowSum::new(chunk), non_finite: 0 }
    }

    /// What rows with these weights add up to.
    pub(crate) fn total(&self, of_weights: &Total) -> Total {
        Total { sum: self.sum.total(), non_finite: self.non_finite as u64, ..*of_weights }
    }

    /// Adds the loss of a row.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, loss: f32) {
        self.sum.add(row, f64::from(loss));
        self.count(&[loss]);
    }

    /// Counts those of some losses that are not finite.
    #[inline(always)]
    pub(crate) fn count<'a>(&mut self, losses: impl IntoIterator<Item = &'a f32>) {
        let count = losses.into_iter().filter(|loss| !loss.is_finite()).count();
        self.non_finite = self.non_finite.saturating_add(count);
    }
}
