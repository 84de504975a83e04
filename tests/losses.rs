//! Every loss from logits on every backend, in both layouts: against the textbook's formula in f64, gradients also
//! against its finite differences, special values, options.

mod common;

use common::{
    REGIMES, Regime, Rng, backends, bits, class_of, compare_with_committed, is_slow, pattern, raw_bits,
    same_bits_classes, ulp,
};
use rwwce::{Backend, CrossEntropy, Reduction, Summary};

/// The contract's bound, relative to the sum of the magnitudes of the terms.
const ULPS: f64 = 6.0;

/// A named set of options.
#[derive(Clone, Debug, Default)]
struct Options {
    name: &'static str,
    weights: Option<Vec<f32>>,
    samples: Option<Vec<f32>>,
    smoothing: f32,
    soft: bool,
    costs: Option<Vec<f32>>,
    focal: f32,
    z_loss: f32,
    bias: Option<Vec<f32>>,
    temperature: f32,
}

impl Options {
    fn loss(&self, classes: usize) -> CrossEntropy<'_> {
        let mut loss = CrossEntropy::new(classes)
            .label_smoothing(self.smoothing)
            .focal(self.focal)
            .z_loss(self.z_loss)
            .temperature(self.temperature)
            .reduction(Reduction::Sum);
        if let Some(weights) = &self.weights {
            loss = loss.class_weights(weights);
        }
        if let Some(weights) = &self.samples {
            loss = loss.sample_weights(weights);
        }
        if let Some(costs) = &self.costs {
            loss = loss.mislabel_costs(costs);
        }
        if let Some(bias) = &self.bias {
            loss = loss.class_bias(bias);
        }
        loss
    }

    /// Logits over the temperature, plus the class bias.
    fn adjusted(&self, row: &[f32]) -> Vec<f64> {
        let bias = |class: usize| self.bias.as_ref().map_or(0.0, |bias| bias[class]);
        row.iter().enumerate().map(|(class, x)| f64::from(x / self.temperature + bias(class))).collect()
    }
}

/// All options, combined where that is allowed.
fn all_options(classes: usize, rows: usize, rng: &mut Rng) -> Vec<Options> {
    let mut some = |count: usize, low: f32, high: f32| -> Option<Vec<f32>> {
        Some((0..count).map(|_| rng.between(low, high)).collect())
    };
    let plain = Options { temperature: 1.0, ..Options::default() };
    let weights = some(classes, 0.1, 5.0);
    let samples = some(rows, 0.1, 5.0);
    let has_costs = classes <= 1000;
    let mut costs = some(if has_costs { classes * classes } else { 0 }, 0.0, 30.0);
    for (at, cost) in costs.iter_mut().flatten().enumerate() {
        // Some mistakes cost nothing.
        if at % (classes + 1) == 0 || at % 3 == 0 {
            *cost = 0.0;
        }
    }
    let bias = some(classes, -3.0, 3.0);
    let (w, s, c) = (|| weights.clone(), || samples.clone(), || costs.clone());
    let mut all = vec![
        Options { name: "plain", ..plain.clone() },
        Options { name: "weighted", weights: w(), samples: s(), ..plain.clone() },
        Options { name: "smoothed", smoothing: 0.1, ..plain.clone() },
        Options { name: "weighted, smoothed", weights: w(), samples: s(), smoothing: 0.3, ..plain.clone() },
        Options { name: "all smoothed away", weights: w(), smoothing: 1.0, ..plain.clone() },
        Options { name: "soft", soft: true, ..plain.clone() },
        Options {
            name: "soft, weighted, smoothed",
            soft: true,
            weights: w(),
            samples: s(),
            smoothing: 0.1,
            ..plain.clone()
        },
        Options { name: "real-world", costs: c(), ..plain.clone() },
        Options { name: "real-world, weighted", costs: c(), weights: w(), samples: s(), ..plain.clone() },
        Options { name: "real-world, smoothed", costs: c(), weights: w(), smoothing: 0.2, ..plain.clone() },
        Options { name: "focal 2", focal: 2.0, weights: w(), ..plain.clone() },
        Options { name: "focal ½", focal: 0.5, ..plain.clone() },
        Options { name: "z-loss", z_loss: 1e-2, weights: w(), ..plain.clone() },
        Options { name: "adjusted", bias: bias.clone(), temperature: 1.7, weights: w(), ..plain.clone() },
        Options {
            name: "everything for labels",
            weights: w(),
            samples: s(),
            smoothing: 0.1,
            costs: c(),
            focal: 1.5,
            z_loss: 1e-3,
            bias: bias.clone(),
            temperature: 0.5,
            ..plain.clone()
        },
        Options {
            name: "everything for soft",
            soft: true,
            weights: w(),
            z_loss: 1e-3,
            bias,
            temperature: 2.0,
            ..plain
        },
    ];
    all.retain(|options| has_costs || options.costs.is_none());
    all
}

/// A sum, and the sum of the magnitudes of its terms.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    size: f64,
}

