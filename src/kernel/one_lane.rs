//! The weighted loss −w\[y\]·log p_y of a row and its gradient w\[y\]·(p_i − \[i = y\]) in one lane: for processors without
//! vectors, which mostly have no f64 either, and little memory. What the loss needs is f32, in pairs where f32 is too little.
//!
//! The reference is the largest of the *other* logits, M. So S = Σ_{k≠y} exp(x_k − M) is in [1, C − 1] whatever the logits
//! are, and E = Σ_{k≠y} exp(x_k − x_y) is S·e^(M − x_y): a pair and a power of two, which no finite logit leads out of
//! range. The loss is w·log(1 + E), p_k = exp(x_k − M)·E/(1 + E)/S, and 1 − p_y = E/(1 + E).
//!
//! A row is read once for M, once for S and once for its gradient, in pieces where it does not fit. Its exponentials are
//! added one by one with Kahan's compensation, so that its bits do not depend on how it is cut.

use super::exp::{Exp, LN2_HI, LN2_LO, ROUND, Reference, exp_rest};
use super::lanes::{Lane, Lanes};
use super::limits::{BLOCK, ROWS};
use super::log_of_pair::Reduced;
use super::pair::{Pair, fast_two_sum, product, scaled, two_prod, two_sum};
use super::tile::{Batch, Place, Tile};
use super::{copy, part, part_mut, row_of, row_of_mut, whole};
use crate::backend::vector::{OneLane, Vector};

/// What a sum begins with, to be as large as every term: the largest, of the power of a [`Reference`], is from 1 to 4. Then
/// what the rounding of a sum loses is found exactly.
const FIRST: f32 = 4.0;
/// A gap M − x_y beyond this is as good as this: 2^1443 and any power of a [`Reference`] are more than any weight.
const LARGEST_GAP: f32 = 1000.0;
/// Where E is above about this power of two, log(1 + E) is log E to all digits of f32; below its inverse it is E.
const ONE_SIDED: i32 = 64;
/// From this factor on an element of the gradient may be 2¹²⁷ and more.
const LARGE_FACTOR: f64 = f64::from_bits((1023 + 126) << 52);
/// log E is halved so often: of f32 the largest gap, 2¹²⁹, is none, and a small weight may bring it back.
const HALVED: i32 = 8;

/// The logits of a row.
trait Logits {
    /// Calls `work` with one piece after the other, and the class that it begins with.
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

/// A row that is brought into the tile piece by piece.
struct Brought<'a, S> {
    s: S,
    batch: &'a Batch<'a>,
    row: usize,
    numbers: &'a mut [f32],
    width: usize,
}

impl<S: Vector> Logits for Brought<'_, S> {
    fn pieces(&mut self, mut work: impl FnMut(usize, &[f32])) {
        for place in place_of(self.row, self.batch.rows.classes()).pieces(self.width) {
            self.batch.bring(self.s, place, self.numbers);
            work(place.start, part(self.numbers, 0, place.width));
        }
    }
    fn logit(&self, class: usize) -> f32 {
        self.batch.logit(self.row, class)
    }
}

/// A whole row of so many classes.
fn place_of(row: usize, classes: usize) -> Place {
    Place { first: row, rows: 1, start: 0, width: classes }
}

/// The two parts of a piece that the element of this index divides, if it has one.
#[inline(always)]
fn without(piece: &[f32], index: usize) -> [&[f32]; 2] {
    let (before, from) = piece.split_at_checked(index).unwrap_or((piece, &[]));
    [before, from.get(1..).unwrap_or(&[])]
}

/// A row whose exponentials have been added up: x_y is finite, and so is the largest of the other logits.
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

