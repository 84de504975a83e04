//! The committed bits of a fixed set of losses and gradients, which microcontrollers and browsers must print as well.

#[path = "vectors/mod.rs"]
mod vectors;

mod common;

use common::{backends, compare_with_committed, same_bits_classes};

#[test]
fn every_backend_prints_the_committed_bits() {
    let mut of_classes: Vec<String> = Vec::new();
    for class in same_bits_classes(backends()) {
        let mut found = String::new();
        for backend in class {
            found.clear();
            vectors::report(backend, |name, classes, bits| found += &format!("{classes} {name} {bits:08x}\n")).unwrap();
            compare_with_committed("vectors", backend, &found);
        }
        assert!(!of_classes.contains(&found), "two classes would do as one");
        of_classes.push(found);
    }
}
