"""Calls of the native library, from options and arrays of any kind."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple, Optional

from . import _native

# Work of a call, numbered as in `src/losses.rs`.
LOSS, ROW_LOSSES, GRADIENT, DIAGONAL, BOUND = range(5)

LOGIT_TYPES = {"float32": 0, "int8": 1, "uint8": 2, "float16": 3, "bfloat16": 4}
LABEL_TYPES = {"uint8": 1, "uint16": 2, "uint32": 3, "int32": 4, "int64": 5}

_SUM, _MEAN_WEIGHT_SUM, _MEAN_ROWS = 0, 1, 2


class Options(NamedTuple):
    """Kind of loss and its options, without arrays."""

    # "labels", "soft", "log_probabilities", "binary", "log_softmax", "log_sum_exp" or "decide".
    kind: str
    reduction: str = "none"
    ignore_index: Optional[int] = None
    label_smoothing: float = 0.0
    focal: float = 0.0
    z_loss: float = 0.0
    temperature: float = 1.0
    scale: Optional[float] = None
    zero_point: int = 0
    denominator: Optional[float] = None
    # The class dimension of log-softmax and log-sum-exp.
    axis: int = -1
    # Whether the loss is float32 for input of any type, as under autocast.
    wide: bool = False


class Request(NamedTuple):
    """A loss with the arrays that the caller passed, not converted yet."""

    options: Options
    input: Any
    target: Any = None
    # Class weights or miss costs; `pos_weight` of the binary loss.
    weight: Any = None
    sample_weight: Any = None
    costs: Any = None
    bias: Any = None


class Array(NamedTuple):
    """An array that the library can read, and the owner of its memory."""

    owner: Any
    shape: tuple[int, ...]
    # Address and number of elements; for logits also type, scale and zero point, for targets also type.
    place: tuple[Any, ...]


def check_scale(options: Options, kind: str) -> tuple[float, int]:
    """Scale (0 for none) and zero point for the library, checked against the type of the input."""
    zero_point = operator.index(options.zero_point)
    if options.scale is not None and kind not in ("int8", "uint8"):
        raise ValueError(f"scale: means nothing for input in {kind}")
    if options.scale is None and zero_point != 0:
        raise ValueError("zero_point: means nothing without a scale")
    # Clamped to 32 bits; the library refuses any zero point outside the range of the input's type.
    return 0.0 if options.scale is None else float(options.scale), min(max(zero_point, -(2**31)), 2**31 - 1)


def axis_of(options: Options, dimensions: int) -> int:
    """Index of the class dimension."""
    if dimensions == 0 and options.kind != "binary":
        raise ValueError("input: expected at least 1 dimension, found 0")
    if options.kind in ("log_softmax", "log_sum_exp"):
        if not -dimensions <= options.axis < dimensions:
            raise IndexError(f"dim: expected {-dimensions} to {dimensions - 1}, found {options.axis}")
        return options.axis % dimensions
    return 0 if dimensions == 1 else 1


def rows_shape(options: Options, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the row losses, and of log-probabilities and log-sum-exps."""
    if options.kind in ("binary", "log_softmax"):
        return shape
    axis = axis_of(options, len(shape))
    return shape[:axis] + shape[axis + 1 :]


def _target_error(options: Options, shape: tuple[int, ...], expected: tuple[int, ...], found: Any) -> ValueError:
    shape, expected, found = tuple(shape), tuple(expected), tuple(found)
    if options.kind == "binary":
        return ValueError(f"target: expected shape {shape} as the input has, found {found}")
    return ValueError(f"target: expected shape {expected} for input of shape {shape}, found {found}")


def _reduction(options: Options, has_costs: bool) -> int:
    if options.reduction == "mean":
        by_weights = not has_costs and (options.kind == "labels" or options.kind == "log_probabilities")
        return _MEAN_WEIGHT_SUM if by_weights else _MEAN_ROWS
    if options.reduction not in ("none", "sum"):
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', found {options.reduction!r}")
    return _SUM


