"""The model as a whole in the viewer: findings of effects and prototypes, listed, told and drawn; what is refused, and what is never told."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from typer.testing import CliRunner

import pellucid as pl
from pellucid.cli import app
from pellucid.effects import partial_dependence, tree
from pellucid.model import Model
from pellucid.prototypes import filters, inversion

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from pellucid.viewer.offers import Beside, Offers


def net(scale):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    with torch.no_grad():
        made[0].weight.mul_(scale)
    return Model(made, classes=("dim", "bright"))


@pytest.fixture(scope="module")
def desk(start, tmp_path_factory):
    """Findings of two networks and of none, a damaged one, and files of something else."""
    home = tmp_path_factory.mktemp("whole")
    for name in ("scans", "saved/miller", "plain"):
        (home / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    mine, other = net(1.0), net(2.0)
    Pil.fromarray(rng.integers(0, 255, (8, 8)).astype(np.uint8)).save(home / "scans" / "scan.png")
    filters(mine, "0").save(home / "saved" / "filters.json")
    filters(other, "0").save(home / "saved" / "others.json")
    one = pl.Image(torch.rand(1, 8, 8), notes=("text may be burned in",))
    inversion(mine, one, "0", steps=1, draws=1).save(home / "saved" / "inverted.json")
    curve = partial_dependence(
        lambda r: r[:, 0], {"age": x[:, 0], "size": x[:, 1]}, "age", grid=4, patients=[f"PAT-{k}" for k in range(40)]
    )
    curve.save(home / "plain" / "curve.json")
    fitted = DecisionTreeClassifier(max_depth=1).fit(x, np.where(x[:, 0] > 0, "<b>", "b"))
    tree(fitted, names=["a", "c"]).save(home / "saved" / "miller" / "tree.json")
    shutil.copy(home / "saved" / "filters.json", home / "saved" / "prototype.json")  # its pictures do not lie beside it
    (home / "saved" / "notes.json").write_text(json.dumps({"kind": "concepts"}))
    (home / "saved" / "curve.json").write_text("{")
    beside = Beside(findings=(home / "saved", home / "plain" / "curve.json"))
    running = start(home / "scans", home / "work", {"mine": mine, "other": other}, phantoms=False, beside=beside)
    running.home = home
    return running


def get(desk, path="", model="mine", **more):
    return desk.api.get(f"/api/findings{path}", params={"model": model, **more})


def test_findings_are_listed_and_those_of_other_networks_refused(desk):
    rows = {r["id"]: r for r in get(desk).json()}
    good = {i for i, r in rows.items() if not r["problem"]}
    assert good == {"saved/filters.json", "saved/inverted.json", "saved/miller/tree.json", "plain"}
    assert set(rows) - good == {"saved/others.json", "saved/prototype.json", "saved/curve.json"}
    assert rows["saved/others.json"]["problem"]["kind"] == "BadModel" and rows["saved/curve.json"]["problem"]["kind"] == "BadFile"
    assert rows["plain"]["title"] == "Partial dependence on age" and rows["plain"]["verdict"] == "supported"
    swapped = {r["id"] for r in get(desk, model="other").json() if not r["problem"]}
    assert "saved/others.json" in swapped and "saved/filters.json" not in swapped and "plain" in swapped
    text = get(desk).text
    assert str(desk.home) not in text and "PAT-" not in text


def test_a_finding_is_told_and_drawn_on_both_grounds(desk):
    curve = get(desk, "/one", id="plain").json()
    assert (
        curve["sentences"]
        and curve["limit"]
        and curve["checks"]
        and len(curve["rows"]) == 4
        and curve["remarks"][0].startswith("No network")
    )
    light, dark = (get(desk, "/picture", id="plain", ground=g) for g in ("light", "dark"))
    assert light.content.startswith(b"\x89PNG") and light.headers["content-type"] == "image/png" and light.content != dark.content
    drawn = get(desk, "/picture", id="saved/miller/tree.json")
    assert drawn.headers["content-type"].startswith("image/svg+xml") and "&lt;b&gt;" in drawn.text and "<b>" not in drawn.text
    assert "default-src 'self'" in drawn.headers["content-security-policy"], "a picture that is opened by itself runs nothing"
    whole = get(desk, "/one", id="saved/miller/tree.json").json()
    assert whole["tree"] and len(whole["rules"]) == 2
    for path in ("/one", "/picture"):
        assert get(desk, path, id="saved/others.json").status_code == 400
        assert get(desk, path, id="../scans").status_code == 404


def test_a_picture_with_text_that_may_name_a_patient_is_not_drawn(desk):
    assert not get(desk, "/one", id="saved/inverted.json").json()["picture"]
    refused = get(desk, "/picture", id="saved/inverted.json")
    assert refused.status_code == 400 and "--names" in refused.json()["fix"]


def test_a_file_that_changed_is_read_anew(desk):
    file = desk.home / "plain" / "curve.json"
    before, kept = get(desk, "/one", id="plain").json(), file.read_text()
    file.write_text(kept.replace('"score"', '"scope"'))
    assert "edited" in get(desk, "/one", id="plain").json()["fix"]
    file.write_text(kept)
    assert get(desk, "/one", id="plain").json() == before


def test_the_command_line_names_what_is_there(tmp_path):
    got = CliRunner().invoke(app, ["serve", str(tmp_path), "--findings", str(tmp_path / "none")])
    assert got.exit_code == 1 and "--findings names a folder or file" in " ".join(got.output.split())
    assert not Offers(None, Beside(findings=(tmp_path,))).findings


def test_the_panel_by_keyboard_on_either_ground_and_in_a_narrow_window(browser, desk):
    """One picture is seen, of the ground that is; no message in the console, nothing wider than the window."""
    trouble = []
    page = browser.new_context(viewport={"width": 800, "height": 900}).new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.goto(desk.first)
    page.get_by_role("button", name="scan.png").click()
    tabs = page.get_by_role("group", name="Findings").get_by_role("button")
    page.get_by_role("article", name="Filters of 0").wait_for()
    assert tabs.evaluate_all("all => all.map(b => b.ariaPressed)") == ["true", "false", "false", "false"]
    for name, many in (("Partial dependence on age", 2), ("A decision tree", 2)):
        tabs.filter(has_text=name).press("Enter")
        article = page.get_by_role("article", name=name)
        article.wait_for()
        assert article.locator("figure img").count() == many and article.get_by_role("img").count() == 1, "the other ground is not read out"
        shown = "all => all.filter(i => getComputedStyle(i).display !== 'none').map(i => i.className)"
        assert article.locator("img").evaluate_all(shown) == ["on-light"]
        assert article.locator(".on-light").evaluate("i => i.decode().then(() => i.naturalWidth)") > 300
        for ground in ("on-dark", "on-light"):
            page.get_by_role("button", name="Switch between light and dark").click()
            assert article.locator("img").evaluate_all(shown) == [ground]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_by_text("Choose the network that it was made with").count() == 1
    assert page.get_by_role("region", name="A decision tree: the picture, to be scrolled; its rules stand below").count() == 1
    assert not trouble
    page.context.close()
