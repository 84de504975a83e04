//! Short rows turned on their side: a few rows of C classes become C vectors with one row a lane, and back.
//!
//! What follows is then the same whether the classes stand side by side or not, and no lane is idle where C is small.
//! Instructions that gather are slower than this on many processors.

use super::VIRTUAL_LANES;
use super::views::{Across, SHORT_ROW};
use crate::backend::vector::Vector;

/// Room for a vector of every class of a short row. Vector `i` stands at `i · LANES`.
///
/// Aligned, so that no vector lies across two lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Tile(pub(crate) [f32; SHORT_ROW * VIRTUAL_LANES]);

/// An empty tile.
pub(crate) const EMPTY: Tile = Tile([0.0; SHORT_ROW * VIRTUAL_LANES]);

/// Rows of up to [`SHORT_ROW`] classes side by side in an array.
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
    pub(crate) fn bring<S: Vector>(&self, s: S, array: &[f32], tile: &mut Tile) {
        let Self { start, row_stride, classes, rows } = *self;
        if rows < S::LANES {
            self.bring_each(s, array, tile);
        } else if row_stride == 2 && classes == 2 {
            bring_dense::<S, 2>(s, array, start, tile);
        } else if row_stride == 4 && classes == 4 {
            bring_dense::<S, 4>(s, array, start, tile);
        } else {
            bring_rows(
                s,
                array,
                #[inline(always)]
                |row| start + row * row_stride,
                classes,
                tile,
            );
        }
    }

    #[inline(always)]
    fn bring_each<S: Vector>(&self, _: S, array: &[f32], tile: &mut Tile) {
        for (class, column) in tile.0.chunks_exact_mut(S::LANES).take(self.classes).enumerate() {
            let elements = array.get(self.start + class..).unwrap_or(&[]);
            for (to, from) in column.iter_mut().zip(elements.iter().step_by(self.row_stride)).take(self.rows) {
                *to = *from;
            }
        }
    }

    /// Copies a tile over the rows, and nothing else.
    #[inline(always)]
    pub(crate) fn send<S: Vector>(&self, s: S, tile: &Tile, array: &mut [f32]) {
        let Self { start, row_stride, classes, rows } = *self;
        if rows < S::LANES || row_stride != classes {
            self.send_each(s, tile, array);
        } else {
            match classes {
                1 => s.store(s.load(&tile.0, 0), array, start),
                2 => send_dense::<S, 2>(s, tile, array, start),
                4 => send_dense::<S, 4>(s, tile, array, start),
                _ => send_rows(s, tile, array, start, classes),
            }
        }
    }

    #[inline(always)]
    fn send_each<S: Vector>(&self, _: S, tile: &Tile, array: &mut [f32]) {
        for (class, column) in tile.0.chunks_exact(S::LANES).take(self.classes).enumerate() {
            let elements = array.get_mut(self.start + class..).unwrap_or(&mut []);
            for (to, from) in elements.iter_mut().step_by(self.row_stride).zip(column).take(self.rows) {
                *to = *from;
            }
        }
    }
}

/// Rows of `CLASSES` side by side, without a gap.
#[inline(always)]
fn bring_dense<S: Vector, const CLASSES: usize>(s: S, array: &[f32], start: usize, tile: &mut Tile) {
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
        s.store(*column, &mut tile.0, class * S::LANES);
    }
}

/// Copies as many rows as there are lanes, wherever each starts, into a tile.
#[inline(always)]
pub(crate) fn bring_rows<S: Vector>(
    s: S,
    array: &[f32],
    start: impl Fn(usize) -> usize,
    classes: usize,
    tile: &mut Tile,
) {
    let mut class = 0;
    while class < classes {
        let from = |row| start(row) + class;
        let left = classes - class;
        let to = tile.0.get_mut(class * S::LANES..).unwrap_or(&mut []);
        let brought = if left > 8 {
            bring_block::<S, 16>(s, array, from, to)
        } else if left > 4 {
            bring_block::<S, 8>(s, array, from, to)
        } else {
            bring_block::<S, 4>(s, array, from, to)
        };
        if brought.is_none() {
            for row in 0..S::LANES {
                let elements = array.get(from(row)..).unwrap_or(&[]);
                let columns = to.iter_mut().skip(row).step_by(S::LANES);
                for (to, from) in columns.zip(elements).take(left.min(S::LANES)) {
                    *to = *from;
                }
            }
        }
        class += S::LANES;
    }
}

/// Up to `WIDTH` classes. Nothing where a vector would reach over the end of the array; what is read past the end of a
/// row goes where no class is.
#[inline(always)]
fn bring_block<S: Vector, const WIDTH: usize>(
    s: S,
    array: &[f32],
    start: impl Fn(usize) -> usize,
    tile: &mut [f32],
) -> Option<()> {
    let rows = Rows { array, start };
    // Written out, so that the rows stay in registers.
    let rows = [
        rows.load(s, 0)?,
        rows.load(s, 1)?,
        rows.load(s, 2)?,
        rows.load(s, 3)?,
        rows.load(s, 4)?,
        rows.load(s, 5)?,
        rows.load(s, 6)?,
        rows.load(s, 7)?,
        rows.load(s, 8)?,
        rows.load(s, 9)?,
        rows.load(s, 10)?,
        rows.load(s, 11)?,
        rows.load(s, 12)?,
        rows.load(s, 13)?,
        rows.load(s, 14)?,
        rows.load(s, 15)?,
    ];
    // What is not stored is not computed either.
    for (class, column) in transposed(s, rows).iter().enumerate().take(S::LANES.min(WIDTH)) {
        s.store(*column, tile, class * S::LANES);
    }
    Some(())
}

/// Rows wherever each starts.
struct Rows<'a, G> {
    array: &'a [f32],
    start: G,
}

impl<G: Fn(usize) -> usize> Rows<'_, G> {
    #[inline(always)]
    fn load<S: Vector>(&self, s: S, lane: usize) -> Option<S::F> {
        if lane < S::LANES { s.load_inside(self.array, (self.start)(lane)) } else { Some(s.splat(0.0)) }
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
fn send_dense<S: Vector, const CLASSES: usize>(s: S, tile: &Tile, array: &mut [f32], start: usize) {
    let mut vectors = [s.splat(0.0); VIRTUAL_LANES];
    for (class, vector) in vectors.iter_mut().enumerate().take(CLASSES) {
        *vector = s.load(&tile.0, class * S::LANES);
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
fn send_rows<S: Vector>(s: S, tile: &Tile, array: &mut [f32], start: usize, classes: usize) {
    let end = start + S::LANES * classes;
    // The last block is the one that may reach over.
    let mut class = (classes - 1) / S::LANES * S::LANES;
    loop {
        let mut columns = [s.splat(0.0); VIRTUAL_LANES];
        for (i, column) in columns.iter_mut().enumerate().take(S::LANES) {
            *column = s.load(&tile.0, (class + i) * S::LANES);
        }
        for (row, vector) in transposed(s, columns).iter().enumerate().take(S::LANES) {
            let at = start + row * classes + class;
            if at + S::LANES <= end {
                s.store(*vector, array, at);
            } else {
                let mut lanes = [0.0; VIRTUAL_LANES];
                s.store(*vector, &mut lanes, 0);
                let inside = array.get_mut(at..at + classes - class).unwrap_or(&mut []);
                for (to, from) in inside.iter_mut().zip(&lanes) {
                    *to = *from;
                }
            }
        }
        if class == 0 {
            break;
        }
        class -= S::LANES;
    }
}
