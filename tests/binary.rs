//! The binary and multi-label loss on every backend.

mod common;

use common::{Rng, backends, bits, class_of, raw_bits, same_bits_classes, ulp};
use rwwce::{Argument, Backend, BinaryCrossEntropy, Denominator, Error, Reduction, ZeroDenominator};
use std::collections::BTreeMap;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// The contract's bound, relative to the sum of the magnitudes of the terms.
const ULPS: f64 = 6.0;

/// The formula in f64: loss and gradient, each with the sum of the magnitudes of its terms.
fn reference(z: f32, target: f32, miss: f32, false_alarm: f32, sample: f32) -> [(f64, f64); 2] {
    let [z, t, miss, false_alarm, sample] = [z, target, miss, false_alarm, sample].map(f64::from);
    let minus_log_sigmoid = |z: f64| if z > 0.0 { (-z).exp().ln_1p() } else { -z + z.exp().ln_1p() };
    let sigmoid = |z: f64| if z > 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) };
    let (a, b) = (sample * miss * t, sample * false_alarm * (1.0 - t));
    let loss = [a * minus_log_sigmoid(z), b * minus_log_sigmoid(-z)];
    let slopes = [-a * sigmoid(-z), b * sigmoid(z)];
    [loss, slopes].map(|[a, b]| (a + b, a.abs() + b.abs()))
}

struct Batch {
    labels: usize,
    logits: Vec<f32>,
    targets: Vec<f32>,
    misses: Vec<f32>,
    false_alarms: Vec<f32>,
    samples: Vec<f32>,
}

impl Batch {
    fn new(labels: usize, count: usize, rng: &mut Rng) -> Self {
        let mut numbers = |count: usize, low: f32, high: f32| (0..count).map(|_| rng.between(low, high)).collect();
        let size = labels * count;
        let (misses, false_alarms, samples) =
            (numbers(labels, 0.0, 9.0), numbers(labels, 0.0, 9.0), numbers(size, 0.0, 3.0));
        let logits = (0..size)
            .map(|_| match rng.below(5) {
                0 => rng.between(-120.0, 120.0),
                1 => rng.between(-1e30, 1e30),
                2 => rng.between(-1e-3, 1e-3),
                3 => 0.0,
                _ => rng.between(-20.0, 20.0),
            })
            .collect();
        let targets = (0..size).map(|_| [0.0, 1.0, rng.between(0.0, 1.0)][rng.below(3)]).collect();
        Self { labels, logits, targets, misses, false_alarms, samples }
    }

    fn loss(&self) -> BinaryCrossEntropy<'_> {
        BinaryCrossEntropy::new(self.labels)
            .miss_costs(&self.misses)
            .false_alarm_costs(&self.false_alarms)
            .sample_weights(&self.samples)
            .reduction(Reduction::Sum)
    }

    fn evaluate(&self, backend: Backend) -> (Vec<f32>, Vec<f32>) {
        let loss = self.loss().backend(backend);
        let (mut losses, mut gradient) = (vec![7.0; self.logits.len()], vec![7.0; self.logits.len()]);
        let mut over = self.logits.clone();
        let (z, t) = (&self.logits, &self.targets);
        let sums = [
            loss.loss(z, t),
            loss.row_losses(z, t, &mut losses),
            loss.gradient(z, t, 1.0, &mut gradient),
            loss.gradient_in_place(&mut over, t, 1.0),
        ]
        .map(|summary| summary.unwrap().sum.to_bits());
        assert_eq!(sums, [sums[0]; 4]);
        assert_eq!(bits(&over), bits(&gradient));
        (losses, gradient)
    }
}

