//! Every numeric limit of the kernel, with its derivation, and the sizes of tiles, pieces and chunks.

use crate::backend::Backend;
use crate::backend::vector::VIRTUAL_LANES;

/// The rows of a block: one per virtual lane; a single one where memory is small, since phases store scalars of each.
pub(crate) const ROWS: usize = if Backend::ONLY_SCALAR { 1 } else { VIRTUAL_LANES };

/// The classes of a row whose exponentials are added in f32, before f64 takes over.
pub(crate) const SUMMED_IN_F32: usize = 128;

/// The partial sums of so many classes in f32 ([`super::partial_sums`]), and the classes of a piece of columns
/// ([`super::column_sums`]).
pub(crate) const PIECE: usize = 4 * VIRTUAL_LANES;

/// Rows of up to so many classes are faster in columns than one by one, even a few of them.
pub(crate) const NARROW: usize = 2 * VIRTUAL_LANES;

/// The logits of a chunk of rows: some ten microseconds of work, enough to hand to another thread, and for adding the
/// sums of chunks to cost nothing.
pub(crate) const CHUNK: usize = 1 << 15;

/// Elements that vector loads may reach beyond the end of a row: a block, so that the terms of one are in bounds. None with
/// one lane.
pub(crate) const REACH: usize = if Backend::ONLY_SCALAR { 0 } else { SUMMED_IN_F32 };

/// Prefetch distance in logits, one piece of a long row: the next piece arrives while sums are added up in the tile,
/// where hardware prefetchers see no logits being read.
pub(crate) const PREFETCH_DISTANCE: usize = 2048;

/// The logits of the only tile where memory is small.
pub(crate) const SMALLEST: usize = 128;

/// Up to so many rows of up to so many classes are faster in registers than in a tile ([`super::few_rows`]).
pub(crate) const FEW: usize = 3;
pub(crate) const SHORT: usize = 32;

/// exp(x) needs no reference if x·log2 e, rounded to a step of [`super::exp`], is in [−64, 64): with this bias its integer
/// part has 7 bits. Sums of 2⁵⁷ such exponentials stay within f32; quotients of two may be subnormal,
/// from 2⁻¹²⁸ on.
pub(crate) const FAST_BIAS: u32 = 64;

/// A reference smaller than this is applied as a power of two. From here on it is subtracted from the logits, exactly
/// where it matters: f32 subtraction is exact within a factor of 2, and beyond that exponentials are below exp(−192),
/// less than every result, weights included.
pub(crate) const FAR: f32 = 384.0;

/// Exponentials with a reference are at most 4·√2, and underflow below 2⁻¹²⁶. Scaled by 2^`RAISE` they underflow below
/// 2⁻²⁴², and the 128 of them that one lane adds in f32 cannot overflow, nor the 16 of a virtual lane.
pub(crate) const RAISE: f32 = 116.0;

/// [`RAISE`] where weights and costs multiply exponentials in f32: smaller, with headroom for costs above and for
/// shares of 2⁻⁴⁰ below.
pub(crate) const TERM_RAISE: f32 = 84.0;
/// Of n exponentials at that scale those that underflow, below 2⁻¹²⁶ each, are at most 2⁻²⁴ of a sum of n times this.
pub(crate) const LEAST_TERM_SUM: f64 = f64::from_bits((1023 - 102) << 52);
/// 128 products of such costs and exponentials, 4·√2 each at that scale, cannot overflow in f32.
pub(crate) const LARGEST_TERM_COST: f32 = f32::from_bits((127 + 33) << 23);
/// With such costs and up to this sample weight over n, n exponentials that underflow at that scale do not matter: times a
/// share of 2⁻⁸³ they are below half of the smallest subnormal.
pub(crate) const LARGEST_TERM_SAMPLE: f64 = f64::from_bits((1023 + 23) << 52);
/// Of rows in range, n products of costs and exponentials below 2⁻¹²⁶ are each rounded to a multiple of 2⁻¹⁴⁹. Times a
/// factor of up to 1/n, the share included, that is below half of the smallest subnormal. Where Σ fp·p is at least this
/// it is below 2⁻²⁴ of the sum, as the share is at most 2⁶³ and n at most 2¹².
pub(crate) const LEAST_COST: f64 = f64::from_bits((1023 - 51) << 52);
/// Where a processor rounds toward zero, overflow gives the largest f32, not ∞. With a largest logit of at most this, a
/// gap that overflows is almost exact even so; a loss of at most [`LARGEST_TERM_LOSS`] has no term that overflowed.
pub(crate) const LARGEST_TERM_LOGIT: f32 = f32::from_bits((127 + 100) << 23);
pub(crate) const LARGEST_TERM_LOSS: f64 = f64::from_bits((1023 + 126) << 52);

/// Multiplied by at most this, scaled exponentials that underflow do not matter: 2⁻¹²⁶·2⁻²⁴ is half of the smallest
/// subnormal.
pub(crate) const UNDERFLOW_SCALE: f64 = f64::from_bits((1023 - 24) << 52);

/// Addends of a gradient element that are at most this cannot overflow when they are added in f32.
pub(crate) const LARGEST_PART: f64 = f64::from_bits((1023 + 100) << 52);

/// exp(x) of a row scalar is 2^k·m in f64, with k clamped to ±this: 2^k times a sum of 2⁶⁴ scaled exponentials stays
/// within f64, and smaller powers are 0 in f32 after any product of three f32 weights and a denominator (10^±159).
pub(crate) const LARGEST_POWER: f64 = 800.0;

/// Up to this 1 − p is E = (1 − p)/p to all digits of f64, and above it not affected by the clamp of [`LARGEST_POWER`]
/// (2⁻⁸⁰⁰ is 10⁻²⁴¹).
pub(crate) const SMALL_MISS: f64 = 1e-100;

/// From this gap of two to four classes on e^gap is a normal f32, at least 2⁻¹²⁴·√½; below, it may be subnormal. Up to its
/// negative e^gap is at most 2¹²⁴·√2.
pub(crate) const LEAST_GAP: f32 = -86.0;

/// Below this gap e^gap, less than 2⁻¹⁰⁰⁹, is 0 in f32 after any product of three f32 weights and a denominator (10^±159),
/// and nothing beside 1.
pub(crate) const NO_GAP: f32 = -700.0;

/// The product of two weights, from this size on, is the sum of two normal f32.
pub(crate) const LEAST_SPLIT: f32 = f32::from_bits((127 - 100) << 23);

/// Classes of 8 rows whose expected costs are added up at once: the f64 arrays fill half of a first cache. Few classes
/// take smaller ones, with less to be zeroed.
pub(crate) const DECIDED_AT_ONCE: usize = 128;
pub(crate) const FEW_DECIDED: usize = 16;
