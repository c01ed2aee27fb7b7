"""Maps of attacked images: the network is made to say something else, and is asked about the true class as before."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.asking import Scan, explain_all
from pellucid.baseline import Each, in_words, one_or_each
from pellucid.errors import BadParameter, Unsupported
from pellucid.evidence.cues.asked import Asked
from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.method import Ask, Method, read_method
from pellucid.model import as_model
from pellucid.ops.similarity import spearman, ssim, unit
from pellucid.params import Count, Positive, check
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table
from pellucid.target import Logit, Probability, Seen, Target

TOP = 0.1  # of the samples
Attack = Literal["pgd", "fgsm"]


@dataclass(frozen=True)
class LogOdds(Target):
    """The logit of a class against all others: what an attack lowers. For labels that do not exclude each other, their own logit."""

    own: Logit | Probability

    def score(self, seen: Seen) -> Tensor:
        z = seen.reading.logits(seen.output)
        if z.ndim != 2 or z.shape[1] < 2 or seen.reading.kind not in ("logits", "single logit"):
            return Logit(self.own.k).score(seen)
        k = seen.reading.index(self.own.k, z.shape[1])
        rest = torch.cat([z[:, :k], z[:, k + 1 :]], 1)
        return z[:, k] - rest.logsumexp(1)


@dataclass(frozen=True)
class Likeness:
    """How alike two maps are: rank correlation with signs, SSIM of both scaled to [0, 1], share of the first's top tenth that is in the second's."""

    rank: float
    ssim: float
    top: float

    @classmethod
    def between(cls, a: Tensor, b: Tensor) -> Likeness:
        """Of two maps (*space)."""
        return cls(spearman(a, b), ssim(unit(a), unit(b), data_range=1.0), _kept(a, b))


@dataclass(frozen=True, eq=False)
class Attacked:
    """An image before and after an attack, and maps of the same class of both.

    ``odds`` are before and after what the attack lowered (the class's logit against all others); ``noise`` is what random signs of the same size
    do to the odds and to the map: the level that the attack's effect is held against.
    """

    before: Map
    after: Map
    image: Image
    attacked: Image
    odds: tuple[float, float]
    noise: float
    likeness: Likeness
    noise_likeness: Likeness
    reach: Each
    steps: int

    @property
    def fooled(self) -> bool:
        """Whether the network held the class more likely than not, and after the attack does not."""
        return self.odds[0] > 0 >= self.odds[1]

    @property
    def text(self) -> str:
        """The finding in plain words."""
        said = (
            "made the network deny the class"
            if self.fooled
            else "did not make the network deny the class"
            if self.odds[0] > 0
            else "met a network that denied it"
        )
        return (
            f"A change of at most {in_words(self.reach)} in every value {said} (log odds {self.odds[0]:.2f} to {self.odds[1]:.2f}; random signs of that size: "
            f"{self.noise:.2f}). The map of the same class keeps a rank correlation of {self.likeness.rank:.2f} with the map before, and {self.likeness.top:.0%} of its "
            f"top tenth ({self.noise_likeness.rank:.2f} and {self.noise_likeness.top:.0%} under random signs)."
        )

    def table(self) -> Table:
        """The image as it is, under random signs, attacked."""
        same = Likeness(1.0, 1.0, 1.0)
        rows = [
            ("as it is", self.odds[0], same),
            ("random signs", self.noise, self.noise_likeness),
            ("attacked", self.odds[1], self.likeness),
        ]
        return Table(
            ("image", "log odds", "rank correlation", "SSIM", "top kept"), tuple((n, s, k.rank, k.ssim, k.top) for n, s, k in rows)
        )


def attacked(
    net: Any,
    image: Scan,
    target: Any,
    *,
    method: Method[Any] | str = "grad_cam",
    epsilon: Positive = 0.01,
    attack: Attack = "pgd",
    steps: Count = 10,
    site: str | None = None,
    run: Run | None = None,
) -> Attacked:
    """What a method shows of the true class after an attack has made the network deny it: Grad-CAM's map may stay where it was.

    PGD: ``x' = clip(x' - 2.5 e / steps * sign(d o / d x'), x - e, x + e)`` from a random point of that box, kept in the range of values; ``o`` is the
    logit of the class against all others, ``e = epsilon * range``; the lowest of all steps is kept. FGSM is one step of size e from x. Maps of the
    SAME class before and after, (c, *space).

    Args:
        net, image: as in ``explain``; the prepared image is attacked.
        target: the true class, or any Target (which is then lowered itself).
        method: how both images are explained.
        epsilon: the largest change, as a share of the range of values.
        attack, steps: ``pgd`` with its steps, or ``fgsm``.
        site: as in ``explain``.
        run: seed, chunk, memory, cancel.

    **Misleads when**: the attack fails: look at ``fooled``. A map that stays may be blind to the network; hold it against its randomization.
    **Source**: Selvaraju et al. 2017, section 7.1 (maps of attacked images); Goodfellow et al. 2015 (FGSM), Madry et al. 2018 (PGD, equation 2).

    Raises:
        BadModel, Unsupported: the score has no gradient, or one that is zero everywhere.
    """
    if attack not in ("pgd", "fgsm"):
        raise BadParameter("an attack is 'pgd' or 'fgsm'", repr(attack), "Choose one.")
    share, many = check("attacked", "epsilon", Positive, epsilon), check("attacked", "steps", Count, steps)
    with untouched(as_model(net).module):
        asked = Asked(net, target, run, image)
        scan = asked.ready(image)[0]
        lowered = LogOdds(asked.target) if isinstance(asked.target, (Logit, Probability)) else asked.target
        x = scan.values.to(asked.model.device, asked.model.dtype or scan.values.dtype)
        low, high = asked.model.span(scan.values)
        reach = (share * (high - low)).to(x)
        ball = (torch.maximum(x - reach, x.clamp_max(low.to(x))), torch.minimum(x + reach, x.clamp_min(high.to(x))))
        found, odds = _search(asked, scan, lowered, x, reach, ball, 1 if attack == "fgsm" else many, attack)
        signs = (torch.randint(2, x.shape, generator=asked.chance("signs")) * 2 - 1).to(x)
        noisy = (x + reach * signs).clamp(*ball)
        (noise,) = (float(a.score) for a in asked.probe(scan, lowered).scores([noisy]))
        images = [scan, *(scan.with_values(v.detach().cpu()) for v in (found, noisy))]
        maps = explain_all(replace(asked.model, prepare=None), images, [Ask(read_method(method), asked.target, site)], asked.run)
    flat = [m.on(scan.grid).relevance.double() for m in maps]
    return Attacked(
        maps[0], maps[1], scan, images[1], odds, noise, Likeness.between(flat[0], flat[1]), Likeness.between(flat[0], flat[2]), one_or_each(share * (high - low)),
        1 if attack == "fgsm" else many,
    )  # fmt: skip


def _search(
    asked: Asked, scan: Image, lowered: Target, x: Tensor, reach: Tensor, ball: tuple[Tensor, Tensor], steps: int, attack: Attack
) -> tuple[Tensor, tuple[float, float]]:
    """The image with the lowest score on the way, and the score before and there."""
    probe = asked.probe(scan, lowered)
    scores, slopes = probe.ask([x])
    before = float(scores[0])
    if not bool(slopes.any()):
        raise Unsupported(
            "an attack along the slope of the score", "a slope of zero everywhere", "The score is saturated or rounded; ask for its logit."
        )
    at, size = x, reach
    if attack == "pgd":
        draw = 2 * torch.rand(x.shape, generator=asked.chance("start"), dtype=torch.float64) - 1
        at, size = (x + reach * draw.to(x)).clamp(*ball), 2.5 * reach / steps
        slopes = probe.ask([at])[1]
    best, lowest = x, math.inf
    for _ in range(steps):
        at = (at - size * slopes[0].sign()).clamp(*ball)
        scores, slopes = probe.ask([at])
        if float(scores[0]) < lowest:
            best, lowest = at, float(scores[0])
    return best, (before, lowest)


def _kept(a: Tensor, b: Tensor) -> float:
    """Share of the highest tenth of ``a`` that is among as many highest of ``b``."""
    n = max(1, round(TOP * a.numel()))
    own, other = (set(t.flatten().topk(n).indices.tolist()) for t in (a, b))
    return len(own & other) / n
