//! Declares the modules of the C interface as public, so that its structures can be named.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let source = Path::new(&manifest).join("../../ffi/src");
    println!("cargo::rerun-if-changed={}", source.display());
    let root = fs::read_to_string(source.join("lib.rs")).expect("the C interface");
    let mut modules = String::new();
    for name in root.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
        let path = source.join(name).with_extension("rs");
        writeln!(modules, "#[path = {path:?}]\npub mod {name};").expect("a string");
    }
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("modules.rs"), modules).expect("a directory for what is built");
}
