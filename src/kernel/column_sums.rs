//! Exponentials and sums of columns: a vector holds one class of several rows, a piece of columns as many classes as a row
//! has partial sums in f32. The order of addition is that of [`super::partial_sums`].

use super::exp::{Exp, all_in_range, exp_in_range};
use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{PIECE, ROWS, SUMMED_IN_F32};
use super::marks::is_in_range;
use super::partial_sums::{add_partial_sums, add_parts, in_f64};
use super::sums::is_worth_code;
use super::tile::{Place, RowBlock, one_by_one};
use super::tile_columns::Columns;
use super::{chunks_mut, copy, part, part_mut};
use crate::backend::vector::{VIRTUAL_LANES, Vector};

/// Adds the exponentials of a piece to Σexp; `false` if every block has had a logit out of range. The exponentials are kept
/// in columns of the gradient, if given.
#[inline(never)]
pub(crate) fn add_piece<S: Vector>(
    s: S,
    columns: Columns<'_>,
    (place, all): (Place, Place),
    numbers: &mut [f32],
    kept: Option<(&mut [f32], usize)>,
    referred: bool,
    blocks: &mut [RowBlock],
) -> bool {
    let adds = !place.start.is_multiple_of(SUMMED_IN_F32);
    if !add_exponentials(s, columns, place, adds, numbers, kept, referred, blocks) {
        mark_columns(s, columns, place.width, blocks);
        if blocks.iter().all(|block| block.marked != 0) {
            return false;
        }
    }
    if let Some(width) = summed_with(place, all) {
        add_column_sums(s, numbers, width, blocks);
    }
    true
}

/// The number of classes whose partial sums are complete if 128 classes, or those of a row, end with this piece.
pub(crate) fn summed_with(place: Place, all: Place) -> Option<usize> {
    let end = place.start.wrapping_add(place.width);
    let len = place.start % SUMMED_IN_F32;
    (end == all.width || end.is_multiple_of(SUMMED_IN_F32)).then_some(len.wrapping_add(place.width))
}

/// Fills the logits of the labels that lie in a piece.
pub(crate) fn read_label_logits<S: Vector>(s: S, columns: Columns<'_>, place: Place, blocks: &mut [RowBlock]) {
    let Place { start, width, .. } = place;
    s.run(
        #[inline(always)]
        move || {
            for (row, block) in (0_usize..).step_by(ROWS).zip(blocks) {
                for lane in Lane::all() {
                    let class = block.class[lane].wrapping_sub(start);
                    if class < width {
                        block.logit[lane] = columns.logit(class, row.wrapping_add(lane.number()));
                    }
                }
            }
        },
    )
}

/// The labels of the rows, counted from the first class of a piece; at least [`PIECE`] if in another.
#[inline(always)]
pub(crate) fn labels_from(start: usize, blocks: &[RowBlock]) -> Aligned<[f32; VIRTUAL_LANES * ROWS]> {
    let mut labels = Aligned([0.0; VIRTUAL_LANES * ROWS]);
    for (labels, block) in one_by_one(labels.0.as_chunks_mut::<ROWS>().0).zip(blocks) {
        for (label, class) in labels.iter_mut().zip(&block.class) {
            *label = class.wrapping_sub(start).min(PIECE) as i32 as f32;
        }
    }
    labels
}

/// Exponentials of a piece, 0 for labels, to columns, where they replace or add to what is there; returns whether all
/// logits are in range. With references, those of the rows, they are in any case. `kept` are columns that keep the
/// exponentials as well, and the number of elements from one class to the next there.
pub(crate) fn add_exponentials<S: Vector>(
    s: S,
    columns: Columns<'_>,
    place: Place,
    adds: bool,
    to: &mut [f32],
    mut kept: Option<(&mut [f32], usize)>,
    referred: bool,
    blocks: &[RowBlock],
) -> bool {
    s.run(
        #[inline(always)]
        move || {
            if referred && const { is_worth_code::<S>() } {
                add_referred(s, columns, place, adds, to, kept, blocks);
                return true;
            }
            let (labels, mut union) = (labels_from(place.start, blocks), s.splat_bits(0));
            for (class, to) in chunks_mut(to, columns.rows).enumerate().take(place.width) {
                let label = s.splat(class as i32 as f32);
                let vectors = columns.of_class(class).chunks_exact(S::LANES).zip(labels.0.chunks_exact(S::LANES));
                let vectors = to.chunks_exact_mut(S::LANES).zip(vectors);
                if let Some((kept, stride)) = &mut kept {
                    let kept = part_mut(kept, class.wrapping_mul(*stride), place.rows);
                    for (kept, (to, (x, labels))) in chunks_mut(kept, S::LANES).zip(vectors) {
                        let (e, bits) = exp_without_label(s, x, labels, label);
                        s.store_partial(e, kept);
                        s.store(if adds { s.add(s.load(to, 0), e) } else { e }, to, 0);
                        union = s.or_bits(union, bits);
                    }
                } else {
                    for (to, (x, labels)) in vectors {
                        let (e, bits) = exp_without_label(s, x, labels, label);
                        s.store(if adds { s.add(s.load(to, 0), e) } else { e }, to, 0);
                        union = s.or_bits(union, bits);
                    }
                }
            }
            all_in_range(s, union)
        },
    )
}

