//! The options of the softmax losses: which are refused; effects of shapes, weights and denominators.

mod common;

use common::{Rng, backends, bits, raw_bits};
use rwwce::{Argument, CrossEntropy, Denominator, Error, Reduction, Summary, Upstream};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

/// Two rows of three classes.
const LOGITS: [f32; 6] = [0.5, -1.0, 2.0, NAN, 1.0, 0.0];
const LABELS: [u8; 2] = [2, 1];
const SOFT: [f32; 6] = [0.0, 0.5, 0.5, 1.0, 0.0, 0.0];

/// Every entry point for labels returns this error and leaves its outputs.
fn refused(loss: CrossEntropy<'_>, expected: Error) {
    let (mut losses, mut gradient, mut over) = ([7.0; 2], [7.0; 6], LOGITS);
    assert_eq!(loss.loss(&LOGITS, &LABELS), Err(expected));
    assert_eq!(loss.row_losses(&LOGITS, &LABELS, &mut losses), Err(expected));
    assert_eq!(loss.gradient(&LOGITS, &LABELS, 1.0, &mut gradient), Err(expected));
    assert_eq!(loss.gradient_in_place(&mut over, &LABELS, 1.0), Err(expected));
    assert_eq!((losses, gradient, raw_bits(&over)), ([7.0; 2], [7.0; 6], raw_bits(&LOGITS)));
}

fn refused_soft(loss: CrossEntropy<'_>, targets: &[f32], expected: Error) {
    let (mut losses, mut gradient, mut over) = ([7.0; 2], [7.0; 6], LOGITS);
    assert_eq!(loss.soft_loss(&LOGITS, targets), Err(expected));
    assert_eq!(loss.soft_row_losses(&LOGITS, targets, &mut losses), Err(expected));
    assert_eq!(loss.soft_gradient(&LOGITS, targets, 1.0, &mut gradient), Err(expected));
    assert_eq!(loss.soft_gradient_in_place(&mut over, targets, 1.0), Err(expected));
    assert_eq!((losses, gradient, raw_bits(&over)), ([7.0; 2], [7.0; 6], raw_bits(&LOGITS)));
}

fn refused_from_probabilities(loss: CrossEntropy<'_>, expected: Error) {
    let mut losses = [7.0; 2];
    assert_eq!(loss.loss_from_probabilities(&LOGITS, &LABELS, 0.0), Err(expected));
    assert_eq!(loss.row_losses_from_probabilities(&LOGITS, &LABELS, 0.0, &mut losses), Err(expected));
    assert_eq!(losses, [7.0; 2]);
}

fn refused_logs(loss: CrossEntropy<'_>, expected: Error) {
    let (mut logs, mut sums) = ([7.0; 6], [7.0; 2]);
    assert_eq!(loss.log_probabilities(&LOGITS, &mut logs), Err(expected));
    assert_eq!(loss.log_sum_exps(&LOGITS, &mut sums), Err(expected));
    assert_eq!((logs, sums), ([7.0; 6], [7.0; 2]));
}

fn refused_decisions(loss: CrossEntropy<'_>, expected: Error) {
    let (mut decisions, mut costs) = ([7; 2], [7.0; 2]);
    assert_eq!(loss.decide(&LOGITS, &mut decisions, Some(&mut costs)), Err(expected));
    assert_eq!(loss.decide(&LOGITS, &mut decisions, None), Err(expected));
    assert_eq!((decisions, costs), ([7; 2], [7.0; 2]));
}

