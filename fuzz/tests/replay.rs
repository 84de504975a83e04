//! Every target on its seeds, on inputs that fuzzing found, and on random ones: no libFuzzer, no nightly.

use std::fs;
use std::path::Path;

#[test]
fn seeds_are_as_they_should_be() {
    for (target, run) in rwwce_fuzz::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        let mut inputs = 0;
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs >= rwwce_fuzz::SEEDS, "{target}: {inputs} seeds");
    }
}

/// Random inputs: few for large calls; under Miri for the C functions alone.
fn inputs(target: &str) -> u32 {
    match target {
        "capi" if cfg!(miri) => 10,
        _ if cfg!(miri) => 0,
        "threads" => 100,
        _ => 2000,
    }
}

#[test]
fn random_inputs_are_as_they_should_be() {
    for (target, run) in rwwce_fuzz::TARGETS {
        println!("{target}");
        for number in 0..inputs(target) {
            run(&rwwce_fuzz::random(1, number));
        }
    }
}
