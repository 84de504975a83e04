//! What the loss of a row is made of, and the row in f64, term by term, where the vectors cannot finish it.
//!
//! With the whole of the options the loss of a row is
//!
//! s·( a·(1 − p_y)^γ·(−log p_y) + Σ_c u_c·(−log p_c) + Σ_{j≠y} fp[y,j]·(−log(1 − p_j)) + λ·W·lse² )
//!
//! where a = (1 − ε)·w[y] for a label and 0 for target probabilities, u_c = w[c]·((1 − ε)·q_c + ε/C) with q = 0 for a
//! label, W = a + Σ u_c and s is the weight of the sample. Its gradient is
//!
//! s·( F·(p_i − [i = y]) + U·p_i − u_i + σ_i − p_i·Σσ + 2λ·W·lse·p_i ), σ_j = fp[y,j]·p_j/(1 − p_j), U = Σ u_c,
//!
//! where F = a·((1 − p_y)^γ + γ·(1 − p_y)^(γ−1)·p_y·(−log p_y)).

use crate::logits::Logits;
use crate::problem::Rows;

/// What the caller adds to or divides the logits by, before anything else: x/T + b.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adjustment<'a> {
    pub(crate) temperature: f32,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Adjustment<'_> {
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.temperature == 1.0 && self.bias.is_none()
    }

    /// The adjusted logit of a class.
    #[inline(always)]
    pub(crate) fn apply(&self, logit: f32, class: usize) -> f32 {
        let scaled = if self.temperature == 1.0 { logit } else { logit / self.temperature };
        self.bias.map_or(scaled, |bias| scaled + bias.get(class).copied().unwrap_or(0.0))
    }
}

/// The options that make up the loss of a row, validated.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) adjustment: Adjustment<'a>,
    /// Target probabilities, shaped as the logits.
    pub(crate) soft: Option<&'a [f32]>,
    /// ε
    pub(crate) smoothing: f32,
    /// fp, `[C, C]`
    pub(crate) costs: Option<&'a [f32]>,
    /// γ
    pub(crate) focal: f32,
    /// λ
    pub(crate) z_loss: f32,
}

impl Terms<'_> {
    /// Whether the loss is the weighted one of the logits as they are.
    pub(crate) fn are_plain(&self) -> bool {
        self.adjustment.is_none() && !self.spread() && self.costs.is_none() && self.focal == 0.0 && self.z_loss == 0.0
    }

    /// Whether there is a Σ_c u_c·(−log p_c).
    #[inline(always)]
    pub(crate) fn spread(&self) -> bool {
        self.soft.is_some() || self.smoothing != 0.0
    }

    /// ε/C
    #[inline(always)]
    pub(crate) fn evenly(&self) -> f32 {
        (f64::from(self.smoothing) / self.rows.classes() as f64) as f32
    }

    /// 1 − ε
    #[inline(always)]
    pub(crate) fn kept(&self) -> f64 {
        1.0 - f64::from(self.smoothing)
    }

    /// a
    #[inline(always)]
    pub(crate) fn own(&self, label: Option<usize>) -> f32 {
        label.map_or(0.0, |label| (self.kept() * f64::from(self.rows.weight(label))) as f32)
    }

    /// u_c
    #[inline(always)]
    fn of_class(&self, row: usize, class: usize) -> f64 {
        if !self.spread() {
            return 0.0;
        }
        let q = self.soft.map_or(0.0, |soft| soft.get(self.rows.element(row, class)).copied().unwrap_or(0.0));
        f64::from(self.rows.weight(class)) * (self.kept() * f64::from(q) + f64::from(self.evenly()))
    }

    /// Whether every weight of the row is 0, so that its logits do not matter.
    pub(crate) fn weigh_nothing_in_f64(&self, row: usize) -> bool {
        let label = self.rows.class(row);
        let mut classes = 0..self.rows.classes();
        self.own(label) == 0.0
            && classes.all(|class| self.of_class(row, class) == 0.0 && self.cost(label, class) == 0.0)
    }

    /// fp[y, c]
    #[inline(always)]
    fn cost(&self, label: Option<usize>, class: usize) -> f64 {
        let index = label.map(|label| label * self.rows.classes() + class);
        let cost = self.costs.zip(index).and_then(|(costs, index)| costs.get(index));
        cost.map_or(0.0, |&cost| f64::from(cost))
    }

    /// (1 − p_y)^γ and F/a, from 1 − p_y, p_y and −log p_y.
    #[inline(always)]
    pub(crate) fn focal_factors(&self, miss: f64, hit: f64, loss: f64) -> (f64, f64) {
        let gamma = f64::from(self.focal);
        let factor = libm::pow(miss, gamma);
        if loss == f64::INFINITY || miss == 0.0 {
            return (factor, factor);
        }
        (factor, factor + gamma * libm::pow(miss, gamma - 1.0) * hit * loss)
    }
}

