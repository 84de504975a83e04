//! Row scalars in f64: from the sum of the exponentials to the loss and the factors of the gradient.

use super::exp::ExpInParts;
use super::lanes::{Lane, Lanes};
use super::limits::{LARGEST_POWER, ROWS};
use super::tile::{RowBlock, one_by_one};
use super::{f64_math, log1p};
use crate::backend::vector::Vector;
use crate::reduction::Tally;
use core::f64::consts::LN_2;

/// What the exponentials of a row are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Exponentials {
    /// e^x_k
    InRange,
    /// e^(x_k − shift)·2^power, where shift − x_r may have any size.
    Referred,
    /// e^(x_k − x_r): `one_minus_p` is E already.
    OfGaps,
}

/// Fills `log` = log(1 + E) and, for gradients, `share` = p_k / exponential k, and `one_minus_p` = 1 − p_r.
///
/// E = sum·e^(shift − x_r)·2^−power. Compiled once for all kinds of exponentials.
#[inline(never)]
pub(crate) fn finish_rows<S: Vector>(s: S, of: Exponentials, gradient: bool, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            // Short loops over all rows, one after the other, so that the processor overlaps rows.
            if of == Exponentials::InRange {
                for block in one_by_one(blocks) {
                    apply_units::<S, false>(s, gradient, block);
                }
            } else if of == Exponentials::Referred {
                for block in one_by_one(blocks) {
                    apply_units::<S, true>(s, gradient, block);
                }
            }
            for block in one_by_one(blocks) {
                begin_logs(gradient, of, block);
            }
            for block in one_by_one(blocks) {
                end_logs(s, block);
            }
        },
    )
}

/// Fills `one_minus_p` = E, `share` = e^(shift − x_r)·2^−power and, with `ANY`, `log` with what log(1 + E) then lacks.
#[inline(always)]
fn apply_units<S: Vector, const ANY: bool>(s: S, gradient: bool, block: &mut RowBlock) {
    let (mut unit, mut beyond) = if ANY { units_of_any(s, block) } else { (units(s, &block.logit), Lanes::splat(0.0)) };
    let (sum, mut excluded) = (block.sum, Lanes::splat(0.0));
    for i in Lane::all() {
        excluded[i] = sum[i] * unit[i];
        beyond[i] = if sum[i] == 0.0 { 0.0 } else { beyond[i] };
        // With a sum of 0 the unit scales only zeros; a large one might overflow.
        unit[i] = if ANY && sum[i] == 0.0 { 0.0 } else { unit[i] };
    }
    block.one_minus_p = excluded;
    if ANY {
        block.log = beyond;
    }
    if gradient {
        block.share = unit;
    }
}

/// Fills `log` with the larger part of log(1 + E), and `scale` with the fraction f of [`log1p::split`]; finishes `share` and
/// `one_minus_p`.
#[inline(always)]
fn begin_logs(gradient: bool, of: Exponentials, block: &mut RowBlock) {
    let (excluded, mut log, mut fractions) = (block.one_minus_p, Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        let (of_power, f) = log1p::split(excluded[i]);
        log[i] = of_power + log1p::start(f);
        fractions[i] = f as f32;
    }
    if of == Exponentials::Referred {
        let rest = block.log;
        for i in Lane::all() {
            // Propagates a NaN.
            log[i] += if excluded[i].is_nan() { f64::NAN } else { rest[i] };
        }
    }
    (block.log, block.scale) = (log, fractions);
    if gradient {
        let (mut share, mut miss) = (block.share, excluded);
        if of == Exponentials::OfGaps {
            share = Lanes::splat(1.0);
        }
        for i in Lane::all() {
            let p = 1.0 / (1.0 + miss[i]);
            share[i] *= p;
            miss[i] *= p;
        }
        (block.share, block.one_minus_p) = (share, miss);
    }
}

/// Adds the smaller part of log(1 + E).
#[inline(always)]
fn end_logs<S: Vector>(s: S, block: &mut RowBlock) {
    let (mut log, mut rests) = (block.log, Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        s.store(log1p::rest(s, s.load(block.scale.as_slice(), at)), rests.as_mut_slice(), at);
    }
    for i in Lane::all() {
        log[i] += f64::from(rests[i]);
    }
    block.log = log;
}

