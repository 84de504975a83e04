//! Logits in i8, u8, f16 and bf16, and their f32 values.

use half::{bf16, f16};
use rwwce::Logits;

/// Integers have scale and zero point.
#[derive(Debug)]
pub(crate) enum Stored {
    I8(Vec<i8>, f32, i32),
    U8(Vec<u8>, f32, i32),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Stored {
    pub(crate) fn logits(&self) -> Logits<'_> {
        match self {
            Self::I8(values, scale, zero_point) => Logits::I8 { values, scale: *scale, zero_point: *zero_point },
            Self::U8(values, scale, zero_point) => Logits::U8 { values, scale: *scale, zero_point: *zero_point },
            Self::F16(values) => Logits::F16(values),
            Self::Bf16(values) => Logits::Bf16(values),
        }
    }

    /// Halves are widened by the crate `half`.
    pub(crate) fn widened(&self) -> Vec<f32> {
        let dequantised = |q: i32, scale: f32, zero_point: i32| scale * (q - zero_point) as f32;
        match self {
            Self::I8(values, scale, zero) => values.iter().map(|&q| dequantised(q.into(), *scale, *zero)).collect(),
            Self::U8(values, scale, zero) => values.iter().map(|&q| dequantised(q.into(), *scale, *zero)).collect(),
            Self::F16(values) => values.iter().map(|x| x.to_f32()).collect(),
            Self::Bf16(values) => values.iter().map(|x| x.to_f32()).collect(),
        }
    }
}
