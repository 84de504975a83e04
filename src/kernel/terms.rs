//! The losses that are not the weighted one alone, over the same tile.
//!
//! With the whole of the options the loss of a row is
//!
//! s·( a·(1 − p_y)^γ·(−log p_y) + Σ_c u_c·(−log p_c) + Σ_{j≠y} fp[y,j]·(−log(1 − p_j)) + λ·W·lse² )
//!
//! where a = (1 − ε)·w[y] for a label and 0 for target probabilities, u_c = w[c]·((1 − ε)·q_c + ε/C) with q = 0 for a
//! label, W = a + Σ u_c and s is the weight of the sample. Its gradient is
//!
//! s·( F·(p_i − [i = y]) + U·p_i − u_i + σ_i − p_i·Σσ + 2λ·W·lse·p_i ), σ_j = fp[y,j]·p_j/(1 − p_j), U = Σ u_c,
//!
//! where F = a·((1 − p_y)^γ + γ·(1 − p_y)^(γ−1)·p_y·(−log p_y)).
//!
//! The reference class m is the one with the largest logit: −log p_c = (x_m − x_c) + log(1 + E), where E = Σ_{k≠m}
//! exp(x_k − x_m), adds nothing but numbers that are not negative. 1 − p_m = E/(1 + E), every other p is at most ½.

use super::classes::{Factors, ReadClasses, Weights};
use super::costs::{CostSums, end_of};
use super::lanes::{Lane, Lanes};
use super::limits::{ROWS, SMALLEST};
use super::row_scalars::Losses;
use super::spread::{FillWeights, Spread, SpreadSums, U};
use super::term_scalars::{FinishTerms, NO_LABEL, TermBlock, Terms};
use super::term_sums::TermSums;
use super::tile::{Batch, Place, RowBlock, Tile, with_tile};
use super::{chunks_mut, copy, part, part_mut, rows_of_mut, terms_general};
use crate::backend::Backend;
use crate::backend::vector::{Driver, Operation, VIRTUAL_LANES, Vector};
use crate::error::Error;
use crate::reduction::Tally;

/// The loss of every row, with its gradient where there is room for one. Everything but the labels has been validated.
pub(crate) struct TermRows<'a, 'b, const GRADIENT: bool> {
    pub(crate) batch: Batch<'a>,
    pub(crate) terms: Terms<'a>,
    pub(crate) row_losses: Option<&'b mut [f32]>,
    pub(crate) tally: &'b mut Tally,
    pub(crate) weights: Option<&'b mut Weights>,
}

impl<const GRADIENT: bool> Driver for TermRows<'_, '_, GRADIENT> {
    type Output = Result<(), Error>;

    fn drive<S: Vector>(mut self, s: S) -> Self::Output {
        let rows = self.batch.rows;
        if rows.count() == 0 {
            // There may be more classes than can be gone through.
            return Ok(());
        }
        with_tile::<4, _>(rows.count(), rows.classes(), |tile| self.tiles(s, tile))
    }
}

/// Sums read two columns at a time, and so this far beyond a row.
const TWO: usize = 2 * VIRTUAL_LANES;

/// The blocks of a tile of rows with terms: fewer than the weighted loss takes, since there is more to a row; one where memory
/// may be small.
const BLOCKS: usize = if Backend::ONLY_SCALAR { 1 } else { 4 };

