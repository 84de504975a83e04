"""From the arguments of a loss to its value: by PyTorch for tensors, which it may differentiate, else by NumPy."""

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
    """Whether this is a tensor of PyTorch, which is not imported to find that out."""
    global _tensor
    if _tensor is None:
        torch = sys.modules.get("torch")
        if torch is None:
            return False
        _tensor = torch.Tensor
    return isinstance(array, _tensor)


_evaluate_tensors: Optional[Callable[[Request], Any]] = None


def _of_tensors() -> Callable[[Request], Any]:
    """What computes losses of tensors; an import statement takes its time at every call."""
    global _evaluate_tensors
    if _evaluate_tensors is None:
        from ._torch import evaluate

        _evaluate_tensors = evaluate
    return _evaluate_tensors


def loss(request: Callable[_Arguments, Request]) -> Callable[_Arguments, Any]:
    """A public function from one that makes a request of its arguments."""

    @functools.wraps(request)
    def evaluate(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> Any:
        made = request(*arguments, **options)
        return _of_tensors()(made) if is_tensor(made.input) else _numpy.evaluate(made)

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
