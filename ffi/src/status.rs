//! Statuses, the arguments that they refer to, and error messages.

use core::fmt::{self, Write};

use core::ffi::{CStr, c_char};
use kernel::{Argument, Error};

/// Status of a call: `RWWCE_OK`, or why the call was refused. The values are the same in every version.
pub type rwwce_status = u32;

/// Success.
pub const RWWCE_OK: rwwce_status = 0;
/// The number of classes (or labels of a binary loss) is 0.
pub const RWWCE_ERROR_NO_CLASSES: rwwce_status = 1;
/// An array exceeds the address space: `found` rows of `expected` elements, or `found` elements of `argument`.
pub const RWWCE_ERROR_SIZE_OVERFLOW: rwwce_status = 2;
/// The length of an array is not that of its shape: `argument`, `expected`, `found`.
pub const RWWCE_ERROR_LENGTH: rwwce_status = 3;
/// A label is neither in [0, C) nor the ignored label: `row`, `label`, and `expected`, the number of classes.
pub const RWWCE_ERROR_LABEL_OUT_OF_RANGE: rwwce_status = 4;
/// A value that must be finite is not: `argument`, `index`.
pub const RWWCE_ERROR_NOT_FINITE: rwwce_status = 5;
/// A scalar option is outside its range: `argument`. `rwwce_error_message` names the range.
pub const RWWCE_ERROR_OUT_OF_RANGE: rwwce_status = 6;
/// A class has no samples, and no weight was set for such classes: `index`, the class.
pub const RWWCE_ERROR_EMPTY_CLASS: rwwce_status = 7;
/// The denominator of the mean is 0, with `RWWCE_ZERO_DENOMINATOR_ERROR`.
pub const RWWCE_ERROR_ZERO_DENOMINATOR: rwwce_status = 8;
/// A value that must be at least 0 is negative: `argument`, `index`.
pub const RWWCE_ERROR_NEGATIVE: rwwce_status = 9;
/// A diagonal element of the mislabel costs is not 0: `index`, the class.
pub const RWWCE_ERROR_COST_OF_TRUTH: rwwce_status = 10;
/// An option has no meaning with another one, or in this call: `argument`, `other_argument`, which may be none.
pub const RWWCE_ERROR_INCOMPATIBLE: rwwce_status = 11;
/// A target of a binary loss is not in [0, 1]: `index`.
pub const RWWCE_ERROR_TARGET_OUT_OF_RANGE: rwwce_status = 12;
/// The parts of a row do not hold the logit of its label exactly once: `found` of them do.
pub const RWWCE_ERROR_LABEL_OWNERS: rwwce_status = 13;
/// A pointer that must not be NULL is NULL: `argument`.
pub const RWWCE_ERROR_NULL: rwwce_status = 101;
/// A pointer is not aligned for the type that it points to: `argument`.
pub const RWWCE_ERROR_MISALIGNED: rwwce_status = 102;
/// An array that is written overlaps another one: `argument`, `other_argument`.
pub const RWWCE_ERROR_OVERLAP: rwwce_status = 103;
/// The first member of an options structure is not its size: `argument`, `expected`, `found`. Or a program that was
/// compiled for a later version uses options that this one does not know.
pub const RWWCE_ERROR_STRUCT_SIZE: rwwce_status = 104;
/// A value is none of its type, or of its range: `argument`, `found`.
pub const RWWCE_ERROR_UNKNOWN_VALUE: rwwce_status = 105;
/// No backend of this name, or none that this processor supports.
pub const RWWCE_ERROR_UNKNOWN_BACKEND: rwwce_status = 106;

/// Argument that an error refers to. The values are the same in every version.
pub type rwwce_argument = u32;

