"""Which code made a table: a hash over the package's own sources."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@cache
def code_hash(*parts: str) -> str:
    """sha256 over the package's Python files, or over those in the named folders and files (``"attribution"``, ``"run.py"``)."""
    files = sorted({f for p in parts or (".",) for f in ((HERE / p).rglob("*.py") if (HERE / p).is_dir() else [HERE / p])})
    h = hashlib.sha256()
    for f in files:
        h.update(str(f.relative_to(HERE).as_posix()).encode())
        h.update(f.read_bytes())
    return h.hexdigest()
