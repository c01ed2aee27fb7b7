"""Activation maximization: the picture that a unit or a class answers to most, held back by priors, beside one that nothing holds back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from pellucid.asking import Scan
from pellucid.errors import BadParameter
from pellucid.image import digest
from pellucid.model import as_model
from pellucid.params import Count, Positive, Weight, check
from pellucid.probe.ledger import untouched
from pellucid.prototypes.asked import closed, scans_of
from pellucid.prototypes.canvas import Waves
from pellucid.prototypes.climb import Jolts, Priors
from pellucid.prototypes.facets import Facets
from pellucid.prototypes.given import Start
from pellucid.prototypes.making import PACE, Bench, Made
from pellucid.prototypes.result import Prototype
from pellucid.run import Run

CITE = "Erhan et al. 2009; Simonyan et al. 2013, arXiv:1312.6034; Yosinski et al. 2015, arXiv:1506.06579; Olah et al. 2017, Feature visualization"
LAST = 0.1  # of the first step: the last ones settle
Drawn = Literal["waves", "samples"]


def activation_maximization(
    model: Any,
    target: Any,
    scans: Scan | Sequence[Scan],
    *,
    start: Start | Scan = "mean",
    drawn: Drawn = "waves",
    steps: int = 256,
    rate: float | None = None,
    l2: float = 24.0,
    tv: float = 24.0,
    blur: float = 0.0,
    every: int = 4,
    shift: float = 4.0,
    turn: float = 5.0,
    zoom: float = 0.05,
    power: float = 1.0,
    colors: bool = True,
    facets: int = 1,
    diversity: float = 1.0,
    site: str = "auto",
    run: Run | None = None,
) -> Prototype:
    """A picture that makes a target's score high: of a class's logit, a channel, a neuron, a direction, or sums of these.

    ``x* = argmax score(moved(x)) - l2 mean(d^2) - tv mean|step of d|``, ``d = (x - start) / span``, by Adam from ``start``.
    Beside it, as many steps without any of this (what fools the network), and what the images given score.

    Args:
        model: the network, described or bare.
        target: a class (its logit, not its probability), ``pl.channel(site, k)``, ``pl.neuron(...)``, ``prototypes.direction(...)``.
        scans: images of the kind that the network takes, one at least: shape, span, mean, colors; see ``pl.signal``.
        start: the ``mean`` of the scans, ``flat`` (each channel's mean), or an image: what must be added to a healthy one?
        drawn: ``waves``: the spectrum, falling as 1 / f ** ``power``, squashed into the span; ``samples``: as they are, cut at its ends.
        steps, rate: of Adam, down to a tenth of it; rate None: 0.05 of waves, 0.02 of the span of samples.
        l2, tv: the price of a mean squared change, and of a mean step of it between samples, as large as the span; 1: as much as the best scan's
            score lies above the start's.
        blur, every: of the change, finest samples, every so many steps.
        shift, turn, zoom: what the picture must bear at each step: samples, degrees, share.
        colors: channels vary together as in the scans (waves only; learned from them, nothing else is known).
        facets: pictures, kept apart at ``site`` by ``diversity`` (1: a cosine of 1 costs as much as the best scan lies above the start).
        run: seed, memory, progress, cancel.

    Raises:
        BadTarget: one that an image would choose. BadImage, BadParameter, BadSite, BadModel: as ``explain``.

    **Misleads when**: it is taken for what decides in patients, or for a likely image; a high score proves nothing (see the one without priors).

    **Source**: as ``CITE``. Differs: the change is held back and parametrized, not the image; no color statistics but the user's own.
    """
    _checked(drawn, steps=(Count, steps), l2=(Weight, l2), tv=(Weight, tv), blur=(Weight, blur), every=(Count, every), shift=(Weight, shift),
             turn=(Weight, turn), zoom=(Weight, zoom), power=(Weight, power), facets=(Count, facets), diversity=(Weight, diversity))  # fmt: skip
    wanted, several, run = closed(target), scans_of(scans), run or Run()
    net = as_model(model)
    with untouched(net.module):
        bench = Bench.of(net, wanted, several, start, run)
        given = bench.given
        pace = check("activation_maximization", "rate", Positive, rate) if rate is not None else 0.05 if drawn == "waves" else PACE
        climb = bench.climb(steps, pace, 1)
        if drawn == "waves":
            mix = given.mix if colors else given.mix.new_ones(len(given.mix)).diag()
            climb.canvas = Waves(bench.start, given.low, given.high, mix, bench.asked.like.grid.spacing, power)
        climb.last = LAST
        climb.priors, climb.jolts = Priors(l2 * bench.rise, tv * bench.rise, blur, every), Jolts(shift, turn, zoom)
        apart = Facets(bench.asked, bench.asked.place(site), bench.start, diversity * bench.rise) if facets > 1 else None
        climb.rows = apart
        at, ways, _ = climb.run(facets)
        x = climb.canvas.image(at)
        names = ["the picture"] if facets == 1 else [f"facet {i + 1}" for i in range(facets)]
        made = [Made(name, "optimum", one, way) for name, one, way in zip(names, x, ways, strict=True)]
        told = {"drawn": drawn, "steps": steps, "rate": pace, "l2": l2, "tv": tv, "blur": blur, "every": every, "shift": shift, "turn": turn,
                "zoom": zoom, "power": power, "colors": colors, "facets": facets, "diversity": diversity, "images": len(several),
                "start": start if isinstance(start, str) and start in get_args(Start) else f"image:{digest(bench.start)[:12]}"}  # fmt: skip
        called = f"activation_maximization({', '.join(f'{k}={v!r}' for k, v in told.items())})"
        found = bench.result(
            "activation maximization", called, [*made, bench.fooling(steps)], cite=CITE, alike=apart.alike(x) if apart else float("nan")
        )
    return found if apart is None else replace(found, provenance=replace(found.provenance, site=apart.place.text))


def _checked(drawn: Any, **given: tuple[Any, Any]) -> None:
    if drawn not in get_args(Drawn):
        raise BadParameter("drawn is 'waves' or 'samples'", repr(drawn), "Choose one of them.")
    for name, (kind, value) in given.items():
        check("activation_maximization", name, kind, value)
