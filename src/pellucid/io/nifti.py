"""NIfTI-1 and NIfTI-2, single file, gzipped or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.errors import BadFile
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.io.content import decoding, tensor

MILLIMETERS = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
CODES = {0: "unknown", 1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
UNSIDED = "sides unknown"  # in descrip of our own files: the scan did not say which side is left
MAGIC = {b"n+1\0": 344, b"n+2\0": 4}


def read_nifti(data: bytes, digest: str, path: Path) -> Image:
    """A NIfTI file as stored: axes (i, j, k), a fourth as channels; scl_slope applied; k = 1 gives a 2D image.

    The affine is the sform where its code is above 0, else the qform, else the voxel size alone (then left and right are unknown).
    """
    import nibabel

    if not any(data[at : at + 4] == magic for magic, at in MAGIC.items()):
        raise BadFile(
            f"read {path}", "a NIfTI pair (.hdr/.img)", "Convert it to one file: nibabel.save(nibabel.load(path), 'scan.nii.gz')."
        )
    with decoding("NIfTI", path):
        kind = nibabel.Nifti2Image if data[4:8] == b"n+2\0" else nibabel.Nifti1Image
        header = kind.header_class.from_fileobj(BytesIO(data), check=False)
        _check_codes(header, path)
        _check_size(header, len(data), path)
        scan = kind.from_bytes(data)
        header = scan.header
        values, notes = _samples(scan, path)
        grid, facts, more = _grid(header, values.shape[1:])
    named = ("red", "green", "blue") if header.get_data_dtype().names else ()
    facts |= {"format": "NIfTI", "stored": str(header.get_data_dtype().name if not named else "RGB"), "sha256": digest}
    return Image(tensor(values, path), grid, "intensity" if named else "a.u.", named, None, facts, (*notes, *more))


def _check_codes(header: Any, path: Path) -> None:
    """What nibabel would mend without a word: an orientation dropped for its code, samples read from inside the header."""
    codes = [int(header["sform_code"]), int(header["qform_code"])]
    fix = "The header is corrupt: copy or export it again."
    if not all(0 <= c <= 5 for c in codes):
        raise BadFile(f"read {path}", f"sform code {codes[0]}, qform code {codes[1]}, of which NIfTI knows 0 to 5", fix)
    start, least = float(header["vox_offset"]), header.single_vox_offset
    if not start >= least:
        raise BadFile(f"read {path}", f"samples that start at byte {start:g}, inside the header of {least} bytes", fix)


def _check_size(header: Any, length: int, path: Path) -> None:
    """Compare what the header promises with what is there, before anything is allocated."""
    shape = [int(n) for n in header.get_data_shape()]
    if not shape or min(shape) < 1:
        raise BadFile(f"read {path}", f"a NIfTI header with shape {tuple(shape)}", "It is corrupt: copy or export it again.")
    need = int(header["vox_offset"]) + int(header.get_data_dtype().itemsize) * int(np.prod(shape, dtype=object))
    if need > length:
        fix = "It is truncated: copy or download it again."
        raise BadFile(f"read {path}", f"{length} of the {need} bytes that the header promises", fix)


def _samples(scan: Any, path: Path) -> tuple[np.ndarray, list[str]]:
    """Scaled samples as (c, *space), trailing axes of length 1 taken off."""
    notes: list[str] = []
    dtype = scan.get_data_dtype()
    if dtype.names:  # RGB24 / RGBA32
        raw = np.asanyarray(scan.dataobj)
        values = np.stack([raw[n] for n in ("R", "G", "B")])
        notes += ["alpha channel dropped"] if "A" in dtype.names else []
        values = values.squeeze(-1) if values.ndim > 3 and values.shape[-1] == 1 else values
        extra = values.ndim - 1
    else:
        values = np.asanyarray(scan.dataobj)
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        extra = values.ndim
        if values.ndim == 4:
            notes.append(f"fourth axis ({values.shape[3]}) read as channels")
            values = np.moveaxis(values, 3, 0)
        elif values.ndim <= 3:
            values = values[None]
        if values.ndim == 4 and values.shape[-1] == 1:
            values = values[..., 0]  # a 2D image in 3D clothes, as `write` makes them
    if extra > 4 or values.ndim not in (3, 4):
        fix = "Save one 3D volume, or a 4D one whose last axis are channels."
        raise BadFile(f"read {path}", f"an array of shape {tuple(scan.shape)}", fix)
    return values, notes


def _grid(header: Any, space: tuple[int, ...]) -> tuple[Grid, dict[str, Any], list[str]]:
    """sform if its code is above 0, else qform, else voxel sizes; lengths in mm."""
    notes: list[str] = []
    sform, s = header.get_sform(coded=True)
    qform, q = header.get_qform(coded=True)
    scale = np.diag([MILLIMETERS.get(header.get_xyzt_units()[0], 1.0)] * 3 + [1.0])
    if s > 0 and q > 0:
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*space, *[1] * (4 - len(space))]
        apart = float(np.abs((sform - qform) @ corners.T)[:3].max()) * scale[0, 0]
        if apart > 0.01:
            notes.append(f"sform and qform differ by up to {apart:.3g} mm; the sform was used")
    ours = bytes(header["descrip"].tobytes())
    if s > 0 or q > 0:
        source, code, matrix = ("sform", int(s), sform) if s > 0 else ("qform", int(q), qform)
        grid = Grid(space, as_affine(scale @ matrix), "mm")
        facts = {"affine": source, "space": CODES.get(code, str(code)), "sided": UNSIDED.encode() not in ours}
    else:
        sizes = [abs(float(v)) or 1.0 for v in header["pixdim"][1 : 1 + len(space)]]
        plain = header.get_xyzt_units()[0] == "unknown" and (b"pellucid" in ours or set(sizes) == {1.0})
        grid = Grid(space) if plain else Grid.spaced(space, [v * float(scale[0, 0]) for v in sizes])
        facts = {"affine": "none", "space": "unknown", "sided": False}
        notes.append("the header holds no orientation: left and right are unknown")
    return grid, facts, notes


def write_nifti(target: Path, values: Tensor, grid: Grid, facts: Mapping[str, Any], sided: bool) -> None:
    """Float32 NIfTI in the grid's own frame: qform and sform equal, code 1 in mm; a 2D grid as (h, w, 1); channels last.

    A grid that knows nothing but the size of its voxels (of a scan without orientation) gets code 0 as its scan has it: every reader then
    lays the map where it lays the scan, and none takes it for placed in a patient.
    """
    import nibabel

    from pellucid.io.archive import VERSION
    from pellucid.io.picture import top_of

    array = values.detach().cpu().numpy().astype(np.float32)
    array = array[..., None] if grid.ndim == 2 else array
    array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    plain = Grid.spaced(grid.shape, grid.spacing).matrix
    placed = grid.unit == "mm" and (sided or not np.allclose(grid.matrix, plain, rtol=1e-12, atol=1e-12))
    scan = nibabel.Nifti1Image(array, grid.matrix if placed else None, dtype=np.float32)
    if grid.unit == "mm":
        scan.header["pixdim"][1 : 1 + grid.ndim] = grid.spacing
    if placed:  # else both codes stay 0
        scan.header.set_sform(grid.matrix, 1)
        scan.header.set_qform(grid.matrix, 1, strip_shears=True)
    scan.header.set_xyzt_units("mm" if grid.unit == "mm" else "unknown")
    scan.header.set_slope_inter(1.0, 0.0)
    scan.header.set_intent("none", (), name="saliency")
    full = top_of(array)  # where viewers (FSLeyes, MRIcroGL, NiiVue) begin and end their colors
    scan.header["cal_max"], scan.header["cal_min"] = full, -full if float(array.min()) < 0 else 0.0
    said = f"pellucid archive {VERSION}; {'' if sided else UNSIDED + '; '}{facts.get('method', '')}"
    scan.header["descrip"] = said.encode("ascii", "replace")[:79]
    packed = scan.to_bytes()
    if target.name.lower().endswith(".gz"):
        import gzip

        packed = gzip.compress(packed, compresslevel=1, mtime=0)  # no time stamp: the same map gives the same file
    target.write_bytes(packed)


def is_ours(path: Path) -> bool:
    """Whether an existing NIfTI was written here, so that it may be replaced."""
    import gzip

    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            head = file.read(348)
    except (OSError, EOFError):
        return False
    return head[148:156] == b"pellucid" and head[328:336] == b"saliency"


def sidecar(facts: Mapping[str, Any], grid: Grid, sided: bool) -> str:
    """The JSON text that lies next to a NIfTI file: provenance, and what the header cannot hold."""
    from pellucid.io.archive import jsonable

    body = {"pellucid": "map", "facts": jsonable(facts, strict=True), "grid": grid.facts(), "sides_known": sided}
    return json.dumps(body, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
