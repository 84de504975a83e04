//! Properties of every batch, over random rows, on every backend.

mod common;

use common::{
    Batch, GRADIENT_ULPS, LOSS_ULPS, REGIMES, Rng, available, backends, bits, error_in_ulps, pattern, raw_bits,
    reference, same_bits_classes, ulp, within,
};
use quickcheck::{Arbitrary, Gen, QuickCheck, Testable};
use rwwce::{Backend, CrossEntropy, Denominator, Reduction, Upstream, ZeroDenominator};

/// Batches per property; fewer where every instruction is interpreted.
const TESTS: u64 = if cfg!(miri) { 2 } else { 300 };
/// Labels with this value do not count.
const IGNORED: i64 = -100;

/// `Err` with the reason, which quickcheck prints with the smallest failing batch.
type Outcome = Result<(), String>;

fn check<P: Testable>(property: P) {
    backends();
    QuickCheck::new().tests(TESTS).quickcheck(property);
}

/// A generator of our own, because that of quickcheck only offers a choice of values.
fn rng(g: &mut Gen) -> Rng {
    Rng(u64::arbitrary(g))
}

/// Numbers of classes around the widths of vectors and of sums in f32, small ones more often.
fn classes(rng: &mut Rng) -> usize {
    let end = [3, 20, 140, 300][rng.below(4)];
    1 + rng.below(end)
}

/// Rows and labels by `row`, some of the labels ignored, and weights of either sign in a range where no product
/// overflows or underflows f32.
fn batch(rng: &mut Rng, mut row: impl FnMut(usize, &mut Rng) -> (Vec<f32>, usize)) -> Batch {
    let classes = classes(rng);
    // A few thousand elements are enough, and software FMA is slow.
    let rows = rng.below(if classes > 64 { 10 } else { 41 });
    let (mut logits, mut labels) = (vec![], vec![]);
    for _ in 0..rows {
        let (row, label) = row(classes, rng);
        logits.extend(row);
        labels.push(if rng.below(8) == 0 { IGNORED } else { label as i64 });
    }
    let negative = rng.below(8) == 0;
    let weight = |rng: &mut Rng| match rng.below(8) {
        0 => 0.0,
        1 => 1.0,
        2 if negative => -rng.between(0.01, 16.0),
        _ => rng.between(0.01, 16.0),
    };
    let weights = (rng.below(3) > 0).then(|| (0..classes).map(|_| weight(rng)).collect());
    Batch { classes, logits, labels, weights, ignore: Some(IGNORED) }
}

/// The same batch with fewer rows, fewer classes, no weights, or simpler logits.
fn smaller(batch: &Batch) -> Vec<Batch> {
    let (rows, classes) = (batch.labels.len(), batch.classes);
    let keep_rows = |keep: &dyn Fn(usize) -> bool| Batch {
        logits: (0..rows).filter(|&r| keep(r)).flat_map(|r| &batch.logits[r * classes..][..classes]).copied().collect(),
        labels: (0..rows).filter(|&r| keep(r)).map(|r| batch.labels[r]).collect(),
        ..batch.clone()
    };
    let mut candidates = Vec::new();
    if rows > 1 {
        candidates.extend([keep_rows(&|r| r < rows / 2), keep_rows(&|r| r >= rows / 2)]);
        candidates.extend((0..rows).map(|gone| keep_rows(&|r| r != gone)));
    }
    for fewer in [classes / 2, classes - 1] {
        if (1..classes).contains(&fewer) {
            candidates.push(Batch {
                classes: fewer,
                logits: batch.logits.chunks_exact(classes).flat_map(|row| &row[..fewer]).copied().collect(),
                labels: batch.labels.iter().map(|&y| if y == IGNORED { y } else { y % fewer as i64 }).collect(),
                weights: batch.weights.as_ref().map(|weights| weights[..fewer].to_vec()),
                ignore: batch.ignore,
            });
        }
    }
    if batch.weights.is_some() {
        candidates.push(Batch { weights: None, ..batch.clone() });
    }
    if batch.logits.len() <= 64 {
        for i in 0..batch.logits.len() {
            for simple in [0.0, batch.logits[i].trunc()] {
                if batch.logits[i].to_bits() != simple.to_bits() && !batch.logits[i].is_nan() {
                    let mut simpler = batch.clone();
                    simpler.logits[i] = simple;
                    candidates.push(simpler);
                }
            }
        }
    }
    candidates
}

