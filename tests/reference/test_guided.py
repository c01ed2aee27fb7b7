"""Guided backpropagation, the deconvolutional network and guided Grad-CAM: the papers' backward passes, operation by operation by hand."""

import pytest
import torch
import torch.nn.functional as F
from tests.reference.plain import TARGET, close, inside
from torch import nn

import pellucid as pl
from pellucid.testing import small_image, small_net

GATES = {
    "guided_backprop": lambda g, z: g * (g > 0) * (z > 0),
    "deconvnet": lambda g, z: g * (g > 0),
}


def by_hand(dims, gate, x=None):
    """The backward pass of ``small_net``: head, pool, residual, rectifier, convolution, ... each by its own transpose."""
    net, x = small_net(dims).eval(), small_image(dims) if x is None else x
    conv, back = (F.conv2d, F.conv_transpose2d) if dims == 2 else (F.conv3d, F.conv_transpose3d)
    n, ones = net.norm, [1] * dims
    scale = (n.weight / torch.sqrt(n.running_var + n.eps)).view(1, -1, *ones)
    with torch.no_grad():
        z1 = conv(x[None], net.first.weight, net.first.bias, padding=1)
        z2 = (z1 - n.running_mean.view(1, -1, *ones)) * scale + n.bias.view(1, -1, *ones)
        a = z2.clamp_min(0)
        z3 = conv(a, net.second.weight, net.second.bias, padding=1)
        g = net.head.weight[TARGET].view(1, -1, *ones).expand_as(z3) / z3[0, 0].numel()
        g = g + back(gate(g, z3), net.second.weight, padding=1)
        return back(gate(g, z2) * scale, net.first.weight, padding=1)[0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", GATES)
def test_the_papers_backward_pass(method, dims):
    slow = by_hand(dims, GATES[method])
    close(pl.explain(small_net(dims), small_image(dims), TARGET, method=method).values, slow)
    assert not torch.allclose(slow, by_hand(dims, lambda g, z: g * (z > 0)))  # it is not the plain gradient


def test_at_a_site_the_pass_ends_there():
    net = small_net(2)
    gate = GATES["guided_backprop"]
    a = inside(net.eval(), small_image(2), "norm")[0][None].clamp_min(0)
    with torch.no_grad():
        z = F.conv2d(a, net.second.weight, net.second.bias, padding=1)
        g = net.head.weight[TARGET].view(1, -1, 1, 1).expand_as(z) / z[0, 0].numel()
        slow = g + F.conv_transpose2d(gate(g, z), net.second.weight, padding=1)
    close(pl.explain(net, small_image(2), TARGET, site="act#0", method="guided_backprop").values, slow[0])


@pytest.mark.parametrize("act", ["leaky_relu", "elu", "silu", "gelu", "softplus", "hardswish", "relu6", "selu"])
def test_other_rectifiers_pass_where_their_value_is_positive_with_their_own_slope(act):
    f = getattr(F, act)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.randn(3, 2, 3, 3).double()), nn.Parameter(torch.randn(2, 3).double())

        def forward(self, x):
            return f(F.conv2d(x, self.weight)).mean((2, 3)) @ self.head.T

    torch.manual_seed(0)
    net, x = Net(), 6 * torch.randn(2, 6, 5).double()
    z = F.conv2d(x[None], net.weight).detach().requires_grad_()
    y = f(z)
    (slope,) = torch.autograd.grad(y.sum(), z)
    g = (net.head[1].view(1, -1, 1, 1) / z[0, 0].numel()).expand_as(z)
    for method, through in (("guided_backprop", slope * (y > 0)), ("deconvnet", torch.ones_like(z))):
        why = pl.explain(net, x, 1, method=method)
        close(why.values, F.conv_transpose2d(g.clamp_min(0) * through, net.weight)[0].detach())
        assert any(f"{act} is treated as one" in c for c in why.provenance.caveats)


# ------------------------------------------------------------------------------------ guided Grad-CAM
class Strided(nn.Module):
    """A site of half the image's resolution, whose cells lie between samples."""

    def __init__(self, dims):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.trunk = nn.Sequential(conv(2, 4, 3, stride=2, padding=1), nn.ReLU(), conv(4, 5, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(5, 3)
        self.double().eval()

    def forward(self, x):
        return self.head(self.trunk(x).flatten(2).amax(2))


def strided(dims):
    torch.manual_seed(3)
    return Strided(dims), small_image(dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_guided_grad_cam_is_the_product_at_the_places_where_cells_lie(dims):
    net, x = strided(dims)
    found = pl.explain(net, x, TARGET, site="trunk", method="guided_grad_cam")
    z, g = inside(net, x, "trunk")
    cam = torch.relu((g.flatten(1).mean(1).view(-1, *[1] * dims) * z).sum(0))
    fine = cam
    for axis, n in enumerate(x.shape[1:]):  # a cell u of a stride of 2 lies at sample 2 u; beyond the outermost, its own value
        at = (torch.arange(n) / 2).clamp(max=fine.shape[axis] - 1)
        low = at.floor().long()
        high = (low + 1).clamp(max=fine.shape[axis] - 1)
        part = (at - low).double().view([-1 if a == axis else 1 for a in range(dims)])
        fine = fine.index_select(axis, low) * (1 - part) + fine.index_select(axis, high) * part
    guided = pl.explain(net, x, TARGET, method="guided_backprop").values
    close(found.values, guided * fine)
    assert found.grid.shape == tuple(x.shape[1:])


def test_guided_grad_cam_takes_other_parts_and_tells_its_costs():
    net, x = strided(2)
    why = pl.explain(net, x, 1, site="trunk", method=pl.guided_grad_cam("layer_cam", "saliency"))
    fine = pl.explain(net, x, 1, site="trunk", method="layer_cam").on(why.grid).values
    close(why.values, pl.explain(net, x, 1, method="saliency").values * fine)
    assert (why.provenance.forward, why.provenance.backward) == (2, 2)
    assert not pl.guided_grad_cam.facts.hears_weights
    assert pl.guided_grad_cam("layer_cam", "saliency").facts.hears_weights


def test_guided_grad_cam_refuses_a_part_that_does_not_fit():
    net, x = strided(2)
    with pytest.raises(pl.PellucidError, match="one channel"):
        pl.explain(net, x, 1, site="trunk", method="guided_grad_cam", coarse="saliency")
