//! Σ_c u_c·(−log p_c): target probabilities and label smoothing, u_c = w[c]·((1 − ε)·q_c + ε/C).

use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::partial_sums::PARTIAL_SUMS;
use super::references::logits_of;
use super::sums::{At, Tail, has_short_vectors, next_row, sums_of_terms};
use super::term_scalars::{TermBlock, Terms};
use super::tile::{RowBlock, rows_of_blocks};
use super::{chunks, copy, from, part, part_mut};
use crate::backend::vector::{VIRTUAL_LANES, Vector};
use crate::reduction::sum_of_lanes;
use crate::rows::Rows;

/// The weights u_c of the classes, from class weights, 1 − ε and ε/C.
#[derive(Clone, Copy)]
pub(crate) struct Spread<'a> {
    weights: Option<&'a [f32]>,
    kept: f64,
    evenly: f64,
    /// Whether there are target probabilities.
    is_soft: bool,
    /// Σ u_c of label smoothing, the same for all rows; 0 with target probabilities.
    pub(crate) u_sum: f64,
    /// The largest |w|.
    pub(crate) largest_weight: f64,
    /// Whether the label is the reference of rows in range.
    pub(crate) by_label: bool,
}

impl<'a> Spread<'a> {
    pub(crate) fn new(options: &Terms<'a>, rows: &Rows<'a>) -> Self {
        Self {
            weights: rows.class_weights(),
            kept: options.kept(),
            evenly: options.evenly(rows.classes()),
            is_soft: options.soft.is_some(),
            u_sum: 0.0,
            largest_weight: 1.0,
            by_label: false,
        }
    }

    /// Fills the largest |w| and, without target probabilities, Σ u_c.
    pub(crate) fn with_u_sum(mut self, options: &Terms<'_>, classes: usize) -> Self {
        if let Some(weights) = self.weights {
            let largest = |most: f32, weight: &f32| if weight.abs() > most { weight.abs() } else { most };
            self.largest_weight = f64::from(weights.iter().fold(0.0, largest));
        }
        if options.soft.is_none() {
            self.u_sum = (0..classes).map(|class| self.of_class_at(None, class, 0)).sum();
        }
        self
    }

