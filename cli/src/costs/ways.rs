//! Losses to train with, and the inverse of their effect on the probabilities.

use rwwce::{ClassWeights, CrossEntropy, Denominator, Reduction, Scheme, count_labels};

use super::cost_matrix::CostMatrix;

/// The loss to train with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Plain,
    /// Class weights n/n_c: every class has the same total weight.
    InverseFrequency,
    /// Class weights are the mean costs of missing a class, over the other classes.
    CostWeights,
    /// Mislabel costs (Ho & Wookey, 2020), with miss costs equal to the least cost of a mistake.
    MislabelCosts,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::InverseFrequency, Self::CostWeights, Self::MislabelCosts];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain loss",
            Self::InverseFrequency => "inverse frequency",
            Self::CostWeights => "cost weights",
            Self::MislabelCosts => "mislabel costs",
        }
    }

    /// Whether the loss depends on the costs, so that each factor needs a training of its own.
    pub(crate) fn knows_costs(self) -> bool {
        matches!(self, Self::CostWeights | Self::MislabelCosts)
    }

    pub(crate) fn weighting(self, costs: &CostMatrix, labels: &[u32]) -> Result<Weighting, rwwce::Error> {
        let classes = costs.classes;
        let mut class_weights = vec![1.0; classes];
        let mut mislabel_costs = Vec::new();
        match self {
            Self::Plain => {}
            Self::InverseFrequency => {
                let mut counts = vec![0; classes];
                count_labels(labels, None, &mut counts)?;
                ClassWeights::new(Scheme::InverseFrequency).from_counts(&counts, &mut class_weights)?;
            }
            Self::CostWeights => {
                class_weights = (0..classes).map(|class| costs.mean_cost(class) as f32).collect();
            }
            Self::MislabelCosts => {
                class_weights = vec![costs.least() as f32; classes];
                mislabel_costs = costs.as_f32();
            }
        }
        // Divided by the mean cost of a case, so that a penalty is equally strong with each loss.
        let at_stake = |class: usize| {
            let on_top = if mislabel_costs.is_empty() { 0.0 } else { costs.mean_cost(class) };
            f64::from(class_weights[class]) + on_top
        };
        let mean = labels.iter().map(|&label| at_stake(label as usize)).sum::<f64>() / labels.len() as f64;
        for cost in class_weights.iter_mut().chain(&mut mislabel_costs) {
            *cost = (f64::from(*cost) / mean) as f32;
        }
        Ok(Weighting { class_weights, mislabel_costs })
    }
}

/// Class weights and mislabel costs of a loss.
pub(crate) struct Weighting {
    class_weights: Vec<f32>,
    /// Empty where there are none.
    mislabel_costs: Vec<f32>,
}

impl Weighting {
    pub(crate) fn loss(&self) -> CrossEntropy<'_> {
        let loss = CrossEntropy::new(self.class_weights.len())
            .class_weights(&self.class_weights)
            .reduction(Reduction::Mean(Denominator::Rows));
        if self.mislabel_costs.is_empty() { loss } else { loss.mislabel_costs(&self.mislabel_costs) }
    }

    /// Takes back the effect of the costs in the loss on a row of logits: from the minimiser of the expected loss to
    /// the logarithms of the class probabilities for which it is the minimiser. Costs then count in the decision alone.
    pub(crate) fn take_back(&self, row: &mut [f32]) {
        if self.mislabel_costs.is_empty() {
            for (logit, weight) in row.iter_mut().zip(&self.class_weights) {
                *logit -= weight.ln();
            }
            return;
        }
        let probabilities = self.probabilities_behind(&softmax(row));
        // Rounding may leave a small negative probability.
        let logarithms = probabilities.iter().map(|p| p.max(0.0).ln() as f32);
        if probabilities.iter().all(|p| p.is_finite()) {
            row.iter_mut().zip(logarithms).for_each(|(logit, x)| *logit = x);
        }
    }

    /// The class probabilities q for which softmax outputs p minimise the expected loss. Its gradient Σ_y q_y·g_y, g_y
    /// the gradient for label y, is zero there: linear equations in q, with Σ q = 1.
    fn probabilities_behind(&self, p: &[f64]) -> Vec<f64> {
        let classes = p.len();
        // 1 − p as a sum: no catastrophic cancellation for p near 1.
        let others = |class: usize| (0..classes).filter(|&other| other != class).map(|other| p[other]).sum::<f64>();
        let mut equations = vec![vec![0.0; classes + 1]; classes];
        for truth in 0..classes {
            let miss = f64::from(self.class_weights[truth]);
            let cost = |said: usize| f64::from(self.mislabel_costs[truth * classes + said]);
            let slope = |said: usize| cost(said) * p[said] / others(said);
            for (class, equation) in equations.iter_mut().enumerate() {
                let of_miss = if class == truth { -others(class) } else { p[class] };
                let of_others: f64 = (0..classes).filter(|&said| said != truth && said != class).map(slope).sum();
                let of_class = if class == truth { 0.0 } else { cost(class) };
                equation[truth] = miss * of_miss + p[class] * (of_class - of_others);
            }
        }
        // The gradient sums to zero over the classes: the last equation is redundant and replaced by Σ q = 1.
        equations[classes - 1] = vec![1.0; classes + 1];
        solve(equations)
    }
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let shares: Vec<f64> = row.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter().map(|share| share / sum).collect()
}

