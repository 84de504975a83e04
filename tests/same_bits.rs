//! Backends of one class return the same bits, here and on every other machine.

mod common;

use common::{REGIMES, Rng, backends, bits, compare_with_committed, same_bits_classes};
use rwwce::{Backend, CrossEntropy, Denominator, Reduction};

/// Lengths around the widths of vectors, virtual lanes and sums in f32.
const LENGTHS: [usize; 22] = [1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 255, 300, 1025];

/// Results for a batch.
const RESULTS: [&str; 5] = ["losses", "mean", "gradient", "log-sum-exp", "losses of probabilities"];

/// The bits of each of [`RESULTS`].
fn results(backend: Backend, logits: &[f32], labels: &[i32], weights: &[f32]) -> [Vec<u32>; RESULTS.len()] {
    let loss = CrossEntropy::new(weights.len())
        .class_weights(weights)
        .ignore_index(-100)
        .reduction(Reduction::Mean(Denominator::Rows))
        .backend(backend);
    let (mut rows, mut of_probabilities) = (vec![0.0; labels.len()], vec![0.0; labels.len()]);
    let mut gradient = vec![0.0; logits.len()];
    let summary = loss.row_losses(logits, labels, &mut rows).unwrap();
    loss.gradient(logits, labels, 0.37, &mut gradient).unwrap();
    let log_sum_exp = backend.log_sum_exp(&logits[..weights.len()]);
    let p: Vec<f32> = logits.iter().map(|x| (x - x.floor()).abs()).collect();
    loss.row_losses_from_probabilities(&p, labels, 1e-7, &mut of_probabilities).unwrap();
    [&rows, &[summary.loss][..], &gradient, &[log_sum_exp], &of_probabilities].map(bits)
}

/// Calls `take` for batches of every regime and length.
fn batches(mut take: impl FnMut(&[f32], &[i32], &[f32])) {
    let mut rng = Rng(42);
    for classes in LENGTHS {
        for regime in REGIMES {
            let (mut logits, mut labels) = (Vec::new(), Vec::new());
            // Of few classes more rows than vectors have lanes, and some to spare.
            for row in 0..if classes <= 33 { 21 } else { 5 } {
                let (mut x, label) = regime.row(classes, &mut rng);
                // A special value now and then.
                if row % 5 == 3 && rng.below(4) == 0 {
                    let at = rng.below(classes);
                    x[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][rng.below(3)];
                }
                logits.extend(x);
                labels.push(if row % 5 == 4 && rng.below(3) == 0 { -100 } else { label as i32 });
            }
            let weights: Vec<f32> = (0..classes).map(|_| rng.between(-1.0, 3.0)).collect();
            take(&logits, &labels, &weights);
        }
    }
}

#[test]
fn backends_of_a_class_agree() {
    for class in same_bits_classes(backends()) {
        let mut compared = 0;
        if class.len() > 1 {
            batches(|logits, labels, weights| {
                let expected = results(class[0], logits, labels, weights);
                for &backend in &class[1..] {
                    assert!(
                        results(backend, logits, labels, weights) == expected,
                        "{backend} and {} differ: {logits:?} {labels:?} {weights:?}",
                        class[0]
                    );
                    compared += 1;
                }
            });
            assert!(compared > 200);
        }
        println!("{compared} comparisons among {class:?}");
    }
}

/// Committed hashes of the bits of each result over all batches, for machines with a single backend of a class.
#[test]
fn bits_are_the_same_on_every_machine() {
    for backend in backends() {
        let mut hashes = [0xcbf2_9ce4_8422_2325u64; RESULTS.len()];
        batches(|logits, labels, weights| {
            for (hash, words) in hashes.iter_mut().zip(results(backend, logits, labels, weights)) {
                for word in words {
                    *hash = (*hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        });
        let lines: String = RESULTS.iter().zip(hashes).map(|(name, hash)| format!("{hash:016x} {name}\n")).collect();
        compare_with_committed("same_bits", backend, &lines);
    }
}
