//! Rows with target probabilities or label smoothing that do not fit a tile, in pieces, with the phases of
//! [`super::terms`]. Rows with a logit out of range take exponentials relative to their maximum; those beyond f32 even so
//! are marked.

use super::exp::Reference;
use super::general::{Group, add_sums, exponentials_of_piece};
use super::lanes::Lane;
use super::limits::{SUMMED_IN_F32, TERM_RAISE};
use super::references::argmax;
use super::row_scalars::finish_rows;
use super::spread::{Spread, U, fill_u, spread_sums};
use super::term_gradient::GradientFactors;
use super::term_scalars::{TermBlock, Terms, finish_terms};
use super::term_sums::mark_too_small;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{copy, part, part_mut, whole};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// The most classes of a piece: three or four arrays of that length fit a first cache; rows that are longer, even if
/// they fit the tile, would not.
pub(crate) const LONG_PIECE: usize = 2048;

/// Computes `count` rows, a block at most, from row `first` of the call on, and their gradients if the batch has one.
pub(crate) fn compute<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    options: &Terms<'_>,
    spread: Spread<'_>,
    tile: &mut Tile<'_>,
    terms: &mut TermBlock,
    (first, count): (usize, usize),
) {
    let (width, room) = (whole(tile.room().min(LONG_PIECE), SUMMED_IN_F32), tile.numbers.len().max(1));
    let mut spare = tile.spare.chunks_exact_mut(room);
    let [logits, targets, weights] = [(); 3].map(|()| spare.next().unwrap_or_default());
    let Some(block) = tile.blocks.first_mut() else { return };
    let mut piece = Room { e: &mut *tile.numbers, logits, targets, weights };
    let long = LongRows { options, spread, width };
    if spread.even().is_some() && options.soft.is_none() {
        fill_u(s, spread, 0, &mut *piece.weights);
    }
    block.without_references();
    block.marked = 0;
    let rows = || (first..).zip(Lane::all()).take(count);
    for (row, lane) in rows() {
        long.add_up(s, batch, &mut piece, block, terms, (row, lane));
    }
    let gradient = batch.gradient.is_some();
    let (blocks, terms_of_blocks) = (core::slice::from_mut(&mut *block), core::slice::from_mut(&mut *terms));
    if blocks.iter().all(|block| block.power.iter().all(|&power| power == 0.0)) {
        finish_rows::<S, false>(s, true, blocks);
    } else {
        mark_too_small(s, batch.rows.classes(), blocks);
        finish_rows::<S, true>(s, true, blocks);
    }
    let largest_weight = spread.largest_weight;
    finish_terms(s, options, gradient, largest_weight, blocks, terms_of_blocks);
    for (row, lane) in rows().filter(|_| gradient) {
        if !block.is_marked(lane) {
            long.write_gradient(s, batch, &mut piece, block, terms, (row, lane));
        }
    }
}

/// Buffers for a piece of a row, with padding for vector loads: exponentials, and copies of logits, targets and
/// class weights that cannot be loaded in place.
struct Room<'t> {
    e: &'t mut [f32],
    logits: &'t mut [f32],
    targets: &'t mut [f32],
    weights: &'t mut [f32],
}

struct LongRows<'a> {
    options: &'a Terms<'a>,
    spread: Spread<'a>,
    /// Classes per piece.
    width: usize,
}

