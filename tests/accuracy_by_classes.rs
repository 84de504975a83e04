//! Largest errors of the weighted loss and its gradient against f64: over 20,000 rows for some numbers of classes
//! always, over ten million for each on demand. A few thousand rows do not show them.

mod common;

use common::{
    CLASS_NAMES, GRADIENT_ULPS, LOSS_ULPS, MORE_REGIMES, REGIMES, Regime, Rng, available, backends, class_of, is_slow,
};
use rwwce::{Backend, CrossEntropy, Reduction};
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// About the logits of a batch, which stays in the second cache with references and results.
const BATCH: usize = 4096;

/// eˣ for x ≤ 0, clamped to e⁻⁷⁰⁰ below −700; auto-vectorised, several times as fast as [`f64::exp`].
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// Added to a small x, leaves the nearest integer in the lowest bits of the mantissa.
    const ROUND: f64 = (3u64 << 51) as f64;
    /// log 2 in two parts; the product of the first with an integer is exact.
    const LN_2: (f64, f64) = (f64::from_bits(0x3fe6_2e42_fee0_0000), 1.908_214_929_270_587_7e-10);
    /// 1/n!, as many as matter for |x| ≤ 0.35.
    const TAYLOR: [f64; 13] = {
        let (mut factors, mut n) = ([1.0; 13], 1);
        while n < 13 {
            factors[n] = factors[n - 1] / n as f64;
            n += 1;
        }
        factors
    };
    let x = if x > -700.0 { x } else { -700.0 };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let integer = shifted - ROUND;
    let rest = (x - integer * LN_2.0) - integer * LN_2.1;
    let power = TAYLOR.into_iter().rev().fold(0.0, |sum, factor| sum * rest + factor);
    f64::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// Error in ulps of `expected`; infinite for NaN. Below the normal range only the size is promised, and checked with a
/// margin, since `found` may be just above.
#[inline(always)]
fn error(found: f32, expected: f64) -> f64 {
    const NORMAL: f64 = f32::MIN_POSITIVE as f64;
    let (found, size) = (f64::from(found), expected.abs());
    // 2^(23 − exponent of `expected`)
    let units = f64::from_bits(((2 * 1023 + 23u64) << 52).wrapping_sub(size.to_bits() & (0x7ff << 52)));
    let of_normal = (found - expected).abs() * units;
    let of_others = if found.abs() <= NORMAL * (1.0 + 1e-6) { 0.0 } else { f64::INFINITY };
    let error = if size < NORMAL { of_others } else { of_normal };
    if error <= f64::MAX { error } else { f64::INFINITY }
}

/// [`error`] of a loss that its weight may have brought to the largest f32 or beyond.
fn error_of_loss(found: f32, expected: f64) -> f64 {
    const END: f64 = f32::MAX as f64;
    if expected < END * (1.0 - 1e-6) {
        error(found, expected)
    } else if f64::from(found) > END * (1.0 - 2e-6) {
        0.0
    } else {
        f64::INFINITY
    }
}

fn sum(terms: &[f64]) -> f64 {
    // Four partial sums, as a single one waits for each addition.
    let (fours, rest) = terms.as_chunks::<4>();
    let sums = fours.iter().fold([0.0; 4], |sums, four| std::array::from_fn(|i| sums[i] + four[i]));
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest.iter().sum::<f64>()
}

/// Rows with their losses and gradient in f64.
#[derive(Default)]
struct Batch {
    classes: usize,
    /// `None` where each row has a regime of its own.
    regime: Option<Regime>,
    logits: Vec<f32>,
    labels: Vec<u8>,
    /// All ones where the loss is not `weighted`.
    weights: Vec<f32>,
    weighted: bool,
    losses: Vec<f64>,
    gradient: Vec<f64>,
}

impl Batch {
    fn new(classes: usize) -> Self {
        Self { classes, ..Self::default() }
    }

    /// Draws new rows and weights, and computes their references.
    fn draw(&mut self, rows: usize, rng: &mut Rng) {
        // Half of the batches are of a regime in which every rounding counts.
        let hard = [Regime::Ordinary, Regime::Confident, Regime::Wide, Regime::Leading, Regime::FewLarge];
        let all = || REGIMES.into_iter().chain(MORE_REGIMES);
        let any = |rng: &mut Rng| all().nth(rng.below(all().count())).unwrap();
        self.regime = match rng.below(16) {
            0..8 => Some(hard[rng.below(hard.len())]),
            8 => None,
            _ => Some(any(rng)),
        };
        self.logits.resize(rows * self.classes, 0.0);
        self.labels.clear();
        for row in self.logits.chunks_exact_mut(self.classes) {
            let regime = self.regime.unwrap_or_else(|| any(rng));
            self.labels.push(regime.fill(row, rng) as u8);
        }
        let kind = rng.below(8);
        self.weighted = kind != 0;
        let range = [0.0, 60.0, 3.0][kind.min(2)];
        self.weights.clear();
        self.weights.extend((0..self.classes).map(|_| rng.between(-range, range).exp2()));
        self.refer();
    }

