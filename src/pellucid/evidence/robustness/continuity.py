"""Continuity: does the map move along when the image is moved?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pellucid.baseline import samples
from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.changes import AGAINST, anew, foreign, judged, remade, unrelated
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance, Length

NAME, UNIT = "continuity", "share of the map"


@metric(
    cite=Cite("Montavon, Samek, Müller", 2018, "Methods for interpreting and understanding deep neural networks", "DSP", "1706.07979"),
    unit=UNIT,
    better="down",
    reference=AGAINST,
    needs=MAPS_ANEW | NETWORK,
    price=lambda steps, ndim, **_: Price(shared=2 * ndim * steps + 1, anew=2 * ndim * steps),
)
def continuity(panel: Panel, *, step: Length = "1px", steps: Count = 2) -> dict[str, Measurement]:
    """How much of the map fails to follow at worst when the image is moved along an axis.

    ``max_t |T_-t a(T_t x) - a(x)|_2 / |a(x)|_2`` over translations t of 1 to ``steps`` steps along each axis, both ways, on the samples
    (*space) that stay inside; what comes in at the rim repeats the rim. The detail holds the paper's ``variation``, ``max |a(T_t x) -
    a(x)|_1 / |T_t x - x|_2``, and how far the score itself moved.

    Args:
        step: length of a step, rounded to whole samples (at least one), so that nothing is interpolated.
        steps: how many steps each way.

    **Misleads when**: the network's own answer moves with the image (strides, pooling): see ``score_moved``; findings at the rim leave it.
    **Source**: Montavon et al. 2018, section 7.1 and figure 12. There the map is not moved back, so that a map that follows exactly is held
        to have changed; its number is ``variation``.
    """
    assert isinstance(step, Distance)
    each = [max(1, round(s)) for s in samples(step, panel.grid)]
    shifts = [(a, sign * k * each[a]) for a in range(panel.grid.ndim) for k in range(1, steps + 1) for sign in (1, -1)]
    shifts = [(a, d) for a, d in shifts if abs(d) < panel.grid.shape[a]]
    score, scores = panel.score, panel.known(f"{NAME}: {each} {steps}", lambda: _moved(panel, shifts))
    worst = dict.fromkeys(remade(panel), 0.0)
    variation = dict(worst)
    for (axis, d), x, maps in zip(shifts, _moved(panel, shifts), anew(panel, _moved(panel, shifts)), strict=True):
        path = float((x - panel.x).double().norm())
        for name, there in maps.items():
            own, size = panel.relevance(name), float(panel.relevance(name).norm())
            n = own.shape[axis] - abs(d)
            here, followed = own.narrow(axis, max(0, -d), n), there.narrow(axis, max(0, d), n)
            change = float((followed - here).norm()) / size if size > 0 else math.nan
            worst[name] = max(worst[name], change) if change == change else math.nan
            variation[name] = max(variation[name], float((there - own).abs().sum()) / path) if path > 0 else math.nan
    span = max(abs(s - score) for s in scores)
    found = {}
    for name in panel.names:
        if name not in worst:
            found[name] = foreign(NAME, UNIT, "down")
            continue
        level = unrelated(panel.relevance(name))
        text = f"Moved by up to {max(abs(d) for _, d in shifts)} samples, the image takes its map along but for {worst[name]:.0%} of it at worst."
        detail = {"variation": variation[name], "score_moved": span, "score_explained": score, "shifts": len(shifts)}
        found[name] = judged(NAME, UNIT, worst[name], level, text, detail)
    return found


def _moved(panel: Panel, shifts: list[tuple[int, int]]) -> Iterator[Tensor]:
    """The image moved by whole samples; its rim is repeated where nothing is known."""
    for axis, d in shifts:
        n = panel.grid.shape[axis]
        at = (torch.arange(n) - d).clamp(0, n - 1).to(panel.x.device)
        yield panel.x.index_select(1 + axis, at)
