"""Surrogates: a tree or a few weights that answer as a network does, how well they do on other patients, and whether they stay the same."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.asking import Asked, asked
from pellucid.effects.curve import coded
from pellucid.effects.fitting import Fit, design, fit_linear, fit_tree
from pellucid.effects.metrics import METRICS
from pellucid.effects.rows import Floats
from pellucid.effects.stand_in import GOOD, POOR, Stability, Surrogate, Term
from pellucid.effects.trees import tree
from pellucid.errors import BadParameter
from pellucid.explanation import Evidence, Measurement
from pellucid.intervals import NONE, Interval, average, statistic
from pellucid.ops.similarity import spearman
from pellucid.run import Run

Form = Literal["tree", "linear"]
CITE = "Craven and Shavlik 1996, Extracting tree-structured representations of trained networks, NIPS"
FEWEST = 20  # cases, below which nothing is fitted


def surrogate(
    source: Any,
    rows: Any,
    *,
    form: Form = "tree",
    target: Any = None,
    classes: Sequence[str] = (),
    depth: int = 3,
    columns: int = 5,
    decide: float | None = None,
    folds: int = 5,
    bootstraps: int = 50,
    score: str = "score",
    categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None,
    run: Run | None = None,
) -> Surrogate:
    """A tree or a sparse linear model fitted to what a network answers, with its fidelity on patients that it was not fitted on, and its stability.

    Args:
        source: a model that answers rows, or its scores (n,), as of a network on the images whose features the rows are.
        rows: features, as ``partial_dependence``; so are ``target``, ``classes``, ``categorical``, ``patients``.
        form: ``tree`` of ``depth`` questions, or ``linear`` with at most ``columns`` columns (chosen by the LASSO, refitted without it).
        decide: the score from which the network decides for the class; None: 0.5 of probabilities, else no agreement is told.
        folds: parts of the patients; each is answered by a surrogate fitted on the others.
        bootstraps: draws of patients, for the stability.
        score: what given scores are, in words.
        run: seed, progress, cancel.

    Raises:
        BadParameter, BadModel, BadTarget: as ``partial_dependence``; fewer than 20 cases, or scores that are all alike.

    **Misleads when**: fidelity is poor, which it says; or it is read as what the network does inside: other columns may say the same.

    **Source**: Craven and Shavlik 1996; sparse weights as in LIME (Ribeiro et al. 2016), here over all cases; intervals over patients are ours.
    """
    began = time.perf_counter()
    if form not in get_args(Form):
        raise BadParameter("form is tree or linear", repr(form), "Choose one.")
    question, scores, decide, name = _settled(source, rows, target, classes, categorical, patients, run, decide, score)
    names, table = design(question.rows)
    whose = coded(question.whose, len(scores))
    if len(scores) < FEWEST or np.ptp(scores) == 0 or len(set(whose.tolist())) < folds or folds < 2:
        got = f"{len(scores)} cases of {len(set(whose.tolist()))} patients, {len(np.unique(scores))} different scores"
        raise BadParameter(
            f"{FEWEST} cases or more with scores that differ, of {max(folds, 2)} patients or more", got, "Give more, or fewer folds=."
        )
    make = (lambda x, y: fit_tree(x, y, depth)) if form == "tree" else (lambda x, y: fit_linear(x, y, columns))
    question.meter.total = folds + bootstraps + 1
    elsewhere, constant = _held_out(make, table, scores, whose, folds, question)
    whole = make(table, scores)
    stability, terms = _stability(make, whole, names, table, scores, whose, bootstraps, question)
    ones = np.ones(len(scores))
    r2 = statistic((scores, elsewhere, ones, constant), _explained, whose.tolist(), within=(-1e150, 1.0), mean=True)
    agreement, always = NONE, float("nan")
    if decide is not None:
        agreement = average(((elsewhere > decide) == (scores > decide)).astype(np.float64), whose.tolist(), within=(0.0, 1.0))
        always = float(max((scores > decide).mean(), (scores <= decide).mean()))
    text = (
        f"surrogate(form={form!r}, {f'depth={depth}' if form == 'tree' else f'columns={columns}'}, folds={folds}, bootstraps={bootstraps})"
    )
    said = question.sign(text, cite=CITE)
    drawn = None
    if form == "tree":
        poor = () if r2.low >= POOR else (f"Do not read it: R² {r2.value:.2f} on other patients",)
        drawn = replace(tree(whole.model, names=names, depth=depth), notes=poor)
    n = len(scores)
    return Surrogate(
        form, name, r2, agreement, always, tuple(terms), whole.intercept, drawn, stability, n, len(set(whose.tolist())),
        _evidence(r2, agreement, always, stability), question.network, replace(said, seconds=round(time.perf_counter() - began, 4)),
    )  # fmt: skip


def _settled(
    source: Any, rows: Any, target: Any, classes: Sequence[str], categorical: Iterable[str], patients: Any, run: Run | None,
    decide: float | None, score: str,
) -> tuple[Asked, Floats, float | None, str]:  # fmt: skip
    """The question, the scores that the surrogate has to follow, where they decide, and what they are."""
    given = not (callable(source) or hasattr(source, "predict") or hasattr(source, "module"))
    known = np.asarray(source, dtype=np.float64) if given else np.empty(0)
    model = source if not given else _Given(known)
    question = asked(model, rows, target=target, classes=classes, categorical=categorical, patients=patients, run=run)
    scores = question.scores()
    if decide is None and question.answer.within == (0.0, 1.0):
        decide = 0.5
    return question, scores, decide, score if given else question.answer.score


class _Given:
    """Scores that are known already, as a model of the very rows that they are of."""

    def __init__(self, scores: Floats) -> None:
        self.scores = scores

    def __call__(self, rows: Any) -> Floats:
        if self.scores.shape != (len(rows),):
            raise BadParameter(f"a score for each of {len(rows)} rows", f"shape {self.scores.shape}", "Give as many.")
        return self.scores


def _held_out(make: Any, table: Floats, scores: Floats, whose: NDArray[np.int64], folds: int, question: Asked) -> tuple[Floats, Floats]:
    """Each case's score by a surrogate fitted on other patients (n,), and the mean score of those patients (n,)."""
    part = np.random.default_rng(question.run.seed).permutation(np.arange(whose.max() + 1) % folds)[whose]
    found, constant = np.empty(len(scores)), np.empty(len(scores))
    for k in range(folds):
        other = part != k
        found[~other] = make(table[other], scores[other]).predict(table[~other])
        constant[~other] = scores[other].mean()
        question.meter.tick(forward=1)
    return found, constant