/// A row of which there is only a limit: of infinite logits, or with NaN.
struct Limit {
    /// −log p_y: 0, ∞ or NaN.
    loss: f32,
    reference: Reference,
    /// Σ_{k≠y} exp(x_k − shift)·2^power of the reference: NaN where one of these logits is +∞.
    others: f32,
    /// The one class that is +∞ where another is the label.
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
    fn new<S: OneLane>(s: S, row: &mut impl Logits, label: usize) -> Result<Self, Limit> {
        let mut largest = f32::NEG_INFINITY;
        row.pieces(|start, piece| {
            for part in without(piece, label.wrapping_sub(start)) {
                for &x in part {
                    // A NaN gets lost here, but not in the sum.
                    largest = if x > largest { x } else { largest };
                }
            }
        });
        let (reference, own) = (Reference::new(largest), row.logit(label));
        let (exp, mut total, mut lost) = (Exp::new(s, reference), FIRST, 0.0);
        row.pieces(|start, piece| {
            for part in without(piece, label.wrapping_sub(start)) {
                for &x in part {
                    if let Some((mantissa, power)) = exp.term(s, x) {
                        let addend = s.mul_add(mantissa, power, lost);
                        let sum = total + addend;
                        lost = addend - (sum - total);
                        total = sum;
                    }
                }
            }
        });
        // NaN where a logit is, or +∞; 0 where all are −∞.
        let others = fast_two_sum(s, total - FIRST, lost);
        if others.hi > 0.0 && own.is_finite() {
            return Ok(Self { reference, own, others, odds: odds(s, reference, own, others) });
        }
        Err(Limit::new(row, label, own, reference, others.hi))
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

/// E of a [`Sum`].
#[inline(always)]
fn odds<S: OneLane>(s: S, reference: Reference, own: f32, others: Pair<f32>) -> Scaled {
    let gap = two_sum(s, reference.shift, -own);
    let near = s.at_most(s.at_least(gap.hi, -LARGEST_GAP), LARGEST_GAP);
    let low = if near == gap.hi { gap.lo } else { 0.0 };
    // near = k·ln 2 + f, with what the rounding of f loses.
    let t = s.mul_add(near, core::f32::consts::LOG2_E, ROUND);
    let k = t - ROUND;
    let high = s.mul_add(k, -LN2_HI, near);
    let f = s.mul_add(k, -LN2_LO, high);
    let lost = s.mul_add(k, -LN2_LO, high - f) + low;
    // 1 + f is exact as a pair, the rest of e^f is below 0.07.
    let sum = fast_two_sum(s, 1.0, f);
    let rest = s.mul_add(exp_rest(s, f) * f, f, sum.lo);
    let of_gap = fast_two_sum(s, sum.hi, s.mul_add(lost, sum.hi, rest));
    let k = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    Scaled { mantissa: product(s, others, of_gap), exponent: k.wrapping_sub(reference.power as i32) }
}

/// 2^exponent for a normal f32.
#[inline(always)]
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

impl Limit {
    /// The table of NaN and infinity.
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
    /// weight·self, rounded once where that is a normal number.
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
        // In two steps, since 2^exponent need not be one of f32 where the product is.
        let exponent = exponent.wrapping_sub(bias).wrapping_add(self.exponent).clamp(-252, 252);
        let half = exponent >> 1;
        rounded * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
    }

    #[inline(always)]
    fn in_f64(self) -> f64 {
        let mantissa = f64::from(self.mantissa.hi) + f64::from(self.mantissa.lo);
        // 2^±900 is beyond every product of weights, and what it is multiplied by here within f64.
        mantissa * f64::from_bits((self.exponent.clamp(-900, 900).wrapping_add(1023) as u64) << 52)
    }
}

/// −`weight`·log p of the label.
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

/// The same for a weight that need not be an f32.
fn loss_of_sum<S: OneLane>(s: S, sum: &Result<Sum, Limit>, weight: f64) -> f32 {
    match sum {
        Ok(sum) => {
            let (loss, rounded) = (sum.minus_log_p(s), weight as f32);
            if f64::from(rounded) == weight { loss.times(s, rounded) } else { (loss.in_f64() * weight) as f32 }
        }
        Err(limit) => (f64::from(limit.loss) * weight) as f32,
    }
}

/// Losses of these rows, whose classes and weights are known, and gradients where there is room for them.
#[inline(never)]
pub(crate) fn compute<S: Vector>(s: S, batch: &mut Batch<'_>, tile: &mut Tile<'_>, first: usize, count: usize) {
    let (s, classes, room) = (s.lane(), batch.rows.classes(), tile.room());
    let place = Place { first, rows: count, start: 0, width: classes };
    let in_place = batch.as_tile().is_some();
    let in_tile = !in_place && count.saturating_mul(classes) <= room;
    let width = whole(room, BLOCK);
    if in_tile {
        batch.bring(s, place, tile.numbers);
    }
    // The losses of lanes without a row are added up too.
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
                Sum::new(s, &mut Brought { s, batch, row, numbers: tile.numbers, width }, label)
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
                batch.bring(s, place, tile.numbers);
                gradient.write(s, place.start, part_mut(tile.numbers, 0, place.width));
                batch.send(s, place, tile.numbers);
            }
        }
    }
    if in_tile {
        batch.send(s, place, tile.numbers);
    }
}

