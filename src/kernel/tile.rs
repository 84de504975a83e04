//! A tile: some rows of f32 in the first cache, and their row scalars. With [`super::tile_columns`] the only place that
//! knows layouts and types of logits: they are copied into the tile, gradients back out of it.

use super::lanes::{Lane, Lanes};
use super::limits::{REACH, ROWS, SMALLEST};
use super::{copy, part, part_mut, row_of, rows_of, rows_of_mut, steps, whole};
use crate::backend::Backend;
use crate::backend::vector::{VIRTUAL_LANES, Vector};
use crate::logits::{Adjustment, Logits};
use crate::reduction::GradientScale;
use crate::rows::Rows;

/// Row scalars of a block, one row a lane.
#[derive(Clone)]
#[repr(C)]
pub(crate) struct RowBlock {
    /// The reference class r.
    pub(crate) class: Lanes<usize>,
    /// w\[y\]·s
    pub(crate) weight: Lanes<f64>,
    /// weight · upstream gradient / denominator / temperature
    pub(crate) factor: Lanes<f64>,
    /// x_r
    pub(crate) logit: Lanes<f32>,
    /// The reference of the exponentials, exp(x − shift)·2^power: [`super::exp::Reference`].
    pub(crate) shift: Lanes<f32>,
    pub(crate) power: Lanes<f32>,
    /// Σ_{k≠r} exp(x_k − shift)·2^power
    pub(crate) sum: Lanes<f64>,
    /// log(1 + E) = −log p_r, where E = Σ_{k≠r} exp(x_k − x_r); in the end the loss before its weight.
    pub(crate) log: Lanes<f64>,
    /// p_k divided by the exponential of class k: e^(shift − x_r)·2^−power/(1 + E)
    pub(crate) share: Lanes<f64>,
    /// 1 − p_r = E/(1 + E)
    pub(crate) one_minus_p: Lanes<f64>,
    pub(crate) loss: Lanes<f32>,
    /// factor·share: the gradient element of class k divided by its exponential.
    pub(crate) scale: Lanes<f32>,
    /// The gradient element of class r.
    pub(crate) at_reference: Lanes<f32>,
    /// Mask of the marked rows, left to the general way: bit i for lane i.
    pub(crate) marked: u32,
}

impl RowBlock {
    pub(crate) const EMPTY: Self = {
        let (zeros, numbers) = (Lanes::splat(0.0), Lanes::splat(0.0));
        Self {
            class: Lanes::splat(0),
            weight: zeros,
            factor: zeros,
            logit: numbers,
            shift: numbers,
            power: numbers,
            sum: zeros,
            log: zeros,
            share: zeros,
            one_minus_p: zeros,
            loss: numbers,
            scale: numbers,
            at_reference: numbers,
            marked: 0,
        }
    };

    #[inline(always)]
    pub(crate) fn is_marked(&self, lane: Lane) -> bool {
        self.marked & lane.bit() != 0
    }
}

/// Blocks, each behind an optimisation barrier: compilers that unroll over several may else make vectors of one row of
/// each, with a shuffle for every value.
#[allow(clippy::redundant_closure, reason = "what stands alone is not compiled for the processor")]
#[inline(always)]
pub(crate) fn one_by_one<B>(blocks: &mut [B]) -> impl Iterator<Item = &mut B> {
    blocks.iter_mut().map(core::hint::black_box)
}

/// The row counts of the blocks of `rows` rows: [`ROWS`] but for the last.
#[inline(always)]
pub(crate) fn rows_of_blocks(rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).step_by(ROWS).map(move |first| ROWS.min(rows.wrapping_sub(first)))
}

/// Working memory, on the stack.
pub(crate) struct Tile<'t> {
    /// Logits, then exponentials, row after row, and [`REACH`] elements of padding.
    pub(crate) numbers: &'t mut [f32],
    /// More arrays of that length, end to end.
    pub(crate) spare: &'t mut [f32],
    pub(crate) blocks: &'t mut [RowBlock],
}

