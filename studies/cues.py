"""What do the shipped networks go by, and where do they break? python studies/cues.py [network ...] -> docs/cues.md

Cues, stress, surprise of fills, color bias of baselines, errors and attacks on the fundus and chest networks, with cases that no training has seen.
Measurements lie in out/cues, a file a network; a run that was cut off goes on. Without names all three are measured and the page is written.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

import pellucid as pl
from pellucid import phantoms
from pellucid.evidence import cues as c
from pellucid.intervals import average
from pellucid.loading import load_model
from pellucid.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from studies.figures import COLORS, FAINT, INK, keep, over, photo, plots  # noqa: E402
from studies.pages import put, stamp  # noqa: E402

SEED = 52_000  # of the cases: no network was trained, and nothing was chosen, on phantoms of this seed
CASES, NORMALS, ATTACKED, BIASED = 40, 16, 4, 3
FILLS = ("black", "white", "random(1)", "blurred('8px')")
EPSILON = 0.02
REFERABLE = pl.probability("moderate") + pl.probability("severe") + pl.probability("proliferative")
NETS = {  # words, score that is followed, class that is attacked, label
    "fundus_dme": ("macular edema in the fundus", pl.probability("DME"), "DME", lambda e: e["dme"]),
    "fundus_dr": ("retinopathy of stage 2 or more", REFERABLE, None, lambda e: int(e["stage"] >= 2)),
    "chest": ("effusion in the chest radiograph", pl.logit("effusion"), "effusion", lambda e: e["effusion"]),
}
ERRORS = {  # on what its errors are looked at: words, score, cut, label, which cases, how many are drawn
    "fundus_dr": ("any retinopathy, stages 0 and 1 alone", -pl.probability("no retinopathy"), -0.5, lambda e: int(e["stage"] > 0), lambda e: e["stage"] < 2, 80),
    "chest": ("infiltration", pl.logit("infiltration"), 0.0, lambda e: e["infiltration"], lambda e: True, 40),
}  # fmt: skip
METHODS = {"Grad-CAM": "grad_cam", "IG": "integrated_gradients(steps=16)"}
FIGURES = ROOT / "docs" / "figures"
HEAD = """# Cues and surprises: what do the networks go by?

