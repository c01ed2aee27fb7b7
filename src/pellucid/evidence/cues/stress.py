"""Stress curves: how much noise, blur, rotation, coarseness or lost contrast does the network bear?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pellucid.asking import Scan
from pellucid.channels import span
from pellucid.errors import BadParameter
from pellucid.evidence.cues.asked import Asked, chance, read_labels, read_patients
from pellucid.image import Image
from pellucid.intervals import Interval, auc, average
from pellucid.model import as_model
from pellucid.ops.blur import gaussian
from pellucid.ops.resample import pull
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

Stressor = Callable[[Image, float, int], Image]  # image, strength, seed -> image


def noisy(image: Image, strength: float, seed: int) -> Image:
    """Gaussian noise whose standard deviation is ``strength`` of the range of values, clipped to it; the same draw at every strength."""
    low, high = span(image.values)
    draw = torch.randn(image.values.shape, generator=chance(seed, f"noise {image.fingerprint}"), dtype=torch.float64)
    return image.with_values((image.values + strength * (high - low) * draw).clamp(low, high).to(image.values.dtype))


def out_of_focus(image: Image, strength: float, seed: int) -> Image:
    """A Gaussian blur whose width is ``strength`` of the shortest side, the same in all directions of the patient."""
    shortest = min(n * s for n, s in zip(image.grid.shape, image.grid.spacing, strict=True))
    return image.with_values(gaussian(image.values, [strength * shortest / s for s in image.grid.spacing]))


def turned(image: Image, strength: float, seed: int) -> Image:
    """Turned by ``strength`` degrees in the plane of the first two axes, to a side drawn for each image; edges repeat."""
    side = 1 if bool(torch.randint(2, (1,), generator=chance(seed, f"side {image.fingerprint}"))) else -1
    angle, d = side * math.radians(strength), image.grid.ndim
    spacing = np.asarray(image.grid.spacing)
    turn = np.eye(d)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix, middle = np.eye(d + 1), (np.asarray(image.grid.shape) - 1) / 2
    matrix[:d, :d] = turn * spacing[None, :] / spacing[:, None]
    matrix[:d, d] = middle - matrix[:d, :d] @ middle
    return image.with_values(pull(image.values, image.grid.shape, matrix))


def coarse(image: Image, strength: float, seed: int) -> Image:
    """Samples ``strength`` times as far apart along every axis, smoothed before, and read back on the image's own grid."""
    shape = [max(1, round(n / strength)) for n in image.grid.shape]
    width = [(n / m) / 2 if m < n else 0.0 for n, m in zip(image.grid.shape, shape, strict=True)]
    smooth = image.with_values(gaussian(image.values, width))
    return image.with_values(smooth.on(image.grid.resize(shape)).on(image.grid).values)


def flat(image: Image, strength: float, seed: int) -> Image:
    """Contrast divided by ``strength``, around each channel's mean."""
    mean = image.values.flatten(1).mean(1).view(-1, *[1] * image.grid.ndim)
    return image.with_values(mean + (image.values - mean) / strength)


