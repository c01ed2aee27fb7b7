"""Accumulated local effects: small steps of a column in the cases that are near, added up; no row is asked about that is far from a real one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.asking import Asked, asked
from pellucid.effects.curve import Axis, Curve, coded, parts
from pellucid.effects.moving import move_of
from pellucid.effects.rows import Floats, Rows
from pellucid.effects.surface import Surface, surface_of
from pellucid.errors import BadParameter
from pellucid.explanation import Evidence, Measurement
from pellucid.intervals import statistic
from pellucid.run import Run

CITE = "Apley and Zhu 2020, Visualizing the effects of predictor variables in black box supervised learning models, JRSS B 82:1059, arXiv:1612.08468"
FEW = 5  # cases in a step, below which it is told with a mark


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps between K + 1 edges: of each case the interval it lies in (NaN: none), the step over it, and its weight."""

    edges: Floats
    bins: Floats
    steps: Floats
    weights: Floats

    def counts(self, bins: Floats | None = None, weights: Floats | None = None) -> Floats:
        """(K,) weight in each interval."""
        b, w = (self.bins, self.weights) if bins is None or weights is None else (bins, weights)
        known = ~np.isnan(b)
        return _sums(b[known].astype(int), w[known], len(self.edges) - 1)

    def curve(self, bins: Floats | None = None, steps: Floats | None = None, weights: Floats | None = None) -> Floats:
        """(K + 1,) accumulated mean steps, with mean 0 over the cases; an empty interval takes the slope of its neighbor."""
        b, s, w = (self.bins, self.steps, self.weights) if bins is None or steps is None or weights is None else (bins, steps, weights)
        known, k = ~np.isnan(b), len(self.edges) - 1
        heavy = self.counts(b, w)
        sums = _sums(b[known].astype(int), (w * s)[known], k)
        wide, full = np.diff(self.edges), heavy > 0
        slope = np.zeros(k)
        slope[full] = sums[full] / heavy[full] / wide[full]
        if not full.all():
            middle = self.edges[:-1] + wide / 2
            nearest = np.abs(middle[:, None] - middle[full]).argmin(1)
            slope = np.where(full, slope, slope[full][nearest])
        total = np.concatenate([[0.0], np.cumsum(slope * wide)])
        return np.asarray(total - (heavy * (total[1:] + total[:-1]) / 2).sum() / heavy.sum())


def _sums(at: NDArray[Any], weights: Floats, k: int) -> Floats:
    return np.bincount(at, weights, k).astype(np.float64)


def accumulate(question: Asked, name: str, edges: Floats) -> Steps:
    """The steps of every case over its own interval: the score at the interval's upper edge, less that at its lower one."""
    seen = question.rows[name]
    at = _interval(seen, edges)
    low, high = (np.where(np.isnan(at), seen, edges[np.nan_to_num(at).astype(int) + k]) for k in (0, 1))
    steps = question.scores({name: high}) - question.scores({name: low})
    return Steps(edges, at, steps, _heavy(question))


def _heavy(question: Asked) -> Floats:
    return np.ones(len(question.rows)) if question.weights is None else question.weights


def _interval(seen: Floats, edges: Floats) -> Floats:
    """(n,) number of the interval (low, high] that a value lies in, the first closed below; NaN outside."""
    at = np.searchsorted(edges, seen, side="left") - 1.0
    at = np.where(seen == edges[0], 0.0, at)
    return np.where(np.isnan(seen) | (at < 0) | (at > len(edges) - 2), np.nan, at)


