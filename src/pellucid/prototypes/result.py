"""What was made for a network: pictures with their numbers, what they say in words, and what they do not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import Finding
from pellucid.image import Image
from pellucid.prototypes.figure import Panel, draw
from pellucid.table import Table

Role = Literal["optimum", "fooling", "start", "given", "spread"]
CAVEAT = (
    "A picture of what excites a unit or a class is a hypothesis: it does not show what decides in patients, how often it occurs, or that "
    "nothing else excites it as much."
)
STEADY = 0.5  # of the rise over the start: a picture that keeps less once moved by little is no picture of a thing


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what the network answers to it.

    ``score``: the target's value; ``probabilities``: of all classes (empty where there are none); ``kept``: share of the score's rise over the start that
    stays when the picture is moved, turned and blurred a little (nan: not asked); ``clipped``: share of samples at the ends of the span;
    ``weight``: how much each sample mattered on the way, (1, *space) from 0 to 1, where the method knows it.
    """

    name: str
    role: Role
    image: Image
    score: float
    probabilities: tuple[float, ...] = ()
    kept: float = math.nan
    clipped: float = 0.0
    weight: Image | None = None


@dataclass(frozen=True, eq=False)
class Prototype(Finding):
    """Pictures that were made to excite a target, beside one made without any prior, and what real images reach.

    ``asked`` is the target, ``watched`` the class whose probability is told; ``references`` are the scores of the images given; ``ways`` the score of
    each made picture step by step; ``focus`` the sample through which planes of a volume go; ``span`` lowest and highest value of an image;
    ``alike`` the mean cosine between the facets' activations (nan: one facet); ``numbers`` what the method measured besides.
    """

    kind = "prototype"
    method: str
    asked: str
    watched: str
    pictures: tuple[Picture, ...]
    references: tuple[float, ...]
    ways: tuple[tuple[float, ...], ...]
    classes: tuple[str, ...]
    span: tuple[float, float]
    focus: tuple[int, ...]
    provenance: Provenance = field(repr=False)
    network: str = ""
    alike: float = math.nan
    numbers: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def optima(self) -> tuple[Picture, ...]:
        """The pictures that were asked for: one, or a facet each."""
        return tuple(p for p in self.pictures if p.role == "optimum")

    @property
    def fooling(self) -> Picture | None:
        """The picture made without any prior."""
        return next((p for p in self.pictures if p.role == "fooling"), None)

    @property
    def image(self) -> Image:
        """The best picture that was asked for."""
        return max(self.optima, key=lambda p: p.score).image

    def confidence(self, picture: Picture) -> float:
        """The probability of the watched class for a picture; nan where there is none."""
        named = self.watched in self.classes
        at = self.classes.index(self.watched) if named else int(self.watched) if self.watched.isdecimal() else -1
        return picture.probabilities[at] if 0 <= at < len(picture.probabilities) else math.nan

    def table(self) -> Table:
        """A row for each picture."""
        rows = [(p.name, p.role, p.score, self.confidence(p), p.kept, p.clipped) for p in self.pictures]
        return Table(("picture", "role", "score", "probability", "kept when moved", "clipped"), tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people; the last says what it does not show."""
        told = [self._reached(), *self._beside(), *self._steadiness()]
        if len(self.optima) > 1 and not math.isnan(self.alike):
            told.append(
                f"{len(self.optima)} pictures excite {self.asked} in ways of their own: their activations have a mean cosine of {self.alike:.2f}."
            )
        return (*told, *self.notes, CAVEAT)

    def _said(self, p: Picture) -> str:
        """Score and confidence of a picture."""
        sure = self.confidence(p)
        return f"{p.score:.3g}" + ("" if math.isnan(sure) else f" (probability {sure:.2f} of {self.watched})")

    def _reached(self) -> str:
        best = max(self.optima, key=lambda p: p.score)
        told = f"{self.asked} is {self._said(best)} for the picture made by {self.method}"
        if not self.references:
            return told + "."
        held = np.array(self.references)
        among = f"{len(held)} images given" if len(held) > 1 else "the image given"
        reach = f"{held.mean():.3g} on average and {held.max():.3g} at most" if len(held) > 1 else f"{held[0]:.3g}"
        return f"{told}; for {among} it is {reach}."

    def _beside(self) -> list[str]:
        wild = self.fooling
        if wild is None:
            return []
        best = max(self.optima, key=lambda p: p.score)
        more = "as much" if abs(wild.score - best.score) < 0.05 * abs(best.score) else "more" if wild.score > best.score else "less"
        return [
            f"Without any prior the network gives {self._said(wild)}, {more}, to a picture that is made for it alone: a high score or probability is no "
            "sign that a picture shows the class."
        ]

    def _steadiness(self) -> list[str]:
        best, wild = max(self.optima, key=lambda p: p.score), self.fooling
        if math.isnan(best.kept):
            return []
        told = f"Moved, turned and blurred a little, the picture keeps {100 * best.kept:.0f} % of its rise over the start"
        told += "" if wild is None or math.isnan(wild.kept) else f", the one without priors {100 * wild.kept:.0f} %"
        return [told + ("." if best.kept >= STEADY else ": what excites the network is finer than what people see in it.")]

    @property
    def evidence(self) -> Evidence:
        """What speaks for the picture: whether it keeps its score when moved, and whether it reaches what real images reach."""
        best = max(self.optima, key=lambda p: p.score)
        found = []
        if not math.isnan(best.kept):
            status: Any = "pass" if best.kept >= STEADY else "fail"
            found.append(
                Measurement("kept when moved", best.kept, "share", "up", status, self._steadiness()[0], STEADY, "half of the rise")
            )
        if self.references:
            top = max(self.references)
            status = "pass" if best.score >= top else "inconclusive"
            found.append(Measurement("score", best.score, "score", "up", status, self._reached(), top, "the highest of the images given"))
        if self.fooling is not None:
            found.append(
                Measurement("score without priors", self.fooling.score, "score", "zero", "inconclusive", self._beside()[0], best.score)
            )
        verdict: Any = "not supported" if any(m.status == "fail" for m in found) else "questionable"
        return Evidence("quick", tuple(found), verdict, (CAVEAT,))

    def facts(self) -> dict[str, Any]:
        """Plain values, with the sentences."""
        return super().facts() | {"sentences": list(self.sentences())}

    def panels(self) -> tuple[Panel, ...]:
        """The pictures as the report and the figure draw them."""
        return tuple(
            Panel(p.image, p.name, self._lines(p), *self.span, None if p.weight is None else p.weight.values[0], self.focus)
            for p in self.pictures
        )

    def _lines(self, p: Picture) -> tuple[str, ...]:
        sure = self.confidence(p)
        told = [f"score {p.score:.3g}" + ("" if math.isnan(sure) else f", probability {sure:.2f}")]
        if not math.isnan(p.kept):
            told.append(f"keeps {100 * p.kept:.0f} % when moved")
        return tuple(told)

    def figure(self, path: str | Path | None = None, *, title: str = "") -> Any:
        """All pictures side by side with their numbers; see ``draw``."""
        return draw(self.panels(), path, title=title or f"{self.asked}: {self.method}", caption=self.sentences()[0])
