"""Losses of PyTorch tensors: operators for autograd, `torch.compile` and `torch.func`.

Ordinary tensors bypass the operators, since the dispatch of an operator in Python costs more than the loss of a small
batch.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from . import _native, _numpy
from ._call import GRADIENT, LABEL_TYPES, LOGIT_TYPES, Array, Call, Options, axis_of, check_scale, rows_shape
from ._textbook import loss as textbook

_CPU = torch.device("cpu")
_FLOAT32, _INT64 = torch.float32, torch.int64
_LOGIT_TYPES = {getattr(torch, name): number for name, number in LOGIT_TYPES.items()}
_LABEL_TYPES = {getattr(torch, name): LABEL_TYPES[name] for name in LABEL_TYPES if hasattr(torch, name)}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_ONE = torch.ones((), dtype=torch.float32, device=_CPU)


# ---- Addresses, types and shapes of tensors for the library


def _on_cpu(name: str, tensor: Tensor) -> None:
    if not tensor.is_cpu:
        raise ValueError(f"{name}: expected a tensor on the CPU, found one on {tensor.device}")


def empty(shape: tuple[int, ...]) -> Tensor:
    # On the CPU even if the default device is another.
    return _ONE.new_empty(shape)


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()


def _dense(tensor: Tensor) -> Tensor:
    """The tensor itself if it is contiguous and not lazily negated, else a contiguous copy."""
    return tensor if tensor.is_contiguous() and not tensor.is_neg() else tensor.detach().resolve_neg().contiguous()


def _floats(name: str, tensor: Optional[Tensor]) -> Optional[Array]:
    if tensor is None:
        return None
    _on_cpu(name, tensor)
    if tensor.dtype.is_complex:
        raise ValueError(f"{name}: expected numbers, found {tensor.dtype}")
    tensor = _dense(tensor if tensor.dtype is torch.float32 else tensor.detach().to(torch.float32))
    return Array(tensor, tensor.shape, _place(tensor))


def _logits(options: Options, tensor: Tensor) -> Array:
    _on_cpu("input", tensor)
    dtype = tensor.dtype
    scale, zero_point = 0.0, 0
    if dtype is not torch.float32 or options.scale is not None or options.zero_point != 0:
        scale, zero_point = check_scale(options, str(dtype).removeprefix("torch."))
        if options.scale is None and dtype not in _FLOATS:
            raise ValueError(f"input: expected float32, found {dtype}")
    if options.kind == "log_probabilities" and dtype is not torch.float32:
        tensor, dtype = tensor.detach().to(torch.float32), torch.float32
    tensor = _dense(tensor)
    return Array(tensor, tensor.shape, (*_place(tensor), _LOGIT_TYPES[dtype], scale, zero_point))


def labels_of(name: str, tensor: Tensor) -> Array:
    _on_cpu(name, tensor)
    number = _LABEL_TYPES.get(tensor.dtype)
    if number is None:
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f"{name}: expected integers, found {tensor.dtype}")
        tensor, number = tensor.to(torch.int64), LABEL_TYPES["int64"]
    tensor = _dense(tensor)
    return Array(tensor, tensor.shape, (*_place(tensor), number))


def _targets(options: Options, tensor: Optional[Tensor]) -> Optional[Array]:
    if tensor is None:
        return None
    if options.kind in ("labels", "log_probabilities"):
        return labels_of("target", tensor)
    found = _floats("target", tensor)
    return None if found is None else found._replace(place=(*found.place, 0))


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is contiguous, on the CPU and not lazily negated."""
    return tensor.is_contiguous() and tensor.is_cpu and not tensor.is_neg()


def _call(options: Options, input: Tensor, target: Optional[Tensor], *weights: Optional[Tensor]) -> Call:
    weight, samples, costs, bias = weights
    has_one = samples is None and costs is None and bias is None
    found, targets = _logits(options, input), _targets(options, target)
    if options.kind == "binary":
        in_numpy = [None if tensor is None else _in_numpy(tensor) for tensor in (weight, samples)]
        return Call(options, found, targets, *_numpy.binary_weights(in_numpy[0], in_numpy[1], found.shape))
    if has_one:
        return Call(options, found, targets, _floats("weight", weight), None)
    others = _floats("sample_weight", samples), _floats("mislabel_costs", costs), _floats("class_bias", bias)
    return Call(options, found, targets, _floats("weight", weight), *others)