/// A batch of finite logits (or −∞ where another class is above), of every regime, and a seed.
#[derive(Clone, Debug)]
struct Ordinary(Batch, u64);

fn ordinary_row(classes: usize, rng: &mut Rng) -> (Vec<f32>, usize) {
    match rng.below(REGIMES.len() + 1) {
        0 => {
            // One-hot rows, as if labels had been given as logits.
            let mut row = vec![0.0; classes];
            row[rng.below(classes)] = 1.0;
            (row, rng.below(classes))
        }
        regime => REGIMES[regime - 1].row(classes, rng),
    }
}

impl Arbitrary for Ordinary {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut rng = rng(g);
        Self(batch(&mut rng, ordinary_row), rng.bits())
    }
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let seed = self.1;
        Box::new(smaller(&self.0).into_iter().map(move |batch| Self(batch, seed)))
    }
}

/// A batch whose logits are multiples of 1/8 within ±1000: adding an integer below 2²⁰ is exact.
#[derive(Clone, Debug)]
struct Eighths(Batch, u64);

impl Arbitrary for Eighths {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut rng = rng(g);
        let batch = batch(&mut rng, |classes, rng| {
            let span = [8, 80, 800, 8000][rng.below(4)];
            let row = (0..classes).map(|_| (rng.below(2 * span + 1) as f32 - span as f32) / 8.0).collect();
            (row, rng.below(classes))
        });
        Self(batch, rng.bits())
    }
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let seed = self.1;
        // Every simpler logit is a multiple of 1/8 as well.
        Box::new(smaller(&self.0).into_iter().map(move |batch| Self(batch, seed)))
    }
}

/// A batch with anything in it: ordinary rows, rows with NaN and infinities, rows of arbitrary bits.
#[derive(Clone, Debug)]
struct Anything(Batch, u64);

fn special_row(classes: usize, rng: &mut Rng) -> (Vec<f32>, usize) {
    let (mut row, label) = ordinary_row(classes, rng);
    // One or two kinds in a row, at one element up to all: every line of the table must come up.
    let all = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
    let kinds = [all[rng.below(6)], all[rng.below(6)]];
    let one_in = [1, 2, classes, 2 * classes][rng.below(4)];
    for x in &mut row {
        if rng.below(one_in) == 0 {
            *x = kinds[rng.below(2)];
        }
    }
    (row, label)
}

impl Arbitrary for Anything {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut rng = rng(g);
        let batch = batch(&mut rng, |classes, rng| match rng.below(4) {
            0 => ((0..classes).map(|_| f32::from_bits(rng.bits() as u32)).collect(), rng.below(classes)),
            1 => ordinary_row(classes, rng),
            _ => special_row(classes, rng),
        });
        Self(batch, rng.bits())
    }
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let seed = self.1;
        Box::new(smaller(&self.0).into_iter().map(move |batch| Self(batch, seed)))
    }
}

/// Results of one backend for a batch.
#[derive(Clone)]
struct Results {
    sum: f64,
    non_finite: usize,
    losses: Vec<f32>,
    /// Of the sum, not divided by a denominator.
    gradient: Vec<f32>,
}

fn results(batch: &Batch, backend: Backend) -> Results {
    let loss = batch.loss().backend(backend);
    let (mut losses, mut gradient) = (pattern(batch.labels.len()), pattern(batch.logits.len()));
    let summary = loss.row_losses(&batch.logits, &batch.labels, &mut losses).unwrap();
    loss.gradient(&batch.logits, &batch.labels, 1.0, &mut gradient).unwrap();
    Results { sum: summary.sum, non_finite: summary.non_finite, losses, gradient }
}

