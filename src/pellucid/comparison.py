"""Comparison: several maps of one scan side by side, as a table and as a figure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pellucid import io
from pellucid.errors import BadParameter
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.similarity import ranks, spearman
from pellucid.table import Table


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of one scan under short labels that say what differs between them.

    ``frame`` is the image on whose grid they are drawn and correlated. Of crops and zooms ``maps`` lie in parts of the frame, and the
    figure shows each as the network saw it and put back in the frame.
    """

    maps: tuple[Map, ...]
    labels: tuple[str, ...]
    frame: Image
    parts: bool = False

    def __len__(self) -> int:
        return len(self.maps)

    def __iter__(self) -> Iterator[Map]:
        return iter(self.maps)

    def __getitem__(self, label: str | int) -> Map:
        """A map by its label or its place."""
        if isinstance(label, int):
            return self.maps[label]
        if label not in self.labels:
            raise KeyError(f"no map {label!r}; there are {', '.join(self.labels)}")
        return self.maps[self.labels.index(label)]

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.labels)})"

    @cached_property
    def framed(self) -> tuple[Tensor, ...]:
        """Relevance (*space) of each map on the frame's grid, zero beyond the map."""
        return tuple(m.on(self.frame.grid).relevance for m in self.maps)

    @cached_property
    def correlations(self) -> Tensor:
        """Rank correlation of every pair of maps (n, n), signs counted, over the samples of the frame that both show; NaN for constants."""
        if not self.parts:
            rows = torch.stack([_standard(ranks(v)) for v in self.framed])
            return rows @ rows.T
        inside = [_covered(m, self.frame.grid) for m in self.maps]
        n = len(self.maps)
        pairs = [
            [spearman(self.framed[i][both], self.framed[k][both]) for k in range(n) for both in [inside[i] & inside[k]]] for i in range(n)
        ]
        return torch.tensor(pairs, dtype=torch.float64)

    def table(self) -> Table:
        """A row for each map: what was asked, the score, the sum, passes, seconds, the verdict; then its rank correlation with each map."""
        facts = ("map", "method", "target", "model", "site", "score", "sum", "forward", "backward", "seconds", "verdict")
        rows = []
        for label, m, alike in zip(self.labels, self.maps, self.correlations.tolist(), strict=True):
            p = m.provenance
            told = (label, p.method, p.target, p.model, p.site, m.score, m.total, p.forward, p.backward, p.seconds, m.evidence.verdict)
            rows.append((*told, *alike))
        return Table((*facts, *(f"like {name}" for name in self.labels)), tuple(rows))

    def figure(self, path: str | Path, *, columns: int | None = None, palette: str = "blue-orange") -> Path:
        """One PNG: the scan, then every map over it, zero clear, each with its scale; targets of one method and network share theirs.

        A volume is cut where the maps agree best: at the largest mean of their magnitudes. ``palette="green-red"`` marks signs.

        Raises:
            BadFile: another suffix than .png, no such folder, or a file there that is not Pellucid's to replace.
        """
        if columns is not None and columns < 1:
            raise BadParameter("columns is at least 1", repr(columns), "Leave it out.")
        tiles, wide = self._views() if self.parts else self._tiles()
        return io.write_sheet(path, tiles, columns=columns or wide, palette=palette, image=self.frame, words=self._words())

    def _words(self) -> io.Caption:
        """Below the figure: what was asked, where it is the same for all, and every verdict."""
        verdicts = [m.evidence.verdict or "not examined" for m in self.maps]
        said = {"Target": {_target(m) for m in self.maps}, "Network": {m.provenance.model or "unnamed" for m in self.maps}}
        texts = {k: next(iter(v)) for k, v in said.items() if len(v) == 1}
        each = {v: [label for label, w in zip(self.labels, verdicts, strict=True) if w == v] for v in dict.fromkeys(verdicts)}
        told = "; ".join(f"{v}: {', '.join(labels)}" for v, labels in each.items()) if len(each) > 1 else f"{verdicts[0]}: all maps"
        lines = (f"Evidence: {told}.", *(f"{k}: {v}" for k, v in texts.items()), io.WARNING)
        return io.Caption(lines, {**texts, "Verdict": told, "Warning": io.WARNING}, any(v in io.ALARMING for v in verdicts))

    def _tiles(self) -> tuple[list[io.Tile], int]:
        at, tops = self._cut(), self._tops()
        first = io.Tile("Scan", self.frame, None, " x ".join(map(str, self.frame.grid.shape)), at=at)
        rest = [
            io.Tile(label, self.frame, values, _note(m), tops[_family(m)], at=at)
            for label, m, values in zip(self.labels, self.maps, self.framed, strict=True)
        ]
        asked = [(m.provenance.target, m.provenance.model) for m in self.maps]
        each = asked.count(asked[0])
        if 1 < each < len(rest) and each <= 6 and asked == [a for a in dict.fromkeys(asked) for _ in range(each)]:
            return [
                t for n, tile in enumerate(rest) for t in ([first, tile] if n % each == 0 else [tile])
            ], each + 1  # a row for each target
        n, most = len(rest) + 1, 2 if self.frame.grid.ndim == 3 else 5
        return [first, *rest], math.ceil(n / math.ceil(n / most))

    def _views(self) -> tuple[list[io.Tile], int]:
        """Crops and zooms: above what the network saw, with its map; below the same map in the frame, with the part's edge."""
        seen, back = [], []
        for label, m, values in zip(self.labels, self.maps, self.framed, strict=True):
            inside = m.on(m.image.grid).relevance
            top = io.full_color(inside)
            seen.append(io.Tile(label, m.image, inside, _note(m), top))
            outline = m.image.grid if m.image.grid != self.frame.grid else None
            back.append(io.Tile("in the full frame", self.frame, values, "", top, outline))
        return [*seen, *back], len(seen)

    def _tops(self) -> dict[str, float]:
        """The value of full color for each method and network, over all its targets."""
        found: dict[str, float] = {}
        for m, values in zip(self.maps, self.framed, strict=True):
            found[_family(m)] = max(found.get(_family(m), 0.0), io.full_color(values))
        return found

    def _cut(self) -> tuple[int, ...] | None:
        if self.frame.grid.ndim == 2:
            return None
        mean = torch.zeros(self.frame.grid.shape, dtype=torch.float64)
        for values in self.framed:
            mean += values.abs().double() / max(float(values.abs().max()), 1e-300)
        return tuple(int(i) for i in np.unravel_index(int(mean.argmax()), self.frame.grid.shape))


