//! Totals of batches and parts of rows that merge to the whole; sums per class; confusion matrix and its cost.

mod common;

use common::{
    GRADIENT_ULPS, LOSS_ULPS, REGIMES, Rng, backends, bits, error_in_ulps, is_slow, reference, same_bits_classes, ulp,
};
use rwwce::{
    Argument, ClassSums, CrossEntropy, Denominator, Error, Reduction, RowPartial, Total, ZeroDenominator,
    decision_cost, log_sum_exp,
};

/// The parts of a row between the cuts, merged in random order.
fn merged(row: &[f32], label: usize, cuts: &[usize], rng: &mut Rng) -> RowPartial {
    let mut bounds = vec![0];
    bounds.extend(cuts);
    bounds.push(row.len());
    bounds.sort_unstable();
    let mut parts: Vec<RowPartial> = bounds
        .windows(2)
        .map(|bounds| {
            let inside = (bounds[0]..bounds[1]).contains(&label).then(|| label - bounds[0]);
            RowPartial::new(&row[bounds[0]..bounds[1]], inside).unwrap()
        })
        .collect();
    let mut whole = RowPartial::default();
    while !parts.is_empty() {
        let next = parts.swap_remove(rng.below(parts.len()));
        whole.merge(&next);
    }
    whole
}

#[test]
fn parts_of_a_row_merge_to_its_loss() {
    let mut rng = Rng(21);
    let (mut worst, mut rows) = (0.0f64, 0);
    for regime in REGIMES {
        for classes in [1, 2, 3, 10, 100, 1000] {
            for _ in 0..10 {
                let (row, label) = regime.row(classes, &mut rng);
                let cuts: Vec<usize> = (0..rng.below(5)).map(|_| rng.below(classes + 1)).collect();
                let whole = merged(&row, label, &cuts, &mut rng);
                assert_eq!((whole.classes, whole.labels), (classes as u64, 1));
                let expected = reference::loss(&row, label);
                let error = error_in_ulps(whole.loss(1.0).unwrap(), expected);
                assert!(error <= LOSS_ULPS, "{regime:?} C = {classes} {cuts:?}: {error} ulp");
                worst = worst.max(error);
                let mut gradient = vec![0.0; classes];
                whole.gradient(&row, Some(label), 1.0, &mut gradient).unwrap();
                for (found, expected) in gradient.iter().zip(reference::gradient(&row, label)) {
                    assert!(error_in_ulps(*found, expected) <= GRADIENT_ULPS, "{regime:?} {found:e} {expected:e}");
                }
                let lse = reference::log_sum_exp(&row);
                // 2 ulp of the larger of the two terms of log Σ exp.
                let size = f64::from(whole.largest).abs().max(lse - f64::from(whole.largest));
                let found = f64::from(whole.log_sum_exp());
                assert!((found - lse).abs() <= 2.0 * ulp(size), "{regime:?}: {found} for {lse}");
                rows += 1;
            }
        }
    }
    println!("{rows} rows, ≤ {worst:.2} ulp");
    assert!(rows > 500);
}

#[test]
fn parts_of_a_row_are_the_same_on_every_backend_of_a_class() {
    let mut rng = Rng(22);
    for regime in REGIMES {
        let (row, label) = regime.row(300, &mut rng);
        for class in same_bits_classes(backends()) {
            let parts: Vec<RowPartial> = class
                .into_iter()
                .map(|backend| RowPartial::with_backend(&row, Some(label), backend).unwrap())
                .collect();
            assert!(parts.iter().all(|part| *part == parts[0]), "{regime:?} {parts:?}");
        }
    }
}

#[test]
fn nan_and_infinity_of_merged_rows_are_those_of_whole_rows() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 2.0];
    let mut rng = Rng(23);
    for _ in 0..3000 {
        let row: Vec<f32> = (0..1 + rng.below(6)).map(|_| special[rng.below(5)]).collect();
        let label = rng.below(row.len());
        let cuts = [rng.below(row.len() + 1), rng.below(row.len() + 1)];
        let whole = merged(&row, label, &cuts, &mut rng);
        let loss = CrossEntropy::new(row.len()).reduction(Reduction::Sum);
        let mut expected = vec![0.0; row.len()];
        let summary = loss.gradient(&row, &[label as u8], 1.0, &mut expected).unwrap();
        let (found, expected_loss) = (whole.loss(1.0).unwrap(), summary.loss);
        assert!(
            bits(&[found]) == bits(&[expected_loss]) || (found - expected_loss).abs() < 1e-6,
            "{row:?} {label} {cuts:?}: {found}, expected {expected_loss}"
        );
        let mut gradient = vec![0.0; row.len()];
        whole.gradient(&row, Some(label), 1.0, &mut gradient).unwrap();
        for (found, expected) in gradient.iter().zip(&expected) {
            assert!(
                (found.is_nan() && expected.is_nan()) || (found - expected).abs() < 1e-6,
                "{row:?} {label}: {gradient:?}"
            );
        }
        let lse = log_sum_exp(&row);
        assert!(bits(&[whole.log_sum_exp()]) == bits(&[lse]) || (whole.log_sum_exp() - lse).abs() < 1e-6);
    }
}

