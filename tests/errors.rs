//! Every error of every entry point: its value, its message, and that nothing was written.

mod common;

use common::{available, backends, pattern, raw_bits};
use rwwce::{
    Argument, Backend, ClassWeights, CrossEntropy, Denominator, EmptyClass, Error, Label, Normalisation, Reduction,
    Scheme, Summary, Upstream, ZeroDenominator, count_labels,
};
use std::fmt::Debug;

const CLASSES: usize = 3;
const ROWS: usize = 4;
const IGNORED: i64 = -100;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Loss,
    RowLosses,
    Gradient,
    GradientInPlace,
    LossFromProbabilities,
    RowLossesFromProbabilities,
}
use Entry::*;

const ENTRIES: [Entry; 6] =
    [Loss, RowLosses, Gradient, GradientInPlace, LossFromProbabilities, RowLossesFromProbabilities];

impl Entry {
    /// The name of the input in errors.
    fn input(self) -> Argument {
        if self.takes_probabilities() { Argument::Probabilities } else { Argument::Logits }
    }

    fn takes_probabilities(self) -> bool {
        matches!(self, LossFromProbabilities | RowLossesFromProbabilities)
    }

    fn writes_row_losses(self) -> bool {
        matches!(self, RowLosses | RowLossesFromProbabilities)
    }

    fn writes_gradient(self) -> bool {
        matches!(self, Gradient | GradientInPlace)
    }
}

/// The arguments of a call. Every test spoils some of them.
#[derive(Clone)]
struct Call<'a, L> {
    classes: usize,
    row_stride: Option<usize>,
    class_weights: Option<&'a [f32]>,
    ignore_index: Option<i64>,
    reduction: Reduction,
    zero_denominator: ZeroDenominator,
    input: Vec<f32>,
    labels: Vec<L>,
    row_losses: usize,
    gradient: usize,
    upstream: Upstream<'a>,
    eps: f32,
}

/// A valid call, whose logits include a NaN with a payload and −0, so that any write to them shows.
fn valid<'a, L: Label>(labels: [L; ROWS]) -> Call<'a, L> {
    let mut input = vec![0.5, -0.25, 0.125, 0.75, 0.0, -0.0, 1.0, 0.25, 0.375, 0.5, 0.5, 0.5];
    input[4] = pattern(1)[0];
    Call {
        classes: CLASSES,
        row_stride: None,
        class_weights: None,
        ignore_index: None,
        reduction: Reduction::default(),
        zero_denominator: ZeroDenominator::NaN,
        input,
        labels: labels.to_vec(),
        row_losses: ROWS,
        gradient: ROWS * CLASSES,
        upstream: Upstream::Loss(1.0),
        eps: 0.0,
    }
}

/// The result of a call and its buffers.
struct Outcome {
    result: Result<Summary, Error>,
    row_losses: Vec<f32>,
    gradient: Vec<f32>,
    input: Vec<f32>,
}

impl<L: Label> Call<'_, L> {
    fn run(&self, entry: Entry, backend: Backend) -> Outcome {
        let mut loss = CrossEntropy::new(self.classes)
            .reduction(self.reduction)
            .zero_denominator(self.zero_denominator)
            .backend(backend);
        if let Some(elements) = self.row_stride {
            loss = loss.row_stride(elements);
        }
        if let Some(weights) = self.class_weights {
            loss = loss.class_weights(weights);
        }
        if let Some(label) = self.ignore_index {
            loss = loss.ignore_index(label);
        }
        let (mut row_losses, mut gradient) = (pattern(self.row_losses), pattern(self.gradient));
        let mut input = self.input.clone();
        let labels = &self.labels;
        let result = match entry {
            Loss => loss.loss(&input, labels),
            RowLosses => loss.row_losses(&input, labels, &mut row_losses),
            Gradient => loss.gradient(&input, labels, self.upstream, &mut gradient),
            GradientInPlace => loss.gradient_in_place(&mut input, labels, self.upstream),
            LossFromProbabilities => loss.loss_from_probabilities(&input, labels, self.eps),
            RowLossesFromProbabilities => loss.row_losses_from_probabilities(&input, labels, self.eps, &mut row_losses),
        };
        Outcome { result, row_losses, gradient, input }
    }

    /// The error of a call that must be refused, the same on every backend, with every output as it was.
    #[track_caller]
    fn refused(&self, entry: Entry) -> Error {
        let mut errors = Vec::new();
        for backend in available() {
            let outcome = self.run(entry, backend);
            let Err(error) = outcome.result else { panic!("{entry:?} on {backend} accepts what it must refuse") };
            let untouched = raw_bits(&outcome.row_losses) == raw_bits(&pattern(self.row_losses))
                && raw_bits(&outcome.gradient) == raw_bits(&pattern(self.gradient))
                && raw_bits(&outcome.input) == raw_bits(&self.input);
            assert!(untouched, "{entry:?} on {backend} wrote something before it refused: {error}");
            errors.push(error);
        }
        let first = errors[0];
        assert!(errors.iter().all(|&error| error == first), "{entry:?}: {errors:?}");
        first
    }

    /// Every entry point refuses the call with this error.
    #[track_caller]
    fn refused_by_all(&self, error: impl Fn(Entry) -> Error) {
        for entry in ENTRIES {
            assert_eq!(self.refused(entry), error(entry), "{entry:?}");
        }
    }

    /// Every entry point accepts the call, which counts so many rows.
    #[track_caller]
    fn accepted_by_all(&self, rows: usize) {
        for backend in available() {
            for entry in ENTRIES {
                match self.run(entry, backend).result {
                    Ok(summary) => assert_eq!(summary.rows, rows, "{entry:?} on {backend}"),
                    Err(error) => panic!("{entry:?} on {backend}: {error}"),
                }
            }
        }
    }
}

