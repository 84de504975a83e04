//! Losses of logits that are no f32, without a copy of them all: a few rows at a time are widened on the stack, where the
//! kernels of f32 find them. A row that does not fit there is widened piece by piece, wherever it is read.

use super::buffers::LossOnly;
use super::combined::CombinedRows;
use super::exp::Scale;
use super::log_probabilities::LogProbabilityRows;
use super::log1p::log1p;
use super::long_rows::{ExcludedSum, HEADROOM, Lanes, QUARTER, UNDO_HEADROOM, accumulate};
use super::one_row::{self, Elements, InOneLane, Order};
use super::pair::{Pair, scaled};
use super::rare_rows::TINY_SUM;
use super::terms::{RowInF64, Terms};
use super::views::SHORT_ROW_OF_MANY_SUMS;
use super::weighted::{WeightedRows, minus_log_p, weighed};
use super::{BLOCK, VIRTUAL_LANES, copy, part, part_mut};
use crate::backend::vector::{Operation, Vector};
use crate::logits::Logits;
use crate::problem::Rows;
use crate::reduction::{GradientScale, Tally};

/// The loss of every row. Everything has been validated.
pub(crate) struct NarrowRows<'a> {
    pub(crate) terms: &'a Terms<'a>,
    pub(crate) logits: Logits<'a>,
    pub(crate) row_losses: Option<&'a mut [f32]>,
}

impl Operation for NarrowRows<'_> {
    type Output = Tally;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Tally {
        let Self { terms, logits, mut row_losses } = self;
        let mut tally = Tally::new();
        let scale = GradientScale::Same(0.0);
        let in_pieces = Widened { terms, logits }.each(
            s,
            #[inline(always)]
            |first, terms, numbers, losses| {
                let row_losses_of_piece = Some(&mut *losses);
                if terms.are_plain() {
                    let (buffers, row_losses) = (LossOnly(numbers), row_losses_of_piece);
                    s.run(WeightedRows { terms, buffers, row_losses, scale });
                } else {
                    let (logits, row_losses) = (Some(Logits::F32(numbers)), row_losses_of_piece);
                    s.run(CombinedRows::<false> { terms, logits, gradient: &mut [], row_losses, scale });
                }
                tally.add(first, losses);
                if let Some(out) = row_losses.as_deref_mut() {
                    copy(part_mut(out, first, losses.len()), losses);
                }
            },
        );
        if in_pieces {
            return tally;
        }
        if !terms.are_plain() {
            let logits = Some(logits);
            return s.run(CombinedRows::<false> { terms, logits, gradient: &mut [], row_losses, scale });
        }
        let rows = terms.rows;
        for row in 0..rows.count() {
            let label = rows.class(row);
            let loss = match label.map_or(Some(0.0), |label| rows.row_weight(row, label)) {
                None => RowInF64::loss_of_row(terms, row, logits),
                Some(weight) if rows.positions() == 1 || weight == 0.0 => {
                    one_row::loss(s, NarrowRow::new(rows, row, logits), label.unwrap_or(0), weight)
                }
                Some(weight) => across(s, terms, row, logits, weight),
            };
            tally.add(row, &[loss]);
            if let Some(to) = row_losses.as_deref_mut().and_then(|out| out.get_mut(row)) {
                *to = loss;
            }
        }
        tally
    }
}

/// The weighted loss of a row whose classes do not stand side by side, in the order in which vectors across rows add.
#[inline(always)]
fn across<S: Vector>(s: S, terms: &Terms<'_>, row: usize, logits: Logits<'_>, weight: f32) -> f32 {
    let (elements, reference) = (NarrowRow::new(terms.rows, row, logits), terms.rows.class(row).unwrap_or(0));
    let sum = InOneLane { row: elements, reference, headroom: HEADROOM, order: Order::ByClass };
    let (lane, sum) = (s.lane(), if S::WIDE { sum.run(s.lane()) } else { s.run(sum) });
    if (TINY_SUM..f32::INFINITY).contains(&sum.hi) {
        let log = log1p(lane, scaled(lane, sum, UNDO_HEADROOM));
        return weighed(lane, minus_log_p(lane, sum, log), weight, UNDO_HEADROOM);
    }
    RowInF64::loss_of_row(terms, row, logits)
}

