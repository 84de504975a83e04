//! Target probabilities and label smoothing of `[N, C, D]`, D > 1: as in [`super::positions`], a vector holds one class of
//! several rows, without a transpose. Returns the bits of the phases for rows.

use super::lanes::{Aligned, Lane, Lanes};
use super::limits::{PIECE, ROWS, SUMMED_IN_F32};
use super::positions::{AddExponentials, LabelLogits, add_columns, add_piece, labels_from, set_elements, summed_with};
use super::row_scalars::Finish;
use super::spread::Spread;
use super::term_scalars::{FinishTerms, TermBlock, Terms};
use super::tile::{Batch, Columns, Place, RowBlock};
use super::{chunks_mut, copy, part, part_mut};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// Arrays of a tile, each for the columns of a piece: exponentials, copies of logits and targets, and the partial sums of
/// [`AddSpread`].
pub(crate) struct Room<'t> {
    pub(crate) e: &'t mut [f32],
    pub(crate) logits: &'t mut [f32],
    pub(crate) targets: &'t mut [f32],
    pub(crate) gaps: &'t mut [f32],
    pub(crate) others: &'t mut [f32],
    /// Whether `logits` has all classes of the rows.
    pub(crate) is_loaded: bool,
}

/// The logits of a piece of the rows of `all`, loaded once if it is the only one.
fn load<'t, S: Vector>(
    s: S,
    batch: &'t Batch<'_>,
    (logits, is_loaded): (&'t mut [f32], &mut bool),
    piece: Place,
    all: Place,
) -> Columns<'t> {
    if *is_loaded {
        return Columns::of_tile(logits, piece);
    }
    *is_loaded = piece.width == all.width && batch.columns_in_place(piece).is_none();
    batch.columns(s, piece, logits)
}

/// A loss with a spread, without costs.
pub(crate) struct TermColumns<'a> {
    pub(crate) options: &'a Terms<'a>,
    pub(crate) spread: Spread<'a>,
    /// Whether p is needed, not −log p alone.
    pub(crate) probabilities: bool,
}

