"""Agreement with an expert: every kind of finding against every kind of expectation; a figure that says so without color too."""

from dataclasses import replace

import pytest
import torch

from pellucid.concepts import ConceptBank, agreement, matrix_figure, read_expected, tcav
from pellucid.concepts.figure import LOOKS, judged, told
from pellucid.errors import BadFile, BadParameter


@pytest.fixture(scope="module")
def found():
    noise = torch.rand(134, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    bank = ConceptBank.of({"bright": list(noise[:6] + 1), "dark": list(noise[6:12] - 1)}, random=list(noise[12:128]))
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.Flatten(), torch.nn.Linear(36, 2, bias=False))
    net[0].weight.data.fill_(1.0)
    net[2].weight.data[0], net[2].weight.data[1] = -0.1, 0.1
    return tcav(net, bank, list(noise[128:]), [0, 1], sites=["0"])


def test_what_agrees_and_what_contradicts(found):
    table = agreement(found, {"class 1": {"bright": True, "dark": False}, "class 0": {"bright": True}})
    told = {(r["concept"], r["target"]): r["agreement"] for r in table}
    assert told == {
        ("bright", "class 1"): "agrees", ("dark", "class 1"): "as expected",
        ("bright", "class 0"): "contradicts", ("dark", "class 0"): "no opinion",
    }  # fmt: skip
    assert agreement(found, {("bright", "class 1"): True}).rows[0][-1] == "no opinion"


@pytest.mark.parametrize(
    "verdict,wanted,said",
    [
        ("raises", True, "agrees"), ("raises", False, "contradicts"), ("raises", None, "no opinion"),
        ("lowers", True, "contradicts"), ("lowers", False, "as expected"),
        ("no more than random", True, "not seen"), ("no more than random", False, "as expected"),
        ("not told apart", True, "not tested"), ("too few random sets", False, "not tested"),
    ],
)  # fmt: skip
def test_every_finding_against_every_expectation(found, verdict, wanted, said):
    assert judged(replace(found.rows[0], verdict=verdict), wanted) == said


def test_the_figure_says_it_without_color(found, tmp_path):
    figure = matrix_figure(found, {"class 1": {"bright": True, "dark": False}, "class 0": {"bright": True}}, tmp_path / "m.png", title="t")
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    marks = [t.get_text() for at in figure.axes for t in at.texts]
    assert sorted(marks) == ["", "✓", "✓", "✗"]
    assert len({(mark, hatch) for _, mark, hatch in LOOKS.values()}) == len(LOOKS), "a mark and a hatch tell all looks apart"
    heights = [p.get_height() for p in figure.axes[0].patches]
    assert any(h == pytest.approx(found.rows[0].score - 0.5) for h in heights)


def test_what_cannot_be_is_told(found, tmp_path):
    with pytest.raises(BadParameter, match="that were tested"):
        agreement(found, {"class 1": {"blue": True}})
    with pytest.raises(BadParameter, match="True or False"):
        agreement(found, {"class 1": {"bright": "yes"}})
    with pytest.raises(BadParameter, match="a site that was tested"):
        matrix_figure(found, {}, site="nowhere")
    with pytest.raises(BadParameter, match="one site for a figure"):
        matrix_figure(replace(found, rows=(*found.rows, replace(found.rows[0], site="2"))), {})
    with pytest.raises(BadFile, match="suffix"):
        matrix_figure(found, {}, tmp_path / "m.txt")


def test_what_is_expected_is_read_and_what_contradicts_it_is_named(found, tmp_path):
    table = tmp_path / "expected.csv"
    table.write_text("concept,target,expected\nbright,class 0,Yes\nbright,class 1,belongs\ndark,class 1,no\ndark,class 0,\n")
    wanted = read_expected(table)
    assert wanted == {("bright", "class 0"): True, ("bright", "class 1"): True, ("dark", "class 1"): False}
    said = told(agreement(found, wanted))
    assert said[0] == "Of 3 expectations: 1 found as expected, 1 rightly not raising it, 1 against what is expected."
    assert said[1:] == ("Against what is expected: bright lowers the class 0 score, which belongs to it (at 0).",)
    assert told(agreement(found, {})) == ()
    table.write_text("concept,expected\nbright,no\n")
    assert read_expected(table) == {("bright", ""): False}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concept,target\na,b\n", "a column 'expected'"),
        ("target,expected\na,yes\n", "a column 'concept'"),
        ("concept,expected\nbright,maybe\n", "yes or no, in line 2 of e.csv; got 'maybe'"),
        ("concept,expected\n,yes\n", "a concept, and yes or no, in line 2"),
        ("concept,expected\nbright,yes\nbright,no\n", "one opinion on 'bright' in e.csv; got another in line 3"),
    ],
)
def test_expectations_that_cannot_be_read(tmp_path, text, words):
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(BadFile, match=words):
        read_expected(tmp_path / "e.csv")
    with pytest.raises(BadFile, match="No such file"):
        read_expected(tmp_path / "gone.csv")
