//! The order of addition: partial sums of a block of classes, and how they are folded. One for rows of every length.
//!
//! Class j belongs to virtual lane j mod 16, whatever the width of the hardware vectors. Each block of 128 classes has 64
//! partial sums in f32, those of classes j and j + 64, four for a virtual lane. A few exponentials may be most of a sum,
//! and would be rounded again with every number added to them in f32. So the largest partial sum of a lane is kept apart
//! from the sum of the others, and so is that of lanes j and j + 8. It is added to the others in f32 if the block has up
//! to 64 classes, none of them rounded so far, else in f64. Up to 16 classes have nothing to be kept apart. In f64 lanes j
//! and j + 4, j and j + 2, and 0 and 1 are added, and the blocks. Padding counts as 0.
//!
//! Sums of other terms, whose bounds are wider, keep nothing apart (`APART` is false): columns 0 and 1, 2 and 3, both
//! pairs, and lanes j and j + 8 are added in f32. One lane needs less memory: it adds up all sums in class order, with
//! Kahan's compensation.

use super::limits::PIECE;
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// The number of partial sums of a block: classes j and j + this have one.
pub(super) const PARTIAL_SUMS: usize = PIECE;
/// The partial sums of a lane.
const OF_A_LANE: usize = PARTIAL_SUMS / VIRTUAL_LANES;

/// The vectors of the terms of one block of 128 classes.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    /// Those with a term in each lane.
    pub(super) full: usize,
    /// All.
    pub(super) all: usize,
    /// The number of classes, or another with the same order of addition.
    pub(super) len: usize,
}

impl Vectors {
    #[inline(always)]
    pub(super) fn new<S: Vector>(len: usize) -> Self {
        Self { full: len.checked_div(S::LANES).unwrap_or(0), all: len.div_ceil(S::LANES), len }
    }

    /// N partial sums of one vector each: `add(i)` adds the terms of vector i of the block.
    #[inline(always)]
    pub(super) fn partial_sums<S: Vector, const N: usize>(
        self,
        s: S,
        vector: usize,
        add: &mut impl FnMut(usize, [S::F; N]) -> [S::F; N],
    ) -> [S::F; N] {
        // x + −0 = x for every x, so that the first addition is none.
        let mut sums = [s.splat(-0.0); N];
        for vector in [vector, vector.wrapping_add(const { PARTIAL_SUMS / S::LANES })] {
            if vector < self.all {
                sums = add(vector, sums);
            }
        }
        sums
    }
}

/// Where N sums of a block are folded to: the lanes for [`Vector::sums_of_eights`] or for [`Vector::horizontal_sums`], from
/// vector `at` on.
pub(super) struct To<'a, S: Vector, const N: usize> {
    pub(super) columns: &'a mut [[S::F; VIRTUAL_LANES]; N],
    pub(super) at: usize,
    pub(super) eights: bool,
}

/// Folds N sums of a block of `len` classes into one column each. `partial_sums` returns vectors of their partial sums.
#[inline(always)]
pub(super) fn fold<S: Vector, const APART: bool, const N: usize>(
    s: S,
    len: usize,
    To { columns, at, eights }: To<'_, S, N>,
    mut partial_sums: impl FnMut(usize) -> [S::F; N],
) {
    let half = S::VECTORS_OF_EIGHT_LANES;
    for vector in 0..half {
        let low = parts_of_lanes::<S, APART, N>(s, vector, len, &mut partial_sums);
        if S::VECTORS_OF_A_COLUMN > half {
            let high = parts_of_lanes::<S, APART, N>(s, vector.wrapping_add(half), len, &mut partial_sums);
            for ((column, &low), &high) in columns.iter_mut().zip(&low).zip(&high) {
                let [low, high] = add_parts::<S, APART>(s, [low, high], len);
                set(column, at.wrapping_add(vector), low);
                if !eights {
                    set(column, at.wrapping_add(vector).wrapping_add(half), high);
                }
            }
            continue;
        }
        // Both halves are in one vector.
        for (column, &low) in columns.iter_mut().zip(&low) {
            let mut folded = low[0];
            if APART && len > VIRTUAL_LANES {
                folded = s.halves_apart(low);
            }
            if !eights && !in_f64::<APART>(len) {
                folded = s.add_halves(folded);
            }
            set(column, at, folded);
        }
    }
}

/// [`add_partial_sums`] of N sums, in the lanes of vector `vector` of a column.
#[inline(always)]
fn parts_of_lanes<S: Vector, const APART: bool, const N: usize>(
    s: S,
    vector: usize,
    len: usize,
    partial_sums: &mut impl FnMut(usize) -> [S::F; N],
) -> [[S::F; 2]; N] {
    let mut sums = [[s.splat(-0.0); N]; OF_A_LANE];
    for (sums, first) in sums.iter_mut().zip((0..).step_by(S::VECTORS_OF_A_COLUMN)) {
        *sums = partial_sums(vector.wrapping_add(first));
    }
    let [a, b, c, d] = sums;
    let mut parts = [[s.splat(0.0); 2]; N];
    for ((((parts, &a), &b), &c), &d) in parts.iter_mut().zip(&a).zip(&b).zip(&c).zip(&d) {
        *parts = add_partial_sums::<S, APART>(s, [a, b, c, d], len);
    }
    parts
}

