"""The losses, and what else the package offers for arrays of any kind."""

from __future__ import annotations

import os
from typing import Any, Callable, Optional

import numpy

from . import _native, _numpy
from ._call import Options, Request
from ._dispatch import is_tensor, loss, request_of
from ._numpy import Weights


def _is_soft(target: Any) -> bool:
    """Targets of a floating type are probabilities, as in PyTorch; never guessed from a shape."""
    if is_tensor(target):
        return bool(target.is_floating_point())
    return bool(_numpy.as_array("target", target).dtype.kind == "f")


@loss
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    sample_weight: Any = None,
    class_bias: Any = None,
    temperature: float = 1.0,
    focal: float = 0.0,
    z_loss: float = 0.0,
    denominator: Optional[float] = None,
    scale: Optional[float] = None,
    zero_point: int = 0,
) -> Request:
    """The weighted loss −w[y]·log softmax(input)_y, as `torch.nn.functional.cross_entropy` has it.

    `input` is (C), (N, C) or (N, C, d1, …, dK). `target` holds class indices, of any integer type and without the dimension
    of the classes; or, of a floating type and shaped as the input, probabilities. `weight` is (C). "mean" divides by the
    sum of the weights of the rows that count, and by their number for probabilities; by `denominator`, where it is given.
    Differentiable with respect to the input, and to probabilities.

    `sample_weight` is a factor for each row, shaped as the losses of "none"; `class_bias` (C) is added to
    input / `temperature`; `focal` is the exponent γ of (1 − p_y)^γ before the term of the label; `z_loss` adds
    λ·W·(log Σ exp)², W the weight of the row. `scale` and `zero_point` say what int8 or uint8 input stands for:
    scale·(q − zero_point), as in every function that has them.

    >>> import rwwce
    >>> rwwce.cross_entropy([[2.0, 0.0], [0.0, 1.0]], [0, 0], weight=[1.0, 3.0], reduction="none").round(4).tolist()
    [0.12690000236034393, 1.3133000135421753]
    """
    common = (label_smoothing, focal, z_loss, temperature, scale, zero_point, denominator)
    if _is_soft(target):
        if ignore_index >= 0:
            raise ValueError("ignore_index: means nothing together with target probabilities")
        options = Options("soft", reduction, None, *common)
    else:
        options = Options("labels", reduction, ignore_index, *common)
    return Request(options, input, target, weight, sample_weight, None, class_bias)


@loss
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
    denominator: Optional[float] = None,
) -> Request:
    """The loss −w[y]·input_y of log-probabilities, as `torch.nn.functional.nll_loss` has it; shapes as in `cross_entropy`.

    >>> import rwwce
    >>> float(rwwce.nll_loss([[-0.5, -1.0]], [1]))
    1.0
    """
    options = Options("log_probabilities", reduction, ignore_index, denominator=denominator)
    return Request(options, input, target, weight, sample_weight)


@loss
def real_world_weight_cross_entropy(
    input: Any,
    target: Any,
    miss_costs: Any,
    mislabel_costs: Any,
    reduction: str = "mean",
    ignore_index: int = -100,
    *,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    class_bias: Any = None,
    temperature: float = 1.0,
    focal: float = 0.0,
    z_loss: float = 0.0,
    denominator: Optional[float] = None,
    scale: Optional[float] = None,
    zero_point: int = 0,
) -> Request:
    """The loss −fn[y]·log p_y − Σ_{j≠y} fp[y,j]·log(1 − p_j) of Ho & Wookey (2020).

    `miss_costs` (C) says what it costs to miss each class, `mislabel_costs` (C, C) what it costs to say j (column) where y
    (row) is true; both are at least 0, and the diagonal is 0. Shapes of `input` and `target`, and the other options, as in
    `cross_entropy` with class indices; "mean" divides by the number of rows that count.

    >>> import rwwce
    >>> costs = [[0.0, 1.0, 1.0], [19.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    >>> round(float(rwwce.real_world_weight_cross_entropy([[30.0, 0.0, 0.0]], [1], [1.0, 1.0, 1.0], costs)), 4)
    586.8302
    """
    common = (label_smoothing, focal, z_loss, temperature, scale, zero_point, denominator)
    options = Options("labels", reduction, ignore_index, *common)
    return Request(options, input, target, miss_costs, sample_weight, mislabel_costs, class_bias)


