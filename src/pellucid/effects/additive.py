"""Additive models with a few pairs (GA2M, by interpret-core): every answer is a sum of curves and surfaces that can be read."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.asking import Asked, asked, truth_of
from pellucid.effects.curve import coded
from pellucid.effects.metrics import metric_of
from pellucid.effects.rows import Floats, Rows
from pellucid.effects.terms import Additive, Pair, Shape
from pellucid.errors import BadModel, BadParameter
from pellucid.explanation import Evidence, Measurement
from pellucid.findings import signed_rows
from pellucid.intervals import NONE, Interval, statistic
from pellucid.params import Count, check
from pellucid.run import Meter, Run

CITE = "Lou et al. 2013, Accurate intelligible models with pairwise interactions, KDD; Nori et al. 2019, InterpretML, arXiv:1909.09223"
EXTRA = "pip install 'pellucid[ebm]' (interpret-core)"
VALIDATION = 0.15  # share of patients that stop the boosting of a bag, as interpret-core's own share of cases


def additive_model(
    rows: Any,
    truth: Sequence[Any] | str,
    *,
    target: Any = None,
    pairs: int = 5,
    bags: int = 8,
    rounds: int = 5000,
    test: float = 0.25,
    categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None,
    run: Run | None = None,
) -> Additive:
    """Fit an additive model with pairs: ``link(y) = b + sum_j f_j(x_j) + sum_jk f_jk(x_j, x_k)``, told with how good it is on other patients.

    Args:
        rows: features, as ``partial_dependence``; so are ``categorical``, ``patients``.
        truth: of each row, or the column that has it: two labels, or numbers.
        target: which label is told of; None: the second of two.
        pairs: at most so many pairs are taken up; 0: none.
        bags: models that are averaged; their spread is the band. All images of a patient lie on one side of each.
        rounds: of boosting at most.
        test: share of the patients that nothing is fitted on.
        run: seed, cancel.

    Raises:
        BadParameter: no interpret-core, labels of more than two classes, or too few patients.

    **Misleads when**: columns go together: they share their effect, and each curve shows a part. The band is the spread over bags, no interval.

    **Source**: Lou et al. 2013, by interpret-core (an extra).
    """
    boosting = _library()
    for name, value in (("pairs", pairs), ("rounds", rounds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadParameter(f"{name} is a whole number from 0 on", repr(value), f"Write {name}=5.")
    check("additive_model", "bags", Count, bags)
    question = asked(_zero, rows, categorical=categorical, patients=patients, truth=truth, run=run)
    labels, positive, answers = _labels(question, rows, truth, target)
    whose = coded(question.whose, len(labels))
    held = _held(whose, test, question.run.seed)
    kind = boosting.ExplainableBoostingClassifier if positive else boosting.ExplainableBoostingRegressor
    types = ["nominal" if n in question.rows.text else "continuous" for n in question.rows.names]
    model = kind(
        feature_names=list(question.rows.names), feature_types=types, outer_bags=bags, interactions=pairs, max_rounds=rounds, n_jobs=1,
        random_state=question.run.seed,
    )  # fmt: skip
    table = _table(question.rows)
    Meter(question.run).tick()  # a cancel is heard before the one long step
    model.fit(table[~held], labels[~held].astype(int) if positive else labels[~held], bags=_bags(whose[~held], bags, question.run.seed).T)
    found = read_additive(model, positive=positive)
    quality, name = _quality(found, question, labels, held, whose, bool(positive))
    signed = signed_rows(
        f"additive_model(pairs={pairs}, bags={bags}, rounds={rounds}, test={test:g})", question.rows.matrix(), target=answers, cite=CITE
    )
    return found.judged(quality, name, answers, _evidence(quality, name, positive != ""), signed, question.run.seed)


def _zero(rows: Any) -> Floats:
    """Nothing is asked of a model before it is fitted."""
    return np.zeros(len(rows))


def _library() -> Any:
    try:
        from interpret import glassbox
    except ImportError as error:
        raise BadParameter("an additive model with pairs", "no interpret-core", EXTRA) from error
    return glassbox


def _labels(question: Asked, rows: Any, truth: Any, target: Any) -> tuple[Floats, str, str]:
    """Numbers or 1 and 0, the label that 1 stands for ("" of numbers), and what the model's sum is."""
    from pellucid.effects.rows import as_rows

    values = as_rows(rows)[truth] if isinstance(truth, str) else np.asarray(truth)
    different = sorted({f"{v:g}" if isinstance(v, (float, np.floating)) else str(v) for v in values.tolist()})
    if len(different) != 2:
        if values.dtype.kind not in "biuf":
            raise BadParameter("two labels, or numbers", f"{len(different)} labels", "Ask one label against the others: give 1 and 0.")
        return truth_of(question, rows, truth).values, "", "prediction"
    positive = different[1] if target is None else str(target)
    if positive not in different:
        raise BadParameter(f"one of the labels {' and '.join(different)}", repr(target), "Name one of them.")
    hits = np.array([(f"{v:g}" if isinstance(v, (float, np.floating)) else str(v)) == positive for v in values.tolist()])
    return hits.astype(np.float64), positive, f"log odds of {positive!r}"


