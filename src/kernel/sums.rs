//! Row sums, in one order of addition for rows of every length.
//!
//! Class j belongs to virtual lane j mod 16, whatever the width of the hardware vectors. In each block of 128 classes
//! the even and the odd columns of 16 are two chains of f32 additions, whose partial sums are then added; the
//! horizontal sum adds lanes j and j + 8 in f32, then j and j + 4, j and j + 2, and 0 and 1 in f64. Blocks are added in
//! f64 as well. Padding counts as 0.

use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{ROWS, SUMMED_IN_F32};
use super::tile::{RowBlock, rows_of_blocks};
use super::{part, part_mut, whole};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};
use core::slice::Iter;

/// The f32 partial sums of one block of 128 classes: vectors of the even columns, then of the odd ones.
#[derive(Clone, Copy)]
struct Columns<S: Vector>([S::F; 2 * VIRTUAL_LANES]);

impl<S: Vector> Columns<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self([s.splat(0.0); 2 * VIRTUAL_LANES])
    }

    /// Adds two columns; `vector(at)` is not called from `end` on.
    #[inline(always)]
    fn add(&mut self, s: S, end: usize, mut vector: impl FnMut(usize) -> S::F) {
        for (lane, at) in self.0.iter_mut().zip((0..).step_by(S::LANES)).take(S::VECTORS_OF_TWO_COLUMNS) {
            if at < end {
                *lane = s.add(*lane, vector(at));
            }
        }
    }

    /// Adds the odd columns to the even ones, if `len` elements reach any, then lanes j and j + 8 where they are in
    /// different vectors. The result is in the first [`Vector::VECTORS_OF_EIGHT_LANES`] vectors.
    #[inline(always)]
    fn folded(mut self, s: S, len: usize) -> [S::F; VIRTUAL_LANES] {
        if len > VIRTUAL_LANES {
            fold(s, &mut self.0, S::VECTORS_OF_A_COLUMN, S::VECTORS_OF_A_COLUMN);
        }
        fold(s, &mut self.0, S::VECTORS_OF_EIGHT_LANES, S::VECTORS_BEYOND_EIGHT_LANES);
        let mut folded = [s.splat(0.0); VIRTUAL_LANES];
        copy_vectors(&mut folded, &self.0);
        folded
    }

    /// The horizontal sum, of `len` elements.
    #[inline(always)]
    fn total(self, s: S, len: usize) -> f64 {
        let [total, ..] = s.horizontal_sums(&self.folded(s, len));
        total
    }
}

/// The sum of `len` terms: `term(at)` is the vector of those from `at` on, with zeros after the last.
#[inline(always)]
pub(crate) fn sum_of<S: Vector>(s: S, len: usize, mut term: impl FnMut(usize) -> S::F) -> f64 {
    let mut total = 0.0;
    for first in (0..len).step_by(SUMMED_IN_F32) {
        let (mut columns, end) = (Columns::new(s), len.min(first.saturating_add(SUMMED_IN_F32)));
        for at in (first..end).step_by(2 * VIRTUAL_LANES) {
            columns.add(
                s,
                end.wrapping_sub(at),
                #[inline(always)]
                |vector| term(at.wrapping_add(vector)),
            );
        }
        total += columns.total(s, end.wrapping_sub(first));
    }
    total
}

/// Masks for the remainder of a row, the elements after its last whole pair of columns.
#[derive(Clone, Copy)]
pub(crate) struct Tail<S: Vector> {
    /// One for each vector of two columns.
    masks: [S::M; 2 * VIRTUAL_LANES],
}

impl<S: Vector> Tail<S> {
    #[inline(always)]
    pub(crate) fn new(s: S, classes: usize) -> Self {
        let len = classes % (2 * VIRTUAL_LANES);
        let mut masks = [s.first_lanes(0); 2 * VIRTUAL_LANES];
        if S::WIDE {
            for (mask, at) in masks.iter_mut().zip((0..).step_by(S::LANES)).take(S::VECTORS_OF_TWO_COLUMNS) {
                *mask = s.first_lanes(len.saturating_sub(at));
            }
        }
        Self { masks }
    }

