"""Which maps stay when the network's weights are randomized? python studies/randomization.py [net ...] -> docs/randomization.md

The cascade of Adebayo et al. 2018 on the shipped networks: block after block is randomized from the output down, several draws, the same target
at every stage. Curves with their floors, and the maps at every stage as pictures. Every network that is tried is reported.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from pathlib import Path

import torch
from PIL import Image as Picture

import pellucid as pl
from pellucid import phantoms
from pellucid.evidence import grade
from pellucid.evidence.sanity.shuffling import Shuffler
from pellucid.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from studies.figures import COLORS, FAINT, INK, keep, over, photo, plots  # noqa: E402
from studies.pages import put, stamp  # noqa: E402

SEED = 910_000  # no network was trained on phantoms of this seed
NETS = {"fundus_dr": ("stage", 3, 3), "chest": ("effusion", 1, 0)}  # label, its value, the target
METHODS = {
    "saliency": "saliency", "SmoothGrad": "smooth('saliency', n=8)", "integrated gradients": "integrated_gradients(steps=16)",
    "grad x input": "input_x_gradient", "DeepLIFT": "deeplift", "guided backprop": "guided_backprop", "guided Grad-CAM": "guided_grad_cam",
    "Grad-CAM": "grad_cam",
}  # fmt: skip
COLORS_KEPT = 96  # of the pictures of maps, which are noise to a compressor
FINDING = {"pass": "#12715B", "fail": "#B3261E", "inconclusive": "#8A6D00", "void": FAINT}
HEAD = """# Randomization: which maps know what the network has learned?