/// Losses and gradient within the bounds of the contract.
fn within_the_bounds(results: &Results, losses: &[f64], gradient: &[f64]) -> Outcome {
    within(LOSS_ULPS, &results.losses, losses).map_err(|e| format!("loss: {e}"))?;
    within(GRADIENT_ULPS, &results.gradient, gradient).map_err(|e| format!("gradient: {e}"))
}

/// Calls `property` for every backend, and names the one that fails.
fn on_every_backend(mut property: impl FnMut(Backend) -> Outcome) -> Outcome {
    available().try_for_each(|backend| property(backend).map_err(|e| format!("{backend}: {e}")))
}

fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(otherwise()) }
}

/// Calls `property` with the index, logits, class and weight of each row that has a loss.
fn for_each_counted_row(batch: &Batch, mut property: impl FnMut(usize, &[f32], usize, f32) -> Outcome) -> Outcome {
    batch.rows().enumerate().try_for_each(|(index, (row, counted))| match counted {
        Some((y, weight)) if weight != 0.0 => property(index, row, y, weight).map_err(|e| format!("row {index}: {e}")),
        _ => Ok(()),
    })
}

// The expected values include NaN, infinities and zeros by the contract's table.
#[test]
fn losses_and_gradients_are_those_of_the_contract_whatever_the_logits() {
    fn property(Anything(batch, _): Anything) -> Outcome {
        let (losses, gradient) = (batch.expected_losses(), batch.expected_gradient(|_| 1.0));
        on_every_backend(|backend| {
            let found = results(&batch, backend);
            within_the_bounds(&found, &losses, &gradient)?;
            let non_finite = found.losses.iter().filter(|loss| !loss.is_finite()).count();
            holds(found.non_finite == non_finite, || format!("{} rows not finite", found.non_finite))
        })
    }
    check(property as fn(Anything) -> Outcome);
}

#[test]
fn every_line_of_the_table_comes_up() {
    let mut seen = [0; 6];
    let mut rng = Rng(40);
    for _ in 0..2000 {
        let (row, y) = special_row(1 + rng.below(20), &mut rng);
        let others = || row.iter().enumerate().filter(|&(k, _)| k != y).map(|(_, &x)| x);
        let infinite = others().filter(|&x| x == f32::INFINITY).count();
        let line = match row[y] {
            _ if row.iter().any(|x| x.is_nan()) => 0,
            y if y == f32::INFINITY && infinite == 0 => 1,
            y if y == f32::INFINITY => 2,
            _ if infinite > 0 => 3,
            y if y == f32::NEG_INFINITY => {
                if others().all(|x| x == y) {
                    4
                } else {
                    5
                }
            }
            _ => continue,
        };
        seen[line] += 1;
    }
    assert!(seen.iter().all(|&count| count > 10), "{seen:?}");
}

#[test]
fn a_shift_of_all_logits_of_a_row_changes_nothing() {
    fn property(Eighths(batch, seed): Eighths) -> Outcome {
        let mut rng = Rng(seed);
        let mut shifted = batch.clone();
        for row in shifted.logits.chunks_exact_mut(batch.classes) {
            let limit = [20, 300, 3000, 1 << 20][rng.below(4)];
            let shift = rng.below(2 * limit + 1) as f32 - limit as f32;
            for x in row {
                let moved = *x + shift;
                assert!(moved - shift == *x, "the shift is exact");
                *x = moved;
            }
        }
        let (losses, gradient) = (batch.expected_losses(), batch.expected_gradient(|_| 1.0));
        on_every_backend(|backend| {
            within_the_bounds(&results(&batch, backend), &losses, &gradient)?;
            within_the_bounds(&results(&shifted, backend), &losses, &gradient).map_err(|e| format!("shifted, {e}"))
        })
    }
    check(property as fn(Eighths) -> Outcome);
}

