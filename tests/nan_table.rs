//! The contract's table of NaN and infinity, on every backend, at every length and position, with gradients.

mod common;

use common::{backends, bits, is_slow, within};
use rwwce::{Backend, CrossEntropy, Curvature, Reduction};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Lengths on both sides of the widths of vectors and blocks.
const LENGTHS: [usize; 12] = [2, 3, 4, 8, 15, 16, 17, 31, 127, 128, 129, 1000];

fn evaluate(backend: Backend, row: &[f32], label: usize) -> (f32, Vec<f32>) {
    let loss = CrossEntropy::new(row.len()).reduction(Reduction::Sum).backend(backend);
    let labels = [label as u32];
    let (mut losses, mut gradient) = ([7.0], vec![7.0; row.len()]);
    let summary = loss.row_losses(row, &labels, &mut losses).unwrap();
    assert_eq!(summary.non_finite, usize::from(!losses[0].is_finite()));
    let with_gradient = loss.gradient(row, &labels, 1.0, &mut gradient).unwrap();
    assert_eq!(with_gradient.sum.to_bits(), summary.sum.to_bits());
    if row.len() <= SHORT {
        check_copies(&loss, row, labels[0], losses[0], &gradient);
    }
    (losses[0], gradient)
}

/// Rows that are computed in blocks of several where there are many.
const SHORT: usize = 40;

/// Copies of a row have its loss and gradient.
fn check_copies(loss: &CrossEntropy<'_>, row: &[f32], label: u32, of_one: f32, gradient_of_one: &[f32]) {
    const COPIES: usize = 37;
    let (rows, labels) = (row.repeat(COPIES), [label; COPIES]);
    let (mut losses, mut gradient) = ([7.0; COPIES], vec![7.0; rows.len()]);
    loss.row_losses(&rows, &labels, &mut losses).unwrap();
    loss.gradient(&rows, &labels, 1.0, &mut gradient).unwrap();
    for (found, gradient) in losses.into_iter().zip(gradient.chunks(row.len())) {
        assert_eq!(bits(&[found]), bits(&[of_one]), "{row:?} y = {label}: {found} for {of_one}");
        assert_eq!(bits(gradient), bits(gradient_of_one), "{row:?} y = {label}: {gradient:?} for {gradient_of_one:?}");
    }
}

/// Calls `check` with a row of plain logits, two places in it, for every backend, length and pair of places.
fn everywhere(mut check: impl FnMut(Backend, &mut [f32], usize, usize)) {
    let mut calls = 0;
    for backend in backends() {
        for length in LENGTHS {
            if is_slow(backend) && length > 200 {
                continue;
            }
            for y in [0, length / 2, length - 1] {
                for j in [0, length / 3, length - 1] {
                    if j != y {
                        let mut row: Vec<f32> = (0..length).map(|k| (k % 7) as f32 - 3.0).collect();
                        check(backend, &mut row, y, j);
                        calls += 1;
                    }
                }
            }
        }
    }
    assert!(calls > 50, "{calls}");
}

#[test]
fn any_nan_gives_nan() {
    everywhere(|backend, row, y, j| {
        for (at, others) in [(j, 0.0), (y, 0.0), (j, INF), (j, -INF), (y, INF)] {
            let mut row = row.to_vec();
            if others != 0.0 {
                row.fill(others);
            }
            row[at] = NAN;
            let (loss, gradient) = evaluate(backend, &row, y);
            assert!(loss.is_nan(), "{backend} C = {} y = {y} NaN at {at}: {loss}", row.len());
            assert!(gradient.iter().all(|g| g.is_nan()));
        }
    });
}

#[test]
fn a_masked_class_has_probability_zero() {
    everywhere(|backend, row, y, j| {
        let mut without: Vec<f32> = row.to_vec();
        without[j] = -1e30;
        let (expected, expected_gradient) = evaluate(backend, &without, y);
        row[j] = -INF;
        let (loss, gradient) = evaluate(backend, row, y);
        assert_eq!(loss.to_bits(), expected.to_bits(), "{backend}");
        assert_eq!(gradient, expected_gradient);
        assert_eq!(gradient[j], 0.0);
    });
}

