"""Meaningful perturbation against its loss, differentiated through network and mask in one graph, Adam by torch.optim."""

import math

import pytest
import torch
from tests.reference.cuts import Halves
from tests.reference.plain import close, explained, score, setting

import pellucid as pl
from pellucid.errors import BadParameter, Unsupported
from pellucid.ops.blur import gaussian
from pellucid.ops.descent import Adam, Momentum
from pellucid.ops.masks import total_variation

DIMS = pytest.mark.parametrize("dims", [2, 3])
STILL = {"jitter": "0px", "smoothing": "0px"}


def edges(mask, beta):
    """Total variation, sample by sample."""
    total = 0
    for at in torch.cartesian_prod(*map(torch.arange, mask.shape)).tolist():
        square = 0
        for axis in range(mask.ndim):
            if at[axis] + 1 < mask.shape[axis]:
                beside = list(at)
                beside[axis] += 1
                square = square + (mask[tuple(beside)] - mask[tuple(at)]) ** 2
        total = total + square ** (beta / 2)
    return total


def slowly(net, x, region, *, deletes, relative, hinge, steps, l1=0.3, tv=0.2, beta=3.0, rate=0.1, amsgrad=False, study=None):
    """Cells of two samples along each axis, no blur, no jitter, filled with each channel's mean.

    ``study`` (falls, warm, best): torch's own StepLR, costs that come up, and the mask of least loss from a step on.
    """
    fill = x.flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1)).expand_as(x)
    full, none = score(net, x), score(net, fill)
    cells = region.clone().requires_grad_()
    adam = torch.optim.Adam([cells], lr=rate, amsgrad=amsgrad)
    falls, warm, best = study or (steps, None, None)
    schedule, least, kept = torch.optim.lr_scheduler.StepLR(adam, falls, 0.1), float("inf"), None
    for step in range(steps):
        r = cells
        for axis, n in enumerate(x.shape[1:]):
            r = r.repeat_interleave(2, axis).narrow(axis, 0, n)
        keep = 1 - r if deletes else r
        s = net((keep * x + (1 - keep) * fill)[None])[0, 1]
        share = (s - none) / (full - none) if relative else s
        goal = 1 if relative else full
        term = share if deletes else goal - share
        if hinge is not None:
            term = (term - hinge).clamp_min(0)
        costs = 28**2 / cells.numel() * (l1 * cells.abs().sum() + tv * edges(cells, beta))
        loss = term + (costs if warm is None or step > warm else step / warm * costs)
        if best is not None and step >= best and loss.item() <= least:
            least, kept = loss.item(), cells.detach().clone()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            cells.clamp_(0, 1)
    r = cells.detach() if kept is None else kept
    for axis, n in enumerate(x.shape[1:]):
        r = r.repeat_interleave(2, axis).narrow(axis, 0, n)
    return r


