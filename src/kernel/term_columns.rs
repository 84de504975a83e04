//! Target probabilities and label smoothing of `[N, C, D]`, D > 1: as in [`super::positions`], a vector holds one class of
//! several rows, without a transpose. Returns the bits of the phases for rows.

use super::column_sums::{
    add_columns, add_exponentials, add_piece, labels_from, map_vectors, of_rows, read_label_logits, set_elements,
    summed_with,
};
use super::exp::lanes_in_range;
use super::lanes::{Lane, Lanes};
use super::limits::{PIECE, ROWS, SUMMED_IN_F32, TERM_RAISE};
use super::spread::Spread;
use super::term_scalars::{NO_LABEL, TermBlock, Terms, finish_terms, unmark_others};
use super::term_sums::finish_sums;
use super::term_tile::TermTile;
use super::tile::{Batch, Place, RowBlock, Tile, arrays, one_by_one};
use super::tile_columns::Columns;
use super::{chunks_mut, part, part_mut};
use crate::backend::vector::Vector;

/// Losses and gradients of rows with a spread, without costs; marks those beyond the range of f32.
pub(crate) fn compute<S: Vector>(s: S, rows: &mut TermTile<'_, '_>) {
    let TermTile { batch, options, spread: Some(spread), tile, terms, place } = rows else { return };
    let Tile { numbers: e, spare, blocks } = tile;
    let [logits, targets, gaps, others] = arrays(spare, e.len());
    let (is_loaded, referred) = (false, false);
    let mut columns =
        TermColumns { s, batch, options, spread: *spread, e, logits, targets, gaps, others, is_loaded, referred };
    columns.compute(blocks, terms, *place);
    // Blocks with a logit out of range once more, with exponentials relative to the maximum of their row.
    columns.referred = true;
    let mut start = 0_usize;
    while start < blocks.len() {
        let left = blocks.get_mut(start..).unwrap_or(&mut []);
        let count = left.iter().take_while(|block| block.marked == u32::MAX).count();
        let (blocks, terms, at) = (part_mut(left, 0, count), part_mut(terms, start, count), start.wrapping_mul(ROWS));
        start = start.wrapping_add(count.max(1));
        if count == 0 {
            continue;
        }
        for (block, terms) in blocks.iter_mut().zip(&mut *terms) {
            block.marked = 0;
            if spread.by_label {
                terms.label_logit = block.logit;
            }
        }
        let rows = blocks.len().wrapping_mul(ROWS).min(place.rows.wrapping_sub(at));
        columns.compute(blocks, terms, Place { rows, ..place.row(at) });
        blocks.iter_mut().for_each(RowBlock::without_references);
    }
}

/// A loss with a spread, without costs, and arrays of a tile, each for the columns of a piece.
struct TermColumns<'t, 'a, S> {
    s: S,
    batch: &'t mut Batch<'a>,
    options: &'t Terms<'a>,
    spread: Spread<'a>,
    /// Exponentials, copies of logits and targets, and the partial sums of [`add_spread`].
    e: &'t mut [f32],
    logits: &'t mut [f32],
    targets: &'t mut [f32],
    gaps: &'t mut [f32],
    others: &'t mut [f32],
    /// Whether `logits` has all classes of the rows.
    is_loaded: bool,
    /// Whether rows out of range have exponentials relative to their maximum, and it as the reference.
    referred: bool,
}

