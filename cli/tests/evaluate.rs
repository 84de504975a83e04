//! `rwwce evaluate` with valid and invalid arrays.
#![cfg(not(miri))]

mod common;

use std::fs;
use std::process::Output;

use common::{accepted, accepted_with_notes, file, path, refused, rwwce};
use serde_json::Value;

const LOGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/logits.npy");
const LABELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/labels.npy");
const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/weights.npy");

fn evaluate(arguments: &[&str]) -> Output {
    rwwce(&[&["evaluate"], arguments].concat())
}

/// Path of a file made by `arrays/make.py`.
fn array(name: &str) -> String {
    format!("{}/tests/arrays/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The value after `name:` in the output of `evaluate`.
fn value(output: &str, name: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {output}")).trim().to_owned()
}

#[track_caller]
fn assert_close(found: &str, expected: f64) {
    let found: f32 = found.parse().unwrap();
    let error = (f64::from(found) - expected).abs();
    // From 2 to 4 ulp, depending on the mantissa.
    assert!(error <= 2.0 * f64::from(f32::EPSILON) * expected.abs(), "{found} is not {expected}");
}

/// A `.npy` file of version 1.0.
fn npy(descr: &str, fortran_order: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    npy_with_header(format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n").as_bytes(), data)
}

fn npy_with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

// The values of data/*.npy.
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

// Their losses with the weights 1, 2.5 and 4, computed with 50 digits.
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
    lines.iter().zip(ROW_LOSSES).for_each(|(line, expected)| assert_close(line, expected));

    // The printed digits round-trip to the values in the file.
    let bytes = fs::read(&path).unwrap();
    let (header, data) = bytes.split_at(bytes.len() - 4 * ROW_LOSSES.len());
    assert!(header.starts_with(b"\x93NUMPY") && header.ends_with(b"\n"));
    let header = String::from_utf8_lossy(header);
    assert!(header.contains("'<f4'") && header.contains("(8,)"), "{header}");
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

    // Unsigned types have no -100: the ignored index is 9 instead.
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

    // NaN is no valid eps.
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
    let nested = format!("{}8{}", "[".repeat(40), "]".repeat(40));
    let deep = format!("{}8{}", "(".repeat(20_000), ",)".repeat(20_000));
    let cases: [(&str, Vec<u8>, &str); 21] = [
        ("empty", vec![], "expected a .npy file"),
        ("text", b"logit_0,logit_1\n1,2\n".to_vec(), "expected a .npy file"),
        ("version", b"\x93NUMPY\x09\x00\x10\x00".to_vec(), "found version 9.0"),
        ("long_header", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "at most 10000 bytes"),
        ("not_utf8", npy_with_header(b"{'descr': '\xe9'}", &floats), "bad .npy header"),
        ("not_a_dictionary", npy_with_header(b"[8, 3]\n", &floats), "bad .npy header"),
        ("no_shape", npy_with_header(b"{'descr': '<f4', 'fortran_order': False}", &floats), "\"shape\""),
        ("open_string", npy_with_header(b"{'descr': '<f4", &floats), "bad .npy header"),
        (
            "more",
            npy_with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 3)} 1", &floats),
            "bad .npy header",
        ),
        ("long_double", npy("'<f16'", false, "(2, 3)", &floats), "found \"<f16\""),
        ("object", npy("'|O'", false, "(8, 3)", &floats), "expected a dtype of numbers, found \"|O\""),
        ("one_axis", shaped("(24,)"), "expected an array shaped [N, C], found [24]"),
        ("three_axes", shaped("(8, 3, 1)"), "expected an array shaped [N, C], found [8, 3, 1]"),
        ("short", shaped("(9, 3)"), "expected 108 bytes of values for the shape [9, 3], found 96"),
        ("long", shaped("(7, 3)"), "expected 84 bytes of values for the shape [7, 3], found 96"),
        ("huge", shaped("(1000000000000, 3)"), "expected 12000000000000 bytes"),
        ("overflow", shaped("(4294967296, 4294967296)"), "expected more bytes"),
        ("overflow_of_an_axis", shaped("(99999999999999999999, 3)"), "bad .npy header"),
        ("negative", shaped("(-8, 3)"), "bad .npy header"),
        ("brackets", shaped(&nested), "bad .npy header"),
        ("many_brackets", shaped(&deep), "at most 10000 bytes"),
    ];
    for (name, bytes, expected) in cases {
        let path = file(&format!("bad_{name}.npy"), &bytes);
        let line = refused(&evaluate(&[&path, LABELS]));
        assert!(line.contains(&path) && line.contains(expected), "{name}: {line}");
    }

    let missing = refused(&evaluate(&["no_such_logits.npy", LABELS]));
    assert!(missing.contains("no_such_logits.npy"), "{missing}");
    let directory = refused(&evaluate(&[env!("CARGO_MANIFEST_DIR"), LABELS]));
    assert!(directory.contains("found a directory"), "{directory}");
}

