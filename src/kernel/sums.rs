//! Sums of the elements of a row, in one order for rows of every length.
//!
//! Class j belongs to virtual lane j mod 16, whatever the width of the hardware. Within a block of 128 classes the even and
//! the odd columns of 16 are added in f32, one after the other, and then to each other; lanes j and j + 8 follow in f32, lanes
//! j and j + 4, j and j + 2, then 0 and 1 in f64, and so do the blocks. A missing element at the end counts as 0.

use crate::backend::Backend;
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

use super::tile::{ROWS, RowBlock, rows_of_blocks};
use super::{chunks_mut, part};

/// The number of classes that are added in f32.
pub(crate) const BLOCK: usize = 128;
/// Vectors reach at most this far beyond a row: two columns. One lane does not.
pub(crate) const REACH: usize = if Backend::ONLY_SCALAR { 0 } else { 2 * VIRTUAL_LANES };

/// A block of columns: the sums of the even ones, then those of the odd ones.
struct Columns<S: Vector>([S::F; 2 * VIRTUAL_LANES]);

impl<S: Vector> Columns<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self([s.splat(0.0); 2 * VIRTUAL_LANES])
    }

    /// Adds two columns, of which vectors from `end` on do not exist.
    #[inline(always)]
    fn add(&mut self, s: S, end: usize, mut vector: impl FnMut(usize) -> S::F) {
        for (number, lane) in self.0.iter_mut().enumerate().take(2 * S::GROUPS) {
            if number * S::LANES < end {
                *lane = s.add(*lane, vector(number * S::LANES));
            }
        }
    }

    /// The even and the odd ones together, if there are any of the latter among so many elements; then lanes j and j + 8,
    /// as far as they are in different vectors.
    #[inline(always)]
    fn folded(mut self, s: S, len: usize) -> [S::F; 2 * VIRTUAL_LANES] {
        if len > VIRTUAL_LANES {
            for vector in 0..S::GROUPS {
                self.0[vector] = s.add(self.0[vector], self.0[S::GROUPS + vector]);
            }
        }
        let mut vectors = S::GROUPS;
        while vectors > 1 && vectors * S::LANES > 8 {
            vectors /= 2;
            for vector in 0..vectors {
                self.0[vector] = s.add(self.0[vector], self.0[vectors + vector]);
            }
        }
        self.0
    }

    /// Their sum, of so many elements.
    #[inline(always)]
    fn total(self, s: S, len: usize) -> f64 {
        let lanes = self.folded(s, len);
        let mut eight = [0.0; 8];
        if S::LANES == 16 {
            let of_vector = s.to_array(lanes[0]);
            for lane in 0..8 {
                eight[lane] = of_vector[lane] + of_vector[lane + 8];
            }
        } else {
            for (to, &vector) in chunks_mut(&mut eight, S::LANES).zip(&lanes) {
                s.store_some(vector, to);
            }
        }
        in_f64(eight)
    }
}

/// The sum of `len` terms, which come by vectors: `term(at)` has those from `at` on, and zeros after the last.
#[inline(always)]
pub(crate) fn sum_of<S: Vector>(s: S, len: usize, mut term: impl FnMut(usize) -> S::F) -> f64 {
    let mut total = 0.0;
    for first in (0..len).step_by(BLOCK) {
        let (mut columns, end) = (Columns::new(s), len.min(first + BLOCK));
        for at in (first..end).step_by(2 * VIRTUAL_LANES) {
            columns.add(
                s,
                end - at,
                #[inline(always)]
                |vector| term(at + vector),
            );
        }
        total += columns.total(s, end - first);
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
            for (vector, mask) in masks.iter_mut().enumerate().take(2 * S::GROUPS) {
                *mask = s.first_lanes(len.saturating_sub(vector * S::LANES));
            }
        }
        Self { masks }
    }

    /// A vector of the tail, zeros after the last element; what is loaded may reach beyond it.
    #[inline(always)]
    fn load(&self, s: S, from: &[f32; 2 * VIRTUAL_LANES], vector: usize) -> S::F {
        s.select(self.masks[vector], s.load(from, vector * S::LANES), s.splat(0.0))
    }
}

/// Adds the first `len` elements of `row`, which goes on for [`REACH`] elements at least, to the `total` of those before.
#[inline(always)]
pub(crate) fn sum<S: Vector>(s: S, tail: &Tail<S>, row: &[f32], len: usize, total: f64) -> f64 {
    let (mut total, mut row, mut left) = (total, row, len);
    while left > 0 {
        if S::LANES < 8 {
            let count = left.min(BLOCK);
            total += columns(s, tail, row, count).total(s, count);
            row = row.get(count..).unwrap_or(&[]);
            left -= count;
            continue;
        }
        // As many blocks at once as there are lanes.
        let (mut of_blocks, mut blocks) = ([s.splat(0.0); VIRTUAL_LANES], 0);
        for of_block in of_blocks.iter_mut().take(S::LANES) {
            let count = left.min(BLOCK);
            if count == 0 {
                break;
            }
            *of_block = columns(s, tail, row, count).folded(s, count)[0];
            row = row.get(count..).unwrap_or(&[]);
            (left, blocks) = (left - count, blocks + 1);
        }
        for of_block in s.sums(&of_blocks).iter().take(blocks) {
            total += of_block;
        }
    }
    total
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
    let count = len % (2 * VIRTUAL_LANES);
    if !S::WIDE {
        for (number, lane) in columns.0.iter_mut().enumerate().take(count) {
            *lane = s.add(*lane, s.load(row, len - count + number));
        }
        return columns;
    }
    if count > 0
        && let Some(rest) = row.get(len - count..).and_then(|rest| rest.first_chunk())
    {
        for vector in 0..S::GROUPS {
            columns.0[vector] = s.add(columns.0[vector], tail.load(s, rest, vector));
        }
        if count > VIRTUAL_LANES {
            for vector in S::GROUPS..2 * S::GROUPS {
                columns.0[vector] = s.add(columns.0[vector], tail.load(s, rest, vector));
            }
        }
    }
    columns
}

