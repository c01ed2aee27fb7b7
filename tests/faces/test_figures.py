"""The figures of docs/why.md at reduced size: each is drawn, small enough, and shows what its text claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image as Picture

pytest.importorskip("matplotlib")

from studies import figures

REDUCED = {
    "saturation": {"steps": 16},
    "extrema": {"n": 33},
    "scales": {"n": 1, "steps": 8},
    "bands": {"n": 2, "steps": 8},
    "process": {"samples": 40, "window": "3.2mm", "segments": "slic(30)"},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder, threads = tmp_path_factory.mktemp("figures"), torch.get_num_threads()
    torch.set_num_threads(1)
    found = {name: figures.FIGURES[name][1](folder, **settings) for name, settings in REDUCED.items()}
    torch.set_num_threads(threads)
    return folder, found


def test_every_figure_is_a_small_picture_that_its_text_shows(drawn):
    folder, found = drawn
    assert set(found) == set(figures.FIGURES)
    for name, (text, _) in found.items():
        file = folder / f"{name}.png"
        assert f"(figures/{name}.png)" in text
        assert file.stat().st_size <= figures.MOST
        picture = Picture.open(file).convert("RGB")
        assert picture.width > 700
        assert len(picture.getcolors(1 << 20)) > 8
        assert not re.search(r"\bnan\b|\{", text)


def test_the_slope_at_the_image_is_small_where_the_network_is_sure(drawn):
    told = drawn[1]["saturation"][1]
    assert abs(told["last"]) < 0.1 * told["steepest"]
    assert told["ig"] > told["gradient"]


def test_blur_makes_no_extremum_and_intensity_does(drawn):
    told = drawn[1]["extrema"][1]
    assert max(told["counts"]["blur"]) == 1 < max(told["counts"]["intensity from noise"])
    assert all(a <= b + 1e-12 for a, b in zip(told["middle"]["blur"], told["middle"]["blur"][1:], strict=False))
    assert told["middle"]["intensity from black"][-1] == 0


def test_a_violin_blurred_along_frequency_ends_in_silence(drawn):
    told = drawn[1]["scales"][1]
    assert told["violin"][0] > 0.5 > told["violin"][-1]
    assert told["silence"][0] < 0.5 < told["silence"][-1]


def test_music_lies_low_and_violin_high(drawn):
    told = drawn[1]["bands"][1]
    assert told["low"]["music"] > 0.6
    assert told["low"]["violin"] < 0.2


def test_samples_of_lime_and_windows_of_occlusion_are_told(drawn):
    told = drawn[1]["process"][1]
    assert min(told["scores"]) < max(told["scores"]) - 0.5
    assert 1 < min(told["active"]) < max(told["active"])
    assert told["with"] > told["without"]


def test_the_page_shows_every_figure_that_is_there():
    docs = Path(figures.ROOT) / "docs"
    page = (docs / "why.md").read_text()
    for name, (title, _) in figures.FIGURES.items():
        assert f"## {title}" in page
        assert (docs / "figures" / f"{name}.png").stat().st_size <= figures.MOST
