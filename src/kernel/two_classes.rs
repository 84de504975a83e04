//! Rows of two classes: softplus of the gap, the other logit minus that of the label. e^−|gap| is that of the exact
//! gap, an unevaluated sum of two f32. In a block, `logit` is the gap, `shift` + `power` −|gap|, `scale` e^−|gap|.

use super::exp;
use super::lanes::{Lane, Lanes};
use super::limits::{LEAST_GAP, ROWS};
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{copy, f64_math, log1p, rows_of_mut};
use crate::backend::vector::Vector;

/// Fills log(1 + e^gap) and 1 − p_y. Rows whose gap is below [`LEAST_GAP`], infinite or NaN are marked; returns whether
/// none is.
pub(crate) fn logs_of_gaps<S: Vector>(s: S, logits: &[f32], misses: Misses, blocks: &mut [RowBlock]) -> bool {
    s.run(
        #[inline(always)]
        move || {
            // Short loops over all rows, one after the other, so that the processor overlaps rows.
            // `non_finite` is a sum of gap·0: NaN if any gap is infinite or NaN.
            let (mut non_finite, mut least) = (s.splat(0.0), s.splat(0.0));
            for (block, logits) in blocks.iter_mut().zip(logits.chunks(2 * ROWS)) {
                let mut padded = [0.0; 2 * ROWS];
                let logits = logits.first_chunk().unwrap_or_else(
                    #[inline(always)]
                    || {
                        copy(&mut padded, logits);
                        &padded
                    },
                );
                (non_finite, least) = gaps(s, logits, block, (non_finite, least));
            }
            for block in &mut *blocks {
                let mut exponentials = Lanes::splat(0.0);
                for at in (0..ROWS).step_by(S::LANES) {
                    let e = exp::exp_of_pair(s, s.load(block.shift.as_slice(), at), s.load(block.power.as_slice(), at));
                    s.store(e, exponentials.as_mut_slice(), at);
                }
                block.scale = exponentials;
            }
            for block in &mut *blocks {
                logs(s, block);
            }
            match misses {
                Misses::None => {}
                Misses::Rounded => {
                    for block in &mut *blocks {
                        rounded_misses(s, block);
                    }
                }
                Misses::Exact => {
                    for block in &mut *blocks {
                        exact_misses(block);
                    }
                }
            }
            let (non_finite, least) = (s.to_array(non_finite), s.to_array(least));
            let mut all = true;
            for (&non_finite, &least) in non_finite.iter().zip(&least).take(S::LANES) {
                all &= (non_finite == 0.0) & (least >= LEAST_GAP);
            }
            if !all {
                for block in blocks {
                    for lane in Lane::all().filter(|&lane| !is_ordinary(block.logit[lane])) {
                        block.marked |= lane.bit();
                    }
                }
            }
            all
        },
    )
}

/// How 1 − p_y is computed.
#[derive(Clone, Copy)]
pub(crate) enum Misses {
    None,
    /// In f32, for the gradient.
    Rounded,
    /// In f64, for the focal factor.
    Exact,
}

