//! Target probabilities, label smoothing and mislabel costs of two classes. With the label r (0 where there is none),
//! the other class o and the gap g = x_o − x_r, every −log p is softplus(g) or softplus(−g):
//!
//! loss = α·softplus(g) + β·softplus(−g), and its gradient α·σ(g) − β·σ(−g) at o and the opposite at r,
//!
//! where α = a + u_r + fp[r,o], since 1 − p_o is p_r, and β = u_o. softplus(±g) = max(±g, 0) + log(1 + e^−|g|).

use super::lanes::{Lane, Lanes};
use super::limits::{LEAST_GAP, ROWS};
use super::spread::Spread;
use super::term_scalars::{TermBlock, Terms, mark};

use super::term_tile::{TermTile, logits, targets};
use super::tile::{RowBlock, Tile};
use super::two_classes::{exact_elements, exact_gaps, exponentials_of_gaps, logs_of_gaps, write_two_classes};
use super::{f64_math, rows_of};
use crate::backend::vector::Vector;

/// Losses and gradients of rows with neither focal factor nor z-loss; marks those left to the general way.
pub(crate) fn compute<S: Vector>(s: S, rows: &mut TermTile<'_, '_>) {
    let TermTile { batch, options, tile, terms, place, .. } = rows;
    let Tile { numbers, spare, blocks } = tile;
    let gradient = batch.gradient.is_some();
    let targets = options.soft.map_or(&[][..], |soft| targets(s, (batch, soft), *place, 0, spare));
    let logits = rows_of(logits(s, batch, *place, 0, numbers), 0, place.rows, 2);
    exponentials_of_gaps(s, logits, blocks);
    logs_of_gaps(s, false, blocks);
    let alpha_beta = AlphaBeta::new(options, rows.spread);
    gap_terms(s, alpha_beta, targets, logits, gradient, blocks, terms);
    if gradient {
        exact_elements(s, tile.blocks);
        write_two_classes(s, batch, tile, *place);
    }
}

/// Inputs of α and β.
struct AlphaBeta {
    /// Class weights, 1 − ε and ε/C; 0 without a spread.
    weights: [f64; 2],
    kept: f64,
    evenly: f64,
    is_soft: bool,
    /// fp[0,1] and fp[1,0].
    costs: [f64; 2],
}

impl AlphaBeta {
    fn new(options: &Terms<'_>, spread: Option<Spread<'_>>) -> Self {
        let costs = match options.costs {
            Some(&[_, first, second, _]) => [f64::from(first), f64::from(second)],
            _ => [0.0; 2],
        };
        let (weights, kept, evenly) = spread.map_or(([0.0; 2], 0.0, 0.0), |spread| spread.of_two_classes());
        Self { weights, kept, evenly, is_soft: options.soft.is_some(), costs }
    }

    /// α and β of the rows of a block.
    #[inline(always)]
    fn of(&self, targets: &[f32], terms: &TermBlock) -> (Lanes<f64>, Lanes<f64>) {
        let (mut alpha, mut beta) = (Lanes::splat(0.0), Lanes::splat(0.0));
        let [first, second] = self.weights;
        if self.is_soft {
            let pairs = targets.as_chunks::<2>().0;
            for ((alpha, beta), [q, other]) in alpha.iter_mut().zip(beta.iter_mut()).zip(pairs) {
                *alpha = first * (self.kept * f64::from(*q) + self.evenly);
                *beta = second * (self.kept * f64::from(*other) + self.evenly);
            }
        } else {
            let (label_weight, label) = (terms.label_weight, terms.label);
            let [of_first, of_second] = [first * self.evenly, second * self.evenly];
            for i in Lane::all() {
                let is_second = label[i] == 1;
                let (u, other, cost) =
                    if is_second { (of_second, of_first, self.costs[1]) } else { (of_first, of_second, self.costs[0]) };
                alpha[i] = label_weight[i] + u + cost;
                beta[i] = other;
            }
        }
        (alpha, beta)
    }
}

