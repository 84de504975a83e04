//! The binary loss −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)) and its gradient, logit by logit, in f64.
//!
//! With e = exp(−|z|) the smaller of σ(z) and 1 − σ(z) is e/(1 + e), the larger 1/(1 + e), and −log σ(z) =
//! max(−z, 0) + log(1 + e): no cancellation.

use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::{copy, f64_math, part_mut};
use crate::backend::vector::{Driver, Vector};
use crate::logits::Logits;
use crate::reduction::{GradientScale, Tally};
use crate::rows::chunk_of;
use core::num::NonZero;

/// Costs and sample weights of the binary loss, all ones where `None`.
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
    /// fn and fp of a label.
    #[inline(always)]
    pub(crate) fn of_label(&self, label: usize) -> (f32, f32) {
        let of = |costs: Option<&[f32]>| costs.map_or(1.0, |costs| costs.get(label).copied().unwrap_or(0.0));
        (of(self.misses), of(self.false_alarms))
    }

    #[inline(always)]
    pub(crate) fn sample(&self, index: usize) -> f32 {
        self.samples.map_or(1.0, |samples| samples.get(index).copied().unwrap_or(0.0))
    }

    /// s·fn·t and s·fp·(1 − t); 0 for a weight s·fn or s·fp of 0, whatever the target.
    #[inline(always)]
    pub(crate) fn weights(&self, index: usize, label: usize, target: f32) -> (f64, f64) {
        let (miss, false_alarm) = self.of_label(label);
        let (sample, target) = (f64::from(self.sample(index)), f64::from(target));
        let weigh = |cost: f32, share: f64| {
            let weight = sample * f64::from(cost);
            if weight == 0.0 { 0.0 } else { weight * share }
        };
        (weigh(miss, target), weigh(false_alarm, 1.0 - target))
    }
}

/// The loss of every logit, and its gradient if `gradient` is there. Everything has been validated.
pub(crate) struct BinaryElements<'a> {
    pub(crate) labels: NonZero<usize>,
    pub(crate) costs: &'a BinaryCosts<'a>,
    /// `None`: in place, the logits are in `gradient`.
    pub(crate) logits: Option<Logits<'a>>,
    pub(crate) targets: &'a [f32],
    pub(crate) gradient: Option<&'a mut [f32]>,
    /// Whether `gradient` gets the second derivative instead of the first.
    pub(crate) curvature: bool,
    pub(crate) row_losses: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

impl Driver for BinaryElements<'_> {
    type Output = Tally;

    fn drive<S: Vector>(self, s: S) -> Tally {
        s.run(
            #[inline(always)]
            || self.compute(),
        )
    }
}

impl BinaryElements<'_> {
    #[inline(always)]
    fn compute(mut self) -> Tally {
        let mut tally = Tally::new(chunk_of(1, self.labels));
        let mut label = 0;
        for (at, targets) in (0..self.targets.len()).step_by(ROWS).zip(self.targets.chunks(ROWS)) {
            let count = targets.len();
            let (mut logits, mut misses, mut false_alarms) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
            let given = self.logits.unwrap_or(Logits::F32(self.gradient.as_deref().unwrap_or(&[])));
            given.widen(at, part_mut(logits.as_mut_slice(), 0, count));
            let weights = misses.iter_mut().zip(&mut false_alarms);
            for ((index, &target), (miss, false_alarm)) in (at..).zip(targets).zip(weights) {
                (*miss, *false_alarm) = self.costs.weights(index, label, target);
                let next = label.wrapping_add(1);
                label = if next == self.labels.get() { 0 } else { next };
            }
            let (mut exponentials, mut losses) = (Lanes::splat(0.0), Lanes::splat(0.0));
            for i in Lane::all() {
                exponentials[i] = f64_math::exp(-f64::from(logits[i]).abs());
            }
            for i in Lane::all() {
                let (z, log) = (f64::from(logits[i]), f64_math::log1p_to_one(exponentials[i]));
                let (below, above) = (if z > 0.0 { 0.0 } else { -z }, if z > 0.0 { z } else { 0.0 });
                // A zero weight: the loss is 0 even where the logit is ±∞ or NaN.
                let of_miss = if misses[i] == 0.0 { 0.0 } else { misses[i] * (below + log) };
                let of_alarm = if false_alarms[i] == 0.0 { 0.0 } else { false_alarms[i] * (above + log) };
                losses[i] = (of_miss + of_alarm) as f32;
            }
            for (row, &loss) in (at..).zip(losses.iter().take(count)) {
                tally.add(row, loss);
            }
            if let Some(out) = self.row_losses.as_deref_mut() {
                copy(part_mut(out, at, count), losses.as_slice());
            }
            if let Some(gradient) = self.gradient.as_deref_mut() {
                let mut scales = Lanes::splat(0.0);
                for (index, scale) in (at..).zip(scales.iter_mut().take(count)) {
                    *scale = self.scale.of_row(index);
                }
                let mut slopes = Lanes::splat(0.0);
                for i in Lane::all() {
                    let (z, e) = (f64::from(logits[i]), exponentials[i]);
                    let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
                    let (sigma, miss) = if z > 0.0 { (large, small) } else { (small, large) };
                    let of = |weight: f64, share: f64| {
                        let factor = weight * scales[i];
                        if weight == 0.0 || factor == 0.0 { 0.0 } else { factor * share }
                    };
                    let slope = of(false_alarms[i], sigma) - of(misses[i], miss);
                    let curvature = of(misses[i] + false_alarms[i], large * small);
                    slopes[i] = if self.curvature { curvature } else { slope } as f32;
                }
                copy(part_mut(gradient, at, count), slopes.as_slice());
            }
        }
        tally
    }
}
