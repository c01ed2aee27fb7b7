"""Asking: forms, the queue, progress and cancel, what outlives a restart, marks and their numbers, ways, files."""

import io
import threading
import time
import zipfile

import numpy as np
import pydicom
import pytest
import torch
from tests.viewer.conftest import BYTES, httpx, said, same, samples_of

import pellucid as pl
from pellucid.params import kind_of
from pellucid.report import words


@pytest.fixture(scope="module")
def eye(viewer):
    return viewer.scan("fundus/image.png")["id"]


@pytest.fixture(scope="module")
def made(viewer):
    """A map of the photograph with all its steps kept, and its twin from the library."""
    key = viewer.map(method="blur_ig", params={"steps": 6, "keep": True}, target="DME", evidence="none")
    net = pl.load_model("phantom:fundus_dme")
    return key, pl.explain(net, viewer.folder / "fundus" / "image.png", target="DME", method="blur_ig", steps=6, keep=True)


def test_a_form_is_the_methods_own_signature(viewer):
    forms = {f["name"]: f for f in viewer.api.get("/api/methods").json()}
    assert set(forms) == {m.name for m in pl.methods()}
    for m in pl.methods():
        form = forms[m.name]
        shown = [f["name"] for f in form["fields"]]
        hidden = [k for k in m.params if kind_of(m.hints[k])[0].name == "map"]
        assert shown == [k for k in m.params if k not in hidden]
        assert sum(not f["says"] for f in form["fields"]) <= 1, m.name  # two that are told as one
        assert form["says"].endswith(".") and form["misleads"] and form["space"] == sorted(m.facts.space)


def test_what_a_form_shows_as_default_is_the_default(viewer, eye):
    """Every default, typed back as it is shown, gives the very method: number by number, name by name."""
    for form in viewer.api.get("/api/methods").json():
        given = {f["name"]: f["default"] for f in form["fields"] if f["default"] is not None}
        numbers = {f["name"] for f in form["fields"] if f["kind"] in ("count", "fraction", "positive", "weight", "real")}
        flags = {f["name"] for f in form["fields"] if f["kind"] == "flag"}
        typed = {k: float(v) if k in numbers else v == "True" if k in flags else v for k, v in given.items()}
        answer = viewer.api.post(f"/api/methods/price?scan={eye}", json={"name": form["name"], "params": typed})
        assert answer.status_code == 200, (form["name"], answer.text)
        assert answer.json()["method"] == repr(pl.read_method(form["name"])), form["name"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"methods": [{"name": "no_such", "params": {}}]}, "BadParameter"),
        ({"methods": [{"name": "__import__('os')", "params": {}}]}, "BadParameter"),
        ({"methods": [{"name": "occlusion", "params": {"window": -3}}]}, "BadParameter"),
        ({"methods": [{"name": "occlusion", "params": {"windows": 3}}]}, "BadParameter"),
        ({"methods": [{"name": "integrated_gradients", "params": {"baseline": "__import__('os').system('x')"}}]}, "BadParameter"),
        ({"model": "../../evil.pt"}, "BadModel"),
        ({"scan": "0" * 16}, "Missing"),
        ({"scan": "../../x"}, "Missing"),
        ({"target": "logit(1) * open('x')"}, "BadTarget"),
        ({"mark": "20260101t000000-00000000"}, "Missing"),
        ({"evidence": "very"}, "Misshapen"),
        ({"methods": []}, "Misshapen"),
        ({"more": 1}, "Misshapen"),
    ],
)
def test_a_wrong_question_is_told_at_once(viewer, eye, change, kind):
    body = {"scan": eye, "model": "phantom:fundus_dme", "methods": [{"name": "saliency", "params": {}}], "evidence": "none"}
    answer = viewer.api.post("/api/runs", json={**body, **change})
    assert answer.status_code in (400, 404, 422) and said(answer)["kind"] == kind, answer.text


def test_a_look_tells_classes_probabilities_and_sites(viewer, eye):
    for _ in range(2000):
        found = viewer.api.post(f"/api/look?scan={eye}&model=phantom:fundus_dme").json()
        if found["state"] == "done":
            break
        time.sleep(0.15)
    assert found["classes"] == ["no DME", "DME"] and found["output"] == "logits" and found["predicted"] == "logit('DME')"
    why = pl.explain(pl.load_model("phantom:fundus_dme"), viewer.folder / "fundus" / "image.png", method="saliency")
    assert found["probabilities"] == pytest.approx(why.probabilities)
    sites = {s["name"]: s["shape"] for s in found["sites"]}
    assert sites["features"] == [48, 16, 16]
    at = viewer.wait(viewer.ask(eye, method="grad_cam", sites=["features.1"], target="logit('DME') - logit('no DME')"))["maps"][0]
    assert at["site"] == "features.1" and at["target"] == "logit('DME') - logit('no DME')"


