//! What a backend must offer: a vector of f32 and a dozen operations on it.

use crate::kernel::VIRTUAL_LANES;

/// A computation that is written once, over any [`Vector`].
///
/// Its body must be `#[inline(always)]`, with everything that it calls on a vector: only what is inlined into
/// [`Vector::run`] is compiled with the instructions of the backend.
pub(crate) trait Operation {
    /// What it computes.
    type Output;
    /// Computes it with the vectors of `s`.
    fn run<S: Vector>(self, s: S) -> Self::Output;
}

/// The instructions of one backend. A value is a proof that the processor has them.
///
/// Everything here is exact or correctly rounded, so that two backends with the same [`Vector::FUSED`] return the same
/// bits. Lanes meet in [`Vector::zip`] alone, which only moves numbers: the kernels reduce in a fixed order of their own.
pub(crate) trait Vector: Copy {
    /// Number of f32 in a vector: a divisor of [`VIRTUAL_LANES`].
    const LANES: usize;
    /// Whether there are several. What one lane does otherwise is a matter of speed and size.
    const WIDE: bool = Self::LANES > 1;
    /// Number of vectors that hold one number for each virtual lane.
    const GROUPS: usize = VIRTUAL_LANES / Self::LANES;
    /// Whether [`Vector::mul_add`] rounds once.
    const FUSED: bool;
    /// A vector of f32.
    type F: Copy;
    /// A vector of the same number of u32.
    type U: Copy;
    /// The result of a comparison, lane by lane.
    type M: Copy;
    /// One lane with the same instructions, for rows too few to fill a vector.
    type Lane: Vector<F = f32, U = u32, M = bool>;

    /// Runs `operation` with the instructions of this backend enabled.
    fn run<O: Operation>(self, operation: O) -> O::Output;

    /// One lane with the same instructions.
    fn lane(self) -> Self::Lane;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::F;
    /// `value` in every lane.
    fn splat_bits(self, value: u32) -> Self::U;
    /// `from[at..at + LANES]`; zeros where that is out of bounds, which no caller asks for.
    fn load(self, from: &[f32], at: usize) -> Self::F;
    /// `from[at..at + LANES]`, unless that is out of bounds.
    fn load_inside(self, from: &[f32], at: usize) -> Option<Self::F>;
    /// Writes the lanes to `to[at..at + LANES]`; nothing where that is out of bounds, which no caller asks for.
    fn store(self, values: Self::F, to: &mut [f32], at: usize);

    /// a + b
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once where [`Vector::FUSED`], else twice.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger of `x` and `floor`; NaN where `x` is NaN. `floor` is not NaN.
    fn at_least(self, x: Self::F, floor: Self::F) -> Self::F;
    /// The smaller of `x` and `ceiling`; NaN where `x` is NaN. `ceiling` is not NaN.
    fn at_most(self, x: Self::F, ceiling: Self::F) -> Self::F;

    /// a = b
    fn equal(self, a: Self::F, b: Self::F) -> Self::M;
    /// a < b, false where either is NaN
    fn less(self, a: Self::F, b: Self::F) -> Self::M;
    /// `yes` where `mask` is set, else `no`
    fn select(self, mask: Self::M, yes: Self::F, no: Self::F) -> Self::F;

    /// The lanes of both in turn, a first: those of the lower halves, and those of the upper halves; of one lane each,
    /// the two as they are.
    fn zip(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);

    /// The bits of each lane.
    fn to_bits(self, a: Self::F) -> Self::U;
    /// The f32 with these bits.
    fn of_bits(self, a: Self::U) -> Self::F;
    /// a + b, wrapping
    fn add_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a − b, wrapping
    fn sub_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a & b
    fn and_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a | b
    fn or_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a = b
    fn equal_bits(self, a: Self::U, b: Self::U) -> Self::M;
    /// Whether any bit of any lane is set.
    fn any_bit(self, a: Self::U) -> bool;
    /// a << N
    fn shift_left<const N: u32>(self, a: Self::U) -> Self::U;
    /// a >> N, zeros coming in
    fn shift_right<const N: u32>(self, a: Self::U) -> Self::U;
}
