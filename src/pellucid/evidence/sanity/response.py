"""Learned response: does the network's answer rest on something it has learned, or would shuffled weights answer as strongly?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.evidence.case import Case
from pellucid.evidence.patches import Patches
from pellucid.evidence.sanity.shuffling import Block, Shuffler
from pellucid.explanation import Measurement, Status

NAME = "learned_response"
CHANCE = 0.05  # a network without learning passes at most this often, whatever its architecture
WIDE = 2.0  # patches: width of the splits' texture
STILL = 1e-6  # of the score: a smaller response is rounding


def response(case: Case, neutrals: Sequence[Tensor], shuffler: Shuffler) -> Measurement:
    """How strongly the score tells halves of the image apart, ranked among copies whose last weights are shuffled.

    The image is split at random into two halves of coarse patches; half A is shown with the rest neutral, then half B; further splits
    follow with another neutral image. The response is the standard deviation of the score over all halves: large if it hears content that
    lies in one place. The copies see the same halves. Where nothing has been learned the order of the last weights (of two weight layers
    and their norms) is an accident: the network is as likely as each of its k copies to respond strongest, so that it stands first with
    probability 1 / (k + 1), whatever its architecture and the scale of its weights. This permutation test is exact for weights drawn
    independently, and has no threshold but that probability. Halves are drawn without looking at the map, which knows the weights.

    A network that does not stand first is not shown to have learned nothing: that is inconclusive, as every large p is. It fails where the score does
    not answer to the image at all.
    """
    halves = _halves(case, neutrals)
    scores = case.scores(NAME, halves)
    own = _strength(scores)
    blocks = _readout(case, shuffler, halves, own)
    chance = case.chance(4)
    drawn = [_strength(case.scores(NAME, halves, shuffler.shuffle(blocks, chance))) for _ in range(case.effort.readouts)]
    p = (1 + sum(d >= own for d in drawn)) / (1 + len(drawn))
    middle = statistics.median(drawn)
    times = own / middle if middle > 0 else math.inf if own > 0 else 1.0
    status: Status = "fail" if own <= STILL * max(map(abs, scores)) else "pass" if p <= CHANCE else "inconclusive"
    as_strong = sum(d >= own for d in drawn)
    text = {
        "pass": f"The score answers to this image {times:.1f} times as strongly as with shuffled weights: the network has learned to see this.",
        "inconclusive": "Not shown that the answer to this image rests on something learned: "
        f"{as_strong} of {len(drawn)} networks with shuffled weights answer as strongly.",
        "fail": "Whichever half of the image is hidden, the score stays: the network does not look at it.",
    }[status]
    detail = {
        "response": own, "shuffled": drawn, "p": p, "shuffled_weights": [n for b in blocks for n in b.names],
        "splits": case.effort.splits, "passes": case.passes[NAME],
    }  # fmt: skip
    against = f"the median of {len(drawn)} copies with shuffled last weights; p = {p:.2g}, pass to {CHANCE}"
    return Measurement(NAME, times, "times", "up", status, text, 1.0, against, detail=detail)


def _halves(case: Case, neutrals: Sequence[Tensor]) -> list[Tensor]:
    """Pairs of complementary halves, the neutral images in turn."""
    chance, found = case.chance(6), []
    patches = Patches.of(case.why.image.grid, case.x.cpu(), neutrals[0].cpu(), case.panel.setting.unit)
    for k in range(case.effort.splits):
        order, neutral = patches.random_order(WIDE, chance), neutrals[k % len(neutrals)]
        found += [patches.without(case.x, neutral, order[: len(order) // 2]), patches.without(case.x, neutral, order[len(order) // 2 :])]
    return found


def _strength(scores: list[float]) -> float:
    return float(torch.tensor(scores, dtype=torch.float64).std())


def _readout(case: Case, shuffler: Shuffler, halves: list[Tensor], own: float) -> tuple[Block, ...]:
    """The last two blocks that the target hears: an auxiliary head that runs later does not count."""
    blocks = shuffler.blocks
    for end in range(len(blocks), 0, -1):
        last = blocks[max(0, end - 2) : end]
        if abs(_strength(case.scores(NAME, halves, shuffler.shuffle(last[-1:], case.chance(5)))) - own) > 1e-6 * own:
            return last
    return blocks
