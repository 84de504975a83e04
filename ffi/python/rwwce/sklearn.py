"""Cost-sensitive decisions for scikit-learn: a meta-estimator, metrics and scorers, class weights.

    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from rwwce.sklearn import CostDecision, cost_scorer
    decided = CostDecision(LogisticRegression(), costs=[1.0, 20.0])
    cross_val_score(decided, x, y, scoring=cost_scorer([1.0, 20.0]))

`costs` is (C), the cost of missing each class, or (C, C), the cost of deciding j (column) where y (row) is true, with
diagonal 0; finite, ≥ 0; None is 1 for every mistake. Classes are in the order of `classes_`. Needs scikit-learn 1.6 or
later.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.metrics import make_scorer
from sklearn.utils import get_tags
from sklearn.utils.class_weight import compute_class_weight as _compute
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d

from . import _costs, class_weights, decide
from .boosting import Objective

__all__ = ["CostDecision", "compute_class_weight", "compute_sample_weight", "cost_scorer", "decision_cost", "least_cost"]

_Array = numpy.ndarray[Any, Any]


def _given(costs: Any) -> tuple[Any, Any]:
    """Miss costs and mislabel costs, from costs (C) or (C, C)."""
    if costs is None or numpy.ndim(costs) < 2:
        return costs, None
    return numpy.zeros(len(costs)), costs


def _classes(y_true: Any, labels: Any, costs: Any) -> _Array:
    found = numpy.unique(y_true) if labels is None else numpy.asarray(labels)
    if labels is None and costs is not None and len(costs) != len(found):
        raise ValueError(f"labels: expected, since y_true has {len(found)} classes and costs are of {len(costs)}")
    return found


def _indices(name: str, array: Any, classes: _Array) -> _Array:
    found = numpy.asarray(array)
    order = numpy.argsort(classes)
    places = numpy.searchsorted(classes, found, sorter=order)
    places = order[numpy.minimum(places, len(classes) - 1)]
    wrong = numpy.flatnonzero(classes[places] != found)
    if wrong.size:
        raise ValueError(f"{name}: row {wrong[0]} has {found[wrong[0]]!r}, which is no class of {classes.tolist()}")
    return numpy.asarray(places)


def _least(probabilities: Any, costs: Any, logits: bool, classes: int) -> _Array:
    """Indices of the classes of least expected cost; −1 for a row without a decision."""
    given = numpy.asarray(probabilities)
    if classes == 2 and (given.ndim == 1 or given.shape[1] == 1):
        given = given.reshape(-1)
        given = _costs.of_two(given) if logits else numpy.stack([1 - given, given], axis=1)
    return numpy.asarray(decide(given, *_given(costs), probabilities=not logits)[0])


def decision_cost(
    y_true: Any, y_pred: Any, *, costs: Any = None, labels: Any = None, sample_weight: Any = None
) -> float:
    """Mean cost of the decisions `y_pred`, Σ s·cost[y_true, y_pred] / Σ s with sample weights s, 1 by default.

    `labels` are the classes in the order of `costs`, by default those of `y_true`, sorted. Raises ValueError for a
    label that is none of them, and for costs of another shape.

    >>> from rwwce.sklearn import decision_cost
    >>> decision_cost(["ill", "well", "well"], ["well", "ill", "well"], costs=[20.0, 1.0])
    7.0
    """
    classes = _classes(y_true, labels, costs)
    matrix = _costs.matrix(*_given(costs), len(classes))
    return _costs.mean(matrix, _indices("y_true", y_true, classes), _indices("y_pred", y_pred, classes), sample_weight)


def least_cost(
    y_true: Any, y_proba: Any, *, costs: Any = None, labels: Any = None, sample_weight: Any = None, logits: bool = False
) -> float:
    """Mean cost of the decisions of least expected cost, from `y_proba` (N, C), or (N) for the second of two classes.

    These are probabilities, or with `logits` logits, as of a `decision_function`. NaN if a row has no decision. Other
    arguments and errors are those of `decision_cost`.

    >>> from rwwce.sklearn import least_cost
    >>> least_cost([0, 1, 1], [0.1, 0.1, 0.01], costs=[1.0, 20.0])
    7.0
    """
    classes = _classes(y_true, labels, costs)
    decisions = _least(y_proba, costs, logits, len(classes))
    matrix = _costs.matrix(*_given(costs), len(classes))
    return _costs.mean(matrix, _indices("y_true", y_true, classes), decisions, sample_weight)


def cost_scorer(costs: Any = None, *, labels: Any = None, decided: bool = False) -> Any:
    """A scorer: minus the mean cost of the decisions of least expected cost, or with `decided` of those of `predict`.

    This is `make_scorer` of `least_cost`, which needs `predict_proba`, or of `decision_cost`. `labels` are required if
    a fold may lack a class.

    >>> import numpy
    >>> from sklearn.dummy import DummyClassifier
    >>> from rwwce.sklearn import cost_scorer
    >>> x, y = numpy.zeros((4, 1)), [0, 0, 0, 1]
    >>> prior = DummyClassifier().fit(x, y)
    >>> float(cost_scorer([1.0, 20.0])(prior, x, y)), float(cost_scorer([1.0, 20.0], decided=True)(prior, x, y))
    (-0.75, -5.0)
    """
    metric, method = (decision_cost, "predict") if decided else (least_cost, "predict_proba")
    return make_scorer(metric, response_method=method, greater_is_better=False, costs=costs, labels=labels)


def compute_class_weight(
    class_weight: Any, *, classes: Any, y: Any, sample_weight: Any = None, **options: Any
) -> _Array:
    """Class weights as `sklearn.utils.class_weight.compute_class_weight`, with the schemes of `rwwce.class_weights`.

    `class_weight` is "balanced", "inverse_frequency", "inverse_square_root", "median_frequency" or "effective_number",
    or a dict or None as in scikit-learn. `options` are those of `rwwce.class_weights`: `beta`, `normalisation`,
    `empty_class`. Returns float64, in the order of `classes`: `dict(zip(classes, weights))` is an estimator's
    `class_weight`. Raises ValueError for a label that is no class, and for `sample_weight` with a scheme.

    >>> from rwwce.sklearn import compute_class_weight
    >>> compute_class_weight("inverse_frequency", classes=["no", "yes"], y=["no", "no", "no", "yes"]).round(4).tolist()
    [1.3333, 4.0]
    """
    if isinstance(class_weight, str) and sample_weight is not None:
        raise ValueError("sample_weight: expected None, since the schemes count samples")
    if not isinstance(class_weight, str):
        if options:
            raise ValueError(f"{min(options)}: means nothing without a scheme")
        return numpy.asarray(_compute(class_weight, classes=numpy.asarray(classes), y=y, sample_weight=sample_weight))
    labels = _indices("y", y, numpy.asarray(classes))
    weights: _Array = class_weights(labels, len(classes), class_weight, **options)
    return weights.astype(numpy.float64)


def compute_sample_weight(class_weight: Any, y: Any, **options: Any) -> _Array:
    """Class weight of each sample, (N), for estimators without `class_weight`; options as in `compute_class_weight`.

    >>> from rwwce.sklearn import compute_sample_weight
    >>> compute_sample_weight("balanced", [0, 0, 0, 1]).round(4).tolist()
    [0.6667, 0.6667, 0.6667, 2.0]
    """
    classes, places = numpy.unique(y, return_inverse=True)
    weights = compute_class_weight(class_weight, classes=classes, y=numpy.asarray(y), **options)
    return numpy.asarray(weights[places.reshape(-1)])


def _estimator_has(name: str) -> Any:
    def check(self: CostDecision) -> bool:
        return hasattr(getattr(self, "estimator_", self.estimator), name)

    return check


class CostDecision(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier that predicts the class of least expected cost, argmin_j Σ_y p_y·cost[y, j], from an estimator's p.

    Args:
        estimator: a classifier with `predict_proba`; with `logits`, one whose `decision_function` (or, without one,
            `predict_proba`, as LightGBM's with an objective of `rwwce.boosting`) returns logits.
        costs: (C) or (C, C), as in this module. They are not learned, and may be changed after `fit`.

    `predict` raises ValueError for a row without probabilities, such as one with a NaN.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from rwwce.sklearn import CostDecision
    >>> x, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
    >>> CostDecision(LogisticRegression(), costs=[1.0, 20.0]).fit(x, y).predict(x).tolist()
    ['yes', 'yes', 'yes', 'yes']
    """

    def __init__(self, estimator: Any, costs: Any = None, *, logits: bool = False):
        self.estimator = estimator
        self.costs = costs
        self.logits = logits

    def fit(self, X: Any, y: Any, **fit_params: Any) -> CostDecision:
        """Fits a clone of the estimator with `fit_params`; raises ValueError for costs of another shape."""
        is_routed = get_config()["enable_metadata_routing"] and fit_params
        given = process_routing(self, "fit", **fit_params).estimator.fit if is_routed else fit_params
        self.estimator_ = clone(self.estimator).fit(X, column_or_1d(y, warn=True), **given)
        self.classes_ = self.estimator_.classes_
        _costs.matrix(*_given(self.costs), len(self.classes_))
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def _scores(self, X: Any) -> Any:
        check_is_fitted(self)
        has_function = self.logits and hasattr(self.estimator_, "decision_function")
        return self.estimator_.decision_function(X) if has_function else self.estimator_.predict_proba(X)

    def predict(self, X: Any) -> _Array:
        """Class of least expected cost of each row, (N)."""
        places = _least(self._scores(X), self.costs, self.logits, len(self.classes_))
        wrong = numpy.flatnonzero(places < 0)
        if wrong.size:
            raise ValueError(f"row {wrong[0]} has no probabilities: a NaN, or several scores of +∞")
        return numpy.asarray(self.classes_[places])

    def predict_proba(self, X: Any) -> _Array:
        """Probabilities (N, C) that decisions are based on: those of the estimator, or the softmax of its logits."""
        scores = numpy.asarray(self._scores(X))
        if not self.logits:
            return scores
        return Objective().probabilities(scores)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """`decision_function` of the estimator."""
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    def get_metadata_routing(self) -> Any:
        """Routes the parameters of `fit` to the estimator."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self.__class__.__name__).add(estimator=self.estimator, method_mapping=mapping)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        of_estimator = get_tags(self.estimator)
        tags.input_tags = of_estimator.input_tags
        tags.classifier_tags.multi_class = of_estimator.classifier_tags.multi_class
        return tags
