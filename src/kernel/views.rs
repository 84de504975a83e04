//! How the elements of rows stand in vectors: along one row, or across many.
//!
//! A kernel that is written over [`View`] computes both: what belongs to a row is a vector with the same number in every
//! lane in the one case, and with one number a row in the other. Short rows of classes side by side are first turned on
//! their side, into a [`Tile`](super::tile::Tile).

use super::long_rows::{Lanes, across_lanes, first, larger, load_padded};
use super::narrow_rows::NarrowRow;
use super::pair::{Pair, fast_two_sum, two_sum};
use super::tile::Place;
use super::{VIRTUAL_LANES, copy, part, part_mut};
use crate::backend::vector::Vector;
use crate::logits::Logits;
use crate::problem::Rows;

/// Some rows of an array `[N, C, D]`, seen as vectors number 0, 1, … of elements.
pub(crate) trait View<S: Vector>: Copy {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of vectors.
    fn vectors(&self) -> usize;
    /// Vector `i` of an array shaped as the logits, with `missing` where there is no element.
    fn load(&self, s: S, array: &[f32], i: usize, missing: f32) -> S::F;
    /// Vector `i` of the logits, which these are where they are f32; −∞ where there is no element.
    #[inline(always)]
    fn logits(&self, s: S, numbers: &[f32], i: usize) -> S::F {
        self.load(s, numbers, i, f32::NEG_INFINITY)
    }
    /// Writes vector `i`, but for the elements that are missing.
    fn store(&self, s: S, vector: S::F, array: &mut [f32], i: usize);
    /// What `[C]` numbers say of the elements of vector `i`: 1 without numbers, 0 where there is no element.
    fn of_classes(&self, s: S, numbers: Option<&[f32]>, i: usize) -> S::F;
    /// The same for a matrix `[C, C]`, of which each row uses that of its label.
    fn of_labels(&self, s: S, matrix: &[f32], labels: &[usize; VIRTUAL_LANES], i: usize) -> S::F;
    /// One number a row.
    fn of_rows(&self, s: S, numbers: &[f32; VIRTUAL_LANES]) -> S::F;
    /// The largest of each row, where `largest` has that of the elements in each lane.
    fn largest(&self, s: S, largest: S::F) -> S::F;
    /// The virtual lanes that vector `i` belongs to.
    fn group(&self, i: usize) -> usize;
    /// The sum of each row; its low part is below the last bit of the high one.
    fn total(&self, s: S, sums: &Sums<S>) -> Pair<S::F>;
}

/// Rows of the weighted loss with more classes than this are seen along, the others across, several at once.
pub(crate) const SHORT_ROW: usize = 32;
/// The same for losses that go through a row several times and add up several sums of it, where lanes that have to be
/// added up cost more.
pub(crate) const SHORT_ROW_OF_MANY_SUMS: usize = 128;

/// How some rows are best seen.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// Several at once, which stand side by side.
    Across(Across),
    /// Several at once, once they are turned on their side.
    Turned(Place),
    /// One by one.
    Along(Along),
}

impl Seen {
    /// The rows from `first` on, for a loss of many sums. Those seen at once are rows of one sample, or of several if
    /// these have one row each.
    #[inline(always)]
    pub(crate) fn new<S: Vector>(_: S, rows: &Rows<'_>, first: usize) -> Self {
        let (classes, positions, start) = (rows.classes(), rows.positions(), rows.start(first));
        if positions > 1 {
            let rows = S::LANES.min(rows.left_in_sample(first));
            Self::Across(Across { start, class_stride: positions, classes, rows })
        } else if classes > SHORT_ROW_OF_MANY_SUMS {
            Self::Along(Along { start, classes })
        } else if !S::WIDE {
            Self::Across(Across { start, class_stride: 1, classes, rows: 1 })
        } else {
            let (row_stride, rows) = (rows.start(1), S::LANES.min(rows.count() - first));
            Self::Turned(Place { start, row_stride, classes, rows })
        }
    }
}

/// A sum in each virtual lane.
pub(crate) struct Sums<S: Vector>([Pair<S::F>; VIRTUAL_LANES]);

impl<S: Vector> Sums<S> {
    #[inline(always)]
    pub(crate) fn new(s: S) -> Self {
        Self([Pair { hi: s.splat(0.0), lo: s.splat(0.0) }; VIRTUAL_LANES])
    }

