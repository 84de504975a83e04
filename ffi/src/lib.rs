//! The C interface of rwwce.
//!
//! Every function reads options and arrays, with a check of each pointer, calls the safe library, and writes the
//! result. The preconditions of all functions are at [`arrays`]; the documentation of each becomes its comment in
//! `include/rwwce.h`.
#![no_std]
// C names, and items reached from C alone; the safety contract of every function is that of `arrays`.
#![allow(non_camel_case_types, unreachable_pub, clippy::missing_safety_doc, clippy::too_many_arguments)]
// Nothing that may panic, even where the compiler would remove the check.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]

// The standard library has the panic handler where panics unwind (debug builds), and the threads.
#[cfg(any(panic = "unwind", feature = "threads"))]
extern crate std;

mod arrays;

// In the order of the header.
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

/// Never reached, as the linker proves: `rwwce_panic_is_reachable` is defined nowhere. build.rs says when.
#[cfg(all(panic = "abort", rwwce_prove_no_panic, not(feature = "threads")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn rwwce_panic_is_reachable() -> !;
    }
    // SAFETY: a library that calls the function cannot be linked.
    unsafe { rwwce_panic_is_reachable() }
}

/// Whether the compiler removes every check that cannot fail depends on target and optimisation. Where that has not
/// been verified, a program that aborts is better than one that does not link. Not inlined: its symbol shows a panic
/// left over.
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

// The objects of compiler_builtins refer to `rust_eh_personality`, although nothing here unwinds, so programs that
// link the whole archive, as plug-ins do, need a definition. It is never called: any address will do. It is weak, so
// that the definition of another library in Rust takes precedence; `ffi/install/localize` renames it on installation.
// On Windows, whose objects have no equivalent, build.rs defines it for the shared library alone.
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
