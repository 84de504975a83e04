"""Costs of decisions, in NumPy."""

from __future__ import annotations

from typing import Any, Optional

import numpy

from . import _numpy
from ._call import Options


def indices(name: str, labels: Any, classes: int) -> numpy.ndarray[Any, Any]:
    """Class indices (N) in int64, from (N) or (N, 1) of integers, bools or whole floats."""
    array = _numpy.as_array(name, labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, found shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected class indices, found {array.dtype}")
    found = array.astype(numpy.int64) if array.dtype.kind != "f" else _whole(name, array)
    wrong = numpy.flatnonzero((found < 0) | (found >= classes))
    if wrong.size:
        raise IndexError(f"{name}: row {wrong[0]} has label {found[wrong[0]]}, expected 0 to {classes - 1}")
    return found


def _whole(name: str, array: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Class indices from floats, as boosting libraries keep them."""
    # 2³¹ is beyond any number of classes, and safe to cast.
    wrong = numpy.flatnonzero(~(numpy.abs(array) < 2**31) | (numpy.trunc(array) != array))
    if wrong.size:
        raise ValueError(f"{name}: row {wrong[0]} has {array[wrong[0]]}, expected a class index")
    return array.astype(numpy.int64)


def matrix(miss: Any, mislabel: Any, classes: int) -> numpy.ndarray[Any, Any]:
    """Cost matrix (C, C) in float64, row = truth y, column = decision j: fn[y] + fp[y,j], diagonal 0."""
    costs = numpy.zeros((classes, classes))
    for name, given, shape in (("miss_costs", miss, (classes,)), ("mislabel_costs", mislabel, (classes, classes))):
        if given is None and name == "mislabel_costs":
            continue
        array = numpy.ones(classes) if given is None else numpy.asarray(given, numpy.float64)
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {array.shape}")
        if not (numpy.isfinite(array) & (array >= 0)).all():
            raise ValueError(f"{name}: expected finite costs of at least 0")
        costs += array if name == "mislabel_costs" else array[:, None]
    numpy.fill_diagonal(costs, 0.0)
    return costs


def mean(costs: numpy.ndarray[Any, Any], labels: Any, decisions: Any, weight: Optional[Any]) -> float:
    """Mean cost of decisions, weighted by the sample weights; NaN if a row has no decision (−1)."""
    each = costs[labels, decisions]
    each = numpy.where(decisions < 0, numpy.nan, each)
    return float(numpy.average(each, weights=weight))


def decide(logits: Any, miss: Any, mislabel: Any) -> numpy.ndarray[Any, Any]:
    """Class of least expected cost of each row of logits (N, C); −1 for a row without a decision."""
    options = Options("decide")
    decisions: numpy.ndarray[Any, Any] = _numpy.decide(options, _numpy.logits(options, logits), miss, mislabel, False)[0]
    return decisions


def of_two(margins: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Logits (N, 2) of margins (N) of class 1 over class 0."""
    return numpy.stack([numpy.zeros_like(margins), margins], axis=1)
