"""A generator as prior: the code of a decoder is moved, so that the picture stays among what the decoder can draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadModel, BadParameter
from pellucid.image import digest
from pellucid.model import as_model
from pellucid.params import Count, Fraction, Positive, Weight, check
from pellucid.probe.ledger import untouched
from pellucid.prototypes.asked import Asked, closed, scans_of
from pellucid.prototypes.making import Bench, Made
from pellucid.prototypes.result import Prototype
from pellucid.run import Run

CITE = (
    "Nguyen et al. 2016, Synthesizing the preferred inputs for neurons via deep generator networks, NeurIPS, arXiv:1605.09304; "
    "Nguyen et al. 2017, Plug & play generative networks, CVPR, arXiv:1612.00005"
)
LAST = 0.01  # of the first step: how small steps become
WEAK = 0.5  # correlation of scores below which redrawn images are not what the network sees


@dataclass(frozen=True, eq=False)
class Codes:
    """What a decoder may be given: codes of images (n, ...), and the ends and the spread of each number among them."""

    codes: Tensor
    low: Tensor
    high: Tensor
    spread: Tensor

    @classmethod
    def of(cls, codes: Tensor, clip: float) -> Codes:
        """From codes of at least two images; ``clip`` of them are cut off at either end, number by number."""
        if codes.ndim < 2 or len(codes) < 2 or not bool(torch.isfinite(codes).all()):
            raise BadParameter("finite codes (n, ...) of at least two images", f"shape {tuple(codes.shape)}", "Give more scans or codes=.")
        ends = torch.quantile(codes.double(), torch.tensor([clip, 1 - clip], dtype=torch.float64, device=codes.device), dim=0).to(codes)
        return cls(codes, ends[0], ends[1], codes.std(0).clamp_min(1e-6 * float(codes.std()) + 1e-12))


def generator_prior(
    model: Any,
    target: Any,
    scans: Scan | Sequence[Scan],
    decoder: nn.Module | Callable[[Tensor], Tensor],
    *,
    encoder: Callable[[Tensor], Tensor] | None = None,
    codes: Tensor | None = None,
    steps: int = 200,
    rate: float = 0.1,
    decay: float = 0.01,
    clip: float = 0.01,
    pull: float = 0.0,
    noise: float = 0.0,
    run: Run | None = None,
) -> Prototype:
    """The picture that a decoder can draw for which a target's score is high: its code is moved and kept within what codes of images reach.

    ``h <- clip(h - decay (h - mean) + rate s g / mean|g| + pull (R(h) - h) + noise s N(0, 1))``, ``g = d score(decode(h)) / dh``, ``s`` the spread.

    Args:
        model, target: as in ``activation_maximization``.
        scans: the user's images; their codes bound the picture's, and say what the decoder can redraw.
        decoder: codes (n, ...) to images (n, c, *space) in the units of the prepared scans; ``autoencoder()`` ships one. A module with ``encode`` and
            ``decode`` (MONAI's, say) is taken whole.
        encoder: images to codes, where the decoder has none; ``codes``: (n, ...) of images, in its place.
        steps, rate: rate is the first step in spreads of a number of the code; it falls in a line.
        decay: of the code toward the mean, each step (DGN-AM).
        clip: share of the codes at either end beyond which no number may go.
        pull, noise: toward the code of the picture redrawn, and random (PPGN): a walk among likely codes; pull needs an encoder.
        run: seed, memory, progress, cancel.

    Raises:
        BadModel: a decoder that draws images of another shape. BadParameter: no codes. Others as ``activation_maximization``.

    **Misleads when**: the decoder cannot draw what the network uses: ``numbers["redrawn"]`` is the correlation of scores of scans and their redrawn
    selves; what looks like a patient comes from the decoder, and only what differs from the start from the network.

    **Source**: Nguyen et al. 2016 (lr falls in a line, decay .99, clipping), 2017 (equation 5). Differs: bounds are quantiles of the scans' own codes.
    """
    for name, kind, value in (("steps", Count, steps), ("rate", Positive, rate), ("decay", Fraction, decay), ("clip", Fraction, clip),
                              ("pull", Weight, pull), ("noise", Weight, noise)):  # fmt: skip
        check("generator_prior", name, kind, value)
    wanted, several, run, net = closed(target), scans_of(scans), run or Run(), as_model(model)
    encode, decode = _ways(decoder, encoder, pull)
    whole = decoder if isinstance(decoder, nn.Module) else nn.Identity()
    with untouched(net.module), untouched(whole):
        asked = Asked.of(net, several[0], wanted, run)
        known = Codes.of(_coded(asked, several, encode) if codes is None else codes.to(asked.x), clip)
        first = known.codes.mean(0).clamp(known.low, known.high)
        bench = Bench.of(net, wanted, several, _drawn(decode, first[None], asked)[0].detach(), run)
        walk = _Walk(bench.asked, decode, encode, known, first, steps, rate, decay, pull, noise)
        h, way = walk.run(bench.random(5))
        x = _drawn(decode, h[None], bench.asked).detach()[0]
        numbers = {"codes at their ends": float(((h <= known.low) | (h >= known.high)).double().mean())}
        notes = []
        if encode is not None:
            numbers["redrawn"] = same = _redrawn(bench, several, encode, decode)
            word = "hardly" if same < WEAK else "largely"
            notes.append(
                f"The decoder redraws {word} what the network sees: scores of scans and of the scans redrawn correlate by {same:.2f}."
            )
        made = [Made("the picture", "optimum", x, way), bench.fooling(steps)]
        by = digest(*(t for t in whole.state_dict().values() if isinstance(t, Tensor)))[:12]
        called = (
            f"generator_prior(decoder={type(decoder).__name__}:{by}, steps={steps}, rate={rate}, decay={decay}, clip={clip}, pull={pull}, "
            f"noise={noise}, images={len(several)})"
        )
        return bench.result("a decoder's prior", called, made, cite=CITE, numbers=numbers, notes=notes)


Way = Callable[[Tensor], Tensor]


def _ways(decoder: Any, encoder: Way | None, pull: float) -> tuple[Way | None, Way]:
    """Encoder (where there is one) and decoder."""
    decode: Way = decoder.decode if callable(getattr(decoder, "decode", None)) else decoder
    encode: Way | None = encoder if encoder is not None else getattr(decoder, "encode", None)
    if pull > 0 and encode is None:
        raise BadParameter("an encoder, to pull codes toward what is redrawn", "none", "Give encoder=, or leave pull= out.")
    return encode, decode


def _code(encode: Way, x: Tensor) -> Tensor:
    """The code of images; of an encoder that gives mean and spread, the mean."""
    found = encode(x)
    return found[0] if isinstance(found, (tuple, list)) else found


def _coded(asked: Asked, scans: Sequence[Scan], encode: Way | None) -> Tensor:
    if encode is None:
        raise BadParameter("codes of images, or an encoder", "neither", "Give codes=, encoder=, or a decoder with encode().")
    with torch.no_grad():
        return torch.cat([_code(encode, asked.engine.model.ready(as_image(s))[1][None]) for s in scans])


def _drawn(decode: Way, h: Tensor, asked: Asked) -> Tensor:
    x = decode(h)
    if not isinstance(x, Tensor) or x.shape[1:] != asked.x.shape:
        got = f"{tuple(x.shape[1:])}" if isinstance(x, Tensor) else type(x).__name__
        raise BadModel(f"a decoder that draws images of shape {tuple(asked.x.shape)}", got, "Resize what it draws to the prepared image.")
    return x


def _redrawn(bench: Bench, scans: Sequence[Scan], encode: Way, decode: Way) -> float:
    """Correlation of the scores of images and of the same redrawn (nan where either is constant)."""
    again = []
    with torch.no_grad():
        for s in scans:
            x = bench.asked.engine.model.ready(as_image(s))[1][None]
            again += bench.asked.told(_drawn(decode, _code(encode, x), bench.asked))[0]
    both = torch.tensor([list(bench.given.scores), again], dtype=torch.float64)
    apart = both.std(1) if both.shape[1] > 1 else torch.zeros(2)
    return float(torch.corrcoef(both)[0, 1]) if bool((apart > 0).all()) else math.nan


@dataclass(eq=False)
class _Walk:
    """The walk of a code."""

    asked: Asked
    decode: Way
    encode: Way | None
    known: Codes
    first: Tensor
    steps: int
    rate: float
    decay: float
    pull: float
    noise: float

    def run(self, random: torch.Generator) -> tuple[Tensor, list[float]]:
        """The last code, and the score at each step."""
        h, way, known = self.first, [], self.known
        mean = known.codes.mean(0)
        for step in range(self.steps):
            h = h.detach().requires_grad_()
            x = _drawn(self.decode, h[None], self.asked)
            score = self.asked.scores(x)
            (g,) = torch.autograd.grad(score.sum(), h)
            way.append(float(score.detach()))
            pace = self.rate * (1 + (LAST - 1) * step / max(self.steps - 1, 1))
            g = g * known.spread  # along each number in its own spread
            moved = h.detach() - self.decay * (h.detach() - mean) + pace * known.spread * g / g.abs().mean().clamp_min(1e-30)
            if self.pull > 0 and self.encode is not None:
                with torch.no_grad():
                    moved = moved + self.pull * (_code(self.encode, x.detach())[0] - h)
            if self.noise > 0:
                chance = torch.randn(h.shape, generator=random, dtype=torch.float64).to(h)
                moved = moved + self.noise * known.spread * chance
            h = torch.minimum(torch.maximum(moved, known.low), known.high)
        return h.detach(), way
