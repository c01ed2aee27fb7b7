"""What the terminal shows of words that others wrote, and what the commands leave alone."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app
from pellucid.cli.telling import plain, show
from pellucid.errors import BadFile
from pellucid.table import Table

run = CliRunner()
TINY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
"""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.py").write_text(TINY)
    np.save(tmp_path / "scan.npy", np.random.default_rng(0).random((1, 8, 8), dtype=np.float32))
    return [str(tmp_path / "scan.npy"), "--model", f"{tmp_path}/tiny.py:make", "--trust", "--out", str(tmp_path / "out")]


def asked(command: str, tiny: list[str], *more: str, code: int = 0) -> str:
    got = run.invoke(app, [command, *tiny, "--method", "saliency", "--evidence", "none", *more])
    assert got.exit_code == code, got.output + repr(got.exception)
    return got.output


@pytest.mark.parametrize("names", ["effusion [left],effusion [right]", "mass [/b],normal", "[red]x,:smile: y", "a\x1b[2J\x1b]0;pwn\x07,b"])
def test_names_stand_in_the_terminal_as_they_are_written(tiny, names):
    output = asked("explain", tiny, "--classes", names, "--target", "0")
    lines = " ".join(output.split())
    for name in names.split(","):
        assert " ".join(plain(name).split()) in lines
    assert not any(c in output for c in "\x1b\x07")


def test_a_table_shows_its_cells_as_they_are_written(capsys):
    show(Table(("group [a]", "[bold]n"), (("mass [left]", "[/x]"), ("b\x1b[31m", 0.5))))
    seen = capsys.readouterr().out
    assert all(t in seen for t in ("group [a]", "[bold]n", "mass [left]", "[/x]", r"b\x1b[31m", "0.5"))


def test_every_baseline_that_the_help_names_is_read(tiny):
    from pellucid.cli import explaining

    help_ = inspect.signature(explaining.compare).parameters["baseline"].annotation.__metadata__[0].help
    named = re.sub(r"\. Repeatable\.$", "", help_).split(", ")
    assert len(named) == 5
    given = [a for b in named for a in ("--baseline", b)]
    got = run.invoke(app, ["compare", *tiny, "--method", "integrated_gradients(steps=2)", *given, "--json"])
    assert got.exit_code == 0, got.output + repr(got.exception)
    assert len(json.loads(got.stdout)["maps"]) == 5
    for wrong in ("foo", "blurred(-1)", "Constant('a')", "nan", "[", "(1, 2)", "random(0)"):
        got = run.invoke(app, ["compare", *tiny, "--method", "integrated_gradients(steps=2)", "--baseline", wrong])
        assert got.exit_code == 1 and got.output.startswith("error: ") and "Traceback" not in got.output, got.output


def test_a_method_says_what_its_parameter_wants(tiny):
    assert "a baseline is a number" in run.invoke(app, ["explain", *tiny, "--method", "integrated_gradients(baseline=foo)"]).output
    said = run.invoke(app, ["explain", *tiny, "--options", "foo=2"]).output
    assert "unexpected keyword argument 'foo'" in said and "got got" not in said


@pytest.mark.parametrize("command", ["compare"])
def test_a_table_of_somebody_else_stays(tiny, tmp_path, command):
    asked(command, tiny)
    asked(command, tiny, "--method", "input_x_gradient")  # its own, with other columns at the end, is replaced
    mine = tmp_path / "out" / "comparison.csv"
    mine.write_text("my own,table\n1,2\n")
    assert "a file that Pellucid did not write" in " ".join(asked(command, tiny, code=1).split())
    assert mine.read_text() == "my own,table\n1,2\n"


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = Table(("a", "b"), ((1, 2),)).renew(tmp_path / "t.csv")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pellucid.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        Table(("a", "b"), ((3, 4),)).renew(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    for foreign in (b"", b"x\n", b"\xff\xfe\x00", b"a;b\n"):
        path.write_bytes(foreign)
        with pytest.raises(BadFile, match="did not write"):
            Table(("a", "b"), ((3, 4),)).renew(path)
        assert path.read_bytes() == foreign


def test_phantoms_on_disk_keep_what_they_know(tmp_path: Path):
    made = pl.phantoms.brain(seed=1)
    pl.phantoms.save(made, tmp_path / "b")
    for path in (tmp_path / "b").glob("*.nii.gz"):
        back = pl.read(path)
        assert back.facts["sided"] is True and back.grid.shape == made.image.grid.shape
        assert np.allclose(back.grid.matrix, made.image.grid.matrix, atol=1e-5)
