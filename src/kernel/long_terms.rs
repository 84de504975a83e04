//! Rows with target probabilities or label smoothing that do not fit a tile, in pieces, with the phases of
//! [`super::terms`]. Rows with a logit out of range take exponentials relative to their maximum; those beyond f32 even so
//! are marked.

use super::exp::Reference;
use super::general::{Group, add_sums, exponentials_of_piece};
use super::lanes::Lane;
use super::limits::{REACH, SUMMED_IN_F32, TERM_RAISE};
use super::references::argmax;
use super::spread::{Spread, U, fill_shared, spread_sums};
use super::term_gradient::write_piece;
use super::term_scalars::{TermBlock, Terms, finish_terms};
use super::term_sums::finish_sums;
use super::term_tile::{TermTile, logits, targets};
use super::tile::{Batch, Place, RowBlock, Tile, arrays};
use super::{from, part, part_mut, whole};
use crate::backend::vector::Vector;

/// The most classes of a piece: three or four arrays of that length fit a first cache; rows that are longer, even if
/// they fit the tile, would not.
pub(crate) const LONG_PIECE: usize = 2048;

/// Losses and gradients of a block of rows with a spread, without costs; marks those left to the general way.
pub(crate) fn compute<S: Vector>(s: S, rows: &mut TermTile<'_, '_>) {
    let width = whole(rows.tile.room().min(LONG_PIECE), SUMMED_IN_F32);
    let TermTile { batch, options, spread: Some(spread), tile, terms, place } = rows else { return };
    let Tile { numbers: e, spare, blocks } = tile;
    let [logits, targets, shared] = arrays(spare, e.len());
    let gradient = batch.gradient.is_some();
    if batch.rows.class_weights().is_none() {
        // The same for all pieces.
        fill_shared(s, *spread, 0, shared);
    }
    let mut rows = LongRows { s, batch, options, spread: *spread, width, e, logits, targets, shared };
    for (block, terms) in blocks.iter_mut().zip(&mut **terms) {
        block.without_references();
        for (row, lane) in (place.first..).zip(Lane::all()).take(place.rows) {
            rows.add_up(block, terms, (row, lane));
        }
    }
    let referred = blocks.iter().any(|block| block.power.iter().any(|&power| power != 0.0));
    finish_sums(s, referred, place.width, true, blocks);
    finish_terms(s, options, gradient, spread.largest_weight, blocks, terms);
    for (block, terms) in blocks.iter().zip(&**terms).filter(|_| gradient) {
        for (row, lane) in (place.first..).zip(Lane::all()).take(place.rows) {
            if !block.is_marked(lane) {
                rows.write_gradient(block, terms, (row, lane));
            }
        }
    }
}

/// The loss of long rows, and buffers for a piece of one, with padding for vector loads.
struct LongRows<'t, 'a, S> {
    s: S,
    batch: &'t mut Batch<'a>,
    options: &'t Terms<'a>,
    spread: Spread<'a>,
    /// Classes per piece.
    width: usize,
    /// Exponentials, copies of logits and targets that cannot be loaded in place, and what [`fill_shared`] fills.
    e: &'t mut [f32],
    logits: &'t mut [f32],
    targets: &'t mut [f32],
    shared: &'t mut [f32],
}

/// u of a piece; class weights and target probabilities are copied if loads would pass their end.
fn u_of_piece<'p, 'a: 'p, S: Vector>(
    s: S,
    batch: &Batch<'a>,
    (options, spread): (&Terms<'a>, Spread<'_>),
    place: Place,
    (to_targets, to_shared): (&'p mut [f32], &'p mut [f32]),
) -> U<'p> {
    let Place { start, width, .. } = place;
    let Some(soft) = options.soft else {
        if batch.rows.class_weights().is_some() {
            fill_shared(s, spread, start, part_mut(to_shared, 0, width));
        }
        return U::new(spread, None, to_shared);
    };
    let shared = match batch.rows.class_weights().map(|weights| from(weights, start)) {
        Some(weights) if weights.len() >= width.wrapping_add(REACH) => weights,
        Some(_) => {
            fill_shared(s, spread, start, part_mut(to_shared, 0, width));
            to_shared
        }
        None => to_shared,
    };
    U::new(spread, Some(targets(s, (batch, soft), place, REACH, to_targets)), shared)
}

impl<S: Vector> LongRows<'_, '_, S> {
    fn pieces(&self, row: usize) -> impl Iterator<Item = Place> + use<S> {
        Place { first: row, rows: 1, start: 0, width: self.batch.rows.classes() }.pieces(self.width)
    }

