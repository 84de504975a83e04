# arm-none-eabi-objdump -d IMAGE | awk -v of=FUNCTION -f benches/stack_bound.awk
#
# The most stack that a function of a Cortex-M takes, with all that it calls, from its disassembly: whatever a function
# pushes or subtracts from the stack pointer anywhere, plus the largest of those that it calls or jumps to. Fails where
# that is not enough to know: a recursion, a call through a pointer, a frame of variable size.

BEGIN { conditions = "eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le" }

function fail(why) {
  print "stack_bound: " name ": " why > "/dev/stderr"
  failed = 1
  exit 1
}

# The number of registers in the braces of an instruction.
function registers(text,   list, n, i, ends, sum) {
  sub(/.*\{/, "", text)
  sub(/\}.*/, "", text)
  n = split(text, list, /, */)
  for (i = 1; i <= n; i++) {
    if (split(list[i], ends, "-") == 2) sum += substr(ends[2], 2) - substr(ends[1], 2) + 1
    else sum++
  }
  return sum
}

function bound(f,   n, i, called, largest, deep) {
  if (f in known) return known[f]
  name = f
  if (!(f in frame)) fail("no such function")
  if (f in active) fail("recursion")
  active[f]
  n = split(calls[f], called)
  for (i = 1; i <= n; i++) {
    deep = bound(called[i])
    if (deep > largest) largest = deep
  }
  delete active[f]
  if (f in trouble) { name = f; fail(trouble[f]) }
  return known[f] = frame[f] + largest
}

/^[0-9a-f]+ <.*>:$/ {
  name = $2
  gsub(/[<>:]/, "", name)
  if (name in frame) trouble[name] = "two functions have this name"
  frame[name] += 0
  next
}

# ADDRESS: \t CODE \t INSTRUCTION \t OPERANDS
/^ *[0-9a-f]+:\t/ {
  split($0, field, "\t")
  op = field[3]
  sub(/\..*/, "", op)
  args = field[4]
  if (op == "push" || (op == "stmdb" && args ~ /^sp!/)) frame[name] += 4 * registers(args)
  else if (op == "vpush" || (op == "vstmdb" && args ~ /^sp!/)) frame[name] += (args ~ /\{d/ ? 8 : 4) * registers(args)
  else if (op ~ /^(sub|subw|subs|add|addw)$/ && args ~ /^sp,/) {
    if (args !~ /#-?[0-9]+/) trouble[name] = "a frame of variable size: " op " " args
    size = args
    sub(/.*#/, "", size)
    if (op ~ /^sub/) frame[name] += size
    else if (size < 0) frame[name] -= size
  } else if (args ~ /\[sp, #-[0-9]+\]!/) {
    size = args
    sub(/.*#-/, "", size)
    frame[name] += size + 0
  } else if (op == "mov" && args ~ /^sp,/) {
    # Only a frame pointer could make up for it.
    trouble[name] = "the stack pointer is set: " args
  } else if (op == "blx" || (op == "bx" && args !~ /^lr/) || (op == "mov" && args ~ /^pc,/)) {
    trouble[name] = "a call through a pointer: " op " " args
  } else if (args ~ /<.*>/ && op ~ "^(bl?(" conditions ")?|cbn?z)$") {
    target = args
    gsub(/.*<|[+]0x[0-9a-f]+>.*|>.*/, "", target)
    # A branch within the function is no call, and ble, bls and blt are branches.
    if (target != name || (op ~ "^bl(" conditions ")?$" && args ~ "<" target ">")) calls[name] = calls[name] " " target
  }
}

END {
  if (!failed) print bound(of)
}
