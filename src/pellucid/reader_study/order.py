"""In which order a reader sees what: balanced over levels, cases and readers, drawn from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from pellucid.reader_study.material import Level, ReaderStudy


@dataclass(frozen=True)
class Showing:
    """One turn of a reader: which case, at which level, in which block."""

    position: int
    case: str
    level: Level
    block: int


def order(study: ReaderStudy, reader: str) -> tuple[Showing, ...]:
    """All turns of a reader, always the same for a reader's code and the study's seed.

    A block shows every case once. In block b case i is at level (place of i in the study's draw + b + the reader's start) mod the number of levels:
    a Latin square, so that every block has every level equally often (to one), every case meets every level once over the blocks, and the
    start, drawn for each reader, spreads what level comes first. Within a block cases are shuffled, but those of the second half of the block before
    come in the second half again: at least half of the cases (rounded down) lie between two sights of one case, so that with two cases or
    more none is ever seen twice in a row.
    """
    n, k = len(study.cases), len(study.levels)
    place = np.random.default_rng(_number(study.name, study.seed, "cases")).permutation(n)
    chance = np.random.default_rng(_number(study.name, study.seed, reader))
    start = int(chance.integers(k))
    turns: list[Showing] = []
    late: list[int] = []
    for block in range(k if study.crossed else 1):
        cases = _shuffled(n, late, chance)
        late = cases[n - n // 2 :]
        for i in cases:
            level = study.levels[(int(place[i]) + block + start) % k]
            turns.append(Showing(len(turns), study.cases[i].id, level, block))
    return tuple(turns)


def _shuffled(n: int, late: list[int], chance: np.random.Generator) -> list[int]:
    """All cases in random order; those that were late in the block before come in its second half."""
    waits = set(late)
    fresh = [i for i in chance.permutation(n).tolist() if i not in waits]
    later = [i for i in chance.permutation(n).tolist() if i in waits]
    return fresh + later


def _number(*words: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:8], "little")
