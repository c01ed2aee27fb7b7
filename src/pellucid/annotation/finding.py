"""Finding: a box on a scan's own grid, and the samples in it that belong to the finding where they are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.errors import BadParameter

State = Literal["proposed", "accepted", "rejected"]
Corner = tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """A box (``start`` inclusive, ``stop`` exclusive, in samples of the scan as stored) and what became of it.

    ``runs`` is the mask inside the box, sample after sample in memory order, as lengths of runs, off first; None: the whole box. ``origin`` says
    who drew it first, ``touched`` whether the reader moved, resized or repainted it; ``score`` is the map's share of relevance in it.
    """

    number: int
    start: Corner
    stop: Corner
    state: State = "proposed"
    origin: Literal["map", "reader"] = "map"
    touched: bool = False
    score: float | None = None
    label: str = "finding"
    runs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        inside = len(self.start) == len(self.stop) and all(0 <= a < b for a, b in zip(self.start, self.stop))
        if not inside or len(self.start) not in (2, 3):
            raise BadParameter("a box with a start and a later stop on each axis", f"{self.start} to {self.stop}", "Draw it larger.")
        if self.runs is not None and (sum(self.runs) != math.prod(self.extent) or min(self.runs) < 0):
            raise BadParameter(f"a mask of {math.prod(self.extent)} samples", f"runs of {sum(self.runs)}", "Draw it again.")

    @property
    def extent(self) -> Corner:
        """Samples along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def place(self) -> tuple[slice, ...]:
        """The box as an index."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def inner(self) -> Tensor:
        """The mask inside the box, bool."""
        if self.runs is None:
            return torch.ones(self.extent, dtype=torch.bool)
        on = torch.arange(len(self.runs)) % 2 == 1
        return torch.repeat_interleave(on, torch.tensor(self.runs)).view(self.extent)

    @property
    def size(self) -> int:
        """Samples that belong to it."""
        return math.prod(self.extent) if self.runs is None else sum(self.runs[1::2])

    def mask(self, shape: Sequence[int]) -> Tensor:
        """The mask on the whole grid, bool.

        Raises:
            BadParameter: a box that leaves the grid.
        """
        self.check(shape)
        found = torch.zeros(tuple(shape), dtype=torch.bool)
        found[self.place] = self.inner
        return found

    def check(self, shape: Sequence[int]) -> None:
        """Refuse a box that leaves a grid.

        Raises:
            BadParameter: naming both.
        """
        if len(shape) != len(self.stop) or any(b > n for b, n in zip(self.stop, shape, strict=True)):
            raise BadParameter(f"a box inside {tuple(shape)}", f"{self.start} to {self.stop}", "Draw it on this scan.")

    def boxed(self, start: Sequence[int], stop: Sequence[int]) -> Finding:
        """In another box: a mask moves along where the extent stays, and is cut to what both boxes share where it changes."""
        start, stop = tuple(map(int, start)), tuple(map(int, stop))
        moved = replace(self, start=start, stop=stop, touched=True, runs=None)
        if self.runs is None:
            return moved
        if moved.extent == self.extent:
            return replace(moved, runs=self.runs)
        inner = torch.zeros(moved.extent, dtype=torch.bool)
        low = tuple(max(a, b) for a, b in zip(start, self.start, strict=True))
        high = tuple(min(a, b) for a, b in zip(stop, self.stop, strict=True))
        if all(a < b for a, b in zip(low, high, strict=True)):
            into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
            out_of = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, self.start, strict=True))
            inner[into] = self.inner[out_of]
        return replace(moved, runs=runs_of(inner))

    def painted(self, mask: Tensor) -> Finding:
        """With another mask (*space) of the whole grid, and the tightest box around it.

        Raises:
            BadParameter: an empty mask.
        """
        start, stop = box_of(mask)
        return replace(self, start=start, stop=stop, touched=True, runs=runs_of(mask[tuple(slice(a, b) for a, b in zip(start, stop))]))

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Finding:
        """The reverse of ``facts``."""
        known = {f.name for f in fields(cls)}
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k in known}
        return cls(**given)


def runs_of(mask: Tensor) -> tuple[int, ...]:
    """Lengths of runs in memory order, off first.

    >>> runs_of(torch.tensor([True, True, False]))
    (0, 2, 1)
    """
    values = mask.flatten().tolist()
    found = [len(list(run)) for _, run in itertools.groupby(values)]
    return tuple([0, *found] if values and values[0] else found)


def box_of(mask: Tensor) -> tuple[Corner, Corner]:
    """The tightest box around a mask (*space).

    Raises:
        BadParameter: an empty mask.
    """
    at = mask.nonzero()
    if not len(at):
        raise BadParameter("a mask with a sample in it", "an empty one", "Draw the finding, or reject it.")
    return tuple(at.min(0).values.tolist()), tuple((at.max(0).values + 1).tolist())


def overlap(a: Finding, b: Finding) -> float:
    """Intersection over union of two boxes.

    >>> overlap(Finding(1, (0, 0), (2, 2)), Finding(2, (0, 1), (2, 3)))
    0.3333333333333333
    """
    shared = math.prod(max(0, min(p, q) - max(s, t)) for s, t, p, q in zip(a.start, b.start, a.stop, b.stop, strict=True))
    return shared / (math.prod(a.extent) + math.prod(b.extent) - shared)
