//! The weighted loss −w\[y\]·log p_y of a row and its gradient w\[y\]·(p_i − \[i = y\]) in one lane, for processors
//! without vectors, mostly without f64, and with little memory: in f32, and in double-floats where f32 is too coarse.
//!
//! The reference is the largest of the *other* logits, M. So S = Σ_{k≠y} exp(x_k − M) is in [1, C − 1] for any finite
//! logits, and E = Σ_{k≠y} exp(x_k − x_y) = S·e^(M − x_y) is a double-float times a power of two, which neither
//! overflows nor underflows. The loss is w·log(1 + E), p_k = exp(x_k − M)·E/(1 + E)/S, and 1 − p_y = E/(1 + E).
//!
//! A row is read once for M, once for S and once for its gradient, in pieces if it does not fit the tile. Exponentials
//! are added in class order with Kahan's compensation, so that the bits of a sum do not depend on the pieces.

use super::exp::{Exp, LN2_HI, LN2_LO, ROUND, Reference, exp_rest};
use super::lanes::{Lane, Lanes};
use super::limits::{ROWS, SUMMED_IN_F32};
use super::log_of_pair::Reduced;
use super::pair::{Pair, fast_two_sum, product, scaled, two_prod, two_sum};
use super::tile::{Batch, Place, Tile};
use super::{copy, part, part_mut, row_of, row_of_mut, whole};
use crate::backend::vector::{OneLane, Vector};

/// Initial value of a sum, subtracted at its end: no term with the power of its [`Reference`] exceeds 4, so no term
/// exceeds the sum, and Fast2Sum finds each rounding error exactly.
const FIRST: f32 = 4.0;
/// Clamp of the gap shift − x_y: with any power of a [`Reference`], e^1000 = 2^1443 is still beyond every weight.
const LARGEST_GAP: f32 = 1000.0;
/// Above E ≈ 2^`ONE_SIDED`, log(1 + E) is log E to the precision of f32; below 2^−`ONE_SIDED` it is E.
const ONE_SIDED: i32 = 64;
/// From this factor, 2¹²⁶, on the gradient is computed in f64: for an element near 2¹²⁷ the 2ᵏ of exp may overflow f32.
const LARGE_FACTOR: f64 = f64::from_bits((1023 + 126) << 52);
/// log E is computed times 2^−`HALVED`: a gap of up to 2¹²⁹ overflows f32, though times a small weight it may not.
const HALVED: i32 = 8;

/// The logits of a row, piece by piece.
trait Logits {
    /// Calls `work` with the first class and the logits of each piece, in class order.
    fn pieces(&mut self, work: impl FnMut(usize, &[f32]));
    /// The logit of a class.
    fn logit(&self, class: usize) -> f32;
}

impl Logits for &[f32] {
    #[inline(always)]
    fn pieces(&mut self, mut work: impl FnMut(usize, &[f32])) {
        work(0, self);
    }
    #[inline(always)]
    fn logit(&self, class: usize) -> f32 {
        self.get(class).copied().unwrap_or(f32::NAN)
    }
}

/// A row that does not fit the tile: each piece is copied into `numbers` when it is read.
struct RowInPieces<'a, S> {
    s: S,
    batch: &'a Batch<'a>,
    row: usize,
    numbers: &'a mut [f32],
    width: usize,
}

impl<S: Vector> Logits for RowInPieces<'_, S> {
    fn pieces(&mut self, mut work: impl FnMut(usize, &[f32])) {
        for place in place_of(self.row, self.batch.rows.classes()).pieces(self.width) {
            self.batch.load_rows(self.s, place, self.numbers);
            work(place.start, part(self.numbers, 0, place.width));
        }
    }
    fn logit(&self, class: usize) -> f32 {
        self.batch.logit(self.row, class)
    }
}

/// All classes of a row.
fn place_of(row: usize, classes: usize) -> Place {
    Place { first: row, rows: 1, start: 0, width: classes }
}

/// The elements before and after `index`; all of the piece, and none, where `index` is out of bounds.
#[inline(always)]
fn split_around(piece: &[f32], index: usize) -> [&[f32]; 2] {
    let (before, from) = piece.split_at_checked(index).unwrap_or((piece, &[]));
    [before, from.get(1..).unwrap_or(&[])]
}

/// Σ exp of a row in which x_y and the largest of the other logits are finite.
#[derive(Clone, Copy)]
struct Sum {
    reference: Reference,
    /// x_y
    own: f32,
    /// Σ_{k≠y} exp(x_k − shift)·2^power of the reference, from 1 to 4·(C − 1).
    others: Pair<f32>,
    /// E
    odds: Scaled,
}

