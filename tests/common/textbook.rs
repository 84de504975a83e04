//! The losses of one row in f64, written as the textbook has them, with the contract's table of NaN and infinity.

/// A sum, and the sum of the magnitudes of its terms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    pub(crate) size: f64,
    /// Some term has no limit: the sum is NaN unless another term is infinite.
    unknown: bool,
}

impl Sum {
    /// Adds a term; 0·∞ = 0.
    pub(crate) fn add(&mut self, weight: f64, value: f64) {
        if weight == 0.0 {
        } else if value.is_nan() {
            self.unknown = true;
        } else if value != 0.0 {
            self.value += weight * value;
            self.size += (weight * value).abs();
        }
    }

    fn done(self) -> Self {
        if self.unknown && self.value.is_finite() { Self { value: f64::NAN, ..self } } else { self }
    }

    /// One term.
    pub(crate) fn of(value: f64) -> Self {
        let mut sum = Self::default();
        sum.add(1.0, value);
        sum.done()
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, size: self.size * factor.abs(), ..self }
    }

    pub(crate) const NAN: Self = Self { value: f64::NAN, size: f64::NAN, unknown: false };
    pub(crate) const ZERO: Self = Self { value: 0.0, size: 0.0, unknown: false };
}

/// −log p_k, −log(1 − p_k), p_k and 1 − p_k of each class; NaN where undefined.
pub(crate) struct Probabilities {
    pub(crate) minus_log_p: Vec<f64>,
    pub(crate) minus_log_q: Vec<f64>,
    pub(crate) p: Vec<f64>,
    pub(crate) q: Vec<f64>,
    /// The first of the largest logits.
    pub(crate) largest: usize,
    /// p_k/(1 − p_largest) of the other classes; NaN where undefined.
    pub(crate) share_of_others: Vec<f64>,
    pub(crate) log_sum_exp: f64,
    /// A logit is NaN, or all are −∞.
    pub(crate) undefined: bool,
    /// How many logits are +∞.
    pub(crate) infinite: usize,
}

impl Probabilities {
    pub(crate) fn new(row: &[f32]) -> Self {
        let x: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let classes = x.len();
        let m = (0..classes).fold(0, |best, k| if x[k] > x[best] { k } else { best });
        let any_nan = x.iter().any(|x| x.is_nan());
        let undefined = any_nan || x.iter().all(|&x| x == f64::NEG_INFINITY);
        let infinite = x.iter().filter(|&&x| x == f64::INFINITY).count();
        // Relative to the second largest, so that a sum that is negligible beside the largest does not underflow.
        let others = || (0..classes).filter(|&k| k != m);
        let second = others().fold(f64::NEG_INFINITY, |second, k| second.max(x[k]));
        let scaled: Vec<f64> = x.iter().map(|&x| if x == second { 1.0 } else { (x - second).exp() }).collect();
        let sum: f64 = others().map(|k| scaled[k]).sum();
        let share_of_others = scaled.iter().map(|x| if second == f64::NEG_INFINITY { f64::NAN } else { x / sum });
        let share_of_others = share_of_others.collect();
        if undefined || infinite > 0 {
            let of = |known: f64, infinite_alone: f64| {
                let of_class = |&x: &f64| match (x == f64::INFINITY, infinite) {
                    _ if undefined => f64::NAN,
                    (true, 1) => infinite_alone,
                    (true, _) => f64::NAN,
                    (false, _) => known,
                };
                x.iter().map(of_class).collect()
            };
            let log_sum_exp = if any_nan { f64::NAN } else { x[m] };
            return Self {
                minus_log_p: of(f64::INFINITY, 0.0),
                minus_log_q: of(0.0, f64::INFINITY),
                p: of(0.0, 1.0),
                q: of(1.0, 0.0),
                largest: m,
                share_of_others,
                log_sum_exp,
                undefined,
                infinite,
            };
        }
        // log E and log(1 + E), where E = Σ_{k≠m} exp(x_k − x_m).
        let log_rest = if second == f64::NEG_INFINITY { second } else { sum.ln() + (second - x[m]) };
        let log_all = log_rest.exp().ln_1p();
        let minus_log_p: Vec<f64> =
            (0..classes).map(|k| if k == m { log_all } else { (x[m] - x[k]) + log_all }).collect();
        let p: Vec<f64> = minus_log_p.iter().map(|x| (-x).exp()).collect();
        let minus_log_q = (0..classes).map(|k| if k == m { log_all - log_rest } else { -(-p[k]).ln_1p() }).collect();
        let q = (0..classes).map(|k| if k == m { (log_rest - log_all).exp() } else { 1.0 - p[k] }).collect();
        let log_sum_exp = x[m] + log_all;
        Self { minus_log_p, minus_log_q, p, q, largest: m, share_of_others, log_sum_exp, undefined, infinite }
    }
}

