"""Calibration: does what the network states as a probability come true as often?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from pellucid.asking import Scan
from pellucid.errors import BadParameter
from pellucid.evidence.predictions.answers import Cases, Floats, by_patient, cases
from pellucid.evidence.predictions.binned import Binning, Bins, expected
from pellucid.explanation import Measurement
from pellucid.intervals import NONE, Interval, average, statistic
from pellucid.model import Model
from pellucid.run import Run
from pellucid.table import Table

NULL = 200  # draws of perfectly calibrated labels
ENOUGH = 0.1  # an interval that reaches further says that the cases are too few


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was found. ``ece``, ``brier`` and ``nll`` with 95 % intervals over patients; ``bins`` is the reliability diagram as a table (one
    part for what was predicted, one per class), ``classes`` the same errors class by class; ``logits`` and ``truth`` (n, k) go on to
    ``temperature``.
    """

    ece: Measurement
    brier: Measurement
    nll: Measurement
    bins: Table
    classes: Table
    logits: Floats
    truth: Floats

    def __iter__(self) -> Any:
        return iter((self.ece, self.brier, self.nll))


def calibration(
    given: Model | nn.Module | Tensor | Floats,
    labels: Any,
    images: Iterable[Scan] | None = None,
    *,
    bins: int = 15,
    binning: Binning = "width",
    debias: bool = True,
    patients: Sequence[Any] | None = None,
    classes: Sequence[str] = (),
    multi_label: bool = False,
    run: Run | None = None,
) -> Calibration:
    """How far stated probabilities lie from what comes true, on images that neither training nor scaling has seen.

    ece = sum over bins of (cases in it / all) x |share that came true - mean stated probability|. Classes that exclude each other: of
    the predicted class's probability (Guo et al.); one label: of its probability; several: the mean over labels, each over its known cases.

    Args:
        given: a network with ``images``, or its probabilities (n, k) or (n,); voxels: (n, k, *space).
        labels: class indices or names (n,), or zeros and ones (n, k), NaN where not known.
        bins, binning: how many, of equal ``"width"`` or of equal counts (``"mass"``).
        debias: take off most of what chance alone adds; False gives the plug-in value of the papers, which is never 0.
        patients: whose each image is. classes, multi_label: what the columns of given probabilities are.

    **Misleads when**: cases are few (``against`` says what a perfectly calibrated network would show); prevalence differs where it is
    used; a network that always states the prevalence is calibrated and useless (Brier and NLL are held against it).
    **Source**: Guo et al. 2017 (eq. 3); Kumar et al. 2019 (debiased); Broecker and Smith 2007 (reference). One case alone passes
    nothing, and the error is never below |mean stated probability - share that came true|.
    """
    if bins < 1 or binning not in ("width", "mass"):
        raise BadParameter("at least one bin, of equal 'width' or 'mass'", f"{bins}, {binning!r}", "Try bins=15.")
    found = cases(given, labels, images, probabilities=True, classes=classes, multi_label=multi_label, run=run)
    who, how = by_patient(patients, found), _How(bins, binning, debias, (run or Run()).seed)
    p = found.probabilities
    kept, parts, rows = [], [], []
    if found.exclusive:
        top = p.argmax(1)
        right = found.truth[np.arange(len(p)), top]
        kept.append(_Part("predicted", p.max(1), right, who, how))
    for k, name in enumerate(found.classes):
        known = ~np.isnan(found.truth[:, k])
        if not known.any():
            raise BadParameter(f"at least one known label for {name!r}", "none", "Leave the class out.")
        parts.append(_Part(name, p[known, k], found.truth[known, k], [w for w, y in zip(who, known, strict=True) if y], how))
        rows.append(parts[-1].row(found.logits[known, k], found.exclusive))
    judged = kept or parts
    columns = ("class", "from", "to", "cases", "stated", "seen", "low", "high")
    table = Table(columns, tuple(r for part in [*kept, *parts] for r in part.bins_rows()))
    by_class = Table(("class", "cases", "prevalence", "stated", "ece", "low", "high", "p", "brier", "nll"), tuple(rows))
    return Calibration(_ece(judged, how), *_scores(found, who), table, by_class, found.logits, found.truth)


@dataclass(frozen=True)
class _How:
    bins: int
    binning: Binning
    debias: bool
    seed: int

    def error(self, stated: Floats, true: Floats) -> float:
        b = Bins.of(stated, true, self.bins, self.binning)
        return b.debiased if self.debias else b.error


class _Part:
    """One column of stated probabilities and what came true."""

    def __init__(self, name: str, stated: Floats, true: Floats, who: list[Any], how: _How) -> None:
        self.name, self.stated, self.true = name, stated, true
        self.bins = Bins.of(stated, true, how.bins, how.binning)
        self.interval = statistic((stated.tolist(), true.tolist()), how.error, who, within=(0.0, 1.0), mean=True)
        self.null = expected(stated, how.bins, how.binning, how.debias, NULL, how.seed)

    @property
    def p(self) -> float:
        """How often a perfectly calibrated network shows as much."""
        return float((1 + (self.null >= self.interval.value).sum()) / (1 + len(self.null)))

    def bins_rows(self) -> list[tuple[Any, ...]]:
        b, (low, high) = self.bins, self.bins.wilson()
        columns = [b.low, b.high, b.count.astype(int), b.stated, b.seen, low, high]
        return [(self.name, *(v.item() for v in row)) for row in zip(*columns, strict=True)]

    def row(self, logits: Floats, exclusive: bool) -> tuple[Any, ...]:
        """The class by itself, against all others."""
        i, y = self.interval, self.true
        with np.errstate(divide="ignore"):
            nll = -np.where(y > 0, np.log(self.stated), np.log1p(-self.stated)) if exclusive else _softplus(logits, y)
        return (
            self.name, len(y), float(y.mean()), float(self.stated.mean()), i.value, i.low, i.high, self.p,
            float(((self.stated - y) ** 2).mean()), float(nll.mean()),
        )  # fmt: skip