    /// With E = Σ exp(x_k − x_m) over all but the largest logit m, the loss is x_m − x_y + log(1 + E).
    fn refer(&mut self) {
        self.losses.clear();
        self.gradient.resize(self.logits.len(), 0.0);
        let gradients = self.gradient.chunks_exact_mut(self.classes);
        for ((row, gradient), &label) in self.logits.chunks_exact(self.classes).zip(gradients).zip(&self.labels) {
            let label = usize::from(label);
            let weight = f64::from(self.weights[label]);
            let largest = f64::from(row.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m }));
            for (power, &x) in gradient.iter_mut().zip(row) {
                *power = exp(f64::from(x) - largest);
            }
            let of_label = std::mem::replace(&mut gradient[label], 0.0);
            let others = sum(gradient);
            let gap = largest - f64::from(row[label]);
            self.losses.push(weight * (gap + (others + (of_label - 1.0)).ln_1p()));
            let factor = weight / (others + of_label);
            for power in &mut *gradient {
                *power *= factor;
            }
            gradient[label] = -others * factor;
        }
    }

    fn compute(&self, backend: Backend, losses: &mut Vec<f32>, gradient: &mut Vec<f32>) {
        losses.clear();
        losses.resize(self.labels.len(), f32::NAN);
        gradient.clear();
        gradient.resize(self.logits.len(), f32::NAN);
        let mut loss = CrossEntropy::new(self.classes).reduction(Reduction::Sum).backend(backend);
        if self.weighted {
            loss = loss.class_weights(&self.weights);
        }
        loss.row_losses(&self.logits, &self.labels, losses).unwrap();
        loss.gradient(&self.logits, &self.labels, 1.0, gradient).unwrap();
    }

    /// Regime, label, weight and logits of a row.
    fn describe(&self, row: usize) -> String {
        let label = self.labels[row];
        let logits = &self.logits[row * self.classes..][..self.classes];
        let weight = self.weights[usize::from(label)];
        format!("{}, label {label}, weight {weight}, logits {logits:?}", name(self.regime))
    }
}

fn name(regime: Option<Regime>) -> String {
    regime.map_or("Mixed".into(), |regime| format!("{regime:?}"))
}

/// The largest error, where it is, and how many are beyond the bound.
#[derive(Clone, Default)]
struct Worst {
    error: f64,
    regime: Option<Regime>,
    place: String,
    beyond: u64,
}

impl Worst {
    fn add(&mut self, error: f64, bound: f64, batch: &Batch, at: impl FnOnce() -> String) {
        self.beyond += u64::from(error > bound);
        if error > self.error {
            *self = Self { error, regime: batch.regime, place: at(), beyond: self.beyond };
        }
    }

    fn merge(&mut self, other: Self) {
        let beyond = self.beyond + other.beyond;
        // Of equal errors the place decides, not the order in which threads end.
        if other.error > self.error || other.error == self.error && other.place > self.place {
            *self = other;
        }
        self.beyond = beyond;
    }

    fn cell(&self) -> String {
        if self.place.is_empty() {
            return "–".into();
        }
        let beyond = if self.beyond == 0 { String::new() } else { format!(", {} beyond", self.beyond) };
        format!("{:.2} {}{beyond}", self.error, name(self.regime))
    }
}

/// The worst of the loss and of the gradient.
#[derive(Clone, Default)]
struct Errors([Worst; 2]);

impl Errors {
    fn add(&mut self, batch: &Batch, backend: Backend, losses: &[f32], gradient: &[f32]) {
        let [of_loss, of_gradient] = &mut self.0;
        for (row, (&found, &expected)) in losses.iter().zip(&batch.losses).enumerate() {
            let error = error_of_loss(found, expected);
            of_loss.add(error, LOSS_ULPS, batch, || {
                format!("{backend}: loss {found:e} for {expected:e}, {}", batch.describe(row))
            });
        }
        let limit = of_gradient.error.min(GRADIENT_ULPS);
        let pairs = || gradient.iter().zip(&batch.gradient);
        // Counting is vectorised, and all that is done for most batches.
        if pairs().map(|(&found, &expected)| u64::from(error(found, expected) > limit)).sum::<u64>() == 0 {
            return;
        }
        for (index, (&found, &expected)) in pairs().enumerate() {
            of_gradient.add(error(found, expected), GRADIENT_ULPS, batch, || {
                let (row, class) = (index / batch.classes, index % batch.classes);
                format!("{backend}: gradient {class} {found:e} for {expected:e}, {}", batch.describe(row))
            });
        }
    }

