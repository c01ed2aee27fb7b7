"""How often the verdict is right: python studies/verdict.py [cases per row] -> docs/verdict.md

Seven kinds of map per case. A trained network's own map (should be supported). The map of a network of the same architecture with untrained weights,
another draw for each case; the edges of the image passed off as the trained network's map; and the trained network's map with a planted fault of its
method: turned to its negative, mirrored, shifted by a third of each side, its samples in random order (none should be). The trained ones
are the networks that ship and a family whose behavior was verified by intervention (studies/family.py): a network that rests on a shortcut has
learned something too, and its maps are to be supported as explanations of the network. Cases are held-out phantoms that the network calls positive.
Rows are kept in out/verdict under the hash of the evidence's code: a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import family
import family_nets as own
from studies.pages import code, put, stamp

import pellucid as pl
from pellucid.evidence import Level, examine
from pellucid.evidence.case import EFFORTS, Case
from pellucid.evidence.checks import checked
from pellucid.evidence.faithfulness.examined import NAMES, curves_of
from pellucid.evidence.verdict import SUM, verdict
from pellucid.explanation import Map, Measurement
from pellucid.image import Image
from pellucid.ops.edges import sobel
from pellucid.phantoms import nets
from pellucid.phantoms.cohort import cases
from pellucid.phantoms.drawing import Phantom
from pellucid.run import Run

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "verdict"
SEED = 8642  # phantoms that no training and no tuning has seen
UNTRAINED = 9000  # first seed of the untrained weights
SHIPPED = {"fundus_dme": ("dme", 1), "chest": ("effusion", 0), "brain_atrophy": ("atrophy", 1)}  # label, output
PART = {"fundus_dme": "edema", "chest": "effusion", "brain_atrophy": "causal"}  # the mask of the cause
METHODS = ("integrated gradients", "occlusion")
COMPLETE = 0.05  # of the change: what a map's sum may miss and still count as a complete one


def _permuted(relevance: Tensor) -> Tensor:
    order = torch.randperm(relevance.numel(), generator=torch.Generator().manual_seed(1))
    return relevance.flatten()[order].view_as(relevance)


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "inverted": lambda r: -r,
    "mirrored": lambda r: r.flip(-1),
    "shifted": lambda r: r.roll([n // 3 for n in r.shape], list(range(r.ndim))),
    "permuted": _permuted,
}
KINDS = ("trained", "untrained", "edges", *FAULTS)


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
    uses: tuple[str, ...]  # masks of what interventions showed it to use


def rows_of_the_study() -> list[Row]:
    """The family and the shipped networks (of which tuning has seen other cases), in an order in which a run that is cut off has seen both kinds."""
    rows = []
    for m in family.members():
        if m.role != "random" and m.above_chance:
            label = "shortcut" if m.role == "shortcut" else own.LABEL[m.kind]
            fresh = lambda s, m=m: own.untrained(m.kind, m.architecture, s)  # type: ignore[misc]  # noqa: E731
            uses = tuple(part for part, yes in ((PART[m.kind], m.uses_cause), ("shortcut", m.uses_shortcut)) if yes)
            rows.append(Row(m.name, "tuning" if m.tuning else "scoring", m.kind, m.net, fresh, label, 1, own.SIZES[m.kind], uses))
    for kind, (label, output) in SHIPPED.items():
        load, fresh = (lambda k=kind: nets.load(k)[0]), (lambda s, k=kind: nets.build(k, s))
        rows.append(Row(f"shipped {kind}", "tuning", kind, load, fresh, label, output, None, (PART[kind],)))
    return sorted(rows, key=lambda r: (r.part != "scoring", "excited" in r.name, not r.name.startswith("shipped"), r.name.split()[2:]))


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def seen(row: Row, net: nn.Module, n: int) -> Iterator[Phantom]:
    """Held-out positives that the network calls positive."""
    found = 0
    for case in cases(row.kind, 8 * n, SEED, size=row.size):
        positive = bool(case.masks["shortcut"].any()) if row.label == "shortcut" else case.labels[row.label] == 1
        if not positive or not _used(row, case).any():
            continue
        with torch.no_grad():
            z = net(case.image.values[None])[0]
        if bool(z[row.output] > 0) if len(z) == 3 else int(z.argmax()) == row.output:
            yield case
            found += 1
        if found == n:
            return


def _used(row: Row, case: Phantom) -> Tensor:
    """Where what the network uses lies in this picture."""
    return torch.stack([case.masks[part].bool() for part in row.uses]).any(0)


def asked(method: str, image: Image) -> str:
    """Integrated gradients with defaults; occlusion by an eighth of the side (a quarter in 3D), moved by half of it."""
    if method == "integrated gradients":
        return "integrated_gradients"
    window = image.grid.shape[0] // (8 if len(image.grid.shape) == 2 else 4)
    return f"occlusion(window='{window}px', stride='{window // 2}px')"


@dataclass
class Found:
    """Verdicts by kind of map, case by case; how far the trained network's maps and their faulty copies lie in what it uses (times chance), and what
    the trained ones' sums miss.
    """

    verdicts: dict[str, list[str]]
    inside: dict[str, list[float]]
    missed: list[float]


def own_and_faulty(model: pl.Model, why: Map, level: Level) -> Iterator[tuple[str, str, Tensor]]:
    """Kind, verdict and relevance of a map, and of what a method would give that makes the same map with a fault (or the image's edges) and promises
    no sum.

    Such a method repeats itself as the right one does and its maps change with the weights as those of the right one do, since rank correlations
    stay when both maps suffer the same fault; what it is told by is the curves, which are measured anew.
    """
    assert why.ask is not None
    case = Case.of(model, why, why.ask, Run(seed=why.provenance.seed), EFFORTS[level])
    found = tuple(checked(case))  # what examine() asks
    relevance = case.panel.relevance("map")
    yield "trained", verdict(found)[0], relevance
    others: list[Measurement] = [m for m in found if m.name not in (*NAMES, SUM)]
    for name, wrong in {"edges": sobel(case.x), **{name: fault(relevance) for name, fault in FAULTS.items()}}.items():
        yield name, verdict([*others, *curves_of(case, wrong, case.panel.neutrals["blurred copy"])])[0], wrong


def verdicts(row: Row, n: int, level: Level, method: str) -> tuple[Found, float]:
    """All of one row, and seconds per case."""
    net = row.net()
    several = "multi-label" if row.kind == "chest" and row.size is None else None
    found = Found({k: [] for k in KINDS}, {k: [] for k in KINDS if k != "untrained"}, [])
    began = time.process_time()
    for i, case in enumerate(seen(row, net, n)):
        model, fresh = (pl.Model(m, output=several) for m in (net, row.fresh(UNTRAINED + i)))  # type: ignore[arg-type]
        why = pl.explain(model, case.image, row.output, method=asked(method, case.image))
        mask = _used(row, case)
        for kind, word, relevance in own_and_faulty(model, why, level):
            mass = relevance.clamp(min=0)
            found.verdicts[kind].append(word)
            found.inside[kind].append(float(mass[mask].sum() / mass.sum() / mask.double().mean()) if mass.any() else 0.0)
        found.missed.append(abs(why.trace["gap"] / why.trace["change"]) if "gap" in why.trace else 0.0)
        other = pl.explain(fresh, case.image, row.output, method=asked(method, case.image))
        found.verdicts["untrained"].append(str(examine(fresh, case.image, other, level).verdict))
    return found, (time.process_time() - began) / max(1, len(found.missed))


def known(n: int, level: Level, most: float, method: str) -> dict[str, tuple[Row, Found]]:
    """Every row, measured where that is missing; none is begun after ``most`` seconds of the processor."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "rows.jsonl"
    kept = {tuple(r["key"]): Found(**r["found"]) for r in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    began, found = time.process_time(), {}
    for row in rows_of_the_study():
        key = (row.name, method, str(n), level, code("evidence"))
        if key not in kept:
            if time.process_time() - began > most:
                continue
            kept[key], seconds = verdicts(row, n, level, method)
            with path.open("a") as file:
                file.write(json.dumps({"key": key, "found": asdict(kept[key])}) + "\n")
            told = {k: dict(Counter(v)) for k, v in kept[key].verdicts.items()}
            print(method, row.name, told, f"{seconds:.1f} s each", flush=True)
        found[row.name] = row, kept[key]
    return found


def rate(k: int, n: int) -> str:
    """A rate with its interval."""
    low, high = wilson(k, n)
    return f"{k} of {n} | {low:.0%} - {high:.0%}"


def whole(found: list[Found]) -> str:
    """All rows as one, a line for each kind of map."""
    lines = ["| map | supported | 95 % interval | other verdicts | in what it uses |", "|---" * 5 + "|"]
    for kind in KINDS:
        given = [v for f in found for v in f.verdicts[kind]]
        other = ", ".join(f"{v} {c}" for v, c in Counter(given).items() if v != "supported") or "-"
        inside = [x for f in found for x in f.inside.get(kind, ())]
        groups = [[x for x, v in zip(inside, given, strict=True) if (v == "supported") == yes] for yes in (True, False)] if inside else []
        lie = " / ".join(f"{statistics.median(g):.1f}" if g else "-" for g in groups)
        lines.append(f"| {kind} | {rate(given.count('supported'), len(given))} | {other} | {lie} |")
    missed = [m for f in found for m in f.missed]
    if any(missed):
        sound = [v for v, m in zip((v for f in found for v in f.verdicts["trained"]), missed, strict=True) if m <= COMPLETE]
        lines.append(f"| trained, sum misses at most {COMPLETE:.0%} | {rate(sound.count('supported'), len(sound))} | | |")
    return "\n".join(lines)


def by_row(found: list[tuple[Row, Found]]) -> str:
    """How many maps of each kind were supported, network by network."""
    lines = ["| supported | cases | " + " | ".join(KINDS) + " | missed |", "|---" * (len(KINDS) + 3) + "|"]
    for row, f in found:
        counts = " | ".join(str(f.verdicts[k].count("supported")) for k in KINDS)
        missed = f"{statistics.median(f.missed):.0%}" if any(f.missed) else ""
        lines.append(f"| {row.name} | {len(f.missed)} | {counts} | {missed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=8, help="cases per row")
    parser.add_argument("--level", default="quick")
    parser.add_argument("--most", type=float, default=math.inf, help="Seconds of the processor after which a method begins no further row.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for method in METHODS:
        began = time.process_time()
        found = known(given.n, given.level, given.most, method)
        made = stamp("Made by `studies/verdict.py`", time.process_time() - began, f", phantoms of seed {SEED}", of="evidence")
        for part, said in (("scoring", "networks that no rule was tuned on"), ("tuning", "networks that tuning has seen (on other cases)")):
            rows = [(r, f) for r, f in found.values() if r.part == part and f.missed]
            if not rows:
                continue
            title = f"{method.capitalize()}: {said}, level {given.level}"
            put("verdict.md", HEAD, title, f"{len(rows)} networks.\n\n{whole([f for _, f in rows])}\n\n{by_row(rows)}\n\n{made}")


HEAD = """# How often the verdict is right

*trained*: the network's own map, to be supported (the sensitivity of the verdict). All others are not to be supported (false alarms):
*untrained*, the map of the same architecture with untrained weights, another draw per case; and the trained network's own map as a method with a fault would give it: *inverted* (its negative), *mirrored*, *shifted* (by a third of each side), *permuted*
(its samples in random order), or with the Sobel magnitude of the image (*edges*) in the map's place. A faulty method repeats itself and its maps change with the
weights; the same is granted to the edges, and no sum is asked of any of them, so that the curves alone can tell.
Cases are held-out phantoms that the trained network calls positive and that show what it uses. What that is was verified by intervention:
[family.md](family.md). A network that rests on a shortcut has learned it: its maps are faithful explanations of a bad network, and the verdict is
about the explanation. How a verdict is reached: [evidence.md](evidence.md).

Not every map of a trained network deserves support, and not every faulty copy lies wrong (what is mirrored in a bilateral change, or permuted within a large
one, may still lie in it): *in what it uses* is the median share of the map's positive mass in the
parts that the network was shown to use, in times chance, of supported maps / of the others; *missed*, the median share of the score's change that the map's sum
misses. `excited` has instance norm, which makes it nearly blind to a picture's scale: on the way from black all happens beside black, integrated gradients
miss most of the change, and the verdict says so.

Thresholds were set on blob images and their small networks, on residual networks trained on 64-sample phantoms, and on 16 to 24 phantoms of each shipped
network (seeds 5 and 6). The test beyond chance was chosen on seed 5 alone: six cases of each of the six networks `residual 0` and three of each shipped one.
Scoring runs on seeds 77, 1234 and 4321 led to changes and are not counted; what stands here is of seed 8642. Intervals: Wilson, 95 %;
networks of one kind are shown the same phantoms, so that rows are not independent and the intervals are too narrow.
"""


if __name__ == "__main__":
    main()