    /// As [`Spread::with_u_sum`], and makes the label the reference where it may be, which saves the row-wise argmax:
    ///
    /// a·(−log p_y) + Σ u_c·(−log p_c) = (a + U)·log(1 + E) + Σ u_c·(x_y − x_c),
    ///
    /// whose terms may be negative, but in sum of magnitudes are at most twice those of the loss where Σ|u| ≤ |a|.
    pub(crate) fn with_u_sum_and_reference(mut self, options: &Terms<'_>, classes: usize) -> Self {
        let (mut sum, mut size, mut smallest) = (classes as f64, classes as f64, 1.0);
        if let Some(weights) = self.weights {
            let (mut sums, mut sizes) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
            let (mut least, mut most) = ([f64::INFINITY; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
            for weights in chunks(weights, VIRTUAL_LANES) {
                let lanes = sums.iter_mut().zip(&mut sizes).zip(least.iter_mut().zip(&mut most));
                for (&weight, ((sum, of_lane), (least, most))) in weights.iter().zip(lanes) {
                    let (weight, size) = (f64::from(weight), f64::from(weight).abs());
                    *sum += weight;
                    *of_lane += size;
                    *least = if size < *least { size } else { *least };
                    *most = if size > *most { size } else { *most };
                }
            }
            (sum, size) = (sum_of_lanes(sums), sum_of_lanes(sizes));
            smallest = least.into_iter().fold(f64::INFINITY, f64::min);
            self.largest_weight = most.into_iter().fold(0.0, f64::max);
        }
        if options.soft.is_none() {
            self.u_sum = sum * self.evenly;
            self.by_label = options.costs.is_none() && size * self.evenly <= self.kept * smallest;
        }
        self
    }

    /// Takes the label as reference only if `condition` holds as well.
    pub(crate) fn by_label_if(self, condition: bool) -> Self {
        Self { by_label: self.by_label && condition, ..self }
    }

    /// The weights of two classes, 1 − ε, and ε/C.
    pub(crate) fn of_two_classes(&self) -> ([f64; 2], f64, f64) {
        let weights = match self.weights {
            Some(&[first, second]) => [f64::from(first), f64::from(second)],
            _ => [1.0; 2],
        };
        (weights, self.kept, self.evenly)
    }

    /// u of class `first + index`, whose target probability is `targets[index]`.
    #[inline(always)]
    pub(crate) fn of_class_at(&self, targets: Option<&[f32]>, index: usize, first: usize) -> f64 {
        let q = targets.map_or(0.0, |targets| f64::from(targets.get(index).copied().unwrap_or(0.0)));
        let weight = self
            .weights
            .map_or(1.0, |weights| f64::from(weights.get(first.wrapping_add(index)).copied().unwrap_or(0.0)));
        weight * (self.kept * q + self.evenly)
    }

    /// u of a class of a row, whose target probability is in `soft`.
    pub(crate) fn of_element(&self, soft: Option<&[f32]>, rows: &Rows<'_>, row: usize, class: usize) -> f64 {
        let q = soft.and_then(|soft| soft.get(rows.element(row, class)));
        self.of_class_at(q.map(core::slice::from_ref), 0, class)
    }

    /// 1 − ε and ε/C
    pub(crate) fn shares(&self) -> (f32, f32) {
        (self.kept as f32, self.evenly as f32)
    }

    /// u of 16 classes from `first + at` on, whose target probabilities are `targets[at..]`.
    #[inline(always)]
    pub(crate) fn lanes(&self, targets: Option<&[f32]>, at: usize, first: usize) -> [f64; VIRTUAL_LANES] {
        let mut u = [self.evenly; VIRTUAL_LANES];
        if let Some(targets) = targets {
            for (u, q) in u.iter_mut().zip(padded_column(targets, at)) {
                *u += self.kept * f64::from(q);
            }
        }
        if let Some(weights) = self.weights {
            for (u, w) in u.iter_mut().zip(padded_column(weights, first.wrapping_add(at))) {
                *u *= f64::from(w);
            }
        }
        u
    }

    /// Fills u of the references (those of labels are known) and, without target probabilities, Σ of the other u.
    pub(crate) fn read(&self, targets: Option<&[f32]>, classes: usize, blocks: &[RowBlock], terms: &mut [TermBlock]) {
        let mut first = 0_usize;
        for (block, terms) in blocks.iter().zip(terms) {
            if self.by_label || targets.is_none() && self.weights.is_none() {
                terms.u_reference = if self.by_label { terms.u_label } else { Lanes::splat(self.evenly) };
            } else {
                let q = targets.map(|targets| logits_of(from(targets, first), classes, &block.class));
                let w = self.weights.map(|weights| logits_of(weights, 0, &block.class));
                let (q, w) = (q.unwrap_or(Lanes::splat(0.0)), w.unwrap_or(Lanes::splat(1.0)));
                for i in Lane::all() {
                    terms.u_reference[i] = f64::from(w[i]) * (self.kept * f64::from(q[i]) + self.evenly);
                }
                first = first.wrapping_add(classes.wrapping_mul(ROWS));
            }
            if targets.is_none() {
                terms.others = terms.u_reference.map(|u| self.u_sum - u);
            }
        }
    }
}

/// 16 elements from `at` on, padded with zeros.
#[inline(always)]
pub(crate) fn padded_column(numbers: &[f32], at: usize) -> [f32; VIRTUAL_LANES] {
    let numbers = from(numbers, at);
    numbers.first_chunk().copied().unwrap_or_else(|| padded(numbers))
}

/// Fewer than 16 elements, padded; not inlined, or each element would be loaded by itself.
#[cold]
#[inline(never)]
fn padded(numbers: &[f32]) -> [f32; VIRTUAL_LANES] {
    let mut padded = [0.0; VIRTUAL_LANES];
    copy(&mut padded, numbers);
    padded
}

/// Fills what all rows share, from class `start` on: u of label smoothing, class weights for target probabilities.
pub(crate) fn fill_shared<S: Vector>(s: S, spread: Spread<'_>, start: usize, to: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            let factor = if spread.is_soft { 1.0 } else { spread.evenly as f32 };
            let Some(weights) = spread.weights else { return to.fill(factor) };
            let weights = from(weights, start);
            let len = to.len().min(weights.len());
            let (mut to, mut from) =
                (part_mut(to, 0, len).chunks_exact_mut(S::LANES), part(weights, 0, len).chunks_exact(S::LANES));
            for (u, w) in to.by_ref().zip(from.by_ref()) {
                s.store(s.mul(s.splat(factor), s.load(w, 0)), u, 0);
            }
            s.store_partial(s.mul(s.splat(factor), s.load_partial(from.remainder(), 0.0)), to.into_remainder());
        },
    )
}

/// Source of vectors of u = w·(kept·q + evenly).
#[derive(Clone, Copy)]
pub(crate) struct U<'a> {
    kept: f32,
    evenly: f32,
    /// w of the classes or, of label smoothing, u, followed by as many elements as a sum loads past the end of a row;
    /// `targets` likewise.
    pub(crate) shared: &'a [f32],
    /// q of the rows.
    pub(crate) targets: Option<&'a [f32]>,
    /// u, if it is the same for all classes of all rows.
    pub(crate) even: Option<f32>,
}

