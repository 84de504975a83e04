//! Rows of a tile as columns, `[width, rows]`: a vector holds one class of several rows. Of `[N, C, D]` they are read
//! where the caller has them, or copied; other rows are transposed.

use super::limits::{PIECE, ROWS};
use super::tile::{Batch, Place, RowBlock, runs, squares, transpose};
use super::{chunks, chunks_mut, copy, part, part_mut};
use crate::backend::vector::Vector;
use crate::logits::{Adjustment, Logits};
use crate::rows::Rows;

impl<'a> Batch<'a> {
    /// The logits of some classes of some rows as columns, if they can be read without a copy: the rows are of one
    /// sample, the logits unadjusted f32. Lanes without a row are any numbers of the buffer.
    pub(crate) fn columns_in_place(&self, place: Place) -> Option<Columns<'_>> {
        columns_in_place(self.rows, place, self.given().as_f32().filter(|_| self.adjustment.is_none())?)
    }

    /// The gradient, if exponentials can be kept there: its columns are in place, and so are those of the logits, in
    /// another buffer. The caller gives it back.
    #[inline(never)]
    pub(crate) fn take_gradient(&mut self, place: Place) -> Option<&'a mut [f32]> {
        if self.logits.is_none() || self.columns_in_place(place).is_none() {
            return None;
        }
        self.gradient.take()
    }

    /// Columns of a gradient in place, with the number of elements from one class to the next.
    pub(crate) fn columns_of_gradient<'g>(&self, place: Place, gradient: &'g mut [f32]) -> (&'g mut [f32], usize) {
        let start = self.rows.element(place.first, place.start);
        (gradient.get_mut(start..).unwrap_or(&mut []), self.rows.positions())
    }

    /// [`Batch::columns_in_place`], else copied to `loaded`.
    pub(crate) fn columns<'t, S: Vector>(&'t self, s: S, place: Place, loaded: &'t mut [f32]) -> Columns<'t> {
        columns(s, self.rows, self.given(), self.adjustment, place, loaded)
    }

    /// [`Batch::columns`] of a piece of the rows of `all`, copied once if it is the only one.
    #[inline(never)]
    pub(crate) fn columns_once<'t, S: Vector>(
        &'t self,
        s: S,
        (piece, all): (Place, Place),
        loaded: &'t mut [f32],
        is_loaded: &mut bool,
    ) -> Columns<'t> {
        if *is_loaded {
            return Columns::of_tile(loaded, piece);
        }
        *is_loaded = piece.width == all.width && self.columns_in_place(piece).is_none();
        self.columns(s, piece, loaded)
    }

    /// [`Batch::columns`] for target probabilities, which have the layout of the logits.
    pub(crate) fn target_columns<'t, S: Vector>(
        &self,
        s: S,
        targets: &'t [f32],
        place: Place,
        loaded: &'t mut [f32],
    ) -> Columns<'t> {
        columns(s, self.rows, Logits::F32(targets), Adjustment::NONE, place, loaded)
    }

    /// Copies columns to the gradient.
    pub(crate) fn store_columns<S: Vector>(&mut self, s: S, place: Place, from: &[f32]) {
        let Some(to) = self.gradient.as_deref_mut() else { return };
        let rows = self.rows;
        s.run(
            #[inline(always)]
            move || {
                for run in runs(rows, place) {
                    for (class, from) in chunks(from, place.rows.next_multiple_of(ROWS)).enumerate().take(place.width) {
                        let to = part_mut(to, run.in_samples(class, 0, rows.positions()), run.rows);
                        copy(to, part(from, run.at, run.rows));
                    }
                }
            },
        )
    }

    /// [`Batch::store_columns`] but for marked rows; [`PIECE`] columns at most.
    #[inline(never)]
    pub(crate) fn store_unmarked_columns<S: Vector>(&mut self, s: S, place: Place, from: &[f32], blocks: &[RowBlock]) {
        if blocks.iter().all(|block| block.marked == 0) {
            return self.store_columns(s, place, from);
        }
        let (mut columns, mut rows) = ([[0.0; ROWS]; PIECE], [[0.0; PIECE]; ROWS]);
        for (at, (place, block)) in place.blocks().zip(blocks).enumerate() {
            let of_block = from.as_chunks::<ROWS>().0.iter().skip(at).step_by(blocks.len().max(1));
            for (to, from) in columns.iter_mut().zip(of_block) {
                *to = *from;
            }
            let (columns, width) = (columns.as_flattened(), place.width);
            if block.marked == 0 {
                self.store_columns(s, place, columns);
            } else if block.marked != u32::MAX {
                to_rows(s, columns, ROWS, width, rows.as_flattened_mut());
                self.store_unmarked(s, place, rows.as_flattened(), core::slice::from_ref(block));
            }
        }
    }
}

/// Logits of some rows, of whole blocks, as columns.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    numbers: &'a [f32],
    pub(crate) rows: usize,
    /// Elements from one class to the next.
    stride: usize,
}

