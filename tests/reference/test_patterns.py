"""Patterns: recovered from linear data with distractors, and the estimator and the backward pass written slowly."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.reference.plain import TARGET, close
from torch import nn

import pellucid as pl
from pellucid.testing import small_image, small_net


def pictures(dims, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    space = (6, 5) if dims == 2 else (5, 4, 4)
    return [torch.rand(2, *space, generator=g, dtype=torch.float64) for _ in range(n)]


class Linear(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.head = nn.Linear(w.shape[1], len(w), bias=True)
        with torch.no_grad():
            self.head.weight.copy_(w)
        self.double().eval()

    def forward(self, x):
        return self.head(x.flatten(1))


def test_the_signal_is_recovered_where_the_gradient_shows_the_filter():
    """x = a * y + distractors; the filter w finds y exactly, because it cancels them: it looks nothing like a."""
    g = torch.Generator().manual_seed(1)
    a = torch.zeros(36, dtype=torch.float64)
    a[[7, 8, 13, 14]] = 1.0  # the signal: a small square
    distractors = 0.4 * torch.randn(3, 36, generator=g, dtype=torch.float64)
    distractors[0] = a
    distractors[0, [21, 22, 27, 28]] = 1.0  # lights up the signal's place too: only the other square tells that it is not the signal
    full = torch.cat([a[None], distractors])
    w = torch.linalg.pinv(full)[:, 0]  # w a = 1, w d = 0
    y, e = torch.randn(500, generator=g).double(), torch.randn(500, 3, generator=g).double()
    images = [(a * s + d @ distractors).view(1, 6, 6) for s, d in zip(y, e, strict=True)]
    net = Linear(torch.stack([w, -w]))
    data = pl.patterns(net, images)
    why = pl.explain(net, images[0], 0, method="pattern_net", data=data)
    found, slope = why.values.flatten() / why.score, pl.explain(net, images[0], 0, method="saliency").values.flatten()
    alike = lambda u, v: float(F.cosine_similarity(u, v, dim=0))  # noqa: E731
    assert alike(found, a) > 0.98 and abs(alike(slope, a)) < 0.8
    assert torch.allclose(slope, w) and abs(float(found @ w) - 1) < 1e-9
    share = pl.explain(net, images[0], 0, method="pattern_attribution", data=data)
    assert abs(share.total - why.score) < 1e-9 * abs(why.score)
    assert float(share.values[0].flatten()[[7, 8, 13, 14]].sum()) / why.score > 0.9


class Chain(nn.Module):
    def __init__(self, dims, stride=1):
        super().__init__()
        torch.manual_seed(2)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.one, self.two, self.head = conv(2, 3, 2, stride=stride), conv(3, 4, 2, padding=1), nn.Linear(4, 3)
        self.double().eval()

    def forward(self, x):
        z = F.relu(self.one(x))
        return self.head(F.relu(self.two(z)).flatten(2).mean(2))


def patches(x, conv, dims):
    """(positions, inputs of a kernel), by an unfolding that is written for the tests."""
    x = F.pad(x[None], [p for p in conv.padding[::-1] for _ in range(2)])[0]
    for axis, (k, s) in enumerate(zip(conv.kernel_size, conv.stride, strict=True)):
        x = x.unfold(axis + 1, k, s)
    order = [*range(1, dims + 1), 0, *range(dims + 1, 2 * dims + 1)]
    return x.permute(order).reshape(-1, len(x) * 2**dims)


def pattern(w, samples):
    """A for one operation from (x (m, d), y without bias (m, o), active (m, o)), each neuron by itself."""
    x, y, active = (torch.cat(part) for part in zip(*samples, strict=True))
    rows = []
    for o in range(len(w)):
        on = active[:, o]
        cov = (x[on] * y[on, o, None]).mean(0) - x[on].mean(0) * y[:, o].mean()
        rows.append(cov / (w[o].flatten() @ cov))
    return torch.stack(rows).nan_to_num(0.0).view_as(w)  # a neuron that is never active has no pattern


@pytest.mark.parametrize(("dims", "stride"), [(2, 1), (2, 2), (3, 1)])
def test_the_estimator_and_both_passes(dims, stride):
    net, images = Chain(dims, stride), pictures(dims, 7)
    conv, back = (F.conv2d, F.conv_transpose2d) if dims == 2 else (F.conv3d, F.conv_transpose3d)
    taken = {"one": [], "two": [], "head": []}
    with torch.no_grad():
        for x in images:
            a1 = F.relu(net.one(x[None]))[0]
            z1, z2 = net.one(x[None])[0].flatten(1).T, net.two(a1[None])[0].flatten(1).T
            mean = F.relu(z2).mean(0)
            taken["one"].append((patches(x, net.one, dims), z1 - net.one.bias, z1 > 0))
            taken["two"].append((patches(a1, net.two, dims), z2 - net.two.bias, z2 > 0))
            out = net.head(mean)[None]
            taken["head"].append((mean[None], out - net.head.bias, torch.ones_like(out, dtype=torch.bool)))
    data = pl.patterns(net, images)
    slow = {name: pattern(getattr(net, name).weight.detach(), samples) for name, samples in taken.items()}
    for name, a in slow.items():
        (key,) = [k for k in data.of if k.startswith(f"{name}:")]
        close(data.of[key], a, 1e-7)
    assert data.images == 7
    x = images[0]
    with torch.no_grad():
        z1 = net.one(x[None])
        z2, score = net.two(F.relu(z1)), net(x[None])[0, TARGET]
        for method, weights in (
            ("pattern_net", slow),
            ("pattern_attribution", {n: a * getattr(net, n).weight for n, a in slow.items()}),
        ):
            g = weights["head"][TARGET].view(1, -1, *[1] * dims).expand_as(z2) / z2[0, 0].numel() * (z2 > 0)
            g = back(g, weights["two"], padding=1) * (z1 > 0)
            leaf = torch.zeros_like(x[None]).requires_grad_()
            with torch.enable_grad():
                (g,) = torch.autograd.grad(conv(leaf, weights["one"], stride=stride), leaf, g)
            close(pl.explain(net, x, TARGET, method=method, data=data).values, score * g[0], 1e-7)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_norm_counts_as_merged_into_its_convolution(dims):
    net, images = small_net(dims).eval(), [small_image(dims, s) for s in range(6)]
    with torch.no_grad():
        net.norm.weight[0] *= -1
        merged = copy.deepcopy(net)
        scale = net.norm.weight / torch.sqrt(net.norm.running_var + net.norm.eps)
        merged.first.weight *= scale.view(-1, *[1] * (dims + 1))
        merged.first.bias.copy_((net.first.bias - net.norm.running_mean) * scale + net.norm.bias)
        merged.norm = nn.Identity()
    for method in ("pattern_net", "pattern_attribution"):
        a, b = (pl.explain(n, images[0], TARGET, method=method, data=pl.patterns(n, images)).values for n in (net, merged))
        close(a, b, 1e-7)


def test_normalizing_at_the_door_gives_patterns_in_the_images_own_units():
    net, images = Chain(2), pictures(2, 5)
    door = pl.Model(net, normalize=pl.Normalize((0.4, 0.6), (0.5, 0.25)))
    std = torch.tensor([0.5, 0.25]).double().view(2, 1, 1)
    inside = [(x - torch.tensor([0.4, 0.6]).double().view(2, 1, 1)) / std for x in images]
    a = pl.explain(door, images[0], 1, method="pattern_net", data=pl.patterns(door, images))
    b = pl.explain(net, inside[0], 1, method="pattern_net", data=pl.patterns(net, inside))
    close(a.values, b.values * std, 1e-6)


def test_patterns_belong_to_one_network_and_its_weights():
    net, images = Chain(2), pictures(2, 4)
    data = pl.patterns(net, images)
    other = Chain(2)
    with torch.no_grad():
        other.two.weight += 0.3
    with pytest.raises(pl.PellucidError, match="other weights of conv2d in 'two'"):
        pl.explain(other, images[0], 1, method="pattern_net", data=data)
    with pytest.raises(pl.PellucidError, match="none for conv2d in 'first'"):
        pl.explain(small_net(2), images[0], 1, method="pattern_net", data=data)
    again = pl.patterns(net, iter(images))
    assert repr(again) == repr(data) and pl.pattern_net(data=data) == pl.pattern_net(data=again)
    assert repr(pl.patterns(net, images[:3])) != repr(data)
    why = pl.explain(net, images[0], 1, method="pattern_net", data=data)
    assert why.provenance.forward == 1 and not any("as it ran" in c for c in why.provenance.caveats)
    now = pl.explain(net, images[0], 1, method="pattern_net", data=pl.each_of(images))
    assert torch.allclose(now.values, why.values) and now.provenance.forward == 5
    for name, a in now.trace["patterns"].of.items():
        close(a, data.of[name])
    assert any("as it ran" in c for c in now.provenance.caveats)
    with pytest.raises(pl.PellucidError, match="at least one image"):
        pl.patterns(net, [])


@pytest.mark.parametrize("part", [nn.GroupNorm(1, 3), nn.MultiheadAttention(3, 1)])
def test_what_no_pattern_is_defined_for_is_refused_by_name(part):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.part, self.head = nn.Conv2d(2, 3, 2), part, nn.Linear(3, 2)

        def forward(self, x):
            z = self.one(x)
            if isinstance(self.part, nn.GroupNorm):
                return self.head(F.relu(self.part(z)).mean((2, 3)))
            t = z.flatten(2).permute(2, 0, 1)
            return self.head(self.part(t, t, t)[0].mean(0))

    with pytest.raises(pl.PellucidError, match="part"):
        pl.explain(Net().double().eval(), pictures(2, 1)[0], 1, method="pattern_net", data="random(2)")


@pytest.mark.parametrize("dims", [2, 3])
def test_images_side_by_side_count_as_one_by_one(dims, monkeypatch):
    """A batch, batches of one, and images of two shapes in turns give the same patterns and the same number of images."""
    net, seen = Chain(dims), []
    net.register_forward_hook(lambda _m, args, _z: seen.append(len(args[0])))
    images = [*pictures(dims, 5), *(x[:, :-1] for x in pictures(dims, 3, seed=1)), *pictures(dims, 2, seed=2)]
    many = pl.patterns(net, iter(images))
    assert seen == [1, 2, 5, 1, 2, 3, 1, 2, 2]  # before each shape two passes tell how many go side by side
    seen.clear()
    monkeypatch.setattr("pellucid.probe.patterns.ROOM", 1)
    one = pl.patterns(net, images)
    assert seen.count(1) == 13 and many.images == one.images == 10
    for name, a in one.of.items():
        close(many.of[name], a)
