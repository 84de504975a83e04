//! Bugs found by fuzzing, or by comparing one version with the next, each reduced to a minimal case.

mod common;

use common::{LOSS_ULPS, Rng, backends, bits, error_in_ulps, reference};
use rwwce::{BinaryCrossEntropy, CrossEntropy, Curvature, Denominator, Logits, Reduction, Summary, Upstream};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

/// An upstream factor of 0 makes every gradient 0, also in the layout `[N, C, D]` and for logits whose softmax is
/// undefined.
#[test]
fn an_upstream_factor_of_zero_leaves_zeros_whatever_the_logits() {
    for backend in backends() {
        for special in [NAN, INF] {
            // Two rows of three classes; the second is special.
            let across = [0.0, special, 1.0, special, 2.0, 0.0];
            let along = [0.0, 1.0, 2.0, special, special, 0.0];
            for (logits, positions) in [(&across, 2), (&along, 1)] {
                let costs = [0.0, 1.0, 2.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.0];
                let plain = CrossEntropy::new(3).positions(positions).reduction(Reduction::Sum).backend(backend);
                for loss in [plain, plain.mislabel_costs(&costs), plain.focal(2.0), plain.label_smoothing(0.1)] {
                    for upstream in [Upstream::Loss(0.0), Upstream::Rows(&[0.0; 2])] {
                        let mut gradient = [7.0; 6];
                        let summary = loss.gradient(logits, &[0u8, 2], upstream, &mut gradient).unwrap();
                        assert_eq!(gradient, [0.0; 6], "{backend} {special} D = {positions} {loss:?}");
                        assert_eq!(summary.non_finite, 1);
                    }
                }
            }
        }
    }
}

/// Likewise for the binary loss.
#[test]
fn an_upstream_factor_of_zero_leaves_zeros_of_the_binary_loss() {
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(1).backend(backend);
        for upstream in [Upstream::Loss(0.0), Upstream::Rows(&[0.0; 3])] {
            let mut gradient = [7.0; 3];
            loss.gradient(&[NAN, INF, 1.0], &[0.5, 0.0, 1.0], upstream, &mut gradient).unwrap();
            assert_eq!(gradient, [0.0; 3], "{backend}");
        }
    }
}

/// A logit of weight 0 has a gradient of 0, also where the denominator of the mean is 0.
#[test]
fn a_sample_weight_of_zero_leaves_zeros_of_the_mean_over_nothing() {
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(1).sample_weights(&[0.0; 2]).backend(backend);
        let loss = loss.reduction(Reduction::Mean(Denominator::WeightSum));
        let mut gradient = [7.0; 2];
        loss.gradient(&[0.0, 16.0], &[0.0, 1.0], 1.0, &mut gradient).unwrap();
        assert_eq!(gradient, [0.0; 2], "{backend}");
    }
}

/// `gradient` returns the bits of `loss`, also where a row's upstream factor is 0 and its loss needs the general way.
#[test]
fn a_factor_of_zero_leaves_the_loss_as_it_is() {
    for backend in backends() {
        for positions in [1, 3] {
            // The label leads by 95, and weighs enough for the loss to be a normal number.
            let logits: [f32; 6] = if positions == 1 {
                [-174.119_57, -78.804_67, -174.0, -78.5, -150.0, -50.25]
            } else {
                [-174.119_57, -174.0, -150.0, -78.804_67, -78.5, -50.25]
            };
            let weights = [1e20, 6.187_500_5e20];
            let loss = CrossEntropy::new(2).positions(positions).class_weights(&weights).backend(backend);
            let mut gradient = [7.0; 6];
            let expected = loss.loss(&logits, &[1u8; 3]).unwrap();
            let upstream = Upstream::Rows(&[0.0; 3]);
            let found = loss.gradient(&logits, &[1u8; 3], upstream, &mut gradient).unwrap();
            assert_eq!(found, expected, "{backend} D = {positions}");
            assert_eq!(gradient, [0.0; 6]);
        }
    }
}

/// The z-loss of a row of weight 0 adds nothing to the gradient of its other terms, also for an infinite logit.
#[test]
fn a_z_loss_without_weight_adds_nothing_to_the_gradient() {
    // Class 1 is true; missing it costs 0, and so does naming class 2.
    let costs = [0.0, 1.0, 1.0, 5.0, 0.0, 0.0, 1.0, 1.0, 0.0];
    let weights = [1.0, 0.0, 1.0];
    for backend in backends() {
        let loss = CrossEntropy::new(3).class_weights(&weights).mislabel_costs(&costs).z_loss(0.01).backend(backend);
        let mut gradient = [7.0; 3];
        let summary = loss.gradient(&[0.0, 0.0, INF], &[1u8], 1.0, &mut gradient).unwrap();
        assert_eq!(summary.loss, 0.0, "{backend}");
        assert_eq!(bits(&gradient.map(|x| x + 0.0)), bits(&[0.0; 3]), "{backend}: {gradient:?}");
    }
}

/// The error was 5.016 ulp on the unfused backends.
#[test]
fn a_gradient_is_within_its_bound_for_weights_that_are_not_one() {
    let logits = [
        4.878_174,
        4.891_601_6,
        4.864_99,
        4.848_633,
        4.872_070_3,
        4.849_365,
        4.852_295,
        4.904_297,
        -14.625,
        4.865_722_7,
        4.873_291,
        4.864_258,
        4.900_635,
        4.844_482_4,
        4.874_023_4,
        4.874_756,
        -256.0,
        4.869_140_6,
        4.904_541,
        4.902_832,
        4.882_568_4,
        4.847_900_4,
        13.25,
        4.893_066_4,
        4.892_334,
        4.905_029_3,
        4.898_926,
        4.854_736_3,
        4.888_183_6,
        4.868_896_5,
        4.862_304_7,
        4.893_554_7,
        4.879_638_7f32,
    ];
    let mut weights = [1.0; 33];
    weights[13] = 8.875;
    let factor = 1.0 / 8.5;
    for backend in backends() {
        let expected = reference::gradient(&logits, 13);
        let mut gradient = [7.0; 33];
        let loss = CrossEntropy::new(33).class_weights(&weights).sample_weights(&[1.0]).backend(backend);
        loss.reduction(Reduction::Sum).gradient(&logits, &[13u8], factor, &mut gradient).unwrap();
        for (class, (&found, expected)) in gradient.iter().zip(expected).enumerate() {
            let error = error_in_ulps(found, expected * 8.875 * f64::from(factor));
            assert!(error <= 5.0, "{backend} class {class}: {error} ulp");
        }
    }
}