/// How the gradient of a row comes from its logits: exp(x − reference)·mantissa, but for two classes.
struct RowGradient {
    /// `None`: zeros.
    reference: Option<Reference>,
    mantissa: f32,
    /// What the exponential is multiplied by in f64 instead, where neither the powers of f32 nor its mantissas would do.
    far: Option<f64>,
    /// Classes and their elements.
    apart: [(usize, f32); 2],
}

impl RowGradient {
    const NONE: Self = Self { reference: None, mantissa: 0.0, far: None, apart: [(usize::MAX, 0.0); 2] };

    fn new(sum: &Result<Sum, Limit>, label: usize, factor: f64) -> Self {
        if factor == 0.0 {
            return Self::NONE;
        }
        // p_k = e_k·share, where e_k is the exponential of the reference, and 1 − p_y.
        let (reference, share, miss, certain) = match *sum {
            Ok(sum) => {
                let odds = sum.odds.in_f64();
                let others = f64::from(sum.others.hi) + f64::from(sum.others.lo);
                let share = odds / ((1.0 + odds) * others);
                (sum.reference, share, share * others, None)
            }
            Err(Limit { loss: f32::INFINITY, reference, others, certain }) => match certain {
                None if others.is_nan() => (reference, f64::NAN, f64::NAN, None),
                None => (reference, 1.0 / f64::from(others), 1.0, None),
                Some(_) => (reference, 0.0, 1.0, certain),
            },
            // None is, or all are NaN.
            Err(Limit { loss, reference, .. }) => (reference, f64::from(loss), f64::from(loss), None),
        };
        let (mantissa, power) = mantissa_and_power(share * factor);
        // 2¹²⁸ is no power of f32, but three quarters of it are a number.
        // By its bits, since a comparison of f64 is a call here; NaN is beyond.
        let is_large = (LARGE_FACTOR.to_bits()..=f64::INFINITY.to_bits()).contains(&factor.abs().to_bits());
        let far = is_large.then_some(share * factor);
        let power = if far.is_some() { 0.0 } else { power };
        let reference = Reference { shift: reference.shift, power: reference.power + power };
        let apart = [(certain.unwrap_or(usize::MAX), factor as f32), (label, (0.0 - factor * miss) as f32)];
        Self { reference: Some(reference), mantissa, far, apart }
    }

    /// Writes the elements of some classes over their logits.
    #[inline(always)]
    fn write<S: OneLane>(&self, s: S, start: usize, elements: &mut [f32]) {
        let Some(reference) = self.reference else { return elements.fill(0.0) };
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

/// factor = mantissa·2^power with |mantissa| in [√½, √2), and |power| at most 300: beyond, every product with a probability
/// is 0 or ±∞ either way. What is 0 or NaN stays.
fn mantissa_and_power(factor: f64) -> (f32, f32) {
    if factor == 0.0 || factor.is_nan() {
        return (factor as f32, 0.0);
    }
    const DIGITS: u64 = (1 << 52) - 1;
    let bits = factor.to_bits();
    let halve = bits & DIGITS >= core::f64::consts::SQRT_2.to_bits() & DIGITS;
    let unit: u16 = if halve { 1022 } else { 1023 };
    let mantissa = f64::from_bits(bits & (1 << 63 | DIGITS) | u64::from(unit) << 52);
    let exponent = ((bits >> 52 & 0x7ff) as i32).wrapping_sub(i32::from(unit));
    (mantissa as f32, exponent.clamp(-300, 300) as f32)
}

#[cfg(test)]
#[path = "one_lane_tests.rs"]
mod tests;
