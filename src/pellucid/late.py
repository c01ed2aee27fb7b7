"""Late: names of a package that are found in its files when first named, so that a plain import loads only what every question needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping


def late(
    package: str, names: Mapping[str, Iterable[str]], subpackages: Iterable[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for a package: names by the file that has them, and subpackages that are imported when first named.

    The package names them once more under ``TYPE_CHECKING``, and binds the two elsewhere: a type checker that saw them would take every
    misspelt name for a module.
    """
    home = {name: f"{package}.{file}" for file, found in names.items() for name in found}
    whole = frozenset(subpackages)

    def getattr_(name: str) -> object:
        if name in whole:
            return importlib.import_module(f"{package}.{name}")
        if name in home:
            return getattr(importlib.import_module(home[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def dir_() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *whole, *home})

    return getattr_, dir_
