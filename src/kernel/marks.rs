//! The marks of rows out of range: those with a logit that needs a reference, which the fast way leaves to others.

use super::chunks;
use super::exp::{all_in_range, exp_in_range};
use super::lanes::Lane;
use super::limits::ROWS;
use super::tile::RowBlock;
use crate::backend::vector::Vector;

/// Marks the rows that have a logit out of range of the fast way.
pub(crate) fn mark_rows<S: Vector>(s: S, logits: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let mut rows = logits.chunks_exact(classes.max(1));
            for block in blocks {
                for (lane, row) in Lane::all().zip(rows.by_ref()) {
                    if !is_in_range(s, row) {
                        block.marked |= lane.bit();
                    }
                }
            }
        },
    )
}

/// Whether all logits are in range of the fast way: x·log2 e, rounded to a step of
/// [`super::exp`], is in [−64, 64).
#[inline(always)]
pub(crate) fn is_in_range<S: Vector>(s: S, logits: &[f32]) -> bool {
    let mut union = exp_in_range(s, s.splat(0.0)).1;
    let vectors = logits.chunks_exact(S::LANES);
    if !vectors.remainder().is_empty() {
        // The tail as a full vector that overlaps the one before, if there is one.
        let last = logits.len().checked_sub(S::LANES).and_then(|at| s.try_load(logits, at));
        let last = last.unwrap_or_else(
            #[inline(always)]
            || s.load_partial(logits, 0.0),
        );
        union = s.or_bits(union, exp_in_range(s, last).1);
    }
    for x in vectors {
        union = s.or_bits(union, exp_in_range(s, s.load(x, 0)).1);
    }
    all_in_range(s, union)
}

/// [`is_in_range`] as a phase.
pub(crate) fn row_is_in_range<S: Vector>(s: S, row: &[f32]) -> bool {
    s.run(
        #[inline(always)]
        || is_in_range(s, row),
    )
}

/// Marks all rows of each block that has a logit out of range; of all blocks if the logits are overwritten (`None`).
/// [`super::general`] returns the same bits for rows in range.
#[cold]
#[inline(never)]
pub(crate) fn mark<S: Vector>(s: S, logits: Option<&[f32]>, classes: usize, blocks: &mut [RowBlock]) {
    let Some(logits) = logits else { return blocks.iter_mut().for_each(|block| block.marked = u32::MAX) };
    s.run(
        #[inline(always)]
        move || {
            for (block, logits) in blocks.iter_mut().zip(chunks(logits, ROWS.wrapping_mul(classes).max(1))) {
                if !is_in_range(s, logits) {
                    block.marked = u32::MAX;
                }
            }
        },
    )
}

/// Calls [`mark`]; whether every block is marked.
pub(crate) fn marks_all<S: Vector>(s: S, logits: Option<&[f32]>, classes: usize, blocks: &mut [RowBlock]) -> bool {
    mark(s, logits, classes, blocks);
    blocks.iter().all(|block| block.marked != 0)
}
