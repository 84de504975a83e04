//! Row sums, in one order of addition for rows of every length.
//!
//! Class j belongs to virtual lane j mod 16, whatever the width of the hardware vectors. In each block of 128 classes
//! the even and the odd columns of 16 are two chains of f32 additions, whose partial sums are then added; the
//! horizontal sum adds lanes j and j + 8 in f32, then j and j + 4, j and j + 2, and 0 and 1 in f64. Blocks are added in
//! f64 as well. Padding counts as 0.

use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{ROWS, SUMMED_IN_F32};
use super::tile::{RowBlock, rows_of_blocks};
use super::{from, part, part_mut, steps, whole};
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
    /// different vectors. The result is in the first [`Vector::VECTORS_OF_EIGHT_LANES`] vectors. In place: a copy would be
    /// as much stack again on a microcontroller.
    #[inline(always)]
    fn fold(&mut self, s: S, len: usize) {
        if len > VIRTUAL_LANES {
            add_from(s, &mut self.0, S::VECTORS_OF_A_COLUMN, S::VECTORS_OF_A_COLUMN);
        }
        add_from(s, &mut self.0, S::VECTORS_OF_EIGHT_LANES, S::VECTORS_BEYOND_EIGHT_LANES);
    }

    /// The horizontal sum, of `len` elements.
    #[inline(always)]
    fn total(&mut self, s: S, len: usize) -> f64 {
        self.fold(s, len);
        self.0.first_chunk().map_or(
            0.0,
            #[inline(always)]
            |folded| {
                let [total, ..] = s.horizontal_sums(folded);
                total
            },
        )
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

/// Adds the elements of rows to the sums of their lanes; [`REACH`](super::limits::REACH) elements or more follow each.
#[inline(always)]
pub(crate) fn add_rows<'a, S: Vector>(
    s: S,
    classes: usize,
    rows: impl Iterator<Item = (Lane, &'a [f32])>,
    sums: &mut Lanes<f64>,
) {
    add_terms(
        s,
        &Tail::new(s, classes),
        classes,
        rows.map(
            #[inline(always)]
            |(lane, row)| (lane, ((), [row])),
        ),
        [sums],
        #[inline(always)]
        |_, [row], at, [sum]| [s.add(sum, s.load(row, at.offset))],
    );
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
        let rows = Lane::all().take(rows).map(
            #[inline(always)]
            |lane| (lane, row(lane)),
        );
        return add_terms(s, tail, classes, rows, sums, add);
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
            |lane| {
                let (of_row, row) = row(lane);
                Some(columns_of_terms(s, tail, (0, classes), (&of_row, row), add))
            },
        );
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

/// Adds N sums of terms to those of the lane of a row, one block after the other: where memory is small, none is taken for
/// more.
#[inline(always)]
fn add_row<S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    (lane, (of_row, row)): (Lane, (R, [&[f32]; K])),
    sums: &mut [&mut Lanes<f64>; N],
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    for first in steps(classes, SUMMED_IN_F32) {
        let (count, mut of_block) =
            (SUMMED_IN_F32.min(classes.wrapping_sub(first)), [[s.splat(0.0); VIRTUAL_LANES]; N]);
        let of = (&of_row, from_each(row, first));
        fold(s, &mut of_block, 0, count, columns_of_terms(s, tail, (first, count), of, add));
        for (sums, of_block) in sums.iter_mut().zip(&of_block) {
            let [sum, ..] = s.horizontal_sums(of_block);
            sums[lane] += sum;
        }
    }
}