/// None.
pub const RWWCE_ARGUMENT_NONE: rwwce_argument = 0;
/// The logits, `[N, C, D]`.
pub const RWWCE_ARGUMENT_LOGITS: rwwce_argument = 1;
/// The probabilities, `[N, C, D]`.
pub const RWWCE_ARGUMENT_PROBABILITIES: rwwce_argument = 2;
/// The labels, `[N, D]`.
pub const RWWCE_ARGUMENT_LABELS: rwwce_argument = 3;
/// The class weights, `[C]`.
pub const RWWCE_ARGUMENT_CLASS_WEIGHTS: rwwce_argument = 4;
/// The mislabel costs, `[C, C]`.
pub const RWWCE_ARGUMENT_MISLABEL_COSTS: rwwce_argument = 5;
/// The sample weights, `[N, D]`.
pub const RWWCE_ARGUMENT_SAMPLE_WEIGHTS: rwwce_argument = 6;
/// The target probabilities, or the targets of a binary loss.
pub const RWWCE_ARGUMENT_TARGETS: rwwce_argument = 7;
/// The class bias, `[C]`.
pub const RWWCE_ARGUMENT_CLASS_BIAS: rwwce_argument = 8;
/// The ignored label.
pub const RWWCE_ARGUMENT_IGNORE_INDEX: rwwce_argument = 9;
/// The label smoothing ε.
pub const RWWCE_ARGUMENT_LABEL_SMOOTHING: rwwce_argument = 10;
/// The focal exponent γ.
pub const RWWCE_ARGUMENT_FOCAL: rwwce_argument = 11;
/// The temperature T.
pub const RWWCE_ARGUMENT_TEMPERATURE: rwwce_argument = 12;
/// The z-loss factor λ, of the squared log-sum-exp.
pub const RWWCE_ARGUMENT_Z_LOSS: rwwce_argument = 13;
/// The number of positions D.
pub const RWWCE_ARGUMENT_POSITIONS: rwwce_argument = 14;
/// The miss costs, `[L]` or `[C]`.
pub const RWWCE_ARGUMENT_MISS_COSTS: rwwce_argument = 15;
/// The false-alarm costs, `[L]`.
pub const RWWCE_ARGUMENT_FALSE_ALARM_COSTS: rwwce_argument = 16;
/// The log-probabilities.
pub const RWWCE_ARGUMENT_LOG_PROBABILITIES: rwwce_argument = 17;
/// The log-sum-exps of the rows, `[N, D]`.
pub const RWWCE_ARGUMENT_LOG_SUM_EXPS: rwwce_argument = 18;
/// The weight sums of the classes, `[C]`.
pub const RWWCE_ARGUMENT_WEIGHT_SUMS: rwwce_argument = 19;
/// The loss sums of the classes, `[C]`.
pub const RWWCE_ARGUMENT_LOSS_SUMS: rwwce_argument = 20;
/// The confusion matrix, `[C, C]`.
pub const RWWCE_ARGUMENT_CONFUSION: rwwce_argument = 21;
/// The losses of the rows, `[N, D]`.
pub const RWWCE_ARGUMENT_ROW_LOSSES: rwwce_argument = 22;
/// The gradient, shaped as the logits.
pub const RWWCE_ARGUMENT_GRADIENT: rwwce_argument = 23;
/// The upstream factor, or the factors of the rows, `[N, D]`.
pub const RWWCE_ARGUMENT_UPSTREAM: rwwce_argument = 24;
/// The row stride.
pub const RWWCE_ARGUMENT_ROW_STRIDE: rwwce_argument = 25;
/// The constant added to a probability before the logarithm.
pub const RWWCE_ARGUMENT_EPS: rwwce_argument = 26;
/// The number of rows of each class, `[C]`.
pub const RWWCE_ARGUMENT_COUNTS: rwwce_argument = 27;
/// The beta of the effective number of samples.
pub const RWWCE_ARGUMENT_BETA: rwwce_argument = 28;
/// The weight of classes without samples.
pub const RWWCE_ARGUMENT_EMPTY_CLASS_WEIGHT: rwwce_argument = 29;
/// The scale of integer logits.
pub const RWWCE_ARGUMENT_SCALE: rwwce_argument = 30;
/// The zero point of integer logits.
pub const RWWCE_ARGUMENT_ZERO_POINT: rwwce_argument = 31;
/// The decisions of the rows, `[N, D]`.
pub const RWWCE_ARGUMENT_DECISIONS: rwwce_argument = 32;
/// The expected costs of the decisions, `[N, D]`.
pub const RWWCE_ARGUMENT_EXPECTED_COSTS: rwwce_argument = 33;
/// The denominator set by the caller.
pub const RWWCE_ARGUMENT_DENOMINATOR: rwwce_argument = 34;
/// The curvature, shaped as the logits.
pub const RWWCE_ARGUMENT_CURVATURE: rwwce_argument = 35;
/// The options.
pub const RWWCE_ARGUMENT_OPTIONS: rwwce_argument = 101;
/// The type of the labels.
pub const RWWCE_ARGUMENT_LABEL_TYPE: rwwce_argument = 102;
/// The reduction.
pub const RWWCE_ARGUMENT_REDUCTION: rwwce_argument = 103;
/// The result of a mean whose denominator is 0.
pub const RWWCE_ARGUMENT_ZERO_DENOMINATOR: rwwce_argument = 104;
/// The name of a backend.
pub const RWWCE_ARGUMENT_BACKEND: rwwce_argument = 105;
/// The weighting scheme.
pub const RWWCE_ARGUMENT_SCHEME: rwwce_argument = 106;
/// The normalisation of the class weights.
pub const RWWCE_ARGUMENT_NORMALISATION: rwwce_argument = 107;
/// The policy for classes without samples.
pub const RWWCE_ARGUMENT_EMPTY_CLASS: rwwce_argument = 108;
/// The summary, or another result of one value.
pub const RWWCE_ARGUMENT_RESULT: rwwce_argument = 109;
/// A total or a part of a row.
pub const RWWCE_ARGUMENT_PARTIAL: rwwce_argument = 110;
/// The type of the logits.
pub const RWWCE_ARGUMENT_LOGIT_TYPE: rwwce_argument = 111;
/// The floats converted from logits.
pub const RWWCE_ARGUMENT_NUMBERS: rwwce_argument = 112;
/// The kind of second derivative.
pub const RWWCE_ARGUMENT_CURVATURE_KIND: rwwce_argument = 113;
/// The number of threads.
pub const RWWCE_ARGUMENT_THREADS: rwwce_argument = 114;

