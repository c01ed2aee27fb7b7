"""CAM: class activation mapping."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import ACTIVATIONS, CONTRIBUTIONS, GRADIENTS, SIGNED, Cite, Cost, Where, method
from pellucid.probe.probe import Answer, Drawn, Probe

TOLERANCE = 1e-3  # of the largest weight: above what float32 rounds, below what any other head shows


@method(
    cite=Cite("Zhou, Khosla, Lapedriza, Oliva, Torralba", 2016, "Learning deep features for discriminative localization", "CVPR"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda **_: Cost(forward=6, backward=5),
    where=Where.FEATURES,
    needs_space=True,
)
def cam(probe: Probe, x: Float[Tensor, "c *space"]) -> Drawn:
    """How much each place of the last feature map adds to the score, in networks that end in global average pooling and one linear layer.

    ``sum over channels of w * x``, w the target's weights in the linear layer as it would read sums (divided by the number of places), x
    what is pooled: the activation at the site, or its ReLU where one lies between; shape (1, *space of the site) on its own grid, in
    units of the score. The sum is the score less its bias.

    The head is known by how it answers: at activations made by chance and at the image's own, the slopes must be one number per channel,
    the same at every place (or where the activation is above 0, if a ReLU follows). Any other head is refused; two linear layers in a
    row, dropout and differences of logits pass, since they are one linear layer. What bypasses the site is told in a caveat.

    Misleads when: cells see far more of the image than where they are drawn, or the bias decides.

    Source: equations 1 and 2 (sums, as there). The trace says ``relu`` (whether one follows the site) and ``rest``, the score less the
        map's sum: the bias.

    >>> import pellucid as pl, torch
    >>> head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)]
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), *head)
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="cam")
    >>> abs(why.total - why.score) < 1e-5
    True
    """
    own = probe.local()
    told = [own, *probe.gradients(_far_off(x, probe.random))]
    elsewhere = next(probe.over(torch.rand(probe.source.shape, generator=probe.random).to(probe.source)).scores([x]))
    weights = told[1].gradient.double().flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1))
    limit = TOLERANCE * float(weights.abs().max())

    def fits(answer: Answer, relu: bool) -> bool:
        expected = weights * (answer.found > 0) if relu else weights
        return float((answer.gradient.double() - expected).abs().max()) <= limit

    if limit == 0 or not fits(told[1], False):
        raise _refusal("slopes that differ from place to place" if limit else "slopes of zero")
    found = [relu for relu in (False, True) if all(fits(answer, relu) for answer in told)]
    if not found:
        raise _refusal("slopes that change with the activation")
    values = (weights * (x.relu() if found[0] else x).double()).sum(0, keepdim=True)
    if abs(float(own.score - elsewhere.score)) > TOLERANCE * float(values.abs().sum()):
        probe.notes.append("the score is also fed by what bypasses the site: the sum of the map is not the score less its bias")
    return probe.map(values, relu=found[0], rest=float(own.score) - float(values.sum()))


def _far_off(x: Tensor, random: torch.Generator) -> list[Tensor]:
    """Activations by chance, beyond the reach of biases: all positive; mixed; channels of one sign each; the opposite of these.

    A hidden layer is never in the same state for all of them.
    """
    noise = torch.randn(x.shape, generator=random, dtype=torch.float64).to(x) * 10 * x.abs().max().clamp_min(1)
    signs = torch.randint(2, (len(x), *[1] * (x.ndim - 1)), generator=random).to(x) * 2 - 1
    return [noise.abs(), noise, signs * noise.abs(), -signs * noise.abs()]


def _refusal(got: str) -> Unsupported:
    asked = "CAM needs a logit behind global average pooling and one linear layer, directly behind the site"
    return Unsupported(asked, got, "Explain a logit at the site that is pooled, or choose grad_cam or hires_cam, which need no such head.")
