"""Public functions, for PyTorch tensors and NumPy arrays alike."""

from __future__ import annotations

import os
from typing import Any, Callable, Optional

import numpy

from . import _native, _numpy
from ._call import Options
from ._dispatch import evaluate, is_tensor, loss, request_of, tensors
from ._numpy import Weights


def _is_soft(target: Any) -> bool:
    """Whether targets are probabilities: by their floating dtype, as in PyTorch, never by their shape."""
    if is_tensor(target):
        return bool(target.is_floating_point())
    return bool(_numpy.as_array("target", target).dtype.kind == "f")


# What `cross_entropy` passes as `common` if no option is given.
_NO_OPTIONS = (0.0, 0.0, 0.0, 1.0, None, 0, None)


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
) -> Any:
    """Softmax cross-entropy −w[y]·log p_y, p = softmax(input), as in `torch.nn.functional.cross_entropy`.

    Args:
        input: logits, (C), (N, C) or (N, C, d1, …, dK).
        target: class indices y of any integer type, without the class dimension; or, of a floating type and shaped as
            the input, target probabilities q, for the loss −Σ_c w[c]·q_c·log p_c.
        weight: class weights w, (C), finite; 1 by default.
        ignore_index: rows with this label do not count; with target probabilities it must be negative.
        reduction: "none", "sum" or "mean". The mean divides by the weight sum Σ w[y]·s over the rows that count, with
            target probabilities by the number of rows.
        label_smoothing: ε in [0, 1]; (1 − ε)·loss − (ε/C)·Σ_c w[c]·log p_c.
        sample_weight: factor s of the loss of each row, shaped as the losses of "none", finite.
        class_bias: (C), finite, added to input / `temperature`.
        temperature: above 0.
        focal: exponent γ ≥ 0 of the factor (1 − p_y)^γ of the label's term; not for target probabilities.
        z_loss: λ ≥ 0 of an additional λ·W·(log Σ exp)², W = w[y] or Σ_c w[c]·q_c, with label smoothing applied.
        denominator: divisor of "sum" and "mean" for a part of a batch; see `weigh`.
        scale, zero_point: quantisation of int8 or uint8 input q, whose logits are scale·(q − zero_point).

    Returns:
        A scalar, or for "none" the loss of each row, (), (N) or (N, d1, …, dK). For tensors it is differentiable with
        respect to the input and to target probabilities.

    Raises:
        ValueError: a shape, dtype or value is not as above, or a weight requires a gradient.
        IndexError: a label is neither in [0, C) nor ignored.

    >>> import rwwce
    >>> rwwce.cross_entropy([[2.0, 0.0], [0.0, 1.0]], [0, 0], weight=[1.0, 3.0], reduction="none").round(4).tolist()
    [0.12690000236034393, 1.3133000135421753]
    """
    common = (label_smoothing, focal, z_loss, temperature, scale, zero_point, denominator)
    if is_tensor(input) and sample_weight is None and class_bias is None and common == _NO_OPTIONS:
        usual = tensors().usual(input, target, weight, ignore_index, reduction)
        if usual is not None:
            return usual
    if _is_soft(target):
        if ignore_index >= 0:
            raise ValueError("ignore_index: means nothing together with target probabilities")
        options = Options("soft", reduction, None, *common)
    else:
        options = Options("labels", reduction, ignore_index, *common)
    return evaluate(options, input, target, weight, sample_weight, None, class_bias)


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
) -> Any:
    """Negative log-likelihood −w[y]·input_y of log-probabilities, as in `torch.nn.functional.nll_loss`.

    Arguments, reductions, result and errors are those of `cross_entropy` with class indices.

    >>> import rwwce
    >>> float(rwwce.nll_loss([[-0.5, -1.0]], [1]))
    1.0
    """
    options = Options("log_probabilities", reduction, ignore_index, denominator=denominator)
    return evaluate(options, input, target, weight, sample_weight)


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
) -> Any:
    """Real-world-weight cross-entropy −fn[y]·log p_y − Σ_{j≠y} fp[y,j]·log(1 − p_j) (Ho & Wookey, IEEE Access 8, 2020).

    Args:
        input, target: logits and class indices, as in `cross_entropy`.
        miss_costs: cost fn[y] of missing class y, (C), finite, ≥ 0; 1 when absent.
        mislabel_costs: cost fp[y,j] of predicting j (column) where y (row) is true, on top of fn[y], (C, C), finite, ≥ 0,
            diagonal 0.
        reduction: "none", "sum" or "mean"; the mean divides by the number of rows that count.

    Other arguments, result and errors are those of `cross_entropy`.

    >>> import rwwce
    >>> costs = [[0.0, 1.0, 1.0], [19.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    >>> round(float(rwwce.real_world_weight_cross_entropy([[30.0, 0.0, 0.0]], [1], [1.0, 1.0, 1.0], costs)), 4)
    586.8302
    """
    common = (label_smoothing, focal, z_loss, temperature, scale, zero_point, denominator)
    options = Options("labels", reduction, ignore_index, *common)
    return evaluate(options, input, target, miss_costs, sample_weight, mislabel_costs, class_bias)


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
) -> Any:
    """Binary cross-entropy of logits, as in `torch.nn.functional.binary_cross_entropy_with_logits`.

    The loss of a logit x with target t is weight·(−pos_weight·t·log σ(x) − (1 − t)·log(1 − σ(x))).

    Args:
        input: logits of any shape.
        target: in [0, 1], shaped as the input.
        weight: finite, broadcast to the input; where it is 0 the loss is 0 for any input and target, NaN included.
        pos_weight: finite, ≥ 0, broadcast to the input.
        reduction: "none", "sum" or "mean"; the mean divides by the number of elements.
        denominator, scale, zero_point: as in `cross_entropy`.

    Returns a scalar, or for "none" losses shaped as the input; for tensors differentiable with respect to input and
    target. Raises ValueError for a shape, dtype or value that is not as above.

    >>> import rwwce
    >>> rwwce.binary_cross_entropy_with_logits([0.0, 17.0], [1.0, 1.0], reduction="none").tolist()
    [0.6931471824645996, 4.139937459513021e-08]
    """
    options = Options("binary", reduction, scale=scale, zero_point=zero_point, denominator=denominator)
    return evaluate(options, input, target, pos_weight, weight)