def _standard(values: Tensor) -> Tensor:
    values = values - values.mean()
    norm = float(values.norm())
    return values / norm if norm > 0 else torch.full_like(values, math.nan)


def _covered(m: Map, grid: Grid) -> Tensor:
    """Where the explained part lies in a grid."""
    return replace(m.image, values=torch.ones_like(m.image.values[:1]), channels=()).on(grid, fill=0.0).values[0] > 0.5


def name_them(maps: Sequence[Map]) -> tuple[str, ...]:
    """Labels that say only what differs: the method (with parameters where two differ in them), target, network, site."""
    parts: list[list[str]] = []
    methods = [m.provenance.method for m in maps]
    short = [t.split("(")[0] + (f"({found[1]})" if (found := re.search(r"inner=(\w+)", t)) else "") for t in methods]
    same = {s: {t for t, u in zip(methods, short, strict=True) if u == s} for s in short}
    parts.append([s if len(same[s]) == 1 else f"{s}({_differing(t, same[s])})" for s, t in zip(short, methods, strict=True)])
    several = {t: len({m.provenance.site for m in maps if m.provenance.method == t}) > 1 for t in methods}
    sites = [f"at {m.provenance.site}" if several[m.provenance.method] else "" for m in maps]
    parts += [[_target(m) for m in maps], [m.provenance.model for m in maps], sites]
    telling = [p for n, p in enumerate(parts) if n == 0 or len(set(p)) > 1]
    labels = [", ".join(filter(None, words)) for words in zip(*telling, strict=True)]
    return tuple(f"{label} #{labels[:n].count(label) + 1}" if labels.count(label) > 1 else label for n, label in enumerate(labels))


def _differing(text: str, among: set[str]) -> str:
    """The parameters in which one bound method differs from others of its name."""
    split = {t: set(re.split(r", (?=\w+=)", t.partition("(")[2].removesuffix(")"))) for t in among}
    shared = set.intersection(*split.values())
    return ", ".join(p for p in re.split(r", (?=\w+=)", text.partition("(")[2].removesuffix(")")) if p not in shared)


def _target(m: Map) -> str:
    """The target as a person says it: a class by its name."""
    name, unit = io.target_of({"target": m.provenance.target, "classes": m.provenance.classes, "output": m.provenance.output})
    return f"probability of {name}" if unit == "probability" and "(" not in name else name


def _family(m: Map) -> str:
    return f"{m.provenance.method} {m.provenance.model} {m.provenance.site}"


def _note(m: Map) -> str:
    verdict = m.evidence.verdict or "not examined"  # first: what does not fit is cut at the end
    return f"{verdict}; score {m.score:.3g}, {f'sum {m.total:.3g}' if m.values.any() else 'zero everywhere'}"
