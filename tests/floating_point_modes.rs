//! Results where the host program has changed the processor's floating-point mode: subnormal numbers are flushed to
//! zero, or rounding is not to nearest.
//!
//! Rust assumes the default mode, and so does the accuracy that the crate promises. In any mode nothing panics or
//! hangs, errors are found, NaN and infinity stay what they are, and results are near the textbook's, within the
//! measured bounds of `bound`.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

mod common;
#[path = "common/costs.rs"]
mod costs;
#[path = "common/textbook.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod textbook;

use common::{REGIMES, Regime, Rng, backends, bits, class_of, is_slow, pattern, raw_bits, ulp};
use costs::{Costs, softmax};
use rwwce::{
    Backend, BinaryCrossEntropy, ClassWeights, CrossEntropy, Error, Logits, Normalisation, Reduction, RowPartial,
    Scheme, ZeroDenominator, weighted_row_losses,
};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::AddAssign;
use std::sync::Mutex;
use textbook::{Probabilities, Sum, Terms};

/// A mode, by the bits of the control register that it sets.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mode {
    name: &'static str,
    bits: u64,
    /// Whether it does not round to nearest.
    rounds: bool,
    /// Whether subnormal inputs or results are flushed to zero.
    flushes: bool,
    /// Whether positive overflow gives the largest f32 instead of infinity.
    never_infinite: bool,
}

#[cfg(target_arch = "x86_64")]
mod control {
    use super::Mode;
    use std::arch::asm;

    /// MXCSR without the exception flags (bits 0 to 5).
    pub(crate) fn get() -> u64 {
        let mut register = 0u32;
        // SAFETY: `stmxcsr` writes the four bytes of `register`, and changes nothing else.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut register, options(nostack, preserves_flags)) };
        u64::from(register & !0x3f)
    }

    pub(crate) fn set(bits: u64) {
        let register = bits as u32;
        // SAFETY: `ldmxcsr` reads these four bytes; the reserved bits are zero, as `get` has found them. Rust assumes
        // the default mode: code in another is called through a pointer opaque to the compiler, and nothing in floating
        // point is computed on this side of the call.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &register, options(nostack)) };
    }

    const DAZ: u64 = 1 << 6;
    const FTZ: u64 = 1 << 15;
    const DOWN: u64 = 1 << 13;
    const UP: u64 = 2 << 13;
    const TO_ZERO: u64 = 3 << 13;

    pub(crate) const MODES: [Mode; 7] = [
        Mode { name: "denormals are zero", bits: DAZ, rounds: false, flushes: true, never_infinite: false },
        Mode { name: "flush to zero", bits: FTZ, rounds: false, flushes: true, never_infinite: false },
        Mode { name: "both", bits: DAZ | FTZ, rounds: false, flushes: true, never_infinite: false },
        Mode { name: "up", bits: UP, rounds: true, flushes: false, never_infinite: false },
        Mode { name: "down", bits: DOWN, rounds: true, flushes: false, never_infinite: true },
        Mode { name: "toward zero", bits: TO_ZERO, rounds: true, flushes: false, never_infinite: true },
        Mode {
            name: "toward zero, both",
            bits: TO_ZERO | DAZ | FTZ,
            rounds: true,
            flushes: true,
            never_infinite: true,
        },
    ];
}

#[cfg(target_arch = "aarch64")]
mod control {
    use super::Mode;
    use std::arch::asm;

    pub(crate) fn get() -> u64 {
        let register: u64;
        // SAFETY: reading FPCR changes nothing.
        unsafe { asm!("mrs {}, fpcr", out(reg) register, options(nomem, nostack, preserves_flags)) };
        register
    }

    pub(crate) fn set(bits: u64) {
        // SAFETY: every program may write FPCR, and only bits that `get` has found or that are named below are set.
        // Rust assumes the default mode: code in another is called through a pointer opaque to the compiler, and
        // nothing in floating point is computed on this side of the call.
        unsafe { asm!("msr fpcr, {}", in(reg) bits, options(nostack)) };
    }

    const FZ: u64 = 1 << 24;
    const UP: u64 = 1 << 22;
    const DOWN: u64 = 2 << 22;
    const TO_ZERO: u64 = 3 << 22;

    pub(crate) const MODES: [Mode; 5] = [
        Mode { name: "both", bits: FZ, rounds: false, flushes: true, never_infinite: false },
        Mode { name: "up", bits: UP, rounds: true, flushes: false, never_infinite: false },
        Mode { name: "down", bits: DOWN, rounds: true, flushes: false, never_infinite: true },
        Mode { name: "toward zero", bits: TO_ZERO, rounds: true, flushes: false, never_infinite: true },
        Mode { name: "toward zero, both", bits: TO_ZERO | FZ, rounds: true, flushes: true, never_infinite: true },
    ];
}

use control::MODES;

/// Restores a mode when dropped, also where a test panics.
struct Restore(u64);

impl Drop for Restore {
    fn drop(&mut self) {
        control::set(self.0);
    }
}

