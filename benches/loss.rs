//! Every loss and gradient on every backend, and the machine's limits:
//! `cargo bench -p rwwce-benches --bench loss -- FILTER`.
//!
//! | name | |
//! |---|---|
//! | `<loss>/<backend>/<N>x<C>`, `<loss> gradient/…` | rows of C classes that fill L1, L2, L3 or none of them |
//! | `weighted i8/…`, `weighted f16/…`, `weighted bf16/…` | the same from logits of these types |
//! | `limit/<backend>/read <N>x<C>` | the maximum of the same logits: the cost of reading them |
//! | `limit/<backend>/operations <N>x<C>` | thirteen multiply-adds a vector, in registers: the cost of exponentials |
//! | `layout/<backend>/…` | an image, `[N, C]` and `[1, C, D]` |
//! | `small/<backend>/<N>x<C>` | one call for few rows, all of its checks included |
//!
//! Throughput counts logits. All of it takes an hour; `-- '^weighted/avx512'` a minute.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};
use rwwce::{Backend, BinaryCrossEntropy, CrossEntropy, Logits};
use std::hint::black_box;
use std::time::Duration;

/// Classes, and the shapes that the README quotes.
const CLASSES: [usize; 8] = [2, 4, 10, 32, 100, 1000, 32_000, 131_072];
/// Logits that fit L1, L2, L3 and none of them, on most machines.
const LOGITS: [usize; 4] = [1 << 13, 1 << 17, 1 << 21, 1 << 26];
const QUOTED: [(usize, usize); 8] =
    [(65536, 2), (65536, 4), (65536, 10), (16384, 32), (8192, 100), (1024, 1000), (64, 32_000), (64, 128_256)];
/// A cost matrix has the square of this many elements.
const MOST_CLASSES_WITH_COSTS: usize = 1000;

struct Random(u64);

impl Random {
    /// In [0, 1).
    fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, end: usize) -> usize {
        (self.number() * end as f32) as usize % end
    }

    fn numbers(&mut self, count: usize, from: f32, to: f32) -> Vec<f32> {
        (0..count).map(|_| from + self.number() * (to - from)).collect()
    }
}

