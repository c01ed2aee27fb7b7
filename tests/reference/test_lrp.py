"""LRP and deep Taylor: each rule by hand, unit by unit; bias-free networks; a single bias; the additive twin; epsilon to 0."""

import pytest
import torch
import torch.nn.functional as F
from tests.reference import twins
from tests.reference.plain import TARGET, close, gradient, inside
from torch import nn

import pellucid as pl
from pellucid.testing import small_image, small_net

TINY = 1e-6
LOW, HIGH = -1.0, 2.0


def stabilized(z):
    return z + TINY if z >= 0 else z - TINY


def denominators(name, x, w, b, z):
    """Per output: pairs of a sum and the contributions in it, as the papers write them. x (i,), w (i,), b and z numbers."""
    p, n = (lambda t: t.clamp(min=0)), (lambda t: t.clamp(max=0))
    if name == "zero":
        return [(z, x * w, 1.0)]
    if name == "epsilon(0.1)":
        return [(z + (0.1 if z >= 0 else -0.1), x * w, 1.0)]
    if name == "gamma(0.5)":
        plus = p(x) * (w + 0.5 * p(w)) + n(x) * (w + 0.5 * n(w))
        minus = p(x) * (w + 0.5 * n(w)) + n(x) * (w + 0.5 * p(w))
        chosen, bias = (plus, b + 0.5 * max(b, 0)) if z > 0 else (minus, b + 0.5 * min(b, 0))
        return [(stabilized(float(chosen.sum()) + bias), chosen, 1.0)]
    if name in ("z_plus", "alpha_beta(2, 1)"):
        plus, minus = p(x) * p(w) + n(x) * n(w), p(x) * n(w) + n(x) * p(w)
        alpha, beta = (1.0, 0.0) if name == "z_plus" else (2.0, 1.0)
        return [(stabilized(float(plus.sum()) + max(b, 0)), plus, alpha), (stabilized(float(minus.sum()) + min(b, 0)), minus, -beta)]
    if name == "w_square":
        return [(stabilized(float((w * w).sum()) + b * b), w * w, 1.0)]
    if name == "flat":
        joined = (w != 0).double()  # where the kernel reaches
        return [(stabilized(float(joined.sum())), joined, 1.0)]
    box = x * w - LOW * p(w) - HIGH * n(w)
    return [(stabilized(float(box.sum())), box, 1.0)]


def shared(name, x, w, b, relevance):
    """Relevance of the inputs (i,) of a dense layer, output by output."""
    found = torch.zeros_like(x)
    for wj, bj, rj in zip(w, b.tolist(), relevance.tolist(), strict=True):
        z = float(x @ wj) + bj
        for total, parts, share in denominators(name, x, wj, bj, z):
            found += share * parts * rj / total
    return found


RULES = ("zero", "epsilon(0.1)", "gamma(0.5)", "z_plus", "alpha_beta(2, 1)", "w_square", "flat", "z_box")


def unrolled(conv, shape, dims):
    """A convolution as a dense layer: a row of weights per output, read off its impulse responses."""
    size = int(torch.tensor(shape).prod())
    with torch.no_grad():
        eye = torch.eye(size, dtype=torch.float64).view(size, *shape)
        f = F.conv2d if dims == 2 else F.conv3d
        columns = f(eye, conv.weight, None, conv.stride, conv.padding)
    positions = columns[0, 0].numel()
    return columns.flatten(1).T, conv.bias.detach().repeat_interleave(positions)


def two_layers(dims, kind):
    torch.manual_seed(4)
    shape = (2, 4, 5) if dims == 2 else (1, 3, 3, 4)
    if kind == "dense":
        first = nn.Linear(int(torch.tensor(shape).prod()), 7)
        net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(7, 3))
    else:
        first = (nn.Conv2d if dims == 2 else nn.Conv3d)(shape[0], 3, 3, padding=1, stride=2)
        out = first(torch.zeros(1, *shape)).numel()
        net = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(out, 3))
    net = net.double().eval()
    x = torch.rand(shape, dtype=torch.float64) * 3 - 1
    weights = unrolled(first, shape, dims) if kind == "conv" else (first.weight.detach(), first.bias.detach())
    return net, x, weights


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("name", RULES)
def test_each_rule_unit_by_unit(name, kind, dims):
    net, x, (w, b) = two_layers(dims, kind)
    head = net[-1]
    with torch.no_grad():
        a = (x.flatten() @ w.T + b).clamp(min=0)
        score = a @ head.weight[TARGET] + head.bias[TARGET]
    upper = a * head.weight[TARGET].detach() * float(score) / stabilized(float(score))  # the head by epsilon
    slow = shared(name, x.flatten(), w, b, upper).view_as(x)
    site = "1" if kind == "dense" else "0"
    why = pl.explain(pl.Model(net, range=(LOW, HIGH)), x, TARGET, method=pl.lrp(composite="epsilon", rules={site: name}))
    assert float((why.values - slow).abs().max()) <= 1e-12 * max(1.0, float(slow.abs().max()))
    assert float(slow.abs().max()) > 1e-4
    assert abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-12