/// Calls `run` in a mode, which must be the same afterwards.
#[inline(never)]
fn in_mode(mode: Option<Mode>, run: &dyn Fn()) {
    let run = black_box(run);
    let before = control::get();
    let restore = Restore(before);
    let wanted = before | mode.map_or(0, |mode| mode.bits);
    control::set(wanted);
    run();
    let after = control::get();
    drop(restore);
    assert_eq!(after, wanted, "the library has changed the mode");
    assert_eq!(control::get(), before);
}

/// Kinds of results whose errors are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Weighted,
    WeightedGradient,
    Other,
    OtherGradient,
    Logs,
    Parts,
    Probabilities,
    ClassWeights,
}

/// A call, and its results in the default mode by the textbook; `None` where the textbook has none.
struct Job<'a> {
    name: &'static str,
    kind: Kind,
    run: Box<dyn Fn(Backend) -> Result<Vec<f32>, Error> + Sync + 'a>,
    expected: Vec<Option<Sum>>,
    /// The modes that round otherwise than to nearest in which a result may be anything; empty where there is none.
    lost: Vec<Lost>,
}

impl<'a> Job<'a> {
    fn new(
        name: &'static str,
        kind: Kind,
        run: impl Fn(Backend) -> Result<Vec<f32>, Error> + Sync + 'a,
        expected: Vec<Option<Sum>>,
    ) -> Self {
        Self { name, kind, run: Box::new(run), expected, lost: vec![] }
    }
}

/// The modes, of those that round otherwise than to nearest, in which the results of a row may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    Never,
    /// Modes without overflow to infinity, where Σ exp(x_k − x_y) overflows, or some logit is +∞.
    WhereNeverInfinite,
    /// All of these modes: a logit is next to the largest f32.
    Always,
}

/// Where log Σ exp(x_k − x_y) is above this, the sum may overflow on the way to the loss.
const TRAILS: f64 = 57.0;

/// Above this a few roundings up overflow, and rounding down does not bring infinity back into range.
const LARGEST: f64 = f32::MAX as f64 * (1.0 - 1e-6);

/// Rows with the inputs of every loss. Element (row, class) is at row·C + class, or with `across` at class·N + row.
struct Batch {
    name: String,
    classes: usize,
    rows: usize,
    across: bool,
    x: Vec<f32>,
    y: Vec<u16>,
    weights: Vec<f32>,
    samples: Vec<f32>,
    costs: Vec<f32>,
    q: Vec<f32>,
    p: Vec<f32>,
    log_p: Vec<f32>,
    bytes: Vec<i8>,
    halves: Vec<half::f16>,
    targets: Vec<f32>,
}

