//! A batch in parts has the losses of the whole, in bits, and totals that merge to its total; a row in parts has the
//! loss and the gradient of the row.

use crate::backends;
use crate::batch::{Batch, Content, reduction, zero_denominator};
use crate::common::{GRADIENT_ULPS, worst_loss_ulps};
use crate::generate::{classes, row};
use crate::textbook::{Probabilities, Terms, compare};
use crate::weighted::{check_log_sum_exp, same_numbers};
use arbitrary::{Result, Unstructured};
use rwwce::{Backend, RowPartial, Total};

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    if u.arbitrary()? { batches(u) } else { rows(u) }
}

fn batches(u: &mut Unstructured<'_>) -> Result<()> {
    let content = Content {
        mostly_finite: true,
        negative_weights: true,
        ignored: true,
        moderate_weights: true,
        no_tiny_weights: true,
        most_classes: 300,
    };
    let batch = Batch::new(u, content)?;
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let samples = batch.rows() / batch.positions;
    let mut cuts = vec![0, samples];
    for _ in 0..u.int_in_range(0..=4)? {
        cuts.push(u.int_in_range(0..=samples)?);
    }
    cuts.sort_unstable();
    let backwards = u.arbitrary()?;
    for backend in backends(u)? {
        let case = (&batch, &cuts, reduction, policy, backend);
        let loss = batch.loss().backend(backend);
        let mut expected = vec![7.0; batch.rows()];
        let whole = loss.row_losses(&batch.logits, &batch.labels, &mut expected).unwrap();
        let (mut found, mut totals) = (vec![7.0; batch.rows()], Vec::new());
        for cut in cuts.windows(2) {
            let (rows, logits) =
                (cut[0] * batch.positions..cut[1] * batch.positions, cut[0] * batch.stride..cut[1] * batch.stride);
            let mut loss = loss;
            if let Some(weights) = &batch.sample_weights {
                loss = loss.sample_weights(&weights[rows.clone()]);
            }
            let labels = &batch.labels[rows.clone()];
            totals.push(loss.row_losses(&batch.logits[logits], labels, &mut found[rows]).unwrap().total);
        }
        assert!(same_numbers(&found, &expected), "in parts {found:?}, whole {expected:?}\n{case:?}");
        if backwards {
            totals.reverse();
        }
        let mut total = Total::default();
        for part in &totals {
            total.merge(part);
        }
        let counts = |of: &Total| (of.rows, of.rows_times_classes, of.non_finite);
        assert_eq!(counts(&total), counts(&whole.total), "{case:?}");
        let size = |of: fn(&Total) -> f64| totals.iter().map(|total| of(total).abs()).sum::<f64>();
        let losses: f64 = found.iter().map(|&loss| f64::from(loss).abs()).sum();
        let weights: f64 = (0..batch.rows())
            .filter_map(|row| batch.class(row).map(|class| (batch.weight(class) * batch.sample(row)).abs()))
            .sum();
        for (found, expected, size) in [
            (total.sum, whole.total.sum, losses),
            (total.weight_sum, whole.total.weight_sum, weights),
            (total.sample_weight_sum, whole.total.sample_weight_sum, size(|total| total.sample_weight_sum)),
        ] {
            let close = found == expected || found.is_nan() && expected.is_nan();
            assert!(close || (found - expected).abs() <= 1e-12 * size, "{total:?}, {:?}\n{case:?}", whole.total);
        }
        // The loss returned is the reduction of its total.
        let reduced = batch.loss().reduction(reduction).zero_denominator(policy).backend(backend);
        let reduced = reduced.loss(&batch.logits, &batch.labels).unwrap();
        let from_total = whole.total.reduce(reduction, policy).unwrap();
        assert!(same_numbers(&[reduced.loss], &[from_total]), "{reduced:?}, {from_total:?}\n{case:?}");
    }
    Ok(())
}

fn rows(u: &mut Unstructured<'_>) -> Result<()> {
    let classes = classes(u)?;
    let label = usize::from(u.arbitrary::<u8>()?) % classes;
    let row = row(u, classes, label, true)?;
    let mut cuts = vec![0, classes];
    for _ in 0..u.int_in_range(0..=4)? {
        cuts.push(u.int_in_range(0..=classes)?);
    }
    cuts.sort_unstable();
    let order = u.arbitrary::<u8>()?;
    let backends: Vec<Backend> = backends(u)?.collect();
    let case = (&row, label, &cuts, order);
    let known = Probabilities::new(&row);
    let terms = Terms { label, own: 1.0, ..Terms::default() };
    let of_label = |cut: &[usize]| (cut[0]..cut[1]).contains(&label).then(|| label - cut[0]);
    for backend in backends {
        let mut parts: Vec<RowPartial> = cuts
            .windows(2)
            .map(|cut| RowPartial::with_backend(&row[cut[0]..cut[1]], of_label(cut), backend).unwrap())
            .collect();
        let first = usize::from(order) % parts.len();
        parts.rotate_left(first);
        if order >= 128 {
            parts.reverse();
        }
        let mut whole = RowPartial::default();
        for part in &parts {
            whole.merge(part);
        }
        assert_eq!((whole.classes, whole.labels), (classes as u64, 1), "{case:?}");
        if let Err(error) = compare(whole.loss(1.0).unwrap(), terms.loss(&known), 1.0, worst_loss_ulps(classes)) {
            panic!("{backend}, merged loss: {error}\n{case:?}");
        }
        check_log_sum_exp(whole.log_sum_exp(), &known, &case);
        let mut gradient = vec![7.0; classes];
        for cut in cuts.windows(2) {
            let part = cut[0]..cut[1];
            whole.gradient(&row[part.clone()], of_label(cut), 1.0, &mut gradient[part]).unwrap();
        }
        for (class, (&found, expected)) in gradient.iter().zip(terms.gradient(&known)).enumerate() {
            let Some(expected) = expected else { continue };
            if let Err(error) = compare(found, expected, 1.0, GRADIENT_ULPS) {
                panic!("{backend}, merged gradient of {class}: {error}\n{case:?}");
            }
        }
    }
    Ok(())
}
