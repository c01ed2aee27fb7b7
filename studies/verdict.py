"""How often the verdict is right: python studies/verdict.py [cases per row] -> docs/verdict.md

Three kinds of map per case: integrated gradients of a trained network (should be supported), of a network of the same architecture with untrained
weights, another draw for each case (should not be), and the edges of the image passed off as the trained network's map (should not be). The trained ones
are the networks that ship and a family whose behavior was verified by intervention (studies/family.py): a network that rests on a shortcut has
learned something too, and its maps are to be supported as explanations of the network. Cases are held-out phantoms that the network calls positive.
Rows are kept in out/verdict under the hash of the evidence's code: a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import family
import family_nets as own
from studies.pages import code, put, stamp

import pellucid as pl
from pellucid.evidence import Level, examine
from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.ops.edges import sobel
from pellucid.phantoms import nets
from pellucid.phantoms.cohort import cases

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "verdict"
SEED = 4321  # phantoms that no training and no tuning has seen
UNTRAINED = 9000  # first seed of the untrained weights
SHIPPED = {"fundus_dme": ("dme", 1), "chest": ("effusion", 0), "brain_atrophy": ("atrophy", 1)}  # label, output
WANTED = {"trained": "supported", "untrained": "not supported", "edges": "not supported"}


@dataclass(frozen=True, eq=False)
class Row:
    """A network under the verdict: how its positives are found, and how its untrained twins are drawn."""

    name: str
    part: str  # tuning, or scoring
    kind: str
    net: Callable[[], nn.Module]
    fresh: Callable[[int], nn.Module]
    label: str
    output: int
    size: int | None


def rows_of_the_study() -> Iterator[Row]:
    """The shipped networks, of which tuning has seen other cases, and the family."""
    for kind, (label, output) in SHIPPED.items():
        yield Row(
            f"shipped {kind}", "tuning", kind, lambda k=kind: nets.load(k)[0], lambda s, k=kind: nets.build(k, s), label, output, None
        )  # type: ignore[misc]
    for m in family.members():
        if m.role != "random" and m.above_chance:
            label = "shortcut" if m.role == "shortcut" else own.LABEL[m.kind]
            fresh = lambda s, m=m: own.untrained(m.kind, m.architecture, s)  # type: ignore[misc]  # noqa: E731
            yield Row(m.name, "tuning" if m.tuning else "scoring", m.kind, m.net, fresh, label, 1, own.SIZES[m.kind])


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def seen(row: Row, net: nn.Module, n: int) -> Iterator[Image]:
    """Held-out positives that the network calls positive."""
    found = 0
    for case in cases(row.kind, 8 * n, SEED, size=row.size):
        positive = bool(case.masks["shortcut"].any()) if row.label == "shortcut" else case.labels[row.label] == 1
        if not positive:
            continue
        with torch.no_grad():
            z = net(case.image.values[None])[0]
        if bool(z[row.output] > 0) if len(z) == 3 else int(z.argmax()) == row.output:
            yield case.image
            found += 1
        if found == n:
            return


def maps(model: pl.Model, fresh: pl.Model, image: Image, output: int) -> Iterator[tuple[str, pl.Model, Map]]:
    """The three kinds of map of one image."""
    why = pl.explain(model, image, output)
    yield "trained", model, why
    yield "untrained", fresh, pl.explain(fresh, image, output)
    edges = sobel(image.values)[None].expand_as(why.values).to(why.values)
    yield "edges", model, replace(why, values=edges.contiguous())


def verdicts(row: Row, n: int, level: Level) -> tuple[dict[str, list[str]], float]:
    """Verdicts by kind of map, case by case, and seconds per examination."""
    net = row.net()
    several = "multi-label" if row.kind == "chest" and row.size is None else None
    found: dict[str, list[str]] = {k: [] for k in WANTED}
    spent = 0.0
    for i, image in enumerate(seen(row, net, n)):
        pair = [pl.Model(m, output=several) for m in (net, row.fresh(UNTRAINED + i))]  # type: ignore[arg-type]
        for name, model, why in maps(pair[0], pair[1], image, row.output):
            began = time.perf_counter()
            found[name].append(str(examine(model, image, why, level).verdict))
            spent += time.perf_counter() - began
    return found, spent / max(1, 3 * len(found["trained"]))


def known(n: int, level: Level, most: float) -> dict[str, tuple[Row, dict[str, list[str]]]]:
    """Every row, measured where that is missing; none is begun after ``most`` seconds."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "rows.jsonl"
    kept = {tuple(r["key"]): r["verdicts"] for r in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    began, found = time.perf_counter(), {}
    for row in rows_of_the_study():
        key = (row.name, str(n), level, code("evidence"))
        if key not in kept:
            if time.perf_counter() - began > most:
                continue
            kept[key], seconds = verdicts(row, n, level)
            with path.open("a") as file:
                file.write(json.dumps({"key": key, "verdicts": kept[key]}) + "\n")
            print(row.name, {k: dict(Counter(v)) for k, v in kept[key].items()}, f"{seconds:.1f} s each", flush=True)
        found[row.name] = row, kept[key]
    return found


def told(counts: dict[str, list[str]], what: str) -> list[str]:
    """Table lines: rate of the wanted verdict with its interval, and the others."""
    lines = []
    for kind, given in counts.items():
        n, right = len(given), sum(v == WANTED[kind] for v in given)
        if not n:
            continue
        low, high = wilson(right, n)
        false = sum(v == "supported" for v in given) if kind != "trained" else None
        other = ", ".join(f"{v} {c}" for v, c in Counter(given).items() if v != WANTED[kind]) or "-"
        alarm = "" if false is None else f"{false} of {n} ({wilson(false, n)[0]:.0%} - {wilson(false, n)[1]:.0%})"
        lines.append(f"| {what} | {kind} | {WANTED[kind]} | {right} of {n} | {low:.0%} - {high:.0%} | {alarm} | {other} |")
    return lines


TABLE = "| network | map | wanted | right | 95 % interval | falsely supported | other verdicts |\n|---|---|---|---|---|---|---|\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=8, help="cases per row")
    parser.add_argument("--level", default="quick")
    parser.add_argument("--most", type=float, default=math.inf, help="Seconds after which no further row is begun.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    found = known(given.n, given.level, given.most)
    made = stamp("Made by `studies/verdict.py`", time.perf_counter() - began, f", phantoms of seed {SEED}", of="evidence")
    every = {"tuning": [], "scoring": []}  # type: dict[str, list[str]]
    for part in every:
        rows = [(r, v) for r, v in found.values() if r.part == part]
        pooled = {k: [x for _, v in rows for x in v[k]] for k in WANTED}
        every[part] = [*told(pooled, f"**all {len(rows)}**"), *(line for r, v in rows for line in told(v, r.name))]
    title = f"Networks that no rule was tuned on, level {given.level}"
    put("verdict.md", HEAD, title, TABLE + "\n".join(every["scoring"]) + f"\n\n{made}")
    title = f"Networks that tuning has seen (on other cases), level {given.level}"
    put("verdict.md", HEAD, title, TABLE + "\n".join(every["tuning"]) + f"\n\n{made}")


HEAD = """# How often the verdict is right

Method: integrated gradients with its defaults. *trained*: the network's own map, to be supported (the sensitivity of the verdict); *untrained*: the map of
the same architecture with untrained weights, another draw per case, and *edges*: the Sobel magnitude of the image passed off as the network's map,
neither to be supported (false alarms: *falsely supported*). Cases are held-out phantoms that the trained network calls positive. What each network of
the family uses was verified by intervention: [family.md](family.md). A network that rests on a shortcut has learned it: its maps are faithful
explanations of a bad network, and the verdict is about the explanation. How a verdict is reached: [evidence.md](evidence.md).

Thresholds were set on blob images and their small networks, on residual networks trained on 64-sample phantoms, and on 16 to 24 phantoms of each shipped
network (seeds 5 and 6); two scoring runs on seeds 77 and 1234 led to changes and are not counted. Intervals: Wilson, 95 %.
"""


if __name__ == "__main__":
    main()
