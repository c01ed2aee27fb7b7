"""Surprise of the perturbation: does hiding a part of a normal image look like disease to the network?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import Scan
from pellucid.attribution.occlusion import windows
from pellucid.baseline import Setting, Starts
from pellucid.baseline import read as read_baseline
from pellucid.channels import Normalize, Pairs, span
from pellucid.errors import BadParameter
from pellucid.evidence.cues.asked import Asked, chance, read_patients
from pellucid.explanation import Map, Measurement
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.intervals import Interval, average
from pellucid.method import Method, read_method
from pellucid.model import as_model
from pellucid.params import Distance, Length, check
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

ALARMS = 0.05  # of the untouched normal images score above the level of an alarm
MUCH = 0.5  # standard deviations of the normal images' scores: a rise that is seen among them
FILLS = ("black", "half_gray", "white", "random(1)", "blurred('8px')")
NAMES = ("fill", "baseline")  # parameters by which methods say what they put in the place of the image
SHARE = 1 / 6  # of the shortest side: the edge of the window, if none is given


@dataclass(frozen=True)
class Fill:
    """What one fill did to normal images. ``rise``: mean change of the score over positions; ``worst``: mean over images of the highest change;
    ``alarms``: share of positions at which the score passes that of 95 % of the normal images as they are. ``place`` is where it rose most,
    the window's middle as a share of each side, mean over images."""

    name: str
    rise: Interval
    worst: Interval
    alarms: Interval
    spread: float
    place: tuple[float, ...]
    made: Starts

    @property
    def surprises(self) -> bool:
        """Whether the rise is clearly more than half the normal images' own spread, or alarms clearly more frequent than without it."""
        return self.rise.low > MUCH * self.spread or self.alarms.low > ALARMS

    @property
    def text(self) -> str:
        """The finding in plain words."""
        share = self.rise.value / self.spread if self.spread > 0 else math.nan
        does = "looks like the finding to the network" if self.surprises else "is not shown to look like the finding"
        return (
            f"Put on normal images, {self.name} {does}: the score changes by {self.rise} ({share:+.2f} of their own spread), "
            f"and {self.alarms.value:.0%} of the places raise an alarm ({ALARMS:.0%} of the images do as they are)."
        )


@dataclass(frozen=True, eq=False)
class Surprise:
    """What each fill did to normal images of one network and one target. ``rises`` (image, position) by fill are kept for drawing."""

    fills: Mapping[str, Fill]
    rises: Mapping[str, Tensor]
    grid: Grid
    target: str
    weights: str
    window: str
    range: Pairs | None
    normalize: Normalize | None
    forward: int

    def __getitem__(self, fill: str) -> Fill:
        return self.fills[fill]

    @property
    def text(self) -> str:
        return " ".join(f.text for f in self.fills.values())

    def table(self) -> Table:
        """A row for each fill."""
        columns = (
            "fill",
            "rise",
            "low",
            "high",
            "of the spread",
            "worst place",
            "alarms",
            "alarms low",
            "alarms high",
            "surprises",
            "finding",
        )
        rows = [
            (f.name, f.rise.value, f.rise.low, f.rise.high, f.rise.value / f.spread if f.spread > 0 else math.nan, f.worst.value,
             f.alarms.value, f.alarms.low, f.alarms.high, f.surprises, f.text)
            for f in self.fills.values()
        ]  # fmt: skip
        return Table(columns, tuple(rows))


