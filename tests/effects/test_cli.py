"""``pellucid effects`` and ``pellucid tree`` on tables: what they write, what they refuse to run."""

import csv
import json
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.effects import Effect

runner = CliRunner()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    data = load_breast_cancer()
    x, words = data.data[:120, [0, 1, 4]], data.target_names[data.target[:120]]
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "radius", "texture", "smoothness", "diagnosis"])
        writer.writerows([[f"Doe {k // 2}", *map(repr, map(float, row)), word] for k, (row, word) in enumerate(zip(x, words))])
    fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(x, words)
    (folder / "tree.pkl").write_bytes(pickle.dumps(fitted))
    return folder


def asked(*words):
    found = runner.invoke(app, [str(w) for w in words])
    return found.exit_code, " ".join(found.output.split())


def test_a_curve_with_everything_in_a_folder(place, tmp_path):
    more = ["--model", place / "tree.pkl", "--patient", "patient", "--without", "diagnosis", "--target", "malignant", "--grid", 5]
    code, said = asked("effects", "curve", place / "rows.csv", *more, "--column", "radius", "--unsafe-pickle", "--out", tmp_path / "out")
    assert code == 0 and "120 cases of 60 patients" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "effects.html",
        "table.csv",
        "figure.svg",
        "sentences.txt",
        "curve.json",
        "curve.safetensors",
    }
    found = Effect.load(tmp_path / "out" / "curve.json")
    assert found.score == "probability of 'malignant'" and found.values[-1] > found.values[0]
    assert not any(b"Doe" in p.read_bytes() for p in (tmp_path / "out").iterdir())
    code, said = asked("effects", "curve", place / "rows.csv", *more, "--column", "radius", "--kind", "ale", "--unsafe-pickle", "--json")
    assert code == 0 and json.loads(said)["how"] == "accumulated"


def test_importance_interactions_and_surrogate(place):
    more = ["--model", place / "tree.pkl", "--patient", "patient", "--unsafe-pickle", "--target", "malignant"]
    code, said = asked(
        "effects", "importance", place / "rows.csv", *more, "--truth", "diagnosis", "--repeats", 2, "--group", "size=radius,texture"
    )
    assert code == 0 and "size" in said and "Loss of AUC" in said
    code, said = asked("effects", "interactions", place / "rows.csv", *more, "--without", "diagnosis", "--cases", 10)
    assert code == 0 and "radius x texture" in said
    code, said = asked("effects", "surrogate", "--rows", place / "rows.csv", *more, "--without", "diagnosis", "--form", "linear")
    assert code == 0 and "on patients not fitted on" in said


def test_a_tree_as_a_page(place, tmp_path):
    more = ["--rows", place / "rows.csv", "--without", "patient", "--without", "diagnosis", "--depth", 2, "--out", tmp_path / "tree.svg"]
    code, said = asked("tree", place / "tree.pkl", "--unsafe-pickle", *more)
    assert code == 0 and "If radius" in said and (tmp_path / "tree.svg").read_text().startswith("<svg")


def test_a_file_that_would_run_needs_the_user_s_word(place, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    for words in (
        ("tree", tmp_path / "evil.pkl"),
        ("effects", "curve", place / "rows.csv", "--model", tmp_path / "evil.pkl", "--column", "radius"),
    ):
        code, said = asked(*words, "--trust")
        assert code == 1 and "--unsafe-pickle" in said and "sha256" in said
    assert not (tmp_path / "ran").exists()


def test_skops_files(place, tmp_path):
    skops = pytest.importorskip("skops.io")
    skops.dump(pickle.loads((place / "tree.pkl").read_bytes()), tmp_path / "tree.skops")
    code, said = asked("tree", tmp_path / "tree.skops")
    assert code == 1 and "sklearn.tree._tree.Tree" in said and "--trust" in said
    assert asked("tree", tmp_path / "tree.skops", "--trust")[0] == 0


def test_a_network_on_features_of_images(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for k in range(22):
        tone = rng.uniform(0.1, 0.9)
        Image.fromarray((255 * np.clip(tone + 0.05 * rng.normal(size=(16, 16)), 0, 1)).astype(np.uint8)).save(
            tmp_path / "images" / f"{k:02}.png"
        )
    (tmp_path / "net.py").write_text(
        "import torch\n\ndef make():\n    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 2))\n"
        "    net[2].weight.data = torch.tensor([[-4.0], [4.0]]); net[2].bias.data = torch.tensor([2.0, -2.0])\n    return net\n"
    )
    more = [
        "--model",
        f"{tmp_path / 'net.py'}:make",
        "--trust",
        "--classes",
        "dark,bright",
        "--target",
        "bright",
        "--feature",
        "first_order",
    ]
    code, said = asked("effects", "surrogate", "--images", tmp_path / "images", *more, "--form", "linear", "--columns", 1)
    assert code == 0 and "first_order.mean" in said and "R² 1.00" in said


def test_refusals(place, tmp_path):
    more = ["--model", place / "tree.pkl", "--unsafe-pickle"]
    for words, told in (
        (["effects", "curve", place / "rows.csv", *more, "--column", "radius", "--kind", "pdf"], "pdp, ice"),
        (["effects", "curve", place / "rows.csv", *more, "--column", "radius"], "fitted on 5 columns"),
        (["effects", "curve", place / "none.csv", *more, "--column", "radius"], "a table of rows"),
        (["effects", "importance", place / "rows.csv", *more, "--truth", "diagnosis", "--group", "size"], "name=column"),
        (["effects", "surrogate", *more], "either --rows or --images"),
    ):
        code, said = asked(*words)
        assert code == 1 and told in said, said
