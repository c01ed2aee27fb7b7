"""A method averaged over noisy copies of the image: SmoothGrad and its kin."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.method import BY_OTHERS, SIGNED, Cite, Cost, Inner, Method, Values, method, short
from pellucid.params import Count, Positive
from pellucid.probe.probe import Drawn, Probe


def _cost(inner: Inner, n: int, shape: tuple[int, ...], grid: Grid, **_: object) -> Cost:
    assert isinstance(inner, Method)
    once = inner.cost(shape, grid)
    return Cost(n * once.forward, n * once.backward, once.at_most)


@method(
    cite=Cite("Smilkov, Thorat, Kim, Viégas, Wattenberg", 2017, "SmoothGrad: removing noise by adding noise", "arXiv", arxiv="1706.03825"),
    asks=BY_OTHERS,
    gives=SIGNED,
    values=lambda inner, statistic, **_: inner.facts.values if statistic == "mean" else Values.SIZES,
    cost=_cost,
    random=True,
)
def smooth(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    inner: Inner = "saliency",
    *,
    n: Count = 25,
    sigma: Positive = 0.15,
    statistic: Literal["mean", "square", "variance"] = "mean",
) -> Drawn:
    """What another method says on average when the image is given a little noise.

    ``mean(m_k)``, ``mean(m_k ** 2)`` or ``mean((m_k - mean(m)) ** 2)`` over ``m_k = inner(image + sigma * (max - min) * noise_k)``,
    shape and unit as the inner method's (squared); max and min are those of each channel where channels have units of their own. Noise is always added to the image, also where a hidden site is explained.

    Args:
        inner: the method, or its name; may be given without ``inner=``: ``smooth("grad_cam")``.
        n: noisy images. The error falls with the root of n; beyond 50 the paper sees little change.
        sigma: standard deviation of the noise as a fraction of the image's max - min; the paper finds 0.1 to 0.2 clearest.
        statistic: ``mean`` (SmoothGrad), ``square`` (SmoothGrad-Squared) or ``variance`` (VarGrad, divided by n).

    Misleads when: noisy images are unlike what the network was trained on (then it is the noise that is explained); square and
        variance lose the sign, and VarGrad may say little about the score itself.

    Source: section 3; square: Hooker et al. 2019 (1806.10758); variance: Adebayo et al. 2018 (1810.03292), here by Welford's update.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="smoothgrad", n=4)
    >>> bool(torch.allclose(why.values.flatten(), net[1].weight[1]))
    True
    """
    if statistic == "variance" and n < 2:
        raise BadParameter("a variance needs at least two noisy images", f"n={n}", "Give n=25.")
    image = probe.source
    spread = (sigma * probe.engine.model.width(image)).to(image)
    noisy = (image + spread * torch.randn(image.shape, generator=probe.random, dtype=torch.float64).to(image) for _ in range(n))
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    sum_of_deviations: Tensor | float = 0.0
    for k, drawn in enumerate(probe.run(inner, noisy), 1):
        values = drawn.values.double()
        change = values - mean
        mean = mean + change / k
        sum_of_deviations = sum_of_deviations + change * (values - mean)
        squares = squares + values**2
    found = {"mean": mean, "square": squares / n, "variance": sum_of_deviations / n}[statistic]
    assert isinstance(found, Tensor)
    return probe.map(found, drawn.grid)


smoothgrad = short("smoothgrad", smooth(inner="saliency"))
smoothgrad_squared = short("smoothgrad_squared", smooth(inner="saliency", statistic="square"))
vargrad = short("vargrad", smooth(inner="saliency", statistic="variance"))