#[test]
fn every_other_class_masked_gives_zero() {
    everywhere(|backend, row, y, _| {
        let of_label = row[y];
        row.fill(-INF);
        row[y] = of_label;
        let (loss, gradient) = evaluate(backend, row, y);
        assert_eq!(loss.to_bits(), 0, "{backend}");
        assert!(gradient.iter().all(|&g| g == 0.0));
    });
}

#[test]
fn the_label_masked_gives_infinity() {
    everywhere(|backend, row, y, j| {
        row[y] = -INF;
        let (loss, gradient) = evaluate(backend, row, y);
        assert_eq!(loss, INF, "{backend}");
        assert_eq!(gradient[y], -1.0);
        assert!(gradient[j] > 0.0);
        assert!((gradient.iter().sum::<f32>()).abs() < 1e-5);
    });
}

#[test]
fn all_masked_gives_nan() {
    everywhere(|backend, row, y, _| {
        row.fill(-INF);
        let (loss, gradient) = evaluate(backend, row, y);
        assert!(loss.is_nan(), "{backend}");
        assert!(gradient.iter().all(|g| g.is_nan()));
    });
}

#[test]
fn infinity_at_the_label_alone_gives_zero() {
    everywhere(|backend, row, y, j| {
        row[y] = INF;
        row[j] = -INF;
        let (loss, gradient) = evaluate(backend, row, y);
        assert_eq!(loss.to_bits(), 0, "{backend}");
        assert!(gradient.iter().all(|&g| g == 0.0));
    });
}

#[test]
fn infinity_elsewhere_gives_infinity() {
    everywhere(|backend, row, y, j| {
        row[j] = INF;
        let (loss, gradient) = evaluate(backend, row, y);
        assert_eq!(loss, INF, "{backend}");
        for (class, &g) in gradient.iter().enumerate() {
            let expected = if class == j { 1.0 } else { 0.0 } - if class == y { 1.0 } else { 0.0 };
            assert_eq!(g, expected, "{backend} class {class}");
        }
        // With several +∞ the loss is the same, but the gradient has no limit.
        if let Some(third) = (0..row.len()).find(|&k| k != y && k != j) {
            row[third] = INF;
            let (loss, gradient) = evaluate(backend, row, y);
            assert_eq!(loss, INF, "{backend}");
            assert!(gradient.iter().all(|g| g.is_nan()));
        }
    });
}

#[test]
fn infinity_at_the_label_and_elsewhere_gives_nan() {
    everywhere(|backend, row, y, j| {
        row[y] = INF;
        row[j] = INF;
        let (loss, gradient) = evaluate(backend, row, y);
        assert!(loss.is_nan(), "{backend}");
        assert!(gradient.iter().all(|g| g.is_nan()));
    });
}

#[test]
fn a_single_class_follows_the_table_too() {
    for backend in backends() {
        let cases = [(0.0, false), (-3.2e38, false), (1e9, false), (INF, false), (-INF, true), (NAN, true)];
        for (logit, is_nan) in cases.into_iter().step_by(if cfg!(miri) { 5 } else { 1 }) {
            let (loss, gradient) = evaluate(backend, &[logit], 0);
            if is_nan {
                assert!(loss.is_nan() && gradient[0].is_nan(), "{backend} {logit}: {loss}");
            } else {
                assert_eq!((loss.to_bits(), gradient[0]), (0, 0.0), "{backend} {logit}");
            }
        }
    }
}

