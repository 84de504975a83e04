#!/usr/bin/env bash
# footprint.sh [--check | LEVEL]
# What the library costs a C program on a Cortex-M4F, as tables: section sizes that a call adds, its stack, and its
# instructions in an emulator, beside the same loss written by hand with `expf`. The library is built at opt-level
# LEVEL, "s" unless told otherwise. Fails with --check where the weighted loss is larger than the limits below, or
# slower on long rows, or the others need more. What it builds stays below target/.
set -euo pipefail
cd "$(dirname "$0")/.."

level=s
[[ ${1:-} = [0-3sz] ]] && level=$1
most_size=4096 most_stack=512 most_ram=8 least_ratio=1.5
# For a gradient with every option and for all functions: shares of the flash and of the 16 KiB of RAM of a small board.
most_gradient_size=65536 most_gradient_stack=6656 most_everything=136192

rustup -q target add thumbv7em-none-eabihf
.ci/qemu-arm-setup target/qemu-arm > /dev/null
out=$PWD/target/footprint
rm -rf "$out"
mkdir -p "$out"
export PATH=$PWD/target/qemu-arm/bin:$PATH

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Built as by .ci/microcontrollers.
RWWCE_PROVE_NO_PANIC=1 CARGO_TARGET_DIR=$PWD/target/cross-build CARGO_PROFILE_RELEASE_OPT_LEVEL=$level \
  CARGO_TARGET_THUMBV7EM_NONE_EABIHF_RUSTFLAGS='-Ctarget-feature=+vfp2,-fp64 --cfg=rwwce_vfma="sreg"' \
  cargo build -q --release --locked -p rwwce-capi --target=thumbv7em-none-eabihf 2> "$out/cargo.log" ||
  fail "$(< "$out/cargo.log")"
cp target/cross-build/thumbv7em-none-eabihf/release/librwwce.a "$out/"
gcc -O2 -fPIC -shared -Wall -Wextra -Werror benches/icount.c -o "$out/libicount.so"

# compile IMAGE OPTION...: with the expf of the C library, which the archive of Rust has as well; the loops of startup.c
# do not become memcpy and memset, so that only the call brings these.
compile() {
  local image=$out/$1
  shift
  arm-none-eabi-gcc -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 -std=c99 -Wall -Wextra -Wpedantic -Werror -Os \
    -ffunction-sections -fdata-sections -fno-tree-loop-distribute-patterns -Iffi/include "$@" \
    benches/footprint.c examples/cortex-m/c/startup.c -lm "$out/librwwce.a" \
    -nostartfiles -Wl,--gc-sections -z noexecstack -Lexamples/cortex-m -Tmps2.x -o "$image"
}

# run IMAGE: prints what the program prints, and the number of instructions.
run() {
  timeout 120 qemu-system-arm -M mps2-an386 -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -plugin "$out/libicount.so" -kernel "$out/$1" 2>&1 || fail "$1 failed"
}

# --- Sizes and stack

# sizes IMAGE: of code, of read-only data, and of static RAM.
sizes() {
  arm-none-eabi-size -A "$out/$1" |
    awk '{ size[$1] = $2 } END { print size[".text"], size[".rodata"], size[".data"] + size[".bss"] }'
}

compile nothing.elf -DMEASURE=SIZE -DCALL=NOTHING
read -r code0 tables0 ram0 <<< "$(sizes nothing.elf)"

# row NAME IMAGE: the sizes beyond those of nothing.elf, then the stack. Sets code, tables and ram.
row() {
  read -r code tables ram <<< "$(sizes "$2")"
  code=$((code - code0)) tables=$((tables - tables0)) ram=$((ram - ram0))
  printf '| %s | %d | %d | %d | %s | %s |\n' "$1" $code $tables $ram "$stack" "$bound"
}

# call NAME CALL OPTION...: a row. Sets stack to the bytes that the call writes in the emulator, and bound to the static
# bound from the disassembly, where there is one.
call() {
  local name=$1 options=("-DCALL=$2" "${@:3}")
  compile size.elf -DMEASURE=SIZE "${options[@]}"
  compile stack.elf -DMEASURE=STACK "${options[@]}"
  run stack.elf > "$out/found"
  stack=$(sed -n 's/^stack //p' "$out/found")
  arm-none-eabi-objdump -d "$out/size.elf" > "$out/size.txt"
  bound=$(awk -v of=call -f benches/stack_bound.awk "$out/size.txt" 2> "$out/unknown") || bound=-
  row "$name" size.elf
}

printf '| Cortex-M4F, bytes | code | read-only data | static RAM | stack, written | stack, bound |\n|---|---|---|---|---|---|\n'
call 'weighted loss' WEIGHTED
cp "$out/size.elf" "$out/weighted.elf"
cp "$out/unknown" "$out/weighted.unknown"
weighted_size=$((code + tables)) weighted_ram=$ram weighted_stack=$stack weighted_bound=$bound
call 'loss and gradient' GRADIENT
call 'loss and gradient, all terms' TERMS
gradient_size=$((code + tables)) gradient_stack=$stack
for level in s 2; do call "loop over \`expf\`, -O$level" LOOP -O$level; done

declared=$(gcc -E -P ffi/include/rwwce.h | grep -oE '\<rwwce_[a-z0-9_]+ *\(' | tr -d ' (')
# shellcheck disable=SC2086,SC2046 # names of functions
compile everything.elf -DMEASURE=SIZE -DCALL=NOTHING $(printf -- '-Wl,-u,%s ' $declared)
stack=- bound=-
row "all $(wc -w <<< "$declared") functions" everything.elf
everything=$((code + tables))

