"""Kernel SHAP against Shapley values by their definition: the mean over all orders in which segments can be shown."""

import itertools
import math

import pytest
import torch
from tests.reference.cuts import Halves, blocks
from tests.reference.plain import close, explained, score, setting
from tests.reference.test_lime import per_segment

import pellucid as pl
from pellucid.errors import BadSite
from pellucid.ops.coalitions import shapley_rows

DIMS = pytest.mark.parametrize("dims", [2, 3])


def values_of(net, x, labels, fill):
    """The score of every subset of segments, shown on the fill."""
    parts = int(labels.max()) + 1
    known = {}
    for shown in itertools.product([False, True], repeat=parts):
        image = torch.full_like(x, fill)
        for k in range(parts):
            if shown[k]:
                image[:, labels == k] = x[:, labels == k]
        known[shown] = score(net, image)
    return known


def by_orders(known, parts):
    found = torch.zeros(parts, dtype=torch.float64)
    for order in itertools.permutations(range(parts)):
        shown = [False] * parts
        for k in order:
            before = known[tuple(shown)]
            shown[k] = True
            found[k] += (known[tuple(shown)] - before) / math.factorial(parts)
    return found


def by_subsets(known, parts):
    found = torch.zeros(parts, dtype=torch.float64)
    for shown, value in known.items():
        for k in range(parts):
            if not shown[k]:
                size = sum(shown)
                more = (*shown[:k], True, *shown[k + 1 :])
                found[k] += (known[more] - value) / (parts * math.comb(parts - 1, size))
    return found


@DIMS
def test_few_segments_are_exact(dims):
    net, x = setting(dims)
    labels = blocks(x.shape[1:])
    labels[labels > 4] = 4
    parts = int(labels.max()) + 1
    why = explained(net, x, "kernel_shap", segments=labels, fill=0.4, samples=1)
    close(per_segment(why, labels), by_orders(values_of(net, x, labels, 0.4), parts))
    assert why.trace["exact"] and why.provenance.forward == 2**parts


@DIMS
def test_seven_segments_are_exact(dims):
    net, x = setting(dims)
    labels = (torch.arange(x[0].numel()) * 7 // x[0].numel()).view(x.shape[1:])
    known = values_of(net, x, labels, 0.0)
    why = explained(net, x, "kernel_shap", segments=labels)
    close(per_segment(why, labels), by_subsets(known, 7))
    assert why.provenance.forward == 128


def test_many_segments_come_close_and_sum_exactly():
    net, x = setting(2)
    labels = (torch.arange(120) * 11 // 120).view(12, 10)
    truth = by_subsets(values_of(net, x, labels, 0.0), 11)
    errors = []
    for samples in (60, 700):
        why = explained(net, x, "kernel_shap", segments=labels, samples=samples)
        assert not why.trace["exact"] and why.provenance.forward <= samples + 2
        assert why.total == pytest.approx(score(net, x) - score(net, torch.zeros_like(x)), abs=1e-9)
        errors.append(float((per_segment(why, labels) - truth).abs().max() / truth.abs().max()))
    assert errors[1] < 0.02 and errors[1] < errors[0] < 0.5
    whole = explained(net, x, "kernel_shap", segments=labels, samples=2046)
    assert whole.trace["exact"]
    close(per_segment(whole, labels), truth)


def test_rows_come_in_pairs_once_each_with_the_kernels_weight():
    rows, weights, exact = shapley_rows(14, 300, torch.Generator().manual_seed(0))
    seen = {tuple(r) for r in rows.tolist()}
    assert not exact and len(seen) == len(rows) <= 300
    assert all(tuple(not s for s in r) in seen for r in seen)
    size = rows.sum(1)
    kernel = [13 / (k * (14 - k)) for k in range(1, 14)]
    for k in range(1, 14):
        share = float(weights[(size == k) | (size == 14 - k)].sum())
        wanted = (kernel[k - 1] + (kernel[13 - k] if k != 7 else 0)) / sum(kernel)
        assert share == pytest.approx(wanted, rel=1e-9 if k in (1, 13) else 0.5)
    assert float(weights.sum()) == pytest.approx(1)


@DIMS
def test_each_half_has_the_map_of_its_own_half(dims):
    """f = g(left) + h(right): Shapley values add, so the left map is g's, exactly."""
    x = setting(dims)[1]
    space, labels = tuple(x.shape[1:]), blocks(x.shape[1:])
    whole, left = (pl.explain(Halves(space, o), x, 1, method="kernel_shap", segments=labels).values for o in (None, 0))
    at = space[-1] // 2
    close(whole[..., :at], left[..., :at], 1e-9)
    assert float(left[..., at:].abs().max()) < 1e-9 < float(whole[..., at:].abs().max())


def test_a_hidden_site_is_refused():
    net, x = setting(2)
    with pytest.raises(BadSite, match="kernel_shap explains the image only"):
        explained(net, x, "kernel_shap", site="first")
