//! Cross-validation: deals cases into folds, fills in missing values and standardises features.

use super::table::Table;

/// Number of folds; each is held out once, while the others train.
pub(crate) const FOLDS: usize = 5;

/// Cases prepared for a linear classifier.
#[derive(Default)]
pub(crate) struct Part {
    /// Standardised values of each feature, one per case.
    pub(crate) columns: Vec<Vec<f32>>,
    pub(crate) labels: Vec<u32>,
}

impl Part {
    /// Cases outside and inside a fold.
    pub(crate) fn split(&self, fold_of: &[usize], fold: usize) -> (Self, Self) {
        let part = |is_inside: bool| {
            let taken: Vec<usize> = (0..fold_of.len()).filter(|&case| (fold_of[case] == fold) == is_inside).collect();
            let column = |column: &Vec<f32>| taken.iter().map(|&case| column[case]).collect();
            Self {
                columns: self.columns.iter().map(column).collect(),
                labels: taken.iter().map(|&case| self.labels[case]).collect(),
            }
        };
        (part(false), part(true))
    }
}

/// Deals the cases at random, stratified by class, and returns the fold of each.
pub(crate) fn deal(labels: &[u32], seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut splitmix64 = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    // Sorted by class, in random order within each.
    let mut order: Vec<_> = labels.iter().enumerate().map(|(case, label)| (label, splitmix64(), case)).collect();
    order.sort_unstable();
    let mut fold_of = vec![0; labels.len()];
    for (position, (_, _, case)) in order.into_iter().enumerate() {
        fold_of[case] = position % FOLDS;
    }
    fold_of
}

/// Training cases, and the held-out cases of `fold`.
pub(crate) fn split(table: &Table, fold_of: &[usize], fold: usize) -> (Part, Part) {
    let (mut training, mut held_out) = (Part::default(), Part::default());
    for (&label, &f) in table.labels.iter().zip(fold_of) {
        let part = if f == fold { &mut held_out } else { &mut training };
        part.labels.push(label);
    }
    for feature in &table.features {
        let (mut trained, mut held) = (Vec::new(), Vec::new());
        let scaling = Scaling::of(feature, fold_of, fold);
        for (&value, &f) in feature.iter().zip(fold_of) {
            if f == fold { &mut held } else { &mut trained }.push(scaling.apply(value));
        }
        training.columns.push(trained);
        held_out.columns.push(held);
    }
    (training, held_out)
}

/// Fill value of a feature, and its scaling to mean 0 and variance 1, from the training cases alone, so that nothing
/// leaks from the held-out cases.
struct Scaling {
    missing: f64,
    mean: f64,
    scale: f64,
}

impl Scaling {
    fn of(feature: &[f64], fold_of: &[usize], fold: usize) -> Self {
        let rows = feature.iter().zip(fold_of).filter(|(_, f)| **f != fold);
        let mut values: Vec<f64> = rows.map(|(value, _)| *value).collect();
        let mut missing = 0.0;
        if values.iter().any(|value| value.is_nan()) {
            let mut known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            known.sort_unstable_by(f64::total_cmp);
            missing = median(&known);
            values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = missing);
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        // A constant feature is scaled by 0. Its variance need not be exactly 0, since the mean is rounded.
        let varies = values.iter().any(|value| *value != values[0]) && variance > 0.0;
        Self { missing, mean, scale: if varies { 1.0 / variance.sqrt() } else { 0.0 } }
    }

    fn apply(&self, value: f64) -> f32 {
        let value = if value.is_nan() { self.missing } else { value };
        ((value - self.mean) * self.scale) as f32
    }
}

/// Median of sorted values; 0 if there are none.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 0.0,
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        Some(upper) => (sorted[middle - 1] + upper) / 2.0,
    }
}
