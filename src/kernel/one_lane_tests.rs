//! Losses and gradients of one lane against formulas in f64, in every regime of logits, fused and unfused, with rows
//! whole and in pieces.

use std::vec::Vec;
use std::{println, vec};

use super::loss;
use crate::backend::Backend;
use crate::backend::vector::{Driver, Vector};
use crate::{CrossEntropy, Logits, Reduction};

/// The scalar backends: fused and unfused.
fn lanes() -> Vec<Backend> {
    Backend::available().filter(|backend| backend.name().starts_with("scalar")).collect()
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        self.bits() as f64 / (1u64 << 53) as f64
    }
    fn below(&mut self, end: usize) -> usize {
        (self.uniform() * end as f64) as usize
    }
    /// In [low, high).
    fn within(&mut self, low: f64, high: f64) -> f32 {
        (low + self.uniform() * (high - low)) as f32
    }
}

const REGIMES: usize = 18;

fn row(random: &mut Random, regime: usize, classes: usize) -> (Vec<f32>, usize) {
    let label = random.below(classes);
    let (low, high) = match regime {
        3 => (-1.0, 1.0),
        4 => (1e4, 1e4 + 20.0),
        5 => (-1e8, -1e8 + 64.0),
        6 => (-1e-3, 1e-3),
        7 => (-3e38, 3e38),
        8 => (376.0, 392.0),
        9 => (-392.0, -376.0),
        10 => (-90.0, 90.0),
        15 => (-700.0, 700.0),
        17 => (-556.0, -500.0),
        _ => (-4.0, 4.0),
    };
    let mut logits: Vec<f32> = (0..classes).map(|_| random.within(low, high)).collect();
    match regime {
        0 => logits[label] += random.within(5.0, 20.0),
        1 => logits[label] -= random.within(70.0, 200.0),
        2 => logits[label] += random.within(40.0, 110.0),
        // Equal logits, whose exponentials all have the same rounding error.
        11 => {
            let (of_label, of_others) = (random.within(-20.0, 20.0), random.within(-20.0, 20.0));
            logits.fill(of_others);
            logits[label] = of_label;
        }
        12 => logits
            .iter_mut()
            .enumerate()
            .filter(|(k, _)| *k != label && k % 3 != 0)
            .for_each(|(_, x)| *x = f32::NEG_INFINITY),
        13 => logits.iter_mut().for_each(|x| *x = -*x * 1e-40),
        // One of the other logits far above or below the rest.
        14 => logits[(label + 1) % classes] += random.within(-30.0, 30.0),
        // Many small, equal terms beside a large one: rounding must not lose their sum.
        16 => {
            logits.fill(random.within(-20.0, -10.0));
            logits[label] = random.within(-20.0, 20.0);
            logits[(label + 1) % classes] = random.within(-1.0, 1.0);
        }
        17 => logits[(label + 1) % classes] = random.within(-383.0, -370.0),
        _ => {}
    }
    (logits, label)
}

/// −log p_y, and p.
fn textbook(logits: &[f32], label: usize) -> (f64, Vec<f64>) {
    let x = |k: usize| f64::from(logits[k]);
    let others = || (0..logits.len()).filter(|&k| k != label);
    let largest = others().map(x).fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return (0.0, (0..logits.len()).map(|k| if k == label { 1.0 } else { 0.0 }).collect());
    }
    let sum: f64 = others().map(|k| (x(k) - largest).exp()).sum();
    let gap = largest - x(label);
    let loss = if gap > 600.0 { gap + sum.ln() } else { (sum * gap.exp()).ln_1p() };
    // E/(1 + E) and 1/(1 + E)
    let (miss, hit) = (1.0 / (1.0 + (-gap).exp() / sum), 1.0 / (1.0 + sum * gap.exp()));
    let p = |k| if k == label { hit } else { (x(k) - largest).exp() / sum * miss };
    (loss, (0..logits.len()).map(p).collect())
}

/// The error in ulp of `expected`; 0 where both are below the normal range, or both beyond f32.
fn ulps(found: f32, expected: f64) -> f64 {
    let size = expected.abs();
    if size < f64::from(f32::MIN_POSITIVE) {
        return if f64::from(found).abs() <= 1.01 * f64::from(f32::MIN_POSITIVE) { 0.0 } else { f64::INFINITY };
    }
    if size >= f64::from(f32::MAX) {
        return if found.abs() >= f32::MAX { 0.0 } else { f64::INFINITY };
    }
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    (f64::from(found) - expected).abs() / 2f64.powi(exponent - 23)
}

struct OneLoss<'a>(&'a [f32], usize, f32);

impl Driver for OneLoss<'_> {
    type Output = f32;

    fn drive<S: Vector>(self, s: S) -> f32 {
        loss(s.lane(), self.0, self.1, self.2)
    }
}

const CLASSES: [usize; 8] = [1, 2, 3, 5, 10, 17, 100, 1000];

/// Number of logits tried of each regime and number of classes.
const LOGITS: usize = if cfg!(debug_assertions) { 20_000 } else { 2_000_000 };

