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
