//! The class to say of a row, given what mistakes cost.

/// The decision of a row with a NaN.
pub(crate) const NO_DECISION: u32 = u32::MAX;

/// The class of least expected cost of each row of `logits`, `[N, C]`, row by row: argmin_j Σ_{y≠j} p_y·(fn\[y\] + fp\[y,j\]),
/// the lowest of equals (Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001). Returns the number of rows without
/// a decision.
pub(crate) fn decide(
    miss_costs: &[f32],
    mislabel_costs: &[f32],
    logits: &[f32],
    decisions: &mut [u32],
) -> Result<usize, rwwce::Error> {
    let classes = miss_costs.len();
    let cost = |truth: usize, said: usize| {
        if truth == said {
            0.0
        } else {
            f64::from(miss_costs[truth]) + f64::from(mislabel_costs[truth * classes + said])
        }
    };
    let mut undecided = 0;
    for (row, decision) in logits.chunks_exact(classes).zip(decisions) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        // Among infinite logits those that are +∞ share the probability.
        let shifted = |&x: &f32| if x == largest { 1.0 } else { (f64::from(x) - f64::from(largest)).exp() };
        let shares: Vec<f64> = row.iter().map(shifted).collect();
        if row.iter().any(|x| x.is_nan()) {
            *decision = NO_DECISION;
            undecided += 1;
            continue;
        }
        let expected = |said: usize| (0..classes).map(|truth| shares[truth] * cost(truth, said)).sum::<f64>();
        let costs: Vec<f64> = (0..classes).map(expected).collect();
        let least = (0..classes).fold(0, |least, class| if costs[class] < costs[least] { class } else { least });
        *decision = least as u32;
    }
    Ok(undecided)
}