impl<S: Vector> TermColumns<'_, '_, S> {
    /// Losses and gradients of some rows; without references all rows of blocks with a logit out of range are marked.
    #[inline(never)]
    fn compute(&mut self, blocks: &mut [RowBlock], terms: &mut [TermBlock], place: Place) {
        let (s, options, gradient) = (self.s, self.options, self.batch.gradient.is_some());
        self.is_loaded = false;
        self.find_references(blocks, place);
        if self.referred {
            refer_out_of_range(s, self.spread.by_label, blocks, &*terms);
        }
        let mut kept = self.batch.take_gradient(place);
        let any_in_range = self.add_up(kept.as_deref_mut(), blocks, terms, place);
        if let Some(gradient) = kept {
            self.batch.gradient = Some(gradient);
        }
        if !any_in_range {
            return;
        }
        self.read_references(blocks, terms, place);
        finish_sums(s, self.referred, place.width, gradient || options.label.change_term(), blocks);
        finish_terms(s, options, gradient, self.spread.largest_weight, blocks, terms);
        unmark_others(place.rows, blocks);
        if gradient {
            self.write_gradient(blocks, terms, place);
        }
    }

    /// Whether the label is the reference of all rows.
    fn is_by_label(&self) -> bool {
        self.spread.by_label && !self.referred
    }

    /// Fills the logit of each reference and, unless it is the label, its class, the argmax.
    fn find_references(&mut self, blocks: &mut [RowBlock], place: Place) {
        let (s, by_label) = (self.s, self.is_by_label());
        if let Some(columns) = self.batch.columns_in_place(place).filter(|_| by_label) {
            return read_label_logits(s, columns, place, blocks);
        }
        if !by_label {
            for block in &mut *blocks {
                (block.logit, block.class) = (Lanes::splat(f32::NEG_INFINITY), Lanes::splat(0));
                block.shift = Lanes::splat(f32::INFINITY);
            }
        }
        for piece in place.pieces(PIECE) {
            let columns = self.batch.columns_once(s, (piece, place), self.logits, &mut self.is_loaded);
            if by_label {
                read_label_logits(s, columns, piece, blocks);
            } else {
                find_argmax(s, columns, piece, blocks);
            }
        }
        if !self.referred {
            blocks.iter_mut().for_each(RowBlock::without_references);
        }
    }

    /// Fills all sums; `false` if every block has a logit out of range. The exponentials are in the gradient, if given.
    fn add_up(
        &mut self,
        mut gradient: Option<&mut [f32]>,
        blocks: &mut [RowBlock],
        terms: &mut [TermBlock],
        place: Place,
    ) -> bool {
        let (s, batch) = (self.s, &*self.batch);
        for (block, terms) in blocks.iter_mut().zip(&mut *terms) {
            (block.sum, terms.gaps, terms.others) = (Lanes::splat(0.0), Lanes::splat(0.0), Lanes::splat(0.0));
        }
        for piece in place.pieces(PIECE) {
            let columns = batch.columns_once(s, (piece, place), self.logits, &mut self.is_loaded);
            let kept = gradient.as_deref_mut().map(|gradient| batch.columns_of_gradient(piece, gradient));
            if !add_piece(s, columns, (piece, place), self.e, kept, self.referred, blocks) {
                return false;
            }
            let is_first = piece.start.is_multiple_of(SUMMED_IN_F32);
            let u = U::new(s, batch, (self.options, self.spread), piece, self.targets);
            add_spread(s, columns, u, piece, is_first, self.gaps, self.others, &*blocks);
            if let Some(width) = summed_with(piece, place) {
                let others = self.options.soft.map_or(&[][..], |_| &*self.others);
                add_spread_sums(s, self.gaps, others, width, terms);
            }
        }
        true
    }

    /// Fills u of the references and, for label smoothing, Σ of the other u; the logits of labels that are no reference.
    fn read_references(&self, blocks: &[RowBlock], terms: &mut [TermBlock], place: Place) {
        if self.options.soft.is_none() {
            self.spread.by_label_if(!self.referred).read(None, place.width, blocks, terms);
            if self.spread.by_label {
                return;
            }
        }
        for ((place, block), terms) in place.blocks().zip(blocks).zip(terms) {
            for (row, lane) in (place.first..).zip(Lane::all()).take(place.rows) {
                if let Some(soft) = self.options.soft {
                    let of_element = self.spread.of_element(Some(soft), self.batch.rows, row, block.class[lane]);
                    terms.u_reference[lane] = of_element;
                } else if terms.label[lane] < place.width {
                    terms.label_logit[lane] = self.batch.logit(row, terms.label[lane]);
                }
            }
        }
    }

