"""The losses for JAX, on the CPU: under `jit`, `grad`, `value_and_grad` and `vmap`.

    import jax, rwwce.jax
    loss, gradient = jax.jit(jax.value_and_grad(rwwce.jax.cross_entropy))(logits, labels)

Functions and options are those of `rwwce`. Arrays may be traced; options that are scalars or strings must be static.
Input is float32, float16 or bfloat16, or int8 or uint8 with a `scale`; the result has its dtype if that is floating,
else float32. Under differentiation, loss and gradient are one call out of the compiled program (`jax.pure_callback`);
`vmap` makes one call for each index. Losses can be differentiated once, in reverse mode, with respect to the input and
to target probabilities.

Shapes and dtypes are checked when a function is traced (ValueError); values, such as a label out of range, only when it
runs, by an error of JAX that contains the message of the library.

>>> import jax, rwwce.jax
>>> logits, labels = jax.numpy.array([[2.0, 0.0], [0.0, 1.0]]), jax.numpy.array([0, 0])
>>> value, gradient = jax.jit(jax.value_and_grad(rwwce.jax.cross_entropy))(logits, labels)
>>> print(value, gradient.shape)
0.72009486 (2, 2)
"""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, Optional

import jax
import jax.numpy as jnp
import numpy
from jax.custom_derivatives import SymbolicZero

from . import _losses, _numpy
from ._call import LOGIT_TYPES, Array, Call, Options, Request, axis_of, check_scale, rows_shape
from ._dispatch import request_of

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "decide",
    "log_softmax",
    "log_sum_exp",
    "nll_loss",
    "real_world_weight_cross_entropy",
]

_NAMES = ("input", "target", "weight", "sample_weight", "mislabel_costs", "class_bias")
_LABELS = ("labels", "log_probabilities")
_LOGS = ("log_softmax", "log_sum_exp")

# The six arrays of a request, in its order; those that are not given are None.
_Arrays = tuple[Any, ...]


# ---- Checks when a function is traced


def _type_of(input: Any) -> Any:
    """Dtype of the result: that of the input if floating, else float32."""
    return input.dtype if jnp.issubdtype(input.dtype, jnp.floating) else jnp.dtype(jnp.float32)


def _check_types(options: Options, arrays: _Arrays) -> None:
    input, target = arrays[0].dtype, None if arrays[1] is None else arrays[1].dtype
    check_scale(options, input.name)
    if input.name not in LOGIT_TYPES or options.scale is None and input.kind in "iu":
        raise ValueError(f"input: expected float32, found {input.name}")
    if target is not None and options.kind in _LABELS and target.kind not in "iu":
        raise ValueError(f"target: expected integers, found {target.name}")


def _check_shapes(options: Options, arrays: _Arrays) -> None:
    """Checks the shapes that the library would refuse when the function runs."""
    shapes = [None if array is None else tuple(array.shape) for array in arrays]
    nothing = [None if shape is None else Array(None, shape, (0, 0, 0, 0.0, 0)) for shape in shapes]
    found, target, weight, samples, costs, bias = nothing
    assert found is not None
    if options.kind == "binary":
        for name, shape in (("weight", shapes[3]), ("pos_weight", shapes[2])):
            _numpy.broadcast(name, None if shape is None else numpy.broadcast_to(numpy.float32(0), shape), found.shape)
        weight = samples = None
    Call(options, found, target, weight, samples, costs, bias)
    classes = 0 if options.kind == "binary" else found.shape[axis_of(options, len(found.shape))]
    names = ("miss_costs" if costs is not None else "weight", "", "mislabel_costs", "class_bias")
    for name, array, dimensions in zip(names, (weight, None, costs, bias), (1, 0, 2, 1)):
        if array is not None and array.shape != (classes,) * dimensions:
            raise ValueError(f"{name}: expected shape {(classes,) * dimensions}, found {array.shape}")


# ---- Host computation on NumPy arrays, when a function runs


