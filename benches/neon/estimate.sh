#!/usr/bin/env bash
# estimate.sh [CPU...]
# The cost of the loops of the weighted loss with NEON by the models of llvm-mca: an estimate, not a measurement.
#
# A program for aarch64 runs under qemu, which logs every instruction of one call. llvm-mca takes this trace as it is,
# branches and checks included. The difference between a larger and a smaller input is the cost of the loop.
#
# CPU is a processor of llvm-mca, with options if need be; micro-ops and pipes are those of the first. Needs what
# .ci/install installs. Debian's llvm of the compiler's version is unpacked below target/.
set -euo pipefail
cd "$(dirname "$0")/../.."

cpus=("$@")
[ ${#cpus[@]} -gt 0 ] || cpus=(neoverse-n1 'neoverse-n1 -dispatch=8' cortex-a76)
clock=2.5 # GHz

rustup -q target add aarch64-unknown-linux-gnu
export CARGO_TARGET_DIR=target/cross-build
# The release profile as it is by default.
export CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_PANIC=unwind

llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tools=target/llvm/usr/lib/llvm-$llvm/bin
if [ ! -x "$tools/llvm-mca" ]; then
  rm -rf target/llvm
  mkdir -p target/llvm
  (cd target/llvm && apt-get -qq -o APT::Sandbox::User=root download "llvm-$llvm" "libllvm$llvm" &&
    for deb in *.deb; do dpkg -x "$deb" .; done)
fi
run_tool() {
  LD_LIBRARY_PATH=target/llvm/usr/lib/x86_64-linux-gnu "$tools/$1" "${@:2}"
}

work=target/neon
mkdir -p $work
target=aarch64-unknown-linux-gnu
cargo build -q --release --lib --target $target
out=$CARGO_TARGET_DIR/$target/release
# At fixed addresses, so that the trace has the addresses of the file.
rustc --edition 2024 -O --target $target -C linker=aarch64-linux-gnu-gcc -C target-feature=+crt-static \
  -C relocation-model=static --extern rwwce="$out/librwwce.rlib" -L dependency="$out/deps" \
  -L dependency="$CARGO_TARGET_DIR/release/deps" benches/neon/calls.rs -o $work/calls

# Address and instruction. The targets of branches do not matter, but have to be in range.
run_tool llvm-objdump -d --no-show-raw-insn $work/calls | awk '
  /^ *[0-9a-f]+:/ {
    address = $1
    sub(/:$/, "", address)
    sub(/^[^:]*:[ \t]*/, "")
    sub(/[ \t]*\/\/.*/, "")
    sub(/ <.*>$/, "")
    if (/^(b|bl|b\.[a-z]+|cbn?z|tbn?z|adrp?)[ \t]/) sub(/0x[0-9a-f]+$/, "0x1000")
    gsub(/\t/, " ")
    print address "\t" $0
  }' > $work/instructions

step=-one-insn-per-tb
qemu-aarch64 -help | grep -- $step > /dev/null || step=-singlestep

# trace FILE ROWS CLASSES POSITIONS: the instructions of one call, in their order
trace() {
  # A processor without SVE, which some models lack.
  qemu-aarch64 -cpu neoverse-n1 $step -d exec,nochain -D $work/log $work/calls "${@:2}"
  awk -F '[][/ ]+' '
    NR == FNR { split($0, part, "\t"); instruction[part[1]] = part[2]; next }
    $NF == "mark" { if (!inside) marks++; inside = 1; next }
    { inside = 0 }
    marks == 1 {
      address = $5
      sub(/^0+/, "", address)
      if (!(address in instruction)) { print "error: no instruction at " address > "/dev/stderr"; exit 1 }
      print instruction[address]
    }
    END { if (marks != 2) { print "error: the call was not found in the trace" > "/dev/stderr"; exit 1 } }
    ' $work/instructions $work/log > "$1"
  rm $work/log
}

# costs CPU FILE: a name and a number in each line
costs() {
  awk '
    { total["instructions"]++ }
    /^fml[as] v/ { total["fmla"]++ }
    /^(mov v[0-9]+\.16b|fmov v[0-9]+\.4s)/ { total["moves"]++ }
    /^(ld|st)u?r q.*\[(sp|x29)/ { total["stack"]++ }
    /^(ld|st)p q.*\[(sp|x29)/ { total["stack"] += 2 }
    END { for (name in total) print name, total[name] }' "$2"
  # A call costs as much as a branch: the instructions of the callee are in the trace.
  # shellcheck disable=SC2086 # a name, and options after it
  run_tool llvm-mca -mtriple=aarch64 -mcpu=$1 -iterations=1 -call-latency=1 -all-views=0 -summary-view \
    -resource-pressure "$2" 2> $work/warnings > $work/report || { tail -5 $work/warnings >&2; return 1; }
  awk '
    /^Total Cycles:/ { print "cycles", $NF }
    /^Total uOps:/ { print "uops", $NF }
    /^\[.*\] +- / { pipe[++pipes] = $3 }
    /^Resource pressure per iteration:/ {
      getline
      getline
      for (i = 1; i <= NF; i++) print "pipe:" pipe[i] ":" i, $i + 0
    }' $work/report
}

# row NAME UNITS LOGITS LARGER SMALLER: the larger call has UNITS more units of LOGITS logits each
row() {
  local name=$1 units=$2 logits=$3 cpu
  # shellcheck disable=SC2086 # words
  trace $work/larger.s $4
  # shellcheck disable=SC2086 # words
  trace $work/smaller.s $5
  for cpu in "${cpus[@]}"; do
    costs "$cpu" $work/larger.s > $work/larger
    costs "$cpu" $work/smaller.s > $work/smaller
    sed "s/^/- /" $work/smaller
    sed "s/^/+ /" $work/larger
    echo "end $cpu"
  done | awk -v name="$name" -v units="$units" -v logits="$logits" -v clock=$clock '
    $1 == "end" {
      cpus++
      if (cpus == 1) {
        for (key in cost) if (key ~ /^pipe:/ && cost[key] > busiest) { busiest = cost[key]; pipe = key }
        sub(/^pipe:/, "", pipe)
        sub(/:[0-9]*$/, "", pipe)
        printf "| %s | %.0f | %.0f |", name, cost["instructions"] / units, cost["fmla"] / units
        printf " %.0f | %.0f |", cost["moves"] / units, cost["stack"] / units
        printf " %.0f | %.0f %s |", cost["uops"] / units, busiest / units, pipe
      }
      cycles = cost["cycles"] / units
      printf " %.0f, %.2f, %.2f |", cycles, cycles / logits, cycles / logits / clock
      split("", cost)
      next
    }
    { cost[$2] += $1 == "+" ? $3 : -$3 }
    END { print "" }'
}

echo "llvm-mca $llvm; cycles, cycles a logit, ns a logit at $clock GHz"
printf '| | instructions | fmla | moves of vectors | vectors to or from the stack | micro-ops | busiest pipe |'
printf ' %s |' "${cpus[@]}"
printf '\n|---|---|---|---|---|---|---|'
printf -- '---|%.0s' "${cpus[@]}"
echo
row '256 logits of a long row' 64 256 '8 4096 1' '4 4096 1'
row '1 class of 4 rows that stand side by side' 64 4 '64 16 64' '64 12 64'
row '1 class of 4 rows that are turned' 128 4 '128 16 1' '128 12 1'
row '4 rows of 10 classes' 16 40 '192 10 1' '128 10 1'
