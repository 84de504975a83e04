//! The library beside its baseline, in one process: `rwwce-budget speed|cliffs [BACKEND]`, which `benches/budget/run`
//! builds and calls.
//!
//! Both versions get the same data and take turns; the fastest call of each counts. One thread. Other processes repeat
//! it, since a loop may be a quarter slower by the alignment of its code alone.

mod data;
mod versions;

use data::Data;
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use versions::{Call, Case};

const PROCESSES: usize = 3;
/// The time of a version per turn, unless two calls take longer.
const TURN: Duration = Duration::from_millis(2);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (what, backend, alone) = match *arguments {
        [what] => (what, now::Backend::active().name(), false),
        [what, backend] => (what, backend, false),
        [what, backend, "alone"] => (what, backend, true),
        _ => ("", "", false),
    };
    let tables = match what {
        "speed" => speed,
        "cliffs" => cliffs,
        _ => {
            eprintln!("usage: rwwce-budget speed|cliffs [BACKEND]");
            std::process::exit(2);
        }
    };
    let mut clock = Clock { backend, known: None, measured: Vec::new() };
    if alone {
        tables(&mut clock);
        for [before, now] in clock.measured {
            println!("{before} {now}");
        }
    } else {
        let measured: Vec<Vec<Times>> = (0..PROCESSES).map(|_| of_another_process(what, backend)).collect();
        let least = |least: Times, other: &Times| [least[0].min(other[0]), least[1].min(other[1])];
        let all =
            (0..measured[0].len()).map(|at| measured.iter().map(|times| &times[at]).fold([f64::INFINITY; 2], least));
        clock.known = Some(all.collect::<Vec<_>>().into_iter());
        println!(
            "Backend {backend}; nanoseconds a logit, the fastest of many calls.\n{}",
            tables(&mut clock).trim_end()
        );
    }
}

/// Nanoseconds a logit: before, now.
type Times = [f64; 2];

fn of_another_process(what: &str, backend: &str) -> Vec<Times> {
    let program = std::env::current_exe().expect("a path");
    let output = Command::new(program).args([what, backend, "alone"]).stderr(Stdio::inherit()).output();
    let output = output.expect("this program again");
    assert!(output.status.success(), "the other process failed");
    let number = |word: &str| word.parse().expect("a number");
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines().filter_map(|line| line.split_once(' ')).map(|(before, now)| [number(before), number(now)]).collect()
}

struct Clock<'a> {
    backend: &'a str,
    /// Times that another process has measured, in the order of the cases.
    known: Option<std::vec::IntoIter<Times>>,
    measured: Vec<Times>,
}

impl Clock<'_> {
    fn times(&mut self, cases: &[Case], rounds: usize) -> Vec<Times> {
        if let Some(known) = &mut self.known {
            return known.by_ref().take(cases.len()).collect();
        }
        let times = race(cases, self.backend, rounds);
        self.measured.extend(&times);
        times
    }
}

fn race(cases: &[Case], backend: &str, rounds: usize) -> Vec<Times> {
    let most = cases.iter().map(|case| case.logits.len()).max().unwrap_or(0);
    // The same buffer for all, so that no version has the better address.
    let mut gradient = vec![0.0; most];
    let mut calls: Vec<[Call; 2]> =
        cases.iter().map(|&case| [versions::before::call(case, backend), versions::now::call(case, backend)]).collect();
    let mut least = vec![[f64::INFINITY; 2]; cases.len()];
    for (case, calls) in cases.iter().zip(&mut calls) {
        let [was, is] = calls.each_mut().map(|call| call(&mut gradient[..case.logits.len()]));
        assert!(was == is || (was - is).abs() <= 1e-5 * was.abs() || was.is_nan() && is.is_nan(), "{was}, now {is}");
    }
    for round in 0..rounds {
        for ((case, calls), least) in cases.iter().zip(&mut calls).zip(&mut least) {
            let gradient = &mut gradient[..case.logits.len()];
            // The first of the two would else always find colder caches.
            for version in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let time = fastest(&mut calls[version], gradient);
                least[version] = least[version].min(time / case.logits.len() as f64);
            }
        }
    }
    least
}

