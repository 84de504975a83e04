//! Calls split over threads have the bits, errors and untouched outputs of one thread.

use crate::backends;
use crate::batch::{Batch, Content, Factors, reduction, zero_denominator};
use crate::common::{Rng, bits, pattern};
use crate::generate::any;
use crate::options::Options;
use crate::weighted::same_summary;
use arbitrary::{Result, Unstructured};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rwwce::{Backend, CrossEntropy, Error, Summary};
use std::sync::OnceLock;

/// Calls with so many logits are split.
const LEAST: usize = 1 << 18;

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let content = Content {
        mostly_finite: true,
        negative_weights: false,
        ignored: true,
        moderate_weights: false,
        no_tiny_weights: false,
        most_classes: 600,
    };
    let batch = Batch::new(u, content)?;
    let options = Options::mild(u, &batch)?;
    let (reduction, policy) = (reduction(u)?, zero_denominator(u)?);
    let factors = Factors::new(u, batch.rows())?;
    let large = Large::new(u, &batch, &options, factors)?;
    let backend = backends(u)?.next().unwrap_or(Backend::active());
    let pool = u.choose(pools())?;
    let call = |loss: CrossEntropy<'_>| large.outcomes(loss, &options);
    let loss = large.batch.loss().reduction(reduction).zero_denominator(policy).backend(backend);
    let loss = options.adjust(loss);
    let (one, found) = (call(loss), call(loss.parallel_in(pool)));
    for (which, (one, found)) in one.iter().zip(&found).enumerate() {
        let same = match (&one.0, &found.0) {
            (Ok(one), Ok(found)) => same_summary(one, found),
            (one, found) => one == found,
        };
        let at = one.1.iter().zip(&found.1).position(|(one, found)| one != found);
        let threads = pool.current_num_threads();
        assert!(
            same && at.is_none() && one.1.len() == found.1.len(),
            "call {which}, {backend}, {threads} threads: {:?} and {:?}, number {at:?}\n{:?}",
            one.0,
            found.0,
            (&batch, &options, reduction, policy, &large.changed)
        );
    }
    Ok(())
}

fn pools() -> &'static [ThreadPool] {
    static POOLS: OnceLock<Vec<ThreadPool>> = OnceLock::new();
    POOLS.get_or_init(|| [2, 3].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap()).into())
}

/// A batch repeated until calls are split, with a few changes.
struct Large {
    batch: Batch,
    soft: Vec<f32>,
    factors: Factors,
    /// (row, logit, label) of each change.
    changed: Vec<(usize, f32, i32)>,
    /// Excess elements of an output.
    longer: usize,
}

fn again<T: Clone>(of: &[T], times: usize) -> Vec<T> {
    of.iter().cycle().take(of.len() * times).cloned().collect()
}

impl Large {
    fn new(u: &mut Unstructured<'_>, batch: &Batch, options: &Options, factors: Factors) -> Result<Self> {
        let times = LEAST.div_ceil(batch.classes * batch.rows()) + u.int_in_range(0..=3)?;
        let sample_weights = batch.sample_weights.as_ref().map(|weights| again(weights, times));
        let factors = match factors {
            Factors::Rows(factors) => Factors::Rows(again(&factors, times)),
            one @ Factors::Loss(_) => one,
        };
        let mut this = Self {
            soft: again(&options.soft(batch), times),
            batch: Batch {
                logits: again(&batch.logits, times),
                labels: again(&batch.labels, times),
                class_weights: batch.class_weights.clone(),
                sample_weights,
                ..*batch
            },
            factors,
            changed: Vec::new(),
            longer: usize::from(u.ratio(1, 32)?),
        };
        let (mut places, wrong) = (Rng(u.arbitrary()?), u.ratio(1, 8)?);
        for _ in 0..u.int_in_range(0..=6)? {
            let (row, class, x) = (places.below(this.batch.rows()), places.below(batch.classes), any(u)?);
            let label = if wrong { i32::from(u.arbitrary::<i16>()?) } else { class as i32 };
            let at = this.batch.element(row, class);
            (this.batch.logits[at], this.batch.labels[row]) = (x, label);
            // Only now and then a target that is refused.
            this.soft[at] = if x.is_finite() || wrong { x } else { 0.5 };
            this.changed.push((row, x, label));
        }
        Ok(this)
    }

    /// Result and output bits of each call.
    fn outcomes(
        &self,
        loss: CrossEntropy<'_>,
        options: &Options,
    ) -> Vec<(core::result::Result<Summary, Error>, Vec<u32>)> {
        let Batch { logits: x, labels: y, .. } = &self.batch;
        let (q, up) = (&self.soft, self.factors.upstream());
        let mut of_rows = [pattern(y.len() + self.longer), pattern(y.len())];
        let mut shaped = [pattern(x.len() + self.longer), x.clone(), pattern(x.len())];
        let ([losses, soft_losses], [gradient, over, soft_gradient]) = (&mut of_rows, &mut shaped);
        let (labelled, soft) = (options.of_labels(loss), options.of_soft(loss));
        let results = [
            labelled.row_losses(x, y, losses),
            soft.soft_row_losses(x, q, soft_losses),
            labelled.gradient(x, y, up, gradient),
            labelled.gradient_in_place(over, y, up),
            soft.soft_gradient(x, q, up, soft_gradient),
            labelled.loss(x, y),
            soft.soft_loss(x, q),
        ];
        let written = of_rows.iter().chain(&shaped).map(|numbers| bits(numbers)).chain([vec![], vec![]]);
        results.into_iter().zip(written).collect()
    }
}
