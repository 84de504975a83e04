//! Rows of logits with labels, weights and costs.

use crate::versions::Case;

pub struct Random(u64);

impl Random {
    /// In [0, 1).
    pub fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn numbers(&mut self, count: usize, from: f32, to: f32) -> Vec<f32> {
        (0..count).map(|_| from + self.number() * (to - from)).collect()
    }
}

/// Logits of `[rows / positions, classes, positions]`, uniform in ±4, with random labels and class weights.
pub struct Data {
    pub classes: usize,
    pub positions: usize,
    pub logits: Vec<f32>,
    pub labels: Vec<i64>,
    pub class_weights: Vec<f32>,
    pub sample_weights: Option<Vec<f32>>,
    random: Random,
}

impl Data {
    pub fn new(rows: usize, classes: usize, positions: usize) -> Self {
        let mut random = Random(1);
        Self {
            classes,
            positions,
            logits: random.numbers(rows * classes, -4.0, 4.0),
            labels: (0..rows).map(|_| (random.number() * classes as f32) as i64 % classes as i64).collect(),
            class_weights: random.numbers(classes, 0.5, 1.5),
            sample_weights: None,
            random,
        }
    }

    pub fn case(&self, gradient: bool) -> Case<'_> {
        Case {
            classes: self.classes,
            positions: self.positions,
            logits: &self.logits,
            labels: &self.labels,
            class_weights: &self.class_weights,
            sample_weights: self.sample_weights.as_deref(),
            gradient,
            ..Case::default()
        }
    }

    /// Target probabilities, which need not add up to 1.
    pub fn soft(&mut self) -> Vec<f32> {
        self.random.numbers(self.logits.len(), 0.0, 1.0)
    }

    /// Mislabel costs, 0 on the diagonal.
    pub fn costs(&mut self) -> Vec<f32> {
        let mut costs = self.random.numbers(self.classes * self.classes, 1.0, 2.0);
        costs.iter_mut().step_by(self.classes + 1).for_each(|cost| *cost = 0.0);
        costs
    }

    fn index(&self, row: usize, class: usize) -> usize {
        (row / self.positions * self.classes + class) * self.positions + row % self.positions
    }

    /// Sets the label's logit to the largest of the others plus a random value from `from` to `to`.
    pub fn lead(&mut self, from: f32, to: f32) {
        for row in 0..self.labels.len() {
            let label = self.labels[row] as usize;
            let others = (0..self.classes).filter(|&class| class != label);
            let largest = others.map(|class| self.logits[self.index(row, class)]).fold(f32::MIN, f32::max);
            let at = self.index(row, label);
            self.logits[at] = largest + from + self.random.number() * (to - from);
        }
    }

    /// Makes one logit in 16 −∞, but not the label's.
    pub fn mask(&mut self) {
        for row in 0..self.labels.len() {
            for class in 0..self.classes {
                if self.random.number() < 1.0 / 16.0 && class != self.labels[row] as usize {
                    let at = self.index(row, class);
                    self.logits[at] = f32::NEG_INFINITY;
                }
            }
        }
    }

    pub fn offset(&mut self, offset: f32) {
        self.logits.iter_mut().for_each(|logit| *logit += offset);
    }

    pub fn scale_weights(&mut self, of_classes: f32, of_samples: Option<f32>) {
        self.class_weights.iter_mut().for_each(|weight| *weight *= of_classes);
        self.sample_weights = of_samples.map(|weight| vec![weight; self.labels.len()]);
    }
}