/// A focal factor far below 1 times a small probability: a gradient element of 6e-35 must keep its last bits.
#[test]
fn a_small_focal_factor_keeps_its_digits() {
    let logits = [
        -5.976_562_5,
        -5.980_957,
        -6.019_287,
        -5.993_408,
        -6.014_892_6,
        -6.028_564_5,
        -6.022_705,
        -5.969_238_3,
        -6.012_939_5f32,
    ];
    let bias = [-12.375, -14.25, -11.125, -14.125, -6.25, 13.75, 0.75, -2.875, -15.125];
    let row: Vec<f32> = logits.iter().zip(bias).map(|(x, b)| x + b).collect();
    let (slopes, loss) = (reference::gradient(&row, 5), reference::loss(&row, 5));
    let miss = -slopes[5];
    for backend in backends() {
        let focal = CrossEntropy::new(9).class_bias(&bias).focal(5.0).reduction(Reduction::Sum).backend(backend);
        let mut gradient = [7.0; 9];
        focal.gradient(&logits, &[5u8], 1.0 / 15.0, &mut gradient).unwrap();
        let factor = miss.powi(5) + 5.0 * miss.powi(4) * (1.0 - miss) * loss;
        for (class, (&found, slope)) in gradient.iter().zip(&slopes).enumerate() {
            let error = error_in_ulps(found, slope * factor * f64::from(1f32 / 15.0));
            assert!(error <= 6.0, "{backend} class {class}: {found:e}, {error} ulp");
        }
    }
}

/// The weight of a row is a product of two f32, which may overflow or underflow f32.
#[test]
fn a_weight_beyond_f32_leaves_what_f32_can_hold() {
    for backend in backends() {
        // One row; two positions of one sample; enough contiguous rows to be computed together.
        for (positions, rows) in [(1, 1), (2, 2), (1, 5)] {
            // The losses 1e40·9.4e-14 = 9.4e26, 1e-50·1e30 = 1e-20 and 2.2e-40·85.9 = 1.9e-38.
            for (weight, sample, logits) in
                [(1e30, 1e10, [30.0, 0.0]), (1e-30, 1e-20, [0.0, 1e30f32]), (1.3e-21, 1.7e-19, [0.0, 85.9])]
            {
                let (weights, samples) = ([weight, 1.0], vec![sample; rows]);
                let mut x: Vec<f32> = (0..2 * rows).map(|i| logits[i / positions % 2]).collect();
                let loss = CrossEntropy::new(2).positions(positions).class_weights(&weights).sample_weights(&samples);
                let loss = loss.reduction(Reduction::Sum).backend(backend);
                let mut losses = vec![7.0; rows];
                loss.row_losses(&x, &vec![0u8; rows], &mut losses).unwrap();
                let whole = f64::from(weight) * f64::from(sample);
                let expected = reference::loss(&logits, 0) * whole;
                for found in losses {
                    let error = error_in_ulps(found, expected);
                    assert!(error <= 3.0, "{backend} N = {rows} D = {positions}: {found:e} for {expected:e}");
                }
                loss.gradient_in_place(&mut x, &vec![0u8; rows], 1.0).unwrap();
                let slopes = reference::gradient(&logits, 0);
                for (i, found) in x.into_iter().enumerate() {
                    let expected = slopes[i / positions % 2] * whole;
                    let close = if expected.abs() < f64::from(f32::MIN_POSITIVE) {
                        found.abs() < f32::MIN_POSITIVE
                    } else {
                        error_in_ulps(found, expected) <= 5.0
                    };
                    assert!(close, "{backend} N = {rows} D = {positions}: {found:e} for {expected:e}");
                }
            }
        }
        // More classes than are converted to f32 at once.
        let mut values = [0i8; 3000];
        values[7] = 127;
        let mut weights = [1.0; 3000];
        weights[7] = 1e30;
        let logits = Logits::I8 { values: &values, scale: 0.5, zero_point: 0 };
        let loss = CrossEntropy::new(3000).class_weights(&weights).sample_weights(&[1e10]).backend(backend);
        let mut losses = [7.0];
        loss.row_losses(logits, &[7u16], &mut losses).unwrap();
        let expected = (2999.0 * (-63.5f64).exp()).ln_1p() * f64::from(1e30f32) * f64::from(1e10f32);
        assert!(error_in_ulps(losses[0], expected) <= 3.0, "{backend}: {:e} for {expected:e}", losses[0]);
    }
}

/// The upstream factor over the denominator underflows f32, but not times the weight.
#[test]
fn a_scale_beyond_f32_leaves_what_f32_can_hold() {
    for backend in backends() {
        let loss = CrossEntropy::new(16).sample_weights(&[7.0, 1e30]).backend(backend);
        let mut gradient = [7.0; 32];
        loss.gradient(&[0.0; 32], &[3u8, 12], 8e-22, &mut gradient).unwrap();
        assert!(error_in_ulps(gradient[16], 5e-23) <= 6.0, "{backend}: {:e}", gradient[16]);
    }
}

/// p = 1 − 6e-6 times a weight near the largest f32.
#[test]
fn a_weight_near_the_end_of_f32_leaves_the_gradient_finite() {
    let logits = [-7.873_067, 9.417_639, -9.471_325, -3.453_484_8, -6.522_643_6];
    for backend in backends() {
        let loss = CrossEntropy::new(5).sample_weights(&[3e38]).reduction(Reduction::Sum).backend(backend);
        let mut gradient = [7.0; 5];
        loss.gradient(&logits, &[0u8], 1.0, &mut gradient).unwrap();
        assert!((gradient[1] / 3e38 - 1.0).abs() < 1e-5, "{backend}: {:e}", gradient[1]);
    }
}

