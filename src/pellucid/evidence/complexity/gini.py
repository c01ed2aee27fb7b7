"""Gini index: how unevenly relevance is spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.evidence.metric import metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite

EVEN = 1 / 3  # of independent uniform values


@metric(
    cite=Cite("Chalasani, Chen, Chowdhury, Jha, Wu", 2020, "Concise explanations of neural networks using adversarial training", "ICML", "1810.06583"),
    unit="0 to 1",
    better="up",
    reference="1/3, that of independent uniform values",
)  # fmt: skip
def gini(panel: Panel) -> dict[str, Measurement]:
    """Gini index of the magnitudes: 0 where all samples are equally relevant, towards 1 where one holds everything.

    ``G = sum_i (2 i - n - 1) |a|_(i) / (n sum |a|)`` over the samples (*space) of the map on the image's grid, sorted upward.

    **Misleads when**: a sparse map is not a faithful one; a single wrong sample has the best value of all.
    **Source**: Chalasani et al. 2020, equation 5, after Hurley and Rickard 2009.
    """
    return {name: _measured(of(panel.relevance(name))) for name in panel.names}


def of(values: Tensor) -> float:
    """The index of any tensor's magnitudes; NaN where all are zero."""
    flat = values.detach().double().abs().flatten().sort().values
    n, total = len(flat), float(flat.sum())
    if total <= 0:
        return math.nan
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64) - n - 1
    return float(weights @ flat) / (n * total)


def _measured(value: float) -> Measurement:
    if math.isnan(value):
        return Measurement("gini", value, "0 to 1", "up", "void", "The map is zero everywhere.", EVEN)
    text = f"Relevance is {'more' if value > EVEN else 'no more'} concentrated than noise (Gini index {value:.2f}; noise has {EVEN:.2f})."
    return Measurement("gini", value, "0 to 1", "up", "pass" if value > EVEN else "fail", text, EVEN, "independent uniform values")
