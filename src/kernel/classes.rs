//! Classes and weights of a tile of rows: labels of every type are read, checked and weighed in one pass.

use super::lanes::{Lane, Lanes};
use super::limits::{FEW, ROWS};
use super::sums::is_worth_code;
use super::tile::{RowBlock, one_by_one, with_tile};
use super::{from, part, part_mut};
use crate::backend::vector::{Driver, Vector};
use crate::error::Error;
use crate::label::Labels;
use crate::reduction::{GradientScale, RowSum, Total};
use crate::rows::{Rows, class_of};

/// Totals over the rows read so far.
pub(crate) struct Weights {
    pub(crate) counted: usize,
    pub(crate) weights: RowSum,
    pub(crate) sample_weights: RowSum,
}

impl Weights {
    /// Batch totals (rows, weight sums), without the loss.
    pub(crate) fn total(&self, rows: &Rows<'_>) -> Total {
        let counted = self.counted as f64;
        let sample_weight_sum = if rows.sample_weights().is_some() { self.sample_weights.total() } else { counted };
        rows.total(self.counted, self.weights.total(), sample_weight_sum)
    }

    /// Adds a row that counts.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, of_row: RowWeight) {
        self.counted = self.counted.saturating_add(1);
        self.weights.add(row, of_row.weight);
        self.sample_weights.add(row, of_row.of_sample);
    }

    /// Totals of no rows.
    pub(crate) fn new(rows: &Rows<'_>) -> Self {
        let chunk = rows.chunk();
        Self { counted: 0, weights: RowSum::new(chunk), sample_weights: RowSum::new(chunk) }
    }
}

/// Class, weight w\[y\]·s and sample weight s of a row that counts.
#[derive(Clone, Copy)]
pub(crate) struct RowWeight {
    pub(crate) class: usize,
    pub(crate) weight: f64,
    pub(crate) of_sample: f64,
}

/// Class and weights of a row; `None` if it does not count.
#[inline(always)]
pub(crate) fn row_weight(rows: &Rows<'_>, row: usize) -> Result<Option<RowWeight>, Error> {
    let (classes, label) = (rows.classes(), rows.labels().and_then(|labels| labels.get(row)).unwrap_or(0));
    if Some(label) == rows.ignored() {
        return Ok(None);
    }
    let class = class_of(label, classes).ok_or(Error::LabelOutOfRange { row, label, classes })?;
    let of_sample = f64::from(rows.sample_weight(row));
    Ok(Some(RowWeight { class, weight: f64::from(rows.weight(class)) * of_sample, of_sample }))
}

/// Checks all labels and adds up the weights of the rows.
pub(crate) struct WeighRows<'a, 'b> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) weights: &'b mut Weights,
}

impl Driver for WeighRows<'_, '_> {
    type Output = Result<(), Error>;

    fn drive<S: Vector>(self, s: S) -> Self::Output {
        let Self { rows, weights } = self;
        if rows.count() <= FEW {
            for row in 0..rows.count() {
                if let Some(of_row) = row_weight(rows, row)? {
                    weights.add(row, of_row);
                }
            }
            return Ok(());
        }
        let mut result = Ok(());
        with_tile::<1>(rows.count(), 1, &mut |tile| {
            let at_once = tile.blocks.len().wrapping_mul(ROWS);
            let mut first = 0;
            while first < rows.count() && result.is_ok() {
                let count = at_once.min(rows.left_in_chunk(first));
                let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
                let read = read_classes(s, rows, first, count, blocks, Some(weights));
                result = read.map(|_| ());
                first = first.wrapping_add(count);
            }
        });
        result
    }
}

