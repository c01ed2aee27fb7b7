"""What else is shown beside the maps when it is given: similar cases, concepts in words, the steps of a counterfactual. Plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.report.pictures import still_of
from pellucid.report.words import alike, class_names, exclusive, findings, none_of, number, percent

if TYPE_CHECKING:
    from pellucid.concepts import Concepts, Sensitivity
    from pellucid.exemplars import Exemplars, Influence

SLIGHT = 0.005  # of a probability: what three digits do not show
FEW = 0.01  # of probability: what a single image must do to be said to have decided


@dataclass(frozen=True, eq=False)
class Similar:
    """A real case like this one: its image, what it is known to be (``label``), how alike the network finds it (0 to 1), and its map if any."""

    image: Image
    label: str
    likeness: float | None = None
    predicted: str = ""
    note: str = ""
    map: Map | None = None
    same: bool = False  # this very image; another one is never said to be wholly alike


@dataclass(frozen=True, eq=False)
class Influential:
    """A training image that spoke for a prediction (``value`` above 0) or against it: its picture if there is one, its label, its map if any.

    ``value`` is in nats: the log probability of the target with this image, less that without it.
    """

    image: Image | None
    label: str
    value: float
    note: str = ""
    map: Map | None = None


@dataclass(frozen=True, eq=False)
class Decided:
    """Training images that decided a prediction: what was asked, the strongest of both sides, and what their numbers mean.

    ``said`` are sentences for people (how strong a single image is, what was checked), ``limits`` what the numbers do not tell; ``verdict`` is
    that of the check by retraining.
    """

    target: str
    cases: tuple[Influential, ...]
    searched: int
    said: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    verdict: str = "not examined"


@dataclass(frozen=True, eq=False)
class Concept:
    """Something with a name that the network was found to use: a sentence for people, its signed effect on the score, examples."""

    name: str
    sentence: str
    effect: float | None = None
    unit: str = ""
    examples: tuple[Image, ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """One image of a counterfactual: how the scan would have to change, and the probability that the network then gives."""

    image: Image
    probability: float | None = None
    caption: str = ""


def similar_of(found: Exemplars, scans: Sequence[Scan] | Mapping[int, Scan], maps: Sequence[Map] = ()) -> tuple[Similar, ...]:
    """What ``pellucid.exemplars.similar`` found, as a report shows it: ``write_report(..., similar=similar_of(found, scans))``.

    Args:
        found: the matches.
        scans: the scans that were compared, in the order of the index, or those of the matches by their place in it.
        maps: explanations of matches by the same network; a case that has one is shown with it and with what the network says of it.

    Raises:
        BadParameter: a match that has no scan.
        BadImage: a map of an image that is no match.
    """
    by_image = _mapped(maps, {m.image for m in found}, "matches")
    there = scans if isinstance(scans, Mapping) else dict(enumerate(scans))
    missing = [m.place for m in found if m.place not in there]
    if missing:
        raise BadParameter(f"a scan for each of {len(found)} matches", f"none at place {missing[0]}", "Give the scans that were compared.")
    shown = []
    for m in found:
        why = by_image.get(m.image)
        said = "" if why is None else _said(why)
        shown.append(Similar(as_image(there[m.place]), m.label or "no label", m.likeness, said, found.note(m), why, m.same_image))
    return tuple(shown)


def _mapped(maps: Sequence[Map], wanted: set[str], what: str) -> dict[str, Map]:
    """Maps by the fingerprint of the image that they explain."""
    by_image = {m.provenance.image: m for m in maps}
    strange = by_image.keys() - wanted
    if strange:
        raise BadImage(f"maps of the {what}", f"one of image {min(strange)[:12]}", f"Explain the scans of the {what}, by the same network.")
    return by_image


def influence_of(found: Influence, scans: Sequence[Scan] | Mapping[int, Scan], k: int = 5, maps: Sequence[Map] = ()) -> Decided:
    """What ``pellucid.exemplars.influence`` (or ``tracin``, ``influence_by_cg``) found, as a report shows it.

    Args:
        found: the values of all training images.
        scans: the training images in their order, or some of them by their place; the others are told without a picture.
        k: how many of each side at most.
        maps: explanations of training images by the same network; an image that has one is shown with it.

    Raises:
        BadParameter: fewer or more images than values.
        BadImage: a map of an image that is not shown.
    """
    places = [*found.proponents(k), *found.opponents(k)]
    there = scans if isinstance(scans, Mapping) else dict(enumerate(scans))
    if not isinstance(scans, Mapping) and len(scans) != len(found.values):
        raise BadParameter(
            f"the {len(found.values)} training images, or some by their place", f"{len(scans)}", "Give those it learned from."
        )
    marks = {i: found.images[i] if found.images else "" for i in places}
    by_image = _mapped(maps, set(marks.values()), "training images")
    own = found.provenance.image
    cases = tuple(
        Influential(
            as_image(there[i]) if i in there else None,
            found.labels[i],
            float(found.values[i]),
            "the image itself" if marks[i] == own else "",
            by_image.get(marks[i]),
        )
        for i in places
    )
    checked = found.evidence.reasons or ("Not checked by retraining.",)
    verdict = found.evidence.verdict or "not examined"
    return Decided(found.target, cases, len(found.values), (*_weight(found), *checked), _limits(found), verdict)


def _weight(found: Influence) -> tuple[str, ...]:
    """How much a single image does, so that nobody takes the strongest of many weak ones for a cause."""
    p, values = found.probability, found.values
    strong = int(abs(values).argmax()) if len(values) else 0
    if not len(values) or not values[strong]:
        return ("No training image did anything for or against it.",)
    if math.isnan(p):
        return ()
    without = min(1.0, p * math.exp(-float(values[strong])))
    had = f"still have {percent(p)}" if percent(without) == percent(p) else f"have {percent(without)} instead of {percent(p)}"
    told = f"without the one that did most, {found.target} would {had}, by this estimate."
    return (f"No single image decided: {told}" if abs(without - p) < FEW else f"{told[0].upper()}{told[1:]}",)


def _times(value: float) -> str:
    """What a difference of log probabilities makes of a probability."""
    factor = math.exp(value)
    return "probability hardly changed" if abs(factor - 1) < SLIGHT else f"probability × {number(factor)}"


def _limits(found: Influence) -> tuple[str, ...]:
    """What the numbers of a method are about, and what they do not tell."""
    name = found.provenance.method.partition("(")[0]
    each = {
        "influence": "The last layer was fitted anew to what the network makes of these images, and it is that fit which is asked: what an image did "
        "for the layers below is not in its number.",
        "tracin": "The numbers follow the steps of the training at its checkpoints; for optimizers other than plain gradient descent they are likenesses.",
        "influence_by_cg": "The numbers hold near the weights as they are; a network that was not trained to the end has others.",
    }
    general = "An image that spoke for the answer does not show that the answer is right, nor that the image's own label is."
    return (*((each[name],) if name in each else ()), general)


def _said(why: Map) -> str:
    """What the network says of a case: its classes with their probabilities."""
    p, names = why.probabilities, class_names(why)
    if not p:
        return ""
    return ", ".join(f"{names[k]} {percent(p[k])}" for k in findings(p, exclusive(why))) or none_of(names)


def concepts_of(
    found: Concepts, site: str | None = None, target: str | None = None, *, here: Sequence[Sensitivity] = (), examples: int = 4
) -> tuple[Concept, ...]:
    """What ``pellucid.concepts.tcav`` found, as a report shows it: each concept's sentence with its uncertainty, effect and first images.

    A concept of which nothing can be said is named with the reason, without an effect.

    Args:
        found: the result.
        site, target: only these; None: all.
        here: what ``found.sensitivities(net, scan)`` says of the scan of the report; it is told after the sentence.
        examples: how many images of each concept.
    """
    own = {(s.concept, s.site, s.target): s.sentence for s in here}
    tested = {c["sentence"]: c for c in found.report_concepts(site, target, examples)}
    shown = []
    for r in found.rows:
        if site not in (None, r.site) or target not in (None, r.target):
            continue
        known = tested.get(r.sentence)
        more = own.get((r.concept, r.site, r.target), "") if known else ""
        facts = known or {"name": r.concept, "sentence": r.sentence}
        shown.append(Concept(**{**facts, "sentence": f"{r.sentence} {more}".strip()}))
    return tuple(shown)


def similar_cards(cases: Sequence[Similar]) -> list[dict[str, Any]]:
    """What the page says of similar cases, the most alike first."""
    ordered = sorted(cases, key=lambda c: -1.0 if c.likeness is None else -c.likeness)
    return [
        {
            "picture": still_of(c.image),
            "overlay": still_of(c.image, c.map) if c.map is not None else "",
            "label": c.label,
            "likeness": alike(c.likeness, c.same),
            "predicted": c.predicted,
            "note": c.note,
        }
        for c in ordered
    ]


def decided_sides(decided: Decided | None) -> dict[str, Any] | None:
    """What the page says of training images: those for the target and those against it, the strongest first, bars on one scale."""
    if decided is None:
        return None
    most = max((abs(c.value) for c in decided.cases), default=0.0) or 1.0

    def side(against: bool) -> list[dict[str, Any]]:
        ordered = sorted((c for c in decided.cases if (c.value < 0) == against), key=lambda c: -abs(c.value))
        return [
            {
                "picture": "" if c.image is None else still_of(c.image), "label": c.label,
                "overlay": still_of(c.image, c.map) if c.image is not None and c.map is not None else "",
                "value": number(c.value, sign=True), "times": _times(c.value), "width": 50 * abs(c.value) / most, "against": against,
                "note": c.note,
            }
            for c in ordered
        ]  # fmt: skip

    sides = [{"title": f"For {decided.target}", "cases": side(False)}, {"title": f"Against {decided.target}", "cases": side(True)}]
    return {
        "target": decided.target, "searched": decided.searched, "sides": sides, "said": decided.said, "limits": decided.limits,
        "verdict": decided.verdict, "slug": decided.verdict.replace(" ", "-"),
    }  # fmt: skip


def concept_rows(concepts: Sequence[Concept]) -> list[dict[str, Any]]:
    """Concepts with bars that share one scale, the strongest first."""
    ordered = sorted(concepts, key=lambda c: -abs(c.effect or 0.0))
    most = max((abs(c.effect or 0.0) for c in ordered), default=0.0) or 1.0
    return [
        {
            "name": c.name, "sentence": c.sentence, "pictures": [still_of(i) for i in c.examples[:4]],
            "effect": "" if c.effect is None else f"{number(c.effect, sign=True)} {c.unit}".strip(),
            "width": 50 * abs(c.effect or 0.0) / most, "against": (c.effect or 0.0) < 0,
        }
        for c in ordered
    ]  # fmt: skip


def strip(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The counterfactual from the scan on."""
    return [
        {
            "picture": still_of(s.image),
            "caption": s.caption,
            "percent": "" if s.probability is None else percent(s.probability),
            "width": 0 if s.probability is None else 100 * min(1.0, max(0.0, s.probability)),
        }
        for s in steps
    ]
