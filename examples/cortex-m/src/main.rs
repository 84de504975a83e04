//! Losses and gradients on bare-metal microcontrollers: prints the bits of a fixed set of results, which are those of a
//! server with the one-lane backends.
//!
//! `cargo run --release --target thumbv7em-none-eabihf` in this folder runs it on an emulated Cortex-M4F.
#![no_std]
#![no_main]

#[path = "../../../tests/vectors/mod.rs"]
mod vectors;

mod semihosting;
mod startup;

use rwwce::{Backend, CrossEntropy};
use semihosting::{exit, print, print_hex, print_number};

/// Prints a loss and the fixed set of results.
fn run() -> Result<(), rwwce::Error> {
    // Logits and labels of three rows.
    let (logits, labels) = ([2.0, -1.0, 0.3, 0.1, -1.0, 1.5], [0u8, 0, 1]);
    let mut gradient = [0.0; 6];
    let loss = CrossEntropy::new(2).class_weights(&[1.5, 3.0]);
    let summary = loss.gradient(&logits, &labels, 1.0, &mut gradient)?;
    print(Backend::active().name());
    print(" loss ");
    print_hex(summary.loss.to_bits());
    print("\n");

    vectors::report(Backend::active(), |name, classes, bits| {
        print_number(classes);
        print(" ");
        print(name);
        print(" ");
        print_hex(bits);
        print("\n");
    })
}

// Not inlined into `reset`, which runs before the FPU is enabled.
#[inline(never)]
fn main() -> ! {
    exit(run().is_ok())
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    print("panic\n");
    exit(false)
}