The small networks that ship with Pellucid, on phantoms: synthetic patients whose cause is known, from a seed that no training has used. Made by `studies/cues.py`;
what is measured, and when it misleads, stands in the docstrings of `pellucid.evidence.cues`. Intervals: 95 %, from 1000 draws of patients. An AUC of 1 has no
width in such draws: there a break means that the interval leaves 1. Numbers speak of these networks and phantoms alone."""


@cache
def drawn(kind, n):
    return list(phantoms.cases(kind, n, SEED))


@cache
def known(kind):
    return load_model(f"phantom:{kind}")


def cohort(kind):
    """Images and labels, and of the images those with and without the finding."""
    cases, label = drawn(kind, CASES), NETS[kind][3]
    images, labels = [e.image for e in cases], [label(e.labels) for e in cases]
    return images, labels, *([i for i, y in zip(images, labels, strict=True) if y == v] for v in (1, 0))


def ask_cues(kind):
    images, labels, positive, normal = cohort(kind)
    found = c.cues(known(kind), images, labels, target=NETS[kind][1])
    return {"cues": found, "positive": positive[0], "count": (len(positive), len(normal))}


def ask_stress(kind):
    images, labels, *_ = cohort(kind)
    return {"stress": c.stress(known(kind), images, labels, target=NETS[kind][1])}


def ask_surprise(kind):
    normal = cohort(kind)[3]
    return {"surprise": c.surprise(known(kind), normal[:NORMALS], FILLS, target=as_logit(NETS[kind][2]))}


def ask_bias(kind):
    positive = cohort(kind)[2]
    bias = c.baseline_color_bias(known(kind), positive[:BIASED], target=NETS[kind][2], steps=16)
    return {"positive": positive[0], "bias": replace(bias, maps={}), "maps": {k: m.on(m.image.grid).values for k, m in bias.maps.items()}}


def ask_attacks(kind):
    net, own, positive = known(kind), NETS[kind][2], cohort(kind)[2][:ATTACKED]
    return {"attacks": {w: [thin(c.attacked(net, i, own, method=m, epsilon=EPSILON)) for i in positive] for w, m in METHODS.items()}}


def ask_errors(kind):
    _, target, cut, label, wanted, n = ERRORS[kind]
    cases = [e for e in drawn(kind, n) if wanted(e.labels)]
    groups = c.error_groups(known(kind), [e.image for e in cases], [label(e.labels) for e in cases], target=target, cut=cut)
    shown = [g.prototype for e in (groups.missed, groups.false_alarms) for g in e.groups]
    prototypes = {k: (cases[k].image, groups.maps[k].on(cases[k].image.grid).values) for k in shown}
    return {"prototypes": prototypes, "errors": replace(groups, maps=())}


PARTS = {"cues": ask_cues, "stress": ask_stress, "surprise": ask_surprise, "attacks": ask_attacks, "errors": ask_errors, "bias": ask_bias}


def asked_of(kind, part):
    """Whether a part is asked of a network: one class is needed for attacks and bias, and errors to look at."""
    return kind in ERRORS if part == "errors" else NETS[kind][2] is not None or part not in ("attacks", "bias")


def as_logit(own):
    """Surprise is told in logits, where a sure no leaves room to rise."""
    return pl.logit(own) if own else pl.logit("moderate") + pl.logit("severe") + pl.logit("proliferative")


def thin(a):
    """What is drawn and told of an attack, without the maps' scans."""
    flat = [m.on(m.image.grid).values for m in (a.before, a.after)]
    return {"maps": flat, "images": (a.image, a.attacked), "odds": a.odds, "noise": a.noise, "fooled": a.fooled,
            "rank": a.likeness.rank, "top": a.likeness.top, "noise rank": a.noise_likeness.rank, "noise top": a.noise_likeness.top}  # fmt: skip


def measured(kind, part, folder):
    """One part of what is asked of one network, measured or read."""
    sources = sorted(Path(c.__file__).parent.glob("*.py"))
    said = [repr((SEED, CASES, NORMALS, ATTACKED, BIASED, FILLS, EPSILON, METHODS)), *(p.read_text() for p in sources)]
    path = folder / f"{kind}-{part}-{hashlib.sha256(chr(0).join(said).encode()).hexdigest()[:12]}.pkl"
    if not path.exists():
        began = time.process_time()
        found = PARTS[part](kind) | {f"{part} seconds": time.process_time() - began}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(found))
        print(kind, part, f"{found[f'{part} seconds']:.0f} s", flush=True)
    return pickle.loads(path.read_bytes())


# ---------------------------------------------------------------------------------------------------- figures
def shown(image):
    x = image.values.movedim(0, -1).clamp(0, 1).numpy()
    return x if x.shape[-1] == 3 else x.repeat(3, -1)


def draw_versions(every, path):
    figure, axes = plots().subplots(2, 10, figsize=(9.4, 2.2), layout="constrained")
    for row, kind in zip(axes, ("fundus_dme", "chest"), strict=True):
        one = every[kind]["positive"]
        for a in row:
            a.axis("off")
        for a, (name, make) in zip(row, [("as they are", lambda i: i), *((n, v[0]) for n, v in c.VERSIONS.items())], strict=True):
            if name in every[kind]["cues"].scores:
                photo(a, shown(make(one)), name.replace("_", " ").replace("channels", "ch."))
                a.title.set_fontsize(6.5)
    keep(figure, path)


