"""Objects sent to a real Orthanc by STOW and fetched by WADO: the same voxels in the same place."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import numpy as np
import pydicom
import pytest
from tests.io.derived import made_of
from tests.io.dicoms import oblique, write_series
from tests.io.orthanc import orthanc
from tests.io.serving import serving

import pellucid as pl
from pellucid.errors import BadFile, BadParameter, BadServer

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client")
SECRET = "sesame-1234"


@pytest.fixture(scope="module")
def filed(tmp_path_factory):
    home = tmp_path_factory.mktemp("filed")
    volume = (np.random.default_rng(0).normal(0, 50, (12, 40, 48)) + 1000).astype(np.int16)
    write_series(home / "scan", volume, oblique(), modality="MR", BodyPartExamined="BRAIN")
    return made_of(pl.read(home / "scan")).dicom(home / "out", source=home / "scan", keep_phi=True)


def test_what_comes_back_is_what_was_sent(filed, tmp_path):
    from dicomweb_client.api import DICOMwebClient

    with orthanc(tmp_path) as server:
        sent = pl.send(filed, server.dicomweb_url)
        assert len(sent) == len(filed) and set(sent["stored"]) == {True} and set(sent["reason"]) == {""}
        client = DICOMwebClient(server.dicomweb_url)
        for path in filed.files:
            mine = pydicom.dcmread(path)
            back = client.retrieve_instance(str(mine.StudyInstanceUID), str(mine.SeriesInstanceUID), str(mine.SOPInstanceUID))
            for keyword in ("FloatPixelData", "PixelData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
                assert back.get(keyword) == mine.get(keyword), (path.name, keyword)
            assert back.get("ImagePositionPatient") == mine.get("ImagePositionPatient")
            assert back.get("FrameOfReferenceUID") == mine.get("FrameOfReferenceUID")
        assert set(pl.send(filed.folder / "map.dcm", server.dicomweb_url)["stored"]) == {True}  # once more: no harm


def test_a_server_that_asks_who_is_there(filed, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with orthanc(tmp_path, users={"ann": SECRET}) as server:
        with pytest.raises(BadServer, match="HTTP 401: it refuses who asks"):
            pl.send(filed.folder / "map.dcm", server.dicomweb_url)
        with pytest.raises(BadServer, match="HTTP 401") as error:
            pl.send(filed.folder / "map.dcm", server.dicomweb_url, token=SECRET)
        assert SECRET not in str(error.value) + caplog.text
        basic = {"Authorization": "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()}
        assert pl.send(filed.folder / "map.dcm", server.dicomweb_url, headers=basic)["stored"] == (True,)
    assert SECRET not in caplog.text and basic["Authorization"] not in caplog.text


class Refusing(BaseHTTPRequestHandler):
    """A server that takes nothing: 200 with a list of failures, 415, or a web page."""

    answers = {
        "/failing/studies": (200, "application/dicom+json", b'{"00081198":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[290]}}]}}'),
        "/odd/studies": (415, "text/plain", b"no"),
        "/page/studies": (200, "text/html", b"<html>hello</html>"),
        "/noise/studies": (200, "application/dicom+json", b"hello"),
    }

    def do_POST(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(left)
        status, kind, body = self.answers.get(self.path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_refusals_are_told_file_by_file_or_named(filed, tmp_path):
    small = tmp_path / "report.dcm"
    small.write_bytes((filed.folder / "report.dcm").read_bytes())
    with serving(Refusing) as place:
        url = f"http://{place}"
        failed = pl.send(small, f"{url}/failing")
        assert (failed["stored"], failed["reason"]) == ((False,), ("SOP class not supported",))
        assert pl.send([small], f"{url}/odd")["reason"] == ("HTTP 415",)
        assert pl.send([small], f"{url}/page")["reason"] == ("the server did not say that it was stored",)
        with pytest.raises(BadServer, match="not DICOMweb's"):
            pl.send(small, f"{url}/noise")
        with pytest.raises(BadServer, match="HTTP 404: no STOW service"):
            pl.send(small, f"{url}/nothing")
    with pytest.raises(BadServer, match="no answer"):
        pl.send(small, url, timeout=1)


class Elsewhere(BaseHTTPRequestHandler):
    """A server that sends whoever stores to ``place``, and writes down who came."""

    place: str | None = None
    heard: list[str] = []

    def do_POST(self) -> None:
        Elsewhere.heard.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(307 if self.path == "/pacs/studies" else 200)
        self.send_header("Location", str(Elsewhere.place))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_that_sends_elsewhere_gets_nothing_sent_there(filed, tmp_path):
    small = tmp_path / "report.dcm"
    small.write_bytes((filed.folder / "report.dcm").read_bytes())
    with serving(Elsewhere) as place:
        Elsewhere.place, Elsewhere.heard = f"http://{place}/steal", []
        with pytest.raises(BadServer, match="HTTP 307: it sends you elsewhere"):
            pl.send(small, f"http://{place}/pacs", token=SECRET, headers={"X-Api-Key": SECRET})
    assert Elsewhere.heard == ["/pacs/studies"]


@contextmanager
def hearing() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that stores nothing and writes down what it was asked with which Authorization, be it as server or as proxy."""
    heard: list[tuple[str, str | None]] = []

    class Heard(Refusing):
        def do_POST(self) -> None:
            heard.append((self.path, self.headers.get("Authorization")))
            super().do_POST()

    with serving(Heard) as place:
        yield place, heard


