//! Short rows turned on their side: a few rows of C classes become C vectors with one row a lane, and back.
//!
//! What follows is then the same whether the classes stand side by side or not, and no lane is idle where C is small.
//! Instructions that gather are slower than this on many processors.

use super::long_rows::load_padded;
use super::views::Across;
use super::{VIRTUAL_LANES, copy, part};
use crate::backend::vector::Vector;

/// Room for a vector of each of up to `CLASSES` classes.
///
/// Aligned, so that no vector lies across two lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Tile<const CLASSES: usize>([[f32; VIRTUAL_LANES]; CLASSES]);

impl<const CLASSES: usize> Tile<CLASSES> {
    pub(crate) const EMPTY: Self = Self([[0.0; VIRTUAL_LANES]; CLASSES]);

    /// Vector `i` stands at `i · LANES`.
    #[inline(always)]
    pub(crate) fn numbers(&self) -> &[f32] {
        self.0.as_flattened()
    }

    /// The same to be written.
    #[inline(always)]
    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        self.0.as_flattened_mut()
    }
}

/// Short rows of classes side by side in an array.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) start: usize,
    /// From one row to the next.
    pub(crate) row_stride: usize,
    pub(crate) classes: usize,
    /// At most the number of lanes.
    pub(crate) rows: usize,
}

impl Place {
    /// The rows as they stand in a tile.
    #[inline(always)]
    pub(crate) fn view<S: Vector>(&self, _: S) -> Across {
        Across { start: 0, class_stride: S::LANES, classes: self.classes, rows: self.rows }
    }

    /// Copies the rows into a tile. Lanes without a row hold what they held.
    #[inline(always)]
    pub(crate) fn bring<S: Vector>(&self, s: S, array: &[f32], tile: &mut [f32]) {
        let Self { start, row_stride, classes, rows } = *self;
        if rows == S::LANES && row_stride == 2 && classes == 2 {
            bring_dense::<S, 2>(s, array, start, tile);
        } else if rows == S::LANES && row_stride == 4 && classes == 4 {
            bring_dense::<S, 4>(s, array, start, tile);
        } else {
            bring_rows(
                s,
                array,
                rows,
                #[inline(always)]
                |row| start + row * row_stride,
                classes,
                tile,
            );
        }
    }

    /// Copies a tile over the rows, and nothing else.
    #[inline(always)]
    pub(crate) fn send<S: Vector>(&self, s: S, tile: &[f32], array: &mut [f32]) {
        let Self { start, row_stride, classes, rows } = *self;
        if rows < S::LANES || row_stride != classes {
            self.send_each(s, tile, array);
        } else {
            match classes {
                1 => s.store(s.load(tile, 0), array, start),
                2 => send_dense::<S, 2>(s, tile, array, start),
                4 => send_dense::<S, 4>(s, tile, array, start),
                _ => send_rows(s, tile, array, start, classes),
            }
        }
    }

    #[inline(always)]
    fn send_each<S: Vector>(&self, _: S, tile: &[f32], array: &mut [f32]) {
        for (class, column) in tile.chunks_exact(S::LANES).take(self.classes).enumerate() {
            let elements = array.get_mut(self.start + class..).unwrap_or(&mut []);
            for (to, from) in elements.iter_mut().step_by(self.row_stride.max(1)).zip(column).take(self.rows) {
                *to = *from;
            }
        }
    }
}

/// Rows of `CLASSES` side by side, without a gap.
#[inline(always)]
fn bring_dense<S: Vector, const CLASSES: usize>(s: S, array: &[f32], start: usize, tile: &mut [f32]) {
    let mut vectors = [s.splat(0.0); VIRTUAL_LANES];
    for (i, vector) in vectors.iter_mut().enumerate().take(CLASSES) {
        *vector = s.load(array, start + i * S::LANES);
    }
    let mut turns = S::LANES;
    while turns > 1 {
        vectors = zipped(s, vectors, CLASSES / 2);
        turns /= 2;
    }
    for (class, column) in vectors.iter().enumerate().take(CLASSES) {
        s.store(*column, tile, class * S::LANES);
    }
}

/// Copies up to as many rows as there are lanes, wherever each starts, into a tile; the other lanes get zeros.
#[inline(always)]
pub(crate) fn bring_rows<S: Vector>(
    s: S,
    array: &[f32],
    count: usize,
    start: impl Fn(usize) -> usize,
    classes: usize,
    tile: &mut [f32],
) {
    let mut class = 0;
    while class < classes {
        let rows = Rows { array, count, class, start: &start };
        let left = classes - class;
        let to = tile.get_mut(class * S::LANES..).unwrap_or(&mut []);
        let rows = match rows.load_all(s) {
            Some(rows) => rows,
            None => rows.load_some(s, left),
        };
        if left > 8 {
            store_columns::<S, 16>(s, rows, to);
        } else if left > 4 {
            store_columns::<S, 8>(s, rows, to);
        } else {
            store_columns::<S, 4>(s, rows, to);
        }
        class += S::LANES;
    }
}

