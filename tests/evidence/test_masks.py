"""A mask on another grid: no finding is lost in silence, areas stay, what lies off the picture is told."""

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadGrid, BadImage
from pellucid.evidence.masks import components, laid
from pellucid.grid import Grid
from pellucid.image import Image


def grid(shape, spacing, start=None):
    """Sample 0 reaches from ``start`` (0) on along each axis, so that grids of one field of view share their edges."""
    matrix = np.eye(4)
    for a, s in enumerate(spacing):
        matrix[a, a], matrix[a, 3] = s, (0 if start is None else start[a]) + s / 2
    return Grid(tuple(shape), matrix, "mm") if len(shape) == 3 else Grid(tuple(shape), matrix)


def marked(where, own):
    values = torch.zeros(own.shape)
    for place in where:
        values[place] = 1
    return Image(values[None], own)


def test_lesions_smaller_than_a_sample_of_the_map_stay():
    """Nearest sampling kept the large one alone: two of three microaneurysms were gone, and every number was of another truth."""
    fine, coarse = grid((64, 64), (1, 1)), grid((16, 16), (4, 4))
    big, tiny, far = (slice(20, 28), slice(20, 28)), (41, 41), (50, 50)
    found = laid(marked([big, tiny, far], fine), coarse)
    assert found.values[5:7, 5:7].all() and found.values[10, 10] and found.values[12, 12]
    assert int(found.values.sum()) == 6
    assert (found.inside, found.parts, found.lost, found.note) == (1, 3, 0, "")
    assert found.area == pytest.approx(6 * 16 / 66)
    alone = laid(marked([tiny], fine), coarse)
    assert alone.values.nonzero().tolist() == [[10, 10]], "it said: check their frames of reference"


@pytest.mark.parametrize("seed", range(4))
def test_no_finding_is_lost_and_large_areas_stay(seed):
    """Random blobs in 3D onto slices that are thicker and turned against them."""
    g = np.random.default_rng(seed)
    own, turn = grid((40, 44, 36), (1, 1, 1)), np.eye(4)
    angle = 0.3 * seed
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = turn @ np.diag([1.5, 2.0, 4.0, 1])
    matrix[:3, 3] = [20, 22, 18] - matrix[:3, :3] @ [30, 30, 10]
    there = Grid((60, 60, 20), matrix, "mm")
    where = [tuple(slice(c, c + n) for c, n in zip(g.integers(6, 24, 3), g.integers(1, 9, 3), strict=True)) for _ in range(6)]
    mask = marked(where, own)
    found = laid(mask, there)
    assert found.lost == 0 and found.inside == 1
    back = np.linalg.inv(there.matrix) @ own.matrix
    numbered, boxes = components(mask.values[0] > 0)
    for k in range(len(boxes)):
        at = np.argwhere(numbered == k + 1) @ back[:3, :3].T + back[:3, 3]
        seen = np.floor(at + 0.5).astype(int)
        assert found.values[tuple(seen.T)].any(), "every finding has a sample that it lies in"
    large = laid(marked([(slice(8, 30), slice(8, 34), slice(6, 30))], own), there)
    assert large.area == pytest.approx(1, abs=0.25), "half a sample at each rim at most"


def test_onto_a_finer_grid_it_is_the_nearest_sample():
    coarse, fine = grid((8, 9), (4, 4)), grid((32, 36), (1, 1))
    mask = marked([(slice(2, 4), 3), (7, 8)], coarse)
    found = laid(mask, fine)
    assert torch.equal(found.values, mask.on(fine, nearest=True, fill=0.0).values[0] > 0.5)
    assert found.area == pytest.approx(1) and found.note == ""


@pytest.mark.parametrize(("start", "found", "inside"), [(11, 3, 0.3), (16, 3, 0.3), (10, 3, 0.3), (18.4, 2, 0.16), (7.7, 1, 0.07)])
def test_thick_slices_on_a_thin_scan(start, found, inside):
    """A scan inside of a finding, between the centers of the mask's slices, was said to overlap with nothing."""
    thick, thin = grid((32, 32, 4), (1, 1, 10)), grid((32, 32, 3), (1, 1, 1), start=(0, 0, start))
    laid_there = laid(marked([(slice(10, 20), slice(10, 20), 1)], thick), thin)
    assert int(laid_there.values.sum()) == 100 * found
    assert laid_there.inside == pytest.approx(inside)
    assert (laid_there.parts, laid_there.lost) == (1, 0), "its samples are marked"
    assert f"{1 - inside:.0%} of the mask lies off the picture, and is not counted." == laid_there.note
    two = laid(marked([(5, 5, 1), (20, 20, 3)], thick), thin)
    assert two.lost == 1 and two.parts == 2
    with pytest.raises(BadGrid, match="overlaps"):
        laid(marked([(5, 5, 3)], thick), thin)
    same = grid((32, 32, 40), (1, 1, 1))
    assert laid(marked([(5, 5, 1), (20, 20, 3)], thick), same).note == ""


def test_what_lies_off_the_picture_is_told_in_the_measurement():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 256, 2)).eval()
    own, aside = grid((16, 16), (1, 1)), grid((16, 16), (1, 1), start=(8, 8))
    image = Image(torch.rand(1, 16, 16), own)
    why = pl.explain(net, image, target=1, method="saliency")
    mask = marked([(slice(0, 12), slice(0, 12)), (15, 15)], aside)
    told = pl.grade(net, image, {"m": why}, ["roc_auc", "pointing_game"], mask=mask, controls=())
    for name in ("roc_auc", "pointing_game"):
        m = told["m", name]
        assert "56% of the mask lies off the picture, 1 of its 2 findings with it, and is not counted." in m.text
        assert m.detail["mask inside"] == pytest.approx(64 / 145) and m.detail["findings lost"] == 1
    whole = pl.grade(net, image, {"m": why}, ["roc_auc"], mask=marked([(slice(2, 5), 3)], own), controls=())["m", "roc_auc"]
    assert "off the picture" not in whole.text and "mask inside" not in whole.detail
    with pytest.raises(BadGrid, match="overlaps"):
        laid(mask, grid((16, 16), (1, 1), start=(50, 50)))
    with pytest.raises(BadImage, match="one channel"):
        laid(Image(torch.zeros(2, 16, 16), aside), own)


def test_chance_is_that_of_lying_inside():
    """It said of a peak outside: 'a random point does so in 0.2%', where a random point lies outside in 99.8 %."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2, bias=False)).eval()
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[1, 17] = 2
    mask = torch.zeros(16, 16)
    mask[12, 12] = 1
    x = torch.ones(1, 16, 16)
    out = pl.grade(net, x, ["saliency"], ["pointing_game"], target=1, mask=mask, controls=())["saliency", "pointing_game"]
    assert out.value == 0
    assert "lies outside the mask; a random point lies inside in 0.4%" in out.text
    mask[1, 1] = 1
    hit = pl.grade(net, x, ["saliency"], ["pointing_game"], target=1, mask=mask, controls=())["saliency", "pointing_game"]
    assert "lies inside the mask; a random point lies inside in 0.8%" in hit.text
