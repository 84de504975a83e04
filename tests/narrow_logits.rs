//! Logits in i8, u8, f16 and bf16: all results have the bits of those for the same logits in f32.

mod common;
#[path = "common/stored.rs"]
mod stored;

use common::{Rng, backends, bits, is_slow};
use half::{bf16, f16};
use rwwce::{
    Argument, Backend, BinaryCrossEntropy, CrossEntropy, Error, Label, Logits, RowPartial, Upstream, log_sum_exp,
};
use stored::Stored;

impl Stored {
    /// Every type, with its special values where it has any.
    fn all(len: usize, rng: &mut Rng) -> [Self; 4] {
        let scale = [0.05, 0.25, 1.5, 3e38][rng.below(4)];
        let halves: Vec<f32> = (0..len)
            .map(|_| match rng.below(40) {
                0 => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 60_000.0, 6e-8][rng.below(5)],
                _ => rng.between(-9.0, 9.0),
            })
            .collect();
        [
            Self::I8((0..len).map(|_| rng.below(256) as u8 as i8).collect(), scale, rng.below(256) as i32 - 128),
            Self::U8((0..len).map(|_| rng.below(256) as u8).collect(), scale, rng.below(256) as i32),
            Self::F16(halves.iter().map(|&x| f16::from_f32(x)).collect()),
            Self::Bf16(halves.iter().map(|&x| bf16::from_f32(x)).collect()),
        ]
    }
}

/// A batch without its logits.
struct Batch {
    classes: usize,
    positions: usize,
    stride: usize,
    labels: Vec<i32>,
    class_weights: Vec<f32>,
    sample_weights: Vec<f32>,
    costs: Vec<f32>,
    soft: Vec<f32>,
    factors: Vec<f32>,
}

impl Batch {
    fn new(classes: usize, positions: usize, samples: usize, padding: usize, rng: &mut Rng) -> Self {
        let (rows, stride) = (samples * positions, classes * positions + padding);
        let mut numbers = |len: usize, most: f32| (0..len).map(|_| rng.between(0.0, most)).collect::<Vec<f32>>();
        let (class_weights, sample_weights, factors) = (numbers(classes, 3.0), numbers(rows, 2.0), numbers(rows, 1.0));
        let soft = numbers(samples * stride, 1.0);
        let mut costs = if classes <= 130 { numbers(classes * classes, 5.0) } else { vec![] };
        costs.iter_mut().step_by(classes + 1).for_each(|diagonal| *diagonal = 0.0);
        let label = |rng: &mut Rng| if rng.below(9) == 0 { -100 } else { rng.below(classes) as i32 };
        let labels = (0..rows).map(|_| label(rng)).collect();
        Self { classes, positions, stride, labels, class_weights, sample_weights, costs, soft, factors }
    }

    fn len(&self) -> usize {
        self.labels.len() / self.positions * self.stride
    }

