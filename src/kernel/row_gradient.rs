//! The gradient w[y]·(p_i − [i = y]) of one row of classes side by side, written over its logits or elsewhere, for a factor
//! of any size.

use super::buffers::Buffers;
use super::exp::{Exp, Scale};
use super::rare_rows::Share;
use crate::backend::vector::Vector;

/// A gradient with a factor beyond this could overflow on the way, where a probability brings it back.
pub(crate) const LARGEST_FACTOR: f64 = f64::from_bits((1023 + 125) << 52);

/// What the gradient of a row is made of.
#[derive(Clone, Copy)]
pub(crate) struct RowGradient {
    pub(crate) share: Share,
    pub(crate) label: usize,
    /// Weight, upstream factor and denominator of the mean.
    pub(crate) factor: f64,
    /// 1 − p_y
    pub(crate) miss: f64,
}

/// Writes the gradient of the row that starts there.
#[inline(always)]
pub(crate) fn write_gradient<S: Vector, B: Buffers>(
    s: S,
    buffers: &mut B,
    start: usize,
    classes: usize,
    row: &RowGradient,
) {
    if row.factor == 0.0 {
        buffers.gradient(start, classes).fill(0.0);
        return;
    }
    let at_label = 0.0 - (row.factor * row.miss) as f32;
    // The mean over a zero denominator.
    let share = if row.factor.is_nan() { Share::Undefined } else { row.share };
    match share {
        Share::Spread { shift, exponent, share } => {
            let (mantissa, power) = mantissa_and_power(share * row.factor);
            let term = Exp::new(s, Scale { shift, power: power - exponent });
            let mantissa = s.splat(mantissa);
            buffers.map(
                s,
                start,
                classes,
                #[inline(always)]
                |x| term.times(s, x, mantissa),
            );
        }
        Share::Certain(class) if class == row.label => {
            buffers.gradient(start, classes).fill(0.0);
            return;
        }
        Share::Certain(class) => {
            let gradient = buffers.gradient(start, classes);
            gradient.fill(0.0);
            if let Some(certain) = gradient.get_mut(class) {
                *certain = row.factor as f32;
            }
        }
        Share::Undefined => {
            buffers.gradient(start, classes).fill(f32::NAN);
            return;
        }
    }
    if let Some(gradient) = buffers.gradient(start, classes).get_mut(row.label) {
        *gradient = at_label;
    }
}

/// factor = mantissa·2^power with |mantissa| in [√½, √2) where the power allows, and |power| at most 300: beyond, every
/// product with a probability is 0 or ±∞ either way.
#[inline(always)]
fn mantissa_and_power(factor: f64) -> (f32, f32) {
    if factor == 0.0 {
        return (0.0, 0.0);
    }
    let bits = factor.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits(bits & 0x800f_ffff_ffff_ffff | 1023 << 52);
    // 2^127 is the largest power that an f32 holds.
    let halve = mantissa.abs() >= core::f64::consts::SQRT_2 && exponent != 127;
    let (mantissa, exponent) = if halve { (mantissa * 0.5, exponent + 1) } else { (mantissa, exponent) };
    (mantissa as f32, exponent.clamp(-300, 300) as f32)
}