/// A row with a NaN, or in which x_y or the largest of the other logits is infinite or missing.
struct NonFiniteRow {
    /// −log p_y: 0, ∞ or NaN.
    loss: f32,
    reference: Reference,
    /// Σ_{k≠y} exp(x_k − shift)·2^power of the reference: NaN where one of these logits is NaN or +∞.
    others: f32,
    /// The class whose logit alone is +∞.
    certain: Option<usize>,
}

/// mantissa·2^exponent
#[derive(Clone, Copy)]
struct Scaled {
    mantissa: Pair<f32>,
    exponent: i32,
}

impl Sum {
    #[inline(always)]
    fn new<S: OneLane>(s: S, row: &mut impl Logits, label: usize) -> Result<Self, NonFiniteRow> {
        let mut largest = f32::NEG_INFINITY;
        row.pieces(|start, piece| {
            for part in split_around(piece, label.wrapping_sub(start)) {
                for &x in part {
                    // The maximum drops a NaN; the sum keeps it.
                    largest = if x > largest { x } else { largest };
                }
            }
        });
        let (reference, own) = (Reference::new(largest), row.logit(label));
        let (exp, mut total, mut lost) = (Exp::new(s, reference), FIRST, 0.0);
        row.pieces(|start, piece| {
            for part in split_around(piece, label.wrapping_sub(start)) {
                for &x in part {
                    if let Some(term) = exp.term(s, x) {
                        let addend = term + lost;
                        let sum = total + addend;
                        lost = addend - (sum - total);
                        total = sum;
                    }
                }
            }
        });
        // NaN where one of these logits is NaN or +∞; 0 where all are −∞.
        let others = fast_two_sum(s, total - FIRST, lost);
        if others.hi > 0.0 && own.is_finite() {
            return Ok(Self { reference, own, others, odds: odds(s, reference, own, others) });
        }
        Err(NonFiniteRow::new(row, label, own, reference, others.hi))
    }

    /// log(1 + E)
    #[inline(always)]
    fn minus_log_p<S: OneLane>(&self, s: S) -> Scaled {
        let odds = self.odds;
        if odds.exponent < -ONE_SIDED {
            return odds;
        }
        let is_far = odds.exponent > ONE_SIDED;
        let reduced = if is_far {
            let of_sum = Reduced::new(s, self.others);
            Reduced { k: of_sum.k - self.reference.power, ..of_sum }
        } else {
            Reduced::one_plus(s, scaled(s, odds.mantissa, power_of_two(odds.exponent)))
        };
        let log = reduced.log(s);
        if !is_far {
            return Scaled { mantissa: log, exponent: 0 };
        }
        let unit = power_of_two(-HALVED);
        let (gap, log) = (two_sum(s, self.reference.shift * unit, -self.own * unit), scaled(s, log, unit));
        let sum = two_sum(s, gap.hi, log.hi);
        Scaled { mantissa: fast_two_sum(s, sum.hi, sum.lo + (gap.lo + log.lo)), exponent: HALVED }
    }
}

/// E = `others`·2^−power·e^(shift − `own`), of the shift and power of the reference.
#[inline(always)]
fn odds<S: OneLane>(s: S, reference: Reference, own: f32, others: Pair<f32>) -> Scaled {
    let gap = two_sum(s, reference.shift, -own);
    let near = s.at_most(s.at_least(gap.hi, -LARGEST_GAP), LARGEST_GAP);
    let low = if near == gap.hi { gap.lo } else { 0.0 };
    // Range reduction: near = k·ln 2 + f + lost, where `lost` is the rounding error of f.
    let t = s.mul_add(near, core::f32::consts::LOG2_E, ROUND);
    let k = t - ROUND;
    let high = s.mul_add(k, -LN2_HI, near);
    let f = s.mul_add(k, -LN2_LO, high);
    let lost = s.mul_add(k, -LN2_LO, high - f) + low;
    // 1 + f is exact as a double-float; the rest of e^f is below 0.07.
    let sum = fast_two_sum(s, 1.0, f);
    let rest = s.mul_add(exp_rest(s, f) * f, f, sum.lo);
    let of_gap = fast_two_sum(s, sum.hi, s.mul_add(lost, sum.hi, rest));
    let k = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    Scaled { mantissa: product(s, others, of_gap), exponent: k.wrapping_sub(reference.power as i32) }
}

/// 2^exponent for an exponent in [−126, 127].
#[inline(always)]
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

impl NonFiniteRow {
    /// By the contract's table of NaN and infinity.
    #[cold]
    #[inline(never)]
    fn new(row: &mut impl Logits, label: usize, own: f32, reference: Reference, others: f32) -> Self {
        let (mut any_nan, mut infinite, mut last) = (false, 0_usize, label);
        row.pieces(|start, piece| {
            for (class, x) in (start..).zip(piece) {
                any_nan |= x.is_nan();
                if *x == f32::INFINITY {
                    (infinite, last) = (infinite.saturating_add(1), class);
                }
            }
        });
        let all_lowest = own == f32::NEG_INFINITY && others == 0.0;
        let loss = if any_nan || all_lowest || own == f32::INFINITY && infinite > 1 {
            f32::NAN
        } else if own == f32::INFINITY || others == 0.0 {
            0.0
        } else {
            f32::INFINITY
        };
        Self { loss, reference, others, certain: (infinite == 1).then_some(last) }
    }
}

