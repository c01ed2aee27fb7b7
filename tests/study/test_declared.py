"""A study's file decides nothing about trust, and what is kept of a study says nothing of anybody."""

import hashlib

import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app
from pellucid.errors import BadFile, BadParameter, Untrusted
from pellucid.study import read_study, recall_study, tables

TOML = """
[model]
load = "net.py:make"
trust = true
[cases]
table = "cases.csv"
[ask]
target = 1
methods = ["saliency"]
metrics = ["gini"]
controls = ["random", "shuffled"]
"""
NET = """
import pathlib, torch
pathlib.Path(__file__).with_name("RAN").write_text("")
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
"""
ROWS = "image,patient,label,patient_name,birth\n0.png,MRN0012345,1,Jane Doe,1950-01-02\n1.png,MRN0054321,0,John Roe,1951-03-04\n"


@pytest.fixture
def sent(tmp_path):
    """A study as it comes by mail."""
    for n in range(2):
        Picture.fromarray((np.arange(64).reshape(8, 8) * 3 + n).astype(np.uint8)).save(tmp_path / f"{n}.png")
    (tmp_path / "cases.csv").write_text(ROWS)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "it.toml").write_text(TOML)
    return tmp_path / "it.toml"


@pytest.mark.parametrize("said", ["trust = true", 'trust = "code"', "trust = false", ""])
def test_a_file_cannot_trust_itself(sent, said):
    sent.write_text(TOML.replace("trust = true", said))
    with pytest.raises(Untrusted):
        read_study(sent)
    with pytest.raises(BadFile, match="Run the study first"):
        recall_study(sent)
    for command in (["run"], ["table"], ["table", "--csv"], ["show"]):
        assert CliRunner().invoke(app, ["study", *command, str(sent)]).exit_code != 0
    assert not (sent.parent / "RAN").exists()


def test_tables_and_page_are_made_without_the_network(sent):
    assert CliRunner().invoke(app, ["study", "run", str(sent), "--trust"]).exit_code == 0
    (sent.parent / "RAN").unlink()
    told = CliRunner().invoke(app, ["study", "table", str(sent), "--csv"])
    assert told.exit_code == 0, told.output
    assert CliRunner().invoke(app, ["study", "show", str(sent), "--out", str(sent.parent / "page.html")]).exit_code == 0
    assert not (sent.parent / "RAN").exists()
    found, whole = recall_study(sent), read_study(sent, trust="code")
    assert tables.long_table(found).rows == tables.long_table(whole).rows
    assert [r["map"] for r in tables.long_table(found)] == ["saliency", "random", "saliency, shuffled"]
    assert tables.performance(found).rows == tables.performance(whole).rows != ()
    assert len(found.pictures()) == 2
    assert pl.report.study_page.render(found) == pl.report.study_page.render(whole)
    with pytest.raises(BadParameter, match="recalled"):
        found.run()


def test_another_network_in_the_file_is_not_the_one_that_ran(sent):
    read_study(sent, trust="code").run()
    sent.write_text(TOML.replace("net.py:make", "net.py:other"))
    with pytest.raises(BadFile, match="Run the study first"):
        recall_study(sent)


def test_nothing_of_a_table_of_cases_is_kept(sent):
    s = read_study(sent, trust="code").run()
    cells = {c for line in ROWS.splitlines()[1:] for c in line.split(",") if len(c) > 1}
    secrets = {c.encode() for c in cells} | {hashlib.sha256(c.encode()).hexdigest()[:12].encode() for c in cells}
    files = [p for p in s.folder.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".json", ".png"}
    for path in files:
        held = path.read_bytes() + path.name.encode()
        assert not [secret for secret in secrets if secret in held], path
    assert s.groups == [0, 1]
    assert [c.facts["birth"] for c in s.cases] == ["1950-01-02", "1951-03-04"]


GOOD = {
    "study": 'name = "x"', "model": 'load = "phantom:fundus_dme"', "cases": 'phantom = "fundus_dme"\nn = 2',
    "ask": 'metrics = ["roc_auc"]\nmethods = {a = "saliency"}',
}  # fmt: skip


def declared(tmp_path, part, text):
    """A study that is right but for one part."""
    path = tmp_path / "s.toml"
    path.write_text("\n".join(f"[{k}]\n{text if k == part else v}" for k, v in GOOD.items()))
    return path


