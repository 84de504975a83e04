//! What the integration tests share: the textbook in f64, ulps, and logits of every kind.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use rwwce::Backend;

/// A small generator of numbers (splitmix64), so that every run tests the same.
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
    /// Around ±256, where the reference is treated differently.
    Threshold,
    /// ±1e38
    Huge,
    /// Subnormal logits.
    Denormal,
    /// Many −∞, never at the label.
    Masked,
    /// The others trail by 87 to 110: the loss is near the smallest normal number.
    Tiny,
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

impl Regime {
    /// A row of this kind and its label.
    pub fn row(self, classes: usize, rng: &mut Rng) -> (Vec<f32>, usize) {
        let label = rng.below(classes);
        let centre = match self {
            Self::Offset => 1e8 * if rng.below(2) == 0 { 1.0 } else { -1.0 },
            Self::SmallOffset => rng.between(-250.0, 250.0),
            Self::Threshold => [-256.0, 256.0, 255.9, -255.9][rng.below(4)],
            Self::Tiny => rng.between(-120.0, 120.0),
            _ => 0.0,
        };
        let tie = rng.between(-50.0, 50.0);
        let mut row: Vec<f32> = (0..classes)
            .map(|_| match self {
                Self::Ordinary | Self::Confident | Self::Wrong | Self::Masked => rng.between(-10.0, 10.0),
                Self::Uniform => tie + rng.between(0.0, 1e-6),
                Self::Ties => tie,
                Self::Spread => rng.between(-100.0, 100.0),
                Self::Offset => centre + 8.0 * rng.between(-3.0, 3.0).round(),
                Self::SmallOffset => centre + rng.between(-10.0, 10.0),
                Self::Threshold => centre + rng.between(-1.0, 1.0),
                Self::Huge => rng.between(-1e38, 1e38),
                Self::Denormal => f32::from_bits(rng.below(1 << 23) as u32),
                Self::Tiny => centre - rng.between(87.0, 110.0),
            })
            .collect();
        match self {
            Self::Confident => row[label] = 10.0 + rng.between(5.0, 90.0),
            Self::Wrong => row[label] = -10.0 - rng.between(0.0, 90.0),
            Self::Tiny => row[label] = centre,
            Self::Masked => {
                for (class, x) in row.iter_mut().enumerate() {
                    if class != label && rng.below(2) == 0 {
                        *x = f32::NEG_INFINITY;
                    }
                }
            }
            _ => {}
        }
        (row, label)
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

/// The distance of `found` from `expected` in ulps; 0 for results that are both beyond the range, infinity where the
/// classes differ.
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

/// Whether a backend is slow enough here that only small problems make sense: software FMA.
pub fn is_slow(backend: Backend) -> bool {
    backend.name() == "scalar-fma"
}

/// Every backend of this machine, printed so that a missing one shows.
pub fn backends() -> Vec<Backend> {
    let backends: Vec<Backend> = Backend::available().collect();
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    println!("backends: {}", names.join(" "));
    assert!(backends.contains(&Backend::active()));
    backends
}

/// The bits of each number: NaN equals NaN.
pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}
