"""PatternNet."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import PATTERNS, RULES, SIGNED, Cite, Cost, method
from pellucid.probe.patterns import PatternData, count, signal
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Kindermans, Schuett, Alber, Mueller, Erhan, Kim, Daehne", 2018, "Learning how to explain", "ICLR", arxiv="1705.05598"),
    asks=RULES,
    gives=SIGNED,
    values=PATTERNS,
    cost=lambda data, **_: Cost(forward=1 + count(data), backward=1),
    random=True,
)
def pattern_net(probe: Probe, x: Float[Tensor, "c *space"], *, data: PatternData = "random(16)") -> Drawn:
    """The signal in the image that the target responds to: what it looks like, not which filter finds it.

    ``score`` times the pass back from the target with patterns ``a = cov(x, y) / (w cov(x, y))`` in the place of weights w, and gradients
    cut where a rectifier is closed; shape and unit (c, *space) of the image or site. A filter must cancel distractors, so it (and the
    gradient) looks unlike the signal; the pattern does not.

    Args:
        data: ``patterns(net, images)``, fitted once on images like those to be explained; or a set to fit on now, such as
            ``each_of(images)``. ``random(16)``, noise, stands for no data: patterns then say little more than filters.

    Misleads when: patterns were fitted on few images (under a hundred, even signs go wrong) or on others. What does not vary in the data
        has no pattern; what closes rectifiers is not seen; and units that share a signal each add theirs, so a deep map's scale says nothing.

    Source: equations 4 and 8 (two-component estimator for rectified, linear for other operations), iNNvestigate's form: x and xy over
        active positions, y over all. A BatchNorm counts as merged; scalings by their inverse; other norms, attention and gates are refused.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[1.0, -1.0]]))  # finds the first channel in spite of what both share
    >>> images = [torch.tensor([s + d, d]).view(2, 1, 1) for s, d in ((1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))]
    >>> why = pl.explain(net, images[0], 0, method="pattern_net", data=pl.patterns(net, images))
    >>> why.values.flatten().tolist(), why.score
    ([1.0, 0.0], 1.0)
    """
    return signal(probe, "pattern_net", data, times_weights=False)