STRESSORS: Mapping[str, tuple[Stressor, tuple[float, ...], str]] = MappingProxyType({
    "noise": (noisy, (0.02, 0.05, 0.1, 0.2, 0.4), "of the range of values"),
    "blur": (out_of_focus, (1 / 160, 1 / 80, 1 / 40, 1 / 20, 1 / 10), "of the shortest side"),
    "rotation": (turned, (5.0, 10.0, 20.0, 45.0, 90.0), "degrees"),
    "resolution": (coarse, (2.0, 4.0, 8.0, 16.0), "times coarser"),
    "contrast": (flat, (1.25, 1.7, 2.5, 5.0, 10.0), "times less"),
})  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """The AUC (or mean score) at each strength; ``breaks`` is the first at which the interval's upper end lies below the lower end of that of the
    images as they are, None where there is none."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    values: tuple[Interval, ...]
    clean: Interval

    @property
    def breaks(self) -> float | None:
        return next((s for s, v in zip(self.strengths, self.values, strict=True) if v.high < self.clean.low), None)

    @property
    def text(self) -> str:
        """The finding in plain words."""
        if self.breaks is None:
            return f"It bears {self.name} up to {self.strengths[-1]:g} {self.unit}: no fall beyond chance was seen."
        at = self.strengths.index(self.breaks)
        borne = f"after {self.strengths[at - 1]:g}" if at else "before the weakest that was tried"
        return f"It breaks at {self.name} of {self.breaks:g} {self.unit}, {borne}: {self.clean} becomes {self.values[at]}."


@dataclass(frozen=True, eq=False)
class Stress:
    """A curve for each kind of stress. ``of`` is what is drawn: AUC or mean score."""

    curves: Mapping[str, Curve]
    of: str
    target: str
    forward: int

    def __getitem__(self, name: str) -> Curve:
        return self.curves[name]

    @property
    def text(self) -> str:
        return " ".join(c.text for c in self.curves.values())

    def table(self) -> Table:
        """A row for each kind and strength, the images as they are first."""
        rows: list[tuple[Any, ...]] = []
        for c in self.curves.values():
            rows.append((c.name, 0.0, "", c.clean.value, c.clean.low, c.clean.high, False))
            rows += [(c.name, s, c.unit, v.value, v.low, v.high, c.breaks == s) for s, v in zip(c.strengths, c.values, strict=True)]
        return Table(("stress", "strength", "unit", self.of, "low", "high", "breaks here"), tuple(rows))


def stress(
    net: Any,
    images: Sequence[Scan],
    labels: Sequence[int] | None = None,
    *,
    target: Any,
    kinds: Sequence[str] | Mapping[str, Stressor] | None = None,
    strengths: Mapping[str, Sequence[float]] | None = None,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> Stress:
    """AUC (without labels: mean score) against noise, blur, rotation, resolution and contrast, and where it breaks.

    The breaking point is the first strength at which the upper end of the 95 % interval over patients lies below the lower end of that of the
    images as they are. Changes are made of the prepared image (c, *space); blur and rotation are the same in all directions of the patient.

    Args:
        net, images, target: as for ``cues``.
        labels: 1 where the finding is; None where there are no labels: give images with the finding, and the mean score is drawn.
        kinds: of ``STRESSORS``, or functions (image, strength, seed) -> Image by name, with their ``strengths``.
        strengths: rising, by kind; None: those of ``STRESSORS``.
        patients: whose image it is.
        run: seed, chunk, memory, cancel.

    **Misleads when**: intervals are wide: with few patients nothing breaks. A break that two intervals show is a late one; a smaller fall may be
        real. Noise on a file is not the noise of a scanner.
    **Source**: Hendrycks and Dietterich 2019 (ICLR), corruptions in rising severity; here in the patient's lengths, with intervals.

    Raises:
        BadParameter: an unknown kind, strengths that do not rise, labels or patients that do not fit.
    """
    y = None if labels is None else read_labels(labels, len(images))
    who, made = read_patients(patients, len(images)), _chosen(kinds, strengths or {})
    with untouched(as_model(net).module):
        asked = Asked(net, target, run, images[0])
        seed = asked.run.seed
        steps = [(n, s) for n, (_, strong, _) in made.items() for s in strong]
        found: list[list[float]] = []
        for scan in images:
            image = asked.ready(scan)[0]
            found.append(
                asked.scores(image, (image.values if n is None else made[n][0](image, s, seed).values for n, s in [(None, 0.0), *steps]))
            )
    columns = list(zip(*found, strict=True))
    each = [average(c, who) if y is None else auc(c, y, who) for c in columns]
    told = dict(zip(steps, each[1:], strict=True))
    curves = {n: Curve(n, unit, strong, tuple(told[n, s] for s in strong), each[0]) for n, (_, strong, unit) in made.items()}
    return Stress(curves, "mean score" if y is None else "AUC", repr(asked.target), asked.forward)


def _chosen(
    kinds: Sequence[str] | Mapping[str, Stressor] | None, strengths: Mapping[str, Sequence[float]]
) -> dict[str, tuple[Stressor, tuple[float, ...], str]]:
    if isinstance(kinds, Mapping):
        known = {n: (f, tuple(strengths.get(n, ())), "") for n, f in kinds.items()}
    else:
        unknown = set(kinds or ()) - set(STRESSORS)
        if unknown:
            raise BadParameter(f"stress among {', '.join(STRESSORS)}", ", ".join(sorted(unknown)), "Or give functions by name.")
        known = {n: (f, tuple(strengths.get(n, s)), u) for n, (f, s, u) in STRESSORS.items() if kinds is None or n in kinds}
    for name, (_, strong, _) in known.items():
        if not strong or list(strong) != sorted(set(strong)):
            raise BadParameter(f"rising strengths of {name}", repr(strong), f"Give strengths={{{name!r}: (...)}}.")
    return known
