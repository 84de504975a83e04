//! Row sums, in one order of addition for rows of every length.
//!
//! Class j belongs to virtual lane j mod 16, whatever the width of the hardware vectors. In each block of 128 classes
//! the even and the odd columns of 16 are two chains of f32 additions, whose partial sums are then added; the
//! horizontal sum adds lanes j and j + 8 in f32, then j and j + 4, j and j + 2, and 0 and 1 in f64. Blocks are added in
//! f64 as well. Padding counts as 0.

use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{ROWS, SUMMED_IN_F32};
use super::tile::{RowBlock, rows_of_blocks};
use super::{from, from_row, part_mut, steps, whole};
use crate::backend::vector::{VIRTUAL_LANES, Vector};
use core::slice::Iter;

/// The f32 partial sums of one block of 128 classes: vectors of the even columns, then of the odd ones.
#[derive(Clone, Copy)]
struct Columns<S: Vector>([S::F; 2 * VIRTUAL_LANES]);

impl<S: Vector> Columns<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        // x + −0 = x for every x, so that the first addition is none.
        Self([s.splat(-0.0); 2 * VIRTUAL_LANES])
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
            add_from(s, &mut self.0, S::VECTORS_OF_A_COLUMN, S::VECTORS_OF_A_COLUMN);
        }
        add_from(s, &mut self.0, S::VECTORS_OF_EIGHT_LANES, S::VECTORS_BEYOND_EIGHT_LANES);
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

/// Masks for the last two columns of a row.
#[derive(Clone, Copy)]
pub(crate) struct Tail<S: Vector> {
    /// One for each vector of two columns.
    masks: [S::M; 2 * VIRTUAL_LANES],
}

impl<S: Vector> Tail<S> {
    #[inline(always)]
    pub(crate) fn new(s: S, classes: usize) -> Self {
        let len = (classes.wrapping_sub(1) % (2 * VIRTUAL_LANES)).wrapping_add(1);
        let mut masks = [s.first_lanes(0); 2 * VIRTUAL_LANES];
        if S::WIDE {
            for (mask, at) in masks.iter_mut().zip((0..).step_by(S::LANES)).take(S::VECTORS_OF_TWO_COLUMNS) {
                *mask = s.first_lanes(len.saturating_sub(at));
            }
        }
        Self { masks }
    }
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
    row_sums(s, exponentials, classes, rows, blocks);
}

/// Fills `sum` of each row of `classes` elements; [`REACH`](super::limits::REACH) more follow the last row.
pub(crate) fn row_sums<S: Vector>(s: S, numbers: &[f32], classes: usize, rows: usize, blocks: &mut [RowBlock]) {
    if are_summed_by_blocks::<S>(rows, classes) {
        return row_sums_by_blocks(s, numbers, classes, blocks);
    }
    s.run(
        #[inline(always)]
        move || {
            let (tail, mut left) = (Tail::new(s, classes), numbers);
            for (block, rows) in blocks.iter_mut().zip(rows_of_blocks(rows)) {
                if are_added::<S>(classes) {
                    block.sum = Lanes::splat(0.0);
                }
                sums_of_terms(
                    s,
                    &tail,
                    (rows, classes),
                    [&mut block.sum],
                    #[inline(always)]
                    |_| ((), [next_row::<S>(&mut left, classes)]),
                    #[inline(always)]
                    |_, [row], at, [sum]| [s.add(sum, s.load(row, at.offset))],
                );
            }
        },
    )
}

/// [`row_sums`] by [`sums_by_blocks`].
fn row_sums_by_blocks<S: Vector>(s: S, numbers: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let (tail, mut rows) = (Tail::new(s, classes), numbers);
            for block in blocks {
                block.sum = Lanes::splat(0.0);
                sums_by_blocks(
                    s,
                    &tail,
                    classes,
                    [&mut block.sum],
                    #[inline(always)]
                    |lane, first| ((), [from(from_row(rows, lane.number(), classes), first)]),
                    #[inline(always)]
                    |_, [row], at, [sum]| [s.add(sum, s.load(row, at.offset))],
                );
                rows = from_row(rows, ROWS, classes);
            }
        },
    )
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

/// A vector of the terms of a row: its offset in the slices at hand, and its first class.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) offset: usize,
    pub(crate) class: usize,
}

impl At {
    /// Vector `vector` of slices that begin with class `first`.
    #[inline(always)]
    fn vector<S: Vector>(first: usize, vector: usize) -> Self {
        let offset = vector.wrapping_mul(S::LANES);
        Self { offset, class: first.wrapping_add(offset) }
    }
}

