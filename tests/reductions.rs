//! Reduction of row losses: denominators, weights, ignored rows, strides, upstream factors.

mod common;

use common::{Batch, GRADIENT_ULPS, LOSS_ULPS, REGIMES, Rng, Row, backends, bits, pattern, raw_bits, within};
use rwwce::{
    Argument, Backend, CrossEntropy, Denominator, Error, Label, Reduction, Summary, Upstream, ZeroDenominator,
};

const REDUCTIONS: [Reduction; 3] =
    [Reduction::Sum, Reduction::Mean(Denominator::WeightSum), Reduction::Mean(Denominator::Rows)];
const POLICIES: [ZeroDenominator; 2] = [ZeroDenominator::NaN, ZeroDenominator::Zero];
/// (classes, rows): below and above the widths of vectors, blocks and sums in f32.
const SHAPES: [(usize, usize); 9] = [(1, 3), (2, 40), (3, 17), (4, 0), (7, 1), (10, 33), (17, 5), (130, 4), (1100, 3)];
const WEIGHTS: [Weights; 5] =
    [Weights::None, Weights::Positive, Weights::SomeZero, Weights::AnySign, Weights::Cancelling];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Weights {
    None,
    Positive,
    SomeZero,
    AnySign,
    /// The weights of the labels add up to zero.
    Cancelling,
}

/// Rows of every regime. Weights are multiples of 1/8, so that their sum is exact in whatever order it is taken.
fn batch((classes, rows): (usize, usize), kind: Weights, ignore: Option<i64>, rng: &mut Rng) -> Batch {
    let (mut logits, mut labels) = (vec![], vec![]);
    for row in 0..rows {
        let (row, label) = REGIMES[(row + classes) % REGIMES.len()].row(classes, rng);
        logits.extend(row);
        labels.push(label as i64);
    }
    let mut weights: Vec<f32> = (0..classes)
        .map(|_| {
            let weight = (1 + rng.below(64)) as f32 / 8.0;
            match kind {
                Weights::SomeZero if rng.below(2) == 0 => 0.0,
                Weights::AnySign if rng.below(2) == 0 => -weight,
                _ => weight,
            }
        })
        .collect();
    // A negative ignored index replaces some labels; one in [0, C) is a class that occurs, or does not.
    if let Some(ignored) = ignore.filter(|&label| label < 0) {
        labels.iter_mut().filter(|_| rng.below(3) == 0).for_each(|label| *label = ignored);
    }
    if kind == Weights::Cancelling {
        weights.fill(0.0);
        let mut counted: Vec<usize> = labels.iter().filter_map(|&label| usize::try_from(label).ok()).collect();
        counted.sort_unstable();
        counted.dedup();
        if let [first, .., last] = counted[..] {
            let count = |class: usize| labels.iter().filter(|&&label| label == class as i64).count() as f32;
            (weights[first], weights[last]) = (count(last), -count(first));
        }
    }
    Batch { classes, logits, labels, weights: (kind != Weights::None).then_some(weights), ignore }
}

/// Calls `test` with batches of every shape, with every kind of weights, with and without an ignored index.
fn for_each_batch(seed: u64, mut test: impl FnMut(&Batch, &str)) {
    let mut rng = Rng(seed);
    for shape in SHAPES {
        for weights in WEIGHTS {
            for ignore in [None, Some(0), Some(shape.0 as i64 - 1), Some(shape.0 as i64), Some(-100)] {
                test(&batch(shape, weights, ignore, &mut rng), &format!("{shape:?}, {weights:?}, {ignore:?}"));
            }
        }
    }
}

/// The bits of a summary, the same for every NaN.
fn summary_bits(summary: &Summary) -> (u32, u64, u64, usize, usize) {
    let sum = if summary.sum.is_nan() { f64::NAN } else { summary.sum };
    (bits(&[summary.loss])[0], sum.to_bits(), summary.denominator.to_bits(), summary.rows, summary.non_finite)
}

/// Checks the summary against the row losses and the model's denominator.
#[track_caller]
fn assert_summary(summary: &Summary, row_losses: &[f32], denominator: f64, counted: usize, policy: ZeroDenominator) {
    assert_eq!(summary.denominator, denominator);
    assert_eq!(summary.rows, counted);
    assert_eq!(summary.non_finite, row_losses.iter().filter(|loss| !loss.is_finite()).count());
    let losses = || row_losses.iter().map(|&loss| f64::from(loss));
    let (sum, magnitude): (f64, f64) = (losses().sum(), losses().map(f64::abs).sum());
    if sum.is_finite() {
        // The order of a sum in f64 is free.
        let error = (summary.sum - sum).abs();
        assert!(error <= magnitude * row_losses.len() as f64 * f64::EPSILON, "{} for {sum}", summary.sum);
    } else {
        assert!(summary.sum == sum || (summary.sum.is_nan() && sum.is_nan()), "{} for {sum}", summary.sum);
    }
    let loss = match policy {
        _ if denominator != 0.0 => (summary.sum / denominator) as f32,
        ZeroDenominator::Zero => 0.0,
        _ => f32::NAN,
    };
    assert_eq!(bits(&[summary.loss]), bits(&[loss]), "{} for {loss}", summary.loss);
}

