//! The general way: recomputes marked rows, whatever their logits and weights. Exponentials are relative to the largest
//! logit other than the reference's, so that Σexp neither overflows nor underflows; row scalars are f64; rows with
//! infinite or NaN logits follow the contract's table.

use super::exp::{Exp, Reference, exponentiate};
use super::f64_math;
use super::label_terms::LabelTerms;
use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{RAISE, ROWS, SUMMED_IN_F32, UNDERFLOW_SCALE};
use super::references::{argmax, find_references, largest_of_rows};
use super::row_scalars::{Exponentials, finish_rows};
use super::scales::{scale_of, scale_row};
use super::sums::{add_row_sums, first_rows, has_long_vectors, row_sums};
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{from_row, from_row_mut, part, part_mut, row_of, row_of_mut, steps, whole};
use crate::backend::vector::{VIRTUAL_LANES, Vector};
use crate::reduction::canonical;
use crate::rows::Rows;
use core::f64::consts::LN_2;

/// Consecutive rows of a block, computed together, and the block's marks.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    /// The rows, with all their classes.
    pub(crate) all: Place,
    /// The lane of the first row.
    lane: usize,
    marked: u32,
    /// Classes per piece; all of them if whole rows fit the tile.
    width: usize,
}

impl Group {
    /// The rows of `place`, from `lane` on, all marked.
    pub(crate) fn of_rows(all: Place, lane: Lane) -> Self {
        Self { all, lane: lane.number(), marked: u32::MAX, width: all.width }
    }

    pub(crate) fn pieces(self) -> impl Iterator<Item = Place> {
        self.all.pieces(self.width)
    }

    /// The group with marks in only those lanes that satisfy `is_such`.
    pub(crate) fn marked_where(self, is_such: impl Fn(Lane) -> bool) -> Self {
        let such = self.marked().filter(|&(_, lane)| is_such(lane)).fold(0, |bits, (_, lane)| bits | lane.bit());
        Self { marked: such, ..self }
    }

    /// Index in the call of row `row` of the group.
    pub(crate) fn row(self, row: usize) -> usize {
        self.all.first.wrapping_add(row)
    }

    /// Whether a row does not fit the tile at once.
    fn is_in_pieces(self) -> bool {
        self.width < self.all.width
    }

    /// Whether several rows, from lane 0 on, are in the tile with all their classes.
    #[inline(always)]
    fn is_block(self) -> bool {
        self.lane == 0 && self.all.rows > 1 && !self.is_in_pieces()
    }

    pub(crate) fn is_marked(self, lane: Lane) -> bool {
        self.marked & lane.bit() != 0
    }

    /// The marked rows that `other` has not marked.
    pub(crate) fn without(self, other: Self) -> Self {
        Self { marked: self.marked & !other.marked, ..self }
    }

    /// A bit for each marked row, by its index in the group.
    #[inline(always)]
    fn marked_rows(self) -> u32 {
        self.marked.wrapping_shr(self.lane as u32) & first_rows(self.all.rows)
    }

    /// (index in the group, lane) of each marked row.
    #[inline(always)]
    pub(crate) fn marked(self) -> impl Iterator<Item = (usize, Lane)> {
        let mut left = self.marked_rows();
        core::iter::from_fn(move || {
            let row = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left.wrapping_sub(1);
            Some((row, Lane::of(self.lane.wrapping_add(row))))
        })
    }
}

