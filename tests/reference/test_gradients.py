"""Saliency, input x gradient and integrated gradients against their formulas, written slowly."""

import numpy as np
import pytest
import torch
from tests.reference.plain import close, explained, gradient, inside, score, setting

import pellucid as pl

DIMS = pytest.mark.parametrize("dims", [2, 3])


@DIMS
def test_saliency_is_the_slope(dims):
    net, x = setting(dims)
    some = list(np.ndindex(*x.shape))[:: 7 * dims]
    slow, h = torch.zeros(len(some), dtype=torch.float64), 1e-6
    for i, at in enumerate(some):
        up, down = x.clone(), x.clone()
        up[at] += h
        down[at] -= h
        slow[i] = (score(net, up) - score(net, down)) / (2 * h)
    found = explained(net, x, "saliency").values
    close(torch.stack([found[at] for at in some]), slow, 1e-6)  # a difference quotient is no better
    close(explained(net, x, "saliency").values, gradient(net, x))
    close(explained(net, x, "saliency", absolute=True).values, gradient(net, x).abs())


@DIMS
def test_input_x_gradient(dims):
    net, x = setting(dims)
    close(explained(net, x, "input_x_gradient").values, x * gradient(net, x))


@DIMS
def test_input_x_gradient_at_a_site(dims):
    net, x = setting(dims)
    z, g = inside(net, x, "second")
    close(explained(net, x, "input_x_gradient", site="second").values, z * g)


@DIMS
def test_integrated_gradients_by_gauss_and_by_the_papers_sum(dims):
    net, x = setting(dims)
    start = torch.full_like(x, 0.3)
    nodes, weights = np.polynomial.legendre.leggauss(6)
    slow = torch.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        slow += weight / 2 * gradient(net, start + (node + 1) / 2 * (x - start)) * (x - start)
    close(explained(net, x, "integrated_gradients", baseline=0.3, steps=6).values, slow)
    slow = torch.zeros_like(x)
    for k in range(1, 6):
        slow += gradient(net, start + k / 5 * (x - start)) * (x - start) / 5
    close(explained(net, x, "integrated_gradients", baseline=0.3, steps=5, rule="right").values, slow)


@DIMS
def test_integrated_gradients_over_several_starts_is_their_mean(dims):
    net, x = setting(dims)
    both = explained(net, x, "integrated_gradients", baseline="black_and_white", steps=4).values
    close(both, sum(explained(net, x, "integrated_gradients", baseline=b, steps=4).values for b in (0.0, 1.0)) / 2)


@DIMS
def test_a_linear_network_gives_the_closed_forms(dims):
    _, x = setting(dims)
    weights = torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view_as(x)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x.numel(), 3, dtype=torch.float64))
    with torch.no_grad():
        net[1].weight[1] = weights.flatten()
    close(explained(net, x, "saliency").values, weights)
    close(explained(net, x, "input_x_gradient").values, weights * x)
    close(explained(net, x, "integrated_gradients", baseline=0.25, steps=1).values, weights * (x - 0.25))
    blur = explained(net, x, "blur_ig", steps=20)
    assert abs(blur.trace["gap"]) <= 1e-9 * abs(blur.trace["change"]) + 1e-9
    hidden = explained(net, x, "occlusion", window="1px", stride="1px", fill=0.5).values
    close(hidden, (weights * (x - 0.5)).sum(0, keepdim=True))


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "integrated_gradients", "blur_ig", "occlusion", "smoothgrad"])
@DIMS
def test_what_the_right_half_feeds_does_not_reach_the_left_half(method, dims):
    """s = g(left) + h(right): the left map is that of g alone."""

    class Halves(torch.nn.Module):
        def __init__(self, with_right):
            super().__init__()
            self.left, self.right, self.with_right = setting(dims)[0], pl.testing.small_net(dims, seed=5), with_right

        def forward(self, x):
            a, b = x.clone(), x.clone()
            a[..., x.shape[-1] // 2 :] = 0
            b[..., : x.shape[-1] // 2] = 0
            return self.left(a) + (self.right(b) if self.with_right else 0)

    _, x = setting(dims)
    params = {
        "occlusion": {"window": "2px", "stride": "2px"},
        "blur_ig": {"steps": 8, "axes": [0]},
        "integrated_gradients": {"steps": 8},
    }.get(method, {})
    half = slice(0, x.shape[-1] // 2 - (method == "occlusion"))  # a window that straddles the border sees both
    both, alone = (explained(Halves(w).eval(), x, method, **params).values[..., half] for w in (True, False))
    close(both, alone)
