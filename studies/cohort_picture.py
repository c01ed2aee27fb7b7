"""The picture of a cohort page: twelve phantom eyes, explained and examined; three of them by a network that has learned nothing. Writes docs/figures/report_cohort.png."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pellucid as pl
from pellucid import phantoms
from pellucid.loading import load_model
from pellucid.phantoms import nets
from pellucid.report import Patient, write_cohort

ROOT = Path(__file__).parents[1]
METHODS = ("integrated_gradients", "blur_ig", "grad_cam")
CHROMIUM = "/usr/bin/chromium"


def patients():
    """Every second eye with edema; the last three are asked of untrained weights."""
    net = load_model("phantom:fundus_dme")
    blank = pl.Model(nets.build("fundus_dme", 9), classes=net.classes)
    for n in range(12):
        case = phantoms.fundus(seed=60 + n, dme=n % 2 == 0)
        why = pl.explain(net if n < 9 else blank, case.image, "DME", method=METHODS[n % 3], evidence="quick")
        yield Patient([why], truth="DME" if n % 2 == 0 else "no DME")


def main():
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page = write_cohort(Path(folder) / "cohort.html", patients(), title="Twelve phantom fundus photographs")
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = browser.new_context(viewport={"width": 1100, "height": 860}).new_page()
        window.goto(page.as_uri())
        window.wait_for_timeout(500)
        window.screenshot(path=ROOT / "docs" / "figures" / "report_cohort.png")
        browser.close()


if __name__ == "__main__":
    main()