#[test]
fn losses_are_within_three_ulp() {
    for backend in lanes() {
        let mut random = Random(7);
        // In software a fused multiply-add is slow.
        let logits = if backend.is_fused() { LOGITS / 10 } else { LOGITS };
        for regime in 0..REGIMES {
            let mut worst = (0.0, Vec::new(), 0, 0.0);
            for classes in CLASSES {
                for number in 0..logits / classes.max(10) {
                    let (row, label) = row(&mut random, regime, classes);
                    let mut weight = random.within(-2.0, 4.0);
                    match number % 8 {
                        0 => weight *= 1e-30,
                        1 => weight *= 1e30,
                        2 => weight = 3e38,
                        3 => weight *= 1e-42,
                        _ => {}
                    }
                    let found = backend.drive(OneLoss(&row, label, weight));
                    let expected = textbook(&row, label).0 * f64::from(weight);
                    let error = ulps(found, expected);
                    assert!(error <= 3.0, "{backend} {regime} {row:?} {label} {weight:e}: {found:e}, not {expected:e}");
                    if error > worst.0 {
                        worst = (error, row, label, weight);
                    }
                }
            }
            println!(
                "{backend} regime {regime}: {:.2} ulp with {} classes, weight {:e}",
                worst.0,
                worst.1.len(),
                worst.3
            );
        }
    }
}

#[test]
fn many_classes_are_as_exact() {
    for backend in lanes() {
        let mut random = Random(9);
        for regime in 0..REGIMES {
            let (row, label) = row(&mut random, regime, 131_072);
            let found = backend.drive(OneLoss(&row, label, 1.0));
            let expected = textbook(&row, label).0;
            assert!(ulps(found, expected) <= 3.0, "{backend} {regime}: {found:e}, not {expected:e}");
        }
    }
}

#[test]
fn gradients_are_within_five_ulp() {
    for backend in lanes() {
        let (mut random, mut worst) = (Random(11), 0.0);
        for regime in 0..REGIMES {
            for classes in CLASSES {
                for number in 0..(LOGITS / 50 / classes).max(2) {
                    let (row, label) = row(&mut random, regime, classes);
                    let weight = random.within(-2.0, 4.0) * [1.0, 1e-30, 1e30][number % 3];
                    let upstream = random.within(-2.0, 4.0) * [1.0, 1e-30, 1e30, 1e-42, 5e37][number % 5];
                    let (weights, mut gradient) = (vec![weight; classes], vec![0.0; classes]);
                    let loss =
                        CrossEntropy::new(classes).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
                    loss.gradient(&row, &[label as u32], upstream, &mut gradient).unwrap();
                    let factor = f64::from(weight) * f64::from(upstream);
                    let p = textbook(&row, label).1;
                    for (k, (&found, p_k)) in gradient.iter().zip(&p).enumerate() {
                        let miss = || p.iter().enumerate().filter(|(k, _)| *k != label).map(|(_, p)| p).sum::<f64>();
                        let expected = factor * if k == label { -miss() } else { *p_k };
                        let error = if *p_k < 2f64.powi(-250) && found == 0.0 { 0.0 } else { ulps(found, expected) };
                        let what = || std::format!("{backend} {regime} {row:?} {label}, {weight:e} · {upstream:e}");
                        assert!(error <= 5.0, "{}, element {k}: {found:e}, not {expected:e}", what());
                        worst = f64::max(worst, error);
                    }
                }
            }
        }
        println!("{backend}: gradient {worst:.2} ulp");
    }
}

/// Every layout and type of logits gives the bits of dense rows of f32.
#[test]
fn pieces_change_no_bit() {
    for backend in lanes() {
        let mut random = Random(13);
        for classes in [1, 2, 3, 10, 127, 128, 129, 255, 256, 257, 300, 1000, 2500, 5001] {
            let rows = 1 + 600 / classes;
            let values: Vec<i8> = (0..rows * classes).map(|_| random.bits() as i8).collect();
            let quantised = Logits::I8 { values: &values, scale: 0.25, zero_point: 3 };
            let logits: Vec<f32> = (0..values.len()).map(|k| quantised.get(k).unwrap()).collect();
            let labels: Vec<u32> = (0..rows).map(|_| random.below(classes) as u32).collect();
            let samples: Vec<f32> = (0..rows).map(|_| random.within(-1.0, 3.0)).collect();
            let loss = CrossEntropy::new(classes).sample_weights(&samples).reduction(Reduction::Sum).backend(backend);
            let (mut expected, mut losses) = (vec![0.0; logits.len()], vec![0.0; rows]);
            let summary = loss.gradient(&logits, &labels, 1.5, &mut expected).unwrap();
            loss.row_losses(&logits, &labels, &mut losses).unwrap();
            let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
            assert!((summary.sum - sum).abs() <= 1e-12 * sum.abs(), "{summary:?}, not {sum}");

            let (mut found, mut found_losses) = (vec![0.0; logits.len()], vec![0.0; rows]);
            assert_eq!(loss.gradient(quantised, &labels, 1.5, &mut found), Ok(summary));
            assert_eq!(found, expected, "{backend} {classes}");
            loss.row_losses(quantised, &labels, &mut found_losses).unwrap();
            assert_eq!(found_losses, losses);

            found.copy_from_slice(&logits);
            assert_eq!(loss.gradient_in_place(&mut found, &labels, 1.5), Ok(summary));
            assert_eq!(found, expected);

            // Padded rows.
            let stride = classes + 3;
            let mut apart = vec![f32::NAN; rows * stride];
            for (to, from) in apart.chunks_mut(stride).zip(logits.chunks(classes)) {
                to[..classes].copy_from_slice(from);
            }
            let padded = loss.row_stride(stride);
            assert_eq!(padded.gradient_in_place(&mut apart, &labels, 1.5), Ok(summary));
            for (found, expected) in apart.chunks(stride).zip(expected.chunks(classes)) {
                assert_eq!(found[..classes], *expected);
            }

            // The layout `[1, C, D]`.
            let across =
                |of: &[f32]| -> Vec<f32> { (0..of.len()).map(|k| of[k % rows * classes + k / rows]).collect() };
            let mut found = vec![0.0; logits.len()];
            let positions = loss.positions(rows);
            assert_eq!(positions.gradient(&across(&logits), &labels, 1.5, &mut found), Ok(summary));
            assert_eq!(found, across(&expected));
        }
    }
}

