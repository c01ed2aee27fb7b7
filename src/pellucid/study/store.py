"""What a study has found, on disk: one JSON file a case, written whole or not at all, found again by what it depends on."""

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

VERSION = 1


def digest(facts: Mapping[str, Any]) -> str:
    """A short name for all that a result depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Store:
    """A folder of results. ``cells`` of a case are keyed by map and metric, each under the hash of its question."""

    folder: Path

    def read(self, case: str) -> dict[str, Any]:
        """What is known of a case; an empty record if nothing is, or if the file was cut off."""
        path = self._path(case)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"version": VERSION, "cells": {}}
        except (OSError, ValueError) as error:
            raise BadFile(f"read a study's results from {path}", str(error), "Remove the file; its case will be measured again.") from error
        if found.get("version") != VERSION:
            raise BadFile(f"results of version {VERSION}", f"version {found.get('version')} in {path}", "Choose another folder.")
        return dict(found)

    def write(self, case: str, record: Mapping[str, Any]) -> None:
        """Keep a case's record: whole or not at all."""
        path = self._path(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, json.dumps(_writable(record), sort_keys=True))

    def _path(self, case: str) -> Path:
        return self.folder / "results" / f"{case}.json"


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
