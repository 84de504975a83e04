//! `weighted_row_losses` has the bits of `row_losses`, which has every option.

mod common;

use common::{REGIMES, Rng, bits};
use rwwce::{Argument, CrossEntropy, Error, Label, weighted_row_losses};

const CLASSES: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 65, 255, 256, 257, 1025];

fn compare<L: Label>(classes: usize, logits: &[f32], labels: &[L], weights: Option<&[f32]>) -> usize {
    let loss = CrossEntropy::new(classes);
    let loss = if let Some(weights) = weights { loss.class_weights(weights) } else { loss };
    let (mut expected, mut found) = (vec![0.0; labels.len()], vec![7.0; labels.len()]);
    loss.row_losses(logits, labels, &mut expected).unwrap();
    weighted_row_losses(classes, logits, labels, weights, &mut found).unwrap();
    assert_eq!(bits(&found), bits(&expected), "C = {classes}, {} rows", labels.len());
    found.len()
}

#[test]
fn has_the_bits_of_the_function_with_every_option() {
    let mut rng = Rng(5);
    let mut compared = 0;
    for classes in CLASSES {
        for regime in REGIMES {
            let (mut logits, mut labels) = (Vec::new(), Vec::new());
            for row in 0..19 {
                let (mut x, label) = regime.row(classes, &mut rng);
                if row % 5 == 3 {
                    let at = rng.below(classes);
                    x[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38][rng.below(4)];
                }
                logits.extend(x);
                labels.push(label as i64);
            }
            let mut weights: Vec<f32> = (0..classes).map(|_| rng.between(-1.0, 3.0)).collect();
            weights[rng.below(classes)] = [0.0, 1e-30, 1e30][rng.below(3)];
            compared += compare(classes, &logits, &labels, Some(&weights));
            compared += compare(classes, &logits, &labels, None);
            let narrower: Vec<u16> = labels.iter().map(|&label| label as u16).collect();
            compared += compare(classes, &logits, &narrower, Some(&weights));
            let narrower: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
            compared += compare(classes, &logits, &narrower, Some(&weights));
            let narrower: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
            compared += compare(classes, &logits, &narrower, Some(&weights));
            if classes <= 256 {
                let narrower: Vec<u8> = labels.iter().map(|&label| label as u8).collect();
                compared += compare(classes, &logits, &narrower, Some(&weights));
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
    assert_eq!(compare::<u8>(3, &[], &[], None), 0);
}

#[test]
fn refuses_what_does_not_fit_and_writes_nothing() {
    let logits = [0.5, 2.0, -1.0, 0.0, 0.0, 0.0];
    let refused = |classes, logits: &[f32], labels: &[i32], weights: Option<&[f32]>, count: usize| {
        let mut losses = vec![7.0; count];
        let error = weighted_row_losses(classes, logits, labels, weights, &mut losses).unwrap_err();
        assert!(losses.iter().all(|&loss| loss == 7.0), "{error}");
        error
    };
    let length = |argument, expected, found| Error::Length { argument, expected, found };
    assert_eq!(refused(0, &[], &[], None, 0), Error::NoClasses);
    assert_eq!(refused(3, &logits[..5], &[0, 1], None, 2), length(Argument::Logits, 6, 5));
    assert_eq!(refused(3, &logits, &[0], None, 1), length(Argument::Logits, 3, 6));
    assert_eq!(refused(3, &logits, &[0, 1], Some(&[1.0; 2]), 2), length(Argument::ClassWeights, 3, 2));
    let not_finite = Error::NotFinite { argument: Argument::ClassWeights, index: 1 };
    assert_eq!(refused(3, &logits, &[0, 1], Some(&[1.0, f32::NAN, f32::INFINITY]), 2), not_finite);
    let label = |row, label| Error::LabelOutOfRange { row, label, classes: 3 };
    assert_eq!(refused(3, &logits, &[0, 3], None, 2), label(1, 3));
    assert_eq!(refused(3, &logits, &[-1, 3], None, 2), label(0, -1));
    assert_eq!(refused(3, &logits, &[0, 1], None, 3), length(Argument::RowLosses, 2, 3));
    let too_long = Error::SizeOverflow { rows: 2, row_stride: usize::MAX };
    assert_eq!(refused(usize::MAX, &logits, &[0, 1], None, 2), too_long);
}
