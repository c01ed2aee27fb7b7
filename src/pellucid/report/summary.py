"""The first lines of a report: what the network says, how sure it is, where it looked, how far that can be trusted. Plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pellucid.errors import BadParameter
from pellucid.evidence.predictions import Calibration, Temperature
from pellucid.explanation import Map
from pellucid.report.meaning import meaning
from pellucid.report.pictures import first_factors, relevance_on
from pellucid.report.places import in_words
from pellucid.report.planes import lay_out
from pellucid.report.words import (
    MEASURED,
    UNDECLARED,
    class_names,
    exclusive,
    findings,
    named,
    none_of,
    number,
    of_samples,
    percent,
    scored,
    short_target,
    unsaid,
)

SURE = ((0.95, "very sure"), (0.8, "fairly sure"), (0.6, "leaning"), (0.0, "undecided"))  # of what is more likely than not
TRUST = {
    "supported": "The picture below can be read as what this network relied on: the checks agree",
    "questionable": "Read the picture below with reserve: some checks stay open",
    "not supported": "Do not rely on the picture below: the checks speak against it",
    "void": "The picture below could not be examined, so nothing follows from it",
    "not examined": "Nobody has checked the picture below. It can look convincing and still be wrong",
}
WORST = ("not supported", "void", "not examined", "questionable", "supported")
REJECTED = ("not supported", "void")
DIFFUSE = 0.15  # of the picture: what covers more than this points nowhere
CELLS = 32  # along each axis, in which places are compared
TIE = 1e-3  # relative: samples that differ by less are equally strong
SUPPORTED = "It shows what the network used, which need not be what matters in the patient."
EVEN = "Even a supported map shows what the network used, which need not be what matters in the patient."


@dataclass(frozen=True, eq=False)
class Place:
    """Where half of what a map marks lies: its samples in viewing order, their share of the picture, and a place in words.

    ``held`` is how much of it they hold, more than half where samples tie. ``nowhere`` says why there is no such place; ``part`` is None then.
    """

    part: np.ndarray | None
    share: float
    words: str
    marks: str
    held: float = 0.5
    nowhere: str = ""


def summary(
    maps: Sequence[Map], temperature: Temperature | None, calibration: Calibration | None, names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The sentences, each with a question that it answers: for every map that can be chosen, and for all of them side by side."""
    places = [where(m) for m in maps]
    words = [verdict(m) for m in maps]
    first = [(_says(m, temperature), _sure(m, temperature, calibration)) for m in maps]
    found = [
        _block(str(n), *first[n], _looked(maps, places, n), _trusted(words, n), [(words[n], "")])
        for n in range(len(maps))
    ]  # fmt: skip
    if len(maps) > 1:
        one = all(f == first[0] for f in first)
        says, sure = first[0] if one else (_say_all(maps, temperature), ("Choose one map to read how sure it is of that answer.", ""))
        counted = [(w, f"{words.count(w)} of {len(maps)}") for w in WORST if w in words]
        found.append(
            _block(
                "all",
                says,
                sure,
                _all_looked(maps, places),
                _all_trusted(words, names or [named(m.provenance.method) for m in maps]),
                counted,
            )
        )
    return found


def verdict(m: Map) -> str:
    """A map's verdict as a word."""
    return m.evidence.verdict or "not examined"


