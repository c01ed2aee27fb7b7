"""Maps as archives that come back exactly, as NIfTI that others read in the same place, and as films."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from torch import nn

import pellucid as pl
from pellucid.errors import BadFile, BadParameter, Unsupported
from pellucid.grid import Grid, as_affine
from pellucid.image import Image

OBLIQUE = as_affine([[0.9, 0.2, 0.1, -12.5], [-0.2, 1.1, 0.3, 7.25], [0.05, -0.3, 2.4, 33.0], [0, 0, 0, 1]])
TURNED = as_affine([[0.0, 0.0, 2.5, -12.5], [-0.9, 0.0, 0.0, 7.25], [0.0, 1.1, 0.0, 33.0], [0, 0, 0, 1]])


def network(dims: int) -> nn.Module:
    torch.manual_seed(0)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims](1, 2, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))


def asked(dims: int, method: str, **params: object) -> pl.Map:
    shape = (12, 14, 6)[:dims]
    values = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    background = torch.zeros(shape, dtype=torch.bool)
    background[0] = True
    scan = Image(values, Grid(shape, TURNED, "mm", "frame") if dims == 3 else None, "HU", ("T1",), background, {"sided": True}, ("a note",))
    net = network(dims)
    net(scan.values[None])
    return pl.explain(pl.Model(net, classes=("no", "yes")), scan, "yes", method=method, **params)


@pytest.mark.parametrize(
    ("dims", "method", "params"),
    [
        (2, "integrated_gradients", {"steps": 3, "keep": True}),
        (3, "lime", {"samples": 12, "segments": "slic(4)"}),
        (2, "occlusion", {"window": "4px"}),
        (3, "lrp", {}),
    ],
)
def test_a_map_comes_back_exactly_with_its_question(dims, method, params, tmp_path):
    why = asked(dims, method, **params)
    why = pl.Map(**{**{f.name: getattr(why, f.name) for f in fields(why)}, "trace": {**why.trace, "nested": {"a": 1 / 3}}})
    back = pl.load(why.save(tmp_path / "why.npz"))
    assert torch.equal(back.values, why.values) and back.values.dtype == why.values.dtype
    assert (back.grid, back.score, back.probabilities) == (why.grid, why.score, why.probabilities)
    assert back.provenance.as_dict() == why.provenance.as_dict()
    assert back.evidence == why.evidence
    for mine, other in ((back.image, why.image), (back.scan, why.scan)):
        assert mine.fingerprint == other.fingerprint
        assert torch.equal(mine.background, other.background)
        assert (mine.facts, mine.notes, mine.channels) == (other.facts, other.notes, other.channels)
    assert (back.scan is back.image) == (why.scan is why.image)
    assert set(back.trace) == set(why.trace)
    for name, value in why.trace.items():
        assert torch.equal(back.trace[name], value) if isinstance(value, torch.Tensor) else _tuples(back.trace[name]) == _tuples(value)
    assert repr(back.ask) == repr(why.ask)
    again = pl.load(back.save(tmp_path / "again.npz"))
    assert repr(again.ask) == repr(why.ask)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "why.npz").read_bytes()


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def test_a_question_that_text_cannot_hold_is_left_open(tmp_path):
    why = asked(2, "saliency")
    drawn = pl.explain(network_of(why), why.scan, lambda out: out[:, 0], method="saliency")
    assert pl.load(drawn.save(tmp_path / "why.npz")).ask is None


def network_of(why: pl.Map) -> nn.Module:
    net = network(2)
    net(why.scan.values[None])
    return net


def test_older_archives_are_read_and_newer_ones_refused(tmp_path):
    why = asked(2, "integrated_gradients", steps=3, keep=True)
    path = why.save(tmp_path / "why.npz")

    def rewritten(change, drop=()):
        with zipfile.ZipFile(path) as old:
            parts = {n: old.read(n) for n in old.namelist() if n not in drop}
        meta = json.loads(parts["pellucid.json"])
        change(meta)
        meta["dtypes"] = {k: v for k, v in meta["dtypes"].items() if f"{k}.npy" not in drop}
        parts["pellucid.json"] = json.dumps(meta).encode()
        with zipfile.ZipFile(tmp_path / "other.npz", "w") as new:
            for name, body in parts.items():
                new.writestr(name, body)
        return tmp_path / "other.npz"

    def first(meta):  # as the first version wrote it: no number, the scan always there, no tensors in the trace
        del meta["facts"]["version"]
        meta["dtypes"]["scan"] = meta["dtypes"]["image"]

    drop = [n for n in zipfile.ZipFile(path).namelist() if n.startswith("trace_") or "background" in n]
    old = rewritten(first, drop)
    with zipfile.ZipFile(old, "a") as pack, zipfile.ZipFile(path) as source:
        pack.writestr("scan.npy", source.read("image.npy"))
    back = pl.load(old)
    assert torch.equal(back.values, why.values) and back.scan.fingerprint == why.scan.fingerprint
    assert "gradients" not in back.trace and _tuples(back.trace["alphas"]) == _tuples(why.trace["alphas"])
    with pytest.raises(BadFile, match="version 3, newer than 2"):
        pl.load(rewritten(lambda meta: meta["facts"].update(version=3)))
    with pytest.raises(BadFile, match="archive version 2, newer than 1"):
        pl.load(rewritten(lambda meta: meta.update(version=2)))


# ---------------------------------------------------------------------------------------------------- NIfTI
def header(path) -> dict:
    """The NIfTI-1 header by its byte offsets (nifti1.h), read without any NIfTI library."""
    raw = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    get = lambda kind, at: struct.unpack_from("<" + kind, raw, at)  # noqa: E731
    found = {
        "size": get("i", 0)[0], "dim": get("8h", 40), "datatype": get("h", 70)[0], "pixdim": get("8f", 76), "offset": get("f", 108)[0],
        "slope": get("2f", 112), "units": get("B", 123)[0], "cal": get("2f", 124), "descrip": raw[148:228].rstrip(b"\0").decode(),
        "codes": get("2h", 252), "quatern": get("3f", 256), "qoffset": get("3f", 268), "srow": np.array(get("12f", 280)).reshape(3, 4),
        "intent": raw[328:344].rstrip(b"\0").decode(), "magic": raw[344:348],
    }  # fmt: skip
    shape = found["dim"][1 : 1 + found["dim"][0]]
    found["values"] = np.frombuffer(raw, "<f4", int(np.prod(shape)), int(found["offset"])).reshape(shape, order="F")
    return found


def turned_by(found: dict) -> np.ndarray:
    """The qform matrix from its quaternion (nifti1.h, method 2)."""
    b, c, d = (float(v) for v in found["quatern"])
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    turn = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    sizes = np.array(found["pixdim"][1:4]) * [1, 1, -1.0 if found["pixdim"][0] < 0 else 1.0]
    return np.hstack([turn * sizes, np.array(found["qoffset"])[:, None]])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_lies_where_the_scan_lies_for_a_reader_of_our_own(suffix, tmp_path):
    why = asked(3, "saliency")
    assert why.scan.grid.affine == TURNED
    found = header(why.save(tmp_path / f"why{suffix}"))
    assert (found["size"], found["datatype"], found["magic"], found["units"] & 7) == (348, 16, b"n+1\0", 2)
    assert found["dim"][:4] == (3, 12, 14, 6) and found["codes"] == (1, 1) and found["slope"] == (1.0, 0.0)
    assert np.allclose(found["srow"], np.array(TURNED)[:3], atol=1e-5)
    assert np.allclose(turned_by(found), found["srow"], atol=1e-5)
    assert np.array_equal(found["values"], why.values[0].numpy())
    assert found["intent"] == "saliency" and found["descrip"].startswith("pellucid archive 1")
    high, low = found["cal"]
    assert 0 < high <= float(why.values.abs().max()) * 1.0001 and low == (-high if float(why.values.min()) < 0 else 0.0)
    beside = json.loads((tmp_path / "why.json").read_text())
    assert beside["facts"]["provenance"]["method"] == why.provenance.method and beside["sides_known"] is True


def test_nilearn_reads_the_same(tmp_path):
    why = asked(3, "saliency")
    path = why.save(tmp_path / "why.nii.gz")
    peak = np.unravel_index(int(why.values.abs().argmax()), why.values.shape)[1:]
    nilearn = pytest.importorskip("nilearn.image", reason="needs nilearn")
    seen = nilearn.load_img(path)
    assert np.allclose(seen.affine, TURNED, atol=1e-5)
    assert np.array_equal(np.asarray(seen.dataobj)[peak], why.values[(0, *peak)].numpy())


def test_a_coarse_map_goes_out_on_the_scans_grid(tmp_path):
    why = asked(3, "saliency")
    coarse = replace(why, values=torch.nn.functional.avg_pool3d(why.values, 2), grid=why.grid.coarsen((2.0,) * 3, (0.5,) * 3, (6, 7, 3)))
    found = header(coarse.save(tmp_path / "why.nii"))
    assert found["dim"][1:4] == (12, 14, 6) and np.allclose(found["srow"], np.array(TURNED)[:3], atol=1e-5)


# ---------------------------------------------------------------------------------------------------- films
def shots(path) -> list[np.ndarray]:
    with Pil.open(path) as film:
        found = []
        for k in range(film.n_frames):
            film.seek(k)
            found.append(np.asarray(film.convert("RGB")).astype(int))
        return found


@pytest.mark.parametrize(
    ("suffix", "dims", "method", "params", "steps"),
    [
        (".gif", 2, "occlusion", {"window": "6px", "stride": "6px"}, 9),
        (".webp", 3, "occlusion", {"window": "4px", "stride": "4px"}, 6),
        (".gif", 2, "lime", {"samples": 7, "segments": "slic(4)"}, 7),
        (".webp", 3, "integrated_gradients", {"steps": 5, "keep": True}, 5),
        (".gif", 2, "blur_ig", {"steps": 4, "keep": True}, 4),
    ],
)
def test_a_film_shows_each_step(suffix, dims, method, params, steps, tmp_path):
    why = asked(dims, method, **params)
    path = why.animate(tmp_path / f"way{suffix}", frames=30)
    seen = shots(path)
    assert 2 <= len(seen) <= 31
    assert len(seen) >= min(steps, len(why.trace["scores"]))
    assert all(np.abs(a - b).max() > 40 for a, b in itertools.pairwise(seen))
    again = path.read_bytes()
    assert why.animate(path, frames=30).read_bytes() == again


def test_the_occluder_is_where_the_window_is(tmp_path):
    why = asked(2, "occlusion", window="6px", stride="6px")
    seen = shots(why.animate(tmp_path / "way.webp"))
    corners = why.trace["corners"]
    left, top, zoom = 18, 70, 300 / 14
    for k, (row, column) in enumerate(corners):
        inside = seen[k][
            int(top + (row + 2) * zoom) : int(top + (row + 4) * zoom), int(left + (column + 2) * zoom) : int(left + (column + 4) * zoom)
        ]
        assert np.abs(inside - [34, 38, 46]).max() < 25, k


def test_a_film_is_no_larger_than_allowed(tmp_path):
    why = asked(2, "integrated_gradients", steps=6, keep=True)
    whole = why.animate(tmp_path / "a.webp").stat().st_size
    small = why.animate(tmp_path / "b.webp", most=whole // 2)
    assert small.stat().st_size <= whole // 2
    assert shots(small)[0].shape[1] < shots(tmp_path / "a.webp")[0].shape[1]
    with pytest.raises(BadParameter, match="a film that fits"):
        why.animate(tmp_path / "c.webp", most=100)
    assert len(shots(why.animate(tmp_path / "d.webp", frames=3))) == 4
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.webp", "b.webp", "d.webp"]


def test_films_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(Unsupported, match=r"keep=True"):
        asked(2, "integrated_gradients", steps=3).animate(tmp_path / "way.gif")
    with pytest.raises(Unsupported, match="the way of the method"):
        asked(2, "saliency").animate(tmp_path / "way.gif")
    why = asked(2, "occlusion", window="6px")
    with pytest.raises(BadFile, match=r"Use \.gif or \.webp"):
        why.animate(tmp_path / "way.mp4")
    with pytest.raises(BadParameter, match="at least two frames"):
        why.animate(tmp_path / "way.gif", frames=1)
    (tmp_path / "way.gif").write_bytes(b"GIF89a mine")
    with pytest.raises(BadFile, match="did not write"):
        why.animate(tmp_path / "way.gif")
    Pil.new("RGB", (4, 4)).save(tmp_path / "other.gif")
    with pytest.raises(BadFile, match="did not write"):
        why.animate(tmp_path / "other.gif")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".png"])
def test_what_holds_no_explanation_is_not_called_damaged(tmp_path, suffix):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    path = pl.explain(net, torch.rand(1, 8, 8), 0, method="saliency").save(tmp_path / f"why{suffix}")
    with pytest.raises(BadFile, match=r"its values alone.*why\.npz"):
        pl.load(path)
