//! The C programs in `examples/c` with the Rust interface: the output is the same text, digit by digit.
//!
//! ```text
//! cargo run --example same_as_c -- drift_monitor
//! ```
//!
//! Rows that `split_classes_mpi.c` splits by class over processes are whole here. `.ci/c` compares the outputs.

use std::error::Error;

use rwwce::{ClassSums, CrossEntropy, Denominator, Reduction, Total, ZeroDenominator, decision_cost};

/// A number formatted as by C's `%.9g`.
fn general(number: impl Into<f64>) -> String {
    const DIGITS: i32 = 9;
    let scientific = format!("{:.*e}", DIGITS as usize - 1, number.into());
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let without_zeros = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }.to_owned()
    };
    match exponent.parse::<i32>() {
        // The second rounding is to the same number of digits, and exact.
        Ok(exponent @ -4..DIGITS) => {
            let number: f64 = scientific.parse().unwrap_or(f64::NAN);
            without_zeros(&format!("{number:.*}", (DIGITS - 1 - exponent) as usize))
        }
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", without_zeros(digits), exponent.abs())
        }
        Err(_) => scientific,
    }
}

fn weighted_loss() -> Result<(), rwwce::Error> {
    let logits = [2.0, -1.0, 0.3, 0.1, -1.0, 1.5];
    let mut gradient = [0.0; 6];
    let loss = CrossEntropy::new(2).class_weights(&[1.0, 3.0]);
    let summary = loss.gradient(&logits, &[0u8, 0, 1], 1.0, &mut gradient)?;
    println!("loss {}", general(summary.loss));
    for (i, g) in gradient.into_iter().enumerate() {
        println!("gradient {i}: {}", general(g));
    }
    Ok(())
}

mod drift {
    pub(super) const CLASSES: usize = 3;
    pub(super) const ROWS: usize = 64;
    pub(super) const BATCHES: usize = 24;
    pub(super) const WINDOW: usize = 4;
    const DIRTY_FROM: usize = 12;

    pub(super) const MISS_COSTS: [f32; CLASSES] = [1.0, 1.0, 4.0];
    #[rustfmt::skip]
    pub(super) const MISLABEL_COSTS: [f32; CLASSES * CLASSES] = [
         0.0, 0.0, 0.5,
         0.0, 0.0, 0.5,
        40.0, 4.0, 0.0,
    ];

    fn next(state: &mut u32) -> u32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *state >> 16
    }

    pub(super) fn observe(batch: usize, state: &mut u32) -> ([f32; ROWS * CLASSES], [u8; ROWS]) {
        let (mut logits, mut labels) = ([0.0; ROWS * CLASSES], [0; ROWS]);
        for (row, label) in logits.chunks_exact_mut(CLASSES).zip(&mut labels) {
            let kind = next(state) % 4;
            *label = kind.saturating_sub(1) as u8;
            for (class, logit) in row.iter_mut().enumerate() {
                let noise = next(state) as f32 / 16384.0;
                *logit = if class == usize::from(*label) { 3.5 } else { 0.0 } + noise;
            }
            if batch >= DIRTY_FROM {
                row[2] -= 0.375 * (batch - DIRTY_FROM + 1) as f32;
            }
        }
        (logits, labels)
    }
}

fn drift_monitor() -> Result<(), rwwce::Error> {
    use drift::{BATCHES, CLASSES, MISLABEL_COSTS, MISS_COSTS, ROWS, WINDOW};
    let loss = CrossEntropy::new(CLASSES).class_weights(&MISS_COSTS).mislabel_costs(&MISLABEL_COSTS);
    let (mut total, mut confusion) = (Total::default(), [0; CLASSES * CLASSES]);
    let (mut usual, mut state) = ([0.0; CLASSES], 1);
    println!("mean loss of a row\nbatches  {:>12}  {:>12}  {:>12}", "good", "scratched", "cracked");
    for first in (0..BATCHES).step_by(WINDOW) {
        let (mut counts, mut weights, mut losses) = ([0; CLASSES], [0.0; CLASSES], [0.0; CLASSES]);
        for batch in first..first + WINDOW {
            let (logits, labels) = drift::observe(batch, &mut state);
            let mut row_losses = [0.0; ROWS];
            total.merge(&loss.row_losses(&logits, &labels, &mut row_losses)?.total);
            let sums = ClassSums { counts: &mut counts, weights: &mut weights, losses: &mut losses };
            loss.add_class_sums(&labels, &row_losses, sums)?;
            loss.add_confusion(&logits, &labels, &mut confusion)?;
        }
        print!("{first:2} to {:2}", first + WINDOW - 1);
        let mut drifts = false;
        for ((count, sum), usual) in counts.into_iter().zip(losses).zip(&mut usual) {
            let mean = sum / count as f64;
            if first == 0 {
                *usual = mean;
            }
            drifts |= mean > 2.0 * *usual;
            print!("  {:>12}", general(mean));
        }
        println!("{}", if drifts { "  drifts" } else { "" });
    }
    let mean = total.reduce(Reduction::Mean(Denominator::Rows), ZeroDenominator::Error)?;
    println!("mean loss of all {} rows: {}", BATCHES * ROWS, general(mean));
    println!("cost of the decisions: {}", general(decision_cost(&confusion, &MISS_COSTS, &MISLABEL_COSTS)?));
    Ok(())
}

fn split_classes() -> Result<(), rwwce::Error> {
    const ROWS: u32 = 8;
    const CLASSES: u32 = 50257;
    let label_of = |row: u32| row * 7001 + 11;
    let logit = |row: u32, class: u32| {
        let mut x = (row * CLASSES + class + 1).wrapping_mul(2_654_435_769);
        x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
        if class == label_of(row) { 4.0 * row as f32 } else { ((x ^ (x >> 13)) >> 16) as f32 / 4096.0 - 8.0 }
    };
    let logits: Vec<f32> = (0..ROWS).flat_map(|row| (0..CLASSES).map(move |class| logit(row, class))).collect();
    let labels: Vec<u32> = (0..ROWS).map(label_of).collect();
    let mut losses = [0.0; ROWS as usize];
    CrossEntropy::new(CLASSES as usize).row_losses(&logits, &labels, &mut losses)?;
    for (row, loss) in losses.into_iter().enumerate() {
        println!("row {row}: loss {}", general(loss));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("weighted_loss") => weighted_loss()?,
        Some("drift_monitor") => drift_monitor()?,
        Some("split_classes") => split_classes()?,
        _ => return Err("expected weighted_loss, drift_monitor or split_classes".into()),
    }
    Ok(())
}
