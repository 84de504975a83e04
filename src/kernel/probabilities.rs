//! The loss of a row whose probabilities are given: −w[y]·log(p_y + eps) − Σ_{j≠y} fp[y,j]·log(1 − p_j + eps).

use super::log1p::log;
use super::pair::{Pair, two_sum};
use super::weighted::weighed;
use super::{VIRTUAL_LANES, copy, part, part_mut};
use crate::backend::vector::{Operation, Vector};
use crate::problem::Rows;
use crate::reduction::Tally;

/// The loss of every row. Everything has been validated.
pub(crate) struct ProbabilityRows<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) probabilities: &'a [f32],
    pub(crate) eps: f32,
    /// fp, `[C, C]`
    pub(crate) costs: Option<&'a [f32]>,
    pub(crate) row_losses: Option<&'a mut [f32]>,
}

impl Operation for ProbabilityRows<'_> {
    type Output = Tally;

    #[inline(always)]
    fn run<S: Vector>(mut self, s: S) -> Tally {
        let mut tally = Tally::new();
        let count = self.rows.count();
        let mut first = 0;
        while first < count {
            let at_once = S::LANES.min(count - first);
            // A row that does not count is certain of its label.
            let (mut weights, mut p, mut any_lost) = ([0.0; VIRTUAL_LANES], [1.0; VIRTUAL_LANES], false);
            for (row, (weight, p)) in (first..).zip(weights.iter_mut().zip(&mut p)).take(at_once) {
                let Some(class) = self.rows.class(row) else { continue };
                let of_label = self.probabilities.get(self.rows.element(row, class)).copied().unwrap_or(f32::NAN);
                match self.rows.row_weight(row, class) {
                    Some(0.0) => {}
                    Some(held) => (*weight, *p) = (held, of_label),
                    None => any_lost = true,
                }
            }
            let mut losses = [0.0; VIRTUAL_LANES];
            let loss = loss(s, s.load(&p, 0), s.splat(self.eps), s.load(&weights, 0));
            s.store(loss, &mut losses, 0);
            for ((loss, &weight), &p) in losses.iter_mut().zip(&weights).zip(&p) {
                let sum = p + self.eps;
                if weight == 0.0 {
                    *loss = 0.0;
                } else if sum.is_nan() || sum <= 0.0 || sum == f32::INFINITY {
                    *loss = weight * at_the_edge(sum);
                }
            }
            if any_lost {
                for (row, loss) in (first..).zip(&mut losses).take(at_once) {
                    if let Some(class) =
                        self.rows.class(row).filter(|&class| self.rows.row_weight(row, class).is_none())
                    {
                        *loss = self.loss_in_f64(row, class);
                    }
                }
            }
            if let Some(costs) = self.costs {
                for (row, loss) in (first..).zip(&mut losses).take(at_once) {
                    *loss = self.add_costs_in_f64(costs, row, *loss);
                }
            }
            tally.add(first, part(&losses, 0, at_once));
            if let Some(out) = self.row_losses.as_deref_mut() {
                copy(part_mut(out, first, at_once), &losses);
            }
            first += at_once;
        }
        tally
    }
}

impl ProbabilityRows<'_> {
    /// The loss of a row whose weight f32 cannot hold.
    fn loss_in_f64(&self, row: usize, class: usize) -> f32 {
        let weight = f64::from(self.rows.weight(class)) * f64::from(self.rows.sample_weight(row));
        let p = self.probabilities.get(self.rows.element(row, class)).copied().unwrap_or(f32::NAN);
        (-weight * libm::log(f64::from(p) + f64::from(self.eps))) as f32
    }

    /// Adds the cost of naming a wrong class, which is computed in f64: 1 − p_j leaves nothing of a small p_j in f32.
    fn add_costs_in_f64(&self, costs: &[f32], row: usize, loss: f32) -> f32 {
        let (sample, classes) = (f64::from(self.rows.sample_weight(row)), self.rows.classes());
        let Some(label) = self.rows.class(row).filter(|_| sample != 0.0) else { return loss };
        let mut total = f64::from(loss);
        for (class, &cost) in part(costs, label * classes, classes).iter().enumerate().filter(|(_, cost)| **cost != 0.0)
        {
            let p = self.probabilities.get(self.rows.element(row, class)).copied().unwrap_or(f32::NAN);
            total -= sample * f64::from(cost) * libm::log1p(f64::from(self.eps) - f64::from(p));
        }
        total as f32
    }
}

/// −log u where u has no ordinary logarithm.
fn at_the_edge(u: f32) -> f32 {
    if u == 0.0 {
        f32::INFINITY
    } else if u == f32::INFINITY {
        f32::NEG_INFINITY
    } else {
        f32::NAN
    }
}

/// −weight·log(p + eps) for a positive finite sum.
#[inline(always)]
fn loss<S: Vector>(s: S, p: S::F, eps: S::F, weight: S::F) -> S::F {
    // The logarithm takes normal numbers: subnormal sums are scaled, which is exact.
    let tiny = s.less(s.add(p, eps), s.splat(f32::MIN_POSITIVE));
    let (up, one, zero) = (s.splat(f32::from_bits((127 + 32) << 23)), s.splat(1.0), s.splat(0.0));
    let factor = s.select(tiny, up, one);
    let sum = two_sum(s, s.mul(p, factor), s.mul(eps, factor));
    let value = log(s, sum);
    let power = s.select(tiny, s.splat(32.0 * core::f32::consts::LN_2), zero);
    let value = Pair { hi: s.sub(value.hi, power), lo: value.lo };
    weighed(s, value, s.sub(zero, weight), 1.0)
}
