"""Partial dependence and individual curves: what a model answers when a column is set to each value of a grid, in all cases."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from pellucid.effects.accumulated import accumulate
from pellucid.effects.asking import Asked, asked
from pellucid.effects.curve import Curve, coded, curve_of
from pellucid.effects.moving import ENDS, Likeness, Move, Spacing, What, companions, move_of
from pellucid.effects.rows import Floats
from pellucid.effects.surface import Surface, surface_of
from pellucid.errors import BadParameter
from pellucid.run import Run

CITE = "Friedman 2001, Greedy function approximation, Annals of Statistics 29:1189"
ICE = "Goldstein et al. 2015, Peeking inside the black box, Journal of Computational and Graphical Statistics 24:44, arXiv:1309.6392"


def partial_dependence(
    model: Any,
    rows: Any,
    column: What,
    *,
    target: Any = None,
    classes: Sequence[str] = (),
    grid: int | Sequence[Any] = 20,
    spacing: Spacing = "quantiles",
    ends: tuple[float, float] = ENDS,
    categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None,
    weights: Sequence[float] | str | None = None,
    run: Run | None = None,
) -> Curve:
    """The mean answer over all cases with a column set to each value of a grid: ``1/n sum_i f(z, x_C(i))``, and each case's own curve (ICE).

    Args:
        model: a fitted estimator (scikit-learn's or alike), a network on rows, or a function of the rows.
        rows: a Table, data frame, columns by name, or an array (n, d).
        column: which; several (or ``{"site": [...]}``) move together through the states in which they occur, as one-hot codes must.
        target: a class (of an estimator its probability, of a network its logit), ``probability(k)``, ``logit(a) - logit(b)``, or the number of
            an output; None: the only one, or the second of two classes.
        classes: names of the classes, in the model's order.
        grid: how many values, or the values; columns with fewer distinct values get these.
        spacing, ends: ``quantiles`` of the column, or ``even``, between two of its quantiles.
        categorical: columns of numbers that are names.
        patients, weights: of each row, or the column that has them, which then is no feature.
        run: seed, progress, cancel.

    Raises:
        BadParameter, BadModel, BadTarget: rows, model or target that cannot be used.

    **Misleads when**: columns go together (rows are asked about that do not occur: ``support`` measures it, accumulated effects stand beside it);
    effects of opposite sign cancel (read the cases).

    **Source**: Friedman 2001; the grid of ``even`` is scikit-learn's.
    """
    question = asked(
        model, rows, target=target, classes=classes, categorical=categorical, patients=patients, weights=weights, run=run
    )  # fmt: skip
    move = move_of(question.rows, column, grid, spacing, ends)
    text = f"partial_dependence({move.axis.name!r}, grid={len(move.axis)}, spacing={spacing!r})"
    return moved(question, move, text)


def ice(
    model: Any, rows: Any, column: What, *, view: Literal["individual", "centered", "derivative"] = "individual", **given: Any
) -> Curve:
    """Each case's own curve: its answer with a column set to each value; as it is, as change from the first value, or as slope.

    The mean of the curves is the partial dependence; where they cross, the mean hides something.

    Args:
        model, rows, column: as ``partial_dependence``, and so is ``given`` (``target=``, ``grid=``, ``patients=``, ...).
        view: ``individual``, ``centered`` (c-ICE) or ``derivative`` (d-ICE).

    Raises:
        BadParameter, BadModel, BadTarget: as ``partial_dependence``; a derivative of categories.

    **Source**: Goldstein et al. 2015.
    """
    if view not in ("individual", "centered", "derivative"):
        raise BadParameter("view is individual, centered or derivative", repr(view), "Choose one.")
    found = partial_dependence(model, rows, column, **given)
    said = replace(found.provenance, method=found.provenance.method.replace("partial_dependence", f"ice[{view}]"), cite=ICE)
    found = replace(found, how="individual", provenance=said)
    return found if view == "individual" else found.centered() if view == "centered" else found.derivative()


def moved(question: Asked, move: Move, method: str) -> Curve:
    """A curve of each case over a move, with accumulated effects beside it where the axis has an order."""
    n = len(question.rows)
    question.meter.total = len(move.axis) * n
    individual = np.empty((n, len(move.axis)))
    for k, setting in enumerate(move.settings):
        individual[:, k] = question.scores(setting)
    told = companions(question.rows, move.columns, question.run.seed)
    near = Likeness(question.rows, move.columns, list(told))
    like = np.stack([near.of(setting) for setting in move.settings], axis=1)
    beside = None if move.axis.labels or len(move.axis) < 2 else _beside(question, move)
    return curve_of(
        individual, move.axis, question.sign(method, cite=CITE), how="partial dependence", score=question.answer.score,
        patients=question.whose, weights=question.weights, like=like, beside=beside, network=question.network, within=question.answer.within,
        tells=told,
    )  # fmt: skip


def _beside(question: Asked, move: Move) -> Floats:
    """Accumulated effects at the values of the axis: through its inner values, and the ends of the data."""
    (name,) = move.columns
    seen = move.axis.seen[~np.isnan(move.axis.seen)]
    edges = np.unique(np.concatenate([move.axis.values, [seen.min(), seen.max()]]))
    steps = accumulate(question, name, edges)
    return np.interp(move.axis.values, edges, steps.curve())


def partial_dependence_pair(
    model: Any, rows: Any, first: What, second: What, *, target: Any = None, classes: Sequence[str] = (),
    grid: int | tuple[int | Sequence[Any], int | Sequence[Any]] = 10, spacing: Spacing = "quantiles", ends: tuple[float, float] = ENDS,
    categorical: Iterable[str] = (), patients: Sequence[Hashable] | str | None = None, weights: Sequence[float] | str | None = None,
    run: Run | None = None,
) -> Surface:  # fmt: skip
    """The mean answer over all cases with two columns set to each pair of values: ``1/n sum_i f(z, w, x_C(i))``, (g, h).

    Args:
        model, rows: as ``partial_dependence``; so are ``target``, ``classes``, ``spacing``, ``ends``, ``categorical``, ``patients``, ``weights``, ``run``.
        first, second: two columns, or groups of columns.
        grid: how many values, for both or for each; or the values of each.

    Raises:
        BadParameter, BadModel, BadTarget: as ``partial_dependence``; a column in both.

    **Source**: Friedman 2001.
    """
    question = asked(
        model, rows, target=target, classes=classes, categorical=categorical, patients=patients, weights=weights, run=run
    )  # fmt: skip
    grids = grid if isinstance(grid, tuple) else (grid, grid)
    a, b = (move_of(question.rows, w, g, spacing, ends) for w, g in zip((first, second), grids, strict=True))
    if set(a.columns) & set(b.columns):
        raise BadParameter("two different columns", f"{a.axis.name!r} twice", "Name another.")
    question.meter.total = len(a.axis) * len(b.axis) * len(question.rows)
    both = (*a.columns, *b.columns)
    near = Likeness(question.rows, both, list(companions(question.rows, both, question.run.seed)))
    heavy = np.ones(len(question.rows)) if question.weights is None else question.weights
    values, support = np.empty((len(a.axis), len(b.axis))), np.empty((len(a.axis), len(b.axis)))
    for i, one in enumerate(a.settings):
        for j, other in enumerate(b.settings):
            values[i, j] = np.average(question.scores({**one, **other}), weights=heavy)
            support[i, j] = np.average(near.of({**one, **other}), weights=heavy)
    text = f"partial_dependence_pair({a.axis.name!r}, {b.axis.name!r}, grid={values.shape}, spacing={spacing!r})"
    who = len(set(coded(question.whose, len(question.rows)).tolist()))
    return surface_of(
        values, (a.axis, b.axis), support, question.sign(text, cite=CITE), how="partial dependence", score=question.answer.score,
        cases=len(question.rows), patients=who, network=question.network,
    )  # fmt: skip
