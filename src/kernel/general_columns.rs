//! The general way of whole blocks of marked rows, as columns: a vector holds one class of several rows, each with its own
//! reference. For rows of `[N, C, D]`, and for short rows, which are transposed. Returns the bits of [`super::general`],
//! to which it leaves rows with NaN or infinities, and those whose exponentials underflow where that matters.

use super::column_sums::{add_exponentials, add_piece, labels_from};
use super::general::finish_referred;
use super::label_terms::LabelTerms;
use super::lanes::Lanes;
use super::limits::{NARROW, PIECE, RAISE, ROWS};
use super::scales::scale_columns;
use super::sums::has_long_vectors;
use super::tile::{Batch, Place, RowBlock, Tile, one_by_one};
use super::tile_columns::{Columns, to_columns, to_rows};
use super::{part_mut, rows_of_mut};
use crate::backend::vector::Vector;

/// Whether rows of so many classes are turned: of more, a phase has enough to do with one row.
pub(crate) fn are_turned<S: Vector>(classes: usize) -> bool {
    has_long_vectors::<S>() && classes <= NARROW
}

/// Losses (as `log`) and gradients of the blocks all of whose rows are marked; unmarks them.
pub(crate) fn compute<S: Vector, L: LabelTerms, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    terms: L,
    tile: &mut Tile<'_>,
    place: Place,
) {
    let mut room = tile.room();
    let (mut numbers, mut spare) = (&mut *tile.numbers, &mut *tile.spare);
    if spare.is_empty() {
        room /= 2;
        (numbers, spare) = numbers.split_at_mut_checked(room).unwrap_or_default();
    }
    let blocks = &mut *tile.blocks;
    let at_once = room.checked_div(ROWS.wrapping_mul(place.width.min(PIECE))).unwrap_or(0);
    let mut start = 0;
    while start < blocks.len() {
        let left = blocks.get_mut(start..).unwrap_or(&mut []);
        let count = left.iter().take(at_once).take_while(|block| block.marked == u32::MAX).count();
        let (blocks, at) = (part_mut(left, 0, count), start.wrapping_mul(ROWS));
        start = start.wrapping_add(count.max(1));
        if count == 0 {
            continue;
        }
        let rows = count.wrapping_mul(ROWS).min(place.rows.wrapping_sub(at));
        let all = Place { rows, ..place.row(at) };
        let mut is_loaded = batch.rows.positions() == 1;
        if is_loaded {
            turn(s, batch, (numbers, spare), all);
        }
        add_up(s, batch, (numbers, spare), &mut is_loaded, blocks, all);
        finish_referred(s, terms, batch.gradient.is_some(), blocks);
        if GRADIENT && batch.gradient.is_some() {
            write_gradient(s, batch, (numbers, spare), blocks, all, true, false);
        }
        blocks.iter_mut().for_each(RowBlock::without_references);
    }
}

/// Transposes rows to columns in `to`; `free` may be overwritten.
fn turn<S: Vector>(s: S, batch: &Batch<'_>, (free, to): (&mut [f32], &mut [f32]), place: Place) {
    let rows = batch.rows_in_place_or_loaded(s, place, free);
    to_columns(s, rows, place.width, to, place.rows.next_multiple_of(ROWS));
}

/// Fills the logits of the labels, the references and Σexp; leaves the exponentials of a single piece in `numbers`.
fn add_up<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    (numbers, spare): (&mut [f32], &mut [f32]),
    is_loaded: &mut bool,
    blocks: &mut [RowBlock],
    all: Place,
) {
    for block in &mut *blocks {
        (block.shift, block.sum) = (Lanes::splat(f32::NEG_INFINITY), Lanes::splat(0.0));
    }
    for place in all.pieces(PIECE) {
        let columns = batch.columns_once(s, (place, all), spare, is_loaded);
        find_largest_others(s, columns, place, blocks);
    }
    s.run(
        #[inline(always)]
        || {
            for block in one_by_one(&mut *blocks) {
                let largest = block.shift;
                block.refer_to(&largest, RAISE);
            }
        },
    );
    for place in all.pieces(PIECE) {
        let columns = batch.columns_once(s, (place, all), spare, is_loaded);
        add_piece(s, columns, (place, all), numbers, None, true, blocks);
    }
}

/// Writes the gradient of the rows that are not marked, from the exponentials in `numbers`; those of several pieces are
/// recomputed, with references if `referred`.
pub(crate) fn write_gradient<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    (numbers, spare): (&mut [f32], &mut [f32]),
    blocks: &[RowBlock],
    all: Place,
    referred: bool,
    are_held: bool,
) {
    let stride = blocks.len().wrapping_mul(ROWS);
    for place in all.pieces(PIECE) {
        if all.width > PIECE {
            let columns = batch.columns(s, place, spare);
            add_exponentials(s, columns, place, false, numbers, None, referred, blocks);
        }
        scale_columns(s, (numbers, stride), place, blocks, are_held);
        if !has_long_vectors::<S>() || batch.rows.positions() > 1 {
            batch.store_unmarked_columns(s, place, numbers, blocks);
            continue;
        }
        let (columns, width, all) = (&*numbers, place.width, blocks.iter().all(|block| block.marked == 0));
        if let Some(gradient) = batch.gradient_in_place(place).filter(|_| all) {
            to_rows(s, columns, stride, width, gradient);
        } else {
            to_rows(s, columns, stride, width, rows_of_mut(spare, 0, stride, width));
            batch.store_unmarked(s, place, spare, blocks);
        }
    }
}

/// Updates the logits of the labels, and the largest of the other logits (as `shift`), by those of a piece.
fn find_largest_others<S: Vector>(s: S, columns: Columns<'_>, place: Place, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let (labels, lowest) = (labels_from(place.start, blocks), s.splat(f32::NEG_INFINITY));
            for (first, block) in (0_usize..).step_by(ROWS).zip(one_by_one(blocks)) {
                for lane in (0..ROWS).step_by(S::LANES) {
                    let row = first.wrapping_add(lane);
                    let (mut logit, mut largest) =
                        (s.load(block.logit.as_slice(), lane), s.load(block.shift.as_slice(), lane));
                    let label = s.load(&labels.0, row);
                    let mut of_class = s.splat(0.0);
                    for x in columns.of_classes(row).take(place.width) {
                        let (x, is_label) = (s.load(x, 0), s.equal(label, of_class));
                        of_class = s.add(of_class, s.splat(1.0));
                        logit = s.select(is_label, x, logit);
                        largest = s.at_least(largest, s.select(is_label, lowest, x));
                    }
                    s.store(logit, block.logit.as_mut_slice(), lane);
                    s.store(largest, block.shift.as_mut_slice(), lane);
                }
            }
        },
    )
}
