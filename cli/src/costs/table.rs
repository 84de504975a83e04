//! Reader of tables: CSV files as spreadsheets, databases and scripts write them.

use std::borrow::Cow;
use std::path::Path;
use std::{fs, str};

use csv::{ByteRecord, ReaderBuilder};

use crate::Result;
use crate::output::{at, note};

/// Largest number of classes; a label column with more is taken for measurements and refused.
const MOST_CLASSES: usize = 100;

/// Cases with numeric features and labels.
pub(crate) struct Table {
    /// Class names, sorted, numerically if all are numbers.
    pub(crate) classes: Vec<String>,
    /// Values of each feature, one per case, NaN if missing.
    pub(crate) features: Vec<Vec<f64>>,
    /// Class index of each case.
    pub(crate) labels: Vec<u32>,
}

/// Options of reading a table.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) delimiter: Option<u8>,
    /// Whether the first line has the column names; detected if None.
    pub(crate) header: Option<bool>,
    /// Label column, by name or 1-based position; the last one if None.
    pub(crate) label: Option<String>,
    /// Feature columns; all but the label if empty.
    pub(crate) features: Vec<String>,
    /// Columns to leave out.
    pub(crate) dropped: Vec<String>,
    /// Whether missing values are kept as NaN, to be filled in, instead of refused.
    pub(crate) fill_missing: bool,
}

impl Table {
    pub(crate) fn read(path: &Path, reading: &Reading) -> Result<Self> {
        let bytes = fs::read(path).map_err(at(path))?;
        Self::parse(&bytes, reading).map_err(at(path))
    }

    pub(crate) fn parse(bytes: &[u8], reading: &Reading) -> Result<Self> {
        Records::parse(bytes, reading)?.table(reading)
    }

    /// Number of cases of each class.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.classes.len()];
        self.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }
}

/// Fields of a file, with its header split off.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    delimiter: u8,
    /// Column names, or `column 1` and so on.
    names: Vec<String>,
    /// Names of the classes 0, 1 and so on, if the first line has them.
    class_names: Vec<String>,
    pub(crate) records: Vec<ByteRecord>,
}

