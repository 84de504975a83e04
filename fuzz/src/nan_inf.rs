//! Any bits as logits, weights and probabilities: each result is NaN, infinite, 0 or finite as the contract's table
//! says, by every function, on every backend, with the same bits within a class.

use crate::batch::{Batch, Content};
use crate::options::Options;
use crate::textbook::{Probabilities, Sum, Terms};
use crate::{SameBits, backends};
use arbitrary::{Arbitrary, Result, Unstructured};
use rwwce::{BinaryCrossEntropy, CrossEntropy, Reduction, RowPartial};

/// The functions that are called: one kind per input, so that inputs stay fast.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Function {
    Labels,
    Soft,
    Logs,
    Probabilities,
    Binary,
    Parts,
}

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let function = Function::arbitrary(u)?;
    let ignored = !matches!(function, Function::Soft);
    let content = Content {
        mostly_finite: false,
        negative_weights: true,
        ignored,
        moderate_weights: true,
        no_tiny_weights: true,
        most_classes: 64,
    };
    let batch = Batch::new(u, content)?;
    let options = Options::new(u, &batch)?;
    let backends = backends(u)?;
    let case = (function, &batch, &options);
    let count = batch.rows();
    let known = || -> Vec<Probabilities> {
        let rows = (0..count).map(|row| options.adjusted(&batch.row(&batch.logits, row)));
        rows.map(|row| Probabilities::new(&row)).collect()
    };
    let known = match function {
        Function::Labels | Function::Soft | Function::Logs => known(),
        _ => Vec::new(),
    };
    let mut same = SameBits::default();
    for backend in backends {
        let plain = batch.loss().reduction(Reduction::Sum).backend(backend);
        let adjusting = options.adjust(plain);
        let (mut of_rows, mut shaped) = (vec![7.0; count], batch.space());
        match function {
            Function::Labels => {
                let loss = options.of_labels(adjusting);
                let summary = loss.row_losses(&batch.logits, &batch.labels, &mut of_rows).unwrap();
                let again = loss.gradient(&batch.logits, &batch.labels, 1.0, &mut shaped).unwrap();
                let non_finite = of_rows.iter().filter(|loss| !loss.is_finite()).count();
                assert_eq!((summary.non_finite, again.non_finite), (non_finite, non_finite), "{backend}\n{case:?}");
                for row in 0..count {
                    let terms = batch.class(row).map(|label| options.terms_of_label(&batch, label));
                    check_row(&batch, row, terms, &known[row], of_rows[row], &shaped, &options, &case);
                }
            }
            Function::Soft => {
                let loss = options.of_soft(adjusting);
                let soft = options.soft(&batch);
                let summary = loss.soft_row_losses(&batch.logits, &soft, &mut of_rows).unwrap();
                loss.soft_gradient(&batch.logits, &soft, 1.0, &mut shaped).unwrap();
                assert_eq!(summary.non_finite, of_rows.iter().filter(|loss| !loss.is_finite()).count());
                for row in 0..count {
                    let terms = Some(options.terms_of_soft(&batch, &batch.row(&soft, row)));
                    check_row(&batch, row, terms, &known[row], of_rows[row], &shaped, &options, &case);
                }
            }
            Function::Logs => {
                adjusting.log_probabilities(&batch.logits, &mut shaped).unwrap();
                adjusting.log_sum_exps(&batch.logits, &mut of_rows).unwrap();
                for row in 0..count {
                    for (class, &found) in batch.row(&shaped, row).iter().enumerate() {
                        let expected = -known[row].minus_log_p[class];
                        check_class(found, Sum::of(expected), || {
                            format!("{backend} log p of {row}, {class}\n{case:?}")
                        });
                    }
                    let expected = Sum::of(known[row].log_sum_exp);
                    check_class(of_rows[row], expected, || format!("{backend} log-sum-exp of {row}\n{case:?}"));
                }
            }
            Function::Probabilities => shaped = from_probabilities(&batch, &options, plain, &case),
            Function::Binary => (of_rows, shaped) = binary(&batch, &options, backend, &case),
            Function::Parts => shaped = parts(&batch, &options, backend, &case),
        }
        if matches!(function, Function::Labels | Function::Soft | Function::Logs) {
            batch.check_padding(&shaped);
        }
        same.check(backend, [&of_rows[..], &shaped], &case);
    }
    Ok(())
}

/// Takes the logits for probabilities and for log-probabilities.
fn from_probabilities(
    batch: &Batch,
    options: &Options,
    loss: CrossEntropy<'_>,
    case: &dyn std::fmt::Debug,
) -> Vec<f32> {
    let count = batch.rows();
    let mut losses = vec![7.0; 2 * count];
    let (from_p, from_log_p) = losses.split_at_mut(count);
    loss.row_losses_from_probabilities(&batch.logits, &batch.labels, options.eps, from_p).unwrap();
    loss.row_losses_from_log_probabilities(&batch.logits, &batch.labels, from_log_p).unwrap();
    for row in 0..count {
        let (weight, given) = batch.class(row).map_or((0.0, 0.0), |label| {
            (batch.weight(label) * batch.sample(row), batch.logits[batch.element(row, label)])
        });
        let of = |minus_log_p: f64| if weight == 0.0 { Sum::ZERO } else { Sum::of(weight * minus_log_p) };
        let p = f64::from(given) + f64::from(options.eps);
        let mut expected = of(if p < 0.0 { f64::NAN } else { -p.ln() });
        if expected.value == 0.0 && weight != 0.0 && options.eps != 0.0 {
            // p + eps may round to 1 in f64.
            expected.size = f64::MIN_POSITIVE;
        }
        check_class(from_p[row], expected, || format!("from probability {row}\n{case:?}"));
        check_class(from_log_p[row], of(-f64::from(given)), || format!("from log-probability {row}\n{case:?}"));
    }
    losses
}