#[test]
fn finite_logits_never_overflow_on_the_way() {
    for backend in backends() {
        // The loss 6.4e38 overflows f32, a hundredth of it does not.
        let row = [3.2e38, -3.2e38];
        assert_eq!(evaluate(backend, &row, 1).0, INF);
        let weights = [1.0, 0.01];
        let light = CrossEntropy::new(2).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
        let loss = light.loss(&row, &[1u8]).unwrap();
        assert!((loss.loss / 6.4e36 - 1.0).abs() < 1e-6, "{backend}: {loss:?}");
        assert_eq!(loss.non_finite, 0);
        // A loss of 1e-45 underflows f32, 1e10 times it does not.
        let heavy = [1e10, 1.0];
        let heavy = CrossEntropy::new(2).class_weights(&heavy).reduction(Reduction::Sum).backend(backend);
        let loss = heavy.loss(&[0.0, -103.0], &[0u8]).unwrap();
        let expected = 1e10 * (-103f64).exp();
        assert!((f64::from(loss.loss) / expected - 1.0).abs() < 2e-7, "{backend}: {loss:?} {expected:e}");
    }
}

#[test]
fn a_confident_prediction_keeps_its_loss_and_gradient() {
    for backend in backends() {
        let (loss, gradient) = evaluate(backend, &[17.0, 0.0, 0.0], 0);
        let odds = 2.0 * (-17f64).exp();
        within(1.0, &[loss], &[odds.ln_1p()]).unwrap_or_else(|e| panic!("{backend}: {e}"));
        let p = odds / (1.0 + odds);
        within(1.0, &gradient, &[-p, 0.5 * p, 0.5 * p]).unwrap_or_else(|e| panic!("{backend}: {e}"));
        assert_eq!(gradient[1], gradient[2]);
    }
}

#[test]
fn log_sum_exp_of_special_rows() {
    for backend in backends() {
        for length in LENGTHS {
            let plain: Vec<f32> = (0..length).map(|k| (k % 5) as f32).collect();
            for at in [0, length / 2, length - 1] {
                let with = |x: f32| {
                    let mut row = plain.clone();
                    row[at] = x;
                    backend.log_sum_exp(&row)
                };
                assert!(with(NAN).is_nan());
                assert_eq!(with(INF), INF);
                assert_eq!(with(1e38), 1e38);
                assert!(with(-INF).is_finite());
            }
            assert_eq!(backend.log_sum_exp(&vec![-INF; length]), -INF);
        }
        assert_eq!(backend.log_sum_exp(&[0.0; 0]), -INF);
    }
}

/// Other logits of a row with a NaN, which they must not hide.
const OTHERS: [fn(usize, usize, usize) -> f32; 6] = [
    |_, _, _| 1.0,
    |class, _, _| (class % 7) as f32 - 3.0,
    |class, _, _| -(class as f32),
    |class, at, classes| if class == (at + 1) % classes { 3e38 } else { 1e-20 },
    |class, at, classes| if class == (at + 17) % classes { 60.0 } else { -60.0 },
    |class, at, _| if class == at + 8 { 5.0 } else { -INF },
];

/// (name, results) of every function for a batch: one element, one per row, or one per logit.
fn of_every_function(loss: &CrossEntropy<'_>, classes: usize, logits: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    let rows = logits.len() / classes;
    let labels: Vec<u8> = (0..rows).map(|row| (row * 5 % classes) as u8).collect();
    let matrix: Vec<f32> =
        (0..classes * classes).map(|k| if k / classes == k % classes { 0.0 } else { (k % 3) as f32 }).collect();
    let targets = vec![1.0; logits.len()];
    let mut results = Vec::new();
    let mut add = |name, found: Vec<f32>| results.push((name, found));
    let of_labels = [
        ("plain", *loss),
        ("smoothing", loss.label_smoothing(0.1)),
        ("costs", loss.mislabel_costs(&matrix)),
        ("focal", loss.focal(2.0)),
        ("z-loss", loss.z_loss(0.1)),
        ("everything", loss.label_smoothing(0.1).mislabel_costs(&matrix).focal(1.5).z_loss(0.1).temperature(0.5)),
    ];
    for (name, loss) in of_labels {
        let (mut losses, mut gradient) = (vec![7.0; rows], vec![7.0; logits.len()]);
        loss.row_losses(logits, &labels, &mut losses).unwrap();
        add(name, losses);
        let summary = loss.gradient(logits, &labels, 1.0, &mut gradient).unwrap();
        add(name, gradient);
        add(name, vec![summary.loss]);
    }
    let (mut losses, mut gradient, mut logs) = (vec![7.0; rows], vec![7.0; logits.len()], vec![7.0; logits.len()]);
    loss.soft_row_losses(logits, &targets, &mut losses).unwrap();
    add("soft", losses.clone());
    loss.soft_gradient(logits, &targets, 1.0, &mut gradient).unwrap();
    add("soft", gradient.clone());
    loss.log_probabilities(logits, &mut logs).unwrap();
    add("log-probabilities", logs);
    loss.log_sum_exps(logits, &mut losses).unwrap();
    add("log-sum-exps", losses.clone());
    for which in [Curvature::Diagonal, Curvature::Bound] {
        loss.mislabel_costs(&matrix).curvature(logits, &labels, 1.0, which, &mut gradient).unwrap();
        add("curvature", gradient.clone());
    }
    let mut decisions = vec![0; rows];
    loss.decide(logits, &mut decisions, Some(&mut losses)).unwrap();
    add("decide", losses.clone());
    results
}

