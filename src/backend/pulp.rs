//! AVX-512, AVX2 and NEON: pulp's tokens, each a proof that the processor has the instructions.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{__m256, __m256d, __m256i, __m512d, _MM_HINT_T1, _mm_prefetch};
#[cfg(target_arch = "aarch64")]
use core::{arch::aarch64::uint8x16x2_t, slice::from_ref};

use super::scalar::{Fused, Scalar};
use super::vector::{VIRTUAL_LANES, Vector, columns_of_fours, fours_of_columns};
#[cfg(target_arch = "aarch64")]
use pulp::Simd;
#[cfg(target_arch = "aarch64")]
use pulp::bytemuck::cast_slice;
use pulp::bytemuck::{Zeroable, cast};
#[cfg(target_arch = "x86_64")]
use pulp::core_arch::x86::Avx;

/// A token of pulp as a [`Vector`]. All of the tokens used here have a hardware FMA.
#[derive(Clone, Copy)]
pub(super) struct Pulp<S>(pub(super) S);

struct Phase<P>(P);

impl<R, P: FnOnce() -> R> pulp::WithSimd for Phase<P> {
    type Output = R;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> R {
        // A local copy, whose fields stay in registers.
        let phase = self.0;
        phase()
    }
}

/// The operations that pulp does not have for every token.
pub(super) trait Token: pulp::Simd {
    /// [`Vector::Short`]
    type Short: Token;
    /// [`Vector::short`]
    fn short(self) -> Self::Short;
    /// [`Vector::interleave`]
    fn interleave(self, a: Self::f32s, b: Self::f32s) -> (Self::f32s, Self::f32s);
    /// [`Vector::deinterleave`]
    fn deinterleave(self, a: Self::f32s, b: Self::f32s) -> (Self::f32s, Self::f32s);
    /// [`Vector::threes_to_fours`], as of four lanes.
    #[inline(always)]
    fn threes_to_fours(self, a: Self::f32s) -> Self::f32s {
        a
    }
    /// [`Vector::fours_to_threes`], as of four lanes.
    #[inline(always)]
    fn fours_to_threes(self, a: Self::f32s) -> Self::f32s {
        a
    }
    /// [`Vector::fours_to_columns`]
    #[inline(always)]
    fn fours_to_columns(self, rows: [Self::f32s; 4]) -> [Self::f32s; 4] {
        columns_of_fours(
            rows,
            #[inline(always)]
            |a, b| Token::deinterleave(self, a, b),
        )
    }
    /// [`Vector::columns_to_fours`]
    #[inline(always)]
    fn columns_to_fours(self, columns: [Self::f32s; 4]) -> [Self::f32s; 4] {
        fours_of_columns(
            columns,
            #[inline(always)]
            |a, b| Token::interleave(self, a, b),
        )
    }
    /// [`Vector::zero_where`]
    #[inline(always)]
    fn zero_where(self, mask: Self::m32s, values: Self::f32s) -> Self::f32s {
        self.select_f32s(mask, self.splat_f32s(0.0), values)
    }
    /// [`Vector::lookup`]
    fn lookup(self, table: &[u32; 8], indices: Self::u32s) -> Self::u32s;
    /// [`Vector::any_bit`]
    fn any_bit(self, a: Self::u32s) -> bool;
    /// [`Vector::load_partial`] of fewer elements than a vector has, zero-filled.
    fn load_part(self, from: &[f32]) -> Self::f32s;
    /// [`Vector::store_partial`] to fewer elements than a vector has.
    fn store_part(self, values: Self::f32s, to: &mut [f32]);
    /// [`Vector::bits_of_mask`]
    fn bits_of_mask(self, mask: Self::m32s) -> u32;
    /// [`Vector::add_halves`]
    #[inline(always)]
    fn add_halves(self, a: Self::f32s) -> Self::f32s {
        a
    }
    /// [`Vector::halves_apart`]
    #[inline(always)]
    fn halves_apart(self, [a, _b]: [Self::f32s; 2]) -> Self::f32s {
        a
    }
    /// [`Vector::horizontal_sums`]
    fn horizontal_sums(self, of: &[Self::f32s; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES];
    /// [`Vector::sums_of_eights`]
    fn sums_of_eights(self, of: &[Self::f32s; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES];
}

/// Lanes 0 to 3 and 4 to 7.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn in_f64(avx: Avx, eight: __m256) -> (__m256d, __m256d) {
    let high = avx._mm256_extractf128_ps::<1>(eight);
    (avx._mm256_cvtps_pd(avx._mm256_castps256_ps128(eight)), avx._mm256_cvtps_pd(high))
}

/// Lanes j and j + 4 of eight, added in f64.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn halves(avx: Avx, eight: __m256) -> __m256d {
    let (low, high) = in_f64(avx, eight);
    avx._mm256_add_pd(low, high)
}

