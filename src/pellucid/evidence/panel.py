"""Panel: one image, one target, and the maps of it that are graded together. What they need of the network is asked once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import explain_all
from pellucid.baseline import Setting, Starts
from pellucid.errors import BadParameter
from pellucid.evidence.masks import Laid
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.method import Ask
from pellucid.model import Model
from pellucid.ops.blur import gaussian
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.probe import Probe
from pellucid.probe.question import Question
from pellucid.run import Meter, Run
from pellucid.target import Target

BLUR = 1 / 8  # of the shortest side: wide enough that a finding loses its shape
Draws = Callable[[Tensor, torch.Generator], Tensor]  # (c, *space), chance -> (*space): a map that asks no network


@dataclass(frozen=True, eq=False)
class Entry:
    """A map under grading: ``relevance`` (*space) in float64 on the image's grid, and how it is made anew.

    ``map`` with its question, or for a control ``draws`` from the image alone; ``of`` names the map that a control belongs to, and ``after``
    makes it of that map.
    """

    relevance: Tensor
    map: Map | None = None
    ask: Ask | None = None
    draws: Draws | None = None
    control: bool = False
    of: str = ""
    after: Callable[[Tensor], Tensor] | None = None


@dataclass(eq=False)
class Panel:
    """What all metrics share about one image.

    ``x`` (c, *space) is the prepared image as the network gets it, in the units in which baselines are given; ``target`` is settled;
    ``laid`` says where the cause lies, where that is known, and how it came onto this grid. Use it as a context: it holds the network untouched while open.
    ``spent`` counts forward passes (``forward``), backward ones, setup, and answers that were known already (``shared``).
    """

    model: Model
    image: Image
    target: Target
    x: Tensor
    run: Run
    entries: dict[str, Entry]
    laid: Laid | None = None
    others: tuple[Tensor, ...] = ()  # further images of the kind (c, *space), as the network gets them: floors are measured between images
    spent: dict[str, int] = field(default_factory=dict)
    kept: dict[str, Any] = field(
        default_factory=dict
    )  # what a metric leaves for others of its group, under a key that says all it depends on
    _known: dict[str, list[float]] = field(default_factory=dict)
    _engine: Engine | None = None

    @property
    def mask(self) -> Tensor | None:
        """Where the cause lies (*space), bool."""
        return None if self.laid is None else self.laid.values

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.entries)

    @property
    def grid(self) -> Grid:
        return self.image.grid

    def relevance(self, name: str) -> Tensor:
        """(*space), float64, signed, on the image's grid."""
        return self.entries[name].relevance

    def chance(self, part: str) -> torch.Generator:
        """A source of chance of its own for each purpose, the same in every run of one seed."""
        from hashlib import sha256

        word = sha256(f"{self.run.seed} {part}".encode()).digest()[:7]
        return torch.Generator().manual_seed(int.from_bytes(word, "little"))

    # ------------------------------------------------------------------ asking the network
    def scores(self, inputs: Iterable[Tensor], model: Model | None = None) -> list[float]:
        """The target's score for each input (c, *space), streamed through common chunks; a copy of the network may answer."""
        engine = self._asked(model)
        meter = engine.meter
        before = meter.forward, meter.setup
        question = Question(self.target, self.grid, self.x, settled=True)
        probe = Probe(engine, question, self.image, self.x, self.grid, self.chance("probe"))
        with untouched(engine.model.module):
            found = [float(a.score) for a in probe.scores(inputs)]
        self._spend(forward=meter.forward - before[0], setup=meter.setup - before[1])
        return found

    def known(self, key: str, inputs: Callable[[], Iterable[Tensor]]) -> list[float]:
        """Scores that do not depend on any map, or that several metrics ask for: asked once under this key, which says all that they depend on."""
        if key in self._known:
            self._spend(shared=len(self._known[key]))
        else:
            self._known[key] = self.scores(inputs())
        return self._known[key]

    def each(self, inputs: Iterable[tuple[str, Callable[[], Tensor]]]) -> list[float]:
        """Scores of inputs that each have a key of their own, which says all that the answer depends on; only those not yet known are asked."""
        keys: list[str] = []

        def fresh() -> Iterator[Tensor]:
            for key, make in inputs:
                keys.append(key)
                if key not in self._known and key not in asked:
                    asked[key] = len(asked)
                    yield make()

        asked: dict[str, int] = {}
        found = self.scores(fresh())
        if len(keys) > len(asked):
            self._spend(shared=len(keys) - len(asked))
        self._known |= {key: [found[i]] for key, i in asked.items()}
        return [self._known[key][0] for key in keys]

    @property
    def score(self) -> float:
        """The target's score for the image itself."""
        return self.known("image", lambda: [self.x])[0]

    def anew(
        self, names: Sequence[str], images: Sequence[Tensor], *, model: Model | None = None, seed: int | None = None
    ) -> dict[str, list[Tensor]]:
        """The maps of these names made anew, for each of ``images`` (c, *space), by the network or a copy: relevance (*space) on the grid.

        Maps share their passes where their methods can. The question stays: method, target, site, and (``seed`` None) the seed.

        Raises:
            BadParameter: a map that came without its question.
        """
        found: dict[str, list[Tensor]] = {n: [] for n in names}
        asks = {n: a for n in names if (a := self._question(n)) is not None}
        seeds = {n: self._seed(n) if seed is None else seed for n in names}
        for own in dict.fromkeys(seeds[n] for n in asks):
            alike = {n: a for n, a in asks.items() if seeds[n] == own}
            scans = [self.image.with_values(i.detach().cpu()) for i in images]
            run = replace(self.run, seed=own, on_tick=None)
            maps = explain_all(replace(model or self.model, prepare=None), scans, list(alike.values()), run)
            for k, m in enumerate(maps):
                p = m.provenance
                self._spend(forward=p.forward, backward=p.backward, setup=p.setup, maps=1)
                found[list(alike)[k % len(alike)]].append(m.on(self.grid).relevance.double())
        for n in [n for n in names if n not in asks]:
            entry = self.entries[n]
            if entry.draws is not None:
                found[n] = [entry.draws(i, self.chance(f"{n} {seeds[n]} {digest(i)}")) for i in images]
            elif entry.after is not None:
                found[n] = [entry.after(m) for m in found.get(entry.of) or self.anew([entry.of], images, model=model, seed=seed)[entry.of]]
        return found

    def _seed(self, name: str) -> int:
        made = self.entries[name].map
        return self.run.seed if made is None else made.provenance.seed

    def _question(self, name: str) -> Ask | None:
        entry = self.entries[name]
        if entry.ask is None and entry.draws is None and entry.after is None:
            raise BadParameter(f"the question of the map {name!r}", "values alone", "Give a Map from explain(), or ask=pl.ask(...).")
        return entry.ask

    def _asked(self, model: Model | None) -> Engine:
        run = replace(self.run, on_tick=None)
        if model is not None and model.module is not self.model.module:
            return Engine(model, run, Meter(run))
        if self._engine is None:
            self._engine = Engine(self.model, run, Meter(run))
        return self._engine

    def _spend(self, **passes: int) -> None:
        for kind, n in passes.items():
            self.spent[kind] = self.spent.get(kind, 0) + n

    # ------------------------------------------------------------------ images without content
    @property
    def setting(self) -> Setting:
        """What a baseline may look at."""
        return Setting(self.x, self.grid, *self.model.span(self.x), self.chance("fill"))

    def fill(self, baseline: Starts) -> Tensor:
        """The first image that a baseline gives, (c, *space)."""
        return baseline.starts(self.setting)[0]

    @cached_property
    def blurred(self) -> Tensor:
        """The image blurred by an eighth of its shortest side: a neutral image close to those that the network knows."""
        width = BLUR * min(n * s for n, s in zip(self.grid.shape, self.grid.spacing, strict=True))
        return gaussian(self.x, [width / s for s in self.grid.spacing])

    @cached_property
    def neutrals(self) -> Mapping[str, Tensor]:
        """Images without content: blurred, and each channel's mean everywhere."""
        mean = self.x.flatten(1).mean(1).view(-1, *[1] * self.grid.ndim)
        return {"blurred copy": self.blurred, "mean of each channel": mean.expand_as(self.x).clone()}

    def entropy(self, model: Model | None = None) -> float | None:
        """Entropy of the output for the image as a share of its highest; None unless the classes exclude each other. One pass."""
        model = model or self.model
        with untouched(model.module), torch.no_grad():
            out = model.forward(self.x[None])
        self._spend(forward=1)
        reading = model.reading.of(out, self.grid.ndim)
        if out.ndim > 2 or reading.kind not in ("logits", "single logit"):
            return None
        p = reading.probabilities(out)[0].double()
        p = torch.cat([1 - p, p]) if len(p) == 1 else p / p.sum()
        return float(-(p * p.clamp_min(1e-300).log2()).sum()) / math.log2(len(p))


