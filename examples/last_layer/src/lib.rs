//! Trains the last layer of a network whose other layers are frozen, x·Wᵀ, with softmax and the real-world-weight loss.
//! Only the logits of one chunk of rows exist at a time: the loss writes its gradient over them, and the gradient of W
//! is accumulated. The denominator of the mean over all rows is known before the first chunk, so that the chunks add up
//! to the gradient of one call.
//!
//! There is no allocator and no standard library, and the caller provides all memory: `cargo run` trains on this
//! machine, `cargo firmware` on an emulated Cortex-M4F with 16 KiB of RAM. Standardised measurements of a table stand
//! for the features that frozen layers would compute.
//!
//! # On the microcontroller
//!
//! A layer of 2 classes × 11 features, its gradient and the logits of 8 rows take 272 bytes; the loss with mislabel
//! costs takes 6.2 KB of stack. Instructions per row for both matrix products, the loss and its gradient:
//!
//! | classes × features | plain loss | mislabel costs |
//! |---|---|---|
//! | 2 × 11 | 3805 | 22368 |
//! | 3 × 3 | 3873 | 22799 |
//!
//! The program has 76 KB of code and 30 KB of data, mostly for the loss with all options and for text formatting.
//!
//! # The same bits
//!
//! Both print the same bits if this machine uses the microcontroller's backend (`cargo run -- scalar-fma`): products
//! and sums are computed in the order of rows and features, with fused multiply-adds only in the loss, which has the
//! same bits on all backends of a class. Weights are the same for chunks of any number of rows. The sum of the losses,
//! which is not used for training, has the bits of one call only for chunks of [`CrossEntropy::chunk_rows`]. Other
//! backends, and matrix products in another order of summation, give weights that differ by rounding.
#![no_std]

use core::fmt::{self, Write};

use rwwce::{Backend, CrossEntropy, Denominator, Error, Reduction, Total};

include!(concat!(env!("OUT_DIR"), "/data.rs"));

/// Features `[N, F]`, the last of a row being 1, and labels `[N]`.
#[derive(Clone, Copy, Debug)]
pub struct Cases<'a> {
    pub width: usize,
    pub features: &'a [f32],
    pub labels: &'a [u8],
}

impl<'a> Cases<'a> {
    /// The first rows, and the others.
    pub fn split_at(self, rows: usize) -> (Self, Self) {
        let (features, other_features) = self.features.split_at(rows * self.width);
        let (labels, other_labels) = self.labels.split_at(rows);
        (Self { features, labels, ..self }, Self { features: other_features, labels: other_labels, ..self })
    }

    fn chunks(self, rows: usize) -> impl Iterator<Item = Self> {
        let chunks = self.features.chunks(rows * self.width).zip(self.labels.chunks(rows));
        chunks.map(move |(features, labels)| Self { features, labels, ..self })
    }
}

/// The two matrix products of training.
pub trait Products {
    /// logits = features·weightsᵀ
    fn logits(&self, width: usize, features: &[f32], weights: &[f32], logits: &mut [f32]);

    /// gradient += ofLogitsᵀ·features
    fn add_gradient(&self, width: usize, features: &[f32], of_logits: &[f32], gradient: &mut [f32]);
}

/// Loops that sum in the order of features and rows, with the same bits on every machine.
pub struct Loops;

impl Products for Loops {
    fn logits(&self, width: usize, features: &[f32], weights: &[f32], logits: &mut [f32]) {
        let rows = logits.chunks_exact_mut(weights.len() / width).zip(features.chunks_exact(width));
        for (logits, x) in rows {
            for (logit, w) in logits.iter_mut().zip(weights.chunks_exact(width)) {
                *logit = w.iter().zip(x).fold(0.0, |sum, (w, x)| sum + w * x);
            }
        }
    }

    fn add_gradient(&self, width: usize, features: &[f32], of_logits: &[f32], gradient: &mut [f32]) {
        let rows = of_logits.chunks_exact(gradient.len() / width).zip(features.chunks_exact(width));
        for (of_logits, x) in rows {
            for (of_logit, gradient) in of_logits.iter().zip(gradient.chunks_exact_mut(width)) {
                gradient.iter_mut().zip(x).for_each(|(sum, x)| *sum += of_logit * x);
            }
        }
    }
}

