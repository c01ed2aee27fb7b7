"""The page as text: what it says, what it must never say, and that it asks for nothing."""

import base64
import io
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tests.report.cases import CLASSES, FOR_AT, SHAPE, explained, flat, head

from pellucid.errors import BadFile, BadGrid, BadImage, BadParameter
from pellucid.explanation import Evidence
from pellucid.grid import Axis, Grid
from pellucid.image import Image
from pellucid.io import picture
from pellucid.report import pictures as drawing
from pellucid.report import words, write_report

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&amp;{{ 7*7 }}"


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside, self.text = "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text += data


def page(tmp_path: Path, maps, **more) -> str:
    return write_report(tmp_path / "report.html", maps, **more).read_text(encoding="utf-8")


def test_says_prediction_verdict_evidence_and_provenance(tmp_path):
    scan, values = flat()
    seen = Elements(page(tmp_path, [explained(scan, values)], title="Why", note="A remark."))
    text = " ".join(seen.text.split())
    for told in (*CLASSES, "7.0 %", "< 0.1 %", "93.0 %", "questionable", "Deletion stays open.", "A caveat to read.", "A remark.", "Why"):
        assert told in text
    for told in ("The sum is right.", "0.003", "0.3 to 0.5", "random orders", "not available", "−2 × 10⁻⁷", "inconclusive", "void", "fail"):
        assert told in text
    for told in ("integrated_gradients(steps=8)", "logit('late')", scan.fingerprint, scan.fingerprint[:12], "pellucid 0.1.0"):
        assert told in text
    assert "not a diagnosis" in text
    marked = re.findall(r'class="class explained[^"]*">\s*<span class="class-name">(\w+)', page(tmp_path, [explained(scan, values)]))
    assert marked == ["late"]


@pytest.mark.parametrize("verdict", ["supported", "questionable", "not supported", "void", None])
def test_every_verdict_has_its_badge_and_sentence(tmp_path, verdict):
    scan, values = flat()
    html = page(tmp_path, [explained(scan, values, evidence=Evidence("quick", (), verdict, ("Because.",)))])
    word = verdict or "not examined"
    assert f'<span class="badge {word.replace(" ", "-")}">' in html
    assert words.VERDICTS[word] in html and "Because." in html


def test_many_classes_are_all_there_and_the_explained_one_is_up_front(tmp_path):
    scan, values = flat()
    names = tuple(f"finding {k:03d}" for k in range(300))
    odds = tuple(np.random.default_rng(0).dirichlet(np.ones(300)).tolist())
    low = int(np.argmin(odds))
    m = replace(explained(scan, values, classes=names, target=f"logit({low})"), probabilities=odds)
    text = page(tmp_path, [m])
    assert all(n in text for n in names)
    assert names[low] in text[: text.index("<details>")]


def test_asks_the_network_for_nothing(tmp_path):
    scan, values = head()
    html = page(tmp_path, [explained(scan, values)])
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html and not re.search(r"url\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", html)
    for tag, facts in Elements(html).found:
        assert tag not in ("iframe", "object", "embed", "base", "form") or (tag == "form" and "action" not in facts)
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            address = facts.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, name, address)
    policy = next(f["content"] for t, f in Elements(html).found if f.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy and "script-src 'sha256-" in policy


def test_nothing_said_can_become_markup(tmp_path):
    scan, values = flat(modality=EVIL)
    scan = replace(scan, notes=(EVIL,), quantity=EVIL)
    clean = Elements(page(tmp_path, [explained(*flat(modality="OP"))], title="x", note="x"))
    m = explained(
        scan, values, classes=(EVIL, EVIL, "late"), method=EVIL, site=EVIL, model=EVIL, caveats=(EVIL,), cite=EVIL, target=f"logit({EVIL!r})",
        evidence=Evidence("quick", explained(scan, values).evidence.measurements, "void", (EVIL,)),
    )  # fmt: skip
    html = page(tmp_path, [m], title=EVIL, note=EVIL)
    seen = Elements(html)
    for tag in ("script", "img", "style"):
        assert sum(t == tag for t, _ in seen.found) == sum(t == tag for t, _ in clean.found)
    assert not any(name.startswith("on") for _, facts in seen.found for name in facts)
    assert html.count("</script>") == 2
    assert EVIL.replace("&amp;", "&amp;") in seen.text
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]


def test_identifiers_never_appear(tmp_path):
    secret = {"PatientName": "Doe^Zebedee", "PatientID": "ZX-99817", "StudyDate": "19720314"}
    scan, values = flat(phi=secret, path="/home/doe/zebedee.dcm", StudyDescription="Zebedee follow-up", modality="OP", sha256="ab" * 32)
    html = page(tmp_path, [explained(scan, values)])
    assert not any(s in html for s in (*secret.values(), "edebee", "/home/doe", "ab" * 32))
    assert "OP" in Elements(html).text


