"""Exported programs: a .pt2 file is taken apart, checked, and put together again from what was checked."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pellucid.errors import BadFile, BadModel, Unsupported
from pellucid.loading.graph_check import cleaned, suspects
from pellucid.loading.trust import Loaded, Trust, at_least, sha256

KEPT = ("models/", "data/weights/", "data/constants/", "archive_format", "archive_version", "byteorder", ".data/")
TURNED_ON = {"train", "training"}  # arguments of dropout and batch norm


def from_exported(path: Path, trust: Trust) -> Loaded:
    """The network of an exported program, its modules restored, so that sites exist.

    Raises:
        BadFile: corrupt, or of an older format.
        BadModel: exported in training mode.
        Untrusted: it holds more than a graph of ATen operators and tensors.
    """
    try:
        from torch.export.pt2_archive._package import load_pt2
    except ImportError as error:
        raise Unsupported("a .pt2 file needs torch 2.8 or newer", torch.__version__, "Update torch.") from error
    parts = _parts(path)
    graphs = [name for name in parts if name.startswith("models/")]
    if len(graphs) != 1:
        fix = "Export it again: torch.export.save(torch.export.export(model.eval(), (x,)), 'model.pt2')."
        raise BadFile(f"one exported program in {path}", f"{len(graphs)} in this archive", fix)
    program = _json(parts[graphs[0]], path)
    if trust == "data":
        program = cleaned(program)
        found = suspects(program)
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            at_least(trust, "code", f"a program with {', '.join(found[:3])}{more} can run code, so it", path)
        parts[graphs[0]] = json.dumps(program).encode()
    _refuse_training(program, path)
    if trust != "pickle":
        for folder in ("data/weights/", "data/constants/"):
            _rewrite_pickles(parts, folder, path, trust)
    name = graphs[0].removeprefix("models/").removesuffix(".json")
    parts[f"data/sample_inputs/{name}.pt"] = b""  # a pickle that nobody needs, and perhaps somebody's scan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own format
        try:
            held = load_pt2(io.BytesIO(_packed(parts)))
            module = torch.export.unflatten(held.exported_programs[name])
        except Exception as error:
            fix = f"Export it again with torch {torch.__version__}."
            raise BadFile(f"read {path}", f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:160]}", fix) from error
    return Loaded(module, "exported program", path.stem, {path.name: sha256(path)})


def holds_program(names: list[str]) -> bool:
    """Whether the files of a zip are those of an exported program, of this format or an older one."""
    return (
        any(n.split("/", 1)[-1].startswith("models/") and n.endswith(".json") for n in names) or "serialized_exported_program.json" in names
    )


def _parts(path: Path) -> dict[str, bytes]:
    """The files inside, without the archive's own folder; native libraries and whatever else lies there is left out."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {n: n.split("/", 1)[-1] for n in archive.namelist()}
            return {short: archive.read(n) for n, short in inside.items() if short.startswith(KEPT)}
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError) as error:
        raise BadFile(f"read {path}", str(error), "Is it complete?") from error


def _json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadFile(f"read {path}", "a broken graph", "Is it complete?") from error


def _rewrite_pickles(parts: dict[str, bytes], folder: str, path: Path, trust: Trust) -> None:
    """Tensors that are pickles are read as data and written anew; objects need the user's word."""
    config: dict[str, Any] = {}
    for name in [n for n in parts if n.startswith(folder) and n.endswith("_config.json")]:
        config |= _json(parts[name], path).get("config") or {}
    pickled = {meta["path_name"] for meta in config.values() if meta.get("use_pickle")}
    for name in [n for n in parts if n.startswith(folder) and not n.endswith("_config.json")]:
        short = name.removeprefix(folder)
        if short.startswith(("custom_obj", "opaque_obj")):
            at_least(trust, "pickle", f"{short}, an object inside the program,", path)
        elif short in pickled or short.endswith(".pt"):
            try:
                tensor = torch.load(io.BytesIO(parts[name]), map_location="cpu", weights_only=True)
            except Exception:
                at_least(trust, "pickle", f"{short}, a pickle inside the program,", path)
                raise
            fresh = io.BytesIO()
            torch.save(tensor, fresh)
            parts[name] = fresh.getvalue()


def _refuse_training(program: Mapping[str, Any], path: Path) -> None:
    """A graph with dropout or batch statistics switched on answers differently each time."""
    for node in _nodes(program):
        for given in node.get("inputs", []):
            if given.get("name") in TURNED_ON and given.get("arg", {}).get("as_bool") is True:
                operator = str(node.get("target")).removeprefix("torch.ops.")
                fix = "Export model.eval()."
                raise BadModel(f"{path.name} was exported for evaluation", f"{operator} with {given['name']}=True", fix)


def _nodes(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [n for v in value for n in _nodes(v)]
    if not isinstance(value, dict):
        return []
    own = [value] if "target" in value and "inputs" in value else []
    return own + [n for v in value.values() for n in _nodes(v)]


def _packed(parts: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(f"program/{name}", data)
    return out.getvalue()
