"""ROAD: remove and debias. Does the score fall when what the map marks is imputed, and stay when the rest is?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pellucid.evidence.faithfulness.imputation import impute
from pellucid.evidence.faithfulness.subsets import STILL, nothing_in
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite
from pellucid.params import Count, Weight

NAME, UNIT = "road", "units of the score"
EVEN = 0.02  # of the range of scores met: closer curves count as equal
AT_ONCE = 2**21  # samples imputed side by side
AGAINST = "an order by chance"


@metric(
    cite=Cite(
        "Rong, Leemann, Borisov, Kasneci, Kasneci", 2022,
        "A consistent and efficient evaluation strategy for attribution methods", "ICML", "2202.00449",
    ),
    unit=UNIT,
    better="up",
    reference="0, that of an order by chance",
    needs=NETWORK,
    price=lambda points, **_: Price(each=2 * points),
    random=True,
)  # fmt: skip
def road(panel: Panel, *, points: Count = 9, noise: Weight = 0.01) -> dict[str, Measurement]:
    """How much higher the score stays when what the map marks least is removed first than when what it marks most is.

    ``mean over shares p of s(x without the p least relevant samples) - s(x without the p most relevant ones)``, shares evenly between 0 and
    1 (10 % to 90 % for nine points). A removed sample becomes the weighted mean of its neighbors, all solved for together, plus noise: the
    removed shape itself then tells the network less than a black hole would. Both curves (``most_first``, ``least_first``) and their means
    are in the detail. The score is the target's own; where a probability or an accuracy is wanted, grade with ``score=``.

    Args:
        points: shares in each curve.
        noise: standard deviation as a share of the image's range, the same draw for all maps and shares; 0.01 as in the paper.

    **Misleads when**: the map is smooth: large holes hide more than scattered ones, so a blurred copy of a map often does better than the
    map, and a center bias does well (arXiv 2304.13836); read it beside the controls.
    **Source**: Rong et al. 2022, sections 4 and 5; the weights of neighbors in 3D and between unequal voxels are ours (see imputation).
    """
    setting = panel.setting
    grain = noise * setting.width * torch.randn(panel.x.shape, generator=panel.chance("road: noise"), dtype=torch.float64)
    grain = grain.to(panel.x)
    shares = [k / (points + 1) for k in range(1, points + 1)]
    why = {n: nothing_in(panel.relevance(n)) for n in panel.names}
    kept = [n for n in panel.names if not why[n]]
    scores = iter(panel.scores(s for n in kept for s in _removed(panel, n, shares, grain)))
    curves = {n: ([next(scores) for _ in shares], [next(scores) for _ in shares]) for n in kept}
    met = [s for pair in curves.values() for curve in pair for s in curve]
    span = max(met) - min(met) if met else 0.0
    if met and span <= STILL * max(abs(s) for s in met):
        why = {n: w or "Whatever is taken out of the image, the score stays." for n, w in why.items()}
    told = {"shares": shares, "noise": noise, "range": [min(met), max(met)] if met else None}
    return {
        n: Measurement(NAME, math.nan, UNIT, "up", "void", why[n], 0.0, AGAINST, detail=told) if why[n] else _judged(*curves[n], span, told)
        for n in panel.names
    }


def _removed(panel: Panel, name: str, shares: list[float], grain: Tensor) -> Iterator[Tensor]:
    """The image without its most relevant samples, share by share, and then without its least relevant ones."""
    relevance = panel.relevance(name).flatten()
    mixed = torch.randperm(len(relevance), generator=panel.chance("road: ties"))  # equal samples go in random order
    order = mixed[relevance[mixed].argsort(descending=True, stable=True)]
    cuts = [first[: round(share * len(order))] for first in (order, order.flip(0)) for share in shares]
    at_once = max(1, AT_ONCE // panel.x.numel())
    for k in range(0, len(cuts), at_once):
        missing = torch.zeros(len(cuts[k : k + at_once]), len(order), dtype=torch.bool)
        for row, cut in zip(missing, cuts[k : k + at_once], strict=True):
            row[cut] = True
        gone = missing.view(-1, *panel.grid.shape).to(panel.x.device)
        for filled, where in zip(impute(panel.x, gone, panel.grid.spacing), gone, strict=True):
            yield torch.where(where, filled + grain, filled)


def _judged(most: list[float], least: list[float], span: float, told: dict[str, Any]) -> Measurement:
    high, low = sum(least) / len(least), sum(most) / len(most)
    value = high - low
    status: Status = "pass" if value > EVEN * span else "fail" if value <= 0 else "inconclusive"
    word = {
        "pass": f"The score stays {value:.3g} higher when the least relevant samples go first than when the most relevant do",
        "fail": "Taking the most relevant samples first lowers the score no more than taking the least relevant ones",
        "inconclusive": "Whether the most or the least relevant samples go first makes hardly any difference to the score",
    }[status]
    curves = {"most_first": most, "least_first": least, "most_first_mean": low, "least_first_mean": high}
    return Measurement(NAME, value, UNIT, "up", status, word + ".", 0.0, AGAINST, detail={**curves, **told})