    /// Adds a vector to the virtual lanes of this group; what rounding loses is kept beside the sum.
    #[inline(always)]
    pub(crate) fn add(&mut self, s: S, group: usize, vector: S::F) {
        if let Some(sum) = self.0.get_mut(group) {
            let exact = two_sum(s, sum.hi, vector);
            *sum = Pair { hi: exact.hi, lo: s.add(sum.lo, exact.lo) };
        }
    }
}

/// One row of classes side by side.
#[derive(Clone, Copy)]
pub(crate) struct Along {
    pub(crate) start: usize,
    pub(crate) classes: usize,
}

impl<S: Vector> View<S> for Along {
    #[inline(always)]
    fn rows(&self) -> usize {
        1
    }

    #[inline(always)]
    fn vectors(&self) -> usize {
        self.classes.div_ceil(S::LANES)
    }

    #[inline(always)]
    fn load(&self, s: S, array: &[f32], i: usize, missing: f32) -> S::F {
        load_padded(s, part(array, self.start, self.classes), i * S::LANES, missing)
    }

    #[inline(always)]
    fn store(&self, s: S, vector: S::F, array: &mut [f32], i: usize) {
        let at = i * S::LANES;
        store_some(s, vector, array, self.start + at, (self.classes - at).min(S::LANES));
    }

    #[inline(always)]
    fn of_classes(&self, s: S, numbers: Option<&[f32]>, i: usize) -> S::F {
        let at = i * S::LANES;
        match numbers {
            Some(numbers) => load_padded(s, part(numbers, 0, self.classes), at, 0.0),
            None if at + S::LANES <= self.classes => s.splat(1.0),
            None => load_padded(s, part(&[1.0; VIRTUAL_LANES], 0, self.classes - at), 0, 0.0),
        }
    }

    #[inline(always)]
    fn of_labels(&self, s: S, matrix: &[f32], labels: &[usize; VIRTUAL_LANES], i: usize) -> S::F {
        load_padded(s, part(matrix, labels[0] * self.classes, self.classes), i * S::LANES, 0.0)
    }

    #[inline(always)]
    fn of_rows(&self, s: S, numbers: &[f32; VIRTUAL_LANES]) -> S::F {
        s.splat(numbers[0])
    }

    #[inline(always)]
    fn largest(&self, s: S, largest: S::F) -> S::F {
        let mut lanes = [f32::NEG_INFINITY; VIRTUAL_LANES];
        s.store(largest, &mut lanes, 0);
        s.splat(lanes.into_iter().fold(f32::NEG_INFINITY, larger))
    }

    #[inline(always)]
    fn group(&self, i: usize) -> usize {
        i % S::GROUPS
    }

    #[inline(always)]
    fn total(&self, s: S, sums: &Sums<S>) -> Pair<S::F> {
        let mut lanes = Lanes { hi: [0.0; VIRTUAL_LANES], lo: [0.0; VIRTUAL_LANES] };
        for (group, sum) in sums.0.iter().enumerate().take(S::GROUPS) {
            s.store(sum.hi, &mut lanes.hi, group * S::LANES);
            s.store(sum.lo, &mut lanes.lo, group * S::LANES);
        }
        let total = across_lanes(&lanes);
        Pair { hi: s.splat(total.hi), lo: s.splat(total.lo) }
    }
}

