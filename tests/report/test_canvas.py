"""The page in a browser: silent console, no requests, and pixels that lie where the voxels are. Skipped without Chromium."""

from dataclasses import replace

import pytest
import torch
from tests.report.cases import FOR_AT, SHAPE, explained, flat, head
from tests.report.test_first_lines import PLACED, placed
from tests.report.test_page import EVIL, ORDERS

from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.report import pictures, scripts, words, write_report

ORANGE = """(n) => {
  const canvas = document.querySelectorAll(".stage canvas")[n];
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  let x = 0, y = 0, count = 0;
  for (let i = 0; i < width * height; i++) if (pixels[4 * i] - pixels[4 * i + 2] > 60) { x += i % width; y += Math.floor(i / width); count++; }
  return [(x / count + 0.5) / width, (y / count + 0.5) / height, count / (width * height)];
}"""


@pytest.fixture
def opened(browser, tmp_path):
    """Write a report, open it from disk without a network, and fail at the end on any message, error, dialog or request."""
    trouble: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})

    def open_(maps):
        path = write_report(tmp_path / "report.html", maps)
        page = context.new_page()
        page.on("console", lambda m: trouble.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: trouble.append(str(e)))
        page.on("dialog", lambda d: (trouble.append("dialog"), d.dismiss()))
        page.on("request", lambda r: None if r.url.startswith("data:") or r.url == path.as_uri() else trouble.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=90_000)
        page.uncheck("#smooth")
        return settle(page)

    yield open_
    context.close()
    assert trouble == []


def settle(page):
    """Two frames later everything asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def test_volume_peak_lies_where_it_is_in_the_patient(opened):
    x, y, z = (1 - (i + 0.5) / n for i, n in zip(FOR_AT, SHAPE, strict=True))
    scan, values = head()
    for order, flip in ORDERS[1:3]:
        turned = scan.permute(order, flip)
        page = opened([explained(turned, Image(values, scan.grid).permute(order, flip).values)])
        for n, wanted in enumerate(((x, y), (x, z), (y, z))):
            assert page.evaluate(ORANGE, n)[:2] == pytest.approx(wanted, abs=0.01), (order, n)
        stored = [FOR_AT[a] if not f else SHAPE[a] - 1 - FOR_AT[a] for a, f in zip(order, flip, strict=True)]
        readout = page.inner_text("#readout")
        assert (
            ", ".join(map(str, stored)) in readout
            and "2.5 mm from the scan’s edge R, 3.8 mm from A, 6.3 mm from S; RAS coordinates x 3.0, y 6.5, z 5.5 mm" in readout
            and "+2" in readout
        )
        assert page.inner_text(".panel >> nth=0 >> .edge.left") == "R"
        page.close()


def test_the_script_tells_places_as_the_words_do(browser):
    page = browser.new_page()
    page.add_script_tag(content=scripts.seam() + "\nwindow.Scene = Scene;")
    flat_mm = Image(torch.zeros(1, 5, 6), Grid.spaced((5, 6), (0.5, 1.5)))
    scans = [placed(*case)[0] for case in PLACED] + [head(sided=False)[0], flat_mm]
    for scan in scans:
        shown = pictures.pictures(scan, [explained(scan, torch.ones_like(scan.values))])
        places = [
            [0] * scan.grid.ndim,
            [n - 1 for n in shown.grid.shape],
            [n // 2 for n in shown.grid.shape],
            [(n - 1) // 2 for n in shown.grid.shape],
        ]
        told = page.evaluate(
            "([facts, places]) => places.map((at) => new Scene(facts).place(at))", [pictures.for_script(shown, scan), places]
        )
        assert told == [words.position(shown, at) for at in places]
    page.close()


def test_scrolling_moves_one_axis_and_keys_follow_the_picture(opened):
    scan, values = head()
    page = opened([explained(scan, values)])
    before = page.inner_text("#readout")
    page.hover(".stage canvas >> nth=0")
    page.mouse.wheel(0, 40)
    settle(page)
    page.mouse.move(5, 5)
    assert "slice 9 of 10" in page.inner_text(".panel >> nth=0") and page.inner_text("#readout") != before
    assert page.evaluate(ORANGE, 0)[2] == 0  # the peak lies in another slice now
    page.focus(".stage canvas >> nth=1")
    page.keyboard.press("ArrowDown")  # toward the feet: back to the slice of the peak
    settle(page)
    assert "slice 8 of 10" in page.inner_text(".panel >> nth=0")
    assert page.evaluate(ORANGE, 0)[2] > 0
    page.keyboard.press("PageUp")
    settle(page)
    page.click("#to-peak")
    settle(page)
    assert page.evaluate(ORANGE, 1)[2] > 0


def test_click_reads_the_sample_under_the_pointer_and_controls_work(opened):
    scan, values = flat()
    page = opened([explained(scan, values), explained(scan, torch.ones(1, 2, 3), scan.grid.resize((2, 3)), method="grad_cam()")])
    assert page.evaluate(ORANGE, 1)[:2] == pytest.approx((9.5 / 12, 2.5 / 8), abs=0.01)
    box = page.locator(".stage canvas >> nth=1").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 1.5 / 12, box["y"] + box["height"] * 6.5 / 8)
    settle(page)
    assert "6, 1" in page.inner_text("#readout") and "−0.5" in page.inner_text("#readout")
    page.uncheck("#overlay")
    settle(page)
    assert page.evaluate("() => document.querySelectorAll('.stage canvas').length") == 2
    page.check("#overlay")
    page.fill("#opacity", "0")
    settle(page)
    assert page.evaluate(ORANGE, 1)[2] == 0
    page.click("#defaults")
    settle(page)
    assert page.evaluate(ORANGE, 1)[2] > 0
    page.click("[data-show=all]")
    page.wait_for_function("() => document.querySelectorAll('.stage canvas').length === 3")
    page.click("[data-show='1']")
    page.wait_for_function("() => document.querySelector('article[data-map=\"0\"]').hidden")
    assert "+1" in page.inner_text("#readout")


def test_window_channel_and_hostile_names_raise_nothing(opened):
    scan, values = head()
    four = Image(
        torch.cat([scan.values * k for k in (1, 2, 3, 4)]),
        scan.grid,
        "HU",
        ("T1", "T2", "FLAIR", EVIL),
        facts={"sided": True, "window": (0.5, 1.0)},
    )
    m = replace(explained(four, values, classes=(EVIL, EVIL, "late"), method=EVIL, target=f"logit({EVIL!r})"))
    page = opened([m])
    page.select_option("#channel", "3")
    page.wait_for_function("() => document.getElementById('readout').textContent.includes('1.2 HU')")
    page.select_option("#preset", "1")
    settle(page)
    assert page.inner_text("#o-center") == "40" and page.inner_text("#o-width") == "80"
    assert EVIL in page.inner_text("#readout")
    page.emulate_media(color_scheme="dark", media="print")
    page.set_viewport_size({"width": 380, "height": 800})
    settle(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 380


def test_without_scripts_the_main_facts_stand(browser, tmp_path):
    scan, values = head()
    path = write_report(tmp_path / "report.html", [explained(scan, values)])
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator(".stage img:visible").count() == 3
    text = page.inner_text("main")
    assert "93.0 %" in text and "questionable" in text.lower() and "Deletion stays open." in text
    assert page.locator("#controls:visible").count() == 0
    context.close()
