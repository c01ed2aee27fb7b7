"""Learned response: does the network's answer rest on something it has learned, or would shuffled weights answer as strongly?"""

from __future__ import annotations

from torch import Tensor

from pellucid.evidence.case import Case
from pellucid.evidence.shuffling import Block, Shuffler
from pellucid.explanation import Measurement

NAME = "learned_response"


def response(case: Case, score: float, empty: float, neutral: Tensor, shuffler: Shuffler) -> Measurement:
    """How strongly the score answers to the image's content, ranked among copies whose last weights are in random order.

    The answer is |s(x) - s(neutral)|. Where nothing has been learned the order of the last weights is an accident, so the network is as
    likely as each of its shuffled copies to answer strongest: among k copies it stands first with probability 1 / (k + 1) at most,
    whatever the architecture, the scale of its weights or the rest of the network. A learned readout fits the features it reads and
    stands first nearly always. ``score`` is s(x), ``empty`` s(neutral).
    """
    own, chance = abs(score - empty), case.chance(4)
    blocks = _readout(case, shuffler, score, empty, neutral)
    drawn = []
    for _ in range(case.effort.readouts):
        a, b = case.scores(NAME, [case.x, neutral], shuffler.shuffle(blocks, chance))
        drawn.append(abs(a - b))
    above = sum(d >= own for d in drawn)
    p = (1 + above) / (1 + len(drawn))
    middle = sorted(drawn)[len(drawn) // 2]
    times = own / middle if middle > 0 else float("inf")
    passed = above <= len(drawn) // 20 - 0 if len(drawn) > 20 else above == 0
    if passed:
        text = f"The score answers to the image {times:.1f} times as strongly as with shuffled last weights: the network has learned to see this."
    else:
        text = "Shuffled last weights answer to this image as strongly as the network itself: its answer does not rest on anything learned."
    detail = {"response": own, "shuffled": drawn, "p": p, "readout": [n for b in blocks for n in b.names], "passes": case.passes[NAME]}
    return Measurement(
        NAME, times, "times the median shuffled copy", "up", "pass" if passed else "fail", text, 1.0,
        f"{len(drawn)} copies with the last weights shuffled; p = {p:.3g}", detail=detail,
    )  # fmt: skip


def _readout(case: Case, shuffler: Shuffler, score: float, empty: float, neutral: Tensor) -> tuple[Block, ...]:
    """The last blocks that the target hears: an auxiliary head that runs later does not count."""
    for least in (16, 64, 1024, 10**9):
        blocks = shuffler.readout(least)
        a, b = case.scores(NAME, [case.x, neutral], shuffler.shuffle(blocks, case.chance(5)))
        if abs(a - score) + abs(b - empty) > 1e-6 * (abs(score) + abs(empty)):
            break
    return blocks
