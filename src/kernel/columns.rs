//! Rows of three and four classes, transposed: a vector holds one class of several rows, so that leaving out the
//! label's exponential and writing its gradient element are blends, not a store for each row.

use super::exp::Exponentials;
use super::general::mark;
use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{copy, from_row_mut, part, part_mut, rows_of, rows_of_mut, whole};
use crate::backend::vector::{Operation, Vector};

/// The row stride before the transpose; with three classes the last element is padding.
const FOUR: usize = 4;

/// Fills the logits of the labels and the sums without their exponentials, for rows that fit the tile, and leaves the
/// exponentials there for [`write_gradient`]. Blocks with a logit out of range are marked; returns whether there is
/// none.
pub(crate) fn sums<S: Vector, const C: usize>(
    s: S,
    batch: &Batch<'_>,
    tile: &mut Tile<'_>,
    first: usize,
    count: usize,
) -> bool {
    let half = tile.room() / 2;
    let (columns, spare) = tile.numbers.split_at_mut_checked(half).unwrap_or_default();
    let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
    let dense = batch.as_tile().map(|logits| rows_of(logits, first, count, C));
    let place = Place { first, rows: count, start: 0, width: C };
    let whole = whole(count, ROWS);
    let rows = if C == FOUR
        && whole == count
        && let Some(logits) = dense
    {
        logits
    } else {
        let spare = rows_of_mut(spare, 0, blocks.len(), ROWS * FOUR);
        // Padding must be in range.
        from_row_mut(spare, whole, FOUR).fill(0.0);
        match dense {
            Some(logits) => s.run(Spaced::<C> { rows: logits, to: spare }),
            None if C == FOUR => batch.load_rows(s, place, spare),
            None => {
                batch.load_rows(s, place, columns);
                s.run(Spaced::<C> { rows: rows_of(columns, 0, count, C), to: spare });
            }
        }
        &*spare
    };
    s.run(Transpose::<C> { rows, to: columns, blocks });
    let all = s.run(Exponentials { logits: None, to: columns, count: blocks.len().wrapping_mul(const { ROWS * C }) });
    if !all {
        mark(s, Some(rows_of(rows, 0, count, FOUR)), FOUR, blocks);
    }
    s.run(ColumnSums::<C> { exponentials: columns, blocks });
    all
}

/// Copies rows of C elements to a stride of four.
struct Spaced<'a, const C: usize> {
    rows: &'a [f32],
    to: &'a mut [f32],
}

impl<const C: usize> Operation for Spaced<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, _: S) {
        let (mut rows, (to, _)) = (self.rows, self.to.as_chunks_mut::<FOUR>());
        for to in to {
            // The row and one element of padding.
            if let Some(row) = rows.first_chunk() {
                *to = *row;
            } else {
                copy(to, part(rows, 0, C));
            }
            rows = rows.get(C..).unwrap_or(&[]);
        }
    }
}

/// The index of vector `number` of the rows from `at` on, at a stride of four.
#[inline(always)]
fn in_fours<S: Vector>(at: usize, number: usize) -> usize {
    at.wrapping_mul(FOUR).wrapping_add(number.wrapping_mul(S::LANES))
}

/// Transposes each block of rows to columns, and fills the logits of the labels.
struct Transpose<'a, const C: usize> {
    /// Whole blocks, at a stride of four.
    rows: &'a [f32],
    to: &'a mut [f32],
    blocks: &'a mut [RowBlock],
}

impl<const C: usize> Operation for Transpose<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let rows = self.rows.as_chunks::<{ FOUR * ROWS }>().0;
        let columns = self.to.chunks_exact_mut(const { C * ROWS });
        for ((block, rows), to) in self.blocks.iter_mut().zip(rows).zip(columns) {
            let labels = block.labels();
            for at in (0..ROWS).step_by(S::LANES) {
                let of = |number: usize| s.load(rows, in_fours::<S>(at, number));
                let (a, b) = (s.deinterleave(of(0), of(1)), s.deinterleave(of(2), of(3)));
                let (even, odd) = (s.deinterleave(a.0, b.0), s.deinterleave(a.1, b.1));
                let (columns, label) = ([even.0, odd.0, even.1, odd.1], s.load(labels.as_slice(), at));
                let mut logit = columns[0];
                for (class, &column) in columns.iter().enumerate().take(C) {
                    logit = s.select(s.equal(label, s.splat(class as f32)), column, logit);
                    s.store(column, to, class.wrapping_mul(ROWS).wrapping_add(at));
                }
                s.store(logit, block.logit.as_mut_slice(), at);
            }
        }
    }
}

