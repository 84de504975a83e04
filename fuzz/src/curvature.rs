//! Second derivatives: within 2 ulp of the sum of the magnitudes of their terms, and the bound never below the Hessian.

use crate::batch::{Batch, Content, Factors, reduction, zero_denominator};
use crate::binary::Case;
use crate::common::Rng;
use crate::options::Options;
use crate::textbook::{Probabilities, Sum, Terms, compare};
use crate::weighted::SMALLEST_PROBABILITY;
use crate::{SameBits, backends};
use arbitrary::{Result, Unstructured};
use rwwce::{Argument, CrossEntropy, Curvature, Error};

/// The documented bound.
const ULPS: f64 = 2.0;

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    if u.ratio(1, 6)? { binary(u) } else { logits(u) }
}

fn logits(u: &mut Unstructured<'_>) -> Result<()> {
    let is_soft = u.arbitrary::<bool>()?;
    let content = Content {
        mostly_finite: true,
        negative_weights: u.arbitrary()?,
        // Soft targets have no ignored rows.
        ignored: !is_soft,
        moderate_weights: false,
        no_tiny_weights: true,
        most_classes: 300,
    };
    let batch = Batch::new(u, content)?;
    let mut options = Options::mild(u, &batch)?;
    if u.ratio(15, 16)? {
        (options.focal, options.z_loss) = (0.0, 0.0);
    }
    if content.negative_weights {
        options.costs = None;
    }
    let soft = is_soft.then(|| options.soft(&batch));
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let factors = Factors::new(u, batch.rows())?;
    let which = *u.choose(&[Curvature::Diagonal, Curvature::Bound])?;
    let mut directions = Rng(u.arbitrary()?);
    let backends = backends(u)?;
    let case = (&batch, &options, &soft, reduction, policy, &factors, which);
    let known: Vec<Option<Row>> =
        (0..batch.rows()).map(|row| Row::new(&batch, &options, soft.as_deref(), row)).collect();
    let mut same = SameBits::default();
    for backend in backends {
        let loss = options.adjust(batch.loss().reduction(reduction).zero_denominator(policy).backend(backend));
        let (found, denominator) = call(loss, &batch, &options, soft.as_deref(), &factors, which);
        if let Some(refused) = refused(&options, soft.is_some()) {
            assert_eq!(denominator, Err(refused), "{backend}\n{case:?}");
            assert!(found.iter().all(|x| x.to_bits() == crate::batch::PADDING.to_bits()), "{backend}\n{case:?}");
            continue;
        }
        let denominator = denominator.unwrap();
        batch.check_padding(&found);
        for (row, known) in known.iter().enumerate() {
            let found = batch.row(&found, row);
            let sample = batch.sample(row);
            let of_row = factors.of_row(row, denominator, policy);
            let Some(known) =
                known.as_ref().filter(|known| !known.terms.weightless() && sample != 0.0 && of_row != 0.0)
            else {
                assert!(found.iter().all(|&x| x == 0.0), "{backend} row {row}: {found:?}\n{case:?}");
                continue;
            };
            let temperature = f64::from(options.temperature);
            let mut factor = of_row * sample / (temperature * temperature);
            let holds = factor > 0.0;
            if which == Curvature::Bound {
                factor = factor.abs();
            }
            if let Err(error) = known.check(&found, which, factor) {
                panic!("{backend}, row {row}: {error}\n{case:?}");
            }
            if which == Curvature::Bound && holds {
                let below = (0..8).find_map(|_| known.below(&found, factor, &mut directions));
                assert!(below.is_none(), "{backend}, row {row}: {below:?}\n{found:?}\n{case:?}");
            }
        }
        same.check(backend, [&found[..]], &case);
    }
    Ok(())
}

/// The curvature, and the denominator or the error.
fn call<'a>(
    loss: CrossEntropy<'a>,
    batch: &Batch,
    options: &'a Options,
    soft: Option<&[f32]>,
    factors: &Factors,
    which: Curvature,
) -> (Vec<f32>, core::result::Result<f64, Error>) {
    let (mut found, x, up) = (batch.space(), &batch.logits, factors.upstream());
    let (written, summary) = match soft {
        Some(q) => {
            let loss = options.of_soft(loss);
            (loss.soft_curvature(x, q, up, which, &mut found), loss.soft_loss(x, q))
        }
        None => {
            let loss = options.of_labels(loss);
            (loss.curvature(x, &batch.labels, up, which, &mut found), loss.loss(x, &batch.labels))
        }
    };
    (found, written.map(|()| summary.unwrap().denominator))
}

