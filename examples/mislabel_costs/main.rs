//! What a mistake costs, taught to a classifier through its loss.
//!
//! The cases are 569 breast tumours, malignant or benign. To miss a malignancy is far worse than
//! to raise a false alarm, and plain cross-entropy cannot know that. So the same linear classifier
//! is trained in four ways that differ in nothing but the loss:
//!
//! 1. unweighted;
//! 2. weighted by inverse class frequency, so that both classes have an equal say;
//! 3. weighted by cost: a missed malignancy counts as 20 false alarms;
//! 4. by the matrix of costs, which charges each kind of mistake by the probability that it gets.
//!
//! Five-fold cross-validation holds every case out once. The mistakes on held-out cases, averaged
//! over ten random deals into folds, are printed as a table, and what they cost is drawn over the
//! training steps as a chart (SVG):
//!
//! ```text
//! cargo run --example mislabel_costs
//! cargo run --example mislabel_costs -- --cost-ratio 5 --csv my_cases.csv
//! cargo run --example mislabel_costs -- --help
//! ```

mod chart;
mod data;
mod options;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use rwwce::{ClassWeights, CrossEntropy, Scheme, count_labels};

use data::{CLASSES, COSTLY, Cases, Part};
use options::Options;

/// Parts that the cases are dealt into; each is held out once, while the others train.
const FOLDS: usize = 5;
/// Times that the cases are dealt anew, lest one lucky or unlucky deal decide. The seeds are 0, 1,
/// 2 and so on, so that every run deals the same.
const DEALS: usize = 10;
/// Steps of gradient descent in each training.
const STEPS: usize = 300;
/// The share of its velocity that the descent keeps from one step to the next.
const MOMENTUM: f32 = 0.9;

/// The loss to train with.
enum Way {
    Unweighted,
    InverseFrequency,
    CostRatio(f64),
    CostMatrix(f64),
}

/// What the loss is told of costs.
struct Costs {
    class_weights: [f32; CLASSES],
    mislabel_costs: [f32; CLASSES * CLASSES],
}

impl Way {
    fn name(&self) -> String {
        match self {
            Way::Unweighted => "unweighted".into(),
            Way::InverseFrequency => "inverse frequency".into(),
            Way::CostRatio(ratio) => format!("cost {ratio}:1"),
            Way::CostMatrix(ratio) => format!("matrix {ratio}:1"),
        }
    }

    fn costs(&self, labels: &[u8]) -> Result<Costs, rwwce::Error> {
        // Weights of 1 are the same as none, and mislabel costs of 0 too.
        let mut costs = Costs { class_weights: [1.0; CLASSES], mislabel_costs: [0.0; CLASSES * CLASSES] };
        match self {
            Way::Unweighted => {}
            Way::InverseFrequency => {
                let mut counts = [0; CLASSES];
                count_labels(labels, None, &mut counts)?;
                ClassWeights::new(Scheme::InverseFrequency).from_counts(&counts, &mut costs.class_weights)?;
            }
            // As if each costly case had happened that many times.
            Way::CostRatio(ratio) => costs.class_weights[COSTLY] = *ratio as f32,
            // A plain loss for every miss, and on top of it what the kind of mistake costs.
            Way::CostMatrix(ratio) => {
                let other = 1 - COSTLY;
                costs.mislabel_costs[COSTLY * CLASSES + other] = *ratio as f32;
                costs.mislabel_costs[other * CLASSES + COSTLY] = 1.0;
                // Divided by what a case has at stake on average, so that the step size suits this loss as well.
                let at_stake = |label: u8| 1.0 + if usize::from(label) == COSTLY { *ratio } else { 1.0 };
                let mean = labels.iter().map(|&label| at_stake(label)).sum::<f64>() / labels.len() as f64;
                for cost in costs.class_weights.iter_mut().chain(&mut costs.mislabel_costs) {
                    *cost = (f64::from(*cost) / mean) as f32;
                }
            }
        }
        Ok(costs)
    }
}

