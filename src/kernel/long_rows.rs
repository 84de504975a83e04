//! Rows that are longer than a tile: piece by piece, with the same phases. Where the classes of a row are contiguous,
//! its exponentials are kept in the gradient buffer until their scale is known. A row with a logit out of range is computed
//! once more, with exponentials relative to the largest of the other logits.

use super::column_sums::map_vectors;
use super::exp::Reference;
use super::general::{self, Group, add_sums, exponentials_of_piece, finish_referred, maximum};
use super::label_terms::{LabelTerms, finish};
use super::lanes::Lane;
use super::limits::{RAISE, SUMMED_IN_F32};
use super::marks::row_is_in_range;
use super::row_scalars::Exponentials;
use super::scales::{fill_scales, scale_of, scale_row};
use super::sums::is_worth_code;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{part, part_mut, whole};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// The most classes of a piece. Hardware prefetchers follow a row in memory while a phase reads on; with longer pieces
/// they have lost the stream when the sums are done.
const PIECE: usize = 2048;

/// Loss and gradient of row `first`, whose class and weight are filled in.
pub(crate) fn compute<S: Vector, L: LabelTerms, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    terms: L,
    tile: &mut Tile<'_>,
    first: usize,
) {
    let all = Place { first, rows: 1, start: 0, width: batch.rows.classes() };
    let width = whole(tile.room().min(PIECE), SUMMED_IN_F32);
    let ([block], numbers) = (&mut *tile.blocks, &mut *tile.numbers) else { return };
    block.logit[Lane::FIRST] = batch.logit(first, block.class[Lane::FIRST]);
    let gradient = GRADIENT && batch.gradient.is_some();
    // In place, exponentials overwrite logits only where the whole row is known to be in range.
    let mut keep = gradient && batch.rows.positions() == 1 && (batch.logits.is_some() || batch.adjustment.is_none());
    let mut in_range = !keep || batch.logits.is_some() || row_is_in_range(s, row(batch, first));
    let mut are_held = true;
    in_range = in_range && add_up::<S, GRADIENT>(s, batch, numbers, block, keep, (all, width));
    if in_range {
        finish(s, terms, Exponentials::InRange, gradient, core::slice::from_mut(block));
        are_held = !gradient || fill_scales(s, core::slice::from_mut(block));
    } else if is_worth_code::<S>() {
        // Once more, relative to the largest of the other logits.
        keep &= batch.logits.is_some();
        find_reference(s, batch, numbers, block, (all, width));
        add_up::<S, GRADIENT>(s, batch, numbers, block, keep, (all, width));
        finish_referred(s, terms, gradient, core::slice::from_mut(block));
    } else {
        block.marked = u32::MAX;
    }
    if block.marked != 0 && !(in_range && keep) {
        block.marked = u32::MAX;
        return general::compute::<S, L, GRADIENT>(s, batch, terms, tile, all);
    }
    if keep {
        scale_kept(s, batch, block, first, are_held);
    } else if gradient {
        all.pieces(width).for_each(|place| write_piece(s, batch, numbers, block, are_held, place));
    }
    block.without_references();
}

/// Fills Σexp, and keeps the exponentials in the gradient if so told; `false` if a logit is out of range of a row without
/// a reference.
fn add_up<S: Vector, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    numbers: &mut [f32],
    block: &mut RowBlock,
    keep: bool,
    (all, width): (Place, usize),
) -> bool {
    block.sum[Lane::FIRST] = 0.0;
    for place in all.pieces(width) {
        let width = place.width;
        if GRADIENT && keep && batch.as_tile().is_some() && width.is_multiple_of(SUMMED_IN_F32) {
            if !write_exponentials(s, batch, block, place) {
                return false;
            }
            continue;
        }
        if !exponentials(s, batch, numbers, block, place) {
            return false;
        }
        add_sums(s, numbers, Group::of_rows(place, Lane::FIRST), block);
        if GRADIENT && keep {
            batch.store_rows(s, place, part(numbers, 0, width));
        }
    }
    true
}

