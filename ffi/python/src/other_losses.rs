//! Losses of log-probabilities and binary targets, log-softmax, decisions, and weight sums of targets.

use kernel::{BinaryCrossEntropy, CrossEntropy, Error, Label, Summary, Total, Upstream};
use pyo3::prelude::*;

use crate::arrays::{Array, Factor, LogitArray, TargetArray, WithLabels, logits, refused, slice, slice_mut, targets};
use crate::losses::{Options, Work, answer, divided, loss, reduction};
use crate::settings::forced;

struct OfLogProbabilities<'a> {
    loss: CrossEntropy<'a>,
    log_probabilities: &'a [f32],
    work: Work<'a>,
}

impl WithLabels<Result<Option<Summary>, Error>> for OfLogProbabilities<'_> {
    fn call<L: Label>(self, labels: &[L]) -> Result<Option<Summary>, Error> {
        let Self { loss, log_probabilities, work } = self;
        match work {
            Work::RowLosses(out) => loss.row_losses_from_log_probabilities(log_probabilities, labels, out).map(Some),
            Work::Gradient(upstream, out) => loss.gradient_from_log_probabilities(labels, upstream, out).map(|()| None),
            _ => loss.loss_from_log_probabilities(log_probabilities, labels).map(Some),
        }
    }
}

/// As `softmax`, for f32 log-probabilities and labels: loss, row losses or gradient.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "a call has no time to make an object of them")]
pub(crate) fn log_probability_loss(
    py: Python<'_>,
    work: u8,
    options: Options,
    input: LogitArray,
    target: TargetArray,
    reduced: (u8, Option<f64>),
    upstream: Factor,
    out: Option<Array>,
    loss_out: usize,
) -> PyResult<(f64, f64)> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds, and outputs that it has just made.
        let (loss, log_probabilities, targets, work) =
            unsafe { (loss(options), slice((input.0, input.1)), targets(target), Work::read(work, &upstream, out)) };
        let call = OfLogProbabilities { loss: divided(loss, reduced), log_probabilities, work };
        targets.with_labels(call).unwrap_or(Ok(None)).map(|summary| answer(summary, loss_out))
    })
    .map_err(refused)
}

/// Number of labels, miss costs, false-alarm costs, sample weights.
type BinaryOptions = (usize, Option<Array>, Option<Array>, Option<Array>);

/// # Safety
///
/// As for [`slice`].
unsafe fn binary_loss<'a>(options: BinaryOptions) -> BinaryCrossEntropy<'a> {
    let (labels, misses, false_alarms, samples) = options;
    let mut loss = BinaryCrossEntropy::new(labels);
    // SAFETY: as the caller has promised.
    unsafe {
        if let Some(costs) = misses {
            loss = loss.miss_costs(slice(costs));
        }
        if let Some(costs) = false_alarms {
            loss = loss.false_alarm_costs(slice(costs));
        }
        if let Some(weights) = samples {
            loss = loss.sample_weights(slice(weights));
        }
    }
    forced().map_or(loss, |backend| loss.backend(backend))
}

/// As `softmax`, for one logit per label and f32 targets.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "a call has no time to make an object of them")]
pub(crate) fn binary(
    py: Python<'_>,
    work: u8,
    options: BinaryOptions,
    input: LogitArray,
    target: TargetArray,
    reduced: (u8, Option<f64>),
    upstream: Factor,
    out: Option<Array>,
    loss_out: usize,
) -> PyResult<(f64, f64)> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds, and outputs that it has just made.
        let (loss, input, target, work) = unsafe {
            (binary_loss(options), logits(input), slice((target.0, target.1)), Work::read(work, &upstream, out))
        };
        let mut loss = loss.reduction(reduction(reduced.0));
        if let Some(denominator) = reduced.1 {
            loss = loss.denominator(denominator);
        }
        let summary = match work {
            Work::Loss => loss.loss(input, target).map(Some),
            Work::RowLosses(out) => loss.row_losses(input, target, out).map(Some),
            Work::Gradient(upstream, out) => loss.gradient(input, target, upstream, out).map(Some),
            Work::Curvature(upstream, _, out) => loss.curvature(input, target, upstream, out).map(|()| None),
        };
        summary.map(|summary| answer(summary, loss_out))
    })
    .map_err(refused)
}

/// Writes the log-probabilities of each row, or with `sums` its log-sum-exp, to `out`.
#[pyfunction]
pub(crate) fn logs(py: Python<'_>, sums: bool, options: Options, input: LogitArray, out: Array) -> PyResult<()> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds, and an output that it has just made.
        let (loss, input, out) = unsafe { (loss(options), logits(input), slice_mut(out)) };
        if sums { loss.log_sum_exps(input, out) } else { loss.log_probabilities(input, out) }
    })
    .map_err(refused)
}

/// Writes the class of least expected cost of each row of logits, or with `given` of probabilities, to `decisions`
/// (u32; 2³² − 1 for a row without a decision), and its expected cost to `costs`.
#[pyfunction]
pub(crate) fn decide(
    py: Python<'_>,
    given: bool,
    options: Options,
    input: LogitArray,
    decisions: Array,
    costs: Array,
) -> PyResult<()> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds, and outputs that it has just made.
        let (loss, decisions, costs) = unsafe { (loss(options), slice_mut(decisions), slice_mut(costs)) };
        if given {
            // SAFETY: as above; probabilities are in f32.
            let probabilities = unsafe { slice((input.0, input.1)) };
            return loss.decide_from_probabilities(probabilities, decisions, Some(costs)).map(drop);
        }
        // SAFETY: as above.
        loss.decide(unsafe { logits(input) }, decisions, Some(costs)).map(drop)
    })
    .map_err(refused)
}

/// Gradient through log-softmax for the upstream gradient: that of the soft loss with targets −upstream.
#[pyfunction]
pub(crate) fn log_probabilities_gradient(
    py: Python<'_>,
    options: Options,
    input: LogitArray,
    minus_upstream: Array,
    out: Array,
) -> PyResult<()> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds, and an output that it has just made.
        let (loss, input, targets, out) =
            unsafe { (loss(options), logits(input), slice(minus_upstream), slice_mut(out)) };
        loss.reduction(reduction(0)).soft_gradient(input, targets, Upstream::Loss(1.0), out).map(drop)
    })
    .map_err(refused)
}

/// Weight sum, sum of the sample weights, rows, rows × classes.
type Weighed = (f64, f64, u64, u64);

fn weighed(total: Total) -> Weighed {
    (total.weight_sum, total.sample_weight_sum, total.rows, total.rows_times_classes)
}

struct Weigh<'a>(CrossEntropy<'a>);

impl WithLabels<Result<Total, Error>> for Weigh<'_> {
    fn call<L: Label>(self, labels: &[L]) -> Result<Total, Error> {
        self.0.weigh(labels)
    }
}

/// Weight sums and counts of rows with these targets.
#[pyfunction]
pub(crate) fn weigh(py: Python<'_>, options: Options, target: TargetArray) -> PyResult<Weighed> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds.
        let (loss, targets) = unsafe { (loss(options), targets(target)) };
        targets.with_labels(Weigh(loss)).unwrap_or_else(|probabilities| loss.weigh_soft(probabilities)).map(weighed)
    })
    .map_err(refused)
}

/// Weight sums and counts of logits with these binary targets.
#[pyfunction]
pub(crate) fn weigh_binary(py: Python<'_>, options: BinaryOptions, target: Array) -> PyResult<Weighed> {
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds.
        let (loss, target) = unsafe { (binary_loss(options), slice(target)) };
        loss.weigh(target).map(weighed)
    })
    .map_err(refused)
}
