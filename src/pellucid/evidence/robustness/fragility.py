"""Fragility: can a change that nobody sees give another map for the same answer?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.changes import foreign, hollow, remade
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite
from pellucid.ops.similarity import spearman
from pellucid.params import Count, Fraction, Positive

NAME, UNIT = "fragility", "share of the top kept"
HOLDS, BREAKS = 0.5, 0.5  # of the top that noise keeps: more, and the map holds; less, and the search broke it
STARTS, ENDS = 0.5, 0.1  # of each side: edges of the boxes that the search changes, first and last


@dataclass
class Attack:
    """The best change found so far for one map, and what it did."""

    noise: Tensor
    kept: float
    rank: float
    moved: float


@metric(
    cite=Cite("Ghorbani, Abid, Zou", 2019, "Interpretation of neural networks is fragile", "AAAI", "1710.10547"),
    unit=UNIT,
    better="up",
    reference="what random changes of the same size keep",
    needs=MAPS_ANEW | NETWORK,
    price=lambda rounds, tries, draws, **_: Price(shared=draws + 2, each=rounds * tries, anew=rounds * tries + draws, at_most=True),
    random=True,
)
def fragility(
    panel: Panel, *, eps: Positive = 0.02, top: Fraction = 0.1, keep: Fraction = 0.1, rounds: Count = 6, tries: Count = 4, draws: Count = 4
) -> dict[str, Measurement]:
    """What part of the map's top is left after the worst small change that a search found, while the answer stays.

    ``min_e |top(a(x + e)) & top(a(x))| / |top(a(x))|`` over ``|e|_inf <= eps`` with ``|s(x + e) - s(x)| <= keep * |s(x) - s(blurred x)|``; ``top``
    holds the highest samples (*space). The reference is the mean over random signs of the same size; both rank correlations are in the detail.

    Args:
        eps: largest change of a value, as a share of the value range.
        top: share of the image's samples that count as the map's top.
        keep: how far the score may move, as a share of what the image's content makes of it.
        rounds, tries: the search: in each round so many candidates change a random box; the best that keeps the answer is gone on from.
        draws: random changes, the same for all maps.

    **Misleads when**: the search is short: that it found nothing is no proof (raise ``rounds``); maps that ignore the image cannot be broken.
    **Source**: the top-k attack of Ghorbani et al. 2019, algorithm 1, by random search over boxes (Andriushchenko et al. 2020) instead of the
        map's own gradient, which ReLU networks and most methods do not have.
    """
    reach = eps * (panel.setting.high - panel.setting.low)
    limit = keep * abs(panel.score - panel.known("blurred copy", lambda: [panel.blurred])[0])
    if not limit > 0:
        text = "The score is the same with and without the image's content: there is no answer to keep."
        return {n: Measurement(NAME, math.nan, UNIT, "up", "void", text) for n in panel.names}
    names = [n for n in remade(panel) if float(panel.relevance(n).std()) > 0]
    signs = [_signs(panel, reach, f"{NAME}: draw {k}") for k in range(draws)]
    plain = panel.known(f"{NAME}: {draws} draws of {eps}", lambda: (panel.x + e for e in signs))
    maps = panel.anew(names, [panel.x + e for e in signs])
    found: dict[str, Measurement] = {}
    for name in panel.names:
        if name not in names:
            known = panel.entries[name]
            found[name] = foreign(NAME, UNIT, "up") if name not in remade(panel) and known.control else hollow(NAME, UNIT, "up")
            continue
        own = panel.relevance(name)
        noise = [kept(own, there, top) for there in maps[name]]
        level = sum(noise) / len(noise)
        worst = _search(panel, name, reach, limit, top, rounds, tries)
        ranks = [spearman(own, there) for there in maps[name]]
        detail = {
            "rank_correlation": worst.rank, "noise_kept": noise, "noise_rank_correlation": sum(ranks) / len(ranks), "score_moved": worst.moved,
            "score_may_move": limit, "noise_score_moved": [abs(s - panel.score) for s in plain], "reach": reach,
        }  # fmt: skip
        found[name] = _judged(worst, level, detail)
    return found


def kept(a: Tensor, b: Tensor, top: float) -> float:
    """Share of the highest samples of ``a`` that are among as many highest of ``b``."""
    k = max(1, round(top * a.numel()))
    high = torch.zeros(a.numel(), dtype=torch.bool)
    high[b.flatten().topk(k).indices] = True
    return float(high[a.flatten().topk(k).indices].double().mean())


def _search(panel: Panel, name: str, reach: float, limit: float, top: float, rounds: int, tries: int) -> Attack:
    """Random search over boxes; the first round tries whole images of random signs, later ones change a box of the best so far."""
    own = panel.relevance(name)
    best = Attack(torch.zeros_like(panel.x), 1.0, 1.0, 0.0)
    chance = panel.chance(f"{NAME}: search")
    for k in range(rounds):
        share = STARTS * (ENDS / STARTS) ** (k / max(1, rounds - 1))
        tried = [_changed(panel, best.noise, reach, share if k else 1.0, chance) for _ in range(tries)]
        moves = [abs(s - panel.score) for s in panel.scores(panel.x + e for e in tried)]
        may = [i for i, m in enumerate(moves) if m <= limit]
        if not may:
            continue
        for i, there in zip(may, panel.anew([name], [panel.x + tried[i] for i in may])[name], strict=True):
            one = Attack(tried[i], kept(own, there, top), spearman(own, there), moves[i])
            if (one.kept, one.rank) < (best.kept, best.rank):
                best = one
    return best


def _changed(panel: Panel, noise: Tensor, reach: float, share: float, chance: torch.Generator) -> Tensor:
    """The noise with a box of it drawn anew: one sign for each channel of half of the boxes, a sign for each value of the others."""
    box: list[slice] = [slice(None)]
    for n in panel.grid.shape:
        edge = max(1, min(n, round(share * n)))
        first = int(torch.randint(n - edge + 1, (1,), generator=chance))
        box.append(slice(first, first + edge))
    inside = noise[tuple(box)]
    flat = bool(torch.rand((), generator=chance) < 0.5) and share < 1
    shape = (len(noise), *[1] * panel.grid.ndim) if flat else tuple(inside.shape)
    drawn = 2.0 * torch.randint(2, shape, generator=chance) - 1
    found = noise.clone()
    found[tuple(box)] = (reach * drawn).to(noise).expand(inside.shape)
    return found


def _signs(panel: Panel, reach: float, purpose: str) -> Tensor:
    return (reach * (2.0 * torch.randint(2, panel.x.shape, generator=panel.chance(purpose)) - 1)).to(panel.x)


def _judged(worst: Attack, level: float, detail: dict[str, object]) -> Measurement:
    if math.isnan(worst.rank):
        return hollow(NAME, UNIT, "up")
    status: Status = "fail" if worst.kept < BREAKS * level or level < BREAKS else "pass" if worst.kept >= HOLDS else "inconclusive"
    text = (
        f"A change that nobody sees and that leaves the answer as it is keeps {worst.kept:.0%} of the map's top (rank correlation "
        f"{worst.rank:.2f}); random changes of that size keep {level:.0%}."
    )
    against = "the mean over random changes of the same size"
    return Measurement(NAME, worst.kept, UNIT, "up", status, text, level, against, detail=detail)
