//! The largest logit of each row and its class, the reference of losses that need every log p.

use super::limits::ROWS;
use super::part;
use super::tile::RowBlock;
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// Fills the reference of each row, and its logit.
pub(crate) struct References<'a> {
    /// Rows of so many classes; faster where as many elements more follow as a vector has.
    pub(crate) logits: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for References<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        match self.classes.div_ceil(S::LANES) {
            1 if S::WIDE => self.find::<S, 1>(s),
            2 if S::WIDE => self.find::<S, 2>(s),
            _ => self.find::<S, 0>(s),
        }
    }
}

impl References<'_> {
    /// In rows of so many vectors; of any number where that is 0.
    #[inline(always)]
    fn find<S: Vector, const VECTORS: usize>(self, s: S) {
        let Self { logits, classes, blocks } = self;
        let mut rows = logits;
        for block in blocks {
            for first in (0..ROWS).step_by(S::LANES) {
                if !S::WIDE || rows.len() < S::LANES * (classes + 1) {
                    for lane in first..first + S::LANES {
                        (block.logit[lane], block.class[lane]) = largest(s, part(rows, 0, classes.min(rows.len())));
                        rows = rows.get(classes..).unwrap_or(&[]);
                    }
                    continue;
                }
                s.store(largest_of_rows::<S, VECTORS>(s, rows, classes), &mut block.logit, first);
                for lane in first..first + S::LANES {
                    block.class[lane] = first_class::<S, VECTORS>(s, rows, classes, block.logit[lane]);
                    rows = rows.get(classes..).unwrap_or(&[]);
                }
            }
        }
    }
}

/// The largest logit of each of the first `LANES` rows, after which there are as many elements more. They are rows of so many
/// vectors; of any number where that is 0.
#[inline(always)]
pub(crate) fn largest_of_rows<S: Vector, const VECTORS: usize>(s: S, rows: &[f32], classes: usize) -> S::F {
    let lowest = s.splat(f32::NEG_INFINITY);
    let whole = if VECTORS > 0 { (VECTORS - 1) * S::LANES } else { classes.saturating_sub(1) / S::LANES * S::LANES };
    let last = s.first_lanes(classes - whole);
    let (mut most, mut row) = ([lowest; VIRTUAL_LANES], rows);
    for most in most.iter_mut().take(S::LANES) {
        let mut of_row = s.select(last, s.load(row, whole), lowest);
        for x in part(row, 0, whole).chunks_exact(S::LANES) {
            of_row = s.at_least(s.load(x, 0), of_row);
        }
        *most = of_row;
        row = row.get(classes..).unwrap_or(&[]);
    }
    largest_lanes(s, most)
}

/// The largest lane of each of the first `LANES` vectors.
#[inline(always)]
fn largest_lanes<S: Vector>(s: S, mut of: [S::F; VIRTUAL_LANES]) -> S::F {
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            let (a, b) = s.zip(of[i], of[i + half]);
            of[i] = s.at_least(a, b);
        }
        half /= 2;
    }
    of[0]
}

/// The classes that are looked through at once.
const AT_ONCE: usize = 64;

/// The first class whose logit this is; 0 where there is none. Vectors may reach beyond the row.
#[inline(always)]
fn first_class<S: Vector, const VECTORS: usize>(s: S, row: &[f32], classes: usize, logit: f32) -> usize {
    let sought = s.splat(logit);
    let reach = if VECTORS > 0 { VECTORS * S::LANES } else { classes.next_multiple_of(S::LANES) };
    for (first, vectors) in (0..reach).step_by(AT_ONCE).zip(part(row, 0, reach).chunks(AT_ONCE)) {
        let mut bits = 0;
        for (number, x) in vectors.chunks_exact(S::LANES).enumerate() {
            bits |= u64::from(s.bits_of_mask(s.equal(s.load(x, 0), sought))) << (number * S::LANES);
        }
        if bits != 0 || VECTORS > 0 {
            let class = first + bits.trailing_zeros() as usize;
            return if class < classes { class } else { 0 };
        }
    }
    0
}

/// The largest logit and the first class that has it; class 0 where there is none.
#[inline(always)]
pub(crate) fn largest<S: Vector>(s: S, row: &[f32]) -> (f32, usize) {
    let mut most = s.splat(f32::NEG_INFINITY);
    let whole = row.chunks_exact(S::LANES);
    let tail = s.load_some(whole.remainder(), f32::NEG_INFINITY);
    for x in whole {
        most = s.at_least(s.load(x, 0), most);
    }
    let lanes = s.to_array(s.at_least(tail, most));
    let mut largest = lanes[0];
    for &lane in lanes.iter().take(S::LANES) {
        largest = if lane > largest { lane } else { largest };
    }
    // From the last to the first, without a branch that could not be foretold.
    let sought = s.splat(largest);
    let whole = row.chunks_exact(S::LANES);
    let mut start = row.len() - whole.remainder().len();
    let bits = s.bits_of_mask(s.equal(tail, sought));
    // Lanes after the last are −∞, which is found only where all are.
    let mut found = if bits != 0 { start + bits.trailing_zeros() as usize } else { 0 };
    for x in whole.rev() {
        start -= S::LANES;
        let bits = s.bits_of_mask(s.equal(s.load(x, 0), sought));
        found = if bits != 0 { start + bits.trailing_zeros() as usize } else { found };
    }
    (largest, if found < row.len() { found } else { 0 })
}