/// log Σ exp of every row. Everything has been validated.
pub(crate) struct NarrowLogSumExps<'a> {
    pub(crate) terms: &'a Terms<'a>,
    pub(crate) logits: Logits<'a>,
    pub(crate) log_sum_exps: &'a mut [f32],
}

impl Operation for NarrowLogSumExps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { terms, logits, log_sum_exps: out } = self;
        let in_pieces = Widened { terms, logits }.each(
            s,
            #[inline(always)]
            |first, terms, numbers, found| {
                let (logits, log_sum_exps) = (Some(Logits::F32(numbers)), Some(&mut *found));
                s.run(LogProbabilityRows { terms, logits, log_probabilities: None, log_sum_exps });
                copy(part_mut(out, first, found.len()), found);
            },
        );
        if !in_pieces {
            let (logits, log_sum_exps) = (Some(logits), Some(out));
            s.run(LogProbabilityRows { terms, logits, log_probabilities: None, log_sum_exps });
        }
    }
}

/// The number of logits that are widened at once: some kilobytes where there are vectors, less for a small memory.
const ROOM: usize = 2048;
const ROOM_OF_ONE_LANE: usize = 128;
// Longer rows are seen along, in the order of the f32 that they stand for.
const _: () = assert!(ROOM_OF_ONE_LANE >= SHORT_ROW_OF_MANY_SUMS);

/// Rows that are widened as many at once as there is room for.
struct Widened<'a> {
    terms: &'a Terms<'a>,
    logits: Logits<'a>,
}

impl Widened<'_> {
    /// Calls `take` with the first row, the terms, the numbers and room for a result a row; whether a row fits at all.
    #[inline(always)]
    fn each<S: Vector>(self, _: S, take: impl FnMut(usize, &Terms<'_>, &[f32], &mut [f32])) -> bool {
        if S::WIDE { self.each_in::<ROOM>(take) } else { self.each_in::<ROOM_OF_ONE_LANE>(take) }
    }

    #[inline(always)]
    fn each_in<const ROOM: usize>(self, mut take: impl FnMut(usize, &Terms<'_>, &[f32], &mut [f32])) -> bool {
        let Self { terms, logits } = self;
        let rows = terms.rows;
        if rows.classes() > ROOM {
            return false;
        }
        let (mut numbers, mut soft, mut results) = ([0.0; ROOM], [0.0; ROOM], [0.0; ROOM]);
        let mut first = 0;
        while first < rows.count() {
            let piece = Piece::new(rows, first, ROOM);
            let len = piece.rows * piece.classes;
            piece.widen(rows, logits, &mut numbers);
            if let Some(targets) = terms.soft {
                piece.widen(rows, Logits::F32(targets), &mut soft);
            }
            let some = rows.some(first, piece.rows, piece.positions);
            let soft = terms.soft.map(|_| part(&soft, 0, len));
            let terms = &Terms { rows: &some, soft, ..*terms };
            take(first, terms, part(&numbers, 0, len), part_mut(&mut results, 0, piece.rows));
            first += piece.rows;
        }
        true
    }
}

/// So many rows that no vector but the last has lanes without one.
#[inline(always)]
fn full_vectors(rows: usize) -> usize {
    if rows > VIRTUAL_LANES { rows - rows % VIRTUAL_LANES } else { rows }
}

/// Rows that are widened together: whole samples, or some positions of one.
struct Piece {
    /// Of the sample of the first row.
    start: usize,
    samples: usize,
    positions: usize,
    rows: usize,
    classes: usize,
}

impl Piece {
    #[inline(always)]
    fn new(rows: &Rows<'_>, first: usize, room: usize) -> Self {
        let (classes, start) = (rows.classes(), rows.start(first));
        let of_sample = classes * rows.positions();
        if of_sample <= room {
            let samples = room / of_sample.max(1);
            let samples = if rows.positions() == 1 { full_vectors(samples) } else { samples };
            let samples = samples.min((rows.count() - first) / rows.positions().max(1));
            return Self { start, samples, positions: rows.positions(), rows: samples * rows.positions(), classes };
        }
        let positions = full_vectors(room / classes.max(1)).min(rows.left_in_sample(first));
        Self { start, samples: 1, positions, rows: positions, classes }
    }

    /// Without a gap, in the order of the logits.
    #[inline(always)]
    fn widen(&self, rows: &Rows<'_>, logits: Logits<'_>, to: &mut [f32]) {
        if self.positions == rows.positions() {
            let len = self.classes * self.positions;
            for sample in 0..self.samples {
                // From one sample to the next.
                let start = self.start + (rows.start(self.positions) - rows.start(0)) * sample;
                logits.widen(start, 1, part_mut(to, sample * len, len));
            }
        } else {
            for class in 0..self.classes {
                let start = self.start + class * rows.positions();
                logits.widen(start, 1, part_mut(to, class * self.positions, self.positions));
            }
        }
    }
}

/// One row of logits that are no f32.
#[derive(Clone, Copy)]
pub(crate) struct NarrowRow<'a> {
    pub(crate) logits: Logits<'a>,
    pub(crate) start: usize,
    /// From one class to the next.
    pub(crate) stride: usize,
    pub(crate) classes: usize,
}