/// [`fold`] by a loop, over partial sums in memory.
#[inline(always)]
pub(super) fn fold_by_loop<S: Vector, const APART: bool, const N: usize>(
    s: S,
    vectors: Vectors,
    memory: &mut [[f32; PARTIAL_SUMS]; N],
    to: To<'_, S, N>,
    mut add: impl FnMut(usize, [S::F; N]) -> [S::F; N],
) {
    for (vector, at) in (0..PARTIAL_SUMS).step_by(S::LANES).enumerate().take(vectors.all) {
        let sums = vectors.partial_sums(s, vector, &mut add);
        for (memory, &sum) in memory.iter_mut().zip(&sums) {
            s.store(sum, memory, at);
        }
    }
    fold::<S, APART, N>(
        s,
        vectors.len,
        to,
        #[inline(always)]
        |vector| {
            let mut sums = [s.splat(-0.0); N];
            if vector < vectors.all {
                for (sum, memory) in sums.iter_mut().zip(&*memory) {
                    *sum = s.load(memory, vector.wrapping_mul(S::LANES));
                }
            }
            sums
        },
    );
}

#[inline(always)]
fn set<F>(column: &mut [F; VIRTUAL_LANES], at: usize, vector: F) {
    if let Some(to) = column.get_mut(at) {
        *to = vector;
    }
}

/// The parts of the sum of a lane of `len` classes, from its partial sums: with `APART` the largest, and the sum of the
/// others.
#[inline(always)]
pub(super) fn add_partial_sums<S: Vector, const APART: bool>(s: S, [a, b, c, d]: [S::F; 4], len: usize) -> [S::F; 2] {
    if len <= VIRTUAL_LANES {
        return [a, s.splat(-0.0)];
    }
    if !APART {
        let first = s.add(a, b);
        return [if len <= 2 * VIRTUAL_LANES { first } else { s.add(first, s.add(c, d)) }, s.splat(-0.0)];
    }
    // Whichever is NaN, one of both results is.
    let first = [s.at_least(a, b), s.at_most(b, a)];
    if len <= 2 * VIRTUAL_LANES {
        return first;
    }
    let second = [s.at_least(c, d), s.at_most(d, c)];
    let others = s.add(s.add(first[1], second[1]), s.at_most(second[0], first[0]));
    [s.at_least(first[0], second[0]), others]
}

/// The same of lanes 0 to 7, from the parts of lanes 0 to 7 and 8 to 15: to be added in f64. A single one unless
/// [`in_f64`].
#[inline(always)]
pub(super) fn add_parts<S: Vector, const APART: bool>(s: S, [low, high]: [[S::F; 2]; 2], len: usize) -> [S::F; 2] {
    if !APART || len <= VIRTUAL_LANES {
        return [s.add(low[0], high[0]), s.splat(0.0)];
    }
    let others = s.add(s.add(low[1], high[1]), s.at_most(high[0], low[0]));
    let largest = s.at_least(low[0], high[0]);
    if in_f64::<APART>(len) { [largest, others] } else { [s.add(largest, others), s.splat(0.0)] }
}

/// Whether the parts of a sum of `len` classes are added in f64: those of partial sums that have been rounded.
#[inline(always)]
pub(super) fn in_f64<const APART: bool>(len: usize) -> bool {
    APART && len > PARTIAL_SUMS
}

/// N sums of one block: `add(i)` adds the terms of vector i.
#[inline(always)]
pub(super) fn sums_of_block<S: Vector, const APART: bool, const N: usize>(
    s: S,
    vectors: Vectors,
    add: impl FnMut(usize, [S::F; N]) -> [S::F; N],
) -> [f64; N] {
    if !S::WIDE {
        return compensated_sums(s, vectors.len, add);
    }
    let (mut columns, mut memory) = ([[s.splat(0.0); VIRTUAL_LANES]; N], [[0.0; PARTIAL_SUMS]; N]);
    let mut sums = [0.0; N];
    let eights = !in_f64::<APART>(vectors.len);
    fold_by_loop::<S, APART, N>(s, vectors, &mut memory, To { columns: &mut columns, at: 0, eights }, add);
    for (to, column) in sums.iter_mut().zip(&columns) {
        let [sum, ..] = if eights { s.sums_of_eights(column) } else { s.horizontal_sums(column) };
        *to = sum;
    }
    sums
}

/// N sums of `len` terms in one lane, in class order with Kahan's compensation.
#[inline(always)]
fn compensated_sums<S: Vector, const N: usize>(
    s: S,
    len: usize,
    mut add: impl FnMut(usize, [S::F; N]) -> [S::F; N],
) -> [f64; N] {
    let (zero, infinity) = (s.splat(0.0), s.splat(f32::INFINITY));
    let (mut sums, mut lost, mut totals) = ([zero; N], [zero; N], [0.0; N]);
    for term in 0..len {
        let addends = add(term, lost);
        for ((sum, lost), addend) in sums.iter_mut().zip(&mut lost).zip(addends) {
            let before = *sum;
            *sum = s.add(before, addend);
            let is_finite = s.less(s.at_least(*sum, s.sub(zero, *sum)), infinity);
            *lost = s.select(is_finite, s.sub(addend, s.sub(*sum, before)), zero);
        }
    }
    for (total, (sum, lost)) in totals.iter_mut().zip(sums.into_iter().zip(lost)) {
        let [[sum, ..], [lost, ..]] = [s.to_array(sum), s.to_array(lost)];
        *total = f64::from(sum) + f64::from(lost);
    }
    totals
}
