//! `rwwce costs`: costs of each loss and decision rule on held-out cases.
//!
//! Linear softmax classifiers are trained with four losses and decide by two rules: the most probable class, and the
//! class of least expected cost. In five-fold cross-validation every case is held out once; the mistakes on held-out
//! cases are means over random deals into folds.

mod calibration;
mod chart;
mod cost_matrix;
mod folds;
mod model;
mod report;
mod table;
mod trials;
mod ways;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::output::print;
use crate::{Result, output};
use cost_matrix::CostMatrix;
use folds::FOLDS;
use table::{Reading, Table};
use trials::{Plan, Trials};

/// The breast cancer data set, described in `cli/data/README.md`.
const BREAST_CANCER: &[u8] = include_bytes!("../../data/breast_cancer.csv");

/// Number of feature values above which deals and penalties are fewer, so that large tables do not take hours.
const MANY_VALUES: usize = 500_000;

pub(crate) fn command() -> Command {
    let path = || value_parser!(PathBuf);
    Command::new("costs")
        .about("Compare ways to train and to decide by what their mistakes cost on a table")
        .after_help(
            "\
Linear classifiers are trained on TABLE in four ways that differ in the loss: plain, weighted by inverse class frequency,
weighted by costs, and with mislabel costs. The tables show what their mistakes on held-out cases cost, where they decide
for the most probable class and where for that of least expected cost. Without TABLE the cases are 569 breast tumours.

TABLE is a CSV file. Delimiters , ; and tab are found, as is a header; labels are text or numbers. The matrix of --costs
has a row for each true class and a column for each that is said, with names in its first line and column or, without, in
the order of the sorted classes; what is right costs 0.

Examples:
  rwwce costs --chart costs.svg
  rwwce costs fraud.csv --label is_fraud --costly yes --cost-ratio 50 --missing median
  rwwce costs wines.csv --costs costs.csv --features alcohol,flavanoids",
        )
        .args([
            Arg::new("table").value_name("TABLE").value_parser(path()).help("CSV file with a case a line"),
            option("label", "COLUMN", "Column of the labels, by name or position [default: the last one]"),
            option("costly", "CLASS", "Class that is costly to miss [default: the rarest one]"),
            option("cost-ratio", "R", "A missed case of the costly class costs R, any other mistake 1 [default: 20]")
                .value_parser(above_zero)
                .conflicts_with("costs"),
            option("costs", "CSV", "What each mistake costs: a row for each true class, a column for each that is said")
                .value_parser(path()),
            option("features", "COLUMNS", "Columns to learn from, with commas between [default: all but the label]")
                .value_delimiter(','),
            option("drop", "COLUMNS", "Columns to leave out").value_delimiter(','),
            option("missing", "WHAT", "Fill in missing values with the median of the training cases, or refuse them")
                .value_parser(["median", "error"])
                .default_value("error"),
            option("delimiter", "D", "What stands between columns: one character, or `tab` [default: found]")
                .value_parser(delimiter),
            option("header", "YES|NO", "Whether the first line has the names of the columns [default: found]")
                .value_parser(["yes", "no"]),
            option("penalty", "P", "Strength of the penalty on squared coefficients: 1/C of scikit-learn for two classes")
                .value_parser(above_zero)
                .default_value("1"),
            option("deals", "N", "Times that the cases are dealt into folds [default: 10, or fewer for large tables]")
                .value_parser(value_parser!(u64).range(1..=1000)),
            Arg::new("calibrate")
                .long("calibrate")
                .action(ArgAction::SetTrue)
                .help("Divide logits by a temperature from training cases that are held out in turn"),
            Arg::new("brief").long("brief").action(ArgAction::SetTrue).help("Leave out the table of other penalties"),
            option("chart", "SVG", "Draw the total cost against the cost ratio into this file").value_parser(path()),
        ])
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help).allow_negative_numbers(true)
}

/// Parses a number that is finite and above 0 in f32, to which it is converted later.
fn above_zero(text: &str) -> std::result::Result<f64, &'static str> {
    let usable = |number: &f64| (*number as f32).is_finite() && *number as f32 > 0.0;
    text.parse().ok().filter(usable).ok_or("expected a finite number above 0")
}

fn delimiter(text: &str) -> std::result::Result<u8, &'static str> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && *byte != b'"' => Ok(*byte),
        _ => Err("expected one character, or `tab`"),
    }
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).map(PathBuf::as_path);
    let table = load(matches, path("table"))?;
    let costly = costly_class(&table, matches.get_one::<String>("costly"))?;
    let classes = table.classes.len();
    let ratio = matches.get_one("cost-ratio").copied().unwrap_or(20.0);
    let (costs, factor) = match path("costs") {
        Some(path) => (CostMatrix::read(path, &table.classes)?, 1.0),
        None => (CostMatrix::equal(classes), ratio),
    };
    let large = table.labels.len() * table.features.len() > MANY_VALUES;
    let deals = matches.get_one("deals").copied().unwrap_or(if large { 2 } else { 10 });
    let plan = Plan {
        base_factor: factor,
        factors: if path("chart").is_some() { chart::factors(factor, path("costs").is_some()) } else { vec![factor] },
        base_penalty: matches.get_one("penalty").copied().unwrap_or(1.0),
        other_penalties: if large || matches.get_flag("brief") { &[] } else { &[0.1, 5.0, 15.0, 50.0] },
        deals,
        calibrate: matches.get_flag("calibrate"),
    };
    let trials = Trials::make(&table, &costs, costly, &plan)?;
    print(|out| report::write(out, &table, costly, path("costs").is_none(), &trials))?;
    if let Some(path) = path("chart") {
        chart::write(path, &trials, &table.classes[costly], matches.contains_id("costs"))
            .map_err(|error| format!("--chart {}: {error}", path.display()))?;
        print(|out| writeln!(out, "\nChart written to {}", path.display()))?;
    }
    Ok(())
}

fn load(matches: &ArgMatches, path: Option<&Path>) -> Result<Table> {
    let list = |name| matches.get_many::<String>(name).unwrap_or_default().map(|name| name.trim().to_owned()).collect();
    let word = |name| matches.get_one::<String>(name);
    let reading = Reading {
        delimiter: matches.get_one("delimiter").copied(),
        header: word("header").map(|header| header == "yes"),
        label: word("label").cloned(),
        features: list("features"),
        dropped: list("drop"),
        fill_missing: word("missing").is_some_and(|what| what == "median"),
    };
    let table = match path {
        Some(path) => Table::read(path, &reading)?,
        None => Table::parse(BREAST_CANCER, &reading)?,
    };
    let named = |error: String| path.map_or(error.clone(), |path| output::at(path)(error.clone()));
    if let [class] = &table.classes[..] {
        return Err(named(format!("every label is {class:?}: expected two classes or more")));
    }
    for (class, count) in table.classes.iter().zip(table.counts()) {
        if count < FOLDS as u64 {
            return Err(named(format!("class {class:?}: expected {FOLDS} or more cases, found {count}")));
        }
    }
    Ok(table)
}

/// Index of the class of this name, by default of the rarest class.
fn costly_class(table: &Table, wanted: Option<&String>) -> Result<usize> {
    let Some(wanted) = wanted else {
        let counts = table.counts();
        return Ok((0..counts.len()).min_by_key(|&class| counts[class]).unwrap_or(0));
    };
    let found = table.classes.iter().position(|class| class == wanted);
    found.ok_or_else(|| format!("--costly: expected one of {}; found {wanted:?}", table.classes.join(", ")))
}
