"""The losses by their textbook formulas, in PyTorch's operations and in float64, for second and forward derivatives."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ._call import Options, axis_of


def _wide(tensor: Optional[Tensor], default: Tensor) -> Tensor:
    return default if tensor is None else tensor.double()


def _log_of_others(log_p: Tensor) -> Tensor:
    """log(1 − p) from log p, as log(−expm1(log p)) for p > 1/2 and log1p(−p) below, each accurate there."""
    near_one = log_p > -0.6931471805599453
    low = torch.log1p(-torch.where(near_one, -1.0, log_p).exp())
    return torch.where(near_one, torch.log(-torch.expm1(torch.where(near_one, log_p, -1.0))), low)


def _binary(x: Tensor, target: Tensor, weight: Optional[Tensor], samples: Optional[Tensor]) -> tuple[Tensor, None]:
    one = x.new_ones(())
    factor = _wide(samples, one)
    # An element of weight 0 contributes 0 even if it is NaN or infinite.
    x, t = torch.where(factor == 0, 0.0, x), torch.where(factor == 0, 0.0, target.double())
    losses = -_wide(weight, one) * t * F.logsigmoid(x) - (1 - t) * F.logsigmoid(-x)
    return factor * losses, None


def _coefficients(
    options: Options, x: Tensor, target: Tensor, weight: Optional[Tensor], samples: Optional[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coefficients of −log p_c without the label's term; weight of the label; label; factor of the row."""
    classes = x.shape[-1]
    w, smoothing = _wide(weight, x.new_ones(classes)), options.label_smoothing
    if options.kind == "soft":
        rows = x.new_ones(x.shape[:-1])
        q = (1 - smoothing) * target.double() + smoothing / classes
        return w * q, torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.int64), rows * _wide(samples, rows)
    counts = torch.ne(target, -100 if options.ignore_index is None else options.ignore_index)
    y = torch.where(counts, target, 0).long()
    rows = counts.double() * _wide(samples, x.new_ones(()))
    spread = (smoothing / classes * w).expand(x.shape)
    return spread, w[y], y, rows


def _softmax(
    options: Options,
    x: Tensor,
    target: Tensor,
    weight: Optional[Tensor],
    samples: Optional[Tensor],
    costs: Optional[Tensor],
) -> tuple[Tensor, Tensor]:
    """Losses and weights of rows, whose classes are the last dimension."""
    spread, of_label, y, rows = _coefficients(options, x, target, weight, samples)
    own = (1 - options.label_smoothing) * of_label
    of_nothing = (rows == 0).unsqueeze(-1)
    x = torch.where(of_nothing, 0.0, x)
    if options.kind == "log_probabilities":
        log_p = x
    else:
        log_p = x.log_softmax(-1)
    log_own = torch.where(own == 0, 0.0, log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1))
    label = -own * log_own
    if options.focal != 0.0:
        label = label * _log_of_others(log_own).mul(options.focal).exp()
    losses = label - (spread * torch.where(spread == 0, 0.0, log_p)).sum(-1)
    if costs is not None:
        of_row = costs.double()[y]
        losses = losses - (of_row * _log_of_others(torch.where(of_row == 0, -1.0, log_p))).sum(-1)
    if options.z_loss != 0.0:
        losses = losses + options.z_loss * (own + spread.sum(-1)) * x.logsumexp(-1).square()
    return rows * losses, rows * of_label


def loss(
    options: Options,
    input: Tensor,
    target: Optional[Tensor],
    weight: Optional[Tensor],
    samples: Optional[Tensor],
    costs: Optional[Tensor],
    bias: Optional[Tensor],
) -> Tensor:
    """Reduced loss or row losses, log-probabilities or log-sum-exps."""
    x = input.double()
    if options.kind in ("log_softmax", "log_sum_exp"):
        return x.log_softmax(options.axis) if options.kind == "log_softmax" else x.logsumexp(options.axis)
    assert target is not None
    if options.kind == "binary":
        losses, weighs = _binary(x, target, weight, samples)
    else:
        axis = axis_of(options, x.dim())
        x = x.movedim(axis, -1) / options.temperature + _wide(bias, x.new_zeros(()))
        if options.kind == "soft":
            target = target.movedim(axis, -1)
        losses, weighs = _softmax(options, x, target, weight, samples, costs)
    if options.reduction == "none":
        return losses
    if options.reduction == "sum" or options.denominator is not None:
        return losses.sum() / (1.0 if options.denominator is None else options.denominator)
    return losses.sum() / _mean_denominator(options, losses, weighs, target, costs)


def _mean_denominator(
    options: Options, losses: Tensor, weighs: Optional[Tensor], target: Tensor, costs: Optional[Tensor]
) -> Tensor:
    """Weight sum; with mislabel costs the number of rows that count; for soft and binary targets all rows."""
    if options.kind in ("binary", "soft"):
        return losses.new_tensor(losses.numel())
    if costs is not None:
        return torch.ne(target, -100 if options.ignore_index is None else options.ignore_index).sum().double()
    assert weighs is not None
    return weighs.sum()
