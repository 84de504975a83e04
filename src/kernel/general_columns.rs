//! The general way of whole blocks of marked rows that fit the tile, as columns: a vector holds one class of several
//! rows, each with its own reference, and a phase computes many blocks. Returns the bits of [`super::general`], to which
//! it leaves rows with NaN or infinities, and those whose exponentials underflow where that matters.

use super::exp::{Exp, Reference};
use super::general::{scale, underflow_matters};
use super::label_terms::LabelTerms;
use super::lanes::{Lane, Lanes};
use super::limits::{RAISE, ROWS};
use super::positions::add_columns;
use super::row_scalars::Finish;
use super::sums::has_long_vectors;
use super::tile::{Batch, Place, RowBlock, Tile, ToColumns, ToRows, one_by_one};
use super::{part_mut, rows_of, rows_of_mut};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// Whether rows of so many classes are turned: of more, a phase has enough to do with one row.
pub(crate) fn are_turned<S: Vector>(classes: usize) -> bool {
    has_long_vectors::<S>() && classes <= 2 * VIRTUAL_LANES
}

/// Losses (as `log`) and gradients of the blocks all of whose rows are marked, as far as they fit half of a tile; unmarks
/// them.
pub(crate) fn compute<S: Vector, L: LabelTerms, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    terms: L,
    tile: &mut Tile<'_>,
    place: Place,
) {
    let (columns, spare) = tile.numbers.split_at_mut_checked(tile.room() / 2).unwrap_or_default();
    let blocks = part_mut(tile.blocks, 0, place.rows.div_ceil(ROWS));
    let at_once = columns.len().checked_div(ROWS.wrapping_mul(place.width)).unwrap_or(0);
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
        let place = Place { rows, ..place.row(at) };
        load(s, batch, columns, spare, blocks, place);
        s.run(Finish::<true> { gradient: true, blocks: &mut *blocks });
        terms.apply(s, blocks);
        s.run(MarkSpecial { gradient: batch.gradient.is_some(), blocks: &mut *blocks });
        if GRADIENT {
            write_gradient(s, batch, columns, spare, blocks, place);
        }
        blocks.iter_mut().for_each(RowBlock::without_references);
    }
}

/// Fills columns of exponentials, and Σexp.
fn load<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    columns: &mut [f32],
    spare: &mut [f32],
    blocks: &mut [RowBlock],
    place: Place,
) {
    let Place { first, rows, width, .. } = place;
    let columns = rows_of_mut(columns, 0, blocks.len().wrapping_mul(ROWS), width);
    if batch.rows.positions() > 1 {
        for (place, columns) in place.blocks().zip(columns.chunks_exact_mut(ROWS.wrapping_mul(width).max(1))) {
            batch.load_columns(s, place, columns);
        }
    } else if let Some(logits) = batch.as_tile() {
        s.run(ToColumns { rows: rows_of(logits, first, rows, width), width, to: &mut *columns });
    } else {
        batch.load_rows(s, place, spare);
        s.run(ToColumns { rows: rows_of(spare, 0, rows, width), width, to: &mut *columns });
    }
    s.run(Sums { columns, width, blocks });
}

/// Writes the gradient of the rows that are not marked.
fn write_gradient<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    columns: &mut [f32],
    spare: &mut [f32],
    blocks: &[RowBlock],
    place: Place,
) {
    let Some(gradient) = batch.gradient.as_deref_mut() else { return };
    let Place { first, rows, width, .. } = place;
    let size = blocks.len().wrapping_mul(ROWS);
    let (columns, spare) = (rows_of_mut(columns, 0, size, width), rows_of_mut(spare, 0, size, width));
    s.run(Gradients { columns: &mut *columns, width, blocks });
    if blocks.iter().any(|block| block.marked != 0) || !batch.rows.are_dense() && batch.rows.positions() == 1 {
        s.run(ToRows { columns, width, to: &mut *spare });
        batch.store_unmarked(s, place, spare, blocks);
    } else if batch.rows.positions() > 1 {
        for (place, columns) in place.blocks().zip(columns.chunks_exact(ROWS.wrapping_mul(width).max(1))) {
            batch.store_columns(s, place, columns);
        }
    } else {
        s.run(ToRows { columns, width, to: rows_of_mut(gradient, first, rows, width) });
    }
}

/// Turns logits into exponentials, 0 for the labels; fills the logits of the labels, the references and Σexp.
struct Sums<'a> {
    columns: &'a mut [f32],
    width: usize,
    blocks: &'a mut [RowBlock],
}

