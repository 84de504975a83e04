//! Shared by the integration tests: the textbook in f64, errors in ulps, and logits of every kind.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use rwwce::{Backend, CrossEntropy, Denominator, Reduction};

/// Pseudo-random numbers (splitmix64) from a fixed seed, so that every run tests the same.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// In [low, high), 24 bits of it random.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 40) as f64 / (1u64 << 24) as f64;
        (f64::from(low) + unit * (f64::from(high) - f64::from(low))) as f32
    }
}

/// Kinds of rows, by what is hard about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// ±10
    Ordinary,
    /// The label leads by 5 to 90.
    Confident,
    /// All within a millionth.
    Uniform,
    /// Every logit the same.
    Ties,
    /// The label trails by up to 100.
    Wrong,
    /// ±100
    Spread,
    /// ±10 around ±1e8.
    Offset,
    /// ±10 around a moderate offset, where f32 subtraction rounds.
    SmallOffset,
    /// Around the ends of the range that needs no reference, ±44, and ±384, from where one is subtracted.
    Threshold,
    /// ±1e38
    Huge,
    /// Subnormal logits.
    Denormal,
    /// Many −∞, never at the label.
    Masked,
    /// The others trail by 87 to 110: the loss is near the smallest normal number.
    Tiny,
    /// ±30
    Wide,
    /// ±10, the label from 0 to 20: the roundings of exponentials, sum and logarithm all count in the loss.
    Leading,
    /// Σ_{k≠y} exp(x_k − x_y) is about 1.
    NearOne,
    /// From ±2⁻¹⁶ to ±2¹⁶, row by row.
    AnyScale,
    /// Normally distributed, deviation 4, the label from 8 to 40: a few exponentials are most of the sum, and all others
    /// are rounded as they are added to them.
    FewLarge,
}

pub const REGIMES: [Regime; 13] = [
    Regime::Ordinary,
    Regime::Confident,
    Regime::Uniform,
    Regime::Ties,
    Regime::Wrong,
    Regime::Spread,
    Regime::Offset,
    Regime::SmallOffset,
    Regime::Threshold,
    Regime::Huge,
    Regime::Denormal,
    Regime::Masked,
    Regime::Tiny,
];

/// Regimes for the search of the largest errors over millions of rows.
pub const MORE_REGIMES: [Regime; 5] =
    [Regime::Wide, Regime::Leading, Regime::NearOne, Regime::AnyScale, Regime::FewLarge];

impl Regime {
    /// A row of this kind and its label.
    pub fn row(self, classes: usize, rng: &mut Rng) -> (Vec<f32>, usize) {
        let mut row = vec![0.0; classes];
        let label = self.fill(&mut row, rng);
        (row, label)
    }

    /// Fills `row` with logits of this kind; returns its label.
    pub fn fill(self, row: &mut [f32], rng: &mut Rng) -> usize {
        let label = rng.below(row.len());
        let centre = match self {
            Self::Offset => 1e8 * if rng.below(2) == 0 { 1.0 } else { -1.0 },
            Self::SmallOffset => rng.between(-250.0, 250.0),
            Self::Threshold => [-384.0, 384.0, 44.0, -44.7][rng.below(4)],
            Self::Tiny => rng.between(-120.0, 120.0),
            Self::NearOne => rng.between(-20.0, 20.0),
            _ => 0.0,
        };
        let tie = rng.between(-50.0, 50.0);
        let share = (row.len().max(2) as f32 - 1.0).ln();
        let scale = if self == Self::AnyScale { rng.between(-16.0, 16.0).exp2() } else { 30.0 };
        for x in &mut *row {
            *x = match self {
                Self::Ordinary | Self::Confident | Self::Wrong | Self::Masked | Self::Leading => {
                    rng.between(-10.0, 10.0)
                }
                Self::Uniform => tie + rng.between(0.0, 1e-6),
                Self::Ties => tie,
                Self::Spread => rng.between(-100.0, 100.0),
                Self::Offset => centre + 8.0 * rng.between(-3.0, 3.0).round(),
                Self::SmallOffset => centre + rng.between(-10.0, 10.0),
                Self::Threshold => centre + rng.between(-1.0, 1.0),
                Self::Huge => rng.between(-1e38, 1e38),
                Self::Denormal => f32::from_bits(rng.below(1 << 23) as u32),
                Self::Tiny => centre - rng.between(87.0, 110.0),
                Self::Wide | Self::AnyScale => rng.between(-scale, scale),
                Self::NearOne => centre - share + rng.between(-0.5, 0.5),
                // Twelve uniform numbers of variance 1/12.
                Self::FewLarge => 4.0 * (0..12).map(|_| rng.between(-0.5, 0.5)).sum::<f32>(),
            }
        }
        match self {
            Self::Confident => row[label] = 10.0 + rng.between(5.0, 90.0),
            Self::Wrong => row[label] = -10.0 - rng.between(0.0, 90.0),
            Self::Leading => row[label] = rng.between(0.0, 20.0),
            Self::FewLarge => row[label] = rng.between(8.0, 40.0),
            Self::Tiny | Self::NearOne => row[label] = centre,
            Self::Masked => {
                for (class, x) in row.iter_mut().enumerate() {
                    if class != label && rng.below(2) == 0 {
                        *x = f32::NEG_INFINITY;
                    }
                }
            }
            _ => {}
        }
        label
    }
}

