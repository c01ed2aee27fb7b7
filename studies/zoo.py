"""Every method on every network of the zoo, in full: docs/zoo.md and docs/zoo.json.

A cell is kept in out/zoo.jsonl under the code that it depends on (the method's file, the engine, the zoo): a run that was cut off goes on where it was, and
after a change only what the change may touch is measured anew. Cells that would take longer than LONGEST on one core are measured at the reduced size, and say so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from studies.pages import code  # noqa: E402
from tests import conftest as conftest  # lets torchvision load beside a torch without its operators  # noqa: E402
from tests.zoo.cells import Cell, claims_a_sum, key, measure, measure_twin, passes_of  # noqa: E402
from tests.zoo.networks import ENTRIES, SHARPER, ZOO, model, picture, targets  # noqa: E402

import pellucid as pl  # noqa: E402
from pellucid.method import Gives  # noqa: E402

TOLERANCE = 0.02  # of integrated gradients, in a table of its own
AT_MOST, LONGEST_WAY = 31 * 64, 3600  # gradients that may be spent there; networks on which they would take more seconds are left out
LONGEST = 25  # seconds of forward passes in a cell at the full size
USUAL = {"integrated_gradients": 34}  # passes where those at most, with its tolerance, are many more than it mostly needs


class Kept:
    """Cells on disk, one a line, under what they depend on; the last of a key counts."""

    def __init__(self, path):
        self.path, self.cells = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                known = json.loads(line)
                self.cells[known["kind"], known["key"]] = Cell(**known["cell"])

    def get(self, kind, m, net, reduced, make):
        at = (kind, key(m, net, reduced))
        if at not in self.cells and make is not None:
            self.keep(at, make(m, net, reduced))
        return self.cells.get(at)

    def keep(self, at, cell):
        self.cells[at] = cell
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": at[0], "key": at[1], "cell": cell.as_dict()}) + "\n")


def sized(kind, m, net, reduced):
    """Whether the cell is measured at the reduced size: two targets, or a twin of double width and its left half."""
    passes = USUAL.get(m.name, passes_of(m, net, False))
    return reduced or passes * ZOO[net].seconds * (3 if kind == "twin" else 2) > LONGEST


def run(kept, methods, nets, reduced):
    """Measure what is not known yet, network by network."""
    for net in nets:
        for m in methods:
            began = time.time()
            cell = kept.get("cell", m, net, sized("cell", m, net, reduced), measure)
            told = f"{net:20} {m.name:24} {cell.status:8} {cell.cpu:8.2f} s  {'; '.join(cell.faults) or cell.message[:100]}"
            if claims_a_sum(m) and cell.status == "runs":
                twin = kept.get("twin", m, net, sized("twin", m, net, reduced), measure_twin)
                told += f"  twin {twin.twin if twin.twin is None else f'{twin.twin:.1e}'}"
            if time.time() - began > 0.05:
                print(told, flush=True)


def tolerances(kept, nets, measured):
    """Integrated gradients asked for a tolerance, at the reduced size: {net: what came of it}."""
    found, m = {}, pl.integrated_gradients(steps=64, tolerance=TOLERANCE)
    for net in nets:
        at = ("tolerance", f"{m!r}, {key(pl.integrated_gradients, net, True)}")
        if at not in kept.cells and net in measured:
            entry = ZOO[net]
            image = picture(entry, entry.side(True))
            target, began = targets(entry, image.grid.shape)[0], time.process_time()
            pl.explain(model(net, True), image, target, method="integrated_gradients(steps=4)")
            if (time.process_time() - began) / 4 * AT_MOST > LONGEST_WAY:
                continue
            why = pl.explain(model(net, True), image, target, method=m)
            gap = abs(why.total - why.trace["change"]) / abs(why.trace["change"])
            cell = Cell(
                m.name, net, repr(m), side=entry.side(True), passes=(why.provenance.forward, why.provenance.backward), gaps={"first": gap}
            )
            cell.caveats = [*why.provenance.caveats]
            print(f"{net:20} tolerance {gap:.1e} {cell.passes} {cell.caveats}", flush=True)
            kept.keep(at, cell)
        if at in kept.cells:
            found[net] = kept.cells[at]
    return found


def collected(kept, methods, reduced):
    """All known cells of these methods: {(method, net): (cell, twin)}."""
    found = {}
    for m in methods:
        for net in ZOO:
            cell = kept.get("cell", m, net, sized("cell", m, net, reduced), None)
            if cell is not None:
                found[m.name, net] = cell, kept.get("twin", m, net, sized("twin", m, net, reduced), None)
    return found


# ---------------------------------------------------------------------------------------------------- the page
def mark(cell, reduced):
    """A cell in the table of what runs."""
    if cell is None:
        return " "
    if cell.status != "runs":
        return {"refuses": "no", "error": "**error**"}[cell.status]
    if cell.faults:
        return "**fault**"
    if cell.message:
        return "0" if cell.message.startswith("zero") else "="
    return "yes" if reduced or cell.side == ZOO[cell.net].full else "yes*"


def number(value):
    return "" if value is None else f"{value:.1e}"


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def page(found, methods, reduced, seconds, met):
    nets, names = list(ZOO), [m.name for m in methods]
    cells = [c for c, _ in found.values()]
    told = [intro(cells, seconds, reduced), "## What runs\n"]
    told.append("Columns: " + ", ".join(f"{i} `{net}`" for i, net in enumerate(nets, 1)) + ".\n")
    rows = [[f"`{n}`", *(mark(found.get((n, net), (None, None))[0], reduced) for net in nets)] for n in names]
    told.append(table(["method", *(str(i) for i in range(1, len(nets) + 1))], rows))
    told += ["## Sums\n", SUMS, *sums(found, methods, nets)]
    rows = [[net, number(c.gaps["first"]), str(c.passes[1]), "; ".join(c.caveats) or "met"] for net, c in met.items()]
    told += ["## Integrated gradients until a tolerance is met\n", MEETS, table(["network", "gap / change", "gradients", "said"], rows)]
    told += ["## Refusals\n", *listed(found, lambda c: [c.message] if c.status == "refuses" else [])]
    told += ["## Faults and errors\n", *(listed(found, lambda c: [c.message] if c.status == "error" else c.faults) or ["None.\n"])]
    told += ["## Remarks on the maps\n", *listed(found, lambda c: c.caveats)]
    return "\n".join(told)


def sums(found, methods, nets):
    told = []
    for m in methods:
        if not m.facts.gives & (Gives.COMPLETE | Gives.CONSERVING):
            continue
        rows = []
        for net in nets:
            cell, twin = found.get((m.name, net), (None, None))
            if cell is None or cell.status != "runs":
                continue
            gaps = [number(cell.gaps.get(k)) for k in ("first", "second", "other baseline")]
            rows.append([net, *gaps, number(cell.absorbed), number(cell.largest), number(twin and twin.twin)])
        whole = "score" if m.facts.gives & Gives.CONSERVING else "change"
        head = ["network", f"gap / {whole}", "another class", "another baseline", "absorbed", "largest multiplier", "twin"]
        told.append(f"### {m.name}\n\n{table(head, rows)}")
    return told


def listed(found, said):
    """Each sentence once, with the cells that say it."""
    where = defaultdict(lambda: defaultdict(list))
    for (name, net), (cell, _) in found.items():
        for sentence in said(cell):
            where[sentence][name].append(net)
    lines = []
    for sentence, by in sorted(where.items(), key=lambda item: sorted(item[1])):
        cells = "; ".join(f"`{name}` on " + ("all" if len(nets) == len(ZOO) else ", ".join(nets)) for name, nets in by.items())
        lines.append(f"- {sentence}\n  {cells}.")
    return ["\n".join(lines) + "\n"] if lines else []


SUMS = f"""The gap is the share of the change s(x) - s(start) that the map's sum misses (of the score, where a method conserves it: there what biases and
embedded parameters absorbed is counted with the sum). Baselines: the method's own, and a gray of 0.3. *Twin*: of f = g(left half) + h(right half) the largest
difference of the left half of the map from that of g alone, over its largest value; blank where draws, or the method's own path, depend on the whole image.
"_peaked" networks have query and key weights times {SHARPER:g}.
"""


MEETS = f"""Asked for a tolerance of {TOLERANCE:g} with 64 steps, at the reduced size: at most 31 times the steps are spent, where slope and score disagree most. Random
weights are the hard case: the score changes its slope at every step of the way, and its whole change is small against its turns. Where the
tolerance is not met, the map says so. Networks on which that many gradients take more than {LONGEST_WAY} s are left out.
"""


def intro(cells, seconds, reduced):
    runs = sum(c.status == "runs" and not c.faults for c in cells)
    refuses = sum(c.status == "refuses" for c in cells)
    errors = len(cells) - runs - refuses
    return f"""# The zoo: every method on public networks