#[test]
fn bad_labels_and_weights_are_refused_in_one_line() {
    let zeros = [0; 64];
    let cases = [
        ("float", npy("'<f8'", false, "(8,)", &zeros), "expected labels of an integer type or bool, found float64"),
        ("two_axes", npy("'<i8'", false, "(4, 2)", &zeros), "shaped [N] or [N, 1], found [4, 2]"),
        ("seven", npy("'<i8'", false, "(7,)", &zeros[..56]), "expected 8 labels"),
        ("outside", npy("'|u1'", false, "(8,)", &[3; 8]), "row 0 has label 3"),
        ("beyond", npy("'<u8'", false, "(8,)", &[255; 64]), "the label 18446744073709551615 is too large"),
    ];
    for (name, bytes, expected) in cases {
        let path = file(&format!("bad_labels_{name}.npy"), &bytes);
        let line = refused(&evaluate(&[LOGITS, &path]));
        assert!(line.contains(&path) && line.contains(expected), "{name}: {line}");
    }
    let line = refused(&evaluate(&[LOGITS, LABELS]));
    assert!(line.contains("label -100") && line.contains("--ignore-index"), "{line}");

    let nan = f32::NAN.to_le_bytes().repeat(3);
    let cases = [
        ("two", npy("'<f4'", false, "(2,)", &zeros[..8]), "expected 3 weights, one for each class"),
        ("two_axes", npy("'<f4'", false, "(1, 3)", &zeros[..12]), "shaped [C] or [C, 1], found [1, 3]"),
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
    let cases: [(&[&str], &str); 21] = [
        (&[], "<LOGITS>"),
        (&[LOGITS], "expected two files, LOGITS and LABELS, or one .npz file"),
        (&[LOGITS, LABELS, WEIGHTS], "unexpected argument"),
        (&["--no-such-option"], "--no-such-option"),
        (&[LOGITS, LABELS, "--weights"], "--weights"),
        (&[LOGITS, LABELS, "--weights", "1,x,3"], "--weights: expected a .npy or .npz file, or numbers"),
        (&[LOGITS, LABELS, "--weights", ""], "--weights: expected a .npy or .npz file, or numbers"),
        (&[LOGITS, LABELS, "--weights", "1,2"], "--weights: expected 3 weights"),
        (&[LOGITS, LABELS, "--mislabel-costs", "0,1;2"], "--mislabel-costs: expected a .npy or .npz file, or numbers"),
        (
            &[LOGITS, LABELS, "--mislabel-costs", "0,1;2,0"],
            "--mislabel-costs: expected costs shaped [3, 3], found [2, 2]",
        ),
        (&[LOGITS, LABELS, "--sample-weights", "1,2"], "--sample-weights: expected 8 sample weights"),
        (&[LOGITS, LABELS, "--label-smoothing", "2", "--ignore-index", "-100"], "--label-smoothing: "),
        (&["--reduction", "product"], "possible values: none, sum, mean"),
        (&["--denominator", "N"], "possible values: weight-sum, rows"),
        (&["--zero-denominator", "1"], "possible values: nan, zero, error"),
        (&["--ignore-index", "1.5"], "'--ignore-index <I>'"),
        (&["--backend", "abacus"], "possible values: "),
        (&["--probabilities", "small"], "'--probabilities <EPS>'"),
        (&[LOGITS, LABELS, "--reduction", "sum", "--denominator", "rows"], "together with --reduction mean"),
        (&[LOGITS, LABELS, "--output", "losses.npy"], "together with --reduction none"),
        (&["no\nsuch\nlogits.npy", LABELS], "logits.npy"),
    ];
    for (arguments, expected) in cases {
        let line = refused(&evaluate(arguments));
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
    let negative = ["--mislabel-costs", "0,-1,0;0,0,0;0,0,0", "--ignore-index", "-100"];
    let line = refused(&evaluate(&[&[LOGITS, LABELS], &negative[..]].concat()));
    assert!(line.contains("--mislabel-costs: ") && line.contains("index 1 is negative"), "{line}");
}

#[test]
fn arrays_as_numpy_leaves_them() {
    let common = ["--weights", "1,2.5,4", "--ignore-index", "-100"];
    let loss = |arrays: &[&str]| {
        let arrays: Vec<String> = arrays.iter().map(|name| array(name)).collect();
        let arrays: Vec<&str> = arrays.iter().map(String::as_str).collect();
        value(&accepted(&evaluate(&[&arrays[..], &common].concat())), "loss")
    };
    for logits in ["float16.npy", "float64.npy", "big_endian.npy", "fortran.npy", "long_shape.npy", "named.npz:x"] {
        for labels in ["column_labels.npy", "named.npz:y"] {
            assert_close(&loss(&[logits, labels]), WEIGHTED_MEAN);
        }
    }
    assert_close(&loss(&["stored.npz"]), WEIGHTED_MEAN);
    assert_close(&loss(&["compressed.npz"]), WEIGHTED_MEAN);

    // Σ over rows of log Σ exp(x) − x_y.
    let logits: [[f64; 3]; 3] = [[3.0, -1.0, 0.0], [-2.0, 4.0, 1.0], [0.0, 0.0, 5.0]];
    for (file, labels) in [("bool_labels.npy", [0, 1, 1]), ("uint64_labels.npy", [0, 1, 2])] {
        let row = |(row, label): (&[f64; 3], usize)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[label];
        let expected: f64 = logits.iter().zip(labels).map(row).sum();
        let output = evaluate(&[&array("integers.npy"), &array(file), "--reduction", "sum"]);
        assert_close(&value(&accepted(&output), "loss"), expected);
    }
}

#[test]
fn what_is_rounded_is_said_once() {
    let rounded = array("rounded.npy");
    let output = evaluate(&[&rounded, LABELS, "--ignore-index", "-100", "--weights", &array("named.npz:w")]);
    let (text, message) = accepted_with_notes(&output);
    assert_close(&value(&text, "loss"), WEIGHTED_MEAN);
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains("float32") && message.contains(&rounded) && message.contains("(float64)"), "{message}");
}

#[test]
fn arrays_that_are_refused_in_one_line() {
    let cases = [
        ("object.npy", "found \"|O\""),
        ("fields.npy", "found \"[…]\""),
        ("text.npy", "found \"<U1\""),
        ("complex.npy", "found \"<c8\""),
        ("too_large.npy", "the number 1e300 is beyond the range of float32"),
        ("named.npz", "expected FILE.npz:NAME, since the file has the arrays x, y, w"),
        ("named.npz:z", "expected one of the arrays x, y, w"),
        ("float16.npy:x", "float16.npy:x"),
    ];
    for (name, expected) in cases {
        let line = refused(&evaluate(&[&array(name), LABELS]));
        assert!(line.contains(expected), "{name}: {line}");
    }
    let line = refused(&evaluate(&[LOGITS, &array("float_labels.npy")]));
    assert!(line.contains("expected labels of an integer type or bool, found float64"), "{line}");
    let line = refused(&evaluate(&[&array("named.npz")]));
    assert!(line.contains("expected arrays named logits and labels, found x, y, w"), "{line}");

    // An archive with any byte changed is refused, or gives the same output.
    let whole = fs::read(array("compressed.npz")).unwrap();
    for place in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        let output = evaluate(&[&file("damaged.npz", &bytes), "--ignore-index", "-100"]);
        if output.status.code() == Some(0) {
            assert_close(&value(&accepted(&output), "loss"), UNWEIGHTED_MEAN);
        } else {
            refused(&output);
        }
    }
}