/// One fault of a call of [`Entry`], and its error.
struct Fault {
    name: &'static str,
    spoil: fn(&mut Call<'static, i64>),
    /// `None` where the entry point has no such argument.
    error: fn(Entry) -> Option<Error>,
}

const FAULTS: [Fault; 22] = [
    Fault { name: "no classes", spoil: |call| call.classes = 0, error: |_| Some(Error::NoClasses) },
    Fault {
        name: "row stride below C",
        spoil: |call| call.row_stride = Some(CLASSES - 1),
        error: |_| Some(STRIDE_BELOW_CLASSES),
    },
    Fault {
        name: "size overflow",
        spoil: |call| call.row_stride = Some(usize::MAX),
        error: |_| Some(Error::SizeOverflow { rows: ROWS, row_stride: usize::MAX }),
    },
    Fault {
        name: "input too short",
        spoil: |call| call.input.truncate(ROWS * CLASSES - 1),
        error: |entry| Some(length(entry.input(), ROWS * CLASSES, ROWS * CLASSES - 1)),
    },
    Fault {
        name: "input too long",
        spoil: |call| call.input.resize(ROWS * CLASSES + 1, 0.0),
        error: |entry| Some(length(entry.input(), ROWS * CLASSES, ROWS * CLASSES + 1)),
    },
    Fault {
        name: "label too large",
        spoil: |call| call.labels[2] = CLASSES as i64,
        error: |_| Some(Error::LabelOutOfRange { row: 2, label: CLASSES as i64, classes: CLASSES }),
    },
    Fault {
        name: "negative label",
        spoil: |call| call.labels[3] = -1,
        error: |_| Some(Error::LabelOutOfRange { row: 3, label: -1, classes: CLASSES }),
    },
    Fault {
        name: "too few class weights",
        spoil: |call| call.class_weights = Some(&[1.0, 2.0]),
        error: |_| Some(length(Argument::ClassWeights, CLASSES, 2)),
    },
    Fault {
        name: "too many class weights",
        spoil: |call| call.class_weights = Some(&[1.0; CLASSES + 1]),
        error: |_| Some(length(Argument::ClassWeights, CLASSES, CLASSES + 1)),
    },
    Fault {
        name: "class weight NaN",
        spoil: |call| call.class_weights = Some(&[1.0, f32::NAN, f32::INFINITY]),
        error: |_| Some(Error::NotFinite { argument: Argument::ClassWeights, index: 1 }),
    },
    Fault {
        name: "class weight infinite",
        spoil: |call| call.class_weights = Some(&[f32::NEG_INFINITY, 1.0, f32::NAN]),
        error: |_| Some(Error::NotFinite { argument: Argument::ClassWeights, index: 0 }),
    },
    Fault {
        name: "too few row losses",
        spoil: |call| call.row_losses = ROWS - 1,
        error: |entry| entry.writes_row_losses().then_some(length(Argument::RowLosses, ROWS, ROWS - 1)),
    },
    Fault {
        name: "too many row losses",
        spoil: |call| call.row_losses = ROWS + 1,
        error: |entry| entry.writes_row_losses().then_some(length(Argument::RowLosses, ROWS, ROWS + 1)),
    },
    Fault {
        name: "gradient too short",
        spoil: |call| call.gradient = ROWS * CLASSES - 1,
        error: |entry| (entry == Gradient).then_some(length(Argument::Gradient, ROWS * CLASSES, ROWS * CLASSES - 1)),
    },
    Fault {
        name: "gradient too long",
        spoil: |call| call.gradient = ROWS * CLASSES + 1,
        error: |entry| (entry == Gradient).then_some(length(Argument::Gradient, ROWS * CLASSES, ROWS * CLASSES + 1)),
    },
    Fault {
        name: "upstream NaN",
        spoil: |call| call.upstream = Upstream::Loss(f32::NAN),
        error: |entry| entry.writes_gradient().then_some(upstream_not_finite(0)),
    },
    Fault {
        name: "upstream infinite",
        spoil: |call| call.upstream = Upstream::Loss(f32::NEG_INFINITY),
        error: |entry| entry.writes_gradient().then_some(upstream_not_finite(0)),
    },
    Fault {
        name: "upstream of a row NaN",
        spoil: |call| call.upstream = Upstream::Rows(&[1.0, 2.0, 3.0, f32::NAN]),
        error: |entry| entry.writes_gradient().then_some(upstream_not_finite(3)),
    },
    Fault {
        name: "upstream of two rows infinite",
        spoil: |call| call.upstream = Upstream::Rows(&[1.0, f32::INFINITY, f32::NEG_INFINITY, 1.0]),
        error: |entry| entry.writes_gradient().then_some(upstream_not_finite(1)),
    },
    Fault {
        name: "too few upstream factors",
        spoil: |call| call.upstream = Upstream::Rows(&[1.0; ROWS - 1]),
        error: |entry| entry.writes_gradient().then_some(length(Argument::Upstream, ROWS, ROWS - 1)),
    },
    Fault {
        name: "too many upstream factors",
        spoil: |call| call.upstream = Upstream::Rows(&[1.0; ROWS + 1]),
        error: |entry| entry.writes_gradient().then_some(length(Argument::Upstream, ROWS, ROWS + 1)),
    },
    Fault {
        name: "eps negative",
        spoil: |call| call.eps = -1e-10,
        error: |entry| entry.takes_probabilities().then_some(EPS_OUT_OF_RANGE),
    },
];

const STRIDE_BELOW_CLASSES: Error = Error::OutOfRange { argument: Argument::RowStride };
const EPS_OUT_OF_RANGE: Error = Error::OutOfRange { argument: Argument::Eps };

fn length(argument: Argument, expected: usize, found: usize) -> Error {
    Error::Length { argument, expected, found }
}

fn upstream_not_finite(index: usize) -> Error {
    Error::NotFinite { argument: Argument::Upstream, index }
}

// A check of the harness: a valid call writes the buffers that an error leaves untouched.
#[test]
fn a_valid_call_writes_every_element_of_its_outputs() {
    for backend in backends() {
        let call = valid([0u8, 1, 2, 1]);
        for entry in ENTRIES {
            let outcome = call.run(entry, backend);
            let summary = outcome.result.unwrap();
            assert_eq!((summary.rows, summary.denominator), (4, 4.0), "{entry:?} on {backend}");
            let written = |now: &[f32], before: &[f32]| {
                let different = now.iter().zip(before).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                assert!(different == 0 || different == before.len(), "{entry:?} on {backend} wrote a part");
                different > 0
            };
            assert_eq!(written(&outcome.row_losses, &pattern(ROWS)), entry.writes_row_losses());
            assert_eq!(written(&outcome.gradient, &pattern(ROWS * CLASSES)), entry == Gradient);
            assert_eq!(written(&outcome.input, &call.input), entry == GradientInPlace);
        }
    }
}

#[test]
fn every_fault_is_refused_by_every_entry_point_that_can_meet_it() {
    for fault in FAULTS {
        let mut call = valid([0i64, 1, 2, 1]);
        (fault.spoil)(&mut call);
        let mut refusing = 0;
        for entry in ENTRIES {
            if let Some(error) = (fault.error)(entry) {
                assert_eq!(call.refused(entry), error, "{}, {entry:?}", fault.name);
                refusing += 1;
            } else {
                // An argument that the entry point does not have cannot be wrong.
                assert!(call.run(entry, Backend::active()).result.is_ok(), "{}, {entry:?}", fault.name);
            }
        }
        assert!(refusing > 0, "{}", fault.name);
    }
}

// Otherwise the error would appear only once a row counts.
#[test]
fn a_fault_is_refused_even_where_no_row_counts() {
    for policy in [ZeroDenominator::NaN, ZeroDenominator::Zero, ZeroDenominator::Error] {
        for fault in FAULTS {
            let mut call = valid([IGNORED; ROWS]);
            call.ignore_index = Some(IGNORED);
            (fault.spoil)(&mut call);
            call.zero_denominator = policy;
            for entry in ENTRIES {
                if let Some(error) = (fault.error)(entry) {
                    let found = call.refused(entry);
                    // Either of the two errors may be returned.
                    let named = found == error || (policy == ZeroDenominator::Error && found == Error::ZeroDenominator);
                    assert!(named, "{}, {entry:?}: {found}", fault.name);
                }
            }
        }
    }
}

#[test]
fn of_two_faults_one_is_named() {
    for first in FAULTS {
        for second in FAULTS {
            let mut call = valid([0i64, 1, 2, 1]);
            (first.spoil)(&mut call);
            (second.spoil)(&mut call);
            for entry in ENTRIES {
                // Where both concern one argument, the second has undone the first.
                if let Some(error) = (second.error)(entry) {
                    let found = call.refused(entry);
                    let named = found == error || Some(found) == (first.error)(entry);
                    assert!(named, "{} and {}, {entry:?}: {found}", first.name, second.name);
                }
            }
        }
    }
}

#[test]
fn no_classes_are_refused_whatever_else_is_given() {
    let mut call = valid([0u8, 1, 2, 1]);
    call.classes = 0;
    call.refused_by_all(|_| Error::NoClasses);
    call.row_stride = Some(CLASSES);
    call.refused_by_all(|_| Error::NoClasses);
    call.class_weights = Some(&[]);
    call.refused_by_all(|_| Error::NoClasses);
    (call.labels, call.input) = (vec![], vec![]);
    call.refused_by_all(|_| Error::NoClasses);
}

#[test]
fn the_length_of_the_input_follows_from_labels_and_stride() {
    for found in [0, 1, 3, 9, 11, 13, 24] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.input = vec![0.5; found];
        call.refused_by_all(|entry| length(entry.input(), 12, found));
    }
    // The last row has padding too.
    for found in [0, 12, 18, 19, 21] {
        let mut call = valid([0u8, 1, 2, 1]);
        (call.input, call.row_stride) = (vec![0.5; found], Some(5));
        call.refused_by_all(|entry| length(entry.input(), 20, found));
    }
    let mut call = valid([0u8, 1, 2, 1]);
    call.labels = vec![];
    call.refused_by_all(|entry| length(entry.input(), 0, 12));
}

