//! Class weights from label counts.

use core::ffi::c_void;

use crate::arrays::Arrays;
use crate::options::{Labels, rwwce_class_weights_options, rwwce_label_type, with_labels};
use crate::status::*;
use kernel::count_labels;

/// Counts the labels of each class into `counts`, `[C]`, whose length is the number of classes. Labels equal to
/// `*ignore_index` are left out; NULL for none. `counted`, which may be NULL, receives the number of labels counted.
///
/// Every error leaves `counts` and `counted` unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_count_labels(
    labels: *const c_void,
    labels_count: usize,
    label_type: rwwce_label_type,
    ignore_index: *const i64,
    counts: *mut u64,
    counts_count: usize,
    counted: *mut u64,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let counted = arrays.optional_place(counted)?;
            let labels = Labels::read(arrays, labels, labels_count, label_type)?;
            let ignored =
                arrays.input(RWWCE_ARGUMENT_IGNORE_INDEX, ignore_index, usize::from(!ignore_index.is_null()))?;
            let ignored = ignored.first().copied();
            let counts = arrays.output(RWWCE_ARGUMENT_COUNTS, counts, counts_count)?;
            counted.write(with_labels!(labels, |labels| count_labels(labels, ignored, counts))?)
        })
    }
}

/// Writes the weight of each class to `weights`, `[C]`, given the number of samples of each class, `counts`, `[C]`.
/// Weights are finite, computed in double precision and rounded once.
///
/// Every error leaves `weights` unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_class_weights(
    options: *const rwwce_class_weights_options,
    counts: *const u64,
    counts_count: usize,
    weights: *mut f32,
    weights_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let weighting = rwwce_class_weights_options::read(options)?;
            let counts = arrays.input(RWWCE_ARGUMENT_COUNTS, counts, counts_count)?;
            let weights = arrays.output(RWWCE_ARGUMENT_CLASS_WEIGHTS, weights, weights_count)?;
            Ok(weighting.from_counts(counts, weights)?)
        })
    }
}