#[test]
fn a_permutation_of_the_classes_permutes_the_gradient() {
    fn property(Ordinary(batch, seed): Ordinary) -> Outcome {
        let mut rng = Rng(seed);
        // Class `of[i]` moves to place i.
        let mut of: Vec<usize> = (0..batch.classes).collect();
        for i in (1..of.len()).rev() {
            of.swap(i, rng.below(i + 1));
        }
        let place = |class: usize| of.iter().position(|&k| k == class).unwrap();
        let permuted = |numbers: &[f64]| -> Vec<f64> {
            numbers.chunks_exact(batch.classes).flat_map(|row| of.iter().map(|&k| row[k])).collect()
        };
        let moved = Batch {
            logits: batch.logits.chunks_exact(batch.classes).flat_map(|row| of.iter().map(|&k| row[k])).collect(),
            labels: batch.labels.iter().map(|&y| usize::try_from(y).map_or(y, |class| place(class) as i64)).collect(),
            weights: batch.weights.as_ref().map(|weights| of.iter().map(|&k| weights[k]).collect()),
            ..batch.clone()
        };
        let (losses, gradient) = (batch.expected_losses(), batch.expected_gradient(|_| 1.0));
        on_every_backend(|backend| within_the_bounds(&results(&moved, backend), &losses, &permuted(&gradient)))
    }
    check(property as fn(Ordinary) -> Outcome);
}

#[test]
fn weights_times_a_power_of_two_scale_losses_and_leave_their_mean() {
    fn property(Ordinary(batch, seed): Ordinary) -> Outcome {
        let power = Rng(seed).below(25) as i32 - 12;
        let factor = 2f32.powi(power);
        let weights = batch.weights.clone().unwrap_or(vec![1.0; batch.classes]);
        let plain = Batch { weights: Some(weights.clone()), ..batch.clone() };
        let scaled = Batch { weights: Some(weights.iter().map(|weight| weight * factor).collect()), ..batch };
        // Losses far from overflow and underflow scale exactly.
        let in_range = |loss: f64| loss == 0.0 || (1e-25..1e25).contains(&loss.abs());
        let expected = plain.expected_losses();
        on_every_backend(|backend| {
            let (before, after) = (results(&plain, backend), results(&scaled, backend));
            for (row, &expected) in expected.iter().enumerate() {
                let (before, after) = (before.losses[row], after.losses[row]);
                let exact = after == before * factor;
                holds(exact || !in_range(expected), || format!("row {row}: {before:e} becomes {after:e}"))?;
            }
            let mean = |batch: &Batch| {
                let mut gradient = pattern(batch.logits.len());
                let loss = batch.loss().backend(backend).reduction(Reduction::default());
                let summary = loss.gradient(&batch.logits, &batch.labels, 1.0, &mut gradient).unwrap();
                (bits(&[summary.loss]), bits(&gradient), summary.denominator)
            };
            let ((loss, gradient, denominator), (scaled_loss, scaled_gradient, scaled)) = (mean(&plain), mean(&scaled));
            holds(scaled == denominator * f64::from(factor), || format!("denominator {denominator} becomes {scaled}"))?;
            holds(gradient == scaled_gradient, || "the gradient of the mean changes".into())?;
            let exact = expected.iter().all(|&loss| in_range(loss));
            holds(!exact || loss == scaled_loss, || "the mean changes".into())
        })
    }
    check(property as fn(Ordinary) -> Outcome);
}

