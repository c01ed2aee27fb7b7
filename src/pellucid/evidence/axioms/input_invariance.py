"""Input invariance: does the map stay when the scanner's zero moves and the network undoes it?"""

from __future__ import annotations

from dataclasses import replace

import torch

from pellucid.baseline import Each, in_words, one_or_each
from pellucid.channels import Normalize
from pellucid.evidence.axioms.sums import FAIL, PASS
from pellucid.evidence.axioms.twins import UNIT, compared
from pellucid.evidence.metric import MAPS_ANEW, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.model import Model
from pellucid.params import Real


@metric(
    cite=Cite("Kindermans, Hooker, Adebayo, Alber, Schütt, Dähne, Erhan, Kim", 2017, "The (un)reliability of saliency methods", "arXiv", "1711.00867"),
    unit=UNIT,
    better="zero",
    reference=f"0; pass to {PASS:.0%}, fail above {FAIL:.0%}",
    needs=MAPS_ANEW,
    price=lambda **_: Price(anew=1),
)  # fmt: skip
def input_invariance(panel: Panel, *, shift: Real = -1.0) -> dict[str, Measurement]:
    """How much the map changes when a constant is added to all values and the network takes it off again before it looks.

    ``|a'(x + m) - a(x)|_1 / |a(x)|_1`` (*space), where ``m`` is ``shift`` times the value range, and a' explains the network ``f'(y) = f(y - m)``.
    Black and white, where the method compares with them, move along; fixed values such as 0 do not, as in the paper.

    Args:
        shift: added to all values, in value ranges; the paper takes images from [0, 1] to [-1, 0].

    **Misleads when**: failing is no fault of a method that compares with a fixed value by its very question (air is always -1000 HU): it says
        that the map depends on that choice. A random method changes by its own chance too.
    **Source**: Kindermans et al. 2017, section 2. There the shift goes into the first layer's bias, which is inexact where that layer pads with
        zeros; here into ``normalize``, before any padding, whatever the first layer is.
    """
    at = panel.setting
    move = shift * at.width
    m, pairs = one_or_each(move), torch.stack([at.low + move, at.high + move], 1).flatten(1).tolist()
    moved = tuple(map(tuple, pairs)) if len({*map(tuple, pairs)}) > 1 else tuple(pairs[0])
    twin = replace(_undoing(panel.model, m), range=moved)

    def say(gap: float) -> str:
        word = "stays under" if gap <= PASS else "changes with"
        return f"The map {word} a shift of all values by {in_words(m)} that the network undoes: {gap:.1%} of it is different."

    found = compared(panel, "input_invariance", twin, panel.x + move.to(panel.x), lambda a: a, say)
    return {n: replace(f, detail={**f.detail, "shift": m}) for n, f in found.items()}


def _undoing(model: Model, m: Each) -> Model:
    """The network that takes ``m`` off before it does anything else."""
    own = model.normalize or Normalize()
    if isinstance(own.mean, float) and isinstance(m, float):
        return replace(model, normalize=Normalize(own.mean + m, own.std))
    mean, move = torch.broadcast_tensors(*(torch.tensor(v, dtype=torch.float64) for v in (own.mean, m)))
    return replace(model, normalize=Normalize(tuple((mean + move).tolist()), own.std))
