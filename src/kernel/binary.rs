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
            if lanes.any_weight_lost {
                lanes.losses_in_f64(&mut losses);
            }
            tally.add(at, part(&losses, 0, count));
            if let Some(out) = self.row_losses.as_deref_mut() {
                copy(part_mut(out, at, count), &losses);
            }
            if let Some(gradient) = self.gradient.as_deref_mut() {
                let mut slopes = [0.0; VIRTUAL_LANES];
                s.store(element.gradient(s), &mut slopes, 0);
                if lanes.any_slope_lost {
                    lanes.slopes_in_f64(&mut slopes);
                }
                copy(part_mut(gradient, at, count), &slopes);
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
    weights: [[f64; VIRTUAL_LANES]; 2],
    /// The same times upstream factor and denominator of the mean.
    slopes: [[f64; VIRTUAL_LANES]; 2],
    /// Whether f32 cannot hold one of the weights, or one of the slopes.
    any_weight_lost: bool,
    any_slope_lost: bool,
}

/// Weights that leave f32 enough: times them, an exponential that vanishes in spite of its headroom is nothing beside what
/// the other side weighs, or beside the smallest normal number.
const HELD: core::ops::RangeInclusive<f64> = 1e-30..=1e12;

/// Whether f32 cannot hold a product of weights, although what it weighs may bring it back.
#[inline(always)]
fn is_lost(weight: f64) -> bool {
    weight != 0.0 && !weight.is_nan() && !HELD.contains(&weight.abs())
}

impl Lanes {
    #[inline(always)]
    fn rounded<S: Vector>(s: S, numbers: &[[f64; VIRTUAL_LANES]; 2]) -> [S::F; 2] {
        let mut rounded = [[0.0; VIRTUAL_LANES]; 2];
        for (to, from) in rounded.iter_mut().zip(numbers) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from as f32;
            }
        }
        [s.load(&rounded[0], 0), s.load(&rounded[1], 0)]
    }

    /// The losses that f32 cannot reach.
    fn losses_in_f64(&self, losses: &mut [f32; VIRTUAL_LANES]) {
        for (lane, loss) in losses.iter_mut().enumerate() {
            let [miss, false_alarm] = self.weights.map(|weights| weights[lane]);
            if is_lost(miss) || is_lost(false_alarm) {
                let z = f64::from(self.logits[lane]);
                // 0·∞ = 0
                let weighed = |weight: f64, z: f64| {
                    if weight == 0.0 { 0.0 } else { weight * (libm::log1p(libm::exp(-z.abs())) + (-z).max(0.0)) }
                };
                let z_is_nan = if z.is_nan() { f64::NAN } else { 0.0 };
                *loss = (weighed(miss, z) + weighed(false_alarm, -z) + z_is_nan) as f32;
            }
        }
    }

    /// The elements of the gradient that f32 cannot reach.
    fn slopes_in_f64(&self, slopes: &mut [f32; VIRTUAL_LANES]) {
        for (lane, slope) in slopes.iter_mut().enumerate() {
            let [miss, false_alarm] = self.slopes.map(|slopes| slopes[lane]);
            if is_lost(miss) || is_lost(false_alarm) {
                let z = f64::from(self.logits[lane]);
                let sigmoid = |z: f64| 1.0 / (1.0 + libm::exp(-z));
                *slope = (false_alarm * sigmoid(z) - miss * sigmoid(-z)) as f32;
            }
        }
    }
}

impl BinaryElements<'_> {
    #[inline(always)]
    fn lanes(&self, at: usize, count: usize) -> Lanes {
        let zeros = [0.0; VIRTUAL_LANES];
        let mut lanes = Lanes {
            logits: [0.0; VIRTUAL_LANES],
            weights: [zeros; 2],
            slopes: [zeros; 2],
            any_weight_lost: false,
            any_slope_lost: false,
        };
        let logits = self.logits.unwrap_or(Logits::F32(self.gradient.as_deref().unwrap_or(&[])));
        logits.widen(at, 1, part_mut(&mut lanes.logits, 0, count));
        let mut label = at % self.labels;
        for lane in 0..count.min(VIRTUAL_LANES) {
            let index = at + lane;
            let (miss, false_alarm) = self.costs.of_label(label);
            let target = f64::from(self.targets.get(index).copied().unwrap_or(0.0));
            let sample = f64::from(self.costs.sample(index));
            let factor = self.scale.of_row(index);
            for (side, weight) in
                [f64::from(miss) * target, f64::from(false_alarm) * (1.0 - target)].into_iter().enumerate()
            {
                let weight = sample * weight;
                // Also for the mean over a zero denominator.
                let slope = if weight == 0.0 { 0.0 } else { weight * factor };
                lanes.weights[side][lane] = weight;
                lanes.slopes[side][lane] = slope;
                lanes.any_weight_lost |= is_lost(weight);
                lanes.any_slope_lost |= is_lost(slope);
            }
            // Where nothing is at stake the logit does not matter.
            if lanes.weights[0][lane] == 0.0 && lanes.weights[1][lane] == 0.0 {
                lanes.logits[lane] = 0.0;
            }
            label = if label + 1 == self.labels.get() { 0 } else { label + 1 };
        }
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
        Self { z, weights: Lanes::rounded(s, &lanes.weights), slopes: Lanes::rounded(s, &lanes.slopes), e }
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