    /// Writes the gradient of the rows that are not marked.
    fn write_gradient(&mut self, blocks: &[RowBlock], terms: &[TermBlock], place: Place) {
        let (s, is_label, stride) = (self.s, self.is_by_label(), blocks.len().wrapping_mul(ROWS));
        let of_loss = (self.options, self.spread);
        if let Some(gradient) = self.batch.take_gradient(place) {
            let u = U::new(s, self.batch, of_loss, place, self.targets);
            let (columns, stride) = self.batch.columns_of_gradient(place, gradient);
            scale_to_gradient(s, columns, stride, u, is_label, place, blocks, terms);
            self.batch.gradient = Some(gradient);
            return;
        }
        for piece in place.pieces(PIECE) {
            if place.width > PIECE {
                let columns = self.batch.columns(s, piece, self.logits);
                add_exponentials(s, columns, piece, false, self.e, None, self.referred, blocks);
            }
            let u = U::new(s, self.batch, of_loss, piece, self.targets);
            scale_to_gradient(s, self.e, stride, u, is_label, piece, blocks, terms);
            self.batch.store_unmarked_columns(s, piece, self.e, blocks);
        }
    }
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
        (options, spread): (&Terms<'b>, Spread<'_>),
        place: Place,
        loaded: &'a mut [f32],
    ) -> Self {
        let (kept, evenly) = spread.shares();
        let weights = batch.rows.class_weights().map(|weights| part(weights, place.start, place.width));
        let targets = options.soft.map(|soft| batch.target_columns(s, soft, place, loaded));
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

/// Updates class and logit of each row's argmax, the first on ties, and its smallest logit (as `shift`), by those of a
/// piece.
fn find_argmax<S: Vector>(s: S, columns: Columns<'_>, place: Place, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (first, block) in (0_usize..).step_by(ROWS).zip(one_by_one(blocks)) {
                for lane in (0..ROWS).step_by(S::LANES) {
                    let (mut largest, mut least) =
                        (s.load(block.logit.as_slice(), lane), s.load(block.shift.as_slice(), lane));
                    let (mut found, mut of_class) = (s.splat(-1.0), s.splat(0.0));
                    for x in columns.of_classes(first.wrapping_add(lane)).take(place.width) {
                        let x = s.load(x, 0);
                        found = s.select(s.less(largest, x), of_class, found);
                        of_class = s.add(of_class, s.splat(1.0));
                        (largest, least) = (s.at_least(largest, x), s.at_most(least, x));
                    }
                    s.store(largest, block.logit.as_mut_slice(), lane);
                    s.store(least, block.shift.as_mut_slice(), lane);
                    let found = s.to_array(found);
                    for (class, found) in block.class.iter_mut().skip(lane).zip(found).take(S::LANES) {
                        *class = if found >= 0.0 { place.start.wrapping_add(found as usize) } else { *class };
                    }
                }
            }
        },
    )
}

/// Fills the references of the exponentials from the largest and smallest logit of each row. Rows in range have none
/// and, with `by_label`, the label as the reference.
fn refer_out_of_range<S: Vector>(s: S, by_label: bool, blocks: &mut [RowBlock], terms: &[TermBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (block, terms) in blocks.iter_mut().zip(terms) {
                let (logit, mut in_range) = (block.logit, Lanes::splat(0.0));
                for at in (0..ROWS).step_by(S::LANES) {
                    let (largest, least) = (s.load(logit.as_slice(), at), s.load(block.shift.as_slice(), at));
                    let both = s.mul(lanes_in_range(s, largest), lanes_in_range(s, least));
                    s.store(both, in_range.as_mut_slice(), at);
                }
                block.refer_to(&logit, TERM_RAISE);
                for lane in Lane::all().filter(|&lane| in_range[lane] != 0.0) {
                    (block.shift[lane], block.power[lane]) = (0.0, 0.0);
                    if by_label && terms.label[lane] != NO_LABEL {
                        (block.class[lane], block.logit[lane]) = (terms.label[lane], terms.label_logit[lane]);
                    }
                }
            }
        },
    )
}