#[test]
fn a_stride_below_the_number_of_classes_is_refused() {
    for elements in [0, 1, 2] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.row_stride = Some(elements);
        call.refused_by_all(|_| STRIDE_BELOW_CLASSES);
        // Also without rows.
        (call.labels, call.input) = (vec![], vec![]);
        call.refused_by_all(|_| STRIDE_BELOW_CLASSES);
    }
    let mut call = valid([0u8, 1, 2, 1]);
    call.row_stride = Some(CLASSES);
    call.accepted_by_all(ROWS);
}

#[test]
fn a_size_beyond_usize_is_refused_instead_of_wrapping() {
    let half = usize::MAX / 2 + 1;
    // 2 · half wraps to 0 and 3 · (MAX / 3 + 1) to 2, the lengths given.
    for (rows, row_stride, len) in [(2, half, 0), (2, usize::MAX, 0), (3, usize::MAX / 3 + 1, 2), (4, half, 0)] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.labels.truncate(rows);
        (call.input, call.row_stride) = (vec![0.5; len], Some(row_stride));
        call.refused_by_all(|_| Error::SizeOverflow { rows, row_stride });
        // Without a row stride the number of classes is the stride.
        (call.classes, call.row_stride) = (row_stride, None);
        call.refused_by_all(|_| Error::SizeOverflow { rows, row_stride });
    }
    let mut call = valid([0u8, 1, 2, 1]);
    call.labels.truncate(2);
    call.row_stride = Some(half - 1);
    call.refused_by_all(|entry| length(entry.input(), usize::MAX - 1, 12));
    // No row, no overflow.
    (call.labels, call.input, call.row_losses, call.gradient) = (vec![], vec![], 0, 0);
    call.row_stride = Some(usize::MAX);
    call.accepted_by_all(0);
}