/// The textbook in f64.
pub mod reference {
    /// x_k − x_y in f64, which holds the difference of two f32 to more digits than f32 needs.
    fn gap(row: &[f32], k: usize, y: usize) -> f64 {
        f64::from(row[k]) - f64::from(row[y])
    }

    fn others(row: &[f32], y: usize) -> impl Iterator<Item = usize> + '_ {
        (0..row.len()).filter(move |&k| k != y)
    }

    fn argmax(row: &[f32]) -> usize {
        (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
    }

    /// −log softmax(x)_y of a row of logits that are not NaN or +∞.
    pub fn loss(row: &[f32], y: usize) -> f64 {
        let m = argmax(row);
        let above = if m == y { 0.0 } else { -gap(row, y, m) };
        above + others(row, m).map(|k| gap(row, k, m).exp()).sum::<f64>().ln_1p()
    }

    /// p_i − [i = y]
    pub fn gradient(row: &[f32], y: usize) -> Vec<f64> {
        let m = argmax(row);
        let total = 1.0 + others(row, m).map(|k| gap(row, k, m).exp()).sum::<f64>();
        let mut gradient: Vec<f64> = (0..row.len()).map(|k| gap(row, k, m).exp() / total).collect();
        gradient[y] = -others(row, y).map(|k| gap(row, k, m).exp()).sum::<f64>() / total;
        gradient
    }

    /// log Σ exp
    pub fn log_sum_exp(row: &[f32]) -> f64 {
        let m = argmax(row);
        f64::from(row[m]) + loss(row, m)
    }
}

