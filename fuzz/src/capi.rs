//! The C functions with any arguments: results and errors are those of the library, to the bit; bad pointers, counts
//! and enumerators are errors; nothing outside an array is read or written.

use crate::batch::{Batch, Content, Factors, reduction, zero_denominator};
use crate::common::{bits, pattern, raw_bits};
use crate::guarded::Guarded;
use crate::options::Options;
use arbitrary::{Arbitrary, Result, Unstructured};
use core::ffi::c_void;
use core::mem::zeroed;
use core::ptr::null_mut;
use rwwce::{Backend, BinaryCrossEntropy, Denominator, Error, Reduction, Summary, ZeroDenominator};
use rwwce_fuzz_capi::decide::rwwce_decide;
use rwwce_fuzz_capi::losses::*;
use rwwce_fuzz_capi::options::*;
use rwwce_fuzz_capi::status::*;
use rwwce_fuzz_capi::{binary, losses::rwwce_summary};

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Function {
    Loss,
    Gradient,
    GradientInPlace,
    SoftLoss,
    SoftGradient,
    SoftGradientInPlace,
    FromProbabilities,
    FromLogProbabilities,
    LogProbabilities,
    LogSumExps,
    Decide,
    Alone,
    BinaryLoss,
    BinaryGradient,
    BinaryGradientInPlace,
}

/// Damage to the pointer or the count of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    None,
    Null,
    Misaligned,
    /// A count whose bytes are not addressable.
    Huge,
}

impl Damage {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? {
            1 => Self::Null,
            2 => Self::Misaligned,
            3 => Self::Huge,
            _ => Self::None,
        })
    }
}

/// The arguments of a call in C.
struct Arguments {
    damages: Vec<Damage>,
    at_end: u16,
    arrays: Vec<Guarded>,
    /// Errors that the call may return.
    wrong: Vec<rwwce_status>,
}

impl Arguments {
    /// The pointer and the count of the next array.
    fn array<T: Copy, P>(&mut self, numbers: &[T]) -> (*mut P, usize) {
        let index = self.arrays.len();
        let array = Guarded::new(numbers, self.at_end >> index & 1 == 1);
        let (mut address, mut count) = (array.address(), numbers.len());
        self.arrays.push(array);
        match self.damages[index] {
            Damage::None => {}
            Damage::Null if count == 0 => address = null_mut(),
            Damage::Null => {
                self.wrong.push(RWWCE_ERROR_NULL);
                address = null_mut();
            }
            Damage::Misaligned => {
                if count > 0 && align_of::<T>() > 1 {
                    self.wrong.push(RWWCE_ERROR_MISALIGNED);
                    address = address.wrapping_add(1);
                }
            }
            Damage::Huge => {
                self.wrong.push(RWWCE_ERROR_SIZE_OVERFLOW);
                count = usize::MAX / size_of::<T>() - 1;
                // The array would end beyond the address space.
                if size_of::<T>() == 1 {
                    count = usize::MAX;
                }
            }
        }
        (address.cast(), count)
    }

