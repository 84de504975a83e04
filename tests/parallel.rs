//! Calls split over threads, and batches cut by the caller, have the bits of one call on one thread.

mod common;

use common::{Rng, backends, bits, is_slow};
use half::bf16;
use rayon::{ThreadPool, ThreadPoolBuilder};
use rwwce::{Argument, CrossEntropy, Denominator, Error, Logits, Reduction, Summary, Total, Upstream, ZeroDenominator};

/// A batch of any layout that is large enough to be split.
struct Batch {
    classes: usize,
    positions: usize,
    stride: usize,
    logits: Vec<f32>,
    labels: Vec<i32>,
    soft: Vec<f32>,
    class_weights: Vec<f32>,
    sample_weights: Vec<f32>,
    factors: Vec<f32>,
    costs: Vec<f32>,
}

impl Batch {
    fn new(classes: usize, positions: usize, samples: usize, padding: usize, rng: &mut Rng) -> Self {
        let (rows, stride) = (samples * positions, classes * positions + padding);
        let mut numbers =
            |len: usize, low: f32, high: f32| -> Vec<f32> { (0..len).map(|_| rng.between(low, high)).collect() };
        let logits = numbers(samples * stride, -9.0, 9.0);
        let soft = numbers(samples * stride, 0.0, 1.0);
        let (class_weights, sample_weights) = (numbers(classes, 0.1, 3.0), numbers(rows, 0.0, 2.0));
        let factors = numbers(rows, -1.0, 1.0);
        let mut costs = if classes <= 100 { numbers(classes * classes, 0.0, 5.0) } else { Vec::new() };
        costs.iter_mut().step_by(classes + 1).for_each(|cost| *cost = 0.0);
        let labels = (0..rows).map(|_| if rng.below(50) == 0 { -100 } else { rng.below(classes) as i32 }).collect();
        Self { classes, positions, stride, logits, labels, soft, class_weights, sample_weights, factors, costs }
    }

    /// Every shape and layout, each of at least 1 MB of logits, so that there are several chunks.
    fn all(rng: &mut Rng) -> Vec<Self> {
        [
            (2, 1, 140_000, 0),
            (3, 1, 90_001, 2),
            (10, 1, 27_001, 0),
            (100, 1, 2700, 0),
            (1000, 1, 301, 3),
            (33_000, 1, 9, 0),
            (21, 700, 19, 0),
            (2, 5, 30_000, 1),
            (300, 256, 5, 0),
        ]
        .map(|(classes, positions, samples, padding)| Self::new(classes, positions, samples, padding, rng))
        .into()
    }

    fn plain(&self) -> CrossEntropy<'_> {
        CrossEntropy::new(self.classes).positions(self.positions).row_stride(self.stride).ignore_index(-100)
    }

    /// Losses with labels.
    fn losses(&self) -> Vec<(&'static str, CrossEntropy<'_>)> {
        let plain = self.plain();
        let weighted = plain.class_weights(&self.class_weights).sample_weights(&self.sample_weights);
        let mut losses = vec![
            ("plain", plain),
            ("weighted", weighted),
            ("smoothing", weighted.label_smoothing(0.1)),
            ("focal", weighted.focal(2.0).z_loss(0.01).reduction(Reduction::Mean(Denominator::SampleWeightSum))),
        ];
        if !self.costs.is_empty() {
            losses.push(("costs", weighted.mislabel_costs(&self.costs)));
        }
        losses
    }
}

/// Result of a call, and bits of its outputs.
type Outcome = (Result<Summary, Error>, Vec<u32>);

fn outcomes(loss: &CrossEntropy<'_>, batch: &Batch) -> Vec<Outcome> {
    let Batch { logits, labels, factors, .. } = batch;
    let mut row_losses = vec![7.0; labels.len()];
    let mut gradients = [vec![7.0; logits.len()], vec![7.0; logits.len()], logits.clone()];
    let [first, by_rows, in_place] = &mut gradients;
    let results = [
        loss.loss(logits, labels),
        loss.row_losses(logits, labels, &mut row_losses),
        loss.gradient(logits, labels, 0.5, first),
        loss.gradient(logits, labels, Upstream::Rows(factors), by_rows),
        loss.gradient_in_place(in_place, labels, 2.0),
    ];
    let written = [vec![], row_losses].into_iter().chain(gradients);
    results.into_iter().zip(written.map(|numbers| bits(&numbers))).collect()
}

