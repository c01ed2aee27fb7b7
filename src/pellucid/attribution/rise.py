"""RISE: the mean of random masks, weighted by the score of what they leave visible."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.errors import BadParameter
from pellucid.method import NOTHING, SCORES, Cite, Cost, Values, method
from pellucid.params import Count, Fraction
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Petsiuk, Das, Saenko", 2018, "RISE: randomized input sampling for explanation", "BMVC", arxiv="1806.07421"),
    asks=SCORES,
    gives=NOTHING,
    values=Values.LEVELS,
    cost=lambda masks, fill, **_: Cost(forward=masks * fill.count),
    random=True,
    needs_space=True,
)
def rise(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    masks: Count = 4000,
    cells: Count = 7,
    keep: Fraction = 0.5,
    fill: Baseline = Constant(0.0),
) -> Drawn:
    """The mean score of the image when a sample is left visible, over many random smooth masks.

    ``sum(s(m * x + (1 - m) * fill) * m) / (masks * keep)`` over masks m in [0, 1], shape (1, *space) of the image or site (all channels
    are hidden together), in units of the score: a level around the mean score, not a contribution.

    Args:
        masks: how many. The error falls with their root; 4000 are the paper's for VGG16. Memory does not grow with them.
        cells: random cells along each axis, enlarged linearly and shifted at random; few for large signs, many for small ones.
        keep: chance of a cell to be visible.
        fill: what hides, in the image's own values (the paper: 0).

    Misleads when: masks are few (the map is noise about a level that has no meaning), the score has a large constant part (it weights
        noise; explain a probability), or a half-hidden image is unlike all that the network knows.

    Source: equation 6 and section 3.2, with a fill other than zero allowed.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> pl.explain(net, torch.rand(1, 8, 8), target=1, method="rise", masks=8, cells=3).values.shape
    torch.Size([1, 8, 8])
    """
    assert isinstance(fill, Starts)
    if keep == 0:
        raise BadParameter("keep is above 0, so that something is seen", "0", "Give keep=0.5.")
    fills = probe.starts(fill)
    total = torch.zeros(1, *x.shape[1:], dtype=torch.float64, device=x.device)
    shown = ((m, f) for m in draw(tuple(x.shape[1:]), masks, cells, keep, probe.random) for f in fills)
    for answer in probe.scores(shown, of=lambda a: a[1] + a[0].to(x) * (x - a[1])):
        total += float(answer.score) * answer.asked[0].to(x.device)
    return probe.map(total / (masks * keep * len(fills)))


def draw(space: tuple[int, ...], masks: int, cells: int, keep: float, random: torch.Generator) -> Iterator[Tensor]:
    """Masks (*space), float64: cells kept by chance, enlarged linearly to one cell more than the image, and cut out at random.

    One at a time: first the cells, then the shift along each axis.
    """
    sizes = [math.ceil(n / cells) for n in space]
    enlarge = [_linear(cells, (cells + 1) * size) for size in sizes]
    for _ in range(masks):
        mask = (torch.rand([cells] * len(space), generator=random, dtype=torch.float64) < keep).double()
        for axis, (n, size, rows) in enumerate(zip(space, sizes, enlarge, strict=True)):
            shift = int(torch.randint(size, (1,), generator=random))
            mask = (mask.movedim(axis, -1) @ rows[shift : shift + n].T).movedim(-1, axis)
        yield mask


def _linear(n: int, size: int) -> Tensor:
    """Linear interpolation of n values to ``size`` by centers, as a matrix (size, n); mirrored at the ends, as in the paper's code."""
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) * n / size - 0.5).abs()
    at = torch.minimum(at, 2 * (n - 1) - at).clamp_min(0)
    return (1 - (at[:, None] - torch.arange(n)).abs()).clamp_min(0)
