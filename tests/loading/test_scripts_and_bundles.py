"""TorchScript, MONAI bundles and the phantoms' networks."""

import json
import re
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.loading.nets import Bomb, small
from torch import nn

import pellucid as pl
from pellucid.errors import BadFile, BadModel, Unsupported, Untrusted
from pellucid.loading import load_model
from pellucid.loading.bundle import bundle_facts


def scripted(net, path, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, x), path)
    return path


@pytest.mark.parametrize("name", ["net.ts", "net.pt"])
def test_torchscript_gives_gradients_and_says_what_it_cannot(tmp_path, name):
    path = scripted(small(2), tmp_path / name, torch.rand(2, 1, 9, 9))
    with pytest.raises(Untrusted, match=r"TorchScript.*sha256 [0-9a-f]{64}.*--trust"):
        load_model(path)
    model, x = load_model(path, trust="code", classes=("a", "b")), torch.rand(1, 9, 9)
    why = pl.explain(model, x, target="b", method="integrated_gradients", steps=8)
    assert torch.allclose(why.values, pl.explain(small(2), x, target=1, method="integrated_gradients", steps=8).values, atol=1e-5)
    assert any("gradients and scores only" in c for c in why.provenance.caveats)
    with pytest.raises(Unsupported, match="TorchScript"):
        pl.explain(model, x, target=0, method="saliency", site="blocks")


def test_broken_torchscript(tmp_path):
    whole = scripted(small(2), tmp_path / "net.ts", torch.rand(2, 1, 9, 9))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "cut.ts", "w") as new:
        for n in old.namelist():
            new.writestr(n, old.read(n)[:20])
    with pytest.raises(BadFile, match="cut.ts"):
        load_model(tmp_path / "cut.ts", trust="code")


# ---------------------------------------------------------------------------------------------------- bundles
NETWORK = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
METADATA = {
    "name": "Toy", "version": "0.1", "task": "toy segmentation",
    "network_data_format": {
        "inputs": {"image": {"type": "image", "num_channels": 1, "spatial_shape": [16, 16], "value_range": [0, 1], "modality": "CT"}},
        "outputs": {"pred": {"type": "image", "num_channels": 3, "channel_def": {"0": "background", "1": "liver", "2": "tumor"}}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def unet():
    from monai.networks.nets import UNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(**{k: v for k, v in NETWORK.items() if k != "_target_"}).eval()


@pytest.fixture
def bundle(tmp_path, unet):
    root = tmp_path / "toy"
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    (root / "configs/metadata.json").write_text(json.dumps(METADATA))
    spy = "$__import__('pathlib').Path('" + str(tmp_path / "handlers") + "').touch()"
    config = {"imports": ["$import pathlib"], "width": 3, "network_def": {**NETWORK, "out_channels": "@width"}, "handlers": spy}
    (root / "configs/inference.json").write_text(json.dumps(config))
    torch.save(unet.state_dict(), root / "models/model.pt")
    return root


def test_metadata_is_data(bundle):
    facts = bundle_facts(bundle)
    assert facts["classes"] == ("background", "liver", "tumor") and facts["value_range"] == [0, 1] and facts["num_channels"] == 1
    with pytest.raises(BadFile, match=re.escape("metadata.json")):
        bundle_facts(bundle / "models")


@pytest.mark.parametrize("form", ["folder", "zip", "zip of a folder"])
def test_a_bundle_runs_only_with_the_users_word(bundle, unet, tmp_path, form):
    if form == "folder":
        source = bundle
    else:
        base = {"zip": None, "zip of a folder": bundle.name}[form]
        source = shutil.make_archive(str(tmp_path / "packed"), "zip", bundle if base is None else bundle.parent, base)
    with pytest.raises(Untrusted, match=r"network_def.*sha256 [0-9a-f]{64}.*--trust"):
        load_model(source)
    model = load_model(source, trust="code")
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(model.module(x), unet(x)) and not model.module.training
    assert model.classes == ("background", "liver", "tumor") and model.range == (0.0, 1.0) and model.name == "Toy"
    assert set(model.source["sha256"]) == {"inference.json", "model.pt"} and model.source["kind"] == "MONAI bundle"
    assert not (tmp_path / "handlers").exists()  # only the network is built
    assert pl.explain(model, x[0], target=pl.region("tumor", mask=torch.ones(16, 16)), method="saliency").values.shape == (1, 16, 16)


def test_bundle_with_other_weights_and_arguments(bundle, unet, tmp_path):
    state = {k: v * 2 if v.is_floating_point() else v for k, v in unet.state_dict().items()}
    save_file(state, tmp_path / "other.safetensors")
    model = load_model(bundle, weights=tmp_path / "other.safetensors", trust="code", classes=("x", "y", "z"))
    assert torch.equal(next(model.module.parameters()), 2 * next(unet.parameters())) and model.classes == ("x", "y", "z")
    with pytest.raises(BadModel, match=r"shapes|missing|unexpected"):
        load_model(bundle, trust="code", options={"out_channels": 5})
    torch.save({"state_dict": unet.state_dict(), "x": Bomb(tmp_path / "ran")}, bundle / "models/model.pt")
    with pytest.raises(Untrusted, match="unsafe-pickle"):
        load_model(bundle, trust="code")
    assert not (tmp_path / "ran").exists()


def test_bundles_that_lack_a_part(bundle, unet):
    (bundle / "models/model.pt").unlink()
    with pytest.raises(BadFile, match=re.escape("models/model.pt")):
        load_model(bundle, trust="code")
    scripted(unet, bundle / "models/model.ts", torch.rand(1, 1, 16, 16))
    with pytest.raises(Untrusted, match="TorchScript"):
        load_model(bundle)
    model = load_model(bundle, trust="code")
    assert isinstance(model.module, torch.jit.ScriptModule) and model.classes[1] == "liver"
    torch.save(unet.state_dict(), bundle / "models/model.pt")
    (bundle / "configs/inference.json").write_text(json.dumps({"network_def": {"_target_": "no.such.Net"}}))
    with pytest.raises(BadModel, match=re.escape("inference.json")) as error:
        load_model(bundle, trust="code")
    assert "\n" not in str(error.value)
    (bundle / "configs/metadata.json").unlink()
    with pytest.raises(BadFile, match="MONAI bundle"):
        load_model(bundle, trust="code")


# ---------------------------------------------------------------------------------------------------- phantoms
def test_phantom_networks_are_data(tmp_path, monkeypatch):
    from pellucid.phantoms import nets

    net = nets.build("fundus_dme", seed=3)
    save_file(net.state_dict(), tmp_path / "fundus_dme.safetensors")
    (tmp_path / "fundus_dme.json").write_text(json.dumps({"auc": [0.99]}))
    monkeypatch.setattr(nets, "WEIGHTS", tmp_path)
    model = load_model("phantom:fundus_dme")
    assert model.classes == ("no DME", "DME") and model.name == "phantom:fundus_dme" and isinstance(model.module, nn.Module)
    assert list(model.source["sha256"]) == ["fundus_dme.safetensors"] and model.source["trust"] == "data"
    assert torch.equal(next(model.module.parameters()), next(net.parameters()))
    with pytest.raises(BadModel, match="weights="):
        load_model("phantom:fundus_dme", weights=tmp_path / "w.pt")
    with pytest.raises(ValueError, match="fundus_dme"):
        load_model("phantom:fundus_xyz")
    assert np.isfinite(next(net.parameters()).detach().numpy()).all()
