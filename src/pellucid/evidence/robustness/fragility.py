"""Fragility: can a change that nobody sees give another map for the same answer?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.baseline import one_or_each
from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.changes import foreign, hollow, remade, score_slope
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite
from pellucid.ops.similarity import spearman
from pellucid.params import Count, Fraction, Positive

NAME, UNIT = "fragility", "share of the top kept"
HOLDS, BREAKS = 0.5, 0.5  # of the top that noise keeps: more, and the map holds; less, and the search broke it
CENTER = 0.5  # of the way to the best change so far: where the slope is looked for


@dataclass
class Attack:
    """The best change found so far for one map, and what it did."""

    noise: Tensor
    there: Tensor
    kept: float
    rank: float
    moved: float


@metric(
    cite=Cite("Ghorbani, Abid, Zou", 2019, "Interpretation of neural networks is fragile", "AAAI", "1710.10547"),
    unit=UNIT,
    better="up",
    reference="what random changes of the same size that leave the answer keep",
    needs=MAPS_ANEW | NETWORK,
    price=lambda rounds, pairs, draws, **_: Price(draws + 3, rounds, rounds * (2 * pairs + 1) + draws),
    random=True,
)
def fragility(
    panel: Panel, *, eps: Positive = 0.03, top: Fraction = 0.1, keep: Fraction = 0.1, rounds: Count = 4, pairs: Count = 4, draws: Count = 4
) -> dict[str, Measurement]:
    """What part of the map's top is left after the worst small change that a search found, while the answer stays.

    ``min_e |top(a(x + e)) & top(a(x))| / |top(a(x))|`` over ``|e|_inf <= eps`` with ``|s(x + e) - s(x)| <= keep * |s(x) - s(blurred x)|``; ``top``
    holds the highest samples (*space). The reference is the mean over random signs of the same size, turned so that the score stays to first
    order, as the attack's are; both rank correlations are in the detail.

    Args:
        eps: largest change of a value, as a share of the value range.
        top: share of the image's samples that count as the map's top.
        keep: how far the score may move, as a share of what the image's content makes of it.
        rounds, pairs: in each round so many antithetic pairs of random signs tell more of the slope of the map's top; then a step is tried.
        draws: random changes, the same for all maps.

    **Misleads when**: the search is short: that it found nothing is no proof (raise ``rounds``); maps that ignore the image cannot be broken.
    **Source**: the top-k attack of Ghorbani et al. 2019, algorithm 1, with its gradient estimated from the maps (natural evolution strategies,
        Wierstra et al. 2014), since ReLU networks and most methods have no second derivative; the answer is kept to first order.
    """
    reach = eps * panel.setting.width
    score = panel.score
    limit = keep * abs(score - panel.known("blurred copy", lambda: [panel.blurred])[0])
    if not limit > 0:
        text = "The score is the same with and without the image's content: there is no answer to keep."
        return {n: Measurement(NAME, math.nan, UNIT, "up", "void", text) for n in panel.names}
    names = [n for n in remade(panel) if float(panel.relevance(n).std()) > 0]
    slope = _slope(panel)
    signs = [_sized(reach, _level(_signs(panel, f"{NAME}: draw {k}"), slope)) for k in range(draws)]
    plain = panel.known(f"{NAME}: {draws} draws of {eps}", lambda: (panel.x + e for e in signs))
    maps = panel.anew(names, [panel.x + e for e in signs])
    found: dict[str, Measurement] = {}
    attacks: dict[str, Attack] = {}
    for name in panel.names:
        if name not in names:
            known = panel.entries[name]
            found[name] = foreign(NAME, UNIT, "up") if name not in remade(panel) and known.control else hollow(NAME, UNIT, "up")
            continue
        own = panel.relevance(name)
        noise = [kept(own, there, top) for there in maps[name]]
        level = sum(noise) / len(noise)
        entry = panel.entries[name]
        if entry.after is None:
            drawn = [Attack(e, m, k, spearman(own, m), abs(s - score)) for e, m, k, s in zip(signs, maps[name], noise, plain, strict=True)]
            best = min((d for d in drawn if d.moved <= limit), key=lambda d: (d.kept, d.rank), default=None)
            best = best or Attack(torch.zeros_like(panel.x), own, 1.0, 1.0, 0.0)
            worst = attacks[name] = _search(panel, name, best, reach, limit, score, top, rounds, pairs)
        elif entry.of in attacks:  # a control made of a map is held against that map's own attack
            of = attacks[entry.of]
            there = entry.after(of.there)
            worst = Attack(of.noise, there, kept(own, there, top), spearman(own, there), of.moved)
        else:
            found[name] = foreign(NAME, UNIT, "up")
            continue
        ranks = [spearman(own, there) for there in maps[name]]
        detail = {
            "rank_correlation": worst.rank, "noise_kept": noise, "noise_rank_correlation": sum(ranks) / len(ranks), "score_moved": worst.moved,
            "score_may_move": limit, "noise_score_moved": [abs(s - score) for s in plain], "reach": one_or_each(reach),
        }  # fmt: skip
        found[name] = _judged(worst, level, detail)
    return found


def kept(a: Tensor, b: Tensor, top: float) -> float:
    """Share of the highest samples of ``a`` that are among as many highest of ``b``."""
    return float(_top(b, top)[_top(a, top)].double().mean())


def _search(
    panel: Panel, name: str, best: Attack, reach: Tensor, limit: float, score: float, top: float, rounds: int, pairs: int
) -> Attack:
    """Steps along the slope of the top's share of the map, estimated from antithetic pairs of random signs, so that the score stays."""
    own, slope = panel.relevance(name), _slope(panel)
    chance, high = panel.chance(f"{NAME}: search"), _top(own, top)
    uphill = torch.zeros(panel.x.shape, dtype=torch.float64, device=panel.x.device)
    for _ in range(rounds):
        signs = [(2.0 * torch.randint(2, panel.x.shape, generator=chance) - 1).to(panel.x) for _ in range(pairs)]
        center = CENTER * best.noise
        ends = [panel.x + center + _sized((1 - CENTER) * side * reach, u) for u in signs for side in (1, -1)]
        shares = [_held(m, high) for m in panel.anew([name], ends)[name]]
        for k, u in enumerate(signs):
            uphill += (shares[2 * k] - shares[2 * k + 1]) * u
        tried = _sized(reach, _level(-uphill, slope))
        moved = abs(panel.scores([panel.x + tried])[0] - score)
        (there,) = panel.anew([name], [panel.x + tried])[name]
        one = Attack(tried, there, kept(own, there, top), spearman(own, there), moved)
        if moved <= limit and (one.kept, one.rank) < (best.kept, best.rank):
            best = one
    return best


