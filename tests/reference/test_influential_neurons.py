"""Influential neurons, step by step as the case study of retinopathy has them; and how far a region reaches."""

import numpy as np
import pytest
import torch
from tests.reference.plain import close, explained, inside, setting
from tests.reference.twins import pair
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter, Unsupported
from pellucid.ops.extent import center_and_extent

DIMS = pytest.mark.parametrize("dims", [2, 3])
SITE, STEPS = "second", 3
IG = f"integrated_gradients(baseline=0.5, steps={STEPS}, rule='right')"


def attributions(net, x, start):
    """Integrated gradients of the outcome to every neuron: the way is straight between the activations of baseline and image."""
    (z, _), (z0, _) = inside(net, x, SITE), inside(net, start, SITE)
    found = torch.zeros_like(z)
    for k in range(1, STEPS + 1):
        planted = (z0 + k / STEPS * (z - z0))[None].requires_grad_()
        handle = net.get_submodule(SITE).register_forward_hook(lambda _m, _a, _z, planted=planted: planted.clone())
        value = net(x[None].clone())[0, 1]
        handle.remove()
        found += (z - z0) * torch.autograd.grad(value, planted)[0][0] / STEPS
    return found


def active_region(net, x, start, unit):
    """Integrated gradients of one neuron's activation to the image."""
    found = torch.zeros_like(x)
    for k in range(1, STEPS + 1):
        leaf, seen = (start + k / STEPS * (x - start)).requires_grad_(), []
        handle = net.get_submodule(SITE).register_forward_hook(lambda _m, _a, z, seen=seen: seen.append(z.clone()))
        net(leaf[None].clone())
        handle.remove()
        picked = seen[0][0][unit]
        found += (x - start) * torch.autograd.grad(picked.mean(), leaf)[0] / STEPS
    return found


@DIMS
def test_the_recipe_of_the_case_study(dims):
    net, x = setting(dims)
    start = torch.full_like(x, 0.5)
    amounts = attributions(net, x, start)
    order = amounts.flatten().argsort(descending=True)
    units = [np.unravel_index(int(i), tuple(amounts.shape)) for i in [*order[:3], *order.flip(0)[:3]]]
    slow = {"positive": torch.zeros_like(x), "negative": torch.zeros_like(x)}
    for n, unit in enumerate(units):
        slow["positive" if n < 3 else "negative"] += amounts[unit] * active_region(net, x, start, unit)
    why = explained(net, x, "influential_neurons", k=3, site=SITE, inner=IG)
    assert why.trace["units"] == [[int(i) for i in u] for u in units]
    assert why.trace["attributions"] == pytest.approx([float(amounts[u]) for u in units])
    close(why.trace["positive"], slow["positive"])
    close(why.trace["negative"], slow["negative"])
    close(why.values, slow["positive"] + slow["negative"])
    assert why.trace["explained"] == pytest.approx(sum(abs(float(amounts[u])) for u in units) / float(amounts.abs().sum()))
    for sign in slow:
        one = explained(net, x, "influential_neurons", k=3, site=SITE, inner=IG, sign=sign)
        close(one.values, slow[sign])
        assert len(one.trace["units"]) == 3


def test_the_four_pictures_of_the_case_study_are_at_hand():
    net, x = setting(2)
    why = pl.explain(pl.Model(net, prepare=pl.Prepare(resize=(10, 9))), x, 1, method="influential_neurons", k=2, site=SITE, inner=IG)
    original, prepared = why.scan.values, why.image.values
    assert original.shape == (2, 12, 10)
    assert prepared.shape == why.trace["positive"].shape == why.trace["negative"].shape == (2, 10, 9)


