"""Directions: where a concept lies in the activations of a site, and how well it is told from what it is held against."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadImage, BadParameter

Floats = NDArray[np.float64]
Direction = Literal["pattern", "logistic", "ridge", "sgd"]
FOLDS = 5
PENALTY = 1.0  # of ridge, in mean squared lengths of a centered row


def cav(positive: Floats, negative: Floats, direction: Direction = "pattern", seed: int = 0) -> Floats:
    """The concept activation vector (d,): of length 1, pointing from ``negative`` at ``positive`` (n, d); 0 where they do not differ.

    ``pattern``: covariance of the activation with the label over the label's variance, which is the difference of the means: what changes
    with the concept. ``logistic``, ``ridge`` and ``sgd`` are normals of a separating plane: they are turned away from whatever else varies
    (distractors), and in many dimensions they change from draw to draw. ``sgd`` is hinge loss with the settings of TCAV's authors.

    **Source**: pattern: Pahde et al. 2022, arXiv 2202.03482; the others: Kim et al. 2018, arXiv 1711.11279 (their code gives the concept label 0
    and counts negative gradients of the loss; here both signs are plain).

    >>> import numpy as np
    >>> cav(np.array([[3.0, 1.0], [5.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    array([1., 0.])
    """
    return _fit(positive, negative, known(direction), seed)[0]


def known(direction: str) -> Direction:
    """The direction if it is one.

    Raises:
        BadParameter: another name.
    """
    if direction not in get_args(Direction):
        raise BadParameter(f"direction is {', '.join(get_args(Direction))}", repr(direction), "Choose one of them.")
    return direction  # type: ignore[return-value]


def _fit(positive: Floats, negative: Floats, direction: Direction, seed: int) -> tuple[Floats, float]:
    """Unit direction, and where along it the sides part."""
    if direction == "pattern":
        a, b = positive.mean(0), negative.mean(0)
        v = _unit(a - b)
        return v, float(v @ (a + b)) / 2
    rows = np.concatenate([positive, negative])
    label = np.repeat([1, 0], [len(positive), len(negative)])
    weight, bias = _ridge(rows, label) if direction == "ridge" else _by_sklearn(rows, label, direction, seed)
    length = float(np.linalg.norm(weight))
    return (weight / length, -bias / length) if length > 0 else (weight, 0.0)


def _unit(v: Floats) -> Floats:
    length = float(np.linalg.norm(v))
    return v / length if length > 0 else v


def _ridge(rows: Floats, label: NDArray[np.int64]) -> tuple[Floats, float]:
    """Least squares of +-1, both sides weighing the same, with a penalty that follows the scale of the rows."""
    weight = np.where(label == 1, 0.5 / label.sum(), 0.5 / (len(label) - label.sum()))
    middle = weight @ rows
    x, y = rows - middle, np.where(label == 1, 1.0, -1.0)
    root = np.sqrt(weight)[:, None]
    xw, yw = x * root, y * root[:, 0]
    penalty = PENALTY * float((xw**2).sum()) / len(rows)
    if not penalty > 0:
        return np.zeros(rows.shape[1]), 0.0
    if rows.shape[1] > len(rows):  # the dual is smaller
        w = xw.T @ np.linalg.solve(xw @ xw.T + penalty * np.eye(len(rows)), yw)
    else:
        w = np.linalg.solve(xw.T @ xw + penalty * np.eye(rows.shape[1]), xw.T @ yw)
    return w, -float(w @ middle)


def _by_sklearn(rows: Floats, label: NDArray[np.int64], direction: Direction, seed: int) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    basis = np.linalg.qr(rows.T)[0] if rows.shape[1] > len(rows) else None  # both losses have their least in the span of the rows
    if direction == "sgd":
        model = SGDClassifier(alpha=0.01, max_iter=1000, tol=1e-3, class_weight="balanced", random_state=seed)
    else:
        model = LogisticRegression(C=1.0, max_iter=100, class_weight="balanced", solver="newton-cholesky")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no convergence: the last step is a direction like any other, and is tested like one
        model.fit(rows if basis is None else rows @ basis, label)
    weight = np.asarray(model.coef_[0], dtype=np.float64)
    return weight if basis is None else basis @ weight, float(model.intercept_[0])


def folds(
    patients: tuple[Sequence[Hashable], Sequence[Hashable]], seed: int, most: int = FOLDS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which fold each image of either side belongs to: all of a patient's in one, both sides spread evenly.

    Raises:
        BadImage: a side of one patient alone.
    """
    sides = [set(p) for p in patients]
    k = min(most, len(sides[0]), len(sides[1]))
    if k < 2:
        got = " and ".join(str(len(s)) for s in sides)
        raise BadImage("two patients on each side, so that one can be held out", got, "Add images of other patients.")
    rng = np.random.default_rng(seed)
    where: dict[Hashable, int] = {}
    for group in (sides[0] & sides[1], sides[0] - sides[1], sides[1] - sides[0]):
        ordered = sorted(group, key=repr)
        for n, i in enumerate(rng.permutation(len(ordered))):
            where[ordered[i]] = n % k
    first, second = (np.array([where[p] for p in side], dtype=np.int64) for side in patients)
    return first, second


def held_out(
    positive: Floats,
    negative: Floats,
    direction: Direction = "pattern",
    *,
    patients: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    seed: int = 0,
) -> float:
    """Balanced accuracy (0 to 1) of the direction on images that it was not made from: five folds, no patient on both sides of a split."""
    who = patients or (range(len(positive)), range(len(positive), len(positive) + len(negative)))
    a, b = folds((list(who[0]), list(who[1])), seed)
    right: tuple[list[float], list[float]] = ([], [])
    for k in range(int(max(a.max(), b.max())) + 1):
        train = positive[a != k], negative[b != k]
        if not len(train[0]) or not len(train[1]):
            continue
        v, at = _fit(*train, direction, seed)
        for side, rows, sign in ((0, positive[a == k], 1), (1, negative[b == k], -1)):
            way = sign * (rows @ v - at)
            right[side].extend(np.where(way == 0, 0.5, way > 0).tolist())
    return float(np.mean([np.mean(r) if r else 0.5 for r in right]))


def beyond_chance(accuracy: float, units: int) -> float:
    """One-sided p of a balanced accuracy over ``units`` independent images or patients against one half (binomial)."""
    from scipy.stats import binom

    return float(binom.sf(int(np.floor(accuracy * units + 1e-9)) - 1, units, 0.5))
