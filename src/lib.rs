//! Softmax cross-entropy whose mistakes carry the costs that they have in the world: `no_std`, without allocation, on
//! AVX-512, AVX2, NEON, SSE2, wasm simd128 and plain scalar code, chosen when the program runs.
//!
//! ```
//! use rwwce::{ClassWeights, CrossEntropy, Scheme, count_labels};
//!
//! // Three rows of logits for two classes; class 1 is rare.
//! let logits = [2.0, -1.0, 0.3, 0.1, -1.0, 1.5];
//! let labels = [0u8, 0, 1];
//!
//! let (mut counts, mut weights) = ([0; 2], [0.0; 2]);
//! count_labels(&labels, None, &mut counts)?;
//! ClassWeights::new(Scheme::Balanced).from_counts(&counts, &mut weights)?;
//!
//! let loss = CrossEntropy::new(2).class_weights(&weights);
//! let mut gradient = [0.0; 6];
//! let summary = loss.gradient(&logits, &labels, 1.0, &mut gradient)?;
//! println!("loss {} over {} rows", summary.loss, summary.rows);
//! # assert!((summary.loss - 0.201_126).abs() < 1e-5, "{summary:?}");
//! # Ok::<(), rwwce::Error>(())
//! ```
//!
//! - [`CrossEntropy`]: the weighted loss of logits `[N, C]`, of each row or reduced, its gradient, and the loss of given
//!   probabilities.
//! - [`ClassWeights`] and [`count_labels`]: class weights from the labels of a data set.
//! - [`log_sum_exp()`]: of one row.
//! - [`Backend`]: which instructions compute.
//!
//! # The loss of a row
//!
//! With p = softmax(x), the loss of a row with label y is −w\[y\]·log p_y, and its gradient w\[y\]·(p_i − \[i = y\]). It is
//! computed in the *excluded-reference form*: with E = Σ_{k≠y} exp(x_k − x_y), a sum without the label's own 1,
//! −log p_y = log1p(E), 1 − p_y = E/(1 + E). The usual form, log Σ exp(x_k) − x_y, subtracts two numbers that are almost
//! equal where the prediction is confident and returns 0 for a loss of 8·10⁻⁸; this one has nothing to subtract.
//!
//! # Reductions
//!
//! The sum, or the mean over a named [`Denominator`]. Row losses are f32; they are added in f64, in an order that
//! depends on their number alone.
//!
//! # NaN and infinity
//!
//! For rows that count and whose weight is not zero:
//!
//! | row | loss |
//! |---|---|
//! | any NaN logit | NaN |
//! | −∞ at some j ≠ y | exact: p_j = 0 |
//! | −∞ at y, some other logit above −∞ | +∞ |
//! | all −∞ | NaN |
//! | +∞ at y alone | 0 |
//! | +∞ at one or more j ≠ y, not at y | +∞ |
//! | +∞ at y and elsewhere | NaN |
//!
//! [`Summary::non_finite`] counts the rows whose loss is not finite. Finite logits of any size, offset or spread never
//! overflow on the way. A row that does not count, or whose weight is zero, contributes exactly 0 (0·∞ = 0, 0·NaN = 0).
//!
//! # Accuracy
//!
//! Relative, against the textbook in f64, down to the smallest normal f32; the tests hold these bounds in every regime
//! (confident, uniform, wrong, ties, offsets of 10⁸, masked, subnormal) for 1 to 131,072 classes:
//!
//! | quantity | bound | largest error seen |
//! |---|---|---|
//! | loss of a row | 3 ulp | 1.6 ulp |
//! | element of the gradient that is a normal number | 5 ulp | 3.5 ulp |
//! | exp, every f32 whose result is a normal number below 2^127.5 | 1 ulp | 0.89 ulp fused, 0.99 unfused |
//! | log and log1p, every positive f32 with a normal result | 1 ulp | 0.89 ulp fused, 0.90 unfused |
//!
//! A probability below 2⁻²⁵⁰ of the upstream factor may become 0 in the gradient.
//!
//! # Same bits
//!
//! Backends are *fused* (a multiply-add rounds once) or *unfused* (it rounds twice); [`Backend::is_fused`] tells. Within
//! a class every backend returns the same bits for the same input: a row is summed in 16 virtual lanes whatever the
//! width of the hardware, in a fixed tree. Every machine of a class agrees with every other.
//!
//! # Errors
//!
//! Every argument is checked before anything is written: an [`Error`] names the argument, the place and what was
//! expected, and leaves every output as it was. Nothing panics, allocates, or loops without bound, whatever the input.
#![no_std]

#[cfg(test)]
extern crate std;

mod backend;
mod binary;
mod class_weights;
mod cross_entropy;
mod error;
mod from_probabilities;
mod kernel;
mod label;
mod log_probabilities;
mod log_sum_exp;
mod monitoring;
mod problem;
mod reduction;
mod row_partial;
mod soft_targets;

pub use backend::Backend;
pub use binary::BinaryCrossEntropy;
pub use class_weights::{ClassWeights, EmptyClass, Normalisation, Scheme, count_labels};
pub use cross_entropy::CrossEntropy;
pub use error::{Argument, Error};
pub use label::Label;
pub use log_sum_exp::log_sum_exp;
pub use monitoring::{ClassSums, decision_cost};
pub use reduction::{Denominator, Reduction, Summary, Total, Upstream, ZeroDenominator};
pub use row_partial::RowPartial;