/// Small logits, for which the textbook formulas are accurate.
const ROWS: [[f64; 3]; 3] = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.5], [-0.75, 1.0, 0.0]];

fn small_arrays(name: &str) -> (String, String) {
    let logits: Vec<u8> = ROWS.iter().flatten().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    let logits = file(&format!("{name}_logits.npy"), &npy("'<f4'", false, "(3, 3)", &logits));
    (logits, file(&format!("{name}_labels.npy"), &npy("'|i1'", false, "(3,)", &[2, 1, 0])))
}

fn softmax(row: &[f64; 3]) -> [f64; 3] {
    let sum: f64 = row.iter().map(|x| x.exp()).sum();
    row.map(|x| x.exp() / sum)
}

#[test]
fn the_options_of_the_loss() {
    let (logits, labels) = small_arrays("options");
    let labels_of_rows = [2, 1, 0];
    let loss = |more: &[&str]| value(&accepted(&evaluate(&[&[&logits[..], &labels], more].concat())), "loss");
    let mean = |row: &dyn Fn(usize) -> f64| (0..3).map(row).sum::<f64>() / 3.0;
    let p: Vec<[f64; 3]> = ROWS.iter().map(softmax).collect();

    let costs = [[0.0, 3.0, 1.0], [2.0, 0.0, 0.5], [7.0, 1.5, 0.0]];
    let expected = mean(&|row| {
        let y = labels_of_rows[row];
        let mislabel: f64 = (0..3).filter(|&j| j != y).map(|j| -costs[y][j] * (1.0 - p[row][j]).ln()).sum();
        -p[row][y].ln() + mislabel
    });
    assert_close(&loss(&["--mislabel-costs", "0,3,1;2,0,0.5;7,1.5,0"]), expected);

    let smoothed = mean(&|row| {
        let all: f64 = p[row].iter().map(|p| -p.ln()).sum();
        0.9 * -p[row][labels_of_rows[row]].ln() + 0.1 / 3.0 * all
    });
    assert_close(&loss(&["--label-smoothing", "0.1"]), smoothed);

    let weights = [0.5, 2.0, 1.0];
    let weighted: f64 = (0..3).map(|row| weights[row] * -p[row][labels_of_rows[row]].ln()).sum();
    let options = ["--sample-weights", "0.5,2,1", "--denominator"];
    assert_close(&loss(&[&options[..], &["sample-weight-sum"]].concat()), weighted / 3.5);
    assert_close(&loss(&[&options[..], &["rows"]].concat()), weighted / 3.0);
}