def _in_numpy(tensor: Tensor) -> Any:
    return tensor.detach().to(torch.float32).resolve_neg().numpy()


def decide(options: Options, input: Tensor, miss: Any, mislabel: Any, given: bool) -> tuple[Tensor, Tensor]:
    input = input.detach()
    found = _numpy.probabilities(_in_numpy(input)) if given else _logits(options, input)
    miss, mislabel = (_in_numpy(costs) if isinstance(costs, Tensor) else costs for costs in (miss, mislabel))
    decisions, costs = _numpy.decide(options, found, miss, mislabel, given)
    return torch.from_numpy(decisions), torch.from_numpy(costs)


# ---- Losses and gradients of ordinary tensors


def _result_type(options: Options, input: Tensor) -> torch.dtype:
    return input.dtype if input.is_floating_point() and not options.wide else torch.float32


def _loss(options: Options, *tensors: Optional[Tensor]) -> Tensor:
    input = tensors[0]
    assert input is not None
    call = _call(options, input, *tensors[1:])
    if options.kind in ("log_softmax", "log_sum_exp"):
        found = empty(call.rows)
        call.logs(_place(found))
    elif call.none:
        found = empty(call.rows)
        call.losses(_place(found))
    else:
        found = empty(())
        call.losses(None, found.data_ptr())
    return found if input.dtype is torch.float32 else found.to(_result_type(options, input))


def _loss_and_gradient(options: Options, *tensors: Optional[Tensor]) -> tuple[Tensor, Tensor]:
    """Reduced loss, and its gradient in float32 for an upstream factor of 1, in one call."""
    input = tensors[0]
    assert input is not None
    call = _call(options, input, *tensors[1:])
    found, gradient = empty(()), empty(call.shape)
    call.derivative(GRADIENT, 1.0, _place(gradient), found.data_ptr())
    return (found if input.dtype is torch.float32 else found.to(_result_type(options, input))), gradient


def _has_one_sweep(options: Options) -> bool:
    return options.reduction != "none" and options.kind in ("labels", "soft", "binary")


def _along_rows(options: Options, factor: Tensor, dimensions: int) -> Tensor:
    """Upstream factors of rows, unsqueezed at the class dimension to broadcast to the input."""
    if options.reduction != "none" or options.kind in ("binary", "log_softmax"):
        return factor
    return factor.unsqueeze(axis_of(options, dimensions))


def _gradient(options: Options, factor: Tensor, *tensors: Optional[Tensor]) -> Tensor:
    """Gradient with respect to the input, for an upstream factor of the reduced loss or one per row."""
    input = tensors[0]
    assert input is not None
    factor, call = _in_float32(factor), _call(options, input, *tensors[1:])
    if options.kind == "log_sum_exp":
        logs = _loss(options._replace(kind="log_softmax", wide=True), *tensors)
        return (logs.exp_() * _along_rows(options, factor, input.dim())).to(input.dtype)
    gradient = empty(call.shape)
    if options.kind == "log_softmax":
        minus = _dense(-factor)
        call.log_probabilities_gradient(_place(minus), _place(gradient))
        return gradient.to(input.dtype)
    try:
        _write_gradient(call, factor, gradient)
    except ValueError:
        # The library refuses a non-finite upstream factor, which PyTorch propagates to the gradient.
        if torch.isfinite(factor).all():
            raise
        _write_gradient(call, torch.ones_like(factor, device=_CPU), gradient)
        gradient = gradient * _along_rows(options, factor, input.dim())
    return gradient if input.dtype is torch.float32 else gradient.to(input.dtype)