    /// Loads a vector of the remainder, zeros after the last element; the load may reach beyond the row.
    #[inline(always)]
    fn load(&self, s: S, from: &[f32; 2 * VIRTUAL_LANES], vector: usize) -> S::F {
        let Some(&mask) = self.masks.get(vector) else { return s.splat(0.0) };
        s.select(mask, s.load(from, vector.wrapping_mul(S::LANES)), s.splat(0.0))
    }
}

/// Adds the first `len` elements of `row` to the `total` of those before; [`REACH`](super::limits::REACH) elements or
/// more follow them.
#[inline(always)]
pub(crate) fn sum<S: Vector>(s: S, tail: &Tail<S>, row: &[f32], len: usize, total: f64) -> f64 {
    let (mut total, mut row, mut left) = (total, row, len);
    while left > 0 {
        // The horizontal sums of as many blocks of classes as there are lanes are computed together.
        let (mut of_blocks, mut blocks) = (Aligned([s.splat(0.0); VIRTUAL_LANES]), 0_usize);
        for of_block in of_blocks.0.chunks_exact_mut(S::VECTORS_OF_EIGHT_LANES).take(S::LANES) {
            let count = left.min(SUMMED_IN_F32);
            if count == 0 {
                break;
            }
            let columns = match row.first_chunk() {
                Some(block) if has_long_vectors::<S>() && count == SUMMED_IN_F32 => columns_of_whole(s, block),
                _ => columns(s, tail, row, count),
            };
            copy_vectors(of_block, &columns.folded(s, count));
            row = row.get(count..).unwrap_or(&[]);
            (left, blocks) = (left.wrapping_sub(count), blocks.wrapping_add(1));
        }
        for of_block in s.horizontal_sums(&of_blocks.0).iter().take(blocks) {
            total += of_block;
        }
    }
    total
}

/// Whether separate loops for rows of one column and for whole blocks are worth their code, which is longer for short
/// vectors.
pub(crate) const fn has_long_vectors<S: Vector>() -> bool {
    S::LANES > 4
}

/// [`columns`] for a whole block of classes.
#[inline(always)]
fn columns_of_whole<S: Vector>(s: S, block: &[f32; SUMMED_IN_F32]) -> Columns<S> {
    let mut columns = Columns::new(s);
    for pair in block.as_chunks::<{ 2 * VIRTUAL_LANES }>().0 {
        columns.add(
            s,
            2 * VIRTUAL_LANES,
            #[inline(always)]
            |at| s.load(pair, at),
        );
    }
    columns
}

/// The partial sums of the first `len` elements of `row`, at most [`SUMMED_IN_F32`].
#[inline(always)]
fn columns<S: Vector>(s: S, tail: &Tail<S>, row: &[f32], len: usize) -> Columns<S> {
    let mut columns = Columns::new(s);
    let (pairs, _) = part(row, 0, len).as_chunks::<{ 2 * VIRTUAL_LANES }>();
    for pair in pairs {
        columns.add(
            s,
            2 * VIRTUAL_LANES,
            #[inline(always)]
            |at| s.load(pair, at),
        );
    }
    let (count, whole) = (len % (2 * VIRTUAL_LANES), whole(len, 2 * VIRTUAL_LANES));
    if !S::WIDE {
        for (at, lane) in (whole..).zip(columns.0.iter_mut().take(count)) {
            *lane = s.add(*lane, s.load(row, at));
        }
        return columns;
    }
    if count > 0
        && let Some(rest) = row.get(whole..).and_then(|rest| rest.first_chunk())
    {
        let mut vectors = columns.0.iter_mut().enumerate();
        for (number, vector) in vectors.by_ref().take(S::VECTORS_OF_A_COLUMN) {
            *vector = s.add(*vector, tail.load(s, rest, number));
        }
        if count > VIRTUAL_LANES {
            for (number, vector) in vectors.take(S::VECTORS_OF_A_COLUMN) {
                *vector = s.add(*vector, tail.load(s, rest, number));
            }
        }
    }
    columns
}