@DIMS
def test_regions_are_kept_on_request_and_measured(dims):
    net, x = setting(dims)
    spacing = (0.5, 2.0, 3.0)[:dims]
    scan = pl.Image(x, pl.Grid.spaced(tuple(x.shape[1:]), spacing))
    why = explained(net, scan, "influential_neurons", k=2, site=SITE, inner=IG, keep=True)
    trace = why.trace
    assert trace["regions"].shape == (4, *x.shape)
    for unit, region, center, extent in zip(trace["units"], trace["regions"], trace["centers"], trace["extents"], strict=True):
        close(region, active_region(net, x, torch.full_like(x, 0.5), tuple(unit)))
        seen = region.abs().sum(0).nonzero()
        assert int((seen.max(0).values - seen.min(0).values).max()) <= 4, "two convolutions of three see five samples"
        assert all(0 < e <= 5 * s for e, s in zip(extent, spacing, strict=True))
        assert all(abs(c - u * s) <= 2 * s for c, u, s in zip(center, unit[1:], spacing, strict=False))
    assert trace["unit"] == "mm"
    assert "regions" not in explained(net, x, "influential_neurons", k=1, site=SITE, inner=IG).trace


@DIMS
def test_shares_add_up_to_the_attributions(dims):
    net, x = setting(dims)
    why = explained(net, x, "influential_neurons", k=4, site=SITE, inner=IG, weight="share")
    assert why.total == pytest.approx(sum(why.trace["attributions"]))
    assert float(why.trace["positive"].sum()) == pytest.approx(sum(a for a in why.trace["attributions"] if a > 0))


@DIMS
def test_channels(dims):
    net, x = setting(dims)
    start = torch.full_like(x, 0.5)
    sums = attributions(net, x, start).flatten(1).sum(1)
    best = int(sums.argmax())
    why = explained(net, x, "influential_neurons", k=1, site=SITE, inner=IG, sign="positive", unit="channel")
    assert why.trace["units"] == [[best]]
    close(why.values, float(sums[best]) * active_region(net, x, start, (best,)))


def test_the_neurons_of_one_half_answer_to_that_half():
    both, _, x, left = pair(2)
    why = explained(both, x, "influential_neurons", k=3, site="left.second", inner=IG)
    assert float(why.values[left].abs().max()) > 0
    assert float(why.values[..., x.shape[-1] // 2 :].abs().max()) == 0


def test_complementary_targets_mirror_each_other():
    """Stage 0 against stage 4: with two classes that share out one difference the maps are each other's negative."""
    random = torch.Generator().manual_seed(1)
    head = nn.Linear(6 * 100, 2, bias=False)
    with torch.no_grad():
        head.weight[0] = torch.randn(600, generator=random)
        head.weight[1] = -head.weight[0]
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), head)
    x = torch.rand(1, 12, 12, generator=random)
    zero, four = (pl.explain(net, x, t, method="influential_neurons", k=5, site="1") for t in (0, 1))
    close(zero.trace["positive"], -four.trace["negative"], 1e-5)
    close(zero.values, -four.values, 1e-5)


def test_a_site_without_space_has_neurons_too():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        net[1].bias += 1
    why = pl.explain(net, torch.rand(1, 8, 8), 1, method="influential_neurons", k=2, site="2")
    assert why.values.shape == (1, 8, 8)
    assert all(len(u) == 1 for u in why.trace["units"])


def test_what_cannot_be_is_refused_by_name():
    net, x = setting(2)
    for inner in ("rise", "grad_cam"):
        with pytest.raises(Unsupported, match="by gradients"):
            explained(net, x, "influential_neurons", inner=inner)
    against = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 10 * 8, 2)).double()
    with torch.no_grad():
        against[3].weight[:] = -against[3].weight.abs()
    with pytest.raises(BadParameter, match="positive attribution"):
        explained(against, x, "influential_neurons", sign="positive", site="1", inner="input_x_gradient")


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_the_extent_holds_its_share(share):
    line = torch.zeros(40, 9, dtype=torch.float64)
    line[10:20, 4] = 1.0
    center, extent = center_and_extent(line, share)
    assert center == pytest.approx((14.5, 4.0))
    assert extent == pytest.approx((10 * share, share))
    bell = torch.exp(-((torch.arange(101.0, dtype=torch.float64) - 50) ** 2) / (2 * 6.0**2))[:, None, None] * -torch.ones(1, 3, 3)
    assert center_and_extent(bell)[1][0] == pytest.approx(2 * 1.96 * 6, rel=0.01)
    assert center_and_extent(torch.zeros(4, 4)) == ((1.5, 1.5), (0.0, 0.0))
