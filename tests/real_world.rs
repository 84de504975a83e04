//! The real-world-weight loss: its special values, its denominators, and the weighted loss that it reduces to.

mod common;

use common::{REGIMES, Rng, backends, bits};
use rwwce::{Argument, Backend, CrossEntropy, Denominator, Error, Reduction};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

fn evaluate(backend: Backend, row: &[f32], label: usize, miss: &[f32], costs: &[f32]) -> (f32, Vec<f32>) {
    let loss = CrossEntropy::new(row.len())
        .class_weights(miss)
        .mislabel_costs(costs)
        .reduction(Reduction::Sum)
        .backend(backend);
    let labels = [label as i32];
    let (mut losses, mut gradient) = ([7.0], vec![7.0; row.len()]);
    let summary = loss.row_losses(row, &labels, &mut losses).unwrap();
    assert_eq!(summary.non_finite, usize::from(!losses[0].is_finite()));
    loss.gradient(row, &labels, 1.0, &mut gradient).unwrap();
    let mut over = row.to_vec();
    loss.gradient_in_place(&mut over, &labels, 1.0).unwrap();
    assert_eq!(bits(&over), bits(&gradient), "{backend}");
    (losses[0], gradient)
}

#[test]
fn a_confident_costly_mistake_keeps_its_gradient() {
    let costs = [0.0, 0.0, 0.0, 19.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for backend in backends() {
        let (loss, gradient) = evaluate(backend, &[30.0, 0.0, 0.0], 1, &[1.0; 3], &costs);
        assert!((loss - 586.83).abs() < 1e-2, "{backend}: {loss}");
        assert_eq!(gradient, [20.0, -10.5, -9.5], "{backend}");
    }
}

#[test]
fn costs_of_zero_leave_the_weighted_loss_in_bits() {
    let mut rng = Rng(3);
    for backend in backends() {
        for classes in [1, 2, 5, 17, 130] {
            for regime in REGIMES {
                let (row, label) = regime.row(classes, &mut rng);
                let weights: Vec<f32> = (0..classes).map(|_| rng.between(0.0, 3.0)).collect();
                let (loss, gradient) = evaluate(backend, &row, label, &weights, &vec![0.0; classes * classes]);
                let weighted =
                    CrossEntropy::new(classes).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
                let (mut losses, mut expected) = ([0.0], vec![0.0; classes]);
                weighted.row_losses(&row, &[label as u16], &mut losses).unwrap();
                weighted.gradient(&row, &[label as u16], 1.0, &mut expected).unwrap();
                assert_eq!(bits(&[loss]), bits(&losses), "{backend} {regime:?} {classes}");
                assert_eq!(bits(&gradient), bits(&expected), "{backend} {regime:?} {classes}");
            }
        }
    }
}

#[test]
fn nan_and_infinity_follow_the_formula() {
    // Class 1 is true; naming class 0 costs 2, naming class 2 costs nothing.
    let costs = [0.0, 1.0, 1.0, 2.0, 0.0, 0.0, 1.0, 1.0, 0.0];
    let with = [1.0, 1.0, 1.0];
    let without = [1.0, 0.0, 1.0];
    let table: [(&[f32; 3], &[f32; 3], f32); 15] = [
        (&[NAN, 0.0, 0.0], &with, NAN),
        (&[0.0, NAN, 0.0], &with, NAN),
        (&[0.0, 0.0, NAN], &without, NAN),
        // A masked class has p = 0: ln 2 from missing, 2·0 and 0 from naming.
        (&[-INF, 0.0, 0.0], &with, core::f32::consts::LN_2),
        (&[-INF, 0.0, 0.0], &without, 0.0),
        (&[0.0, -INF, 0.0], &with, INF),
        // Missing costs nothing: 2·(−log ½).
        (&[0.0, -INF, 0.0], &without, 2.0 * core::f32::consts::LN_2),
        (&[-INF, -INF, -INF], &with, NAN),
        (&[5.0, INF, 1.0], &with, 0.0),
        (&[-INF, 3.0, -INF], &with, 0.0),
        (&[INF, 0.0, 0.0], &with, INF),
        (&[INF, 0.0, 0.0], &without, INF),
        // p = 1 for a mistake that costs nothing.
        (&[0.0, 0.0, INF], &without, 0.0),
        (&[INF, INF, 0.0], &with, NAN),
        (&[INF, 0.0, INF], &with, INF),
    ];
    for backend in backends() {
        for (row, miss, expected) in table {
            let (loss, gradient) = evaluate(backend, row, 1, miss, &costs);
            let case = format!("{backend} {row:?} {miss:?}: {loss}");
            if expected.is_finite() {
                assert!((loss - expected).abs() <= 1e-6, "{case}, expected {expected}");
                assert!(gradient.iter().all(|g| g.is_finite()), "{case} {gradient:?}");
            } else {
                assert_eq!(bits(&[loss]), bits(&[expected]), "{case}");
            }
        }
        // Gaps at which the other exponentials underflow; nothing overflows.
        let (loss, gradient) = evaluate(backend, &[1e30, -1e30, 0.0], 1, &with, &costs);
        assert!((loss / 4e30 - 1.0).abs() < 1e-6, "{backend}: {loss}");
        assert!(gradient.iter().all(|g| g.is_finite()), "{backend} {gradient:?}");
    }
}

/// In rows of many classes that are about equally probable, −log(1 − p) of the most probable class is small: as a
/// difference of two logarithms it would lose most of its digits. Half of the promised 6 ulp leaves none to be lost.
#[test]
fn the_cost_of_an_improbable_largest_class_keeps_its_digits() {
    let mut rng = Rng(5);
    for classes in [2, 3, 10, 32, 64, 128, 300, 1000, 4097] {
        for spread in [0.0, 1e-6, 0.5] {
            let row: Vec<f32> = (0..classes).map(|_| rng.between(1.0 - spread, 1.0 + spread)).collect();
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let named = row.iter().position(|&x| x == largest).unwrap();
            let label = (named + 1) % classes;
            let mut costs = vec![0.0; classes * classes];
            costs[label * classes + named] = 8.0;
            let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).sum();
            let expected = -8.0 * (-1.0 / sum).ln_1p();
            for backend in backends() {
                let (loss, _) = evaluate(backend, &row, label, &vec![0.0; classes], &costs);
                let error = common::error_in_ulps(loss, expected);
                assert!(
                    error <= 3.0,
                    "{backend}, {classes} classes, ±{spread}: {loss:e} for {expected:e}, {error} ulp"
                );
            }
        }
    }
}

