//! Softmax cross-entropy with real-world costs of mistakes: class weights, mislabel costs, label smoothing, focal
//! factor; `no_std`, no allocation, AVX-512, AVX2, NEON, SSE2, wasm simd128 and scalar code, chosen at run time.
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
//! - [`CrossEntropy`]: losses of logits against class labels or target probabilities, with class and sample weights,
//!   mislabel costs, label smoothing, focal factor, z-loss, class bias and temperature, over `[N, C]` or `[N, C, D]`:
//!   row losses, reduced loss, gradient, log-probabilities; the loss of given probabilities.
//! - [`Logits`]: f32, i8 and u8 with scale and zero point, and with the feature `half` f16 and bf16.
//! - [`weighted_row_losses`]: the weighted loss of each row and nothing else, for programs that must be small.
//! - [`BinaryCrossEntropy`]: binary and multi-label loss, one logit per label, with costs of misses and false alarms.
//! - [`Total`] and [`RowPartial`]: partial results of batches, and of some classes of a row, computed apart and merged.
//! - [`CrossEntropy::decide`]: the class of least expected cost of each row, from logits or probabilities.
//! - [`ClassSums`], [`CrossEntropy::add_confusion`] and [`decision_cost`]: monitoring of a model in use.
//! - [`ClassWeights`] and [`count_labels`]: class weights from the label counts of a data set.
//! - [`log_sum_exp()`]: log-sum-exp of one row.
//! - [`Backend`]: the instruction set that is used.
//! - [`CrossEntropy::curvature`]: diagonal of the Hessian, or a bound of the Hessian, for boosting and Newton steps.
//! - [`CrossEntropy::weigh`], [`denominator`](CrossEntropy::denominator) and [`chunk_rows`](CrossEntropy::chunk_rows):
//!   batches that the caller cuts into chunks, with the bits of one call.
//!
//! # Features
//!
//! Without features the crate is `no_std`, allocates nothing and takes some ten seconds of processor time to compile.
//!
//! | feature | effect |
//! |---|---|
//! | `half` | logits of f16 and bf16, from the crate `half` |
//! | `rayon` | `CrossEntropy::parallel` splits large calls over rayon's threads, in the same bits; needs the standard library |
//! | `scalar` | one-lane backends beside the vector backends of the target, for the bits of a microcontroller |
//!
//! In debug builds every vector operation is a function call, some hundred times slower; set
//! `[profile.dev.package.rwwce] opt-level = 2` in the program's Cargo.toml.
//!
//! # The loss of a row
//!
//! With p = softmax(x), label y (or target probabilities q) and C classes:
//!
//! | loss | formula |
//! |---|---|
//! | weighted | −w\[y\]·log p_y |
//! | [soft targets](CrossEntropy::soft_loss) | −Σ_c w\[c\]·q_c·log p_c |
//! | [label smoothing](CrossEntropy::label_smoothing) | (1 − ε)·(−w\[y\]·log p_y) + (ε/C)·Σ_c w\[c\]·(−log p_c) |
//! | [real-world-weight](CrossEntropy::mislabel_costs) | −fn\[y\]·log p_y − Σ_{j≠y} fp\[y,j\]·log(1 − p_j) |
//! | [binary](BinaryCrossEntropy) | −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)) |
//! | [from probabilities](CrossEntropy::loss_from_probabilities) | −w\[y\]·log(p_y + eps) |
//! | [from log-probabilities](CrossEntropy::loss_from_log_probabilities) | −w\[y\]·log p_y |
//! | [focal](CrossEntropy::focal) | (1 − p_y)^γ·(−w\[y\]·log p_y) |
//! | [z-loss](CrossEntropy::z_loss), added | λ·W·(log Σ exp x)², W = w\[y\] or Σ_c w\[c\]·q_c, with label smoothing applied |
//!
//! Options add their terms: with label smoothing and mislabel costs a row has both terms. The focal factor multiplies
//! only the label's term. A combination without a meaning is [`Error::Incompatible`].
//!
//! The weighted loss is computed in the *excluded-reference form*: with E = Σ_{k≠y} exp(x_k − x_y), a sum that leaves
//! out the label's own exponential 1, −log p_y = log(1 + E) and 1 − p_y = E/(1 + E). The usual form, log Σ exp(x_k) −
//! x_y, has catastrophic cancellation for a confident prediction and returns 0 for a loss of 8·10⁻⁸; here nothing is
//! subtracted. The other losses take the largest logit as their reference, for which −log(1 − p) = log(1 + 1/E).
//!
//! # Reductions
//!
//! The sum, or the mean over a named [`Denominator`]. Row losses are f32, summed in f64 in an order that depends on the
//! shape alone.
//!
//! # Names in other libraries
//!
//! | other library | here |
//! |---|---|
//! | PyTorch `cross_entropy(x, y, weight=w)`, ONNX `SoftmaxCrossEntropyLoss` with `mean` | `Reduction::Mean(Denominator::WeightSum)`, the default |
//! | a mean written by hand: the sum over N | `Reduction::Mean(Denominator::Rows)` |
//! | PyTorch `cross_entropy` with target probabilities | `soft_loss`; `Denominator::Rows` is the default there |
//! | Keras and scikit-learn with sample weights | `Reduction::Mean(Denominator::SampleWeightSum)` |
//! | the code of the real-world-weight paper: a mean over all N·C terms | `Reduction::Mean(Denominator::RowsTimesClasses)` |
//! | `binary_cross_entropy_with_logits(z, t, weight, pos_weight)` | `BinaryCrossEntropy`, `sample_weights`, `miss_costs` |
//! | `nll_loss(log_p, y, weight=w)` | `loss_from_log_probabilities` |
//! | `reduction="sum"` | `Reduction::Sum` |
//! | `reduction="none"` | `row_losses`, and `gradient` with one upstream factor per row |
//! | Keras, `sparse_categorical_crossentropy` without sample weights | `Reduction::Mean(Denominator::Rows)` without class weights |
//! | scikit-learn, `class_weight="balanced"` | `Scheme::Balanced` |
//! | PyTorch's NaN for an empty batch, or one with every row ignored | `ZeroDenominator::NaN`, the default; `Zero` and `Error` beside it |
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
//! The other losses are the limits of their formulas, with 0·∞ = 0: −log p_k is +∞ for p_k = 0, and −log(1 − p_k) is +∞
//! for p_k = 1. Several logits of +∞ have no probabilities, and their terms are NaN, unless another term is infinite.
//!
//! [`Summary::non_finite`] counts the rows whose loss is not finite. Finite logits of any size, offset or spread never
//! overflow on the way. A row that does not count, or whose weight is zero, contributes exactly 0 (0·∞ = 0, 0·NaN = 0).
//!
//! # Accuracy
//!
//! Relative errors against the formulas in f64, down to the smallest normal f32; the tests check these bounds in every
//! regime (confident, uniform, wrong, ties, offsets of 10⁸, masked, subnormal) for 1 to 131,072 classes:
//!
//! | quantity | bound | largest error seen |
//! |---|---|---|
//! | loss of a row | 3 ulp | 2.8 ulp |
//! | element of the gradient that is a normal number | 5 ulp | 4.4 ulp |
//! | the other losses, relative to the sum of the magnitudes of their terms | 6 ulp; with γ above 2, 2·(γ + 1) ulp | 4.1 ulp; with γ = 5, 6.7 ulp |
//! | elements of their gradients, likewise | the same | 5.0 ulp |
//! | log-probability | 3 ulp | 1.4 ulp |
//! | exp, every f32 whose result is a normal number below 2^127.5 | 1 ulp | 0.97 ulp |
//!
//! Of ten million random rows for each number of classes from 2 to 128 none exceeds a bound. What the roundings of a loss
//! or log-probability can add up to, should all have one direction, is 3 ulp for up to 16 classes, and for more where one
//! exponential is most of the sum; where many are alike it is 4.2 ulp for up to 64 classes and 5.9 for more.
//!
//! Weights may have any finite f32 value, and products of several weights may leave the range of f32 in between; but in
//! a sum of terms, a term whose weight, or product of weights, is below 1e-30 may count as 0.
//!
//! # Same bits
//!
//! Backends are *fused* (a multiply-add rounds once) or *unfused* (a multiply-add rounds twice), and compute with
//! vectors or in one lane. Within each of these four classes every backend on every machine returns the same bits for
//! the same input ([`Backend::has_same_bits_as`]): vectors of any width sum a row in 16 virtual lanes, in a fixed tree.
//!
//! | class | backends |
//! |---|---|
//! | fused | AVX-512, AVX2, NEON |
//! | unfused | SSE2, simd128 |
//! | one lane, fused | `scalar-fma`: microcontrollers with FMA, such as a Cortex-M4F |
//! | one lane, unfused | `scalar`: those without |
//!
//! With the feature `scalar` every machine has both one-lane backends, so that a server can reproduce a
//! microcontroller. Without the feature, a target without vectors has the one-lane backend that matches its
//! multiply-add, and a target with vectors has none. 32-bit x86 needs SSE2 (i686): x87 has no f32 arithmetic, and the
//! crate does not compile without SSE2.
//!
//! # Floating-point modes
//!
//! The sections above assume the floating-point mode that Rust assumes: rounding to nearest, subnormals enabled. A host
//! program may have set another mode: the functions compute in that mode and do not change it. In every mode nothing
//! panics, and invalid arguments are errors. Where subnormals are flushed to zero (FTZ and DAZ of x86, FZ of Arm)
//! accuracy, NaN, infinity and the same bits are as above, except where the terms of a result sum to less than 2⁻¹⁰⁰:
//! such a result may be off by some 2⁻¹²³. A subnormal option may be taken for 0. With rounding up, down or toward zero
//! errors grow to some 700 ulp. The loss may even be too small and the gradient arbitrary where a logit is infinite or
//! next to the largest f32 or, when rounding down or toward zero, where the label's probability is below e⁻⁵⁷. Set the
//! default rounding for the time of a call.
//!
//! # Errors
//!
//! Every argument is checked before anything is written: an [`Error`] names the argument, the index and the expected
//! value, and leaves every output unchanged. Nothing panics or loops without bound, whatever the input;
//! only calls split over threads allocate.
#![no_std]
// Nothing that may panic, even where the compiler would remove the check.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(target_arch = "x86", not(target_feature = "sse2"), not(target_os = "uefi")))]
compile_error!("rwwce needs SSE2 on x86: the x87 rounds to f32 when it stores a number, and not when it computes one");