fn refused_decisions_from_probabilities(loss: CrossEntropy<'_>, expected: Error) {
    let (mut decisions, mut costs) = ([7; 2], [7.0; 2]);
    assert_eq!(loss.decide_from_probabilities(&LOGITS, &mut decisions, Some(&mut costs)), Err(expected));
    assert_eq!(loss.decide_from_probabilities(&LOGITS, &mut decisions, None), Err(expected));
    assert_eq!((decisions, costs), ([7; 2], [7.0; 2]));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let loss = CrossEntropy::new(3);
    let range = |argument: Argument, in_words| {
        assert_eq!(argument.range(), in_words);
        Error::OutOfRange { argument }
    };
    for bad in [-0.1, 1.1, NAN, INF] {
        let expected = range(Argument::LabelSmoothing, "a number in [0, 1]");
        refused(loss.label_smoothing(bad), expected);
        refused_soft(loss.label_smoothing(bad), &SOFT, expected);
    }
    for bad in [-0.1, NAN, INF] {
        refused(loss.focal(bad), range(Argument::Focal, "a finite number of at least 0"));
        refused(loss.z_loss(bad), range(Argument::ZLoss, "a finite number of at least 0"));
    }
    for bad in [0.0, -1.0, NAN, INF] {
        let expected = range(Argument::Temperature, "a finite number above 0");
        refused(loss.temperature(bad), expected);
        refused_logs(loss.temperature(bad), expected);
        refused_decisions(loss.temperature(bad), expected);
    }
    refused(loss.positions(0), range(Argument::Positions, "at least 1"));
    refused_logs(loss.positions(0), range(Argument::Positions, "at least 1"));
    refused_decisions(loss.positions(0), range(Argument::Positions, "at least 1"));
    let stride = range(Argument::RowStride, "at least the number of classes times that of positions");
    refused(loss.positions(2).row_stride(5), stride);
    // The number of labels is a multiple of that of positions.
    refused(loss.positions(4), Error::Length { argument: Argument::Labels, expected: 0, found: 2 });
    let overflow = Error::SizeOverflow { rows: usize::MAX, row_stride: 3 };
    refused(loss.positions(usize::MAX), overflow);
    refused_decisions(loss.positions(usize::MAX), overflow);
    // A decision is a u32.
    #[cfg(target_pointer_width = "64")]
    for classes in [1 << 32, (1 << 40) + 1] {
        let too_many = Error::SizeOverflow { rows: 0, row_stride: classes };
        assert_eq!(CrossEntropy::new(classes).decide(&[0.0; 0], &mut [], None), Err(too_many));
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let loss = CrossEntropy::new(3);
    let length = |argument, expected, found| Error::Length { argument, expected, found };
    refused(loss.class_bias(&[0.0; 2]), length(Argument::ClassBias, 3, 2));
    refused(loss.class_bias(&[0.0, NAN, 0.0]), Error::NotFinite { argument: Argument::ClassBias, index: 1 });
    refused_logs(loss.class_bias(&[0.0, NAN, 0.0]), Error::NotFinite { argument: Argument::ClassBias, index: 1 });
    refused(loss.sample_weights(&[1.0; 3]), length(Argument::SampleWeights, 2, 3));
    let samples = |weights| (loss.sample_weights(weights), Argument::SampleWeights);
    let (bad, argument) = samples(&[INF, 1.0]);
    refused(bad, Error::NotFinite { argument, index: 0 });
    refused_soft(bad, &SOFT, Error::NotFinite { argument, index: 0 });
    refused_from_probabilities(bad, Error::NotFinite { argument, index: 0 });
    refused_decisions(bad, Error::NotFinite { argument, index: 0 });
    refused_soft(loss, &SOFT[..5], length(Argument::Targets, 6, 5));
    refused_soft(loss, &[0.0, 1.0, 0.0, 0.0, INF, 0.0], Error::NotFinite { argument: Argument::Targets, index: 4 });
    refused_soft(CrossEntropy::new(4), &SOFT, length(Argument::Logits, 4, 6));
    refused_logs(CrossEntropy::new(4), length(Argument::Logits, 4, 6));
    refused_logs(CrossEntropy::new(0), Error::NoClasses);
    refused_decisions(loss.class_bias(&[0.0, NAN, 0.0]), Error::NotFinite { argument: Argument::ClassBias, index: 1 });
    refused_decisions(CrossEntropy::new(4), length(Argument::Logits, 4, 6));
    refused_decisions(CrossEntropy::new(0), Error::NoClasses);
    refused_decisions_from_probabilities(CrossEntropy::new(4), length(Argument::Probabilities, 4, 6));
    refused_decisions_from_probabilities(CrossEntropy::new(0), Error::NoClasses);
    let (mut short, mut sums) = ([7.0; 5], [7.0; 1]);
    let (wanted, found) = (length(Argument::LogProbabilities, 6, 5), length(Argument::LogSumExps, 2, 1));
    assert_eq!(loss.log_probabilities(&LOGITS, &mut short), Err(wanted));
    assert_eq!(loss.log_sum_exps(&LOGITS, &mut sums), Err(found));
    assert_eq!((short, sums), ([7.0; 5], [7.0; 1]));
    for (decisions, costs, expected) in [
        (1, 2, length(Argument::Decisions, 2, 1)),
        (3, 2, length(Argument::Decisions, 2, 3)),
        (2, 1, length(Argument::ExpectedCosts, 2, 1)),
        (2, 3, length(Argument::ExpectedCosts, 2, 3)),
    ] {
        let (mut decisions, mut costs) = (vec![7; decisions], vec![7.0; costs]);
        assert_eq!(loss.decide(&LOGITS, &mut decisions, Some(&mut costs)), Err(expected));
        assert_eq!(loss.decide_from_probabilities(&LOGITS, &mut decisions, Some(&mut costs)), Err(expected));
        assert!(decisions.iter().all(|&class| class == 7) && costs.iter().all(|&cost| cost == 7.0));
    }
}

/// For decisions class weights are miss costs, with or without mislabel costs.
#[test]
fn decisions_refuse_costs_that_are_none() {
    let loss = CrossEntropy::new(3);
    let costs = |at: usize, cost: f32| {
        let mut costs = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        costs[at] = cost;
        costs
    };
    for bad in [-1.0, -1e-40, NAN, INF, -INF] {
        let of = |argument, index| {
            if bad.is_finite() { Error::Negative { argument, index } } else { Error::NotFinite { argument, index } }
        };
        let (weights, matrix, good) = ([1.0, bad, bad], costs(5, bad), costs(0, 0.0));
        for (loss, expected) in [
            (loss.class_weights(&weights), of(Argument::ClassWeights, 1)),
            (loss.class_weights(&weights).mislabel_costs(&good), of(Argument::ClassWeights, 1)),
            (loss.mislabel_costs(&matrix), of(Argument::MislabelCosts, 5)),
        ] {
            refused_decisions(loss, expected);
            refused_decisions_from_probabilities(loss, expected);
        }
    }
    let length = |argument, expected, found| Error::Length { argument, expected, found };
    for (loss, expected) in [
        (loss.class_weights(&[1.0; 2]), length(Argument::ClassWeights, 3, 2)),
        (loss.mislabel_costs(&[0.0; 8]), length(Argument::MislabelCosts, 9, 8)),
        (loss.mislabel_costs(&costs(8, 0.5)), Error::CostOfTruth { class: 2 }),
    ] {
        refused_decisions(loss, expected);
        refused_decisions_from_probabilities(loss, expected);
    }
}

#[test]
fn options_that_mean_nothing_together_are_refused() {
    let costs = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
    let loss = CrossEntropy::new(3);
    let incompatible = |option, with| Error::Incompatible { option, with };
    for (loss, option) in [
        (loss.mislabel_costs(&costs), Argument::MislabelCosts),
        (loss.focal(1.0), Argument::Focal),
        (loss.ignore_index(0), Argument::IgnoreIndex),
    ] {
        refused_soft(loss, &SOFT, incompatible(option, Argument::Targets));
    }
    for (loss, option) in [
        (loss.label_smoothing(0.1), Argument::LabelSmoothing),
        (loss.focal(1.0), Argument::Focal),
        (loss.z_loss(1.0), Argument::ZLoss),
        (loss.temperature(2.0), Argument::Temperature),
        (loss.class_bias(&[1.0; 3]), Argument::ClassBias),
    ] {
        refused_from_probabilities(loss, incompatible(option, Argument::Probabilities));
        refused_decisions_from_probabilities(loss, incompatible(option, Argument::Probabilities));
    }
}

#[test]
fn denominators_of_every_target() {
    let logits = [0.5, -1.0, 2.0, 0.25, 1.0, 0.0];
    let (weights, samples) = ([1.0, 2.0, 4.0], [0.5, 3.0]);
    let costs = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
    let loss = CrossEntropy::new(3).class_weights(&weights).sample_weights(&samples);
    type Call<'a> = &'a dyn Fn(CrossEntropy<'_>) -> Summary;
    let labels: Call<'_> = &|loss| loss.loss(&logits, &LABELS).unwrap();
    let soft: Call<'_> = &|loss| loss.soft_loss(&logits, &SOFT).unwrap();
    let probabilities: Call<'_> = &|loss| loss.loss_from_probabilities(&[0.5; 6], &LABELS, 0.0).unwrap();
    // Σ w·s of labels 2 and 1; Σ s·Σ w·q.
    let of_labels = 4.0 * 0.5 + 2.0 * 3.0;
    let of_soft = 0.5 * (0.5 * 2.0 + 0.5 * 4.0) + 3.0;
    for (call, loss, weight_sum, default) in [
        (labels, loss, of_labels, of_labels),
        (labels, loss.label_smoothing(0.1), of_labels, of_labels),
        (labels, loss.mislabel_costs(&costs), of_labels, 2.0),
        (probabilities, loss, of_labels, of_labels),
        (soft, loss, of_soft, 2.0),
    ] {
        assert_eq!(call(loss).denominator, default);
        let sum = call(loss.reduction(Reduction::Sum));
        assert_eq!((sum.denominator, sum.loss), (1.0, sum.sum as f32));
        for (denominator, expected) in [
            (Denominator::WeightSum, weight_sum),
            (Denominator::Rows, 2.0),
            (Denominator::SampleWeightSum, 3.5),
            (Denominator::RowsTimesClasses, 6.0),
        ] {
            let summary = call(loss.reduction(Reduction::Mean(denominator)));
            assert_eq!((summary.denominator, summary.loss), (expected, (sum.sum / expected) as f32));
            assert_eq!((summary.total, summary.rows), (sum.total, 2));
        }
    }
}

/// `[N, C, D]` and padded rows have the results of contiguous rows.
#[test]
fn layouts_hold_the_same_rows() {
    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 3, 40),
        (3, 5, 7),
        (2, 21, 16),
        (2, 2, 33),
        (4, 40, 1),
        (3, 40, 17),
        (3, 33, 16),
        (3, 150, 49),
        (2, 300, 70),
    ];
    let mut rng = Rng(31);
    let weights: Vec<f32> = (0..300).map(|_| rng.between(0.0, 3.0)).collect();
    for backend in backends() {
        for (samples, classes, positions) in SHAPES {
            let rows = samples * positions;
            let mut flat: Vec<f32> = (0..rows * classes).map(|_| rng.between(-20.0, 20.0)).collect();
            // Out of range of f32's exponentials, in some rows of one sample.
            flat[rng.below(classes)] = 200.0;
            let targets: Vec<f32> = (0..flat.len()).map(|_| rng.between(0.0, 1.0)).collect();
            let labels: Vec<u16> =
                (0..rows).map(|_| if rng.below(5) == 0 { 999 } else { rng.below(classes) as u16 }).collect();
            let of_samples: Vec<f32> = (0..rows).map(|_| [0.0, 1.0, 2.5][rng.below(3)]).collect();
            let stride = classes * positions + 3;
            let at = |row: usize, class: usize| row / positions * stride + class * positions + row % positions;
            let across = |flat: &[f32]| {
                // Vectors may read what is between the samples, where it is harmless and where it is not.
                let mut padded = vec![[NAN, 1.0][samples % 2]; samples * stride];
                for row in 0..rows {
                    for class in 0..classes {
                        padded[at(row, class)] = flat[row * classes + class];
                    }
                }
                padded
            };
            let (padded, padded_targets) = (across(&flat), across(&targets));
            let loss = CrossEntropy::new(classes)
                .class_weights(&weights[..classes])
                .sample_weights(&of_samples)
                .backend(backend);
            let labelled = loss.ignore_index(999);
            // A tiny z-loss selects the kernel for losses with terms.
            let all = [(labelled, false), (labelled.z_loss(1e-30), false), (labelled.label_smoothing(0.2), false)];
            for (loss, soft) in all.into_iter().chain([(loss, true), (loss.label_smoothing(0.2), true)]) {
                let evaluate = |loss: CrossEntropy<'_>, x: &[f32], q: &[f32], out: &mut [f32], gradient: &mut [f32]| {
                    if soft {
                        loss.soft_gradient(x, q, 1.0, gradient).unwrap();
                        loss.soft_row_losses(x, q, out).unwrap()
                    } else {
                        loss.gradient(x, &labels, 1.0, gradient).unwrap();
                        loss.row_losses(x, &labels, out).unwrap()
                    }
                };
                let (mut expected, mut expected_rows) = (vec![0.0; flat.len()], vec![0.0; rows]);
                let plain = evaluate(loss, &flat, &targets, &mut expected_rows, &mut expected);
                let (mut gradient, mut row_losses) = (vec![7.0; padded.len()], vec![0.0; rows]);
                let other = loss.positions(positions).row_stride(stride);
                let summary = evaluate(other, &padded, &padded_targets, &mut row_losses, &mut gradient);
                assert_eq!((summary.rows, summary.denominator), (plain.rows, plain.denominator));
                assert_eq!(bits(&row_losses), bits(&expected_rows), "{backend} {classes} classes, {positions}");
                for row in 0..rows {
                    for class in 0..classes {
                        let (found, expected) = (&mut gradient[at(row, class)], expected[row * classes + class]);
                        assert_eq!(
                            found.to_bits(),
                            expected.to_bits(),
                            "{backend} {classes} classes, {positions} positions, row {row}: {found} {expected}"
                        );
                        *found = 7.0;
                    }
                }
                // Nothing between the samples was written.
                assert_eq!(bits(&gradient), bits(&vec![7.0; gradient.len()]));
            }
        }
    }
}

