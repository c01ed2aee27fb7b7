"""One viewer over a small folder for the whole session, on loopback and a free port; and clients that may and may not."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from tests.io.dicoms import write_series

import pellucid as pl
from pellucid.explanation import Map

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
BYTES = {"content-type": "application/octet-stream"}


def marked_brain():
    """The phantom brain, with a bright block at the patient's left, above and in front of the middle."""
    phantom = pl.phantoms.brain(seed=7, atrophy=True)
    values = phantom.image.values.clone()
    grid = phantom.image.grid
    middle = np.array(grid.world([(n - 1) / 2 for n in grid.shape]))
    i, j, k = (round(v) for v in grid.index(middle + np.array([-60.0, 20.0, 20.0])))
    values[0, i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 3.0
    return phantom.image.with_values(values)


def fill(folder: Path) -> None:
    """A photograph, a volume, its lesion mask, a DICOM series of another volume, and files that are none."""
    eye = pl.phantoms.fundus(seed=7, dme=True)
    pl.phantoms.save(eye, folder / "fundus")
    brain = marked_brain()
    pl.io.write(folder / "brain.nii.gz", brain.values, brain.grid, facts={"sided": True})
    lps = brain.permute(*_toward_lps(brain.grid))
    write_series(folder / "series", (lps.values[0].permute(2, 1, 0).numpy() * 1000).astype("<i2"), spacing=(4.0, 4.0, 4.0), modality="MR")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 60)
    (folder / "notes.txt").write_text("no scan")


def _toward_lps(grid):
    """Axes in the order left, back, head."""
    cosines = grid.matrix[:3, :3] / np.array(grid.spacing)
    order = [int(np.argmax(np.abs(cosines[w]))) for w in range(3)]
    return order, [bool(cosines[w, a] > 0) != (w == 2) for w, a in enumerate(order)]


class Viewer(SimpleNamespace):
    """A running viewer: ``address``, ``token``, ``desk``-less; ``api`` is a client that may."""

    def scan(self, path, **more):
        answer = self.api.post("/api/scans", json={"path": path, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, scan, method="saliency", model="phantom:fundus_dme", **more):
        methods = [{"name": method, "params": more.pop("params", {})}]
        body = {"scan": scan, "model": model, "methods": methods, "evidence": "none", **more}
        answer = self.api.post("/api/runs", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def wait(self, run, until=("done",)):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            record = self.api.get(f"/api/runs/{run}").json()
            if record["state"] in until:
                return record
            assert record["state"] in ("waiting", "running"), record
            time.sleep(0.15)
        raise AssertionError(f"{run} did not end")

    def map(self, path="fundus/image.png", **more) -> str:
        """The id of a map of a scan, made now."""
        return self.wait(self.ask(self.scan(path)["id"], **more))["maps"][0]["id"]


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Start a viewer over a folder; all are stopped at the end."""
    from pellucid.viewer.app import serve

    ends = []

    def begin(folder, work, models=None, **more) -> Viewer:
        ready, stop, told = threading.Event(), threading.Event(), []

        def on_ready(address):
            told.append(address)
            ready.set()

        thread = threading.Thread(
            target=serve, args=(folder, work, models or {}), kwargs={"on_ready": on_ready, "stop": stop, **more}, daemon=True
        )
        thread.start()
        assert ready.wait(30)
        parts = urlsplit(told[0])
        token = parse_qs(parts.query)["token"][0]
        address = f"{parts.scheme}://{parts.netloc}"
        api = httpx.Client(base_url=address, headers={"authorization": f"Bearer {token}"}, timeout=60)

        def end():
            api.close()
            stop.set()
            thread.join(15)
            assert not thread.is_alive()

        ends.append(end)
        return Viewer(address=address, token=token, api=api, first=told[0], folder=folder, work=work, end=end)

    yield begin
    for end in ends:
        end()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    fill(folder)
    return folder


@pytest.fixture(scope="session")
def viewer(start, shelf, tmp_path_factory) -> Viewer:
    brain = replace(pl.load_model("phantom:brain_atrophy"), prepare=pl.Prepare(range=(0, 1)), name="brain, scaled")
    return start(shelf, tmp_path_factory.mktemp("work"), {"brain, scaled": brain})


@pytest.fixture
def page(desk, browser):
    """The first page of a file's own viewer, ``desk``; any message or error fails at the end."""
    trouble: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(90_000)
    one = context.new_page()
    one.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    one.on("pageerror", lambda e: trouble.append(str(e)))
    one.goto(desk.first)
    one.wait_for_selector("html[data-ready]")
    yield one
    context.close()
    assert [t for t in trouble if "GPU stall" not in t and "WebGL" not in t] == []


def samples_of(answer, bits: int) -> np.ndarray:
    """Packed samples, inflated by the client."""
    raw = np.frombuffer(answer.content, np.uint8)
    if bits == 8:
        return raw
    half = len(raw) // 2
    return raw[:half].astype(np.uint16) + 256 * raw[half:].astype(np.uint16)


def said(answer) -> dict:
    """An error in the viewer's words."""
    found = json.loads(answer.content)
    assert {"kind", "asked", "got", "fix"} <= set(found), found
    return found


def same(a: Map, b: Map) -> bool:
    return torch.equal(a.values, b.values) and a.grid == b.grid