/// Adds u_c·(x_r − x_c) and, for target probabilities, u_c but that of the reference r to the partial sums of the rows,
/// which are 0 so far if `is_first`.
fn add_spread<S: Vector>(
    s: S,
    columns: Columns<'_>,
    u: U<'_>,
    place: Place,
    is_first: bool,
    gaps: &mut [f32],
    others: &mut [f32],
    blocks: &[RowBlock],
) {
    s.run(
        #[inline(always)]
        move || {
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
                    // 0·∞ = 0
                    let gap = s.zero_where(s.equal(u, zero), s.sub(s.load(largest, 0), s.load(x, 0)));
                    s.store(s.mul_add(u, gap, sum), gaps, 0);
                    let is_reference = s.equal(s.load(reference, 0), s.splat(class as i32 as f32));
                    let sum = if is_first { zero } else { s.load(others, 0) };
                    s.store(s.add(sum, s.zero_where(is_reference, u)), others, 0);
                }
            }
        },
    )
}

/// Adds partial sums to Σ u_c·(x_r − x_c) and, unless `others` is empty, Σ u_c of the rows.
fn add_spread_sums<S: Vector>(s: S, gaps: &[f32], others: &[f32], width: usize, terms: &mut [TermBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let shape = (width, terms.len().wrapping_mul(ROWS));
            for (at, terms) in (0..).step_by(ROWS).zip(terms) {
                let all = [(gaps, &mut terms.gaps), (others, &mut terms.others)].into_iter();
                for (columns, totals) in all.filter(|(columns, _)| !columns.is_empty()) {
                    add_columns::<S, false>(s, columns.get(at..).unwrap_or(&[]), shape, totals);
                }
            }
        },
    )
}

/// The gradient of a piece, over its exponentials, `stride` elements from one class to the next; `is_label` is whether the
/// label is the reference.
fn scale_to_gradient<S: Vector>(
    s: S,
    columns: &mut [f32],
    stride: usize,
    u: U<'_>,
    is_label: bool,
    place: Place,
    blocks: &[RowBlock],
    terms: &[TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let (scale, mut minus_factor) =
                (of_rows(blocks.iter().map(|block| &block.scale)), of_rows(terms.iter().map(|terms| &terms.factor)));
            minus_factor.0.iter_mut().for_each(|factor| *factor = -*factor);
            for (class, to) in chunks_mut(&mut *columns, stride).enumerate().take(place.width) {
                let (w, u_of_class) = u.of_class(s, class);
                let (to, targets) = (part_mut(to, 0, place.rows), u.targets.map(|targets| targets.of_class(class)));
                let Some(q) = targets else {
                    map_vectors(
                        s,
                        to,
                        #[inline(always)]
                        |at, e| s.mul_add(e, s.load(&scale.0, at), s.mul(u_of_class, s.load(&minus_factor.0, at))),
                    );
                    continue;
                };
                map_vectors(
                    s,
                    to,
                    #[inline(always)]
                    |at, e| {
                        let u = u.of_targets(s, s.load(q, at), w);
                        s.mul_add(e, s.load(&scale.0, at), s.mul(u, s.load(&minus_factor.0, at)))
                    },
                );
            }
            for ((row, block), terms) in (0_usize..).step_by(ROWS).zip(blocks).zip(terms) {
                if !is_label {
                    set_elements(columns, place, (row, stride), &terms.label, &terms.at_label);
                }
                set_elements(columns, place, (row, stride), &block.class, &block.at_reference);
            }
        },
    )
}
