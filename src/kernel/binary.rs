//! The binary loss −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)) and its gradient, logit by logit.
//!
//! With E = exp(−|z|) the smaller of σ(z) and 1 − σ(z) is E/(1 + E), the larger 1/(1 + E), and −log σ(z) =
//! max(−z, 0) + log(1 + E): nothing is subtracted.

use core::num::NonZero;

use super::exp::{Exp, Scale};
use super::log1p::log1p;
use super::long_rows::{HEADROOM, UNDO_HEADROOM};
use super::pair::{self, Pair, magnitude, scaled};
use super::weighted::weighed;
use super::{VIRTUAL_LANES, copy, part, part_mut};
use crate::backend::vector::{Operation, Vector};
use crate::logits::Logits;
use crate::reduction::{GradientScale, Tally};

/// What mistakes cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BinaryCosts<'a> {
    /// `[L]`
    pub(crate) misses: Option<&'a [f32]>,
    /// `[L]`
    pub(crate) false_alarms: Option<&'a [f32]>,
    /// `[N, L]`
    pub(crate) samples: Option<&'a [f32]>,
}

impl BinaryCosts<'_> {
    /// The cost of a miss and of a false alarm.
    #[inline(always)]
    pub(crate) fn of_label(&self, label: usize) -> (f32, f32) {
        let of = |costs: Option<&[f32]>| costs.map_or(1.0, |costs| costs.get(label).copied().unwrap_or(0.0));
        (of(self.misses), of(self.false_alarms))
    }

    #[inline(always)]
    pub(crate) fn sample(&self, index: usize) -> f32 {
        self.samples.map_or(1.0, |samples| samples.get(index).copied().unwrap_or(0.0))
    }
}

/// The loss of every logit, and its gradient where there is room for one. Everything has been validated.
pub(crate) struct BinaryElements<'a> {
    pub(crate) labels: NonZero<usize>,
    pub(crate) costs: &'a BinaryCosts<'a>,
    /// The logits, unless the gradient is written over them.
    pub(crate) logits: Option<Logits<'a>>,
    pub(crate) targets: &'a [f32],
    pub(crate) gradient: Option<&'a mut [f32]>,
    pub(crate) row_losses: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

impl Operation for BinaryElements<'_> {
    type Output = Tally;

    #[inline(always)]
    fn run<S: Vector>(mut self, s: S) -> Tally {
        let mut tally = Tally::new();
        let term = Exp::new(s, Scale { shift: 0.0, power: HEADROOM });
        let mut at = 0;
        while at < self.targets.len() {
            let count = S::LANES.min(self.targets.len() - at);
            let lanes = self.lanes(at, count);
            let element = Element::new(s, &term, &lanes);
            let mut losses = [0.0; VIRTUAL_LANES];
            s.store(element.loss(s), &mut losses, 0);
            if lanes.any_weight_vanishes || any_lost(s, &element.weights) {
                losses = self.stakes().losses_in_f64(at, lanes.logits, losses);
            }
            tally.add(at, part(&losses, 0, count));
            if let Some(out) = self.row_losses.as_deref_mut() {
                copy(part_mut(out, at, count), &losses);
            }
            if self.gradient.is_some() {
                let mut slopes = [0.0; VIRTUAL_LANES];
                s.store(element.gradient(s), &mut slopes, 0);
                if lanes.any_slope_vanishes || any_lost(s, &element.slopes) {
                    slopes = self.stakes().slopes_in_f64(at, lanes.logits, slopes);
                }
                copy(part_mut(self.gradient.as_deref_mut().unwrap_or(&mut []), at, count), &slopes);
            }
            at += count;
        }
        tally
    }
}

/// The arguments of a few logits.
struct Lanes {
    logits: [f32; VIRTUAL_LANES],
    /// s·fn·t, s·fp·(1 − t)
    weights: [[f32; VIRTUAL_LANES]; 2],
    /// The same times upstream factor and denominator of the mean.
    slopes: [[f32; VIRTUAL_LANES]; 2],
    /// Whether one of the weights, or of the slopes, is too small for f32.
    any_weight_vanishes: bool,
    any_slope_vanishes: bool,
}

