//! Rows of three and four classes, as columns: a vector holds one class of several rows. The label is taken out by blends,
//! and the exponentials are those of the gaps of the *other* classes, e^(x_k − x_y), of the exact difference, so that
//! their sum is E. In a block, `loss` has the labels, as f32.

use super::exp::exp_of_pair;
use super::lanes::{Lane, Lanes};
use super::limits::{LEAST_GAP, NO_GAP, ROWS};
use super::pair::{Pair, two_sum};
use super::scales::{round_scales, scale_columns_in_f64, scale_of};
use super::sums::{first_rows, is_worth_code};
use super::tile::{Batch, Place, RowBlock, one_by_one};
use super::tile_columns::Columns;
use super::two_classes::is_near;
use super::{chunks_mut, copy, from_row_mut, part_mut};
use crate::backend::vector::Vector;

/// The most classes of such rows.
pub(crate) const MOST: usize = 4;
/// The row stride in the transpose; with three classes the last element is padding.
const FOUR: usize = MOST;

/// Fills `one_minus_p` = E, for rows that fit the tile, and leaves the exponentials in `others`, of each block those of one
/// class after the other. Marks the rows with a gap that is NaN, beyond ±[`LEAST_GAP`] and not below [`NO_GAP`]; returns
/// whether there is none. `in_columns`: the logits of `[N, C, D]` are read as columns.
pub(crate) fn sums<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    (others, spare): (&mut [f32], &mut [f32]),
    blocks: &mut [RowBlock],
    place: Place,
    in_columns: bool,
) -> bool {
    let classes = place.width;
    let all = if in_columns && const { is_worth_code::<S>() } {
        let columns = batch.columns(s, place, spare);
        if classes == FOUR {
            take_labels_out_of_columns::<S, FOUR>(s, columns, others, blocks)
        } else {
            take_labels_out_of_columns::<S, 3>(s, columns, others, blocks)
        }
    } else {
        // Of three classes the last vector of rows reaches up to four elements beyond them.
        let reach = blocks.len().wrapping_mul(ROWS).wrapping_mul(classes);
        let reach = if classes == FOUR { reach } else { reach.wrapping_add(FOUR) };
        let dense = batch.as_tile().and_then(|logits| logits.get(place.first.wrapping_mul(classes)..)?.get(..reach));
        let rows = if let Some(logits) = dense.filter(|_| place.rows.is_multiple_of(ROWS)) {
            logits
        } else {
            batch.load_rows(s, place, spare);
            // Padding must be in range.
            let spare = part_mut(spare, 0, reach);
            from_row_mut(spare, place.rows, classes).fill(0.0);
            &*spare
        };
        if classes == FOUR {
            take_labels_out_of_rows::<S, FOUR>(s, rows, others, blocks)
        } else {
            take_labels_out_of_rows::<S, 3>(s, rows, others, blocks)
        }
    };
    if !all && set_far_apart(place, others, blocks) {
        return false;
    }
    exponentials(s, others, classes, blocks);
    if !all {
        // Those set apart.
        others.iter_mut().filter(|e| e.is_nan()).for_each(|e| *e = 0.0);
    }
    if classes == FOUR {
        add_up::<S, FOUR>(s, others, blocks);
    } else {
        add_up::<S, 3>(s, others, blocks);
    }
    all || blocks.iter().all(|block| block.marked == 0)
}

/// The first element of vector `number` of the rows from `at` on: a quarter as many rows as lanes.
#[inline(always)]
fn in_quarters<S: Vector, const C: usize>(at: usize, number: usize) -> usize {
    at.wrapping_add(number.wrapping_mul(S::LANES / FOUR)).wrapping_mul(C)
}

/// [`take_labels_out`] of whole blocks of rows, of three classes followed by four elements.
fn take_labels_out_of_rows<S: Vector, const C: usize>(
    s: S,
    rows: &[f32],
    others: &mut [f32],
    blocks: &mut [RowBlock],
) -> bool {
    s.run(
        #[inline(always)]
        move || {
            let mut rows = rows;
            take_labels_out::<S, C>(
                s,
                others,
                blocks,
                #[inline(always)]
                |_| {
                    let of = |number: usize| {
                        let row = s.load(rows, in_quarters::<S, C>(0, number));
                        if C == FOUR { row } else { s.threes_to_fours(row) }
                    };
                    let columns = s.fours_to_columns([of(0), of(1), of(2), of(3)]);
                    rows = rows.get(in_quarters::<S, C>(S::LANES, 0)..).unwrap_or(&[]);
                    columns
                },
            )
        },
    )
}

/// [`take_labels_out`] of columns.
fn take_labels_out_of_columns<S: Vector, const C: usize>(
    s: S,
    columns: Columns<'_>,
    others: &mut [f32],
    blocks: &mut [RowBlock],
) -> bool {
    s.run(
        #[inline(always)]
        move || {
            let mut of_classes = [&[][..]; FOUR];
            for (class, of_class) in of_classes.iter_mut().enumerate().take(C) {
                *of_class = columns.of_class(class);
            }
            let [a, b, c, d] = of_classes;
            take_labels_out::<S, C>(
                s,
                others,
                blocks,
                #[inline(always)]
                |row| {
                    let last = if C == FOUR { s.load(d, row) } else { s.splat(0.0) };
                    [s.load(a, row), s.load(b, row), s.load(c, row), last]
                },
            )
        },
    )
}

