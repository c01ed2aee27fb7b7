"""Findings over many images: how they came about, and one way in which all of them are saved and loaded again.

A finding is a readable JSON file. What is large (pictures, directions) lies beside it in a ``.safetensors`` file of the same name, known by its hash.
"""

from __future__ import annotations

import datetime
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import versions
from pellucid.errors import BadFile, BadModel, BadParameter, PellucidError
from pellucid.explanation import Evidence, Provenance, evidence_facts, evidence_from, image_facts, image_from
from pellucid.files import put
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.io.content import decoding
from pellucid.model import Model, as_model
from pellucid.run import Run
from pellucid.target import Target, read_target
from pellucid.written import written

VERSION = 1
KEPT, HIDDEN = "kept", "hidden"  # of a field: only in what is saved, not in ``facts``; never told nor saved
SEAL = "seal"
AGAIN = "It is damaged or was edited: copy it again, or compute it anew."


def signed(
    model: Model, run: Run, method: str, *, image: str, seconds: float, target: str = "", site: str = "", scan: str = "", cite: str = "",
    notes: Sequence[str] = (),
) -> Provenance:  # fmt: skip
    """How a finding came about: network, question, images (one hash over all fingerprints, where there are several), seed, versions and time."""
    return Provenance(
        method=method,
        target=target,
        site=site,
        image=image,
        scan=scan or image,
        model=model.name,
        classes=model.classes,
        prepare=written(model.prepare),
        normalize=written(model.normalize),
        seed=run.seed,
        seconds=round(seconds, 4),
        device=str(model.device),
        versions=versions(),
        time=now(),
        cite=cite,
        caveats=tuple(dict.fromkeys(notes)),
        described=model.described(),
        hash_weights=model.weights_later(),
    )


def signed_rows(method: str, rows: np.ndarray, *, target: str = "", cite: str = "") -> Provenance:
    """How a finding from a table of features came about: no network was asked, the rows are known by their hash."""
    mark = digest(torch.from_numpy(np.ascontiguousarray(rows)))
    return Provenance(method=method, target=target, site="", image=mark, scan=mark, versions=versions(), time=now(), cite=cite)


