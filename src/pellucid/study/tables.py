"""Tables of a study: values with intervals over patients, paired tests, ranks where ranking is valid, and the network's own performance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from pellucid.errors import BadParameter, Unsupported
from pellucid.evidence.shortcuts.association import shuffles
from pellucid.intervals import SLACK, Interval, adjusted, area, auc, average, paired
from pellucid.study.study import Study
from pellucid.table import Table

RANGES = {
    **dict.fromkeys(("0 to 1", "hit", "share", "share of the image"), (0.0, 1.0)),
    **dict.fromkeys(("rank correlation", "share of the steps"), (-1.0, 1.0)),
}  # of units whose values cannot leave them
ORDERS = 1999  # of the test that the network is better than chance
CHANCE = 0.025  # one-sided, as the interval leaves out on each side


def long_table(study: Study) -> Table:
    """A row for each map or control and metric: mean, interval over patients, how many pass, what is held against it."""
    columns = ("map", "metric", "value", "low", "high", "unit", "better", "reference", "passes", "images", "patients")
    rows = []
    for m in study.measures:
        cells = study.cells(m.name)
        for name, found in cells.items():
            given = [c for c in found if c is not None]
            if not given:
                continue
            mean = interval(study, m.name, name)
            levels = [float(c["reference"]) for c in given if c["reference"] is not None]
            judged = [c["status"] for c in given if c["status"] in ("pass", "fail")]
            share = judged.count("pass") / len(judged) if judged else None
            reference = sum(levels) / len(levels) if levels else None
            rows.append(
                (name, m.name, mean.value, mean.low, mean.high, m.facts.unit, m.facts.better, reference, share, mean.images, mean.patients)
            )
    return Table(columns, tuple(rows))


def wide_table(study: Study, metrics: Sequence[str] = ()) -> Table:
    """A row for each map or control, a column for each metric: mean [95 % interval over patients]."""
    chosen = [study.metric(n) for n in metrics] if metrics else list(study.measures)
    arrow = {"up": "↑", "down": "↓", "zero": "→ 0"}
    columns = ("map", *(f"{m.name} {arrow[m.facts.better]}" for m in chosen))
    rows = [(name, *(str(interval(study, m.name, name)) for m in chosen)) for name in study.rows]
    return Table(columns, tuple(r for r in rows if set(r[1:]) != {"none"}))


def interval(study: Study, metric: str, name: str) -> Interval:
    """Mean of a metric over the cases, with its interval over patients."""
    values, within = study.values(metric)[name], RANGES.get(study.metric(metric).facts.unit)
    inside = within is None or all(within[0] - SLACK <= v <= within[1] + SLACK for v in values if not math.isnan(v))
    return average(values, study.groups, within=within if inside else None)  # anybody's metric may use a unit in another way


def paired_tests(study: Study, metric: str, against: str | None = None) -> Table:
    """Paired differences over patients against one map or control (None: every pair of maps), p by sign flips, adjusted over the rows (Holm)."""
    values = study.values(metric)
    if against is not None and against not in values:
        raise BadParameter(f"a map or control: {', '.join(values)}", repr(against), "Choose one of them.")
    maps = list(study.asks)
    pairs = [(a, against) for a in maps if a != against] if against else [(a, b) for i, a in enumerate(maps) for b in maps[i + 1 :]]
    found = [paired(values[a], values[b], study.groups, seed=study.seed) for a, b in pairs]
    p = adjusted([f[1] for f in found])
    rows = tuple((a, b, d, raw, held) for (a, b), (d, raw), held in zip(pairs, found, p, strict=True))
    return Table(("map", "against", "difference", "p", "p adjusted"), rows)


def ranks(study: Study, metric: str) -> Table:
    """Mean rank of each map (1 is best) over patients, with the critical difference of Nemenyi's test at 5 %.

    Raises:
        Unsupported: a metric that may not rank methods, or a direction that ranks nothing.

    Source: Demsar 2006, section 3.2.2; the studentized range from scipy.
    """
    from scipy.stats import rankdata, studentized_range

    facts = study.metric(metric).facts
    if not facts.ranks or facts.better == "zero":
        raise Unsupported(
            f"{metric} may pass or fail a map", "a wish to rank methods by it", "Rank by a metric of faithfulness or localization."
        )
    maps = list(study.asks)
    table = np.array([study.values(metric)[n] for n in maps], dtype=np.float64)
    groups = np.array(study.groups)
    kept = ~np.isnan(table).any(0)
    means = np.array([table[:, kept & (groups == g)].mean(1) for g in dict.fromkeys(groups[kept])])
    if len(means) < 2 or len(maps) < 2:
        raise BadParameter("two maps and two patients at least", f"{len(maps)} maps, {len(means)} patients", "Add cases.")
    order = np.array([rankdata(-row if facts.better == "up" else row) for row in means]).mean(0)
    k, n = len(maps), len(means)
    critical = float(studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    rows = sorted(zip(maps, order.tolist(), strict=True), key=lambda r: r[1])
    return Table(("map", "mean rank", "critical difference", "patients"), tuple((a, r, critical, n) for a, r in rows))


def performance(study: Study) -> Table:
    """The network itself on the study's cases: ROC AUC of each class that labels tell apart, with its interval over patients.

    Whether it is better than chance is tested by exchanging labels between patients (within patients where they differ there). Of a network that is
    not shown to be, evidence about its maps is void; of fewer patients than such a test takes nothing is said.

    Raises:
        BadParameter: a label that is no class of the network.
    """
    said = study.probabilities()
    classes = max(map(len, said), default=0)
    labelled = [i for i, case in enumerate(study.cases) if case.label is not None] if classes else []
    truths = {i: study.truth(i, classes) for i in labelled}
    mirrored = classes == 2 and all(len(true) == 1 and not isinstance(study.cases[i].label, tuple) for i, true in truths.items())
    told = [(truths[i], said[i]) for i in labelled if said[i]]
    groups = study.groups
    who = [groups[i] for i in labelled if said[i]]
    rows = []
    for k in range(int(mirrored), classes):
        truth = [float(k in true) for true, _ in told]
        if 0 < sum(truth) < len(truth):
            scores = [p[k] for _, p in told]
            found = auc(scores, truth, who)
            name = study.net.classes[k] if k < len(study.net.classes) else str(k)
            rows.append((name, found.value, found.low, found.high, found.images, skill(scores, truth, who, study.seed)))
    return Table(("class", "AUC", "low", "high", "images", "finding"), tuple(rows))


def skill(scores: Sequence[float], truth: Sequence[float], patients: Sequence[Hashable], seed: int = 0) -> str:
    """Whether scores tell the truth better than chance, in words."""
    orders = shuffles(truth, patients, ORDERS, np.random.default_rng(seed))
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    own, made = area(s, y), {y[o].tobytes() for o in orders}
    if len(made) < 1 / CHANCE:
        return "not measured: too few patients to tell from chance"
    p = (1 + sum(area(s, y[o]) >= own - 1e-12 for o in orders)) / (1 + ORDERS)
    return "better than chance" if p <= CHANCE else "void: not shown to be better than chance"