    /// Fills the references and sums of a row.
    fn add_up(&mut self, block: &mut RowBlock, terms: &mut TermBlock, (row, lane): (usize, Lane)) {
        self.find_reference(block, self.spread.by_label, (row, lane));
        if self.add_up_pieces(block, terms, (row, lane)) {
            return;
        }
        // Relative to the maximum.
        self.find_reference(block, false, (row, lane));
        let reference = Reference::new(block.logit[lane]).raised(TERM_RAISE);
        (block.shift[lane], block.power[lane]) = (reference.shift, reference.power);
        self.add_up_pieces(block, terms, (row, lane));
    }

    /// Fills the sums of a row whose reference is known; `false` if a logit is out of range.
    fn add_up_pieces(&mut self, block: &mut RowBlock, terms: &mut TermBlock, (row, lane): (usize, Lane)) -> bool {
        let (s, batch) = (self.s, &*self.batch);
        let (mut of_row, mut sums) = (RowBlock::EMPTY, TermBlock::EMPTY);
        (block.sum[lane], of_row.logit[Lane::FIRST]) = (0.0, block.logit[lane]);
        for place in self.pieces(row) {
            let Place { start, width, .. } = place;
            let x = logits(s, batch, place, REACH, self.logits);
            if !exponentials_of_piece(s, Some(x), self.e, width, block.reference(lane)) {
                return false;
            }
            let u = u_of_piece(s, batch, (self.options, self.spread), place, (self.targets, self.shared));
            let reference = block.class[lane].wrapping_sub(start);
            of_row.class[Lane::FIRST] = reference;
            if let Some(e) = part_mut(self.e, 0, width).get_mut(reference) {
                *e = 0.0;
            }
            add_sums(s, self.e, Group::of_rows(place, lane), block);
            let (block, sums) = (core::slice::from_ref(&of_row), core::slice::from_mut(&mut sums));
            spread_sums(s, u, x, (1, width), block, sums);
        }
        let of_reference = self.spread.of_element(self.options.soft, batch.rows, row, block.class[lane]);
        (terms.u_reference[lane], terms.gaps[lane]) = (of_reference, sums.gaps[Lane::FIRST]);
        let others = sums.others[Lane::FIRST];
        terms.others[lane] = if self.options.soft.is_some() { others } else { self.spread.u_sum - of_reference };
        if terms.label[lane] < batch.rows.classes() {
            terms.label_logit[lane] = batch.logit(row, terms.label[lane]);
        }
        true
    }

    /// Fills the logit of a row's reference and, unless that is the label, its class, the argmax.
    fn find_reference(&mut self, block: &mut RowBlock, by_label: bool, (row, lane): (usize, Lane)) {
        if by_label {
            block.logit[lane] = self.batch.logit(row, block.class[lane]);
            return;
        }
        (block.logit[lane], block.class[lane]) = (f32::NEG_INFINITY, 0);
        for place in self.pieces(row) {
            let x = logits(self.s, self.batch, place, REACH, self.logits);
            let (x, class) = argmax(self.s, part(x, 0, place.width));
            if x > block.logit[lane] {
                (block.logit[lane], block.class[lane]) = (x, place.start.wrapping_add(class));
            }
        }
    }

    /// Writes the gradient of a row, whose exponentials are recomputed.
    fn write_gradient(&mut self, block: &RowBlock, terms: &TermBlock, (row, lane): (usize, Lane)) {
        let s = self.s;
        for place in self.pieces(row) {
            let (Place { start, width, .. }, rows) = (place, self.batch.rows);
            let x = logits(s, self.batch, place, REACH, self.logits);
            exponentials_of_piece(s, Some(x), self.e, width, block.reference(lane));
            let u = u_of_piece(s, self.batch, (self.options, self.spread), place, (self.targets, self.shared));
            let are_side_by_side = rows.positions() == 1;
            let to = match self.batch.gradient.as_deref_mut() {
                Some(gradient) if are_side_by_side => part_mut(gradient, rows.element(row, start), width),
                // Over the logits of the piece, which are done with.
                _ => part_mut(self.logits, 0, width),
            };
            write_piece(s, self.e, u, to, (block, terms, lane));
            terms.set_elements(block, lane, to, start);
            if !are_side_by_side {
                self.batch.store_rows(s, place, self.logits);
            }
        }
    }
}
