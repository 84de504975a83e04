//! Sums of exponentials that nobody needs afterwards: they are added up as they are computed.

use super::exp::{all_in_range, exp_in_range};
use super::lanes::Lane;
use super::limits::{BLOCK, ROWS};
use super::sums::{Columns, Tail};
use super::tile::RowBlock;
use super::part;
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// Fills Σ_{k≠r} exp(x_k) and x_r of each row, where r is the class of its reference; whether all logits were in range.
pub(crate) struct ExponentialSums<'a> {
    /// Rows of so many classes, and as many elements more as a sum reaches beyond a row.
    pub(crate) logits: &'a [f32],
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for ExponentialSums<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> bool {
        let Self { logits, classes, rows, blocks } = self;
        let (tail, mut union) = (Tail::new(s, classes), s.splat_bits(0));
        let mut left = rows;
        let mut start = 0_usize;
        for block in blocks {
            for lane in Lane::all().take(left) {
                let row = logits.get(start..).unwrap_or(&[]);
                start = start.wrapping_add(classes);
                let class = block.class[lane];
                block.logit[lane] = row.get(class).copied().unwrap_or(0.0);
                block.sum[lane] = sum(s, &tail, row, classes, class, &mut union);
            }
            left = left.saturating_sub(ROWS);
        }
        all_in_range(s, union)
    }
}

#[inline(always)]
fn sum<S: Vector>(s: S, tail: &Tail<S>, row: &[f32], len: usize, class: usize, union: &mut S::U) -> f64 {
    let (mut total, mut row, mut left) = (0.0, row, len);
    let mut reference = s.splat(class as i32 as f32);
    while left > 0 {
        let count = left.min(BLOCK);
        let mut columns = Columns::new(s);
        if let Some(block) = row.first_chunk::<BLOCK>() && count == BLOCK {
            for quad in block.chunks_exact(4 * S::LANES).enumerate() {
                add_four(s, quad, reference, &mut columns, union);
            }
        } else {
            let mut r = reference;
            let (pairs, _) = part(row, 0, count.next_multiple_of(32)).as_chunks::<{ 2 * VIRTUAL_LANES }>();
            let mut c = count;
            for pair in pairs {
                for at in (0..32).step_by(S::LANES) {
                    if at < c {
                    let (e, bits) = exp_in_range(s, s.load(pair, at));
                    *union = s.or_bits(*union, bits);
                    let is_reference = s.equal(s.load(&NUMBERS, at), r);
                    let e = s.select(is_reference, s.splat(0.0), e);
                    let e = if c < 32 { s.select(tail.masks[at / S::LANES], e, s.splat(0.0)) } else { e };
                    columns.0[at / S::LANES] = s.add(columns.0[at / S::LANES], e);
                    }
                }
                r = s.sub(r, s.splat(32.0));
                c = c.saturating_sub(32);
            }
        }
        total += columns.total(s, count);
        row = row.get(count..).unwrap_or(&[]);
        left = left.wrapping_sub(count);
        reference = s.sub(reference, s.splat(BLOCK as f32));
    }
    total
}

#[inline(always)]
fn add_four<S: Vector>(s: S, (number, four): (usize, &[f32]), reference: S::F, columns: &mut Columns<S>, union: &mut S::U) {
    let at = |i: usize| i * S::LANES;
    use super::exp::begin;
    let b = [begin(s, s.load(four, at(0))), begin(s, s.load(four, at(1))), begin(s, s.load(four, at(2))), begin(s, s.load(four, at(3)))];
    let (e0, e1) = (super::exp::end_both(s, [b[0], b[1]], union), super::exp::end_both(s, [b[2], b[3]], union));
    let e = [e0[0], e0[1], e1[0], e1[1]];
    for i in 0..4 {
        let v = number * 4 + i;
        let is_reference = s.equal(s.load(&NUMBERS, v * S::LANES), reference);
        let c = &mut columns.0[v % S::OF_TWO];
        *c = s.add(*c, s.select(is_reference, s.splat(0.0), e[i]));
    }
}

/// The numbers of the elements of a block.
const NUMBERS: [f32; BLOCK] = {
    let mut numbers = [0.0; BLOCK];
    let mut at = 0;
    while at < numbers.len() {
        numbers[at] = at as f32;
        at += 1;
    }
    numbers
};
