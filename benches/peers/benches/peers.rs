//! This crate beside others in Rust, on one thread, in one run: `cargo bench` in this folder.
//!
//! Names are `loss/<library>/<N>x<C>` and `gradient/<library>/<N>x<C>` (loss and gradient); throughput counts logits.
//! Labels are i64, and the loss is the mean over the weight sum, except that candle-nn has no class weights: it is to be
//! compared with `rwwce <backend>, no weights`.
//!
//! | library | what is called |
//! |---|---|
//! | candle | `candle_nn::loss::cross_entropy`, `Tensor::backward` |
//! | burn, ndarray and flex | `CrossEntropyLoss::forward`, `Tensor::backward`; burn has deprecated ndarray for flex |
//! | rten | `rten_vecmath::LogSoftmax` of each row, then the element of the label; it has no gradient |
//! | textbook | largest logit, sum of `libm::expf`, `libm::logf`, in scalar code |
//! | rwwce | every backend but scalar-fma, whose fused multiply-add is software |
//!
//! Results of a library are compared with this crate's before it is timed; if they differ, the run stops.

use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Bencher, BenchmarkId, Criterion, Throughput};
use rten_simd::SimdOp;
use rten_vecmath::LogSoftmax;
use rwwce::{Backend, CrossEntropy};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

const SHAPES: [(usize, usize); 8] =
    [(65536, 2), (65536, 4), (65536, 10), (16384, 32), (8192, 100), (1024, 1000), (64, 32_000), (64, 128_256)];

/// Tolerance of a loss, relative to ours, and of a gradient element, relative to the largest.
const TOLERANCE: f32 = 1e-4;

struct Input {
    rows: usize,
    classes: usize,
    logits: Vec<f32>,
    labels: Vec<i64>,
    weights: Vec<f32>,
}

impl Input {
    fn new(rows: usize, classes: usize) -> Self {
        let mut state = 1u64;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        Self {
            rows,
            classes,
            logits: (0..rows * classes).map(|_| number() * 8.0 - 4.0).collect(),
            weights: (0..classes).map(|_| number() + 0.5).collect(),
            labels: (0..rows).map(|_| (number() * classes as f32) as i64 % classes as i64).collect(),
        }
    }
}

/// Results that every library must return.
struct Expected {
    loss: f32,
    gradient: Vec<f32>,
}

impl Expected {
    fn new(input: &Input, ours: &CrossEntropy) -> Self {
        let mut gradient = vec![0.0; input.logits.len()];
        let summary = ours.gradient(&input.logits, &input.labels, 1.0, &mut gradient).expect("the input is valid");
        Self { loss: summary.loss, gradient }
    }

    fn check_loss(&self, library: &str, loss: f32) {
        let expected = self.loss;
        assert!((loss - expected).abs() <= TOLERANCE * expected, "{library}: the loss is {loss}, expected {expected}");
    }

    fn check_gradient(&self, library: &str, gradient: &[f32]) {
        assert_eq!(gradient.len(), self.gradient.len(), "{library}: the length of the gradient");
        let largest = self.gradient.iter().fold(0.0f32, |largest, element| largest.max(element.abs()));
        for (at, (found, expected)) in gradient.iter().zip(&self.gradient).enumerate() {
            assert!(
                (found - expected).abs() <= TOLERANCE * largest,
                "{library}: element {at} of the gradient is {found}, expected {expected}"
            );
        }
    }
}

fn bench(criterion: &mut Criterion, group: &str, library: &str, input: &Input, time: impl FnMut(&mut Bencher)) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(input.logits.len() as u64));
    group.bench_function(BenchmarkId::new(library, format!("{}x{}", input.rows, input.classes)), time);
    group.finish();
}

fn rwwce(criterion: &mut Criterion, input: &Input, expected: &Expected, loss: CrossEntropy, weights: &str) {
    let Input { logits, labels, .. } = input;
    let mut gradient = vec![0.0; logits.len()];
    for backend in Backend::available().filter(|backend| backend.name() != "scalar-fma") {
        let loss = loss.backend(backend);
        let name = format!("rwwce {backend}{weights}");

        expected.check_loss(&name, loss.loss(logits, labels).expect("the input is valid").loss);
        bench(criterion, "loss", &name, input, |bencher| {
            bencher.iter(|| loss.loss(black_box(logits), black_box(labels)));
        });

        loss.gradient(logits, labels, 1.0, &mut gradient).expect("the input is valid");
        expected.check_gradient(&name, &gradient);
        bench(criterion, "gradient", &name, input, |bencher| {
            bencher.iter(|| loss.gradient(black_box(logits), black_box(labels), 1.0, &mut gradient));
        });

        let name = format!("{name}, in place");
        gradient.copy_from_slice(logits);
        loss.gradient_in_place(&mut gradient, labels, 1.0).expect("the input is valid");
        expected.check_gradient(&name, &gradient);
        bench(criterion, "gradient", &name, input, |bencher| {
            // Restoring the logits is not timed: in training the next ones come from the model.
            bencher.iter_custom(|calls| {
                let mut time = Duration::ZERO;
                for _ in 0..calls {
                    gradient.copy_from_slice(logits);
                    let start = Instant::now();
                    let _ = black_box(loss.gradient_in_place(black_box(&mut gradient), black_box(labels), 1.0));
                    time += start.elapsed();
                }
                time
            });
        });
    }
}

