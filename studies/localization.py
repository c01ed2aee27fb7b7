"""Do maps mark what is there? The table of Xu et al. 2020 (AUC, F1, MAE) on phantoms, beside controls: python studies/localization.py -> docs/localization.md

Rows are the methods of their table 1; columns its measures. How they scaled and cut their maps is not known to us, so it is stated here, and a second
table shows what other choices do. Results lie in out/localization, a file a case; a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import pellucid as pl
from pellucid import phantoms
from pellucid.evidence.controls import CONTROLS
from pellucid.evidence.localization import mean_mask
from pellucid.image import digest
from pellucid.intervals import adjusted, average, paired
from pellucid.loading import load_model

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from studies.figures import FAINT, INK, keep, plots  # noqa: E402
from studies.pages import put, stamp  # noqa: E402

VERSION = 2  # of the metrics and methods: a higher number measures anew
SEED = 31_000  # of the cases: no network was trained, and nothing was chosen, on phantoms of this seed
TRAIN_SEED, PRIOR = 1, 100  # the mean mask is that of the first findings of the training set
METHODS = {
    "XRAI": "xrai(inner='integrated_gradients(baseline=black_and_white, steps=16)')",
    "Grad-CAM": "grad_cam()",
    "IG (random-4)": "integrated_gradients(baseline=random(4), steps=16)",
    "IG (black)": "integrated_gradients(baseline=black, steps=32)",
    "IG (black+white)": "integrated_gradients(baseline=black_and_white, steps=16)",
    "Blur IG": "blur_ig(steps=32)",
}
ALONE = ("random", "center", "edges", "mean mask")
MAIN = ("roc_auc", "f1", "mae")
MORE = ("auprc", "max_f1", "iou_otsu", "pointing_game", "relevance_mass")
NAMES = {"roc_auc": "AUC ↑", "f1": "F1 ↑", "mae": "MAE ↓", "auprc": "AUPRC ↑", "max_f1": "best F1 ↑", "iou_otsu": "IoU (Otsu) ↑",
         "pointing_game": "hit rate ↑", "relevance_mass": "mass ↑"}  # fmt: skip
CHOICES = {  # part of the map, quantile that becomes 1, threshold
    "positive, to its maximum, twice the mean": ("positive", 1.0, "adaptive"),
    "absolute, to its maximum, twice the mean": ("absolute", 1.0, "adaptive"),
    "positive, to its 99 % point, twice the mean": ("positive", 0.99, "adaptive"),
    "positive, to its maximum, Otsu": ("positive", 1.0, "otsu"),
    "positive, to its maximum, 0.5": ("positive", 1.0, 0.5),
    "positive, to its 99 % point, 0.5": ("positive", 0.99, 0.5),
}
KINDS = {  # network and the words for its target and truth
    "fundus_dr": ("the predicted stage", "all lesions of retinopathy", "stage 2 or higher, and the network says the right stage"),
    "chest": ("effusion", "the effusion", "an effusion, and the network says so"),
}


def has_finding(kind, case):
    return case.labels["stage"] >= 2 if kind == "fundus_dr" else case.labels["effusion"] == 1


def truth(kind, case):
    return case.masks["causal" if kind == "fundus_dr" else "effusion"]


def cases(kind, net, n):
    """The first ``n`` unseen phantoms with the finding that the network calls right."""

    def right(case):
        with torch.no_grad():
            z = net.module(case.image.values[None])[0]
        return int(z.argmax()) == case.labels["stage"] if kind == "fundus_dr" else float(z[0]) > 0

    found = (c for c in phantoms.cases(kind, 20 * n, SEED) if has_finding(kind, c) and bool(truth(kind, c).any()) and right(c))
    return itertools.islice(found, n)


def measure(kind, net, case, prior):
    """Every value of every row for one case: {metric or choice: {row: value}}; None where a value would mean nothing."""
    target = None if kind == "fundus_dr" else "effusion"
    maps = dict(zip(METHODS, pl.explain(net, case.image, [pl.ask(m, target=target) for m in METHODS.values()]), strict=True))
    one = next(iter(maps.values()))
    prior = replace(one, values=prior[None], grid=case.image.grid, ask=None)
    found = {}
    for asked, metrics, controls in [({**maps, "mean mask": prior}, [*MAIN, *MORE], CONTROLS)] + [
        (maps, [f"f1(of={of!r}, threshold={cut!r}, top={top})", f"mae(of={of!r}, top={top})"], ()) for of, top, cut in CHOICES.values()
    ]:
        grades = pl.grade(net, case.image, asked, metrics, mask=truth(kind, case), controls=controls, target=target)
        for row, m in grades:
            key = m.name if controls else m.detail["metric"]
            found.setdefault(key, {})[row] = None if math.isnan(m.value) else m.value
            if m.name in MAIN and controls:
                found.setdefault(f"{m.name} chance", {})[row] = m.reference
    return {"found": found, "mask": float(truth(kind, case).double().mean())}


def results(kind, n, folder, part=0, parts=1):
    """The cases' values, measured or read."""
    key = digest(repr((METHODS, MAIN, MORE, CHOICES, SEED, PRIOR, kind, VERSION)))[:16]
    net, prior = load_model(f"phantom:{kind}"), None
    rows = []
    for i, case in enumerate(cases(kind, net, n)):
        path = folder / kind / f"{key}-{i}.json"
        if i % parts != part:
            continue
        if not path.exists():
            if prior is None:
                known = (c for c in phantoms.cases(kind, 10 * PRIOR, TRAIN_SEED) if has_finding(kind, c))
                prior = mean_mask([truth(kind, c) for c in itertools.islice(known, PRIOR)], case.image.grid)
            path.parent.mkdir(parents=True, exist_ok=True)
            spent = time.process_time()
            found = measure(kind, net, case, prior)
            path.write_text(json.dumps(found | {"seconds": time.process_time() - spent}))
            print(kind, i + 1, flush=True)
        rows.append(json.loads(path.read_text()))
    return rows


