"""Signals: sequences of one axis, as images of one row whose columns are steps in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pellucid.errors import BadImage, BadParameter
from pellucid.grid import Axis, Grid
from pellucid.image import Image, plain
from pellucid.model import Model, as_model
from pellucid.twin import Twin

ROW = Axis("row", "", 0.0, 1.0)


def signal(
    values: Tensor | Any, *, step: float = 1.0, unit: str = "s", start: float = 0.0, channels: Sequence[str] = (), quantity: str = "a.u."
) -> Image:
    """A sequence (c, t) as an Image (c, 1, t) that knows its time: an ECG, a breathing curve, one voxel's course.

    Args:
        values: (c, t), an array or tensor.
        step: from sample to sample, in ``unit``.
        unit: of time (or of what else runs along the sequence).
        start: time of the first sample.
        channels: a name for each.
        quantity: what the values are, such as ``"mV"``.

    Raises:
        BadImage: not (c, t), or values that are not finite.
        BadParameter: a step that is not above 0.

    >>> import torch
    >>> beat = signal(torch.zeros(2, 500), step=0.002, channels=("II", "V1"))
    >>> tuple(beat.values.shape), beat.grid.ends()[1]
    ((2, 1, 500), ('0 s', '0.998 s'))
    """
    found = plain(values)
    if found.ndim != 2:
        raise BadImage("a signal is (c, t), without a batch axis", f"shape {tuple(found.shape)}", "Write x[None] for one channel.")
    if not 0 < step < float("inf"):
        raise BadParameter("a step in time above 0", repr(step), "Write 1 / sampling rate.")
    grid = Grid((1, found.shape[1]), axes=(ROW, Axis("time", unit, float(start), float(step))))
    return Image(found[:, None], grid, quantity, tuple(channels))


def on_signals(net: Model | nn.Module) -> Model:
    """The same network, which takes (n, c, t), for images (c, 1, t) as ``signal`` makes them.

    Args:
        net: the network, described or not. It stays as it is: the answer shares its modules, weights and names of sites.

    Raises:
        BadImage: when it is asked of an image of several rows.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 2))
    >>> pl.explain(pl.on_signals(net), pl.signal(torch.rand(1, 8)), target=1, method="saliency").values.shape
    torch.Size([1, 1, 8])
    """
    model = as_model(net)
    return replace(model, module=OneRow.of(model.module))


class OneRow(Twin):
    """A network of sequences (n, c, t) that is given (n, c, 1, t)."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.ndim != 4 or x.shape[2] != 1:
            raise BadImage("a signal of one row, (n, c, 1, t)", f"a batch of shape {tuple(x.shape)}", "Make it with pl.signal(values).")
        return self.origin.forward(x.squeeze(2), *args, **kwargs)


def seconds(grid: Grid) -> Axis | None:
    """The time of a signal's samples; None where a grid has none."""
    return grid.axes[-1] if grid.axes and grid.shape[0] == 1 else None
