"""XRAI against its algorithm, region by region with plain masks; its own regions against scikit-image's dilation."""

import pytest
import torch
from skimage.morphology import dilation, disk
from tests.reference.cuts import Halves, blocks
from tests.reference.plain import close, explained, gradient, setting

import pellucid as pl
from pellucid.features.segments import scales
from pellucid.ops.regions import widened

DIMS = pytest.mark.parametrize("dims", [2, 3])


def slowly(relevance, masks, least):
    """Take the mask whose new samples have the highest mean, until none adds ``least`` samples."""
    covered, out, masks = torch.zeros_like(relevance, dtype=torch.bool), torch.zeros_like(relevance), list(masks)
    while True:
        masks = [m for m in masks if int((m & ~covered).sum()) >= least]
        if not masks:
            break
        gains = [float(relevance[m & ~covered].mean()) for m in masks]
        best = masks.pop(gains.index(max(gains)))
        out[best & ~covered] = max(gains)
        covered |= best
    if not covered.all():
        out[~covered] = relevance[~covered].mean()
    return out


def scaled(space):
    """Two cuts whose regions overlap."""
    fine = blocks(space, 3)
    shifted = (blocks(space, 2) + torch.arange(space[0]).view(-1, *[1] * (len(space) - 1)) // 5) % 5
    return [fine, shifted]


def masks_of(cuts):
    return [labels == k for labels in cuts for k in range(int(labels.max()) + 1)]


@DIMS
@pytest.mark.parametrize("channels", ["max", "sum"])
@pytest.mark.parametrize("least", [0.0, 0.08])
def test_xrai(dims, channels, least):
    net, x = setting(dims)
    cuts = scaled(tuple(x.shape[1:]))
    ours = explained(net, x, "xrai", inner="saliency", segments=cuts, channels=channels, least=least)
    g = gradient(net, x)
    relevance = g.amax(0) if channels == "max" else g.sum(0)
    close(ours.values[0], slowly(relevance, masks_of(cuts), max(1, round(least * relevance.numel()))))
    close(ours.trace["inner"][0], relevance)
    assert ours.total == pytest.approx(float(relevance.sum())), "the sum is kept"
    ranks = ours.trace["ranks"]
    assert ranks.min() == 1
    tops = [float(ours.values[0][ranks == r].mean()) for r in ranks.unique().tolist() if r <= len(ours.trace["density"])]
    assert tops == sorted(tops, reverse=True)


def test_parts_that_no_region_covers_get_their_mean():
    net, x = setting(2)
    labels = torch.arange(120).view(12, 10)
    labels[4:] = 1000
    ours = explained(net, x, "xrai", inner="saliency", segments=labels, least=0.05)
    g = gradient(net, x).amax(0)
    assert float((ours.values[0][:4] - g[:4].mean()).abs().max()) < 1e-12
    assert int(ours.trace["ranks"].max()) == 2


@DIMS
def test_each_half_has_the_map_of_its_own_half(dims):
    """f = g(left) + h(right), regions that do not cross the middle: the left map is g's."""
    x = setting(dims)[1]
    space, labels = tuple(x.shape[1:]), blocks(x.shape[1:], 2)
    params = {"inner": "integrated_gradients(steps=8)", "segments": labels, "channels": "sum"}
    whole, left = (pl.explain(Halves(space, o), x, 1, method="xrai", **params).values for o in (None, 0))
    at = space[-1] // 2
    close(whole[..., :at], left[..., :at], 1e-9)
    assert float(left[..., at:].abs().max()) == 0 < float(whole[..., at:].abs().max())


@DIMS
def test_any_base_and_a_hidden_site(dims):
    net, x = setting(dims)
    cuts = scaled(tuple(x.shape[1:]))
    at_site = explained(net, x, "grad_cam", site="second", relu=False)
    ours = explained(net, x, "xrai", inner="grad_cam(relu=False)", site="second", segments=cuts)
    assert ours.grid == ours.image.grid
    close(ours.values[0], slowly(at_site.on(ours.grid).values[0], masks_of(cuts), 1), 1e-7)


@DIMS
def test_own_regions(dims):
    """Cut at several scales, widened by 5/224 of the shortest side."""
    net, x = setting(dims)
    ours = explained(net, x, "xrai", inner="saliency", widen="2px")
    grid = ours.image.grid
    regions = [r for labels in scales(dims).labels(x, grid) for r in widened(labels, [2.0] * dims)]
    masks = []
    for r in regions:
        masks.append(torch.zeros(x[0].numel(), dtype=torch.bool))
        masks[-1][torch.from_numpy(r)] = True
    slow = slowly(gradient(net, x).amax(0), [m.view(grid.shape) for m in masks], 1)
    close(ours.values[0], slow)


def test_widening_is_the_authors_dilation_and_isotropic_in_mm():
    labels = blocks((40, 36), 3)
    for k, region in enumerate(widened(labels, [5.0, 5.0])):
        wide = torch.zeros(40 * 36, dtype=torch.bool)
        wide[torch.from_numpy(region)] = True
        assert torch.equal(wide.view(40, 36), torch.from_numpy(dilation((labels == k).numpy(), disk(5))))
    one = torch.ones(21, 21, 21, dtype=torch.int64)
    one[10, 10, 10] = 0
    at = torch.from_numpy(widened(one, [6.0, 3.0, 0.5])[0])
    reach = [int((at // s % 21 - 10).abs().max()) for s in (441, 21, 1)]
    assert reach == [6, 3, 0]