def _call_of(options: Options, arrays: _Arrays) -> Request:
    return Request(options, *(None if array is None else numpy.asarray(array) for array in arrays))


def _value(options: Options, arrays: _Arrays) -> Any:
    return numpy.asarray(_numpy.evaluate(_call_of(options, arrays)))


def _value_and_gradients(options: Options, of: tuple[bool, bool], arrays: _Arrays) -> _Arrays:
    """The loss and its gradients with respect to input and target, each None unless wanted in `of`."""
    request, of_target = _call_of(options, arrays), None
    if of[1]:
        of_target = _target_gradient(request)
    if not of[0]:
        return numpy.asarray(_numpy.evaluate(request)), None, of_target
    value, gradient = _numpy.value_and_grad(request, 1.0)
    return numpy.asarray(value), gradient, of_target


def _target_gradient(request: Request) -> Any:
    """Gradient of the loss, or of the row losses, with respect to soft or binary targets, in which they are linear."""
    options = request.options
    rows = request._replace(options=options._replace(reduction="none", denominator=None))
    if options.kind == "binary":
        one, zero = (_numpy.evaluate(rows._replace(target=of(request.input.shape, numpy.float32))) for of in _ENDS)
        return (one - zero) / _divisor(options, request.input.shape)
    axis = axis_of(options, request.input.ndim)
    logs = Options("log_softmax", axis=axis, temperature=options.temperature, scale=options.scale)
    logs = logs._replace(zero_point=options.zero_point)
    found = -_numpy.evaluate(Request(logs, request.input, bias=request.bias))
    if options.z_loss != 0.0:
        sums = Request(logs._replace(kind="log_sum_exp"), request.input, bias=request.bias)
        found = found + options.z_loss * numpy.expand_dims(_numpy.evaluate(sums), axis) ** 2
    if request.weight is not None:
        along = [1] * request.input.ndim
        along[axis] = -1
        found = found * request.weight.reshape(along)
    if request.sample_weight is not None:
        found = found * numpy.expand_dims(request.sample_weight, axis)
    factor = (1.0 - options.label_smoothing) / _divisor(options, request.input.shape)
    return numpy.asarray(found * numpy.float32(factor), numpy.float32)


_ENDS = (numpy.ones, numpy.zeros)


def _divisor(options: Options, shape: tuple[int, ...]) -> float:
    """Divisor of the reduction for target probabilities and binary targets."""
    if options.reduction == "none":
        return 1.0
    if options.reduction == "sum" or options.denominator is not None:
        return 1.0 if options.denominator is None else options.denominator
    return float(math.prod(rows_shape(options, shape))) or math.nan


# ---- Function with a custom gradient


def _out(function: Callable[..., Any], shapes: Any, arrays: _Arrays) -> Any:
    return jax.pure_callback(function, shapes, arrays, vmap_method="sequential")


def _shaped(shape: tuple[int, ...], kind: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, kind)  # type: ignore[no-untyped-call]


def _shape(options: Options, input: Any) -> tuple[int, ...]:
    return rows_shape(options, tuple(input.shape)) if options.kind in _LOGS or options.reduction == "none" else ()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(options: Options, arrays: _Arrays) -> Any:
    shape = _shaped(_shape(options, arrays[0]))
    return _out(functools.partial(_value, options), shape, arrays).astype(_type_of(arrays[0]))


def _forward(options: Options, arrays: Any) -> tuple[Any, Any]:
    wanted = [array is not None and array.perturbed for array in arrays]
    for name, is_wanted in list(zip(_NAMES, wanted))[2:]:
        if is_wanted:
            raise ValueError(f"{name}: there is no gradient with respect to it; use jax.lax.stop_gradient")
    values: _Arrays = tuple(None if array is None else array.value for array in arrays)
    input, target = values[:2]
    if options.kind in _LOGS:
        logs = _loss(options, values)
        return logs, (input, target, logs, None)
    of = wanted[0], wanted[1] and jnp.issubdtype(target.dtype, jnp.floating)
    shapes = (
        _shaped(_shape(options, input)),
        _shaped(input.shape) if of[0] else None,
        _shaped(target.shape) if of[1] else None,
    )
    value, *gradients = _out(functools.partial(_value_and_gradients, options, of), shapes, values)
    # A residual must be an array: empty ones carry the dtypes.
    empty = tuple(None if array is None else jnp.empty(0, array.dtype) for array in values[:2])
    return value.astype(_type_of(input)), (*empty, *gradients)


