//! `rwwce costs` with the data of the repository, and with tables in all usual formats.
#![cfg(not(miri))]

mod common;

use std::fs;
use std::process::Output;

use common::{accepted_with_notes, file, path, refused, rwwce};

const WINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/wine_data.csv");
const WINE_COSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/wine_costs.csv");

fn costs(arguments: &[&str]) -> Output {
    rwwce(&[&["costs"], arguments].concat())
}

/// Standard output of a run that must succeed; on a busy machine there are progress lines on standard error.
#[track_caller]
fn accepted(output: &Output) -> String {
    let (text, message) = accepted_with_notes(output);
    assert_eq!(message.lines().find(|line| !line.starts_with("training: ")), None);
    text
}

/// Total costs in a row of the first table: for the most probable class, and for least expected cost.
#[track_caller]
fn total_costs(output: &str, way: &str) -> [f64; 2] {
    let line = output.lines().find(|line| line.starts_with(way)).unwrap_or_else(|| panic!("no {way} in {output}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    // The total is the word before ±.
    let totals = words.windows(2).filter(|pair| pair[1] == "±").map(|pair| pair[0].parse().unwrap());
    totals.collect::<Vec<f64>>().try_into().unwrap()
}

#[test]
fn the_breast_data_show_what_each_part_is_worth() {
    let chart = path("costs.svg");
    let output = accepted(&costs(&["--chart", &chart]));
    assert!(output.starts_with("569 cases: 212 malignant, 357 benign; 30 features.\n"), "{output}");
    assert!(output.contains("A missed case of malignant costs 20, any other mistake 1"), "{output}");
    let [probable, least] = total_costs(&output, "plain loss");
    // Logistic regression with this penalty costs 80 to 90 with least expected cost, depending on the deals, and 160 to
    // 170 with the most probable class.
    assert!(least <= 95.0 && (150.0..180.0).contains(&probable), "{output}");
    // With two classes, class weights equal to the costs move the threshold as the decision rule does.
    let [probable, least] = total_costs(&output, "cost weights");
    assert_eq!(probable, least);

    let drawn = fs::read_to_string(&chart).unwrap();
    assert!(drawn.starts_with("<svg"));
    for words in ["most probable class", "least expected cost", "plain loss", "mislabel costs", "malignant"] {
        assert!(drawn.contains(words), "{words}");
    }
    // The output does not depend on the order of the threads.
    assert_eq!(accepted(&costs(&["--chart", &chart])), output);
    assert_eq!(fs::read_to_string(&chart).unwrap(), drawn);
}

#[test]
fn wines_with_a_matrix_of_costs() {
    let arguments = [WINES, "--costs", WINE_COSTS, "--features", "1,7", "--brief"];
    let output = accepted(&costs(&arguments));
    assert!(output.contains("class_1        16        0        1"), "{output}");
    let [plain, decided] = total_costs(&output, "plain loss");
    let [trained, _] = total_costs(&output, "mislabel costs");
    assert!(decided < 0.9 * plain && trained < 0.9 * plain, "{output}");

    // The same costs without names, and with the classes in another order.
    let bare = file("bare_costs.csv", b"0;4;4\n16;0;1\n16;1;0\n");
    let names = file("named_costs.csv", b",class_2,class_0,class_1\nclass_1,1,16,\nclass_0,4,0,4\nclass_2,0,16,1\n");
    for file in [&bare, &names] {
        assert_eq!(accepted(&costs(&[WINES, "--costs", file, "--features", "1,7", "--brief"])), output);
    }
}

#[test]
fn a_temperature_helps_a_classifier_that_is_held_back() {
    let arguments = ["--penalty", "50", "--deals", "3", "--brief"];
    let [_, held_back] = total_costs(&accepted(&costs(&arguments)), "plain loss");
    let output = accepted(&costs(&[&arguments[..], &["--calibrate"]].concat()));
    let [_, calibrated] = total_costs(&output, "plain loss");
    assert!(calibrated < 0.7 * held_back, "{held_back}, {output}");
}

#[test]
fn bad_matrices_of_costs_are_refused_in_one_line() {
    let cases: [(&[u8], &str); 6] = [
        (b"0,1\n1,0\n", "expected 3 rows and columns, or one more with names, found 2 and 2"),
        (b"0,4,4\n16,0,-1\n16,1,0\n", "line 2, column 3: expected a cost of at least 0; found \"-1\""),
        (b"1,4,4\n16,0,1\n16,1,0\n", "line 1, column 1: expected 0, the cost of what is right"),
        (b"0,4,4\n16,0\n16,1,0\n", "line 2: expected 3 columns, found 2"),
        (b"0,0,0\n16,0,1\n16,1,0\n", "missing \"class_0\" costs nothing"),
        (
            b",class_0,class_1,other\nclass_0,0,1,1\nclass_1,1,0,1\nother,1,1,0\n",
            "no column has the name of the class \"class_2\"",
        ),
    ];
    for (bytes, expected) in cases {
        let line = refused(&costs(&[WINES, "--costs", &file("bad_costs.csv", bytes)]));
        assert!(line.contains("bad_costs.csv") && line.contains(expected), "{line}");
    }
}

/// Sixty cases with two features, a third of them ill.
fn cases() -> Vec<(String, String, &'static str)> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / (1 << 24) as f64
    };
    let case = |number: usize| {
        let ill = number.is_multiple_of(3);
        let shift = if ill { 0.6 } else { 0.0 };
        let measurements = [random() + shift, 10.0 * random() + 3.0 * shift];
        let [a, b] = measurements.map(|value| format!("{value:.3}"));
        (a, b, if ill { "ill" } else { "well" })
    };
    (0..60).map(case).collect()
}

/// Table with a line for each case.
fn lines(line: impl Fn(usize, &str, &str, &str) -> String) -> String {
    cases().iter().enumerate().map(|(number, (a, b, label))| line(number, a, b, label)).collect()
}

/// The same cases in various CSV formats, with the options that each needs.
fn messy_tables(plain: &str) -> [(&'static str, Vec<u8>, &'static [&'static str]); 14] {
    let comma = |number: &str| number.replace('.', ",");
    let latin1 = |text: String| text.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>();
    let rows = || lines(|_, a, b, label| format!("{a},{b},{label}\n"));
    [
        ("windows", format!("\u{feff}{}", plain.replace('\n', "\r\n")).into_bytes(), &[]),
        ("no_header", rows().into_bytes(), &[]),
        ("tabs", plain.replace(',', "\t").into_bytes(), &[]),
        (
            "decimal_commas",
            format!("a;b;state\n{}", lines(|_, a, b, label| format!("{};{};{label}\n", comma(a), comma(b))))
                .into_bytes(),
            &[],
        ),
        (
            "quotes",
            lines(|n, a, b, label| {
                format!("\"case {n}, \"\"checked\"\"\nthoroughly\", \"{a}\",\"{b}\" ,\"{label}\"\n")
            })
            .into_bytes(),
            &["--drop", "1"],
        ),
        (
            "label_first",
            format!("state,a,b\n{}", lines(|_, a, b, label| format!("{label},{a},{b}\n"))).into_bytes(),
            &["--label", "state"],
        ),
        (
            "identifiers",
            format!("id,a,state,b\n{}", lines(|n, a, b, label| format!("X{n},{a},{label},{b}\n"))).into_bytes(),
            &["--label", "3", "--drop", "id"],
        ),
        (
            "chosen",
            format!("a,note,b,state\n{}", lines(|_, a, b, label| format!("{a},?,{b},{label}\n"))).into_bytes(),
            &["--features", "a,b"],
        ),
        ("blank_lines", format!("\n\n{}\n\n", plain.replace("ill\n", "ill\n\n")).into_bytes(), &[]),
        ("years", format!("2019,2020,state\n{}", rows()).into_bytes(), &["--header", "yes"]),
        ("latin_1", latin1(format!("Gr\u{f6}\u{df}e,b,state\n{}", rows())), &[]),
        ("pipes", plain.replace(',', "|").into_bytes(), &["--delimiter", "|"]),
        ("old_mac", plain.replace('\n', "\r").into_bytes(), &[]),
        ("costly_named", plain.as_bytes().to_vec(), &["--costly", "ill"]),
    ]
}

#[test]
fn messy_tables_are_read_as_what_they_mean() {
    let plain = format!("a,b,state\n{}", lines(|_, a, b, label| format!("{a},{b},{label}\n")));
    let expected = accepted(&costs(&[&file("plain.csv", plain.as_bytes()), "--brief"]));
    assert!(
        expected.starts_with("60 cases: 20 ill, 40 well; 2 features.\nA missed case of ill costs 20"),
        "{expected}"
    );

    for (name, bytes, options) in messy_tables(&plain) {
        let path = file(&format!("{name}.csv"), &bytes);
        assert_eq!(accepted(&costs(&[&[&path, "--brief"], options].concat())), expected, "{name}");
    }

    // An empty column is left out, with a note.
    let trailing = plain.replace('\n', ",\n");
    let output = costs(&[&file("trailing.csv", trailing.as_bytes()), "--brief", "--label", "state"]);
    let (text, message) = accepted_with_notes(&output);
    assert_eq!(text, expected);
    assert!(message.starts_with("note: column 4 () has no values"), "{message}");
}

#[test]
fn labels_are_text_or_numbers() {
    let table = |ill: &'static str, well: &'static str| {
        let label = move |label: &str| if label == "ill" { ill } else { well };
        lines(|_, a, b, of| format!("{a},{b},{}\n", label(of)))
    };
    for (ill, well, first, second) in [
        ("1", "0", "40 0", "20 1"),
        ("1.0", "0", "40 0", "20 1"),
        ("-1", "1", "20 -1", "40 1"),
        ("10", "9", "40 9", "20 10"),
        ("True", "False", "40 0", "20 1"),
        ("yes", "No", "40 No", "20 yes"),
    ] {
        let path = file("labels.csv", table(ill, well).as_bytes());
        let output = accepted(&costs(&[&path, "--brief"]));
        assert!(output.starts_with(&format!("60 cases: {first}, {second}; 2 features.\n")), "{output}");
        // The rarer class is the costly one.
        let ill = second.split(' ').next_back().unwrap();
        let ill = if first.starts_with("20") { first.split(' ').next_back().unwrap() } else { ill };
        assert!(output.contains(&format!("A missed case of {ill} costs 20")), "{output}");
    }
    let path = file("costly.csv", table("ill", "well").as_bytes());
    let output = accepted(&costs(&[&path, "--brief", "--costly", "well", "--cost-ratio", "3"]));
    assert!(output.contains("A missed case of well costs 3,"), "{output}");
    let line = refused(&costs(&[&path, "--costly", "sick"]));
    assert!(line.contains("--costly: expected one of ill, well; found \"sick\""), "{line}");
}

#[test]
fn missing_values_are_filled_in_or_refused() {
    let gaps = |word: &'static str| {
        let rows = lines(|n, a, b, label| format!("{},{b},{label}\n", if n == 7 { word } else { a }));
        format!("a,b,state\n{rows}")
    };
    for word in ["", "NA", "nan", "NULL", "?"] {
        let path = file("gaps.csv", gaps(word).as_bytes());
        let line = refused(&costs(&[&path]));
        let expected =
            format!("line 9, column 1 (a): the value is missing; `--missing median` fills it in; found {word:?}");
        assert!(line.contains(&path) && line.contains(&expected), "{line}");
        let filled = accepted(&costs(&[&path, "--missing", "median", "--brief"]));
        assert!(filled.starts_with("60 cases: 20 ill, 40 well; 2 features."), "{filled}");
    }
}

#[test]
fn bad_tables_are_refused_in_one_line() {
    let plain = format!("a,b,state\n{}", lines(|_, a, b, label| format!("{a},{b},{label}\n")));
    let with = |from: &str, to: &str| plain.replacen(from, to, 1).into_bytes();
    let third = plain.lines().nth(2).unwrap();
    let utf16 = [&b"\xff\xfe"[..], &plain.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<u8>>()].concat();
    let cases: [(&str, Vec<u8>, &[&str], &str); 14] = [
        ("empty", vec![], &[], "expected cases, found none"),
        ("header_alone", b"a,b,state\n".to_vec(), &[], "expected cases, found none"),
        ("utf16", utf16, &[], "expected text in UTF-8, found UTF-16"),
        ("ragged", with(third, "1,2,3,well"), &[], "line 3: expected 3 columns, found 4"),
        (
            "ragged_windows",
            with(third, "1,well").into_iter().flat_map(crlf).collect(),
            &[],
            "line 3: expected 3 columns, found 2",
        ),
        (
            "text",
            with(third, "1,high,well"),
            &[],
            "line 3, column 2 (b): expected a number; --drop leaves a column out; found \"high\"",
        ),
        ("infinite", with(third, "1,1e39,well"), &[], "line 3, column 2 (b): expected a finite number"),
        ("no_label", with(third, "1,2,"), &[], "line 3, column 3 (state): the label is missing"),
        ("one_column", b"a\n1\n2\n".to_vec(), &[], "found one column (delimiter \",\"; see --delimiter)"),
        ("one_class", plain.replace("well", "ill").into_bytes(), &[], "every label is \"ill\""),
        ("few", b"1,2,ill\n2,3,well\n3,4,well\n".to_vec(), &[], "class \"ill\": expected 5 or more cases, found 1"),
        (
            "measurements",
            (0..200).map(|n| format!("{n},{n}.5\n")).collect::<String>().into_bytes(),
            &[],
            "more than 100 different labels",
        ),
        (
            "no_such_column",
            plain.clone().into_bytes(),
            &["--label", "status"],
            "--label: expected a position from 1 to 3 or one of a, b, state; found \"status\"",
        ),
        ("nothing_left", plain.clone().into_bytes(), &["--drop", "a,b"], "expected a column to learn from"),
    ];
    for (name, bytes, options, expected) in cases {
        let path = file(&format!("bad_{name}.csv"), &bytes);
        let line = refused(&costs(&[&[&path[..]], options].concat()));
        assert!(line.contains(&path) && line.contains(expected), "{name}: {line}");
    }
    let line = refused(&costs(&["no_such_table.csv"]));
    assert!(line.contains("no_such_table.csv: "), "{line}");
}

fn crlf(byte: u8) -> Vec<u8> {
    if byte == b'\n' { b"\r\n".to_vec() } else { vec![byte] }
}

#[test]
fn bad_options_are_refused_in_one_line() {
    let no_folder = format!("{WINES}/chart.svg");
    let cases: [(&[&str], &str); 8] = [
        (&["--no-such-option"], "unexpected argument '--no-such-option'"),
        (&["--cost-ratio", "0"], "expected a finite number above 0"),
        (&["--cost-ratio", "1e39"], "expected a finite number above 0"),
        (&["--penalty", "-1"], "--penalty"),
        (&["--deals", "0"], "0 is not in 1..=1000"),
        (&["--delimiter", "ab"], "expected one character"),
        (&["--cost-ratio", "5", "--costs", "costs.csv"], "cannot be used with"),
        (&["--brief", "--deals", "1", "--chart", &no_folder], "wine_data.csv/chart.svg: "),
    ];
    for (arguments, expected) in cases {
        let output = costs(arguments);
        let message = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.lines().count() == 1 && message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn help_and_completions_go_to_standard_output() {
    let help = accepted(&rwwce(&["--help"]));
    for subcommand in ["costs", "evaluate", "completions"] {
        assert!(help.contains(subcommand), "{help}");
    }
    assert!(accepted(&costs(&["--help"])).contains("--cost-ratio"));
    assert!(accepted(&rwwce(&["evaluate", "--help"])).contains("--mislabel-costs"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(accepted(&rwwce(&["completions", shell])).contains("cost-ratio"), "{shell}");
    }
    assert!(refused(&rwwce(&[])).contains("costs, evaluate"));
    assert!(refused(&rwwce(&["completions", "tcsh"])).contains("possible values: bash"));
}
