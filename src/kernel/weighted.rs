//! The weighted loss −w[y]·log p_y and its gradient w[y]·(p_i − [i = y]), a tile of rows at a time.
//!
//! The reference class is the label: with E = Σ_{k≠y} exp(x_k − x_y) the loss is w·log(1 + E), p_y = 1/(1 + E), and
//! 1 − p_y = E/(1 + E) without a cancellation.

use super::classes::{Weights, fill_factors, read_classes};
use super::exp::exponentiate;
use super::general::{self, Group, add_sums};
use super::general_columns::are_turned;
use super::label_terms::{LabelTerms, finish};
use super::lanes::{Lane, Lanes};
use super::limits::{REACH, ROWS, SUMMED_IN_F32};
use super::references::read_reference_logits;
use super::row_scalars::{Exponentials, add_losses};
use super::scales::{fill_scales, scale_rows};
use super::sums::{excluded_sums, is_worth_code};
use super::tile::{Batch, Place, RowBlock, Tile, with_tile};
use super::two_classes::{
    Weighing, exact_elements, exponentials_of_gaps, logs_of_far_gaps, logs_of_gaps, losses_of_gaps, rounded_elements,
    write_two_classes,
};
use super::{
    chunks_mut, copy, few_classes, from_row, from_row_mut, general_columns, long_rows, marks, one_lane, part, part_mut,
    positions, row_of, row_of_mut, steps,
};
use crate::backend::vector::{Driver, VIRTUAL_LANES, Vector};
use crate::error::Error;
use crate::reduction::Tally;

/// The loss of every row, and its gradient if there is a buffer. Everything but the labels has been validated.
pub(crate) struct WeightedRows<'a, 'b, L, const GRADIENT: bool> {
    pub(crate) batch: Batch<'a>,
    pub(crate) terms: L,
    pub(crate) row_losses: Option<&'b mut [f32]>,
    /// The sum of the losses. By reference, like `weights` (`None` if known): a returned copy would slow a small call.
    pub(crate) tally: &'b mut Tally,
    pub(crate) weights: Option<&'b mut Weights>,
}

impl<L: LabelTerms, const GRADIENT: bool> Driver for WeightedRows<'_, '_, L, GRADIENT> {
    type Output = Result<(), Error>;

    fn drive<S: Vector>(mut self, s: S) -> Self::Output {
        let rows = self.batch.rows;
        let mut result = Ok(());
        if self.are_positions::<S>() {
            let (count, classes) = positions::tile_of(rows);
            with_tile::<2>(count, classes, &mut |tile| result = self.tiles(s, tile));
        } else {
            with_tile::<1>(rows.count(), rows.classes(), &mut |tile| result = self.tiles(s, tile));
        }
        result
    }
}

impl<L: LabelTerms, const GRADIENT: bool> WeightedRows<'_, '_, L, GRADIENT> {
    #[inline(never)]
    fn tiles<S: Vector>(&mut self, s: S, mut tile: Tile<'_>) -> Result<(), Error> {
        let (rows, classes) = (self.batch.rows, self.batch.rows.classes());
        let mut fitting = tile.rows(classes);
        if self.are_positions::<S>() {
            fitting = positions::rows_at_once(classes, &tile);
        }
        let at_once = if self.are_in_parts::<S>(fitting) { ROWS } else { fitting.max(1) };
        let (mut first, mut was_general) = (0, false);
        while first < rows.count() {
            let count = match self.are_positions::<S>() {
                true => positions::rows_from(rows, first, at_once),
                false => at_once.min(rows.left_in_chunk(first)),
            };
            let (mut tile, place) = (tile.of_rows(count), Place { first, rows: count, start: 0, width: classes });
            let all_count = read_classes(s, rows, first, count, tile.blocks, self.weights.as_deref_mut())?;
            if GRADIENT && self.batch.gradient.is_some() {
                let (scale, temperature) = (self.batch.scale, self.batch.adjustment.temperature);
                fill_factors(s, first, tile.blocks, scale, temperature);
            }
            if !S::WIDE && L::NONE {
                one_lane::compute(s, &mut self.batch, &mut tile, place);
            } else if fitting == 0 {
                long_rows::compute::<S, L, GRADIENT>(s, &mut self.batch, self.terms, &mut tile, first);
            } else {
                was_general = self.compute(s, &mut tile, place, all_count, was_general);
            }
            let are_filled_in = L::NONE && (!S::WIDE || classes == 2);
            add_losses(s, first, are_filled_in, tile.blocks, self.tally);
            if let Some(out) = self.row_losses.as_deref_mut() {
                for (to, block) in chunks_mut(part_mut(out, first, count), ROWS).zip(&*tile.blocks) {
                    copy(to, block.loss.as_slice());
                }
            }
            first = first.wrapping_add(count);
        }
        Ok(())
    }

