"""Excitation backpropagation: the paper's conditional winning probabilities, unit by unit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.reference.plain import TARGET, close, inside
from torch import nn

import pellucid as pl
from pellucid.testing import small_image, small_net

EBP = "excitation_backprop"


class Chain(nn.Module):
    """conv, relu, max pool, conv, relu, mean, linear, relu, linear."""

    def __init__(self, dims, seed=0, bias=True):
        super().__init__()
        torch.manual_seed(seed)
        conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
        self.one, self.two = conv(2, 4, 3, padding=1, bias=bias), conv(4, 5, 3, bias=bias)
        self.act, self.pool = nn.ReLU(), pool(2)
        self.hidden, self.head = nn.Linear(5, 6, bias=bias), nn.Linear(6, 3, bias=bias)
        self.double().eval()

    def forward(self, x):
        z = self.act(self.two(self.pool(self.act(self.one(x)))))
        return self.head(self.act(self.hidden(z.flatten(2).mean(2))))


def linear_back(w, x, p):
    """p'_j = sum_i max(w_ij, 0) x_j / sum_k max(w_ik, 0) x_k * p_i (equation 6), for a matrix w and x of at least 0."""
    out = torch.zeros_like(x)
    for i in range(len(w)):
        share = w[i].clamp_min(0) * x
        if share.sum() > 0:
            out += share / share.sum() * p[i]
    return out


def matrix(f, shape):
    """The matrix of a linear map of tensors of a shape."""
    n = torch.zeros(shape, dtype=torch.float64).numel()
    eye = torch.eye(n, dtype=torch.float64).view(n, *shape)
    return torch.stack([f(e[None])[0].flatten() for e in eye], 1)


def by_hand(net, x, dims, head=1.0):
    """Probabilities at every layer from the logit down to the image; ``head`` -1 negates the classifier's weights."""
    conv, pool = (F.conv2d, F.max_pool2d) if dims == 2 else (F.conv3d, F.max_pool3d)
    with torch.no_grad():
        a1 = net.act(net.one(x[None]))[0]
        m, where = pool(a1, 2, return_indices=True)
        a2 = net.act(net.two(m[None]))[0]
        mean = a2.flatten(1).mean(1)
        h = net.act(net.hidden(mean))
        p_h = linear_back(head * net.head.weight[TARGET : TARGET + 1], h, torch.ones(1).double())
        p_mean = linear_back(net.hidden.weight, mean, p_h)
        p2 = linear_back(matrix(lambda z: z.flatten(2).mean(2), a2.shape), a2.flatten(), p_mean)
        p_m = linear_back(matrix(lambda z: conv(z, net.two.weight), m.shape), m.flatten(), p2)
        p1 = torch.zeros_like(a1).flatten(1)
        p1.scatter_add_(1, where.flatten(1), p_m.view(len(m), -1))
        p_x = linear_back(matrix(lambda z: conv(z, net.one.weight, padding=1), x.shape), x.flatten(), p1.flatten())
    return {"hidden": p_h, "two": p2.view_as(a2), "pool": p_m.view_as(m), "one": p1.view_as(a1), "": p_x.view_as(x)}


@pytest.mark.parametrize("seed", [0, 4])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_papers_shares(dims, seed):
    net, x = Chain(dims, seed), small_image(dims)[:, :8, :6]
    if dims == 3:
        x = x[..., :6]
    slow = by_hand(net, x, dims)
    for site, ours in (("two", "act#1"), ("pool", "pool"), ("one", "act#0"), ("", None)):
        why = pl.explain(net, x, TARGET, site=ours, method=EBP)
        close(why.values, slow[site])
        assert abs(why.total - 1) < 1e-9 and abs(why.trace["sum"] - 1) < 1e-9


def test_contrast_is_the_second_pass_with_negated_class_weights():
    net, x = Chain(2, 5), small_image(2)
    up, down = (by_hand(net, x, 2, head)["one"] for head in (1.0, -1.0))
    why = pl.explain(net, x, TARGET, site="act#0", method=EBP, contrastive=True)
    close(why.values, (up - down).sum(0, keepdim=True).clamp_min(0))
    assert 0 < why.total < 0.999 and abs(why.trace["sum"] - 1) < 1e-9
    assert (why.provenance.forward, why.provenance.backward) == (2, 2)


def test_contrast_is_refused_where_there_is_none():
    net, x = Chain(2), small_image(2)
    with pytest.raises(pl.PellucidError, match="one last weighted operation"):
        pl.explain(net, x, TARGET, site="head", method=EBP, contrastive=True)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Chain(2, 1), Chain(2, 2)

        def forward(self, x):
            return self.a(x) + self.b(x)

    with pytest.raises(pl.PellucidError, match="one last weighted operation"):
        pl.explain(Two(), x, TARGET, method=EBP, contrastive=True)


