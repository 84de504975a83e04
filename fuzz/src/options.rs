//! The options that change the loss of a row, and the weights of its terms with them.

use crate::batch::Batch;
use crate::generate::{cost, costs, moderate, not_tiny, optional_costs};
use crate::textbook::Terms;
use arbitrary::{Result, Unstructured};
use rwwce::CrossEntropy;

/// Options beside those of the batch.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) smoothing: f32,
    pub(crate) focal: f32,
    pub(crate) z_loss: f32,
    pub(crate) temperature: f32,
    pub(crate) eps: f32,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) costs: Option<Vec<f32>>,
    pub(crate) soft: Option<Vec<f32>>,
    pub(crate) cut: usize,
}

impl Options {
    pub(crate) fn new(u: &mut Unstructured<'_>, batch: &Batch) -> Result<Self> {
        let classes = batch.classes;
        let mut this = Self {
            smoothing: *u.choose(&[0.0, 0.0, 0.1, 1.0, 1e-40])?,
            focal: *u.choose(&[0.0, 0.0, 0.5, 2.0, 1.0])?,
            z_loss: *u.choose(&[0.0, 0.0, 1e-3, 1e3])?,
            temperature: *u.choose(&[1.0, 1.0, 0.5, 3.0, 1e-30, 1e30])?,
            eps: *u.choose(&[0.0, 1e-10, 1e-40, 1e30])?,
            bias: optional_costs(u, classes, true)?,
            costs: None,
            soft: None,
            cut: u.choose_index(classes + 1)?,
        };
        this.bias.iter_mut().flatten().for_each(|bias| *bias = moderate(*bias));
        // Half of the cases are the loss without these.
        if u.ratio(1, 2)? {
            (this.smoothing, this.focal, this.z_loss, this.temperature, this.bias) = (0.0, 0.0, 0.0, 1.0, None);
        } else if !batch.class_weights.iter().flatten().any(|&weight| weight < 0.0) && classes <= 20 {
            this.costs = optional_costs(u, classes * classes, false)?;
            this.costs.iter_mut().flatten().for_each(|cost| *cost = moderate(*cost));
            this.costs.iter_mut().for_each(|costs| costs.iter_mut().step_by(classes + 1).for_each(|cost| *cost = 0.0));
        }
        if u.ratio(1, 3)? {
            // Padding is finite too, as the library checks the whole array.
            let mut soft = vec![0.0; batch.logits.len()];
            for row in 0..batch.rows() {
                for class in 0..classes {
                    soft[batch.element(row, class)] = moderate(cost(u, true)?);
                }
            }
            this.soft = Some(soft);
        }
        Ok(this)
    }

    /// Options with which the losses of ordinary logits are finite.
    pub(crate) fn mild(u: &mut Unstructured<'_>, batch: &Batch) -> Result<Self> {
        let classes = batch.classes;
        let some = u.arbitrary::<u8>()?;
        let mut pick = |bit: u8, of: &[f32]| if some & bit != 0 { u.choose(of).copied() } else { Ok(of[0]) };
        let mut this = Self {
            smoothing: pick(1, &[0.0, 0.1, 0.5, 1.0, 1e-6])?,
            focal: pick(2, &[0.0, 2.0, 0.5, 1.0, 1.5, 5.0])?,
            z_loss: pick(4, &[0.0, 1e-3, 1.0])?,
            temperature: pick(8, &[1.0, 0.5, 1.7, 10.0, 0.07])?,
            eps: 0.0,
            bias: None,
            costs: None,
            soft: None,
            cut: 0,
        };
        if some & 16 != 0 {
            this.bias = Some((0..classes).map(|_| Ok(f32::from(u.arbitrary::<i8>()?) / 8.0)).collect::<Result<_>>()?);
        }
        if some & 32 != 0 {
            let mut costs = costs(u, classes * classes, false)?;
            costs.iter_mut().for_each(|cost| *cost = not_tiny(*cost));
            costs.iter_mut().step_by(classes + 1).for_each(|cost| *cost = 0.0);
            this.costs = Some(costs);
        }
        if some & 64 != 0 {
            let negative = u.ratio(1, 8)?;
            this.soft = Some(costs(u, batch.logits.len(), negative)?.into_iter().map(not_tiny).collect());
        } else {
            // One-hot targets.
            let mut soft = vec![0.0; batch.logits.len()];
            for row in 0..batch.rows() {
                soft[batch.element(row, u.choose_index(classes)?)] = 1.0;
            }
            this.soft = Some(soft);
        }
        Ok(this)
    }

    /// Target probabilities of the options, or constants.
    pub(crate) fn soft(&self, batch: &Batch) -> Vec<f32> {
        self.soft.clone().unwrap_or_else(|| (0..batch.logits.len()).map(|at| [0.0, 1.0, 0.25][at % 3]).collect())
    }

    pub(crate) fn adjusted(&self, row: &[f32]) -> Vec<f32> {
        let bias = |class: usize| self.bias.as_ref().map(|bias| bias[class]);
        let scaled = row.iter().map(|x| x / self.temperature);
        scaled.enumerate().map(|(class, x)| bias(class).map_or(x, |bias| x + bias)).collect()
    }

    pub(crate) fn adjust<'a>(&'a self, loss: CrossEntropy<'a>) -> CrossEntropy<'a> {
        let loss = loss.temperature(self.temperature);
        if let Some(bias) = &self.bias { loss.class_bias(bias) } else { loss }
    }

    pub(crate) fn of_soft<'a>(&'a self, loss: CrossEntropy<'a>) -> CrossEntropy<'a> {
        loss.label_smoothing(self.smoothing).z_loss(self.z_loss)
    }

    pub(crate) fn of_labels<'a>(&'a self, loss: CrossEntropy<'a>) -> CrossEntropy<'a> {
        let loss = self.of_soft(loss).focal(self.focal);
        if let Some(costs) = &self.costs { loss.mislabel_costs(costs) } else { loss }
    }

    pub(crate) fn terms_of_label(&self, batch: &Batch, label: usize) -> Terms {
        let (classes, smoothing) = (batch.classes, f64::from(self.smoothing));
        let spread = if self.smoothing == 0.0 { 0 } else { classes };
        let costs = self.costs.as_ref().map(|costs| &costs[label * classes..][..classes]);
        Terms {
            label,
            own: (1.0 - smoothing) * batch.weight(label),
            spread: (0..spread).map(|class| batch.weight(class) * smoothing / classes as f64).collect(),
            costs: costs.unwrap_or(&[]).iter().map(|&cost| f64::from(cost)).collect(),
            focal: f64::from(self.focal),
            z_loss: f64::from(self.z_loss),
        }
    }

    pub(crate) fn terms_of_soft(&self, batch: &Batch, q: &[f32]) -> Terms {
        let (classes, smoothing) = (batch.classes, f64::from(self.smoothing));
        let of_class = |(class, &q): (usize, &f32)| {
            batch.weight(class) * ((1.0 - smoothing) * f64::from(q) + smoothing / classes as f64)
        };
        let spread = q.iter().enumerate().map(of_class).collect();
        Terms { spread, z_loss: f64::from(self.z_loss), ..Terms::default() }
    }
}