/// Clears the marks of the blocks and calls `work` for each group with marked rows: of a whole block if its rows fit
/// the tile, else of one row or, with positions > 1, of as many as fit with 128 classes each.
pub(crate) fn for_each_group(
    rows: &Rows<'_>,
    room: usize,
    place: Place,
    blocks: &mut [RowBlock],
    mut work: impl FnMut(usize, &mut RowBlock, Group),
) {
    let classes = place.width;
    let at_once = if classes <= room / ROWS {
        ROWS
    } else if rows.positions() > 1 {
        (room / SUMMED_IN_F32).clamp(1, ROWS)
    } else {
        1
    };
    let room = room.checked_div(at_once).unwrap_or(0);
    let width = if classes <= room { classes } else { whole(room, SUMMED_IN_F32) };
    for (number, (place, block)) in place.blocks().zip(blocks).enumerate() {
        let marked = core::mem::take(&mut block.marked);
        for lane in steps(place.rows, at_once) {
            let rows = at_once.min(place.rows.wrapping_sub(lane));
            let group = Group { all: Place { rows, ..place.row(lane) }, lane, marked, width };
            if group.marked().next().is_some() {
                work(number, block, group);
            }
        }
    }
}

/// Recomputes the marked rows of a tile: losses (as `log`) and gradients.
#[cold]
#[inline(never)]
pub(crate) fn compute<S: Vector, L: LabelTerms, const GRADIENT: bool>(
    s: S,
    batch: &mut Batch<'_>,
    terms: L,
    tile: &mut Tile<'_>,
    place: Place,
) {
    let (room, rows, numbers) = (tile.room(), batch.rows, &mut *tile.numbers);
    for_each_group(rows, room, place, tile.blocks, |_, block, group| {
        let certain = losses(s, batch, terms, numbers, block, group);
        if GRADIENT && batch.gradient.is_some() {
            write_gradient(s, batch, numbers, block, &certain, group);
        }
        block.without_references();
    });
}

/// Makes the argmax of each marked row, the first on ties, its reference class.
pub(crate) fn find_argmax<S: Vector>(s: S, batch: &Batch<'_>, numbers: &mut [f32], found: &mut RowBlock, group: Group) {
    if S::WIDE && group.is_block() {
        for place in group.pieces() {
            batch.load_rows(s, place, numbers);
        }
        let blocks = core::slice::from_mut(found);
        return find_references(s, numbers, group.all.width, blocks);
    }
    let mut most = Lanes::splat(f32::NEG_INFINITY);
    for (_, lane) in group.marked() {
        found.class[lane] = 0;
    }
    for place in group.pieces() {
        batch.load_rows(s, place, numbers);
        for (row, lane) in group.marked() {
            let (x, class) = argmax(s, row_of(numbers, row, place.width));
            if x > most[lane] {
                (most[lane], found.class[lane]) = (x, place.start.wrapping_add(class));
            }
        }
    }
}

/// Fills Σexp of each marked row over the classes other than its reference, and the scalars of [`finish_rows`]. Leaves the
/// exponentials in the tile if it holds all classes of a row.
pub(crate) fn sum_without_references<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    numbers: &mut [f32],
    found: &mut RowBlock,
    group: Group,
) {
    // Row scalars of all lanes, as vectors: nobody reads those of lanes without a marked row.
    (found.shift, found.sum) = (Lanes::splat(f32::NEG_INFINITY), Lanes::splat(0.0));
    for place in group.pieces() {
        batch.load_rows(s, place, numbers);
        let class = found.class;
        exclude(numbers, &class, group, place, |lane, logit| found.logit[lane] = logit);
        largest_of_marked(s, numbers, place.width, group, &mut found.shift);
    }
    let largest = found.shift;
    found.refer_to(&largest, RAISE);
    for place in group.pieces() {
        if group.is_in_pieces() {
            load_without_references(s, batch, numbers, found, group, place);
        }
        exponentiate_marked(s, numbers, place.width, group, &*found);
        if S::WIDE && group.is_block() {
            let blocks = core::slice::from_mut(&mut *found);
            row_sums(s, numbers, place.width, place.rows, blocks);
        } else {
            add_sums(s, numbers, Group { all: place, ..group }, found);
        }
    }
    for i in Lane::all() {
        // All other logits are −∞: Σexp is 0, though exp(−∞) is not where a host program rounds toward +∞.
        let is_zero = (largest[i] == f32::NEG_INFINITY) & !found.sum[i].is_nan();
        found.sum[i] = if is_zero { 0.0 } else { found.sum[i] };
    }
    finish_rows(s, Exponentials::Referred, true, core::slice::from_mut(found));
}

