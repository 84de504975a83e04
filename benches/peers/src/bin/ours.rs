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
//! A pool of as many threads lives as long as the request.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};
use std::{error, fs, hint, io};

use rayon::ThreadPoolBuilder;
use rwwce::{Backend, CrossEntropy};

type Outcome<T> = Result<T, Box<dyn error::Error>>;

/// Untimed calls first: caches, page faults, the clock of the processor.
const WARM_UP_CALLS: usize = 2;
const MIN_CALLS: usize = 5;

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

/// Calls until the time is over and there are enough of them.
fn measure(request: &Request, data: &mut Data) -> Outcome<Measured> {
    let Data { logits, labels, weights, gradient } = data;
    let pool = ThreadPoolBuilder::new().num_threads(request.threads).build()?;
    let loss = CrossEntropy::new(request.classes).class_weights(weights).backend(request.backend).parallel_in(&pool);
    let logits: &[f32] = logits;
    let mut call = || {
        if request.pass == Pass::InPlace {
            gradient.copy_from_slice(logits);
        }
        let start = Instant::now();
        let summary = match request.pass {
            Pass::Forward => loss.loss(hint::black_box(logits), labels),
            Pass::Separate => loss.gradient(hint::black_box(logits), labels, 1.0, gradient),
            Pass::InPlace => loss.gradient_in_place(hint::black_box(gradient), labels, 1.0),
        };
        summary.map(|summary| (summary.loss, start.elapsed()))
    };
    let (mut loss, _) = call()?;
    for _ in 1..WARM_UP_CALLS {
        call()?;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < MIN_CALLS || start.elapsed() < request.time {
        let (found, time) = call()?;
        loss = found;
        times.push(time);
    }
    Ok(Measured { loss, times })
}