/// Each of `bad` is refused by every entry point, and accepted where it is the ignored index.
#[track_caller]
fn labels_are_refused<L: Label + Debug + Into<i64>>(valid_label: L, bad: &[L]) {
    for &label in bad {
        let value: i64 = label.into();
        // Of two bad labels the first is named.
        let mut call = valid([valid_label, valid_label, label, label]);
        let error = Error::LabelOutOfRange { row: 2, label: value, classes: CLASSES };
        call.refused_by_all(|_| error);
        let mut counts = [u64::MAX, 7, 0];
        assert_eq!(count_labels(&call.labels, None, &mut counts), Err(error));
        assert_eq!(counts, [u64::MAX, 7, 0]);

        call.ignore_index = Some(value);
        call.accepted_by_all(2);
        assert_eq!(count_labels(&call.labels, call.ignore_index, &mut counts), Ok(2));

        // Ignored indices that differ from the label by 1, or equal it in the lowest 32 or 8 bits.
        for ignored in [value.wrapping_add(1), value ^ (1 << 32), value ^ (1 << 8)] {
            call.ignore_index = Some(ignored);
            call.refused_by_all(|_| error);
            assert_eq!(count_labels(&call.labels, call.ignore_index, &mut counts), Err(error));
        }
    }
}

#[test]
fn labels_out_of_range_are_refused_whatever_their_type() {
    labels_are_refused(1u8, &[3, 4, 128, 254, 255]);
    labels_are_refused(1u16, &[3, 255, 256, 0x8000, u16::MAX]);
    // 2³² − 1 would be −1 as an i32, 2³¹ its minimum.
    labels_are_refused(1u32, &[3, 256, 1 << 16, 1 << 31, u32::MAX]);
    labels_are_refused(1i32, &[3, 256, i32::MAX, -1, -2, -256, i32::MIN]);
    // Cut to 32, 16 or 8 bits these would be classes.
    let wraps = [1 << 32, 1 << 31, 1 << 16, 256, -(1 << 32), (1 << 32) + 1, -256, -(1 << 16) + 2, i64::MIN + 1];
    labels_are_refused(1i64, &wraps);
    labels_are_refused(1i64, &[3, -1, -3, IGNORED, i64::MAX, i64::MIN]);
}