/// Fills the losses of a group; returns for each row with a sole +∞ that class and the gradient there, without the row's
/// factor.
fn losses<S: Vector, L: LabelTerms>(
    s: S,
    batch: &Batch<'_>,
    terms: L,
    numbers: &mut [f32],
    block: &mut RowBlock,
    group: Group,
) -> Lanes<Option<(usize, f64)>> {
    // The row scalars are computed for all lanes: `log` of the other rows is kept.
    let (mut log, mut certain) = (block.log, Lanes::splat(None));
    sum_without_references(s, batch, numbers, block, group);
    terms.apply(s, true, false, core::slice::from_mut(block));
    // Where logits are +∞: the loss of a label that is one of several, and the slope at one alone, without their factors.
    let (tied, slope) = if terms.has_z_loss() { (f64::INFINITY, f64::INFINITY) } else { (f64::NAN, 1.0) };
    for (row, lane) in group.marked() {
        // Σexp is NaN if a logit other than the label's is NaN or +∞.
        if block.sum[lane].is_nan() || block.sum[lane] == 0.0 && block.logit[lane] == f32::NEG_INFINITY {
            let (loss, class) = loss_without_sum(batch, group.row(row), block.class[lane], tied);
            (block.log[lane], certain[lane]) = (loss, class.map(|class| (class, slope)));
            (block.share[lane], block.one_minus_p[lane]) = (f64::NAN, if class.is_some() { 1.0 } else { f64::NAN });
        }
        log[lane] = canonical(block.log[lane]);
        if L::NONE {
            // Weight 0 gives 0, even if `log` is infinite or NaN.
            let weight = block.weight[lane];
            block.loss[lane] = if weight == 0.0 { 0.0 } else { (log[lane] * weight) as f32 };
        }
    }
    block.log = log;
    certain
}

/// Loads a piece of the group's rows, and sets the reference logits of the marked ones to −∞.
pub(crate) fn load_without_references<S: Vector>(
    s: S,
    batch: &Batch<'_>,
    numbers: &mut [f32],
    block: &RowBlock,
    group: Group,
    place: Place,
) {
    batch.load_rows(s, place, numbers);
    exclude(numbers, &block.class, group, place, |_, _| ());
}

