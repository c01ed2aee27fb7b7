"""Image quality: is this a scan that the network, and an explanation of it, can be held to? Numbers, units, limits and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.features import numbers
from pellucid.table import Table

Level = Literal["ok", "note", "refuse"]
AXES = "ijk"
UNITS = {
    "extent": "", "spacing": "", "spacing ratio": "", "low": "", "high": "", "center": "of the range", "edges": "of the variance",
    "fine detail": "of the power", "noise": "of the range", "clipped low": "of the samples", "clipped high": "of the samples",
    "empty border": "of the image", "likeness": "correlation", "tilt": "degrees",
}  # fmt: skip
LOGS = ("spacing", "extent", "spacing ratio", "edges", "fine detail", "noise")  # judged as ratios
FLOOR = {"clipped low": 0.02, "clipped high": 0.02, "empty border": 0.05, "center": 0.02, "tilt": 1.0}  # the least width of the quartiles
ONE_SIDED = ("noise", "clipped low", "clipped high", "empty border", "spacing ratio", "tilt")  # only more is worse
NEAR, FAR = (
    1.5,
    5.0,
)  # interquartile ranges beyond the quartiles: worth a note, and a refusal (Tukey's 3 refused 2 of 27 held-out scans in trials)
EXPOSURE = ("low", "high", "center")  # of values without a physical unit: a matter of exposure, never a reason to refuse
PHYSICAL = ("HU", "SUV")


class Lies(Protocol):
    """Where a scan lies: what is needed of a Grid."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def spacing(self) -> tuple[float, ...]: ...
    @property
    def unit(self) -> Any: ...
    @property
    def orientation(self) -> str: ...
    @property
    def matrix(self) -> Any: ...


class Scanned(Protocol):
    """What is needed of an Image."""

    @property
    def values(self) -> Tensor: ...
    @property
    def grid(self) -> Lies: ...
    @property
    def quantity(self) -> str: ...
    @property
    def background(self) -> Tensor | None: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its number with unit and limits (None: no limit, or no number), the level, and a sentence."""

    name: str
    level: Level
    text: str
    value: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Quality:
    """All findings of one image. ``level`` is the worst of them: ``refuse`` means that nothing said about this image can be relied on."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        levels = [f.level for f in self.findings]
        return "refuse" if "refuse" in levels else "note" if "note" in levels else "ok"

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        for f in self.findings:
            if f.name == name:
                return f
        raise KeyError(f"no finding {name!r}; there are {', '.join(f.name for f in self.findings)}")

    @property
    def remarks(self) -> tuple[str, ...]:
        """The sentences of all that is not ok."""
        return tuple(f.text for f in self.findings if f.level != "ok")

    def table(self) -> Table:
        rows = tuple((f.name, f.level, f.value, f.unit, f.low, f.high, f.text) for f in self.findings)
        return Table(("finding", "level", "value", "unit", "low", "high", "text"), rows)


