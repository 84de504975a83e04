//! Losses with terms: target probabilities, label smoothing, mislabel costs and the terms combined with them.
//!
//! With all options the loss of a row is
//!
//! s·( a·(1 − p_y)^γ·(−log p_y) + Σ_c u_c·(−log p_c) + Σ_{j≠y} fp[y,j]·(−log(1 − p_j)) + λ·W·lse² )
//!
//! where a = (1 − ε)·w[y] for a label and 0 for target probabilities, u_c = w[c]·((1 − ε)·q_c + ε/C) with q = 0 for a
//! label, W = a + Σ u_c and s is the sample weight. Its gradient is
//!
//! s·( F·(p_i − [i = y]) + U·p_i − u_i + σ_i − p_i·Σσ + 2λ·W·lse·p_i ), σ_j = fp[y,j]·p_j/(1 − p_j), U = Σ u_c,
//!
//! where F = a·((1 − p_y)^γ + γ·(1 − p_y)^(γ−1)·p_y·(−log p_y)).
//!
//! The reference class m is the row-wise argmax. With E = Σ_{k≠m} exp(x_k − x_m), −log p_c = (x_m − x_c) + log(1 + E)
//! adds nonnegative values, without cancellation; 1 − p_m = E/(1 + E), every other p is at most ½. Label smoothing
//! without costs takes the label as the reference where the weights allow it: see [`Spread::with_u_sum_and_reference`].

use super::classes::{Weights, fill_factors, read_classes};
use super::costs::{CostRows, cost_sums, fill_odds};
use super::lanes::{Lane, Lanes};
use super::limits::{REACH, ROWS, SMALLEST};
use super::row_scalars::add_losses;
use super::spread::{Spread, U, fill_shared, spread_sums};
use super::sums::is_worth_code;
use super::term_gradient::write_term_gradient;
use super::term_scalars::{NO_LABEL, TermBlock, Terms, finish_terms, unmark_others};
use super::term_sums::sums;
use super::term_tile::{TermTile, logits, targets};
use super::tile::{Batch, Place, RowBlock, Tile, arrays, with_tile};
use super::{
    chunks_mut, copy, long_terms, part_mut, positions, rows_of_mut, term_columns, terms_general, two_class_terms,
};
use crate::backend::Backend;
use crate::backend::vector::{Driver, VIRTUAL_LANES, Vector};
use crate::error::Error;
use crate::reduction::Tally;
use crate::rows::Rows;

/// Losses of all rows and, if the batch has one, the gradient. All inputs but the labels have been validated.
pub(crate) struct TermRows<'a, 'b> {
    pub(crate) batch: Batch<'a>,
    pub(crate) terms: Terms<'a>,
    pub(crate) row_losses: Option<&'b mut [f32]>,
    pub(crate) tally: &'b mut Tally,
    pub(crate) weights: Option<&'b mut Weights>,
}

impl Driver for TermRows<'_, '_> {
    type Output = Result<(), Error>;

    fn drive<S: Vector>(mut self, s: S) -> Self::Output {
        let rows = self.batch.rows;
        if rows.count() == 0 {
            // Without rows C is unbounded: loops over classes might not end.
            return Ok(());
        }
        let mut result = Ok(());
        let mut compute = |terms: &mut [TermBlock]| {
            if self.are_columns::<S>() {
                let (count, classes) = positions::tile_of(rows);
                with_tile::<5>(count, classes, &mut |tile| result = self.tiles(s, tile, terms));
            } else {
                with_tile::<4>(rows.count(), rows.classes(), &mut |tile| result = self.tiles(s, tile, terms));
            }
        };
        if Backend::ONLY_SCALAR {
            compute(&mut [TermBlock::EMPTY]);
        } else {
            with_term_blocks(rows.count(), rows.classes(), &mut compute);
        }
        result
    }
}

/// Calls `work` with as many blocks of terms as `rows` rows can use: fewer for a few rows, where filling more would
/// take longer than computing, and for many classes, whose exponentials need the first cache.
#[inline(never)]
fn with_term_blocks(rows: usize, classes: usize, work: &mut dyn FnMut(&mut [TermBlock])) {
    if rows <= ROWS {
        work(&mut [TermBlock::EMPTY])
    } else if rows <= 4 * ROWS || classes > VIRTUAL_LANES {
        work(&mut [TermBlock::EMPTY; 4])
    } else {
        work(&mut [TermBlock::EMPTY; 8])
    }
}

