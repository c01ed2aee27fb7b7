"""Beside the map: similar cases of an index, concepts in words, training images that decided; what is refused, and what is never told."""

import io
import json
import os
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tests.viewer.conftest import said
from torch import nn
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app
from pellucid.concepts import ConceptBank, Sensitivity, tcav
from pellucid.exemplars import Features, Structural, build_index, influence, similar
from pellucid.model import Model

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from pellucid.viewer.concepts import about
from pellucid.viewer.offers import Beside, Offers

SIDE = 12
STILL = "PELLUCID_TEST_STILL"  # a network stands still while it is in the environment
SECRET = re.compile(r"MILLER|PAT-[0-9]|/tmp|\.png")


class Bright(nn.Module):
    """Two classes by how bright the pixels are, with a linear layer at its end; may be told to stand still."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.see, self.flat, self.head = nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)
        with torch.no_grad():
            self.see.weight.copy_(torch.tensor([1.0, 0.5, -0.5])[:, None, None, None])
            self.see.bias.copy_(torch.tensor([-0.3, 0.1, 0.6]))
            self.head.weight.copy_(scale * 0.02 * torch.tensor([[-1.0], [1.0]]).expand(2, 3 * SIDE * SIDE))
            self.head.bias.copy_(torch.tensor([2.0, -2.0]))

    def forward(self, x):
        """Two logits."""
        while STILL in os.environ:
            time.sleep(0.01)
        return self.head(self.flat(torch.relu(self.see(x))))


def net(scale=1.0):
    return Model(Bright(scale), classes=("dim", "bright", "odd")[:2])


def painted(path, rng, bright):
    Pil.fromarray((rng.integers(0, 90, (SIDE, SIDE)) + 150 * bright).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """12 cases of 6 patients, two thirds in the served folder; indexes, concepts and influence of one network, some damaged."""
    home = tmp_path_factory.mktemp("beside")
    for name in ("scans/known", "elsewhere", "decided"):
        (home / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    cases = [painted(home / ("scans/known" if i < 8 else "elsewhere") / f"MILLER{i}.png", rng, i % 2) for i in range(12)]
    labels, patients = [("dim", "bright")[i % 2] for i in range(12)], [f"PAT-{i // 2}" for i in range(12)]
    new = painted(home / "scans" / "new.png", rng, 1)
    known = {"labels": labels, "patients": patients, "names": [str(c) for c in cases]}
    mine = net()
    by = Features(site="see", pool="none")
    build_index(mine, cases, by=by, **known, folder=home / "kept")
    build_index(mine, cases, by=by, labels=labels, names=known["names"], folder=home / "nobody")
    shutil.copytree(home / "kept", home / "damaged")
    rows = next((home / "damaged").glob("*.npy"))
    rows.write_bytes(rows.read_bytes()[:-1] + b"\x01")
    shutil.copytree(home / "kept", home / "empty")
    manifest = home / "empty" / "index.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"parts": []}))
    bank = ConceptBank.of(
        {"white": [painted(home / "b.png", rng, 1) and pl.read(home / "b.png") for _ in range(6)],
         "noise": [painted(home / "b.png", rng, 0) and pl.read(home / "b.png") for _ in range(6)]},
        random=[painted(home / "b.png", rng, 0) and pl.read(home / "b.png") for _ in range(6 * 19)],
    )  # fmt: skip
    asked = [painted(home / "b.png", rng, 1) and pl.read(home / "b.png") for _ in range(8)]
    tested = tcav(mine, bank, asked, "bright", sites="see")
    (home / "found").mkdir()
    tested.save(home / "found" / "concepts.json")
    why = influence(mine, cases, labels, new, "bright", penalty=0.1, check=6)
    why.save(home / "decided" / "influence.json")
    influence(mine, cases, labels, cases[0], "dim", penalty=0.1).save(home / "decided" / "other.json")
    return home, cases, new, mine, tested, why


@pytest.fixture(scope="module")
def desk(start, made):
    home, _, _, mine, *_ = made
    indexes = tuple(home / n for n in ("kept", "nobody", "damaged", "empty"))
    beside = Beside(indexes, (home / "found",), (home / "decided",))
    return start(home / "scans", home / "work", {"mine": mine, "other": net(1.5)}, phantoms=False, beside=beside)


def search(desk, path="new.png", until=("done",), **more):
    body = {"scan": desk.scan(path)["id"], "model": "mine", "index": "kept", **more}
    answer = desk.api.post("/api/similar", json=body)
    assert answer.status_code == 200, answer.text
    return over(desk, f"/api/similar/{answer.json()['id']}", until)


def over(desk, path, until=("done",)):
    end = time.monotonic() + 60
    while (job := desk.api.get(path).json())["state"] not in until:
        assert time.monotonic() < end and job["state"] in ("waiting", "running"), job
        time.sleep(0.02)
    return job


# ---------------------------------------------------------------------------------------------------- similar cases
def test_indexes_are_listed_and_refused_by_name_and_never_by_path(desk, made):
    found = {i["id"]: i for i in desk.api.get("/api/similar?model=mine").json()}
    assert found["kept"]["cases"] == 12 and found["kept"]["patients"] and not found["nobody"]["patients"]
    assert sorted((i["label"], i["among"]) for i in found["kept"]["labels"]) == [("bright", 6), ("dim", 6)]
    assert found["kept"]["measure"] == "what the network sees: all activations at see" and found["kept"]["problem"] is None
    assert "other bytes" in found["damaged"]["problem"]["got"] and "cannot be read" in found["empty"]["problem"]["got"]
    other = {i["id"]: i for i in desk.api.get("/api/similar?model=other").json()}["kept"]
    assert other["cases"] == 12 and f"another network ({made[3].identity[:12]}, not " in other["problem"]["got"]
    assert not re.search(f"MILLER|PAT-[0-9]|{made[0]}", json.dumps([found, other]))
    scan = desk.scan("new.png")["id"]
    for index, model, status, words in (
        ("kept", "other", 400, "another network"), ("damaged", "mine", 400, "other bytes"), ("none", "mine", 404, "not among them")
    ):  # fmt: skip
        answer = desk.api.post("/api/similar", json={"scan": scan, "model": model, "index": index})
        assert answer.status_code == status and words in said(answer)["got"], answer.text
    assert desk.api.get("/api/similar/0000").status_code == 404


def test_cases_are_those_that_the_command_finds(desk, made):
    home, cases, new, mine, *_ = made
    job = search(desk, k=4)
    found, own = job["found"], similar(mine, new, home / "kept", 4)
    assert [m["place"] for m in found["matches"]] == list(own.places)
    assert [m["likeness"] for m in found["matches"]] == pytest.approx([m.likeness for m in own])
    assert [m["label"] for m in found["matches"]] == ["bright"] * 4 and found["sentence"] == own.sentence
    assert found["labels"] == [{"label": "bright", "here": 4, "among": 6, "chance": "2"}]
    assert found["searched"] == 12 and found["left_out"] == 0
    assert "cosine" in found["means"] and "in the middle of all 12: likeness" in found["means"] and "no probability" in found["cannot"][0]
    assert "If its patient is, name them" in found["notes"][0]
    assert not SECRET.search(json.dumps(job)), "neither names, nor patients, nor paths"
    for m in found["matches"]:
        inside = m["place"] < 8
        assert m["picture"] == inside and (inside or "outside of the folders" in m["why"])
        answer = desk.api.get(f"/api/similar/{job['id']}/{m['n']}/picture")
        assert answer.status_code == (200 if inside else 400)
        if inside:
            shown = np.asarray(Pil.open(io.BytesIO(answer.content)).convert("L").resize((SIDE, SIDE), Pil.Resampling.BOX)).astype(float)
            like = [np.corrcoef(shown.ravel(), np.asarray(Pil.open(c)).ravel())[0, 1] for c in cases]
            assert np.argmax(like) == m["place"] and max(like) > 0.9, "the very case, and no other"
    assert desk.api.get(f"/api/similar/{job['id']}/9/picture").status_code == 404
    assert Pil.open(io.BytesIO(desk.api.get(f"/api/scans/{job['scan']}/picture").content)).size[0] >= SIDE


def test_the_scans_own_patient_is_left_out(desk):
    own = search(desk, "known/MILLER4.png", k=12)["found"]
    assert not {4, 5} & {m["place"] for m in own["matches"]} and len(own["matches"]) == own["searched"] == 10 and own["left_out"] == 2
    assert "2 cases of the same patient (the scan itself is in the index)" in own["notes"][0]
    assert [(r["label"], r["among"]) for r in own["labels"]] == [("bright", 5), ("dim", 5)], "chance is reckoned without them too"
    named = search(desk, k=12, patient="PAT-1")
    assert not {2, 3} & {m["place"] for m in named["found"]["matches"]} and "(as named)" in named["found"]["notes"][0]
    assert not SECRET.search(json.dumps(named))
    assert "No case of the index is of the patient named" in search(desk, patient="PAT-99")["found"]["notes"][0]
    nobody = search(desk, "known/MILLER4.png", index="nobody", k=2)["found"]
    assert nobody["matches"][0]["same"] and "does not know its patients" in nobody["notes"][0]
    scan = desk.scan("new.png")["id"]
    answer = desk.api.post("/api/similar", json={"scan": scan, "model": "mine", "index": "nobody", "patient": "PAT-1"})
    assert answer.status_code == 400 and "knows none" in said(answer)["got"] and "PAT-1" not in answer.text


def test_a_case_is_shown_only_where_it_may_be_read_and_is_what_was_compared(start, made, tmp_path):
    _, cases, new, mine, *_ = made
    (tmp_path / "scans" / ".secret").mkdir(parents=True)
    (tmp_path / "more").mkdir()
    names = {}
    for n, case in enumerate(cases[:8]):
        names[n] = tmp_path / ("more" if n == 1 else "scans") / f"MILLER{n}.png"
        shutil.copy(case, names[n])
    names[2].unlink()  # gone
    shutil.copy(cases[9], names[3])  # another image
    names[4].write_bytes(b"no picture")
    names[5].unlink()
    names[5].symlink_to(cases[5])  # leads out
    names[6] = names[6].rename(tmp_path / "scans" / ".secret" / "MILLER6.png")
    build_index(
        mine, cases[:8], by=Structural(), names=["MILLER0.png", *(str(names[n]) for n in range(1, 7)), ""], folder=tmp_path / "kept"
    )
    shutil.copy(new, tmp_path / "scans" / "new.png")
    beside = Beside((tmp_path / "kept",), cases=(tmp_path / "more",), names=True)
    one = start(tmp_path / "scans", tmp_path / "work", {"mine": mine}, phantoms=False, beside=beside)
    told = {m["place"]: m for m in search(one, k=8)["found"]["matches"]}
    assert told[0]["picture"] and told[1]["picture"] and told[1]["name"].endswith("MILLER1.png"), "names only where asked for"
    reasons = {2: "gone", 3: "another image", 4: "cannot be read", 5: "outside", 6: "outside", 7: "does not say where"}
    for place, word in reasons.items():
        assert not told[place]["picture"] and word in told[place]["why"], told[place]
    one.end()


def test_a_picture_with_text_that_may_name_a_patient_is_shown_only_where_names_are(made):
    clean = pl.read(made[2])
    burned = replace(clean, notes=("text is burned into the pixels and may identify the patient",))
    for names, image, there in ((False, clean, True), (False, burned, False), (True, burned, True)):
        found = Offers(None, Beside(names=names)).shown(image)
        assert bool(found.png) == there and ("may name the patient" in found.why) != there


def test_a_search_waits_is_cancelled_and_leaves_the_network_as_it_was(desk, made, monkeypatch):
    mine = made[3]
    before = {k: v.clone() for k, v in mine.module.state_dict().items()}
    desk.scan("new.png")
    monkeypatch.setenv(STILL, "1")
    try:
        first = search(desk, until=("running",))
        second = search(desk, until=("waiting",))
        assert second["ahead"] == 1
        assert desk.api.post(f"/api/similar/{second['id']}/cancel").json()["state"] == "cancelled"
        assert {i["id"]: i["problem"] for i in desk.api.get("/api/similar?model=mine").json()}["kept"] is None, "also while it runs"
        assert desk.api.get("/api/concepts?model=mine").json()[0]["problem"] is None
        assert desk.api.post(f"/api/similar/{first['id']}/cancel").json()["stopping"]
    finally:
        monkeypatch.delenv(STILL)
    ended = over(desk, f"/api/similar/{first['id']}", ("cancelled",))
    assert ended["found"] is None and desk.api.get(f"/api/similar/{first['id']}/0/picture").status_code == 404
    assert all(torch.equal(v, before[k]) for k, v in mine.module.state_dict().items())


# ---------------------------------------------------------------------------------------------------- concepts
def test_concepts_tell_what_was_found_and_what_was_dropped(desk, made):
    tested = made[4]
    (found,) = desk.api.get("/api/concepts?model=mine").json()
    rows = {r["concept"]: r for r in found["rows"]}
    assert found["id"] == "found" and {r["concept"]: r["sentence"] for r in found["rows"]} == {r.concept: r.sentence for r in tested}
    white, noise, truth = rows["white"], rows["noise"], tested.row("white")
    assert white["verdict"] == "raises" and white["status"] == "inconclusive" and not white["dropped"] and white["of"] == "bright"
    assert (white["score"], white["random"], white["p"]) == pytest.approx((truth.score, truth.random, truth.p))
    assert [white["random_low"], white["random_high"]] == pytest.approx(truth.random_range)
    assert noise["dropped"] and "do not tell it from random images" in noise["sentence"] and white["examples"] == 4
    assert "19 random sets of 6 images" in white["beside"] and not noise["holm"]
    assert f"One of 2 tests: p = {truth.p_holm:.2g} when all count (Holm), so it may be chance." == white["holm"]
    assert Pil.open(io.BytesIO(desk.api.get("/api/concepts/picture?id=found&concept=white&n=3").content)).size[0] >= SIDE
    for query in ("id=found&concept=white&n=4", "id=found&concept=gray&n=0", "id=none&concept=white&n=0"):
        assert desk.api.get(f"/api/concepts/picture?{query}").status_code == 404
    (other,) = desk.api.get("/api/concepts?model=other").json()
    assert other["rows"] == [] and "other weights" in other["problem"]["got"]


def test_concepts_in_this_image_say_no_more_than_those_over_many(desk, made):
    _, _, new, mine, tested, _ = made
    scan = desk.scan("new.png")["id"]
    job = desk.api.post("/api/concepts/here", json={"scan": scan, "model": "mine", "id": "found"}).json()["id"]
    rows = {r["concept"]: r for r in over(desk, f"/api/concepts/here/{job}")["found"]}
    own = {s.concept: s for s in tested.sensitivities(mine, new)}
    assert rows["white"]["sentence"].startswith("In this image") and rows["white"]["beyond"] == own["white"].beyond
    assert rows["noise"]["sentence"] == "Of noise nothing is said in this image either."
    answer = desk.api.post("/api/concepts/here", json={"scan": scan, "model": "other", "id": "found"})
    assert answer.status_code == 400 and said(answer)["kind"] == "BadModel"
    assert desk.api.get("/api/concepts/here/0000").status_code == 404 and desk.api.post(f"/api/similar/{job}/cancel").status_code == 404


@pytest.mark.parametrize(
    ("verdict", "value", "beyond", "begins", "ends"),
    [
        ("raises", 1.0, True, "In this image too: a step toward spots raises", "more than random concepts do."),
        ("raises", 1.0, False, "In this image a step toward spots raises", "the finding is one over many images."),
        ("raises", -1.0, True, "This image is an exception", "more than random concepts do."),
        ("lowers", 1.0, False, "In this image it is not seen", "no more than random concepts do."),
        ("no more than random", 1.0, True, "No finding, for over many images spots mattered no more than random.", "by chance: 3 were looked at."),
        ("no more than random", 1.0, False, "No finding", "no more than random concepts do."),
        ("not told apart", 1.0, True, "Of spots nothing is said", "in this image either."),
        ("too few random sets", 1.0, True, "Of spots nothing is said", "in this image either."),
    ],
)  # fmt: skip
def test_no_sentence_about_an_image_contradicts_the_one_about_many(verdict, value, beyond, begins, ends):
    low, high = (-0.5, 0.5) if beyond else (-2.0, 2.0)
    told = Sensitivity("spots", "see", "bright", value, value, low, high, verdict).says(3)
    assert told.startswith(begins) and told.endswith(ends)


def test_the_class_of_a_tested_score():
    classes = ("no DME", "DME", "DME over")
    for target, of in (("DME", "DME"), ("logit('DME')", "DME"), ("probability('no DME')", "no DME"), ("DME over no DME", "DME"), ("0.5 * logit('DME')", ""), ("DME over", "DME over")):  # fmt: skip
        assert about(target, classes) == of


def test_a_damaged_file_of_concepts_is_refused_in_a_sentence(start, made, tmp_path):
    home, _, _, mine, *_ = made
    for name in ("edited", "cut", "lost"):
        shutil.copytree(home / "found", tmp_path / name)
    edited = tmp_path / "edited" / "concepts.json"
    edited.write_text(edited.read_text().replace('"raises"', '"lowers"'))
    (tmp_path / "cut" / "concepts.json").write_text("{")
    (tmp_path / "lost" / "concepts.safetensors").unlink()
    shutil.copytree(home / "decided", tmp_path / "decided")
    file = tmp_path / "decided" / "influence.json"
    file.write_text(file.read_text().replace('"bright"', '"dim"'))
    (tmp_path / "scans").mkdir()
    shutil.copy(made[2], tmp_path / "scans" / "new.png")
    folders = tuple(tmp_path / n for n in ("edited", "cut", "lost", "scans"))
    one = start(tmp_path / "scans", tmp_path / "work", {"mine": mine}, phantoms=False, beside=Beside((), folders, (tmp_path / "decided",)))
    found = {f["id"]: f["problem"] for f in one.api.get("/api/concepts?model=mine").json()}
    assert set(found) == {"edited", "cut", "lost", "scans"} and all(p and p["fix"] for p in found.values())
    saved = one.api.get("/api/influence", params={"scan": one.scan("new.png")["id"], "model": "mine"}).json()
    assert [p["name"] for p in saved["problems"]] == ["decided/influence.json"] and not saved["found"]
    assert str(tmp_path) not in json.dumps([found, saved])
    one.end()


# ---------------------------------------------------------------------------------------------------- influence
def test_training_images_that_decided_are_those_that_were_saved(desk, made):
    why = made[5]
    scan = desk.scan("new.png")["id"]
    saved = desk.api.get("/api/influence", params={"scan": scan, "model": "mine", "k": 3}).json()
    (found,) = saved["found"]
    assert saved["others"] == 1 and not saved["problems"] and found["id"] == "decided/influence.json" and found["target"] == "bright"
    assert [r["place"] for r in found["pro"]] == list(why.proponents(3)) and [r["place"] for r in found["against"]] == list(
        why.opponents(3)
    )
    every = found["pro"] + found["against"]
    assert [r["label"] for r in every] == [why.labels[r["place"]] for r in every] and max(r["share"] for r in every) == 1
    assert [r["value"] for r in every] == pytest.approx([why.values[r["place"]] for r in every])
    assert found["verdict"] == why.evidence.verdict and found["reasons"] == list(why.evidence.reasons)
    assert "to first order" in found["means"] and "%" in found["weight"] and not SECRET.search(json.dumps(saved))
    for r in every:
        query = {"scan": scan, "model": "mine", "id": found["id"], "place": r["place"]}
        answer = desk.api.get("/api/influence/picture", params=query)
        assert r["picture"] == (r["place"] < 8) and answer.status_code == (200 if r["place"] < 8 else 400), "the index knows where it lies"
    other = desk.api.get("/api/influence", params={"scan": scan, "model": "other"}).json()
    assert not other["found"] and "other weights" in other["problems"][0]["problem"]["got"]
    assert desk.api.get("/api/influence/picture", params={**query, "model": "other"}).status_code == 400
    assert desk.api.get("/api/influence/picture", params={**query, "place": 99}).status_code == 404
    none = desk.api.get("/api/influence", params={"scan": desk.scan("known/MILLER3.png")["id"], "model": "mine"}).json()
    assert none == {"found": [], "problems": [], "others": 2}


@pytest.mark.parametrize(
    ("args", "words"),
    [(("--index", "none"), "--index names a folder"), (("--concepts", "none"), "--concepts names a folder or file"), (("--cases", "none"), "--cases names a folder")],
)  # fmt: skip
def test_what_is_not_there_is_said_at_the_start(tmp_path, args, words):
    got = CliRunner().invoke(app, ["serve", str(tmp_path), *args])
    assert got.exit_code == 1 and words in got.stderr and len(got.stderr.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------- in a browser
def test_a_reader_sees_cases_concepts_and_training_images(desk, page):
    from tests.viewer.test_browser import until

    page.locator(".entry", has_text="new.png").click()
    page.wait_for_selector("#run:not([disabled])")
    page.select_option("#model", "mine")
    until(page, "document.querySelectorAll('#index option').length === 4 && document.querySelector('#concepts .concept')")
    page.select_option("#index", "kept")
    page.fill("#how-many", "4")
    page.press("#how-many", "Enter")
    page.wait_for_selector("#similar-found .tiles")
    text = page.inner_text("#similar")
    assert "The 4 most similar of 12 other cases: 4 x bright." in text and "What they cannot tell you" in text and "by chance" in text
    assert page.locator("#similar-found figure").count() == 5 and "outside of the folders" in page.inner_text("#similar-found")
    until(page, "[...document.querySelectorAll('#similar-found img')].every((i) => i.complete && i.naturalWidth > 0)")
    words = page.inner_text("#concepts")
    assert "White raised the bright score" in words and "Nothing is said of noise" in words and "Dropped, and why" in words
    assert "random concepts" in page.locator("#concepts .ranked").first.get_attribute("aria-label")
    page.click("#concepts button")
    page.wait_for_selector("#concepts .here")
    assert page.inner_text("#concepts .here").startswith("In this image")
    page.select_option("#of-class", "dim")
    assert "No concept was tested for dim." in page.inner_text("#concepts") and "Tested: bright" in page.inner_text("#concepts")
    assert "Spoke for bright" in page.inner_text("#influence") and "No single image decided" in page.inner_text("#influence")
    assert not SECRET.search(page.content().replace("new.png", ""))
    page.reload()  # a refresh loses nothing
    page.wait_for_selector("#similar-found .tiles")
    assert "The 4 most similar of 12" in page.inner_text("#similar-found")
    page.select_option("#index", "damaged")
    assert "other bytes" in page.inner_text("#index-told .warning") and page.locator("#find").is_disabled()
    page.select_option("#index", "kept")
    page.wait_for_selector("#run:not([disabled])")
    page.select_option("#model", "other")
    for place, told in (("#similar", "another network"), ("#concepts", "other weights"), ("#influence", "other weights")):
        until(page, f"document.querySelector('{place} .warning')?.textContent.includes('{told}')")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    unnamed = page.eval_on_selector_all(
        "main input, main select, main button, main img",
        "(all) => all.filter((e) => e.offsetParent && !(e.labels && e.labels.length) && !e.alt && !e.getAttribute('aria-label') && !e.textContent.trim()).map((e) => e.outerHTML)",
    )
    assert unnamed == []
    ids = page.eval_on_selector_all("[id]", "(all) => all.map((e) => e.id)")
    assert len(ids) == len(set(ids))