/// The contract's bound for every loss but the weighted one, relative to [`Sum::size`]; see [`Terms::ulps`].
pub(crate) const COMBINED_ULPS: f64 = 6.0;

/// The rounding error of a double-float in units of that of f32.
const PAIR: f64 = 1.0 / (1 << 24) as f64;

/// The weights of the terms of a row,
///
/// own·(1 − p_y)^γ·(−log p_y) + Σ_c u_c·(−log p_c) + Σ_{j≠y} fp_j·(−log(1 − p_j)) + λ·W·lse², W = own + Σ u.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) label: usize,
    pub(crate) own: f64,
    /// u_c, or empty
    pub(crate) spread: Vec<f64>,
    /// fp_j, or empty
    pub(crate) costs: Vec<f64>,
    pub(crate) focal: f64,
    pub(crate) z_loss: f64,
}

impl Terms {
    /// The contract's bound for loss and gradient: a large γ multiplies the relative error of a small 1 − p_y.
    pub(crate) fn ulps(&self) -> f64 {
        COMBINED_ULPS.max(2.0 * (self.focal + 1.0))
    }

    /// Whether all weights are 0, so that the loss is 0 whatever the logits.
    pub(crate) fn weightless(&self) -> bool {
        self.own == 0.0 && self.spread.iter().chain(&self.costs).all(|&weight| weight == 0.0)
    }

    fn whole(&self) -> f64 {
        self.own + self.spread.iter().sum::<f64>()
    }

    /// Σ|weight| − |Σ weight|
    fn cancelled(&self) -> f64 {
        self.own.abs() + self.spread.iter().map(|u| u.abs()).sum::<f64>() - self.whole().abs()
    }

    pub(crate) fn loss(&self, row: &Probabilities) -> Sum {
        if self.weightless() {
            return Sum::ZERO;
        }
        if row.undefined {
            return Sum::NAN;
        }
        let mut loss = Sum::default();
        if self.own != 0.0 {
            let (miss, of_label) = (row.q[self.label], row.minus_log_p[self.label]);
            let factor = if self.focal == 0.0 { 1.0 } else { miss.powf(self.focal) };
            loss.add(if factor.is_nan() { self.own } else { self.own * factor }, of_label);
        }
        for (&u, &value) in self.spread.iter().zip(&row.minus_log_p) {
            loss.add(u, value);
        }
        for (&cost, &value) in self.costs.iter().zip(&row.minus_log_q) {
            loss.add(cost, value);
        }
        let square = row.log_sum_exp * row.log_sum_exp;
        loss.add(self.z_loss * self.whole(), square);
        loss.size += self.z_loss * self.cancelled() * if self.z_loss == 0.0 { 0.0 } else { square };
        loss.done()
    }