impl LongRows<'_> {
    /// u of a piece: of label smoothing a row of it, else class weights and target probabilities, copied if loads would
    /// pass their end.
    fn u<'p, 'b: 'p, S: Vector>(
        &self,
        s: S,
        batch: &Batch<'b>,
        place: Place,
        (to_targets, to_weights): (&'p mut [f32], &'p mut [f32]),
    ) -> U<'p>
    where
        Self: 'p,
    {
        let Place { first, start, width, .. } = place;
        let Some(soft) = self.options.soft else {
            if self.spread.even().is_none() {
                fill_u(s, self.spread, start, part_mut(to_weights, 0, width));
            }
            return U::same(self.spread, to_weights);
        };
        let mut weights = batch.rows.class_weights().map_or(&[][..], |weights| part(weights, start, width));
        if !ends_with_vectors(place) {
            copy(to_weights, weights);
            weights = to_weights;
        }
        let mut targets = part(soft, batch.rows.element(first, start), width);
        if !batch.rows.are_dense() || !ends_with_vectors(place) {
            batch.load_targets(s, soft, place, to_targets);
            targets = to_targets;
        }
        U::of_targets(self.spread, weights, targets)
    }

    fn pieces(&self, batch: &Batch<'_>, row: usize) -> impl Iterator<Item = Place> + use<> {
        Place { first: row, rows: 1, start: 0, width: batch.rows.classes() }.pieces(self.width)
    }

    /// Fills the references and sums of a row.
    fn add_up<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        piece: &mut Room<'_>,
        block: &mut RowBlock,
        terms: &mut TermBlock,
        (row, lane): (usize, Lane),
    ) {
        self.find_reference(s, batch, piece, block, (row, lane));
        if self.add_up_pieces(s, batch, piece, block, terms, (row, lane)) {
            return;
        }
        // Relative to the maximum.
        let by_argmax = LongRows { spread: self.spread.by_label_if(false), ..*self };
        by_argmax.find_reference(s, batch, piece, block, (row, lane));
        let reference = Reference::new(block.logit[lane]).raised(TERM_RAISE);
        (block.shift[lane], block.power[lane]) = (reference.shift, reference.power);
        by_argmax.add_up_pieces(s, batch, piece, block, terms, (row, lane));
    }

    /// Fills the sums of a row whose reference is known; `false` if a logit is out of range.
    fn add_up_pieces<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        piece: &mut Room<'_>,
        block: &mut RowBlock,
        terms: &mut TermBlock,
        (row, lane): (usize, Lane),
    ) -> bool {
        let classes = batch.rows.classes();
        let (mut of_row, mut sums) = (RowBlock::EMPTY, TermBlock::EMPTY);
        (block.sum[lane], of_row.logit[Lane::FIRST]) = (0.0, block.logit[lane]);
        for place in self.pieces(batch, row) {
            let Place { start, width, .. } = place;
            let x = logits(s, batch, place, piece.logits);
            if !exponentials_of_piece(s, Some(x), piece.e, width, block.reference(lane)) {
                return false;
            }
            let u = self.u(s, batch, place, (&mut *piece.targets, &mut *piece.weights));
            let reference = block.class[lane].wrapping_sub(start);
            if let Some(e) = part_mut(piece.e, 0, width).get_mut(reference) {
                *e = 0.0;
            }
            let group = Group::of_rows(place, lane, width);
            add_sums(s, piece.e, width, group, block);
            of_row.class[Lane::FIRST] = reference;
            let (blocks, terms) = (core::slice::from_ref(&of_row), &mut sums);
            // Sums of so few classes are filled, not added to.
            let is_short = width <= SUMMED_IN_F32;
            let before = [terms.gaps, terms.others].map(|sums| if is_short { sums[Lane::FIRST] } else { 0.0 });
            spread_sums(s, u, x, width, 1, blocks, core::slice::from_mut(terms));
            terms.gaps[Lane::FIRST] += before[0];
            terms.others[Lane::FIRST] += before[1];
        }
        let of_reference = self.spread.of_element(self.options.soft, batch.rows, row, block.class[lane]);
        (terms.u_reference[lane], terms.gaps[lane]) = (of_reference, sums.gaps[Lane::FIRST]);
        let others = sums.others[Lane::FIRST];
        terms.others[lane] = if self.options.soft.is_some() { others } else { self.spread.u_sum - of_reference };
        if terms.label[lane] < classes {
            terms.label_logit[lane] = batch.logit(row, terms.label[lane]);
        }
        true
    }

    /// Fills the logit of a row's reference and, unless it is the label, its class, the argmax.
    fn find_reference<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        piece: &mut Room<'_>,
        block: &mut RowBlock,
        (row, lane): (usize, Lane),
    ) {
        if self.spread.by_label {
            block.logit[lane] = batch.logit(row, block.class[lane]);
            return;
        }
        (block.logit[lane], block.class[lane]) = (f32::NEG_INFINITY, 0);
        for place in self.pieces(batch, row) {
            let x = logits(s, batch, place, piece.logits);
            let (x, class) = argmax(s, part(x, 0, place.width));
            if x > block.logit[lane] {
                (block.logit[lane], block.class[lane]) = (x, place.start.wrapping_add(class));
            }
        }
    }

    /// Writes the gradient of a row, whose exponentials are recomputed.
    fn write_gradient<S: Vector>(
        &self,
        s: S,
        batch: &mut Batch<'_>,
        piece: &mut Room<'_>,
        block: &RowBlock,
        terms: &TermBlock,
        (row, lane): (usize, Lane),
    ) {
        for place in self.pieces(batch, row) {
            let Place { start, width, .. } = place;
            let x = logits(s, batch, place, piece.logits);
            exponentials_of_piece(s, Some(x), piece.e, width, block.reference(lane));
            let u = self.u(s, batch, place, (&mut *piece.targets, &mut *piece.weights));
            let (at, are_side_by_side) = (batch.rows.element(row, start), batch.rows.positions() == 1);
            let to = match batch.gradient.as_deref_mut() {
                Some(gradient) if are_side_by_side => part_mut(gradient, at, width),
                // Over the logits of the piece, which are done with.
                _ => part_mut(piece.logits, 0, width),
            };
            let e = &*piece.e;
            s.run(
                #[inline(always)]
                || GradientFactors::new(s, block, terms, lane).write(s, to, e, Some(u), None, 0),
            );
            for (class, element) in
                [(terms.label[lane], terms.at_label[lane]), (block.class[lane], block.at_reference[lane])]
            {
                if let Some(to) = to.get_mut(class.wrapping_sub(start)) {
                    *to = element;
                }
            }
            if !are_side_by_side {
                batch.store_rows(s, place, piece.logits);
            }
        }
    }
}

/// The logits of a piece: borrowed if dense, unadjusted f32 and no load passes its end, else copied to `loaded`.
fn logits<'p, S: Vector>(s: S, batch: &'p Batch<'_>, place: Place, loaded: &'p mut [f32]) -> &'p [f32] {
    let dense = batch.as_tile().filter(|_| ends_with_vectors(place));
    if let Some(logits) = dense {
        return part(logits, batch.rows.element(place.first, place.start), place.width);
    }
    batch.load_rows(s, place, loaded);
    loaded
}

/// Whether a piece is made of whole pairs of columns, so that no load passes its end.
fn ends_with_vectors(place: Place) -> bool {
    place.width.is_multiple_of(2 * VIRTUAL_LANES)
}
