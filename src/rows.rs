//! The rows of a call: shape, targets and weights, and their validation.

use core::num::NonZero;

use crate::error::{Argument, Error, check_finite, check_length};
use crate::kernel::limits::CHUNK;
use crate::label::Labels;
use crate::reduction::Total;

/// Shape, weights and ignored label, as set by the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) classes: usize,
    /// D, the rows of a sample, whose logits are `[C, D]`.
    pub(crate) positions: usize,
    pub(crate) row_stride: Option<usize>,
    pub(crate) class_weights: Option<&'a [f32]>,
    pub(crate) sample_weights: Option<&'a [f32]>,
    pub(crate) ignore_index: Option<i64>,
}

impl Shape<'_> {
    /// One position, and nothing else set.
    pub(crate) const fn new(classes: usize) -> Self {
        let (positions, row_stride, class_weights, sample_weights, ignore_index) = (1, None, None, None, None);
        Self { classes, positions, row_stride, class_weights, sample_weights, ignore_index }
    }
}

/// Targets: labels, probabilities or none.
#[derive(Clone, Copy)]
pub(crate) enum Targets<'a> {
    Labels(Labels<'a>),
    /// Probabilities, shaped and padded as the logits.
    Soft(&'a [f32]),
    /// For calls of logits alone.
    None,
}

/// Rows of validated shape and weights; `CrossEntropy::check_targets` or a kernel validates the targets.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    shape: Shape<'a>,
    targets: Targets<'a>,
    /// Number of rows, counted or not.
    count: usize,
    /// Number of rows of a sample; nonzero, so that division cannot panic.
    positions: NonZero<usize>,
    /// Elements from the start of one sample to the start of the next.
    sample_stride: usize,
    /// Number of rows of a chunk, which is summed apart.
    chunk: NonZero<usize>,
}

