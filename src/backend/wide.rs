//! SSE2 and wasm simd128 by the crate `wide`, which chooses at compile time. No fused multiply-add.

use super::scalar::{Scalar, Unfused};
use super::vector::{VIRTUAL_LANES, Vector};
use wide::{f32x4, f64x2, u32x4};

/// Four lanes of the instructions that the compilation target always has.
#[derive(Clone, Copy)]
pub(super) struct Baseline;

#[inline(always)]
fn in_f64(x: f32x4) -> [f64x2; 2] {
    let [a, b, c, d] = x.to_array().map(f64::from);
    [f64x2::new([a, b]), f64x2::new([c, d])]
}

#[inline(always)]
fn add([a, b]: [f64x2; 2], [c, d]: [f64x2; 2]) -> [f64x2; 2] {
    [a + c, b + d]
}

/// The sum of lanes j and j + 4, j and j + 2, 0 and 1.
#[inline(always)]
fn sum_of_four([low, high]: [[f64x2; 2]; 2]) -> f64 {
    let [start, end] = add(low, high);
    let [even, odd] = (start + end).to_array();
    even + odd
}

impl Vector for Baseline {
    const LANES: usize = 4;
    const FUSED: bool = false;
    type F = f32x4;
    type U = u32x4;
    type M = f32x4;
    type Lane = Scalar<Unfused>;

    #[inline(always)]
    fn lane(self) -> Self::Lane {
        Scalar(Unfused)
    }

    type Short = Self;
    #[inline(always)]
    fn short(self) -> Self {
        self
    }

    // Outlined, as in the other backends.
    #[inline(never)]
    fn run<R>(self, phase: impl FnOnce() -> R) -> R {
        phase()
    }
    #[inline(always)]
    fn splat(self, value: f32) -> f32x4 {
        f32x4::splat(value)
    }
    #[inline(always)]
    fn splat_bits(self, value: u32) -> u32x4 {
        u32x4::splat(value)
    }
    #[inline(always)]
    fn load(self, from: &[f32], at: usize) -> f32x4 {
        let lanes = from.get(at..).and_then(|rest| rest.first_chunk::<4>());
        f32x4::new(*lanes.unwrap_or(&[0.0; 4]))
    }
    #[inline(always)]
    fn try_load(self, from: &[f32], at: usize) -> Option<f32x4> {
        Some(f32x4::new(*from.get(at..)?.first_chunk::<4>()?))
    }
    #[inline(always)]
    fn store(self, values: f32x4, to: &mut [f32], at: usize) {
        if let Some(lanes) = to.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *lanes = values.to_array();
        }
    }
    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        a / b
    }
    // Rounds twice even where the compilation target has FMA, as the class of this backend does.
    #[inline(always)]
    fn mul_add(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a * b + c
    }
    // SSE returns the second operand where either is NaN, wasm's pmax and pmin the first.
    #[inline(always)]
    fn at_least(self, x: f32x4, floor: f32x4) -> f32x4 {
        if cfg!(target_feature = "sse") { floor.fast_max(x) } else { x.fast_max(floor) }
    }
    #[inline(always)]
    fn at_most(self, x: f32x4, ceiling: f32x4) -> f32x4 {
        if cfg!(target_feature = "sse") { ceiling.fast_min(x) } else { x.fast_min(ceiling) }
    }
    #[inline(always)]
    fn equal(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_eq(b)
    }
    #[inline(always)]
    fn less(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_lt(b)
    }
    #[inline(always)]
    fn select(self, mask: f32x4, yes: f32x4, no: f32x4) -> f32x4 {
        mask.bitselect(yes, no)
    }
    #[inline(always)]
    fn bits_of_mask(self, mask: f32x4) -> u32 {
        mask.to_bitmask()
    }
    #[inline(always)]
    fn interleave(self, a: f32x4, b: f32x4) -> (f32x4, f32x4) {
        (a.unpack_lo(b), a.unpack_hi(b))
    }
    #[inline(always)]
    fn deinterleave(self, a: f32x4, b: f32x4) -> (f32x4, f32x4) {
        // a0 b0 a1 b1 and a2 b2 a3 b3, then a0 a2 b0 b2 and a1 a3 b1 b3.
        let (low, high) = self.interleave(a, b);
        self.interleave(low, high)
    }
    // Explicit f64 vectors: scalar code would be vectorised across the rows, with more shuffles.
    #[inline(always)]
    fn horizontal_sums(self, of: &[f32x4; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sum, &[a, b, c, d]) in sums.iter_mut().zip(of.as_chunks().0) {
            *sum = sum_of_four([add(in_f64(a), in_f64(c)), add(in_f64(b), in_f64(d))]);
        }
        sums
    }
    #[inline(always)]
    fn sums_of_eights(self, of: &[f32x4; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sum, &[low, high]) in sums.iter_mut().zip(of.as_chunks().0).take(Self::LANES) {
            *sum = sum_of_four([in_f64(low), in_f64(high)]);
        }
        sums
    }
    #[inline(always)]
    fn to_bits(self, a: f32x4) -> u32x4 {
        u32x4::new(a.to_array().map(f32::to_bits))
    }
    #[inline(always)]
    fn of_bits(self, a: u32x4) -> f32x4 {
        f32x4::new(a.to_array().map(f32::from_bits))
    }
    #[inline(always)]
    fn add_bits(self, a: u32x4, b: u32x4) -> u32x4 {
        a + b
    }
    #[inline(always)]
    fn sub_bits(self, a: u32x4, b: u32x4) -> u32x4 {
        a - b
    }
    #[inline(always)]
    fn and_bits(self, a: u32x4, b: u32x4) -> u32x4 {
        a & b
    }
    #[inline(always)]
    fn or_bits(self, a: u32x4, b: u32x4) -> u32x4 {
        a | b
    }
    #[inline(always)]
    fn xor_bits(self, a: u32x4, b: u32x4) -> u32x4 {
        a ^ b
    }
    #[inline(always)]
    fn lookup(self, table: &[u32; 8], indices: u32x4) -> u32x4 {
        u32x4::new(indices.to_array().map(|index| self.lane().lookup(table, index)))
    }
    #[inline(always)]
    fn any_bit(self, a: u32x4) -> bool {
        a.to_array().iter().fold(0, |all, lane| all | lane) != 0
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: u32x4) -> u32x4 {
        a << N
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: u32x4) -> u32x4 {
        a >> N
    }
}