impl<'a> NarrowRow<'a> {
    #[inline(always)]
    pub(crate) fn new(rows: &Rows<'_>, row: usize, logits: Logits<'a>) -> Self {
        Self { logits, start: rows.start(row), stride: rows.positions(), classes: rows.classes() }
    }

    /// All of the logits.
    #[inline(always)]
    pub(crate) fn of_all(logits: Logits<'a>) -> Self {
        Self { logits, start: 0, stride: 1, classes: logits.len() }
    }

    /// The numbers of the classes from `class` on.
    #[inline(always)]
    pub(crate) fn widen(&self, class: usize, to: &mut [f32]) {
        let to = part_mut(to, 0, to.len().min(self.classes.saturating_sub(class)));
        self.logits.widen(self.start + class * self.stride, self.stride, to);
    }
}

impl Elements for NarrowRow<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.classes
    }

    #[inline(always)]
    fn get(self, class: usize) -> Option<f32> {
        if class < self.classes { self.logits.number(self.start + class * self.stride) } else { None }
    }

    #[inline(always)]
    fn slice(&self) -> Option<&[f32]> {
        None
    }

    /// Block by block, and at the end quarter by quarter, as the sum of f32 adds them.
    #[inline(always)]
    fn lanes<S: Vector>(self, s: S, skip: usize, scale: Scale) -> Lanes {
        let mut total = Lanes { hi: [0.0; VIRTUAL_LANES], lo: [0.0; VIRTUAL_LANES] };
        let mut numbers = [0.0; BLOCK];
        let mut at = 0;
        while at < self.classes {
            let left = self.classes - at;
            let len = if left >= BLOCK { BLOCK } else { left.min(QUARTER * VIRTUAL_LANES) };
            self.widen(at, part_mut(&mut numbers, 0, len));
            let sums = s.run(ExcludedSum { from: &numbers, len, skip: skip.wrapping_sub(at), scale });
            for ((hi, lo), sum) in total.hi.iter_mut().zip(&mut total.lo).zip(sums.hi) {
                let sum = accumulate(s.lane(), Pair { hi: *hi, lo: *lo }, sum);
                (*hi, *lo) = (sum.hi, sum.lo);
            }
            at += len;
        }
        total
    }
}
