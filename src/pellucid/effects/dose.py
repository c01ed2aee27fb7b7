"""Dose and response: images changed along an axis that can be measured, and what the network says of each; PDP and ICE of images."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.asking import Scan
from pellucid.effects.curve import Axis, Curve, Floats, curve_of
from pellucid.effects.intervention import Changed, Intervention
from pellucid.effects.interventions import read_intervention
from pellucid.effects.scoring import Mask, Scoring, laid, masks_of
from pellucid.effects.words import amount
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Evidence, Measurement
from pellucid.findings import KEPT, signed
from pellucid.image import digest
from pellucid.intervals import Interval, average
from pellucid.ops.similarity import spearman
from pellucid.run import Run
from pellucid.table import Table

CITE = "Friedman 2001, Greedy function approximation, Annals of Statistics 29:1189; Goldstein et al. 2015, JCGS 24:44"
MISSED = (
    0.15  # of the range of doses: how far the dose that was found may lie from the one asked for (a width in a spectrum is read to a tenth)
)
SLACK = 1e-6  # of the range of the data, by which rounding may leave it
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DoseResponse(Curve):
    """A curve over doses that were set in images.

    Beyond a ``Curve``: ``found`` (n, g) is the dose measured in each changed image, ``held`` (n, g) the number by which it was held against the
    images as they are (``held_as``), ``own`` (n,) the dose that each image has by itself; ``change`` is the mean difference of scores between the
    highest and the lowest dose within the data, with its interval over patients, ``trend`` the mean rank correlation of score and dose.
    """

    kind = "dose response"
    found: Floats = field(metadata={KEPT: True}, repr=False)
    held: Floats = field(metadata={KEPT: True}, repr=False)
    own: Floats = field(metadata={KEPT: True}, repr=False)
    held_as: str
    change: Interval
    trend: float

    @property
    def missed(self) -> float:
        """The largest mean distance, over doses, between the dose asked for and the one found, as a share of the range asked for."""
        return _missed(self.found, self.axis.values)

    @property
    def verdict(self) -> str:
        """``rises``, ``falls``, or ``does not move`` beyond its interval."""
        c = self.change
        if math.isnan(c.low):
            return "does not move" if abs(c.value) < 1e-9 else "rises" if c.value > 0 else "falls"
        return "rises" if c.low > 0 else "falls" if c.high < 0 else "does not move"

    def table(self) -> Table:
        """A row for each dose, with the dose that was found."""
        plain, small = super().table(), 1e-6 * float(np.ptp(self.axis.values))
        found = [0.0 if abs(f) < small else float(f) for f in self.found.mean(0)]
        if self.held_as == self.axis.name:  # the dose itself is held against the data
            return Table((*plain.columns, "dose found"), tuple((*row, f) for row, f in zip(plain.rows, found, strict=True)))
        rows = [(*row, f, float(h)) for row, f, h in zip(plain.rows, found, self.held.mean(0), strict=True)]
        return Table((*plain.columns, "dose found", self.held_as), tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What was measured, and what it does not show."""
        return (self._answer(), *super().sentences()[:-1], self._dose(), self._bounds())

    def _answer(self) -> str:
        a, k = self.axis, np.flatnonzero(self.there)
        first, last = (int(k[0]), int(k[-1])) if len(k) > 1 else (0, len(a) - 1)
        up, down = self.turns()
        span = f"from {a.name} {a.at(first)} to {a.at(last)}" + (", where the data are" if not self.there.all() and len(k) > 1 else "")
        c = self.change
        by = f"{c.value:+.3g}" + ("" if math.isnan(c.low) else f" [{c.low:+.3g}, {c.high:+.3g}]")
        if self.verdict == "does not move":
            return f"The {self.score} does not move beyond its interval {span}: {by} in {self.cases} images."
        share = up if self.verdict == "rises" else down
        return f"The {self.score} {self.verdict} {span}: by {by}, in {share:.0%} of {self.cases} images."

    def _dose(self) -> str:
        small = 1e-6 * float(np.ptp(self.axis.values))
        least, most = (0.0 if abs(v) < small else float(v) for v in (self.found.mean(0).min(), self.found.mean(0).max()))
        span = f"{amount(least, self.axis.unit)} to {amount(most, self.axis.unit)}"
        if self.missed > MISSED:
            return f"The doses were not reached: asked for {self.axis.at(0)} to {self.axis.at(-1)}, found {span} in the changed images."
        return f"Measured in the changed images, the doses are {span}: the change is what was asked for, to {self.missed:.0%} of its range."

    def _bounds(self) -> str:
        return (
            f"Real images that differ in {self.axis.name} differ in other things too; this changes it alone, and says how the network answers,"
            " not what disease does."
        )