fn textbook(criterion: &mut Criterion, input: &Input, expected: &Expected) {
    let Input { classes, logits, labels, weights, .. } = input;
    let loss = || {
        let (mut sum, mut weight_sum) = (0.0, 0.0);
        for (row, &label) in logits.chunks_exact(*classes).zip(labels) {
            let largest = row.iter().fold(f32::NEG_INFINITY, |largest, &logit| largest.max(logit));
            let exp_sum: f32 = row.iter().map(|logit| libm::expf(logit - largest)).sum();
            let weight = weights[label as usize];
            sum += f64::from(weight * (libm::logf(exp_sum) + largest - row[label as usize]));
            weight_sum += f64::from(weight);
        }
        (sum / weight_sum) as f32
    };
    expected.check_loss("textbook", loss());
    bench(criterion, "loss", "textbook", input, |bencher| bencher.iter(|| black_box(loss())));
}

fn rten(criterion: &mut Criterion, input: &Input, expected: &Expected) {
    let Input { classes, logits, labels, weights, .. } = input;
    let mut log_probabilities = vec![MaybeUninit::uninit(); *classes];
    let mut loss = || {
        let (mut sum, mut weight_sum) = (0.0, 0.0);
        for (row, &label) in logits.chunks_exact(*classes).zip(labels) {
            let log_probabilities = LogSoftmax::new(row, &mut log_probabilities).dispatch();
            let weight = weights[label as usize];
            sum -= f64::from(weight * log_probabilities[label as usize]);
            weight_sum += f64::from(weight);
        }
        (sum / weight_sum) as f32
    };
    expected.check_loss("rten", loss());
    bench(criterion, "loss", "rten", input, |bencher| bencher.iter(|| black_box(loss())));
}

fn candle(criterion: &mut Criterion, input: &Input, expected: &Expected) -> candle_core::Result<()> {
    let device = candle_core::Device::Cpu;
    let logits = candle_core::Tensor::from_slice(&input.logits, (input.rows, input.classes), &device)?;
    let labels = candle_core::Tensor::from_slice(&input.labels, input.rows, &device)?;
    let loss = |logits: &candle_core::Tensor| candle_nn::loss::cross_entropy(logits, &labels);
    expected.check_loss("candle", loss(&logits)?.to_scalar()?);
    bench(criterion, "loss", "candle", input, |bencher| bencher.iter(|| loss(&logits)));

    let logits = candle_core::Var::from_tensor(&logits)?;
    let gradient = || {
        let gradients = loss(&logits)?.backward()?;
        gradients.get(&logits).cloned().ok_or_else(|| candle_core::Error::msg("no gradient"))
    };
    expected.check_gradient("candle", &gradient()?.flatten_all()?.to_vec1()?);
    bench(criterion, "gradient", "candle", input, |bencher| bencher.iter(gradient));
    Ok(())
}

fn burn(criterion: &mut Criterion, input: &Input, expected: &Expected, name: &str, device: &Device) {
    let tensors = |device: &Device| -> (CrossEntropyLoss, Tensor<2>, Tensor<1, Int>) {
        let logits = TensorData::new(input.logits.clone(), [input.rows, input.classes]);
        let labels = TensorData::new(input.labels.clone(), [input.rows]);
        let loss = CrossEntropyLossConfig::new().with_weights(Some(input.weights.clone())).init(device);
        (loss, Tensor::from_data(logits, device), Tensor::from_data(labels, device))
    };

    let (loss, logits, labels) = tensors(device);
    let call = || loss.forward(logits.clone(), labels.clone());
    expected.check_loss(name, call().into_scalar());
    bench(criterion, "loss", name, input, |bencher| bencher.iter(call));

    let (loss, logits, labels) = tensors(&device.clone().autodiff());
    let logits = logits.require_grad();
    let call = || logits.grad(&loss.forward(logits.clone(), labels.clone()).backward());
    let gradient = call().expect("the logits require a gradient").into_data();
    expected.check_gradient(name, &gradient.try_into_vec::<f32>().expect("a gradient of f32"));
    bench(criterion, "gradient", name, input, |bencher| bencher.iter(call));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Libraries with rayon get one thread, this one, so that nothing waits for another to wake.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let mut criterion = Criterion::default().configure_from_args();
    for (rows, classes) in SHAPES {
        let input = Input::new(rows, classes);
        let (weighted, unweighted) =
            (CrossEntropy::new(classes).class_weights(&input.weights), CrossEntropy::new(classes));
        let expected = Expected::new(&input, &weighted);
        rwwce(&mut criterion, &input, &expected, weighted, "");
        textbook(&mut criterion, &input, &expected);
        rten(&mut criterion, &input, &expected);
        #[expect(deprecated, reason = "compared as long as it is there")]
        let ndarray = Device::ndarray();
        burn(&mut criterion, &input, &expected, "burn ndarray", &ndarray);
        burn(&mut criterion, &input, &expected, "burn flex", &Device::flex());

        let expected = Expected::new(&input, &unweighted);
        rwwce(&mut criterion, &input, &expected, unweighted, ", no weights");
        candle(&mut criterion, &input, &expected)?;
    }
    criterion.final_summary();
    Ok(())
}
