"""One viewer to a folder of results: who holds it is said, nothing acknowledged is lost, nobody else on the machine looks in; pipes and damage do not stop it."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image as Pil
from tests.viewer.conftest import BYTES, httpx

from pellucid.errors import BadFile
from pellucid.files import lock
from pellucid.reader_study import AnswerSheet
from pellucid.viewer.desk import Desk
from pellucid.viewer.store import Store, hold, seen_by_others

STUDY = {
    "name": "good", "question": "What is it?", "answers": ["-", "=HYPERLINK(1)"], "levels": ["probabilities"],
    "cases": [{"id": "one", "scan": "a.png", "truth": "-", "probabilities": {"-": 0.5}}],
}  # fmt: skip
ANSWER = """
import sys, time
from pathlib import Path
from pellucid.reader_study import Answer, AnswerSheet
sheet, reader = AnswerSheet(Path(sys.argv[1])), sys.argv[2]
Path(sys.argv[1] + reader).touch()
while not all(Path(sys.argv[1] + r).exists() for r in ("R1", "R2")):
    time.sleep(0.001)
for position in range(15):
    sheet.add(Answer("s", reader, position, "c", "maps", 0, "a", "a", 0.5, 1.0))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scans").mkdir()
    Pil.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "scans" / "a.png")
    return tmp_path / "scans"


