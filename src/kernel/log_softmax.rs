//! log p of every class, log-sum-exp of every row, and maximum and Σ exp of a part of a row.

use super::exp::exponentiate;
use super::general::{self, Group};
use super::lanes::{Lane, Lanes};
use super::limits::{LARGEST_POWER, ROWS};
use super::marks::mark_rows;
use super::references::find_references;
use super::row_scalars::{Exponentials, finish_rows};
use super::sums::excluded_sums;
use super::tile::{Batch, Place, RowBlock, Tile, with_tile};
use super::{chunks, chunks_mut, f64_math, part, part_mut, row_of_mut, rows_of, steps};
use crate::backend::vector::{Driver, Vector};

/// Everything has been validated. The log-probabilities are written to the gradient of the batch.
pub(crate) struct LogProbabilityRows<'a> {
    pub(crate) batch: Batch<'a>,
    pub(crate) log_sum_exps: Option<&'a mut [f32]>,
}

impl Driver for LogProbabilityRows<'_> {
    type Output = ();

    fn drive<S: Vector>(mut self, s: S) {
        let rows = self.batch.rows;
        with_tile::<2>(rows.count(), rows.classes(), &mut |tile| self.tiles(s, tile));
    }
}

impl LogProbabilityRows<'_> {
    #[inline(never)]
    fn tiles<S: Vector>(&mut self, s: S, mut tile: Tile<'_>) {
        let (rows, classes) = (self.batch.rows, self.batch.rows.classes());
        let fitting = tile.rows(classes);
        let at_once = if fitting == 0 { ROWS } else { fitting };
        for first in steps(rows.count(), at_once) {
            let count = at_once.min(rows.count().wrapping_sub(first));
            let place = Place { first, rows: count, start: 0, width: classes };
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            blocks.iter_mut().for_each(|block| block.marked = if fitting == 0 { u32::MAX } else { 0 });
            if fitting > 0 {
                self.compute(s, &mut tile, place);
            }
            if part(tile.blocks, 0, count.div_ceil(ROWS)).iter().any(|block| block.marked != 0) {
                self.compute_any(s, &mut tile, place);
            }
            let Some(out) = self.log_sum_exps.as_deref_mut() else { continue };
            for (to, block) in chunks_mut(part_mut(out, first, count), ROWS).zip(&*tile.blocks) {
                for ((to, log), logit) in to.iter_mut().zip(block.log).zip(block.logit) {
                    *to = (f64::from(logit) + log) as f32;
                }
            }
        }
    }

    fn compute<S: Vector>(&mut self, s: S, tile: &mut Tile<'_>, place: Place) {
        let Place { first, rows: count, width: classes, .. } = place;
        let (batch, len) = (&self.batch, count.wrapping_mul(classes));
        let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
        let dense = batch.as_tile().map(|logits| rows_of(logits, first, count, classes));
        if dense.is_none() {
            batch.load_rows(s, place, tile.spare);
        }
        let logits = dense.unwrap_or(part(tile.spare, 0, len));
        find_references(s, logits, classes, blocks);
        if !exponentiate(s, Some(logits), tile.numbers, len) {
            mark_rows(s, logits, classes, blocks);
        }
        excluded_sums(s, None, tile.numbers, classes, count, blocks);
        finish_rows(s, Exponentials::InRange, false, blocks);
        if batch.gradient.is_some() {
            write_log_elements(s, logits, part_mut(tile.numbers, 0, len), classes, blocks);
            self.batch.store_unmarked(s, place, tile.numbers, tile.blocks);
        }
    }

    /// Computes the marked rows, by the general way.
    #[cold]
    #[inline(never)]
    fn compute_any<S: Vector>(&mut self, s: S, tile: &mut Tile<'_>, place: Place) {
        let (room, numbers, batch) = (tile.room(), &mut *tile.numbers, &mut self.batch);
        let rows = batch.rows;
        general::for_each_group(rows, room, place, tile.blocks, |_, block, group| {
            let mut found = block.clone();
            general::find_argmax(s, batch, numbers, &mut found, group);
            general::sum_without_references(s, batch, numbers, &mut found, group);
            let mut infinite = Lanes::splat(0);
            for (row, lane) in group.marked() {
                (block.class[lane], block.logit[lane]) = (found.class[lane], found.logit[lane]);
                block.log[lane] = found.log[lane];
                if found.sum[lane].is_nan() || !found.logit[lane].is_finite() {
                    let (log, count) = log_without_sum(batch, group.row(row), found.logit[lane]);
                    (block.log[lane], infinite[lane]) = (log, count);
                }
            }
            if batch.gradient.is_some() {
                write_any(s, batch, numbers, block, &infinite, group);
            }
        });
    }
}

