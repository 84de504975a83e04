//! The example programs, run as their users run them.
//!
//! The programs are those that `cargo test` builds beside the tests. Tests for another processor
//! may run inside an emulator, but the programs that they start would run outside it, and could not:
//! hence these are for x86-64 alone.
#![cfg(all(target_arch = "x86_64", not(miri)))]

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LOGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/logits.npy");
const LABELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/labels.npy");
const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/weights.npy");

/// Runs an example and returns what came of it.
fn run(example: &str, arguments: &[&str]) -> Output {
    // This test is target/<profile>/deps/examples-<hash>, the program target/<profile>/examples/<name>.
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(format!("{example}{EXE_SUFFIX}"));
    assert!(
        program.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test examples` alone does not",
        program.display(),
    );
    Command::new(program).args(arguments).output().unwrap()
}

fn evaluate(arguments: &[&str]) -> Output {
    run("evaluate", arguments)
}

/// The standard output of a run that must succeed without a word on standard error.
fn accepted(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The line on standard error of a run that must be refused.
#[track_caller]
fn refused(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{message}");
    let line = message.strip_suffix('\n').expect("the message ends its line");
    assert_eq!(line.lines().count(), 1, "{message}");
    line.to_owned()
}

/// The value behind `name:` in the output of `evaluate`.
fn value(output: &str, name: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {output}")).trim().to_owned()
}

#[track_caller]
fn assert_close(found: &str, expected: f64) {
    let found: f32 = found.parse().unwrap();
    let error = (f64::from(found) - expected).abs();
    // The library promises 2 ulp, which is at most this.
    assert!(error <= 2.0 * f64::from(f32::EPSILON) * expected.abs(), "{found} is not {expected}");
}

/// Writes a file under a name that no other test uses, and returns its path.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path.into_os_string().into_string().unwrap()
}

/// A `.npy` file of version 1.0.
fn npy(descr: &str, fortran_order: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    npy_with_header(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"), data)
}

fn npy_with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

// The values of examples/data/*.npy.
const LOGIT_ROWS: [[f32; 3]; 8] = [
    [17.0, 0.0, 0.0],
    [17.0, 0.0, 0.0],
    [0.0, 0.0, 0.0],
    [2.0, 1.0, 0.5],
    [-1.0, 3.0, 0.25],
    [5.0, -5.0, 0.0],
    [1000.0, 1000.0, 999.0],
    [0.5, -1.5, 2.0],
];
const LABEL_ROWS: [i64; 8] = [0, 2, 1, 1, 1, -100, 0, 2];

// What they give with the weights 1, 2.5 and 4, computed with 50 digits.
const ROW_LOSSES: [f64; 8] = [
    8.279_875_094_788_66e-8,
    68.000_000_331_195,
    2.746_530_721_670_274,
    3.660_921_960_269_862,
    0.197_590_503_510_248_9,
    0.0,
    0.861_994_804_058_251_1,
    0.903_208_196_926_397_4,
];
const WEIGHTED_MEAN: f64 = 4.364_014_091_453_074;
const MEAN_PER_ROW: f64 = 10.910_035_228_632_684;
const SUM: f64 = 76.370_246_600_428_79;
const UNWEIGHTED_MEAN: f64 = 2.961_402_041_866_787;

#[test]
fn means_and_sum_of_the_sample_arrays() {
    let common = [LOGITS, LABELS, "--ignore-index", "-100"];
    let with = |more: &[&str]| accepted(&evaluate(&[&common[..], more].concat()));

    let mean = with(&["--weights", WEIGHTS]);
    assert_eq!(value(&mean, "rows"), "8");
    assert_eq!(value(&mean, "classes"), "3");
    assert_eq!(value(&mean, "rows that count"), "7");
    assert_eq!(value(&mean, "non-finite rows"), "0");
    assert_eq!(value(&mean, "denominator"), "17.5");
    assert_close(&value(&mean, "loss"), WEIGHTED_MEAN);
    assert_eq!(value(&mean, "backend"), rwwce::Backend::active().name());
    assert_eq!(with(&["--weights", "1,2.5,4"]), mean);
    assert_eq!(with(&["--weights", "1, 2.5, 4", "--reduction=mean"]), mean);

    assert_close(&value(&with(&[]), "loss"), UNWEIGHTED_MEAN);
    let sum = with(&["--weights", WEIGHTS, "--reduction", "sum"]);
    assert_close(&value(&sum, "loss"), SUM);
    let per_row = with(&["--weights", WEIGHTS, "--denominator", "rows"]);
    assert_eq!(value(&per_row, "denominator"), "7.0");
    assert_close(&value(&per_row, "loss"), MEAN_PER_ROW);
}

#[test]
fn every_backend_gives_the_loss() {
    for backend in rwwce::Backend::available() {
        let arguments = [LOGITS, LABELS, "--weights", WEIGHTS, "--ignore-index", "-100"];
        let chosen = ["--backend", backend.name()];
        let output = accepted(&evaluate(&[&arguments[..], &chosen].concat()));
        assert_eq!(value(&output, "backend"), backend.name());
        assert_close(&value(&output, "loss"), WEIGHTED_MEAN);
    }
}

#[test]
fn one_loss_per_row_on_standard_output_and_in_a_file() {
    let path = file("losses.npy", b"replaced by the losses");
    let output = accepted(&evaluate(&[
        LOGITS,
        LABELS,
        "--weights",
        WEIGHTS,
        "--ignore-index",
        "-100",
        "--reduction",
        "none",
        "--output",
        &path,
    ]));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), ROW_LOSSES.len());
    for (line, expected) in lines.iter().zip(ROW_LOSSES) {
        assert_close(line, expected);
    }

    // The printed digits are those of the very numbers in the file.
    let bytes = fs::read(&path).unwrap();
    let (header, data) = bytes.split_at(bytes.len() - 4 * ROW_LOSSES.len());
    assert!(header.starts_with(b"\x93NUMPY") && header.ends_with(b"\n"));
    let header = String::from_utf8_lossy(header);
    assert!(header.contains("'<f4'") && header.contains("(8, )"), "{header}");
    for (line, bytes) in lines.iter().zip(data.chunks_exact(4)) {
        assert_eq!(line.parse::<f32>().unwrap().to_le_bytes(), bytes);
    }
}

#[test]
fn every_accepted_dtype_and_order_gives_the_same_loss() {
    let native = file("native_logits.npy", &fs::read(LOGITS).unwrap());
    let big_endian: Vec<u8> = LOGIT_ROWS.iter().flatten().flat_map(|x| x.to_be_bytes()).collect();
    let columns = (0..3).flat_map(|class| LOGIT_ROWS.map(|row| row[class]));
    let columns: Vec<u8> = columns.flat_map(f32::to_le_bytes).collect();
    let logits = [
        native,
        file("big_endian_logits.npy", &npy("'>f4'", false, "(8, 3)", &big_endian)),
        file("fortran_logits.npy", &npy("'<f4'", true, "(8, 3)", &columns)),
    ];

    // The unsigned types have no -100; 9 is ignored in its place.
    let labels = LABEL_ROWS.map(|label| if label == -100 { 9 } else { label });
    let little = |size: usize| labels.iter().flat_map(move |l| l.to_le_bytes().into_iter().take(size));
    let big = |size: usize| labels.iter().flat_map(move |l| l.to_be_bytes().into_iter().skip(8 - size));
    let labels = [
        ("|u1", little(1).collect::<Vec<u8>>()),
        ("<u2", little(2).collect()),
        ("<u4", little(4).collect()),
        ("<i4", little(4).collect()),
        ("<i8", little(8).collect()),
        (">u2", big(2).collect()),
        (">u4", big(4).collect()),
        (">i4", big(4).collect()),
        (">i8", big(8).collect()),
    ];
    let labels: Vec<String> = (0..)
        .zip(labels)
        .map(|(i, (dtype, data))| file(&format!("labels_{i}.npy"), &npy(&format!("'{dtype}'"), false, "(8,)", &data)))
        .collect();

    for logits in &logits {
        for labels in &labels {
            let arguments = [logits, labels, "--weights", "1,2.5,4", "--ignore-index", "9"];
            let output = accepted(&evaluate(&arguments));
            assert_close(&value(&output, "loss"), WEIGHTED_MEAN);
        }
    }
}

#[test]
fn probabilities() {
    let probabilities = [0.5_f32, 0.25, 0.25, 0.125, 0.0, 0.875];
    let data: Vec<u8> = probabilities.iter().flat_map(|p| p.to_le_bytes()).collect();
    let scores = file("probabilities.npy", &npy("'<f4'", false, "(2, 3)", &data));
    let labels = file("probability_labels.npy", &npy("'|u1'", false, "(2,)", &[1, 0]));

    let arguments = [&scores, &labels, "--probabilities", "0", "--reduction"];
    let sum = accepted(&evaluate(&[&arguments[..], &["sum"]].concat()));
    assert_close(&value(&sum, "loss"), 32_f64.ln());
    let rows = accepted(&evaluate(&[&arguments[..], &["none"]].concat()));
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 2);
    assert_close(rows[0], 4_f64.ln());
    assert_close(rows[1], 8_f64.ln());

    // Not a number, so no eps at all.
    refused(&evaluate(&[&scores, &labels, "--probabilities", "NaN"]));
}

#[test]
fn the_mean_over_no_rows() {
    let labels = file("all_ignored.npy", &npy("'|u1'", false, "(8,)", &[7; 8]));
    let arguments = [LOGITS, &labels, "--ignore-index", "7", "--zero-denominator"];
    let with = |word| evaluate(&[&arguments[..], &[word]].concat());
    assert_eq!(value(&accepted(&with("nan")), "loss"), "NaN");
    assert_eq!(value(&accepted(&with("zero")), "loss"), "0.0");
    assert!(refused(&with("error")).contains("denominator"));
}

#[test]
fn bad_logits_are_refused_in_one_line() {
    let floats = [0; 96];
    let shaped = |shape: &str| npy("'<f4'", false, shape, &floats);
    // A parser that tries each bracket twice would need 2^40 attempts.
    let nested = format!("{}8{}", "[".repeat(40), "]".repeat(40));
    // One that calls itself for each would overflow the stack.
    let deep = format!("{}8{}", "(".repeat(20_000), ",)".repeat(20_000));
    let cases: [(&str, Vec<u8>, &str); 22] = [
        ("empty", vec![], "expected a .npy file"),
        ("text", b"logit_0,logit_1\n1,2\n".to_vec(), "expected a .npy file"),
        ("version", b"\x93NUMPY\x09\x00\x10\x00".to_vec(), "found version 9.0"),
        ("long_header", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "at most 10000 bytes"),
        ("not_utf8", npy("'<f4\u{e9}'", false, "(8, 3)", &floats), "bad .npy header"),
        ("not_a_dictionary", npy_with_header("[8, 3]\n", &floats), "bad .npy header"),
        ("no_shape", npy_with_header("{'descr': '<f4', 'fortran_order': False}", &floats), "'shape'"),
        ("open_string", npy_with_header("{'descr': '<f4", &floats), "bad .npy header"),
        ("float64", npy("'<f8'", false, "(4, 3)", &floats), "expected dtype float32, found float64"),
        ("float16", npy("'<f2'", false, "(16, 3)", &floats), "expected dtype float32, found float16"),
        ("object", npy("'|O'", false, "(8, 3)", &floats), "expected dtype float32, found '|O'"),
        ("fields", npy("[('a', '<f4')]", false, "(8, 3)", &floats), "expected dtype float32"),
        ("one_axis", shaped("(24,)"), "expected an array shaped [N, C], found [24]"),
        ("three_axes", shaped("(8, 3, 1)"), "expected an array shaped [N, C], found [8, 3, 1]"),
        ("short", shaped("(9, 3)"), "expected 108 bytes of values for the shape [9, 3], found 96"),
        ("long", shaped("(7, 3)"), "expected 84 bytes of values for the shape [7, 3], found 96"),
        ("huge", shaped("(1000000000000, 3)"), "expected 12000000000000 bytes"),
        ("overflow", shaped("(4294967296, 4294967296)"), "bad .npy header"),
        ("overflow_beside_zero", shaped("(0, 4294967296, 4294967296)"), "bad .npy header"),
        ("negative", shaped("(-8, 3)"), "bad .npy header"),
        ("brackets", shaped(&nested), "nested brackets"),
        ("many_brackets", shaped(&deep), "at most 10000 bytes"),
    ];
    for (name, bytes, expected) in cases {
        let path = file(&format!("bad_{name}.npy"), &bytes);
        let line = refused(&evaluate(&[&path, LABELS]));
        assert!(line.contains(&path) && line.contains(expected), "{name}: {line}");
    }

    let missing = refused(&evaluate(&["no_such_logits.npy", LABELS]));
    assert!(missing.contains("no_such_logits.npy"), "{missing}");
    let directory = env!("CARGO_MANIFEST_DIR");
    let directory = refused(&evaluate(&[directory, LABELS]));
    assert!(directory.contains("found a directory"), "{directory}");
}

#[test]
fn bad_labels_and_weights_are_refused_in_one_line() {
    let zeros = [0; 64];
    let dtypes = "expected dtype uint8, uint16, uint32, int32 or int64, found ";
    let cases = [
        ("int8", npy("'|i1'", false, "(8,)", &zeros[..8]), format!("{dtypes}int8")),
        ("uint64", npy("'<u8'", false, "(8,)", &zeros), format!("{dtypes}uint64")),
        ("bool", npy("'|b1'", false, "(8,)", &zeros[..8]), format!("{dtypes}bool")),
        ("float", npy("'<f8'", false, "(8,)", &zeros), format!("{dtypes}float64")),
        ("two_axes", npy("'<i8'", false, "(8, 1)", &zeros), "shaped [N], found [8, 1]".to_owned()),
        ("seven", npy("'<i8'", false, "(7,)", &zeros[..56]), "expected 8 labels".to_owned()),
        ("outside", npy("'|u1'", false, "(8,)", &[3; 8]), "row 0 has label 3".to_owned()),
    ];
    for (name, bytes, expected) in cases {
        let path = file(&format!("bad_labels_{name}.npy"), &bytes);
        let line = refused(&evaluate(&[LOGITS, &path]));
        assert!(line.contains(&path) && line.contains(&expected), "{name}: {line}");
    }
    let line = refused(&evaluate(&[LOGITS, LABELS]));
    assert!(line.contains("label -100") && line.contains("--ignore-index"), "{line}");

    let nan = f32::NAN.to_le_bytes().repeat(3);
    let cases = [
        ("two", npy("'<f4'", false, "(2,)", &zeros[..8]), "expected 3 weights, one for each class"),
        ("float64", npy("'<f8'", false, "(3,)", &zeros[..24]), "expected dtype float32"),
        ("two_axes", npy("'<f4'", false, "(3, 1)", &zeros[..12]), "shaped [C], found [3, 1]"),
        ("nan", npy("'<f4'", false, "(3,)", &nan), "not finite"),
    ];
    for (name, bytes, expected) in cases {
        let path = file(&format!("bad_weights_{name}.npy"), &bytes);
        let line = refused(&evaluate(&[LOGITS, LABELS, "--ignore-index", "-100", "--weights", &path]));
        assert!(line.contains(&path) && line.contains(expected), "{name}: {line}");
    }
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for (name, path) in [("logits", LOGITS), ("labels", LABELS)] {
        let whole = fs::read(path).unwrap();
        for length in 0..whole.len() {
            let short = file(&format!("cut_{name}.npy"), &whole[..length]);
            let output = match name {
                "logits" => evaluate(&[&short, LABELS]),
                _ => evaluate(&[LOGITS, &short]),
            };
            let line = refused(&output);
            assert!(line.contains(&short), "{length} bytes: {line}");
        }
    }
}

#[test]
fn bad_options_are_refused_in_one_line() {
    let cases: [(&[&str], &str); 15] = [
        (&[], "expected two files"),
        (&[LOGITS], "expected two files"),
        (&[LOGITS, LABELS, WEIGHTS], "expected two files"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--weights"], "--weights"),
        (&["--weights", "1,x,3"], "--weights: expected a .npy file or numbers"),
        (&["--weights", ""], "--weights: expected a .npy file or numbers"),
        (&["--reduction", "product"], "--reduction: expected one of none, sum, mean, found product"),
        (&["--denominator", "N"], "--denominator: expected one of weight-sum, rows, found N"),
        (&["--zero-denominator", "1"], "--zero-denominator: expected one of nan, zero, error"),
        (&["--ignore-index", "1.5"], "--ignore-index: expected an integer, found 1.5"),
        (&["--backend", "abacus"], "--backend: expected one of "),
        (&["--probabilities", "small"], "--probabilities: expected a number, found small"),
        (&["--reduction", "sum", "--denominator", "rows"], "together with --reduction mean"),
        (&["--output", "losses.npy"], "together with --reduction none"),
    ];
    for (arguments, expected) in cases {
        let line = refused(&evaluate(arguments));
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
    let line = refused(&evaluate(&[LOGITS, LABELS, "--weights", "1,2"]));
    assert!(line.contains("--weights: expected 3 weights"), "{line}");
    // A line break in a name does not break the line of the message.
    refused(&evaluate(&["no\nsuch\nlogits.npy", LABELS]));
}

#[test]
fn help_goes_to_standard_output() {
    let evaluate = accepted(&evaluate(&["--help"]));
    assert!(evaluate.starts_with("Usage: evaluate "), "{evaluate}");
    let mislabel_costs = accepted(&run("mislabel_costs", &["--help"]));
    assert!(mislabel_costs.contains("--cost-ratio"), "{mislabel_costs}");
}

#[test]
fn mislabel_costs_refuses_a_bad_option() {
    let output = run("mislabel_costs", &["--no-such-option"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-option"));
}

#[test]
fn mislabel_costs_says_the_same_in_every_run() {
    let chart = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mislabel_costs.svg");
    let arguments = ["--chart", chart.to_str().unwrap()];
    let table = accepted(&run("mislabel_costs", &arguments));
    let drawn = fs::read(&chart).unwrap();
    for way in ["unweighted", "inverse frequency", "cost 20:1", "matrix 20:1"] {
        assert!(table.contains(way), "{table}");
    }
    assert!(drawn.starts_with(b"<svg"));
    assert_eq!(accepted(&run("mislabel_costs", &arguments)), table);
    assert_eq!(fs::read(&chart).unwrap(), drawn);
}

/// The total costs in the output of `wine_costs`.
fn total_costs(output: &str) -> Vec<f64> {
    output.lines().filter_map(|line| line.strip_prefix("total cost")?.trim().parse().ok()).collect()
}

#[test]
fn wine_costs_shows_that_the_matrix_saves() {
    let output = accepted(&run("wine_costs", &[]));
    let costs = total_costs(&output);
    assert_eq!(costs.len(), 2, "{output}");
    assert!(costs[1] < costs[0], "{output}");
    assert_eq!(accepted(&run("wine_costs", &[])), output);
}
