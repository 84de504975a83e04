//! Softmax cross-entropy whose mistakes carry the costs that they have in the world.
#![no_std]

#[cfg(test)]
extern crate std;

mod backend;
mod class_weights;
mod cross_entropy;
mod error;
mod kernel;
mod label;
mod log_sum_exp;
mod problem;
mod reduction;

pub use backend::Backend;
pub use class_weights::{ClassWeights, EmptyClass, Normalisation, Scheme, count_labels};
pub use cross_entropy::CrossEntropy;
pub use error::{Argument, Error};
pub use label::Label;
pub use log_sum_exp::log_sum_exp;
pub use reduction::{Denominator, Reduction, Summary, Upstream, ZeroDenominator};
