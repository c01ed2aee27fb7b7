"""Patterns fitted on data: once for many explanations, or while a method runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pellucid import baseline, io
from pellucid.baseline import Starts
from pellucid.errors import BadParameter, Unsupported
from pellucid.image import Image
from pellucid.model import Model, as_model
from pellucid.params import Kind
from pellucid.probe.ledger import untouched
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.ruled import look
from pellucid.probe.rules import RuleMode
from pellucid.probe.rules.patterns import Fit, Patterns, with_patterns
from pellucid.run import MOST, SHARE, free_memory, measured

ROOM = 2**29  # bytes of activations side by side


def patterns(net: Model | nn.Module, images: Iterable[Image | Tensor | str | Path]) -> Patterns:
    """What the signals look like that the filters of a network detect in these images; for ``pattern_net(data=...)``.

    Images are prepared as for an explanation and pass in batches that memory bears; their number costs time, not memory. Tens of images do for
    convolutions; a layer behind a global mean sees one sample per image and wants hundreds (with few, even signs go wrong).

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 2))
    >>> patterns(net, [torch.rand(1, 6, 6) for _ in range(8)])
    <patterns of 8 images, ...>
    """
    model, fit = as_model(net), Fit()
    with untouched(model.module):
        for batch in _batches(model, (model.ready(_image(given))[1] for given in images)):
            look(model, RuleMode(fit.rules()), lambda b=batch: model.forward(b.clone().requires_grad_()))  # type: ignore[misc]
            fit.end()
            fit.images += len(batch) - 1
    if not fit.images:
        raise BadParameter("patterns are fitted on at least one image", "none", "Give images like those to be explained.")
    return fit.done()


def _image(given: Image | Tensor | str | Path) -> Image:
    return given if isinstance(given, Image) else io.read(given) if isinstance(given, (str, Path)) else Image(given)


def _batches(model: Model, images: Iterable[Tensor]) -> Iterator[Tensor]:
    """Images of one shape side by side: what a pass adds to sums as large as the weights is then added once for all of them."""
    for _, alike in groupby(images, key=lambda x: x.shape):
        first = next(alike)
        most, rest = _side_by_side(model, first), chain([first], alike)  # noqa: B031  (what is left of the same group)
        while batch := list(islice(rest, most)):
            yield torch.stack(batch)


def _side_by_side(model: Model, x: Tensor) -> int:
    """How many images like this one go through at once: what a pass of two holds more than a pass of one."""
    held = []
    for n in (1, 2):
        with torch.enable_grad(), measured(model.device) as peak:
            model.forward(x.expand(n, *x.shape).clone().requires_grad_())
        held.append(peak.bytes)
    return max(1, min(MOST, min(ROOM, int(SHARE * free_memory(model.device))) // max(held[1] - held[0], 1)))


def fitted(probe: Probe, data: Any) -> Patterns:
    """The patterns given, or those of a baseline's images: one forward pass each."""
    if isinstance(data, Patterns):
        return data
    fit = Fit()
    for image in probe.images(data):
        probe.look(fit.rules(), image)
        fit.end()
    return fit.done()


def signal(probe: Probe, name: str, data: Any, *, times_weights: bool) -> Drawn:
    """The score times the pass back through patterns (times weights), drawn.

    Raises:
        Unsupported: in a deep network patterns multiply beyond what its numbers hold.
    """
    if not isinstance(data, Patterns):
        probe.notes.append(f"{name}: patterns fitted on {data!r} as it ran; fit them on real images: pl.patterns(net, images)")
    found = fitted(probe, data)
    answer = probe.ruled(with_patterns(name, found, times_weights=times_weights))
    values = float(answer.score) * answer.gradient
    if not bool(torch.isfinite(values).all()):
        raise Unsupported(
            f"{name} in numbers that {values.dtype} holds", "an overflow: patterns of many layers multiply", "Explain net.double()."
        )
    return probe.map(values, patterns=found)


def _read(value: Any) -> Patterns | Starts:
    return value if isinstance(value, Patterns) else baseline.read(value)


_wants = "patterns(net, images), or images to fit them on: each_of(images), random(n)"
PatternData = Annotated[Patterns | Starts | str, Kind("patterns", _wants, _read)]


def count(data: Any) -> int:
    """Passes that the fit takes."""
    return data.count if isinstance(data, Starts) else 0


__all__ = ["PatternData", "Patterns", "count", "patterns", "signal"]