// A row's results depend neither on other rows nor on its place among them.
#[test]
fn a_batch_is_the_concatenation_of_its_parts() {
    fn property(Anything(batch, seed): Anything) -> Outcome {
        let at = Rng(seed).below(batch.labels.len() + 1);
        let (first_logits, second_logits) = batch.logits.split_at(at * batch.classes);
        let (first_labels, second_labels) = batch.labels.split_at(at);
        let first = Batch { logits: first_logits.to_vec(), labels: first_labels.to_vec(), ..batch.clone() };
        let second = Batch { logits: second_logits.to_vec(), labels: second_labels.to_vec(), ..batch.clone() };
        on_every_backend(|backend| {
            let (whole, first, second) =
                (results(&batch, backend), results(&first, backend), results(&second, backend));
            let losses = [first.losses, second.losses].concat();
            holds(bits(&losses) == bits(&whole.losses), || format!("cut at {at}: losses differ"))?;
            let gradient = [first.gradient, second.gradient].concat();
            holds(bits(&gradient) == bits(&whole.gradient), || format!("cut at {at}: gradients differ"))?;
            let non_finite = first.non_finite + second.non_finite;
            holds(whole.non_finite == non_finite, || format!("cut at {at}: {non_finite} rows not finite"))?;
            let sum = first.sum + second.sum;
            let magnitude: f64 = losses.iter().map(|&loss| f64::from(loss).abs()).sum();
            let close = (sum - whole.sum).abs() <= magnitude * losses.len() as f64 * f64::EPSILON;
            let same = close || sum == whole.sum || (sum.is_nan() && whole.sum.is_nan());
            holds(same, || format!("cut at {at}: {sum:e} instead of {:e}", whole.sum))
        })
    }
    check(property as fn(Anything) -> Outcome);
}

#[test]
fn the_gradient_of_a_row_has_the_signs_of_a_gradient_and_adds_up_to_nothing() {
    fn property(Ordinary(batch, _): Ordinary) -> Outcome {
        on_every_backend(|backend| {
            let gradient = results(&batch, backend).gradient;
            for_each_counted_row(&batch, |index, _, y, weight| {
                let row = &gradient[index * batch.classes..][..batch.classes];
                for (k, &g) in row.iter().enumerate() {
                    // At most 0 at the label, at least 0 elsewhere, and reversed for a negative weight.
                    let toward = if (k == y) == (weight < 0.0) { g >= 0.0 } else { g <= 0.0 };
                    holds(toward, || format!("class {k}: {g:e} with label {y} and weight {weight}"))?;
                    // A probability is at most 1.
                    let at_most = f64::from(weight).abs() + GRADIENT_ULPS * ulp(f64::from(weight));
                    holds(f64::from(g).abs() <= at_most, || format!("class {k}: {g:e} with weight {weight}"))?;
                }
                let terms = || row.iter().map(|&g| f64::from(g));
                let (sum, magnitude): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
                // Rounding errors of all elements, and underflow of those below the normal range.
                let slack = magnitude * GRADIENT_ULPS * f64::from(f32::EPSILON)
                    + row.len() as f64 * f64::from(f32::MIN_POSITIVE);
                holds(sum.abs() <= slack, || format!("{sum:e} remains of {magnitude:e}"))
            })
        })
    }
    check(property as fn(Ordinary) -> Outcome);
}

// Against the reference loss, not the reference gradient, which could be wrong in the same way.
#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    /// log Σ exp(x_k − x_y) with `x[k]` moved by `step`.
    fn loss(row: &[f32], y: usize, k: usize, step: f64) -> f64 {
        let at = |i: usize| f64::from(row[i]) + if i == k { step } else { 0.0 };
        let largest = (0..row.len()).map(at).fold(f64::NEG_INFINITY, f64::max);
        (0..row.len()).map(|i| (at(i) - largest).exp()).sum::<f64>().ln() + largest - at(y)
    }
    fn property(Eighths(batch, seed): Eighths) -> Outcome {
        const STEP: f64 = 1e-4;
        let mut rng = Rng(seed);
        // Slopes in f64, for the label and a few other classes of a few rows.
        let mut slopes = Vec::new();
        for_each_counted_row(&batch, |index, row, y, weight| {
            if index < 3 {
                for k in [y, rng.below(batch.classes), rng.below(batch.classes), rng.below(batch.classes)] {
                    let (above, below) = (loss(row, y, k, STEP), loss(row, y, k, -STEP));
                    let slope = (above - below) / (2.0 * STEP);
                    // The third derivative is at most 1/8; the step divides the rounding errors in f64 of the terms.
                    let largest = row.iter().fold(0f64, |largest, &x| largest.max(f64::from(x).abs()));
                    let error = STEP * STEP / 48.0 + (4.0 * largest + 8.0) * f64::EPSILON / STEP;
                    slopes.push((index, k, f64::from(weight) * slope, f64::from(weight).abs() * error));
                }
            }
            Ok(())
        })?;
        on_every_backend(|backend| {
            let gradient = results(&batch, backend).gradient;
            slopes.iter().try_for_each(|&(index, k, slope, error)| {
                let found = f64::from(gradient[index * batch.classes + k]);
                let close = (found - slope).abs() <= error + GRADIENT_ULPS * ulp(slope);
                holds(close, || format!("row {index}, class {k}: {found:e} instead of {slope:e} ± {error:e}"))
            })
        })
    }
    check(property as fn(Eighths) -> Outcome);
}