    /// As [`Self::array`], for one that may be absent.
    fn optional<P>(&mut self, numbers: Option<&[f32]>) -> (*mut P, usize) {
        match numbers {
            // An empty slice is present, with a wrong length; NULL is absent.
            Some(numbers) if !numbers.is_empty() => self.array(numbers),
            _ => {
                self.arrays.push(Guarded::new::<f32>(&[], true));
                (null_mut(), 0)
            }
        }
    }
}

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let function = Function::arbitrary(u)?;
    let content = Content {
        mostly_finite: true,
        negative_weights: true,
        ignored: true,
        moderate_weights: false,
        no_tiny_weights: false,
        most_classes: 40,
    };
    let mut batch = Batch::new(u, content)?;
    let mut options = Options::mild(u, &batch)?;
    if u.ratio(1, 2)? {
        // Only the options that every function accepts.
        options =
            Options { smoothing: 0.0, focal: 0.0, z_loss: 0.0, temperature: 1.0, bias: None, costs: None, ..options };
    }
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let factors = Factors::new(u, batch.rows())?;
    // Wrong lengths, labels and shapes.
    match u.arbitrary::<u8>()? {
        0 => drop(batch.logits.pop()),
        1 => batch.logits.push(0.0),
        2 => {
            // In C an empty array is absent.
            batch.class_weights.as_mut().map(Vec::pop);
            batch.class_weights = batch.class_weights.filter(|weights| !weights.is_empty());
        }
        3 => batch.labels[0] = -7,
        4 => batch.labels.push(0),
        5 => options.temperature = f32::NAN,
        6 => batch.classes = 0,
        7 => batch.positions = 0,
        8 => batch.stride = usize::MAX,
        _ => {}
    }
    let output = usize::from(u.arbitrary::<u8>()? == 9);
    let mut arguments = Arguments {
        damages: (0..12).map(|_| Damage::new(u)).collect::<Result<_>>()?,
        at_end: u.arbitrary()?,
        arrays: Vec::new(),
        wrong: Vec::new(),
    };
    let bad = u.arbitrary::<u8>()?;
    let label_type = u.arbitrary::<u8>()? % 5;
    let backend = match usize::from(u.arbitrary::<u8>()? % 8) {
        choice @ 0..4 => Backend::available().nth(choice),
        _ => None,
    };
    let case = Case { function, batch, options, reduction, policy, factors, output, bad, backend };
    match label_type {
        // This function takes labels of one type.
        _ if function == Function::Alone => case.run(&mut arguments, RWWCE_LABEL_I32, |label| label),
        0 => case.run(&mut arguments, RWWCE_LABEL_U8, |label| label as u8),
        1 => case.run(&mut arguments, RWWCE_LABEL_U16, |label| label as u16),
        2 => case.run(&mut arguments, RWWCE_LABEL_U32, |label| label as u32),
        3 => case.run(&mut arguments, RWWCE_LABEL_I32, |label| label),
        _ => case.run(&mut arguments, RWWCE_LABEL_I64, i64::from),
    }
    Ok(())
}

#[derive(Debug)]
struct Case {
    function: Function,
    batch: Batch,
    options: Options,
    reduction: Reduction,
    policy: ZeroDenominator,
    factors: Factors,
    /// Excess elements of the output.
    output: usize,
    bad: u8,
    backend: Option<Backend>,
}

/// Result and output of a call.
struct Outcome {
    result: Result<Option<Summary>, Error>,
    output: Vec<f32>,
}

impl Case {
    fn in_rust<L: rwwce::Label>(&self, labels: &[L], targets: &[f32], output: &[f32]) -> Outcome {
        let batch = &self.batch;
        let mut out = output.to_vec();
        let mut loss = self.options.of_labels(self.options.adjust(batch.loss()));
        loss = loss.reduction(self.reduction).zero_denominator(self.policy);
        let mut binary = BinaryCrossEntropy::new(batch.classes).reduction(self.reduction).zero_denominator(self.policy);
        if let Some(backend) = self.backend {
            (loss, binary) = (loss.backend(backend), binary.backend(backend));
        }
        if let Some(weights) = &batch.class_weights {
            binary = binary.miss_costs(weights);
        }
        let up = self.factors.upstream();
        let x = &batch.logits;
        let result = match self.function {
            Function::Loss => loss.row_losses(x, labels, &mut out).map(Some),
            Function::Gradient => loss.gradient(x, labels, up, &mut out).map(Some),
            Function::GradientInPlace => loss.gradient_in_place(&mut out, labels, up).map(Some),
            Function::SoftLoss => loss.soft_row_losses(x, targets, &mut out).map(Some),
            Function::SoftGradient => loss.soft_gradient(x, targets, up, &mut out).map(Some),
            Function::SoftGradientInPlace => loss.soft_gradient_in_place(&mut out, targets, up).map(Some),
            Function::FromProbabilities => {
                loss.row_losses_from_probabilities(x, labels, self.options.eps, &mut out).map(Some)
            }
            Function::FromLogProbabilities => loss.row_losses_from_log_probabilities(x, labels, &mut out).map(Some),
            Function::LogProbabilities => loss.log_probabilities(x, &mut out).map(|()| None),
            Function::LogSumExps => loss.log_sum_exps(x, &mut out).map(|()| None),
            Function::Decide => {
                let mut decisions: Vec<u32> = raw_bits(&out);
                let result = loss.decide(x, &mut decisions, None).map(|_| None);
                out = decisions.into_iter().map(f32::from_bits).collect();
                result
            }
            Function::Alone => {
                let weights = batch.class_weights.as_deref();
                rwwce::weighted_row_losses(batch.classes, x, labels, weights, &mut out).map(|()| None)
            }
            Function::BinaryLoss => binary.row_losses(x, targets, &mut out).map(Some),
            Function::BinaryGradient => binary.gradient(x, targets, up, &mut out).map(Some),
            Function::BinaryGradientInPlace => binary.gradient_in_place(&mut out, targets, up).map(Some),
        };
        Outcome { result, output: out }
    }