def test_what_goes_to_this_machine_goes_past_every_proxy(filed, monkeypatch):
    with hearing() as (here, heard), hearing() as (proxy, caught):
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy}")
        pl.send(filed.folder / "report.dcm", f"http://{here}/odd", token=SECRET)
        pl.send(filed.folder / "report.dcm", f"http://localhost:{here.partition(':')[2]}/odd", token=SECRET)
        assert (heard, caught) == ([("/odd/studies", f"Bearer {SECRET}")] * 2, [])


def test_who_asks_is_who_was_named_whatever_netrc_says(filed, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login joe password pw\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    basic = "Basic " + base64.b64encode(f"ann@x:{SECRET}".encode()).decode()
    ways = [
        ("", {"token": SECRET}, f"Bearer {SECRET}"),
        ("", {}, None),
        ("", {"headers": {"authorization": basic}}, basic),
        ("", {"headers": {"Authorization": "Basic x"}, "token": SECRET}, f"Bearer {SECRET}"),
        (f"ann%40x:{SECRET}@", {}, basic),
    ]
    with hearing() as (here, heard):
        for inside, how, said in ways:
            pl.send(filed.folder / "report.dcm", f"http://{inside}{here}/odd", **how)
            assert heard.pop() == ("/odd/studies", said), inside
        with pytest.raises(BadParameter, match="no header line"):
            pl.send(filed.folder / "report.dcm", f"http://{here}/odd", token="a\r\nX: b")
        assert heard == []


def test_bad_requests(filed, tmp_path):
    with pytest.raises(BadParameter, match="travels encrypted"):
        pl.send(filed, "http://pacs.example/dicom-web", token=SECRET)
    with pytest.raises(BadParameter, match="travels encrypted") as error:
        pl.send(filed, f"http://ann:{SECRET}@pacs.example/dicom-web")
    assert SECRET not in str(error.value)
    with pytest.raises(BadParameter, match="a DICOMweb address"):
        pl.send(filed, "ftp://pacs.example")
    with pytest.raises(BadFile, match="no such file"):
        pl.send(tmp_path / "none", "https://pacs.example")
    with pytest.raises(BadFile, match="no files"):
        pl.send(tmp_path, "https://pacs.example")


@pytest.mark.realdata
def test_an_explanation_of_a_real_series_comes_back_from_the_pacs(realdata, tmp_path):
    """192 oblique slices, explained on a coarse grid in another orientation: Map and Segmentation return with the same voxels and geometry,
    and the house reads the map where the explanation lies."""
    import torch
    from dicomweb_client.api import DICOMwebClient

    torch.manual_seed(0)
    scan = pl.read(realdata("dicom-mr"))
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(), torch.nn.Linear(16, 2)
    )
    model = pl.Model(net, classes=("a", "b"), prepare=pl.Prepare(orientation="RAS", spacing=6.0, range=(0, 1)))
    why = pl.explain(model, scan, "b", method="occlusion", window=40.0)
    out = why.dicom(tmp_path / "out", source=realdata("dicom-mr"), kinds=("map", "segmentation"))
    with orthanc(tmp_path) as server:
        assert set(pl.send(out, server.dicomweb_url)["stored"]) == {True}
        client = DICOMwebClient(server.dicomweb_url)
        for path in out.files:
            mine = pydicom.dcmread(path)
            back = client.retrieve_instance(str(mine.StudyInstanceUID), str(mine.SeriesInstanceUID), str(mine.SOPInstanceUID))
            for keyword in ("FloatPixelData", "PixelData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
                assert back.get(keyword) == mine.get(keyword), (path.name, keyword)
            back.save_as(tmp_path / path.name, enforce_file_format=True)
    seen = pl.read(tmp_path / "map.dcm")
    expected = why.on(scan.grid).relevance
    assert np.abs(np.array(seen.grid.affine) - np.array(scan.grid.affine)).max() < 1e-6
    scale = float(seen.values.abs().max() / expected.abs().max())
    assert scale == 2.0 ** round(np.log2(scale))
    assert torch.equal(seen.values[0], expected.float() * scale)