/// Masks of the labels below 1, 2 and 3.
#[inline(always)]
fn labels_below<S: Vector>(s: S, label: S::F) -> [S::M; 3] {
    [s.less(label, s.splat(1.0)), s.less(label, s.splat(2.0)), s.less(label, s.splat(3.0))]
}

/// Fills the logits of the other classes, the labels (as `loss`) and their logits; `columns` returns the logits of each
/// class of the rows from one on, vector by vector. Returns whether all gaps are near.
#[inline(always)]
fn take_labels_out<S: Vector, const C: usize>(
    s: S,
    others: &mut [f32],
    blocks: &mut [RowBlock],
    mut columns: impl FnMut(usize) -> [S::F; FOUR],
) -> bool {
    let (magnitude, limit, mut union) =
        (s.splat_bits(u32::MAX >> 1), s.splat_bits((-LEAST_GAP).to_bits()), s.splat_bits(0));
    let mut row = 0_usize;
    for (block, to) in blocks.iter_mut().zip(others.chunks_exact_mut(const { (C - 1) * ROWS })) {
        let labels = block.class.map(|class| class as i32 as f32);
        for at in (0..ROWS).step_by(S::LANES) {
            let ([a, b, c, d], [first, second, third]) =
                (columns(row.wrapping_add(at)), labels_below(s, s.load(labels.as_slice(), at)));
            let (last, of_last) = if C == FOUR { (s.select(third, c, d), s.select(third, d, c)) } else { (c, c) };
            let logit = s.select(first, a, s.select(second, b, last));
            let of_others = [s.select(first, b, a), s.select(second, c, b), of_last];
            for (other, &x) in of_others.iter().enumerate().take(const { C - 1 }) {
                let size = s.and_bits(s.to_bits(s.sub(x, logit)), magnitude);
                union = s.or_bits(union, s.sub_bits(limit, size));
                s.store(x, to, other.wrapping_mul(ROWS).wrapping_add(at));
            }
            s.store(logit, block.logit.as_mut_slice(), at);
        }
        block.loss = labels;
        row = row.wrapping_add(ROWS);
    }
    !s.any_bit(s.shift_right::<31>(union))
}

/// Replaces logits whose exponential counts as 0 by NaN, and marks the rows that have another gap that is not near; returns
/// whether all rows are marked. Compiled once, for the vectors of the target.
#[cold]
#[inline(never)]
fn set_far_apart(place: Place, others: &mut [f32], blocks: &mut [RowBlock]) -> bool {
    let (mut all, of_block) = (true, place.width.wrapping_sub(1).wrapping_mul(ROWS));
    for ((place, block), others) in place.blocks().zip(blocks).zip(chunks_mut(others, of_block)) {
        let (logit, mut special) = (block.logit, Lanes::splat(0));
        for of_class in others.as_chunks_mut::<ROWS>().0 {
            let mut logits = Lanes::of(*of_class);
            for i in Lane::all() {
                let gap = logits[i] - logit[i];
                let is_apart = (gap < NO_GAP) & logit[i].is_finite();
                special[i] |= u32::from(!is_apart & !is_near(gap));
                logits[i] = if is_apart { f32::NAN } else { logits[i] };
            }
            copy(of_class, logits.as_slice());
        }
        let without_row = !first_rows(place.rows);
        block.marked |= special.mask() & !without_row;
        if block.marked | without_row == u32::MAX {
            block.marked = u32::MAX;
        }
        all &= block.marked == u32::MAX;
    }
    all
}

/// Replaces the logits of the other classes by the exponentials of their gaps.
fn exponentials<S: Vector>(s: S, others: &mut [f32], classes: usize, blocks: &[RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let of_block = classes.wrapping_sub(1).wrapping_mul(ROWS);
            for (block, others) in blocks.iter().zip(chunks_mut(others, of_block)) {
                for of_class in others.as_chunks_mut::<ROWS>().0 {
                    for at in (0..ROWS).step_by(S::LANES) {
                        let minus_logit = s.sub(s.splat(0.0), s.load(block.logit.as_slice(), at));
                        let Pair { hi, lo } = two_sum(s, s.load(of_class, at), minus_logit);
                        s.store(exp_of_pair(s, hi, lo), of_class, at);
                    }
                }
            }
        },
    )
}

/// Fills the sums of the exponentials, E, as `one_minus_p`.
fn add_up<S: Vector, const C: usize>(s: S, others: &[f32], blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (block, others) in one_by_one(blocks).zip(others.chunks_exact(const { (C - 1) * ROWS })) {
                let mut sum = Lanes::splat(0.0);
                if let ([a, b, rest @ ..], _) = others.as_chunks::<ROWS>() {
                    let (a, b) = (Lanes::of(*a), Lanes::of(*b));
                    for i in Lane::all() {
                        sum[i] = f64::from(a[i]) + f64::from(b[i]);
                    }
                    if let (true, [c, ..]) = (C == FOUR, rest) {
                        let c = Lanes::of(*c);
                        for i in Lane::all() {
                            sum[i] += f64::from(c[i]);
                        }
                    }
                }
                block.one_minus_p = sum;
            }
        },
    )
}