/// The rows of a place as columns of a buffer of the caller, if they are of one sample of at least a block of rows, and
/// their blocks within the buffer.
#[inline(never)]
fn columns_in_place<'a>(rows: &Rows<'_>, place: Place, numbers: &'a [f32]) -> Option<Columns<'a>> {
    let Place { first, rows: count, start, width } = place;
    if count > rows.left_in_sample(first) || rows.positions() < ROWS {
        return None;
    }
    let (padded, last) = (count.next_multiple_of(ROWS), start.wrapping_add(width).saturating_sub(1));
    numbers.get(rows.element(first, last)..)?.get(..padded)?;
    Some(Columns { numbers: numbers.get(rows.element(first, start)..)?, rows: padded, stride: rows.positions() })
}

impl<'a> Columns<'a> {
    /// Of a buffer of the columns of a place.
    fn of_tile(numbers: &'a [f32], place: Place) -> Self {
        let rows = place.rows.next_multiple_of(ROWS);
        Self { numbers, rows, stride: rows }
    }

    /// The logits of a class, counted from the first of the place.
    #[inline(always)]
    pub(crate) fn of_class(&self, class: usize) -> &'a [f32] {
        part(self.numbers, class.wrapping_mul(self.stride), self.rows)
    }

    /// The logits of each class, from a row on.
    #[inline(always)]
    pub(crate) fn of_classes(&self, row: usize) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        chunks(self.numbers.get(row..).unwrap_or(&[]), self.stride)
    }

    /// The logit of a class, counted likewise, in a row.
    #[inline(always)]
    pub(crate) fn logit(&self, class: usize, row: usize) -> f32 {
        self.numbers.get(class.wrapping_mul(self.stride).wrapping_add(row)).copied().unwrap_or(f32::NAN)
    }
}

/// Some classes of some rows as columns: in place, if possible, else copied to `loaded` as `[width, rows]` of adjusted f32,
/// rows being those of whole blocks; lanes without a row are 0. For positions > 1, whose logits of a class are contiguous.
#[inline(never)]
fn columns<'t, S: Vector>(
    s: S,
    rows: &Rows<'_>,
    from: Logits<'t>,
    adjustment: Adjustment<'_>,
    place: Place,
    loaded: &'t mut [f32],
) -> Columns<'t> {
    let in_place = from.as_f32().filter(|_| adjustment.is_none());
    if let Some(columns) = in_place.and_then(|numbers| columns_in_place(rows, place, numbers)) {
        return columns;
    }
    let padded = place.rows.next_multiple_of(ROWS);
    s.run(
        #[inline(always)]
        || {
            for run in runs(rows, place) {
                for (class, to) in chunks_mut(loaded, padded).enumerate().take(place.width) {
                    let at = run.in_samples(class, 0, rows.positions());
                    match from.as_f32() {
                        Some(logits) => copy(part_mut(to, run.at, run.rows), part(logits, at, run.rows)),
                        None => from.widen(at, part_mut(to, run.at, run.rows)),
                    }
                }
            }
            if adjustment.is_none() && padded == place.rows {
                return;
            }
            for (class, to) in (place.start..).zip(chunks_mut(loaded, padded)).take(place.width) {
                for x in part_mut(to, 0, place.rows) {
                    *x = adjustment.apply(*x, class);
                }
                to.iter_mut().skip(place.rows).for_each(|x| *x = 0.0);
            }
        },
    );
    Columns::of_tile(loaded, place)
}

/// Transposes contiguous rows of whole blocks to columns, `stride` elements from one class to the next; lanes without a row
/// are 0.
pub(crate) fn to_columns<S: Vector>(s: S, rows: &[f32], width: usize, to: &mut [f32], stride: usize) {
    s.run(
        #[inline(always)]
        move || {
            for (class, row) in squares::<S>(width, stride) {
                transpose(
                    s,
                    S::LANES,
                    width.wrapping_sub(class),
                    #[inline(always)]
                    |i| {
                        let at = row.wrapping_add(i).wrapping_mul(width).wrapping_add(class);
                        s.load_partial(rows.get(at..).unwrap_or(&[]), 0.0)
                    },
                    #[inline(always)]
                    |i, x| s.store(x, to, class.wrapping_add(i).wrapping_mul(stride).wrapping_add(row)),
                );
            }
        },
    )
}

/// The inverse of [`to_columns`].
pub(crate) fn to_rows<S: Vector>(s: S, columns: &[f32], stride: usize, width: usize, to: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            // Row after row: lanes beyond the end of a row are overwritten by the next.
            for row in (0..stride).step_by(S::LANES) {
                for (class, _) in squares::<S>(width, 1) {
                    transpose(
                        s,
                        width.wrapping_sub(class),
                        S::LANES,
                        #[inline(always)]
                        |i| s.load(columns, class.wrapping_add(i).wrapping_mul(stride).wrapping_add(row)),
                        #[inline(always)]
                        |i, x| {
                            let at = row.wrapping_add(i).wrapping_mul(width).wrapping_add(class);
                            s.store_partial(x, to.get_mut(at..).unwrap_or(&mut []));
                        },
                    );
                }
            }
        },
    )
}
