"""The examples run as they stand, in a few seconds, and write what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WRITES = {
    "fundus_2d": ["why_fundus.png", "why_fundus.html"],
    "brain_3d": ["patient/image.nii.gz", "why_brain_grad_cam.nii.gz", "why_brain_occlusion.nii.gz"],
}


def test_every_example_is_run_here():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_example(name, tmp_path, monkeypatch, capsys):
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) < 25, "an example fits on one screen"
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    told = capsys.readouterr().out
    cause = [line.split("|") for line in told.splitlines() if "the cause" in line]
    assert cause and all(c[-2].strip() == "1" for c in cause), "the cause is the densest region"
    for file in WRITES[name]:
        assert (tmp_path / "out" / file).stat().st_size > 1000