/// The arguments that the library names too.
const IN_THE_LIBRARY: [(rwwce_argument, Argument); Argument::ALL.len()] = [
    (RWWCE_ARGUMENT_LOGITS, Argument::Logits),
    (RWWCE_ARGUMENT_PROBABILITIES, Argument::Probabilities),
    (RWWCE_ARGUMENT_LABELS, Argument::Labels),
    (RWWCE_ARGUMENT_CLASS_WEIGHTS, Argument::ClassWeights),
    (RWWCE_ARGUMENT_MISLABEL_COSTS, Argument::MislabelCosts),
    (RWWCE_ARGUMENT_SAMPLE_WEIGHTS, Argument::SampleWeights),
    (RWWCE_ARGUMENT_TARGETS, Argument::Targets),
    (RWWCE_ARGUMENT_CLASS_BIAS, Argument::ClassBias),
    (RWWCE_ARGUMENT_IGNORE_INDEX, Argument::IgnoreIndex),
    (RWWCE_ARGUMENT_LABEL_SMOOTHING, Argument::LabelSmoothing),
    (RWWCE_ARGUMENT_FOCAL, Argument::Focal),
    (RWWCE_ARGUMENT_TEMPERATURE, Argument::Temperature),
    (RWWCE_ARGUMENT_Z_LOSS, Argument::ZLoss),
    (RWWCE_ARGUMENT_POSITIONS, Argument::Positions),
    (RWWCE_ARGUMENT_MISS_COSTS, Argument::MissCosts),
    (RWWCE_ARGUMENT_FALSE_ALARM_COSTS, Argument::FalseAlarmCosts),
    (RWWCE_ARGUMENT_LOG_PROBABILITIES, Argument::LogProbabilities),
    (RWWCE_ARGUMENT_LOG_SUM_EXPS, Argument::LogSumExps),
    (RWWCE_ARGUMENT_WEIGHT_SUMS, Argument::WeightSums),
    (RWWCE_ARGUMENT_LOSS_SUMS, Argument::LossSums),
    (RWWCE_ARGUMENT_CONFUSION, Argument::Confusion),
    (RWWCE_ARGUMENT_ROW_LOSSES, Argument::RowLosses),
    (RWWCE_ARGUMENT_GRADIENT, Argument::Gradient),
    (RWWCE_ARGUMENT_UPSTREAM, Argument::Upstream),
    (RWWCE_ARGUMENT_ROW_STRIDE, Argument::RowStride),
    (RWWCE_ARGUMENT_EPS, Argument::Eps),
    (RWWCE_ARGUMENT_COUNTS, Argument::Counts),
    (RWWCE_ARGUMENT_BETA, Argument::Beta),
    (RWWCE_ARGUMENT_EMPTY_CLASS_WEIGHT, Argument::EmptyClassWeight),
    (RWWCE_ARGUMENT_SCALE, Argument::Scale),
    (RWWCE_ARGUMENT_ZERO_POINT, Argument::ZeroPoint),
    (RWWCE_ARGUMENT_DECISIONS, Argument::Decisions),
    (RWWCE_ARGUMENT_EXPECTED_COSTS, Argument::ExpectedCosts),
    (RWWCE_ARGUMENT_DENOMINATOR, Argument::Denominator),
    (RWWCE_ARGUMENT_CURVATURE, Argument::Curvature),
];