/// One gradient element of one row without weights was beyond the bound.
#[test]
fn a_gradient_is_within_its_bound() {
    let logits = [
        -124.315_704,
        -131.762_36,
        -120.999_275,
        -134.968_05,
        -133.059_11,
        -136.948_47,
        -127.824_45,
        -135.152_85,
        -126.833_23f32,
    ];
    for backend in backends() {
        for positions in [1, 2] {
            let mut x = vec![0.0; 9 * positions];
            x.iter_mut().enumerate().for_each(|(at, x)| *x = logits[at / positions]);
            let mut gradient = vec![7.0; 9 * positions];
            let loss = CrossEntropy::new(9).positions(positions).reduction(Reduction::Sum).backend(backend);
            loss.gradient(&x, &vec![1u8; positions], 1.0, &mut gradient).unwrap();
            for (class, expected) in reference::gradient(&logits, 1).into_iter().enumerate() {
                let error = error_in_ulps(gradient[class * positions], expected);
                assert!(error <= 5.0, "{backend} D = {positions} class {class}: {error} ulp");
            }
        }
    }
}

/// The gradient −p_i·Σ_j s_j = −4.7e-32 of a class without cost, where every costly mistake is improbable.
#[test]
fn costs_of_improbable_mistakes_keep_their_digits() {
    let rest = -47.781_796;
    let logits = [rest, rest, rest, rest, 2.875, 12.875, rest, rest, -17.0, rest];
    let mut costs = [0.0; 100];
    let of_label = [1.0, 1.0, 0.004_268_781_3, 0.001_848_327_5, 0.0, 0.0, 7.905_345, 0.0, 0.0, 1.0];
    costs[80..90].copy_from_slice(&of_label);
    for backend in backends() {
        let loss = CrossEntropy::new(10).class_weights(&[0.0; 10]).mislabel_costs(&costs).backend(backend);
        for factor in [1.0, 1.0 / 48.125] {
            let mut gradient = [7.0; 10];
            loss.reduction(Reduction::Sum).gradient(&logits, &[8u8], factor, &mut gradient).unwrap();
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let p = logits.map(|x| f64::from(x).exp() / total);
            let odds: f64 = (0..10).map(|j| f64::from(of_label[j]) * p[j] / (1.0 - p[j])).sum();
            let error = error_in_ulps(gradient[4], -p[4] * odds * f64::from(factor));
            assert!(error <= 6.0, "{backend}: {:e}, {error} ulp", gradient[4]);
        }
    }
}

/// Twice the weight overflows f32, but the loss is 0.
#[test]
fn the_largest_weight_of_a_certain_row_leaves_zero() {
    for backend in backends() {
        for positions in [1, 2] {
            let mut logits = vec![0.0; 3 * positions];
            logits[..positions].fill(INF);
            let loss = CrossEntropy::new(3).positions(positions).class_weights(&[f32::MAX, 1.0, 1.0]).backend(backend);
            let mut losses = vec![7.0; positions];
            loss.row_losses(&logits, &vec![0u8; positions], &mut losses).unwrap();
            assert!(losses.iter().all(|&loss| loss == 0.0), "{backend} D = {positions}: {losses:?}");
        }
    }
}

/// A row of weight 0 beside marked rows in the layout `[N, C, D]`.
#[test]
fn a_row_without_weight_is_zero_among_rows_of_any_logits() {
    // Logits of a row: NaN, +∞ at two classes, a label far below the others, ordinary ones.
    let columns = [[NAN, 0.0, 0.0], [INF, INF, 0.0], [-200.0, 0.0, 1.0], [0.5, 1.0, -1.0]];
    for backend in backends() {
        for (first, second) in columns.into_iter().flat_map(|first| columns.map(|second| (first, second))) {
            let logits: Vec<f32> = first.into_iter().zip(second).flat_map(|(a, b)| [a, b]).collect();
            let plain = CrossEntropy::new(3).positions(2).reduction(Reduction::Sum).backend(backend);
            // The second row has weight 0 by its class or by its sample weight.
            let by_class = (plain.class_weights(&[1.5, 0.0, 1.0]), [0u8, 1]);
            let by_sample = (plain.class_weights(&[1.5, 2.0, 1.0]).sample_weights(&[2.0, 0.0]), [0u8, 1]);
            let mean = plain.reduction(Reduction::Mean(Denominator::WeightSum));
            for (loss, labels) in [by_class, by_sample] {
                let (mut losses, mut gradient) = ([7.0; 2], [7.0; 6]);
                loss.row_losses(&logits, &labels, &mut losses).unwrap();
                loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
                assert_eq!(losses[1], 0.0, "{backend} {first:?} {second:?}");
                let of_second = [gradient[1], gradient[3], gradient[5]];
                assert_eq!(of_second, [0.0; 3], "{backend} {first:?} {second:?}");
                assert_ne!(losses[0], 0.0, "{backend} {first:?} {second:?}");
            }
            // The denominator of the mean is 0, and the loss NaN.
            let mut gradient = [7.0; 6];
            mean.sample_weights(&[0.0; 2]).gradient(&logits, &[0u8, 1], 1.0, &mut gradient).unwrap();
            assert_eq!(gradient, [0.0; 6], "{backend} {first:?} {second:?}");
        }
    }
}