    /// Whether rows of few classes are computed from the gaps of their logits, each by one way whatever its logits.
    fn are_gaps<S: Vector>(&self) -> bool {
        match self.batch.rows.classes() {
            2 => S::WIDE && !self.terms.has_z_loss(),
            3 | 4 => S::WIDE,
            _ => false,
        }
    }

    /// Whether the rows of a block are brought into the tile, which has room for `fitting` of them, part by part.
    fn are_in_parts<S: Vector>(&self, fitting: usize) -> bool {
        let may_be = is_worth_code::<S>() && L::NONE && !GRADIENT;
        may_be && self.batch.rows.classes() > SUMMED_IN_F32 && (1..ROWS / 2).contains(&fitting)
    }

    /// Whether logits of a class are contiguous and stay so in the tile: `positions`.
    fn are_positions<S: Vector>(&self) -> bool {
        let is_transposed = self.are_gaps::<S>() && (self.batch.rows.classes() == 2 || !is_worth_code::<S>());
        S::WIDE && positions::are_enough(self.batch.rows) && !is_transposed
    }

    /// Losses and gradients of rows that fit the tile, with classes and weights filled in. Returns whether the general
    /// way took all of them; if so, the fast way takes the next tile only if some block has all logits in range.
    fn compute<S: Vector>(
        &mut self,
        s: S,
        tile: &mut Tile<'_>,
        place: Place,
        all_count: bool,
        was_general: bool,
    ) -> bool {
        if was_general
            && !self.are_gaps::<S>()
            && let Some(logits) = self.batch.rows_in_place(place)
        {
            marks::mark(s, Some(logits), place.width, tile.blocks);
        }
        let mut in_range = true;
        if tile.blocks.iter().any(|block| block.marked == 0) {
            in_range = match place.width {
                2 if self.are_gaps::<S>() => self.compute_gaps(s, tile, place, all_count),
                _ if self.are_gaps::<S>() => self.compute_few_classes(s, tile, place),
                _ if self.are_positions::<S>() => {
                    positions::compute::<S, L, GRADIENT>(s, &mut self.batch, self.terms, tile, place)
                }
                _ => self.compute_rows(s, tile, place),
            };
        }
        let all_general = tile.blocks.iter().all(|block| block.marked == u32::MAX);
        if all_general || !in_range {
            if are_turned::<S>(place.width) || is_worth_code::<S>() && self.are_positions::<S>() {
                general_columns::compute::<S, L, GRADIENT>(s, &mut self.batch, self.terms, tile, place);
            }
            general::compute::<S, L, GRADIENT>(s, &mut self.batch, self.terms, tile, place);
        }
        all_general
    }

