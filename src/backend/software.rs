//! Vectors in software, for tests: sixteen lanes run the code paths of the width of AVX-512 on processors without
//! AVX-512. What they do is counted: the work of a call, the same on every machine.

use super::scalar::{Fused, Scalar};
use super::vector::{VIRTUAL_LANES, Vector};
use core::array::from_fn;
use core::cell::Cell;

/// Vectors are arrays, computed lane by lane.
#[derive(Clone, Copy)]
pub(super) struct Software<const LANES: usize>;

std::thread_local! {
    static INSTRUCTIONS: Cell<u64> = const { Cell::new(0) };
}

/// Vector instructions of this thread since the last call. Constants and changes of type count nothing, each
/// call of [`Vector::run`] counts one more.
pub(crate) fn instructions() -> u64 {
    INSTRUCTIONS.take()
}

fn count() {
    INSTRUCTIONS.set(INSTRUCTIONS.get() + 1);
}

fn instruction<T>(result: T) -> T {
    count();
    result
}

impl<const N: usize> Vector for Software<N> {
    const LANES: usize = N;
    const FUSED: bool = true;
    type F = [f32; N];
    type U = [u32; N];
    type M = [bool; N];
    type Lane = Scalar<Fused>;

    fn lane(self) -> Self::Lane {
        Scalar(Fused)
    }

    type Short = Self;
    fn short(self) -> Self {
        self
    }
    fn run<R>(self, phase: impl FnOnce() -> R) -> R {
        count();
        phase()
    }
    fn splat(self, value: f32) -> [f32; N] {
        [value; N]
    }
    fn splat_bits(self, value: u32) -> [u32; N] {
        [value; N]
    }
    fn load(self, from: &[f32], at: usize) -> [f32; N] {
        self.try_load(from, at).unwrap_or([0.0; N])
    }
    fn try_load(self, from: &[f32], at: usize) -> Option<[f32; N]> {
        count();
        from.get(at..)?.first_chunk().copied()
    }
    fn store(self, values: [f32; N], to: &mut [f32], at: usize) {
        count();
        if let Some(to) = to.get_mut(at..at + N) {
            to.copy_from_slice(&values);
        }
    }
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a[i] + b[i]))
    }
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a[i] - b[i]))
    }
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a[i] * b[i]))
    }
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a[i] / b[i]))
    }
    fn mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a[i].mul_add(b[i], c[i])))
    }
    fn at_least(self, x: [f32; N], floor: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| if x[i] < floor[i] { floor[i] } else { x[i] }))
    }
    fn at_most(self, x: [f32; N], ceiling: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| if x[i] > ceiling[i] { ceiling[i] } else { x[i] }))
    }
    fn equal(self, a: [f32; N], b: [f32; N]) -> [bool; N] {
        instruction(from_fn(|i| a[i] == b[i]))
    }
    fn less(self, a: [f32; N], b: [f32; N]) -> [bool; N] {
        instruction(from_fn(|i| a[i] < b[i]))
    }
    fn select(self, mask: [bool; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| if mask[i] { yes[i] } else { no[i] }))
    }
    fn interleave(self, a: [f32; N], b: [f32; N]) -> ([f32; N], [f32; N]) {
        let lane = |i: usize| if i.is_multiple_of(2) { a[i / 2] } else { b[i / 2] };
        instruction((from_fn(lane), from_fn(|i| lane(i + N))))
    }
    fn deinterleave(self, a: [f32; N], b: [f32; N]) -> ([f32; N], [f32; N]) {
        let lane = |i: usize| if i < N { a[i] } else { b[i - N] };
        instruction((from_fn(|i| lane(2 * i)), from_fn(|i| lane(2 * i + 1))))
    }
    fn threes_to_fours(self, a: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a[i / 4 * 3 + i % 4]))
    }
    fn fours_to_threes(self, a: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a.get(i / 3 * 4 + i % 3).copied().unwrap_or(0.0)))
    }
    fn add_halves(self, a: [f32; N]) -> [f32; N] {
        instruction(from_fn(|i| a.get(i + 8).map_or(0.0, |high| a[i] + high)))
    }
    fn halves_apart(self, [a, b]: [[f32; N]; 2]) -> [f32; N] {
        let high = |x: [f32; N]| from_fn(|i| x.get(i + 8).copied().unwrap_or(f32::NAN));
        let (largest, smaller) = (self.at_least(a, high(a)), self.at_most(high(a), a));
        let others = self.add(self.add(b, high(b)), smaller);
        instruction(from_fn(|i| if i < 8 { largest[i] } else { others[i - 8] }))
    }
    fn horizontal_sums(self, of: &[[f32; N]; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sum, row) in sums.iter_mut().zip(of.chunks(Self::VECTORS_OF_A_COLUMN)) {
            let lanes = row.as_flattened();
            let lane = |j: usize| f64::from(lanes[j]) + f64::from(lanes[j + 8]);
            let half = |j: usize| lane(j) + lane(j + 4);
            *sum = (half(0) + half(2)) + (half(1) + half(3));
        }
        instruction(sums)
    }
    fn sums_of_eights(self, of: &[[f32; N]; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let mut sums = [0.0; VIRTUAL_LANES];
        for (sum, row) in sums.iter_mut().zip(of.chunks(Self::VECTORS_OF_EIGHT_LANES)).take(N) {
            let lanes = row.as_flattened();
            let pair = |j: usize| lanes.get(j + 8).map_or(lanes[j], |upper| lanes[j] + upper);
            let half = |j: usize| f64::from(pair(j)) + f64::from(pair(j + 4));
            *sum = (half(0) + half(2)) + (half(1) + half(3));
        }
        instruction(sums)
    }
    fn to_bits(self, a: [f32; N]) -> [u32; N] {
        a.map(f32::to_bits)
    }
    fn of_bits(self, a: [u32; N]) -> [f32; N] {
        a.map(f32::from_bits)
    }
    fn add_bits(self, a: [u32; N], b: [u32; N]) -> [u32; N] {
        instruction(from_fn(|i| a[i].wrapping_add(b[i])))
    }
    fn sub_bits(self, a: [u32; N], b: [u32; N]) -> [u32; N] {
        instruction(from_fn(|i| a[i].wrapping_sub(b[i])))
    }
    fn and_bits(self, a: [u32; N], b: [u32; N]) -> [u32; N] {
        instruction(from_fn(|i| a[i] & b[i]))
    }
    fn or_bits(self, a: [u32; N], b: [u32; N]) -> [u32; N] {
        instruction(from_fn(|i| a[i] | b[i]))
    }
    fn xor_bits(self, a: [u32; N], b: [u32; N]) -> [u32; N] {
        instruction(from_fn(|i| a[i] ^ b[i]))
    }
    fn lookup(self, table: &[u32; 8], indices: [u32; N]) -> [u32; N] {
        instruction(indices.map(|index| table[index as usize % 8]))
    }
    fn any_bit(self, a: [u32; N]) -> bool {
        instruction(a.iter().any(|&bits| bits != 0))
    }
    fn shift_left<const BITS: u32>(self, a: [u32; N]) -> [u32; N] {
        instruction(a.map(|bits| bits << BITS))
    }
    fn shift_right<const BITS: u32>(self, a: [u32; N]) -> [u32; N] {
        instruction(a.map(|bits| bits >> BITS))
    }
}