def dose_response(
    model: Any,
    images: Sequence[Scan],
    intervention: Intervention | str,
    target: Any,
    *,
    values: Sequence[float] | None = None,
    masks: Sequence[Mask] | None = None,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> DoseResponse:
    """The network's score over doses of one thing that is changed in images: each image's curve (ICE), and their mean (PDP) with its band.

    Each prepared image is set to each dose, everything else left as it is, and asked about. The dose is then measured in the result, and held
    against the images as they are: a point is *like a real case* where that number lies within the range of the images given.

    Args:
        model: the network, described or bare.
        images: images, tensors (c, *space) or paths; read one at a time.
        intervention: ``LesionContrast()``, ``LesionSize()``, ``RingIntensity(...)``, ``Blur()``, ``Resolution()``, ``Noise()``, ``Attenuation("T2")``,
            one of your own, or its text: ``"attenuation(channel='T2')"``.
        target: a class (its logit) or a Target, the same for all images.
        values: doses, rising, in the intervention's unit; None: those within the images and a little beyond.
        masks: of the lesion or landmark in each image (an Image on any grid, a tensor, a path: what is not 0 belongs to it). An empty mask says that there is no lesion: nothing is changed there, but a lesion of size or
            contrast 0 is within the data. Images without a mask, or whose lesion does not stand out, are left out, and counted in the provenance.
        patients: of each image, for intervals.
        run: seed, chunk, memory, progress, cancel.

    Raises:
        BadParameter: doses that do not rise; masks or patients that do not fit.
        BadImage: no image that can be changed.
        BadTarget, BadModel: as ``explain``.

    **Misleads when**: the thing that was changed comes with others in patients (a swollen lesion shifts what is beside it); far from the data
    (gray); where the change leaves traces that the network reads (a fill too smooth).

    **Source**: partial dependence (Friedman 2001) and ICE (Goldstein et al. 2015) with an intervention on the image in the place of a column.

    >>> import torch
    >>> from pellucid.effects import Noise, dose_response
    >>> net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 2))
    >>> scans = [torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    >>> dose_response(net, scans, Noise(), 1, values=[0, 0.1]).missed < 0.1
    True
    """
    began = time.perf_counter()
    scans, intervention = list(images), read_intervention(intervention)
    if not scans:
        raise BadImage("images to change", "none", "Give some.")
    if patients is not None and len(patients) != len(scans):
        raise BadParameter(f"a patient for each of {len(scans)} images", f"{len(patients)}", "Give as many.")
    marks, run = masks_of(masks, scans), run or Run()
    scoring = Scoring(model, target, run, scans[0], 2 * len(scans))
    looked = [_looked(scoring, intervention, s, m) for s, m in zip(scans, marks, strict=True)]
    kept = [i for i, one in enumerate(looked) if one is not None and one.able]
    if not kept:
        raise BadImage(f"images whose {intervention.name} can be set", "none", "Give masks= that mark it, or other images.")
    own = np.array([looked[i].own for i in kept])  # type: ignore[union-attr]
    held = np.array([one.held for one in looked if one is not None])
    doses = (
        _doses(values) if values is not None else _doses(intervention.values([scoring.ready(scans[i]) for i in kept[:16]], own.tolist()))
    )
    rows, left = [], []
    for i in kept:
        told = _asked(scoring, intervention, scans[i], marks[i], doses)
        rows.append(told)
        left += [i] if told is None else []
        scoring.tick()
    done = [(i, r) for i, r in zip(kept, rows, strict=True) if r is not None]
    if not done:
        raise BadImage(f"images whose {intervention.name} can be set", "none", "Give masks= that mark it, or other images.")
    unit = intervention.unit(scoring.ready(scans[kept[0]]))
    remarks = _remarks(len(scans), len(kept), len(done), intervention) + scoring.notes
    stay = [kept.index(i) for i, _ in done]
    method = f"dose_response({intervention!r}, doses={[float(f'{d:.6g}') for d in doses]}, images={len(done)})"
    provenance = signed(
        scoring.model, run, method, target=repr(scoring.target), image=digest(*(looked[i].mark for i, _ in done)),  # type: ignore[union-attr]
        seconds=time.perf_counter() - began, cite=CITE, notes=remarks,
    )  # fmt: skip
    return _found(
        scoring, Axis(intervention.name, np.array(doses), unit, (), own[stay]), [r for _, r in done], held,
        replace(provenance, forward=scoring.forward), None if patients is None else [patients[i] for i, _ in done], own[stay],
        intervention.held_as,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Look:
    """What an image is before anything is changed."""

    own: float
    held: float
    mark: str
    able: bool  # there is something to change


@dataclass(frozen=True, eq=False)
class _Row:
    """One image's curve: scores, doses found, numbers held against the data; each (g,)."""

    scores: list[float]
    found: list[float]
    held: list[float]


def _looked(scoring: Scoring, intervention: Intervention, scan: Scan, mask: Mask) -> _Look | None:
    image = scoring.ready(scan)
    region = laid(mask, scan, image)
    scoring.tick()
    if intervention.needs_mask and region is None:
        return None
    able = not intervention.needs_mask or (region is not None and bool(region.any()))
    return _Look(intervention.own(image, region), intervention.held(Changed(image, region)), image.fingerprint, able)


def _asked(scoring: Scoring, intervention: Intervention, scan: Scan, mask: Mask, doses: Sequence[float]) -> _Row | None:
    """The scores over all doses; None where the image cannot be changed."""
    image = scoring.ready(scan)
    region = laid(mask, scan, image)
    found, held = [], []

    def each(dose: float) -> Tensor:
        changed = intervention.apply(image, dose, region)
        found.append(intervention.measure(changed, image))
        held.append(intervention.held(changed))
        return changed.image.values

    try:
        intervention.apply(image, doses[-1], region)
    except BadImage:
        return None
    return _Row(scoring.scores(image, map(partial(each), doses)), found, held)


def _doses(values: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(v) for v in values)
    if found and all(b < a for a, b in pairwise(found)):
        found = found[::-1]
    if len(found) < 2 or not all(math.isfinite(v) for v in found) or any(b <= a for a, b in pairwise(found)):
        raise BadParameter("two doses or more that rise", repr(values), "Write values=[0, 0.5, 1].")
    return found


def _remarks(given: int, looked: int, done: int, intervention: Intervention) -> list[str]:
    return [
        *(
            [f"{given - looked} of {given} images have nothing to change (no mask, or an empty one) and were left out"]
            if looked < given
            else []
        ),
        *([f"{looked - done} images, whose {intervention.name} cannot be set, were left out"] if done < looked else []),
    ]


def _found(
    scoring: Scoring, axis: Axis, rows: Sequence[_Row], data: Floats, provenance: Any, patients: Sequence[Hashable] | None,
    own: Floats, held_as: str,
) -> DoseResponse:  # fmt: skip
    scores, found, held = (np.array([getattr(r, n) for r in rows], dtype=np.float64) for n in ("scores", "found", "held"))
    room = SLACK * max(float(np.ptp(data)), float(np.abs(data).max()))
    like = (held >= data.min() - room) & (held <= data.max() + room)
    curve = curve_of(
        scores, axis, provenance, how="intervention", score=repr(scoring.target), patients=patients, like=like,
        network=scoring.model.identity, within=scoring.within,
    )  # fmt: skip
    ends = np.flatnonzero(curve.there)
    first, last = (int(ends[0]), int(ends[-1])) if len(ends) > 1 else (0, len(axis) - 1)
    change = average(scores[:, last] - scores[:, first], curve.whose.tolist())
    doses = torch.from_numpy(axis.values)
    trend = float(np.mean([spearman(doses, torch.from_numpy(s)) if np.ptp(s) > 0 else 0.0 for s in scores]))
    base = {f.name: getattr(curve, f.name) for f in fields(curve)}
    base["evidence"] = _checked(curve.evidence, _missed(found, axis.values))
    return DoseResponse(**base, found=found, held=held, own=own, held_as=held_as, change=change, trend=trend)


def _missed(found: Floats, asked: Floats) -> float:
    return float(np.abs(found - asked).mean(0).max() / np.ptp(asked))


def _checked(evidence: Evidence, missed: float) -> Evidence:
    """The curve's evidence with whether the intervention did what it was asked to."""
    text = f"The dose found in the changed images differs from the one asked for by up to {missed:.0%} of the range."
    ok = missed <= MISSED
    row = Measurement("dose_missed", missed, "share of the range", "zero", "pass" if ok else "fail", text, MISSED, "the level")
    reasons = evidence.reasons if ok else (*evidence.reasons, text)
    return Evidence(evidence.level, (*evidence.measurements, row), "questionable" if reasons else "supported", reasons)
