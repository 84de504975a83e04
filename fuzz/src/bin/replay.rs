//! Runs a target without libFuzzer: `replay <target> <file>...` or `replay <target> --random <count> <seed>`.

use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut arguments = arguments.iter().map(String::as_str);
    let name = arguments.next().unwrap_or_default();
    let Some((_, run)) = rwwce_fuzz::TARGETS.iter().find(|(target, _)| *target == name) else {
        let targets: Vec<&str> = rwwce_fuzz::TARGETS.iter().map(|(target, _)| *target).collect();
        eprintln!("replay <target> <file>..., or replay <target> --random <count> <seed>\ntargets: {targets:?}");
        return ExitCode::FAILURE;
    };
    let rest: Vec<&str> = arguments.collect();
    if let ["--random", count, seed] = rest[..] {
        let (Ok(count), Ok(seed)) = (count.parse(), seed.parse::<u64>()) else { return ExitCode::FAILURE };
        let start = Instant::now();
        for number in 0..count {
            run(&rwwce_fuzz::random(seed, number));
        }
        println!("{name}: {:.0} inputs a second", f64::from(count) / start.elapsed().as_secs_f64());
        return ExitCode::SUCCESS;
    }
    for path in rest {
        match fs::read(path) {
            Ok(bytes) => run(&bytes),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
        println!("{path}: as it should be");
    }
    ExitCode::SUCCESS
}
