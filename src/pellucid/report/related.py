"""What else is shown beside the maps when it is given: similar cases, concepts in words, the steps of a counterfactual. Plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.report.pictures import still_of
from pellucid.report.words import class_names, exclusive, findings, none_of, number, percent

if TYPE_CHECKING:
    from pellucid.concepts import Concepts, Sensitivity
    from pellucid.exemplars import Exemplars


@dataclass(frozen=True, eq=False)
class Similar:
    """A real case like this one: its image, what it is known to be (``label``), how alike the network finds it (0 to 1), and its map if any."""

    image: Image
    label: str
    likeness: float | None = None
    predicted: str = ""
    note: str = ""
    map: Map | None = None


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
    by_image = {m.provenance.image: m for m in maps}
    strange = by_image.keys() - {m.image for m in found}
    if strange:
        raise BadImage("maps of the matches", f"one of image {min(strange)[:12]}", "Explain the scans of the matches, by the same network.")
    there = scans if isinstance(scans, Mapping) else dict(enumerate(scans))
    missing = [m.place for m in found if m.place not in there]
    if missing:
        raise BadParameter(f"a scan for each of {len(found)} matches", f"none at place {missing[0]}", "Give the scans that were compared.")
    shown = []
    for m in found:
        why = by_image.get(m.image)
        said = "" if why is None else _said(why)
        shown.append(Similar(as_image(there[m.place]), m.label or "no label", m.likeness, said, found.note(m), why))
    return tuple(shown)


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
            "likeness": "" if c.likeness is None else f"{100 * c.likeness:.0f} % alike",
            "predicted": c.predicted,
            "note": c.note,
        }
        for c in ordered
    ]


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