/// Mistakes made on held-out cases.
#[derive(Clone, Copy, Default)]
struct Mistakes {
    missed: usize,
    false_alarms: usize,
}

impl Mistakes {
    fn count(&mut self, logits: &[f32], labels: &[u8]) {
        for (row, &label) in logits.chunks_exact(CLASSES).zip(labels) {
            // The class of the largest logit is decided for; a tie raises the alarm.
            let alarm = row[COSTLY] >= row[1 - COSTLY];
            match (usize::from(label) == COSTLY, alarm) {
                (true, false) => self.missed += 1,
                (false, true) => self.false_alarms += 1,
                _ => {}
            }
        }
    }

    /// Missed, false alarms and their total cost, as means over the deals.
    fn means(&self, ratio: f64) -> [f64; 3] {
        let missed = self.missed as f64 / DEALS as f64;
        let false_alarms = self.false_alarms as f64 / DEALS as f64;
        [missed, false_alarms, ratio * missed + false_alarms]
    }
}

/// What came of one way of weighting.
struct Outcome {
    /// Plain mean cross-entropy of the held-out cases, after the last step.
    loss: f64,
    /// Over all deals and folds, after each step.
    mistakes: [Mistakes; STEPS],
}

/// A linear softmax classifier: one row of coefficients per class, the last of a row its bias.
struct Linear {
    coefficients: Vec<f32>,
    velocity: Vec<f32>,
    width: usize,
}

impl Linear {
    /// All zero, with `width` coefficients per class.
    fn new(width: usize) -> Self {
        let zeros = vec![0.0; CLASSES * width];
        Linear { coefficients: zeros.clone(), velocity: zeros, width }
    }

    /// One row of logits per case.
    fn logits(&self, part: &Part) -> Vec<f32> {
        let mut logits = Vec::with_capacity(part.labels.len() * CLASSES);
        for inputs in part.inputs.chunks_exact(self.width) {
            for row in self.coefficients.chunks_exact(self.width) {
                logits.push(row.iter().zip(inputs).map(|(c, x)| c * x).sum());
            }
        }
        logits
    }

    /// One step of gradient descent on the loss over all cases of `training`.
    fn descend(&mut self, loss: &CrossEntropy, training: &Part) -> Result<(), rwwce::Error> {
        // The logits are of no further use, so the loss writes its gradient over them.
        let mut gradient = self.logits(training);
        loss.gradient_in_place(&mut gradient, &training.labels, 1.0)?;

        // One over a bound on the curvature of the unweighted loss: half the mean of |inputs|², which
        // is the width, as each standardised feature adds 1 and so does the constant. The weighted
        // loss is a mean too, whatever the scale of the weights, so one step size suits all ways.
        let step = 2.0 / self.width as f32;
        // The usual penalty against overfitting, |coefficients|² / 2 next to the sum of the losses of
        // the cases. Its strength is the usual one as well (the default of scikit-learn), not tuned.
        let decay = 1.0 / training.labels.len() as f32;
        for (v, c) in self.velocity.iter_mut().zip(&self.coefficients) {
            *v = MOMENTUM * *v - step * decay * c;
        }
        // Chain rule: a logit is the sum of coefficients × inputs, so the gradient of a coefficient
        // is the gradient of the logit × the input, summed over the cases.
        let cases = training.inputs.chunks_exact(self.width);
        for (inputs, gradient) in cases.zip(gradient.chunks_exact(CLASSES)) {
            for (row, g) in self.velocity.chunks_exact_mut(self.width).zip(gradient) {
                for (v, x) in row.iter_mut().zip(inputs) {
                    *v -= step * g * x;
                }
            }
        }
        for (c, v) in self.coefficients.iter_mut().zip(&self.velocity) {
            *c += v;
        }
        Ok(())
    }
}

