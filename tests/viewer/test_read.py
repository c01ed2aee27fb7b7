"""The mode read: turns, the clock, answers and results over the API; then a session of four cases in a browser."""

import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from torch import nn

from pellucid.model import Model
from pellucid.reader_study import order, prepare_reader_study, read_reader_study
from pellucid.report.words import VERDICTS

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
TRUTH = {"a.png": "bright", "b.png": "dark", "c.png": "bright", "d.png": "dark"}


class Bright(nn.Module):
    """Says how bright a picture is."""

    def forward(self, x):
        """Two logits."""
        total = x.flatten(1).mean(1) - 0.4
        return torch.stack([-4 * total, 4 * total], 1)


@pytest.fixture(scope="module")
def desk(start, tmp_path_factory):
    home = tmp_path_factory.mktemp("read")
    folder = home / "scans" / "study"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for name, truth in TRUTH.items():
        picture = chance.integers(0, 120, (40, 56)) + (100 if truth == "bright" else 0)
        picture[8:20, 30:44] += 20
        Pil.fromarray(picture.astype(np.uint8)).save(folder / name)
    for name in ("s.png", "t.png"):
        Pil.fromarray(chance.integers(0, 200, (40, 56)).astype(np.uint8)).save(folder / name)
    similar = {name: [{"file": "s.png", "truth": "bright", "says": "nearest"}, {"file": "t.png", "truth": "dark"}] for name in TRUTH}
    prepare_reader_study(
        folder, Model(Bright(), classes=("dark", "bright")), TRUTH, name="brightness", question="Is the picture bright?", answers=("bright", "dark"),
        methods=("input_x_gradient",), similar=similar, crossed=False, seed=5,
    )  # fmt: skip
    broken = home / "scans" / "broken"
    broken.mkdir()
    (broken / "reader_study.json").write_text("{}")
    return start(home / "scans", home / "work", {}, phantoms=False)


def opened(desk):
    return desk.api.post("/api/readings", json={"folder": "study"}).json()["id"]


def turn(desk, key, reader):
    answer = desk.api.get(f"/api/readings/{key}/turn", params={"reader": reader})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_studies_are_listed_with_what_is_left_out_and_what_is_wrong(desk):
    found = {s["folder"]: s for s in desk.api.get("/api/readings").json()}
    assert found["study"]["cases"] == 4 and len(found["study"]["levels"]) == 3
    assert found["study"]["left_out"] == {"concepts": "4 of 4 cases have none"}
    assert "reader_study.json" in found["broken"]["problem"] or "docs/reading.md" in found["broken"]["problem"]


def test_a_reader_goes_through_all_cases_and_sees_only_the_level(desk):
    key = opened(desk)
    study = read_reader_study(desk.folder / "study")
    turns = order(study, "R5")
    assert key == opened(desk)
    for expected in turns:
        found = turn(desk, key, "R5")
        case = found["case"]
        assert (case["position"], case["case"], case["level"]) == (expected.position, expected.case, expected.level)
        assert "truth" not in set(case) and found["done"] == expected.position
        assert bool(case["maps"]) == (expected.level != "probabilities") and bool(case["similar"]) == (expected.level == "similar")
        assert case["probabilities"] and not case["concepts"]
        body = {"reader": "R5", "position": case["position"], "answer": "bright", "confidence": 0.8, "away": 0.0}
        assert desk.api.post(f"/api/readings/{key}/answers", json=body).status_code == 400  # it was not shown
        for _ in range(2):
            assert desk.api.post(f"/api/readings/{key}/shown", json={"reader": "R5", "position": case["position"]}).status_code == 200
        assert turn(desk, key, "R5") == found  # a refresh shows the same case
        assert desk.api.post(f"/api/readings/{key}/answers", json={**body, "answer": "gray"}).status_code == 400
        after = desk.api.post(f"/api/readings/{key}/answers", json=body).json()
        assert after["done"] == expected.position + 1
        assert desk.api.post(f"/api/readings/{key}/answers", json=body).status_code == 400  # it stands
    assert turn(desk, key, "R5")["case"] is None
    rows = list(csv.DictReader(io.StringIO(desk.api.get(f"/api/readings/{key}/answers.csv").text)))
    mine = [r for r in rows if r["reader"] == "R5"]
    assert [r["case"] for r in mine] == [t.case for t in turns] and {r["answer"] for r in mine} == {"bright"}
    assert [r["truth"] for r in mine] == [study[t.case].truth for t in turns] and all(0 <= float(r["seconds"]) < 60 for r in mine)
    told = desk.api.get(f"/api/readings/{key}/results").json()
    assert told["columns"][0] == "" and {r[0] for r in told["rows"]} >= {"accuracy", "brier", "ece", "fleiss"}
    assert any("One reader" in n or "too narrow" in n for n in told["numbers"]["notes"])


