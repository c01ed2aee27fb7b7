"""DeepLIFT against its formulas written slowly, unit by unit; the paper's examples; the faults of others; what is refused."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pellucid as pl
from pellucid.errors import NoRule

ACTS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def seeded(net, seed=0, scale=0.7):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * scale)
    return net.double().eval().requires_grad_(False)


def image(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lift(net, x, k=1, **more):
    return pl.explain(net, x, k, method="deeplift", **more)


def dense(act="relu", sizes=(6, 5, 4, 3)):
    module = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}[act]
    layers = itertools.chain(*((nn.Linear(a, b), module()) for a, b in itertools.pairwise(sizes)))
    return seeded(nn.Sequential(nn.Flatten(), *list(layers)[:-1]))


def slope(f, at):
    return float(torch.autograd.functional.jacobian(f, at))


def slowly(net, x, start, k, act, way):
    """Multipliers of a dense net, number by number: linear rule, Rescale (3.5.2), RevealCancel (3.5.3)."""
    f = ACTS[act]
    layers = [m for m in net if isinstance(m, nn.Linear)]
    units = [(x.flatten(), start.flatten())]
    sums = []
    for layer in layers:
        z = [layer.weight @ u + layer.bias for u in units[-1]]
        sums.append(z)
        units.append(tuple(f(t) for t in z))
    m = torch.zeros(layers[-1].out_features, dtype=torch.float64)
    m[k] = 1.0
    for depth in reversed(range(len(layers))):
        weight, (u, u0) = layers[depth].weight, units[depth]
        found = torch.zeros_like(u)
        for j in range(len(m)):
            z, z0 = sums[depth][0][j], sums[depth][1][j]
            change = [float(weight[j, i] * (u[i] - u0[i])) for i in range(len(u))]
            up, down = sum(c for c in change if c > 0), sum(c for c in change if c < 0)
            if depth == len(layers) - 1:
                for_up = for_down = 1.0
            elif way == "rescale":
                for_up = for_down = float((f(z) - f(z0)) / (z - z0)) if z != z0 else slope(f, z)
            else:
                limit = (slope(f, z0) + slope(f, z)) / 2
                for_up = 0.5 * float((f(z0 + up) - f(z0)) + (f(z0 + up + down) - f(z0 + down))) / up if up else limit
                for_down = 0.5 * float((f(z0 + down) - f(z0)) + (f(z0 + up + down) - f(z0 + up))) / down if down else limit
            for i in range(len(u)):
                mine = for_up if change[i] > 0 else for_down if change[i] < 0 else 0.5 * (for_up + for_down)
                found[i] += m[j] * mine * weight[j, i]
        m = found
    return (m * (x - start).flatten()).view(x.shape)


@pytest.mark.parametrize("way", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("sizes", [(6, 5, 4, 3), (12, 8, 2)])
def test_dense_nets_against_the_formula_unit_by_unit(way, act, sizes):
    net = dense(act, sizes)
    x, start = image(1, 2, sizes[0] // 2), image(1, 2, sizes[0] // 2, seed=2)
    for k, begin in itertools.product(range(2), (torch.zeros_like(x), start)):
        why = lift(net, x, k, rule=way, baseline=begin)
        assert torch.allclose(why.values, slowly(net, x, begin, k, act, way), rtol=1e-10, atol=1e-13)
        assert why.total == pytest.approx(float((net(x[None]) - net(begin[None]))[0, k]), rel=1e-10)
    assert not torch.allclose(why.values, lift(net, x, 0, rule=way, baseline=start).values)


def test_the_two_rules_differ_where_parts_cancel():
    net, x = dense(), image(1, 2, 3)
    a, b = (lift(net, x, rule=w).values for w in ("rescale", "reveal_cancel"))
    assert float((a - b).abs().max()) > 1e-3 * float(a.abs().max())


class Minimum(nn.Module):
    """min(a, b) = a - relu(a - b), for a of at least 0 (paper, section 3.4)."""

    def forward(self, x):
        first = x.flatten(1)
        hidden = F.relu(F.linear(first, torch.tensor([[1.0, -1.0], [1.0, 0.0]], dtype=x.dtype)))
        return F.linear(hidden, torch.tensor([[-1.0, 1.0], [0.0, 1.0]], dtype=x.dtype))


@pytest.mark.parametrize("a, b", [(0.9, 0.4), (0.3, 0.8)])
def test_a_minimum_is_shared_by_both_inputs(a, b):
    x = torch.tensor([[[a, b]]], dtype=torch.float64)
    shared = lift(Minimum(), x, 0, rule="reveal_cancel").values.flatten()
    assert torch.allclose(shared, torch.full((2,), min(a, b) / 2, dtype=torch.float64), atol=1e-12)
    alone = lift(Minimum(), x, 0).values.flatten()  # Rescale sees only the lower one
    assert torch.allclose(alone, torch.tensor([a if a < b else 0.0, b if b < a else 0.0], dtype=torch.float64), atol=1e-12)


def test_saturation_and_thresholds_have_no_zero_and_no_jump():
    """Paper, figures 1 and 2: 1 - relu(1 - a - b) at (1, 1), where the gradient is 0; relu(x - 10) just above 10."""

    class Saturated(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)
            return torch.stack([1 - F.relu(1 - flat.sum(1)), F.relu(flat[:, 0] - 10)], 1)

    ones = torch.ones(1, 1, 2, dtype=torch.float64)
    assert torch.allclose(lift(Saturated(), ones, 0).values.flatten(), torch.full((2,), 0.5, dtype=torch.float64))
    above = lift(Saturated(), 10.01 * ones, 1).values.flatten()
    assert torch.allclose(above, torch.tensor([0.01, 0.0], dtype=torch.float64))


# ---------------------------------------------------------------------- convolutions, by hand
class Conv(nn.Module):
    def __init__(self, dims, act=None):
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.first, self.second, self.head = conv(2, 3, 3, padding=1), conv(3, 4, 2), nn.Linear(4, 3)
        self.act, self.pool = act or nn.ReLU(), (F.max_pool2d, F.max_pool3d)[dims - 2]
        seeded(self, dims)

    def forward(self, x):
        z = self.pool(self.act(self.first(x)), 2)
        return self.head(self.act(self.second(z)).flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_relu_before_a_pool_sums_for_any_baseline(dims):
    """Captum's pool loses the sum here; by hand: each multiplier by its own vector-Jacobian product."""
    net, x, start = Conv(dims), image(2, *[6] * dims), image(2, *[6] * dims, seed=4)
    for begin in (torch.zeros_like(x), torch.full_like(x, 0.4), start):
        why = lift(net, x, 2, baseline=begin)
        assert why.total == pytest.approx(float((net(x[None]) - net(begin[None]))[0, 2]), rel=1e-11)
    pair = torch.stack([x, start])
    z1 = net.first(pair)
    y1 = F.relu(z1)
    p = net.pool(y1, 2)
    z2 = net.second(p)
    y2 = F.relu(z2)
    m = torch.autograd.functional.vjp(lambda t: net.head(t.flatten(2).mean(2))[0, 2], y2[:1])[1]
    m = m * ((y2[0] - y2[1]) / (z2[0] - z2[1]))
    m = torch.autograd.functional.vjp(net.second, p[:1], m)[1]
    spread = torch.zeros_like(y1[0])
    cells = itertools.product(*map(range, p.shape[1:]))
    for c in cells:
        window = (c[0], *[slice(2 * i, 2 * i + 2) for i in c[1:]])
        side = 0 if p[0][c] >= p[1][c] else 1
        best = (y1[side][window] == p[side][c]).nonzero()[0]
        at = (c[0], *[2 * i + int(b) for i, b in zip(c[1:], best, strict=True)])
        moved = y1[0][at] - y1[1][at]
        spread[at] += m[0][c] * ((p[0][c] - p[1][c]) / moved if moved else 1.0)
    m = spread[None] * ((y1[0] - y1[1]) / (z1[0] - z1[1]))
    m = torch.autograd.functional.vjp(net.first, x[None], m)[1]
    assert torch.allclose(why.values, m[0] * (x - start), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dims", [2, 3])
def test_convolutions_rescale_also_where_linear_layers_reveal(dims):
    net, x = Conv(dims), image(2, *[6] * dims)
    assert torch.allclose(lift(net, x, rule="reveal_cancel").values, lift(net, x).values, atol=1e-13)
    said = " ".join(lift(net, x, rule="reveal_cancel").provenance.caveats)
    assert "Rescale behind convolutions" in said and "max pooling" in said


class Mixed(nn.Module):
    """A convolution with BatchNorm, then dense layers, the first with BatchNorm and a change of shape behind it."""

    def __init__(self, norm=True):
        super().__init__()
        self.conv, self.bn2 = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.fc, self.bn1, self.out = nn.Linear(18, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)
        seeded(self, 5)
        with torch.no_grad():
            self.bn1.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(8))
        self.norm = norm

    def forward(self, x):
        z = F.relu(self.bn2(self.conv(x))).flatten(1)
        z = self.bn1(self.fc(z)) if self.norm else F.linear(z, *self.folded())
        return self.out(F.dropout(F.relu(z.view(len(z), 2, 3)).flatten(1), 0.5, self.training))

    def folded(self):
        scale = self.bn1.weight / (self.bn1.running_var + self.bn1.eps).sqrt()
        return scale[:, None] * self.fc.weight, (self.fc.bias - self.bn1.running_mean) * scale + self.bn1.bias


