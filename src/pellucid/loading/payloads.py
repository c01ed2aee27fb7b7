"""Payloads of a .pt2 file: tensors made from their bytes here. How they are read follows from checked numbers alone, never from a flag."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import BadFile
from pellucid.loading.trust import Trust, at_least
from pellucid.loading.weights import as_data

STRIDED = 7  # of torch._export.serde.schema.Layout
DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64,
          9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16, 28: torch.uint16,
          29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 31: torch.float8_e4m3fnuz, 32: torch.float8_e5m2fnuz}  # fmt: skip  # its ScalarType
SPREAD = 2**24  # bytes that expanded tensors may take beyond what is stored: torch copies every view of a buffer into one of its own
OBJECTS = ("custom_obj", "opaque_obj")  # of TorchScript, of Python


def tensors(parts: Mapping[str, bytes], folder: str, name: str, kind: str, path: Path, trust: Trust) -> dict[str, Any]:
    """The tensors of one folder by their names in the program; those that share memory go on sharing it.

    Raises:
        BadFile: what is said of a tensor does not fit its bytes, or of all of them far more than is stored.
        Untrusted: pickles of more than tensors.
    """
    found = _read(parts, folder, name, kind, path, trust)
    _refuse_spread(found.values(), sum(len(data) for key, data in parts.items() if key.startswith(folder)), path)
    return found


def _read(parts: Mapping[str, bytes], folder: str, name: str, kind: str, path: Path, trust: Trust) -> dict[str, Any]:
    whole = f"{folder}{name}.pt"  # as torch 2.8 wrote it
    if whole in parts:
        return _of_tensors(_unpickled(whole, parts[whole], path, trust), path, trust) if parts[whole] else {}
    said = json.loads(parts[f"{folder}{name}_{kind}_config.json"])["config"]
    flat: dict[tuple[str, int], Tensor] = {}
    out: dict[str, Any] = {}
    for key, meta in said.items():
        short = meta["path_name"]
        payload = parts[folder + short]
        if short.startswith(OBJECTS):
            at_least(trust, "pickle", f"{short}, an object inside the program,", path)
            out[key] = torch._C._pickle_load_obj(payload) if short.startswith(OBJECTS[0]) else pickle.loads(payload)
        elif meta["use_pickle"]:
            out |= _of_tensors({key: _unpickled(short, payload, path, trust)}, path, trust)
        else:
            out[key] = _strided(payload, short, meta, flat, path)
    return out


def _refuse_spread(held: Iterable[Any], stored: int, path: Path) -> None:
    """A stride of 0, or many views of one buffer, say of a small file that it takes any amount of memory."""
    dense = [t for t in held if isinstance(t, Tensor) and t.layout is torch.strided]
    views = {(t.data_ptr(), t.dtype, t.shape, t.stride()): math.prod(t.shape) * t.itemsize for t in dense}
    if sum(views.values()) > 2 * stored + SPREAD:
        fix = "Export it with expanded buffers as small ones (expand them in forward)."
        raise BadFile(f"the tensors of {path} take {sum(views.values())} bytes", f"{stored} stored", fix)


def _strided(payload: bytes, short: str, meta: Mapping[str, Any], flat: dict[tuple[str, int], Tensor], path: Path) -> Tensor:
    """A tensor within its bytes, on the CPU wherever it was."""
    said = meta["tensor_meta"]
    sizes, strides = ([_count(n) for n in said[k]] for k in ("sizes", "strides"))
    offset, dtype = _count(said["storage_offset"]), DTYPES[said["dtype"]]
    have = len(payload) // dtype.itemsize
    needed = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) + 1 if math.prod(sizes) else 0
    if said["layout"] != STRIDED or needed > have:
        raise BadFile(f"{short} of {path} holds {needed} numbers", f"{have} of {dtype}, layout {said['layout']}", "Is it complete?")
    if (short, said["dtype"]) not in flat:
        flat[short, said["dtype"]] = torch.frombuffer(bytearray(payload), dtype=dtype, count=have) if have else torch.empty(0, dtype=dtype)
    tensor = flat[short, said["dtype"]].as_strided(sizes, strides, offset)
    if not meta["is_param"]:
        return tensor
    return nn.Parameter(tensor, requires_grad=said["requires_grad"] is True)


def _count(said: Mapping[str, Any]) -> int:
    count = said["as_int"]
    if type(count) is not int or count < 0:
        raise ValueError(f"a size of {count!r}")
    return count


def _unpickled(short: str, payload: bytes, path: Path, trust: Trust) -> Any:
    try:
        return as_data(io.BytesIO(payload), path)
    except pickle.UnpicklingError:
        at_least(trust, "pickle", f"{short}, a pickle inside the program,", path)
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=False)


def _of_tensors(held: Any, path: Path, trust: Trust) -> dict[str, Any]:
    if not isinstance(held, dict) or not (trust == "pickle" or all(isinstance(v, Tensor) for v in held.values())):
        raise BadFile(f"tensors by name in {path}", type(held).__name__, "Export it again.")
    return held
