//! Sixteen lanes in software, for tests: runs the code paths of the width of AVX-512 on processors without AVX-512.

use super::scalar::{Fused, Scalar};
use super::vector::{Operation, VIRTUAL_LANES, Vector};
use core::array::from_fn;

/// Vectors are arrays, computed lane by lane.
#[derive(Clone, Copy)]
pub(super) struct Sixteen;

const LANES: usize = 16;
type Floats = [f32; LANES];
type Bits = [u32; LANES];
type Mask = [bool; LANES];

impl Vector for Sixteen {
    const LANES: usize = LANES;
    const FUSED: bool = true;
    type F = Floats;
    type U = Bits;
    type M = Mask;
    type Lane = Scalar<Fused>;

    fn lane(self) -> Self::Lane {
        Scalar(Fused)
    }
    fn run<O: Operation>(self, operation: O) -> O::Output {
        operation.run(self)
    }
    fn splat(self, value: f32) -> Floats {
        [value; LANES]
    }
    fn splat_bits(self, value: u32) -> Bits {
        [value; LANES]
    }
    fn load(self, from: &[f32], at: usize) -> Floats {
        self.try_load(from, at).unwrap_or_default()
    }
    fn try_load(self, from: &[f32], at: usize) -> Option<Floats> {
        from.get(at..)?.first_chunk().copied()
    }
    fn store(self, values: Floats, to: &mut [f32], at: usize) {
        if let Some(to) = to.get_mut(at..at + LANES) {
            to.copy_from_slice(&values);
        }
    }
    fn add(self, a: Floats, b: Floats) -> Floats {
        from_fn(|i| a[i] + b[i])
    }
    fn sub(self, a: Floats, b: Floats) -> Floats {
        from_fn(|i| a[i] - b[i])
    }
    fn mul(self, a: Floats, b: Floats) -> Floats {
        from_fn(|i| a[i] * b[i])
    }
    fn div(self, a: Floats, b: Floats) -> Floats {
        from_fn(|i| a[i] / b[i])
    }
    fn mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    fn at_least(self, x: Floats, floor: Floats) -> Floats {
        from_fn(|i| if x[i] < floor[i] { floor[i] } else { x[i] })
    }
    fn at_most(self, x: Floats, ceiling: Floats) -> Floats {
        from_fn(|i| if x[i] > ceiling[i] { ceiling[i] } else { x[i] })
    }
    fn equal(self, a: Floats, b: Floats) -> Mask {
        from_fn(|i| a[i] == b[i])
    }
    fn less(self, a: Floats, b: Floats) -> Mask {
        from_fn(|i| a[i] < b[i])
    }
    fn select(self, mask: Mask, yes: Floats, no: Floats) -> Floats {
        from_fn(|i| if mask[i] { yes[i] } else { no[i] })
    }
    fn interleave(self, a: Floats, b: Floats) -> (Floats, Floats) {
        let lane = |i: usize| if i.is_multiple_of(2) { a[i / 2] } else { b[i / 2] };
        (from_fn(lane), from_fn(|i| lane(i + LANES)))
    }
    fn deinterleave(self, a: Floats, b: Floats) -> (Floats, Floats) {
        let lane = |i: usize| if i < LANES { a[i] } else { b[i - LANES] };
        (from_fn(|i| lane(2 * i)), from_fn(|i| lane(2 * i + 1)))
    }
    fn horizontal_sums(self, of: &[Floats; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        of.map(|lanes| {
            let half = |j: usize| f64::from(lanes[j] + lanes[j + 8]) + f64::from(lanes[j + 4] + lanes[j + 12]);
            (half(0) + half(2)) + (half(1) + half(3))
        })
    }
    fn to_bits(self, a: Floats) -> Bits {
        a.map(f32::to_bits)
    }
    fn of_bits(self, a: Bits) -> Floats {
        a.map(f32::from_bits)
    }
    fn add_bits(self, a: Bits, b: Bits) -> Bits {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    fn sub_bits(self, a: Bits, b: Bits) -> Bits {
        from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    fn and_bits(self, a: Bits, b: Bits) -> Bits {
        from_fn(|i| a[i] & b[i])
    }
    fn or_bits(self, a: Bits, b: Bits) -> Bits {
        from_fn(|i| a[i] | b[i])
    }
    fn xor_bits(self, a: Bits, b: Bits) -> Bits {
        from_fn(|i| a[i] ^ b[i])
    }
    fn any_bit(self, a: Bits) -> bool {
        a.iter().any(|&bits| bits != 0)
    }
    fn shift_left<const N: u32>(self, a: Bits) -> Bits {
        a.map(|bits| bits << N)
    }
    fn shift_right<const N: u32>(self, a: Bits) -> Bits {
        a.map(|bits| bits >> N)
    }
}
