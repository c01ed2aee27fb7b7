"""Prepare: from the scan to what the network was trained on; geometry and windowing, not differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.errors import BadImage, BadParameter
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.blur import gaussian
from pellucid.ops.resample import pull

Sizes = int | tuple[int, ...]
Ends = tuple[float, float]

LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709, as the overlays draw a color photograph
FULL_SCALES = (1.0, 255.0, 65535.0)
FOREGROUND = 0.05  # of the way from the lowest value to the 99.5th percentile
DARK_IS_DENSE = ("MONOCHROME1", "MINISWHITE")
BRIGHT_IS_DENSE = ("MONOCHROME2", "MINISBLACK")


@dataclass(frozen=True, repr=False)
class Prepare:
    """Image to Image, in this order; what is None stays as it is. The grid follows, so that a map finds its way back to the scan.

    Args:
        orientation: direction in which each axis shall grow, ``"RAS"`` or ``"LPS"`` ...: axes are permuted and reversed to the nearest
            one, nothing is interpolated. Needs a grid in mm.
        spacing: distance between samples in mm, one number or one per axis. Needs a grid in mm.
        crop: ``"foreground"`` (box around all samples over 5 % of the way from the lowest value to the 99.5th percentile),
            ``"center"`` (the largest square or cube, in the grid's unit), or one extent per axis around the center; where the image
            is smaller it is padded with its lowest value (MONOCHROME1: its highest), and the padding is background.
        resize: extents after the crop, one for all axes or one each; edges stay, so that the spacing changes.
        window: (center, width) or ``"dicom"`` (the one in the file): values are clipped to center -+ width / 2.
        range: (low, high): the window, or else the full scale of a picture (1, 255 or 65535) or the lowest and highest value of a
            scan outside its background, is mapped to it linearly.
        inverted: what the network was trained on. False: bright is dense, MONOCHROME1 is reversed (low + high - x). True: bright is
            air, MONOCHROME2 is reversed. None: left as the file has it, and an explanation of MONOCHROME1 carries a caveat.
        channels: ``"gray"`` (luminance of a color picture), ``"rgb"`` or a count (one channel is repeated).

    Spacing, crop and resize are composed first and interpolated once, linearly. Along an axis that gets more than twice as coarse the
    image is blurred before: a Gaussian of (r - 1) / 2 samples for r samples in one (the rule of scikit-image's ``resize``).

    Raises:
        BadParameter: a setting that makes no sense.
        BadImage: an image that cannot be prepared so.

    >>> Prepare(resize=224, range=(0, 1))
    Prepare(resize=224, range=(0.0, 1.0))
    >>> Prepare(resize=(2, 3))(Image(torch.rand(1, 4, 6))).grid.spacing
    (2.0, 2.0)
    """

    orientation: str | None = None
    spacing: float | tuple[float, ...] | None = None
    crop: Literal["center", "foreground"] | tuple[int, ...] | None = None
    resize: Sizes | None = None
    window: Ends | Literal["dicom"] | None = None
    range: Ends | None = None
    inverted: bool | None = None
    channels: Literal["gray", "rgb"] | int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("spacing", float), ("window", float), ("range", float), ("crop", int), ("resize", int)):
            object.__setattr__(self, name, _plain(name, getattr(self, name), kind))
        named = _axes(self.orientation) if self.orientation is not None else "RAS"
        if len(named) not in (2, 3) or len(set(named)) < len(named) or not set(named) <= set("RAS"):
            raise BadParameter("orientation names each axis once", repr(self.orientation), "Write 'RAS', 'LPS', 'PL', ...")
        if self.crop is not None and not isinstance(self.crop, tuple) and self.crop not in ("center", "foreground"):
            raise BadParameter("crop is 'center', 'foreground' or one extent per axis", repr(self.crop), "Write (96, 96, 96).")
        if self.window not in (None, "dicom") and (len(self.window) != 2 or self.window[1] <= 0):  # type: ignore[arg-type,operator]
            raise BadParameter("window is (center, width) or 'dicom'", repr(self.window), "Write (40, 400); the width is above 0.")
        if self.range is not None and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise BadParameter("range is (low, high) with low < high", repr(self.range), "To reverse an image use inverted=.")
        if self.inverted not in (None, True, False):
            raise BadParameter("inverted is True, False or None", repr(self.inverted), "False: bright is dense.")
        if self.channels not in (None, "gray", "rgb") and (not isinstance(self.channels, int) or self.channels < 1):
            raise BadParameter("channels is 'gray', 'rgb' or a count", repr(self.channels), "Write channels=3.")

    def __repr__(self) -> str:
        said = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) is not None)
        return f"Prepare({', '.join(said)})"

    def __call__(self, image: Image) -> Image:
        """The image as the network takes it."""
        image = _oriented(image, self.orientation) if self.orientation is not None else image
        if self.crop == "foreground":
            image = image.crop(*_foreground(image))
        image = _on(image, self._grid(image.grid))
        ends = _window(image, self.window) if self.window is not None else None
        if ends is not None:
            image = image.with_values(image.values.clamp(*ends))
        if self.range is not None:
            image, ends = _ranged(image, ends or _known_range(image), self.range), self.range
        if self.inverted is not None:
            image = _settled(image, self.inverted, ends)
        return image if self.channels is None else _with_channels(image, self.channels)

    def _grid(self, grid: Grid) -> Grid:
        """Where the prepared samples lie."""
        if self.spacing is not None:
            if grid.unit != "mm":
                raise BadImage(
                    "spacing= needs an image that knows its millimeters", "a grid in px", "Use resize=, or give the image a Grid."
                )
            grid = grid.resample(_each("spacing", self.spacing, grid.ndim))
        if self.crop == "center":
            side = min(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
            grid = _centered(grid, [max(1, round(side / s)) for s in grid.spacing])
        elif isinstance(self.crop, tuple):
            grid = _centered(grid, _each("crop", self.crop, grid.ndim))
        return grid if self.resize is None else grid.resize(_each("resize", self.resize, grid.ndim))


def _plain(name: str, value: Any, kind: type) -> Any:
    """Lists as tuples, numbers of one kind."""
    if value is None or (isinstance(value, str) and name in ("window", "crop")):
        return value
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    positive = name in ("spacing", "crop", "resize")
    for v in values:
        if isinstance(v, bool) or not isinstance(v, (int, float)) or (kind is int and v != int(v)) or (positive and v <= 0):
            raise BadParameter(f"{name} is {'above 0' if positive else 'a number'}", repr(value), "See Prepare.")
    return tuple(kind(v) for v in values) if isinstance(value, Sequence) else kind(value)


def _each(name: str, value: Any, ndim: int) -> tuple[Any, ...]:
    values = value if isinstance(value, tuple) else (value,) * ndim
    if len(values) != ndim:
        raise BadImage(f"{name}={value!r} has {len(values)} axes", f"an image in {ndim} dimensions", f"Give {ndim} numbers.")
    return values


def _axes(orientation: str) -> str:
    """The axis behind each direction: R, A or S."""
    return orientation.translate(str.maketrans("LPI", "RAS"))


def _oriented(image: Image, wanted: str) -> Image:
    """Axes permuted and reversed so that they grow as wanted, to the nearest axis."""
    grid = image.grid
    if grid.unit != "mm":
        raise BadImage(f"orientation={wanted!r} needs an image that knows its sides", "a grid in px", "Leave orientation= out.")
    axes, goal = _axes(grid.orientation), _axes(wanted)
    if len(set(axes)) != len(axes) or sorted(axes) != sorted(goal):
        raise BadImage(f"orientation={wanted!r}", f"an image along {grid.orientation}", "Resample it upright, or name its own axes.")
    order = [axes.index(g) for g in goal]
    return image.permute(order, [grid.orientation[o] != w for o, w in zip(order, wanted, strict=True)])


def _foreground(image: Image) -> tuple[list[int], list[int]]:
    """Corners of the box around what is brighter than the background."""
    values = image.values.flatten(1)
    inside = None if image.background is None else ~image.background.flatten()
    seen = values if inside is None or not bool(inside.any()) else values[:, inside]
    low, high = float(seen.min()), float(seen.flatten().kthvalue(max(1, round(0.995 * seen.numel()))).values)
    mask = (image.values > low + FOREGROUND * (high - low)).any(0)
    mask = mask if image.background is None else mask & ~image.background
    if not bool(mask.any()):
        raise BadImage("crop='foreground' finds something brighter than the background", "an image of one value", "Leave crop= out.")
    where = mask.nonzero()
    return where.amin(0).tolist(), (where.amax(0) + 1).tolist()


def _centered(grid: Grid, sizes: Sequence[int]) -> Grid:
    """So many samples around the center; an odd one is left out (or added) at the end."""
    start = [(n - m) // 2 if n >= m else -((m - n) // 2) for n, m in zip(grid.shape, sizes, strict=True)]
    return grid.crop(start, [a + m for a, m in zip(start, sizes, strict=True)])


def _on(image: Image, grid: Grid) -> Image:
    """The image on another grid of the same axes, blurred before where samples would be skipped; beyond it lies air."""
    if grid == image.grid:
        return image
    matrix = grid.map_to(image.grid)
    ratio = [abs(float(matrix[a, a])) for a in range(grid.ndim)]
    values = gaussian(image.values, [(r - 1) / 2 if r > 2 else 0.0 for r in ratio])
    outside = pull(torch.ones(1, *image.grid.shape), grid.shape, matrix, nearest=True, fill=0.0)[0] < 0.5
    padded = bool(outside.any())
    if padded and image.background is None:
        image = replace(image, background=torch.zeros(image.grid.shape, dtype=torch.bool))
    air = float(image.values.max() if image.facts.get("photometric") in DARK_IS_DENSE else image.values.min())
    return replace(image, values=values).on(grid, fill=air if padded else None)


def _window(image: Image, window: Ends | Literal["dicom"]) -> Ends:
    """Lower and upper end (DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT)."""
    if window == "dicom":
        known = image.facts.get("window")
        if known is None:
            raise BadImage("window='dicom' needs a window in the file", "an image without one", "Give window=(center, width).")
        window = (float(known[0]), float(known[1]))
    return window[0] - window[1] / 2, window[0] + window[1] / 2


def _known_range(image: Image) -> Ends:
    """Full scale of a picture; of anything else the lowest and highest value outside the background."""
    values = image.values
    if image.background is not None and not bool(image.background.all()):
        values = values[:, ~image.background]
    low, high = float(values.min()), float(values.max())
    if image.quantity == "intensity" and low >= 0 and high <= FULL_SCALES[-1]:
        return 0.0, next(full for full in FULL_SCALES if high <= full)
    return low, high


def _ranged(image: Image, ends: Ends, goal: Ends) -> Image:
    """Values mapped from ``ends`` to ``goal``; an image of one value, which has no range, goes to the low end and says so."""
    low, high = ends
    facts = {k: v for k, v in image.facts.items() if k != "window"}  # it is in the file's units
    if high == low:
        note = f"the image has one value ({low:g}); range={goal} put it at the low end"
        return image.with_values(torch.full_like(image.values, goal[0]), quantity="a.u.", facts=facts, notes=(*image.notes, note))
    mapped = (image.values - low) * ((goal[1] - goal[0]) / (high - low)) + goal[0]
    if image.background is not None:
        mapped = torch.where(image.background, mapped.clamp(*goal), mapped)  # padding may lie far below the patient
    return image.with_values(mapped, quantity="a.u.", facts=facts)


def _settled(image: Image, inverted: bool, ends: Ends | None) -> Image:
    """Brightness as the network was trained on; ``facts["polarity"]`` says that this was settled."""
    said, notes, values = image.facts.get("photometric"), image.notes, image.values
    facts = {**image.facts, "polarity": "bright is air" if inverted else "bright is dense"}
    known = said in DARK_IS_DENSE + BRIGHT_IS_DENSE
    if not known:
        if inverted and len(values) > 1:
            raise BadImage("inverted=True needs a gray image", f"{said or 'unknown'}, {len(values)} channels", "Leave inverted= out.")
        notes = (*notes, "the file does not say whether bright means dense; it was taken to")
    if inverted != (said in DARK_IS_DENSE):
        low, high = ends or _known_range(image)
        values = low + high - values
    if known or inverted:
        facts["photometric"] = "MONOCHROME1" if inverted else "MONOCHROME2"
    return image.with_values(values, notes=notes, facts=facts)


def _with_channels(image: Image, wanted: Literal["gray", "rgb"] | int) -> Image:
    """The number of channels that the network takes."""
    have = len(image.values)
    if wanted == "gray":
        if have == 1:
            return image
        if image.channels != ("red", "green", "blue"):
            raise BadImage("channels='gray' takes a gray or color picture", f"{have} channels", "Choose one: image.values[k:k+1].")
        weights = torch.tensor(LUMINANCE, dtype=image.values.dtype, device=image.values.device)
        return _renamed(image, torch.tensordot(weights, image.values, 1)[None], ("gray",))
    count = 3 if wanted == "rgb" else int(wanted)
    if have == count:
        return image
    if have != 1:
        raise BadImage(
            f"channels={wanted!r}", f"an image of {have} channels", "Only one channel can be repeated; choose the others by hand."
        )
    names = ("red", "green", "blue") if wanted == "rgb" else tuple(f"{image.channels[0]}#{i}" for i in range(count))
    return _renamed(image, image.values.expand(count, *image.values.shape[1:]).clone(), names)


def _renamed(image: Image, values: Tensor, channels: tuple[str, ...]) -> Image:
    return replace(image, values=values, channels=channels)
