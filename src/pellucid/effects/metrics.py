"""Metrics of predictions: how good scores are against the truth; higher is better in all of them, errors are negative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.effects.rows import Floats
from pellucid.errors import BadParameter
from pellucid.intervals import area

Of = Callable[[Floats, Floats, Floats], float]
LEAST = float(np.finfo(np.float64).eps)  # probability, below which a logarithm is that of this; scikit-learn's


@dataclass(frozen=True)
class Metric:
    """A metric ``of(truth, scores, weights)``, what it cannot leave, and whether the truth is a class (1 and 0)."""

    name: str
    of: Of
    within: tuple[float, float]
    binary: bool
    sums: bool  # a sum over cases, or nearly: its interval is that of a mean
    case: Callable[[Floats, Floats], Floats] | None = None  # of a mean over cases: what each of them gives


def _auc(truth: Floats, scores: Floats, weights: Floats) -> float:
    """Share of weighted pairs in which the true one scores higher, ties half; NaN without one of each."""
    if np.ptp(weights) == 0:
        return area(scores, truth)
    order = np.argsort(scores, kind="stable")
    s, pos = scores[order], (truth[order] > 0.5) * weights[order]
    neg = weights[order] - pos
    below = np.concatenate([[0.0], np.cumsum(neg)])
    first, last = np.searchsorted(s, s, "left"), np.searchsorted(s, s, "right")
    total = pos.sum() * neg.sum()
    return float((pos * (below[first] + below[last]) / 2).sum() / total) if total > 0 else np.nan


def _accuracy(truth: Floats, scores: Floats) -> Floats:
    return ((scores > 0.5) == (truth > 0.5)).astype(np.float64)


def _log_loss(truth: Floats, scores: Floats) -> Floats:
    return np.asarray(np.log(np.clip(np.where(truth > 0.5, scores, 1 - scores), LEAST, 1.0)))


def _squared(truth: Floats, scores: Floats) -> Floats:
    return np.asarray(-((truth - scores) ** 2))


def _absolute(truth: Floats, scores: Floats) -> Floats:
    return -np.abs(truth - scores)


def _mean(name: str, case: Callable[[Floats, Floats], Floats], within: tuple[float, float], binary: bool) -> Metric:
    return Metric(name, lambda t, s, w: float(np.average(case(t, s), weights=w)), within, binary, True, case)


def _r2(truth: Floats, scores: Floats, weights: Floats) -> float:
    """1 - residual over total sum of squares; NaN where the truth does not vary."""
    spread = (weights * (truth - np.average(truth, weights=weights)) ** 2).sum()
    return float(1 - (weights * (truth - scores) ** 2).sum() / spread) if spread > 0 else np.nan


FAR = (-1e150, 1e150)
METRICS: dict[str, Metric] = {
    "auc": Metric("AUC", _auc, (0.0, 1.0), True, False),
    "accuracy": _mean("accuracy", _accuracy, (0.0, 1.0), True),
    "log loss": _mean("log likelihood", _log_loss, FAR, True),
    "brier": _mean("negative Brier score", _squared, (-1.0, 0.0), True),
    "r2": Metric("R²", _r2, FAR, False, True),
    "squared error": _mean("negative squared error", _squared, FAR, False),
    "absolute error": _mean("negative absolute error", _absolute, FAR, False),
}


def metric_of(given: Any, binary: bool) -> Metric:
    """A metric by its name, or a function ``of(truth, scores)`` that is higher for better; None: AUC of classes, R² of numbers.

    Raises:
        BadParameter: no such metric, or one of classes for numbers.
    """
    if given is None:
        given = "auc" if binary else "r2"
    if callable(given):
        return Metric(getattr(given, "__name__", "metric").replace("_", " "), lambda t, s, w: float(given(t, s)), FAR, False, True)
    if given not in METRICS:
        raise BadParameter(f"a metric: {', '.join(METRICS)}, or a function of truth and scores", repr(given), "Choose one.")
    found = METRICS[given]
    if found.binary and not binary:
        raise BadParameter(f"a truth of two classes for {given!r}", "numbers", "Write metric='r2'.")
    return found