/// Fills classes and weights of some rows, and adds them to `weights`, if given. Returns whether all rows count.
///
/// A row that does not count has class 0 and weight 0. The first label that is neither a class nor ignored is an error.
pub(crate) fn read_classes<S: Vector>(
    s: S,
    rows: &Rows<'_>,
    first: usize,
    count: usize,
    blocks: &mut [RowBlock],
    mut weights: Option<&mut Weights>,
) -> Result<bool, Error> {
    s.run(
        #[inline(always)]
        move || {
            let Some(labels) = rows.labels() else { return Ok(true) };
            let mut counted = count;
            let mut weighted = false;
            // Short loops over all rows, one after the other, so that the processor overlaps rows. If every label is a
            // class, and the ignored label is none, all rows count.
            if read_labels::<S>(labels, first, rows.classes(), blocks) || rows.ignores_a_class() {
                counted = counted.saturating_sub(leave_out(rows, first, count, blocks)?);
                weighted = true;
            }
            if let Some(samples) = rows.sample_weights() {
                multiply_samples(part(samples, first, count), blocks, weighted);
                if let Some(weights) = weights.as_deref_mut() {
                    weights.sample_weights.add_blocks(
                        first,
                        blocks,
                        #[inline(always)]
                        |block| block.weight,
                    );
                }
                weighted = true;
            }
            if !count.is_multiple_of(ROWS) {
                end_weights(count, blocks, weighted);
                weighted = true;
            }
            let of_classes = rows.class_weights();
            if let Some(of_classes) = of_classes
                && !are_blended::<S>(of_classes.len())
            {
                look_up(of_classes, blocks);
            }
            if let Some(weights) = weights {
                weights.counted = weights.counted.saturating_add(counted);
                weights.weights.add_blocks(
                    first,
                    blocks,
                    #[inline(always)]
                    |block| weigh::<S>(block, of_classes, weighted),
                );
            } else {
                for block in blocks {
                    weigh::<S>(block, of_classes, weighted);
                }
            }
            Ok(counted == count)
        },
    )
}

/// Fills the classes; returns whether any label is out of range.
#[inline(always)]
fn read_labels<S: Vector>(labels: Labels<'_>, first: usize, classes: usize, blocks: &mut [RowBlock]) -> bool {
    let largest = (classes as u64).wrapping_sub(1);
    let mut outside = Lanes::splat(0);
    if is_worth_code::<S>() {
        labels.read(
            first,
            blocks.iter_mut(),
            #[inline(always)]
            |block, values| take_labels(block, values, largest, &mut outside),
        );
    } else {
        for (first, block) in (first..).step_by(ROWS).zip(blocks) {
            take_labels(block, &labels.of_block(first), largest, &mut outside);
        }
    }
    outside.iter().fold(0, |all, value| all | value) >> 63 != 0
}

/// Fills the classes of a block; sets the top bit of `outside` where a label is negative or above the largest class.
#[inline(always)]
fn take_labels(block: &mut RowBlock, labels: &Lanes<i64>, largest: u64, outside: &mut Lanes<u64>) {
    let mut class = Lanes::splat(0);
    for i in Lane::all() {
        let label = labels[i] as u64;
        class[i] = label as usize;
        outside[i] |= label | largest.wrapping_sub(label);
    }
    block.class = class;
}

/// Whether the weights of so many classes are blended: of more, they are gathered.
const fn are_blended<S: Vector>(classes: usize) -> bool {
    classes == 2 || is_worth_code::<S>() && 3 <= classes && classes <= 4
}

/// Fills and returns the weights of the rows: the class weight, in `log` unless those [`are_blended`], times the weight
/// filled in before if `weighted`.
#[inline(always)]
fn weigh<S: Vector>(block: &mut RowBlock, of_classes: Option<&[f32]>, weighted: bool) -> Lanes<f64> {
    let mut of_rows = Lanes::splat(1.0);
    if let Some(&[a, b]) = of_classes {
        let (a, b) = (f64::from(a), f64::from(b));
        of_rows = block.class.map(|class| if class == 0 { a } else { b });
    } else if let Some(&[a, b, c, ref d @ ..]) = of_classes
        && are_blended::<S>(d.len().saturating_add(3))
    {
        let [a, b, c, d] = [a, b, c, d.first().copied().unwrap_or(0.0)].map(f64::from);
        for i in Lane::all() {
            let class = block.class[i];
            let (low, high) = (if class == 0 { a } else { b }, if class == 2 { c } else { d });
            of_rows[i] = if class < 2 { low } else { high };
        }
    } else if of_classes.is_some() {
        of_rows = block.log;
    }
    if weighted {
        for (of_row, weight) in of_rows.iter_mut().zip(&block.weight) {
            *of_row *= weight;
        }
    }
    block.weight = of_rows;
    of_rows
}

/// Gathers the class weights of the rows into `log`, unused so far.
#[inline(always)]
fn look_up(of_classes: &[f32], blocks: &mut [RowBlock]) {
    for block in blocks {
        for (weight, &class) in block.log.iter_mut().zip(&block.class) {
            *weight = f64::from(of_classes.get(class).copied().unwrap_or(0.0));
        }
    }
}