// A label of 255 is a class where there are 256.
#[test]
fn the_largest_label_of_a_type_can_be_a_class() {
    let call = |classes: usize| {
        let mut call = valid([0u8; ROWS]);
        (call.classes, call.input, call.gradient) = (classes, vec![0.5; ROWS * classes], ROWS * classes);
        call
    };
    let mut largest = call(256);
    largest.labels[3] = u8::MAX;
    largest.accepted_by_all(ROWS);
    let mut too_large = call(255);
    too_large.labels[3] = u8::MAX;
    too_large.refused_by_all(|_| Error::LabelOutOfRange { row: 3, label: 255, classes: 255 });

    let input = vec![0.5; 65_536];
    assert!(CrossEntropy::new(65_536).loss(&input, &[u16::MAX]).is_ok());
    let error = Error::LabelOutOfRange { row: 0, label: 65_535, classes: 65_535 };
    assert_eq!(CrossEntropy::new(65_535).loss(&input[1..], &[u16::MAX]), Err(error));
}

/// Labels are checked in chunks; the error has the row's index in the whole batch.
#[test]
fn a_bad_label_is_found_anywhere_in_a_long_batch() {
    const MANY: usize = 5000;
    let logits = vec![0.0; 2 * MANY];
    for row in [0, 1, 1000, 1023, 1024, 1025, 3071, 3072, MANY - 1] {
        for ignored in [None, Some(IGNORED)] {
            let mut labels = vec![1i64; MANY];
            labels[row] = 2;
            let loss = ignored.map_or(CrossEntropy::new(2), |label| CrossEntropy::new(2).ignore_index(label));
            assert_eq!(loss.loss(&logits, &labels), Err(Error::LabelOutOfRange { row, label: 2, classes: 2 }));
        }
    }
}

#[test]
fn the_ignored_index_may_be_a_class_or_not_and_excuses_nothing_else() {
    let ignoring = |labels: [i64; ROWS], ignored: i64| {
        let mut call = valid(labels);
        call.ignore_index = Some(ignored);
        call
    };
    ignoring([0, 1, 2, 1], 1).accepted_by_all(2);
    ignoring([0, 1, 2, 1], 0).accepted_by_all(3);
    ignoring([0, 1, 2, 1], IGNORED).accepted_by_all(4);
    ignoring([0, IGNORED, 2, IGNORED], IGNORED).accepted_by_all(2);
    ignoring([0, i64::MIN, 2, i64::MIN], i64::MIN).accepted_by_all(2);
    ignoring([0, i64::MAX, 2, 1], i64::MAX).accepted_by_all(3);
    ignoring([3, 3, 3, 3], 3).accepted_by_all(0);
    let error = Error::LabelOutOfRange { row: 1, label: -101, classes: CLASSES };
    ignoring([IGNORED, -101, 2, 1], IGNORED).refused_by_all(|_| error);
    ignoring([1, -101, 2, 1], 1).refused_by_all(|_| error);
    // An ignored index of −1 is not the largest value of an unsigned type, nor the other way round.
    let mut unsigned = valid([0u32, 1, u32::MAX, 1]);
    unsigned.ignore_index = Some(-1);
    unsigned.refused_by_all(|_| Error::LabelOutOfRange { row: 2, label: 0xffff_ffff, classes: CLASSES });
    let mut bytes = valid([0u8, 1, u8::MAX, 1]);
    bytes.ignore_index = Some(-1);
    bytes.refused_by_all(|_| Error::LabelOutOfRange { row: 2, label: 255, classes: CLASSES });
    let mut signed = valid([0i32, 1, -1, 1]);
    signed.ignore_index = Some(i64::from(u32::MAX));
    signed.refused_by_all(|_| Error::LabelOutOfRange { row: 2, label: -1, classes: CLASSES });
}

#[test]
fn class_weights_must_be_finite_even_of_classes_that_do_not_occur() {
    for weight in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, pattern(1)[0], -f32::NAN] {
        for index in 0..CLASSES {
            let mut weights = [1.0; CLASSES];
            weights[index] = weight;
            let mut call = valid([1u8; ROWS]);
            call.class_weights = Some(&weights);
            call.refused_by_all(|_| Error::NotFinite { argument: Argument::ClassWeights, index });
            weights[CLASSES - 1] = weight;
            let mut call = valid([1u8; ROWS]);
            call.class_weights = Some(&weights);
            call.refused_by_all(|_| Error::NotFinite { argument: Argument::ClassWeights, index });
        }
    }
    for weights in [[f32::MAX, f32::MIN, 0.0], [-0.0, -1.0, f32::from_bits(1)]] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.class_weights = Some(&weights);
        call.accepted_by_all(ROWS);
    }
}