impl Batch {
    fn new(regime: Regime, special: bool, classes: usize, rows: usize, across: bool, rng: &mut Rng) -> Self {
        let len = classes * rows;
        let (mut x, mut y) = (vec![0.0; len], vec![0; rows]);
        let at = |row: usize, class: usize| if across { class * rows + row } else { row * classes + class };
        for row in 0..rows {
            let (mut logits, label) = regime.row(classes, rng);
            if special {
                const SPECIAL: [f32; 8] =
                    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-40, 0.0, 90.0];
                for _ in 0..1 + rng.below(3) {
                    logits[rng.below(classes)] = SPECIAL[rng.below(8)];
                }
            }
            y[row] = label as u16;
            for (class, logit) in logits.into_iter().enumerate() {
                x[at(row, class)] = logit;
            }
        }
        let mut numbers =
            |len: usize, low: f32, high: f32| -> Vec<f32> { (0..len).map(|_| rng.between(low, high)).collect() };
        let (weights, samples) = (numbers(classes, 0.1, 5.0), numbers(rows, 0.1, 5.0));
        let mut costs = if classes <= 40 { numbers(classes * classes, 0.0, 30.0) } else { vec![] };
        costs.iter_mut().step_by(classes + 1).for_each(|of_truth| *of_truth = 0.0);
        let (q, mut p, log_p) = (numbers(len, 0.0, 1.0), numbers(len, 0.0, 1.0), numbers(len, -90.0, 0.0));
        p.iter_mut().step_by(7).for_each(|p| *p *= 1e-30);
        let targets = numbers(len, 0.0, 1.0);
        let bytes = (0..len).map(|_| rng.bits() as i8).collect();
        let halves = x.iter().map(|&x| half::f16::from_f32(x)).collect();
        let name = format!(
            "{regime:?}{} {rows}×{classes}{}",
            if special { ", special" } else { "" },
            if across { " across" } else { "" }
        );
        Self { name, classes, rows, across, x, y, weights, samples, costs, q, p, log_p, bytes, halves, targets }
    }

    fn element(&self, row: usize, class: usize) -> usize {
        if self.across { class * self.rows + row } else { row * self.classes + class }
    }

    fn row(&self, of: &[f32], row: usize) -> Vec<f32> {
        (0..self.classes).map(|class| of[self.element(row, class)]).collect()
    }

    /// The loss without options, reduced to the sum.
    fn loss(&self) -> CrossEntropy<'_> {
        CrossEntropy::new(self.classes).positions(if self.across { self.rows } else { 1 }).reduction(Reduction::Sum)
    }

    fn weight(&self, class: usize) -> f64 {
        f64::from(self.weights[class])
    }

    /// The losses of the rows and their sum.
    fn losses(&self, x: &[f32], terms: &dyn Fn(usize) -> (Terms, f64)) -> Vec<Option<Sum>> {
        let mut losses: Vec<Sum> = (0..self.rows)
            .map(|row| {
                let (terms, sample) = terms(row);
                terms.loss(&Probabilities::new(&self.row(x, row))).times(sample)
            })
            .collect();
        let mut total = Sum::default();
        for loss in &losses {
            total.value += loss.value;
            total.size += loss.size;
        }
        losses.push(total);
        losses.into_iter().map(Some).collect()
    }

    fn gradient(&self, x: &[f32], terms: &dyn Fn(usize) -> (Terms, f64)) -> Vec<Option<Sum>> {
        let mut gradient = vec![None; x.len()];
        for row in 0..self.rows {
            let (terms, sample) = terms(row);
            let known = terms.gradient(&Probabilities::new(&self.row(x, row)));
            for (class, expected) in known.into_iter().enumerate() {
                gradient[self.element(row, class)] = expected.map(|sum| sum.times(sample));
            }
        }
        gradient
    }

    /// Adds the jobs of a loss with labels.
    fn add<'a>(
        &'a self,
        jobs: &mut Vec<Job<'a>>,
        name: &'static str,
        kinds: [Kind; 2],
        loss: CrossEntropy<'a>,
        (logits, x): (Logits<'a>, &[f32]),
        terms: &dyn Fn(usize) -> (Terms, f64),
    ) {
        let run = move |backend| {
            let mut losses = vec![7.0; self.rows];
            let summary = loss.backend(backend).row_losses(logits, &self.y, &mut losses)?;
            losses.push(summary.loss);
            Ok(losses)
        };
        let lost = |row: usize| {
            let (row, label) = (self.row(x, row), usize::from(self.y[row]));
            if row.iter().any(|x| x.is_finite() && f64::from(x.abs()) > LARGEST) {
                Lost::Always
            } else if kinds[0] != Kind::Weighted {
                // With options the reference is the largest logit, and nothing overflows.
                Lost::Never
            } else if row.contains(&f32::INFINITY)
                || row.iter().map(|&x| (f64::from(x) - f64::from(row[label])).exp()).sum::<f64>() > TRAILS.exp()
            {
                Lost::WhereNeverInfinite
            } else {
                Lost::Never
            }
        };
        let mut of_rows: Vec<Lost> = (0..self.rows).map(lost).collect();
        let of_elements = (0..x.len()).map(|i| of_rows[if self.across { i % self.rows } else { i / self.classes }]);
        let of_elements: Vec<Lost> = of_elements.collect();
        of_rows.extend(of_elements.iter().max());
        jobs.push(Job { lost: of_rows, ..Job::new(name, kinds[0], run, self.losses(x, terms)) });
        let run = move |backend| {
            let mut gradient = vec![7.0; logits.len()];
            loss.backend(backend).gradient(logits, &self.y, 1.0, &mut gradient)?;
            Ok(gradient)
        };
        let expected = self.gradient(x, terms);
        jobs.push(Job { lost: of_elements.clone(), ..Job::new(name, kinds[1], run, expected.clone()) });
        if let Logits::F32(logits) = logits {
            let run = move |backend| {
                let mut over = logits.to_vec();
                loss.backend(backend).gradient_in_place(&mut over, &self.y, 1.0)?;
                Ok(over)
            };
            jobs.push(Job { lost: of_elements, ..Job::new(name, kinds[1], run, expected) });
        }
    }

    fn jobs(&self) -> Vec<Job<'_>> {
        use Kind::{Logs, Other, OtherGradient, Parts, Weighted, WeightedGradient};
        let mut jobs = Vec::new();
        let classes = self.classes as f64;
        let label = |row: usize| usize::from(self.y[row]);
        let sample = |row: usize| f64::from(self.samples[row]);
        let f32s = (Logits::F32(&self.x), &self.x[..]);
        let plain = self.loss();
        let weighted = plain.class_weights(&self.weights);
        let both = weighted.sample_weights(&self.samples);
        let own = |row: usize| Terms { label: label(row), own: self.weight(label(row)), ..Terms::default() };
        self.add(&mut jobs, "weighted", [Weighted, WeightedGradient], weighted, f32s, &|row| (own(row), 1.0));

        let evenly = |share: f64| (0..self.classes).map(|k| self.weight(k) * share / classes).collect::<Vec<f64>>();
        let smoothing = f64::from(0.1f32);
        let smoothed = |row: usize| {
            let own = self.weight(label(row)) * (1.0 - smoothing);
            (Terms { label: label(row), own, spread: evenly(smoothing), ..Terms::default() }, sample(row))
        };
        let others = [Other, OtherGradient];
        self.add(&mut jobs, "smoothed", others, both.label_smoothing(0.1), f32s, &smoothed);
        if !self.costs.is_empty() {
            let of_row = |row: usize| {
                let costs = self.costs[label(row) * self.classes..][..self.classes].iter().map(|&x| x.into()).collect();
                (Terms { costs, ..own(row) }, sample(row))
            };
            self.add(&mut jobs, "real-world", others, both.mislabel_costs(&self.costs), f32s, &of_row);
        }
        let (focal, z_loss) = (1.5, f64::from(1e-3f32));
        let of_row = |row: usize| (Terms { focal, z_loss, ..own(row) }, sample(row));
        self.add(&mut jobs, "focal, z-loss", others, both.focal(1.5).z_loss(1e-3), f32s, &of_row);

        // Integers times ¼ are exact in every rounding mode.
        let dequantised: Vec<f32> = self.bytes.iter().map(|&q| (f32::from(q) - 3.0) * 0.25).collect();
        let narrow = Logits::I8 { values: &self.bytes, scale: 0.25, zero_point: 3 };
        let plain_kinds = [Weighted, WeightedGradient];
        self.add(&mut jobs, "i8", plain_kinds, weighted, (narrow, &dequantised), &|row| (own(row), 1.0));
        let widened: Vec<f32> = self.halves.iter().map(|x| x.to_f32()).collect();
        let narrow = Logits::F16(&self.halves);
        self.add(&mut jobs, "f16", plain_kinds, weighted, (narrow, &widened), &|row| (own(row), 1.0));

        let of_soft = |row: usize| {
            let q = self.row(&self.q, row);
            let spread = q.iter().enumerate().map(|(k, &q)| self.weight(k) * f64::from(q)).collect();
            (Terms { spread, ..Terms::default() }, sample(row))
        };
        let run = move |backend| {
            let mut losses = vec![7.0; self.rows];
            let summary = both.backend(backend).soft_row_losses(&self.x, &self.q, &mut losses)?;
            losses.push(summary.loss);
            Ok(losses)
        };
        jobs.push(Job::new("soft", Other, run, self.losses(&self.x, &of_soft)));
        let run = move |backend| {
            let mut gradient = vec![7.0; self.x.len()];
            both.backend(backend).soft_gradient(&self.x, &self.q, 1.0, &mut gradient)?;
            Ok(gradient)
        };
        let expected = self.gradient(&self.x, &of_soft);
        jobs.push(Job::new("soft", OtherGradient, run, expected));

        let binary = BinaryCrossEntropy::new(1).reduction(Reduction::Sum);
        let of_logit = |z: f32, t: f32| {
            let (z, t) = (f64::from(z), f64::from(t));
            let minus_log_sigmoid = |z: f64| if z > 0.0 { (-z).exp().ln_1p() } else { -z + z.exp().ln_1p() };
            let sigmoid = |z: f64| if z > 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) };
            if z.is_nan() {
                return [Sum::NAN; 2];
            }
            let (mut loss, mut slope) = (Sum::default(), Sum::default());
            loss.add(t, minus_log_sigmoid(z));
            loss.add(1.0 - t, minus_log_sigmoid(-z));
            slope.add(t, -sigmoid(-z));
            slope.add(1.0 - t, sigmoid(z));
            [loss, slope]
        };
        for (side, kind) in [Other, OtherGradient].into_iter().enumerate() {
            let run = move |backend| {
                let mut out = vec![7.0; self.x.len()];
                let loss = binary.backend(backend);
                if side == 0 {
                    loss.row_losses(&self.x, &self.targets, &mut out)?;
                } else {
                    loss.gradient(&self.x, &self.targets, 1.0, &mut out)?;
                }
                Ok(out)
            };
            let expected = self.x.iter().zip(&self.targets).map(|(&z, &t)| Some(of_logit(z, t)[side])).collect();
            jobs.push(Job::new("binary", kind, run, expected));
        }

        let known: Vec<Probabilities> = (0..self.rows).map(|row| Probabilities::new(&self.row(&self.x, row))).collect();
        let run = move |backend| {
            let mut sums = vec![7.0; self.rows];
            plain.backend(backend).log_sum_exps(&self.x, &mut sums)?;
            if !self.across {
                sums.extend(self.x.chunks(self.classes).map(|row| backend.log_sum_exp(row)));
            }
            Ok(sums)
        };
        // Relative to at least 1, since the result may be near zero.
        let of_row = |row: usize| {
            let value = known[row].log_sum_exp;
            let mut sum = Sum::of(value);
            sum.size = sum.size.max(1.0);
            Some(sum)
        };
        let expected = (0..self.rows * if self.across { 1 } else { 2 }).map(|i| of_row(i % self.rows)).collect();
        jobs.push(Job::new("log-sum-exp", Logs, run, expected));
        let run = move |backend| {
            let mut logs = vec![7.0; self.x.len()];
            plain.backend(backend).log_probabilities(&self.x, &mut logs)?;
            Ok(logs)
        };
        let mut expected = vec![None; self.x.len()];
        for (row, known) in known.iter().enumerate() {
            for (class, value) in known.minus_log_p.iter().enumerate() {
                expected[self.element(row, class)] = Some(Sum::of(-value));
            }
        }
        jobs.push(Job::new("log-probabilities", Logs, run, expected));

        let deciding = if self.costs.is_empty() { plain } else { plain.mislabel_costs(&self.costs) };
        let run = move |backend| {
            let (mut decisions, mut costs) = (vec![7; self.rows], vec![7.0; self.rows]);
            deciding.class_weights(&self.weights).backend(backend).decide(&self.x, &mut decisions, Some(&mut costs))?;
            Ok(costs)
        };
        let mislabel = (!self.costs.is_empty()).then(|| self.costs.clone());
        let costs = Costs { miss: Some(self.weights.clone()), mislabel };
        let of_row = |row: usize| {
            let p = softmax(&self.row(&self.x, row));
            let least =
                p.map(|p| (0..self.classes).map(|class| costs.expected(&p, class)).fold(f64::INFINITY, f64::min));
            Some(least.map_or(Sum::NAN, Sum::of))
        };
        jobs.push(Job::new("expected costs", Logs, run, (0..self.rows).map(of_row).collect()));

        if !self.across {
            let cut = self.classes / 2;
            let run = move |backend| {
                let mut all = Vec::new();
                for (row, &y) in self.x.chunks(self.classes).zip(&self.y) {
                    let y = usize::from(y);
                    let (low, high) = row.split_at(cut);
                    let inside = (y < cut).then_some(y);
                    let mut whole = RowPartial::with_backend(low, inside, backend)?;
                    whole.merge(&RowPartial::with_backend(high, y.checked_sub(cut), backend)?);
                    all.push(whole.loss(1.0)?);
                    let mut gradient = vec![7.0; cut];
                    whole.gradient(low, inside, 1.0, &mut gradient)?;
                    all.extend(gradient);
                }
                Ok(all)
            };
            let mut expected = Vec::new();
            for (row, known) in known.iter().enumerate() {
                let terms = Terms { own: 1.0, ..own(row) };
                expected.push(Some(terms.loss(known)));
                expected.extend(terms.gradient(known).into_iter().take(cut));
            }
            jobs.push(Job::new("row parts", Parts, run, expected));
        }

        for eps in [0.0, 1e-7] {
            let run = move |backend| {
                let mut losses = vec![7.0; self.rows];
                weighted.backend(backend).row_losses_from_probabilities(&self.p, &self.y, eps, &mut losses)?;
                Ok(losses)
            };
            let of_row = |row: usize| {
                let p = f64::from(self.p[self.element(row, label(row))]) + f64::from(eps);
                Some(Sum::of(-self.weight(label(row)) * p.ln()))
            };
            let expected = (0..self.rows).map(of_row).collect();
            jobs.push(Job::new("from probabilities", Kind::Probabilities, run, expected));
        }
        let run = move |backend| {
            let mut losses = vec![7.0; self.rows];
            weighted.backend(backend).row_losses_from_log_probabilities(&self.log_p, &self.y, &mut losses)?;
            Ok(losses)
        };
        let of_row =
            |row: usize| Some(Sum::of(-self.weight(label(row)) * f64::from(self.log_p[self.element(row, label(row))])));
        let expected = (0..self.rows).map(of_row).collect();
        jobs.push(Job::new("from log-probabilities", Kind::Probabilities, run, expected));

        if !self.across {
            let run = move |_| {
                let mut losses = vec![7.0; self.rows];
                weighted_row_losses(self.classes, &self.x, &self.y, Some(&self.weights), &mut losses)?;
                Ok(losses)
            };
            let mut expected = self.losses(&self.x, &|row| (own(row), 1.0));
            expected.pop();
            let lost = jobs[0].lost.clone();
            jobs.push(Job { lost, ..Job::new("weighted row losses", Weighted, run, expected) });
        }

        let counts: Vec<u64> = (0..self.classes as u64).map(|class| 1 + class * class * 37 % 1000).collect();
        let n: f64 = counts.iter().sum::<u64>() as f64;
        let beta = 0.999;
        for (scheme, weight) in [
            (Scheme::InverseFrequency, (|n, _, count| n / count) as fn(f64, f64, f64) -> f64),
            (Scheme::Balanced, |n, classes, count| n / (classes * count)),
            (Scheme::EffectiveNumber { beta }, |_, _, count| (1.0 - 0.999) / (1.0 - 0.999f64.powf(count))),
            (Scheme::InverseSquareRoot, |n, _, count| (n / count).sqrt()),
        ] {
            let of_scheme = ClassWeights::new(scheme).normalisation(Normalisation::Mean);
            let expected: Vec<f64> = counts.iter().map(|&count| weight(n, classes, count as f64)).collect();
            let mean = expected.iter().sum::<f64>() / classes;
            let expected = expected.iter().map(|weight| Some(Sum::of(weight / mean))).collect();
            let counts = counts.clone();
            let run = move |_| {
                let mut weights = vec![7.0; counts.len()];
                of_scheme.from_counts(&counts, &mut weights)?;
                Ok(weights)
            };
            jobs.push(Job::new("class weights", Kind::ClassWeights, run, expected));
        }
        jobs
    }
}

