"""Regression concepts: does the score follow a continuous measure (area, contrast, age) that the activations hold?"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.activations import Pool
from pellucid.asking import Scan, as_image
from pellucid.concepts.bank import Examples
from pellucid.concepts.directions import FOLDS, Floats
from pellucid.concepts.result import Found, label
from pellucid.concepts.vectors import Span, choose_pool, hear, rows_of, slopes_of
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Provenance
from pellucid.findings import Finding, signed
from pellucid.image import digest
from pellucid.intervals import adjusted
from pellucid.model import as_model
from pellucid.params import Count, Fraction, check
from pellucid.run import Run
from pellucid.table import Table

CITE = "Graziani et al. 2018, Regression concept vectors for bidirectional explanations in histopathology, arXiv:1904.04520"
LEAST = 10  # images
PENALTIES = tuple(10.0**k for k in range(-4, 4))  # of ridge, in mean squared lengths of a row; chosen by leaving one image out
STEADY = 1e-6  # of the mean sensitivity, below which its spread is rounding


@dataclass(frozen=True)
class RegressionRow:
    """A measure at one site for one target.

    ``r2``: of the measure, told from activations of patients who were held out; ``r2_p`` against the measure dealt anew among patients.
    ``sensitivity`` and ``spread``: mean and standard deviation over the images of the derivative of the score along the direction in which the
    measure grows (length 1). ``br = max(r2, 0) * sensitivity / spread``: bidirectional relevance. ``effect``: change of the
    score for one standard deviation of the measure; ``p``: its two-sided rank among those of measures dealt anew (**the verdict**).
    """

    measure: str
    site: str
    target: str
    r2: float
    r2_p: float
    br: float
    p: float
    p_holm: float
    sensitivity: float
    spread: float
    effect: float
    images: int
    verdict: Found

    @property
    def sentence(self) -> str:
        """The finding for people."""
        if self.verdict == "not told apart":
            return f"Nothing is said of {self.measure}: the activations do not hold it (R2 {self.r2:.2f}, p = {self.r2_p:.2g}, at {self.site})."
        way = "raises" if self.sensitivity > 0 else "lowers"
        tail = f"(Br {self.br:.2g}, R2 {self.r2:.2f}, p = {self.p:.2g}, at {self.site})"
        if self.verdict in ("raises", "lowers"):
            return f"More {self.measure} {way} the {self.target} score {tail}."
        return f"No sign that {self.measure} matters for the {self.target} score, though the activations hold it {tail}."


@dataclass(frozen=True, eq=False)
class Regression(Finding):
    """What was found of a measure: a row for each site and target."""

    kind = "regression"
    rows: tuple[RegressionRow, ...]
    network: str
    provenance: Provenance

    def __iter__(self) -> Iterator[RegressionRow]:
        return iter(self.rows)

    def table(self) -> Table:
        columns = ("measure", "site", "target", "R2", "R2 p", "Br", "p", "p (Holm)", "sensitivity", "spread", "effect", "images", "verdict")
        rows = [
            (r.measure, r.site, r.target, r.r2, r.r2_p, r.br, r.p, r.p_holm, r.sensitivity, r.spread, r.effect, r.images, r.verdict)
            for r in self.rows
        ]
        return Table(columns, tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        return tuple(r.sentence for r in self.rows)


def regression_concept(
    model: Any,
    scans: Sequence[Scan],
    values: Sequence[float],
    target: Any,
    *,
    name: str = "the measure",
    sites: str | Sequence[str] = "auto",
    of: Sequence[Scan] | None = None,
    pool: Pool | None = None,
    patients: Sequence[Hashable] | None = None,
    permutations: int = 199,
    alpha: float = 0.05,
    folder: str | Path | None = None,
    run: Run | None = None,
) -> Regression:
    """Does the score rise or fall as a continuous measure grows? Ridge regression of the measure on activations gives its direction.

    Args:
        model: the network.
        scans: images on which the measure is known, at least 10.
        values: the measure, one for each.
        target: a class, a Target, or a list of them.
        name: the measure's, for sentences.
        sites: one or several.
        of: images whose score is asked about; None: ``scans``.
        pool: as in ``tcav``.
        patients: of ``scans``; none is on both sides of a split.
        permutations: of the measure among patients; among those with as many images where numbers differ.
        alpha: level of the verdict, each row by itself.
        folder: where activations are kept.
        run: seed, memory, progress, cancel.

    Raises:
        BadImage: fewer than 10 images, fewer than three patients.
        BadParameter: not a finite value for each image, or one that never changes.

    **Misleads when**: the measure goes with something else that the network uses. Br alone says how steady an effect is, not how large: a measure that
    does next to nothing in all images alike has a large one. The verdict is that of the effect.

    **Source**: Graziani et al. 2018. Differs: ridge with a penalty chosen by leave-one-out, R2 of held-out patients, permutations as null.
    """
    check("regression_concept", "permutations", Count, permutations)
    check("regression_concept", "alpha", Fraction, alpha)
    y, who = _checked(scans, values, patients)
    net, run = as_model(model), run or Run()
    began = time.perf_counter()
    asked = list(scans if of is None else of)
    given = Examples(name, tuple(scans))
    chosen = choose_pool(net, [given], asked, pool)
    rng = np.random.default_rng(run.seed)
    columns = np.stack([y, *(_dealt(y, who, rng) for _ in range(permutations))], 1)
    fold = _folds(who, rng)
    rows: list[RegressionRow] = []
    notes: list[str] = []
    targets = {label(net, t): t for t in (list(target) if isinstance(target, (list, tuple)) else [target])}
    places = [sites] if isinstance(sites, str) else list(sites)
    for site in places:
        span = Span.of(rows_of(net, [given], site, chosen, folder, run, notes))
        x = span.coordinates
        r2 = _held_out(x, columns, fold, run)
        weights = ridge(x, columns)
        weights /= np.maximum(np.linalg.norm(weights, axis=0), 1e-300)
        scale = columns.std(0)
        step = ((x - x.mean(0)).T @ (columns - columns.mean(0)) / len(x) / scale * weights).sum(0)  # along the direction, for one deviation
        for called, t in targets.items():
            slopes = slopes_of(net, asked, site, t, span, chosen, run, notes)
            rows.append(_row(name, site, called, slopes @ weights, step, r2, alpha))
    corrected = adjusted([r.p for r in rows])
    marks = digest(*(as_image(s).fingerprint for s in (*scans, *asked)), repr(y.tolist()))
    method = f"regression_concept(pool={chosen!r}, permutations={permutations}, images={len(scans)})"
    seconds = time.perf_counter() - began
    provenance = signed(
        net, run, method, target=", ".join(targets), site=", ".join(places), image=marks, seconds=seconds, cite=CITE, notes=notes
    )
    return Regression(tuple(replace(r, p_holm=h) for r, h in zip(rows, corrected, strict=True)), net.identity, provenance)


def _checked(scans: Sequence[Scan], values: Sequence[float], patients: Sequence[Hashable] | None) -> tuple[Floats, list[Hashable]]:
    y = np.asarray(values, dtype=np.float64)
    if y.shape != (len(scans),) or not np.isfinite(y).all():
        raise BadParameter(f"a finite value for each of {len(scans)} images", f"{y.shape}", "Leave out images where it is not known.")
    if len(y) < LEAST:
        raise BadImage(f"at least {LEAST} images with the measure", f"{len(y)}", "Add images.")
    if float(np.ptp(y)) == 0:
        raise BadParameter("a measure that changes", f"{y[0]:g} for all images", "Choose another.")
    who: list[Hashable] = list(range(len(y))) if patients is None else list(patients)
    if len(who) != len(y):
        raise BadParameter(f"a patient for each of {len(y)} images", f"{len(who)}", "Give as many.")
    if len(set(who)) < 3:
        raise BadImage("at least three patients", f"{len(set(who))}", "Add images of others.")
    return y, who


def _folds(who: Sequence[Hashable], rng: np.random.Generator) -> Any:
    ordered = sorted(set(who), key=repr)
    k = min(FOLDS, len(ordered))
    where = {ordered[i]: n % k for n, i in enumerate(rng.permutation(len(ordered)))}
    return np.array([where[p] for p in who])


def _dealt(y: Floats, who: Sequence[Hashable], rng: np.random.Generator) -> Floats:
    """The measure dealt anew: a patient gets all values of another one with as many images."""
    at: dict[Hashable, list[int]] = {}
    for i, p in enumerate(who):
        at.setdefault(p, []).append(i)
    alike: dict[int, list[list[int]]] = {}
    for places in at.values():
        alike.setdefault(len(places), []).append(places)
    new = y.copy()
    for group in alike.values():
        for to, source in zip(group, rng.permutation(len(group)), strict=True):
            new[to] = y[group[source]]
    return new


def ridge(x: Floats, y: Floats) -> Floats:
    """Weights (r, k) of ridge regressions of the columns of ``y`` (n, k) on ``x`` (n, r); each penalty by its least leave-one-out error."""
    return _solved(x, y)[0]


def _solved(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    middle, level = x.mean(0), y.mean(0)
    u, s, vt = np.linalg.svd(x - middle, full_matrices=False)
    kept = s > 1e-10 * max(float(s[0]), 1e-300)
    u, s, vt = u[:, kept], s[kept], vt[kept]
    along = u.T @ (y - level)
    scale = float((s**2).sum()) / len(x)
    best, weights = np.full(y.shape[1], np.inf), np.zeros((x.shape[1], y.shape[1]))
    for penalty in PENALTIES:
        shrink = s**2 / (s**2 + penalty * scale)
        lever = (u**2) @ shrink + 1 / len(x)
        rest = (y - level - u @ (shrink[:, None] * along)) / np.maximum(1 - lever, 1e-9)[:, None]
        error = (rest**2).sum(0)
        better = error < best
        best = np.where(better, error, best)
        weights[:, better] = (vt.T @ ((shrink / s)[:, None] * along))[:, better]
    return weights, middle, level


def _held_out(x: Floats, y: Floats, fold: Any, run: Run) -> Floats:
    """R2 of each column on folds that its regression has not seen, against the mean of the others."""
    wrong, plain = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for k in range(int(fold.max()) + 1):
        hear(run, "regressions not done yet")
        out = fold == k
        weights, middle, level = _solved(x[~out], y[~out])
        wrong += ((y[out] - level - (x[out] - middle) @ weights) ** 2).sum(0)
        plain += ((y[out] - level) ** 2).sum(0)
    return 1 - wrong / np.maximum(plain, 1e-300)


def _row(name: str, site: str, target: str, s: Floats, step: Floats, r2: Floats, alpha: float) -> RegressionRow:
    mean, spread = s.mean(0), s.std(0)
    ratio = mean / np.maximum(spread, np.maximum(STEADY * np.abs(mean), 1e-300))
    effect = mean * step
    beyond = np.abs(effect) >= abs(effect[0]) * (1 - 1e-12)
    p, r2_p = float(beyond.mean()), float((r2 >= r2[0] - 1e-12).mean())
    verdict: Found = "raises" if mean[0] > 0 else "lowers"
    verdict = "not told apart" if r2_p > alpha + 1e-12 or r2[0] <= 0 else "no more than random" if p > alpha + 1e-12 else verdict
    br = max(float(r2[0]), 0.0) * float(ratio[0])
    return RegressionRow(
        name, site, target, float(r2[0]), r2_p, br, p, p, float(mean[0]), float(spread[0]), float(effect[0]), len(s), verdict
    )
