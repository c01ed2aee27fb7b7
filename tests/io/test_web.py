"""DICOMweb in: the same scan from a real Orthanc as from disk, and every way in which a server can fail."""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from tests.io.dicoms import oblique, write_series
from tests.io.orthanc import orthanc
from tests.io.serving import serving

from pellucid.errors import BadFile, BadParameter, PellucidError, Unsupported
from pellucid.io import read, series
from pellucid.io.dicom import web

pytest.importorskip("dicomweb_client")
STUDY, SERIES = "/studies/1.2.3", "/studies/1.2.3/series/1.2.3.4"
SECRET = "Bearer geheim-4711"


@pytest.fixture
def folder(tmp_path):
    volume = np.random.default_rng(1).integers(0, 3000, (5, 9, 11)).astype(np.int16)
    write_series(tmp_path / "s" / "a", volume, oblique())
    write_series(tmp_path / "s" / "b", volume[:2], modality="MR", SeriesInstanceUID="1.2.3.5")
    return tmp_path / "s"


def test_a_series_from_orthanc_is_the_series_on_disk(tmp_path, folder, caplog, capfd):
    here = read(folder / "a")
    with caplog.at_level(logging.DEBUG), orthanc(tmp_path, users={"ann": "pw"}) as server:
        basic = "Basic " + base64.b64encode(b"ann:pw").decode()
        url = server.dicomweb_url
        with pytest.raises(BadFile, match="status 401.*authorization="):
            read(url + SERIES)
        import urllib.request

        for path in sorted(folder.rglob("*.dcm")):
            request = urllib.request.Request(f"{server.url}/instances", data=path.read_bytes(), headers={"Authorization": basic})
            urllib.request.urlopen(request, timeout=10).close()
        there = read(url + SERIES, authorization=basic)
        assert there.fingerprint == here.fingerprint
        assert dict(there.facts) == dict(here.facts)  # the digest too: the files came as they are stored
        assert there.grid == here.grid
        found = series(url + STUDY, authorization=basic)
        assert [(s.uid, s.modality, s.slices, s.description) for s in found] == [("1.2.3.4", "CT", 5, ""), ("1.2.3.5", "MR", 2, "")]
        with pytest.raises(BadFile, match=r"2 series \(0: CT 5 files; 1: MR 2 files\)"):
            read(url + STUDY, authorization=basic)
        assert read(url + STUDY, series="1", authorization=basic).grid.shape == (9, 11, 2)
        assert read(url + STUDY, series="1.2.3.4", authorization=basic).fingerprint == here.fingerprint
        for missing in ("/studies/9.9", "/studies/9.9/series/9.9.9", "/studies/1.2.3/series/7.7"):
            with pytest.raises(BadFile):
                read(url + missing, authorization=basic)
        with pytest.raises(BadFile, match="without series"):
            series(url + "/studies/9.9", authorization=basic)
    seen = caplog.text + "".join(capfd.readouterr()) + repr(dict(there.facts)) + repr(there.notes)
    assert "1.2.3" not in seen.replace("127.0.0.1", "")
    assert basic not in seen and "Doe" not in seen


class Fake(BaseHTTPRequestHandler):
    """Answers every request with what the test put into ``plan``."""

    plan: dict = {}
    heard: list = []

    def do_GET(self):
        Fake.heard.append((self.path, self.headers.get("Authorization")))
        status, kind, body = Fake.plan["files" if "instances" not in self.path and "series/" in self.path else "list"]
        if status == "slow":
            threading.Event().wait(3)
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", str(len(body) + Fake.plan.get("more", 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def fake(**plan) -> Iterator[str]:
    listed = b'[{"0020000E": {"vr": "UI", "Value": ["1.2.3.4"]}, "00201209": {"vr": "IS", "Value": [1]}}]'
    Fake.plan = {"list": (200, "application/dicom+json", listed), "files": (404, "text/plain", b""), **plan}
    Fake.heard = []
    with serving(Fake) as place:
        yield f"http://{place}/dicom-web"


def multipart(*files: bytes, close: bytes = b"--") -> bytes:
    return b"".join(b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + f + b"\r\n" for f in files) + b"--XX" + close