/// Fills `sum` with Σ_{k≠r} of the exponentials of each row: the exponential of its reference class r is set to 0. With
/// `logits` also fills `logit` with x_r.
pub(crate) fn excluded_sums<S: Vector>(
    s: S,
    logits: Option<&[f32]>,
    exponentials: &mut [f32],
    classes: usize,
    rows: usize,
    blocks: &mut [RowBlock],
) {
    exclude(logits, exponentials, classes, blocks);
    s.run(RowSums { numbers: exponentials, classes, rows, blocks });
}

/// Fills `sum` of each row.
pub(crate) struct RowSums<'a> {
    /// Rows of `classes` elements, and [`REACH`](super::limits::REACH) more.
    pub(crate) numbers: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { numbers, classes, rows, blocks } = self;
        let tail = Tail::new(s, classes);
        if S::WIDE && classes <= SUMMED_IN_F32 {
            return sums_at_once(s, &tail, numbers, classes, blocks);
        }
        let mut at = 0;
        for (block, rows) in blocks.iter_mut().zip(rows_of_blocks(rows)) {
            for total in block.sum.iter_mut().take(rows) {
                *total = sum(s, &tail, numbers.get(at..).unwrap_or(&[]), classes, 0.0);
                at = at.wrapping_add(classes);
            }
        }
    }
}

/// Sets the exponential of each reference to 0 and, with `logits`, fills `logit`.
fn exclude(logits: Option<&[f32]>, exponentials: &mut [f32], classes: usize, blocks: &mut [RowBlock]) {
    let mut at = 0_usize;
    if let Some(logits) = logits {
        for block in blocks {
            for (to, class) in block.logit.iter_mut().zip(&block.class) {
                if let (Some(&x), Some(e)) =
                    (logits.get(at.wrapping_add(*class)), exponentials.get_mut(at.wrapping_add(*class)))
                {
                    (*to, *e) = (x, 0.0);
                }
                at = at.wrapping_add(classes);
            }
        }
    } else {
        for block in blocks {
            for class in &block.class {
                if let Some(e) = exponentials.get_mut(at.wrapping_add(*class)) {
                    *e = 0.0;
                }
                at = at.wrapping_add(classes);
            }
        }
    }
}

/// Fills `sum` of rows of at most [`SUMMED_IN_F32`] classes. Rows of at most [`VIRTUAL_LANES`] classes have a loop for
/// each number of vectors.
#[inline(always)]
fn sums_at_once<S: Vector>(s: S, tail: &Tail<S>, numbers: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    match classes.div_ceil(S::LANES) {
        // Four lanes: rows of one vector, C ≤ 4, come here only for losses other than the weighted one.
        1 if S::VECTORS_OF_A_COLUMN < 4 => short_rows::<S, 1>(s, tail, numbers, classes, blocks),
        2 if S::VECTORS_OF_A_COLUMN >= 2 => short_rows::<S, 2>(s, tail, numbers, classes, blocks),
        3 if S::VECTORS_OF_A_COLUMN >= 4 => short_rows::<S, 3>(s, tail, numbers, classes, blocks),
        4 if S::VECTORS_OF_A_COLUMN >= 4 => short_rows::<S, 4>(s, tail, numbers, classes, blocks),
        _ => {
            let mut left = numbers;
            for block in blocks {
                sums_of_rows(
                    s,
                    &mut block.sum,
                    #[inline(always)]
                    || {
                        let row = left;
                        left = left.get(classes..).unwrap_or(&[]);
                        columns(s, tail, row, classes).folded(s, classes)
                    },
                );
            }
        }
    }
}