/// Sets the reference logits that lie in this piece to −∞, and passes their values to `found`.
fn exclude(numbers: &mut [f32], class: &Lanes<usize>, group: Group, place: Place, mut found: impl FnMut(Lane, f32)) {
    for (row, lane) in group.marked() {
        let row = row_of_mut(numbers, row, place.width);
        if let Some(x) = class[lane].checked_sub(place.start).and_then(|class| row.get_mut(class)) {
            found(lane, *x);
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Loss of a row with NaN or +∞ at a class other than the label, or with only −∞ logits: NaN if undefined,
/// `tied` if the label is +∞ too, else +∞. Also the class of probability 1: that of the only +∞, if no logit is NaN.
fn loss_without_sum(batch: &Batch<'_>, row: usize, label: usize, tied: f64) -> (f64, Option<usize>) {
    let (mut certain, mut infinite, mut any_nan) = (None, 0_usize, false);
    for class in 0..batch.rows.classes() {
        let x = batch.logit(row, class);
        any_nan |= x.is_nan();
        if x == f32::INFINITY {
            (certain, infinite) = (Some(class), infinite.saturating_add(1));
        }
    }
    let is_tied = batch.logit(row, label) == f32::INFINITY;
    let loss = match infinite {
        _ if any_nan => f64::NAN,
        0 => f64::NAN,
        _ if is_tied => tied,
        _ => f64::INFINITY,
    };
    (loss, certain.filter(|_| infinite == 1 && !any_nan))
}

fn write_gradient<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    numbers: &mut [f32],
    found: &RowBlock,
    certain: &Lanes<Option<(usize, f64)>>,
    group: Group,
) {
    for place in group.pieces() {
        if group.is_in_pieces() {
            load_without_references(s, batch, numbers, found, group, place);
            exponentiate_marked(s, numbers, place.width, group, found);
        }
        scale_marked(s, numbers, place.width, group, found);
        for (row, lane) in group.marked() {
            let elements = row_of_mut(numbers, row, place.width);
            let factor = found.factor[lane];
            if factor == 0.0 {
                elements.fill(0.0);
            } else if factor.is_nan() || certain[lane].is_none() && (factor * found.share[lane]).is_nan() {
                elements.fill(f32::NAN);
            } else {
                if underflow_matters(factor * found.share[lane]) {
                    recompute_underflowed(batch, elements, found, lane, place.row(row));
                }
                if let Some((class, slope)) = certain[lane] {
                    elements.fill(0.0);
                    set(elements, place, class, factor * slope);
                }
                set(elements, place, found.class[lane], 0.0 - factor * found.one_minus_p[lane]);
            }
        }
        if group.marked().count() == place.rows {
            batch.store_rows(s, place, numbers);
            continue;
        }
        for (row, _) in group.marked() {
            let place = place.row(row);
            batch.store_rows(s, place, row_of(numbers, row, place.width));
        }
    }
}

/// Recomputes in f64 elements whose exponential underflowed in f32, for factors so large that the product need not.
#[cold]
fn recompute_underflowed(batch: &Batch<'_>, elements: &mut [f32], found: &RowBlock, lane: Lane, place: Place) {
    for (class, element) in (place.start..).zip(elements) {
        if *element == 0.0 {
            let e = found.reference(lane).exp(batch.logit(place.first, class));
            *element = (e * scale_of(found, lane)) as f32;
        }
    }
}

/// Row scalars, and gradient elements of the labels, of rows whose exponentials have references and whose Σexp is
/// known; `scale` is 1, as [`super::scales`] has it. Marks the rows that are left to [`compute`]: the loss is NaN, all
/// logits are −∞, or exponentials that underflowed matter in the gradient.
#[inline(never)]
pub(crate) fn finish_referred<S: Vector, L: LabelTerms>(s: S, terms: L, gradient: bool, blocks: &mut [RowBlock]) {
    for sum in blocks.iter_mut().flat_map(|block| &mut block.sum) {
        // The exponential of the largest logit is at least 2^RAISE: all are −∞, though exp(−∞) is not 0 where a host
        // program rounds toward +∞.
        *sum = if *sum < 1.0 { 0.0 } else { *sum };
    }
    finish_rows(s, Exponentials::Referred, true, blocks);
    terms.apply(s, gradient, false, blocks);
    mark_special(s, gradient, blocks);
}

fn mark_special<S: Vector>(s: S, gradient: bool, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for block in blocks {
                let (sum, logit, factor) = (block.sum, block.logit, block.factor);
                let (share, miss, log) = (block.share, block.one_minus_p, block.log);
                let (mut special, mut at_reference) = (Lanes::splat(0), Lanes::splat(0.0));
                for i in Lane::all() {
                    let scale = if gradient & (factor[i] != 0.0) { factor[i] * share[i] } else { 0.0 };
                    let is_infinite = (sum[i] == 0.0) & (logit[i] == f32::NEG_INFINITY);
                    special[i] = u32::from(log[i].is_nan() | is_infinite | scale.is_nan() | underflow_matters(scale));
                    // 0·∞ = 0
                    let of_label = 0.0 - factor[i] * miss[i];
                    at_reference[i] = if factor[i] == 0.0 { 0.0 } else { of_label as f32 };
                }
                (block.at_reference, block.scale) = (at_reference, Lanes::splat(1.0));
                block.marked = special.mask();
            }
        },
    )
}

