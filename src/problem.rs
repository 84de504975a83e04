//! Everything that is checked before work starts: shapes, strides, labels, weights.

use crate::error::{Argument, Error};
use crate::label::Labels;
use crate::reduction::LaneSum;

/// Rows whose shape, labels and class weights have been found valid.
pub(crate) struct Rows<'a> {
    labels: Labels<'a>,
    pub(crate) classes: usize,
    row_stride: usize,
    class_weights: Option<&'a [f32]>,
    ignore_index: Option<i64>,
    /// Number of rows that count.
    pub(crate) counted: usize,
    /// Σ w[y] over the rows that count.
    pub(crate) weight_sum: f64,
}

/// What a caller says about the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) classes: usize,
    pub(crate) row_stride: Option<usize>,
    pub(crate) class_weights: Option<&'a [f32]>,
    pub(crate) ignore_index: Option<i64>,
}

impl<'a> Rows<'a> {
    /// Checks the shape against the length of the logits (or probabilities, as `argument` says), the class weights and
    /// every label.
    pub(crate) fn check(shape: &Shape<'a>, argument: Argument, len: usize, labels: Labels<'a>) -> Result<Self, Error> {
        let Shape { classes, row_stride, class_weights, ignore_index } = *shape;
        if classes == 0 {
            return Err(Error::NoClasses);
        }
        let row_stride = row_stride.unwrap_or(classes);
        if row_stride < classes {
            return Err(Error::OutOfRange { argument: Argument::RowStride, range: "at least the number of classes" });
        }
        let rows = labels.len();
        let expected = rows.checked_mul(row_stride).ok_or(Error::SizeOverflow { rows, row_stride })?;
        check_length(argument, expected, len)?;
        if let Some(weights) = class_weights {
            check_length(Argument::ClassWeights, classes, weights.len())?;
            check_finite(Argument::ClassWeights, weights)?;
        }
        let mut checked =
            Self { labels, classes, row_stride, class_weights, ignore_index, counted: 0, weight_sum: 0.0 };
        checked.check_labels()?;
        Ok(checked)
    }

    fn check_labels(&mut self) -> Result<(), Error> {
        let mut weight_sum = LaneSum::new();
        for row in 0..self.count() {
            let Some(label) = self.labels.get(row) else { break };
            if Some(label) == self.ignore_index {
                continue;
            }
            let class =
                class_of(label, self.classes).ok_or(Error::LabelOutOfRange { row, label, classes: self.classes })?;
            self.counted += 1;
            if self.class_weights.is_some() {
                weight_sum.add(row, f64::from(self.weight(class)));
            }
        }
        self.weight_sum = if self.class_weights.is_some() { weight_sum.total() } else { self.counted as f64 };
        Ok(())
    }

    /// Number of rows, counted or not.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.labels.len()
    }

    /// The class of a row, or nothing where the row does not count.
    #[inline(always)]
    pub(crate) fn class(&self, row: usize) -> Option<usize> {
        let label = self.labels.get(row)?;
        if Some(label) == self.ignore_index { None } else { class_of(label, self.classes) }
    }

    /// The weight of a class.
    #[inline(always)]
    pub(crate) fn weight(&self, class: usize) -> f32 {
        self.class_weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0))
    }

    /// The index of the first element of a row.
    #[inline(always)]
    pub(crate) fn start(&self, row: usize) -> usize {
        row * self.row_stride
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
    match numbers.iter().position(|number| !number.is_finite()) {
        Some(index) => Err(Error::NotFinite { argument, index }),
        None => Ok(()),
    }
}