    fn merge(&mut self, other: Self) {
        for (worst, other) in self.0.iter_mut().zip(other.0) {
            worst.merge(other);
        }
    }
}

/// One of so many batches is computed by the backends that are not the best of their class of same bits (`others`), and
/// by those that emulate FMA (`slow`).
#[derive(Clone, Copy)]
struct Shares {
    others: usize,
    slow: usize,
}

/// The errors of each class of same bits.
type ErrorsOfClasses = [Errors; CLASS_NAMES.len()];

/// The errors over this many rows, the same whatever the number of threads.
fn errors(classes: usize, rows: usize, seed: u64, shares: Shares) -> ErrorsOfClasses {
    // (backend, index of its class, share)
    let backends: Vec<(Backend, usize, usize)> = common::same_bits_classes(available())
        .into_iter()
        .flat_map(|class| class.into_iter().enumerate())
        .map(|(place, backend)| {
            let class = CLASS_NAMES.into_iter().position(|name| name == class_of(backend)).unwrap();
            let share = if place == 0 { 1 } else { shares.others };
            (backend, class, if is_slow(backend) { shares.slow } else { share })
        })
        .collect();
    let rows_of_batch = (BATCH / classes).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut errors = ErrorsOfClasses::default();
        let (mut batch, mut losses, mut gradient) = (Batch::new(classes), Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= rows.div_ceil(rows_of_batch) {
                return errors;
            }
            let mut rng = Rng(seed << 48 ^ (classes as u64) << 36 ^ number as u64);
            rng = Rng(rng.bits());
            // So that vectors leave remainders of every length.
            batch.draw(rows_of_batch + number % 8, &mut rng);
            for &(backend, class, share) in &backends {
                if number.is_multiple_of(share) {
                    batch.compute(backend, &mut losses, &mut gradient);
                    errors[class].add(&batch, backend, &losses, &gradient);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = ErrorsOfClasses::default();
        for thread in threads {
            for (all, errors) in all.iter_mut().zip(thread.join().unwrap()) {
                all.merge(errors);
            }
        }
        all
    })
}

/// Prints a table with a line for each number of classes, then one with a line for each range of them, and fails where
/// an error exceeds its bound.
fn measure(classes: impl Iterator<Item = usize>, rows: usize, seed: u64, shares: Shares) {
    let mut names = String::from("| classes |");
    for quantity in ["loss", "gradient"] {
        for class in CLASS_NAMES {
            write!(names, " {quantity}: {class} |").unwrap();
        }
    }
    write!(names, "\n|{}", "---|".repeat(1 + 2 * CLASS_NAMES.len())).unwrap();
    println!("{names}");
    let line = |name: &str, errors: &ErrorsOfClasses| {
        let mut line = format!("| {name} |");
        for quantity in 0..2 {
            for errors in errors {
                write!(line, " {} |", errors.0[quantity].cell()).unwrap();
            }
        }
        println!("{line}");
    };
    let begin = Instant::now();
    let ends = [2, 3, 4, 8, 16, 32, 64, 128];
    let mut groups = vec![None; ends.len()];
    let mut beyond = String::new();
    for classes in classes {
        let errors = errors(classes, rows, seed, shares);
        line(&classes.to_string(), &errors);
        for errors in &errors {
            for worst in errors.0.iter().filter(|worst| worst.beyond > 0) {
                writeln!(beyond, "{classes} classes, {} ulp, {}", worst.error, worst.place).unwrap();
            }
        }
        let group: &mut Option<ErrorsOfClasses> = &mut groups[ends.partition_point(|&end| end < classes)];
        for (all, errors) in group.get_or_insert_default().iter_mut().zip(errors) {
            all.merge(errors);
        }
    }
    println!("\n{names}");
    for ((&end, before), group) in ends.iter().zip(std::iter::once(&1).chain(&ends)).zip(&groups) {
        let name = if before + 1 == end { end.to_string() } else { format!("{}–{end}", before + 1) };
        if let Some(errors) = group {
            line(&name, errors);
        }
    }
    println!("{:.1} s", begin.elapsed().as_secs_f64());
    assert!(beyond.is_empty(), "beyond the bounds, the worst of each kind:\n{beyond}");
}

#[test]
fn the_references_of_many_rows_are_those_of_one() {
    let mut rng = Rng(11);
    for i in 0..100_000 {
        let x = f64::from(rng.between(-745.0, 0.0)) * [1.0, 0.1, 1e-4, 1e-9][i % 4];
        let error = exp(x) / x.max(-700.0).exp() - 1.0;
        assert!(error.abs() < 1e-14, "exp of {x}: {error:e}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(f64::NEG_INFINITY), exp(-700.0));

    for classes in [2, 3, 10, 37] {
        let mut batch = Batch::new(classes);
        for _ in 0..60 {
            batch.draw(20, &mut rng);
            for (row, &label) in batch.labels.iter().enumerate() {
                let weight = f64::from(batch.weights[usize::from(label)]);
                let (logits, label) = (&batch.logits[row * classes..][..classes], usize::from(label));
                let of = |fast: f64, slow: f64| {
                    let close = (fast - slow).abs() <= 1e-12 * slow.abs() || slow.abs() < 1e-290;
                    assert!(close, "{fast:e} for {slow:e}, {}", batch.describe(row));
                };
                of(batch.losses[row], weight * common::reference::loss(logits, label));
                for (fast, slow) in
                    batch.gradient[row * classes..].iter().zip(common::reference::gradient(logits, label))
                {
                    of(*fast, weight * slow);
                }
            }
        }
    }
}

#[test]
fn errors_of_many_rows_are_those_of_one() {
    let mut rng = Rng(12);
    for _ in 0..100_000 {
        let expected = f64::from(rng.between(-126.0, 126.0)).exp2() * f64::from(rng.between(1.0, 1.1));
        let expected = if rng.below(2) == 0 { expected } else { -expected };
        let near = f32::from_bits((expected as f32).to_bits() + rng.below(8) as u32 - 4);
        let found = [near, 0.0, -near, f32::INFINITY, f32::NAN][rng.below(40).saturating_sub(35)];
        assert_eq!(error(found, expected), common::error_in_ulps(found, expected), "{found:e} for {expected:e}");
        assert_eq!(error_of_loss(found, expected), error(found, expected));
    }
    assert_eq!(error(0.0, 0.0), 0.0);
    assert_eq!(error(-1e-39, 1e-300), 0.0);
    assert_eq!(error(1e-37, 1e-39), f64::INFINITY);
    assert_eq!(error(0.0, f64::from(f32::MIN_POSITIVE)), f64::from(1 << 23));
    assert_eq!(error(f32::MIN_POSITIVE, f64::from(f32::MIN_POSITIVE) * 0.999_999_99), 0.0);
    assert_eq!(error(f32::NAN, 0.0), f64::INFINITY);
    assert_eq!(error_of_loss(f32::INFINITY, 1e40), 0.0);
    assert_eq!(error_of_loss(1e38, 1e40), f64::INFINITY);
    assert_eq!(error_of_loss(f32::NAN, 1e40), f64::INFINITY);
}

#[test]
fn twenty_thousand_rows_of_some_numbers_of_classes_are_within_the_bounds() {
    backends();
    measure([2, 3, 4, 10, 16, 33, 128].into_iter(), 20_000, 0, Shares { others: 1, slow: 20 });
}

// On demand, with the bench profile, since that of tests is three times as slow; also for some numbers of classes, for
// fewer rows or another seed:
//
// cargo test --profile bench --test accuracy_by_classes ten_million -- --ignored --nocapture
// RWWCE_CLASSES=2,10,100 RWWCE_ROWS=1000000 RWWCE_SEED=1 cargo test ...
//
// A row of 2 classes takes a fifth of a microsecond of one core, one of 100 classes three.
#[test]
#[ignore = "127 times ten million rows take some twenty minutes on two cores"]
fn ten_million_rows_of_each_number_of_classes_are_within_the_bounds() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
    };
    let classes = std::env::var("RWWCE_CLASSES").map_or((2..=128).collect(), |list| -> Vec<usize> {
        list.split(',').map(|classes| classes.trim().parse().expect("RWWCE_CLASSES")).collect()
    });
    assert!(classes.iter().all(|classes| (2..=128).contains(classes)), "RWWCE_CLASSES are from 2 to 128");
    let (rows, seed) = (number("RWWCE_ROWS", 10_000_000) as usize, number("RWWCE_SEED", 0));

    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let processor = processor.unwrap_or(std::env::consts::ARCH);
    let date = std::process::Command::new("date").args(["-u", "+%F"]).output().map_or(Vec::new(), |date| date.stdout);
    let date = String::from_utf8_lossy(&date);
    println!("{rows} rows of each number of classes, seed {seed}, {processor}, {}", date.trim());
    backends();
    // Backends of a class return the same bits, which other tests check.
    measure(classes.into_iter(), rows, seed, Shares { others: 32, slow: 1000 });
}
