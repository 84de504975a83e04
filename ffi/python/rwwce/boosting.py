"""Objectives and metrics for the boosted trees of XGBoost and LightGBM, neither of which is imported here.

    import xgboost, rwwce.boosting
    objective = rwwce.boosting.xgboost_objective(miss_costs=[1.0, 20.0])
    metric = rwwce.boosting.xgboost_metric(miss_costs=[1.0, 20.0])
    xgboost.train({"objective": "binary:logistic", "base_score": 0.5}, data, obj=objective, custom_metric=metric)
    xgboost.XGBClassifier(objective=objective, eval_metric=metric)

    import lightgbm
    objective = rwwce.boosting.lightgbm_objective(miss_costs=[1.0, 20.0])
    lightgbm.train({"objective": objective}, data)
    lightgbm.LGBMClassifier(objective=objective)

One object serves both `train` and the scikit-learn estimator of a library. Labels are 0 … C − 1, a single margin per
row means the classes 0 and 1, and sample weights are those of the data set. XGBoost must be 2.1, LightGBM 4.0, or
later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy

from . import _costs, _numpy
from ._call import Options, Request

__all__ = ["Metric", "Objective", "lightgbm_metric", "lightgbm_objective", "xgboost_metric", "xgboost_objective"]

_Floats = numpy.ndarray[Any, Any]


class _Rows:
    """Labels, logits (N, C) and sample weights from the arguments of a call, in either order of the libraries."""

    def __init__(self, first: Any, second: Any, sample_weight: Any, probabilities: bool = False):
        # `train` passes margins and a data set, an estimator passes labels, margins and sample weights.
        self.native = hasattr(second, "get_label")
        margins = first if self.native else second
        labels = second.get_label() if self.native else first
        self.weight = _weights(second.get_weight() if self.native else sample_weight)
        found = numpy.asarray(margins)
        self.shape, rows = found.shape, len(labels)
        self.binary = self.shape in ((rows,), (rows, 1))
        if not self.binary and not (found.ndim == 2 and self.shape[0] == rows):
            hint = "; XGBoost before 2.1 and LightGBM before 4.0 have other shapes" if found.ndim == 1 else ""
            raise ValueError(f"predictions: expected shape ({rows},) or ({rows}, C), found {self.shape}{hint}")
        if probabilities:
            self.logits = _logarithms(found, self.binary)
        else:
            self.logits = _costs.of_two(found.reshape(rows)) if self.binary else found
        self.labels = _costs.indices("labels", labels, self.logits.shape[1])

    def shaped(self, of_logits: _Floats) -> _Floats:
        """A derivative with respect to the logits (N, C), as one with respect to the margins."""
        return numpy.ascontiguousarray(of_logits[:, 1]).reshape(self.shape) if self.binary else of_logits


def _weights(given: Any) -> Optional[_Floats]:
    if given is None or len(given) == 0:
        return None
    weights = numpy.asarray(given)
    if not (weights >= 0).all():
        raise ValueError("sample_weight: expected weights of at least 0, of which alone there is a bound of the curvature")
    return weights


def _logarithms(probabilities: _Floats, binary: bool) -> _Floats:
    p = probabilities.astype(numpy.float64)
    with numpy.errstate(divide="ignore"):
        return numpy.stack([numpy.log1p(-p.ravel()), numpy.log(p.ravel())], axis=1) if binary else numpy.log(p)


@dataclass(frozen=True, eq=False)
class Objective:
    """Objective: gradient of a loss with respect to the margins of each row, and a curvature that is never negative.

    The loss is `rwwce.real_world_weight_cross_entropy` with these options, summed with the sample weights; without
    mislabel costs `rwwce.cross_entropy` with class weights. A call returns gradient and curvature, shaped as the
    margins:

    | margins | gradient | curvature |
    |---|---|---|
    | (N, C) | that of the loss | 2·p_i·((w + fp[y,i])·(1 − p_i) + Σ_{j≠i} fp[y,j]·p_j) |
    | (N,) or (N, 1), of class 1 against 0 | that of the loss | the second derivative itself, W·p·(1 − p) |

    w is the weight of the row, W = w + fp[y,j] for the other class j. The curvature of (N, C) is an upper bound of the
    Hessian, as a diagonal matrix: a step of −gradient/curvature does not overshoot the quadratic model of the loss.
    Without costs these are XGBoost's own `multi:softprob` and `binary:logistic`, and LightGBM's `binary`; LightGBM's
    `multiclass` has the factor C/(C − 1) instead of 2. Parameters compared with or added to sums of the curvature
    (`min_child_weight`, `lambda`; `min_sum_hessian_in_leaf`, `lambda_l2`) are in units of the costs. Boosting starts
    from margins of 0, while the libraries' own objectives may start from the class frequencies.

    >>> from rwwce.boosting import xgboost_objective
    >>> gradient, curvature = xgboost_objective(miss_costs=[1.0, 20.0])([1, 0], [0.0, 0.0])
    >>> gradient.tolist(), curvature.tolist()
    ([-10.0, 0.5], [5.0, 0.25])
    """

    miss_costs: Any = None
    mislabel_costs: Any = None
    label_smoothing: float = 0.0
    class_bias: Any = None

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> tuple[_Floats, _Floats]:
        rows = _Rows(first, second, sample_weight)
        request = _request(rows, self.miss_costs, self.mislabel_costs, self.label_smoothing, self.class_bias)
        gradient = _numpy.value_and_grad(request, 1.0)[1]
        bound = _numpy.curvature(request, 1.0, True)
        # With one of two logits fixed, the second derivative is half of the bound.
        return rows.shaped(gradient), rows.shaped(0.5 * bound if rows.binary else bound)

    def probabilities(self, margins: Any) -> _Floats:
        """Probabilities (N, C) from margins (N, C), (N,) or (N, 1), which LightGBM predicts with this objective.

        >>> from rwwce.boosting import lightgbm_objective
        >>> lightgbm_objective().probabilities([0.0]).tolist()
        [[0.5, 0.5]]
        """
        found = numpy.asarray(margins)
        logits = _costs.of_two(found.ravel()) if found.ndim == 1 or found.shape[1] == 1 else found
        options = Options("log_softmax")
        logs: _Floats = _numpy.evaluate(Request(options, logits))
        return numpy.exp(logs)


def _request(rows: _Rows, miss: Any, mislabel: Any, smoothing: float, bias: Any, reduction: str = "sum") -> Request:
    options = Options("labels", reduction, None, smoothing)
    return Request(options, rows.logits, rows.labels, miss, rows.weight, mislabel, bias)


@dataclass(frozen=True, eq=False)
class Metric:
    """Metric of predictions, for monitoring and early stopping; lower is better.

    `of` is "cost", the mean cost Σ s·cost[y, j] / Σ s of the decisions j of least expected cost (the error rate without
    costs), with cost[y, j] = fn[y] + fp[y, j] for j ≠ y and sample weights s; or "loss", the sum of the losses over
    Σ s. Predictions are margins; with `probabilities` they are probabilities, as the libraries pass to metrics with
    their own objectives.

    >>> from rwwce.boosting import xgboost_metric
    >>> xgboost_metric(miss_costs=[1.0, 20.0])([1, 0, 0], [-2.0, -2.0, -9.0])
    0.3333333333333333
    """

    library: str
    miss_costs: Any = None
    mislabel_costs: Any = None
    of: str = "cost"
    probabilities: bool = False

    def __post_init__(self) -> None:
        if self.of not in ("cost", "loss"):
            raise ValueError(f"of: expected 'cost' or 'loss', found {self.of!r}")

    @property
    def __name__(self) -> str:
        return f"real_world_{self.of}"

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        rows = _Rows(first, second, sample_weight, self.probabilities)
        value = self._cost(rows) if self.of == "cost" else self._loss(rows)
        if self.library == "lightgbm":
            return self.__name__, value, False
        return (self.__name__, value) if rows.native else value

    def _cost(self, rows: _Rows) -> float:
        costs = _costs.matrix(self.miss_costs, self.mislabel_costs, rows.logits.shape[1])
        decisions = _costs.decide(rows.logits, self.miss_costs, self.mislabel_costs)
        return _costs.mean(costs, rows.labels, decisions, rows.weight)

    def _loss(self, rows: _Rows) -> float:
        request = _request(rows, self.miss_costs, self.mislabel_costs, 0.0, None)
        weighs = float(len(rows.labels) if rows.weight is None else rows.weight.sum())
        return float(_numpy.evaluate(request)) / weighs


def xgboost_objective(
    miss_costs: Any = None, mislabel_costs: Any = None, *, label_smoothing: float = 0.0, class_bias: Any = None
) -> Objective:
    """The objective for `xgboost.train(obj=…)` and for `xgboost.XGBClassifier(objective=…)`; see `Objective`.

    `miss_costs` (C) are 1 by default, `mislabel_costs` (C, C), row = truth, 0; both finite and ≥ 0. With the parameter
    `objective` set to `binary:logistic` or `multi:softprob`, models from `train` predict probabilities.
    """
    return Objective(miss_costs, mislabel_costs, label_smoothing, class_bias)


def lightgbm_objective(
    miss_costs: Any = None, mislabel_costs: Any = None, *, label_smoothing: float = 0.0, class_bias: Any = None
) -> Objective:
    """Objective for `lightgbm.train({"objective": …})` and for `lightgbm.LGBMClassifier(objective=…)`; see `Objective`.

    `miss_costs` (C) are 1 by default, `mislabel_costs` (C, C), row = truth, 0; both finite and ≥ 0. LightGBM then
    predicts margins, even in `predict_proba`: `Objective.probabilities` converts them to probabilities, and
    `rwwce.sklearn.CostDecision(…, logits=True)` decides by them.
    """
    return Objective(miss_costs, mislabel_costs, label_smoothing, class_bias)


def xgboost_metric(
    miss_costs: Any = None, mislabel_costs: Any = None, *, of: str = "cost", probabilities: bool = False
) -> Metric:
    """The metric for `xgboost.train(custom_metric=…)` and for `xgboost.XGBClassifier(eval_metric=…)`; see `Metric`."""
    return Metric("xgboost", miss_costs, mislabel_costs, of, probabilities)


def lightgbm_metric(
    miss_costs: Any = None, mislabel_costs: Any = None, *, of: str = "cost", probabilities: bool = False
) -> Metric:
    """The metric for `lightgbm.train(feval=…)` and for `lightgbm.LGBMClassifier().fit(eval_metric=…)`; see `Metric`."""
    return Metric("lightgbm", miss_costs, mislabel_costs, of, probabilities)
