//! Another Rust library, for beside.c, with the standard library, which catches its own panics.

use std::panic::catch_unwind;

/// 7, after a panic that is caught.
#[unsafe(no_mangle)]
pub extern "C" fn beside_catches_a_panic() -> i32 {
    std::panic::set_hook(Box::new(|_| ()));
    catch_unwind(|| panic!("caught")).map_or(7, |()| 0)
}
