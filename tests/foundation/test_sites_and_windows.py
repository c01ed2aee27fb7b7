import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadModel, BadSite, Unsupported
from pellucid.probe.tiles import tiled_output, tiles
from pellucid.testing import small_image, small_net, state_of


class Reused(nn.Module):
    """One ReLU in three places, a branch that gives a dict, and an in-place sum."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(i, 4, 3, s, 1).double() for i, s in ((2, 2), (4, 1), (4, 1)))
        self.relu, self.split, self.head = nn.ReLU(inplace=True), Split(), nn.Linear(4, 3).double()

    def forward(self, x):
        y = self.relu(self.a(x))
        parts = self.split(self.relu(self.b(y)))
        z = self.c(y)
        z += parts["main"]
        return self.head(self.relu(z).mean((2, 3)) + parts["side"][0].mean((2, 3)))


class Split(nn.Module):
    def forward(self, z):
        return {"main": z * 2, "side": (z + 1, z)}


def test_a_site_names_call_and_part():
    net, x = Reused(), small_image(2)
    before = state_of(net)
    for site in ("relu#0", "relu#2", "split[main]", "split[side][0]", "a", "c", "head"):
        why = pl.explain(net, x, 1, method="integrated_gradients", steps=32, site=site)
        assert abs(why.trace["gap"]) < 2e-2 * abs(why.trace["change"]) + 1e-9, site
    assert state_of(net) == before
    with pytest.raises(BadSite, match="relu#2"):
        pl.explain(net, x, 1, method="saliency", site="relu")
    with pytest.raises(BadSite, match="main"):
        pl.explain(net, x, 1, method="saliency", site="split")
    with pytest.raises(BadSite, match="'relu'"):
        pl.explain(net, x, 1, method="saliency", site="rleu")
    with pytest.raises(BadSite, match="last is 'relu#2'"):
        pl.explain(net, x, 1, method="saliency", site="relu#7")


def test_the_gradient_at_a_site_is_that_of_the_rest_of_the_network():
    net, x = small_net(2).eval(), small_image(2)
    z = net.first(x[None]).detach().requires_grad_()
    y = net.act(net.norm(z))
    rest = net.head(net.pool(y + net.act(net.second(y))).flatten(1))[0, 1]
    (g,) = torch.autograd.grad(rest, z)
    assert torch.allclose(pl.explain(net, x, 1, method="saliency", site="first").values, g[0])


def test_a_feature_map_lies_where_its_cells_look():
    """A cell of a strided trunk looks at pixel stride * u, not at the middle of a stretched map."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    grid = pl.Grid.spaced((32, 32), (0.5, 0.25))
    scan = pl.Image(torch.rand(1, 32, 32), grid)
    why = pl.explain(net, scan, 1, method="saliency", site="2")
    assert why.grid.shape == (8, 8)
    assert np.allclose(why.grid.world((3, 5)), grid.world((12, 20)))
    assert np.allclose(why.grid.spacing, (2.0, 1.0))
    assert why.on(grid).values.shape == (3, 32, 32)


def test_a_scripted_network_is_scored_and_differentiated_and_refuses_sites():
    net, x = small_net(2).eval(), small_image(2)
    scripted = torch.jit.trace(net, x[None].expand(2, *x.shape))
    assert torch.allclose(
        pl.explain(scripted, x, 1, method="integrated_gradients").values, pl.explain(net, x, 1, method="integrated_gradients").values
    )
    with pytest.raises(Unsupported, match="TorchScript"):
        pl.explain(scripted, x, 1, method="saliency", site="first")


def dense(dims=2):
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 2, 3, padding=1)).double()


@pytest.mark.parametrize("space, size", [((20, 17), 8), ((9, 8, 7), (4, 5, 6)), ((5, 6), 8)])
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_gradients_through_windows_are_exact(space, size, blend):
    net = pl.Model(dense(len(space)), windows=pl.Windows(size, overlap=0.5, blend=blend))
    x = torch.rand(1, *space, dtype=torch.float64)
    leaf = x[None].clone().requires_grad_()
    score = tiled_output(net, leaf).softmax(1)[0, 1].mean()
    (truth,) = torch.autograd.grad(score, leaf)
    mask = torch.ones(space)
    why = pl.explain(net, x, pl.region(1, mask, of="probability"), method="saliency")
    assert torch.allclose(why.values, truth[0], atol=1e-12)
    assert why.score == pytest.approx(float(score.detach()))


def test_windows_cover_everything_and_a_target_in_one_corner_asks_few_of_them():
    found = tiles((20, 17), pl.Windows(8, overlap=0.25))
    seen = torch.zeros(20, 17)
    for t in found:
        seen[t] += 1
    assert bool((seen > 0).all())
    net, calls = dense(), []
    net.register_forward_hook(lambda m, a, o: calls.append(torch.is_grad_enabled() and o.requires_grad))
    corner = torch.zeros(20, 17)
    corner[:2, :2] = 1
    pl.explain(pl.Model(net, windows=pl.Windows(8, overlap=0.0)), torch.rand(1, 20, 17), pl.region(1, corner), method="saliency")
    assert sum(calls) == 1
    assert len(calls) == len(tiles((20, 17), pl.Windows(8, overlap=0.0))) + 1


def test_windows_refuse_a_classifier():
    with pytest.raises(BadModel, match="as large as its input"):
        pl.explain(pl.Model(small_net(2), windows=pl.Windows(6)), small_image(2), 1, method="saliency")
