"""Model randomization: which maps stay as they are when the network's weights are randomized, block by block?"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.sanity.alike import empty
from pellucid.evidence.sanity.cascade import Maps, Order, Stage, anew, copies, planned, repeatable, run
from pellucid.evidence.sanity.floors import averaged, floors, interval
from pellucid.evidence.sanity.judging import Finding, judged
from pellucid.evidence.sanity.shuffling import How, Shuffler, parameterless
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.model import Model
from pellucid.params import Count

NAME, UNIT = "model_randomization", "rank correlation"


@metric(
    cite=Cite("Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim", 2018, "Sanity checks for saliency maps", "NeurIPS", "1810.03292"),
    unit=UNIT,
    better="down",
    reference="maps of two networks randomized independently, and of different images where these are given",
    needs=NETWORK | MAPS_ANEW,
    price=lambda stages, draws, heads, **_: Price(shared=2 + heads + 2 * stages * draws, anew=stages * draws, at_most=True),
    random=True,
    ranks=False,
)
def model_randomization(
    panel: Panel,
    *,
    order: Literal["top-down", "bottom-up", "independent"] = "top-down",
    how: Literal["shuffled", "drawn"] = "shuffled",
    stages: Count = 5,
    draws: Count = 3,
    heads: Count = 19,
) -> dict[str, Measurement]:
    """How alike the map is to maps of copies of the network whose weights are randomized: near 0 if it shows what was learned.

    ``mean_draws |spearman(map, map of a copy)|`` with all blocks randomized (``independent``: over all stages), for maps (*space); same
    target at every stage. A block is a weight layer with its norms, in the order of execution. ``top`` in the detail is the stage with the
    upper half randomized, ``complete`` that with all, ``head`` the last block alone and how unusual the score is among such copies.
    A map fails that stays (0.5 or more, and its floor) while the upper half is randomized, as guided backpropagation does; or that stays
    (0.7) at any later stage. Copies are made once for all maps; intervals are over draws.

    Args:
        order: cascade from the output, from the input, or one block at a time.
        how: ``shuffled`` keeps each tensor's values; ``drawn`` uses the modules' own initializers (Adebayo et al. 2018).
        stages: at most; head, half and all are always among them.
        draws: copies at each stage. One gives no floor between networks and no interval.
        heads: copies with a shuffled last block that are asked for their score alone; 19 make p = 0.05 possible.

    **Misleads when**: a pass is no rank: noise passes best of all (Binder et al. 2023); causes that always lie in one place (Yona 2021).
    **Source**: section 3, with the erratum on guided backpropagation; Arun et al. 2021 for the floor between images.
    """
    return cascade(panel, order, how, stages, draws, heads, lambda twin, number, names: plain(panel, names, twin, number), "plain")


def plain(panel: Panel, names: list[str], twin: Model | None, number: int) -> dict[str, Tensor]:
    """The maps as they are given, or made anew by a copy."""
    if twin is None:
        return {n: panel.relevance(n) for n in names}
    return {n: found[0] for n, found in anew(panel, names, [panel.x], twin, number).items()}


def cascade(panel: Panel, order: Order, how: How, stages: int, draws: int, heads: int, maps: Any, key: str) -> dict[str, Measurement]:
    """The measurements of all maps of a panel; ``maps(copy or None, its number, names)`` makes those that are compared."""
    ready = opened(panel)
    if not isinstance(ready, Shuffler):
        return ready
    plan = planned(ready, order, stages)
    names, lost = repeatable(panel)
    dead = [n for n in names if empty(panel.relevance(n))]
    names = [n for n in names if n not in dead]
    makes: Maps = lambda twin, number: maps(twin, number, names)  # noqa: E731
    own = makes(None, 0)
    found = run(panel, ready, plan, makes, own, key, how, draws)
    whole = next((s for s in found if s.blocks == len(ready.blocks)), None)
    images = _of_images(panel, names, own)
    head = _head(panel, ready, heads) if order == "top-down" else {}
    facts = {
        "order": order, "how": how, "of_blocks": len(ready.blocks), "draws": draws, "copies": len(plan) * draws,
        "own_score": panel.score, "entropy": panel.entropy(),
    }  # fmt: skip
    measured: dict[str, Measurement] = {}
    for n in names:
        levels = floors(panel, n, own[n], whole, images[n])
        told = [row(s, n) for s in found]
        measured[n] = judged(Finding(order, len(ready.blocks), told, levels, panel.score, facts, _with_map(head, told)))
    measured |= {n: nothing(n, panel) for n in [*lost, *dead]}
    return {n: measured[n] for n in panel.names}


def row(stage: Stage, name: str) -> dict[str, Any]:
    """One stage of one map in plain values."""
    seen = stage.seen[name]
    _, low, high = interval([abs(s.alike.signed) for s in seen])
    known = [e for e in stage.entropies if e is not None]
    return {
        "blocks": stage.blocks, **averaged([s.alike for s in seen]), "low": low, "high": high, "draws": [s.alike.signed for s in seen],
        "empty": sum(s.empty for s in seen), "complexity": interval([s.complexity for s in seen])[0],
        "score": list(stage.scores), "entropy": sum(known) / len(known) if known else None, "first": stage.names[0],
    }  # fmt: skip


def opened(panel: Panel) -> Shuffler | dict[str, Measurement]:
    """A copy to randomize, kept for the panel; or what is said of every map where there is none."""
    if parameterless(panel.model.module):
        text = "The network has no weights to randomize."
        return {n: Measurement(NAME, math.nan, UNIT, "down", "void", text) for n in panel.names}
    if "randomization: copy" not in panel.kept:
        try:
            panel.kept["randomization: copy"] = Shuffler.of(panel.model, panel.x)
        except Unsupported as error:
            return {n: Measurement(NAME, math.nan, UNIT, "down", "inconclusive", f"Not checked: {error}") for n in panel.names}
    shuffler = panel.kept["randomization: copy"]
    assert isinstance(shuffler, Shuffler)
    return shuffler


def nothing(name: str, panel: Panel) -> Measurement:
    """What is said of a map that is empty or cannot be made anew."""
    if empty(panel.relevance(name)):
        text = "The map has one value everywhere, or values that are no numbers: there is nothing to compare."
    else:
        text = "This map came without its question, so it cannot be made anew by a randomized network."
    return Measurement(NAME, math.nan, UNIT, "down", "void", text)


def _of_images(panel: Panel, names: list[str], own: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """The network's maps of this image and of the others."""
    if not panel.others:
        return {n: [] for n in names}
    others = anew(panel, names, panel.others, None, 0)
    return {n: [own[n], *others[n]] for n in names}


def _head(panel: Panel, shuffler: Shuffler, heads: int) -> dict[str, Any]:
    """How unusual the score is among those of copies whose last block is shuffled: p is the share of them (and of itself) that
    lies as far to the same side of their median."""

    def scores() -> list[float]:
        chance = panel.chance("randomization: heads")
        return [panel.scores([panel.x], twin)[0] for twin in copies(shuffler, shuffler.blocks[-1:], heads, chance)]

    key = f"randomization: heads {heads}"
    if key not in panel.kept:
        panel.kept[key] = scores()
    drawn: list[float] = panel.kept[key]
    own, middle = panel.score, sorted(drawn)[len(drawn) // 2]
    p = (1 + sum(d >= own if own >= middle else d <= own for d in drawn)) / (1 + len(drawn))
    return {"of": list(shuffler.blocks[-1].names), "score": own, "shuffled": drawn, "p": p}


def _with_map(head: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, Any]:
    """The head's stage with the map's similarity there."""
    alone = next((r for r in told if r["blocks"] == 1), None)
    return head | ({} if not head or alone is None else {"similarity": alone["similarity"], "entropy": alone["entropy"]})
