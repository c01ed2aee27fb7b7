"""Permutation importance: what a model loses when a column is shuffled, with its interval over patients, and what it loses with its companions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.effects.asking import Asked, asked, truth_of
from pellucid.effects.curve import coded, parts
from pellucid.effects.importance import Importance, ImportanceRow, evidence_of
from pellucid.effects.metrics import Metric, metric_of
from pellucid.effects.rows import Floats, Rows, as_rows
from pellucid.errors import BadParameter
from pellucid.intervals import Interval, average, statistic
from pellucid.run import Run

CITE = "Breiman 2001, Random forests, Machine Learning 45:5; Fisher, Rudin and Dominici 2019, All models are wrong, JMLR 20:177"
GOES = 0.7  # rank correlation from which a column is said to go with another
TOGETHER = 0.8  # rank correlation from which ``correlated`` puts columns in one group


def permutation_importance(
    model: Any,
    rows: Any,
    truth: Sequence[Any] | str,
    *,
    target: Any = None,
    classes: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    metric: Any = None,
    repeats: int = 10,
    categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None,
    weights: Sequence[float] | str | None = None,
    run: Run | None = None,
) -> Importance:
    """How much worse a model gets when a column is shuffled over the cases: ``metric - mean over shuffles of metric(shuffled)``.

    Use cases that the model was not fitted on: on its own it is told how much it learned by heart.

    Args:
        model, rows: as ``partial_dependence``; so are ``target``, ``classes``, ``categorical``, ``patients``, ``weights``, ``run``.
        truth: of each row, or the column that has it: labels, 0 and 1, or numbers.
        columns: which are shuffled, each alone; None: all that are in no group.
        groups: columns that are shuffled together, by the group's name (see ``correlated``).
        metric: ``auc``, ``accuracy``, ``log loss``, ``brier``, ``r2``, ``squared error``, ``absolute error``, or a function
            ``of(truth, scores)`` that is higher for better; None: ``auc`` of classes, ``r2`` of numbers.
        repeats: shuffles of each column; those of scikit-learn for the same seed.

    Raises:
        BadParameter, BadModel, BadTarget: as ``partial_dependence``; a metric that does not fit the truth.

    **Misleads when**: columns go together: the others stand in for the one that is shuffled, and rows are asked about that do not occur. The
    result names such columns.

    **Source**: Breiman 2001, model-agnostic as Fisher et al. 2019. The intervals over patients are ours: the spread over shuffles is none.
    """
    question = asked(
        model, rows, target=target, classes=classes, categorical=categorical, patients=patients, weights=weights, truth=truth, run=run
    )  # fmt: skip
    known = truth_of(question, rows, truth)
    measure = metric_of(metric, known.binary)
    if measure.name in ("accuracy", "log likelihood", "negative Brier score") and question.answer.within != (0.0, 1.0):
        raise BadParameter(f"probabilities for {metric!r}", question.answer.score, "Write target=probability('...'), or metric='auc'.")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise BadParameter("repeats is a whole number from 1 on", repr(repeats), "Write repeats=10.")
    sets = _sets(question.rows, columns, groups)
    question.meter.total = (1 + repeats * len(sets)) * len(question.rows)
    heavy = np.ones(len(question.rows)) if question.weights is None else question.weights
    near = _together(question.rows)
    base = question.scores()
    level = measure.of(known.values, base, heavy)
    found, draws = [], []
    seed = np.random.RandomState(question.run.seed).randint(np.iinfo(np.int32).max + 1)  # as scikit-learn draws
    for name, own in sets.items():
        shuffled = _shuffled(question, own, int(seed), repeats)
        values = np.array([level - measure.of(known.values, s, heavy) for s in shuffled])
        interval = _interval(question, measure, known.values, base, shuffled, heavy)
        told = [n for n in near if n not in own and max(near[n].get(c, 0.0) for c in own) >= GOES]
        spread = float(values.std(ddof=1)) if repeats > 1 else math.nan
        found.append(
            ImportanceRow(
                name,
                own,
                float(values.mean()),
                interval.low,
                interval.high,
                spread,
                tuple(sorted(told, key=lambda n: -max(near[n].get(c, 0.0) for c in own))),
            )
        )
        draws.append(values)
    order = sorted(range(len(found)), key=lambda k: -found[k].value)
    kept = tuple(found[k] for k in order)
    text = f"permutation_importance(metric={measure.name!r}, repeats={repeats}, columns={len(sets)})"
    unit = f"loss of {measure.name}"
    n = len(question.rows)
    return Importance(
        "permutation", kept, unit, question.answer.score, level, np.stack([draws[k] for k in order]), n, len(set(coded(question.whose, n).tolist())),
        evidence_of(kept, unit), question.network, (), question.sign(text, cite=CITE),
    )  # fmt: skip


def _sets(rows: Rows, columns: Sequence[str] | None, groups: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """What is shuffled: groups, and columns alone."""
    together = {name: tuple(own) for name, own in (groups or {}).items()}
    inside = [c for own in together.values() for c in own]
    for c in (*inside, *(columns or ())):
        rows[c]  # an unknown one is refused by its name
    alone = [c for c in rows.names if c not in inside] if columns is None else list(columns)
    return {**together, **{c: (c,) for c in alone}}


def _shuffled(question: Asked, own: Sequence[str], seed: int, repeats: int) -> list[Floats]:
    """Scores with some columns shuffled together; each shuffle goes on from the last, as scikit-learn's do."""
    rng = np.random.RandomState(seed)
    order = np.arange(len(question.rows))
    values = {name: question.rows[name] for name in own}
    found = []
    for _ in range(repeats):
        rng.shuffle(order)
        values = {name: v[order] for name, v in values.items()}
        found.append(question.scores(values))
    return found


