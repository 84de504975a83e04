//! Rows with target probabilities or label smoothing that do not fit a tile, in pieces, with the phases of
//! [`super::terms`]. Rows with a logit out of range take exponentials relative to their maximum; those beyond f32 even so
//! are marked.

use super::exp::{Exponentials, Reference};
use super::general::{AddSums, Group, InRange, LargestOf, exponentials_of_row};
use super::lanes::{Lane, Lanes};
use super::limits::{ROWS, SUMMED_IN_F32, TERM_RAISE};
use super::row_scalars::Finish;
use super::spread::{PieceSums, Spread, U};
use super::term_gradient::GradientFactors;
use super::term_scalars::{FinishTerms, TermBlock, Terms};
use super::term_sums::mark_too_small;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{copy, from_row, from_row_mut, part, part_mut, row_of, row_of_mut, steps, whole};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// The most classes of a piece: three or four arrays of that length fit a first cache; rows that are longer, even if
/// they fit the tile, would not.
pub(crate) const PIECE: usize = 2048;

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
    // With positions > 1 the logits of a class are contiguous across rows, and loaded together.
    let at_once = if batch.rows.positions() > 1 { ROWS } else { 1 };
    let (width, room) =
        (whole(tile.room().checked_div(at_once).unwrap_or(0).min(PIECE), SUMMED_IN_F32), tile.numbers.len().max(1));
    let mut spare = tile.spare.chunks_exact_mut(room);
    let [logits, targets, weights] = [(); 3].map(|()| spare.next().unwrap_or_default());
    let Some(block) = tile.blocks.first_mut() else { return };
    let mut piece = Room { e: &mut *tile.numbers, logits, targets, weights };
    let rows = LongRows { options, spread, width };
    block.without_references();
    block.marked = 0;
    let groups = || {
        steps(count, at_once).map(|start| Rows {
            first: first.wrapping_add(start),
            count: at_once.min(count.wrapping_sub(start)),
            lane: start,
            mask: u32::MAX,
        })
    };
    for group in groups() {
        rows.add_up(s, batch, &mut piece, block, terms, group);
    }
    let gradient = batch.gradient.is_some();
    let (blocks, terms_of_blocks) = (core::slice::from_mut(&mut *block), core::slice::from_mut(&mut *terms));
    if blocks.iter().all(|block| block.power.iter().all(|&power| power == 0.0)) {
        s.run(Finish::<false> { gradient: true, blocks: &mut *blocks });
    } else {
        mark_too_small(None, batch.rows.classes(), blocks, terms_of_blocks);
        s.run(Finish::<true> { gradient: true, blocks: &mut *blocks });
    }
    let largest_weight = spread.largest_weight;
    s.run(FinishTerms { options, gradient, largest_weight, blocks, terms: terms_of_blocks });
    if gradient {
        groups().for_each(|group| rows.write_gradient(s, batch, &mut piece, block, terms, group));
    }
}

/// Consecutive rows of the call that are loaded together, the lane of the first, and a mask of the lanes to compute.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    count: usize,
    lane: usize,
    mask: u32,
}

impl Rows {
    /// (index among these rows, lane) of each row to compute.
    fn lanes(self) -> impl Iterator<Item = (usize, Lane)> {
        (0..self.count).zip(Lane::starting_at(self.lane)).filter(move |(_, lane)| self.mask & lane.bit() != 0)
    }

    /// Those of the rows that satisfy `is_such`.
    fn filtered(self, is_such: impl Fn(Lane) -> bool) -> Self {
        let such = self.lanes().filter(|&(_, lane)| is_such(lane)).fold(0, |bits, (_, lane)| bits | lane.bit());
        Self { mask: such, ..self }
    }

    fn pieces(self, classes: usize, width: usize) -> impl Iterator<Item = Place> {
        Place { first: self.first, rows: self.count, start: 0, width: classes }.pieces(width)
    }
}