/// Transposes 4×4 elements in each 128-bit half.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn squares_of_four(avx: Avx, [a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    let pairs =
        |a, b| (avx._mm256_castps_pd(avx._mm256_unpacklo_ps(a, b)), avx._mm256_castps_pd(avx._mm256_unpackhi_ps(a, b)));
    let ((first, second), (third, fourth)) = (pairs(a, b), pairs(c, d));
    cast([
        avx._mm256_unpacklo_pd(first, third),
        avx._mm256_unpackhi_pd(first, third),
        avx._mm256_unpacklo_pd(second, fourth),
        avx._mm256_unpackhi_pd(second, fourth),
    ])
}

/// Lanes j and j + 8, then j and j + 4, of sixteen, added in f64.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn halves_of_sixteen(avx: Avx, (low, high): (__m256, __m256)) -> __m256d {
    let ((a, b), (c, d)) = (in_f64(avx, low), in_f64(avx, high));
    avx._mm256_add_pd(avx._mm256_add_pd(a, c), avx._mm256_add_pd(b, d))
}

/// Lanes j and j + 2 of each, added: two sums of `a`, then two of `b`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn quarters(avx: Avx, a: __m256d, b: __m256d) -> __m256d {
    let halves = avx._mm256_blend_pd::<0b1100>(a, b);
    avx._mm256_add_pd(halves, avx._mm256_permute2f128_pd::<0x21>(a, b))
}

/// Horizontal sums of four vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn four_sums(avx: Avx, [a, b, c, d]: [__m256d; 4]) -> [f64; 4] {
    let (even, odd) = (quarters(avx, a, c), quarters(avx, b, d));
    cast(avx._mm256_add_pd(avx._mm256_unpacklo_pd(even, odd), avx._mm256_unpackhi_pd(even, odd)))
}

/// Lanes 0 to 7 and 8 to 15.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn in_halves(s: pulp::x86::V4, x: pulp::f32x16) -> (__m256, __m256) {
    (s.avx512f._mm512_castps512_ps256(cast(x)), cast(s.avx512f._mm512_extractf64x4_pd::<1>(cast(x))))
}

/// Lanes j and j + 8, added in f32.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn eighths(s: pulp::x86::V4, x: pulp::f32x16) -> __m256 {
    let (low, high) = in_halves(s, x);
    s.avx._mm256_add_ps(low, high)
}

/// Lanes j and j + 8 of each, added in f32, then j and j + 4 in f64: four sums of `a`, then four of `b`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fourths(s: pulp::x86::V4, a: pulp::f32x16, b: pulp::f32x16) -> __m512d {
    let (a, b) = (eighths(s, a), eighths(s, b));
    let (low, high) = (s.avx._mm256_permute2f128_ps::<0x20>(a, b), s.avx._mm256_permute2f128_ps::<0x31>(a, b));
    s.avx512f._mm512_add_pd(s.avx512f._mm512_cvtps_pd(low), s.avx512f._mm512_cvtps_pd(high))
}

/// Two partial sums of each vector: those of [`fourths`], j and j + 2 added.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pairs(s: pulp::x86::V4, [a, b, c, d]: [pulp::f32x16; 4]) -> __m512d {
    let (first, second) = (fourths(s, a, b), fourths(s, c, d));
    let low = s.avx512f._mm512_shuffle_f64x2::<0x88>(first, second);
    s.avx512f._mm512_add_pd(low, s.avx512f._mm512_shuffle_f64x2::<0xdd>(first, second))
}

