"""``pellucid effects dose`` and ``pellucid effects sequences``: files in, files and sentences out, nothing of a patient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

from pellucid import phantoms
from pellucid.cli import app
from pellucid.effects import DoseResponse, SequenceImportance


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    rows = ["image,mask,patient,label"]
    for k, eye in enumerate(phantoms.cases("fundus_dme", 6, seed=5, size=64)):
        Picture.fromarray((eye.image.values.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(folder / f"Smith{k}.png")
        Picture.fromarray(eye.masks["edema"].numpy().astype(np.uint8) * 255).save(folder / f"mask{k}.png")
        rows.append(f"Smith{k}.png,mask{k}.png,Smith {k},{'sick' if eye.labels['dme'] else 'well'}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder / "cases.csv"


def test_dose(cases: Path, tmp_path: Path) -> None:
    given = ["effects", "dose", "--images", str(cases), "--model", "phantom:fundus_dme", "--target", "DME"]
    done = CliRunner().invoke(app, [*given, "--axis", "lesion_contrast", "--values", "0,0.05,0.1", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "from lesion contrast 0" in done.output
    assert "Smith" not in "".join(p.read_text(errors="ignore") for p in (tmp_path / "out").iterdir())
    assert DoseResponse.load(tmp_path / "out" / "dose.json").cases == 3
    told = CliRunner().invoke(app, [*given, "--axis", "attenuation(channel='green')", "--values", "0,1", "--json"])
    facts = json.loads(told.output)
    assert facts["kind"] == "dose response"
    assert facts["sentences"]
    wrong = CliRunner().invoke(app, [*given, "--axis", "size"])
    assert wrong.exit_code == 1
    assert "lesion_contrast" in wrong.output


def test_sequences(cases: Path, tmp_path: Path) -> None:
    given = ["effects", "sequences", "--images", str(cases), "--model", "phantom:fundus_dme", "--target", "DME", "--method", "saliency"]
    done = CliRunner().invoke(app, [*given, "--positive", "sick", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = SequenceImportance.load(tmp_path / "out" / "sequences.json")
    assert found.sequences == ("red", "green", "blue")
    assert any("not every image has a region marked" in n for n in found.notes)
    assert (tmp_path / "out" / "figure.svg").stat().st_size > 5_000