def test_the_map_is_the_librarys_own_number_for_number(viewer, made):
    key, mine = made
    sent = viewer.api.get(f"/api/maps/{key}/file?kind=npz").content
    path = viewer.work / "same.npz"
    path.write_bytes(sent)
    theirs = pl.explanation.load(path)
    assert same(theirs, mine) and theirs.provenance.method == mine.provenance.method and theirs.score == mine.score
    facts = viewer.api.get(f"/api/maps/{key}").json()
    levels = 2 ** (facts["layer"]["bits"] - 1) - 1
    raw = samples_of(viewer.api.get(f"/api/maps/{key}/samples"), facts["layer"]["bits"]).astype(float)
    shown = (raw - levels) / levels * facts["layer"]["most"]
    assert np.abs(shown.reshape(128, 128) - mine.relevance.numpy()).max() < 1e-4 * facts["layer"]["most"]
    assert facts["verdict"] == "not examined" and facts["cannot"] and facts["way"] == "blur_ig" and facts["kept"]
    told = words.told(mine)  # what the report says of the same map
    for name in ("name", "verdict", "sentence", "reasons", "cannot", "caveats", "beside"):
        assert facts[name] == told[name], name
    assert facts["label"] == words.label(told) and told["score"] in facts["said"] and facts["label"]["target"] == "DME"


def test_checks_come_after_the_map_with_reasons(viewer, eye):
    run = viewer.ask(eye, method="grad_cam", evidence="quick", target="DME")
    (line,) = viewer.wait(run)["maps"]
    facts = viewer.api.get(f"/api/maps/{line['id']}").json()
    assert line["verdict"] == facts["verdict"] != "not examined" and facts["reasons"] and facts["level"] == "quick"
    assert {"repetition", "deletion"} <= {r["name"] for r in facts["rows"]}


def test_cancel_leaves_the_network_as_it_was_and_the_queue_goes_on(start, shelf, tmp_path):
    net = pl.load_model("phantom:fundus_dme")
    net.module.train()
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    one = start(shelf, tmp_path, {"mine": net}, phantoms=False)
    eye = one.scan("fundus/image.png")["id"]
    long = one.ask(eye, "integrated_gradients", "mine", params={"steps": 20_000, "rule": "right"})
    next_ = one.ask(eye, "saliency", "mine")
    third = one.ask(eye, "saliency", "mine")
    one.wait(long, ("running",))
    assert one.api.get(f"/api/runs/{next_}").json()["ahead"] >= 1
    assert one.api.post(f"/api/runs/{third}/cancel").json()["state"] == "cancelled"
    one.api.post(f"/api/runs/{long}/cancel")
    assert one.wait(long, ("cancelled",))["maps"] == []
    assert len(one.wait(next_)["maps"]) == 1
    assert net.module.training and all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert one.api.get("/api/models").json() == [{"id": "mine", "given": True}]
    assert one.api.post(f"/api/look?scan={eye}&model=phantom:chest").status_code == 400
    one.end()


def test_all_that_was_done_is_there_after_a_restart(start, shelf, tmp_path):
    first = start(shelf, tmp_path)
    scan = first.scan("fundus/image.png")["id"]
    done = first.wait(first.ask(scan, target="DME"))
    facts = first.api.get(f"/api/maps/{done['maps'][0]['id']}").json()
    drawn = np.zeros((128, 128), np.uint8)
    drawn[10:20, 30:50] = 1
    mark = first.api.post(f"/api/marks?scan={scan}&name=one", content=drawn.tobytes(), headers=BYTES).json()
    cut = first.ask(scan, "integrated_gradients", params={"steps": 20_000, "rule": "right"})
    first.wait(cut, ("running",))
    first.end()
    second = start(shelf, tmp_path)
    runs = {r["id"]: r for r in second.api.get(f"/api/runs?scan={scan}").json()}
    assert runs[done["id"]]["state"] == "done" and runs[cut]["state"] in ("cancelled", "interrupted")
    assert second.api.get(f"/api/maps/{done['maps'][0]['id']}").json() == facts
    assert second.api.get(f"/api/marks?scan={scan}").json() == [mark]
    assert second.api.get(f"/api/marks/{mark['id']}/samples").content == drawn.tobytes()
    rows = second.api.post("/api/localization", json={"mark": mark["id"], "maps": [done["maps"][0]["id"]]}).json()["rows"]
    assert len(rows[done["maps"][0]["id"]]) == 8
    assert second.api.delete(f"/api/runs/{cut}").status_code == 204 and second.api.get(f"/api/runs/{cut}").status_code == 404
    second.end()