def now() -> str:
    """The time as a Provenance tells it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Finding:
    """Abstract: a dataclass of plain values, arrays, images and others like itself, with a ``provenance``; its class names its ``kind``.

    One with a ``network`` (its identity) is refused for any other network. What has a ``sentence`` is told with it; it is not read back.
    """

    kind: typing.ClassVar[str] = ""

    def facts(self) -> dict[str, Any]:
        """What was found as plain values, provenance among them: what JSON can hold and people can read."""
        return {"kind": self.kind, **_fields(self, _Arrays(None))}

    def save(self, path: str | Path) -> Path:
        """Write everything as ``.json``, whole or not at all, and arrays of more than one axis beside it as ``.safetensors``.

        Nothing in it names a file or a patient; pictures that belong to the finding are in it. ``load`` reads it back, every number as it was.

        Raises:
            BadParameter: another suffix.
            BadFile: no such folder, or a file there that is no finding.
        """
        path = Path(path)
        if path.suffix != ".json":
            raise BadParameter("a finding is saved as .json", repr(path.suffix), f"Write {self.kind + '.json'!r}.")
        _guard(path)
        beside = path.with_suffix(".safetensors")
        arrays = _Arrays({})
        told = {"kind": self.kind, "version": VERSION, **_fields(self, arrays)}
        assert arrays.kept is not None
        if arrays.kept:
            from safetensors.torch import save

            data = save(arrays.kept)
            told["arrays"] = digest(data)
            put(beside, data)
        told[SEAL] = _seal(told)
        return put(path, json.dumps(told, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path, net: Any = None) -> Self:
        """Read back what ``save`` wrote.

        Args:
            path: the ``.json`` file; a ``.safetensors`` file that it names must lie beside it.
            net: the network that it must be of; None: any.

        Raises:
            BadFile: no finding, one of another kind, one that a newer Pellucid wrote, or a damaged or missing file.
            BadModel: it is of another network, or of other weights or preparation.
        """
        path = Path(path)
        told = _read(path)
        kinds = {c.kind: c for c in _below(Finding) if c.kind and issubclass(c, cls)}
        if told.get("kind") not in kinds:
            raise BadFile(f"{' or '.join(sorted(kinds))} in {path}", repr(told.get("kind")), "Load it by the class that saved it.")
        if not isinstance(told.get("version"), int) or told["version"] > VERSION:
            raise BadFile(f"read {path}", f"version {told.get('version')}, newer than {VERSION}", "Update Pellucid.")
        if told.get(SEAL) != _seal(told):
            raise BadFile(f"{path} as it was written", "other contents", AGAIN)
        arrays = _Arrays(_beside(path, told.get("arrays")))
        with decoding(f"{told['kind']}", path):
            found = cast(Self, _made(kinds[told["kind"]], told, arrays))
        if net is not None:
            check_network(found, net)
        return found


def check_network(found: Any, net: Any) -> None:
    """Raise BadModel unless a finding is of this network, as it is described and with these weights."""
    model, known = as_model(net), getattr(found, "network", "")
    if known and known != model.identity:
        got = f"one of network {known[:12]}, given {model.identity[:12]}: other weights, another structure, preparation or description"
        raise BadModel(f"{found.kind} of this network", got, "Load the network that it was found on, or compute it anew.")
    if not known:
        raise BadModel(f"{found.kind} of a network", "one that no network was asked for", "Leave net= out.")


def _below(kind: type[Finding]) -> list[type[Finding]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _below(child))]


def _guard(path: Path) -> None:
    """Only a finding is replaced."""
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    if path.exists() and (path.is_dir() or f'"{SEAL}": "'.encode() not in path.read_bytes()[-200:]):
        raise BadFile(f"write {path}", "something that is no finding of Pellucid", "Choose another name, or move it away.")


def _seal(told: Mapping[str, Any]) -> str:
    return digest(json.dumps({k: v for k, v in told.items() if k != SEAL}, sort_keys=True))


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(f"a finding: {path}", error.strerror or "no file", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise BadFile(f"a finding: {path}", "no JSON", AGAIN) from error
    if not isinstance(told, dict) or "kind" not in told:
        raise BadFile(f"a finding: {path}", "a file of something else", "Give what save() wrote.")
    return told


def _beside(path: Path, told: Any) -> dict[str, Tensor]:
    """The arrays of a finding, if it has any."""
    if told is None:
        return {}
    from safetensors.torch import load

    file = path.with_suffix(".safetensors")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadFile(f"the arrays of {path.name}: {file}", error.strerror or "no file", "Keep both files together.") from error
    if digest(data) != told:
        raise BadFile(f"{file} as it was written", "other bytes", AGAIN)
    with decoding("arrays", file):
        return cast(dict[str, Tensor], load(data))


@dataclass(eq=False)
class _Arrays:
    """Arrays that lie beside the JSON, by name; None: none are wanted, what needs them is left out."""

    kept: dict[str, Tensor] | None
    images: dict[Any, Any] = field(default_factory=dict)  # an image that stands in several places is kept once

    def add(self, value: Tensor) -> dict[str, str]:
        assert self.kept is not None
        name = f"array_{len(self.kept)}"
        self.kept[name] = value.detach().cpu().contiguous().clone()
        return {"array": name}

    def get(self, told: Any) -> Tensor:
        assert self.kept is not None
        return self.kept[told["array"]]


def _fields(value: Any, arrays: _Arrays) -> dict[str, Any]:
    found = {}
    for f in fields(value):
        if f.metadata.get(HIDDEN) or (arrays.kept is None and f.metadata.get(KEPT)):
            continue
        found[f.name] = _plain(getattr(value, f.name), arrays)
    return found | ({"sentence": value.sentence} if hasattr(value, "sentence") else {})


def _plain(value: Any, arrays: _Arrays) -> Any:
    """A value as JSON holds it; what is large as the name of an array."""
    if isinstance(value, Image):
        return _picture(value, arrays)
    if isinstance(value, Grid):
        return value.facts()
    if isinstance(value, Provenance):
        return _plain(value.as_dict(), arrays)
    if isinstance(value, Evidence):
        return _plain(evidence_facts(value), arrays)
    if isinstance(value, Target):
        return {"target": repr(value) if _same(value) else None}
    if isinstance(value, (Tensor, np.ndarray)):
        flat = torch.as_tensor(value)
        return _plain(flat.tolist(), arrays) if flat.ndim == 1 or arrays.kept is None else arrays.add(flat)
    if hasattr(value, "as_kept"):
        return _plain(value.as_kept(), arrays)
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value, arrays)
    if isinstance(value, Mapping):
        named = all(isinstance(k, str) for k in value)
        return (
            {k: _plain(v, arrays) for k, v in value.items()}
            if named
            else [[_plain(k, arrays), _plain(v, arrays)] for k, v in value.items()]
        )
    if isinstance(value, (list, tuple)):
        return [_plain(v, arrays) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return {"target": None}  # a function as a target: text cannot hold it


def _same(target: Target) -> bool:
    """Whether a target's text says all of it."""
    try:
        return repr(read_target(repr(target))) == repr(target) and "mask=" not in repr(target)
    except PellucidError:
        return False