def _backward(options: Options, kept: Any, factor: Any) -> tuple[_Arrays]:
    input, target, *gradients = kept
    nothing: list[Any] = [None] * len(_NAMES)
    if isinstance(factor, SymbolicZero):
        return (tuple(nothing),)
    factor = factor.astype(jnp.float32)
    if options.kind in _LOGS:
        nothing[0] = _of_logs(options, input, gradients[0].astype(jnp.float32), factor).astype(input.dtype)
        return (tuple(nothing),)
    for place, (array, gradient) in enumerate(zip((input, target), gradients)):
        if gradient is not None:
            is_row = options.reduction == "none" and options.kind != "binary"
            along = jnp.expand_dims(factor, axis_of(options, gradient.ndim)) if is_row else factor
            nothing[place] = (gradient * along).astype(array.dtype)
    return (tuple(nothing),)


def _of_logs(options: Options, input: Any, logs: Any, factor: Any) -> Any:
    axis = axis_of(options, input.ndim)
    if options.kind == "log_softmax":
        return factor - jnp.exp(logs) * factor.sum(axis=axis, keepdims=True)
    sums = jnp.expand_dims(logs, axis)
    return jnp.exp(input.astype(jnp.float32) - sums) * jnp.expand_dims(factor, axis)


_loss.defvjp(_forward, _backward, symbolic_zeros=True)


# ---- The functions


def _number(name: str, value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name}: expected a number, found one that is traced; name it in static_argnames of jax.jit")
    return value


def _array(name: str, array: Any) -> Any:
    return None if array is None else jnp.asarray(array, jnp.float32)


def _evaluate(request: Request, target: Any) -> jax.Array:
    options = Options(*(_number(name, value) for name, value in zip(Options._fields, request.options)))
    given = (_array(name, array) for name, array in zip(_NAMES[2:], request[3:]))
    arrays = (jnp.asarray(request.input), target, *given)
    if options.kind == "log_probabilities" and arrays[0].dtype != jnp.float32:
        _check_types(options, arrays)
        arrays = (arrays[0].astype(jnp.float32), *arrays[1:])
    if options.kind in ("soft", "binary"):
        arrays = (arrays[0], arrays[1].astype(jnp.float32), *arrays[2:])
    _check_types(options, arrays)
    _check_shapes(options, arrays)
    found: jax.Array = _loss(options, arrays)
    return found.astype(jnp.asarray(request.input).dtype) if options.kind == "log_probabilities" else found


def _face(loss: Callable[..., Any], about: str) -> Callable[..., jax.Array]:
    """The loss of `rwwce` for JAX arrays, with the docstring `about`."""

    @functools.wraps(loss)
    def evaluate(input: Any, *arguments: Any, **options: Any) -> jax.Array:
        if loss in (_losses.log_softmax, _losses.log_sum_exp):
            return _evaluate(request_of(loss, input, *arguments, **options), None)
        if "target" in options:
            arguments = (options.pop("target"), *arguments)
        if not arguments:
            raise TypeError(f"{loss.__name__}() missing 1 required positional argument: 'target'")
        target = jnp.asarray(arguments[0])
        # The kind of loss depends on the target's dtype only, so an empty array stands for it.
        kind = numpy.float32 if jnp.issubdtype(target.dtype, jnp.floating) else numpy.int64
        request = request_of(loss, input, numpy.empty(0, kind), *arguments[1:], **options)
        return _evaluate(request, target)

    evaluate.__module__, evaluate.__doc__ = __name__, about
    return evaluate