#[test]
fn every_reduction_follows_the_model() {
    for backend in backends() {
        let mut zero_denominators = 0;
        for_each_batch(2, |batch, name| {
            let mut row_losses = pattern(batch.labels.len());
            batch.loss().backend(backend).row_losses(&batch.logits, &batch.labels, &mut row_losses).unwrap();
            within(LOSS_ULPS, &row_losses, &batch.expected_losses())
                .unwrap_or_else(|e| panic!("{backend}, {name}: {e}"));

            for (reduction, policy) in REDUCTIONS.into_iter().flat_map(|r| POLICIES.map(|p| (r, p))) {
                let loss = batch.loss().backend(backend).reduction(reduction).zero_denominator(policy);
                let denominator = batch.denominator(reduction);
                zero_denominators += usize::from(denominator == 0.0);
                let summary = loss.loss(&batch.logits, &batch.labels).unwrap();
                assert_summary(&summary, &row_losses, denominator, batch.counted(), policy);

                let inverse = match policy {
                    _ if denominator != 0.0 => 1.0 / denominator,
                    ZeroDenominator::Zero => 0.0,
                    _ => f64::NAN,
                };
                let upstream = -1.75;
                let mut gradient = pattern(batch.logits.len());
                let beside = loss.gradient(&batch.logits, &batch.labels, upstream, &mut gradient).unwrap();
                assert_eq!(summary_bits(&beside), summary_bits(&summary), "{backend}, {name}");
                let expected = batch.expected_gradient(|_| inverse * f64::from(upstream));
                within(GRADIENT_ULPS, &gradient, &expected)
                    .unwrap_or_else(|e| panic!("{backend}, {name}, {reduction:?}, {policy:?}: {e}"));
            }
        });
        // Otherwise the policies would not be tested.
        assert!(zero_denominators > 100, "{zero_denominators}");
    }
}

#[test]
fn every_entry_point_returns_the_same_summary_and_gradient() {
    for backend in backends() {
        for_each_batch(3, |batch, name| {
            for reduction in REDUCTIONS {
                let loss = batch.loss().backend(backend).reduction(reduction);
                let (logits, labels) = (&batch.logits, &batch.labels);
                let alone = summary_bits(&loss.loss(logits, labels).unwrap());

                let mut row_losses = pattern(labels.len());
                let summary = loss.row_losses(logits, labels, &mut row_losses).unwrap();
                assert_eq!(summary_bits(&summary), alone, "{backend}, {name}");

                let mut gradient = pattern(logits.len());
                let summary = loss.gradient(logits, labels, 0.75, &mut gradient).unwrap();
                assert_eq!(summary_bits(&summary), alone, "{backend}, {name}");

                let mut in_place = logits.clone();
                let summary = loss.gradient_in_place(&mut in_place, labels, 0.75).unwrap();
                assert_eq!(summary_bits(&summary), alone, "{backend}, {name}");
                assert_eq!(bits(&in_place), bits(&gradient), "{backend}, {name}");
            }
        });
    }
}

#[test]
fn probabilities_are_reduced_as_logits_are() {
    let mut rng = Rng(4);
    for backend in backends() {
        for_each_batch(5, |batch, name| {
            let mut batch = batch.clone();
            // Probabilities of every magnitude, with zeros, ones and values above 1.
            for p in &mut batch.logits {
                *p = match rng.below(8) {
                    0 => 0.0,
                    1 => 1.0,
                    2 => 1.0 - rng.between(0.0, 1e-5),
                    3 => rng.between(0.0, 2.0),
                    4 => f32::from_bits(rng.below(1 << 23) as u32),
                    5 => f32::from_bits(rng.below(0x3f80_0000) as u32),
                    _ => rng.between(0.0, 1.0),
                };
            }
            for eps in [0.0, 1e-10, 1e-3, f32::from_bits(1)] {
                // −log(p + eps), near 1 by the exact difference p − 1.
                let of_row = |(row, counted): Row<'_>| match counted {
                    Some((y, weight)) if weight != 0.0 => {
                        let (p, eps) = (f64::from(row[y]), f64::from(eps));
                        let log = if p > 0.5 { ((p - 1.0) + eps).ln_1p() } else { (p + eps).ln() };
                        -f64::from(weight) * log
                    }
                    _ => 0.0,
                };
                let expected: Vec<f64> = batch.rows().map(of_row).collect();
                for (reduction, policy) in REDUCTIONS.into_iter().flat_map(|r| POLICIES.map(|p| (r, p))) {
                    let loss = batch.loss().backend(backend).reduction(reduction).zero_denominator(policy);
                    let mut row_losses = pattern(batch.labels.len());
                    let (p, labels) = (&batch.logits, &batch.labels);
                    let summary = loss.row_losses_from_probabilities(p, labels, eps, &mut row_losses).unwrap();
                    within(LOSS_ULPS, &row_losses, &expected)
                        .unwrap_or_else(|e| panic!("{backend}, {name}, eps = {eps}: {e}"));
                    assert_summary(&summary, &row_losses, batch.denominator(reduction), batch.counted(), policy);
                    let alone = loss.loss_from_probabilities(p, labels, eps).unwrap();
                    assert_eq!(summary_bits(&alone), summary_bits(&summary), "{backend}, {name}");
                }
            }
        });
    }
}