def _block(
    show: str,
    says: tuple[str, str],
    sure: tuple[str, str],
    looked: tuple[str, str],
    trusted: tuple[str, str],
    badges: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    questions = ("What does the network say?", "How sure is it?", "Where did it look?", "Can that be trusted?")
    rows = zip(questions, (says, sure, looked, trusted), strict=True)
    return {
        "show": show,
        "rows": [{"question": q, "strong": _held(strong), "more": _held(more)} for q, (strong, more) in rows],
        "badges": [{"word": word, "slug": word.replace(" ", "-"), "count": count} for word, count in badges],
    }


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
    names = tuple(class_names(m))
    if temperature is not None and p:
        return names, calibrated(m, temperature), temperature.exclusive
    return names, p, exclusive(m)


def _says(m: Map, temperature: Temperature | None) -> tuple[str, str]:
    names, p, excluding = _given(m, temperature)
    target, unit = short_target(m.provenance)
    if m.provenance.output == UNDECLARED:
        return f"One number: {number(m.score)}.", "Nothing says whether it is a measurement or a class, so no probability is made of it."
    if m.provenance.output in MEASURED:
        return f"{target}: {number(m.score)}", "A measured value, not a class."
    if not p:
        return f"Its score for {target} is {number(m.score)}{f' ({unit})' if unit else ''}.", unsaid(m)
    ranked = sorted(range(len(p)), key=lambda k: -p[k])
    best = ranked[0]
    if excluding:
        strong = f"{names[best]}: {percent(p[best])}"
        more = f"Of the {len(p)} answers that it can give, the next is {names[ranked[1]]} with {percent(p[ranked[1]])}."
    else:
        found = ", ".join(f"{names[k]} {percent(p[k])}" for k in findings(p, excluding)[:4])
        none = none_of(names)
        highest = (
            f"; the highest: {names[best]}, {percent(p[best])}"
            if len(p) > 1
            else f": the probability of {names[best]} is {percent(p[best])}"
        )
        strong = found or none[:1].upper() + none[1:] + highest
        more = "Each answer is judged by itself; several can hold at once." if len(p) > 1 else "It knows this one answer only."
    if target not in names or (excluding and target != names[best]):
        more += f" Explained below is {target}" + (f", which it gives {percent(p[names.index(target)])}." if target in names else ".")
    return strong, more


def _sure(m: Map, temperature: Temperature | None, calibration: Calibration | None) -> tuple[str, str]:
    names, p, excluding = _given(m, temperature)
    if not p:
        return ("It does not say for a region as a whole." if of_samples(m) else "It does not say."), ""
    strong = _certain(max(p)) if excluding else _certain_of(names, p)
    if temperature is not None:
        n = temperature.cases
        return strong, f"Its percentages were corrected with {n} other cases whose truth is known, so that they come true more nearly."
    if calibration is not None:
        return strong, calibration.ece.text
    return strong, "By its own account: whether such percentages come true as often was not checked here."


def _level(top: float) -> str:
    return next(word for least, word in SURE if top >= least)


def _certain(top: float) -> str:
    """How sure a network is of the one answer that it gives."""
    word = _level(top)
    return "It leans that way, not more." if word == "leaning" else f"It is {word}."


def _certain_of(names: Sequence[str], p: Sequence[float]) -> str:
    """How sure it is of answers that are judged each by itself, and of what: of several, the least certain counts."""
    least = min(range(len(p)), key=lambda k: abs(p[k] - 0.5))
    word, name = _level(max(p[least], 1 - p[least])), names[least]
    sure, lean = f"It is {word}", "It leans toward"
    if word == "undecided":
        return f"{sure} about {name}."
    if len(p) == 1:
        of, toward = (f"of {name}", name) if p[0] >= 0.5 else (f"that it is not {name}", f"not {name}")
    elif max(p) < 0.5:
        of, toward = "that none of them holds", "none of them"
    else:
        of, toward = f"of each of the {len(p)} answers, whether it holds or not", name if p[least] >= 0.5 else f"not {name}"
        lean = f"It is least sure of {name}: it leans toward"
    return f"{lean} {toward}, not more." if word == "leaning" else f"{sure} {of}."


def _say_all(maps: Sequence[Map], temperature: Temperature | None) -> tuple[str, str]:
    """What the networks of several maps say, and what is explained."""
    said = dict.fromkeys(_says(m, temperature)[0].rstrip(".") for m in maps)
    targets = dict.fromkeys(short_target(m.provenance)[0] for m in maps)
    return "; ".join(said), f"Explained below: {', '.join(targets)}."


def where(m: Map) -> Place:
    """The smallest part of the scan, as it is drawn, that holds half of what a map marks, as its method declares what its values are."""
    layout, grid = lay_out(m.scan), m.scan.grid
    p = m.provenance
    means = meaning(p.method, *short_target(p), scored(p))
    values = m.values.detach().cpu().sum(0)
    size = means.size or not bool((values > 0).any())
    marks = means.marks if size == means.size else f"what {'lowers' if scored(p) == 'value' else 'speaks against'} {short_target(p)[0]}"
    if values.numel() and float(values.min()) == float(values.max()):
        return Place(
            None, 1.0, "", marks, nowhere="the map is zero everywhere" if not float(values.max()) else "the map is the same everywhere"
        )
    drawn = layout.array(relevance_on(m, grid, first_factors(grid, 1))).astype(np.float64)
    mass = np.abs(drawn) if size else drawn.clip(min=0)
    down = np.sort(mass.reshape(-1))[::-1]
    total = float(down.sum())
    if not total:
        return Place(None, 1.0, "", marks, nowhere="all that it marks lies outside the scan")
    least = float(down[int(np.searchsorted(np.cumsum(down), 0.5 * total))]) * (1 - TIE)
    part = mass >= least  # samples that tie with the last one belong to it: of two equal places both are told
    return Place(part, float(part.mean()), in_words(mass * part, layout.sided), marks, float(mass[part].sum()) / total)


def _spot(m: Map, place: Place) -> str:
    """Where half of what a map marks lies, as a sentence."""
    whole = "volume" if m.scan.grid.ndim == 3 else "picture"
    share = percent(place.share) if place.share >= 0.001 else "less than 0.1 %"
    held = "All" if place.held > 0.999 else "More than half" if place.held > 0.55 else "Half"
    if place.share > DIFFUSE:
        return f"In many places: {held.lower()} of {place.marks} is spread over {share} of the {whole}."
    return f"{held} of {place.marks} lies in {share} of the {whole}{f', {place.words}' if place.words else ''}."


def _looked(maps: Sequence[Map], places: Sequence[Place], n: int) -> tuple[str, str]:
    m, place = maps[n], places[n]
    if place.nowhere:
        return f"Nowhere: {place.nowhere}.", "It marks no place, so it cannot say where the network looked."
    if verdict(m) in REJECTED:
        said = _spot(m, place)
        return "This map cannot tell.", f"The checks do not bear it out. What it shows: {said[:1].lower() + said[1:]}"
    return _spot(m, place), _confirmed(maps, places, n)


def _confirmed(maps: Sequence[Map], places: Sequence[Place], n: int) -> str:
    """How many other supported maps of the same question mark the same place; only what is supported itself can be confirmed, or confirm."""
    asked = short_target(maps[n].provenance)[0]
    if verdict(maps[n]) != "supported" or places[n].part is None:
        return ""
    others = [
        k for k, o in enumerate(maps)
        if k != n and verdict(o) == "supported" and short_target(o.provenance)[0] == asked and places[k].part is not None
    ]  # fmt: skip
    if not others:
        return ""
    near = sum(_same(places, n, k) for k in others)
    if len(others) == 1:
        return "The other supported map points to about the same place." if near else "The other supported map points elsewhere."
    count = {0: "None", len(others): "All"}.get(near, str(near))
    return f"{count} of the {len(others)} other supported maps point{'s' if near == 1 else ''} to about the same place."


def _same(places: Sequence[Place], n: int, k: int) -> bool:
    """Whether two maps mark about the same place: neither is spread out, and most of each lies within a cell of the other."""
    a, b = (_cells(places[i]) for i in (n, k))
    if a is None or b is None or a.shape != b.shape or max(places[n].share, places[k].share) > DIFFUSE:
        return False
    near_a, near_b = _widened(a), _widened(b)
    if max(float(near_a.mean()), float(near_b.mean())) > 2 * DIFFUSE:
        return False
    return all(float((one * near).sum()) >= 0.5 * float(one.sum()) for one, near in ((a, near_b), (b, near_a)))


def _cells(place: Place) -> Tensor | None:
    """The marked part as cells of at least 1/32 of each axis."""
    if place.part is None:
        return None
    part = torch.from_numpy(np.ascontiguousarray(place.part))[None].float()
    pool = functional.adaptive_max_pool3d if part.ndim == 4 else functional.adaptive_max_pool2d
    return (pool(part, [min(n, CELLS) for n in part.shape[1:]]) > 0.5).float()


def _widened(part: Tensor) -> Tensor:
    """The cells and those around them."""
    pool = functional.max_pool3d if part.ndim == 4 else functional.max_pool2d
    return pool(part, 3, 1, 1)


def _all_looked(maps: Sequence[Map], places: Sequence[Place]) -> tuple[str, str]:
    """Side by side: what the supported maps say together."""
    good = [n for n, m in enumerate(maps) if verdict(m) == "supported" and places[n].part is not None]
    if not good:
        return "These maps cannot tell.", "None of them is borne out by its checks and marks a place."
    if len(good) == 1:
        return _spot(maps[good[0]], places[good[0]]), "So says the one supported map; the others do not count."
    pairs = [(a, b) for a in good for b in good if a < b and short_target(maps[a].provenance) == short_target(maps[b].provenance)]
    near = sum(_same(places, a, b) for a, b in pairs)
    if pairs and near == len(pairs):
        return _spot(maps[good[0]], places[good[0]]), f"All {len(good)} supported maps point to about the same place."
    return "Choose one map to read where it points.", f"The {len(good)} supported maps do not all answer one question with one place."


def _trusted(words: Sequence[str], n: int) -> tuple[str, str]:
    return TRUST[words[n]] + ".", SUPPORTED if words[n] == "supported" else EVEN


def _all_trusted(words: Sequence[str], names: Sequence[str]) -> tuple[str, str]:
    """Side by side: the worst verdict first."""
    worst = next(w for w in WORST if w in words)
    if words.count(worst) == len(words):
        strong = TRUST[worst].replace("The picture below", "The pictures below").replace("the picture below", "the pictures below")
        strong = (
            strong.replace("against it", "against them")
            .replace("follows from it", "follows from them")
            .replace("It can look", "They can look")
        )
        return f"{strong}.", SUPPORTED.replace("It shows", "They show") if worst == "supported" else EVEN
    said = {
        "not supported": "Do not rely on",
        "void": "Nothing follows from",
        "not examined": "Nobody has checked",
        "questionable": "Read with reserve",
    }
    named = [
        f"{said[w]}: {', '.join(dict.fromkeys(t for t, v in zip(names, words, strict=True) if v == w))}." for w in WORST[:-1] if w in words
    ]
    return named[0], " ".join([*named[1:], EVEN])
