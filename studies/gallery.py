"""Every method on the phantoms, drawn: docs/gallery.md and a small PNG for each method in docs/gallery/: python studies/gallery.py [SECTION ...]"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

import pellucid as pl
from pellucid import phantoms
from pellucid.errors import PellucidError
from pellucid.io import Tile, full_color
from pellucid.io.picture import BLUE_ORANGE, PAPER, colored
from pellucid.io.sheet import sheet
from pellucid.loading import load_model
from pellucid.method import Method

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from studies.gallery_nets import Attending, Averaged, Cohort, fitted  # noqa: E402
from studies.gallery_words import FAMILIES, HEAD, REMARKS, SOUND, SOUND_TEXT  # noqa: E402
from studies.inside import enrichment  # noqa: E402
from studies.pages import put, stamp  # noqa: E402

HOME = ROOT / "docs" / "gallery"
PAGE = ROOT / "docs" / "gallery.md"
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
OWN = {"meaningful_perturbation": {"steps": (300, 100)}, "extremal_perturbation": {"steps": (120, 50)}}  # descents need their steps
REFERENCES = ("deep_shap", "expected_gradients")  # their baseline is a set of healthy phantoms
PATTERNS = ("pattern_net", "pattern_attribution")
HEADS = {"cam": Averaged, "attention_rollout": Attending, "transformer_attribution": Attending}
LEVELS = ("rise",)  # a mean score: asked of the probability, and drawn above its lowest value
SITE = {"conductance": "features", "internal_influence": "features"}  # methods about units
CLIP = {  # on the spectrogram: what is asked of which method
    "integrated_gradients": {}, "blur_ig": {"axes": 0, "max_sigma": "8px"}, "lrp": {}, "grad_cam": {}, "occlusion": {"window": 8},
    "kernel_shap": {"samples": 600},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scene:
    """A phantom, what is asked about it, and the networks and sets that methods need; slow ones are made when first asked for."""

    kind: str
    heads: dict = field(default_factory=dict)

    @cached_property
    def case(self):
        return CASES[self.kind][2]()

    @property
    def target(self):
        return CASES[self.kind][1]

    @cached_property
    def shipped(self):
        return load_model(f"phantom:{CASES[self.kind][0]}")

    @cached_property
    def cohort(self):
        return Cohort.drawn(CASES[self.kind][0])

    @cached_property
    def patterns(self):
        return pl.patterns(self.shipped, list(self.cohort.images))

    def refitted(self, head):
        """The network with a new head, and its AUC."""
        if head not in self.heads:
            net, auc = fitted(self.shipped.module, self.cohort, head)
            self.heads[head] = pl.Model(net, classes=(f"no {self.target}", self.target)), auc
        return self.heads[head]

    @property
    def at(self):
        """Where a volume is cut: through the middle of the cause."""
        cause = self.case.masks["causal"]
        return tuple(int(i) for i in torch.nonzero(cause).double().mean(0).round()) if cause.ndim == 3 else None

    def bound(self, m):
        """The method with a budget that a page of forty can bear, and with the phantoms that it should know."""
        ndim = self.kind == "brain"
        given = {k: v[ndim] for k, v in (BUDGET | OWN.get(m.name, {})).items() if k in m.params}
        if "window" in m.params:
            given |= {"window": WINDOW[self.kind]} | ({"stride": WINDOW[self.kind]} if ndim else {})
        for k, inner in m.params.items():
            if isinstance(inner, Method) and "steps" in inner.params:
                given[k] = inner(steps=16)
        if m.name in REFERENCES:
            given["baseline"] = pl.each_of(list(self.cohort.healthy[:16]))
        if m.name in PATTERNS:
            given["data"] = self.patterns
        return m(**given)

    def tile(self, m):
        """The map of a method, and the explanation behind it."""
        net = self.refitted(HEADS[m.name])[0] if m.name in HEADS else self.shipped
        target = pl.probability(self.target) if m.name in LEVELS else self.target
        why = pl.explain(net, self.case.image, target, method=self.bound(m), site=SITE.get(m.name))
        values = why.on(self.case.image.grid).relevance
        values = values - values.min() if m.name in LEVELS else values
        times = enrichment(values, self.case.masks["causal"])
        note = f"score {why.score:.2g}, cause {times:.2g} times chance"
        return Tile(f"{self.kind}: {self.target}", self.case.image, values, note, full_color(values), at=self.at), why


def causes(scenes):
    """Where the cause of each label lies, beside the scan."""
    for s in scenes:
        yield Tile(s.kind, s.case.image, None, "the scan", at=s.at)
    for s in scenes:
        yield Tile(f"{s.kind}: {s.target}", s.case.image, s.case.masks["causal"].double(), "the known cause", at=s.at)


def sound():
    """One clip with a violin: what each method says, and the cause."""
    case, net = phantoms.spectrogram(seed=9, violin=1), load_model("phantom:spectrogram")
    cause = case.masks["violin"]
    tiles = [Tile("clip", case.image, None, "frequency upward, time to the right"), Tile("violin", case.image, cause.double(), "the cause")]
    for name, given in CLIP.items():
        why = pl.explain(net, case.image, "violin", method=next(m for m in pl.methods() if m.name == name)(**given))
        values = why.on(case.image.grid).relevance
        tiles.append(Tile(name, case.image, values, f"cause {enrichment(values, cause):.2g} times chance", full_color(values)))
    return tiles


def first_colors(shades=4, steps=7, grays=40):
    """Colors to begin with: grays, and each ramp in ``steps`` steps over ``shades`` grays."""
    table = [np.repeat(np.linspace(0, 208, grays)[:, None], 3, 1)]
    for sign in (-1, 1):
        values = np.linspace(0, sign, steps + 1)[1:]
        base = np.repeat(np.linspace(0, 1, shades)[:, None], steps, 1)
        table.append(colored(base, np.repeat(values[None], shades, 0), 1.0, BLUE_ORANGE).reshape(-1, 3))
    return np.concatenate(table)


def fewer(picture, rounds=6):
    """The picture in 96 colors: means of clusters in which rare colors (the extremes of a map) weigh almost as much as common ones."""
    from PIL import Image as Pil

    codes = np.asarray(picture).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    seen, back, count = np.unique(codes, return_inverse=True, return_counts=True)
    points, weight, table = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], 1).astype(np.float64), count**0.35, first_colors()
    for turn in range(rounds + 1):
        nearest = ((table**2).sum(1) - 2 * points @ table.T).argmin(1)
        if turn < rounds:
            total = np.bincount(nearest, weight, len(table))[:, None]
            sums = np.stack([np.bincount(nearest, weight * points[:, k], len(table)) for k in range(3)], 1)
            table = np.where(total > 0, sums / np.maximum(total, 1e-12), table)
    table[nearest[np.searchsorted(seen, np.dot(PAPER, (1 << 16, 1 << 8, 1)))]] = PAPER  # pages of one color
    small = Pil.fromarray(nearest[back].astype(np.uint8).reshape(codes.shape))
    small.putpalette(np.rint(table.clip(0, 255)).astype(np.uint8).tobytes())
    return small


def save(tiles, name, columns=3):
    """Write the tiles as a PNG small enough for a page: as large as it may be."""
    path = HOME / f"{name}.png"
    for zoom in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        fewer(sheet(tiles, columns=columns, zoom=zoom)).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    return path


def asked(m, scenes):
    """The parameters that differ from their defaults, as they are written."""
    names = {"baseline": "each_of(16 healthy phantoms)", "data": "patterns(net, phantoms like these)"}
    said = []
    for k, default in m.params.items():
        values = [repr(s.bound(m).params[k]) for s in scenes]
        if set(values) != {repr(default)}:
            *flat, deep = values
            same = flat[0] if len(set(flat)) == 1 else " or ".join(flat)
            said.append(f"{k}={names[k]}" if k in names else f"`{k}={same}`" + (f" (brain: `{deep}`)" if deep != same else ""))
    return f"Asked with {', '.join(said)}. " if said else ""


def misleads(m):
    """What the method's own page says of its traps."""
    part = m.doc.split("Misleads when:")[1].split("Source:")[0]
    return " ".join(part.split())