impl Sum {
    fn add(&mut self, weight: f64, value: f64) {
        if weight != 0.0 {
            self.value += weight * value;
            self.size += (weight * value).abs();
        }
    }
}

/// The formula in f64, without the sample weight: the loss, and (class, element) of the gradient with respect to the
/// adjusted logits, of a long row for some classes only.
fn reference(options: &Options, x: &[f64], label: usize, q: &[f32]) -> (Sum, Vec<(usize, Sum)>) {
    let classes = x.len();
    let m = (0..classes).fold(0, |best, k| if x[k] > x[best] { k } else { best });
    // log Σ_{k≠m} exp(x_k − x_m), by the largest of these logits.
    let others = || (0..classes).filter(|&k| k != m);
    let second = others().fold(f64::NEG_INFINITY, |second, k| second.max(x[k]));
    let sum_of_others: f64 = others().map(|k| (x[k] - second).exp()).sum();
    let log_rest = if second == f64::NEG_INFINITY { second } else { sum_of_others.ln() + (second - x[m]) };
    let log_all = log_rest.exp().ln_1p();
    let minus_log_p = |k: usize| if k == m { log_all } else { (x[m] - x[k]) + log_all };
    let all: Vec<f64> = (0..classes).map(|k| (-minus_log_p(k)).exp()).collect();
    let p = |k: usize| all[k];
    let minus_log_q = |k: usize| if k == m { log_all - log_rest } else { -(-p(k)).ln_1p() };
    let one_minus_p = |k: usize| if k == m { (log_rest - log_all).exp() } else { 1.0 - p(k) };
    // p_i/(1 − p_j), which stays in range where j is the largest
    let of_others: Vec<f64> = x.iter().map(|x| (x - second).exp() / sum_of_others).collect();
    let ratio = |i: usize, j: usize| if j == m && i != m { of_others[i] } else { p(i) / one_minus_p(j) };

    let weight = |k: usize| options.weights.as_ref().map_or(1.0, |weights| f64::from(weights[k]));
    let smoothing = f64::from(options.smoothing);
    let own = if options.soft { 0.0 } else { (1.0 - smoothing) * weight(label) };
    let u = |k: usize| {
        let q = if options.soft { f64::from(q[k]) } else { 0.0 };
        weight(k) * ((1.0 - smoothing) * q + smoothing / classes as f64)
    };
    let cost = |k: usize| options.costs.as_ref().map_or(0.0, |costs| f64::from(costs[label * classes + k]));
    let whole = own + (0..classes).map(u).sum::<f64>();
    let gamma = f64::from(options.focal);
    let z = f64::from(options.z_loss) * whole;
    let lse = x[m] + log_all;

    let mut loss = Sum::default();
    let (miss, of_label) = (one_minus_p(label), minus_log_p(label));
    let focal = if gamma == 0.0 { 1.0 } else { miss.powf(gamma) };
    loss.add(own * focal, of_label);
    for k in 0..classes {
        loss.add(u(k), minus_log_p(k));
        loss.add(cost(k), minus_log_q(k));
    }
    loss.add(z, lse * lse);

    let focal_slope =
        if gamma == 0.0 || miss == 0.0 { 0.0 } else { gamma * miss.powf(gamma - 1.0) * p(label) * of_label };
    let gradient = (0..classes)
        .filter(|&i| classes <= 1000 || i == label || i == m || i % 499 == 0 || i + 3 > classes)
        .map(|i| {
            let mut sum = Sum::default();
            let towards = |j: usize| if i == j { -one_minus_p(j) } else { p(i) };
            sum.add(own * (focal + focal_slope), towards(label));
            for j in 0..classes {
                sum.add(u(j), towards(j));
                // The derivative of −log(1 − p_j): p_j/(1 − p_j)·([i = j] − p_i)
                sum.add(cost(j), if i == j { p(j) } else { -p(j) * ratio(i, j) });
            }
            sum.add(2.0 * z * lse, p(i));
            (i, sum)
        })
        .collect();
    (loss, gradient)
}

/// Rows of a regime in the layout `[1, C, D]` or `[D, C]`.
struct Batch {
    classes: usize,
    positions: usize,
    logits: Vec<f32>,
    labels: Vec<i32>,
    soft: Vec<f32>,
}

impl Batch {
    fn new(regime: Regime, classes: usize, rows: usize, across: bool, rng: &mut Rng) -> Self {
        let mut batch = Self {
            classes,
            positions: if across { rows } else { 1 },
            logits: vec![0.0; classes * rows],
            labels: Vec::new(),
            soft: vec![0.0; classes * rows],
        };
        for row in 0..rows {
            let (x, label) = regime.row(classes, rng);
            let certain = rng.below(4) == 0;
            for (class, &x) in x.iter().enumerate() {
                let at = batch.element(row, class);
                batch.logits[at] = x;
                // Targets are one-hot, or do not sum to 1.
                let q = if certain { f32::from(class == label) } else { rng.between(0.0, 1.0) };
                batch.soft[at] = if x == f32::NEG_INFINITY { 0.0 } else { q };
            }
            batch.labels.push(label as i32);
        }
        batch
    }

