"""Dispatch of a loss by its input: `_torch` for tensors, with autograd, else `_numpy`."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, Callable, Optional, ParamSpec

from . import _numpy
from ._call import Request

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


_evaluate_tensors: Optional[Callable[[Request], Any]] = None


def _of_tensors() -> Callable[[Request], Any]:
    """`_torch.evaluate`, cached, since an import statement in every call takes time."""
    global _evaluate_tensors
    if _evaluate_tensors is None:
        from ._torch import evaluate

        _evaluate_tensors = evaluate
    return _evaluate_tensors


def loss(request: Callable[_Arguments, Request]) -> Callable[_Arguments, Any]:
    """Decorator that makes a public loss of a function from arguments to a `Request`."""

    @functools.wraps(request)
    def evaluate(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> Any:
        made = request(*arguments, **options)
        return _of_tensors()(made) if is_tensor(made.input) else _numpy.evaluate(made)

    # The loss does not return a `Request`.
    evaluate.__signature__ = inspect.signature(request).replace(return_annotation=Any)  # type: ignore[attr-defined]
    return evaluate


def request_of(loss: Callable[..., Any], *arguments: Any, **options: Any) -> Request:
    """The `Request` of a public loss for these arguments, which are arrays."""
    made = getattr(loss, "__wrapped__", None)
    if made is None or getattr(loss, "__module__", None) != "rwwce._losses":
        raise ValueError(f"loss: expected a loss of this package, found {loss!r}")
    request: Request = made(*arguments, **options)
    if is_tensor(request.input):
        raise ValueError("input: expected an array, found a tensor, whose derivatives are those of autograd")
    return request
