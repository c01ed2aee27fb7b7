"""The picture of the README: a phantom fundus photograph and what four methods say about it. Writes docs/demo.png."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

import pellucid as pl
from pellucid import phantoms
from pellucid.io import overlay
from pellucid.loading import load_model

ROOT = Path(__file__).parents[1]
SIDE, GAP, TITLE = 360, 12, 34
MAP = 0.457  # share of an overlay's width where the map begins
METHODS = {
    "Integrated gradients": "integrated_gradients()",
    "Blur IG": "blur_ig()",
    "Grad-CAM": "grad_cam()",
    "Occlusion": "occlusion(window='1.2mm')",
}


def main():
    case = phantoms.fundus(seed=7, dme=True)
    net = load_model("phantom:fundus_dme")
    whys = pl.explain(net, case.image, [pl.ask(m, target="DME") for m in METHODS.values()])
    photo = Picture.fromarray((case.image.values.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    panels = {f"Photograph, DME {whys[0].probabilities[1]:.0%}": photo}
    for name, why in zip(METHODS, whys, strict=True):
        both = overlay(why.on(case.image.grid).values, case.image.grid, image=case.image)
        panels[name] = both.crop((round(MAP * both.width), 0, both.width, both.height))  # the scan stands on the left already
    font = ImageFont.load_default(20)
    placed = [(t, p.convert("RGB").resize((round(p.width * SIDE / p.height), SIDE), Picture.LANCZOS)) for t, p in panels.items()]
    sheet = Picture.new("RGB", (sum(p.width + GAP for _, p in placed) + GAP, SIDE + TITLE + 2 * GAP), "white")
    at = GAP
    for title, picture in placed:
        ImageDraw.Draw(sheet).text((at, GAP), title, fill=(30, 40, 50), font=font)
        sheet.paste(picture, (at, GAP + TITLE))
        at += picture.width + GAP
    sheet.save(ROOT / "docs" / "demo.png", optimize=True)


if __name__ == "__main__":
    main()