impl TermColumns<'_> {
    /// Losses and gradients of rows with classes and weights filled in; all rows of blocks with a logit out of range are
    /// marked, and of the other blocks those beyond the range of f32.
    pub(crate) fn compute<S: Vector>(
        &self,
        s: S,
        batch: &mut Batch<'_>,
        room: &mut Room<'_>,
        blocks: &mut [RowBlock],
        terms: &mut [TermBlock],
        place: Place,
    ) {
        let gradient = batch.gradient.is_some();
        self.find_references(s, batch, room, blocks, place);
        let mut kept = batch.take_gradient(place);
        let any_in_range = self.add_up(s, batch, room, kept.as_deref_mut(), (&mut *blocks, &mut *terms), place);
        if let Some(gradient) = kept {
            batch.gradient = Some(gradient);
        }
        if !any_in_range {
            return;
        }
        self.read_references(batch, blocks, terms, place);
        s.run(Finish::<false> { gradient: self.probabilities, blocks: &mut *blocks });
        let (options, largest_weight) = (self.options, self.spread.largest_weight);
        s.run(FinishTerms { options, gradient, largest_weight, blocks: &mut *blocks, terms: &mut *terms });
        if let Some(last) = blocks.last_mut().filter(|last| last.marked != u32::MAX) {
            // Lanes after the last row have no result.
            last.marked &= u32::MAX.wrapping_shr(32_usize.wrapping_sub(rows_of_last(place)) as u32);
        }
        if gradient {
            self.write_gradient(s, batch, room, blocks, terms, place);
        }
    }

    /// Fills the logit of each reference and, unless it is the label, its class, the argmax.
    fn find_references<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        room: &mut Room<'_>,
        blocks: &mut [RowBlock],
        place: Place,
    ) {
        let in_place = batch.columns_in_place(place).filter(|_| self.spread.by_label);
        if let Some(columns) = in_place {
            return s.run(LabelLogits { columns, place, blocks });
        }
        if !self.spread.by_label {
            for block in &mut *blocks {
                (block.logit, block.class) = (Lanes::splat(f32::NEG_INFINITY), Lanes::splat(0));
            }
        }
        for piece in place.pieces(PIECE) {
            let columns = load(s, batch, (&mut *room.logits, &mut room.is_loaded), piece, place);
            if self.spread.by_label {
                s.run(LabelLogits { columns, place: piece, blocks: &mut *blocks });
            } else {
                s.run(Argmax { columns, place: piece, blocks: &mut *blocks });
            }
        }
    }

    /// Fills all sums; `false` if every block has a logit out of range. The exponentials are in the gradient, if given.
    fn add_up<S: Vector>(
        &self,
        s: S,
        batch: &Batch<'_>,
        room: &mut Room<'_>,
        mut gradient: Option<&mut [f32]>,
        (blocks, terms): (&mut [RowBlock], &mut [TermBlock]),
        place: Place,
    ) -> bool {
        for (block, terms) in blocks.iter_mut().zip(&mut *terms) {
            (block.sum, terms.gaps, terms.others) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
        }
        for piece in place.pieces(PIECE) {
            let columns = load(s, batch, (&mut *room.logits, &mut room.is_loaded), piece, place);
            let kept = gradient.as_deref_mut().map(|gradient| batch.columns_of_gradient(piece, gradient));
            if !add_piece(s, columns, (piece, place), room.e, kept, blocks) {
                return false;
            }
            let is_first = piece.start.is_multiple_of(SUMMED_IN_F32);
            let u = U::new(s, batch, self, piece, room.targets);
            let (gaps, others) = (&mut *room.gaps, &mut *room.others);
            s.run(AddSpread { columns, u, place: piece, is_first, gaps, others, blocks: &*blocks });
            if let Some(width) = summed_with(piece, place) {
                let others = self.options.soft.map_or(&[][..], |_| &*room.others);
                s.run(SpreadSums { gaps: room.gaps, others, width, terms: &mut *terms });
            }
        }
        true
    }

    /// Fills u of the references and, for label smoothing, Σ of the other u.
    fn read_references(&self, batch: &Batch<'_>, blocks: &[RowBlock], terms: &mut [TermBlock], place: Place) {
        if self.options.soft.is_none() {
            self.spread.read(None, place.width, blocks, terms);
            for terms in &mut *terms {
                terms.others = terms.u_reference.map(|u| self.spread.u_sum - u);
            }
        }
        for ((place, block), terms) in place.blocks().zip(blocks).zip(terms) {
            for (row, lane) in (place.first..).zip(Lane::all()).take(place.rows) {
                if self.options.soft.is_some() {
                    terms.u_reference[lane] =
                        self.spread.of_element(self.options.soft, batch.rows, row, block.class[lane]);
                } else if !self.spread.by_label && terms.label[lane] < place.width {
                    terms.label_logit[lane] = batch.logit(row, terms.label[lane]);
                }
            }
        }
    }

    /// Writes the gradient of the rows that are not marked.
    fn write_gradient<S: Vector>(
        &self,
        s: S,
        batch: &mut Batch<'_>,
        room: &mut Room<'_>,
        blocks: &[RowBlock],
        terms: &[TermBlock],
        place: Place,
    ) {
        let (is_label, stride) = (self.spread.by_label, blocks.len().wrapping_mul(ROWS));
        if let Some(gradient) = batch.take_gradient(place) {
            let u = U::new(s, batch, self, place, room.targets);
            let (columns, stride) = batch.columns_of_gradient(place, gradient);
            s.run(Gradient { columns, stride, u, is_label, place, blocks, terms });
            batch.gradient = Some(gradient);
            return;
        }
        for piece in place.pieces(PIECE) {
            let to = &mut *room.e;
            if place.width > PIECE {
                let columns = batch.columns(s, piece, room.logits);
                let to = &mut *to;
                s.run(AddExponentials { columns, place: piece, adds: false, to, stride, rows: stride, blocks });
            }
            let u = U::new(s, batch, self, piece, room.targets);
            s.run(Gradient { columns: to, stride, u, is_label, place: piece, blocks, terms });
            batch.store_unmarked_columns(s, piece, room.e, blocks);
        }
    }
}

/// How many rows the last block has.
fn rows_of_last(place: Place) -> usize {
    place.blocks().last().map_or(ROWS, |last| last.rows)
}

