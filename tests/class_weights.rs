//! Class weights from counts, against values worked out by hand and the formulas in f64.

mod common;

use common::{Rng, error_in_ulps, pattern, raw_bits};
use rwwce::{ClassWeights, EmptyClass, Label, Normalisation, Scheme, count_labels};

const SCHEMES: [Scheme; 8] = [
    Scheme::InverseFrequency,
    Scheme::Balanced,
    Scheme::EffectiveNumber { beta: 0.0 },
    Scheme::EffectiveNumber { beta: 0.5 },
    Scheme::EffectiveNumber { beta: 0.999 },
    Scheme::EffectiveNumber { beta: 0.999_999_9 },
    Scheme::InverseSquareRoot,
    Scheme::MedianFrequency,
];
const NORMALISATIONS: [Normalisation; 3] = [Normalisation::None, Normalisation::Sum, Normalisation::Mean];
/// One rounding to f32 (0.5 ulp), and rounding errors in f64 by the order of operations.
const ONCE_ROUNDED: f64 = 0.5 + 1e-4;

#[track_caller]
fn weights(class_weights: ClassWeights, counts: &[u64]) -> Vec<f32> {
    let mut weights = pattern(counts.len());
    class_weights.from_counts(counts, &mut weights).unwrap();
    weights
}

/// The formula of a scheme, evaluated as it is written where f64 is precise enough for that.
fn formula(scheme: Scheme, counts: &[u64]) -> Vec<f64> {
    let n: f64 = counts.iter().map(|&count| count as f64).sum();
    let mut sorted: Vec<u64> = counts.iter().copied().filter(|&count| count > 0).collect();
    sorted.sort_unstable();
    let middle = |at: usize| sorted.get(at).map_or(0.0, |&count| count as f64);
    let median = (middle(sorted.len().saturating_sub(1) / 2) + middle(sorted.len() / 2)) / 2.0;
    let of_class = |&count: &u64| {
        let count = count as f64;
        match scheme {
            Scheme::InverseFrequency => n / count,
            Scheme::Balanced => n / (counts.len() as f64 * count),
            Scheme::EffectiveNumber { beta } if count < 1e4 => {
                // (1 − βⁿ) / (1 − β) is 1 + β + … + βⁿ⁻¹.
                1.0 / (0..count as i32).map(|i| beta.powi(i)).sum::<f64>()
            }
            Scheme::EffectiveNumber { beta } => (1.0 - beta) / -(count * beta.ln()).exp_m1(),
            Scheme::InverseSquareRoot => (n / count).sqrt(),
            Scheme::MedianFrequency => median / count,
            other => panic!("no formula of {other:?}"),
        }
    };
    counts.iter().map(of_class).collect()
}

/// The formula, normalised over the classes with samples, and `empty` for the others.
fn model(scheme: Scheme, normalisation: Normalisation, empty: f32, counts: &[u64]) -> Vec<f64> {
    let weights = formula(scheme, counts);
    let with_samples = || weights.iter().zip(counts).filter(|&(_, &count)| count > 0).map(|(weight, _)| weight);
    let sum: f64 = with_samples().sum();
    let factor = match normalisation {
        Normalisation::None => 1.0,
        Normalisation::Sum => 1.0 / sum,
        Normalisation::Mean => with_samples().count() as f64 / sum,
        other => panic!("no formula of {other:?}"),
    };
    let of_class = |(&weight, &count): (&f64, &u64)| if count == 0 { f64::from(empty) } else { weight * factor };
    weights.iter().zip(counts).map(of_class).collect()
}

