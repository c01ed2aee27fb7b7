"""DeepSHAP: DeepLIFT against a set of references."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Starts
from pellucid.method import COMPLETE, CONTRIBUTIONS, RULES, SIGNED, Cite, Cost, method
from pellucid.probe.against import against
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Lundberg, Lee", 2017, "A unified approach to interpreting model predictions", "NeurIPS", arxiv="1705.07874"),
    asks=RULES,
    gives=SIGNED | COMPLETE,
    values=CONTRIBUTIONS,
    cost=lambda baseline, **_: Cost(forward=2 * baseline.count, backward=baseline.count),
    random=True,
)
def deep_shap(probe: Probe, x: Float[Tensor, "c *space"], *, baseline: Baseline = "random(8)") -> Drawn:
    """How much each sample contributes to s(x) less the mean score of a set of reference images: approximate Shapley values.

    Mean over references of ``m * (x - reference)``, m the multipliers of DeepLIFT (Rescale), shape (c, *space), in units of the score.
    The sum is s(x) - mean s(reference), exactly but for rounding. One reference at a time: memory does not grow with their number.

    Args:
        baseline: the references: best ``each_of`` real images like those that the network knows, a few dozen; else ``random(n)``.

    Misleads when: references are unlike the image in what does not matter (another scanner, another shift): that is then explained too.
        These are Shapley values only where parts act one at a time; where two matter together, see ``deeplift(rule="reveal_cancel")``.

    Source: section 4.2 and shap.DeepExplainer. Attention, norms, products and gates have exact rules here (see ``deeplift``); there they
        have gradients, or none.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="deep_shap")
    >>> len(why.trace["changes"]), abs(why.trace["gap"]) < 1e-5
    (8, True)
    """
    assert isinstance(baseline, Starts)
    values, trace = against(probe, x, probe.starts(baseline), "rescale")
    return probe.map(values, **trace)
