//! A linear softmax classifier, trained by L-BFGS.

use std::collections::VecDeque;

use rwwce::CrossEntropy;

use super::folds::Part;

/// Number of cases computed at a time, so that their logits stay in the first-level cache.
const BLOCK: usize = 2048;

/// Coefficients, a row for each class; the last of a row is the bias.
pub(crate) struct Linear {
    classes: usize,
    coefficients: Vec<f64>,
}

impl Linear {
    /// Minimises the mean of `loss` over the cases plus `penalty` times the sum of squared coefficients without biases,
    /// divided by the number of cases. For two classes this is scikit-learn's logistic regression with an L2 penalty of
    /// C = 1 / `penalty`.
    pub(crate) fn train(
        loss: &CrossEntropy<'_>,
        classes: usize,
        part: &Part,
        penalty: f64,
    ) -> Result<Self, rwwce::Error> {
        let (cases, width) = (part.labels.len(), part.columns.len() + 1);
        let loss = loss.positions(cases);
        let decay = penalty / cases as f64;
        let mut logits = vec![0.0; classes * cases];
        let start = vec![0.0; classes * width];
        let coefficients = minimise(start, |coefficients, gradient| {
            write_logits(coefficients, part, &mut logits);
            // The gradient is written over the logits, which are not needed any more.
            let summary = loss.gradient_in_place(&mut logits, &part.labels, 1.0)?;
            let mut value = summary.sum / summary.denominator;
            let rows = coefficients.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
            for ((row, gradient), of_logits) in rows.zip(logits.chunks_exact(cases)) {
                write_gradient(of_logits, part, gradient);
                for (c, g) in row.iter().zip(gradient).take(width - 1) {
                    value += decay * c * c;
                    *g += 2.0 * decay * c;
                }
            }
            Ok(value)
        })?;
        Ok(Self { classes, coefficients })
    }

    /// Logits `[cases, classes]`.
    pub(crate) fn logits(&self, part: &Part) -> Vec<f32> {
        let cases = part.labels.len();
        let mut by_class = vec![0.0; self.classes * cases];
        write_logits(&self.coefficients, part, &mut by_class);
        (0..by_class.len()).map(|i| by_class[(i % self.classes) * cases + i / self.classes]).collect()
    }
}

/// Writes logits `[classes, cases]`.
fn write_logits(coefficients: &[f64], part: &Part, logits: &mut [f32]) {
    let (cases, width) = (part.labels.len(), part.columns.len() + 1);
    for from in (0..cases).step_by(BLOCK) {
        let block = from..cases.min(from + BLOCK);
        for (row, logits) in coefficients.chunks_exact(width).zip(logits.chunks_exact_mut(cases)) {
            let logits = &mut logits[block.clone()];
            logits.fill(row[width - 1] as f32);
            for (&c, column) in row.iter().zip(&part.columns) {
                let c = c as f32;
                logits.iter_mut().zip(&column[block.clone()]).for_each(|(logit, x)| *logit += c * x);
            }
        }
    }
}

/// Gradient with respect to the coefficients of a class: that of each logit times the inputs, summed over the cases.
fn write_gradient(of_logits: &[f32], part: &Part, gradient: &mut [f64]) {
    gradient.fill(0.0);
    for from in (0..of_logits.len()).step_by(BLOCK) {
        let block = from..of_logits.len().min(from + BLOCK);
        for (g, column) in gradient.iter_mut().zip(&part.columns) {
            *g += f64::from(dot(&of_logits[block.clone()], &column[block.clone()]));
        }
    }
    if let Some(bias) = gradient.last_mut() {
        *bias = of_logits.iter().map(|&g| f64::from(g)).sum();
    }
}

/// Dot product in eight partial sums, so that the compiler can vectorise.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Largest number of steps.
const STEPS: usize = 500;
/// Tolerance of convergence: largest magnitude of an element of the gradient.
const SMALL: f64 = 1e-5;
/// Number of latest steps that approximate the curvature.
const REMEMBERED: usize = 10;

/// A step and the change of the gradient over it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// Inner product of step and change.
    product: f64,
}

