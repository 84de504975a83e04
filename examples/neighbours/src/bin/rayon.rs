//! Splits a batch by rows over a thread pool, for programs that cut batches themselves: the bits are those of one call,
//! for any number of threads. (Other programs use `CrossEntropy::parallel`, with the feature `rayon`.)
//!
//! `cargo run --bin rayon`

use rayon::ThreadPoolBuilder;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};
use rwwce::{CrossEntropy, Error, Reduction, Total, ZeroDenominator};

/// Arrays of a batch.
#[derive(Clone, Copy)]
struct Batch<'a> {
    classes: usize,
    logits: &'a [f32],
    labels: &'a [u32],
    sample_weights: &'a [f32],
}

/// Writes the gradient of the mean over the weight sum, and returns the totals, on the threads of the current pool.
fn gradient(loss: &CrossEntropy<'_>, batch: Batch<'_>, gradient: &mut [f32]) -> Result<Total, Error> {
    let Batch { classes, logits, labels, sample_weights } = batch;
    let whole = loss.sample_weights(sample_weights);
    // Chunking would hide wrong lengths; one call on the whole batch refuses them.
    if logits.len() != classes * labels.len() || gradient.len() != logits.len() {
        return Ok(whole.gradient(logits, labels, 1.0, gradient)?.total);
    }
    // The denominator of the whole batch. All labels are checked here, before anything is written.
    let denominator = whole.weigh(labels)?.denominator(Reduction::default());

    // The unit of summation: chunks of other sizes would round the sum of the losses differently.
    let rows = loss.chunk_rows();
    let chunks = logits.par_chunks(rows * classes).zip(labels.par_chunks(rows)).zip(sample_weights.par_chunks(rows));
    let of_chunks: Vec<Total> = chunks
        .zip(gradient.par_chunks_mut(rows * classes))
        .map(|(((logits, labels), weights), gradient)| {
            let chunk = loss.sample_weights(weights).denominator(denominator);
            Ok(chunk.gradient(logits, labels, 1.0, gradient)?.total)
        })
        .collect::<Result<_, Error>>()?;

    // Merged in the order of the chunks, which fixes the rounding.
    let mut total = Total::default();
    of_chunks.iter().for_each(|chunk| total.merge(chunk));
    Ok(total)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (classes, rows) = (10, 50_000);
    let logits: Vec<f32> = (0..classes * rows).map(|i| (i % 97) as f32 / 7.0).collect();
    let labels: Vec<u32> = (0..rows as u32).map(|row| row % 10).collect();
    let batch = Batch { classes, logits: &logits, labels: &labels, sample_weights: &vec![0.5; rows] };
    let loss = CrossEntropy::new(classes);

    let mut of_logits = vec![0.0; logits.len()];
    let pool = ThreadPoolBuilder::new().num_threads(3).build()?;
    let total = pool.install(|| gradient(&loss, batch, &mut of_logits))?;
    println!("loss {} of {} rows", total.reduce(Reduction::default(), ZeroDenominator::NaN)?, total.rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use rwwce::Argument;

    use super::*;

    const COSTS: [f32; 9] = [0.0, 4.0, 1.0, 2.0, 0.0, 0.5, 20.0, 1.0, 0.0];

    struct Numbers {
        logits: Vec<f32>,
        labels: Vec<u32>,
        weights: Vec<f32>,
    }

    impl Numbers {
        fn new(rows: usize) -> Self {
            Self {
                logits: (0..3 * rows).map(|i| (i * i % 1009) as f32 / 70.0 - 7.0).collect(),
                labels: (0..rows as u32).map(|row| row * row % 3).collect(),
                weights: (0..rows).map(|row| (row % 7) as f32).collect(),
            }
        }

        fn batch(&self) -> Batch<'_> {
            Batch { classes: 3, logits: &self.logits, labels: &self.labels, sample_weights: &self.weights }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_bits_of_one_call() {
        let plain = CrossEntropy::new(3).class_weights(&[1.0, 0.1, 3.0]).ignore_index(1);
        let costs = plain.mislabel_costs(&COSTS).reduction(Reduction::default());
        for rows in [0, 1, 8192, 30_000] {
            let numbers = Numbers::new(rows);
            for loss in [plain, costs] {
                assert!(loss.chunk_rows() <= 8192, "a batch is not cut");
                let mut whole = vec![0.0; 3 * rows];
                let loss_of_all = loss.sample_weights(&numbers.weights);
                let expected = loss_of_all.gradient(&numbers.logits, &numbers.labels, 1.0, &mut whole).unwrap();
                for threads in [1, 2, 3] {
                    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut found = vec![7.0; 3 * rows];
                    let total = pool.install(|| gradient(&loss, numbers.batch(), &mut found));
                    assert_eq!(total, Ok(expected.total));
                    assert!(found.iter().map(|g| g.to_bits()).eq(whole.iter().map(|g| g.to_bits())));
                }
            }
        }
    }

    #[test]
    fn a_wrong_label_is_named_by_its_place_in_the_whole() {
        let mut numbers = Numbers::new(30_000);
        numbers.labels[20_001] = 3;
        let mut found = vec![7.0; 90_000];
        let refused = gradient(&CrossEntropy::new(3), numbers.batch(), &mut found);
        assert_eq!(refused, Err(Error::LabelOutOfRange { row: 20_001, label: 3, classes: 3 }));
        assert!(found.iter().all(|&g| g == 7.0));
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        let numbers = Numbers::new(30_000);
        let short = gradient(&CrossEntropy::new(3), numbers.batch(), &mut [0.0; 3]);
        assert_eq!(short, Err(Error::Length { argument: Argument::Gradient, expected: 90_000, found: 3 }));
        let batch = Batch { logits: &numbers.logits[3..], ..numbers.batch() };
        let fewer = gradient(&CrossEntropy::new(3), batch, &mut [7.0; 3]);
        assert_eq!(fewer, Err(Error::Length { argument: Argument::Logits, expected: 90_000, found: 89_997 }));
        let batch = Batch { sample_weights: &numbers.weights[1..], ..numbers.batch() };
        let lighter = gradient(&CrossEntropy::new(3), batch, &mut vec![0.0; 90_000]);
        assert_eq!(lighter, Err(Error::Length { argument: Argument::SampleWeights, expected: 30_000, found: 29_999 }));
    }

    #[test]
    fn the_program_runs() {
        main().unwrap();
    }
}