def _in_float32(factor: Tensor) -> Tensor:
    return factor if factor.dtype is torch.float32 else factor.to(torch.float32)


def _write_gradient(call: Call, factor: Tensor, gradient: Tensor) -> None:
    held = _dense(factor) if call.none else None
    call.derivative(GRADIENT, factor.item() if held is None else _place(held), _place(gradient))


def _target_gradient(options: Options, factor: Tensor, *tensors: Optional[Tensor]) -> Tensor:
    """Gradient with respect to soft or binary targets t, in which the loss is linear: loss(1) − loss(0) if binary."""
    input, target, weight, samples, _, _ = tensors
    assert input is not None and target is not None
    factor = factor.to(torch.float32)
    if options.kind == "binary":
        rows = options._replace(reduction="none", wide=True)
        one, zero = (_loss(rows, input, of(target), weight, samples, None, None) for of in (torch.ones_like, torch.zeros_like))
        found, factor = one - zero, factor if options.reduction == "none" else factor / _denominator(options, tensors)
        return (found * factor).to(target.dtype)
    if options.z_loss != 0.0:
        return _textbook_gradient(options, "target", factor, tensors).to(target.dtype)
    return _soft_target_gradient(options, factor, tensors).to(target.dtype)


def _soft_target_gradient(options: Options, factor: Tensor, tensors: tuple[Optional[Tensor], ...]) -> Tensor:
    """−(1 − ε)·s·w[c]·log p_c times the factor, divided by the denominator."""
    input, _, weight, samples, _, bias = tensors
    assert input is not None
    axis = axis_of(options, input.dim())
    adjusted = options._replace(kind="log_softmax", reduction="none", axis=axis, wide=True)
    logs = _loss(adjusted, input, None, None, None, None, bias)
    along = [1] * input.dim()
    along[axis] = -1
    if weight is not None:
        logs = logs * weight.to(torch.float32).reshape(along)
    if samples is not None:
        logs = logs * samples.to(torch.float32).unsqueeze(axis)
    factor = factor.unsqueeze(axis) if options.reduction == "none" else factor / _denominator(options, tensors)
    return -(1.0 - options.label_smoothing) * factor * logs


def _denominator(options: Options, tensors: tuple[Optional[Tensor], ...]) -> float:
    if options.reduction == "sum" or options.denominator is not None:
        return 1.0 if options.denominator is None else options.denominator
    input = tensors[0]
    assert input is not None
    return float(math.prod(rows_shape(options, tuple(input.shape)))) or math.nan


# ---- Operators


_NAMES = ("input", "target", "weight", "sample_weight", "costs", "bias")


def _textbook_gradient(options: Options, of: str, factor: Tensor, tensors: tuple[Optional[Tensor], ...]) -> Tensor:
    """Gradient by PyTorch's own operations in float64, which can be differentiated again."""
    place = _NAMES.index(of)

    def weighted(argument: Tensor) -> Tensor:
        given: Any = (*tensors[:place], argument, *tensors[place + 1 :])
        return (textbook(options, *given) * factor.double()).sum()

    argument = tensors[place]
    assert argument is not None
    pull = torch.func.vjp(weighted, argument)[1]
    found: Tensor = pull(torch.ones((), dtype=torch.float64, device=argument.device))[0]
    return found


def _unpacked(arguments: tuple[Any, ...]) -> tuple[Options, tuple[Any, ...]]:
    """Options and tensors from the flat arguments of an operator."""
    return Options(*arguments[6:]), arguments[:6]


_TENSORS = "Tensor input, Tensor? target, Tensor? weight, Tensor? sample_weight, Tensor? costs, Tensor? bias"
_OPTIONS = (
    "str kind, str reduction, int? ignore_index, float label_smoothing, float focal, float z_loss, float temperature, "
    "float? scale, int zero_point, float? denominator, int axis, bool wide"
)
_ARGUMENTS = f"{_TENSORS}, {_OPTIONS}"


def _run_loss(*arguments: Any) -> Tensor:
    options, tensors = _unpacked(arguments)
    return _loss(options, *tensors)


