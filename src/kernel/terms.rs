//! The losses that are not the weighted one alone, over the same tile.
//!
//! With the whole of the options the loss of a row is
//!
//! s·( a·(1 − p_y)^γ·(−log p_y) + Σ_c u_c·(−log p_c) + Σ_{j≠y} fp[y,j]·(−log(1 − p_j)) + λ·W·lse² )
//!
//! where a = (1 − ε)·w[y] for a label and 0 for target probabilities, u_c = w[c]·((1 − ε)·q_c + ε/C) with q = 0 for a
//! label, W = a + Σ u_c and s is the weight of the sample. Its gradient is
//!
//! s·( F·(p_i − [i = y]) + U·p_i − u_i + σ_i − p_i·Σσ + 2λ·W·lse·p_i ), σ_j = fp[y,j]·p_j/(1 − p_j), U = Σ u_c,
//!
//! where F = a·((1 − p_y)^γ + γ·(1 − p_y)^(γ−1)·p_y·(−log p_y)).
//!
//! The reference class m is the one with the largest logit: −log p_c = (x_m − x_c) + log(1 + E), where E = Σ_{k≠m}
//! exp(x_k − x_m), adds nothing but numbers that are not negative. 1 − p_m = E/(1 + E), every other p is at most ½.

use super::classes::{Factors, ReadClasses, Weights};
use super::costs::{CostSums, end_of};
use super::exp::Exponentials;
use super::general::MarkRows;
use super::label_terms::{FocalAndZ, focal_factors};
use super::limits::FAR_SCALE;
use super::references::References;
use super::row_scalars::{Finish, Losses, is_held};
use super::spread::{FillWeights, Spread, SpreadSums, U};
use super::sums::ExcludedSums;
use super::tile::{Batch, Place, ROWS, RowBlock, SMALLEST, Tile, one_by_one, with_tile};
use super::{chunks_mut, copy, double, part, part_mut, terms_general};
use crate::backend::Backend;
use crate::backend::vector::{Driver, Operation, VIRTUAL_LANES, Vector};
use crate::error::Error;
use crate::reduction::Tally;

/// The options that make up the loss of a row, validated.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Target probabilities, shaped as the logits.
    pub(crate) soft: Option<&'a [f32]>,
    /// ε
    pub(crate) smoothing: f32,
    /// fp, `[C, C]`
    pub(crate) costs: Option<&'a [f32]>,
    /// γ
    pub(crate) focal: f32,
    /// λ
    pub(crate) z_loss: f32,
}