def test_a_second_viewer_is_told_who_holds_the_folder_and_changes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    first = subprocess.Popen([sys.executable, "-m", "pellucid", "serve", str(folder), "--out", str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline().startswith("viewer: http://127.0.0.1")
        run = Store(out).new("runs", {"state": "running"})
        with pytest.raises(BadFile, match=rf"held by process {first.pid} on .+ since \d{{4}}.+another --out"):
            Desk.over(folder, out, {})
        assert Store(out).get("runs", run)["state"] == "running"
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    desk = Desk.over(folder, out, {})  # who ends, however it ends, lets go
    assert Store(out).get("runs", run)["state"] == "interrupted"
    with pytest.raises(BadFile, match=f"held by process {os.getpid()}"):
        Desk.over(folder, out, {})
    desk.close()


def test_answers_of_two_processes_wait_for_each_other_and_all_stand(tmp_path):
    path = tmp_path / "answers.csv"
    with path.open("a+b") as file:
        assert lock(file)
        both = [subprocess.Popen([sys.executable, "-c", ANSWER, str(path), r]) for r in ("R1", "R2")]
        end = time.monotonic() + 90
        while not all((tmp_path / f"answers.csv{r}").exists() for r in ("R1", "R2")):
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.5)
        assert path.stat().st_size == 0  # nobody writes while another does
    assert [p.wait(90) for p in both] == [0, 0]
    assert sorted((a.reader, a.position) for a in AnswerSheet(path).read()) == sorted((r, n) for r in ("R1", "R2") for n in range(15))


def test_actions_at_the_same_time_all_stand_and_are_on_the_disk(start, folder, tmp_path, monkeypatch):
    one = start(folder, tmp_path / "out", phantoms=False)
    synced = []

    def fsync(at, real=os.fsync):
        synced.append(stat.S_ISREG(os.fstat(at).st_mode))
        real(at)

    scan = one.scan("a.png")["id"]
    session = one.api.post("/api/annotations", json={"scan": scan}).json()["id"]
    monkeypatch.setattr(os, "fsync", fsync)

    def add(n):
        return one.api.post(
            f"/api/annotations/{session}/actions", json={"action": "add", "start": [n % 8, 0], "stop": [n % 8 + 1, 2]}
        ).status_code

    with ThreadPoolExecutor(6) as hands:
        assert set(hands.map(add, range(30))) == {200}
    assert len(one.api.get(f"/api/annotations/{session}").json()["findings"]) == 30
    assert sum(synced) == 30
    assert [p.name for p in (tmp_path / "out" / "annotations" / session).iterdir()] == ["record.json"]
    one.end()


def test_files_of_a_series_that_come_at_the_same_time_stay_apart(start, folder, tmp_path):
    one = start(folder, tmp_path / "out", phantoms=False)
    key = one.api.post("/api/uploads?name=one", content=b"x" * 10, headers=BYTES).json()["id"]

    def send(n):
        with httpx.Client(base_url=one.address, headers={**one.api.headers, **BYTES}, timeout=60) as mine:
            return mine.post(f"/api/uploads?name=f&into={key}", content=bytes([65 + n]) * 300_000).status_code

    with ThreadPoolExecutor(8) as hands:
        assert set(hands.map(send, range(8))) == {200}
    files = [p.read_bytes() for p in (tmp_path / "out" / "uploads" / key / "files").iterdir()]
    assert sorted((len(f), sorted(set(f))) for f in files) == sorted([(10, [120]), *((300_000, [65 + n]) for n in range(8))])
    told = one.api.post(f"/api/uploads?name=f&into={key}", content=b"y", headers=BYTES).json()
    assert (told["files"], told["size"]) == (10, 10 + 8 * 300_000 + 1)
    assert list((tmp_path / "out" / "uploads" / key).glob("*.part")) == []
    one.end()


@pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")
def test_results_are_for_their_owner_alone_and_a_wider_folder_is_told(tmp_path):
    before = os.umask(0o022)
    try:
        hold(tmp_path / "a" / "out").close()
        assert stat.S_IMODE((tmp_path / "a" / "out").stat().st_mode) == 0o700
        assert seen_by_others(tmp_path / "a" / "out") == ""
        (tmp_path / "wide").mkdir()
        hold(tmp_path / "wide").close()
        assert "chmod 700" in seen_by_others(tmp_path / "wide") and "0755" in seen_by_others(tmp_path / "wide")
    finally:
        os.umask(before)


def test_a_pipe_holds_nobody_up(start, folder, tmp_path):
    os.mkfifo(folder / "pipe.png")
    (folder / "study").mkdir()
    os.mkfifo(folder / "study" / "reader_study.json")
    one = start(folder, tmp_path / "out", phantoms=False)
    one.api.timeout = 10
    listed = one.api.get("/api/files").json()
    assert [e["name"] for e in listed["entries"]] == ["study", "a.png"] and listed["skipped"] == 1
    scan = one.scan("a.png")["id"]
    for answer in (
        one.api.post("/api/scans", json={"path": "pipe.png"}),
        one.api.post("/api/scans", json={"path": "study"}),
        one.api.get("/api/series", params={"path": "pipe.png"}),
        one.api.post("/api/marks/file", json={"scan": scan, "path": "pipe.png"}),
        one.api.post("/api/readings", json={"folder": "study"}),
    ):
        assert answer.status_code == 400, answer.text
    assert one.api.get("/api/readings").json() == []
    one.end()


def test_one_damaged_study_or_sheet_leaves_the_others_readable(start, folder, tmp_path):
    def study(name, text):
        (folder / name).mkdir()
        (folder / name / "reader_study.json").write_text(text)
        (folder / name / "a.png").write_bytes((folder / "a.png").read_bytes())

    bad = {"deep": "[" * 100_000, "endless": json.dumps({**STUDY, "seed": float("inf")}), "odd": json.dumps({**STUDY, "levels": [{}]})}
    for name, text in bad.items():
        study(name, text)
    for name in ("good", "saved", "coded"):
        study(name, json.dumps({**STUDY, "name": name}))
    one = start(folder, tmp_path / "out", phantoms=False)
    for name in ("good", "saved", "coded"):
        key = one.api.post("/api/readings", json={"folder": name}).json()["id"]
        assert one.api.post(f"/api/readings/{key}/shown", json={"reader": "R1", "position": 0}).status_code == 200
        said = {"reader": "R1", "position": 0, "answer": "=HYPERLINK(1)", "confidence": 0.5}
        assert one.api.post(f"/api/readings/{key}/answers", json=said).status_code == 200
        sheet = tmp_path / "out" / "readings" / key / "answers.csv"
        if name == "saved":
            sheet.write_bytes(sheet.read_bytes().replace(b"HYPERLINK", "schön".encode("latin-1")))
        if name == "coded":
            sheet.write_bytes(sheet.read_bytes().replace(b"R1", b"Miller"))
        if name == "good":  # a spreadsheet takes no cell for a formula, and what was answered is read back
            assert b",'=HYPERLINK(1),'-," in sheet.read_bytes()
            assert [(a.answer, a.truth) for a in AnswerSheet(sheet).read()] == [("=HYPERLINK(1)", "-")]
    answer = one.api.get("/api/readings")
    assert answer.status_code == 200
    found = {s["folder"]: s for s in answer.json()}
    assert {f for f, s in found.items() if s["problem"]} == {*bad, "saved", "coded"}
    assert found["good"]["readers"] == {"R1": 1} and "answer sheet" in found["saved"]["problem"]
    one.end()


def test_text_that_could_be_a_formula_is_read_back_as_it_was(tmp_path):
    from pellucid.reader_study import Answer

    words = ["=1", "+1", "-", "@x", "'=1", "''-", "'plain", "\tx", "plain", "a=b", ""]
    sheet = AnswerSheet(tmp_path / "a.csv")
    for n, word in enumerate(words):
        sheet.add(Answer("s", "R1", n, "c", "maps", 0, word, word, 0.5, 1.0))
    assert [a.answer for a in sheet.read()] == words
    import csv

    with (tmp_path / "a.csv").open() as file:
        assert not [c for row in csv.reader(file) for c in row if c[:1] in tuple("=+-@\t")]


def test_a_run_that_is_cancelled_says_that_it_stops_and_stops(start, folder, tmp_path):
    import torch
    from torch import nn

    from pellucid.model import Model

    into, out = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x):
            into.set()
            assert out.wait(60)
            return torch.stack([x.flatten(1).mean(1)] * 2, 1)

    one = start(folder, tmp_path / "out", {"slow": Model(Slow(), classes=("a", "b"))}, phantoms=False)
    run = one.ask(one.scan("a.png")["id"], "saliency", "slow", target="a")
    assert into.wait(60)
    assert one.api.get(f"/api/runs/{run}").json()["stopping"] is False
    told = one.api.post(f"/api/runs/{run}/cancel").json()
    assert (told["state"], told["stopping"]) == ("running", True)
    out.set()
    assert one.wait(run, ("cancelled",))["stopping"] is False
    heavy = one.ask(one.scan("a.png")["id"], "integrated_gradients", "slow", target="a", params={"steps": 6000})
    began = time.monotonic()
    one.api.post(f"/api/runs/{heavy}/cancel")
    assert one.wait(heavy, ("cancelled", "failed"))["state"] in ("cancelled", "failed") and time.monotonic() - began < 10
    one.end()


def test_a_record_that_cannot_be_read_is_told_when_the_viewer_starts(folder, tmp_path, caplog):
    store = Store(tmp_path / "out")
    good, bad = store.new("marks", {"scan": "x"}), store.new("marks", {"scan": "x"})
    (store.folder("marks", bad) / "record.json").write_text("")
    Desk.over(folder, tmp_path / "out", {}).close()
    assert bad in caplog.text and good not in caplog.text
