"""Sites: ``name[#call][path]`` to a place in the network, where activations are read or replaced."""

from __future__ import annotations

import contextlib
import difflib
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pellucid.errors import BadSite, Unsupported
from pellucid.model import Model

if TYPE_CHECKING:
    from pellucid.probe.geometry import Call, Layout

_traces: weakref.WeakKeyDictionary[nn.Module, dict[Any, list[Call]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Place:
    """A site found: module, which of its calls, which part of its output, and how that part is laid out."""

    text: str
    name: str
    call: int
    path: tuple[Any, ...]
    layout: Layout
    shape: tuple[int, ...]  # of the activation in map form: (c, *space), or (c,)


def forget(module: nn.Module) -> None:
    """Drop what is known of a network's calls: whatever was changed since, in its code or settings, may move its cells."""
    _traces.pop(module, None)


def calls(model: Model, x: Tensor) -> tuple[list[Call], int]:
    """Every module call of one pass over ``x`` (c, *space), and how many passes it cost (0: known from before)."""
    if isinstance(model.module, torch.jit.ScriptModule):
        raise Unsupported("a site needs a network whose modules can be watched", "TorchScript", "Load the factory with its weights.")
    known = _traces.setdefault(model.module, {})
    key = (tuple(x.shape), x.dtype)
    if key in known:
        return known[key], 0
    batch = x[None] if model.normalize is None else model.normalize(x[None])
    from pellucid.probe.geometry import trace  # followed only where a site is asked for: importing pellucid stays cheap

    try:
        known[key] = trace(model.module, batch)
    except (RuntimeError, ValueError, IndexError):
        with torch.no_grad():
            model.forward(x[None])  # says what does not fit
        raise
    return known[key], 1


def find(model: Model, text: str, x: Tensor) -> tuple[Place, int]:
    """The place that ``text`` names (``"auto"``: the last one with spatial extent before the head), and the passes it cost."""
    seen, passes = calls(model, x)
    if text == "auto":
        from pellucid.probe.geometry import pick_auto

        call = pick_auto(seen, tuple(x.shape[1:]))
        return _place(_name(seen, call), call), passes
    parsed = re.fullmatch(r"(?P<name>.*?)(?:#(?P<call>\d+))?(?P<path>(?:\[[^\]]*\])*)", text)
    assert parsed is not None
    name = parsed["name"]
    names = dict.fromkeys(c.name for c in seen)
    if name not in names:
        near = difflib.get_close_matches(name, names, 3, 0.4) or [n for n in names if n][-3:]
        exists = name in dict(model.module.named_modules())
        raise BadSite(
            f"a site of {model.name}",
            f"{name!r}, which {'does not run on this image' if exists else 'does not exist'}",
            "Nearest: " + ", ".join(repr(n) for n in near) + ".",
        )
    runs = _runs(seen, name)
    if parsed["call"] is None and runs > 1:
        raise BadSite(f"one call of {name!r}", f"a module that runs {runs} times", f"Write '{name}#0' to '{name}#{runs - 1}'.")
    index = int(parsed["call"] or 0)
    path = tuple(int(p) if p.lstrip("-").isdigit() else p.strip("'\"") for p in re.findall(r"\[([^\]]*)\]", parsed["path"]))
    found = [c for c in seen if c.name == name and c.index == index]
    if not found:
        raise BadSite(f"call #{index} of {name!r}", f"{runs} calls", f"The last is '{name}#{runs - 1}'.")
    for c in found:
        if c.path == path:
            return _place(text, c), passes
    parts = ", ".join(f"{name}{''.join(f'[{p!r}]' for p in c.path)} {c.shape}" for c in found)
    raise BadSite(f"a tensor at {text!r}", "an output of several parts" if not path else "no such part", f"Choose one of: {parts}.")


def everywhere(model: Model, x: Tensor) -> tuple[list[str], int]:
    """All sites with channels and spatial extent, in the order in which the network passes them, and the passes it cost.

    Of calls that return the very same tensor the outermost is named; pooled and padded cells, and tokens that the head cannot hear, are left out.
    """
    from pellucid.probe.geometry import spatial

    seen, passes = calls(model, x)
    found = spatial(seen, tuple(x.shape[1:]))
    return [_name(seen, c) + "".join(f"[{p!r}]" for p in c.path) for c in found], passes


def _name(seen: list[Call], call: Call) -> str:
    return f"{call.name}#{call.index}" if _runs(seen, call.name) > 1 else call.name


def _place(text: str, call: Call) -> Place:
    layout = call.layout
    channels = 1 if layout.channel is None else call.shape[layout.channel]
    return Place(text, call.name, call.index, call.path, layout, (channels, *(layout.space or ())))


def _runs(seen: list[Call], name: str) -> int:
    return len({c.index for c in seen if c.name == name})


def part(output: Any, path: tuple[Any, ...]) -> Tensor:
    """The tensor at a path inside a module's output."""
    for step in path:
        output = output[step] if not (isinstance(step, str) and hasattr(output, step)) else getattr(output, step)
    return output  # type: ignore[no-any-return]


def replaced(output: Any, path: tuple[Any, ...], value: Tensor) -> Any:
    """A module's output with the tensor at a path exchanged; the original is not written to."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(output, dict):
        return type(output)({**output, step: replaced(output[step], rest, value)})  # type: ignore[call-arg]
    items = list(output)
    items[step] = replaced(items[step], rest, value)
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


@contextlib.contextmanager
def watching(module: nn.Module, place: Place, use: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Call ``use`` with the activation at a place whenever this thread lets the network pass it; what it returns takes its place."""
    count, me = 0, threading.get_ident()

    def hook(_m: nn.Module, _args: Any, output: Any) -> Any:
        nonlocal count
        if threading.get_ident() != me:  # someone else's forward pass
            return None
        count += 1
        if count != place.call + 1:
            return None
        new = use(part(output, place.path))
        return None if new is None else replaced(output, place.path, new)

    handle = module.get_submodule(place.name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def planting(place: Place, planted: Tensor | None, found: list[Tensor], gradient: bool) -> Callable[[Tensor], Tensor]:
    """Exchange the activation at a place (n, c, *space) for ``planted``, or for a leaf of its own values; the leaf goes to ``found``."""

    def use(z: Tensor) -> Tensor:
        with torch.no_grad():
            own = place.layout.to_map(z.detach()).clone() if planted is None else planted.detach().clone()
        own.requires_grad_(gradient)
        found.append(own)
        with torch.enable_grad() if gradient else torch.no_grad():
            return place.layout.from_map(own, z.detach()).clone()  # the network may write into it

    return use