def test_the_prior_is_the_targets_slope_over_the_outputs():
    net, x = Chain(2), small_image(2)
    one, two = (pl.explain(net, x, k, site="act#1", method=EBP).values for k in (0, 1))
    close(pl.explain(net, x, lambda out: 3 * out[:, 0] + out[:, 1], site="act#1", method=EBP).values, 0.75 * one + 0.25 * two)
    # "not class 1" is excited by what the negated weights of class 1 are
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.head.weight[1] *= -1
    low = pl.explain(other, x, 1, site="act#1", method=EBP).values
    close(pl.explain(net, x, pl.logit(0) - pl.logit(1), site="act#1", method=EBP).values, (one + low) / 2)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_norm_counts_as_merged_into_its_convolution(dims):
    """Negative scales turn high into low: as if the convolution had the other weights."""
    net, x = small_net(dims).eval(), small_image(dims)
    with torch.no_grad():
        net.norm.weight[::2] *= -1
        merged = copy.deepcopy(net)
        scale = net.norm.weight / torch.sqrt(net.norm.running_var + net.norm.eps)
        merged.first.weight *= scale.view(-1, *[1] * (dims + 1))
        merged.first.bias.copy_((net.first.bias - net.norm.running_mean) * scale + net.norm.bias)
        merged.norm = nn.Identity()
    assert (net.norm.weight < 0).any()
    close(pl.explain(net, x, TARGET, method=EBP).values, pl.explain(merged, x, TARGET, method=EBP).values)


def test_units_below_zero_win_by_being_low():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 2, 3, 3).double())
            self.v = nn.Parameter(torch.randn(3, 4).double())

        def forward(self, x):
            return F.gelu(F.conv2d(x, self.w)).mean((2, 3)) @ self.v.T

    torch.manual_seed(2)
    net, x = Net(), torch.randn(2, 6, 5).double()
    with torch.no_grad():
        z = F.gelu(F.conv2d(x[None], net.w))[0]
        mean = z.flatten(1).mean(1)
        q = (net.v[TARGET] * mean).clamp_min(0)
        q = q / q.sum() * mean.sign()  # signed: a mean below 0 wins by being low
        low = torch.zeros_like(z)
        for c in range(4):
            share = (z[c] * q[c].sign()).clamp_min(0)
            low[c] = share / share.sum().clamp_min(1e-300) * q[c].abs() * z[c].sign()
        slow, w = torch.zeros(x.numel()).double(), matrix(lambda a: F.conv2d(a, net.w), x.shape)
        for i, s in enumerate(low.flatten()):
            share = (s.sign() * w[i] * x.flatten()).clamp_min(0)
            slow += share / share.sum().clamp_min(1e-300) * s.abs()
    why = pl.explain(net, x, TARGET, method=EBP)
    close(why.values, slow.view_as(x))
    assert abs(why.total - 1) < 1e-9
    said = " ".join(why.provenance.caveats)
    assert "gelu passes all" in said and "win by being low" in said


def test_only_what_reaches_the_winner_wins():
    """f = g(above) + h(below), each of positive parts: the upper map is that of g, in the share that g has of the sum."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.g, self.h = Chain(2, 1, bias=False), Chain(2, 2, bias=False)

        def forward(self, x):
            return F.relu(self.g(x[:, :, :6])) + F.relu(self.h(x[:, :, 6:]))

    net, x = Sum().eval(), small_image(2)
    with torch.no_grad():
        net.g.head.weight.abs_(), net.h.head.weight.abs_()
        a, b = F.relu(net.g(x[None, :, :6]))[0, TARGET], F.relu(net.h(x[None, :, 6:]))[0, TARGET]
    whole = pl.explain(net, x, TARGET, method=EBP).values
    alone = pl.explain(net.g, x[:, :6].contiguous(), TARGET, method=EBP).values
    close(whole[:, :6], alone * a / (a + b))


class Mixed(nn.Module):
    """Squeeze-and-excitation, GroupNorm, attention, upsampling, a concatenation, subtraction and division: what the paper does not know."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.one, self.norm, self.two = nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(12, 8, 1)
        self.gate, self.read = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.small, self.head = nn.Conv2d(8, 4, 2, stride=2), nn.Linear(8, 3)
        self.layer = nn.LayerNorm(8)
        self.double().eval()

    def forward(self, x):
        z = F.silu(self.norm(self.one(x)))
        z = z * torch.sigmoid(self.gate(z.mean((2, 3))))[:, :, None, None]
        up = F.interpolate(F.leaky_relu(self.small(z)), scale_factor=2, mode="bilinear")
        z = self.two(torch.cat([z, up], 1) - 0.1) / 2
        t = self.layer(z.flatten(2).transpose(1, 2))
        t = t + self.read(t, t, t, need_weights=False)[0]
        return self.head(F.hardswish(t).mean(1))


def test_a_network_that_the_paper_does_not_know():
    """Shares are lost only where a unit is what it is by its bias or mean alone; the map says how much."""
    net, x = Mixed(), small_image(2)
    maps = [pl.explain(net, x, k, site=site, method=EBP) for k in (0, 1) for site in (None, "one", "norm", "two")]
    for why in maps:
        assert 0.85 < why.total < 1 + 1e-9 and bool((why.values >= 0).all()) and why.trace["sum"] == why.total
    assert not torch.allclose(maps[0].values, maps[4].values)
    said = " ".join(maps[0].provenance.caveats)
    for word in ("attention is taken as given", "group_norm", "each wins half", "silu", "layer_norm", "hardswish"):
        assert word in said
    for why, k in ((maps[1], 0), (maps[5], 1)):  # at a site, only units with a value can win
        z, _ = inside(net, x, "one", k)
        assert float(why.values[z == 0].abs().sum()) == 0


def test_what_has_no_rule_is_refused_by_name():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, -1).mean((2, 3))

    with pytest.raises(pl.PellucidError, match="cumsum"):
        pl.explain(Odd(), small_image(2), 1, method=EBP)
