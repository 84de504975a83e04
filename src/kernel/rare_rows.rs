//! Rows whose excluded sum overflows or almost vanishes, and rows with NaN or infinite logits: the table of the contract.

use super::exp::Reference;
use super::log1p::log1p;
use super::long_rows::{HEADROOM, UNDO_HEADROOM, count, excluded_sum, maximum, position};
use super::one_row::Elements;
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
        share: f64,
    },
    /// One class has it all.
    Certain(usize),
    /// A NaN, or infinities that compete.
    Undefined,
}

/// A row that the first path could not finish.
pub(crate) struct RareRow<X> {
    pub(crate) row: X,
    pub(crate) label: usize,
}

pub(crate) struct Rare {
    /// Half of x_m − x_y, which cannot overflow, for the largest logit m. Or half of the loss where that is 0, infinite or
    /// NaN.
    pub(crate) half_gap: Pair<f32>,
    /// Σ_{k≠m} exp(x_k − x_m); 0 where no logit is the largest of finite ones.
    pub(crate) sum: Pair<f32>,
    spread: Spread,
}

/// What [`Share`] a row has.
#[derive(Clone, Copy)]
enum Spread {
    /// As far as the logits are below that of this class.
    From(usize),
    Certain(usize),
    Undefined,
}

impl<X: Elements> Operation for RareRow<X> {
    type Output = Rare;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Rare {
        let nothing = Pair { hi: 0.0, lo: 0.0 };
        let rare = |loss, sum, spread| Rare { half_gap: Pair { hi: loss, lo: 0.0 }, sum, spread };
        let (largest, any_nan) = maximum(s, self.row);
        let of_label = self.row.get(self.label).unwrap_or(f32::NAN);
        let Some(index) = position(s, self.row, largest).filter(|_| !any_nan && largest > f32::NEG_INFINITY) else {
            return rare(f32::NAN, nothing, Spread::Undefined);
        };
        if largest == f32::INFINITY {
            let tied = count(self.row, largest) > 1;
            let spread = if tied { Spread::Undefined } else { Spread::Certain(index) };
            let loss = match (of_label == largest, tied) {
                (true, false) => 0.0,
                (true, true) => f32::NAN,
                (false, _) => f32::INFINITY,
            };
            return rare(loss, nothing, spread);
        }
        let sum = scaled(s.lane(), excluded_sum(s, self.row, index, HEADROOM), UNDO_HEADROOM);
        if of_label == f32::NEG_INFINITY {
            return rare(f32::INFINITY, sum, Spread::From(index));
        }
        Rare { half_gap: two_sum(s.lane(), largest * 0.5, -of_label * 0.5), sum, spread: Spread::From(index) }
    }
}

impl Rare {
    /// How the probability of this row is spread over its classes.
    #[inline(always)]
    pub(crate) fn share<S: Vector>(&self, s: S, row: &[f32]) -> Share {
        match self.spread {
            Spread::From(largest) => {
                let reference = Reference::new(s.lane(), row.get(largest).copied().unwrap_or(0.0));
                let in_f64 = |of: Pair<f32>| f64::from(of.hi) + f64::from(of.lo);
                let share = in_f64(reference.rest) / (1.0 + in_f64(self.sum));
                Share::Spread { shift: reference.shift, exponent: reference.exponent, share }
            }
            Spread::Certain(class) => Share::Certain(class),
            Spread::Undefined => Share::Undefined,
        }
    }
}

/// Half of −log p of the label of a [`RareRow`], whose sum has this logarithm of 1 + it.
#[inline(always)]
pub(crate) fn half_loss<S: Vector<F = f32>>(s: S, half_gap: Pair<f32>, log1p: Pair<f32>) -> Pair<f32> {
    if !half_gap.hi.is_finite() {
        return half_gap;
    }
    let log = scaled(s, log1p, 0.5);
    let total = two_sum(s, half_gap.hi, log.hi);
    fast_two_sum(s, total.hi, total.lo + (half_gap.lo + log.lo))
}

/// weight·(−log p) of the label of a [`RareRow`].
#[inline(always)]
pub(crate) fn rare_loss<S: Vector<F = f32, U = u32, M = bool>>(s: S, rare: &Rare, weight: f32) -> f32 {
    let half_loss = half_loss(s, rare.half_gap, log1p(s, rare.sum));
    // One NaN for all, whatever a processor makes of one that is multiplied.
    if half_loss.hi.is_nan() { f32::NAN } else { weighed(s, half_loss, weight, 2.0) }
}

/// Below this an excluded sum, in units of 2^−`HEADROOM`, may have lost terms: −log p_y is then below the range of f32.
pub(crate) const TINY_SUM: f32 = f32::from_bits((127 - 83) << 23);

/// E = Σ_{k≠y} exp(x_k − x_y) of a row where it is tiny, so that log(1 + E) and E/(1 + E) are E: a weight may bring them
/// back into range. In units of 2^−171, which are a number in f64 only.
pub(crate) struct TinyRow<X> {
    pub(crate) row: X,
    pub(crate) label: usize,
}

/// What is added to `HEADROOM` to that end.
const MORE_HEADROOM: f32 = 127.0;
const _: () = assert!(HEADROOM + MORE_HEADROOM == 171.0);

impl<X: Elements> Operation for TinyRow<X> {
    type Output = Pair<f32>;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Pair<f32> {
        excluded_sum(s, self.row, self.label, HEADROOM + MORE_HEADROOM)
    }
}

/// The sum of a [`TinyRow`] as one number.
#[inline(always)]
pub(crate) fn tiny_sum_in_f64(sum: Pair<f32>) -> f64 {
    (f64::from(sum.hi) + f64::from(sum.lo)) * f64::from_bits((1023 - 171) << 52)
}

/// Value, weight and unit whose product is weight·E, for the sum E of a [`TinyRow`].
#[inline(always)]
pub(crate) fn tiny_parts<S: Vector<F = f32>>(s: S, sum: Pair<f32>, weight: f32) -> (Pair<f32>, f32, f32) {
    // The unit in two parts: one for whichever factor is large, since the product must not underflow on the way.
    const PART: f32 = f32::from_bits((127 - 85) << 23);
    const REST: f32 = f32::from_bits((127 - 86) << 23);
    if sum.hi < 1.0 { (sum, weight * PART, REST) } else { (scaled(s, sum, PART), weight, REST) }
}
