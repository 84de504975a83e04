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
use super::costs::{add_up_odds, cost_sums, end_of};
use super::lanes::{Lane, Lanes};
use super::limits::{ROWS, SMALLEST};
use super::row_scalars::add_losses;
use super::spread::{Spread, U, fill_u, spread_sums};
use super::sums::is_worth_code;
use super::term_columns::TermColumns;
use super::term_gradient::write_term_gradient;
use super::term_scalars::{NO_LABEL, TermBlock, Terms, finish_terms};
use super::term_sums::TermSums;
use super::tile::{Batch, Place, RowBlock, Tile, with_tile};
use super::{
    chunks_mut, copy, long_terms, part, part_mut, positions, rows_of_mut, term_columns, terms_general, two_class_terms,
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

/// Sums load two columns at a time, and so up to this many elements past the end of a row.
const TWO: usize = 2 * VIRTUAL_LANES;

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
        let rows = self.batch.rows;
        let spread = self.terms.has_spread().then(|| {
            let spread = Spread::new(&self.terms, rows);
            // One lane always refers to the argmax: small memories have no room for the code of both.
            let with_u_sum = if S::WIDE { Spread::with_u_sum_and_reference } else { Spread::with_u_sum };
            with_u_sum(spread, &self.terms, rows.classes())
        });
        let at_most = terms.len().wrapping_mul(ROWS);
        let mut fitting = tile.rows(rows.classes()).min(at_most);
        let are_columns = self.are_columns::<S>();
        if are_columns {
            fitting = positions::rows_at_once(rows.classes(), &tile).min(at_most);
        } else if !S::WIDE && rows.classes() > SMALLEST
            || self.are_in_pieces::<S>() && rows.classes() > long_terms::LONG_PIECE
        {
            // One lane: as if the tile were the smallest, for the same bits on every machine.
            fitting = 0;
        }
        if fitting > 0 && !are_columns {
            self.fill(s, &mut tile, spread);
        }
        let mut first = 0;
        while first < rows.count() {
            let mut count = fitting.min(rows.left_in_chunk(first));
            if are_columns {
                count = positions::rows_from(rows, first, fitting);
            } else if fitting == 0 {
                count = ROWS.min(rows.left_in_chunk(first));
            }
            self.read(s, part_mut(tile.blocks, 0, count.div_ceil(ROWS)), terms, first, count)?;
            if S::WIDE && rows.classes() == 2 && two_class_terms::are_of_gap(&self.terms) {
                let (batch, options) = (&mut self.batch, &self.terms);
                two_class_terms::compute(s, batch, options, spread, &mut tile, terms, (first, count));
            } else if let Some(spread) = spread.filter(|_| are_columns) {
                self.compute_columns(s, &mut tile, terms, spread, first, count);
            } else if fitting == 0 {
                self.compute_long(s, &mut tile, terms, spread, first, count);
            } else {
                self.compute(s, &mut tile, terms, spread, first, count);
            }
            let (batch, options) = (&mut self.batch, &self.terms);
            if part(tile.blocks, 0, count.div_ceil(ROWS)).iter().any(|block| block.marked != 0) {
                terms_general::compute(s, batch, options, spread, &mut tile, terms, (first, count));
            }
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            add_losses(s, first, blocks, &mut *self.tally);
            if let Some(out) = self.row_losses.as_deref_mut() {
                for (to, block) in chunks_mut(part_mut(out, first, count), ROWS).zip(blocks) {
                    copy(to, block.loss.as_slice());
                }
            }
            first = first.wrapping_add(count);
        }
        Ok(())
    }

    /// Fills classes, weights and factors of some rows.
    fn read<S: Vector>(
        &mut self,
        s: S,
        blocks: &mut [RowBlock],
        terms: &mut [TermBlock],
        first: usize,
        count: usize,
    ) -> Result<(), Error> {
        let (rows, options, weights) = (self.batch.rows, &self.terms, self.weights.as_deref_mut());
        let all_count = read_classes(s, rows, first, count, blocks, weights)?;
        read_terms(s, options, rows, first, count, all_count, blocks, terms);
        if self.batch.gradient.is_some() {
            let (scale, temperature) = (self.batch.scale, self.batch.adjustment.temperature);
            fill_factors(s, first, blocks, scale, temperature);
        }
        Ok(())
    }

    /// Fills the part of the tile that all rows share: u of label smoothing, or the class weights for target
    /// probabilities. For rows that fit the tile.
    fn fill<S: Vector>(&self, s: S, tile: &mut Tile<'_>, spread: Option<Spread<'_>>) {
        let (room, classes) = (tile.numbers.len(), self.batch.rows.classes());
        let same = part_mut(tile.spare, room, classes);
        if self.terms.soft.is_some() {
            copy(same, self.batch.rows.class_weights().unwrap_or(&[]));
        } else if let Some(spread) = spread {
            fill_u(s, spread, 0, same);
        }
    }

    /// The logits of these rows: borrowed if dense, unadjusted f32 with two columns to spare, else copied to `loaded`.
    fn logits<'t, S: Vector>(&'t self, s: S, place: Place, loaded: &'t mut [f32]) -> &'t [f32] {
        let (start, reach) = place.with_reach();
        match self.batch.as_tile().map(|logits| part(logits, start, reach)) {
            Some(logits) if !logits.is_empty() => logits,
            _ => {
                self.batch.load_rows(s, place, loaded);
                loaded
            }
        }
    }

    /// u of these rows; fills u of the references and, without target probabilities, Σ_{c≠m} u_c.
    #[allow(clippy::too_many_arguments, reason = "the places of a tile")]
    fn u<'t, S: Vector>(
        &self,
        s: S,
        spread: Spread<'_>,
        place: Place,
        blocks: &[RowBlock],
        terms: &mut [TermBlock],
        same: &'t [f32],
        targets: &'t mut [f32],
    ) -> U<'t>
    where
        'a: 't,
    {
        let (batch, classes) = (&self.batch, place.width);
        let Some(soft) = self.terms.soft else {
            spread.read(None, classes, blocks, terms);
            for terms in terms {
                terms.others = terms.u_reference.map(|u| spread.u_sum - u);
            }
            return U::same(spread, same);
        };
        let (start, reach) = place.with_reach();
        let targets = if batch.rows.are_dense() && soft.len() >= start.saturating_add(reach) {
            part(soft, start, reach)
        } else {
            batch.load_targets(s, soft, place, targets);
            targets
        };
        spread.read(Some(targets), classes, blocks, terms);
        U::of_targets(spread, same, targets)
    }

    /// Whether [`long_terms`] computes rows that do not fit the tile, rather than the general way.
    fn are_in_pieces<S: Vector>(&self) -> bool {
        S::WIDE && self.terms.costs.is_none()
    }

    /// Whether logits of a class are contiguous and stay so in the tile: [`term_columns`].
    fn are_columns<S: Vector>(&self) -> bool {
        let rows = self.batch.rows;
        let are_gaps = rows.classes() == 2 && two_class_terms::are_of_gap(&self.terms);
        let may_be = is_worth_code::<S>() && self.terms.has_spread() && self.terms.costs.is_none();
        may_be && positions::are_enough(rows) && !are_gaps
    }

    /// Losses and gradients of rows in columns; marks those left to the general way.
    fn compute_columns<S: Vector>(
        &mut self,
        s: S,
        tile: &mut Tile<'_>,
        terms: &mut [TermBlock],
        spread: Spread<'_>,
        first: usize,
        count: usize,
    ) {
        let (blocks, classes, room) = (count.div_ceil(ROWS), self.batch.rows.classes(), tile.numbers.len());
        let place = Place { first, rows: count, start: 0, width: classes };
        let mut arrays = tile.spare.chunks_exact_mut(room.max(1));
        let [logits, targets, gaps, others] = [(); 4].map(|()| arrays.next().unwrap_or_default());
        let mut columns = term_columns::Room { e: &mut *tile.numbers, logits, targets, gaps, others, is_loaded: false };
        let probabilities = self.batch.gradient.is_some() || self.terms.label.change_term();
        let of_columns =
            TermColumns { options: &self.terms, spread, by_label: spread.by_label, referred: false, probabilities };
        let (batch, terms) = (&mut self.batch, part_mut(terms, 0, blocks));
        of_columns.compute(s, batch, &mut columns, part_mut(tile.blocks, 0, blocks), terms, place);
    }

    /// Losses and gradients of rows that do not fit the tile; marks those left to the general way.
    fn compute_long<S: Vector>(
        &mut self,
        s: S,
        tile: &mut Tile<'_>,
        terms: &mut [TermBlock],
        spread: Option<Spread<'_>>,
        first: usize,
        count: usize,
    ) {
        let spread = spread.filter(|_| self.are_in_pieces::<S>());
        if let (Some(spread), Some(terms)) = (spread, terms.first_mut()) {
            let (batch, options) = (&mut self.batch, &self.terms);
            return long_terms::compute(s, batch, options, spread, tile, terms, (first, count));
        }
        for block in part_mut(tile.blocks, 0, count.div_ceil(ROWS)) {
            block.marked = u32::MAX;
        }
    }

    /// Losses and gradients of rows that fit the tile; marks those left to the general way.
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
        let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
        let (gradient, room) = (batch.gradient.is_some(), tile.numbers.len());
        let mut parts = tile.spare.chunks_exact_mut(room.max(1));
        let [loaded, same, odds] = [(); 3].map(|()| parts.next().unwrap_or_default());
        // One array for both: target probabilities exclude costs.
        let (targets, odds) = if options.soft.is_some() { (odds, &mut [][..]) } else { (&mut [][..], odds) };
        let exponentials = &mut *tile.numbers;
        // False at compile time for one lane.
        let by_label = S::WIDE && spread.is_some_and(|spread| spread.by_label);
        // One lane always computes them: one function less where memory is small.
        let probabilities = !S::WIDE || gradient || options.costs.is_some() || options.label.change_term();
        let logits = self.logits(s, place, loaded);
        let rows = TermSums { logits, classes, count, options, by_label, probabilities };
        let in_range = rows.finish(s, exponentials, blocks, terms);
        // Rows out of range have another reference.
        let spread = spread.map(|spread| spread.by_label_if(S::WIDE && in_range));
        let u = spread.map(|spread| self.u(s, spread, place, blocks, terms, same, targets));
        if let Some(u) = u {
            for terms in &mut *terms {
                terms.gaps = Lanes::splat(0.0);
                if options.soft.is_some() {
                    terms.others = Lanes::splat(0.0);
                }
            }
            spread_sums(s, u, logits, classes, count, blocks, terms);
        }
        if let Some(matrix) = options.costs {
            let (terms, odds) = (&mut *terms, gradient.then_some(&mut *odds));
            add_up_costs(s, matrix, (exponentials, loaded, odds), (count, classes), blocks, terms);
        }
        let largest_weight = spread.map_or(0.0, |spread| spread.largest_weight);
        finish_terms(s, options, gradient, largest_weight, blocks, terms);
        if let Some(last) = blocks.last_mut().filter(|_| !count.is_multiple_of(ROWS)) {
            // Lanes after the last row have scalars of whatever follows it.
            last.marked &= Lane::of(count).bit().wrapping_sub(1);
        }
        let batch = &mut self.batch;
        if gradient {
            let odds = options.costs.is_some().then_some(&*odds);
            write_gradient(s, batch, (exponentials, loaded), (u, odds), blocks, terms, place);
        }
        blocks.iter_mut().filter(|_| !in_range).for_each(RowBlock::without_references);
    }
}

