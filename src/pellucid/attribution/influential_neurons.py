"""Influential neurons: the units of a site that decided, and the regions of the image that they answer to."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import BadParameter, Unsupported
from pellucid.grid import Grid
from pellucid.method import ACTIVATIONS, GRADIENTS, PATTERNS, SIGNED, Cite, Cost, Inner, Method, Where, method
from pellucid.ops.extent import center_and_extent
from pellucid.params import Count, Flag
from pellucid.probe.probe import Drawn, Probe

Unit = tuple[int, ...]


def _cost(k: int, sign: str, inner: Inner, shape: tuple[int, ...], grid: Grid, **_: object) -> Cost:
    assert isinstance(inner, Method)
    once = inner.cost(shape, grid)
    times = 1 + k * (2 if sign == "both" else 1)
    return Cost(1 + times * once.forward, 1 + times * once.backward, at_most=True)


@method(
    cite=Cite(
        "Li, Fredrikson, Sen, Datta",
        2017,
        "Case study: explaining diabetic retinopathy detection deep CNNs via integrated gradients",
        "Report",
        arxiv="1709.09586",
    ),
    asks=GRADIENTS | ACTIVATIONS,
    gives=SIGNED,
    values=PATTERNS,
    cost=_cost,
    where=Where.FEATURES,
)
def influential_neurons(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    k: Count = 10,
    sign: Literal["positive", "negative", "both"] = "both",
    inner: Inner = "integrated_gradients(baseline='half_gray')",
    unit: Literal["neuron", "channel"] = "neuron",
    weight: Literal["attribution", "share"] = "attribution",
    keep: Flag = False,
) -> Drawn:
    """Where in the image those few units of a site look that speak most strongly for the target, and those most strongly against it.

    ``sum over chosen units u of A_u * R_u``: A_u what ``inner`` gives unit u of the score, R_u what it gives each sample of the image of
    the unit's activation; shape (c, *space) of the image. The trace lists units, attributions, centers and extents of their regions.

    Args:
        k: units of either sign; fewer where fewer have it.
        sign: of the units' attributions. ``both`` also leaves the maps ``positive`` and ``negative`` alone in the trace.
        inner: a method by gradients, from score to units and from unit to image; the paper's starts half gray.
        unit: one ``neuron``, or a ``channel`` (attributions summed, activation averaged over its places).
        weight: ``attribution`` as in the paper; ``share``: regions scaled to add up to A_u, so that the map adds up to their sum.
        keep: hold every unit's region in the trace; memory then grows by one image per unit.

    Misleads when: a unit is less active than on the baseline: A_u * R_u then turns its sign (``share`` does not); or when a decision is
        spread over many units, of which k say little: compare ``explained``, their part of all attributions, in the trace.

    Source: its poster, "Attributing outcome to intermediate layers". Extent: length in the grid's unit with 95 % of |R_u| along each axis.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> pl.explain(net, torch.rand(1, 8, 8), target=1, site="1", method="influential_neurons", k=2, sign="positive").trace["extents"]
    [[2..., 2...], [2..., 2...]]
    """
    assert isinstance(inner, Method)
    chosen, explained = _chosen(probe, x, inner, k, sign, unit)
    grid, dtype = probe.question.grid, probe.source.dtype
    parts = {s: torch.zeros_like(probe.source, dtype=torch.float64) for s in ("positive", "negative")}
    trace: dict[str, Any] = {"units": [list(u) for u, _ in chosen], "attributions": [a for _, a in chosen], "explained": explained}
    trace |= {"centers": [], "extents": [], "unit": grid.unit}
    regions = []
    for (_, amount), drawn in zip(chosen, probe.units(inner, [u for u, _ in chosen]), strict=True):
        region = drawn.values.double()
        total = float(region.sum())
        factor = amount if weight == "attribution" else amount / total if total else 0.0
        parts["positive" if amount > 0 else "negative"] += factor * region
        center, extent = center_and_extent(region.abs().sum(0))
        trace["centers"].append(list(grid.world(center)))
        trace["extents"].append([e * s for e, s in zip(extent, grid.spacing, strict=True)])
        if keep:
            regions.append(region.to(dtype).cpu())
    if sign == "both":
        trace |= {s: part.to(dtype).cpu() for s, part in parts.items()}
    if keep:
        trace["regions"] = torch.stack(regions)
    return probe.outside().map(parts["positive"] + parts["negative"], **trace)


def _chosen(probe: Probe, x: Tensor, inner: Method[Any], k: int, sign: str, unit: str) -> tuple[list[tuple[Unit, float]], float]:
    """The strongest units with their attributions, positive ones first, and their part of the sum of all |attributions|."""
    if probe.question.place is None or not inner.gradients or inner.facts.where is not Where.ANYWHERE:
        raise Unsupported(
            "influential_neurons wraps a method by gradients that works at the image and at sites", repr(inner), "Try saliency."
        )
    amounts = inner.answer(probe, x).values.double()
    if amounts.shape != x.shape:
        raise Unsupported("a wrapped method gives every unit a value", f"{inner.name}: {tuple(amounts.shape)}", "Try integrated_gradients.")
    amounts = amounts.flatten(1).sum(1) if unit == "channel" and amounts.ndim > 1 else amounts
    flat = amounts.flatten()
    found: list[tuple[Unit, float]] = []
    for s, wanted in (("positive", 1.0), ("negative", -1.0)):
        if sign in (s, "both"):
            strongest, at = (flat * wanted).topk(min(k, flat.numel()))
            units = (tuple(int(i) for i in np.unravel_index(int(a), tuple(amounts.shape))) for a in at)
            found += [(u, wanted * float(v)) for u, v in zip(units, strongest, strict=True) if v > 0]
    if not found:
        raise BadParameter(f"{unit}s with a {sign} attribution", "none at this site", "Choose another sign, site or target.")
    return found, sum(abs(v) for _, v in found) / float(flat.abs().sum())
