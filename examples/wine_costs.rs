//! Three kinds of wine and what it costs to take one for another.
//!
//! A dealer names the cultivar of a wine by two measurements. To sell a plain wine as the noble one costs a customer, to
//! sell the noble one as plain costs its price, and to confuse the plain ones costs little. Class weights can say which
//! cultivar matters, but not which *mistake*: the mislabel costs of the loss can.
//!
//! ```text
//! cargo run --example wine_costs
//! ```
//!
//! The same linear classifier is trained with the plain loss and with the costs, in five-fold cross-validation over 178
//! wines, and the confusion matrices of the held-out wines are printed with what they cost.

use std::error::Error;

use rwwce::{CrossEntropy, decision_cost};

const CLASSES: usize = 3;
/// Alcohol and flavanoids; with all thirteen measurements there would be hardly a mistake to look at.
const FEATURES: [usize; 2] = [0, 6];
/// The features and a constant for the bias.
const WIDTH: usize = FEATURES.len() + 1;
const FOLDS: usize = 5;
const STEPS: usize = 2000;

/// What it costs to miss a cultivar, whatever it is taken for.
const MISS_COSTS: [f32; CLASSES] = [1.0; CLASSES];
/// What it costs on top to say j (column) where the truth is y (row). Cultivar 0 is the noble one.
#[rustfmt::skip]
const MISLABEL_COSTS: [f32; CLASSES * CLASSES] = [
     0.0, 3.0, 3.0,
    15.0, 0.0, 0.0,
    15.0, 0.0, 0.0,
];

struct Wines {
    features: Vec<[f32; WIDTH]>,
    labels: Vec<u8>,
}

impl Wines {
    /// The data; `examples/data/README.md` says where they are from.
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut wines = Self { features: Vec::new(), labels: Vec::new() };
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).from_reader(&include_bytes!("data/wine_data.csv")[..]);
        for record in reader.records() {
            let record = record?;
            let mut row = [1.0; WIDTH];
            for (to, from) in row.iter_mut().zip(FEATURES) {
                *to = record[from].parse()?;
            }
            wines.features.push(row);
            wines.labels.push(record[record.len() - 1].parse()?);
        }
        wines.standardise();
        Ok(wines)
    }

    /// Brings each feature to mean 0 and variance 1.
    fn standardise(&mut self) {
        let count = self.features.len() as f32;
        for feature in 0..FEATURES.len() {
            let mean = self.features.iter().map(|row| row[feature]).sum::<f32>() / count;
            let variance = self.features.iter().map(|row| (row[feature] - mean).powi(2)).sum::<f32>() / count;
            for row in &mut self.features {
                row[feature] = (row[feature] - mean) / variance.sqrt();
            }
        }
    }

    /// The wines of which every `FOLDS`th, from `fold` on, is (`held_out`) or is not taken.
    fn part(&self, fold: usize, held_out: bool) -> Self {
        let taken = || (0..self.labels.len()).filter(|wine| (wine % FOLDS == fold) == held_out);
        Self {
            features: taken().map(|wine| self.features[wine]).collect(),
            labels: taken().map(|wine| self.labels[wine]).collect(),
        }
    }
}

/// One row of coefficients a class.
type Model = [[f32; WIDTH]; CLASSES];

fn logits(model: &Model, features: &[[f32; WIDTH]]) -> Vec<f32> {
    let dot = |a: &[f32; WIDTH], b: &[f32; WIDTH]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    features.iter().flat_map(|row| model.iter().map(move |coefficients| dot(coefficients, row))).collect()
}

fn train(loss: &CrossEntropy, wines: &Wines) -> Result<Model, rwwce::Error> {
    let mut model = [[0.0; WIDTH]; CLASSES];
    for _ in 0..STEPS {
        let mut gradient = logits(&model, &wines.features);
        loss.gradient_in_place(&mut gradient, &wines.labels, 0.1)?;
        for (row, gradient) in wines.features.iter().zip(gradient.chunks_exact(CLASSES)) {
            for (coefficients, g) in model.iter_mut().zip(gradient) {
                for (c, x) in coefficients.iter_mut().zip(row) {
                    *c -= g * x;
                }
            }
        }
    }
    Ok(model)
}

fn main() -> Result<(), Box<dyn Error>> {
    let wines = Wines::read()?;
    let plain = CrossEntropy::new(CLASSES);
    let by_cost = plain.class_weights(&MISS_COSTS).mislabel_costs(&MISLABEL_COSTS);
    println!("{} wines of three cultivars, by two measurements, each held out once.", wines.labels.len());
    println!("Selling a plain wine as cultivar 0 costs 16, cultivar 0 as a plain one 4, plain for plain 1.");
    for (name, loss) in [("plain loss", plain), ("loss with mislabel costs", by_cost)] {
        let mut confusion = [0; CLASSES * CLASSES];
        for fold in 0..FOLDS {
            let model = train(&loss, &wines.part(fold, false))?;
            let held_out = wines.part(fold, true);
            loss.add_confusion(&logits(&model, &held_out.features), &held_out.labels, &mut confusion)?;
        }
        println!("\n{name}\n         named 0  named 1  named 2");
        for (truth, row) in confusion.chunks_exact(CLASSES).enumerate() {
            println!("truth {truth} {:>9}{:>9}{:>9}", row[0], row[1], row[2]);
        }
        println!("total cost {:>6}", decision_cost(&confusion, &MISS_COSTS, &MISLABEL_COSTS)?);
    }
    Ok(())
}