def _softplus(z: Floats, y: Floats) -> Floats:
    """-log of the probability that was given to the truth, by a sigmoid."""
    return np.logaddexp(0.0, np.where(y > 0, -z, z))


def _ece(parts: list[_Part], how: _How) -> Measurement:
    k = len(parts)
    value = sum(p.interval.value for p in parts) / k
    low, high = (sum(getattr(p.interval, end) for p in parts) / k for end in ("low", "high"))
    null = np.mean([p.null for p in parts], 0)
    level, chance = float(null.mean()), float((1 + (null >= value).sum()) / (1 + len(null)))
    status: Literal["pass", "fail", "inconclusive"] = "fail" if chance <= 0.05 else "pass" if high <= ENOUGH else "inconclusive"
    over = sum(float((p.stated - p.true).mean()) for p in parts) / k
    lean = "too high" if over > 0 else "too low"
    most = "any" if math.isnan(high) else f"up to {100 * high:.0f}"
    said = {
        "fail": f"Stated probabilities are off by {100 * value:.1f} points on average ({lean} by {100 * abs(over):.1f}); chance alone makes that rare.",
        "pass": f"Stated probabilities are off by {100 * value:.1f} points on average, no more than chance makes of a calibrated network.",
        "inconclusive": f"Off by {100 * value:.1f} points on average, which chance can make; with so few cases {most} points are possible.",
    }[status]
    detail = {
        "p": chance, "plug_in": sum(p.bins.error for p in parts) / k, "largest": max(p.bins.largest for p in parts),
        "squared": sum(p.bins.squared for p in parts) / k, "over": over, "bins": how.bins, "binning": how.binning, "debias": how.debias,
        "cases": parts[0].interval.images, "patients": parts[0].interval.patients, "of": [p.name for p in parts],
    }  # fmt: skip
    against = "a perfectly calibrated network with these probabilities, on as many cases"
    ends = Interval(value, low, high, len(parts), 0).ends
    return Measurement("calibration_error", value, "probability", "down", status, said, level, against, *ends, detail)


def _scores(found: Cases, who: list[Any]) -> tuple[Measurement, Measurement]:
    """Brier score and negative log-likelihood, with always stating the prevalence as their reference."""
    p, y = found.probabilities, found.truth
    known = ~np.isnan(y)
    base = np.broadcast_to(np.nanmean(y, 0), y.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        if found.exclusive:
            shifted = found.logits - found.logits.max(1, keepdims=True)
            nll = np.log(np.exp(shifted).sum(1)) - (np.where(y > 0, shifted, 0.0)).sum(1)
            brier, unit, base_brier = ((p - y) ** 2).sum(1), "squared probability, summed over classes", ((base - y) ** 2).sum(1)
            base_nll = -np.where(y > 0, np.log(base), 0.0).sum(1)
        else:
            brier, unit, base_brier = _mean((p - y) ** 2, known), "squared probability", _mean((base - y) ** 2, known)
            nll = _mean(_softplus(found.logits, y), known)
            base_nll = _mean(-np.where(y > 0, np.log(base), np.log1p(-base)), known)
    out = []
    for name, each, level, what, most in (
        ("brier", brier, base_brier, unit, 1.0 + found.exclusive),
        ("nll", nll, base_nll, "nats", math.inf),
    ):
        out.append(_scored(name, each, float(np.nanmean(level)), what, who, (0.0, most)))
    return out[0], out[1]


def _scored(name: str, each: Floats, level: float, unit: str, who: list[Any], within: tuple[float, float]) -> Measurement:
    finite = bool(np.isfinite(each[~np.isnan(each)]).all())
    value = float(np.nanmean(each))
    i = average(each, who, within=within) if finite else NONE
    if not finite:
        status, said = "fail", f"{int(np.isinf(each).sum())} of {len(each)} truths were given probability 0: the loss has no bound."
    else:
        status = "pass" if i.high < level else "fail" if i.low > level else "inconclusive"
        word = {"pass": "better than", "fail": "worse than", "inconclusive": "not clearly better than"}[status]
        said = f"{value:.3f}; {word} always stating how common each class is ({level:.3f})."
    against = "always stating the prevalence in these cases"
    return Measurement(name, value, unit, "down", status, said, level, against, *i.ends, {"cases": len(each)})  # type: ignore[arg-type]


def _mean(each: Floats, known: Any) -> Floats:
    """Mean over known labels of each case; NaN where none is known."""
    count = known.sum(1)
    total = np.where(known, each, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