/// Weights that leave f32 enough: times them, an exponential that vanishes in spite of its headroom is nothing beside what
/// the other side weighs, or beside the smallest normal number.
const HELD: core::ops::RangeInclusive<f64> = 1e-30..=1e12;

/// Whether f32 cannot work with a product of weights, although what it weighs may bring it back.
#[inline(always)]
fn is_lost(weight: f64) -> bool {
    (weight != 0.0) & !HELD.contains(&weight.abs())
}

/// [`is_lost`] of any, but for those that have become 0.
#[inline(always)]
fn any_lost<S: Vector>(s: S, weights: &[S::F; 2]) -> bool {
    s.any_bit(s.or_bits(s.to_bits(lost(s, weights[0])), s.to_bits(lost(s, weights[1]))))
}

/// 1 where [`is_lost`].
#[inline(always)]
fn lost<S: Vector>(s: S, weight: S::F) -> S::F {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let size = magnitude(s, weight);
    let lost = s.select(s.less(size, s.splat(*HELD.end() as f32)), zero, one);
    let lost = s.select(s.less(s.splat(*HELD.start() as f32), size), lost, one);
    s.select(s.equal(size, zero), zero, lost)
}

/// What is at stake at each logit.
#[derive(Clone, Copy)]
struct Stakes<'a> {
    costs: BinaryCosts<'a>,
    targets: &'a [f32],
    labels: NonZero<usize>,
    scale: GradientScale<'a>,
}

impl Stakes<'_> {
    /// s·fn·t and s·fp·(1 − t)
    #[inline(always)]
    fn weights(&self, index: usize, label: usize) -> [f64; 2] {
        let (miss, false_alarm) = self.costs.of_label(label);
        let target = f64::from(self.targets.get(index).copied().unwrap_or(0.0));
        let sample = f64::from(self.costs.sample(index));
        [sample * (f64::from(miss) * target), sample * (f64::from(false_alarm) * (1.0 - target))]
    }

    /// The same times upstream factor and denominator of the mean, which may be zero.
    #[inline(always)]
    fn slopes(&self, index: usize, weights: [f64; 2]) -> [f64; 2] {
        let factor = self.scale.of_row(index);
        let [miss, false_alarm] = weights;
        [if miss == 0.0 { 0.0 } else { miss * factor }, if false_alarm == 0.0 { 0.0 } else { false_alarm * factor }]
    }

    /// The losses from `at` on that f32 cannot reach. With all of its arguments by value, since what something else may
    /// refer to stays in memory.
    #[cold]
    fn losses_in_f64(
        self,
        at: usize,
        logits: [f32; VIRTUAL_LANES],
        mut losses: [f32; VIRTUAL_LANES],
    ) -> [f32; VIRTUAL_LANES] {
        for (index, (loss, z)) in (at..).zip(losses.iter_mut().zip(logits)) {
            let weights = self.weights(index, index % self.labels);
            if weights.into_iter().any(is_lost) {
                let z = f64::from(z);
                // 0·∞ = 0
                let weighed = |weight: f64, z: f64| {
                    if weight == 0.0 { 0.0 } else { weight * (libm::log1p(libm::exp(-z.abs())) + (-z).max(0.0)) }
                };
                let sum = weighed(weights[0], z) + weighed(weights[1], -z);
                *loss = if z.is_nan() { f32::NAN } else { sum as f32 };
            }
        }
        losses
    }

    /// The elements of the gradient from `at` on that f32 cannot reach.
    #[cold]
    fn slopes_in_f64(
        self,
        at: usize,
        logits: [f32; VIRTUAL_LANES],
        mut slopes: [f32; VIRTUAL_LANES],
    ) -> [f32; VIRTUAL_LANES] {
        for (index, (slope, z)) in (at..).zip(slopes.iter_mut().zip(logits)) {
            let [miss, false_alarm] = self.slopes(index, self.weights(index, index % self.labels));
            if is_lost(miss) || is_lost(false_alarm) {
                let z = f64::from(z);
                let sigmoid = |z: f64| 1.0 / (1.0 + libm::exp(-z));
                *slope = (false_alarm * sigmoid(z) - miss * sigmoid(-z)) as f32;
            }
        }
        slopes
    }
}

