"""Files that appear whole or not at all: a reader, a crash or a full disk never meets half of one; and files of one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pellucid.errors import BadFile

LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # a file system that knows no locks


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft beside ``path``, of its suffix, that takes the name only when the block has ended well and the bytes are on the disk.

    If anything fails, the draft goes and what stood under the name stays. A file that is replaced keeps its permissions; a new one gets
    those of any new file.
    """
    suffix = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    draft = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with contextlib.suppress(FileNotFoundError):
            draft.chmod(path.stat().st_mode & 0o777)  # before there is anything to read
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _keep_name(path.parent)


def put(path: Path, data: str | bytes) -> Path:
    """Write text (UTF-8, ``\\n``) or bytes, whole or not at all."""
    with whole(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def own(path: Path) -> BinaryIO:
    """A file to read and to append to, made where there is none. What is written goes into this very file: whoever prepared the folder cannot
    lead it elsewhere by a link, soft or hard, nor hold it up with a pipe.

    Raises:
        BadFile: a link, a second name of a file, no regular file, or no access.
    """
    asked, fix = f"a file to write into: {path}", "Move it away, or choose another folder."
    how = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):  # each where the system has it
        how |= getattr(os, flag, 0)
    try:
        at = os.open(path, how, 0o666)
    except OSError as error:
        got = "a link to another file" if path.is_symlink() else error.strerror or "no access"
        raise BadFile(asked, got, fix) from error
    found = os.fstat(at)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(at)
        raise BadFile(asked, "a second name of a file" if stat.S_ISREG(found.st_mode) else "a pipe or device", fix)
    return os.fdopen(at, "a+b")


def lock(file: BinaryIO, *, wait: bool = True) -> bool:
    """Take an open file for this process alone until it is closed; False where another has it and this one is not to ``wait``.

    A process that ends, however it ends, lets go. Where the system or the disk has no such locks (Windows, some network drives) it is always True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
    return True


def _keep_name(folder: Path) -> None:
    """Have the new name on the disk too; a system that cannot do that for folders does it when it likes."""
    with contextlib.suppress(OSError):
        at = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(at)
        finally:
            os.close(at)