/// A row of a tile, and all that follows: `left`, which goes on to the next row. Empty where a sum would load past the end.
#[inline(always)]
pub(crate) fn next_row<'a, S: Vector>(left: &mut &'a [f32], classes: usize) -> &'a [f32] {
    let row = *left;
    if S::WIDE && row.len() < 2 * VIRTUAL_LANES {
        return &[];
    }
    *left = row.get(classes..).unwrap_or(&[]);
    row
}

/// Whether [`sums_of_terms`] adds to its sums, rather than fills them.
#[inline(always)]
fn are_added<S: Vector>(classes: usize) -> bool {
    !S::WIDE || classes > SUMMED_IN_F32
}

/// Fills N sums of terms of the rows of a block, `rows` of them. `row(lane)` returns what the terms of a row share, and
/// K slices that begin with its elements; `add` adds a vector of terms, those at an offset in the slices, to each partial
/// sum. [`REACH`](super::limits::REACH) elements follow the last row; their terms are masked out. If
/// [`are_added`], they are added to the sums: those of the pieces of a row before.
#[inline(always)]
pub(crate) fn sums_of_terms<'a, S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    (rows, classes): (usize, usize),
    mut sums: [&mut Lanes<f64>; N],
    mut row: impl FnMut(Lane) -> (R, [&'a [f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    if are_added::<S>(classes) {
        for lane in Lane::all().take(rows) {
            let before = sums.each_ref().map(
                #[inline(always)]
                |sums| sums[lane],
            );
            let totals = totals_of_terms(s, tail, classes, before, row(lane), add);
            for (sums, total) in sums.iter_mut().zip(totals) {
                sums[lane] = total;
            }
        }
        return;
    }
    // Loops of their own for each number of vectors of a short row, whose partial sums stay in registers, where they are
    // worth their code: for long vectors, and for the sums of one array alone.
    let (long, one) = (has_long_vectors::<S>(), K == 1 && S::LANES <= 8);
    // In comparisons, from which the compiler knows that a row is not longer than what is loaded of it.
    let fill = |vectors: usize| {
        let most = vectors.wrapping_mul(S::LANES);
        classes <= most && classes > most.wrapping_sub(S::LANES)
    };
    if long && fill(1) {
        sums_of_short_rows::<S, R, 1, K, N>(s, tail, classes, &mut sums, row, add);
    } else if (long || one) && fill(2) {
        sums_of_short_rows::<S, R, 2, K, N>(s, tail, classes, &mut sums, row, add);
    } else if one && fill(3) {
        sums_of_short_rows::<S, R, 3, K, N>(s, tail, classes, &mut sums, row, add);
    } else if one && fill(4) {
        sums_of_short_rows::<S, R, 4, K, N>(s, tail, classes, &mut sums, row, add);
    } else {
        sums_of_rows(
            s,
            classes,
            &mut sums,
            #[inline(always)]
            |lane| Some(columns_of_terms(s, tail, (0, classes), &row(lane), add)),
        );
    }
}

/// Whether [`sums_by_blocks`] takes fewer horizontal sums than one row after the other.
#[inline(always)]
pub(crate) fn are_summed_by_blocks<S: Vector>(rows: usize, classes: usize) -> bool {
    let (rows, blocks) = (rows.min(ROWS), classes.div_ceil(SUMMED_IN_F32));
    let (by_blocks, by_rows) =
        (rows.div_ceil(S::LANES).wrapping_mul(blocks), rows.wrapping_mul(blocks.div_ceil(S::LANES)));
    is_worth_code::<S>() && blocks > 1 && by_blocks < by_rows
}

/// Adds terms of the rows of a block to N sums as [`sums_of_terms`] does, but one block of classes of all rows after
/// the other, whose horizontal sums are computed together for as many rows as there are lanes. `row(lane, first)`
/// returns what that of `sums_of_terms` does, of the classes from `first` on.
#[inline(always)]
pub(crate) fn sums_by_blocks<'a, S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    mut sums: [&mut Lanes<f64>; N],
    row: impl Fn(Lane, usize) -> (R, [&'a [f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    for first in steps(classes, SUMMED_IN_F32) {
        let (count, mut of_block) = (SUMMED_IN_F32.min(classes.wrapping_sub(first)), [Lanes::splat(0.0); N]);
        sums_of_rows(
            s,
            count,
            &mut of_block.each_mut(),
            #[inline(always)]
            |lane| Some(columns_of_terms(s, tail, (first, count), &row(lane, first), add)),
        );
        for (sums, of_block) in sums.iter_mut().zip(&of_block) {
            for (sum, of_block) in sums.iter_mut().zip(of_block) {
                *sum += of_block;
            }
        }
    }
}

