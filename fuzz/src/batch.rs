//! Rows with labels and weights, in any layout.

use crate::generate::{classes, moderate, not_tiny, optional_costs, row};
use arbitrary::{Result, Unstructured};
use rwwce::{CrossEntropy, Denominator, Reduction, Upstream, ZeroDenominator};

/// A valid batch, from which every target but one starts.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) classes: usize,
    pub(crate) positions: usize,
    pub(crate) stride: usize,
    pub(crate) logits: Vec<f32>,
    pub(crate) labels: Vec<i32>,
    pub(crate) ignored: Option<i64>,
    pub(crate) class_weights: Option<Vec<f32>>,
    pub(crate) sample_weights: Option<Vec<f32>>,
}

/// Constraints on a batch.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    /// Logits are mostly not NaN or +∞.
    pub(crate) mostly_finite: bool,
    pub(crate) negative_weights: bool,
    pub(crate) ignored: bool,
    /// Products of weights neither overflow nor underflow.
    pub(crate) moderate_weights: bool,
    /// No product of two weights is too small for the library to keep its digits.
    pub(crate) no_tiny_weights: bool,
    /// The largest number of classes.
    pub(crate) most_classes: usize,
}

/// The padding between samples, which must stay: a NaN that no computation returns.
pub(crate) const PADDING: f32 = f32::from_bits(0x7fc5_a5a5);

impl Batch {
    pub(crate) fn new(u: &mut Unstructured<'_>, content: Content) -> Result<Self> {
        let classes = classes(u)?.min(content.most_classes);
        let most_rows = (160 / classes).clamp(1, 40);
        let rows = u.int_in_range(1..=most_rows)?;
        let (positions, padding) = match u.arbitrary::<u8>()? {
            0..100 => (1, 0),
            100..200 => (rows, 0),
            200..230 => (1, 3),
            _ => (u.int_in_range(1..=rows)?, 1),
        };
        let samples = rows / positions;
        let (rows, stride) = (samples * positions, classes * positions + padding);
        let ignored = if content.ignored && u.ratio(1, 4)? { Some(*u.choose(&[-100, 0, 255, 1])?) } else { None };
        let mut batch = Self {
            classes,
            positions,
            stride,
            logits: vec![PADDING; samples * stride],
            labels: Vec::new(),
            ignored,
            class_weights: optional_costs(u, classes, content.negative_weights)?,
            sample_weights: optional_costs(u, rows, false)?,
        };
        if content.moderate_weights {
            let weights = [&mut batch.class_weights, &mut batch.sample_weights];
            weights.into_iter().flatten().flatten().for_each(|weight| *weight = moderate(*weight));
        }
        if content.no_tiny_weights {
            let weights = [&mut batch.class_weights, &mut batch.sample_weights];
            weights.into_iter().flatten().flatten().for_each(|weight| *weight = not_tiny(*weight));
        }
        let mut last = Vec::new();
        for index in 0..rows {
            let choice = u.arbitrary::<u8>()?;
            let label = usize::from(choice) % classes;
            // The same logits again, with another label.
            if index == 0 || choice % 3 != 0 {
                last = row(u, classes, label, content.mostly_finite)?;
            }
            for (class, &x) in last.iter().enumerate() {
                let at = batch.element(index, class);
                batch.logits[at] = x;
            }
            let skipped = choice == 0xff;
            let label = ignored.filter(|_| skipped).map_or(label as i32, |ignored| ignored as i32);
            batch.labels.push(label);
        }
        Ok(batch)
    }

    pub(crate) fn rows(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn element(&self, row: usize, class: usize) -> usize {
        row / self.positions * self.stride + row % self.positions + class * self.positions
    }

    /// One row of an array with the layout of the logits.
    pub(crate) fn row(&self, of: &[f32], row: usize) -> Vec<f32> {
        (0..self.classes).map(|class| of[self.element(row, class)]).collect()
    }

    /// The class of a row that counts.
    pub(crate) fn class(&self, row: usize) -> Option<usize> {
        let label = self.labels[row];
        if Some(i64::from(label)) == self.ignored { None } else { Some(label as usize) }
    }

    pub(crate) fn weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[class]))
    }

    pub(crate) fn sample(&self, row: usize) -> f64 {
        self.sample_weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]))
    }

    /// The loss with the batch's shape, weights and ignored index.
    pub(crate) fn loss(&self) -> CrossEntropy<'_> {
        let mut loss = CrossEntropy::new(self.classes).positions(self.positions).row_stride(self.stride);
        if let Some(weights) = &self.class_weights {
            loss = loss.class_weights(weights);
        }
        if let Some(weights) = &self.sample_weights {
            loss = loss.sample_weights(weights);
        }
        if let Some(label) = self.ignored {
            loss = loss.ignore_index(label);
        }
        loss
    }

    /// An array with the layout of the logits, filled with [`PADDING`].
    pub(crate) fn space(&self) -> Vec<f32> {
        vec![PADDING; self.logits.len()]
    }

    /// Panics where padding has been written.
    pub(crate) fn check_padding(&self, of: &[f32]) {
        let dense = self.classes * self.positions;
        for sample in of.chunks(self.stride) {
            for x in &sample[dense..] {
                assert_eq!(x.to_bits(), PADDING.to_bits(), "padding has been written\n{self:?}");
            }
        }
    }
}

pub(crate) fn reduction(u: &mut Unstructured<'_>) -> Result<Reduction> {
    u.choose(&[
        Reduction::Sum,
        Reduction::Mean(Denominator::WeightSum),
        Reduction::Mean(Denominator::Rows),
        Reduction::Mean(Denominator::SampleWeightSum),
        Reduction::Mean(Denominator::RowsTimesClasses),
    ])
    .copied()
}

/// A policy for a zero denominator, other than the error.
pub(crate) fn zero_denominator(u: &mut Unstructured<'_>) -> Result<ZeroDenominator> {
    u.choose(&[ZeroDenominator::NaN, ZeroDenominator::Zero]).copied()
}

/// Upstream factors.
#[derive(Debug)]
pub(crate) enum Factors {
    Loss(f32),
    Rows(Vec<f32>),
}

impl Factors {
    pub(crate) fn new(u: &mut Unstructured<'_>, rows: usize) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? {
            0..100 => Self::Loss(1.0),
            100..180 => Self::Loss(crate::generate::cost(u, true)?),
            _ => Self::Rows(crate::generate::costs(u, rows, true)?),
        })
    }

    pub(crate) fn upstream(&self) -> Upstream<'_> {
        match self {
            Self::Loss(factor) => Upstream::Loss(*factor),
            Self::Rows(factors) => Upstream::Rows(factors),
        }
    }

    /// The factor of a row's gradient, without its weights.
    pub(crate) fn of_row(&self, row: usize, denominator: f64, policy: ZeroDenominator) -> f64 {
        match self {
            Self::Rows(factors) => f64::from(factors[row]),
            Self::Loss(factor) if denominator != 0.0 => f64::from(*factor) / denominator,
            Self::Loss(_) if policy == ZeroDenominator::Zero => 0.0,
            Self::Loss(_) => f64::NAN,
        }
    }
}
