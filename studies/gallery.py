"""Every method on the three phantoms, drawn: docs/gallery.md and a small PNG for each method in docs/gallery/."""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path

import numpy as np
import torch

import pellucid as pl
from pellucid import phantoms
from pellucid.errors import PellucidError
from pellucid.io import Tile, full_color
from pellucid.io.picture import BLUE_ORANGE, colored
from pellucid.io.sheet import sheet
from pellucid.loading import load_model
from pellucid.method import Method
from pellucid.source import code_hash

ROOT = Path(__file__).parents[1]
HOME = ROOT / "docs" / "gallery"
LARGEST = 60_000  # bytes of a picture
CASES = {  # network, target, phantom
    "fundus": ("fundus_dme", "DME", lambda: phantoms.fundus(seed=7, dme=True)),
    "chest": ("chest", "effusion", lambda: phantoms.chest(seed=7, effusion=True)),
    "brain": ("brain_atrophy", "atrophy", lambda: phantoms.brain(seed=11, atrophy=True)),
}
WINDOW = {"fundus": "1.2mm", "chest": "40mm", "brain": "16mm"}
BUDGET = {  # by the name of the parameter: 2D, 3D; what is not named keeps its default
    "masks": (2000, 500), "samples": (600, 200), "steps": (64, 32),
}  # fmt: skip
OWN = {"meaningful_perturbation": {"steps": (300, 100)}, "extremal_perturbation": {"steps": (200, 80)}}  # descents need their steps
HEAD = """# Gallery

Every method on three synthetic patients with known causes, before the small networks that ship with Pellucid: a fundus photograph (target: diabetic macular
edema; the cause are the hard exudates at the fovea), a chest radiograph (pleural effusion, lower corner of a lung) and a brain volume (atrophy: wide ventricles,
small hippocampi). Orange speaks for the target, blue against it, zero is clear; each map has its own scale. The first row shows the causes.
"""


def bound(m, kind):
    """The method with a budget that a page of forty can bear."""
    ndim = kind == "brain"
    names = BUDGET | OWN.get(m.name, {})
    given = {k: v[ndim] for k, v in names.items() if k in m.params}
    if "window" in m.params:
        given |= {"window": WINDOW[kind]} | ({"stride": WINDOW[kind]} if ndim else {})
    for k, inner in m.params.items():
        if isinstance(inner, Method) and "steps" in inner.params:
            given[k] = inner(steps=16)
    return m(**given)


def causes(cases):
    """The scans, and where the cause of the label lies."""
    tiles = []
    for kind, (_, target, _) in CASES.items():
        case = cases[kind][1]
        cause = case.masks["causal"]
        at = tuple(int(i) for i in torch.nonzero(cause).double().mean(0).round()) if case.image.grid.ndim == 3 else None
        tiles.append(Tile(f"{kind}, cause of {target}", case.image, cause.double(), "known mask", at=at))
    return [Tile(kind, t.image, None, "scan", at=t.at) for kind, t in zip(CASES, tiles, strict=True)] + tiles


def drawn(m, cases):
    """One row of maps of a method, and what it says where it refuses."""
    tiles, remarks, seconds = [], [], 0.0
    for kind, (_, target, _) in CASES.items():
        net, case = cases[kind]
        try:
            why = pl.explain(net, case.image, target, method=bound(m, kind))
        except PellucidError as error:
            remarks.append(f"{kind}: {error}")
            continue
        values = why.on(case.image.grid).relevance
        seconds += why.provenance.seconds
        passes = f"{why.provenance.forward} + {why.provenance.backward} passes"
        tiles.append(
            Tile(f"{kind}, {target}", case.image, values, f"score {why.score:.3g}, sum {why.total:.3g}, {passes}", full_color(values))
        )
        remarks += [c for c in why.provenance.caveats if c not in remarks]
    return tiles, remarks, seconds


def colors_of(shades, steps):
    """A table of colors for PNGs: grays, and each ramp in ``steps`` steps over ``shades`` grays (a table drawn from the picture forgets rare colors)."""
    grays = np.linspace(0, 1, 256 - 2 * shades * steps)
    table = [np.repeat(grays[:, None] * 255, 3, 1)]
    for sign in (-1, 1):
        values = np.linspace(0, sign, steps + 1)[1:]
        table.append(
            colored(np.repeat(np.linspace(0, 1, shades)[:, None], steps, 1), np.repeat(values[None], shades, 0), 1.0, BLUE_ORANGE).reshape(
                -1, 3
            )
        )
    return np.clip(np.concatenate(table), 0, 255).astype(np.uint8)


def save(tiles, name, columns=3):
    """Write the tiles as a PNG small enough for a page: as large as it may be."""
    from PIL import Image as Pil

    path, table = HOME / f"{name}.png", Pil.new("P", (1, 1))
    table.putpalette(colors_of(10, 9).tobytes())
    for zoom in (0.8, 0.7, 0.6, 0.5, 0.4):
        picture = sheet(tiles, columns=columns, zoom=zoom)
        small = (
            picture.quantize(palette=table, dither=Pil.Dither.NONE) if name != "causes" else picture.quantize(128, dither=Pil.Dither.NONE)
        )
        small.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    return path


def section(m, remarks, path):
    """What the page says of a method."""
    lines = [f"## {m.name}", m.doc.splitlines()[0]]
    if path is not None:
        lines.append(f"![{m.name}]({path.relative_to(ROOT / 'docs').as_posix()})")
    return "\n\n".join(lines + ([f"*{' '.join(remarks)}*"] if remarks else [])) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="Methods; the page is written when all are drawn.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    HOME.mkdir(parents=True, exist_ok=True)
    cases = {kind: (load_model(f"phantom:{net}"), make()) for kind, (net, _, make) in CASES.items()}
    began, parts = time.time(), []
    save(causes(cases), "causes")
    for m in pl.methods():
        if args.only and m.name not in args.only:
            continue
        tiles, remarks, seconds = drawn(m, cases)
        path = save(tiles, m.name) if tiles else None
        parts.append(section(m, remarks, path))
        print(f"{m.name:24} {seconds:7.1f} s {0 if path is None else path.stat().st_size:7d} bytes  {'; '.join(remarks)[:120]}", flush=True)
    if not args.only:
        stamp = f"Made by `studies/gallery.py` on {datetime.date.today()}: code {code_hash()[:12]}, {time.time() - began:.0f} s."
        (ROOT / "docs" / "gallery.md").write_text("\n".join([HEAD, "![causes](gallery/causes.png)\n", *parts, stamp]) + "\n")


if __name__ == "__main__":
    main()
