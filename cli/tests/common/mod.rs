//! Runs the command-line program.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

pub fn rwwce(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rwwce")).args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed, with nothing on standard error.
#[track_caller]
pub fn accepted(output: &Output) -> String {
    let (text, message) = accepted_with_notes(output);
    assert_eq!(message, "");
    text
}

/// Standard output and standard error of a run that must succeed.
#[track_caller]
pub fn accepted_with_notes(output: &Output) -> (String, String) {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    (String::from_utf8(output.stdout.clone()).unwrap(), message)
}

/// The line on standard error of a run that must fail.
#[track_caller]
pub fn refused(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{message}");
    let line = message.strip_suffix('\n').expect("the message ends its line");
    assert_eq!(line.lines().count(), 1, "{message}");
    assert!(line.starts_with("error: "), "{message}");
    line.to_owned()
}

/// Writes a file, whose name no other test uses, and returns its path.
pub fn file(name: &str, bytes: &[u8]) -> String {
    let path = path(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Path of a file in the tests' temporary directory.
pub fn path(name: &str) -> String {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).into_os_string().into_string().unwrap()
}
