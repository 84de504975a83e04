#!/usr/bin/env python3
"""The weighted mean loss of this crate beside PyTorch, JAX and ONNX Runtime, in turn within one run.

    python3 -m venv target/peers && target/peers/bin/pip install -r benches/requirements.txt ./ffi/python
    target/peers/bin/python benches/peers.py [--threads 1 2] [--json results.json] [--chart chart.svg]
    target/peers/bin/python benches/peers.py --from results.json --chart chart.svg

In each round every library is timed on the same shape, one right after another, so that a drift of the machine's speed
affects all. It prints the medians over the rounds, in nanoseconds a logit (of the smallest shape in microseconds a
call), and the medians of the ratios of each round.
Results of a library are compared with this crate's before it is timed; if they differ, the run stops.

Inputs are float32, uniform in ±4; labels are int64; every class has a weight. PyTorch's cross_entropy is called eagerly
and through torch.compile, for one shape at a time (`dynamic=False`), with a C++ compiler. JAX has 64-bit types enabled
for the labels. ONNX Runtime gets a graph of one SoftmaxCrossEntropyLoss, whose gradient it cannot compute. This crate
writes its gradient to a given buffer, as the others return one, or in place of the logits, which are restored between
the calls, untimed; its Python package is called with PyTorch tensors as PyTorch is, eagerly.

With `--isa avx2` the others are restricted to AVX2 by environment variables. ONNX Runtime has no such setting: it is
shown, but does not count as the fastest. Code of torch.compile is AVX2, but g++ optimises it for this machine.
"""

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A batch so small that a call of it is mostly overhead: timed in microseconds a call.
SMALL = (16, 4)
SHAPES = [SMALL, (65536, 2), (65536, 4), (65536, 10), (16384, 32), (8192, 100), (1024, 1000), (64, 32000), (64, 128256)]
ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "benches/peers/Cargo.toml"

OURS, IN_PLACE, PYTHON = "rwwce", "rwwce in place", "rwwce, Python"
EAGER, COMPILED, JAX, ONNX = "PyTorch eager", "torch.compile", "JAX jit", "ONNX Runtime"
PASSES = {
    "loss": [EAGER, COMPILED, JAX, ONNX, PYTHON, OURS],
    "loss and gradient": [EAGER, COMPILED, JAX, PYTHON, OURS, IN_PLACE],
}

# Tolerance of a loss, relative to ours, and of a gradient element, relative to the largest.
TOLERANCE = 1e-4
WARM_UP_CALLS = 2
MIN_CALLS = 5


def shape_name(rows, classes):
    return f"{rows}x{classes}"


# The timed calls. Each peer is a function from the input to a call, and to a function from its result to numbers.


def torch_loss(logits, labels, weights):
    import torch

    return torch.nn.functional.cross_entropy(logits, labels, weight=weights)


def with_torch(loss, logits, labels, weights, with_gradient):
    import torch

    # Copies, because PyTorch aligns its memory and NumPy does not.
    logits, labels, weights = (torch.from_numpy(array).clone() for array in (logits, labels, weights))
    if not with_gradient:
        return lambda: loss(logits, labels, weights), lambda result: (result.item(), None)
    logits.requires_grad_()

    def call():
        result = loss(logits, labels, weights)
        return result, torch.autograd.grad(result, logits)[0]

    return call, lambda result: (result[0].item(), result[1].numpy())


def torch_eager(*arguments):
    return with_torch(torch_loss, *arguments)


def torch_compiled(*arguments):
    import torch

    # Each shape is compiled by itself, more often than the default limit allows.
    torch._dynamo.config.recompile_limit = 4 * len(SHAPES)
    return with_torch(torch.compile(torch_loss, dynamic=False), *arguments)


def our_python(*arguments):
    import rwwce

    rwwce.set_threads(len(os.sched_getaffinity(0)))
    return with_torch(lambda logits, labels, weights: rwwce.cross_entropy(logits, labels, weight=weights), *arguments)


