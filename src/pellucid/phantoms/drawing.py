"""Shared rendering: a seeded source of chance per part, smooth fields, spots, strokes, ellipses, capsules, glyphs; Phantom itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.image import Image

VISIBLE = 0.02  # opacity under which a part is cut off, so that a twin differs inside the part's mask alone


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic patient: the picture, where each part lies, what is true of it, and the call that made it.

    ``masks`` are bool ``(*space)``: ``causal`` (what the label rests on), ``shortcut``, ``distractor``, ``suppressor`` and ``background``
    (outside the body) never overlap; empty where the part is absent. Anatomy and single findings have masks too, which may overlap.
    """

    image: Image
    masks: Mapping[str, Tensor]
    labels: Mapping[str, int | float]
    parameters: Mapping[str, Any]
    maker: Callable[..., Phantom]

    def __post_init__(self) -> None:
        for name in ("masks", "labels", "parameters"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        return Phantom, (self.image, dict(self.masks), dict(self.labels), dict(self.parameters), self.maker)

    def twin(self, **changes: Any) -> Phantom:
        """The same patient with other switches; equal to this one outside the masks of the parts that changed."""
        return self.maker(**{**self.parameters, **changes})


class Dice:
    """Chance for one part of one phantom: its own generator, so that a switch never moves what another part draws."""

    def __init__(self, kind: str, seed: int, part: str) -> None:
        word = hashlib.sha256(f"{kind}/{seed}/{part}".encode()).digest()[:8]
        self.generator = torch.Generator().manual_seed(int.from_bytes(word, "little") >> 1)
        self.ready: list[float] = []

    def uniform(self, low: float, high: float) -> float:
        """One number between ``low`` and ``high``."""
        if not self.ready:
            self.ready = torch.rand(64, generator=self.generator).tolist()
        return low + (high - low) * self.ready.pop()

    def uniforms(self, n: int, low: float, high: float) -> Tensor:
        """``n`` numbers between ``low`` and ``high``: (n,)."""
        return low + (high - low) * torch.rand(n, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return min(high, int(self.uniform(low, high + 1)))

    def flip(self, chance: float = 0.5) -> bool:
        """True with the given chance."""
        return self.uniform(0.0, 1.0) < chance

    def noise(self, shape: Sequence[int]) -> Tensor:
        """White Gaussian noise of standard deviation 1."""
        return torch.randn(tuple(shape), generator=self.generator)

    def field(self, shape: Sequence[int], cells: int) -> Tensor:
        """A smooth random field of standard deviation about 1 with ``cells`` bumps per axis: ``shape``."""
        coarse = torch.randn((1, 1, *[cells + 3] * len(shape)), generator=self.generator)
        fine = F.interpolate(coarse, tuple(shape), mode="bicubic" if len(shape) == 2 else "trilinear", align_corners=True)[0, 0]
        return fine / fine.std().clamp_min(1e-6)


def check_size(size: int, least: int) -> int:
    """The size if a phantom can be drawn at it.

    Raises:
        BadParameter: too small for its parts to be seen.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < least:
        raise BadParameter(f"size is a whole number of at least {least}", repr(size), "Smaller phantoms would lose their lesions.")
    return size


def check_strength(name: str, value: float) -> float:
    """The strength of a switch: False and True read as 0 and 1.

    Raises:
        BadParameter: not a number from 0 to 1.
    """
    if not isinstance(value, (bool, int, float)) or not 0 <= float(value) <= 1:
        raise BadParameter(f"{name} is True, False or a strength from 0 to 1", repr(value), "Change the value.")
    return float(value)


def soft(distance: Tensor, width: float) -> Tensor:
    """Opacity from a signed distance (negative inside): 1 inside, 0 outside, linear over ``width``."""
    return (0.5 - distance / width).clamp(0, 1)


def visible(alpha: Tensor) -> Tensor:
    """Opacity with its faint hem cut off, so that a part ends where its mask ends."""
    return torch.where(alpha > VISIBLE, alpha, 0.0)


def over(picture: Tensor, color: Tensor | Sequence[float], alpha: Tensor) -> Tensor:
    """Color laid over a picture (c, *space) with opacity ``alpha`` (*space); untouched where alpha is 0."""
    color = torch.as_tensor(color, dtype=picture.dtype)
    color = color.reshape(-1, *[1] * alpha.ndim) if color.ndim == 1 else color
    return picture + alpha * (color - picture)


def ellipse(at: Sequence[Tensor], center: Sequence[float], radii: Sequence[float], angle: float = 0.0) -> Tensor:
    """Approximate signed distance to an ellipse or ellipsoid; ``angle`` turns the first two axes, in radians."""
    p = [a - c for a, c in zip(at, center)]
    if angle:
        t = torch.tensor(angle)
        p[0], p[1] = p[0] * t.cos() + p[1] * t.sin(), p[1] * t.cos() - p[0] * t.sin()
    p = [q / r for q, r in zip(p, radii)]
    k0 = sum((q * q for q in p), torch.zeros(())).sqrt()
    k1 = sum(((q / r) ** 2 for q, r in zip(p, radii)), torch.zeros(())).sqrt()
    return k0 * (k0 - 1) / k1.clamp_min(1e-6)


def capsules(at: Sequence[Tensor], points: Sequence[Sequence[float]], *radii: Sequence[float]) -> list[Tensor]:
    """Signed distance to a chain of round cones through ``points``, one map for each list of radii (linear between the points)."""
    found: list[Tensor] = []
    for i, (a, b) in enumerate(pairwise(points)):
        axis = [q - p for p, q in zip(a, b)]
        length = sum(v * v for v in axis)
        from_a = [c - p for c, p in zip(at, a)]
        t = (sum((c * (v / length) for c, v in zip(from_a, axis)), torch.zeros(()))).clamp(0, 1)
        gap = sum(((c - t * v) ** 2 for c, v in zip(from_a, axis)), torch.zeros(())).sqrt()
        maps = [gap - (r[i] + (r[i + 1] - r[i]) * t) for r in radii]
        found = [torch.minimum(old, new) for old, new in zip(found, maps)] if found else maps
    return found


def spots(size: int, centers: Tensor, radii: Tensor, ragged: float = 0.0, phase: Tensor | None = None, edge: float = 1.0) -> Tensor:
    """Opacity (size, size) of round or ragged spots: centers (n, 2) as row and column, radii (n,), all in samples.

    Spots thinner than a sample grow fainter instead. ``ragged`` bends the outline by that share of the radius.
    """
    canvas = torch.zeros(size * size)
    if len(centers) == 0:
        return canvas.view(size, size)
    reach = int(float(radii.max()) * (1 + ragged) + edge / 2) + 1
    step = torch.arange(-reach, reach + 1)
    row = centers[:, 0].round().long()[:, None, None] + step[:, None]  # (n, k, 1)
    column = centers[:, 1].round().long()[:, None, None] + step  # (n, 1, k)
    down, right = row - centers[:, 0, None, None], column - centers[:, 1, None, None]
    outline = radii[:, None, None]
    if ragged:
        turn = torch.atan2(down, right)
        shift = (torch.zeros(len(centers)) if phase is None else phase)[:, None, None]
        waves = 0.5 * (2 * turn + shift).sin() + 0.3 * (3 * turn + 2.3 * shift).sin() + 0.3 * (5 * turn + 4.1 * shift).sin()
        outline = outline * (1 + ragged * waves)
    alpha = soft((down**2 + right**2).sqrt() - outline.clamp_min(0.5), edge) * (2 * radii[:, None, None]).clamp(max=1)
    inside = ((row >= 0) & (row < size)) & ((column >= 0) & (column < size))
    flat = (row * size + column).clamp(0, size * size - 1)
    return canvas.scatter_reduce_(0, flat.flatten(), (alpha * inside).flatten(), "amax").view(size, size)


def along(paths: Tensor, radii: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Polylines (n, m, 2) with radii (n, m) as ``points`` spots per segment: centers (k, 2) and radii (k,)."""
    t = torch.arange(points) / points
    a, b = paths[:, :-1, None], paths[:, 1:, None]
    wide = radii[:, :-1, None] + t * (radii[:, 1:, None] - radii[:, :-1, None])
    return (a + t[:, None] * (b - a)).reshape(-1, 2), wide.reshape(-1)


def window(distance: Tensor, radius: float) -> Tensor:
    """A round cosine hill: 1 in the middle, 0 beyond ``radius``."""
    return torch.where(distance < radius, 0.5 + 0.5 * (distance * (torch.pi / radius)).cos(), 0.0)


GLYPHS = {
    "0": "###|#.#|#.#|#.#|###", "1": ".#.|##.|.#.|.#.|###", "2": "###|..#|###|#..|###", "3": "###|..#|.##|..#|###",
    "4": "#.#|#.#|###|..#|..#", "5": "###|#..|###|..#|###", "6": "###|#..|###|#.#|###", "7": "###|..#|.#.|.#.|.#.",
    "8": "###|#.#|###|#.#|###", "9": "###|#.#|###|..#|###", "L": "#..|#..|#..|#..|###", "R": "##.|#.#|##.|#.#|#.#",
}  # fmt: skip


def letters(text: str, scale: float) -> Tensor:
    """Text in a 3 x 5 pixel face, ``scale`` samples per pixel: opacity (h, w)."""
    rows = [".".join(GLYPHS[c].split("|")[r] for c in text) for r in range(5)]
    face = torch.tensor([[float(mark == "#") for mark in row] for row in rows])
    size = (max(5, round(5 * scale)), max(face.shape[1], round(face.shape[1] * scale)))
    return F.interpolate(face[None, None], size, mode="bilinear" if scale > 1 else "nearest")[0, 0]


def stamp(size: int, text: str, scale: float, row: int, column: int) -> Tensor:
    """Text on an empty (size, size) canvas, its top left corner at ``row``, ``column`` (moved inside where it would leave)."""
    face, canvas = letters(text, scale), torch.zeros(size, size)
    h, w = face.shape
    row, column = min(max(row, 0), size - h), min(max(column, 0), size - w)
    canvas[row : row + h, column : column + w] = face
    return canvas


def place(dice: Dice, allowed: Tensor) -> tuple[int, ...]:
    """A random index among the True samples of ``allowed``; every sample has the same chance."""
    found = allowed.nonzero()
    return tuple(int(v) for v in found[dice.integer(0, len(found) - 1)])
