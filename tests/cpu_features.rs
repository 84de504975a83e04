//! Backends available on this processor and operating system: all whose features the standard library detects. Each of
//! them computes.

mod common;

use common::{backends, class_of};
use rwwce::{Backend, BinaryCrossEntropy, CrossEntropy};

/// The vector backends whose features the standard library detects, the fastest first.
#[cfg(target_arch = "x86_64")]
fn expected() -> Vec<&'static str> {
    use std::is_x86_feature_detected as has;
    let of_avx2 = [
        ("sse3", has!("sse3")),
        ("ssse3", has!("ssse3")),
        ("sse4.1", has!("sse4.1")),
        ("sse4.2", has!("sse4.2")),
        ("popcnt", has!("popcnt")),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("bmi1", has!("bmi1")),
        ("bmi2", has!("bmi2")),
        ("fma", has!("fma")),
        ("fxsr", has!("fxsr")),
        ("lzcnt", has!("lzcnt")),
    ];
    let of_avx512 = [
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512cd", has!("avx512cd")),
        ("avx512dq", has!("avx512dq")),
        ("avx512vl", has!("avx512vl")),
    ];
    let missing = |features: &[(&'static str, bool)]| -> Vec<&str> {
        features.iter().filter(|(_, found)| !found).map(|(name, _)| *name).collect()
    };
    let (no_avx2, no_avx512) = (missing(&of_avx2), missing(&of_avx512));
    println!("missing for avx2: {no_avx2:?}; for avx512 also: {no_avx512:?}");
    let mut expected = Vec::new();
    if no_avx2.is_empty() && no_avx512.is_empty() {
        expected.push("avx512");
    }
    if no_avx2.is_empty() {
        expected.push("avx2");
    }
    expected.push("sse2");
    expected
}

#[cfg(target_arch = "x86")]
fn expected() -> Vec<&'static str> {
    if cfg!(target_feature = "sse2") { vec!["sse2"] } else { vec![] }
}

#[cfg(target_arch = "aarch64")]
fn expected() -> Vec<&'static str> {
    if cfg!(target_feature = "neon") { vec!["neon"] } else { vec![] }
}

#[cfg(target_arch = "wasm32")]
fn expected() -> Vec<&'static str> {
    if cfg!(target_feature = "simd128") { vec!["simd128"] } else { vec![] }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "wasm32")))]
fn expected() -> Vec<&'static str> {
    vec![]
}

const NAMES: [&str; 7] = ["avx512", "avx2", "neon", "sse2", "simd128", "scalar", "scalar-fma"];

#[test]
fn what_is_offered_is_what_the_processor_has() {
    let mut expected = expected();
    expected.extend(["scalar", "scalar-fma"]);
    let found: Vec<&str> = Backend::available().map(|backend| backend.name()).collect();
    assert_eq!(found, expected);
    // The second call returns the cached backend.
    for _ in 0..2 {
        assert_eq!(Backend::active().name(), expected[0]);
    }
    for name in NAMES {
        assert_eq!(Backend::by_name(name).map(Backend::name), expected.contains(&name).then_some(name));
    }
}

/// An instruction that the processor lacks, or whose registers the system does not save, would end the program.
#[test]
fn what_is_offered_computes() {
    for backend in backends() {
        for classes in [1, 2, 10, 40, 300] {
            for rows in [1, 4, 20] {
                let logits: Vec<f32> = (0..rows * classes).map(|i| (i * 7 % 23) as f32 * 0.25).collect();
                let labels: Vec<usize> = (0..rows).map(|row| row * 5 % classes).collect();
                let labels: Vec<u16> = labels.iter().map(|&label| label as u16).collect();
                let mut gradient = vec![0.0; logits.len()];
                let loss = CrossEntropy::new(classes).backend(backend);
                let summary = loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
                assert!(summary.loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{backend}");
                let smoothed = loss.label_smoothing(0.1).gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
                assert!(smoothed.loss.is_finite(), "{backend}");
            }
        }
        let binary = BinaryCrossEntropy::new(1).backend(backend).loss(&[0.5, -2.0, 3.0], &[1.0, 0.0, 0.5]).unwrap();
        assert!((binary.loss - 0.716_531).abs() < 1e-5, "{backend}: {binary:?}");
    }
}

#[test]
fn a_backend_is_found_and_shown_by_its_name() {
    for backend in Backend::available() {
        assert_eq!(Backend::by_name(backend.name()), Some(backend));
        assert_eq!(
            (backend.to_string(), format!("{backend:?}")),
            (backend.name().into(), format!("Backend({backend})"))
        );
        assert_eq!(backend.is_fused(), !["sse2", "simd128", "scalar"].contains(&backend.name()));
        for other in Backend::available() {
            assert_eq!(backend.has_same_bits_as(other), class_of(backend) == class_of(other), "{backend} {other}");
        }
    }
    assert_eq!(Backend::by_name(""), None);
}