def jax_jit(logits, labels, weights, with_gradient):
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)

    def loss(logits, labels, weights):
        log_probabilities = jax.nn.log_softmax(logits)
        of_labels = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
        row_weights = weights[labels]
        return -jnp.sum(row_weights * of_labels) / jnp.sum(row_weights)

    arrays = [jax.device_put(array) for array in (logits, labels, weights)]
    function = jax.jit(jax.value_and_grad(loss) if with_gradient else loss)

    def numbers(result):
        return (float(result[0]), np.asarray(result[1])) if with_gradient else (float(result), None)

    return lambda: jax.block_until_ready(function(*arrays)), numbers


def onnx_runtime(logits, labels, weights, with_gradient):
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    assert not with_gradient
    shapes = {"logits": logits.shape, "labels": labels.shape, "weights": weights.shape}
    types = {"logits": TensorProto.FLOAT, "labels": TensorProto.INT64, "weights": TensorProto.FLOAT}
    graph = helper.make_graph(
        [helper.make_node("SoftmaxCrossEntropyLoss", list(shapes), ["loss"], reduction="mean")],
        "loss",
        [helper.make_tensor_value_info(name, types[name], shapes[name]) for name in shapes],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])],
    )
    # The oldest versions with the operator, so that every runtime knows them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in (("logits", logits), ("labels", labels), ("weights", weights)):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    binding.bind_output("loss")

    def call():
        session.run_with_iobinding(binding)
        return binding

    return call, lambda result: (result.copy_outputs_to_cpu()[0].item(), None)


PEERS = {EAGER: torch_eager, COMPILED: torch_compiled, JAX: jax_jit, ONNX: onnx_runtime}
CALLED_FROM_HERE = PEERS | {PYTHON: our_python}


def time_call(call, seconds):
    """The median of the nanoseconds of a call."""
    for _ in range(WARM_UP_CALLS):
        call()
    times = []
    gc.disable()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < MIN_CALLS:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    gc.enable()
    return statistics.median(times)


