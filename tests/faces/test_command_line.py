"""The commands as a new user gives them, on scans that ship inside dependencies and with architectures the project does not know."""

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import pytest
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app, slug

run = CliRunner()

FACTORIES = """
import torch
from torch import nn

def flat(channels=1, classes=2):
    torch.manual_seed(0)
    from monai.networks.nets import DenseNet
    return DenseNet(spatial_dims=2, in_channels=channels, out_channels=classes, init_features=8, growth_rate=4, block_config=(2, 2))

def resnet(channels=3):
    torch.manual_seed(0)
    from torchvision.models import resnet18
    return resnet18(weights=None, num_classes=5)

def volume():
    torch.manual_seed(0)
    from monai.networks.nets import DenseNet
    return DenseNet(spatial_dims=3, in_channels=1, out_channels=3, init_features=8, growth_rate=4, block_config=(2, 2))

def unet():
    torch.manual_seed(0)
    from monai.networks.nets import UNet
    return UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,))
"""


@pytest.fixture
def factories(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORIES)
    return path


def explained(*args, ok=True):
    got = run.invoke(app, ["explain", *map(str, args), "--json"])
    if ok:
        assert got.exit_code == 0, got.output + str(got.exception or "")
        return json.loads(got.stdout)
    assert got.exit_code == 1, got.output
    return got.stderr


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm"])
def test_dicom_that_pydicom_ships(factories, tmp_path, name):
    scan = pydicom.data.get_testdata_file(name)
    out = tmp_path / "out"
    prepare = "resize=64, range=(0, 1)" + (", window=(40, 400)" if "MR" not in name else "")
    told = explained(
        scan, "--model", f"{factories}:flat", "--trust", "--prepare", prepare, "--method", "integrated_gradients(steps=8)",
        "--method", "grad_cam", "--target", "1", "--evidence", "none", "--out", out,
    )  # fmt: skip
    files = {Path(f).suffix for f in told["files"]}
    assert files == {".html", ".png", ".gz", ".npz"}
    original = pl.read(scan)
    for f in told["files"]:
        assert not re.search(r"(?i)small|693|j2ki", Path(f).name)  # no file name of the scan's
        if f.endswith(".nii.gz"):
            saved = nibabel.load(f)
            assert saved.shape[:2] == original.grid.shape
            assert np.allclose(saved.affine, original.grid.matrix, atol=1e-4)
        if f.endswith(".npz"):
            why = pl.load(f)
            assert why.grid.shape == ((64, 64) if "grad_cam" not in why.provenance.method else why.grid.shape)
            assert why.provenance.weights == told["maps"][0]["provenance"]["weights"]
    patient = pydicom.dcmread(scan)
    page = Path(told["files"][0]).read_text()
    for tag in ("PatientName", "PatientID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber"):
        value = str(patient.get(tag, ""))
        assert len(value) < 4 or value not in page + json.dumps(told), tag


def test_a_fundus_photograph_with_a_torchvision_network(factories, tmp_path):
    pytest.importorskip("torchvision")
    from PIL import Image as Picture
    from skimage.data import retina

    Picture.fromarray(retina()).save(tmp_path / "eye.png")
    told = explained(
        tmp_path / "eye.png", "--model", f"{factories}:resnet", "--trust", "--prepare", "resize=96, crop='center', range=(0, 1)",
        "--normalize", "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)", "--classes", "none,mild,moderate,severe,proliferative",
        "--target", "logit('severe') - logit('none')", "--method", "saliency", "--method", "occlusion(window='32px')",
        "--evidence", "none", "--out", tmp_path / "out",
    )  # fmt: skip
    assert told["maps"][0]["provenance"]["target"] == "logit('severe') - logit('none')"
    assert sum(told["maps"][0]["probabilities"]) == pytest.approx(1)
    assert {Path(f).suffix for f in told["files"]} == {".html", ".png", ".npz"}  # a picture without millimeters is no NIfTI