/// Fills the losses (as `log`) and, with `gradient`, the element at o without the row's factor (as `one_minus_p`).
/// `targets` are pairs of target probabilities, if there are any; the blocks have g, e^−|g| and log(1 + e^−|g|) of
/// [`logs_of_gaps`] as `logit`, `scale` and `sum`.
fn gap_terms<S: Vector>(
    s: S,
    alpha_beta: AlphaBeta,
    targets: &[f32],
    logits: &[f32],
    gradient: bool,
    blocks: &mut [RowBlock],
    terms: &[TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            for (number, (block, terms)) in blocks.iter_mut().zip(terms).enumerate() {
                let start = number.wrapping_mul(2 * ROWS);
                let (alpha, beta) = alpha_beta.of(targets.get(start..).unwrap_or(&[]), terms);
                let mut gaps = Gaps::new(block);
                if !gaps.g.iter().fold(true, |all, g| all & is_near(*g)) {
                    gaps.read_far(block, logits.get(start..).unwrap_or(&[]));
                }
                let Gaps { g, e, log } = gaps;
                let mut losses = Lanes::splat(0.0);
                for i in Lane::all() {
                    let (over, under) = if g[i] > 0.0 { (g[i], 0.0) } else { (0.0, -g[i]) };
                    losses[i] = alpha[i] * (over + log[i]) + beta[i] * (under + log[i]);
                }
                if gradient {
                    let mut elements = Lanes::splat(0.0);
                    for i in Lane::all() {
                        let larger = 1.0 / (1.0 + e[i]);
                        let smaller = e[i] * larger;
                        let (of_gap, of_opposite) = if g[i] > 0.0 { (larger, smaller) } else { (smaller, larger) };
                        elements[i] = alpha[i] * of_gap - beta[i] * of_opposite;
                        // Without weight the gradient is 0, even if the factor is NaN.
                        let is_weightless = (alpha[i] == 0.0) & (beta[i] == 0.0);
                        block.factor[i] = if is_weightless { 0.0 } else { block.factor[i] };
                    }
                    block.one_minus_p = elements;
                }
                block.log = losses;
                mark(block, &losses);
            }
        },
    )
}

/// g, e^−|g| and log(1 + e^−|g|) of the rows of a block.
struct Gaps {
    g: Lanes<f64>,
    e: Lanes<f64>,
    log: Lanes<f64>,
}

impl Gaps {
    #[inline(always)]
    fn new(block: &RowBlock) -> Self {
        let (gap, exponential) = (block.logit, block.scale);
        let (mut g, mut e) = (Lanes::splat(0.0), Lanes::splat(0.0));
        for i in Lane::all() {
            (g[i], e[i]) = (f64::from(gap[i]), f64::from(exponential[i]));
        }
        Self { g, e, log: block.sum }
    }

    /// Recomputes from the logits, in f64, finite gaps whose e^−|g| underflows in f32. There log(1 + e^−|g|) is e^−|g|.
    #[inline(always)]
    fn read_far(&mut self, block: &RowBlock, logits: &[f32]) {
        let gaps = exact_gaps(logits, &block.class);
        // Not in place, which would compile to masked stores.
        let (near_g, near_e, near_log) = (self.g, self.e, self.log);
        for i in Lane::all() {
            let e = f64_math::exp(-gaps[i].abs());
            let far = !is_near(near_g[i]) & gaps[i].is_finite();
            self.g[i] = if far { gaps[i] } else { near_g[i] };
            self.e[i] = if far { e } else { near_e[i] };
            self.log[i] = if far { e } else { near_log[i] };
        }
    }
}

/// Whether e^−|g| is a normal f32; false for NaN.
#[inline(always)]
fn is_near(g: f64) -> bool {
    g.abs() <= f64::from(-LEAST_GAP)
}
