//! Partial results of a row whose classes are split over workers, or over chunks that fit a small memory.

use crate::backend::Backend;
use crate::error::{Argument, Error, check_finite, check_length};
use crate::kernel::log_softmax::RowPart;
use crate::kernel::tile::Batch;
use crate::label::Label;
use crate::logits::{Adjustment, Logits};
use crate::reduction::GradientScale;
use crate::rows::{Rows, Shape, Targets, class_of};

/// Partial result of one row over some of its classes, to merge with the other classes (vocabulary parallelism).
///
/// Plain data of a fixed size, to be stored and sent: a vocabulary that outgrows one machine is split over several,
/// each reduces its own classes, and the merged parts give the loss of the whole row. On one machine a row that is
/// never in memory whole is reduced in chunks, of any type of [`Logits`]; the gradient reads the chunks a second time.
///
/// A part holds its largest logit x_m and Σ_{k≠m} exp(x_k − x_m) in f64, so that the merged loss has the accuracy of
/// the loss of a whole row: 3 ulp but for [rare rows](crate#accuracy). NaN and infinite logits follow the table of the
/// crate's documentation.
///
/// ```
/// use rwwce::RowPartial;
///
/// let row = [0.5, 2.0, -1.0, 4.0, 3.0];
/// // The label is class 3, which is class 1 of the second worker.
/// let mut whole = RowPartial::new(&row[..2], None)?;
/// whole.merge(&RowPartial::new(&row[2..], Some(1))?);
/// assert_eq!(whole.loss(1.0)?, rwwce::CrossEntropy::new(5).loss(&row, &[3u8])?.loss);
///
/// // Each worker then has the gradient of its own classes.
/// let mut gradient = [0.0; 3];
/// whole.gradient(&row[2..], Some(1), 1.0, &mut gradient)?;
///
/// // A small memory takes 1000 classes 50 at a time, as some other part of the device has stored them.
/// let stored = |start: usize| core::array::from_fn::<i8, 50, _>(|i| ((start + i) * 7 % 256) as u8 as i8);
/// let mut whole = RowPartial::default();
/// for start in (0..1000).step_by(50) {
///     let chunk = stored(start);
///     let logits = rwwce::Logits::I8 { values: &chunk, scale: 0.0625, zero_point: 3 };
///     let label = 345usize.checked_sub(start).filter(|&label| label < 50);
///     whole.merge(&RowPartial::new(logits, label)?);
/// }
/// assert_eq!(whole.loss(1.0)?, 5.158_595);
/// # Ok::<(), rwwce::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct RowPartial {
    /// The largest logit so far: −∞ before the first, NaN after a NaN.
    pub largest: f32,
    /// The logit of the label; 0 if no part so far has held the label.
    pub label_logit: f32,
    /// Σ exp(x_k − largest) over all classes but one with the largest logit.
    pub excluded_sum: f64,
    /// The number of classes so far.
    pub classes: u64,
    /// The number of parts that have held the label: 1 for a whole row.
    pub labels: u64,
}

impl Default for RowPartial {
    /// No class yet.
    fn default() -> Self {
        Self { largest: f32::NEG_INFINITY, label_logit: 0.0, excluded_sum: 0.0, classes: 0, labels: 0 }
    }
}