/// Adds the exponentials but that of the label of each row, in the order of [`super::sums`].
struct ColumnSums<'a, const C: usize> {
    exponentials: &'a [f32],
    blocks: &'a mut [RowBlock],
}

impl<const C: usize> Operation for ColumnSums<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        for (block, columns) in self.blocks.iter_mut().zip(self.exponentials.chunks_exact(const { C * ROWS })) {
            let (labels, mut found) = (block.labels(), [Lanes::splat(0.0); FOUR]);
            for (class, (column, found)) in columns.as_chunks::<ROWS>().0.iter().zip(&mut found).enumerate() {
                for at in (0..ROWS).step_by(S::LANES) {
                    let is_label = s.equal(s.load(labels.as_slice(), at), s.splat(class as f32));
                    s.store(s.select(is_label, s.splat(0.0), s.load(column, at)), found.as_mut_slice(), at);
                }
            }
            let [a, b, c, d] = found;
            for i in Lane::all() {
                block.sum[i] = (f64::from(a[i]) + f64::from(c[i])) + (f64::from(b[i]) + f64::from(d[i]));
            }
        }
    }
}

/// Writes the gradient of the rows that are not marked.
pub(crate) fn write_gradient<S: Vector, const C: usize>(
    s: S,
    batch: &mut Batch<'_>,
    tile: &mut Tile<'_>,
    first: usize,
    count: usize,
) {
    let half = tile.room() / 2;
    let (columns, spare) = tile.numbers.split_at_mut_checked(half).unwrap_or_default();
    let blocks = part(tile.blocks, 0, count.div_ceil(ROWS));
    let all = blocks.iter().all(|block| block.marked == 0) && count.is_multiple_of(ROWS);
    let dense = match batch.gradient.as_deref_mut() {
        Some(gradient) if all && batch.rows.are_dense() => Some(rows_of_mut(gradient, first, count, C)),
        _ => None,
    };
    match dense {
        Some(to) => s.run(ColumnGradient::<C> { exponentials: columns, blocks, to }),
        None => {
            s.run(ColumnGradient::<C> {
                exponentials: columns,
                blocks,
                to: rows_of_mut(spare, 0, blocks.len(), const { ROWS * C }),
            });
            batch.store_unmarked(s, Place { first, rows: count, start: 0, width: C }, spare, blocks);
        }
    }
}

/// Writes whole blocks of the gradient, transposed back to contiguous rows.
struct ColumnGradient<'a, const C: usize> {
    exponentials: &'a [f32],
    blocks: &'a [RowBlock],
    to: &'a mut [f32],
}

impl<const C: usize> Operation for ColumnGradient<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let mut rows = [0.0; FOUR * ROWS];
        let columns = self.exponentials.chunks_exact(const { C * ROWS });
        for ((block, columns), to) in self.blocks.iter().zip(columns).zip(self.to.chunks_exact_mut(const { C * ROWS }))
        {
            let labels = block.labels();
            for at in (0..ROWS).step_by(S::LANES) {
                let (label, scale) = (s.load(labels.as_slice(), at), s.load(block.scale.as_slice(), at));
                let mut elements = [s.splat(0.0); FOUR];
                for (class, element) in elements.iter_mut().enumerate().take(C) {
                    let is_label = s.equal(label, s.splat(class as f32));
                    let scaled = s.mul(s.load(columns, class.wrapping_mul(ROWS).wrapping_add(at)), scale);
                    *element = s.select(is_label, s.load(block.at_reference.as_slice(), at), scaled);
                }
                let [a, b, c, d] = elements;
                let (even, odd) = (s.interleave(a, c), s.interleave(b, d));
                let (low, high) = (s.interleave(even.0, odd.0), s.interleave(even.1, odd.1));
                for (number, vector) in [low.0, low.1, high.0, high.1].into_iter().enumerate() {
                    if C == FOUR {
                        s.store(vector, to, in_fours::<S>(at, number));
                    } else {
                        s.store(vector, &mut rows, in_fours::<S>(at, number));
                    }
                }
            }
            if C != FOUR {
                // The element after a row is overwritten by the next row.
                let mut left = to;
                for row in rows.as_chunks::<FOUR>().0 {
                    if let Some(to) = left.first_chunk_mut() {
                        *to = *row;
                    } else {
                        copy(left, part(row, 0, C));
                    }
                    left = left.get_mut(C..).unwrap_or(&mut []);
                }
            }
        }
    }
}
