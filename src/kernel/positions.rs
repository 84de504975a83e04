//! Rows of `[N, C, D]`, D > 1: the logits of one class are contiguous along the positions. A vector holds one class of
//! several rows, without a transpose.
//!
//! Many rows are computed at once, a piece of 64 classes after the other, so that as much as possible is read of each
//! class: in the layout of the caller the classes of a row are far apart. A row has a partial sum in f32 for each class
//! of a piece, which is all that the order of addition of [`super::partial_sums`] needs.

use super::column_sums::{add_piece, read_label_logits};
use super::general_columns::write_gradient;
use super::label_terms::{LabelTerms, finish};
use super::lanes::Lanes;
use super::limits::{NARROW, PIECE, ROWS};
use super::long_terms;
use super::row_scalars::Exponentials;
use super::scales::{fill_scales, scale_columns};
use super::tile::{Batch, Place, RowBlock, Tile};
use crate::backend::vector::Vector;
use crate::rows::Rows;

/// Rows and classes for a tile: as many logits, in rows of a piece at most.
pub(crate) fn tile_of(rows: &Rows<'_>) -> (usize, usize) {
    let (count, classes) = (rows.count().next_multiple_of(ROWS), rows.classes());
    (count.saturating_mul(classes.div_ceil(PIECE)), classes.min(PIECE))
}

/// Whether the logits of a class are contiguous for enough positions. A few are transposed to rows, unless those are a
/// single piece, which is loaded once, or do not fit a tile.
pub(crate) fn are_enough(rows: &Rows<'_>) -> bool {
    let (positions, classes) = (rows.positions(), rows.classes());
    positions >= ROWS || positions > 1 && (classes <= NARROW || classes > long_terms::LONG_PIECE)
}

/// How many of at most `at_once` rows to compute from `first` on. Of several pieces those of one sample, whose logits are
/// read in place: they are read more than once.
pub(crate) fn rows_from(rows: &Rows<'_>, first: usize, at_once: usize) -> usize {
    let count = at_once.min(rows.left_in_chunk(first));
    if rows.classes() > PIECE { count.min(rows.left_in_sample(first)) } else { count }
}

/// How many rows are computed at once: as many whole blocks as fit with the classes of a piece, and at least one.
pub(crate) fn rows_at_once(classes: usize, tile: &Tile<'_>) -> usize {
    tile.rows(classes.min(PIECE)).max(ROWS)
}

/// Losses and gradients of rows with classes and weights filled in; returns whether none is marked. The tile has two
/// arrays.
pub(crate) fn compute<S: Vector, L: LabelTerms, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    terms: L,
    tile: &mut Tile<'_>,
    all: Place,
) -> bool {
    let (numbers, spare, blocks) = (&mut *tile.numbers, &mut *tile.spare, &mut *tile.blocks);
    for block in &mut *blocks {
        block.sum = Lanes::splat(0.0);
    }
    let has_gradient = GRADIENT && batch.gradient.is_some();
    let mut kept = if GRADIENT { batch.take_gradient(all) } else { None };
    if add_up(s, batch, (numbers, spare), kept.as_deref_mut(), blocks, all) {
        finish(s, terms, Exponentials::InRange, has_gradient, blocks);
        if has_gradient {
            let are_held = fill_scales(s, blocks);
            if let Some(gradient) = kept.as_deref_mut() {
                scale_columns(s, batch.columns_of_gradient(all, gradient), all, blocks, are_held);
            } else {
                write_gradient(s, batch, (numbers, spare), blocks, all, false, are_held);
            }
        }
    }
    batch.gradient = kept.or(batch.gradient.take());
    blocks.iter().all(|block| block.marked == 0)
}

/// Fills the logits of the labels and the sums; `false` if every block has a logit out of range. The exponentials are in
/// the gradient, if given, else in `numbers` where a row is a single piece.
fn add_up<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    (numbers, spare): (&mut [f32], &mut [f32]),
    mut gradient: Option<&mut [f32]>,
    blocks: &mut [RowBlock],
    all: Place,
) -> bool {
    let in_place = batch.columns_in_place(all);
    if let Some(columns) = in_place {
        read_label_logits(s, columns, all, blocks);
    }
    for place in all.pieces(PIECE) {
        let columns = batch.columns(s, place, spare);
        if in_place.is_none() {
            read_label_logits(s, columns, place, blocks);
        }
        let kept = gradient.as_deref_mut().map(|gradient| batch.columns_of_gradient(place, gradient));
        if !add_piece(s, columns, (place, all), numbers, kept, false, blocks) {
            return false;
        }
    }
    true
}
