"""Inversion: images whose code at a site is that of a given one. What the site keeps, and what it leaves open."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import Scan
from pellucid.errors import BadSite
from pellucid.explanation import Evidence, Measurement
from pellucid.findings import signed
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.model import Model, as_model
from pellucid.params import Count, Positive, Weight, check
from pellucid.probe.ledger import untouched
from pellucid.prototypes.asked import Asked
from pellucid.prototypes.canvas import Samples
from pellucid.prototypes.climb import Climb, roughness
from pellucid.prototypes.making import picture_of
from pellucid.prototypes.result import Picture, Prototype
from pellucid.run import Run
from pellucid.target import Logit, Seen, Target

CITE = "Mahendran, Vedaldi 2015, Understanding deep image representations by inverting them, CVPR, arXiv:1412.0035"
OPEN = (
    "What the images made have in common, the site keeps; where they differ from each other, it leaves open. Where they agree and the given image "
    "differs, the priors may have decided."
)
LAST = 0.01  # of the first step
BROAD = 0.2  # of the span: spread of the noise that each image begins with, so that what is open stays so


@dataclass(frozen=True, eq=False)
class Match(Target):
    """Minus the squared distance of the activation at a site from a code, as a share of the code's squared length."""

    site: str
    code: Tensor

    @property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.site,)

    def score(self, seen: Seen) -> Tensor:
        off = (seen.sites[self.site] - self.code).flatten(1).square().sum(1)
        return -off / self.code.square().sum()

    def settle(self, seen: Seen, grid: Grid) -> Target:
        return self

    def __repr__(self) -> str:
        return f"the code at {self.site!r}"


@dataclass(frozen=True, eq=False)
class Inversion(Prototype):
    """Images made from the code of one image at a site; ``score`` is minus the distance from the code, as a share of its squared length.

    ``numbers``: ``code`` the mean distance, ``gray`` that of a gray image, ``image`` the mean difference from the image given (root mean square, in
    spans), ``apart`` that of the images made from their mean, ``widest`` where it is largest.
    """

    kind = "inversion"

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people; the last says what it does not show."""
        n = self.numbers
        made = len(self.optima)
        told = [
            f"{made} {'images were' if made > 1 else 'image was'} made from nothing but {self.asked}: {'they come' if made > 1 else 'it comes'} as near to it as {100 * n['code']:.3g} % of its squared length (a gray "
            f"image: {100 * n['gray']:.3g} %).",
            f"{'They differ' if made > 1 else 'It differs'} from the given image by {100 * n['image']:.2g} % of the span"
            + (f", and from their mean by {100 * n['apart']:.2g} %." if made > 1 else "."),
        ]
        given = next(p for p in self.pictures if p.role == "given")
        if given.probabilities:
            sure = ", ".join(f"{self.confidence(p):.2f}" for p in self.optima)
            told.append(
                f"The network gives {self.watched} a probability of {self.confidence(given):.2f} for the given image, {sure} for those made."
            )
        return (*told, *self.notes, OPEN)

    @property
    def evidence(self) -> Evidence:
        """Whether the code was reached: an inversion that is no nearer to it than half as far as a gray image shows nothing."""
        reached = self.numbers["code"] <= 0.5 * self.numbers["gray"]
        row = Measurement(
            "distance from the code", self.numbers["code"], "share", "down", "pass" if reached else "fail", self.sentences()[0], self.numbers["gray"],
            "a gray image",
        )  # fmt: skip
        return Evidence("quick", (row,), "questionable" if reached else "not supported", (OPEN,))

    def _lines(self, p: Picture) -> tuple[str, ...]:
        if p.role == "spread":
            return (f"white: {100 * self.numbers['widest']:.0f} % of the span,", "which the site leaves open")
        sure = self.confidence(p)
        off = "" if p.role == "given" else f"code off by {100 * -p.score:.2g} %"
        return tuple(t for t in (off, "" if sure != sure else f"probability {sure:.2f}") if t)


def inversion(
    model: Any,
    scan: Scan,
    site: str = "auto",
    *,
    draws: int = 3,
    steps: int = 300,
    rate: float = 0.1,
    tv: float = 10.0,
    beta: float = 2.0,
    alpha: float = 0.01,
    power: float = 6.0,
    run: Run | None = None,
) -> Inversion:
    """Images whose activation at a site is that of the image given, from several beginnings: what they share is what the site keeps.

    ``min |phi(x) - phi0|^2 / |phi0|^2 + tv mean |step|^beta + alpha mean |u|^power``, ``u`` from -1 to 1 over the span, by Adam.

    Args:
        model: the network, described or bare.
        scan: an image, tensor or path.
        site: where; ``"auto"``: the last one with extent before the head.
        draws: images, each from noise of its own.
        steps, rate: of Adam, from ``rate`` (of the span) down to a hundredth of it.
        tv, beta: total variation, which prefers flat regions; 0 for none.
        alpha, power: keeps values from the ends of the span; 0 for none.
        run: seed, memory, progress, cancel.

    Raises:
        BadSite: one that does not exist, or whose activation is 0 everywhere. Others as ``explain``.

    **Misleads when**: the priors are strong: flat regions are theirs. Read the spread beside the images.

    **Source**: Mahendran, Vedaldi 2015, equations 1 to 3 (beta 2, power 6; their code normalizes as here). Differs: Adam, and priors as means in spans.
    """
    for name, kind, value in (("draws", Count, draws), ("steps", Count, steps), ("rate", Positive, rate), ("tv", Weight, tv),
                              ("beta", Positive, beta), ("alpha", Weight, alpha), ("power", Positive, power)):  # fmt: skip
        check("inversion", name, kind, value)
    began, run, net = time.perf_counter(), run or Run(), as_model(model)
    with untouched(net.module):
        plain = Asked.of(net, scan, Logit(0) if net.classes else _Nothing(), run)
        place = plain.place(site)
        code = plain.activation(plain.x[None], place)
        if not bool(code.any()):
            raise BadSite("a site whose activation says something", f"zeros at {place.text!r}", "Choose another site or image.")
        asked = replace(plain, target=Match(place.text, code), questions={})
        low, high = (end.to(plain.x) for end in net.span(plain.x))
        start = ((low + high) / 2).expand_as(plain.x)
        canvas = Samples(start, low, high, BROAD)

        def held(y: Tensor) -> Tensor:
            rough = roughness(y / canvas.width, plain.like.grid.spacing, beta) if tv else 0.0
            far = (2 * (y - start) / canvas.width).abs().pow(power).flatten(1).mean(1) if alpha else 0.0
            return tv * rough + alpha * far + y.new_zeros(len(y))

        random = torch.Generator().manual_seed(run.seed)
        climb = Climb(asked, canvas, start, canvas.width, steps, rate, random, held=held if tv or alpha else None, last=LAST)
        at, ways, _ = climb.run(draws)
        called = f"inversion(draws={draws}, steps={steps}, rate={rate}, tv={tv}, beta={beta}, alpha={alpha}, power={power})"
        return _told(net, run, asked, canvas.image(at), ways, (low, high), called, time.perf_counter() - began)


class _Nothing(Target):
    """A score that nobody asks for: what the network's output means is settled with it."""

    def score(self, seen: Seen) -> Tensor:
        return seen.output.detach().flatten(1).sum(1) * 0