/// Nanoseconds of the fastest call. Calls too short for the clock are repeated.
fn fastest(call: &mut Call, gradient: &mut [f32]) -> f64 {
    let repeats = (4096 / gradient.len()).max(1);
    let (start, mut least, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < 2 || start.elapsed() < TURN {
        let start = Instant::now();
        for _ in 0..repeats {
            call(gradient);
        }
        least = least.min(start.elapsed().as_nanos() as f64 / repeats as f64);
        calls += 1;
    }
    least
}

#[derive(Clone, Copy)]
enum Budget {
    AtLeast(f64, f64),
    AtMost(f64, f64),
    None,
}

impl Budget {
    /// The last three cells of a row: must, aim, reached.
    fn cells(self, found: f64) -> String {
        let (must, aim, must_holds, aim_holds) = match self {
            Self::AtLeast(must, aim) => (must, aim, found >= must, found >= aim),
            Self::AtMost(must, aim) => (must, aim, found <= must, found <= aim),
            Self::None => return "– | – | – |".into(),
        };
        let verdict = if aim_holds { "aim" } else { ["missed", "must"][usize::from(must_holds)] };
        let sign = if matches!(self, Self::AtLeast(..)) { '≥' } else { '≤' };
        let [must, aim] = [must, aim].map(|ratio| (ratio * 100.0).round() / 100.0);
        format!("{sign} {must} | {aim} | {verdict} |")
    }
}

fn speed(clock: &mut Clock) -> String {
    format!("\n{}\n{}", plain(clock), other_losses(clock))
}

fn plain(clock: &mut Clock) -> String {
    use Budget::{AtLeast, None};
    let losses = [
        (65536, 2, AtLeast(5.0, 6.5)),
        (65536, 3, AtLeast(3.2, 4.0)),
        (65536, 4, AtLeast(2.6, 3.5)),
        (65536, 10, AtLeast(2.5, 4.0)),
        (16384, 32, AtLeast(2.5, 3.5)),
        (8192, 100, AtLeast(3.0, 4.5)),
        (4096, 150, None),
        (4096, 300, None),
        (1024, 1000, AtLeast(1.3, 1.5)),
        (64, 32_000, None),
        (64, 128_256, None),
    ];
    let gradients = [
        (65536, 2, AtLeast(4.0, 5.0)),
        (65536, 4, AtLeast(2.4, 3.0)),
        (65536, 10, AtLeast(2.5, 3.5)),
        (16384, 32, AtLeast(2.6, 3.5)),
        (8192, 100, AtLeast(3.8, 5.0)),
        (4096, 150, None),
        (4096, 300, None),
        (1024, 1000, AtLeast(1.8, 2.5)),
        (64, 32_000, AtLeast(1.8, 2.2)),
        (64, 128_256, AtLeast(1.5, 1.8)),
    ];
    // Vectors of 16 lanes leave less to gain.
    let share = if clock.backend == "avx512" { 0.8 } else { 1.0 };
    let mut table = String::from("| | shape | before | now | times as fast | must | aim | reached |\n");
    table.push_str("|---|---|---|---|---|---|---|---|\n");
    let of_losses = losses.map(|(rows, classes, budget)| match budget {
        AtLeast(must, aim) => (rows, classes, AtLeast(must * share, aim * share), false),
        other => (rows, classes, other, false),
    });
    let of_gradients = gradients.map(|(rows, classes, budget)| (rows, classes, budget, true));
    for (rows, classes, budget, gradient) in of_losses.into_iter().chain(of_gradients) {
        let data = Data::new(rows, classes, 1);
        let [before, now] = clock.times(&[data.case(gradient)], 20)[0];
        let (name, ratio) = (["loss", "loss + gradient"][usize::from(gradient)], before / now);
        _ = writeln!(
            table,
            "| {name} | {rows}×{classes} | {before:.3} | {now:.3} | {ratio:.2} | {}",
            budget.cells(ratio)
        );
    }
    let data = Data::new(1, 10, 1);
    let [before, now] = clock.times(&[data.case(false)], 20)[0].map(|time| time * 10.0);
    let (ratio, cells) = (before / now, Budget::AtMost(80.0, 50.0).cells(now));
    _ = writeln!(table, "| loss, ns of a whole call | 1×10 | {before:.1} | {now:.1} | {ratio:.2} | {cells}");
    table
}

fn other_losses(clock: &mut Clock) -> String {
    let mut table = String::new();
    _ = writeln!(
        table,
        "| beside the plain loss | shape | before | now | before, × plain | now, × plain | must | aim | reached |"
    );
    _ = writeln!(table, "|---|---|---|---|---|---|---|---|---|");
    for (rows, classes) in [(65536, 10), (8192, 100), (1024, 1000)] {
        let mut data = Data::new(rows, classes, 1);
        let (soft, costs) = (data.soft(), data.costs());
        for gradient in [false, true] {
            let plain = data.case(gradient);
            let others = [
                ("smoothing 0.1", 1.6, Case { smoothing: 0.1, ..plain }),
                ("soft targets", 1.6, Case { soft: Some(&soft), ..plain }),
                ("z-loss 1e-4", 1.6, Case { z_loss: 1e-4, ..plain }),
                ("focal 2", 1.6, Case { focal: 2.0, ..plain }),
                ("mislabel costs", 3.0, Case { costs: Some(&costs), ..plain }),
            ];
            let cases: Vec<Case> = [plain].into_iter().chain(others.map(|(.., case)| case)).collect();
            let times = clock.times(&cases, 14);
            for ((name, must, _), time) in others.into_iter().zip(&times[1..]) {
                let ([before, now], [was, is]) = (time, [0, 1].map(|version| time[version] / times[0][version]));
                let of = ["", ", gradient"][usize::from(gradient)];
                let cells = Budget::AtMost(must, 1.3).cells(is);
                _ = writeln!(
                    table,
                    "| {name}{of} | {rows}×{classes} | {before:.3} | {now:.3} | {was:.2} | {is:.2} | {cells}"
                );
            }
        }
    }
    table
}

/// (name, change of ordinary rows, label smoothing, focal exponent)
type Kind = (&'static str, fn(&mut Data), f32, f32);
const KINDS: [Kind; 17] = [
    ("ordinary", |_| (), 0.0, 0.0),
    ("label trails by 70", |data| data.lead(-70.0, -70.0), 0.0, 0.0),
    ("label leads by 40", |data| data.lead(40.0, 40.0), 0.0, 0.0),
    ("label leads by 110", |data| data.lead(110.0, 110.0), 0.0, 0.0),
    ("1 class in 16 masked by −∞", Data::mask, 0.0, 0.0),
    ("1e4 added", |data| data.offset(1e4), 0.0, 0.0),
    ("1e8 added", |data| data.offset(1e8), 0.0, 0.0),
    ("weights × 1e-30", |data| data.scale_weights(1e-30, None), 0.0, 0.0),
    ("weights × 1e30", |data| data.scale_weights(1e30, None), 0.0, 0.0),
    ("weights × 1e-20, sample weights 1e-30", |data| data.scale_weights(1e-20, Some(1e-30)), 0.0, 0.0),
    ("focal 2, ordinary", |_| (), 0.0, 2.0),
    ("focal 2, label leads by 8 to 20", |data| data.lead(8.0, 20.0), 0.0, 2.0),
    ("focal 2, label leads by 35 to 55", |data| data.lead(35.0, 55.0), 0.0, 2.0),
    ("focal 5, ordinary", |_| (), 0.0, 5.0),
    ("focal 5, label leads by 8 to 20", |data| data.lead(8.0, 20.0), 0.0, 5.0),
    ("smoothing 0.1, ordinary", |_| (), 0.1, 0.0),
    ("smoothing 0.1, label leads by 110", |data| data.lead(110.0, 110.0), 0.1, 0.0),
];

fn cliffs(clock: &mut Clock) -> String {
    let mut table = String::new();
    const SHAPES: [(usize, usize, usize); 8] = [
        (65536, 10, 1),
        (1024, 1000, 1),
        (1024, 1000, 256),
        (8192, 150, 256),
        (8192, 150, 4096),
        (65536, 2, 1),
        (65536, 4, 1),
        (64, 32_000, 1),
    ];
    for (rows, classes, positions) in SHAPES {
        let all = KINDS.map(|(_, change, ..)| {
            let mut data = Data::new(rows, classes, positions);
            change(&mut data);
            data
        });
        for gradient in [false, true] {
            let cases: Vec<Case> = (KINDS.iter().zip(&all))
                .map(|(&(.., smoothing, focal), data)| Case { smoothing, focal, ..data.case(gradient) })
                .collect();
            let times = clock.times(&cases, 4);
            let name = if positions == 1 {
                format!("[{rows}, {classes}]")
            } else {
                format!("[{}, {classes}, {positions}]", rows / positions)
            };
            _ = writeln!(
                table,
                "\n| {name}{} | before | now | before, × ordinary | now, × ordinary | must | aim | reached |",
                ["", ", gradient"][usize::from(gradient)]
            );
            _ = writeln!(table, "|---|---|---|---|---|---|---|---|");
            for ((kind, ..), time) in KINDS.iter().zip(&times) {
                let ([before, now], [was, is]) = (time, [0, 1].map(|version| time[version] / times[0][version]));
                let cells = Budget::AtMost(4.0, 2.0).cells(is);
                _ = writeln!(table, "| {kind} | {before:.3} | {now:.3} | {was:.1} | {is:.1} | {cells}");
            }
        }
    }
    table
}
