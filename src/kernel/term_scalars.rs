//! Row scalars of the losses with terms: the loss of a row and the factors of its gradient. The formulas are in
//! [`super::terms`].

use super::label_terms::LabelOptions;
use super::lanes::{Lane, Lanes};
use super::limits::{LARGEST_PART, LARGEST_TERM_COST, LARGEST_TERM_LOSS, ROWS, UNDERFLOW_SCALE};
use super::scales::is_held;
use super::tile::{RowBlock, one_by_one};
use super::{f64_math, row_of};
use crate::backend::vector::Vector;

/// The options that make up the loss of a row, validated.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Target probabilities, shaped as the logits.
    pub(crate) soft: Option<&'a [f32]>,
    /// ε
    pub(crate) smoothing: f32,
    /// fp, `[C, C]`
    pub(crate) costs: Option<&'a [f32]>,
    pub(crate) label: LabelOptions,
}

impl<'a> Terms<'a> {
    /// Whether the loss is the weighted one.
    pub(crate) fn are_plain(&self) -> bool {
        self.of_label_alone().is_some_and(LabelOptions::are_none)
    }

    /// The label's options, if there is neither a spread nor costs.
    pub(crate) fn of_label_alone(&self) -> Option<LabelOptions> {
        (!self.has_spread() && self.costs.is_none()).then_some(self.label)
    }

    /// Whether there is a Σ_c u_c·(−log p_c).
    pub(crate) fn has_spread(&self) -> bool {
        self.soft.is_some() || self.smoothing != 0.0
    }

    /// The mislabel costs of a label; none without costs or a label.
    pub(crate) fn costs_of(&self, label: usize, classes: usize) -> &'a [f32] {
        self.costs.map_or(&[], |matrix| row_of(matrix, label, classes))
    }

    /// 1 − ε
    pub(crate) fn kept(&self) -> f64 {
        1.0 - f64::from(self.smoothing)
    }

    /// ε/C
    pub(crate) fn evenly(&self, classes: usize) -> f64 {
        f64::from(self.smoothing) / classes as f64
    }
}

/// Row scalars of a block that terms need beside those of [`RowBlock`].
#[derive(Clone)]
pub(crate) struct TermBlock {
    /// y, or [`NO_LABEL`].
    pub(crate) label: Lanes<usize>,
    /// x_y
    pub(crate) label_logit: Lanes<f32>,
    /// a
    pub(crate) label_weight: Lanes<f64>,
    /// u of the label and of the reference.
    pub(crate) u_label: Lanes<f64>,
    pub(crate) u_reference: Lanes<f64>,
    /// Σ_{c≠m} u_c and Σ_c u_c·(x_m − x_c)
    pub(crate) others: Lanes<f64>,
    pub(crate) gaps: Lanes<f64>,
    /// fp[y, m]
    pub(crate) cost_reference: Lanes<f64>,
    /// log(1 − p_m), where there are costs.
    pub(crate) log_miss: Lanes<f64>,
    /// Σ_{j≠m} fp[y,j]·(−log(1 − p_j)) and Σ_{j≠m} σ_j
    pub(crate) costs: Lanes<f64>,
    pub(crate) odds: Lanes<f64>,
    /// Factor of the exponentials in the gradient, without the σ_i and u_i of the classes.
    pub(crate) scale: Lanes<f64>,
    /// Gradient element of the label.
    pub(crate) at_label: Lanes<f32>,
    /// factor·share, the factor of fp·e/(1 − p) in the gradient, and the row's factor, in f32.
    pub(crate) odds_scale: Lanes<f32>,
    pub(crate) factor: Lanes<f32>,
    /// Bit i: row i is marked for its gradient alone, and keeps the loss that a call without a gradient returns.
    pub(crate) marked_for_gradient_only: u32,
}

/// The label of a row that has none.
pub(crate) const NO_LABEL: usize = usize::MAX;

impl TermBlock {
    pub(crate) const EMPTY: Self = {
        let (zeros, numbers) = (Lanes::splat(0.0), Lanes::splat(0.0));
        Self {
            label: Lanes::splat(NO_LABEL),
            label_logit: numbers,
            label_weight: zeros,
            u_label: zeros,
            u_reference: zeros,
            others: zeros,
            gaps: zeros,
            cost_reference: zeros,
            log_miss: zeros,
            costs: zeros,
            odds: zeros,
            scale: zeros,
            at_label: numbers,
            odds_scale: numbers,
            factor: numbers,
            marked_for_gradient_only: 0,
        }
    };
}

impl TermBlock {
    /// Sets the gradient elements of label and reference in a piece of a row, which begins at class `start`.
    #[inline(always)]
    pub(crate) fn set_elements(&self, block: &RowBlock, lane: Lane, row: &mut [f32], start: usize) {
        for (class, element) in [(self.label[lane], self.at_label[lane]), (block.class[lane], block.at_reference[lane])]
        {
            if let Some(to) = row.get_mut(class.wrapping_sub(start)) {
                *to = element;
            }
        }
    }
}