/// One row of logits that are no f32 and so many that they cannot be widened at once.
impl<S: Vector> View<S> for NarrowRow<'_> {
    #[inline(always)]
    fn rows(&self) -> usize {
        1
    }

    #[inline(always)]
    fn vectors(&self) -> usize {
        self.classes.div_ceil(S::LANES)
    }

    #[inline(always)]
    fn load(&self, s: S, array: &[f32], i: usize, missing: f32) -> S::F {
        let mut lanes = [missing; VIRTUAL_LANES];
        NarrowRow { logits: Logits::F32(array), ..*self }.widen(i * S::LANES, part_mut(&mut lanes, 0, S::LANES));
        s.load(&lanes, 0)
    }

    #[inline(always)]
    fn logits(&self, s: S, _: &[f32], i: usize) -> S::F {
        let mut lanes = [f32::NEG_INFINITY; VIRTUAL_LANES];
        self.widen(i * S::LANES, part_mut(&mut lanes, 0, S::LANES));
        s.load(&lanes, 0)
    }

    // Gradients are computed from f32.
    #[inline(always)]
    fn store(&self, _: S, _: S::F, _: &mut [f32], _: usize) {}

    #[inline(always)]
    fn of_classes(&self, s: S, numbers: Option<&[f32]>, i: usize) -> S::F {
        self.along().of_classes(s, numbers, i)
    }

    #[inline(always)]
    fn of_labels(&self, s: S, matrix: &[f32], labels: &[usize; VIRTUAL_LANES], i: usize) -> S::F {
        self.along().of_labels(s, matrix, labels, i)
    }

    #[inline(always)]
    fn of_rows(&self, s: S, numbers: &[f32; VIRTUAL_LANES]) -> S::F {
        self.along().of_rows(s, numbers)
    }

    #[inline(always)]
    fn largest(&self, s: S, largest: S::F) -> S::F {
        self.along().largest(s, largest)
    }

    #[inline(always)]
    fn group(&self, i: usize) -> usize {
        View::<S>::group(&self.along(), i)
    }

    #[inline(always)]
    fn total(&self, s: S, sums: &Sums<S>) -> Pair<S::F> {
        self.along().total(s, sums)
    }
}

impl NarrowRow<'_> {
    #[inline(always)]
    fn along(&self) -> Along {
        Along { start: self.start, classes: self.classes }
    }
}

/// Rows side by side, one a lane.
#[derive(Clone, Copy)]
pub(crate) struct Across {
    pub(crate) start: usize,
    /// From one class to the next.
    pub(crate) class_stride: usize,
    pub(crate) classes: usize,
    /// At most the number of lanes.
    pub(crate) rows: usize,
}

impl<S: Vector> View<S> for Across {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn vectors(&self) -> usize {
        self.classes
    }

    #[inline(always)]
    fn load(&self, s: S, array: &[f32], i: usize, missing: f32) -> S::F {
        let at = self.start + i * self.class_stride;
        if self.rows == S::LANES {
            return s.load(array, at);
        }
        load_padded(s, part(array, at, self.rows), 0, missing)
    }

    #[inline(always)]
    fn store(&self, s: S, vector: S::F, array: &mut [f32], i: usize) {
        store_some(s, vector, array, self.start + i * self.class_stride, self.rows);
    }

    #[inline(always)]
    fn of_classes(&self, s: S, numbers: Option<&[f32]>, i: usize) -> S::F {
        s.splat(numbers.map_or(1.0, |numbers| numbers.get(i).copied().unwrap_or(0.0)))
    }

    #[inline(always)]
    fn of_labels(&self, s: S, matrix: &[f32], labels: &[usize; VIRTUAL_LANES], i: usize) -> S::F {
        let mut lanes = [0.0; VIRTUAL_LANES];
        for (lane, label) in lanes.iter_mut().zip(labels).take(self.rows) {
            *lane = matrix.get(label * self.classes + i).copied().unwrap_or(0.0);
        }
        s.load(&lanes, 0)
    }

    #[inline(always)]
    fn of_rows(&self, s: S, numbers: &[f32; VIRTUAL_LANES]) -> S::F {
        s.load(numbers, 0)
    }

    #[inline(always)]
    fn largest(&self, _: S, largest: S::F) -> S::F {
        largest
    }

    #[inline(always)]
    fn group(&self, _: usize) -> usize {
        0
    }

    #[inline(always)]
    fn total(&self, s: S, sums: &Sums<S>) -> Pair<S::F> {
        fast_two_sum(s, sums.0[0].hi, sums.0[0].lo)
    }
}

/// Writes the first `count` lanes.
#[inline(always)]
fn store_some<S: Vector>(s: S, vector: S::F, array: &mut [f32], at: usize, count: usize) {
    if count == S::LANES {
        s.store(vector, array, at);
        return;
    }
    let mut lanes = [0.0; VIRTUAL_LANES];
    s.store(vector, &mut lanes, 0);
    copy(part_mut(array, at, count), &lanes);
}

/// One number a row, out of a vector.
#[inline(always)]
pub(crate) fn numbers<S: Vector, V: View<S>>(s: S, view: V, vector: S::F) -> [f32; VIRTUAL_LANES] {
    let mut lanes = [0.0; VIRTUAL_LANES];
    if view.rows() == 1 {
        lanes[0] = first(s, vector);
    } else {
        s.store(vector, &mut lanes, 0);
    }
    lanes
}
