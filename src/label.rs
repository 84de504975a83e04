//! The integer types that a label may have.

mod sealed {
    pub trait Sealed {}
}

/// An integer type of labels: `u8`, `u16`, `u32`, `i32` or `i64`.
///
/// Negative labels never wrap round to a class.
pub trait Label: Copy + sealed::Sealed {
    /// The label as a number that every such type fits in.
    fn value(self) -> i64;
}

macro_rules! label {
    ($($integer:ty),*) => {$(
        impl sealed::Sealed for $integer {}
        impl Label for $integer {
            #[inline(always)]
            fn value(self) -> i64 {
                self.into()
            }
        }
    )*};
}
label!(u8, u16, u32, i32, i64);