impl<'a, const GRADIENT: bool> TermRows<'a, '_, GRADIENT> {
    #[inline(never)]
    fn tiles<S: Vector>(&mut self, s: S, mut tile: Tile<'_>) -> Result<(), Error> {
        let rows = self.batch.rows;
        let mut terms = [TermBlock::EMPTY; BLOCKS];
        let spread = Spread::new(&self.terms, rows).with_whole(&self.terms, rows.classes());
        let spread = self.terms.has_spread().then_some(spread);
        let mut fitting = tile.rows(rows.classes()).min(BLOCKS * ROWS);
        if !S::WIDE && rows.classes() > SMALLEST {
            // As where there is no more room: one lane has the same bits on every machine.
            fitting = 0;
        }
        self.fill(s, &mut tile, spread);
        let mut first = 0;
        while first < rows.count() {
            let mut count = fitting.min(rows.left_in_chunk(first));
            if fitting == 0 {
                count = ROWS.min(rows.left_in_chunk(first));
                if rows.positions() > 1 {
                    count = count.min(rows.left_in_sample(first).max(1));
                }
            }
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            s.run(ReadClasses { rows, first, count, blocks: &mut *blocks, weights: self.weights.as_deref_mut() })?;
            self.read(first, count, blocks, &mut terms);
            if GRADIENT && self.batch.gradient.is_some() {
                let (scale, temperature) = (self.batch.scale, self.batch.adjustment.temperature);
                s.run(Factors { first, blocks: &mut *blocks, scale, temperature });
            }
            if fitting == 0 {
                for block in &mut *blocks {
                    block.general = u32::MAX;
                }
            } else {
                self.compute(s, &mut tile, &mut terms, spread, first, count);
            }
            let (batch, options) = (&mut self.batch, &self.terms);
            if part(tile.blocks, 0, count.div_ceil(ROWS)).iter().any(|block| block.general != 0) {
                terms_general::compute(s, batch, options, spread, &mut tile, &mut terms, (first, count));
            }
            let blocks = part_mut(tile.blocks, 0, count.div_ceil(ROWS));
            s.run(Losses { first, blocks: &mut *blocks, tally: &mut *self.tally });
            if let Some(out) = self.row_losses.as_deref_mut() {
                for (to, block) in chunks_mut(part_mut(out, first, count), ROWS).zip(blocks) {
                    copy(to, block.loss.as_slice());
                }
            }
            first = first.wrapping_add(count);
        }
        Ok(())
    }

    /// Fills the part of the tile that is the same for all rows: u, or the weights that targets are multiplied by. Of rows that
    /// do not fit, nothing.
    fn fill<S: Vector>(&self, s: S, tile: &mut Tile<'_>, spread: Option<Spread<'_>>) {
        let (room, classes) = (tile.numbers.len(), self.batch.rows.classes());
        let same = part_mut(tile.spare, room, classes);
        if self.terms.soft.is_some() {
            copy(same, self.batch.rows.class_weights().unwrap_or(&[]));
        } else if let Some(spread) = spread {
            s.run(FillWeights { spread, to: same });
        }
    }

    /// Labels and weights of the rows, as the terms have them: `weight` becomes that of the sample.
    fn read(&self, first: usize, count: usize, blocks: &mut [RowBlock], terms: &mut [TermBlock]) {
        let (rows, kept) = (self.batch.rows, self.terms.kept());
        let has_labels = rows.labels().is_some();
        for ((start, block), terms) in (0..count).step_by(ROWS).zip(blocks).zip(terms) {
            (block.general, terms.u_label, terms.label_logit) = (0, Lanes::splat(0.0), Lanes::splat(0.0));
            terms.loss_is_known = 0;
            for lane in Lane::all() {
                let (in_tile, row) =
                    (start.wrapping_add(lane.number()), first.wrapping_add(start).wrapping_add(lane.number()));
                let counts = in_tile < count && (rows.ignored().is_none() || rows.counts(row));
                block.weight[lane] = if counts { f64::from(rows.sample_weight(row)) } else { 0.0 };
                let is_label = counts && has_labels;
                terms.label[lane] = if is_label { block.class[lane] } else { NO_LABEL };
                terms.own[lane] = if is_label { kept * f64::from(rows.weight(block.class[lane])) } else { 0.0 };
            }
        }
    }

    /// The logits of these rows: where they stand, if vectors can reach beyond the last one.
    fn logits<'t, S: Vector>(&'t self, s: S, place: Place, brought: &'t mut [f32]) -> &'t [f32] {
        let (start, reach) = place.with_reach();
        match self.batch.as_tile().map(|logits| part(logits, start, reach)) {
            Some(logits) if !logits.is_empty() => logits,
            _ => {
                self.batch.bring(s, place, brought);
                brought
            }
        }
    }

    /// u of these rows, with those of the labels and references; where there are no targets, the sums of the others as well.
    #[allow(clippy::too_many_arguments, reason = "the places of a tile")]
    fn u<'t, S: Vector>(
        &self,
        s: S,
        spread: Spread<'_>,
        place: Place,
        blocks: &[RowBlock],
        terms: &mut [TermBlock],
        same: &'t [f32],
        targets: &'t mut [f32],
    ) -> U<'t>
    where
        'a: 't,
    {
        let (batch, classes) = (&self.batch, place.width);
        let Some(soft) = self.terms.soft else {
            spread.read(None, classes, blocks, terms);
            for terms in terms {
                for (others, u) in terms.others.iter_mut().zip(&terms.u_reference) {
                    *others = spread.whole - u;
                }
            }
            return U::same(same);
        };
        let (start, reach) = place.with_reach();
        let targets = if batch.rows.are_dense() && soft.len() >= start.saturating_add(reach) {
            part(soft, start, reach)
        } else {
            batch.bring_targets(s, soft, place, targets);
            targets
        };
        spread.read(Some(targets), classes, blocks, terms);
        U::of_targets(spread, same, targets)
    }

    /// Losses and gradients of rows that fit the tile; those that are marked are left to the general way.
    fn compute<S: Vector>(
        &mut self,
        s: S,
        tile: &mut Tile<'_>,
        terms: &mut [TermBlock],
        spread: Option<Spread<'_>>,
        first: usize,
        count: usize,
    ) {
        let (batch, options, classes) = (&self.batch, &self.terms, self.batch.rows.classes());
        let place = Place { first, rows: count, start: 0, width: classes };
        let (blocks, len) = (part_mut(tile.blocks, 0, count.div_ceil(ROWS)), count.wrapping_mul(classes));
        let gradient = GRADIENT && batch.gradient.is_some();
        let room = tile.numbers.len();
        let mut parts = tile.spare.chunks_exact_mut(room.max(1));
        let [brought, same, odds] = [(); 3].map(|()| parts.next().unwrap_or_default());
        // Rows have one or the other.
        let (targets, odds) = if options.soft.is_some() { (odds, &mut [][..]) } else { (&mut [][..], odds) };
        let logits = self.logits(s, place, brought);
        let exponentials = &mut *tile.numbers;
        let rows = TermSums { logits, classes, count, matrix: options.costs };
        let in_range = rows.finish(s, exponentials, blocks, terms);
        let u = spread.map(|spread| self.u(s, spread, place, blocks, terms, same, targets));
        if let Some(u) = u {
            if in_range {
                s.run(SpreadSums::<false> { u, logits, classes, blocks, terms: &mut *terms });
            } else {
                s.run(SpreadSums::<true> { u, logits, classes, blocks, terms: &mut *terms });
            }
        }
        if let Some(matrix) = options.costs {
            // Vectors would reach beyond the matrix; the logits are done with.
            copy(brought, end_of(matrix, classes));
            let (end, odds) = (&*brought, gradient.then_some(&mut *odds));
            let terms = &mut *terms;
            s.run(CostSums { matrix, end, exponentials, odds, classes, rows: count, blocks, terms });
        }
        let largest_weight = spread.map_or(0.0, |spread| spread.largest_weight);
        s.run(FinishTerms::<GRADIENT> { options, gradient, largest_weight, blocks: &mut *blocks, terms: &mut *terms });
        if gradient {
            let odds = options.costs.is_some().then_some(&*odds);
            let dense = match self.batch.gradient.as_deref_mut() {
                Some(gradient) if self.batch.rows.are_dense() => Some(rows_of_mut(gradient, first, count, classes)),
                _ => None,
            };
            let is_dense = dense.is_some();
            let to = dense.unwrap_or(part_mut(brought, 0, len));
            s.run(TermGradient { exponentials, u, odds, to, classes, blocks, terms });
            if !is_dense {
                self.batch.send_unmarked(s, place, brought, blocks);
            }
        }
        blocks.iter_mut().filter(|_| !in_range).for_each(RowBlock::without_references);
    }
}

