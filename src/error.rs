//! Errors of a call, their messages, and checks that entry points share.

use core::fmt;

/// Argument of a call that an [`Error`] refers to.
///
/// Its discriminant (`argument as u32`) is the same in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum Argument {
    /// The logits, `[N, C, D]`.
    Logits = 1,
    /// The probabilities, `[N, C, D]`.
    Probabilities = 2,
    /// The labels, `[N, D]`.
    Labels = 3,
    /// The class weights, `[C]`; the miss costs where there are mislabel costs.
    ClassWeights = 4,
    /// The mislabel costs, `[C, C]`.
    MislabelCosts = 5,
    /// The sample weights, `[N, D]`.
    SampleWeights = 6,
    /// The target probabilities, shaped as the logits; of a binary loss the targets, `[N, L]`.
    Targets = 7,
    /// The class bias, `[C]`.
    ClassBias = 8,
    /// The ignored label.
    IgnoreIndex = 9,
    /// The label smoothing ε.
    LabelSmoothing = 10,
    /// The focal exponent γ.
    Focal = 11,
    /// The temperature T.
    Temperature = 12,
    /// The z-loss factor λ, of the squared log-sum-exp.
    ZLoss = 13,
    /// The number of positions D of each sample.
    Positions = 14,
    /// The miss costs of a binary loss, `[L]`.
    MissCosts = 15,
    /// The false-alarm costs of a binary loss, `[L]`.
    FalseAlarmCosts = 16,
    /// The slice that receives log-probabilities, shaped as the logits.
    LogProbabilities = 17,
    /// The slice that receives the log-sum-exp of each row, `[N, D]`.
    LogSumExps = 18,
    /// The slice of weight sums of each class, `[C]`.
    WeightSums = 19,
    /// The slice of loss sums of each class, `[C]`.
    LossSums = 20,
    /// The confusion matrix, `[C, C]`.
    Confusion = 21,
    /// The slice that receives the loss of each row, `[N, D]`.
    RowLosses = 22,
    /// The slice that receives the gradient, shaped as the logits.
    Gradient = 23,
    /// The upstream factor, or the factors of the rows, `[N, D]`.
    Upstream = 24,
    /// The number of elements from the start of one sample to the start of the next.
    RowStride = 25,
    /// The constant added to a probability before the logarithm.
    Eps = 26,
    /// The number of rows of each class, `[C]`.
    Counts = 27,
    /// The `beta` of the effective number of samples.
    Beta = 28,
    /// The weight of classes without samples.
    EmptyClassWeight = 29,
    /// The scale of integer logits.
    Scale = 30,
    /// The zero point of integer logits.
    ZeroPoint = 31,
    /// The slice that receives the decision of each row, `[N, D]`.
    Decisions = 32,
    /// The slice that receives the expected cost of each decision, `[N, D]`.
    ExpectedCosts = 33,
    /// The denominator set by the caller.
    Denominator = 34,
    /// The slice that receives the curvature, shaped as the logits.
    Curvature = 35,
}

impl Argument {
    /// Every argument, in the order of discriminants.
    pub const ALL: &[Self] = &[
        Self::Logits,
        Self::Probabilities,
        Self::Labels,
        Self::ClassWeights,
        Self::MislabelCosts,
        Self::SampleWeights,
        Self::Targets,
        Self::ClassBias,
        Self::IgnoreIndex,
        Self::LabelSmoothing,
        Self::Focal,
        Self::Temperature,
        Self::ZLoss,
        Self::Positions,
        Self::MissCosts,
        Self::FalseAlarmCosts,
        Self::LogProbabilities,
        Self::LogSumExps,
        Self::WeightSums,
        Self::LossSums,
        Self::Confusion,
        Self::RowLosses,
        Self::Gradient,
        Self::Upstream,
        Self::RowStride,
        Self::Eps,
        Self::Counts,
        Self::Beta,
        Self::EmptyClassWeight,
        Self::Scale,
        Self::ZeroPoint,
        Self::Decisions,
        Self::ExpectedCosts,
        Self::Denominator,
        Self::Curvature,
    ];

