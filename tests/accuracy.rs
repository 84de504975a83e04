//! Every backend against the textbook in f64, in ulps, in every regime.

mod common;

use common::{REGIMES, Rng, backends, error_in_ulps, is_slow, reference};
use rwwce::{CrossEntropy, Reduction};

/// (classes, rows of each regime)
const SHAPES: [(usize, usize); 17] = [
    (1, 10),
    (2, 300),
    (3, 300),
    (4, 200),
    (7, 200),
    (10, 200),
    (16, 100),
    (17, 100),
    (31, 100),
    (100, 60),
    (127, 40),
    (128, 40),
    (129, 40),
    (1000, 20),
    (4097, 6),
    (32_000, 2),
    (131_072, 1),
];

/// The contract's bound for the loss of a row.
const LOSS_ULPS: f64 = 3.0;
/// The contract's bound for an element of the gradient.
const GRADIENT_ULPS: f64 = 5.0;

#[test]
fn loss_and_gradient_of_a_row_are_within_the_bounds() {
    for backend in backends() {
        let mut rng = Rng(1);
        for regime in REGIMES {
            let (mut worst_loss, mut worst_gradient) = ((0.0, 0), (0.0, 0));
            let mut rows = 0;
            for (classes, count) in SHAPES {
                if is_slow(backend) && classes > 5000 {
                    continue;
                }
                for _ in 0..count {
                    let (row, label) = regime.row(classes, &mut rng);
                    let labels = [label as u32];
                    let loss = CrossEntropy::new(classes).reduction(Reduction::Sum).backend(backend);

                    let mut found = [0.0];
                    loss.row_losses(&row, &labels, &mut found).unwrap();
                    let expected = reference::loss(&row, label);
                    let error = error_in_ulps(found[0], expected);
                    assert!(
                        error <= LOSS_ULPS,
                        "{backend}, {regime:?}, C = {classes}, label {label}: {} for {expected}, {error} ulp",
                        found[0]
                    );
                    if error > worst_loss.0 {
                        worst_loss = (error, classes);
                    }

                    let mut gradient = vec![f32::NAN; classes];
                    loss.gradient(&row, &labels, 1.0, &mut gradient).unwrap();
                    for (class, (&found, &expected)) in
                        gradient.iter().zip(&reference::gradient(&row, label)).enumerate()
                    {
                        let error = error_in_ulps(found, expected);
                        assert!(
                            error <= GRADIENT_ULPS,
                            "{backend}, {regime:?}, C = {classes}, label {label}, class {class}: {found:e} for {expected:e}, {error} ulp"
                        );
                        if error > worst_gradient.0 {
                            worst_gradient = (error, classes);
                        }
                    }
                    rows += 1;
                }
            }
            assert!(rows > 1000);
            println!(
                "{backend:>10} {:<12} {rows} rows, loss ≤ {:.2} ulp (C = {}), gradient ≤ {:.2} ulp (C = {})",
                format!("{regime:?}"),
                worst_loss.0,
                worst_loss.1,
                worst_gradient.0,
                worst_gradient.1
            );
        }
    }
}

/// A label that leads or trails ordinary logits by 300 to 3e38, in short rows and in those of more classes than are
/// added in f32.
#[test]
fn a_label_far_from_all_others_is_within_the_bounds() {
    for backend in backends() {
        let mut rng = Rng(8);
        for classes in [2, 3, 10, 40, 300, 600, 1100] {
            if is_slow(backend) && classes > 300 {
                continue;
            }
            for far in [300.0, 383.0, 384.0, 400.0, 1e4, 3e38] {
                for of_label in [far, -far] {
                    let mut row: Vec<f32> = (0..classes).map(|_| rng.between(-10.0, 10.0)).collect();
                    let label = rng.below(classes);
                    row[label] = of_label;
                    let loss = CrossEntropy::new(classes).reduction(Reduction::Sum).backend(backend);
                    let (mut found, mut gradient, labels) = ([0.0], vec![f32::NAN; classes], [label as u16]);
                    loss.row_losses(&row, &labels, &mut found).unwrap();
                    loss.gradient(&row, &labels, 1.0, &mut gradient).unwrap();
                    let case = format!("{backend}, C = {classes}, label {label} at {of_label:e}");
                    let error = error_in_ulps(found[0], reference::loss(&row, label));
                    assert!(error <= LOSS_ULPS, "{case}: {:e}, {error} ulp", found[0]);
                    for (&found, expected) in gradient.iter().zip(reference::gradient(&row, label)) {
                        let error = error_in_ulps(found, expected);
                        assert!(error <= GRADIENT_ULPS, "{case}: {found:e} for {expected:e}, {error} ulp");
                    }
                }
            }
        }
    }
}