impl Terms<'_> {
    /// Whether the loss is the weighted one.
    pub(crate) fn are_plain(&self) -> bool {
        let Self { soft, smoothing, costs, focal, z_loss } = *self;
        soft.is_none() && smoothing == 0.0 && costs.is_none() && focal == 0.0 && z_loss == 0.0
    }

    /// The terms, if they are those of the label and of the row as a whole.
    pub(crate) fn of_label_alone(&self) -> Option<FocalAndZ> {
        let Self { focal, z_loss, .. } = *self;
        (!self.has_spread() && self.costs.is_none()).then_some(FocalAndZ { focal, z_loss })
    }

    /// Whether there is a Σ_c u_c·(−log p_c).
    pub(crate) fn has_spread(&self) -> bool {
        self.soft.is_some() || self.smoothing != 0.0
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

/// What the terms add to what is known of the rows of a block.
#[derive(Clone)]
pub(crate) struct TermBlock {
    /// y, or [`NO_LABEL`].
    pub(crate) label: [usize; ROWS],
    /// x_y
    pub(crate) label_logit: [f32; ROWS],
    /// a
    pub(crate) own: [f64; ROWS],
    /// u of the label and of the reference.
    pub(crate) u_label: [f64; ROWS],
    pub(crate) u_reference: [f64; ROWS],
    /// Σ_{c≠m} u_c and Σ_c u_c·(x_m − x_c)
    pub(crate) others: [f64; ROWS],
    pub(crate) gaps: [f64; ROWS],
    /// fp[y, m]
    pub(crate) cost_reference: [f64; ROWS],
    /// log E, where there are costs.
    pub(crate) log_excluded: [f64; ROWS],
    /// Σ_{j≠m} fp[y,j]·(−log(1 − p_j)) and Σ_{j≠m} σ_j
    pub(crate) costs: [f64; ROWS],
    pub(crate) odds: [f64; ROWS],
    /// What makes an exponential the part of the gradient that is proportional to it, but for σ.
    pub(crate) scale: [f64; ROWS],
    /// The element of the gradient of the label.
    pub(crate) at_label: [f32; ROWS],
    /// What makes an exponential a probability times the factor of the row, and that factor.
    pub(crate) weighed_probability: [f32; ROWS],
    pub(crate) factor: [f32; ROWS],
    /// The marked rows of which only the gradient is left to the general way: their losses are those of a call without one.
    pub(crate) loss_is_known: u32,
}

/// The label of a row that has none.
pub(crate) const NO_LABEL: usize = usize::MAX;

impl TermBlock {
    pub(crate) const EMPTY: Self = {
        let (zeros, numbers) = ([0.0; ROWS], [0.0; ROWS]);
        Self {
            label: [NO_LABEL; ROWS],
            label_logit: numbers,
            own: zeros,
            u_label: zeros,
            u_reference: zeros,
            others: zeros,
            gaps: zeros,
            cost_reference: zeros,
            log_excluded: zeros,
            costs: zeros,
            odds: zeros,
            scale: zeros,
            at_label: numbers,
            weighed_probability: numbers,
            factor: numbers,
            loss_is_known: 0,
        }
    };
}

/// The loss of every row, with its gradient where there is room for one. Everything but the labels has been validated.
pub(crate) struct TermRows<'a, 'b, const GRADIENT: bool> {
    pub(crate) batch: Batch<'a>,
    pub(crate) terms: Terms<'a>,
    pub(crate) row_losses: Option<&'b mut [f32]>,
    pub(crate) tally: &'b mut Tally,
    pub(crate) weights: Option<&'b mut Weights>,
}

impl<const GRADIENT: bool> Driver for TermRows<'_, '_, GRADIENT> {
    type Output = Result<(), Error>;

    fn drive<S: Vector>(mut self, s: S) -> Self::Output {
        let rows = self.batch.rows;
        with_tile::<4, _>(rows.count(), rows.classes(), |tile| self.tiles(s, tile))
    }
}

/// Sums read two columns at a time, and so this far beyond a row.
const TWO: usize = 2 * VIRTUAL_LANES;

/// The blocks of a tile of rows with terms: fewer than the weighted loss takes, since there is more to a row; one where memory
/// may be small.
const BLOCKS: usize = if Backend::ONLY_SCALAR { 1 } else { 4 };

impl<const GRADIENT: bool> TermRows<'_, '_, GRADIENT> {
    #[inline(never)]
    fn tiles<S: Vector>(&mut self, s: S, mut tile: Tile<'_>) -> Result<(), Error> {
        let rows = self.batch.rows;
        let mut terms = [TermBlock::EMPTY; BLOCKS];
        let spread = Spread::new(&self.terms, rows).with_whole(&self.terms, rows.classes());
        let spread = self.terms.has_spread().then_some(spread);
        let mut fitting = tile.rows(rows.classes()).min(BLOCKS * ROWS);
        if !S::WIDE && rows.classes() > SMALLEST {
            // As where there is no more room: one lane has the same bits on every machine.
            fitting = 0;
        }
        self.fill(s, &mut tile, spread);
        let mut first = 0;
        while first < rows.count() {
            let mut count = fitting.min(rows.count() - first);
            if fitting == 0 {
                count = ROWS.min(rows.count() - first).min(rows.left_in_sample(first).max(1));
                if rows.positions() == 1 {
                    count = ROWS.min(rows.count() - first);
                }
            }
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            s.run(ReadClasses { rows, first, count, blocks: &mut *blocks, weights: self.weights.as_deref_mut() })?;
            self.read(first, count, blocks, &mut terms);
            if GRADIENT && self.batch.gradient.is_some() {
                let (scale, temperature) = (self.batch.scale, self.batch.adjustment.temperature);
                s.run(Factors { first, blocks: &mut *blocks, scale, temperature });
            }
            if fitting == 0 {
                for block in &mut *blocks {
                    block.general = u32::MAX;
                }
            } else {
                self.compute(s, &mut tile, &mut terms, spread, first, count);
            }
            let (batch, options) = (&mut self.batch, &self.terms);
            if part(tile.blocks, 0, count.div_ceil(ROWS)).iter().any(|block| block.general != 0) {
                terms_general::compute(s, batch, options, &mut tile, &mut terms, first, count);
            }
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            s.run(Losses { first, blocks: &mut *blocks, tally: &mut *self.tally });
            if let Some(out) = self.row_losses.as_deref_mut() {
                for (to, block) in chunks_mut(part_mut(out, first, count), ROWS).zip(blocks) {
                    copy(to, &block.loss);
                }
            }
            first += count;
        }
        Ok(())
    }

    /// Fills the part of the tile that is the same for all rows: u, or the weights that targets are multiplied by. Of rows that
    /// do not fit, nothing.
    fn fill<S: Vector>(&self, s: S, tile: &mut Tile<'_>, spread: Option<Spread<'_>>) {
        let (room, classes) = (tile.numbers.len(), self.batch.rows.classes());
        let same = part_mut(tile.spare, room, classes);
        if self.terms.soft.is_some() {
            copy(same, self.batch.rows.class_weights().unwrap_or(&[]));
        } else if let Some(spread) = spread {
            s.run(FillWeights { spread, to: same });
        }
    }

    /// Labels and weights of the rows, as the terms have them: `weight` becomes that of the sample.
    fn read(&self, first: usize, count: usize, blocks: &mut [RowBlock], terms: &mut [TermBlock]) {
        let (rows, kept) = (self.batch.rows, self.terms.kept());
        let has_labels = rows.labels().is_some();
        for ((start, block), terms) in (0..count).step_by(ROWS).zip(blocks).zip(terms) {
            (block.general, terms.u_label, terms.label_logit) = (0, [0.0; ROWS], [0.0; ROWS]);
            terms.loss_is_known = 0;
            let rows_here = ROWS.min(count - start);
            for lane in 0..ROWS {
                let row = first + start + lane;
                let counts = lane < rows_here && (rows.ignored().is_none() || rows.counts(row));
                block.weight[lane] = if counts { f64::from(rows.sample_weight(row)) } else { 0.0 };
                let is_label = counts && has_labels;
                terms.label[lane] = if is_label { block.class[lane] } else { NO_LABEL };
                terms.own[lane] = if is_label { kept * f64::from(rows.weight(block.class[lane])) } else { 0.0 };
            }
        }
    }

    /// Losses and gradients of rows that fit the tile; those that are marked are left to the general way.
    fn compute<S: Vector>(
        &mut self,
        s: S,
        tile: &mut Tile<'_>,
        terms: &mut [TermBlock],
        spread: Option<Spread<'_>>,
        first: usize,
        count: usize,
    ) {
        let (batch, options, classes) = (&self.batch, &self.terms, self.batch.rows.classes());
        let place = Place { first, rows: count, start: 0, width: classes };
        let (blocks, len) = (part_mut(tile.blocks, 0, count.div_ceil(ROWS)), count * classes);
        let gradient = GRADIENT && batch.gradient.is_some();
        let room = tile.numbers.len();
        let exponentials = &mut *tile.numbers;
        let mut parts = tile.spare.chunks_exact_mut(room.max(1));
        let [brought, same, odds] = [(); 3].map(|()| parts.next().unwrap_or_default());
        // Rows have one or the other.
        let (targets, odds) = if options.soft.is_some() { (odds, &mut [][..]) } else { (&mut [][..], odds) };
        // Where they stand, if vectors can reach beyond the last row.
        let logits = match batch.as_tile().map(|logits| part(logits, first * classes, len + TWO)) {
            Some(logits) if !logits.is_empty() => logits,
            _ => {
                batch.bring(s, place, brought);
                &*brought
            }
        };
        s.run(References { logits, classes, blocks: &mut *blocks });
        for (row, x) in part(logits, 0, len).chunks_exact(classes.max(1)).enumerate() {
            if let Some(terms) = terms.get_mut(row / ROWS)
                && let Some(&x) = x.get(terms.label[row % ROWS])
            {
                terms.label_logit[row % ROWS] = x;
            }
        }
        if !s.run(Exponentials { logits: Some(part(logits, 0, len)), to: &mut *exponentials, count: len }) {
            s.run(MarkRows { logits: part(logits, 0, len), classes, blocks: &mut *blocks });
        }
        s.run(ExcludedSums {
            logits: None,
            exponentials: &mut *exponentials,
            classes,
            rows: count,
            blocks: &mut *blocks,
        });
        s.run(Finish::<true, false> { blocks: &mut *blocks });
        let mut u = None;
        if let Some(spread) = spread {
            if let Some(soft) = options.soft {
                let targets = if batch.rows.are_dense() && soft.len() >= first * classes + len + TWO {
                    part(soft, first * classes, len + TWO)
                } else {
                    batch.bring_targets(s, soft, place, targets);
                    &*targets
                };
                spread.read(Some(targets), classes, blocks, terms);
                u = Some(U::of_targets(spread, same, targets));
            } else {
                spread.read(None, classes, blocks, terms);
                for terms in &mut *terms {
                    for (others, u) in terms.others.iter_mut().zip(&terms.u_reference) {
                        *others = spread.whole - u;
                    }
                }
                u = Some(U::same(same));
            }
        }
        if let Some(u) = u {
            s.run(SpreadSums { u, logits, classes, blocks, terms: &mut *terms });
        }
        if let Some(matrix) = options.costs {
            // Vectors would reach beyond the matrix; the logits are done with.
            copy(brought, end_of(matrix, classes));
            let (end, odds) = (&*brought, gradient.then_some(&mut *odds));
            let terms = &mut *terms;
            s.run(CostSums { matrix, end, exponentials, odds, classes, rows: count, blocks, terms });
        }
        let largest_weight = spread.map_or(0.0, |spread| spread.largest_weight);
        s.run(FinishTerms::<GRADIENT> { options, gradient, largest_weight, blocks: &mut *blocks, terms: &mut *terms });
        if !gradient {
            return;
        }
        let odds = options.costs.is_some().then_some(&*odds);
        let dense = match self.batch.gradient.as_deref_mut() {
            Some(gradient) if self.batch.rows.are_dense() => Some(part_mut(gradient, first * classes, len)),
            _ => None,
        };
        match dense {
            Some(to) => s.run(TermGradient { exponentials, u, odds, to, classes, blocks, terms }),
            None => {
                let to = part_mut(brought, 0, len);
                s.run(TermGradient { exponentials, u, odds, to, classes, blocks, terms });
                self.batch.send_unmarked(place, brought, blocks);
            }
        }
    }
}

/// Fills the losses (as `log`) and, for gradients, what its elements are made of. Rows for which f32 is too small are marked.
pub(crate) struct FinishTerms<'a, const GRADIENT: bool> {
    pub(crate) options: &'a Terms<'a>,
    /// Whether there is one, if there may be.
    pub(crate) gradient: bool,
    /// That of a class where there is a spread.
    pub(crate) largest_weight: f64,
    pub(crate) blocks: &'a mut [RowBlock],
    pub(crate) terms: &'a mut [TermBlock],
}

