"""Smooth model randomization: maps are averaged over noisy inputs before they are compared."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.sanity.cascade import anew
from pellucid.evidence.sanity.model_randomization import UNIT, cascade
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.model import Model
from pellucid.params import Count, Positive

TOGETHER = 4  # noisy images that are asked side by side; more need more memory


@metric(
    cite=Cite("Hedström, Weber, Lapuschkin, Höhne", 2024, "A fresh look at sanity checks for saliency maps", "xAI", "2405.02383"),
    unit=UNIT,
    better="down",
    reference="maps of two networks randomized independently, and of different images where these are given",
    needs=NETWORK | MAPS_ANEW,
    price=lambda stages, draws, heads, n, **_: Price(shared=2 + heads + 2 * stages * draws, anew=n * (stages * draws + 1), at_most=True),
    random=True,
    ranks=False,
)
def smooth_randomization(
    panel: Panel,
    *,
    n: Count = 8,
    sigma: Positive = 0.1,
    order: Literal["top-down", "bottom-up", "independent"] = "bottom-up",
    how: Literal["shuffled", "drawn"] = "drawn",
    stages: Count = 3,
    draws: Count = 2,
    heads: Count = 19,
) -> dict[str, Measurement]:
    """Model randomization of maps averaged over noisy copies of the image, since rank correlations of single maps hear their grain (sMPRT).

    ``e(f) = mean_k map(x + noise_k; f)``, ``noise_k ~ N(0, (sigma (max x - min x))^2)``, then ``|spearman(e(f), e(copy))|`` as in
    ``model_randomization``, for maps (*space); the same noise for the network and every copy.

    Args:
        n: noisy images. The paper takes 50; with 8 a third of the grain is left.
        sigma: of the noise, as a share of the image's range (the paper's 0.1).
        order: the paper advises from the input up; ``top-down`` judges the upper blocks as ``model_randomization`` does.
        how: ``drawn`` as in the paper, or ``shuffled``.
        stages: at most.
        draws: copies at each stage.
        heads: as in ``model_randomization``.

    **Misleads when**: a pass is no rank; and noise that the network has never seen is explained too.
    **Source**: its section on Smooth MPRT. Its authors compare without magnitudes and normalization, as is done here.
    """

    def maps(twin: Model | None, number: int, names: list[str]) -> dict[str, Tensor]:
        chance = panel.chance("randomization: noisy inputs")
        spread = (sigma * panel.model.width(panel.x)).to(panel.x)
        total = {k: torch.zeros(panel.grid.shape, dtype=torch.float64) for k in names}
        for first in range(0, n, TOGETHER):
            several = [panel.x + spread * _noise(panel.x, chance) for _ in range(min(TOGETHER, n - first))]
            for k, found in anew(panel, names, several, twin, number).items():
                total[k] += sum(found) / n
        return total

    return cascade(panel, order, how, stages, draws, heads, maps, f"smooth {n} {sigma}")


def _noise(x: Tensor, chance: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=chance, dtype=torch.float64).to(x.device, x.dtype)