def test_maps_and_similar_pictures_are_served_and_nothing_else(desk):
    key = opened(desk)
    facts = desk.api.get(f"/api/readings/{key}/cases/case-01/maps/0").json()
    assert facts["positive"] > 0
    assert facts["label"]["verdict"] in set(VERDICTS) - {"not examined"} and facts["sentence"] == VERDICTS[facts["label"]["verdict"]]
    assert len(desk.api.get(f"/api/readings/{key}/cases/case-01/maps/0/samples").content) in (40 * 56, 2 * 40 * 56)
    picture = Pil.open(io.BytesIO(desk.api.get(f"/api/readings/{key}/cases/case-01/similar/0").content))
    assert picture.size == (56, 40)
    for path in (f"{key}/cases/case-01/maps/7", f"{key}/cases/nobody/maps/0", "nothing/turn?reader=R1", f"{key}/cases/case-01/similar/9"):
        assert desk.api.get(f"/api/readings/{path}").status_code in (400, 404)
    assert desk.api.get(f"/api/readings/{key}/turn", params={"reader": "Miller"}).status_code == 400
    assert desk.api.post("/api/readings", json={"folder": "../.."}).status_code in (400, 404)


# ---------------------------------------------------------------------------------------------------- in a browser
def test_a_session_of_four_cases_with_a_refresh_in_between(desk, page):
    from tests.viewer.test_browser import until

    turns = order(read_reader_study(desk.folder / "study"), "R2")
    page.locator("[data-mode=read]").click()
    page.wait_for_selector("[data-study=brightness]")
    assert "Left out, for want of material: concepts" in page.inner_text("[data-study=brightness]")
    page.fill("[data-study=brightness] input", "R2")
    page.locator("[data-study=brightness] button[type=submit]").click()
    for n, expected in enumerate(turns):
        until(
            page,
            f"document.querySelector('.reading')?.dataset.position === '{n}' && document.querySelector('#answer button').dataset.ready === 'yes'",
        )
        assert page.locator(".reading").get_attribute("data-level") == expected.level
        assert page.locator("#stage .frame").count() == (1 if expected.level == "probabilities" else 2)
        words = [
            w.lower() for w in page.locator("#map-says .badge").all_inner_texts() + page.locator("#stage .word").all_inner_texts() if w
        ]
        assert len(words) == (0 if expected.level == "probabilities" else 2) and set(words) <= set(VERDICTS)
        assert page.locator(".read-similar img").count() == (2 if expected.level == "similar" else 0)
        assert page.locator("#answer button[type=submit]").is_disabled()
        if n == 1:  # a refresh shows the same case, and its clock goes on
            page.wait_for_timeout(1200)
            page.reload()
            until(page, "document.querySelector('#answer button')?.dataset.ready === 'yes'")
            assert page.locator(".reading").get_attribute("data-position") == "1"
        page.keyboard.press("1" if n % 2 else "2")
        page.locator("#answer .sure label", has_text=re.compile(r"^80$")).click()
        page.locator("#answer button[type=submit]").click()
    until(page, "document.querySelector('#to-studies') !== null")
    rows = [
        r
        for r in csv.DictReader(io.StringIO((next((desk.work / "readings").iterdir()) / "answers.csv").read_text()))
        if r["reader"] == "R2"
    ]
    assert [r["answer"] for r in rows] == ["dark", "bright", "dark", "bright"] and {r["confidence"] for r in rows} == {"0.8"}
    assert float(rows[1]["seconds"]) > 1.2
    page.click("#to-studies")
    page.locator("summary", has_text="Results so far").click()
    page.click(".show-results")
    page.wait_for_selector("table.results")
    assert "accuracy" in page.inner_text("table.results").lower()
    assert json.loads((next((desk.work / "readings").iterdir()) / "record.json").read_text())["name"] == "brightness"