def _run_loss_and_gradient(*arguments: Any) -> tuple[Tensor, Tensor]:
    options, tensors = _unpacked(arguments)
    return _loss_and_gradient(options, *tensors)


def _run_gradient(of: str, factor: Tensor, *arguments: Any) -> Tensor:
    options, tensors = _unpacked(arguments)
    return (_gradient if of == "input" else _target_gradient)(options, factor, *tensors)


def _operator(name: str, schema: str, function: Any) -> Any:
    return torch.library.custom_op(f"rwwce::{name}", function, mutates_args=(), schema=schema)


_loss_operator = _operator("loss", f"({_ARGUMENTS}) -> Tensor", _run_loss)
_loss_and_gradient_operator = _operator(
    "loss_and_gradient", f"({_ARGUMENTS}) -> (Tensor, Tensor)", _run_loss_and_gradient
)
_gradient_operator = _operator("gradient", f"(str of, Tensor factor, {_ARGUMENTS}) -> Tensor", _run_gradient)


@_loss_operator.register_fake
def _(*arguments: Any) -> Tensor:
    options, tensors = _unpacked(arguments)
    input: Tensor = tensors[0]
    shape = rows_shape(options, tuple(input.shape)) if options.reduction == "none" else ()
    return input.new_empty(shape, dtype=_result_type(options, input))


@_loss_and_gradient_operator.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    options, tensors = _unpacked(arguments)
    input = tensors[0]
    found = input.new_empty((), dtype=_result_type(options, input))
    return found, input.new_empty(tuple(input.shape), dtype=torch.float32)


@_gradient_operator.register_fake
def _(of: str, factor: Tensor, *arguments: Any) -> Tensor:
    tensor: Tensor = arguments[_NAMES.index(of)]
    return tensor.new_empty(tuple(tensor.shape))


def _gradients(
    needed: tuple[bool, ...],
    options: Options,
    tensors: tuple[Optional[Tensor], ...],
    factor: Tensor,
    known: Optional[Tensor] = None,
    is_last: bool = False,
) -> list[Optional[Tensor]]:
    """Gradients with respect to the six tensors, None but for the input and the target where needed.

    `known` is the gradient with respect to the input for an upstream factor of 1, reused as the result if `is_last`.
    """
    found: list[Optional[Tensor]] = [None] * len(tensors)
    input = tensors[0]
    assert input is not None
    if needed[0] and known is not None and not torch.is_grad_enabled():
        product = _times(known, factor, is_last)
        found[0] = product if product.dtype is input.dtype else product.to(input.dtype)
    elif needed[0]:
        found[0] = _any_gradient("input", options, factor, *tensors)
    if needed[1]:
        found[1] = _any_gradient("target", options, factor, *tensors)
    return found


def _times(known: Tensor, factor: Tensor, is_last: bool) -> Tensor:
    """The gradient times the upstream factor, in place if the saved gradient is not read again (`is_last`)."""
    if not is_last:
        return known * factor
    return known if factor.item() == 1.0 else known.mul_(factor)


def _any_gradient(of: str, options: Options, factor: Tensor, *tensors: Any) -> Tensor:
    """The gradient: by the operator for tensors that are not plain, differentiable if needed, else directly."""
    found: Tensor
    if not _is_plain(factor) or not _is_plain(tensors[0]):
        found = _gradient_operator(of, factor, *tensors, *options)
    elif torch.is_grad_enabled() or _is_transformed():
        # The gradient may be differentiated again.
        found = _Gradient.apply(options, of, factor, *tensors)
    else:
        found = (_gradient if of == "input" else _target_gradient)(options, factor, *tensors)
    return found


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.options, tensors = _unpacked(inputs)
    known = output[1] if isinstance(output, tuple) else None
    ctx.save_for_backward(*tensors, known)


def _backward(ctx: Any, factor: Tensor, _of_gradient: Optional[Tensor] = None) -> tuple[Optional[Tensor], ...]:
    *tensors, known = ctx.saved_tensors
    found = _gradients(ctx.needs_input_grad, ctx.options, tuple(tensors), factor, known)
    return (*found, *[None] * len(ctx.options))