#[test]
fn denominators() {
    let (logits, labels) = ([1.0, 0.0, 0.5, 0.25, -1.0, 2.0], [0u8, 1, 255]);
    let costs = [0.0, 3.0, 2.0, 0.0];
    let loss = CrossEntropy::new(2).class_weights(&[1.0, 4.0]).mislabel_costs(&costs).ignore_index(255);
    let sum = loss.reduction(Reduction::Sum).loss(&logits, &labels).unwrap().sum;
    let default = loss.loss(&logits, &labels).unwrap();
    assert_eq!((default.denominator, default.rows), (2.0, 2));
    for (denominator, expected) in
        [(Denominator::Rows, 2.0), (Denominator::RowsTimesClasses, 4.0), (Denominator::WeightSum, 5.0)]
    {
        let summary = loss.reduction(Reduction::Mean(denominator)).loss(&logits, &labels).unwrap();
        assert_eq!((summary.denominator, summary.loss), (expected, (sum / expected) as f32));
    }
}

#[test]
fn bad_costs_are_errors() {
    let check = |weights: &[f32], costs: &[f32]| {
        let mut gradient = [7.0; 2];
        let loss = CrossEntropy::new(2).class_weights(weights).mislabel_costs(costs);
        let error = loss.gradient(&[0.0, 1.0], &[0u8], 1.0, &mut gradient).unwrap_err();
        assert_eq!(gradient, [7.0; 2]);
        error
    };
    let argument = Argument::MislabelCosts;
    assert_eq!(check(&[1.0; 2], &[0.0; 3]), Error::Length { argument, expected: 4, found: 3 });
    assert_eq!(check(&[1.0; 2], &[0.0, NAN, 0.0, 0.0]), Error::NotFinite { argument, index: 1 });
    assert_eq!(check(&[1.0; 2], &[0.0, 0.0, -1.0, 0.0]), Error::Negative { argument, index: 2 });
    assert_eq!(check(&[1.0; 2], &[0.0, 0.0, 0.0, 1.0]), Error::CostOfTruth { class: 1 });
    assert_eq!(check(&[1.0, -1.0], &[0.0; 4]), Error::Negative { argument: Argument::ClassWeights, index: 1 });
}