impl BinaryElements<'_> {
    #[inline(always)]
    fn stakes(&self) -> Stakes<'_> {
        Stakes { costs: *self.costs, targets: self.targets, labels: self.labels, scale: self.scale }
    }

    #[inline(always)]
    fn lanes(&self, at: usize, count: usize) -> Lanes {
        let zeros = [0.0; VIRTUAL_LANES];
        let mut lanes = Lanes {
            logits: zeros,
            weights: [zeros; 2],
            slopes: [zeros; 2],
            any_weight_vanishes: false,
            any_slope_vanishes: false,
        };
        let logits = self.logits.unwrap_or(Logits::F32(self.gradient.as_deref().unwrap_or(&[])));
        logits.widen(at, 1, part_mut(&mut lanes.logits, 0, count));
        let (mut label, stakes) = (at % self.labels, self.stakes());
        // In registers, which fields are not.
        let (mut weight_vanishes, mut slope_vanishes) = (false, false);
        for lane in 0..count.min(VIRTUAL_LANES) {
            let weights = stakes.weights(at + lane, label);
            let slopes = stakes.slopes(at + lane, weights);
            for (side, (weight, slope)) in weights.into_iter().zip(slopes).enumerate() {
                let rounded = [weight as f32, slope as f32];
                [lanes.weights[side][lane], lanes.slopes[side][lane]] = rounded;
                weight_vanishes |= (rounded[0] == 0.0) & (weight != 0.0);
                slope_vanishes |= (rounded[1] == 0.0) & (slope != 0.0);
            }
            // Where nothing is at stake the logit does not matter.
            if weights == [0.0; 2] {
                lanes.logits[lane] = 0.0;
            }
            label = if label + 1 == self.labels.get() { 0 } else { label + 1 };
        }
        (lanes.any_weight_vanishes, lanes.any_slope_vanishes) = (weight_vanishes, slope_vanishes);
        lanes
    }
}

/// A few logits, one a lane.
struct Element<S: Vector> {
    z: S::F,
    weights: [S::F; 2],
    slopes: [S::F; 2],
    /// exp(−|z|)·2^HEADROOM
    e: S::F,
}

impl<S: Vector> Element<S> {
    #[inline(always)]
    fn new(s: S, term: &Exp<S::F>, lanes: &Lanes) -> Self {
        let z = s.load(&lanes.logits, 0);
        let e = term.of(s, s.sub(s.splat(0.0), magnitude(s, z)));
        let load = |[a, b]: &[[f32; VIRTUAL_LANES]; 2]| [s.load(a, 0), s.load(b, 0)];
        Self { z, weights: load(&lanes.weights), slopes: load(&lanes.slopes), e }
    }

    #[inline(always)]
    fn loss(&self, s: S) -> S::F {
        let zero = s.splat(0.0);
        let [miss, false_alarm] = self.weights;
        let e = Pair { hi: self.e, lo: zero };
        let plain = scaled(s, e, UNDO_HEADROOM);
        let log = scaled(s, log1p(s, plain), 1.0 / UNDO_HEADROOM);
        // Where E is small the logarithm is E itself, which may be too small to be held without the headroom.
        let log = pair::select(s, s.less(plain.hi, s.splat(1e-12)), e, log);
        let small = weighed(s, log, s.add(miss, false_alarm), UNDO_HEADROOM);
        // 0·∞ = 0
        let is_positive = s.less(zero, self.z);
        let weight = s.select(is_positive, false_alarm, miss);
        let large = s.select(s.equal(weight, zero), zero, s.mul(weight, magnitude(s, self.z)));
        s.add(large, small)
    }

    #[inline(always)]
    fn gradient(&self, s: S) -> S::F {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let [miss, false_alarm] = [s.sub(zero, self.slopes[0]), self.slopes[1]];
        let is_positive = s.less(zero, self.z);
        let (of_small, of_large) = (s.select(is_positive, miss, false_alarm), s.select(is_positive, false_alarm, miss));
        let all = s.add(one, s.mul(self.e, s.splat(UNDO_HEADROOM)));
        let small = weighed(s, Pair { hi: s.div(self.e, all), lo: zero }, of_small, UNDO_HEADROOM);
        // 0·NaN = 0
        let nothing = s.equal(s.add(magnitude(s, miss), magnitude(s, false_alarm)), zero);
        s.select(nothing, zero, s.add(s.div(of_large, all), small))
    }
}