#[test]
fn nan_and_infinity() {
    const N: f32 = f32::NAN;
    const P: f32 = f32::INFINITY;
    const M: f32 = f32::NEG_INFINITY;
    // Logits, loss and gradient for label 1.
    let table: [([f32; 3], f32, [f32; 3]); 14] = [
        ([N, 0.0, 0.0], N, [N, N, N]),
        ([0.0, N, 0.0], N, [N, N, N]),
        ([-N, P, 0.0], N, [N, N, N]),
        ([N, M, P], N, [N, N, N]),
        ([N, P, P], N, [N, N, N]),
        ([M, 0.0, M], 0.0, [0.0, 0.0, 0.0]),
        ([0.0, M, 0.0], P, [0.5, -1.0, 0.5]),
        ([M, M, 0.0], P, [0.0, -1.0, 1.0]),
        ([M, M, M], N, [N, N, N]),
        ([5.0, P, M], 0.0, [0.0, 0.0, 0.0]),
        ([P, 3e38, M], P, [1.0, -1.0, 0.0]),
        ([1.0, M, P], P, [0.0, -1.0, 1.0]),
        ([P, 0.0, P], P, [N, N, N]),
        ([0.0, P, P], N, [N, N, N]),
    ];
    let same = |found: f32, expected: f32| found == expected || found.is_nan() && expected.is_nan();
    for backend in lanes() {
        for (row, of_row, of_logits) in table {
            // Rows of 400 classes are computed in pieces.
            for classes in [3, 400] {
                for weight in [1.0, 0.0, 1e-30] {
                    let mut logits = vec![f32::NEG_INFINITY; classes];
                    logits[..2].copy_from_slice(&row[..2]);
                    logits[classes - 1] = row[2];
                    let found = backend.drive(OneLoss(&logits, 1, weight));
                    let loss = if weight == 0.0 { 0.0 } else { of_row };
                    assert!(same(found, loss), "{row:?}: {found}, not {loss}");
                    let mut apart = logits.clone();
                    apart.push(0.0);
                    let (mut gradient, weights) = (vec![7.0; classes], vec![weight; classes]);
                    let of =
                        CrossEntropy::new(classes).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
                    let summary = of.gradient(&logits, &[1u8], 1.0, &mut gradient).unwrap();
                    assert!(same(summary.loss, loss), "{row:?}: {summary:?}");
                    of.row_stride(classes + 1).gradient_in_place(&mut apart, &[1u8], 1.0).unwrap();
                    for found in [&gradient[..], &apart[..classes]] {
                        for (k, expected) in [0, 1, classes - 1].into_iter().zip(of_logits) {
                            let expected = if weight == 0.0 { 0.0 } else { expected * weight };
                            assert!(same(found[k], expected), "{row:?}: {found:?}");
                        }
                    }
                }
            }
        }
        for (logit, expected) in [(5.0, 0.0), (P, 0.0), (M, N), (N, N)] {
            assert!(same(backend.drive(OneLoss(&[logit], 0, 2.0)), expected));
        }
    }
}

/// w\[y\]·s overflows or underflows f32, its product with −log p_y does not.
#[test]
fn weights_beyond_f32() {
    for backend in lanes() {
        let samples = [3e38, 1e-30];
        let classes = [1e38, 1e-30];
        let loss = CrossEntropy::new(2)
            .class_weights(&classes)
            .sample_weights(&samples)
            .reduction(Reduction::Sum)
            .backend(backend);
        let (logits, mut losses) = ([640.0, 380.0, 1e30, -1e38], [0.0; 2]);
        loss.row_losses(&logits, &[0u8, 1], &mut losses).unwrap();
        let expected = [3e76 * (-260f64).exp(), 1e38 * 1e-60];
        assert!(
            losses.iter().zip(expected).all(|(found, expected)| ulps(*found, expected) < 3.0),
            "{losses:?} {expected:?}"
        );
    }
}