#[test]
fn a_label_must_have_one_owner() {
    let part = RowPartial::new(&[1.0, 2.0], Some(0)).unwrap();
    let none = RowPartial::new(&[1.0, 2.0], None).unwrap();
    let mut both = part;
    both.merge(&part);
    let mut gradient = [7.0; 2];
    for (partial, found) in [(none, 0), (both, 2), (RowPartial::default(), 0)] {
        assert_eq!(partial.loss(1.0), Err(Error::LabelOwners { found }));
        assert_eq!(partial.gradient(&[1.0, 2.0], None, 1.0, &mut gradient), Err(Error::LabelOwners { found }));
    }
    let out_of_range = Error::LabelOutOfRange { row: 0, label: 2, classes: 2 };
    assert_eq!(RowPartial::new(&[1.0, 2.0], Some(2)), Err(out_of_range));
    assert_eq!(part.gradient(&[1.0, 2.0], Some(2), 1.0, &mut gradient), Err(out_of_range));
    assert_eq!(part.loss(f32::NAN), Err(Error::NotFinite { argument: Argument::ClassWeights, index: 0 }));
    let not_finite = Error::NotFinite { argument: Argument::Upstream, index: 0 };
    assert_eq!(part.gradient(&[1.0, 2.0], None, f32::INFINITY, &mut gradient), Err(not_finite));
    let short = Error::Length { argument: Argument::Gradient, expected: 1, found: 2 };
    assert_eq!(part.gradient(&[1.0], None, 1.0, &mut gradient), Err(short));
    assert_eq!(gradient, [7.0; 2]);
    assert_eq!(part.loss(0.0), Ok(0.0));
}

/// E underflows f32, but not its product with the weight.
#[test]
fn a_tiny_loss_of_parts_counts_where_its_weight_is_large() {
    for lead in [60.0f32, 118.0, 130.0, 160.0] {
        let (mut whole, other) =
            (RowPartial::new(&[lead, 0.5], Some(0)).unwrap(), RowPartial::new(&[0.25], None).unwrap());
        whole.merge(&other);
        for weight in [1e20, 3e38] {
            let others = (0.5 - f64::from(lead)).exp() + (0.25 - f64::from(lead)).exp();
            let (found, expected) = (whole.loss(weight).unwrap(), f64::from(weight) * others);
            assert!(error_in_ulps(found, expected) <= LOSS_ULPS, "{lead} {weight:e}: {found:e}, {expected:e}");
        }
    }
}

/// The gradient may get other logits than the sum. Even beside +∞ a NaN has no probability.
#[test]
fn a_nan_that_is_new_has_no_gradient() {
    let row = RowPartial::new(&[f32::INFINITY, 0.0], Some(0)).unwrap();
    let mut gradient = [7.0; 3];
    row.gradient(&[f32::INFINITY, 0.0, f32::NAN], Some(0), 1.0, &mut gradient).unwrap();
    assert_eq!(gradient[..2], [0.0; 2]);
    assert!(gradient[2].is_nan());
}

#[test]
fn merging_nothing_changes_nothing() {
    let nothing = RowPartial::default();
    let inf = f32::INFINITY;
    for row in [&[][..], &[1.5], &[0.0, 3.0, -2.0], &[-inf], &[-inf, -inf], &[inf, 0.0], &[inf, inf]] {
        let part = RowPartial::new(row, None).unwrap();
        let (mut before, mut after) = (nothing, part);
        before.merge(&part);
        after.merge(&nothing);
        assert_eq!((before, after), (part, part), "{row:?}");
    }
}

