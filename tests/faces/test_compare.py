"""compare, crop_and_zoom, their figures and the command: what is shared, what is put back where, what the colors say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import pellucid as pl
from pellucid import phantoms
from pellucid.cli import app
from pellucid.errors import BadFile, BadParameter
from pellucid.ops.similarity import spearman


def net(dims=2, seed=0, classes=("healthy", "ill")):
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2)
        )
    return pl.Model(body, classes=classes)


def image(*shape, seed=1):
    values = torch.rand((1, *shape), generator=torch.Generator().manual_seed(seed))
    return pl.Image(values, pl.Grid.spaced(shape, (0.5,) * len(shape)))


@pytest.mark.parametrize("shape", [(16, 20), (10, 9, 8)])
def test_every_map_is_what_explain_gives(shape):
    model, scan = net(len(shape)), image(*shape)
    methods = ["saliency", "integrated_gradients(steps=4)", "grad_cam"]
    found = pl.compare(model, scan, methods, target=["ill", "healthy"])
    assert found.labels == tuple(f"{m.split('(')[0]}, {t}" for t in ("ill", "healthy") for m in methods)
    for label, why in zip(found.labels, found, strict=True):
        method, target = methods[["saliency", "integrated_gradients", "grad_cam"].index(label.split(",")[0])], label.split(", ")[1]
        assert torch.allclose(why.values, pl.explain(model, scan, target, method=method).values, atol=1e-6)
    table = found.table()
    assert table["sum"] == tuple(w.total for w in found)
    assert table["forward"] == tuple(w.provenance.forward for w in found)
    a, b = found["saliency, ill"], found["grad_cam, healthy"]
    expected = spearman(a.relevance, b.on(scan.grid).relevance)
    assert next(iter(table))["like grad_cam, healthy"] == pytest.approx(expected, abs=1e-9)
    assert torch.allclose(found.correlations.diagonal(), torch.ones(6, dtype=torch.float64))


def test_passes_are_shared_between_targets_and_the_predicted_class_is_found_once():
    seen = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net().module

        def forward(self, x):
            seen.append(len(x))
            return self.inner(x)

    scan, run = image(12, 12), pl.Run(chunk=8)
    pl.compare(Counting(), scan, "integrated_gradients(steps=8)", target=[0, 1], run=run)
    both, _ = sum(seen), seen.clear()
    pl.compare(Counting(), scan, "integrated_gradients(steps=8)", target=[0], run=run)
    alone, _ = sum(seen), seen.clear()
    assert both <= alone + 2
    found = pl.compare(Counting(), scan, ["saliency", "input_x_gradient", "integrated_gradients(steps=2)"], run=run)
    assert len({w.provenance.target for w in found}) == 1
    assert sum(w.provenance.setup for w in found) <= 2 + 2  # one for the class; the chunk is checked at both ends once


def test_two_networks_and_baselines_stand_side_by_side():
    he, oct_ = net(seed=0), net(seed=5)
    found = pl.compare(he, image(12, 12), ["integrated_gradients(steps=4)", "saliency"], target="ill", models={"oct": oct_})
    assert [w.provenance.model for w in found] == ["Sequential"] * 2 + ["oct"] * 2
    assert found.labels[3] == "saliency, oct"
    assert not torch.allclose(found[1].values, found[3].values)
    again = pl.compare(he, image(12, 12), "saliency", target="ill", models=[oct_])
    assert again.labels == ("saliency, Sequential 1", "saliency, Sequential 2")
    starts = pl.compare(he, image(12, 12), ["integrated_gradients(steps=4)", "saliency"], target="ill", baselines=["black", "white", 0.2])
    assert starts.labels == (
        "integrated_gradients(baseline='black')", "integrated_gradients(baseline='white')",
        "integrated_gradients(baseline=Constant(value=0.2))", "saliency",
    )  # fmt: skip
    with pytest.raises(BadParameter, match="takes a baseline"):
        pl.compare(he, image(12, 12), "saliency", target="ill", baselines=["black"])


def test_the_figure_fixes_zero_and_replaces_only_figures(tmp_path):
    from PIL import Image as Picture

    model, scan = net(), image(24, 24)
    found = pl.compare(model, scan, ["saliency", "grad_cam"], target=["ill", "healthy"])
    path = found.figure(tmp_path / "figure.png")
    first = np.asarray(Picture.open(path))
    assert first.shape[1] > 3 * 260  # a row for each target, the scan before it
    assert np.array_equal(first, np.asarray(Picture.open(found.figure(path))))
    (tmp_path / "mine.png").write_bytes(b"a picture of somebody else's")
    with pytest.raises(BadFile):
        found.figure(tmp_path / "mine.png")
    with pytest.raises(BadFile, match="png"):
        found.figure(tmp_path / "figure.svg")
    with pytest.raises(BadParameter, match="blue-orange"):
        found.figure(tmp_path / "b.png", palette="jet")


def test_volumes_are_cut_at_one_place_for_all_maps(tmp_path):
    found = pl.compare(net(3), image(10, 9, 8), ["saliency", "input_x_gradient"], target=1)
    tiles, columns = found._tiles()
    assert columns == 2
    assert len({t.at for t in tiles}) == 1
    assert all(t.image is found.frame for t in tiles)
    assert found.figure(tmp_path / "volume.png").exists()


def one_spot(sign):
    class Spot(nn.Module):
        def forward(self, x):
            score = sign * x[:, 0, 20, 20]
            return torch.stack([-score, score], 1)

    return Spot()


def marks(path):
    """Whether white plus or minus signs stand at the spot: rows and columns of full white around it."""
    from PIL import Image as Picture

    drawn = np.asarray(Picture.open(path).convert("RGB")).astype(int)
    ink = (np.abs(drawn - np.array([232, 236, 242])).sum(-1) < 12)[:, 545:1040][40:540]  # the map's panel without the scale
    return ink.any(), ink.sum(0).max() >= 8, ink.sum(1).max() >= 8


@pytest.mark.parametrize("sign", [1, -1])
def test_green_and_red_always_carry_a_sign(tmp_path, sign):
    why = pl.explain(one_spot(sign), image(40, 40), 1, method="saliency")
    why.save(tmp_path / "a.png")
    assert not marks(tmp_path / "a.png")[0]
    why.save(tmp_path / "b.png", palette="green-red")
    some, upright, level = marks(tmp_path / "b.png")
    assert some
    assert level
    assert upright == (sign > 0)  # a plus has an upright stroke, a minus none


class Bright(nn.Module):
    """Scores the brightest half of its own frame; knows nothing of where it lies in the scan."""

    def forward(self, x):
        score = (x.relu() ** 2).mean((1, 2, 3))
        return torch.stack([-score, score], 1)


def test_parts_are_put_back_where_they_were_cut():
    values = torch.zeros(1, 40, 40)
    values[0, 24, 30] = 1.0
    scan = pl.Image(values, pl.Grid.spaced((40, 40), (0.25, 0.25)))
    found = pl.crop_and_zoom(Bright(), scan, 1, method="saliency", zooms=[2, 4], crops=[2], center=(24, 28))
    assert found.labels == ("whole", "zoom 2", "zoom 4", "crop 2")
    assert [tuple(m.image.grid.shape) for m in found] == [(40, 40), (40, 40), (40, 40), (20, 20)]
    assert found[1].image.grid.spacing == pytest.approx((0.125, 0.125))
    for values in found.framed:
        assert divmod(int(values.argmax()), 40) == (24, 30)
    assert float(found.framed[2][:10].abs().max()) == 0  # outside of the part nothing is said
    assert found.correlations[0, 3] == pytest.approx(1, abs=1e-6)  # the same slopes, in the common part, up to a factor
    with pytest.raises(BadParameter, match="above 1"):
        pl.crop_and_zoom(Bright(), scan, 1, zooms=[0.5])
    with pytest.raises(BadParameter, match="center"):
        pl.crop_and_zoom(Bright(), scan, 1, center=(50, 1))


def test_a_prepared_network_puts_its_parts_back_too():
    case = phantoms.fundus(seed=3, size=64, dme=True)
    model = pl.Model(pl.load_model("phantom:fundus_dme").module, prepare=pl.Prepare(resize=48))
    found = pl.crop_and_zoom(model, case.image, method="saliency", zooms=[1.6])
    assert found.frame.grid.shape == (48, 48)
    assert len({m.provenance.target for m in found}) == 1
    covered = found.framed[1] != 0
    assert 0.3 < float(covered.float().mean()) < 0.45  # (1 / 1.6) ** 2


def test_volumes_can_be_cropped_and_zoomed(tmp_path):
    found = pl.crop_and_zoom(net(3), image(10, 9, 8), 0, method="saliency", zooms=[1.5], crops=[1.5])
    assert found.figure(tmp_path / "parts.png").exists()
    assert found[2].image.grid.shape == (7, 6, 5)


def test_the_command_writes_figure_table_maps_and_report(tmp_path):
    np.save(tmp_path / "eye.npy", phantoms.fundus(seed=7, size=64, dme=True).image.values.numpy())
    args = [
        "compare", str(tmp_path / "eye.npy"), "--model", "phantom:fundus_dme", "--method", "saliency", "--method", "grad_cam",
        "--target", "DME", "--target", "no DME", "--palette", "green-red", "--out", str(tmp_path / "out"), "--json",
    ]  # fmt: skip
    got = CliRunner().invoke(app, args)
    assert got.exit_code == 0, got.output + str(got.exception or "")
    told = json.loads(got.stdout)
    names = {Path(f).name for f in told["files"]}
    assert {"report.html", "comparison.png", "comparison.csv"} <= names
    assert told["labels"] == ["saliency, DME", "grad_cam, DME", "saliency, no DME", "grad_cam, no DME"]
    assert len((tmp_path / "out/comparison.csv").read_text().splitlines()) == 5
    wrong = CliRunner().invoke(app, [*args[:4], "--weights", "a", "--weights", "b", "--out", str(tmp_path / "none")])
    assert wrong.exit_code == 1
    assert "same order" in wrong.stderr