/// log Σ exp less the largest logit of a row where that is infinite or a logit is NaN: NaN with a NaN, else 0; and the
/// number of logits that are +∞.
fn log_without_sum(batch: &Batch<'_>, row: usize, largest: f32) -> (f64, usize) {
    let logits = || (0..batch.rows.classes()).map(|class| batch.logit(row, class));
    let infinite = logits().filter(|&x| x == f32::INFINITY).count();
    (if largest.is_nan() || logits().any(f32::is_nan) { f64::NAN } else { 0.0 }, infinite)
}

/// Writes log p_c = −((x_m − x_c) + log(1 + E)) of the marked rows, m being the class of the largest logit.
fn write_any<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    numbers: &mut [f32],
    block: &RowBlock,
    infinite: &Lanes<usize>,
    group: Group,
) {
    for place in group.pieces() {
        batch.load_rows(s, place, numbers);
        for (row, lane) in group.marked() {
            let elements = row_of_mut(numbers, row, place.width);
            let (largest, log) = (f64::from(block.logit[lane]), block.log[lane]);
            for (class, x) in (place.start..).zip(&mut *elements) {
                let is_tied = infinite[lane] > 1 && *x == f32::INFINITY;
                let value = if class == block.class[lane] { 0.0 - log } else { (f64::from(*x) - largest) - log };
                // All −∞: no class has a probability.
                *x = if is_tied || largest == f64::NEG_INFINITY { f32::NAN } else { value as f32 };
            }
            batch.store_rows(s, place.row(row), elements);
        }
    }
}

/// Writes log p_c = (x_c − x_m) − log(1 + E) of rows in range.
fn write_log_elements<S: Vector>(s: S, logits: &[f32], to: &mut [f32], classes: usize, blocks: &[RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let mut start = 0;
            for block in blocks {
                for lane in Lane::all() {
                    let (x, to) = (part(logits, start, classes), part_mut(to, start, classes));
                    start = start.wrapping_add(classes);
                    let log = block.log[lane] as f32;
                    let (largest, log_of_all) = (s.splat(block.logit[lane]), s.splat(log));
                    for (x, to) in chunks(x, S::LANES).zip(chunks_mut(to, S::LANES)) {
                        s.store_partial(s.sub(s.sub(s.load_partial(x, 0.0), largest), log_of_all), to);
                    }
                    if let Some(element) = to.get_mut(block.class[lane]) {
                        *element = 0.0 - log;
                    }
                }
            }
        },
    )
}

/// Of one row: the largest logit (−∞ without classes, NaN if any is NaN) and Σ exp(x_k − largest) over the others.
pub(crate) struct RowPart<'a> {
    pub(crate) batch: Batch<'a>,
}

impl Driver for RowPart<'_> {
    type Output = (f32, f64);

    fn drive<S: Vector>(self, s: S) -> (f32, f64) {
        let mut part = (f32::NEG_INFINITY, 0.0);
        with_tile::<1>(1, self.batch.rows.classes(), &mut |tile| {
            let (room, numbers, batch) = (tile.room(), tile.numbers, &self.batch);
            let mut block = RowBlock::EMPTY;
            block.marked = 1;
            let blocks = core::slice::from_mut(&mut block);
            let place = Place { first: 0, rows: 1, start: 0, width: batch.rows.classes() };
            general::for_each_group(batch.rows, room, place, blocks, |_, block, group| {
                general::find_argmax(s, batch, numbers, block, group);
                general::sum_without_references(s, batch, numbers, block, group);
                part = part_of(batch, block);
            });
        });
        part
    }
}

fn part_of(batch: &Batch<'_>, block: &RowBlock) -> (f32, f64) {
    let lane = Lane::FIRST;
    let (largest, sum) = (block.logit[lane], block.sum[lane]);
    if sum.is_nan() || !largest.is_finite() {
        let (log, infinite) = log_without_sum(batch, 0, largest);
        return (if log.is_nan() { f32::NAN } else { largest }, infinite.saturating_sub(1) as f64);
    }
    let gap = f64::from(block.shift[lane]) - f64::from(largest);
    let (mantissa, exponent) = f64_math::exp_in_parts(gap);
    let exponent = exponent - f64::from(block.power[lane]);
    (
        largest,
        if sum == 0.0 || exponent < -LARGEST_POWER { 0.0 } else { sum * mantissa * f64_math::power_of_two(exponent) },
    )
}