/// Adds N sums of terms to those of the lanes of `rows`: lane, what the terms of a row share, and its slices. The
/// horizontal sums of as many blocks of classes as there are lanes are computed together, be they of one row or of several.
#[inline(always)]
fn add_terms<'a, S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    rows: impl Iterator<Item = (Lane, (R, [&'a [f32]; K]))>,
    mut sums: [&mut Lanes<f64>; N],
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    if !S::WIDE {
        for (lane, row) in rows {
            add_row(s, tail, classes, (lane, row), &mut sums, add);
        }
        return;
    }
    let (mut of_blocks, mut lanes) = (Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]), [Lane::FIRST; ROWS]);
    let mut blocks = 0_usize;
    for (lane, (of_row, row)) in rows {
        for first in (0..classes).step_by(SUMMED_IN_F32) {
            let (row, count) = (from_each(row, first), SUMMED_IN_F32.min(classes.wrapping_sub(first)));
            // A whole block in an unrolled loop, where that is worth its code.
            let whole = of_each::<SUMMED_IN_F32, K>(row, 0).filter(|_| has_long_vectors::<S>());
            let columns = if let Some(whole) = whole.filter(|_| count == SUMMED_IN_F32) {
                columns_of_terms(s, tail, (first, SUMMED_IN_F32), (&of_row, whole), add)
            } else {
                columns_of_terms(s, tail, (first, count), (&of_row, row), add)
            };
            fold(s, &mut of_blocks.0, blocks.wrapping_mul(S::VECTORS_OF_EIGHT_LANES), count, columns);
            if let Some(of_block) = lanes.get_mut(blocks) {
                *of_block = lane;
            }
            blocks = blocks.wrapping_add(1);
            if blocks == S::LANES {
                add_blocks(s, &of_blocks.0, &lanes, &mut sums);
                blocks = 0;
            }
        }
    }
    if blocks > 0 {
        add_blocks(s, &of_blocks.0, part(&lanes, 0, blocks), &mut sums);
    }
}

/// Adds N sums of blocks of classes to those of the blocks' lanes.
#[inline(always)]
fn add_blocks<S: Vector>(s: S, of_blocks: &[[S::F; VIRTUAL_LANES]], lanes: &[Lane], sums: &mut [&mut Lanes<f64>]) {
    let Some(&first) = lanes.first() else { return };
    for (sums, of_blocks) in sums.iter_mut().zip(of_blocks) {
        // The total of a lane stays in a register.
        let (mut lane, mut total) = (first, sums[first]);
        for (&of_block, sum) in lanes.iter().zip(s.horizontal_sums(of_blocks)) {
            if of_block != lane {
                sums[lane] = total;
                (lane, total) = (of_block, sums[of_block]);
            }
            total += sum;
        }
        sums[lane] = total;
    }
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
    (of_row, row): (&R, [&[f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) -> [Columns<S>; N] {
    let mut columns = [Columns::new(s); N];
    if !S::WIDE {
        // Only here loads do not reach beyond the row, where memory is small.
        for offset in 0..len {
            let at = At { offset, class: first.wrapping_add(offset) };
            add_vector(s, &mut columns, offset % (2 * VIRTUAL_LANES), None, (of_row, row, at), add);
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
        && let Some(two) = of_each::<{ 2 * VIRTUAL_LANES }, K>(row, whole)
    {
        for vector in (0..S::VECTORS_OF_TWO_COLUMNS).take(len.wrapping_sub(whole).div_ceil(S::LANES)) {
            let mask = tail.masks.get(vector).copied();
            add_vector(s, &mut columns, vector, mask, (of_row, two, At::vector::<S>(class, vector)), add);
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

/// Folds the partial sums of a row of `len` elements into its vectors, from `at` on.
#[inline(always)]
fn fold<S: Vector, const N: usize>(
    s: S,
    of_rows: &mut [[S::F; VIRTUAL_LANES]; N],
    at: usize,
    len: usize,
    columns: [Columns<S>; N],
) {
    for (of_rows, mut columns) in of_rows.iter_mut().zip(columns) {
        columns.fold(s, len);
        // In a loop of known length the vectors stay in registers.
        for (vector, folded) in columns.0.iter().enumerate().take(S::VECTORS_OF_EIGHT_LANES) {
            if let Some(to) = of_rows.get_mut(at.wrapping_add(vector)) {
                *to = *folded;
            }
        }
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
        *slice = from(slice, at);
    }
    slices
}
