"""examine(): how far can this map be trusted?"""

from __future__ import annotations

from typing import Any, get_args

import torch

from pellucid.asking import as_image
from pellucid.errors import BadParameter
from pellucid.evidence.case import EFFORTS, Case, Level
from pellucid.evidence.panel import check_network
from pellucid.evidence.verdict import verdict
from pellucid.explanation import Evidence, Map, Measurement
from pellucid.method import Ask
from pellucid.model import as_model
from pellucid.probe.ledger import untouched
from pellucid.run import Run


def examine(net: Any, image: Any, why: Map, level: Level = "quick", *, ask: Ask | None = None, run: Run | None = None) -> Evidence:
    """What can be checked of a map, the numbers, and a verdict with its reasons.

    Args:
        net: the Model or network that was explained.
        image: the image that was explained: the scan as given to ``explain``, or the prepared one.
        why: the map.
        level: ``none`` nothing; ``quick`` about 490 passes for integrated gradients, most of them forward only; ``standard`` and ``full`` more draws and stages.
        ask: the question, for a map read back from disk; otherwise the map carries it.
        run: seed, chunk, memory, cancel.

    Raises:
        BadParameter: no such level, an image or weights that are not the map's, or a map without its question.

    The network is never touched: shuffled weights live in a copy.
    """
    if level not in get_args(Level):
        raise BadParameter("a level is none, quick, standard or full", repr(level), "Choose one of them.")
    if level == "none":
        return Evidence()
    empty = _empty(why)
    if empty is not None:
        return Evidence(level, (empty,), "void", (empty.text,))
    from pellucid.evidence.checks import checked  # the folders of metrics load with the first examination

    model, asked = as_model(net), ask or why.ask
    if asked is None:
        raise BadParameter("the question of the map", "a map read from disk, which names it in words alone", "Give ask=pl.ask(...).")
    check_network(model, why, as_image(image))
    case = Case.of(model, why, asked, run or Run(seed=why.provenance.seed), EFFORTS[level])
    with untouched(model.module):
        found = tuple(checked(case))
    word, reasons = verdict(found)
    return Evidence(level, found, word, reasons)


def _empty(why: Map) -> Measurement | None:
    """A map with nothing to examine: NaN, or one value everywhere."""
    if not bool(torch.isfinite(why.values).all()):
        text = "The map holds values that are no numbers; there is nothing to examine."
    elif float(why.values.max() - why.values.min()) <= 1e-12 * float(why.values.abs().max()):
        text = "The map has one value everywhere: it marks nothing."
    else:
        return None
    return Measurement("content", 0.0, "distinct values", "up", "void", text)