# ---------------------------------------------------------------------------- what is absorbed
def without_biases(dims):
    net = small_net(dims).eval()
    with torch.no_grad():
        for m in (net.first, net.second, net.head, net.norm):
            m.bias.zero_()
        net.norm.running_mean.zero_()
    return net


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1"])
def test_a_network_without_biases_absorbs_nothing(composite, dims):
    why = pl.explain(without_biases(dims), small_image(dims), TARGET, method=pl.lrp(composite=composite))
    assert why.trace["absorbed"].get("biases", 0.0) == 0.0
    assert why.trace["absorbed"].get("constants", 0.0) == 0.0
    if composite == "epsilon":
        bare = pl.explain(without_biases(dims), small_image(dims), TARGET, method=pl.lrp(composite=composite, epsilon=0))
        assert sum(bare.trace["absorbed"].values()) == 0.0
        assert abs(bare.total - bare.score) < 1e-12


def test_one_bias_takes_its_closed_form():
    """s = v relu(w x + b): of relevance s the bias takes s b / (w x + b) = v b."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)).double().requires_grad_(False)
    x = torch.rand(1, 2, 3, dtype=torch.float64)
    z = net[1](net[0](x[None]))[0]
    alive = (z > 0).double()
    expected = float((net[3].weight[1] * net[1].bias * alive).sum())
    why = pl.explain(net, x, 1, method=pl.lrp(composite="epsilon", epsilon=0))
    assert why.trace["absorbed"]["biases"] == pytest.approx(expected, rel=1e-12)
    plus = pl.explain(net, x, 1, method=pl.lrp(composite="epsilon", rules={"1": "z_plus"}))
    w, b = net[1].weight.clamp(min=0), net[1].bias.clamp(min=0)
    share = b / (x.flatten() @ w.T + b + TINY)
    r = float(plus.score) / stabilized(plus.score) * net[3].weight[1] * z * alive
    assert plus.trace["absorbed"]["biases"] == pytest.approx(float((r * share).sum()), rel=1e-9)


def test_embedded_parameters_take_their_closed_form():
    """s = v (x + p) + u t, with a position embedding p and a class token t: they take v p + u t."""

    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.p, self.t, self.v = (nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in ((3, 4), (1, 1, 4), (16, 2)))

        def forward(self, x):
            z = torch.cat([self.t.expand(len(x), -1, -1), x[:, 0] + self.p], 1)
            return z.flatten(1) @ self.v

    net, x = Embedded().requires_grad_(False), torch.rand(1, 3, 4, dtype=torch.float64)
    why = pl.explain(net, x, 1, method=pl.lrp(composite="epsilon", epsilon=0))
    v = net.v[:, 1].detach()
    close(why.values, x * v[4:].view(1, 3, 4), 1e-12)
    expected = float(v[:4] @ net.t.flatten() + v[4:] @ net.p.flatten())
    assert why.trace["absorbed"]["constants"] == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------------------- identities
@pytest.mark.parametrize("dims", [2, 3])
def test_epsilon_to_zero_is_input_times_gradient(dims):
    net, x = small_net(dims).eval(), small_image(dims)
    why = pl.explain(net, x, TARGET, method=pl.lrp(composite="epsilon", epsilon=0))
    close(why.values, x * gradient(net, x))
    assert why.trace["absorbed"]["biases"] == pytest.approx(why.score - float((x * gradient(net, x)).sum()), rel=1e-9)


@pytest.mark.parametrize("size", [1.0, 1e-7])
def test_sums_as_small_as_the_stabilizer_are_told(size):
    net, x = without_biases(2), small_image(2)
    with torch.no_grad():
        next(net.parameters()).mul_(size)
    why = pl.explain(net, x, TARGET, method=pl.lrp(composite="epsilon"))
    drowned = [c for c in why.provenance.caveats if "stabilizers absorbed" in c and "as small" in c]
    assert bool(drowned) == (size < 1) == (abs(why.trace["absorbed"].get("stabilizers", 0)) > 0.5 * abs(why.score))


@pytest.mark.parametrize("dims", [2, 3])
def test_at_a_site_relevance_is_that_of_the_same_pass(dims):
    net, x = small_net(dims).eval(), small_image(dims)
    z, g = inside(net, x, "norm")
    why = pl.explain(net, x, TARGET, site="norm", method=pl.lrp(composite="epsilon", epsilon=0))
    close(why.values, z * g)
    for composite in ("epsilon_plus_flat", "epsilon_gamma_box"):  # behind the first layer there is no first layer any more
        at = pl.explain(net, x, TARGET, site="norm", method=pl.lrp(composite=composite))
        assert abs(at.total + sum(at.trace["absorbed"].values()) - at.score) < 1e-12
        back = pl.explain(net, x, TARGET, method=pl.lrp(composite=composite))
        spent = sum(back.trace["absorbed"].values()) - sum(at.trace["absorbed"].values())
        assert back.total + spent == pytest.approx(at.total, rel=1e-9)


class Sum(nn.Module):
    """g(left half) + h(right half)."""

    def __init__(self):
        super().__init__()
        self.left, self.right = small_net(2).eval(), small_net(2, seed=5).eval()

    def forward(self, x):
        a, b = x.chunk(2, -1)
        return self.left(a) + self.right(b)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box"])
def test_of_a_sum_the_left_half_hears_nothing_of_the_right(composite):
    x, net, method = small_image(2), Sum(), pl.lrp(composite=composite)
    a = x.chunk(2, -1)[0]
    whole = pl.explain(pl.Model(net, range=(0, 1)), x, TARGET, method=method).values.chunk(2, -1)[0]
    alone = pl.explain(pl.Model(net.left, range=(0, 1)), a, TARGET, method=method).values
    assert float((whole - alone).abs().max()) < 1e-4 * float(alone.abs().max())  # sums are shared out with a stabilizer of 1e-6
    if composite == "epsilon":
        both, left, x, half = twins.pair(2)
        pair = [pl.explain(n, x, TARGET, method=pl.lrp(composite=composite, epsilon=0)).values[half] for n in (both, left)]
        close(*pair)


def test_a_pixel_answers_for_its_normalized_value():
    net, x = small_net(2).eval(), small_image(2)
    described = pl.Model(net, normalize=pl.Normalize((0.4, 0.6), (0.5, 2.0)), range=(0, 1))
    seen = described.normalize(x[None])[0]
    low, high = described.normalize(torch.zeros_like(x)[None])[0], described.normalize(torch.ones_like(x)[None])[0]
    close(
        pl.explain(described, x, TARGET, method=pl.lrp(composite="epsilon_plus_flat")).values,
        pl.explain(net, seen, TARGET, method=pl.lrp(composite="epsilon_plus_flat")).values,
    )
    boxed = pl.explain(described, x, TARGET, method=pl.lrp(composite="epsilon", rules={"first": "z_box"})).values
    upper = pl.explain(net, seen, TARGET, site="norm", method=pl.lrp(composite="epsilon")).values
    s = net.norm.weight / torch.sqrt(net.norm.running_var + net.norm.eps)
    w = (net.first.weight * s.view(-1, 1, 1, 1)).detach()
    parts = [(seen, w), (-low, w.clamp(min=0)), (-high, w.clamp(max=0))]
    z = sum(F.conv2d(a[None], v, padding=1) for a, v in parts)
    q = upper[None] / (z + TINY * torch.where(z >= 0, 1.0, -1.0))
    close(boxed, sum(a * F.conv_transpose2d(q, v, padding=1)[0] for a, v in parts))


# ---------------------------------------------------------------------------- deep Taylor
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("bounded", [False, True])
def test_deep_taylor_layer_by_layer(bounded, dims):
    net, x, (w, b) = two_layers(dims, "conv")
    head = net[-1]
    with torch.no_grad():
        head.bias[TARGET] = 5.0
        a = (x.flatten() @ w.T + b).clamp(min=0)
        score = float(a @ head.weight[TARGET] + 5.0)
    plus = a * head.weight[TARGET].detach().clamp(min=0)
    upper = plus / (plus.sum() + TINY) * score
    slow = shared("z_box" if bounded else "w_square", x.flatten(), w, torch.zeros_like(b), upper).view_as(x)
    why = pl.explain(pl.Model(net, range=(LOW, HIGH)), x, TARGET, method=pl.deep_taylor(bounded=bounded))
    close(why.values, slow, 1e-12)
    assert float(why.values.min()) >= 0
    assert abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-12


def test_deep_taylor_says_when_there_is_nothing_to_explain():
    net = small_net(2)
    with torch.no_grad():
        net.head.bias.fill_(-50.0)
    why = pl.explain(net, small_image(2), TARGET, method="deep_taylor")
    assert not bool(why.values.any())
    assert any("above 0" in c for c in why.provenance.caveats)
