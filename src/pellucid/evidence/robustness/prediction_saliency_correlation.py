"""Prediction-saliency correlation: does the map change where the answer changes, and stay where it stays?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.changes import anew, foreign, hollow, remade, score_slope
from pellucid.explanation import Measurement, Status
from pellucid.intervals import Floats, statistic
from pellucid.method import Cite
from pellucid.ops.similarity import spearman
from pellucid.params import Count, Positive

NAME, UNIT = "prediction_saliency_correlation", "correlation"


@metric(
    cite=Cite("Zhang, Chao, Dasegowda, Wang, Kalra, Yan", 2023, "Revisiting the trustworthiness of saliency methods in radiology AI", "Radiology: Artificial Intelligence"),
    unit=UNIT,
    better="up",
    reference="0, that of maps whose changes have nothing to do with the answer's",
    needs=MAPS_ANEW | NETWORK,
    price=lambda changes, **_: Price(shared=changes + 2, anew=changes),
    random=True,
)  # fmt: skip
def prediction_saliency_correlation(panel: Panel, *, eps: Positive = 0.05, changes: Count = 12) -> dict[str, Measurement]:
    """Correlation of how far the score moves with how far the map moves, over small changes of the image made to do either.

    Pearson's r of ``|s(x + e) - s(x)|`` and ``1 - spearman(a(x + e), a(x))`` (*space). A third of the changes follow the score's slope (its
    sign, upward or downward in turn), which moves the answer most; a third are random signs, which hardly move it; a third are both, half
    and half. Each kind grows in equal steps of the exponent from a sixteenth of ``eps`` to it. The interval is over changes (jackknife).

    Args:
        eps: largest change of a value, as a share of the value range.
        changes: in all, the same for all maps.

    **Misleads when**: few changes make wide intervals (read them); larger changes move both anyway, which alone gives a correlation;
        a map may rightly stay while the score grows by the same part.
    **Source**: Zhang et al. 2023 (there with perturbations from an optimizer that hold map or answer, and SSIM; only its summary was at
        hand, so the form of both distances is ours).
    """
    made = list(_changes(panel, eps, changes))
    scores = panel.known(f"{NAME}: {changes} changes of {eps}", lambda: (panel.x + e for e in made))
    score = panel.score
    answer = [abs(s - score) for s in scores]
    if not max(answer) > min(answer):
        text = "The score stays whatever is changed, so nothing can follow it."
        return {n: Measurement(NAME, math.nan, UNIT, "up", "void", text, 0.0) for n in panel.names}
    moved: dict[str, list[float]] = {n: [] for n in remade(panel)}
    for maps in anew(panel, (panel.x + e for e in made)):
        for name, there in maps.items():
            moved[name].append(1 - spearman(panel.relevance(name), there))
    return {n: _measured(answer, moved[n]) if n in moved else foreign(NAME, UNIT, "up") for n in panel.names}


def _changes(panel: Panel, eps: float, count: int) -> Iterator[Tensor]:
    """Along the slope, at random, and half of each, in turn; sizes from eps / 16 to eps."""
    slope = score_slope(panel).sign()
    reach, steps, chance = eps * panel.setting.width, max(1, math.ceil(count / 3)), panel.chance(NAME)
    for k in range(count):
        size = reach * 2.0 ** (-4 * (1 - (k // 3 + 1) / steps))
        signs = (2.0 * torch.randint(2, panel.x.shape, generator=chance) - 1).to(panel.x)
        up = 1 if (k // 3) % 2 else -1
        follows = torch.rand(panel.x.shape, generator=chance) < (1.0, 0.0, 0.5)[k % 3]
        made = torch.where(follows.to(panel.x.device), up * slope, signs)
        yield size.to(made) * made


def _measured(answer: list[float], moved: list[float]) -> Measurement:
    if any(map(math.isnan, moved)):
        return hollow(NAME, UNIT, "up")
    if max(moved) - min(moved) <= 1e-12:
        text = "The map is the same whatever is changed, also where the answer moves."
        return Measurement(NAME, math.nan, UNIT, "up", "void", text, 0.0, detail={"answer_moved": answer, "map_moved": moved})
    over = statistic((answer, moved), pearson, within=(-1.0, 1.0))
    status: Status = "pass" if over.low > 0 else "fail" if over.value <= 0 else "inconclusive"
    text = f"Over {len(answer)} small changes the map {'moves with' if status == 'pass' else 'does not clearly move with'} the answer: correlation {over}."
    detail = {"answer_moved": answer, "map_moved": moved, "rank_correlation": spearman(torch.tensor(answer), torch.tensor(moved))}
    return Measurement(
        NAME,
        over.value,
        UNIT,
        "up",
        status,
        text,
        0.0,
        "changes without relation",
        *over.ends,
        detail,
    )


def pearson(a: Floats, b: Floats) -> float:
    """Correlation of two columns; NaN where one is constant."""
    u, v = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(u) * np.linalg.norm(v))
    return float(u @ v) / size if size > 0 else math.nan
