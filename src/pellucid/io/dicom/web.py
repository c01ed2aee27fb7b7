"""DICOMweb: what a server has (QIDO-RS) and its files as they are stored (WADO-RS). dicomweb-client is imported when a URL needs it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from pellucid.errors import BadFile, Unsupported
from pellucid.io.content import Blob, Source, silent
from pellucid.io.dicom.geometry import code
from pellucid.io.dicom.series import Series
from pellucid.io.dicom.session import is_local, session_for

VARIABLE = "PELLUCID_DICOMWEB_AUTHORIZATION"
HOSTS = "PELLUCID_DICOMWEB_HOST"  # whom that secret is for: host or host:port, several with commas between; nobody else gets it
MOST_BYTES = 4 * 2**30  # of one answer, all files of a series together
MOST_FILES = 20_000
PATIENCE = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
MOST_PAGES = 1000  # of one search
DEADLINE = 1800.0  # seconds for one whole answer, and for all pages of a search
FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
UID = r"[0-9]+(?:\.[0-9]+)*"
CHATTY = (
    "dicomweb_client",
    "dicomweb_client.web",
    "urllib3.connectionpool",
    "urllib3.util.retry",
)  # they log addresses, which name studies
PLACE = re.compile(rf"(?P<base>https?://.+?)/studies/(?P<study>{UID})(?:/series/(?P<series>{UID})(?:/instances/(?P<instance>{UID}))?)?/?")
SAID = {401: "asks who you are", 403: "forbids it", 404: "does not have it", 406: "will not send files as they are stored"}


@dataclass(frozen=True)
class Place:
    """A study, a series or one image on a DICOMweb server. The text of it names the server only: UIDs identify patients."""

    base: str
    study: str
    series: str | None
    instance: str | None

    def __str__(self) -> str:
        part = "image" if self.instance else "series" if self.series else "study"
        return f"a {part} at {self.base}"


def is_url(path: object) -> bool:
    """Whether a path is meant as an address; a Path has lost one of its slashes."""
    return re.match(r"https?:/", str(path)) is not None


def place_of(url: object) -> Place:
    """The parts of an address like ``http://host/dicom-web/studies/1.2.3/series/1.2.3.4``.

    Raises:
        BadFile: another form, or a user and password inside: they would show in messages and logs.
    """
    text = re.sub(r"^(https?):/(?!/)", r"\1://", str(url))
    fix = "Give http(s)://host/path/studies/<uid>, with /series/<uid> to name one."
    try:
        parts = urlsplit(text)
        inside = parts.username is not None or parts.password is not None
        known = parts.hostname is not None and parts.port != 0
    except ValueError:
        inside = known = False
    if inside:
        got = "a user and password inside the address"
        raise BadFile("read from a DICOMweb server", got, f"Give authorization='Basic ...', or set {VARIABLE} and {HOSTS}.")
    found = PLACE.fullmatch(text)
    if found is None or not known or parts.query or parts.fragment:
        raise BadFile("read from a DICOMweb server", "an address without /studies/<uid>", fix)
    if any(len(uid) > 64 for uid in found.groups()[1:] if uid):
        raise BadFile("read from a DICOMweb server", "a UID of more than 64 characters", fix)
    return Place(*found.group("base", "study", "series", "instance"))


@dataclass(frozen=True)
class Answer:
    """What a server sent: its media type, with parameters, and the body."""

    kind: str
    body: bytes


class Server:
    """A session with one DICOMweb server: no redirects, bounded answers, errors by name, and nothing of it in any log."""

    def __init__(self, place: Place, authorization: str | None) -> None:
        try:
            from dicomweb_client.api import DICOMwebClient
        except ImportError:
            raise Unsupported(f"read {place}", "no DICOMweb client installed", "Run `pip install pellucid[web]`.") from None
        self.place = place
        secret = authorization or (os.environ.get(VARIABLE) if _is_meant(place.base) else None)
        if secret and not authorization and place.base.startswith("http:") and not is_local(urlsplit(place.base).hostname or ""):
            fix = f"Use https, or pass authorization= instead of {VARIABLE} if you trust the way."
            raise BadFile(f"read {place}", "a server without encryption to which the secret of the environment would go", fix)
        self.session = session_for(place.base, secret)
        self.client = DICOMwebClient(url=place.base, session=cast(Any, _Bounded(self)))
        self.client.set_http_retry_params(retry=False)  # a refusal is an answer

    def get(self, url: str, accept: str, most: int | None = None) -> Answer:
        """One answer, whole.

        Raises:
            BadFile: no connection, too slow, too large, refused, moved elsewhere.
        """
        import requests

        asked, most, end = f"read {self.place}", most or MOST_BYTES, time.monotonic() + DEADLINE
        body = bytearray()
        try:
            with (
                silent(*CHATTY),
                self.session.get(url, headers={"Accept": accept}, stream=True, timeout=PATIENCE, allow_redirects=False) as answer,
            ):
                self._check(answer.status_code)
                promised = answer.headers.get("Content-Length", "")
                for piece in answer.iter_content(2**18):
                    body += piece
                    if len(body) > most or (promised.isdigit() and int(promised) > most):
                        fix = "Download it with another program and read the folder."
                        raise BadFile(asked, f"more than {most:,} bytes", fix)
                    if time.monotonic() > end:
                        raise BadFile(asked, f"no end after {DEADLINE:.0f} s", "Try again when the server is less busy.")
                return Answer(answer.headers.get("Content-Type", ""), bytes(body))
        except requests.exceptions.Timeout:
            raise BadFile(asked, "no answer in time", "Check the address, or try again later.") from None
        except requests.exceptions.SSLError:
            raise BadFile(asked, "a certificate that is not trusted", "Set REQUESTS_CA_BUNDLE to your hospital's certificates.") from None
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            raise BadFile(asked, "an answer that broke off", "Try again.") from None
        except requests.exceptions.ConnectionError:
            raise BadFile(asked, "no connection", "Is the server running, and the address right?") from None
        except requests.exceptions.RequestException as error:
            raise BadFile(asked, f"a failed request ({type(error).__name__})", "Check the address.") from None

    def _check(self, status: int) -> None:
        if status in (200, 206):
            return
        got = f"status {status}: the server {SAID.get(status, 'sends you elsewhere' if 300 <= status < 400 else 'failed')}"
        fix = f"Give authorization='Bearer ...', or set {VARIABLE} and, for whom it is, {HOSTS}."
        fix = fix if status in (401, 403) else "Check the address and the UIDs."
        raise BadFile(f"read {self.place}", got, fix)

    def files(self) -> list[Blob]:
        """The files of the series or image, as they are stored.

        Raises:
            BadFile: nothing there, something else than DICOM, or fewer files than the server lists.
        """
        place = self.place
        url = f"{place.base}/studies/{place.study}/series/{place.series}" + (f"/instances/{place.instance}" if place.instance else "")
        listed = 1 if place.instance else self._count()
        found = list(parts_of(self.get(url, FILES), str(place)))
        if len(found) != listed:
            raise BadFile(f"read {place}", f"{len(found)} of {listed} files that the server lists", "Try again, or export it anew.")
        return [Blob(f"file {n + 1} of {place}", data) for n, data in enumerate(found)]

    def _count(self) -> int:
        found = self._search(self.client.search_for_instances, self.place.study, self.place.series)
        if not found:
            raise BadFile(f"read {self.place}", "nothing there", "Check the UIDs.")
        return len(found)

    def series(self, keep_phi: bool) -> list[Series]:
        """The series of the study (or the one named), in the order of their UIDs, as far as QIDO knows them: rows and columns are 0."""
        from pydicom.dataset import Dataset

        out = []
        for item in self._search(self.client.search_for_series, self.place.study):
            try:
                ds = Dataset.from_json(item)
                uid, count = str(ds.SeriesInstanceUID), int(ds.get("NumberOfSeriesRelatedInstances", 0) or 0)
                text = str(ds.get("SeriesDescription", "") or "") if keep_phi else ""
                found = Series(uid, code(ds, "Modality") or "?", count, (0, 0, count), text)
            except Exception:  # JSON that is no DICOM JSON fails in many ways
                raise BadFile(f"list {self.place}", "an entry that is no series", "Is this a DICOMweb server?") from None
            if re.fullmatch(UID, uid) and self.place.series in (None, uid):
                out.append(found)
        if not out:
            raise BadFile(f"list {self.place}", "a study without series", "Check the UID.")
        return sorted(out, key=lambda s: s.uid)

    def _search(self, what: Any, *uids: str | None) -> list[dict[str, Any]]:
        try:
            with silent(*CHATTY):
                found = what(*uids, get_remaining=True)
        except BadFile:
            raise
        except Exception:  # the client meets whatever a server says with whatever Python says
            raise BadFile(f"list {self.place}", "an answer that is no DICOM JSON", "Is this a DICOMweb server?") from None
        return found if isinstance(found, list) else []


class _Bounded:
    """What dicomweb-client takes for a session, for one search: its questions go through ``Server.get``, and only JSON comes back."""

    def __init__(self, server: Server) -> None:
        self.server, self.headers, self.seen = server, dict[str, str](), set[str]()
        self.items, self.left, self.end = 0, 2**28, time.monotonic() + DEADLINE  # of all pages together

    def get(self, url: str, headers: Any = None, **_: Any) -> Any:
        """One page of a search.

        Raises:
            BadFile: no DICOM JSON, or a search that does not end.
        """
        import requests

        if len(self.seen) >= MOST_PAGES or time.monotonic() > self.end:
            raise BadFile(f"list {self.server.place}", f"no end after {len(self.seen)} pages", "Is this a DICOMweb server?")
        got = self.server.get(url, "application/dicom+json", self.left)
        self.left = max(1, self.left - len(got.body))
        answer = requests.Response()
        answer.status_code, answer._content = 200, got.body or b"[]"
        if "json" not in got.kind.lower() and got.body:
            raise BadFile(f"list {self.server.place}", f"{_media(got.kind)} instead of DICOM JSON", "Is this a DICOMweb server?")
        page = json.loads(answer._content)
        if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
            raise BadFile(f"list {self.server.place}", "an answer that is no DICOM JSON", "Is this a DICOMweb server?")
        marks = json.dumps(page)
        if page and marks in self.seen:  # a server without paging would send the same page for ever
            answer._content = b"[]"
        self.seen.add(marks)
        self.items += len(page)
        if self.items > MOST_FILES:
            raise BadFile(f"list {self.server.place}", f"more than {MOST_FILES:,} entries", f"Read at most {MOST_FILES:,} files at once.")
        answer.headers["Content-Type"] = "application/dicom+json"
        return answer


def parts_of(answer: Answer, what: str) -> Iterator[bytes]:
    """The files inside a multipart answer (RFC 2046), or the one file of a plain one.

    Raises:
        BadFile: another media type, no boundary, or a body that does not end.
    """
    if "application/dicom" in answer.kind and "multipart" not in answer.kind and "json" not in answer.kind:
        yield answer.body
        return
    found = re.search(r'boundary="?([^";,\s]+)', answer.kind)
    if "multipart/related" not in answer.kind.lower() or found is None:
        raise BadFile(f"read {what}", f"{_media(answer.kind)} instead of DICOM files", "Is this a DICOMweb server?")
    mark = b"--" + found.group(1).encode()
    pieces = (b"\r\n" + answer.body).split(b"\r\n" + mark)
    if not pieces[-1].startswith(b"--"):
        raise BadFile(f"read {what}", "an answer that broke off", "Try again.")
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        if b"application/dicom" not in head.lower() and b"content-type" in head.lower():
            raise BadFile(f"read {what}", "a part that is no DICOM file", "Is this a DICOMweb server?")
        yield body


def _media(kind: str) -> str:
    """A media type that may be shown: an answer can hold anything."""
    found = re.match(r"[a-z]+/[a-z0-9.+-]{1,40}", kind.lower())
    return found.group() if found else "no media type"


def _is_meant(base: str) -> bool:
    """Whether the environment names this server as the one that its secret is for."""
    found = urlsplit(base)
    port = found.port or {"http": 80, "https": 443}[found.scheme]
    meant = [h.strip().lower() for h in os.environ.get(HOSTS, "").split(",")]
    return bool({found.hostname, f"{found.hostname}:{port}"} & set(meant))


def fetched(url: object, series: str | None, authorization: str | None) -> Sequence[Source]:
    """The files of one series: the one that the address names, else ``series`` by UID or number, else the only one of the study.

    Raises:
        BadFile: see ``Server``; several series and no word which.
    """
    place = place_of(url)
    if place.series is None:
        found = Server(place, authorization).series(False)
        listing = "; ".join(f"{i}: {s.modality} {s.slices} files" for i, s in enumerate(found))
        if series is None and len(found) > 1:
            raise BadFile(f"read one series of {place}", f"{len(found)} series ({listing})", "Name one: series='0' or its uid.")
        wanted = [s.uid for i, s in enumerate(found) if series in (None, str(i), s.uid)]
        if not wanted:
            raise BadFile(f"read series {series!r} of {place}", f"no such series among {listing}", "Give its number or uid.")
        place = Place(place.base, place.study, wanted[0], None)
    return Server(place, authorization).files()


def listed(url: object, authorization: str | None, keep_phi: bool) -> list[Series]:
    """The series of a study on a server."""
    return Server(place_of(url), authorization).series(keep_phi)