@loss
def log_softmax(input: Any, dim: int = -1, *, scale: Optional[float] = None, zero_point: int = 0) -> Any:
    """Log-probabilities log softmax(input) over the dimension `dim`, shaped as the input; exact for p near 1 too.

    Quantised input as in `cross_entropy`. Raises ValueError for its dtype, IndexError for `dim` out of range.

    >>> import rwwce
    >>> rwwce.log_softmax([17.0, 0.0]).tolist()
    [-4.139937459513021e-08, -17.0]
    """
    return evaluate(Options("log_softmax", scale=scale, zero_point=zero_point, axis=dim), input)


@loss
def log_sum_exp(input: Any, dim: int = -1, *, scale: Optional[float] = None, zero_point: int = 0) -> Any:
    """log Σ exp(input) over the dimension `dim`, which is removed; arguments and errors as in `log_softmax`.

    >>> import rwwce
    >>> rwwce.log_sum_exp([[0.0, 0.0], [1e4, 0.0]]).tolist()
    [0.6931471824645996, 10000.0]
    """
    return evaluate(Options("log_sum_exp", scale=scale, zero_point=zero_point, axis=dim), input)


def decide(
    input: Any,
    miss_costs: Any = None,
    mislabel_costs: Any = None,
    *,
    probabilities: bool = False,
    scale: Optional[float] = None,
    zero_point: int = 0,
) -> tuple[Any, Any]:
    """Class of least expected cost of each row, argmin_j Σ_{y≠j} p_y·(fn[y] + fp[y,j]), and its expected cost.

    Args:
        input: logits, (C), (N, C) or (N, C, d1, …, dK), with p = softmax(input); with `probabilities` p itself.
        miss_costs: fn, (C), finite, ≥ 0; 1 by default.
        mislabel_costs: fp, (C, C), row = truth, column = decision, finite, ≥ 0, diagonal 0; 0 by default. Without costs
            the decision is the argmax.
        scale, zero_point: as in `cross_entropy`; not for probabilities.

    Returns:
        Decisions in int64, without the class dimension, the lowest index in a tie; and their expected costs in float32.
        A row without probabilities (a NaN, several +∞ or only −∞) gets −1 and NaN. There is no gradient.

    Raises:
        ValueError: a shape, dtype or cost is not as above.

    >>> import rwwce
    >>> decisions, costs = rwwce.decide([[2.0, -1.0], [0.3, 0.1]], [1.0, 20.0])
    >>> decisions.tolist()
    [0, 1]
    """
    if probabilities and scale is not None:
        raise ValueError("scale: means nothing for probabilities")
    options = Options("decide", scale=scale, zero_point=zero_point)
    if is_tensor(input):
        decided: tuple[Any, Any] = tensors().decide(options, input, miss_costs, mislabel_costs, probabilities)
        return decided
    found = _numpy.probabilities(input) if probabilities else _numpy.logits(options, input)
    return _numpy.decide(options, found, miss_costs, mislabel_costs, probabilities)


