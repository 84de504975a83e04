//! Σ_c u_c·(−log p_c): target probabilities and label smoothing, u_c = w[c]·((1 − ε)·q_c + ε/C).

use super::classes::Weights;
use super::terms::{TermBlock, Terms};
use super::tile::{ROWS, RowBlock, rows_of_blocks};
use super::{chunks, chunks_mut, part, part_mut};
use crate::backend::vector::{Driver, Operation, VIRTUAL_LANES, Vector};
use crate::rows::Rows;

/// The weights u of the classes of a row.
#[derive(Clone, Copy)]
pub(crate) struct Spread<'a> {
    weights: Option<&'a [f32]>,
    kept: f64,
    evenly: f64,
    /// Σ u without targets, the same for all rows.
    pub(crate) whole: f64,
    /// The largest |w|.
    pub(crate) largest_weight: f64,
}

impl<'a> Spread<'a> {
    pub(crate) fn new(options: &Terms<'a>, rows: &Rows<'a>) -> Self {
        Self {
            weights: rows.class_weights(),
            kept: options.kept(),
            evenly: options.evenly(rows.classes()),
            whole: 0.0,
            largest_weight: 1.0,
        }
    }

    /// With what is the same for all rows: the largest weight, and the sum over so many classes if that is.
    pub(crate) fn with_whole(mut self, options: &Terms<'_>, classes: usize) -> Self {
        if let Some(weights) = self.weights {
            let largest = |most: f32, weight: &f32| if weight.abs() > most { weight.abs() } else { most };
            self.largest_weight = f64::from(weights.iter().fold(0.0, largest));
        }
        if options.soft.is_none() {
            self.whole = (0..classes).map(|class| self.of_class_at(None, class, 0)).sum();
        }
        self
    }

    /// u of class `first + index`, whose target is the one at `index`.
    #[inline(always)]
    pub(crate) fn of_class_at(&self, targets: Option<&[f32]>, index: usize, first: usize) -> f64 {
        let q = targets.map_or(0.0, |targets| f64::from(targets.get(index).copied().unwrap_or(0.0)));
        let weight = self.weights.map_or(1.0, |weights| f64::from(weights.get(first + index).copied().unwrap_or(0.0)));
        weight * (self.kept * q + self.evenly)
    }

    /// u of the labels and of the references.
    pub(crate) fn read(&self, targets: Option<&[f32]>, classes: usize, blocks: &[RowBlock], terms: &mut [TermBlock]) {
        let mut first = 0;
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in 0..ROWS {
                let targets = targets.map(|targets| part(targets, first, classes));
                first += classes;
                terms.u_reference[lane] = self.of_class_at(targets, block.class[lane], 0);
                if terms.label[lane] < classes {
                    terms.u_label[lane] = self.of_class_at(targets, terms.label[lane], 0);
                }
            }
        }
    }
}

/// Fills rows of u from those of the targets, in f32.
pub(crate) struct FillWeights<'a> {
    pub(crate) spread: Spread<'a>,
    /// Rows of target probabilities, if there are any, and what they become.
    pub(crate) targets: Option<&'a [f32]>,
    pub(crate) to: &'a mut [f32],
    pub(crate) classes: usize,
}

impl Operation for FillWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { spread, targets, to, classes } = self;
        let (kept, evenly) = (s.splat(spread.kept as f32), s.splat(spread.evenly as f32));
        match targets {
            None => to.fill(spread.evenly as f32),
            Some(targets) => {
                for (to, q) in chunks_mut(to, S::LANES).zip(chunks(targets, S::LANES)) {
                    s.store_some(s.mul_add(s.load_some(q, 0.0), kept, evenly), to);
                }
            }
        }
        if let Some(weights) = spread.weights {
            for row in to.chunks_exact_mut(classes.max(1)) {
                for (u, w) in chunks_mut(row, S::LANES).zip(chunks(weights, S::LANES)) {
                    let weighed = s.mul(s.load_some(u, 0.0), s.load_some(w, 0.0));
                    s.store_some(weighed, u);
                }
            }
        }
    }
}

/// Writes rows of u_c·(x_m − x_c), whose sums are those of the differences of logarithms.
pub(crate) struct Gaps<'a> {
    /// Rows of so many classes, and as many elements more as a vector has; so are all of these.
    pub(crate) logits: &'a [f32],
    pub(crate) u: &'a [f32],
    pub(crate) to: &'a mut [f32],
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: &'a [RowBlock],
}

impl Operation for Gaps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { logits, u, to, classes, rows, blocks } = self;
        let (mut start, reach) = (0, classes.next_multiple_of(S::LANES));
        for (block, rows) in blocks.iter().zip(rows_of_blocks(rows)) {
            for &largest in block.logit.iter().take(rows) {
                let largest = s.splat(largest);
                let (x, u) = (part(logits, start, reach), part(u, start, reach));
                // What is written beyond the end of a row is written again with the next.
                let to = part_mut(to, start, reach).chunks_exact_mut(S::LANES);
                for ((to, x), u) in to.zip(x.chunks_exact(S::LANES)).zip(u.chunks_exact(S::LANES)) {
                    s.store(s.mul(s.load(u, 0), s.sub(largest, s.load(x, 0))), to, 0);
                }
                start += classes;
            }
        }
    }
}

/// What rows of target probabilities weigh: Σ_c w\[c\]·q_c of each times the weight of its sample, and the latter, which are
/// not finite where a probability is not.
pub(crate) struct WeighSoftRows<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) targets: &'a [f32],
    pub(crate) weights: &'a mut Weights,
}

impl Driver for WeighSoftRows<'_> {
    type Output = ();

    fn drive<S: Vector>(self, s: S) {
        s.run(self);
    }
}

impl Operation for WeighSoftRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, _: S) {
        let Self { rows, targets, weights } = self;
        let of_classes = rows.class_weights();
        weights.counted = rows.count();
        for row in 0..rows.count() {
            let mut lanes = [0.0; VIRTUAL_LANES];
            if rows.positions() == 1 {
                let q = part(targets, rows.start(row), rows.classes());
                match of_classes {
                    None => {
                        for q in q.chunks(VIRTUAL_LANES) {
                            for (lane, &q) in lanes.iter_mut().zip(q) {
                                *lane += f64::from(q);
                            }
                        }
                    }
                    Some(of_classes) => {
                        for (q, w) in chunks(q, VIRTUAL_LANES).zip(chunks(of_classes, VIRTUAL_LANES)) {
                            for ((lane, &q), &w) in lanes.iter_mut().zip(q).zip(w) {
                                *lane += f64::from(q) * f64::from(w);
                            }
                        }
                    }
                }
            } else {
                for class in 0..rows.classes() {
                    let q = targets.get(rows.element(row, class)).copied().unwrap_or(0.0);
                    lanes[class % VIRTUAL_LANES] += f64::from(q) * f64::from(rows.weight(class));
                }
            }
            let of_sample = f64::from(rows.sample_weight(row));
            weights.weights.add(row, lanes.iter().sum::<f64>() * of_sample);
            weights.sample_weights.add(row, of_sample);
        }
    }
}
