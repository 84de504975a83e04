//! Second derivatives of the losses, for boosting and Newton steps.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_length};
use crate::kernel::curvature::CurvatureRows;
use crate::kernel::tile::Batch;
use crate::label::Label;
use crate::logits::Logits;
use crate::reduction::{GradientScale, Upstream};
use crate::rows::Targets;

/// Kind of second derivative: the diagonal of the Hessian, or an upper bound of the Hessian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Curvature {
    /// The diagonal of the Hessian of the loss with respect to the logits of a row,
    ///
    /// W·p_i·(1 − p_i) + fp\[y,i\]·p_i − p_i·(1 − p_i)·Σ_j s_j + p_i²·Σ_{j≠i} s_j/(1 − p_j),
    ///
    /// where s_j = fp\[y,j\]·p_j/(1 − p_j) and W is w\[y\], or Σ_c w\[c\]·q_c for target probabilities, or either of
    /// them with label smoothing applied. With mislabel costs the diagonal may be negative.
    #[default]
    Diagonal,
    /// 2·p_i·((|W| + fp\[y,i\])·(1 − p_i) + Σ_{j≠i} fp\[y,j\]·p_j), never negative: the diagonal matrix of these bounds
    /// minus the Hessian of a row is positive semidefinite, so that a step of −gradient/bound does not overshoot the
    /// quadratic model of the loss. Without mislabel costs this is the value that boosting libraries use for softmax.
    /// It is a bound only if neither sample weight nor upstream factor is negative.
    Bound,
}

impl CrossEntropy<'_> {
    /// Writes the second derivative of the loss with respect to each logit to `curvature`, shaped and padded as the
    /// logits. The second derivative is multiplied by `upstream` and divided as the gradient of
    /// [`CrossEntropy::gradient`] is; with a temperature T it is 1/T² times that with respect to the adjusted logits.
    ///
    /// The error is at most 2 ulp of the sum of the magnitudes of the terms in [`Curvature`]. Rows that do not count,
    /// or whose weight or upstream factor is zero, get exact zeros. A row with a NaN, several +∞ or only −∞ gets NaN.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::gradient`], and [`Error::Incompatible`] for the focal factor and the z-loss.
    ///
    /// ```
    /// use rwwce::{CrossEntropy, Curvature};
    ///
    /// let (loss, mut curvature) = (CrossEntropy::new(2), [0.0; 2]);
    /// loss.curvature(&[17.0, 0.0], &[0u8], 1.0, Curvature::Diagonal, &mut curvature)?;
    /// assert_eq!(curvature, [4.139_937_5e-8; 2]);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn curvature<'l, 'u, L: Label>(
        &self,
        logits: impl Into<Logits<'l>>,
        labels: &[L],
        upstream: impl Into<Upstream<'u>>,
        which: Curvature,
        curvature: &mut [f32],
    ) -> Result<(), Error> {
        self.write_curvature(logits.into(), Targets::Labels(L::labels(labels)), upstream.into(), which, curvature)
    }

    /// [`CrossEntropy::curvature`] with target probabilities `[N, C, D]`.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::soft_gradient`], and [`Error::Incompatible`] for the z-loss.
    pub fn soft_curvature<'l, 'u>(
        &self,
        logits: impl Into<Logits<'l>>,
        targets: &[f32],
        upstream: impl Into<Upstream<'u>>,
        which: Curvature,
        curvature: &mut [f32],
    ) -> Result<(), Error> {
        self.with_terms().write_curvature(logits.into(), Targets::Soft(targets), upstream.into(), which, curvature)
    }

    fn write_curvature(
        &self,
        logits: Logits<'_>,
        targets: Targets<'_>,
        upstream: Upstream<'_>,
        which: Curvature,
        curvature: &mut [f32],
    ) -> Result<(), Error> {
        logits.check()?;
        let (rows, total) = self.check(Argument::Logits, logits.len(), targets)?;
        let terms = self.terms(targets);
        if let Some(option) = terms.label.table().iter().find(|option| option.number != 0.0) {
            return Err(Error::Incompatible { option: option.argument, with: Argument::Curvature });
        }
        let divisor = self.divisor(targets, &total)?;
        check_length(Argument::Curvature, logits.len(), curvature.len())?;
        let scale = GradientScale::check(upstream, &divisor, rows.count())?;
        let (logits, adjustment, gradient) = (Some(logits), self.adjustment(), Some(curvature));
        let batch = Batch { rows: &rows, logits, adjustment, gradient, scale };
        self.chosen_backend().drive(CurvatureRows { batch, terms, bound: which == Curvature::Bound });
        Ok(())
    }
}
