"""What may be opened: the folder and nothing else; uploads; bombs and broken files refused in words."""

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image as Pil
from tests.io.dicoms import write_series
from tests.viewer.conftest import BYTES, said, samples_of

import pellucid as pl
from pellucid.errors import BadFile

OUTSIDE = [
    "..",
    "../",
    "/etc",
    "/etc/passwd",
    "fundus/../..",
    "fundus/../../etc",
    "..\\x",
    "a\0b",
    ".hidden",
    "C:/x",
    "//etc",
    "~/x",
    "fundus/..",
]


def test_a_folder_is_listed_a_level_at_a_time(viewer):
    found = viewer.api.get("/api/files").json()
    assert [(e["name"], e["kind"]) for e in found["entries"]] == [
        ("fundus", "folder"), ("series", "folder"), ("brain.nii.gz", "NIfTI"), ("broken.png", "PNG"),
    ]  # fmt: skip
    assert found["skipped"] == 2 and found["parent"] is None
    series = viewer.api.get("/api/files?path=series").json()
    assert [(e["path"], e["kind"], e["files"]) for e in series["entries"]] == [("series", "DICOM", 48)] and series["parent"] == ""


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_is_listed_or_opened(viewer, path):
    for answer in (
        viewer.api.get("/api/files", params={"path": path}),
        viewer.api.post("/api/scans", json={"path": path}),
        viewer.api.get("/api/series", params={"path": path}),
        viewer.api.post("/api/marks/file", json={"scan": "0" * 16, "path": path}),
    ):
        assert answer.status_code in (400, 404) and "passwd" not in answer.text.replace(path.strip("/"), ""), path


def test_links_out_of_the_folder_are_not_followed(start, tmp_path):
    home, secret = tmp_path / "home", tmp_path / "secret"
    (home / "slices").mkdir(parents=True)
    secret.mkdir()
    np.save(secret / "scan.npy", np.zeros((4, 4), np.float32))
    (home / "link.npy").symlink_to(secret / "scan.npy")
    (home / "folder").symlink_to(secret)
    (home / "slices" / "one.dcm").symlink_to(secret / "scan.npy")
    (home / "loop").symlink_to(home / "loop")
    one = start(home, home / "work")
    assert [e["name"] for e in one.api.get("/api/files").json()["entries"]] == ["slices"]  # nor the viewer's own folder inside
    for path in ("link.npy", "folder", "folder/scan.npy", "slices", "loop", "work"):
        assert one.api.post("/api/scans", json={"path": path}).status_code == 400, path
    one.end()


def test_a_scan_is_the_one_that_read_gives(viewer):
    scan = viewer.scan("fundus/image.png")
    display, image = scan["display"], pl.read(viewer.folder / "fundus" / "image.png")
    for n in range(3):
        raw = samples_of(viewer.api.get(f"/api/scans/{scan['id']}/channels/{n}"), display["channels"][n]["bits"])
        assert np.array_equal(raw.reshape(display["shape"]), image.values[n].numpy().astype(np.uint8))
    assert viewer.scan("fundus/image.png")["id"] == scan["id"]
    assert viewer.api.get(f"/api/scans/{scan['id']}/channels/3").status_code == 404


def test_a_volume_comes_in_viewing_order_with_its_letters(viewer):
    scan = viewer.scan("brain.nii.gz")["display"]
    assert [p["edges"] for p in scan["planes"]] == [["R", "L", "A", "P"], ["R", "L", "S", "I"], ["A", "P", "S", "I"]]
    affine = np.array(scan["affine"])[:3, :3]
    assert affine[0, 0] < 0 and affine[1, 1] < 0 and affine[2, 2] > 0  # toward left, back and head


def test_a_dicom_series_is_found_and_opened(viewer):
    (one,) = viewer.api.get("/api/series", params={"path": "series"}).json()
    assert one["slices"] == 48 and one["modality"] == "MR"
    scan = viewer.scan("series", series=one["uid"])
    assert scan["dicom"] and scan["display"]["sided"] and "Doe" not in str(scan)


