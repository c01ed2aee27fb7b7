"""Explanations by example on held-out phantoms: docs/examples.md.

`chest` and `fundus`: does saliency-guided retrieval find same-disease images among same-anatomy distractors better than plain retrieval? A query
is a patient with one finding. Its catalogue holds other patients with that finding (relevant), the same patient without it (same anatomy; other
findings, marks and devices), and other patients without it. What is fixed: measures, numbers, seeds; none of them was chosen by looking at these
patients. The same patient is not left out on purpose: here it stands for anatomy that looks alike.

`speed`: how long exact search takes. `influence`: the last layer's influence against retraining, and planted wrong labels.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from pellucid import phantoms
from pellucid.exemplars import (
    Features,
    MapFeatures,
    Perceptual,
    Search,
    Structural,
    Weighted,
    average_precision,
    build_index,
    fit_head,
    head_influence,
    head_inputs,
    label_errors,
    leave_one_out,
    ndcg,
    precision_at,
)
from pellucid.exemplars.search import unit_rows
from pellucid.intervals import adjusted, average, paired
from pellucid.loading import load_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from studies.pages import put, stamp

FIRST_SEED = 970_000  # neither training nor any choice has seen these patients
QUERIES, EACH, POOL = 40, 8, 24
NETS = {"chest": "chest", "fundus": "fundus_dme"}
FINDINGS = ("effusion", "cardiomegaly", "infiltration")
SITE = "features"
MEASURES = {
    "features (plain)": Features(site=SITE),
    "features, highest value": Features(site=SITE, pool="max"),
    "features weighted by Grad-CAM": Weighted(site=SITE, method="grad_cam()"),
    "features weighted by integrated gradients": Weighted(site=SITE, method="integrated_gradients(steps=8)"),
    "features of the map": MapFeatures(site=SITE, method="integrated_gradients(steps=8)"),
    "SSIM": Structural(),
    "perceptual distance": Perceptual(sites=("features.0", "features.1", "features.2")),
}
PLAIN = "features (plain)"


def chest(seed, finding, other=0):
    """A film with one finding (None: none); ``other`` counts through marks and devices."""
    marks = {"shortcut": float(other % 2), "distractor": float(other // 2 % 2), "suppressor": float(other // 4 % 2)}
    return phantoms.chest(seed, **{f: f == finding for f in FINDINGS}, **marks, strength=0.85).image


def fundus(seed, finding, other=0):
    """A photograph with macular edema, or without; ``other`` counts through stages of retinopathy and marks."""
    marks = {"shortcut": float(other % 2), "distractor": float(other // 2 % 2), "suppressor": float(other // 4 % 2)}
    return phantoms.fundus(seed, dme=finding == "DME", stage=(0, 1, 2, 0)[other % 4], **marks, strength=0.85).image


def pool_of(kind, first):
    """Other patients, ``POOL`` of each finding: (image, finding)."""
    make, names = (chest, FINDINGS) if kind == "chest" else (fundus, ("DME", None))
    pool = [(make(first + 10_000 + i, names[i % len(names)], i // len(names)), names[i % len(names)]) for i in range(POOL * len(names))]
    return pool if kind == "fundus" else [*pool, *[(chest(first + 20_000 + i, None, i), None) for i in range(POOL)]]


def queries_of(kind, first, count):
    """Each query: its image, its finding, and the same patient ``EACH`` times without it."""
    for i in range(count):
        seed = first + i
        finding = FINDINGS[i % 3] if kind == "chest" else "DME"
        make = chest if kind == "chest" else fundus
        instead = [f for f in (*FINDINGS, None) if f != finding] if kind == "chest" else [None]
        yield make(seed, finding, i), finding, [make(seed, instead[j % len(instead)], j) for j in range(EACH)]


def retrieve(kind, first, count):
    """Scores of every measure: {measure: {score: [a query each]}}, and what chance gives."""
    model, pool = load_model(f"phantom:{NETS[kind]}"), pool_of(kind, first)
    asked = list(queries_of(kind, first, count))
    scans = [s for s, _ in pool] + [s for query, _, twins in asked for s in (query, *twins)]
    found = {name: {"nDCG": [], "precision": [], "average precision": [], "twins first": []} for name in MEASURES}
    for name, measure in MEASURES.items():
        began, index = time.process_time(), build_index(model, scans, by=measure)
        for i, (_, finding, _) in enumerate(asked):
            chance = np.random.default_rng(first + i)
            same = chance.permutation([k for k, (_, f) in enumerate(pool) if f == finding])[:EACH]
            rest = chance.permutation([k for k, (_, f) in enumerate(pool) if f != finding])[:EACH]
            at = len(pool) + i * (EACH + 1)
            places = np.array([*same, *range(at + 1, at + 1 + EACH), *rest])
            leave = np.ones(len(index), bool)
            leave[places] = False
            (near,) = index.search.nearest(index.rows[at : at + 1], len(places), leave=leave)
            far = dict(zip(near.places.tolist(), near.distances.tolist(), strict=True))
            distances, relevant = [far[p] for p in places.tolist()], [1.0] * EACH + [0.0] * 2 * EACH
            found[name]["nDCG"].append(ndcg(relevant, distances, EACH))
            found[name]["precision"].append(precision_at(relevant, distances, EACH))
            found[name]["average precision"].append(average_precision(relevant, distances))
            twin = [0.0] * EACH + [1.0] * EACH + [0.0] * EACH
            found[name]["twins first"].append(precision_at(twin, distances, EACH))
        print(f"{kind}: {name}: {time.process_time() - began:.0f} s CPU", flush=True)
    return found


def retrieval_table(found):
    """Scores with intervals over patients, and each measure's nDCG less that of plain features."""
    scores = ("nDCG", "precision", "average precision", "twins first")
    plain = found[PLAIN]["nDCG"]
    others = [n for n in found if n != PLAIN]
    tests = dict(zip(others, adjusted([paired(found[n]["nDCG"], plain)[1] for n in others]), strict=True))
    lines = [f"| measure | nDCG@{EACH} | P@{EACH} | mAP | same anatomy among the first {EACH} | nDCG less plain | p (Holm) |"]
    lines.append("|" + " --- |" * 7)
    for name, each in found.items():
        cells = [str(average(each[s], within=(0.0, 1.0))) for s in scores]
        gap = average(np.subtract(each["nDCG"], plain), within=(-1.0, 1.0))
        cells += ["", ""] if name == PLAIN else [f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]", f"{tests[name]:.2g}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def verdict(found):
    """In words, what the table says of the guided measures, and of the highest value as a control that looks at no map; either way."""
    told = []
    for name in (
        "features, highest value",
        "features weighted by Grad-CAM",
        "features weighted by integrated gradients",
        "features of the map",
    ):
        gap = average(np.subtract(found[name]["nDCG"], found[PLAIN]["nDCG"]), within=(-1.0, 1.0))
        word = "better than" if gap.low > 0 else "worse than" if gap.high < 0 else "not told apart from"
        told.append(f"{name}: {word} plain features")
    return "; ".join(told) + "."