@loss
def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
    *,
    denominator: Optional[float] = None,
    scale: Optional[float] = None,
    zero_point: int = 0,
) -> Request:
    """The binary loss, as `torch.nn.functional.binary_cross_entropy_with_logits` has it, for targets in [0, 1].

    `target` has the shape of the input, which `weight` and `pos_weight` broadcast to; `pos_weight` is at least 0. Where
    `weight` is 0 the loss is 0, whatever the input and the target. Differentiable with respect to input and target.

    >>> import rwwce
    >>> rwwce.binary_cross_entropy_with_logits([0.0, 17.0], [1.0, 1.0], reduction="none").tolist()
    [0.6931471824645996, 4.139937459513021e-08]
    """
    options = Options("binary", reduction, scale=scale, zero_point=zero_point, denominator=denominator)
    return Request(options, input, target, pos_weight, weight)


@loss
def log_softmax(input: Any, dim: int = -1, *, scale: Optional[float] = None, zero_point: int = 0) -> Request:
    """log softmax over one dimension, exact also where the probability is near 1; shaped as the input.

    >>> import rwwce
    >>> rwwce.log_softmax([17.0, 0.0]).tolist()
    [-4.139937459513021e-08, -17.0]
    """
    return Request(Options("log_softmax", scale=scale, zero_point=zero_point, axis=dim), input)


@loss
def log_sum_exp(input: Any, dim: int = -1, *, scale: Optional[float] = None, zero_point: int = 0) -> Request:
    """log Σ exp over one dimension, which the result has no more.

    >>> import rwwce
    >>> rwwce.log_sum_exp([[0.0, 0.0], [1e4, 0.0]]).tolist()
    [0.6931471824645996, 10000.0]
    """
    return Request(Options("log_sum_exp", scale=scale, zero_point=zero_point, axis=dim), input)


def decide(
    input: Any,
    miss_costs: Any = None,
    mislabel_costs: Any = None,
    *,
    probabilities: bool = False,
    scale: Optional[float] = None,
    zero_point: int = 0,
) -> tuple[Any, Any]:
    """The class of least expected cost of each row, argmin_j Σ_{y≠j} p_y·(fn[y] + fp[y,j]), and that cost.

    `input` is (C), (N, C) or (N, C, d1, …, dK): logits, p = softmax(input), or with `probabilities` p itself. The miss costs
    fn are 1 where they are not given, the mislabel costs fp 0, so that without costs the largest logit decides; ties go to the
    lowest index. Returns the decisions in int64, without the dimension of the classes, and their expected costs in float32. A
    row that has no probabilities (a NaN, several +∞, −∞ throughout) gets −1 and NaN. There is no gradient.

    >>> import rwwce
    >>> decisions, costs = rwwce.decide([[2.0, -1.0], [0.3, 0.1]], [1.0, 20.0])
    >>> decisions.tolist()
    [0, 1]
    """
    if probabilities and scale is not None:
        raise ValueError("scale: means nothing for probabilities")
    options = Options("decide", scale=scale, zero_point=zero_point)
    if is_tensor(input):
        from . import _torch

        return _torch.decide(options, input, miss_costs, mislabel_costs, probabilities)
    found = _numpy.probabilities(input) if probabilities else _numpy.logits(options, input)
    return _numpy.decide(options, found, miss_costs, mislabel_costs, probabilities)


def value_and_grad(
    loss: Callable[..., Any], input: Any, target: Any, *arguments: Any, upstream: Any = 1.0, **options: Any
) -> tuple[Any, Any]:
    """A loss of arrays and its gradient with respect to the input, in float32, from one reading of the input.

    `loss` is one of this package, `input`, `target` and what follows are its arguments. The gradient is that times `upstream`:
    a number, or with "none" one for each row, shaped as the losses. Tensors have autograd.

    >>> import rwwce
    >>> value, gradient = rwwce.value_and_grad(rwwce.cross_entropy, [[17.0, 0.0, 0.0]], [0])
    >>> float(value), gradient.tolist()
    (8.279874919026042e-08, [[-8.279874919026042e-08, 4.139937459513021e-08, 4.139937459513021e-08]])
    """
    return _numpy.value_and_grad(request_of(loss, input, target, *arguments, **options), upstream)