impl<const GRADIENT: bool> Operation for FinishTerms<'_, GRADIENT> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, _: S) {
        let Terms { focal, z_loss, costs: matrix, .. } = *self.options;
        for (block, terms) in one_by_one(self.blocks).zip(self.terms) {
            let is_reference = is_reference(block, terms);
            let (logit, label_logit, log, miss) = (block.logit, terms.label_logit, block.log, block.miss);
            let (mut of_label, mut p, mut q) = ([0.0; ROWS], [0.0; ROWS], [0.0; ROWS]);
            for i in 0..ROWS {
                let gap = f64::from(logit[i]) - f64::from(label_logit[i]);
                of_label[i] = if is_reference[i] { log[i] } else { gap + log[i] };
            }
            if GRADIENT || focal != 0.0 {
                for i in 0..ROWS {
                    p[i] = double::exp(-of_label[i]);
                    q[i] = if is_reference[i] { miss[i] } else { 1.0 - p[i] };
                }
            }
            let (own, mut loss_factor, mut slope) = (terms.own, terms.own, terms.own);
            if focal != 0.0 {
                let (mut of_loss, mut of_gradient) = ([0.0; ROWS], [0.0; ROWS]);
                focal_factors(f64::from(focal), &p, &q, &of_label, &mut of_loss, &mut of_gradient);
                for i in 0..ROWS {
                    loss_factor[i] = own[i] * of_loss[i];
                    slope[i] = own[i] * of_gradient[i];
                }
            }
            let (others, gaps, u, costs) = (terms.others, terms.gaps, terms.u_reference, terms.costs);
            let (cost, log_excluded, z_loss) = (terms.cost_reference, terms.log_excluded, f64::from(z_loss));
            let (mut losses, mut lse, mut whole) = ([0.0; ROWS], [0.0; ROWS], [0.0; ROWS]);
            for i in 0..ROWS {
                whole[i] = own[i] + (others[i] + u[i]);
                let spread = gaps[i] + (others[i] + u[i]) * log[i];
                // 0·∞ = 0
                let label = if loss_factor[i] == 0.0 { 0.0 } else { loss_factor[i] * of_label[i] };
                losses[i] = label + spread;
            }
            if matrix.is_some() {
                for i in 0..ROWS {
                    // −log(1 − p_m) = log(1 + E) − log E
                    let miss_log = if cost[i] == 0.0 { 0.0 } else { cost[i] * (log[i] - log_excluded[i]) };
                    losses[i] += costs[i] + miss_log;
                }
            }
            if z_loss != 0.0 {
                for i in 0..ROWS {
                    lse[i] = f64::from(logit[i]) + log[i];
                    let of_z = z_loss * whole[i];
                    losses[i] += if of_z == 0.0 { 0.0 } else { of_z * (lse[i] * lse[i]) };
                }
            }
            block.log = losses;
            if GRADIENT && self.gradient {
                let mut of_z = [0.0; ROWS];
                for i in 0..ROWS {
                    let factor = 2.0 * z_loss * whole[i];
                    of_z[i] = if factor == 0.0 { 0.0 } else { factor * lse[i] };
                }
                gradients(block, terms, &Label { p, q, slope }, &of_z, matrix.is_some(), self.largest_weight);
            } else {
                mark(block, &losses);
            }
        }
    }
}

