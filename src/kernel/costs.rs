//! Σ_{j≠y} fp[y,j]·(−log(1 − p_j)): the costs of mistakes of Ho & Wookey.
//!
//! For every class but the reference p ≤ ½, so that −log(1 − p) = p·g(p) with a polynomial. What p is made of, the
//! exponential and what makes it a probability, is multiplied last, in f64: no product leaves its range before.

use super::terms::TermBlock;
use super::tile::{RowBlock, rows_of_blocks};
use super::{chunks, double, part, part_mut};
use crate::backend::vector::{Operation, Vector};

/// Coefficients of −log(1 − p)/z in z², where z = p/(2 − p): 2^−27.7 for p in [0, ½].
const W: [u32; 5] = [0x4000_0000, 0x3f2a_aa81, 0x3ecc_e8e6, 0x3e8f_6020, 0x3e8f_650c];

/// −log(1 − p)/p for p in [0, ½].
#[inline(always)]
pub(super) fn log_over_p<S: Vector>(s: S, p: S::F) -> S::F {
    let inverse = s.div(s.splat(1.0), s.sub(s.splat(2.0), p));
    let z = s.mul(p, inverse);
    let z2 = s.mul(z, z);
    let c = |i: usize| s.splat(f32::from_bits(W[i]));
    let w = s.mul_add(c(4), z2, c(3));
    let w = s.mul_add(w, z2, c(2));
    let w = s.mul_add(w, z2, c(1));
    s.mul(s.mul_add(w, z2, c(0)), inverse)
}

/// Writes rows of fp[y,j]·e_j·g(p_j) and of fp[y,j]·e_j/(1 − p_j), where e_j is what makes p_j with the share of the row, and
/// fills the costs of the references.
pub(crate) struct CostProducts<'a> {
    pub(crate) matrix: &'a [f32],
    /// Rows of so many classes, those of the references 0, and as many elements more as a vector has; so are the products.
    pub(crate) exponentials: &'a [f32],
    pub(crate) logs: &'a mut [f32],
    pub(crate) odds: &'a mut [f32],
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: &'a [RowBlock],
    pub(crate) terms: &'a mut [TermBlock],
}

impl Operation for CostProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { matrix, exponentials, logs, odds, classes, rows, blocks, terms } = self;
        let one = s.splat(1.0);
        let (mut start, reach) = (0, classes.next_multiple_of(S::LANES));
        for ((block, terms), rows) in blocks.iter().zip(terms).zip(rows_of_blocks(rows)) {
            for lane in 0..rows {
                let costs = part(matrix, terms.label[lane].wrapping_mul(classes), classes);
                let share = s.splat(block.share[lane] as f32);
                let e = part(exponentials, start, reach).chunks_exact(S::LANES);
                // What is written beyond the end of a row is written again with the next.
                let logs = part_mut(logs, start, reach).chunks_exact_mut(S::LANES);
                let odds = part_mut(odds, start, reach).chunks_exact_mut(S::LANES);
                for (((e, cost), log), odds) in e.zip(chunks(costs, S::LANES)).zip(logs).zip(odds) {
                    let e = s.load(e, 0);
                    let (p, product) = (s.mul(e, share), s.mul(s.load_some(cost, 0.0), e));
                    s.store(s.mul(product, log_over_p(s, p)), log, 0);
                    s.store(s.div(product, s.sub(one, p)), odds, 0);
                }
                // E = (1 − p_m)/p_m
                terms.log_excluded[lane] = double::log(block.miss[lane] / (1.0 - block.miss[lane]));
                terms.cost_reference[lane] = f64::from(costs.get(block.class[lane]).copied().unwrap_or(0.0));
                start += classes;
            }
        }
    }
}
