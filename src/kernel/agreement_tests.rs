//! Invariance of the bits of a row: under its neighbours, its place, backends of a class and, for the weighted loss,
//! the fast or the general way. One order of addition for all sums.

use super::exp::GENERAL_WAY_ONLY;
use super::lanes::{Lane, Lanes};
use super::limits::{REACH, ROWS, SUMMED_IN_F32};
use super::sums::{add_row_sums, excluded_sums, sum_of};
use super::tile::RowBlock;
use crate::backend::vector::{Driver, VIRTUAL_LANES, Vector};
use crate::{Backend, CrossEntropy};
use std::println;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// Calls `work` with all rows on the general way, except those of the weighted loss of two classes, which decide
/// without [`GENERAL_WAY_ONLY`].
fn by_the_general_way<R>(work: impl FnOnce() -> R) -> R {
    GENERAL_WAY_ONLY.set(true);
    let result = work();
    GENERAL_WAY_ONLY.set(false);
    result
}

/// Step through the shapes of a test: an emulated processor, which takes minutes for each, tries one in four.
fn every() -> usize {
    if std::env::var_os("RWWCE_EMULATED").is_some() { 4 } else { 1 }
}

/// xorshift64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In [0, 1)
    fn share(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.share()
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Loss {
    Weighted,
    Smoothing,
    Soft,
    Costs,
    Focal,
    ZTerm,
    /// Smoothing, mislabel costs, focal factor and z-loss together.
    All,
    LogProbabilities,
}

const LOSSES: [Loss; 8] = [
    Loss::Weighted,
    Loss::Smoothing,
    Loss::Soft,
    Loss::Costs,
    Loss::Focal,
    Loss::ZTerm,
    Loss::All,
    Loss::LogProbabilities,
];

#[derive(Clone, Copy, Debug)]
enum Layout {
    Dense,
    /// Rows with so many elements of padding.
    Strided(usize),
    /// `[N, C, D]` with so many positions D.
    Positions(usize),
}

/// The inputs of each row.
#[derive(Clone, Default)]
struct Batch {
    logits: Vec<Vec<f32>>,
    labels: Vec<u16>,
    samples: Vec<f32>,
    upstream: Vec<f32>,
    targets: Vec<Vec<f32>>,
}

/// The inputs shared by all rows.
struct Options {
    classes: usize,
    weights: Vec<f32>,
    costs: Vec<f32>,
    temperature: f32,
    bias: Option<Vec<f32>>,
}

/// Loss and gradient of each row.
#[derive(Debug)]
struct Results {
    losses: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

impl Options {
    fn new(classes: usize, random: &mut Random) -> Self {
        let weights = (0..classes).map(|_| random.between(0.125, 8.0)).collect();
        let costs = if classes > 400 { 0 } else { classes * classes };
        let mut costs: Vec<f32> = (0..costs).map(|_| random.between(0.0, 3.0)).collect();
        costs.iter_mut().step_by(classes + 1).for_each(|cost| *cost = 0.0);
        Self { classes, weights, costs, temperature: 1.0, bias: None }
    }

    /// Whether a loss can be computed: mislabel costs are left out for many classes.
    fn allow(&self, loss: Loss) -> bool {
        !(self.costs.is_empty() && matches!(loss, Loss::Costs | Loss::All))
    }
}

impl Batch {
    fn push(&mut self, logits: Vec<f32>, random: &mut Random) {
        let mut targets: Vec<f32> = logits.iter().map(|_| random.share()).collect();
        let whole: f32 = targets.iter().sum();
        targets.iter_mut().for_each(|target| *target /= whole.max(1e-3));
        self.labels.push(random.below(logits.len()) as u16);
        self.samples.push(random.between(0.25, 4.0));
        self.upstream.push(random.between(-2.0, 2.0));
        self.logits.push(logits);
        self.targets.push(targets);
    }

    fn push_row(&mut self, other: &Self, row: usize) {
        self.logits.push(other.logits[row].clone());
        self.labels.push(other.labels[row]);
        self.samples.push(other.samples[row]);
        self.upstream.push(other.upstream[row]);
        self.targets.push(other.targets[row].clone());
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    /// Sums of the magnitudes of the terms of each element of the gradients; of each log p_c, with the largest logit
    /// x_m, (x_m − x_c) + log Σ_k exp(x_k − x_m).
    fn sizes(&self, options: &Options, loss: Loss) -> Vec<Vec<f64>> {
        let bias = |class: usize| options.bias.as_ref().map_or(0.0, |bias| f64::from(bias[class]));
        let number = |x: &f32| f64::from(*x);
        let weights: Vec<f64> = options.weights.iter().map(number).collect();
        let sizes_of = |row: usize| {
            let x = self.logits[row].iter().enumerate();
            let x: Vec<f64> = x.map(|(class, x)| f64::from(x / options.temperature) + bias(class)).collect();
            let most = x.iter().copied().fold(f64::MIN, f64::max);
            let e: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
            let whole: f64 = e.iter().sum();
            if loss == Loss::LogProbabilities {
                return x.iter().map(|x| (most - x) + whole.ln()).collect();
            }
            let rest = |class: usize| {
                let others = e.iter().enumerate().filter(|(other, _)| *other != class);
                if e[class] > 0.5 * whole { others.map(|(_, e)| e).sum() } else { whole - e[class] }
            };
            let (label, classes) = (usize::from(self.labels[row]), options.classes as f64);
            let smoothing = if matches!(loss, Loss::Smoothing | Loss::All) { 0.125 } else { 0.0 };
            let own = if loss == Loss::Soft { 0.0 } else { (1.0 - smoothing) * weights[label] };
            let soft = |class: usize| if loss == Loss::Soft { number(&self.targets[row][class]) } else { 0.0 };
            let u: Vec<f64> = (0..e.len()).map(|class| weights[class] * (soft(class) + smoothing / classes)).collect();
            let sum_of_u: f64 = u.iter().sum();
            let odds = |class: usize| match loss {
                Loss::Costs | Loss::All if class != label => {
                    number(&options.costs[label * e.len() + class]) * (e[class] / rest(class))
                }
                _ => 0.0,
            };
            let odds: Vec<f64> = (0..e.len()).map(odds).collect();
            let all_odds: f64 = odds.iter().sum();
            let (p, q) = (e[label] / whole, rest(label) / whole);
            let log = if p > 0.5 { -(-q).ln_1p() } else { (most - x[label]) + whole.ln() };
            let slope = match loss {
                Loss::Focal | Loss::All => own * (q.powf(1.5) + 1.5 * q.powf(0.5) * p * log),
                _ => own,
            };
            let z = if matches!(loss, Loss::ZTerm | Loss::All) { 0.02 * (most + whole.ln()).abs() } else { 0.0 };
            let factor =
                number(&self.samples[row]) * (number(&self.upstream[row]) / number(&options.temperature)).abs();
            let size = |class: usize| {
                let (p, miss) = (e[class] / whole, rest(class) / whole);
                let of_label = slope * if class == label { miss } else { p };
                factor * (of_label + p * (sum_of_u + all_odds + z * (own + sum_of_u)) + u[class] + odds[class])
            };
            (0..e.len()).map(size).collect()
        };
        (0..self.len()).map(sizes_of).collect()
    }

    /// Losses and gradients, the latter checked to have the same bits when computed in place.
    fn compute(&self, backend: Backend, options: &Options, loss: Loss, layout: Layout) -> Results {
        let Options { classes, weights, costs, temperature, bias } = options;
        let stride = if let Layout::Strided(more) = layout { classes + more } else { *classes };
        let mut entropy = CrossEntropy::new(*classes).backend(backend).temperature(*temperature);
        if let Some(bias) = bias {
            entropy = entropy.class_bias(bias);
        }
        match layout {
            Layout::Dense => {}
            Layout::Strided(_) => entropy = entropy.row_stride(stride),
            Layout::Positions(positions) => entropy = entropy.positions(positions),
        }
        let at = |row: usize, class: usize| match layout {
            Layout::Positions(d) => row / d * d * classes + class * d + row % d,
            _ => row * stride + class,
        };
        let flat = |rows: &[Vec<f32>]| {
            let mut all = vec![7.0; rows.len() * stride];
            for (row, numbers) in rows.iter().enumerate() {
                numbers.iter().enumerate().for_each(|(class, &x)| all[at(row, class)] = x);
            }
            all
        };
        let rows_of =
            |all: &[f32]| (0..self.len()).map(|row| (0..*classes).map(|class| all[at(row, class)]).collect()).collect();
        let logits = flat(&self.logits);
        let mut losses = vec![9.0; self.len()];
        let mut gradient = vec![9.0; logits.len()];
        if loss == Loss::LogProbabilities {
            entropy.log_probabilities(&logits, &mut gradient).unwrap();
            entropy.log_sum_exps(&logits, &mut losses).unwrap();
            return Results { losses, gradients: rows_of(&gradient) };
        }
        entropy = entropy.class_weights(weights).sample_weights(&self.samples);
        if matches!(loss, Loss::Smoothing | Loss::All) {
            entropy = entropy.label_smoothing(0.125);
        }
        if matches!(loss, Loss::Costs | Loss::All) {
            entropy = entropy.mislabel_costs(costs);
        }
        if matches!(loss, Loss::Focal | Loss::All) {
            entropy = entropy.focal(1.5);
        }
        if matches!(loss, Loss::ZTerm | Loss::All) {
            entropy = entropy.z_loss(0.01);
        }
        let (labels, upstream, mut in_place) = (&self.labels, &self.upstream[..], logits.clone());
        if loss == Loss::Soft {
            let targets = flat(&self.targets);
            entropy.soft_row_losses(&logits, &targets, &mut losses).unwrap();
            entropy.soft_gradient(&logits, &targets, upstream, &mut gradient).unwrap();
            entropy.soft_gradient_in_place(&mut in_place, &targets, upstream).unwrap();
        } else {
            entropy.row_losses(&logits, labels, &mut losses).unwrap();
            entropy.gradient(&logits, labels, upstream, &mut gradient).unwrap();
            entropy.gradient_in_place(&mut in_place, labels, upstream).unwrap();
        }
        let (gradients, in_place): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (rows_of(&gradient), rows_of(&in_place));
        for (row, (a, b)) in gradients.iter().zip(&in_place).enumerate() {
            let place = first_difference(a, b);
            assert!(
                place.is_empty(),
                "{backend}, {loss:?}, {classes} classes, {layout:?}: row {row}, in place: {place}"
            );
        }
        Results { losses, gradients }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}

/// Logits of a row in range of the fast way, of various kinds.
fn row_in_range(classes: usize, kind: usize, random: &mut Random) -> Vec<f32> {
    let mut row: Vec<f32> = match kind % 6 {
        0 => (0..classes).map(|_| random.between(-3.0, 3.0)).collect(),
        1 => (0..classes).map(|_| random.between(-40.0, 40.0)).collect(),
        2 => {
            let offset = random.between(-35.0, 35.0);
            (0..classes).map(|_| offset + random.between(-0.01, 0.01)).collect()
        }
        3 => vec![random.between(-40.0, 40.0); classes],
        4 => (0..classes).map(|_| random.between(-43.0, -38.0)).collect(),
        _ => (0..classes).map(|_| random.between(-2.0, 2.0)).collect(),
    };
    // One class leads by much or little.
    if kind % 2 == 1 {
        let leader = random.below(classes);
        row[leader] = random.between(row[leader], 42.0);
    }
    row
}

const CLASSES: [usize; 20] = [1, 2, 3, 4, 5, 8, 10, 16, 17, 31, 32, 33, 100, 128, 129, 300, 1500, 2048, 2049, 5000];

/// Differences between the fast and the general way for one loss.
#[derive(Default, Clone)]
struct Difference {
    losses: u64,
    elements: u64,
    of_elements: u64,
    of_losses: u64,
    /// The largest, in ulp of the loss, and of the sum of the magnitudes of the terms of an element.
    loss_ulps: f64,
    element_ulps: f64,
}

impl Difference {
    fn add(&mut self, fast: &Results, general: &Results, sizes: &[Vec<f64>]) {
        for (a, b) in fast.losses.iter().zip(&general.losses) {
            self.of_losses += 1;
            if a.to_bits() != b.to_bits() {
                self.losses += 1;
                self.loss_ulps = self.loss_ulps.max(f64::from((a - b).abs()) / ulp(a.abs().max(b.abs())));
            }
        }
        for ((a, b), sizes) in fast.gradients.iter().zip(&general.gradients).zip(sizes) {
            for ((a, b), &size) in a.iter().zip(b).zip(sizes) {
                self.of_elements += 1;
                if a.to_bits() != b.to_bits() {
                    self.elements += 1;
                    self.element_ulps = self.element_ulps.max(f64::from((a - b).abs()) / ulp(size as f32));
                }
            }
        }
    }
}

fn ulp(x: f32) -> f64 {
    2f64.powi((x.to_bits() >> 23).max(1) as i32 - 127 - 23)
}

#[test]
fn the_fast_and_the_general_way_agree() {
    let mut differences = vec![Difference::default(); LOSSES.len()];
    for (number, classes) in CLASSES.into_iter().enumerate().step_by(every()) {
        let mut random = Random(0x1234_5678_9abc_def1 + number as u64);
        let mut options = Options::new(classes, &mut random);
        let rows = (3000 / classes).clamp(6, 300) / 6 * 6;
        let mut batch = Batch::default();
        for row in 0..rows {
            let logits = row_in_range(classes, row, &mut random);
            batch.push(logits, &mut random);
        }
        // Upstream gradients of some rows make elements tiny, down to subnormals.
        batch.upstream.iter_mut().skip(1).step_by(5).for_each(|factor| *factor *= 1e-30);
        for (upstream, sample) in batch.upstream.iter_mut().zip(&mut batch.samples).skip(2).step_by(7) {
            (*upstream, *sample) = (*upstream * 1e-30, *sample * 1e-12);
        }
        for (upstream, sample) in batch.upstream.iter_mut().zip(&mut batch.samples).skip(3).step_by(11) {
            (*upstream, *sample) = (*upstream * 1e20, *sample * 1e20);
        }
        for backend in Backend::available() {
            for layout in [Layout::Dense, Layout::Strided(3), Layout::Positions(3), Layout::Positions(rows)] {
                for (loss, difference) in LOSSES.into_iter().zip(&mut differences) {
                    if !options.allow(loss) {
                        continue;
                    }
                    for adjusted in [false, true] {
                        if adjusted && !matches!(layout, Layout::Dense) {
                            continue;
                        }
                        options.temperature = if adjusted { 1.25 } else { 1.0 };
                        options.bias = adjusted.then(|| (0..classes).map(|i| (i % 7) as f32 * 0.1).collect());
                        let fast = batch.compute(backend, &options, loss, layout);
                        let general = by_the_general_way(|| batch.compute(backend, &options, loss, layout));
                        if loss == Loss::Weighted {
                            for row in 0..rows {
                                let (a, b) = (fast.losses[row], general.losses[row]);
                                assert!(
                                    a.to_bits() == b.to_bits(),
                                    "{backend}, {classes} classes, {layout:?}: row {row}: loss {a:e}, {b:e}"
                                );
                                let (a, b) = (&fast.gradients[row], &general.gradients[row]);
                                assert!(
                                    same_bits(a, b),
                                    "{backend}, {classes} classes, {layout:?}: row {row}: {}",
                                    first_difference(a, b)
                                );
                            }
                        }
                        difference.add(&fast, &general, &batch.sizes(&options, loss));
                    }
                }
            }
        }
    }
    for (loss, difference) in LOSSES.into_iter().zip(&differences) {
        let Difference { losses, elements, of_elements, of_losses, loss_ulps, element_ulps } = difference;
        println!(
            "{loss:?}: {losses} of {of_losses} losses differ, by ≤ {loss_ulps:.2} ulp; {elements} of {of_elements} \
             elements, by ≤ {element_ulps:.2} ulp of the terms"
        );
    }
    for (loss, difference) in LOSSES.into_iter().zip(&differences) {
        // With terms, the fast way adds in f32 what the general way adds in f64.
        let bound = if matches!(loss, Loss::Smoothing | Loss::Soft | Loss::Costs | Loss::All) { 3.0 } else { 0.0 };
        assert!(difference.loss_ulps <= bound && difference.element_ulps <= 6.0, "{loss:?}");
    }
}

/// The probe without anything unusual.
const ORDINARY: usize = 8;

/// Rows in and out of range, whose bits must not depend on their neighbours.
fn probes(classes: usize, random: &mut Random) -> Batch {
    let mut batch = Batch::default();
    let middle = classes / 2;
    for kind in 0..=ORDINARY {
        let mut row = row_in_range(classes, kind, random);
        match kind {
            2 => row[middle] = f32::NEG_INFINITY,
            3 => row.iter_mut().for_each(|x| *x *= 30.0),
            4 => row.iter_mut().for_each(|x| *x += 1e8),
            5 => row[middle] = f32::NAN,
            6 => row[middle] = 100.0,
            7 => row[middle] = -100.0,
            _ => {}
        }
        batch.push(row, random);
    }
    // Factors whose product with that of the exponentials overflows or underflows f32.
    for (row, sample, upstream) in [(0, 1e20, 1e15), (1, 1e-12, 1e-30)] {
        batch.samples[row] *= sample;
        batch.upstream[row] *= upstream;
    }
    batch
}

/// Neighbours out of range in the first tile alone.
const IN_THE_FIRST_TILE: usize = 5;

/// Logits of a neighbour, of the kind that `company` selects.
fn neighbour(classes: usize, company: usize, row: usize, random: &mut Random) -> Vec<f32> {
    let mut logits = row_in_range(classes, row, random);
    let kind = match company {
        4 => row % 4,
        // What these leave in the working memory must not reach the rows of the next tile.
        IN_THE_FIRST_TILE => {
            if row < 48 {
                1 + row % 3
            } else {
                0
            }
        }
        _ => company,
    };
    match kind {
        1 => logits.iter_mut().for_each(|x| *x += if row.is_multiple_of(2) { 1e8 } else { -1e8 }),
        2 => logits.iter_mut().step_by(2).for_each(|x| *x = f32::NAN),
        3 => logits.iter_mut().skip(row % 2).for_each(|x| *x = f32::NEG_INFINITY),
        _ => {}
    }
    logits
}

#[test]
fn neighbours_change_no_bit_of_a_row() {
    for (number, classes) in [1, 2, 3, 10, 17, 33, 100, 129, 300, 2100].into_iter().enumerate() {
        let mut random = Random(0xfedc_ba98_7654_3211 + number as u64);
        let options = Options::new(classes, &mut random);
        let probes = probes(classes, &mut random);
        let sizes: &[usize] = if classes > 1000 {
            &[1, 2, 17, 33]
        } else if classes > 100 {
            &[1, 5, 17, 98]
        } else {
            &[]
        };
        let every_size: Vec<usize> = (1..=40).chain([130, 300]).collect();
        for backend in Backend::available() {
            for loss in LOSSES.into_iter().filter(|&loss| options.allow(loss)) {
                let alone: Vec<Results> = (0..probes.len())
                    .map(|row| {
                        let mut batch = Batch::default();
                        batch.push_row(&probes, row);
                        batch.compute(backend, &options, loss, Layout::Dense)
                    })
                    .collect();
                let every_other = every_size.iter().copied().filter(|size| size % 3 == loss as usize % 3 || *size < 4);
                let sizes: Vec<usize> = if sizes.is_empty() { every_other.collect() } else { sizes.to_vec() };
                for size in sizes.into_iter().skip(loss as usize % every()).step_by(every()) {
                    for company in 0..=IN_THE_FIRST_TILE {
                        let mut batch = Batch::default();
                        // The places of the probes vary with the size.
                        let mut known = Vec::new();
                        for row in 0..size {
                            if (row + size + company).is_multiple_of(3) {
                                let mut probe = (row / 3 + size) % probes.len();
                                if company == IN_THE_FIRST_TILE {
                                    probe = ORDINARY;
                                }
                                known.push((row, probe));
                                batch.push_row(&probes, probe);
                            } else {
                                let logits = neighbour(classes, company, row, &mut random);
                                batch.push(logits, &mut random);
                            }
                        }
                        let layout = match size % 3 {
                            0 => Layout::Dense,
                            1 => Layout::Strided(1 + size % 5),
                            _ => Layout::Positions(size),
                        };
                        for layout in
                            [layout, Layout::Dense, Layout::Positions(size)].into_iter().take(1 + (company + size) % 3)
                        {
                            let together = batch.compute(backend, &options, loss, layout);
                            for &(row, probe) in &known {
                                let (a, b) = (&together.losses[row..=row], &alone[probe].losses[..]);
                                let (c, d) = (&together.gradients[row], &alone[probe].gradients[0]);
                                assert!(
                                    same_bits(a, b) && same_bits(c, d),
                                    "{backend}, {loss:?}, {classes} classes, {layout:?}, {size} rows, company {company}: \
                                     probe {probe} at {row}: {a:?} alone {b:?}, {}",
                                    first_difference(c, d)
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

fn first_difference(a: &[f32], b: &[f32]) -> String {
    let mut pairs = a.iter().zip(b).enumerate();
    let different = pairs.find(|(_, (a, b))| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()));
    different.map_or(String::new(), |(class, (a, b))| std::format!("element {class}: {a:e}, {b:e}"))
}

/// Backends of a class return the same bits, by both ways.
#[test]
fn backends_of_a_class_agree_by_both_ways() {
    for (number, classes) in [2, 3, 10, 33, 129, 300].into_iter().enumerate() {
        let mut random = Random(0x0f1e_2d3c_4b5a_6978 + number as u64);
        let options = Options::new(classes, &mut random);
        let mut batch = probes(classes, &mut random);
        for row in 0..40 {
            let logits = row_in_range(classes, row, &mut random);
            batch.push(logits, &mut random);
        }
        for loss in LOSSES {
            for general in [false, true] {
                let results: Vec<(Backend, Results)> = Backend::available()
                    .map(|backend| {
                        let compute = || batch.compute(backend, &options, loss, Layout::Dense);
                        (backend, if general { by_the_general_way(compute) } else { compute() })
                    })
                    .collect();
                for (backend, a) in &results {
                    for (other, b) in results.iter().filter(|(other, _)| other.has_same_bits_as(*backend)) {
                        let same = same_bits(&a.losses, &b.losses)
                            && a.gradients.iter().zip(&b.gradients).all(|(a, b)| same_bits(a, b));
                        assert!(same, "{backend}, {other}: {loss:?}, {classes} classes, general way: {general}");
                    }
                }
            }
        }
    }
}

/// Sums of one row by every function that adds up rows.
struct Sums<'a> {
    /// `len` elements and [`REACH`] of padding.
    row: &'a [f32],
    len: usize,
    /// The excluded class.
    left_out: usize,
}

impl Driver for Sums<'_> {
    /// All elements by `add_row_sums`, `sum_of` and in pieces; all but one by `add_row_sums`, and in two of three rows.
    type Output = [f64; 6];

    fn drive<S: Vector>(self, s: S) -> [f64; 6] {
        s.run(
            #[inline(always)]
            || {
                let Self { row, len, left_out } = self;
                let sum = |row: &[f32], len: usize, before: f64| {
                    let mut sums = Lanes::splat(before);
                    add_row_sums(s, row, len, (1, 0), &mut sums);
                    sums[Lane::FIRST]
                };
                let whole = sum(row, len, 0.0);
                let by_terms = sum_of(s, len, |at| s.load_partial(&row[at.min(len)..len], 0.0));
                let mut by_pieces = 0.0;
                let piece = if left_out % 2 == 0 { SUMMED_IN_F32 } else { 2 * SUMMED_IN_F32 };
                for start in (0..len).step_by(piece) {
                    let width = piece.min(len - start);
                    by_pieces = sum(&row[start..], width, by_pieces);
                }
                let mut without = row.to_vec();
                without[left_out] = 0.0;
                let without = sum(&without, len, 0.0);
                let mut rows = [&row[..len], &row[..len], &row[..len], &row[len..]].concat();
                let mut blocks = [RowBlock::EMPTY];
                blocks[0].class = Lanes::splat(left_out);
                excluded_sums(s, None, &mut rows, len, 3, &mut blocks);
                [whole, by_terms, by_pieces, without, blocks[0].sum[Lane::of(0)], blocks[0].sum[Lane::of(2)]]
            },
        )
    }
}

#[test]
fn sums_are_one_sum() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    // Up to 5 roundings to f32, and two to spare: one of a partial sum, two of the others of a lane, and two of those of
    // lanes j and j + 8.
    let bound = 7.0 * 2f64.powi(-24);
    let mut worst = 0f64;
    for len in 1..=600 {
        for kind in 0..4 {
            let number = |random: &mut Random| match kind {
                0 => random.share(),
                1 => random.between(-60.0, 60.0).exp2(),
                2 => 1.0,
                _ => random.between(-1.0, 1.0),
            };
            let mut row: Vec<f32> = (0..len).map(|_| number(&mut random)).collect();
            // Padding must not matter.
            row.extend([f32::NAN; REACH]);
            let left_out = random.below(len);
            let exact: f64 = row[..len].iter().map(|&x| f64::from(x)).sum();
            let size: f64 = row[..len].iter().map(|&x| f64::from(x.abs())).sum();
            let sums: Vec<(Backend, [f64; 6])> = Backend::available()
                .map(|backend| (backend, backend.drive(Sums { row: &row, len, left_out })))
                .collect();
            for (backend, [whole, by_terms, by_pieces, without, first, third]) in &sums {
                let place = std::format!("{backend}: {len} elements of kind {kind}");
                assert_eq!(whole.to_bits(), by_terms.to_bits(), "{place}");
                assert_eq!(whole.to_bits(), by_pieces.to_bits(), "{place}");
                assert_eq!(without.to_bits(), first.to_bits(), "{place}, without {left_out}");
                assert_eq!(without.to_bits(), third.to_bits(), "{place}, without {left_out}");
                let error = (whole - exact).abs() / size;
                assert!(error <= bound, "{place}: {whole:e} instead of {exact:e}");
                let rest = exact - f64::from(row[left_out]);
                assert!((without - rest).abs() <= bound * size, "{place}: {without:e} instead of {rest:e}");
                worst = worst.max(error);
            }
            // Sums have no multiply-add: they have the same bits on all backends with vectors, and in one lane.
            let bits = |sums: &[f64; 6]| sums.map(f64::to_bits);
            for one_lane in [false, true] {
                let of_class = sums.iter().filter(|(backend, _)| backend.name().starts_with("scalar") == one_lane);
                let mut sums = of_class.map(|(_, sums)| bits(sums));
                let first = sums.next();
                assert!(sums.all(|other| Some(other) == first), "{len} elements of kind {kind}");
            }
        }
    }
    println!("sums: ≤ {:.2}·2^−24 of the sum of the magnitudes", worst * 2f64.powi(24));
    assert_eq!(VIRTUAL_LANES, ROWS);
}
