//! The marks of rows out of range: those with a logit that needs a reference, which the fast way leaves to others.

use super::chunks;
use super::exp::{all_in_range, exp_in_range};
use super::lanes::Lane;
use super::limits::ROWS;
use super::tile::RowBlock;
use crate::backend::vector::{Operation, Vector};

/// Marks the rows that have a logit out of range of the fast way.
pub(crate) struct MarkRows<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for MarkRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let mut rows = self.logits.chunks_exact(self.classes.max(1));
        for block in self.blocks {
            for (lane, row) in Lane::all().zip(rows.by_ref()) {
                if !is_in_range(s, row) {
                    block.marked |= lane.bit();
                }
            }
        }
    }
}

/// Whether all logits are in range of the fast way: x·log2 e rounds to an integer in [−64, 63].
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

/// [`is_in_range`] of a row, as an operation.
pub(crate) struct InRange<'a> {
    pub(crate) row: &'a [f32],
}

impl Operation for InRange<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> bool {
        is_in_range(s, self.row)
    }
}

/// Marks all rows of each block that has a logit out of range; of all blocks if the logits are overwritten (`None`).
/// [`super::general`] returns the same bits for rows in range.
#[cold]
#[inline(never)]
pub(crate) fn mark<S: Vector>(s: S, logits: Option<&[f32]>, classes: usize, blocks: &mut [RowBlock]) {
    match logits {
        Some(logits) => s.run(MarkBlocks { logits, classes, blocks }),
        None => blocks.iter_mut().for_each(|block| block.marked = u32::MAX),
    }
}

/// Calls [`mark`]; whether every block is marked.
pub(crate) fn marks_all<S: Vector>(s: S, logits: Option<&[f32]>, classes: usize, blocks: &mut [RowBlock]) -> bool {
    mark(s, logits, classes, blocks);
    blocks.iter().all(|block| block.marked != 0)
}

struct MarkBlocks<'a> {
    logits: &'a [f32],
    classes: usize,
    blocks: &'a mut [RowBlock],
}

impl Operation for MarkBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        for (block, logits) in self.blocks.iter_mut().zip(chunks(self.logits, ROWS.wrapping_mul(self.classes).max(1))) {
            if !is_in_range(s, logits) {
                block.marked = u32::MAX;
            }
        }
    }
}