impl Scaled {
    /// weight·self, rounded once where the product is a normal f32.
    #[inline(always)]
    fn times<S: OneLane>(self, s: S, weight: f32) -> f32 {
        // weight = mantissa·2^exponent, the mantissa in [½, 1).
        let (normal, bias) =
            if weight.abs() < f32::MIN_POSITIVE { (weight * power_of_two(24), 126 + 24) } else { (weight, 126) };
        let bits = normal.to_bits();
        let exponent = (bits >> 23 & 0xff) as i32;
        let mantissa = f32::from_bits(bits & 0x807f_ffff | 126 << 23);
        let exact = two_prod(s, mantissa, self.mantissa.hi);
        let rounded = exact.hi + s.mul_add(mantissa, self.mantissa.lo, exact.lo);
        // In two steps: 2^exponent may overflow or underflow f32 where the product does not.
        let exponent = exponent.wrapping_sub(bias).wrapping_add(self.exponent).clamp(-252, 252);
        let half = exponent >> 1;
        rounded * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
    }

    #[inline(always)]
    fn in_f64(self) -> f64 {
        let mantissa = f64::from(self.mantissa.hi) + f64::from(self.mantissa.lo);
        // 2^±900 is beyond every product of weights, and its product with a mantissa within f64.
        mantissa * f64::from_bits((self.exponent.clamp(-900, 900).wrapping_add(1023) as u64) << 52)
    }
}

/// −`weight`·log p_y of a row; 0 for a weight of 0, whatever the logits.
#[inline(always)]
pub(crate) fn loss<S: OneLane>(s: S, mut row: &[f32], label: usize, weight: f32) -> f32 {
    if weight == 0.0 {
        return 0.0;
    }
    match Sum::new(s, &mut row, label) {
        Ok(sum) => sum.minus_log_p(s).times(s, weight),
        Err(limit) => limit.loss * weight,
    }
}

/// −`weight`·log p_y for a weight, as w\[y\]·s, that need not be an f32.
fn loss_of_sum<S: OneLane>(s: S, sum: &Result<Sum, NonFiniteRow>, weight: f64) -> f32 {
    match sum {
        Ok(sum) => {
            let (loss, rounded) = (sum.minus_log_p(s), weight as f32);
            if f64::from(rounded) == weight { loss.times(s, rounded) } else { (loss.in_f64() * weight) as f32 }
        }
        Err(limit) => (f64::from(limit.loss) * weight) as f32,
    }
}

/// Losses, and gradients if the batch has room for them, of rows whose labels and weights are in the tile's blocks.
#[inline(never)]
pub(crate) fn compute<S: Vector>(s: S, batch: &mut Batch<'_>, tile: &mut Tile<'_>, place: Place) {
    let (s, room, Place { first, rows: count, width: classes, .. }) = (s.lane(), tile.room(), place);
    let in_place = batch.as_tile().is_some();
    let in_tile = !in_place && count.saturating_mul(classes) <= room;
    let width = whole(room, SUMMED_IN_F32);
    if in_tile {
        batch.load_rows(s, place, tile.numbers);
    }
    // The reduction adds the losses of lanes without a row too.
    tile.blocks.iter_mut().for_each(|block| block.loss = Lanes::splat(0.0));
    for at in 0..count {
        let (row, lane, Some(block)) = (first.wrapping_add(at), Lane::of(at), tile.blocks.get_mut(at / ROWS)) else {
            return;
        };
        let (label, weight, factor) = (block.class[lane], block.weight[lane], block.factor[lane]);
        let mut gradient = RowGradient::NONE;
        if weight != 0.0 {
            let sum = if in_tile || in_place {
                let (rows, first) = if in_tile { (&*tile.numbers, 0) } else { (batch.as_tile().unwrap_or(&[]), first) };
                Sum::new(s, &mut row_of(rows, first.wrapping_add(at), classes), label)
            } else {
                Sum::new(s, &mut RowInPieces { s, batch, row, numbers: tile.numbers, width }, label)
            };
            block.loss[lane] = loss_of_sum(s, &sum, weight);
            if batch.gradient.is_some() {
                gradient = RowGradient::new(&sum, label, factor);
            }
        }
        if in_tile {
            gradient.write(s, 0, row_of_mut(tile.numbers, at, classes));
        } else if let (Some(all), true) = (batch.gradient.as_deref_mut(), in_place) {
            let elements = row_of_mut(all, row, classes);
            if let Some(logits) = batch.logits.and_then(|logits| logits.as_f32()) {
                copy(elements, row_of(logits, row, classes));
            }
            gradient.write(s, 0, elements);
        } else if batch.gradient.is_some() {
            for place in place_of(row, classes).pieces(width) {
                batch.load_rows(s, place, tile.numbers);
                gradient.write(s, place.start, part_mut(tile.numbers, 0, place.width));
                batch.store_rows(s, place, tile.numbers);
            }
        }
    }
    if in_tile {
        batch.store_rows(s, place, tile.numbers);
    }
}

