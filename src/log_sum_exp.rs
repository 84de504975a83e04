//! Log-sum-exp of one row.

use crate::backend::Backend;
use crate::kernel::f64_math;
use crate::logits::Logits;
use crate::row_partial::max_and_excluded_sum;

/// Log-sum-exp of one row of logits, log Σ_k exp(x_k), without overflow and without loss of small terms.
///
/// With r the class of the largest logit the result is x_r + log(1 + Σ_{k≠r} exp(x_k − x_r)), added in f64 and rounded
/// once: the error is at most 3 ulp of the larger of the two terms' magnitudes.
///
/// An empty row, or one with all logits −∞, gives −∞; any NaN gives NaN; otherwise any +∞ gives +∞. There is no error:
/// scale and zero point of quantised logits are not checked ([`Logits::check`] does that).
///
/// ```
/// assert_eq!(rwwce::log_sum_exp(&[1000.0, 1000.0]), 1000.693_2);
/// assert_eq!(rwwce::log_sum_exp(&[0.0; 0]), f32::NEG_INFINITY);
/// ```
#[must_use]
pub fn log_sum_exp<'l>(row: impl Into<Logits<'l>>) -> f32 {
    Backend::active().log_sum_exp(row)
}

impl Backend {
    /// [`log_sum_exp`](crate::log_sum_exp()) with the instructions of this backend.
    #[must_use]
    pub fn log_sum_exp<'l>(self, row: impl Into<Logits<'l>>) -> f32 {
        let (largest, excluded_sum) = max_and_excluded_sum(row.into(), self);
        if largest.is_infinite() { largest } else { (f64::from(largest) + f64_math::log1p(excluded_sum)) as f32 }
    }
}
