"""AIC: how soon the decision comes back while the image is revealed in the map's order."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.evidence.faithfulness.reveal import SHARES, UNIT, measured
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Fraction
from pellucid.reading import Class
from pellucid.target import Logit, Probability, Seen, Target


@metric(
    cite=Cite("Kapishnikov, Bolukbasi, Viegas, Terry", 2019, "XRAI: better attributions through regions", "ICCV", "1906.02825"),
    unit=UNIT,
    better="up",
    reference="the best of a few random orders",
    needs=NETWORK,
    price=lambda randoms, **_: Price(shared=2 + randoms * len(SHARES), each=len(SHARES), at_most=True),
    space={2},
    random=True,
)
def aic(panel: Panel, *, seeds: Fraction = 0.01, randoms: Count = 3) -> dict[str, Measurement]:
    """How soon the network decides for the explained class again while the image is revealed in the map's order: 1 is at once.

    As ``sic``, with the decision (0 or 1) in the place of the score: the class has the highest score where classes exclude each other, or
    a probability above one half where they do not. For one image the curve is a step; its meaning comes from the mean over many.

    Args:
        seeds: share of the samples that is shown from the start.
        randoms: random orders that the map is held against; random ones were seen to beat methods.

    **Misleads when**: the decision needs hardly any evidence (one of two classes is what the network says of an empty image); void where
    the network does not decide for the class when it sees the whole image, and for targets that are no class.
    **Source**: Kapishnikov et al. 2019, section 4.1, and the authors' code; there the class is the true one.
    """
    target = panel.target
    if not isinstance(target, (Logit, Probability)) or panel.model.reading.kind == "regression":
        return _void(panel, f"{target!r} is no class that the network decides for.")
    decided = replace(panel, target=_Decided(target.k), _known={}, _engine=None)
    whole = decided.score
    why = "" if whole > 0 else "The network does not decide for this class when it sees the whole image."
    return measured(panel, "aic", decided, seeds, randoms, whole, why)


@dataclass(frozen=True)
class _Decided(Target):
    """Whether the network decides for a class, 0 or 1, (n,)."""

    k: Class

    def score(self, seen: Seen) -> Tensor:
        z = seen.reading.logits(seen.output)
        if z.ndim != 2:
            raise BadTarget("a decision for one class", f"an output of shape {tuple(seen.output.shape)}", "Grade a classifier.")
        k = seen.reading.index(self.k, z.shape[1])
        one_of_many = z.shape[1] > 1 and seen.reading.kind != "multi-label"
        return (z.argmax(1) == k if one_of_many else z[:, k] > 0).to(z.dtype)

    def __repr__(self) -> str:
        return f"decided({self.k!r})"


def _void(panel: Panel, text: str) -> dict[str, Measurement]:
    return {n: Measurement("aic", float("nan"), UNIT, "up", "void", text) for n in panel.names}