/// Fills the sums of mislabel costs and, if given, the odds; `loaded` is free.
fn add_up_costs<S: Vector>(
    s: S,
    matrix: &[f32],
    (exponentials, loaded, mut odds): (&[f32], &mut [f32], Option<&mut [f32]>),
    (rows, classes): (usize, usize),
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
) {
    for terms in &mut *terms {
        terms.costs = Lanes::splat(0.0);
    }
    // A copy of the last rows, past which vectors would load.
    copy(loaded, end_of(matrix, classes));
    let (end, to) = (&*loaded, odds.as_deref_mut());
    cost_sums(s, matrix, end, exponentials, to, (rows, classes), blocks, terms);
    if let Some(odds) = odds {
        add_up_odds(s, odds, (rows, classes), blocks, terms);
    }
}

/// Writes the gradient of the rows that are not marked; `loaded` is free.
fn write_gradient<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    (exponentials, loaded): (&[f32], &mut [f32]),
    (u, odds): (Option<U<'_>>, Option<&[f32]>),
    blocks: &[RowBlock],
    terms: &[TermBlock],
    place: Place,
) {
    let Place { first, rows, width: classes, .. } = place;
    let dense = match batch.gradient.as_deref_mut() {
        Some(gradient) if batch.rows.are_dense() => Some(rows_of_mut(gradient, first, rows, classes)),
        _ => None,
    };
    let is_dense = dense.is_some();
    let to = dense.unwrap_or(rows_of_mut(loaded, 0, rows, classes));
    write_term_gradient(s, exponentials, u, odds, to, classes, blocks, terms);
    if !is_dense {
        batch.store_unmarked(s, place, loaded, blocks);
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
                    for lane in Lane::all().filter(|lane| out & lane.bit() != 0) {
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

impl Place {
    /// Start and length of dense rows of `width` classes, with two columns more.
    fn with_reach(self) -> (usize, usize) {
        (self.first.wrapping_mul(self.width), self.rows.wrapping_mul(self.width).wrapping_add(TWO))
    }
}