def entry(m, use, scenes):
    """What the page says of a method, with its picture."""
    began, tiles, remarks, passes = time.perf_counter(), [], [], []
    for scene in scenes:
        try:
            tile, why = scene.tile(m)
        except PellucidError as error:
            remarks.append(f"{scene.kind}: {error}")
            continue
        tiles.append(tile)
        passes.append(f"{why.provenance.forward} + {why.provenance.backward}")
        remarks += [c for c in why.provenance.caveats if c not in remarks]
    path = save(tiles, m.name) if tiles else None
    if m.name in HEADS:
        head = "average pooling and one linear layer" if HEADS[m.name] is Averaged else "two layers of attention among patches"
        found = ", ".join(f"{s.refitted(HEADS[m.name])[1]:.2f}" for s in scenes)
        remarks.insert(
            0, f"The shipped networks have no such head: their convolutions stand here before {head}, fitted in seconds (AUC {found})"
        )
    print(f"{m.name:24} {time.perf_counter() - began:6.1f} s {0 if path is None else path.stat().st_size:7d} bytes", *remarks, flush=True)
    lines = [f"### {m.name}", m.doc.splitlines()[0], f"**Use it** {use}"]
    if path is not None:
        lines.append(f"![{m.name} on a fundus, a chest and a brain phantom]({path.relative_to(ROOT / 'docs').as_posix()})")
    cost = f"Passes: {', '.join(dict.fromkeys(passes))}."
    if m.name in REMARKS:
        remarks.append(REMARKS[m.name])
    if m.name in SITE:
        remarks.insert(0, f"Seen at site={SITE[m.name]!r}.")
    told = f" *{' '.join(r if r.endswith('.') else f'{r}.' for r in remarks)}*" if remarks else ""
    lines += [f"**Misleads when:** {misleads(m)}", f"{asked(m, scenes)}{cost}{told}"]
    return "\n\n".join(lines)