#[test]
fn raising_the_logit_of_the_label_never_raises_the_loss() {
    fn property(Eighths(batch, seed): Eighths) -> Outcome {
        let mut rng = Rng(seed);
        let mut raised = Batch { weights: None, ..batch };
        let batch = raised.clone();
        let labels: Vec<usize> = batch.labels.iter().map(|&y| usize::try_from(y).unwrap_or(0)).collect();
        for (row, &y) in raised.logits.chunks_exact_mut(batch.classes).zip(&labels) {
            // By at least 1/8, which is more than the error of a loss.
            let limit = [1, 8, 800][rng.below(3)];
            row[y] += (1 + rng.below(limit)) as f32 / 8.0;
        }
        on_every_backend(|backend| {
            let (before, after) = (results(&batch, backend).losses, results(&raised, backend).losses);
            before.iter().zip(&after).enumerate().try_for_each(|(row, (&before, &after))| {
                holds(after <= before, || format!("row {row}: {before:e} rises to {after:e}"))?;
                holds(after >= 0.0, || format!("row {row}: {after:e} is negative"))
            })
        })
    }
    check(property as fn(Eighths) -> Outcome);
}

#[test]
fn backends_of_a_class_return_the_same_bits() {
    fn property(Anything(batch, seed): Anything) -> Outcome {
        // Taken for probabilities as they are, also where negative, above 1 or NaN.
        let probabilities: Vec<f32> = batch.logits.iter().map(|x| x / 8.0).collect();
        let eps = [0.0, 1e-10, f32::from_bits(1), 0.5][seed as usize % 4];
        let everything = |backend: Backend| {
            let Results { sum, non_finite, losses, gradient } = results(&batch, backend);
            let loss = batch.loss().backend(backend).reduction(Reduction::Mean(Denominator::Rows));
            let mut from_probabilities = pattern(batch.labels.len());
            let of_probabilities = loss
                .row_losses_from_probabilities(&probabilities, &batch.labels, eps, &mut from_probabilities)
                .unwrap();
            let mean = loss.loss(&batch.logits, &batch.labels).unwrap().loss;
            let log_sum_exps: Vec<f32> = batch.rows().map(|(row, _)| backend.log_sum_exp(row)).collect();
            let sums = [sum, of_probabilities.sum].map(|sum| if sum.is_nan() { f64::NAN } else { sum }.to_bits());
            let numbers = [losses, gradient, from_probabilities, vec![mean], log_sum_exps];
            (numbers.map(|numbers| bits(&numbers)), sums, non_finite, of_probabilities.non_finite)
        };
        for class in same_bits_classes(available()).into_iter().filter(|class| class.len() > 1) {
            let expected = everything(class[0]);
            class[1..].iter().try_for_each(|&backend| {
                holds(everything(backend) == expected, || format!("{backend} and {} differ", class[0]))
            })?;
        }
        Ok(())
    }
    check(property as fn(Anything) -> Outcome);
}

