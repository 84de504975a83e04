//! Integer types of labels, and reading labels as i64.

use crate::backend::Backend;
use crate::kernel::from;
use crate::kernel::lanes::Lanes;
use crate::kernel::limits::ROWS;

/// Labels of any type: an enum, so that the kernels are compiled once, not monomorphised for each type.
#[derive(Clone, Copy)]
pub enum Labels<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    Usize(&'a [usize]),
}

impl<'a> Labels<'a> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(labels) => labels.len(),
            Self::U16(labels) => labels.len(),
            Self::U32(labels) => labels.len(),
            Self::I32(labels) => labels.len(),
            Self::I64(labels) => labels.len(),
            Self::Usize(labels) => labels.len(),
        }
    }

    /// The labels before row `at`, and those from `at` on.
    #[cfg(feature = "rayon")]
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        use crate::slices::split_into;
        match self {
            Self::U8(labels) => split_into(labels, at, Self::U8),
            Self::U16(labels) => split_into(labels, at, Self::U16),
            Self::U32(labels) => split_into(labels, at, Self::U32),
            Self::I32(labels) => split_into(labels, at, Self::I32),
            Self::I64(labels) => split_into(labels, at, Self::I64),
            Self::Usize(labels) => split_into(labels, at, Self::Usize),
        }
    }

    /// Calls `take` for each block with the labels of its `ROWS` rows, from row `first` on; labels past the end are 0.
    /// A loop of its own for each type: see [`Labels::of_block`] for less code.
    #[inline(always)]
    pub(crate) fn read<B>(&self, first: usize, blocks: impl Iterator<Item = B>, take: impl FnMut(B, &Lanes<i64>)) {
        match self {
            Self::U8(labels) => read(labels, first, blocks, take),
            Self::U16(labels) => read(labels, first, blocks, take),
            Self::U32(labels) => read(labels, first, blocks, take),
            Self::I32(labels) => read(labels, first, blocks, take),
            Self::I64(labels) => read(labels, first, blocks, take),
            Self::Usize(labels) => read(labels, first, blocks, take),
        }
    }

    /// The labels of the block of rows from `first` on; 0 past the end.
    #[inline(never)]
    pub(crate) fn of_block(&self, first: usize) -> Lanes<i64> {
        if Backend::ONLY_SCALAR {
            // Of one row: less code than loops.
            return Lanes::splat(self.get(first).unwrap_or(0));
        }
        match self {
            Self::U8(labels) => values(from(labels, first)),
            Self::U16(labels) => values(from(labels, first)),
            Self::U32(labels) => values(from(labels, first)),
            Self::I32(labels) => values(from(labels, first)),
            Self::I64(labels) => values(from(labels, first)),
            Self::Usize(labels) => values(from(labels, first)),
        }
    }

    /// The label of a row, if there is such a row.
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> Option<i64> {
        match self {
            Self::U8(labels) => labels.get(row).map(|label| label.value()),
            Self::U16(labels) => labels.get(row).map(|label| label.value()),
            Self::U32(labels) => labels.get(row).map(|label| label.value()),
            Self::I32(labels) => labels.get(row).map(|label| label.value()),
            Self::I64(labels) => labels.get(row).copied(),
            Self::Usize(labels) => labels.get(row).map(|label| label.value()),
        }
    }
}

#[inline(always)]
fn read<L: Label, B>(
    labels: &[L],
    first: usize,
    blocks: impl Iterator<Item = B>,
    mut take: impl FnMut(B, &Lanes<i64>),
) {
    let mut labels = from(labels, first);
    for block in blocks {
        if let Some((given, rest)) = labels.split_first_chunk::<ROWS>() {
            take(block, &values(given));
            labels = rest;
        } else {
            take(block, &last_values(labels));
            labels = &[];
        }
    }
}

/// [`values`] of an incomplete block, outlined.
#[inline(never)]
fn last_values<L: Label>(labels: &[L]) -> Lanes<i64> {
    values(labels)
}

/// The labels of at most one block as i64, padded with zeros.
#[inline(always)]
fn values<L: Label>(labels: &[L]) -> Lanes<i64> {
    let mut values = Lanes::splat(0);
    for (value, label) in values.iter_mut().zip(labels) {
        *value = label.value();
    }
    values
}

mod sealed {
    pub trait Sealed: Sized {
        fn labels(labels: &[Self]) -> super::Labels<'_>;
    }
}
pub(crate) use sealed::Sealed;

/// Integer type of class labels: `u8`, `u16`, `u32`, `i32`, `i64` or `usize`.
///
/// Negative labels never wrap to a class. A `usize` above `i64::MAX` counts as `i64::MAX`.
pub trait Label: Copy + sealed::Sealed {
    /// The label as i64.
    fn value(self) -> i64;
}

macro_rules! label {
    ($($integer:ty => $variant:ident, $value:expr;)*) => {$(
        impl Sealed for $integer {
            #[inline(always)]
            fn labels(labels: &[Self]) -> Labels<'_> {
                Labels::$variant(labels)
            }
        }
        impl Label for $integer {
            #[inline(always)]
            fn value(self) -> i64 {
                $value(self)
            }
        }
    )*};
}
label! {
    u8 => U8, i64::from;
    u16 => U16, i64::from;
    u32 => U32, i64::from;
    i32 => I32, i64::from;
    i64 => I64, i64::from;
    usize => Usize, |label| i64::try_from(label).unwrap_or(i64::MAX);
}