/// [`add_exponentials`] with references.
#[inline(always)]
fn add_referred<S: Vector>(
    s: S,
    columns: Columns<'_>,
    place: Place,
    adds: bool,
    to: &mut [f32],
    mut kept: Option<(&mut [f32], usize)>,
    blocks: &[RowBlock],
) {
    let labels = labels_from(place.start, blocks);
    for (first, block) in (0_usize..).step_by(ROWS).zip(blocks) {
        for lane in (0..ROWS).step_by(S::LANES) {
            let row = first.wrapping_add(lane);
            let (shift, power) = (s.load(block.shift.as_slice(), lane), s.load(block.power.as_slice(), lane));
            // An even power would round ties in another way than those in range, which have none.
            let has_none = s.equal(power, s.splat(0.0));
            let (power, unit) =
                (s.select(has_none, s.splat(1.0), power), s.select(has_none, s.splat(0.5), s.splat(1.0)));
            let (exp, label, mut of_class) = (Exp::of_lanes(s, shift, power), s.load(&labels.0, row), s.splat(0.0));
            let of_classes = chunks_mut(to.get_mut(row..).unwrap_or(&mut []), columns.rows).take(place.width);
            for (class, (to, x)) in of_classes.zip(columns.of_classes(row)).enumerate() {
                let e = s.mul(exp.of(s, s.load(x, 0)), unit);
                let e = s.zero_where(s.equal(label, of_class), e);
                of_class = s.add(of_class, s.splat(1.0));
                s.store(if adds { s.add(s.load(to, 0), e) } else { e }, to, 0);
                if let Some((kept, stride)) = &mut kept {
                    let left = S::LANES.min(place.rows.saturating_sub(row));
                    s.store_partial(e, part_mut(kept, class.wrapping_mul(*stride).wrapping_add(row), left));
                }
            }
        }
    }
}

/// [`exp_in_range`], 0 where the label is this class.
#[inline(always)]
fn exp_without_label<S: Vector>(s: S, x: &[f32], labels: &[f32], class: S::F) -> (S::F, S::U) {
    let (e, bits) = exp_in_range(s, s.load(x, 0));
    (s.zero_where(s.equal(s.load(labels, 0), class), e), bits)
}

/// Marks all rows of each block that has a logit out of range.
pub(crate) fn mark_columns<S: Vector>(s: S, columns: Columns<'_>, width: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (at, block) in (0..).step_by(ROWS).zip(blocks) {
                if !(0..width).all(|class| is_in_range(s, part(columns.of_class(class), at, ROWS))) {
                    block.marked = u32::MAX;
                }
            }
        },
    )
}

/// Adds columns of partial sums to the sums of the rows.
pub(crate) fn add_column_sums<S: Vector>(s: S, exponentials: &[f32], width: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let stride = blocks.len().wrapping_mul(ROWS);
            for (at, block) in (0..).step_by(ROWS).zip(blocks) {
                add_columns::<S, true>(s, exponentials.get(at..).unwrap_or(&[]), (width, stride), &mut block.sum);
            }
        },
    )
}

/// Adds the partial sums of the rows of a block, [`PIECE`] columns at most of `width` classes, in the order of
/// [`super::partial_sums`].
#[inline(always)]
pub(crate) fn add_columns<S: Vector, const APART: bool>(
    s: S,
    columns: &[f32],
    (width, stride): (usize, usize),
    totals: &mut Lanes<f64>,
) {
    // What lanes j and j + 8 of a row have to be added in f64, for each j.
    let mut folded = [[Lanes::splat(0.0); VIRTUAL_LANES / 2]; 2];
    if width <= VIRTUAL_LANES && const { is_worth_code::<S>() } {
        fold_columns::<S, APART, 1>(s, columns, (width, stride), VIRTUAL_LANES, &mut folded);
    } else if width <= 2 * VIRTUAL_LANES && const { is_worth_code::<S>() } {
        fold_columns::<S, APART, 2>(s, columns, (width, stride), 2 * VIRTUAL_LANES, &mut folded);
    } else {
        // The order of addition has steps at 16 and 32 classes.
        let len = width.next_multiple_of(VIRTUAL_LANES);
        fold_columns::<S, APART, 4>(s, columns, (width, stride), len, &mut folded);
    }
    if in_f64::<APART>(width) {
        add_lanes::<true>(&folded, totals);
    } else {
        add_lanes::<false>(&folded, totals);
    }
}

