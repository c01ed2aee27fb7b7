"""Exact search: the nearest rows of a table, by a float32 product that leaves out nothing that rounding could have hidden, ranked in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.errors import BadImage, BadParameter
from pellucid.exemplars.coarse import Coarse

Metric = Literal["cosine", "euclidean"]
Rows = NDArray[np.float32]
AT_ONCE = 2**22  # products held at a time (16 MiB: they stay in the cache)
LEADING = 31  # directions of a screen; with the length of the rest 32 numbers a row
SCREENED = 2**21  # numbers in a table from which a single query is screened first,
WIDE = 2048  # in rows of up to so many: finding directions takes the third power
SAMPLE = 4096  # rows that the directions of a screen are found from
FEW = 64  # rows looked at in full before the screen is read
SHARE = 8  # a screen that leaves more than one row in so many is not worth its gathering
TRIED = 8  # rows by which the two screens of a table are compared


@dataclass(frozen=True)
class Found:
    """The nearest rows of one query, the nearest first: their places (k,) and distances (k,), float64; equal ones by place."""

    places: NDArray[np.int64]
    distances: NDArray[np.float64]


def unit_rows(rows: NDArray[np.floating]) -> Rows:
    """Rows (n, d) of length 1.

    Raises:
        BadImage: a row of zeros, which has no direction.
    """
    length = np.linalg.norm(rows.astype(np.float64), axis=1)
    if (length == 0).any():
        nothing = int(np.flatnonzero(length == 0)[0])
        raise BadImage("features with a direction", f"only zeros for image {nothing}", "Choose another site, or metric='euclidean'.")
    return np.asarray(rows / length[:, None], np.float32)


@dataclass(frozen=True, eq=False)
class Search:
    """Rows (n, d) made ready for exact search; ``cosine`` brings rows and queries to length 1.

    ``cosine`` is 1 minus the cosine, ``euclidean`` the length of the difference. Both rank as the squared difference, whose float32 error is
    bounded by (d + 4) 2^-24 (|r| + |q|)^2: every row that could be among the nearest within that error is measured again in float64.
    A single query of a large table first reads less of each row, for a lower bound of its distance: 32 numbers (coordinates along the table's
    leading directions, and the length of what they leave out), or where the table has no such directions, its rows in bytes (``Coarse``). Neither
    ever changes the answer, only which rows are read in full.
    """

    rows: Rows
    metric: Metric

    @classmethod
    def over(cls, rows: NDArray[np.floating], metric: Metric = "cosine") -> Search:
        """Rows as given, checked."""
        if metric not in get_args(Metric):
            raise BadParameter("metric is cosine or euclidean", repr(metric), "Choose one of them.")
        if rows.ndim != 2 or not rows.size:
            raise BadParameter("rows (n, d), at least one", f"shape {rows.shape}", "Give a table, a row an image.")
        if not np.isfinite(rows).all():
            raise BadImage("finite features", "NaN or infinity", "Look at the images' values.")
        return cls(_own(unit_rows(rows) if metric == "cosine" else rows), metric)

    @cached_property
    def squares(self) -> Rows:
        return _squares(self.rows)

    @cached_property
    def longest(self) -> float:
        return float(np.sqrt(self.squares.max()))

    @cached_property
    def screen(self) -> tuple[Rows, Rows, NDArray[np.float64], NDArray[np.float64]]:
        """(n, 32) coordinates and lengths of the rest, their squares, the mean row and the directions (d, 31)."""
        some = self.rows[:: max(1, len(self.rows) // SAMPLE)].astype(np.float64)
        middle = some.mean(0)
        _, axes = np.linalg.eigh((some - middle).T @ (some - middle))
        axes = np.ascontiguousarray(axes[:, -LEADING:])
        low = np.empty((len(self.rows), axes.shape[1] + 1), np.float32)
        for at in range(0, len(low), 8192):
            low[at : at + 8192] = _lowered(self.rows[at : at + 8192].astype(np.float64) - middle, axes)
        return low, _squares(low), middle, axes

    @cached_property
    def coarse(self) -> Coarse | None:
        return Coarse.of(self.rows)

    @cached_property
    def directed(self) -> bool:
        """Whether leading directions leave few rows: of some rows of the table, asked about all others."""
        if self.coarse is None:
            return True
        places = np.linspace(0, len(self.rows) - 1, TRIED).astype(int)
        left = [self._leading(self.rows[p], 1, np.arange(len(self.rows)) == p) for p in places]
        return sum(len(found) * SHARE <= len(self.rows) for found in left) > TRIED // 2

    def nearest(self, queries: NDArray[np.floating], k: int, *, leave: NDArray[np.bool_] | None = None) -> list[Found]:
        """The ``k`` nearest rows of each query (q, d), fewer where fewer are left; rows marked in ``leave`` (n,) are left out of all.

        Raises:
            BadParameter: queries of another width, or no k.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise BadParameter("k is a whole number of at least 1", repr(k), "Say how many.")
        if queries.ndim != 2 or queries.shape[1] != self.rows.shape[1]:
            raise BadParameter(f"queries (q, {self.rows.shape[1]})", f"shape {queries.shape}", "Describe them by the same measure.")
        q = _own(unit_rows(queries) if self.metric == "cosine" else queries)
        k = min(k, len(self.rows) - (0 if leave is None else int(leave.sum())))
        if k < 1:
            return [Found(np.empty(0, np.int64), np.empty(0)) for _ in q]
        if len(q) == 1 and self.rows.size >= SCREENED and 2 * LEADING < self.rows.shape[1] <= WIDE:
            found = self._screened(q[0], k, leave)
            if found is not None:
                return [found]
        step = max(1, AT_ONCE // len(self.rows))
        return [f for at in range(0, len(q), step) for f in self._multiplied(q[at : at + step], k, leave)]

    def _multiplied(self, q: Rows, k: int, leave: NDArray[np.bool_] | None) -> list[Found]:
        rough = _rough(self.rows, self.squares, q)
        found = []
        for one, far in zip(q, rough, strict=True):
            if leave is not None:
                far[leave] = np.inf
            found.append(self._ranked(one, k, np.flatnonzero(_within(far, k, self._error(one)))))
        return found

    def _screened(self, q: Rows, k: int, leave: NDArray[np.bool_] | None) -> Found | None:
        """As ``_multiplied``, or None where the screens leave too many rows."""
        for screen in (self._leading, self._bytes) if self.directed else (self._bytes,):
            places = screen(q, k, leave)
            if len(places) * SHARE <= len(self.rows):
                far = _rough(self.rows[places], self.squares[places], q[None])[0]
                return self._ranked(q, k, places[_within(far, k, self._error(q))])
        return None

    def _bytes(self, q: Rows, k: int, leave: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Rows that could be among the nearest, by their rows in bytes; all of them where there are none."""
        if self.coarse is None:
            return np.arange(len(self.rows))
        about, off = self.coarse.products(q)
        middle = torch.sub(torch.from_numpy(self.squares), about, alpha=2)
        if leave is not None:
            middle[torch.from_numpy(leave)] = torch.inf
        reach = float(torch.add(middle, off, alpha=2).topk(k, largest=False).values.max()) + 2 * self._error(q)
        found: NDArray[np.int64] = (torch.sub(middle, off, alpha=2) <= reach).nonzero()[:, 0].numpy()
        return found

    def _leading(self, q: Rows, k: int, leave: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Rows that could be among the nearest, by the table's leading directions."""
        low, squares, middle, axes = self.screen
        down = _lowered((q.astype(np.float64) - middle)[None], axes)
        least = _rough(low, squares, down)[0]
        if leave is not None:
            least[leave] = np.inf
        first = torch.from_numpy(least).topk(min(k + FEW, len(least)), largest=False).indices.numpy()
        first = first[np.isfinite(least[first])]
        reach = np.partition(self._squared(q, first), k - 1)[k - 1]
        own = float((down.astype(np.float64) ** 2).sum())
        return np.flatnonzero(least <= reach - own + 2 * self._error(q))

    def _error(self, q: Rows) -> float:
        return (self.rows.shape[1] + 4) * 2.0**-24 * (self.longest + float(np.linalg.norm(q))) ** 2

    def _squared(self, q: Rows, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Squared differences in float64, a thousand rows at a time."""
        parts = [places[at : at + 1024] for at in range(0, len(places), 1024)]
        return np.concatenate([((self.rows[p].astype(np.float64) - q.astype(np.float64)) ** 2).sum(1) for p in parts])

    def _ranked(self, q: Rows, k: int, places: NDArray[np.int64]) -> Found:
        squared = self._squared(q, places)
        order = np.lexsort((places, squared))[:k]
        best = squared[order]
        return Found(places[order], best / 2 if self.metric == "cosine" else np.sqrt(best))


def _own(rows: NDArray[np.floating]) -> Rows:
    """Float32, row after row, and writable, as torch wants it: a table in a file that is open for reading only is copied."""
    return np.require(rows, np.float32, ["C", "W"])


def _squares(rows: Rows) -> Rows:
    return np.concatenate([(rows[at : at + 8192].astype(np.float64) ** 2).sum(1) for at in range(0, len(rows), 8192)]).astype(np.float32)


def _rough(rows: Rows, squares: Rows, q: Rows) -> Rows:
    """Squared differences (q, n) in float32, less the square of the query."""
    return torch.addmm(torch.from_numpy(squares)[None], torch.from_numpy(q), torch.from_numpy(rows).T, alpha=-2).numpy()


def _within(far: Rows, k: int, error: float) -> NDArray[np.bool_]:
    """Which rows could be among the k nearest, their distances being known up to ``error``."""
    return np.asarray(np.isfinite(far) & (far <= np.partition(far, k - 1)[k - 1] + 2 * error))


def _lowered(rows: NDArray[np.float64], axes: NDArray[np.float64]) -> Rows:
    """Coordinates along the axes and the length of the rest: differences of these are never longer than those of the rows."""
    along = rows @ axes
    rest = np.sqrt(np.maximum((rows**2).sum(1) - (along**2).sum(1), 0))
    return np.concatenate([along, rest[:, None]], 1).astype(np.float32)