impl<'a> TermRows<'a, '_> {
    #[inline(never)]
    fn tiles<S: Vector>(&mut self, s: S, mut tile: Tile<'_>, terms: &mut [TermBlock]) -> Result<(), Error> {
        let (rows, classes) = (self.batch.rows, self.batch.rows.classes());
        let spread = self.spread::<S>();
        let (are_columns, are_gaps) = (self.are_columns::<S>(), S::WIDE && self.are_gaps());
        let are_in_pieces = S::WIDE && self.terms.costs.is_none();
        let at_most = terms.len().wrapping_mul(ROWS);
        let mut fitting = tile.rows(classes).min(at_most);
        if are_columns {
            fitting = positions::rows_at_once(classes, &tile).min(at_most);
        } else if !S::WIDE && classes > SMALLEST || are_in_pieces && classes > long_terms::LONG_PIECE {
            // One lane: as if the tile were the smallest, for the same bits on every machine.
            fitting = 0;
        } else if fitting > 0 {
            self.fill(s, &mut tile, spread);
        }
        let at_once = if fitting == 0 { ROWS } else { fitting };
        let mut first = 0;
        while first < rows.count() {
            let count = match are_columns {
                true => positions::rows_from(rows, first, at_once),
                false => at_once.min(rows.left_in_chunk(first)),
            };
            let place = Place { first, rows: count, start: 0, width: classes };
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            let terms = part_mut(terms, 0, count.div_ceil(ROWS));
            let all_count = read_classes(s, rows, first, count, blocks, self.weights.as_deref_mut())?;
            read_terms(s, &self.terms, rows, first, count, all_count, blocks, terms);
            if self.batch.gradient.is_some() {
                let (scale, temperature) = (self.batch.scale, self.batch.adjustment.temperature);
                fill_factors(s, first, blocks, scale, temperature);
            }
            let tile = Tile { numbers: &mut *tile.numbers, spare: &mut *tile.spare, blocks };
            let mut of_rows = TermTile { batch: &mut self.batch, options: &self.terms, spread, tile, terms, place };
            if are_gaps {
                two_class_terms::compute(s, &mut of_rows);
            } else if are_columns {
                term_columns::compute(s, &mut of_rows);
            } else if fitting > 0 {
                of_rows.compute(s);
            } else if are_in_pieces {
                long_terms::compute(s, &mut of_rows);
            } else {
                of_rows.tile.blocks.iter_mut().for_each(|block| block.marked = u32::MAX);
            }
            if of_rows.tile.blocks.iter().any(|block| block.marked != 0) {
                terms_general::compute(s, &mut of_rows);
            }
            let blocks = of_rows.tile.blocks;
            add_losses(s, first, false, blocks, &mut *self.tally);
            if let Some(out) = self.row_losses.as_deref_mut() {
                for (to, block) in chunks_mut(part_mut(out, first, count), ROWS).zip(blocks) {
                    copy(to, block.loss.as_slice());
                }
            }
            first = first.wrapping_add(count);
        }
        Ok(())
    }

    fn spread<S: Vector>(&self) -> Option<Spread<'a>> {
        let rows = self.batch.rows;
        // One lane always refers to the argmax: small memories have no room for the code of both.
        let with_u_sum = if S::WIDE { Spread::with_u_sum_and_reference } else { Spread::with_u_sum };
        self.terms.has_spread().then(|| with_u_sum(Spread::new(&self.terms, rows), &self.terms, rows.classes()))
    }

    /// Fills the part of the tile that all rows share; zeros without a spread. For rows that fit the tile.
    fn fill<S: Vector>(&self, s: S, tile: &mut Tile<'_>, spread: Option<Spread<'_>>) {
        let shared = part_mut(tile.spare, tile.numbers.len(), self.batch.rows.classes());
        if let Some(spread) = spread {
            fill_shared(s, spread, 0, shared);
        }
    }

    /// Whether rows of two classes are computed from their gap: [`two_class_terms`].
    fn are_gaps(&self) -> bool {
        self.batch.rows.classes() == 2 && self.terms.label.are_none()
    }

    /// Whether logits of a class are contiguous and stay so in the tile: [`term_columns`].
    fn are_columns<S: Vector>(&self) -> bool {
        let may_be = is_worth_code::<S>() && self.terms.has_spread() && self.terms.costs.is_none();
        may_be && positions::are_enough(self.batch.rows) && !self.are_gaps()
    }
}