#[test]
fn totals_of_batches_merge_to_the_whole() {
    let mut rng = Rng(24);
    let (classes, count) = (5, 60);
    let logits: Vec<f32> = (0..classes * count).map(|_| rng.between(-5.0, 5.0)).collect();
    let labels: Vec<i16> = (0..count).map(|_| rng.below(6) as i16).collect();
    let labels: Vec<i32> = labels.iter().map(|&label| label.into()).collect();
    let samples: Vec<f32> = (0..count).map(|_| rng.between(0.0, 2.0)).collect();
    let weights = [1.0, 2.0, 0.5, 3.0, 0.0];
    let loss = CrossEntropy::new(classes).class_weights(&weights).ignore_index(5);
    let whole = loss.sample_weights(&samples).loss(&logits, &labels).unwrap();
    let mut total = Total::default();
    let mut at = 0;
    while at < count {
        let size = (1 + rng.below(17)).min(count - at);
        let batch = loss.sample_weights(&samples[at..at + size]);
        let summary = batch.loss(&logits[at * classes..(at + size) * classes], &labels[at..at + size]).unwrap();
        total.merge(&summary.total);
        at += size;
    }
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
    assert_eq!((total.rows, total.rows_times_classes), (whole.total.rows, 5 * whole.rows as u64));
    assert!(close(total.sum, whole.total.sum) && close(total.weight_sum, whole.total.weight_sum));
    assert!(close(total.sample_weight_sum, whole.total.sample_weight_sum));
    for denominator in
        [Denominator::WeightSum, Denominator::Rows, Denominator::SampleWeightSum, Denominator::RowsTimesClasses]
    {
        let reduction = Reduction::Mean(denominator);
        let expected = loss.sample_weights(&samples).reduction(reduction).loss(&logits, &labels).unwrap();
        let found = total.reduce(reduction, ZeroDenominator::NaN).unwrap();
        assert!((found / expected.loss - 1.0).abs() < 2e-7, "{denominator:?}");
    }
    assert_eq!(total.reduce(Reduction::Sum, ZeroDenominator::NaN), Ok(total.sum as f32));
    let empty = Total::default();
    assert!(empty.reduce(Reduction::default(), ZeroDenominator::NaN).unwrap().is_nan());
    assert_eq!(empty.reduce(Reduction::default(), ZeroDenominator::Zero), Ok(0.0));
    assert_eq!(empty.reduce(Reduction::default(), ZeroDenominator::Error), Err(Error::ZeroDenominator));
}

#[test]
fn totals_count_what_is_not_finite() {
    let logits = [0.0, 1.0, f32::NAN, 0.0, f32::INFINITY, 0.0];
    let summary = CrossEntropy::new(2).loss(&logits, &[0u8, 1, 1]).unwrap();
    assert_eq!((summary.non_finite, summary.total.non_finite), (2, 2));
    let mut total = summary.total;
    total.merge(&summary.total);
    assert_eq!(total.non_finite, 4);
}

#[test]
fn sums_of_classes_add_up_to_the_total() {
    let mut rng = Rng(25);
    let (classes, count) = (4, 50);
    let weights = [1.0, 2.0, 0.5, 3.0];
    let samples: Vec<f32> = (0..count).map(|_| rng.between(0.0, 2.0)).collect();
    let loss = CrossEntropy::new(classes).class_weights(&weights).sample_weights(&samples).ignore_index(9);
    let (mut counts, mut sums, mut losses) = ([0; 4], [0.0; 4], [0.0; 4]);
    let (mut rows, mut weight_sum, mut loss_sum) = (0, 0.0, 0.0);
    for positions in [1, 10] {
        let logits: Vec<f32> = (0..classes * count).map(|_| rng.between(-5.0, 5.0)).collect();
        let labels: Vec<u8> = (0..count).map(|_| [0, 1, 2, 3, 9][rng.below(5)]).collect();
        let mut row_losses = vec![0.0; count];
        let loss = loss.positions(positions);
        let summary = loss.row_losses(&logits, &labels, &mut row_losses).unwrap();
        let all = ClassSums { counts: &mut counts, weights: &mut sums, losses: &mut losses };
        loss.add_class_sums(&labels, &row_losses, all).unwrap();
        (rows, weight_sum) = (rows + summary.total.rows, weight_sum + summary.total.weight_sum);
        loss_sum += summary.sum;
        for (class, &count) in counts.iter().enumerate() {
            assert!(count >= labels.iter().filter(|&&label| usize::from(label) == class).count() as u64);
        }
    }
    assert_eq!(counts.iter().sum::<u64>(), rows);
    assert!((sums.iter().sum::<f64>() / weight_sum - 1.0).abs() < 1e-12);
    assert!((losses.iter().sum::<f64>() / loss_sum - 1.0).abs() < 1e-12);

    let before = (counts, sums, losses);
    let mut call = |labels: &[u8], row_losses: &[f32], short: usize| {
        let all = ClassSums {
            counts: &mut counts[..4 - usize::from(short == 1)],
            weights: &mut sums[..4 - usize::from(short == 2)],
            losses: &mut losses[..4 - usize::from(short == 3)],
        };
        CrossEntropy::new(4).add_class_sums(labels, row_losses, all)
    };
    let length = |argument, expected, found| Err(Error::Length { argument, expected, found });
    assert_eq!(call(&[0, 1], &[1.0], 0), length(Argument::RowLosses, 2, 1));
    assert_eq!(call(&[0, 4], &[1.0; 2], 0), Err(Error::LabelOutOfRange { row: 1, label: 4, classes: 4 }));
    for (short, argument) in [(1, Argument::Counts), (2, Argument::WeightSums), (3, Argument::LossSums)] {
        assert_eq!(call(&[0, 1], &[1.0; 2], short), length(argument, 4, 3));
    }
    assert_eq!((counts, sums, losses), before);
}

