"""The audit record: one JSON line for each explanation, only ever appended, each line sealed with the hash of the one before."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pellucid.errors import BadFile
from pellucid.files import lock
from pellucid.io.archive import jsonable
from pellucid.table import Table

FIRST = "0" * 64  # what stands for the line before the first
FORMAT = "pellucid audit 1"


def append_record(path: str | Path, facts: Mapping[str, Any]) -> str:
    """Add one line; its seal, which can be kept elsewhere to prove that nothing after it was cut off.

    The file is locked meanwhile, so that processes may share it, and it is on disk when this returns.

    Raises:
        BadFile: no such folder, or a file whose last line is no whole record.
        BadParameter: facts that JSON cannot hold.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    if path.is_dir():
        raise BadFile(f"write {path}", "a folder of that name", "Choose another name.")
    body = jsonable(facts, strict=True)
    with path.open("a+b") as file:
        lock(file)
        last = _last(file, path)
        number, before = (last["number"] + 1, last["seal"]) if last else (1, FIRST)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        record = {"format": FORMAT, "number": number, "written": now, "before": before, **body}
        record["seal"] = _seal(record)
        file.seek(0, os.SEEK_END)
        file.write(_line(record))
        file.flush()
        os.fsync(file.fileno())
    return str(record["seal"])


def check_audit(path: str | Path, *, seal: str | None = None) -> Table:
    """All records of an audit file as a table, if every line is as it was written and none was taken out or put in between.

    Args:
        path: what ``why.audit(path)`` appended to.
        seal: of a line known to have been written (``why.audit`` gives it back): it must be there. Without it, lines cut off at the end are
            not noticed.

    Raises:
        BadFile: the number of the first line that does not hold, or a seal that is missing.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadFile(f"read {path}", error.strerror or type(error).__name__, "Check the path.") from error
    if lines.pop() != b"":
        raise BadFile(f"check {path}", f"line {len(lines) + 1} cut in the middle", "The record is not whole: look at its copies.")
    before, records = FIRST, []
    for number, line in enumerate(lines, 1):
        record = _parsed(line)
        fine = (
            record is not None and record.get("number") == number and record.get("before") == before and record.get("seal") == _seal(record)
        )
        if record is None or not fine:
            raise BadFile(f"check {path}", f"line {number} is not as it was written", "Somebody changed it: look at its copies.")
        before = record["seal"]
        records.append(record)
    if seal is not None and seal not in {r["seal"] for r in records}:
        raise BadFile(f"check {path}", f"{len(records)} lines, none with the seal {seal[:12]}", "Lines were cut off: look at its copies.")
    columns = ("number", "written", "scan", "model", "weights", "method", "target", "site", "verdict", "score", "seal")
    return Table(columns, tuple(tuple(r.get(c) for c in columns) for r in records))


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _seal(record: Mapping[str, Any]) -> str:
    """Hash of a record, which holds the seal of the one before, without its own."""
    return hashlib.sha256(_line({k: v for k, v in record.items() if k != "seal"})).hexdigest()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT and isinstance(found.get("seal"), str) else None


def _last(file: BinaryIO, path: Path) -> dict[str, Any] | None:
    """The last record of an open file, None of an empty one; only the end is read."""
    size, step, data = file.seek(0, os.SEEK_END), 4096, b""
    if size == 0:
        return None
    while len(data) < size and b"\n" not in data[:-1]:
        file.seek(max(0, size - step))
        data, step = file.read(), step * 4
    record = _parsed(data[:-1].rsplit(b"\n", 1)[-1]) if data.endswith(b"\n") else None
    if record is None or record["seal"] != _seal(record):
        fix = "Choose another name, or look at the file's copies: pl.check_audit(path) says where it breaks."
        raise BadFile(f"append to {path}", "a file whose last line is no audit record as it was written", fix)
    return record