fn soft_outcomes(loss: &CrossEntropy<'_>, batch: &Batch) -> Vec<Outcome> {
    let Batch { logits, soft, .. } = batch;
    let mut row_losses = vec![7.0; batch.labels.len()];
    let mut gradient = vec![7.0; logits.len()];
    let results = [
        loss.soft_loss(logits, soft),
        loss.soft_row_losses(logits, soft, &mut row_losses),
        loss.soft_gradient(logits, soft, 0.5, &mut gradient),
    ];
    let written = [vec![], row_losses, gradient];
    results.into_iter().zip(written.map(|numbers| bits(&numbers))).collect()
}

fn pools() -> Vec<ThreadPool> {
    [2, 3, 8].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap()).into()
}

#[test]
fn any_number_of_threads_has_the_bits_of_one() {
    let (mut rng, pools) = (Rng(401), pools());
    let mut compared = 0;
    for batch in &Batch::all(&mut rng) {
        let soft = CrossEntropy::new(batch.classes)
            .positions(batch.positions)
            .row_stride(batch.stride)
            .class_weights(&batch.class_weights)
            .sample_weights(&batch.sample_weights)
            .reduction(Reduction::Mean(Denominator::WeightSum))
            .label_smoothing(0.05);
        let one: Vec<_> = batch.losses().iter().map(|(_, loss)| outcomes(loss, batch)).collect();
        let one_soft = soft_outcomes(&soft, batch);
        for pool in &pools {
            pool.install(|| {
                for ((name, loss), one) in batch.losses().into_iter().zip(&one) {
                    let found = outcomes(&loss.parallel(), batch);
                    assert!(found == *one, "{name}, C = {}, D = {}", batch.classes, batch.positions);
                    compared += found.len();
                }
                assert!(soft_outcomes(&soft.parallel(), batch) == one_soft, "soft, C = {}", batch.classes);
            });
            for ((name, loss), one) in batch.losses().into_iter().zip(&one) {
                assert!(outcomes(&loss.parallel_in(pool), batch) == *one, "{name}, outside of the pool");
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

#[test]
fn every_backend_and_type_of_logits_is_split() {
    let (mut rng, pools) = (Rng(402), pools());
    let batch = Batch::new(10, 1, 27_001, 0, &mut rng);
    let halves: Vec<bf16> = batch.logits.iter().map(|&x| bf16::from_f32(x)).collect();
    let bytes: Vec<i8> = batch.logits.iter().map(|&x| x as i8).collect();
    let narrow = [Logits::Bf16(&halves), Logits::I8 { values: &bytes, scale: 0.1, zero_point: 3 }];
    for backend in backends().into_iter().filter(|&backend| !is_slow(backend)) {
        for logits in narrow.into_iter().chain([Logits::F32(&batch.logits)]) {
            let loss = batch.plain().class_weights(&batch.class_weights).backend(backend);
            let gradient = |loss: CrossEntropy<'_>| {
                let mut gradient = vec![7.0; logits.len()];
                let summary = loss.gradient(logits, &batch.labels, 1.0, &mut gradient).unwrap();
                (summary, bits(&gradient))
            };
            let one = gradient(loss);
            for pool in &pools {
                assert!(pool.install(|| gradient(loss.parallel())) == one, "{backend} {logits:.0?}");
            }
        }
    }
}

#[test]
fn the_first_wrong_label_is_named_and_nothing_is_written() {
    let (mut rng, pools) = (Rng(403), pools());
    let mut batch = Batch::new(10, 1, 27_001, 0, &mut rng);
    for wrong in [26_900, 13_000, 5000] {
        batch.labels[wrong] = 10;
        let expected = Error::LabelOutOfRange { row: wrong, label: 10, classes: 10 };
        let before = outcomes(&batch.plain(), &batch);
        for pool in &pools {
            let within = pool.install(|| outcomes(&batch.plain().parallel(), &batch));
            for found in [within, outcomes(&batch.plain().parallel_in(pool), &batch)] {
                assert!(found == before, "{wrong}");
                assert!(found.iter().all(|(result, _)| *result == Err(expected)), "{:?}", found[0].0);
            }
        }
    }
    let mut soft = batch.soft.clone();
    soft[200_003] = f32::NAN;
    let loss = CrossEntropy::new(10).parallel();
    for pool in &pools {
        let found = pool.install(|| loss.soft_loss(&batch.logits, &soft));
        assert_eq!(found, Err(Error::NotFinite { argument: Argument::Targets, index: 200_003 }));
    }
}

/// Chunks computed by the caller with the denominator of the whole batch have its bits.
#[test]
fn chunks_of_the_caller_have_the_bits_of_the_whole() {
    let mut rng = Rng(405);
    for batch in &Batch::all(&mut rng) {
        for (name, loss) in batch.losses() {
            let mut whole = vec![7.0; batch.logits.len()];
            let summary = loss.gradient(&batch.logits, &batch.labels, 0.7, &mut whole).unwrap();
            // Sample weights are an option of the loss, and must be cut too.
            let rows = loss.chunk_rows();
            assert!(rows.is_multiple_of(batch.positions) && rows < batch.labels.len(), "{rows}");
            let elements = rows / batch.positions * batch.stride;
            let weighted = name != "plain";
            let of_chunk = |index: usize| {
                let samples = &batch.sample_weights[index * rows..(index * rows + rows).min(batch.labels.len())];
                if weighted { loss.sample_weights(samples) } else { loss }
            };
            let (mut weighed, mut total) = (Total::default(), Total::default());
            for (index, labels) in batch.labels.chunks(rows).enumerate() {
                weighed.merge(&of_chunk(index).weigh(labels).unwrap());
            }
            assert_eq!(weighed, loss.weigh(&batch.labels).unwrap(), "{name} {}", batch.classes);
            let denominator = match name {
                "costs" => weighed.denominator(Reduction::Mean(Denominator::Rows)),
                "focal" => weighed.denominator(Reduction::Mean(Denominator::SampleWeightSum)),
                _ => weighed.denominator(Reduction::default()),
            };
            assert_eq!(denominator, summary.denominator, "{name} {}", batch.classes);
            let mut gradient = vec![7.0; whole.len()];
            let chunks =
                batch.logits.chunks(elements).zip(batch.labels.chunks(rows)).zip(gradient.chunks_mut(elements));
            for (index, ((logits, labels), gradient)) in chunks.enumerate() {
                let loss = of_chunk(index).denominator(denominator);
                total.merge(&loss.gradient(logits, labels, 0.7, gradient).unwrap().total);
            }
            assert_eq!(total, summary.total, "{name} {}", batch.classes);
            assert!(bits(&gradient) == bits(&whole), "{name} {}", batch.classes);
        }
    }
}

#[test]
fn a_denominator_that_is_given_is_divided_by() {
    let (logits, labels) = ([2.0, -1.0, 0.0, 0.5], [0u8, 1]);
    let loss = CrossEntropy::new(2).reduction(Reduction::Sum);
    let sum = loss.loss(&logits, &labels).unwrap();
    let eighth = loss.denominator(8.0).loss(&logits, &labels).unwrap();
    assert_eq!((eighth.loss, eighth.denominator, eighth.sum), (sum.loss / 8.0, 8.0, sum.sum));
    assert_eq!(eighth.total, sum.total);
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut gradient = [7.0; 4];
        let found = loss.denominator(wrong).gradient(&logits, &labels, 1.0, &mut gradient);
        assert_eq!(found, Err(Error::OutOfRange { argument: Argument::Denominator }));
        assert_eq!(gradient, [7.0; 4]);
        assert_eq!(loss.denominator(wrong).loss(&logits, &labels), found);
    }
    assert!(loss.denominator(0.0).loss(&logits, &labels).unwrap().loss.is_nan());
    let policy = loss.denominator(0.0).zero_denominator(ZeroDenominator::Error);
    assert_eq!(policy.loss(&logits, &labels), Err(Error::ZeroDenominator));
}

/// Infinite losses in several chunks, with labels and with target probabilities.
#[test]
fn rows_without_a_loss_are_counted_in_all_chunks() {
    let (mut rng, pools) = (Rng(407), pools());
    let mut batch = Batch::new(10, 1, 27_001, 0, &mut rng);
    for row in [0, 4_321, 13_500, 27_000] {
        (batch.logits[10 * row + 3], batch.labels[row]) = (f32::NEG_INFINITY, 3);
    }
    for (name, loss) in batch.losses() {
        for pool in &pools {
            let [found, one] = [loss.parallel(), loss].map(|loss| pool.install(|| outcomes(&loss, &batch)));
            assert!(found == one, "{name}");
            assert!(found.iter().all(|(result, _)| result.unwrap().non_finite == 4), "{name} {:?}", found[0].0);
        }
    }
    let soft = soft_outcomes(&CrossEntropy::new(10).parallel(), &batch);
    assert!(soft.iter().all(|(result, _)| result.unwrap().non_finite == 4), "{:?}", soft[0].0);
}
