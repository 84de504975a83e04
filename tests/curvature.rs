//! Second derivatives against the textbook in f64, and the bound against the whole Hessian.

mod common;

use common::{Rng, backends, bits};
use rwwce::{Argument, BinaryCrossEntropy, CrossEntropy, Curvature, Error, Logits, Reduction, Upstream};

fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(x));
    let sum: f64 = x.iter().map(|x| (x - largest).exp()).sum();
    x.iter().map(|x| (x - largest).exp() / sum).collect()
}

/// The Hessian of W·log Σ exp(x) + Σ_j c_j·(log Σ exp(x) − log Σ_{k≠j} exp(x_k)). That of each log Σ exp is diag(q) −
/// q·qᵀ, where q is the softmax of its logits.
fn hessian(x: &[f64], weight: f64, costs: &[f64]) -> Vec<Vec<f64>> {
    let classes = x.len();
    let mut hessian = vec![vec![0.0; classes]; classes];
    let mut add = |q: &[f64], factor: f64| {
        for i in 0..classes {
            for k in 0..classes {
                let diagonal = if i == k { q[i] } else { 0.0 };
                hessian[i][k] += factor * (diagonal - q[i] * q[k]);
            }
        }
    };
    add(&softmax(x), weight + costs.iter().sum::<f64>());
    for (j, &cost) in costs.iter().enumerate().filter(|(_, cost)| **cost != 0.0) {
        let mut others = x.to_vec();
        others[j] = f64::NEG_INFINITY;
        add(&softmax(&others), -cost);
    }
    hessian
}

/// (diagonal element, sum of the magnitudes of its terms), term by term as documented.
fn diagonal(x: &[f64], weight: f64, costs: &[f64]) -> Vec<(f64, f64)> {
    let p = softmax(x);
    let miss: Vec<f64> = (0..p.len()).map(|i| (0..p.len()).filter(|&k| k != i).map(|k| p[k]).sum()).collect();
    let s: Vec<f64> = (0..p.len()).map(|j| if costs[j] == 0.0 { 0.0 } else { costs[j] * p[j] / miss[j] }).collect();
    let odds: f64 = s.iter().sum();
    let of_class = |i: usize| {
        let steep: f64 = (0..p.len()).filter(|&j| j != i && s[j] != 0.0).map(|j| s[j] / miss[j]).sum();
        let terms = [weight * p[i] * miss[i], costs[i] * p[i], -p[i] * miss[i] * odds, p[i] * p[i] * steep];
        (terms.iter().sum(), terms.iter().map(|term| term.abs()).sum())
    };
    (0..p.len()).map(of_class).collect()
}

const ULPS: f64 = 2.0;