    fn element(&self, row: usize, class: usize) -> usize {
        if self.positions == 1 { row * self.classes + class } else { class * self.positions + row }
    }

    fn row(&self, of: &[f32], row: usize) -> Vec<f32> {
        (0..self.classes).map(|class| of[self.element(row, class)]).collect()
    }

    /// Row losses and gradient; every entry point must agree on them.
    fn evaluate(&self, options: &Options, backend: Backend) -> (Vec<f32>, Vec<f32>) {
        let loss = options.loss(self.classes).positions(self.positions).backend(backend);
        let (mut losses, mut gradient) = (vec![7.0; self.labels.len()], vec![7.0; self.logits.len()]);
        let mut over = self.logits.clone();
        let (x, y, q) = (&self.logits, &self.labels, &self.soft);
        let summaries: [Summary; 4] = if options.soft {
            [
                loss.soft_loss(x, q),
                loss.soft_row_losses(x, q, &mut losses),
                loss.soft_gradient(x, q, 1.0, &mut gradient),
                loss.soft_gradient_in_place(&mut over, q, 1.0),
            ]
        } else {
            [
                loss.loss(x, y),
                loss.row_losses(x, y, &mut losses),
                loss.gradient(x, y, 1.0, &mut gradient),
                loss.gradient_in_place(&mut over, y, 1.0),
            ]
        }
        .map(Result::unwrap);
        assert_eq!(bits(&over), bits(&gradient), "{backend} {}", options.name);
        let non_finite = losses.iter().filter(|loss| !loss.is_finite()).count();
        for summary in summaries {
            assert_eq!(summary.sum.to_bits(), summaries[0].sum.to_bits(), "{backend} {}", options.name);
            assert_eq!(summary.non_finite, non_finite);
        }
        (losses, gradient)
    }

    /// The largest errors of losses and gradient in ulps; fails where one exceeds the bound.
    fn errors(&self, options: &Options, losses: &[f32], gradient: &[f32], backend: Backend) -> (f64, f64) {
        let mut worst = (0.0_f64, 0.0_f64);
        for row in 0..self.labels.len() {
            let x = options.adjusted(&self.row(&self.logits, row));
            let label = self.labels[row] as usize;
            let (expected, slopes) = reference(options, &x, label, &self.row(&self.soft, row));
            let sample = options.samples.as_ref().map_or(1.0, |samples| f64::from(samples[row]));
            let case = format!("{backend} {} C = {} across {} row {row}", options.name, x.len(), self.positions > 1);
            let error = error_of(losses[row], expected, sample);
            assert!(error <= ULPS, "{case}: {:e}, expected {expected:?}, {error} ulp", losses[row]);
            worst.0 = worst.0.max(error);
            let found = self.row(gradient, row);
            for (class, expected) in slopes {
                let found = found[class];
                let error = error_of(found, expected, sample / f64::from(options.temperature));
                assert!(
                    error <= ULPS,
                    "{case} label {label} class {class}: {found:e}, expected {expected:?}, {error} ulp"
                );
                worst.1 = worst.1.max(error);
            }
        }
        worst
    }
}

