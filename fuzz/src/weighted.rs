//! The weighted loss and its gradient within the worst case of 3 to 7.5 ulp and 5 ulp of the textbook in f64, and everything that must agree with
//! it: the gradient in place, the row losses alone, log-probabilities, the summary.

use crate::batch::{Batch, Content, Factors, reduction, zero_denominator};
use crate::common::{GRADIENT_ULPS, raw_bits, worst_loss_ulps};
use crate::textbook::{Probabilities, Sum, Terms, compare};
use crate::{SameBits, backends};
use arbitrary::{Result, Unstructured};
use rwwce::{Reduction, Summary, weighted_row_losses};

/// A probability below 2⁻²⁵⁰ may become 0 in the gradient.
pub(crate) const SMALLEST_PROBABILITY: f64 = f64::from_bits((1023 - 250) << 52);

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let content = Content {
        mostly_finite: true,
        negative_weights: true,
        ignored: true,
        moderate_weights: false,
        no_tiny_weights: false,
        most_classes: 600,
    };
    let batch = Batch::new(u, content)?;
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let factors = Factors::new(u, batch.rows())?;
    let backends = backends(u)?;
    let case = (&batch, reduction, policy, &factors);

    let rows: Vec<Option<(Probabilities, Terms)>> = (0..batch.rows())
        .map(|row| {
            batch.class(row).map(|label| {
                let own = batch.weight(label) * batch.sample(row);
                (Probabilities::new(&batch.row(&batch.logits, row)), Terms { label, own, ..Terms::default() })
            })
        })
        .collect();
    let mut same = SameBits::default();
    for backend in backends {
        let loss = batch.loss().reduction(reduction).zero_denominator(policy).backend(backend);
        let (mut losses, mut gradient) = (vec![7.0; batch.rows()], batch.space());
        let summary = loss.row_losses(&batch.logits, &batch.labels, &mut losses).unwrap();
        check_summary(&batch, reduction, &losses, &summary, &case);
        let others = [
            loss.loss(&batch.logits, &batch.labels).unwrap(),
            loss.gradient(&batch.logits, &batch.labels, factors.upstream(), &mut gradient).unwrap(),
        ];
        let mut over = batch.logits.clone();
        let in_place = loss.gradient_in_place(&mut over, &batch.labels, factors.upstream()).unwrap();
        for other in others.iter().chain([&in_place]) {
            assert!(same_summary(other, &summary), "{backend}: {other:?}, {summary:?}\n{case:?}");
        }
        batch.check_padding(&gradient);
        for row in 0..batch.rows() {
            let (found, over) = (batch.row(&gradient, row), batch.row(&over, row));
            assert!(same_numbers(&found, &over), "{backend} in place: {over:?}, {found:?}\n{case:?}");
            let zeros = (losses[row], &found[..]);
            let Some((probabilities, terms)) = &rows[row] else {
                assert!(zeros.0 == 0.0 && zeros.1.iter().all(|&g| g == 0.0), "{backend} {zeros:?}\n{case:?}");
                continue;
            };
            if let Err(error) = compare(losses[row], terms.loss(probabilities), 1.0, worst_loss_ulps(batch.classes)) {
                panic!("{backend}, loss of row {row}: {error}\n{case:?}");
            }
            // Weight 0: zeros, even where the denominator is 0.
            let factor = if terms.weightless() { 0.0 } else { factors.of_row(row, summary.denominator, policy) };
            for (class, (&found, expected)) in found.iter().zip(terms.gradient(probabilities)).enumerate() {
                let Some(expected) = expected else { continue };
                let expected = if factor == 0.0 { Sum::ZERO } else { expected };
                let of_class = if class == terms.label { &probabilities.q } else { &probabilities.p };
                if found == 0.0 && of_class[class] < SMALLEST_PROBABILITY {
                    continue;
                }
                if let Err(error) = compare(found, expected, factor, GRADIENT_ULPS) {
                    panic!("{backend}, gradient of row {row}, class {class}: {error}\n{case:?}");
                }
            }
        }
        let (mut logs, mut sums) = (batch.space(), vec![7.0; batch.rows()]);
        loss.log_probabilities(&batch.logits, &mut logs).unwrap();
        loss.log_sum_exps(&batch.logits, &mut sums).unwrap();
        batch.check_padding(&logs);
        for (row, known) in rows.iter().enumerate() {
            let Some((probabilities, _)) = known else { continue };
            for (class, &found) in batch.row(&logs, row).iter().enumerate() {
                let expected = Sum::of(probabilities.minus_log_p[class]);
                if let Err(error) = compare(-found, expected, 1.0, worst_loss_ulps(batch.classes)) {
                    panic!("{backend}, log-probability of row {row}, class {class}: {error}\n{case:?}");
                }
            }
            check_log_sum_exp(sums[row], probabilities, &case);
        }
        if batch.stride == batch.classes && batch.sample_weights.is_none() && batch.ignored.is_none() {
            let mut alone = vec![7.0; batch.rows()];
            let weights = batch.class_weights.as_deref();
            weighted_row_losses(batch.classes, &batch.logits, &batch.labels, weights, &mut alone).unwrap();
            if backend == rwwce::Backend::active() {
                assert!(same_numbers(&alone, &losses), "alone: {alone:?}, {losses:?}\n{case:?}");
            }
        }
        same.check(backend, [&losses[..], &[summary.loss], &gradient, &logs, &sums], &case);
    }
    Ok(())
}

