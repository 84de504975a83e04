//! Every numeric limit of the kernel, with its derivation, and the sizes of what is computed at once.

use crate::backend::Backend;
use crate::backend::vector::VIRTUAL_LANES;

/// The rows of a block: as many as there are virtual lanes; one where memory is small, since every phase holds some numbers of
/// each of them.
pub(crate) const ROWS: usize = if Backend::ONLY_SCALAR { 1 } else { VIRTUAL_LANES };

/// The number of classes that are added in f32.
pub(crate) const BLOCK: usize = 128;

/// The logits of a chunk of rows: some ten microseconds of work, so that it may be handed to another thread, and enough for
/// sums of chunks to cost nothing.
pub(crate) const CHUNK: usize = 1 << 15;

/// Vectors reach at most this far beyond a row: two columns. One lane does not.
pub(crate) const REACH: usize = if Backend::ONLY_SCALAR { 0 } else { 2 * VIRTUAL_LANES };

/// How far ahead logits are asked for: they come from memory while sums are added up, for which a processor that fetches ahead
/// by itself sees nothing to do. As long a piece of a row as is computed at once.
pub(crate) const AHEAD: usize = 2048;

/// The logits of the only tile of small memories.
pub(crate) const SMALLEST: usize = 128;

/// The number of rows up to which this is faster than a tile, and that of their classes.
pub(crate) const FEW: usize = 3;
pub(crate) const SHORT: usize = 32;

/// exp(x) for x·log2 e rounded to an integer k in [−64, 63] is computed without a reference: 64 is the bias that makes
/// such a k a number of 7 bits ([`super::exp::Exponentials`]). Sums of 2⁵⁷ of them stay within f32, and quotients of two
/// are normal numbers down to 2⁻¹²⁶.
pub(crate) const FAST_BIAS: u32 = 64;

/// Below this a reference is applied as a power of two; from here on it is subtracted from the logits first, which is exact
/// for every difference that matters: f32 subtraction is exact within a factor of 2, and exp(−192) is below every result,
/// weights included.
pub(crate) const FAR: f32 = 384.0;

/// Exponentials with a reference are at most 4·√2, and 0 below 2⁻¹²⁶. Raised by this power of two they are 0 below 2⁻²⁴⁶, and 16
/// of them, as many as are added in f32 by one lane of a block, have a sum within f32.
pub(crate) const RAISE: f32 = 120.0;

/// Where weights and costs are multiplied with exponentials in f32, they are raised by less: there is room for costs above, and
/// for shares of 2⁻⁴⁰ below.
pub(crate) const TERM_RAISE: f32 = 84.0;
/// What is then lost of exponentials that are 0 does not matter in a sum of 4096 that is no smaller than this.
pub(crate) const LEAST_TERM_SUM: f64 = f64::from_bits((1023 - 90) << 52);
pub(crate) const LARGEST_TERM_COST: f32 = f32::from_bits((127 + 36) << 23);
/// Where a processor rounds toward zero, what is beyond f32 is its largest number. With such a largest logit a gap is all but
/// right even so, and a loss that is no larger has no term beyond f32.
pub(crate) const LARGEST_TERM_LOGIT: f32 = f32::from_bits((127 + 100) << 23);
pub(crate) const LARGEST_TERM_LOSS: f64 = f64::from_bits((1023 + 126) << 52);

/// Beside a factor of raised exponentials that is no larger than this, those that are 0 do not matter: 2⁻¹⁵⁰ is half of the
/// least f32.
pub(crate) const FAR_SCALE: f64 = f64::from_bits((1023 - 24) << 52);

/// Parts of an element of a gradient that are no larger than this have sums within f32.
pub(crate) const LARGEST_PART: f64 = f64::from_bits((1023 + 100) << 52);

/// exp(x) of row scalars in f64 is 2^k·m with k kept in ±this: such a power and a sum of 2⁶⁴ raised exponentials stay within
/// f64, and what is smaller is 0 beside any product of three weights of f32 and a denominator (10^±159).
pub(crate) const POWERS: f64 = 800.0;

/// Two classes whose gap is below this have an exponential that is no normal f32 (2⁻¹²⁴·√½ is).
pub(crate) const LEAST_GAP: f32 = -86.0;

/// The classes of 8 rows whose expected costs are added up at once: in f64 they fill half of a first cache. With fewer of them
/// less has to be set to zero.
pub(crate) const DECIDED_AT_ONCE: usize = 128;
pub(crate) const FEW_DECIDED: usize = 16;