MULTI = 'multipart/related; type="application/dicom"; boundary=XX'


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        ({"files": (403, "text/plain", b"Doe")}, "status 403.*forbids"),
        ({"files": (404, "text/plain", b"Doe")}, "status 404.*does not have"),
        ({"files": (500, "text/plain", b"Doe")}, "status 500.*failed"),
        ({"files": (302, "text/plain", b"")}, "status 302.*elsewhere"),
        ({"files": (200, "text/html", b"<html>Log in, Doe</html>")}, "text/html instead of DICOM files"),
        ({"files": (200, MULTI, multipart())}, "0 of 1 files"),
        ({"files": (200, MULTI, multipart(b"x", b"y"))}, "2 of 1 files"),
        ({"files": (200, MULTI, multipart(b"x", close=b""))}, "broke off"),
        ({"files": (200, MULTI, multipart(b"Doe")), "more": 9}, "broke off|no connection"),
        ({"files": (200, MULTI, multipart(b"Doe^Jane is no DICOM file"))}, "none of them a DICOM image"),
        ({"files": (200, MULTI, b"")}, "broke off"),
        ({"list": (200, "text/html", b"<html>Log in</html>")}, "text/html instead of DICOM JSON"),
        ({"list": (200, "application/json", b"{Doe")}, "no DICOM JSON"),
        ({"list": (200, "application/json", b'{"Doe": 1}')}, "no DICOM JSON|nothing there"),
        ({"list": (200, "application/json", b"[]")}, "nothing there"),
        ({"list": (204, "application/json", b"")}, "status 204|nothing there"),
        ({"list": (401, "text/plain", b"")}, "status 401.*PELLUCID_DICOMWEB_AUTHORIZATION"),
    ],
)
def test_whatever_a_server_says_the_error_names_it(plan, match):
    with fake(**plan) as url, pytest.raises(BadFile, match=match) as refused:
        read(url + SERIES)
    assert "Doe" not in str(refused.value)
    assert "1.2.3" not in str(refused.value)


def test_no_server_a_slow_one_and_too_much(monkeypatch):
    with fake() as url:
        pass
    with pytest.raises(BadFile, match="no connection"):
        read(url + SERIES)
    monkeypatch.setattr(web, "PATIENCE", (0.3, 0.3))
    with fake(files=("slow", "", b"")) as url, pytest.raises(BadFile, match="no answer in time"):
        read(url + SERIES)
    monkeypatch.setattr(web, "MOST_BYTES", 1000)
    with fake(files=(200, MULTI, multipart(b"x" * 2000))) as url, pytest.raises(BadFile, match="more than 1,000 bytes"):
        read(url + SERIES)


def test_the_secret_goes_where_it_should_and_nowhere_else(monkeypatch, caplog):
    with caplog.at_level(logging.DEBUG), fake() as url:
        with pytest.raises(PellucidError) as refused:
            read(url + SERIES, authorization=SECRET)
        assert {a for _, a in Fake.heard} == {SECRET}
        monkeypatch.setenv(web.VARIABLE, "Bearer other")
        for hosts in ("", "pacs.example.org", "127.0.0.1:9"):  # the secret is for another server, or for nobody yet
            monkeypatch.setenv(web.HOSTS, hosts)
            with pytest.raises(PellucidError):
                read(url + SERIES)
            assert Fake.heard[-1][1] is None
        for hosts in ("127.0.0.1", f"pacs.example.org, {url.split('/')[2]}"):
            monkeypatch.setenv(web.HOSTS, hosts)
            with pytest.raises(PellucidError):
                read(url + SERIES)
            assert Fake.heard[-1][1] == "Bearer other"
    assert "geheim" not in caplog.text + str(refused.value) + repr(refused.getrepr())
    monkeypatch.setenv(web.HOSTS, "pacs.example.org")
    with pytest.raises(BadFile, match="without encryption"):
        read("http://pacs.example.org/dicom-web" + SERIES)
    with pytest.raises(BadParameter, match="no header line"):
        read(url + SERIES, authorization="Bearer a\r\nX: b")


@pytest.mark.parametrize(
    ("bound", "most", "said"),
    [("MOST_PAGES", 20, "no end after 20 pages"), ("MOST_FILES", 20, "more than 20 entries"), ("DEADLINE", 0.2, "no end after")],
)
def test_a_search_that_never_ends_is_left(monkeypatch, bound, most, said):
    def endless(self):
        uid = f"1.2.{len(Fake.heard)}"
        Fake.heard.append(uid)
        body = json.dumps([{"0020000E": {"vr": "UI", "Value": [uid]}}]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    monkeypatch.setattr(Fake, "do_GET", endless)
    monkeypatch.setattr(web, bound, most)
    with fake() as url, pytest.raises(BadFile, match=said):
        series(url + STUDY)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:geheim@h/dicom-web/studies/1.2",
        "http://h/dicom-web",
        "https://h/studies/Doe",
        "http:///studies/1.2",
        "http://h:99999/studies/1",
        "http://h/studies/1.2?x=1",
        "http://h/studies/" + "1." * 40 + "1",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(BadFile) as refused:
        read(url)
    assert "geheim" not in str(refused.value) and "Doe" not in str(refused.value)


def test_an_address_as_a_path_is_an_address():
    with fake() as url, pytest.raises(BadFile, match="status 404"):
        read(Path(url + SERIES))


def test_without_the_extra_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dicomweb_client.api", None)
    with pytest.raises(Unsupported, match=r"pip install pellucid\[web\]"):
        read("http://127.0.0.1:9/dicom-web" + SERIES)
