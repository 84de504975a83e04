//! The losses of a classifier's answers, in firmware as one begins it with `cortex-m-rt`.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use panic_halt as _;
use rwwce::{Backend, CrossEntropy};

#[entry]
fn main() -> ! {
    // Three rows of two classes; a missed fault, class 1, is twice as dear.
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
