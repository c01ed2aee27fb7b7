"""Guided Grad-CAM: fine structure where the coarse map lights up."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.method import ACTIVATIONS, GRADIENTS, NOTHING, PATTERNS, RULES, Cite, Cost, Inner, Method, Where, method
from pellucid.ops.resample import pull
from pellucid.probe.probe import Drawn, Probe


def _cost(coarse: Inner, fine: Inner, shape: tuple[int, ...], grid: Grid, **_: object) -> Cost:
    assert isinstance(coarse, Method)
    assert isinstance(fine, Method)
    a, b = coarse.cost(shape, grid), fine.cost(shape, grid)
    # the pass that finds the activation goes backward too
    return Cost(a.forward + b.forward, max(a.backward, 1) + b.backward, a.at_most or b.at_most)


@method(
    cite=Cite("Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra", 2017, "Grad-CAM", "ICCV", arxiv="1610.02391"),
    asks=GRADIENTS | ACTIVATIONS | RULES,
    gives=NOTHING,
    values=PATTERNS,
    cost=_cost,
    where=Where.FEATURES,
    needs_space=True,
)
def guided_grad_cam(probe: Probe, x: Float[Tensor, "c *space"], coarse: Inner = "grad_cam", fine: Inner = "guided_backprop") -> Drawn:
    """The fine lines of one method, shown where a coarse map of the target lights up.

    ``fine(image) * coarse(site) read at the image's samples``, shape (c, *space) of the image, in units of the score squared per unit of
    intensity: a product of two maps, so it grows fourfold where the score doubles, and its sum means nothing.

    Args:
        coarse: a method with one channel, asked at the site; Grad-CAM with its relu, as in the paper.
        fine: a method asked about the image itself, whatever the site.

    Misleads when: it looks sharp and class-specific: the lines are those of guided backpropagation, which restores edges whatever the
        weights are; only the coarse map tells where. Wrong places of the coarse map become crisp wrong lines.

    Source: section 3.2, bilinear as in the paper, at the places where the cells truly lie (beyond the outermost centers their own value);
        Captum takes the nearest of cells stretched from corner to corner. On a site of the image's resolution they agree exactly.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())
    >>> why = pl.explain(net, torch.rand(1, 9, 9), target=1, method="guided_grad_cam", site="1")
    >>> why.values.shape
    torch.Size([1, 9, 9])
    """
    assert isinstance(coarse, Method)
    place = coarse.answer(probe, x)
    if len(place.values) != 1:
        raise BadParameter("coarse is a method whose map has one channel", f"{coarse.name} with {len(place.values)}", "Try 'grad_cam'.")
    lines = probe.at_input(fine)
    image = probe.outside()
    if lines.grid != image.grid:
        raise BadParameter("fine is a method that speaks of the image's samples", repr(fine), "Try 'guided_backprop'.")
    spread = pull(place.values.cpu(), image.grid.shape, image.grid.map_to(place.grid)).to(lines.values)
    return probe.map(lines.values * spread, image.grid)
