"""What a study has found, on disk: what is measured at one time is one file of its own, so that several processes lose nothing of each other's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile
from pellucid.explanation import Measurement, plain_value
from pellucid.files import put

VERSION = 2
Cells = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """A folder of results: ``results/<scan>/<file>.json``. Each file holds cells under the hash of all that they depend on (``Keys``); no file is ever changed."""

    folder: Path

    def read(self, scan: str) -> Cells:
        """All cells of a scan.

        Raises:
            BadFile: a damaged file, or one of another version.
        """
        cells: Cells = {}
        for path in sorted((self.folder / "results" / scan).glob("[!.]*.json")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                version, held = found["version"], dict(found["cells"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BadFile(
                    f"read a study's results from {path}",
                    f"{path.parent.name}/{path.name}: {error}",
                    "Remove the file; its case will be measured again.",
                ) from error
            if version != VERSION:
                raise BadFile(f"results of version {VERSION}", f"version {version} in {path}", "Choose another folder.")
            cells |= held
        return cells

    def keep(self, scan: str, cells: Mapping[str, Any]) -> None:
        """Keep cells of a scan as one more file: whole or not at all, beside what others keep meanwhile."""
        name = hashlib.sha256("".join(sorted(cells)).encode()).hexdigest()[:16]
        home = self.folder / "results" / scan
        home.mkdir(parents=True, exist_ok=True)
        put(home / f"{name}.json", json.dumps({"version": VERSION, "cells": _writable(cells)}, sort_keys=True))


def as_row(m: Measurement) -> dict[str, Any]:
    """A measurement as plain values."""
    detail = {k: v for k, v in m.detail.items() if plain_value(v) or isinstance(v, dict)}
    return {f.name: getattr(m, f.name) for f in fields(m) if f.name != "detail"} | {"detail": detail}


def _writable(value: Any) -> Any:
    """JSON has no NaN or infinity: they are written as words."""
    if isinstance(value, Mapping):
        return {str(k): _writable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)


def number(value: Any) -> float:
    """A number as it was written; NaN for none."""
    return math.nan if value is None else float(value)