/// Of random shapes, with rows out of range and masked classes, adjusted logits or not, over the logits or beside them.
#[test]
fn layouts_of_any_shape_have_the_same_bits() {
    const LARGEST: (usize, usize, usize) = (4, 300, 90);
    let mut rng = Rng(37);
    let (weights, bias): (Vec<f32>, Vec<f32>) =
        (0..LARGEST.1).map(|_| (rng.between(0.5, 2.0), rng.between(-1.0, 1.0))).unzip();
    let mut compared = 0;
    for _ in 0..60 {
        let (samples, positions) = (1 + rng.below(LARGEST.0), 1 + rng.below(LARGEST.2));
        let classes = 1 + [rng.below(12), rng.below(70), rng.below(LARGEST.1)][rng.below(3)];
        let rows = samples * positions;
        let spread = [4.0, 30.0, 200.0][rng.below(3)];
        let mut flat: Vec<f32> = (0..rows * classes).map(|_| rng.between(-spread, spread)).collect();
        // An offset and a mask for some rows.
        for row in flat.chunks_mut(classes) {
            if rng.below(9) > 0 {
                continue;
            }
            let offset = [0.0, 60.0, 1e4][rng.below(3)];
            row.iter_mut().for_each(|x| *x += offset);
            row[rng.below(classes)] = [-INF, 0.0][rng.below(2)];
        }
        let targets: Vec<f32> =
            flat.iter().map(|x| if *x == -INF || rng.below(3) == 0 { 0.0 } else { rng.between(0.0, 1.0) }).collect();
        let labels: Vec<u16> = flat
            .chunks(classes)
            .map(|row| [rng.below(classes), row.iter().position(|x| *x > -INF).unwrap_or(0)][rng.below(2)] as u16)
            .collect();
        // With a high focal exponent such leads have scales below the smallest normal f32, and elements above.
        let lead = [0.0, 0.0, rng.between(8.0, 20.0)][rng.below(3)];
        for (row, &label) in flat.chunks_mut(classes).zip(&labels) {
            row[usize::from(label)] += lead;
        }
        let at = |row: usize, class: usize| row / positions * positions * classes + class * positions + row % positions;
        let across = |flat: &[f32]| {
            let mut across = vec![0.0; flat.len()];
            for (i, x) in flat.iter().enumerate() {
                across[at(i / classes, i % classes)] = *x;
            }
            across
        };
        let (logits, targets_across) = (across(&flat), across(&targets));
        let mut plain = CrossEntropy::new(classes).reduction(Reduction::Sum);
        if rng.below(2) == 0 {
            plain = plain.class_weights(&weights[..classes]);
        }
        if rng.below(3) == 0 {
            plain = plain.class_bias(&bias[..classes]).temperature(1.5);
        }
        let in_place = rng.below(3) == 0;
        for backend in backends() {
            let plain = plain.backend(backend);
            let focal = [(plain.focal(2.0), false), (plain.focal(5.0), false)];
            let losses = [(plain, false), (plain.z_loss(1e-3), false)].into_iter().chain(focal);
            let spreads = [(plain.label_smoothing(0.1), false), (plain, true), (plain.label_smoothing(0.1), true)];
            for (number, (loss, soft)) in losses.chain(spreads).enumerate() {
                let evaluate = |loss: CrossEntropy<'_>, x: &[f32], q: &[f32]| {
                    let (mut out, mut gradient) = (vec![7.0; rows], x.to_vec());
                    if !in_place {
                        gradient.fill(7.0);
                    }
                    let summary = match (soft, in_place) {
                        (false, false) => loss.gradient(x, &labels, 1.0, &mut gradient).map(|_| ()),
                        (false, true) => loss.gradient_in_place(&mut gradient, &labels, 1.0).map(|_| ()),
                        (true, false) => loss.soft_gradient(x, q, 1.0, &mut gradient).map(|_| ()),
                        (true, true) => loss.soft_gradient_in_place(&mut gradient, q, 1.0).map(|_| ()),
                    };
                    summary.unwrap();
                    let summary =
                        if soft { loss.soft_row_losses(x, q, &mut out) } else { loss.row_losses(x, &labels, &mut out) };
                    (summary.unwrap().loss, out, gradient)
                };
                let (dense, found) =
                    (evaluate(loss, &flat, &targets), evaluate(loss.positions(positions), &logits, &targets_across));
                let name = format!("{backend} loss {number}: {samples} × {classes} × {positions}, ±{spread}");
                assert_eq!((bits(&[dense.0]), bits(&dense.1)), (bits(&[found.0]), bits(&found.1)), "{name}");
                assert_eq!(bits(&across(&dense.2)), bits(&found.2), "{name}, in place {in_place}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 60 * 7 * backends().len());
}

/// The results of logits that the caller has adjusted, also for temperature or bias alone.
#[test]
fn temperature_and_class_bias_are_applied_to_the_logits() {
    let mut rng = Rng(35);
    let (rows, classes) = (20, 6);
    let logits: Vec<f32> = (0..rows * classes).map(|_| rng.between(-10.0, 10.0)).collect();
    let labels: Vec<u8> = (0..rows).map(|_| rng.below(classes) as u8).collect();
    let bias: Vec<f32> = (0..classes).map(|_| rng.between(-3.0, 3.0)).collect();
    let plain = CrossEntropy::new(classes).reduction(Reduction::Sum);
    for backend in backends() {
        let plain = plain.backend(backend);
        for (temperature, biased) in [(2.0, false), (1.0, true), (0.75, true)] {
            let mut loss = plain.temperature(temperature);
            if biased {
                loss = loss.class_bias(&bias);
            }
            let of = |class: usize| if biased { bias[class] } else { 0.0 };
            let adjusted: Vec<f32> =
                logits.iter().enumerate().map(|(at, x)| x / temperature + of(at % classes)).collect();
            let (mut found, mut expected) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
            let (of_loss, of_plain) = (
                loss.gradient(&logits, &labels, 1.0, &mut found).unwrap(),
                plain.gradient(&adjusted, &labels, 1.0, &mut expected).unwrap(),
            );
            assert!((of_loss.sum / of_plain.sum - 1.0).abs() < 1e-6, "{backend} T = {temperature}, bias: {biased}");
            for (found, expected) in found.iter().zip(&expected) {
                let expected = expected / temperature;
                assert!((found - expected).abs() <= 2e-6 * expected.abs(), "{backend} {found:e} {expected:e}");
            }
            // A factor for each row, the same for all.
            let (factors, mut by_rows) = (vec![1.0; rows], vec![0.0; logits.len()]);
            loss.gradient(&logits, &labels, Upstream::Rows(&factors), &mut by_rows).unwrap();
            assert_eq!(bits(&by_rows), bits(&found), "{backend} T = {temperature}, bias: {biased}");
        }
    }
}

#[test]
fn one_hot_targets_are_labels() {
    let mut rng = Rng(33);
    let (rows, classes) = (20, 6);
    let logits: Vec<f32> = (0..rows * classes).map(|_| rng.between(-30.0, 30.0)).collect();
    let labels: Vec<u32> = (0..rows).map(|_| rng.below(classes) as u32).collect();
    let mut soft = vec![0.0; logits.len()];
    for (row, &label) in labels.iter().enumerate() {
        soft[row * classes + label as usize] = 1.0;
    }
    let weights = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0];
    for loss in [CrossEntropy::new(classes), CrossEntropy::new(classes).label_smoothing(0.3)] {
        let loss = loss.class_weights(&weights).reduction(Reduction::Sum);
        let (mut by_labels, mut by_soft) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
        let expected = loss.gradient(&logits, &labels, 1.0, &mut by_labels).unwrap();
        let found = loss.soft_gradient(&logits, &soft, 1.0, &mut by_soft).unwrap();
        assert!((found.sum / expected.sum - 1.0).abs() < 1e-6);
        for (found, expected) in by_soft.iter().zip(&by_labels) {
            assert!((found - expected).abs() <= 2e-6 * expected.abs(), "{found:e} {expected:e}");
        }
    }
}

#[test]
fn mislabel_costs_from_probabilities() {
    let costs = [0.0, 2.0, 0.5, 1.0, 0.0, 3.0, 0.0, 4.0, 0.0];
    let weights = [1.0, 0.0, 2.0];
    let samples = [1.0, 2.0, 0.0, 1.0, 1.0];
    let p = [0.7, 0.2, 0.1, 0.25, 0.5, 0.25, NAN, NAN, NAN, 1e-30, 1.0, 0.0, 0.5, 0.5, 0.0];
    let labels = [0u8, 1, 2, 2, 9];
    let loss = CrossEntropy::new(3).class_weights(&weights).mislabel_costs(&costs).ignore_index(9);
    let loss = loss.sample_weights(&samples);
    for eps in [0.0f32, 1e-3] {
        let mut found = [7.0; 5];
        let summary = loss.row_losses_from_probabilities(&p, &labels, eps, &mut found).unwrap();
        assert_eq!((summary.rows, summary.denominator), (4, 4.0));
        for row in 0..5 {
            let Some(label) = (labels[row] < 3 && samples[row] > 0.0).then_some(usize::from(labels[row])) else {
                assert_eq!(found[row], 0.0);
                continue;
            };
            let p: Vec<f64> = p[row * 3..][..3].iter().map(|&p| f64::from(p)).collect();
            let (eps, sample) = (f64::from(eps), f64::from(samples[row]));
            let mut expected = 0.0;
            if weights[label] != 0.0 {
                expected -= f64::from(weights[label]) * (p[label] + eps).ln();
            }
            for class in 0..3 {
                let cost = f64::from(costs[label * 3 + class]);
                if cost != 0.0 {
                    expected -= cost * (1.0 - p[class] + eps).ln();
                }
            }
            let (found, expected) = (f64::from(found[row]), expected * sample);
            assert!(
                found == expected || (found - expected).abs() <= 4e-7 * expected.abs(),
                "{row}: {found} {expected}"
            );
        }
    }
}

/// Scales below the smallest normal f32, of rows of `[N, C, D]` that do not fill a block, with the exponentials of other
/// classes beside theirs.
#[test]
fn scales_beyond_f32_are_those_of_their_rows() {
    let (samples, positions) = (3, 20);
    let mut rng = Rng(77);
    for classes in [5, 40, 70] {
        let rows = samples * positions;
        let labels: Vec<u8> = (0..rows).map(|_| rng.below(classes) as u8).collect();
        let mut flat: Vec<f32> = (0..rows * classes).map(|_| rng.between(-1.0, 1.0)).collect();
        for (row, &label) in flat.chunks_mut(classes).zip(&labels) {
            row[usize::from(label)] += rng.between(14.0, 20.0);
        }
        let at = |row: usize, class: usize| row / positions * positions * classes + class * positions + row % positions;
        let mut across = vec![0.0; flat.len()];
        for (i, x) in flat.iter().enumerate() {
            across[at(i / classes, i % classes)] = *x;
        }
        for backend in backends() {
            let loss = CrossEntropy::new(classes).focal(5.0).reduction(Reduction::Sum).backend(backend);
            let (mut dense, mut found) = (vec![7.0; flat.len()], vec![7.0; flat.len()]);
            loss.gradient(&flat, &labels, 1.0, &mut dense).unwrap();
            loss.positions(positions).gradient(&across, &labels, 1.0, &mut found).unwrap();
            let subnormal = dense.iter().filter(|g| **g != 0.0 && g.abs() < f32::MIN_POSITIVE).count();
            assert!(subnormal > rows, "{backend}: only {subnormal} small elements");
            for (i, expected) in dense.iter().enumerate() {
                let found = found[at(i / classes, i % classes)];
                assert_eq!(found.to_bits(), expected.to_bits(), "{backend} {classes} classes, element {i}: {found:e}");
            }
        }
    }
}
