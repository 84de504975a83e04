//! `rwwce evaluate`: the loss of NumPy arrays.

mod arrays;
mod header;
mod options;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::ArgMatches;
use rwwce::{Argument, CrossEntropy, Denominator, NO_DECISION, Reduction, Summary, Upstream, decision_cost};
use serde_json::{Map, Value};

use crate::Result;
use crate::output::{at, note, print};
use arrays::Numbers;
use options::Options;
pub(crate) use options::command;

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    let options = Options::from(matches)?;
    let inputs = Inputs::read(&options)?;
    let loss = loss(&inputs, &options);
    let mut losses = vec![0.0; inputs.rows];
    let (scores, labels) = (&inputs.scores, &inputs.labels);
    let summary = match options.probabilities {
        None => loss.row_losses(scores, labels, &mut losses),
        Some(eps) => loss.row_losses_from_probabilities(scores, labels, eps, &mut losses),
    };
    let summary = summary.map_err(|error| explain(&options, error))?;
    let decisions = options.decisions.as_ref().map(|_| Decisions::of(&inputs, &options)).transpose()?;
    if let Some(path) = &options.gradient {
        write_gradient(path, &loss, &inputs, &options)?;
    }
    if let (Some(path), Some(decisions)) = (&options.decisions, &decisions) {
        let classes = decisions.classes.iter().flat_map(|class| class.to_le_bytes());
        write_array(path, "<i8", &[inputs.rows], classes).map_err(at(path))?;
    }
    if let Some(path) = &options.output {
        write_array(path, "<f4", &[inputs.rows], losses.iter().flat_map(|loss| loss.to_le_bytes()))
            .map_err(at(path))?;
    }
    let rows = options.is_by_row.then_some(&losses[..]);
    let print = if options.json { print_json } else { print_text };
    print(&inputs, &options, &summary, decisions, rows)
}

fn loss<'a>(inputs: &'a Inputs, options: &Options) -> CrossEntropy<'a> {
    let mut loss =
        CrossEntropy::new(inputs.classes).zero_denominator(options.zero_denominator).backend(options.backend);
    if let Some(weights) = &inputs.weights {
        loss = loss.class_weights(weights);
    }
    if let Some(costs) = &inputs.mislabel_costs {
        loss = loss.mislabel_costs(costs);
    }
    if let Some(weights) = &inputs.sample_weights {
        loss = loss.sample_weights(weights);
    }
    if let Some(share) = options.label_smoothing {
        loss = loss.label_smoothing(share);
    }
    if let Some(label) = options.ignore_index {
        loss = loss.ignore_index(label);
    }
    if let Some(reduction) = options.reduction {
        loss = loss.reduction(reduction);
    }
    loss
}

/// Input arrays of a call of the library.
struct Inputs {
    rows: usize,
    classes: usize,
    /// Logits or probabilities, `[N, C]`.
    scores: Vec<f32>,
    labels: Vec<i64>,
    weights: Option<Vec<f32>>,
    mislabel_costs: Option<Vec<f32>>,
    sample_weights: Option<Vec<f32>>,
}

impl Inputs {
    fn read(options: &Options) -> Result<Self> {
        let scores = options.scores.read()?;
        let [rows, classes] = scores.shape("[N, C]", |shape| <[usize; 2]>::try_from(shape).ok())?;
        let (logits_name, rounded) = (options.scores.name(), &mut Vec::new());
        let scores = scores.numbers(rounded)?;

        let labels = options.labels.read()?;
        let found = labels.shape("[N] or [N, 1]", column)?;
        if found != rows {
            let name = options.labels.name();
            return Err(format!("{name}: expected {rows} labels, one for each row of {logits_name}, found {found}"));
        }
        let labels = labels.integers()?;

        let mut vector = |numbers: &Option<Numbers>, expected: usize, what: &str, of: &str| -> Result<_> {
            let Some(source) = numbers else { return Ok(None) };
            let (shape, numbers) = source.read(rounded)?;
            let found = column(&shape).ok_or_else(|| {
                format!("{}: expected an array shaped [{of}] or [{of}, 1], found {shape:?}", source.name())
            })?;
            if found != expected {
                let each = if of == "C" { "class" } else { "row" };
                let name = source.name();
                return Err(format!(
                    "{name}: expected {expected} {what}, one for each {each} of {logits_name}, found {found}"
                ));
            }
            Ok(Some(numbers))
        };
        let weights = vector(&options.weights, classes, "weights", "C")?;
        let sample_weights = vector(&options.sample_weights, rows, "sample weights", "N")?;
        let mislabel_costs = match &options.mislabel_costs {
            None => None,
            Some(source) => {
                let (shape, costs) = source.read(rounded)?;
                if shape != [classes, classes] {
                    let name = source.name();
                    return Err(format!("{name}: expected costs shaped [{classes}, {classes}], found {shape:?}"));
                }
                Some(costs)
            }
        };
        if !rounded.is_empty() {
            note(&format!("rounded to float32: {}", rounded.join(", ")));
        }
        Ok(Self { rows, classes, scores, labels, weights, mislabel_costs, sample_weights })
    }