/// Logits and blocks of the largest tile: of a first cache of 32 KB a quarter for logits, and half for those fields of
/// the blocks that a call uses.
const LARGE: (usize, usize) = (2048, 16);
/// For rows of [`LONG_CLASSES`] classes or more, which do not fill those blocks: half of such a cache, and four blocks.
const LONG: (usize, usize) = (4096, 4);
const LONG_CLASSES: usize = 64;
/// From so many logits in a call on, zeroing several arrays of that size pays. A row that fits no smaller tile gets
/// them in any call: else it would be computed in another way, to other bits.
const MANY: usize = 16 * LONG.0;
const MEDIUM: (usize, usize) = (1024, 4);
/// For a few rows, where zeroing more would take longer than computing. Where memory is small the only tile, with one
/// block if it has many arrays.
const SMALL: (usize, usize) = if Backend::ONLY_SCALAR { (SMALLEST, 4) } else { (256, 1) };

/// Calls `work` with a tile of `PARTS` arrays, as large as `rows` rows can use. Compiled once for all kinds of work,
/// and not inlined, so that no stack frame holds several tiles.
#[inline(never)]
pub(crate) fn with_tile<const PARTS: usize>(rows: usize, classes: usize, work: &mut dyn FnMut(Tile<'_>)) {
    let logits = rows.saturating_mul(classes);
    let fits = |(room, blocks): (usize, usize)| logits <= room && rows.div_ceil(ROWS) <= blocks;
    if Backend::ONLY_SCALAR && PARTS > 2 {
        let mut numbers = [[0.0; SMALL.0 + REACH]; PARTS];
        work(Tile::new(&mut numbers, &mut [RowBlock::EMPTY]))
    } else if Backend::ONLY_SCALAR || fits(SMALL) {
        let mut numbers = [[0.0; SMALL.0 + REACH]; PARTS];
        work(Tile::new(&mut numbers, &mut [RowBlock::EMPTY; SMALL.1]))
    } else if fits(MEDIUM) {
        let mut numbers = [[0.0; MEDIUM.0 + REACH]; PARTS];
        work(Tile::new(&mut numbers, &mut [RowBlock::EMPTY; MEDIUM.1]))
    } else if classes > LARGE.0 || classes >= LONG_CLASSES && (PARTS == 1 || logits > MANY) {
        let mut numbers = [[0.0; LONG.0 + REACH]; PARTS];
        work(Tile::new(&mut numbers, &mut [RowBlock::EMPTY; LONG.1]))
    } else {
        let mut numbers = [[0.0; LARGE.0 + REACH]; PARTS];
        work(Tile::new(&mut numbers, &mut [RowBlock::EMPTY; LARGE.1]))
    }
}

impl<'t> Tile<'t> {
    #[inline(always)]
    fn new<const LEN: usize>(numbers: &'t mut [[f32; LEN]], blocks: &'t mut [RowBlock]) -> Self {
        let (numbers, spare) = numbers.as_flattened_mut().split_at_mut_checked(LEN).unwrap_or_default();
        Self { numbers, spare, blocks }
    }

    /// The number of logits that fit.
    pub(crate) fn room(&self) -> usize {
        self.numbers.len().saturating_sub(REACH)
    }

    /// The tile with the blocks of `rows` rows alone.
    pub(crate) fn of_rows(&mut self, rows: usize) -> Tile<'_> {
        Tile { numbers: self.numbers, spare: self.spare, blocks: part_mut(self.blocks, 0, rows.div_ceil(ROWS)) }
    }

    /// How many rows of `classes` classes fit: whole blocks if more than one does, 0 if no row does.
    pub(crate) fn rows(&self, classes: usize) -> usize {
        let rows = self.room().checked_div(classes).unwrap_or(0).min(self.blocks.len().wrapping_mul(ROWS));
        if rows > ROWS { whole(rows, ROWS) } else { rows }
    }
}

/// The first arrays, of `len` elements each, of the spare ones of a [`Tile`].
pub(crate) fn arrays<const N: usize>(spare: &mut [f32], len: usize) -> [&mut [f32]; N] {
    let mut arrays = spare.chunks_exact_mut(len.max(1));
    [(); N].map(|()| arrays.next().unwrap_or_default())
}

/// Logits of any type and layout, and the buffer of their gradient.
pub(crate) struct Batch<'a> {
    pub(crate) rows: &'a Rows<'a>,
    /// `None`: in the gradient buffer, to be overwritten.
    pub(crate) logits: Option<Logits<'a>>,
    pub(crate) adjustment: Adjustment<'a>,
    pub(crate) gradient: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