/// Sets weight 0 in lanes after the last row; `weighted` is whether `weight` has been filled in.
#[inline(always)]
fn end_weights(count: usize, blocks: &mut [RowBlock], weighted: bool) {
    if !weighted {
        for block in &mut *blocks {
            block.weight = Lanes::splat(1.0);
        }
    }
    if let Some(block) = blocks.get_mut(count / ROWS) {
        for weight in block.weight.iter_mut().skip(count % ROWS) {
            *weight = 0.0;
        }
    }
}

/// Fills the weights with the sample weights, times the weights filled in before if `weighted`.
#[inline(always)]
fn multiply_samples(samples: &[f32], blocks: &mut [RowBlock], weighted: bool) {
    for (block, samples) in blocks.iter_mut().zip(samples.chunks(ROWS)) {
        let mut of_samples = Lanes::splat(0.0);
        for (of_sample, &sample) in of_samples.iter_mut().zip(samples) {
            *of_sample = f64::from(sample);
        }
        if weighted {
            for (of_sample, weight) in of_samples.iter_mut().zip(&block.weight) {
                *of_sample *= weight;
            }
        }
        block.weight = of_samples;
    }
}

/// Sets weight 1 for rows that count, else class 0 and weight 0. Returns the number of the latter among the first
/// `count`. The first label that is neither a class nor ignored is an error.
#[inline(always)]
fn leave_out(rows: &Rows<'_>, first: usize, count: usize, blocks: &mut [RowBlock]) -> Result<usize, Error> {
    let (Some(labels), classes) = (rows.labels(), rows.classes() as u64) else { return Ok(0) };
    let (ignores, ignored) = rows.ignored().map_or((0, 0), |label| (1, label));
    let (mut wrong, mut left_out, mut of_block) = (Lanes::splat(0), Lanes::splat(0_u64), Lanes::splat(0_u64));
    for (first, block) in (first..).step_by(ROWS).zip(blocks) {
        let (values, mut class, mut weight) = (labels.of_block(first), Lanes::splat(0), Lanes::splat(0.0));
        for i in Lane::all() {
            let value = values[i];
            of_block[i] = u64::from(value == ignored) & ignores;
            class[i] = if of_block[i] == 1 { 0 } else { value as usize };
            weight[i] = if of_block[i] == 1 { 0.0 } else { 1.0 };
            wrong[i] |= u64::from(value as u64 >= classes) & !of_block[i];
        }
        for i in Lane::all() {
            left_out[i] = left_out[i].wrapping_add(of_block[i]);
        }
        (block.class, block.weight) = (class, weight);
    }
    if wrong.iter().fold(0, |any, wrong| any | wrong) != 0 {
        refuse_labels(rows, first)?;
    }
    // Lanes after the last row have read labels of the rows that follow.
    let after_last = of_block.iter().rev().take(count.next_multiple_of(ROWS).wrapping_sub(count));
    let after_last = after_last.fold(0_u64, |sum, of_lane| sum.wrapping_add(*of_lane));
    let left_out = left_out.iter().fold(0_u64, |sum, of_lane| sum.wrapping_add(*of_lane));
    Ok(left_out.wrapping_sub(after_last) as usize)
}

/// The error of the first label from row `first` on that is neither a class nor ignored.
#[cold]
#[inline(never)]
fn refuse_labels(rows: &Rows<'_>, first: usize) -> Result<(), Error> {
    (first..rows.count()).try_for_each(|row| row_weight(rows, row).map(|_| ()))
}

/// Fills the factors of the gradient: 0 where the weight is 0, even if the scale is NaN.
pub(crate) fn fill_factors<S: Vector>(
    s: S,
    first: usize,
    blocks: &mut [RowBlock],
    scale: GradientScale<'_>,
    temperature: f32,
) {
    s.run(
        #[inline(always)]
        move || {
            let temperature = f64::from(temperature);
            let same = if let GradientScale::Same(scale) = scale { scale / temperature } else { 0.0 };
            for (first, block) in (first..).step_by(ROWS).zip(one_by_one(blocks)) {
                let (weight, mut factors, mut scales) = (block.weight, Lanes::splat(0.0), Lanes::splat(same));
                if let GradientScale::Rows(factors) = scale {
                    for (scale, &factor) in scales.iter_mut().zip(from(factors, first)) {
                        *scale = f64::from(factor) / temperature;
                    }
                }
                for ((factor, weight), scale) in factors.iter_mut().zip(&weight).zip(&scales) {
                    let product = weight * scale + 0.0;
                    *factor = if *weight == 0.0 { 0.0 } else { product };
                }
                block.factor = factors;
            }
        },
    )
}