@dataclass(frozen=True)
class QualityLimits:
    """What images should be like. What is None or missing is not asked for.

    ``numbers``: name -> (note below, refuse below, note above, refuse above), None for no limit; the names are those of ``measures``.
    ``orientations`` such as ``("RAS",)``; ``quantity`` such as ``"HU"``; ``look``: the mean thumbnail of the reference, flattened.
    """

    numbers: Mapping[str, tuple[float | None, float | None, float | None, float | None]] = field(default_factory=dict)
    orientations: tuple[str, ...] = ()
    quantity: str | None = None
    unit: str | None = None
    channels: int | None = None
    ndim: int | None = None
    look: tuple[float, ...] = ()
    alike: float | None = None  # the lowest likeness to the look among the reference
    cases: int = 0

    @classmethod
    def learned(cls, images: Iterable[Scanned]) -> QualityLimits:
        """Limits from a reference set, one image at a time: Tukey's fences, a note beyond 1.5 and a refusal beyond 5 interquartile ranges.

        Lengths, noise and sharpness are judged as ratios (on a log scale). What never changes may change by 1 %. Of what a single value is
        seen (orientation, quantity, unit, channels), that value is asked for.

        Raises:
            BadParameter: fewer than eight images, of which no quartiles can be told.
        """
        rows: list[dict[str, float]] = []
        facts: list[tuple[Any, ...]] = []
        thumbs: list[Tensor] = []
        for image in images:
            rows.append(measures(image))
            g = image.grid
            facts.append((g.orientation, image.quantity, str(g.unit), len(image.values), len(g.shape)))
            thumbs.append(numbers.thumb(_gray(image)))
        if len(rows) < 8:
            raise BadParameter(
                "limits learned from eight images or more", f"{len(rows)}", "Give more, or write the limits: QualityLimits(numbers=...)."
            )
        spans = sorted(r["high"] - r["low"] for r in rows)
        floors = FLOOR | dict.fromkeys(("low", "high"), 0.02 * spans[len(spans) // 2])
        shared = [name for name in rows[0] if all(name in r for r in rows)]
        limits = {name: _fences(name, [r[name] for r in rows], floors.get(name, 0.0)) for name in shared}
        seen = [tuple(dict.fromkeys(f[i] for f in facts)) for i in range(5)]
        one: list[Any] = [v[0] if len(v) == 1 else None for v in seen]
        same = len({t.shape for t in thumbs}) == 1
        look = torch.stack(thumbs).mean(0) if same else torch.zeros(0)
        # each image against the mean of the others, else it would look like itself
        others = [_cosine(t, look * len(thumbs) - t) for t in thumbs] if same else []
        known = tuple(look.flatten().tolist()) if same and float(look.norm()) > 0.2 else ()
        return cls(limits, seen[0], one[1], one[2], one[3], one[4], known, min(others) if known else None, len(rows))


def _fences(name: str, values: list[float], floor: float) -> tuple[float | None, float | None, float | None, float | None]:
    kept = sorted(v for v in values if math.isfinite(v))
    if not kept:
        return None, None, None, None
    log = name.split()[0] in LOGS or name in LOGS
    x = torch.tensor([math.log(max(v, 1e-12)) for v in kept] if log else kept, dtype=torch.float64)
    a, b = (float(torch.quantile(x, q)) for q in (0.25, 0.75))
    least = 0.01 if log else max(0.01 * max(abs(float(x[0])), abs(float(x[-1]))), 1e-9)
    r = max(b - a, least, 0.0 if log else floor)
    ends = [
        min(a - NEAR * r, float(x[0]) - 1e-9),
        a - FAR * r,
        max(b + NEAR * r, float(x[-1]) + 1e-9),
        b + FAR * r,
    ]  # nothing seen in the reference is remarkable
    ends[1], ends[3] = min(ends[1], ends[0]), max(ends[3], ends[2])
    low, low_far, high, high_far = [math.exp(e) for e in ends] if log else ends
    return (None, None, high, high_far) if name in ONE_SIDED else (low, low_far, high, high_far)


def _inside(image: Scanned) -> Tensor | None:
    return None if image.background is None or bool(image.background.all()) else ~image.background


def _gray(image: Scanned) -> Tensor:
    low, high = numbers.ends(image.values, _inside(image))
    return numbers.scaled(image.values, low, high).clamp(0, 1)


def measures(image: Scanned) -> dict[str, float]:
    """All numbers that limits may be set on: geometry in the grid's unit; values in the image's own; the rest as shares."""
    x, grid, inside = image.values, image.grid, _inside(image)
    low, high = numbers.ends(x, inside)
    found = {f"spacing {AXES[a]}": s for a, s in enumerate(grid.spacing)} if grid.unit == "mm" else {}
    found |= {f"extent {AXES[a]}": n * s for a, (n, s) in enumerate(zip(grid.shape, grid.spacing, strict=True))}
    found |= {"spacing ratio": max(grid.spacing) / min(grid.spacing), "low": low, "high": high}
    if grid.unit == "mm":
        found["tilt"] = tilt(grid)
    if high > low:
        y = numbers.scaled(numbers.block(x), low, high)
        middle = float(numbers.scaled(x, low, high).clamp(0, 1).mean())
        found |= {"center": middle, "edges": numbers.laplacian(y), "fine detail": numbers.fine(y), "noise": numbers.noise(y)}
    bottom, top = numbers.clipped(x, inside)
    return found | {"clipped low": bottom, "clipped high": top, "empty border": numbers.margins(x, image.background)}


def tilt(grid: Lies) -> float:
    """The largest angle between an axis of the grid and the nearest axis of the patient, in degrees."""
    most = 0.0
    for a, s in enumerate(grid.spacing):
        column = [abs(float(v)) / s for v in grid.matrix[:3, a]]
        most = max(most, math.degrees(math.acos(min(1.0, max(column)))))
    return most


def check(image: Scanned, expected: QualityLimits | None = None) -> Quality:
    """Everything that can be told of one image before it is explained; ``expected``: what the network was trained on."""
    limits = expected or QualityLimits()
    found = [_empty(image), *_geometry(image, limits), *_meaning(image, limits)]
    if found[0].level != "refuse":
        found += [_number(image, name, value, limits) for name, value in measures(image).items()]
        found += _looks(image, limits)
    return Quality(tuple(found))


def _empty(image: Scanned) -> Finding:
    flat = [i for i, c in enumerate(image.values) if float(c.max()) == float(c.min())]
    count = len(image.values)
    if len(flat) == count:
        return Finding(
            "content", "refuse", "The image has one value all over: there is nothing in it.", float(len(flat)), "channels", None, 0.0
        )
    if flat:
        text = f"Channel {', '.join(map(str, flat))} has one value all over: a sequence or color is missing."
        return Finding("content", "refuse", text, float(len(flat)), "channels", None, 0.0)
    return Finding("content", "ok", "Every channel holds something.", 0.0, "channels", None, 0.0)


def _geometry(image: Scanned, limits: QualityLimits) -> list[Finding]:
    grid = image.grid
    found = []
    if limits.ndim is not None and len(grid.shape) != limits.ndim:
        found.append(
            Finding("dimensions", "refuse", f"The image is {len(grid.shape)}D; {limits.ndim}D was expected.", len(grid.shape), "D")
        )
    if grid.unit != "mm":
        known = limits.unit == "mm"
        text = "The file does not say where right, left, front and back are, nor how far samples lie apart" + (
            ", though the reference does." if known else "; sizes are in samples."
        )
        level: Level = "refuse" if known else "ok" if limits.unit == "px" else "note"
        found.append(Finding("orientation", level, text))
    else:
        way = grid.orientation
        if limits.orientations and way not in limits.orientations:
            text = f"The axes run {way}; the reference has {', '.join(limits.orientations)}. Turn it: Prepare(orientation=...)."
            found.append(Finding("orientation", "refuse", text))
        else:
            found.append(Finding("orientation", "ok", f"The axes run {way}."))
    odd = [
        n for n in image.notes if any(w in n for w in ("missing", "irregular", "uneven", "spac", "without positions", "two affines", "gap"))
    ]
    if odd:
        found.append(Finding("sampling", "note", f"The reader remarked: {'; '.join(odd)}."))
    return found


def _meaning(image: Scanned, limits: QualityLimits) -> list[Finding]:
    low, high = float(image.values.min()), float(image.values.max())
    found = []
    if limits.channels is not None and len(image.values) != limits.channels:
        found.append(Finding("channels", "refuse", f"{len(image.values)} channels; {limits.channels} were expected.", len(image.values)))
    text, level, said = "", "ok", image.quantity
    if said == "HU" and low >= -50:
        text, level = (
            f"Said to be HU, yet the lowest value is {low:g}: no air. The rescaling of the file was lost, or it was windowed.",
            "refuse",
        )
    elif said != "HU" and -1100 <= low <= -900 and high > 200:
        text, level = f"Said to be {said}, yet values run from {low:g} to {high:g} as HU do.", "note"
    elif said == "SUV" and low < -0.01:
        text, level = f"SUV cannot be negative; the lowest is {low:g}.", "refuse"
    if limits.quantity is not None and said != limits.quantity and level != "refuse":
        text, level = f"Values are {said}; {limits.quantity} was expected.", "refuse"
    found.append(Finding("quantity", level, text or f"Values are {said}, from {low:g} to {high:g}."))  # type: ignore[arg-type]
    if str(image.facts.get("photometric", "")) in ("MONOCHROME1", "MINISWHITE") and "polarity" not in image.facts:
        text = "Bright means air in this file (MONOCHROME1); say what the network was trained on: Prepare(inverted=...)."
        found.append(Finding("polarity", "note", text))
    return found


WORDS = {
    "center": "mean brightness", "edges": "sharpness of edges", "fine detail": "power in fine detail", "low": "1st percentile", "high": "99th percentile",
    "spacing ratio": "coarsest over finest spacing", "clipped low": "share of samples at the lowest value", "clipped high": "share of samples at the highest value",
    "empty border": "empty rim", "tilt": "tilt against the patient's axes",
}  # fmt: skip
PLAIN: dict[str, tuple[float, float]] = {
    "spacing ratio": (3.0, math.inf),
    "clipped high": (0.05, 0.5),
    "empty border": (0.5, 0.95),
}  # without a reference
WHY = {
    ("edges", "low"): "it may be blurred", ("edges", "high"): "it may be noisy or overly sharpened", ("fine detail", "low"): "it may be blurred or enlarged",
    ("fine detail", "high"): "it may be noisy or made smaller without smoothing", ("noise", "high"): "it is noisier", ("clipped high", "high"): "it may be saturated",
    ("clipped low", "high"): "dark parts may be cut off", ("empty border", "high"): "much of it is padding", ("spacing ratio", "high"): "slices are thick",
}  # fmt: skip


def _number(image: Scanned, name: str, value: float, limits: QualityLimits) -> Finding:
    kind = name.split()[0] if name.split()[0] in ("extent", "spacing") and name != "spacing ratio" else name
    unit = str(image.grid.unit) if kind in ("extent", "spacing") else image.quantity if name in ("low", "high") else UNITS.get(name, "")
    if name in limits.numbers:
        low, low_far, high, high_far = limits.numbers[name]
        whose = f"{limits.cases} reference images have" if limits.cases else "expected:"
    else:
        note, far = PLAIN.get(name, (math.inf, math.inf))
        low, low_far, high, high_far = None, None, None if math.isinf(note) else note, None if math.isinf(far) else far
        whose = "usual:"
    side = "low" if low is not None and value < low else "high" if high is not None and value > high else ""
    far_off = (side == "low" and low_far is not None and value < low_far) or (side == "high" and high_far is not None and value > high_far)
    exposure = name in EXPOSURE and image.quantity not in PHYSICAL
    level: Level = "refuse" if far_off and not exposure else "note" if side else "ok"
    what = WORDS.get(name, name)
    said = f"{what.capitalize()}: {value:.3g} {unit}".rstrip()
    if side:
        limit = f"at least {low:.3g}" if side == "low" else f"at most {high:.3g}"
        said += f", {whose} {limit}" + (f"; {WHY[name, side]}" if (name, side) in WHY else "")
    return Finding(name, level, said + ".", value, unit, low, high)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-300))