_loss_operator.register_autograd(_backward, setup_context=_keep)
_loss_and_gradient_operator.register_autograd(_backward, setup_context=_keep)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.of, factor, *arguments = inputs
    ctx.options, tensors = _unpacked(tuple(arguments))
    ctx.save_for_backward(factor, *tensors)


def _backward_of_gradient(ctx: Any, cotangent: Tensor) -> tuple[Optional[Tensor], ...]:
    factor, *tensors = ctx.saved_tensors
    found = _second_derivatives(ctx.needs_input_grad[1:4], ctx.options, ctx.of, cotangent, factor, *tensors)
    return (None, *found, *[None] * (4 + len(ctx.options)))


def _second_derivatives(
    needed: tuple[bool, ...], options: Options, of: str, cotangent: Tensor, *tensors: Any
) -> list[Optional[Tensor]]:
    """Vector-Jacobian products of a gradient with respect to factor, input and target, by PyTorch in float64."""
    wanted = [i for i in range(3) if needed[i]]

    def gradient(*arguments: Tensor) -> Tensor:
        replaced = list(tensors)
        for i, argument in zip(wanted, arguments):
            replaced[i] = argument
        return _textbook_gradient(options, of, replaced[0], tuple(replaced[1:]))

    pull = torch.func.vjp(gradient, *(tensors[i] for i in wanted))[1]
    found: list[Optional[Tensor]] = [None] * 3
    for i, of_argument in zip(wanted, pull(cotangent.double())):
        found[i] = of_argument
    return found


_gradient_operator.register_autograd(_backward_of_gradient, setup_context=_keep_gradient)


def _one_by_one(operator: Any) -> Any:
    """Rule of `vmap`: one call for each index of the mapped dimension."""

    def run(info: Any, dimensions: Any, *arguments: Any) -> Any:
        moved = [
            argument.movedim(dimension, 0) if isinstance(dimension, int) else argument
            for argument, dimension in zip(arguments, dimensions)
        ]
        results = [
            operator(*(a[i] if isinstance(dimension, int) else a for a, dimension in zip(moved, dimensions)))
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], tuple):
            return tuple(torch.stack(each) for each in zip(*results)), (0,) * len(results[0])
        return torch.stack(results), 0

    return run


for _each in (_loss_operator, _loss_and_gradient_operator, _gradient_operator):
    _each.register_vmap(_one_by_one(_each))


# ---- autograd.Function: less overhead than an operator, and forward mode, which operators lack


def _tangent(function: Any, arguments: tuple[Any, ...], tangents: tuple[Any, ...], like: Tensor) -> Tensor:
    """Jacobian-vector product of `function`, with None as the tangent of constant arguments, in the dtype of `like`.

    Computed as the derivative of the vector-Jacobian product by its cotangent, since forward mode cannot be nested.
    """
    moved = [i for i, tangent in enumerate(tangents) if tangent is not None]

    def of_moved(*values: Any) -> Any:
        replaced = list(arguments)
        for i, value in zip(moved, values):
            replaced[i] = value
        return function(*replaced)

    def gradients(factor: Tensor) -> Any:
        return torch.func.vjp(of_moved, *(arguments[i] for i in moved))[1](factor)

    found = torch.zeros_like(like, dtype=torch.float64)
    along: Tensor = torch.func.vjp(gradients, found)[1](tuple(tangents[i].to(arguments[i].dtype) for i in moved))[0]
    return along.to(like.dtype)


