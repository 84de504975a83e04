"""Losses of NumPy arrays and array-likes."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy

from . import _native
from ._call import BOUND, DIAGONAL, GRADIENT, LABEL_TYPES, LOGIT_TYPES, Array, Call, Options, Request, check_scale

# In native byte order.
_LABEL_TYPES = {numpy.dtype(name): number for name, number in LABEL_TYPES.items()}


def as_array(name: str, array: Any) -> numpy.ndarray[Any, Any]:
    if isinstance(array, numpy.ma.MaskedArray):
        hint = "give the rows to be left out the ignored index, or a sample weight of 0"
        raise ValueError(f"{name}: expected no masked array, since the mask would be lost; {hint}")
    return numpy.asarray(array)


def _place(array: numpy.ndarray[Any, Any]) -> tuple[int, int]:
    return array.ctypes.data, array.size


def _contiguous(array: numpy.ndarray[Any, Any], kind: Any) -> numpy.ndarray[Any, Any]:
    # `ascontiguousarray` makes a scalar one-dimensional.
    return numpy.ascontiguousarray(array, dtype=kind).reshape(array.shape)


def floats(name: str, array: Any) -> Optional[Array]:
    """The array as contiguous float32, without a copy if it is that already."""
    if array is None:
        return None
    array = as_array(name, array)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ValueError(f"{name}: expected numbers, found {array.dtype}")
    array = _contiguous(array, numpy.float32)
    return Array(array, array.shape, _place(array))


def logits(options: Options, array: Any) -> Array:
    array = as_array("input", array)
    if array.dtype == numpy.float32 and options.scale is None and options.zero_point == 0:
        array = _contiguous(array, numpy.float32)
        return Array(array, array.shape, (*_place(array), 0, 0.0, 0))
    # Without the byte order, so that the array is converted to the native one.
    kind = array.dtype.name
    scale, zero_point = check_scale(options, kind)
    # The library reads log-probabilities in float32 only.
    is_half = kind in ("float16", "bfloat16") and options.kind != "log_probabilities"
    if options.scale is None and not is_half:
        found = floats("input", array)
        assert found is not None
        return found._replace(place=(*found.place, 0, 0.0, 0))
    # The dtype bfloat16 is that of another package; NumPy does not know its name.
    array = _contiguous(array, array.dtype if kind == "bfloat16" else kind)
    return Array(array, array.shape, (*_place(array), LOGIT_TYPES[kind], scale, zero_point))


def labels(name: str, array: Any) -> Array:
    array = as_array(name, array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, found {array.dtype}")
    if array.dtype == numpy.uint64 and array.size and array.max() > numpy.iinfo(numpy.int64).max:
        raise ValueError(f"{name}: the largest label does not fit in 64 bits with a sign")
    kind = array.dtype if array.dtype in _LABEL_TYPES else numpy.dtype(numpy.int64)
    array = _contiguous(array, kind)
    return Array(array, array.shape, (*_place(array), _LABEL_TYPES[kind]))


def targets(options: Options, array: Any) -> Optional[Array]:
    if options.kind in ("log_softmax", "log_sum_exp"):
        return None
    if options.kind in ("labels", "log_probabilities"):
        return labels("target", array)
    found = floats("target", array)
    assert found is not None
    return found._replace(place=(*found.place, 0))


def broadcast(name: str, array: Any, shape: tuple[int, ...]) -> Optional[Array]:
    """The array as float32, broadcast to this shape."""
    if array is None:
        return None
    try:
        return floats(name, numpy.broadcast_to(as_array(name, array), shape))
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
        raise ValueError(f"{name}: shape {tuple(numpy.shape(array))} does not broadcast to {tuple(shape)}") from None


def binary_weights(pos_weight: Any, weight: Any, shape: tuple[int, ...]) -> tuple[Optional[Array], Optional[Array]]:
    """`pos_weight` of each label (last dimension), or of each logit if it varies elsewhere; `weight` of each logit."""
    samples = broadcast("weight", weight, shape)
    if pos_weight is None or 0 in shape:
        return None, samples
    pos_weight = as_array("pos_weight", pos_weight)
    by_label = pos_weight.ndim == 0 or pos_weight.size == pos_weight.shape[-1]
    of_labels = shape[-1:] if by_label else shape
    return broadcast("pos_weight", pos_weight.reshape(-1) if by_label else pos_weight, of_labels or (1,)), samples


def call(request: Request, shape: Optional[tuple[int, ...]] = None) -> Call:
    """The call of a loss; with `shape`, that of an input, for the weights of its targets, without logits."""
    options, input, target, weight, samples, costs, bias = request
    found = logits(options, input) if shape is None else Array(None, shape, (0, 0, 0, 0.0, 0))
    if options.kind == "binary":
        return Call(options, found, targets(options, target), *binary_weights(weight, samples, found.shape))
    names = ("weight" if costs is None else "miss_costs", "sample_weight", "mislabel_costs", "class_bias")
    arrays = (floats(name, array) for name, array in zip(names, (weight, samples, costs, bias)))
    return Call(options, found, targets(options, target), *arrays)


def evaluate(request: Request) -> Any:
    found = call(request)
    if request.options.kind in ("log_softmax", "log_sum_exp"):
        logs = numpy.empty(found.rows, numpy.float32)
        found.logs(_place(logs))
        return logs
    rows = numpy.empty(found.rows, numpy.float32) if found.none else None
    loss, _ = found.losses(None if rows is None else _place(rows))
    return numpy.float32(loss) if rows is None else rows


def _upstream(found: Call, upstream: Any) -> tuple[Any, Any]:
    """Upstream factor for the library, and the array to be kept alive during the call."""
    if not found.none:
        return float(upstream), None
    factors = floats("upstream", upstream)
    assert factors is not None
    if factors.shape == ():
        factors = floats("upstream", numpy.broadcast_to(factors.owner, found.rows))
        assert factors is not None
    if factors.shape != found.rows:
        raise ValueError(f"upstream: expected shape {found.rows}, found {factors.shape}")
    return factors.place, factors


def decide(options: Options, input: Array, miss: Any, mislabel: Any, given: bool) -> tuple[Any, Any]:
    found = Call(options, input, None, floats("miss_costs", miss), None, floats("mislabel_costs", mislabel))
    decisions = numpy.empty(found.rows, numpy.uint32)
    costs = numpy.empty(found.rows, numpy.float32)
    found.decide(given, _place(decisions), _place(costs))
    # A row without a decision has 2³² − 1, as int32 −1.
    return decisions.view(numpy.int32).astype(numpy.int64), costs


def probabilities(array: Any) -> Array:
    found = floats("input", array)
    assert found is not None
    return found._replace(place=(*found.place, 0, 0.0, 0))


def value_and_grad(request: Request, upstream: Any) -> tuple[Any, numpy.ndarray[Any, Any]]:
    found = call(request)
    gradient = numpy.empty(found.shape, numpy.float32)
    if request.options.kind in ("log_softmax", "log_sum_exp"):
        raise ValueError(f"loss: there is no gradient of {request.options.kind} here")
    factor, _held = _upstream(found, upstream)
    if not found.none and request.options.kind != "log_probabilities":
        loss, _ = found.derivative(GRADIENT, factor, _place(gradient))
        return numpy.float32(loss), gradient
    value = evaluate(request)
    found.derivative(GRADIENT, factor, _place(gradient))
    return value, gradient


def curvature(request: Request, upstream: Any, bound: bool) -> numpy.ndarray[Any, Any]:
    if request.options.kind not in ("labels", "soft", "binary"):
        raise ValueError(f"loss: there is no curvature of {request.options.kind}")
    found = call(request)
    written = numpy.empty(found.shape, numpy.float32)
    factor, _held = _upstream(found, upstream)
    found.derivative(BOUND if bound else DIAGONAL, factor, _place(written))
    return written


class Weights(NamedTuple):
    """Denominators of means over the rows that count, to be added up over the parts of a batch.

    `weight_sum` is Σ w[y]·s, for target probabilities Σ s·Σ_c w[c]·q_c, for the binary loss
    Σ weight·(pos_weight·t + 1 − t); `sample_weight_sum` is Σ s; `rows` and `rows_times_classes` are counts.
    """

    weight_sum: float
    sample_weight_sum: float
    rows: int
    rows_times_classes: int


def weigh(request: Request, shape: tuple[int, ...]) -> Weights:
    found = call(request, shape)
    if found.target is None:
        raise ValueError(f"loss: rows of {request.options.kind} weigh nothing")
    if request.options.kind == "binary":
        return Weights(*_native.weigh_binary(found.native, found.target[:2]))
    return Weights(*_native.weigh(found.native, found.target))