    /// Miss costs, 1 by default, and mislabel costs, 0 by default.
    fn costs(&self) -> (Vec<f32>, Vec<f32>) {
        let miss = self.weights.clone().unwrap_or_else(|| vec![1.0; self.classes]);
        (miss, self.mislabel_costs.clone().unwrap_or_else(|| vec![0.0; self.classes * self.classes]))
    }
}

/// Length of an array shaped `[N]` or `[N, 1]`.
fn column(shape: &[usize]) -> Option<usize> {
    match *shape {
        [length] | [length, 1] => Some(length),
        _ => None,
    }
}

/// Decisions of least expected cost, with their mistakes and cost.
struct Decisions {
    /// Decision of each row, −1 for rows without one.
    classes: Vec<i64>,
    undecided: usize,
    /// Wrong decisions in the rows that count.
    mistakes: u64,
    cost: f64,
}

impl Decisions {
    fn of(inputs: &Inputs, options: &Options) -> Result<Self> {
        let (miss, mislabel) = inputs.costs();
        let loss = CrossEntropy::new(inputs.classes).class_weights(&miss).mislabel_costs(&mislabel);
        let mut decisions = vec![0; inputs.rows];
        let undecided = match options.probabilities {
            None => loss.decide(&inputs.scores, &mut decisions, None),
            Some(_) => loss.decide_from_probabilities(&inputs.scores, &mut decisions, None),
        };
        let undecided = undecided.map_err(|error| explain(options, error))?;
        let classes: Vec<i64> =
            decisions.iter().map(|&class| if class == NO_DECISION { -1 } else { i64::from(class) }).collect();
        let mut confusion = vec![0; inputs.classes * inputs.classes];
        for (&label, &class) in inputs.labels.iter().zip(&classes) {
            if options.ignore_index != Some(label) && class >= 0 {
                confusion[label as usize * inputs.classes + class as usize] += 1;
            }
        }
        let is_mistake = |cell: &usize| cell / inputs.classes != cell % inputs.classes;
        let mistakes = (0..confusion.len()).filter(is_mistake).map(|cell| confusion[cell]).sum();
        let cost = decision_cost(&confusion, &miss, &mislabel).map_err(|error| explain(options, error))?;
        Ok(Self { classes, undecided, mistakes, cost })
    }
}

/// Writes the gradient of the reduced loss, or with `is_by_row` of the row losses.
fn write_gradient(path: &Path, loss: &CrossEntropy<'_>, inputs: &Inputs, options: &Options) -> Result<()> {
    let mut gradient = vec![0.0; inputs.scores.len()];
    let ones = vec![1.0; if options.is_by_row { inputs.rows } else { 0 }];
    let upstream = if options.is_by_row { Upstream::Rows(&ones) } else { Upstream::Loss(1.0) };
    loss.gradient(&inputs.scores, &inputs.labels, upstream, &mut gradient).map_err(|error| explain(options, error))?;
    let bytes = gradient.iter().flat_map(|g| g.to_le_bytes());
    write_array(path, "<f4", &[inputs.rows, inputs.classes], bytes).map_err(at(path))
}

