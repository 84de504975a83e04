//! Calls split over the threads of rayon.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::vec;
use std::vec::Vec;

use rayon::ThreadPool;

use crate::cross_entropy::{Call, CrossEntropy};
use crate::error::Error;
use crate::reduction::Total;
use crate::rows::{Rows, Targets};
use crate::slices::split_mut;
use crate::threads::Threads;

/// Number of logits from which on a call is split: 1 MB of f32.
const LEAST: usize = 1 << 18;

/// Number of labels from which on their validation is split: some 20 µs.
const LEAST_LABELS: usize = 1 << 16;

/// How often a thread looks whether the others have finished before it sleeps until they have: some 50 µs, the time of a
/// few chunks. Falling asleep and waking up would take as long.
const LOOKS: usize = 2000;

fn look_for(is_so: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        hint::spin_loop();
    }
}

impl<'a> CrossEntropy<'a> {
    /// Splits calls of 2¹⁸ logits (1 MB of f32) or more over as many threads as rayon's current pool has: losses,
    /// gradients, and the validation of labels and target probabilities. The calling thread computes as well, and need
    /// not be one of the pool's. The bits are the same with any number of threads. Needs the feature `rayon`, and with
    /// it the standard library; allocates some hundred bytes for every 2¹⁵ logits.
    ///
    /// Rows are cut into chunks of whole samples ([`CrossEntropy::chunk_rows`]): a single sample of `[N, C, D]`,
    /// however large, is computed by one thread.
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let labels = [1u16; 40_000];
    /// let logits: Vec<f32> = (0..400_000).map(|i| (i % 97) as f32 / 7.0).collect();
    /// let loss = CrossEntropy::new(10);
    /// assert_eq!(loss.parallel().loss(&logits, &labels)?, loss.loss(&logits, &labels)?);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub const fn parallel(mut self) -> Self {
        self.threads = Threads::Current;
        self
    }

    /// [`CrossEntropy::parallel`] with as many threads as this pool has, without entering it: `pool.install` would hand
    /// the whole call to another thread, and wait.
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    /// let (logits, labels) = (vec![0.5; 400_000], [1u16; 40_000]);
    /// let loss = CrossEntropy::new(10).parallel_in(&pool);
    /// assert_eq!(loss.loss(&logits, &labels)?.loss, 10_f32.ln());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn parallel_in(mut self, pool: &'a ThreadPool) -> Self {
        self.threads = Threads::Of(pool);
        self
    }
}

impl CrossEntropy<'_> {
    /// Whether a call with these rows is to be split.
    pub(crate) fn splits(&self, rows: &Rows<'_>) -> bool {
        !matches!(self.threads, Threads::One)
            && rows.count() > rows.chunk().get()
            && rows.count().saturating_mul(rows.classes()) >= LEAST
            && self.threads.count() > 1
    }

    /// Whether the targets of these rows are to be validated by several threads: a few labels take less time than handing
    /// half of them over.
    pub(crate) fn splits_targets(&self, rows: &Rows<'_>) -> bool {
        let is_long = match rows.targets() {
            Targets::Labels(_) => rows.count() >= LEAST_LABELS,
            Targets::Soft(_) | Targets::None => true,
        };
        is_long && self.splits(rows)
    }

    /// Computes each chunk of a call on one thread and merges the totals in order; `None` if any chunk is refused,
    /// since its error need not be the first in the order of rows.
    pub(crate) fn in_chunks(
        &self,
        rows: &Rows<'_>,
        call: Call<'_>,
        compute: impl Fn(&CrossEntropy<'_>, &Rows<'_>, Call<'_>) -> Result<Total, Error> + Sync,
    ) -> Option<Total> {
        let mut one = *self;
        one.threads = Threads::One;
        let chunks = chunks(*rows, call);
        let mut totals = vec![None; chunks.len()];
        let helpers = self.threads.count().min(chunks.len()).saturating_sub(1);
        let queue = Mutex::new(chunks.into_iter().zip(&mut totals));
        let queued = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        let work = |is_helper: bool| {
            loop {
                // Helpers take the last ones, so that a thread finds rows in its cache that it has met in a call before.
                let next = if is_helper { queued().next_back() } else { queued().next() };
                let Some(((rows, call), total)) = next else { break };
                match compute(&one, &rows, call) {
                    Ok(of_chunk) => *total = Some(of_chunk),
                    // The others need not be computed.
                    Err(_) => queued().by_ref().for_each(drop),
                }
            }
        };
        let (is_caller_done, finished) = (AtomicBool::new(false), AtomicUsize::new(0));
        self.threads.scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| {
                    work(true);
                    // Still awake when the next call comes, which may be at once.
                    look_for(|| is_caller_done.load(Ordering::Acquire));
                    finished.fetch_add(1, Ordering::Release);
                });
            }
            work(false);
            is_caller_done.store(true, Ordering::Release);
            // A thread of the pool does not sleep here: it looks for jobs.
            if rayon::current_thread_index().is_none() {
                look_for(|| finished.load(Ordering::Acquire) == helpers);
            }
        });
        drop(queue);
        let mut total = Total::default();
        for of_chunk in totals {
            total.merge(&of_chunk?);
        }
        Some(total)
    }
}

