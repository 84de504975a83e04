//! Rows of two classes: softplus of the gap, the other logit minus that of the label. e^−|gap| is that of the exact
//! gap, an unevaluated sum of two f32. In a block, `logit` is the gap, `at_reference` 1 where the label is class 0 and −1
//! where it is class 1, `shift` + `power` −|gap|, `scale` e^−|gap|.
//!
//! The weighted loss is computed in f32, with rounding errors where they matter; other losses, from log(1 + e^gap) in f64.

use super::exp;
use super::lanes::{Lane, Lanes};
use super::limits::{LEAST_GAP, LEAST_SPLIT, ROWS};
use super::sums::is_worth_code;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{copy, f64_math, log1p, rows_of_mut};
use crate::backend::vector::Vector;

/// Fills the gaps, the signs of the labels and e^−|gap|; returns whether all rows are [`is_near`].
pub(crate) fn exponentials_of_gaps<S: Vector>(s: S, logits: &[f32], blocks: &mut [RowBlock]) -> bool {
    s.run(
        #[inline(always)]
        move || {
            // Short loops over all rows, one after the other, so that the processor overlaps rows.
            let (mut seen, mut padded) = (Seen::new(s), [0.0; 2 * ROWS]);
            for (block, logits) in blocks.iter_mut().zip(logits.chunks(2 * ROWS)) {
                let logits = logits.first_chunk().unwrap_or_else(
                    #[inline(always)]
                    || {
                        copy(&mut padded, logits);
                        &padded
                    },
                );
                gaps(s, logits, block, &mut seen);
            }
            for block in &mut *blocks {
                let mut exponentials = Lanes::splat(0.0);
                for at in (0..ROWS).step_by(S::LANES) {
                    let e = exp::exp_of_pair(s, s.load(block.shift.as_slice(), at), s.load(block.power.as_slice(), at));
                    s.store(e, exponentials.as_mut_slice(), at);
                }
                block.scale = exponentials;
            }
            seen.are_near(s)
        },
    )
}

/// The sum and the least of −|gap| so far.
struct Seen<F> {
    sum: F,
    least: F,
}

impl<F: Copy> Seen<F> {
    #[inline(always)]
    fn new<S: Vector<F = F>>(s: S) -> Self {
        Self { sum: s.splat(0.0), least: s.splat(0.0) }
    }

    #[inline(always)]
    fn add<S: Vector<F = F>>(&mut self, s: S, size: F) {
        (self.sum, self.least) = (s.add(self.sum, size), s.at_most(size, self.least));
    }

    /// Whether all are [`is_near`]. A minimum passes over NaN; a sum does not.
    #[inline(always)]
    fn are_near<S: Vector<F = F>>(&self, s: S) -> bool {
        let (sum, least, mut all) = (s.to_array(self.sum), s.to_array(self.least), true);
        for (sum, &least) in sum.iter().zip(&least).take(S::LANES) {
            all &= !sum.is_nan() & (least >= LEAST_GAP);
        }
        all
    }
}

/// Whether e^−|gap| is a normal f32; false for NaN.
#[inline(always)]
pub(crate) fn is_near(gap: f32) -> bool {
    gap.abs() <= -LEAST_GAP
}

/// Weights of rows of two classes.
#[derive(Clone, Copy)]
pub(crate) enum Weighing {
    /// Those of the classes, in blocks without a row that does not count.
    Classes([f32; 2]),
    /// Those of the rows, which are f32.
    Rows,
    /// Those of the rows, products of two f32.
    Samples,
}

/// Fills the losses of `rows` rows, weight·log(1 + e^gap). Equal weights give the same bits however they come.
pub(crate) fn losses_of_gaps<S: Vector>(s: S, weighing: Weighing, rows: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let (mut by_row, are_products) = (blocks, matches!(weighing, Weighing::Samples));
            if let Weighing::Classes([first, second]) = weighing
                && const { is_worth_code::<S>() }
            {
                let (whole, last) = by_row.split_at_mut_checked(rows / ROWS).unwrap_or_default();
                by_row = last;
                // + 0.0 turns −0 to +0: with a weight of 0 the loss is exactly +0.
                let (first, second, zero) = (s.splat(first + 0.0), s.splat(second + 0.0), s.splat(0.0));
                for block in whole {
                    let mut losses = Lanes::splat(0.0);
                    for at in (0..ROWS).step_by(S::LANES) {
                        let sign = s.load(block.at_reference.as_slice(), at);
                        let (weight, (top, rest)) = (s.select(s.less(sign, zero), second, first), log(s, block, at));
                        s.store(s.mul_add(weight, top, s.mul(weight, rest)), losses.as_mut_slice(), at);
                    }
                    block.loss = losses;
                }
            }
            for block in by_row {
                losses_by_row_weight(s, are_products, block);
            }
        },
    )
}