fn write_array(path: &Path, dtype: &str, shape: &[usize], bytes: impl Iterator<Item = u8>) -> io::Result<()> {
    let axes = match shape {
        [length] => format!("{length},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({axes}), }}");
    // The data begin at a multiple of 64 bytes, so that they can be mapped into memory.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(length as u16).to_le_bytes())?;
    writeln!(out, "{text:<0$}", length - 1)?;
    for byte in bytes {
        out.write_all(&[byte])?;
    }
    out.flush()
}

fn print_text(
    inputs: &Inputs,
    options: &Options,
    summary: &Summary,
    decisions: Option<Decisions>,
    losses: Option<&[f32]>,
) -> Result<()> {
    print(|out| {
        if let Some(losses) = losses {
            return losses.iter().try_for_each(|loss| writeln!(out, "{loss:?}"));
        }
        writeln!(out, "backend:         {}", options.backend.name())?;
        writeln!(out, "rows:            {}", inputs.rows)?;
        writeln!(out, "classes:         {}", inputs.classes)?;
        writeln!(out, "rows that count: {}", summary.rows)?;
        writeln!(out, "non-finite rows: {}", summary.non_finite)?;
        // Debug prints the shortest digits that round-trip and, unlike Display, uses an exponent for very small and
        // very large numbers.
        writeln!(out, "denominator:     {:?}", summary.denominator)?;
        writeln!(out, "loss:            {:?}", summary.loss)?;
        if let Some(decisions) = decisions {
            writeln!(out, "undecided rows:  {}", decisions.undecided)?;
            writeln!(out, "mistakes:        {}", decisions.mistakes)?;
            writeln!(out, "decision cost:   {:?}", decisions.cost)?;
        }
        Ok(())
    })
}

fn print_json(
    inputs: &Inputs,
    options: &Options,
    summary: &Summary,
    decisions: Option<Decisions>,
    losses: Option<&[f32]>,
) -> Result<()> {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("backend", options.backend.name().into());
    set("rows", inputs.rows.into());
    set("classes", inputs.classes.into());
    set("rows_that_count", summary.rows.into());
    set("non_finite_rows", summary.non_finite.into());
    match losses {
        None => {
            set("denominator", summary.denominator.into());
            set("loss", json_number(summary.loss));
        }
        Some(losses) => {
            set("losses", losses.iter().map(|&loss| json_number(loss)).collect());
        }
    }
    if let Some(decisions) = decisions {
        set("undecided_rows", decisions.undecided.into());
        set("mistakes", decisions.mistakes.into());
        set("decision_cost", decisions.cost.into());
    }
    print(|out| writeln!(out, "{}", Value::Object(object)))
}

/// With the shortest digits of the f32; NaN and infinity, which JSON lacks, as strings.
fn json_number(number: f32) -> Value {
    let text = format!("{number:?}");
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => text.into(),
    }
}

/// Prefixes the library's error with the file or option of the argument.
fn explain(options: &Options, error: rwwce::Error) -> String {
    use rwwce::Error::{Incompatible, LabelOutOfRange, Negative, NoClasses, NotFinite, OutOfRange};

    let argument = match error {
        LabelOutOfRange { label, .. } => {
            let hint = if label < 0 && options.ignore_index.is_none() { "; see --ignore-index" } else { "" };
            return format!("{}: {error}{hint}", options.labels.name());
        }
        NoClasses => return format!("{}: {error}", options.scores.name()),
        NotFinite { argument, .. } | OutOfRange { argument } | Negative { argument, .. } => argument,
        Incompatible { option, .. } => option,
        _ => return error.to_string(),
    };
    let numbers = match argument {
        Argument::ClassWeights | Argument::MissCosts => &options.weights,
        Argument::MislabelCosts => &options.mislabel_costs,
        Argument::SampleWeights => &options.sample_weights,
        Argument::Eps => return format!("--probabilities: {error}"),
        Argument::LabelSmoothing => return format!("--label-smoothing: {error}"),
        _ => &None,
    };
    numbers.as_ref().map_or_else(|| error.to_string(), |numbers| format!("{}: {error}", numbers.name()))
}

/// Values of `--denominator`.
const DENOMINATORS: [(&str, Denominator); 4] = [
    ("weight-sum", Denominator::WeightSum),
    ("rows", Denominator::Rows),
    ("sample-weight-sum", Denominator::SampleWeightSum),
    ("rows-times-classes", Denominator::RowsTimesClasses),
];

/// The reduction of `--reduction` and `--denominator`; `None` for the library's default.
fn reduction(word: &str, denominator: Option<Denominator>) -> Option<Reduction> {
    if word == "mean" { denominator.map(Reduction::Mean) } else { Some(Reduction::Sum) }
}
