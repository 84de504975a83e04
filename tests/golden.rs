//! Losses and gradients against PyTorch's in float64, which `tests/golden/pytorch.py` computed from the same f32.

mod common;

use common::backends;
use rwwce::{BinaryCrossEntropy, CrossEntropy, Reduction, Upstream};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/pytorch.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// Within a few ulps of the largest terms, which cancel in a gradient.
fn assert_close(found: &[f32], expected: &Value, case: &Value) {
    let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(found.len(), expected.len(), "{case}");
    for (&found, &expected) in found.iter().zip(&expected) {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= 5e-7 * expected.abs().max(0.2), "{found:e}, expected {expected:e}: {case}");
    }
}

#[test]
fn softmax_losses_are_those_of_pytorch() {
    let golden = golden();
    let (classes, weights) = (golden["classes"].as_u64().unwrap() as usize, floats(&golden["weight"]));
    for backend in backends() {
        let mut compared = 0;
        for case in golden["cases"].as_array().unwrap() {
            let input = &golden["inputs"][case["input"].as_str().unwrap()];
            let labels: Vec<i64> = input["labels"].as_array().unwrap().iter().map(|y| y.as_i64().unwrap()).collect();
            let [logits, soft, factors] = ["logits", "soft", "upstream"].map(|name| floats(&input[name]));
            let mut loss = CrossEntropy::new(classes)
                .positions(input["positions"].as_u64().unwrap() as usize)
                .label_smoothing(case["smoothing"].as_f64().unwrap() as f32)
                .backend(backend);
            if case["weighted"] == true {
                loss = loss.class_weights(&weights);
            }
            if let Some(label) = case["ignored"].as_i64() {
                loss = loss.ignore_index(label);
            }
            let upstream = match case["reduction"].as_str().unwrap() {
                "none" => Upstream::Rows(&factors),
                "sum" => {
                    loss = loss.reduction(Reduction::Sum);
                    Upstream::Loss(1.0)
                }
                _ => Upstream::Loss(1.0),
            };
            let (mut rows, mut gradient) = (vec![0.0; labels.len()], vec![0.0; logits.len()]);
            let summary = if case["targets"] == "index" {
                loss.gradient(&logits, &labels, upstream, &mut gradient).unwrap();
                loss.row_losses(&logits, &labels, &mut rows).unwrap()
            } else {
                loss.soft_gradient(&logits, &soft, upstream, &mut gradient).unwrap();
                loss.soft_row_losses(&logits, &soft, &mut rows).unwrap()
            };
            let found = if case["reduction"] == "none" { &rows[..] } else { &[summary.loss] };
            assert_close(found, &case["loss"], case);
            assert_close(&gradient, &case["gradient"], case);
            compared += 1;
        }
        assert_eq!(compared, 3 * (3 * 2 * 2 * 2 + 3 * 2 * 2), "{backend}");
    }
}

#[test]
fn binary_losses_are_those_of_pytorch() {
    let golden = golden();
    let weights = floats(&golden["weight"]);
    let input = &golden["binary_input"];
    let [logits, targets, elements, factors] =
        ["logits", "targets", "element_weight", "upstream"].map(|name| floats(&input[name]));
    for backend in backends() {
        let cases = golden["binary"].as_array().unwrap();
        assert_eq!(cases.len(), 12);
        for case in cases {
            let mut loss = BinaryCrossEntropy::new(weights.len()).backend(backend);
            if case["weighted"] == true {
                loss = loss.sample_weights(&elements);
            }
            if case["pos_weight"] == true {
                loss = loss.miss_costs(&weights);
            }
            let upstream = match case["reduction"].as_str().unwrap() {
                "none" => Upstream::Rows(&factors),
                "sum" => {
                    loss = loss.reduction(Reduction::Sum);
                    Upstream::Loss(1.0)
                }
                _ => Upstream::Loss(1.0),
            };
            let (mut rows, mut gradient) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
            let summary = loss.row_losses(&logits, &targets, &mut rows).unwrap();
            loss.gradient(&logits, &targets, upstream, &mut gradient).unwrap();
            let found = if case["reduction"] == "none" { &rows[..] } else { &[summary.loss] };
            assert_close(found, &case["loss"], case);
            assert_close(&gradient, &case["gradient"], case);
        }
    }
}
