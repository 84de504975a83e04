//! Sums of the elements of a row, in one order for rows of every length.
//!
//! Class j belongs to virtual lane j mod 16, whatever the width of the hardware. Within a block of 128 classes the even and
//! the odd columns of 16 are added in f32, one after the other, and then to each other; lanes j and j + 8 follow in f32, lanes
//! j and j + 4, j and j + 2, then 0 and 1 in f64, and so do the blocks. A missing element at the end counts as 0.

use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{BLOCK, ROWS};
use super::tile::{RowBlock, rows_of_blocks};
use super::{part, part_mut, whole};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};
use core::slice::Iter;

/// A block of columns: the sums of the even ones, then those of the odd ones.
#[derive(Clone, Copy)]
struct Columns<S: Vector>([S::F; 2 * VIRTUAL_LANES]);

impl<S: Vector> Columns<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self([s.splat(0.0); 2 * VIRTUAL_LANES])
    }

    /// Adds two columns, of which vectors from `end` on do not exist.
    #[inline(always)]
    fn add(&mut self, s: S, end: usize, mut vector: impl FnMut(usize) -> S::F) {
        for (lane, at) in self.0.iter_mut().zip((0..).step_by(S::LANES)).take(S::OF_TWO) {
            if at < end {
                *lane = s.add(*lane, vector(at));
            }
        }
    }

    /// The even and the odd ones together, if there are any of the latter among so many elements; then lanes j and j + 8,
    /// as far as they are in different vectors. What is left is in the first [`Vector::OF_EIGHT`].
    #[inline(always)]
    fn folded(mut self, s: S, len: usize) -> [S::F; VIRTUAL_LANES] {
        if len > VIRTUAL_LANES {
            fold(s, &mut self.0, S::GROUPS, S::GROUPS);
        }
        fold(s, &mut self.0, S::OF_EIGHT, S::BEYOND_EIGHT);
        let mut folded = [s.splat(0.0); VIRTUAL_LANES];
        copy_vectors(&mut folded, &self.0);
        folded
    }

    /// Their sum, of so many elements.
    #[inline(always)]
    fn total(self, s: S, len: usize) -> f64 {
        let [total, ..] = s.sums(&self.folded(s, len));
        total
    }
}