def curvature(
    loss: Callable[..., Any],
    input: Any,
    target: Any,
    *arguments: Any,
    upstream: Any = 1.0,
    bound: bool = False,
    **options: Any,
) -> Any:
    """The second derivative of a loss with respect to each element of the input, shaped as it is, times `upstream`.

    That is the diagonal of the Hessian of each row, which mislabel costs may make negative; with `bound` a number that is
    never negative and of which a Newton step does not overshoot, as boosting libraries use it:
    2·p_i·((W + c_i)·(1 − p_i) + Σ_{j≠i} c_j·p_j), W the weight of the row and c its mislabel costs. Arguments as in `value_and_grad`; of
    `cross_entropy`, `real_world_weight_cross_entropy` and `binary_cross_entropy_with_logits`.

    >>> import rwwce
    >>> rwwce.curvature(rwwce.cross_entropy, [[0.0, 0.0]], [0]).tolist()
    [[0.25, 0.25]]
    """
    return _numpy.curvature(request_of(loss, input, target, *arguments, **options), upstream, bound)


def weigh(loss: Callable[..., Any], shape: tuple[int, ...], target: Any, *arguments: Any, **options: Any) -> Weights:
    """What the rows with these targets weigh, for input of this shape, without a loss: what its mean divides by.

    Where a batch is computed in parts, the `denominator` of each is that of all: their losses then add up to that of the
    batch, and their gradients are its own.

    >>> import rwwce
    >>> rwwce.weigh(rwwce.cross_entropy, (3, 2), [0, 1, -100], weight=[1.0, 3.0])
    Weights(weight_sum=4.0, sample_weight_sum=2.0, rows=2, rows_times_classes=4)
    """
    return _numpy.weigh(request_of(loss, None, target, *arguments, **options), tuple(shape))


def class_weights(
    labels: Any,
    classes: int,
    scheme: str = "balanced",
    beta: float = 0.999,
    normalisation: Optional[str] = None,
    empty_class: Optional[float] = None,
    ignore_index: int = -100,
) -> Any:
    """The weight of each class, (C), from the labels of a data set, of any shape: n samples, n_c of them of class c.

    | scheme | weight |
    |---|---|
    | "balanced" | n / (C·n_c), as in scikit-learn |
    | "inverse_frequency" | n / n_c |
    | "inverse_square_root" | √(n / n_c) |
    | "median_frequency" | median of the counts / n_c |
    | "effective_number" | (1 − β) / (1 − β^n_c), `beta` in [0, 1) |

    `normalisation` is None, "sum" or "mean" of the classes with samples. A class without samples is an error unless
    `empty_class` is its weight. Labels that are `ignore_index` are left out. A tensor where the labels are one.

    >>> import rwwce
    >>> rwwce.class_weights([0, 0, 0, 1], classes=2, scheme="inverse_frequency", normalisation="sum").tolist()
    [0.25, 0.75]
    """
    if classes < 0:
        raise ValueError(f"classes: expected at least 1, found {classes}")
    weights: Any
    if is_tensor(labels):
        from . import _torch

        found, weights = _torch.labels_of("labels", labels), _torch.empty((classes,))
        address = weights.data_ptr()
    else:
        found, weights = _numpy.labels("labels", labels), numpy.empty(classes, numpy.float32)
        address = weights.ctypes.data
    _native.class_weights(found.place, ignore_index, (scheme, beta, normalisation, empty_class), (address, classes))
    return weights


def version() -> str:
    """The version of the library, such as "0.2.0"."""
    return _native.version


def backend() -> str:
    """What computes: "avx512", "avx2", "neon" or "sse2"."""
    return _native.backend()


def backends() -> list[str]:
    """What this machine could compute with, the best first."""
    return _native.backends()


def force_backend(name: Optional[str]) -> None:
    """Computes with this backend from now on; with the best one again for None. For tests."""
    _native.force_backend(name)


def threads() -> int:
    """The number of threads that large calls are split over: 1 unless `set_threads` has said otherwise."""
    return _native.threads()


def set_threads(threads: int) -> None:
    """Splits softmax losses of 1 MB of logits or more over so many threads from now on; the bits stay the same.

    A process that is forked starts again with 1.
    """
    _native.set_threads(threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.forget_threads)