/// Buffers for a piece of some rows, with padding for vector loads: exponentials, and copies of logits, targets and
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
    /// u of a piece from class weights, which rows share, and target probabilities; copied if loads would pass its end.
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
        let mut weights = batch.rows.class_weights().map(|weights| part(weights, start, width));
        if let Some(of_piece) = weights.filter(|_| !ends_with_vectors(place)) {
            copy(to_weights, of_piece);
            weights = Some(to_weights);
        }
        let Some(soft) = self.options.soft else { return U::of_classes(self.spread, weights) };
        let mut targets = part(soft, batch.rows.element(first, start), width);
        if !batch.rows.are_dense() || !ends_with_vectors(place) {
            batch.load_targets(s, soft, place, to_targets);
            targets = to_targets;
        }
        U::of_targets(self.spread, weights.unwrap_or(&[]), targets)
    }

    /// Fills references and sums of some rows.
    fn add_up<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        piece: &mut Room<'_>,
        block: &mut RowBlock,
        terms: &mut TermBlock,
        rows: Rows,
    ) {
        self.find_references(s, batch, piece, block, rows);
        self.add_up_pieces(s, batch, piece, block, terms, rows);
        let again = rows.filtered(|lane| block.is_marked(lane));
        if again.mask == 0 {
            return;
        }
        // Relative to the maximum.
        let by_argmax = LongRows { spread: self.spread.by_label_if(false), ..*self };
        by_argmax.find_references(s, batch, piece, block, again);
        for (_, lane) in again.lanes() {
            let reference = Reference::new(block.logit[lane]).raised(TERM_RAISE);
            (block.shift[lane], block.power[lane]) = (reference.shift, reference.power);
        }
        block.marked &= !again.mask;
        by_argmax.add_up_pieces(s, batch, piece, block, terms, again);
    }

    /// Exponentials of a piece of some rows; whether all logits are in range. Those of a row with a reference always are.
    fn exponentials<S: Vector>(s: S, x: &[f32], e: &mut [f32], block: &RowBlock, place: Place, rows: Rows) -> bool {
        let (width, len) = (place.width, place.width.wrapping_mul(rows.count));
        let mut in_range = true;
        if rows.lanes().any(|(_, lane)| block.power[lane] == 0.0) {
            in_range = s.run(Exponentials { logits: Some(part(x, 0, len)), to: &mut *e, count: len });
        }
        for (row, lane) in rows.lanes().filter(|&(_, lane)| block.power[lane] != 0.0) {
            let (logits, to) = (from_row(x, row, width), from_row_mut(e, row, width));
            s.run(RowExponentials { logits, to, width, reference: block.reference(lane) });
        }
        in_range
    }

    /// Fills the sums of some rows whose references are known, and marks rows with a logit out of range.
    fn add_up_pieces<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        piece: &mut Room<'_>,
        block: &mut RowBlock,
        terms: &mut TermBlock,
        rows: Rows,
    ) {
        let classes = batch.rows.classes();
        let mut sums = Lanes::splat([0.0; 2]);
        rows.lanes().for_each(|(_, lane)| block.sum[lane] = 0.0);
        for place in rows.pieces(classes, self.width) {
            let Place { start, width, .. } = place;
            let x = logits(s, batch, place, piece.logits);
            if !Self::exponentials(s, x, piece.e, block, place, rows) {
                for (row, lane) in rows.lanes() {
                    block.marked |= if s.run(InRange { row: row_of(x, row, width) }) { 0 } else { lane.bit() };
                }
                if rows.lanes().all(|(_, lane)| block.is_marked(lane)) {
                    return;
                }
            }
            let u = self.u(s, batch, place, (&mut *piece.targets, &mut *piece.weights));
            for (row, lane) in rows.lanes() {
                if let Some(e) = row_of_mut(piece.e, row, width).get_mut(block.class[lane].wrapping_sub(start)) {
                    *e = 0.0;
                }
            }
            let group = Group::of_rows(place, rows.lane, width).marked_where(|lane| rows.mask & lane.bit() != 0);
            s.run(AddSums { numbers: piece.e, width, group, found: &mut *block });
            for (row, lane) in rows.lanes() {
                let reference = block.class[lane].wrapping_sub(start);
                let (x, start) = (from_row(x, row, width), row.wrapping_mul(width));
                let (largest, sums) = (block.logit[lane], &mut sums[lane]);
                s.run(PieceSums { u, x, width, start, largest, reference, sums });
            }
        }
        for (row, lane) in rows.lanes() {
            let (row, [gaps, others]) = (rows.first.wrapping_add(row), sums[lane]);
            let of_reference = self.spread.of_element(self.options.soft, batch.rows, row, block.class[lane]);
            (terms.u_reference[lane], terms.gaps[lane]) = (of_reference, gaps);
            terms.others[lane] = if self.options.soft.is_some() { others } else { self.spread.u_sum - of_reference };
            if terms.label[lane] < classes {
                terms.label_logit[lane] = batch.logit(row, terms.label[lane]);
            }
        }
    }

    /// Fills the logit of each row's reference and, unless it is the label, its class, the argmax.
    fn find_references<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        piece: &mut Room<'_>,
        block: &mut RowBlock,
        rows: Rows,
    ) {
        if self.spread.by_label {
            for (row, lane) in rows.lanes() {
                block.logit[lane] = batch.logit(rows.first.wrapping_add(row), block.class[lane]);
            }
            return;
        }
        for (_, lane) in rows.lanes() {
            (block.logit[lane], block.class[lane]) = (f32::NEG_INFINITY, 0);
        }
        for place in rows.pieces(batch.rows.classes(), self.width) {
            let x = logits(s, batch, place, piece.logits);
            for (row, lane) in rows.lanes() {
                let (x, class) = s.run(LargestOf { row: row_of(x, row, place.width) });
                if x > block.logit[lane] {
                    (block.logit[lane], block.class[lane]) = (x, place.start.wrapping_add(class));
                }
            }
        }
    }

    /// Writes the gradients of the unmarked rows, whose exponentials are recomputed.
    fn write_gradient<S: Vector>(
        &self,
        s: S,
        batch: &mut Batch<'_>,
        piece: &mut Room<'_>,
        block: &RowBlock,
        terms: &TermBlock,
        rows: Rows,
    ) {
        if rows.lanes().all(|(_, lane)| block.is_marked(lane)) {
            return;
        }
        for place in rows.pieces(batch.rows.classes(), self.width) {
            let Place { start, width, .. } = place;
            let x = logits(s, batch, place, piece.logits);
            Self::exponentials(s, x, piece.e, block, place, rows);
            let u = self.u(s, batch, place, (&mut *piece.targets, &mut *piece.weights));
            let is_side_by_side = batch.rows.positions() == 1;
            for (row, lane) in rows.lanes().filter(|&(_, lane)| !block.is_marked(lane)) {
                // Otherwise the gradient overwrites the piece's logits, which are done with, and is sent from there.
                let at = batch.rows.element(place.first, start);
                let to = match batch.gradient.as_deref_mut() {
                    Some(gradient) if is_side_by_side => part_mut(gradient, at, width),
                    _ => row_of_mut(piece.logits, row, width),
                };
                let from = row.wrapping_mul(width);
                s.run(RowGradient { block, terms, lane, exponentials: piece.e, u, start: from, to: &mut *to });
                for (class, element) in
                    [(terms.label[lane], terms.at_label[lane]), (block.class[lane], block.at_reference[lane])]
                {
                    if let Some(to) = to.get_mut(class.wrapping_sub(start)) {
                        *to = element;
                    }
                }
            }
            if is_side_by_side {
                continue;
            } else if rows.lanes().any(|(_, lane)| block.is_marked(lane)) {
                for (row, _) in rows.lanes().filter(|&(_, lane)| !block.is_marked(lane)) {
                    batch.store_rows(s, place.row(row), row_of(piece.logits, row, width));
                }
            } else {
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

/// Exponentials of `width` logits of a row, relative to its reference.
struct RowExponentials<'a> {
    logits: &'a [f32],
    to: &'a mut [f32],
    width: usize,
    reference: Reference,
}

impl Operation for RowExponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { logits, to, width, reference } = self;
        exponentials_of_row(s, reference, Some(logits), to, width);
    }
}

/// Whether a piece is made of whole pairs of columns, so that no load passes its end.
fn ends_with_vectors(place: Place) -> bool {
    place.width.is_multiple_of(2 * VIRTUAL_LANES)
}

/// Writes a piece of one row's gradient; the caller sets the elements of label and reference.
struct RowGradient<'a> {
    block: &'a RowBlock,
    terms: &'a TermBlock,
    lane: Lane,
    exponentials: &'a [f32],
    u: U<'a>,
    /// Start of the row in `exponentials`.
    start: usize,
    to: &'a mut [f32],
}

impl Operation for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { block, terms, lane, exponentials, u, start, to } = self;
        GradientFactors::new(s, block, terms, lane).write(s, to, exponentials, Some(u), None, start);
    }
}
