"""How relevance is spread over an image: shares, entropy, and the levels that noise and the image's own edges reach."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.evidence.panel import Panel
from pellucid.explanation import Direction, Measurement, Status
from pellucid.ops.edges import sobel

NOISE = "independent uniform values"
LOST = (
    math.log(2) - 0.5
)  # nats by which the entropy of uniform values falls short of ln n: ln(1/E[u]) + E[u ln u]/E[u], E = mean over (0, 1)


def shares(values: Tensor) -> Tensor | None:
    """Magnitudes as shares of their sum, flat, float64; None for an empty map or one with values that are no numbers."""
    flat = values.detach().double().cpu().abs().flatten()
    total = float(flat.sum())
    return flat / total if total > 0 and math.isfinite(total) else None


def entropy_of(p: Tensor) -> float:
    """Entropy of shares in nats."""
    return float(-torch.special.xlogy(p, p).sum())


def measured(
    panel: Panel, name: str, unit: str, better: Direction, of: Callable[[Tensor], float], noise: float, say: Callable[[float], str]
) -> dict[str, Measurement]:
    """A number of every map's shares, held against that of noise; the number of the image's edges stands beside it."""
    edges = shares(sobel(panel.model.comparable(panel.x.cpu())))
    beside = {"noise": noise, "edges": math.nan if edges is None else of(edges), "samples": math.prod(panel.grid.shape)}
    found = {}
    for map_ in panel.names:
        p = shares(panel.relevance(map_))
        if p is None:
            text = "The map is zero everywhere, or holds values that are no numbers."
            found[map_] = Measurement(name, math.nan, unit, better, "void", text, noise, NOISE, detail=beside)
            continue
        value = of(p)
        good: Status = "pass" if (value < noise) == (better == "down") and value != noise else "fail"
        more = "more" if good == "pass" else "no more"
        text = f"{say(value)}; relevance is {more} concentrated than noise ({noise:.3g}), and the image's edges have {beside['edges']:.3g}."
        found[map_] = Measurement(name, value, unit, better, good, text, noise, NOISE, detail=beside)
    return found