/// Trains a classifier for every fold of every deal, and tries it on the cases of that fold.
fn cross_validate(cases: &Cases, way: &Way, progress: &ProgressBar) -> Result<Outcome, Box<dyn Error>> {
    let mut mistakes = [Mistakes::default(); STEPS];
    let mut loss_sum = 0.0;
    for deal in 0..DEALS {
        let fold_of = cases.deal(FOLDS, deal as u64);
        for fold in 0..FOLDS {
            let (training, held_out) = cases.split(&fold_of, fold);
            let costs = way.costs(&training.labels)?;
            let mut loss = CrossEntropy::new(CLASSES).class_weights(&costs.class_weights);
            if let Way::CostMatrix(_) = way {
                loss = loss.mislabel_costs(&costs.mislabel_costs);
            }
            let mut model = Linear::new(training.inputs.len() / training.labels.len());
            for mistakes in &mut mistakes {
                model.descend(&loss, &training)?;
                progress.inc(1);
                mistakes.count(&model.logits(&held_out), &held_out.labels);
            }

            // Without weights, so that all ways are measured alike.
            let plain = CrossEntropy::new(CLASSES);
            loss_sum += plain.loss(&model.logits(&held_out), &held_out.labels)?.sum;
        }
    }
    if !loss_sum.is_finite() {
        return Err("the held-out loss is not finite: the values of a feature lie too far apart".into());
    }
    Ok(Outcome { loss: loss_sum / (DEALS * cases.len()) as f64, mistakes })
}

fn load(options: &Options) -> Result<Cases, String> {
    let cases = match &options.csv {
        Some(path) => Cases::read(path)?,
        None => Cases::breast_cancer(),
    };
    for label in 0..CLASSES {
        let found = cases.count(label);
        if found < FOLDS {
            return Err(format!("label {label}: expected {FOLDS} or more cases, found {found}"));
        }
    }
    Ok(cases)
}

fn compare(cases: &Cases, options: &Options) -> Result<(), Box<dyn Error>> {
    let ratio = options.cost_ratio;
    let ways = [Way::Unweighted, Way::InverseFrequency, Way::CostRatio(ratio), Way::CostMatrix(ratio)];

    // Drawn on stderr, and only where that is a terminal: stdout carries the result alone.
    let progress = ProgressBar::new((ways.len() * DEALS * FOLDS * STEPS) as u64)
        .with_style(ProgressStyle::with_template("{msg:>18} {wide_bar} {pos}/{len} steps")?);
    let mut outcomes = Vec::new();
    for way in &ways {
        progress.set_message(way.name());
        outcomes.push(cross_validate(cases, way, &progress)?);
    }
    progress.finish_and_clear();

    let mut out = io::stdout().lock();
    let [costly, other] = &cases.class_names;
    let [costly_count, other_count] = [COSTLY, 1 - COSTLY].map(|label| cases.count(label));
    writeln!(out, "{} cases: {costly_count} {costly}, {other_count} {other}.", cases.len())?;
    writeln!(out, "Each is held out once in {FOLDS}-fold cross-validation; means over {DEALS} deals into folds.")?;
    writeln!(out, "A missed {costly} case costs {ratio}, a false alarm 1.\n")?;
    writeln!(out, "loss               held-out loss     missed  false alarms  total cost")?;
    let mut lines = Vec::new();
    for (way, Outcome { loss, mistakes }) in ways.iter().zip(&outcomes) {
        let name = way.name();
        let [missed, false_alarms, cost] = mistakes[STEPS - 1].means(ratio);
        writeln!(out, "{name:<18} {loss:>13.4} {missed:>10.1} {false_alarms:>13.1} {cost:>11.1}")?;
        let costs: Vec<f64> = mistakes.iter().map(|mistakes| mistakes.means(ratio)[2]).collect();
        lines.push((name, costs));
    }
    writeln!(out, "\nThe loss is the plain, unweighted mean cross-entropy: to it, all mistakes are equal.")?;

    chart::write(&options.chart, &lines).map_err(|error| format!("--chart {:?}: {error}", options.chart))?;
    writeln!(out, "Chart written to {}", options.chart.display())?;
    Ok(())
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error} (--help lists the options)");
            return ExitCode::from(2);
        }
    };
    let cases = match load(&options) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = compare(&cases, &options) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