def check_network(model: Model, why: Map, scan: Image, name: str = "") -> None:
    """Whether a map is about this scan as this network sees it: weights, classes (by which a target from disk is read), how the network is described,
    and what its ``prepare`` makes of the scan. What the map was never told may be any.

    Raises:
        BadParameter: another network, one described otherwise, or another image.
    """
    made, weights = why.provenance, model.fingerprint
    if re.fullmatch(r"[0-9a-f]{64}", made.weights) and made.weights != weights:
        got = f"other weights ({weights[:12]}; the map's are {made.weights[:12]})"
        raise BadParameter("the network that the map is about", got, "Load it with the weights that were explained.")
    if made.weights.startswith("unknown"):
        raise BadParameter(
            "the weights that the map is about", f"{made.weights}; they are not these", "Explain again with the weights of now."
        )
    asked = "the network described as it was when the map was made"
    if made.classes and made.classes != model.classes:
        raise BadParameter(asked, f"classes {model.classes}; the map's are {made.classes}", "Give classes= (--classes) as they were.")
    for name, now in model.described().items():
        was = made.described.get(name, now)
        if was != now:
            got = f"{now or 'no'} {name}; the map was made with {was or 'none'}"
            raise BadParameter(asked, got, f"Give {name}= (--{name.replace('_', '-')}) as it was.")
    if scan.fingerprint != made.image and model.ready(scan)[0].fingerprint != made.image:
        called = f"the map {name!r}" if name else "the map"
        if scan.fingerprint != made.scan:
            raise BadParameter(
                f"{called} to be of the image that is given", "one of another image", "Grade or examine a map with its own image."
            )
        raise BadParameter(
            asked, f"another prepare; the map was made with {made.prepare or 'none'}", "Give prepare= (--prepare) as it was."
        )