/// Whether the label of a row is its reference.
#[inline(always)]
fn is_reference(block: &RowBlock, terms: &TermBlock) -> [bool; ROWS] {
    let mut is_reference = [false; ROWS];
    for ((is_reference, class), label) in is_reference.iter_mut().zip(block.class).zip(terms.label) {
        *is_reference = class == label;
    }
    is_reference
}

/// Marks rows whose loss or whose sums f32 could not hold.
#[inline(always)]
fn mark(block: &mut RowBlock, losses: &[f64; ROWS]) {
    for (lane, loss) in losses.iter().enumerate() {
        if !loss.is_finite() {
            block.general |= 1 << lane;
        }
    }
}

/// What is known of the labels: p_y, 1 − p_y and F.
struct Label {
    p: [f64; ROWS],
    q: [f64; ROWS],
    slope: [f64; ROWS],
}

#[inline(always)]
fn gradients(
    block: &mut RowBlock,
    terms: &mut TermBlock,
    label: &Label,
    of_z: &[f64; ROWS],
    has_costs: bool,
    largest_weight: f64,
) {
    let (share, miss, sum, factor) = (block.share, block.miss, block.sum, block.factor);
    let (others, u, u_label) = (terms.others, terms.u_reference, terms.u_label);
    let (odds, cost, label_logit) = (terms.odds, terms.cost_reference, terms.label_logit);
    let (shift, power) = (block.shift, block.power);
    let Label { p, q, slope } = label;
    let is_reference = is_reference(block, terms);
    let (mut scale, mut at_reference, mut at_label, mut sizes) = ([0.0; ROWS], [0.0; ROWS], [0.0; ROWS], [0.0; ROWS]);
    for i in 0..ROWS {
        let hit = 1.0 - miss[i];
        let without_label = (others[i] + u[i]) - odds[i] + if of_z[i].is_finite() { of_z[i] } else { 0.0 };
        scale[i] = (slope[i] + without_label) * share[i];
        let size = slope[i].abs() + without_label.abs() + largest_weight + odds[i].abs() + cost[i].abs();
        // 0·∞ is none in f32.
        sizes[i] = if factor[i] == 0.0 { size } else { factor[i].abs() * size };
        let own = if is_reference[i] { -slope[i] * miss[i] } else { slope[i] * hit };
        let at = own + (others[i] * hit - u[i] * miss[i]) + (cost[i] - odds[i]) * hit;
        at_reference[i] = factor[i] * (at + if of_z[i] == 0.0 { 0.0 } else { of_z[i] * hit });
        at_label[i] = p[i] * without_label - slope[i] * q[i] - u_label[i];
    }
    if has_costs {
        for i in 0..ROWS {
            let hit = 1.0 - miss[i];
            // p_i/(1 − p_m) is the exponential over the sum.
            let of_cost = if cost[i] == 0.0 || sum[i] == 0.0 { 0.0 } else { cost[i] * hit / sum[i] };
            scale[i] -= of_cost;
            let gap = f64::from(label_logit[i]) - f64::from(shift[i]);
            let e = double::exp(gap) * double::power_of_two(f64::from(power[i]));
            at_label[i] -= if e == 0.0 { 0.0 } else { of_cost * e };
        }
    }
    for i in 0..ROWS {
        scale[i] *= factor[i];
        at_label[i] *= factor[i];
    }
    terms.scale = scale;
    let mut held = [true; ROWS];
    for i in 0..ROWS {
        let with_factor = factor[i] * share[i];
        block.scale[i] = scale[i] as f32;
        block.at_reference[i] = at_reference[i] as f32;
        terms.at_label[i] = at_label[i] as f32;
        terms.weighed_probability[i] = with_factor as f32;
        terms.factor[i] = factor[i] as f32;
        let is_held = |x: f64| (x == 0.0) | is_held(x);
        let are_held = is_held(scale[i]) & is_held(with_factor) & is_held(factor[i]);
        held[i] = (sizes[i] <= FAR_SCALE) & ((factor[i] == 0.0) | are_held);
    }
    let losses = block.log;
    mark(block, &losses);
    for (lane, _) in held.iter().enumerate().filter(|(_, held)| !**held) {
        terms.loss_is_known |= !block.general & 1 << lane;
        block.general |= 1 << lane;
    }
}

