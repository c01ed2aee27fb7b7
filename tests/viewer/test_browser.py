"""The page in a browser, as a reader uses it: a photograph and two volumes; console errors, requests elsewhere and wrong sides fail."""

import json
import re
import time
from urllib.parse import urlsplit

import pytest

import pellucid as pl

LONG = 90_000

# where the pixels lie that are brighter than nine tenths of the brightest, as shares of width and height
BRIGHTEST = """(n) => {
  const canvas = document.querySelectorAll("#stage .frame canvas:not(.ink)")[n];
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  let x = 0, y = 0, count = 0;
  for (let i = 0; i < width * height; i++) if (pixels[4 * i] > 230) { x += i % width; y += Math.floor(i / width); count++; }
  return [(x / count + 0.5) / width, (y / count + 0.5) / height, count];
}"""


@pytest.fixture
def opened(browser, viewer):
    """The page of the viewer; any message, error, or request to another host fails at the end."""
    trouble: list[str] = []
    context = browser.new_context(viewport={"width": 1500, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(LONG)

    def open_(place: str = ""):
        page = context.new_page()
        page.on("console", lambda m: trouble.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: trouble.append(str(e)))
        page.on("request", lambda r: trouble.append(r.url) if urlsplit(r.url).netloc not in ("", urlsplit(viewer.address).netloc) else None)
        page.goto(viewer.first)
        assert viewer.token not in page.url
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_
    context.close()
    assert [t for t in trouble if not any(w in t for w in ("GPU stall", "WebGL", "status of 400"))] == []


def until(page, true: str) -> None:
    """Playwright's own waiting runs eval in the page, which the page's policy forbids."""
    end = time.monotonic() + LONG / 1000
    while not page.evaluate(true):
        assert time.monotonic() < end, f"{true}: {page.inner_text('main')[:1500]}"
        page.wait_for_timeout(150)


def open_scan(page, *names, model="phantom:fundus_dme"):
    for name in names:
        page.locator(".entry", has_text=name).first.click()
    page.wait_for_selector("#stage canvas")
    page.select_option("#model", model)
    page.wait_for_selector("#run:not([disabled])")


def ask(page, method, **params):
    before = page.locator(".map").count()
    page.select_option("#method", method)
    page.select_option("#level", params.pop("level", "none"))
    if params:
        page.click("summary:has-text('Parameters')")
        for name, value in params.items():
            page.fill(f"#p-{name}", str(value))
    page.click("#run")
    until(page, f"document.querySelectorAll('.map').length > {before}")
    until(page, "!document.querySelector('.going')")


def download(page, name):
    with page.expect_download() as waiting:
        page.locator("#take a", has_text=re.compile(f"^{name}")).first.click()
    return waiting.value.path()


def test_a_photograph_from_opening_to_the_report(opened, viewer):
    page = opened()
    open_scan(page, "fundus", "image.png")
    page.select_option("#target", "DME")
    page.select_option("#against", "no DME")
    ask(page, "integrated_gradients", steps=8, level="quick")
    page.wait_for_selector("#verdict .badge")
    page.wait_for_selector("#evidence table.evidence")
    assert "logit('DME') - logit('no DME')" in page.inner_text("#runs")
    assert "cannot tell you" in page.inner_text("#verdict")
    ink = page.locator("#stage canvas.ink").last
    page.click("[data-tool=box]")
    ink.scroll_into_view_if_needed()
    box = ink.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.45 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.65 * box["height"])
    page.mouse.up()
    page.wait_for_selector("#numbers table")
    told = page.inner_text("#numbers")
    assert "chance" in told and "relevance mass" in told.lower()
    until(page, "document.querySelector('#mark').selectedOptions[0].textContent.includes(' samples')")
    size = int(re.search(r"region \d+, (\d+) samples", page.locator("#mark").evaluate("(e) => e.selectedOptions[0].textContent"))[1])
    assert abs(size - (0.2 * 128) ** 2) < 140
    page.reload()  # a refresh loses nothing: scan, map, mark and numbers stand in the address and on disk
    page.wait_for_selector("#numbers table")
    assert page.inner_text("#numbers") == told and page.locator(".map").count() >= 1
    page.fill("#step", "2")
    until(page, "document.querySelector('#way-told').textContent.includes('step 3 of 8')")
    page.wait_for_selector("#way .stage canvas")
    theirs = pl.explanation.load(_renamed(download(page, "NPZ"), "map.npz"))
    assert theirs.provenance.target == "logit('DME') - logit('no DME')" and theirs.evidence.level == "quick"
    assert download(page, "PNG").read_bytes().startswith(b"\x89PNG")
    assert b"<!doctype html>" in download(page, "Report").read_bytes()[:40]


def test_while_checks_run_the_page_says_so_and_numbers_praise_no_map_that_was_not_examined(opened):
    page = opened()
    open_scan(page, "fundus", "image.png")
    before = page.locator(".map").count()
    page.select_option("#method", "grad_cam")
    page.select_option("#level", "quick")
    page.click("#run")
    until(page, f"document.querySelectorAll('.map').length > {before} && document.querySelector('#verdict .badge')")
    seen = set()
    while found := page.evaluate(
        "document.querySelector('.going') && [document.querySelector('#verdict .badge').innerText, document.querySelector('#stage .panel:last-child .word').innerText, document.querySelector('main').innerText]"
    ):
        seen.add((found[0].lower().strip(), found[1].lower().strip()))
        assert "No checks were made" not in found[2] and "Nothing was checked" not in found[2]
        page.wait_for_timeout(50)
    until(page, "!document.querySelector('#verdict .badge').innerText.includes('eing checked')")
    word = page.inner_text("#verdict .badge").lower().strip()
    assert seen == {("being checked", "being checked")} and word in pl.report.words.VERDICTS
    until(page, f"document.querySelector('#stage .panel:last-child .word').innerText.toLowerCase() === '{word}'")
    ask(page, "saliency")
    until(page, "document.querySelector('#verdict .badge').innerText.toLowerCase().includes('not examined')")
    page.click("#around")
    page.wait_for_selector("#numbers table")
    told = page.inner_text("#numbers")
    assert "samples" in told and "(share)" in told and "said above" in told and page.locator("#numbers .badge.not-examined").count() == 1
    assert page.locator("#numbers .chip").count() > 5 and page.locator("#numbers .chip.pass").count() == 0
    assert page.evaluate(
        "document.querySelector('#numbers .scroller').scrollWidth <= document.querySelector('#numbers .scroller').clientWidth"
    )
    ids = page.eval_on_selector_all("[id]", "(all) => all.map((e) => e.id)")
    assert len(ids) == len(set(ids))


def _renamed(path, name):
    target = path.with_name(name)
    path.rename(target)
    return target


def test_maps_side_by_side_move_as_one_and_a_cancelled_run_says_so(opened):
    page = opened()
    open_scan(page, "fundus", "image.png")
    ask(page, "saliency")
    ask(page, "grad_cam")
    boxes = page.locator(".map input")
    for n in range(boxes.count()):
        boxes.nth(n).set_checked(n >= boxes.count() - 2)
    until(page, "document.querySelectorAll('#stage .panel').length === 3")
    page.locator("#stage canvas:not(.ink)").nth(1).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    lefts = page.eval_on_selector_all("#stage .hair.down", "(all) => all.map((h) => h.style.left)")
    assert len(lefts) == 3 and len(set(lefts)) == 1
    page.select_option("#method", "integrated_gradients")
    page.click("summary:has-text('Parameters')")
    page.fill("#p-steps", "30000")
    page.select_option("#p-rule", "right")
    page.uncheck("#p-keep")
    page.click("#run")
    page.click(".going button")
    until(page, "document.querySelector('#runs').innerText.includes('the network is as it was')")
    page.fill("#p-steps", "0")
    page.wait_for_selector("#price.warning")
    assert "whole number" in page.inner_text("#price")


@pytest.mark.parametrize(
    ("entry", "model"), [(("brain.nii.gz",), "phantom:brain_atrophy"), (("series", "48 DICOM files"), "brain, scaled")]
)
def test_a_volume_lies_as_its_letters_say(opened, viewer, entry, model):
    """The bright block lies at the patient's left, in front and above: on the side of the picture where L, A and S stand."""
    page = opened()
    open_scan(page, *entry, model=model)
    ask(page, "grad_cam")
    page.uncheck("#overlay")
    page.uncheck("#cross")
    page.uncheck("#smooth")
    page.evaluate("document.querySelector('#center').value")
    where = _block(page)
    for n, (axis_x, axis_y) in enumerate((("L", "A"), ("L", "S"), ("A", "S"))):
        figure = page.locator("#stage .panel").nth(n)
        edges = {s: figure.locator(f".edge.{s}").inner_text() for s in ("left", "right", "top", "bottom")}
        x, y, count = page.evaluate(BRIGHTEST, n)
        assert count > 4, where
        assert edges["right" if x > 0.5 else "left"] == axis_x and edges["bottom" if y > 0.5 else "top"] == axis_y, (n, x, y, edges)
    slider = page.locator("#stage input[type=range]").first
    before = page.locator("#stage .where").first.inner_text()
    slider.focus()
    page.keyboard.press("ArrowRight")
    until(page, f"document.querySelector('#stage .where').textContent !== {json.dumps(before)}")
    page.click("#around")
    page.wait_for_selector("#numbers table")
    with pl_read(page, viewer) as mask:
        assert float(mask.values.sum()) > 100


def _block(page):
    """Slices through the block, and a window in which nothing else is white."""
    return page.evaluate(
        """async () => {
          const raw = document.querySelector('#stage canvas');
          const { scene } = window.pellucid;
          const c = scene.channels[0];
          let sum = [0, 0, 0], n = 0;
          const top = Math.max(...c.samples) * 0.95;
          for (let i = 0; i < c.samples.length; i++) if (c.samples[i] > top) {
            n++;
            let rest = i;
            scene.strides.forEach((s, a) => { sum[a] += Math.floor(rest / s); rest %= s; });
          }
          const at = sum.map((s) => Math.round(s / n));
          const high = c.low + c.step * top;
          scene.change({ at, windows: [[high * 0.6, high * 1.02]] });
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          return at;
        }"""
    )


class pl_read:
    """The mask that the page offers to take along, as a second reader sees it."""

    def __init__(self, page, viewer):
        self.page, self.viewer = page, viewer

    def __enter__(self):
        href = self.page.locator("#marks a").first.get_attribute("href")
        path = self.viewer.work / "taken.nii.gz"
        path.write_bytes(self.viewer.api.get(href).content)
        return pl.read(path)

    def __exit__(self, *_):
        return False


def test_the_volume_in_three_dimensions(opened):
    page = opened()
    open_scan(page, "brain.nii.gz", model="phantom:brain_atrophy")
    ask(page, "saliency")
    if page.locator("#in-3d").is_hidden():
        pytest.skip("this browser has no WebGL 2")
    page.click("#in-3d")
    page.wait_for_selector("#volume[data-ready]")
    page.select_option("#palette", "purple and green")
    page.wait_for_timeout(300)
    shot = page.locator("#volume").screenshot()
    assert len(shot) > 8000  # not one color


def test_the_page_on_a_telephone_and_by_keyboard(opened):
    page = opened()
    page.set_viewport_size({"width": 390, "height": 844})
    open_scan(page, "fundus", "image.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ask(page, "saliency")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    reached = set()
    wanted = {"model", "target", "method", "run"}
    for _ in range(200):  # once around the page, from wherever the focus is
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if wanted <= reached:
            break
    assert wanted <= reached
    unnamed = page.eval_on_selector_all(
        "main input, main select, main button",
        "(all) => all.filter((e) => e.offsetParent && !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent.trim()).map((e) => e.outerHTML)",
    )
    assert unnamed == []


def test_trouble_is_told_on_the_page(opened):
    page = opened()
    page.locator(".entry", has_text="broken.png").click()
    page.wait_for_selector("#trouble:not([hidden])")
    assert "broken.png" in page.inner_text("#trouble") and page.locator(".entry").count() > 2
