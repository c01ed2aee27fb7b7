"""The pages on effects run from their first line to their last, and every command writes what they say."""

import pytest
from tests.pages import followed

WRITTEN = {"effects.html", "table.csv", "figure.svg", "sentences.txt"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page,folders,said",
    [
        ("effects.md", ("radius",), {"--kind ale": "adding up what small steps", "effects importance": "worst", "effects surrogate": "R²", "effects additive": "AUC"}),
        (
            "interventions.md",
            ("contrast", "sequences"),
            {"lesion_contrast": "rises from lesion contrast 0", "ring_intensity": "ring from 0 to 1.8", "effects sequences": "ways"},
        ),
    ],
)  # fmt: skip
def test_the_page_runs_as_written(page, folders, said, tmp_path, monkeypatch):
    printed = followed(page, tmp_path, monkeypatch)
    for part, words in said.items():
        (line,) = (line for line in printed if part in line)
        assert words in printed[line], (line, printed[line])
    for folder in folders:
        files = {p.name for p in (tmp_path / folder).iterdir()}
        assert files >= WRITTEN and len([f for f in files if f.endswith(".json")]) == 1
        told = "".join(p.read_text() for p in (tmp_path / folder).iterdir() if p.suffix in (".csv", ".txt", ".json"))
        assert "P1" not in told, "no patient is named"
