"""Which changes to the library does no test notice?

cargo-mutants lists the changes (mutants). Compiling each by itself takes hours, so that all are compiled into one
program, each under the condition that an environment variable names it. Where that is impossible (in constants, which
the compiler evaluates, and in some patterns) mutants are compiled one by one, only with `--constants`.

Mutants that do not compile are left out. Those that the quick tests miss, on two backends at low optimisation, are
compiled once more with the profile of the tests, and every test runs on every backend.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import queue
import re
import resource
import shutil
import signal
import subprocess

import tree_sitter
import tree_sitter_rust

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "target" / "mutants"
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))

# cargo-mutants would make values of `Pair` by functions that it does not have, in hundreds of mutants.
LEFT_OUT = r"Pair::(new|from|from_iter)\b"
# Code for tests only.
OF_TESTS = ["src/backend/software.rs", "src/**/*_tests.rs"]

# AVX2 and one lane run every kernel in both classes: enough for the quick tests, except in src/backend.
TWO_BACKENDS = {"RWWCE_TEST_BACKENDS": "avx2 scalar"}
# Tests that take seconds at low optimisation, or compare backends of a class, of which two have one each.
SLOW = """every_reduction_follows_the_model every_entry_point_returns upstream_factors_of_rows_are_not
the_sum_of_many_rows_is every_scheme_follows_its_formula the_median_of_many_classes has_the_bits_of_the_function
backends_of_a_class_agree""".split()

FILES = {path.stem for path in (ROOT / "tests").glob("*.rs")}
# Files whose other tests are quick.
QUICK = """binary class_weights errors from_log_probabilities golden nan_table options partials real_world reductions
same_bits vectors weighted_row_losses""".split()
# Tests of a source file that are not in those files.
OWN = {"curvature": "curvature", "decide": "decisions", "logits": "narrow_logits", "slices": "parallel", "spread": "losses"}

# The condition of each mutant. The variable is read before `main`.
SWITCH = """
static ACTIVE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
static REACHED: [core::sync::atomic::AtomicBool; 1 << 13] = [const { core::sync::atomic::AtomicBool::new(false) }; 1 << 13];
#[inline(always)]
pub(crate) fn mutant(number: u32) -> bool {
    REACHED[number as usize % (1 << 13)].store(true, core::sync::atomic::Ordering::Relaxed);
    ACTIVE.load(core::sync::atomic::Ordering::Relaxed) == number
}
extern "C" fn read_variable() {
    if let Ok(number) = std::env::var("RWWCE_MUTANT") {
        ACTIVE.store(number.parse().unwrap(), core::sync::atomic::Ordering::Relaxed);
    }
}
extern "C" fn write_reached() {
    if let Ok(path) = std::env::var("RWWCE_REACHED") {
        let reached = REACHED.iter().map(|reached| if reached.load(core::sync::atomic::Ordering::Relaxed) { '1' } else { '0' });
        std::fs::write(path, std::string::String::from_iter(reached)).unwrap();
    }
}
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = read_variable;
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = write_reached;
"""


class Mutant:
    def __init__(self, number, listed):
        self.number = number
        self.file = listed["file"]
        self.name = listed["name"]
        self.genre = listed["genre"]
        self.replacement = listed["replacement"]
        self.start = listed["span"]["start"]
        self.diff = listed["diff"]
        # By which its outcome is kept: `set_keys`.
        self.key = self.name

    @staticmethod
    def none():
        nowhere = {"file": "", "name": "", "genre": "", "replacement": "", "span": {"start": None}, "diff": ""}
        return Mutant(0, nowhere)

    def is_active(self):
        return f"crate::mutant({self.number})"


def list_mutants():
    command = ["cargo", "mutants", "--list", "--json", "--package", "rwwce", "--exclude-re", LEFT_OUT]
    command += ["--file", "src/**/*.rs", *(word for glob in OF_TESTS for word in ("--exclude", glob))]
    listed = json.loads(subprocess.check_output(command, cwd=ROOT))
    mutants = [Mutant(number, mutant) for number, mutant in enumerate(listed, 1)]
    set_keys(mutants)
    return mutants


def set_keys(mutants):
    """Outcomes are kept by the tokens of the function around a mutant and its place among them, so that they outlast
    changes of comments, of lines before it and of other functions."""
    by_file = collections.defaultdict(list)
    for mutant in mutants:
        by_file[mutant.file].append(mutant)
    for path, of_file in by_file.items():
        source = (ROOT / path).read_bytes()
        starts = [0]
        for line in source.split(b"\n"):
            starts.append(starts[-1] + len(line) + 1)
        tokens, functions = [], []

        def walk(node):
            first = len(tokens)
            if not node.children and "comment" not in node.type:
                tokens.append((node.start_byte, node.text.decode()))
            for child in node.children:
                walk(child)
            if node.type == "function_item":
                functions.append((node.start_byte, node.end_byte, first, len(tokens)))

        walk(PARSER.parse(source).root_node)
        for mutant in of_file:
            line = mutant.start["line"] - 1
            text = source[starts[line] : starts[line + 1]].decode()
            at = starts[line] + len(text[: mutant.start["column"] - 1].encode())
            # Inner functions come first. Outside of functions, in constants, the line stands for the function.
            around = [(f, l) for start, end, f, l in functions if start <= at < end]
            first, last = around[0] if around else (0, 0)
            words = [word for _, word in tokens[first:last]] or [text.strip()]
            place = sum(start < at for start, _ in tokens[first:last])
            digest = hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]
            mutant.key = f"{mutant.name.split(': ', 1)[1]}: {place} of {path} {digest}"
    keys = collections.Counter(mutant.key for mutant in mutants)
    if twice := [key for key, count in keys.items() if count > 1]:
        raise SystemExit(f"two mutants each of {twice}")


def copy_tree(to):
    """The files that git knows, as they are in the work tree."""
    shutil.rmtree(to, ignore_errors=True)
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]:
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def functions_of_constants():
    """`const` functions that a constant of the library calls, directly or not: they must stay `const`."""
    calls, found = collections.defaultdict(set), set()

    def walk(node, function, constant):
        if node.type == "function_item":
            function = node.child_by_field_name("name").text.decode()
        constant = constant or node.type in ("const_item", "static_item", "const_block", "array_type")
        if node.type == "call_expression":
            called = re.sub(r"::<.*>$", "", node.child_by_field_name("function").text.decode())
            name = re.split(r"::|\.", called)[-1]
            (found if constant else calls[function]).add(name)
        for child in node.children:
            walk(child, function, constant)

    for path in (ROOT / "src").rglob("*.rs"):
        walk(PARSER.parse(path.read_bytes()).root_node, None, False)
    while more := set().union(*(calls[name] for name in found)) - found:
        found |= more
    return found


class File:
    """A source file with all of its mutants in it."""

    def __init__(self, path, mutants, constants):
        self.constants = constants
        self.source = (ROOT / path).read_bytes()
        lines = self.source.split(b"\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        self.at = collections.defaultdict(list)
        for mutant in mutants:
            line, column = mutant.start["line"] - 1, mutant.start["column"] - 1
            offset = starts[line] + len(lines[line].decode()[:column].encode())
            self.at[mutant.genre, offset].append(mutant)
        self.placed = set()
        root = PARSER.parse(self.source).root_node
        self.text = self.source[: root.start_byte].decode() + self.rewritten(root)

    def take(self, genre, node):
        mutants = self.at.get((genre, node.start_byte), [])
        self.placed.update(mutants)
        return mutants

    def raw(self, node):
        return node.text.decode()

    @staticmethod
    def is_const(function):
        return any(c.type == "function_modifiers" and b"const" in c.text for c in function.children)

    def is_constant(self, node):
        """Whether the compiler evaluates this node, and cannot read the environment."""
        while node is not None:
            if node.type in ("const_item", "static_item", "const_block", "array_type"):
                return True
            if node.type == "function_item" and self.is_const(node):
                return self.raw(node.child_by_field_name("name")) in self.constants
            node = node.parent
        return False

    def pieces(self, node, start, end):
        """The text from `start` to `end` with the children in it rewritten."""
        out, at = [], start
        for child in node.children:
            if start <= child.start_byte and child.end_byte <= end:
                out += [self.source[at : child.start_byte].decode(), self.rewritten(child)]
                at = child.end_byte
        return "".join(out) + self.source[at:end].decode()

    def rewritten(self, node):
        # Each condition starts a line, with the mutants of what follows `else`, so that a compiler error comes after
        # the number of its mutant.
        rewrite = getattr(self, node.type, None)
        text = rewrite(node) if rewrite and not self.is_constant(node) else None
        if text is not None:
            return text
        if node.type == "function_modifiers" and not self.is_constant(node):
            return self.raw(node).replace("const", "")
        return self.pieces(node, node.start_byte, node.end_byte) if node.children else self.raw(node)

    @staticmethod
    def mark(mutants):
        return "/*@" + ",".join(str(mutant.number) for mutant in mutants) + "@*/"

    def choose(self, mutants, mutated, original):
        questions = "".join(f"\nif {m.is_active()} {{ {mutated(m)} }} else" for m in mutants)
        return f"{self.mark(mutants)}{questions}\n{self.mark(mutants)}{{ {original} }}"

    def token_tree(self, node):
        return self.raw(node)

    def binary_expression(self, node):
        operator = node.child_by_field_name("operator")
        if ("BinaryOperator", operator.start_byte) not in self.at:
            return None
        lazy = operator.type in ("&&", "||")
        if lazy and "let " in self.raw(node):
            return None
        mutants = self.take("BinaryOperator", operator)
        left = self.rewritten(node.child_by_field_name("left"))
        right = self.rewritten(node.child_by_field_name("right"))
        if lazy:
            chosen = self.choose(mutants, lambda m: f"{left} {m.replacement} {right}", f"{left} {operator.type} {right}")
            return f"({chosen})"
        chosen = self.choose(mutants, lambda m: f"l__ {m.replacement} r__", f"l__ {operator.type} r__")
        return f"({{ let (l__, r__) = ({left}, {right}); {chosen} }})"

    def compound_assignment_expr(self, node):
        operator = node.child_by_field_name("operator")
        mutants = self.take("BinaryOperator", operator)
        if not mutants:
            return None
        left = self.rewritten(node.child_by_field_name("left"))
        right = self.rewritten(node.child_by_field_name("right"))
        chosen = self.choose(mutants, lambda m: f"{left} {m.replacement} {right}", f"{left} {operator.type} {right}")
        return f"{{ {chosen} }}"

    def unary_expression(self, node):
        mutants = self.take("UnaryOperator", node)
        if not mutants:
            return None
        operand = self.rewritten(node.children[1])
        return f"({self.choose(mutants, lambda _: operand, self.raw(node.children[0]) + operand)})"

    def match_arm(self, node):
        pattern = node.child_by_field_name("pattern")
        guard = pattern.child_by_field_name("condition")
        is_let = guard is not None and guard.type in ("let_condition", "let_chain")
        deleted = self.take("MatchArm", node) or self.take("MatchArm", pattern)
        replaced = self.take("MatchArmGuard", guard) if guard is not None and not is_let else []
        if not deleted and not replaced:
            return None
        end = pattern.end_byte
        conditions = [f"\n!{m.is_active()}" for m in deleted]
        if guard is not None:
            end = next(c for c in pattern.children if c.type == "if").start_byte
            condition = self.rewritten(guard)
            for mutant in replaced:
                question = f"{mutant.is_active()} ||" if mutant.replacement == "true" else f"!{mutant.is_active()} &&"
                condition = f"\n({question} ({condition}))"
            conditions.append(condition if is_let else f"({condition})")
        before = self.source[node.start_byte : end].decode()
        return f"{before} if {' && '.join(conditions)}{self.pieces(node, pattern.end_byte, node.end_byte)}"

    def field_initializer(self, node):
        mutants = self.take("StructField", node)
        if not mutants:
            return None
        base = next(c for c in node.parent.children if c.type == "base_field_initializer")
        base = self.rewritten(base).removeprefix("..")
        if node.type == "shorthand_field_initializer":
            name = value = self.raw(node)
        else:
            name = self.raw(node.child_by_field_name("field"))
            value = self.rewritten(node.child_by_field_name("value"))
        return f"{name}: {self.choose(mutants, lambda _: f'({base}).{name}', value)}"

    shorthand_field_initializer = field_initializer

    def block(self, node):
        if node.parent is None or node.parent.type != "function_item":
            return None
        # A body is listed by the start of its first statement.
        mutants = [mutant for child in node.children for mutant in self.take("FnValue", child)]
        if not mutants:
            return None
        returns = "".join(f"\nif {m.is_active()} {{ return {m.replacement}; }}" for m in mutants)
        return f"{{ {returns}\n{self.pieces(node, node.start_byte + 1, node.end_byte)}"


class Program:
    """The tests with mutants in the library."""

    def __init__(self, name, mutants, profile):
        self.folder = OUT / name
        self.tree = self.folder / "tree"
        self.profile = profile
        self.mutants = mutants
        self.environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(self.folder / "target"),
            "RUSTFLAGS": "--cap-lints=allow",
            "CARGO_INCREMENTAL": "0",
            "CARGO_PROFILE_DEV_DEBUG": "0",
            **profile,
            # `--fail-fast` of the test harness is not stable yet. Mutants in loops can nest deeply.
            "RUSTC_BOOTSTRAP": "1",
            "RUST_MIN_STACK": str(1 << 28),
            "RUST_BACKTRACE": "0",
        }

    def cargo(self, *arguments):
        return subprocess.run(["cargo", *arguments], cwd=self.tree, env=self.environment, capture_output=True, text=True)

    def build(self):
        """The test programs by name, or None where something does not compile."""
        done = self.cargo("test", "--no-run", "--message-format=json", "--lib", "--test", "all")
        if done.returncode != 0:
            return None
        programs = {}
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message.get("executable") and message.get("profile", {}).get("test"):
                programs[message["target"]["name"]] = message["executable"]
        return programs

    def place_all(self):
        """Inserts the mutants that compile. Returns those that cannot be inserted, those that do not compile, and those
        that are not compiled for this machine."""
        copy_tree(self.tree)
        library = self.tree / "src" / "lib.rs"
        switch = library.read_text().replace("#[cfg(any(test, feature = \"rayon\"))]\nextern crate std;", "extern crate std;") + SWITCH
        constants, unviable = functions_of_constants(), set()
        while True:
            placed = set()
            for path in sorted({m.file for m in self.mutants}):
                chosen = [m for m in self.mutants if m.file == path and m.number not in unviable]
                file = File(path, chosen, constants)
                placed |= {m.number for m in file.placed}
                (self.tree / path).write_text(file.text)
            library.write_text(switch)
            done = self.cargo("check", "--lib", "--all-features", "--message-format=json")
            if done.returncode == 0:
                return {m.number for m in self.mutants} - placed - unviable, unviable, placed - self.compiled()
            found = set()
            for line in done.stdout.splitlines():
                message = json.loads(line).get("message") or {}
                if isinstance(message, dict) and message.get("level") == "error":
                    for span in message["spans"]:
                        found |= self.mutants_at(span) if span["is_primary"] else set()
            if not found - unviable:
                raise SystemExit(done.stderr)
            unviable |= found

    def compiled(self):
        """The mutants in what is compiled for this machine: the others are in code for other processors."""
        done = self.cargo("rustc", "--lib", "--all-features", "--profile=check", "--", "-Zunpretty=expanded")
        return set(map(int, re.findall(r"crate::mutant\((\d+)\)", done.stdout)))

    def mutants_at(self, span):
        lines = (self.tree / span["file_name"]).read_text().split("\n")
        for line in reversed(lines[max(0, span["line_start"] - 6) : span["line_start"]]):
            marks = [n for mark in re.findall(r"/\*@([\d,]+)@\*/", line) for n in mark.split(",")]
            numbers = re.findall(r"crate::mutant\((\d+)\)", line) or marks
            if numbers:
                return set(map(int, numbers))
        # A pattern that is needed: all arms of the `match`.
        arms = lines[span["line_start"] - 1 : span["line_start"] + 40]
        numbers = re.findall(r"^!crate::mutant\((\d+)\)", "\n".join(arms), re.MULTILINE)
        return set(map(int, numbers))


def run(command, environment, seconds):
    """`caught` if the command fails, `did not end` after so many seconds of processor time, or None."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    process = subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=limit,
    )
    try:
        # Sleeping takes no processor time, and waiting for a processor must not fail a mutant.
        code = process.wait(20 * seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "did not end"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "did not end"
    return "caught" if code != 0 else None


def harness(program, files=(), skipped=()):
    """All of the program's tests but those skipped, or those of some files of tests/."""
    arguments = ["-Zunstable-options", "--fail-fast", "--test-threads=1", *(f"{name}::" for name in files)]
    return [program, *arguments, *(word for name in skipped for word in ("--skip", name))]


class Results:
    """The outcome of each mutant, kept in a file, so that a run can go on where another was stopped."""

    def __init__(self, name):
        self.path = OUT / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.of = {entry["mutant"]: entry["outcome"] for entry in map(json.loads, lines)}

    def put(self, mutant, outcome):
        self.of[mutant.key] = outcome
        with self.path.open("a") as file:
            file.write(json.dumps({"mutant": mutant.key, "outcome": outcome}) + "\n")

    def all(self, mutants, jobs, outcome_of):
        """Determines the outcome of each mutant that has none."""
        left = [m for m in mutants if m.key not in self.of]
        print(f"{len(mutants)} mutants, {len(left)} to be run", flush=True)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            future = {pool.submit(outcome_of, m): m for m in left}
            for number, done in enumerate(concurrent.futures.as_completed(future), 1):
                self.put(future[done], done.result())
                if number % 100 == 0:
                    print(f"{number} run", flush=True)


def first_look(program, programs):
    """The quick tests."""

    def outcome(mutant):
        in_backend, own = mutant.file.startswith("src/backend/"), OWN.get(pathlib.Path(mutant.file).stem)
        # The list of backends does not depend on the tests' choice, and each backend has code of its own.
        environment = {**program.environment, "RWWCE_MUTANT": str(mutant.number), **({} if in_backend else TWO_BACKENDS)}
        everywhere = {k: v for k, v in environment.items() if k not in TWO_BACKENDS}
        return (
            run(harness(programs["all"], ["findings"]), environment, 6)
            or run(harness(programs["all"], QUICK, SLOW), environment, 30)
            or (own and run(harness(programs["all"], [own]), environment, 90))
            or run(harness(programs["all"], ["cpu_features"]), everywhere, 10)
            or run(harness(programs["rwwce"], ["work_tests"]), everywhere, 60)
            or (in_backend and run(harness(programs["rwwce"]), everywhere, 60))
            or "missed"
        )

    return outcome


def second_look(program, programs, has_switch=True):
    """All tests."""
    # Tests that are quick and catch many mutants come first, preceded by those that caught most in the same file.
    first = ["work", "unit", "findings", *QUICK, "memory", "accuracy", "properties", "narrow_logits", "losses"]
    order = first + sorted(FILES - set(first))
    noticed = collections.defaultdict(collections.Counter)

    def tests(name):
        if name == "work":
            return harness(programs["rwwce"], ["work_tests"])
        return harness(programs["rwwce"], skipped=["work_tests"]) if name == "unit" else harness(programs["all"], [name])

    # Tests cannot fail for a mutant that they do not reach.
    reached = {}
    for name in order if has_switch else []:
        path = program.folder / f"reached-{name}"
        if run(tests(name), {**program.environment, "RWWCE_REACHED": str(path)}, 120):
            raise SystemExit(f"{name}: the tests fail without any mutant")
        reached[name] = path.read_text()

    def outcome(mutant):
        environment = {**program.environment, "RWWCE_MUTANT": str(mutant.number)}
        times = noticed[mutant.file]
        for name in sorted(order, key=lambda name: -times[name]):
            if reached and reached[name][mutant.number] == "0":
                continue
            if outcome := run(tests(name), environment, 120):
                times[name] += 1
                return outcome
        return "missed"

    return outcome


def outcome_apart(program, mutant):
    """The mutant is patched into a tree of its own and compiled by itself; all tests if the quick ones miss it."""
    copy_tree(program.tree)
    subprocess.run(["patch", "--silent", "-p0", mutant.file], input=mutant.diff, text=True, check=True, cwd=program.tree)
    if program.cargo("check", "--lib", "--all-features").returncode != 0:
        return "does not compile"
    programs = program.build()
    if programs is None:
        # Some mutants already fail while the tests are compiled.
        return "caught"
    outcome = first_look(program, programs)(mutant)
    if outcome != "missed":
        return outcome
    return second_look(program, programs, has_switch=False)(mutant)


def run_apart(mutants, whole, jobs):
    """Those that cannot be placed among the others, one by one."""
    print("=== one by one", flush=True)
    trees = queue.SimpleQueue()
    for job in range(jobs):
        # Only a lint makes the compiler refuse a constant whose evaluation does not end.
        profile = {"CARGO_PROFILE_DEV_OPT_LEVEL": "0", "CARGO_BUILD_JOBS": "1", "RUSTFLAGS": ""}
        trees.put(Program(f"apart-{job}", [], profile))

    def in_a_free_tree(mutant):
        program = trees.get()
        try:
            return outcome_apart(program, mutant)
        finally:
            trees.put(program)

    whole.all(mutants, jobs, in_a_free_tree)


def report(mutants, outcomes):
    """A line for each file, the total, and the missed mutants, in Markdown."""
    ended = ["caught", "did not end", "missed"]
    files = collections.defaultdict(collections.Counter)
    for mutant in mutants:
        files[mutant.file.removeprefix("src/")][outcomes[mutant.key]] += 1
    lines = ["| file | " + " | ".join(ended) + " |", "|---|" + "---|" * len(ended)]
    for file, count in sorted(files.items()):
        if any(count[outcome] for outcome in ended):
            lines.append(f"| {file} | " + " | ".join(str(count[outcome]) for outcome in ended) + " |")
    whole = sum(files.values(), collections.Counter())
    lines.append("| all | " + " | ".join(str(whole[outcome]) for outcome in ended) + " |")
    run = sum(whole[outcome] for outcome in ended)
    share = 100 * (run - whole["missed"]) / max(1, run)
    left_out = f"{whole['does not compile']} more do not compile, {whole['elsewhere']} are in code for other processors, "
    left_out += f"{whole['left out']} in constants are left out"
    lines += ["", f"{share:.1f} % of {run} are caught; {left_out}.", ""]
    lines += [mutant.name for mutant in mutants if outcomes[mutant.key] == "missed"]
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("shard", nargs="?", default="0/1", help="K/N: every N-th mutant, from the K-th on")
    arguments.add_argument("--again", action="store_true", help="try again what was missed: there are other tests")
    arguments.add_argument("--constants", action="store_true", help="also those that are compiled one by one: hours")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count())
    options = arguments.parse_args()
    first, step = map(int, options.shard.split("/"))
    mutants = list_mutants()[first::step]

    quick, whole = Results("quick"), Results("whole")
    if options.again:
        whole.of = {name: outcome for name, outcome in whole.of.items() if outcome != "missed"}

    print("=== all in one", flush=True)
    together = Program("together", mutants, {"CARGO_PROFILE_DEV_OPT_LEVEL": "1"})
    apart, unviable, elsewhere = together.place_all()
    placed = [m for m in mutants if m.number not in apart | unviable | elsewhere]
    if any(m.key not in quick.of for m in placed):
        programs = together.build()
        if first_look(together, programs)(Mutant.none()) != "missed":
            raise SystemExit("the tests fail without any mutant")
        quick.all(placed, options.jobs, first_look(together, programs))

    print("=== what the quick tests missed", flush=True)
    missed = [m for m in placed if quick.of[m.key] == "missed" and m.key not in whole.of]
    if missed:
        optimised = Program("missed", missed, {})
        optimised.place_all()
        programs = optimised.build()
        whole.all(missed, options.jobs, second_look(optimised, programs))

    if options.constants:
        run_apart([m for m in mutants if m.number in apart], whole, options.jobs)

    outcomes = {m.key: "does not compile" for m in mutants if m.number in unviable}
    outcomes |= {m.key: "elsewhere" for m in mutants if m.number in elsewhere}
    outcomes |= {m.key: "left out" for m in mutants if m.number in apart}
    outcomes |= {name: outcome for name, outcome in quick.of.items() if outcome != "missed"} | whole.of
    print(report(mutants, outcomes))


main()
