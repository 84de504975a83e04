//! Rows that are longer than a tile: piece by piece, with the same phases. Where the classes of a row are contiguous,
//! its exponentials are kept in the gradient buffer until their scale is known.

use super::exp::Exponentials;
use super::general::{self, AddSums, Group, InRange};
use super::label_terms::{LabelTerms, finish};
use super::lanes::Lane;
use super::limits::SUMMED_IN_F32;
use super::row_scalars::Scales;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{part, part_mut, whole};
use crate::backend::vector::{Operation, Vector};

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
    let classes = batch.rows.classes();
    let width = whole(tile.room().min(PIECE), SUMMED_IN_F32);
    let pieces = || Place { first, rows: 1, start: 0, width: classes }.pieces(width);
    let (numbers, blocks) = (&mut *tile.numbers, part_mut(tile.blocks, 0, 1));
    let Some(block) = blocks.first_mut() else { return };
    (block.logit[Lane::FIRST], block.sum[Lane::FIRST]) = (batch.logit(first, block.class[Lane::FIRST]), 0.0);
    // In place, exponentials overwrite logits only where the whole row is known to be in range.
    let gradient = GRADIENT && batch.gradient.is_some();
    let keep = gradient && batch.rows.positions() == 1 && (batch.logits.is_some() || batch.adjustment.is_none());
    let mut in_range = !keep || batch.logits.is_some() || s.run(InRange { row: row(batch, first) });
    let mut is_held = true;
    for place in pieces() {
        if !in_range {
            break;
        }
        let width = place.width;
        if keep && batch.as_tile().is_some() && width.is_multiple_of(SUMMED_IN_F32) {
            in_range = write_exponentials(s, batch, block, place);
            continue;
        }
        in_range = exponentials(s, batch, numbers, block, place);
        s.run(AddSums { numbers, width, group: Group::of_row(place, Lane::FIRST, classes), found: block });
        if keep {
            batch.store_rows(s, place, part(numbers, 0, width));
        }
    }
    if in_range {
        finish::<S, L, GRADIENT>(s, terms, core::slice::from_mut(block));
        is_held = !gradient || s.run(Scales { whole: false, blocks: core::slice::from_mut(block) });
    }
    if !in_range || !is_held && !keep {
        block.marked = u32::MAX;
        return general::compute::<S, L, GRADIENT>(s, batch, terms, tile, first, 1);
    }
    if keep {
        scale_kept(s, batch, block, first, is_held);
    } else if gradient {
        pieces().for_each(|place| write_piece(s, batch, numbers, block, place));
    }
}

/// The gradient of one piece, from exponentials that are computed again.
fn write_piece<S: Vector>(s: S, batch: &mut Batch<'_>, numbers: &mut [f32], block: &RowBlock, place: Place) {
    exponentials(s, batch, numbers, block, place);
    let row = part_mut(numbers, 0, place.width);
    s.run(Scale { row: &mut *row, scale: block.scale[Lane::FIRST] });
    if let Some(element) = block.class[Lane::FIRST].checked_sub(place.start).and_then(|class| row.get_mut(class)) {
        *element = block.at_reference[Lane::FIRST];
    }
    batch.store_rows(s, place, row);
}

/// Scales the kept exponentials of a row to its gradient, in place.
fn scale_kept<S: Vector>(s: S, batch: &mut Batch<'_>, block: &mut RowBlock, first: usize, is_held: bool) {
    let (start, classes) = (batch.rows.start(first), batch.rows.classes());
    let row = part_mut(batch.gradient.as_deref_mut().unwrap_or(&mut []), start, classes);
    if is_held {
        s.run(Scale { row, scale: block.scale[Lane::FIRST] });
    } else {
        // Logits in the buffer are overwritten by now: the product in f64, as the general way has it.
        let scale = block.factor[Lane::FIRST] * block.share[Lane::FIRST];
        row.iter_mut().for_each(|e| *e = (f64::from(*e) * scale) as f32);
        block.marked = 0;
    }
    if let Some(element) = row.get_mut(block.class[Lane::FIRST]) {
        *element = block.at_reference[Lane::FIRST];
    }
}

/// The logits of a row in the gradient buffer.
fn row<'b>(batch: &'b Batch<'_>, row: usize) -> &'b [f32] {
    part(batch.gradient.as_deref().unwrap_or(&[]), batch.rows.start(row), batch.rows.classes())
}

/// The exponentials of one piece, 0 for the label; returns whether all logits were in range.
fn exponentials<S: Vector>(s: S, batch: &Batch<'_>, numbers: &mut [f32], block: &RowBlock, place: Place) -> bool {
    let Place { first, start, width, .. } = place;
    let dense = batch.as_tile().map(|logits| part(logits, batch.rows.element(first, start), width));
    if dense.is_none() {
        batch.load_rows(s, place, numbers);
    }
    let in_range = s.run(Exponentials { logits: dense, to: &mut *numbers, count: width });
    if let Some(e) =
        block.class[Lane::FIRST].checked_sub(start).and_then(|class| part_mut(numbers, 0, width).get_mut(class))
    {
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
    let in_range = s.run(Exponentials { logits, to: &mut *to, count: width });
    if let Some(e) = block.class[Lane::FIRST].checked_sub(start).and_then(|class| to.get_mut(class)) {
        *e = 0.0;
    }
    s.run(AddSums { numbers: to, width, group: Group::of_row(place, Lane::FIRST, width), found: block });
    in_range
}

/// Multiplies a row by a scalar, in place.
struct Scale<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Operation for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let scale = s.splat(self.scale);
        let mut vectors = self.row.chunks_exact_mut(S::LANES);
        for x in vectors.by_ref() {
            let element = s.mul(s.load(x, 0), scale);
            s.store(element, x, 0);
        }
        let tail = vectors.into_remainder();
        let element = s.mul(s.load_partial(tail, 0.0), scale);
        s.store_partial(element, tail);
    }
}
