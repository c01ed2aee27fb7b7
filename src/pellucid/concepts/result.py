"""What was found of concepts: a row for each concept, site and target, in numbers and in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.activations import Pool, look
from pellucid.asking import Scan
from pellucid.concepts.bank import SHOWN, ConceptBank, KeptBank
from pellucid.concepts.directions import Direction
from pellucid.concepts.vectors import slope_of
from pellucid.errors import BadImage, BadParameter, BadTarget
from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT, Finding, check_network
from pellucid.model import as_model
from pellucid.run import Run
from pellucid.table import Table

DIFFERENCE = re.compile(r"(?P<of>logit|probability)\('(?P<one>[^']*)'\) - (?P=of)\('(?P<other>[^']*)'\)")
Found = Literal["raises", "lowers", "no more than random", "not told apart", "too few random sets"]
SILENT: tuple[Found, ...] = ("not told apart", "too few random sets")  # verdicts by which nothing is said of a concept


@dataclass(frozen=True)
class ConceptRow:
    """One concept at one site for one target.

    ``score``: share of the images whose score rises when their activation moves toward the concept (TCAV), mean over counterparts, with its
    95 % interval over patients; ``sensitivity``: mean directional derivative along the direction of length 1; ``effect``: the change of the score
    for a move as far as the concept lies from random images, to first order. ``accuracy``: held-out balanced accuracy of the direction, with its p
    against chance. ``p``: exact set-level rank of the score among those of the random sets (**the verdict**), ``p_holm`` over all rows;
    ``t_p``, ``t_holm``, ``t_bonferroni``: TCAV's own t-test, which rejects far too often. ``null``: the random sets' scores.
    ``size`` images in a set, ``images`` of the class. ``uniform``: the gradient is the same in all of them (only pooling and linear layers follow
    the site), so that a single direction scores 0 or 1 by construction; the score is then a share of directions and has no interval.
    """

    concept: str
    site: str
    target: str
    against: str
    score: float
    low: float
    high: float
    sensitivity: float
    effect: float
    accuracy: float
    accuracy_p: float
    p: float
    p_holm: float
    t_p: float
    t_holm: float
    t_bonferroni: float
    null: tuple[float, ...]
    images: int
    size: int
    verdict: Found
    alpha: float = 0.05
    uniform: bool = False

    @property
    def random(self) -> float:
        """Mean score of the random sets."""
        return float(np.mean(self.null))

    @property
    def random_range(self) -> tuple[float, float]:
        """Where the middle 95 % of the random sets' scores lie."""
        low, high = np.quantile(self.null, [0.025, 0.975])
        return float(low), float(high)

    @property
    def sentence(self) -> str:
        """The finding for people."""
        name, where = self.concept, f"(at {self.site})"
        if self.verdict == "not told apart":
            kind = "images" if self.against == "random" else "the other concepts"
            told = f"{100 * self.accuracy:.0f} % of held-out images, p = {self.accuracy_p:.2g}"
            return f"Nothing is said of {name}: the network's activations do not tell it from {self.against} {kind}, {told} {where}."
        if self.verdict == "too few random sets":
            return f"Nothing is said of {name}: {len(self.null)} random sets cannot show p below {1 / (1 + len(self.null)):.2g} {where}."
        up = self.verdict == "raises" or (self.verdict != "lowers" and self.score >= 0.5)
        dealt = "random concepts" if self.against == "random" else "concepts dealt anew"
        own, chance = _share(self.score, self.low, self.high, up), _share(self.random, *self.random_range, up)
        of = f"for {own} of the directions, in all {self.images} images alike" if self.uniform else f"in {own} of {self.images} images"
        said = f"{'raised' if up else 'lowered'} the {scored(self.target)} {of}; {dealt} {chance}, p = {self.p:.2g} {where}."
        if self.verdict == "no more than random":
            return f"No sign that {name} matters: it {said}"
        return f"{name[0].upper()}{name[1:]} {said}"


def _share(value: float, low: float, high: float, up: bool) -> str:
    """A share of rises, or of falls, in percent with its interval, where there is one."""
    ends = (low, high) if up else (1 - high, 1 - low)
    told = "" if math.isnan(low) else f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"
    return f"{100 * (value if up else 1 - value):.0f} %{told}"


