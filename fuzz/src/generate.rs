//! From bytes to f32: values that are likely to be hard, and every other one too.

use crate::common::{REGIMES, Rng};
use arbitrary::{Arbitrary, Result, Unstructured};

/// Limits of f32 and of the kernels.
pub const SPECIAL: [f32; 48] = [
    0.0,
    -0.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    // Signalling, negative and with a payload.
    f32::from_bits(0x7f80_0001),
    f32::from_bits(0xffc0_0000),
    f32::from_bits(0x7fff_ffff),
    f32::from_bits(0xff80_1234),
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    // Subnormal.
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007f_ffff),
    1.0,
    -1.0,
    0.5,
    2.0,
    1e-3,
    17.0,
    -17.0,
    1e8,
    -1e8,
    16_777_216.0,
    1e30,
    -1e30,
    1e-30,
    // Where exp(±x) becomes subnormal, overflows, and underflows.
    87.336_54,
    -87.336_54,
    88.722_84,
    -88.722_84,
    103.972_08,
    -103.972_08,
    // Ends of the range that needs no reference, and from where a reference is subtracted.
    44.015,
    -44.708,
    384.0,
    -384.0,
    // Limits of exponents to base 2 and e, in f32 and f64, and values near them.
    127.5,
    -127.5,
    63.5,
    44.361_42,
    709.782_7,
    -745.133_2,
    3.0e38,
    -3.0e38,
    f32::EPSILON,
];

/// Any f32, by its bits.
pub(crate) fn raw(u: &mut Unstructured<'_>) -> Result<f32> {
    Ok(f32::from_bits(u.arbitrary()?))
}

fn special(u: &mut Unstructured<'_>) -> Result<f32> {
    u.choose(&SPECIAL).copied()
}

/// Any f32: a special one, a small one, or one by its bits.
pub(crate) fn any(u: &mut Unstructured<'_>) -> Result<f32> {
    Ok(match u.arbitrary::<u8>()? {
        0..96 => special(u)?,
        96..192 => f32::from(u.arbitrary::<i8>()?) / 8.0,
        _ => raw(u)?,
    })
}

/// The cost, or 1 where products of costs might overflow or underflow.
pub(crate) fn moderate(cost: f32) -> f32 {
    if cost == 0.0 || (1e-9..1e9).contains(&cost.abs()) { cost } else { 1.0 }
}

/// The weight, or 0 where losses with several terms need not keep its digits.
pub(crate) fn not_tiny(number: f32) -> f32 {
    if number.abs() < 1e-15 { 0.0 } else { number }
}

/// Any finite f32, not below 0 where it must not be.
pub(crate) fn cost(u: &mut Unstructured<'_>, may_be_negative: bool) -> Result<f32> {
    let number = match u.arbitrary::<u8>()? {
        0..32 => 0.0,
        32..96 => 1.0,
        96..192 => f32::from(u.arbitrary::<u8>()?) / 16.0,
        _ => any(u)?,
    };
    Ok(match number {
        _ if !number.is_finite() => 1.0,
        _ if may_be_negative => number,
        _ => number.abs(),
    })
}

/// `count` costs.
pub(crate) fn costs(u: &mut Unstructured<'_>, count: usize, may_be_negative: bool) -> Result<Vec<f32>> {
    if count <= MOST_BY_BYTES {
        return (0..count).map(|_| cost(u, may_be_negative)).collect();
    }
    let mut rng = Rng(u.arbitrary()?);
    Ok((0..count).map(|_| [0.0, 1.0, rng.between(0.0, 9.0), rng.between(0.0, 0.01)][rng.below(4)]).collect())
}

/// [`costs`], or `None`.
pub(crate) fn optional_costs(
    u: &mut Unstructured<'_>,
    count: usize,
    may_be_negative: bool,
) -> Result<Option<Vec<f32>>> {
    if u.arbitrary()? { costs(u, count, may_be_negative).map(Some) } else { Ok(None) }
}

/// Longer arrays are generated from a seed in the input.
const MOST_BY_BYTES: usize = 48;

/// How the logits of a row are made.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    /// Each by its bits.
    Raw,
    /// Each from [`SPECIAL`].
    Special,
    /// Each a centre plus a multiple of a step.
    Grid,
    /// A regime of the tests.
    Regime,
    /// All the same, but for a few.
    Ties,
}

/// Any row of logits, mostly without NaN and +∞ where `mostly_finite` is set.
pub(crate) fn row(u: &mut Unstructured<'_>, classes: usize, label: usize, mostly_finite: bool) -> Result<Vec<f32>> {
    let long = classes > MOST_BY_BYTES;
    let kind = match u.arbitrary::<u8>()? % 8 {
        0 if !long => Kind::Raw,
        1 if !long => Kind::Special,
        2..5 if !long => Kind::Grid,
        5 => Kind::Ties,
        _ => Kind::Regime,
    };
    let mut row = match kind {
        Kind::Raw => (0..classes).map(|_| raw(u)).collect::<Result<Vec<f32>>>()?,
        Kind::Special => (0..classes).map(|_| special(u)).collect::<Result<_>>()?,
        Kind::Grid => {
            let step = *u.choose(&[1.0, 0.125, 1.0 / 4096.0, 1e-6, 8.0, 1e-40, 1e35])?;
            let centre = any(u)?;
            (0..classes).map(|_| Ok(centre + step * f32::from(u.arbitrary::<i8>()?))).collect::<Result<_>>()?
        }
        Kind::Ties => vec![any(u)?; classes],
        Kind::Regime => {
            let regime = *u.choose(&REGIMES)?;
            let (mut row, at) = regime.row(classes, &mut Rng(u.arbitrary()?));
            row.swap(at, label);
            row
        }
    };
    if mostly_finite && !u.ratio(1, 16)? {
        row.iter_mut().filter(|x| x.is_nan() || **x == f32::INFINITY).for_each(|x| *x = 0.0);
    }
    for _ in 0..u.int_in_range(0..=3)? {
        let (at, x) = (u.choose_index(classes)?, any(u)?);
        if !mostly_finite || x < f32::INFINITY {
            row[at] = x;
        }
    }
    Ok(row)
}

/// A number of classes: mostly few, now and then more than are added in f32 at once.
pub(crate) fn classes(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.arbitrary::<u8>()? {
        choice @ 0..216 => 1 + usize::from(choice % 40),
        216..246 => u.int_in_range(41..=140)?,
        _ => u.int_in_range(141..=600)?,
    })
}
