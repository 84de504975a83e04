//! Slices of arrays that Python owns, from address and length.

use half::{bf16, f16};
use kernel::{Error, Label, Logits, Upstream};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

/// Address and number of elements.
pub(crate) type Array = (usize, usize);

/// Address, number of elements, type (0 to 4: f32, i8, u8, f16, bf16), scale and zero point.
pub(crate) type LogitArray = (usize, usize, u8, f32, i32);

/// Address, number of elements, type (0: probabilities in f32; 1 to 5: labels in u8, u16, u32, i32, i64).
pub(crate) type TargetArray = (usize, usize, u8);

/// # Safety
///
/// Unless `count` is 0, the address is that of `count` elements of this type, which live until the call ends and are
/// not written.
pub(crate) unsafe fn slice<'a, T>((address, count): Array) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as the caller has promised.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), count) }
}

/// # Safety
///
/// As for [`slice`], and nothing else reads or writes the elements.
pub(crate) unsafe fn slice_mut<'a, T>((address, count): Array) -> &'a mut [T] {
    if count == 0 {
        return &mut [];
    }
    // SAFETY: as the caller has promised.
    unsafe { core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(address), count) }
}

/// # Safety
///
/// As for [`slice`].
pub(crate) unsafe fn logits<'a>((address, count, kind, scale, zero_point): LogitArray) -> Logits<'a> {
    let array = (address, count);
    // SAFETY: as the caller has promised.
    unsafe {
        match kind {
            1 => Logits::I8 { values: slice(array), scale, zero_point },
            2 => Logits::U8 { values: slice(array), scale, zero_point },
            3 => Logits::F16(slice::<f16>(array)),
            4 => Logits::Bf16(slice::<bf16>(array)),
            _ => Logits::F32(slice(array)),
        }
    }
}

/// Targets: probabilities, or labels of any integer type.
pub(crate) enum Targets<'a> {
    Probabilities(&'a [f32]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

/// # Safety
///
/// As for [`slice`].
pub(crate) unsafe fn targets<'a>((address, count, kind): TargetArray) -> Targets<'a> {
    let array = (address, count);
    // SAFETY: as the caller has promised.
    unsafe {
        match kind {
            1 => Targets::U8(slice(array)),
            2 => Targets::U16(slice(array)),
            3 => Targets::U32(slice(array)),
            4 => Targets::I32(slice(array)),
            5 => Targets::I64(slice(array)),
            _ => Targets::Probabilities(slice(array)),
        }
    }
}

/// A function generic over the label type.
pub(crate) trait WithLabels<R> {
    fn call<L: Label>(self, labels: &[L]) -> R;
}

impl Targets<'_> {
    /// Calls `work` with the labels; `Err` with the probabilities if the targets are no labels.
    pub(crate) fn with_labels<R>(&self, work: impl WithLabels<R>) -> Result<R, &[f32]> {
        Ok(match self {
            Self::Probabilities(probabilities) => return Err(probabilities),
            Self::U8(labels) => work.call(labels),
            Self::U16(labels) => work.call(labels),
            Self::U32(labels) => work.call(labels),
            Self::I32(labels) => work.call(labels),
            Self::I64(labels) => work.call(labels),
        })
    }
}

/// Upstream factor of the reduced loss, or one for each row.
#[derive(FromPyObject)]
pub(crate) enum Factor {
    Loss(f32),
    Rows(Array),
}

impl Factor {
    /// # Safety
    ///
    /// As for [`slice`].
    pub(crate) unsafe fn upstream<'a>(&self) -> Upstream<'a> {
        match *self {
            Self::Loss(factor) => Upstream::Loss(factor),
            // SAFETY: as the caller has promised.
            Self::Rows(array) => Upstream::Rows(unsafe { slice(array) }),
        }
    }
}

/// IndexError for a label out of range, ValueError for all other errors.
pub(crate) fn refused(error: Error) -> PyErr {
    match error {
        Error::LabelOutOfRange { .. } => PyIndexError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}