def test_parts_pass_a_norm_with_negative_scale_and_a_change_of_shape():
    x = image(1, 5, 5)
    assert bool((Mixed().bn1.weight < 0).any())
    a, b, c = lift(Mixed(), x, rule="reveal_cancel"), lift(Mixed(norm=False), x, rule="reveal_cancel"), lift(Mixed(), x)
    assert torch.allclose(a.values, b.values, atol=1e-12)
    assert not torch.allclose(a.values, c.values, atol=1e-4)
    assert abs(a.trace["gap"]) < 1e-12 * c.trace["ratio"]


REFUSED_REVEALED = {
    "a product": lambda z: z * z.sigmoid(),
    "a gate": lambda z: z * z.mean(1, keepdim=True),
    "behind something else": lambda z: F.relu(F.relu(z) + z),
    "statistics": lambda z: F.layer_norm(z, (4,)),
    "softmax": lambda z: z.softmax(1),
    "a power": lambda z: z**2,
    "quotient": lambda z: z / (1 + z.abs().sum()),
    "attention": lambda z: F.scaled_dot_product_attention(z[None], z[None], z[None])[0],
}
REFUSED = {
    "topk": lambda z: z.topk(2, 1)[0],
    "sort": lambda z: z.sort(1)[0],
    "median": lambda z: z.median(1, keepdim=True)[0],
    "floor": lambda z: z + (3 * z).floor(),
    "prod": lambda z: z.prod(1, keepdim=True),
    "cumprod": lambda z: z.cumprod(1),
    "atan2": lambda z: torch.atan2(z, z.flip(1)),
    "pow": lambda z: z.exp() ** z,
    "div rounded": lambda z: z + torch.div(z, 0.3, rounding_mode="floor"),
    "autograd's sight": lambda z: z * (z > 0),
    "where": lambda z: torch.where(z > 0, z, 0.0),
    "gather": lambda z: z.gather(1, z.max(1, keepdim=True)[1]),
    "cosine": lambda z: F.cosine_similarity(z, z.flip(1))[:, None],
    "network's own output": lambda z: F.dropout(z, 0.5, True),
    "add up to": lambda z: z * float(z.detach().max()),
}


