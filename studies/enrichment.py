"""Do maps find the cause? Enrichment of the known cause over shortcut, distractor and background on held-out phantoms: docs/phantoms.md.

Enrichment is the share of positive relevance inside a mask over the mask's share of the image: 1 is what a map without knowledge reaches.
Every phantom shows its cause, a shortcut and a distractor; the seeds were used neither for training nor for choosing anything.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

import pellucid as pl
from pellucid import phantoms
from pellucid.intervals import average
from pellucid.loading import load_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from studies.inside import enrichment, hit
from studies.pages import put, stamp

FIRST_SEED = 900_000
CASES = {"fundus": 100, "chest": 100, "brain": 30, "spectrogram": 60}
PARTS = ("causal", "shortcut", "distractor", "background")
KINDS = {  # network, target, how a positive case is made, methods
    "fundus": ("fundus_dme", "DME", {"dme": True}, ("integrated_gradients()", "blur_ig()", "grad_cam()", "occlusion(window='1.5mm')")),
    "chest": ("chest", "effusion", {"effusion": True}, ("integrated_gradients()", "blur_ig()", "grad_cam()", "occlusion(window='40mm')")),
    "brain": (
        "brain_atrophy",
        "atrophy",
        {"atrophy": True},
        ("integrated_gradients(steps=32)", "blur_ig(steps=16)", "grad_cam()", "occlusion(window='16mm', stride='16mm')"),
    ),
    "spectrogram": (
        "spectrogram",
        "violin",
        {"violin": True},
        ("integrated_gradients()", "blur_ig(max_sigma='8px', axes=0, steps=50)", "grad_cam()", "occlusion(window='10px')"),
    ),
}


def measure(kind, count):
    """Per method, enrichment of every part over ``count`` cases, and the hit rate."""
    name, target, positive, methods = KINDS[kind]
    net, make = load_model(f"phantom:{name}"), getattr(phantoms, kind)
    found = {m: {p: [] for p in (*PARTS, "hit")} for m in methods}
    for i in range(count):
        case = make(seed=FIRST_SEED + i, shortcut=True, distractor=True, **positive)
        for m, why in zip(methods, pl.explain(net, case.image, [pl.ask(m, target=target) for m in methods]), strict=True):
            relevance = why.on(case.image.grid).relevance
            for p in PARTS:
                found[m][p].append(enrichment(relevance, case.masks[p]))
            found[m]["hit"].append(float(hit(relevance, case.masks["causal"])))
    return found


def table(kind, found):
    lines = [
        "| method | " + " | ".join(PARTS) + " | peak in cause | cases |",
    ]
    lines.append("|" + " --- |" * (len(PARTS) + 3))
    for m, parts in found.items():
        cells = [f"{i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for i in (average(parts[p]) for p in PARTS)]
        lines.append(f"| `{m}` | {' | '.join(cells)} | {average(parts['hit']).value:.2f} | {len(parts['hit'])} |")
    return "\n".join(lines) + "\n"


def holds(found):
    """The claim: the cause's lower limit is above 1 and above every other part's upper limit, for every method."""
    wrong = []
    for m, parts in found.items():
        low = average(parts["causal"]).low
        others = {p: average(parts[p]).high for p in PARTS[1:]}
        wrong += [f"{m}: causal {low:.2f}"] if low <= 1 else []
        wrong += [f"{m}: causal {low:.2f}, {p} {high:.2f}" for p, high in others.items() if high >= low]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    args = parser.parse_args()
    torch.set_num_threads(1)  # small networks: more threads only wait for each other
    for kind in args.kinds:
        began = time.time()
        found = measure(kind, CASES[kind])
        wrong = holds(found)
        text = table(kind, found) + ("" if not wrong else "\nDoes not hold: " + "; ".join(wrong) + "\n")
        print(text, flush=True)
        made = stamp("Made by `studies/enrichment.py`", time.time() - began)
        put("phantoms.md", HEAD, f"{kind.capitalize()}: `{KINDS[kind][0]}`, target {KINDS[kind][1]}", f"{text}\n{made}")


HEAD = f"""# Do maps find the cause?

Share of positive relevance inside a mask over the mask's share of the image, mean over cases with a 95 % interval; 1 is chance. Every phantom
shows its cause, a shortcut and a distractor, at places and strengths drawn by seeds from {FIRST_SEED} on, which no training and no choice has seen.
Where the claim (the cause above 1 and above every other part, by its lower limit) does not hold, the table says so.
"""


if __name__ == "__main__":
    main()