/// Weights that overflow or underflow f32, for the loss from probabilities and the binary loss.
#[test]
fn a_weight_beyond_f32_leaves_what_f32_can_hold_in_every_loss() {
    for backend in backends() {
        for (weight, sample, p, eps) in [
            (1e30, 1e10, 1.0 - f32::EPSILON, 0.0),
            (1e-30, 1e-20, 1e-38f32, 0.0),
            (1e-30, 1e-16, 0.5, 0.0),
            (1e30, 1e10, 0.5, 0.4999),
        ] {
            let expected = -(f64::from(p) + f64::from(eps)).ln() * f64::from(weight) * f64::from(sample);
            let (weights, samples) = ([weight, 1.0], [sample]);
            let loss = CrossEntropy::new(2).class_weights(&weights).sample_weights(&samples).backend(backend);
            let mut losses = [7.0];
            loss.row_losses_from_probabilities(&[p, 1.0 - p], &[0u8], eps, &mut losses).unwrap();
            let tiny = expected < f64::from(f32::MIN_POSITIVE);
            let close = if tiny { f64::from(losses[0]) <= 2e-45 } else { error_in_ulps(losses[0], expected) <= 3.0 };
            assert!(close, "{backend}: {:e} for {expected:e}", losses[0]);
        }
        {
            // The term of the miss is 7e-7 of that of the false alarm.
            let (miss, false_alarm, sample) = (4.745e14, 2.407e-35, 0.004_245_839);
            let (z, target) = (122.101_56f32, 0.324_324_3f32);
            let (misses, false_alarms, samples) = ([miss], [false_alarm], [sample]);
            let loss = BinaryCrossEntropy::new(1).miss_costs(&misses).false_alarm_costs(&false_alarms).backend(backend);
            let mut losses = [7.0];
            loss.sample_weights(&samples).row_losses(&[z], &[target], &mut losses).unwrap();
            let (t, x, s) = (f64::from(target), f64::from(z), f64::from(sample));
            let of_miss = s * f64::from(miss) * t * (-x).exp();
            let expected = of_miss + s * f64::from(false_alarm) * (1.0 - t) * (x + (-x).exp());
            assert!(error_in_ulps(losses[0], expected) <= 6.0, "{backend}: {:e} for {expected:e}", losses[0]);
        }
        for (miss, sample, z) in
            [(1e30, 1e15, 60.0f32), (1e-30, 1e-20, -1e30), (3e38, 1.0, 100.0), (1e30, 1.0, 122.625)]
        {
            let whole = f64::from(miss) * f64::from(sample);
            let x = f64::from(z);
            let (of_loss, of_slope) = ((-x).max(0.0) + (-x.abs()).exp().ln_1p(), -1.0 / (1.0 + x.exp()));
            let (misses, samples) = ([miss], [sample]);
            let loss = BinaryCrossEntropy::new(1).miss_costs(&misses).sample_weights(&samples).backend(backend);
            let loss = loss.reduction(Reduction::Sum);
            let (mut losses, mut gradient) = ([7.0], [7.0]);
            loss.row_losses(&[z], &[1.0], &mut losses).unwrap();
            let summary = loss.gradient(&[z], &[1.0], 1.0, &mut gradient).unwrap();
            assert_eq!(summary.loss, losses[0]);
            assert!(error_in_ulps(losses[0], whole * of_loss) <= 6.0, "{backend} {z}: {:e}", losses[0]);
            let slope = whole * of_slope;
            let tiny = slope.abs() < f64::from(f32::MIN_POSITIVE);
            let close = if tiny { gradient[0].abs() < 2e-38 } else { error_in_ulps(gradient[0], slope) <= 6.0 };
            assert!(close, "{backend} {z}: {:e} for {slope:e}", gradient[0]);
        }
    }
}

/// `gradient` returns the bits of `loss`, also where only the gradient needs more than f32.
#[test]
fn a_gradient_beyond_f32_leaves_the_loss_as_it_is() {
    let logits = [-0.7, 0.3, 1.9, 0.2, -1.3, 0.4, 2.2, 0.1, 0.9];
    for backend in backends() {
        let plain = CrossEntropy::new(3).reduction(Reduction::Sum).backend(backend);
        let heavy = plain.class_weights(&[3e38, 1.0, 1.0]);
        for loss in [plain, heavy, plain.focal(2.0), plain.label_smoothing(0.1).z_loss(1e-3)] {
            for upstream in [1e-30, 1e30] {
                let mut gradient = [7.0; 9];
                let found = loss.gradient(&logits, &[0u8, 1, 2], upstream, &mut gradient).unwrap();
                assert_eq!(found, loss.loss(&logits, &[0u8, 1, 2]).unwrap(), "{backend} {loss:?}");
            }
        }
    }
}

/// A tiny class weight, smaller still by the focal factor, times a huge sample weight.
#[test]
fn a_focal_weight_that_a_sample_brings_back_keeps_its_digits() {
    let logits = [14.0, 0.25, -1.5f32];
    let (weights, samples) = ([1e-25, 1.0, 1.0], [1e25]);
    let (slopes, loss) = (reference::gradient(&logits, 0), reference::loss(&logits, 0));
    let miss = -slopes[0];
    let whole = f64::from(weights[0]) * f64::from(samples[0]);
    let factor = (miss.powi(2) + 2.0 * miss * (1.0 - miss) * loss) * whole;
    for backend in backends() {
        let focal = CrossEntropy::new(3).class_weights(&weights).sample_weights(&samples).focal(2.0).backend(backend);
        let (mut losses, mut gradient) = ([7.0], [7.0; 3]);
        focal.row_losses(&logits, &[0u8], &mut losses).unwrap();
        focal.reduction(Reduction::Sum).gradient(&logits, &[0u8], 1.0, &mut gradient).unwrap();
        let expected = loss * miss.powi(2) * whole;
        assert!(error_in_ulps(losses[0], expected) <= 6.0, "{backend}: {:e} for {expected:e}", losses[0]);
        for (found, slope) in gradient.into_iter().zip(&slopes) {
            assert!(error_in_ulps(found, slope * factor) <= 6.0, "{backend}: {found:e} for {:e}", slope * factor);
        }
    }
}

