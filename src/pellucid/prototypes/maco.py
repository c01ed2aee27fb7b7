"""MACO: the phase of a spectrum is moved, its magnitude stays that of the user's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import Scan
from pellucid.errors import BadParameter
from pellucid.model import as_model
from pellucid.ops.spectrum import magnitude
from pellucid.ops.warp import boxes, warp
from pellucid.params import Count, Fraction, Positive, Weight, check
from pellucid.probe.ledger import untouched
from pellucid.prototypes.asked import closed, scans_of
from pellucid.prototypes.canvas import Phases
from pellucid.prototypes.given import mean_spectrum
from pellucid.prototypes.making import Bench, Made
from pellucid.prototypes.result import Prototype
from pellucid.run import Run

CITE = "Fel et al. 2023, Unlocking feature visualization for deeper networks with magnitude constrained optimization, NeurIPS, arXiv:2306.06805"


@dataclass(eq=False)
class _Crops:
    """What the network is shown of a picture: the whole, and boxes that shrink from step to step, each enlarged to it, with a little noise."""

    first: float
    last: float
    crops: int
    steps: int
    noise: Tensor
    random: torch.Generator
    taken: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        share = self.first + (self.last - self.first) * self.taken / max(self.steps - 1, 1)
        self.taken += 1
        shown = x.repeat_interleave(self.crops, 0)
        if self.crops > 1 and share < 1:
            cut = boxes((self.crops - 1) * len(x), share, tuple(x.shape[2:]), self.random)
            part = warp(x.repeat_interleave(self.crops - 1, 0), cut).unflatten(0, (len(x), self.crops - 1))
            shown = torch.cat([x[:, None], part], 1).flatten(0, 1)
        chance = torch.randn(shown.shape, generator=self.random, dtype=torch.float64)
        chance = chance + 2 * torch.rand(shown.shape, generator=self.random, dtype=torch.float64) - 1
        return shown + self.noise * chance.to(shown)


def maco(
    model: Any,
    target: Any,
    scans: Scan | Sequence[Scan],
    *,
    steps: int = 256,
    rate: float = 0.25,
    crops: int = 4,
    first: float = 1.0,
    last: float = 0.5,
    noise: float = 0.04,
    run: Run | None = None,
) -> Prototype:
    """A picture with the frequencies of the user's images and phases that make a target's score high; how much each sample mattered fades it.

    ``x = F^-1(r exp(i phi))``, ``r`` the mean magnitude of the scans' spectra (along the principal axes of their channels), ``phi`` alone is moved;
    transparency is ``sum_t |d score / d x|``.

    Args:
        model, target: as in ``activation_maximization``.
        scans: the user's images, of one shape once prepared; one gives its own spectrum, dozens that of their kind.
        steps, rate: of Adam over the phase, in radians.
        crops: what is shown at each step: the whole, and boxes.
        first, last: extent of the boxes at the first and the last step, as a share; normally spread about the middle.
        noise: on what is shown, a share of the span.
        run: seed, memory, progress, cancel.

    Raises:
        BadTarget, BadImage, BadParameter: as ``activation_maximization``.

    **Misleads when**: structure of the background (a dark frame, a field of view) sets most of the spectrum: the phase must carry it, and the
    picture repeats it anywhere. Values beyond the span are cut; ``numbers["spectrum"]`` tells how far that moves the spectrum.

    **Source**: Fel et al. 2023. Differs: phases odd, so that the image is real and its magnitude exact; the user's span in place of a squash;
    the whole is shown too and boxes shrink from all to half (there: half to a twentieth), for networks of small images that must see where things lie.
    """
    for name, kind, value in (("steps", Count, steps), ("rate", Positive, rate), ("crops", Count, crops), ("first", Fraction, first),
                              ("last", Fraction, last), ("noise", Weight, noise)):  # fmt: skip
        check("maco", name, kind, value)
    if not 0 < last <= first:
        raise BadParameter("boxes that shrink: 0 < last <= first", f"first={first}, last={last}", "Write first=1.0, last=0.5.")
    wanted, several, run = closed(target), scans_of(scans), run or Run()
    net = as_model(model)
    with untouched(net.module):
        bench = Bench.of(net, wanted, several, "mean", run)
        given = bench.given
        size = mean_spectrum(bench.asked, several, given.axes)
        climb = bench.climb(steps, rate, 3)
        canvas = Phases(size.to(given.low), given.axes, given.low, given.high)
        climb.canvas = canvas
        climb.seen = _Crops(first, last, crops, steps, noise * given.width, bench.random(4))
        at, ways, mattered = climb.run(1)
        x = canvas.image(at)[0]
        off = float((magnitude(torch.einsum("ji,j...->i...", given.axes, x.double())) - size).norm() / size.norm())
        made = [Made("the picture", "optimum", x, ways[0], mattered[0]), bench.fooling(steps)]
        called = f"maco(steps={steps}, rate={rate}, crops={crops}, first={first}, last={last}, noise={noise}, images={len(several)})"
        told = [f"Cutting values at the ends of the span moved the spectrum by {100 * off:.0f} %."] if off > 0.02 else []
        return bench.result("MACO", called, made, cite=CITE, numbers={"spectrum": off}, notes=told)