/// [`sums_of_terms`] of rows of `VECTORS` vectors, two columns at most.
#[inline(always)]
fn sums_of_short_rows<'a, S: Vector, R, const VECTORS: usize, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    sums: &mut [&mut Lanes<f64>; N],
    mut row: impl FnMut(Lane) -> (R, [&'a [f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    sums_of_rows(
        s,
        classes,
        sums,
        #[inline(always)]
        |lane| {
            let (of_row, row) = row(lane);
            let mut columns = [Columns::new(s); N];
            let two = of_each::<{ 2 * VIRTUAL_LANES }, K>(row, 0)?;
            for (vector, &mask) in tail.masks.iter().enumerate().take(VECTORS) {
                let mask = Some(mask).filter(|_| vector == const { VECTORS - 1 });
                add_vector(s, &mut columns, vector, mask, (&of_row, two, At::vector::<S>(0, vector)), add);
            }
            Some(columns)
        },
    );
}

/// Fills N sums of the rows of a block from their partial sums, as many rows at once as there are lanes. From a row without
/// partial sums on they are 0 up to the next multiple of lanes.
#[inline(always)]
fn sums_of_rows<S: Vector, const N: usize>(
    s: S,
    classes: usize,
    sums: &mut [&mut Lanes<f64>; N],
    mut columns: impl FnMut(Lane) -> Option<[Columns<S>; N]>,
) {
    for first in (0..ROWS).step_by(S::LANES) {
        let mut of_rows = Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]);
        for (at, lane) in (0..).step_by(S::VECTORS_OF_EIGHT_LANES).zip(Lane::starting_at(first)).take(S::LANES) {
            let Some(columns) = columns(lane) else { break };
            fold(s, &mut of_rows.0, at, classes, columns);
        }
        for (sums, of_rows) in sums.iter_mut().zip(&of_rows.0) {
            for (to, sum) in part_mut(sums.as_mut_slice(), first, S::LANES).iter_mut().zip(s.horizontal_sums(of_rows)) {
                *to = sum;
            }
        }
    }
}

/// Adds the terms of a row, or of whole blocks of its classes, to `totals`.
#[inline(always)]
pub(crate) fn totals_of_terms<S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    mut totals: [f64; N],
    mut row: (R, [&[f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) -> [f64; N] {
    let mut first = 0;
    while first < classes {
        // The horizontal sums of as many blocks of classes as there are lanes are computed together.
        let (mut of_blocks, mut blocks) = (Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]), 0_usize);
        for at in (0..).step_by(S::VECTORS_OF_EIGHT_LANES).take(S::LANES) {
            let count = SUMMED_IN_F32.min(classes.wrapping_sub(first));
            if count == 0 {
                break;
            }
            // Of two sums an unrolled loop is not worth its code.
            let columns = if N == 1 && has_long_vectors::<S>() && count == SUMMED_IN_F32 {
                columns_of_whole(s, first, &row, add)
            } else {
                columns_of_terms(s, tail, (first, count), &row, add)
            };
            fold(s, &mut of_blocks.0, at, count, columns);
            row.1 = from_each(row.1, count);
            (first, blocks) = (first.wrapping_add(count), blocks.wrapping_add(1));
        }
        for (total, of_blocks) in totals.iter_mut().zip(&of_blocks.0) {
            for of_block in s.horizontal_sums(of_blocks).iter().take(blocks) {
                *total += of_block;
            }
        }
    }
    totals
}

/// Adds the first `len` elements of `row` to the `total` of those before; [`REACH`](super::limits::REACH) elements or
/// more follow them.
#[inline(always)]
pub(crate) fn sum<S: Vector>(s: S, tail: &Tail<S>, row: &[f32], len: usize, total: f64) -> f64 {
    let [total] = totals_of_terms(
        s,
        tail,
        len,
        [total],
        ((), [row]),
        #[inline(always)]
        |_, [row], at, [sum]| [s.add(sum, s.load(row, at.offset))],
    );
    total
}

/// Whether code that only makes some calls faster is worth its size: references of columns, scales in f64, a loop for
/// each type of labels. Not in one lane, where memory may be small, nor in the baseline of x86, whose users have few
/// vectors to gain.
pub(crate) const fn is_worth_code<S: Vector>() -> bool {
    has_long_vectors::<S>() || S::WIDE && !cfg!(any(target_arch = "x86", target_arch = "x86_64"))
}

/// Whether separate loops are worth their code, which is longer for short vectors.
pub(crate) const fn has_long_vectors<S: Vector>() -> bool {
    S::LANES > 4
}

