//! The coefficients of `exp` in src/kernel/exp.rs: their largest error, rounding included, and a search for better
//! ones. A polynomial that is minimax before rounding is not the best after it: that one has 1.011 ulp.
//!
//! ```sh
//! rustc --edition 2024 -O -C target-cpu=native benches/exp_coefficients.rs -o target/exp_coefficients
//! target/exp_coefficients 120        # seconds of search; 0: the largest errors alone
//! ```
//!
//! Every f32 from ±2⁻¹⁰ to ±44.4 is tried, with fused and unfused multiply-add; below, eˣ is near 1, where errors are
//! small. Needs a processor with FMA.

use std::time::{Duration, Instant};

/// Of (eᶠ − 1 − f)/f², as in `exp_rest`, from f⁴ down.
type Coefficients = [f32; 5];
const IN_USE: [u32; 5] = [0x3ab5_257e, 0x3c09_1f03, 0x3d2a_abdb, 0x3e2a_aa46, 0x3f00_0000];
/// The largest step of the search in ulps of each: a higher power of f matters less.
const REACH: [i64; 5] = [2000, 400, 120, 30, 4];
/// 2^−27.3: callers that add the parts of exp in f64 have this error of the polynomial alone.
const LARGEST_UNROUNDED: f64 = 6.05e-9;

const LN2_HI: f32 = 0.693_115_25;
const LN2_LO: f32 = 3.194_618_5e-5;
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// eˣ/2ᵏ and k, as the kernel computes them.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32, c: &Coefficients) -> (f32, f32) {
    let k = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let f = mul_add::<FUSED>(k, -LN2_LO, mul_add::<FUSED>(k, -LN2_HI, x));
    let rest = c[1..].iter().fold(c[0], |p, &c| mul_add::<FUSED>(p, f, c));
    let mantissa = if FUSED { rest.mul_add(f, 1.0).mul_add(f, 1.0) } else { mul_add::<FUSED>(f * f, rest, f) + 1.0 };
    (mantissa, k)
}

/// The reference of an x: eˣ/2ᵏ in f64, and the reciprocal of its ulp in f32.
#[derive(Clone, Copy)]
struct Case {
    x: f32,
    value: f64,
    ulps: f64,
}

impl Case {
    #[inline(always)]
    fn new(x: f32, k: f32) -> Self {
        let value = f64::from(x).exp() * f64::from_bits(((1023 - k as i64) as u64) << 52);
        let exponent = value.to_bits() >> 52;
        Self { x, value, ulps: f64::from_bits((1023 + 23 + 1023 - exponent) << 52) }
    }
}

/// The largest error in ulp and where it is; the cases whose errors are larger than `above` are kept.
fn scan<const FUSED: bool>(c: &Coefficients, above: f64, step: usize, kept: &mut Vec<Case>) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for sign in [0, 1 << 31] {
        for bits in (0.000_976_562_5f32.to_bits()..=44.4f32.to_bits()).step_by(step) {
            let x = f32::from_bits(bits | sign);
            let (found, k) = exp::<FUSED>(x, c);
            let case = Case::new(x, k);
            let error = (f64::from(found) - case.value).abs() * case.ulps;
            if error > above {
                kept.push(case);
            }
            if error > worst.0 {
                worst = (error, x);
            }
        }
    }
    worst
}

/// The largest error of these cases.
fn largest<const FUSED: bool>(cases: &[Case], c: &Coefficients) -> f64 {
    let error = |case: &Case| (f64::from(exp::<FUSED>(case.x, c).0) - case.value).abs() * case.ulps;
    cases.iter().map(error).fold(0.0, f64::max)
}

/// The largest relative error of the polynomial alone.
fn unrounded(c: &Coefficients) -> f64 {
    let error = |i: u32| {
        let f = 0.3469 * (f64::from(i) / 80.0 - 1.0);
        let rest = c.iter().fold(0.0, |p, &c| p * f + f64::from(c));
        ((1.0 + f + f * f * rest) / f.exp() - 1.0).abs()
    };
    (0..=160).map(error).fold(0.0, f64::max)
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (mut best, mut state) = (IN_USE.map(f32::from_bits), 1u64);
    let mut random = |below: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) % below
    };
    // The cases with the largest errors, and a sample of all.
    let (mut fused, mut unfused, mut above) = (Vec::new(), Vec::new(), 0.93);
    scan::<true>(&best, -1.0, 9973, &mut fused);
    scan::<false>(&best, -1.0, 9973, &mut unfused);
    let begun = Instant::now();
    loop {
        let found = [scan::<true>(&best, above, 1, &mut fused), scan::<false>(&best, above, 1, &mut unfused)];
        println!(
            "{:x?}: {:.4} ulp at {:e} fused, {:.4} at {:e} unfused; 2^{:.2} unrounded",
            best.map(f32::to_bits),
            found[0].0,
            found[0].1,
            found[1].0,
            found[1].1,
            unrounded(&best).log2()
        );
        if begun.elapsed() >= Duration::from_secs(seconds) {
            return;
        }
        let of = |c: &Coefficients| largest::<true>(&fused, c).max(largest::<false>(&unfused, c));
        let (mut least, round) = (of(&best), Instant::now());
        while round.elapsed() < Duration::from_secs(20) {
            let mut moved = best;
            for _ in 0..1 + random(3) {
                let i = random(5) as usize;
                let by = (random(2 * REACH[i] as u64 + 1) as i64 - REACH[i]) / [1, 4, 9, 16][random(4) as usize];
                moved[i] = f32::from_bits((i64::from(moved[i].to_bits()) + by) as u32);
            }
            let error = if unrounded(&moved) <= LARGEST_UNROUNDED { of(&moved) } else { f64::MAX };
            if error < least {
                (least, best) = (error, moved);
            }
        }
        above = least - 0.01;
    }
}
