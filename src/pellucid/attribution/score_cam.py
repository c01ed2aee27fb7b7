"""Score-CAM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.method import ACTIVATIONS, FEATURES, NOTHING, SCORES, Cite, Cost, Where, method
from pellucid.ops.resample import pull
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe

ALIKE, ALONE = 1.01, 0.99  # weights that differ by less are one weight; a channel that has more leaves nothing to the others


@method(
    cite=Cite("Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu", 2020, "Score-CAM", "CVPR workshop", arxiv="1910.01279"),
    asks=SCORES | ACTIVATIONS,
    gives=NOTHING,
    values=FEATURES,
    cost=lambda shape, fill, **_: Cost(forward=shape[0] * fill.count + 1),
    where=Where.FEATURES,
    needs_space=True,
)
def score_cam(probe: Probe, x: Float[Tensor, "c *space"], *, relu: Flag = True, fill: Baseline = Constant(0.0)) -> Drawn:
    """Where the features are strong that, used as a window on the image, let the score stay highest.

    ``relu(sum over channels of w * x)``, ``w = softmax over channels of s(m * image + (1 - m) * fill)``, m the channel laid over the image
    and stretched to [0, 1] (0 if constant); shape (1, *space of the site) on its own grid, in units of the activation.

    Args:
        relu: drop what is negative, as the paper does; only channels that are negative themselves can make it so.
        fill: what hides, in the image's own values (the paper: 0); for several the mean score counts.

    Misleads when: scores differ by much: the softmax then gives nearly all weight to one channel (see ``largest_weight`` in the trace);
        where they hardly differ (probabilities), all channels count alike, and the map is their mean, whatever the target.

    Source: algorithm 1; the score of the fill alone, common to all channels, drops out of the softmax. Channels lie where their cells
        look, not stretched from corner to corner. The trace says ``passes``: one per channel and fill, and one more.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="score_cam", site="1")
    >>> why.values.shape, why.trace["passes"]
    (torch.Size([1, 6, 6]), 5)
    """
    assert isinstance(fill, Starts)
    at_image = probe.outside()
    image, onto = at_image.x, at_image.grid.map_to(probe.grid)
    fills = at_image.starts(fill)

    def shown(asked: tuple[int, Tensor]) -> Tensor:
        channel, hidden = asked
        mask = pull(x[channel : channel + 1].cpu(), at_image.grid.shape, onto)
        low, high = mask.min(), mask.max()
        mask = ((mask - low) / (high - low) if high > low else torch.zeros_like(mask)).to(image)
        return hidden + mask * (image - hidden)

    scores = torch.zeros(len(x), dtype=torch.float64)
    for answer in at_image.scores(((c, f) for c in range(len(x)) for f in fills), of=shown):
        scores[answer.asked[0]] += float(answer.score) / len(fills)
    weights = scores.softmax(0)
    if len(x) > 1 and float(weights.max() / weights.min()) < ALIKE:
        probe.notes.append("the channels' scores hardly differ, so that all weigh alike: the map is nearly the same for every target")
    if len(x) > 1 and float(weights.max()) > ALONE:
        told = f"channel {int(weights.argmax())} of {len(x)} has {float(weights.max()):.1%} of the weight, since scores differ by much"
        probe.notes.append(f"{told}: the map shows it alone, and is the same for every target that it serves best")
    cam = torch.zeros(1, *x.shape[1:], dtype=torch.float64, device=x.device)
    for weight, channel in zip(weights.tolist(), x, strict=True):
        cam += weight * channel.double()
    passes = len(x) * len(fills) + 1
    return probe.map(cam.relu() if relu else cam, passes=passes, weights=weights.tolist(), largest_weight=float(weights.max()))
