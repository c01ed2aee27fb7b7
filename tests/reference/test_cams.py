"""Grad-CAM, HiResCAM and LayerCAM against their formulas, cell by cell."""

import pytest
import torch
from tests.reference.plain import close, explained, inside, places, setting


def channel_weights(z, g, at):
    return [sum(g[c][b] for b in places(z.shape[1:])) / z[0].numel() for c in range(len(z))]


def slopes_here(z, g, at):
    return [g[c][at] for c in range(len(z))]


def slopes_up_here(z, g, at):
    return [max(g[c][at], 0.0) for c in range(len(z))]


CASES = {
    "grad_cam": (channel_weights, {}, True),
    "grad_cam signed": (channel_weights, {"relu": False}, False),
    "hires_cam": (slopes_here, {}, False),
    "hires_cam relu": (slopes_here, {"relu": True}, True),
    "layer_cam": (slopes_up_here, {}, True),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("site", ["second", "norm"])
@pytest.mark.parametrize("case", CASES)
def test_cam(dims, site, case):
    weights, params, relu = CASES[case]
    net, x = setting(dims)
    z, g = inside(net, x, site)
    space = tuple(n // 2 for n in z.shape[1:]) if dims == 3 else z.shape[1:]  # the slow mean over a volume at every place is long
    slow = torch.zeros(space, dtype=torch.float64)
    mean = channel_weights(z, g, None)
    for at in places(space):
        found = mean if weights is channel_weights else weights(z, g, at)
        slow[at] = sum(w * z[c][at] for c, w in enumerate(found))
        slow[at] = max(slow[at], 0.0) if relu else slow[at]
    ours = explained(net, x, case.split()[0], site=site, **params)
    assert ours.values.shape == (1, *z.shape[1:]) == (1, *ours.grid.shape)
    close(ours.values[0][tuple(slice(0, n) for n in space)], slow)
    assert (ours.provenance.forward, ours.provenance.backward) == (1, 1)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_counterfactual_map_is_that_of_the_negated_gradient(dims):
    net, x = setting(dims)
    for_it = explained(net, x, "grad_cam", site="second", relu=False).values
    against = explained(net, x, "grad_cam", site="second", counterfactual=True).values
    close(against, (-for_it).relu())


@pytest.mark.parametrize("dims", [2, 3])
def test_before_a_linear_head_hires_cam_adds_up_to_the_score(dims):
    conv = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
    _, x = setting(dims)
    net = torch.nn.Sequential(conv(2, 3, 3), torch.nn.ReLU(inplace=True), torch.nn.Flatten(), torch.nn.LazyLinear(2)).double()
    net(x[None])
    why = explained(net, x, "hires_cam", site="1")
    assert abs(why.total + float(net[3].bias[1].detach()) - why.score) < 1e-9