class _Loss(torch.autograd.Function):
    """Loss of ordinary tensors; with `is_wanted` also its gradient, which is saved for the backward pass."""

    @staticmethod
    def forward(options: Options, is_wanted: bool, *tensors: Optional[Tensor]) -> Any:
        return (_loss_and_gradient if is_wanted else _loss)(options, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.options, _, *tensors = inputs
        known = None
        if isinstance(output, tuple):
            known = output[1]
            ctx.mark_non_differentiable(known)
            ctx.set_materialize_grads(False)
        # Saved this way, so that autograd detects in-place changes before the backward pass.
        ctx.save_for_backward(*tensors, known)
        ctx.save_for_forward(*tensors, output[0] if isinstance(output, tuple) else output)

    @staticmethod
    def jvp(ctx: Any, _options: None, _is_wanted: None, *tangents: Optional[Tensor]) -> Tensor:
        *tensors, found = ctx.saved_tensors
        return _tangent(functools.partial(textbook, ctx.options), tuple(tensors), tangents, found)

    @staticmethod
    def backward(ctx: Any, factor: Optional[Tensor], _of_gradient: Optional[Tensor] = None) -> Any:
        *tensors, known = ctx.saved_tensors
        if factor is None:
            return (None,) * (2 + len(tensors))
        return None, None, *_gradients(ctx.needs_input_grad[2:], ctx.options, tuple(tensors), factor, known)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _one_by_one(_Loss.apply)(info, in_dims, *arguments)


class _Eager(torch.autograd.Function):
    """`_Loss` outside of transformations, with less overhead: only input and target are inputs of the function."""

    @staticmethod
    def forward(
        ctx: Any, options: Options, is_wanted: bool, others: tuple[Optional[Tensor], ...], *given: Optional[Tensor]
    ) -> Tensor:
        ctx.options, known = options, None
        if is_wanted:
            found, known = _loss_and_gradient(options, *given, *others)
        else:
            found = _loss(options, *given, *others)
        ctx.save_for_backward(*given, *others, known)
        return found

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> Any:
        *tensors, known = ctx.saved_tensors
        needed, is_last = ctx.needs_input_grad[3:], _is_last_backward()
        return None, None, None, *_gradients(needed, ctx.options, tuple(tensors), factor, known, is_last)[:2]


_keeps_graph: Any = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def _is_last_backward() -> bool:
    """Whether this backward pass frees the saved tensors (`retain_graph=False`)."""
    return not _keeps_graph()


class _Usual(torch.autograd.Function):
    """`_Eager` for the arguments of `usual`: the overhead dominates the time of small batches."""

    @staticmethod
    def forward(ctx: Any, computed: Any, input: Tensor) -> Tensor:
        # Only the differentiated tensor is an input of the function; labels and weights are saved with it.
        loss: Tensor
        loss, known, target, weight, ctx.options = computed
        ctx.save_for_backward(input, known, target, weight)
        return loss

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> Any:
        input, known, target, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            options = Options("labels", *ctx.options)
            return None, _any_gradient("input", options, factor, input, target, weight, None, None, None)
        return None, _times(known, factor, _is_last_backward())


# Without the preparations of `Function.apply` for transformations, which take longer than the loss.
_apply_usual: Any = super(torch.autograd.Function, _Usual).apply


class _Gradient(torch.autograd.Function):
    """Gradient of a loss of ordinary tensors, itself differentiable."""

    @staticmethod
    def forward(options: Options, of: str, factor: Tensor, *tensors: Optional[Tensor]) -> Tensor:
        return (_gradient if of == "input" else _target_gradient)(options, factor, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.options, ctx.of, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors, output)

    @staticmethod
    def jvp(ctx: Any, _options: None, _of: None, *tangents: Optional[Tensor]) -> Tensor:
        *tensors, found = ctx.saved_tensors

        def gradient(factor: Tensor, *arguments: Optional[Tensor]) -> Tensor:
            return _textbook_gradient(ctx.options, ctx.of, factor, arguments)

        return _tangent(gradient, tuple(tensors), tangents, found)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        factor, *tensors = ctx.saved_tensors
        found = _second_derivatives(ctx.needs_input_grad[2:5], ctx.options, ctx.of, cotangent, factor, *tensors)
        return None, None, *found, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _one_by_one(_Gradient.apply)(info, in_dims, *arguments)


_ORDINARY = (Tensor, torch.nn.Parameter)


_are_transforms_active = torch._C._are_functorch_transforms_active


def _is_transformed() -> bool:
    """Whether forward mode or a transformation of `torch.func` is active."""
    return forward_ad._current_level >= 0 or _are_transforms_active()


_dispatch_modes, _tracing_state = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor is of no subclass, and neither compilation, nor tracing, nor a dispatch mode is active."""
    return (
        type(tensor) in _ORDINARY
        and not is_compiling()
        and _dispatch_modes() == 0
        and _tracing_state() is None
    )


def _weights(name: str, array: Any) -> Optional[Tensor]:
    if array is None:
        return None
    if isinstance(array, Tensor):
        if array.requires_grad:
            raise ValueError(f"{name}: there is no gradient with respect to it; detach it")
        return array
    found = _numpy.floats(name, array)
    return None if found is None else torch.from_numpy(found.owner)


def _target(options: Options, array: Any) -> Optional[Tensor]:
    if array is None or isinstance(array, Tensor):
        return array
    found = _numpy.targets(options, array)
    return None if found is None else torch.as_tensor(found.owner, device=_CPU)


def _needs_gradient(input: Tensor, target: Optional[Tensor]) -> bool:
    return torch.is_grad_enabled() and (input.requires_grad or target is not None and target.requires_grad)


def _run(options: Options, *tensors: Any) -> Tensor:
    """The loss: by the operator for tensors that are not plain, by `_Loss` under transformations, else by `_Eager`."""
    input, needed = tensors[0], _needs_gradient(tensors[0], tensors[1])
    # In forward mode the gradient is not saved, since it would need a tangent.
    is_wanted = needed and input.requires_grad and _has_one_sweep(options) and forward_ad._current_level < 0
    found: Any
    if not _is_plain(input):
        found = (_loss_and_gradient_operator if is_wanted else _loss_operator)(*tensors, *options)
    elif _is_transformed():
        found = _Loss.apply(options, is_wanted, *tensors)
    else:
        if not needed:
            return _loss(options, *tensors)
        eager: Tensor = _Eager.apply(options, is_wanted, tensors[2:], *tensors[:2])
        return eager
    loss: Tensor = found[0] if is_wanted else found
    return loss


# C functions by which the library reads and makes tensors; absent in versions of PyTorch before DLPack 1.3.
_exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)


def usual(input: Tensor, target: Any, weight: Any, ignored: Any, reduction: str) -> Optional[Tensor]:
    """Reduced loss of ordinary tensors: logits (N, C) in float32, labels (N) in int64, and no option.

    None for all other arguments: for a small batch the general way takes twice as long.
    """
    if _exchange is None or type(target) is not Tensor or not _is_plain(input) or _is_transformed():
        return None
    # DLPack has no word for lazy negation.
    if type(ignored) is not int or input.is_neg() or target.is_neg():
        return None
    if weight is not None and (type(weight) is not Tensor or weight.requires_grad or weight.is_neg()):
        return None
    if reduction != "mean" and reduction != "sum":
        return None
    needed = input.requires_grad and torch.is_grad_enabled()
    found = _native.usual(_exchange, input, target, weight, ignored, reduction == "mean", needed)
    if needed and found is not None:
        found = _apply_usual((*found, target, weight, (reduction, ignored)), input)
    loss: Optional[Tensor] = found
    return loss


def evaluate(
    options: Options, input: Tensor, target: Any, weight: Any, samples: Any, costs: Any, bias: Any
) -> Tensor:
    if options.scale is not None:
        _weights("scale", options.scale)
        options = options._replace(scale=float(options.scale))
    # Losses are float32 under autocast.
    if torch.is_autocast_enabled("cpu"):
        options = options._replace(wide=True)
    if weight is not None:
        weight = _weights("weight", weight)
    if samples is not None or costs is not None or bias is not None:
        samples = _weights("sample_weight", samples)
        costs, bias = _weights("mislabel_costs", costs), _weights("class_bias", bias)
    return _run(options, input, _target(options, target), weight, samples, costs, bias)
