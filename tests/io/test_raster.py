from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pil

from pellucid.errors import BadFile
from pellucid.io import read

RNG = np.random.default_rng(3)
GRAY8, RGB8 = RNG.integers(0, 256, (5, 7)).astype(np.uint8), RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


def png16(path: Path, array: np.ndarray, kind: int) -> Path:
    """A 16-bit PNG from first principles, the rows filtered by turns (none, sub, up)."""
    h, w, c = array.shape
    raw, above = b"", np.zeros(w * c * 2, np.uint8)
    for n, row in enumerate(array.astype(">u2").reshape(h, -1).view(np.uint8)):
        left = np.concatenate([np.zeros(2 * c, np.uint8), row[: -2 * c]])
        raw += bytes([n % 3]) + (row, row - left, row - above)[n % 3].tobytes()
        above = row

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    return path


def test_png_gray_and_rgb_keep_their_numbers(tmp_path):
    Pil.fromarray(GRAY8).save(tmp_path / "g.png")
    Pil.fromarray(RGB8).save(tmp_path / "c.png")
    gray, rgb = read(tmp_path / "g.png"), read(tmp_path / "c.png")
    assert np.array_equal(gray.values[0].numpy(), GRAY8)
    assert np.array_equal(rgb.values.numpy(), RGB8.transpose(2, 0, 1))
    assert (gray.quantity, gray.grid.unit, rgb.channels) == ("intensity", "px", ("red", "green", "blue"))


@pytest.mark.parametrize(("channels", "kind"), [(1, 0), (3, 2), (4, 6)])
def test_sixteen_bits_are_kept(tmp_path, channels, kind):
    deep = RNG.integers(0, 65536, (6, 7, channels)).astype(np.uint16)
    scan = read(png16(tmp_path / "a.png", deep, kind))
    assert np.array_equal(scan.values.numpy(), deep[..., :3].transpose(2, 0, 1))
    assert scan.facts["bits"] == 16
    assert ("alpha channel dropped" in scan.notes) == (channels == 4)


def test_alpha_palette_and_bilevel(tmp_path):
    Pil.fromarray(np.dstack([RGB8, RGB8[..., 0]])).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png").values.numpy(), RGB8.transpose(2, 0, 1))
    assert read(tmp_path / "a.png").notes == ("alpha channel dropped",)
    picture = Pil.fromarray(RGB8).quantize(8)
    picture.save(tmp_path / "p.png")
    assert np.array_equal(read(tmp_path / "p.png").values.numpy(), np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    Pil.fromarray(GRAY8 > 99).save(tmp_path / "b.png")
    assert set(np.unique(read(tmp_path / "b.png").values)) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_noted(tmp_path, orientation):
    from PIL import ImageOps

    big = np.kron(RGB8, np.ones((16, 16, 1), np.uint8))
    exif = Pil.Exif()
    exif[274] = orientation
    Pil.fromarray(big).save(tmp_path / "a.jpg", exif=exif, quality=95)
    want = np.asarray(ImageOps.exif_transpose(Pil.open(tmp_path / "a.jpg")))
    scan = read(tmp_path / "a.jpg")
    assert np.array_equal(scan.values.numpy(), want.transpose(2, 0, 1))
    assert any("orientation" in n for n in scan.notes) == (orientation > 1)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "int16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_any_depth(tmp_path, kind, compression):
    array = (RNG.normal(size=(5, 7)) * 100).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression)
    assert np.array_equal(read(tmp_path / "a.tif").values[0].numpy(), array.astype(np.float32))


def test_tiff_pages_are_a_volume(tmp_path):
    stack = RNG.integers(0, 60000, (4, 5, 7)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    scan = read(tmp_path / "a.tif")
    assert np.array_equal(scan.values[0].numpy(), stack.transpose(1, 2, 0))
    assert any("4 pages" in n for n in scan.notes)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([RGB8, RGB8[::-1]]), photometric="rgb")
    assert read(tmp_path / "b.tif").values.shape == (3, 5, 7, 2)
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        file.write(GRAY8)
        file.write(GRAY8[:3])
    with pytest.raises(BadFile, match="2 pages of sizes"):
        read(tmp_path / "c.tif")


def test_tiff_of_other_programs(tmp_path):
    Pil.fromarray(RGB8).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert np.array_equal(read(tmp_path / "lzw.tif").values.numpy(), RGB8.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "white.tif", GRAY8, photometric="miniswhite")
    white = read(tmp_path / "white.tif")
    assert np.array_equal(white.values[0].numpy(), GRAY8)
    assert any("not inverted" in n for n in white.notes)
    tifffile.imwrite(tmp_path / "planar.tif", RGB8.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read(tmp_path / "planar.tif").values.numpy(), RGB8.transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (4, 5, 7), (1, 5, 6, 3), (2, 5, 6, 7)])
def test_npy_with_channels_first(tmp_path, shape):
    array = RNG.normal(size=shape).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read(tmp_path / "a.npy").values.numpy(), array if array.ndim > 2 else array[None])


@pytest.mark.parametrize("shape", [(5, 7, 3), (64, 64, 64), (3, 5, 3), (7,), (2, 3, 4, 5, 6), (0, 4, 4), (30, 5, 6, 7)])
def test_npy_of_doubtful_shape_is_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    with pytest.raises(BadFile, match="moveaxis"):
        read(tmp_path / "a.npy")


def test_npy_with_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadFile, match="Python objects"):
        read(tmp_path / "a.npy")


def test_retina_of_scikit_image():
    import skimage

    path = Path(skimage.__file__).parent / "data" / "retina.jpg"
    if not path.exists():
        pytest.skip("retina.jpg is not shipped with this scikit-image")
    assert read(path).values.shape == (3, 1411, 1411)


def test_content_counts_not_the_suffix(tmp_path):
    Pil.fromarray(GRAY8).save(tmp_path / "a.png")
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.png").read_bytes())
    assert np.array_equal(read(tmp_path / "a.dcm").values[0].numpy(), GRAY8)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "t.dcm").write_text("a report, not an image\n" * 20)
    (tmp_path / "zero.nii").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    for name, match in [
        ("missing.dcm", "no such file"),
        ("t.dcm", "no known image format. Pellucid reads DICOM"),
        ("zero.nii", "0 bytes"),
        ("folder", "no files"),
        ("texts", "none of them a DICOM image"),
        ("foreign.npz", "did not write"),
    ]:
        with pytest.raises(BadFile, match=match):
            read(tmp_path / name)
