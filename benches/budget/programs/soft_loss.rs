//! One call of the loss with target probabilities.

use std::hint::black_box;

fn main() {
    let (logits, weights, targets) = black_box(([0.0; 10], [1.0; 10], [0.1; 10]));
    let loss = rwwce::CrossEntropy::new(black_box(10)).class_weights(&weights);
    black_box(loss.soft_loss(&logits, &targets).is_ok());
}