/// Fills `sum` of rows of `VECTORS` vectors.
#[inline(always)]
fn short_rows<S: Vector, const VECTORS: usize>(
    s: S,
    tail: &Tail<S>,
    numbers: &[f32],
    classes: usize,
    blocks: &mut [RowBlock],
) {
    let mut left = numbers;
    for block in blocks {
        sums_of_rows(
            s,
            &mut block.sum,
            #[inline(always)]
            || {
                let mut vectors = [s.splat(0.0); VIRTUAL_LANES];
                let Some(row) = left.first_chunk() else { return vectors };
                for (number, vector) in vectors.iter_mut().enumerate().take(VECTORS) {
                    let is_last = number == VECTORS.wrapping_sub(1);
                    *vector =
                        if is_last { tail.load(s, row, number) } else { s.load(row, number.wrapping_mul(S::LANES)) };
                }
                fold(s, &mut vectors, S::VECTORS_OF_EIGHT_LANES, VECTORS.saturating_sub(S::VECTORS_OF_EIGHT_LANES));
                left = left.get(classes..).unwrap_or(&[]);
                vectors
            },
        );
    }
}

/// Fills the sums of a block, `LANES` rows at a time. A call of `vectors` returns the partial sums of the next row, in
/// eight or sixteen lanes.
#[inline(always)]
fn sums_of_rows<S: Vector>(s: S, sums: &mut Lanes<f64>, mut vectors: impl FnMut() -> [S::F; VIRTUAL_LANES]) {
    for sums in sums.as_mut_slice().chunks_exact_mut(S::LANES) {
        let mut of_rows = Aligned([s.splat(0.0); VIRTUAL_LANES]);
        for of_row in of_rows.0.chunks_exact_mut(S::VECTORS_OF_EIGHT_LANES).take(S::LANES) {
            copy_vectors(of_row, &vectors());
        }
        for (to, sum) in sums.iter_mut().zip(s.horizontal_sums(&of_rows.0)) {
            *to = sum;
        }
    }
}

/// Adds the first `count` vectors from index `width` on to the first vectors.
#[inline(always)]
fn fold<S: Vector>(s: S, vectors: &mut [S::F], width: usize, count: usize) {
    let (low, high) = vectors.split_at_mut_checked(width).unwrap_or_default();
    for (low, high) in low.iter_mut().zip(high).take(count) {
        *low = s.add(*low, *high);
    }
}

/// Copies as many vectors as both have.
#[inline(always)]
fn copy_vectors<F: Copy>(to: &mut [F], from: &[F]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Fills N sums of terms of each row: `row(lane)` iterates over its operands two columns at a time, from which `terms`
/// makes a vector of terms for each sum, at an offset. Terms after the last class are masked out.
#[inline(always)]
pub(crate) fn sums_of_terms<S: Vector, I: Iterator, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    mut sums: [&mut Lanes<f64>; N],
    mut row: impl FnMut(Lane) -> I,
    terms: impl Fn(&I::Item, usize) -> [S::F; N] + Copy,
) {
    if S::WIDE && classes <= SUMMED_IN_F32 {
        for first in (0..ROWS).step_by(S::LANES) {
            let mut of_rows = Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]);
            for (at, lane) in (0..).step_by(S::VECTORS_OF_EIGHT_LANES).zip(Lane::starting_at(first)).take(S::LANES) {
                let columns = columns_of_terms(s, tail, classes, &mut row(lane), terms);
                for (of_rows, columns) in of_rows.0.iter_mut().zip(columns) {
                    copy_vectors(part_mut(of_rows, at, S::VECTORS_OF_EIGHT_LANES), &columns.folded(s, classes));
                }
            }
            for (sums, of_rows) in sums.iter_mut().zip(&of_rows.0) {
                for (to, sum) in
                    part_mut(sums.as_mut_slice(), first, S::LANES).iter_mut().zip(s.horizontal_sums(of_rows))
                {
                    *to = sum;
                }
            }
        }
        return;
    }
    for lane in Lane::all() {
        let totals = totals_of_terms(s, tail, classes, [0.0; N], row(lane), terms);
        for (sums, total) in sums.iter_mut().zip(totals) {
            sums[lane] = total;
        }
    }
}