#[test]
fn upstream_factors_of_rows_are_not_divided() {
    let mut rng = Rng(6);
    for backend in backends() {
        for_each_batch(7, |batch, name| {
            let (logits, labels) = (&batch.logits, &batch.labels);
            let gradient = |reduction: Reduction, upstream: Upstream<'_>| {
                let mut gradient = pattern(logits.len());
                let loss = batch.loss().backend(backend).reduction(reduction);
                loss.gradient(logits, labels, upstream, &mut gradient).unwrap();
                gradient
            };
            let factors: Vec<f32> = labels.iter().map(|_| rng.between(-4.0, 4.0)).collect();
            let by_rows = gradient(Reduction::Sum, factors.as_slice().into());
            let expected = batch.expected_gradient(|row| f64::from(factors[row]));
            within(GRADIENT_ULPS, &by_rows, &expected).unwrap_or_else(|e| panic!("{backend}, {name}: {e}"));
            // The same for every reduction, even with a denominator of 0.
            for reduction in REDUCTIONS {
                assert_eq!(bits(&gradient(reduction, factors.as_slice().into())), bits(&by_rows), "{backend}, {name}");
            }
            // For a sum, one factor for the loss is the same factor for each row.
            let same = vec![0.3f32; labels.len()];
            let one = gradient(Reduction::Sum, Upstream::Loss(0.3));
            assert_eq!(bits(&gradient(Reduction::Sum, same.as_slice().into())), bits(&one), "{backend}, {name}");
        });
    }
}

#[test]
fn an_upstream_factor_can_be_given_in_every_form() {
    let (logits, labels) = ([0.5, 1.0, -1.0, 2.0], [0u8, 1]);
    let loss = CrossEntropy::new(2).reduction(Reduction::Sum);
    let mut expected = [0.0; 4];
    loss.gradient(&logits, &labels, Upstream::Rows(&[2.0, 2.0]), &mut expected).unwrap();
    let check = |upstream: Upstream<'_>| {
        let mut gradient = [0.0; 4];
        loss.gradient(&logits, &labels, upstream, &mut gradient).unwrap();
        assert_eq!(gradient, expected);
    };
    check(2.0.into());
    check(Upstream::Loss(2.0));
    check((&[2.0, 2.0]).into());
    check([2.0f32, 2.0].as_slice().into());
}

#[test]
fn rows_that_do_not_count_have_no_loss_and_no_gradient_whatever_they_hold() {
    // NaN and infinities, in rows that are ignored and in rows whose weight is zero.
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0];
    for backend in backends() {
        for classes in [1, 2, 5, 16, 40, 129, 1100] {
            for odd in odd {
                let mut rng = Rng(8);
                let mut logits: Vec<f32> = (0..6 * classes).map(|_| rng.between(-9.0, 9.0)).collect();
                // Rows 1 and 4 are ignored, rows 2 and 3 have weight 0 (of a single class, all rows have).
                for row in [1, 2, 3, 4] {
                    logits[row * classes..][..classes].fill(odd);
                }
                let last = classes as i64 - 1;
                let labels = [last, -7, 0, 0, -7, last];
                let mut weights = vec![2.5; classes];
                weights[0] = if odd.is_nan() { -0.0 } else { 0.0 };
                let batch =
                    Batch { classes, logits, labels: labels.to_vec(), weights: Some(weights), ignore: Some(-7) };
                let loss = batch.loss().backend(backend).reduction(Reduction::Mean(Denominator::Rows));

                let mut row_losses = pattern(6);
                let mut gradient = pattern(6 * classes);
                let summary = loss.row_losses(&batch.logits, &labels, &mut row_losses).unwrap();
                loss.gradient(&batch.logits, &labels, 3.0, &mut gradient).unwrap();
                let context = format!("{backend}, C = {classes}, {odd}");
                assert_eq!((summary.rows, summary.denominator, summary.non_finite), (4, 4.0, 0), "{context}");
                assert!(summary.loss.is_finite(), "{context}");
                for row in [1, 2, 3, 4] {
                    // +0, not −0.
                    assert_eq!(row_losses[row].to_bits(), 0, "{context}");
                    let of_row = &gradient[row * classes..][..classes];
                    assert!(of_row.iter().all(|g| g.to_bits() == 0), "{context}: {of_row:?}");
                }
                within(LOSS_ULPS, &row_losses, &batch.expected_losses()).unwrap();
                within(GRADIENT_ULPS, &gradient, &batch.expected_gradient(|_| 0.75)).unwrap();

                // Upstream factors of rows do not change that.
                let mut by_rows = pattern(6 * classes);
                loss.gradient(&batch.logits, &labels, &[f32::MAX; 6], &mut by_rows).unwrap();
                assert!(by_rows[classes..5 * classes].iter().all(|g| g.to_bits() == 0), "{context}");

                let mut row_losses = pattern(6);
                let summary = loss.row_losses_from_probabilities(&batch.logits, &labels, 0.0, &mut row_losses).unwrap();
                assert_eq!(summary.rows, 4, "{context}");
                assert_eq!(raw_bits(&row_losses[1..5]), [0; 4], "{context}");
            }
        }
    }
}

