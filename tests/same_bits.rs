//! Backends of one class return the same bits, here and on every other machine.

mod common;

use common::{REGIMES, Rng, backends, bits, is_slow};
use rwwce::{Backend, CrossEntropy, Denominator, Reduction};

/// Lengths round the widths of vectors, of the virtual lanes and of the blocks.
const LENGTHS: [usize; 22] = [1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 255, 300, 1025];

/// Every number that a batch gives: losses of rows, reduced loss, gradient, log-sum-exp of the first row.
fn results(backend: Backend, logits: &[f32], labels: &[i32], weights: &[f32]) -> Vec<u32> {
    let loss = CrossEntropy::new(weights.len())
        .class_weights(weights)
        .ignore_index(-100)
        .reduction(Reduction::Mean(Denominator::Rows))
        .backend(backend);
    let (mut rows, mut gradient) = (vec![0.0; labels.len()], vec![0.0; logits.len()]);
    let summary = loss.row_losses(logits, labels, &mut rows).unwrap();
    loss.gradient(logits, labels, 0.37, &mut gradient).unwrap();
    let mut all = bits(&rows);
    all.extend(bits(&[summary.loss]));
    all.extend(bits(&gradient));
    all.extend(bits(&[backend.log_sum_exp(&logits[..weights.len()])]));
    let p: Vec<f32> = logits.iter().map(|x| (x - x.floor()).abs()).collect();
    loss.row_losses_from_probabilities(&p, labels, 1e-7, &mut rows).unwrap();
    all.extend(bits(&rows));
    all
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
    for fused in [true, false] {
        let class: Vec<Backend> = backends().into_iter().filter(|backend| backend.is_fused() == fused).collect();
        let mut compared = 0;
        batches(|logits, labels, weights| {
            let expected = results(class[0], logits, labels, weights);
            for &backend in &class[1..] {
                if is_slow(backend) && weights.len() > 300 {
                    continue;
                }
                assert!(
                    results(backend, logits, labels, weights) == expected,
                    "{backend} and {} differ: {logits:?} {labels:?} {weights:?}",
                    class[0]
                );
                compared += 1;
            }
        });
        println!("{compared} comparisons among {class:?}");
        assert!(compared > 200 || class.len() == 1);
    }
}

/// What a machine without a neighbour of its class is compared by: one number over all bits of all batches.
#[test]
fn bits_are_the_same_on_every_machine() {
    for backend in backends() {
        if is_slow(backend) {
            // Compared with its class, batch by batch, above.
            continue;
        }
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        batches(|logits, labels, weights| {
            for word in results(backend, logits, labels, weights) {
                hash = (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        });
        let expected = if backend.is_fused() { FUSED } else { UNFUSED };
        assert_eq!(hash, expected, "{backend}: {hash:#018x}");
    }
}

/// Changes whenever a kernel computes in another way, and then on every backend of the class at once.
const FUSED: u64 = 0x9e3b_b0db_90bd_01cc;
const UNFUSED: u64 = 0xcd0e_7f1e_9c2b_159d;