#[test]
fn losses_and_gradients_are_within_the_bound() {
    for backend in backends() {
        let mut rng = Rng(7);
        let mut worst = [0.0f64; 2];
        for (labels, count) in [(1, 4000), (2, 900), (3, 500), (17, 99), (40, 50)] {
            let batch = Batch::new(labels, count, &mut rng);
            let (losses, gradient) = batch.evaluate(backend);
            for (index, &z) in batch.logits.iter().enumerate() {
                let (miss, false_alarm) = (batch.misses[index % labels], batch.false_alarms[index % labels]);
                let (target, sample) = (batch.targets[index], batch.samples[index]);
                let expected = reference(z, target, miss, false_alarm, sample);
                for ((found, (value, size)), worst) in
                    [losses[index], gradient[index]].into_iter().zip(expected).zip(&mut worst)
                {
                    let error = (f64::from(found) - value).abs();
                    if size < f64::from(f32::MIN_POSITIVE) {
                        assert!(error <= 2.0 * f64::from(f32::MIN_POSITIVE), "{backend} {z} {target}: {found:e}");
                        continue;
                    }
                    let error = error / ulp(size);
                    assert!(error <= ULPS, "{backend} {z} {target}: {found:e}, expected {value:e}, {error} ulp");
                    *worst = worst.max(error);
                }
            }
        }
        println!("{backend}: loss ≤ {:.2} ulp, gradient ≤ {:.2} ulp", worst[0], worst[1]);
    }
}

/// Products of costs, weights and upstream factors overflow or underflow f32; some logits bring them back.
#[test]
fn products_beyond_f32_keep_their_digits() {
    let (misses, false_alarms) = ([1e-30, 1e25, 1.0], [1.0, 1e-30, 1e25]);
    let mut of_class: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for backend in backends() {
        let mut found_bits = Vec::new();
        for factor in [1e-25, 1.0, 1e20] {
            let mut rng = Rng(3);
            let mut any = |choice: &[f32]| -> Vec<f32> { (0..180).map(|_| choice[rng.below(choice.len())]).collect() };
            let (logits, targets) = (any(&[-1e35, 1e35, -60.0, -1.0, 0.5, 0.7, 1.3, 70.0]), any(&[0.0, 0.3, 0.5, 1.0]));
            let samples = any(&[1e-20, 0.7, 1.0, 1e15]);
            let loss = BinaryCrossEntropy::new(3).miss_costs(&misses).false_alarm_costs(&false_alarms).backend(backend);
            let loss = loss.sample_weights(&samples).reduction(Reduction::Sum);
            let (mut losses, mut gradient) = (vec![7.0; 180], vec![7.0; 180]);
            loss.row_losses(&logits, &targets, &mut losses).unwrap();
            loss.gradient(&logits, &targets, factor, &mut gradient).unwrap();
            for (index, &z) in logits.iter().enumerate() {
                let costs = (misses[index % 3], false_alarms[index % 3]);
                let [of_loss, of_slope] = reference(z, targets[index], costs.0, costs.1, samples[index]);
                let of_slope = (of_slope.0 * f64::from(factor), of_slope.1 * f64::from(factor));
                for (found, (value, size)) in [(losses[index], of_loss), (gradient[index], of_slope)] {
                    let good = if value.abs() > f64::from(f32::MAX) {
                        f64::from(found) == value.signum() * f64::INFINITY
                    } else {
                        // Below the normal range the bound is absolute.
                        let unit = ulp(size).max(f64::from(f32::MIN_POSITIVE));
                        (f64::from(found) - value).abs() <= ULPS * unit
                    };
                    assert!(good, "{backend} {z} {costs:?}: {found:e} instead of {value:e}");
                }
            }
            found_bits.extend(bits(&losses).into_iter().chain(bits(&gradient)));
        }
        // Whether an element needs more than f32 does not depend on its neighbours.
        let expected = of_class.entry(class_of(backend)).or_insert_with(|| found_bits.clone());
        assert!(*expected == found_bits, "{backend}: other bits than the first backend of its class");
    }
}

/// Weights whose product underflows f32 are not 0.
#[test]
fn weights_below_f32_count() {
    let tiny = [1e-30];
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(1).miss_costs(&tiny).false_alarm_costs(&tiny).sample_weights(&tiny);
        let loss = loss.backend(backend);
        for target in [0.0, 0.5, 1.0] {
            let mut gradient = [7.0];
            assert!(loss.gradient(&[NAN], &[target], 1.0, &mut gradient).unwrap().loss.is_nan());
            assert!(gradient[0].is_nan());
            for z in [-1e35, 1e35] {
                let mut losses = [7.0];
                loss.row_losses(&[z], &[target], &mut losses).unwrap();
                let [(value, size), _] = reference(z, target, tiny[0], tiny[0], tiny[0]);
                let error = (f64::from(losses[0]) - value).abs();
                assert!(error <= ULPS * ulp(size), "{backend} {z} {target}: {:e} instead of {value:e}", losses[0]);
            }
        }
    }
}

