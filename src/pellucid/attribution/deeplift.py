"""DeepLIFT."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.method import COMPLETE, CONTRIBUTIONS, RULES, SIGNED, Cite, Cost, method
from pellucid.probe.against import against
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.rules.deeplift import Way


@method(
    cite=Cite(
        "Shrikumar, Greenside, Kundaje",
        2017,
        "Learning important features through propagating activation differences",
        "ICML",
        arxiv="1704.02685",
    ),
    asks=RULES,
    gives=SIGNED | COMPLETE,
    values=CONTRIBUTIONS,
    cost=lambda baseline, **_: Cost(forward=2 * baseline.count, backward=baseline.count),
)
def deeplift(probe: Probe, x: Float[Tensor, "c *space"], *, baseline: Baseline = Constant(0.0), rule: Way = "rescale") -> Drawn:
    """How much each sample contributes to s(x) - s(start), told from the differences that every unit shows between the two runs.

    ``m * (x - start)``, m the product of multipliers ``dy / dx`` of all operations on the way back, shape (c, *space), in units of the
    score; with several starts their mean. The sum is s(x) - s(start), exactly but for rounding.

    Args:
        baseline: the image from which nothing can be told, in the image's own values.
        rule: ``rescale`` gives a unit's change to its inputs in proportion. ``reveal_cancel`` lets what raises and what lowers a unit pass
            apart, so that a minimum of two is shared by both: behind linear layers; Rescale behind convolutions, as the authors do.

    Misleads when: the score is a probability (explain the logit), or multipliers are large (``largest``, ``ratio`` in the trace): big
        contributions that cancel. Where image and baseline agree it says nothing.

    Source: equations 1 to 6, 8. Products, quotients, softmax, norms and maxima have no rule there: ours are exact (``probe/rules/joint``,
        ``maxima``) and named on the map; Captum and shap take gradients, and err. Operations without an exact rule are refused.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> why = pl.explain(net, torch.rand(1, 5, 5), target=1, method="deeplift")
    >>> abs(why.trace["gap"]) < 1e-5
    True
    """
    assert isinstance(baseline, Starts)
    values, trace = against(probe, x, probe.starts(baseline), rule)
    return probe.map(values, **trace)
