"""Trust: what may run while a file is opened. Data never runs; code and pickles only with the user's word."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from pellucid.errors import BadFile, BadParameter, PellucidError, Untrusted

Trust = Literal["data", "code", "pickle"]
LEVELS: tuple[Trust, ...] = ("data", "code", "pickle")


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a door brought: the network, what it is called, the sha256 of every file, what it says of itself, and remarks."""

    module: nn.Module
    kind: str
    name: str
    files: Mapping[str, str]
    described: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def as_trust(given: Any) -> Trust:
    """One of the three levels."""
    if given not in LEVELS:
        raise BadParameter(f"trust is one of {', '.join(LEVELS)}", repr(given), "Start with trust='data'.")
    return given  # type: ignore[no-any-return]


def sha256(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        BadFile: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadFile(f"read {path}", error.strerror or type(error).__name__, "Check the path.") from error


def whole(path: Path) -> tuple[bytes, str]:
    """A file's bytes and their sha256: what is told of a file is told of what was loaded, whoever writes it meanwhile.

    Raises:
        BadFile: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"read {path}", error.strerror or type(error).__name__, "Check the path.") from error
    return data, hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def reading(what: str, fix: str) -> Iterator[None]:
    """Whatever a damaged file makes a reader stumble over, told on one line: a list of exceptions would never be complete.

    Raises:
        BadFile: anything but a refusal of Pellucid's own.
    """
    try:
        yield
    except PellucidError:
        raise
    except Exception as error:
        raise BadFile(f"read {what}", first_line(error), fix) from error


def first_line(error: BaseException) -> str:
    """An exception's kind and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:160]}" if said else type(error).__name__


def at_least(trust: Trust, needed: Trust, why: str, path: Path, *, safe: str = "") -> None:
    """Refuse unless the user's word reaches that far.

    Raises:
        Untrusted: naming the file, its sha256 and the way out.
    """
    if LEVELS.index(trust) < LEVELS.index(needed):
        flag = {"code": "--trust", "pickle": "--unsafe-pickle"}[needed]
        raise Untrusted(
            f"{why} needs trust={needed!r}",
            f"trust={trust!r} for {path} (sha256 {sha256(path)})",
            f"{safe + '; or i' if safe else 'I'}f you know who made it, pass trust={needed!r} ({flag}).",
        )
