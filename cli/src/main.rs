//! `rwwce`: costs of the mistakes of a classifier.
//!
//! `rwwce costs` trains linear classifiers on a table and compares losses and decision rules, `rwwce evaluate` prints
//! losses of NumPy arrays. Errors in files and options are one line on standard error, with exit code 2.

mod costs;
mod evaluate;
mod output;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

/// The error is the line to print.
pub(crate) type Result<T> = std::result::Result<T, String>;

fn command() -> Command {
    Command::new("rwwce")
        .version(env!("CARGO_PKG_VERSION"))
        .about("What the mistakes of a classifier cost")
        .subcommand_required(true)
        .subcommand(costs::command())
        .subcommand(evaluate::command())
        .subcommand(
            Command::new("completions")
                .about("Print the completions of a shell, for its startup file")
                .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell))),
        )
}

fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("costs", matches)) => costs::run(matches),
        Some(("evaluate", matches)) => evaluate::run(matches),
        Some(("completions", matches)) => {
            let shell = *matches.get_one::<Shell>("shell").expect("it is required");
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "rwwce", &mut script);
            output::print(|out| out.write_all(&script))
        }
        _ => unreachable!("clap asks for a subcommand"),
    }
}

/// clap's error message for a wrong command line, in one line.
fn usage_error(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    format!("{} (--help lists the options)", first.join(" ").trim_start_matches("error: "))
}

fn main() -> ExitCode {
    let result = match command().try_get_matches() {
        Ok(matches) => run(&matches),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            output::print(|out| write!(out, "{error}"))
        }
        Err(error) => Err(usage_error(&error)),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // Paths and values in the message may contain control characters, which would break the line.
    let line = error.replace(char::is_control, "\u{fffd}");
    // If standard error is closed, there is still the exit code.
    let _ = writeln!(io::stderr(), "error: {line}");
    ExitCode::from(2)
}