/// log(1 + e^gap) as a sum of two f32.
#[inline(always)]
fn log<S: Vector>(s: S, block: &RowBlock, at: usize) -> (S::F, S::F) {
    let over = s.at_least(s.load(block.logit.as_slice(), at), s.splat(0.0));
    let (high, rest) = log1p::in_two_parts(s, s.load(block.scale.as_slice(), at));
    let top = s.add(over, high);
    (top, s.add(rest, s.sub(high, s.sub(top, over))))
}

/// [`losses_of_gaps`] with the weights of the rows, in two parts if they `are_products`.
#[inline(always)]
fn losses_by_row_weight<S: Vector>(s: S, are_products: bool, block: &mut RowBlock) {
    let (weight, mut high, mut low) = (block.weight, Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        high[i] = weight[i] as f32;
    }
    let mut is_far = Lanes::splat(0);
    if are_products {
        for i in Lane::all() {
            let rest = weight[i] - f64::from(high[i]);
            let is_split = (high[i].abs() >= LEAST_SPLIT) & (high[i].abs() <= f32::MAX);
            is_far[i] = u32::from((rest != 0.0) & !is_split);
            low[i] = rest as f32;
        }
    }
    let (mut losses, mut tops, mut rests) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let ((top, rest), weight) = (log(s, block, at), s.load(high.as_slice(), at));
        let low = s.mul_add(s.load(low.as_slice(), at), top, s.mul(weight, rest));
        s.store(s.mul_add(weight, top, low), losses.as_mut_slice(), at);
        s.store(top, tops.as_mut_slice(), at);
        s.store(rest, rests.as_mut_slice(), at);
    }
    // Weights that two f32 do not hold.
    for lane in Lane::of_bits(is_far.mask()) {
        losses[lane] = ((f64::from(tops[lane]) + f64::from(rests[lane])) * weight[lane]) as f32;
    }
    block.loss = losses;
}

/// Fills `log` = log(1 + e^gap), `sum` = log(1 + e^−|gap|) and, if asked for, p_y and 1 − p_y.
pub(crate) fn logs_of_gaps<S: Vector>(s: S, with_probabilities: bool, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for block in &mut *blocks {
                logs(s, block);
            }
            for block in blocks.iter_mut().filter(|_| with_probabilities) {
                probabilities(block);
            }
        },
    )
}

/// Rows that are not [`is_near`]: marks those whose gap is +∞ or NaN. Of others 1 + e^−|gap| is 1, and log(1 + e^−|gap|) is
/// e^−|gap|, in f64. Returns whether no row is marked.
pub(crate) fn logs_of_far_gaps<S: Vector>(s: S, logits: &[f32], blocks: &mut [RowBlock]) -> bool {
    s.run(
        #[inline(always)]
        move || {
            let mut none = true;
            for (block, logits) in blocks.iter_mut().zip(logits.chunks(2 * ROWS)) {
                let (rounded, gaps, weight) = (block.logit, exact_gaps(logits, &block.class), block.weight);
                let (near_log, near_p, near_miss) = (block.log, block.share, block.one_minus_p);
                // Behind a barrier: selections in place would compile to masked stores.
                let near_loss = core::hint::black_box(block.loss);
                let (mut log, mut p, mut miss) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
                let (mut loss, mut special) = (Lanes::splat(0.0), Lanes::splat(0));
                for i in Lane::all() {
                    let e = f64_math::exp(-gaps[i].abs());
                    let (over, top) = if gaps[i] > 0.0 { (gaps[i], 1.0) } else { (0.0, e) };
                    let (is_far, is_special) = (!is_near(rounded[i]), gaps[i].is_nan() | (gaps[i] == f64::INFINITY));
                    special[i] = u32::from(is_special);
                    log[i] = if is_far { over + e } else { near_log[i] };
                    // Where p_y is tiny it is 0 beside 1 − p_y.
                    p[i] = if is_far { 1.0 - top } else { near_p[i] };
                    miss[i] = if is_far { top } else { near_miss[i] };
                    loss[i] = if is_far { (log[i] * weight[i] + 0.0) as f32 } else { near_loss[i] };
                }
                (block.log, block.share, block.one_minus_p, block.loss) = (log, p, miss, loss);
                block.marked = special.mask();
                none &= block.marked == 0;
            }
            none
        },
    )
}