/// Writes the gradient of the rows that are not marked.
pub(crate) fn write_gradient<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    (others, spare): (&mut [f32], &mut [f32]),
    blocks: &mut [RowBlock],
    place: Place,
    in_columns: bool,
) {
    let classes = place.width;
    if !round_scales(s, blocks) {
        scale_in_f64(s, others, classes.wrapping_sub(1), blocks);
    }
    if in_columns && const { is_worth_code::<S>() } {
        if classes == FOUR {
            write_columns::<S, FOUR>(s, others, blocks, spare);
        } else {
            write_columns::<S, 3>(s, others, blocks, spare);
        }
        return batch.store_unmarked_columns(s, place, spare, blocks);
    }
    let all = blocks.iter().all(|block| block.marked == 0) && place.rows.is_multiple_of(ROWS);
    let in_place = batch.gradient_in_place(place).filter(|_| all);
    let is_copied = in_place.is_none();
    let to = in_place.unwrap_or(&mut *spare);
    if classes == FOUR {
        write_rows::<S, FOUR>(s, others, blocks, to);
    } else {
        write_rows::<S, 3>(s, others, blocks, to);
    }
    if is_copied {
        batch.store_unmarked(s, place, spare, blocks);
    }
}

/// Multiplies the exponentials by their scales in f64, where f32 does not hold these, and leaves scales of 1.
#[cold]
#[inline(never)]
fn scale_in_f64<S: Vector>(s: S, exponentials: &mut [f32], classes: usize, blocks: &mut [RowBlock]) {
    for (block, of_block) in blocks.iter_mut().zip(chunks_mut(exponentials, classes.wrapping_mul(ROWS))) {
        if is_worth_code::<S>() {
            scale_columns_in_f64(s, of_block, ROWS, ROWS, classes, core::slice::from_ref(block));
        } else {
            for of_class in of_block.as_chunks_mut::<ROWS>().0 {
                for (lane, e) in Lane::of_bits(u32::MAX).zip(of_class) {
                    *e = (f64::from(*e) * scale_of(block, lane)) as f32;
                }
            }
        }
        block.scale = Lanes::splat(1.0);
    }
}

/// The gradient elements of each class, of the lanes from `at` on.
#[inline(always)]
fn elements<S: Vector, const C: usize>(s: S, exponentials: &[f32], block: &RowBlock, at: usize) -> [S::F; FOUR] {
    let [first, second, third] = labels_below(s, s.load(block.loss.as_slice(), at));
    let (scale, of_label) = (s.load(block.scale.as_slice(), at), s.load(block.at_reference.as_slice(), at));
    let mut of_others = [of_label; 3];
    for (element, e) in of_others.iter_mut().zip(exponentials.chunks_exact(ROWS)) {
        *element = s.mul(s.load(e, at), scale);
    }
    let [a, b, c] = of_others;
    let last = s.select(second, b, s.select(third, of_label, c));
    [
        s.select(first, of_label, a),
        s.select(first, a, s.select(second, of_label, b)),
        last,
        s.select(third, c, of_label),
    ]
}

/// Writes the gradient as columns of the rows of all blocks.
fn write_columns<S: Vector, const C: usize>(s: S, exponentials: &[f32], blocks: &[RowBlock], spare: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            let stride = blocks.len().wrapping_mul(ROWS);
            let exponentials = exponentials.chunks_exact(const { (C - 1) * ROWS });
            let mut row = 0_usize;
            for (block, exponentials) in blocks.iter().zip(exponentials) {
                for at in (0..ROWS).step_by(S::LANES) {
                    let mut to = row.wrapping_add(at);
                    for &element in elements::<S, C>(s, exponentials, block, at).iter().take(C) {
                        s.store(element, spare, to);
                        to = to.wrapping_add(stride);
                    }
                }
                row = row.wrapping_add(ROWS);
            }
        },
    )
}

/// Writes whole blocks of the gradient, transposed back to contiguous rows.
fn write_rows<S: Vector, const C: usize>(s: S, exponentials: &[f32], blocks: &[RowBlock], to: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            let mut left = to;
            for (block, exponentials) in blocks.iter().zip(exponentials.chunks_exact(const { (C - 1) * ROWS })) {
                for at in (0..ROWS).step_by(S::LANES) {
                    for vector in s.columns_to_fours(elements::<S, C>(s, exponentials, block, at)) {
                        // Lanes beyond a quarter of the rows are overwritten by the next.
                        s.store_partial(if C == FOUR { vector } else { s.fours_to_threes(vector) }, left);
                        left = left.get_mut(in_quarters::<S, C>(0, 1)..).unwrap_or(&mut []);
                    }
                }
            }
        },
    )
}
