//! The row index of a block as a type that cannot be out of bounds, and arrays indexed by it alone.

use super::limits::ROWS;
use core::ops::{Index, IndexMut};
use core::slice::{Iter, IterMut};

/// The index of a row in its block, less than [`ROWS`].
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Lane(usize);

impl Lane {
    pub(crate) const FIRST: Self = Self(0);

    /// All lanes, in order.
    #[inline(always)]
    pub(crate) fn all() -> EachLane {
        Self::starting_at(0)
    }

    /// The lanes from index `first` on.
    #[inline(always)]
    pub(crate) fn starting_at(first: usize) -> EachLane {
        EachLane { next: first }
    }

    /// The lanes whose bit is set, in order: a loop that compilers do not unroll.
    #[inline(always)]
    pub(crate) fn of_bits(bits: u32) -> impl Iterator<Item = Self> {
        let mut left = core::hint::black_box(bits) & const { u32::MAX >> (32 - ROWS) };
        core::iter::from_fn(move || {
            let lane = (left != 0).then(|| Self::of(left.trailing_zeros() as usize))?;
            left &= left.wrapping_sub(1);
            Some(lane)
        })
    }

    /// The lane of a row, counted from the first of any block.
    #[inline(always)]
    pub(crate) fn of(row: usize) -> Self {
        const { assert!(ROWS.is_power_of_two()) };
        Self(row & const { ROWS.wrapping_sub(1) })
    }

    #[inline(always)]
    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// The bit of the lane in a mask of rows.
    #[inline(always)]
    pub(crate) fn bit(self) -> u32 {
        1_u32.wrapping_shl(self.0 as u32)
    }
}

/// Iterates up to the last lane of a block.
pub(crate) struct EachLane {
    next: usize,
}

impl Iterator for EachLane {
    type Item = Lane;

    #[inline(always)]
    fn next(&mut self) -> Option<Lane> {
        let lane = self.next;
        if lane < ROWS {
            self.next = lane.wrapping_add(1);
            Some(Lane(lane))
        } else {
            None
        }
    }
}

/// Aligned to a cache line where there are vectors, so that none crosses two: their own types may be aligned less.
#[derive(Clone, Copy)]
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "wasm32"),
    repr(align(64))
)]
pub(crate) struct Aligned<T>(pub(crate) T);

/// One value for each lane of a block.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Lanes<T>(Aligned<[T; ROWS]>);

impl<T> Lanes<T> {
    /// `value` in every lane.
    #[inline(always)]
    pub(crate) const fn splat(value: T) -> Self
    where
        T: Copy,
    {
        Self(Aligned([value; ROWS]))
    }

    /// The values of all lanes.
    #[inline(always)]
    pub(crate) const fn of(values: [T; ROWS]) -> Self
    where
        T: Copy,
    {
        Self(Aligned(values))
    }

    /// Applies `of` to the value of each lane.
    #[inline(always)]
    pub(crate) fn map<U>(self, of: impl FnMut(T) -> U) -> Lanes<U> {
        Lanes(Aligned(self.0.0.map(of)))
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.0.0
    }

    #[inline(always)]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0.0
    }

    #[inline(always)]
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        self.0.0.iter()
    }

    #[inline(always)]
    pub(crate) fn iter_mut(&mut self) -> IterMut<'_, T> {
        self.0.0.iter_mut()
    }
}

impl Lanes<u32> {
    /// Bit i for each lane i with a 1; the others have a 0.
    #[inline(always)]
    pub(crate) fn mask(mut self) -> u32 {
        for i in Lane::all() {
            self[i] = self[i].wrapping_shl(i.number() as u32);
        }
        self.iter().fold(0, |mask, bit| mask | bit)
    }
}

impl<T> Index<Lane> for Lanes<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, lane: Lane) -> &T {
        // SAFETY: a lane is less than the number of values.
        unsafe { self.0.0.get_unchecked(lane.0) }
    }
}

impl<T> IndexMut<Lane> for Lanes<T> {
    #[inline(always)]
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        // SAFETY: a lane is less than the number of values.
        unsafe { self.0.0.get_unchecked_mut(lane.0) }
    }
}

impl<T> IntoIterator for Lanes<T> {
    type Item = T;
    type IntoIter = core::array::IntoIter<T, ROWS>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.0.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Lanes<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.0.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Lanes<T> {
    type Item = &'a mut T;
    type IntoIter = IterMut<'a, T>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.0.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lane, Lanes, ROWS};

    #[test]
    fn lanes_are_those_of_a_block() {
        let numbers = || Lane::all().map(Lane::number);
        assert!(numbers().eq(0..ROWS));
        for first in [0, 1, ROWS - 1, ROWS, ROWS + 1, usize::MAX] {
            assert!(Lane::starting_at(first).map(Lane::number).eq(first..ROWS), "{first}");
            assert_eq!(Lane::of(first).number(), first % ROWS, "{first}");
        }
        assert_eq!(Lane::all().fold(0, |bits, lane| bits | lane.bit()), u32::MAX >> (32 - ROWS));
    }

    #[test]
    fn values_are_those_of_their_lanes() {
        let mut values = Lanes::splat(0);
        for lane in Lane::all() {
            values[lane] = lane.number();
        }
        assert!(values.iter().copied().eq(0..ROWS));
        assert!(Lane::all().all(|lane| values.map(|value| value + 1)[lane] == lane.number() + 1));
        assert_eq!(values.as_slice().len(), ROWS);
        assert!(Lane::all().all(|lane| values.map(|value| u32::from(value == lane.number())).mask() == lane.bit()));
    }
}