def _table(rows: Rows) -> NDArray[Any]:
    table = rows.given({}, framed=False) if rows.frame is None else Rows(rows.columns, rows.text).given({}, framed=False)
    return np.asarray(table)


def _held(whose: NDArray[np.int64], test: float, seed: int) -> NDArray[np.bool_]:
    """Cases of patients that nothing is fitted on."""
    count = int(whose.max()) + 1
    if not 0 <= test < 1 or count < 10:
        raise BadParameter("a share from 0 to below 1 of ten patients or more", f"{test} of {count}", "Write test=0.25.")
    return np.asarray((np.random.default_rng(seed).permutation(count) < round(test * count))[whose])


def _bags(whose: NDArray[np.int64], bags: int, seed: int) -> NDArray[np.int8]:
    """(bags, n): 1 for cases that a bag is fitted on, -1 for those that stop it; a patient is on one side."""
    own = np.unique(whose, return_inverse=True)[1]
    rng, count = np.random.default_rng(seed + 1), own.max() + 1
    few = max(1, round(VALIDATION * count))
    return np.stack([np.where((rng.permutation(count) < few)[own], -1, 1) for _ in range(bags)]).astype(np.int8)


def _quality(
    found: Additive, question: Asked, labels: Floats, held: NDArray[np.bool_], whose: NDArray[np.int64], binary: bool
) -> tuple[Interval, str]:
    """AUC or R² on the patients held out."""
    measure = metric_of(None, binary)
    if not held.any():
        return NONE, measure.name
    scores = found.answers(question.rows.at(np.flatnonzero(held)))
    columns = (labels[held], scores, np.ones(int(held.sum())))
    return statistic(columns, measure.of, whose[held].tolist(), within=measure.within, mean=measure.sums), measure.name


def _evidence(quality: Interval, name: str, binary: bool) -> Evidence:
    if math.isnan(quality.value):
        return Evidence("none", (), "questionable", ("It was not tried on other patients.",))
    chance = 0.5 if binary else 0.0
    better = quality.low > chance
    said = f"On other patients {name} {quality}."
    row = Measurement("quality", quality.value, name, "up", "pass" if better else "fail", said, chance, "chance", *quality.ends)
    return Evidence("quick", (row,), "supported" if better else "not supported", () if better else (f"{said} Do not read its curves.",))


def read_additive(model: Any, *, positive: str = "") -> Additive:
    """The curves and pairs of a fitted ``ExplainableBoosting`` model of interpret-core; their sum is its own score, to rounding.

    Args:
        model: fitted, of two classes or of numbers.
        positive: what its second class is called; "": as the model calls it.

    Raises:
        BadModel: no such model, or one of more classes.
    """
    if not hasattr(model, "term_scores_") or not hasattr(model, "bins_"):
        raise BadModel("a fitted ExplainableBoosting model", type(model).__name__, "Fit one: additive_model(rows, truth).")
    own = tuple(str(c) for c in getattr(model, "classes_", ()))
    if len(own) > 2 or any(len(f) > 2 for f in model.term_features_):
        raise BadModel("two classes or numbers, and pairs at most", f"{len(own)} classes", "Fit one class against the others.")
    names = [str(n) for n in model.feature_names_in_]
    importance = np.asarray(model.term_importances(), dtype=np.float64)
    shapes, both = [], []
    for k, features in enumerate(model.term_features_):
        scores, spread = (np.asarray(t[k], dtype=np.float64) for t in (model.term_scores_, model.standard_deviations_))
        weights = np.asarray(model.bin_weights_[k], dtype=np.float64)
        cuts = [_cuts(model, f, len(features)) for f in features]
        if len(features) == 1:
            shapes.append(Shape(names[features[0]], *cuts[0], scores, spread, weights, float(importance[k])))
        else:
            a, b = (names[f] for f in features)
            both.append(
                Pair((a, b), (cuts[0][0], cuts[1][0]), (cuts[0][1], cuts[1][1]), (cuts[0][2], cuts[1][2]), scores, float(importance[k]))
            )
    score = f"log odds of {positive or own[1]!r}" if own else "prediction"
    said = signed_rows(
        "read_additive()", np.concatenate([s.values for s in shapes])[:, None] if shapes else np.zeros((1, 1)), target=score, cite=CITE
    )
    order = sorted(shapes, key=lambda s: -s.importance)
    return Additive(
        tuple(order),
        tuple(sorted(both, key=lambda p: -p.importance)),
        float(np.ravel(model.intercept_)[0]),
        score,
        NONE,
        "",
        Evidence(),
        "",
        said,
    )


def _cuts(model: Any, feature: int, order: int) -> tuple[Floats, tuple[str, ...], tuple[float, float]]:
    """Where a column's bins begin, or its categories in their order, and the lowest and highest value seen."""
    bins = model.bins_[feature][min(order, len(model.bins_[feature])) - 1]
    if isinstance(bins, dict):
        labels = [""] * max(bins.values())
        for label, place in bins.items():
            labels[place - 1] = f"{labels[place - 1]} or {label}" if labels[place - 1] else str(label)
        return np.empty(0), tuple(labels), (math.nan, math.nan)
    low, high = (float(v) for v in model.feature_bounds_[feature])
    return np.asarray(bins, dtype=np.float64), (), (low, high)
