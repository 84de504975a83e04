//! Costs of each kind of mistake.

use std::fs;
use std::path::Path;

use csv::ByteRecord;

use super::table::{Reading, Records, text_of};
use crate::Result;
use crate::output::at;

/// Costs of deciding j (column) where y (row) is true, diagonal 0.
#[derive(Clone)]
pub(crate) struct CostMatrix {
    pub(crate) classes: usize,
    costs: Vec<f64>,
}

impl CostMatrix {
    /// Every mistake costs 1.
    pub(crate) fn equal(classes: usize) -> Self {
        let cost = |cell: usize| if cell / classes == cell % classes { 0.0 } else { 1.0 };
        Self { classes, costs: (0..classes * classes).map(cost).collect() }
    }

    /// The matrix with the costs of missing this class multiplied by `factor`.
    pub(crate) fn scaled(&self, class: usize, factor: f64) -> Self {
        let mut scaled = self.clone();
        scaled.costs[class * self.classes..][..self.classes].iter_mut().for_each(|cost| *cost *= factor);
        scaled
    }

    pub(crate) fn cost(&self, truth: usize, said: usize) -> f64 {
        self.costs[truth * self.classes + said]
    }

    /// Mean cost of missing a class, over the other classes.
    pub(crate) fn mean_cost(&self, truth: usize) -> f64 {
        let row = &self.costs[truth * self.classes..][..self.classes];
        row.iter().sum::<f64>() / (self.classes - 1) as f64
    }

    /// Least cost above 0.
    pub(crate) fn least(&self) -> f64 {
        self.costs.iter().copied().filter(|&cost| cost > 0.0).fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn as_f32(&self) -> Vec<f32> {
        self.costs.iter().map(|&cost| cost as f32).collect()
    }

    /// Total cost of the decisions in a confusion matrix.
    pub(crate) fn total(&self, confusion: &[u64]) -> f64 {
        confusion.iter().zip(&self.costs).map(|(&count, cost)| count as f64 * cost).sum()
    }

    /// Reads a CSV file with a row for each true class and a column for each decision, with the class names in the
    /// first line and column or, without names, in the order of `classes`.
    pub(crate) fn read(path: &Path, classes: &[String]) -> Result<Self> {
        let bytes = fs::read(path).map_err(at(path))?;
        Self::parse(&bytes, classes).map_err(at(path))
    }

    fn parse(bytes: &[u8], classes: &[String]) -> Result<Self> {
        let parsed = Records::parse(bytes, &Reading { header: Some(false), ..Reading::default() })?;
        let (count, records) = (classes.len(), &parsed.records);
        let named = records.len() == count + 1;
        let size = count + usize::from(named);
        if records.len() != size || records[0].len() != size {
            let (rows, columns) = (records.len(), records[0].len());
            return Err(format!(
                "expected {count} rows and columns, or one more with names, found {rows} and {columns}"
            ));
        }
        // Index of each class among the rows or the columns.
        let header = |name: &dyn Fn(usize) -> String, what: &str| -> Result<Vec<usize>> {
            let place = |class: &String| {
                let place = (1..=count).find(|&place| name(place) == *class);
                place.ok_or_else(|| format!("no {what} has the name of the class {class:?}"))
            };
            if named { classes.iter().map(place).collect() } else { Ok((0..count).collect()) }
        };
        let columns = header(&|place| text_of(&records[0], place), "column")?;
        let rows = header(&|place| text_of(&records[place], 0), "row")?;

        let mut costs = Vec::with_capacity(count * count);
        for (truth, &row) in rows.iter().enumerate() {
            for (said, &column) in columns.iter().enumerate() {
                costs.push(Self::parse_cost(&parsed, &records[row], column, truth == said)?);
            }
            if costs[truth * count..].iter().all(|&cost| cost == 0.0) {
                return Err(format!("missing {:?} costs nothing: expected a cost above 0 in its row", classes[truth]));
            }
        }
        Ok(Self { classes: count, costs })
    }

    fn parse_cost(parsed: &Records<'_>, record: &ByteRecord, column: usize, right: bool) -> Result<f64> {
        let text = text_of(record, column);
        // Cells on the diagonal may be empty.
        let cost = if right && text.is_empty() { Some(0.0) } else { text.parse().ok() };
        let usable = |cost: &f64| (*cost as f32).is_finite() && *cost >= 0.0 && (!right || *cost == 0.0);
        let expected = if right { "expected 0, the cost of what is right" } else { "expected a cost of at least 0" };
        cost.filter(usable).ok_or_else(|| parsed.wrong(record, column, expected))
    }
}
