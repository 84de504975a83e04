//! Everything that is checked before work starts: shapes, strides, labels, weights.

use core::num::NonZero;

use crate::backend::Backend;
use crate::backend::vector::{Operation, Vector};
use crate::error::{Argument, Error};
use crate::kernel::views::SHORT_ROW;
use crate::kernel::{VIRTUAL_LANES, part, part_mut};
use crate::label::Labels;
use crate::logits::Logits;
use crate::reduction::{LaneSum, Total};

/// Rows whose shape, labels and weights have been found valid.
pub(crate) struct Rows<'a> {
    shape: Shape<'a>,
    /// None where the targets are probabilities.
    labels: Option<Labels<'a>>,
    /// Number of rows, counted or not.
    count: usize,
    /// Number of rows of a sample. Divisions by it cannot panic.
    positions: NonZero<usize>,
    /// Elements from the start of one sample to the start of the next.
    sample_stride: usize,
    /// What the rows that count add up to, their losses apart.
    pub(crate) counts: Total,
}

/// The class of a row that does not count.
pub(crate) const NO_CLASS: usize = usize::MAX;

/// What a caller says about the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) classes: usize,
    /// D: each sample has this many rows, and its logits stand class by class.
    pub(crate) positions: usize,
    pub(crate) row_stride: Option<usize>,
    pub(crate) class_weights: Option<&'a [f32]>,
    pub(crate) sample_weights: Option<&'a [f32]>,
    pub(crate) ignore_index: Option<i64>,
}