impl Batch<'_> {
    /// The logits before adjustment.
    #[inline(always)]
    pub(crate) fn given(&self) -> Logits<'_> {
        self.logits.unwrap_or(Logits::F32(self.gradient.as_deref().unwrap_or(&[])))
    }

    /// The logits, if they can be read without a copy: contiguous rows of f32 without adjustment.
    #[inline(always)]
    pub(crate) fn as_tile(&self) -> Option<&[f32]> {
        if self.rows.are_dense() && self.adjustment.is_none() { self.given().as_f32() } else { None }
    }

    /// The logits of whole rows, or of a piece of one, if they can be read without a copy.
    pub(crate) fn rows_in_place(&self, place: Place) -> Option<&[f32]> {
        let (start, len) = (self.rows.element(place.first, place.start), place.rows.wrapping_mul(place.width));
        self.as_tile().map(|logits| part(logits, start, len))
    }

    /// [`Batch::rows_in_place`], else copied to `loaded`.
    pub(crate) fn rows_in_place_or_loaded<'t, S: Vector>(
        &'t self,
        s: S,
        place: Place,
        loaded: &'t mut [f32],
    ) -> &'t [f32] {
        if let Some(logits) = self.rows_in_place(place) {
            return logits;
        }
        self.load_rows(s, place, loaded);
        rows_of(loaded, 0, place.rows, place.width)
    }

    /// The gradient of whole rows, if it can be written without a copy.
    pub(crate) fn gradient_in_place(&mut self, place: Place) -> Option<&mut [f32]> {
        let gradient = self.gradient.as_deref_mut().filter(|_| self.rows.are_dense())?;
        Some(rows_of_mut(gradient, place.first, place.rows, place.width))
    }

    /// The adjusted logit of a class.
    #[inline(never)]
    pub(crate) fn logit(&self, row: usize, class: usize) -> f32 {
        let given = self.given().number(self.rows.element(row, class)).unwrap_or(f32::NAN);
        self.adjustment.apply(given, class)
    }

    /// Copies some classes of some rows into `to`, as `[rows, width]` of adjusted f32.
    pub(crate) fn load_rows<S: Vector>(&self, s: S, place: Place, to: &mut [f32]) {
        load_rows(s, self.rows, self.given(), place, to);
        let Place { start, width, rows, .. } = place;
        if !self.adjustment.is_none() {
            for row in rows_of_mut(to, 0, rows, width).chunks_exact_mut(width.max(1)) {
                for (class, x) in (start..).zip(row) {
                    *x = self.adjustment.apply(*x, class);
                }
            }
        }
    }

    /// [`Batch::load_rows`] for target probabilities, which have the layout of the logits.
    pub(crate) fn load_targets<S: Vector>(&self, s: S, targets: &[f32], place: Place, to: &mut [f32]) {
        load_rows(s, self.rows, Logits::F32(targets), place, to);
    }

    /// Copies `from` to the gradient but for marked rows.
    pub(crate) fn store_unmarked<S: Vector>(&mut self, s: S, place: Place, from: &[f32], blocks: &[RowBlock]) {
        if blocks.iter().all(|block| block.marked == 0) {
            return self.store_rows(s, place, from);
        }
        let Place { rows, width, .. } = place;
        for row in (0..rows).filter(|&row| blocks.get(row / ROWS).is_some_and(|block| !block.is_marked(Lane::of(row))))
        {
            self.store_rows(s, place.row(row), row_of(from, row, width));
        }
    }

    /// The inverse of [`Batch::load_rows`], for the gradient.
    pub(crate) fn store_rows<S: Vector>(&mut self, s: S, place: Place, from: &[f32]) {
        let Some(to) = self.gradient.as_deref_mut() else { return };
        let rows = self.rows;
        s.run(
            #[inline(always)]
            move || {
                let Place { first, rows: count, start, width } = place;
                if rows.are_dense() && width == rows.classes() {
                    return copy(part_mut(to, rows.start(first), count.wrapping_mul(width)), from);
                }
                if rows.positions() == 1 {
                    for (row, from) in (first..).zip(from.chunks_exact(width.max(1))).take(count) {
                        copy(part_mut(to, rows.element(row, start), width), from);
                    }
                    return;
                }
                for run in runs(rows, place) {
                    for (class, row) in squares::<S>(width, run.rows) {
                        let left = run.rows.wrapping_sub(row);
                        transpose(
                            s,
                            left,
                            width.wrapping_sub(class),
                            #[inline(always)]
                            |i| {
                                s.load_partial(
                                    from.get(run.in_tile(class, row.wrapping_add(i), width)..).unwrap_or(&[]),
                                    0.0,
                                )
                            },
                            #[inline(always)]
                            |i, x| {
                                let to = to
                                    .get_mut(run.in_samples(class.wrapping_add(i), row, rows.positions())..)
                                    .unwrap_or(&mut []);
                                if left < S::LANES {
                                    s.store_partial(x, part_mut(to, 0, left))
                                } else {
                                    s.store(x, to, 0)
                                }
                            },
                        );
                    }
                }
            },
        )
    }
}