/// Labels and losses of the rows are all that the sums need: neither where the logits are nor whether the rows are
/// whole samples matters.
#[test]
fn sums_of_classes_do_not_depend_on_the_layout_of_the_logits() {
    let (labels, losses, weights) = ([2u8, 0, 1, 2, 2, 0], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [0.5, 1.0, 2.0]);
    let plain = CrossEntropy::new(3).class_weights(&weights);
    let strides = [2, 4, usize::MAX].map(|stride| plain.row_stride(stride));
    let positions = [plain.positions(2), plain.positions(3).row_stride(11), plain.positions(4)];
    for loss in strides.into_iter().chain(positions) {
        let (mut counts, mut weight_sums, mut sums) = ([0; 3], [0.0; 3], [0.0; 3]);
        let all = ClassSums { counts: &mut counts, weights: &mut weight_sums, losses: &mut sums };
        loss.add_class_sums(&labels, &losses, all).unwrap();
        assert_eq!((counts, weight_sums, sums), ([2, 1, 3], [1.0, 1.0, 6.0], [34.0, 4.0, 25.0]));
    }
}

#[test]
fn confusion_counts_the_largest_and_costs_what_it_says() {
    let nan = f32::NAN;
    // [N, C]: right, wrong, a tie that the first class wins, ignored, NaN, all −∞.
    let inf = f32::NEG_INFINITY;
    let logits = [3., 1., 2., 0., 1., 5., 2., 2., 1., 0., 0., 9., 1., nan, 0., inf, inf, inf];
    let labels = [0i64, 1, 0, -1, 2, 2];
    let mut confusion = [0; 9];
    let loss = CrossEntropy::new(3).ignore_index(-1);
    assert_eq!(loss.add_confusion(&logits, &labels, &mut confusion), Ok(1));
    assert_eq!(confusion, [2, 0, 0, 0, 0, 1, 1, 0, 0]);
    // The same rows in the layout [N, C, D], added to the counts.
    let across: Vec<f32> = (0..18).map(|at| logits[at % 6 * 3 + at / 6]).collect();
    assert_eq!(loss.positions(6).add_confusion(&across, &labels, &mut confusion), Ok(1));
    assert_eq!(confusion, [4, 0, 0, 0, 0, 2, 2, 0, 0]);
    // A class bias changes the decisions.
    let mut biased = [0; 9];
    loss.class_bias(&[0.0, 100.0, 0.0]).add_confusion(&logits, &labels, &mut biased).unwrap();
    assert_eq!(biased.iter().skip(1).step_by(3).sum::<u64>(), 3);

    let misses = [1.0, 10.0, 100.0];
    let mislabels = [0.0, 2.0, 3.0, 4.0, 0.0, 5.0, 6.0, 7.0, 0.0];
    assert_eq!(decision_cost(&confusion, &misses, &mislabels), Ok(2.0 * 15.0 + 2.0 * 106.0));
    let length = |argument, expected, found| Err(Error::Length { argument, expected, found });
    assert_eq!(decision_cost(&confusion[1..], &misses, &mislabels), length(Argument::Confusion, 9, 8));
    assert_eq!(decision_cost(&confusion, &misses, &mislabels[1..]), length(Argument::MislabelCosts, 9, 8));
    assert_eq!(decision_cost(&[], &[], &[]), Err(Error::NoClasses));
    let bad = Err(Error::Negative { argument: Argument::MissCosts, index: 1 });
    assert_eq!(decision_cost(&confusion, &[1.0, -1.0, 1.0], &mislabels), bad);
    let mut short = [7; 8];
    assert_eq!(
        loss.add_confusion(&logits, &labels, &mut short),
        Err(Error::Length { argument: Argument::Confusion, expected: 9, found: 8 })
    );
    assert_eq!(short, [7; 8]);
}