/// Folds so many times sixteen columns of partial sums of `width` classes, whose order of addition is that of `len`.
#[inline(always)]
fn fold_columns<S: Vector, const APART: bool, const COLUMNS: usize>(
    s: S,
    columns: &[f32],
    (width, stride): (usize, usize),
    len: usize,
    [eight, others]: &mut [[Lanes<f32>; VIRTUAL_LANES / 2]; 2],
) {
    const NONE: [f32; ROWS] = [-0.0; ROWS];
    for (class, (eight, others)) in eight.iter_mut().zip(others).enumerate().take(width) {
        let mut halves = [[&NONE[..]; COLUMNS]; 2];
        for (half, first) in halves.iter_mut().zip([class, class.wrapping_add(VIRTUAL_LANES / 2)]) {
            for (column, class) in half.iter_mut().zip((first..width).step_by(VIRTUAL_LANES)) {
                *column = columns.get(class.wrapping_mul(stride)..).unwrap_or(&NONE);
            }
        }
        for at in (0..ROWS).step_by(S::LANES) {
            let mut parts = [[s.splat(-0.0); 2]; 2];
            for (parts, half) in parts.iter_mut().zip(&halves) {
                let mut partial_sums = [s.splat(-0.0); PIECE / VIRTUAL_LANES];
                for (sum, column) in partial_sums.iter_mut().zip(half) {
                    *sum = s.load(column, at);
                }
                *parts = add_partial_sums::<S, APART>(s, partial_sums, len);
            }
            let [low, high] = add_parts::<S, APART>(s, parts, len);
            s.store(low, eight.as_mut_slice(), at);
            s.store(high, others.as_mut_slice(), at);
        }
    }
}

/// Adds lanes 0 to 7 of each row in f64 and, if told, 8 to 15.
#[inline(always)]
fn add_lanes<const SIXTEEN: bool>([eight, others]: &[[Lanes<f32>; VIRTUAL_LANES / 2]; 2], totals: &mut Lanes<f64>) {
    for i in Lane::all() {
        let mut lanes = [0.0; VIRTUAL_LANES / 2];
        for (lane, (eight, others)) in lanes.iter_mut().zip(eight.iter().zip(others)) {
            *lane = f64::from(eight[i]);
            if SIXTEEN {
                *lane += f64::from(others[i]);
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        totals[i] += ((a + e) + (c + g)) + ((b + f) + (d + h));
    }
}

/// A row scalar of the rows of all blocks, end to end.
#[inline(always)]
pub(crate) fn of_rows<'a>(blocks: impl Iterator<Item = &'a Lanes<f32>>) -> Aligned<[f32; VIRTUAL_LANES * ROWS]> {
    let mut rows = Aligned([0.0; VIRTUAL_LANES * ROWS]);
    for (to, of_block) in rows.0.as_chunks_mut::<ROWS>().0.iter_mut().zip(blocks) {
        copy(to, of_block.as_slice());
    }
    rows
}

/// Replaces each vector of `to` by `of` its start and itself; the last may be shorter.
#[inline(always)]
pub(crate) fn map_vectors<S: Vector>(s: S, to: &mut [f32], of: impl Fn(usize, S::F) -> S::F) {
    let (mut at, mut vectors) = (0_usize, to.chunks_exact_mut(S::LANES));
    for to in vectors.by_ref() {
        s.store(of(at, s.load(to, 0)), to, 0);
        at = at.wrapping_add(S::LANES);
    }
    let rest = vectors.into_remainder();
    if !rest.is_empty() {
        s.store_partial(of(at, s.load_partial(rest, 0.0)), rest);
    }
}

/// Sets one element of each row of the block that begins at `row`, of a class that may be in this piece.
#[inline(always)]
pub(crate) fn set_elements(
    columns: &mut [f32],
    place: Place,
    (row, stride): (usize, usize),
    classes: &Lanes<usize>,
    elements: &Lanes<f32>,
) {
    for lane in Lane::all() {
        let class = classes[lane].wrapping_sub(place.start);
        let row = row.wrapping_add(lane.number());
        let is_here = class < place.width && row < place.rows;
        if let Some(to) = columns.get_mut(class.wrapping_mul(stride).wrapping_add(row)).filter(|_| is_here) {
            *to = elements[lane];
        }
    }
}