def speed(_first):
    """Exact search over 50,000 x 512, one query at a time and a hundred together."""
    lines = [
        "| data | one query, median ms (best) | of that on the processor, ms | screened by | rows read in full | a hundred, ms a query (best) | equal to float64 |",
        "| --- |" + " --- |" * 6,
    ]
    chance, n, d = np.random.default_rng(0), 50_000, 512
    for name in ("features: standard deviations falling as 1/i", "200 clusters", "isotropic noise (no structure to use)"):
        x = chance.standard_normal((n + 100, d))
        if name.startswith("features"):
            x = (x / np.arange(1, d + 1)) @ np.linalg.qr(chance.standard_normal((d, d)))[0]
        if name.startswith("200"):
            x = 0.3 * x + chance.standard_normal((200, d))[chance.integers(0, 200, n + 100)]
        x = x.astype(np.float32)
        search, began = Search.over(x[:n]), time.process_time()
        search.nearest(x[n : n + 1], 10)
        ready = time.process_time() - began
        one, many, same = timings(search, x[n:])
        screen = search._leading if search.directed else search._bytes
        left = np.median([len(screen(u, 10, None)) for u in unit_rows(x[n : n + 20])])
        wall, cpu = np.array(one).T
        cells = (
            f"{np.median(wall):.2f} ({min(wall):.2f})",
            f"{np.median(cpu):.2f}",
            "directions" if search.directed else "bytes",
            f"{left:.0f}",
        )
        more = (f"{np.median(many):.2f} ({min(many):.2f})", "yes" if same else "NO")
        lines.append(f"| {name} | {' | '.join((*cells, *more))} |")
    table, bytes_ = torch.from_numpy(search.rows), search.coarse.whole.view(torch.int64)
    full, short, plain = (np.median([timed(f)[1] for _ in range(9)]) for f in (table.sum, bytes_.sum, lambda: table @ table[0]))
    return f"""Unit rows of {d} numbers, k = 10, one thread, {os.cpu_count()} cores of which {os.getloadavg()[0]:.0f} were wanted by others; made ready once
({ready:.0f} s on the processor). Milliseconds on the processor leave out the waiting for others, not what they take of caches and memory.

{chr(10).join(lines)}

**The floor.** On the processor, only reading the rows once takes {full:.1f} ms in float32 (102 MB) and {short:.1f} ms in bytes (26 MB); a product with
all of them in float32 {plain:.1f} ms. Rows that lie along few directions, or in clusters, are screened by 32 numbers each. Rows without any structure are
screened in bytes, with a bound for the error of each product that is known, not estimated; that is exact, and cannot be faster than reading
them. Four bits would let {100 * passed(search.rows, unit_rows(x[n : n + 1])[0], 7):.0f} % of the rows through, bytes {100 * passed(search.rows, unit_rows(x[n : n + 1])[0], 127):.1f} %.
"""


