"""Fitting stand-ins: a small tree, or a few weights chosen by the LASSO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.effects.rows import Floats, Rows

LEAST = 5  # cases in an end of a tree, or 2 % of all if that is more


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted stand-in: ``weights`` (d,) are those per standard deviation of each column, or a tree's importances; ``splits`` the columns of its
    first question and of the two after it (-1: none), none of a linear one."""

    model: Any
    predict: Callable[[Floats], Floats]
    weights: Floats
    splits: tuple[int, ...]
    intercept: float

    @property
    def used(self) -> frozenset[int]:
        return frozenset(np.flatnonzero(self.weights).tolist())


def design(rows: Rows) -> tuple[list[str], Floats]:
    """Columns as numbers (n, d), of names one for each category; missing values as the median."""
    names: list[str] = []
    columns: list[Floats] = []
    for name in rows.names:
        if name in rows.text:
            own = np.unique(rows[name].astype(str))
            names += [f"{name} is {v}" for v in own]
            columns += [(rows[name].astype(str) == v).astype(np.float64) for v in own]
        else:
            values = rows.numbers(name)
            names.append(name)
            columns.append(np.where(np.isnan(values), np.nanmedian(values) if not np.isnan(values).all() else 0.0, values))
    return names, np.stack(columns, axis=1)


def fit_tree(table: Floats, scores: Floats, depth: int) -> Fit:
    """A regression tree of at most ``depth`` questions."""
    from sklearn.tree import DecisionTreeRegressor

    model = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=max(LEAST, len(scores) // 50), random_state=0).fit(table, scores)
    inner = model.tree_
    first = [0, inner.children_left[0], inner.children_right[0]]
    splits = tuple(int(inner.feature[k]) if k >= 0 and inner.children_left[k] >= 0 else -1 for k in first)
    return Fit(model, lambda x: np.asarray(model.predict(x)), np.asarray(model.feature_importances_), splits, float(scores.mean()))


def fit_linear(table: Floats, scores: Floats, columns: int) -> Fit:
    """At most so many weights: the columns that the LASSO's path takes up first (Efron et al. 2004), fitted anew without its shrinkage."""
    from sklearn.linear_model import lars_path

    middle, spread = table.mean(0), table.std(0)
    live = np.flatnonzero(spread > 1e-12 * np.maximum(np.abs(middle), 1e-300))
    standard = (table[:, live] - middle[live]) / spread[live]
    away = scores - scores.mean()
    chosen = np.empty(0, dtype=int)
    if len(live):
        _, _, path = lars_path(standard, away, method="lasso", max_iter=8 * max(columns, 1))
        sizes = (path != 0).sum(0)
        chosen = np.flatnonzero(path[:, np.flatnonzero(sizes <= columns)[-1]])
    weights = np.zeros(table.shape[1])
    if len(chosen):
        weights[live[chosen]] = np.linalg.lstsq(standard[:, chosen], away, rcond=None)[0]
    mean, scale = float(scores.mean()), np.where(spread > 0, spread, 1.0)
    return Fit(None, lambda x: mean + ((x - middle) / scale) @ weights, weights, (), mean)