#[test]
fn log_sum_exp_is_within_its_bound_whatever_the_row() {
    fn property(Anything(batch, _): Anything) -> Outcome {
        on_every_backend(|backend| {
            batch.rows().enumerate().try_for_each(|(index, (row, _))| {
                let found = backend.log_sum_exp(row);
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if row.iter().any(|x| x.is_nan()) {
                    return holds(found.is_nan(), || format!("row {index}: {found:e} instead of NaN"));
                } else if largest.is_infinite() {
                    return holds(found == largest, || format!("row {index}: {found:e} instead of {largest:e}"));
                }
                let expected = reference::log_sum_exp(row);
                // 2 ulp of the larger of the two terms.
                let largest = f64::from(largest);
                let bound = 2.0 * ulp(largest.abs().max(expected - largest));
                let close = (f64::from(found) - expected).abs() <= bound || error_in_ulps(found, expected) == 0.0;
                holds(close, || format!("row {index}: {found:e} instead of {expected:e}"))
            })
        })
    }
    check(property as fn(Anything) -> Outcome);
}

/// Arguments that may be wrong in any way.
#[derive(Clone, Debug)]
struct Call {
    classes: usize,
    row_stride: Option<usize>,
    input: Vec<f32>,
    labels: Vec<i64>,
    weights: Option<Vec<f32>>,
    ignore: Option<i64>,
    reduction: Reduction,
    policy: ZeroDenominator,
    upstream: Vec<f32>,
    eps: f32,
}

impl Arbitrary for Call {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut rng = rng(g);
        let any = |rng: &mut Rng| f32::from_bits(rng.bits() as u32);
        // Each is wrong now and then, so that most calls have one fault or none.
        let classes = if rng.below(16) == 0 { 0 } else { classes(&mut rng) };
        let rows = rng.below(12);
        let row_stride = match rng.below(8) {
            0 => Some(rng.bits() as usize >> rng.below(usize::BITS as usize)),
            1 | 2 => Some(classes + rng.below(20)),
            _ => None,
        };
        let fitting = rows.saturating_mul(row_stride.unwrap_or(classes)).min(5000);
        let input = if rng.below(16) == 0 { rng.below(5000) } else { fitting };
        let ignore = [None, Some(0), Some(-1), Some(rng.bits() as i64)][rng.below(4)];
        let labels = (0..rows)
            .map(|_| match rng.below(200) {
                0 => rng.bits() as i64,
                1..50 => ignore.unwrap_or(0),
                _ => rng.below(classes.max(1)) as i64,
            })
            .collect();
        let weights = match rng.below(16) {
            0 => Some((0..classes).map(|_| any(&mut rng)).collect()),
            1 => Some(vec![1.0; rng.below(300)]),
            // Sums of these are exact in any order.
            2..8 => Some((0..classes).map(|_| [0.0, 1.0, -2.0, 0.25, 1024.0][rng.below(5)]).collect()),
            _ => None,
        };
        let reductions = [Reduction::Sum, Reduction::Mean(Denominator::Rows), Reduction::Mean(Denominator::WeightSum)];
        let policies = [ZeroDenominator::NaN, ZeroDenominator::Zero, ZeroDenominator::Error];
        let factors = if rng.below(16) == 0 { rng.below(12) } else { rows };
        Self {
            classes,
            row_stride,
            input: (0..input).map(|_| any(&mut rng)).collect(),
            labels,
            weights,
            ignore,
            reduction: reductions[rng.below(3)],
            policy: policies[rng.below(3)],
            upstream: (0..factors).map(|_| if rng.below(100) == 0 { any(&mut rng) } else { 0.5 }).collect(),
            eps: if rng.below(4) == 0 { any(&mut rng) } else { 1e-10 },
        }
    }
}

