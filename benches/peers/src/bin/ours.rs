//! Times this crate for `benches/peers.py`: a request a line on the standard input, an answer a line on the output.
//!
//! ```text
//! <prefix> <rows> <classes> <forward|both|in-place> <threads> <backend|best> <seconds> [<gradient file>]
//! ```
//!
//! Logits (f32), labels (i64) and weights (f32) are raw and little-endian, in `<prefix>.logits`, `<prefix>.labels` and
//! `<prefix>.weights`; they are read once and kept. The answer is the loss, the median of the nanoseconds of a call and
//! the number of calls; or `error: ` and why. With a gradient file the gradient is written there, as the logits are.
//!
//! Several threads share the rows. They live as long as the request and wait for one another by spinning, as the
//! threads of other libraries do.

use rwwce::{Backend, CrossEntropy, Error, Reduction, Total, ZeroDenominator};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{error, fs, hint, io, thread};

type Outcome<T> = Result<T, Box<dyn error::Error>>;

/// Untimed calls first: caches, page faults, the clock of the processor.
const WARM_UP_CALLS: usize = 2;
const MIN_CALLS: usize = 5;
const SPINS_BEFORE_YIELD: u32 = 20_000;

fn main() -> Outcome<()> {
    let mut cache = HashMap::new();
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match answer(&line?, &mut cache) {
            Ok(answer) => writeln!(output, "{answer}")?,
            Err(error) => writeln!(output, "error: {error}")?,
        }
        output.flush()?;
    }
    Ok(())
}

fn answer(line: &str, cache: &mut HashMap<String, Data>) -> Outcome<String> {
    let request = Request::parse(line)?;
    if !cache.contains_key(request.prefix) {
        cache.insert(request.prefix.to_owned(), Data::read(request.prefix)?);
    }
    let data = cache.get_mut(request.prefix).ok_or("no data")?;
    if data.weights.len() != request.classes || data.labels.len() != request.rows {
        return Err("the files have another shape".into());
    }
    let Measured { loss, mut times } = measure(&request, data)?;
    if let Some(path) = request.gradient_file {
        fs::write(path, data.gradient.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    times.sort_unstable();
    Ok(format!("{loss:e} {} {}", times[times.len() / 2].as_nanos(), times.len()))
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Forward,
    Separate,
    InPlace,
}

struct Request<'a> {
    prefix: &'a str,
    rows: usize,
    classes: usize,
    pass: Pass,
    threads: usize,
    backend: Backend,
    time: Duration,
    gradient_file: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn parse(line: &'a str) -> Outcome<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&[prefix, rows, classes, pass, threads, backend, seconds], rest) =
            words.split_first_chunk::<7>().ok_or("expected at least seven words")?;
        let request = Self {
            prefix,
            rows: rows.parse()?,
            classes: classes.parse()?,
            pass: match pass {
                "forward" => Pass::Forward,
                "both" => Pass::Separate,
                "in-place" => Pass::InPlace,
                _ => return Err("expected forward, both or in-place".into()),
            },
            threads: threads.parse()?,
            backend: match backend {
                "best" => Backend::active(),
                name => Backend::by_name(name).ok_or("this processor has no such backend")?,
            },
            time: Duration::try_from_secs_f64(seconds.parse()?)?,
            gradient_file: rest.first().copied(),
        };
        if request.rows == 0 || request.classes == 0 || request.threads == 0 {
            return Err("rows, classes and threads are at least 1".into());
        }
        if request.pass == Pass::Forward && request.gradient_file.is_some() {
            return Err("the loss alone has no gradient".into());
        }
        Ok(request)
    }
}

struct Data {
    logits: Vec<f32>,
    labels: Vec<i64>,
    weights: Vec<f32>,
    gradient: Vec<f32>,
}

impl Data {
    fn read(prefix: &str) -> Outcome<Self> {
        let logits = read(&format!("{prefix}.logits"), f32::from_le_bytes)?;
        let gradient = vec![0.0; logits.len()];
        let labels = read(&format!("{prefix}.labels"), i64::from_le_bytes)?;
        Ok(Self { logits, labels, weights: read(&format!("{prefix}.weights"), f32::from_le_bytes)?, gradient })
    }
}

fn read<T, const SIZE: usize>(path: &str, from_bytes: fn([u8; SIZE]) -> T) -> Outcome<Vec<T>> {
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let (numbers, []) = bytes.as_chunks::<SIZE>() else { return Err(format!("{path}: a broken number").into()) };
    Ok(numbers.iter().map(|&number| from_bytes(number)).collect())
}

struct Measured {
    loss: f32,
    times: Vec<Duration>,
}

fn measure(request: &Request, data: &mut Data) -> Outcome<Measured> {
    let loss = CrossEntropy::new(request.classes).class_weights(&data.weights).backend(request.backend);
    // Wrong input shows here, where no other thread waits.
    loss.loss(&data.logits, &data.labels)?;
    let threads = request.threads.min(request.rows);
    let rows = request.rows.div_ceil(threads);
    let parts = data.labels.chunks(rows).zip(data.logits.chunks(rows * request.classes));
    let mut parts: Vec<Part> = parts
        .zip(data.gradient.chunks_mut(rows * request.classes))
        .map(|((labels, logits), gradient)| Part { loss, labels, logits, gradient, weights: &data.weights })
        .collect();
    if let [part] = parts.as_mut_slice() {
        return Ok(alone(request, part)?);
    }

    let team = Team::new(parts.len());
    let (first, others) = parts.split_first_mut().ok_or("no rows")?;
    thread::scope(|scope| {
        for (member, part) in (1..).zip(others) {
            let team = &team;
            scope.spawn(move || while team.call(member, request.pass, part).is_some() {});
        }
        let mut times = Vec::new();
        let mut total = None;
        repeat(request.time, &mut times, || {
            let (time, result) = team.call(0, request.pass, first)?;
            total = Some(result);
            Some(time)
        });
        team.dismiss();
        let loss = total.ok_or("nothing was computed")??.reduce(Reduction::default(), ZeroDenominator::NaN)?;
        Ok(Measured { loss, times })
    })
}

/// Calls until the time is over and there are enough of them.
fn repeat(time: Duration, times: &mut Vec<Duration>, mut call: impl FnMut() -> Option<Duration>) {
    for _ in 0..WARM_UP_CALLS {
        call();
    }
    let start = Instant::now();
    while times.len() < MIN_CALLS || start.elapsed() < time {
        times.extend(call());
    }
}

/// A single thread: the call that users write.
fn alone(request: &Request, part: &mut Part) -> Result<Measured, Error> {
    let Part { loss, labels, logits, gradient, .. } = part;
    let mut times = Vec::new();
    let logits: &[f32] = logits;
    let mut result = loss.loss(logits, labels);
    repeat(request.time, &mut times, || {
        if request.pass == Pass::InPlace {
            gradient.copy_from_slice(logits);
        }
        let start = Instant::now();
        result = match request.pass {
            Pass::Forward => loss.loss(hint::black_box(logits), labels),
            Pass::Separate => loss.gradient(hint::black_box(logits), labels, 1.0, gradient),
            Pass::InPlace => loss.gradient_in_place(hint::black_box(gradient), labels, 1.0),
        };
        Some(start.elapsed())
    });
    Ok(Measured { loss: result?.loss, times })
}

/// The rows of one thread.
struct Part<'a> {
    loss: CrossEntropy<'a>,
    labels: &'a [i64],
    logits: &'a [f32],
    /// With [`Pass::InPlace`] the logits before the call.
    gradient: &'a mut [f32],
    weights: &'a [f32],
}

