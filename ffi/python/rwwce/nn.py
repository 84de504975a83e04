"""The losses as modules, with the arguments of their namesakes in `torch.nn`, in the same positions.

`RealWorldWeightCrossEntropyLoss` has none: its `ignore_index` comes before `reduction`, as in the other modules, while
the function has `reduction` first. Pass both by keyword.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from . import binary_cross_entropy_with_logits, cross_entropy, nll_loss, real_world_weight_cross_entropy

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss", "RealWorldWeightCrossEntropyLoss"]


def _reduction(size_average: Optional[bool], reduce: Optional[bool], reduction: str) -> str:
    """The reduction, from PyTorch's deprecated `size_average` and `reduce` if they are given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


class _Loss(torch.nn.Module):
    """Base class, with weights and costs as buffers, which `state_dict` includes."""

    def _keep(self, **costs: Any) -> None:
        for name, cost in costs.items():
            if cost is not None:
                cost = torch.as_tensor(cost).detach()
                cost = cost if cost.is_floating_point() else cost.to(torch.float32)
            self.register_buffer(name, cost)

    def extra_repr(self) -> str:
        """Options of the module, for its `repr`."""
        names = ("ignore_index", "label_smoothing", "reduction")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names if hasattr(self, name))


class CrossEntropyLoss(_Loss):
    """`rwwce.cross_entropy` as a module: logits (N, C, …) and class indices (N, …) or target probabilities (N, C, …).

    >>> import torch, rwwce.nn
    >>> loss = rwwce.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
    >>> loss(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    tensor(0.2667)
    """

    weight: Optional[Tensor]

    def __init__(
        self,
        weight: Any = None,
        size_average: Optional[bool] = None,
        ignore_index: int = -100,
        reduce: Optional[bool] = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._keep(weight=weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.reduction = _reduction(size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        ignored = self.ignore_index
        loss: Tensor = cross_entropy(input, target, self.weight, ignored, self.reduction, self.label_smoothing)
        return loss


class NLLLoss(_Loss):
    """`rwwce.nll_loss` as a module: log-probabilities (N, C, …) and class indices (N, …).

    >>> import torch, rwwce.nn
    >>> rwwce.nn.NLLLoss()(torch.tensor([[-0.5, -1.0]]), torch.tensor([1]))
    tensor(1.)
    """

    weight: Optional[Tensor]

    def __init__(
        self,
        weight: Any = None,
        size_average: Optional[bool] = None,
        ignore_index: int = -100,
        reduce: Optional[bool] = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self._keep(weight=weight)
        self.ignore_index, self.reduction = ignore_index, _reduction(size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = nll_loss(input, target, self.weight, self.ignore_index, self.reduction)
        return loss


class BCEWithLogitsLoss(_Loss):
    """`rwwce.binary_cross_entropy_with_logits` as a module: logits, and targets in [0, 1] of the same shape.

    >>> import torch, rwwce.nn
    >>> rwwce.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(20.0))(torch.tensor([0.0]), torch.tensor([1.0]))
    tensor(13.8629)
    """

    weight: Optional[Tensor]
    pos_weight: Optional[Tensor]

    def __init__(
        self,
        weight: Any = None,
        size_average: Optional[bool] = None,
        reduce: Optional[bool] = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        super().__init__()
        self._keep(weight=weight, pos_weight=pos_weight)
        self.reduction = _reduction(size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = binary_cross_entropy_with_logits(input, target, self.weight, self.pos_weight, self.reduction)
        return loss


class RealWorldWeightCrossEntropyLoss(_Loss):
    """`rwwce.real_world_weight_cross_entropy` as a module: miss costs (C) and mislabel costs (C, C), each ≥ 0.

    Logits (N, C, …) and class indices (N, …); the mean divides by the number of rows that count.

    >>> import torch, rwwce.nn
    >>> loss = rwwce.nn.RealWorldWeightCrossEntropyLoss([1.0, 20.0], [[0.0, 1.0], [19.0, 0.0]])
    >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(27.0327)
    """

    miss_costs: Tensor
    mislabel_costs: Tensor

    def __init__(
        self,
        miss_costs: Any,
        mislabel_costs: Any,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._keep(miss_costs=miss_costs, mislabel_costs=mislabel_costs)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        costs = self.miss_costs, self.mislabel_costs
        loss: Tensor = real_world_weight_cross_entropy(
            input, target, *costs, self.reduction, self.ignore_index, label_smoothing=self.label_smoothing
        )
        return loss