/// The sum of `len` terms, which come by vectors: `term(at)` has those from `at` on, and zeros after the last.
#[inline(always)]
pub(crate) fn sum_of<S: Vector>(s: S, len: usize, mut term: impl FnMut(usize) -> S::F) -> f64 {
    let mut total = 0.0;
    for first in (0..len).step_by(BLOCK) {
        let (mut columns, end) = (Columns::new(s), len.min(first.saturating_add(BLOCK)));
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

/// The end of the rows of a call that is not two whole columns, where it may be part of a vector.
#[derive(Clone, Copy)]
pub(crate) struct Tail<S: Vector> {
    /// Of each vector of two columns.
    masks: [S::M; 2 * VIRTUAL_LANES],
}

impl<S: Vector> Tail<S> {
    #[inline(always)]
    pub(crate) fn new(s: S, classes: usize) -> Self {
        let len = classes % (2 * VIRTUAL_LANES);
        let mut masks = [s.first_lanes(0); 2 * VIRTUAL_LANES];
        if S::WIDE {
            for (mask, at) in masks.iter_mut().zip((0..).step_by(S::LANES)).take(S::OF_TWO) {
                *mask = s.first_lanes(len.saturating_sub(at));
            }
        }
        Self { masks }
    }

    /// A vector of the tail, zeros after the last element; what is loaded may reach beyond it.
    #[inline(always)]
    fn load(&self, s: S, from: &[f32; 2 * VIRTUAL_LANES], vector: usize) -> S::F {
        let Some(&mask) = self.masks.get(vector) else { return s.splat(0.0) };
        s.select(mask, s.load(from, vector.wrapping_mul(S::LANES)), s.splat(0.0))
    }
}

/// Adds the first `len` elements of `row`, which goes on for [`REACH`] elements at least, to the `total` of those before.
#[inline(always)]
pub(crate) fn sum<S: Vector>(s: S, tail: &Tail<S>, row: &[f32], len: usize, total: f64) -> f64 {
    let (mut total, mut row, mut left) = (total, row, len);
    while left > 0 {
        // As many blocks at once as there are lanes.
        let (mut of_blocks, mut blocks) = (Aligned([s.splat(0.0); VIRTUAL_LANES]), 0_usize);
        for of_block in of_blocks.0.chunks_exact_mut(S::OF_EIGHT).take(S::LANES) {
            let count = left.min(BLOCK);
            if count == 0 {
                break;
            }
            let columns = match row.first_chunk() {
                Some(block) if is_long::<S>() && count == BLOCK => columns_of_block(s, block),
                _ => columns(s, tail, row, count),
            };
            copy_vectors(of_block, &columns.folded(s, count));
            row = row.get(count..).unwrap_or(&[]);
            (left, blocks) = (left.wrapping_sub(count), blocks.wrapping_add(1));
        }
        for of_block in s.sums(&of_blocks.0).iter().take(blocks) {
            total += of_block;
        }
    }
    total
}

/// Whether loops for rows of one column and for whole blocks are worth their size: shorter vectors make longer code of them.
const fn is_long<S: Vector>() -> bool {
    S::LANES > 4
}

/// The columns of a whole block, as [`columns`] has them.
#[inline(always)]
fn columns_of_block<S: Vector>(s: S, block: &[f32; BLOCK]) -> Columns<S> {
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

/// The columns of at most [`BLOCK`] elements, which may be followed by others.
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
        for (number, vector) in vectors.by_ref().take(S::GROUPS) {
            *vector = s.add(*vector, tail.load(s, rest, number));
        }
        if count > VIRTUAL_LANES {
            for (number, vector) in vectors.take(S::GROUPS) {
                *vector = s.add(*vector, tail.load(s, rest, number));
            }
        }
    }
    columns
}

/// Fills Σ_{k≠r} of the exponentials of each row, where r is the class of the row's reference, whose exponential becomes 0. Where
/// they are not under the exponentials, the logits of the references are read on the way.
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

/// Fills the sums of rows.
pub(crate) struct RowSums<'a> {
    /// Rows of so many classes, and [`REACH`](super::limits::REACH) elements more.
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
        if S::WIDE && classes <= BLOCK {
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

/// Sets the exponential of each reference to 0, and reads its logit.
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

/// Fills the sums of rows of at most [`BLOCK`] classes. Those of at most [`VIRTUAL_LANES`] are loops of their own, by the
/// number of vectors.
#[inline(always)]
fn sums_at_once<S: Vector>(s: S, tail: &Tail<S>, numbers: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    match classes.div_ceil(S::LANES) {
        // Rows that short have a way of their own but for those with terms.
        1 if S::GROUPS < 4 => short_rows::<S, 1>(s, tail, numbers, classes, blocks),
        2 if S::GROUPS >= 2 => short_rows::<S, 2>(s, tail, numbers, classes, blocks),
        3 if S::GROUPS >= 4 => short_rows::<S, 3>(s, tail, numbers, classes, blocks),
        4 if S::GROUPS >= 4 => short_rows::<S, 4>(s, tail, numbers, classes, blocks),
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

/// Fills the sums of rows of so many vectors.
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
                fold(s, &mut vectors, S::OF_EIGHT, VECTORS.saturating_sub(S::OF_EIGHT));
                left = left.get(classes..).unwrap_or(&[]);
                vectors
            },
        );
    }
}

/// Fills the sums of a block, of as many rows at once as there are lanes: `vectors` hold eight lanes of a row, or sixteen.
#[inline(always)]
fn sums_of_rows<S: Vector>(s: S, sums: &mut Lanes<f64>, mut vectors: impl FnMut() -> [S::F; VIRTUAL_LANES]) {
    for sums in sums.as_mut_slice().chunks_exact_mut(S::LANES) {
        let mut of_rows = Aligned([s.splat(0.0); VIRTUAL_LANES]);
        for of_row in of_rows.0.chunks_exact_mut(S::OF_EIGHT).take(S::LANES) {
            copy_vectors(of_row, &vectors());
        }
        for (to, sum) in sums.iter_mut().zip(s.sums(&of_rows.0)) {
            *to = sum;
        }
    }
}

/// Adds to the first vectors those from number `width` on, so many of them.
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