def refreshed(page):
    """The page with what methods say of themselves as they say it now."""
    for m in pl.methods():
        heading, use, trap = f"\n### {m.name}\n\n", "\n\n**Use it** ", "**Misleads when:** "
        if heading in page:
            before, rest = page.split(heading)
            _, rest = rest.split(use, 1)
            shown, rest = rest.split(trap, 1)
            page = f"{before}{heading}{m.doc.splitlines()[0]}{use}{shown}{trap}{misleads(m)}\n\n{rest.split(chr(10) * 2, 1)[1]}"
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[[], "causes", SOUND, *FAMILIES], default=[], help="Sections to draw anew (all).")
    parser.add_argument("--words", action="store_true", help="Draw nothing; only say what the methods say of themselves now.")
    args = parser.parse_args()
    if args.words:
        PAGE.write_text(refreshed(PAGE.read_text()))
        return
    wanted = args.sections or ["causes", *FAMILIES, SOUND]
    torch.set_num_threads(1)
    HOME.mkdir(parents=True, exist_ok=True)
    scenes, known = [Scene(kind) for kind in CASES], {m.name: m for m in pl.methods()}
    if "causes" in wanted:
        tiles = list(causes(scenes))
        save(tiles[:3], "scans")
        save(tiles[3:], "causes")
    for section in wanted:
        began = time.perf_counter()
        if section in FAMILIES:
            text, methods = FAMILIES[section]
            parts = [text, *(entry(known[name], use, scenes) for name, use in methods.items())]
        elif section == SOUND:
            path = save(sound(), "sound", columns=4)
            parts = [SOUND_TEXT, f"![A clip, where its violin lies, and six methods]({path.relative_to(ROOT / 'docs').as_posix()})"]
        else:
            continue
        put("gallery.md", HEAD, section, "\n\n".join([*parts, f"Made by {stamp('`studies/gallery.py`', time.perf_counter() - began)}"]))


if __name__ == "__main__":
    main()
