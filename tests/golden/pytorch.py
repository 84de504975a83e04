#!/usr/bin/env python3
"""Writes pytorch.json beside this file: losses and gradients of torch.nn.functional, computed in float64.

    python3 tests/golden/pytorch.py
"""

import itertools
import json
import pathlib

import torch
import torch.nn.functional as F

N, C = 3, 4
IGNORED = 1


def numbers(tensor):
    return [float(f"{x:.10g}") for x in tensor.detach().flatten().tolist()]


def with_gradient(call, logits, upstream):
    """The loss, and the gradient of it, or of its product with `upstream` where there is one loss a row."""
    x = logits.double().requires_grad_()
    loss = call(x)
    (loss * upstream.double()).sum().backward() if loss.dim() else loss.backward()
    return {"loss": numbers(loss), "gradient": numbers(x.grad)}


def main():
    torch.manual_seed(7)
    weight = torch.tensor([0.5, 2.0, 1.0, 3.25])
    inputs, cases = {}, []
    for name, inner in [("NC", ()), ("NCd1", (2,)), ("NCd1d2", (2, 3))]:
        logits = torch.randn(N, C, *inner) * 4
        labels = torch.randint(C, (N, *inner))
        soft = torch.softmax(torch.randn(N, C, *inner), 1)
        upstream = torch.randn(N, *inner)
        inputs[name] = {
            "positions": int(torch.tensor(inner).prod()) if inner else 1,
            "logits": numbers(logits),
            "labels": labels.flatten().tolist(),
            "soft": numbers(soft),
            "upstream": numbers(upstream),
        }
        choices = itertools.product(
            ("none", "sum", "mean"), (False, True), (None, IGNORED), (0.0, 0.125), ("index", "probability")
        )
        for reduction, weighted, ignored, smoothing, targets in choices:
            if targets == "probability" and ignored is not None:
                continue  # PyTorch has no such option.
            options = {"reduction": reduction, "label_smoothing": smoothing}
            if weighted:
                options["weight"] = weight.double()
            if ignored is not None:
                options["ignore_index"] = ignored
            target = labels if targets == "index" else soft.double()
            found = with_gradient(lambda x: F.cross_entropy(x, target, **options), logits, upstream)
            case = {"input": name, "targets": targets, "reduction": reduction, "weighted": weighted}
            cases.append({**case, "ignored": ignored, "smoothing": smoothing, **found})

    logits, targets = torch.randn(N, C) * 4, torch.rand(N, C)
    targets[0, 0], targets[1, 2] = 0, 1
    element_weight, upstream = torch.rand(N, C), torch.randn(N, C)
    binary = []
    for reduction, weighted, positive in itertools.product(("none", "sum", "mean"), (False, True), (False, True)):
        options = {"reduction": reduction}
        if weighted:
            options["weight"] = element_weight.double()
        if positive:
            options["pos_weight"] = weight.double()
        found = with_gradient(
            lambda x: F.binary_cross_entropy_with_logits(x, targets.double(), **options), logits, upstream
        )
        binary.append({"reduction": reduction, "weighted": weighted, "pos_weight": positive, **found})

    golden = {
        "torch": torch.__version__,
        "classes": C,
        "weight": numbers(weight),
        "inputs": inputs,
        "cases": cases,
        "binary_input": {
            "logits": numbers(logits),
            "targets": numbers(targets),
            "element_weight": numbers(element_weight),
            "upstream": numbers(upstream),
        },
        "binary": binary,
    }
    lines = json.dumps(golden, separators=(",", ":")).replace('{"input"', '\n{"input"').replace('{"reduction"', '\n{"reduction"')
    (pathlib.Path(__file__).parent / "pytorch.json").write_text(lines + "\n")


main()