cross_entropy = _face(
    _losses.cross_entropy,
    """`rwwce.cross_entropy`: input (C), (N, C) or (N, C, d1, …), class indices (N, d1, …) or probabilities as the input.

    >>> import jax, rwwce.jax
    >>> print(jax.grad(rwwce.jax.cross_entropy)(jax.numpy.array([[17.0, 0.0, 0.0]]), jax.numpy.array([0])))
    [[-8.2798749e-08  4.1399375e-08  4.1399375e-08]]
    """,
)
nll_loss = _face(
    _losses.nll_loss,
    """`rwwce.nll_loss`: log-probabilities (C), (N, C) or (N, C, d1, …) and class indices (N, d1, …).

    >>> import rwwce.jax
    >>> print(rwwce.jax.nll_loss([[-0.5, -1.0]], [1]))
    1.0
    """,
)
real_world_weight_cross_entropy = _face(
    _losses.real_world_weight_cross_entropy,
    """`rwwce.real_world_weight_cross_entropy`: input and class indices as in `cross_entropy`, costs (C) and (C, C).

    >>> import rwwce.jax
    >>> print(rwwce.jax.real_world_weight_cross_entropy([[0.0, 0.0]], [1], [1.0, 20.0], [[0.0, 1.0], [19.0, 0.0]]))
    27.03274
    """,
)
binary_cross_entropy_with_logits = _face(
    _losses.binary_cross_entropy_with_logits,
    """`rwwce.binary_cross_entropy_with_logits`: input and target of one shape, which the weights broadcast to.

    >>> import rwwce.jax
    >>> print(rwwce.jax.binary_cross_entropy_with_logits([0.0, 17.0], [1.0, 1.0], reduction="none"))
    [6.9314718e-01 4.1399375e-08]
    """,
)
log_softmax = _face(
    _losses.log_softmax,
    """`rwwce.log_softmax`, over one dimension; shaped as the input.

    >>> import rwwce.jax
    >>> print(rwwce.jax.log_softmax([17.0, 0.0]))
    [-4.1399375e-08 -1.7000000e+01]
    """,
)
log_sum_exp = _face(
    _losses.log_sum_exp,
    """`rwwce.log_sum_exp`, over one dimension, which the result has no more.

    >>> import rwwce.jax
    >>> print(rwwce.jax.log_sum_exp([[0.0, 0.0], [1e4, 0.0]]))
    [6.931472e-01 1.000000e+04]
    """,
)


def decide(
    input: Any,
    miss_costs: Any = None,
    mislabel_costs: Any = None,
    *,
    probabilities: bool = False,
    scale: Optional[float] = None,
    zero_point: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """`rwwce.decide`: the classes of least expected cost, in int32, and their expected costs; without gradient.

    >>> import rwwce.jax
    >>> print(rwwce.jax.decide([[2.0, -1.0], [0.3, 0.1]], [1.0, 20.0])[0])
    [0 1]
    """
    options = Options("decide", scale=scale, zero_point=zero_point)
    input = jax.lax.stop_gradient(jnp.asarray(input))
    arrays = (input, None, _array("miss_costs", miss_costs), None, _array("mislabel_costs", mislabel_costs), None)
    arrays = jax.tree.map(jax.lax.stop_gradient, arrays)
    _check_types(options, arrays)
    _check_shapes(options, arrays)

    def run(given: _Arrays) -> tuple[Any, Any]:
        logits, _, miss, _, mislabel, _ = (None if array is None else numpy.asarray(array) for array in given)
        found = _losses.decide(logits, miss, mislabel, probabilities=probabilities, scale=scale, zero_point=zero_point)
        return found[0].astype(numpy.int32), found[1]

    rows = rows_shape(options, tuple(input.shape))
    decisions, costs = _out(run, (_shaped(rows, jnp.int32), _shaped(rows)), arrays)
    return decisions, costs