/// A NaN reaches all results of its row, whatever its class and the other logits, and none of another row.
#[test]
fn nan_reaches_the_results_of_its_row_alone() {
    let mut checked = 0;
    for backend in backends() {
        let most: usize = if is_slow(backend) { 20 } else { 129 };
        for classes in (1_usize..=10).chain([16, 17, 23, 33, 39, 129]).filter(|&classes| classes <= most) {
            for at in (0..classes).step_by(1 + classes / 20) {
                let (rows, positions) = [(1, 1), (8, 1), (19, 1), (6, 3), (40, 20)][(at + classes) % 5];
                let (nan, others) = (rows / 2, OTHERS[(at + classes / 2) % OTHERS.len()]);
                let row_of = |i: usize| i / (classes * positions) * positions + i % positions;
                let class_of = |i: usize| i / positions % classes;
                let logits: Vec<f32> = (0..rows * classes)
                    .map(|i| match (row_of(i) == nan, class_of(i)) {
                        (true, class) if class == at => NAN,
                        (true, class) => others(class, at, classes),
                        (false, class) => (class % 5) as f32,
                    })
                    .collect();
                let loss = CrossEntropy::new(classes).positions(positions);
                let loss = loss.reduction(Reduction::Sum).backend(backend);
                for (name, found) in of_every_function(&loss, classes, &logits) {
                    let is_nan = |i: usize| match found.len() {
                        1 => true,
                        len if len == rows => i == nan,
                        _ => row_of(i) == nan,
                    };
                    for (i, found) in found.iter().enumerate() {
                        let what = format!("{backend}, C = {classes}, {rows} rows, NaN at {at}: {name}, {i}: {found}");
                        assert_eq!(found.is_nan(), is_nan(i), "{what}");
                    }
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 1000, "{checked}");
}

/// Where weights that cancel make the mean NaN, so is every element of its gradient.
#[test]
fn the_gradient_of_a_mean_that_is_nan_is_nan() {
    for backend in backends() {
        for classes in [2, 3, 4, 10, 40, 300, 5000] {
            let mut weights = vec![1.0; classes];
            weights[1] = -1.0;
            let logits: Vec<f32> = (0..2 * classes).map(|i| (i % 7) as f32 - 3.0).collect();
            let loss = CrossEntropy::new(classes).class_weights(&weights).backend(backend);
            let (mut gradient, mut over) = (vec![7.0; logits.len()], logits.clone());
            let summary = loss.gradient(&logits, &[0u8, 1], 1.0, &mut gradient).unwrap();
            loss.gradient_in_place(&mut over, &[0u8, 1], 1.0).unwrap();
            assert_eq!(summary.denominator, 0.0);
            for (i, element) in gradient.iter().chain(&over).enumerate() {
                assert!(element.is_nan(), "{backend} {classes} classes, element {i}: {element}");
            }
        }
    }
}
