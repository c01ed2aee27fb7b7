"""Readers' boxes and points as truth; maps as annotators whose proposals are measured."""

import math

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadGrid, BadParameter
from pellucid.evidence import localization as loc
from pellucid.grid import Grid
from pellucid.image import Image


def map_of(relevance, grid=None, scan_grid=None):
    """A map whose relevance is given: input times gradient of a linear network."""
    shape = tuple(relevance.shape)
    net = nn.Sequential(nn.Flatten(), nn.Linear(relevance.numel(), 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([-relevance.flatten(), relevance.flatten()]).float())
    return pl.explain(net, Image(torch.ones(1, *shape), grid or Grid(shape)), 1, method="input_x_gradient")


# ---------------------------------------------------------------- boxes and points
def test_boxes_are_slices_in_samples():
    mask = loc.boxes([(1, 2, 4, 5), (6, 0, 8, 1)]).mask(Grid((8, 9))).values[0]
    wanted = torch.zeros(8, 9)
    wanted[1:4, 2:5] = wanted[6:8, 0:1] = 1
    assert torch.equal(mask, wanted)
    assert torch.equal(
        loc.boxes([(2, 1, 3, 3)], form="xywh").mask(Grid((8, 9))).values[0], loc.boxes([(1, 2, 4, 5)]).mask(Grid((8, 9))).values[0]
    )
    assert int(loc.boxes([(1, 1, 1, 3, 4, 2)]).mask(Grid((5, 5, 5))).values.sum()) == 6


def test_boxes_in_mm_and_of_another_grid_are_the_same_place():
    scan = Grid.spaced((20, 30, 10), (1.0, 1.0, 3.0))
    coarse = scan.resize((10, 15, 10))
    drawn = loc.boxes([(4, 6, 2, 10, 12, 5)], grid=scan)
    assert int(drawn.mask(scan).values.sum()) == 6 * 6 * 3
    assert torch.equal(drawn.mask(coarse).values[0] > 0, drawn.mask(scan).on(coarse, nearest=True).values[0] > 0)
    world = loc.boxes([(3.5, 5.5, 4.5, 9.5, 11.5, 13.5)], unit="mm")
    assert torch.equal(world.mask(scan).values, drawn.mask(scan).values)
    turned = scan.permute((2, 0, 1), (True, False, False))
    assert torch.equal(world.mask(turned).values[0], world.mask(scan).values[0].permute(2, 0, 1).flip(0))


def test_a_box_smaller_than_a_sample_marks_the_nearest_and_one_beyond_is_refused():
    grid = Grid.spaced((10, 10), (2.0, 2.0))
    tiny = loc.boxes([(6.2, 8.1, 6.6, 8.3)], unit="mm").mask(grid).values[0]
    assert tiny.nonzero().tolist() == [[3, 4]]
    with pytest.raises(BadGrid, match="inside the grid"):
        loc.boxes([(50, 50, 52, 52)], unit="mm").mask(grid)
    with pytest.raises(BadGrid, match="samples"):
        loc.boxes([(0, 0, 1, 1)], unit="mm").mask(Grid((4, 4)))
    for wrong in ([], [(3, 3, 2, 5)], [(1, 2, 3)], [(0, 0, 1, 1), (0, 0, 0, 1, 1, 1)]):
        with pytest.raises(BadParameter):
            loc.boxes(wrong)
    for unknown in ([(2, 3, 4, 10, 10, 10)], [(1, 2, 3)]):
        with pytest.raises(BadParameter, match="column, row, width, height"):
            loc.boxes(unknown, form="xywh")


def test_points_are_balls_in_the_patient():
    grid = Grid.spaced((11, 11, 5), (1.0, 1.0, 4.0))
    ball = loc.points([(5, 5, 2)], radius="3mm").mask(grid).values[0]
    assert [int(ball[..., k].sum()) for k in range(5)] == [0, 0, 29, 0, 0], "the next slice is 4 mm away"
    assert int(loc.points([(5, 5, 2)], radius="1px").mask(grid).values.sum()) == 7
    assert loc.points([(5.0, 5.0, 8.0)], unit="mm").mask(grid).values[0].nonzero().tolist() == [[5, 5, 2]]
    with pytest.raises(BadGrid):
        loc.points([(30, 5, 2)]).mask(grid)


def test_readers_side_by_side():
    grid = Grid.spaced((20, 20), (0.5, 0.5))
    given = {"A": loc.boxes([(2, 2, 6, 6)]), "B": loc.boxes([(2, 4, 6, 8)]), "C": torch.zeros(20, 20)}
    seen = loc.readers(given, grid)
    assert int(seen.union.values.sum()) == 24
    assert int(seen.majority.values.sum()) == 8
    assert seen.human == pytest.approx((0.5 + 0 + 0) / 3)
    hot = torch.zeros(20, 20)
    hot[3, 3] = 1.0
    rows = {r["reader"]: r for r in seen.compare(map_of(hot, grid))}
    assert rows["A"]["hit"] is True
    assert rows["B"]["hit"] is False
    assert rows["B"]["distance"] == pytest.approx(0.5)
    assert rows["C"]["hit"] is None, "who marked nothing is neither hit nor missed"
    assert rows["A"]["human"] == pytest.approx(0.25)
    assert [r["hit"] for r in seen.compare(map_of(hot, grid), tolerance=0.5)] == [True, True, None]
    with pytest.raises(BadParameter):
        loc.readers({}, grid)
    with pytest.raises(BadGrid):
        loc.readers({"A": torch.zeros(5, 5)}, grid)


def test_the_mean_mask_of_other_patients():
    grid = Grid((6, 6))
    mean = loc.mean_mask([loc.boxes([(0, 0, 2, 2)]), loc.boxes([(0, 0, 1, 1)])], grid)
    assert mean[0, 0] == 1
    assert mean[1, 1] == 0.5
    assert float(mean.sum()) == 2.5


# ---------------------------------------------------------------- proposals
def two_spots(shape, spacing):
    hot, d = torch.zeros(shape), len(shape)
    hot[tuple(slice(2, 5) for _ in shape)] = 1.0
    hot[tuple(slice(8, 10) for _ in shape)] = 0.9
    return map_of(hot, Grid.spaced(shape, spacing)), d


@pytest.mark.parametrize(("shape", "spacing"), [((14, 15), (0.5, 2.0)), ((12, 13, 14), (1.0, 1.0, 2.5))])
@pytest.mark.parametrize("kind", ["boxes", "mask"])
def test_proposals_are_the_parts_best_first_in_the_patients_units(shape, spacing, kind):
    why, d = two_spots(shape, spacing)
    found = pl.propose(why, kind)
    assert [p.start for p in found.found] == [(2,) * d, (8,) * d]
    assert [p.stop for p in found.found] == [(5,) * d, (10,) * d]
    voxel = math.prod(spacing)
    assert [p.size for p in found.found] == pytest.approx([3**d * voxel, 2**d * voxel])
    total = 3**d + 0.9 * 2**d
    assert [p.score for p in found.found] == pytest.approx([3**d / total, 0.9 * 2**d / total])
    assert len(pl.propose(why, kind, smallest=2**d * voxel + 1e-6)) == 1
    truth = found.mask
    same = loc.proposal_iou(found, truth)
    assert same.value == 1
    assert same.detail["found"] == same.detail["right"] == 1
    assert same.status == "pass"
    first = torch.zeros(shape)
    first[tuple(slice(2, 5) for _ in shape)] = 1
    half = loc.proposal_iou(found, first)
    assert half.value == pytest.approx(3**d / (3**d + 2**d))
    assert (half.detail["found"], half.detail["right"]) == (1.0, 0.5)
    assert loc.proposal_iou(found, torch.zeros(shape)).status == "void"


def test_what_is_not_there_is_not_met():
    why, _ = two_spots((14, 15), (1.0, 1.0))
    truth = torch.zeros(14, 15)
    truth[11:13, 1:3] = 1
    m = loc.proposal_iou(pl.propose(why), truth)
    assert m.value == 0
    assert m.status == "fail"
    assert m.detail["best"] == [0.0]
    with pytest.raises(BadGrid):
        loc.proposal_iou(pl.propose(why), torch.zeros(3, 3))


def test_blur_joins_grains_and_quantiles_bound_the_area():
    g = torch.Generator().manual_seed(0)
    grains = torch.zeros(40, 40)
    grains[10:22, 12:26] = (torch.rand(12, 14, generator=g) > 0.6).float()
    why = map_of(grains + 1e-3 * torch.rand(40, 40, generator=g))
    assert len(pl.propose(why)) > 1
    joined = pl.propose(why, smooth="2px")
    assert len(joined) == 1
    truth = loc.boxes([(10, 12, 22, 26)]).mask(Grid((40, 40)))
    assert loc.proposal_iou(joined, truth).value > 0.75
    top = pl.propose(why, "mask", quantile=0.9, smooth="2px")
    assert float(top.mask.values.mean()) == pytest.approx(0.1, abs=0.01)


def test_proposals_lie_on_the_scan_and_are_written(tmp_path):
    why, _ = two_spots((12, 13, 14), (1.0, 1.0, 2.5))
    found = pl.propose(why, "mask")
    labels = pl.read(found.save(tmp_path / "found.nii.gz"))
    assert labels.grid.shape == (12, 13, 14)
    assert sorted(labels.values.unique().tolist()) == [0, 1, 2]
    assert loc.proposal_iou(found, (labels.values[0] > 0).float()).value == 1
    text = found.save(tmp_path / "found.csv").read_text().splitlines()
    assert text[0].startswith("number,i start")
    assert len(text) == 3
    center = dict(zip(text[0].split(","), text[1].split(","), strict=True))
    assert (float(center["x"]), float(center["z"])) == (3.0, 7.5)


def test_wrong_questions_are_refused():
    why, _ = two_spots((14, 15), (1.0, 1.0))
    for wrong in (
        {"kind": "circles"},
        {"threshold": "half"},
        {"threshold": 1.5},
        {"quantile": 2.0},
        {"smooth": -1.0},
        {"of": "some"},
        {"on": "screen"},
    ):
        with pytest.raises(BadParameter):
            pl.propose(why, **wrong)
    with pytest.raises(BadParameter, match="positive"):
        pl.propose(map_of(-torch.rand(8, 8)))