#[test]
fn upstream_factors_must_be_finite_even_of_rows_that_do_not_count() {
    for factor in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for index in 0..ROWS {
            let mut factors = [1.0; ROWS];
            factors[index] = factor;
            let mut call = valid([IGNORED; ROWS]);
            (call.ignore_index, call.upstream) = (Some(IGNORED), Upstream::Rows(&factors));
            for entry in [Gradient, GradientInPlace] {
                assert_eq!(call.refused(entry), upstream_not_finite(index));
                call.upstream = Upstream::Loss(factor);
                assert_eq!(call.refused(entry), upstream_not_finite(0));
                call.upstream = Upstream::Rows(&factors);
            }
        }
    }
    for factor in [f32::MAX, f32::MIN, 0.0, -0.0, f32::from_bits(1)] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.upstream = Upstream::Loss(factor);
        call.accepted_by_all(ROWS);
    }
    let mut call = valid([0u8, 1, 2, 1]);
    call.upstream = Upstream::Rows(&[]);
    for entry in [Gradient, GradientInPlace] {
        assert_eq!(call.refused(entry), length(Argument::Upstream, ROWS, 0));
    }
}

#[test]
fn eps_must_be_finite_and_not_negative() {
    for eps in [-1.0, -f32::from_bits(1), f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.eps = eps;
        for entry in [LossFromProbabilities, RowLossesFromProbabilities] {
            assert_eq!(call.refused(entry), EPS_OUT_OF_RANGE, "{eps}");
        }
        call.labels = vec![];
        call.input = vec![];
        for entry in [LossFromProbabilities, RowLossesFromProbabilities] {
            assert_eq!(call.refused(entry), EPS_OUT_OF_RANGE, "{eps}");
        }
    }
    for eps in [0.0, -0.0, f32::from_bits(1), 1e-10, f32::MAX] {
        let mut call = valid([0u8, 1, 2, 1]);
        call.eps = eps;
        call.accepted_by_all(ROWS);
    }
}

#[test]
fn a_zero_denominator_is_an_error_where_that_was_asked_for() {
    let means = [Denominator::WeightSum, Denominator::Rows].map(Reduction::Mean);
    let refuses = |call: &Call<'_, i64>, reduction: Reduction, zero: bool| {
        let mut call = call.clone();
        (call.reduction, call.zero_denominator) = (reduction, ZeroDenominator::Error);
        if zero {
            call.refused_by_all(|_| Error::ZeroDenominator);
        } else {
            call.accepted_by_all(call.labels.iter().filter(|&&label| label != IGNORED).count());
        }
        // With the other policies the same call has a result.
        for policy in [ZeroDenominator::NaN, ZeroDenominator::Zero] {
            call.zero_denominator = policy;
            call.accepted_by_all(call.labels.iter().filter(|&&label| label != IGNORED).count());
        }
    };
    let mut empty = valid([0i64; ROWS]);
    (empty.labels, empty.input, empty.row_losses, empty.gradient) = (vec![], vec![], 0, 0);
    let mut ignored = valid([IGNORED; ROWS]);
    ignored.ignore_index = Some(IGNORED);
    for call in [&empty, &ignored] {
        refuses(call, means[0], true);
        refuses(call, means[1], true);
        refuses(call, Reduction::Sum, false);
    }
    let mut weightless = valid([0i64, 2, 0, 2]);
    weightless.class_weights = Some(&[0.0, 5.0, -0.0]);
    let mut cancelling = valid([0i64, 2, 0, 2]);
    cancelling.class_weights = Some(&[1.5, 5.0, -1.5]);
    for call in [&weightless, &cancelling] {
        refuses(call, means[0], true);
        refuses(call, means[1], false);
        refuses(call, Reduction::Sum, false);
    }
    // Upstream factors of rows are not divided by the denominator, but the loss returned with the gradient is.
    let mut by_rows = ignored.clone();
    by_rows.upstream = Upstream::Rows(&[1.0; ROWS]);
    refuses(&by_rows, means[0], true);
    // A subnormal weight sum is not zero.
    let mut tiny = valid([0i64, 0, 0, 0]);
    tiny.class_weights = Some(&[1.4e-45, 0.0, 0.0]);
    refuses(&tiny, means[0], false);
}