def test_same_maps_same_bytes(tmp_path):
    scan, values = head()
    first = page(tmp_path, [explained(scan, values)])
    assert first == page(tmp_path, [explained(*head())])
    later = page(tmp_path, [explained(scan, values, time="2027-01-02T03:04:05+00:00")])
    assert later != first
    assert later.replace("2027-01-02T03:04:05", "2026-11-21T10:14:32").replace("2027-01-02 03:04", "2026-11-21 10:14") == first


def unpacked(layer: drawing.Layer, shape: tuple[int, ...]) -> np.ndarray:
    raw = np.frombuffer(zlib.decompress(layer.data), np.uint8).astype(np.int64)
    half = raw.size // 2
    numbers = raw if layer.bits == 8 else raw[:half] + 256 * raw[half:]
    levels = 2 ** (layer.bits - 1) - 1
    share = (numbers - levels) / levels
    return ((np.sign(share) * share**2 if layer.bits == 8 else share) * layer.most).reshape(shape)


@pytest.mark.parametrize(("bits", "budget"), [(16, 10**6), (8, 2200)])
def test_maps_survive_packing(monkeypatch, bits, budget):
    monkeypatch.setattr(drawing, "BUDGET", budget)
    scan, _ = head()
    values = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    values[0, :3] = 0
    shown = drawing.pictures(scan, [explained(scan, values)])
    layer, truth = shown.layers[0], shown.layout.array(values[0].numpy())
    kept = unpacked(layer, truth.shape)
    assert layer.bits == bits and shown.factors == (1, 1, 1)
    assert (kept[truth == 0] == 0).all()
    assert np.abs(kept - truth).max() <= layer.most * (0.51 / 32767 if bits == 16 else 1.02 / 127)
    assert kept.flat[np.abs(truth).argmax()] == pytest.approx(truth.flat[np.abs(truth).argmax()], rel=1e-6)
    assert any(("65,535" if bits == 16 else "255 steps") in r for r in shown.remarks)


def test_what_is_too_large_is_reduced_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "BUDGET", 900)
    scan, _ = head()
    noise = 0.01 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    noise[(0, *FOR_AT)] = 5.0
    coarse = scan.grid.resize((4, 5, 3))
    maps = [explained(scan, noise), explained(scan, torch.ones(1, 4, 5, 3), coarse)]
    shown = drawing.pictures(scan, maps)
    assert max(shown.factors) > 1 and np.argmax(shown.factors) == 0  # the finest axis first
    place = shown.grid.world(shown.layers[0].peak)
    assert np.abs(np.array(scan.grid.index(place)) - FOR_AT).max() <= max(shown.factors) / 2
    assert "Reduced for display" in page(tmp_path, maps)
    inside = unpacked(shown.layers[1], shown.grid.shape)
    assert np.allclose(inside, 1, atol=1e-4)


def test_slabs_give_what_the_whole_gives():
    scan, _ = head(tilt=10)
    fine = Grid((30, 40, 30), scan.grid.coarsen((0.4,) * 3, (0.0,) * 3, (30, 40, 30)).affine, "mm")
    m = explained(scan, torch.randn(2, 30, 40, 30), fine)
    whole = m.on(scan.grid).relevance
    for factor in (1, 2, 3):
        parts = [m.on(g).relevance for g in drawing._slabs(scan.grid, factor, most=2 * factor * 140)]
        assert len(parts) > 1 and torch.allclose(torch.cat(parts), whole, atol=1e-5)


def orange(uri: str) -> tuple[float, float]:
    """Center of the orange, as shares of width and height, in a still picture."""
    rgb = np.asarray(Pil.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)
    rows, columns = np.nonzero(rgb[..., 0] - rgb[..., 2] > 60)
    return (columns.mean() + 0.5) / rgb.shape[1], (rows.mean() + 0.5) / rgb.shape[0]


ORDERS = [((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, True)), ((0, 1, 2), (True, True, False))]


