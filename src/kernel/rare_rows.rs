//! Rows whose excluded sum overflows or almost vanishes, and rows with NaN or infinite logits: the table of the contract.

use super::exp::Reference;
use super::log1p::log1p;
use super::long_rows::{HEADROOM, UNDO_HEADROOM, excluded_sum, first, maximum, position};
use super::pair::{Pair, fast_two_sum, scaled, two_sum};
use super::weighted::weighed;
use crate::backend::vector::{Operation, Vector};

/// How the probability of a row is spread over its classes.
#[derive(Clone, Copy)]
pub(crate) enum Share {
    /// p_i = exp(x_i − shift)·2^(−exponent)·share
    Spread {
        /// Subtracted from the logits first.
        shift: f32,
        /// The power of two of the reference.
        exponent: f32,
        /// What remains of the reference, over 1 + E.
        share: f32,
    },
    /// One class has it all.
    Certain(usize),
    /// A NaN, or infinities that compete.
    Undefined,
}

/// A row that the first path could not finish.
pub(crate) struct RareRow<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) label: usize,
    pub(crate) weight: f32,
}

pub(crate) struct Rare {
    pub(crate) loss: f32,
    pub(crate) share: Share,
}

impl Operation for RareRow<'_> {
    type Output = Rare;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Rare {
        let (largest, any_nan) = maximum(self.row);
        let of_label = self.row.get(self.label).copied().unwrap_or(f32::NAN);
        let Some(index) = position(self.row, largest).filter(|_| !any_nan && largest > f32::NEG_INFINITY) else {
            return Rare { loss: f32::NAN, share: Share::Undefined };
        };
        if largest == f32::INFINITY {
            let tied = self.row.iter().filter(|&&x| x == largest).count() > 1;
            let share = if tied { Share::Undefined } else { Share::Certain(index) };
            let loss = match (of_label == largest, tied) {
                (true, false) => 0.0,
                (true, true) => f32::NAN,
                (false, _) => f32::INFINITY * self.weight,
            };
            return Rare { loss, share };
        }
        let (sum, reference) = excluded_sum(s, self.row, index, largest, HEADROOM);
        let sum = scaled(s, sum, UNDO_HEADROOM);
        let loss = if of_label == f32::NEG_INFINITY {
            f32::INFINITY * self.weight
        } else {
            first(s, loss_from_largest(s, largest, of_label, sum, self.weight))
        };
        Rare { loss, share: share_of_largest(s, &reference, sum) }
    }
}

/// Below this an excluded sum, in units of 2^−`HEADROOM`, may have lost terms: −log p_y is then below the range of f32.
pub(crate) const TINY_SUM: f32 = f32::from_bits((127 - 83) << 23);

/// E = Σ_{k≠y} exp(x_k − x_y) of a row where it is tiny, so that log(1 + E) and E/(1 + E) are E: a weight may bring them
/// back into range.
pub(crate) struct TinyRow<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) label: usize,
}

impl Operation for TinyRow<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> f64 {
        // 2^−(HEADROOM + 127) is a number in f64 only.
        const MORE: f32 = 127.0;
        const UNIT: f64 = f64::from_bits((1023 - 44 - 127) << 52);
        let of_label = self.row.get(self.label).copied().unwrap_or(0.0);
        let sum = excluded_sum(s, self.row, self.label, of_label, HEADROOM + MORE).0;
        (f64::from(first(s, sum.hi)) + f64::from(first(s, sum.lo))) * UNIT
    }
}

/// weight·((x_largest − x_y) + log(1 + E)), in halves, which cannot overflow.
#[inline(always)]
fn loss_from_largest<S: Vector>(s: S, largest: f32, of_label: f32, sum: Pair<S::F>, weight: f32) -> S::F {
    let log = scaled(s, log1p(s, sum), 0.5);
    let gap = two_sum(s, s.splat(largest * 0.5), s.splat(-of_label * 0.5));
    let total = two_sum(s, gap.hi, log.hi);
    let total = fast_two_sum(s, total.hi, s.add(total.lo, s.add(gap.lo, log.lo)));
    weighed(s, total, s.splat(weight), 2.0)
}

#[inline(always)]
fn share_of_largest<S: Vector>(s: S, reference: &Reference<S::F>, sum: Pair<S::F>) -> Share {
    let share = s.div(reference.rest.hi, s.add(s.splat(1.0), sum.hi));
    Share::Spread { shift: first(s, reference.shift), exponent: first(s, reference.exponent), share: first(s, share) }
}