Block after block of the network is randomized (each tensor's values in random order), from the output down, and the same question is asked again. A map
that shows what was learned must change; one that shows the image stays (Adebayo et al. 2018). Guided backpropagation is known to fail while the *upper*
blocks are randomized, and to change, after all, when everything is (erratum of that paper): both are measured. A pass is no rank (Binder et al. 2023).
Made by `studies/randomization.py` with the metric `model_randomization`. Gray: the floor, how alike maps are of two independently randomized networks or of
different patients, the higher. The unrandomized network is in no number."""


def images(name, n):
    """The first unseen phantoms with the finding."""
    label, value, _ = NETS[name]
    return [c.image for c in itertools.islice((c for c in phantoms.cases(name, 1000, SEED) if c.labels[label] == value), n)]


def mean(values):
    """Of numbers, NaN left out."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def curves(path, graded):
    """A panel a method: likeness at every stage, with the range of draws and the floor."""
    plt = plots()
    fig, axes = plt.subplots(2, 4, figsize=(9.4, 4.5), layout="constrained", sharex=True, sharey=True)
    for ax, word in zip(axes.flat, METHODS, strict=True):
        found = [g[word, "model_randomization"] for g in graded]
        rows = list(zip(*[m.detail["stages"] for m in found], strict=True))
        at = [r[0]["blocks"] for r in rows]
        draws = [[abs(d) for one in r for d in one["draws"] if not math.isnan(d)] or [math.nan] for r in rows]
        floor = mean(
            [max(0.0, *(m.detail["floors"][k]["similarity"] for k in ("networks", "images") if k in m.detail["floors"])) for m in found]
        )
        ax.axhspan(0, floor, color="#D9DEE4", lw=0)
        ax.axvspan(0.7, at[-1] / 2, color="#F4EBD9", lw=0, zorder=-2)
        ax.fill_between(at, [min(d) for d in draws], [max(d) for d in draws], color=COLORS[0], alpha=0.22, lw=0)
        ax.plot(at, [mean([one["similarity"] for one in r]) for r in rows], "o-", color=COLORS[0], ms=3.5, lw=1.8)
        ax.plot(at, [mean([one["absolute"] for one in r]) for r in rows], "--", color=COLORS[1], lw=1.1)
        ax.plot(at, [mean([one["ssim"] for one in r]) for r in rows], ":", color=COLORS[2], lw=1.3)
        words = [m.status for m in found]
        word_of = max(set(words), key=words.count)
        ax.set_title(word, color=INK)
        ax.text(0.98, 0.97, word_of, transform=ax.transAxes, ha="right", va="top", color=FINDING[word_of], fontsize=8, weight="bold")
        ax.set_ylim(-0.45, 1.05)
        ax.set_xlim(0.7, at[-1] + 0.3)
    for ax in axes[1]:
        ax.set_xlabel("blocks randomized", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("likeness", fontsize=8)
    lines = axes[0, 0].get_lines()
    fig.legend(lines, ["rank correlation", "of magnitudes", "SSIM"], loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    keep(fig, path)


def pictures(path, net, image, target):
    """The maps of one draw: a row a method, a column a stage."""
    plt = plots()
    shuffler = Shuffler.of(net, net.ready(image)[1])
    n, chance = len(shuffler.blocks), torch.Generator().manual_seed(0)
    shown = [0, *sorted({1, n // 2, (3 * n) // 4, n})]
    fig, axes = plt.subplots(len(METHODS), 1 + len(shown), figsize=(6.2, 1.03 * len(METHODS) + 0.2), layout="constrained")
    picture = image.values.movedim(0, -1).clamp(0, 1).numpy()
    photo(axes[0, 0], picture if picture.shape[-1] == 3 else picture.repeat(3, -1))
    for ax in axes[1:, 0]:
        photo(ax, [[[1.0, 1.0, 1.0]]])
    for column, k in enumerate(shown):
        twin = net if k == 0 else shuffler.shuffle(shuffler.blocks[n - k :], chance)
        for r, (row, method) in enumerate(zip(axes, METHODS.values(), strict=True)):
            why = pl.explain(twin, image, target, method=method)
            title = ("learned" if k == 0 else f"{k} of {n}") if r == 0 else ""
            values = torch.nn.functional.avg_pool2d(why.on(why.image.grid).values, 2)  # grain costs bytes and shows nothing
            values = values.repeat_interleave(2, 1).repeat_interleave(2, 2)
            photo(row[column + 1], over(why.image, values, light=0.35), title)
    for row, word in zip(axes, METHODS, strict=True):
        row[0].set_ylabel(word.replace(" ", "\n", 1), fontsize=7)
    keep(fig, path)
    few = Picture.open(path).convert("RGB").quantize(COLORS_KEPT, method=Picture.Quantize.MAXCOVERAGE, kmeans=1, dither=Picture.Dither.NONE)
    few.save(path, "PNG", optimize=True)


def section(name, count, draws, folder):
    """One network: its curves, pictures and table."""
    began = time.perf_counter()
    net, target, scans = pl.load_model(f"phantom:{name}"), NETS[name][2], images(name, count + 1)
    pictures(folder / f"randomization_{name}_maps.png", net, scans[0], target)
    print(name, "drawn", f"{time.perf_counter() - began:.0f} s", flush=True)
    metric = f"model_randomization(stages=24, draws={draws})"
    graded = [
        grade(net, s, METHODS, metric, target=target, others=[o for o in scans if o is not s], controls=("edges", "random"))
        for s in scans[:count]
    ]
    print(name, "measured", f"{time.perf_counter() - began:.0f} s", flush=True)
    curves(folder / f"randomization_{name}.png", graded)
    rows = []
    for word in [*METHODS, "edges", "random"]:
        found = [g[word, "model_randomization"] for g in graded]
        d = [m.detail for m in found]
        of = lambda k: f"{mean([x[k]['similarity'] for x in d]):.2f}"  # noqa: B023, E731
        floor = lambda k: f"{mean([x['floors'][k]['similarity'] for x in d]):.2f}"  # noqa: B023, E731
        words = [m.status for m in found]
        rows.append((word, of("head"), of("top"), of("complete"), floor("networks"), floor("images"), floor("edges"),
                     f"{mean([x['top']['ssim'] for x in d]):.2f}", f"{mean([x['top']['hog'] for x in d]):.2f}",
                     ", ".join(f"{w} {words.count(w)}" for w in dict.fromkeys(words))))  # fmt: skip
    columns = (
        "map",
        "head alone",
        "upper half",
        "all",
        "floor: networks",
        "floor: patients",
        "image's edges",
        "SSIM, upper half",
        "HOG, upper half",
        "finding",
    )
    one = graded[0][next(iter(METHODS)), "model_randomization"].detail
    entropy = [f"{r['entropy']:.2f}" for r in one["stages"] if r["entropy"] is not None]
    heads = ", ".join(f"{g['saliency', 'model_randomization'].detail['head']['p']:.2f}" for g in graded)
    maps, copies = len(METHODS), one["copies"]
    return f"""Network `{name}`, {one["of_blocks"]} blocks, target {target}, {count} phantom{"s" * (count > 1)} with the finding, {draws} draws a stage.
{f"Entropy of the output (share of the highest) learned {one['entropy']:.2f}, then stage by stage {', '.join(entropy)}." if entropy else "The outputs are separate findings and have no common entropy."}
The score is unusual among networks with a shuffled head alone with p = {heads}. {copies} randomized copies an image serve all {maps} methods;
one by one they would be {maps * copies}.

{Table(columns, tuple(rows))}

![Likeness at every stage](figures/randomization_{name}.png)

Yellow: the stages with at most the upper half randomized; blue band: the range of draws and images; gray: the floor.

![Maps at every stage](figures/randomization_{name}_maps.png)

One draw; a column says how many blocks from the output down are randomized. Orange is above zero, blue below: for and against the score where a method has signs, size where it has none.

{stamp("`studies/randomization.py`", time.perf_counter() - began, of="evidence")}"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=list(NETS))
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--page", default="randomization.md")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for chosen in args.nets:
        put(args.page, HEAD, chosen, section(chosen, args.images, args.draws, args.figures))
        print(chosen, "done", flush=True)
