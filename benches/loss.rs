//! The loss, and loss with gradient, on every backend: `cargo bench --bench loss`.
//!
//! Names are `loss/<backend>/<N>x<C>` and `gradient/<backend>/<N>x<C>`; throughput counts logits.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rwwce::{Backend, CrossEntropy};
use std::hint::black_box;

const SHAPES: [(usize, usize); 6] = [(65536, 2), (65536, 10), (8192, 100), (1024, 1000), (64, 32_000), (64, 128_256)];

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

criterion_group!(benches, shapes);
criterion_main!(benches);