#[test]
fn backends_of_a_class_agree() {
    let mut rng = Rng(8);
    let backends = backends();
    for _ in 0..20 {
        let mut batch = Batch::new(1 + rng.below(20), 1 + rng.below(40), &mut rng);
        batch.logits[0] = [NAN, INF, -INF, 0.0][rng.below(4)];
        for class in same_bits_classes(backends.iter().copied()) {
            let all: Vec<_> = class
                .into_iter()
                .map(|backend| batch.evaluate(backend))
                .map(|(losses, gradient)| (bits(&losses), bits(&gradient)))
                .collect();
            assert!(all.iter().all(|found| *found == all[0]));
        }
    }
}

#[test]
fn gradients_are_derivatives() {
    let mut rng = Rng(9);
    for backend in backends() {
        for _ in 0..300 {
            let mut batch = Batch::new(1, 1, &mut rng);
            batch.logits[0] = rng.between(-5.0, 5.0);
            let (z, t) = (f64::from(batch.logits[0]), batch.targets[0]);
            let (miss, false_alarm, sample) = (batch.misses[0], batch.false_alarms[0], batch.samples[0]);
            // Central differences in f64, at f32 arguments.
            let at = |z: f64| reference(z as f32, t, miss, false_alarm, sample)[0].0;
            let step = f64::from((z as f32 + 1e-2) - z as f32);
            let slope = (at(z + step) - at(z - step)) / (2.0 * step);
            let found = f64::from(batch.evaluate(backend).1[0]);
            assert!((found - slope).abs() < 2e-4 * (1.0 + slope.abs()), "{backend}: {found} for {slope}");
        }
    }
}

#[test]
fn nan_and_infinity() {
    // Logit, target, loss, gradient.
    let table = [
        (NAN, 1.0, NAN, NAN),
        (NAN, 0.0, NAN, NAN),
        (INF, 1.0, 0.0, 0.0),
        (INF, 0.0, INF, 3.0),
        (-INF, 1.0, INF, -2.0),
        (-INF, 0.0, 0.0, 0.0),
        (INF, 0.5, INF, 1.5),
        (f32::MAX, 1.0, 0.0, 0.0),
        (-1e38, 1.0, 2e38, -2.0),
        (1_048_576.0, 0.0, 3_145_728.0, 3.0),
    ];
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(1).miss_costs(&[2.0]).false_alarm_costs(&[3.0]).backend(backend);
        for (z, target, expected, slope) in table {
            let mut gradient = [7.0];
            let summary = loss.gradient(&[z], &[target], 1.0, &mut gradient).unwrap();
            assert_eq!(bits(&[summary.loss]), bits(&[expected]), "{backend} {z} {target}: {}", summary.loss);
            assert_eq!(bits(&gradient), bits(&[slope]), "{backend} {z} {target}");
            assert_eq!(summary.non_finite, usize::from(!expected.is_finite()));
            // Weight 0.
            for nothing in [loss.sample_weights(&[0.0]), loss.miss_costs(&[0.0]).false_alarm_costs(&[0.0])] {
                let summary = nothing.gradient(&[z], &[target], 1.0, &mut gradient).unwrap();
                assert_eq!((summary.loss, gradient, summary.non_finite), (0.0, [0.0], 0));
            }
        }
    }
}

