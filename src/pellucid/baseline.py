"""Baselines: where a path starts, and what a hidden part is filled with, in the image's own values."""

from __future__ import annotations

import ast
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any

import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.ops.blur import gaussian
from pellucid.params import Distance, Kind

Each = float | tuple[float, ...]  # a number, or one for each channel


@dataclass(frozen=True, eq=False)
class Setting:
    """What a baseline may look at: the image (c, *space), its grid, its lowest and highest value, and a source of chance.

    ``low`` and ``high`` are (c, 1, ..., 1) in float64: channels may have units of their own.
    """

    x: Tensor
    grid: Grid
    low: Tensor
    high: Tensor
    random: torch.Generator

    @property
    def width(self) -> Tensor:
        """From the lowest to the highest value, by channel."""
        return self.high - self.low

    @property
    def unit(self) -> Tensor:
        """What stands for one step in each channel: its width as a share of the widest, 1 where channels share a unit."""
        return torch.where(self.width > 0, self.width / self.width.max(), 1.0)

    def samples(self, length: Distance) -> tuple[float, ...]:
        """A length in samples along each axis."""
        return samples(length, self.grid)


def samples(length: Distance, grid: Grid) -> tuple[float, ...]:
    """A length in samples along each axis of a grid.

    Raises:
        BadParameter: millimeters on an image that has none.
    """
    unit = length.unit or grid.unit
    if unit == "px":
        return (length.value,) * grid.ndim
    if grid.unit != "mm":
        raise BadParameter("a length in mm needs an image that knows its spacing", repr(length), f"Write '{length.value:g}px'.")
    return tuple(length.value / s for s in grid.spacing)


def one_or_each(values: Tensor) -> Each:
    """A number of each channel (c, 1, ..., 1): one number where all are equal, else all of them."""
    each = tuple(map(float, values.flatten()))
    return each[0] if len(set(each)) == 1 else each


def in_words(value: Each) -> str:
    """Such a number, written out."""
    if isinstance(value, tuple):
        return f"({', '.join(f'{v:.3g}' for v in value)}), by channel,"
    return f"{value:.3g}"


class Starts(ABC):
    """A baseline: one or several images like the given one, from which nothing can be told."""

    @abstractmethod
    def starts(self, at: Setting) -> list[Tensor]:
        """One or several tensors shaped like ``at.x``."""

    @property
    def count(self) -> int:
        return 1


@dataclass(frozen=True)
class Constant(Starts):
    """One value everywhere, or one per channel."""

    value: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        each = self.value if isinstance(self.value, Sequence) and not isinstance(self.value, str) else (self.value,)
        if not each or not all(isinstance(v, Real) and math.isfinite(v) and not isinstance(v, bool) for v in each):
            raise BadParameter("value of Constant is a finite number, or one per channel", repr(self.value), "Give e.g. 0.0.")

    def starts(self, at: Setting) -> list[Tensor]:
        if isinstance(self.value, Sequence) and len(self.value) != len(at.x):
            raise BadParameter(f"Constant has one value per channel ({len(at.x)})", repr(self.value), "Give them all, or one number.")
        value = torch.as_tensor(self.value, dtype=at.x.dtype, device=at.x.device).view(-1, *[1] * (at.x.ndim - 1))
        return [value.expand_as(at.x).clone()]


@dataclass(frozen=True)
class _Level(Starts):
    """A share of the way from the image's lowest to its highest value."""

    name: str
    parts: tuple[float, ...]

    def starts(self, at: Setting) -> list[Tensor]:
        return [(at.low + p * at.width).to(at.x).expand_as(at.x).clone() for p in self.parts]

    @property
    def count(self) -> int:
        return len(self.parts)

    def __repr__(self) -> str:
        return repr(self.name)