fn assert_near(found: f32, expected: f64, magnitude: f64, case: &str) {
    let ulp = magnitude.max(f64::from(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
    assert!((f64::from(found) - expected).abs() <= ULPS * ulp, "{found:e} {expected:e} of {magnitude:e}, {case}");
}

struct Batch {
    classes: usize,
    logits: Vec<f32>,
    labels: Vec<u16>,
    class_weights: Vec<f32>,
    sample_weights: Vec<f32>,
    costs: Vec<f32>,
    soft: Vec<f32>,
}

impl Batch {
    fn new(classes: usize, rows: usize, range: f32, rng: &mut Rng) -> Self {
        let mut numbers =
            |len: usize, low: f32, high: f32| -> Vec<f32> { (0..len).map(|_| rng.between(low, high)).collect() };
        let logits = numbers(classes * rows, -range, range);
        let (class_weights, sample_weights) = (numbers(classes, 0.1, 3.0), numbers(rows, 0.1, 2.0));
        let mut costs = numbers(classes * classes, 0.0, 5.0);
        costs.iter_mut().step_by(classes + 1).for_each(|cost| *cost = 0.0);
        let soft = numbers(classes * rows, 0.0, 1.0);
        let labels = (0..rows).map(|_| rng.below(classes) as u16).collect();
        Self { classes, logits, labels, class_weights, sample_weights, costs, soft }
    }

    fn weighted(&self) -> CrossEntropy<'_> {
        CrossEntropy::new(self.classes)
            .class_weights(&self.class_weights)
            .sample_weights(&self.sample_weights)
            .reduction(Reduction::Sum)
    }

    fn row(&self, row: usize) -> Vec<f64> {
        self.logits[row * self.classes..][..self.classes].iter().map(|&x| f64::from(x)).collect()
    }
}

fn curvature(loss: &CrossEntropy<'_>, batch: &Batch, which: Curvature) -> Vec<f32> {
    let mut curvature = vec![7.0; batch.logits.len()];
    loss.curvature(&batch.logits, &batch.labels, 0.5, which, &mut curvature).unwrap();
    curvature
}

/// The largest logit, of which 1 − p is small, and the second, in any piece of a row.
#[test]
fn rows_of_several_pieces_are_those_of_the_textbook() {
    let mut rng = Rng(505);
    let (classes, places) = (4200, [(10, 4150), (4150, 10), (4150, 4100), (9, 5)]);
    let mut batch = Batch::new(classes, places.len(), 3.0, &mut rng);
    for (row, (largest, second)) in batch.logits.chunks_mut(classes).zip(places) {
        (row[largest], row[second]) = (40.0, 4.0);
        // Without the second for a reference, exponentials of the others overflow.
        row.iter_mut().for_each(|x| *x += 2000.0);
    }
    batch.labels = vec![7, 4120, 10, 9];
    let expected: Vec<_> = (0..places.len())
        .flat_map(|row| {
            let label = usize::from(batch.labels[row]);
            let costs: Vec<f64> = batch.costs[label * classes..][..classes].iter().map(|&cost| cost.into()).collect();
            let factor = 0.5 * f64::from(batch.sample_weights[row]);
            let elements = diagonal(&batch.row(row), f64::from(batch.class_weights[label]), &costs);
            elements.into_iter().map(move |(expected, magnitude)| (factor * expected, factor * magnitude))
        })
        .collect();
    for backend in backends() {
        let loss = batch.weighted().mislabel_costs(&batch.costs).backend(backend);
        let found = curvature(&loss, &batch, Curvature::Diagonal);
        for (at, (&found, &(expected, magnitude))) in found.iter().zip(&expected).enumerate() {
            assert_near(found, expected, magnitude, &format!("{backend} row {} class {}", at / classes, at % classes));
        }
    }
}

#[test]
fn the_diagonal_is_that_of_the_textbook() {
    let mut rng = Rng(501);
    for (classes, rows, range) in [(1, 3, 9.0), (2, 40, 9.0), (3, 40, 30.0), (10, 30, 9.0), (37, 9, 5.0), (130, 4, 9.0)]
    {
        let batch = Batch::new(classes, rows, range, &mut rng);
        let weights: Vec<f64> = batch.class_weights.iter().map(|&w| w.into()).collect();
        let all: f64 = weights.iter().sum();
        for backend in backends() {
            let plain = batch.weighted().backend(backend);
            let costly = plain.mislabel_costs(&batch.costs);
            for (name, loss, has_costs, smoothing) in [
                ("plain", plain, false, 0.0f32),
                ("smooth", plain.label_smoothing(0.1), false, 0.1),
                ("costs", costly, true, 0.0),
                ("costs, smooth", costly.label_smoothing(0.3), true, 0.3),
            ] {
                let found = curvature(&loss, &batch, Curvature::Diagonal);
                let smoothing = f64::from(smoothing);
                for (row, found) in found.chunks(classes).enumerate() {
                    let label = usize::from(batch.labels[row]);
                    let weight = (1.0 - smoothing) * weights[label] + smoothing / classes as f64 * all;
                    let costs: Vec<f64> = (0..classes)
                        .map(|j| if has_costs { f64::from(batch.costs[label * classes + j]) } else { 0.0 })
                        .collect();
                    let factor = 0.5 * f64::from(batch.sample_weights[row]);
                    for (i, (expected, magnitude)) in diagonal(&batch.row(row), weight, &costs).into_iter().enumerate()
                    {
                        let case = format!("{backend} {name} C = {classes} row {row} class {i}");
                        assert_near(found[i], factor * expected, factor * magnitude, &case);
                    }
                    let whole = hessian(&batch.row(row), weight, &costs);
                    for (i, &found) in found.iter().enumerate() {
                        let error = (f64::from(found) - factor * whole[i][i]).abs();
                        assert!(
                            error <= 1e-6 * (weight + costs.iter().sum::<f64>()),
                            "{name} {found} {:?}",
                            whole[i][i]
                        );
                    }
                }
            }
            let mut found = vec![7.0; batch.logits.len()];
            plain.soft_curvature(&batch.logits, &batch.soft, 0.5, Curvature::Diagonal, &mut found).unwrap();
            for (row, found) in found.chunks(classes).enumerate() {
                let targets = &batch.soft[row * classes..][..classes];
                let weight: f64 = targets.iter().zip(&weights).map(|(&q, w)| f64::from(q) * w).sum();
                let factor = 0.5 * f64::from(batch.sample_weights[row]);
                let expected = diagonal(&batch.row(row), weight, &vec![0.0; classes]);
                for (&found, (expected, magnitude)) in found.iter().zip(expected) {
                    assert_near(found, factor * expected, factor * magnitude, &format!("{backend} soft {classes}"));
                }
            }
        }
    }
}

/// vᵀHv ≤ vᵀ·diag(bound)·v, and 2·p·(1 − p) without mislabel costs; the upstream factor is ½.
#[test]
fn the_bound_is_above_the_whole_hessian() {
    let mut rng = Rng(502);
    for classes in [1, 2, 3, 5, 10, 37] {
        let batch = Batch::new(classes, 60, 6.0, &mut rng);
        let loss = CrossEntropy::new(classes).mislabel_costs(&batch.costs).reduction(Reduction::Sum);
        let plain = CrossEntropy::new(classes).reduction(Reduction::Sum);
        let (bounds, of_plain) =
            (curvature(&loss, &batch, Curvature::Bound), curvature(&plain, &batch, Curvature::Bound));
        for row in 0..60 {
            let (x, label) = (batch.row(row), usize::from(batch.labels[row]));
            let costs: Vec<f64> = batch.costs[label * classes..][..classes].iter().map(|&c| c.into()).collect();
            let hessian = hessian(&x, 1.0, &costs);
            let bound = &bounds[row * classes..][..classes];
            let p = softmax(&x);
            for (i, &found) in bound.iter().enumerate() {
                let others: f64 = (0..classes).filter(|&j| j != i).map(|j| costs[j] * p[j]).sum();
                let expected = p[i] * ((1.0 + costs[i]) * (1.0 - p[i]) + others);
                assert_near(found, expected, expected, &format!("class {i} of {x:?}"));
                assert!(found >= 0.0);
            }
            for _ in 0..50 {
                let v: Vec<f64> = (0..classes).map(|_| rng.between(-1.0, 1.0).into()).collect();
                let steep: f64 = (0..classes)
                    .flat_map(|i| (0..classes).map(move |k| (i, k)))
                    .map(|(i, k)| v[i] * hessian[i][k] * v[k])
                    .sum();
                let bounded: f64 = v.iter().zip(bound).map(|(v, &b)| v * v * f64::from(b)).sum();
                assert!(0.5 * steep <= bounded * (1.0 + 1e-6), "{steep} {bounded} {x:?}");
            }
            for (&found, p) in of_plain[row * classes..].iter().zip(softmax(&x)) {
                assert!((f64::from(found) - p * (1.0 - p)).abs() <= 1e-6 * p, "{found} {p}");
            }
        }
    }
}

/// The mislabel cost of the largest logit's class curves the others however far it leads: by fp·r·(r − 1), where r is
/// the probability among the others.
#[test]
fn far_leads_keep_what_is_left_of_the_others() {
    let costs = [0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for backend in backends() {
        let loss = CrossEntropy::new(3).mislabel_costs(&costs).backend(backend);
        for lead in [40.0, 110.0, 800.0, 1e4, 1e30, f32::INFINITY] {
            let mut found = [7.0; 3];
            loss.curvature(&[lead, 1.0, 0.0], &[1u8], 1.0, Curvature::Diagonal, &mut found).unwrap();
            let r = 1.0 / (1.0 + (-1.0f64).exp());
            assert_eq!(found[0], if lead == 40.0 { found[0] } else { 0.0 }, "{backend} {lead}");
            for other in &found[1..] {
                assert_near(*other, 4.0 * r * (r - 1.0), 4.0 * r, &format!("{backend} {lead} {found:?}"));
            }
        }
    }
}

#[test]
fn rows_that_are_no_numbers() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for backend in backends() {
        let loss = CrossEntropy::new(3).backend(backend).ignore_index(9);
        let of = |logits: [f32; 3], label: u8| {
            let mut found = [7.0; 3];
            loss.curvature(&logits, &[label], 1.0, Curvature::Diagonal, &mut found).unwrap();
            found
        };
        for logits in [[nan, 0.0, 1.0], [0.0, 1.0, nan], [inf, 0.0, inf], [-inf; 3], [inf, nan, 0.0]] {
            assert!(of(logits, 1).iter().all(|x| x.is_nan()), "{backend} {logits:?} {:?}", of(logits, 1));
            assert_eq!(bits(&of(logits, 9)), bits(&[0.0; 3]));
        }
        assert_eq!(of([inf, 0.0, 1.0], 1), [0.0; 3]);
        assert_eq!(of([3.0, -inf, -inf], 1), [0.0; 3]);
        let half = of([2.0, 2.0, -inf], 0);
        assert_eq!(half, [0.25, 0.25, 0.0]);
        let weightless = loss.class_weights(&[1.0, 0.0, 1.0]).reduction(Reduction::Sum);
        let costs = [0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        for weightless in [weightless, weightless.mislabel_costs(&costs)] {
            let mut found = [7.0; 3];
            weightless.curvature(&[nan, inf, 0.0], &[1u8], 1.0, Curvature::Bound, &mut found).unwrap();
            assert_eq!(bits(&found), bits(&[0.0; 3]));
        }
    }
}

/// The same bits in every layout, from f32 and i8 logits and on every backend; rows of many lengths.
#[test]
fn layouts_types_and_lengths() {
    let mut rng = Rng(503);
    for (classes, samples, positions) in [(3, 5, 7), (10, 4, 33), (21, 3, 16), (300, 2, 5)] {
        let batch = Batch::new(classes, samples * positions, 9.0, &mut rng);
        let flat = batch.weighted().mislabel_costs(&batch.costs);
        let expected = curvature(&flat, &batch, Curvature::Diagonal);
        let stride = classes * positions + 3;
        let across = |flat: &[f32], padding: f32| -> Vec<f32> {
            let mut to = vec![padding; samples * stride];
            for (row, logits) in flat.chunks(classes).enumerate() {
                for (class, &x) in logits.iter().enumerate() {
                    to[row / positions * stride + class * positions + row % positions] = x;
                }
            }
            to
        };
        for backend in backends() {
            assert_eq!(bits(&curvature(&flat.backend(backend), &batch, Curvature::Diagonal)), bits(&expected));
            let (logits, mut found) = (across(&batch.logits, f32::NAN), vec![7.0; samples * stride]);
            let loss = flat.positions(positions).row_stride(stride).backend(backend);
            loss.curvature(&logits, &batch.labels, 0.5, Curvature::Diagonal, &mut found).unwrap();
            assert_eq!(bits(&found), bits(&across(&expected, 7.0)), "{backend} {classes}");
        }
    }
    let q: Vec<i8> = (0..30).map(|_| rng.bits() as i8).collect();
    let widened: Vec<f32> = q.iter().map(|&q| f32::from(q) * 0.25).collect();
    let (loss, labels) = (CrossEntropy::new(10).temperature(2.0), [1u8, 2, 3]);
    let (mut found, mut expected) = ([7.0; 30], [7.0; 30]);
    let narrow = Logits::I8 { values: &q, scale: 0.25, zero_point: 0 };
    loss.curvature(narrow, &labels, 1.0, Curvature::Diagonal, &mut found).unwrap();
    let halved: Vec<f32> = widened.iter().map(|x| x / 2.0).collect();
    CrossEntropy::new(10).curvature(&halved, &labels, 0.25, Curvature::Diagonal, &mut expected).unwrap();
    assert_eq!(found, expected);
    for classes in [1000, 2049, 5000, 40_000] {
        let logits: Vec<f32> = (0..classes).map(|_| rng.between(-9.0, 9.0)).collect();
        let (x, label) = (logits.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), [7u16]);
        let p = softmax(&x);
        for backend in backends() {
            let mut found = vec![7.0; classes];
            let loss = CrossEntropy::new(classes).backend(backend);
            loss.curvature(&logits, &label, 1.0, Curvature::Diagonal, &mut found).unwrap();
            for (&found, p) in found.iter().zip(&p) {
                assert_near(found, p * (1.0 - p), p * (1.0 - p), &format!("{backend} {classes}"));
            }
        }
    }
}

#[test]
fn factors_of_rows_and_what_is_refused() {
    let (logits, labels) = ([2.0, -1.0, 0.5, 0.5], [0u8, 1]);
    let loss = CrossEntropy::new(2);
    let (mut by_rows, mut alone) = ([7.0; 4], [7.0; 2]);
    loss.curvature(&logits, &labels, &[3.0, 0.0], Curvature::Diagonal, &mut by_rows).unwrap();
    loss.curvature(&logits[..2], &labels[..1], 3.0, Curvature::Diagonal, &mut alone).unwrap();
    assert_eq!(by_rows, [alone[0], alone[1], 0.0, 0.0]);
    let mut found = [7.0; 4];
    let incompatible = |option| Err(Error::Incompatible { option, with: Argument::Curvature });
    let mut call = |loss: CrossEntropy<'_>| loss.curvature(&logits, &labels, 1.0, Curvature::Diagonal, &mut found);
    assert_eq!(call(loss.focal(2.0)), incompatible(Argument::Focal));
    assert_eq!(call(loss.z_loss(0.1)), incompatible(Argument::ZLoss));
    assert_eq!(found, [7.0; 4]);
    let short = loss.curvature(&logits, &labels, 1.0, Curvature::Bound, &mut found[..3]);
    assert_eq!(short, Err(Error::Length { argument: Argument::Curvature, expected: 4, found: 3 }));
    let bad = loss.curvature(&logits, &[0u8, 2], 1.0, Curvature::Bound, &mut found);
    assert_eq!(bad, Err(Error::LabelOutOfRange { row: 1, label: 2, classes: 2 }));
    assert_eq!(found, [7.0; 4]);
}

#[test]
fn the_binary_curvature_is_that_of_the_textbook() {
    let mut rng = Rng(504);
    let logits: Vec<f32> = (0..300).map(|_| rng.between(-40.0, 40.0)).collect();
    let targets: Vec<f32> = (0..300).map(|_| rng.between(0.0, 1.0)).collect();
    let samples: Vec<f32> = (0..300).map(|_| rng.between(-1.0, 2.0)).collect();
    let (misses, alarms) = ([20.0, 1.0, 0.5], [1.0, 3.0, 0.0]);
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(3).miss_costs(&misses).false_alarm_costs(&alarms).sample_weights(&samples);
        let loss = loss.reduction(Reduction::Sum).backend(backend);
        let mut found = vec![7.0; 300];
        loss.curvature(&logits, &targets, Upstream::Loss(2.0), &mut found).unwrap();
        for (i, &found) in found.iter().enumerate() {
            let (z, t, s) = (f64::from(logits[i]), f64::from(targets[i]), f64::from(samples[i]));
            let weight = f64::from(misses[i % 3]) * t + f64::from(alarms[i % 3]) * (1.0 - t);
            let expected = 2.0 * s * weight / ((1.0 + (-z).exp()) * (1.0 + z.exp()));
            assert_near(found, expected, expected.abs(), &format!("{backend} {i}"));
        }
        let short = loss.curvature(&logits, &targets, 1.0, &mut found[..299]);
        assert_eq!(short, Err(Error::Length { argument: Argument::Curvature, expected: 300, found: 299 }));
    }
}
