//! Writes what fuzzing starts from, always the same: `seeds/<target>/`, a few inputs for each target, and
//! `floats.dict`, the bytes of special f32.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (target, run) in rwwce_fuzz::TARGETS {
        let directory = here.join("seeds").join(target);
        fs::create_dir_all(&directory)?;
        for number in 0..rwwce_fuzz::SEEDS {
            let seed = rwwce_fuzz::seed(number);
            run(&seed);
            fs::write(directory.join(format!("seed-{number:02}")), seed)?;
        }
    }
    let mut dictionary = String::from("# Every special f32 of the oracle, little-endian.\n");
    for number in rwwce_fuzz::SPECIAL {
        let bytes = number.to_le_bytes();
        let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        writeln!(dictionary, "# {number:e}\n\"{escaped}\"").map_err(io::Error::other)?;
    }
    fs::write(here.join("floats.dict"), dictionary)
}