impl RowPartial {
    /// Reduces a part of a row, given its logits and the index of the label in `logits`, `None` if another part has it.
    ///
    /// # Errors
    ///
    /// [`Error::LabelOutOfRange`] where the label is not an index of `logits`, [`Error::OutOfRange`] for a scale or
    /// zero point.
    pub fn new<'l>(logits: impl Into<Logits<'l>>, label: Option<usize>) -> Result<Self, Error> {
        Self::with_backend(logits, label, Backend::active())
    }

    /// [`RowPartial::new`] with the instructions of this backend.
    ///
    /// # Errors
    ///
    /// As [`RowPartial::new`].
    pub fn with_backend<'l>(
        logits: impl Into<Logits<'l>>,
        label: Option<usize>,
        backend: Backend,
    ) -> Result<Self, Error> {
        let logits = logits.into();
        logits.check()?;
        check_label(logits, label)?;
        let (largest, excluded_sum) = max_and_excluded_sum(logits, backend);
        let label_logit = label.and_then(|label| logits.get(label));
        Ok(Self {
            largest,
            label_logit: label_logit.unwrap_or(0.0),
            excluded_sum,
            classes: logits.len() as u64,
            labels: u64::from(label_logit.is_some()),
        })
    }

    /// Merges another part of the same row. Parts may come in any order, which may change the rounding of the f64 sum.
    pub fn merge(&mut self, other: &Self) {
        let (high, low) = if other.largest > self.largest || self.classes == 0 || other.largest.is_nan() {
            (*other, *self)
        } else {
            (*self, *other)
        };
        let mut excluded_sum = high.excluded_sum;
        if low.classes > 0 {
            // A gap of −∞ − −∞ or ∞ − ∞ is 0, not NaN.
            let gap = if low.largest == high.largest { 0.0 } else { f64::from(low.largest) - f64::from(high.largest) };
            excluded_sum += libm::exp(gap) * (1.0 + low.excluded_sum);
        }
        let label_logit = if self.labels > 0 { self.label_logit } else { other.label_logit };
        *self = Self {
            largest: high.largest,
            label_logit,
            excluded_sum,
            classes: high.classes.wrapping_add(low.classes),
            labels: high.labels.wrapping_add(low.labels),
        };
    }

    /// Loss of the whole row, −`weight`·log p of the label.
    ///
    /// # Errors
    ///
    /// [`Error::LabelOwners`] where not exactly one part has held the label, [`Error::NotFinite`] for the weight.
    pub fn loss(&self, weight: f32) -> Result<f32, Error> {
        if self.labels != 1 {
            return Err(Error::LabelOwners { found: self.labels as usize });
        }
        check_finite(Argument::ClassWeights, &[weight])?;
        if weight == 0.0 {
            return Ok(0.0);
        }
        Ok((f64::from(weight) * self.minus_log_p(self.label_logit)) as f32)
    }

    /// Log-sum-exp over the classes so far, as [`log_sum_exp`](crate::log_sum_exp()) of them.
    #[must_use]
    pub fn log_sum_exp(&self) -> f32 {
        if self.largest.is_infinite() {
            return self.largest;
        }
        (f64::from(self.largest) + libm::log1p(self.excluded_sum)) as f32
    }

    /// Writes the gradient of a part of the row to `gradient`, where `self` is the merged whole:
    /// `factor`·(p_i − \[i = y\]) for the `logits` of the part. `label` is as in [`RowPartial::new`]; `factor` is
    /// weight · upstream / denominator.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] where `gradient` is not as long as `logits`, [`Error::LabelOutOfRange`], [`Error::NotFinite`]
    /// for the factor, [`Error::LabelOwners`], [`Error::OutOfRange`] for a scale or zero point.
    pub fn gradient<'l>(
        &self,
        logits: impl Into<Logits<'l>>,
        label: Option<usize>,
        factor: f32,
        gradient: &mut [f32],
    ) -> Result<(), Error> {
        let logits = logits.into();
        logits.check()?;
        check_length(Argument::Gradient, logits.len(), gradient.len())?;
        check_label(logits, label)?;
        check_finite(Argument::Upstream, &[factor])?;
        if self.labels != 1 {
            return Err(Error::LabelOwners { found: self.labels as usize });
        }
        // Several logits of +∞ leave every probability undefined.
        let tied = self.largest == f32::INFINITY && self.excluded_sum > 0.0;
        for (index, to) in gradient.iter_mut().enumerate() {
            let x = logits.get(index).unwrap_or(0.0);
            let value = if tied {
                f64::NAN
            } else if label == Some(index) {
                -self.miss(x)
            } else {
                libm::exp(-self.minus_log_p(x))
            };
            *to = if factor == 0.0 { 0.0 } else { (f64::from(factor) * value) as f32 };
        }
        Ok(())
    }

    /// −log p of a class with this logit.
    fn minus_log_p(&self, logit: f32) -> f64 {
        if self.largest == f32::INFINITY {
            // The probabilities of several logits of +∞ are undefined.
            return match logit == f32::INFINITY {
                true if self.excluded_sum > 0.0 => f64::NAN,
                true => 0.0,
                false if logit.is_nan() => f64::NAN,
                false => f64::INFINITY,
            };
        }
        (f64::from(self.largest) - f64::from(logit)) + libm::log1p(self.excluded_sum)
    }

    /// 1 − p of a class with this logit.
    fn miss(&self, logit: f32) -> f64 {
        -libm::expm1(-self.minus_log_p(logit))
    }
}

fn check_label(logits: Logits<'_>, label: Option<usize>) -> Result<(), Error> {
    let classes = logits.len();
    match label.map(Label::value) {
        Some(label) if class_of(label, classes).is_none() => Err(Error::LabelOutOfRange { row: 0, label, classes }),
        _ => Ok(()),
    }
}

/// The largest logit and Σ exp(x_k − largest) over the others.
pub(crate) fn max_and_excluded_sum(logits: Logits<'_>, backend: Backend) -> (f32, f64) {
    // `Rows::new` refuses a row without classes.
    let Ok(rows) = Rows::new(Shape::new(logits.len()), Argument::Logits, logits.len(), Targets::None) else {
        return (f32::NEG_INFINITY, 0.0);
    };
    let (adjustment, scale) = (Adjustment::NONE, GradientScale::Same(0.0));
    backend.drive(RowPart { batch: Batch { rows: &rows, logits: Some(logits), adjustment, gradient: None, scale } })
}
