//! The speed of calls by two threads over that by one: a table of the fastest of some calls of each, which take turns.
//!
//! ```text
//! cargo bench -p rwwce-benches --bench threads
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use rayon::ThreadPoolBuilder;
use rwwce::CrossEntropy;

/// Rows and classes, from 1 MB of logits on.
const SHAPES: [(usize, usize); 9] = [
    (131_072, 2),
    (65_536, 4),
    (65_536, 10),
    (16_384, 32),
    (8192, 100),
    (1024, 1000),
    (64, 32_000),
    (16, 128_256),
    (64, 128_256),
];
const CALLS: usize = 400;

fn main() {
    // `cargo test` runs this as well.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let pool = ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    println!("| N×C | loss: one thread, µs | two, times as fast | loss and gradient: one, µs | two, times as fast |");
    println!("|---|---|---|---|---|");
    for (rows, classes) in SHAPES {
        let logits: Vec<f32> = (0..rows * classes).map(|i| (i * 7 % 1009) as f32 / 126.0 - 4.0).collect();
        let labels: Vec<i64> = (0..rows).map(|row| (row * 31 % classes) as i64).collect();
        let weights = vec![1.5; classes];
        let mut gradient = vec![0.0; logits.len()];
        let loss = CrossEntropy::new(classes).class_weights(&weights);
        let mut fastest = [[Duration::MAX; 2]; 2];
        for _ in 0..CALLS {
            for (threads, [of_loss, of_gradient]) in fastest.iter_mut().enumerate() {
                let loss = if threads == 1 { loss.parallel() } else { loss };
                pool.install(|| {
                    let begun = Instant::now();
                    black_box(loss.loss(&logits, &labels)).expect("good arguments");
                    *of_loss = begun.elapsed().min(*of_loss);
                    let begun = Instant::now();
                    black_box(loss.gradient(&logits, &labels, 1.0, &mut gradient)).expect("good arguments");
                    *of_gradient = begun.elapsed().min(*of_gradient);
                });
            }
        }
        let [one, two] = fastest.map(|of| of.map(|time| time.as_secs_f64() * 1e6));
        println!(
            "| {rows}×{classes} | {:.0} | {:.2} | {:.0} | {:.2} |",
            one[0],
            one[0] / two[0],
            one[1],
            one[1] / two[1]
        );
    }
}
