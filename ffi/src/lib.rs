//! The C interface of rwwce.
//!
//! Every function has the same shape: read the options and the arrays, which checks each pointer, call the safe
//! library, write the result. What a caller has to keep is said once, at [`arrays`]; what each function computes is said
//! in its own documentation, which becomes that of `include/rwwce.h`.
#![no_std]
// The names are those of C, which reaches what Rust does not, and the safety of every function is that of `arrays`.
#![allow(non_camel_case_types, unreachable_pub, clippy::missing_safety_doc, clippy::too_many_arguments)]

// Where panics unwind, in a build for debugging, the standard library catches them.
#[cfg(panic = "unwind")]
extern crate std;

mod arrays;

// In the order that the header has them.
mod status;

mod options;

mod losses;

mod binary;

mod curvature;

mod logits;

mod class_weights;

mod partials;

mod decide;

mod monitoring;

mod queries;

/// Never reached: the linker says so, which does not find this function anywhere.
#[cfg(all(panic = "abort", not(debug_assertions)))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn rwwce_panic_is_reachable() -> !;
    }
    // SAFETY: a library that calls it cannot be linked.
    unsafe { rwwce_panic_is_reachable() }
}

/// With the checks of a build for debugging a panic can be reached.
#[cfg(all(panic = "abort", debug_assertions))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
