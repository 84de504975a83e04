//! References for the tests of the examples: losses in f64 by their textbook formulas.

/// Sum over the rows of −w\[y\]·log p_y − Σ_{j≠y} fp\[y,j\]·log(1 − p_j), p = softmax(x); fp is 0 without costs.
pub fn textbook(logits: &[f64], labels: &[u32], weights: &[f32], costs: Option<&[f32]>) -> f64 {
    let classes = weights.len();
    let rows = logits.chunks(classes).zip(labels.iter().map(|&label| label as usize));
    let of_row = |(row, label): (&[f64], usize)| {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        let p = |class: usize| row[class].exp() / sum;
        let cost = |class: usize| costs.map_or(0.0, |costs| f64::from(costs[label * classes + class]));
        let mistakes: f64 = (0..classes).filter(|&j| j != label).map(|j| -cost(j) * (1.0 - p(j)).ln()).sum();
        mistakes - f64::from(weights[label]) * p(label).ln()
    };
    rows.map(of_row).sum()
}

/// Derivative of [`textbook`] with respect to each logit by central differences, with an error of about 1e-9.
pub fn differences(logits: &[f64], labels: &[u32], weights: &[f32], costs: Option<&[f32]>) -> Vec<f64> {
    let step = 1e-5;
    let at = |index: usize, step: f64| {
        let mut moved = logits.to_vec();
        moved[index] += step;
        textbook(&moved, labels, weights, costs)
    };
    (0..logits.len()).map(|index| (at(index, step) - at(index, -step)) / (2.0 * step)).collect()
}

/// Points `[N, 2]` and labels `[N]` of three classes, class 2 being rare.
pub fn points(count: usize) -> (Vec<f32>, Vec<u32>) {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let centres = [[1.0, 0.0], [-1.0, 0.3], [0.0, -0.8]];
    let labels: Vec<u32> = (0..count).map(|i| if i % 10 == 9 { 2 } else { i as u32 % 2 }).collect();
    let point = |&label: &u32| centres[label as usize].map(|centre| centre + 1.6 * random());
    (labels.iter().flat_map(point).collect(), labels)
}