/// The gaps of a block, in f64.
#[inline(always)]
pub(crate) fn exact_gaps(logits: &[f32], classes: &Lanes<usize>) -> Lanes<f64> {
    let mut gaps = Lanes::splat(0.0);
    for ((gap, [first, second]), class) in gaps.iter_mut().zip(logits.as_chunks::<2>().0).zip(classes) {
        let difference = f64::from(*second) - f64::from(*first);
        *gap = if *class == 0 { difference } else { -difference };
    }
    gaps
}

#[inline(always)]
fn logs<S: Vector>(s: S, block: &mut RowBlock) {
    let (mut over, mut highs, mut rests) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let (high, rest) = log1p::in_two_parts(s, s.load(block.scale.as_slice(), at));
        s.store(s.at_least(s.load(block.logit.as_slice(), at), s.splat(0.0)), over.as_mut_slice(), at);
        s.store(high, highs.as_mut_slice(), at);
        s.store(rest, rests.as_mut_slice(), at);
    }
    let (mut near, mut log) = (Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        near[i] = f64::from(highs[i]) + f64::from(rests[i]);
        log[i] = f64::from(over[i]) + near[i];
    }
    (block.sum, block.log) = (near, log);
}

/// p_y and 1 − p_y, in f64.
#[inline(always)]
fn probabilities(block: &mut RowBlock) {
    let (gap, e, mut p, mut miss) = (block.logit, block.scale, Lanes::splat(0.0), Lanes::splat(0.0));
    for i in Lane::all() {
        let e = f64::from(e[i]);
        let larger = 1.0 / (1.0 + e);
        (p[i], miss[i]) = if gap[i] > 0.0 { (e * larger, larger) } else { (larger, e * larger) };
    }
    (block.share, block.one_minus_p) = (p, miss);
}

/// Fills the gaps of a block, the signs of its labels, and −|gap|.
#[inline(always)]
fn gaps<S: Vector>(s: S, logits: &[f32; 2 * ROWS], block: &mut RowBlock, seen: &mut Seen<S::F>) {
    let signs = block.class.map(|class| if class == 0 { 1.0 } else { -1.0 });
    let (mut gaps, mut sizes, mut lows) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let (first, second) = s.deinterleave(
            s.load(logits, at.wrapping_mul(2)),
            s.load(logits, at.wrapping_mul(2).wrapping_add(S::LANES)),
        );
        let (difference, size, low) = gap(s, first, second);
        seen.add(s, size);
        s.store(s.mul(difference, s.load(signs.as_slice(), at)), gaps.as_mut_slice(), at);
        s.store(size, sizes.as_mut_slice(), at);
        s.store(low, lows.as_mut_slice(), at);
    }
    (block.logit, block.shift, block.power, block.at_reference) = (gaps, sizes, lows, signs);
}

/// The rounded difference; minus its magnitude; and the rounding error of the latter.
#[inline(always)]
fn gap<S: Vector>(s: S, first: S::F, second: S::F) -> (S::F, S::F, S::F) {
    let difference = s.sub(second, first);
    let back = s.sub(difference, second);
    let low = s.sub(s.sub(second, s.sub(difference, back)), s.add(first, back));
    // A positive difference is negated, and its low part with it.
    let top = s.splat_bits(0x8000_0000);
    let flip = s.sub_bits(top, s.and_bits(s.to_bits(difference), top));
    let turned = |x| s.of_bits(s.xor_bits(s.to_bits(x), flip));
    (difference, turned(difference), turned(low))
}

