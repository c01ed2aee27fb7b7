"""Friedman's H: which share of what two columns do is done by neither alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.asking import Asked, asked
from pellucid.effects.curve import coded
from pellucid.effects.importance import Importance, ImportanceRow, evidence_of
from pellucid.effects.rows import Floats
from pellucid.errors import BadParameter
from pellucid.intervals import statistic
from pellucid.params import Count, check
from pellucid.run import Run

CITE = "Friedman and Popescu 2008, Predictive learning via rule ensembles, Annals of Applied Statistics 2:916, arXiv:0811.1679"


def h_statistic(
    model: Any,
    rows: Any,
    columns: Sequence[str] | None = None,
    *,
    target: Any = None,
    classes: Sequence[str] = (),
    normalized: bool = True,
    cases: int = 100,
    categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None,
    run: Run | None = None,
) -> Importance:
    """Interaction of every two columns: ``H² = sum (PD_jk - PD_j - PD_k)² / sum PD_jk²`` over the cases, partial dependences with mean 0.

    Args:
        model, rows: as ``partial_dependence``; so are ``target``, ``classes``, ``categorical``, ``patients``, ``run``.
        columns: those whose pairs are asked about, the others are held; None: all, which takes ``cases² (d + d (d - 1) / 2)`` answers.
        normalized: H² (from 0; 1 where all is interaction); False: the root of the mean square of what neither does alone, in the score's unit,
            which does not blow up where two columns do little.
        cases: how many cases, drawn by the seed (all of a patient's or none of them), where there are more.

    Returns:
        An Importance whose rows are pairs.

    Raises:
        BadParameter, BadModel, BadTarget: as ``partial_dependence``; fewer than two columns.

    **Misleads when**: columns go together, since partial dependence asks about rows that do not occur; or both do next to nothing.

    **Source**: Friedman and Popescu 2008, equation 44; unnormalized as Inglis, Parnell and Hurley 2022 (JCGS 31:766).
    """
    check("h_statistic", "cases", Count, cases)
    question = asked(model, rows, target=target, classes=classes, categorical=categorical, patients=patients, run=run)
    names = list(question.rows.names if columns is None else columns)
    for name in names:
        question.rows[name]  # an unknown one is refused by its name
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadParameter("two columns or more, each once", ", ".join(names) or "none", "Name them: columns=['a', 'b'].")
    chosen = _drawn(question, cases)
    whose = coded(question.whose, len(question.rows))[chosen].tolist()
    m, pairs = len(chosen), list(itertools.combinations(names, 2))
    question.meter.total = m * m * (len(names) + len(pairs))
    alone = {name: _answers(question, (name,), chosen) for name in names}
    found, draws = [], []
    for pair in pairs:
        both = _answers(question, pair, chosen)
        first, second = (alone[n] for n in pair)

        def of(at: Floats, both: Floats = both, first: Floats = first, second: Floats = second) -> float:
            return _h(at.astype(int), both, first, second, normalized)

        reach = 1.0 if normalized else 4 * float(np.abs(both).max()) + 1e-12
        told = statistic((np.arange(m, dtype=np.float64),), of, whose, within=(0.0, max(reach, of(np.arange(m, dtype=np.float64)))))
        found.append(ImportanceRow(" x ".join(pair), pair, told.value, told.low, told.high, math.nan))
        draws.append([told.value])
    order = sorted(range(len(found)), key=lambda k: -found[k].value)
    kept, unit = tuple(found[k] for k in order), "H²" if normalized else "root mean square of the interaction"
    text = f"h_statistic({names!r}, normalized={normalized}, cases={m})"
    return Importance(
        "interaction", kept, unit, question.answer.score, math.nan, np.array([draws[k] for k in order]), m, len(set(whose)),
        evidence_of(kept, unit), question.network, (), question.sign(text, cite=CITE),
    )  # fmt: skip


def _drawn(question: Asked, cases: int) -> NDArray[np.int64]:
    """Places of the cases that are asked about: patients in an order drawn by the seed, all cases of each, until there are enough."""
    whose = coded(question.whose, len(question.rows))
    if len(whose) <= cases:
        return np.arange(len(whose))
    rank = np.random.default_rng(question.run.seed).permutation(whose.max() + 1)[whose]
    return np.sort(np.argsort(rank, kind="stable")[:cases])


def _answers(question: Asked, names: Sequence[str], chosen: NDArray[np.int64]) -> Floats:
    """(m, m): the answer to case b with the columns of case a."""
    found = np.empty((len(chosen), len(chosen)))
    for k, a in enumerate(chosen):
        found[k] = question.scores({n: question.rows[n][a] for n in names}, at=chosen)
    return found


def _h(at: NDArray[np.int64], both: Floats, first: Floats, second: Floats, normalized: bool) -> float:
    """H² of some cases, or the root of its numerator's mean; 0 where the two do nothing at all."""
    means = [f[np.ix_(at, at)].mean(1) for f in (both, first, second)]
    pair, one, other = (v - v.mean() for v in means)
    left, whole = float(((pair - one - other) ** 2).sum()), float((pair**2).sum())
    if not normalized:
        return math.sqrt(left / len(at))
    scale = max(float(np.abs(f).max()) for f in (both, first, second))
    return left / whole if whole > len(at) * (1e-12 * max(scale, 1e-300)) ** 2 else 0.0