/// The error for focal factor and z-loss, which have no second derivative here.
fn refused(options: &Options, soft: bool) -> Option<Error> {
    let set = [(Argument::Focal, if soft { 0.0 } else { options.focal }), (Argument::ZLoss, options.z_loss)];
    let (option, _) = set.into_iter().find(|(_, number)| *number != 0.0)?;
    Some(Error::Incompatible { option, with: Argument::Curvature })
}

/// The probabilities of a row and the weights of its terms.
struct Row {
    of: Probabilities,
    terms: Terms,
}

impl Row {
    fn new(batch: &Batch, options: &Options, soft: Option<&[f32]>, row: usize) -> Option<Self> {
        let terms = match soft {
            Some(soft) => options.terms_of_soft(batch, &batch.row(soft, row)),
            None => options.terms_of_label(batch, batch.class(row)?),
        };
        Some(Self { of: Probabilities::new(&options.adjusted(&batch.row(&batch.logits, row))), terms })
    }

    fn cost(&self, class: usize) -> f64 {
        self.terms.costs.get(class).copied().unwrap_or(0.0)
    }

    /// W = own + Σ u, and the sum of the magnitudes.
    fn weight(&self) -> (f64, f64) {
        let spread = || self.terms.spread.iter().chain([&self.terms.own]);
        (spread().sum(), spread().map(|u| u.abs()).sum())
    }

    /// W·p_i·(1 − p_i) + fp_i·p_i − p_i·(1 − p_i)·Σ_j s_j + p_i²·Σ_{j≠i} s_j/(1 − p_j), s_j = fp_j·p_j/(1 − p_j).
    fn diagonal(&self, i: usize) -> Option<Sum> {
        let Probabilities { p, q, largest, share_of_others, .. } = &self.of;
        let (weight, size) = self.weight();
        let mut sum = Sum::default();
        sum.add(weight, p[i] * q[i]);
        // The sum of the weights is a double-float.
        sum.size += size * p[i] * q[i] / f64::from(1 << 24);
        sum.add(self.cost(i), p[i]);
        for j in (0..p.len()).filter(|&j| self.cost(j) != 0.0) {
            // p_i/(1 − p_j), known even where 1 − p_j underflows.
            let share = match j == *largest && i != j {
                true => share_of_others[i],
                false => p[i] / q[j],
            };
            if i == j {
                sum.add(self.cost(j), -p[i] * p[j]);
            } else if share.is_nan() {
                return None;
            } else {
                sum.add(self.cost(j), -p[j] * q[i] * share);
                sum.add(self.cost(j), p[j] * share * share);
            }
        }
        Some(sum)
    }

    /// 2·p_i·((|W| + fp_i)·(1 − p_i) + Σ_{j≠i} fp_j·p_j)
    fn bound(&self, i: usize) -> Sum {
        let (p, q, (weight, size)) = (&self.of.p, &self.of.q, self.weight());
        let mut sum = Sum::default();
        sum.add(2.0 * (weight.abs() + self.cost(i)), p[i] * q[i]);
        for j in (0..p.len()).filter(|&j| j != i) {
            sum.add(2.0 * self.cost(j), p[i] * p[j]);
        }
        sum.size += 2.0 * size * p[i] * q[i] / f64::from(1 << 24);
        sum
    }

    fn check(&self, found: &[f32], which: Curvature, factor: f64) -> core::result::Result<(), String> {
        let undefined = self.of.undefined || self.of.infinite > 1;
        for (class, &found) in found.iter().enumerate() {
            let expected = match which {
                _ if undefined => Some(Sum::NAN),
                Curvature::Bound => Some(self.bound(class)),
                _ => self.diagonal(class),
            };
            let Some(expected) = expected else { continue };
            if found == 0.0 && self.of.p[class].min(self.of.q[class]) < SMALLEST_PROBABILITY {
                continue;
            }
            near(found, expected, factor).map_err(|error| format!("class {class}: {error}"))?;
        }
        Ok(())
    }