// 0·NaN = 0 also where the factor of the gradient is NaN: a mean over a weight sum of 0.
#[test]
fn weightless_rows_have_no_gradient_even_where_the_mean_is_nan() {
    for backend in backends() {
        let weights = [0.0, 1.0];
        let loss = CrossEntropy::new(2).class_weights(&weights).backend(backend);
        let mut gradient = pattern(4);
        let summary = loss.gradient(&[1.0, 2.0, f32::NAN, 0.0], &[0u8, 0], 1.0, &mut gradient).unwrap();
        assert!(summary.loss.is_nan());
        assert_eq!((summary.sum, summary.denominator, summary.rows, summary.non_finite), (0.0, 0.0, 2, 0));
        assert_eq!(raw_bits(&gradient), [0; 4], "{backend}");
    }
}

#[test]
fn a_zero_denominator_makes_loss_and_gradient_what_was_chosen() {
    // The weights cancel: rows with a loss, divided by 0.
    let weights = [1.5, -1.5, 4.0];
    let labels = [0u8, 1];
    for backend in backends() {
        for first_row in [[0.5, 1.0, 2.0], [300.0, -300.0, 0.0], [f32::NEG_INFINITY, 0.0, 1.0]] {
            let logits = [&first_row[..], &[2.0, 0.0, 1.0]].concat();
            let loss = CrossEntropy::new(3).class_weights(&weights).backend(backend);
            let mut gradient = pattern(6);
            let nan = loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
            assert!(nan.loss.is_nan() && nan.denominator == 0.0 && nan.rows == 2);
            assert!(gradient.iter().all(|g| g.is_nan()), "{backend}: {gradient:?}");

            let mut gradient = pattern(6);
            let loss = loss.zero_denominator(ZeroDenominator::Zero);
            let zero = loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
            assert_eq!(zero.loss.to_bits(), 0);
            // The sum does not depend on the choice.
            assert!(zero.sum == nan.sum && zero.sum != 0.0);
            assert!(gradient.iter().all(|&g| g == 0.0), "{backend}: {gradient:?}");
        }
    }
}

#[test]
fn zero_for_a_zero_denominator_holds_for_rows_without_a_loss_too() {
    let weights = [1.5, -1.5];
    let odd = [[f32::NAN, 0.0], [f32::INFINITY; 2], [f32::NEG_INFINITY; 2], [0.0, f32::INFINITY]];
    for backend in backends() {
        for odd in odd {
            let logits = [odd[0], odd[1], 2.0, 0.0];
            let loss = CrossEntropy::new(2).class_weights(&weights).zero_denominator(ZeroDenominator::Zero);
            let mut gradient = pattern(4);
            let summary = loss.backend(backend).gradient(&logits, &[0u8, 1], 1.0, &mut gradient).unwrap();
            assert_eq!(summary.loss.to_bits(), 0, "{backend}, {odd:?}");
            assert!(gradient.iter().all(|&g| g == 0.0), "{backend}, {odd:?}: {gradient:?}");
        }
    }
}

#[test]
fn an_empty_batch_is_a_batch() {
    for backend in backends() {
        for classes in [1, 3, 1000] {
            for (reduction, denominator) in REDUCTIONS.into_iter().zip([1.0, 0.0, 0.0]) {
                for policy in POLICIES {
                    let weights = vec![2.0; classes];
                    let loss = CrossEntropy::new(classes).class_weights(&weights).backend(backend);
                    let loss = loss.reduction(reduction).zero_denominator(policy);
                    let labels: [u8; 0] = [];
                    let summaries = [
                        loss.loss(&[0.0; 0], &labels),
                        loss.row_losses(&[0.0; 0], &labels, &mut []),
                        loss.gradient(&[0.0; 0], &labels, 1.0, &mut []),
                        loss.gradient(&[0.0; 0], &labels, &[], &mut []),
                        loss.gradient_in_place(&mut [], &labels, 1.0),
                        loss.loss_from_probabilities(&[0.0; 0], &labels, 0.0),
                        loss.row_losses_from_probabilities(&[0.0; 0], &labels, 0.0, &mut []),
                        loss.row_stride(classes + 1).loss(&[0.0; 0], &labels),
                    ];
                    for summary in summaries {
                        let summary = summary.unwrap();
                        assert_summary(&summary, &[], denominator, 0, policy);
                        assert_eq!(summary.sum.to_bits(), 0);
                    }
                }
            }
        }
    }
}