/// The odds of an almost certain mistake multiply the other elements by e⁸²: those of classes far below the largest
/// logit do not vanish.
#[test]
fn classes_far_below_a_confident_mistake_keep_their_elements() {
    let logits = [0.0, 82.0, -68.0, f32::NEG_INFINITY];
    let mut costs = [0.0; 16];
    costs[1] = 1.0;
    let (near, far) = ((-82f64).exp(), (-150f64).exp());
    // p/(1 − p) of the mistake; the label has weight 0.
    let odds = 1.0 / (near + far);
    let expected = [-near * odds, 1.0, -far * odds, 0.0];
    for backend in backends() {
        for rows in [1, 40] {
            let (logits, labels) = (logits.repeat(rows), vec![0u8; rows]);
            let loss = CrossEntropy::new(4).class_weights(&[0.0; 4]).mislabel_costs(&costs);
            let loss = loss.reduction(Reduction::Sum).backend(backend);
            let mut gradient = vec![7.0; logits.len()];
            loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
            for (found, expected) in gradient.iter().zip(expected.into_iter().cycle()) {
                let is_near = *found == 0.0 && expected == 0.0 || error_in_ulps(*found, expected) <= 6.0;
                assert!(is_near, "{backend}, {rows} rows: {found:e} for {expected:e}");
            }
        }
    }
}

/// e⁻¹⁸⁰ is 0 in f32, however it is scaled there, but not times weights of 10³⁸.
#[test]
fn classes_whose_exponentials_underflow_keep_their_elements() {
    let (logits, weights) = ([0.0, -180.0, 1.0], [1e38f32; 3]);
    let (whole, e) = (f64::from(weights[0]) * f64::from(weights[0]), 1f64.exp());
    let p = (-180f64).exp() / (1.0 + e);
    let mut costs = [0.0; 9];
    costs[2] = 1e38;
    for backend in backends() {
        let loss = CrossEntropy::new(3).class_weights(&weights).sample_weights(&weights[..1]).backend(backend);
        let loss = loss.reduction(Reduction::Sum);
        let check = |expected: f64, compute: &dyn Fn(&mut [f32]) -> Summary| {
            let mut gradient = [7.0; 3];
            compute(&mut gradient);
            assert!(error_in_ulps(gradient[1], expected) <= 6.0, "{backend}: {:e} for {expected:e}", gradient[1]);
        };
        check(whole * p, &|gradient| loss.gradient(&logits, &[0u8], 1.0, gradient).unwrap());
        check(whole * p, &|gradient| loss.soft_gradient(&logits, &[1.0, 0.0, 0.0], 1.0, gradient).unwrap());
        // p/(1 − p) of class 2 is e.
        let costly = loss.mislabel_costs(&costs);
        check(whole * p * (1.0 - e), &|gradient| costly.gradient(&logits, &[0u8], 1.0, gradient).unwrap());
    }
}

/// A target of ½ at a class that trails by far, of 0 at a masked one.
#[test]
fn masked_classes_without_a_target_cost_nothing() {
    let (logits, targets) = ([200.0, 0.0, f32::NEG_INFINITY, 199.0], [0.5, 0.5, 0.0, 0.0]);
    let log_sum = (-1f64).exp().ln_1p();
    for backend in backends() {
        let (logits, targets) = (logits.repeat(20), targets.repeat(20));
        let loss = CrossEntropy::new(4).reduction(Reduction::Mean(Denominator::Rows)).backend(backend);
        let mut gradient = vec![7.0; logits.len()];
        let found = loss.soft_gradient(&logits, &targets, 20.0, &mut gradient).unwrap();
        assert!(error_in_ulps(found.loss, 100.0 + log_sum) <= 6.0, "{backend}: {:e}", found.loss);
        let p = 1.0 / (1.0 + (-1f64).exp());
        for (found, expected) in gradient.iter().zip([p - 0.5, -0.5, 0.0, 1.0 - p].into_iter().cycle()) {
            assert!((f64::from(*found) - expected).abs() <= 1e-7, "{backend}: {found:e} for {expected:e}");
        }
    }
}

/// A class without competitors is certain, whatever its logit.
#[test]
fn a_lone_class_far_below_zero_has_no_curvature() {
    for backend in backends() {
        for x in [-700.0, -745.5, -1e4, -3e38] {
            for logits in [&[x][..], &[x, -INF], &[-INF, x, -INF]] {
                for which in [Curvature::Diagonal, Curvature::Bound] {
                    let (mut found, loss) = (vec![7.0; logits.len()], CrossEntropy::new(logits.len()).backend(backend));
                    loss.curvature(logits, &[0u8], 1.0, which, &mut found).unwrap();
                    assert!(found.iter().all(|&x| x == 0.0), "{backend} {logits:?} {found:?}");
                }
            }
        }
        let mut found = [7.0];
        let loss = CrossEntropy::new(1).backend(backend);
        loss.curvature(&[NAN], &[0u8], 1.0, Curvature::Diagonal, &mut found).unwrap();
        assert!(found[0].is_nan(), "{backend} {found:?}");
    }
}

/// A probability of 10⁻⁷⁵ times a weight of 10³⁸ is a normal f32, and so is that gradient element.
#[test]
fn a_class_far_below_keeps_its_element_where_the_weight_is_large() {
    for backend in backends() {
        for rows in [1, 3, 20] {
            for far in [-150.0, -168.0, -170.5, -172.0, -174.0f32] {
                let weights = [3e38f32, 1.0, 1.0, 1.0];
                let x: Vec<f32> = [0.0, -1.0, -2.0, far].repeat(rows);
                let loss = CrossEntropy::new(4).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
                let (mut gradient, labels) = (vec![7.0; x.len()], vec![0u8; rows]);
                loss.gradient(&x, &labels, 1.0, &mut gradient).unwrap();
                let sum: f64 = x[..4].iter().map(|&x| f64::from(x).exp()).sum();
                let expected = f64::from(weights[0]) * f64::from(far).exp() / sum;
                for row in gradient.chunks(4) {
                    let error = error_in_ulps(row[3], expected);
                    assert!(error <= 5.0, "{backend} {rows} {far}: {:e} for {expected:e}", row[3]);
                }
            }
        }
    }
}