impl Place {
    /// Where rows of all classes begin, and as many elements as are in them and in two columns more.
    fn with_reach(self) -> (usize, usize) {
        (self.first.wrapping_mul(self.width), self.rows.wrapping_mul(self.width).wrapping_add(TWO))
    }
}

/// Writes the gradient of the rows that are not marked.
struct TermGradient<'a> {
    exponentials: &'a [f32],
    /// u, where there is a spread, and fp·e/(1 − p), where there are costs.
    u: Option<U<'a>>,
    odds: Option<&'a [f32]>,
    to: &'a mut [f32],
    classes: usize,
    blocks: &'a [RowBlock],
    terms: &'a [TermBlock],
}

impl Operation for TermGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { exponentials, u, odds, to, classes, blocks, terms } = self;
        // Vectors reach over the end of a row into the next, which follows.
        let overlap = blocks.iter().all(|block| block.general == 0);
        let (mut start, reach, end) = (0, classes.next_multiple_of(S::LANES), to.len());
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in Lane::all() {
                if start >= end {
                    break;
                }
                let first = start;
                start = start.wrapping_add(classes);
                if block.is_marked(lane) {
                    continue;
                }
                let scale = s.splat(block.scale[lane]);
                let (factor, of_odds) = (s.splat(-terms.factor[lane]), s.splat(terms.weighed_probability[lane]));
                let e = part(exponentials, first, reach).chunks_exact(S::LANES);
                let row = Elements { scale, factor, of_odds, u, odds };
                if overlap && first.saturating_add(reach) <= end {
                    let to = part_mut(to, first, reach).chunks_exact_mut(S::LANES);
                    for ((to, e), at) in to.zip(e).zip((0..).step_by(S::LANES)) {
                        s.store(row.vector(s, e, first, at), to, 0);
                    }
                } else {
                    let to = part_mut(to, first, classes).chunks_mut(S::LANES);
                    for ((to, e), at) in to.zip(e).zip((0..).step_by(S::LANES)) {
                        s.store_some(row.vector(s, e, first, at), to);
                    }
                }
            }
        }
        // The elements that are not made of their exponentials.
        let mut start = 0;
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in Lane::all() {
                let row = part_mut(to, start, classes);
                start = start.wrapping_add(classes);
                if block.is_marked(lane) {
                    continue;
                }
                if let Some(element) = row.get_mut(terms.label[lane]) {
                    *element = terms.at_label[lane];
                }
                if let Some(element) = row.get_mut(block.class[lane]) {
                    *element = block.at_reference[lane];
                }
            }
        }
    }
}

/// What the elements of a row are made of.
struct Elements<'a, S: Vector> {
    scale: S::F,
    /// That of u, and that of the odds.
    factor: S::F,
    of_odds: S::F,
    u: Option<U<'a>>,
    odds: Option<&'a [f32]>,
}

impl<S: Vector> Elements<'_, S> {
    /// Those of the classes from `class` on of the row that begins at `start`, whose exponentials are these.
    #[inline(always)]
    fn vector(&self, s: S, e: &[f32], start: usize, class: usize) -> S::F {
        let mut element = s.mul(s.load(e, 0), self.scale);
        if let Some(u) = self.u {
            element = s.mul_add(u.vector(s, u.start(start).wrapping_add(class), class), self.factor, element);
        }
        if let Some(odds) = self.odds {
            element = s.mul_add(s.load(odds, start.wrapping_add(class)), self.of_odds, element);
        }
        element
    }
}
