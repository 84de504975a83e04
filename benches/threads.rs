//! The speed of calls by two threads over that by one: a table of the fastest of some calls. Those by two threads follow
//! one another, or begin after a pause of a millisecond, in which the second thread has fallen asleep. "Halves" are two
//! threads that know nothing of one another, each with half of the rows: what the machine allows.
//!
//! ```text
//! cargo bench -p rwwce-benches --bench threads
//! ```

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use rwwce::CrossEntropy;

/// Rows and classes, from 1 MB of logits on.
const SHAPES: [(usize, usize); 9] = [
    (131_072, 2),
    (65_536, 4),
    (65_536, 10),
    (16_384, 32),
    (8192, 100),
    (1024, 1000),
    (64, 32_000),
    (16, 128_256),
    (64, 128_256),
];
const ROUNDS: usize = 60;
const CALLS_IN_A_ROW: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// The fastest calls of one thread, of two in a row, of two after a pause, and of two with a half each.
#[derive(Clone, Copy)]
struct Fastest([Duration; 4]);

impl Fastest {
    fn time(&mut self, pool: &ThreadPool, batch: &mut Batch, of_halves: &mut [Batch; 2], with_gradient: bool) {
        let (one, two) = (None, Some(pool));
        for (place, (pool, calls)) in [(one, CALLS_IN_A_ROW), (two, CALLS_IN_A_ROW), (two, 1)].into_iter().enumerate() {
            if calls == 1 {
                thread::sleep(PAUSE);
            }
            for _ in 0..calls {
                let begun = Instant::now();
                batch.call(pool, with_gradient);
                self.0[place] = self.0[place].min(begun.elapsed());
            }
        }
        self.0[3] = self.0[3].min(halves(of_halves, with_gradient));
    }

    fn cells(self) -> String {
        let [one, two, after_a_pause, halves] = self.0.map(|time| time.as_secs_f64() * 1e6);
        format!("{one:.0} | {:.2} | {:.2} | {:.2}", one / two, one / after_a_pause, one / halves)
    }
}

/// Arguments and output of a call.
struct Batch {
    classes: usize,
    logits: Vec<f32>,
    labels: Vec<i64>,
    weights: Vec<f32>,
    gradient: Vec<f32>,
}

impl Batch {
    fn new(rows: usize, classes: usize) -> Self {
        Self {
            classes,
            logits: (0..rows * classes).map(|i| (i * 7 % 1009) as f32 / 126.0 - 4.0).collect(),
            labels: (0..rows).map(|row| (row * 31 % classes) as i64).collect(),
            weights: vec![1.5; classes],
            gradient: vec![0.0; rows * classes],
        }
    }

    /// Computes the loss, with or without its gradient, over the threads of the pool if given.
    fn call(&mut self, pool: Option<&ThreadPool>, with_gradient: bool) {
        let Self { classes, logits, labels, weights, gradient } = self;
        let loss = CrossEntropy::new(*classes).class_weights(weights);
        let loss = pool.map_or(loss, |pool| loss.parallel_in(pool));
        let summary =
            if with_gradient { loss.gradient(&**logits, labels, 1.0, gradient) } else { loss.loss(&**logits, labels) };
        black_box(summary).expect("good arguments");
    }
}

/// The time of a call of the slower of two threads, each with its own batch.
fn halves(batches: &mut [Batch; 2], with_gradient: bool) -> Duration {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let run = |batch: &mut Batch| {
            start.wait();
            let begun = Instant::now();
            (0..CALLS_IN_A_ROW).for_each(|_| batch.call(None, with_gradient));
            begun.elapsed() / CALLS_IN_A_ROW as u32
        };
        let threads = batches.each_mut().map(|batch| scope.spawn(move || run(batch)));
        let [first, second] = threads.map(|thread| thread.join().expect("nothing panics"));
        first.max(second)
    })
}

fn main() {
    // `cargo test` runs this as well.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let pool = ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    println!(
        "| N×C | loss: one thread, µs | two | after a pause | halves | gradient: one, µs | two | pause | halves |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (rows, classes) in SHAPES {
        let (mut batch, mut of_halves) = (Batch::new(rows, classes), [0, 1].map(|_| Batch::new(rows / 2, classes)));
        let mut fastest = [Fastest([Duration::MAX; 4]); 2];
        for _ in 0..ROUNDS {
            for (fastest, with_gradient) in fastest.iter_mut().zip([false, true]) {
                fastest.time(&pool, &mut batch, &mut of_halves, with_gradient);
            }
        }
        let [of_loss, of_gradient] = fastest.map(Fastest::cells);
        println!("| {rows}×{classes} | {of_loss} | {of_gradient} |");
    }
}
