//! One call for second derivatives.

use std::hint::black_box;

fn main() {
    let (logits, mut curvature) = black_box(([0.0; 10], [0.0; 10]));
    let loss = rwwce::CrossEntropy::new(black_box(10));
    black_box(loss.curvature(&logits, &[1i64], 1.0, rwwce::Curvature::Bound, &mut curvature).is_ok());
    black_box(curvature);
}
