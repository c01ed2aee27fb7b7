"""The archive: tensors, facts and grid in one ``.npz``, exact, versioned, without pickle."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadFile, BadParameter
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io.content import MOST_UNPACKED, decoding, load

VERSION = 1
ENTRY = "pellucid.json"
STAMP = (1980, 1, 1, 0, 0, 0)  # zip wants a time; a fixed one makes equal content equal bytes


def jsonable(value: Any, *, strict: bool = False) -> Any:
    """Facts as JSON values: mappings, sequences, strings, numbers, bools, None; ``strict`` spells nan and inf as strings.

    Raises:
        BadParameter: a value that JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return {str(k): jsonable(v, strict=strict) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        ordered = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [jsonable(v, strict=strict) for v in ordered]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and strict and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise BadParameter("facts hold text, numbers, bools, None, sequences and mappings", type(value).__name__, "Pass tensors as arrays.")


def _frozen(value: Any) -> Any:
    """JSON arrays come back as tuples: facts are not to be changed."""
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def pack_archive(target: Path, arrays: Mapping[str, Tensor], grid: Grid, facts: Mapping[str, Any]) -> None:
    """Write tensors of any real dtype (bfloat16 too), facts and grid; ``numpy.load`` reads the arrays as well.

    Raises:
        BadParameter: a name that is not an identifier, or facts that JSON cannot hold.
    """
    wrong = [name for name in arrays if not name.isidentifier()]
    if wrong or not arrays:
        raise BadParameter("an archive holds named arrays", repr(wrong or "none"), "Use Python identifiers as names.")
    kinds = {name: str(a.dtype).removeprefix("torch.") for name, a in arrays.items()}
    meta = {"pellucid": "archive", "version": VERSION, "grid": grid.facts(), "facts": jsonable(facts), "dtypes": kinds}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as pack:
        pack.writestr(zipfile.ZipInfo(ENTRY, STAMP), json.dumps(meta, indent=1))
        for name, value in arrays.items():
            value = value.detach().cpu().contiguous()
            value = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
            body = BytesIO()
            np.lib.format.write_array(cast(Any, body), value.numpy(), allow_pickle=False)
            pack.writestr(zipfile.ZipInfo(f"{name}.npy", STAMP), body.getbuffer(), zipfile.ZIP_DEFLATED, 1)


def read_archive(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], Grid]:
    """Tensors, facts and grid of an archive, bit for bit as they were written (sequences in facts come back as tuples).

    Raises:
        BadFile: missing, corrupt, or an ``.npz`` that Pellucid did not write.
    """
    data, _ = load(Path(path))
    return _unpack(data, Path(path))


def _unpack(data: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Grid]:
    with decoding("archive", path), zipfile.ZipFile(BytesIO(data)) as pack:
        if ENTRY not in pack.namelist():
            fix = "Save the array itself: numpy.save('scan.npy', array) with shape (c, h, w) or (c, i, j, k)."
            raise BadFile(f"read {path}", "a zip or .npz that Pellucid did not write", fix)
        meta = json.loads(pack.read(ENTRY))
        if not all(isinstance(part, dict) for part in (meta, meta["facts"], meta["dtypes"])):
            raise BadFile(f"read {path}", "a table of contents that is none", "It is corrupt: copy or save it again.")
        if meta["version"] > VERSION:
            raise BadFile(f"read {path}", f"archive version {meta['version']}, newer than {VERSION}", "Update Pellucid.")
        grid = Grid.of_facts(meta["grid"])
        arrays = {}
        for name, kind in meta["dtypes"].items():
            with pack.open(f"{name}.npy") as file:
                _check_size(file, pack.getinfo(f"{name}.npy").file_size, path)
            with pack.open(f"{name}.npy") as file:
                value = torch.from_numpy(np.lib.format.read_array(cast(Any, file), allow_pickle=False))
                if file.read(1):  # at its end, zipfile compares the checksum
                    raise BadFile(f"read {path}", f"bytes after the last sample of {name!r}", "It is corrupt: copy or save it again.")
            arrays[name] = value.view(torch.bfloat16) if kind == "bfloat16" else value
        return arrays, _frozen(meta["facts"]), grid


def _check_size(file: Any, size: int, path: Path) -> None:
    """Compare what a member's header promises with what the archive says it holds, before anything is allocated."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    need = math.prod(shape) * dtype.itemsize
    if need > size or size > MOST_UNPACKED:
        raise BadFile(f"read {path}", f"an array of {need:,} bytes in a member of {size:,}", "It is corrupt: copy or save it again.")


def image_from_archive(data: bytes, digest: str, path: Path) -> Image:
    """The array ``values`` of an archive as an Image on the archive's grid."""
    arrays, facts, grid = _unpack(data, path)
    if "values" not in arrays:
        raise BadFile(f"read {path} as an image", f"arrays {sorted(arrays)}", "Take what you need from read_archive(path).")
    values = arrays["values"]
    values = values if values.ndim > grid.ndim else values[None]
    return Image(values, grid, facts=facts | {"format": "NPZ", "sha256": digest})


def is_ours(path: Path) -> bool:
    """Whether an existing archive was written here, so that it may be replaced."""
    try:
        with zipfile.ZipFile(path) as pack:
            return ENTRY in pack.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