def _picture(image: Image, arrays: _Arrays) -> dict[str, Any]:
    told = _plain(image_facts(image), arrays)
    if arrays.kept is None:
        return cast(dict[str, Any], told)
    if id(image) not in arrays.images:
        more = {"values": arrays.add(image.values)}
        if image.background is not None:
            more["background"] = arrays.add(image.background)
        arrays.images[id(image)] = more
    return {**told, **arrays.images[id(image)]}


def _made(hint: Any, told: Any, arrays: _Arrays) -> Any:
    """The reverse of ``_plain``, by what a field is declared to hold."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return _anything(told)
    if origin in (typing.Union, types.UnionType):
        if told is None and type(None) in args:
            return None
        several = [a for a in args if a is not type(None)]
        chosen = next((a for a in several if is_dataclass(a) and {f.name for f in fields(a)} == set(told)), several[-1])
        return _made(chosen, told, arrays)
    if origin is Literal:
        return args[args.index(told)]
    if origin is tuple:
        kinds = [args[0]] * len(told) if args[-1] is Ellipsis else args
        return tuple(_made(k, v, arrays) for k, v in zip(kinds, told, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        pairs = told.items() if isinstance(told, dict) else told
        return {_made(args[0], k, arrays): _made(args[1], v, arrays) for k, v in pairs}
    if origin is np.ndarray:
        dtype = get_args(args[1])[0]
        return arrays.get(told).numpy() if isinstance(told, dict) else np.array([_number(v) for v in told], dtype)
    return _single(hint, told, arrays)


def _single(hint: Any, told: Any, arrays: _Arrays) -> Any:
    if hint is Image:
        name = told["values"]["array"]
        if name not in arrays.images:
            shade = arrays.get(told["background"]) if "background" in told else None
            arrays.images[name] = image_from(arrays.get(told["values"]), _frozen(told), shade)
        return arrays.images[name]
    if hint is Grid:
        return Grid.of_facts(told)
    if hint is Provenance:
        return Provenance.from_dict(told)
    if hint is Evidence:
        return evidence_from(_numbers(told))
    if is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        given = {f.name: _made(hints[f.name], told[f.name], arrays) for f in fields(hint) if not f.metadata.get(HIDDEN)}
        return cast(Any, hint)(**given)
    if hint is float:
        return _number(told)
    if not isinstance(told, hint) or (hint is int and isinstance(told, bool)):
        raise TypeError(f"{told!r} is no {hint.__name__}")
    return told


def _anything(told: Any) -> Any:
    """A target: a name, a number, or its text; None where text could not hold it."""
    if isinstance(told, dict):
        return None if told["target"] is None else read_target(told["target"])
    return told


def _number(told: Any) -> float:
    return math.nan if told is None else float(told)


def _numbers(told: Mapping[str, Any]) -> dict[str, Any]:
    rows = [row | {"value": _number(row["value"])} for row in told["measurements"]]
    return {**told, "measurements": rows}


def _frozen(value: Any) -> Any:
    """JSON arrays come back as tuples: facts are not to be changed."""
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
