//! AVX-512, AVX2 and NEON: pulp's tokens, each a proof that the processor has the instructions.

use core::slice::from_ref;

use super::scalar::{MulAdd, Scalar};
use super::vector::{Operation, Vector};
use pulp::bytemuck::{Zeroable, cast, cast_slice};

/// A token of pulp as a [`Vector`]. All of the tokens used here have a hardware FMA.
#[derive(Clone, Copy)]
pub(super) struct Pulp<S>(pub(super) S);

struct WithToken<T, O>(T, O);

impl<T: Token, O: Operation> pulp::WithSimd for WithToken<T, O> {
    type Output = O::Output;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> O::Output {
        // Also a token of pulp's, of the same type, but of which more is known.
        self.1.run(Pulp(self.0))
    }
}

/// The operations that pulp does not have for every token.
pub(super) trait Token: pulp::Simd {
    /// [`Vector::zip`]
    fn zip(self, a: Self::f32s, b: Self::f32s) -> (Self::f32s, Self::f32s);
    /// a · b + c of one lane, rounded once.
    fn mul_add_of_lane(self, a: f32, b: f32, c: f32) -> f32;
}

#[cfg(target_arch = "x86_64")]
impl Token for pulp::x86::V4 {
    #[inline(always)]
    fn zip(self, a: pulp::f32x16, b: pulp::f32x16) -> (pulp::f32x16, pulp::f32x16) {
        let low = pulp::u32x16(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = pulp::u32x16(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        let first = self.avx512f._mm512_permutex2var_ps(cast(a), cast(low), cast(b));
        (cast(first), cast(self.avx512f._mm512_permutex2var_ps(cast(a), cast(high), cast(b))))
    }
    #[inline(always)]
    fn mul_add_of_lane(self, a: f32, b: f32, c: f32) -> f32 {
        (*self).mul_add_of_lane(a, b, c)
    }
}

#[cfg(target_arch = "x86_64")]
impl Token for pulp::x86::V3 {
    #[inline(always)]
    fn zip(self, a: pulp::f32x8, b: pulp::f32x8) -> (pulp::f32x8, pulp::f32x8) {
        // Each half of a register by itself.
        let low = self.avx._mm256_unpacklo_ps(cast(a), cast(b));
        let high = self.avx._mm256_unpackhi_ps(cast(a), cast(b));
        let first = self.avx._mm256_permute2f128_ps::<0x20>(low, high);
        (cast(first), cast(self.avx._mm256_permute2f128_ps::<0x31>(low, high)))
    }
    #[inline(always)]
    fn mul_add_of_lane(self, a: f32, b: f32, c: f32) -> f32 {
        let lane = |x| self.sse._mm_set_ss(x);
        self.sse._mm_cvtss_f32(self.fma._mm_fmadd_ss(lane(a), lane(b), lane(c)))
    }
}

#[cfg(target_arch = "aarch64")]
impl Token for pulp::aarch64::Neon {
    #[inline(always)]
    fn zip(self, a: pulp::f32x4, b: pulp::f32x4) -> (pulp::f32x4, pulp::f32x4) {
        let (a, b) = (cast(a), cast(b));
        (cast(self.neon.vzip1q_f32(a, b)), cast(self.neon.vzip2q_f32(a, b)))
    }
    #[inline(always)]
    fn mul_add_of_lane(self, a: f32, b: f32, c: f32) -> f32 {
        self.neon.vfmas_lane_f32::<0>(c, b, self.neon.vdup_n_f32(a))
    }
}

/// The multiply-add of one lane with the instruction that vectors have too.
#[derive(Clone, Copy)]
pub(super) struct Instruction<S>(S);

impl<S: Token> MulAdd for Instruction<S> {
    const FUSED: bool = true;
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        self.0.mul_add_of_lane(a, b, c)
    }
    // What a lane runs as a function of its own is a whole row, for which there are vectors.
    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        Pulp(self.0).run(operation)
    }
}