def passed(rows, q, most):
    """Share of the rows that could be among the ten nearest once rows and query are rounded to whole numbers of up to ``most``."""
    scale, own = np.abs(rows).max(1, keepdims=True) / most, np.abs(q).max() / most
    whole, mine = np.rint(rows / scale) * scale, np.rint(q / own) * own
    off = np.linalg.norm(rows - whole, axis=1) + np.linalg.norm(q - mine) * np.linalg.norm(whole, axis=1)
    about = whole @ mine
    return float((about + off >= np.sort(about - off)[-10]).mean())


def timings(search, queries):
    """(Wall, processor) milliseconds of single queries, wall ones of each in a hundred, and whether the places are those of a full ranking in float64."""
    search.nearest(queries[:1], 10), search.nearest(queries, 10)
    one = [timed(lambda q=q: search.nearest(q[None], 10)) for q in queries[:50]]
    many = [timed(lambda: search.nearest(queries, 10))[0] / 100 for _ in range(5)]
    rows, same = search.rows.astype(np.float64), True
    for q in queries[:3]:
        u = q.astype(np.float64) / np.linalg.norm(q.astype(np.float64))
        same &= np.argsort(-(rows @ u), kind="stable")[:10].tolist() == search.nearest(q[None], 10)[0].places.tolist()
    return one, many, same


def timed(work):
    """Milliseconds by the clock, and of this thread on the processor."""
    wall, cpu = time.perf_counter(), time.thread_time()
    work()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu)