/// Rows longer than a tile, with last pieces of many lengths: within the bound, with the same bits on the backends of a
/// class.
#[test]
fn rows_in_pieces_are_within_the_bound_with_the_same_bits() {
    let mut compared = 0;
    for class in same_bits_classes(backends()) {
        if class.iter().any(|&backend| is_slow(backend)) {
            continue;
        }
        let mut rng = Rng(6);
        for regime in REGIMES {
            for classes in [2049, 4100] {
                let across = classes == 2049 && rng.below(2) == 0;
                let batch = Batch::new(regime, classes, 2, across, &mut rng);
                for options in all_options(classes, 2, &mut rng) {
                    let first = batch.evaluate(&options, class[0]);
                    batch.errors(&options, &first.0, &first.1, class[0]);
                    for &backend in &class[1..] {
                        let (losses, gradient) = batch.evaluate(&options, backend);
                        let same = bits(&losses) == bits(&first.0) && bits(&gradient) == bits(&first.1);
                        assert!(same, "{backend} {} {regime:?} C = {classes}", options.name);
                    }
                    compared += class.len();
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

/// Rows whose label leads by so much that exponentials of the others underflow, with weights that make up for it.
#[test]
fn leads_of_any_size_are_within_the_bound_with_large_weights() {
    let leads: Vec<f32> = (0..22).map(|row| 4.0 + 12.0 * row as f32).collect();
    let mut rng = Rng(8);
    for backend in backends() {
        for classes in [2, 3, 10, 100, 2049, 4100] {
            if is_slow(backend) && classes > 50 {
                continue;
            }
            for across in [false, true] {
                let mut batch = Batch::new(Regime::Ordinary, classes, leads.len(), across, &mut rng);
                for (row, lead) in leads.iter().enumerate() {
                    let (offset, label) = ([0.0, 30.0, -500.0][row % 3], batch.labels[row] as usize);
                    for class in 0..classes {
                        let at = batch.element(row, class);
                        let mine = match class {
                            _ if class == label => *lead,
                            _ if class % 4 == 1 => -90.0,
                            _ if class % 4 == 2 => -174.0,
                            _ => 0.0,
                        };
                        batch.logits[at] = rng.between(-3.0, 3.0) + mine + offset;
                        batch.soft[at] = f32::from(class == label);
                    }
                }
                for (soft, weight) in [(true, 1.0), (true, 1e18), (true, 3e38), (false, 3e38)] {
                    let weights = Some(vec![weight; classes]);
                    let options = Options { name: "leads", weights, soft, temperature: 1.0, ..Options::default() };
                    let (losses, gradient) = batch.evaluate(&options, backend);
                    batch.errors(&options, &losses, &gradient, backend);
                }
            }
        }
    }
}

/// Mislabel costs of improbable classes alone, tiny or with huge sample weights: their products with exponentials leave f32
/// where the loss does not.
#[test]
fn costs_of_any_size_are_within_the_bound() {
    let mut rng = Rng(9);
    let mut checked = 0;
    for backend in backends() {
        for (classes, rows) in [(2, 40), (3, 40), (10, 60), (100, 12)] {
            if is_slow(backend) && classes > 50 {
                continue;
            }
            for across in [false, true] {
                let mut batch = Batch::new(Regime::Ordinary, classes, rows, across, &mut rng);
                for row in 0..rows {
                    let offset = [-43.0, 0.0, 41.0, 300.0, -1e6][rng.below(5)];
                    let scale = [0.5, 20.0, 80.0, 300.0][rng.below(4)];
                    for class in 0..classes {
                        let at = batch.element(row, class);
                        batch.logits[at] = offset + rng.between(-scale, 0.0);
                    }
                }
                for (cost, sample) in
                    [(1e-30, 1.0), (1e-38, 1.0), (1.0, 1e30), (1e-20, 1e30), (1e38, 1e38), (1e30, 1e-30)]
                {
                    // Only some mistakes cost something, and nothing else does.
                    let mut costs: Vec<f32> = (0..classes * classes)
                        .map(|_| if rng.below(3) == 0 { cost * rng.between(0.1, 1.0) } else { 0.0 })
                        .collect();
                    (0..classes).for_each(|class| costs[class * (classes + 1)] = 0.0);
                    let options = Options {
                        name: "costs",
                        weights: Some(vec![0.0; classes]),
                        samples: Some(vec![sample; rows]),
                        costs: Some(costs),
                        temperature: 1.0,
                        ..Options::default()
                    };
                    let (losses, gradient) = batch.evaluate(&options, backend);
                    batch.errors(&options, &losses, &gradient, backend);
                    checked += losses.iter().filter(|loss| loss.is_normal()).count();
                }
            }
        }
    }
    assert!(checked > 1000, "{checked}");
}

#[test]
fn losses_and_gradients_are_within_the_bound_in_every_regime() {
    for backend in backends() {
        let mut rng = Rng(5);
        let mut worst: Vec<(f64, f64)> = Vec::new();
        let mut compared = 0;
        for regime in REGIMES {
            for (classes, rows) in [(1, 3), (2, 37), (3, 37), (10, 20), (17, 19), (100, 5), (300, 2)] {
                if is_slow(backend) && classes > 50 {
                    continue;
                }
                for across in [false, true] {
                    let options = all_options(classes, rows, &mut rng);
                    worst.resize(options.len(), (0.0, 0.0));
                    let batch = Batch::new(regime, classes, rows, across, &mut rng);
                    for (options, worst) in options.iter().zip(&mut worst) {
                        let (losses, gradient) = batch.evaluate(options, backend);
                        let (loss, slope) = batch.errors(options, &losses, &gradient, backend);
                        *worst = (worst.0.max(loss), worst.1.max(slope));
                        compared += rows;
                    }
                }
            }
        }
        println!("{backend}: {compared} rows");
        for (options, (loss, gradient)) in all_options(2, 1, &mut rng).iter().zip(worst) {
            println!("{backend} {}: loss ≤ {loss:.2} ulp, gradient ≤ {gradient:.2} ulp", options.name);
        }
        assert!(compared > 10_000);
    }
}

/// Two classes whose gap is tiny, in range of exp in f32, or beyond it, with one-hot and other targets.
/// A row whose upstream factor is 0 has the gradient +0, not −0, beside rows that have others.
#[test]
fn a_factor_of_0_makes_the_gradient_0() {
    let mut rng = Rng(0x0f0f_1234);
    let mut checked = 0;
    for classes in [1, 2, 3, 10, 33, 300, 5000] {
        let rows = if classes > 1000 { 3 } else { 18 };
        for regime in [Regime::Ordinary, Regime::Confident, Regime::Wide] {
            for across in [false, true] {
                let batch = Batch::new(regime, classes, rows, across, &mut rng);
                let upstream: Vec<f32> = (0..rows).map(|row| [0.0, -0.0, 1.5][row % 3]).collect();
                for options in all_options(classes, rows, &mut rng) {
                    for backend in backends() {
                        let loss = options.loss(classes).positions(batch.positions).backend(backend);
                        let (mut gradient, upstream) = (pattern(batch.logits.len()), &upstream[..]);
                        if options.soft {
                            loss.soft_gradient(&batch.logits, &batch.soft, upstream, &mut gradient).unwrap();
                        } else {
                            loss.gradient(&batch.logits, &batch.labels, upstream, &mut gradient).unwrap();
                        }
                        for row in (0..rows).filter(|row| row % 3 < 2) {
                            let found = raw_bits(&batch.row(&gradient, row));
                            assert!(
                                found.iter().all(|&bits| bits == 0),
                                "{backend}, {}, {classes} classes, {regime:?}: row {row}: {found:x?}",
                                options.name
                            );
                            checked += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{checked} rows");
}

/// (1 − p)^(γ − 1) overflows f64 where 1 − p is subnormal, the gradient does not.
#[test]
fn a_small_focal_exponent_keeps_gradients_of_certain_rows_finite() {
    for backend in backends() {
        for others in [1, 2, 9] {
            for gap in [700.0, 720.0, 740.0, 760.0, 3e4] {
                let mut row = vec![-gap; others + 1];
                row[0] = 0.0;
                for gamma in [1e-3, 0.5, 1.0] {
                    let loss = CrossEntropy::new(others + 1).focal(gamma).backend(backend);
                    let mut gradient = pattern(others + 1);
                    let summary = loss.gradient(&row, &[0_u8], 1.0, &mut gradient).unwrap();
                    assert_eq!(summary.loss.to_bits(), 0, "{backend}, γ = {gamma}, gap {gap}");
                    assert!(gradient.iter().all(|&g| g == 0.0), "{backend}, γ = {gamma}, gap {gap}: {gradient:?}");
                }
            }
        }
    }
}

#[test]
fn two_classes_of_any_gap_are_within_the_bound() {
    let gaps = [0.0, 1e-30, 0.3, 5.0, 44.0, 85.9, 86.1, 95.0, 104.0, 150.0, 800.0, 1e8, 3.4e38];
    let (mut logits, mut labels, mut soft) = (Vec::new(), Vec::new(), Vec::new());
    for gap in gaps {
        for target in [[1.0, 0.0], [0.0, 1.0], [0.25, 0.5]] {
            for pair in [[0.0, gap], [gap, 0.0], [-gap, gap], [gap, -gap]] {
                logits.extend(pair);
                labels.push(i32::from(target[1] == 1.0));
                soft.extend(target);
            }
        }
    }
    let (rows, mut compared) = (labels.len(), 0);
    let mut batch = Batch { classes: 2, positions: 1, logits, labels, soft };
    for across in [false, true] {
        if across {
            let turned = |of: &[f32]| (0..2).flat_map(|class| of.iter().skip(class).step_by(2).copied()).collect();
            (batch.logits, batch.soft, batch.positions) = (turned(&batch.logits), turned(&batch.soft), rows);
        }
        // A lower temperature makes the largest logit infinite.
        for options in all_options(2, rows, &mut Rng(8)).iter().filter(|options| options.temperature >= 1.0) {
            for class in same_bits_classes(backends()) {
                let (losses, gradient) = batch.evaluate(options, class[0]);
                batch.errors(options, &losses, &gradient, class[0]);
                compared += rows;
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

/// The error in ulps of the size; below the normal range 0 where it is at most 2^−125, else infinite.
fn error_of(found: f32, expected: Sum, factor: f64) -> f64 {
    let Sum { value, size } = Sum { value: expected.value * factor, size: expected.size * factor };
    if size > f64::from(f32::MAX) && !found.is_nan() {
        return 0.0;
    }
    let error = (f64::from(found) - value).abs();
    if size < f64::from(f32::MIN_POSITIVE) {
        return if error <= 2.0 * f64::from(f32::MIN_POSITIVE) { 0.0 } else { f64::INFINITY };
    }
    if error.is_nan() { f64::INFINITY } else { error / ulp(size) }
}

/// The bound is relative: products that come near overflow or underflow on the way lose no precision, whichever factor
/// they are due to.
#[test]
fn weights_and_factors_of_any_size_keep_the_bound() {
    // Factors of [class weights and costs, sample weights, upstream].
    const SIZES: [[f32; 3]; 15] = [
        [1e-30, 1.0, 1.0],
        [1e30, 1.0, 1.0],
        [1.0, 1e-30, 1.0],
        [1.0, 1e30, 1.0],
        [1.0, 1.0, 1e-30],
        [1.0, 1.0, 1e30],
        [1e-12, 1e12, 1.0],
        [1e12, 1e-12, 1.0],
        [1e-25, 1.0, 1e25],
        [1e25, 1.0, 1e-25],
        [1.0, 1e-25, 1e25],
        [1.0, 1e25, 1e-25],
        [1.0, 1.0, 1e-15],
        [1.0, 1e-9, 1e-8],
        [1e-4, 1.0, 1e10],
    ];
    for backend in backends() {
        let (mut rng, mut compared) = (Rng(41), 0);
        for (regime, classes, rows) in
            [(Regime::Ordinary, 2, 9), (Regime::Ordinary, 7, 5), (Regime::Confident, 3, 19), (Regime::Ordinary, 130, 2)]
        {
            if is_slow(backend) && classes > 50 {
                continue;
            }
            for across in [false, true] {
                let mut batch = Batch::new(regime, classes, rows, across, &mut rng);
                if regime == Regime::Confident {
                    // Confidently wrong rows: the costliest mistakes.
                    batch.labels.iter_mut().for_each(|label| *label = (*label + 1) % classes as i32);
                }
                for plain in all_options(classes, rows, &mut rng) {
                    for [of_class, of_sample, upstream] in SIZES {
                        let times = |numbers: Option<&Vec<f32>>, count: usize, factor: f32| {
                            Some((0..count).map(|at| numbers.map_or(1.0, |numbers| numbers[at]) * factor).collect())
                        };
                        let options = Options {
                            weights: times(plain.weights.as_ref(), classes, of_class),
                            samples: times(plain.samples.as_ref(), rows, of_sample),
                            costs: plain
                                .costs
                                .as_ref()
                                .and_then(|costs| times(Some(costs), classes * classes, of_class)),
                            ..plain.clone()
                        };
                        let loss = options.loss(classes).positions(batch.positions).backend(backend);
                        let (mut losses, mut gradient) = (vec![7.0; rows], vec![7.0; batch.logits.len()]);
                        let (x, y, q) = (&batch.logits, &batch.labels, &batch.soft);
                        if options.soft {
                            loss.soft_row_losses(x, q, &mut losses).unwrap();
                            loss.soft_gradient(x, q, upstream, &mut gradient).unwrap();
                        } else {
                            loss.row_losses(x, y, &mut losses).unwrap();
                            loss.gradient(x, y, upstream, &mut gradient).unwrap();
                        }
                        for row in 0..rows {
                            let adjusted = options.adjusted(&batch.row(x, row));
                            let (expected, slopes) =
                                reference(&options, &adjusted, y[row] as usize, &batch.row(q, row));
                            let sample = options.samples.as_ref().map_or(1.0, |samples| f64::from(samples[row]));
                            let factor = sample * f64::from(upstream) / f64::from(options.temperature);
                            let case = || {
                                let sizes = [of_class, of_sample, upstream];
                                format!("{backend} {} {sizes:?} C = {classes} across {across}", options.name)
                            };
                            let error = error_of(losses[row], expected, sample);
                            assert!(error <= ULPS, "{}: {:e}, {expected:?}, {error} ulp", case(), losses[row]);
                            for (found, (_, expected)) in batch.row(&gradient, row).into_iter().zip(slopes) {
                                let error = error_of(found, expected, factor);
                                assert!(error <= ULPS, "{}: {found:e}, {expected:?}, {error} ulp", case());
                                compared += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(compared > 20_000, "{compared}");
    }
}

/// The term of the largest logit's class may be small beside that of an improbable class: neither is lost.
#[test]
fn costs_of_different_sizes_keep_the_bound() {
    let plain = all_options(3, 1, &mut Rng(1)).into_iter().find(|options| options.name == "real-world").unwrap();
    for backend in backends() {
        for of_largest in [1e-20, 1e-12, 1e-5, 1.0, 1e5, 1e15] {
            for of_other in [1e-20, 1e-5, 1.0, 1e10] {
                let costs = vec![0.0, of_largest, of_other, of_other, 0.0, of_largest, of_other, of_largest, 0.0];
                let options = Options { costs: Some(costs), ..plain.clone() };
                for (lead, upstream) in
                    (0..28).flat_map(|lead| [1e-15, 1e-7, 1.0, 1e9].map(|upstream| (lead, upstream)))
                {
                    let x = [0.5, 0.25 + 2.0 * lead as f32, -0.5];
                    let (mut losses, mut gradient) = ([7.0], [7.0; 3]);
                    let loss = options.loss(3).backend(backend);
                    loss.row_losses(&x, &[0u8], &mut losses).unwrap();
                    loss.gradient(&x, &[0u8], upstream, &mut gradient).unwrap();
                    let (expected, slopes) = reference(&options, &x.map(f64::from), 0, &[]);
                    let case = || format!("{backend} {of_largest:e} {of_other:e} {lead} {upstream:e}");
                    assert!(error_of(losses[0], expected, 1.0) <= ULPS, "{}: {:e}, {expected:?}", case(), losses[0]);
                    for (found, (_, slope)) in gradient.into_iter().zip(slopes) {
                        let error = error_of(found, slope, f64::from(upstream));
                        assert!(error <= ULPS, "{}: {found:e}, {slope:?}, {error} ulp", case());
                    }
                }
            }
        }
    }
}

/// −log p and −log(1 − p) of each class of a row with infinities, as limits; NaN where there is none.
fn limits(x: &[f64]) -> Vec<(f64, f64)> {
    let infinite = x.iter().filter(|&&x| x == f64::INFINITY).count();
    x.iter()
        .map(|&x| match (x == f64::INFINITY, infinite) {
            (true, 1) => (0.0, f64::INFINITY),
            (true, _) => (f64::NAN, f64::NAN),
            (false, _) => (f64::INFINITY, 0.0),
        })
        .collect()
}

/// The loss of a row with special values by the contract's table: the formula on the limits, where 0·∞ = 0 and a term
/// without a limit does not matter beside an infinite one.
fn special(options: &Options, x: &[f64], label: usize, q: &[f32]) -> f64 {
    if x.iter().any(|x| x.is_nan()) || x.iter().all(|&x| x == f64::NEG_INFINITY) {
        return f64::NAN;
    }
    if x.iter().all(|&x| x < f64::INFINITY) {
        return reference(options, x, label, q).0.value;
    }
    let (limits, classes) = (limits(x), x.len());
    let weight = |k: usize| options.weights.as_ref().map_or(1.0, |weights| f64::from(weights[k]));
    let smoothing = f64::from(options.smoothing);
    let own = if options.soft { 0.0 } else { (1.0 - smoothing) * weight(label) };
    // The focal factor is 0 for a label with p = 1, and 1 for a label with p = 0.
    let mut terms = vec![(own, limits[label].0)];
    for k in 0..classes {
        let q = if options.soft { f64::from(q[k]) } else { 0.0 };
        terms.push((weight(k) * ((1.0 - smoothing) * q + smoothing / classes as f64), limits[k].0));
        let cost = options.costs.as_ref().map_or(0.0, |costs| f64::from(costs[label * classes + k]));
        terms.push((cost, limits[k].1));
    }
    terms.push((f64::from(options.z_loss), f64::INFINITY));
    let terms: Vec<f64> = terms.iter().filter(|term| term.0 != 0.0).map(|(weight, value)| weight * value).collect();
    if terms.contains(&f64::INFINITY) { f64::INFINITY } else { terms.iter().sum() }
}

#[test]
fn every_loss_follows_the_table_of_nan_and_infinity() {
    const SPECIAL: [f32; 5] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 2.0];
    // All 125 rows of three special values, in one batch.
    let rows: Vec<[f32; 3]> = (0..125).map(|i| [SPECIAL[i % 5], SPECIAL[i / 5 % 5], SPECIAL[i / 25]]).collect();
    let mut compared = 0;
    for backend in backends() {
        let mut rng = Rng(17);
        for across in [false, true] {
            for label in 0..3 {
                let mut batch = Batch::new(Regime::Ordinary, 3, rows.len(), across, &mut rng);
                batch.labels.fill(label as i32);
                for (row, x) in rows.iter().enumerate() {
                    for (class, &x) in x.iter().enumerate() {
                        let at = batch.element(row, class);
                        batch.logits[at] = x;
                        batch.soft[at] = [0.0, 0.25, 0.5, 1.0][rng.below(4)];
                    }
                }
                for options in all_options(3, rows.len(), &mut rng) {
                    let (losses, gradient) = batch.evaluate(&options, backend);
                    for (row, raw) in rows.iter().enumerate() {
                        let (x, q) = (options.adjusted(raw), batch.row(&batch.soft, row));
                        let expected = special(&options, &x, label, &q)
                            * options.samples.as_ref().map_or(1.0, |samples| f64::from(samples[row]));
                        let found = f64::from(losses[row]);
                        let gradient = batch.row(&gradient, row);
                        let case = format!("{backend} {} {raw:?} label {label} {q:?} across {across}", options.name);
                        // Where all targets are 0, the loss is 0 whatever the logits.
                        let weightless = options.soft && options.smoothing == 0.0 && q.iter().all(|&q| q == 0.0);
                        if weightless {
                            assert_eq!((found, &gradient[..]), (0.0, &[0.0; 3][..]), "{case}");
                        } else if expected.is_nan() {
                            assert!(
                                found.is_nan() && gradient.iter().all(|g| g.is_nan()),
                                "{case}: {found} {gradient:?}"
                            );
                        } else if expected.is_infinite() {
                            assert_eq!(found, expected, "{case}");
                        } else {
                            assert!(
                                (found - expected).abs() < 1e-5 * (1.0 + expected),
                                "{case}: {found} for {expected}"
                            );
                        }
                        compared += 1;
                    }
                    // A sample weight of 0 makes every row 0.
                    let zeros = Options { samples: Some(vec![0.0; rows.len()]), ..options };
                    let (losses, gradient) = batch.evaluate(&zeros, backend);
                    assert!(losses.iter().chain(&gradient).all(|&x| x == 0.0), "{backend} {}", zeros.name);
                }
            }
        }
    }
    assert!(compared > 8000 * backends().len());
}

/// The infinite loss of a class of probability 0 has the sign of its weight.
#[test]
fn infinite_losses_have_the_sign_of_the_weight() {
    let row = [0.0, f32::INFINITY, f32::INFINITY, 1.0];
    for backend in backends() {
        for sign in [1.0, -1.0] {
            let weights = [sign; 4];
            let loss = CrossEntropy::new(4).class_weights(&weights).reduction(Reduction::Sum).backend(backend);
            for loss in [
                loss.loss(&row, &[0_u8]),
                loss.label_smoothing(0.1).loss(&row, &[0_u8]),
                loss.soft_loss(&row, &[0.5, 0.0, 0.0, 0.5]),
            ] {
                assert_eq!(loss.unwrap().loss, sign * f32::INFINITY, "{backend}");
            }
        }
    }
}

#[test]
fn gradients_are_derivatives() {
    let backends = backends();
    let mut rng = Rng(9);
    let mut compared = 0;
    for (classes, rows) in [(2, 5), (3, 5), (7, 17), (20, 3)] {
        for across in [false, true] {
            let batch = Batch::new(Regime::Ordinary, classes, rows, across, &mut rng);
            // Small logits, so that a difference quotient in f64 has digits left.
            let batch = Batch { logits: batch.logits.iter().map(|x| x * 0.4).collect(), ..batch };
            for options in all_options(classes, rows, &mut rng) {
                for &backend in &backends {
                    let (_, gradient) = batch.evaluate(&options, backend);
                    for row in 0..rows {
                        let (x, q) = (options.adjusted(&batch.row(&batch.logits, row)), batch.row(&batch.soft, row));
                        let label = batch.labels[row] as usize;
                        let sample = options.samples.as_ref().map_or(1.0, |samples| f64::from(samples[row]));
                        for class in 0..classes {
                            let moved = |step: f64| {
                                let mut x = x.clone();
                                x[class] += step;
                                reference(&options, &x, label, &q).0.value
                            };
                            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5 * sample / f64::from(options.temperature);
                            let found = f64::from(gradient[batch.element(row, class)]);
                            let case = format!("{backend} {} C = {classes} row {row} class {class}", options.name);
                            assert!((found - slope).abs() < 1e-5 * (1.0 + slope.abs()), "{case}: {found} for {slope}");
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(compared > 3000 * backends.len());
}

/// Backends of a class return the same bits. A hash of them for each set of options is committed, for the comparison
/// with every other machine.
fn compare_class(name: &str) {
    // Not every machine has backends of every class.
    let Some(class) = same_bits_classes(backends()).into_iter().find(|class| class_of(class[0]) == name) else {
        return;
    };
    let mut compared = 0;
    let mut hashes: Vec<(&str, u64)> = Vec::new();
    for (number, regime) in REGIMES.into_iter().enumerate() {
        for (classes, rows) in [(2, 37), (5, 20), (17, 18), (33, 5), (100, 17), (129, 2)] {
            for across in [false, true] {
                // Each batch has a seed of its own, so that one option more does not change the others.
                let mut rng = Rng((2 * number + usize::from(across)) as u64 * 1000 + classes as u64);
                let mut batch = Batch::new(regime, classes, rows, across, &mut rng);
                let at = rng.below(batch.logits.len());
                batch.logits[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0][rng.below(4)];
                for options in all_options(classes, rows, &mut rng) {
                    let found = |backend: Backend| {
                        let (mut numbers, gradient) = batch.evaluate(&options, backend);
                        numbers.extend(gradient);
                        bits(&numbers)
                    };
                    let of_best = found(class[0]);
                    for &backend in &class[1..] {
                        assert!(
                            found(backend) == of_best,
                            "{backend} {} {regime:?} C = {classes} across {across}",
                            options.name
                        );
                    }
                    compared += class.len();
                    let at = hashes.iter().position(|hash| hash.0 == options.name).unwrap_or(hashes.len());
                    if at == hashes.len() {
                        hashes.push((options.name, 0xcbf2_9ce4_8422_2325));
                    }
                    for word in of_best {
                        hashes[at].1 = (hashes[at].1 ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
                    }
                }
            }
        }
    }
    assert!(compared > 1_000);
    let lines: String = hashes.iter().map(|(name, hash)| format!("{hash:016x} {name}\n")).collect();
    compare_with_committed("losses", class[0], &lines);
}

// One test per class, so that they run in parallel.

#[test]
fn fused_backends_agree() {
    compare_class("fused");
}

#[test]
fn unfused_backends_agree() {
    compare_class("unfused");
}

#[test]
fn one_lane_fused_has_the_committed_bits() {
    compare_class("one-lane-fused");
}

#[test]
fn one_lane_unfused_has_the_committed_bits() {
    compare_class("one-lane-unfused");
}