/// One unit in the last place of the f32 nearest to `x`, for |x| at least the smallest normal f32.
pub fn ulp(x: f64) -> f64 {
    let exponent = ((x.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    2f64.powi(exponent - 23)
}

/// The error of `found` in ulps of `expected`: 0 where both are NaN or the same infinity, infinity where only one of
/// them is.
pub fn error_in_ulps(found: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    if rounded.is_nan() || rounded.is_infinite() {
        return if found.to_bits() == rounded.to_bits() || (found.is_nan() && rounded.is_nan()) {
            0.0
        } else {
            f64::INFINITY
        };
    }
    if expected.abs() < f64::from(f32::MIN_POSITIVE) {
        // Below the normal range only the size is promised.
        return if f64::from(found).abs() <= f64::from(f32::MIN_POSITIVE) { 0.0 } else { f64::INFINITY };
    }
    let error = (f64::from(found) - expected).abs() / ulp(expected);
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Whether a backend emulates FMA in software here, too slow for large problems.
pub fn is_slow(backend: Backend) -> bool {
    backend.name() == "scalar-fma"
}

/// Every backend of this machine, the fastest first. `RWWCE_TEST_BACKENDS`, names separated by spaces, restricts them
/// for tools that run the tests a thousand times.
pub fn available() -> impl Iterator<Item = Backend> {
    let named = std::env::var("RWWCE_TEST_BACKENDS").ok();
    Backend::available()
        .filter(move |backend| named.as_ref().is_none_or(|names| names.split(' ').any(|name| name == backend.name())))
}

/// [`available`], printed so that a missing backend shows.
pub fn backends() -> Vec<Backend> {
    let backends: Vec<Backend> = available().collect();
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    println!("backends: {}", names.join(" "));
    assert!(Backend::available().any(|backend| backend == Backend::active()));
    backends
}

/// The classes of same bits, as tables and the files of committed bits name them.
pub const CLASS_NAMES: [&str; 4] = ["fused", "unfused", "one-lane-fused", "one-lane-unfused"];

/// The name of the class that a backend belongs to.
pub fn class_of(backend: Backend) -> &'static str {
    let one_lane = backend.name().starts_with("scalar");
    CLASS_NAMES[2 * usize::from(one_lane) + usize::from(!backend.is_fused())]
}

/// The backends, grouped by class of same bits.
pub fn same_bits_classes(backends: impl IntoIterator<Item = Backend>) -> Vec<Vec<Backend>> {
    let mut classes: Vec<Vec<Backend>> = Vec::new();
    for backend in backends {
        match classes.iter_mut().find(|class| class[0].has_same_bits_as(backend)) {
            Some(class) => class.push(backend),
            None => classes.push(vec![backend]),
        }
    }
    classes
}

/// Compares lines of bits with the committed ones of the backend's class in `tests/FOLDER`. With `RWWCE_WRITE_BITS`
/// set, the best backend of each class writes its lines there first.
pub fn compare_with_committed(folder: &str, backend: Backend, found: &str) {
    let class = class_of(backend);
    let path = format!("{}/tests/{folder}/{class}.txt", env!("CARGO_MANIFEST_DIR"));
    let best = Backend::available().find(|best| best.has_same_bits_as(backend));
    if std::env::var_os("RWWCE_WRITE_BITS").is_some() && best == Some(backend) {
        std::fs::write(&path, found).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (found, committed): (Vec<&str>, Vec<&str>) = (found.lines().collect(), committed.lines().collect());
    let others: Vec<&&str> = found.iter().filter(|line| !committed.contains(line)).collect();
    assert!(
        found == committed,
        "{backend}: {} lines, {} of them not in tests/{folder}/{class}.txt, which has {}: {others:#?}\n\
         Where the kernel is to return other bits, tests/README.md says how they are committed.",
        found.len(),
        others.len(),
        committed.len()
    );
}

/// The bits of each element, the same for every NaN.
pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// The exact bits of each element.
pub fn raw_bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Numbers that no computation returns, each different from its neighbours: quiet NaNs with a payload.
pub fn pattern(len: usize) -> Vec<f32> {
    (0..len).map(|i| f32::from_bits(0x7fc5_a000 | (i as u32 & 0xfff))).collect()
}

/// The contract's bound for the loss of a row.
pub const LOSS_ULPS: f64 = 3.0;

/// What the roundings of a loss can add up to, if an input is found that gives all of them one direction: those of exp, 1.4
/// times 2⁻²⁴ of the sum, and of the result, ½ ulp; one of the largest part; and those of the others as they are added,
/// which are up to 3/4 of the sum with up to 64 classes and 15/16 with more (`src/kernel/partial_sums.rs`).
pub fn worst_loss_ulps(classes: usize) -> f64 {
    match classes {
        ..=16 => LOSS_ULPS,
        17..=64 => 4.2,
        _ => 5.9,
    }
}
/// The contract's bound for an element of the gradient.
pub const GRADIENT_ULPS: f64 = 5.0;

/// Checks that each element is within `ulps` of `expected`.
pub fn within(ulps: f64, found: &[f32], expected: &[f64]) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} numbers instead of {}", found.len(), expected.len()));
    }
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = error_in_ulps(found, expected);
        if error > ulps {
            return Err(format!("number {index} is {found:e} instead of {expected:e}: {error} ulp"));
        }
    }
    Ok(())
}

