"""Weights: a state dict read as data, matched to a network name by name."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from pellucid.errors import BadFile, BadModel, Untrusted
from pellucid.loading.members import unpacked_is_bounded
from pellucid.loading.trust import Trust, at_least, first_line, reading, whole

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile
PROGRAMS = {"builtins", "importlib", "nt", "os", "posix", "runpy", "shutil", "socket", "subprocess", "sys"}  # modules that do things
SHOWN = 4
WRITTEN = "Is it complete, and written by torch.save?"


def read_weights(path: Path, trust: Trust) -> tuple[dict[str, Any], str]:
    """Names and tensors of a .safetensors, .pt, .pth or .bin file, and its sha256; nothing in it is run below trust='pickle'.

    Raises:
        BadFile: missing, corrupt, or without a state dict.
        Untrusted: it holds more than tensors and plain values.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load

        data, digest = whole(path)
        with reading(str(path), "Is it complete, and a safetensors file?"):
            return dict(load(data)), digest
    held, digest = unpickled(path, trust)
    if isinstance(held, nn.Module):
        return dict(held.state_dict()), digest
    for key in WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not any(isinstance(v, Tensor) for v in held.values()):
        got = f"a dict with {_some([str(k) for k in held])}" if isinstance(held, Mapping) else type(held).__name__
        raise BadFile(f"a state dict in {path}", got, f"Save torch.save(model.state_dict(), path), or under one of {', '.join(WRAPPERS)}.")
    return {str(k): v for k, v in held.items()}, digest


def unpickled(path: Path, trust: Trust) -> tuple[Any, str]:
    """What torch.save wrote, and the file's sha256: tensors and plain values; anything else only with trust='pickle'.

    Raises:
        BadFile: truncated, corrupt, or no such file of torch.
        Untrusted: it asks for classes or functions that are not data.
    """
    data, digest = whole(path)
    if trust != "pickle":
        unpacked_is_bounded(data, path)
    try:
        return as_data(io.BytesIO(data), path), digest
    except pickle.UnpicklingError as error:
        asked = _asked_for(data, error)
        if not asked:
            raise BadFile(f"read {path}", first_line(error), WRITTEN) from error
        if trust != "pickle":
            _refuse(path, digest, asked, trust)
    with reading(str(path), "Its classes must be importable here."):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False), digest


def as_data(held: IO[bytes], path: Path) -> Any:
    """A pickle of tensors and plain values, with nothing in it run.

    Raises:
        UnpicklingError: it asks for more.
        BadFile: damaged.
    """
    with reading(str(path), WRITTEN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about protocols of pickle
        try:
            return torch.load(held, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            asks = error
    raise asks


def _asked_for(data: bytes, error: Exception) -> list[str]:
    """Every class or function that a pickle asks for beyond plain data, found without running it."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with contextlib.suppress(Exception):  # a file made to confuse: then the refusal's message names the first
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    return (
        re.findall(r"GLOBAL ([\w.]+)", str(error))[:1] or re.findall(r"[Uu]nsupported (?:class|operand|instruction)[^\n]*", str(error))[:1]
    )


def _refuse(path: Path, digest: str, asked: list[str], trust: Trust) -> None:
    whole = any(name.startswith("torch.nn.modules") for name in asked)
    if whole:
        safe = "Save its state_dict() and load it with a factory: load_model('package.module:factory', weights=...)"
        at_least(trust, "pickle", f"a pickled network runs what its file says (here {_some(asked)}), so it", path, safe=safe)
    runs = [name for name in asked if name.split(".")[0] in PROGRAMS or "." not in name]
    if runs:
        fix = "No checkpoint needs these: do not load it, unless with trust='pickle' (--unsafe-pickle) because you made it yourself."
    else:
        allow = f"torch.serialization.add_safe_globals([{asked[0].split('.')[-1]}])"
        fix = f"Save the state dict alone; or, if harmless, allow them: {allow}; or pass trust='pickle' (--unsafe-pickle)."
    raise Untrusted("weights hold tensors and plain values", f"{path} (sha256 {digest}), which asks for {_some(runs or asked)}", fix)


def put(module: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load a state dict into a network, every name accounted for; prefixes of wrappers are taken off.

    Raises:
        BadModel: missing or unexpected names, or shapes that differ, all named.
    """
    expected = module.state_dict()
    state = _bare(state, set(expected))
    missing = [k for k in expected if k not in state]
    unexpected = [k for k in state if k not in expected]
    if missing or unexpected:
        parts = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        parts += [f"{len(unexpected)} unexpected ({_some(unexpected)})"] if unexpected else []
        fix = "Are these the weights of this architecture, and the factory's options those of the training?"
        raise BadModel(f"{path.name} fits {type(module).__name__} name by name", " and ".join(parts), fix)
    other = [
        f"{k} {tuple(state[k].shape)} for {tuple(v.shape)}"
        for k, v in expected.items()
        if isinstance(v, Tensor) and not nn.parameter.is_lazy(v) and (not isinstance(state[k], Tensor) or state[k].shape != v.shape)
    ]
    if other:
        raise BadModel(f"{path.name} has the shapes of {type(module).__name__}", _some(other), "Check the factory's options.")
    broken = [k for k, v in state.items() if isinstance(v, Tensor) and v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise BadModel("weights are finite numbers", f"NaN or infinity in {_some(broken)}", "Choose an earlier checkpoint.")
    module.load_state_dict(state, strict=True)


def _bare(state: Mapping[str, Any], expected: set[str]) -> dict[str, Any]:
    """The names with as many wrappers' prefixes taken off as makes most of them known."""
    best = now = dict(state)
    while prefix := next((p for p in PREFIXES if now and all(k.startswith(p) for k in now)), None):
        now = {k.removeprefix(prefix): v for k, v in now.items()}
        best = max(best, now, key=lambda names: len(expected & set(names)))
    return best


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