/// Fills sums of the terms of some rows, which come two columns at a time: `row(lane)` goes through what the terms of a row
/// are made of, and `terms(two, at)` makes a vector of them for each sum. What comes after the last term of a row does not
/// matter.
#[inline(always)]
pub(crate) fn sums_of_terms<S: Vector, I: Iterator, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    mut sums: [&mut Lanes<f64>; N],
    mut row: impl FnMut(Lane) -> I,
    terms: impl Fn(&I::Item, usize) -> [S::F; N] + Copy,
) {
    if S::WIDE && classes <= BLOCK {
        for first in (0..ROWS).step_by(S::LANES) {
            let mut of_rows = Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]);
            for (at, lane) in (0..).step_by(S::OF_EIGHT).zip(Lane::starting_at(first)).take(S::LANES) {
                let columns = columns_of_terms(s, tail, classes, &mut row(lane), terms);
                for (of_rows, columns) in of_rows.0.iter_mut().zip(columns) {
                    copy_vectors(part_mut(of_rows, at, S::OF_EIGHT), &columns.folded(s, classes));
                }
            }
            for (sums, of_rows) in sums.iter_mut().zip(&of_rows.0) {
                for (to, sum) in part_mut(sums.as_mut_slice(), first, S::LANES).iter_mut().zip(s.sums(of_rows)) {
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

/// Adds the terms of a row, or of whole blocks of one, to the `totals` of those before: their sums as [`sums_of_terms`] has them.
#[inline(always)]
pub(crate) fn totals_of_terms<S: Vector, I: Iterator, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    mut totals: [f64; N],
    mut twos: I,
    terms: impl Fn(&I::Item, usize) -> [S::F; N] + Copy,
) -> [f64; N] {
    for first in (0..classes).step_by(BLOCK) {
        let len = BLOCK.min(classes.wrapping_sub(first));
        let columns = columns_of_terms(s, tail, len, &mut twos, terms);
        for (total, columns) in totals.iter_mut().zip(columns) {
            *total += columns.total(s, len);
        }
    }
    totals
}

/// The columns of the next `len` terms, at most [`BLOCK`].
#[inline(always)]
fn columns_of_terms<S: Vector, I: Iterator, const N: usize>(
    s: S,
    tail: &Tail<S>,
    len: usize,
    twos: &mut I,
    terms: impl Fn(&I::Item, usize) -> [S::F; N] + Copy,
) -> [Columns<S>; N] {
    let mut columns = [Columns::new(s); N];
    if is_long::<S>() && len <= VIRTUAL_LANES {
        let Some(two) = twos.next() else { return columns };
        for (vector, at) in (0..S::GROUPS).zip((0..).step_by(S::LANES)) {
            if at < len {
                for (columns, term) in columns.iter_mut().zip(terms(&two, at)) {
                    let (Some(sum), Some(&mask)) = (columns.0.get_mut(vector), tail.masks.get(vector)) else { break };
                    *sum = s.select(mask, term, s.splat(0.0));
                }
            }
        }
        return columns;
    }
    // Loops of one lane are one loop, where memory is small.
    let whole = if S::WIDE { whole(len, 2 * VIRTUAL_LANES) } else { 0 };
    for two in twos.by_ref().take(whole / (2 * VIRTUAL_LANES)) {
        for (vector, at) in (0..S::OF_TWO).zip((0..).step_by(S::LANES)) {
            for (columns, term) in columns.iter_mut().zip(terms(&two, at)) {
                let Some(sum) = columns.0.get_mut(vector) else { break };
                *sum = s.add(*sum, term);
            }
        }
    }
    for first in (whole..len).step_by(2 * VIRTUAL_LANES) {
        let (Some(two), left) = (twos.next(), len.wrapping_sub(first)) else { break };
        for (vector, at) in (0..S::OF_TWO).zip((0..left).step_by(S::LANES)) {
            for (columns, term) in columns.iter_mut().zip(terms(&two, at)) {
                let (Some(sum), Some(&mask)) = (columns.0.get_mut(vector), tail.masks.get(vector)) else { break };
                let term = if S::WIDE { s.select(mask, term, s.splat(0.0)) } else { term };
                *sum = s.add(*sum, term);
            }
        }
    }
    columns
}

/// The elements that [`twos`] goes through in a row.
#[inline(always)]
pub(crate) fn reach_of_row(classes: usize) -> usize {
    classes.next_multiple_of(2 * VIRTUAL_LANES)
}

/// Goes through a row that starts at `start` two columns at a time; the last two may reach beyond it.
#[inline(always)]
pub(crate) fn twos(numbers: &[f32], start: usize, classes: usize) -> Iter<'_, [f32; 2 * VIRTUAL_LANES]> {
    part(numbers, start, reach_of_row(classes)).as_chunks().0.iter()
}