    /// Losses and gradients of rows of two classes; returns whether none is marked.
    fn compute_gaps<S: Vector>(&mut self, s: S, tile: &mut Tile<'_>, place: Place, all_count: bool) -> bool {
        let logits = self.batch.rows_in_place_or_loaded(s, place, tile.numbers);
        let are_near = exponentials_of_gaps(s, logits, tile.blocks);
        if L::NONE {
            losses_of_gaps(s, self.weighing(all_count), place.rows, tile.blocks);
        } else {
            logs_of_gaps(s, true, tile.blocks);
        }
        let in_range = are_near || logs_of_far_gaps(s, logits, tile.blocks);
        let has_gradient = GRADIENT && self.batch.gradient.is_some();
        self.terms.apply(s, has_gradient, true, tile.blocks);
        if has_gradient {
            if L::NONE {
                rounded_elements(s, are_near, tile.blocks);
            } else {
                exact_elements(s, tile.blocks);
            }
            write_two_classes(s, &mut self.batch, tile, place);
        }
        in_range
    }

    /// How the weights of rows of two classes are given.
    fn weighing(&self, all_count: bool) -> Weighing {
        let rows = self.batch.rows;
        match rows.class_weights() {
            _ if rows.sample_weights().is_some() => Weighing::Samples,
            Some(&[first, second]) if all_count => Weighing::Classes([first, second]),
            None if all_count => Weighing::Classes([1.0; 2]),
            _ => Weighing::Rows,
        }
    }

    /// Losses and gradients of rows of three or four classes; returns whether none is marked.
    fn compute_few_classes<S: Vector>(&mut self, s: S, tile: &mut Tile<'_>, place: Place) -> bool {
        let (in_columns, blocks) = (self.are_positions::<S>(), &mut *tile.blocks);
        let (mut others, mut spare) = (&mut *tile.numbers, &mut *tile.spare);
        if spare.is_empty() {
            (others, spare) = others.split_at_mut_checked(others.len() / 2).unwrap_or_default();
        }
        let in_range = few_classes::sums(s, &self.batch, (others, spare), blocks, place, in_columns);
        if blocks.iter().all(|block| block.marked == u32::MAX) {
            return false;
        }
        let has_gradient = GRADIENT && self.batch.gradient.is_some();
        finish(s, self.terms, Exponentials::OfGaps, has_gradient, blocks);
        if has_gradient {
            few_classes::write_gradient(s, &mut self.batch, (others, spare), blocks, place, in_columns);
        }
        in_range
    }

    /// Losses and gradients of rows of any number of classes; returns whether none is marked.
    fn compute_rows<S: Vector>(&mut self, s: S, tile: &mut Tile<'_>, place: Place) -> bool {
        let Place { rows, width: classes, .. } = place;
        if self.are_in_parts::<S>(tile.rows(classes)) {
            let in_range = sums_in_parts(s, &self.batch, tile, place);
            finish(s, self.terms, Exponentials::InRange, false, tile.blocks);
            return in_range;
        }
        let (batch, blocks, len) = (&mut self.batch, &mut *tile.blocks, rows.wrapping_mul(classes));
        let has_gradient = GRADIENT && batch.gradient.is_some();
        // The exponentials are in the gradient buffer, if it has room for them, else in the tile. One lane has no need of
        // a second way to the same bits.
        let is_long = S::WIDE && GRADIENT && classes > VIRTUAL_LANES;
        let mut kept = if is_long { take_gradient(batch, place) } else { None };
        let is_kept = kept.is_some();
        let exponentials = match &mut kept {
            Some(gradient) => part_mut(gradient, batch.rows.start(place.first), len.wrapping_add(REACH)),
            None => &mut *tile.numbers,
        };
        let dense = batch.rows_in_place(place);
        if dense.is_none() {
            batch.load_rows(s, place, exponentials);
            read_reference_logits(s, part(exponentials, 0, len), classes, blocks);
        }
        let mut in_range = exponentiate(s, dense, exponentials, len);
        if in_range || !marks::marks_all(s, dense, classes, blocks) {
            excluded_sums(s, dense, exponentials, classes, rows, blocks);
            finish(s, self.terms, Exponentials::InRange, has_gradient, blocks);
            if has_gradient {
                let exponentials = part_mut(exponentials, 0, len);
                if !fill_scales(s, blocks) {
                    if is_worth_code::<S>() {
                        scale_rows(s, exponentials, classes, blocks);
                    }
                    in_range = blocks.iter().all(|block| block.marked == 0);
                }
                let to = batch.gradient_in_place(place);
                let is_copied = to.is_none() && !is_kept;
                write_scaled_rows(s, exponentials, to, classes, blocks);
                if is_copied {
                    batch.store_unmarked(s, place, exponentials, blocks);
                }
            }
        }
        batch.gradient = kept.or(batch.gradient.take());
        in_range
    }
}