#[test]
fn labels_of_every_type_give_the_same_bits() {
    fn results<L: Label>(batch: &Batch, loss: CrossEntropy<'_>, cast: impl Fn(i64) -> L) -> (Vec<u32>, Vec<u32>, u64) {
        let labels: Vec<L> = batch.labels.iter().map(|&label| cast(label)).collect();
        let (mut row_losses, mut gradient) = (pattern(labels.len()), pattern(batch.logits.len()));
        let summary = loss.row_losses(&batch.logits, &labels, &mut row_losses).unwrap();
        loss.gradient(&batch.logits, &labels, 1.25, &mut gradient).unwrap();
        (raw_bits(&row_losses), raw_bits(&gradient), summary.sum.to_bits())
    }
    for backend in backends() {
        let mut rng = Rng(9);
        for shape in [(2, 40), (3, 17), (130, 6)] {
            // 131 to 255 are not classes, and each type can hold 200.
            let mut batch = batch(shape, Weights::AnySign, Some(200), &mut rng);
            batch.labels[1] = 200;
            let loss = batch.loss().backend(backend).reduction(Reduction::default());
            let expected = results(&batch, loss, |label| label);
            assert_eq!(results(&batch, loss, |label| label as u8), expected, "{backend}");
            assert_eq!(results(&batch, loss, |label| label as u16), expected, "{backend}");
            assert_eq!(results(&batch, loss, |label| label as u32), expected, "{backend}");
            assert_eq!(results(&batch, loss, |label| label as i32), expected, "{backend}");
            assert_eq!(results(&batch, loss, |label| label as usize), expected, "{backend}");
        }
    }
}

#[test]
fn negative_weights_turn_losses_and_gradients_round() {
    for backend in backends() {
        for_each_batch(10, |batch, name| {
            let Some(weights) = &batch.weights else { return };
            let opposite: Vec<f32> = weights.iter().map(|weight| -weight).collect();
            let turned = Batch { weights: Some(opposite), ..batch.clone() };
            let results = |batch: &Batch| {
                let (mut row_losses, mut gradient) = (pattern(batch.labels.len()), pattern(batch.logits.len()));
                let loss = batch.loss().backend(backend);
                let summary = loss.row_losses(&batch.logits, &batch.labels, &mut row_losses).unwrap();
                loss.gradient(&batch.logits, &batch.labels, 1.0, &mut gradient).unwrap();
                (row_losses, gradient, summary)
            };
            let (losses, gradient, summary) = results(batch);
            let (turned_losses, turned_gradient, turned_summary) = results(&turned);
            let negative = |numbers: &[f32]| numbers.iter().map(|x| -x).collect::<Vec<f32>>();
            // Compared as floats: the sign of zero does not matter.
            assert_eq!(negative(&losses), turned_losses, "{backend}, {name}");
            assert_eq!(negative(&gradient), turned_gradient, "{backend}, {name}");
            // A sum of both infinities has no sign.
            let (sum, turned_sum) = (summary.sum, turned_summary.sum);
            assert!(-sum == turned_sum || (sum.is_nan() && turned_sum.is_nan()), "{backend}, {name}");
        });
    }
}

#[test]
fn what_lies_between_padded_rows_is_neither_read_nor_written() {
    for backend in backends() {
        let mut rng = Rng(11);
        for ((classes, rows), weights) in SHAPES.into_iter().zip(WEIGHTS.into_iter().cycle()) {
            let batch = batch((classes, rows), weights, Some(-100), &mut rng);
            let loss = batch.loss().backend(backend).reduction(Reduction::Mean(Denominator::Rows));
            let (mut losses, mut gradient) = (pattern(rows), pattern(rows * classes));
            let summary = loss.row_losses(&batch.logits, &batch.labels, &mut losses).unwrap();
            loss.gradient(&batch.logits, &batch.labels, 2.0, &mut gradient).unwrap();

            for padding in [0, 1, 3, 16, 29] {
                let stride = classes + padding;
                // Padding that would change any sum that includes it.
                for filling in [f32::NAN, f32::INFINITY, pattern(1)[0], 1e30] {
                    let spread = |numbers: &[f32]| -> Vec<f32> {
                        let mut out = vec![filling; rows * stride];
                        for (to, from) in out.chunks_exact_mut(stride).zip(numbers.chunks_exact(classes)) {
                            to[..classes].copy_from_slice(from);
                        }
                        out
                    };
                    let padded = spread(&batch.logits);
                    let loss = loss.row_stride(stride);
                    let context = format!("{backend}, C = {classes}, stride {stride}, {filling}");

                    let mut found = pattern(rows);
                    let by_stride = loss.row_losses(&padded, &batch.labels, &mut found).unwrap();
                    assert_eq!(summary_bits(&by_stride), summary_bits(&summary), "{context}");
                    assert_eq!(raw_bits(&found), raw_bits(&losses), "{context}");

                    let mut found = vec![filling; rows * stride];
                    loss.gradient(&padded, &batch.labels, 2.0, &mut found).unwrap();
                    assert_eq!(raw_bits(&found), raw_bits(&spread(&gradient)), "{context}");

                    let mut found = padded.clone();
                    loss.gradient_in_place(&mut found, &batch.labels, 2.0).unwrap();
                    assert_eq!(raw_bits(&found), raw_bits(&spread(&gradient)), "{context}");

                    let (mut dense, mut found) = (pattern(rows), pattern(rows));
                    let dense_loss = loss.row_stride(classes);
                    dense_loss.row_losses_from_probabilities(&batch.logits, &batch.labels, 1.0, &mut dense).unwrap();
                    loss.row_losses_from_probabilities(&padded, &batch.labels, 1.0, &mut found).unwrap();
                    assert_eq!(bits(&found), bits(&dense), "{context}");
                }
            }
        }
    }
}

