#!/usr/bin/env bash
# One row of 10 classes through C and through Rust, one after the other on one core.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -p rwwce-capi
mkdir -p target/c
cc -O2 -Iffi/include benches/c_call.c -o target/c/c_call target/release/librwwce.a
cargo bench -p rwwce-benches --bench loss --no-run
taskset -c 0 target/c/c_call
taskset -c 0 cargo bench -p rwwce-benches --bench loss -- '^small/[a-z0-9]+/1x10$' --noplot
taskset -c 0 target/c/c_call
