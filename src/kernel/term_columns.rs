//! Label smoothing of `[N, C, D]`, D > 1, where the label is the reference: as in [`super::positions`], a vector holds one
//! class of several rows, without a transpose. Returns the bits of the phases for rows.

use super::exp::Exponentials;
use super::lanes::Lanes;
use super::limits::ROWS;
use super::positions::{ColumnSums, add_terms_of_columns, exclude_labels, read_label_logits};
use super::row_scalars::Finish;
use super::rows_of_mut;
use super::term_scalars::TermBlock;
use super::tile::{Batch, Place, RowBlock};
use crate::backend::vector::{Operation, Vector};

/// Fills logits of the labels, sums and the scalars of [`Finish`], with `probabilities` all of them, and leaves columns of
/// exponentials in `numbers`. Returns `false` if a logit is out of range. `u` has one number for each class.
pub(crate) fn sums<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    (numbers, u): (&mut [f32], &[f32]),
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
    place: Place,
    probabilities: bool,
) -> bool {
    let (width, count) = (place.width, blocks.len().wrapping_mul(ROWS));
    let (numbers, size) = (rows_of_mut(numbers, 0, count, width), ROWS.wrapping_mul(width).max(1));
    for ((place, columns), block) in place.blocks().zip(numbers.chunks_exact_mut(size)).zip(&mut *blocks) {
        batch.load_columns(s, place, columns);
        read_label_logits(columns, 0, block);
    }
    s.run(GapSums { columns: numbers, u, blocks, terms });
    if !s.run(Exponentials { logits: None, count: count.wrapping_mul(width), to: &mut *numbers }) {
        return false;
    }
    for (columns, block) in numbers.chunks_exact_mut(size).zip(&mut *blocks) {
        block.sum = Lanes::splat(0.0);
        exclude_labels(columns, 0, block);
    }
    s.run(ColumnSums { exponentials: numbers, width, blocks: &mut *blocks });
    s.run(Finish::<false> { gradient: probabilities, blocks });
    true
}

/// Writes the gradient of the rows that are not marked, from the exponentials in `numbers`.
pub(crate) fn write_gradient<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    (numbers, spare): (&mut [f32], &mut [f32]),
    u: &[f32],
    blocks: &[RowBlock],
    terms: &[TermBlock],
    place: Place,
) {
    let (width, size) = (place.width, ROWS.wrapping_mul(place.width).max(1));
    let numbers = rows_of_mut(numbers, 0, blocks.len(), size);
    s.run(Gradient { columns: &mut *numbers, u, blocks, terms });
    if blocks.iter().any(|block| block.marked != 0) {
        for (columns, rows) in numbers.chunks_exact(size).zip(spare.chunks_exact_mut(size)) {
            for (at, element) in rows.iter_mut().enumerate() {
                let (row, class) = (at.checked_div(width).unwrap_or(0), at.checked_rem(width).unwrap_or(0));
                *element = columns.get(class.wrapping_mul(ROWS).wrapping_add(row)).copied().unwrap_or(0.0);
            }
        }
        return batch.store_unmarked(s, place, spare, blocks);
    }
    for (place, columns) in place.blocks().zip(numbers.chunks_exact(size)) {
        batch.store_columns(s, place, columns);
    }
}

/// Fills Σ u_c·(x_y − x_c).
struct GapSums<'a> {
    columns: &'a [f32],
    u: &'a [f32],
    blocks: &'a [RowBlock],
    terms: &'a mut [TermBlock],
}

impl Operation for GapSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, u, blocks, terms } = self;
        let of_blocks = columns.chunks_exact(ROWS.wrapping_mul(u.len()).max(1));
        for ((block, terms), columns) in blocks.iter().zip(terms).zip(of_blocks) {
            terms.gaps = Lanes::splat(0.0);
            add_terms_of_columns(
                s,
                columns,
                &mut terms.gaps,
                #[inline(always)]
                |sum, column, class, at| {
                    let u = s.splat(u.get(class).copied().unwrap_or(0.0));
                    s.mul_add(u, s.sub(s.load(block.logit.as_slice(), at), s.load(column, at)), sum)
                },
            );
        }
    }
}

/// The gradient, over the exponentials.
struct Gradient<'a> {
    columns: &'a mut [f32],
    u: &'a [f32],
    blocks: &'a [RowBlock],
    terms: &'a [TermBlock],
}

impl Operation for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, u, blocks, terms } = self;
        let of_blocks = columns.chunks_exact_mut(ROWS.wrapping_mul(u.len()).max(1));
        for ((block, terms), columns) in blocks.iter().zip(terms).zip(of_blocks) {
            for at in (0..ROWS).step_by(S::LANES) {
                let scale = s.load(block.scale.as_slice(), at);
                let factor = s.sub(s.splat(0.0), s.load(terms.factor.as_slice(), at));
                for (column, &u) in columns.as_chunks_mut::<ROWS>().0.iter_mut().zip(u) {
                    s.store(s.mul_add(s.load(column, at), scale, s.mul(s.splat(u), factor)), column, at);
                }
            }
            for ((lane, &class), &at_label) in (0..).zip(&block.class).zip(&block.at_reference) {
                if let Some(element) = columns.get_mut(class.wrapping_mul(ROWS).wrapping_add(lane)) {
                    *element = at_label;
                }
            }
        }
    }
}
