"""Real trained networks on real scans; skipped by name where the folder of scans is missing."""

import importlib.util
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from studies.inside import enrichment
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # of the loaders
]


@pytest.fixture(scope="module")
def load(realdata):
    spec = importlib.util.spec_from_file_location("loaders", realdata("loaders.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_retinopathy_lies_in_the_lesions(load, realdata):
    from PIL import Image as Picture

    net = pl.Model(load.drnet(), classes=("none", "retinopathy"), normalize=pl.Normalize(0.35, 0.25), range=(0, 1))
    found = []
    for name in ("IDRiD_03", "IDRiD_10"):
        picture = Picture.open(realdata(f"fundus-idrid/images/{name}.jpg")).convert("RGB").resize((256, 256), Picture.BILINEAR)
        x = torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy()).float() / 255
        masks = [pl.read(f) for f in Path(realdata("fundus-idrid/masks")).glob(f"{name}_*.png") if "_OD" not in f.name]
        lesion = torch.stack([m.on(m.grid.resize((256, 256))).values.sum(0) > 64 for m in masks]).any(0)
        why = pl.explain(net, x, "retinopathy", method="integrated_gradients", baseline="black", steps=32)
        assert abs(why.trace["gap"]) < 0.05 * abs(why.trace["change"])
        found.append(enrichment(why.relevance, lesion))
    assert min(found) > 1.5, found


def test_vessels_come_from_vessels(load, realdata):
    realdata("fundus-drive")
    x, truth, _ = load.drive(1)
    net = pl.Model(load.wnet(), classes=("vessel",), output="segmentation")
    why = pl.explain(net, x, pl.region("vessel"), method="saliency", absolute=True)
    assert enrichment(why.relevance, torch.from_numpy(truth)) > 2


def test_a_hippocampus_is_seen_at_the_hippocampus(load, realdata):
    realdata("brain-t1")
    volume, aseg = load.t1()
    scan = pl.read(realdata("brain-t1/t1.nii.gz")).with_values(volume)
    side = np.argwhere(aseg == 17)  # the left one
    start = [int(a) - 8 for a in side.min(0)]
    stop = [int(b) + 9 for b in side.max(0)]
    net = pl.Model(
        load.meshnet(), classes=tuple(load.meshnet_labels()), output="segmentation", prepare=lambda image: image.crop(start, stop)
    )
    truth = torch.from_numpy(aseg[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == 17)
    why = pl.explain(net, scan, pl.region("Hippocampus"), method="saliency", absolute=True)
    assert enrichment(why.relevance, truth) > 1.5
    on_scan = why.on(scan.grid)
    peak = np.unravel_index(int(on_scan.relevance.argmax()), on_scan.grid.shape)
    assert all(a <= p < b for p, a, b in zip(peak, start, stop, strict=True))


NETS = """
def volume():
    import torch
    from monai.networks.nets import DenseNet
    torch.manual_seed(0)
    return DenseNet(spatial_dims=3, in_channels=1, out_channels=2, init_features=8, growth_rate=4, block_config=(2, 2))
"""


def test_the_series_gets_its_map_voxel_for_voxel(realdata, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    series = realdata("dicom-mr")
    got = CliRunner().invoke(
        app,
        ["explain", str(series), "--model", f"{tmp_path / 'nets.py'}:volume", "--trust", "--prepare", "spacing=4, range=(0, 1)",
         "--method", "integrated_gradients(steps=4)", "--target", "1", "--evidence", "none", "--out", str(tmp_path / "out"), "--json"],
    )  # fmt: skip
    assert got.exit_code == 0, got.output + str(got.exception or "")
    files = json.loads(got.stdout)["files"]
    saved, scan = nibabel.load(next(f for f in files if f.endswith(".nii.gz"))), pl.read(series)
    assert saved.shape == scan.grid.shape
    assert np.allclose(saved.affine, scan.grid.matrix, atol=1e-3)
    why = pl.load(next(f for f in files if f.endswith(".npz")))
    assert np.allclose(np.asanyarray(saved.dataobj), why.on(scan.grid).relevance.numpy(), atol=1e-6)
    peak = np.unravel_index(int(why.relevance.argmax()), why.grid.shape)
    there = nibabel.affines.apply_affine(np.linalg.inv(saved.affine), why.grid.world(peak))
    assert float(np.abs(there - np.round(there)).max()) <= 0.5 + 1e-6
    assert np.isclose(np.asanyarray(saved.dataobj)[tuple(np.round(there).astype(int))], float(why.relevance.max()), rtol=0.2)