def test_numbers_against_a_mark_are_those_of_grade(viewer, made):
    key, mine = made
    truth = pl.phantoms.fundus(seed=7, dme=True).masks["causal"]
    scan = viewer.api.get(f"/api/maps/{key}").json()["scan"]
    mark = viewer.api.post(f"/api/marks?scan={scan}&name=x", content=truth.to(torch.uint8).numpy().tobytes(), headers=BYTES).json()
    assert mark["samples"] == int(truth.sum())
    asked = {"mark": mark["id"], "maps": [key], "metrics": ["relevance_mass", "roc_auc", "pointing_game"]}
    rows = viewer.api.post("/api/localization", json=asked).json()["rows"][key]
    graded = pl.grade(pl.load_model("phantom:fundus_dme"), mine.scan, {"m": mine}, asked["metrics"], mask=truth, controls=())
    for r in rows:
        m = graded["m", r["name"]]
        assert (r["value"], r["reference"], r["status"]) == (pytest.approx(m.value), pytest.approx(m.reference), m.status)
    assert viewer.api.post("/api/localization", json={**asked, "metrics": ["deletion"]}).status_code == 400
    short = viewer.api.post(f"/api/marks?scan={scan}&name=x", content=b"\1" * 10, headers=BYTES)
    assert short.status_code == 400 and "16,384 bytes" in said(short)["asked"]


def test_a_mark_in_a_volume_lies_where_it_was_drawn(viewer):
    """Drawn in viewing order, kept on the scan's grid: the block at the patient's left comes back there, in mm."""
    scan = viewer.scan("brain.nii.gz")
    display = scan["display"]
    raw = samples_of(viewer.api.get(f"/api/scans/{scan['id']}/channels/0"), 16).reshape(display["shape"])
    drawn = (raw * display["channels"][0]["step"] + display["channels"][0]["low"] > 2.9).astype(np.uint8)
    mark = viewer.api.post(f"/api/marks?scan={scan['id']}&name=block", content=drawn.tobytes(), headers=BYTES).json()
    assert mark["samples"] == drawn.sum() == 125 and mark["unit"] == "mm"
    path = viewer.work / "mark.nii.gz"
    path.write_bytes(viewer.api.get(f"/api/marks/{mark['id']}/file").content)
    kept, image = pl.read(path), pl.read(viewer.folder / "brain.nii.gz")
    assert torch.equal(kept.values[0] > 0.5, image.values[0] > 2.9)
    assert np.allclose(kept.grid.matrix, image.grid.matrix, atol=1e-4)
    whole = viewer.api.post("/api/marks/file", json={"scan": scan["id"], "path": "brain.nii.gz", "name": "all"})
    assert whole.status_code == 400 and "one label" in whole.text
    near = viewer.folder / "block.nii.gz"
    near.write_bytes(path.read_bytes())
    taken = viewer.api.post("/api/marks/file", json={"scan": scan["id"], "path": near.name, "name": "again"}).json()
    near.unlink()
    assert taken["samples"] == 125
    assert viewer.api.delete(f"/api/marks/{taken['id']}").status_code == 204


def test_a_drawn_region_of_a_segmentation_is_explained(start, shelf, tmp_path):
    torch.manual_seed(0)
    net = pl.Model(torch.nn.Conv2d(3, 2, 1), classes=("background", "lesion"), output="segmentation")
    one = start(shelf, tmp_path, {"dense": net})
    scan = one.scan("fundus/image.png")["id"]
    while (look := one.api.post(f"/api/look?scan={scan}&model=dense").json())["state"] != "done":
        time.sleep(0.1)
    assert look["output"] == "segmentation" and look["classes"] == ["background", "lesion"] and look["probabilities"] == []
    drawn = np.zeros((128, 128), np.uint8)
    drawn[40:50, 60:80] = 1
    mark = one.api.post(f"/api/marks?scan={scan}", content=drawn.tobytes(), headers=BYTES).json()["id"]
    (line,) = one.wait(one.ask(scan, "saliency", "dense", target="region('lesion')", mark=mark))["maps"]
    path = tmp_path / "seen.npz"
    path.write_bytes(one.api.get(f"/api/maps/{line['id']}/file?kind=npz").content)
    assert torch.equal(
        pl.explanation.load(path).relevance != 0, torch.from_numpy(drawn).bool()
    )  # one by one: what it sees is what was drawn
    one.end()