def column(rows, key, row):
    """One value a case, NaN where there is none."""
    return [math.nan if (v := r["found"][key].get(row)) is None else v for r in rows]


def cell(rows, key, row):
    found = average(column(rows, key, row))
    return str(found) + (f" ({found.images} of {len(rows)})" if 0 < found.images < len(rows) else "")


def order():
    """The rows of the table: methods, controls that know no network, and of each method its copies."""
    return [*METHODS, *ALONE, *(f"{m}, {how}" for how in ("blurred", "shuffled") for m in METHODS)]


def table(rows, keys, names):
    lines = [f"| | {' | '.join(NAMES[k] for k in keys)} |", "|" + " --- |" * (len(keys) + 1)]
    return "\n".join(lines + [f"| {n} | {' | '.join(cell(rows, k, n) for k in keys)} |" for n in names]) + "\n"


def learned(rows):
    """How far each method is ahead of the same method on a network with shuffled weights, patient by patient."""
    tests = {(m, k): paired(column(rows, k, m), column(rows, k, f"{m}, shuffled")) for k in MAIN for m in METHODS}
    p = dict(zip(tests, adjusted([t[1] for t in tests.values()]), strict=True))
    lines = [f"| | {' | '.join(NAMES[k] for k in MAIN)} |", "|" + " --- |" * (len(MAIN) + 1)]
    for m in METHODS:
        told = (words(tests[m, k][0], p[m, k]) for k in MAIN)
        lines.append(f"| {m} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def words(difference, p):
    return "none" if math.isnan(p) else f"{difference:+.3f} (p {'< 0.001' if p < 1e-3 else f'= {p:.3f}'})"


def choices(rows):
    """F1 and MAE under other scalings and thresholds: values, and who is first."""
    lines = [f"| part, scale, threshold | | {' | '.join(METHODS)} |", "|" + " --- |" * (len(METHODS) + 2)]
    for said, (of, top, cut) in CHOICES.items():
        for name, metric in (("F1", pl.read_metric("f1")(of=of, threshold=cut, top=top)), ("MAE", pl.read_metric("mae")(of=of, top=top))):
            if name == "MAE" and cut != "adaptive":
                continue
            means = {m: float(np.nanmean(column(rows, repr(metric), m))) for m in METHODS}
            best = (max if name == "F1" else min)(means, key=means.__getitem__)
            told = (f"**{v:.3f}**" if m == best else f"{v:.3f}" for m, v in means.items())
            lines.append(f"| {said if name == 'F1' else said.rpartition(',')[0]} | {name} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def boxes(kind, rows, path):
    """AUC, F1 and MAE of methods and controls over patients."""
    figure, axes = plots().subplots(1, 3, figsize=(8.6, 3.9), sharey=True, layout="constrained")
    names = [*METHODS, *ALONE][::-1]
    for one, key in zip(axes, MAIN, strict=True):
        values = [[v for v in column(rows, key, n) if not math.isnan(v)] for n in names]
        drawn = one.boxplot(values, orientation="horizontal", widths=0.6, patch_artist=True, tick_labels=names, flierprops={"ms": 2})
        for n, box, middle in zip(names, drawn["boxes"], drawn["medians"], strict=True):
            box.set(facecolor="#e9edf2" if n in ALONE else "#cfe0f0", edgecolor=INK, lw=0.8)
            middle.set(color="#D55E00", lw=1.6)
        one.set_title(NAMES[key])
        one.axhline(len(ALONE) + 0.5, color=FAINT, lw=0.8, ls=":")
    axes[0].axvline(0.5, color=FAINT, lw=0.8)
    keep(figure, path)


def section(kind, rows, seconds):
    target, marked, asked = KINDS[kind]
    net = load_model(f"phantom:{kind}")
    area = float(np.mean([r["mask"] for r in rows]))
    picture = ROOT / "docs" / "figures" / f"localization_{kind}.png"
    boxes(kind, rows, picture)
    chance = float(np.mean(column(rows, "mae chance", "IG (black)")))
    return f"""{len(rows)} patients ({asked}), `phantom:{kind}` ({", ".join(net.classes)}). Target: the score before softmax or sigmoid of {target}. Truth: {marked},
{area:.1%} of the picture on average.

**Table.** Mean over patients with the 95 % interval over them. The map is the sum over channels on the picture's grid, its *positive* part, scaled from its
minimum to its maximum. AUC: over all samples of the picture; chance is 0.5. F1: of the samples at or above *twice the mean* of the scaled map. MAE: of the scaled map
against the mask; an empty map would have {area:.3f}, the values of IG (black) at random places {chance:.3f}. *Mean mask*: of {PRIOR} patients of the training set. *Blurred*: the map
after a blur of a sixteenth of the picture. *Shuffled*: the map of the same question to a network whose weights were shuffled.

{table(rows, MAIN, order())}
![AUC, F1 and MAE of each method and control over patients](figures/{picture.name})

Median, quartiles, and points beyond 1.5 times their distance. Below the dotted line: controls, which know nothing of the network.

**What the network's weights add**: mean difference to the same method on shuffled weights, with two-sided p by flipping signs of patients, held over all 18 tests (Holm).

{learned(rows)}
**Other measures**, same maps.

{table(rows, MORE, [*METHODS, *ALONE])}
**How much rests on the choices**: F1 and MAE for other parts, scales and thresholds; the best of each row is bold.

{choices(rows)}
Cases of seed {SEED}. {stamp("Made by `studies/localization.py`", seconds)}
"""


HEAD = """# Do maps mark what is there?

The table of Xu, Venugopalan and Sundararajan (CVPR 2020, table 1), its rows and measures, on phantoms: synthetic patients whose finding is known to the sample, and the
small networks that ship with Pellucid. **The numbers are not comparable with theirs**: other pictures, another network, and how they scaled and cut their maps is not
known to us. What can be compared is each method with its own controls: a map that knows the place where findings usually lie, or that of a network which has learned nothing,
is what a method must beat. A finding's mask is what was drawn; the network may rightly use less of it. Steps: 32 for IG (black) and Blur IG, 16 from each start where there are several."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "localization")
    parser.add_argument("--page", default="localization.md")
    parser.add_argument("--part", default="0/1", help="only cases whose number leaves this rest, say 1/4; no page is written")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    torch.set_num_threads(1)  # small networks: more threads only wait for each other
    titles = {"fundus_dr": "Retinopathy: lesions in the fundus", "chest": "Effusion in the chest radiograph"}
    for kind in given.kinds:
        rows = results(kind, given.cases, given.folder, part, parts)
        if parts > 1:
            continue
        put(given.page, HEAD, titles[kind], section(kind, rows, sum(r["seconds"] for r in rows)))


if __name__ == "__main__":
    main()