def influence(first):
    """Rank correlation of the last layer's influence with retraining without each image; wrong labels found by self-influence."""
    from scipy.stats import spearmanr

    lines = [
        "| network | training images | queries | rank correlation with retraining: mean, least | signs that agree |",
        "| --- |" + " --- |" * 4,
    ]
    errors = [
        "| network | wrong labels | among the first as many by self-influence | chance | label suggested is the true one |",
        "| --- |" + " --- |" * 4,
    ]
    for kind, names in (("fundus", ("DME", None)), ("chest", (*FINDINGS, None))):
        make, model = (chest if kind == "chest" else fundus), load_model(f"phantom:{NETS[kind]}")
        chosen = [names[i % len(names)] or "none" for i in range(160)]
        scans = [make(first + 30_000 + i, None if f == "none" else f, i // len(names)) for i, f in enumerate(chosen)]
        rows = head_inputs(model, scans)[0]
        head, agree, signs = fit_head(rows[:150], chosen[:150]), [], []
        for q in range(150, 155):
            fast, slow = head_influence(head, rows[q], chosen[q]), leave_one_out(head, rows[q], chosen[q], range(150))
            agree.append(spearmanr(fast, slow).statistic)
            signs.append(float((np.sign(fast) == np.sign(slow))[np.abs(slow) > 1e-9].mean()))
        lines.append(f"| {NETS[kind]} | 150 | 5 | {np.mean(agree):.4f}, {min(agree):.4f} | {100 * np.mean(signs):.1f} % |")
        shares, suggested = [], []
        for draw in range(10):
            chance = np.random.default_rng(first + draw)
            wrong, given = chance.choice(160, 16, replace=False), list(chosen)
            for i in wrong:
                given[i] = str(chance.choice([n for n in dict.fromkeys(chosen) if n != chosen[i]]))
            told = label_errors(rows, given)
            shares.append(len(set(told.order[:16]) & set(wrong.tolist())) / 16)
            suggested.append(float(np.mean([told.suggested[i] == chosen[i] for i in wrong])))
        errors.append(
            f"| {NETS[kind]} | 16 of 160, 10 draws | {np.mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) | 0.10 | {np.mean(suggested):.2f} |"
        )
    return "\n".join(lines) + "\n\nPlanted wrong labels:\n\n" + "\n".join(errors) + "\n"


HEAD = """# Explanations by example

Measured by `studies/retrieval.py` on phantoms of seeds that no training and no choice has seen. Intervals are 95 %, over patients.

Guided by a map are the features weighted by Grad-CAM or integrated gradients, and the features of the map. The mean activation (plain) and the
highest activation of each channel look at no map: where the highest does as well as a guided measure, small findings were found without one, and
the gain over the mean is not the map's. SSIM and the perceptual distance are baselines.

```python
from pellucid.exemplars import Weighted, build_index, influence, similar

index = build_index(net, scans, by=Weighted(site="features"), labels=labels, patients=patients, folder="index")
found = similar(net, image, "index", 5, patient="who the image is of")  # refused for another network, site, measure or preparation
print(found.sentence, found.table())
why = influence(net, scans, labels, image, "DME", check=20)  # training images for and against, checked by retraining
print(why.table(), why.evidence.reasons)
```
"""
PROTOCOL = f"""Queries: patients with one finding each; relevant: {EACH} other patients with that finding; against them the same patient {EACH} times
without it (same anatomy, with other findings, marks and devices) and {EACH} other patients without it. Chance: P@{EACH} 0.33.
"""
TITLES = {
    "chest": "Same disease among the same anatomy: chest",
    "fundus": "Same disease among the same anatomy: fundus",
    "speed": "Exact search over 50,000 x 512",
    "influence": "Influence through the last layer, and wrong labels",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(TITLES))
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="another than the default writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for part in args.parts:
        began = time.time()
        if part in NETS:
            found = retrieve(part, args.seed, args.queries)
            text = f"{PROTOCOL}\n{retrieval_table(found)}\n{args.queries} queries. By nDCG, {verdict(found)}\n"
        else:
            text = {"speed": speed, "influence": influence}[part](args.seed)
        print(text, flush=True)
        if args.seed == FIRST_SEED:
            made = stamp("Made by `studies/retrieval.py`", time.time() - began, of="examples")
            put("examples.md", HEAD, TITLES[part], f"{text}\n{made}")


if __name__ == "__main__":
    main()