/// A row none of whose terms has weight has gradient 0, where the mean over zero weights is NaN too.
#[test]
fn a_row_without_weight_has_no_gradient_where_the_denominator_is_zero() {
    let weight_sum = Reduction::Mean(Denominator::WeightSum);
    for backend in backends() {
        for classes in [2, 3, 10] {
            for rows in [1, 20] {
                let mut weights = vec![2.5; classes];
                weights[0] = 0.0;
                let logits: Vec<f32> = (0..classes * rows).map(|i| (i % 7) as f32 * 20.0).collect();
                let targets: Vec<f32> = (0..classes * rows).map(|i| if i % classes == 0 { 1.0 } else { 0.0 }).collect();
                let loss = CrossEntropy::new(classes).class_weights(&weights).reduction(weight_sum).backend(backend);
                let (mut losses, mut gradient) = (vec![7.0; rows], vec![7.0; logits.len()]);
                let summary = loss.soft_row_losses(&logits, &targets, &mut losses).unwrap();
                loss.soft_gradient(&logits, &targets, 1.0, &mut gradient).unwrap();
                assert!(summary.loss.is_nan(), "{backend} {classes}: {summary:?}");
                let zeros = losses.iter().chain(&gradient).all(|x| x.to_bits() == 0);
                assert!(zeros, "{backend} {classes}: {losses:?} {gradient:?}");
            }
        }
    }
}

/// A product of a cost and an exponential that is subnormal in f32 matters only in a gradient times 10²⁸.
#[test]
fn a_small_cost_keeps_its_digits_in_a_large_gradient() {
    let (small, upstream) = (1e-25f32, 1e28f32);
    let (logits, weights, mut costs) = ([43.0, -43.0, -43.0f32], [small, 1.0, 1.0], [0.0; 9]);
    costs[1] = small;
    for backend in backends() {
        let loss = CrossEntropy::new(3).class_weights(&weights).mislabel_costs(&costs);
        let mut gradient = [7.0; 3];
        loss.reduction(Reduction::Sum).backend(backend).gradient(&logits, &[0u8], upstream, &mut gradient).unwrap();
        // The weight of the label and, of class 1, the cost.
        let of_weight = f64::from(small) * f64::from(upstream) * (-86f64).exp();
        for (found, expected) in gradient.into_iter().zip([-3.0 * of_weight, 2.0 * of_weight, of_weight]) {
            assert!(error_in_ulps(found, expected) <= 6.0, "{backend}: {found:e} for {expected:e}");
        }
    }
}

/// Probabilities of 10⁻⁶⁵ with a sample weight of 6·10²⁹, and costs of 10⁻³⁶ with logits of −43: products in f32 are 0.
#[test]
fn costs_of_improbable_classes_are_not_lost() {
    for backend in backends() {
        for (x, cost, sample) in [
            ([175.0f32, 26.0, 114.0], 1.0f32, 6e29f32),
            ([175.0, -60.0, -60.0], 1e38, 1e38),
            ([-43.0, -43.0, -43.0], 1e-36, 1.0),
            ([-43.0, -43.0, -43.0], 1e-30, 1.0),
        ] {
            let mut costs = [0.0; 9];
            costs[1] = cost;
            let samples = [sample];
            let loss = CrossEntropy::new(3).class_weights(&[0.0; 3]).sample_weights(&samples).mislabel_costs(&costs);
            let loss = loss.reduction(Reduction::Sum).backend(backend);
            let mut gradient = [7.0; 3];
            let found = loss.gradient(&x, &[0u8], 1.0, &mut gradient).unwrap();
            assert_eq!(found.sum.to_bits(), loss.loss(&x, &[0u8]).unwrap().sum.to_bits());
            let e = x.map(|logit| (f64::from(logit) - f64::from(x[0])).exp());
            let p = e[1] / e.iter().sum::<f64>();
            let weight = f64::from(cost) * f64::from(sample);
            for (found, expected) in [(found.loss, weight * -(-p).ln_1p()), (gradient[1], weight * p)] {
                let error = error_in_ulps(found, expected);
                assert!(error <= 6.0, "{backend} {x:?} {cost:e}: {found:e} for {expected:e}");
            }
        }
    }
}

/// A row of weight 0 has the gradient +0, not −0, where z-loss has a negative log-sum-exp; beside rows that overflow too.
#[test]
fn a_row_of_weight_0_has_the_gradient_0_with_z_loss() {
    for backend in backends() {
        for classes in [2, 3, 10, 40] {
            for large in [1.0, 3.4e38] {
                let mut weights = vec![large; classes];
                weights[0] = 0.0;
                let logits: Vec<f32> = (0..3 * classes).map(|i| -20.0 - (i % 7) as f32).collect();
                let loss = CrossEntropy::new(classes).class_weights(&weights).z_loss(1.0).backend(backend);
                let loss = loss.reduction(Reduction::Sum);
                let (mut gradient, mut over) = (vec![7.0; logits.len()], logits.clone());
                loss.gradient(&logits, &[1u8, 0, 1], 1.0, &mut gradient).unwrap();
                loss.gradient_in_place(&mut over, &[1u8, 0, 1], 1.0).unwrap();
                for (name, gradient) in [("separate", &gradient), ("in place", &over)] {
                    let zeros = gradient[classes..2 * classes].iter().all(|element| element.to_bits() == 0);
                    assert!(zeros, "{backend} {name} {classes} {large:e}: {gradient:?}");
                }
            }
        }
    }
}

/// Exponentials of a row in range, beside a row out of range whose exponentials have a reference: those halfway between
/// two powers of two were rounded in another way.
#[test]
fn a_row_in_range_keeps_its_bits_beside_one_out_of_range() {
    let (classes, positions) = (121, 16);
    let mut logits = vec![0.0_f32; classes * positions];
    for (class, row) in logits.chunks_mut(positions).enumerate() {
        let halfway = (class as f32 - 59.5) * core::f32::consts::LN_2;
        for (position, x) in row.iter_mut().enumerate() {
            *x = f32::from_bits(halfway.to_bits() + position as u32 - 8);
        }
    }
    // Elsewhere an element is an exponential times a factor.
    let targets: Vec<f32> = (0..logits.len()).map(|i| if i < positions { 1.0 } else { 0.0 }).collect();
    let labels: Vec<u8> = (0..positions as u8).collect();
    let mut beside = logits.clone();
    beside[0] = 200.0;
    for backend in backends() {
        let loss = CrossEntropy::new(classes).positions(positions).backend(backend);
        for smoothing in [0.0, 0.1] {
            let loss = loss.label_smoothing(smoothing);
            let gradient = |logits: &[f32], soft: bool| {
                let mut gradient = vec![0.0; logits.len()];
                if soft {
                    loss.soft_gradient(logits, &targets, 1.0, &mut gradient).unwrap();
                } else {
                    loss.gradient(logits, &labels, 1.0, &mut gradient).unwrap();
                }
                gradient
            };
            for soft in [false, true] {
                let (alone, beside) = (gradient(&logits, soft), gradient(&beside, soft));
                for (i, (a, b)) in alone.iter().zip(&beside).enumerate().filter(|(i, _)| i % positions > 0) {
                    assert_eq!(a.to_bits(), b.to_bits(), "{backend} {soft} element {i}: {a} {b}");
                }
            }
        }
    }
}