#[test]
fn a_summary_counts_rows_whose_loss_is_not_finite() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    #[rustfmt::skip]
    let logits = [
        0.0, 0.0, 0.0,
        NAN, 0.0, 0.0,   // NaN
        0.0, INF, 0.0,   // +inf
        INF, 0.0, 0.0,   // 0
        NAN, NAN, NAN,   // ignored
        -INF, 0.0, 0.0,  // +inf
        -3.4e38, 3.4e38, 0.0, // beyond f32
        0.0, -INF, -INF, // 0
    ];
    let labels = [0i32, 0, 0, 0, -1, 0, 0, 0];
    for backend in backends() {
        let loss = CrossEntropy::new(3).ignore_index(-1).backend(backend);
        let summary = loss.loss(&logits, &labels).unwrap();
        assert_eq!((summary.rows, summary.non_finite, summary.denominator), (7, 4, 7.0), "{backend}");
        assert!(summary.sum.is_nan() && summary.loss.is_nan());
        // Without the NaN the sum is infinite.
        let summary = loss.loss(&logits[6..], &labels[2..]).unwrap();
        assert_eq!((summary.rows, summary.non_finite, summary.sum, summary.loss), (5, 3, f64::INFINITY, INF));
        let summary = loss.loss(&logits[9..12], &labels[3..4]).unwrap();
        assert_eq!((summary.rows, summary.non_finite, summary.sum, summary.loss), (1, 0, 0.0, 0.0), "{backend}");
        let probabilities = [NAN, INF, 0.0, 1.0, -1.0];
        let single = CrossEntropy::new(1).backend(backend);
        let summary = single.loss_from_probabilities(&probabilities, &[0u8; 5], 0.0).unwrap();
        assert_eq!((summary.rows, summary.non_finite), (5, 4), "{backend}");
    }
}

