//! The binary and multi-label loss: each logit and its gradient within 6 ulp of the sum of the magnitudes of its terms.

use crate::batch::{Factors, reduction, zero_denominator};
use crate::generate::{any, costs, optional_costs};
use crate::textbook::{COMBINED_ULPS, Sum, compare};
use crate::weighted::{check_total, same_numbers, same_summary};
use crate::{SameBits, backends};
use arbitrary::{Result, Unstructured};
use rwwce::BinaryCrossEntropy;

#[derive(Debug)]
pub(crate) struct Case {
    labels: usize,
    pub(crate) logits: Vec<f32>,
    pub(crate) targets: Vec<f32>,
    misses: Option<Vec<f32>>,
    false_alarms: Option<Vec<f32>>,
    samples: Option<Vec<f32>>,
}

impl Case {
    pub(crate) fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let labels = u.int_in_range(1..=20)?;
        let len = labels * u.int_in_range(0..=60 / labels)?;
        let logit = |u: &mut Unstructured<'_>| match u.arbitrary::<u8>()? {
            0..160 => Ok(f32::from(u.arbitrary::<i16>()?) / 256.0),
            _ => any(u),
        };
        let target = |u: &mut Unstructured<'_>| {
            let choice = u.arbitrary::<u8>()?;
            Ok(match choice {
                0..100 => 0.0,
                100..200 => 1.0,
                200..210 => f32::EPSILON,
                210..220 => 1.0 - f32::EPSILON,
                _ => f32::from(choice - 219) / 37.0,
            })
        };
        let mut numbers = |of: &dyn Fn(&mut Unstructured<'_>) -> Result<f32>| -> Result<Vec<f32>> {
            (0..len).map(|_| of(u)).collect()
        };
        let (logits, targets) = (numbers(&logit)?, numbers(&target)?);
        Ok(Self {
            labels,
            logits,
            targets,
            misses: optional_costs(u, labels, false)?,
            false_alarms: optional_costs(u, labels, false)?,
            samples: if u.arbitrary()? { Some(costs(u, len, false)?) } else { None },
        })
    }

    pub(crate) fn loss(&self) -> BinaryCrossEntropy<'_> {
        let mut loss = BinaryCrossEntropy::new(self.labels);
        if let Some(costs) = &self.misses {
            loss = loss.miss_costs(costs);
        }
        if let Some(costs) = &self.false_alarms {
            loss = loss.false_alarm_costs(costs);
        }
        if let Some(weights) = &self.samples {
            loss = loss.sample_weights(weights);
        }
        loss
    }

    fn cost(&self, of: &Option<Vec<f32>>, at: usize) -> f64 {
        of.as_ref().map_or(1.0, |costs| f64::from(costs[at % self.labels]))
    }

    pub(crate) fn sample(&self, at: usize) -> f64 {
        self.samples.as_ref().map_or(1.0, |weights| f64::from(weights[at]))
    }

    /// fn·t and fp·(1 − t).
    pub(crate) fn weights(&self, at: usize) -> (f64, f64) {
        let target = f64::from(self.targets[at]);
        (self.cost(&self.misses, at) * target, self.cost(&self.false_alarms, at) * (1.0 - target))
    }
}

/// Loss on·(−log σ(z)) + off·(−log(1 − σ(z))) of a logit, and its derivative.
pub(crate) fn terms(z: f32, on: f64, off: f64) -> (Sum, Sum) {
    let z = f64::from(z);
    let minus_log_sigmoid = |z: f64| if z > 0.0 { (-z).exp().ln_1p() } else { -z + z.exp().ln_1p() };
    let sigmoid = |z: f64| if z > 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) };
    if z.is_nan() && (on != 0.0 || off != 0.0) {
        return (Sum::NAN, Sum::NAN);
    }
    let (mut loss, mut slope) = (Sum::default(), Sum::default());
    loss.add(on, minus_log_sigmoid(z));
    loss.add(off, minus_log_sigmoid(-z));
    slope.add(on, -sigmoid(-z));
    slope.add(off, sigmoid(z));
    (loss, slope)
}

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let case = Case::new(u)?;
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let len = case.logits.len();
    let factors = Factors::new(u, len)?;
    let backends = backends(u)?;
    let shown = (&case, reduction, policy, &factors);
    let mut same = SameBits::default();
    for backend in backends {
        let loss = case.loss().reduction(reduction).zero_denominator(policy).backend(backend);
        let (mut losses, mut gradient, mut over) = (vec![7.0; len], vec![7.0; len], case.logits.clone());
        let (z, t, up) = (&case.logits, &case.targets, factors.upstream());
        let summaries = [
            loss.row_losses(z, t, &mut losses),
            loss.loss(z, t),
            loss.gradient(z, t, up, &mut gradient),
            loss.gradient_in_place(&mut over, t, up),
        ]
        .map(Result::unwrap);
        let summary = summaries[0];
        for other in &summaries {
            assert!(same_summary(other, &summary), "{backend}: {summaries:?}\n{shown:?}");
        }
        let samples = (0..len).map(|at| case.sample(at));
        let weights = (0..len).map(|at| case.sample(at) * (case.weights(at).0 + case.weights(at).1));
        check_total(&losses, len, 1, samples, weights, reduction, &summary, &shown);
        assert!(same_numbers(&gradient, &over), "{backend} in place: {over:?}, {gradient:?}\n{shown:?}");
        for at in 0..len {
            let (on, off) = case.weights(at);
            let sample = case.sample(at);
            let (loss, slope) = if sample == 0.0 { (Sum::ZERO, Sum::ZERO) } else { terms(z[at], on, off) };
            if let Err(error) = compare(losses[at], loss, sample, COMBINED_ULPS) {
                panic!("{backend}, loss {at}: {error}\n{shown:?}");
            }
            let of_row = factors.of_row(at, summary.denominator, policy);
            let nothing = of_row == 0.0 || sample == 0.0 || on == 0.0 && off == 0.0;
            let (slope, factor) = if nothing { (Sum::ZERO, 0.0) } else { (slope, of_row * sample) };
            if let Err(error) = compare(gradient[at], slope, factor, COMBINED_ULPS) {
                panic!("{backend}, gradient {at}: {error}\n{shown:?}");
            }
        }
        same.check(backend, [&losses[..], &[summary.loss], &gradient], &shown);
    }
    Ok(())
}
