//! Focal factor and z-loss.
//!
//! They turn the weighted loss w·L with L = −log p_y into w·((1 − p_y)^γ·L + λ·lse²), lse being log-sum-exp, and its
//! gradient w·(p_i − [i = y]) into w·((f + z)·p_i − f·[i = y]) with f = (1 − p_y)^γ + γ·(1 − p_y)^(γ−1)·p_y·L and
//! z = 2λ·lse: only row scalars change.

use super::f64_math;
use super::lanes::{Lane, Lanes};
use super::row_scalars::{Exponentials, finish_rows};
use super::tile::{RowBlock, one_by_one};
use crate::backend::vector::Vector;
use crate::error::Argument;
use core::f64::consts::LN_2;

/// A change of the weighted loss's row scalars, before losses and gradients are computed from them.
pub(crate) trait LabelTerms: Copy {
    /// Whether `apply` changes nothing.
    const NONE: bool;
    /// Whether there is a z-loss: without one, two classes are computed from the gap of their logits alone, with
    /// opposite gradient elements; with one, an infinite logit makes the loss infinite.
    fn has_z_loss(self) -> bool;
    /// Updates `log` and, for a gradient, `share` and `one_minus_p`. `are_gaps`: the exponentials are e^(x_k − x_y),
    /// `share` is p_y, and `sum` is not filled.
    fn apply<S: Vector>(self, s: S, gradient: bool, are_gaps: bool, blocks: &mut [RowBlock]);
}

/// The weighted loss alone.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl LabelTerms for Plain {
    const NONE: bool = true;

    #[inline(always)]
    fn has_z_loss(self) -> bool {
        false
    }

    #[inline(always)]
    fn apply<S: Vector>(self, _: S, _: bool, _: bool, _: &mut [RowBlock]) {}
}

/// The options that change the loss of a row by its label and its log-sum-exp alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelOptions {
    /// γ
    pub(crate) focal: f32,
    /// λ
    pub(crate) z_loss: f32,
}

/// The largest γ whose powers are products.
const MULTIPLIED: u8 = 8;

/// A row of [`LabelOptions::table`].
pub(crate) struct LabelOption {
    pub(crate) argument: Argument,
    /// Finite, at least 0; 0 changes nothing.
    pub(crate) number: f32,
    /// Whether target probabilities refuse it.
    pub(crate) needs_label: bool,
}

impl LabelOptions {
    pub(crate) const NONE: Self = Self { focal: 0.0, z_loss: 0.0 };

    /// All options.
    pub(crate) const fn table(self) -> [LabelOption; 2] {
        [
            LabelOption { argument: Argument::Focal, number: self.focal, needs_label: true },
            LabelOption { argument: Argument::ZLoss, number: self.z_loss, needs_label: false },
        ]
    }

    pub(crate) fn are_none(self) -> bool {
        self.focal == 0.0 && self.z_loss == 0.0
    }

    /// Whether the label's term is another than −log p.
    pub(crate) fn change_term(self) -> bool {
        self.focal != 0.0
    }

    /// Replaces −log p, the label's term of the weighted loss, by the term of these options, and returns f, its
    /// derivative divided by that of −log p; from p and 1 − p.
    #[inline(always)]
    pub(crate) fn change(self, p: &Lanes<f64>, miss: &Lanes<f64>, terms: &mut Lanes<f64>) -> Lanes<f64> {
        let (gamma, mut slopes) = (f64::from(self.focal), Lanes::splat(1.0));
        if gamma == 0.0 {
            return slopes;
        }
        // (1 − p)^γ and (1 − p)^(γ−1)
        let (mut powers, mut lower) = (Lanes::splat(0.0), Lanes::splat(0.0));
        let whole = self.focal as u8;
        if f32::from(whole) == self.focal && whole <= MULTIPLIED {
            // As most γ are: without log, exp and division.
            lower = Lanes::splat(1.0);
            for _ in 1..whole {
                for i in Lane::all() {
                    lower[i] *= miss[i];
                }
            }
            for i in Lane::all() {
                powers[i] = lower[i] * miss[i];
            }
        } else {
            for i in Lane::all() {
                let power = f64_math::exp(gamma * f64_math::log(miss[i]));
                let power = if miss[i] == 0.0 { 0.0 } else { power };
                // `f64_math::log` of 0 and NaN is finite.
                powers[i] = if miss[i].is_nan() { f64::NAN } else { power };
                lower[i] = powers[i] / miss[i];
            }
        }
        for i in Lane::all() {
            // Where p is 0 log may be infinite: 0·∞ = 0.
            let slope = if miss[i] == 0.0 || p[i] == 0.0 { 0.0 } else { gamma * lower[i] * p[i] * terms[i] };
            slopes[i] = powers[i] + slope;
            terms[i] = if powers[i] == 0.0 { 0.0 } else { powers[i] * terms[i] };
        }
        slopes
    }
}

