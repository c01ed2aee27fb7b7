"""STOW: DICOM objects to a DICOMweb server, one after another, with what became of each."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pellucid.errors import BadFile, BadParameter, BadServer
from pellucid.io.content import decoding
from pellucid.io.dicom.filing import Filed
from pellucid.io.dicom.session import is_local, session_for
from pellucid.table import Table

# PS3.18, table 10.5.3-1 and PS3.7 C.5.1
REASONS = {
    0x0110: "processing failure", 0x0122: "SOP class not supported", 0x0124: "not authorized", 0x0117: "invalid object instance",
    0xA700: "out of resources", 0xA900: "data set does not match its SOP class", 0xC000: "cannot understand", 0xC122: "transfer syntax",
}  # fmt: skip


def send(
    objects: Filed | str | Path | Sequence[str | Path], url: str, *, token: str | None = None, headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Table:  # fmt: skip
    """Send DICOM files to a DICOMweb server by STOW-RS, e.g. ``pl.send(why.dicom(...), "https://pacs.example/dicom-web", token=...)``.

    Args:
        objects: what ``why.dicom`` gave back, a folder, a file, or files.
        url: the DICOMweb service, without ``/studies``.
        token: sent as ``Authorization: Bearer``, and shown nowhere; only over https, or to this machine.
        headers: other headers that the server wants.
        timeout: seconds until a server that says nothing is given up.

    Returns:
        A row for each file: file, uid, stored (True or False), reason. Look at it: a server may take some and not others.

    Raises:
        BadServer: no server there, it refuses who asks, or it does not answer as DICOMweb says.
        BadFile: no DICOM file among the objects.
        BadParameter: a token or a password that would travel in the clear, or that is no header line.

    Needs ``pip install pellucid[web]``.
    """
    paths = _paths(objects)
    shown = _bare(url, secret=token is not None or bool(headers))
    try:
        from dicomweb_client.web import DICOMwebClient
    except ImportError as error:
        raise BadParameter("send to a DICOMweb server", "no dicomweb-client", "pip install pellucid[web].") from error
    signed = f"Bearer {token}" if token is not None else _password(url)
    rows = []
    with _quiet():
        session = session_for(shown, signed)
        session.max_redirects = 0  # the objects, and every header, go to the server that was named and nowhere else
        client = DICOMwebClient(url=shown.rstrip("/"), session=session, headers=dict(headers or {}), timeout=timeout)
        client.set_http_retry_params(retry=False)  # a refusal is an answer
        for path in paths:
            rows.append((path.name, *_one(client, path, shown)))
    return Table(("file", "uid", "stored", "reason"), tuple(rows))


def _paths(objects: Filed | str | Path | Sequence[str | Path]) -> list[Path]:
    """DICOM files in a fixed order.

    Raises:
        BadFile: a missing file, or nothing to send.
    """
    given = [objects] if isinstance(objects, (str, Path)) else list(objects.files if isinstance(objects, Filed) else objects)
    found: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise BadFile(f"send {path}", "no such file or folder", "Check the path.")
        found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not found:
        raise BadFile("send DICOM objects", "no files", "Give what why.dicom(...) wrote.")
    return found


def _bare(url: str, secret: bool) -> str:
    """The address without user and password, to be shown.

    Raises:
        BadParameter: no http address, or a secret that would travel in the clear.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    if parts.scheme not in ("http", "https") or not host:
        raise BadParameter("a DICOMweb address", repr(shown), "Give e.g. 'https://pacs.example/dicom-web'.")
    if parts.scheme == "http" and not is_local(host) and (secret or parts.username is not None):
        raise BadParameter("a token, header or password travels encrypted", f"{parts.scheme}://{host}", "Use https.")
    return shown


def _password(url: str) -> str | None:
    """The user and password of an address as a header line: the client itself gets the address without them."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _one(client: Any, path: Path, shown: str) -> tuple[str, bool, str]:
    """Send one file: its UID, whether it is stored, and why not."""
    import pydicom
    from requests import RequestException
    from requests.exceptions import InvalidJSONError

    with decoding("DICOM", path, private=True):
        ds = pydicom.dcmread(path)
        uid = str(ds.SOPInstanceUID)
    try:
        answer = client.store_instances([ds])
    except Exception as error:
        if isinstance(error, RequestException) and not isinstance(error, InvalidJSONError):
            return uid, False, _refused(error, shown)
        # what the client makes of an answer that is neither DICOM JSON nor XML
        raise BadServer(f"store a DICOM object at {shown}", "an answer that is not DICOMweb's", "Check the address.") from error
    failed = [i for i in answer.get("FailedSOPSequence") or [] if str(i.get("ReferencedSOPInstanceUID", uid)) == uid]
    stored = [i for i in answer.get("ReferencedSOPSequence") or [] if str(i.get("ReferencedSOPInstanceUID", "")) == uid]
    if failed:
        code = int(failed[0].get("FailureReason", 0) or 0)
        return uid, False, REASONS.get(code, f"failure reason {code:#06x}")
    return (uid, True, "") if stored else (uid, False, "the server did not say that it was stored")


def _refused(error: Any, shown: str) -> str:
    """The status of one refused file; an error where no file would be taken."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    asked = f"store a DICOM object at {shown}"
    if status is None:
        raise BadServer(asked, f"no answer ({type(error).__name__})", "Check address, network and server.") from None
    if 300 <= status < 400:
        raise BadServer(
            asked, f"HTTP {status}: it sends you elsewhere", "Give the address where the service is; nothing was sent on."
        ) from None
    if status in (401, 403):
        raise BadServer(asked, f"HTTP {status}: it refuses who asks", "Give token= or headers= that it accepts.") from None
    if status in (404, 405):
        raise BadServer(asked, f"HTTP {status}: no STOW service", "Give the DICOMweb root, e.g. .../dicom-web.") from None
    return f"HTTP {status}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The client's and urllib3's words of debugging hold addresses and headers: they are not let out."""
    loggers = [logging.getLogger(n) for n in ("dicomweb_client", "dicomweb_client.web", "urllib3", "urllib3.connectionpool")]
    before = [k.level for k in loggers]
    for k in loggers:
        k.setLevel(max(k.level, logging.WARNING))
    try:
        yield
    finally:
        for k, level in zip(loggers, before, strict=True):
            k.setLevel(level)