    /// A random v with vᵀHv > vᵀ·diag(bound)·v, and the two sides.
    fn below(&self, bound: &[f32], factor: f64, rng: &mut Rng) -> Option<(Vec<f64>, f64, f64)> {
        let Probabilities { p, largest, share_of_others, .. } = &self.of;
        if self.of.undefined || self.of.infinite > 0 || share_of_others.iter().any(|share| share.is_nan()) {
            return None;
        }
        let v: Vec<f64> = p.iter().map(|_| rng.between(-1.0, 1.0).into()).collect();
        // vᵀ·(diag(p) − p·pᵀ)·v
        let variance = |p: &[f64]| {
            let mean: f64 = p.iter().zip(&v).map(|(p, v)| p * v).sum();
            p.iter().zip(&v).map(|(p, v)| p * (v - mean) * (v - mean)).sum::<f64>()
        };
        let whole = self.weight().0 + self.terms.costs.iter().sum::<f64>();
        let mut steep = whole * variance(p);
        // Rounding error in f64 of the differences below.
        let rounded = steep.abs() * 1e-14;
        for j in (0..p.len()).filter(|&j| self.cost(j) != 0.0) {
            let share = |k: usize| if j == *largest { share_of_others[k] } else { p[k] / self.of.q[j] };
            let others: Vec<f64> = (0..p.len()).map(|k| if k == j { 0.0 } else { share(k) }).collect();
            steep -= self.cost(j) * variance(&others);
        }
        let steep = steep * factor;
        let bounded: f64 = v.iter().zip(bound).map(|(v, &b)| v * v * f64::from(b)).sum();
        let lost = factor * (rounded + self.weight().1.max(whole.abs()) * 1e-30);
        let lost = v.len() as f64 * f64::from(f32::MIN_POSITIVE) + lost;
        (steep > bounded * (1.0 + 1e-6) + lost).then_some((v, steep, bounded))
    }
}

/// Near the smallest normal f32 each term may have lost its subnormal part.
fn near(found: f32, expected: Sum, factor: f64) -> core::result::Result<(), String> {
    let smallest = f64::from(f32::MIN_POSITIVE);
    let error = (f64::from(found) - expected.value * factor).abs();
    if expected.size * factor.abs() < 64.0 * smallest && error <= 2.0 * smallest {
        return Ok(());
    }
    compare(found, expected, factor, ULPS)
}

/// s·(fn·t + fp·(1 − t))·σ(z)·σ(−z)
fn binary(u: &mut Unstructured<'_>) -> Result<()> {
    let case = Case::new(u)?;
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let factors = Factors::new(u, case.logits.len())?;
    let backends = backends(u)?;
    let shown = (&case, reduction, policy, &factors);
    let mut same = SameBits::default();
    for backend in backends {
        let loss = case.loss().reduction(reduction).zero_denominator(policy).backend(backend);
        let mut found = vec![7.0; case.logits.len()];
        loss.curvature(&case.logits, &case.targets, factors.upstream(), &mut found).unwrap();
        let denominator = loss.loss(&case.logits, &case.targets).unwrap().denominator;
        for (at, (&found, &z)) in found.iter().zip(&case.logits).enumerate() {
            let (on, off) = case.weights(at);
            let factor = factors.of_row(at, denominator, policy) * case.sample(at);
            if factor == 0.0 || on + off == 0.0 || case.sample(at) == 0.0 {
                assert!(found == 0.0, "{backend} {at}: {found:e}\n{shown:?}");
                continue;
            }
            let z = f64::from(z);
            let mut expected = Sum::of(1.0 / ((1.0 + (-z).exp()) * (1.0 + z.exp()))).times(on + off);
            if z.is_nan() {
                expected = Sum::NAN;
            }
            if let Err(error) = near(found, expected, factor) {
                panic!("{backend}, logit {at}: {error}\n{shown:?}");
            }
        }
        same.check(backend, [&found[..]], &shown);
    }
    Ok(())
}