impl<'a> Records<'a> {
    pub(crate) fn parse(bytes: &'a [u8], reading: &Reading) -> Result<Self> {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err("expected text in UTF-8, found UTF-16".into());
        }
        let delimiter = reading.delimiter.unwrap_or_else(|| find_delimiter(bytes));
        let mut records = records(bytes, delimiter, usize::MAX)?;
        let first = records.first().ok_or("expected cases, found none")?;
        let mut parsed = Self { bytes, delimiter, names: Vec::new(), class_names: Vec::new(), records: Vec::new() };
        let class_names = class_names(first, records.get(1));
        let has_header = reading.header.unwrap_or_else(|| parsed.is_header(first));
        if !class_names.is_empty() && reading.header.is_none() {
            parsed.class_names = class_names;
            records.remove(0);
        } else if has_header {
            let header = records.remove(0);
            parsed.names = header.iter().map(|field| text(field).into_owned()).collect();
        }
        let columns = match records.first() {
            None => return Err("expected cases, found none".into()),
            Some(first) if parsed.names.is_empty() => first.len(),
            Some(_) => parsed.names.len(),
        };
        if let Some(record) = records.iter().find(|record| record.len() != columns) {
            let line = parsed.line(record);
            return Err(format!("line {line}: expected {columns} columns, found {}", record.len()));
        }
        parsed.names.extend((parsed.names.len()..columns).map(|column| format!("column {}", column + 1)));
        parsed.records = records;
        Ok(parsed)
    }

    /// Whether no field is a number or a word for a missing value.
    fn is_header(&self, record: &ByteRecord) -> bool {
        record.iter().all(|field| self.number(field).is_none() && (!is_missing(field) || field.is_empty()))
    }

    /// Index of the column of this name or, without one, at this 1-based position.
    fn column(&self, option: &str, wanted: &str) -> Result<usize> {
        let mut named = (0..self.names.len()).filter(|&column| self.names[column] == wanted);
        match (named.next(), named.next()) {
            (Some(_), Some(_)) => Err(format!("{option}: two columns have the name {wanted:?}, expected a position")),
            (Some(column), None) => Ok(column),
            (None, _) => match wanted.parse() {
                Ok(position) if (1..=self.names.len()).contains(&position) => Ok(position - 1),
                _ => {
                    let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                    let (count, names) = (names.len(), shortened(&names.join(", "), 200));
                    Err(format!("{option}: expected a position from 1 to {count} or one of {names}; found {wanted:?}"))
                }
            },
        }
    }

    fn table(&self, reading: &Reading) -> Result<Table> {
        let columns = self.names.len();
        if columns < 2 {
            let shown = if self.delimiter == b'\t' { "tab".into() } else { char::from(self.delimiter).to_string() };
            return Err(format!(
                "expected features and a label, found one column (delimiter {shown:?}; see --delimiter)"
            ));
        }
        let label = reading.label.as_deref().map_or(Ok(columns - 1), |label| self.column("--label", label))?;
        let dropped: Vec<usize> =
            reading.dropped.iter().map(|name| self.column("--drop", name)).collect::<Result<_>>()?;
        let mut chosen: Vec<usize> =
            reading.features.iter().map(|name| self.column("--features", name)).collect::<Result<_>>()?;
        if chosen.contains(&label) {
            return Err(format!("--features: {:?} is the label", self.names[label]));
        }
        if chosen.is_empty() {
            chosen = (0..columns).filter(|&column| column != label && !self.is_empty(column)).collect();
        }
        chosen.retain(|column| !dropped.contains(column));
        if chosen.is_empty() {
            return Err("expected a column to learn from, found none beside the label".into());
        }
        let (classes, labels) = self.labels(label)?;
        let features = chosen.into_iter().map(|column| self.feature(column, reading)).collect::<Result<_>>()?;
        Ok(Table { classes, features, labels })
    }

    /// Whether all fields of a column are empty, as after a trailing delimiter; prints a note if so.
    fn is_empty(&self, column: usize) -> bool {
        let empty = self.records.iter().all(|record| record[column].is_empty());
        if empty {
            note(&format!("{} has no values and is left out", self.name(column)));
        }
        empty
    }

    fn feature(&self, column: usize, reading: &Reading) -> Result<Vec<f64>> {
        let value = |record: &ByteRecord| {
            let field = &record[column];
            let wrong = |what: &str| self.wrong(record, column, what);
            match self.number(field) {
                // The classifier computes in f32.
                Some(value) if (value as f32).is_finite() => Ok(value),
                _ if is_missing(field) && reading.fill_missing => Ok(f64::NAN),
                _ if is_missing(field) => Err(wrong("the value is missing; `--missing median` fills it in")),
                Some(_) => Err(wrong("expected a finite number")),
                None => Err(wrong("expected a number; --drop leaves a column out")),
            }
        };
        let values: Vec<f64> = self.records.iter().map(value).collect::<Result<_>>()?;
        if values.iter().all(|value| value.is_nan()) {
            return Err(format!("{}: every value is missing; --drop leaves a column out", self.name(column)));
        }
        Ok(values)
    }

    /// Sorted class names, and the class index of each case.
    fn labels(&self, column: usize) -> Result<(Vec<String>, Vec<u32>)> {
        if let Some(record) = self.records.iter().find(|record| is_missing(&record[column])) {
            return Err(self.wrong(record, column, "the label is missing"));
        }
        if !self.class_names.is_empty() {
            return self.numbered_labels(column);
        }
        let fields = || self.records.iter().map(|record| text(&record[column]));
        let numbers: Option<Vec<f64>> = self.records.iter().map(|record| self.number(&record[column])).collect();
        // 1 and 1.0 are the same class, as are 0 and −0.
        let names: Vec<Cow<'_, str>> = match &numbers {
            Some(numbers) => numbers.iter().map(|number| Cow::Owned((number + 0.0).to_string())).collect(),
            None => fields().collect(),
        };
        let mut classes: Vec<String> = Vec::new();
        let mut labels = Vec::with_capacity(names.len());
        for name in names {
            let class = classes.iter().position(|class| *class == name).unwrap_or(classes.len());
            if class == classes.len() {
                classes.push(name.into_owned());
            }
            if classes.len() > MOST_CLASSES {
                let name = self.name(column);
                return Err(format!("{name}: more than {MOST_CLASSES} different labels; --label names another column"));
            }
            labels.push(class);
        }
        let mut order: Vec<usize> = (0..classes.len()).collect();
        let as_number = |class: &usize| classes[*class].parse::<f64>().unwrap_or(0.0);
        order.sort_by(|a, b| match numbers {
            Some(_) => as_number(a).total_cmp(&as_number(b)),
            None => classes[*a].cmp(&classes[*b]),
        });
        let labels = labels.into_iter().map(|found| order.iter().position(|&class| class == found).unwrap_or(0) as u32);
        Ok((order.iter().map(|&class| classes[class].clone()).collect(), labels.collect()))
    }

    /// Labels that are indices of the class names in the first line.
    fn numbered_labels(&self, column: usize) -> Result<(Vec<String>, Vec<u32>)> {
        let label = |record: &ByteRecord| {
            let class = (0..self.class_names.len()).find(|class| self.number(&record[column]) == Some(*class as f64));
            let last = self.class_names.len() - 1;
            class
                .map(|class| class as u32)
                .ok_or_else(|| self.wrong(record, column, &format!("expected a label from 0 to {last}")))
        };
        Ok((self.class_names.clone(), self.records.iter().map(label).collect::<Result<_>>()?))
    }

    /// A number, with a decimal comma too unless that is the delimiter; true and false are 1 and 0. None for NaN.
    fn number(&self, field: &[u8]) -> Option<f64> {
        let field = str::from_utf8(field).ok()?;
        let number = field.parse::<f64>().ok().or_else(|| {
            let has_comma = self.delimiter != b',' && field.matches(',').count() == 1;
            has_comma.then(|| field.replace(',', ".").parse().ok()).flatten()
        });
        let truth = || [("false", 0.0), ("true", 1.0)].into_iter().find(|(word, _)| field.eq_ignore_ascii_case(word));
        // Rust reads "nan" as a number.
        number.filter(|number| !number.is_nan()).or_else(|| truth().map(|(_, number)| number))
    }

    fn name(&self, column: usize) -> String {
        let position = format!("column {}", column + 1);
        if self.names[column] == position { position } else { format!("{position} ({})", self.names[column]) }
    }

    /// Error message about a field, with its line and column.
    pub(crate) fn wrong(&self, record: &ByteRecord, column: usize, what: &str) -> String {
        let found = shortened(&text(&record[column]), 40);
        format!("line {}, {}: {what}; found {found:?}", self.line(record), self.name(column))
    }

    /// Line number of a record. Counted here, since after `\r\n` or a blank line the position of the csv reader is that
    /// of the line break before the record.
    fn line(&self, record: &ByteRecord) -> usize {
        let start = record.position().map_or(0, |position| position.byte() as usize);
        let breaks = self.bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        1 + self.bytes[..start + breaks].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// The delimiter with the largest share of the first lines of equal width, above one column.
fn find_delimiter(bytes: &[u8]) -> u8 {
    // The comma comes last, since it may be a decimal comma between semicolons.
    let mut best = (0.0, b',');
    for delimiter in [b'\t', b';', b','] {
        let Ok(records) = records(bytes, delimiter, 100) else { continue };
        let widths: Vec<usize> = records.iter().map(ByteRecord::len).filter(|&width| width > 1).collect();
        let equal = |width: &usize| widths.iter().filter(|other| *other == width).count();
        let most = widths.iter().map(equal).max().unwrap_or(0);
        let share = most as f64 / records.len().max(1) as f64;
        if share > best.0 {
            best = (share, delimiter);
        }
    }
    best.1
}

/// The first `count` records of a file, fields trimmed of whitespace and quotes.
fn records(bytes: &[u8], delimiter: u8, count: usize) -> Result<Vec<ByteRecord>> {
    // Lines of unequal width are reported later, with their line number.
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
    let mut trimmed = Vec::new();
    for record in reader.byte_records().take(count) {
        let record = record.map_err(|error| error.to_string())?;
        let mut fields = ByteRecord::new();
        fields.set_position(record.position().cloned());
        for field in &record {
            let field = field.trim_ascii();
            // The csv reader keeps quotes after a space as part of the field.
            let unquoted = field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\""));
            fields.push_field(unquoted.unwrap_or(field));
        }
        trimmed.push(fields);
    }
    Ok(trimmed)
}

