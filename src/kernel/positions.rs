//! Rows of `[N, C, D]`, D > 1: the logits of one class are contiguous along the positions, and stay so in the tile. A
//! vector holds one class of several rows, without a transpose.

use super::exp::Exponentials;
use super::label_terms::{LabelTerms, finish};
use super::lanes::{Lane, Lanes};
use super::limits::{ROWS, SUMMED_IN_F32};
use super::row_scalars::Scales;
use super::tile::{Batch, Place, RowBlock, Tile, rows_of_blocks};
use super::{from_row, part_mut, rows_of_mut, whole};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// How many rows are computed at once: as many whole blocks as fit, and at least one.
pub(crate) fn rows_at_once(classes: usize, tile: &Tile<'_>) -> usize {
    tile.rows(classes).max(ROWS)
}

/// Losses and gradients of rows with classes and weights filled in; returns whether none is marked.
pub(crate) fn compute<S: Vector, L: LabelTerms, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    terms: L,
    tile: &mut Tile<'_>,
    first: usize,
    count: usize,
) -> bool {
    let (room, classes) = (tile.room(), batch.rows.classes());
    let (numbers, blocks) = (&mut *tile.numbers, part_mut(tile.blocks, 0, count.div_ceil(ROWS)));
    let all = blocks.len().saturating_mul(ROWS).saturating_mul(classes);
    // A single block that does not fit is computed in pieces.
    let width = if all <= room { classes } else { whole(room / ROWS, SUMMED_IN_F32) };
    let pieces = || Place { first, rows: count, start: 0, width: classes }.pieces(width);
    for block in &mut *blocks {
        block.sum = Lanes::splat(0.0);
    }
    for place in pieces() {
        exponentials(s, batch, numbers, blocks, place);
        s.run(ColumnSums { exponentials: numbers, width: place.width, blocks: &mut *blocks });
    }
    finish::<S, L, GRADIENT>(s, terms, blocks);
    if GRADIENT && batch.gradient.is_some() {
        s.run(Scales { whole: true, blocks: &mut *blocks });
        for place in pieces() {
            if width < classes {
                exponentials(s, batch, numbers, blocks, place);
            }
            s.run(ScaledColumns { exponentials: &mut *numbers, place, blocks });
            for (at, _) in (0..count).step_by(ROWS).zip(&*blocks).filter(|(_, block)| block.marked == 0) {
                let rows = ROWS.min(count.wrapping_sub(at));
                batch.store_columns(s, Place { rows, ..place.row(at) }, from_row(numbers, at, place.width));
            }
        }
    }
    blocks.iter().all(|block| block.marked == 0)
}

/// Columns of exponentials of some classes, 0 for the labels, whose logits are filled in as well. Blocks with a logit
/// out of range are marked.
fn exponentials<S: Vector>(s: S, batch: &Batch<'_>, numbers: &mut [f32], blocks: &mut [RowBlock], place: Place) {
    let Place { rows: count, start, width, .. } = place;
    for ((at, rows), block) in (0..).step_by(ROWS).zip(rows_of_blocks(count)).zip(blocks) {
        let columns = rows_of_mut(numbers, at, ROWS, width);
        let place = Place { rows, ..place.row(at) };
        batch.load_columns(s, place, columns);
        read_label_logits(columns, start, block);
        let in_range = s.run(Exponentials { logits: None, to: &mut *columns, count: ROWS.wrapping_mul(width) });
        exclude_labels(columns, start, block);
        if !in_range {
            block.marked = u32::MAX;
        }
    }
}

/// Fills the logits of the labels that lie in these columns, from class `start` on.
#[inline(never)]
pub(crate) fn read_label_logits(columns: &[f32], start: usize, block: &mut RowBlock) {
    for lane in Lane::all() {
        if let Some(&x) = of_label(block, start, lane).and_then(|index| columns.get(index)) {
            block.logit[lane] = x;
        }
    }
}

/// Sets the exponentials of the labels to 0.
#[inline(never)]
pub(crate) fn exclude_labels(columns: &mut [f32], start: usize, block: &RowBlock) {
    for lane in Lane::all() {
        if let Some(e) = of_label(block, start, lane).and_then(|index| columns.get_mut(index)) {
            *e = 0.0;
        }
    }
}

/// The index of a row's label in columns from class `start` on, unless it is before them.
#[inline(always)]
fn of_label(block: &RowBlock, start: usize, lane: Lane) -> Option<usize> {
    block.class[lane].checked_sub(start).map(|class| class.wrapping_mul(ROWS).wrapping_add(lane.number()))
}

/// Adds the exponentials of some classes to the sums, in the order of [`super::sums`].
pub(crate) struct ColumnSums<'a> {
    pub(crate) exponentials: &'a [f32],
    pub(crate) width: usize,
    pub(crate) blocks: &'a mut [RowBlock],
}