#[test]
fn counting_labels_needs_classes_and_labels_among_them() {
    assert_eq!(count_labels::<u8>(&[], None, &mut []), Err(Error::NoClasses));
    assert_eq!(count_labels(&[0u8], Some(0), &mut []), Err(Error::NoClasses));
    // A bad label behind good ones: nothing is counted first.
    let mut counts = [u64::MAX, 41, 0];
    let error = Error::LabelOutOfRange { row: 3, label: 3, classes: 3 };
    assert_eq!(count_labels(&[0i32, 1, -1, 3, -2], Some(-1), &mut counts), Err(error));
    assert_eq!(counts, [u64::MAX, 41, 0]);
}

/// The error of a refused call, which must not write any weight.
#[track_caller]
fn weights_refused(weights: ClassWeights, counts: &[u64], len: usize) -> Error {
    let mut out = pattern(len);
    let error = weights.from_counts(counts, &mut out).unwrap_err();
    assert_eq!(raw_bits(&out), raw_bits(&pattern(len)), "{error}");
    error
}

const SCHEMES: [Scheme; 5] = [
    Scheme::InverseFrequency,
    Scheme::Balanced,
    Scheme::EffectiveNumber { beta: 0.9 },
    Scheme::InverseSquareRoot,
    Scheme::MedianFrequency,
];

#[test]
fn class_weights_are_refused_by_every_scheme_alike() {
    for scheme in SCHEMES {
        for normalisation in [Normalisation::None, Normalisation::Sum, Normalisation::Mean] {
            let weights = ClassWeights::new(scheme).normalisation(normalisation);
            assert_eq!(weights_refused(weights, &[], 0), Error::NoClasses);
            assert_eq!(weights_refused(weights, &[], 3), Error::NoClasses);
            for len in [0, 2, 4] {
                assert_eq!(weights_refused(weights, &[1, 2, 3], len), length(Argument::ClassWeights, 3, len));
            }
            // The first of the empty classes is named.
            assert_eq!(weights_refused(weights, &[1, 0, 3, 0], 4), Error::EmptyClass { class: 1 });
            assert_eq!(weights_refused(weights, &[0], 1), Error::EmptyClass { class: 0 });
            assert_eq!(weights_refused(weights, &[5, 5, 0], 3), Error::EmptyClass { class: 2 });
            for weight in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let weights = weights.empty_class(EmptyClass::Weight(weight));
                let error = Error::NotFinite { argument: Argument::EmptyClassWeight, index: 0 };
                assert_eq!(weights_refused(weights, &[1, 0, 3], 3), error);
                // The weight is checked even where no class is empty: its error does not depend on the data.
                assert_eq!(weights_refused(weights, &[1, 2, 3], 3), error);
            }
        }
    }
}