    /// The gradient with respect to each logit; `None` for an element that has no limit and no rule in the contract.
    pub(crate) fn gradient(&self, row: &Probabilities) -> Vec<Option<Sum>> {
        let classes = row.p.len();
        if self.weightless() {
            return vec![Some(Sum::ZERO); classes];
        }
        if row.undefined || row.infinite > 1 {
            return vec![Some(Sum::NAN); classes];
        }
        let m = row.largest;
        let mut of_label = 0.0;
        if self.own != 0.0 {
            let (miss, loss, hit) = (row.q[self.label], row.minus_log_p[self.label], row.p[self.label]);
            of_label = self.own;
            if self.focal != 0.0 {
                let slope = if miss == 0.0 || loss == f64::INFINITY {
                    0.0
                } else {
                    self.focal * miss.powf(self.focal - 1.0) * hit * loss
                };
                of_label *= miss.powf(self.focal) + slope;
            }
        }
        let u = |k: usize| self.spread.get(k).copied().unwrap_or(0.0);
        let cost = |k: usize| self.costs.get(k).copied().unwrap_or(0.0);
        // Sums over the classes but one, of the weights and of their magnitudes.
        let over = |of: &dyn Fn(usize) -> f64| {
            let (sum, size) = (0..classes).map(of).fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            let without_largest = (0..classes).filter(|&k| k != m).map(of);
            let of_largest = without_largest.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            move |k: usize, own: f64| if k == m { of_largest } else { (sum - own, size - own.abs()) }
        };
        let spread_of_others = over(&u);
        let odds = |k: usize| if k == m || cost(k) == 0.0 { 0.0 } else { cost(k) * row.p[k] / row.q[k] };
        let odds_of_others = over(&odds);
        let whole = self.z_loss * self.whole();
        (0..classes)
            .map(|i| {
                let (p, q) = (row.p[i], row.q[i]);
                let mut sum = Sum::default();
                sum.add(of_label, if i == self.label { -q } else { p });
                let (spread, size) = spread_of_others(i, u(i));
                sum.value += spread * p - u(i) * q;
                // The double-float that holds the sum of the weights may lose the smaller ones.
                sum.size += size * p + (u(i) * q).abs() + (size + u(i).abs()) * p * PAIR;
                sum.add(cost(i), p);
                let (odds, size) = odds_of_others(i, odds(i));
                sum.value -= odds * p;
                sum.size += size * p;
                if i != m && cost(m) != 0.0 {
                    let share = row.share_of_others[i];
                    if share.is_nan() {
                        return None;
                    }
                    sum.add(cost(m), -row.p[m] * share);
                }
                if whole != 0.0 && p != 0.0 {
                    sum.add(2.0 * whole * row.log_sum_exp, p);
                    sum.size += 2.0 * self.z_loss * self.cancelled() * (row.log_sum_exp * p).abs();
                }
                Some(sum.done())
            })
            .collect()
    }
}

/// Checks that `found` is within `ulps` of `expected`·`factor`, relative to its size.
pub(crate) fn compare(found: f32, expected: Sum, factor: f64, ulps: f64) -> Result<(), String> {
    let (value, size) = (expected.value * factor, expected.size * factor.abs());
    let wrong = |error: f64| Err(format!("found {found:e}, expected {value:e} of terms of {size:e}: {error} ulp"));
    let (largest, smallest) = (f64::from(f32::MAX), f64::from(f32::MIN_POSITIVE));
    if value.is_nan() {
        return if found.is_nan() { Ok(()) } else { wrong(f64::NAN) };
    }
    if value.is_infinite() {
        return if f64::from(found) == value { Ok(()) } else { wrong(f64::INFINITY) };
    }
    if found.is_nan() {
        return wrong(f64::NAN);
    }
    if size > largest * (1.0 - 1e-5) {
        // Near the largest f32 and beyond, only the sign is checked, unless terms cancel.
        let clear = value.abs() > size * 1e-6 && found != 0.0;
        return if !clear || value.is_sign_negative() == found.is_sign_negative() { Ok(()) } else { wrong(f64::NAN) };
    }
    let error = (f64::from(found) - value).abs();
    // Near the smallest normal f32 each of several terms may have lost its subnormal part.
    if size < smallest || ulps >= COMBINED_ULPS && size < 64.0 * smallest {
        return if error <= 2.0 * smallest { Ok(()) } else { wrong(f64::INFINITY) };
    }
    let error = error / super::common::ulp(size);
    if error <= ulps { Ok(()) } else { wrong(error) }
}
