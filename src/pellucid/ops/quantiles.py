"""Quantiles of values that pass by: exact while they fit, then a sketch that tells how far it may be off."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 8  # that a room is planned for: 2^8 rooms of values pass before another is opened


class Quantiles:
    """Rows of values, fed in pieces; afterwards the value that a share of each row lies above.

    Up to ``room`` values a row are kept as they are. A full room is sorted and every other value moves up a level, where it stands for two (Manku,
    Rajagopalan and Lindsay 1998); whether the first or the second of each pair stays takes turns. A move at a level of weight w changes the rank
    of any value by at most w, so ``error`` bounds what is lost, whatever the values are.

    >>> q = Quantiles(1, room=100)
    >>> q.add(np.arange(10.0)[None])
    >>> float(q.above(0.2)[0]), q.error  # two of ten values lie above 7
    (7.0, 0.0)
    """

    def __init__(self, rows: int, room: int) -> None:
        self.rows, self.room, self.count = rows, max(4, room - room % 2), 0
        self._levels: list[NDArray[Any]] = []
        self._filled: list[int] = []
        self._turns: list[int] = []
        self._lost = 0

    @classmethod
    def within(cls, rows: int, memory: int) -> Quantiles:
        """As much room as so many bytes give."""
        return cls(rows, memory // (8 * rows * LEVELS))

    def add(self, values: NDArray[Any]) -> None:
        """Values (rows, m), any m."""
        self.count += values.shape[1]
        self._put(0, values)

    def _put(self, level: int, values: NDArray[Any]) -> None:
        if level == len(self._levels):
            self._levels.append(np.empty((self.rows, 0)))
            self._filled.append(0)
            self._turns.append(0)
        at = 0
        while at < values.shape[1]:
            filled = self._filled[level]
            take = min(self.room - filled, values.shape[1] - at)
            if filled + take > self._levels[level].shape[1]:
                size = min(self.room, max(filled + take, 2 * filled))
                grown = np.empty((self.rows, size))
                grown[:, :filled] = self._levels[level][:, :filled]
                self._levels[level] = grown
            self._levels[level][:, filled : filled + take] = values[:, at : at + take]
            self._filled[level] += take
            at += take
            if self._filled[level] == self.room:
                self._halve(level)

    def _halve(self, level: int) -> None:
        full = np.sort(self._levels[level], axis=1)
        half = full[:, self._turns[level] :: 2]
        self._turns[level] ^= 1
        self._filled[level] = 0
        self._lost += 2**level
        self._put(level + 1, half)

    @property
    def error(self) -> float:
        """By how much the share above a value may differ from what was asked, at most."""
        return self._lost / self.count if self.count else 0.0

    def above(self, share: float) -> NDArray[np.float64]:
        """For each row the least kept value that no more than ``share`` of all lie above (rows,)."""
        kept = [lv[:, :n] for lv, n in zip(self._levels, self._filled, strict=True)]
        weights = np.repeat([2**k for k in range(len(kept))], self._filled)
        values = np.concatenate(kept, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        weighed = np.cumsum(weights[order], axis=1)
        at = (weighed <= share * self.count * (1 + 1e-12)).sum(1).clip(max=values.shape[1] - 1)
        found: NDArray[np.float64] = values[np.arange(self.rows), order[np.arange(self.rows), at]]
        return found
