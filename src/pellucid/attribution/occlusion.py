"""Occlusion: hide one window after another."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts, samples
from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.method import CONTRIBUTIONS, SCORES, SIGNED, Cite, Cost, method
from pellucid.params import Distance, Length
from pellucid.probe.probe import Drawn, Probe

Window = tuple[slice, ...]
FRAMES = 4096  # places of the window that the trace keeps at most, evenly spread


@method(
    cite=Cite("Zeiler, Fergus", 2014, "Visualizing and understanding convolutional networks", "ECCV", arxiv="1311.2901"),
    asks=SCORES,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda window, stride, fill, grid, **_: Cost(forward=len(windows(grid, window, stride)) * fill.count + 1),
    needs_space=True,
)
def occlusion(
    probe: Probe, x: Float[Tensor, "c *space"], *, window: Length = 16, stride: Length | None = None, fill: Baseline = Constant(0.0)
) -> Drawn:
    """How much the score falls when a window around a sample is hidden.

    ``mean over the windows that cover a sample of s(x) - s(x with the window filled)``, shape (1, *space) of the image or site (all
    channels are hidden together), in units of the score; for several fills (``black_and_white``) their mean. The trace holds each
    window's first sample (``corners``), its ``edges`` in samples, and the score with it filled; of more than 4096 windows ``every`` so many.

    Args:
        window: edge of the window, a square or cube in the patient: 16 mm where the scan has mm, whatever the shape of its voxels.
        stride: distance between windows, half a window if None; shortened a little so that the last window ends at the edge.
        fill: what hides: an image or value in the image's own values, see ``pellucid.baseline``.

    Misleads when: the fill is itself a finding (a black hole in a lung), two windows replace each other (either alone changes
        nothing), or the window is smaller than the sign or much larger.

    Source: section 4.2 (there the score itself is drawn, at the window's center).

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> x = torch.rand(1, 4, 4)
    >>> why = pl.explain(net, x, target=1, method="occlusion", window="1px", stride="1px")
    >>> bool(torch.allclose(why.values.flatten(), net[1].weight[1] * x.flatten(), atol=1e-6))
    True
    """
    assert isinstance(fill, Starts)
    score = probe.score()
    probe.samples(window, whole=True)
    fills = probe.starts(fill)
    total = torch.zeros(1, *x.shape[1:], dtype=torch.float64, device=x.device)
    times = torch.zeros_like(total)
    placed = windows(probe.grid, window, stride)
    every = math.ceil(len(placed) / FRAMES)
    scores = [0.0] * len(placed[::every])
    for answer in probe.scores(((k, f) for k in range(len(placed)) for f in fills), of=lambda h: _hide(x, placed[h[0]], h[1])):
        k = answer.asked[0]
        cut = (slice(None), *placed[k])
        total[cut] += score - float(answer.score)
        times[cut] += 1
        if k % every == 0:
            scores[k // every] += float(answer.score) / len(fills)
    corners = [[side.start for side in w] for w in placed[::every]]
    return probe.map(total / times, corners=corners, edges=[side.stop - side.start for side in placed[0]], scores=scores, every=every)


def _hide(x: Tensor, window: Window, fill: Tensor) -> Tensor:
    cut = (slice(None), *window)
    hidden = x.clone()
    hidden[cut] = fill[cut]
    return hidden


def windows(grid: Grid, window: Length, stride: Length | None) -> list[Window]:
    """Windows that cover a grid from edge to edge, evenly and the same from both sides; lengths are rounded to whole samples.

    Raises:
        BadParameter: the window is larger than the grid, or the stride larger than the window.
    """
    assert isinstance(window, Distance)
    edges = _whole(window, grid)
    steps = [max(1, e // 2) for e in edges] if stride is None else _whole(stride, grid)
    if any(e > n for e, n in zip(edges, grid.shape, strict=True)):
        got = f"{window!r}, which is {tuple(edges)} samples of {grid.shape}"
        raise BadParameter("a window smaller than the image", got, f"Give window='{max(1, min(grid.shape) // 4)}px'.")
    if any(s > e for s, e in zip(steps, edges, strict=True)):
        raise BadParameter("a stride of at most one window, so that nothing is left out", f"{stride!r}", f"Give at most {window!r}.")
    along = [[slice(a, a + e) for a in _starts(n - e, s)] for n, e, s in zip(grid.shape, edges, steps, strict=True)]
    return list(itertools.product(*along))


def _whole(length: Length, grid: Grid) -> list[int]:
    assert isinstance(length, Distance)
    return [max(1, int(s + 0.5)) for s in samples(length, grid)]


def _starts(last: int, stride: int) -> list[int]:
    """Whole numbers from 0 to ``last``, at most ``stride`` apart, mirrored about the middle."""
    gaps = math.ceil(last / stride)
    if gaps % 2 == 0 and last % 2:  # a middle window would lie between two samples
        gaps += 1
    half = [int(i * last / max(gaps, 1) + 0.5) for i in range(gaps // 2 + 1)]
    return sorted({*half, *(last - a for a in half)})