def _told(
    net: Model, run: Run, asked: Asked, x: Tensor, ways: list[list[float]], span: tuple[Tensor, Tensor], called: str, seconds: float
) -> Inversion:  # fmt: skip
    """The images made beside the one given, and where they differ."""
    low, high = span
    target = asked.target
    assert isinstance(target, Match)
    every = torch.cat([asked.x[None], x, ((low + high) / 2).expand_as(asked.x)[None]])
    scores, sure = asked.told(every)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    unit = ((x - asked.x) / width).double()
    spread = ((x - x.mean(0)) / width).double().square().mean(0).sqrt()
    watched = max(range(len(sure[0])), key=lambda k: sure[0][k]) if sure[0] else -1
    name = net.classes[watched] if 0 <= watched < len(net.classes) else str(watched) if watched >= 0 else ""
    alike = [
        replace(picture_of(asked.like, one), notes=asked.like.notes) for one in (asked.x, *x)
    ]  # text burned in comes back with the rest
    pictures = [Picture("given", "given", alike[0], scores[0], sure[0])]
    pictures += [Picture(f"made {i}", "optimum", one, scores[i], sure[i]) for i, one in enumerate(alike[1:], 1)]
    lowest, highest = float(low.min()), float(high.max())
    share = spread.mean(0, keepdim=True)
    if len(x) > 1:
        shown = lowest + (highest - lowest) * (share / max(float(share.max()), 1e-12))
        pictures.append(
            Picture("where they differ", "spread", Image(shown.float().cpu(), asked.like.grid, "spread", ("spread",)), float("nan"))
        )
    numbers = {
        "code": -sum(scores[1:-1]) / len(x), "gray": -scores[-1], "image": float(unit.square().mean().sqrt()), "apart": float(spread.square().mean().sqrt()),
        "widest": float(share.max()),
    }  # fmt: skip
    meter = asked.engine.meter
    provenance = signed(
        net, run, called, image=asked.like.fingerprint, seconds=seconds, target=repr(target), site=target.site, cite=CITE, notes=asked.engine.notes
    )  # fmt: skip
    provenance = replace(provenance, forward=meter.forward, backward=meter.backward, setup=meter.setup, output=asked.engine.output)
    middle = tuple(n // 2 for n in asked.like.grid.shape)
    return Inversion(
        "inversion", repr(target), name, tuple(pictures), (), tuple(map(tuple, ways)), net.classes, (lowest, highest), middle, provenance, net.identity,
        numbers=numbers,
    )  # fmt: skip