impl<'a> U<'a> {
    /// Of target probabilities or, without, of label smoothing.
    pub(crate) fn new(spread: Spread<'_>, targets: Option<&'a [f32]>, shared: &'a [f32]) -> Self {
        let (kept, evenly) = spread.shares();
        let even = (spread.weights.is_none() && targets.is_none()).then_some(evenly);
        Self { kept, evenly, shared, targets, even }
    }

    /// u = 0 of all classes, from zeros.
    pub(crate) fn none(zeros: &'a [f32]) -> Self {
        Self { kept: 0.0, evenly: 0.0, shared: zeros, targets: None, even: None }
    }

    /// w·(kept·q + evenly)
    #[inline(always)]
    pub(crate) fn of_targets<S: Vector>(&self, s: S, q: S::F, w: S::F) -> S::F {
        s.mul(s.mul_add(q, s.splat(self.kept), s.splat(self.evenly)), w)
    }
}

/// Adds to Σ u_c·(x_m − x_c) of each row and, with target probabilities, to Σ_{c≠m} u_c. The rows are contiguous, and
/// followed by as many elements as a sum loads past the end of a row. 0·∞ is 0 for target probabilities; for label
/// smoothing, which rarely has a u of 0, it is NaN and leaves the row to the general way.
pub(crate) fn spread_sums<S: Vector>(
    s: S,
    u: U<'_>,
    logits: &[f32],
    (rows, classes): (usize, usize),
    blocks: &[RowBlock],
    terms: &mut [TermBlock],
) {
    if has_short_vectors::<S>() && classes <= PARTIAL_SUMS {
        return spread_sums(s.short(), u, logits, (rows, classes), blocks, terms);
    }
    s.run(
        #[inline(always)]
        move || {
            let (tail, mut x) = (Tail::new(s, classes), logits);
            let blocks = blocks.iter().zip(terms).zip(rows_of_blocks(rows));
            let Some(targets) = u.targets else {
                for ((block, terms), rows) in blocks {
                    sums_of_terms::<S, _, 2, 1>(
                        s,
                        &tail,
                        (rows, classes),
                        [&mut terms.gaps],
                        #[inline(always)]
                        |lane| (s.splat(block.logit[lane]), [next_row::<S>(&mut x, classes), u.shared]),
                        #[inline(always)]
                        |largest, x_and_u, at, gaps| add_gap(s, *largest, x_and_u, at, gaps),
                    );
                }
                return;
            };
            // Of one length, whose check is one.
            let len = logits.len().min(targets.len());
            let (x, q, mut start) = (part(logits, 0, len), part(targets, 0, len), 0_usize);
            for ((block, terms), rows) in blocks {
                sums_of_terms::<S, _, 3, 2>(
                    s,
                    &tail,
                    (rows, classes),
                    [&mut terms.gaps, &mut terms.others],
                    #[inline(always)]
                    |lane| {
                        let row = [from(x, start), from(q, start), u.shared];
                        start = start.wrapping_add(classes);
                        ((s.splat(block.logit[lane]), from_reference(s, block.class[lane])), row)
                    },
                    #[inline(always)]
                    |of_row, row, at, sums| add_target(s, u, of_row, row, at, sums),
                );
            }
        },
    )
}

/// Adds u_c·(x_m − x_c) of label smoothing.
#[inline(always)]
fn add_gap<S: Vector>(s: S, largest: S::F, [x, u]: [&[f32]; 2], at: At, [gaps]: [S::F; 1]) -> [S::F; 1] {
    [s.mul_add(s.load(u, at.offset), s.sub(largest, s.load(x, at.offset)), gaps)]
}

/// Distance of each lane of a row's first vector from the reference; no class has that of one beyond 2²⁴.
#[inline(always)]
fn from_reference<S: Vector>(s: S, reference: usize) -> S::F {
    // From i32 the conversion is one instruction.
    s.sub(s.lanes(), s.splat(reference.min(1 << 30) as i32 as f32))
}

/// Adds u_c·(x_m − x_c), and u_c of the classes other than the reference, of target probabilities.
#[inline(always)]
fn add_target<S: Vector>(
    s: S,
    u: U<'_>,
    &(largest, from_reference): &(S::F, S::F),
    [x, q, w]: [&[f32]; 3],
    at: At,
    [gaps, others]: [S::F; 2],
) -> [S::F; 2] {
    let u = u.of_targets(s, s.load(q, at.offset), s.load(w, at.offset));
    let gap = s.sub(largest, s.load(x, at.offset));
    // 0·∞ = 0
    let gap = s.zero_where(s.equal(u, s.splat(0.0)), gap);
    // Compared with a constant, so that only the sum, one for a block of classes, has to be computed.
    let from_reference = s.add(from_reference, s.splat(at.first as i32 as f32));
    let is_reference = s.equal(from_reference, s.splat(-(at.offset as i32 as f32)));
    [s.mul_add(u, gap, gaps), s.add(others, s.select(is_reference, s.splat(-0.0), u))]
}
