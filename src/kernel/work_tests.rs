//! The work of calls without a clock: the number of vector instructions, on vectors in software.
//!
//! Whether a row takes the fast or the general way, and how many rows go together, changes the speed and not the result.
//! These numbers show it. They are stored in `tests/work.txt`, so that the diff of a change shows what it costs or saves:
//! `RWWCE_WRITE_WORK=1 cargo test --lib work_of_calls` writes them.

use crate::backend::software::instructions;
use crate::{Backend, BinaryCrossEntropy, CrossEntropy, Curvature, Logits, Upstream};
use std::fmt::Write;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// Logits, and what is not ordinary about them or the weights.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In [−3, 3], weights in [0.5, 2].
    Ordinary,
    /// One row in 16 is out of range of the fast way.
    OneOut,
    /// The label leads by 110 in every row.
    Lead,
    /// Every row has an offset of 1e4.
    Offset,
    /// Every row has a class that is masked by −∞.
    Masked,
    /// Weights are times 1e30.
    Heavy,
    /// One row in 16 has weight 0 and is NaN.
    Ignored,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Ordinary, "ordinary"),
    (Kind::OneOut, "one out"),
    (Kind::Lead, "lead"),
    (Kind::Offset, "offset"),
    (Kind::Masked, "masked"),
    (Kind::Heavy, "heavy"),
    (Kind::Ignored, "ignored"),
];

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    classes: usize,
    /// Elements of padding after each row.
    padding: usize,
    /// D of `[N, C, D]`, which divides the rows.
    positions: usize,
}

struct Inputs {
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    targets: Vec<f32>,
    samples: Vec<f32>,
    weights: Vec<f32>,
    costs: Vec<f32>,
    bias: Vec<f32>,
}

