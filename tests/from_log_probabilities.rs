//! The loss from log-probabilities against the formula in f64, for every layout, weight and reduction.

mod common;

use common::{Rng, error_in_ulps, pattern};
use rwwce::{Argument, CrossEntropy, Denominator, Error, Reduction, Upstream};

const REDUCTIONS: [Reduction; 3] =
    [Reduction::Sum, Reduction::Mean(Denominator::WeightSum), Reduction::Mean(Denominator::Rows)];

#[test]
fn losses_and_gradients_are_the_formula() {
    let mut rng = Rng(5);
    let mut rows_seen = 0;
    for _ in 0..300 {
        let (n, c, d) = (1 + rng.below(5), 1 + rng.below(6), 1 + rng.below(4));
        let padding = rng.below(3);
        let stride = c * d + padding;
        let mut log_p: Vec<f32> = (0..n * stride).map(|_| -rng.between(0.0, 30.0)).collect();
        let labels: Vec<i32> = (0..n * d).map(|_| if rng.below(5) == 0 { -100 } else { rng.below(c) as i32 }).collect();
        let weights: Vec<f32> = (0..c).map(|_| if rng.below(5) == 0 { 0.0 } else { rng.between(-1.0, 3.0) }).collect();
        let samples: Vec<f32> = (0..n * d).map(|_| rng.between(0.0, 2.0)).collect();
        let factors: Vec<f32> = (0..n * d).map(|_| rng.between(-2.0, 2.0)).collect();
        // Rows of weight 0 may hold anything.
        for (row, &label) in labels.iter().enumerate() {
            if label < 0 || weights[label as usize] == 0.0 {
                for class in 0..c {
                    log_p[row / d * stride + class * d + row % d] = f32::NAN;
                }
            }
        }
        let loss = CrossEntropy::new(c)
            .positions(d)
            .row_stride(stride)
            .class_weights(&weights)
            .sample_weights(&samples)
            .ignore_index(-100);
        let element = |row: usize, class: usize| row / d * stride + class * d + row % d;
        let weight = |row: usize| match labels[row] {
            -100 => 0.0,
            label => f64::from(weights[label as usize]) * f64::from(samples[row]),
        };
        let own = |row: usize| element(row, labels[row].max(0) as usize);
        let expected = |row: usize| if weight(row) == 0.0 { 0.0 } else { -weight(row) * f64::from(log_p[own(row)]) };
        let mut row_losses = pattern(n * d);
        let mut gradient = pattern(n * stride);
        for reduction in REDUCTIONS {
            let loss = loss.reduction(reduction);
            let summary = loss.row_losses_from_log_probabilities(&log_p, &labels, &mut row_losses).unwrap();
            assert_eq!(
                format!("{:?}", loss.loss_from_log_probabilities(&log_p, &labels)),
                format!("{:?}", Ok::<_, Error>(summary))
            );
            let counted = labels.iter().filter(|&&label| label != -100).count() as f64;
            let denominator = match reduction {
                Reduction::Mean(Denominator::WeightSum) => (0..n * d).map(weight).sum(),
                Reduction::Mean(_) => counted,
                _ => 1.0,
            };
            for (row, &found) in row_losses.iter().enumerate() {
                assert!(error_in_ulps(found, expected(row)) <= 0.51, "{found:e} {:e}", expected(row));
                rows_seen += 1;
            }
            let sum: f64 = row_losses.iter().map(|&loss| f64::from(loss)).sum();
            assert!((summary.sum - sum).abs() <= 1e-9 * (1.0 + sum.abs()));
            assert!((summary.denominator - denominator).abs() <= 1e-12 * (1.0 + denominator.abs()));
            for upstream in [Upstream::Loss(0.5), Upstream::Rows(&factors)] {
                loss.gradient_from_log_probabilities(&labels, upstream, &mut gradient).unwrap();
                let untouched = pattern(n * stride);
                for (index, (&found, &before)) in gradient.iter().zip(&untouched).enumerate() {
                    if index % stride >= c * d {
                        assert_eq!(found.to_bits(), before.to_bits(), "padding");
                        continue;
                    }
                    let row = index / stride * d + index % stride % d;
                    let scale = match upstream {
                        Upstream::Loss(factor) => f64::from(factor) / denominator,
                        Upstream::Rows(factors) => f64::from(factors[row]),
                    };
                    let expected = if own(row) == index && weight(row) != 0.0 { -weight(row) * scale } else { 0.0 };
                    let same = error_in_ulps(found, expected) <= 0.51 || (counted == 0.0 && expected.is_nan());
                    assert!(same, "{found:e} {expected:e}");
                }
            }
        }
    }
    assert!(rows_seen > 3000, "{rows_seen}");
}