/// A range of rows and a range of their classes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The first row, and how many.
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// The first class, and how many.
    pub(crate) start: usize,
    pub(crate) width: usize,
}

impl Place {
    /// One of the rows.
    #[inline(always)]
    pub(crate) fn row(self, row: usize) -> Self {
        Self { first: self.first.wrapping_add(row), rows: 1, ..self }
    }

    /// Its blocks.
    pub(crate) fn blocks(self) -> impl Iterator<Item = Self> {
        (0..).step_by(ROWS).zip(rows_of_blocks(self.rows)).map(move |(at, rows)| Self { rows, ..self.row(at) })
    }

    /// The same rows in pieces of `width` classes.
    #[inline(always)]
    pub(crate) fn pieces(self, width: usize) -> impl Iterator<Item = Self> {
        steps(self.width, width).map(move |start| Self {
            start: self.start.wrapping_add(start),
            width: width.min(self.width.wrapping_sub(start)),
            ..self
        })
    }
}

/// The most rows and classes that are transposed at once.
const SQUARE: usize = if Backend::ONLY_SCALAR { 1 } else { VIRTUAL_LANES };

fn load_rows<S: Vector>(s: S, rows: &Rows<'_>, from: Logits<'_>, place: Place, to: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            let Place { first, rows: count, start, width } = place;
            if rows.positions() == 1 {
                // Contiguous whole rows are copied as one.
                let is_one = rows.are_dense() && width == rows.classes();
                let (count, width) = if is_one { (1, count.wrapping_mul(width)) } else { (count, width) };
                for (row, to) in (first..).zip(to.chunks_exact_mut(width.max(1))).take(count) {
                    from.widen(rows.element(row, start), to);
                }
                return;
            }
            let mut widened = [[0.0; SQUARE]; SQUARE];
            for run in runs(rows, place) {
                // The cache lines of some classes are used up before the next classes are read.
                for (class, row) in squares::<S>(width, run.rows) {
                    // Other types than f32 by way of a square of f32.
                    let at = |class: usize| run.in_samples(class, row, rows.positions());
                    if from.as_f32().is_none() {
                        for (class, to) in (class..width).zip(&mut widened).take(S::LANES) {
                            from.widen(at(class), part_mut(to, 0, S::LANES));
                        }
                    }
                    let (logits, start, stride) =
                        from.as_f32().map_or((widened.as_flattened(), 0, SQUARE), |x| (x, at(class), rows.positions()));
                    transpose(
                        s,
                        width.wrapping_sub(class),
                        run.rows.wrapping_sub(row),
                        #[inline(always)]
                        |i| {
                            s.load_partial(logits.get(start.wrapping_add(i.wrapping_mul(stride))..).unwrap_or(&[]), 0.0)
                        },
                        // Lanes beyond the end of a row of few classes are overwritten by the next row.
                        #[inline(always)]
                        |i, x| {
                            let at = run.in_tile(class, row.wrapping_add(i), width);
                            s.store_partial(x, to.get_mut(at..).unwrap_or(&mut []));
                        },
                    );
                }
            }
        },
    )
}

/// Consecutive positions of a sample: their logits of one class are contiguous.
pub(crate) struct Run {
    /// The index of the first of these rows in the place.
    pub(crate) at: usize,
    pub(crate) rows: usize,
    /// The buffer index of that row's logit of the first class of the place.
    start: usize,
}

impl Run {
    /// The index in a buffer `[N, C, D]`; `row` counts from the first of the run, `class` from that of the place.
    #[inline(always)]
    pub(crate) fn in_samples(&self, class: usize, row: usize, positions: usize) -> usize {
        self.start.wrapping_add(class.wrapping_mul(positions)).wrapping_add(row)
    }