/// One row in f64: any logits, any weights. The table of NaN and infinity of the contract.
pub(crate) struct RowInF64<'a> {
    terms: &'a Terms<'a>,
    row: usize,
    label: Option<usize>,
    /// The label, or no class: to be compared with classes. Of an `Option` compilers compare what is in it before whether
    /// there is anything, and tools that watch memory report that.
    own: usize,
    /// The first of the largest logits.
    index: usize,
    largest: f64,
    /// The largest of the others.
    second: f64,
    /// Σ over the others of exp(x_k − second)
    others: f64,
    /// log E = log Σ over the others of exp(x_k − largest)
    log_excluded: f64,
    /// log(1 + E) = −log p of the largest
    log1p: f64,
    any_nan: bool,
}

impl<'a> RowInF64<'a> {
    pub(crate) fn new(terms: &'a Terms<'a>, row: usize, logits: Logits<'_>) -> Self {
        let (classes, label) = (terms.rows.classes(), terms.rows.class(row));
        let mut this = Self {
            terms,
            row,
            label,
            own: label.unwrap_or(usize::MAX),
            index: 0,
            largest: f64::NEG_INFINITY,
            second: f64::NEG_INFINITY,
            others: 0.0,
            log_excluded: f64::NEG_INFINITY,
            log1p: 0.0,
            any_nan: false,
        };
        for class in 0..classes {
            let x = this.logit(logits, class);
            this.any_nan |= x.is_nan();
            if x > this.largest {
                (this.index, this.second, this.largest) = (class, this.largest, x);
            } else if x > this.second {
                this.second = x;
            }
        }
        if this.second > f64::NEG_INFINITY && !this.is_tied() {
            for class in (0..classes).filter(|&class| class != this.index) {
                this.others += libm::exp(this.logit(logits, class) - this.second);
            }
            this.log_excluded = libm::log(this.others) - (this.largest - this.second);
            this.log1p = libm::log1p(libm::exp(this.log_excluded));
        }
        this
    }

    fn logit(&self, logits: Logits<'_>, class: usize) -> f64 {
        let x = logits.number(self.terms.rows.element(self.row, class)).unwrap_or(f32::NAN);
        f64::from(self.terms.adjustment.apply(x, class))
    }

    /// Whether several logits are +∞, so that only the others have a probability.
    fn is_tied(&self) -> bool {
        self.second == f64::INFINITY
    }

    /// Whether no class has a probability.
    fn is_undefined(&self) -> bool {
        self.any_nan || self.largest == f64::NEG_INFINITY
    }

    /// log Σ exp(x), which has a value where the probabilities have none, but for a NaN.
    pub(crate) fn log_sum_exp(&self) -> f64 {
        if self.any_nan { f64::NAN } else { self.largest + self.log1p }
    }

    /// −log p of a class; NaN where it has none.
    pub(crate) fn minus_log_p_of(&self, logits: Logits<'_>, class: usize) -> f64 {
        if self.is_undefined() { f64::NAN } else { self.minus_log_p(self.logit(logits, class), class) }
    }

    /// −log p
    fn minus_log_p(&self, logit: f64, class: usize) -> f64 {
        if self.is_tied() && logit == f64::INFINITY {
            f64::NAN
        } else if class == self.index {
            self.log1p
        } else {
            (self.largest - logit) + self.log1p
        }
    }

    /// −log(1 − p)
    fn minus_log_q(&self, logit: f64, class: usize) -> f64 {
        if class == self.index && !self.is_tied() {
            self.log1p - self.log_excluded
        } else {
            -libm::log1p(-libm::exp(-self.minus_log_p(logit, class)))
        }
    }

    /// 1 − p
    fn q(&self, logit: f64, class: usize) -> f64 {
        if class == self.index && !self.is_tied() {
            libm::exp(self.log_excluded - self.log1p)
        } else {
            1.0 - libm::exp(-self.minus_log_p(logit, class))
        }
    }

    /// The loss of a row, the weight of its sample included.
    pub(crate) fn loss_of_row(terms: &'a Terms<'a>, row: usize, logits: Logits<'_>) -> f32 {
        let sample = f64::from(terms.rows.sample_weight(row));
        if sample == 0.0 { 0.0 } else { (Self::new(terms, row, logits).loss(logits) * sample) as f32 }
    }