#[test]
fn denominators_and_upstream_factors() {
    let mut rng = Rng(1);
    let batch = Batch::new(3, 5, &mut rng);
    let sum = batch.loss().loss(&batch.logits, &batch.targets).unwrap().sum;
    let weighed = batch.loss().weigh(&batch.targets).unwrap();
    assert_eq!((weighed.sum, weighed.non_finite), (0.0, 0));
    let mut gradient = vec![0.0; 15];
    batch.loss().gradient(&batch.logits, &batch.targets, 1.0, &mut gradient).unwrap();
    let samples: f64 = batch.samples.iter().map(|&s| f64::from(s)).sum();
    let weights: f64 = (0..15)
        .map(|i| {
            let (t, miss, alarm) = (batch.targets[i], batch.misses[i % 3], batch.false_alarms[i % 3]);
            let [t, miss, alarm, sample] = [t, miss, alarm, batch.samples[i]].map(f64::from);
            sample * (miss * t + alarm * (1.0 - t))
        })
        .sum();
    for (denominator, expected) in [
        (Denominator::Rows, 15.0),
        (Denominator::RowsTimesClasses, 15.0),
        (Denominator::SampleWeightSum, samples),
        (Denominator::WeightSum, weights),
    ] {
        let loss = batch.loss().reduction(Reduction::Mean(denominator));
        let mut scaled = vec![0.0; 15];
        let summary = loss.gradient(&batch.logits, &batch.targets, 2.0, &mut scaled).unwrap();
        assert!((summary.denominator / expected - 1.0).abs() < 1e-12);
        assert_eq!(summary.loss, (sum / summary.denominator) as f32);
        assert_eq!(weighed.denominator(Reduction::Mean(denominator)), summary.denominator);
        for (scaled, plain) in scaled.iter().zip(&gradient) {
            assert!((f64::from(*scaled) - f64::from(*plain) * 2.0 / expected).abs() <= 1e-6 * f64::from(plain.abs()));
        }
    }
    let nothing = BinaryCrossEntropy::new(2);
    assert!(nothing.loss(&[0.0; 0], &[]).unwrap().loss.is_nan());
    let asked = nothing.zero_denominator(ZeroDenominator::Error);
    assert_eq!(asked.loss(&[0.0; 0], &[]), Err(Error::ZeroDenominator));
}

#[test]
fn bad_arguments_are_errors_and_leave_the_outputs() {
    let refuse = |loss: BinaryCrossEntropy<'_>, logits: &[f32], targets: &[f32], expected: Error| {
        let (mut losses, mut gradient, mut over) = ([7.0; 4], [7.0; 4], logits.to_vec());
        assert_eq!(loss.loss(logits, targets), Err(expected));
        assert_eq!(loss.row_losses(logits, targets, &mut losses), Err(expected));
        assert_eq!(loss.gradient(logits, targets, 1.0, &mut gradient), Err(expected));
        assert_eq!(loss.gradient_in_place(&mut over, targets, 1.0), Err(expected));
        assert_eq!((losses, gradient, raw_bits(&over)), ([7.0; 4], [7.0; 4], raw_bits(logits)));
    };
    let loss = BinaryCrossEntropy::new(2);
    let (z, t) = ([0.0, NAN, 2.0, 3.0], [0.0, 1.0, 0.5, 0.0]);
    refuse(BinaryCrossEntropy::new(0), &z, &t, Error::NoClasses);
    refuse(BinaryCrossEntropy::new(3), &z, &t, Error::Length { argument: Argument::Logits, expected: 3, found: 4 });
    refuse(loss, &z, &t[..3], Error::Length { argument: Argument::Targets, expected: 4, found: 3 });
    for (index, bad) in [(0, -0.1), (1, 1.1), (2, NAN), (3, INF)] {
        let mut t = t;
        t[index] = bad;
        refuse(loss, &z, &t, Error::TargetOutOfRange { index });
    }
    type With = for<'a> fn(BinaryCrossEntropy<'a>, &'a [f32]) -> BinaryCrossEntropy<'a>;
    let with: [(Argument, usize, With); 3] = [
        (Argument::MissCosts, 2, |loss, costs| loss.miss_costs(costs)),
        (Argument::FalseAlarmCosts, 2, |loss, costs| loss.false_alarm_costs(costs)),
        (Argument::SampleWeights, 4, |loss, costs| loss.sample_weights(costs)),
    ];
    for (argument, expected, with) in with {
        let mut costs = vec![1.0; expected];
        refuse(with(loss, &[1.0]), &z, &t, Error::Length { argument, expected, found: 1 });
        // Sample weights may be negative, as those of event generators are.
        if argument != Argument::SampleWeights {
            costs[1] = -1.0;
            refuse(with(loss, &costs), &z, &t, Error::Negative { argument, index: 1 });
        }
        costs[1] = NAN;
        refuse(with(loss, &costs), &z, &t, Error::NotFinite { argument, index: 1 });
    }
    let mut short = [7.0; 3];
    let too_short = |argument| Error::Length { argument, expected: 4, found: 3 };
    assert_eq!(loss.row_losses(&z, &t, &mut short), Err(too_short(Argument::RowLosses)));
    assert_eq!(loss.gradient(&z, &t, 1.0, &mut short), Err(too_short(Argument::Gradient)));
    let mut gradient = [7.0; 4];
    let upstream = Error::NotFinite { argument: Argument::Upstream, index: 0 };
    assert_eq!(loss.gradient(&z, &t, NAN, &mut gradient), Err(upstream));
    assert_eq!((short, gradient), ([7.0; 3], [7.0; 4]));
}