impl LabelTerms for LabelOptions {
    const NONE: bool = false;

    #[inline(always)]
    fn has_z_loss(self) -> bool {
        self.z_loss != 0.0
    }

    fn apply<S: Vector>(self, s: S, gradient: bool, are_gaps: bool, blocks: &mut [RowBlock]) {
        s.run(
            #[inline(always)]
            move || {
                let lambda = f64::from(self.z_loss);
                for block in one_by_one(blocks) {
                    let (mut losses, miss) = (block.log, block.one_minus_p);
                    // p_y, which a loss without a gradient does not use.
                    let mut p = block.share;
                    if gradient && !are_gaps {
                        // Not 1 − (1 − p), a catastrophic cancellation where p is small.
                        for i in Lane::all() {
                            p[i] = f64_math::exp(-losses[i]);
                        }
                    }
                    let log = losses;
                    let slopes = self.change(&p, &miss, &mut losses);
                    let (mut squares, mut z) = (Lanes::splat(0.0), Lanes::splat(0.0));
                    if lambda != 0.0 {
                        let (logit, shift, power, sum) = (block.logit, block.shift, block.power, block.sum);
                        let mut lse = Lanes::splat(0.0);
                        if are_gaps {
                            for i in Lane::all() {
                                lse[i] = f64::from(logit[i]) + log[i];
                            }
                        } else {
                            for i in Lane::all() {
                                lse[i] = log_sum_exp(logit[i], shift[i], power[i], sum[i], miss[i], log[i]);
                            }
                        }
                        for i in Lane::all() {
                            squares[i] = lambda * (lse[i] * lse[i]);
                            z[i] = 2.0 * lambda * lse[i];
                        }
                    }
                    for i in Lane::all() {
                        losses[i] += squares[i];
                    }
                    block.log = losses;
                    if !gradient {
                        continue;
                    }
                    let (mut shares, mut misses) = (block.share, Lanes::splat(0.0));
                    for i in Lane::all() {
                        // 0·∞ = 0
                        let of_z = z[i] * p[i];
                        misses[i] = slopes[i] * miss[i] - of_z;
                        shares[i] = if shares[i] == 0.0 { 0.0 } else { shares[i] * (slopes[i] + z[i]) };
                    }
                    (block.share, block.one_minus_p) = (shares, misses);
                }
            },
        )
    }
}

/// Log-sum-exp: x_y − log p_y or, where p_y < ½ and the two may cancel, from Σexp over the other classes.
#[inline(always)]
fn log_sum_exp(logit: f32, shift: f32, power: f32, sum: f64, miss: f64, log: f64) -> f64 {
    let of_others = f64_math::log(sum / miss) + (f64::from(shift) - f64::from(power) * LN_2);
    if miss > 0.5 { of_others } else { f64::from(logit) + log }
}

/// Row scalars of rows whose Σexp is known, or E if the exponentials are those of gaps.
#[inline(always)]
pub(crate) fn finish<S: Vector, L: LabelTerms>(
    s: S,
    terms: L,
    of: Exponentials,
    gradient: bool,
    blocks: &mut [RowBlock],
) {
    finish_rows(s, of, gradient || !L::NONE, &mut *blocks);
    terms.apply(s, gradient, of == Exponentials::OfGaps, blocks);
}