    /// The loss of the row without the weight of its sample.
    pub(crate) fn loss(&self, logits: Logits<'_>) -> f64 {
        if self.is_undefined() {
            return f64::NAN;
        }
        let terms = self.terms;
        let own = f64::from(terms.own(self.label));
        let (mut loss, mut whole, mut unknown) = (0.0, own, false);
        // 0·∞ = 0; what has no value may still be too little to matter.
        let mut add = |weight: f64, value: f64| {
            if weight != 0.0 {
                unknown |= value.is_nan();
                loss += if value.is_nan() { 0.0 } else { weight * value };
            }
        };
        if let Some(label) = self.label {
            let x = self.logit(logits, label);
            let focal = if terms.focal == 0.0 { 1.0 } else { self.focal(x, label).0 };
            add(own * focal, self.minus_log_p(x, label));
        }
        if terms.spread() || terms.costs.is_some() {
            for class in 0..terms.rows.classes() {
                let u = terms.of_class(self.row, class);
                let x = self.logit(logits, class);
                whole += u;
                add(u, self.minus_log_p(x, class));
                add(terms.cost(self.label, class), self.minus_log_q(x, class));
            }
        }
        if terms.z_loss != 0.0 {
            let lse = self.log_sum_exp();
            add(f64::from(terms.z_loss) * whole, lse * lse);
        }
        if unknown && loss.is_finite() { f64::NAN } else { loss }
    }

    fn focal(&self, x: f64, label: usize) -> (f64, f64) {
        let loss = self.minus_log_p(x, label);
        self.terms.focal_factors(self.q(x, label), libm::exp(-loss), loss)
    }

    /// Writes the gradient times `factor` over `gradient`, which has the shape of the logits; `logits` is where they are
    /// when it is not over them.
    pub(crate) fn write_gradient(&self, logits: Option<&[f32]>, gradient: &mut [f32], factor: f64) {
        let (terms, classes) = (self.terms, self.terms.rows.classes());
        let mut sums = GradientSums::default();
        let defined = !self.is_undefined() && !self.is_tied();
        if defined {
            let x = Logits::F32(logits.unwrap_or(gradient));
            if let Some(label) = self.label {
                let own = f64::from(terms.own(self.label));
                let focal = if terms.focal == 0.0 { 1.0 } else { self.focal(self.logit(x, label), label).1 };
                sums.own = own * focal;
                sums.whole = own;
            }
            for class in 0..classes {
                let (u, cost) = (terms.of_class(self.row, class), terms.cost(self.label, class));
                sums.spread += u;
                if class == self.index {
                    sums.cost_of_largest = cost;
                } else if cost != 0.0 {
                    let logit = self.logit(x, class);
                    sums.odds += cost * libm::exp(-self.minus_log_p(logit, class)) / self.q(logit, class);
                }
            }
            sums.whole += sums.spread;
        }
        for class in 0..classes {
            let logit = self.logit(Logits::F32(logits.unwrap_or(gradient)), class);
            let value = match defined {
                _ if factor == 0.0 => 0.0,
                true => self.element(&sums, logit, class) * factor,
                false => f64::NAN,
            };
            if let Some(to) = gradient.get_mut(terms.rows.element(self.row, class)) {
                *to = value as f32;
            }
        }
    }

    fn element(&self, sums: &GradientSums, logit: f64, class: usize) -> f64 {
        let terms = self.terms;
        let largest = class == self.index;
        let (p, q) = (libm::exp(-self.minus_log_p(logit, class)), self.q(logit, class));
        let u = terms.of_class(self.row, class);
        let own = if class == self.own { -sums.own * q } else { sums.own * p };
        let spread = if largest { (sums.spread - u) - sums.spread * q } else { sums.spread * p - u };
        let mut value = own + spread - p * sums.odds;
        if sums.cost_of_largest != 0.0 {
            let p_largest = libm::exp(-self.log1p);
            let of_others = if largest { -1.0 } else { libm::exp(logit - self.second) / self.others };
            value -= sums.cost_of_largest * p_largest * of_others;
        }
        let cost = terms.cost(self.label, class);
        if cost != 0.0 && !largest {
            value += cost * p / q;
        }
        if terms.z_loss != 0.0 && sums.whole != 0.0 && p != 0.0 {
            value += 2.0 * f64::from(terms.z_loss) * sums.whole * self.log_sum_exp() * p;
        }
        value
    }
}

/// What the elements of a gradient have in common.
#[derive(Default)]
struct GradientSums {
    /// F
    own: f64,
    /// U
    spread: f64,
    /// W
    whole: f64,
    /// Σ σ_j over all but the largest
    odds: f64,
    cost_of_largest: f64,
}