class Ours:
    """The program that times this crate, for the shape whose files have this prefix."""

    def __init__(self, program, threads, backend):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.threads, self.backend = threads, backend

    def time(self, prefix, rows, classes, name, seconds, gradient_file=""):
        """The loss, and the median of the nanoseconds of a call."""
        request = f"{prefix} {rows} {classes} {name} {self.threads} {self.backend} {seconds} {gradient_file}"
        print(request, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer or answer.startswith("error: "):
            sys.exit(f"{OURS}: {answer.strip() or 'ended'} ({request})")
        loss, nanoseconds, _calls = answer.split()
        return float(loss), float(nanoseconds)


def check(library, shape, found, expected):
    """Ends the run where a loss, or a gradient, is not the expected one."""
    import numpy as np

    (loss, gradient), (expected_loss, expected_gradient) = found, expected
    if not abs(loss - expected_loss) <= TOLERANCE * expected_loss:
        sys.exit(f"{library}, {shape}: the loss is {loss}, expected {expected_loss}")
    if expected_gradient is not None:
        error, largest = np.abs(gradient.ravel() - expected_gradient).max(), np.abs(expected_gradient).max()
        if not error <= TOLERANCE * largest:
            sys.exit(f"{library}, {shape}: the gradient is off by {error}, the largest element is {largest}")


# A process for each number of threads, since libraries read environment and processors when they are loaded.


def environment(threads, isa, target):
    flags = [os.environ.get("XLA_FLAGS", "")]
    if threads == 1:
        flags.append("--xla_cpu_multi_thread_eigen=false")
    if isa == "avx2":
        flags.append("--xla_cpu_max_isa=AVX2")
    return {
        "OMP_NUM_THREADS": str(threads),
        "JAX_PLATFORMS": "cpu",
        # Compilation helpers would take time from what is measured.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        # PyTorch 2.15 takes a graph for AVX-512 from its cache when restricted to AVX2, and returns wrong losses.
        "TORCHINDUCTOR_CACHE_DIR": f"{target}/inductor/{isa or 'best'}-{threads}",
        "XLA_FLAGS": " ".join(flags).strip(),
    } | ({"ATEN_CPU_CAPABILITY": "avx2"} if isa == "avx2" else {})


def measure_with_threads(task):
    """All measurements with one number of threads, in this process."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < task["threads"]:
        sys.exit(f"{task['threads']} threads were asked for, and this process may use {len(processors)} processors")
    os.sched_setaffinity(0, processors[: task["threads"]])
    import numpy as np
    import torch

    torch.set_num_threads(task["threads"])
    ours = Ours(task["program"], task["threads"], task["isa"] or "best")
    calls, results = {}, {}
    for number in range(task["rounds"]):
        for rows, classes in task["shapes"]:
            shape, prefix = shape_name(rows, classes), f"{task['folder']}/{shape_name(rows, classes)}"
            for name, libraries in PASSES.items():
                if number == 0:
                    print(f"{task['threads']} thread(s), {shape}, {name}: checking", file=sys.stderr)
                    arrays = [np.fromfile(f"{prefix}.{kind}", dtype) for kind, dtype in
                              (("logits", "<f4"), ("labels", "<i8"), ("weights", "<f4"))]
                    arrays[0] = arrays[0].reshape(rows, classes)
                    expected = check_ours(ours, prefix, rows, classes, name)
                    for library in CALLED_FROM_HERE.keys() & set(libraries):
                        call, numbers = CALLED_FROM_HERE[library](*arrays, name != "loss")
                        check(library, shape, numbers(call()), expected)
                        calls[shape, name, library] = call
                # No library is always the first, which finds the caches as the other pass left them.
                turn = number % len(libraries)
                for library in libraries[turn:] + libraries[:turn]:
                    # Threads of the previous library spin for a while.
                    time.sleep(0.01)
                    if library in CALLED_FROM_HERE:
                        nanoseconds = time_call(calls[shape, name, library], task["seconds"])
                    else:
                        kind = "in-place" if library == IN_PLACE else "forward" if name == "loss" else "both"
                        _, nanoseconds = ours.time(prefix, rows, classes, kind, task["seconds"])
                    key = {"threads": task["threads"], "pass": name, "rows": rows, "classes": classes, "library": library}
                    result = results.setdefault(tuple(key.values()), key | {"ns_per_logit": []})
                    result["ns_per_logit"].append(nanoseconds / (rows * classes))
        print(f"{task['threads']} thread(s): round {number + 1} of {task['rounds']}", file=sys.stderr)
    return {"results": list(results.values()), "capability": torch.backends.cpu.get_cpu_capability()}


def check_ours(ours, prefix, rows, classes, name):
    """The loss and the gradient that others must return; those of all our passes must agree."""
    import numpy as np

    loss, _ = ours.time(prefix, rows, classes, "forward", 0)
    if name == "loss":
        return loss, None
    gradients = []
    for kind in ("both", "in-place"):
        of_kind, _ = ours.time(prefix, rows, classes, kind, 0, f"{prefix}.gradient")
        gradients.append(np.fromfile(f"{prefix}.gradient", "<f4"))
        check(f"{OURS} {kind}", shape_name(rows, classes), (of_kind, gradients[-1]), (loss, gradients[0]))
    return loss, gradients[0]


# The whole run.


def measure(arguments):
    import numpy as np

    # The commit that is built, not the one when the run ends.
    commit = first_line(["git", "-C", ROOT, "describe", "--always", "--dirty"])
    build = ["cargo", "build", "--quiet", "--release", "--bin", "ours", "--manifest-path", MANIFEST]
    subprocess.run(build, check=True)
    metadata = ["cargo", "metadata", "--format-version", "1", "--manifest-path", MANIFEST]
    metadata = json.loads(subprocess.run(metadata, check=True, capture_output=True).stdout)
    target = metadata["target_directory"]
    shapes = [shape for shape in SHAPES if not arguments.shapes or shape_name(*shape) in arguments.shapes]
    results = {"results": []}
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        for rows, classes in shapes:
            prefix = f"{folder}/{shape_name(rows, classes)}"
            random.uniform(-4, 4, (rows, classes)).astype("<f4").tofile(f"{prefix}.logits")
            random.integers(0, classes, rows).astype("<i8").tofile(f"{prefix}.labels")
            random.uniform(0.5, 1.5, classes).astype("<f4").tofile(f"{prefix}.weights")
        for threads in arguments.threads:
            task = {
                "threads": threads, "isa": arguments.isa, "shapes": shapes, "rounds": arguments.rounds, "folder": folder,
                "seconds": arguments.seconds, "program": f"{target}/release/ours",
            }
            done = subprocess.run(
                [sys.executable, __file__, "--task", json.dumps(task)], stdout=subprocess.PIPE, text=True,
                env=os.environ | environment(threads, arguments.isa, target))
            if done.returncode != 0:
                sys.exit(done.returncode)
            # Libraries may print as well.
            answer = json.loads(done.stdout.splitlines()[-1])
            results["results"] += answer["results"]
    versions = {name: importlib.metadata.version(name) for name in ("torch", "jax", "onnxruntime", "numpy")}
    versions["rwwce"] = next(p["version"] for p in metadata["packages"] if p["name"] == "rwwce")
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "processor": processor(), "system": platform.platform(), "torch capability": answer["capability"],
        },
        "commit": commit,
        "rustc": first_line(["rustc", "--version"]),
        "versions": versions,
        "isa": arguments.isa,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    } | results


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def processor():
    """The name of the processor, and its family, model and stepping, since virtual machines tend to hide the name."""
    info = Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*: (.*)$", info, re.MULTILINE))
    return f"{fields.pop('model name', platform.machine())} ({', '.join(f'{k} {v}' for k, v in fields.items())})"


def print_tables(measured):
    machine, versions = measured["machine"], measured["versions"]
    print(f"{measured['date']}, {machine['processor']}, {machine['torch capability']}: "
          + ", ".join(f"{name} {version}" for name, version in versions.items()))
    for threads, name in dict.fromkeys((r["threads"], r["pass"]) for r in measured["results"]):
        of_pass = [r for r in measured["results"] if (r["threads"], r["pass"]) == (threads, name)]
        libraries = [library for library in PASSES[name] if any(r["library"] == library for r in of_pass)]
        print(f"\n{name.capitalize()}, {threads} thread{'s' if threads > 1 else ''}, ns a logit, and µs a call of {shape_name(*SMALL)}:\n")
        print(f"| shape | {' | '.join(libraries)} | fastest of the others / rwwce | / {PYTHON} |")
        print("|---" * (len(libraries) + 3) + "|")
        for rows, classes in dict.fromkeys((r["rows"], r["classes"]) for r in of_pass):
            times = {r["library"]: r["ns_per_logit"] for r in of_pass if (r["rows"], r["classes"]) == (rows, classes)}
            counted = [times[library] for library in PEERS if library in times]
            if measured["isa"] == "avx2":
                counted = [times[library] for library in PEERS if library in times and library != ONNX]
            fastest, of_python = (
                statistics.median(min(peers) / ours for *peers, ours in zip(*counted, times[library]))
                for library in (OURS, PYTHON)
            )
            scale = rows * classes / 1000 if (rows, classes) == SMALL else 1
            cells = [f"{statistics.median(times[library]) * scale:.2f}" for library in libraries]
            print(f"| {rows}×{classes} | {' | '.join(cells)} | {fastest:.2f} | {of_python:.2f} |")
    if measured["isa"] == "avx2":
        print(f"\n{ONNX} cannot be held to AVX2 and does not count as the fastest.")


def print_overview(measured):
    """Both passes with one thread in one table, that of the README, and the speed-up of this crate by two."""
    columns = [(name, library) for name in PASSES for library in (EAGER, COMPILED, JAX, ONNX, OURS, PYTHON)
               if library in PASSES[name]]
    of = {(r["threads"], r["rows"], r["classes"], r["pass"], r["library"]): statistics.median(r["ns_per_logit"])
          for r in measured["results"] if (r["rows"], r["classes"]) != SMALL}
    if not any(key[0] == 1 for key in of):
        return
    has_two = any(key[0] == 2 for key in of)
    heads = [library if (name, library) != (name, EAGER) else f"{name}: {EAGER}" for name, library in columns]
    if has_two:
        heads[columns.index(("loss", PYTHON))] += " | two threads"
        heads[-1] += " | two threads"
    print(f"\nBoth, 1 thread, ns a logit:\n\n| N×C | {' | '.join(heads)} |\n"
          + "|---" * (len(heads) + (3 if has_two else 1)) + "|")
    for rows, classes in dict.fromkeys(key[1:3] for key in of):
        cells = []
        for name, library in columns:
            cells.append(f"{of[1, rows, classes, name, library]:.2f}")
            if has_two and library == PYTHON:
                one, two = (of[threads, rows, classes, name, OURS] for threads in (1, 2))
                cells.append(f"×{one / two:.2f}")
        print(f"| {rows}×{classes} | {' | '.join(cells)} |")


def draw(measured, path):
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same results give the same file.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "rwwce", "font.size": 10}
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    # The colours of Okabe and Ito, which the colour-blind can tell apart.
    styles = {
        EAGER: ("#0072b2", "o"), COMPILED: ("#56b4e9", "s"), JAX: ("#009e73", "^"), ONNX: ("#cc79a7", "D"),
        OURS: ("#d55e00", "o"), IN_PLACE: ("#e69f00", "v"), PYTHON: ("#000000", "s"),
    }
    counts = list(dict.fromkeys(r["threads"] for r in measured["results"]))
    figure, panels = plt.subplots(
        len(counts), len(PASSES), figsize=(11, 1.2 + 3.9 * len(counts)), sharey=True, squeeze=False, layout="constrained")
    for threads, row in zip(counts, panels):
        for name, panel in zip(PASSES, row):
            of_panel = [r for r in measured["results"] if (r["threads"], r["pass"]) == (threads, name)
                        and (r["rows"], r["classes"]) != SMALL]
            shapes = list(dict.fromkeys((r["rows"], r["classes"]) for r in of_panel))
            for library in PASSES[name]:
                line = {(r["rows"], r["classes"]): statistics.median(r["ns_per_logit"])
                        for r in of_panel if r["library"] == library}
                colour, marker = styles[library]
                ours = library in (OURS, IN_PLACE, PYTHON)
                panel.plot(
                    [shapes.index(shape) for shape in line], line.values(), color=colour, marker=marker, label=library,
                    linewidth=3 if ours else 1.2, markersize=7 if ours else 5, zorder=3 if ours else 2)
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.tick_params(labelleft=True)
            panel.set_xticks(range(len(shapes)), [f"{rows}×{classes}" for rows, classes in shapes], rotation=30, ha="right")
            panel.grid(axis="y", which="both", color="#dddddd", linewidth=0.5)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_title(f"{name}, {threads} thread{'s' if threads > 1 else ''}".capitalize())
        row[0].set_ylabel("ns a logit")
    lines = {line.get_label(): line for panel in panels[0] for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines), frameon=False)
    isa = f", {measured['isa'].upper()}" if measured["isa"] else ""
    versions = " · ".join(f"{name} {measured['versions'][name]}" for name in ("torch", "jax", "onnxruntime", "rwwce"))
    figure.suptitle(f"Weighted mean cross-entropy, N×C, lower is better{isa}\n{versions}", fontsize=11)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads, one after another")
    parser.add_argument("--isa", choices=["avx512", "avx2"], help="default: the best that each library finds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each timing")
    parser.add_argument("--shapes", nargs="+", choices=[shape_name(*shape) for shape in SHAPES], metavar="NxC")
    parser.add_argument("--json", type=Path, help="where to write every result of every round")
    parser.add_argument("--chart", type=Path, help="where to draw the medians, as SVG")
    parser.add_argument("--from", dest="source", type=Path, help="a file that --json wrote, instead of measuring")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print("\n" + json.dumps(measure_with_threads(arguments.task)))
        return
    measured = json.loads(arguments.source.read_text()) if arguments.source else measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")
    print_tables(measured)
    print_overview(measured)
    if arguments.chart:
        draw(measured, arguments.chart)


if __name__ == "__main__":
    main()
