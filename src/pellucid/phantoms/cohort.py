"""Balanced sets of labelled phantoms, each part present by its own coin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from pellucid.errors import BadParameter
from pellucid.phantoms.brain import brain
from pellucid.phantoms.chest import chest
from pellucid.phantoms.drawing import Dice, Phantom
from pellucid.phantoms.fundus import fundus
from pellucid.phantoms.spectrogram import SOURCES, spectrogram

FINDINGS = ("effusion", "cardiomegaly", "infiltration")
KINDS = ("fundus_dme", "fundus_dr", "chest", "brain_atrophy", "spectrogram")


def cases(kind: str, n: int, seed: int = 0, *, size: int | None = None, confounding: float = 0.0) -> Iterator[Phantom]:
    """``n`` phantoms of one kind, their labels balanced; shortcut, distractor and suppressor are present by coins of their own.

    ``kind`` is ``fundus_dme``, ``fundus_dr`` (five stages), ``chest`` (three findings, each in half of the films), ``brain_atrophy`` or
    ``spectrogram`` (a violin in half of the clips; of the others two in five are silent; every other source by a coin of its own).
    ``confounding`` is the share of cases whose shortcut follows the (first) label instead of its coin: 0 none, 1 all. Strengths of lesions
    vary from 0.7 to 1. Case ``i`` of seed ``s`` is always the same patient, however many are asked for.

    Raises:
        BadParameter: a kind that does not exist.

    >>> [eye.labels["dme"] for eye in cases("fundus_dme", 4)]
    [0, 1, 0, 1]
    """
    if kind not in KINDS:
        raise BadParameter(f"a kind of phantom is one of {', '.join(KINDS)}", repr(kind), "Choose one of them.")
    makers: dict[str, Callable[..., Phantom]] = {"fundus": fundus, "chest": chest, "brain": brain, "spectrogram": spectrogram}
    for i in range(n):
        dice = Dice(kind, seed, f"case {i}")
        word = hashlib.sha256(f"{kind}/{seed}/{i}".encode()).digest()[:4]
        patient: dict[str, Any] = {"seed": int.from_bytes(word, "little"), "strength": dice.uniform(0.7, 1.0)}
        patient |= {} if size is None else {"size": size}
        patient |= {part: dice.flip() * dice.uniform(0.6, 1.0) for part in ("shortcut", "distractor", "suppressor")}
        follows, power = dice.flip(confounding), dice.uniform(0.6, 1.0)
        label: int
        if kind == "fundus_dme":
            label = i % 2
            patient |= {"dme": bool(label), "stage": (0, 0, 0, 1, 1, 2, 2, 3)[dice.integer(0, 7)]}
        elif kind == "fundus_dr":
            label = i % 5
            patient |= {"stage": label}
        elif kind == "chest":
            label = i % 2
            patient |= dict(zip(FINDINGS, (bool(label), bool(i // 2 % 2), bool(i // 4 % 2)), strict=True))
            patient |= {"marker": "LR"[dice.integer(0, 1)]}
        elif kind == "spectrogram":
            label = (i + 1) % 2
            patient |= {source: i % 10 not in (7, 9) and dice.flip(0.4) for source in SOURCES} | {"violin": bool(label)}
        else:
            label = i % 2
            patient |= {"atrophy": bool(label)}
        if follows:
            patient["shortcut"] = power if label else 0.0
        yield makers[kind.split("_")[0]](**patient)