/// What a row is held against.
#[derive(Clone, Copy)]
pub(crate) enum Targets<'a> {
    Labels(Labels<'a>),
    /// Probabilities, shaped and padded as the logits.
    Soft(&'a [f32]),
    /// Nothing: only the logits matter.
    None,
}

impl<'a> Rows<'a> {
    /// Rows that have not been checked: none.
    #[inline(always)]
    pub(crate) fn unchecked(shape: Shape<'a>) -> Self {
        let positions = NonZero::<usize>::MIN;
        Self { shape, labels: None, count: 0, positions, sample_stride: 0, counts: Total::default() }
    }

    /// Checks the shape against the length of the logits (or probabilities, as `argument` says), the weights and every
    /// target.
    // In place, since a result as large as this would be copied on its way, piece by piece.
    pub(crate) fn check(
        &mut self,
        argument: Argument,
        len: usize,
        targets: Targets<'a>,
        backend: Backend,
    ) -> Result<(), Error> {
        let Shape { classes, positions, row_stride, class_weights, sample_weights, .. } = self.shape;
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
            Targets::Soft(_) | Targets::None => len.checked_div(sample_stride).unwrap_or(0) * positions.get(),
        };
        let samples = count / positions;
        check_length(Argument::Labels, samples * positions.get(), count)?;
        let too_long = Error::SizeOverflow { rows: samples, row_stride: sample_stride };
        check_length(argument, samples.checked_mul(sample_stride).ok_or(too_long)?, len)?;
        if let Some(weights) = class_weights {
            check_length(Argument::ClassWeights, classes, weights.len())?;
            check_finite(Argument::ClassWeights, weights)?;
        }
        if let Some(weights) = sample_weights {
            check_length(Argument::SampleWeights, count, weights.len())?;
            check_cost(Argument::SampleWeights, weights)?;
        }
        self.labels = if let Targets::Labels(labels) = targets { Some(labels) } else { None };
        (self.count, self.positions, self.sample_stride) = (count, positions, sample_stride);
        if let Targets::Soft(probabilities) = targets {
            check_length(Argument::Targets, len, probabilities.len())?;
            check_finite(Argument::Targets, probabilities)?;
            self.count_soft(probabilities);
            Ok(())
        } else {
            self.check_labels(backend)
        }
    }

    fn check_labels(&mut self, backend: Backend) -> Result<(), Error> {
        let classes = self.shape.classes;
        let Some(labels) = self.labels else {
            self.set_counts(0, None);
            return Ok(());
        };
        let counted = labels
            .check(classes, self.shape.ignore_index)
            .map_err(|(row, label)| Error::LabelOutOfRange { row, label, classes })?;
        let weighted = self.shape.class_weights.is_some() || self.shape.sample_weights.is_some();
        self.set_counts(counted, None);
        if weighted {
            self.set_counts(counted, Some(backend.run(WeightSums(self))));
        }
        Ok(())
    }

    fn count_soft(&mut self, probabilities: &[f32]) {
        let (mut weight_sum, mut sample_weight_sum) = (LaneSum::new(), LaneSum::new());
        for row in 0..self.count {
            let of_sample = f64::from(self.sample_weight(row));
            let of_row = (0..self.shape.classes).map(|class| {
                let q = probabilities.get(self.element(row, class)).copied().unwrap_or(0.0);
                f64::from(q) * f64::from(self.weight(class))
            });
            weight_sum.add(row, of_row.sum::<f64>() * of_sample);
            sample_weight_sum.add(row, of_sample);
        }
        self.set_counts(self.count, Some((weight_sum.total(), sample_weight_sum.total())));
    }

    fn set_counts(&mut self, counted: usize, sums: Option<(f64, f64)>) {
        let (weight_sum, sample_weight_sum) = sums.unwrap_or((counted as f64, counted as f64));
        let rows = counted as u64;
        let rows_times_classes = rows.wrapping_mul(self.shape.classes as u64);
        self.counts = Total { weight_sum, sample_weight_sum, rows, rows_times_classes, ..Total::default() };
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

    /// Number of rows of a sample; their logits of one class stand side by side.
    #[inline(always)]
    pub(crate) fn positions(&self) -> usize {
        self.positions.get()
    }

    /// The number of rows from this one to the last of its sample.
    #[inline(always)]
    pub(crate) fn left_in_sample(&self, row: usize) -> usize {
        self.positions.get() - row % self.positions
    }

    /// The class of a row; nothing where the row does not count or its target is a row of probabilities.
    #[inline(always)]
    pub(crate) fn class(&self, row: usize) -> Option<usize> {
        let label = self.labels?.get(row)?;
        if Some(label) == self.shape.ignore_index { None } else { class_of(label, self.shape.classes) }
    }

    /// The classes of `count` rows from `first` on; [`NO_CLASS`] where [`Self::class`] has none.
    #[inline(always)]
    pub(crate) fn classes_of(&self, first: usize, count: usize, lanes: usize) -> [usize; VIRTUAL_LANES] {
        let mut classes = [NO_CLASS; VIRTUAL_LANES];
        if count < lanes {
            for (row, class) in (first..).zip(&mut classes).take(count) {
                *class = self.class(row).unwrap_or(NO_CLASS);
            }
        } else if let Some(labels) = self.labels {
            let mut values = [0; VIRTUAL_LANES];
            labels.read(first, lanes, &mut values);
            // Labels have been checked: in range or ignored.
            match self.shape.ignore_index {
                None => {
                    for (class, value) in classes.iter_mut().zip(values).take(lanes) {
                        *class = value as usize;
                    }
                }
                Some(ignored) => {
                    for (class, value) in classes.iter_mut().zip(values).take(lanes) {
                        *class = if value == ignored { NO_CLASS } else { value as usize };
                    }
                }
            }
        }
        classes
    }

    /// The weights of classes; 0 for none.
    #[inline(always)]
    pub(crate) fn weights_of<S: Vector>(&self, s: S, classes: &[usize; VIRTUAL_LANES]) -> S::F {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let codes = s.to_bits(s.load(&classes.map(|class| f32::from_bits(class as u32)), 0));
        match self.shape.class_weights {
            None => s.select(s.equal_bits(codes, s.splat_bits(NO_CLASS as u32)), zero, one),
            // Numbers that are looked up one by one cannot be loaded together at once.
            Some(weights) if S::WIDE && weights.len() <= SHORT_ROW => {
                let mut found = zero;
                for (class, &weight) in weights.iter().enumerate() {
                    found = s.select(s.equal_bits(codes, s.splat_bits(class as u32)), s.splat(weight), found);
                }
                found
            }
            Some(weights) => {
                let mut found = [0.0; VIRTUAL_LANES];
                for (weight, class) in found.iter_mut().zip(classes).take(S::LANES) {
                    *weight = weights.get(*class).copied().unwrap_or(0.0);
                }
                s.load(&found, 0)
            }
        }
    }

    /// Whether a row counts.
    #[inline(always)]
    pub(crate) fn counts(&self, row: usize) -> bool {
        self.labels.is_none() || self.class(row).is_some()
    }

    /// The weight of a class.
    #[inline(always)]
    pub(crate) fn weight(&self, class: usize) -> f32 {
        self.shape.class_weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0))
    }

    /// The weights of the classes, if they have any.
    #[inline(always)]
    pub(crate) fn class_weights(&self) -> Option<&'a [f32]> {
        self.shape.class_weights
    }

    /// The weights of the rows, if they have any.
    #[inline(always)]
    pub(crate) fn sample_weights(&self) -> Option<&'a [f32]> {
        self.shape.sample_weights
    }

    /// The weight of a row.
    #[inline(always)]
    pub(crate) fn sample_weight(&self, row: usize) -> f32 {
        self.shape.sample_weights.map_or(1.0, |weights| weights.get(row).copied().unwrap_or(0.0))
    }

    /// w·s of a row of this class, if f32 holds it: the product of two weights may leave its range where what they weigh
    /// brings it back.
    #[inline(always)]
    pub(crate) fn row_weight(&self, row: usize, class: usize) -> Option<f32> {
        let weight = self.weight(class);
        let Some(sample) = self.shape.sample_weights.map(|_| self.sample_weight(row)) else { return Some(weight) };
        let product = weight * sample;
        let holds = WEIGHTS_OF_ROWS.contains(&product.abs()) || weight == 0.0 || sample == 0.0;
        if holds { Some(product) } else { None }
    }

    /// `count` rows from `first` on, that stand by themselves, so many positions a sample.
    pub(crate) fn some(&self, first: usize, count: usize, positions: usize) -> Self {
        let positions = NonZero::new(positions).unwrap_or(NonZero::<usize>::MIN);
        let sample_weights = self.shape.sample_weights.map(|weights| part(weights, first, count));
        // Positions and stride of the shape are for the checks alone.
        let shape = Shape { sample_weights, ..self.shape };
        let labels = self.labels.map(|labels| labels.some(first, count));
        let sample_stride = shape.classes * positions.get();
        Self { shape, labels, count, positions, sample_stride, counts: Total::default() }
    }

    /// Writes the numbers of all logits where they are shaped alike, and nothing between the samples.
    pub(crate) fn widen(&self, logits: Logits<'_>, to: &mut [f32]) {
        let len = self.shape.classes * self.positions.get();
        for sample in 0..self.count / self.positions {
            let start = sample * self.sample_stride;
            logits.widen(start, 1, part_mut(to, start, len));
        }
    }

    /// The index of the first element of a row.
    #[inline(always)]
    pub(crate) fn start(&self, row: usize) -> usize {
        if self.positions.get() == 1 {
            return row * self.sample_stride;
        }
        row / self.positions * self.sample_stride + row % self.positions
    }

    /// The index of the element of a row that belongs to a class.
    #[inline(always)]
    pub(crate) fn element(&self, row: usize, class: usize) -> usize {
        self.start(row) + class * self.positions.get()
    }
}