#[test]
fn beta_must_be_at_least_0_and_below_1() {
    let error = Error::OutOfRange { argument: Argument::Beta };
    let tiny = f64::from_bits(1);
    for beta in [-tiny, -0.1, -1.0, 1.0, 1.0 + f64::EPSILON, 2.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
    {
        let weights = ClassWeights::new(Scheme::EffectiveNumber { beta });
        assert_eq!(weights_refused(weights, &[1, 2, 3], 3), error, "{beta}");
        let weights = weights.empty_class(EmptyClass::Weight(0.0));
        assert_eq!(weights_refused(weights, &[0, 0, 0], 3), error, "{beta}");
    }
    for beta in [0.0, -0.0, tiny, 0.5, 1.0 - f64::EPSILON / 2.0] {
        let mut out = [0.0; 3];
        assert_eq!(ClassWeights::new(Scheme::EffectiveNumber { beta }).from_counts(&[1, 2, 3], &mut out), Ok(()));
    }
}

/// One error of every kind with its code and its message.
fn kinds() -> [(Error, u32, &'static str); 13] {
    [
        (Error::NoClasses, 1, "the number of classes is 0, expected at least 1"),
        (
            Error::SizeOverflow { rows: 3, row_stride: 4096 },
            2,
            "3 rows of 4096 elements are more than memory can address",
        ),
        (length(Argument::ClassWeights, 3, 10), 3, "class weights: expected 3 elements, found 10"),
        (Error::LabelOutOfRange { row: 7, label: -1, classes: 3 }, 4, "labels: row 7 has label -1, expected 0 to 2"),
        (upstream_not_finite(5), 5, "upstream: the number at index 5 is not finite"),
        (STRIDE_BELOW_CLASSES, 6, "row stride: expected at least the number of classes times that of positions"),
        (Error::EmptyClass { class: 2 }, 7, "counts: class 2 has no samples"),
        (Error::ZeroDenominator, 8, "the denominator of the mean is zero"),
        (
            Error::Negative { argument: Argument::SampleWeights, index: 3 },
            9,
            "sample weights: the number at index 3 is negative",
        ),
        (Error::CostOfTruth { class: 1 }, 10, "mislabel costs: the cost of naming class 1 where it is true is not 0"),
        (
            Error::Incompatible { option: Argument::Focal, with: Argument::Targets },
            11,
            "focal exponent: means nothing together with targets",
        ),
        (Error::TargetOutOfRange { index: 4 }, 12, "targets: the target at index 4 is not in [0, 1]"),
        (Error::LabelOwners { found: 2 }, 13, "labels: 2 parts hold the logit of the label, expected exactly 1"),
    ]
}

#[test]
fn every_kind_of_error_has_its_words() {
    for (error, _, words) in kinds() {
        assert_eq!(error.to_string(), words);
        let as_error: &dyn std::error::Error = &error;
        assert_eq!(as_error.to_string(), words);
    }
    assert_eq!(EPS_OUT_OF_RANGE.to_string(), "eps: expected a finite number of at least 0");
    let extreme = Error::LabelOutOfRange { row: 0, label: i64::MIN, classes: 1 };
    assert_eq!(extreme.to_string(), "labels: row 0 has label -9223372036854775808, expected 0 to 0");
}

// Callers in other languages compare these codes.
#[test]
fn every_kind_of_error_keeps_its_code() {
    assert_eq!(kinds().map(|(error, ..)| error.code()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    for (error, code, _) in kinds() {
        assert_eq!(error.code(), code);
    }
}

#[test]
fn every_argument_has_its_name() {
    let names = [
        (Argument::Logits, "logits"),
        (Argument::Probabilities, "probabilities"),
        (Argument::Labels, "labels"),
        (Argument::ClassWeights, "class weights"),
        (Argument::RowLosses, "row losses"),
        (Argument::Gradient, "gradient"),
        (Argument::Upstream, "upstream"),
        (Argument::RowStride, "row stride"),
        (Argument::Eps, "eps"),
        (Argument::Counts, "counts"),
        (Argument::Beta, "beta"),
        (Argument::EmptyClassWeight, "weight of empty classes"),
        (Argument::MislabelCosts, "mislabel costs"),
        (Argument::SampleWeights, "sample weights"),
        (Argument::Targets, "targets"),
        (Argument::ClassBias, "class bias"),
        (Argument::IgnoreIndex, "ignore index"),
        (Argument::LabelSmoothing, "label smoothing"),
        (Argument::Focal, "focal exponent"),
        (Argument::Temperature, "temperature"),
        (Argument::ZLoss, "z-loss"),
        (Argument::Positions, "positions"),
        (Argument::MissCosts, "miss costs"),
        (Argument::FalseAlarmCosts, "false-alarm costs"),
        (Argument::LogProbabilities, "log-probabilities"),
        (Argument::LogSumExps, "log-sum-exps"),
        (Argument::WeightSums, "weight sums"),
        (Argument::LossSums, "loss sums"),
        (Argument::Confusion, "confusion matrix"),
        (Argument::Scale, "scale"),
        (Argument::ZeroPoint, "zero point"),
        (Argument::Decisions, "decisions"),
        (Argument::ExpectedCosts, "expected costs"),
        (Argument::Denominator, "denominator"),
        (Argument::Curvature, "curvature"),
    ];
    for (argument, name) in names {
        assert_eq!(argument.to_string(), name);
    }
    assert_eq!(names.len(), Argument::ALL.len());
}

#[test]
fn every_argument_that_can_be_out_of_range_says_what_was_expected() {
    let ranges = [
        (Argument::Positions, "at least 1"),
        (Argument::RowStride, "at least the number of classes times that of positions"),
        (Argument::LabelSmoothing, "a number in [0, 1]"),
        (Argument::Focal, "a finite number of at least 0"),
        (Argument::ZLoss, "a finite number of at least 0"),
        (Argument::Eps, "a finite number of at least 0"),
        (Argument::Temperature, "a finite number above 0"),
        (Argument::Scale, "a finite number above 0"),
        (Argument::ZeroPoint, "an integer of the type of the logits"),
        (Argument::Beta, "at least 0 and below 1"),
        (Argument::Denominator, "a finite number"),
    ];
    for &argument in Argument::ALL {
        let of_this = ranges.iter().find(|(ranged, _)| *ranged == argument).map_or("", |(_, range)| range);
        assert_eq!(argument.range(), of_this, "{argument}");
        assert_eq!(Error::OutOfRange { argument }.to_string(), format!("{argument}: expected {of_this}"));
    }
}

#[test]
fn an_argument_that_is_out_of_range_is_told_its_range() {
    for (argument, words) in [
        (Argument::Scale, "scale: expected a finite number above 0"),
        (Argument::ZeroPoint, "zero point: expected an integer of the type of the logits"),
        (Argument::Beta, "beta: expected at least 0 and below 1"),
        (Argument::Eps, "eps: expected a finite number of at least 0"),
        (Argument::LabelSmoothing, "label smoothing: expected a number in [0, 1]"),
    ] {
        assert_eq!(Error::OutOfRange { argument }.to_string(), words);
    }
    for argument in [Argument::Logits, Argument::Labels, Argument::Gradient, Argument::Confusion] {
        assert_eq!(argument.range(), "", "{argument} is no single number");
    }
}