def test_the_mni_template_with_volume_networks(factories, tmp_path):
    from nilearn.datasets import load_mni152_template

    brain = load_mni152_template(resolution=4)
    brain.to_filename(tmp_path / "mni.nii.gz")
    told = explained(
        tmp_path / "mni.nii.gz", "--model", f"{factories}:volume", "--trust", "--prepare", "orientation='LPS', spacing=6, range=(0, 1)",
        "--method", "integrated_gradients(steps=4)", "--target", "2", "--evidence", "none", "--out", tmp_path / "a",
    )  # fmt: skip
    saved = nibabel.load(next(f for f in told["files"] if f.endswith(".nii.gz")))
    assert saved.shape == brain.shape
    assert np.allclose(saved.affine, brain.affine, atol=1e-4)
    told = explained(
        tmp_path / "mni.nii.gz", "--model", f"{factories}:unet", "--trust", "--prepare", "crop=(32, 32, 32), range=(0, 1)",
        "--output", "segmentation", "--method", "saliency", "--evidence", "none", "--out", tmp_path / "b",
    )  # fmt: skip
    assert told["maps"][0]["provenance"]["target"].startswith("region(")


def test_the_demo_explains_two_phantoms_with_a_verdict(tmp_path):
    got = run.invoke(app, ["demo", "--out", str(tmp_path)])
    assert got.exit_code == 0, got.output + str(got.exception or "")
    for kind in ("fundus", "brain"):
        page = (tmp_path / kind / "report.html").read_text()
        assert "http://" not in page.replace("http://www.w3.org", "")
    assert "supported" in got.stdout
    assert got.stdout.count("report:") == 2


def test_methods_are_listed_from_their_facts():
    rows = json.loads(run.invoke(app, ["methods", "--json"]).stdout)
    names = {r["name"] for r in rows}
    assert {"saliency", "integrated_gradients", "grad_cam", "occlusion", "rise", "blur_ig", "smooth"} <= names
    assert "integrated_gradients(baseline=" in run.invoke(app, ["methods"]).stdout


def test_a_phantom_is_written_with_masks_and_labels(tmp_path):
    got = run.invoke(app, ["phantom", "brain", "--out", str(tmp_path), "--with", "atrophy=True", "--seed", "3"])
    assert got.exit_code == 0, got.output
    files = {Path(line).name for line in got.stdout.split()}
    assert any(f.endswith(".nii.gz") for f in files)
    assert any("causal" in f for f in files)


@pytest.mark.parametrize(
    "args, says",
    [
        (["nowhere.dcm", "--model", "phantom:fundus_dme"], "nowhere.dcm"),
        (["{scan}", "--model", "{nets}:flat"], "--trust"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--target", "9"], "0 to 1"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--method", "integrated_gradient"], "Did you mean 'integrated_gradients'"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--method", "integrated_gradients(step=3)"], "steps"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--site", "featurs.conv0"], "features.conv0"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--evidence", "lots"], "standard"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--options", "channels=3", "--prepare", "resize=64"], "channels"),
        (["{scan}", "--model", "{nets}:flat", "--trust", "--prepare", "resize"], "name=value"),
        (["{nets}", "--model", "phantom:fundus_dme"], "nets.py"),
    ],
)
def test_errors_are_one_line_with_the_way_out(factories, tmp_path, args, says):
    scan = pydicom.data.get_testdata_file("MR_small.dcm")
    filled = [a.format(scan=scan, nets=factories) for a in args]
    told = explained(*filled, "--out", tmp_path / "out", ok=False)
    assert told.startswith("error: ")
    assert len(told.strip().splitlines()) == 1
    assert says in told
    assert not (tmp_path / "out").exists()


def test_file_names_tell_nothing_of_the_patient(tmp_path):
    import torch

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    why = pl.explain(pl.Model(net, classes=("no / disease", "Ebola (acute)")), torch.rand(1, 4, 4), "Ebola (acute)", method="saliency")
    assert re.fullmatch(r"[0-9a-f]{10}-logit-ebola-acute-saliency", slug(why))


def test_the_demo_opens_its_reports_where_there_is_a_desktop(tmp_path, monkeypatch):
    import webbrowser

    from pellucid.cli import showing

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    for desktop, reports in ((False, []), (True, ["fundus/report.html", "brain/report.html"])):
        monkeypatch.setattr(showing, "_desktop", lambda d=desktop: d)
        monkeypatch.setattr(showing, "explained_maps", lambda net, image, *_: [pl.explain(net, image, 1, method="saliency")])
        showing.demo(out=str(tmp_path / str(desktop)), evidence="none", look=True)
        assert [o.split("/True/")[-1] for o in opened] == reports