/// A layer with the buffers of its training.
pub struct Layer<'m> {
    /// `[C, F]`
    pub weights: &'m mut [f32],
    /// `[C, F]`
    pub gradient: &'m mut [f32],
    /// `[rows of a chunk, C]`
    pub logits: &'m mut [f32],
}

impl Layer<'_> {
    /// Writes the gradient of the mean loss over all cases to `gradient`, and returns the totals.
    pub fn differentiate(
        &mut self,
        products: &impl Products,
        loss: &CrossEntropy<'_>,
        cases: Cases<'_>,
    ) -> Result<Total, Error> {
        let width = cases.width;
        let classes = self.weights.len() / width;
        let denominator = loss.weigh(cases.labels)?.denominator(Reduction::Mean(Denominator::Rows));
        let loss = loss.denominator(denominator);
        let mut total = Total::default();
        self.gradient.fill(0.0);
        for Cases { features, labels, .. } in cases.chunks(self.logits.len() / classes) {
            let logits = &mut self.logits[..classes * labels.len()];
            products.logits(width, features, self.weights, logits);
            // The gradient is written over the logits, which are not needed any more.
            total.merge(&loss.gradient_in_place(logits, labels, 1.0)?.total);
            products.add_gradient(width, features, logits, self.gradient);
        }
        Ok(total)
    }

    /// A step of gradient descent.
    pub fn descend(&mut self, rate: f32) {
        self.weights.iter_mut().zip(&*self.gradient).for_each(|(w, g)| *w -= rate * g);
    }

    /// Total cost of the decisions for these cases: the classes of least expected cost by the costs of `decision`, or
    /// the most probable ones if it has no costs.
    pub fn cost(
        &mut self,
        products: &impl Products,
        decision: &CrossEntropy<'_>,
        cases: Cases<'_>,
        costs: &[f32],
    ) -> Result<f32, Error> {
        let classes = self.weights.len() / cases.width;
        let (mut sum, mut decisions) = (0.0, [0; CHUNK]);
        for Cases { features, labels, .. } in cases.chunks((self.logits.len() / classes).min(CHUNK)) {
            let (logits, decisions) = (&mut self.logits[..classes * labels.len()], &mut decisions[..labels.len()]);
            products.logits(cases.width, features, self.weights, logits);
            decision.decide(&*logits, decisions, None)?;
            for (&label, &said) in labels.iter().zip(&*decisions) {
                sum += costs[usize::from(label) * classes + said as usize];
            }
        }
        Ok(sum)
    }
}

/// A table to train on, with costs `[C, C]`, row = truth, column = decision.
pub struct Problem {
    pub name: &'static str,
    pub classes: usize,
    pub training: Cases<'static>,
    pub held_out: Cases<'static>,
    pub costs: &'static [f32],
    /// Miss costs of the loss with mislabel costs, `[C]`: the least cost of a mistake.
    pub miss_costs: &'static [f32],
    /// Learning rate with mislabel costs; without, it is [`RATE`].
    pub rate: f32,
}

pub const STEPS: usize = 100;
const PLAIN: &str = "plain loss";
pub const RATE: f32 = 0.5;

/// Rows of a chunk in [`Memory`].
pub const CHUNK: usize = 8;
/// Number of weights of the larger layer.
const MOST_WEIGHTS: usize = 2 * 11;

/// All memory that [`report`] needs.
pub struct Memory {
    weights: [f32; MOST_WEIGHTS],
    gradient: [f32; MOST_WEIGHTS],
    logits: [f32; CHUNK * 3],
}

impl Default for Memory {
    fn default() -> Self {
        Self { weights: [0.0; MOST_WEIGHTS], gradient: [0.0; MOST_WEIGHTS], logits: [0.0; CHUNK * 3] }
    }
}

impl Memory {
    /// A layer with all weights 0.
    pub fn layer(&mut self, problem: &Problem) -> Layer<'_> {
        let weights = problem.classes * problem.training.width;
        self.weights.fill(0.0);
        Layer {
            weights: &mut self.weights[..weights],
            gradient: &mut self.gradient[..weights],
            logits: &mut self.logits[..CHUNK * problem.classes],
        }
    }
}