/// u = w·(kept·q + evenly) of a piece.
#[derive(Clone, Copy)]
struct U<'a> {
    kept: f32,
    evenly: f32,
    weights: Option<&'a [f32]>,
    targets: Option<Columns<'a>>,
}

impl<'a> U<'a> {
    fn new<'b: 'a, S: Vector>(
        s: S,
        batch: &Batch<'b>,
        of: &TermColumns<'b>,
        place: Place,
        loaded: &'a mut [f32],
    ) -> Self {
        let (kept, evenly) = of.spread.shares();
        let weights = batch.rows.class_weights().map(|weights| part(weights, place.start, place.width));
        let targets = of.options.soft.map(|soft| batch.target_columns(s, soft, place, loaded));
        Self { kept, evenly, weights, targets }
    }

    /// Class weight of a class and, for label smoothing, its u.
    #[inline(always)]
    fn of_class<S: Vector>(&self, s: S, class: usize) -> (Option<S::F>, S::F) {
        let w = self.weights.map(|weights| s.splat(weights.get(class).copied().unwrap_or(0.0)));
        let evenly = s.splat(self.evenly);
        (w, w.map_or(evenly, |w| s.mul(evenly, w)))
    }

    /// From a vector of target probabilities.
    #[inline(always)]
    fn of_targets<S: Vector>(&self, s: S, q: S::F, w: Option<S::F>) -> S::F {
        let u = s.mul_add(q, s.splat(self.kept), s.splat(self.evenly));
        w.map_or(u, |w| s.mul(u, w))
    }
}

/// A row scalar of the rows of all blocks, end to end.
#[inline(always)]
fn of_rows<'a>(blocks: impl Iterator<Item = &'a Lanes<f32>>) -> Aligned<[f32; VIRTUAL_LANES * ROWS]> {
    let mut rows = Aligned([0.0; VIRTUAL_LANES * ROWS]);
    for (to, of_block) in rows.0.as_chunks_mut::<ROWS>().0.iter_mut().zip(blocks) {
        copy(to, of_block.as_slice());
    }
    rows
}

/// Updates class and logit of each row's argmax, the first on ties, by those of a piece.
struct Argmax<'a> {
    columns: Columns<'a>,
    place: Place,
    blocks: &'a mut [RowBlock],
}

impl Operation for Argmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, place, blocks } = self;
        let mut found = Aligned([[-1.0; ROWS]; VIRTUAL_LANES]);
        for class in 0..place.width {
            let x = columns.of_class(class).as_chunks::<ROWS>().0;
            for ((block, found), x) in blocks.iter_mut().zip(&mut found.0).zip(x) {
                for at in (0..ROWS).step_by(S::LANES) {
                    let (x, largest) = (s.load(x, at), s.load(block.logit.as_slice(), at));
                    let of_class = s.splat(class as i32 as f32);
                    s.store(s.select(s.less(largest, x), of_class, s.load(found, at)), found, at);
                    s.store(s.at_least(largest, x), block.logit.as_mut_slice(), at);
                }
            }
        }
        for (block, found) in blocks.iter_mut().zip(&found.0) {
            for (class, &found) in block.class.iter_mut().zip(found) {
                *class = if found >= 0.0 { place.start.wrapping_add(found as usize) } else { *class };
            }
        }
    }
}

/// Adds u_c·(x_r − x_c) and, for target probabilities, u_c but that of the reference r to the partial sums of the rows.
struct AddSpread<'a> {
    columns: Columns<'a>,
    u: U<'a>,
    place: Place,
    /// Whether the partial sums are 0 so far.
    is_first: bool,
    gaps: &'a mut [f32],
    others: &'a mut [f32],
    blocks: &'a [RowBlock],
}

