//! Converts the tables in cli/data to constants, and adds this folder, with memory.x, to the linker's search path.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the folder"));
    println!("cargo::rustc-link-search={}", folder.display());
    println!("cargo::rerun-if-changed=memory.x");
    let data = folder.join("../../cli/data");
    let mut source = String::new();
    let mut write = |name: &str, table: &str, features: &[usize]| {
        let path = data.join(table);
        println!("cargo::rerun-if-changed={}", path.display());
        write_table(&mut source, name, &path, features);
    };
    // The means of the measurements in an image, without standard errors and worst values; alcohol and flavanoids.
    write("BREAST_CANCER", "breast_cancer.csv", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    write("WINE", "wine_data.csv", &[0, 6]);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the folder"));
    fs::write(out.join("data.rs"), source).expect("the folder is there to be written to");
}

/// Writes the cases of a table as constants: the chosen features, standardised by mean and standard deviation of the
/// training cases, and a 1 for the bias; and the labels. Every fifth case is held out, and comes after the training
/// cases.
fn write_table(source: &mut String, name: &str, path: &Path, chosen: &[usize]) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases = text.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().expect("a number")).collect());
    let cases: Vec<Vec<f64>> = cases.collect();
    let is_held_out = |&index: &usize| index % 5 == 4;
    let (held_out, training): (Vec<usize>, Vec<usize>) = (0..cases.len()).partition(is_held_out);
    let scaled = |&feature: &usize| {
        let column = || training.iter().map(|&index| cases[index][feature]);
        let mean = column().sum::<f64>() / training.len() as f64;
        let variance = column().map(|x| (x - mean) * (x - mean)).sum::<f64>() / training.len() as f64;
        (feature, mean, variance.sqrt())
    };
    let scales: Vec<(usize, f64, f64)> = chosen.iter().map(scaled).collect();

    let (mut features, mut labels) = (String::new(), String::new());
    for case in training.iter().chain(&held_out).map(|&index| &cases[index]) {
        for &(feature, mean, deviation) in &scales {
            write!(features, "{:?},", ((case[feature] - mean) / deviation) as f32).expect("a string has room");
        }
        features.push_str("1.0,\n");
        write!(labels, "{},", case[case.len() - 1]).expect("a string has room");
    }
    writeln!(
        source,
        "/// Width, number of cases to train with, features and labels.\n\
         const {name}: (usize, usize, &[f32], &[u8]) = ({}, {}, &[{features}], &[{labels}]);",
        chosen.len() + 1,
        training.len(),
    )
    .expect("a string has room");
}