def draw_cues(every, path):
    figure, axes = plots().subplots(1, 3, figsize=(9.4, 3.1), layout="constrained", sharex=True)
    names = ["as they are", *c.VERSIONS]
    for a, (kind, found) in zip(axes, every.items(), strict=True):
        for at, name in enumerate(reversed(names)):
            if name not in found["cues"].scores:
                a.text(0.02, at, "needs colors", fontsize=7, color=FAINT, va="center")
                continue
            r = found["cues"][name]
            a.barh(at, r.auc.value, color=COLORS[0] if r.enough else "#C8CED6", height=0.66)
            a.plot([r.auc.low, r.auc.high], [at, at], color=INK, lw=1.3)
        a.axvline(0.5, color=FAINT, lw=0.8, ls=":")
        a.set_yticks(range(len(names)), [n.replace("_", " ") for n in reversed(names)] if a is axes[0] else [])
        a.set_title(f"{kind}: {NETS[kind][0]}", fontsize=8)
        a.set_xlim(0, 1.03)
        a.set_xlabel("AUC", fontsize=8)
    keep(figure, path)


def draw_stress(every, path):
    kinds = list(c.STRESSORS)
    figure, axes = plots().subplots(1, len(kinds), figsize=(9.4, 2.4), layout="constrained", sharey=True)
    for a, name in zip(axes, kinds, strict=True):
        for k, (kind, found) in enumerate(every.items()):
            curve = found["stress"][name]
            values, at = (curve.clean, *curve.values), np.arange(len(curve.values) + 1)
            a.fill_between(at, [v.low for v in values], [v.high for v in values], color=COLORS[k], alpha=0.15, lw=0)
            a.plot(at, [v.value for v in values], "o-", ms=3, lw=1.5, color=COLORS[k], label=kind)
            if curve.breaks is not None:
                b = curve.strengths.index(curve.breaks) + 1
                a.plot(b, values[b].value, "X", ms=8, color=COLORS[k], mec="white")
        a.axhline(0.5, color=FAINT, lw=0.8, ls=":")
        a.set_xticks(at, ["0", *(f"{s:.2g}" for s in curve.strengths)], fontsize=6.5)
        a.set_title(name)
        a.set_xlabel(curve.unit, fontsize=7)
    axes[0].set_ylabel("AUC", fontsize=8)
    axes[-1].legend(fontsize=6.5, frameon=False, loc="lower left")
    keep(figure, path)


def draw_surprise(every, path):
    figure, axes = plots().subplots(1, 2, figsize=(8.4, 2.4), layout="constrained", sharey=True)
    for k, (kind, found) in enumerate(every.items()):
        for at, (_, f) in enumerate(found["surprise"].fills.items()):
            y = at + 0.22 * (k - 1)
            for a, v, scale in ((axes[0], f.rise, f.spread), (axes[1], f.alarms, 1)):
                a.plot([v.low / scale, v.high / scale], [y, y], color=COLORS[k], lw=1.6)
                a.plot(
                    v.value / scale,
                    y,
                    "o" if f.surprises else "|",
                    ms=5 if f.surprises else 8,
                    color=COLORS[k],
                    label=kind if at == 0 and a is axes[0] else None,
                )
    axes[0].axvline(0, color=FAINT, lw=0.8)
    axes[1].axvline(0.05, color=FAINT, lw=0.8, ls=":")
    axes[0].set_yticks(range(len(FILLS)), FILLS, fontsize=8)
    axes[0].set_title("change of the score, in spreads of normal images", fontsize=8)
    axes[1].set_title("share of places that raise an alarm", fontsize=8)
    axes[0].legend(*legend(axes[0]), fontsize=7, frameon=False)
    keep(figure, path)


def legend(a):
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=COLORS[k], lw=2) for k in range(len(NETS))], list(NETS)


def draw_bias(every, path):
    kinds = [k for k in every if "maps" in every[k]]
    figure, axes = plots().subplots(len(kinds), 6, figsize=(9.4, 1.75 * len(kinds)), layout="constrained")
    for row, kind in zip(axes, kinds, strict=True):
        photo(row[0], shown(every[kind]["positive"]), "image")
        for a, (name, values) in zip(row[1:], every[kind]["maps"].items(), strict=True):
            photo(a, over(every[kind]["positive"], values, light=0.4), name if name == "Blur IG" else f"IG from {name}")
    keep(figure, path)


