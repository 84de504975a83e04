//! Row sums, in the order of addition of [`super::partial_sums`].

use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{REACH, ROWS, SUMMED_IN_F32};
use super::partial_sums::{PARTIAL_SUMS, To, Vectors, fold, fold_by_loop, in_f64, sums_of_block};
use super::tile::{RowBlock, rows_of_blocks};
use super::{from, from_row, part, part_mut, steps};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// The sum of `len` terms: `term(at)` is the vector of those from `at` on, with zeros after the last.
#[inline(always)]
pub(crate) fn sum_of<S: Vector>(s: S, len: usize, mut term: impl FnMut(usize) -> S::F) -> f64 {
    let mut total = 0.0;
    for first in steps(len, SUMMED_IN_F32) {
        let vectors = Vectors::new::<S>(SUMMED_IN_F32.min(len.wrapping_sub(first)));
        let [sum] = sums_of_block::<S, true, 1>(
            s,
            vectors,
            #[inline(always)]
            |vector, [sum]| [s.add(sum, term(first.wrapping_add(vector.wrapping_mul(S::LANES))))],
        );
        total += sum;
    }
    total
}

/// Masks for the last terms of a row, as many as there are partial sums.
#[derive(Clone, Copy)]
pub(crate) struct Tail<S: Vector> {
    /// One for each vector of them.
    masks: [S::M; VIRTUAL_LANES],
}