/// The contract for one row in f64, whatever its logits hold.
pub mod model {
    use super::reference;

    /// −w·log p_y
    pub fn loss(row: &[f32], y: usize, weight: f32) -> f64 {
        if weight == 0.0 {
            return 0.0;
        }
        let infinite = row.iter().filter(|&&x| x == f32::INFINITY).count();
        let undefined = row.iter().any(|x| x.is_nan()) || row.iter().all(|&x| x == f32::NEG_INFINITY);
        let loss = match (row[y] == f32::INFINITY, infinite) {
            _ if undefined => f64::NAN,
            (true, 1) => return 0.0,
            (true, _) => f64::NAN,
            (false, 1..) => f64::INFINITY,
            (false, 0) if row[y] == f32::NEG_INFINITY => f64::INFINITY,
            (false, 0) => reference::loss(row, y),
        };
        f64::from(weight) * loss
    }

    /// w·(p_i − [i = y])·scale, where scale is NaN for a mean over nothing.
    pub fn gradient(row: &[f32], y: usize, weight: f32, scale: f64) -> Vec<f64> {
        if weight == 0.0 {
            return vec![0.0; row.len()];
        }
        let infinite = row.iter().filter(|&&x| x == f32::INFINITY).count();
        let factor = f64::from(weight) * scale;
        if factor.is_nan() || loss(row, y, weight).is_nan() || infinite > 1 {
            return vec![f64::NAN; row.len()];
        }
        if infinite == 1 {
            let of_class = |(i, &x): (usize, &f32)| {
                (f64::from(u8::from(x == f32::INFINITY)) - f64::from(u8::from(i == y))) * factor
            };
            return row.iter().enumerate().map(of_class).collect();
        }
        reference::gradient(row, y).iter().map(|g| g * factor).collect()
    }
}

/// The logits of a row, and its class and weight if it counts.
pub type Row<'a> = (&'a [f32], Option<(usize, f32)>);

/// Contiguous rows, with losses and gradients by the contract.
#[derive(Clone, Debug)]
pub struct Batch {
    pub classes: usize,
    pub logits: Vec<f32>,
    pub labels: Vec<i64>,
    pub weights: Option<Vec<f32>>,
    pub ignore: Option<i64>,
}

impl Batch {
    /// The loss with the batch's weights and ignored index; a sum, so that its gradient is not divided.
    pub fn loss(&self) -> CrossEntropy<'_> {
        let mut loss = CrossEntropy::new(self.classes).reduction(Reduction::Sum);
        if let Some(weights) = &self.weights {
            loss = loss.class_weights(weights);
        }
        if let Some(label) = self.ignore {
            loss = loss.ignore_index(label);
        }
        loss
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let counted = |&label: &i64| {
            let class = usize::try_from(label).ok().filter(|_| Some(label) != self.ignore)?;
            Some((class, self.weights.as_ref().map_or(1.0, |weights| weights[class])))
        };
        self.logits.chunks_exact(self.classes).zip(self.labels.iter().map(counted))
    }

    /// The number of rows that count.
    pub fn counted(&self) -> usize {
        self.rows().filter(|(_, counted)| counted.is_some()).count()
    }

    pub fn denominator(&self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean(Denominator::Rows) => self.counted() as f64,
            Reduction::Mean(Denominator::WeightSum) => {
                self.rows().filter_map(|(_, counted)| counted).map(|(_, weight)| f64::from(weight)).sum()
            }
            other => panic!("no model of {other:?}"),
        }
    }

    pub fn expected_losses(&self) -> Vec<f64> {
        self.rows().map(|(row, counted)| counted.map_or(0.0, |(y, weight)| model::loss(row, y, weight))).collect()
    }

    /// The gradient, each row multiplied by `scale(row)`.
    pub fn expected_gradient(&self, scale: impl Fn(usize) -> f64) -> Vec<f64> {
        let of_row = |(index, (row, counted)): (usize, Row<'_>)| match counted {
            Some((y, weight)) => model::gradient(row, y, weight, scale(index)),
            None => vec![0.0; row.len()],
        };
        self.rows().enumerate().flat_map(of_row).collect()
    }
}