#[test]
fn log_probabilities_and_log_sum_exps() {
    for backend in backends() {
        let mut rng = Rng(26);
        let mut worst = 0.0f64;
        for regime in REGIMES {
            for classes in [1, 2, 5, 17, 100] {
                if is_slow(backend) && classes > 20 {
                    continue;
                }
                for positions in [1, 19] {
                    let rows: Vec<Vec<f32>> = (0..19).map(|_| regime.row(classes, &mut rng).0).collect();
                    let element = |row: usize, class: usize| {
                        if positions == 1 { row * classes + class } else { class * positions + row }
                    };
                    let mut logits = vec![0.0; classes * 19];
                    for (row, x) in rows.iter().enumerate() {
                        for (class, x) in x.iter().enumerate() {
                            logits[element(row, class)] = *x;
                        }
                    }
                    let loss = CrossEntropy::new(classes).positions(positions).backend(backend);
                    let (mut logs, mut sums) = (vec![7.0; logits.len()], vec![7.0; 19]);
                    loss.log_probabilities(&logits, &mut logs).unwrap();
                    loss.log_sum_exps(&logits, &mut sums).unwrap();
                    for (row, x) in rows.iter().enumerate() {
                        let lse = reference::log_sum_exp(x);
                        let error = (f64::from(sums[row]) - lse).abs();
                        assert!(error <= 1.5e-7 * (lse.abs() + 20.0), "{backend} {regime:?} {} {lse}", sums[row]);
                        for class in 0..classes {
                            let found = -logs[element(row, class)];
                            let expected = reference::loss(x, class);
                            if expected.is_infinite() || expected > f64::from(f32::MAX) {
                                assert_eq!(found, f32::INFINITY);
                                continue;
                            }
                            let error = error_in_ulps(found, expected);
                            assert!(error <= LOSS_ULPS, "{backend} {regime:?} C = {classes}: {found:e} {expected:e}");
                            worst = worst.max(error);
                        }
                    }
                }
            }
        }
        println!("{backend}: log p ≤ {worst:.2} ulp");
        // NaN and infinity.
        let loss = CrossEntropy::new(3).backend(backend);
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for (row, logs, sum) in [
            ([nan, 0.0, inf], [nan, nan, nan], nan),
            ([inf, 0.0, -inf], [0.0, -inf, -inf], inf),
            ([inf, 0.0, inf], [nan, -inf, nan], inf),
            ([-inf, -inf, -inf], [nan, nan, nan], -inf),
            ([-inf, 0.0, -inf], [-inf, 0.0, -inf], 0.0),
        ] {
            let (mut found, mut sums) = ([7.0; 3], [7.0]);
            loss.log_probabilities(&row, &mut found).unwrap();
            loss.log_sum_exps(&row, &mut sums).unwrap();
            assert_eq!(
                found.map(|x| x + 0.0).map(f32::to_bits).map(|x| x & 0x7fc0_0000 == 0x7fc0_0000),
                logs.map(f32::is_nan)
            );
            for (found, expected) in found.iter().zip(logs) {
                assert!(expected.is_nan() || *found == expected, "{backend} {row:?} {found:?}");
            }
            assert!(sums[0] == sum || sum.is_nan() && sums[0].is_nan(), "{backend} {row:?} {sums:?}");
        }
    }
}

#[test]
fn log_probabilities_have_the_gradient_of_soft_targets() {
    let (row, upstream) = ([0.5, -1.0, 2.0], [0.3, -0.2, 0.7f32]);
    let mut gradient = [0.0; 3];
    let loss = CrossEntropy::new(3).reduction(Reduction::Sum);
    loss.soft_gradient(&row, &upstream.map(|x| -x), 1.0, &mut gradient).unwrap();
    let value = |row: [f32; 3]| {
        let mut logs = [0.0; 3];
        loss.log_probabilities(&row, &mut logs).unwrap();
        logs.iter().zip(upstream).map(|(log, up)| f64::from(log * up)).sum::<f64>()
    };
    for class in 0..3 {
        let (mut up, mut down) = (row, row);
        up[class] += 0.0625;
        down[class] -= 0.0625;
        let slope = (value(up) - value(down)) / 0.125;
        assert!((f64::from(gradient[class]) - slope).abs() < 1e-3, "{gradient:?} {slope}");
    }
}
