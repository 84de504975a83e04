"""What decisions cost, in NumPy."""

from __future__ import annotations

from typing import Any, Optional

import numpy

from . import _numpy
from ._call import Options


def indices(name: str, labels: Any, classes: int) -> numpy.ndarray[Any, Any]:
    """Class indices of one dimension, whatever type holds them."""
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
    """Boosting libraries keep class indices as floats."""
    # Far beyond any number of classes, and what a cast may see.
    wrong = numpy.flatnonzero(~(numpy.abs(array) < 2**31) | (numpy.trunc(array) != array))
    if wrong.size:
        raise ValueError(f"{name}: row {wrong[0]} has {array[wrong[0]]}, expected a class index")
    return array.astype(numpy.int64)


def matrix(miss: Any, mislabel: Any, classes: int) -> numpy.ndarray[Any, Any]:
    """What it costs to say j (column) where y (row) is true: fn[y] + fp[y,j], and 0 where that is right."""
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
    """The mean cost of decisions over the sample weights; NaN where a row has no decision."""
    each = costs[labels, decisions]
    each = numpy.where(decisions < 0, numpy.nan, each)
    return float(numpy.average(each, weights=weight))


def decide(logits: Any, miss: Any, mislabel: Any) -> numpy.ndarray[Any, Any]:
    """The class of least expected cost of each row of logits (N, C); −1 where there is none."""
    options = Options("decide")
    decisions: numpy.ndarray[Any, Any] = _numpy.decide(options, _numpy.logits(options, logits), miss, mislabel, False)[0]
    return decisions


def of_two(margins: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """The two logits of one margin, that of class 1 against class 0."""
    return numpy.stack([numpy.zeros_like(margins), margins], axis=1)
