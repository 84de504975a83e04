"""From the arguments of a loss to its value: by PyTorch for tensors, which it may differentiate, else by NumPy."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, Callable, ParamSpec

from . import _numpy
from ._call import Request

_Arguments = ParamSpec("_Arguments")


def is_tensor(array: Any) -> bool:
    """Whether this is a tensor of PyTorch, which is not imported to find that out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def loss(request: Callable[_Arguments, Request]) -> Callable[_Arguments, Any]:
    """A public function from one that makes a request of its arguments."""

    @functools.wraps(request)
    def evaluate(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> Any:
        made = request(*arguments, **options)
        if is_tensor(made.input):
            from . import _torch

            return _torch.evaluate(made)
        return _numpy.evaluate(made)

    # What it returns is not what it is made from.
    evaluate.__signature__ = inspect.signature(request).replace(return_annotation=Any)  # type: ignore[attr-defined]
    return evaluate


def request_of(loss: Callable[..., Any], *arguments: Any, **options: Any) -> Request:
    """What a public function would compute."""
    made = getattr(loss, "__wrapped__", None)
    if made is None or getattr(loss, "__module__", None) != "rwwce._losses":
        raise ValueError(f"loss: expected a loss of this package, found {loss!r}")
    request: Request = made(*arguments, **options)
    if is_tensor(request.input):
        raise ValueError("input: expected an array, found a tensor, whose derivatives are those of autograd")
    return request