@dataclass(frozen=True)
class Sensitivity:
    """One concept in one image: ``value`` is the directional derivative of the target's score along the concept's mean direction (length 1),
    ``effect`` the change for a move as far as the concept lies from random images; ``low`` and ``high`` hold the middle 95 % of the random
    sets' values in the same image, ``beyond`` says whether the concept's lies outside."""

    concept: str
    site: str
    target: str
    value: float
    effect: float
    low: float
    high: float
    verdict: Found

    @property
    def beyond(self) -> bool:
        return not self.low <= self.value <= self.high

    @property
    def sentence(self) -> str:
        """What this image adds to what was found over many, and at which site."""
        return f"{self.says()[:-1]} (at {self.site})."

    def says(self, tested: int = 0) -> str:
        """What this image adds to what was found over many: it never says more than they do. ``tested``: at how many concepts the reader looks."""
        way = "raises" if self.value > 0 else "lowers"
        held = "more than random concepts do" if self.beyond else "no more than random concepts do"
        step = f"a step toward {self.concept} {way} the {scored(self.target)}"
        if self.verdict in SILENT:
            return f"Of {self.concept} nothing is said in this image either."
        if self.verdict == "no more than random":
            many = f"{tested} were looked at" if tested else "it does in one image of twenty"
            chance = f", as it may by chance: {many}" if self.beyond else ""
            return f"No finding, for over many images {self.concept} mattered no more than random. Here {step}, {held}{chance}."
        if way == self.verdict and not self.beyond:
            return f"In this image {step} as well, though {held}: the finding is one over many images."
        if way == self.verdict:
            return f"In this image too: {step}, {held}."
        return f"{'This image is an exception' if self.beyond else 'In this image it is not seen'}: {step}, {held}."


@dataclass(frozen=True, eq=False)
class Compass:
    """Mean directions (1 + random sets, d) of a concept at a site, the concept's first, and how far it lies from random images."""

    directions: NDArray[np.float32]
    apart: float