impl TermTile<'_, '_> {
    /// Losses and gradients of rows that fit the tile; marks those left to the general way.
    fn compute<S: Vector>(&mut self, s: S) {
        let Self { batch, options, tile: Tile { numbers, spare, blocks }, terms, place, .. } = self;
        let (Place { first, rows: count, width: classes, .. }, gradient) = (*place, batch.gradient.is_some());
        let [loaded, shared, odds] = arrays(spare, numbers.len());
        // One array for both: target probabilities exclude costs.
        let (loaded_targets, odds) = if options.soft.is_some() { (odds, &mut [][..]) } else { (&mut [][..], odds) };
        // False at compile time for one lane.
        let by_label = S::WIDE && self.spread.is_some_and(|spread| spread.by_label);
        // One lane always computes them: one function less where memory is small.
        let probabilities = !S::WIDE || gradient || options.costs.is_some() || options.label.change_term();
        let logits = logits(s, batch, *place, REACH, loaded);
        let in_range = sums(s, options, [by_label, probabilities], logits, numbers, (count, classes), blocks, terms);
        // Rows out of range have another reference.
        let spread = self.spread.map(|spread| spread.by_label_if(S::WIDE && in_range));
        let of_spread = spread.map(|spread| {
            let targets = options.soft.map(|soft| targets(s, (batch, soft), *place, REACH, loaded_targets));
            spread.read(targets, classes, blocks, terms);
            U::new(spread, targets, shared)
        });
        if let Some(u) = of_spread {
            for terms in &mut **terms {
                terms.gaps = Lanes::splat(0.0);
                if options.soft.is_some() {
                    terms.others = Lanes::splat(0.0);
                }
            }
            spread_sums(s, u, logits, (count, classes), blocks, terms);
        }
        if let Some(matrix) = options.costs {
            terms.iter_mut().for_each(|terms| terms.costs = Lanes::splat(0.0));
            let costs = CostRows::new(matrix, classes, loaded);
            cost_sums(s, costs, numbers, gradient, count, blocks, terms);
            if gradient {
                fill_odds(s, costs, numbers, odds, count, blocks, terms);
            }
        }
        let largest_weight = spread.map_or(0.0, |spread| spread.largest_weight);
        finish_terms(s, options, gradient, largest_weight, blocks, terms);
        unmark_others(count, blocks);
        if gradient {
            let dense = match batch.gradient.as_deref_mut() {
                Some(gradient) if batch.rows.are_dense() => Some(rows_of_mut(gradient, first, count, classes)),
                _ => None,
            };
            let (is_dense, odds) = (dense.is_some(), options.costs.is_some().then_some(&*odds));
            let to = dense.unwrap_or(rows_of_mut(loaded, 0, count, classes));
            // Without a spread zeros are shared.
            let u = of_spread.unwrap_or(U::none(shared));
            write_term_gradient(s, numbers, u, odds, to, classes, blocks, terms);
            if !is_dense {
                batch.store_unmarked(s, *place, loaded, blocks);
            }
        }
        blocks.iter_mut().filter(|_| !in_range).for_each(RowBlock::without_references);
    }
}

/// Fills labels, a = (1 − ε)·w\[y\] and u of the labels; `weight` becomes the sample weight. All weights are 0 for rows
/// that do not count.
fn read_terms<S: Vector>(
    s: S,
    options: &Terms<'_>,
    rows: &Rows<'_>,
    first: usize,
    count: usize,
    all_count: bool,
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let (kept, evenly) = (options.kept(), options.evenly(rows.classes()));
            let has_labels = rows.labels().is_some();
            for ((start, block), terms) in (0..count).step_by(ROWS).zip(blocks).zip(terms) {
                let row = first.wrapping_add(start);
                (block.marked, terms.marked_for_gradient_only) = (0, 0);
                (terms.label, terms.label_logit) = (Lanes::splat(NO_LABEL), Lanes::splat(0.0));
                let mut of_label = Lanes::splat(0.0);
                if has_labels {
                    terms.label = block.class;
                    // Without sample weights the class weights are what has been read.
                    of_label = block.weight;
                }
                block.weight = Lanes::splat(1.0);
                if let Some(samples) = rows.sample_weights() {
                    for (weight, &sample) in block.weight.iter_mut().zip(samples.get(row..).unwrap_or(&[])) {
                        *weight = f64::from(sample);
                    }
                    for (of_label, &class) in of_label.iter_mut().zip(&block.class).filter(|_| has_labels) {
                        *of_label = f64::from(rows.weight(class));
                    }
                }
                let left = count.wrapping_sub(start);
                if !all_count || left < ROWS {
                    let out = left_out(rows, row, left);
                    for lane in Lane::of_bits(out) {
                        (block.weight[lane], terms.label[lane], of_label[lane]) = (0.0, NO_LABEL, 0.0);
                    }
                }
                let (mut label_weight, mut u_label) = (Lanes::splat(0.0), Lanes::splat(0.0));
                for i in Lane::all() {
                    (label_weight[i], u_label[i]) = (kept * of_label[i], evenly * of_label[i]);
                }
                (terms.label_weight, terms.u_label) = (label_weight, u_label);
            }
        },
    )
}

/// Mask of the lanes from row `first` on that do not count, and those beyond `count` rows.
#[inline(never)]
fn left_out(rows: &Rows<'_>, first: usize, count: usize) -> u32 {
    let is_out = |lane: &Lane| lane.number() >= count || !rows.counts(first.wrapping_add(lane.number()));
    Lane::all().filter(is_out).fold(0, |out, lane| out | lane.bit())
}
