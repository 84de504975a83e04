//! Element types of logits, and their conversion to f32.

use core::ops::{Index, RangeFull};

use crate::error::{Argument, Error};
use crate::kernel::from;

/// Logits in the element type of the model's output: f32, quantised i8 or u8, f16 or bf16.
///
/// Every function that takes `impl Into<Logits>` accepts a reference to a slice, array or vector of f32, f16 or bf16;
/// quantised logits are a variant with scale and zero point. Results are those of the f32 values of the elements, in
/// the same bits and with the same accuracy; gradients are with respect to these values, in f32. Only a few rows at a
/// time are converted, on the stack.
///
/// | logits | f32 value | exact |
/// |---|---|---|
/// | `I8`, `U8` | scale·(q − zero point), as in ONNX and LiteRT | rounded once |
/// | `F16`, `Bf16` (with the feature `half`) | the same value | yes |
///
/// ```
/// use rwwce::{CrossEntropy, Logits};
///
/// let loss = CrossEntropy::new(3);
/// let logits = Logits::I8 { values: &[120, -8, -8], scale: 0.125, zero_point: -8 };
/// assert_eq!(loss.loss(logits, &[0u8])?, loss.loss(&[16.0, 0.0, 0.0], &[0u8])?);
/// # Ok::<(), rwwce::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Logits<'a> {
    /// IEEE 754 binary32.
    F32(&'a [f32]),
    /// Quantised: an element q stands for scale·(q − zero point).
    I8 {
        /// q
        values: &'a [i8],
        /// Finite, above 0.
        scale: f32,
        /// In [−128, 127].
        zero_point: i32,
    },
    /// Quantised: an element q stands for scale·(q − zero point).
    U8 {
        /// q
        values: &'a [u8],
        /// Finite, above 0.
        scale: f32,
        /// In [0, 255].
        zero_point: i32,
    },
    /// IEEE 754 binary16.
    #[cfg(feature = "half")]
    F16(&'a [half::f16]),
    /// bfloat16: the upper 16 bits of an f32.
    #[cfg(feature = "half")]
    Bf16(&'a [half::bf16]),
}

/// Element type of logits that needs no scale: `f32` and, with the feature `half`, `half::f16` and `half::bf16`.
#[diagnostic::on_unimplemented(
    message = "a slice of `{Self}` is not logits by itself",
    label = "logits of f32, or of `half::f16` and `half::bf16` with the feature `half`, are taken as they are",
    note = "integers need a scale and a zero point: `Logits::I8 {{ values, scale, zero_point }}`, `Logits::U8 {{ .. }}`"
)]
pub trait Logit: Sized + sealed::Sealed {}

mod sealed {
    use super::Logits;

    pub trait Sealed: Sized {
        fn logits(numbers: &[Self]) -> Logits<'_>;
    }
}

impl Logit for f32 {}
impl sealed::Sealed for f32 {
    fn logits(numbers: &[Self]) -> Logits<'_> {
        Logits::F32(numbers)
    }
}

#[cfg(feature = "half")]
impl Logit for half::f16 {}
#[cfg(feature = "half")]
impl sealed::Sealed for half::f16 {
    fn logits(numbers: &[Self]) -> Logits<'_> {
        Logits::F16(numbers)
    }
}

#[cfg(feature = "half")]
impl Logit for half::bf16 {}
#[cfg(feature = "half")]
impl sealed::Sealed for half::bf16 {
    fn logits(numbers: &[Self]) -> Logits<'_> {
        Logits::Bf16(numbers)
    }
}

/// From references to slices, arrays, vectors, and all other types that `[..]` makes a slice of.
impl<'a, T, N> From<&'a T> for Logits<'a>
where
    T: Index<RangeFull, Output = [N]> + ?Sized,
    N: Logit + 'a,
{
    fn from(numbers: &'a T) -> Self {
        N::logits(&numbers[..])
    }
}

impl<'a> Logits<'a> {
    /// Number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I8 { values, .. } => values.len(),
            Self::U8 { values, .. } => values.len(),
            #[cfg(feature = "half")]
            Self::F16(values) => values.len(),
            #[cfg(feature = "half")]
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The f32 value of an element; `None` past the end.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<f32> {
        let mut number = [0.0];
        if index >= self.len() {
            return None;
        }
        self.widen(index, &mut number);
        Some(number[0])
    }

    /// [`Logits::get`], inlined for f32.
    #[inline(always)]
    pub(crate) fn number(&self, index: usize) -> Option<f32> {
        if let Self::F32(values) = self { values.get(index).copied() } else { self.get(index) }
    }