@dataclass(frozen=True, eq=False)
class Concepts(Finding):
    """What concepts do to a network's scores: rows, the bank, the directions, and how all came about.

    >>> import torch, pellucid as pl
    >>> from pellucid.concepts import ConceptBank, tcav
    >>> noise = torch.rand(140, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    >>> bank = ConceptBank.of({"bright": list(noise[:6] + 1)}, random=list(noise[6:120]))
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Flatten(), torch.nn.Linear(36, 2))
    >>> _ = [w.data.fill_(0.1) for w in net.parameters()]
    >>> found = tcav(net, bank, list(noise[120:]), target=1, sites="0")
    >>> found.rows[0].score, found.rows[0].verdict, round(found.rows[0].p, 2)
    (1.0, 'raises', 0.05)
    """

    kind = "concepts"
    rows: tuple[ConceptRow, ...]
    bank: ConceptBank | KeptBank = field(metadata={KEPT: True})
    compasses: Mapping[tuple[str, str], Compass] = field(metadata={KEPT: True})
    network: str
    pool: Pool
    direction: Direction
    alpha: float
    notes: tuple[str, ...]
    provenance: Provenance
    targets: Mapping[str, Any] = field(default_factory=dict, metadata={KEPT: True})

    def __iter__(self) -> Iterator[ConceptRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, concept: str, site: str | None = None, target: str | None = None) -> ConceptRow:
        """The one row of that concept, site and target; site and target may be left out where there is one alone.

        Raises:
            BadParameter: none, or several.
        """
        found = [r for r in self.rows if r.concept == concept and site in (None, r.site) and target in (None, r.target)]
        if len(found) != 1:
            have = ", ".join(f"({r.concept!r}, {r.site!r}, {r.target!r})" for r in (found or self.rows)[:8])
            raise BadParameter(f"one row of {concept!r}", f"{len(found)}", f"Name it in full; there are {have}.")
        return found[0]

    def table(self) -> Table:
        """All rows."""
        columns = (
            "concept", "site", "target", "against", "score", "low", "high", "sensitivity", "effect", "random", "random low", "random high", "p",
            "p (Holm)", "accuracy", "accuracy p", "t-test p", "t-test p (Holm)", "t-test p (Bonferroni)", "images", "set", "random sets", "verdict",
        )  # fmt: skip
        rows = [
            (r.concept, r.site, r.target, r.against, r.score, r.low, r.high, r.sensitivity, r.effect, r.random, *r.random_range, r.p, r.p_holm,
             r.accuracy, r.accuracy_p, r.t_p, r.t_holm, r.t_bonferroni, r.images, r.size, len(r.null), r.verdict)
            for r in self.rows
        ]  # fmt: skip
        return Table(columns, tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people."""
        return tuple(r.sentence for r in self.rows)

    @property
    def evidence(self) -> Evidence:
        """The rows as measurements; the verdict is that of the strongest: supported if one is beyond random."""
        each = []
        for r in self.rows:
            status: Any = {"raises": "pass", "lowers": "pass", "no more than random": "fail"}.get(r.verdict, "inconclusive")
            low, high = (None, None) if math.isnan(r.low) else (r.low, r.high)
            name = f"tcav {r.concept} {r.site} {r.target}"
            held = f"{len(r.null)} sets of {r.against} images, p = {r.p:.3g}"
            detail = {"p": r.p, "accuracy": r.accuracy}
            each.append(Measurement(name, r.score, "share", "up", status, r.sentence, r.random, held, low, high, detail))
        kinds = {m.status for m in each}
        verdict: Any = "supported" if "pass" in kinds else "not supported" if "fail" in kinds else "questionable"
        return Evidence("full", tuple(each), verdict, self.notes)

    def sensitivities(self, model: Any, scan: Scan, target: Any = None, *, run: Run | None = None) -> tuple[Sensitivity, ...]:
        """All concepts in one image, with the same directions; the strongest beyond random first.

        Args:
            model: the network that the concepts were tested on.
            scan: an image, tensor or path.
            target: a class; None: those that were tested.

        Raises:
            BadModel: another network, other weights or preparation.
            BadImage: an activation of another shape, where whole ones were tested (``pool="none"``).
        """
        net = as_model(model)
        check_network(self, net)
        asked = dict(self.targets) if target is None else {label(net, target): target}
        lost = [n for n, t in asked.items() if t is None]
        if lost:
            raise BadTarget(
                "a target that text can hold, for concepts loaded from a file", lost[0], "Give it: sensitivities(model, scan, target)."
            )
        found: list[Sensitivity] = []
        for site in dict.fromkeys(s for _, s in self.compasses):
            for name, wanted in asked.items():
                (seen,) = look(net, [scan], site, wanted, gradient=True, run=run)
                assert seen.gradient is not None
                found += self._in_image(slope_of(seen.gradient, self.pool), site, name)
        return tuple(sorted(found, key=lambda s: (not s.beyond, -abs(s.effect))))

    of_image = sensitivities

    def _in_image(self, slope: NDArray[np.float32], site: str, target: str) -> list[Sensitivity]:
        found = []
        for (concept, at), compass in self.compasses.items():
            if at != site:
                continue
            if compass.directions.shape[1] != len(slope):
                got = f"{len(slope)} values, {compass.directions.shape[1]} of the concept's images"
                raise BadImage(f"an activation of the tested shape at {site!r}", got, "Bring images to one size in prepare=.")
            values = compass.directions.astype(np.float64) @ slope.astype(np.float64)
            low, high = np.quantile(values[1:], [0.025, 0.975]) if len(values) > 1 else (math.nan, math.nan)
            known = [r.verdict for r in self.rows if (r.concept, r.site, r.target) == (concept, site, target)]
            value = float(values[0])
            verdict = known[0] if known else "too few random sets"
            found.append(Sensitivity(concept, site, target, value, value * compass.apart, float(low), float(high), verdict))
        return found

    def report_concepts(self, site: str | None = None, target: str | None = None, examples: int = SHOWN) -> list[dict[str, Any]]:
        """What a report shows: ``[report.related.Concept(**c) for c in found.report_concepts()]``.

        One entry for each concept that was tested (not of those dropped), with the sentence, the signed effect on the score, and its first images.
        """
        found = []
        for r in self.rows:
            if site not in (None, r.site) or target not in (None, r.target) or r.verdict in SILENT:
                continue
            shown = self.bank.shown(r.concept, examples)
            found.append({"name": r.concept, "sentence": r.sentence, "effect": r.effect, "unit": "on the score", "examples": shown})
        return found


def scored(target: str) -> str:
    """A target's score in a sentence."""
    return f"score of {target}" if " over " in target else f"{target} score"


def label(model: Any, target: Any) -> str:
    """A target as people call it: a class's name where it has one."""
    classes: Sequence[str] = model.classes
    if found := DIFFERENCE.fullmatch(repr(target)):
        return f"{found['one']} over {found['other']}"
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(classes):
        return classes[target]
    return target if isinstance(target, str) else repr(target) if not isinstance(target, int) else f"class {target}"