/// In [0, 1), the same for the same `number`.
fn share(number: usize) -> f32 {
    let bits = (number as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    (bits.wrapping_mul(bits | 1) >> 8) as f32 / (1 << 24) as f32
}

impl Inputs {
    fn new(shape: Shape, kind: Kind) -> Self {
        let Shape { rows, classes, padding, positions } = shape;
        let stride = classes + padding;
        let at = |row: usize, class: usize| match positions {
            1 => row * stride + class,
            _ => row / positions * positions * classes + class * positions + row % positions,
        };
        let labels: Vec<i32> = (0..rows).map(|row| (row * 7 % classes) as i32).collect();
        let mut logits = vec![f32::NAN; rows * stride];
        let mut targets = vec![0.0; rows * stride];
        let mut samples: Vec<f32> = (0..rows).map(|row| 0.5 + share(row)).collect();
        for row in 0..rows {
            let label = labels[row] as usize;
            let is_chosen = row % 16 == rows.min(16) / 2;
            for class in 0..classes {
                let mut x = 6.0 * share(row * classes + class) - 3.0;
                match kind {
                    Kind::OneOut if is_chosen && class == label => x += 300.0,
                    Kind::Lead if class == label => x += 110.0,
                    Kind::Offset => x += 1e4,
                    Kind::Masked if class == (label + 1) % classes && classes > 1 => x = f32::NEG_INFINITY,
                    Kind::Ignored if is_chosen => x = f32::NAN,
                    _ => {}
                }
                logits[at(row, class)] = x;
                targets[at(row, class)] = 1.0 / classes as f32;
            }
            if kind == Kind::Ignored && is_chosen {
                samples[row] = 0.0;
            }
        }
        let size = if kind == Kind::Heavy { 1e30 } else { 1.0 };
        let weights = (0..classes).map(|class| size * (0.5 + 1.5 * share(class))).collect();
        let costs = if classes > 200 { 0 } else { classes * classes };
        let mut costs: Vec<f32> = (0..costs).map(|i| size * (0.25 + share(i))).collect();
        costs.iter_mut().step_by(classes + 1).for_each(|cost| *cost = 0.0);
        let bias = (0..classes).map(|class| share(class) - 0.5).collect();
        Self { shape, logits, labels, targets, samples, weights, costs, bias }
    }

    fn entropy(&self, backend: Backend) -> CrossEntropy<'_> {
        let Shape { classes, padding, positions, .. } = self.shape;
        let entropy = CrossEntropy::new(classes).backend(backend);
        match (padding, positions) {
            (0, 1) => entropy,
            (_, 1) => entropy.row_stride(classes + padding),
            _ => entropy.positions(positions),
        }
    }

    /// Loss, row losses and both gradients of labels.
    fn labels(&self, entropy: CrossEntropy<'_>) {
        let (mut losses, mut gradient) = (vec![0.0; self.shape.rows], vec![0.0; self.logits.len()]);
        let _ = entropy.loss(&self.logits, &self.labels).unwrap();
        entropy.row_losses(&self.logits, &self.labels, &mut losses).unwrap();
        let _ = entropy.gradient(&self.logits, &self.labels, Upstream::Loss(1.0), &mut gradient).unwrap();
        let mut in_place = self.logits.clone();
        let _ = entropy.gradient_in_place(&mut in_place, &self.labels, &self.samples[..]).unwrap();
    }

    fn curvatures(&self, entropy: CrossEntropy<'_>) {
        let mut curvature = vec![0.0; self.logits.len()];
        for which in [Curvature::Diagonal, Curvature::Bound] {
            let loss = Upstream::Loss(1.0);
            entropy.curvature(&self.logits, &self.labels, loss, which, &mut curvature).unwrap();
        }
    }

    /// All calls of one loss.
    fn call(&self, loss: &str, backend: Backend) {
        let bare = self.entropy(backend);
        let weighted = bare.class_weights(&self.weights).sample_weights(&self.samples);
        let (mut numbers, mut outputs) = (vec![0.0; self.shape.rows], vec![0.0; self.logits.len()]);
        match loss {
            "unweighted" => self.labels(bare),
            "weighted" => self.labels(weighted),
            "adjusted" => self.labels(weighted.temperature(1.5).class_bias(&self.bias)),
            "focal" => self.labels(weighted.focal(2.0)),
            "z-loss" => self.labels(weighted.z_loss(0.01)),
            "smoothing" => self.labels(weighted.label_smoothing(0.1)),
            "costs" => self.labels(weighted.mislabel_costs(&self.costs)),
            "all" => self.labels(
                weighted.label_smoothing(0.1).mislabel_costs(&self.costs).focal(1.5).z_loss(0.01).temperature(1.5),
            ),
            "quantised" => {
                let values: Vec<i8> = self.logits.iter().map(|x| (x * 20.0) as i8).collect();
                let logits = Logits::I8 { values: &values, scale: 0.05, zero_point: 3 };
                let _ = weighted.loss(logits, &self.labels).unwrap();
                let _ = weighted.gradient(logits, &self.labels, Upstream::Loss(1.0), &mut outputs).unwrap();
                let smooth = weighted.label_smoothing(0.1);
                let _ = smooth.gradient(logits, &self.labels, Upstream::Loss(1.0), &mut outputs).unwrap();
            }
            "soft" => {
                let _ = weighted.soft_loss(&self.logits, &self.targets).unwrap();
                weighted.soft_row_losses(&self.logits, &self.targets, &mut numbers).unwrap();
                let _ = weighted.soft_gradient(&self.logits, &self.targets, Upstream::Loss(1.0), &mut outputs).unwrap();
            }
            "log-softmax" => {
                bare.log_probabilities(&self.logits, &mut outputs).unwrap();
                bare.log_sum_exps(&self.logits, &mut numbers).unwrap();
            }
            "curvature" => {
                self.curvatures(weighted);
                let (logits, targets, loss) = (&self.logits, &self.targets, Upstream::Loss(1.0));
                weighted.soft_curvature(logits, targets, loss, Curvature::Diagonal, &mut outputs).unwrap();
            }
            "curvature of costs" => self.curvatures(weighted.mislabel_costs(&self.costs)),
            "decisions" => {
                let mut chosen = vec![0_u32; self.shape.rows];
                let decided = if self.costs.is_empty() { bare } else { bare.mislabel_costs(&self.costs) };
                decided.class_weights(&self.weights).decide(&self.logits, &mut chosen, Some(&mut numbers)).unwrap();
            }
            "binary" => {
                let binary = BinaryCrossEntropy::new(self.shape.classes).backend(backend);
                let binary = binary.miss_costs(&self.weights);
                let (logits, targets) = (&self.logits, &self.targets);
                let _ = binary.loss(logits, targets).unwrap();
                let _ = binary.gradient(logits, targets, Upstream::Loss(1.0), &mut outputs).unwrap();
                binary.curvature(logits, targets, Upstream::Loss(1.0), &mut outputs).unwrap();
                let _ = binary.gradient_in_place(&mut logits.clone(), targets, Upstream::Loss(1.0)).unwrap();
            }
            _ => unreachable!("{loss}"),
        }
    }
}

