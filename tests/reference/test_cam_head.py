"""CAM against the weights of the head, and what it does with heads that are not global average pooling and one linear layer."""

import pytest
import torch
from tests.reference.plain import close, explained, inside, setting
from torch import nn

import pellucid as pl
from pellucid.errors import Unsupported

SPACE = {2: (7, 6), 3: (5, 4, 6)}


class Net(nn.Module):
    """A trunk with a ReLU at its end, then any head of its features."""

    def __init__(self, dims, head):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        torch.manual_seed(dims)
        self.trunk = nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 4, 3, padding=1))
        self.last = nn.ReLU()
        self.rest = head(dims).double()
        self.double().eval()

    def forward(self, x):
        return self.rest(self.last(self.trunk(x)))


class Mean(nn.Module):
    def forward(self, z):
        return z.flatten(2).mean(2)


class Doubled(nn.Module):
    """The functional way: a ReLU, a mean and a product, without a module for any of them."""

    def __init__(self, dims):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, z):
        return torch.einsum("nc...,kc->nk", torch.relu(z), self.weight) / z[0, 0].numel()


def pool(dims, n=1):
    return (nn.AdaptiveAvgPool2d if dims == 2 else nn.AdaptiveAvgPool3d)(n)


def cells(dims):
    return 4 * torch.Size(SPACE[dims]).numel()


LINEAR = {
    "module": lambda d: nn.Sequential(pool(d), nn.Flatten(), nn.Linear(4, 3)),
    "dropout": lambda d: nn.Sequential(Mean(), nn.Dropout(0.5), nn.Linear(4, 3)),
    "two linear layers": lambda d: nn.Sequential(Mean(), nn.Linear(4, 5), nn.Linear(5, 3)),
    "convolution first": lambda d: nn.Sequential((nn.Conv2d if d == 2 else nn.Conv3d)(4, 3, 1), Mean()),
    "functional": Doubled,
}
OTHER = {
    "flattened": lambda d: nn.Sequential(nn.Flatten(), nn.Linear(cells(d), 3)),
    "pooled to two": lambda d: nn.Sequential(pool(d, 2), nn.Flatten(), nn.Linear(4 * 2**d, 3)),
    "largest": lambda d: nn.Sequential((nn.AdaptiveMaxPool2d if d == 2 else nn.AdaptiveMaxPool3d)(1), nn.Flatten(), nn.Linear(4, 3)),
    "hidden layer": lambda d: nn.Sequential(Mean(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)),
    "normalized": lambda d: nn.Sequential(Mean(), nn.LayerNorm(4), nn.Linear(4, 3)),
    "softmax": lambda d: nn.Sequential(Mean(), nn.Linear(4, 3), nn.Softmax(1)),
    "curved first": lambda d: nn.Sequential(nn.GELU(), Mean(), nn.Linear(4, 3)),
}


def made(dims, head):
    return Net(dims, head), torch.rand(1, *SPACE[dims], dtype=torch.float64)


def matrix(net):
    """Weights (3, 4) and bias of the head, by what it answers to features of one channel."""
    zero = torch.zeros(1, 4, *net.space, dtype=torch.float64)
    bias = net.rest(zero)[0]
    columns = []
    for c in range(4):
        one = zero.clone()
        one[0, c] = 1
        columns.append(net.rest(one)[0] - bias)
    return torch.stack(columns, 1).detach(), bias.detach()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", LINEAR)
def test_cam_is_the_features_weighted_by_the_head(dims, head):
    net, x = made(dims, LINEAR[head])
    net.space = x.shape[1:]
    z, _ = inside(net, x, "last")
    weights, bias = matrix(net)
    for target in range(3):
        ours = pl.explain(net, x, target, method="cam", site="last")
        slow = sum(w * c for w, c in zip(weights[target], z, strict=True)) / z[0].numel()
        close(ours.values[0], slow)
        assert ours.total + float(bias[target]) == pytest.approx(ours.score)
        assert ours.trace["rest"] == pytest.approx(float(bias[target]), abs=1e-12)
        assert not ours.provenance.caveats
        for same in ("grad_cam", "hires_cam") if head != "functional" else ():  # the linear identity; a second ReLU has no slope at 0
            assert torch.allclose(pl.explain(net, x, target, method=same, relu=False, site="last").values, ours.values)
    assert (ours.provenance.forward, ours.provenance.backward) == (6, 5)


@pytest.mark.parametrize("dims", [2, 3])
def test_before_the_relu_it_is_the_relu_that_is_weighted(dims):
    net, x = made(dims, LINEAR["module"])
    behind, before = (explained(net, x, "cam", site=s) for s in ("last", "trunk"))
    assert behind.trace["relu"] is False
    assert before.trace["relu"] is True
    assert float(inside(net, x, "trunk")[0].min()) < 0
    close(before.values, behind.values)


def test_a_difference_of_logits_is_linear_and_a_probability_is_not():
    net, x = made(2, LINEAR["module"])
    one, two, apart = (explained_at(net, x, t) for t in (pl.logit(0), pl.logit(2), pl.logit(0) - pl.logit(2)))
    close(apart.values, one.values - two.values)
    with pytest.raises(Unsupported, match="logit"):
        explained_at(net, x, pl.probability(0))


def explained_at(net, x, target):
    return pl.explain(net, x, target, method="cam", site="last")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", OTHER)
def test_other_heads_are_refused_by_name(dims, head):
    net, x = made(dims, OTHER[head])
    model = pl.Model(net, ends_in="softmax" if head == "softmax" else None)
    with pytest.raises(Unsupported, match="CAM needs .* global average pooling"):
        pl.explain(model, x, 1, method="cam", site="last")


def test_an_early_site_is_refused():
    net, x = made(2, LINEAR["module"])
    with pytest.raises(Unsupported, match="site"):
        explained(net, x, "cam", site="trunk.1")


def test_a_single_logit_in_a_sigmoid_is_linear():
    net, x = made(2, lambda d: nn.Sequential(Mean(), nn.Linear(4, 1), nn.Sigmoid()))
    why = pl.explain(pl.Model(net, classes=("no", "yes"), ends_in="sigmoid"), x, "yes", method="cam", site="last")
    close(why.values[0], (net.rest[1].weight.detach()[0].view(4, 1, 1) * inside(net, x, "last", 0)[0]).sum(0) / why.values.numel())


def test_what_bypasses_the_site_is_told():
    net, x = setting(2)  # its head pools the sum of two branches
    why = explained(net, x, "cam", site="act#1")
    assert any("bypasses" in c for c in why.provenance.caveats)


def test_a_region_of_a_segmentation_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    mask = torch.zeros(6, 6)
    mask[:3] = 1
    with pytest.raises(Unsupported, match="place to place"):
        pl.explain(net, torch.rand(1, 6, 6, dtype=torch.float64), pl.region(1, mask), method="cam", site="1")
