"""The first lines of a report: what the network says, how sure it is, where it looked, how far that can be trusted. Plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.errors import BadParameter
from pellucid.evidence.predictions import Calibration, Temperature
from pellucid.explanation import Map
from pellucid.report.planes import lay_out
from pellucid.report.words import number, percent, short_target

SURE = ((0.95, "It is very sure"), (0.8, "It is fairly sure"), (0.6, "It leans that way, not more"), (0.0, "It is undecided"))
TRUST = {
    "supported": "The picture below can be read as what this network relied on: the checks agree",
    "questionable": "Read the picture below with reserve: some checks stay open",
    "not supported": "Do not rely on the picture below: the checks speak against it",
    "void": "The picture below could not be examined, so nothing follows from it",
    "not examined": "Nobody has checked the picture below. It can look convincing and still be wrong",
}
NEAR = 0.15  # of the diagonal


@dataclass(frozen=True)
class Place:
    """Where half of what speaks for the target lies: its share of the picture, and its center, as shares of the laid-out axes."""

    share: float
    center: tuple[float, ...]
    words: str
    signed: bool


def summary(maps: Sequence[Map], temperature: Temperature | None, calibration: Calibration | None) -> dict[str, Any]:
    """The sentences, each with a question that it answers."""
    first = maps[0]
    place = where(first)
    rows = [
        ("What does the network say?", *_says(first, temperature)),
        ("How sure is it?", *_sure(first, temperature, calibration)),
        ("Where did it look?", *_looked(maps, place)),
        ("Can that be trusted?", *_trusted(maps)),
    ]
    return {"rows": [{"question": q, "strong": _held(strong), "more": _held(more)} for q, strong, more in rows]}


def _held(text: str) -> str:
    """A number and its percent sign stay on one line."""
    return text.replace(" %", "\u00a0%")


def calibrated(m: Map, temperature: Temperature) -> tuple[float, ...]:
    """A map's probabilities under a learned scaling of the logits; only ratios of probabilities are needed where one scale holds for all.

    Raises:
        BadParameter: a scaling of other classes, or one that probabilities alone do not determine.
    """
    p = np.asarray(m.probabilities, dtype=np.float64)
    if len(temperature.scale) != len(p):
        raise BadParameter(f"a temperature for {len(p)} classes", f"one for {len(temperature.scale)}", "Learn it for this network.")
    scale, bias = np.asarray(temperature.scale), np.asarray(temperature.bias)
    tiny = np.clip(p, 1e-300, 1 - 1e-16)
    if not temperature.exclusive:
        z = (np.log(tiny) - np.log1p(-tiny)) * scale + bias
        return tuple((1 / (1 + np.exp(-z))).tolist())
    if len(set(temperature.scale)) > 1:
        fix = "Explain temperature.model(net) instead."
        raise BadParameter("one temperature for all classes, where probabilities are scaled afterwards", f"how={temperature.how!r}", fix)
    z = np.log(tiny) * scale + bias
    e = np.exp(z - z.max())
    return tuple((e / e.sum()).tolist())


def _given(m: Map, temperature: Temperature | None) -> tuple[tuple[str, ...], tuple[float, ...], bool]:
    """Names, probabilities, and whether the classes exclude each other."""
    p = m.probabilities
    names = tuple(m.provenance.classes[k] if k < len(m.provenance.classes) else f"class {k}" for k in range(len(p)))
    if temperature is not None and p:
        return names, calibrated(m, temperature), temperature.exclusive
    return names, p, bool(p) and abs(sum(p) - 1) < 0.01


def _says(m: Map, temperature: Temperature | None) -> tuple[str, str]:
    names, p, exclusive = _given(m, temperature)
    target, unit = short_target(m.provenance)
    if not p:
        return f"Its score for {target} is {number(m.score)} ({unit}).", "This network gives no class probabilities."
    ranked = sorted(range(len(p)), key=lambda k: -p[k])
    best = ranked[0]
    if exclusive:
        strong, more = f"{names[best]}: {percent(p[best])}", "It knows this one answer only."
        if len(p) > 1:
            more = f"Of the {len(p)} answers that it can give, the next is {names[ranked[1]]} with {percent(p[ranked[1]])}."
    else:
        found = [k for k in ranked if p[k] >= 0.5]
        strong = (
            ", ".join(f"{names[k]} {percent(p[k])}" for k in found[:4])
            or f"Nothing above 50 %; most likely {names[best]}, {percent(p[best])}"
        )
        more = "Each finding is judged by itself; several can hold at once."
    if target not in names or (exclusive and target != names[best]):
        more += f" Explained below is {target}" + (f", which it gives {percent(p[names.index(target)])}." if target in names else ".")
    return strong, more


def _sure(m: Map, temperature: Temperature | None, calibration: Calibration | None) -> tuple[str, str]:
    _, p, exclusive = _given(m, temperature)
    if not p:
        return "It does not say.", ""
    top = max(p) if exclusive else min(max(v, 1 - v) for v in p)  # of several findings, the least certain
    strong = next(words for least, words in SURE if top >= least) + "."
    if temperature is not None:
        n = temperature.cases
        return strong, f"Its percentages were corrected with {n} other cases whose truth is known, so that they come true more nearly."
    if calibration is not None:
        return strong, calibration.ece.text
    return strong, "By its own account: whether such percentages come true as often was not checked here."


def where(m: Map) -> Place:
    """The smallest part of the map that holds half of what speaks for the target (of all relevance, if nothing speaks for it)."""
    layout = lay_out(m.image)  # whose axes the map's grid follows
    values = m.values.detach().cpu().sum(0).double()
    signed = bool((values > 0).any())
    mass = layout.array((values.clamp(min=0) if signed else values.abs()).numpy()) if values.ndim == m.image.grid.ndim else values.numpy()
    flat = mass.reshape(-1)
    order = np.argsort(-flat, kind="stable")
    total = float(flat.sum())
    if total <= 0:
        return Place(1.0, (0.5,) * mass.ndim, "", signed)
    count = int(np.searchsorted(np.cumsum(flat[order]), 0.5 * total)) + 1
    chosen = order[:count]
    at = np.stack(np.unravel_index(chosen, mass.shape)).astype(float)
    weights = flat[chosen] / flat[chosen].sum()
    center = tuple(float((row * weights).sum() + 0.5) / n for row, n in zip(at, mass.shape, strict=True))
    return Place(count / flat.size, center, _in_words(center, layout, mass.ndim), signed)


def _third(at: float, words: tuple[str, str, str]) -> str:
    return words[0] if at < 0.4 else words[1] if at <= 0.6 else words[2]


def _in_words(center: Sequence[float], layout: Any, rank: int) -> str:
    """A place as a person says it; sides of the patient only where the scan knows them."""
    if rank == 3 and layout.sided:
        said = [_third(center[0], ("on the patient's right", "", "on the patient's left")), _third(center[1], ("in front", "", "at the back")),
                _third(center[2], ("low", "", "high"))]  # fmt: skip
        return ", ".join(s for s in said if s) or "near the middle"
    if rank == 3:
        return ""
    down, across = _third(center[0], ("upper", "", "lower")), _third(center[1], ("left", "", "right"))
    if not down and not across:
        return "near the middle of the picture"
    return f"in the {' '.join(w for w in (down, across) if w)} part of the picture"


def _looked(maps: Sequence[Map], place: Place) -> tuple[str, str]:
    m = maps[0]
    target, _ = short_target(m.provenance)
    what = f"what speaks for {target}" if place.signed else "all relevance"
    whole = "volume" if m.scan.grid.ndim == 3 else "picture"
    share = f"{100 * place.share:.1f} %" if place.share >= 0.001 else "less than 0.1 %"
    if place.share > 0.15:
        strong = f"In many places: half of {what} is spread over {share} of the {whole}."
    else:
        spot = f", {place.words}" if place.words else ""
        strong = f"Half of {what} lies in {share} of the {whole}{spot}."
    others = [where(o) for o in maps[1:] if o.grid.ndim == m.grid.ndim and short_target(o.provenance)[0] == target]
    near = sum(math.dist(o.center, place.center) <= NEAR * math.sqrt(len(place.center)) for o in others)
    more = ""
    if others:
        count = {0: "None", len(others): "All" if len(others) > 1 else "The"}.get(near, str(near))
        kind = "other map" if len(others) == 1 else f"of the {len(others)} other maps"
        text = f"{count} {kind} point{'s' if near == 1 or len(others) == 1 else ''} to about the same place."
        more = text if near or len(others) > 1 else "The other map points elsewhere."
    return strong, more


def _trusted(maps: Sequence[Map]) -> tuple[str, str]:
    words = [m.evidence.verdict or "not examined" for m in maps]
    strong = TRUST[words[0]] + "."
    if len(maps) == 1:
        return strong, "It shows what the network used, which need not be what matters in the patient."
    counted = [f"{words.count(w)} {w}" for w in TRUST if w in words]
    return (
        strong,
        f"Of {len(maps)} maps: {', '.join(counted)}. They show what the network used, which need not be what matters in the patient.",
    )