/// What f32 holds with all of its digits. A product of weights outside is left to f64.
pub(crate) const WEIGHTS_OF_ROWS: core::ops::Range<f32> = f32::MIN_POSITIVE..f32::INFINITY;

/// Σ w\[y\]·s and Σ s over the rows that count.
struct WeightSums<'a>(&'a Rows<'a>);

impl Operation for WeightSums<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> (f64, f64) {
        let rows = self.0;
        let (mut weight_sum, mut sample_weight_sum) = (LaneSum::new(), LaneSum::new());
        let mut first = 0;
        if rows.shape.sample_weights.is_none() {
            while first + S::LANES <= rows.count {
                let classes = rows.classes_of(first, S::LANES, S::LANES);
                let mut weights = [0.0; VIRTUAL_LANES];
                s.store(rows.weights_of(s, &classes), &mut weights, 0);
                weight_sum.add_all(first, part(&weights, 0, S::LANES));
                first += S::LANES;
            }
        }
        for row in first..rows.count {
            if let Some(class) = rows.class(row) {
                let of_sample = f64::from(rows.sample_weight(row));
                weight_sum.add(row, f64::from(rows.weight(class)) * of_sample);
                sample_weight_sum.add(row, of_sample);
            }
        }
        let of_samples =
            if rows.shape.sample_weights.is_some() { sample_weight_sum.total() } else { rows.counts.rows as f64 };
        (weight_sum.total(), of_samples)
    }
}

#[inline(always)]
pub(crate) fn class_of(label: i64, classes: usize) -> Option<usize> {
    usize::try_from(label).ok().filter(|&class| class < classes)
}

pub(crate) fn check_length(argument: Argument, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { argument, expected, found }) }
}

pub(crate) fn check_finite(argument: Argument, numbers: &[f32]) -> Result<(), Error> {
    let first = first_not(numbers, f32::is_finite);
    first.map_or(Ok(()), |index| Err(Error::NotFinite { argument, index }))
}

/// The first number that is not as it should be.
fn first_not(numbers: &[f32], valid: impl Fn(f32) -> bool) -> Option<usize> {
    // Without a branch a number, so that the compiler may use vectors; a wrong one is looked for only where there is one.
    if numbers.iter().fold(true, |all, &number| all & valid(number)) {
        return None;
    }
    numbers.iter().position(|&number| !valid(number))
}

/// Finite and at least 0.
pub(crate) fn check_cost(argument: Argument, numbers: &[f32]) -> Result<(), Error> {
    check_finite(argument, numbers)?;
    let first = first_not(numbers, |number| number >= 0.0);
    first.map_or(Ok(()), |index| Err(Error::Negative { argument, index }))
}
