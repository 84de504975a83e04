//! One call of the loss with its gradient.

use std::hint::black_box;

fn main() {
    let (logits, weights, mut gradient) = black_box(([0.0; 10], [1.0; 10], [0.0; 10]));
    let loss = rwwce::CrossEntropy::new(black_box(10)).class_weights(&weights);
    black_box(loss.gradient(&logits, black_box(&[1i64]), 1.0, &mut gradient).is_ok());
    black_box(gradient);
}
