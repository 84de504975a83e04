//! One call of the loss with mislabel costs and label smoothing.

use std::hint::black_box;

fn main() {
    let (logits, weights, costs) = black_box(([0.0; 10], [1.0; 10], [0.0; 100]));
    let loss = rwwce::CrossEntropy::new(black_box(10)).class_weights(&weights);
    let loss = loss.mislabel_costs(&costs).label_smoothing(black_box(0.1));
    black_box(loss.loss(&logits, black_box(&[1i64])).is_ok());
}
