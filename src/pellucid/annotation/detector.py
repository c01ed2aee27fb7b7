"""A small detector: a network of a few thousand weights that says where boxes lie, trained in seconds on a CPU; 2D and 3D in one code path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.annotation.finding import Finding
from pellucid.errors import BadImage
from pellucid.evidence.masks import components
from pellucid.params import Count, Positive, check

Batch = tuple[Tensor, Tensor]
SIDE = 64  # samples along the shortest side that the network sees at most: larger pictures are averaged over blocks first
SLIDE = 3  # of those samples, by which training pictures are moved at most


class BoxNet(nn.Module):
    """Convolutions at half the picture's extent, the later ones dilated, and where on the picture a sample lies as further channels.

    (n, c, *space) to (n, 1, *space / 2): the logit that a sample lies in a box.
    """

    def __init__(self, channels: int, ndim: int, width: int = 8) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if ndim == 2 else (nn.Conv3d, nn.BatchNorm3d)

        def block(before: int, after: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
            layer = conv(before, after, 3, stride, dilation, dilation=dilation, bias=False)
            return nn.Sequential(layer, norm(after), nn.ReLU())

        wide = 2 * width
        self.layers = nn.Sequential(
            block(channels, width, 2), block(width, wide), *[block(wide + (ndim if d == 2 else 0), wide, 1, d) for d in (2, 4, 8)],
            conv(wide, 1, 1),
        )  # fmt: skip
        nn.init.constant_(self.layers[-1].bias, -2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        z = self.layers[:2](x)
        axes = [torch.linspace(-1, 1, n, dtype=x.dtype) for n in z.shape[2:]]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(x), -1, *z.shape[2:])
        return self.layers[2:](torch.cat([z, place], 1))


@dataclass(frozen=True, eq=False)
class Detector:
    """A trained BoxNet with the mean and spread of its training pictures."""

    net: BoxNet
    mean: Tensor
    spread: Tensor

    def probability(self, values: Tensor) -> Tensor:
        """How likely each sample of a picture (c, *space) lies in a box: (*space)."""
        with torch.no_grad():
            logits = self.net((pooled(values[None].float()) - self.mean) / self.spread)
        how = "bilinear" if values.ndim == 3 else "trilinear"
        return F.interpolate(logits, values.shape[1:], mode=how, align_corners=False).sigmoid()[0, 0]

    def __call__(self, values: Tensor, *, smallest: int = 4) -> list[Finding]:
        """Boxes where the probability is at least a half, most likely first; parts of fewer than ``smallest`` samples are left out."""
        p = self.probability(values)
        numbered, slices = components(p >= 0.5)
        found = []
        for k, box in enumerate(slices, 1):
            own = torch.from_numpy(numbered[box] == k)
            if int(own.sum()) >= smallest:
                found.append((float(p[box][own].mean()), tuple(s.start for s in box), tuple(s.stop for s in box)))
        return [Finding(n, a, b, score=s) for n, (s, a, b) in enumerate(sorted(found, reverse=True), 1)]


def train_detector(
    pictures: Sequence[Tensor], boxes: Sequence[Sequence[Finding]], *, steps: Count = 100, batch: Count = 8, rate: Positive = 0.01,
    seed: int = 0, on_step: Callable[[int, int], None] | None = None,
) -> Detector:  # fmt: skip
    """Train a detector on pictures (c, *space) of one shape and the boxes in each; a picture without boxes is one without findings.

    Cross entropy and Dice of the boxes' area; Adam with one cycle of its rate; pictures are averaged over blocks to at most 64 samples along their
    shortest side, moved a little, and their brightness changed by a tenth. ``steps=0`` leaves the network as it was drawn from the seed. All chance comes from ``seed``; the global random state stays as it was.

    Raises:
        BadImage: no pictures, or pictures of different shapes.
    """
    shapes = sorted({tuple(p.shape) for p in pictures})
    if len(shapes) != 1 or len(boxes) != len(pictures):
        raise BadImage("pictures of one shape, and boxes for each", f"{len(pictures)} of shapes {shapes}", "Resample them to one grid.")
    steps, batch = (check("train_detector", "steps", Count, steps) if steps else 0), check("train_detector", "batch", Count, batch)
    x = torch.cat([pooled(p[None].float()) for p in pictures])
    dims = (0, *range(2, x.ndim))
    mean, spread = x.mean(dims, keepdim=True), x.std(dims, keepdim=True).clamp_min(1e-6)
    drawn = torch.cat([pooled(_area(found, p.shape[1:])[None, None]) for found, p in zip(boxes, pictures, strict=True)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = BoxNet(x.shape[1], x.ndim - 2)
    _fit(net, ((x - mean) / spread, drawn), steps, batch, rate, torch.Generator().manual_seed(seed), on_step)
    return Detector(net.eval(), mean, spread)


def pooled(x: Tensor) -> Tensor:
    """Pictures (n, c, *space) averaged over blocks, so that their shortest side has at most 64 samples."""
    block = -(-min(x.shape[2:]) // SIDE)
    return x if block == 1 else (F.avg_pool2d if x.ndim == 4 else F.avg_pool3d)(x, block, ceil_mode=True)


def _area(found: Sequence[Finding], shape: Sequence[int]) -> Tensor:
    drawn = torch.zeros(tuple(shape))
    for f in found:
        drawn[f.place] = 1.0
    return drawn


def _fit(
    net: BoxNet, data: Batch, steps: int, batch: int, rate: float, random: torch.Generator, on_step: Callable[[int, int], None] | None
) -> None:
    if not steps:
        return
    net.train()
    best = torch.optim.Adam(net.parameters(), lr=rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(best, max_lr=rate, total_steps=steps)
    for step in range(steps):
        x, area = _drawn(data, batch, random)
        logits = net(x)
        wanted = F.interpolate(area, logits.shape[2:], mode="area")
        p, dims = logits.sigmoid(), tuple(range(1, x.ndim))
        dice = 1 - (2 * (p * wanted).sum(dims) + 1) / (p.sum(dims) + wanted.sum(dims) + 1)
        loss = F.binary_cross_entropy_with_logits(logits, wanted) + dice.mean()
        best.zero_grad()
        loss.backward()
        best.step()
        cycle.step()
        if on_step is not None:
            on_step(step + 1, steps)


def _drawn(data: Batch, batch: int, random: torch.Generator) -> Batch:
    """Some pictures with their areas, moved alike, a little brighter or darker."""
    pick = torch.randint(len(data[0]), (batch,), generator=random)
    axes = tuple(range(2, data[0].ndim))
    found = []
    for i in pick.tolist():
        by = torch.randint(-SLIDE, SLIDE + 1, (len(axes),), generator=random).tolist()
        light = 1 + 0.1 * float(torch.randn((), generator=random))
        found.append((light * torch.roll(data[0][i : i + 1], by, axes), torch.roll(data[1][i : i + 1], by, axes)))
    return torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])
