//! From the losses of the rows to one number: sums in a fixed shape, named denominators.

use crate::error::{Argument, Error};
use crate::kernel::VIRTUAL_LANES;
use crate::problem::{check_finite, check_length};

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
    /// Σ w\[y\] over the rows that count: PyTorch's and ONNX's `mean` with class indices.
    WeightSum,
    /// The number of rows that count: a mean written by hand.
    Rows,
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
    /// The sum of the losses of the rows that count, added in f64 in an order that depends on their number alone.
    pub sum: f64,
    /// What the sum is divided by; 1 for [`Reduction::Sum`].
    pub denominator: f64,
    /// The number of rows that count: those whose label is not the ignored one.
    pub rows: usize,
    /// The number of rows whose loss is NaN or infinite.
    pub non_finite: usize,
}

/// The reduction of one call, its denominator known.
#[derive(Clone, Copy)]
pub(crate) struct Divisor {
    denominator: f64,
    /// What stands for 1 / denominator.
    inverse: f64,
    rows: usize,
}

impl Divisor {
    pub(crate) fn new(
        reduction: Reduction,
        policy: ZeroDenominator,
        rows: usize,
        weight_sum: f64,
    ) -> Result<Self, Error> {
        let denominator = match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean(Denominator::WeightSum) => weight_sum,
            Reduction::Mean(Denominator::Rows) => rows as f64,
        };
        let inverse = match policy {
            _ if denominator != 0.0 => 1.0 / denominator,
            ZeroDenominator::NaN => f64::NAN,
            ZeroDenominator::Zero => 0.0,
            ZeroDenominator::Error => return Err(Error::ZeroDenominator),
        };
        Ok(Self { denominator, inverse, rows })
    }

    pub(crate) fn summary(&self, tally: &Tally) -> Summary {
        let sum = tally.sum.total();
        let loss = if self.denominator != 0.0 {
            sum / self.denominator
        } else if self.inverse == 0.0 {
            0.0
        } else {
            f64::NAN
        };
        Summary { loss: loss as f32, sum, denominator: self.denominator, rows: self.rows, non_finite: tally.non_finite }
    }
}

/// What the gradient is multiplied by, as the chain rule has it.
///
/// A number is the derivative of something with respect to the *reduced* loss: the gradient is divided by the
/// denominator of the mean as the loss is. A slice `[N]` holds the derivatives with respect to the loss of each *row*
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

    #[inline(always)]
    pub(crate) fn of_row(&self, row: usize) -> f64 {
        match self {
            Self::Same(factor) => *factor,
            Self::Rows(factors) => factors.get(row).map_or(0.0, |&factor| f64::from(factor)),
        }
    }
}

/// A sum of f64 whose shape is fixed: number i belongs to lane i % `VIRTUAL_LANES`; lanes are halved at the end.
pub(crate) struct LaneSum([f64; VIRTUAL_LANES]);

impl LaneSum {
    pub(crate) const fn new() -> Self {
        Self([0.0; VIRTUAL_LANES])
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, index: usize, number: f64) {
        if let Some(lane) = self.0.get_mut(index % VIRTUAL_LANES) {
            *lane += number;
        }
    }

    pub(crate) fn total(&self) -> f64 {
        let mut lanes = self.0;
        let mut width = VIRTUAL_LANES;
        while width > 1 {
            width /= 2;
            let (low, high) = lanes.split_at_mut(width);
            for (a, b) in low.iter_mut().zip(high) {
                *a += *b;
            }
        }
        lanes[0]
    }
}

/// What the rows add up to.
pub(crate) struct Tally {
    sum: LaneSum,
    non_finite: usize,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { sum: LaneSum::new(), non_finite: 0 }
    }

    /// Adds the losses of the rows from `first` on.
    #[inline(always)]
    pub(crate) fn add(&mut self, first: usize, losses: &[f32]) {
        for (row, &loss) in (first..).zip(losses) {
            self.sum.add(row, f64::from(loss));
            self.non_finite += usize::from(!loss.is_finite());
        }
    }
}