    /// Valid range of a scalar argument, in words; empty for an argument without a range.
    #[must_use]
    pub const fn range(self) -> &'static str {
        match self {
            Self::Positions => "at least 1",
            Self::RowStride => "at least the number of classes times that of positions",
            Self::LabelSmoothing => "a number in [0, 1]",
            Self::Focal | Self::ZLoss | Self::Eps => "a finite number of at least 0",
            Self::Temperature | Self::Scale => "a finite number above 0",
            Self::ZeroPoint => "an integer of the type of the logits",
            Self::Denominator => "a finite number",
            Self::Beta => "at least 0 and below 1",
            _ => "",
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logits => "logits",
            Self::Probabilities => "probabilities",
            Self::Labels => "labels",
            Self::ClassWeights => "class weights",
            Self::MislabelCosts => "mislabel costs",
            Self::SampleWeights => "sample weights",
            Self::Targets => "targets",
            Self::ClassBias => "class bias",
            Self::IgnoreIndex => "ignore index",
            Self::LabelSmoothing => "label smoothing",
            Self::Focal => "focal exponent",
            Self::Temperature => "temperature",
            Self::ZLoss => "z-loss",
            Self::Positions => "positions",
            Self::MissCosts => "miss costs",
            Self::FalseAlarmCosts => "false-alarm costs",
            Self::LogProbabilities => "log-probabilities",
            Self::LogSumExps => "log-sum-exps",
            Self::WeightSums => "weight sums",
            Self::LossSums => "loss sums",
            Self::Confusion => "confusion matrix",
            Self::RowLosses => "row losses",
            Self::Gradient => "gradient",
            Self::Upstream => "upstream",
            Self::RowStride => "row stride",
            Self::Eps => "eps",
            Self::Denominator => "denominator",
            Self::Curvature => "curvature",
            Self::Counts => "counts",
            Self::Beta => "beta",
            Self::EmptyClassWeight => "weight of empty classes",
            Self::Scale => "scale",
            Self::ZeroPoint => "zero point",
            Self::Decisions => "decisions",
            Self::ExpectedCosts => "expected costs",
        })
    }
}

/// Reason why a call was refused; every output is unchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The number of classes is zero.
    NoClasses,
    /// The number of elements, rows × row stride, does not fit in `usize`.
    SizeOverflow {
        /// Number of rows.
        rows: usize,
        /// Number of elements per row, or from one sample to the next.
        row_stride: usize,
    },
    /// The length of a slice is not that of its shape.
    Length {
        /// Which slice.
        argument: Argument,
        /// The length that the shape requires.
        expected: usize,
        /// The length of the slice.
        found: usize,
    },
    /// A label is neither in `[0, C)` nor the ignored label.
    LabelOutOfRange {
        /// The row of the label.
        row: usize,
        /// The label.
        label: i64,
        /// The number of classes.
        classes: usize,
    },
    /// A value that must be finite is NaN or infinite.
    NotFinite {
        /// Which argument.
        argument: Argument,
        /// The index of the value; 0 for a scalar argument.
        index: usize,
    },
    /// A parameter is outside its [range](Argument::range).
    OutOfRange {
        /// Which parameter.
        argument: Argument,
    },
    /// A class has no samples, and no weight was chosen for such classes.
    EmptyClass {
        /// The class.
        class: usize,
    },
    /// The denominator of the mean is zero, and the caller asked for an error.
    ZeroDenominator,
    /// A value that must be ≥ 0 is negative.
    Negative {
        /// Which argument.
        argument: Argument,
        /// The index of the value.
        index: usize,
    },
    /// A diagonal element of the mislabel costs, the cost of predicting the true class, is not zero.
    CostOfTruth {
        /// The class.
        class: usize,
    },
    /// Two options have no meaning together, or the entry point does not support an option.
    Incompatible {
        /// The option.
        option: Argument,
        /// The argument that excludes the option.
        with: Argument,
    },
    /// A target of a binary loss is not in [0, 1].
    TargetOutOfRange {
        /// The index of the target.
        index: usize,
    },
    /// The parts of a row do not hold the logit of its label exactly once.
    LabelOwners {
        /// The number of parts that hold the label's logit.
        found: usize,
    },
}

