//! `calls ROWS CLASSES POSITIONS`: the weighted loss twice, the second time between two calls of `mark`.

use rwwce::CrossEntropy;
use std::hint::black_box;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn mark() {
    black_box(());
}

fn main() -> Result<(), rwwce::Error> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    let [rows, classes, positions] = numbers[..] else { panic!("usage: calls ROWS CLASSES POSITIONS") };
    let logits: Vec<f32> = (0..rows * classes).map(|i| ((i * 37 % 101) as f32 - 50.0) / 12.5).collect();
    let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
    let weights: Vec<f32> = (0..classes).map(|class| 0.5 + (class % 5) as f32 / 4.0).collect();
    let loss = CrossEntropy::new(classes).class_weights(&weights).positions(positions);
    black_box(loss.loss(&logits, &labels)?);
    mark();
    let summary = loss.loss(&logits, &labels);
    mark();
    black_box(summary?);
    Ok(())
}
