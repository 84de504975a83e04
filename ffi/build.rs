//! How the shared library is linked, and whether the linker proves that nothing in it panics.

use std::env;

/// What promises compatibility: programs ask for the library by this part of its version.
const COMPATIBLE: &str = "0.2";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if of_target("VENDOR") == "apple" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/librwwce.{COMPATIBLE}.dylib");
        // What has memcpy and the like. Without the standard library of Rust nothing else asks for it.
        println!("cargo::rustc-cdylib-link-arg=-lSystem");
    } else if of_target("FAMILY").split(',').any(|family| family == "unix") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,librwwce.so.{COMPATIBLE}");
        // Nothing may be missing, least of all what the panic handler calls; memcpy and the like are those of the C library.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
        println!("cargo::rustc-cdylib-link-arg=-lc");
    } else if of_target("OS") == "windows" && of_target("ENV") == "gnu" {
        // Named by the compiler's support library, and never called: see src/lib.rs.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--defsym,rust_eh_personality=rwwce_version");
    }

    // With RWWCE_PROVE_NO_PANIC=1 a library in which a panic can be reached does not link. It is for the targets and profiles
    // for which the checks of this repository have seen it pass; elsewhere the compiler may leave a check that never fails.
    println!("cargo::rustc-check-cfg=cfg(rwwce_prove_no_panic)");
    println!("cargo::rerun-if-env-changed=RWWCE_PROVE_NO_PANIC");
    if env::var("RWWCE_PROVE_NO_PANIC").is_ok_and(|value| value == "1") {
        println!("cargo::rustc-cfg=rwwce_prove_no_panic");
    }
}
