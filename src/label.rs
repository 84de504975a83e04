//! The integer types that a label may have.

use crate::kernel::{VIRTUAL_LANES, part};

/// Labels of any of the types, so that the kernels are compiled once and not once for each.
#[derive(Clone, Copy)]
pub enum Labels<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
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
        }
    }

    /// The number of rows that count; or the first label that is neither a class nor ignored, and its row.
    pub(crate) fn check(&self, classes: usize, ignored: Option<i64>) -> Result<usize, (usize, i64)> {
        match self {
            Self::U8(labels) => check(labels, classes, ignored),
            Self::U16(labels) => check(labels, classes, ignored),
            Self::U32(labels) => check(labels, classes, ignored),
            Self::I32(labels) => check(labels, classes, ignored),
            Self::I64(labels) => check(labels, classes, ignored),
        }
    }

    /// Those of `count` rows from `first` on.
    pub(crate) fn some(&self, first: usize, count: usize) -> Self {
        match self {
            Self::U8(labels) => Self::U8(part(labels, first, count)),
            Self::U16(labels) => Self::U16(part(labels, first, count)),
            Self::U32(labels) => Self::U32(part(labels, first, count)),
            Self::I32(labels) => Self::I32(part(labels, first, count)),
            Self::I64(labels) => Self::I64(part(labels, first, count)),
        }
    }

    /// The labels of `lanes` rows from `first` on, all of which there are.
    #[inline(always)]
    pub(crate) fn read(&self, first: usize, lanes: usize, to: &mut [i64; VIRTUAL_LANES]) {
        match self {
            Self::U8(labels) => read(part(labels, first, lanes), to),
            Self::U16(labels) => read(part(labels, first, lanes), to),
            Self::U32(labels) => read(part(labels, first, lanes), to),
            Self::I32(labels) => read(part(labels, first, lanes), to),
            Self::I64(labels) => read(part(labels, first, lanes), to),
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

fn check<L: Label>(labels: &[L], classes: usize, ignored: Option<i64>) -> Result<usize, (usize, i64)> {
    // A negative number is a large one without its sign.
    let is_class = |label: &L| (label.value() as u64) < classes as u64;
    let is_ignored = |label: &L| Some(label.value()) == ignored;
    let mut counted = 0;
    // Without a branch a label, so that the compiler may use vectors.
    for (chunk, labels) in labels.chunks(CHUNK).enumerate() {
        let (mut valid, mut counts) = (true, 0);
        match ignored {
            None => {
                valid = labels.iter().fold(true, |valid, label| valid & is_class(label));
                counts = labels.len();
            }
            Some(_) => {
                for label in labels {
                    valid &= is_class(label) | is_ignored(label);
                    counts += usize::from(!is_ignored(label));
                }
            }
        }
        if !valid {
            let bad = labels.iter().position(|label| !is_class(label) && !is_ignored(label)).unwrap_or(0);
            return Err((chunk * CHUNK + bad, labels.get(bad).map_or(0, |label| label.value())));
        }
        counted += counts;
    }
    Ok(counted)
}

/// The number of labels between two looks at what was found.
const CHUNK: usize = 1024;

#[inline(always)]
fn read<L: Label>(from: &[L], to: &mut [i64; VIRTUAL_LANES]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.value();
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