{len(ENTRIES)} unmodified networks of torchvision and MONAI, and those with attention once more with sharper attention, with seeded random weights in which no
layer sleeps, in float64, on one random picture, for two classes (UNet: for two classes in a box). {len(cells)} cells: {runs} run and keep what they declare (passes,
a map that is not constant and hears the target), {refuses} refuse by name, {errors} fail. `yes*`: at {"a" if reduced else "the"} reduced size, since its passes would take more than {LONGEST} s on one core;
`0`: the map is zero for both classes and says so; `=`: it is the same for both and says so; `no`: refused, see below; blank: not measured yet.

Made by `make zoo` on {datetime.date.today()}: {platform.machine()}, torch {torch.__version__}, {code("maps")}, seed 0, {seconds / 60:.0f} min for what was not known yet,
{sum(c.seconds for c in cells) / 3600:.1f} h in all{", at reduced sizes" if reduced else ""}. Every number: `zoo.json`.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only-net", action="append", choices=list(ZOO), help="Repeatable.")
    parser.add_argument("--only-method", action="append", help="Repeatable.")
    parser.add_argument("--reduced", action="store_true", help="The sizes of `make test`; writes to out/ instead of docs/.")
    parser.add_argument("--page", action="store_true", help="Write the page from what is known; measure nothing.")
    args = parser.parse_args()
    methods = [m for m in pl.methods() if not args.only_method or m.name in args.only_method]
    out = ROOT / "out"
    out.mkdir(exist_ok=True)
    kept, began = Kept(out / "zoo.jsonl"), time.time()
    if not args.page:
        run(kept, methods, args.only_net or list(ZOO), args.reduced)
    met = tolerances(kept, list(ZOO), [] if args.page or args.only_method else args.only_net or list(ZOO))
    found = collected(kept, list(pl.methods()), args.reduced)
    home = out if args.reduced else ROOT / "docs"
    (home / "zoo.md").write_text(page(found, list(pl.methods()), args.reduced, time.time() - began, met))
    facts = {"code": code("maps"), "torch": torch.__version__, "machine": platform.machine(), "date": str(datetime.date.today()), "seed": 0}
    lines = [json.dumps(c.as_dict() | {"twin": t and t.twin, "twin_message": t.message if t else ""}) for c, t in found.values()]
    (home / "zoo.json").write_text(json.dumps(facts)[:-1] + ', "cells": [\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{home / 'zoo.md'}: {len(found)} cells")


if __name__ == "__main__":
    main()