/// Unmarks the lanes after the last of `rows` rows, which have scalars of whatever follows it.
pub(crate) fn unmark_others(rows: usize, blocks: &mut [RowBlock]) {
    if let Some(last) = blocks.last_mut().filter(|last| last.marked != u32::MAX && !rows.is_multiple_of(ROWS)) {
        last.marked &= Lane::of(rows).bit().wrapping_sub(1);
    }
}

/// Fills the losses (as `log`) and, with `gradient`, the factors of the gradient. Marks rows beyond the range of f32.
/// `largest_weight` is the largest |w| if there is a spread, else 0.
pub(crate) fn finish_terms<S: Vector>(
    s: S,
    options: &Terms<'_>,
    gradient: bool,
    largest_weight: f64,
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let Terms { label: options, costs: matrix, .. } = *options;
            for (block, terms) in one_by_one(blocks).zip(terms) {
                let (label_weight, logit, log) = (terms.label_weight, block.logit, block.log);
                let (mut of_label, p, q) = labels(block, terms, gradient, options.change_term());
                let mut slope = options.change(&p, &q, &mut of_label);
                let (others, gaps, u, costs) = (terms.others, terms.gaps, terms.u_reference, terms.costs);
                let (cost, log_miss, z_loss) = (terms.cost_reference, terms.log_miss, f64::from(options.z_loss));
                let (mut losses, mut lse, mut whole) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
                for i in Lane::all() {
                    whole[i] = label_weight[i] + (others[i] + u[i]);
                    let spread = gaps[i] + (others[i] + u[i]) * log[i];
                    // 0·∞ = 0
                    let label = if label_weight[i] == 0.0 { 0.0 } else { label_weight[i] * of_label[i] };
                    losses[i] = label + spread;
                }
                if matrix.is_some() {
                    for i in Lane::all() {
                        let of_miss = if cost[i] == 0.0 { 0.0 } else { cost[i] * -log_miss[i] };
                        losses[i] += costs[i] + of_miss;
                    }
                }
                if z_loss != 0.0 {
                    for i in Lane::all() {
                        lse[i] = f64::from(logit[i]) + log[i];
                        let of_z = z_loss * whole[i];
                        losses[i] += if of_z == 0.0 { 0.0 } else { of_z * (lse[i] * lse[i]) };
                    }
                }
                block.log = losses;
                if gradient {
                    let mut of_z = Lanes::splat(0.0);
                    for i in Lane::all() {
                        let factor = 2.0 * z_loss * whole[i];
                        of_z[i] = if factor == 0.0 { 0.0 } else { factor * lse[i] };
                        slope[i] *= label_weight[i];
                    }
                    gradients(block, terms, [&p, &q, &slope, &of_z], matrix.is_some(), largest_weight);
                } else {
                    mark(block, &losses);
                }
            }
        },
    )
}

/// −log p_y and, with a `gradient` where some label is no reference or a `change` by the focal factor, p_y and 1 − p_y.
#[inline(always)]
fn labels(block: &RowBlock, terms: &TermBlock, gradient: bool, change: bool) -> (Lanes<f64>, Lanes<f64>, Lanes<f64>) {
    let is_reference = is_reference(block, terms);
    let (logit, label_logit, log, miss) = (block.logit, terms.label_logit, block.log, block.one_minus_p);
    let (mut of_label, mut p, mut q) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        let gap = f64::from(logit[i]) - f64::from(label_logit[i]);
        of_label[i] = if is_reference[i] { log[i] } else { gap + log[i] };
    }
    let is_other = |other, (is_reference, &label): (&bool, &usize)| other | (!is_reference & (label != NO_LABEL));
    if change || gradient && is_reference.iter().zip(&terms.label).fold(false, is_other) {
        for i in Lane::all() {
            p[i] = f64_math::exp(-of_label[i]);
            q[i] = if is_reference[i] { miss[i] } else { 1.0 - p[i] };
        }
    }
    (of_label, p, q)
}

/// Whether the label of a row is its reference.
#[inline(always)]
fn is_reference(block: &RowBlock, terms: &TermBlock) -> Lanes<bool> {
    let mut is_reference = Lanes::splat(false);
    for ((is_reference, class), label) in is_reference.iter_mut().zip(block.class).zip(terms.label) {
        *is_reference = class == label;
    }
    is_reference
}

