//! Command line of `rwwce evaluate`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rwwce::{Backend, Denominator, Reduction, ZeroDenominator};

use super::arrays::{Numbers, Source};
use super::{DENOMINATORS, reduction};
use crate::Result;

const ZERO_DENOMINATORS: [(&str, ZeroDenominator); 3] =
    [("nan", ZeroDenominator::NaN), ("zero", ZeroDenominator::Zero), ("error", ZeroDenominator::Error)];

pub(super) struct Options {
    pub(super) scores: Source,
    pub(super) labels: Source,
    pub(super) weights: Option<Numbers>,
    pub(super) mislabel_costs: Option<Numbers>,
    pub(super) sample_weights: Option<Numbers>,
    pub(super) label_smoothing: Option<f32>,
    /// Whether row losses are printed (`--reduction none`); the reduction is then the sum, without a denominator.
    pub(super) is_by_row: bool,
    pub(super) reduction: Option<Reduction>,
    pub(super) zero_denominator: ZeroDenominator,
    pub(super) ignore_index: Option<i64>,
    pub(super) probabilities: Option<f32>,
    pub(super) backend: Backend,
    pub(super) output: Option<PathBuf>,
    pub(super) gradient: Option<PathBuf>,
    pub(super) decisions: Option<PathBuf>,
    pub(super) json: bool,
}

pub(crate) fn command() -> Command {
    let backends: Vec<&str> = Backend::available().map(|backend| backend.name()).collect();
    Command::new("evaluate")
        .about("Print the cross-entropy of logits and labels that NumPy has saved")
        .after_help(
            "\
LOGITS are [N, C] of any float or integer type, LABELS [N] or [N, 1] of any integer type or bool, as numpy.save,
numpy.savez and numpy.savez_compressed leave them. FILE.npz:NAME is an array of an .npz file; of one .npz file alone the
arrays `logits` and `labels` are taken. What has to be rounded to float32 is said on standard error.

Examples:
  rwwce evaluate logits.npy labels.npy --weights 1,2.5,4 --ignore-index -100
  rwwce evaluate batch.npz --mislabel-costs '0,1;19,0' --decide decisions.npy --json",
        )
        .args(inputs())
        .args(losses(backends))
        .args(outputs())
}

fn inputs() -> [Arg; 6] {
    [
        Arg::new("logits")
            .value_name("LOGITS")
            .required(true)
            .value_parser(value_parser!(OsString))
            .help(".npy or .npz file"),
        Arg::new("labels")
            .value_name("LABELS")
            .value_parser(value_parser!(OsString))
            .help("The same, of class numbers"),
        option("weights", "FILE|1,2.5,3", "Weight of each class, the cost of missing it: an array [C], or a list"),
        option(
            "mislabel-costs",
            "FILE|0,1;19,0",
            "Cost of saying j (column) where y (row) is true, on top of y's weight: an array [C, C], or rows",
        ),
        option("sample-weights", "FILE|1,0.5", "Factor of each row: an array [N], or a list"),
        option("ignore-index", "I", "Leave out the rows that have this label").value_parser(value_parser!(i64)),
    ]
}

fn losses(backends: Vec<&'static str>) -> [Arg; 6] {
    [
        option("label-smoothing", "E", "Spread this share of the target evenly over the classes")
            .value_parser(value_parser!(f32)),
        option("probabilities", "EPS", "The first array has probabilities p: the loss is -ln(p + EPS)")
            .value_parser(value_parser!(f32))
            .conflicts_with_all(["label-smoothing", "mislabel-costs", "gradient"]),
        option("reduction", "R", "One loss a row, their sum, or their mean")
            .value_parser(["none", "sum", "mean"])
            .default_value("mean"),
        option("denominator", "D", "What the mean divides by [default: weight-sum, or rows with mislabel costs]")
            .value_parser(DENOMINATORS.map(|(word, _)| word)),
        option("zero-denominator", "Z", "The mean where the denominator is 0 [default: nan]")
            .value_parser(ZERO_DENOMINATORS.map(|(word, _)| word)),
        option("backend", "NAME", "Compute with these instructions [default: the fastest here]").value_parser(backends),
    ]
}

fn outputs() -> [Arg; 4] {
    let path = || value_parser!(PathBuf);
    [
        option("output", "FILE.npy", "Also write the losses of --reduction none, float32 [N]").value_parser(path()),
        option("gradient", "FILE.npy", "Also write the gradient with respect to the logits, float32 [N, C]")
            .value_parser(path()),
        option(
            "decide",
            "FILE.npy",
            "Also write the class of least expected cost of each row, int64 [N], and sum up mistakes",
        )
        .value_parser(path()),
        Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object"),
    ]
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help).allow_negative_numbers(true)
}

impl Options {
    pub(super) fn from(matches: &ArgMatches) -> Result<Self> {
        let word = |name| matches.get_one::<String>(name).map(String::as_str);
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        let chosen = word("reduction").unwrap_or("mean");
        // Options without effect are refused, since they show a misunderstanding.
        for (option, needed) in [("denominator", "mean"), ("zero-denominator", "mean"), ("output", "none")] {
            if matches.contains_id(option) && chosen != needed {
                return Err(format!("--{option}: expected together with --reduction {needed}"));
            }
        }
        let numbers = |name| word(name).map(|text| Numbers::parse(name, text)).transpose();
        let (scores, labels) = Source::pair(matches.get_one("logits"), matches.get_one("labels"))?;
        let denominator: Option<Denominator> = word("denominator").and_then(|word| find(&DENOMINATORS, word));
        let backend = word("backend").and_then(|name| Backend::available().find(|backend| backend.name() == name));
        Ok(Self {
            scores,
            labels,
            weights: numbers("weights")?,
            mislabel_costs: numbers("mislabel-costs")?,
            sample_weights: numbers("sample-weights")?,
            label_smoothing: matches.get_one("label-smoothing").copied(),
            is_by_row: chosen == "none",
            reduction: reduction(chosen, denominator),
            zero_denominator: word("zero-denominator")
                .and_then(|word| find(&ZERO_DENOMINATORS, word))
                .unwrap_or(ZeroDenominator::NaN),
            ignore_index: matches.get_one("ignore-index").copied(),
            probabilities: matches.get_one("probabilities").copied(),
            backend: backend.unwrap_or_else(Backend::active),
            output: path("output"),
            gradient: path("gradient"),
            decisions: path("decide"),
            json: matches.get_flag("json"),
        })
    }
}

fn find<T: Copy>(choices: &[(&str, T)], word: &str) -> Option<T> {
    choices.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice)
}
