"""One frame: first lines, readout, pictures and viewer tell a place of one scan alike, whatever the network or the page sees of it."""

import re
import zlib
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import torch
from tests.io.dicoms import AXIAL, oblique, write_series
from tests.report.cases import explained

import pellucid as pl
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.io import read
from pellucid.report import body, pictures, scripts, summary, words
from pellucid.viewer.showing import Display

CROPS = (None, "foreground", "center", (12, 12, 12), (40, 9, 40))
AXES = (((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, True)))
SPOTS = ((16, 9, 9), (20, 9, 9), (22, 13, 5), (27, 4, 14))  # in a body that lies off the middle of the field


def limb(order, flip, spot):
    """A volume of 30 x 18 x 20 mm, its body in the half that the first axis ends in, with a bright spot."""
    values = torch.zeros(1, 30, 18, 20)
    values[0, 14:29, 2:17, 2:18] = 0.3
    values[0, spot[0] : spot[0] + 2, spot[1] : spot[1] + 2, spot[2] : spot[2] + 2] = 1.0
    return Image(values, Grid((30, 18, 20), as_affine(np.diag([1.0, 1.0, 1.0, 1.0])), "mm"), facts={"sided": True}).permute(order, flip)


def seen(scan, prepare):
    """A map of what a network marks that saw a prepared part of a scan: what is bright there."""
    image = prepare(scan)
    bright = (image.values - 0.6).clamp(min=0)
    return replace(explained(scan, bright, image.grid), image=image)


