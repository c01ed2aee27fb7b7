"""Files appear whole or not at all, with the permissions they had, and are on the disk when the call returns."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest
import torch

import pellucid as pl
from pellucid.errors import BadFile
from pellucid.files import lock, own, put, whole
from pellucid.table import Table


def write_store(path):
    from pellucid.study.store import Store

    Store(path.parent).keep(path.stem, {"cell": {"value": 1.0}})


def write_record(path):
    from pellucid.viewer.store import Store

    Store(path.parent).put("marks", "one", {"a": 1})


def write_page(path):
    from pellucid.loading import load_model
    from pellucid.report import write_report

    case = next(iter(pl.phantoms.cases("fundus_dme", 1, 0)))
    write_report(path.with_suffix(".html"), [pl.explain(load_model("phantom:fundus_dme"), case.image, method="saliency")])


def write_map(path):
    pl.io.write(path.with_suffix(".nii.gz"), torch.rand(4, 5, 6), pl.Grid((4, 5, 6)))


WRITERS = {
    "put": lambda path: put(path, "new"),
    "table": lambda path: Table(("a",), ((1,),)).save(path, overwrite=True),
    "store of a study": write_store,
    "store of the viewer": write_record,
    "report": write_page,
    "map": write_map,
}


@pytest.mark.parametrize("how", WRITERS)
def test_every_writer_puts_the_bytes_and_the_name_on_the_disk_and_leaves_no_draft(how, tmp_path, monkeypatch):
    synced = []

    def fsync(at, real=os.fsync):
        synced.append(stat.S_ISDIR(os.fstat(at).st_mode))
        real(at)

    monkeypatch.setattr(os, "fsync", fsync)
    WRITERS[how](tmp_path / "it.csv")
    assert synced.count(True) == synced.count(False) >= 1
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()]


@pytest.mark.parametrize("how", WRITERS)
def test_a_failure_at_the_last_moment_leaves_the_old_file_and_nothing_else(how, tmp_path, monkeypatch):
    WRITERS[how](tmp_path / "it.csv")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert before

    def full(at):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        WRITERS[how](tmp_path / "it.csv")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path):
    path = put(tmp_path / "a.txt", "old")

    def crash():
        with whole(path) as draft:
            draft.write_text("half")
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_process_that_dies_in_the_middle_leaves_the_old_file(tmp_path):
    path = put(tmp_path / "a.txt", "old")
    code = f"""
import os, pathlib
from pellucid.files import whole
with whole(pathlib.Path({str(path)!r})) as draft:
    draft.write_text("half")
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """A limit on the size of files cuts a write off as a full disk does."""
    path = put(tmp_path / "a.txt", "old")
    known, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, known[1]))
        for name in ("a.txt", "new.txt"):
            with pytest.raises(OSError, match="File too large"):
                put(tmp_path / name, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, known)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_replaced_file_keeps_its_permissions_and_a_new_one_gets_those_of_new_files(tmp_path):
    own, plain = put(tmp_path / "own.txt", "old"), tmp_path / "plain.txt"
    own.chmod(0o600)
    plain.write_text("as any file")
    with whole(own) as draft:
        assert stat.S_IMODE(draft.stat().st_mode) == 0o600, "nobody reads the draft either"
        draft.write_text("new")
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert stat.S_IMODE(put(tmp_path / "new.txt", "x").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_what_is_put_is_what_is_read(tmp_path):
    assert put(tmp_path / "a.txt", "zwölf\n").read_bytes() == "zwölf\n".encode()
    with whole(tmp_path / "scan.of.someone.nii.gz") as draft:
        assert draft.name.endswith(".nii.gz")
        draft.write_bytes(b"1")
    assert (tmp_path / "scan.of.someone.nii.gz").read_bytes() == b"1"


@pytest.mark.parametrize("how", ["link", "dangling", "hard link", "pipe", "folder"])
def test_what_is_appended_goes_into_no_file_of_somebody_else(how, tmp_path):
    theirs, ours = put(tmp_path / "keys", "my own key"), tmp_path / "out" / ".held"
    ours.parent.mkdir()
    make = {
        "link": lambda: ours.symlink_to(theirs), "dangling": lambda: ours.symlink_to(tmp_path / "new"),
        "hard link": lambda: ours.hardlink_to(theirs), "pipe": lambda: os.mkfifo(ours), "folder": ours.mkdir,
    }  # fmt: skip
    make[how]()
    from pellucid.reader_study import Answer, AnswerSheet
    from pellucid.viewer.store import hold

    answer = Answer("s", "R1", 0, "c", "maps", 0, "a", "a", 0.5, 1.0)
    for write in (lambda: own(ours), lambda: hold(ours.parent), lambda: AnswerSheet(ours).add(answer)):
        with pytest.raises(BadFile, match="a file to write into"):
            write()
    assert theirs.read_text() == "my own key" and not (tmp_path / "new").exists()


def test_an_own_file_is_made_read_and_appended_to(tmp_path):
    for text in (b"a", b"b"):
        with own(tmp_path / "x") as file:
            file.write(text)
    with own(tmp_path / "x") as file:
        file.seek(0)
        assert file.read() == b"ab"


@pytest.mark.parametrize("why", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_written_to_all_the_same(why, tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr("fcntl.flock", flock)
    with own(tmp_path / "sheet") as file:
        assert lock(file)


def test_a_lock_that_fails_for_another_reason_says_so(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr("fcntl.flock", flock)
    with own(tmp_path / "sheet") as file, pytest.raises(OSError, match="gone"):
        lock(file)
