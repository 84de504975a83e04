//! How the shared library is linked.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Programs ask for the library by the part of its version that promises compatibility.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,librwwce.so.0.1");
        // Nothing may be missing, least of all what the panic handler calls; memcpy and the like are those of the C library.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
        println!("cargo::rustc-cdylib-link-arg=-lc");
    }
}
