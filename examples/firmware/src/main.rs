//! Row losses of a classifier in a minimal firmware with `cortex-m-rt`.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use panic_halt as _;
use rwwce::{Backend, CrossEntropy};

#[entry]
fn main() -> ! {
    // Three rows of two classes; missing a fault, class 1, costs twice as much.
    let (logits, labels) = ([2.0, -1.0, 0.3, 0.1, -1.0, 1.5], [0u8, 0, 1]);
    let mut row_losses = [0.0; 3];
    let result = CrossEntropy::new(2).class_weights(&[1.5, 3.0]).row_losses(&logits, &labels, &mut row_losses);
    match result {
        Ok(_) => hprintln!("{}: {:?}", Backend::active(), row_losses.map(f32::to_bits)),
        Err(error) => hprintln!("{}", error),
    }
    debug::exit(if result.is_ok() { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}