def value_and_grad(
    loss: Callable[..., Any], input: Any, target: Any, *arguments: Any, upstream: Any = 1.0, **options: Any
) -> tuple[Any, Any]:
    """Loss of arrays and its gradient with respect to the input, for training without autograd.

    Args:
        loss: a loss function of this package; `input`, `target` and further arguments are passed to it.
        upstream: factor of the gradient; with "none" also an array shaped as the losses. Finite.

    Returns the loss, and the gradient shaped as the input, both in float32. Raises the errors of the loss, and
    ValueError for tensors, which have autograd, and for `log_softmax` and `log_sum_exp`.

    >>> import rwwce
    >>> value, gradient = rwwce.value_and_grad(rwwce.cross_entropy, [[17.0, 0.0, 0.0]], [0])
    >>> float(value), gradient.tolist()
    (8.279875629568778e-08, [[-8.279874919026042e-08, 4.139937459513021e-08, 4.139937459513021e-08]])
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
    """Second derivative of a loss of arrays with respect to each element of the input, times `upstream`.

    This is the diagonal of the Hessian of each row, which mislabel costs may make negative. With `bound` it is an upper
    bound of that Hessian as a diagonal matrix, as boosting libraries use it, never negative:
    2·p_i·((|W| + c_i)·(1 − p_i) + Σ_{j≠i} c_j·p_j), with the weight W of the row and its mislabel costs c. A Newton
    step with the bound does not overshoot, if neither sample weights nor `upstream` are negative. For the binary loss
    both are the second derivative.

    Arguments are those of `value_and_grad`, for `cross_entropy`, `real_world_weight_cross_entropy` and
    `binary_cross_entropy_with_logits`. Returns float32, shaped as the input. Raises ValueError for other losses, for
    `focal` and for `z_loss`, and the errors of the loss.

    >>> import rwwce
    >>> rwwce.curvature(rwwce.cross_entropy, [[0.0, 0.0]], [0]).tolist()
    [[0.25, 0.25]]
    """
    return _numpy.curvature(request_of(loss, input, target, *arguments, **options), upstream, bound)


def weigh(loss: Callable[..., Any], shape: tuple[int, ...], target: Any, *arguments: Any, **options: Any) -> Weights:
    """Denominators of the mean over rows with these targets, for input of this shape, without computing the loss.

    Summed over the parts of a batch, the field that its mean divides by is the `denominator` of each part: the losses
    of the parts then add up to that of the batch, and their gradients are those of the batch.

    Returns a `Weights`: `weight_sum` (the denominator of `cross_entropy` with class indices and of `nll_loss`),
    `sample_weight_sum`, `rows` (that of the other losses) and `rows_times_classes`, over the rows that count. Further
    arguments and errors are those of `loss`.

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
    """Class weights, (C) in float32, from integer labels of any shape: n samples, n_c of them of class c.

    | scheme | weight |
    |---|---|
    | "balanced" | n / (C·n_c), as in scikit-learn |
    | "inverse_frequency" | n / n_c |
    | "inverse_square_root" | √(n / n_c) |
    | "median_frequency" | median of the counts / n_c |
    | "effective_number" | (1 − β) / (1 − β^n_c), `beta` in [0, 1) |

    `normalisation` is None, or scales the "sum" or the "mean" of the weights of classes with samples to 1. A class
    without samples gets the weight `empty_class`, or raises ValueError if that is None. Labels equal to `ignore_index`
    are not counted; another label outside [0, classes) raises IndexError. Returns a tensor if the labels are one.

    >>> import rwwce
    >>> rwwce.class_weights([0, 0, 0, 1], classes=2, scheme="inverse_frequency", normalisation="sum").tolist()
    [0.25, 0.75]
    """
    if classes < 0:
        raise ValueError(f"classes: expected at least 1, found {classes}")
    weights: Any
    if is_tensor(labels):
        found, weights = tensors().labels_of("labels", labels), tensors().empty((classes,))
        address = weights.data_ptr()
    else:
        found, weights = _numpy.labels("labels", labels), numpy.empty(classes, numpy.float32)
        address = weights.ctypes.data
    _native.class_weights(found.place, ignore_index, (scheme, beta, normalisation, empty_class), (address, classes))
    return weights


def version() -> str:
    """Version of the library, such as "0.2.0"."""
    return _native.version


def backend() -> str:
    """Name of the SIMD backend in use: "avx512", "avx2", "neon" or "sse2"."""
    return _native.backend()


def backends() -> list[str]:
    """Names of the backends that this processor supports, the best first."""
    return _native.backends()


def force_backend(name: Optional[str]) -> None:
    """Sets the backend of all further calls, None for the best; for tests. Raises ValueError for an unknown name."""
    _native.force_backend(name)


def threads() -> int:
    """Number of threads of large calls: 1, or the one given to `set_threads`."""
    return _native.threads()


def set_threads(threads: int) -> None:
    """Sets the number of threads, at least 1, of softmax losses and gradients of 2¹⁸ logits (1 MiB in float32) or more.

    Results have the same bits for any number of threads. A forked process starts with 1 thread.
    """
    _native.set_threads(threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.forget_threads)