/// Adds the terms of a row, or of whole blocks of its classes, to `totals`, in the order of [`sums_of_terms`].
#[inline(always)]
pub(crate) fn totals_of_terms<S: Vector, I: Iterator, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    mut totals: [f64; N],
    mut column_pairs: I,
    terms: impl Fn(&I::Item, usize) -> [S::F; N] + Copy,
) -> [f64; N] {
    for first in (0..classes).step_by(SUMMED_IN_F32) {
        let len = SUMMED_IN_F32.min(classes.wrapping_sub(first));
        let columns = columns_of_terms(s, tail, len, &mut column_pairs, terms);
        for (total, columns) in totals.iter_mut().zip(columns) {
            *total += columns.total(s, len);
        }
    }
    totals
}

/// The partial sums of the next `len` terms, at most [`SUMMED_IN_F32`].
#[inline(always)]
fn columns_of_terms<S: Vector, I: Iterator, const N: usize>(
    s: S,
    tail: &Tail<S>,
    len: usize,
    column_pairs: &mut I,
    terms: impl Fn(&I::Item, usize) -> [S::F; N] + Copy,
) -> [Columns<S>; N] {
    let mut columns = [Columns::new(s); N];
    if has_long_vectors::<S>() && len <= VIRTUAL_LANES {
        let Some(two) = column_pairs.next() else { return columns };
        for (vector, at) in (0..S::VECTORS_OF_A_COLUMN).zip((0..).step_by(S::LANES)) {
            if at < len {
                for (columns, term) in columns.iter_mut().zip(terms(&two, at)) {
                    let (Some(sum), Some(&mask)) = (columns.0.get_mut(vector), tail.masks.get(vector)) else { break };
                    *sum = s.select(mask, term, s.splat(0.0));
                }
            }
        }
        return columns;
    }
    // One lane has only the loop of the remainder, where memory is small.
    let whole = if S::WIDE { whole(len, 2 * VIRTUAL_LANES) } else { 0 };
    for two in column_pairs.by_ref().take(whole / (2 * VIRTUAL_LANES)) {
        for (vector, at) in (0..S::VECTORS_OF_TWO_COLUMNS).zip((0..).step_by(S::LANES)) {
            for (columns, term) in columns.iter_mut().zip(terms(&two, at)) {
                let Some(sum) = columns.0.get_mut(vector) else { break };
                *sum = s.add(*sum, term);
            }
        }
    }
    for first in (whole..len).step_by(2 * VIRTUAL_LANES) {
        let (Some(two), left) = (column_pairs.next(), len.wrapping_sub(first)) else { break };
        for (vector, at) in (0..S::VECTORS_OF_TWO_COLUMNS).zip((0..left).step_by(S::LANES)) {
            for (columns, term) in columns.iter_mut().zip(terms(&two, at)) {
                let (Some(sum), Some(&mask)) = (columns.0.get_mut(vector), tail.masks.get(vector)) else { break };
                let term = if S::WIDE { s.select(mask, term, s.splat(0.0)) } else { term };
                *sum = s.add(*sum, term);
            }
        }
    }
    columns
}

/// The elements of a row that [`column_pairs`] iterates over, padding included.
#[inline(always)]
pub(crate) fn reach_of_row(classes: usize) -> usize {
    classes.next_multiple_of(2 * VIRTUAL_LANES)
}

/// Iterates over the row at `start`, two columns at a time; the last two may reach beyond it.
#[inline(always)]
pub(crate) fn column_pairs(numbers: &[f32], start: usize, classes: usize) -> Iter<'_, [f32; 2 * VIRTUAL_LANES]> {
    part(numbers, start, reach_of_row(classes)).as_chunks().0.iter()
}