impl<S: Token> Vector for Pulp<S> {
    const LANES: usize = S::F32_LANES;
    const FUSED: bool = true;
    type F = S::f32s;
    type U = S::u32s;
    type M = S::m32s;
    type Lane = Scalar<Instruction<S>>;

    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        self.0.vectorize(WithToken(self.0, operation))
    }
    #[inline(always)]
    fn lane(self) -> Self::Lane {
        Scalar(Instruction(self.0))
    }
    #[inline(always)]
    fn splat(self, value: f32) -> S::f32s {
        self.0.splat_f32s(value)
    }
    #[inline(always)]
    fn splat_bits(self, value: u32) -> S::u32s {
        self.0.splat_u32s(value)
    }
    // Two selects and no branch, which the compiler schedules better.
    #[inline(always)]
    fn load(self, from: &[f32], at: usize) -> S::f32s {
        let (vectors, _) = S::as_simd_f32s(from.get(at..).unwrap_or(&[]));
        vectors.first().copied().unwrap_or(S::f32s::zeroed())
    }
    #[inline(always)]
    fn load_inside(self, from: &[f32], at: usize) -> Option<S::f32s> {
        let (vectors, _) = S::as_simd_f32s(from.get(at..)?);
        vectors.first().copied()
    }
    #[inline(always)]
    fn store(self, values: S::f32s, to: &mut [f32], at: usize) {
        let (vectors, _) = S::as_mut_simd_f32s(to.get_mut(at..).unwrap_or(&mut []));
        if let Some(vector) = vectors.first_mut() {
            *vector = values;
        }
    }
    #[inline(always)]
    fn add(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.add_f32s(a, b)
    }
    #[inline(always)]
    fn sub(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.sub_f32s(a, b)
    }
    #[inline(always)]
    fn mul(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.mul_f32s(a, b)
    }
    #[inline(always)]
    fn div(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.div_f32s(a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        self.0.mul_add_f32s(a, b, c)
    }
    // x86 returns the second operand where either is NaN, aarch64 a NaN.
    #[inline(always)]
    fn at_least(self, x: S::f32s, floor: S::f32s) -> S::f32s {
        self.0.max_f32s(floor, x)
    }
    #[inline(always)]
    fn at_most(self, x: S::f32s, ceiling: S::f32s) -> S::f32s {
        self.0.min_f32s(ceiling, x)
    }
    #[inline(always)]
    fn equal(self, a: S::f32s, b: S::f32s) -> S::m32s {
        self.0.equal_f32s(a, b)
    }
    #[inline(always)]
    fn less(self, a: S::f32s, b: S::f32s) -> S::m32s {
        self.0.less_than_f32s(a, b)
    }
    #[inline(always)]
    fn select(self, mask: S::m32s, yes: S::f32s, no: S::f32s) -> S::f32s {
        self.0.select_f32s(mask, yes, no)
    }
    #[inline(always)]
    fn zip(self, a: S::f32s, b: S::f32s) -> (S::f32s, S::f32s) {
        self.0.zip(a, b)
    }
    #[inline(always)]
    fn to_bits(self, a: S::f32s) -> S::u32s {
        self.0.transmute_u32s_f32s(a)
    }
    #[inline(always)]
    fn of_bits(self, a: S::u32s) -> S::f32s {
        self.0.transmute_f32s_u32s(a)
    }
    #[inline(always)]
    fn add_bits(self, a: S::u32s, b: S::u32s) -> S::u32s {
        self.0.add_u32s(a, b)
    }
    #[inline(always)]
    fn sub_bits(self, a: S::u32s, b: S::u32s) -> S::u32s {
        self.0.sub_u32s(a, b)
    }
    #[inline(always)]
    fn and_bits(self, a: S::u32s, b: S::u32s) -> S::u32s {
        self.0.and_u32s(a, b)
    }
    #[inline(always)]
    fn or_bits(self, a: S::u32s, b: S::u32s) -> S::u32s {
        self.0.or_u32s(a, b)
    }
    #[inline(always)]
    fn equal_bits(self, a: S::u32s, b: S::u32s) -> S::m32s {
        self.0.equal_u32s(a, b)
    }
    #[inline(always)]
    fn any_bit(self, a: S::u32s) -> bool {
        cast_slice::<_, u32>(from_ref(&a)).iter().fold(0, |all, lane| all | lane) != 0
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: S::u32s) -> S::u32s {
        self.0.wrapping_dyn_shl_u32s(a, self.0.splat_u32s(N))
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: S::u32s) -> S::u32s {
        self.0.wrapping_dyn_shr_u32s(a, self.0.splat_u32s(N))
    }
}