    /// The index of that element in a tile of `width` classes.
    #[inline(always)]
    fn in_tile(&self, class: usize, row: usize, width: usize) -> usize {
        self.at.wrapping_add(row).wrapping_mul(width).wrapping_add(class)
    }
}

/// The rows of a place as such runs.
#[inline(always)]
pub(crate) fn runs(rows: &Rows<'_>, place: Place) -> impl Iterator<Item = Run> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let (first, left) = (place.first.wrapping_add(at), place.rows.wrapping_sub(at));
        let run = left.min(rows.left_in_sample(first));
        let run = (left > 0).then_some(Run { at, rows: run, start: rows.element(first, place.start) })?;
        at = at.wrapping_add(run.rows);
        Some(run)
    })
}

/// The first classes and rows of `LANES` × `LANES` squares that cover all elements. The last classes may overlap with
/// those before.
#[inline(always)]
pub(crate) fn squares<S: Vector>(width: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let classes = (0..width).step_by(S::LANES).map(move |class| class.min(width.saturating_sub(S::LANES)));
    classes.flat_map(move |class| (0..rows).step_by(S::LANES).map(move |row| (class, row)))
}

/// Transposes a square with at most `LANES` loads and stores: lane j of vector i becomes lane i of vector j.
#[inline(always)]
pub(crate) fn transpose<S: Vector>(
    s: S,
    loads: usize,
    stores: usize,
    load: impl Fn(usize) -> S::F,
    mut store: impl FnMut(usize, S::F),
) {
    let mut of = [s.splat(0.0); VIRTUAL_LANES];
    for (i, vector) in of.iter_mut().enumerate().take(S::LANES) {
        if i < loads {
            *vector = load(i);
        }
    }
    for (i, &vector) in transposed(s, of).iter().enumerate().take(S::LANES) {
        if i < stores {
            store(i, vector);
        }
    }
}

#[inline(always)]
fn transposed<S: Vector>(s: S, mut of: [S::F; VIRTUAL_LANES]) -> [S::F; VIRTUAL_LANES] {
    let mut left = S::LANES;
    while left > 1 {
        let from = of;
        let (low, high) = from.split_at_checked(S::LANES / 2).unwrap_or_default();
        for (to, (&low, &high)) in of.as_chunks_mut().0.iter_mut().zip(low.iter().zip(high)) {
            let (even, odd) = s.interleave(low, high);
            *to = [even, odd];
        }
        left /= 2;
    }
    of
}

// Where memory is small, tiles and blocks have one size.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    // Zeroing a larger tile than a call can use would take longer than computing it.
    #[test]
    fn a_tile_is_as_large_as_the_rows_can_use() {
        fn room<const PARTS: usize>(rows: usize, classes: usize) -> (usize, usize) {
            let mut room = (0, 0);
            with_tile::<PARTS>(rows, classes, &mut |tile| room = (tile.room(), tile.blocks.len()));
            room
        }
        for (rows, classes, one, two) in [
            (1, 10, SMALL, SMALL),
            (16, 16, SMALL, SMALL),
            (16, 17, MEDIUM, MEDIUM),
            (17, 10, MEDIUM, MEDIUM),
            (64, 16, MEDIUM, MEDIUM),
            (65, 10, LARGE, LARGE),
            (64, 17, LARGE, LARGE),
            (5000, 63, LARGE, LARGE),
            (17, 64, LONG, LARGE),
            (1024, 64, LONG, LARGE),
            (1025, 64, LONG, LONG),
            (2, 2048, LONG, LARGE),
            (1, 2049, LONG, LONG),
        ] {
            assert_eq!((room::<1>(rows, classes), room::<2>(rows, classes)), (one, two), "{rows} rows of {classes}");
        }
    }

    #[test]
    fn whole_blocks_of_rows_fit_a_tile() {
        let mut numbers = [[0.0; LARGE.0 + REACH]];
        let mut blocks = [RowBlock::EMPTY; 3];
        let tile = Tile::new(&mut numbers, &mut blocks);
        for (classes, rows) in [(1, 48), (60, 32), (64, 32), (65, 16), (128, 16), (129, 15), (2048, 1), (2049, 0)] {
            assert_eq!(tile.rows(classes), rows, "{classes} classes");
        }
    }
}
