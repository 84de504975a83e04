//! Training and evaluation of every loss on every deal, in parallel.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rwwce::{CrossEntropy, NO_DECISION};

use super::calibration::temperature;
use super::cost_matrix::CostMatrix;
use super::folds::{FOLDS, deal, split};
use super::model::Linear;
use super::table::Table;
use super::ways::Way;
use crate::Result;

/// Time between two progress lines.
const REPORTED_EVERY: Duration = Duration::from_secs(3);

/// Decision rule for logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    /// The argmax of the logits of the classifier.
    MostProbable,
    /// The class of least expected cost, after the effect of costs in the loss on the logits is taken back.
    LeastExpectedCost,
}

impl Decision {
    pub(crate) const BOTH: [Self; 2] = [Self::MostProbable, Self::LeastExpectedCost];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MostProbable => "most probable class",
            Self::LeastExpectedCost => "least expected cost",
        }
    }
}

/// Factors, penalties and deals to train with. A factor multiplies the costs of missing the costly class.
pub(crate) struct Plan<'a> {
    pub(crate) base_factor: f64,
    /// Factors of the chart, the base among them.
    pub(crate) factors: Vec<f64>,
    pub(crate) base_penalty: f64,
    /// As multiples of the base penalty.
    pub(crate) other_penalties: &'a [f64],
    /// Number of deals; their seeds are 0, 1, 2 and so on, the same in every run.
    pub(crate) deals: u64,
    /// Whether logits are calibrated by a temperature before decisions.
    pub(crate) calibrate: bool,
}

/// One training: a loss, with a factor and a penalty, on all folds of a deal.
struct Training {
    way: Way,
    factor: f64,
    penalty: f64,
    deal: u64,
}

/// Result of a training, for the costs of a factor.
struct Tried {
    way: Way,
    factor: f64,
    penalty: f64,
    deal: u64,
    /// Confusion matrices over all folds, row = truth, column = decision; one for each decision rule.
    confusions: [Vec<u64>; 2],
}

pub(crate) struct Trials<'a> {
    pub(crate) plan: &'a Plan<'a>,
    costs: &'a CostMatrix,
    costly: usize,
    tried: Vec<Tried>,
}

/// Mistakes on held-out cases, means over the deals.
pub(crate) struct Figures {
    /// Cases of the costly class, decided for another.
    pub(crate) missed: f64,
    /// Cases of another class, decided for the costly one.
    pub(crate) false_alarms: f64,
    /// Cases of another class, decided for a third one.
    pub(crate) others: f64,
    pub(crate) cost: f64,
    /// Standard deviation of the cost over the deals.
    pub(crate) spread: f64,
}

impl<'a> Trials<'a> {
    pub(crate) fn make(table: &Table, costs: &'a CostMatrix, costly: usize, plan: &'a Plan<'a>) -> Result<Self> {
        let trainings = plan.trainings();
        let mut trials = Self { plan, costs, costly, tried: Vec::new() };
        let (next, folds_done, (sender, receiver)) = (AtomicUsize::new(0), AtomicUsize::new(0), mpsc::channel());
        thread::scope(|scope| {
            let worker = |sender: mpsc::Sender<_>| {
                while let Some(training) = trainings.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver is dropped when another training fails.
                    if sender.send(training.run(table, costs, costly, plan, &folds_done)).is_err() {
                        return;
                    }
                }
            };
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                let sender = sender.clone();
                scope.spawn(move || worker(sender));
            }
            drop(sender);
            for result in Progress::new(trainings.len() * FOLDS, &folds_done, receiver) {
                trials.tried.extend(result?);
            }
            Ok::<(), String>(())
        })?;
        Ok(trials)
    }

    pub(crate) fn figures(&self, way: Way, decision: Decision, factor: f64, penalty: f64) -> Figures {
        let costs = self.costs.scaled(self.costly, factor);
        let classes = costs.classes;
        let is_wanted = |t: &&Tried| t.way == way && t.factor == factor && t.penalty == penalty;
        // In the order of the deals, since threads finish in any order.
        let mut wanted: Vec<&Tried> = self.tried.iter().filter(is_wanted).collect();
        wanted.sort_by_key(|tried| tried.deal);
        let confusions: Vec<&Vec<u64>> = wanted.iter().map(|tried| &tried.confusions[decision as usize]).collect();
        let count = confusions.len() as f64;
        let mean = |is_counted: &dyn Fn(usize, usize) -> bool| {
            let cells = (0..classes * classes).filter(|cell| is_counted(cell / classes, cell % classes));
            cells.map(|cell| confusions.iter().map(|confusion| confusion[cell]).sum::<u64>()).sum::<u64>() as f64
                / count
        };
        let totals: Vec<f64> = confusions.iter().map(|confusion| costs.total(confusion)).collect();
        let cost = totals.iter().sum::<f64>() / count;
        let variance = totals.iter().map(|total| (total - cost).powi(2)).sum::<f64>() / (count - 1.0);
        Figures {
            missed: mean(&|truth, said| truth == self.costly && said != truth),
            false_alarms: mean(&|truth, said| said == self.costly && said != truth),
            others: mean(&|truth, said| truth != self.costly && said != self.costly && said != truth),
            cost,
            spread: if count > 1.0 { variance.sqrt() } else { 0.0 },
        }
    }

    /// Cost of this mistake in the first table, with the base factor.
    pub(crate) fn cost(&self, truth: usize, said: usize) -> f64 {
        self.costs.scaled(self.costly, self.plan.base_factor).cost(truth, said)
    }
}

