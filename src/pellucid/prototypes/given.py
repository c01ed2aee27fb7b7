"""What the images given tell: size and span, the mean, how colors go together, what they score; each is read once and let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadParameter
from pellucid.image import Image
from pellucid.ops.spectrum import magnitude
from pellucid.prototypes.asked import Asked, side_by_side

Start = Literal["mean", "flat"]
LEAST = 1e-6  # of a channel's spread: below it a channel says nothing


@dataclass(frozen=True, eq=False)
class Given:
    """``low`` and ``high`` (c, 1, ..., 1) span the values of all images; ``mean`` (c, *space) is that of all of them, in float64; ``covariance`` (c, c)
    that of their channels; ``best`` is the one with the highest of ``scores``."""

    like: Image
    low: Tensor
    high: Tensor
    mean: Tensor
    covariance: Tensor
    scores: tuple[float, ...]
    best: Tensor
    marks: tuple[str, ...]

    @property
    def mix(self) -> Tensor:
        """What makes independent channels vary together as the images' do, (c, c)."""
        return mixing(self.covariance)

    @property
    def axes(self) -> Tensor:
        """Principal axes of the channels, as columns (c, c): along them nothing varies together. The mean lies on their positive sides."""
        found = torch.linalg.eigh(self.covariance)[1]
        side = self.mean.flatten(1).mean(1) @ found
        return found * torch.where(side < 0, -1.0, 1.0)

    @property
    def width(self) -> Tensor:
        """How far values reach, (c, 1, ..., 1); 1 for a channel of one value."""
        return torch.where(self.high > self.low, self.high - self.low, torch.ones_like(self.low))

    def start(self, asked: Asked, chosen: Start | Scan) -> Tensor:
        """Where a picture begins, (c, *space): the mean image, each channel's mean everywhere, or an image.

        Raises:
            BadImage: an image of another shape.
            BadParameter: another word.
        """
        if chosen == "mean":
            return self.mean.to(asked.x)
        if chosen == "flat":
            axes = tuple(range(1, self.mean.ndim))
            return self.mean.mean(axes, keepdim=True).expand_as(self.mean).to(asked.x)
        if isinstance(chosen, str) and chosen in ("gray", "zero", "noise", "middle", "black"):
            raise BadParameter("start is 'mean', 'flat' or an image", repr(chosen), "Give a tensor for anything else.")
        x = asked.engine.model.ready(as_image(chosen))[1]
        _same(x, asked.x)
        return x


def _same(x: Tensor, first: Tensor) -> None:
    if x.shape != first.shape:
        raise BadImage(
            f"images of one shape once prepared, {tuple(first.shape)}", f"{tuple(x.shape)}", "Bring them to one size in prepare=."
        )


def read_given(asked: Asked, scans: Sequence[Scan]) -> Given:
    """Look at all images once: prepared, of one shape, a few at a time.

    Raises:
        BadImage: prepared images of several shapes.
    """
    model, ready = asked.engine.model, asked.x.double()
    mean = torch.zeros_like(ready)
    low, high = model.span(asked.x)
    products = torch.zeros(len(ready), len(ready), dtype=torch.float64, device=ready.device)
    scores: list[float] = []
    marks: list[str] = []
    best, top = asked.x, -float("inf")
    together = side_by_side(asked.x)
    for at in range(0, len(scans), together):
        batch = []
        for scan in scans[at : at + together]:
            image, x = model.ready(as_image(scan))
            _same(x, asked.x)
            a, b = model.span(x)
            low, high = torch.minimum(low, a), torch.maximum(high, b)
            mean += x.double()
            products += x.double().flatten(1) @ x.double().flatten(1).T
            marks.append(image.fingerprint)
            batch.append(x)
        found, _ = asked.told(torch.stack(batch))
        scores += found
        if max(found) > top:
            top, best = max(found), batch[found.index(max(found))]
    n = len(scans)
    center = (mean / n).flatten(1).mean(1)
    covariance = products / (n * ready[0].numel()) - center[:, None] * center
    ends = (low.to(asked.x), high.to(asked.x))
    return Given(asked.like, *ends, mean / n, covariance, tuple(scores), best, tuple(marks))


def mean_spectrum(asked: Asked, scans: Sequence[Scan], axes: Tensor) -> Tensor:
    """Mean magnitude of the spectra of all images (c, *space), in float64, once their channels are turned to ``axes`` (c, c)."""
    total = torch.zeros_like(asked.x, dtype=torch.float64)
    for scan in scans:
        x = asked.engine.model.ready(as_image(scan))[1]
        total += magnitude(torch.einsum("ji,j...->i...", axes, x.double()))
    return total / len(scans)


def mixing(covariance: Tensor) -> Tensor:
    """What makes independent channels vary together as ``covariance`` (c, c) says: its root, each channel's own spread taken out.

    >>> mixing(torch.tensor([[4.0, 4.0], [4.0, 4.0]]))
    tensor([[0.7071, 0.7071],
            [0.7071, 0.7071]])
    """
    spread = covariance.diagonal().clamp_min(0).sqrt()
    told = spread > LEAST * spread.max().clamp_min(1e-30)
    scale = torch.where(told, spread, torch.ones_like(spread))
    correlation = covariance / scale / scale[:, None]
    correlation = torch.where(told & told[:, None], correlation, torch.eye(len(spread)).to(correlation))
    values, vectors = torch.linalg.eigh((correlation + correlation.T) / 2)
    return vectors @ (values.clamp_min(0).sqrt()[:, None] * vectors.T)