/// A class whose miss and mislabel costs are all 0 has no loss, whatever the logits: 0·NaN = 0.
#[test]
fn rows_of_a_class_without_costs_have_no_loss() {
    let costs = [0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 3.0, 4.0, 0.0];
    for backend in backends() {
        let loss = CrossEntropy::new(3).class_weights(&[0.0, 1.0, 1.0]).mislabel_costs(&costs).backend(backend);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut losses, mut gradient) = ([9.0; 2], [9.0; 6]);
            let logits = [odd, odd, odd, 1.0, 2.0, 3.0];
            let _ = loss.row_losses(&logits, &[0_u8, 1], &mut losses).unwrap();
            let _ = loss.gradient(&logits, &[0_u8, 1], 1.0, &mut gradient).unwrap();
            assert_eq!(losses[0].to_bits(), 0, "{backend}, {odd}");
            assert_eq!(gradient[..3], [0.0; 3], "{backend}, {odd}");
            assert!(losses[1] > 0.0 && gradient[3..].iter().all(|g| g.is_finite() && *g != 0.0), "{backend}, {odd}");
        }
    }
}

/// Large costs of improbable classes: their exponentials underflow in f32, their losses do not.
#[test]
fn large_costs_of_improbable_classes_count() {
    for backend in backends() {
        for classes in [2, 3, 10, 40, 300] {
            for (gap, cost, others) in [100.0_f32, 130.0, 150.0, 152.0]
                .into_iter()
                .flat_map(|gap| [1e5_f32, 1e20, 1e25, 1e30].map(|cost| (gap, cost)))
                .flat_map(|(gap, cost)| [-3e5, -1.0].map(|others| (gap, cost, others)))
            {
                let mut costs = vec![0.0; classes * classes];
                costs[1] = cost;
                let mut row = vec![others; classes];
                (row[0], row[1]) = (0.0, -gap);
                let weights = vec![0.0; classes];
                let loss = CrossEntropy::new(classes).class_weights(&weights).mislabel_costs(&costs);
                let loss = loss.backend(backend);
                let mut gradient = vec![9.0; classes];
                let found = loss.loss(&row, &[0_u8]).unwrap().loss;
                let _ = loss.gradient(&row, &[0_u8], 1.0, &mut gradient).unwrap();
                // −log(1 − p_1) and its derivative p_1/(1 − p_1)·([i = 1] − p_i), where p_1 is tiny.
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                let expected = f64::from(cost) * (-f64::from(gap)).exp() / sum;
                let context = format!("{backend}, {classes} classes, gap {gap}, cost {cost:e}, others {others}");
                for (found, expected) in [(found, expected), (gradient[1], expected), (gradient[0], -expected / sum)] {
                    let error = (f64::from(found) - expected).abs();
                    assert!(error <= 1e-6 * expected.abs() + 1e-44, "{context}: {found:e} instead of {expected:e}");
                }
            }
        }
    }
}