/// Writes the gradient of the rows that are not marked.
struct TermGradient<'a> {
    exponentials: &'a [f32],
    /// u, where there is a spread, and fp·e/(1 − p), where there are costs.
    u: Option<U<'a>>,
    odds: Option<&'a [f32]>,
    to: &'a mut [f32],
    classes: usize,
    blocks: &'a [RowBlock],
    terms: &'a [TermBlock],
}

impl Operation for TermGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { exponentials, u, odds, to, classes, blocks, terms } = self;
        // Vectors reach over the end of a row into the next, which follows.
        let overlap = blocks.iter().all(|block| block.general == 0);
        let (mut start, reach, end) = (0, classes.next_multiple_of(S::LANES), to.len());
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in 0..ROWS {
                if start >= end {
                    break;
                }
                let first = start;
                start += classes;
                if block.is_marked(lane) {
                    continue;
                }
                let scale = s.splat(block.scale[lane]);
                let (factor, of_odds) = (s.splat(-terms.factor[lane]), s.splat(terms.weighed_probability[lane]));
                let e = part(exponentials, first, reach).chunks_exact(S::LANES);
                let row = Elements { scale, factor, of_odds, u, odds };
                if overlap && first + reach <= end {
                    let to = part_mut(to, first, reach).chunks_exact_mut(S::LANES);
                    for ((to, e), at) in to.zip(e).zip((0..).step_by(S::LANES)) {
                        s.store(row.vector(s, e, first, at), to, 0);
                    }
                } else {
                    let to = part_mut(to, first, classes).chunks_mut(S::LANES);
                    for ((to, e), at) in to.zip(e).zip((0..).step_by(S::LANES)) {
                        s.store_some(row.vector(s, e, first, at), to);
                    }
                }
            }
        }
        // The elements that are not made of their exponentials.
        let mut start = 0;
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in 0..ROWS {
                let row = part_mut(to, start, classes);
                start += classes;
                if block.is_marked(lane) {
                    continue;
                }
                if let Some(element) = row.get_mut(terms.label[lane]) {
                    *element = terms.at_label[lane];
                }
                if let Some(element) = row.get_mut(block.class[lane]) {
                    *element = block.at_reference[lane];
                }
            }
        }
    }
}

/// What the elements of a row are made of.
struct Elements<'a, S: Vector> {
    scale: S::F,
    /// That of u, and that of the odds.
    factor: S::F,
    of_odds: S::F,
    u: Option<U<'a>>,
    odds: Option<&'a [f32]>,
}

impl<S: Vector> Elements<'_, S> {
    /// Those of the classes from `class` on of the row that begins at `start`, whose exponentials are these.
    #[inline(always)]
    fn vector(&self, s: S, e: &[f32], start: usize, class: usize) -> S::F {
        let mut element = s.mul(s.load(e, 0), self.scale);
        if let Some(u) = self.u {
            element = s.mul_add(u.vector(s, u.start(start) + class, class), self.factor, element);
        }
        if let Some(odds) = self.odds {
            element = s.mul_add(s.load(odds, start + class), self.of_odds, element);
        }
        element
    }
}