#[test]
fn every_scheme_gives_the_values_worked_out_by_hand() {
    // n = 100; the middle two counts are 20 and 30.
    let counts = [10, 20, 30, 40];
    let by_hand = [
        (Scheme::InverseFrequency, [10.0, 5.0, 10.0 / 3.0, 2.5]),
        (Scheme::Balanced, [2.5, 1.25, 5.0 / 6.0, 0.625]),
        (Scheme::EffectiveNumber { beta: 0.0 }, [1.0; 4]),
        // 0.5 / (1 − 2^−n)
        (
            Scheme::EffectiveNumber { beta: 0.5 },
            [512.0 / 1023.0, 524_288.0 / 1_048_575.0, 536_870_912.0 / 1_073_741_823.0, 0.5],
        ),
        (Scheme::InverseSquareRoot, [3.162_277_7, 2.236_068, 1.825_741_9, 1.581_138_8]),
        (Scheme::MedianFrequency, [2.5, 1.25, 5.0 / 6.0, 0.625]),
    ];
    for (scheme, expected) in by_hand {
        assert_eq!(
            weights(ClassWeights::new(scheme), &counts),
            expected.map(|weight: f64| weight as f32),
            "{scheme:?}"
        );
    }
    // Of an odd number of classes one count is the median, whatever their order.
    assert_eq!(weights(ClassWeights::new(Scheme::MedianFrequency), &[8, 1, 2]), [0.25, 2.0, 1.0]);
    assert_eq!(weights(ClassWeights::new(Scheme::MedianFrequency), &[3, 3, 3, 9]), [1.0, 1.0, 1.0, 1.0 / 3.0]);
}

// scikit-learn documents compute_class_weight("balanced", ...) by the formula n / (C · bincount).
#[test]
fn a_typical_imbalanced_set_gets_the_balanced_weights() {
    let counts = [9_000, 900, 100];
    let expected = [10_000.0 / 27_000.0, 10_000.0 / 2700.0, 10_000.0 / 300.0].map(|weight: f64| weight as f32);
    assert_eq!(weights(ClassWeights::new(Scheme::Balanced), &counts), expected);
}

