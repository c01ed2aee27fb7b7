"""``pellucid examine``, ``study`` and ``metrics`` as a person calls them."""

import csv
import json

import pytest
import torch
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app
from pellucid.errors import BadParameter

STUDY = """
[model]
load = "phantom:fundus_dme"
[cases]
phantom = "fundus_dme"
n = 2
[ask]
target = "DME"
metrics = ["gini", "effective_size"]
controls = ["random"]
[ask.methods]
"Grad-CAM" = "grad_cam"
"gradient" = "saliency"
"""


def call(*args):
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    home = tmp_path_factory.mktemp("maps")
    eye = pl.phantoms.fundus(seed=3, dme=True)
    net = pl.load_model("phantom:fundus_dme")
    for name in ("grad_cam", "saliency"):
        pl.explain(net, eye.image, "DME", method=name).save(home / f"{name}.npz")
    return home


def test_saved_maps_are_examined_with_their_own_question(saved, tmp_path):
    found = call("examine", saved / "saliency.npz", "--model", "phantom:fundus_dme", "--out", tmp_path, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)["maps"][0]["evidence"]
    assert told["verdict"]
    again = next(m for m in told["measurements"] if m["name"] == "repetition")
    assert again["value"] > 0.999, "the map's own question, asked again"
    assert (tmp_path / "report.html").exists()


def test_saved_maps_are_measured_beside_controls(saved, tmp_path):
    args = ("--metric", "gini", "--metric", "deletion", "--level", "none", "--out", tmp_path)
    found = call("examine", saved / "grad_cam.npz", saved / "saliency.npz", "--model", "phantom:fundus_dme", *args)
    assert found.exit_code == 0, found.output
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert {r["map"] for r in rows} >= {"grad_cam", "saliency", "random", "center", "edges", "saliency, shuffled"}
    value = {(r["map"], r["metric"]): float(r["value"]) for r in rows}
    assert value["grad_cam", "deletion"] > value["random", "deletion"] + 0.2
    assert "deletion" in found.output


def test_a_map_of_another_network_does_not_pass(saved, tmp_path):
    found = call("examine", saved / "saliency.npz", "--model", "phantom:fundus_dr", "--out", tmp_path)
    assert found.exit_code == 1
    assert "the network that the map is about; got other weights" in found.stderr


def test_a_study_from_its_file(tmp_path):
    (tmp_path / "eyes.toml").write_text(STUDY)
    found = call("study", "run", tmp_path / "eyes.toml")
    assert found.exit_code == 0, found.output
    assert "Grad-CAM" in found.output
    assert (tmp_path / "eyes" / "study.html").exists()
    rows = list(csv.DictReader((tmp_path / "eyes" / "table.csv").read_text().splitlines()))
    assert {r["metric"] for r in rows} == {"gini", "effective_size"}
    table = call("study", "table", tmp_path / "eyes.toml", "--metric", "gini", "--against", "random")
    assert "p adjusted" in table.output
    assert call("study", "show", tmp_path / "eyes.toml", "--out", tmp_path / "page.html").exit_code == 0
    wrong = call("study", "table", tmp_path / "eyes.toml", "--metric", "deletion")
    assert wrong.exit_code == 1
    assert "a metric of the study" in wrong.stderr


def test_metrics_are_listed_from_their_facts():
    rows = json.loads(call("metrics", "--json").stdout)
    assert {r["name"] for r in rows} == {m.name for m in pl.metrics()}
    assert next(r for r in rows if r["name"] == "model_randomization")["ranks"] is False


def test_a_saved_map_is_not_measured_with_other_weights(tmp_path):
    def net(seed: int) -> pl.Model:
        torch.manual_seed(seed)
        return pl.Model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)), classes=("a", "b"))

    torch.manual_seed(0)
    scan = pl.Image(torch.rand(1, 8, 8), pl.Grid((8, 8)))
    back = pl.load(pl.explain(net(0), scan, "b", method="saliency").save(tmp_path / "m.npz"))
    assert len(pl.grade(net(0), scan, back, ["gini"], controls=())) == 1
    for ask in (lambda n: pl.examine(n, scan, back), lambda n: pl.grade(n, scan, back, ["gini"], controls=())):
        with pytest.raises(BadParameter, match=f"the network that the map is about; got other weights .*{back.provenance.weights[:12]}"):
            ask(net(1))


def test_a_saved_map_is_not_measured_with_other_names_or_another_scale(tmp_path):
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    told = {"classes": ("1", "2", "3"), "normalize": pl.Normalize(0.4, 0.2)}
    scan = pl.Image(torch.rand(1, 8, 8), pl.Grid((8, 8)))
    back = pl.load(pl.explain(pl.Model(body, **told), scan, "1", method="saliency").save(tmp_path / "m.npz"))
    assert len(pl.grade(pl.Model(body, **told), scan, back, ["gini"], controls=())) == 1
    changes = [
        {"classes": ()}, {"classes": ("2", "1", "3")}, {"normalize": None}, {"normalize": pl.Normalize(0.4, 0.3)}, {"output": "multi-label"},
        {"range": (0, 2)}, {"select": ()},
    ]  # fmt: skip
    for changed in changes:
        other = pl.Model(body, **{**told, **changed})
        for ask in (lambda n: pl.examine(n, scan, back), lambda n: pl.grade(n, scan, back, ["gini"], controls=())):
            with pytest.raises(BadParameter, match="described as it was when the map was made"):
                ask(other)
    for was, now in (
        ({}, {"normalize": pl.Normalize(0.4, 0.2)}),
        ({"range": (0, 2)}, {}),
        ({"output": "multi-label"}, {"output": "logits"}),
    ):
        made = pl.load(pl.explain(pl.Model(body, **was), scan, 1, method="saliency").save(tmp_path / "n.npz"))
        with pytest.raises(BadParameter, match="; the map was made with "):
            pl.grade(pl.Model(body, **now), scan, made, ["gini"], controls=())
    made = pl.load(pl.explain(pl.Model(body, prepare=pl.Prepare(range=(0, 1))), scan, 1, method="saliency").save(tmp_path / "r.npz"))
    for ask in (
        lambda n: pl.examine(n, scan, made, ask=pl.ask("saliency", target=1)),
        lambda n: pl.grade(n, scan, made, ["gini"], controls=()),
    ):
        with pytest.raises(BadParameter, match="another prepare; the map was made with Prepare"):
            ask(pl.Model(body))
    bare = pl.Model(body, normalize=told["normalize"])
    plain = pl.load(pl.explain(bare, scan, 1, method="saliency").save(tmp_path / "p.npz"))
    assert len(pl.grade(pl.Model(body, **told), scan, plain, ["gini"], controls=())) == 1, "an index is an index"
