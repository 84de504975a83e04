//! The loss of a row from probabilities: −w[y]·log(p_y + eps) − Σ_{j≠y} fp[y,j]·log(1 − p_j + eps), in f64.

use super::row_of;
use crate::reduction::Tally;
use crate::rows::Rows;

/// Everything has been validated.
pub(crate) struct ProbabilityRows<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) probabilities: &'a [f32],
    pub(crate) eps: f32,
    /// fp, `[C, C]`
    pub(crate) costs: Option<&'a [f32]>,
}

impl ProbabilityRows<'_> {
    /// The loss of every row.
    pub(crate) fn losses(&self, mut row_losses: Option<&mut [f32]>) -> Tally {
        let mut tally = Tally::new(self.rows.chunk());
        for row in 0..self.rows.count() {
            let loss = self.loss(row) as f32;
            tally.add(row, loss);
            if let Some(to) = row_losses.as_deref_mut().and_then(|out| out.get_mut(row)) {
                *to = loss;
            }
        }
        tally
    }

    fn loss(&self, row: usize) -> f64 {
        let (sample, eps) = (f64::from(self.rows.sample_weight(row)), f64::from(self.eps));
        let Some(label) = self.rows.class(row).filter(|_| sample != 0.0) else { return 0.0 };
        let p = |class| f64::from(self.probabilities.get(self.rows.element(row, class)).copied().unwrap_or(f32::NAN));
        let weight = f64::from(self.rows.weight(label));
        // A zero weight: 0 even where the logarithm is infinite or NaN.
        let mut loss = if weight == 0.0 { 0.0 } else { 0.0 - weight * libm::log(p(label) + eps) };
        let costs = self.costs.map_or(&[][..], |costs| row_of(costs, label, self.rows.classes()));
        for (class, &cost) in costs.iter().enumerate().filter(|(_, cost)| **cost != 0.0) {
            loss -= f64::from(cost) * libm::log1p(eps - p(class));
        }
        sample * loss
    }
}