/// The mask of the first `len` lanes of sixteen.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_sixteen(len: usize) -> u16 {
    (1_u32 << len.min(16)).wrapping_sub(1) as u16
}

/// The mask of the first `len` lanes of eight.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_eight(s: pulp::x86::V3, len: usize) -> __m256i {
    let lanes = s.avx._mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    s.avx2._mm256_cmpgt_epi32(s.avx._mm256_set1_epi32(len.min(8) as i32), lanes)
}

#[cfg(target_arch = "x86_64")]
impl Token for pulp::x86::V4 {
    type Short = pulp::x86::V3;
    #[inline(always)]
    fn short(self) -> pulp::x86::V3 {
        *self
    }
    #[inline(always)]
    fn interleave(self, a: pulp::f32x16, b: pulp::f32x16) -> (pulp::f32x16, pulp::f32x16) {
        let low = pulp::u32x16(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = pulp::u32x16(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        let first = self.avx512f._mm512_permutex2var_ps(cast(a), cast(low), cast(b));
        (cast(first), cast(self.avx512f._mm512_permutex2var_ps(cast(a), cast(high), cast(b))))
    }
    #[inline(always)]
    fn deinterleave(self, a: pulp::f32x16, b: pulp::f32x16) -> (pulp::f32x16, pulp::f32x16) {
        let even = pulp::u32x16(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = pulp::u32x16(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        let first = self.avx512f._mm512_permutex2var_ps(cast(a), cast(even), cast(b));
        (cast(first), cast(self.avx512f._mm512_permutex2var_ps(cast(a), cast(odd), cast(b))))
    }
    #[inline(always)]
    fn threes_to_fours(self, a: pulp::f32x16) -> pulp::f32x16 {
        let lanes = pulp::u32x16(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);
        cast(self.avx512f._mm512_permutexvar_ps(cast(lanes), cast(a)))
    }
    #[inline(always)]
    fn fours_to_threes(self, a: pulp::f32x16) -> pulp::f32x16 {
        let lanes = pulp::u32x16(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 15, 15, 15);
        cast(self.avx512f._mm512_permutexvar_ps(cast(lanes), cast(a)))
    }
    #[inline(always)]
    fn lookup(self, &table: &[u32; 8], indices: pulp::u32x16) -> pulp::u32x16 {
        // By four bits.
        cast(self.avx512f._mm512_permutexvar_epi32(cast(indices), cast([table, table])))
    }
    #[inline(always)]
    fn any_bit(self, a: pulp::u32x16) -> bool {
        self.avx512f._mm512_test_epi32_mask(cast(a), cast(a)) != 0
    }
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> pulp::f32x16 {
        // SAFETY: the mask lets only elements of the slice be read.
        cast(unsafe { self.avx512f._mm512_maskz_loadu_ps(first_sixteen(from.len()), from.as_ptr()) })
    }
    #[inline(always)]
    fn store_part(self, values: pulp::f32x16, to: &mut [f32]) {
        // SAFETY: the mask lets only elements of the slice be written.
        unsafe { self.avx512f._mm512_mask_storeu_ps(to.as_mut_ptr(), first_sixteen(to.len()), cast(values)) };
    }
    #[inline(always)]
    fn bits_of_mask(self, mask: pulp::b16) -> u32 {
        u32::from(mask.0)
    }
    #[inline(always)]
    fn horizontal_sums(self, of: &[pulp::f32x16; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sums, &[a, b, c, d]) in sums.as_chunks_mut::<4>().0.iter_mut().zip(of.as_chunks::<4>().0) {
            let (a, b) =
                (halves_of_sixteen(self.avx, in_halves(self, a)), halves_of_sixteen(self.avx, in_halves(self, b)));
            let (c, d) =
                (halves_of_sixteen(self.avx, in_halves(self, c)), halves_of_sixteen(self.avx, in_halves(self, d)));
            *sums = four_sums(self.avx, [a, b, c, d]);
        }
        sums
    }
    #[inline(always)]
    fn sums_of_eights(self, of: &[pulp::f32x16; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sums, of) in sums.as_chunks_mut::<8>().0.iter_mut().zip(of.as_chunks::<8>().0) {
            let &[a, b, c, d, e, f, g, h] = of;
            let (even, odd) = (pairs(self, [a, c, e, g]), pairs(self, [b, d, f, h]));
            let (first, second) =
                (self.avx512f._mm512_unpacklo_pd(even, odd), self.avx512f._mm512_unpackhi_pd(even, odd));
            *sums = cast(self.avx512f._mm512_add_pd(first, second));
        }
        sums
    }
    #[inline(always)]
    fn add_halves(self, a: pulp::f32x16) -> pulp::f32x16 {
        cast([eighths(self, a), self.avx._mm256_setzero_ps()])
    }
    #[inline(always)]
    fn halves_apart(self, [a, b]: [pulp::f32x16; 2]) -> pulp::f32x16 {
        let ((low, high), (others, more)) = (in_halves(self, a), in_halves(self, b));
        // Of two operands one of which is NaN, the second is returned.
        let smaller = self.avx._mm256_min_ps(low, high);
        let others = self.avx._mm256_add_ps(self.avx._mm256_add_ps(others, more), smaller);
        cast([self.avx._mm256_max_ps(high, low), others])
    }
}

#[cfg(target_arch = "x86_64")]
impl Token for pulp::x86::V3 {
    type Short = Self;
    #[inline(always)]
    fn short(self) -> Self {
        self
    }
    #[inline(always)]
    fn interleave(self, a: pulp::f32x8, b: pulp::f32x8) -> (pulp::f32x8, pulp::f32x8) {
        // Interleaves within 128-bit halves, then reorders the halves.
        let low = self.avx._mm256_unpacklo_ps(cast(a), cast(b));
        let high = self.avx._mm256_unpackhi_ps(cast(a), cast(b));
        let first = self.avx._mm256_permute2f128_ps::<0x20>(low, high);
        (cast(first), cast(self.avx._mm256_permute2f128_ps::<0x31>(low, high)))
    }
    #[inline(always)]
    fn deinterleave(self, a: pulp::f32x8, b: pulp::f32x8) -> (pulp::f32x8, pulp::f32x8) {
        // Reorders 128-bit halves, then deinterleaves within them.
        let low = self.avx._mm256_permute2f128_ps::<0x20>(cast(a), cast(b));
        let high = self.avx._mm256_permute2f128_ps::<0x31>(cast(a), cast(b));
        let first = self.avx._mm256_shuffle_ps::<0x88>(low, high);
        let second = self.avx._mm256_shuffle_ps::<0xdd>(low, high);
        (cast(first), cast(second))
    }
    #[inline(always)]
    fn threes_to_fours(self, a: pulp::f32x8) -> pulp::f32x8 {
        let lanes = self.avx._mm256_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6);
        cast(self.avx2._mm256_permutevar8x32_ps(cast(a), lanes))
    }
    #[inline(always)]
    fn fours_to_threes(self, a: pulp::f32x8) -> pulp::f32x8 {
        let lanes = self.avx._mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7);
        cast(self.avx2._mm256_permutevar8x32_ps(cast(a), lanes))
    }
    #[inline(always)]
    fn fours_to_columns(self, rows: [pulp::f32x8; 4]) -> [pulp::f32x8; 4] {
        let (avx, [a, b, c, d]) = (self.avx, cast(rows));
        // Rows i and i + 4, transposed within 128-bit halves.
        let (first, second) = (avx._mm256_permute2f128_ps::<0x20>(a, c), avx._mm256_permute2f128_ps::<0x31>(a, c));
        let (third, fourth) = (avx._mm256_permute2f128_ps::<0x20>(b, d), avx._mm256_permute2f128_ps::<0x31>(b, d));
        cast(squares_of_four(avx, [first, second, third, fourth]))
    }
    #[inline(always)]
    fn columns_to_fours(self, columns: [pulp::f32x8; 4]) -> [pulp::f32x8; 4] {
        let [a, b, c, d] = squares_of_four(self.avx, cast(columns));
        let (low, high) =
            (self.avx._mm256_permute2f128_ps::<0x20>(a, b), self.avx._mm256_permute2f128_ps::<0x31>(a, b));
        let more = self.avx._mm256_permute2f128_ps::<0x20>(c, d);
        cast([low, more, high, self.avx._mm256_permute2f128_ps::<0x31>(c, d)])
    }
    #[inline(always)]
    fn zero_where(self, mask: pulp::m32x8, values: pulp::f32x8) -> pulp::f32x8 {
        // From a selection compilers make three instructions.
        cast(self.avx._mm256_andnot_ps(cast(mask), cast(values)))
    }
    #[inline(always)]
    fn lookup(self, &table: &[u32; 8], indices: pulp::u32x8) -> pulp::u32x8 {
        cast(self.avx2._mm256_permutevar8x32_epi32(cast(table), cast(indices)))
    }
    #[inline(always)]
    fn any_bit(self, a: pulp::u32x8) -> bool {
        self.avx._mm256_testz_si256(cast(a), cast(a)) == 0
    }
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> pulp::f32x8 {
        // SAFETY: the mask lets only elements of the slice be read.
        cast(unsafe { self.avx._mm256_maskload_ps(from.as_ptr(), first_eight(self, from.len())) })
    }
    #[inline(always)]
    fn store_part(self, values: pulp::f32x8, to: &mut [f32]) {
        // SAFETY: the mask lets only elements of the slice be written.
        unsafe { self.avx._mm256_maskstore_ps(to.as_mut_ptr(), first_eight(self, to.len()), cast(values)) };
    }
    #[inline(always)]
    fn bits_of_mask(self, mask: pulp::m32x8) -> u32 {
        self.avx._mm256_movemask_ps(cast(mask)) as u32
    }
    #[inline(always)]
    fn horizontal_sums(self, of: &[pulp::f32x8; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sums, &[a, b, c, d, e, f, g, h]) in sums.as_chunks_mut::<4>().0.iter_mut().zip(of.as_chunks().0) {
            let (first, second) =
                (halves_of_sixteen(self.avx, (cast(a), cast(b))), halves_of_sixteen(self.avx, (cast(c), cast(d))));
            let (third, fourth) =
                (halves_of_sixteen(self.avx, (cast(e), cast(f))), halves_of_sixteen(self.avx, (cast(g), cast(h))));
            *sums = four_sums(self.avx, [first, second, third, fourth]);
        }
        sums
    }
    #[inline(always)]
    fn sums_of_eights(self, of: &[pulp::f32x8; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sums, &[a, b, c, d]) in sums.as_chunks_mut::<4>().0.iter_mut().zip(of.as_chunks::<4>().0).take(2) {
            let (a, b) = (halves(self.avx, cast(a)), halves(self.avx, cast(b)));
            *sums = four_sums(self.avx, [a, b, halves(self.avx, cast(c)), halves(self.avx, cast(d))]);
        }
        sums
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn in_f64(x: pulp::f32x4) -> [pulp::f64x2; 2] {
    [pulp::f64x2(f64::from(x.0), f64::from(x.1)), pulp::f64x2(f64::from(x.2), f64::from(x.3))]
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn add(s: pulp::aarch64::Neon, [a, b]: [pulp::f64x2; 2], [c, d]: [pulp::f64x2; 2]) -> [pulp::f64x2; 2] {
    [s.add_f64s(a, c), s.add_f64s(b, d)]
}

/// The sum of lanes j and j + 4, j and j + 2, 0 and 1.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn sum_of_four(s: pulp::aarch64::Neon, [low, high]: [[pulp::f64x2; 2]; 2]) -> f64 {
    let [start, end] = add(s, low, high);
    let halves = s.add_f64s(start, end);
    halves.0 + halves.1
}

#[cfg(target_arch = "aarch64")]
impl Token for pulp::aarch64::Neon {
    type Short = Self;
    #[inline(always)]
    fn short(self) -> Self {
        self
    }
    #[inline(always)]
    fn interleave(self, a: pulp::f32x4, b: pulp::f32x4) -> (pulp::f32x4, pulp::f32x4) {
        let (a, b) = (cast(a), cast(b));
        (cast(self.neon.vzip1q_f32(a, b)), cast(self.neon.vzip2q_f32(a, b)))
    }
    #[inline(always)]
    fn deinterleave(self, a: pulp::f32x4, b: pulp::f32x4) -> (pulp::f32x4, pulp::f32x4) {
        let (a, b) = (cast(a), cast(b));
        (cast(self.neon.vuzp1q_f32(a, b)), cast(self.neon.vuzp2q_f32(a, b)))
    }
    #[inline(always)]
    fn lookup(self, &table: &[u32; 8], indices: pulp::u32x4) -> pulp::u32x4 {
        // The bytes of element j are 4·j to 4·j + 3.
        let elements = self.and_u32s(indices, self.splat_u32s(7));
        let bytes = self.neon.vmlaq_n_u32(cast(self.splat_u32s(0x0302_0100)), cast(elements), 0x0404_0404);
        let [low, high] = cast(table);
        cast(self.neon.vqtbl2q_u8(uint8x16x2_t(low, high), cast(bytes)))
    }
    #[inline(always)]
    fn any_bit(self, a: pulp::u32x4) -> bool {
        self.neon.vmaxvq_u32(cast(a)) != 0
    }
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> pulp::f32x4 {
        let mut lanes = [0.0; 4];
        for (lane, &element) in lanes.iter_mut().zip(from) {
            *lane = element;
        }
        cast(lanes)
    }
    #[inline(always)]
    fn store_part(self, values: pulp::f32x4, to: &mut [f32]) {
        let lanes: [f32; 4] = cast(values);
        for (element, lane) in to.iter_mut().zip(lanes) {
            *element = lane;
        }
    }
    #[inline(always)]
    fn bits_of_mask(self, mask: pulp::m32x4) -> u32 {
        cast_slice::<_, u32>(from_ref(&mask)).iter().rev().fold(0, |bits, lane| bits << 1 | lane & 1)
    }
    // Explicit f64 vectors: scalar code would be vectorised across the rows, with as many shuffles as additions.
    #[inline(always)]
    fn horizontal_sums(self, of: &[pulp::f32x4; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sum, &[a, b, c, d]) in sums.iter_mut().zip(of.as_chunks().0) {
            let (low, high) = (add(self, in_f64(a), in_f64(c)), add(self, in_f64(b), in_f64(d)));
            *sum = sum_of_four(self, [low, high]);
        }
        sums
    }
    #[inline(always)]
    fn sums_of_eights(self, of: &[pulp::f32x4; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sum, &[low, high]) in sums.iter_mut().zip(of.as_chunks().0).take(4) {
            *sum = sum_of_four(self, [in_f64(low), in_f64(high)]);
        }
        sums
    }
}

impl<S: Token> Vector for Pulp<S> {
    const LANES: usize = S::F32_LANES;
    const FUSED: bool = true;
    type F = S::f32s;
    type U = S::u32s;
    type M = S::m32s;
    type Lane = Scalar<Fused>;

    #[inline(always)]
    fn lane(self) -> Self::Lane {
        Scalar(Fused)
    }

    type Short = Pulp<S::Short>;
    #[inline(always)]
    fn short(self) -> Self::Short {
        Pulp(Token::short(self.0))
    }
    // Outlined: compiled once, not in each codegen unit that calls it.
    #[inline(never)]
    fn run<R>(self, phase: impl FnOnce() -> R) -> R {
        self.0.vectorize(Phase(phase))
    }
    #[inline(always)]
    fn splat(self, value: f32) -> S::f32s {
        self.0.splat_f32s(value)
    }
    #[inline(always)]
    fn splat_bits(self, value: u32) -> S::u32s {
        self.0.splat_u32s(value)
    }
    // Two selects and no branch, which compilers schedule better.
    #[inline(always)]
    fn load(self, from: &[f32], at: usize) -> S::f32s {
        let (vectors, _) = S::as_simd_f32s(from.get(at..).unwrap_or(&[]));
        vectors.first().copied().unwrap_or(S::f32s::zeroed())
    }
    #[inline(always)]
    fn try_load(self, from: &[f32], at: usize) -> Option<S::f32s> {
        let (vectors, _) = S::as_simd_f32s(from.get(at..)?);
        vectors.first().copied()
    }
    #[inline(always)]
    fn load_partial(self, from: &[f32], fill: f32) -> S::f32s {
        if let Some(vector) = self.try_load(from, 0) {
            return vector;
        }
        // An empty slice may have an invalid address, from which a masked load of no lanes takes hundreds of cycles.
        let part = if from.is_empty() { self.splat(0.0) } else { self.0.load_part(from) };
        if fill == 0.0 { part } else { self.select(self.first_lanes(from.len()), part, self.splat(fill)) }
    }
    #[inline(always)]
    fn store(self, values: S::f32s, to: &mut [f32], at: usize) {
        let (vectors, _) = S::as_mut_simd_f32s(to.get_mut(at..).unwrap_or(&mut []));
        if let Some(vector) = vectors.first_mut() {
            *vector = values;
        }
    }
    #[inline(always)]
    fn store_partial(self, values: S::f32s, to: &mut [f32]) {
        if to.len() >= S::F32_LANES {
            self.store(values, to, 0);
        } else if !to.is_empty() {
            self.0.store_part(values, to);
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn prefetch(self, from: &[f32], at: usize) {
        // SAFETY: a prefetch is a hint, and its address may be any.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_add(at).cast()) };
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
    fn zero_where(self, mask: S::m32s, values: S::f32s) -> S::f32s {
        Token::zero_where(self.0, mask, values)
    }
    #[inline(always)]
    fn bits_of_mask(self, mask: S::m32s) -> u32 {
        Token::bits_of_mask(self.0, mask)
    }
    #[inline(always)]
    fn interleave(self, a: S::f32s, b: S::f32s) -> (S::f32s, S::f32s) {
        self.0.interleave(a, b)
    }
    #[inline(always)]
    fn deinterleave(self, a: S::f32s, b: S::f32s) -> (S::f32s, S::f32s) {
        self.0.deinterleave(a, b)
    }
    #[inline(always)]
    fn fours_to_columns(self, rows: [S::f32s; 4]) -> [S::f32s; 4] {
        Token::fours_to_columns(self.0, rows)
    }
    #[inline(always)]
    fn columns_to_fours(self, columns: [S::f32s; 4]) -> [S::f32s; 4] {
        Token::columns_to_fours(self.0, columns)
    }
    #[inline(always)]
    fn threes_to_fours(self, a: S::f32s) -> S::f32s {
        Token::threes_to_fours(self.0, a)
    }
    #[inline(always)]
    fn fours_to_threes(self, a: S::f32s) -> S::f32s {
        Token::fours_to_threes(self.0, a)
    }
    #[inline(always)]
    fn add_halves(self, a: S::f32s) -> S::f32s {
        Token::add_halves(self.0, a)
    }
    #[inline(always)]
    fn halves_apart(self, parts: [S::f32s; 2]) -> S::f32s {
        Token::halves_apart(self.0, parts)
    }
    #[inline(always)]
    fn horizontal_sums(self, of: &[S::f32s; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        Token::horizontal_sums(self.0, of)
    }
    #[inline(always)]
    fn sums_of_eights(self, of: &[S::f32s; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        Token::sums_of_eights(self.0, of)
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
    fn xor_bits(self, a: S::u32s, b: S::u32s) -> S::u32s {
        self.0.xor_u32s(a, b)
    }
    #[inline(always)]
    fn lookup(self, table: &[u32; 8], indices: S::u32s) -> S::u32s {
        Token::lookup(self.0, table, indices)
    }
    #[inline(always)]
    fn any_bit(self, a: S::u32s) -> bool {
        Token::any_bit(self.0, a)
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
