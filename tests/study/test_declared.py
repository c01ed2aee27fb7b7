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