#[test]
fn a_target_of_no_weight_may_be_anything() {
    let (z, weights) = ([0.5, -1.0, 2.0, NAN], [1.0, 0.0, 1.0, 0.0]);
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(1).backend(backend);
        let (mut rows, mut gradient) = ([7.0; 4], [7.0; 4]);
        let of = |targets: &[f32; 4], rows: &mut [f32], gradient: &mut [f32]| {
            let loss = loss.sample_weights(&weights);
            loss.gradient(&z, targets, 1.0, gradient).unwrap();
            loss.row_losses(&z, targets, rows).unwrap()
        };
        let summary = of(&[1.0, NAN, 0.0, INF], &mut rows, &mut gradient);
        assert_eq!((rows[1], rows[3], gradient[1], gradient[3]), (0.0, 0.0, 0.0, 0.0));
        let (mut same_rows, mut same_gradient) = ([7.0; 4], [7.0; 4]);
        assert_eq!(of(&[1.0, 0.5, 0.0, 0.5], &mut same_rows, &mut same_gradient).total, summary.total);
        assert_eq!((rows, gradient), (same_rows, same_gradient));
        // Two costs of 0 are weight 0 too.
        let free = BinaryCrossEntropy::new(2).miss_costs(&[1.0, 0.0]).false_alarm_costs(&[1.0, 0.0]);
        assert_eq!(free.loss(&[0.0, 0.0], &[1.0, NAN]).unwrap().sum, f64::from(core::f32::consts::LN_2));
        let index = 1;
        assert_eq!(loss.loss(&z, &[1.0, NAN, 0.0, 0.0]), Err(Error::TargetOutOfRange { index }));
        for free in [loss.miss_costs(&[0.0]), loss.false_alarm_costs(&[0.0])] {
            assert_eq!(free.loss(&z, &[1.0, NAN, 0.0, 0.0]), Err(Error::TargetOutOfRange { index }));
        }
    }
}

#[test]
fn negative_sample_weights_turn_losses_and_gradients_round() {
    let (z, t) = ([0.5, -1.0, 2.0], [1.0, 0.0, 0.25]);
    for backend in backends() {
        let loss = BinaryCrossEntropy::new(1).reduction(Reduction::Sum).backend(backend);
        let (mut rows, mut turned, mut gradient, mut turned_gradient) = ([0.0; 3], [0.0; 3], [0.0; 3], [0.0; 3]);
        loss.sample_weights(&[2.0; 3]).row_losses(&z, &t, &mut rows).unwrap();
        loss.sample_weights(&[-2.0; 3]).row_losses(&z, &t, &mut turned).unwrap();
        loss.sample_weights(&[2.0; 3]).gradient(&z, &t, 1.0, &mut gradient).unwrap();
        loss.sample_weights(&[-2.0; 3]).gradient(&z, &t, 1.0, &mut turned_gradient).unwrap();
        assert_eq!((rows.map(|x| -x), gradient.map(|x| -x)), (turned, turned_gradient));
    }
}