// −log p_y may underflow f32 where its product with the weight does not.
#[test]
fn weights_and_upstream_factors_of_any_size_keep_the_bounds() {
    // One class matters, and many others are not quite negligible.
    let mut crowd = vec![-118.3; 1000];
    (crowd[1], crowd[999]) = (-100.0, 0.0);
    // The label is the last class.
    let cases: [(&str, &[f32], f32, f32); 8] = [
        ("light", &[3.0, -10.0, 0.0], 1e-30, 1.0),
        ("heavy", &[3.0, -10.0, 0.0], 1e30, 1.0),
        ("heavy and wrong", &[3.0, 3.0, -90.0], 1e36, 1.0),
        ("heavy and confident", &[-130.0, 0.0], 1e30, 1.0),
        ("heavy among many", &crowd, 1e6, 1.0),
        // In f32 this difference is rounded.
        ("far from zero", &[127.000_01, 256.5], 1.0, 1e30),
        ("large factor", &[-130.0, 0.0], 1.0, 1e30),
        ("light, large factor", &[-100.0, 0.0], 1e-30, 1e37),
    ];
    let mut wrong = Vec::new();
    for backend in backends() {
        for (name, logits, weight, upstream) in cases {
            let classes = logits.len();
            let weights = Some(vec![weight; classes]);
            let labels = vec![classes as i64 - 1];
            let batch = Batch { classes, logits: logits.to_vec(), labels, weights, ignore: None };
            let loss = batch.loss().backend(backend);
            let mut row_losses = pattern(1);
            loss.row_losses(logits, &batch.labels, &mut row_losses).unwrap();
            if let Err(error) = within(LOSS_ULPS, &row_losses, &batch.expected_losses()) {
                wrong.push(format!("{backend}, {name}, loss: {error}"));
            }
            let mut gradient = pattern(classes);
            loss.gradient(logits, &batch.labels, upstream, &mut gradient).unwrap();
            let expected = batch.expected_gradient(|_| f64::from(upstream));
            if let Err(error) = within(GRADIENT_ULPS, &gradient, &expected) {
                wrong.push(format!("{backend}, {name}, gradient: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// In f32 the sum of so many rows would be off by a thousandth.
#[test]
fn the_sum_of_many_rows_is_exact_in_f64() {
    let rows = 100_003;
    let (logits, labels) = (vec![0.5; 2 * rows], vec![1u8; rows]);
    for backend in backends() {
        let loss = CrossEntropy::new(2).reduction(Reduction::Sum).backend(backend);
        let summary = loss.loss(&logits, &labels).unwrap();
        // A 24-bit mantissa times an integer of 17 bits fits 53 bits at every step.
        assert_eq!(summary.sum, rows as f64 * f64::from(std::f32::consts::LN_2), "{backend}");
        let mean = loss.reduction(Reduction::Mean(Denominator::Rows)).loss(&logits, &labels).unwrap();
        assert_eq!(mean.loss, std::f32::consts::LN_2, "{backend}");
    }
}

/// Rows are added in chunks: row i of a chunk in lane i % 16, the lanes by halves, then the chunks in order, with the
/// same roundings on every backend, in every layout.
#[test]
fn the_sum_over_rows_has_a_fixed_shape() {
    let fixed = |losses: &[f32], chunk: usize| {
        let sums = losses.chunks(chunk).map(|losses| {
            let mut lanes = [0.0f64; 16];
            for (row, &loss) in losses.iter().enumerate() {
                lanes[row % 16] += f64::from(loss);
            }
            for width in [8, 4, 2, 1] {
                for lane in 0..width {
                    lanes[lane] += lanes[lane + width];
                }
            }
            lanes[0]
        });
        sums.fold(0.0, |sum, of_chunk| sum + of_chunk)
    };
    let mut rng = Rng(59);
    let mut other_order_differs = 0;
    // (classes, rows, positions, rows of a chunk): samples whose logits, rounded up to a power of two each, are 32,768.
    for (classes, rows, positions, chunk) in [
        (2, 250, 1, 16_384),
        (3, 210, 1, 8192),
        (10, 97, 1, 2048),
        (2, 210, 7, 14_336),
        (10, 114, 38, 2432),
        (40, 90, 1, 512),
        (40, 90, 3, 768),
        (300, 70, 1, 64),
        (2, 33_000, 1, 16_384),
        (10, 4500, 1, 2048),
        (40, 1200, 1, 512),
        (40, 1200, 3, 768),
        (300, 200, 1, 64),
        (3000, 19, 1, 8),
        (20_000, 5, 1, 1),
    ] {
        let logits: Vec<f32> = (0..classes * rows).map(|_| rng.between(-3.0, 3.0)).collect();
        let probabilities: Vec<f32> = (0..classes * rows).map(|_| rng.between(0.01, 0.99)).collect();
        let labels: Vec<u16> = (0..rows).map(|_| rng.below(classes) as u16).collect();
        // So different in magnitude that every addition is rounded.
        let samples: Vec<f32> =
            (0..rows).map(|_| rng.between(1.0, 2.0) * 2f32.powi(rng.below(61) as i32 - 30)).collect();
        for backend in backends() {
            let plain = CrossEntropy::new(classes).positions(positions).sample_weights(&samples).backend(backend);
            for loss in [plain, plain.label_smoothing(0.1)] {
                let mut losses = vec![7.0; rows];
                let mut gradient = vec![7.0; logits.len()];
                let summary = loss.row_losses(&logits, &labels, &mut losses).unwrap();
                let sums = [summary, loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap()];
                let expected = fixed(&losses, chunk);
                assert!(expected.is_finite() && expected > 0.0);
                for (entry, found) in ["losses", "gradient"].into_iter().zip(sums) {
                    let case = || format!("{backend} C = {classes} N = {rows} D = {positions}, {entry}, {loss:?}");
                    assert_eq!(found.sum.to_bits(), expected.to_bits(), "{}", case());
                }
                let in_turn: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
                other_order_differs += usize::from(in_turn.to_bits() != expected.to_bits());
            }
            let mut losses = vec![7.0; rows];
            let summary = plain.row_losses_from_probabilities(&probabilities, &labels, 0.0, &mut losses).unwrap();
            assert_eq!(
                summary.sum.to_bits(),
                fixed(&losses, chunk).to_bits(),
                "{backend} {classes} {rows} {positions}"
            );
        }
    }
    assert!(other_order_differs > 0, "any order gives these sums");
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    assert_eq!(Reduction::default(), Reduction::Mean(Denominator::WeightSum));
    assert_eq!(ZeroDenominator::default(), ZeroDenominator::NaN);
    let weights = [1.0, 3.0];
    let (logits, labels) = ([0.5, 1.0, 2.0, -1.0, 0.0, 0.0], [0u8, 1, 1]);
    let loss = CrossEntropy::new(2).class_weights(&weights);
    let named = loss
        .reduction(Reduction::Mean(Denominator::WeightSum))
        .zero_denominator(ZeroDenominator::NaN)
        .row_stride(2)
        .backend(Backend::active());
    let summary = loss.loss(&logits, &labels).unwrap();
    assert_eq!(summary, named.loss(&logits, &labels).unwrap());
    assert_eq!(summary.denominator, 7.0);
    assert!(loss.loss(&[0.0; 0], &[0u8; 0]).unwrap().loss.is_nan());
}

#[test]
fn what_target_probabilities_weigh_is_what_their_loss_is_divided_by() {
    let (targets, weights, samples) = ([0.25, 0.75, 1.0, 0.0, 0.5, 0.0], [2.0, 4.0], [1.0, 3.0, 0.5]);
    for backend in backends() {
        let loss = CrossEntropy::new(2).class_weights(&weights).sample_weights(&samples).backend(backend);
        let weighed = loss.weigh_soft(&targets).unwrap();
        assert_eq!((weighed.rows, weighed.rows_times_classes), (3, 6));
        assert_eq!((weighed.sample_weight_sum, weighed.weight_sum), (4.5, 3.5 + 3.0 * 2.0 + 0.5));
        assert_eq!((weighed.sum, weighed.non_finite), (0.0, 0));
        for how in [Denominator::Rows, Denominator::WeightSum, Denominator::SampleWeightSum] {
            let found = loss.reduction(Reduction::Mean(how)).soft_loss(&[0.0; 6], &targets).unwrap();
            assert_eq!(found.denominator, weighed.denominator(Reduction::Mean(how)), "{backend} {how:?}");
        }
    }
}

/// Numbers whose sum is exact in whatever order it is taken.
#[test]
fn every_target_probability_has_its_weight_in_every_shape_and_layout() {
    let mut rng = Rng(17);
    let mut eighths = |count: usize| -> Vec<f32> { (0..count).map(|_| (1 + rng.below(32)) as f32 / 8.0).collect() };
    let shapes = (1..=35).chain([48, 49, 100, 300]).flat_map(|classes| [1, 15, 16, 53].map(|rows| (classes, rows)));
    // Beyond a chunk of rows.
    for (classes, rows) in shapes.chain([(2, 16_500), (5, 4_111)]) {
        let (targets, weights, samples) = (eighths(rows * classes), eighths(classes), eighths(rows));
        for (weights, samples) in
            [(None, None), (Some(&weights), None), (None, Some(&samples)), (Some(&weights), Some(&samples))]
        {
            let of = |numbers: Option<&Vec<f32>>, at: usize| numbers.map_or(1.0, |numbers| f64::from(numbers[at]));
            let terms = targets
                .iter()
                .enumerate()
                .map(|(at, &q)| of(samples, at / classes) * of(weights, at % classes) * f64::from(q));
            let expected: f64 = terms.sum();
            let strided: Vec<f32> =
                targets.chunks(classes).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
            let across: Vec<f32> =
                (0..classes).flat_map(|class| targets.iter().copied().skip(class).step_by(classes)).collect();
            for backend in backends() {
                let mut loss = CrossEntropy::new(classes).backend(backend);
                if let Some(weights) = weights {
                    loss = loss.class_weights(weights);
                }
                if let Some(samples) = samples {
                    loss = loss.sample_weights(samples);
                }
                for (layout, loss, targets) in [
                    ("dense", loss, &targets),
                    ("strided", loss.row_stride(classes + 3), &strided),
                    ("positions", loss.positions(rows), &across),
                ] {
                    let found = loss.weigh_soft(targets).unwrap().weight_sum;
                    assert_eq!(found, expected, "{backend}, {layout}: {rows} rows of {classes} classes");
                }
            }
        }
    }
}

/// Whatever stands between the samples, a NaN too, is neither read nor written; of the elements that are read the first
/// that is not finite is named.
#[test]
fn padding_of_target_probabilities_may_hold_anything() {
    let samples = [0.25, 0.75, 0.5, 0.5, 1.0, 0.0, 0.125, 0.875];
    let logits = [0.5, -1.0, 2.0, 0.0, 1.0, 3.0, -2.0, 0.25];
    let padded =
        |of: &[f32], with: f32| of.chunks(4).flat_map(|sample| sample.iter().copied().chain([with; 3])).collect();
    for backend in backends() {
        // [2, 2, 2], seven elements from sample to sample.
        let loss = CrossEntropy::new(2).positions(2).backend(backend);
        let mut expected = [0.0; 8];
        let summary = loss.soft_gradient(&logits, &samples, 1.0, &mut expected).unwrap();
        let loss = loss.row_stride(7);
        let (x, mut q): (Vec<f32>, Vec<f32>) = (padded(&logits, f32::NAN), padded(&samples, f32::NAN));
        let mut gradient = vec![9.0; 14];
        assert_eq!(loss.soft_gradient(&x, &q, 1.0, &mut gradient), Ok(summary), "{backend}");
        assert_eq!(gradient, padded(&expected, 9.0) as Vec<f32>, "{backend}");
        assert_eq!(loss.weigh_soft(&q).unwrap().rows, 4);
        (q[8], q[10]) = (f32::INFINITY, f32::NAN);
        let error = Err(Error::NotFinite { argument: Argument::Targets, index: 8 });
        assert_eq!(loss.soft_loss(&x, &q), error, "{backend}");
    }
}

/// Full and partial tiles with some ignored rows: each row is counted once.
#[test]
fn ignored_rows_are_counted_once_whatever_the_number_of_classes() {
    let mut rng = Rng(61);
    for backend in backends() {
        for classes in [2, 3, 10, 17, 100, 129, 200, 300, 700, 1500, 2100] {
            for rows in [1, 13, 37, 100] {
                let labels: Vec<i32> = (0..rows).map(|_| [-1, 0, 1][rng.below(3)]).collect();
                let logits = vec![0.0; classes * rows];
                let counted = labels.iter().filter(|label| **label != -1).count();
                let loss = CrossEntropy::new(classes).ignore_index(-1).backend(backend);
                for loss in [loss, loss.label_smoothing(0.1), loss.focal(1.0)] {
                    let found = loss.loss(&logits, &labels).unwrap();
                    let case = format!("{backend} {rows}x{classes} {loss:?}");
                    assert_eq!((found.rows, found.denominator), (counted, counted as f64), "{case}");
                }
            }
        }
    }
}