/// Errors of results of at least this size are in ulps, of smaller ones in units of the smallest normal f32.
const SMALL: f64 = 1.0 / (1u128 << 100) as f64;

/// The error of a result.
#[derive(Clone, Copy, Debug)]
enum Distance {
    Ulps(f64),
    /// Of a small result: in units of 2^−126, the smallest normal f32.
    Smallest(f64),
}

/// The error in ulps of the sum of the magnitudes of the terms. NaN and infinity must be what they are in the default
/// mode, but infinity and the largest f32 count as the same, since some modes do not round to infinity.
fn distance(found: f32, default: f32, expected: Option<Sum>) -> Result<Distance, String> {
    let wrong = || Err(format!("{found:e}, {default:e} in the default mode, expected {expected:?}"));
    let none = Ok(Distance::Ulps(0.0));
    let beyond = |x: f32| x.is_infinite() || x.abs() == f32::MAX;
    if found.is_nan() || default.is_nan() {
        return if found.is_nan() && default.is_nan() { none } else { wrong() };
    }
    if beyond(found) || beyond(default) {
        let same = found == default || beyond(found) && beyond(default) && found.signum() == default.signum();
        // An exact infinity does not depend on rounding.
        let exact = expected.is_some_and(|sum| sum.value.is_infinite());
        return if same && (!exact || found == default) { none } else { wrong() };
    }
    let Some(sum) = expected.filter(|sum| sum.value.is_finite() && sum.size.is_finite()) else { return none };
    let error = (f64::from(found) - sum.value).abs();
    if sum.size < SMALL {
        Ok(Distance::Smallest(error / f64::from(f32::MIN_POSITIVE)))
    } else {
        Ok(Distance::Ulps(error / ulp(sum.size)))
    }
}