def edges_of(name: str, seen: Floats, grid: int | Sequence[Any]) -> Floats:
    """Edges of intervals with about the same number of cases, from the lowest value to the highest; or those given.

    Raises:
        BadParameter: a column of one value alone, or edges that do not rise.
    """
    known = seen[~np.isnan(seen)]
    if not isinstance(grid, int):
        edges = np.asarray(grid, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
            raise BadParameter(f"two rising edges or more for {name!r}", repr(list(grid))[:80], "Give numbers in rising order.")
        return edges
    if isinstance(grid, bool) or grid < 1:
        raise BadParameter("one interval or more", repr(grid), "Write grid=20.")
    edges = np.unique(np.quantile(known, np.linspace(0, 1, int(grid) + 1), method="inverted_cdf")) if len(known) else np.empty(0)
    if len(edges) < 2:
        raise BadParameter(f"a column with two values or more: {name!r}", f"{len(edges)}", "Leave it out: it cannot move.")
    return edges


def ale(
    model: Any,
    rows: Any,
    column: str,
    *,
    target: Any = None,
    classes: Sequence[str] = (),
    grid: int | Sequence[Any] = 20,
    categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None,
    weights: Sequence[float] | str | None = None,
    run: Run | None = None,
) -> Curve:
    """What small steps of a column do to cases that are near, added up: ``sum_k mean_{i in bin k} f(z_k, x_C(i)) - f(z_(k-1), x_C(i))``, mean 0.

    Where columns go together it tells of this one alone, and asks about no row far from a real one; partial dependence does neither.

    Args:
        model, rows: as ``partial_dependence``; so are ``target``, ``classes``, ``categorical``, ``patients``, ``weights``, ``run``.
        column: one; a categorical one steps through its categories in the order of how alike their cases are, or as ``grid`` orders them.
        grid: how many intervals of about the same number of cases, or their edges.

    Raises:
        BadParameter, BadModel, BadTarget: as ``partial_dependence``; a column of one value.

    **Misleads when**: it is read as what one case does from end to end: steps of different cases are joined.

    **Source**: Apley and Zhu 2020, equations 15 and 16; categories as their section 4 and appendix E. Intervals over patients are ours.
    """
    question = asked(
        model, rows, target=target, classes=classes, categorical=categorical, patients=patients, weights=weights, run=run
    )  # fmt: skip
    question.meter.total = 2 * len(question.rows)
    if column in question.rows.text:
        return _of_categories(question, column, grid)
    seen = question.rows[column]
    steps = accumulate(question, column, edges_of(column, seen, grid))
    counts = np.bincount(steps.bins[~np.isnan(steps.bins)].astype(int), minlength=len(steps.edges) - 1)
    near = np.concatenate([counts[:1] > 0, (counts[1:] > 0) | (counts[:-1] > 0), counts[-1:] > 0])
    columns = (steps.bins, steps.steps, steps.weights)
    low, high = _band(question, columns, steps.curve, len(steps.edges))
    text = f"ale({column!r}, grid={len(steps.edges) - 1})"
    thin = int((counts < FEW).sum())
    return _curve(question, Axis(column, steps.edges, seen=seen), text, steps.curve(), low, high, near.astype(np.float64), thin)


Of = Callable[..., Floats]


def _band(question: Asked, columns: tuple[Floats, ...], of: Of, points: int) -> tuple[Floats, Floats]:
    """Ends of the 95 % interval over patients at each point, each patient left out once."""
    most = 2 * points * max(float(np.abs(np.nan_to_num(c)).max()) for c in columns[1:-1]) + 1e-12
    kept = tuple(c[~np.isnan(columns[0])] for c in columns)
    whose = parts(coded(question.whose, len(columns[0])), question.run.seed)
    whose = [w for w, c in zip(whose, columns[0], strict=True) if not math.isnan(c)]

    def at(k: int, *given: Floats) -> float:
        return float(of(*given)[k])

    found = [statistic(kept, partial(at, k), whose, within=(-most, most), mean=True) for k in range(points)]
    return np.array([f.low for f in found]), np.array([f.high for f in found])


def _curve(question: Asked, axis: Axis, text: str, values: Floats, low: Floats, high: Floats, support: Floats, thin: int) -> Curve:
    n = len(question.rows)
    said = f"{thin} of {len(axis) - 1} steps stand on fewer than {FEW} cases." if thin else "Every step stands on five cases or more."
    row = Measurement("thin_steps", thin / max(len(axis) - 1, 1), "share of steps", "down", "fail" if thin else "pass", said, 0.0, "none")
    evidence = Evidence("quick", (row,), "questionable" if thin else "supported", (said,) if thin else ())
    return Curve(
        "accumulated", axis, question.answer.score, values, low, high, support, np.empty((0, len(axis))), np.empty((0, len(axis)), dtype=bool),
        _heavy(question), coded(question.whose, n), np.empty(0), None, evidence, question.network, {}, question.sign(text, cite=CITE),
    )  # fmt: skip


def _of_categories(question: Asked, column: str, grid: int | Sequence[Any]) -> Curve:
    """Steps between neighboring categories, up in the cases of the lower one and down in those of the upper one."""
    own = grid if not isinstance(grid, (int, np.integer)) else None
    move = move_of(question.rows, column, order_of(question.rows, column) if own is None else own)
    names, code = [s[column] for s in move.settings], move.axis.seen
    if len(names) < 2 or np.isnan(code).any():
        raise BadParameter(f"two categories or more of {column!r}, all of them", f"{len(names)}", "Name them all, in their order.")
    here, at = question.scores(), code.astype(int)
    up, down = (np.array([names[k] for k in np.clip(at + s, 0, len(names) - 1)], dtype=question.rows[column].dtype) for s in (1, -1))
    rise, fall = question.scores({column: up}) - here, here - question.scores({column: down})
    k = len(names)

    def of(codes: Floats, rising: Floats, falling: Floats, weights: Floats) -> Floats:
        c = codes.astype(int)
        sums = _sums(c, weights * rising, k)[:-1] + _sums(c, weights * falling, k)[1:]
        heavy = _sums(c, weights, k)
        total = np.concatenate([[0.0], np.cumsum(sums / np.maximum(heavy[:-1] + heavy[1:], 1e-300))])
        return np.asarray(total - heavy @ total / heavy.sum())

    columns = (code, rise, fall, _heavy(question))
    low, high = _band(question, columns, of, k)
    thin = int((np.bincount(at, minlength=k) < FEW).sum())
    return _curve(question, move.axis, f"ale({column!r}, order={list(move.axis.labels)!r})", of(*columns), low, high, np.ones(k), thin)


def order_of(rows: Rows, column: str) -> list[Any]:
    """Categories in an order in which neighbors have alike cases: the first axis of classical scaling of their distances over all other columns.

    The distance is that of Kolmogorov and Smirnov for numbers and of total variation for names, summed (Apley and Zhu 2020, appendix E).
    """
    own = sorted(set(rows[column].tolist()), key=str)
    if len(own) < 3:
        return own
    masks = [rows[column] == v for v in own]
    apart = np.zeros((len(own), len(own)))
    for name in rows.names:
        if name != column:
            shares = _shares(rows, name, masks)
            gaps = np.abs(shares[:, None] - shares[None])
            apart += gaps.sum(2) / 2 if name in rows.text else gaps.max(2)
    center = np.eye(len(own)) - 1 / len(own)
    _, vectors = np.linalg.eigh(-center @ apart**2 @ center / 2)
    first = vectors[:, -1]
    rank = np.argsort(first if first[0] <= first[-1] else -first, kind="stable")
    return [own[k] for k in rank]


def _shares(rows: Rows, name: str, masks: Sequence[NDArray[np.bool_]]) -> Floats:
    """Of each category: shares of names, or the share of cases up to each value."""
    codes = rows.numbers(name)
    values, at = np.unique(codes, return_inverse=True)
    each = np.stack([np.bincount(at[m], minlength=len(values)) / m.sum() for m in masks])
    return each if name in rows.text else each.cumsum(1)


def ale_pair(
    model: Any, rows: Any, first: str, second: str, *, target: Any = None, classes: Sequence[str] = (), grid: int | tuple[Any, Any] = 10,
    patients: Sequence[Hashable] | str | None = None, weights: Sequence[float] | str | None = None, run: Run | None = None,
) -> Surface:  # fmt: skip
    """What two columns do together beyond what each does alone: second differences in the cases that are near, added up, without the main effects.

    Args:
        model, rows: as ``ale``; so are ``target``, ``classes``, ``patients``, ``weights``, ``run``.
        first, second: two columns of numbers.
        grid: how many intervals, for both or for each; or the edges of each.

    Raises:
        BadParameter, BadModel, BadTarget: as ``ale``; a categorical column.

    **Source**: Apley and Zhu 2020, equations 17 to 20; empty cells take the nearest cell's difference, as in their package.
    """
    question = asked(model, rows, target=target, classes=classes, patients=patients, weights=weights, run=run)
    named = next((c for c in (first, second) if c in question.rows.text), None)
    if named is not None or first == second:
        raise BadParameter("two different columns of numbers", repr(named or first), "Categories: partial_dependence_pair(...).")
    question.meter.total = 4 * len(question.rows)
    grids = grid if isinstance(grid, tuple) else (grid, grid)
    edges = [edges_of(c, question.rows[c], g) for c, g in zip((first, second), grids, strict=True)]
    at = [_interval(question.rows[c], e) for c, e in zip((first, second), edges, strict=True)]
    known = ~np.isnan(at[0]) & ~np.isnan(at[1])
    places = np.flatnonzero(known)
    cells = [a[known].astype(int) for a in at]
    both = np.zeros(len(places))
    for i, j, sign in ((1, 1, 1), (0, 1, -1), (1, 0, -1), (0, 0, 1)):
        both += sign * question.scores({first: edges[0][cells[0] + i], second: edges[1][cells[1] + j]}, at=places)
    shape = (len(edges[0]) - 1, len(edges[1]) - 1)
    flat = np.ravel_multi_index((cells[0], cells[1]), shape)
    heavy = _heavy(question)[known]
    counts = _sums(flat, heavy, shape[0] * shape[1]).reshape(shape)
    sums = _sums(flat, heavy * both, shape[0] * shape[1]).reshape(shape)
    values = _interaction(_nearest(sums, counts), counts)
    full = np.pad(counts > 0, 1)
    support = (full[1:, 1:] | full[:-1, 1:] | full[1:, :-1] | full[:-1, :-1]).astype(np.float64)
    axes = (Axis(first, edges[0], seen=question.rows[first]), Axis(second, edges[1], seen=question.rows[second]))
    text = f"ale_pair({first!r}, {second!r}, grid={shape})"
    who = len(set(coded(question.whose, len(question.rows)).tolist()))
    return surface_of(
        values, axes, support, question.sign(text, cite=CITE), how="accumulated interaction", score=question.answer.score,
        cases=len(question.rows), patients=who, network=question.network,
    )  # fmt: skip


def _nearest(sums: Floats, counts: Floats) -> Floats:
    """Mean difference in each cell; an empty one takes that of the nearest cell with cases."""
    full = counts > 0
    mean = np.where(full, sums / np.where(full, counts, 1.0), 0.0)
    if full.all():
        return mean
    from scipy.ndimage import distance_transform_edt

    places = distance_transform_edt(~full, sampling=[1 / n for n in full.shape], return_distances=False, return_indices=True)
    return np.asarray(mean[tuple(places)])


def _interaction(differences: Floats, counts: Floats) -> Floats:
    """Accumulated second differences (K + 1, L + 1) without the main effects of either column and without their mean over the cases."""
    total = np.pad(differences.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for axis in (0, 1):
        step = np.diff(total, axis=axis)
        other = 1 - axis
        ends = [np.take(step, np.arange(step.shape[other] - 1) + k, axis=other) for k in (0, 1)]
        mean = (counts * (ends[0] + ends[1]) / 2).sum(other) / np.maximum(counts.sum(other), 1e-300)
        main = np.concatenate([[0.0], mean.cumsum()])
        total = total - (main[:, None] if axis == 0 else main[None])
    corners = (total[1:, 1:] + total[:-1, 1:] + total[1:, :-1] + total[:-1, :-1]) / 4
    return np.asarray(total - (counts * corners).sum() / counts.sum())