/// The partial sums of the next `len` terms of a row, at most [`SUMMED_IN_F32`], from class `first` on.
#[inline(always)]
fn columns_of_terms<S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    (first, len): (usize, usize),
    (of_row, row): &(R, [&[f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) -> [Columns<S>; N] {
    let mut columns = [Columns::new(s); N];
    if !S::WIDE {
        // Only here loads do not reach beyond the row, where memory is small.
        for offset in 0..len {
            let at = At { offset, class: first.wrapping_add(offset) };
            add_vector(s, &mut columns, offset % (2 * VIRTUAL_LANES), None, (of_row, *row, at), add);
        }
        return columns;
    }
    let whole = whole(len, 2 * VIRTUAL_LANES);
    let mut pairs = row.map(|slice| slice.get(..whole).unwrap_or(&[]).as_chunks::<{ 2 * VIRTUAL_LANES }>().0.iter());
    let mut class = first;
    while let Some(two) = next_of_each(&mut pairs) {
        for vector in 0..S::VECTORS_OF_TWO_COLUMNS {
            add_vector(s, &mut columns, vector, None, (of_row, two, At::vector::<S>(class, vector)), add);
        }
        class = class.wrapping_add(2 * VIRTUAL_LANES);
    }
    if whole < len
        && let Some(two) = of_each::<{ 2 * VIRTUAL_LANES }, K>(*row, whole)
    {
        for vector in (0..S::VECTORS_OF_TWO_COLUMNS).take(len.wrapping_sub(whole).div_ceil(S::LANES)) {
            let mask = tail.masks.get(vector).copied();
            add_vector(s, &mut columns, vector, mask, (of_row, two, At::vector::<S>(class, vector)), add);
        }
    }
    columns
}

/// [`columns_of_terms`] of a whole block of classes.
#[inline(always)]
fn columns_of_whole<S: Vector, R, const K: usize, const N: usize>(
    s: S,
    first: usize,
    (of_row, row): &(R, [&[f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) -> [Columns<S>; N] {
    let mut columns = [Columns::new(s); N];
    if let Some(block) = of_each::<SUMMED_IN_F32, K>(*row, 0) {
        for start in (0..SUMMED_IN_F32).step_by(2 * VIRTUAL_LANES) {
            for vector in 0..S::VECTORS_OF_TWO_COLUMNS {
                let offset = start.wrapping_add(vector.wrapping_mul(S::LANES));
                let at = At { offset, class: first.wrapping_add(offset) };
                add_vector(s, &mut columns, vector, None, (of_row, block, at), add);
            }
        }
    }
    columns
}

/// Adds the terms at an offset to vector `vector` of the partial sums, only where `mask` is set if there is one.
#[inline(always)]
fn add_vector<S: Vector, R, const K: usize, const N: usize>(
    s: S,
    columns: &mut [Columns<S>; N],
    vector: usize,
    mask: Option<S::M>,
    (of_row, row, at): (&R, [&[f32]; K], At),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N],
) {
    let mut sums = [s.splat(0.0); N];
    for (sum, columns) in sums.iter_mut().zip(&*columns) {
        *sum = columns.0.get(vector).copied().unwrap_or(*sum);
    }
    let added = add(of_row, row, at, sums);
    for (columns, (sum, added)) in columns.iter_mut().zip(sums.into_iter().zip(added)) {
        let Some(to) = columns.0.get_mut(vector) else { return };
        *to = if let Some(mask) = mask { s.select(mask, added, sum) } else { added };
    }
}

/// Adds the first `count` vectors from index `width` on to the first vectors.
#[inline(always)]
fn add_from<S: Vector>(s: S, vectors: &mut [S::F], width: usize, count: usize) {
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

/// Folds the partial sums of a row of `len` elements into its vectors, from `at` on.
#[inline(always)]
fn fold<S: Vector, const N: usize>(
    s: S,
    of_rows: &mut [[S::F; VIRTUAL_LANES]; N],
    at: usize,
    len: usize,
    columns: [Columns<S>; N],
) {
    for (of_rows, columns) in of_rows.iter_mut().zip(columns) {
        copy_vectors(part_mut(of_rows, at, S::VECTORS_OF_EIGHT_LANES), &columns.folded(s, len));
    }
}

/// `LEN` elements of each slice from `at` on, whose length is then known to the compiler.
#[inline(always)]
fn of_each<const LEN: usize, const K: usize>(slices: [&[f32]; K], at: usize) -> Option<[&[f32]; K]> {
    let mut parts = slices;
    for part in &mut parts {
        *part = part.get(at..)?.first_chunk::<LEN>()?;
    }
    Some(parts)
}

/// The next chunk of each.
#[inline(always)]
fn next_of_each<'a, const LEN: usize, const K: usize>(
    chunks: &mut [Iter<'a, [f32; LEN]>; K],
) -> Option<[&'a [f32]; K]> {
    let mut parts = [&[][..]; K];
    for (part, chunks) in parts.iter_mut().zip(chunks) {
        *part = chunks.next()?;
    }
    Some(parts)
}

/// Each slice from `at` on.
#[inline(always)]
fn from_each<const K: usize>(mut slices: [&[f32]; K], at: usize) -> [&[f32]; K] {
    for slice in &mut slices {
        *slice = slice.get(at..).unwrap_or(&[]);
    }
    slices
}
