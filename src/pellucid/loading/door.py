"""The door: from what a user names to a described network."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from pellucid.errors import BadFile, BadModel, BadParameter
from pellucid.loading.bundle import from_bundle, holds_bundle
from pellucid.loading.exported import from_exported, holds_program
from pellucid.loading.factory import from_factory
from pellucid.loading.members import names
from pellucid.loading.torchscript import from_torchscript, holds_script
from pellucid.loading.trust import Loaded, Trust, as_trust, sha256
from pellucid.loading.weights import unpickled
from pellucid.model import Model

PHANTOM = "phantom:"
DESCRIBING = tuple(f.name for f in fields(Model) if f.name not in ("module", "source"))


def load_model(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    trust: Trust = "data",
    classes: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    **describe: Any,
) -> Model:
    """A Model from a file, a factory or a name; what would run somebody's code asks for the user's word first.

    Args:
        source: ``package.module:factory`` or ``path/to/file.py:factory`` (code), a ``.pt2`` exported program (data), a TorchScript file
            (code; gradients and scores only), a MONAI bundle's folder or zip (code), a pickled network (pickle), or ``phantom:NAME`` (data).
        weights: state dict of a factory or bundle: ``.safetensors``, or ``.pt`` / ``.pth`` / ``.bin`` read as data. Every name and shape
            must fit; ``state_dict``, ``model_state_dict`` and ``model`` are unwrapped, ``module.`` and ``model.`` taken off.
        trust: how far the user's word reaches. ``"data"`` runs no program of the sender's: tensors are read as numbers,
            a ``.pt2`` may call known operators only. It is no sandbox: a network can still ask for more memory or time
            than there is, and be wrong. ``"code"`` also runs factories, TorchScript and bundles; ``"pickle"`` also unpickles.
        classes: names in the order of the outputs; None: what the source says.
        options: keyword arguments of the factory, or of the bundle's ``network_def``.
        describe: ``output select prepare normalize range windows ends_in name``, as ``Model`` takes them.

    Returns:
        The Model, in evaluation mode on the CPU; ``Model.source`` keeps where it is from, the sha256 of its files, the trust it took, remarks.

    Raises:
        Untrusted: the user's word is missing; names file and sha256. Nothing of the file has run.
        BadFile: missing or corrupt.
        BadModel: the factory fails, or weights do not fit.
    """
    trust, text = as_trust(trust), str(source)
    for name in describe:
        if name not in DESCRIBING:
            near = difflib.get_close_matches(name, DESCRIBING, 1)
            raise BadParameter(
                f"a model is described by {', '.join(DESCRIBING)}", repr(name), f"Did you mean {near[0]!r}?" if near else "Drop it."
            )
    if classes is not None:
        if isinstance(classes, str):
            raise BadParameter("classes is a sequence of names", repr(classes), "Write classes=('healthy', 'disease').")
        describe["classes"] = tuple(classes)
    given = {k: v for k, v in describe.items() if v is not None}
    found = _open(text, None if weights is None else Path(weights), trust, dict(options or {}))
    model, loaded = found if isinstance(found, tuple) else (None, found)
    named = text if text.startswith(PHANTOM) else Path(text).name  # without its folder, which may name a person
    kept: dict[str, Any] = {"from": named, "kind": loaded.kind, "trust": trust}
    kept |= {"sha256": dict(loaded.files), "notes": loaded.notes}
    if model is not None:
        return replace(model, **given, source=kept)
    return Model(loaded.module, **{"name": loaded.name, **loaded.described, **given}, source=kept)


def _open(text: str, weights: Path | None, trust: Trust, options: Mapping[str, Any]) -> Loaded | tuple[Model, Loaded]:
    path = Path(text)
    if path.is_dir():
        return from_bundle(path, weights, trust, options)
    if path.is_file():
        return _file(path, weights, trust, options)
    if text.startswith(PHANTOM):
        _alone(text, weights, options)
        return _phantom(text)
    if ":" in text and all(text.rpartition(":")[::2]):
        return from_factory(text, weights, trust, options)
    fix = "Give package.module:factory, path/to/file.py:factory, a .pt2, .ts or bundle that exists, or phantom:NAME."
    raise BadModel("a model is a factory, a file, a bundle or a phantom", repr(text), fix)


def _file(path: Path, weights: Path | None, trust: Trust, options: Mapping[str, Any]) -> Loaded:
    """A file by what is in it, whatever it is called."""
    inside = names(path)
    if holds_bundle(inside):
        return from_bundle(path, weights, trust, options)
    _alone(str(path), weights, options)
    if holds_script(inside):
        return from_torchscript(path, trust)
    if holds_program(inside):
        return from_exported(path, trust)
    if path.suffix in (".safetensors", ".py"):
        fix = f"Write {path}:factory." if path.suffix == ".py" else f"Give load_model('package.module:factory', weights={path.name!r})."
        raise BadModel("a model's source says how it is built", f"{path}, {'a program' if path.suffix == '.py' else 'weights alone'}", fix)
    if path.suffix == ".pt2":
        raise BadFile(f"an exported program in {path}", "another kind of file", "Is it complete, and written by torch.export.save?")
    held, digest = unpickled(path, trust)
    if not isinstance(held, nn.Module):
        fix = f"Give load_model('package.module:factory', weights={path.name!r})."
        raise BadModel("a model's source says how it is built", f"{path}, weights alone", fix)
    return Loaded(held.eval(), "pickled network", type(held).__name__, {path.name: digest})


def _alone(text: str, weights: Path | None, options: Mapping[str, Any]) -> None:
    if weights is not None or options:
        what = "weights=" if weights is not None else "options="
        raise BadModel(f"{what} goes with a factory or a bundle", text, "It is complete as it is: leave them out.")


def _phantom(text: str) -> Loaded:
    from pellucid.phantoms import nets

    name = text.removeprefix(PHANTOM)
    module, classes, facts = nets.load(name)
    said = {"output": facts["output"]} if "output" in facts else {}
    file = nets.WEIGHTS / f"{name}.safetensors"
    return Loaded(module, "phantom", text, {file.name: sha256(file)}, {"classes": classes, "prepare": nets.as_drawn, **said})