/// Writes the gradient of the rows that are not marked, from the elements of the other class.
pub(crate) fn write_two_classes<S: Vector>(s: S, batch: &mut Batch<'_>, tile: &mut Tile<'_>, place: Place) {
    match batch.gradient_in_place(place) {
        Some(gradient) => write_pairs(s, tile.blocks, gradient),
        None => {
            write_pairs(s, tile.blocks, rows_of_mut(tile.numbers, 0, place.rows, 2));
            batch.store_unmarked(s, place, tile.numbers, tile.blocks);
        }
    }
}

/// The gradient of rows of two classes, in pairs of opposite sign. Marked rows are left out.
fn write_pairs<S: Vector>(s: S, blocks: &[RowBlock], to: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            for (block, to) in blocks.iter().zip(to.chunks_mut(2 * ROWS)) {
                if block.marked == 0
                    && let Some(to) = to.first_chunk_mut()
                {
                    pairs(s, block, to);
                } else {
                    let mut both = [0.0; 2 * ROWS];
                    pairs(s, block, &mut both);
                    for ((lane, to), pair) in Lane::all().zip(to.chunks_mut(2)).zip(both.as_chunks::<2>().0) {
                        if !block.is_marked(lane) {
                            copy(to, pair);
                        }
                    }
                }
            }
        },
    )
}

/// Fills the gradient elements of the other class (as `power`), factor·`one_minus_p`.
pub(crate) fn exact_elements<S: Vector>(s: S, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for block in blocks {
                let (factor, miss, mut elements) = (block.factor, block.one_minus_p, Lanes::splat(0.0));
                for i in Lane::all() {
                    elements[i] = (factor[i] * miss[i]) as f32;
                }
                block.power = elements;
            }
        },
    )
}

/// [`exact_elements`] in f32, factor·(1 − p_y), where e^−|gap| is a normal f32, as in all rows if `are_near`.
pub(crate) fn rounded_elements<S: Vector>(s: S, are_near: bool, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let (one, zero) = (s.splat(1.0), s.splat(0.0));
            let mut non_finite = zero;
            for block in &mut *blocks {
                let (factor, mut factors, mut elements) = (block.factor, Lanes::splat(0.0), Lanes::splat(0.0));
                for i in Lane::all() {
                    factors[i] = factor[i] as f32;
                }
                for at in (0..ROWS).step_by(S::LANES) {
                    let (e, gap) = (s.load(block.scale.as_slice(), at), s.load(block.logit.as_slice(), at));
                    let (factor, top) = (s.load(factors.as_slice(), at), s.select(s.less(zero, gap), one, e));
                    non_finite = s.mul_add(factor, zero, non_finite);
                    s.store(s.mul(factor, s.div(top, s.add(one, e))), elements.as_mut_slice(), at);
                }
                block.power = elements;
            }
            if !are_near || s.to_array(non_finite).iter().fold(false, |any, x| any | (*x != 0.0)) {
                far_elements(blocks);
            }
        },
    )
}

/// Replaces elements whose factor or 1 − p_y f32 does not hold.
#[cold]
#[inline(never)]
fn far_elements(blocks: &mut [RowBlock]) {
    for block in blocks {
        for i in Lane::of_bits(u32::MAX) {
            let (gap, e, factor) = (block.logit[i], f64::from(block.scale[i]), block.factor[i]);
            if !is_near(gap) {
                block.power[i] = (factor * block.one_minus_p[i]) as f32;
            } else if (factor as f32).is_infinite() {
                block.power[i] = (factor * if gap > 0.0 { 1.0 } else { e } / (1.0 + e)) as f32;
            }
        }
    }
}

/// Interleaves the elements with the sign of the labels with their negatives.
#[inline(always)]
fn pairs<S: Vector>(s: S, block: &RowBlock, to: &mut [f32; 2 * ROWS]) {
    for at in (0..ROWS).step_by(S::LANES) {
        let second = s.mul(s.load(block.power.as_slice(), at), s.load(block.at_reference.as_slice(), at));
        let (low, high) = s.interleave(s.sub(s.splat(0.0), second), s.add(second, s.splat(0.0)));
        s.store(low, to, at.wrapping_mul(2));
        s.store(high, to, at.wrapping_mul(2).wrapping_add(S::LANES));
    }
}
