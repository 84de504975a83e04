//! The committed bits of a fixed set of losses and gradients, which microcontrollers and browsers must print as well.

#[path = "vectors/mod.rs"]
mod vectors;

mod common;

use common::backends;

#[test]
fn every_backend_prints_the_committed_bits() {
    let (fused, unfused) = (include_str!("vectors/fused.txt"), include_str!("vectors/unfused.txt"));
    assert_ne!(fused, unfused);
    for backend in backends() {
        let mut found = String::new();
        vectors::report(backend, |name, classes, bits| found += &format!("{classes} {name} {bits:08x}\n")).unwrap();
        let (class, expected) = if backend.is_fused() { ("fused", fused) } else { ("unfused", unfused) };
        assert_eq!(found, expected, "{backend}: not the bits of {class}.txt");
    }
}