/// (logits, label, weight of its class): rows whose rounding errors all have the same sign, found among some hundred
/// million. All are confident, so that the loss is about its largest exponential, and the weights bring it to where an
/// ulp is relatively smallest.
const UNLUCKY_ROWS: [(&[f32], usize, f32); 13] = [
    (&[9.924838, -3.9771228, -2.4536257, 3.4666367], 0, 1.2096679),
    (&[9.038905, 2.5036478, -6.5264153, 54.64809], 3, 0.86217654),
    (&[5.7347765, -3.5260022, 2.0842588, -7.651285], 0, 1.2062764),
    (&[-9.486836, 82.37891, -4.5708013, -8.818388], 1, 1.3024942),
    (&[-0.7088733, 2.0830107, -9.664044, 89.16924], 3, 1.4400698),
    (&[-4.336897, 5.5454803, -3.2360578, -9.23966, 13.358465], 4, 1.2067391),
    (&[87.75288, -8.89122, -9.477636, 1.4647496, -7.7190247], 0, 1.3579545),
    (&[9.03224, 0.92038274, -2.796886, 12.71309, 1.3891554], 3, 1.233899),
    (&[-0.688776, -3.2841654, 4.185809, -7.8398247, -8.749979, 27.26873], 5, 1.2197843),
    (
        &[
            7.634963,
            -4.231559,
            -2.2844458,
            -0.23153663,
            -3.9339495,
            -4.74625,
            10.885696,
            -2.4512005,
            0.045746565,
            -0.647527,
        ],
        6,
        0.8141714,
    ),
    (
        &[
            -1.8815529, -4.2474794, 0.84092736, -9.88461, -5.487958, -3.3936381, 7.65915, -8.996313, -0.8357036,
            30.929699,
        ],
        9,
        1.469089,
    ),
    (
        &[
            -9.36757, -3.4970844, -2.6763153, -2.1723866, -7.961929, 2.2350705, -4.4422064, -9.465206, 75.17766,
            5.7985506, 9.722015, 2.207464,
        ],
        8,
        1.3104414,
    ),
    (
        &[
            0.54487824,
            62.04486,
            -4.410858,
            4.3949137,
            0.46202898,
            -6.6484365,
            1.2915599,
            -7.9965773,
            -0.07315159,
            8.336105,
            1.076622,
            -9.595339,
            -7.249728,
            -2.1316767,
            1.0162079,
            -0.71401834,
        ],
        1,
        1.3301594,
    ),
];

/// Rounding errors that thousands of random rows do not show, of each row alone and repeated to fill vectors.
#[test]
fn confident_rows_whose_roundings_add_up_are_within_the_bounds() {
    let mut beyond = String::new();
    for backend in backends() {
        for (row, label, weight) in UNLUCKY_ROWS {
            let classes = row.len();
            let mut weights = vec![1.0; classes];
            weights[label] = weight;
            let loss = CrossEntropy::new(classes).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
            // E = Σ_{k≠y} exp(x_k − x_y), the loss is w·log(1 + E)
            let power = |k: usize| (f64::from(row[k]) - f64::from(row[label])).exp();
            let others: f64 = (0..classes).filter(|&k| k != label).map(power).sum();
            let expected = f64::from(weight) * others.ln_1p();
            let factor = f64::from(weight) / (1.0 + others);
            let expected_gradient = |k: usize| if k == label { -others * factor } else { power(k) * factor };
            for count in [1, 33] {
                let (logits, labels) = (row.repeat(count), vec![label as u8; count]);
                let (mut found, mut gradient) = (vec![f32::NAN; count], vec![f32::NAN; count * classes]);
                loss.row_losses(&logits, &labels, &mut found).unwrap();
                loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
                let mut check = |what: &str, found: f32, expected: f64, ulps: f64| {
                    let error = error_in_ulps(found, expected);
                    if error > ulps {
                        let case = format!("{backend}, {count} of {row:?}, label {label}, weight {weight}");
                        beyond += &format!("{case}: {what} {found:e} for {expected:e}, {error:.2} ulp\n");
                    }
                };
                // The first row and the last, which is in no full vector.
                for of in (0..count).step_by(32) {
                    check("loss", found[of], expected, LOSS_ULPS);
                    for k in 0..classes {
                        check("gradient", gradient[of * classes + k], expected_gradient(k), GRADIENT_ULPS);
                    }
                }
            }
        }
    }
    assert!(beyond.is_empty(), "\n{beyond}");
}

/// log Σ exp(x − max) + max − x_y in f32, as it is usually written.
fn usual_form(row: &[f32], label: usize) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().map(|x| (x - max).exp()).sum::<f32>().ln() + max - row[label]
}

/// Prints the errors of the usual form and of the excluded-reference form, regime by regime.
#[test]
fn the_usual_form_loses_what_this_one_keeps() {
    println!("| regime | usual form, median and largest error in ulp | rows it calls 0 | here |\n|---|---|---|---|");
    let mut rng = Rng(7);
    let mut lost_by_all = 0;
    for regime in REGIMES {
        let (mut usual, mut ours, mut lost) = (Vec::new(), 0.0f64, 0);
        for _ in 0..2000 {
            let (row, label) = regime.row(10, &mut rng);
            let expected = reference::loss(&row, label);
            let found = usual_form(&row, label);
            lost += usize::from(found == 0.0 && expected > f64::from(f32::MIN_POSITIVE));
            usual.push(error_in_ulps(found, expected));
            let mut loss = [0.0];
            CrossEntropy::new(10).row_losses(&row, &[label as u8], &mut loss).unwrap();
            ours = ours.max(error_in_ulps(loss[0], expected));
        }
        usual.sort_by(f64::total_cmp);
        println!("| {regime:?} | {:.2}, {:.2e} | {lost} of 2000 | {ours:.2} |", usual[1000], usual[1999]);
        assert!(ours <= LOSS_ULPS);
        lost_by_all += lost;
    }
    assert!(lost_by_all > 1000, "the usual form kept what it is known to lose: {lost_by_all}");
}