fn batches(times: usize) -> Vec<Batch> {
    let mut rng = Rng(77);
    let mut batches = Vec::new();
    for (number, regime) in REGIMES.into_iter().enumerate() {
        let (classes, rows) = [(2, 18), (10, 18), (40, 5), (300, 2)][number % 4];
        batches.push(Batch::new(regime, false, classes, rows * times, number % 3 == 1 && classes < 300, &mut rng));
    }
    for across in [false, true] {
        for (classes, rows) in [(1, 6), (2, 18), (3, 9), (17, 17), (40, 3), (130, 2)] {
            batches.push(Batch::new(Regime::Ordinary, true, classes, rows, across, &mut rng));
        }
    }
    batches
}

/// Error bounds of a kind: in ulps, and of small results in units of 2^−126.
struct Bound {
    ulps: f64,
    smallest: f64,
}

/// The default bounds where only subnormal numbers are lost, and some units below the normal range. Without rounding to
/// nearest x·log2 e is not rounded so either, and the polynomial of exp, made for |f| ≤ 0.35, has to do for |f| ≤ 0.7:
/// measured up to 499 ulp.
fn bound(mode: Option<Mode>, kind: Kind) -> Bound {
    let exact = matches!(kind, Kind::Probabilities | Kind::ClassWeights);
    match mode.filter(|mode| mode.rounds) {
        Some(_) => Bound { ulps: if exact { 3.0 } else { 1024.0 }, smallest: 8192.0 },
        None => {
            let ulps = match kind {
                Kind::Weighted | Kind::Logs | Kind::Probabilities => common::LOSS_ULPS,
                Kind::WeightedGradient | Kind::Parts => common::GRADIENT_ULPS,
                Kind::Other | Kind::OtherGradient => textbook::COMBINED_ULPS,
                Kind::ClassWeights => 0.5,
            };
            Bound { ulps, smallest: 16.0 }
        }
    }
}

