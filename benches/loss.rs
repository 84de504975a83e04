//! The loss, and loss with gradient, on every backend: `cargo bench --bench loss`.
//!
//! Names are `loss/<backend>/<N>x<C>` and `gradient/<backend>/<N>x<C>`; throughput counts logits.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rwwce::{Backend, CrossEntropy};
use std::hint::black_box;

const SHAPES: [(usize, usize); 8] =
    [(65536, 2), (65536, 4), (65536, 10), (16384, 32), (8192, 100), (1024, 1000), (64, 32_000), (64, 128_256)];

fn shapes(criterion: &mut Criterion) {
    for backend in Backend::available().filter(|backend| backend.name() != "scalar-fma") {
        for (rows, classes) in SHAPES {
            let mut state = 1u64;
            let mut number = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32
            };
            let logits: Vec<f32> = (0..rows * classes).map(|_| number() * 8.0 - 4.0).collect();
            let weights: Vec<f32> = (0..classes).map(|_| number() + 0.5).collect();
            let labels: Vec<i64> = (0..rows).map(|_| (number() * classes as f32) as i64 % classes as i64).collect();
            let mut gradient = vec![0.0; logits.len()];
            let loss = CrossEntropy::new(classes).class_weights(&weights).backend(backend);
            let shape = format!("{rows}x{classes}");

            let mut group = criterion.benchmark_group("loss");
            group.throughput(Throughput::Elements(logits.len() as u64));
            group.bench_function(BenchmarkId::new(backend.name(), &shape), |bencher| {
                bencher.iter(|| loss.loss(black_box(&logits), black_box(&labels)));
            });
            group.finish();
            let mut group = criterion.benchmark_group("gradient");
            group.throughput(Throughput::Elements(logits.len() as u64));
            group.bench_function(BenchmarkId::new(backend.name(), &shape), |bencher| {
                bencher.iter(|| loss.gradient(black_box(&logits), black_box(&labels), 1.0, &mut gradient));
            });
            group.finish();
        }
    }
}

/// Classes last and classes not last, and the other losses: `layouts/<backend>/…`, `losses/<backend>/…`.
fn layouts_and_losses(criterion: &mut Criterion) {
    let (rows, classes) = (262_144, 21);
    let mut state = 1u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let logits: Vec<f32> = (0..rows * classes).map(|_| number() * 8.0 - 4.0).collect();
    let labels: Vec<u8> = (0..rows).map(|_| (number() * classes as f32) as u8 % classes as u8).collect();
    let costs: Vec<f32> =
        (0..classes * classes).map(|at| if at % (classes + 1) == 0 { 0.0 } else { 1.0 + number() }).collect();
    let soft: Vec<f32> = (0..rows * classes).map(|_| number()).collect();
    let mut gradient = vec![0.0; logits.len()];
    for backend in Backend::available().filter(|backend| !backend.name().starts_with("scalar")) {
        let loss = CrossEntropy::new(classes).backend(backend);
        let all = [
            ("weighted", loss),
            ("smoothed", loss.label_smoothing(0.1)),
            ("real-world", loss.mislabel_costs(&costs)),
            ("focal", loss.focal(2.0)),
        ];
        for (layout, positions) in [("classes last", 1), ("classes not last", rows)] {
            let mut group = criterion.benchmark_group(format!("{layout} {rows}x{classes}"));
            group.throughput(Throughput::Elements(logits.len() as u64)).sample_size(10);
            for (name, loss) in all {
                let loss = loss.positions(positions);
                group.bench_function(BenchmarkId::new(backend.name(), name), |bencher| {
                    bencher.iter(|| loss.loss(black_box(&logits), black_box(&labels)));
                });
                group.bench_function(BenchmarkId::new(backend.name(), format!("{name}, gradient")), |bencher| {
                    bencher.iter(|| loss.gradient(black_box(&logits), black_box(&labels), 1.0, &mut gradient));
                });
            }
            let loss = loss.positions(positions);
            group.bench_function(BenchmarkId::new(backend.name(), "soft"), |bencher| {
                bencher.iter(|| loss.soft_loss(black_box(&logits), black_box(&soft)));
            });
            group.finish();
        }
    }
}

/// A call for few rows, all of its checks included: `small/<backend>/<N>x<C>`.
fn small_calls(criterion: &mut Criterion) {
    let logits: Vec<f32> = (0..1000).map(|i| (i * 37 % 101) as f32 / 10.0 - 5.0).collect();
    let labels: Vec<i64> = (0..16).map(|i| i * 7 % 10).collect();
    let weights: Vec<f32> = (0..1000).map(|i| 1.0 + i as f32 / 10.0).collect();
    let mut gradient = vec![0.0; logits.len()];
    for backend in Backend::available().filter(|backend| backend.name() != "scalar-fma") {
        let mut group = criterion.benchmark_group("small");
        for (rows, classes) in [(1, 2), (1, 10), (16, 10), (1, 1000)] {
            let loss = CrossEntropy::new(classes).class_weights(&weights[..classes]).backend(backend);
            let (logits, labels) = (&logits[..rows * classes], &labels[..rows]);
            let labels: Vec<i64> = labels.iter().map(|label| label % classes as i64).collect();
            let gradient = &mut gradient[..rows * classes];
            group.bench_function(BenchmarkId::new(backend.name(), format!("{rows}x{classes}")), |bencher| {
                bencher.iter(|| black_box(loss).loss(black_box(logits), black_box(&labels)));
            });
            group.bench_function(BenchmarkId::new(backend.name(), format!("{rows}x{classes}, gradient")), |bencher| {
                bencher.iter(|| black_box(loss).gradient(black_box(logits), black_box(&labels), 1.0, gradient));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, shapes, layouts_and_losses, small_calls);
criterion_main!(benches);
