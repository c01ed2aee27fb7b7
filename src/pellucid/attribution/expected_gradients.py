"""Expected gradients: integrated gradients over a distribution of baselines, by chance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Starts
from pellucid.method import CONTRIBUTIONS, GRADIENTS, SIGNED, Cite, Cost, method
from pellucid.params import Count
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Erion, Janizek, Sturmfels, Lundberg, Lee", 2021, "Expected gradients", "Nature Machine Intelligence", arxiv="1906.10670"),
    asks=GRADIENTS,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda baseline, samples, **_: Cost(forward=samples + baseline.count + 1, backward=samples),
    random=True,
)
def expected_gradients(probe: Probe, x: Float[Tensor, "c *space"], *, baseline: Baseline = "random(8)", samples: Count = 200) -> Drawn:
    """How much each sample contributes to s(x) less the mean score of many baseline images, along straight ways from all of them.

    ``mean over draws (start, t) of (x - start) * d s / d x at start + t * (x - start)``, shape (c, *space), in units of the score.
    Every start is drawn equally often, and the t of one start fall into equal parts of [0, 1], one in each: unbiased, with less noise.

    Args:
        baseline: where ways start: best ``each_of`` real images like those that the network knows; else ``random(n)``.
        samples: gradients in all. Fewer than there are starts: so many starts, chosen by chance. Memory does not grow with them.

    Misleads when: the set of baselines is unlike the image in what does not matter (other scanner, other shift): that is then
        explained too. The sum is s(x) - mean s(start) on average only; see the gap in the trace.

    Source: equation 3; Captum's GradientShap draws without the balance, and adds noise to x on request (here: ``smooth``).

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="expected_gradients", samples=16)
    >>> abs(why.trace["gap"]) < 1e-5
    True
    """
    assert isinstance(baseline, Starts)
    starts = probe.starts(baseline)
    change = probe.score() - sum(float(a.score) for a in probe.scores(starts)) / len(starts)
    drawn = draw(len(starts), samples, probe.random)
    values, scores = torch.zeros_like(x, dtype=torch.float64), []
    for answer in probe.gradients(drawn, of=lambda at: starts[at[0]] + at[1] * (x - starts[at[0]])):
        values += (x - starts[answer.asked[0]]).double() * answer.gradient.double() / samples
        scores.append(float(answer.score))
    which, alphas = [n for n, _ in drawn], [t for _, t in drawn]
    gap = float(values.sum()) - change
    probe.missed(gap, change, "give more samples")
    return probe.map(values, gap=gap, change=change, starts=which, alphas=alphas, scores=scores)


def draw(starts: int, samples: int, chance: torch.Generator) -> list[tuple[int, float]]:
    """Which start and how far along its way, per sample: starts in turns, in an order drawn by chance."""
    order = torch.randperm(starts, generator=chance).tolist()
    times = [len(range(i, samples, starts)) for i in range(starts)]  # how often the i-th in the order is drawn
    part = torch.rand(samples, generator=chance, dtype=torch.float64).tolist()
    return [(order[k % starts], (k // starts + part[k]) / times[k % starts]) for k in range(samples)]
