"""Tables on disk, and the audit record."""

from __future__ import annotations

import csv
import json
import multiprocessing
import re
import sys

import pytest
from tests.io.derived import made_of
from tests.io.dicoms import SECRET, write_series

import pellucid as pl
from pellucid.errors import BadFile, BadParameter
from pellucid.io import append_record, check_audit
from pellucid.table import Table

TABLE = Table(
    ("map", "value", "count", "passes", "mixed"),
    (("Ödem, a|b", 1 / 3, 3, True, 1.5), ('say "x"', float("nan"), None, False, "none"), ("", float("inf"), 7, None, None)),
)


def test_csv_and_json_keep_every_number(tmp_path):
    rows = list(csv.reader(TABLE.save(tmp_path / "t.csv").read_text().splitlines()))
    assert rows[0] == list(TABLE.columns) and len(rows) == 4
    assert rows[1][0] == "Ödem, a|b" and float(rows[1][1]) == 1 / 3
    found = json.loads(TABLE.save(tmp_path / "t.json").read_text())
    assert found["columns"] == list(TABLE.columns)
    assert found["rows"][0] == ["Ödem, a|b", 1 / 3, 3, True, 1.5]
    assert found["rows"][1] == ['say "x"', "nan", None, False, "none"]


def test_parquet_keeps_numbers_as_numbers(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    found = parquet.read_table(TABLE.save(tmp_path / "t.parquet")).to_pydict()
    assert found["value"][0] == 1 / 3 and found["value"][1] != found["value"][1] and found["value"][2] == float("inf")
    assert found["count"] == [3, None, 7] and found["passes"] == [True, False, None]
    assert found["mixed"] == ["1.5", "none", None]
    empty = parquet.read_table(Table(("a", "b"), ()).save(tmp_path / "e.parquet"))
    assert empty.column_names == ["a", "b"] and empty.num_rows == 0


def test_without_pyarrow_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadParameter, match="no pyarrow. pip install pyarrow"):
        TABLE.save(tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_no_table_is_overwritten_unasked(tmp_path):
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(BadFile, match="a file of that name"):
        TABLE.save(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "mine"
    assert TABLE.save(tmp_path / "t.csv", overwrite=True).read_text() == TABLE.csv()
    with pytest.raises(BadFile, match=r"Use one of \.csv, \.json, \.parquet"):
        TABLE.save(tmp_path / "t.xlsx")
    with pytest.raises(BadFile, match="no folder"):
        TABLE.save(tmp_path / "no/t.csv")


# ---------------------------------------------------------------------------------------------------- audit
@pytest.fixture
def record(tmp_path):
    """Three lines, and their seals."""
    path = tmp_path / "audit.jsonl"
    return path, [append_record(path, {"method": f"m{k}", "score": k / 3, "reasons": ("ü", "b")}) for k in range(3)]


def test_the_record_is_whole_and_a_table(record):
    path, seals = record
    found = check_audit(path)
    assert found["number"] == (1, 2, 3) and found["method"] == ("m0", "m1", "m2") and found["seal"] == tuple(seals)
    assert found["score"][1] == 1 / 3
    assert check_audit(path, seal=seals[0])["seal"] == tuple(seals)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"m1"', b'"m9"'), lines[2]], "line 2 is not as it was written"),
        (lambda lines: [lines[0], lines[2]], "line 2 is not as it was written"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "line 2 is not"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 is not"),
        (lambda lines: [*lines[:2], b"{}"], "line 3 is not"),
        (lambda lines: [b"[1]", *lines], "line 1 is not"),
    ],
)
def test_a_changed_record_is_noticed(record, harm, words):
    path, _ = record
    path.write_bytes(b"\n".join([*harm(path.read_bytes().splitlines()), b""]))
    with pytest.raises(BadFile, match=words):
        check_audit(path)


def test_lines_cut_off_at_the_end_are_noticed_by_a_kept_seal(record):
    path, seals = record
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert len(check_audit(path)) == 2
    with pytest.raises(BadFile, match="2 lines, none with the seal"):
        check_audit(path, seal=seals[2])


def test_nothing_is_appended_to_what_is_not_whole(record, tmp_path):
    path, _ = record
    whole = path.read_bytes()
    for harmed in (whole[:-1], whole[:-5] + b"x\n", b"notes\n", whole.replace(b'"m2"', b'"m7"')):
        path.write_bytes(harmed)
        with pytest.raises(BadFile, match="append to"):
            append_record(path, {"a": 1})
        assert path.read_bytes() == harmed
    with pytest.raises(BadFile, match="no folder"):
        append_record(tmp_path / "no/a.jsonl", {})
    path.write_bytes(whole[:-1])
    with pytest.raises(BadFile, match="cut in the middle"):
        check_audit(path)


def _write(path, times):
    for k in range(times):
        append_record(path, {"method": str(k)})


def test_processes_share_a_record(tmp_path):
    path = tmp_path / "audit.jsonl"
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write, args=(path, 10)) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(check_audit(path)) == 30


def test_what_a_map_leaves_in_the_record(tmp_path):
    import numpy as np

    write_series(tmp_path / "scan", np.zeros((3, 8, 8), np.int16) + np.arange(8, dtype=np.int16), modality="MR")
    why = made_of(pl.read(tmp_path / "scan"), {(1, 2, 1): 1.0})
    seal = why.audit(tmp_path / "audit.jsonl")
    why.audit(tmp_path / "audit.jsonl")
    found = pl.check_audit(tmp_path / "audit.jsonl", seal=seal)
    assert found["verdict"] == ("questionable",) * 2 and found["weights"] == ("ab" * 32,) * 2
    text = (tmp_path / "audit.jsonl").read_text()
    line = json.loads(text.splitlines()[0])
    assert line["measurements"]["deletion"] == {"value": 0.17, "unit": "share of the score's range", "status": "pass"}
    assert line["versions"] == {"pellucid": "0.1.0"} and line["reasons"][0] == "It falls faster than chance."
    for word in (SECRET, "ID-4711", "1.2.3.4", str(tmp_path)):
        assert word not in text


def test_no_cell_of_a_csv_is_a_formula():
    cells = ("=HYPERLINK(1)", "@SUM(A1)", "+1+cmd", "-2+3", "\tx", "-no DME")
    text = Table(("=a", "b"), tuple((c, -1.5) for c in cells)).csv()
    assert not re.search(r'(?m)^"?[=+@\t-]', text) and text.count("-1.5") == len(cells)
    assert Table(("a",), (("-0.5",), ("+3",), ("x=y",), (-2,), (None,))).csv() == 'a\n-0.5\n+3\nx=y\n-2\n""\n'