/// Unmarks rows with a gap below [`LEAST_GAP`]: log(1 + e^gap) and 1 − p_y are e^gap, in f64. Returns whether no row is
/// marked.
pub(crate) fn logs_of_far_leads<S: Vector>(s: S, logits: &[f32], blocks: &mut [RowBlock]) -> bool {
    s.run(
        #[inline(always)]
        move || {
            for (block, logits) in blocks.iter_mut().zip(logits.chunks(2 * ROWS)) {
                if block.marked == 0 {
                    continue;
                }
                let (mut log, mut miss, gaps) = (block.log, block.one_minus_p, exact_gaps(logits, &block.class));
                let (mut is_far, marked) = (Lanes::splat(0), block.marked);
                for i in Lane::all() {
                    let e = f64_math::exp(gaps[i]);
                    is_far[i] = u32::from(gaps[i] < f64::from(LEAST_GAP)) & marked.wrapping_shr(i.number() as u32) & 1;
                    log[i] = if is_far[i] == 1 { e } else { log[i] };
                    miss[i] = if is_far[i] == 1 { e } else { miss[i] };
                }
                (block.log, block.one_minus_p, block.marked) = (log, miss, marked & !is_far.mask());
            }
            blocks.iter().all(|block| block.marked == 0)
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

/// `log` = log(1 + e^gap), and `sum` = log(1 + e^−|gap|).
#[inline(always)]
fn logs<S: Vector>(s: S, block: &mut RowBlock) {
    let (mut over, mut rests) = (Lanes::splat(0.0), Lanes::splat(0.0));
    let (mut near, mut log) = (Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        s.store(s.at_least(s.load(block.logit.as_slice(), at), s.splat(0.0)), over.as_mut_slice(), at);
        s.store(log1p::without_linear_term(s, s.load(block.scale.as_slice(), at)), rests.as_mut_slice(), at);
    }
    let e = block.scale;
    for i in Lane::all() {
        near[i] = f64::from(e[i]) + f64::from(rests[i]);
        log[i] = f64::from(over[i]) + near[i];
    }
    (block.sum, block.log) = (near, log);
}

/// 1 − p_y
#[inline(always)]
fn rounded_misses<S: Vector>(s: S, block: &mut RowBlock) {
    let (mut shares, mut miss) = (Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let (e, one) = (s.load(block.scale.as_slice(), at), s.splat(1.0));
        let top = s.select(s.less(s.splat(0.0), s.load(block.logit.as_slice(), at)), one, e);
        s.store(s.div(top, s.add(one, e)), shares.as_mut_slice(), at);
    }
    for i in Lane::all() {
        miss[i] = f64::from(shares[i]);
    }
    block.one_minus_p = miss;
}

#[inline(always)]
fn exact_misses(block: &mut RowBlock) {
    let (gap, e, mut miss) = (block.logit, block.scale, Lanes::splat(0.0));
    for i in Lane::all() {
        let e = f64::from(e[i]);
        let top = if gap[i] > 0.0 { 1.0 } else { e };
        miss[i] = top / (1.0 + e);
    }
    block.one_minus_p = miss;
}

#[inline(always)]
fn is_ordinary(gap: f32) -> bool {
    (LEAST_GAP..=f32::MAX).contains(&gap)
}

/// Fills the gaps of a block, and −|gap|. Returns the sum of gap·0 and the least gap, blocks before included.
#[inline(always)]
fn gaps<S: Vector>(
    s: S,
    logits: &[f32; 2 * ROWS],
    block: &mut RowBlock,
    (mut non_finite, mut least): (S::F, S::F),
) -> (S::F, S::F) {
    let signs = block.class.map(|class| if class == 0 { 1.0 } else { -1.0 });
    let (mut gaps, mut sizes, mut lows) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
    for at in (0..ROWS).step_by(S::LANES) {
        let (first, second) = s.deinterleave(
            s.load(logits, at.wrapping_mul(2)),
            s.load(logits, at.wrapping_mul(2).wrapping_add(S::LANES)),
        );
        let (gap, size, low) = gap(s, first, second, s.load(signs.as_slice(), at));
        non_finite = s.mul_add(gap, s.splat(0.0), non_finite);
        least = s.at_most(gap, least);
        s.store(gap, gaps.as_mut_slice(), at);
        s.store(size, sizes.as_mut_slice(), at);
        s.store(low, lows.as_mut_slice(), at);
    }
    (block.logit, block.shift, block.power) = (gaps, sizes, lows);
    (non_finite, least)
}

/// The rounded gap; −|gap|, not below [`LEAST_GAP`]; and the rounding error of the latter.
#[inline(always)]
fn gap<S: Vector>(s: S, first: S::F, second: S::F, sign: S::F) -> (S::F, S::F, S::F) {
    let difference = s.sub(second, first);
    let back = s.sub(difference, second);
    let low = s.sub(s.sub(second, s.sub(difference, back)), s.add(first, back));
    // A positive difference is negated, and its low part with it.
    let top = s.splat_bits(0x8000_0000);
    let flip = s.sub_bits(top, s.and_bits(s.to_bits(difference), top));
    let turned = |x| s.of_bits(s.xor_bits(s.to_bits(x), flip));
    let (size, floor, zero) = (turned(difference), s.splat(LEAST_GAP), s.splat(0.0));
    let is_near = s.less(floor, size);
    (s.mul(difference, sign), s.select(is_near, size, floor), s.select(is_near, turned(low), zero))
}

/// Writes the gradient of the rows that are not marked.
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
                let (factor, miss) = (block.factor, block.one_minus_p);
                let signs = block.class.map(|class| if class == 0 { -1.0 } else { 1.0 });
                let mut elements = Lanes::splat(0.0);
                for i in Lane::all() {
                    elements[i] = (factor[i] * miss[i]) as f32;
                }
                if block.marked == 0
                    && let Some(to) = to.first_chunk_mut()
                {
                    pairs(s, &elements, &signs, to);
                } else {
                    let mut both = [0.0; 2 * ROWS];
                    pairs(s, &elements, &signs, &mut both);
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

/// Interleaves the signed elements with their negatives.
#[inline(always)]
fn pairs<S: Vector>(s: S, elements: &Lanes<f32>, signs: &Lanes<f32>, to: &mut [f32; 2 * ROWS]) {
    for at in (0..ROWS).step_by(S::LANES) {
        let first = s.mul(s.load(elements.as_slice(), at), s.load(signs.as_slice(), at));
        let (low, high) = s.interleave(s.add(first, s.splat(0.0)), s.sub(s.splat(0.0), first));
        s.store(low, to, at.wrapping_mul(2));
        s.store(high, to, at.wrapping_mul(2).wrapping_add(S::LANES));
    }
}