/// Cuts rows and buffers of a call into chunks.
fn chunks<'a>(mut rows: Rows<'a>, mut call: Call<'a>) -> Vec<(Rows<'a>, Call<'a>)> {
    let chunk = rows.chunk();
    let mut chunks = Vec::with_capacity(rows.count().div_ceil(chunk.get()));
    while rows.count() > chunk.get() {
        let (first, rest) = call.split_at(chunk.get(), rows.start(chunk.get()));
        let (first_rows, other_rows) = rows.split_at(chunk.get());
        chunks.push((first_rows, first));
        (rows, call) = (other_rows, rest);
    }
    chunks.push((rows, call));
    chunks
}

impl Call<'_> {
    /// Splits every buffer behind the first `rows` rows, which have `elements` logits.
    fn split_at(self, rows: usize, elements: usize) -> (Self, Self) {
        let Self { logits, gradient, row_losses, scale } = self;
        let (logits, other_logits) = logits.map(|logits| logits.split_at(elements)).unzip();
        let (gradient, other_gradient) = gradient.map(|gradient| split_mut(gradient, elements)).unzip();
        let (row_losses, other_row_losses) = row_losses.map(|row_losses| split_mut(row_losses, rows)).unzip();
        let (scale, other_scale) = scale.split_at(rows);
        (
            Self { logits, gradient, row_losses, scale },
            Self { logits: other_logits, gradient: other_gradient, row_losses: other_row_losses, scale: other_scale },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::format;
    use std::sync::Mutex;
    use std::thread;
    use std::time::Duration;
    use std::vec;

    use super::*;
    use crate::kernel::limits::CHUNK;
    use crate::label::Sealed as _;
    use crate::logits::Logits;
    use crate::reduction::GradientScale;

    #[test]
    fn chunks_are_cut_from_everything_alike() {
        // Two rows a chunk, with padding.
        let (classes, stride, labels) = (CHUNK / 2, CHUNK / 2 + 3, [0u8; 5]);
        let loss = CrossEntropy::new(classes).row_stride(stride);
        let rows = Rows::new(loss.shape, crate::Argument::Logits, 5 * stride, Targets::Labels(u8::labels(&labels)));
        let (logits, factors) = (vec![0.0; 5 * stride], [5.0, 6.0, 7.0, 8.0, 9.0]);
        let (mut gradient, mut row_losses) = (vec![0.0; 5 * stride], [7.0; 5]);
        let call = Call {
            logits: Some(Logits::F32(&logits)),
            gradient: Some(&mut gradient),
            row_losses: Some(&mut row_losses),
            scale: GradientScale::Rows(&factors),
        };
        thread::scope(|threads| {
            for ((rows, call), (first, count)) in chunks(rows.unwrap(), call).into_iter().zip([(0, 2), (2, 2), (4, 1)])
            {
                threads.spawn(move || {
                    assert_eq!(rows.count(), count);
                    assert_eq!(call.logits.unwrap().len(), count * stride);
                    let GradientScale::Rows(factors) = call.scale else { panic!("of rows") };
                    assert_eq!((factors[0], factors.len()), (first as f32 + 5.0, count));
                    let gradient = call.gradient.unwrap();
                    (gradient[0], gradient[count * stride - 1]) = (factors[0], count as f32);
                    call.row_losses.unwrap().copy_from_slice(factors);
                });
            }
        });
        assert_eq!(row_losses, factors);
        let firsts = [0, 2, 4].map(|row| gradient[row * stride]);
        let lasts = [2, 4, 5].map(|row| gradient[row * stride - 1]);
        assert_eq!((firsts, lasts), ([5.0, 7.0, 9.0], [2.0, 2.0, 1.0]));
    }

    #[test]
    fn chunks_hold_their_rows_alone() {
        // Two rows a chunk: the last one is whole.
        let (classes, labels, weights) = (CHUNK / 2, [0u8; 6], [1.0; 6]);
        let loss = CrossEntropy::new(classes).sample_weights(&weights);
        let rows = Rows::new(loss.shape, crate::Argument::Logits, 6 * classes, Targets::Labels(u8::labels(&labels)));
        let call = Call { logits: None, gradient: None, row_losses: None, scale: GradientScale::Same(0.0) };
        let chunks = chunks(rows.unwrap(), call);
        assert_eq!(chunks.len(), 3);
        for (rows, _) in &chunks {
            let Targets::Labels(labels) = rows.targets() else { panic!("labels") };
            assert_eq!((rows.count(), labels.len(), rows.sample_weights().unwrap().len()), (2, 2, 2));
        }
    }

    #[test]
    fn large_calls_are_split_over_several_threads() {
        let labels = vec![0u8; 1 << 17];
        let splits = |loss: CrossEntropy<'_>, count: usize| {
            let len = count * loss.shape.classes;
            let rows =
                Rows::new(loss.shape, crate::Argument::Logits, len, Targets::Labels(u8::labels(&labels[..count])));
            loss.splits(&rows.unwrap())
        };
        let pool_of = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let few = CrossEntropy::new(4).parallel();
        pool_of(2).install(|| {
            assert!(splits(few, LEAST / 4));
            assert!(!splits(few, LEAST / 4 - 1));
            assert!(!splits(CrossEntropy::new(4), LEAST / 4));
            // A chunk of one row is not split, two are.
            let many = CrossEntropy::new(LEAST).parallel();
            assert!(!splits(many, 1));
            assert!(splits(many, 2));
        });
        pool_of(1).install(|| assert!(!splits(few, LEAST / 4)));
    }

    #[test]
    fn few_labels_are_validated_by_one_thread_and_targets_by_several() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let loss = CrossEntropy::new(10).parallel_in(&pool);
        let (labels, probabilities) = (vec![0u8; LEAST_LABELS], vec![0.0; 300_000]);
        let splits = |loss: CrossEntropy<'_>, count: usize, targets| {
            loss.splits_targets(&Rows::new(loss.shape, crate::Argument::Logits, 10 * count, targets).unwrap())
        };
        let of = |count: usize| Targets::Labels(u8::labels(&labels[..count]));
        assert!(splits(loss, LEAST_LABELS, of(LEAST_LABELS)));
        assert!(!splits(loss, LEAST_LABELS - 1, of(LEAST_LABELS - 1)));
        assert!(splits(loss, 30_000, Targets::Soft(&probabilities)));
        assert!(!splits(CrossEntropy::new(10), LEAST_LABELS, of(LEAST_LABELS)));
    }

    #[test]
    fn each_chunk_is_computed_once_and_by_as_many_threads_as_the_pool_has() {
        let (labels, loss) = (vec![0u8; 100_000], CrossEntropy::new(10));
        let rows = Rows::new(loss.shape, crate::Argument::Logits, 1_000_000, Targets::Labels(u8::labels(&labels)));
        let rows = rows.unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let computed = |loss: CrossEntropy<'_>| {
            assert!(loss.splits(&rows));
            let (threads, counts) = (Mutex::new(BTreeSet::new()), Mutex::new(vec![]));
            let call = Call { logits: None, gradient: None, row_losses: None, scale: GradientScale::Same(0.0) };
            let total = loss.in_chunks(&rows, call, |one, rows, _| {
                assert!(!one.splits(rows));
                threads.lock().unwrap().insert(format!("{:?}", thread::current().id()));
                counts.lock().unwrap().push(rows.count());
                thread::sleep(Duration::from_millis(2));
                Ok(Total { rows: rows.count() as u64, ..Total::default() })
            });
            assert_eq!(total.unwrap().rows, 100_000);
            let (threads, mut counts) = (threads.into_inner().unwrap(), counts.into_inner().unwrap());
            counts.sort_unstable();
            assert_eq!((counts.len(), counts[0], counts[48]), (49, 100_000 - 48 * 2048, 2048));
            assert_eq!(threads.len(), 3);
            assert!(threads.contains(&format!("{:?}", thread::current().id())));
        };
        pool.install(|| computed(loss.parallel()));
        pool.install(|| computed(loss.parallel_in(&pool)));
        computed(loss.parallel_in(&pool));
    }

    #[test]
    fn chunks_behind_one_that_is_refused_are_not_computed() {
        let (labels, count) = (vec![0u8; 100_000], Mutex::new(0));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let loss = CrossEntropy::new(10).parallel_in(&pool);
        let rows = Rows::new(loss.shape, crate::Argument::Logits, 1_000_000, Targets::Labels(u8::labels(&labels)));
        let call = Call { logits: None, gradient: None, row_losses: None, scale: GradientScale::Same(0.0) };
        let total = loss.in_chunks(&rows.unwrap(), call, |_, _, _| {
            *count.lock().unwrap() += 1;
            Err(Error::ZeroDenominator)
        });
        assert!(total.is_none());
        // One of each thread at the most.
        assert!((1..=2).contains(&count.into_inner().unwrap()));
    }
}
