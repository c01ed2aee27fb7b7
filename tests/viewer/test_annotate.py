"""The mode annotate: proposals, actions and exports over the API, on a photograph and on a turned volume; then a reader's hand in a browser."""

import gzip
import io
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tests.io.dicoms import write_series
from torch import nn

from pellucid.grid import Grid
from pellucid.io import write
from pellucid.model import Model

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
BYTES = {"content-type": "application/octet-stream"}
SQUARES = (((6, 8), (18, 24)), ((28, 40), (38, 58)))  # the first one brighter
BLOCK = ((3, 12, 2), (8, 20, 7))


class Bright(nn.Module):
    """Says how bright a picture is; its input times its gradient is the picture."""

    def forward(self, x):
        """Two logits."""
        total = x.flatten(1).mean(1)
        return torch.stack([-total, total], 1)


def filled(folder: Path) -> Path:
    folder.mkdir()
    picture = np.zeros((48, 64), np.uint8)
    for (a, b), (c, d), value in ((*SQUARES[0], 250), (*SQUARES[1], 200)):
        picture[a:c, b:d] = value
    Pil.fromarray(picture).save(folder / "squares.png")
    volume = torch.zeros(1, 20, 24, 16)
    (i, j, k), (p, q, r) = BLOCK
    volume[0, i:p, j:q, k:r] = 1.0
    affine = np.array([[0, 0, 2.0, -10], [1.5, 0, 0, 4], [0, -1.0, 0, 30], [0, 0, 0, 1]])  # axes run toward A, I, R
    write(folder / "volume.nii.gz", volume, Grid((20, 24, 16), tuple(map(tuple, affine.tolist())), "mm"), facts={"sided": True})
    write_series(folder / "ct", np.random.default_rng(0).integers(0, 900, (6, 16, 20)).astype(np.int16))
    return folder


@pytest.fixture(scope="module")
def desk(start, tmp_path_factory):
    home = tmp_path_factory.mktemp("annotate")
    return start(filled(home / "scans"), home / "work", {"bright": Model(Bright(), classes=("dark", "bright"))}, phantoms=False)


def a_map(desk, path):
    run = desk.ask(desk.scan(path)["id"], "input_x_gradient", "bright", target="logit('bright')")
    return desk.wait(run)["maps"][0]["id"]