/// The largest errors in a mode.
#[derive(Default)]
struct Worst {
    ulps: (f64, String),
    smallest: (f64, String),
}

#[test]
fn results_stay_near_the_textbook_in_every_mode() {
    compare_with_the_textbook(1);
}

/// The figures of tests/README.md.
#[test]
#[ignore = "takes a minute or two"]
fn results_of_many_rows_stay_near_the_textbook_in_every_mode() {
    compare_with_the_textbook(100);
}

/// Over `times` as many rows.
fn compare_with_the_textbook(times: usize) {
    let backends = backends();
    let mut worst: BTreeMap<(usize, Kind), Worst> = BTreeMap::new();
    let mut differ: BTreeMap<(usize, &str), u64> = BTreeMap::new();
    let (mut wrong, mut compared, mut left_out) = (Vec::new(), 0, 0);
    for batch in &batches(times) {
        let jobs = batch.jobs();
        let mut of_class = BTreeMap::new();
        for &backend in backends.iter().filter(|&&backend| !is_slow(backend) || batch.classes <= 10) {
            for (at, job) in jobs.iter().enumerate() {
                let default = (job.run)(backend).unwrap();
                assert_eq!(default.len(), job.expected.len(), "{} {}", batch.name, job.name);
                for (number, mode) in [None].into_iter().chain(MODES.map(Some)).enumerate() {
                    let found = Mutex::new(Vec::new());
                    in_mode(mode, &|| *found.lock().unwrap() = (job.run)(backend).unwrap());
                    let found = found.into_inner().unwrap();
                    assert_eq!(found.len(), default.len());
                    let first = of_class.entry((number, at, class_of(backend))).or_insert_with(|| bits(&found));
                    if *first != bits(&found) {
                        differ.entry((number, backend.name())).or_insert(0u64).add_assign(1);
                    }
                    let (rounds, never_infinite) =
                        mode.map_or((false, false), |mode| (mode.rounds, mode.never_infinite));
                    for (i, ((&found, &default), &expected)) in
                        found.iter().zip(&default).zip(&job.expected).enumerate()
                    {
                        let lost = match job.lost.get(i) {
                            Some(Lost::WhereNeverInfinite) => never_infinite,
                            Some(Lost::Always) => rounds,
                            _ => rounds && expected.is_some_and(|sum| sum.size > LARGEST && sum.size.is_finite()),
                        };
                        if lost {
                            left_out += 1;
                            continue;
                        }
                        compared += 1;
                        let worst = worst.entry((number, job.kind)).or_default();
                        let bound = bound(mode, job.kind);
                        let at =
                            || format!("{backend} {} {} [{i}] {found:e}, expected {expected:?}", batch.name, job.name);
                        let within = match distance(found, default, expected) {
                            Ok(Distance::Ulps(error)) => {
                                if error > worst.ulps.0 {
                                    worst.ulps = (error, at());
                                }
                                error <= bound.ulps
                            }
                            Ok(Distance::Smallest(error)) => {
                                if error > worst.smallest.0 {
                                    worst.smallest = (error, at());
                                }
                                // A mean accumulates the errors of all rows.
                                error <= bound.smallest * times as f64
                            }
                            Err(_) => false,
                        };
                        if !within {
                            wrong.push(format!("{}: {}, {default:e} in the default mode", name(number), at()));
                        }
                    }
                }
            }
        }
    }
    println!("{compared} numbers; {left_out} left out, of which the documentation says that they may be anything");
    for ((number, kind), worst) in &worst {
        println!(
            "{:>20} {:<16} ≤ {:8.1} ulp, ≤ {:8.1} · 2^-126",
            name(*number),
            format!("{kind:?}"),
            worst.ulps.0,
            worst.smallest.0
        );
        if std::env::var_os("WHERE").is_some() {
            println!("    {}\n    {}", worst.ulps.1, worst.smallest.1);
        }
    }
    for ((number, backend), calls) in &differ {
        println!("{:>20} {backend} differs from its class in {calls} calls", name(*number));
    }
    for line in wrong.iter().take(20) {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} of {compared} numbers", wrong.len());
    // A sum in another order is rounded up in another way.
    let same = differ.keys().all(|&(number, _)| number > 0 && MODES[number - 1].rounds);
    assert!(same, "backends of a class differ: {differ:?}");
    assert!(compared > 100_000);
}

