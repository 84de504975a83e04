//! Which backends there are, against what the standard library finds out about the processor, and what they are called.

use rwwce::Backend;

/// The names of the backends that this processor has, the fastest first.
#[cfg(target_arch = "x86_64")]
fn expected() -> Vec<&'static str> {
    use std::is_x86_feature_detected as has;
    let avx2 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    let vectors = [(avx2 && avx512, "avx512"), (avx2, "avx2"), (true, "sse2")];
    let vectors = vectors.into_iter().filter_map(|(there, name)| there.then_some(name));
    vectors.chain(["scalar", "scalar-fma"]).collect()
}

#[cfg(target_arch = "aarch64")]
fn expected() -> Vec<&'static str> {
    vec!["neon", "scalar", "scalar-fma"]
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn every_instruction_set_of_the_processor_is_there_and_the_fastest_is_active() {
    let names: Vec<&str> = Backend::available().map(Backend::name).collect();
    assert_eq!(names, expected());
    // The second call is answered from memory.
    for _ in 0..2 {
        assert_eq!(Backend::active().name(), expected()[0]);
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
    }
    assert_eq!(Backend::by_name(""), None);
}