/// A row whose roundings had one direction: the exponential of the largest other logit has a mantissa of 1.04, the loss one
/// of 1.97, so that each rounding counts twice. With all others added to it in f32 the error was 3.7 ulp.
#[test]
fn a_large_exponential_is_not_rounded_with_every_other() {
    let logits = [
        -138.39386,
        -140.07138,
        -137.79036,
        -146.98543,
        -144.21799,
        -138.16699,
        -155.6246,
        -155.5383,
        -156.02017,
        -146.54353,
        -137.62773,
        -156.1688,
        -136.1795,
        -149.41634,
        -143.37997,
        -155.84218,
        -139.97522,
        -146.82849,
        -147.19225,
        -148.37556,
        -150.81259,
        -143.29544,
        -154.23491,
        -140.46503,
        -148.15794,
        -153.26425,
        -145.07483,
        -146.08382,
        -141.26604,
        -136.8548,
        -150.4234,
        -143.76855,
        -141.269,
        -152.76772,
        -141.44089,
        -158.34276,
        -127.5,
        -145.73064,
        -143.47925,
        -49.158825,
        -140.5063,
        -157.7662,
        -157.05116,
        -152.99222,
        -148.03624,
        -158.75394,
        -144.31438,
        -138.81287,
        -140.27585,
        -138.17445,
        -142.89728,
        -143.32016,
        -138.46837,
        -155.42938,
        -149.78386,
        -141.85294,
        -150.67769,
        -146.01372,
        -152.06972,
        -155.87126,
        -150.68411,
        -151.41681,
        -151.2216,
        -142.90262_f32,
    ];
    let expected = reference::loss(&logits, 39);
    for backend in backends() {
        let loss = CrossEntropy::new(64).backend(backend);
        let mut logs = [0.0; 64];
        loss.log_probabilities(&logits, &mut logs).unwrap();
        for found in [loss.loss(&logits, &[39u8]).unwrap().loss, -logs[39]] {
            let error = error_in_ulps(found, expected);
            assert!(error <= LOSS_ULPS, "{backend}: {found:e} is off by {error} ulp");
        }
    }
}

/// 1 over a subnormal denominator is beyond f64, and 0 times infinity NaN.
#[test]
fn a_denominator_near_zero_leaves_zeros() {
    for backend in backends() {
        for denominator in [1e-310, -1e-310, 5e-324] {
            let loss = CrossEntropy::new(3).denominator(denominator).backend(backend);
            for loss in [loss, loss.focal(2.0), loss.label_smoothing(0.5).class_weights(&[0.0, 1.0, 2.0])] {
                let mut gradient = [7.0; 6];
                loss.gradient(&[0.0, -INF, 1.0, 3.0, -1.0, 0.0], &[0u8, 1], 0.0, &mut gradient).unwrap();
                assert_eq!(gradient, [0.0; 6], "{backend} {denominator:e} {loss:?}");
            }
            let mut gradient = [7.0; 3];
            loss.gradient(&[0.0, -INF, 1.0], &[0u8], f32::MAX, &mut gradient).unwrap();
            assert_eq!(gradient[1], 0.0, "{backend} {denominator:e} {gradient:?}");
            assert_eq!(gradient[2].abs(), INF, "{backend} {denominator:e} {gradient:?}");
            let binary = BinaryCrossEntropy::new(1).denominator(denominator).backend(backend);
            let mut gradient = [7.0; 2];
            binary.gradient(&[0.0, 2.0], &[0.0, 1.0], 0.0, &mut gradient).unwrap();
            assert_eq!(gradient, [0.0; 2], "{backend} {denominator:e}");
        }
    }
}

/// A factor of NaN, the gradient of an undefined mean, also reaches a row with a sole infinity.
#[test]
fn an_undefined_mean_has_no_gradient_in_any_class() {
    for backend in backends() {
        let loss = CrossEntropy::new(3).denominator(0.0).backend(backend);
        let costs = [0.0, 1.0, 2.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.0];
        for loss in [loss, loss.focal(20.0), loss.z_loss(1.0), loss.label_smoothing(0.1), loss.mislabel_costs(&costs)] {
            for row in [[0.0, INF, 1.0], [INF, 0.0, 1.0], [0.0, -INF, 1.0]] {
                let mut gradient = [7.0; 3];
                loss.gradient(&row, &[0u8], 1.0, &mut gradient).unwrap();
                assert!(gradient.iter().all(|x| x.is_nan()), "{backend} {row:?} {gradient:?} {loss:?}");
            }
        }
    }
}