impl Plan<'_> {
    pub(crate) fn penalties(&self) -> Vec<f64> {
        // Rounded to 7 digits, without the rounding errors of the product.
        let rounded = |penalty: f64| format!("{penalty:.6e}").parse().unwrap_or(penalty);
        let others = self.other_penalties.iter().map(|multiple| rounded(multiple * self.base_penalty));
        let mut penalties: Vec<f64> = others.collect();
        penalties.push(self.base_penalty);
        penalties.sort_by(f64::total_cmp);
        penalties
    }

    fn trainings(&self) -> Vec<Training> {
        let mut trainings = Vec::new();
        for penalty in self.penalties() {
            for way in Way::ALL {
                let is_base = |factor: &&f64| **factor == self.base_factor;
                let all_factors = way.knows_costs() && penalty == self.base_penalty;
                for &factor in self.factors.iter().filter(|factor| all_factors || is_base(factor)) {
                    trainings.extend((0..self.deals).map(|deal| Training { way, factor, penalty, deal }));
                }
            }
        }
        trainings
    }
}

impl Training {
    /// Trains a classifier for every fold of the deal, and adds its decisions for the held-out cases.
    fn run(
        &self,
        table: &Table,
        costs: &CostMatrix,
        costly: usize,
        plan: &Plan<'_>,
        folds_done: &AtomicUsize,
    ) -> Result<Vec<Tried>> {
        let Self { way, penalty, deal: seed, .. } = *self;
        // A loss without costs is trained once for all factors.
        let factors = if way.knows_costs() { &[self.factor] } else { &plan.factors[..] };
        let cells = vec![0; costs.classes * costs.classes];
        let tried = |&factor| Tried { way, factor, penalty, deal: seed, confusions: [cells.clone(), cells.clone()] };
        let mut all_tried: Vec<Tried> = factors.iter().map(tried).collect();

        let fold_of = deal(&table.labels, seed);
        for fold in 0..FOLDS {
            let (training, held_out) = split(table, &fold_of, fold);
            let weighting = way.weighting(&costs.scaled(costly, self.factor), &training.labels);
            let weighting = weighting.map_err(|error| error.to_string())?;
            let model = Linear::train(&weighting.loss(), costs.classes, &training, penalty);
            let mut logits = model.map_err(|error| error.to_string())?.logits(&held_out);
            if plan.calibrate {
                let temperature = temperature(&weighting.loss(), costs.classes, &training, penalty);
                let temperature = temperature.map_err(|error| error.to_string())?;
                logits.iter_mut().for_each(|logit| *logit /= temperature);
            }
            if logits.iter().any(|logit| !logit.is_finite()) {
                return Err("the logits are not finite: the values of a feature lie too far apart".into());
            }
            let argmax = CrossEntropy::new(costs.classes);
            for tried in &mut all_tried {
                argmax
                    .add_confusion(&logits, &held_out.labels, &mut tried.confusions[0])
                    .map_err(|error| error.to_string())?;
            }
            logits.chunks_exact_mut(costs.classes).for_each(|row| weighting.take_back(row));
            for tried in &mut all_tried {
                let costs = costs.scaled(costly, tried.factor);
                add_decisions(&costs, &logits, &held_out.labels, &mut tried.confusions[1])?;
            }
            folds_done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(all_tried)
    }
}

/// Adds decisions of least expected cost to a confusion matrix.
fn add_decisions(costs: &CostMatrix, logits: &[f32], labels: &[u32], confusion: &mut [u64]) -> Result<()> {
    let mut decisions = vec![0; labels.len()];
    let (misses, mislabels) = (vec![0.0; costs.classes], costs.as_f32());
    let loss = CrossEntropy::new(costs.classes).class_weights(&misses).mislabel_costs(&mislabels);
    loss.decide(logits, &mut decisions, None).map_err(|error| error.to_string())?;
    for (&label, &decision) in labels.iter().zip(&decisions) {
        if decision == NO_DECISION {
            return Err("a probability is not a number: the values of a feature lie too far apart".into());
        }
        confusion[label as usize * costs.classes + decision as usize] += 1;
    }
    Ok(())
}

/// Iterator over results in the order of arrival, with progress lines on standard error.
struct Progress<'a, T> {
    receiver: mpsc::Receiver<T>,
    folds: usize,
    done: &'a AtomicUsize,
    began: Instant,
    reported: Instant,
}

impl<'a, T> Progress<'a, T> {
    fn new(folds: usize, done: &'a AtomicUsize, receiver: mpsc::Receiver<T>) -> Self {
        let now = Instant::now();
        Self { receiver, folds, done, began: now, reported: now }
    }
}

impl<T> Iterator for Progress<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            let wait = REPORTED_EVERY.saturating_sub(self.reported.elapsed());
            match self.receiver.recv_timeout(wait) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.reported = Instant::now();
                    let (done, folds) = (self.done.load(Ordering::Relaxed), self.folds);
                    let seconds = self.began.elapsed().as_secs();
                    // If standard error is closed, progress is not needed.
                    let _ = writeln!(io::stderr(), "training: {done} of {folds} folds in {seconds} s");
                }
            }
        }
    }
}
