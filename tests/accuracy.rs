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

/// Logits of an ordinary size beside a label so far from them that it is subtracted first, also where they fill whole
/// blocks without it.
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

/// log Σ exp(x − max) + max − x_y in f32, as it is usually written.
fn usual_form(row: &[f32], label: usize) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().map(|x| (x - max).exp()).sum::<f32>().ln() + max - row[label]
}

/// What the excluded-reference form is for: prints both, regime by regime.
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
