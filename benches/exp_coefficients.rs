//! The numbers of `exp` in src/kernel/exp.rs: the largest errors, rounding included, and a search for better ones. A
//! polynomial that is minimax before rounding is not the best after it: unfused that one has 1.011 ulp.
//!
//! ```sh
//! rustc --edition 2024 -O -C target-cpu=native benches/exp_coefficients.rs -o target/exp_coefficients
//! target/exp_coefficients 120        # seconds of search for each polynomial; 0: the largest errors alone
//! ```
//!
//! Every f32 from ±2⁻¹⁰ to ±44.4 is tried; below, eˣ is near 1, where errors are small. Needs a processor with FMA.

use std::f64::consts::LN_2;
use std::time::{Duration, Instant};

const ROUND: f32 = 12_582_912.0;

/// An exponential with N coefficients.
trait Exp<const N: usize> {
    const NAME: &str;
    const IN_USE: [u32; N];
    /// The largest step of the search in ulps of each: a higher power of f matters less.
    const REACH: [i64; N];
    /// eˣ/2ᵏ and the integer k, as the kernel computes them.
    fn exp(&self, x: f32, c: &[f32; N]) -> (f32, i64);
    /// Whether the search may take these.
    fn allows(&self, c: &[f32; N]) -> bool;
}

/// With fused multiply-add: x = k·(ln 2/8) + f, a table of c·2^(j/8), and eᶠ/c − 1 from f⁰ up.
struct Fused {
    table: [f32; 8],
}

impl Exp<4> for Fused {
    const NAME: &str = "fused";
    const IN_USE: [u32; 4] = [0x3935_927b, 0x3f80_05ad, 0x3f00_0aec, 0x3e2a_b189];
    const REACH: [i64; 4] = [2000, 100, 300, 20_000];

    #[inline(always)]
    fn exp(&self, x: f32, c: &[f32; 4]) -> (f32, i64) {
        const HIGH: f32 = (LN_2 / 8.0) as f32;
        const LOW: f32 = (LN_2 / 8.0 - HIGH as f64) as f32;
        let t = x.mul_add(8.0 * std::f32::consts::LOG2_E, ROUND);
        let k = t - ROUND;
        let f = k.mul_add(-LOW, k.mul_add(-HIGH, x));
        let rest = c[3].mul_add(f, c[2]).mul_add(f, c[1]).mul_add(f, c[0]);
        let of_table = self.table[t.to_bits() as usize % 8];
        (rest.mul_add(of_table, of_table), k as i64 >> 3)
    }

    fn allows(&self, c: &[f32; 4]) -> bool {
        self.exp(0.0, c).0 == 1.0
    }
}

/// Without: x = k·ln 2 + f, and (eᶠ − 1 − f)/f² from f⁴ down.
struct Unfused;

impl Exp<5> for Unfused {
    const NAME: &str = "unfused";
    const IN_USE: [u32; 5] = [0x3ab5_257e, 0x3c09_1f03, 0x3d2a_abdb, 0x3e2a_aa46, 0x3f00_0000];
    const REACH: [i64; 5] = [2000, 400, 120, 30, 4];

    #[inline(always)]
    fn exp(&self, x: f32, c: &[f32; 5]) -> (f32, i64) {
        let k = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
        let f = k * -3.194_618_5e-5 + (k * -0.693_115_25 + x);
        let rest = c[1..].iter().fold(c[0], |p, &c| p * f + c);
        ((f * f * rest + f) + 1.0, k as i64)
    }

    /// Callers that add the parts of exp in f64 have the relative error of the polynomial alone: at most 2^−27.3.
    fn allows(&self, c: &[f32; 5]) -> bool {
        (0..=160).all(|i| {
            let f = 0.3469 * (f64::from(i) / 80.0 - 1.0);
            let rest = c.iter().fold(0.0, |p, &c| p * f + f64::from(c));
            ((1.0 + f + f * f * rest) / f.exp() - 1.0).abs() <= 6.05e-9
        })
    }
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
    fn new(x: f32, k: i64) -> Self {
        let value = f64::from(x).exp() * f64::from_bits(((1023 - k) as u64) << 52);
        let exponent = value.to_bits() >> 52;
        Self { x, value, ulps: f64::from_bits((1023 + 23 + 1023 - exponent) << 52) }
    }

    #[inline(always)]
    fn error(&self, found: f32) -> f64 {
        (f64::from(found) - self.value).abs() * self.ulps
    }
}

/// The largest error in ulp and where it is; the cases whose errors are larger than `above` are kept.
fn scan<E: Exp<N>, const N: usize>(of: &E, c: &[f32; N], above: f64, step: usize, kept: &mut Vec<Case>) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for sign in [0, 1 << 31] {
        for bits in (0.000_976_562_5f32.to_bits()..=44.4f32.to_bits()).step_by(step) {
            let x = f32::from_bits(bits | sign);
            let (found, k) = of.exp(x, c);
            let case = Case::new(x, k);
            let error = case.error(found);
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

fn search<E: Exp<N>, const N: usize>(of: &E, seconds: u64) {
    let (mut best, mut state) = (E::IN_USE.map(f32::from_bits), 1u64);
    let mut random = |below: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) % below
    };
    // The cases with the largest errors, and a sample of all.
    let (mut cases, mut above) = (Vec::new(), 0.93);
    scan(of, &best, -1.0, 9973, &mut cases);
    let begun = Instant::now();
    loop {
        let (error, x) = scan(of, &best, above, 1, &mut cases);
        println!("{}: {:x?}: {error:.4} ulp at {x:e}", E::NAME, best.map(f32::to_bits));
        if begun.elapsed() >= Duration::from_secs(seconds) {
            return;
        }
        let largest = |c: &[f32; N]| cases.iter().map(|case| case.error(of.exp(case.x, c).0)).fold(0.0, f64::max);
        let (mut least, round) = (largest(&best), Instant::now());
        while round.elapsed() < Duration::from_secs(20) {
            let mut moved = best;
            for _ in 0..1 + random(3) {
                let i = random(N as u64) as usize;
                let by = (random(2 * E::REACH[i] as u64 + 1) as i64 - E::REACH[i]) / [1, 4, 9, 16][random(4) as usize];
                moved[i] = f32::from_bits((i64::from(moved[i].to_bits()) + by) as u32);
            }
            let error = if of.allows(&moved) { largest(&moved) } else { f64::MAX };
            if error < least {
                (least, best) = (error, moved);
            }
        }
        above = least - 0.01;
    }
}

/// The table c·2^(j/8), and the largest error of its elements in ulp.
fn table(c: f32) -> ([f32; 8], f64) {
    let exact: [f64; 8] = std::array::from_fn(|j| f64::from(c) * (j as f64 / 8.0).exp2());
    let errors = exact.map(|x| (f64::from(x as f32) - x).abs() / f64::from_bits(((x.to_bits() >> 52) - 23) << 52));
    (exact.map(|x| x as f32), errors.into_iter().fold(0.0, f64::max))
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    // Of the c near 1, so that eᶠ/c − 1 is small.
    let candidates = (0.999f32.to_bits()..1.001f32.to_bits()).map(f32::from_bits);
    let c = candidates.min_by(|&a, &b| table(a).1.total_cmp(&table(b).1)).expect("a candidate");
    let (table, error) = table(c);
    println!("table with c = {c}: {:x?}, {error:.3} ulp", table.map(f32::to_bits));
    search(&Fused { table }, seconds);
    search(&Unfused, seconds);
}
