//! The integer types that a label may have.

/// Labels of any of the types, so that the kernels are compiled once and not once for each.
#[derive(Clone, Copy)]
pub enum Labels<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl Labels<'_> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(labels) => labels.len(),
            Self::U16(labels) => labels.len(),
            Self::U32(labels) => labels.len(),
            Self::I32(labels) => labels.len(),
            Self::I64(labels) => labels.len(),
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
        }
    }
}

mod sealed {
    pub trait Sealed: Sized {
        fn labels(labels: &[Self]) -> super::Labels<'_>;
    }
}
pub(crate) use sealed::Sealed;

/// An integer type of labels: `u8`, `u16`, `u32`, `i32` or `i64`.
///
/// Negative labels never wrap round to a class.
pub trait Label: Copy + sealed::Sealed {
    /// The label as a number that every such type fits in.
    fn value(self) -> i64;
}

macro_rules! label {
    ($($integer:ty => $variant:ident),*) => {$(
        impl Sealed for $integer {
            #[inline(always)]
            fn labels(labels: &[Self]) -> Labels<'_> {
                Labels::$variant(labels)
            }
        }
        impl Label for $integer {
            #[inline(always)]
            fn value(self) -> i64 {
                self.into()
            }
        }
    )*};
}
label!(u8 => U8, u16 => U16, u32 => U32, i32 => I32, i64 => I64);