def _explained(scores: Floats, predicted: Floats, weights: Floats, constant: Floats) -> float:
    """1 - squared error over that of the mean of the other patients: R² that no fit can flatter."""
    spread = float(((scores - constant) ** 2).sum())
    return float(1 - ((scores - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")


def _stability(
    make: Any, whole: Fit, names: Sequence[str], table: Floats, scores: Floats, whose: NDArray[np.int64], bootstraps: int, question: Asked
) -> tuple[Stability, list[Term]]:
    """Surrogates of patients drawn with replacement, held against the one of all."""
    import torch

    rng, places = np.random.default_rng(question.run.seed + 1), [np.flatnonzero(whose == p) for p in range(whose.max() + 1)]
    own, base = whole.used, whole.predict(table)
    shared, first, top, ranks, follows, drawn = [], [], [], [], [], []
    for _ in range(bootstraps):
        at = np.concatenate([places[p] for p in rng.integers(0, len(places), len(places))])
        one = make(table[at], scores[at]) if np.ptp(scores[at]) > 0 else None
        question.meter.tick(forward=1)
        if one is None:
            continue
        drawn.append(one)
        union = own | one.used
        shared.append(len(own & one.used) / len(union) if union else 1.0)
        first.append(one.splits[:1] == whole.splits[:1])
        top.append(one.splits == whole.splits)
        ranks.append(spearman(torch.from_numpy(np.abs(one.weights)), torch.from_numpy(np.abs(whole.weights))))
        follows.append(METRICS["r2"].of(base, one.predict(table), np.ones(len(base))))
    terms = [
        Term(
            names[k],
            float(whole.weights[k]),
            float(np.mean([k in d.used for d in drawn])) if drawn else float("nan"),
            float(np.mean([np.sign(d.weights[k]) == np.sign(whole.weights[k]) for d in drawn])) if drawn else float("nan"),
        )
        for k in sorted(own, key=lambda k: -abs(whole.weights[k]))
    ]
    mean = [float(np.mean(v)) if v else float("nan") for v in (shared, first, top, ranks, follows)]
    return Stability(len(drawn), *mean), terms


def _evidence(r2: Interval, agreement: Interval, always: float, stability: Stability) -> Evidence:
    """Whether it may be read: fidelity by the lower end of its interval, stability as it is."""
    rows, reasons = [], []
    fair = r2.low >= POOR
    said = f"On patients that it was not fitted on it explains {r2.value:.0%} of the scores' variance."
    rows.append(
        Measurement(
            "fidelity",
            r2.value,
            "R²",
            "up",
            "pass" if r2.low >= GOOD else "inconclusive" if fair else "fail",
            said,
            0.0,
            "the mean",
            *r2.ends,
        )
    )
    if not fair:
        reasons.append(f"{said} Do not read it.")
    elif r2.low < GOOD:
        reasons.append(said)
    if not np.isnan(agreement.value):
        text = f"It decides as the network does in {agreement.value:.0%} of cases; always the same answer would in {always:.0%}."
        better = not np.isnan(agreement.low) and agreement.low > always
        rows.append(
            Measurement(
                "agreement",
                agreement.value,
                "share of cases",
                "up",
                "pass" if better else "fail",
                text,
                always,
                "one answer",
                *agreement.ends,
            )
        )
        reasons += [] if better else [text]
    told = f"Surrogates of other draws of patients share {stability.columns:.0%} of its columns."
    rows.append(
        Measurement(
            "same_columns", stability.columns, "share", "up", "pass" if stability.columns >= GOOD else "fail", told, GOOD, "the level"
        )
    )
    reasons += [] if stability.columns >= GOOD else [told]
    verdict: Any = "not supported" if not fair else "questionable" if reasons else "supported"
    return Evidence("standard", tuple(rows), verdict, tuple(reasons))
