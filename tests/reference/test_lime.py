"""LIME against its formula: every draw asked by itself, the weighted least squares written out."""

import math

import numpy as np
import pytest
import torch
from tests.reference.cuts import Halves, blocks
from tests.reference.plain import close, explained, score, setting

import pellucid as pl
from pellucid.errors import BadParameter, BadSite
from pellucid.ops.coalitions import coins

DIMS = pytest.mark.parametrize("dims", [2, 3])
SAMPLES = 40


def per_segment(why, labels):
    """The weight of each segment, from the map alone."""
    flat = why.values[0].flatten().double()
    return torch.zeros(int(labels.max()) + 1, dtype=torch.float64).index_add_(0, labels.flatten(), flat)


def slowly(net, x, labels, fill, alpha=1.0, samples=SAMPLES):
    rows = coins(samples, int(labels.max()) + 1, torch.Generator().manual_seed(0))
    hidden = x.clone()
    for k in range(int(labels.max()) + 1):
        for channel in range(len(x)):
            hidden[channel][labels == k] = x[channel][labels == k].mean() if fill is None else fill
    design, target, weight = [], [], []
    for row in rows.tolist():
        image = x.clone()
        for k, shown in enumerate(row):
            if not shown:
                image[:, labels == k] = hidden[:, labels == k]
        distance = 1 - sum(row) / math.sqrt(sum(row) * len(row)) if any(row) else 1.0
        design.append([1.0, *map(float, row)])
        target.append(score(net, image))
        weight.append(math.sqrt(math.exp(-(distance**2) / 0.25**2)))
    design, target, weight = np.array(design), np.array(target), np.diag(weight)
    penalty = alpha * np.diag([0.0, *[1.0] * (design.shape[1] - 1)])
    return torch.from_numpy(np.linalg.solve(design.T @ weight @ design + penalty, design.T @ weight @ target)[1:])


@DIMS
@pytest.mark.parametrize("fill", [None, 0.3])
def test_lime(dims, fill):
    net, x = setting(dims)
    labels = blocks(x.shape[1:])
    why = explained(net, x, "lime", segments=labels, samples=SAMPLES, features=None, fill=fill)
    close(per_segment(why, labels), slowly(net, x, labels, fill))
    close(torch.tensor(why.trace["weights"], dtype=torch.float64), slowly(net, x, labels, fill))
    assert why.provenance.forward == len(why.trace["times"]) == len({tuple(r) for r in why.trace["samples"].tolist()}), "asked once"
    assert sum(why.trace["times"]) == SAMPLES


def test_the_trace_draws_score_against_shown_segments():
    net, x = setting(2)
    labels = blocks(x.shape[1:], 3)
    why = explained(net, x, "lime", segments=labels, samples=SAMPLES)
    assert why.trace["active"][0] == 9 and why.trace["scores"][0] == pytest.approx(score(net, x))
    assert len(why.trace["active"]) == len(why.trace["scores"]) == len(why.trace["samples"])
    assert torch.equal(why.trace["samples"].sum(1), torch.tensor(why.trace["active"]))
    assert torch.equal(why.trace["segments"], labels)
    assert 0 < why.trace["fit"] <= 1


@pytest.mark.parametrize("selection", ["lasso", "ridge"])
@DIMS
def test_weights_are_truly_sparse_and_sit_where_the_network_looks(dims, selection):
    """A score that is linear in three of many segments: those have the weights, exactly; all others are exactly zero."""
    x = setting(dims)[1] + 0.5
    labels = blocks(x.shape[1:], 4 if dims == 2 else 3)
    truth = {1: 2.0, 4: -1.0, 7: 0.5}

    class Linear(torch.nn.Module):
        def forward(self, v):
            parts = [w * v[:, :, labels == k].mean((1, 2)) / x[:, labels == k].mean() for k, w in truth.items()]
            return torch.stack([sum(parts), -sum(parts)], 1)

    params = {"segments": labels, "samples": 120, "fill": 0.0, "features": 3, "alpha": 1e-9, "selection": selection}
    found = per_segment(pl.explain(Linear(), x, 0, method="lime", **params), labels)
    wanted = torch.zeros_like(found)
    for k, w in truth.items():
        wanted[k] = w
    assert torch.equal(found != 0, wanted != 0)
    close(found, wanted, 1e-6)
    fewer = per_segment(pl.explain(Linear(), x, 0, method="lime", **{**params, "features": 1}), labels)
    assert fewer.nonzero().flatten().tolist() == [1]


@DIMS
def test_each_half_has_the_map_of_its_own_half(dims):
    """f = g(left) + h(right): with no penalty and no selection the left map is g's."""
    x = setting(dims)[1]
    space, labels = tuple(x.shape[1:]), blocks(x.shape[1:], 2)
    params = {"segments": labels, "samples": 3000, "features": None, "alpha": 1e-9, "fill": 0.0}  # merged to 2^4 or 2^8
    whole, left = (pl.explain(Halves(space, o), x, 1, method="lime", **params).values for o in (None, 0))
    at = space[-1] // 2
    assert float((whole - left)[..., :at].abs().max()) < 0.03 * float(left.abs().max())
    assert float(left[..., at:].abs().max()) < 0.03 * float(left.abs().max())
    assert float(whole[..., at:].abs().max()) > 0.1 * float(whole.abs().max())


def test_several_fills_give_the_mean():
    net, x = setting(2)
    params = {"segments": blocks(x.shape[1:]), "samples": 30, "features": None}
    both = explained(net, x, "lime", fill="black_and_white", **params)
    parts = [explained(net, x, "lime", fill=f, **params).values for f in (0.0, 1.0)]
    close(both.values, (parts[0] + parts[1]) / 2)
    assert both.provenance.forward == 1 + 2 * (len(both.trace["scores"]) - 1)


def test_what_cannot_be_is_refused():
    net, x = setting(2)
    with pytest.raises(BadSite, match="lime explains the image only"):
        explained(net, x, "lime", site="first")
    with pytest.raises(BadParameter, match="at least two segments"):
        explained(net, x, "lime", segments=torch.zeros(12, 10, dtype=torch.int64))
    with pytest.raises(BadParameter, match="hides something"):
        explained(net, x, "lime", segments=torch.arange(120).view(12, 10))
    with pytest.raises(BadParameter, match="one cut"):
        explained(net, x, "lime", segments="slic(4, 9)")


def test_too_few_samples_are_told():
    net, x = setting(2)
    why = explained(net, x, "lime", segments=blocks(x.shape[1:], 4), samples=10)
    assert any("too few" in c for c in why.provenance.caveats)