def test_uploads_are_opened_like_files_and_named_by_no_path(viewer):
    data = (viewer.folder / "fundus" / "image.png").read_bytes()
    sent = viewer.api.post("/api/uploads", params={"name": "../../evil.png"}, content=data, headers=BYTES).json()
    assert sent["name"] == "evil.png" and sent["size"] == len(data)
    scan = viewer.api.post("/api/scans", json={"upload": sent["id"]}).json()
    assert scan["name"] == "evil.png" and scan["display"]["shape"] == [128, 128]
    files = sorted((viewer.folder / "series").iterdir())
    key = None
    for f in files[:5]:
        more = {"into": key} if key else {}
        key = viewer.api.post("/api/uploads", params={"name": f.name, **more}, content=f.read_bytes(), headers=BYTES).json()["id"]
    assert len(viewer.api.get("/api/series", params={"upload": key}).json()) == 1
    wrong = viewer.api.post("/api/uploads?name=a", content=b"x", headers={"content-type": "text/plain"})
    assert wrong.status_code == 400
    assert viewer.api.post("/api/uploads?name=a&into=../../x", content=b"x", headers=BYTES).status_code == 404


def bombs(most: int) -> dict[str, bytes]:
    """Small files that unpack to more than ``most`` bytes."""
    pack = io.BytesIO()
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("pellucid.json", b"{}")
        z.writestr("values.npy", b"\0" * (most + 1))
    wide = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + wide + struct.pack(">I", zlib.crc32(b"IHDR" + wide))
    small = io.BytesIO()
    Pil.fromarray(np.zeros((8, 8), "u1")).save(small, "JPEG")
    jpeg = small.getvalue().replace(struct.pack(">HH", 8, 8), struct.pack(">HH", 12_000, 12_000))
    comment = b"\xff\xfe\xff\xff" + b"x" * 65_533
    return {
        "bomb.nii.gz": gzip.compress(b"\0" * (most + 400)),
        "twice.nii.gz": gzip.compress(b"\0" * (most // 2 + 400)) * 3,  # several streams, one after the other
        "bomb.npz": pack.getvalue(),
        "bomb.png": b"\x89PNG\r\n\x1a\n" + chunk,
        "bomb.jpg": jpeg,
        "filled.jpg": jpeg[:2] + b"\xff" * 3 + jpeg[2:],  # ITU-T T.81, B.1.1.2 allows it
        "told.jpg": jpeg[:2] + comment * 17 + jpeg[2:],
        "noise.jpg": jpeg[:20] + b"noise" + jpeg[20:],  # decoders look for the next marker
    }


def test_bombs_are_refused_before_they_are_unpacked(start, tmp_path):
    from pellucid.viewer.limits import Limits

    most = 4 * 2**20
    (tmp_path / "scans").mkdir()
    for name, data in bombs(most).items():
        (tmp_path / "scans" / name).write_bytes(data)
        assert len(data) < most / 3
    np.save(tmp_path / "scans" / "large.npy", np.zeros((1100, 1100), np.float32))
    one = start(tmp_path / "scans", tmp_path / "work", limits=Limits(unpacked=most))
    for name in (*bombs(most), "large.npy"):
        answer = one.api.post("/api/scans", json={"path": name})
        assert answer.status_code == 400 and "a scan of at most 4 MiB" in said(answer)["asked"], name
    one.end()


def wrapped(folder) -> list[str]:
    """Scans whose packing shows only inside: in gzip, deflated, run-length coded, with and without a preamble, and each in a folder of two."""
    import tifffile

    tifffile.imwrite(folder / "stack.tif", np.zeros((8, 1024, 1024), "u1"), compression="zlib", photometric="minisblack")
    Pil.fromarray(np.zeros((2000, 2000), "u1")).save(folder / "wide.png")
    for name in ("stack.tif", "wide.png"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        halves = (folder / name).read_bytes()[:5], (folder / name).read_bytes()[5:]
        (folder / f"twice-{name}.gz").write_bytes(b"".join(map(gzip.compress, halves)))  # the first stream is too short to tell the format
    found = []
    for syntax in ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"):
        home = folder / syntax[-2:].strip(".")
        write_series(home, np.zeros((2, 1200, 1200), "<i2"))
        for f in sorted(home.iterdir()):
            ds = pydicom.dcmread(f)
            if syntax.endswith(".5"):
                ds.compress(syntax)
            ds.file_meta.TransferSyntaxUID = syntax
            ds.save_as(f, enforce_file_format=True)
        found.append(home.name)
        one = next(iter(home.iterdir())).read_bytes()
        (folder / f"{home.name}.dcm").write_bytes(one)
        (folder / f"{home.name}.dcm.gz").write_bytes(gzip.compress(one))
        found += [f"{home.name}.dcm", f"{home.name}.dcm.gz"]
    (folder / "bare.dcm").write_bytes((folder / "5.dcm").read_bytes()[132:])
    gz = ["stack.tif.gz", "wide.png.gz", "twice-stack.tif.gz", "twice-wide.png.gz"]
    return [*gz, "stack.tif", "wide.png", "bare.dcm", *found]


def test_a_picture_that_says_no_size_is_refused_before_it_is_read(tmp_path):
    from pellucid.viewer.limits import Limits, weigh

    for n, data in enumerate((b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xfe\xff\xff" + b"x" * 99)):
        (tmp_path / f"{n}.jpg").write_bytes(data)
        with pytest.raises(BadFile, match="as picture"):
            weigh(tmp_path / f"{n}.jpg", Limits())


def test_what_is_packed_is_weighed_wherever_it_lies(start, tmp_path):
    """Each is opened where it may unpack so far, and refused where it may not: weighing is neither got round nor too strict."""
    from pellucid.viewer.limits import Limits

    (tmp_path / "scans").mkdir()
    names = wrapped(tmp_path / "scans")
    small = start(tmp_path / "scans", tmp_path / "small", limits=Limits(unpacked=2 * 2**20), phantoms=False)
    for name in names:
        answer = small.api.post("/api/scans", json={"path": name})
        assert answer.status_code == 400 and ("at most 2 MiB" in said(answer)["asked"] or "holds one scan" in said(answer)["asked"]), (
            name,
            answer.text,
        )
    small.end()
    large = start(tmp_path / "scans", tmp_path / "large", limits=Limits(unpacked=32 * 2**20), phantoms=False)
    for name in names:
        answer = large.api.post("/api/scans", json={"path": name})
        assert answer.status_code == 200, (name, answer.text)
    large.end()


def test_broken_files_are_told_in_words(viewer):
    answer = viewer.api.post("/api/scans", json={"path": "broken.png"})
    assert answer.status_code == 400 and said(answer)["kind"] == "BadFile" and "Traceback" not in answer.text
    for data in (
        b"",
        b"\0",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\0\0",
        b"II*\0" + b"\xff" * 40,
        b"\0" * 128 + b"DICM" + b"\xff" * 30,
    ):
        sent = viewer.api.post("/api/uploads?name=x", content=data, headers=BYTES)
        if sent.status_code == 200:
            answer = viewer.api.post("/api/scans", json={"upload": sent.json()["id"]})
            assert answer.status_code == 400 and said(answer)["kind"] == "BadFile", data


def test_a_scan_that_changed_on_disk_is_not_taken_for_the_old_one(start, tmp_path):
    (tmp_path / "scans").mkdir()
    path = tmp_path / "scans" / "a.npy"
    np.save(path, np.zeros((8, 8), np.float32))
    one = start(tmp_path / "scans", tmp_path / "work")
    key = one.scan("a.npy")["id"]
    one.end()
    np.save(path, np.ones((8, 8), np.float32))
    two = start(tmp_path / "scans", tmp_path / "work")
    answer = two.api.get(f"/api/scans/{key}")
    assert answer.status_code == 400 and "changed" in said(answer)["got"]
    two.end()