def _place(array: Optional[Array]) -> Any:
    return None if array is None else array.place


class Call:
    """A call with checked shapes: addresses of the arrays and options of the loss."""

    function: Any
    native: Any
    shape: tuple[int, ...]
    rows: tuple[int, ...]

    __slots__ = ("arrays", "function", "input", "kind", "native", "none", "reduced", "rows", "shape", "target")

    def __init__(
        self,
        options: Options,
        input: Array,
        target: Optional[Array],
        weight: Optional[Array],
        samples: Optional[Array],
        costs: Optional[Array] = None,
        bias: Optional[Array] = None,
    ):
        self.shape = shape = input.shape
        self.kind, self.none = options.kind, options.reduction == "none"
        # Kept alive until the call is over.
        self.arrays: tuple[Any, ...] = (input, target, weight, samples, costs, bias)
        axis = axis_of(options, len(shape))
        self.rows = rows = rows_shape(options, shape)
        self.input, self.target = input.place, _place(target)
        self.reduced = (_reduction(options, costs is not None), options.denominator)
        if target is not None:
            expected = rows if options.kind in ("labels", "log_probabilities") else shape
            if target.shape != expected:
                raise _target_error(options, shape, expected, target.shape)
        if options.kind == "binary":
            self.function = _native.binary
            # A `pos_weight` for each logit makes all logits labels of one sample.
            labels = 1 if weight is None else math.prod(weight.shape)
            self.native = (max(labels, 1), _place(weight), None, _place(samples))
            return
        if weight is not None and len(weight.shape) != 1:
            name = "weight" if costs is None and options.kind != "decide" else "miss_costs"
            raise ValueError(f"{name}: expected 1 dimension, found shape {tuple(weight.shape)}")
        if costs is not None and (len(costs.shape) != 2 or costs.shape[0] != costs.shape[1]):
            raise ValueError(f"mislabel_costs: expected a square matrix, found shape {tuple(costs.shape)}")
        if samples is not None and samples.shape != rows:
            raise ValueError(f"sample_weight: expected shape {tuple(rows)}, found {tuple(samples.shape)}")
        self.function = _native.log_probability_loss if options.kind == "log_probabilities" else _native.softmax
        self.native = (
            shape[axis],
            1 if axis + 1 == len(shape) else max(math.prod(shape[axis + 1 :]), 1),
            _place(weight),
            _place(samples),
            _place(costs),
            _place(bias),
            options.ignore_index,
            options.label_smoothing,
            options.focal,
            options.z_loss,
            options.temperature,
        )

    def losses(self, out: Optional[tuple[int, int]], loss: int = 0, target: Any = None) -> tuple[float, float]:
        """Writes row losses to `out`, if given, and the loss to the address `loss`, unless 0; loss and denominator."""
        work = LOSS if out is None else ROW_LOSSES
        target = self.target if target is None else target
        found: tuple[float, float] = self.function(
            work, self.native, self.input, target, self.reduced, 1.0, out, loss
        )
        return found

    def logs(self, out: tuple[int, int]) -> None:
        """Writes log-probabilities or log-sum-exps to `out`."""
        _native.logs(self.kind == "log_sum_exp", self.native, self.input, out)

    def decide(self, given: bool, decisions: tuple[int, int], costs: tuple[int, int]) -> None:
        """Writes decisions, in uint32, and their expected costs; of probabilities if `given`, else of logits."""
        _native.decide(given, self.native, self.input, decisions, costs)

    def derivative(self, work: int, upstream: Any, out: tuple[int, int], loss: int = 0) -> tuple[float, float]:
        """Writes gradient or curvature to `out`, for an upstream factor or one per row; loss and denominator."""
        found: tuple[float, float] = self.function(
            work, self.native, self.input, self.target, self.reduced, upstream, out, loss
        )
        return found

    def log_probabilities_gradient(self, minus_upstream: tuple[int, int], out: tuple[int, int]) -> None:
        _native.log_probabilities_gradient(self.native, self.input, minus_upstream, out)
