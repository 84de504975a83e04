#!/usr/bin/env python3
"""The loss of this crate beside PyTorch's cross_entropy (eager, weight given), one thread, in turn within one run.

    pip install torch numpy
    cargo bench --bench loss --no-run
    python3 benches/pytorch.py [--backend avx512] [--rounds 5]

In each round every shape is timed here and by `cargo bench`, one right after the other, so that a machine whose speed
drifts slows both. Printed are the medians over the rounds, in nanoseconds a logit, and the median of the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

SHAPES = [(65536, 10), (8192, 100), (1024, 1000), (64, 32000), (64, 128256)]
ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def time_torch(rows, classes):
    torch.manual_seed(0)
    logits, weight = torch.rand(rows, classes) * 8 - 4, torch.rand(classes) + 0.5
    labels = torch.randint(0, classes, (rows,))
    times = []
    end = time.perf_counter() + 1.0
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        torch.nn.functional.cross_entropy(logits, labels, weight=weight)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e9 / (rows * classes)


def time_ours(backend, rows, classes):
    name = f"{backend}/{rows}x{classes}"
    subprocess.run(
        ["cargo", "bench", "-q", "--bench", "loss", "--", "--noplot", "--warm-up-time", "0.3",
         "--measurement-time", "1", "--sample-size", "20", "--exact", f"loss/{name}"],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    estimates = json.loads((TARGET / "criterion/loss" / name / "new/estimates.json").read_text())
    return estimates["median"]["point_estimate"] / (rows * classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="avx512")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), rwwce on {arguments.backend}, one thread")
    print("| shape | PyTorch eager, ns a logit | rwwce, ns a logit | ratio |\n|---|---|---|---|")
    for rows, classes in SHAPES:
        theirs, ours = [], []
        for _ in range(arguments.rounds):
            theirs.append(time_torch(rows, classes))
            ours.append(time_ours(arguments.backend, rows, classes))
        ratio = statistics.median(t / o for t, o in zip(theirs, ours))
        print(f"| {rows}×{classes} | {statistics.median(theirs):.2f} | {statistics.median(ours):.2f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