/// The gradient, if exponentials can be kept there: logits are contiguous f32, not adjusted, in another buffer, and
/// [`REACH`] elements follow the gradient. The caller gives it back.
fn take_gradient<'a>(batch: &mut Batch<'a>, place: Place) -> Option<&'a mut [f32]> {
    batch.logits.and(batch.rows_in_place(place))?;
    let end = batch.rows.start(place.first.wrapping_add(place.rows)).saturating_add(REACH);
    batch.gradient.take_if(|gradient| end <= gradient.len())
}

/// Fills logits of labels and sums of a block of rows that do not fit the tile at once; marks the rows of each part that
/// has a logit out of range, and returns whether none has.
#[inline(never)]
fn sums_in_parts<S: Vector>(s: S, batch: &Batch<'_>, tile: &mut Tile<'_>, all: Place) -> bool {
    let (classes, at_once) = (all.width, tile.rows(all.width));
    let (Some(block), numbers) = (tile.blocks.first_mut(), &mut *tile.numbers) else { return true };
    block.sum = Lanes::splat(0.0);
    for start in steps(all.rows, at_once) {
        let rows = at_once.min(all.rows.wrapping_sub(start));
        let place = Place { rows, ..all.row(start) };
        let dense = batch.rows_in_place(place);
        if dense.is_none() {
            batch.load_rows(s, place, numbers);
        }
        let len = rows.wrapping_mul(classes);
        let logits = dense.unwrap_or(part(numbers, 0, len));
        for (row, lane) in (0..rows).zip(Lane::starting_at(start)) {
            block.logit[lane] = row_of(logits, row, classes).get(block.class[lane]).copied().unwrap_or(0.0);
        }
        let is_out = !exponentiate(s, dense, numbers, len);
        for (row, lane) in (0..rows).zip(Lane::starting_at(start)) {
            block.marked |= if is_out { lane.bit() } else { 0 };
            if let Some(e) = row_of_mut(numbers, row, classes).get_mut(block.class[lane]) {
                *e = 0.0;
            }
        }
        add_sums(s, numbers, Group::of_rows(place, Lane::of(start)), block);
    }
    if block.marked.count_ones() as usize == all.rows {
        block.marked = u32::MAX;
    }
    block.marked == 0
}

/// The gradient from the exponentials: rows times scales, and the elements of labels. To `to`, without the
/// marked rows; in place, with them, if that is `None`.
fn write_scaled_rows<S: Vector>(
    s: S,
    exponentials: &mut [f32],
    to: Option<&mut [f32]>,
    classes: usize,
    blocks: &[RowBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let Some(to) = to else { return scale_in_place(s, exponentials, classes, blocks) };
            // Vectors overlap into the next row, written later: not for the last rows, nor where rows are left out.
            let mut written = 0;
            if S::WIDE && blocks.iter().all(|block| block.marked == 0) {
                written = match classes.div_ceil(S::LANES) {
                    1 => scale_overlapping::<S, 1>(s, exponentials, to, classes, blocks),
                    2 if S::LANES <= 8 => scale_overlapping::<S, 2>(s, exponentials, to, classes, blocks),
                    _ => scale_overlapping::<S, 0>(s, exponentials, to, classes, blocks),
                };
            }
            let from = from_row(exponentials, written, classes).chunks_exact(classes.max(1));
            let to = from_row_mut(to, written, classes).chunks_exact_mut(classes.max(1));
            for (row, (from, to)) in (written..).zip(from.zip(to)) {
                let (Some(block), lane) = (blocks.get(row / ROWS), Lane::of(row)) else { return };
                if !block.is_marked(lane) {
                    scale_row(s, from, s.splat(block.scale[lane]), to);
                    if let Some(element) = to.get_mut(block.class[lane]) {
                        *element = block.at_reference[lane];
                    }
                }
            }
        },
    )
}

