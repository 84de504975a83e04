//! The tests of the other files in one program, which compiles in half the time of separate ones: for checks that run
//! all of them once more, with another profile, sanitizer or processor. `cargo test` builds each file by itself.

#[path = "../accuracy.rs"]
mod accuracy;
#[path = "../accuracy_by_classes.rs"]
mod accuracy_by_classes;
#[path = "../binary.rs"]
mod binary;
#[path = "../class_weights.rs"]
mod class_weights;
#[path = "../cpu_features.rs"]
mod cpu_features;
#[path = "../curvature.rs"]
mod curvature;
#[path = "../decisions.rs"]
mod decisions;
#[path = "../errors.rs"]
mod errors;
#[path = "../every_number.rs"]
mod every_number;
#[path = "../findings.rs"]
mod findings;
#[path = "../floating_point_modes.rs"]
mod floating_point_modes;
#[path = "../from_log_probabilities.rs"]
mod from_log_probabilities;
#[path = "../golden.rs"]
mod golden;
#[path = "../losses.rs"]
mod losses;
#[path = "../memory.rs"]
mod memory;
#[path = "../nan_table.rs"]
mod nan_table;
#[path = "../narrow_logits.rs"]
mod narrow_logits;
#[path = "../options.rs"]
mod options;
#[path = "../parallel.rs"]
mod parallel;
#[path = "../partials.rs"]
mod partials;
#[path = "../properties.rs"]
mod properties;
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
