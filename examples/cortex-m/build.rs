//! Where the linker finds the memory maps.

fn main() {
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=mps2.x");
    println!("cargo::rerun-if-changed=microbit.x");
    println!("cargo::rerun-if-changed=sections.x");
}
