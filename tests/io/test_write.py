from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tests.io.dicoms import oblique, write_series

from pellucid import phantoms
from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.io import Tile, overlay, picture, read, read_archive, write, write_archive
from pellucid.io.sheet import sheet

GRID = Grid((4, 5, 6), as_affine([[0.1, 0.7, 0, 1 / 3], [1.3, 0, 0, 2], [0, 0, -2.7, 3], [0, 0, 0, 1]]), "mm", "abc")


def test_the_archive_is_exact(tmp_path):
    arrays = {
        "values": torch.randn(1, 4, 5, 6),
        "double": torch.randn(3, dtype=torch.float64) / 3,
        "half": torch.randn(3).bfloat16(),
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "odd": torch.tensor([float("nan"), -0.0, float("inf")]),
    }
    facts = {"method": "ig(steps=64)", "seed": 0, "nested": {"list": (1, 2.5, None, True)}, "gap": float("inf"), "third": 1 / 3}
    back, known, grid = read_archive(write_archive(tmp_path / "a.npz", arrays, GRID, facts=facts))
    assert grid == GRID
    assert known == facts
    for name, value in arrays.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert back[name].flatten().view(torch.uint8).equal(value.flatten().view(torch.uint8))
    assert np.array_equal(np.load(tmp_path / "a.npz")["values"], arrays["values"].numpy())
    again = write_archive(tmp_path / "b.npz", arrays, GRID, facts=facts)
    assert again.read_bytes() == (tmp_path / "a.npz").read_bytes()


def test_an_archive_is_an_image_again(tmp_path):
    values = torch.randn(4, 5, 6)
    back = read(write(tmp_path / "a.npz", values, GRID, facts={"method": "m"}))
    assert torch.equal(back.values[0], values)
    assert back.grid == GRID
    assert back.facts["method"] == "m"


def test_facts_that_json_cannot_hold_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(BadParameter, match="Tensor"):
        write(tmp_path / "a.npz", torch.zeros(4, 5, 6), GRID, facts={"x": torch.zeros(2)})
    with pytest.raises(BadParameter):
        write(tmp_path / "a.nii", torch.zeros(4, 5, 6), GRID, facts={"x": torch.zeros(2)})
    assert list(tmp_path.iterdir()) == []


def test_the_scan_is_never_overwritten(tmp_path):
    write(tmp_path / "scan.nii.gz", torch.randn(4, 5, 6), GRID)
    before = (tmp_path / "scan.nii.gz").read_bytes()
    scan = read(tmp_path / "scan.nii.gz")
    for keywords in ({"image": scan}, {"facts": dict(scan.facts)}):
        with pytest.raises(BadFile, match="the scan that was explained"):
            write(tmp_path / "scan.nii.gz", scan.values, scan.grid, **keywords)
    assert (tmp_path / "scan.nii.gz").read_bytes() == before


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".npz", ".png"])
def test_only_our_own_files_are_replaced(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"somebody's work")
    with pytest.raises(BadFile, match="did not write"):
        write(path, torch.randn(4, 5, 6), GRID)
    assert path.read_bytes() == b"somebody's work"
    path.unlink()
    write(path, torch.zeros(4, 5, 6), GRID)
    first = path.read_bytes()
    write(path, torch.randn(4, 5, 6), GRID)
    assert path.read_bytes() != first


def test_a_foreign_sidecar_is_kept(tmp_path):
    (tmp_path / "m.json").write_text('{"EchoTime": 0.03}')
    with pytest.raises(BadFile, match="did not write"):
        write(tmp_path / "m.nii.gz", torch.zeros(4, 5, 6), GRID)
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_a_crash_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "m.nii", torch.ones(4, 5, 6), GRID)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, torch.zeros(4, 5, 6), GRID)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "m.nii"]


def test_bad_requests(tmp_path):
    with pytest.raises(BadFile, match=r"Use one of \.nii\.gz"):
        write(tmp_path / "m.mha", torch.zeros(4, 5, 6), GRID)
    with pytest.raises(BadFile, match="no folder"):
        write(tmp_path / "no" / "m.nii", torch.zeros(4, 5, 6), GRID)
    with pytest.raises(BadImage, match=r"\(4, 5\) on a grid of"):
        write(tmp_path / "m.nii", torch.zeros(4, 5), GRID)
    with pytest.raises(BadImage, match="1 NaN"):
        write(
            tmp_path / "m.nii",
            torch.zeros(4, 5, 6).index_fill(0, torch.tensor([0]), 0).put_(torch.tensor([3]), torch.tensor([float("nan")])),
            GRID,
        )


