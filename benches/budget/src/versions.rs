//! One call, by either version of the library.

/// The loss and its inputs. Plain data, so that both versions get the same.
#[derive(Clone, Copy, Default)]
pub struct Case<'a> {
    pub classes: usize,
    pub positions: usize,
    pub logits: &'a [f32],
    pub labels: &'a [i64],
    pub class_weights: &'a [f32],
    pub sample_weights: Option<&'a [f32]>,
    /// Target probabilities instead of the labels.
    pub soft: Option<&'a [f32]>,
    pub smoothing: f32,
    pub focal: f32,
    pub z_loss: f32,
    pub costs: Option<&'a [f32]>,
    /// With the gradient.
    pub gradient: bool,
}

/// Writes the gradient, if it is wanted, and returns the loss.
pub type Call<'a> = Box<dyn FnMut(&mut [f32]) -> f32 + 'a>;

macro_rules! version {
    ($version:ident) => {
        pub mod $version {
            use super::{Call, Case};
            use ::$version::{Backend, CrossEntropy};
            use std::hint::black_box;

            pub fn call<'a>(case: Case<'a>, backend: &str) -> Call<'a> {
                let mut loss = CrossEntropy::new(case.classes)
                    .positions(case.positions)
                    .class_weights(case.class_weights)
                    .label_smoothing(case.smoothing)
                    .focal(case.focal)
                    .z_loss(case.z_loss)
                    .backend(Backend::by_name(backend).expect("a backend of this processor"));
                if let Some(weights) = case.sample_weights {
                    loss = loss.sample_weights(weights);
                }
                if let Some(costs) = case.costs {
                    loss = loss.mislabel_costs(costs);
                }
                Box::new(move |gradient| {
                    let (loss, logits, labels) = (black_box(&loss), black_box(case.logits), black_box(case.labels));
                    let summary = match (case.soft, case.gradient) {
                        (None, false) => loss.loss(logits, labels),
                        (None, true) => loss.gradient(logits, labels, 1.0, gradient),
                        (Some(soft), false) => loss.soft_loss(logits, black_box(soft)),
                        (Some(soft), true) => loss.soft_gradient(logits, black_box(soft), 1.0, gradient),
                    };
                    summary.expect("arguments that are valid").loss
                })
            }
        }
    };
}
version!(now);
version!(before);