@DIMS
@pytest.mark.parametrize("variant", ["deletion", "preservation"])
@pytest.mark.parametrize(("relative", "hinge", "amsgrad"), [(True, 0.05, True), (False, None, False)])
def test_meaningful_perturbation(dims, variant, relative, hinge, amsgrad):
    net, x = setting(dims)
    x = x[(slice(None), *[slice(0, 8)] * dims)]  # whole cells
    start = torch.rand([4] * dims, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    start = start / start.flatten().kthvalue(round(0.99 * start.numel())).values
    start = start.clamp_max(1)
    wide = start
    for axis in range(dims):
        wide = wide.repeat_interleave(2, axis)
    weights = {"l1": 3e-4, "tv": 2e-4, "rate": 0.05, "amsgrad": amsgrad}
    params = {"cell": "2px", "fill": "constant", "relative": relative, "hinge": hinge, "steps": 12, "start": wide[None], **STILL, **weights}
    ours = explained(net, x, "meaningful_perturbation", variant=variant, **params)
    slow = slowly(net, x, start, deletes=variant == "deletion", relative=relative, hinge=hinge, steps=12, beta=3.0, **weights)
    close(ours.values[0], slow, 1e-6)
    assert (ours.provenance.forward, ours.provenance.backward) == (14, 12)
    assert len(ours.trace["scores"]) == len(ours.trace["l1"]) == len(ours.trace["tv"]) == 12


@DIMS
def test_the_schedule_of_the_volume_study(dims):
    """Nothing deleted at first, costs that come up, a rate that falls by steps, and the mask of least loss: each changes the region."""
    net, x = setting(dims)
    x = x[(slice(None), *[slice(0, 8)] * dims)]
    weights = {"l1": 3e-3, "tv": 2e-4, "rate": 0.3, "amsgrad": True}
    game = {"cell": "2px", "fill": "constant", "relative": True, "hinge": 0.05, "steps": 14, "start": "nothing", **STILL, **weights}
    slow = {"deletes": True, "relative": True, "hinge": 0.05, "steps": 14, **weights}
    begin, found = torch.zeros([4] * dims, dtype=torch.float64), []
    for study in ((5, 6, 8), (5, 6, None), (14, 6, None), (14, None, 8)):
        falls, warm, best = study
        why = explained(net, x, "meaningful_perturbation", falls=falls, warm=warm, best=best, **game)
        close(why.values[0], slowly(net, x, begin, study=study, **slow), 1e-6)
        assert (why.provenance.forward, why.provenance.backward) == (16, 14)
        assert all(float((why.values - other).abs().max()) > 1e-4 for other in found), study
        found.append(why.values)


def test_total_variation_is_the_authors():
    random = torch.Generator().manual_seed(0)
    for shape, beta in (((4, 5), 3.0), ((4, 5), 2.0), ((3, 4, 2), 3.0), ((4, 4), 1.0)):
        mask = torch.rand(shape, generator=random, dtype=torch.float64)
        assert float(total_variation(mask, beta)) == pytest.approx(float(edges(mask, beta)), rel=1e-4 if beta < 2 else 1e-12)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_descent_rules_are_torchs(amsgrad):
    start, pairs = torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64), []
    pairs.append((Adam(0.1, amsgrad), lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=amsgrad)))
    pairs.append((Momentum(0.1), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.9)))
    for rule, make in pairs:
        ours, leaf = start.clone(), start.clone().requires_grad_()
        peer = make([leaf])
        for k in range(6):
            gradient = torch.sin(ours * (k + 1)) - 0.2 * k
            leaf.grad = torch.sin(leaf.detach() * (k + 1)) - 0.2 * k
            peer.step()
            ours = rule.step(ours, gradient)
            close(ours, leaf.detach(), 1e-12)


