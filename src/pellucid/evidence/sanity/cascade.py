"""Cascade: the network randomized block by block; how alike the maps of every stage are to its own. One engine for all checks that randomize."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.evidence.panel import Panel
from pellucid.evidence.sanity.alike import Alike, Side, complexity, empty
from pellucid.evidence.sanity.shuffling import Block, How, Shuffler
from pellucid.model import Model

Order = Literal["top-down", "bottom-up", "independent"]
Blocks = tuple[Block, ...]


def copies(shuffler: Shuffler, blocks: Blocks, draws: int, chance: torch.Generator, how: How = "shuffled") -> Iterator[Model]:
    """Copies with these blocks randomized, each drawn anew; one lives at a time."""
    for _ in range(draws):
        yield shuffler.randomize(blocks, chance, how)


def sizes(blocks: int, stages: int) -> list[int]:
    """How many blocks are randomized at each stage, ``stages`` at most: the head alone, half (rounded down), all, and others evenly between."""
    half = max(1, blocks // 2)
    if stages >= blocks:
        return list(range(1, blocks + 1))
    if stages < 3:
        return sorted({half, blocks} if stages == 2 else {blocks})
    found = [round(1 + (blocks - 1) * k / (stages - 1)) for k in range(stages)]
    inner = min(range(1, stages - 1), key=lambda k: (abs(found[k] - half), k))
    found[inner] = half
    return sorted(set(found))


def planned(shuffler: Shuffler, order: Order, stages: int) -> list[Blocks]:
    """The blocks of each stage: growing from the output down or from the input up, or one alone at a time."""
    blocks, n = shuffler.blocks, len(shuffler.blocks)
    if order == "top-down":
        return [blocks[n - size :] for size in sizes(n, stages)]
    if order == "bottom-up":
        return [blocks[:size] for size in sizes(n, stages)]
    spread = range(n) if stages >= n else sorted({round((n - 1) * k / max(1, stages - 1)) for k in range(stages)})
    return [blocks[k : k + 1] for k in reversed(spread)]


@dataclass(frozen=True)
class Seen:
    """One map of one randomized copy: how alike it is to the network's own, how complex, and whether it is empty."""

    alike: Alike
    complexity: float
    empty: bool


@dataclass(frozen=True)
class Stage:
    """What was found with ``blocks`` randomized: maps by name and draw; the copies' scores and the entropy of their outputs; for the stage
    where all is randomized ``pairs``: how alike the maps of two independent copies are."""

    blocks: int
    names: tuple[str, ...]
    seen: dict[str, list[Seen]]
    scores: list[float]
    entropies: list[float | None]
    pairs: dict[str, list[Alike]]


Maps = Callable[[Model | None, int], dict[str, Tensor]]  # a copy (None: the network) and its number -> maps


def run(
    panel: Panel, shuffler: Shuffler, plan: Sequence[Blocks], maps: Maps, own: dict[str, Tensor], key: str, how: How, draws: int
) -> list[Stage]:
    """All stages; each copy is made once for all maps, and a stage that another metric of the panel has run with the same key is not run again."""
    found: dict[int, Stage] = {}
    keys = [f"{key} {how} {draws} {[b.names for b in blocks]}" for blocks in plan]
    todo = [k for k in range(len(plan)) if keys[k] not in panel.kept]
    sides = {n: Side.of(v) for n, v in own.items()} if todo else {}
    whole = {k: len(plan[k]) == len(shuffler.blocks) for k in range(len(plan))}
    for k in todo:
        stage = Stage(len(plan[k]), tuple(n for b in plan[k] for n in b.names), {n: [] for n in own}, [], [], {n: [] for n in own})
        earlier: dict[str, list[Side]] = {n: [] for n in own}
        chance = panel.chance(f"randomization {how} {[b.names[0] for b in plan[k]]}")  # of the stage alone, whatever else is run
        for twin in copies(shuffler, plan[k], draws, chance, how):
            stage.scores.extend(panel.scores([panel.x], twin))
            stage.entropies.append(panel.entropy(twin))
            for name, there in maps(twin, len(stage.scores)).items():
                side = Side.of(there)
                stage.seen[name].append(Seen(Alike.between(sides[name], side), complexity(there), empty(there)))
                if whole[k]:
                    stage.pairs[name] += [Alike.between(e, side) for e in earlier[name]]
                    earlier[name].append(side)
        found[k] = panel.kept[keys[k]] = stage
    return [panel.kept[key] for key in keys]


def repeatable(panel: Panel) -> tuple[list[str], list[str]]:
    """Names of maps that can be made anew by a copy of the network, and of those that cannot."""
    can = [n for n, e in panel.entries.items() if e.ask is not None or e.draws is not None or e.after is not None]
    return can, [n for n in panel.entries if n not in can]


def anew(panel: Panel, names: Sequence[str], images: Sequence[Tensor], model: Model | None, number: int) -> dict[str, list[Tensor]]:
    """Maps made anew by a copy. Methods keep their seed, so that their own noise is the same; controls of pure chance draw another one."""
    drawn = [n for n in names if panel.entries[n].draws is not None]
    found = panel.anew([n for n in names if n not in drawn], images, model=model)
    return found | (panel.anew(drawn, images, model=model, seed=panel.run.seed + number) if drawn else {})