    /// Results of every entry point.
    fn results(&self, backend: Backend, logits: Logits<'_>) -> Vec<(&'static str, Vec<u32>)> {
        let plain = CrossEntropy::new(self.classes).positions(self.positions).row_stride(self.stride).backend(backend);
        let by_label = plain.ignore_index(-100).class_weights(&self.class_weights);
        let every = by_label.sample_weights(&self.sample_weights).focal(1.5).z_loss(0.01).temperature(1.25);
        let mut every = every.class_bias(&self.class_weights);
        if self.costs.is_empty() {
            every = every.label_smoothing(0.1);
        } else {
            every = every.mislabel_costs(&self.costs);
        }
        let mut all = Vec::new();
        for (name, loss) in [("weighted", by_label.sample_weights(&self.sample_weights)), ("every option", every)] {
            let (mut rows, mut gradient) = (vec![7.0; self.labels.len()], vec![7.0; logits.len()]);
            let summary = loss.row_losses(logits, &self.labels, &mut rows).unwrap();
            assert_eq!(summary.non_finite, rows.iter().filter(|x| !x.is_finite()).count());
            let again = loss.loss(logits, &self.labels).unwrap();
            assert_eq!((again.loss.to_bits(), again.sum.to_bits()), (summary.loss.to_bits(), summary.sum.to_bits()));
            rows.push(summary.loss);
            all.push((name, bits(&rows)));
            loss.gradient(logits, &self.labels, Upstream::Rows(&self.factors), &mut gradient).unwrap();
            all.push((name, bits(&gradient)));
        }
        let soft = plain.class_weights(&self.class_weights).label_smoothing(0.1);
        let (mut rows, mut gradient) = (vec![7.0; self.labels.len()], vec![7.0; logits.len()]);
        soft.soft_row_losses(logits, &self.soft, &mut rows).unwrap();
        rows.push(soft.soft_loss(logits, &self.soft).unwrap().loss);
        all.push(("soft", bits(&rows)));
        soft.soft_gradient(logits, &self.soft, 0.5, &mut gradient).unwrap();
        all.push(("soft", bits(&gradient)));
        let adjusted = plain.temperature(0.75);
        adjusted.log_sum_exps(logits, &mut rows[..self.labels.len()]).unwrap();
        all.push(("log-sum-exps", bits(&rows)));
        gradient.fill(7.0);
        adjusted.log_probabilities(logits, &mut gradient).unwrap();
        all.push(("log-probabilities", bits(&gradient)));
        let (mut decisions, mut costs) = (vec![7; self.labels.len()], vec![7.0; self.labels.len()]);
        let deciding = if self.costs.is_empty() { adjusted } else { adjusted.mislabel_costs(&self.costs) };
        deciding.decide(logits, &mut decisions, Some(&mut costs)).unwrap();
        decisions.extend(bits(&costs));
        all.push(("decisions", decisions));
        if self.classes < 300 {
            let mut confusion = vec![0; self.classes * self.classes];
            let undecided = by_label.add_confusion(logits, &self.labels, &mut confusion).unwrap();
            confusion.push(undecided as u64);
            all.push(("confusion", confusion.iter().map(|&count| count as u32).collect()));
        }
        let targets: Vec<f32> = self.soft.iter().map(|q| q.fract()).collect();
        let binary = BinaryCrossEntropy::new(1).miss_costs(&[3.0]).backend(backend);
        let mut rows = vec![7.0; logits.len()];
        let summary = binary.row_losses(logits, &targets, &mut rows).unwrap();
        assert_eq!(binary.loss(logits, &targets).unwrap().loss.to_bits(), summary.loss.to_bits());
        all.push(("binary", bits(&rows)));
        binary.gradient(logits, &targets, 2.0, &mut rows).unwrap();
        all.push(("binary", bits(&rows)));
        let part = RowPartial::with_backend(logits, Some(0), backend).unwrap();
        let words = |x: f64| [x.to_bits() as u32, (x.to_bits() >> 32) as u32];
        let mut of_part = words(part.excluded_sum).to_vec();
        of_part.extend(bits(&[part.largest, part.label_logit, part.loss(2.0).unwrap(), backend.log_sum_exp(logits)]));
        part.gradient(logits, Some(0), 2.0, &mut rows).unwrap();
        of_part.extend(bits(&rows));
        all.push(("partial", of_part));
        all
    }
}

/// `[classes, positions, samples, padding]`, with classes around the widths of vectors and of tiles.
const SHAPES: [[usize; 4]; 21] = [
    [1, 1, 5, 0],
    [2, 1, 37, 0],
    [3, 1, 700, 0],
    [10, 1, 33, 3],
    [10, 7, 5, 0],
    [4, 600, 2, 1],
    [21, 131, 2, 0],
    [32, 1, 20, 0],
    [33, 1, 20, 1],
    [100, 1, 25, 0],
    [129, 3, 3, 2],
    [255, 1, 3, 0],
    [256, 1, 3, 0],
    [257, 1, 3, 0],
    [300, 2, 2, 0],
    [1000, 1, 5, 0],
    [2047, 1, 2, 1],
    [2048, 2, 1, 0],
    [2049, 1, 2, 0],
    [2500, 2, 2, 5],
    [5003, 1, 2, 0],
];