def colors(picture: Pil.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def test_overlay_is_blue_for_against_and_orange_for_for_and_clear_at_zero():
    values = torch.zeros(40, 60)
    values[5:15, 5:15], values[25:35, 45:55] = 1.0, -0.5
    scan = Image(torch.full((1, 40, 60), 0.5) + torch.linspace(0, 0.01, 60))
    c = colors(overlay(values, Grid((40, 60)), image=scan))
    zoom, left, top = 512 / 60, 22 + 512 + 14, 30

    def at(row: int, column: int) -> np.ndarray:
        return c[int(top + row * zoom), int(left + column * zoom)]

    assert at(10, 10)[0] > at(10, 10)[2] + 60
    assert at(30, 50)[2] > at(30, 50)[0] + 60
    zero = at(20, 30)
    assert zero.max() - zero.min() <= 1
    plain = colors(overlay(values * 1e6, Grid((40, 60)), image=scan))
    assert np.array_equal(plain[:, :1080], c[:, :1080])  # the range is symmetric and follows the map


def test_overlay_shows_the_right_on_the_left_and_says_so_only_if_known(tmp_path):
    volume = np.zeros((12, 30, 30), np.int16)
    write_series(tmp_path / "s", volume + np.arange(30, dtype=np.int16), oblique(4, 3), spacing=(2.0, 1.0, 1.0))
    scan = read(tmp_path / "s")
    values = torch.zeros(scan.grid.shape)
    values[10:14, 3:7, 5:8] = 1.0  # low columns: the patient's right
    c = colors(overlay(values, scan.grid, image=scan, sided=True))
    axial = c[30:414, 22 : 22 + 384]
    hot = np.argwhere(axial[..., 0] > axial[..., 2] + 60)
    assert hot[:, 1].mean() < 384 * 0.3
    flipped = scan.permute((0, 1, 2), (False, True, False))
    turned = colors(overlay(values.flip(1), flipped.grid, image=flipped, sided=True))
    assert np.abs(turned - c).mean() < 0.5  # the picture does not depend on how the array is stored
    bare = colors(overlay(values, scan.grid, image=scan))
    assert (bare != c).any()


def test_a_png_is_written_with_letters_only_when_sides_are_known(tmp_path):
    values, grid = torch.randn(20, 30), Grid.spaced((20, 30), (1.0, 1.0))
    unknown = write(tmp_path / "a.png", values, grid).read_bytes()
    assert unknown == write(tmp_path / "b.png", values, grid, facts={"sided": False}).read_bytes()
    assert unknown != write(tmp_path / "c.png", values, grid, facts={"sided": True}).read_bytes()
    assert Pil.open(tmp_path / "a.png").text["Software"] == "pellucid"


def test_words_at_the_edges_leave_a_small_picture_free():
    """A spectrogram of a sheet, 130 pixels wide: "8000 Hz" takes at most two fifths of it, and all four words have one size."""
    clip = phantoms.spectrogram(0)
    plain = sheet([Tile("", clip.image)], columns=1, zoom=0.5)
    bare = sheet([Tile("", clip.image.with_values(clip.image.values, grid=Grid(clip.image.grid.shape)))], columns=1, zoom=0.5)
    wide = (np.abs(np.asarray(plain, float) - np.asarray(bare, float)).max(2) > 60)[64:84].any(0)
    assert 20 < np.ptp(np.flatnonzero(wide)) < 52


def test_the_sidecar_holds_grid_and_provenance(tmp_path):
    write(tmp_path / "m.nii.gz", torch.zeros(4, 5, 6), GRID, facts={"method": "x", "seed": 3})
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["facts"] == {"method": "x", "seed": 3}
    assert tuple(map(tuple, found["grid"]["affine"])) == GRID.affine


def test_the_file_hash_is_of_the_bytes_on_disk(tmp_path):
    path = write(tmp_path / "m.nii.gz", torch.zeros(4, 5, 6), GRID)
    assert read(path).facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_words_with_letters_that_the_small_font_lacks_get_another_font():
    assert picture.font(12, "ödem, 3 μm").getname()[0] == "DejaVu Sans"
    assert picture.font(12, "edema · 3 mm…").getname() == picture.font(12).getname()