def begun(desk, path, **more):
    found = a_map(desk, path)
    answer = desk.api.post("/api/annotations", json={"scan": desk.scan(path)["id"], "map": found, "smallest": 4, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def act(desk, session, action, number=None, **more):
    answer = desk.api.post(f"/api/annotations/{session['id']}/actions", json={"action": action, "number": number, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_proposals_lie_where_the_map_is_high_and_every_action_is_on_disk(desk):
    s = begun(desk, "squares.png", label="square")
    assert [(tuple(f["start"]), tuple(f["stop"])) for f in s["findings"]] == list(SQUARES)
    assert s["open"] == 2 and s["actions"] == 0 and "input_x_gradient" in s["made"]
    s = act(desk, s, "accept", 1)
    s = act(desk, s, "resize", 2, start=[27, 40], stop=[38, 60])
    s = act(desk, s, "add", start=[0, 0], stop=[4, 5], label="new")
    kept = json.loads((desk.work / "annotations" / s["id"] / "record.json").read_text())
    assert [e["action"] for e in kept["events"]] == ["open", "accept", "resize", "add"] and kept["findings"][1]["start"] == [27, 40]
    s = act(desk, s, "undo")
    assert s["actions"] == 4 and len(s["findings"]) == 2 and s["open"] == 0
    assert desk.api.get("/api/annotations", params={"scan": s["scan"]}).json()[-1] == s
    told = desk.api.get(f"/api/annotations/{s['id']}/file", params={"kind": "coco"}).json()
    assert [a["bbox"] for a in told["annotations"]] == [[8, 6, 16, 12], [40, 27, 20, 11]]
    assert told["images"] == [{"id": 1, "file_name": "squares.png", "width": 64, "height": 48}]


def test_a_turned_volume_keeps_its_own_samples(desk, tmp_path):
    s = begun(desk, "volume.nii.gz", kind="mask")
    assert len(s["findings"]) == 1 and s["findings"][0]["mask"]
    kept = json.loads((desk.work / "annotations" / s["id"] / "record.json").read_text())["findings"][0]
    assert (tuple(kept["start"]), tuple(kept["stop"])) == BLOCK
    shape = desk.scan("volume.nii.gz")["display"]["shape"]
    shown = np.frombuffer(desk.api.get(f"/api/annotations/{s['id']}/samples", params={"number": 1}).content, np.uint8).reshape(shape)
    at = np.argwhere(shown)
    assert at.min(0).tolist() == s["findings"][0]["start"] and (at.max(0) + 1).tolist() == s["findings"][0]["stop"]
    # one sample further along the first axis shown, which is the scan's last, reversed or not
    moved = act(desk, s, "move", 1, start=[s["findings"][0]["start"][0] + 1, *s["findings"][0]["start"][1:]],
                stop=[s["findings"][0]["stop"][0] + 1, *s["findings"][0]["stop"][1:]])  # fmt: skip
    now = json.loads((desk.work / "annotations" / s["id"] / "record.json").read_text())["findings"][0]
    changed = [a for a in range(3) if now["start"][a] != kept["start"][a]]
    assert changed == [2] and abs(now["start"][2] - kept["start"][2]) == 1
    data = desk.api.get(f"/api/annotations/{moved['id']}/file", params={"kind": "nii.gz"}).content
    (tmp_path / "m.nii.gz").write_bytes(data)
    read, scan = nibabel.load(tmp_path / "m.nii.gz"), nibabel.load(desk.folder / "volume.nii.gz")
    assert np.allclose(read.affine, scan.affine)
    wanted = np.zeros((20, 24, 16))
    wanted[tuple(slice(a, b) for a, b in zip(now["start"], now["stop"]))] = 1
    assert np.array_equal(np.squeeze(read.get_fdata()), wanted)
    painted = np.zeros(shape, np.uint8)
    painted[2:5, 3:4, 6:9] = 1
    answer = desk.api.post(f"/api/annotations/{s['id']}/paint", params={"number": 1}, content=painted.tobytes(), headers=BYTES).json()
    assert (answer["findings"][0]["start"], answer["findings"][0]["stop"]) == ([2, 3, 6], [5, 4, 9])


@pytest.mark.parametrize(
    "path, body, status",
    [
        ("actions", {"action": "accept", "number": 99}, 400),
        ("actions", {"action": "move", "number": 1, "start": [0, 0], "stop": [49, 10]}, 400),
        ("actions", {"action": "move", "number": 1, "start": [0], "stop": [4]}, 400),
        ("actions", {"action": "explode"}, 422),
        ("actions", {"action": "add", "start": [-1, 0], "stop": [2, 2]}, 422),
        ("actions", {"action": "label", "number": 1, "label": "x" * 100}, 422),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(desk, path, body, status):
    s = desk.api.post("/api/annotations", json={"scan": desk.scan("squares.png")["id"]}).json()
    act(desk, s, "add", start=[0, 0], stop=[5, 5])
    before = (desk.work / "annotations" / s["id"] / "record.json").read_bytes()
    answer = desk.api.post(f"/api/annotations/{s['id']}/{path}", json=body)
    assert answer.status_code == status and {"asked", "got", "fix"} <= set(answer.json())
    assert (desk.work / "annotations" / s["id"] / "record.json").read_bytes() == before


def test_sessions_that_are_not_there_and_masks_that_do_not_fit_are_refused(desk):
    s = desk.api.post("/api/annotations", json={"scan": desk.scan("squares.png")["id"]}).json()
    assert desk.api.get("/api/annotations/nothing").status_code == 404
    assert desk.api.post(f"/api/annotations/{s['id']}/paint", content=b"\1" * 7, headers=BYTES).status_code == 400
    assert desk.api.post(f"/api/annotations/{s['id']}/paint", content=b"\0" * 48 * 64, headers=BYTES).status_code == 400
    assert desk.api.get(f"/api/annotations/{s['id']}/dicom").status_code == 400
    other = {"scan": desk.scan("volume.nii.gz")["id"], "map": a_map(desk, "squares.png")}
    assert desk.api.post("/api/annotations", json=other).status_code == 400
    assert desk.api.delete(f"/api/annotations/{s['id']}").status_code == 204
    assert desk.api.get(f"/api/annotations/{s['id']}").status_code == 404


def test_a_dicom_scan_gives_a_segmentation_of_what_was_drawn(desk):
    import highdicom

    scan = desk.scan("ct")
    s = desk.api.post("/api/annotations", json={"scan": scan["id"]}).json()
    assert desk.api.get(f"/api/annotations/{s['id']}/dicom").status_code == 400  # nothing is accepted
    s = act(desk, s, "add", start=[2, 3, 1], stop=[7, 9, 4], label="nodule")
    answer = desk.api.get(f"/api/annotations/{s['id']}/dicom")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/dicom"
    seg = highdicom.seg.segread(io.BytesIO(answer.content))
    assert seg.number_of_segments == 1 and int(seg.pixel_array.sum()) == 5 * 6 * 3
    assert str(seg.SegmentSequence[0].SegmentAlgorithmType) == "MANUAL" and str(seg.PatientID).startswith("PELLUCID-")


def test_annotated_scans_become_cases_of_the_exercise(desk, tmp_path):
    from pellucid.annotation import session_cases

    s = begun(desk, "squares.png")
    assert all(c.proposed.made != "x" for c in session_cases(desk.work, desk.folder))
    act(desk, s, "reject", 1)
    s = act(desk, s, "accept", 2)
    case = next(c for c in session_cases(desk.work, desk.folder) if c.corrected is not None and [f.number for f in c.truth] == [2])
    assert case.image.grid.shape == (48, 64) and len(case.proposed.findings) == 2 and case.corrected.effort.actions == 2


# ---------------------------------------------------------------------------------------------------- in a browser
def spot(page, row, column, shape=(48, 64)):
    """Where an edge of samples is on the page."""
    canvas = page.locator("#stage .frame canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + column / shape[1] * box["width"], box["y"] + row / shape[0] * box["height"]


def drag(page, start, stop):
    page.mouse.move(*spot(page, *start))
    page.mouse.down()
    page.mouse.move(*spot(page, *[(a + b) / 2 for a, b in zip(start, stop)]), steps=3)
    page.mouse.move(*spot(page, *stop), steps=3)
    page.mouse.up()


def findings(desk, session):
    return {f["number"]: f for f in desk.api.get(f"/api/annotations/{session}").json()["findings"]}


def test_a_reader_accepts_moves_resizes_rejects_and_adds_with_mouse_and_keys(desk, page):
    from tests.viewer.test_browser import until

    a_map(desk, "squares.png")
    page.locator("[data-mode=annotate]").click()
    page.locator(".entry", has_text="squares.png").click()
    page.wait_for_selector("#propose")
    before = len(desk.api.get("/api/annotations", params={"scan": desk.scan("squares.png")["id"]}).json())
    page.locator("details", has_text="How the map is cut").locator("summary").click()
    page.fill("#smallest", "4")
    until(page, "document.querySelector('#map-says .badge')?.innerText.toLowerCase().includes('not examined')")
    assert "not examined" in page.locator("#from-map").evaluate("(e) => e.selectedOptions[0].textContent")
    page.click("#propose")
    until(page, f"document.querySelectorAll('.sessions li').length === {before + 1}")
    until(page, "document.querySelectorAll('.finding.proposed').length === 2")
    session = re.search(r"annotation=([^&]+)", page.url)[1]
    until(
        page, "document.querySelector('#worth .badge.not-examined') && document.querySelector('#stage .panel:last-child .word').innerText"
    )
    assert desk.api.get(f"/api/annotations/{session}").json()["verdict"] == "not examined"

    page.keyboard.press("a")  # accepts the first, and goes on to the second
    until(
        page, "document.querySelector('.finding.accepted.chosen') === null && document.querySelector('.finding.proposed.chosen') !== null"
    )
    drag(page, (33, 49), (30, 45))  # the inside moves
    until(page, "document.querySelectorAll('.finding.accepted').length === 2")
    assert (findings(desk, session)[2]["start"], findings(desk, session)[2]["stop"]) == ([25, 36], [35, 54])
    drag(page, (30, 54), (30, 60))  # the right edge resizes
    until(page, "document.querySelector('#worked').innerText.includes('3 actions')")
    assert (findings(desk, session)[2]["start"], findings(desk, session)[2]["stop"]) == ([25, 36], [35, 60])
    page.click("#add-box")
    drag(page, (41.2, 3.3), (45.7, 12.4))
    until(page, "document.querySelectorAll('.finding').length === 3")
    new = findings(desk, session)[3]
    assert (new["start"], new["stop"], new["origin"]) == ([41, 3], [46, 13], "reader")
    page.locator("[data-number='3'] .pick").click()
    for _ in range(3):
        page.keyboard.press("ArrowRight")  # three presses are one movement
    until(page, "document.querySelector('#worked').innerText.includes('5 actions')")
    assert findings(desk, session)[3]["start"] == [41, 6]
    page.keyboard.press("r")
    until(page, "document.querySelector('[data-number=\"3\"]').classList.contains('rejected')")
    page.keyboard.press("Control+z")
    until(page, "document.querySelector('[data-number=\"3\"]').classList.contains('accepted')")

    page.reload()  # a refresh loses nothing
    page.wait_for_selector("html[data-ready]")
    until(page, "document.querySelectorAll('.finding.accepted').length === 3")
    assert "7 actions" in page.inner_text("#worked")
    with page.expect_download() as waiting:
        page.locator("#exports a", has_text="COCO").click()
    told = json.loads(Path(waiting.value.path()).read_text())
    assert [a["bbox"] for a in told["annotations"]] == [[8, 6, 16, 12], [36, 25, 24, 10], [6, 41, 10, 5]]
    with page.expect_download() as waiting:
        page.locator("#exports a", has_text="NIfTI").click()
    labels = nibabel.Nifti1Image.from_bytes(gzip.decompress(Path(waiting.value.path()).read_bytes())).get_fdata()
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    shot = Pil.open(io.BytesIO(page.screenshot()))
    greens = np.asarray(shot.convert("RGB")).reshape(-1, 3)
    assert ((greens - [92, 255, 160]).astype(int) ** 2).sum(1).min() < 300  # boxes of what was accepted are drawn
