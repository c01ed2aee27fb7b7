"""Eigen-CAM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import ACTIVATIONS, NOTHING, Cite, Cost, Values, Where, method
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Muhammad, Yeasin", 2020, "Eigen-CAM: class activation map using principal components", "IJCNN", arxiv="2008.00299"),
    asks=ACTIVATIONS,
    gives=NOTHING,
    values=Values.ACTIVATIONS,
    cost=lambda **_: Cost(forward=1),
    where=Where.FEATURES,
    hears_target=False,
    needs_space=True,
)
def eigen_cam(probe: Probe, x: Float[Tensor, "c *space"]) -> Drawn:
    """Where the features differ most from their mean over the image, along the one direction in which they differ most.

    ``v . (x - mean over places of x)`` with v the first right singular vector (over channels) of the centered activation, places in rows;
    shape (1, *space of the site) on the site's own grid, in units of the activation. The trace says the share of all variance.

    Sign: a singular vector has none. It is turned so that the value farthest from zero is positive.

    Misleads when: the question is why: neither the target nor what follows the site is asked, so every class gets the same map.
        The strongest features may be background, an edge or a marker; where the object fills the image, the background is positive.
        A small share says that other directions matter as much.

    Source: section III; the paper does not center, which lets the mean activation pass for a finding; centered as pytorch-grad-cam.
        The sign rule is that of Chung and Ying 2025 (Seg-Eigen-CAM, equation 13).

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="eigen_cam")
    >>> why.values.shape, abs(why.total) < 1e-4
    (torch.Size([1, 6, 6]), True)
    """
    z = x.double().flatten(1)
    z = z - z.mean(1, keepdim=True)
    channels, places = z.shape
    squares, directions = torch.linalg.eigh(z @ z.T if channels <= places else z.T @ z)
    if not float(squares[-1]) > 0:
        raise Unsupported("Eigen-CAM needs an activation that differs from place to place", "a constant one", "Choose an earlier site.")
    along = directions[:, -1]
    values = along @ z if channels <= places else along * squares[-1].sqrt()
    if float(-values.min()) > float(values.max()):
        values = -values
    share = float(squares[-1] / squares.clamp_min(0).sum())
    return probe.map(values.view(1, *x.shape[1:]), share=share)