def _interval(question: Asked, measure: Metric, truth: Floats, base: Floats, shuffled: Sequence[Floats], heavy: Floats) -> Interval:
    """The loss with its interval over patients, shuffles as they were drawn."""
    whose = coded(question.whose, len(truth))

    def loss(t: Floats, b: Floats, w: Floats, *each: Floats) -> float:
        return measure.of(t, b, w) - float(np.mean([measure.of(t, s, w) for s in each]))

    if measure.sums and measure.case is not None and np.ptp(heavy) == 0:
        case = measure.case
        return average(case(truth, base) - np.mean([case(truth, s) for s in shuffled], axis=0), whose.tolist())
    low, high = measure.within
    return statistic(
        (truth, base, heavy, *shuffled), loss, parts(whose, question.run.seed), within=(low - high, high - low), mean=measure.sums
    )


def _together(rows: Rows) -> dict[str, dict[str, float]]:
    """|rank correlation| of every two columns of numbers that vary; missing values as the lowest rank."""
    from scipy.stats import rankdata

    names = [n for n in rows.names if n not in rows.text and np.nanmin(rows.numbers(n)) < np.nanmax(rows.numbers(n))]
    if len(names) < 2:
        return {n: {} for n in names}
    ranks = np.stack([rankdata(np.nan_to_num(rows.numbers(n), nan=-np.inf)) for n in names])
    known = np.clip(np.abs(np.corrcoef(ranks)), 0.0, 1.0)
    return {a: {b: float(known[i, j]) for j, b in enumerate(names) if i != j} for i, a in enumerate(names)}


def correlated(rows: Any, *, at: float = TOGETHER, categorical: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Columns that go together, as groups for ``permutation_importance``: every two of a group correlate by rank with at least ``at``.

    Complete linkage over 1 - |rank correlation|; a group is called by its columns' names. Columns that go with none are in no group.

    Raises:
        BadParameter: rows that cannot be read, or ``at`` outside of 0 to 1.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if not 0 < at <= 1:
        raise BadParameter("a rank correlation above 0 and up to 1", repr(at), "Write at=0.8.")
    table = as_rows(rows, categorical=categorical)
    near = _together(table)
    names = list(near)
    if len(names) < 2:
        return {}
    apart = np.array([[0.0 if a == b else 1 - near[a][b] for b in names] for a in names])
    labels = fcluster(linkage(squareform(apart, checks=False), "complete"), 1 - at + 1e-12, "distance")
    sets = [tuple(n for n, k in zip(names, labels, strict=True) if k == label) for label in dict.fromkeys(labels)]
    return {" + ".join(own[:2]) + (f" + {len(own) - 2} more" if len(own) > 2 else ""): own for own in sets if len(own) > 1}