/// Writes rows while whole vectors fit; returns the number of rows written. `VECTORS` is the number of vectors of a
/// row, 0 for any number.
#[inline(always)]
fn scale_overlapping<S: Vector, const VECTORS: usize>(
    s: S,
    exponentials: &[f32],
    gradient: &mut [f32],
    classes: usize,
    blocks: &[RowBlock],
) -> usize {
    let of_vectors = VECTORS.wrapping_mul(S::LANES);
    let reach = if VECTORS > 0 { of_vectors } else { classes.next_multiple_of(S::LANES) };
    let (mut from, mut to, mut written) = (exponentials, gradient, 0);
    for block in blocks {
        for ((&scale, &class), &at_reference) in block.scale.iter().zip(&block.class).zip(&block.at_reference) {
            let (Some(e), Some(row)) = (from.get(..reach), to.get_mut(..reach)) else { return written };
            for (to, e) in row.chunks_exact_mut(S::LANES).zip(e.chunks_exact(S::LANES)) {
                s.store(s.mul(s.load(e, 0), s.splat(scale)), to, 0);
            }
            if let Some(element) = row.get_mut(class) {
                *element = at_reference;
            }
            from = from.get(classes..).unwrap_or(&[]);
            to = to.get_mut(classes..).unwrap_or(&mut []);
            written = written.wrapping_add(1);
        }
    }
    written
}

/// Writes `from`·`scale`, the remainder included.
#[inline(always)]
fn scale_row<S: Vector>(s: S, from: &[f32], scale: S::F, to: &mut [f32]) {
    let (mut vectors, mut elements) = (to.chunks_exact_mut(S::LANES), from.chunks_exact(S::LANES));
    for (to, from) in vectors.by_ref().zip(elements.by_ref()) {
        s.store(s.mul(s.load(from, 0), scale), to, 0);
    }
    let scaled = s.mul(s.load_partial(elements.remainder(), 0.0), scale);
    s.store_partial(scaled, vectors.into_remainder());
}

/// The gradient in place of the exponentials.
#[inline(always)]
fn scale_in_place<S: Vector>(s: S, exponentials: &mut [f32], classes: usize, blocks: &[RowBlock]) {
    let mut rows = exponentials.chunks_exact_mut(classes.max(1));
    for block in blocks {
        for ((&scale, &class), &element) in block.scale.iter().zip(&block.class).zip(&block.at_reference) {
            let Some(row) = rows.next() else { return };
            // The last vector overlaps the one before: loaded before that is stored.
            let last = row.len().checked_sub(S::LANES).map(|at| (at, s.mul(s.load(row, at), s.splat(scale))));
            let mut vectors = row.chunks_exact_mut(S::LANES);
            for e in vectors.by_ref() {
                s.store(s.mul(s.load(e, 0), s.splat(scale)), e, 0);
            }
            if let Some((at, last)) = last {
                s.store(last, row, at);
            } else {
                let short = vectors.into_remainder();
                s.store_partial(s.mul(s.load_partial(short, 0.0), s.splat(scale)), short);
            }
            if let Some(e) = row.get_mut(class) {
                *e = element;
            }
        }
    }
}
