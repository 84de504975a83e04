//! The loss of a few short rows, one by one in registers: zeroing a tile would take longer than computing them.

use super::classes::{Weights, row_weight};
use super::exp::{ExpInParts, all_in_range, exp_in_range, exp_of_pair};
use super::few_classes::MOST;
use super::limits::FEW;
use super::pair::{Pair, two_sum};
use super::sums::sum_of;
use super::two_classes::is_near;
use super::{log1p, part};
use crate::backend::vector::Vector;
use crate::error::Error;
use crate::reduction::Tally;
use crate::rows::Rows;

/// Losses and weights of at most [`FEW`] rows, of any number of classes but two. Returns `false`, with nothing written,
/// if a logit is out of range.
pub(crate) fn compute<S: Vector>(
    s: S,
    rows: &Rows<'_>,
    logits: &[f32],
    row_losses: Option<&mut [f32]>,
    tally: &mut Tally,
    mut weights: Option<&mut Weights>,
) -> Result<bool, Error> {
    s.run(
        #[inline(always)]
        move || {
            let mut found = [(0.0, None); FEW];
            let mut left = logits;
            for (row, (loss, of_row)) in found.iter_mut().enumerate().take(rows.count()) {
                let Some((logits, rest)) = left.split_at_checked(rows.classes()) else { return Ok(false) };
                left = rest;
                *of_row = row_weight(rows, row)?;
                let (class, weight) = of_row.as_ref().map_or((0, 0.0), |of_row| (of_row.class, of_row.weight));
                let Some(log) = minus_log_p(s, logits, class) else { return Ok(false) };
                // Weight 0 gives 0, even if the logarithm is infinite.
                *loss = if weight == 0.0 { 0.0 } else { (log * weight) as f32 };
            }
            let found = part(&found, 0, rows.count());
            for (row, &(loss, of_row)) in found.iter().enumerate() {
                tally.add(row, loss);
                if let (Some(weights), Some(of_row)) = (weights.as_deref_mut(), of_row) {
                    weights.add(row, of_row);
                }
            }
            for (to, found) in row_losses.into_iter().flatten().zip(found) {
                *to = found.0;
            }
            Ok(true)
        },
    )
}

/// −log p of `class`; `None` if a logit is out of range.
#[inline(always)]
fn minus_log_p<S: Vector>(s: S, logits: &[f32], class: usize) -> Option<f64> {
    let e = if logits.len() <= MOST { odds_of_gaps(s, logits, class)? } else { odds(s, logits, class)? };
    let (of_power, f) = log1p::split(e);
    let rest = s.to_array(log1p::rest(s, s.splat(f as f32)))[0];
    Some((of_power + log1p::start(f)) + f64::from(rest))
}

/// E from the exponentials of the logits.
#[inline(always)]
fn odds<S: Vector>(s: S, logits: &[f32], class: usize) -> Option<f64> {
    let (mut union, len) = (exp_in_range(s, s.splat(0.0)).1, s.splat(logits.len() as f32));
    let sum = sum_of(
        s,
        logits.len(),
        #[inline(always)]
        |at| {
            let (e, bits) = exp_in_range(s, s.load_partial(logits.get(at..).unwrap_or(&[]), 0.0));
            union = s.or_bits(union, bits);
            let index = s.add(s.lanes(), s.splat(at as f32));
            let e = s.select(s.less(index, len), e, s.splat(0.0));
            s.zero_where(s.equal(index, s.splat(class as f32)), e)
        },
    );
    if !all_in_range(s, union) {
        return None;
    }
    let logit = logits.get(class).copied().unwrap_or(0.0);
    let ExpInParts { f, rest, power, .. } = ExpInParts::new(s, s.splat(0.0 - logit), s.splat(0.0));
    let [f, rest, power] = [f, rest, power].map(|lanes| f64::from(s.to_array(lanes)[0]));
    Some(sum * (((1.0 + f) + rest) * power))
}

/// E from the exponentials of the gaps, as [`super::few_classes`] has it.
#[inline(always)]
fn odds_of_gaps<S: Vector>(s: S, logits: &[f32], class: usize) -> Option<f64> {
    let logit = logits.get(class).copied().unwrap_or(0.0);
    let Pair { hi, lo } = two_sum(s, s.load_partial(logits, logit), s.splat(0.0 - logit));
    let (gaps, exponentials, mut sum) = (s.to_array(hi), s.to_array(exp_of_pair(s, hi, lo)), 0.0);
    for (other, (gap, e)) in gaps.iter().zip(&exponentials).enumerate().take(logits.len()) {
        if !is_near(*gap) {
            return None;
        }
        sum += if other == class { 0.0 } else { f64::from(*e) };
    }
    Some(sum)
}
