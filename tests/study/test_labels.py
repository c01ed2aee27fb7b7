"""Labels: each is a class of the network or is refused where it stands; an unusable mask costs only what needs it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

import pellucid as pl
from pellucid.cli.telling import tell
from pellucid.errors import BadParameter
from pellucid.study import Study, read_cases, tables


class Bright(nn.Module):
    """The brighter a picture, the more it is of the last of ``k`` classes."""

    def __init__(self, k=2):
        super().__init__()
        self.k = k
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, x):
        z = self.conv(x).mean((1, 2, 3)) / 100
        return torch.stack([z * j for j in range(self.k)], 1) if self.k > 1 else z - 0.5


def table(folder, labels, masks=None, targets=None):
    """A picture for each label, each brighter than the last; and masks as files."""
    rows = [("image", "mask", "label", "target")]
    for n, label in enumerate(labels):
        values = np.arange(64).reshape(8, 8) + 20 * n
        Picture.fromarray(values.astype(np.uint8)).save(folder / f"{n}.png")
        rows.append((f"{n}.png", masks[n] if masks else "", label, targets[n] if targets else ""))
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return read_cases(folder / "cases.csv")


def study(folder, labels, classes=("none", "DR"), k=2, *, metrics=("gini",), target=None, **more):
    made = table(folder, labels, **more)
    net = pl.Model(Bright(k), classes=classes)
    return Study(folder / "s", net, made, ["input_x_gradient"], list(metrics), target=target or (0 if k == 1 else 1), controls=())


GOOD = ["none", "DR", "none", "DR"]


@pytest.mark.parametrize(
    ("wrong", "classes", "said"),
    [
        ("dr", ("none", "DR"), "Did you mean 'DR'"),
        ("Retinopathy", ("none", "DR"), "Correct it"),
        ("7", ("none", "DR"), "an index from 0 to 1"),
        ("-1", (), "an index from 0 to 1"),
        ("DR", (), "an index from 0 to 1"),
        ("0.5", ("none", "DR"), "'0.5'"),
        ("DR;dr", ("none", "DR"), "'dr'"),
        ("\u00b2", ("none", "DR"), "a class"),
        ("0", ("1", "2"), "a class ('1', '2'), or 'none';"),
    ],
)
def test_a_label_that_is_no_class_is_refused_by_its_line(tmp_path, wrong, classes, said):
    good = [classes[0], classes[1]] if classes else ["0", "1"]
    s = study(tmp_path, [*good, "", wrong, good[1]], classes)
    with pytest.raises(BadParameter) as error:
        s.run()
    assert "line 5 of cases.csv" in str(error.value)
    assert said in str(error.value)
    assert all(v != v for v in s.values("gini")["input_x_gradient"]), "nothing is measured"
    with pytest.raises(BadParameter, match="line 5"):
        tables.performance(s)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (GOOD, ("none", "DR")),
        (["0", "1", "0", "1"], ("none", "DR")),
        (["0.0", "1.0", "0.0", "1.0"], ("none", "DR")),
        (["0", "1", "0", "1"], ()),
        (["1", "2", "1", "2"], ("1", "2")),
        (["1.0", "2.0", "1", "2"], ("1", "2")),
    ],
)
def test_ways_to_write_the_same_truth_give_the_same_performance(tmp_path, labels, classes):
    """A number is a class's name first."""
    found = tables.performance(study(tmp_path, labels, classes).run())
    assert found["AUC"] == (0.75,)
    assert found["class"] == ((classes or "01")[1],)


def test_three_grades_with_numbers_for_names(tmp_path):
    found = tables.performance(study(tmp_path, ["1", "2", "3", "3"], ("1", "2", "3"), 3).run())
    assert dict(zip(found["class"], found["AUC"], strict=True))["3"] == 1.0


@pytest.mark.parametrize("labels", [["0", "0", "1", "1"], ["none", "none", "DR", "DR"], [";", ";", "DR", "DR"]])
def test_of_one_output_one_says_that_it_is_true(tmp_path, labels):
    found = tables.performance(study(tmp_path, labels, ("DR",), 1).run())
    assert found["class"] == ("DR",)
    assert found["AUC"] == (1.0,)


def test_a_line_is_the_line_of_the_file(tmp_path):
    table(tmp_path, ["none"])
    (tmp_path / "cases.csv").write_text('image,label,note\n0.png,none,"two\nlines"\n\n0.png,x,\n')
    assert [c.where for c in read_cases(tmp_path / "cases.csv")] == ["line 3 of cases.csv", "line 5 of cases.csv"]


def test_an_unusable_mask_costs_only_what_needs_it(tmp_path):
    binary, labels = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    binary[:4], labels[:4], labels[4:] = 255, 1, 2
    Picture.fromarray(binary).save(tmp_path / "binary.png")
    Picture.fromarray(labels).save(tmp_path / "labels.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    masks = ["binary.png", "labels.png", "broken.png", "binary.png"]
    s = study(tmp_path, GOOD, masks=masks, metrics=["gini", "roc_auc"]).run()
    assert [v == v for v in s.values("gini")["input_x_gradient"]] == [True] * 4
    assert [v == v for v in s.values("roc_auc")["input_x_gradient"]] == [True, False, False, True]
    assert [p[:6] for p in s.problems] == ["case 2", "case 3"]
    assert "one label" in s.problems[0]
    assert len(s.missing()) == 2 and s.missing()[0] == "case 2: no roc_auc of input_x_gradient"
    s.cases[0] = pl.study.StudyCase(s.cases[0].image, mask=torch.ones(5, 5))  # of another shape: known once the picture is prepared
    s.run()
    assert [v == v for v in s.values("gini")["input_x_gradient"]] == [True] * 4
    assert s.problems[0].startswith("case 1: ") and "grid" in s.problems[0]
    Picture.fromarray(binary).save(tmp_path / "labels.png")
    s.run()
    assert s.values("roc_auc")["input_x_gradient"][1] == 0, "mended, it counts"


def test_whose_note_it_is(capsys):
    eye = pl.phantoms.fundus(seed=3, dme=True, size=64)
    net = pl.load_model("phantom:fundus_dme")
    black, gray = (pl.explain(net, eye.image, "DME", method=pl.integrated_gradients(steps=2, baseline=b)) for b in ("black", 0.5))
    plain = pl.explain(net, eye.image, "DME", method="saliency")
    tell([plain, black, gray], [Path("report.html")], as_json=False, labels=["plain", "black", "gray"])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    for label, why in (("plain", plain), ("black", black), ("gray", gray)):
        told = {said for whose, _, said in (n.partition(": ") for n in notes) if whose == "note" or label in whose}
        assert told == set(why.provenance.caveats), label
    assert any(n.startswith("note on ") for n in notes)