def draw_errors(every, path):
    rows = [
        (k, e, g)
        for k in every
        if "errors" in every[k]
        for e in (every[k]["errors"].missed, every[k]["errors"].false_alarms)
        for g in e.groups
    ]
    columns = max(1, len(rows))
    figure, axes = plots().subplots(2, columns, figsize=(min(9.4, 2.0 * columns + 0.4), 3.7), layout="constrained", squeeze=False)
    for a, (kind, e, g) in zip(axes.T, rows, strict=True):
        image, values = every[kind]["prototypes"][g.prototype]
        photo(a[0], over(image, values, light=0.8), f"{kind}\n{e.kind}, {len(g.cases)} cases")
        a[1].imshow(g.mean.numpy(), cmap="cividis", vmin=0)
        a[1].set_title("mean map, coarse", fontsize=7)
        a[1].axis("off")
    keep(figure, path)


def draw_attacks(every, path):
    kinds = [k for k in every if "attacks" in every[k]]
    figure, axes = plots().subplots(len(kinds), 6, figsize=(9.4, 1.8 * len(kinds)), layout="constrained")
    for row, kind in zip(axes, kinds, strict=True):
        attacks = every[kind]["attacks"]
        cam, ig = attacks["Grad-CAM"][0], attacks["IG"][0]
        photo(row[0], shown(cam["images"][0]), f"log odds {cam['odds'][0]:+.1f}")
        photo(row[3], shown(cam["images"][1]), f"attacked: {cam['odds'][1]:+.1f}")
        for at, one in ((0, cam), (1, ig)):
            name = list(METHODS)[at]
            for side in (0, 1):
                photo(row[3 * side + 1 + at], over(one["images"][side], one["maps"][side], light=0.5), name)
    keep(figure, path)


# ---------------------------------------------------------------------------------------------------- words
def cues_text(every):
    parts = [
        f"- **{k}** ({NETS[k][0]}; {f['count'][0]} with, {f['count'][1]} without; {f['cues'].target}): {f['cues'].text}"
        for k, f in every.items()
    ]
    rows = [(n, *(cell(f["cues"], n) for f in every.values())) for n in ("as they are", *c.VERSIONS)]
    table = Table(("pictures", *every), tuple(rows))
    return f"""Does a network use shape, texture or color? Its AUC on test images that keep one cue or lose one.

![A fundus with edema and a chest with effusion, in all versions](figures/cues_versions.png)

{table}

![AUC on each version with its interval](figures/cues_auc.png)

Gray: not better than chance. {chr(10)}
{chr(10).join(parts)}

That a network *still* answers shows that a cue is enough; that it fails may also be due to pictures unlike any it has seen."""


def cell(found, name):
    if name not in found.scores:
        return "needs colors"
    return str(found[name].auc)


def stress_text(every):
    rows = [(n, *(words(f["stress"][n]) for f in every.values())) for n in c.STRESSORS]
    return f"""AUC against rising stress. A cross marks the breaking point: the first strength at which the interval's upper end lies below the lower end of that of
the images as they are.

![Stress curves](figures/cues_stress.png)

{Table(("breaks at", *every), tuple(rows))}"""


def words(curve):
    if curve.breaks is None:
        return f"bears {curve.strengths[-1]:g}"
    at = curve.strengths.index(curve.breaks)
    return f"{curve.breaks:.3g} {curve.unit}: {curve.values[at]}"


def surprise_text(every):
    rows = [(k, n, f"{f.rise}", f"{f.rise.value / f.spread:+.2f}", f"{f.worst}", f"{f.alarms}", "yes" if f.surprises else "no") for k, e in every.items() for n, f in e["surprise"].fills.items()]  # fmt: skip
    columns = ("network", "fill", "change of the score", "in spreads", "at the worst place", "alarms", "surprises")
    sides = ", ".join(
        f"{k} {e['surprise'].window} over {e['surprise'].rises['black'].shape[1]} places of {e['surprise']['black'].rise.images} images"
        for k, e in every.items()
    )
    return f"""A window of a NORMAL image is hidden: does the abnormal score rise? If it does, every map that was made with this fill shows the fill as well as the image;
`caution(map, surprise)` writes that into the map. Windows: {sides}. An alarm is a score above that of 95 % of the normal images; a fill *surprises* if the lower end of the
rise is more than half the spread (standard deviation) of normal images, or that of the alarms above 5 %.

{Table(columns, tuple(rows))}

![Change of the score and alarms by fill](figures/cues_surprise.png)

Dots: fills that surprise. Alarms count high where many normal images already lie close to the level; the change says how far the fill itself moves them."""