/// Compares all results with those for the same logits in f32.
fn compare(kinds: std::ops::Range<usize>) {
    let (mut rng, backends) = (Rng(9), backends());
    let mut compared = 0;
    for [classes, positions, samples, padding] in SHAPES {
        let batch = Batch::new(classes, positions, samples, padding, &mut rng);
        for stored in &Stored::all(batch.len(), &mut rng)[kinds.clone()] {
            let widened = stored.widened();
            for &backend in &backends {
                if is_slow(backend) && classes * samples * positions > 2000 {
                    continue;
                }
                let expected = batch.results(backend, Logits::from(&widened));
                for (found, expected) in batch.results(backend, stored.logits()).iter().zip(&expected) {
                    let shape = format!("[{samples}, {classes}, {positions}] + {padding}");
                    let (name, found) = found;
                    let first = found.iter().zip(&expected.1).position(|(a, b)| a != b);
                    let at = |numbers: &[u32]| first.map_or(f32::NAN, |first| f32::from_bits(numbers[first]));
                    let kind = std::mem::discriminant(&stored.logits());
                    assert!(
                        found == &expected.1,
                        "{backend} {shape} {kind:?} {name} number {first:?}: {} for {}",
                        at(found),
                        at(&expected.1)
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

// Two tests, so that they run in parallel.

#[test]
fn integers_are_the_f32_that_they_stand_for() {
    compare(0..2);
}

#[test]
fn halves_are_the_f32_that_they_stand_for() {
    compare(2..4);
}

/// Rows for the general way, shorter and longer than a tile, with contiguous classes and in `[N, C, D]`.
#[test]
fn long_rows_of_every_kind() {
    let (mut rng, backends) = (Rng(4), backends());
    for (classes, positions) in [(300, 1), (300, 2), (2304, 1), (2305, 1), (4500, 1), (2305, 2), (2100, 3)] {
        for kind in 0..7 {
            let mut logits: Vec<f16> =
                (0..classes * positions).map(|_| f16::from_f32(rng.between(-3.0, 3.0))).collect();
            let labels: Vec<u32> = (0..positions).map(|_| rng.below(classes) as u32).collect();
            for (position, &label) in labels.iter().enumerate() {
                let label = label as usize;
                let (own, other) = (label * positions + position, (label + 1) % classes * positions + position);
                match kind {
                    0 => logits[own] = f16::from_f32(200.0),
                    1 => logits[own] = f16::from_f32(-300.0),
                    2 => logits[own] = f16::INFINITY,
                    3 => logits[own] = f16::NEG_INFINITY,
                    4 => logits[other] = f16::INFINITY,
                    5 => logits[other] = f16::NAN,
                    _ => logits.fill(f16::NEG_INFINITY),
                }
            }
            let widened: Vec<f32> = logits.iter().map(|x| x.to_f32()).collect();
            for &backend in &backends {
                let weights = vec![1e30; classes];
                let loss = CrossEntropy::new(classes).positions(positions).class_weights(&weights).backend(backend);
                let (mut found, mut expected) = (vec![7.0; positions], vec![7.0; positions]);
                loss.row_losses(Logits::F16(&logits), &labels, &mut found).unwrap();
                loss.row_losses(&widened, &labels, &mut expected).unwrap();
                assert_eq!(bits(&found), bits(&expected), "{backend} C = {classes} D = {positions} kind {kind}");
            }
        }
    }
}

#[test]
fn scales_and_zero_points_are_checked() {
    let mut out = [7.0; 4];
    let mut refused = |logits: Logits<'_>, argument| {
        let error = Error::OutOfRange { argument };
        let loss = CrossEntropy::new(2);
        assert_eq!(loss.loss(logits, &[0u8, 1]).unwrap_err(), error);
        assert_eq!(loss.row_losses(logits, &[0u8, 1], &mut out[..2]).unwrap_err(), error);
        assert_eq!(loss.gradient(logits, &[0u8, 1], 1.0, &mut out).unwrap_err(), error);
        assert_eq!(loss.soft_loss(logits, &[0.5; 4]).unwrap_err(), error);
        assert_eq!(loss.log_probabilities(logits, &mut out).unwrap_err(), error);
        assert_eq!(loss.log_sum_exps(logits, &mut out[..2]).unwrap_err(), error);
        assert_eq!(loss.add_confusion(logits, &[0u8, 1], &mut [0; 4]).unwrap_err(), error);
        assert_eq!(loss.decide(logits, &mut [0; 2], Some(&mut out[..2])).unwrap_err(), error);
        assert_eq!(BinaryCrossEntropy::new(1).loss(logits, &[0.5; 4]).unwrap_err(), error);
        assert_eq!(BinaryCrossEntropy::new(1).gradient(logits, &[0.5; 4], 1.0, &mut out).unwrap_err(), error);
        assert_eq!(RowPartial::new(logits, None).unwrap_err(), error);
        let part = RowPartial::new(&[0.0; 4], Some(0)).unwrap();
        assert_eq!(part.gradient(logits, None, 1.0, &mut out).unwrap_err(), error);
        assert_eq!(out, [7.0; 4]);
    };
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(Logits::I8 { values: &[1; 4], scale, zero_point: 0 }, Argument::Scale);
        refused(Logits::U8 { values: &[1; 4], scale, zero_point: 0 }, Argument::Scale);
    }
    for zero_point in [-129, 128, i32::MIN] {
        refused(Logits::I8 { values: &[1; 4], scale: 1.0, zero_point }, Argument::ZeroPoint);
    }
    for zero_point in [-1, 256, i32::MAX] {
        refused(Logits::U8 { values: &[1; 4], scale: 1.0, zero_point }, Argument::ZeroPoint);
    }
    assert_eq!(log_sum_exp(Logits::U8 { values: &[5], scale: 2.0, zero_point: 255 }), -500.0);
    assert_eq!(Logits::I8 { values: &[-128, 127], scale: 0.5, zero_point: 127 }.get(0), Some(-127.5));
    assert_eq!(Logits::Bf16(&[]).get(0), None);
    assert!(Logits::Bf16(&[]).is_empty() && !Logits::U8 { values: &[5], scale: 1.0, zero_point: 0 }.is_empty());
}

#[test]
fn halves_are_taken_as_they_are() {
    let numbers = [2.0, -1.0, 0.3, 0.1].map(bf16::from_f32);
    let halves = numbers.map(|x| f16::from_f32(x.to_f32()));
    let (loss, labels) = (CrossEntropy::new(2), [0usize, 1]);
    let expected = loss.loss(Logits::Bf16(&numbers), &labels).unwrap();
    assert_eq!(loss.loss(&numbers, &labels).unwrap(), expected);
    assert_eq!(loss.loss(&numbers.to_vec(), &labels).unwrap(), expected);
    assert_eq!(loss.loss(&numbers[..], &labels).unwrap(), expected);
    assert_eq!(loss.loss(&halves, &labels).unwrap(), loss.loss(Logits::F16(&halves), &labels).unwrap());
}

/// Logits are converted to f32 tile by tile; labels of every type stay with their rows.
#[test]
fn labels_of_every_type_stay_with_their_rows() {
    fn losses<L: Label>(loss: CrossEntropy<'_>, logits: Logits<'_>, labels: &[L]) -> Vec<u32> {
        let mut losses = vec![7.0; labels.len()];
        loss.row_losses(logits, labels, &mut losses).unwrap();
        bits(&losses)
    }
    let mut rng = Rng(71);
    // Several tiles of some 2000 logits.
    let (classes, rows) = (10, 1500);
    let values: Vec<i8> = (0..classes * rows).map(|_| rng.bits() as i8).collect();
    let labels: Vec<u8> = (0..rows).map(|_| rng.below(classes) as u8).collect();
    let widened: Vec<f32> = values.iter().map(|&q| f32::from(q) * 0.0625).collect();
    let (narrow, wide) = (Logits::I8 { values: &values, scale: 0.0625, zero_point: 0 }, Logits::F32(&widened));
    for backend in backends() {
        let loss = CrossEntropy::new(classes).backend(backend).ignore_index(3);
        let expected = losses(loss, wide, &labels);
        assert_eq!(losses(loss, narrow, &labels), expected, "{backend}");
        assert_eq!(losses(loss, narrow, &labels.iter().map(|&y| y.into()).collect::<Vec<u16>>()), expected);
        assert_eq!(losses(loss, narrow, &labels.iter().map(|&y| y.into()).collect::<Vec<u32>>()), expected);
        assert_eq!(losses(loss, narrow, &labels.iter().map(|&y| y.into()).collect::<Vec<i32>>()), expected);
        assert_eq!(losses(loss, narrow, &labels.iter().map(|&y| y.into()).collect::<Vec<i64>>()), expected);
        assert_eq!(losses(loss, narrow, &labels.iter().map(|&y| y.into()).collect::<Vec<usize>>()), expected);
    }
}