const LOSSES: [&str; 15] = [
    "unweighted",
    "weighted",
    "adjusted",
    "quantised",
    "focal",
    "z-loss",
    "smoothing",
    "costs",
    "all",
    "soft",
    "log-softmax",
    "curvature",
    "curvature of costs",
    "decisions",
    "binary",
];

#[test]
fn work_of_calls() {
    let dense = |rows, classes| Shape { rows, classes, padding: 0, positions: 1 };
    let shapes = [
        dense(40, 1),
        dense(90, 2),
        dense(90, 3),
        dense(90, 4),
        dense(1, 10),
        dense(3, 10),
        dense(90, 10),
        dense(40, 30),
        dense(40, 33),
        dense(20, 129),
        dense(5, 1000),
        dense(2, 5000),
        Shape { padding: 3, ..dense(40, 2) },
        Shape { padding: 3, ..dense(40, 4) },
        Shape { padding: 3, ..dense(40, 10) },
        Shape { positions: 5, ..dense(40, 2) },
        Shape { positions: 5, ..dense(40, 10) },
        Shape { positions: 40, ..dense(40, 3) },
        Shape { positions: 40, ..dense(80, 33) },
        Shape { positions: 20, ..dense(20, 300) },
        Shape { positions: 4, ..dense(4, 5000) },
    ];
    let mut table = String::new();
    for &backend in Backend::SOFTWARE {
        for loss in LOSSES {
            writeln!(table, "\n{backend} lanes, {loss}").unwrap();
            write!(table, "{:<14}", "shape").unwrap();
            KINDS.iter().for_each(|(_, name)| write!(table, "{name:>10}").unwrap());
            for shape in shapes {
                let Shape { rows, classes, padding, positions } = shape;
                if classes > 200 && matches!(loss, "costs" | "all" | "curvature of costs")
                    || loss == "binary" && (padding > 0 || positions > 1)
                {
                    continue;
                }
                let name = match (padding, positions) {
                    (0, 1) => std::format!("{rows}x{classes}"),
                    (_, 1) => std::format!("{rows}x{classes}+{padding}"),
                    _ => std::format!("{}x{classes}x{positions}", rows / positions),
                };
                write!(table, "\n{name:<14}").unwrap();
                for (kind, _) in KINDS {
                    let inputs = Inputs::new(shape, kind);
                    instructions();
                    inputs.call(loss, backend);
                    write!(table, "{:>10}", instructions()).unwrap();
                }
            }
            table.push('\n');
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/work.txt");
    if std::env::var_os("RWWCE_WRITE_WORK").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    let mut title = "";
    for (found, expected) in table.lines().zip(stored.lines()) {
        if found.contains("lanes, ") {
            title = found;
        }
        assert_eq!(found, expected, "{title}: the work has changed");
    }
    assert_eq!(table.lines().count(), stored.lines().count(), "lines of the table");
    let calls = stored.lines().filter(|line| line.contains('x')).count() * KINDS.len();
    std::println!("the work of {calls} calls is as stored");
}