@dataclass(frozen=True)
class _Random(Starts):
    """Uniform noise between the lowest and the highest value."""

    n: int

    def starts(self, at: Setting) -> list[Tensor]:
        draws = (torch.rand(at.x.shape, generator=at.random, dtype=torch.float64) for _ in range(self.n))
        return [(at.low + at.width * d).to(at.x) for d in draws]

    @property
    def count(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"random({self.n})"


@dataclass(frozen=True)
class _Blurred(Starts):
    """The image itself, blurred."""

    sigma: Distance

    def starts(self, at: Setting) -> list[Tensor]:
        return [gaussian(at.x, at.samples(self.sigma))]

    def __repr__(self) -> str:
        return f"blurred({self.sigma!r})"


@dataclass(frozen=True, eq=False)
class _Given(Starts):
    """An image, or the mean of a set of them, on the explained image's grid."""

    values: Tensor
    of: int

    def starts(self, at: Setting) -> list[Tensor]:
        if self.values.shape != at.x.shape:
            raise BadParameter(
                f"a baseline image has the prepared image's shape {tuple(at.x.shape)}", f"{tuple(self.values.shape)}", "Prepare it alike."
            )
        return [self.values.to(at.x)]

    def __repr__(self) -> str:
        return f"<mean of {self.of}, {digest(self.values)[:12]}>" if self.of > 1 else f"<image {digest(self.values)[:12]}>"


@dataclass(frozen=True, eq=False)
class _Each(Starts):
    """Several images, each a start of its own."""

    members: tuple[_Given, ...]

    def starts(self, at: Setting) -> list[Tensor]:
        return [start for member in self.members for start in member.starts(at)]

    @property
    def count(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"<each of {self.count}, {digest(torch.stack([m.values for m in self.members]))[:12]}>"


black = _Level("black", (0.0,))
white = _Level("white", (1.0,))
half_gray = _Level("half_gray", (0.5,))
black_and_white = _Level("black_and_white", (0.0, 1.0))


def random(n: int = 1) -> Starts:
    """``n`` images of uniform noise between the lowest and highest value."""
    if int(n) < 1:
        raise BadParameter("random(n) of at least one image", repr(n), "Give random(4).")
    return _Random(int(n))


def blurred(sigma: float | str | Distance = 4.0) -> Starts:
    """The image blurred by ``sigma`` (in the grid's unit, or ``"4mm"``, ``"8px"``)."""
    width = Distance.read(sigma)
    if not width.value > 0:
        raise BadParameter("blurred(sigma) with a sigma above 0", repr(sigma), "Give blurred('4mm').")
    return _Blurred(width)


def mean_of(images: Sequence[Image | Tensor]) -> Starts:
    """The mean of a set of prepared images."""
    stack = torch.stack([i.values if isinstance(i, Image) else i for i in images])
    return _Given(stack.double().mean(0).to(stack.dtype), len(stack))


def each_of(images: Sequence[Image | Tensor]) -> Starts:
    """Each of a set of prepared images: a way starts at every one of them."""
    if not len(images):
        raise BadParameter("each_of takes at least one image", "none", "Give prepared images like the explained one.")
    return _Each(tuple(_Given(i.values if isinstance(i, Image) else i.detach().clone(), 1) for i in images))


NAMED: dict[str, Starts] = {b.name: b for b in (black, white, half_gray, black_and_white)}
CALLED: dict[str, Callable[..., Starts]] = {"Constant": Constant, "random": random, "blurred": blurred}


def read(value: Any) -> Starts:
    """A baseline from what a user may give: a Starts, a name (``"black"``, ``"random(4)"``), a number, an Image or a tensor."""
    if isinstance(value, Starts):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Constant(float(value))
    if isinstance(value, Image):
        return _Given(value.values, 1)
    if isinstance(value, Tensor):
        return _Given(value.detach().clone(), 1)
    if isinstance(value, str):
        if value in NAMED:
            return NAMED[value]
        try:
            tree = ast.parse(value.strip(), mode="eval").body
            if not isinstance(tree, ast.Call):
                return read(float(ast.literal_eval(tree)))
            if isinstance(tree.func, ast.Name) and tree.func.id in CALLED:
                named = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
                return CALLED[tree.func.id](*map(ast.literal_eval, tree.args), **named)
        except (SyntaxError, ValueError, TypeError) as error:
            if isinstance(error, BadParameter):
                raise
    raise BadParameter(f"a baseline is {WANTS}", repr(value), "Choose one of these.")


WANTS = f"a number, an Image, one of {', '.join(NAMED)}, random(n), blurred(sigma), Constant(v), mean_of(images) or each_of(images)"
Baseline = Annotated[Starts | float | str | Image | Tensor, Kind("baseline", WANTS, read)]
