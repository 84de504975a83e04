//! The C interface of rwwce.
//!
//! Every function has the same shape: read the options and the arrays, which checks each pointer, call the safe
//! library, write the result. What a caller has to keep is said once, at [`arrays`]; what each function computes is said
//! in its own documentation, which becomes that of `include/rwwce.h`.
#![no_std]
// The names are those of C, which reaches what Rust does not, and the safety of every function is that of `arrays`.
#![allow(non_camel_case_types, unreachable_pub, clippy::missing_safety_doc, clippy::too_many_arguments)]
// No panic: not even one that a compiler would remove.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]

// Where panics unwind, in a build for debugging, the standard library catches them. It also has the threads.
#[cfg(any(panic = "unwind", feature = "threads"))]
extern crate std;

mod arrays;

// In the order that the header has them.
mod status;

mod options;

mod threads;

mod losses;

mod binary;

mod curvature;

mod logits;

mod class_weights;

mod partials;

mod decide;

mod monitoring;

mod queries;

/// Never reached, and the linker proves it: it does not find this function anywhere. build.rs says when.
#[cfg(all(panic = "abort", rwwce_prove_no_panic, not(feature = "threads")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn rwwce_panic_is_reachable() -> !;
    }
    // SAFETY: a library that calls it cannot be linked.
    unsafe { rwwce_panic_is_reachable() }
}

/// Which checks the compiler removes as never failing depends on the target and on the optimisation. Where nobody has looked,
/// a program that ends is better than one that does not link. Not inlined, so that its name says whether it is left.
#[cfg(all(panic = "abort", not(rwwce_prove_no_panic), not(feature = "threads")))]
#[panic_handler]
#[inline(never)]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(any(unix, windows))]
    {
        unsafe extern "C" {
            safe fn abort() -> !;
        }
        abort()
    }
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(any(unix, windows, target_family = "wasm")))]
    loop {
        core::hint::spin_loop();
    }
}

// The objects of the compiler's support library name the function by which Rust unwinds, although nothing here does. Programs
// that link the whole archive, as plug-ins do, need it to be somewhere. It is never called, so that any place will do. Where
// another library in Rust brings its own, that one counts, since this is weak; `ffi/install/localize` gives the two names.
// On Windows, whose objects know nothing of that kind, build.rs sees to the shared library alone.
#[cfg(all(
    panic = "abort",
    not(feature = "threads"),
    unix,
    not(target_vendor = "apple"),
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    )
))]
core::arch::global_asm!(
    ".pushsection .rodata.rust_eh_personality, \"a\"",
    ".weak rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality: .long 0",
    ".popsection",
);
#[cfg(all(panic = "abort", target_vendor = "apple", not(feature = "threads")))]
core::arch::global_asm!(
    ".section __TEXT,__const",
    ".globl _rust_eh_personality",
    ".private_extern _rust_eh_personality",
    ".weak_definition _rust_eh_personality",
    ".p2align 2",
    "_rust_eh_personality: .long 0",
    ".text",
);
