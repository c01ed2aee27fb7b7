"""What else is shown beside the maps when it is given: similar cases, concepts in words, the steps of a counterfactual. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.report.pictures import still_of
from pellucid.report.words import number, percent


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
