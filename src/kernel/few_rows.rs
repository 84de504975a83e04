//! The loss of a few short rows, one by one in registers: zeroing a tile would take longer than computing them.

use super::classes::{RowWeight, row_weight};
use super::exp::{ExpInParts, all_in_range, exp_in_range, exp_of_pair};
use super::few_classes::MOST;
use super::limits::{FEW, SHORT};
use super::log1p;
use super::pair::{Pair, two_sum};
use super::sums::sum_of;
use super::two_classes::is_near;
use crate::backend::vector::{Driver, Vector};
use crate::error::Error;
use crate::reduction::{Total, canonical, sum_of_three};
use crate::rows::Rows;

/// Whether these are at most [`FEW`] rows of up to [`SHORT`] classes, but not of two, without padding.
#[inline(always)]
pub(crate) fn are_few(rows: &Rows<'_>) -> bool {
    rows.count() <= FEW && rows.classes() <= SHORT && rows.classes() != 2 && rows.are_dense()
}

/// Losses of rows that [`are_few`]. All but the labels have been validated.
pub(crate) struct FewRows<'a, 'b> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) logits: &'a [f32],
    pub(crate) row_losses: Option<&'b mut [f32]>,
    /// By reference: a returned copy would slow the call.
    pub(crate) total: &'b mut Total,
}

impl Driver for FewRows<'_, '_> {
    /// `false`, with nothing written, if a logit is out of range, or the backend has one lane.
    type Output = Result<bool, Error>;

    fn drive<S: Vector>(self, s: S) -> Self::Output {
        if const { !S::WIDE } {
            return Ok(false);
        }
        s.run(
            #[inline(always)]
            move || {
                let Self { rows, logits: mut left, row_losses, total } = self;
                // Loss, weight and sample weight.
                let (mut found, mut counted, mut non_finite) = ([[0.0; 3]; FEW], 0_usize, 0_u64);
                for (row, found) in found.iter_mut().enumerate().take(rows.count()) {
                    let Some((logits, rest)) = left.split_at_checked(rows.classes()) else { return Ok(false) };
                    left = rest;
                    let Some(RowWeight { class, weight, of_sample }) = row_weight(rows, row)? else { continue };
                    let Some(log) = minus_log_p(s, logits, class) else { return Ok(false) };
                    // Weight 0 gives 0, even if the logarithm is infinite.
                    let loss = if weight == 0.0 { 0.0 } else { (log * weight) as f32 };
                    *found = [f64::from(loss), weight, of_sample];
                    counted = counted.wrapping_add(1);
                    non_finite = non_finite.wrapping_add(u64::from(!loss.is_finite()));
                }
                for (to, &[loss, ..]) in row_losses.into_iter().flatten().zip(&found) {
                    *to = loss as f32;
                }
                let [[first, w_first, s_first], [second, w_second, s_second], [third, w_third, s_third]] = found;
                let samples = sum_of_three([s_first, s_second, s_third]);
                let samples = if rows.sample_weights().is_some() { samples } else { counted as f64 };
                *total = rows.total(counted, sum_of_three([w_first, w_second, w_third]), samples);
                (total.sum, total.non_finite) = (canonical(sum_of_three([first, second, third])), non_finite);
                Ok(true)
            },
        )
    }
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