// Their values are those of the library, from 1 on without gaps.
const _: () = {
    let (mut left, mut expected) = (IN_THE_LIBRARY.as_slice(), 1_u32);
    while let [(number, argument), rest @ ..] = left {
        assert!(*number == *argument as u32);
        assert!(*number == expected);
        (left, expected) = (rest, expected.wrapping_add(1));
    }
};

/// The argument of the library with this number.
fn in_the_library(number: rwwce_argument) -> Option<Argument> {
    IN_THE_LIBRARY.get((number as usize).wrapping_sub(1)).map(|&(_, argument)| argument)
}

/// Status of a call, and where its error is. Each status names the members that it sets, `argument` wherever one
/// argument is to blame; the others are 0.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rwwce_error {
    /// The status that the call returned.
    pub status: rwwce_status,
    /// The argument.
    pub argument: rwwce_argument,
    /// The second argument of two that exclude each other.
    pub other_argument: rwwce_argument,
    /// The row.
    pub row: usize,
    /// The index in the array.
    pub index: usize,
    /// The expected value.
    pub expected: usize,
    /// The value found.
    pub found: usize,
    /// The label.
    pub label: i64,
}

impl rwwce_error {
    pub(crate) fn new(status: rwwce_status, argument: rwwce_argument) -> Self {
        Self { status, argument, ..Self::default() }
    }
}

impl From<Error> for rwwce_error {
    fn from(error: Error) -> Self {
        let blank = Self::new(error.code(), RWWCE_ARGUMENT_NONE);
        let about = |argument: Argument| Self { argument: argument as u32, ..blank };
        match error {
            Error::SizeOverflow { rows, row_stride } => Self { found: rows, expected: row_stride, ..blank },
            Error::Length { argument, expected, found } => Self { expected, found, ..about(argument) },
            Error::LabelOutOfRange { row, label, classes } => {
                Self { row, label, expected: classes, ..about(Argument::Labels) }
            }
            Error::NotFinite { argument, index } | Error::Negative { argument, index } => {
                Self { index, ..about(argument) }
            }
            Error::OutOfRange { argument } => about(argument),
            Error::EmptyClass { class } => Self { index: class, ..about(Argument::Counts) },
            Error::CostOfTruth { class } => Self { index: class, ..about(Argument::MislabelCosts) },
            Error::Incompatible { option, with } => Self { other_argument: with as u32, ..about(option) },
            Error::TargetOutOfRange { index } => Self { index, ..about(Argument::Targets) },
            Error::LabelOwners { found } => Self { found, expected: 1, ..about(Argument::Labels) },
            _ => blank,
        }
    }
}