#[cfg(any(test, feature = "rayon"))]
extern crate std;

mod backend;
mod binary;
mod class_weights;
mod cross_entropy;
mod curvature;
mod decide;
mod error;
mod from_log_probabilities;
mod from_probabilities;
mod kernel;
mod label;
mod log_probabilities;
mod log_sum_exp;
mod logits;
mod monitoring;
#[cfg(feature = "rayon")]
mod parallel;
mod reduction;
mod row_partial;
mod rows;
#[cfg(feature = "rayon")]
mod slices;
mod soft_targets;
#[cfg(feature = "rayon")]
mod threads;
mod weighted_row_losses;

pub use backend::Backend;
pub use binary::BinaryCrossEntropy;
pub use class_weights::{ClassWeights, EmptyClass, Normalisation, Scheme, count_labels};
pub use cross_entropy::CrossEntropy;
pub use curvature::Curvature;
pub use error::{Argument, Error};
pub use kernel::decide::NO_DECISION;
pub use label::Label;
pub use log_sum_exp::log_sum_exp;
pub use logits::{Logit, Logits};
pub use monitoring::{ClassSums, decision_cost};
pub use reduction::{Denominator, Reduction, Summary, Total, Upstream, ZeroDenominator};
pub use row_partial::RowPartial;
pub use weighted_row_losses::weighted_row_losses;

/// The example of README.md, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