#[test]
fn infinities_are_the_limits() {
    let loss = CrossEntropy::new(2);
    let loss = |log_p: [f32; 2]| loss.loss_from_log_probabilities(&log_p, &[0u8]).unwrap();
    assert_eq!(loss([f32::NEG_INFINITY, 0.0]).loss, f32::INFINITY);
    assert_eq!(loss([f32::NEG_INFINITY, 0.0]).non_finite, 1);
    assert_eq!(loss([0.0, f32::NEG_INFINITY]).loss.to_bits(), 0);
    assert!(loss([f32::NAN, 0.0]).loss.is_nan());
    assert_eq!(loss([-1.0, f32::NAN]).loss, 1.0);
}

#[test]
fn bad_calls_are_refused_and_write_nothing() {
    let loss = CrossEntropy::new(3);
    let (log_p, costs) = ([-1.0; 6], [0.0; 9]);
    let with = Argument::LogProbabilities;
    for (loss, labels, expected) in [
        (loss.mislabel_costs(&costs), [0, 1], Error::Incompatible { option: Argument::MislabelCosts, with }),
        (loss.label_smoothing(0.1), [0, 1], Error::Incompatible { option: Argument::LabelSmoothing, with }),
        (loss.focal(1.0), [0, 1], Error::Incompatible { option: Argument::Focal, with }),
        (loss.z_loss(1.0), [0, 1], Error::Incompatible { option: Argument::ZLoss, with }),
        (loss.temperature(2.0), [0, 1], Error::Incompatible { option: Argument::Temperature, with }),
        (loss.class_bias(&[0.0; 3]), [0, 1], Error::Incompatible { option: Argument::ClassBias, with }),
        (loss, [0, 3], Error::LabelOutOfRange { row: 1, label: 3, classes: 3 }),
        (loss.class_weights(&[1.0]), [0, 1], Error::Length { argument: Argument::ClassWeights, expected: 3, found: 1 }),
    ] {
        let (mut rows, mut gradient) = ([7.0; 2], [7.0; 6]);
        assert_eq!(loss.loss_from_log_probabilities(&log_p, &labels), Err(expected));
        assert_eq!(loss.row_losses_from_log_probabilities(&log_p, &labels, &mut rows), Err(expected));
        assert_eq!(loss.gradient_from_log_probabilities(&labels, 1.0, &mut gradient), Err(expected));
        assert_eq!((rows, gradient), ([7.0; 2], [7.0; 6]));
    }
    let (mut rows, mut gradient) = ([7.0; 3], [7.0; 5]);
    let length = |argument, expected, found| Error::Length { argument, expected, found };
    assert_eq!(loss.loss_from_log_probabilities(&log_p[..5], &[0u8, 1]), Err(length(with, 6, 5)));
    let too_many = loss.row_losses_from_log_probabilities(&log_p, &[0u8, 1], &mut rows);
    assert_eq!(too_many, Err(length(Argument::RowLosses, 2, 3)));
    let too_short = loss.gradient_from_log_probabilities(&[0u8, 1], 1.0, &mut gradient);
    assert_eq!(too_short, Err(length(Argument::Gradient, 6, 5)));
    let not_finite = loss.gradient_from_log_probabilities(&[0u8], f32::NAN, &mut rows);
    assert_eq!(not_finite, Err(Error::NotFinite { argument: Argument::Upstream, index: 0 }));
    assert_eq!((rows, gradient), ([7.0; 3], [7.0; 5]));
}