impl Error {
    /// Code of the kind of error, the same in every version: 1 to 13, in the order of the variants.
    #[must_use]
    pub const fn code(&self) -> u32 {
        match self {
            Self::NoClasses => 1,
            Self::SizeOverflow { .. } => 2,
            Self::Length { .. } => 3,
            Self::LabelOutOfRange { .. } => 4,
            Self::NotFinite { .. } => 5,
            Self::OutOfRange { .. } => 6,
            Self::EmptyClass { .. } => 7,
            Self::ZeroDenominator => 8,
            Self::Negative { .. } => 9,
            Self::CostOfTruth { .. } => 10,
            Self::Incompatible { .. } => 11,
            Self::TargetOutOfRange { .. } => 12,
            Self::LabelOwners { .. } => 13,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoClasses => f.write_str("the number of classes is 0, expected at least 1"),
            Self::SizeOverflow { rows, row_stride } => {
                write!(f, "{rows} rows of {row_stride} elements are more than memory can address")
            }
            Self::Length { argument, expected, found } => {
                write!(f, "{argument}: expected {expected} elements, found {found}")
            }
            Self::LabelOutOfRange { row, label, classes } => {
                write!(f, "labels: row {row} has label {label}, expected 0 to {}", classes.saturating_sub(1))
            }
            Self::NotFinite { argument, index } => {
                write!(f, "{argument}: the number at index {index} is not finite")
            }
            Self::OutOfRange { argument } => write!(f, "{argument}: expected {}", argument.range()),
            Self::EmptyClass { class } => write!(f, "counts: class {class} has no samples"),
            Self::ZeroDenominator => f.write_str("the denominator of the mean is zero"),
            Self::Negative { argument, index } => write!(f, "{argument}: the number at index {index} is negative"),
            Self::CostOfTruth { class } => {
                write!(f, "mislabel costs: the cost of naming class {class} where it is true is not 0")
            }
            Self::Incompatible { option, with } => write!(f, "{option}: means nothing together with {with}"),
            Self::TargetOutOfRange { index } => write!(f, "targets: the target at index {index} is not in [0, 1]"),
            Self::LabelOwners { found } => {
                write!(f, "labels: {found} parts hold the logit of the label, expected exactly 1")
            }
        }
    }
}

impl core::error::Error for Error {}

pub(crate) fn check_length(argument: Argument, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { argument, expected, found }) }
}

pub(crate) fn check_finite(argument: Argument, numbers: &[f32]) -> Result<(), Error> {
    let first = first_not(numbers, f32::is_finite);
    first.map_or(Ok(()), |index| Err(Error::NotFinite { argument, index }))
}

/// Index of the first invalid value.
fn first_not(numbers: &[f32], valid: impl Fn(f32) -> bool) -> Option<usize> {
    // A fold without branches vectorises; the index is searched for only if a value is invalid.
    if numbers.iter().fold(true, |all, &number| all & valid(number)) {
        return None;
    }
    numbers.iter().position(|&number| !valid(number))
}

/// Every value must be finite and ≥ 0.
pub(crate) fn check_cost(argument: Argument, numbers: &[f32]) -> Result<(), Error> {
    // One pass over a valid matrix, which may be as large as the logits.
    let (chunks, rest) = numbers.as_chunks::<64>();
    if chunks.iter().all(|chunk| are_costs(chunk)) && are_costs(rest) {
        return Ok(());
    }
    check_finite(argument, numbers)?;
    let first = first_not(numbers, |number| number >= 0.0);
    first.map_or(Ok(()), |index| Err(Error::Negative { argument, index }))
}

/// Whether all numbers are finite and their sign bits 0: adding 1 to the exponent of ∞ or NaN sets that bit.
#[inline(always)]
fn are_costs(numbers: &[f32]) -> bool {
    let bits = numbers.iter().map(|number| number.to_bits());
    bits.fold(0, |all, bits| all | bits | bits.wrapping_add(1 << 23)) < 1 << 31
}

/// The number of elements of a matrix `[C, C]`.
pub(crate) fn square(classes: usize) -> Result<usize, Error> {
    classes.checked_mul(classes).ok_or(Error::SizeOverflow { rows: classes, row_stride: classes })
}

pub(crate) fn check_row_losses(rows: usize, row_losses: Option<&[f32]>) -> Result<(), Error> {
    row_losses.map_or(Ok(()), |row_losses| check_length(Argument::RowLosses, rows, row_losses.len()))
}
