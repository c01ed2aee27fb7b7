"""Conductance and internal influence against their definitions, written slowly, and against each other."""

import pytest
import torch
from tests.reference.plain import close, explained, gradient, inside, score, setting
from tests.reference.twins import pair
from torch import nn

import pellucid as pl

DIMS = pytest.mark.parametrize("dims", [2, 3])
SITE = "second"  # beside a residual sum


def chain(dims, smooth=True):
    """A network in which everything flows through site ``1``."""
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    act = nn.Softplus if smooth else nn.ReLU
    made = nn.Sequential(conv(2, 3, 3), act(), conv(3, 4, 3, stride=2), act(), nn.Flatten(), nn.LazyLinear(2)).double()
    x = setting(dims)[1]
    made(x[None])
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.3)
    return made.eval(), x


def on_the_way(net, start, x, steps, site):
    return [inside(net, start + k / steps * (x - start), site) for k in range(steps + 1)]


@DIMS
def test_conductance(dims):
    net, x = setting(dims)
    start = torch.full_like(x, 0.3)
    seen = on_the_way(net, start, x, 6, SITE)
    slow = sum((seen[k][1] + seen[k + 1][1]) / 2 * (seen[k + 1][0] - seen[k][0]) for k in range(6))
    why = explained(net, x, "conductance", site=SITE, baseline=0.3, steps=6)
    close(why.values, slow)
    assert why.trace["change"] == pytest.approx(score(net, x) - score(net, start))
    assert why.trace["gap"] == pytest.approx(why.total - why.trace["change"])
    assert why.trace["scores"] == pytest.approx([score(net, start + k / 6 * (x - start)) for k in range(7)])


@DIMS
def test_it_is_the_papers_integral(dims):
    """Equation 3 with the Jacobian of the site written out: sum over pixels of (x - x') * dF/dz * dz/dx, along the way."""
    net, x = chain(dims)
    unit, steps, slow = (1, *[2] * dims), 400, 0.0
    body = net[:2]
    for k in range(steps):
        leaf = ((k + 0.5) / steps * x).requires_grad_()
        (dz,) = torch.autograd.grad(body(leaf[None])[(0, *unit)], leaf)
        _, g = inside(net, leaf.detach(), "1")
        slow += float((x * dz).sum() * g[unit]) / steps
    assert float(explained(net, x, "conductance", site="1", steps=100).values[unit]) == pytest.approx(slow, rel=1e-4)


@DIMS
def test_what_flows_through_a_bottleneck_is_the_change_of_the_score(dims):
    net, x = chain(dims)
    why = explained(net, x, "conductance", site="1", steps=40)
    assert abs(why.trace["gap"]) < 1e-3 * abs(why.trace["change"])
    beside = explained(*setting(dims), "conductance", site=SITE, steps=40)
    assert abs(beside.trace["gap"]) > 0.1 * abs(beside.trace["change"]), "the residual path carries something too"


@DIMS
@pytest.mark.parametrize("steps", [3, 8, 30])
def test_what_flows_around_the_site_is_told_and_an_error_of_the_integral_is_not_taken_for_it(dims, steps):
    """s = head(pool(z + relu(second(z)))): along the way, what comes by z alone is integrated here by itself."""
    net, x = setting(dims)
    why = explained(net, x, "conductance", site=SITE, steps=steps)
    assert why.trace["around"] == pytest.approx(-why.trace["gap"])
    (told,) = [c for c in why.provenance.caveats if "flows around the site" in c]
    assert f"{why.trace['around'] / why.trace['change']:.1%}" in told
    for site in (None, "first", "norm", "pool"):
        whole = explained(net, x, "conductance", site=site, steps=steps)
        assert whole.trace["around"] == 0 and not [c for c in whole.provenance.caveats if "around" in c], site
    if steps == 30:
        alone, slow = torch.nn.Sequential(net.pool, nn.Flatten(), net.head), 0.0
        for k in range(400):
            at = torch.stack([k / 400 * x, (k + 1) / 400 * x])
            with torch.no_grad():
                z = net.act(net.norm(net.first(at)))
                slow += float((alone(z[1:]) - alone(z[:1]))[0, 1])
        assert why.trace["around"] == pytest.approx(slow, rel=0.03)


@DIMS
def test_at_the_input_it_is_integrated_gradients(dims):
    net, x = setting(dims)
    slow = sum((gradient(net, k / 5 * x) + gradient(net, (k + 1) / 5 * x)) / 2 * x / 5 for k in range(5))
    close(explained(net, x, "conductance", steps=5).values, slow)
    trapezoid = explained(net, x, "integrated_gradients", rule="trapezoid", steps=6).values
    close(explained(net, x, "conductance", steps=5).values, trapezoid)


@DIMS
def test_the_conductance_of_the_additive_twin(dims):
    both, alone, x, _ = pair(dims)
    close(*(explained(net, x, "conductance", site="left.second", steps=6).values for net in (both, alone)))
    close(*(explained(net, x, "internal_influence", site="left.second", steps=6).values for net in (both, alone)))


@DIMS
def test_internal_influence(dims):
    net, x = setting(dims)
    start = torch.full_like(x, 0.3)
    ours = explained(net, x, "internal_influence", site=SITE, baseline=0.3, steps=3).values
    t, w = (0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5), (5 / 18, 8 / 18, 5 / 18)  # Gauss-Legendre of three nodes
    close(ours, sum(b * inside(net, start + a * (x - start), SITE)[1] for a, b in zip(t, w, strict=True)))


@DIMS
def test_internal_influence_over_a_set_is_the_mean_slope_there(dims):
    net, x = setting(dims)
    images = [torch.rand(x.shape, generator=torch.Generator().manual_seed(k), dtype=x.dtype) for k in (8, 9)]
    ours = explained(net, x, "internal_influence", site=SITE, over="starts", baseline=pl.each_of(images)).values
    close(ours, sum(inside(net, i, SITE)[1] for i in images) / 2)
    point = explained(net, x, "internal_influence", site=SITE, over="starts", baseline=x).values
    close(point, explained(net, x, "saliency", site=SITE).values)


def test_at_the_input_internal_influence_is_interior_gradients():
    net, x = setting(2)
    ours = explained(net, x, "internal_influence", steps=7).values
    close(ours, explained(net, x, "integrated_gradients", steps=7, times_input=False).values)


def test_the_quantity_of_interest_may_be_a_difference():
    net, x = setting(2)
    a, b = (pl.explain(net, x, k, method="internal_influence", site=SITE, steps=4).values for k in (0, 2))
    close(pl.explain(net, x, pl.logit(0) - pl.logit(2), method="internal_influence", site=SITE, steps=4).values, a - b)


@DIMS
def test_a_chunk_is_a_chunk_and_lists_share_it(dims):
    net, x = setting(dims)
    one = pl.explain(net, [x, 1 - x], [0, 1], method="conductance", site=SITE, steps=7)
    alone = [pl.explain(net, i, t, method="conductance", site=SITE, steps=7, run=pl.Run(chunk=1)) for i in (x, 1 - x) for t in (0, 1)]
    for a, b in zip(one, alone, strict=True):
        close(a.values, b.values)