class Blob(torch.nn.Module):
    """The probability that a patch is bright; the rest of the image is texture without meaning."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def forward(self, x):
        s = 8 * (x[(slice(None), 0, *self.patch)].flatten(1).mean(1) - 0.5)
        return torch.stack([-s, s], 1)


def blob(dims):
    patch = (slice(4, 10), slice(12, 18), slice(5, 11))[:dims]
    x = 0.3 * torch.rand((1, 24, 22, 16)[: dims + 1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[(0, *patch)] = 0.9
    inside = torch.zeros(x.shape[1:], dtype=torch.bool)
    inside[patch] = True
    return Blob(patch), x, inside


@DIMS
@pytest.mark.parametrize("variant", ["deletion", "preservation"])
@pytest.mark.parametrize("fill", ["blur", "constant", "noise"])
def test_it_finds_what_the_score_rests_on(dims, variant, fill):
    net, x, inside = blob(dims)
    if fill == "blur":
        fill_params = {"sigma": "6px"}
    else:
        fill_params = {}
    params = {"variant": variant, "fill": fill, "steps": 60, "l1": 1e-3, "jitter": "2px", "cell": "2px", **fill_params}
    why = pl.explain(net, x, pl.probability(1), method="meaningful_perturbation", **params)
    r = why.values[0]
    assert float(r.min()) >= 0 and float(r.max()) <= 1
    density = float(r[inside].mean() / r.mean())
    assert density > 2.5, density
    assert why.trace["area"] == pytest.approx(float(r.mean()))
    end = why.trace["scores"][-1]
    assert abs(end - (why.trace["filled"] if variant == "deletion" else why.trace["image"])) < 0.35 * abs(why.trace["image"])


@DIMS
def test_halves_do_not_mix(dims):
    """f = g(left) + h(right), the score itself, edges free: the left half of the mask is what g alone gives."""
    x = setting(dims)[1]
    params = {"relative": False, "hinge": None, "tv": 0.0, "cell": "1px", "steps": 15, "l1": 1e-4, "fill": "constant", **STILL}
    start = torch.full_like(x[:1], 0.5)
    start[0, 0] = 0.6
    whole, left = (
        pl.explain(Halves(x.shape[1:], o), x, 1, method="meaningful_perturbation", start=start, **params).values for o in (None, 0)
    )
    at = x.shape[-1] // 2
    close(whole[..., :at], left[..., :at], 1e-7)
    assert float((whole[..., at:] - left[..., at:]).abs().max()) > 0.01


@DIMS
def test_a_map_is_refined_to_the_smallest_region_that_preserves_the_score(dims):
    """M4: begin with a map, stay within it, end with less of it and (nearly) the same score."""
    net, x, inside = blob(dims)
    rough = inside.double()
    for axis in range(dims):
        rough = rough + rough.roll(4, axis) + rough.roll(-3, axis)
    rough = rough[None].clamp_max(1)
    params = {"variant": "preservation", "steps": 60, "l1": 1e-3, "cell": "1px", "sigma": "6px", **STILL}
    why = pl.explain(net, x, pl.probability(1), method="meaningful_perturbation", start=rough, within=rough, **params)
    assert bool((why.values[rough == 0] == 0).all()), "nothing outside the map"
    assert why.trace["area"] < 0.75 * float(rough.mean())
    fill = gaussian(x, [6.0] * dims)
    kept = score_of(net, why.values * x + (1 - why.values) * fill)
    assert kept > 0.9 * score_of(net, x)
    assert float(why.values[0][inside].mean()) > 2 * float(why.values[0][(rough[0] > 0) & ~inside].mean())
    alone = pl.explain(net, x, pl.probability(1), method="meaningful_perturbation", within=rough, **params)
    assert alone.provenance.forward == 62 and bool((alone.values[rough == 0] == 0).all())


def score_of(net, x):
    return float(net(x[None]).softmax(1)[0, 1])


def test_a_map_on_another_grid_is_read_where_it_lies():
    net, x, inside = blob(2)
    coarse = pl.Grid((24, 22)).resize((12, 11))
    hint = pl.Image(torch.nn.functional.avg_pool2d(inside[None].float(), 2), coarse)
    why = pl.explain(net, x, 1, method="meaningful_perturbation", within=hint, steps=3, **STILL)
    assert bool((why.values[0][:2] == 0).all()) and float(why.values.max()) > 0


@DIMS
def test_a_hidden_site_is_masked_on_its_own_grid(dims):
    net, x = setting(dims)
    why = explained(net, x, "meaningful_perturbation", site="second", steps=5, fill="constant", jitter="2px")
    assert tuple(why.values.shape[1:]) == why.grid.shape and float(why.values.max() - why.values.min()) > 1e-3


def test_what_cannot_be_is_refused():
    net, x = setting(2)
    with pytest.raises(Unsupported, match="changes the score"):
        explained(net, x * 0, "meaningful_perturbation")
    for wrong, match in ((-torch.ones(1, 12, 10), "positive somewhere"), (torch.ones(1, 9, 9), "shape")):
        with pytest.raises(BadParameter, match=match):
            explained(net, x, "meaningful_perturbation", start=wrong)
    with pytest.raises(BadParameter, match="a Map, an Image or a tensor"):
        pl.meaningful_perturbation(start=3)


def test_the_settings_of_the_volume_study():
    net, x, inside = blob(3)
    bound = pl.meaningful_perturbation_3d
    assert (bound.params["tv_beta"], bound.params["draws"], bound.params["rate"], bound.params["amsgrad"]) == (7.0, 10, 0.3, True)
    assert [bound.params[p] for p in ("falls", "warm", "best", "start")] == [30, 60, 51, "nothing"]
    assert math.isclose(bound.params["l1"] * 28**2, 3) and bound.params["hinge"] == 0.05
    why = pl.explain(net, x, pl.probability(1), method=bound(steps=15, sigma="6px"))
    assert float(why.values[0][inside].mean()) > 2 * float(why.values[0].mean())
    assert why.provenance.forward == 2 + 150  # no ball is looked for
    assert pl.read_method("meaningful_perturbation_3d") == bound


@pytest.mark.parametrize("method", ["meaningful_perturbation", "extremal_perturbation"])
def test_several_targets_side_by_side_are_those_one_by_one(method):
    net, x = setting(2)
    params = {"steps": 6, "jitter": "0px"}
    together = pl.explain(net, x, [0, 1, 2], method=method, **params)
    for target, why in enumerate(together):
        close(why.values, pl.explain(net, x, target, method=method, **params).values, 1e-7)