impl Problem {
    /// Breast tumours: a missed malignancy, class 0, costs 20, a false alarm 1.
    pub fn breast_cancer() -> Self {
        let (width, training, features, labels) = BREAST_CANCER;
        let (training, held_out) = Cases { width, features, labels }.split_at(training);
        let (costs, miss_costs) = (&[0.0, 20.0, 1.0, 0.0], &[1.0; 2]);
        Self { name: "breast cancer", classes: 2, training, held_out, costs, miss_costs, rate: 0.05 }
    }

    /// Wines, with the costs of cli/data/wine_costs.csv.
    pub fn wine() -> Self {
        let (width, training, features, labels) = WINE;
        let (training, held_out) = Cases { width, features, labels }.split_at(training);
        let (costs, miss_costs) = (&[0.0, 4.0, 4.0, 16.0, 0.0, 1.0, 16.0, 1.0, 0.0], &[1.0; 3]);
        Self { name: "wine", classes: 3, training, held_out, costs, miss_costs, rate: 0.05 }
    }

    /// Names of the losses, losses to train with, and learning rates.
    pub fn losses(&self) -> [(&'static str, CrossEntropy<'_>, f32); 2] {
        let plain = CrossEntropy::new(self.classes);
        let costs = plain.class_weights(self.miss_costs).mislabel_costs(self.costs);
        [(PLAIN, plain, RATE), ("mislabel costs", costs, self.rate)]
    }

    /// Decision rules: the most probable class; for the plain loss also the class of least expected cost.
    fn decisions(&self, way: &str) -> impl Iterator<Item = (CrossEntropy<'_>, &'static str)> {
        let any = CrossEntropy::new(self.classes);
        // The miss costs are 0, since the cost matrix includes them.
        let least = any.class_weights(&[0.0; 3][..self.classes]).mislabel_costs(self.costs);
        [(any, "by probability"), (least, "by costs")].into_iter().take(if way == PLAIN { 2 } else { 1 })
    }
}

/// Trains a layer for each table with each loss, and writes the bits of the mean loss of the last step, a hash of the
/// weights, and the costs of decisions for the held-out cases, which are too few to compare the losses. `clock` returns
/// the number of instructions since its last call, if known; those of the last step are written per row.
pub fn report(
    out: &mut impl Write,
    memory: &mut Memory,
    backend: Backend,
    mut clock: impl FnMut() -> Option<u32>,
) -> Result<(), Failure> {
    for problem in [Problem::breast_cancer(), Problem::wine()] {
        for (way, loss, rate) in problem.losses() {
            let loss = loss.backend(backend);
            let mut layer = memory.layer(&problem);
            let mut step = || {
                let total = layer.differentiate(&Loops, &loss, problem.training)?;
                layer.descend(rate);
                Ok::<_, Error>(total.sum / total.rows as f64)
            };
            (1..STEPS).try_for_each(|_| step().map(drop))?;
            clock();
            let last = step()? as f32;
            let instructions = clock();

            let (name, weights) = (problem.name, hash(layer.weights));
            write!(out, "{name}, {way}: loss {:08x}, weights {weights:016x}", last.to_bits())?;
            for (decision, by) in problem.decisions(way) {
                let cost = layer.cost(&Loops, &decision.backend(backend), problem.held_out, problem.costs)?;
                write!(out, ", held out cost {cost} {by}")?;
            }
            writeln!(out)?;
            if let Some(all) = instructions {
                writeln!(out, "{} instructions a row", all as usize / problem.training.labels.len())?;
            }
        }
    }
    Ok(())
}

/// FNV-1a hash of the bits.
fn hash(numbers: &[f32]) -> u64 {
    numbers.iter().fold(0xcbf2_9ce4_8422_2325, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x100_0000_01b3))
}

/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    Loss(Error),
    Output(fmt::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Loss(error)
    }
}

impl From<fmt::Error> for Failure {
    fn from(error: fmt::Error) -> Self {
        Self::Output(error)
    }
}
