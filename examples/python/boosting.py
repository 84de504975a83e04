"""Compares the costs of boosted trees by training loss and decision rule: `python boosting.py`, some minutes.

Needs rwwce, scikit-learn and xgboost (or xgboost-cpu); with empulse and polars installed there are two more tables, of
data sets that empulse ships, and two more rows, of its own methods.

Every row is trained with the same tree parameters, folds and seeds. Each entry is the cost of a hundred held-out cases:
the mean over two repetitions of five-fold cross-validation, ± the standard deviation over the ten folds, which is more
than the standard error of the mean. The last column is the difference between the better entry of a row and the plain
loss with least expected cost, fold by fold: if it is within its ± of 0, the table does not tell which is better. The
better entry is selected on these very folds.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rwwce.boosting import xgboost_objective
from rwwce.sklearn import CostDecision, compute_sample_weight, cost_scorer, decision_cost
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import RepeatedStratifiedKFold, TunedThresholdClassifierCV
from sklearn.preprocessing import OrdinalEncoder
from xgboost import XGBClassifier

TREES = {"n_estimators": 100, "max_depth": 3, "learning_rate": 0.1, "n_jobs": 1, "random_state": 0}

Decisions = tuple[np.ndarray, "np.ndarray | None"]


class Table(NamedTuple):
    """A data set with its cost matrix, row = truth, column = decision."""

    name: str
    x: np.ndarray
    y: np.ndarray
    costs: np.ndarray


def shipped() -> list[Table]:
    """Data sets of scikit-learn."""
    wine, tumours, digits = load_wine(), load_breast_cancer(), load_digits()
    of_tumours = np.array([[0.0, 20], [1, 0]])
    of_wine = np.array([[0.0, 5, 5], [20, 0, 1], [20, 1, 0]])
    of_digits = np.abs(np.subtract.outer(np.arange(10.0), np.arange(10.0)))
    return [
        Table("breast tumours: a missed malignancy 20, a false alarm 1", tumours.data, tumours.target, of_tumours),
        Table("wine: to call a plain one noble 20, a noble one plain 5, else 1", wine.data, wine.target, of_wine),
        Table("digits of amounts: the difference", digits.data, digits.target, of_digits),
    ]


def of_empulse() -> list[Table]:
    """Larger data sets with few positives; constant costs, close to the means of empulse's costs per case."""
    try:
        import polars
        from empulse.datasets import load_churn_tv_subscriptions, load_upsell_bank_telemarketing
    except ImportError:
        return []
    tables = []
    for name, load, costs in [
        ("bank telemarketing: a customer not called 10, a call in vain 1", load_upsell_bank_telemarketing, (1.0, 10.0)),
        ("television churn: a churner missed 15, an offer in vain 1", load_churn_tv_subscriptions, (1.0, 15.0)),
    ]:
        data = load(backend=polars)
        x = OrdinalEncoder().fit_transform(data.data.to_numpy()) if name[0] == "b" else data.data.to_numpy()
        y = data.target.to_numpy().astype(int)
        title = f"{name} ({len(y)} cases, {y.mean():.1%} positive)"
        tables.append(Table(title, x, y, np.array([[0, costs[0]], [costs[1], 0]])))
    return tables


def both(model: Any, table: Table, test: np.ndarray) -> Decisions:
    """Decisions for the most probable class, and for the class of least expected cost."""
    p = model.predict_proba(table.x[test])
    return p.argmax(1), (p @ table.costs).argmin(1)


def plain(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    model = CostDecision(XGBClassifier(**TREES), table.costs).fit(table.x[train], table.y[train])
    return model.estimator_.predict(table.x[test]), model.predict(table.x[test])


def balanced(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    weight = compute_sample_weight("balanced", table.y[train])
    return both(XGBClassifier(**TREES).fit(table.x[train], table.y[train], sample_weight=weight), table, test)


def cost_weights(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    """Class weights are the mean costs of missing a class, with XGBoost's own objective."""
    weight = table.costs.sum(1) / (len(table.costs) - 1)
    weight = weight[table.y[train]]
    return both(XGBClassifier(**TREES).fit(table.x[train], table.y[train], sample_weight=weight), table, test)


def objective(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    """Miss costs of 1 and the mislabel costs."""
    model = XGBClassifier(**TREES, objective=xgboost_objective(mislabel_costs=table.costs))
    return both(model.fit(table.x[train], table.y[train]), table, test)


def objective_alone(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    """Miss costs of 0 and the mislabel costs."""
    loss = xgboost_objective(np.zeros(len(table.costs)), table.costs)
    model = XGBClassifier(**TREES, objective=loss)
    return both(model.fit(table.x[train], table.y[train]), table, test)


def tuned(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    """Threshold of least cost in cross-validation on the training cases."""
    scorer = cost_scorer(table.costs, labels=[0, 1], decided=True)
    model = TunedThresholdClassifierCV(XGBClassifier(**TREES), scoring=scorer, cv=3)
    return model.fit(table.x[train], table.y[train]).predict(table.x[test]), None


def empulse_boost(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    from empulse.models import CSBoostClassifier

    model = CSBoostClassifier(XGBClassifier(**TREES), fp_cost=table.costs[0, 1], fn_cost=table.costs[1, 0])
    return both(model.fit(table.x[train], table.y[train]), table, test)


def empulse_threshold(table: Table, train: np.ndarray, test: np.ndarray) -> Decisions:
    from empulse.models import CSThresholdClassifier

    costs = {"fp_cost": table.costs[0, 1], "fn_cost": table.costs[1, 0]}
    model = CSThresholdClassifier(XGBClassifier(**TREES), **costs).fit(table.x[train], table.y[train])
    return model.predict(table.x[test]), None


def ways(table: Table) -> dict[str, Callable[[Table, np.ndarray, np.ndarray], Decisions]]:
    found: dict[str, Any] = {"plain loss": plain, "balanced class weights": balanced, "cost weights": cost_weights}
    found |= {"rwwce, mislabel costs": objective, "rwwce, mislabel costs, miss costs 0": objective_alone}
    if len(table.costs) > 2:
        return found
    found["plain loss, tuned threshold"] = tuned
    try:
        import empulse.models  # noqa: F401
    except ImportError:
        return found
    return {**found, "empulse CSBoost": empulse_boost, "empulse CSThreshold": empulse_threshold}


def show(table: Table) -> None:
    splits = list(RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0).split(table.x, table.y))
    classes = np.arange(len(table.costs))

    def cost(test: np.ndarray, decisions: np.ndarray | None) -> float:
        if decisions is None:
            return np.nan
        return 100 * decision_cost(table.y[test], decisions, costs=table.costs, labels=classes)

    print(f"\n{table.name}\n\n| trained by | most probable | least cost | better of both − plain, least cost |")
    print("|---|---|---|---|")
    least = None
    for name, way in ways(table).items():
        found = np.array([[cost(test, said) for said in way(table, train, test)] for train, test in splits])
        least = found[:, 1] if least is None else least
        columns = ["–" if np.isnan(of).any() else f"{of.mean():.1f} ± {of.std(ddof=1):.1f}" for of in found.T]
        # A tuned threshold has one decision, in the first column; the other is NaN.
        further = found[:, int(np.nanargmin(found.mean(0)))] - least
        print(f"| {name} | {' | '.join(columns)} | {further.mean():+.1f} ± {further.std(ddof=1):.1f} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tables = shipped() + of_empulse()
    for table in tables:
        if not sys.argv[1:] or any(table.name.startswith(name) for name in sys.argv[1:]):
            show(table)