def surprise(
    net: Any,
    normals: Sequence[Scan],
    fills: Sequence[Any] | Mapping[str, Any] | Any = FILLS,
    *,
    target: Any,
    window: Length | None = None,
    stride: Length | None = None,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> Surprise:
    """How far the abnormal score rises when a window of a NORMAL image is hidden: what a map made with that fill mistakes for the image.

    ``rise = mean over positions of s(x with the window filled) - s(x)``; intervals from 1000 draws of patients. The level of an alarm is the
    95 % point of the normal images' own scores. Windows are those of ``occlusion``, in the patient's lengths, over the prepared image (c, *space).

    Args:
        net: the Model or network.
        normals: images without the finding; nothing here can check that.
        fills: one or several baselines (``black``, ``blurred("8px")``, an Image, ...), by name if a mapping.
        target: the abnormal class, or a Target.
        window, stride: as in ``occlusion``; None: a sixth of the shortest side, and the whole window.
        patients: whose image it is.
        run: seed, chunk, memory, cancel.

    **Misleads when**: the window hides an organ: a missing heart *is* abnormal. A fill that does not surprise alone may do so in many windows
        at once (RISE, LIME). Too few normal images have no 95 % point: give twenty or more.
    **Source**: the warning of Qure.ai's review of 2019 (visualising deep learning in radiology, part 1): a screening network "would predict
        abnormality whenever such a perturbed image is presented"; the measure is ours.

    Raises:
        BadParameter: fewer than two normal images, images of several grids, or no fill.
    """
    made = _named(fills)
    who = read_patients(patients, len(normals))
    if len(normals) < 2 or not made:
        raise BadParameter("at least two normal images and one fill", f"{len(normals)} and {len(made)}", "Give more.")
    with untouched(as_model(net).module):
        asked = Asked(net, target, run, normals[0])
        first = asked.ready(normals[0])[0]
        edge = Distance(min(n * s for n, s in zip(first.grid.shape, first.grid.spacing, strict=True)) * SHARE, first.grid.unit)
        wide = edge if window is None else check("surprise", "window", Length, window)
        step = wide if stride is None else check("surprise", "stride", Length, stride)
        placed = windows(first.grid, wide, step)
        plain, rises = [], {n: torch.zeros(len(normals), len(placed), dtype=torch.float64) for n in made}
        for k, scan in enumerate(normals):
            image = asked.ready(scan)[0]
            if image.grid.shape != first.grid.shape:
                raise BadParameter(f"normal images of one shape {first.grid.shape}", f"{image.grid.shape}", "Prepare them alike.")
            plain += asked.scores(image, [image.values])
            for name, fill in made.items():
                images = fill.starts(asked.setting(image))
                found = asked.scores(image, (_hidden(image, cut, f) for cut in placed for f in images))
                rises[name][k] = torch.tensor(found, dtype=torch.float64).view(len(placed), len(images)).mean(1) - plain[-1]
    told = {n: _told(n, made[n], np.asarray(plain), r, placed, first.grid, who) for n, r in rises.items()}
    net = asked.model
    return Surprise(told, rises, first.grid, repr(asked.target), net.fingerprint, repr(wide), net.range, net.normalize, asked.forward)


def _named(fills: Any) -> dict[str, Starts]:
    if isinstance(fills, Mapping):
        return {str(n): read_baseline(f) for n, f in fills.items()}
    several = [fills] if isinstance(fills, (str, int, float, Starts, Image, Tensor)) else list(fills)
    read = [read_baseline(f) for f in several]
    return {repr(f).strip("'\""): f for f in read}


def _hidden(image: Image, cut: tuple[slice, ...], fill: Tensor) -> Tensor:
    hidden = image.values.clone()
    hidden[(slice(None), *cut)] = fill[(slice(None), *cut)].to(hidden)
    return hidden


def _told(
    name: str, made: Starts, plain: Any, rises: Tensor, placed: list[tuple[slice, ...]], grid: Grid, who: tuple[Hashable, ...]
) -> Fill:
    level = float(np.quantile(plain, 1 - ALARMS))
    after = torch.from_numpy(plain)[:, None] + rises
    worst = [placed[int(k)] for k in rises.argmax(1)]
    at = np.mean([[(c.start + c.stop) / 2 / n for c, n in zip(cut, grid.shape, strict=True)] for cut in worst], 0)
    alarms = (after > level).double().mean(1)
    return Fill(
        name,
        average(rises.mean(1).tolist(), who),
        average(rises.amax(1).tolist(), who),
        average(alarms.tolist(), who, within=(0.0, 1.0)),
        float(np.std(plain, ddof=1)),
        tuple(float(a) for a in at),
        made,
    )


def fills_of(method: Method[Any]) -> tuple[Starts, ...]:
    """What a method puts in the place of parts of the image; none for methods that leave it whole. Wrapped methods count."""
    found: list[Starts] = []
    for name, value in method.params.items():
        if name in NAMES and isinstance(value, Starts):
            found.append(value)
        elif name == "fill" and value == "blur":  # meaningful_perturbation
            found.append(read_baseline(f"blurred({method.params['sigma']!r})"))
        elif isinstance(value, Method):
            found += fills_of(value)
    return tuple(found)


def caution(why: Map, found: Surprise) -> Map:
    """The map with a caveat, if it was made with a fill that surprises the network; as it was, if it was made with none of these fills.

    The finding joins the evidence as ``surprise: <fill>``; of a fill that surprises, its sentence joins the provenance's caveats. A map counts as made
    with a fill if its method's ``fill`` or ``baseline`` gives the same image for it (blurs and noise: whatever their width or draw).

    Raises:
        BadParameter: a map of another network.
    """
    if why.provenance.weights != found.weights:
        raise BadParameter("a surprise that was measured on the map's network", "one of other weights", "Measure it on this network.")
    method = why.ask.method if why.ask is not None else read_method(why.provenance.method)
    low, high = span(why.image.values, found.range, found.normalize)
    at = Setting(why.image.values, why.image.grid, low, high, chance(0, "caution"))
    used = {k for f in fills_of(method) for k in _kinds(f, at)}
    hits = [f for f in found.fills.values() if used & _kinds(f.made, at)]
    caveats = [f"made with a fill that the network takes for a finding: {f.text}" for f in hits if f.surprises]
    measured = tuple(_measurement(f, found) for f in hits)
    if not hits:
        return why
    new = {m.name for m in measured}
    evidence = replace(why.evidence, measurements=(*(m for m in why.evidence if m.name not in new), *measured))
    weights = why.provenance.weights
    kept = dict.fromkeys([*why.provenance.caveats, *caveats])
    provenance = replace(why.provenance, caveats=tuple(kept))
    assert provenance.weights == weights
    return replace(why, evidence=evidence, provenance=provenance)


def _kinds(fill: Starts, at: Setting) -> set[str]:
    """What tells whether two fills are alike: that both blur, or are noise; else the very images that they give."""
    text = repr(fill)
    return {next((word for word in ("blurred(", "random(") if text.startswith(word)), digest(s)) for s in fill.starts(at)}


def _measurement(fill: Fill, found: Surprise) -> Measurement:
    detail = {
        "worst": fill.worst.value, "alarms": fill.alarms.value, "spread": fill.spread, "window": found.window, "target": found.target,
        "normals": fill.rise.images, "patients": fill.rise.patients,
    }  # fmt: skip
    return Measurement(
        f"surprise: {fill.name}", fill.rise.value, "score", "zero", "fail" if fill.surprises else "pass", fill.text, 0.0,
        "normal images as they are", fill.rise.low, fill.rise.high, detail,
    )  # fmt: skip