#[test]
fn the_gradient_is_that_of_the_textbook() {
    let (logits, labels) = small_arrays("gradient");
    for (reduction, divisor) in [("mean", 3.0), ("sum", 1.0), ("none", 1.0)] {
        let written = path("gradient.npy");
        accepted(&evaluate(&[&logits, &labels, "--reduction", reduction, "--gradient", &written]));
        let bytes = fs::read(&written).unwrap();
        assert_eq!(bytes.len(), 128 + 36);
        assert!(String::from_utf8_lossy(&bytes).contains("'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }"));
        for (i, bytes) in bytes[128..].chunks_exact(4).enumerate() {
            let (row, class) = (i / 3, i % 3);
            let target = if [2, 1, 0][row] == class { 1.0 } else { 0.0 };
            let expected = (softmax(&ROWS[row])[class] - target) / divisor;
            let found = f32::from_le_bytes(bytes.try_into().unwrap());
            assert!(
                (f64::from(found) - expected).abs() < 1e-6,
                "{reduction}, {row}, {class}: {found} is not {expected}"
            );
        }
    }
}

#[test]
fn decisions_of_least_expected_cost() {
    let (logits, labels) = small_arrays("decide");
    let written = path("decisions.npy");
    let decisions = |more: &[&str]| {
        let arguments = [&[&logits[..], &labels, "--decide", &written], more].concat();
        let output = accepted(&evaluate(&arguments));
        let bytes = fs::read(&written).unwrap();
        let classes: Vec<i64> =
            bytes[128..].chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
        (classes, output)
    };
    let (classes, output) = decisions(&[]);
    assert_eq!(classes, [2, 0, 1]);
    assert_eq!(value(&output, "mistakes"), "2");
    assert_eq!(value(&output, "decision cost"), "2.0");

    // Missing class 0 costs 100 and any other miss costs 1, so every decision is 0.
    let (classes, output) = decisions(&["--weights", "100,1,1"]);
    assert_eq!(classes, [0, 0, 0]);
    assert_eq!(value(&output, "mistakes"), "2");
    assert_eq!(value(&output, "decision cost"), "2.0");

    // Deciding 1 where 2 is true costs 1 + 99.
    let (classes, output) = decisions(&["--mislabel-costs", "0,0,0;0,0,0;0,99,0"]);
    assert_eq!(classes, [2, 0, 2]);
    assert_eq!(value(&output, "decision cost"), "2.0");
}

#[test]
fn json_has_what_the_text_has() {
    let arguments = [LOGITS, LABELS, "--weights", WEIGHTS, "--ignore-index", "-100", "--json"];
    let object: Value = serde_json::from_str(&accepted(&evaluate(&arguments))).unwrap();
    assert_close(&object["loss"].to_string(), WEIGHTED_MEAN);
    assert_eq!(
        (&object["rows"], &object["rows_that_count"], &object["denominator"]),
        (&8.into(), &7.into(), &17.5.into())
    );
    assert_eq!(object["backend"], rwwce::Backend::active().name());
    let by_row: Value =
        serde_json::from_str(&accepted(&evaluate(&[&arguments[..], &["--reduction", "none"]].concat()))).unwrap();
    let losses = by_row["losses"].as_array().unwrap();
    assert_eq!(losses.len(), 8);
    losses.iter().zip(ROW_LOSSES).for_each(|(loss, expected)| assert_close(&loss.to_string(), expected));

    // JSON has no NaN.
    let ignored = file("json_ignored.npy", &npy("'|u1'", false, "(8,)", &[7; 8]));
    let object = accepted(&evaluate(&[LOGITS, &ignored, "--ignore-index", "7", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&object).unwrap()["loss"], "NaN");
}