impl Operation for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        for (block, columns) in
            self.blocks.iter_mut().zip(self.exponentials.chunks_exact(ROWS.wrapping_mul(self.width).max(1)))
        {
            add_columns(s, columns, &mut block.sum);
        }
    }
}

/// Adds the columns of a block to the sums of its rows, in the order of [`super::sums`].
#[inline(always)]
pub(crate) fn add_columns<S: Vector>(s: S, columns: &[f32], totals: &mut Lanes<f64>) {
    add_terms_of_columns(
        s,
        columns,
        totals,
        #[inline(always)]
        |sum, column, _, at| s.add(sum, s.load(column, at)),
    );
}

/// Adds terms of the columns of a block to sums of its rows, in the order of [`super::sums`]: `add` adds those of a column,
/// its class, and a vector of rows from an index on, to a partial sum.
#[inline(always)]
pub(crate) fn add_terms_of_columns<S: Vector>(
    s: S,
    columns: &[f32],
    totals: &mut Lanes<f64>,
    add: impl Fn(S::F, &[f32; ROWS], usize, usize) -> S::F + Copy,
) {
    for (first, columns) in (0..).step_by(SUMMED_IN_F32).zip(columns.chunks(SUMMED_IN_F32 * ROWS)) {
        let (columns, mut eight) = (columns.as_chunks::<ROWS>().0, [Lanes::splat(0.0); VIRTUAL_LANES / 2]);
        let columns = Columns { columns, first, add };
        for (from, sums) in eight.iter_mut().enumerate().take(columns.columns.len()) {
            for at in (0..ROWS).step_by(S::LANES) {
                let both = s.add(columns.lane(s, from, at), columns.lane(s, from.wrapping_add(VIRTUAL_LANES / 2), at));
                s.store(both, sums.as_mut_slice(), at);
            }
        }
        let [a, b, c, d, e, f, g, h] = eight;
        for i in Lane::all() {
            let even = (f64::from(a[i]) + f64::from(e[i])) + (f64::from(c[i]) + f64::from(g[i]));
            let odd = (f64::from(b[i]) + f64::from(f[i])) + (f64::from(d[i]) + f64::from(h[i]));
            totals[i] += even + odd;
        }
    }
}

/// Columns from class `first` on, and how the terms of one are added.
struct Columns<'a, A> {
    columns: &'a [[f32; ROWS]],
    first: usize,
    add: A,
}

impl<A> Columns<'_, A> {
    /// The partial sums of virtual lane `number`, even and odd columns, for a vector of rows from `at` on.
    #[inline(always)]
    fn lane<S: Vector>(&self, s: S, number: usize, at: usize) -> S::F
    where
        A: Fn(S::F, &[f32; ROWS], usize, usize) -> S::F,
    {
        let even = self.every_other(s, number, at);
        if self.columns.len() <= VIRTUAL_LANES {
            return even;
        }
        s.add(even, self.every_other(s, number.wrapping_add(VIRTUAL_LANES), at))
    }

    #[inline(always)]
    fn every_other<S: Vector>(&self, s: S, from: usize, at: usize) -> S::F
    where
        A: Fn(S::F, &[f32; ROWS], usize, usize) -> S::F,
    {
        let (mut sum, mut class) = (s.splat(0.0), self.first.wrapping_add(from));
        for column in self.columns.iter().skip(from).step_by(2 * VIRTUAL_LANES) {
            sum = (self.add)(sum, column, class, at);
            class = class.wrapping_add(2 * VIRTUAL_LANES);
        }
        sum
    }
}

/// Scales exponentials of some classes to the gradient, in place.
struct ScaledColumns<'a> {
    exponentials: &'a mut [f32],
    place: Place,
    blocks: &'a [RowBlock],
}

impl Operation for ScaledColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { exponentials, place: Place { start, width, .. }, blocks } = self;
        for (block, columns) in blocks.iter().zip(exponentials.chunks_exact_mut(ROWS.wrapping_mul(width).max(1))) {
            let columns = columns.as_chunks_mut::<ROWS>().0;
            for at in (0..ROWS).step_by(S::LANES) {
                let scale = s.load(block.scale.as_slice(), at);
                for column in &mut *columns {
                    s.store(s.mul(s.load(column, at), scale), column, at);
                }
            }
            for (lane, (class, &element)) in block.class.iter().zip(&block.at_reference).enumerate() {
                let column = class.checked_sub(start).and_then(|class| columns.get_mut(class));
                if let Some(to) = column.and_then(|column| column.get_mut(lane)) {
                    *to = element;
                }
            }
        }
    }
}