impl Operation for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, width, blocks } = self;
        let size = ROWS.wrapping_mul(width).max(1);
        let lowest = s.splat(f32::NEG_INFINITY);
        for (block, columns) in one_by_one(blocks).zip(columns.chunks_exact_mut(size)) {
            let labels = block.labels();
            for at in (0..ROWS).step_by(S::LANES) {
                let (label, mut logit, mut largest) = (s.load(labels.as_slice(), at), lowest, lowest);
                for (class, column) in columns.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                    let (x, is_label) = (s.load(column, at), s.equal(label, s.splat(class as f32)));
                    logit = s.select(is_label, x, logit);
                    let x = s.select(is_label, lowest, x);
                    largest = s.at_least(largest, x);
                    s.store(x, column, at);
                }
                s.store(logit, block.logit.as_mut_slice(), at);
                s.store(largest, block.shift.as_mut_slice(), at);
            }
            let largest = block.shift;
            for i in Lane::all() {
                let reference = Reference::new(largest[i]).raised(RAISE);
                (block.shift[i], block.power[i]) = (reference.shift, reference.power);
            }
        }
        for (block, columns) in blocks.iter().zip(columns.chunks_exact_mut(size)) {
            for at in (0..ROWS).step_by(S::LANES) {
                let (shift, power) = (s.load(block.shift.as_slice(), at), s.load(block.power.as_slice(), at));
                let exp = Exp::of_lanes(s, shift, power);
                for column in columns.as_chunks_mut::<ROWS>().0 {
                    s.store(exp.of(s, s.load(column, at)), column, at);
                }
            }
        }
        for (block, columns) in blocks.iter_mut().zip(columns.chunks_exact(size)) {
            let mut sum = Lanes::splat(0.0);
            add_columns(s, columns, (width, ROWS), &mut sum);
            for i in Lane::all() {
                // That of the largest logit is at least 2^RAISE: all are −∞, though exp(−∞) is not 0 where a host program
                // rounds toward +∞.
                block.sum[i] = if sum[i] < 1.0 { 0.0 } else { sum[i] };
            }
        }
    }
}

/// Marks the rows that are left to [`super::general`]: Σexp is NaN, all logits are −∞, or exponentials that underflowed
/// matter in the gradient.
struct MarkSpecial<'a> {
    gradient: bool,
    blocks: &'a mut [RowBlock],
}

impl Operation for MarkSpecial<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, _: S) {
        for block in self.blocks {
            let (sum, logit, factor, share) = (block.sum, block.logit, block.factor, block.share);
            let mut special = Lanes::splat(0);
            for i in Lane::all() {
                let scale = if self.gradient & (factor[i] != 0.0) { factor[i] * share[i] } else { 0.0 };
                let is_infinite = (sum[i] == 0.0) & (logit[i] == f32::NEG_INFINITY);
                special[i] = u32::from(sum[i].is_nan() | is_infinite | scale.is_nan() | underflow_matters(scale));
            }
            block.marked = special.iter().rev().fold(0, |bits, special| bits << 1 | special);
        }
    }
}

/// The gradient, over the exponentials.
struct Gradients<'a> {
    columns: &'a mut [f32],
    width: usize,
    blocks: &'a [RowBlock],
}

impl Operation for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, width, blocks } = self;
        for (block, columns) in blocks.iter().zip(columns.chunks_exact_mut(ROWS.wrapping_mul(width).max(1))) {
            let (labels, mut scales, mut of_labels) = (block.labels(), Lanes::splat(0.0), Lanes::splat(0.0));
            for i in Lane::all() {
                // 0·∞ = 0
                let (factor, of_label) = (block.factor[i], 0.0 - block.factor[i] * block.one_minus_p[i]);
                scales[i] = if factor == 0.0 { 0.0 } else { scale(block, i) };
                of_labels[i] = if factor == 0.0 { 0.0 } else { of_label as f32 };
            }
            for (class, column) in one_by_one(columns.as_chunks_mut::<ROWS>().0).enumerate() {
                for (e, &scale) in column.iter_mut().zip(&scales) {
                    *e = (f64::from(*e) * scale) as f32;
                }
                for at in (0..ROWS).step_by(S::LANES) {
                    let is_label = s.equal(s.load(labels.as_slice(), at), s.splat(class as f32));
                    let element = s.select(is_label, s.load(of_labels.as_slice(), at), s.load(column, at));
                    s.store(element, column, at);
                }
            }
        }
    }
}