impl<'a> Rows<'a> {
    /// Validates the shape against the length of the logits (or probabilities, as `argument` says), and the weights.
    /// Inlined on 64-bit targets, because the result is large.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn new(shape: Shape<'a>, argument: Argument, len: usize, targets: Targets<'a>) -> Result<Self, Error> {
        let Shape { classes, positions, row_stride, class_weights, sample_weights, .. } = shape;
        if classes == 0 {
            return Err(Error::NoClasses);
        }
        let positions = NonZero::new(positions).ok_or(Error::OutOfRange { argument: Argument::Positions })?;
        let dense = classes
            .checked_mul(positions.get())
            .ok_or(Error::SizeOverflow { rows: positions.get(), row_stride: classes })?;
        let sample_stride = row_stride.unwrap_or(dense);
        if sample_stride < dense {
            return Err(Error::OutOfRange { argument: Argument::RowStride });
        }
        let count = match targets {
            Targets::Labels(labels) => labels.len(),
            Targets::Soft(_) | Targets::None => {
                len.checked_div(sample_stride).unwrap_or(0).saturating_mul(positions.get())
            }
        };
        let samples = count / positions;
        check_length(Argument::Labels, samples.saturating_mul(positions.get()), count)?;
        let too_long = Error::SizeOverflow { rows: samples, row_stride: sample_stride };
        check_length(argument, samples.checked_mul(sample_stride).ok_or(too_long)?, len)?;
        if let Some(weights) = class_weights {
            check_length(Argument::ClassWeights, classes, weights.len())?;
            check_finite(Argument::ClassWeights, weights)?;
        }
        if let Some(weights) = sample_weights {
            check_length(Argument::SampleWeights, count, weights.len())?;
            check_finite(Argument::SampleWeights, weights)?;
        }
        if let Targets::Soft(probabilities) = targets {
            check_length(Argument::Targets, len, probabilities.len())?;
        }
        Ok(Self { shape, targets, count, positions, sample_stride, chunk: chunk_of(classes, positions) })
    }

    /// The first `count` rows, whole samples, and the other rows.
    #[cfg(feature = "rayon")]
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        use crate::slices::{split, split_into};
        let (targets, other_targets) = match self.targets {
            Targets::Labels(labels) => {
                let (labels, others) = labels.split_at(count);
                (Targets::Labels(labels), Targets::Labels(others))
            }
            Targets::Soft(probabilities) => split_into(probabilities, self.start(count), Targets::Soft),
            Targets::None => (Targets::None, Targets::None),
        };
        let (weights, other_weights) = self.shape.sample_weights.map(|weights| split(weights, count)).unzip();
        let shape = Shape { sample_weights: weights, ..self.shape };
        let others = Shape { sample_weights: other_weights, ..self.shape };
        (
            Self { shape, targets, count, ..self },
            Self { shape: others, targets: other_targets, count: self.count.saturating_sub(count), ..self },
        )
    }

    /// Totals of `counted` rows without their losses.
    pub(crate) fn total(&self, counted: usize, weight_sum: f64, sample_weight_sum: f64) -> Total {
        let rows = counted as u64;
        let rows_times_classes = rows.wrapping_mul(self.shape.classes as u64);
        Total { weight_sum, sample_weight_sum, rows, rows_times_classes, ..Total::default() }
    }

    /// Number of rows, counted or not.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Number of classes.
    #[inline(always)]
    pub(crate) fn classes(&self) -> usize {
        self.shape.classes
    }

    /// Number of rows of a sample; the logits of one class are contiguous over these rows.
    #[inline(always)]
    pub(crate) fn positions(&self) -> usize {
        self.positions.get()
    }

    /// Number of rows from `row` to the end of its sample.
    #[inline(always)]
    pub(crate) fn left_in_sample(&self, row: usize) -> usize {
        self.positions.get().wrapping_sub(row % self.positions)
    }

    /// Number of rows of a chunk, the unit of summation over rows.
    #[inline(always)]
    pub(crate) fn chunk(&self) -> NonZero<usize> {
        self.chunk
    }

    /// Number of rows from `row` to the end of its chunk, or of all rows.
    #[inline(always)]
    pub(crate) fn left_in_chunk(&self, row: usize) -> usize {
        self.chunk.get().wrapping_sub(row % self.chunk).min(self.count.saturating_sub(row))
    }

    /// Whether the logits are `[N, C]` without padding.
    #[inline(always)]
    pub(crate) fn are_dense(&self) -> bool {
        self.positions.get() == 1 && self.are_contiguous()
    }

    /// Whether there is no padding.
    #[inline(always)]
    pub(crate) fn are_contiguous(&self) -> bool {
        self.sample_stride == self.shape.classes.wrapping_mul(self.positions.get())
    }

    pub(crate) fn targets(&self) -> Targets<'a> {
        self.targets
    }

    /// The labels, unless the targets are something else.
    #[inline(always)]
    pub(crate) fn labels(&self) -> Option<Labels<'a>> {
        if let Targets::Labels(labels) = self.targets { Some(labels) } else { None }
    }

    /// The ignored label.
    #[inline(always)]
    pub(crate) fn ignored(&self) -> Option<i64> {
        self.shape.ignore_index
    }

    /// Whether the ignored label is in `[0, C)`.
    #[inline(always)]
    pub(crate) fn ignores_a_class(&self) -> bool {
        self.ignored().is_some_and(|label| class_of(label, self.classes()).is_some())
    }

    /// The class index of a row; `None` if the row does not count or has no label.
    #[inline(always)]
    pub(crate) fn class(&self, row: usize) -> Option<usize> {
        let label = self.labels()?.get(row)?;
        if Some(label) == self.shape.ignore_index { None } else { class_of(label, self.shape.classes) }
    }

    /// Whether a row counts.
    #[inline(always)]
    pub(crate) fn counts(&self, row: usize) -> bool {
        self.labels().is_none() || self.class(row).is_some()
    }

    /// The weight of a class.
    #[inline(always)]
    pub(crate) fn weight(&self, class: usize) -> f32 {
        self.shape.class_weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0))
    }

    /// The class weights, `None` for ones.
    #[inline(always)]
    pub(crate) fn class_weights(&self) -> Option<&'a [f32]> {
        self.shape.class_weights
    }

    /// The sample weights, `None` for ones.
    #[inline(always)]
    pub(crate) fn sample_weights(&self) -> Option<&'a [f32]> {
        self.shape.sample_weights
    }

    /// The weight of a row.
    #[inline(always)]
    pub(crate) fn sample_weight(&self, row: usize) -> f32 {
        self.shape.sample_weights.map_or(1.0, |weights| weights.get(row).copied().unwrap_or(0.0))
    }

    /// Whether the element at `index` belongs to a row and is no padding.
    pub(crate) fn has_element(&self, index: usize) -> bool {
        let used = self.shape.classes.wrapping_mul(self.positions.get());
        index.checked_rem(self.sample_stride).is_some_and(|at| at < used)
    }

    /// The index of the first element of a row.
    #[inline(always)]
    pub(crate) fn start(&self, row: usize) -> usize {
        if self.positions.get() == 1 {
            return row.wrapping_mul(self.sample_stride);
        }
        (row / self.positions).wrapping_mul(self.sample_stride).wrapping_add(row % self.positions)
    }

    /// The index of the logit of a class in a row.
    #[inline(always)]
    pub(crate) fn element(&self, row: usize, class: usize) -> usize {
        self.start(row).wrapping_add(class.wrapping_mul(self.positions.get()))
    }
}

/// Number of rows of a chunk: whole samples of at most [`CHUNK`] logits, or one sample.
pub(crate) fn chunk_of(classes: usize, positions: NonZero<usize>) -> NonZero<usize> {
    let sample = classes.saturating_mul(positions.get());
    // log2 of the size of a sample, rounded up.
    let doublings = usize::BITS.saturating_sub(sample.saturating_sub(1).leading_zeros());
    let samples = NonZero::new(CHUNK.unbounded_shr(doublings)).unwrap_or(NonZero::<usize>::MIN);
    samples.saturating_mul(positions)
}

/// The class index of a label, if in `[0, classes)`.
#[inline(always)]
pub(crate) fn class_of(label: i64, classes: usize) -> Option<usize> {
    usize::try_from(label).ok().filter(|&class| class < classes)
}
