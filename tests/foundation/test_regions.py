"""by_region: masses add up, sizes are the patient's, coarse maps keep their sum."""

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadGrid, BadImage, BadParameter


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        score = (x * self.weight).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


def explained(weight, spacing):
    image = pl.Image(torch.ones(1, *weight.shape, dtype=torch.float64), pl.Grid.spaced(weight.shape, spacing))
    return pl.explain(Weighted(weight.double()), image, 1, method="input_x_gradient")


@pytest.mark.parametrize("spacing", [(0.5, 2.0), (1.0, 1.5, 3.0)])
def test_masses_and_densities_are_those_of_the_formula(spacing):
    shape = (8, 6) if len(spacing) == 2 else (8, 6, 4)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.zeros(shape)
    labels[:4], labels[4:6, :3] = 1, 7
    why = explained(weight, spacing)
    table = pl.by_region(why, labels, {1: "cortex", 7: "thalamus"})
    rows = {r["label"]: r for r in table}
    voxel = torch.tensor(spacing).prod().item()
    assert set(rows) == {0, 1, 7}
    assert rows[7]["region"] == "thalamus" and rows[0]["region"] == "no label"
    assert rows[1]["unit"] == ("mm^2" if len(spacing) == 2 else "mm^3")
    for k, row in rows.items():
        inside = labels == k
        assert row["size"] == pytest.approx(int(inside.sum()) * voxel)
        assert row["mass"] == pytest.approx(float(weight[inside].sum()))
        assert row["density"] == pytest.approx(row["mass"] / row["size"])
        assert row["share"] == pytest.approx(row["mass"] / float(weight.abs().sum()))
    by_density = sorted((1, 7), key=lambda k: -abs(rows[k]["density"]))
    assert [r["label"] for r in table] == [*by_density, 0]
    assert (rows[by_density[0]]["rank"], rows[by_density[1]]["rank"], rows[0]["rank"]) == (1, 2, None)
    positive = {r["label"]: r["mass"] for r in pl.by_region(why, labels, of="positive")}
    assert positive[1] == pytest.approx(float(weight[:4].clamp_min(0).sum()))
    assert sum(pl.by_region(why, labels, of="absolute")["share"]) == pytest.approx(1)


def test_labels_may_lie_on_any_grid_and_beyond_them_there_is_no_label():
    weight = torch.ones(8, 8)
    why = explained(weight, (1.0, 1.0))
    fine = why.grid.crop((0, 0), (8, 4)).resize((32, 16))
    left = pl.Image(torch.full((1, 32, 16), 3.0), fine)
    rows = {r["label"]: r for r in pl.by_region(why, left)}
    assert rows[3]["mass"] == pytest.approx(32)
    assert rows[3]["region"] == "3"
    assert rows[0]["mass"] == pytest.approx(32)
    turned = left.permute((1, 0), (True, False))
    assert {r["label"]: r["mass"] for r in pl.by_region(why, turned)} == {r["label"]: r["mass"] for r in pl.by_region(why, left)}


@pytest.mark.parametrize("shape", [(20, 18), (12, 10, 9)])
def test_a_coarse_map_is_spread_and_keeps_its_sum(shape):
    conv = nn.Conv2d if len(shape) == 2 else nn.Conv3d
    pool = nn.AdaptiveAvgPool2d if len(shape) == 2 else nn.AdaptiveAvgPool3d
    net = nn.Sequential(conv(1, 3, 5, 4, 2), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(3, 2)).requires_grad_(False)
    with torch.no_grad():
        net[0].weight.uniform_(0, 1)
    image = pl.Image(torch.rand((1, *shape), generator=torch.Generator().manual_seed(2)), pl.Grid.spaced(shape, (1.0,) * len(shape)))
    why = pl.explain(net, image, 1, method="hires_cam")
    assert why.grid.voxel > image.grid.voxel
    labels = torch.ones(shape)
    labels[..., shape[-1] // 2 :] = 2
    table = pl.by_region(why, labels, ["left", "right"])
    assert sum(table["mass"]) == pytest.approx(why.total, rel=1e-6)
    assert sum(table["size"]) == pytest.approx(image.values.numel())
    assert all(abs(m) > 0 for m in table["mass"])  # no region falls between the cells


def test_what_is_no_label_is_refused():
    why = explained(torch.ones(4, 4), (1.0, 1.0))
    with pytest.raises(BadImage, match="whole numbers"):
        pl.by_region(why, torch.full((4, 4), 0.5))
    with pytest.raises(BadImage, match="one channel"):
        pl.by_region(why, torch.ones(2, 4, 4))
    with pytest.raises(BadParameter, match="signed"):
        pl.by_region(why, torch.ones(4, 4), of="mass")
    with pytest.raises(BadGrid):
        pl.by_region(why, pl.Image(torch.ones(1, 4, 4)))  # pixels over millimeters


def test_a_table_is_read_by_people_and_programs():
    table = pl.Table(("a", "b"), ((1, "x|y"), (0.123456, None)))
    assert str(table).splitlines()[2] == "| 1 | x\\|y |"
    assert table.csv() == "a,b\n1,x|y\n0.123456,\n"
    with pytest.raises(KeyError, match="there are a, b"):
        table["c"]
    with pytest.raises(BadParameter):
        pl.Table(("a",), ((1, 2),))