/// Solves linear equations, rows of coefficients and right-hand side, by Gauss-Jordan elimination with partial
/// pivoting. Not finite if the system is singular.
fn solve(mut equations: Vec<Vec<f64>>) -> Vec<f64> {
    let count = equations.len();
    for column in 0..count {
        let largest =
            (column..count).max_by(|&a, &b| equations[a][column].abs().total_cmp(&equations[b][column].abs()));
        equations.swap(column, largest.unwrap_or(column));
        let pivot = equations[column].clone();
        for (row, equation) in equations.iter_mut().enumerate() {
            if row != column {
                let factor = equation[column] / pivot[column];
                equation.iter_mut().zip(&pivot).for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    (0..count).map(|row| equations[row][count] / equations[row][row]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected loss at these logits for class probabilities q, by the textbook formula.
    fn expected_loss(weighting: &Weighting, q: &[f64], logits: &[f64]) -> f64 {
        let sum: f64 = logits.iter().map(|x| x.exp()).sum();
        let p: Vec<f64> = logits.iter().map(|x| x.exp() / sum).collect();
        let classes = q.len();
        let of_class = |truth: usize| {
            let mislabel = |said: usize| weighting.mislabel_costs.get(truth * classes + said).copied().unwrap_or(0.0);
            let others = (0..classes).filter(|&said| said != truth);
            let on_top: f64 = others.map(|said| -f64::from(mislabel(said)) * (1.0 - p[said]).ln()).sum();
            -f64::from(weighting.class_weights[truth]) * p[truth].ln() + on_top
        };
        (0..classes).map(|truth| q[truth] * of_class(truth)).sum()
    }

    #[test]
    fn what_is_taken_back_is_what_the_costs_have_put_in() {
        let costs = vec![0.0, 4.0, 2.0, 16.0, 0.0, 1.0, 3.0, 1.0, 0.0];
        let weightings = [
            Weighting { class_weights: vec![1.0, 5.0, 0.25], mislabel_costs: Vec::new() },
            Weighting { class_weights: vec![1.0, 2.0, 0.5], mislabel_costs: costs },
        ];
        for weighting in &weightings {
            for q in [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.05, 0.15, 0.8]] {
                let mut row = [0.0; 3];
                for _ in 0..5000 {
                    let at = |class: usize, step: f64| {
                        let mut near = row;
                        near[class] += step;
                        expected_loss(weighting, &q, &near)
                    };
                    let gradient = [0, 1, 2].map(|class| (at(class, 1e-5) - at(class, -1e-5)) / 2e-5);
                    row.iter_mut().zip(gradient).for_each(|(x, g)| *x -= 0.1 * g);
                }
                let mut taken_back = row.map(|x| x as f32);
                weighting.take_back(&mut taken_back);
                for (found, expected) in softmax(&taken_back).iter().zip(q) {
                    assert!((found - expected).abs() < 1e-4, "{q:?}: {taken_back:?}");
                }
            }
        }
    }

    #[test]
    fn with_two_classes_mislabel_costs_are_weights() {
        let weights = Weighting { class_weights: vec![21.0, 2.0], mislabel_costs: Vec::new() };
        let costs = Weighting { class_weights: vec![1.0, 1.0], mislabel_costs: vec![0.0, 20.0, 1.0, 0.0] };
        // Up to logits for which 1 − p is 0 in f64.
        for logit in [0.0_f32, 1.0, -3.0, 20.0, -60.0, 80.0] {
            let (mut a, mut b) = ([logit, 0.0], [logit, 0.0]);
            weights.take_back(&mut a);
            costs.take_back(&mut b);
            let difference = (a[0] - a[1]) - (b[0] - b[1]);
            assert!(difference.abs() <= 1e-5 * logit.abs().max(1.0), "{logit}: {a:?}, {b:?}");
        }
    }
}