/// The name of a mode by its number, after the default.
fn name(number: usize) -> &'static str {
    number.checked_sub(1).map_or("default", |number| MODES[number].name)
}

/// Validation in any mode: the same errors, and untouched outputs.
#[test]
fn errors_are_the_same_in_every_mode() {
    type Call = (&'static str, fn(&mut [f32]) -> Option<Error>);
    const X: [f32; 6] = [0.5, 2.0, -1.0, 1.0, 0.0, 3.0];
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    fn loss() -> CrossEntropy<'static> {
        CrossEntropy::new(3)
    }
    fn binary() -> BinaryCrossEntropy<'static> {
        BinaryCrossEntropy::new(1)
    }
    let calls: [Call; 24] = [
        ("no classes", |out| CrossEntropy::new(0).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("length", |out| loss().gradient(&X[..5], &[0u8, 1], 1.0, out).err()),
        ("label", |out| loss().gradient(&X, &[0u8, 3], 1.0, out).err()),
        ("negative label", |out| loss().gradient(&X, &[0i8 as i32, -1], 1.0, out).err()),
        ("weight NaN", |out| loss().class_weights(&[1.0, NAN, 1.0]).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("weight inf", |out| loss().class_weights(&[1.0, 1.0, -INF]).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("sample weight inf", |out| loss().sample_weights(&[1.0, -INF]).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("smoothing", |out| loss().label_smoothing(1.0 + f32::EPSILON).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("smoothing NaN", |out| loss().label_smoothing(NAN).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("focal", |out| loss().focal(-1e-30).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("z-loss", |out| loss().z_loss(INF).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("temperature", |out| loss().temperature(-0.0).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("bias", |out| loss().class_bias(&[0.0, NAN, 0.0]).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("costs", |out| {
            loss()
                .mislabel_costs(&[0.0, 1.0, -1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0])
                .gradient(&X, &[0u8, 1], 1.0, out)
                .err()
        }),
        ("cost of truth", |out| loss().mislabel_costs(&[1e-30; 9]).gradient(&X, &[0u8, 1], 1.0, out).err()),
        ("upstream", |out| loss().gradient(&X, &[0u8, 1], NAN, out).err()),
        ("denominator", |out| {
            let loss = loss().class_weights(&[0.0; 3]).zero_denominator(ZeroDenominator::Error);
            loss.gradient(&X, &[0u8, 1], 1.0, out).err()
        }),
        ("target", |out| loss().soft_gradient(&X, &[NAN; 6], 1.0, out).err()),
        ("binary target", |out| binary().gradient(&X, &[1.0 + f32::EPSILON; 6], 1.0, out).err()),
        ("binary cost", |out| binary().miss_costs(&[-1.0]).gradient(&X, &[1.0; 6], 1.0, out).err()),
        ("eps", |out| loss().row_losses_from_probabilities(&X, &[0u8, 1], -1e-30, &mut out[..2]).err()),
        ("scale", |out| {
            let logits = Logits::I8 { values: &[0; 6], scale: 0.0, zero_point: 0 };
            loss().gradient(logits, &[0u8, 1], 1.0, out).err()
        }),
        ("beta", |out| {
            let scheme = ClassWeights::new(Scheme::EffectiveNumber { beta: 1.0 });
            scheme.from_counts(&[1; 6], out).err()
        }),
        ("label owners", |out| RowPartial::new(&X, None).unwrap().gradient(&X, None, 1.0, out).err()),
    ];
    for (name, call) in calls {
        let mut expected = None;
        for mode in [None].into_iter().chain(MODES.map(Some)) {
            let found = Mutex::new((None, pattern(6)));
            in_mode(mode, &|| {
                let (error, out) = &mut *found.lock().unwrap();
                *error = black_box(call)(out);
            });
            let (error, out) = found.into_inner().unwrap();
            assert!(error.is_some(), "{name} {mode:?}");
            assert_eq!(raw_bits(&out), raw_bits(&pattern(6)), "{name} {mode:?}");
            assert_eq!(*expected.get_or_insert(error), error, "{name} {mode:?}");
        }
    }
}

/// A subnormal option counts as itself or as 0: where denormals are zero, a cost of −1e-40 is not refused. (A
/// temperature of 1e-40 turns logits into infinities either way, and 0/0 into NaN.)
#[test]
fn a_subnormal_option_is_itself_or_zero() {
    type Call = (&'static str, fn(f32, &mut [f32]) -> Result<(), Error>);
    const X: [f32; 6] = [0.5, 2.0, -1.0, 1.0, 0.25, 3.0];
    fn rows(loss: CrossEntropy<'_>, out: &mut [f32]) -> Result<(), Error> {
        loss.row_losses(&X, &[0u8, 1], &mut out[..2]).map(|_| ())
    }
    let calls: [Call; 11] = [
        ("class weight", |x, out| rows(CrossEntropy::new(3).class_weights(&[x, 1.0, 1.0]), out)),
        ("sample weight", |x, out| rows(CrossEntropy::new(3).sample_weights(&[1.0, x]), out)),
        ("smoothing", |x, out| rows(CrossEntropy::new(3).label_smoothing(x), out)),
        ("focal", |x, out| rows(CrossEntropy::new(3).focal(x), out)),
        ("z-loss", |x, out| rows(CrossEntropy::new(3).z_loss(x), out)),
        ("temperature", |x, out| rows(CrossEntropy::new(3).temperature(x), out)),
        ("bias", |x, out| rows(CrossEntropy::new(3).class_bias(&[x, x, x]), out)),
        ("cost", |x, out| rows(CrossEntropy::new(3).mislabel_costs(&[0.0, x, x, x, 0.0, x, x, x, 0.0]), out)),
        ("target", |x, out| CrossEntropy::new(3).soft_row_losses(&X, &[x; 6], &mut out[..2]).map(|_| ())),
        ("eps", |x, out| {
            let loss = CrossEntropy::new(3);
            loss.row_losses_from_probabilities(&[0.5; 6], &[0u8, 1], x, &mut out[..2]).map(|_| ())
        }),
        ("scale", |x, out| {
            let logits = Logits::U8 { values: &[3; 6], scale: x, zero_point: 0 };
            CrossEntropy::new(3).row_losses(logits, &[0u8, 1], &mut out[..2]).map(|_| ())
        }),
    ];
    for (name, call) in calls {
        for option in [1e-40, -1e-40] {
            let result = |option: f32, mode| {
                let found = Mutex::new((Ok(()), vec![7.0; 2]));
                in_mode(mode, &|| {
                    let (result, out) = &mut *found.lock().unwrap();
                    *result = black_box(call)(option, out);
                });
                found.into_inner().unwrap()
            };
            let near = |a: &(Result<(), Error>, Vec<f32>), b: &(Result<(), Error>, Vec<f32>)| {
                let same = a.0.is_ok() == b.0.is_ok();
                let close =
                    |(a, b): (&f32, &f32)| bits(&[*a]) == bits(&[*b]) || (a - b).abs() <= 1e-4 * b.abs() + 1e-37;
                same && a.1.iter().zip(&b.1).all(close)
            };
            let (itself, zero) = (result(option, None), result(0.0, None));
            for mode in MODES.into_iter().filter(|mode| mode.flushes) {
                let found = result(option, Some(mode));
                let known = near(&found, &itself) || near(&found, &zero);
                assert!(known, "{name} {option:e}, {}: {found:?}, not {itself:?} or {zero:?}", mode.name);
            }
        }
    }
}
