//! Calls split over the threads of rayon.

use std::vec::Vec;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::cross_entropy::{Call, CrossEntropy};
use crate::error::Error;
use crate::reduction::Total;
use crate::rows::Rows;
use crate::slices::split_mut;

/// Number of logits from which on a call is split: 1 MB of f32.
const LEAST: usize = 1 << 18;

impl CrossEntropy<'_> {
    /// Splits calls of 2¹⁸ logits (1 MB of f32) or more over the threads of rayon's current pool: losses, gradients,
    /// and the validation of labels and target probabilities. The bits are the same with any number of threads. Needs
    /// the feature `rayon`, and with it the standard library; allocates a few dozen bytes for every 2¹⁵ logits.
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
        self.is_parallel = true;
        self
    }

    /// Whether a call with these rows is to be split.
    pub(crate) fn splits(&self, rows: &Rows<'_>) -> bool {
        self.is_parallel
            && rows.count() > rows.chunk().get()
            && rows.count().saturating_mul(rows.classes()) >= LEAST
            && rayon::current_num_threads() > 1
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
        one.is_parallel = false;
        let totals: Result<Vec<_>, Error> = chunks(*rows, call)
            .into_par_iter()
            .with_max_len(1)
            .map(|(rows, call)| compute(&one, &rows, call))
            .collect();
        let mut total = Total::default();
        for of_chunk in totals.ok()? {
            total.merge(&of_chunk);
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
        let (logits, other_logits) = both(logits.map(|logits| logits.split_at(elements)));
        let (gradient, other_gradient) = both(gradient.map(|gradient| split_mut(gradient, elements)));
        let (row_losses, other_row_losses) = both(row_losses.map(|row_losses| split_mut(row_losses, rows)));
        let (scale, other_scale) = scale.split_at(rows);
        (
            Self { logits, gradient, row_losses, scale },
            Self { logits: other_logits, gradient: other_gradient, row_losses: other_row_losses, scale: other_scale },
        )
    }
}

fn both<T>(of: Option<(T, T)>) -> (Option<T>, Option<T>) {
    of.map_or((None, None), |(first, second)| (Some(first), Some(second)))
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
    use crate::rows::Targets;

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
    fn each_chunk_is_computed_once_and_by_several_threads() {
        let (labels, loss) = (vec![0u8; 100_000], CrossEntropy::new(10).parallel());
        let rows = Rows::new(loss.shape, crate::Argument::Logits, 1_000_000, Targets::Labels(u8::labels(&labels)));
        let rows = rows.unwrap();
        let (threads, counts) = (Mutex::new(BTreeSet::new()), Mutex::new(vec![]));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let total = pool.install(|| {
            assert!(loss.splits(&rows));
            let call = Call { logits: None, gradient: None, row_losses: None, scale: GradientScale::Same(0.0) };
            loss.in_chunks(&rows, call, |one, rows, _| {
                assert!(!one.splits(rows));
                threads.lock().unwrap().insert(format!("{:?}", thread::current().id()));
                counts.lock().unwrap().push(rows.count());
                thread::sleep(Duration::from_millis(2));
                Ok(Total { rows: rows.count() as u64, ..Total::default() })
            })
        });
        assert_eq!(total.unwrap().rows, 100_000);
        let (threads, mut counts) = (threads.into_inner().unwrap(), counts.into_inner().unwrap());
        counts.sort_unstable();
        assert_eq!(threads.len(), 2);
        assert_eq!((counts.len(), counts[0], counts[48]), (49, 100_000 - 48 * 2048, 2048));
    }
}
