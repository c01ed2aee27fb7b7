"""PatternAttribution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import CONTRIBUTIONS, RULES, SIGNED, Cite, Cost, method
from pellucid.probe.patterns import PatternData, count, signal
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Kindermans, Schuett, Alber, Mueller, Erhan, Kim, Daehne", 2018, "Learning how to explain", "ICLR", arxiv="1705.05598"),
    asks=RULES,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda data, **_: Cost(forward=1 + count(data), backward=1),
    random=True,
)
def pattern_attribution(probe: Probe, x: Float[Tensor, "c *space"], *, data: PatternData = "random(16)") -> Drawn:
    """How much the signal at each place contributes to the target, with what the filters cancel left out.

    ``score`` times the pass back from the target with ``w * a`` in the place of weights w, ``a = cov(x, y) / (w cov(x, y))`` their patterns,
    cut where a rectifier is closed; shape (c, *space), in units of the score. Since ``w a = 1`` for every output, a linear network's
    map sums to the score.

    Args:
        data: ``patterns(net, images)``, fitted once on images like those to be explained; or a set to fit on now, such as
            ``each_of(images)``. ``random(16)``, noise, stands for no data: patterns then say little more than filters.

    Misleads when: patterns were fitted on few images or on others (see ``pattern_net``). The explained image enters by its open rectifiers
        and its score alone: a signal that it lacks may light up.

    Source: section 4, "PatternAttribution": the root point is the image without its estimated signal. A BatchNorm counts as merged;
        pooling, sums and what moves values keep their own gradient; other norms, attention and gates are refused.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1, bias=False))
    >>> images = [torch.randn(2, 1, 1) for _ in range(40)]
    >>> why = pl.explain(net, images[0], 0, method="pattern_attribution", data=pl.patterns(net, images))
    >>> abs(why.total - why.score) < 1e-4
    True
    """
    return signal(probe, "pattern_attribution", data, times_weights=True)
