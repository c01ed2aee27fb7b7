"""Reports in a real browser, as a stranger uses them: the main job, orientation in the patient, linked views, motion, 3D, phone, print.

Skipped by name where playwright or Chromium is missing.
"""

import numpy as np
import pytest
import torch
from tests.report.cases import CHECKED, CLASSES, explained, flat, head

from pellucid.comparison import Comparison
from pellucid.evidence.predictions import Temperature
from pellucid.explanation import Evidence
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.report import Concept, Patient, Similar, Step, write_cohort, write_comparison, write_report

PATIENCE = 90_000  # milliseconds; a busy machine draws slowly

# the middle of what is white (bright, no color) or orange on a panel's canvas, as shares of its width and height, and its share of all pixels
FOUND = """([n, orange]) => {
  const canvas = document.querySelectorAll(".stage canvas")[n];
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const p = copy.getImageData(0, 0, width, height).data;
  let x = 0, y = 0, count = 0;
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = [p[4 * i], p[4 * i + 1], p[4 * i + 2]];
    if (orange ? r - b > 60 : Math.min(r, g, b) > 200) { x += i % width; y += Math.floor(i / width); count++; }
  }
  return [(x / count + 0.5) / width, (y / count + 0.5) / height, count / (width * height)];
}"""


@pytest.fixture
def opened(browser):
    """Open a page from disk without a network; at the end any message, error, dialog or request beyond the file fails the test."""
    trouble: list[str] = []
    contexts = []

    def open_(path, **more):
        context = browser.new_context(offline=True, **{"viewport": {"width": 1300, "height": 900}, **more})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: trouble.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: trouble.append(str(e)))
        page.on("dialog", lambda d: (trouble.append("dialog"), d.dismiss()))
        page.on("request", lambda r: None if r.url.startswith(("data:", "blob:")) or r.url == path.as_uri() else trouble.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert trouble == []


def settle(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


# ---------------------------------------------------------------------------------------------------- orientation
def marked(directions: np.ndarray) -> Image:
    """A block of 24 cubed voxels of 2 mm whose axes run along the columns of ``directions`` (RAS); bright marks at the patient's left (+),
    front and top: a small cube 14 mm off the middle of the scan on each side, told apart by their size."""
    n, spacing = 24, 2.0
    matrix = np.eye(4)
    matrix[:3, :3] = directions * spacing
    matrix[:3, 3] = -matrix[:3, :3] @ np.full(3, (n - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1)
    world = index @ matrix[:3, :3].T + matrix[:3, 3]
    values = np.full((n, n, n), 0.2, np.float32)
    values[np.abs(world - np.array([-14.0, 10.0, 12.0])).max(-1) < 4.2] = 1.0  # left, front, high: in RAS -x, +y, +z
    return Image(torch.from_numpy(values)[None], Grid((n,) * 3, as_affine(matrix), "mm"), facts={"sided": True, "window": (0.5, 1.0)})


def turned(degrees: float) -> np.ndarray:
    a, b = np.radians(degrees), np.radians(0.6 * degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


@pytest.mark.parametrize(
    "directions",
    [np.eye(3), np.diag([-1.0, -1.0, 1.0]), np.eye(3)[:, [2, 0, 1]] * [1, -1, 1], turned(14.0) @ np.diag([-1.0, -1.0, 1.0])],
    ids=["RAS", "LPS", "sagittal", "oblique"],
)
def test_a_marker_at_the_patients_left_is_seen_on_the_side_marked_l(opened, tmp_path, directions):
    scan = marked(directions)
    values = torch.where(scan.values > 0.9, 1.0, 0.0)
    page = opened(write_report(tmp_path / "a.html", [explained(scan, values)]))
    page.uncheck("#smooth")
    page.uncheck("#overlay")
    settle(page)
    middle = {"L": -14.0, "A": 10.0, "S": 12.0}
    for plane in range(3):
        figure = page.locator(f".stage .panel >> nth={plane}")
        sides = {name: figure.locator(f".edge.{name}").inner_text() for name in ("left", "right", "top", "bottom")}
        x, y, share = page.evaluate(FOUND, [plane, False])
        assert share > 0
        for place, near, far in ((x, sides["left"], sides["right"]), (y, sides["top"], sides["bottom"])):
            seen = near if place < 0.5 else far
            assert seen in middle, (plane, sides, x, y)  # toward L, A or S, never toward R, P or I
        assert sides["bottom"] == "I" or plane == 0
        assert page.locator(f".stage canvas >> nth={plane}").get_attribute("aria-label").find(f"{sides['left']} on the left") > 0
    page.check("#overlay")
    settle(page)
    for plane in range(3):
        bare = page.evaluate(FOUND, [plane, True])
        assert bare[2] > 0  # the map lies where the marker is


def test_without_known_sides_no_letters_are_drawn(opened, tmp_path):
    scan, values = head(sided=False)
    page = opened(write_report(tmp_path / "a.html", [explained(scan, values)]))
    assert page.locator(".edge").count() == 0


# ---------------------------------------------------------------------------------------------------- the main job
def full_report(path):
    scan, values = flat()
    grid = scan.grid
    trace = {"alphas": [0.1, 0.5, 0.9], "scores": [0.1, 0.4, 1.4], "probabilities": [[0.8, 0.1, 0.1], [0.4, 0.1, 0.5], [0.1, 0.0, 0.9]]}
    corners = [[r, c] for r in (0, 4) for c in (0, 4, 8)]
    windows = {"corners": corners, "edges": [4, 4], "scores": [1.4, 1.3, 0.2, 1.5, 1.5, 1.4], "every": 1}
    labels = (torch.arange(8)[:, None] // 4 * 2 + torch.arange(12)[None] // 6).long()
    lime = {
        "samples": torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0]]),
        "segments": labels,
        "scores": [1.5, 0.3, 1.1],
        "times": [1, 1, 1],
    }
    blur = {
        "sigmas": [0.2, 1.0, 3.0],
        "edges": [0.0, 0.5, 2.0, 4.0],
        "scores": [1.4, 0.9, 0.2],
        "probabilities": trace["probabilities"][::-1],
        "unit": "px",
    }
    maps = [
        explained(scan, values, method="integrated_gradients(steps=3)"), explained(scan, values, method="occlusion(window='4px')"),
        explained(scan, values, method="lime(samples=3)"), explained(scan, values, method="blur_ig(steps=3)"),
        explained(scan, torch.ones(1, 2, 3), grid.resize((2, 3)), method="grad_cam()", evidence=Evidence()),
    ]  # fmt: skip
    for m, t in zip(maps, (trace, windows, lime, blur), strict=False):
        object.__setattr__(m, "trace", t)
    others = [scan.with_values(scan.values * k) for k in (0.4, 0.7)]
    return write_report(
        path, maps, title="All there is", temperature=Temperature((0.5,) * 3, (0.0,) * 3, "temperature", True, CLASSES, 40, 0.5, 0.4),
        similar=[Similar(others[0], "late", 0.9, map=maps[0]), Similar(others[1], "healthy", 0.4)],
        concepts=[Concept("Bright spots", "Bright spots near the middle raise the score.", 1.2), Concept("Dark rim", "A dark rim lowers it.", -0.4)],
        counterfactual=[Step(scan, 0.93, "as it is"), Step(others[0], 0.2, "darker")],
    )  # fmt: skip


def test_a_stranger_finds_answers_levels_and_motion(opened, tmp_path):
    page = opened(full_report(tmp_path / "all.html"))
    page.wait_for_selector("html[data-whole]", state="attached")
    first = page.inner_text(".short").replace("\u00a0", " ")
    for said in ("What does the network say?", "How sure is it?", "Where did it look?", "Can that be trusted?", "Not for diagnosis"):
        assert said in first
    assert "late: 77.8 %" in first and "40 other cases" in first  # calibrated: sqrt(0.9299) over the sum of roots
    box = page.locator(".short").bounding_box()
    assert box["y"] + box["height"] < 900  # on the first screen
    text = page.inner_text("main")
    for said in (
        "Cases like this one",
        "90 % alike",
        "Bright spots",
        "What would change its mind",
        "20.0 %",
        "What this map cannot tell you",
    ):
        assert said in text
    film = "() => [...document.querySelectorAll('.process:not(article[hidden] *) canvas')].map((c) => c.toDataURL())"
    before = page.evaluate(film)
    assert len(before) == 1
    for n, name in enumerate(("path", "windows", "segments", "blur")):
        page.click(f"[data-show='{n}']")
        page.wait_for_function(f"() => !document.querySelector('article[data-map=\"{n}\"]').hidden")
        article = page.locator(f"#moving article[data-map='{n}']")
        slider, said = article.locator("input[type=range]"), article.locator("output")
        slider.fill("0")
        one, told = page.evaluate(film), said.inner_text()
        slider.fill(slider.get_attribute("max"))
        assert page.evaluate(film) != one, name
        assert said.inner_text() != told and article.locator("svg.curve").count() == 1
    article.locator("button").click()  # plays from where it stands, to the end
    assert article.locator("button").inner_text() in ("Pause", "Play")
    page.click("[data-show='4']")
    page.wait_for_function("() => document.getElementById('moving').hidden")  # Grad-CAM leaves no way behind


def test_less_motion_is_respected(opened, tmp_path):
    page = opened(full_report(tmp_path / "all.html"), reduced_motion="reduce")
    page.wait_for_selector("html[data-whole]", state="attached")
    assert page.locator(".player button:visible").count() == 0 and page.locator(".player input:visible").count() == 1


def test_zoom_pan_slice_threshold_and_opacity_are_one_for_all(opened, tmp_path):
    scan, values = head()
    second = torch.zeros_like(values)
    second[values > 0] = 3.0
    page = opened(write_report(tmp_path / "a.html", [explained(scan, values), explained(scan, second, method="grad_cam()")]))
    page.uncheck("#smooth")
    page.uncheck("#cross")
    page.click("[data-show=all]")
    page.wait_for_function("() => document.querySelectorAll('.stage canvas').length === 2")
    page.select_option("#plane", "three")
    page.wait_for_function("() => document.querySelectorAll('.stage canvas').length === 6")
    settle(page)
    small = [page.evaluate(FOUND, [n, True]) for n in range(6)]
    assert all(a == pytest.approx(b, abs=0.02) for a, b in zip(small[:3], small[3:], strict=True))
    page.focus(".stage canvas >> nth=0")
    page.keyboard.press("+")
    page.keyboard.press("+")
    settle(page)
    large = [page.evaluate(FOUND, [n, True]) for n in range(6)]
    assert all(b[2] > 1.4 * a[2] for a, b in zip(small, large, strict=True))  # every panel zoomed, about the crosshair
    assert page.inner_text("#o-zoom") == "1.6 ×"
    box = page.locator(".stage canvas >> nth=0").bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 25, box["y"] + 40)
    page.mouse.up()
    page.keyboard.up("Shift")
    settle(page)
    moved = [page.evaluate(FOUND, [n, True]) for n in range(6)]
    assert all(m[0] < b[0] - 0.01 for m, b in zip(moved[::3], large[::3], strict=True))  # dragged to the left, in both maps
    page.locator(".stage input[type=range] >> nth=0").fill("2")
    settle(page)
    assert page.evaluate(FOUND, [0, True])[2] == 0 == page.evaluate(FOUND, [3, True])[2]
    page.click("#defaults")
    settle(page)
    page.fill("#threshold", "100")
    page.fill("#opacity", "0")
    settle(page)
    assert all(page.evaluate(FOUND, [n, True])[2] == 0 for n in range(6))


def test_the_keyboard_alone_reaches_everything(opened, tmp_path):
    scan, values = flat()
    page = opened(write_report(tmp_path / "a.html", [explained(scan, values), explained(scan, -values, method="grad_cam()")]))
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("() => { const e = document.activeElement; return e.id || e.dataset.show || e.tagName; }"))
    assert seen[0] == "A" and {"theme", "0", "1", "all", "CANVAS", "opacity", "threshold", "zoom", "overlay", "to-peak", "defaults"} <= set(
        seen
    )
    page.focus("[data-show='1']")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('[data-show=\"1\"]').getAttribute('aria-pressed') === 'true'")
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"


CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const lum = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length && (c.length < 4 || c[3] > 0.9)) return c; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll("main *, header *, footer *")) {
    if (!e.offsetParent || e.closest(".stage, .unseen, svg") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [lum(parse(getComputedStyle(e).color)), lum(ground(e))].sort((p, q) => q - p);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${e.tagName}.${e.className}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_contrast_and_names(opened, tmp_path, scheme):
    page = opened(full_report(tmp_path / "all.html"), viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CONTRAST) == []
    nameless = "() => [...document.querySelectorAll('button, input, select, a, [role=img], [role=region]')].filter((e) => e.offsetParent && !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length || e.closest('label'))).map((e) => e.outerHTML)"
    assert page.evaluate(nameless) == []
    assert page.evaluate("() => [...document.images].every((i) => i.alt)")


def test_print_shows_the_picture_and_no_controls(opened, tmp_path):
    page = opened(full_report(tmp_path / "all.html"), color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("#controls:visible, .player:visible, #theme:visible").count() == 0
    assert page.locator(".stage canvas:visible").count() == 2
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) == []


def three_verdicts(path):
    """A volume with three maps: supported, not supported with its peak elsewhere, not examined."""
    scan, values = head()
    given = (
        ("integrated_gradients()", values, "supported"),
        ("grad_cam()", -values.flip(1), "not supported"),
        ("occlusion()", values, None),
    )
    maps = [explained(scan, v, method=m, evidence=Evidence("quick", CHECKED.measurements, w, ("Because.",))) for m, v, w in given]
    return write_report(path, maps)


BADGES = "() => [...document.querySelectorAll('.short .answers:not([hidden]) .badge > span')].map((e) => e.textContent)"
ON_PICTURES = "() => [...document.querySelectorAll('.stage .panel')].map((e) => e.querySelector('.word').textContent).filter(Boolean)"
ARTICLES = "() => [...document.querySelectorAll('.trust article:not([hidden]) .badge > span')].map((e) => e.textContent)"


def test_the_verdict_told_is_that_of_the_map_shown(opened, tmp_path):
    page = opened(three_verdicts(tmp_path / "a.html"))
    for which, verdict in (("0", "supported"), ("1", "not supported"), ("2", "not examined"), ("1", "not supported")):
        page.click(f"[data-show='{which}']")
        page.wait_for_function(f"() => !document.querySelector('[data-answers=\"{which}\"]').hidden")
        assert page.evaluate(BADGES) == page.evaluate(ARTICLES) == [verdict]
        assert page.evaluate(ON_PICTURES) == [verdict] * 3
        assert ("checks agree" in page.inner_text(".short")) == (verdict == "supported")
        assert verdict in page.locator(".stage canvas >> nth=0").get_attribute("aria-label")
        assert verdict in page.inner_text(f"[data-show='{which}']")  # the tab's own name, for ears too
        here = page.inner_text("#readout")
        assert "largest value here" in here if which != "1" else "largest value −2 at" in here  # the crosshair stayed where it was
    page.click("[data-show='all']")
    page.wait_for_function("() => !document.querySelector('[data-answers=all]').hidden")
    assert page.evaluate(BADGES) == ["not supported", "not examined", "supported"]  # the worst first
    assert sorted(page.evaluate(ON_PICTURES)) == ["not examined", "not supported", "supported"]
    assert "Do not rely on: Grad-CAM" in page.inner_text(".short")


def test_the_page_that_is_printed_has_the_verdict_beside_the_picture(opened, tmp_path):
    pdf = pytest.importorskip("pypdfium2")
    page = opened(three_verdicts(tmp_path / "a.html"))
    page.click("[data-show='1']")
    page.wait_for_function("() => !document.querySelector('[data-answers=\"1\"]').hidden")
    page.pdf(path=tmp_path / "a.pdf", format="A4")
    sheets = [p.get_textpage().get_text_range() for p in pdf.PdfDocument(tmp_path / "a.pdf")]
    assert sheets[0].lower().count("not supported") >= 5 and "Sagittal" in sheets[0]  # first lines, tab, and each of the three planes
    assert "checks agree" not in " ".join(sheets)
    assert len(sheets) <= 3
    full = opened(full_report(tmp_path / "all.html"))
    full.pdf(path=tmp_path / "all.pdf", format="A4")
    assert len(pdf.PdfDocument(tmp_path / "all.pdf")) <= 5


# ---------------------------------------------------------------------------------------------------- 3D, comparison, cohort
def test_the_3d_view_draws_and_its_crosshair_is_the_pages(opened, tmp_path):
    scan = marked(np.diag([-1.0, -1.0, 1.0]))
    page = opened(write_report(tmp_path / "a.html", [explained(scan, torch.where(scan.values > 0.9, 1.0, 0.0))]))
    if page.locator("#in-3d:visible").count() == 0:
        pytest.skip("this chromium has no WebGL 2")
    page.click("#in-3d")
    page.wait_for_selector("#solid[data-ready]", state="attached")
    assert page.inner_text("#solid-state") == ""
    assert page.locator("#solid-canvas").bounding_box()["height"] > 300
    before, drawn = page.inner_text("#readout"), page.locator("#solid-canvas").screenshot()
    assert len(drawn) > 3000  # an empty canvas packs to far less
    page.focus(".stage canvas >> nth=0")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    settle(page)
    moved = page.inner_text("#readout")
    assert moved != before and page.locator("#solid-canvas").screenshot() != drawn  # the 3D view follows the planes
    box = page.locator("#solid-canvas").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.35 * box["height"])
    page.wait_for_function("(text) => document.getElementById('readout').innerText !== text", arg=moved)  # and they follow it


def test_a_comparison_shows_all_maps_and_how_alike_they_are(opened, tmp_path):
    scan, values = flat()
    maps = (explained(scan, values), explained(scan, 2 * values, method="grad_cam()"), explained(scan, -values, method="occlusion()"))
    page = opened(write_comparison(tmp_path / "c.html", Comparison(maps, ("first", "twice", "turned"), scan)))
    assert page.locator(".stage canvas").count() == 4
    assert "most alike are first and twice (1)" in page.inner_text("#h-alike + p")
    cells = page.locator(".alike tbody td").all_inner_texts()
    assert cells[:3] == ["1.00", "1.00", "−1.00"]
    assert page.inner_text(".panel >> nth=2 >> .what").startswith("twice")


def test_a_cohort_is_sorted_and_filtered(opened, tmp_path):
    scan, values = flat()
    cases = []
    for k, verdict in enumerate(("supported", "not supported", "supported", None)):
        other = scan.with_values(scan.values * (1 - k / 10))
        m = explained(other, values, evidence=Evidence("quick", CHECKED.measurements, verdict, ("Because.",)))
        object.__setattr__(m, "probabilities", (0.1 * k, 0.0, 1 - 0.1 * k))
        cases.append(Patient([m], truth="late", name=f"case {k}", report=f"{k}/report.html"))
    page = opened(write_cohort(tmp_path / "c.html", cases))
    names = "() => [...document.querySelectorAll('#cases tbody tr:not([hidden]) td:nth-child(2)')].map((c) => c.textContent.trim())"
    page.click("th[data-key=p] button")
    assert page.evaluate(names) == ["case 3", "case 2", "case 1", "case 0"]
    page.click("th[data-key=p] button")
    assert page.evaluate(names)[0] == "case 0" and page.get_attribute("th[data-key=p]", "aria-sort") == "descending"
    page.click("[data-verdict=supported]")
    assert page.evaluate(names) == ["case 0", "case 2"] and page.inner_text("#shown") == "2 of 4 shown"
    page.fill("#find", "case 2")
    assert page.evaluate(names) == ["case 2"]
    assert page.get_attribute("#cases tbody tr:not([hidden]) a", "href") == "2/report.html"
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