/// e^−logit, for logits in range.
#[inline(always)]
fn units<S: Vector>(s: S, logit: &Lanes<f32>) -> Lanes<f64> {
    let (mut fs, mut rests, mut powers, mut units) =
        (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let x = s.sub(s.splat(0.0), s.load(logit.as_slice(), at));
        let ExpInParts { f, rest, power, .. } = ExpInParts::new(s, x, s.splat(0.0));
        s.store(f, fs.as_mut_slice(), at);
        s.store(rest, rests.as_mut_slice(), at);
        s.store(power, powers.as_mut_slice(), at);
    }
    for i in Lane::all() {
        units[i] = ((1.0 + f64::from(fs[i])) + f64::from(rests[i])) * f64::from(powers[i]);
    }
    units
}

/// e^(shift − logit)·2^−power, clamped to stay within f64, and what log(1 + E) then lacks.
#[inline(always)]
fn units_of_any<S: Vector>(s: S, block: &RowBlock) -> (Lanes<f64>, Lanes<f64>) {
    let (mut gaps, mut high, mut low, mut beyond) =
        (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        gaps[i] = f64::from(block.shift[i]) - f64::from(block.logit[i]);
        let gap = gaps[i];
        // Comparisons, which propagate NaN.
        let near = if gap > 2000.0 { 2000.0 } else { gap };
        let near = if near < -2000.0 { -2000.0 } else { near };
        high[i] = near as f32;
        low[i] = (near - f64::from(high[i])) as f32;
        beyond[i] = gap - near;
    }
    let (mut fs, mut rests, mut ks, mut units) =
        (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let ExpInParts { f, rest, k, .. } = ExpInParts::new(s, s.load(high.as_slice(), at), s.load(low.as_slice(), at));
        s.store(f, fs.as_mut_slice(), at);
        s.store(rest, rests.as_mut_slice(), at);
        s.store(k, ks.as_mut_slice(), at);
    }
    for i in Lane::all() {
        let exponent = f64::from(ks[i]) - f64::from(block.power[i]);
        let held = if exponent > LARGEST_POWER { LARGEST_POWER } else { exponent };
        let held = if held < -LARGEST_POWER { -LARGEST_POWER } else { held };
        let far = beyond[i] + (exponent - held) * LN_2;
        let unit = ((1.0 + f64::from(fs[i])) + f64::from(rests[i])) * f64_math::power_of_two(held);
        // x_r = +∞: exactly 0, since the factor of the gradient may be ∞.
        units[i] = if gaps[i] == f64::NEG_INFINITY { 0.0 } else { unit };
        beyond[i] = if far > 0.0 { far } else { 0.0 };
    }
    (units, beyond)
}

/// Adds the losses to the tally; unless they `are_filled_in`, fills them, weight·`log`.
pub(crate) fn add_losses<S: Vector>(
    s: S,
    first: usize,
    are_filled_in: bool,
    blocks: &mut [RowBlock],
    tally: &mut Tally,
) {
    s.run(
        #[inline(always)]
        move || {
            for block in blocks.iter_mut().filter(|_| !are_filled_in) {
                let (log, weight, mut losses) = (block.log, block.weight, Lanes::splat(0.0));
                for i in Lane::all() {
                    let product = log[i] * weight[i];
                    // Weight 0 gives 0, even if `log` is infinite or NaN.
                    losses[i] = if weight[i] == 0.0 { 0.0 } else { product } as f32;
                }
                block.loss = losses;
            }
            tally.sum.add_blocks(
                first,
                &mut *blocks,
                #[inline(always)]
                |block| {
                    let (losses, mut wide) = (block.loss, Lanes::splat(0.0));
                    for i in Lane::all() {
                        wide[i] = f64::from(losses[i]);
                    }
                    wide
                },
            );
            if !tally.sum.is_finite() {
                for block in &*blocks {
                    tally.count(&block.loss);
                }
            }
        },
    )
}
