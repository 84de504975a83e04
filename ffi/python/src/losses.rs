//! Softmax losses, their gradients and curvature.

use kernel::{CrossEntropy, Curvature, Denominator, Error, Label, Logits, Reduction, Summary, Upstream};
use pyo3::prelude::*;

use crate::arrays::{
    Array, Factor, LogitArray, TargetArray, Targets, WithLabels, logits, refused, slice, slice_mut, targets,
};
use crate::settings::{forced, pool};

/// Quantity to compute, with its output.
pub(crate) enum Work<'a> {
    Loss,
    RowLosses(&'a mut [f32]),
    Gradient(Upstream<'a>, &'a mut [f32]),
    Curvature(Upstream<'a>, Curvature, &'a mut [f32]),
}

impl<'a> Work<'a> {
    /// 0 to 4: loss, row losses, gradient, diagonal, bound.
    ///
    /// # Safety
    ///
    /// As for [`slice`] and [`slice_mut`].
    pub(crate) unsafe fn read(work: u8, upstream: &Factor, out: Option<Array>) -> Self {
        // SAFETY: as the caller has promised.
        let (upstream, out) = unsafe { (upstream.upstream(), slice_mut(out.unwrap_or((0, 0)))) };
        match work {
            0 => Self::Loss,
            1 => Self::RowLosses(out),
            2 => Self::Gradient(upstream, out),
            3 => Self::Curvature(upstream, Curvature::Diagonal, out),
            _ => Self::Curvature(upstream, Curvature::Bound, out),
        }
    }
}

/// 0 to 4: sum; mean over the weight sum, the rows, the sample-weight sum, rows × classes.
pub(crate) fn reduction(number: u8) -> Reduction {
    match number {
        0 => Reduction::Sum,
        1 => Reduction::Mean(Denominator::WeightSum),
        2 => Reduction::Mean(Denominator::Rows),
        3 => Reduction::Mean(Denominator::SampleWeightSum),
        _ => Reduction::Mean(Denominator::RowsTimesClasses),
    }
}

/// Sets the reduction, and the denominator if given.
pub(crate) fn divided(loss: CrossEntropy<'_>, (how, denominator): (u8, Option<f64>)) -> CrossEntropy<'_> {
    let loss = loss.reduction(reduction(how));
    denominator.map_or(loss, |denominator| loss.denominator(denominator))
}

/// Options of softmax losses: classes, positions, class weights, sample weights, mislabel costs, class bias, ignored
/// index, label smoothing, focal exponent, z-loss, temperature.
pub(crate) type Options =
    (usize, usize, Option<Array>, Option<Array>, Option<Array>, Option<Array>, Option<i64>, f32, f32, f32, f32);

/// # Safety
///
/// As for [`slice`].
pub(crate) unsafe fn loss<'a>(options: Options) -> CrossEntropy<'a> {
    let (classes, positions, weights, samples, costs, bias, ignored, smoothing, focal, z_loss, temperature) = options;
    let mut loss = CrossEntropy::new(classes).positions(positions).temperature(temperature);
    // SAFETY: as the caller has promised.
    unsafe {
        if let Some(weights) = weights {
            loss = loss.class_weights(slice(weights));
        }
        if let Some(samples) = samples {
            loss = loss.sample_weights(slice(samples));
        }
        if let Some(costs) = costs {
            loss = loss.mislabel_costs(slice(costs));
        }
        if let Some(bias) = bias {
            loss = loss.class_bias(slice(bias));
        }
    }
    if let Some(label) = ignored {
        loss = loss.ignore_index(label);
    }
    // Setting one of these options selects the kernel of the terms instead of the one of the weighted loss.
    if smoothing != 0.0 {
        loss = loss.label_smoothing(smoothing);
    }
    if focal != 0.0 {
        loss = loss.focal(focal);
    }
    if z_loss != 0.0 {
        loss = loss.z_loss(z_loss);
    }
    forced().map_or(loss, |backend| loss.backend(backend))
}

pub(crate) struct OfLabels<'a> {
    pub(crate) loss: CrossEntropy<'a>,
    pub(crate) logits: Logits<'a>,
    pub(crate) work: Work<'a>,
}

impl WithLabels<Result<Option<Summary>, Error>> for OfLabels<'_> {
    fn call<L: Label>(self, labels: &[L]) -> Result<Option<Summary>, Error> {
        let Self { loss, logits, work } = self;
        match work {
            Work::Loss => loss.loss(logits, labels).map(Some),
            Work::RowLosses(out) => loss.row_losses(logits, labels, out).map(Some),
            Work::Gradient(upstream, out) => loss.gradient(logits, labels, upstream, out).map(Some),
            Work::Curvature(upstream, which, out) => {
                loss.curvature(logits, labels, upstream, which, out).map(|()| None)
            }
        }
    }
}

fn of_probabilities(call: OfLabels<'_>, probabilities: &[f32]) -> Result<Option<Summary>, Error> {
    let OfLabels { loss, logits, work } = call;
    match work {
        Work::Loss => loss.soft_loss(logits, probabilities).map(Some),
        Work::RowLosses(out) => loss.soft_row_losses(logits, probabilities, out).map(Some),
        Work::Gradient(upstream, out) => loss.soft_gradient(logits, probabilities, upstream, out).map(Some),
        Work::Curvature(upstream, which, out) => {
            loss.soft_curvature(logits, probabilities, upstream, which, out).map(|()| None)
        }
    }
}

/// Loss, also written to `loss_out` unless that is 0, and denominator; NaN for derivatives without a loss.
pub(crate) fn answer(summary: Option<Summary>, loss_out: usize) -> (f64, f64) {
    let Some(Summary { loss, denominator, .. }) = summary else { return (f64::NAN, f64::NAN) };
    if loss_out != 0 {
        // SAFETY: the package passes the address of one f32 that it has just made, or 0.
        unsafe { core::ptr::with_exposed_provenance_mut::<f32>(loss_out).write(loss) };
    }
    (f64::from(loss), denominator)
}

/// Writes row losses, gradient or curvature of logits to `out`, and the loss to the address `loss_out` unless that is
/// 0; returns loss and denominator. The caller keeps the arrays at all addresses alive.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "a call has no time to make an object of them")]
pub(crate) fn softmax(
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
        let (loss, input, targets, work) =
            unsafe { (loss(options), logits(input), targets(target), Work::read(work, &upstream, out)) };
        computed(OfLabels { loss: divided(loss, reduced), logits: input, work }, &targets)
            .map(|summary| answer(summary, loss_out))
    })
    .map_err(refused)
}

/// Computes with the threads that the package has been told to use.
pub(crate) fn computed(call: OfLabels<'_>, targets: &Targets<'_>) -> Result<Option<Summary>, Error> {
    let pool = pool(call.logits.len());
    let OfLabels { mut loss, logits, work } = call;
    if let Some(pool) = &pool {
        loss = loss.parallel_in(pool);
    }
    let call = OfLabels { loss, logits, work };
    match targets {
        Targets::Probabilities(probabilities) => of_probabilities(call, probabilities),
        labels => labels.with_labels(call).unwrap_or(Ok(None)),
    }
}