impl Call {
    fn is_valid(&self) -> bool {
        let stride = self.row_stride.unwrap_or(self.classes);
        let counted = |label: &&i64| Some(**label) != self.ignore;
        let weights_are_valid =
            |weights: &Vec<f32>| weights.len() == self.classes && weights.iter().all(|weight| weight.is_finite());
        self.classes > 0
            && stride >= self.classes
            && self.labels.len().checked_mul(stride) == Some(self.input.len())
            && self.weights.as_ref().is_none_or(weights_are_valid)
            && self.labels.iter().filter(counted).all(|&label| label >= 0 && (label as u64) < self.classes as u64)
            && (self.policy != ZeroDenominator::Error || self.denominator() != 0.0)
    }

    fn denominator(&self) -> f64 {
        let counted = || self.labels.iter().filter(|&&label| Some(label) != self.ignore);
        match (self.reduction, &self.weights) {
            (Reduction::Sum, _) => 1.0,
            (Reduction::Mean(Denominator::WeightSum), Some(weights)) => {
                counted().map(|&label| f64::from(weights[label as usize])).sum()
            }
            _ => counted().count() as f64,
        }
    }
}

// quickcheck also reports a panic as a failure.
#[test]
fn a_call_is_refused_if_and_only_if_an_argument_is_wrong() {
    fn property(call: Call) -> Outcome {
        let valid = call.is_valid();
        let eps_is_valid = call.eps >= 0.0 && call.eps.is_finite();
        let factors_are_valid =
            call.upstream.len() == call.labels.len() && call.upstream.iter().all(|factor| factor.is_finite());
        on_every_backend(|backend| {
            let mut loss = CrossEntropy::new(call.classes).reduction(call.reduction).backend(backend);
            loss = loss.zero_denominator(call.policy);
            if let Some(elements) = call.row_stride {
                loss = loss.row_stride(elements);
            }
            if let Some(weights) = &call.weights {
                loss = loss.class_weights(weights);
            }
            if let Some(label) = call.ignore {
                loss = loss.ignore_index(label);
            }
            let (input, labels) = (&call.input, &call.labels);
            let agrees = |accepted: bool, valid: bool, what: &str| {
                holds(accepted == valid, || format!("{what}: accepted is {accepted}, valid is {valid}"))
            };
            let untouched = |output: &[f32], before: &[f32], what: &str| {
                holds(raw_bits(output) == raw_bits(before), || format!("{what}: refused and written"))
            };
            agrees(loss.loss(input, labels).is_ok(), valid, "loss")?;

            let nothing = pattern(labels.len());
            let mut losses = nothing.clone();
            let accepted = loss.row_losses(input, labels, &mut losses).is_ok();
            agrees(accepted, valid, "row losses")?;
            if !accepted {
                untouched(&losses, &nothing, "row losses")?;
            }

            let from_probabilities = loss.loss_from_probabilities(input, labels, call.eps);
            agrees(from_probabilities.is_ok(), valid && eps_is_valid, "probabilities")?;
            let mut losses = nothing.clone();
            let accepted = loss.row_losses_from_probabilities(input, labels, call.eps, &mut losses).is_ok();
            agrees(accepted, valid && eps_is_valid, "row losses of probabilities")?;
            if !accepted {
                untouched(&losses, &nothing, "row losses of probabilities")?;
            }

            let by_rows = (Upstream::Rows(&call.upstream), factors_are_valid);
            for (upstream, is_valid) in [by_rows, (Upstream::Loss(call.eps), call.eps.is_finite())] {
                let nothing = pattern(input.len());
                let mut gradient = nothing.clone();
                let accepted = loss.gradient(input, labels, upstream, &mut gradient).is_ok();
                agrees(accepted, valid && is_valid, "gradient")?;
                let mut in_place = input.clone();
                agrees(loss.gradient_in_place(&mut in_place, labels, upstream).is_ok(), accepted, "in place")?;
                if !accepted {
                    untouched(&gradient, &nothing, "gradient")?;
                    untouched(&in_place, input, "in place")?;
                }
            }
            Ok(())
        })
    }
    check(property as fn(Call) -> Outcome);
}
