"""Infidelity: how far what the map foretells for a change of the image is from what the score then does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.baseline import Baseline, Starts, samples
from pellucid.evidence.faithfulness.subsets import neutral, nothing_in, unmoved
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement, Status
from pellucid.intervals import Floats, Interval, statistic
from pellucid.method import Cite
from pellucid.params import Count, Distance, Length, Positive

NAME, UNIT = "infidelity", "share of the squared change"
SIDE = 1 / 5  # of the shortest side: edge of a square that is removed
AGAINST = "an even map of the best scale; the interval is over the perturbations drawn"
Kind = Literal["square", "gaussian"]
Reading = Literal["contribution", "slope"]


@metric(
    cite=Cite("Yeh, Hsieh, Suggala, Inouye, Ravikumar", 2019, "On the (in)fidelity and sensitivity of explanations", "NeurIPS", "1901.09392"),
    unit=UNIT,
    better="down",
    reference="what an even map leaves unexplained",
    needs=NETWORK,
    price=lambda draws, **_: Price(shared=draws + 1),
    random=True,
)  # fmt: skip
def infidelity(
    panel: Panel,
    *,
    change: Kind = "square",
    reads: Reading = "contribution",
    draws: Count = 256,
    edge: Length | None = None,
    sigma: Positive = 0.2,
    fill: Baseline | None = None,
) -> dict[str, Measurement]:
    """What share of the score's changes the map does not foretell, at the map's best scale: 0 is none, 1 is all.

    ``min over b >= 0 of E_I[(b I.a - (s(x) - s(x - I)))^2] / E_I[(s(x) - s(x - I))^2]``; the detail has Yeh's number
    itself, without a scale (``infidelity``) and at the best one (``scaled``), and that scale (``beta``). All maps share I.

    Args:
        change: ``square`` takes one square or cube at a random place away; ``gaussian`` takes a random share of every sample.
        reads: ``contribution``: ``I.a`` sums over samples a times the share of the content taken (maps that divide the score, such as
            integrated gradients); ``slope``: a times the change of the values themselves (gradients), as in the paper's formula; a map
            without channels is then spread over them evenly. Gaussian slopes are asked with sigma in the range of the image's values.
        draws: how many perturbations.
        edge: of the square, in the patient; None: a fifth of the shortest side. It may reach beyond the image, so that all samples are
            met alike.
        sigma: standard deviation of the Gaussian shares.
        fill: what stands in the place of what is taken; None: the blurred copy.

    **Misleads when**: the score hardly moves, or parts act together; the even map's number is how well size alone foretells.
    **Source**: Yeh et al. 2019, definition 2.1 and section 2.3; a negative scale, which the authors' code allows, would praise
    a map's opposite.
    """
    assert fill is None or isinstance(fill, Starts)
    draw = _Draw(panel, change, reads, _edges(panel, edge), sigma, neutral(panel, fill))
    key = f"infidelity {draws} {change} {reads} {draw.edges} {sigma} {fill!r}"
    scores = np.asarray(panel.known(key, lambda: (panel.x - taken for taken, _ in draw.each(draws))))
    change_of = panel.score - scores
    maps = {n: _by_channel(panel, n) if reads == "slope" else panel.relevance(n).flatten() for n in panel.names}
    said: dict[str, list[float]] = {n: [] for n in ("", *maps)}
    for taken, share in draw.each(draws):
        what = taken.double().cpu() if reads == "slope" else share
        mean, full = what.mean(0).flatten(), what.flatten()
        said[""].append(float(mean.sum()))
        for n, a in maps.items():
            said[n].append(float(a @ (full if len(a) == len(full) else mean)))
    detail = {"change": change, "reads": reads, "edges": list(draw.edges), "draws": draws, "fill": repr(fill)}
    flat = np.asarray(said[""])
    return {n: _judged(nothing_in(panel.relevance(n)), np.asarray(said[n]), flat, change_of, scores, detail) for n in panel.names}


@dataclass(frozen=True, eq=False)
class _Draw:
    """Perturbations, the same ones each time."""

    panel: Panel
    change: Kind
    reads: Reading
    edges: tuple[int, ...]
    sigma: float
    absent: Tensor

    def each(self, draws: int) -> Iterator[tuple[Tensor, Tensor]]:
        """What is taken from the image, (c, *space), and the share of its content that this is, (1, *space) in float64."""
        chance = self.panel.chance(f"infidelity {self.change} {self.edges}")
        content = self.panel.x - self.absent
        setting = self.panel.setting
        for _ in range(draws):
            if self.change == "square":
                share = self._square(chance)
                yield content * share.to(content), share
            elif self.reads == "contribution":
                share = self.sigma * torch.randn((1, *self.panel.grid.shape), generator=chance, dtype=torch.float64)
                yield content * share.to(content), share
            else:
                noise = torch.randn(content.shape, generator=chance, dtype=torch.float64)
                yield (noise * self.sigma * setting.width).to(content), noise

    def _square(self, chance: torch.Generator) -> Tensor:
        share = torch.zeros((1, *self.panel.grid.shape), dtype=torch.float64)
        cut: list[slice] = []
        for n, e in zip(self.panel.grid.shape, self.edges, strict=True):
            first = int(torch.randint(1 - e, n, (1,), generator=chance))
            cut.append(slice(max(0, first), first + e))
        share[(slice(None), *cut)] = 1.0
        return share


def _edges(panel: Panel, edge: Length | None) -> tuple[int, ...]:
    """Edges of the square in samples, never more than the image."""
    grid = panel.grid
    if edge is None:
        side = SIDE * min(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
        wide = tuple(side / s for s in grid.spacing)
    else:
        assert isinstance(edge, Distance)
        wide = samples(edge, grid)
    return tuple(max(1, min(n, round(w))) for n, w in zip(grid.shape, wide, strict=True))


def _by_channel(panel: Panel, name: str) -> Tensor:
    """The map, flat, with a value for each channel of each sample where it has them; else with one for each sample."""
    made = panel.entries[name].map
    if made is not None and made.grid == panel.grid and made.values.shape == panel.x.shape:
        return made.values.detach().cpu().double().flatten()
    return panel.relevance(name).flatten()


def share_left(said: Floats, change: Floats) -> float:
    """``min over b >= 0 of E[(b said - change)^2] / E[change^2]``."""
    top, wide, moved = max(0.0, float(said @ change)), float(said @ said), float(change @ change)
    if not moved > 0:
        return math.nan
    return max(0.0, 1 - top**2 / (wide * moved)) if wide * moved > 0 else 1.0


def _bounds(said: Floats, flat: Floats, change: Floats) -> tuple[Interval, Interval]:
    """A map's share with its interval over changes, and its difference from the even map's."""
    own = statistic((said, change), share_left, within=(0.0, 1.0))
    apart = statistic((said, flat, change), lambda s, f, c: share_left(s, c) - share_left(f, c), within=(-1.0, 1.0))
    return own, apart


def _judged(empty: str, said: Floats, flat: Floats, change: Floats, scores: Floats, detail: dict[str, Any]) -> Measurement:
    if not empty and not np.any(said):
        empty = "The map foretells no change at all."
    if not empty and unmoved(np.append(scores, scores + change)):
        empty = "However the image is changed, the score stays."
    level = share_left(flat, change)
    if empty:
        return Measurement(NAME, math.nan, UNIT, "down", "void", empty, None if math.isnan(level) else level, AGAINST, detail=detail)
    own, apart = _bounds(said, flat, change)
    value = own.value
    status: Status = "pass" if apart.high < 0 else "fail" if value >= level or apart.low > 0 else "inconclusive"
    beta = max(0.0, float(said @ change) / float(said @ said))
    word = {"pass": "better than", "fail": "no better than", "inconclusive": "hardly better than"}[status]
    text = f"The map leaves {value:.0%} of the score's changes unexplained, {word} an even map ({level:.0%})."
    more = {
        "infidelity": float(np.mean((said - change) ** 2)),
        "scaled": float(np.mean((beta * said - change) ** 2)),
        "beta": beta,
        "changes": [float(change.min()), float(change.max())],
    }
    return Measurement(NAME, value, UNIT, "down", status, text, level, AGAINST, *own.ends, {**more, **detail})