def _looks(image: Scanned, limits: QualityLimits) -> list[Finding]:
    """Upright, reversed in brightness or mirrored, as the reference's mean thumbnail tells."""
    if not limits.look or limits.alike is None:
        return []
    small = numbers.thumb(_gray(image))
    if small.numel() != len(limits.look):
        return []
    look = torch.tensor(limits.look, dtype=torch.float64).view(small.shape)
    own = _cosine(small, look)
    turned = {f"mirrored along {AXES[a]}": _cosine(small.flip(a), look) for a in range(small.ndim)}
    pairs = [(a, b) for a in range(small.ndim) for b in range(a + 1, small.ndim)]
    turned |= {f"turned from {AXES[a]} to {AXES[b]}": _cosine(small.transpose(a, b), look) for a, b in pairs}
    best = max(turned, key=lambda k: turned[k])
    level: Level = "ok"
    text = f"It looks as the reference does (correlation of thumbnails {own:.2f}; reference at least {limits.alike:.2f})."
    if own < limits.alike:
        level, text = "note", f"It looks unlike the reference: correlation of thumbnails {own:.2f}, reference at least {limits.alike:.2f}."
        nearer = (1 + own) / 2  # at least half of what is missing must be explained: a merely odd patient is not a turned one
        if -own >= nearer and -own > turned[best]:
            level, text = "refuse", f"Bright and dark look exchanged: correlation with the reference {own:.2f}."
        elif turned[best] >= nearer:
            level, text = "refuse", f"It looks {best}: correlation with the reference {own:.2f}, so turned {turned[best]:.2f}."
    return [Finding("likeness", level, text, own, "correlation", limits.alike, None)]