#[test]
fn normalised_weights_add_up_to_what_was_asked_for() {
    let counts = [1, 2, 4];
    // n / n_c = 7, 3.5, 1.75: in the proportion 4 : 2 : 1.
    let inverse = ClassWeights::new(Scheme::InverseFrequency);
    assert_eq!(weights(inverse, &counts), [7.0, 3.5, 1.75]);
    assert_eq!(weights(inverse.normalisation(Normalisation::Sum), &counts), [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
    assert_eq!(weights(inverse.normalisation(Normalisation::Mean), &counts), [12.0 / 7.0, 6.0 / 7.0, 3.0 / 7.0]);
    // Classes without samples are left out of the normalisation.
    let chosen = inverse.empty_class(EmptyClass::Weight(100.0));
    let counts = [1, 0, 2, 4, 0];
    let sum = weights(chosen.normalisation(Normalisation::Sum), &counts);
    assert_eq!(sum, [4.0 / 7.0, 100.0, 2.0 / 7.0, 1.0 / 7.0, 100.0]);
    let mean = weights(chosen.normalisation(Normalisation::Mean), &counts);
    assert_eq!(mean, [12.0 / 7.0, 100.0, 6.0 / 7.0, 3.0 / 7.0, 100.0]);
}

#[test]
fn every_scheme_follows_its_formula_on_random_counts() {
    let mut rng = Rng(30);
    for round in 0..400 {
        let classes = 1 + rng.below(if round % 10 == 0 { 300 } else { 12 });
        let counts: Vec<u64> = (0..classes)
            .map(|_| match rng.below(6) {
                0 => 0,
                1 => 1 + rng.below(3) as u64,
                2 => 1 + rng.bits() % 1_000_000_000,
                // Counts of every magnitude.
                3 => rng.bits() >> rng.below(64),
                _ => 1 + rng.below(2000) as u64,
            })
            .collect();
        for scheme in SCHEMES {
            for normalisation in NORMALISATIONS {
                let empty = rng.between(-2.0, 2.0);
                let class_weights =
                    ClassWeights::new(scheme).normalisation(normalisation).empty_class(EmptyClass::Weight(empty));
                let found = weights(class_weights, &counts);
                let expected = model(scheme, normalisation, empty, &counts);
                for (class, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                    let error = error_in_ulps(found, expected);
                    assert!(
                        error <= ONCE_ROUNDED,
                        "{scheme:?}, {normalisation:?}, class {class} of {counts:?}: {found:e} for {expected:e}, {error} ulp"
                    );
                }
            }
        }
    }
}

#[test]
fn the_rarer_class_never_weighs_less() {
    let counts = [1, 2, 3, 10, 1000, 1_000_000, u64::MAX / 2, u64::MAX];
    for scheme in SCHEMES {
        let found = weights(ClassWeights::new(scheme), &counts);
        assert!(found.windows(2).all(|pair| pair[0] >= pair[1]), "{scheme:?}: {found:?}");
    }
}

#[test]
fn a_class_without_samples_gets_exactly_the_weight_chosen_for_it() {
    for scheme in SCHEMES {
        for normalisation in NORMALISATIONS {
            for empty in [0.0, -0.0, 1.0, -3.5, f32::MAX, f32::from_bits(1)] {
                let class_weights =
                    ClassWeights::new(scheme).normalisation(normalisation).empty_class(EmptyClass::Weight(empty));
                let found = weights(class_weights, &[0, 5, 0, 7, 0]);
                assert_eq!(raw_bits(&[found[0], found[2], found[4]]), raw_bits(&[empty; 3]));
                assert!(found[1] > 0.0 && found[3] > 0.0 && found[1] >= found[3], "{scheme:?}: {found:?}");
                // Also where no class has samples, and there is nothing to normalise.
                assert_eq!(raw_bits(&weights(class_weights, &[0; 4])), raw_bits(&[empty; 4]), "{scheme:?}");
            }
        }
    }
    // The choice has no effect where every class has samples.
    for scheme in SCHEMES {
        let chosen = ClassWeights::new(scheme).empty_class(EmptyClass::Weight(-9.0));
        assert_eq!(weights(chosen, &[3, 5]), weights(ClassWeights::new(scheme), &[3, 5]));
        let default = ClassWeights::new(scheme).empty_class(EmptyClass::Error);
        assert_eq!(default, ClassWeights::new(scheme));
    }
}

#[test]
fn a_class_without_samples_is_among_the_classes_of_balanced_only() {
    let weights = |scheme| weights(ClassWeights::new(scheme).empty_class(EmptyClass::Weight(0.0)), &[4, 0, 1, 0]);
    assert_eq!(weights(Scheme::Balanced), [5.0 / 16.0, 0.0, 1.25, 0.0]);
    assert_eq!(weights(Scheme::InverseFrequency), [1.25, 0.0, 5.0, 0.0]);
    // The median of 4 and 1.
    assert_eq!(weights(Scheme::MedianFrequency), [0.625, 0.0, 2.5, 0.0]);
}

#[test]
fn extreme_counts_give_finite_positive_weights() {
    let extremes: [&[u64]; 8] = [
        &[1],
        &[u64::MAX],
        &[1, u64::MAX],
        &[u64::MAX; 5],
        &[1, 1, 1, u64::MAX, u64::MAX],
        &[u64::MAX - 1, u64::MAX, 1 << 63],
        &[1 << 53, (1 << 53) + 1],
        &[0, u64::MAX, 0],
    ];
    let betas = [0.0, f64::from_bits(1), 1e-300, 0.5, 0.9999, 0.999_999_9, 1.0 - f64::EPSILON / 2.0];
    let schemes = SCHEMES.into_iter().chain(betas.map(|beta| Scheme::EffectiveNumber { beta }));
    for scheme in schemes {
        for counts in extremes {
            for normalisation in NORMALISATIONS {
                let class_weights =
                    ClassWeights::new(scheme).normalisation(normalisation).empty_class(EmptyClass::Weight(1.0));
                let found = weights(class_weights, counts);
                let ordinary = found.iter().all(|weight| weight.is_normal() && *weight > 0.0);
                assert!(ordinary, "{scheme:?}, {normalisation:?}, {counts:?}: {found:?}");
                for (&found, &expected) in found.iter().zip(&model(scheme, normalisation, 1.0, counts)) {
                    let error = error_in_ulps(found, expected);
                    assert!(error <= ONCE_ROUNDED, "{scheme:?}, {counts:?}: {found:e} for {expected:e}");
                }
            }
        }
    }
}

#[test]
fn the_effective_number_runs_from_one_to_the_inverse_frequency() {
    let counts = [1, 10, 1000, u64::MAX];
    assert_eq!(weights(ClassWeights::new(Scheme::EffectiveNumber { beta: 0.0 }), &counts), [1.0; 4]);
    assert_eq!(weights(ClassWeights::new(Scheme::EffectiveNumber { beta: -0.0 }), &counts), [1.0; 4]);
    // As close to 1 as f64 comes: 1 / n_c, until n_c is of the size of 1 / (1 − β).
    let beta = 1.0 - f64::EPSILON / 2.0;
    let found = weights(ClassWeights::new(Scheme::EffectiveNumber { beta }), &counts);
    assert_eq!(found, [1.0, 0.1, 0.001, (f64::EPSILON / 2.0) as f32]);
    // 1 / (100 − 4950·10⁻⁷ + …)
    let found = weights(ClassWeights::new(Scheme::EffectiveNumber { beta: 0.999_999_9 }), &[1, 2, 100]);
    assert_eq!(found, [1.0, 0.5, 0.010_000_049]);
}

#[test]
fn the_median_of_many_classes_is_that_of_the_sorted_counts() {
    let mut rng = Rng(31);
    let sizes: &[usize] = if cfg!(miri) { &[1, 2, 5, 64] } else { &[1, 2, 5, 64, 1001, 131_072, 131_071] };
    for &classes in sizes {
        for spread in [0, 1, 50, 63] {
            let counts: Vec<u64> = (0..classes).map(|_| 1 + (rng.bits() >> 1) % (1 << spread)).collect();
            let found = weights(ClassWeights::new(Scheme::MedianFrequency), &counts);
            let expected = formula(Scheme::MedianFrequency, &counts);
            for (&found, &expected) in found.iter().zip(&expected) {
                assert!(error_in_ulps(found, expected) <= ONCE_ROUNDED, "C = {classes}: {found:e} for {expected:e}");
            }
        }
    }
}

#[test]
fn labels_of_every_type_are_counted() {
    fn check<L: Label>(labels: [L; 7], ignore_index: i64) {
        // Previous contents are overwritten.
        let mut counts = [u64::MAX, 5, 0, 9];
        assert_eq!(count_labels(&labels, Some(ignore_index), &mut counts), Ok(6));
        assert_eq!(counts, [2, 1, 0, 3]);
    }
    check([0u8, 3, 255, 1, 3, 0, 3], 255);
    check([0u16, 3, 65_535, 1, 3, 0, 3], 65_535);
    check([0u32, 3, u32::MAX, 1, 3, 0, 3], i64::from(u32::MAX));
    check([0i32, 3, -100, 1, 3, 0, 3], -100);
    check([0i64, 3, i64::MIN, 1, 3, 0, 3], i64::MIN);
    // An ignored class has no samples.
    let mut counts = [7; 4];
    assert_eq!(count_labels(&[0u8, 3, 1, 3, 0, 3], Some(3), &mut counts), Ok(3));
    assert_eq!(counts, [2, 1, 0, 0]);
    assert_eq!(count_labels::<u8>(&[], None, &mut counts), Ok(0));
    assert_eq!(counts, [0; 4]);
}