impl Part<'_> {
    /// The denominator of the mean, which the gradient needs first. In a call with every row the library computes it.
    fn weight_sum(&self) -> f64 {
        let weight = |&label: &i64| self.weights.get(label as usize).map_or(0.0, |&weight| f64::from(weight));
        // Partial sums: a single one would wait for each addition.
        let mut sums = [0.0; 8];
        let (labels, rest) = self.labels.as_chunks::<8>();
        for labels in labels {
            for (sum, label) in sums.iter_mut().zip(labels) {
                *sum += weight(label);
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(weight).sum::<f64>()
    }

    fn run(&mut self, pass: Pass, weight_sum: f64) -> Result<Total, Error> {
        let upstream = (1.0 / weight_sum) as f32;
        let sum = self.loss.reduction(Reduction::Sum);
        let summary = match pass {
            Pass::Forward => self.loss.loss(self.logits, self.labels)?,
            Pass::Separate => sum.gradient(self.logits, self.labels, upstream, self.gradient)?,
            Pass::InPlace => sum.gradient_in_place(self.gradient, self.labels, upstream)?,
        };
        Ok(summary.total)
    }
}

/// Threads that make a call together, each with its own rows.
struct Team {
    barrier: Barrier,
    dismissed: AtomicBool,
    /// The bits of an f64 for each member.
    weight_sums: Vec<AtomicU64>,
    results: Vec<Mutex<Result<Total, Error>>>,
}

impl Team {
    fn new(members: usize) -> Self {
        Self {
            barrier: Barrier { members, arrived: AtomicUsize::new(0), generation: AtomicUsize::new(0) },
            dismissed: AtomicBool::new(false),
            weight_sums: (0..members).map(|_| AtomicU64::new(0)).collect(),
            results: (0..members).map(|_| Mutex::new(Ok(Total::default()))).collect(),
        }
    }

    /// The time from when all are ready to when the loss of all is known; `None` once the team is dismissed.
    fn call(&self, member: usize, pass: Pass, part: &mut Part) -> Option<(Duration, Result<Total, Error>)> {
        self.barrier.wait();
        if self.dismissed.load(Ordering::Acquire) {
            return None;
        }
        if pass == Pass::InPlace {
            part.gradient.copy_from_slice(part.logits);
            self.barrier.wait();
        }
        let start = Instant::now();
        let mut weight_sum = 1.0;
        if pass != Pass::Forward {
            self.weight_sums[member].store(part.weight_sum().to_bits(), Ordering::Relaxed);
            self.barrier.wait();
            weight_sum = self.weight_sums.iter().map(|bits| f64::from_bits(bits.load(Ordering::Relaxed))).sum();
        }
        *self.results[member].lock().unwrap_or_else(PoisonError::into_inner) = part.run(pass, weight_sum);
        self.barrier.wait();
        let mut total = Ok(Total::default());
        for result in &self.results {
            match (&mut total, *result.lock().unwrap_or_else(PoisonError::into_inner)) {
                (Ok(total), Ok(result)) => total.merge(&result),
                (_, Err(error)) => total = Err(error),
                (Err(_), Ok(_)) => {}
            }
        }
        Some((start.elapsed(), total))
    }

    fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.barrier.wait();
    }
}

/// As `std::sync::Barrier`, but spinning: sleeping and waking take as long as a small loss.
struct Barrier {
    members: usize,
    arrived: AtomicUsize,
    generation: AtomicUsize,
}

impl Barrier {
    fn wait(&self) {
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.members {
            self.arrived.store(0, Ordering::Relaxed);
            self.generation.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.generation.load(Ordering::Acquire) == generation {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD { hint::spin_loop() } else { thread::yield_now() }
        }
    }
}
