//! The quick tests in one program, which .ci/mutants links and runs a thousand times. `cargo test` runs each by itself.

#[path = "../binary.rs"]
mod binary;
#[path = "../class_weights.rs"]
mod class_weights;
#[path = "../errors.rs"]
mod errors;
#[path = "../from_log_probabilities.rs"]
mod from_log_probabilities;
#[path = "../golden.rs"]
mod golden;
#[path = "../nan_table.rs"]
mod nan_table;
#[path = "../options.rs"]
mod options;
#[path = "../partials.rs"]
mod partials;
#[path = "../real_world.rs"]
mod real_world;
#[path = "../reductions.rs"]
mod reductions;
#[path = "../same_bits.rs"]
mod same_bits;
#[path = "../vectors.rs"]
mod vectors;
#[path = "../weighted_row_losses.rs"]
mod weighted_row_losses;
