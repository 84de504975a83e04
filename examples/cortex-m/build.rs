//! Adds this folder, with the linker scripts, to the linker's search path.

fn main() {
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=mps2.x");
    println!("cargo::rerun-if-changed=microbit.x");
    println!("cargo::rerun-if-changed=sections.x");
}