/// Fills the reference of the exponentials.
fn find_reference<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    numbers: &mut [f32],
    block: &mut RowBlock,
    (all, width): (Place, usize),
) {
    let mut largest = f32::NEG_INFINITY;
    for place in all.pieces(width) {
        let row = batch.rows_in_place_or_loaded(s, place, numbers);
        let label = block.class[Lane::FIRST].wrapping_sub(place.start).min(row.len());
        let (before, from_label) = row.split_at_checked(label).unwrap_or_default();
        for row in [before, from_label.get(1..).unwrap_or(&[])] {
            largest = s.run(
                #[inline(always)]
                || maximum(s, row, largest),
            );
        }
    }
    let Reference { shift, power } = Reference::new(largest).raised(RAISE);
    (block.shift[Lane::FIRST], block.power[Lane::FIRST]) = (shift, power);
}

/// The gradient of one piece, from exponentials that are computed again.
fn write_piece<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    numbers: &mut [f32],
    block: &RowBlock,
    are_held: bool,
    place: Place,
) {
    exponentials(s, batch, numbers, block, place);
    let row = part_mut(numbers, 0, place.width);
    scale(s, row, block, are_held);
    if let Some(element) = at_label(row, block, place) {
        *element = block.at_reference[Lane::FIRST];
    }
    batch.store_rows(s, place, row);
}

/// Scales the kept exponentials of a row to its gradient, in place.
fn scale_kept<S: Vector>(s: S, batch: &mut Batch<'_>, block: &mut RowBlock, first: usize, are_held: bool) {
    let (start, classes) = (batch.rows.start(first), batch.rows.classes());
    let row = part_mut(batch.gradient.as_deref_mut().unwrap_or(&mut []), start, classes);
    scale(s, row, block, are_held);
    // Logits in the buffer are overwritten by now: not left to the general way.
    block.marked = 0;
    if let Some(element) = row.get_mut(block.class[Lane::FIRST]) {
        *element = block.at_reference[Lane::FIRST];
    }
}

/// Scales exponentials of the row to its gradient, in place.
fn scale<S: Vector>(s: S, row: &mut [f32], block: &RowBlock, are_held: bool) {
    s.run(
        #[inline(always)]
        move || {
            if are_held && block.power[Lane::FIRST] == 0.0 {
                let scale = s.splat(block.scale[Lane::FIRST]);
                map_vectors(
                    s,
                    row,
                    #[inline(always)]
                    |_, e| s.mul(e, scale),
                );
            } else {
                scale_row(row, scale_of(block, Lane::FIRST));
            }
        },
    )
}

/// The logits of a row in the gradient buffer.
fn row<'b>(batch: &'b Batch<'_>, row: usize) -> &'b [f32] {
    part(batch.gradient.as_deref().unwrap_or(&[]), batch.rows.start(row), batch.rows.classes())
}

/// The element of the label, if it is in this piece.
fn at_label<'p>(piece: &'p mut [f32], block: &RowBlock, place: Place) -> Option<&'p mut f32> {
    let class = block.class[Lane::FIRST].checked_sub(place.start)?;
    part_mut(piece, 0, place.width).get_mut(class)
}

/// The exponentials of one piece, 0 for the label; returns whether all logits were in range.
#[inline(never)]
fn exponentials<S: Vector>(s: S, batch: &Batch<'_>, numbers: &mut [f32], block: &RowBlock, place: Place) -> bool {
    let reference = block.reference(Lane::FIRST);
    let dense = batch.rows_in_place(place).filter(|logits| reference.power == 0.0 || logits.len() >= VIRTUAL_LANES);
    if dense.is_none() {
        batch.load_rows(s, place, numbers);
    }
    let in_range = exponentials_of_piece(s, dense, numbers, place.width, reference);
    if let Some(e) = at_label(numbers, block, place) {
        *e = 0.0;
    }
    in_range
}

/// [`exponentials`] for a multiple of [`SUMMED_IN_F32`] classes, written to the gradient buffer and added to the sum.
fn write_exponentials<S: Vector>(s: S, batch: &mut Batch<'_>, block: &mut RowBlock, place: Place) -> bool {
    let Place { first, start, width, .. } = place;
    let at = batch.rows.element(first, start);
    let logits = batch.logits.and_then(|logits| logits.as_f32()).map(|logits| part(logits, at, width));
    let to = part_mut(batch.gradient.as_deref_mut().unwrap_or(&mut []), at, width);
    let in_range = exponentials_of_piece(s, logits, to, width, block.reference(Lane::FIRST));
    if let Some(e) = at_label(to, block, place) {
        *e = 0.0;
    }
    add_sums(s, to, Group::of_rows(place, Lane::FIRST), block);
    in_range
}