    fn run<L: rwwce::Label>(&self, arguments: &mut Arguments, label_type: u32, label: impl Fn(i32) -> L) {
        use Function::*;
        let (function, batch) = (self.function, &self.batch);
        let labels: Vec<L> = batch.labels.iter().map(|&y| label(y)).collect();
        let is_binary = matches!(function, BinaryLoss | BinaryGradient | BinaryGradientInPlace);
        let in_place = matches!(function, GradientInPlace | SoftGradientInPlace | BinaryGradientInPlace);
        let mut targets = self.options.soft.clone().unwrap_or_default();
        if is_binary {
            targets.iter_mut().for_each(|q| *q = q.abs().min(1.0));
        }
        let shaped = matches!(function, Gradient | SoftGradient | LogProbabilities | BinaryGradient | BinaryLoss);
        let output = match in_place {
            true => batch.logits.clone(),
            false => pattern(if shaped { batch.logits.len() } else { batch.rows() } + self.output),
        };
        let expected = self.in_rust(&labels, &targets, &output);

        // SAFETY: zeros are a value of plain numbers and pointers.
        let (mut it, mut of_binary): (rwwce_options, rwwce_binary_options) = unsafe { (zeroed(), zeroed()) };
        let name = self.backend.map(|backend| std::ffi::CString::new(backend.name()).expect("no NUL"));
        let name = name.as_ref().map_or(core::ptr::null(), |name| name.as_ptr());
        let reduction = match self.reduction {
            Reduction::Sum => RWWCE_REDUCTION_SUM,
            Reduction::Mean(Denominator::WeightSum) => RWWCE_REDUCTION_MEAN_WEIGHT_SUM,
            Reduction::Mean(Denominator::Rows) => RWWCE_REDUCTION_MEAN_ROWS,
            Reduction::Mean(Denominator::SampleWeightSum) => RWWCE_REDUCTION_MEAN_SAMPLE_WEIGHT_SUM,
            _ => RWWCE_REDUCTION_MEAN_ROWS_TIMES_CLASSES,
        };
        let policy = if self.policy == ZeroDenominator::Zero { RWWCE_ZERO_DENOMINATOR_ZERO } else { 0 };
        let (factor, factors) = match &self.factors {
            Factors::Loss(factor) => (*factor, None),
            Factors::Rows(factors) => (1.0, Some(&factors[..])),
        };

        // Only the arrays that the function reads are damaged, in the order that they have here.
        let (logits, logits_count) = if in_place { (null_mut(), 0) } else { arguments.array::<_, f32>(&batch.logits) };
        let (weights, weights_count) = arguments.optional::<f32>(batch.class_weights.as_deref());
        if function != Alone {
            let factors = arguments.optional::<f32>(factors);
            if is_binary {
                (of_binary.row_upstream, of_binary.row_upstream_count) = (factors.0, factors.1);
            } else {
                (it.row_upstream, it.row_upstream_count) = (factors.0, factors.1);
                let samples = arguments.optional::<f32>(batch.sample_weights.as_deref());
                (it.sample_weights, it.sample_weights_count) = (samples.0, samples.1);
                let costs = arguments.optional::<f32>(self.options.costs.as_deref());
                (it.mislabel_costs, it.mislabel_costs_count) = (costs.0, costs.1);
                let bias = arguments.optional::<f32>(self.options.bias.as_deref());
                (it.class_bias, it.class_bias_count) = (bias.0, bias.1);
            }
        }
        let has_targets = is_binary || matches!(function, SoftLoss | SoftGradient | SoftGradientInPlace);
        let has_labels = !has_targets && !matches!(function, LogProbabilities | LogSumExps | Decide);
        let (q, q_count) = if has_targets { arguments.array::<_, f32>(&targets) } else { (null_mut(), 0) };
        let (y, y_count) = if has_labels { arguments.array::<_, c_void>(&labels) } else { (null_mut(), 0) };
        let inputs = arguments.arrays.len();
        let (mut out, out_count) = arguments.array::<_, f32>(&output);
        let is_optional = matches!(function, Loss | SoftLoss | FromProbabilities | FromLogProbabilities | BinaryLoss);
        let skipped = is_optional && out.is_null() && out_count == 0;

        it.struct_size = size_of::<rwwce_options>();
        (it.classes, it.positions) = (batch.classes, batch.positions);
        it.row_stride = batch.stride;
        (it.class_weights, it.class_weights_count) = (weights, weights_count);
        (it.has_ignore_index, it.ignore_index) = (batch.ignored.is_some().into(), batch.ignored.unwrap_or(0));
        (it.reduction, it.zero_denominator) = (reduction, policy);
        (it.label_smoothing, it.focal, it.z_loss) = (self.options.smoothing, self.options.focal, self.options.z_loss);
        (it.temperature, it.upstream, it.backend) = (self.options.temperature, factor, name);
        of_binary.struct_size = size_of::<rwwce_binary_options>();
        of_binary.labels = batch.classes;
        (of_binary.miss_costs, of_binary.miss_costs_count) = (weights, weights_count);
        (of_binary.reduction, of_binary.zero_denominator) = (reduction, policy);
        (of_binary.upstream, of_binary.backend) = (factor, name);

        let (mut label_type, mut null_options) = (label_type, false);
        let wrong = &mut arguments.wrong;
        if function != Alone {
            match self.bad {
                1 => {
                    (it.struct_size, of_binary.struct_size) = (it.struct_size - 1, 0);
                    wrong.push(RWWCE_ERROR_STRUCT_SIZE);
                }
                2 => {
                    (it.reduction, of_binary.reduction) = (77, 6);
                    wrong.push(RWWCE_ERROR_UNKNOWN_VALUE);
                }
                3 => {
                    let name = c"abacus".as_ptr();
                    (it.backend, of_binary.backend) = (name, name);
                    wrong.push(RWWCE_ERROR_UNKNOWN_BACKEND);
                }
                4 => {
                    null_options = true;
                    wrong.push(RWWCE_ERROR_NULL);
                }
                _ => {}
            }
        }
        if self.bad == 5 && has_labels && function != Alone {
            label_type = 9;
            wrong.push(RWWCE_ERROR_UNKNOWN_VALUE);
        }
        if self.bad == 6
            && !in_place
            && out_count == output.len()
            && logits_count > 0
            && out_count > 0
            && !logits.is_null()
        {
            // The output overlaps the logits.
            out = logits.wrapping_add(logits_count.min(batch.logits.len()) / 2);
            wrong.push(RWWCE_ERROR_OVERLAP);
            wrong.push(RWWCE_ERROR_SIZE_OVERFLOW);
        }
        let no_error = self.bad == 7;
        let no_summary = self.bad == 8;
        let options = Guarded::new(&[it], true);
        let binary_options = Guarded::new(&[of_binary], true);
        // SAFETY: as above.
        let (empty, no_problem): (rwwce_summary, rwwce_error) = unsafe { (zeroed(), zeroed()) };
        let (summary_place, error_place) = (Guarded::new(&[empty], true), Guarded::new(&[no_problem], true));
        let of = if null_options { null_mut() } else { options.address() };
        let of_binary = if null_options { null_mut() } else { binary_options.address() };
        let (of, of_binary) = (of.cast(), of_binary.cast());
        let summary = if no_summary { null_mut() } else { summary_place.address().cast() };
        let error = if no_error { null_mut() } else { error_place.address().cast() };
        let (x, n) = (logits.cast_const(), logits_count);
        let (yc, qc) = (y_count, q_count);
        // SAFETY: every pointer has as many elements behind it as its count says, but for those that are to be refused.
        let status = unsafe {
            match function {
                Loss => rwwce_loss(of, x.cast(), n, y, yc, label_type, out, out_count, summary, error),
                Gradient => rwwce_loss_gradient(of, x.cast(), n, y, yc, label_type, out, out_count, summary, error),
                GradientInPlace => rwwce_loss_gradient_in_place(of, out, out_count, y, yc, label_type, summary, error),
                SoftLoss => rwwce_soft_loss(of, x.cast(), n, q, qc, out, out_count, summary, error),
                SoftGradient => rwwce_soft_gradient(of, x.cast(), n, q, qc, out, out_count, summary, error),
                SoftGradientInPlace => rwwce_soft_gradient_in_place(of, out, out_count, q, qc, summary, error),
                FromProbabilities => {
                    let eps = self.options.eps;
                    rwwce_loss_from_probabilities(of, x, n, y, yc, label_type, eps, out, out_count, summary, error)
                }
                FromLogProbabilities => {
                    rwwce_loss_from_log_probabilities(of, x, n, y, yc, label_type, out, out_count, summary, error)
                }
                LogProbabilities => rwwce_log_probabilities(of, x.cast(), n, out, out_count, error),
                LogSumExps => rwwce_log_sum_exps(of, x.cast(), n, out, out_count, error),
                Decide => rwwce_decide(of, x.cast(), n, out.cast(), out_count, null_mut(), 0, null_mut(), error),
                Alone => {
                    let (w, wc) = (weights, weights_count);
                    rwwce_weighted_row_losses(batch.classes, w, wc, x, n, y.cast(), yc, out, out_count, error)
                }
                BinaryLoss => binary::rwwce_binary_loss(of_binary, x.cast(), n, q, qc, out, out_count, summary, error),
                BinaryGradient => {
                    binary::rwwce_binary_gradient(of_binary, x.cast(), n, q, qc, out, out_count, summary, error)
                }
                BinaryGradientInPlace => {
                    binary::rwwce_binary_gradient_in_place(of_binary, out, out_count, q, qc, summary, error)
                }
            }
        };

        let show = || format!("status {status}, {:?}\n{self:?} {:?}", arguments.wrong, arguments.damages);
        let of_rust = expected.result.as_ref().err().map_or(RWWCE_OK, Error::code);
        if arguments.wrong.is_empty() && !skipped {
            assert_eq!(status, of_rust, "Rust: {:?}\n{}", expected.result, show());
        } else if !arguments.wrong.is_empty() {
            let known = arguments.wrong.contains(&status) || status == of_rust && status != RWWCE_OK;
            assert!(known, "{}", show());
        }
        let (found, clean) = arguments.arrays[inputs].read::<f32>();
        assert!(clean, "beside the output {}", show());
        if status != RWWCE_OK || skipped {
            assert_eq!(raw_bits(&found), raw_bits(&output), "changed by an error: {}", show());
        } else {
            assert_eq!(bits(&found), bits(&expected.output), "{}", show());
        }
        let of_error = error_place.read::<rwwce_error>().0[0];
        assert_eq!(of_error.status, if no_error { RWWCE_OK } else { status }, "{}", show());
        if let (Err(Error::Length { argument, expected, found }), false) = (&expected.result, no_error)
            && status == RWWCE_ERROR_LENGTH
            && arguments.wrong.is_empty()
        {
            let numbers = (of_error.argument, of_error.expected, of_error.found);
            assert_eq!(numbers, (*argument as u32, *expected, *found), "{}", show());
        }
        let of_summary = summary_place.read::<rwwce_summary>().0[0];
        match expected.result {
            Ok(Some(summary)) if status == RWWCE_OK && !no_summary => {
                let numbers = (bits(&[of_summary.loss]), of_summary.rows, of_summary.non_finite);
                assert_eq!(numbers, (bits(&[summary.loss]), summary.rows, summary.non_finite), "{}", show());
            }
            _ => assert_eq!((of_summary.loss, of_summary.rows), (0.0, 0), "{}", show()),
        }
        // Inputs are unchanged, even where the output was to overlap the logits.
        if !in_place {
            let (found, clean) = arguments.arrays[0].read::<f32>();
            assert!(clean && raw_bits(&found) == raw_bits(&batch.logits), "{}", show());
        }
    }
}