@pytest.mark.parametrize(("part", "text"), [
    ("study", "out = 5"), ("study", "name = 5"), ("study", 'seed = "a"'), ("study", "seed = -1"), ("study", 'level = "bogus"'), ("study", "level = []"),
    ("model", "load = 5"), ("model", "+classes = 5"), ("model", '+classes = ["a", 5]'), ("model", '+normalize = {mean = "a"}'), ("model", "+output = 5"),
    ("model", "+normalize = {bogus = 1}"), ("model", "+prepare = {bogus = 1}"), ("model", '+prepare = "bogus"'), ("model", '+prepare = "f(1)"'),
    ("model", "+prepare = {range = 5}"), ("model", "+normalize = 5"), ("model", '+windows = {size = "a"}'), ("model", "+windows = {overlap = 0.5}"),
    ("model", "+windows = {size = 8, overlap = 1}"), ("model", "+options = 5"), ("model", "+weights = 5"), ("cases", '+n = "2"'), ("cases", "+n = -2"),
    ("cases", "+n = true"), ("cases", "+switches = {bogus = true}"), ("cases", '+switches = {dme = "yes"}'), ("cases", "+switches = 5"),
    ("cases", '+seed = "a"'), ("cases", "table = 5"), ("cases", "+mask = 5"), ("ask", 'metrics = ["roc_auc"]\nmethods = 5'),
    ("ask", 'metrics = ["roc_auc"]\nmethods = {a = 5}'), ("ask", 'metrics = ["roc_auc"]\nmethods = [5]'), ("ask", "+target = [1]"), ("ask", "+score = 1.5"),
    ("ask", "metrics = 5\nmethods = ['saliency']"), ("ask", "metrics = 'roc_auc'\nmethods = ['saliency']"), ("ask", "+controls = 5"),
])  # fmt: skip
def test_what_is_of_another_kind_is_told_by_part_and_key(tmp_path, part, text):
    first = GOOD[part].splitlines()[0] if text.startswith("+") and part == "cases" else GOOD[part]
    with pytest.raises(BadParameter) as error:
        read_study(declared(tmp_path, part, f"{first}\n{text[1:]}" if text.startswith("+") else text))
    key = text.lstrip("+").splitlines()[-1 if "methods = 5" in text else 0].split(" ")[0]
    assert "\n" not in str(error.value) and (key in str(error.value) or "metrics" in text), str(error.value)


@pytest.mark.parametrize("text", [b"x = " + b"[" * 5000, b"\xff", b"[study\n", b""])
def test_a_file_that_is_no_study_is_told(tmp_path, text):
    (tmp_path / "s.toml").write_bytes(text)
    with pytest.raises((BadFile, BadParameter)) as error:
        read_study(tmp_path / "s.toml")
    assert "\n" not in str(error.value)


def test_texts_of_the_command_line_and_tables_say_the_same(tmp_path):
    texts = 'classes = "a, b"\nprepare = "resize=64, range=(0, 1)"\nnormalize = "mean=0.5, std=(0.25, 0.5, 1)"\nselect = "0"\nwindows = "size=32"'
    tables_ = 'classes = ["a", "b"]\nprepare = {resize = 64, range = [0, 1]}\nnormalize = {mean = 0.5, std = [0.25, 0.5, 1]}\nselect = 0\nwindows = {size = 32}'
    nets = [read_study(declared(tmp_path, "model", f"{GOOD['model']}\n{t}")).net for t in (texts, tables_)]
    told = [(n.classes, n.prepare, n.normalize, n.select, n.windows) for n in nets]
    assert told[0] == told[1]
    assert told[0] == (("a", "b"), pl.Prepare(resize=64, range=(0, 1)), pl.Normalize(0.5, (0.25, 0.5, 1)), 0, pl.Windows(32))


def test_the_masks_that_phantoms_write_are_masks(tmp_path):
    """0 and 255, as any program writes them; the numbers are those of the same mask as 0 and 1."""
    made = pl.phantoms.fundus(seed=1, dme=True)
    pl.phantoms.save(made, tmp_path / "c")
    np.save(tmp_path / "plain.npy", made.masks["causal"][None].numpy().astype(np.uint8))
    np.save(tmp_path / "labels.npy", np.where(made.masks["causal"], 1, 2)[None].astype(np.uint8))
    rows = ["image,mask", "c/image.npy,c/mask-causal.png", "c/image.npy,plain.npy", "c/image.npy,labels.npy"]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    ask = 'target = "DME"\nmetrics = ["roc_auc"]\nmethods = ["saliency"]\ncontrols = []'
    path = declared(tmp_path, "cases", 'table = "cases.csv"')
    path.write_text(path.read_text().replace(GOOD["ask"], ask))
    s = read_study(path).run()
    first, second, third = s.values("roc_auc")["saliency"]
    assert first == second > 0.5
    assert third != third and len(s.problems) == 1
    assert "case 3" in s.problems[0] and "one label" in s.problems[0]


def test_labels_are_words_until_the_network_is_known(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    labels = ["3", "-1", "--5", "\u00b2", "9" * 5000, "a;b", " x "]
    (tmp_path / "c.csv").write_text("image,label\n" + "\n".join(f"a.png,{t}" for t in labels), encoding="utf-8")
    assert [c.label for c in pl.study.read_cases(tmp_path / "c.csv")] == ["3", "-1", "--5", "\u00b2", "9" * 5000, ("a", "b"), "x"]


def test_a_table_of_somebody_else_stays(sent):
    mine = sent.parent / "elsewhere" / "table.csv"
    mine.parent.mkdir()
    mine.write_text("my own,table\n")
    sent.write_text(TOML.replace("[model]", f'[study]\nout = "../{sent.parent.name}/elsewhere"\n[model]'))
    got = CliRunner().invoke(app, ["study", "run", str(sent), "--trust"])
    assert got.exit_code == 1 and "did not write" in got.output
    assert mine.read_text() == "my own,table\n"
    mine.unlink()
    for _ in range(2):
        assert CliRunner().invoke(app, ["study", "run", str(sent), "--trust"]).exit_code == 0, "its own is replaced"
    assert mine.read_text().startswith("map,")
