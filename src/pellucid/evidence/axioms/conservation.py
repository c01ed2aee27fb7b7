"""Conservation: is all of the score found again, in the map or in what the network's constants took?"""

from __future__ import annotations

import math

from pellucid.evidence.axioms.sums import FAIL, PASS, judged
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Entry, Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite, Gives

NAME, UNIT = "conservation", "share of the score"
MUCH = 1.0  # of the score: constants that take more than all of it leave a map of differences of large numbers


@metric(
    cite=Cite("Bach, Binder, Montavon, Klauschen, Müller, Samek", 2015, "On pixel-wise explanations by layer-wise relevance propagation", "PLoS ONE"),
    unit=UNIT,
    better="zero",
    reference=f"0; pass to {PASS:.0%}, fail above {FAIL:.0%}",
    needs=NETWORK,
    price=lambda **_: Price(shared=1, at_most=True),
)  # fmt: skip
def conservation(panel: Panel) -> dict[str, Measurement]:
    """What part of the score is neither in the map nor in what biases, constants and stabilizers absorbed.

    ``|sum of the map + sum of absorbed - s(x)| / |s(x)|``, over all values (c, *space) on the map's own grid; ``absorbed`` is read from the map's
    trace, by reason, and the score is asked anew. Methods that promise no conservation, and controls, are void.

    **Misleads when**: absorbed relevance is counted here, so a map may be conserving and hold little of the score: its share is told in
        the sentence (``absorbed_share`` in the detail, magnitudes over the score's).
    **Source**: Bach et al. 2015, equation 2; they assume networks whose biases take nothing.
    """
    return {name: _measured(panel, panel.entries[name]) for name in panel.names}


def _measured(panel: Panel, entry: Entry) -> Measurement:
    why, ask = entry.map, entry.ask
    if why is None or not (ask is not None and ask.method.facts.gives & Gives.CONSERVING):
        text = "Nothing promises that this map keeps the score's sum from layer to layer, so there is nothing to check."
        return Measurement(NAME, math.nan, UNIT, "zero", "void", text)
    absorbed = why.trace.get("absorbed")
    if not isinstance(absorbed, dict):
        text = "The map does not tell what was absorbed on its way, so its sum cannot be checked."
        return Measurement(NAME, math.nan, UNIT, "zero", "inconclusive", text)
    score = panel.score if ask is not None and repr(ask.target) == repr(panel.target) else why.score
    total, taken = why.total, sum(absorbed.values())
    detail = {"sum": total, "absorbed": dict(absorbed), "score_explained": score, "largest": why.trace.get("largest")}
    if abs(score) <= 1e-9 * max(float(why.values.double().abs().sum()), 1e-300):
        text = "The score is zero: there is nothing to share out."
        return Measurement(NAME, math.nan, UNIT, "zero", "void", text, detail=detail)
    gap, share = abs(total + taken - score) / abs(score), sum(map(abs, absorbed.values())) / abs(score)
    rest = "and most of it is not on the map" if share > MUCH else "the rest is on the map"
    text = f"{gap:.2%} of the score was lost on the way; biases and constants took {share:.0%} of it, {rest}."
    return judged(NAME, gap, UNIT, text, {**detail, "absorbed_share": share})