impl Operation for AddSpread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, u, place, is_first, gaps, others, blocks } = self;
        let (zero, logits) = (s.splat(0.0), of_rows(blocks.iter().map(|block| &block.logit)));
        let of_classes = chunks_mut(gaps, columns.rows).zip(chunks_mut(others, columns.rows));
        let logits = logits.0.chunks_exact(S::LANES);
        let references = if u.targets.is_some() { Some(labels_from(place.start, blocks)) } else { None };
        for (class, (gaps, others)) in of_classes.enumerate().take(place.width) {
            let (w, u_of_class) = u.of_class(s, class);
            let gaps = gaps.chunks_exact_mut(S::LANES);
            let rows = columns.of_class(class).chunks_exact(S::LANES).zip(logits.clone()).zip(gaps);
            let Some((targets, references)) = u.targets.zip(references.as_ref()) else {
                for ((x, largest), gaps) in rows {
                    let sum = if is_first { zero } else { s.load(gaps, 0) };
                    s.store(s.mul_add(u_of_class, s.sub(s.load(largest, 0), s.load(x, 0)), sum), gaps, 0);
                }
                continue;
            };
            let (references, others) = (references.0.chunks_exact(S::LANES), others.chunks_exact_mut(S::LANES));
            let targets = targets.of_class(class).chunks_exact(S::LANES);
            for ((((x, largest), gaps), q), (reference, others)) in rows.zip(targets).zip(references.zip(others)) {
                let u = u.of_targets(s, s.load(q, 0), w);
                let sum = if is_first { zero } else { s.load(gaps, 0) };
                s.store(s.mul_add(u, s.sub(s.load(largest, 0), s.load(x, 0)), sum), gaps, 0);
                let is_reference = s.equal(s.load(reference, 0), s.splat(class as i32 as f32));
                let sum = if is_first { zero } else { s.load(others, 0) };
                s.store(s.add(sum, s.select(is_reference, zero, u)), others, 0);
            }
        }
    }
}

/// Adds partial sums to Σ u_c·(x_r − x_c) and, unless `others` is empty, Σ u_c of the rows.
struct SpreadSums<'a> {
    gaps: &'a [f32],
    others: &'a [f32],
    width: usize,
    terms: &'a mut [TermBlock],
}

impl Operation for SpreadSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { gaps, others, width, terms } = self;
        let shape = (width, terms.len().wrapping_mul(ROWS));
        for (at, terms) in (0..).step_by(ROWS).zip(terms) {
            add_columns(s, gaps.get(at..).unwrap_or(&[]), shape, &mut terms.gaps);
            if !others.is_empty() {
                add_columns(s, others.get(at..).unwrap_or(&[]), shape, &mut terms.others);
            }
        }
    }
}

/// The gradient of a piece, over its exponentials.
struct Gradient<'a> {
    columns: &'a mut [f32],
    /// Elements from one class to the next.
    stride: usize,
    u: U<'a>,
    /// Whether the label is the reference.
    is_label: bool,
    place: Place,
    blocks: &'a [RowBlock],
    terms: &'a [TermBlock],
}

impl Operation for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { columns, stride, u, is_label, place, blocks, terms } = self;
        let (scale, factor) =
            (of_rows(blocks.iter().map(|block| &block.scale)), of_rows(terms.iter().map(|terms| &terms.factor)));
        let (scale, factor) = (scale.0.chunks_exact(S::LANES), factor.0.chunks_exact(S::LANES));
        for (class, to) in chunks_mut(&mut *columns, stride).enumerate().take(place.width) {
            let (w, u_of_class) = u.of_class(s, class);
            let vectors = chunks_mut(part_mut(to, 0, place.rows), S::LANES).zip(scale.clone()).zip(factor.clone());
            if let Some(targets) = u.targets {
                for (((to, scale), factor), q) in vectors.zip(targets.of_class(class).chunks_exact(S::LANES)) {
                    let u = u.of_targets(s, s.load(q, 0), w);
                    s.store_partial(element(s, to, scale, factor, u), to);
                }
            } else {
                for ((to, scale), factor) in vectors {
                    s.store_partial(element(s, to, scale, factor, u_of_class), to);
                }
            }
        }
        for ((row, block), terms) in (0_usize..).step_by(ROWS).zip(blocks).zip(terms) {
            if !is_label {
                set_elements(columns, place, (row, stride), &terms.label, &terms.at_label);
            }
            set_elements(columns, place, (row, stride), &block.class, &block.at_reference);
        }
    }
}

/// e·scale − u·factor, from the starts of slices; `e` may be shorter than a vector.
#[inline(always)]
fn element<S: Vector>(s: S, e: &[f32], scale: &[f32], factor: &[f32], u: S::F) -> S::F {
    let of_u = s.mul(u, s.sub(s.splat(0.0), s.load(factor, 0)));
    s.mul_add(s.load_partial(e, 0.0), s.load(scale, 0), of_u)
}
