//! A row whose classes are split: over workers, or over chunks that fit a small memory.

use crate::backend::Backend;
use crate::error::{Argument, Error, check_length};
use crate::kernel::log_softmax::RowPart;
use crate::kernel::tile::Batch;
use crate::logits::{Adjustment, Logits};
use crate::reduction::GradientScale;
use crate::rows::{Rows, Shape, Targets, class_of};

/// What is known of a row of logits after some of its classes, enough to merge it with the rest of them.
///
/// Plain data of a fixed size, so that it can be stored and sent: a vocabulary that outgrows one machine is split over
/// several, each reduces its own classes, and the merged parts give the loss of the whole row. Within one machine it
/// takes a row that is never in memory whole: in chunks, of any of the types of [`Logits`], which are asked for again if
/// the gradient is wanted.
///
/// A part is kept as its largest logit m and Σ_{k≠m} exp(x_k − x_m) in f64, so that the merged loss has the accuracy of
/// the loss of a whole row: 3 ulp. NaN and infinite logits follow the table of the crate's documentation.
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
    /// The logit of the label; 0 where no part has held it.
    pub label_logit: f32,
    /// Σ exp(x_k − largest) over all but one of the largest.
    pub excluded_sum: f64,
    /// The number of classes so far.
    pub classes: u64,
    /// The number of parts that have held the logit of the label: to be 1 in the end.
    pub labels: u64,
}

impl Default for RowPartial {
    /// No class yet.
    fn default() -> Self {
        Self { largest: f32::NEG_INFINITY, label_logit: 0.0, excluded_sum: 0.0, classes: 0, labels: 0 }
    }
}

impl RowPartial {
    /// A part of a row: its logits, and the index among them of the label, if it is one of them.
    ///
    /// # Errors
    ///
    /// [`Error::LabelOutOfRange`] where the label is not an index of `logits`, [`Error::OutOfRange`] for a scale or zero
    /// point.
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
        let (largest, excluded_sum) = row_part(logits, backend);
        let label_logit = label.and_then(|label| logits.get(label));
        Ok(Self {
            largest,
            label_logit: label_logit.unwrap_or(0.0),
            excluded_sum,
            classes: logits.len() as u64,
            labels: u64::from(label_logit.is_some()),
        })
    }

    /// Adds another part of the same row. Parts may come in any order; the sum may differ by the rounding of f64.
    pub fn merge(&mut self, other: &Self) {
        let (high, low) = if other.largest > self.largest || self.classes == 0 || other.largest.is_nan() {
            (*other, *self)
        } else {
            (*self, *other)
        };
        let mut excluded_sum = high.excluded_sum;
        if low.classes > 0 {
            // exp(−∞ − −∞) and exp(∞ − ∞) are those of equal logits.
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

    /// −`weight`·log p of the label.
    ///
    /// # Errors
    ///
    /// [`Error::LabelOwners`] where not exactly one part has held the label, [`Error::NotFinite`] for the weight.
    pub fn loss(&self, weight: f32) -> Result<f32, Error> {
        if self.labels != 1 {
            return Err(Error::LabelOwners { found: self.labels as usize });
        }
        if !weight.is_finite() {
            return Err(Error::NotFinite { argument: Argument::ClassWeights, index: 0 });
        }
        if weight == 0.0 {
            return Ok(0.0);
        }
        Ok((f64::from(weight) * self.minus_log_p(self.label_logit)) as f32)
    }

    /// log Σ exp over the classes so far, as [`log_sum_exp`](crate::log_sum_exp()) has it.
    #[must_use]
    pub fn log_sum_exp(&self) -> f32 {
        if self.largest.is_infinite() {
            return self.largest;
        }
        (f64::from(self.largest) + libm::log1p(self.excluded_sum)) as f32
    }

    /// The gradient `factor`·(p_i − \[i = y\]) of a part of the row whose whole this is: for the logits of the part, the
    /// index among them of the label if it is one of them, and weight, upstream factor and denominator in one.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] where `gradient` is not as long as `logits`, [`Error::LabelOutOfRange`], [`Error::NotFinite`]
    /// for the factor, [`Error::LabelOwners`].
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
        if !factor.is_finite() {
            return Err(Error::NotFinite { argument: Argument::Upstream, index: 0 });
        }
        if self.labels != 1 {
            return Err(Error::LabelOwners { found: self.labels as usize });
        }
        // Several that are +∞ leave no probability to any class.
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
            // Several that are +∞ have no share that is known.
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
    match label.map(|label| (label, i64::try_from(label).unwrap_or(i64::MAX))) {
        Some((_, label)) if class_of(label, classes).is_none() => {
            Err(Error::LabelOutOfRange { row: 0, label, classes })
        }
        _ => Ok(()),
    }
}

/// The largest of some logits and Σ exp(x_k − largest) over the others.
pub(crate) fn row_part(logits: Logits<'_>, backend: Backend) -> (f32, f64) {
    let shape = Shape {
        classes: logits.len(),
        positions: 1,
        row_stride: None,
        class_weights: None,
        sample_weights: None,
        ignore_index: None,
    };
    // No classes, no row.
    let Ok(rows) = Rows::new(shape, Argument::Logits, logits.len(), Targets::None) else {
        return (f32::NEG_INFINITY, 0.0);
    };
    let (adjustment, scale) = (Adjustment::NONE, GradientScale::Same(0.0));
    backend.drive(RowPart { batch: Batch { rows: &rows, logits: Some(logits), adjustment, gradient: None, scale } })
}