/// Gradient of a row from its logits: mantissa·exp(x_k − shift)·2^power, except for the classes of `apart`.
struct RowGradient {
    /// Shift and power; `None`: a gradient of zeros.
    reference: Option<Reference>,
    mantissa: f32,
    /// The factor of the exponentials in f64 instead of `mantissa` and its power, from [`LARGE_FACTOR`] on.
    far: Option<f64>,
    /// Classes and their elements: the one at +∞, if any, and the label.
    apart: [(usize, f32); 2],
}

impl RowGradient {
    const NONE: Self = Self { reference: None, mantissa: 0.0, far: None, apart: [(usize::MAX, 0.0); 2] };

    fn new(sum: &Result<Sum, NonFiniteRow>, label: usize, factor: f64) -> Self {
        if factor == 0.0 {
            return Self::NONE;
        }
        // p_k = e_k·share with e_k = exp(x_k − shift)·2^power, and miss = 1 − p_y.
        let (reference, share, miss, certain) = match *sum {
            Ok(sum) => {
                let odds = sum.odds.in_f64();
                let others = f64::from(sum.others.hi) + f64::from(sum.others.lo);
                let share = odds / ((1.0 + odds) * others);
                (sum.reference, share, share * others, None)
            }
            Err(NonFiniteRow { loss: f32::INFINITY, reference, others, certain }) => match certain {
                None if others.is_nan() => (reference, f64::NAN, f64::NAN, None),
                None => (reference, 1.0 / f64::from(others), 1.0, None),
                Some(_) => (reference, 0.0, 1.0, certain),
            },
            // A loss of 0: all elements are 0; of NaN: all are NaN.
            Err(NonFiniteRow { loss, reference, .. }) => (reference, f64::from(loss), f64::from(loss), None),
        };
        let (mantissa, power) = mantissa_and_power(share * factor);
        // 2ᵏ = 2¹²⁸ overflows f32, though times a mantissa below 1 it may not.
        // Compared by bits, since without hardware f64 a comparison is a library call; NaN is above the range.
        let is_large = (LARGE_FACTOR.to_bits()..=f64::INFINITY.to_bits()).contains(&factor.abs().to_bits());
        let far = is_large.then_some(share * factor);
        let power = if far.is_some() { 0.0 } else { power };
        let reference = Reference { shift: reference.shift, power: reference.power + power };
        let apart = [(certain.unwrap_or(usize::MAX), factor as f32), (label, (0.0 - factor * miss) as f32)];
        Self { reference: Some(reference), mantissa, far, apart }
    }

    /// Replaces the logits of the classes from `start` on by the elements of their gradient.
    #[inline(always)]
    fn write<S: OneLane>(&self, s: S, start: usize, elements: &mut [f32]) {
        let Some(reference) = self.reference else { return elements.fill(0.0) };
        if self.mantissa.is_nan() {
            return elements.fill(f32::NAN);
        }
        if let Some(scale) = self.far {
            for x in &mut *elements {
                *x = (reference.exp(*x) * scale) as f32;
            }
        } else {
            let exp = Exp::new(s, reference);
            for x in &mut *elements {
                *x = exp.times(s, *x, self.mantissa);
            }
        }
        for (class, value) in self.apart {
            if let Some(element) = class.checked_sub(start).and_then(|index| elements.get_mut(index)) {
                *element = value;
            }
        }
    }
}

/// factor = mantissa·2^power with |mantissa| in [½, 1) and |power| clamped to 300: with a smaller factor every
/// element underflows to 0 either way, and larger ones are computed in f64. Of 0 and NaN the power is 0.
fn mantissa_and_power(factor: f64) -> (f32, f32) {
    if factor == 0.0 || factor.is_nan() {
        return (factor as f32, 0.0);
    }
    const DIGITS: u64 = (1 << 52) - 1;
    let bits = factor.to_bits();
    let mantissa = f64::from_bits(bits & (1 << 63 | DIGITS) | 1022 << 52);
    let exponent = ((bits >> 52 & 0x7ff) as i32).wrapping_sub(1022);
    (mantissa as f32, exponent.clamp(-300, 300) as f32)
}

#[cfg(test)]
#[path = "one_lane_tests.rs"]
mod tests;