def test_the_way_ends_in_the_map(viewer, made):
    key, mine = made
    told = viewer.api.get(f"/api/maps/{key}/way").json()
    assert told["at"] == pytest.approx(mine.trace["sigmas"]) and told["contributions"] == pytest.approx(mine.trace["contributions"])
    from pellucid.viewer import way

    path = viewer.work / "runs" / key.rpartition(".")[0] / "0.way.npz"
    image, so_far = way.frame(path, mine, 0)  # at the sharp end all is gathered
    assert torch.allclose(so_far.values.sum(0), mine.relevance.float(), atol=1e-5)
    assert float(so_far.values.sum()) == pytest.approx(sum(mine.trace["contributions"]), rel=1e-4)
    dull, rest = way.frame(path, mine, 5)
    assert float(rest.values.sum()) == pytest.approx(mine.trace["contributions"][-1], rel=1e-3)
    assert float(dull.values.std()) < float(image.values.std())
    frame = viewer.api.get(f"/api/maps/{key}/way/3").json()
    assert frame["display"]["shape"] == [128, 128] and frame["map"]
    assert viewer.api.get(f"/api/maps/{key}/way/6").status_code == 400


def test_the_straight_way_is_kept_too(viewer, eye):
    line = viewer.wait(viewer.ask(eye, "integrated_gradients", params={"steps": 5, "keep": True, "baseline": "0.2"}, target="DME"))["maps"][
        0
    ]
    net = pl.load_model("phantom:fundus_dme")
    mine = pl.explain(net, viewer.folder / "fundus" / "image.png", "DME", method="integrated_gradients", steps=5, keep=True, baseline=0.2)
    from pellucid.viewer import way

    path = viewer.work / "runs" / line["id"].rpartition(".")[0] / "0.way.npz"
    image, so_far = way.frame(path, mine, 4)
    assert torch.allclose(so_far.values.sum(0), mine.relevance.float(), atol=1e-5)
    first, _ = way.frame(path, mine, 0)
    assert torch.allclose(first.values, 0.2 + mine.trace["alphas"][0] * (mine.image.values - 0.2), atol=1e-5) and image is not first
    plain = viewer.map(method="saliency")
    assert viewer.api.get(f"/api/maps/{plain}/way").status_code == 400


def test_files_open_in_other_readers(viewer, made):
    key, _ = made
    for kind, start_ in (("nii.gz", b"\x1f\x8b"), ("png", b"\x89PNG"), ("json", b"{")):
        answer = viewer.api.get(f"/api/maps/{key}/file?kind={kind}")
        assert answer.content.startswith(start_) and answer.headers["content-disposition"].startswith("attachment")
    report = viewer.api.get(f"/api/report?maps={key}&maps={key}")
    assert b"<!doctype html>" in report.content[:40] and "attachment" in report.headers["content-disposition"]
    assert viewer.api.get("/api/report?maps=20260101t000000-00000000.0").status_code == 404
    assert viewer.api.get(f"/api/maps/{key}/dicom").status_code == 400  # a photograph was not DICOM


def test_a_dicom_scan_gives_dicom(viewer):
    key = viewer.map("series", model="brain, scaled", target="atrophy")
    answer = viewer.api.get(f"/api/maps/{key}/dicom?kinds=map")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as pack:
        files = [pydicom.dcmread(io.BytesIO(pack.read(n)), stop_before_pixels=True) for n in pack.namelist() if n.endswith(".dcm")]
    assert "Doe" not in "".join(str(f.get("PatientName", "")) for f in files)
    assert any("FloatPixelData" in f or "Parametric" in f.SOPClassUID.name for f in files)


def test_many_askers_at_once_get_their_own(viewer, eye):
    """Requests side by side: none waits for the queue, and the counts come out right."""
    before = len(viewer.api.get(f"/api/runs?scan={eye}").json())
    found, lock = [], threading.Lock()

    def one(n):
        with httpx.Client(base_url=viewer.address, headers=viewer.api.headers, timeout=60) as api:
            body = {
                "scan": eye,
                "model": "phantom:fundus_dme",
                "methods": [{"name": "saliency", "params": {}}],
                "evidence": "none",
                "seed": n,
            }
            key = api.post("/api/runs", json=body).json()["id"]
            with lock:
                found.append(key)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(found)) == 6
    for key in found:
        assert viewer.wait(key)["maps"][0]["id"] == f"{key}.0"
    assert len(viewer.api.get(f"/api/runs?scan={eye}").json()) == before + 6