#[allow(clippy::too_many_arguments, reason = "each of another kind")]
fn check_row(
    batch: &Batch,
    row: usize,
    terms: Option<Terms>,
    known: &Probabilities,
    loss: f32,
    gradients: &[f32],
    options: &Options,
    case: &dyn std::fmt::Debug,
) {
    let (sample, gradient) = (batch.sample(row), batch.row(gradients, row));
    let Some(terms) = terms.filter(|_| sample != 0.0) else {
        let zeros = (loss, &gradient);
        assert!(loss == 0.0 && gradient.iter().all(|&g| g == 0.0), "row {row} does not count: {zeros:?}\n{case:?}");
        return;
    };
    check_class(loss, terms.loss(known).times(sample), || format!("loss of row {row}\n{case:?}"));
    let factor = sample / f64::from(options.temperature);
    for (class, (&found, expected)) in gradient.iter().zip(terms.gradient(known)).enumerate() {
        let Some(expected) = expected else { continue };
        check_class(found, expected.times(factor), || format!("gradient of row {row}, class {class}\n{case:?}"));
    }
}

/// NaN, ±∞, exact 0 and finite results where they are expected; one too large or too small for f32 may be rounded to ±∞
/// or 0.
fn check_class(found: f32, expected: Sum, what: impl Fn() -> String) {
    let Sum { value, size, .. } = expected;
    let right = if value.is_nan() {
        found.is_nan()
    } else if value.is_infinite() {
        f64::from(found) == value
    } else if size == 0.0 {
        found == 0.0
    } else {
        let large = size > f64::from(f32::MAX) * (1.0 - 1e-5);
        found.is_finite() || large && !found.is_nan()
    };
    assert!(right, "found {found:e}, expected {value:e} of terms of {size:e}: {}", what());
}

fn binary(
    batch: &Batch,
    options: &Options,
    backend: rwwce::Backend,
    case: &dyn std::fmt::Debug,
) -> (Vec<f32>, Vec<f32>) {
    let (logits, classes) = (&batch.logits, batch.stride);
    // Class weights as costs; soft targets or constants as targets.
    let miss: Vec<f32> = (0..classes).map(|k| batch.weight(k % batch.classes).abs() as f32).collect();
    let target = |at: usize| options.soft.as_ref().map_or([0.0, 1.0, 0.25][at % 3], |soft| soft[at].abs().min(1.0));
    let targets: Vec<f32> = (0..logits.len()).map(target).collect();
    let loss = BinaryCrossEntropy::new(classes).miss_costs(&miss).reduction(Reduction::Sum).backend(backend);
    let (mut losses, mut gradient) = (vec![7.0; logits.len()], vec![7.0; logits.len()]);
    let summary = loss.row_losses(logits, &targets, &mut losses).unwrap();
    loss.gradient(logits, &targets, 1.0, &mut gradient).unwrap();
    assert_eq!(summary.non_finite, losses.iter().filter(|loss| !loss.is_finite()).count(), "{case:?}");
    for (at, &z) in logits.iter().enumerate() {
        let (t, miss) = (f64::from(targets[at]), f64::from(miss[at % classes]));
        let (loss, slope) = crate::binary::terms(z, miss * t, 1.0 - t);
        check_class(losses[at], loss, || format!("{backend} binary loss {at}, {z:e} {t:e} {miss:e}\n{case:?}"));
        check_class(gradient[at], slope, || format!("{backend} binary gradient {at}, {z:e} {t:e} {miss:e}\n{case:?}"));
    }
    (losses, gradient)
}

fn parts(batch: &Batch, options: &Options, backend: rwwce::Backend, case: &dyn std::fmt::Debug) -> Vec<f32> {
    let row = batch.row(&batch.logits, 0);
    let label = batch.class(0).unwrap_or(0);
    let (first, second) = row.split_at(options.cut);
    let of = |part: &[f32], label: Option<usize>| RowPartial::with_backend(part, label, backend).unwrap();
    let in_second = label.checked_sub(first.len());
    let in_first = if in_second.is_some() { None } else { Some(label) };
    let mut whole = of(first, in_first);
    whole.merge(&of(second, in_second));
    let known = Probabilities::new(&row);
    let terms = Terms { label, own: 1.0, ..Terms::default() };
    let loss = whole.loss(1.0).unwrap();
    check_class(loss, terms.loss(&known), || format!("{backend} merged loss\n{case:?}"));
    let mut gradient = vec![7.0; row.len()];
    let (of_first, of_second) = gradient.split_at_mut(options.cut);
    whole.gradient(first, in_first, 1.0, of_first).unwrap();
    whole.gradient(second, in_second, 1.0, of_second).unwrap();
    for (class, (&found, expected)) in gradient.iter().zip(terms.gradient(&known)).enumerate() {
        let Some(expected) = expected else { continue };
        check_class(found, expected, || format!("{backend} merged gradient of {class}\n{case:?}"));
    }
    let sum = whole.log_sum_exp();
    check_class(sum, Sum::of(known.log_sum_exp), || format!("{backend} merged log-sum-exp\n{case:?}"));
    gradient.extend([loss, sum, whole.largest]);
    gradient
}