class Head(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.first, self.last, self.act = nn.Linear(6, 4), nn.Linear(4, 2), act
        seeded(self, 3)

    def forward(self, x):
        z = self.act(self.first(x.flatten(1)))
        return F.linear(z, self.last.weight[:, : z.shape[1]], self.last.bias)


@pytest.mark.parametrize("what", REFUSED_REVEALED)
def test_reveal_cancel_refuses_by_name_what_it_does_not_define(what):
    name = {"a gate": "a product", "quotient": "a product", "attention": "a product"}.get(what, what)
    with pytest.raises(NoRule, match=name):
        lift(Head(REFUSED_REVEALED[what]), image(1, 2, 3), rule="reveal_cancel")
    lift(Head(REFUSED_REVEALED[what]), image(1, 2, 3))


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_exact_rule_is_refused_by_name(what):
    with pytest.raises(NoRule, match=what):
        lift(Head(REFUSED[what]), image(1, 2, 3))


# ---------------------------------------------------------------------- the faults of others
def test_a_reused_relu_is_as_good_as_many():
    class Many(Conv):
        def forward(self, x):
            z = self.pool(F.relu(self.first(x)), 2)
            return self.head(torch.relu_(self.second(z)).flatten(2).mean(2))

    x = image(2, 6, 6)
    once = lift(Conv(2), x, baseline=0.3).values
    for other in (Many(2), Conv(2, nn.ReLU(inplace=True))):
        assert torch.allclose(lift(other, x, baseline=0.3).values, once, atol=1e-14)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
        self.embed, self.head = nn.Conv2d(1, 8, 2, 2), nn.Linear(8, 3)
        seeded(self, 6)

    def forward(self, x):
        return self.head(self.mix(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


def test_softmax_does_not_see_other_images_of_a_list():
    net, pair = Attends(), [image(1, 4, 4), image(1, 4, 4, seed=7) * 3]
    together = pl.explain(net, pair, pl.probability(1), method="deeplift")
    for one, x in zip(together, pair, strict=True):
        alone = lift(net, x, pl.probability(1))
        assert torch.allclose(one.values, alone.values, atol=1e-14)
        assert abs(alone.trace["gap"]) < 1e-12 * max(1, alone.trace["ratio"]) * abs(alone.trace["change"])


def test_probabilities_differences_of_classes_and_hidden_sites_sum():
    net, x = Attends(), image(1, 4, 4)
    for target in (pl.probability(0), pl.logit(0) - pl.logit(2)):
        for site in (None, "embed", "mix.linear1"):
            why = pl.explain(net, x, target, method="deeplift", site=site, baseline="random(2)")
            assert abs(why.total - why.trace["change"]) < 1e-10 * float(why.values.abs().sum())
            assert len(why.trace["changes"]) == 2


# ---------------------------------------------------------------------- sums over places and references
class Twin(nn.Module):
    def __init__(self):
        super().__init__()
        self.g, self.h = Conv(2), seeded(Conv(2), 9)

    def forward(self, x):
        a, b = x.chunk(2, -1)
        return self.g(a) + self.h(b)


@pytest.mark.parametrize("way", ["rescale", "reveal_cancel"])
def test_an_additive_net_keeps_its_halves_apart(way):
    both = image(2, 6, 12)
    left, right = both.chunk(2, -1)
    net = Twin()
    for begin in (0.0, 0.6):
        whole = lift(net, both, rule=way, baseline=begin).values.chunk(2, -1)
        assert torch.allclose(whole[0], lift(net.g, left, rule=way, baseline=begin).values, atol=1e-13)
        assert torch.allclose(whole[1], lift(net.h, right, rule=way, baseline=begin).values, atol=1e-13)


def test_deep_shap_is_the_mean_over_references():
    net, x = Conv(2), image(2, 6, 6)
    refs = [image(2, 6, 6, seed=s) for s in (11, 12, 13)]
    shap = pl.explain(net, x, 1, method="deep_shap", baseline=pl.each_of(refs))
    single = [lift(net, x, baseline=r) for r in refs]
    assert torch.allclose(shap.values, torch.stack([s.values for s in single]).mean(0), atol=1e-14)
    assert shap.trace["changes"] == pytest.approx([s.trace["change"] for s in single])
    assert torch.allclose(shap.values, lift(net, x, baseline=pl.each_of(refs)).values)
    assert shap.provenance.forward == 6 and shap.provenance.backward == 3


def test_nothing_changes_where_nothing_differs():
    net, x = Conv(2), image(2, 6, 6)
    half = x.clone()
    half[:, :, :2] = 0.3
    why = lift(net, half, baseline=torch.full_like(x, 0.3))
    assert float(why.values[:, :, :2].abs().max()) == 0.0
    assert float(why.values[:, :, 2:].abs().min(0).values.max()) > 0
    same = lift(net, torch.full_like(x, 0.3), baseline=0.3)
    assert not bool(same.values.any()) and same.trace["change"] == 0.0