/// Runs a call, writes its outcome to `error`, and returns the status.
///
/// # Safety
///
/// `error` is NULL or may be written.
#[inline(always)]
pub(crate) unsafe fn report(error: *mut rwwce_error, call: impl FnOnce() -> Result<(), rwwce_error>) -> rwwce_status {
    let outcome = call().err().unwrap_or_default();
    if !error.is_null() {
        // SAFETY: as the caller has promised; whether it is aligned does not matter.
        unsafe { error.write_unaligned(outcome) };
    }
    outcome.status
}

/// Short description of a status, such as "label out of range"; "unknown status" for any other value. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rwwce_status_string(status: rwwce_status) -> *const c_char {
    in_words(status).as_ptr()
}

fn in_words(status: rwwce_status) -> &'static CStr {
    match status {
        RWWCE_OK => c"ok",
        RWWCE_ERROR_NO_CLASSES => c"no classes",
        RWWCE_ERROR_SIZE_OVERFLOW => c"size overflow",
        RWWCE_ERROR_LENGTH => c"wrong length",
        RWWCE_ERROR_LABEL_OUT_OF_RANGE => c"label out of range",
        RWWCE_ERROR_NOT_FINITE => c"not finite",
        RWWCE_ERROR_OUT_OF_RANGE => c"option out of range",
        RWWCE_ERROR_EMPTY_CLASS => c"class without samples",
        RWWCE_ERROR_ZERO_DENOMINATOR => c"denominator is zero",
        RWWCE_ERROR_NEGATIVE => c"negative number",
        RWWCE_ERROR_COST_OF_TRUTH => c"cost of naming the true class",
        RWWCE_ERROR_INCOMPATIBLE => c"options mean nothing together",
        RWWCE_ERROR_TARGET_OUT_OF_RANGE => c"target out of range",
        RWWCE_ERROR_LABEL_OWNERS => c"label held by no part or by several",
        RWWCE_ERROR_NULL => c"null pointer",
        RWWCE_ERROR_MISALIGNED => c"misaligned pointer",
        RWWCE_ERROR_OVERLAP => c"arrays overlap",
        RWWCE_ERROR_STRUCT_SIZE => c"wrong size of structure",
        RWWCE_ERROR_UNKNOWN_VALUE => c"unknown value",
        RWWCE_ERROR_UNKNOWN_BACKEND => c"unknown backend",
        _ => c"unknown status",
    }
}

/// Writes a sentence that describes an error, such as "labels: row 7 has label -1, expected 0 to 2", with a
/// terminating NUL, truncated to `size` bytes.
///
/// Returns the length of the untruncated sentence without the NUL, as `snprintf` does. For a NULL `error` the
/// sentence is empty. `message` may be NULL if `size` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_error_message(error: *const rwwce_error, message: *mut c_char, size: usize) -> usize {
    let mut text = Text { to: message.cast(), size: if message.is_null() { 0 } else { size }, len: 0 };
    if error.is_null() {
        text.end();
        return 0;
    }
    // SAFETY: not NULL, and readable as the caller of a C function promises; whether it is aligned does not matter.
    let error = unsafe { error.read_unaligned() };
    // The writer never fails.
    let _ = describe(&error, &mut text);
    text.end();
    text.len
}

/// Buffer of the caller, written as by `snprintf`.
struct Text {
    to: *mut u8,
    size: usize,
    /// The untruncated length.
    len: usize,
}

