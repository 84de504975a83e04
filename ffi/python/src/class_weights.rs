//! Class weights from labels.

use kernel::{ClassWeights, EmptyClass, Error, Label, Normalisation, Scheme, count_labels};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Array, TargetArray, WithLabels, refused, slice_mut, targets};

struct Count<'a> {
    ignore_index: Option<i64>,
    counts: &'a mut [u64],
}

impl WithLabels<Result<u64, Error>> for Count<'_> {
    fn call<L: Label>(self, labels: &[L]) -> Result<u64, Error> {
        count_labels(labels, self.ignore_index, self.counts)
    }
}

fn scheme(name: &str, beta: f64) -> PyResult<Scheme> {
    Ok(match name {
        "balanced" => Scheme::Balanced,
        "inverse_frequency" => Scheme::InverseFrequency,
        "inverse_square_root" => Scheme::InverseSquareRoot,
        "median_frequency" => Scheme::MedianFrequency,
        "effective_number" => Scheme::EffectiveNumber { beta },
        _ => {
            let names = "balanced, inverse_frequency, inverse_square_root, median_frequency, effective_number";
            return Err(PyValueError::new_err(format!("scheme: expected one of {names}, found '{name}'")));
        }
    })
}

fn normalisation(name: Option<&str>) -> PyResult<Normalisation> {
    match name {
        None => Ok(Normalisation::None),
        Some("sum") => Ok(Normalisation::Sum),
        Some("mean") => Ok(Normalisation::Mean),
        Some(name) => {
            let message = format!("normalisation: expected None, 'sum' or 'mean', found '{name}'");
            Err(PyValueError::new_err(message))
        }
    }
}

/// Writes the weight of each class to `out`; `how` is scheme, beta, normalisation and weight of empty classes.
#[pyfunction]
pub(crate) fn class_weights(
    py: Python<'_>,
    labels: TargetArray,
    ignore_index: Option<i64>,
    how: (&str, f64, Option<&str>, Option<f32>),
    out: Array,
) -> PyResult<()> {
    let weights = ClassWeights::new(scheme(how.0, how.1)?)
        .normalisation(normalisation(how.2)?)
        .empty_class(how.3.map_or(EmptyClass::Error, EmptyClass::Weight));
    py.detach(|| {
        // SAFETY: the package passes addresses of arrays that it holds, and an output that it has just made.
        let (targets, out) = unsafe { (targets(labels), slice_mut::<f32>(out)) };
        let mut counts = vec![0; out.len()];
        targets.with_labels(Count { ignore_index, counts: &mut counts }).unwrap_or(Ok(0))?;
        weights.from_counts(&counts, out)
    })
    .map_err(refused)
}