/// The first `WIDTH` columns of as many rows as there are lanes.
#[inline(always)]
fn store_columns<S: Vector, const WIDTH: usize>(s: S, rows: [S::F; VIRTUAL_LANES], tile: &mut [f32]) {
    // What is not stored is not computed either.
    for (class, column) in transposed(s, rows).iter().enumerate().take(S::LANES.min(WIDTH)) {
        s.store(*column, tile, class * S::LANES);
    }
}

/// Rows wherever each starts, from a class on.
struct Rows<'a, G> {
    array: &'a [f32],
    count: usize,
    class: usize,
    start: &'a G,
}

impl<G: Fn(usize) -> usize> Rows<'_, G> {
    #[inline(always)]
    fn load<S: Vector>(&self, s: S, row: usize) -> Option<S::F> {
        if row < S::LANES { s.load_inside(self.array, (self.start)(row) + self.class) } else { Some(s.splat(0.0)) }
    }

    /// One vector of each row; nothing where there are fewer rows than lanes, or one would reach over the end of the
    /// array. What is read past the end of a row goes where no class is.
    #[inline(always)]
    fn load_all<S: Vector>(&self, s: S) -> Option<[S::F; VIRTUAL_LANES]> {
        if self.count < S::LANES {
            return None;
        }
        // Written out, so that the rows stay in registers.
        Some([
            self.load(s, 0)?,
            self.load(s, 1)?,
            self.load(s, 2)?,
            self.load(s, 3)?,
            self.load(s, 4)?,
            self.load(s, 5)?,
            self.load(s, 6)?,
            self.load(s, 7)?,
            self.load(s, 8)?,
            self.load(s, 9)?,
            self.load(s, 10)?,
            self.load(s, 11)?,
            self.load(s, 12)?,
            self.load(s, 13)?,
            self.load(s, 14)?,
            self.load(s, 15)?,
        ])
    }

    /// The rows that there are, up to `len` elements of each.
    #[inline(always)]
    fn load_some<S: Vector>(&self, s: S, len: usize) -> [S::F; VIRTUAL_LANES] {
        let mut rows = [s.splat(0.0); VIRTUAL_LANES];
        for (row, vector) in rows.iter_mut().enumerate().take(self.count.min(S::LANES)) {
            *vector = load_padded(s, part(self.array, (self.start)(row) + self.class, len), 0, 0.0);
        }
        rows
    }
}

/// As many vectors as there are lanes, rows for columns.
#[inline(always)]
fn transposed<S: Vector>(s: S, mut vectors: [S::F; VIRTUAL_LANES]) -> [S::F; VIRTUAL_LANES] {
    let half = S::LANES / 2;
    // Each turn shifts the bits of an element's index (number of the vector, then lane) by one.
    let mut turns = S::LANES;
    while turns > 1 {
        vectors = zipped(s, vectors, half);
        turns /= 2;
    }
    vectors
}

/// One row after the other, lane by lane: the first half of the vectors is zipped with the second.
#[inline(always)]
fn zipped<S: Vector>(s: S, vectors: [S::F; VIRTUAL_LANES], half: usize) -> [S::F; VIRTUAL_LANES] {
    let mut next = vectors;
    for i in 0..half {
        let (low, high) = s.zip(vectors[i], vectors[i + half]);
        next[2 * i] = low;
        next[2 * i + 1] = high;
    }
    next
}

/// Rows of `CLASSES` side by side, without a gap.
#[inline(always)]
fn send_dense<S: Vector, const CLASSES: usize>(s: S, tile: &[f32], array: &mut [f32], start: usize) {
    let mut vectors = [s.splat(0.0); VIRTUAL_LANES];
    for (class, vector) in vectors.iter_mut().enumerate().take(CLASSES) {
        *vector = s.load(tile, class * S::LANES);
    }
    let mut turns = CLASSES;
    while turns > 1 {
        vectors = zipped(s, vectors, CLASSES / 2);
        turns /= 2;
    }
    for (i, vector) in vectors.iter().enumerate().take(CLASSES) {
        s.store(*vector, array, start + i * S::LANES);
    }
}

/// Rows without a gap. A vector reaches over the end of a row into the next, which is written afterwards.
#[inline(always)]
fn send_rows<S: Vector>(s: S, tile: &[f32], array: &mut [f32], start: usize, classes: usize) {
    let end = start + S::LANES * classes;
    // The last block is the one that may reach over.
    let mut class = (classes - 1) / S::LANES * S::LANES;
    loop {
        let mut columns = [s.splat(0.0); VIRTUAL_LANES];
        for (i, column) in columns.iter_mut().enumerate().take(S::LANES) {
            *column = s.load(tile, (class + i) * S::LANES);
        }
        for (row, vector) in transposed(s, columns).iter().enumerate().take(S::LANES) {
            let at = start + row * classes + class;
            if at + S::LANES <= end {
                s.store(*vector, array, at);
            } else {
                let mut lanes = [0.0; VIRTUAL_LANES];
                s.store(*vector, &mut lanes, 0);
                let inside = array.get_mut(at..at + classes - class).unwrap_or(&mut []);
                copy(inside, &lanes);
            }
        }
        if class == 0 {
            break;
        }
        class -= S::LANES;
    }
}