/// Without the scalar backend with software FMA, a reference that is not meant to be fast.
fn backends() -> impl Iterator<Item = Backend> {
    Backend::available().filter(|backend| backend.name() != "scalar-fma")
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, logits: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(logits as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn costs(classes: usize, random: &mut Random) -> Vec<f32> {
    (0..classes * classes).map(|at| if at % (classes + 1) == 0 { 0.0 } else { 1.0 + random.number() }).collect()
}

fn losses(criterion: &mut Criterion) {
    let filling = |logits: usize| CLASSES.map(|classes| ((logits / classes).max(1), classes));
    let mut shapes: Vec<_> = LOGITS.into_iter().flat_map(filling).chain(QUOTED).collect();
    shapes.sort_unstable();
    shapes.dedup();
    for (rows, classes) in shapes {
        let random = &mut Random(1);
        let logits = random.numbers(rows * classes, -4.0, 4.0);
        let weights = random.numbers(classes, 0.5, 1.5);
        let labels: Vec<i64> = (0..rows).map(|_| random.below(classes) as i64).collect();
        let soft = random.numbers(logits.len(), 0.0, 1.0);
        let costs = if classes <= MOST_CLASSES_WITH_COSTS { costs(classes, random) } else { Vec::new() };
        let integers: Vec<i8> = logits.iter().map(|x| (x * 16.0) as i8).collect();
        let halves: Vec<f16> = logits.iter().map(|&x| f16::from_f32(x)).collect();
        let brain_halves: Vec<bf16> = logits.iter().map(|&x| bf16::from_f32(x)).collect();
        let mut gradient = vec![0.0; logits.len()];
        let shape = format!("{rows}x{classes}");
        for backend in backends() {
            let id = || BenchmarkId::new(backend.name(), &shape);
            let loss = CrossEntropy::new(classes).class_weights(&weights).backend(backend);
            let mut of_labels = vec![
                ("weighted", loss),
                ("smoothed", loss.label_smoothing(0.1)),
                ("focal", loss.focal(2.0)),
                ("z-loss", loss.z_loss(1e-4)),
            ];
            if !costs.is_empty() {
                of_labels.push(("real-world", loss.mislabel_costs(&costs)));
            }
            for (name, loss) in of_labels {
                group(criterion, name, logits.len()).bench_function(id(), |bencher| {
                    bencher.iter(|| loss.loss(black_box(&logits), black_box(&labels)));
                });
                group(criterion, &format!("{name} gradient"), logits.len()).bench_function(id(), |bencher| {
                    bencher.iter(|| loss.gradient(black_box(&logits), black_box(&labels), 1.0, &mut gradient));
                });
            }
            for (name, stored) in [
                ("i8", Logits::I8 { values: &integers, scale: 0.0625, zero_point: 3 }),
                ("f16", Logits::F16(&halves)),
                ("bf16", Logits::Bf16(&brain_halves)),
            ] {
                group(criterion, &format!("weighted {name}"), logits.len()).bench_function(id(), |bencher| {
                    bencher.iter(|| loss.loss(black_box(stored), black_box(&labels)));
                });
                group(criterion, &format!("weighted {name} gradient"), logits.len()).bench_function(id(), |bencher| {
                    bencher.iter(|| loss.gradient(black_box(stored), black_box(&labels), 1.0, &mut gradient));
                });
            }
            group(criterion, "soft", logits.len()).bench_function(id(), |bencher| {
                bencher.iter(|| loss.soft_loss(black_box(&logits), black_box(&soft)));
            });
            group(criterion, "soft gradient", logits.len()).bench_function(id(), |bencher| {
                bencher.iter(|| loss.soft_gradient(black_box(&logits), black_box(&soft), 1.0, &mut gradient));
            });
            let binary = BinaryCrossEntropy::new(classes).miss_costs(&weights).backend(backend);
            group(criterion, "binary", logits.len()).bench_function(id(), |bencher| {
                bencher.iter(|| binary.loss(black_box(&logits), black_box(&soft)));
            });
            group(criterion, "binary gradient", logits.len()).bench_function(id(), |bencher| {
                bencher.iter(|| binary.gradient(black_box(&logits), black_box(&soft), 1.0, &mut gradient));
            });
            if let Some(limits) = Limits::of(backend) {
                let mut group = group(criterion, "limit", logits.len());
                group.bench_function(BenchmarkId::new(backend.name(), format!("read {shape}")), |bencher| {
                    bencher.iter(|| (limits.read)(black_box(&logits)));
                });
                group.bench_function(BenchmarkId::new(backend.name(), format!("operations {shape}")), |bencher| {
                    bencher.iter(|| (limits.operations)(black_box(logits.len())));
                });
            }
        }
    }
}

/// The fastest that the instructions of a backend can be.
struct Limits {
    read: fn(&[f32]) -> u32,
    operations: fn(usize) -> f32,
}

impl Limits {
    #[cfg(target_arch = "x86_64")]
    fn of(backend: Backend) -> Option<Self> {
        #[target_feature(enable = "avx512f")]
        fn read_avx512(logits: &[f32]) -> u32 {
            read(logits)
        }
        #[target_feature(enable = "avx512f,fma")]
        fn operations_avx512(logits: usize) -> f32 {
            operations::<true>(logits)
        }
        #[target_feature(enable = "avx2")]
        fn read_avx2(logits: &[f32]) -> u32 {
            read(logits)
        }
        #[target_feature(enable = "avx2,fma")]
        fn operations_avx2(logits: usize) -> f32 {
            operations::<true>(logits)
        }
        match backend.name() {
            "avx512" => Some(Self {
                // SAFETY: the backend is available only on processors with these instructions.
                read: |logits| unsafe { read_avx512(logits) },
                // SAFETY: as above.
                operations: |logits| unsafe { operations_avx512(logits) },
            }),
            "avx2" => Some(Self {
                // SAFETY: as above.
                read: |logits| unsafe { read_avx2(logits) },
                // SAFETY: as above.
                operations: |logits| unsafe { operations_avx2(logits) },
            }),
            "sse2" => Some(Self { read: |logits| read(logits), operations: operations::<false> }),
            _ => None,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of(backend: Backend) -> Option<Self> {
        (backend.name() == "neon").then_some(Self { read: |logits| read(logits), operations: operations::<true> })
    }
}

/// Elements of an inner loop, which the compiler vectorises.
const AT_ONCE: usize = 128;

/// Reads every logit once.
#[inline(always)]
fn read(logits: &[f32]) -> u32 {
    let mut largest = [0; AT_ONCE];
    for chunk in logits.as_chunks::<AT_ONCE>().0 {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = x.to_bits().max(*largest);
        }
    }
    largest.into_iter().max().unwrap_or(0)
}

/// As many operations as the exponentials of a row and their sum need, on values in registers.
#[inline(always)]
fn operations<const FUSED: bool>(logits: usize) -> f32 {
    let mut values = [0.5f32; AT_ONCE];
    for _ in 0..logits / AT_ONCE {
        for value in &mut values {
            for _ in 0..13 {
                *value = if FUSED { value.mul_add(0.999, 1e-3) } else { *value * 0.999 + 1e-3 };
            }
        }
    }
    values.iter().sum()
}

/// `[N, C]` and `[1, C, D]`.
fn layouts(criterion: &mut Criterion) {
    let (rows, classes) = (262_144, 21);
    let random = &mut Random(1);
    let logits = random.numbers(rows * classes, -4.0, 4.0);
    let labels: Vec<u8> = (0..rows).map(|_| random.below(classes) as u8).collect();
    let costs = costs(classes, random);
    let mut gradient = vec![0.0; logits.len()];
    for backend in backends() {
        let loss = CrossEntropy::new(classes).backend(backend);
        let all = [
            ("weighted", loss),
            ("smoothed", loss.label_smoothing(0.1)),
            ("real-world", loss.mislabel_costs(&costs)),
            ("focal", loss.focal(2.0)),
        ];
        for (layout, positions) in [("[N, C]", 1), ("[1, C, D]", rows)] {
            let mut group = group(criterion, "layout", logits.len());
            for (name, loss) in all {
                let loss = loss.positions(positions);
                group.bench_function(BenchmarkId::new(backend.name(), format!("{layout} {name}")), |bencher| {
                    bencher.iter(|| loss.loss(black_box(&logits), black_box(&labels)));
                });
                group.bench_function(
                    BenchmarkId::new(backend.name(), format!("{layout} {name} gradient")),
                    |bencher| {
                        bencher.iter(|| loss.gradient(black_box(&logits), black_box(&labels), 1.0, &mut gradient));
                    },
                );
            }
        }
    }
}

fn small_calls(criterion: &mut Criterion) {
    let random = &mut Random(1);
    let logits = random.numbers(1000, -4.0, 4.0);
    let weights = random.numbers(1000, 0.5, 1.5);
    let mut gradient = vec![0.0; logits.len()];
    for backend in backends() {
        for (rows, classes) in [(1, 2), (1, 10), (16, 10), (1, 1000)] {
            let labels: Vec<i64> = (0..rows).map(|_| random.below(classes) as i64).collect();
            let loss = CrossEntropy::new(classes).class_weights(&weights[..classes]).backend(backend);
            let (logits, gradient) = (&logits[..rows * classes], &mut gradient[..rows * classes]);
            let mut group = group(criterion, "small", logits.len());
            group.bench_function(BenchmarkId::new(backend.name(), format!("{rows}x{classes}")), |bencher| {
                bencher.iter(|| black_box(&loss).loss(black_box(logits), black_box(&labels)));
            });
            group.bench_function(BenchmarkId::new(backend.name(), format!("{rows}x{classes} gradient")), |bencher| {
                bencher.iter(|| black_box(&loss).gradient(black_box(logits), black_box(&labels), 1.0, gradient));
            });
        }
    }
}

criterion_group!(benches, losses, layouts, small_calls);
criterion_main!(benches);
