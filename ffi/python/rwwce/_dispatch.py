"""Dispatch of a loss by its input: `_torch` for tensors, with autograd, else `_numpy`."""

from __future__ import annotations

import functools
import sys
from typing import Any, Callable, NamedTuple, ParamSpec

from . import _numpy
from ._call import Options, Request

_Arguments = ParamSpec("_Arguments")


_tensor: Any = None


def is_tensor(array: Any) -> bool:
    """Whether this is a PyTorch tensor, without importing PyTorch."""
    global _tensor
    if _tensor is None:
        torch = sys.modules.get("torch")
        if torch is None:
            return False
        _tensor = torch.Tensor
    return isinstance(array, _tensor)


@functools.cache
def tensors() -> Any:
    """The module `_torch`, imported when the first tensor is met."""
    from . import _torch

    return _torch


def evaluate(
    options: Options,
    input: Any,
    target: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    costs: Any = None,
    bias: Any = None,
) -> Any:
    """The loss of tensors or arrays; the request itself for a `_Deferred` input."""
    if is_tensor(input):
        return tensors().evaluate(options, input, target, weight, sample_weight, costs, bias)
    if type(input) is _Deferred:
        return Request(options, input.array, target, weight, sample_weight, costs, bias)
    return _numpy.evaluate(Request(options, input, target, weight, sample_weight, costs, bias))


class _Deferred(NamedTuple):
    """An input that makes a loss answer with its request."""

    array: Any


_losses: set[Any] = set()


def loss(function: Callable[_Arguments, Any]) -> Callable[_Arguments, Any]:
    """Decorator of a public loss, whose requests `request_of` can then make."""
    _losses.add(function)
    return function


def request_of(loss: Callable[..., Any], input: Any, *arguments: Any, **options: Any) -> Request:
    """The `Request` of a public loss for these arguments, which are arrays."""
    if not callable(loss) or loss not in _losses:
        raise ValueError(f"loss: expected a loss of this package, found {loss!r}")
    if is_tensor(input):
        raise ValueError("input: expected an array, found a tensor, whose derivatives are those of autograd")
    request: Request = loss(_Deferred(input), *arguments, **options)
    return request