impl<S: Vector> Tail<S> {
    #[inline(always)]
    pub(crate) fn new(s: S, classes: usize) -> Self {
        let len = (classes.wrapping_sub(1) % PARTIAL_SUMS).wrapping_add(1);
        let mut masks = [s.first_lanes(0); VIRTUAL_LANES];
        if S::WIDE {
            for (mask, at) in masks.iter_mut().zip((0..PARTIAL_SUMS).step_by(S::LANES)) {
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

/// Fills `sum` of each row of `classes` elements; [`REACH`] more follow the last row.
pub(crate) fn row_sums<S: Vector>(s: S, numbers: &[f32], classes: usize, rows: usize, blocks: &mut [RowBlock]) {
    if has_short_vectors::<S>() && classes <= PARTIAL_SUMS {
        return row_sums(s.short(), numbers, classes, rows, blocks);
    }
    let mut left = part(numbers, 0, rows.wrapping_mul(classes).wrapping_add(REACH));
    if !are_short::<S>(classes) {
        for (block, rows) in blocks.iter_mut().zip(rows_of_blocks(rows)) {
            block.sum = Lanes::splat(0.0);
            add_row_sums(s, left, classes, (first_rows(rows), 0), &mut block.sum);
            left = from(left, rows.wrapping_mul(classes));
        }
        return;
    }
    s.run(
        #[inline(always)]
        move || {
            let tail = Tail::new(s, classes);
            for (block, rows) in blocks.iter_mut().zip(rows_of_blocks(rows)) {
                sums_of_short_rows::<S, _, true, 1, 1>(
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

/// The bits of the first `rows` rows.
#[inline(always)]
pub(crate) fn first_rows(rows: usize) -> u32 {
    u32::MAX.wrapping_shr(32_usize.wrapping_sub(rows.clamp(1, ROWS)) as u32)
}

/// Adds the elements of those rows whose bit is set in `marked` to the sums of their lanes, of which `lane` is that of row 0;
/// [`REACH`] elements or more follow each.
pub(crate) fn add_row_sums<S: Vector>(
    s: S,
    numbers: &[f32],
    classes: usize,
    (marked, lane): (u32, usize),
    sums: &mut Lanes<f64>,
) {
    s.run(
        #[inline(always)]
        move || {
            let rows = (0..ROWS).filter(|row| marked.wrapping_shr(*row as u32) & 1 != 0).map(
                #[inline(always)]
                |row| (Lane::of(lane.wrapping_add(row)), ((), [from_row(numbers, row, classes)])),
            );
            add_terms::<S, _, true, 1, 1>(
                s,
                &Tail::new(s, classes),
                classes,
                rows,
                [sums],
                #[inline(always)]
                |_, [row], at, [sum]| [s.add(sum, s.load(row, at.offset))],
            );
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

/// A vector of the terms of a row: its offset in the slices at hand, which begin with class `first`.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) offset: usize,
    pub(crate) first: usize,
}

impl At {
    /// Vector `vector` of slices that begin with class `first`.
    #[inline(always)]
    fn vector<S: Vector>(first: usize, vector: usize) -> Self {
        Self { offset: vector.wrapping_mul(S::LANES), first }
    }
}

/// A row of a tile, and all that follows: `left`, which goes on to the next row. Empty after the last row, which
/// [`REACH`] elements follow.
#[inline(always)]
pub(crate) fn next_row<'a, S: Vector>(left: &mut &'a [f32], classes: usize) -> &'a [f32] {
    let row = *left;
    if S::WIDE && row.len() < REACH.wrapping_add(classes) {
        return &[];
    }
    *left = row.get(classes..).unwrap_or(&[]);
    row
}

/// Whether the rows of a block have one block of classes each, and are added up together.
#[inline(always)]
fn are_short<S: Vector>(classes: usize) -> bool {
    S::WIDE && classes <= SUMMED_IN_F32
}

/// Adds N sums of terms of the rows of a block, `rows` of them, to those before. `row(lane)` returns what the terms of a
/// row share, and K slices that begin with its elements; `add` adds a vector of terms, those at an offset in the slices,
/// to each partial sum. [`REACH`](super::limits::REACH) elements follow the last row; their terms are masked out.
#[inline(always)]
pub(crate) fn sums_of_terms<'a, S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    (rows, classes): (usize, usize),
    sums: [&mut Lanes<f64>; N],
    mut row: impl FnMut(Lane) -> (R, [&'a [f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    if !are_short::<S>(classes) {
        let rows = Lane::all().take(rows).map(
            #[inline(always)]
            |lane| (lane, row(lane)),
        );
        return add_terms::<S, R, false, K, N>(s, tail, classes, rows, sums, add);
    }
    sums_of_short_rows::<S, R, false, K, N>(s, tail, (rows, classes), sums, row, add);
}

/// [`sums_of_terms`] of up to 128 classes; of one array, and with vectors that have [`Vector::Short`] ones, of more than 64.
#[inline(always)]
fn sums_of_short_rows<'a, S: Vector, R, const APART: bool, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    (rows, classes): (usize, usize),
    mut sums: [&mut Lanes<f64>; N],
    mut row: impl FnMut(Lane) -> (R, [&'a [f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    // Loops of their own for short rows, whose partial sums stay in registers, where they are worth their code: for long
    // vectors, and for the sums of one array alone. Two sums of terms are left to short vectors if there are such.
    let (one, long) = (K == 1, has_long_vectors::<S>() && (N == 1 || !has_short_vectors::<S>()));
    // In comparisons, from which the compiler knows that a row is not longer than what is loaded of it.
    let fill = |vectors: usize| {
        let most = vectors.wrapping_mul(S::LANES);
        classes <= most && classes > most.wrapping_sub(S::LANES)
    };
    let eights = !in_f64::<APART>(classes);
    let (row, mut memory) = (&mut row, [[0.0; PARTIAL_SUMS]; N]);
    // Lanes without a row keep what the rows before have left: any numbers.
    let mut columns = Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]);
    for first in (0..rows.min(ROWS)).step_by(S::LANES) {
        let to = (&mut columns.0, Lane::starting_at(first).take(S::LANES));
        if one && has_short_vectors::<S>() {
            fold_rows::<S, R, APART, 8, K, N>(s, tail, to, row, add);
        } else if (one || long) && fill(1) {
            fold_rows::<S, R, APART, 1, K, N>(s, tail, to, row, add);
        } else if (one || long) && fill(2) {
            fold_rows::<S, R, APART, 2, K, N>(s, tail, to, row, add);
        } else if one && fill(3) {
            fold_rows::<S, R, APART, 3, K, N>(s, tail, to, row, add);
        } else if one && fill(4) || S::LANES == 8 && classes <= 2 * VIRTUAL_LANES {
            fold_rows::<S, R, APART, 4, K, N>(s, tail, to, row, add);
        } else if S::LANES == 8 && classes <= PARTIAL_SUMS {
            fold_rows::<S, R, APART, 8, K, N>(s, tail, to, row, add);
        } else if one && S::LANES == 8 {
            fold_rows::<S, R, APART, 16, K, N>(s, tail, to, row, add);
        } else {
            let vectors = Vectors::new::<S>(classes);
            for (at, lane) in (0..).step_by(vectors_of_row::<S>(eights)).zip(to.1) {
                let (of_row, row) = row(lane);
                let Some(row) = of_each::<REACH, K>(row, 0) else { break };
                let add = add_terms_of(s, tail, vectors, (&of_row, row, 0), add);
                fold_by_loop::<S, APART, N>(s, vectors, &mut memory, To { columns: to.0, at, eights }, add);
            }
        }
        for (sums, columns) in sums.iter_mut().zip(&columns.0) {
            let of_rows = if eights { s.sums_of_eights(columns) } else { s.horizontal_sums(columns) };
            for (to, sum) in part_mut(sums.as_mut_slice(), first, S::LANES).iter_mut().zip(of_rows) {
                // Those of one array, the exponentials, are filled.
                *to = if one { 0.0 } else { *to } + sum;
            }
        }
    }
}

/// The vectors into which a row is folded.
#[inline(always)]
fn vectors_of_row<S: Vector>(eights: bool) -> usize {
    if eights { S::VECTORS_OF_EIGHT_LANES } else { S::VECTORS_OF_A_COLUMN }
}

/// [`fold`] of rows of at most `VECTORS` vectors, in registers. At least so many are full as are not masked; ends with a row
/// without slices.
#[inline(always)]
fn fold_rows<'a, S: Vector, R, const APART: bool, const VECTORS: usize, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    (columns, lanes): (&mut [[S::F; VIRTUAL_LANES]; N], impl Iterator<Item = Lane>),
    row: &mut impl FnMut(Lane) -> (R, [&'a [f32]; K]),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    let (len, eights) = const { (VECTORS * S::LANES, !APART || VECTORS * S::LANES <= PARTIAL_SUMS) };
    // Up to four vectors of one array have a loop for each number of them.
    let full = const { if VECTORS <= 3 || VECTORS == 4 && K == 1 { VECTORS - 1 } else { VECTORS / 2 } };
    let vectors = Vectors { full, all: VECTORS, len };
    for (at, lane) in (0..).step_by(vectors_of_row::<S>(eights)).zip(lanes) {
        let (of_row, row) = row(lane);
        let Some(row) = of_each::<REACH, K>(row, 0) else { break };
        let to = To { columns: &mut *columns, at, eights };
        fold_in_registers::<S, R, APART, K, N>(s, tail, vectors, to, (&of_row, row, 0), add);
    }
}

/// [`fold`] of the terms of a block, in registers: `vectors` are known to the compiler.
#[inline(always)]
fn fold_in_registers<S: Vector, R, const APART: bool, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    vectors: Vectors,
    to: To<'_, S, N>,
    of_block: (&R, [&[f32]; K], usize),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    let mut add = add_terms_of(s, tail, vectors, of_block, add);
    fold::<S, APART, N>(
        s,
        vectors.len,
        to,
        #[inline(always)]
        |vector| vectors.partial_sums(s, vector, &mut add),
    );
}

/// What adds the terms of a vector of a block to N sums, by `add`; only in the lanes of `tail` if the vector is not full. Of
/// the row: what its terms share, the slices, which begin with the block, and the block's first class.
#[inline(always)]
fn add_terms_of<S: Vector, R, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    vectors: Vectors,
    (of_row, row, first): (&R, [&[f32]; K], usize),
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) -> impl Fn(usize, [S::F; N]) -> [S::F; N] + Copy {
    #[inline(always)]
    move |vector, sums| {
        let mut added = add(of_row, row, At::vector::<S>(first, vector), sums);
        if S::WIDE && vector >= vectors.full {
            let of_partial_sums = const { PARTIAL_SUMS / S::LANES };
            let mask = tail.masks.get(vector.checked_sub(of_partial_sums).unwrap_or(vector));
            for (added, &sum) in added.iter_mut().zip(&sums) {
                *added = if let Some(&mask) = mask { s.select(mask, *added, sum) } else { sum };
            }
        }
        added
    }
}

/// Adds N sums of terms to those of the lanes of `rows`: lane, what the terms of a row share, and its slices. The
/// horizontal sums of as many blocks of classes as there are lanes are computed together, be they of one row or of several.
#[inline(always)]
fn add_terms<'a, S: Vector, R, const APART: bool, const K: usize, const N: usize>(
    s: S,
    tail: &Tail<S>,
    classes: usize,
    rows: impl Iterator<Item = (Lane, (R, [&'a [f32]; K]))>,
    mut sums: [&mut Lanes<f64>; N],
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    if !S::WIDE {
        for row in rows {
            add_row::<S, R, APART, K, N>(s, classes, row, &mut sums, add);
        }
        return;
    }
    let (mut columns, mut memory) = (Aligned([[s.splat(0.0); VIRTUAL_LANES]; N]), [[0.0; PARTIAL_SUMS]; N]);
    let mut lanes = [Lane::FIRST; ROWS];
    let mut blocks = 0_usize;
    for (lane, (of_row, row)) in rows {
        for first in (0..classes).step_by(SUMMED_IN_F32) {
            let Some(row) = of_each::<REACH, K>(row, first) else { break };
            let (count, of_block) = (SUMMED_IN_F32.min(classes.wrapping_sub(first)), (&of_row, row, first));
            let at = blocks.wrapping_mul(vectors_of_row::<S>(!APART));
            let to = To { columns: &mut columns.0, at, eights: !APART };
            // In registers, where that is worth its code: a whole block and, of one array by AVX-512, more than half of one.
            let one = const { K == 1 };
            let half = PARTIAL_SUMS.checked_div(S::LANES).unwrap_or(0);
            let most = Vectors { full: half, ..Vectors::new::<S>(SUMMED_IN_F32) };
            if (has_long_vectors::<S>() || one && is_worth_code::<S>()) && count == SUMMED_IN_F32 {
                fold_in_registers::<S, R, APART, K, N>(s, tail, Vectors::new::<S>(SUMMED_IN_F32), to, of_block, add);
            } else if S::LANES > 8 && one && count > PARTIAL_SUMS {
                fold_in_registers::<S, R, APART, K, N>(s, tail, most, to, of_block, add);
            } else {
                let vectors = Vectors::new::<S>(count);
                fold_by_loop::<S, APART, N>(s, vectors, &mut memory, to, add_terms_of(s, tail, vectors, of_block, add));
            }
            if let Some(of_block) = lanes.get_mut(blocks) {
                *of_block = lane;
            }
            blocks = blocks.wrapping_add(1);
            if blocks == S::LANES {
                add_blocks::<S, APART>(s, &columns.0, &lanes, &mut sums);
                blocks = 0;
            }
        }
    }
    if blocks > 0 {
        add_blocks::<S, APART>(s, &columns.0, part(&lanes, 0, blocks), &mut sums);
    }
}

/// [`add_terms`] of one row in one lane. Where memory is small, none is taken for more than one block.
#[inline(always)]
fn add_row<S: Vector, R, const APART: bool, const K: usize, const N: usize>(
    s: S,
    classes: usize,
    (lane, (of_row, row)): (Lane, (R, [&[f32]; K])),
    sums: &mut [&mut Lanes<f64>; N],
    add: impl Fn(&R, [&[f32]; K], At, [S::F; N]) -> [S::F; N] + Copy,
) {
    for first in steps(classes, SUMMED_IN_F32) {
        let vectors = Vectors::new::<S>(SUMMED_IN_F32.min(classes.wrapping_sub(first)));
        let row = from_each(row, first);
        let of_block = sums_of_block::<S, APART, N>(
            s,
            vectors,
            #[inline(always)]
            |vector, sums| add(&of_row, row, At::vector::<S>(first, vector), sums),
        );
        for (sums, sum) in sums.iter_mut().zip(of_block) {
            sums[lane] += sum;
        }
    }
}

/// Adds N sums of blocks of classes to those of the blocks' lanes.
#[inline(always)]
fn add_blocks<S: Vector, const APART: bool>(
    s: S,
    columns: &[[S::F; VIRTUAL_LANES]],
    lanes: &[Lane],
    sums: &mut [&mut Lanes<f64>],
) {
    let Some(&first) = lanes.first() else { return };
    for (sums, columns) in sums.iter_mut().zip(columns) {
        let of_blocks = if APART { s.horizontal_sums(columns) } else { s.sums_of_eights(columns) };
        // The total of a lane stays in a register.
        let (mut lane, mut total) = (first, sums[first]);
        for (&of_block, sum) in lanes.iter().zip(of_blocks) {
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

/// Whether sums of up to [`PARTIAL_SUMS`] classes are those of [`Vector::Short`].
pub(crate) const fn has_short_vectors<S: Vector>() -> bool {
    S::LANES > S::Short::LANES
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

/// Each slice from `at` on.
#[inline(always)]
fn from_each<const K: usize>(mut slices: [&[f32]; K], at: usize) -> [&[f32]; K] {
    for slice in &mut slices {
        *slice = from(slice, at);
    }
    slices
}
