"""Factories: ``package.module:factory`` or ``path/to/file.py:factory``, found without running anything, run with the user's word."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pellucid.errors import BadModel
from pellucid.loading.trust import Loaded, Trust, at_least, sha256
from pellucid.loading.weights import put, read_weights
from pellucid.model import Model
from pellucid.probe.ledger import random_state


def from_factory(source: str, weights: Path | None, trust: Trust, options: Mapping[str, Any]) -> Loaded | tuple[Model, Loaded]:
    """The network that a factory makes, with weights; a factory may also give a Model, described already.

    Raises:
        BadModel: no such module or factory, or it fails, or it gives no network.
        Untrusted: below trust='code'.
    """
    where, _, attribute = source.rpartition(":")
    file = _file(where)
    at_least(trust, "code", f"a factory is a program; running {source}", file)
    files = {file.name: sha256(file)}
    state = None
    if weights is not None:  # told before a large network is built
        state, files[weights.name] = read_weights(weights, trust)
    back = random_state()  # a new network draws its start from the global random state
    try:
        made = _made(source, _module(where, file), attribute, options)
    finally:
        back()
    model = made if isinstance(made, Model) else None
    net = made.module if isinstance(made, Model) else made
    if not isinstance(net, nn.Module):
        raise BadModel(f"{source} gives a torch.nn.Module", type(net).__name__, "Return the network from the factory.")
    notes: tuple[str, ...] = ()
    if state is None:
        notes = ("no weights file was given: the network is as its factory makes it",)
    elif weights is not None:
        put(net, state, weights)
    loaded = Loaded(net.eval(), "factory", type(net).__name__, files, {}, notes)
    return loaded if model is None else (model, loaded)


def _file(where: str) -> Path:
    """The file of a module, found without importing its packages (that would run them)."""
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise BadModel("a factory lies in a file", f"{where}, which does not exist", "Check the path.")
        return Path(where)
    places: list[str] | None = None
    spec = None
    with _reaching(Path.cwd()):
        for depth, _ in enumerate(where.split("."), 1):
            name = ".".join(where.split(".")[:depth])
            found = (f.find_spec(name, places, None) for f in sys.meta_path if hasattr(f, "find_spec"))
            spec = next((s for s in found if s is not None), None)
            if spec is None:
                raise BadModel("a factory lies in a module", f"no module {name!r}", "Install it, or give path/to/file.py:factory.")
            places = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise BadModel("a factory lies in a Python file", f"{where!r}, which has none", "Name the module inside the package.")
    return Path(spec.origin)


def _module(where: str, file: Path) -> Any:
    """Import the module; a file by its path, with its folder open for what it imports in turn."""
    with _failing(where):
        if not where.endswith(".py"):
            with _reaching(Path.cwd()):
                return importlib.import_module(where)
        name = f"pellucid_model_{file.stem}_{sha256(file)[:8]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            with _reaching(file.resolve().parent):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _made(source: str, module: Any, attribute: str, options: Mapping[str, Any]) -> Any:
    """Call the factory (or take the network, if that is what the name means)."""
    target = module
    for step in attribute.split("."):
        if not hasattr(target, step):
            raise BadModel(f"{source} names a factory", f"no {step!r} in {module.__name__}", "Check the name after the colon.")
        target = getattr(target, step)
    if isinstance(target, (nn.Module, Model)):
        if options:
            raise BadModel(f"options= are arguments of a factory, and {source} is a network", _keys(options), "Leave options= out.")
        return target
    if not callable(target):
        raise BadModel(f"{source} is a factory", type(target).__name__, "Name a function or a class.")
    try:
        inspect.signature(target).bind(**options)
    except TypeError as error:
        said = str(error).removeprefix("got ")
        raise BadModel(f"{source}{inspect.signature(target)}", said, "Give the options= that it takes.") from error
    except ValueError:
        pass  # a built-in without a signature: the call itself will tell
    with _failing(source):
        return target(**options)


def _keys(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in options.items())


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    """An exception of the user's code, told on one line with its cause kept."""
    try:
        yield
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:200]
        raise BadModel(f"{what} runs", f"{type(error).__name__}: {text}", "Try it in Python; the cause is kept with this error.") from error


@contextlib.contextmanager
def _reaching(folder: Path) -> Iterator[None]:
    """Modules of a folder can be imported too, after all others."""
    place = os.fspath(folder)
    added = place not in sys.path
    if added:
        sys.path.append(place)
    try:
        yield
    finally:
        if added and place in sys.path:
            sys.path.remove(place)