/// Marks rows whose loss is NaN or so large that it, or a sum in f32, may have overflowed.
#[inline(always)]
pub(crate) fn mark(block: &mut RowBlock, losses: &Lanes<f64>) {
    // Sign bit: |loss| is above the limit, or NaN.
    let mut beyond = Lanes::splat(0);
    for i in Lane::all() {
        beyond[i] = LARGEST_TERM_LOSS.to_bits().wrapping_sub(losses[i].abs().to_bits());
    }
    if beyond.iter().fold(0, |any, bits| any | bits) >> 63 != 0 {
        for lane in Lane::of_bits(u32::MAX) {
            block.marked |= if beyond[lane] >> 63 != 0 { lane.bit() } else { 0 };
        }
    }
}

/// The gradient's factors, from p_y, 1 − p_y, F and 2λ·W·lse.
#[inline(always)]
fn gradients(
    block: &mut RowBlock,
    terms: &mut TermBlock,
    [p, q, slope, of_z]: [&Lanes<f64>; 4],
    has_costs: bool,
    largest_weight: f64,
) {
    let (share, miss, sum, factor) = (block.share, block.one_minus_p, block.sum, block.factor);
    let (others, u, u_label) = (terms.others, terms.u_reference, terms.u_label);
    let (odds, cost, label_logit) = (terms.odds, terms.cost_reference, terms.label_logit);
    let (shift, power) = (block.shift, block.power);
    let is_reference = is_reference(block, terms);
    let (mut scale, mut at_reference, mut at_label, mut sizes) =
        (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        let hit = 1.0 - miss[i];
        let without_label = (others[i] + u[i]) - odds[i] + if of_z[i].is_finite() { of_z[i] } else { 0.0 };
        scale[i] = (slope[i] + without_label) * share[i];
        let size = slope[i].abs() + without_label.abs() + largest_weight + odds[i].abs() + cost[i].abs();
        // Factor 0: the size alone, as an overflow times 0 is NaN.
        sizes[i] = if factor[i] == 0.0 { size } else { factor[i].abs() * size };
        let label_weight = if is_reference[i] { -slope[i] * miss[i] } else { slope[i] * hit };
        let at = label_weight + (others[i] * hit - u[i] * miss[i]) + (cost[i] - odds[i]) * hit;
        at_reference[i] = factor[i] * (at + if of_z[i] == 0.0 { 0.0 } else { of_z[i] * hit });
        at_label[i] = p[i] * without_label - slope[i] * q[i] - u_label[i];
    }
    if has_costs {
        for i in Lane::all() {
            let hit = 1.0 - miss[i];
            // p_i/(1 − p_m) = e_i/Σexp.
            let of_cost = if cost[i] == 0.0 || sum[i] == 0.0 { 0.0 } else { cost[i] * hit / sum[i] };
            scale[i] -= of_cost;
            let gap = f64::from(label_logit[i]) - f64::from(shift[i]);
            let e = f64_math::exp(gap) * f64_math::power_of_two(f64::from(power[i]));
            at_label[i] -= if e == 0.0 { 0.0 } else { of_cost * e };
        }
    }
    // + 0.0 turns −0 to +0: with a factor of 0 the gradient is exactly +0.
    for i in Lane::all() {
        scale[i] = scale[i] * factor[i] + 0.0;
        at_label[i] = at_label[i] * factor[i] + 0.0;
        at_reference[i] += 0.0;
    }
    round(block, terms, [&scale, &at_label, &at_reference, &sizes]);
}

/// Rounds the gradient's factors to f32, and marks rows beyond its range or where underflowed exponentials matter.
#[inline(always)]
fn round(block: &mut RowBlock, terms: &mut TermBlock, [scale, at_label, at_reference, sizes]: [&Lanes<f64>; 4]) {
    let (share, factor, mut beyond) = (block.share, block.factor, Lanes::splat(0));
    terms.scale = *scale;
    for i in Lane::all() {
        let with_factor = factor[i] * share[i];
        block.scale[i] = scale[i] as f32;
        block.at_reference[i] = at_reference[i] as f32;
        terms.at_label[i] = at_label[i] as f32;
        terms.odds_scale[i] = with_factor as f32;
        terms.factor[i] = factor[i] as f32;
        let is_held = |x: f64| (x == 0.0) | is_held(x);
        let are_held = is_held(scale[i]) & is_held(with_factor) & is_held(factor[i]);
        let is_near = (block.power[i] == 0.0)
            | ((scale[i].abs() <= UNDERFLOW_SCALE)
                & (with_factor.abs() * f64::from(LARGEST_TERM_COST) <= UNDERFLOW_SCALE));
        beyond[i] = u32::from(!(is_near & (sizes[i] <= LARGEST_PART) & ((factor[i] == 0.0) | are_held)));
    }
    let losses = block.log;
    mark(block, &losses);
    let beyond = beyond.mask();
    terms.marked_for_gradient_only |= !block.marked & beyond;
    block.marked |= beyond;
}