def unpacked(shown):
    """The first map as it is drawn."""
    layer = shown.layers[0]
    raw = np.frombuffer(zlib.decompress(layer.data), np.uint8).reshape(layer.bits // 8, -1)
    numbers = sum(raw[k].astype(int) << (8 * k) for k in range(len(raw))) - (2 ** (layer.bits - 1) - 1)
    return np.abs(numbers.reshape(shown.grid.shape))


def shows(most, monkeypatch):
    """Pages of ``most`` voxels: what is larger is cut, and from 2000 on joined in blocks."""
    if most:
        monkeypatch.setattr(body, "MOST", most)
    if most == 2000:
        monkeypatch.setattr(pictures, "MOST", most)


def halves(shown):
    """For each axis in viewing order the letter of the half of the picture in which the drawn map lies, and how far from its middle."""
    drawn = unpacked(shown)
    at = [
        (np.arange(n) + 0.5) @ drawn.sum(tuple(b for b in range(drawn.ndim) if b != a)) / drawn.sum() / n for a, n in enumerate(drawn.shape)
    ]
    letters = {}
    for plane in shown.layout.planes:
        left, right, top, bottom = plane.edges
        letters[plane.x] = left if at[plane.x] < 0.5 else right
        letters[plane.y] = top if (1 - at[plane.y] if plane.flip_y else at[plane.y]) < 0.5 else bottom
    return [letters[a] for a in range(drawn.ndim)], [abs(p - 0.5) * n for p, n in zip(at, drawn.shape, strict=True)]


@pytest.mark.parametrize("most", [None, 9000, 2000])  # voxels of a page: all; cut; cut and joined in blocks
@pytest.mark.parametrize("crop", CROPS)
def test_the_words_side_is_the_half_of_the_picture_that_is_drawn(crop, most, monkeypatch):
    shows(most, monkeypatch)
    told = 0
    for (order, flip), spot, turned in product(AXES, SPOTS, (None, "LPS")):
        scan = limb(order, flip, spot)
        prepare = pl.Prepare(orientation=turned, crop=crop)
        m = seen(scan, prepare)
        if not float(m.values.abs().max()):
            assert crop in CROPS[2:]  # the part that the network saw holds no spot
            continue
        shown = pictures.pictures(scan, [m])
        drawn, off = halves(shown)
        said = re.findall("[RLAPIS]", summary.where(m).words.partition("marked")[2])
        assert set(said) <= set(drawn), (crop, order, spot, said, drawn)
        told += len(said)
        read_out = words.about(m, shown.layers[0], shown, 0)["peak"]
        letters = re.findall(r"mm from (?:the (?:scan’s )?edge )?([RLAPIS])", read_out)
        assert all(a == b for a, b, far in zip(letters, drawn, off, strict=True) if far > 1), (read_out, drawn)
        assert 0 < summary.where(m).share < 0.05  # of the whole scan: 8 of 10800 voxels, or a few blocks
    assert told > 5


@pytest.mark.parametrize("crop", [None, "foreground", "center", (40, 40)])
def test_a_side_of_a_flat_picture_and_the_share_are_of_the_whole_picture(crop):
    values = torch.full((1, 48, 80), 0.04)
    values[0, 4:45, 42:78], values[0, 22:27, 46:51] = 0.35, 1.0  # 61 % of the way to the right; left of the body's middle
    m = seen(Image(values), pl.Prepare(crop=crop))
    place = summary.where(m)
    assert place.words == "in the right part of the picture" and place.share == pytest.approx(25 / (48 * 80), rel=0.1)


def test_what_lies_in_the_padding_alone_is_no_place_of_the_scan():
    scan = Image(torch.rand(1, 8, 8))
    image = pl.Prepare(crop=(16, 16))(scan)
    values = torch.zeros(1, 16, 16)
    values[0, 1, 1] = 1.0
    assert summary.where(replace(explained(scan, values, image.grid), image=image)).nowhere == "all that it marks lies outside the scan"


def test_report_and_viewer_tell_one_place_of_one_voxel(monkeypatch, browser):
    page = browser.new_page()
    page.add_script_tag(content=scripts.seam() + "\nwindow.Scene = Scene;")
    place = "([facts, at]) => { const s = new Scene(facts); return [s.place(at), s.inScan(at)]; }"
    for (order, flip), most in product(AXES, (None, 9000, 2000)):
        scan = limb(order, flip, SPOTS[1])
        with monkeypatch.context() as m:
            shows(most, m)
            shown = pictures.pictures(scan, [seen(scan, pl.Prepare())])
        assert (max(shown.factors) > 1) == (most == 2000) and any(shown.start) == bool(most)
        facts, other = pictures.for_script(shown, scan), Display.of(scan)
        alone = {**other.facts(), "maps": []}
        for at in ([0, 0, 0], [n - 1 for n in shown.grid.shape], list(shown.layers[0].peak)):
            said, stored = page.evaluate(place, [facts, at])
            assert said == words.position(shown, at)
            if max(shown.factors) == 1:
                index = [int(p) for p in stored.split(", ")]
                there = [
                    scan.grid.shape[a] - 1 - index[a] if f else index[a] for a, f in zip(other.layout.order, other.layout.flip, strict=True)
                ]
                assert page.evaluate(place, [alone, there]) == [said, stored]
            whole = SimpleNamespace(
                layout=shown.layout, grid=shown.layout.grid(scan.grid), whole=scan.grid, start=(0,) * 3, factors=(1,) * 3
            )
            assert max(shown.factors) > 1 or words.position(whole, there) == said
    page.close()


def numbers(text):
    """The convention that a text names, and its millimeters."""
    found = re.search(r"(DICOM patient|RAS) coordinates x (\S+), y (\S+), z (\S+) mm", text)
    return found[1], [float(v.replace("−", "-")) for v in found.groups()[1:]]


@pytest.mark.parametrize("axes", [AXIAL, oblique(), ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))])
def test_printed_numbers_are_of_the_convention_that_they_name(axes, tmp_path):
    volume = np.random.default_rng(1).integers(0, 3000, (5, 6, 8)).astype(np.int16)
    write_series(tmp_path / "s", volume, axes)
    scan = read(tmp_path / "s")
    places = [np.array([float(v) for v in pydicom.dcmread(f).ImagePositionPatient]) for f in (tmp_path / "s").iterdir()]
    for k in range(5):
        values = torch.zeros_like(scan.values)
        values[0, 0, 0, k] = 1.0  # the first pixel of a slice: ImagePositionPatient of its file
        m = explained(scan, values)
        shown = pictures.pictures(scan, [m])
        convention, told = numbers(words.about(m, shown.layers[0], shown, 0)["peak"])
        assert convention == "DICOM patient" and min(np.abs(told - p).max() for p in places) < 0.051
        elsewhere = replace(scan, facts={"sided": True, "format": "NIfTI"})
        shown = pictures.pictures(elsewhere, [explained(elsewhere, values)])
        convention, told = numbers(words.position(shown, shown.layers[0].peak))
        assert convention == "RAS" and min(np.abs(np.array(told) * [-1, -1, 1] - p).max() for p in places) < 0.051
