//! Double-float arithmetic, twice the precision of f32: unevaluated sums of two f32, after Dekker (1971) and Knuth.

use crate::backend::vector::Vector;

/// hi + lo, where |lo| is at most about half an ulp of hi.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<F> {
    pub(crate) hi: F,
    pub(crate) lo: F,
}

/// a + b, exactly.
#[inline(always)]
pub(crate) fn two_sum<S: Vector>(s: S, a: S::F, b: S::F) -> Pair<S::F> {
    let hi = s.add(a, b);
    let b_rounded = s.sub(hi, a);
    let a_rounded = s.sub(hi, b_rounded);
    Pair { hi, lo: s.add(s.sub(a, a_rounded), s.sub(b, b_rounded)) }
}

/// a + b, exactly, where |a| ≥ |b| or a = 0.
#[inline(always)]
pub(crate) fn fast_two_sum<S: Vector>(s: S, a: S::F, b: S::F) -> Pair<S::F> {
    let hi = s.add(a, b);
    Pair { hi, lo: s.sub(b, s.sub(hi, a)) }
}

/// a · b, exactly, unless the error underflows.
#[inline(always)]
pub(crate) fn two_prod<S: Vector>(s: S, a: S::F, b: S::F) -> Pair<S::F> {
    let hi = s.mul(a, b);
    if S::FUSED {
        return Pair { hi, lo: s.mul_add(a, b, s.sub(s.splat(0.0), hi)) };
    }
    // Products of 12-bit halves are exact. Splitting by a mask, unlike Veltkamp's multiplication, cannot overflow.
    let (a_high, a_low) = halves(s, a);
    let (b_high, b_low) = halves(s, b);
    let error = s.sub(s.mul(a_high, b_high), hi);
    let error = s.add(error, s.mul(a_high, b_low));
    let error = s.add(error, s.mul(a_low, b_high));
    Pair { hi, lo: s.add(error, s.mul(a_low, b_low)) }
}

#[inline(always)]
fn halves<S: Vector>(s: S, a: S::F) -> (S::F, S::F) {
    let high = s.of_bits(s.and_bits(s.to_bits(a), s.splat_bits(0xffff_f000)));
    (high, s.sub(a, high))
}

/// a · b, to about twice the precision of f32.
#[inline(always)]
pub(crate) fn product<S: Vector>(s: S, a: Pair<S::F>, b: Pair<S::F>) -> Pair<S::F> {
    let p = two_prod(s, a.hi, b.hi);
    let cross = s.mul_add(a.hi, b.lo, s.mul(a.lo, b.hi));
    fast_two_sum(s, p.hi, s.add(p.lo, cross))
}

/// a · factor, exactly, for a factor that is a power of two.
#[inline(always)]
pub(crate) fn scaled<S: Vector>(s: S, a: Pair<S::F>, factor: S::F) -> Pair<S::F> {
    Pair { hi: s.mul(a.hi, factor), lo: s.mul(a.lo, factor) }
}

/// `yes` where `mask` is set, else `no`.
#[inline(always)]
pub(crate) fn select<S: Vector>(s: S, mask: S::M, yes: Pair<S::F>, no: Pair<S::F>) -> Pair<S::F> {
    Pair { hi: s.select(mask, yes.hi, no.hi), lo: s.select(mask, yes.lo, no.lo) }
}