def _slope(panel: Panel) -> Tensor:
    """The score's slope along changes of one size in every channel, whatever its unit."""
    slope = score_slope(panel)
    return slope * panel.setting.unit.to(slope)


def _sized(reach: Tensor, signs: Tensor) -> Tensor:
    return reach.to(signs) * signs


def _level(wanted: Tensor, slope: Tensor) -> Tensor:
    """Signs as wanted but for those that must turn so that the score, to first order, stays: ``sign(wanted - t * slope)`` with the fitting t."""
    slope = slope.double()
    low, high = -1.0, 1.0
    scale = float(wanted.abs().max() / slope.abs().clamp_min(1e-300).min().clamp_min(float(slope.abs().max()) * 1e-6 + 1e-300))
    for _ in range(60):
        t = (low + high) / 2
        if float(((wanted - t * scale * slope).sign() * slope).sum()) > 0:
            low = t
        else:
            high = t
    return (wanted - high * scale * slope).sign().to(slope).float()


def _top(values: Tensor, top: float) -> Tensor:
    """Where the highest samples lie, flat."""
    found = torch.zeros(values.numel(), dtype=torch.bool)
    found[values.flatten().topk(max(1, round(top * values.numel()))).indices] = True
    return found


def _held(values: Tensor, high: Tensor) -> float:
    """Share of the map's magnitude that lies, with its sign, in the top that it had."""
    size = float(values.abs().sum())
    return float(values.flatten()[high].sum()) / size if size > 0 else 0.0


def _signs(panel: Panel, purpose: str) -> Tensor:
    """Normal values, whose signs are even."""
    return torch.randn(panel.x.shape, generator=panel.chance(purpose), dtype=torch.float64).to(panel.x)


def _judged(worst: Attack, level: float, detail: dict[str, object]) -> Measurement:
    if math.isnan(worst.rank):
        return hollow(NAME, UNIT, "up")
    status: Status = "fail" if worst.kept < BREAKS * level or level < BREAKS else "pass" if worst.kept >= HOLDS else "inconclusive"
    text = (
        f"A change that nobody sees and that leaves the answer as it is keeps {worst.kept:.0%} of the map's top (rank correlation "
        f"{worst.rank:.2f}); random changes of that size keep {level:.0%}."
    )
    against = "the mean over random changes of the same size, level with the score"
    return Measurement(NAME, worst.kept, UNIT, "up", status, text, level, against, detail=detail)
