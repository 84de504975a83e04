//! The cases: read from CSV, dealt into folds, split and standardised.

use std::path::Path;
use std::{fs, str};

use csv::{ByteRecord, ReaderBuilder, Trim};

/// Both classes.
pub(crate) const CLASSES: usize = 2;
/// The label of the class that is costly to miss.
pub(crate) const COSTLY: usize = 0;

/// Cases with numeric features and one of two labels.
pub(crate) struct Cases {
    pub(crate) class_names: [String; CLASSES],
    /// One row per case.
    features: Vec<Vec<f64>>,
    labels: Vec<u8>,
}

/// Cases made ready for a linear classifier.
#[derive(Default)]
pub(crate) struct Part {
    /// The standardised features of the first case and a constant 1, which carries the bias; then
    /// those of the second case, and so on.
    pub(crate) inputs: Vec<f32>,
    pub(crate) labels: Vec<u8>,
}

impl Cases {
    /// The breast cancer data; `examples/data/README.md` says where they are from.
    pub(crate) fn breast_cancer() -> Self {
        Self::parse(include_bytes!("../data/breast_cancer.csv")).expect("the data are well-formed")
    }

    /// Reads a CSV file. The error is one line that says where the file is at fault.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string());
        let cases = bytes.and_then(|bytes| Self::parse(&bytes));
        cases.map_err(|error| format!("--csv {path:?}: {error}"))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true) // lines of unequal length are reported below
            .trim(Trim::All)
            .from_reader(bytes);
        let records: Result<Vec<ByteRecord>, _> = reader.byte_records().collect();
        let mut records = records.map_err(|error| error.to_string())?;

        let mut class_names = ["class 0".to_owned(), "class 1".to_owned()];
        let mut announced = None;
        if let Some(first) = records.first() {
            let header = first.iter().all(|field| number(field).is_none());
            if let Some((counts, names)) = scikit_learn_header(first) {
                announced = Some(counts);
                class_names = names;
            }
            if header || announced.is_some() {
                records.remove(0);
            }
        }
        let first = records.first().ok_or("expected cases, found none")?;
        let columns = first.len();
        if columns < 2 {
            return Err(format!("line {}: expected features and a label, found 1 column", line(bytes, first)));
        }
        let found = (records.len(), columns - 1);
        if let Some((cases, features)) = announced.filter(|announced| *announced != found) {
            return Err(format!(
                "line 1: announces {cases} cases of {features} features, found {} of {}",
                found.0, found.1
            ));
        }

        let mut cases = Cases { class_names, features: Vec::new(), labels: Vec::new() };
        for record in &records {
            if record.len() != columns {
                let (line, found) = (line(bytes, record), record.len());
                return Err(format!("line {line}: expected {columns} columns, found {found}"));
            }
            let wrong = |column: usize, expected: &str| {
                let found: String = String::from_utf8_lossy(&record[column]).chars().take(40).collect();
                let (line, column) = (line(bytes, record), column + 1);
                format!("line {line}, column {column}: expected {expected}, found {found:?}")
            };
            let label = columns - 1;
            let feature = |column: usize| {
                // The classifier computes in f32.
                let value = number(&record[column]).filter(|value| (*value as f32).is_finite());
                value.ok_or_else(|| wrong(column, "a finite number"))
            };
            cases.features.push((0..label).map(feature).collect::<Result<_, _>>()?);
            cases.labels.push(match number(&record[label]) {
                Some(0.0) => 0,
                Some(1.0) => 1,
                _ => return Err(wrong(label, "the label 0 or 1")),
            });
        }
        Ok(cases)
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// How many cases have this label.
    pub(crate) fn count(&self, label: usize) -> usize {
        self.labels.iter().filter(|&&l| usize::from(l) == label).count()
    }

    /// Deals the cases out at random, each class evenly, and says which fold each case is in.
    pub(crate) fn deal(&self, folds: usize, seed: u64) -> Vec<usize> {
        let mut state = seed;
        let mut splitmix64 = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        // By class, and in random order within each.
        let mut order: Vec<_> =
            self.labels.iter().enumerate().map(|(case, label)| (label, splitmix64(), case)).collect();
        order.sort_unstable();
        let mut fold_of = vec![0; self.len()];
        for (position, (_, _, case)) in order.into_iter().enumerate() {
            fold_of[case] = position % folds;
        }
        fold_of
    }

    /// The cases to train with, and those of `fold`, which are held out.
    ///
    /// The training cases alone say what brings each feature to mean 0 and variance 1, so that
    /// nothing about the held-out cases enters the training.
    pub(crate) fn split(&self, fold_of: &[usize], fold: usize) -> (Part, Part) {
        let rows = || self.features.iter().zip(fold_of).filter(|(_, f)| **f != fold);
        let count = rows().count() as f64;
        let mean_and_scale = |feature: usize| {
            let column = || rows().map(|(row, _)| row[feature]);
            let mean = column().sum::<f64>() / count;
            let variance = column().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            // A constant feature tells nothing: scaled by 0, it takes no part. Its variance need
            // not come out as exactly 0, because the mean is rounded.
            let varies = column().any(|value| Some(value) != column().next()) && variance > 0.0;
            (mean, if varies { 1.0 / variance.sqrt() } else { 0.0 })
        };
        let scaling: Vec<(f64, f64)> = (0..self.features[0].len()).map(mean_and_scale).collect();

        let (mut training, mut held_out) = (Part::default(), Part::default());
        for (case, row) in self.features.iter().enumerate() {
            let part = if fold_of[case] == fold { &mut held_out } else { &mut training };
            for (value, (mean, scale)) in row.iter().zip(&scaling) {
                part.inputs.push(((value - mean) * scale) as f32);
            }
            part.inputs.push(1.0);
            part.labels.push(self.labels[case]);
        }
        (training, held_out)
    }
}

/// `cases,features,name of class 0,name of class 1`
fn scikit_learn_header(record: &ByteRecord) -> Option<((usize, usize), [String; CLASSES])> {
    let fields: Option<Vec<&str>> = record.iter().map(|field| str::from_utf8(field).ok()).collect();
    let [cases, features, names @ ..] = &fields?[..] else { return None };
    let names: [&str; CLASSES] = names.try_into().ok()?;
    if names.iter().any(|name| number(name.as_bytes()).is_some()) {
        return None;
    }
    Some(((cases.parse().ok()?, features.parse().ok()?), names.map(str::to_owned)))
}

/// The line that a record stands on, counted here because the position that the reader gives is that
/// of the line break before it, if that is `\r\n` or a blank line.
fn line(bytes: &[u8], record: &ByteRecord) -> usize {
    let start = record.position().map_or(0, |position| position.byte() as usize);
    let breaks = bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    1 + bytes[..start + breaks].iter().filter(|byte| **byte == b'\n').count()
}

fn number(field: &[u8]) -> Option<f64> {
    str::from_utf8(field).ok()?.parse().ok()
}