/// Sets the element of a class, if the class is in this piece.
fn set(elements: &mut [f32], place: Place, class: usize, value: f64) {
    if let Some(element) = class.checked_sub(place.start).and_then(|index| elements.get_mut(index)) {
        *element = value as f32;
    }
}

/// Row-wise maximum of the marked rows. May miss a NaN, which then still reaches Σexp.
fn largest_of_marked<S: Vector>(s: S, numbers: &[f32], width: usize, group: Group, largest: &mut Lanes<f32>) {
    s.run(
        #[inline(always)]
        move || {
            if S::WIDE && group.is_block() && numbers.len() >= ROWS.wrapping_mul(width).wrapping_add(S::LANES) {
                let mut rows = numbers;
                for first in (0..ROWS).step_by(S::LANES) {
                    s.store(largest_of_rows::<S, 0>(s, rows, width), largest.as_mut_slice(), first);
                    rows = from_row(rows, S::LANES, width);
                }
                return;
            }
            for (row, lane) in group.marked() {
                largest[lane] = maximum(s, row_of(numbers, row, width), largest[lane]);
            }
        },
    )
}

/// The largest of some logits and `largest`.
#[inline(always)]
pub(crate) fn maximum<S: Vector>(s: S, logits: &[f32], largest: f32) -> f32 {
    let (mut pairs, lowest) = (logits.chunks_exact(S::LANES_OF_TWO), s.splat(f32::NEG_INFINITY));
    let (mut even, mut odd) = (lowest, lowest);
    for pair in pairs.by_ref() {
        even = s.at_least(even, s.load(pair, 0));
        odd = s.at_least(odd, s.load(pair, S::LANES));
    }
    for x in pairs.remainder().chunks(S::LANES) {
        even = s.at_least(even, s.load_partial(x, f32::NEG_INFINITY));
    }
    let mut largest = largest;
    for &x in s.to_array(s.at_least(even, odd)).iter().take(S::LANES) {
        largest = if x > largest { x } else { largest };
    }
    largest
}

/// Exponentials of the marked rows, in place.
pub(crate) fn exponentiate_marked<S: Vector>(s: S, numbers: &mut [f32], width: usize, group: Group, found: &RowBlock) {
    s.run(
        #[inline(always)]
        move || {
            if has_long_vectors::<S>() && width < S::LANES {
                // All rows are loaded before any is stored: a load that overlaps the masked store of the row before
                // cannot be forwarded and waits until that store has reached the cache.
                let mut exponentials = Aligned([s.splat(0.0); VIRTUAL_LANES]);
                for ((row, lane), e) in group.marked().zip(&mut exponentials.0) {
                    *e = Exp::new(s, found.reference(lane)).of(s, s.load(from_row(numbers, row, width), 0));
                }
                for ((row, _), &e) in group.marked().zip(&exponentials.0) {
                    s.store_partial(e, row_of_mut(numbers, row, width));
                }
                return;
            }
            for (row, lane) in group.marked() {
                let row = from_row_mut(numbers, row, width);
                exponentials_of_row(s, found.reference(lane), None, row, width);
            }
        },
    )
}

/// Exponentials of `width` logits of a row, to `to`; in place if `logits` is `None`. Whether all logits are in range:
/// with a reference (power ≠ 0) they are in any case. Slices shorter than a vector go on for at least
/// [`REACH`](super::limits::REACH) elements.
pub(crate) fn exponentials_of_piece<S: Vector>(
    s: S,
    logits: Option<&[f32]>,
    to: &mut [f32],
    width: usize,
    reference: Reference,
) -> bool {
    if !S::WIDE || reference.power == 0.0 {
        return exponentiate(s, logits.map(|logits| part(logits, 0, width)), to, width);
    }
    s.run(
        #[inline(always)]
        || exponentials_of_row(s, reference, logits, to, width),
    );
    true
}

