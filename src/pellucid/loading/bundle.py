"""MONAI bundles: metadata is data and read freely; ``network_def`` is a program and needs the user's word."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from torch import nn

from pellucid.errors import BadFile, BadModel, Unsupported
from pellucid.loading.members import names, text
from pellucid.loading.torchscript import from_torchscript
from pellucid.loading.trust import Loaded, Trust, at_least, reading, sha256
from pellucid.loading.weights import put, read_weights
from pellucid.probe.ledger import random_state

METADATA = "configs/metadata.json"
CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml", "configs/evaluate.json", "configs/train.json",
           "configs/train.yaml")  # fmt: skip
DEFINITIONS = ("network_def", "network", "net")
WEIGHTS = ("models/model.safetensors", "models/model.pt", "models/model.pth")
SCRIPT = "models/model.ts"


def bundle_facts(source: str | Path) -> dict[str, Any]:
    """What a bundle says of itself, without running anything: name, version, task, classes, channels, spatial shape, value range.

    Raises:
        BadFile: no metadata, or not JSON.
    """
    path = Path(source)
    with reading(f"{METADATA} of {path}", "Give a MONAI bundle's folder or zip."):
        return _facts(json.loads(text(path / METADATA) if path.is_dir() else text(path, _inside(names(path)) + METADATA)))


def _facts(said: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {k: str(said[k]) for k in ("name", "version", "task") if k in said}
    formats = said.get("network_data_format", {})
    takes: Mapping[str, Any] = next(iter(formats.get("inputs", {}).values()), {})
    gives: Mapping[str, Any] = next(iter(formats.get("outputs", {}).values()), {})
    found |= {k: takes[k] for k in ("num_channels", "spatial_shape", "value_range", "modality") if k in takes}
    names = gives.get("channel_def") or {}
    if names and all(str(k).isdigit() for k in names):
        found["classes"] = tuple(str(names[k]) for k in sorted(names, key=int))
        found["outputs"] = gives.get("num_channels")
    return found


def from_bundle(path: Path, weights: Path | None, trust: Trust, options: Mapping[str, Any]) -> Loaded:
    """The bundle's network with its weights; ``options`` replace arguments of ``network_def``.

    Raises:
        BadFile: not a bundle, or a part is missing.
        BadModel: the definition fails or does not fit its weights.
        Untrusted: below trust='code'; metadata is read all the same, see ``bundle_facts``.
    """
    facts = bundle_facts(path)
    if path.is_dir():
        return _built(path, facts, weights, trust, options, path.name)
    at_least(trust, "code", "a MONAI bundle is a program; running its network_def", path)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)  # zipfile keeps members inside the folder
        return _built(Path(folder) / _inside(archive.namelist()), facts, weights, trust, options, path.stem)


def holds_bundle(members: list[str]) -> bool:
    """Whether the files of a zip are those of a MONAI bundle."""
    return any(n == METADATA or (n.endswith("/" + METADATA) and n.count("/") == 2) for n in members)


def _inside(members: list[str]) -> str:
    """The bundle's folder within its zip, "" or "name/"."""
    full = next((n for n in members if n == METADATA or n.endswith("/" + METADATA)), METADATA)
    return full.removesuffix(METADATA) if ".." not in PurePosixPath(full).parts else ""


def _built(root: Path, facts: Mapping[str, Any], weights: Path | None, trust: Trust, options: Mapping[str, Any], name: str) -> Loaded:
    config = next((root / c for c in CONFIGS if (root / c).is_file()), None)
    stored = weights or next((root / w for w in WEIGHTS if (root / w).is_file()), None)
    name, described = str(facts.get("name", name)), _described(facts)
    if config is None or stored is None:
        if (root / SCRIPT).is_file() and weights is None:
            script = from_torchscript(root / SCRIPT, trust)
            return Loaded(script.module, "MONAI bundle", name, script.files, described, script.notes)
        raise BadFile(
            f"a bundle in {root}", "no inference config" if config is None else "no models/model.pt", "Is it complete? Give weights=."
        )
    at_least(trust, "code", "a MONAI bundle is a program; running its network_def", config)
    files = {config.name: sha256(config)}  # before anything of it runs
    state, files[stored.name] = read_weights(stored, trust)
    back = random_state()
    try:
        net = _network(root, config, options)
    finally:
        back()
    put(net, state, stored)
    return Loaded(net.eval(), "MONAI bundle", name, files, described)


def _network(root: Path, config: Path, options: Mapping[str, Any]) -> nn.Module:
    """Only the network's definition is instantiated; loaders, handlers and transforms are not."""
    try:
        from monai.bundle import ConfigParser
    except ImportError as error:
        raise Unsupported("a MONAI bundle needs MONAI", "no module 'monai'", "pip install pellucid[monai]") from error
    try:
        parser = ConfigParser()
        parser.read_config(str(config))
        parser.read_meta(str(root / METADATA))
        parser["bundle_root"] = str(root)
        key = next((k for k in DEFINITIONS if isinstance(parser.config, dict) and k in parser.config), None)
        if key is None:
            raise BadModel(f"{config.name} defines the network", "no " + " or ".join(DEFINITIONS), "Give its factory instead.")
        for option, value in options.items():
            parser[f"{key}::{option}"] = value
        net = parser.get_parsed_content(key, instantiate=True)
    except BadModel:
        raise
    except Exception as error:
        raise BadModel(
            f"{config.name} builds a network", f"{type(error).__name__}: {str(error)[:200]}", "Try it in MONAI itself."
        ) from error
    if not isinstance(net, nn.Module):
        raise BadModel(f"{key} of {config.name} is a network", type(net).__name__, "Give its factory instead.")
    return net


def _described(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a Model may take over: class names where there is one per output, and the range of a prepared image."""
    out: dict[str, Any] = {}
    names = facts.get("classes", ())
    if names and facts.get("outputs") in (None, len(names)):
        out["classes"] = names
    ends = facts.get("value_range")
    if isinstance(ends, list) and len(ends) == 2 and all(isinstance(e, (int, float)) for e in ends) and ends[0] < ends[1]:
        out["range"] = (float(ends[0]), float(ends[1]))
    return out
