//! AVX-512, AVX2 and NEON: pulp's tokens, each a proof that the processor has the instructions.

use core::slice::from_ref;

use super::vector::{Operation, Vector};
use pulp::bytemuck::{Zeroable, bytes_of, cast_slice, cast_slice_mut, try_pod_read_unaligned};

/// A token of pulp as a [`Vector`]. All of the tokens used here have a hardware FMA.
#[derive(Clone, Copy)]
pub(super) struct Pulp<S>(pub(super) S);

struct WithToken<O>(O);

impl<O: Operation> pulp::WithSimd for WithToken<O> {
    type Output = O::Output;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> O::Output {
        self.0.run(Pulp(simd))
    }
}

impl<S: pulp::Simd> Vector for Pulp<S> {
    const LANES: usize = S::F32_LANES;
    const FUSED: bool = true;
    type F = S::f32s;
    type U = S::u32s;
    type M = S::m32s;

    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        self.0.vectorize(WithToken(operation))
    }
    #[inline(always)]
    fn splat(self, value: f32) -> S::f32s {
        self.0.splat_f32s(value)
    }
    #[inline(always)]
    fn splat_bits(self, value: u32) -> S::u32s {
        self.0.splat_u32s(value)
    }
    #[inline(always)]
    fn load(self, from: &[f32], at: usize) -> S::f32s {
        let lanes = from.get(at..).and_then(|rest| rest.get(..S::F32_LANES)).unwrap_or(&[]);
        try_pod_read_unaligned(cast_slice(lanes)).unwrap_or(S::f32s::zeroed())
    }
    #[inline(always)]
    fn store(self, values: S::f32s, to: &mut [f32], at: usize) {
        if let Some(lanes) = to.get_mut(at..).and_then(|rest| rest.get_mut(..S::F32_LANES)) {
            cast_slice_mut(lanes).copy_from_slice(bytes_of(&values));
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
