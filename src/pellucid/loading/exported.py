"""Exported programs: a .pt2 file is taken apart, and a program is made of what was checked; torch never opens the file itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pellucid.errors import BadFile, BadModel, Unsupported
from pellucid.loading.graph_check import cleaned, suspects
from pellucid.loading.members import as_stored
from pellucid.loading.operators import misfits
from pellucid.loading.payloads import tensors
from pellucid.loading.trust import Loaded, Trust, at_least, reading

READ = ("models/", "data/weights/", "data/constants/")  # no libraries, and no sample inputs: pickles, and perhaps somebody's scan
PLAINLY = "If this is an operator, export it plainly (torch.export.export(model.eval(), (x,)), no run_decompositions)"
TURNED_ON = {"train", "training"}  # arguments of dropout and batch norm
INSTANCE_NORM = "aten._native_batch_norm_legit.no_stats"  # as which run_decompositions() writes it, "training" and all


def from_exported(path: Path, trust: Trust) -> Loaded:
    """The network of an exported program, its modules restored, so that sites exist.

    Raises:
        BadFile: corrupt, or of an older format.
        BadModel: exported in training mode.
        Untrusted: it holds more than a graph of known operators and tensors.
    """
    again = f"Export it again with torch {torch.__version__}: torch.export.save(torch.export.export(model.eval(), (x,)), 'model.pt2')."
    parts, digest = as_stored(path, READ)
    graphs = [name for name in parts if name.startswith("models/")]
    if len(graphs) != 1:
        raise BadFile(f"one exported program in {path}", f"{len(graphs)} in this archive", again)
    name = graphs[0].removeprefix("models/").removesuffix(".json")
    with reading(str(path), again):
        program = cleaned(json.loads(parts.pop(graphs[0])))
        if trust == "data" and (found := suspects(program)):
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            at_least(trust, "code", f"a program with {', '.join(found[:3])}{more} is more than data, so it", path, safe=PLAINLY)
        _refuse_training(program, path)
        weights, constants = (tensors(parts, f"data/{kind}/", name, kind, path, trust) for kind in ("weights", "constants"))
        module = _module(program, weights, constants)
    return Loaded(module, "exported program", path.stem, {path.name: digest})


def holds_program(names: list[str]) -> bool:
    """Whether the files of a zip are those of an exported program, of this format or an older one."""
    return (
        any(n.split("/", 1)[-1].startswith("models/") and n.endswith(".json") for n in names) or "serialized_exported_program.json" in names
    )


def _module(program: Any, weights: dict[str, Any], constants: dict[str, Any]) -> torch.nn.Module:
    """torch's own reading of a graph. What it gets is parsed and checked already: given bytes, it would unpickle them."""
    try:
        from torch._export.serde import schema
        from torch._export.serde.serialize import ExportedProgramDeserializer, _dict_to_dataclass
    except ImportError as error:
        raise Unsupported("a .pt2 file needs torch 2.8 or newer", torch.__version__, "Update torch.") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own format
        described = _dict_to_dataclass(schema.ExportedProgram, program)
        held = ExportedProgramDeserializer().deserialize(described, weights, constants)
        wrong = next(misfits(held.graph_module), None)
        if wrong is not None:
            raise BadModel("each argument of an operator is of its kind", wrong, "Export it again.")
        return torch.export.unflatten(held)


def _refuse_training(program: Mapping[str, Any], path: Path) -> None:
    """A graph with dropout or batch statistics switched on answers differently each time."""
    for node in _nodes(program):
        for given in node["inputs"]:
            operator = str(node.get("target")).removeprefix("torch.ops.")
            if given.get("name") in TURNED_ON and given["arg"].get("as_bool") is True and operator != INSTANCE_NORM:
                fix = "Export model.eval()."
                raise BadModel(f"{path.name} was exported for evaluation", f"{operator} with {given['name']}=True", fix)


def _nodes(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [n for v in value for n in _nodes(v)]
    if not isinstance(value, dict):
        return []
    own = [value] if "target" in value and "inputs" in value else []
    return own + [n for v in value.values() for n in _nodes(v)]
