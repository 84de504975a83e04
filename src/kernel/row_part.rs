//! Part of a row: its largest logit and Σ_{k≠m} exp(x_k − x_m) in f64.

use super::from_largest::SUMS;
use super::long_rows::{HEADROOM, UNDO_HEADROOM, count, excluded_sum, maximum, position};
use super::one_row::Elements;
use crate::backend::vector::{Operation, Vector};

/// The largest logit (−∞ where there is none, NaN where any is) and the sum over the others.
pub(crate) struct RowPart<X>(pub(crate) X);

impl<X: Elements> Operation for RowPart<X> {
    type Output = (f32, f64);

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> (f32, f64) {
        let (largest, any_nan) = maximum(s, self.0);
        let index = position(s, self.0, largest);
        match index.filter(|_| !any_nan) {
            None => (if any_nan { f32::NAN } else { largest }, 0.0),
            Some(_) if largest.is_infinite() => (largest, count(self.0, largest) as f64 - 1.0),
            Some(index) => {
                let sum = excluded_sum(s, self.0, index, HEADROOM);
                let in_f32 = (f64::from(sum.hi) + f64::from(sum.lo)) * f64::from(UNDO_HEADROOM);
                (largest, if sum.hi < SUMS.start { in_f64(self.0, index) } else { in_f32 })
            }
        }
    }
}

/// The sum where all that is added is small, which f64 still holds.
fn in_f64<X: Elements>(row: X, index: usize) -> f64 {
    let largest = f64::from(row.get(index).unwrap_or(0.0));
    let others = (0..row.len()).filter(|&class| class != index);
    others.map(|class| libm::exp(f64::from(row.get(class).unwrap_or(0.0)) - largest)).sum()
}