def bias_text(every):
    rows = [
        (k, r.name, r.own.value, r.others.value, str(r.bias), r.blur.value) for k, f in every.items() if "bias" in f for r in f["bias"].rows
    ]
    said = " ".join(f"**{k}**: {f['bias'].text}" for k, f in every.items() if "bias" in f)
    columns = ("network", "baseline b", "IG from b", "IG from other baselines", "bias", "Blur IG")
    return f"""Rank correlation of a map's magnitude with |x - b|, mean over {BIASED} images with the finding. A map that marks what is bright for its own sake follows |x - b|
whatever it started from; *bias* is what the choice of b adds.

{Table(columns, tuple(rows))}

![Integrated gradients from four baselines, and Blur IG](figures/cues_bias.png)

{said}"""


def errors_text(every):
    said = "\n".join(
        f"- **{k}** ({ERRORS[k][0]}, {len(f['errors'].scores)} cases): {f['errors'].text}" for k, f in every.items() if "errors" in f
    )
    return f"""Grad-CAM's maps of missed findings and false alarms, grouped by where they lie, and held against correct cases with the same label.

{said}

![Prototypes of the groups of errors and their mean maps](figures/cues_errors.png)

Above: the case nearest to the group's middle; below: the mean map."""


def attacks_text(every):
    rows = []
    for kind in (k for k in every if "attacks" in every[k]):
        for name, found in every[kind]["attacks"].items():
            of = lambda key: str(average([a[key] for a in found]))  # noqa: B023, E731
            fooled = f"{sum(a['fooled'] for a in found)} of {len(found)}"
            rows.append((kind, name, fooled, of("rank"), of("noise rank"), of("top"), of("noise top")))
    columns = ("network", "map", "fooled", "rank correlation", "under random signs", "top tenth kept", "under random signs ")
    return f"""PGD with at most {EPSILON:.0%} of the range of values makes the network deny the true class; then it is asked about the SAME class again. Beside it: random signs of the
same size. A map that stays where it was still shows where the class would be; it says nothing of what fooled the network.

{Table(columns, tuple(rows))}

![Before and after the attack](figures/cues_attacked.png)

Left: the image and its maps; right: the same after the attack."""


SECTIONS = {
    "Shape, texture or color?": ("cues", cues_text, {"versions": draw_versions, "auc": draw_cues}),
    "Stress": ("stress", stress_text, {"stress": draw_stress}),
    "Surprise of the perturbation": ("surprise", surprise_text, {"surprise": draw_surprise}),
    "The color of the baseline": ("bias", bias_text, {"bias": draw_bias}),
    "Groups of errors": ("errors", errors_text, {"errors": draw_errors}),
    "Attacked images": ("attacks", attacks_text, {"attacked": draw_attacks}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", help="measure these alone, and write no page")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "cues")
    parser.add_argument("--page", default="cues.md")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = {}
    for part in given.parts:
        for kind in given.nets or NETS:
            if asked_of(kind, part):
                every[kind] = every.get(kind, {}) | measured(kind, part, given.folder)
    for title, (part, tell, pictures) in SECTIONS.items():
        if part in given.parts and not given.nets:
            for name, draw in pictures.items():
                draw(every, given.figures / f"cues_{name}.png")
            seconds = sum(f.get(f"{part} seconds", 0) for f in every.values())
            put(given.page, HEAD, title, f"{tell(every)}\n\n{stamp('`studies/cues.py`', seconds, of='evidence')}")


if __name__ == "__main__":
    main()
