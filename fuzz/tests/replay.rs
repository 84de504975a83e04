//! Every target on its seeds, on what has been found and added to them, and on random inputs: no libFuzzer, no nightly.

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

#[test]
fn random_inputs_are_as_they_should_be() {
    for (target, run) in rwwce_fuzz::TARGETS {
        println!("{target}");
        for number in 0..2000 {
            run(&rwwce_fuzz::random(1, number));
        }
    }
}