# --- Instructions

# measure CALL ROWSxCLASSES OPTION...: the instructions a logit of one call, by the difference of two calls and one, and
# the sum of the losses.
measure() {
  local call=$1 rows=${2%x*} classes=${2#*x} repeats found=()
  shift 2
  for repeats in 1 2; do
    compile instructions.elf -DMEASURE=INSTRUCTIONS "-DCALL=$call" "-DROWS=$rows" "-DCLASSES=$classes" \
      "-DREPEATS=$repeats" "$@"
    run instructions.elf > "$out/found"
    found+=("$(sed -n 's/^instructions //p' "$out/found")")
  done
  awk -v all=$((found[1] - found[0])) -v logits=$((rows * classes)) \
    '/^loss / { printf "%.1f %s\n", all / logits, $2 }' "$out/found"
}

shapes=(1x10 64x10 4x1000)
declare -A each sum
for shape in "${shapes[@]}"; do
  for call in WEIGHTED GRADIENT TERMS 'LOOP -Os' 'LOOP -O2'; do
    read -ra words <<< "$call"
    read -r "each[$call $shape]" "sum[$call $shape]" <<< "$(measure "${words[0]}" "$shape" "${words[@]:1}")"
  done
done

# figures NAME ARRAY CALL: a row of the table.
figures() {
  local -n of=$2
  local shape
  printf '| %s |' "$1"
  for shape in "${shapes[@]}"; do printf ' %s |' "${of["$3 $shape"]}"; done
  printf '\n'
}
printf '\n| instructions a logit, rows × classes |'
printf ' %s |' "${shapes[@]/x/×}"
printf '\n|---|---|---|---|\n'
figures 'weighted loss' each WEIGHTED
figures 'loss and gradient' each GRADIENT
figures 'loss and gradient, all terms' each TERMS
# shellcheck disable=SC2016 # Markdown
for level in s 2; do figures 'loop over `expf`, -O'$level each "LOOP -O$level"; done
figures 'sum of the losses, weighted loss' sum WEIGHTED
figures 'sum of the losses, loop' sum 'LOOP -Os'

[ "${1:-}" = --check ] || exit 0

# --- Limits

for image in weighted everything; do
  symbols=$(arm-none-eabi-nm -C "$out/$image.elf")
  grep -q ' T rwwce_weighted_row_losses$' <<< "$symbols" || fail "$image: the program does not have the library"
  if grep -iE 'alloc|sbrk|panic|unwind' <<< "$symbols"; then fail "$image: the program has what a library must not bring"; fi
done
[ "$(wc -w <<< "$declared")" -eq "$(arm-none-eabi-nm "$out/everything.elf" | grep -c ' T rwwce_')" ] ||
  fail 'not every function was linked'

failures=0
# at_most WHAT LIMIT FOUND
at_most() {
  if [[ ! $3 =~ ^[0-9]+$ ]] || [ "$3" -gt "$2" ]; then
    printf 'error: %s: %s, at most %s\n' "$1" "$3" "$2" >&2
    failures=$((failures + 1))
  fi
}
at_most 'code and read-only data of the weighted loss' $most_size $weighted_size
at_most 'static RAM of the weighted loss' $most_ram $weighted_ram
at_most 'stack that the weighted loss writes' $most_stack "$weighted_stack"
cat "$out/weighted.unknown" >&2
at_most 'bound of the stack of the weighted loss' $most_stack "$weighted_bound"
at_most 'code and read-only data of a gradient' $most_gradient_size $gradient_size
at_most 'stack that a gradient with all terms writes' $most_gradient_stack "$gradient_stack"
at_most 'code and read-only data of all functions' $most_everything $everything
[ "$weighted_bound" = - ] || [ "$weighted_bound" -ge "$weighted_stack" ] || fail 'more stack is written than the bound of it'

ratios=()
for shape in "${shapes[@]}"; do
  # Against the faster of the loop's two levels; the losses must be the same but for rounding.
  ratio=$(awk -v rwwce="${each["WEIGHTED $shape"]}" -v small="${each["LOOP -Os $shape"]}" -v fast="${each["LOOP -O2 $shape"]}" \
    -v sum="${sum["WEIGHTED $shape"]}" -v other="${sum["LOOP -Os $shape"]}" 'BEGIN {
      if (!(sum > 0 && sum / other - 1 < 1e-6 && other / sum - 1 < 1e-6)) exit 1
      printf "%.2f", (small < fast ? small : fast) / rwwce
    }') || fail "$shape: other losses than those of the loop"
  # In a short row the logarithm, in double-floats here, is a large part of the cost.
  if [ "${shape#*x}" -ge 100 ] && awk "BEGIN { exit $ratio >= $least_ratio }"; then
    printf 'error: %s: the loop takes %s times the instructions of the weighted loss, at least %s\n' \
      "$shape" "$ratio" $least_ratio >&2
    failures=$((failures + 1))
  fi
  ratios+=("$ratio")
done
[ $failures -eq 0 ] || exit 1
printf '%-28s %4d bytes, %d of stack, %s times fewer instructions than expf\n' 'weighted loss, Cortex-M4F' \
  $weighted_size "$weighted_bound" "${ratios[*]}" | tee -a "${CI_SUMMARY:-/dev/null}"
