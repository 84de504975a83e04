//! Expected costs of decisions in f64, as the textbook has them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use super::common::{error_in_ulps, ulp};
use rwwce::{CrossEntropy, NO_DECISION};

/// The lesser of costs that differ by more must be decided for.
const ULPS: f64 = 4.0;

/// softmax(x) in f64; `None` for a NaN, several +∞ or all −∞.
pub(crate) fn softmax(row: &[f32]) -> Option<Vec<f64>> {
    let largest = row.iter().fold(f32::NEG_INFINITY, |most, &x| most.max(x));
    let infinite = row.iter().filter(|&&x| x == f32::INFINITY).count();
    if row.iter().any(|x| x.is_nan()) || largest == f32::NEG_INFINITY || infinite > 1 {
        return None;
    }
    if infinite == 1 {
        return Some(row.iter().map(|&x| f64::from(u8::from(x == f32::INFINITY))).collect());
    }
    let e: Vec<f64> = row.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).collect();
    let total: f64 = e.iter().sum();
    Some(e.iter().map(|e| e / total).collect())
}

/// Miss costs and mislabel costs, either of which may be absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    pub(crate) miss: Option<Vec<f32>>,
    pub(crate) mislabel: Option<Vec<f32>>,
}

impl Costs {
    pub(crate) fn of<'a>(&'a self, mut loss: CrossEntropy<'a>) -> CrossEntropy<'a> {
        if let Some(miss) = &self.miss {
            loss = loss.class_weights(miss);
        }
        if let Some(mislabel) = &self.mislabel {
            loss = loss.mislabel_costs(mislabel);
        }
        loss
    }

    /// fn\[truth\] + fp\[truth, named\], 0 for the truth itself.
    fn cost(&self, truth: usize, named: usize, classes: usize) -> f64 {
        if truth == named {
            return 0.0;
        }
        let miss = self.miss.as_ref().map_or(1.0, |miss| f64::from(miss[truth]));
        miss + self.mislabel.as_ref().map_or(0.0, |mislabel| f64::from(mislabel[truth * classes + named]))
    }

    /// Σ_y p_y·cost\[y, j\]
    pub(crate) fn expected(&self, p: &[f64], named: usize) -> f64 {
        (0..p.len()).map(|truth| p[truth] * self.cost(truth, named, p.len())).sum()
    }

    /// Classes that may cost least; of many without mislabel costs, the three of largest p_c·fn\[c\].
    fn candidates(&self, p: &[f64]) -> Vec<usize> {
        let mut classes: Vec<usize> = (0..p.len()).collect();
        if self.mislabel.is_none() && p.len() > 300 {
            let missed = |class: usize| p[class] * self.miss.as_ref().map_or(1.0, |miss| f64::from(miss[class]));
            classes.sort_by(|&a, &b| missed(b).total_cmp(&missed(a)));
            classes.truncate(3);
        }
        classes
    }

    /// Checks a decision, and its expected cost to 1 ulp.
    pub(crate) fn check(&self, p: Option<&[f64]>, decision: u32, cost: f32) -> Result<(), String> {
        let Some(p) = p else {
            let is_none = decision == NO_DECISION && cost.is_nan();
            return if is_none { Ok(()) } else { Err(format!("{decision} at {cost} without probabilities")) };
        };
        if decision as usize >= p.len() {
            return Err(format!("class {decision}"));
        }
        let of_decision = self.expected(p, decision as usize);
        for class in self.candidates(p) {
            let other = self.expected(p, class);
            if of_decision - other > ULPS * ulp(other) {
                return Err(format!("{decision} costs {of_decision:e}, {class} costs {other:e}"));
            }
        }
        let error = error_in_ulps(cost, of_decision);
        if error > 1.0 { Err(format!("cost {cost:e} instead of {of_decision:e}: {error} ulp")) } else { Ok(()) }
    }
}