    /// Checks the range of scale and zero point, as every function that returns a [`Result`] does.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`].
    pub fn check(&self) -> Result<(), Error> {
        let (scale, zero_point, range) = match *self {
            Self::I8 { scale, zero_point, .. } => (scale, zero_point, -128..=127),
            Self::U8 { scale, zero_point, .. } => (scale, zero_point, 0..=255),
            _ => return Ok(()),
        };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::OutOfRange { argument: Argument::Scale });
        }
        if !range.contains(&zero_point) {
            return Err(Error::OutOfRange { argument: Argument::ZeroPoint });
        }
        Ok(())
    }

    /// The logits before element `at`, and those from `at` on.
    #[cfg(feature = "rayon")]
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        use crate::slices::split_into;
        match self {
            Self::F32(values) => split_into(values, at, Self::F32),
            Self::I8 { values, scale, zero_point } => {
                split_into(values, at, |values| Self::I8 { values, scale, zero_point })
            }
            Self::U8 { values, scale, zero_point } => {
                split_into(values, at, |values| Self::U8 { values, scale, zero_point })
            }
            #[cfg(feature = "half")]
            Self::F16(values) => split_into(values, at, Self::F16),
            #[cfg(feature = "half")]
            Self::Bf16(values) => split_into(values, at, Self::Bf16),
        }
    }

    /// The slice, if the elements are f32.
    #[inline(always)]
    pub(crate) const fn as_f32(&self) -> Option<&'a [f32]> {
        if let Self::F32(values) = *self { Some(values) } else { None }
    }

    /// Converts the elements from `start` on to f32 into `to`, until either of them ends.
    ///
    /// Inlined, so that a kernel compiles it for the instruction set of its backend.
    #[inline(always)]
    pub(crate) fn widen(&self, start: usize, to: &mut [f32]) {
        match *self {
            Self::F32(values) => each(values, start, to, |x| x),
            Self::I8 { values, scale, zero_point } => {
                each(values, start, to, |q| (i32::from(q).wrapping_sub(zero_point)) as f32 * scale);
            }
            Self::U8 { values, scale, zero_point } => {
                each(values, start, to, |q| (i32::from(q).wrapping_sub(zero_point)) as f32 * scale);
            }
            #[cfg(feature = "half")]
            Self::F16(values) => each(values, start, to, |x| of_f16(x.to_bits())),
            #[cfg(feature = "half")]
            Self::Bf16(values) => each(values, start, to, |x| f32::from_bits(u32::from(x.to_bits()) << 16)),
        }
    }
}

/// Temperature and class bias, applied to the logits before anything else: x/T + b.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adjustment<'a> {
    pub(crate) temperature: f32,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Adjustment<'_> {
    pub(crate) const NONE: Self = Self { temperature: 1.0, bias: None };

    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.temperature == 1.0 && self.bias.is_none()
    }

    /// The adjusted logit of a class.
    #[inline(always)]
    pub(crate) fn apply(&self, logit: f32, class: usize) -> f32 {
        let scaled = if self.temperature == 1.0 { logit } else { logit / self.temperature };
        self.bias.map_or(scaled, |bias| scaled + bias.get(class).copied().unwrap_or(0.0))
    }
}

#[inline(always)]
fn each<T: Copy>(values: &[T], start: usize, to: &mut [f32], number: impl Fn(T) -> f32) {
    for (to, &value) in to.iter_mut().zip(from(values, start)) {
        *to = number(value);
    }
}

/// f16 bits to f32, without branches, so that the compiler can vectorise, and without subnormal f32, so that modes that
/// flush them (FTZ, DAZ) do not matter.
#[cfg(feature = "half")]
#[inline(always)]
fn of_f16(bits: u16) -> f32 {
    let (magnitude, sign) = (u32::from(bits & 0x7fff), u32::from(bits & 0x8000) << 16);
    // A subnormal f16 is magnitude·2⁻²⁴, and 2⁻²⁴ is the ulp of 0.5f32: magnitude is added in the mantissa of 0.5.
    let small = (f32::from_bits(0x3f00_0000 | magnitude) - 0.5).to_bits();
    let bias = if magnitude >= 0x7c00 { (255 - 31) << 23 } else { (127 - 15) << 23 };
    let large = (magnitude << 13).wrapping_add(bias);
    f32::from_bits(sign | if magnitude < 0x0400 { small } else { large })
}

#[cfg(all(test, feature = "half"))]
mod tests {
    use super::of_f16;

    /// Every f16 against its definition: (−1)^s·2^(e − 15)·(1 + m/1024), and 2^−14·m/1024 for e = 0.
    #[test]
    fn halves_are_what_they_stand_for() {
        for bits in 0..=u16::MAX {
            let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x03ff) / 1024.0);
            let magnitude = match exponent {
                0 => mantissa * 2f64.powi(-14),
                31 if mantissa == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + mantissa) * 2f64.powi(exponent - 15),
            };
            let expected = if bits >> 15 == 1 { -magnitude } else { magnitude } as f32;
            let found = of_f16(bits);
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#06x}: {found}"
            );
            assert_eq!(found.is_sign_negative(), bits >> 15 == 1);
        }
    }
}