/// Sign and payload of a NaN do not reach the results: not those of a logit, nor those that a processor makes.
#[test]
fn every_nan_has_the_same_bits() {
    let payloads = [0x7f80_0001, 0xffc0_0000, 0x7fc0_1234, 0xff81_2345].map(f32::from_bits);
    for backend in backends() {
        for classes in [2, 3, 5, 20] {
            let loss = CrossEntropy::new(classes).reduction(Reduction::Sum).backend(backend);
            let costs: Vec<f32> = (0..classes * classes).map(|i| f32::from(i % (classes + 1) != 0)).collect();
            let all = [
                loss,
                loss.focal(0.5).z_loss(1.0),
                loss.label_smoothing(0.1),
                loss.mislabel_costs(&costs),
                loss.mislabel_costs(&costs).focal(2.0).z_loss(0.1).label_smoothing(0.2),
            ];
            for (loss, nan) in all.into_iter().flat_map(|loss| payloads.map(|nan| (loss, nan))) {
                for place in 0..classes {
                    // The second row is ordinary, the third has both infinities.
                    let mut logits = vec![0.5; 3 * classes];
                    logits[place] = nan;
                    logits[2 * classes..][..2].copy_from_slice(&[INF, INF]);
                    let (mut losses, mut gradient) = ([7.0; 3], vec![7.0; 3 * classes]);
                    let summary = loss.row_losses(&logits, &[0u8; 3], &mut losses).unwrap();
                    loss.gradient(&logits, &[0u8; 3], 1.0, &mut gradient).unwrap();
                    for (i, number) in
                        losses.into_iter().chain(gradient).chain([summary.loss]).enumerate().filter(|(_, x)| x.is_nan())
                    {
                        assert_eq!(
                            number.to_bits(),
                            NAN.to_bits(),
                            "{backend}, result {i}, class {place} {nan:?}, {loss:?}"
                        );
                    }
                    assert_eq!(summary.sum.to_bits(), f64::NAN.to_bits(), "{backend}, class {place}, {loss:?}");
                }
            }
        }
    }
}

/// The weight of a class, times a sample weight of 1, beside a row that does not count or alone: the same loss.
#[test]
fn equal_weights_give_equal_losses_however_they_come() {
    let mut rng = Rng(1);
    let logits: Vec<f32> = (0..80).map(|_| rng.between(-60.0, 60.0)).collect();
    let (labels, ones) = (std::array::from_fn::<i64, 40, _>(|row| (row / 2 % 2) as i64), [1.0; 40]);
    for backend in backends() {
        for pair in [[0.7, 1.3], [1e-40, 3e-36], [3e38, 1e-44], [0.0, -0.0], [-2.0, -1e-39]] {
            let loss = CrossEntropy::new(2).class_weights(&pair).backend(backend);
            let losses = |loss: CrossEntropy, labels: &[i64]| {
                let mut losses = [7.0; 40];
                loss.row_losses(&logits, labels, &mut losses).unwrap();
                bits(&losses)
            };
            let plain = losses(loss, &labels);
            assert!(pair != [0.0; 2] || plain == [0; 40], "{backend}: 0 is +0");
            assert_eq!(losses(loss.sample_weights(&ones), &labels), plain, "{backend} {pair:?}");
            let mut others = labels;
            others[39] = -100;
            assert_eq!(losses(loss.ignore_index(-100), &others)[..39], plain[..39], "{backend} {pair:?}");
            for row in 0..40 {
                let mut alone = [7.0];
                loss.row_losses(&logits[2 * row..][..2], &labels[row..=row], &mut alone).unwrap();
                assert_eq!(bits(&alone)[0], plain[row], "{backend} {pair:?}");
            }
        }
    }
}

/// Rows of two to four classes with gaps near and far, beside one another: a class counts as absent only where no weight
/// brings it back. In each layout, with the loss and beside the gradient, to the same bits.
#[test]
fn far_classes_of_few_keep_what_f32_can_hold() {
    let offsets = [0.0, -2.5, -43.0, -85.9, -86.1, -100.0, -180.0, -699.0, -701.0, -1e9, f32::NEG_INFINITY, 3.0, 90.0];
    let mut rng = Rng(7);
    for (classes, weight) in (2..=4).flat_map(|classes| [1.0, 1e30].map(|weight| (classes, weight))) {
        let rows = 16 * 13 + 5;
        let labels: Vec<u8> = (0..rows).map(|_| rng.below(classes) as u8).collect();
        let mut logits = vec![0.0; rows * classes];
        for (row, &label) in logits.chunks_mut(classes).zip(&labels) {
            let own = rng.between(-9.0, 9.0);
            row.fill_with(|| own + offsets[rng.below(offsets.len())]);
            row[usize::from(label)] = own;
        }
        let columns: Vec<f32> = (0..classes)
            .flat_map(|k| (0..rows).map(move |row| (row, k)))
            .map(|(row, k)| logits[row * classes + k])
            .collect();
        let weights = vec![weight; classes];
        for backend in backends() {
            let loss = CrossEntropy::new(classes).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
            let (mut losses, mut gradient) = (vec![7.0; rows], vec![7.0; rows * classes]);
            let summary =
                loss.row_losses(&logits, &labels, &mut losses).and_then(|_| loss.loss(&logits, &labels)).unwrap();
            assert_eq!(loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap(), summary, "{backend}, {classes}");
            let (mut in_columns, mut of_columns) = (vec![7.0; rows * classes], vec![7.0; rows]);
            let positions = loss.positions(rows);
            positions.row_losses(&columns, &labels, &mut of_columns).unwrap();
            positions.gradient(&columns, &labels, 1.0, &mut in_columns).unwrap();
            assert_eq!(bits(&losses), bits(&of_columns), "{backend}, {classes}");
            for (row, (x, &label)) in logits.chunks(classes).zip(&labels).enumerate() {
                let (label, found) = (usize::from(label), &gradient[row * classes..][..classes]);
                let expected = reference::loss(x, label) * f64::from(weight);
                let error = error_in_ulps(losses[row], expected);
                assert!(error <= LOSS_ULPS, "{backend}, {x:?}, {label}: {:e} for {expected:e}", losses[row]);
                for (k, slope) in reference::gradient(x, label).into_iter().enumerate() {
                    let (found, expected) = (found[k], slope * f64::from(weight));
                    let error = error_in_ulps(found, expected);
                    let is_tiny = expected.abs() < f64::from(f32::MIN_POSITIVE) && f64::from(found).abs() < 2e-38;
                    assert!(error <= 5.0 || is_tiny, "{backend}, {x:?}, {label}, {k}: {found:e} for {expected:e}");
                    assert_eq!(found.to_bits(), in_columns[k * rows + row].to_bits(), "{backend}, {x:?}, {label}, {k}");
                }
            }
        }
    }
}
