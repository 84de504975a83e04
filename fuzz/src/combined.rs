//! The losses other than the weighted one: each row and each element of its gradient within 6 ulp of the sum of the
//! magnitudes of its terms (more where γ is above 2), by every function that returns them.

use crate::batch::{Batch, Factors, reduction, zero_denominator};
use crate::options::Options;
use crate::textbook::{Probabilities, Terms, compare};
use crate::weighted::{check_total, same_numbers, same_summary};
use crate::{SameBits, backends};
use arbitrary::{Result, Unstructured};
use rwwce::{CrossEntropy, Reduction};

/// Checks a batch with `soft` targets, or with its labels.
pub(crate) fn check(u: &mut Unstructured<'_>, batch: &Batch, options: &Options, soft: Option<&[f32]>) -> Result<()> {
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let factors = Factors::new(u, batch.rows())?;
    let backends = backends(u)?;
    let case = (batch, options, reduction, policy, &factors);
    let known: Vec<Option<(Probabilities, Terms)>> = (0..batch.rows())
        .map(|row| {
            let terms = match soft {
                Some(soft) => Some(options.terms_of_soft(batch, &batch.row(soft, row))),
                None => batch.class(row).map(|label| options.terms_of_label(batch, label)),
            };
            let adjusted = options.adjusted(&batch.row(&batch.logits, row));
            terms.map(|terms| (Probabilities::new(&adjusted), terms))
        })
        .collect();
    let mut same = SameBits::default();
    for backend in backends {
        let loss = options.adjust(batch.loss().reduction(reduction).zero_denominator(policy).backend(backend));
        let (mut losses, mut gradient) = (vec![7.0; batch.rows()], batch.space());
        let mut over = batch.logits.clone();
        let (x, y, up) = (&batch.logits, &batch.labels, factors.upstream());
        let summaries = match soft {
            Some(q) => {
                let loss = options.of_soft(loss);
                [
                    loss.soft_row_losses(x, q, &mut losses),
                    loss.soft_loss(x, q),
                    loss.soft_gradient(x, q, up, &mut gradient),
                    loss.soft_gradient_in_place(&mut over, q, up),
                ]
            }
            None => {
                let loss: CrossEntropy<'_> = options.of_labels(loss);
                [
                    loss.row_losses(x, y, &mut losses),
                    loss.loss(x, y),
                    loss.gradient(x, y, up, &mut gradient),
                    loss.gradient_in_place(&mut over, y, up),
                ]
            }
        }
        .map(Result::unwrap);
        let summary = summaries[0];
        for other in &summaries {
            assert!(same_summary(other, &summary), "{backend}: {summaries:?}\n{case:?}");
        }
        check_summary(batch, soft, reduction, &losses, &summary, &case);
        batch.check_padding(&gradient);
        for (row, known) in known.iter().enumerate() {
            let (found, over) = (batch.row(&gradient, row), batch.row(&over, row));
            assert!(same_numbers(&found, &over), "{backend} in place: {over:?}, {found:?}\n{case:?}");
            let sample = batch.sample(row);
            let Some((probabilities, terms)) = known.as_ref().filter(|(_, terms)| !terms.weightless() && sample != 0.0)
            else {
                let zeros = losses[row] == 0.0 && found.iter().all(|&g| g == 0.0);
                assert!(zeros, "{backend} row {row}: {}, {found:?}\n{case:?}", losses[row]);
                continue;
            };
            if let Err(error) = compare(losses[row], terms.loss(probabilities), sample, terms.ulps()) {
                panic!("{backend}, loss of row {row}: {error}\n{case:?}");
            }
            let of_row = factors.of_row(row, summary.denominator, policy);
            if of_row == 0.0 {
                assert!(found.iter().all(|&g| g == 0.0), "{backend} row {row}: {found:?}\n{case:?}");
                continue;
            }
            let factor = of_row * sample / f64::from(options.temperature);
            for (class, (&found, expected)) in found.iter().zip(terms.gradient(probabilities)).enumerate() {
                let Some(expected) = expected else { continue };
                if let Err(error) = compare(found, expected, factor, terms.ulps()) {
                    panic!("{backend}, gradient of row {row}, class {class}: {error}\n{case:?}");
                }
            }
        }
        same.check(backend, [&losses[..], &[summary.loss], &gradient], &case);
    }
    Ok(())
}

fn check_summary(
    batch: &Batch,
    soft: Option<&[f32]>,
    reduction: Reduction,
    losses: &[f32],
    summary: &rwwce::Summary,
    case: &dyn std::fmt::Debug,
) {
    let Some(soft) = soft else {
        return crate::weighted::check_summary(batch, reduction, losses, summary, case);
    };
    let samples = (0..batch.rows()).map(|row| batch.sample(row));
    let weight = |(class, q): (usize, &f32)| batch.weight(class) * f64::from(*q);
    // Each weight by itself, so that the size of the sum is that of all magnitudes.
    let weights: Vec<f64> = (0..batch.rows())
        .flat_map(|row| {
            let q = batch.row(soft, row);
            q.iter().enumerate().map(weight).map(|weight| weight * batch.sample(row)).collect::<Vec<f64>>()
        })
        .collect();
    check_total(losses, batch.rows(), batch.classes, samples, weights.into_iter(), reduction, summary, case);
}
