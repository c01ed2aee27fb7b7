"""Pages that explain one phantom in four ways: probabilities, maps, real cases like it with their labels, concepts in words; docs/figures/four_*.webp.

A concept is a set of phantoms with one finding, mark or device; random images are phantoms without any. The images that are asked about, the cases
that are compared and the concepts are of different patients.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image as Picture

import pellucid as pl
from pellucid import phantoms
from pellucid.concepts import ConceptBank, tcav
from pellucid.exemplars import Weighted, build_index, similar
from pellucid.loading import load_model
from pellucid.report import concepts_of, similar_of, write_report
from pellucid.target import read_target

ROOT = Path(__file__).parents[1]
SITE = "features.2"
KINDS = {
    "fundus": {
        "net": "fundus_dme", "class": "DME", "score": "logit('DME') - logit('no DME')", "draw": phantoms.fundus, "case": {"seed": 7, "dme": True},
        "concepts": {"yellow spots near the fovea": {"dme": True}, "hemorrhages": {"stage": 3}, "drusen": {"distractor": True}},
    },
    "chest": {
        "net": "chest", "class": "cardiomegaly", "score": "cardiomegaly", "draw": phantoms.chest, "case": {"seed": 11, "cardiomegaly": True},
        "concepts": {"wide heart": {"cardiomegaly": True}, "fluid": {"effusion": True}, "electrodes": {"distractor": True}},
    },
}  # fmt: skip


def label(case):
    """What is known of a phantom, in the words of its network's classes."""
    if "dme" in case.labels:
        return "DME" if case.labels["dme"] else "no DME"
    return ", ".join(k for k, v in case.labels.items() if v) or "no finding"


def bank(kind, each, sets):
    """``each`` phantoms of a concept, and random ones for so many sets."""
    draw = kind["draw"]
    shown = {}
    for n, (name, switches) in enumerate(kind["concepts"].items()):
        shown[name] = [draw(seed=10_000 * (n + 1) + i, **switches).image for i in range(each)]
    return ConceptBank.of(shown, random=[draw(seed=90_000 + i).image for i in range(each * sets)])


def made(name, path, *, known=60, each=8, sets=39, asked=20, steps=32, evidence="quick"):
    """Write the page of one phantom; gives back what was found: the map, the cases, the concepts."""
    kind = KINDS[name]
    net, scan = load_model(f"phantom:{kind['net']}"), kind["draw"](**kind["case"]).image
    target = read_target(kind["class"])
    score = kind["score"] if kind["score"] in net.classes else read_target(kind["score"])
    cases = list(phantoms.cases(kind["net"], known, seed=31))
    scans = [c.image for c in cases]
    who = [f"patient {i}" for i in range(known)]
    index = build_index(net, scans, by=Weighted(site=SITE), labels=[label(c) for c in cases], patients=who)
    found = similar(net, scan, index, 5, patient="the patient of the scan")
    held = [c.image for c in phantoms.cases(kind["net"], 2 * asked, seed=32) if kind["class"] in label(c).split(", ")]
    concepts = tcav(net, bank(kind, each, sets), held, score, sites=SITE, pool="max", randoms=sets)
    ig = pl.ask(f"integrated_gradients(steps={steps})", target=target)
    maps = pl.explain(net, [scan], [ig, pl.ask("grad_cam", target=target)], evidence=evidence)
    near = pl.explain(net, [scans[p] for p in found.places], [ig])
    write_report(
        path, maps, title=f"One synthetic {name} image in four ways", note=found.sentence,
        similar=similar_of(found, scans, near), concepts=concepts_of(concepts, here=concepts.sensitivities(net, scan)),
    )  # fmt: skip
    return maps, found, concepts


def pictured(page, picture):
    """The page from its head to the end of the concepts, as a picture; False where there is no browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return False
    if (program := shutil.which("chromium")) is None:
        return False
    with sync_playwright() as start:
        browser = start.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 900})
        opened.goto(Path(page).resolve().as_uri())
        opened.wait_for_selector("html[data-ready]", state="attached")
        end = opened.evaluate("() => document.querySelector('#h-concepts').closest('section').getBoundingClientRect().bottom + scrollY")
        shot = opened.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": 1200, "height": end + 16})
        browser.close()
    Picture.open(io.BytesIO(shot)).convert("RGB").save(picture, quality=88, method=6)  # a palette would change what the colors say
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--out", default="out/four_levels")
    given = parser.parse_args()
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in given.kinds:
        _, found, concepts = made(name, out / f"{name}.html")
        print(found.table(), found.sentence, *concepts.sentences(), *concepts.notes, sep="\n")
        if not pictured(out / f"{name}.html", ROOT / "docs" / "figures" / f"four_{name}.webp"):
            print("no browser: no picture")


if __name__ == "__main__":
    main()