impl Text {
    fn end(&self) {
        if let Some(last) = self.size.checked_sub(1) {
            // SAFETY: below `size`, which the caller has promised.
            unsafe { self.to.add(self.len.min(last)).write(0) };
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len < self.size {
                // SAFETY: below `size`, which the caller has promised.
                unsafe { self.to.add(self.len).write(byte) };
            }
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }
}

fn describe(error: &rwwce_error, text: &mut Text) -> fmt::Result {
    if let Some(error) = as_in_the_library(error) {
        return write!(text, "{error}");
    }
    let argument = Name(error.argument);
    match error.status {
        RWWCE_ERROR_SIZE_OVERFLOW => {
            write!(text, "{argument}: {} elements are more than memory can address", error.found)
        }
        RWWCE_ERROR_LENGTH => {
            write!(text, "{argument}: expected {} elements, found {}", error.expected, error.found)
        }
        RWWCE_ERROR_INCOMPATIBLE if error.other_argument == RWWCE_ARGUMENT_NONE => {
            write!(text, "{argument}: means nothing in this call")
        }
        RWWCE_ERROR_INCOMPATIBLE => {
            write!(text, "{argument}: means nothing together with {}", Name(error.other_argument))
        }
        RWWCE_ERROR_NULL => write!(text, "{argument}: the pointer is NULL"),
        RWWCE_ERROR_MISALIGNED => write!(text, "{argument}: the pointer is not aligned"),
        RWWCE_ERROR_OVERLAP => write!(text, "{argument}: overlaps the {}", Name(error.other_argument)),
        RWWCE_ERROR_STRUCT_SIZE => {
            write!(text, "{argument}: expected struct_size {}, found {}", error.expected, error.found)
        }
        RWWCE_ERROR_UNKNOWN_VALUE => write!(text, "{argument}: {} is not a value that it has", error.found),
        RWWCE_ERROR_UNKNOWN_BACKEND => text.write_str("backend: no backend of this name is supported here"),
        // Statuses without details.
        status => text.write_str(in_words(status).to_str().unwrap_or("")),
    }
}

/// The error of the library, if it comes from there.
fn as_in_the_library(error: &rwwce_error) -> Option<Error> {
    let &rwwce_error { row, index, expected, found, label, .. } = error;
    let named = |number: rwwce_argument| Argument::ALL.get((number as usize).wrapping_sub(1)).copied();
    let argument = named(error.argument);
    Some(match error.status {
        RWWCE_ERROR_NO_CLASSES => Error::NoClasses,
        RWWCE_ERROR_SIZE_OVERFLOW if argument.is_none() => Error::SizeOverflow { rows: found, row_stride: expected },
        RWWCE_ERROR_LENGTH => Error::Length { argument: argument?, expected, found },
        RWWCE_ERROR_LABEL_OUT_OF_RANGE => Error::LabelOutOfRange { row, label, classes: expected },
        RWWCE_ERROR_NOT_FINITE => Error::NotFinite { argument: argument?, index },
        RWWCE_ERROR_OUT_OF_RANGE => Error::OutOfRange { argument: argument? },
        RWWCE_ERROR_EMPTY_CLASS => Error::EmptyClass { class: index },
        RWWCE_ERROR_ZERO_DENOMINATOR => Error::ZeroDenominator,
        RWWCE_ERROR_NEGATIVE => Error::Negative { argument: argument?, index },
        RWWCE_ERROR_COST_OF_TRUTH => Error::CostOfTruth { class: index },
        RWWCE_ERROR_INCOMPATIBLE => {
            Error::Incompatible { option: argument?, with: in_the_library(error.other_argument)? }
        }
        RWWCE_ERROR_TARGET_OUT_OF_RANGE => Error::TargetOutOfRange { index },
        RWWCE_ERROR_LABEL_OWNERS => Error::LabelOwners { found },
        _ => return None,
    })
}

/// The name of an argument in messages.
struct Name(rwwce_argument);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(argument) = in_the_library(self.0) {
            return argument.fmt(f);
        }
        f.write_str(match self.0 {
            RWWCE_ARGUMENT_OPTIONS => "options",
            RWWCE_ARGUMENT_LABEL_TYPE => "label type",
            RWWCE_ARGUMENT_REDUCTION => "reduction",
            RWWCE_ARGUMENT_ZERO_DENOMINATOR => "zero denominator",
            RWWCE_ARGUMENT_BACKEND => "backend",
            RWWCE_ARGUMENT_SCHEME => "scheme",
            RWWCE_ARGUMENT_NORMALISATION => "normalisation",
            RWWCE_ARGUMENT_EMPTY_CLASS => "empty class",
            RWWCE_ARGUMENT_RESULT => "result",
            RWWCE_ARGUMENT_PARTIAL => "partial result",
            RWWCE_ARGUMENT_LOGIT_TYPE => "logit type",
            RWWCE_ARGUMENT_NUMBERS => "numbers",
            RWWCE_ARGUMENT_CURVATURE_KIND => "kind of curvature",
            RWWCE_ARGUMENT_THREADS => "threads",
            _ => "argument",
        })
    }
}