@pytest.mark.parametrize(("order", "flip"), ORDERS)
@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_stills_show_the_peak_where_it_is_in_the_patient(order, flip, tilt):
    scan, values = head(tilt)
    scan, values = scan.permute(order, flip), Image(values, scan.grid).permute(order, flip).values
    shown = drawing.pictures(scan, [explained(scan, values)])
    x, y, z = (1 - (i + 0.5) / n for i, n in zip(FOR_AT, SHAPE, strict=True))  # from the right, the front, the top
    for (plane, bare, over), wanted in zip(shown.stills, ((x, y), (x, z), (y, z)), strict=True):
        assert orange(over) == pytest.approx(wanted, abs=0.02), plane.name
        with Pil.open(io.BytesIO(base64.b64decode(bare.split(",")[1]))) as p:
            assert p.width / p.height == pytest.approx(np.divide(*drawing.extent(plane, shown.grid)), rel=0.01)
    assert [p.edges for p in shown.layout.planes] == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    assert shown.grid.orientation == "LPS"
    assert any("Oblique" in r for r in shown.remarks) == (tilt > 0)


def test_without_known_sides_there_are_no_letters():
    scan, values = head(sided=False)
    shown = drawing.pictures(scan, [explained(scan, values)])
    assert all(p.edges == ("",) * 4 for p in shown.layout.planes)
    assert any("no letters" in r for r in shown.remarks)


def test_a_flat_nifti_is_turned_upright_and_a_mammogram_is_not():
    affine = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))  # rows toward right, columns toward front
    scan = Image(torch.rand(1, 6, 9), Grid((6, 9), affine, "mm"), facts={"sided": True})
    values = torch.zeros(1, 6, 9)
    values[0, 5, 8] = 1.0  # right, front
    shown = drawing.pictures(scan, [explained(scan, values)])
    assert shown.layout.planes[0].edges == ("R", "L", "A", "P")
    assert orange(shown.stills[0][2]) == pytest.approx((0.5 / 6, 0.5 / 9), abs=0.02)
    stored = drawing.pictures(replace(scan, facts={"sided": True, "modality": "MG"}), [explained(scan, values)])
    assert stored.layout.planes[0].edges == ("P", "A", "L", "R")
    assert orange(stored.stills[0][2]) == pytest.approx((8.5 / 9, 5.5 / 6), abs=0.02)


def test_colors_are_those_of_the_overlay():
    assert (picture.BLUE_ORANGE.toward, picture.BLUE_ORANGE.against, picture.STRENGTH) == (drawing.FOR, drawing.AGAINST, drawing.STRENGTH)


def test_refusals(tmp_path):
    scan, values = flat()
    m = explained(scan, values)
    other = explained(*flat(), model="other")
    moved = replace(other, scan=scan.with_values(scan.values + 1))
    far = Grid((8, 12), unit="mm")
    for maps, error in (
        ([], BadImage), ([m, moved], BadImage), ([replace(m, values=torch.zeros(5))], BadImage), ([3], BadParameter),
        ([replace(m, values=values * float("nan"))], BadImage), ([replace(m, grid=far)], BadGrid),
    ):  # fmt: skip
        with pytest.raises(error):
            write_report(tmp_path / "a.html", maps)
    (tmp_path / "scan.html").write_text("mine")
    for path in (tmp_path / "scan.html", tmp_path / "no" / "a.html", tmp_path):
        with pytest.raises(BadFile):
            write_report(path, [m])
    assert (tmp_path / "scan.html").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.html"]


def test_maps_of_several_networks_each_show_their_prediction(tmp_path):
    scan, values = flat()
    second = replace(explained(scan, values, model="Other net", target="logit('late') - logit('healthy')"), probabilities=(0.5, 0.3, 0.2))
    html = page(tmp_path, [explained(scan, values), second])
    assert "Other net" in html and "50.0 %" in html and "93.0 %" in html
    assert html.count('<span class="tag">explained</span>') == 3


def test_a_raster_with_axes_is_labelled_in_their_units_and_never_in_millimeters(tmp_path):
    axes = (Axis("frequency", "Hz", 2840.0, -100.0, "mel"), Axis("time", "s", 0.0, 0.1))
    scan = Image(torch.rand(1, 16, 30, generator=torch.Generator().manual_seed(0)), Grid((16, 30), axes=axes))
    values = torch.zeros(1, 16, 30)
    values[0, 4, 12] = 1.0
    page = write_report(tmp_path / "page.html", [explained(scan, values)]).read_text()
    shown = Elements(page).text
    peak = axes[0].say(4)
    assert f"{peak}, 1.2 s" in shown
    assert all(word in shown for word in ("8000 Hz", axes[0].say(15), "0 s", "2.9 s", "even steps on the mel scale"))
    assert " mm" not in shown
    assert '"axes":[{"name":"frequency"' in page
    assert picture.single(values[0].numpy(), values[0].numpy(), scan.grid, False, scan).edges == (
        "0 s",
        "2.9 s",
        "8000 Hz",
        axes[0].say(15),
    )