/// The class names, if the first line is as in scikit-learn's data sets: number of cases, number of features, names of
/// the classes 0, 1 and so on.
fn class_names(first: &ByteRecord, second: Option<&ByteRecord>) -> Vec<String> {
    let fields: Vec<Cow<'_, str>> = first.iter().map(text).collect();
    let (Some([cases, features, names @ ..]), Some(second)) = (fields.get(..), second) else {
        return Vec::new();
    };
    let fits = cases.parse::<usize>().is_ok() && features.parse() == Ok(second.len() - 1);
    let are_names = names.len() >= 2 && names.iter().all(|name| !name.is_empty() && name.parse::<f64>().is_err());
    if fits && are_names { names.iter().map(ToString::to_string).collect() } else { Vec::new() }
}

/// Whether the field is empty or a word for a missing value.
fn is_missing(field: &[u8]) -> bool {
    ["", "na", "n/a", "nan", "null", "none", "?", "-"].iter().any(|word| field.eq_ignore_ascii_case(word.as_bytes()))
}

/// Decodes UTF-8, or Latin-1 if that fails.
fn text(field: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(field) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => field.iter().map(|&byte| char::from(byte)).collect(),
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most).chain(['…']).collect() }
}

pub(crate) fn text_of(record: &ByteRecord, column: usize) -> String {
    text(&record[column]).into_owned()
}