/// The sum of eight lanes.
#[inline(always)]
fn in_f64(eight: [f32; 8]) -> f64 {
    let mut four = [0.0; 4];
    for lane in 0..4 {
        four[lane] = f64::from(eight[lane]) + f64::from(eight[lane + 4]);
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Σ_{k≠r} of the exponentials of each row, where r is the class of the row's reference, whose exponential becomes 0.
pub(crate) struct ExcludedSums<'a> {
    /// Where they are not under the exponentials, the logits of the references are read on the way.
    pub(crate) logits: Option<&'a [f32]>,
    /// Rows of so many classes, and [`REACH`] elements more.
    pub(crate) exponentials: &'a mut [f32],
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for ExcludedSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { logits, exponentials, classes, rows, blocks } = self;
        exclude(logits, exponentials, classes, blocks);
        row_sums(s, exponentials, classes, rows, blocks);
    }
}

/// The sums of rows of numbers, a block of them at a time.
pub(crate) struct RowSums<'a> {
    /// Rows of so many classes, and [`REACH`] elements more.
    pub(crate) numbers: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) sums: &'a mut [[f64; ROWS]],
}

impl Operation for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        row_sums(s, self.numbers, self.classes, self.rows, self.sums);
    }
}

/// Where the sums of a block of rows go.
trait Sums {
    fn sums(&mut self) -> &mut [f64; ROWS];
}

impl Sums for RowBlock {
    #[inline(always)]
    fn sums(&mut self) -> &mut [f64; ROWS] {
        &mut self.sum
    }
}

impl Sums for [f64; ROWS] {
    #[inline(always)]
    fn sums(&mut self) -> &mut [f64; ROWS] {
        self
    }
}

#[inline(always)]
fn row_sums<S: Vector, T: Sums>(s: S, numbers: &[f32], classes: usize, rows: usize, blocks: &mut [T]) {
    let tail = Tail::new(s, classes);
    if S::WIDE && classes <= most_at_once::<S>() {
        return sums_at_once(s, &tail, numbers, classes, blocks);
    }
    let mut at = 0;
    for (block, rows) in blocks.iter_mut().zip(rows_of_blocks(rows)) {
        for total in block.sums().iter_mut().take(rows) {
            *total = sum(s, &tail, numbers.get(at..).unwrap_or(&[]), classes, 0.0);
            at += classes;
        }
    }
}

/// Sets the exponential of each reference to 0, and reads its logit.
#[inline(always)]
fn exclude(logits: Option<&[f32]>, exponentials: &mut [f32], classes: usize, blocks: &mut [RowBlock]) {
    let mut at = 0;
    if let Some(logits) = logits {
        for block in blocks {
            for (to, class) in block.logit.iter_mut().zip(&block.class) {
                if let (Some(&x), Some(e)) = (logits.get(at + class), exponentials.get_mut(at + class)) {
                    (*to, *e) = (x, 0.0);
                }
                at += classes;
            }
        }
    } else {
        for block in blocks {
            for class in &block.class {
                if let Some(e) = exponentials.get_mut(at + class) {
                    *e = 0.0;
                }
                at += classes;
            }
        }
    }
}

/// The number of classes whose sums are taken of as many rows at once as there are lanes: what [`Columns::folded`] leaves in
/// one vector.
const fn most_at_once<S: Vector>() -> usize {
    if S::LANES >= 8 { BLOCK } else { S::LANES }
}

/// Fills the sums of rows of at most [`most_at_once`] classes.
#[inline(always)]
fn sums_at_once<S: Vector, T: Sums>(s: S, tail: &Tail<S>, numbers: &[f32], classes: usize, blocks: &mut [T]) {
    let mut left = numbers;
    for block in blocks {
        let sums = block.sums();
        for sums in sums.chunks_exact_mut(S::LANES) {
            let mut of_rows = [s.splat(0.0); VIRTUAL_LANES];
            for of_row in of_rows.iter_mut().take(S::LANES) {
                if classes > VIRTUAL_LANES {
                    *of_row = columns(s, tail, left, classes).folded(s, classes)[0];
                } else if let Some(row) = left.first_chunk() {
                    *of_row = tail.load(s, row, 0);
                    if classes > S::LANES {
                        *of_row = s.add(*of_row, tail.load(s, row, 1));
                    }
                }
                left = left.get(classes..).unwrap_or(&[]);
            }
            for (to, sum) in sums.iter_mut().zip(s.sums(&of_rows)) {
                *to = sum;
            }
        }
    }
}