/// Exponentials of the first `len` logits of a row, to `to`; in place if `logits` is `None`. Both slices go on for at
/// least [`REACH`](super::limits::REACH) elements.
#[inline(always)]
pub(crate) fn exponentials_of_row<S: Vector>(
    s: S,
    reference: Reference,
    logits: Option<&[f32]>,
    to: &mut [f32],
    len: usize,
) {
    let exp = Exp::new(s, reference);
    write_row(
        s,
        logits,
        to,
        len,
        #[inline(always)]
        |x| exp.of(s, x),
    );
}

/// Maps the first `len` elements of `from` to `to`; in place if `from` is `None`. Both slices go on for at least
/// [`REACH`](super::limits::REACH) elements.
#[inline(always)]
fn write_row<S: Vector>(s: S, from: Option<&[f32]>, to: &mut [f32], len: usize, of: impl Fn(S::F) -> S::F) {
    // Shorter than a vector: no store past the row, as the next row's elements may still be needed.
    let Some(last) = len.checked_sub(S::LANES) else {
        let e = of(s.load(from.unwrap_or(to), 0));
        return s.store_partial(e, part_mut(to, 0, len));
    };
    // The last vector overlaps the one before: loaded before that is stored in place.
    let at_end = s.load(from.unwrap_or(to), last);
    for (at, to) in (0..).step_by(S::LANES).zip(part_mut(to, 0, len).chunks_exact_mut(S::LANES)) {
        let x = from.map_or_else(|| s.load(to, 0), |from| s.load(from, at));
        s.store(of(x), to, 0);
    }
    s.store(of(at_end), to, last);
}

/// Adds a piece's exponentials of the marked rows to Σexp.
pub(crate) fn add_sums<S: Vector>(s: S, numbers: &[f32], group: Group, found: &mut RowBlock) {
    add_row_sums(s, numbers, group.all.width, (group.marked_rows(), group.lane), &mut found.sum);
}

/// Gradients of the marked rows, over their exponentials; the caller sets those of the references.
fn scale_marked<S: Vector>(s: S, numbers: &mut [f32], width: usize, group: Group, found: &RowBlock) {
    s.run(
        #[inline(always)]
        move || {
            for (row, lane) in group.marked() {
                scale_row(row_of_mut(numbers, row, width), scale_of(found, lane));
            }
        },
    )
}

/// Whether `scale` times an exponential that underflowed to 0 in f32 may be a nonzero f32.
#[inline(always)]
pub(crate) fn underflow_matters(scale: f64) -> bool {
    scale.abs() > UNDERFLOW_SCALE
}

impl RowBlock {
    /// Shift and power of the exponentials of a row.
    #[inline(always)]
    pub(crate) fn reference(&self, lane: Lane) -> Reference {
        Reference { shift: self.shift[lane], power: self.power[lane] }
    }

    /// Fills shift and power with the references of the largest logits, raised by 2^`by`.
    #[inline(always)]
    pub(crate) fn refer_to(&mut self, largest: &Lanes<f32>, by: f32) {
        let (mut shifts, mut powers) = (Lanes::splat(0.0), Lanes::splat(0.0));
        for i in Lane::all() {
            let reference = Reference::new(largest[i]).raised(by);
            (shifts[i], powers[i]) = (reference.shift, reference.power);
        }
        (self.shift, self.power) = (shifts, powers);
    }

    /// Shift and power 0, as the fast way expects.
    pub(crate) fn without_references(&mut self) {
        (self.shift, self.power) = (Lanes::splat(0.0), Lanes::splat(0.0));
    }
}

impl Reference {
    /// Scales the exponentials by 2^`by`, so that smaller ones do not underflow in f32.
    #[inline(always)]
    pub(crate) fn raised(self, by: f32) -> Self {
        Self { power: self.power + by, ..self }
    }

    /// exp(x − shift)·2^power in f64.
    #[inline(always)]
    pub(crate) fn exp(self, x: f32) -> f64 {
        f64_math::exp((f64::from(x) - f64::from(self.shift)) + f64::from(self.power) * LN_2)
    }
}