/// L-BFGS (Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming
/// 45, 1989) with a backtracking line search (Armijo condition). `evaluate` returns the value at a point and writes the
/// gradient.
fn minimise<E>(
    mut point: Vec<f64>,
    mut evaluate: impl FnMut(&[f64], &mut [f64]) -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    let mut gradient = vec![0.0; point.len()];
    let mut value = evaluate(&point, &mut gradient)?;
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let mut next_gradient = gradient.clone();
    for _ in 0..STEPS {
        if gradient.iter().all(|g| g.abs() < SMALL) {
            break;
        }
        let direction = descent_direction(&pairs, &gradient);
        let slope = product(&direction, &gradient);
        let mut length = if pairs.is_empty() { 1.0 / product(&gradient, &gradient).sqrt() } else { 1.0 };
        let (next, next_value) = loop {
            let next: Vec<f64> = point.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let next_value = evaluate(&next, &mut next_gradient)?;
            if next_value <= value + 1e-4 * length * slope {
                break (next, next_value);
            }
            length /= 2.0;
            // No decrease beyond rounding: converged.
            if length < 1e-6 {
                return Ok(point);
            }
        };
        let step: Vec<f64> = next.iter().zip(&point).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let product = product(&step, &change);
        // Pairs of positive curvature alone keep the approximation of the Hessian positive definite.
        if product > 0.0 {
            pairs.truncate(REMEMBERED - 1);
            pairs.push_front(Pair { step, change, product });
        }
        (point, value) = (next, next_value);
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
    Ok(point)
}

/// Minus the gradient times the approximate inverse Hessian (two-loop recursion over the pairs, the latest first).
fn descent_direction(pairs: &VecDeque<Pair>, gradient: &[f64]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let add = |direction: &mut [f64], factor: f64, vector: &[f64]| {
        direction.iter_mut().zip(vector).for_each(|(d, v)| *d += factor * v);
    };
    let mut shares = Vec::new();
    for pair in pairs {
        let share = product(&pair.step, &direction) / pair.product;
        add(&mut direction, -share, &pair.change);
        shares.push(share);
    }
    if let Some(latest) = pairs.front() {
        let scale = latest.product / product(&latest.change, &latest.change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (pair, share) in pairs.iter().zip(shares).rev() {
        let back = product(&pair.change, &direction) / pair.product;
        add(&mut direction, share - back, &pair.step);
    }
    direction
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases of three overlapping classes, from a linear congruential generator.
    fn part(cases: usize) -> Part {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let labels: Vec<u32> = (0..cases).map(|case| (case % 3) as u32).collect();
        let mut column = |feature: u32| -> Vec<f32> {
            labels.iter().map(|&label| 2.0 * random() + if label == feature { 0.7 } else { 0.0 }).collect()
        };
        Part { columns: vec![column(0), column(1)], labels: labels.clone() }
    }

    /// The objective by its textbook formula.
    fn objective(coefficients: &[f64], part: &Part, weights: &[f64], penalty: f64) -> f64 {
        let cases = part.labels.len();
        let loss = |case: usize| {
            let logit = |row: &[f64]| {
                row[2] + row[0] * f64::from(part.columns[0][case]) + row[1] * f64::from(part.columns[1][case])
            };
            let logits: Vec<f64> = coefficients.chunks_exact(3).map(logit).collect();
            let label = part.labels[case] as usize;
            weights[label] * (logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[label])
        };
        let squares: f64 = coefficients.chunks_exact(3).map(|row| row[0].powi(2) + row[1].powi(2)).sum();
        ((0..cases).map(loss).sum::<f64>() + penalty * squares) / cases as f64
    }

    #[test]
    fn no_classifier_near_the_trained_one_is_better() {
        // Fewer and more cases than a block, no multiples of the partial sums of a dot product.
        for cases in [31, 2 * BLOCK + 5] {
            let (part, weights, penalty) = (part(cases), [1.0, 3.0, 0.5], 0.3);
            let loss = CrossEntropy::new(3).class_weights(&[1.0, 3.0, 0.5]);
            let loss = loss.reduction(rwwce::Reduction::Mean(rwwce::Denominator::Rows));
            let trained = Linear::train(&loss, 3, &part, penalty).unwrap();
            let least = objective(&trained.coefficients, &part, &weights, penalty);
            for i in 0..9 {
                for step in [-0.05, 0.05] {
                    let mut near = trained.coefficients.clone();
                    near[i] += step;
                    assert!(objective(&near, &part, &weights, penalty) > least, "{cases} cases, coefficient {i}");
                }
            }
            let gradient = |i: usize| {
                let at = |step: f64| {
                    let mut near = trained.coefficients.clone();
                    near[i] += step;
                    objective(&near, &part, &weights, penalty)
                };
                (at(1e-4) - at(-1e-4)) / 2e-4
            };
            (0..9).for_each(|i| assert!(gradient(i).abs() < 1e-4, "{cases} cases, coefficient {i}: {}", gradient(i)));
        }
    }
}