/// The documented bound: 3 ulp of the larger of the magnitudes of the largest logit and of log(1 + E).
pub(crate) fn check_log_sum_exp(found: f32, row: &Probabilities, case: &dyn std::fmt::Debug) {
    let value = row.log_sum_exp;
    let mut expected = Sum::of(value);
    if value.is_finite() {
        let log_all = row.minus_log_p[row.largest];
        expected.size = log_all.max((value - log_all).abs());
    }
    if let Err(error) = compare(found, expected, 1.0, 3.0) {
        panic!("log-sum-exp: {error}\n{case:?}");
    }
}

/// The same bits, where NaN equals NaN.
pub(crate) fn same_numbers(a: &[f32], b: &[f32]) -> bool {
    crate::common::bits(a) == crate::common::bits(b)
}

/// The same summary to the bit.
pub(crate) fn same_summary(a: &Summary, b: &Summary) -> bool {
    let numbers = |of: &Summary| {
        let total = of.total;
        let sums = [of.sum, of.denominator, total.sum, total.weight_sum, total.sample_weight_sum];
        let sums = sums.map(|x| if x.is_nan() { f64::NAN } else { x }.to_bits());
        let counts = [of.rows as u64, of.non_finite as u64, total.rows, total.rows_times_classes, total.non_finite];
        let loss = if of.loss.is_nan() { f32::NAN } else { of.loss };
        (raw_bits(&[loss]), sums, counts)
    };
    numbers(a) == numbers(b)
}

/// Checks the summary against row losses and weights.
pub(crate) fn check_summary(
    batch: &Batch,
    reduction: Reduction,
    losses: &[f32],
    summary: &Summary,
    case: &dyn std::fmt::Debug,
) {
    let counted: Vec<(usize, usize)> =
        (0..batch.rows()).filter_map(|row| batch.class(row).map(|class| (row, class))).collect();
    let samples = counted.iter().map(|&(row, _)| batch.sample(row));
    let weights = counted.iter().map(|&(row, class)| batch.weight(class) * batch.sample(row));
    check_total(losses, counted.len(), batch.classes, samples, weights, reduction, summary, case);
}

/// As [`check_summary`], for any rows: the weights are of those that count.
#[allow(clippy::too_many_arguments, reason = "each of another kind")]
pub(crate) fn check_total(
    losses: &[f32],
    rows: usize,
    classes: usize,
    samples: impl Iterator<Item = f64>,
    weights: impl Iterator<Item = f64> + Clone,
    reduction: Reduction,
    summary: &Summary,
    case: &dyn std::fmt::Debug,
) {
    use rwwce::Denominator::{Rows, RowsTimesClasses, SampleWeightSum, WeightSum};
    let close = |found: f64, expected: f64, size: f64| {
        found == expected || found.is_nan() && expected.is_nan() || (found - expected).abs() <= 1e-12 * size
    };
    let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
    let size: f64 = losses.iter().map(|&loss| f64::from(loss).abs()).sum();
    let total = summary.total;
    assert!(close(summary.sum, sum, size), "sum {sum:e}, {summary:?}\n{case:?}");
    assert_eq!(summary.non_finite, losses.iter().filter(|loss| !loss.is_finite()).count(), "{case:?}");
    assert_eq!(
        (summary.rows, total.rows, total.rows_times_classes),
        (rows, rows as u64, (rows * classes) as u64),
        "{case:?}"
    );
    assert_eq!((total.sum.to_bits(), total.non_finite), (summary.sum.to_bits(), summary.non_finite as u64));
    let size = weights.clone().map(f64::abs).sum();
    assert!(close(total.weight_sum, weights.sum(), size), "{summary:?}\n{case:?}");
    let sum: f64 = samples.sum();
    assert!(close(total.sample_weight_sum, sum, sum), "{summary:?}\n{case:?}");
    let denominator = match reduction {
        Reduction::Mean(WeightSum) => total.weight_sum,
        Reduction::Mean(Rows) => rows as f64,
        Reduction::Mean(SampleWeightSum) => total.sample_weight_sum,
        Reduction::Mean(RowsTimesClasses) => (rows * classes) as f64,
        _ => 1.0,
    };
    assert_eq!(summary.denominator.to_bits(), denominator.to_bits(), "{case:?}");
    if denominator != 0.0 {
        let expected = (summary.sum / denominator) as f32;
        assert!(same_numbers(&[summary.loss], &[expected]), "{summary:?}\n{case:?}");
    }
}
