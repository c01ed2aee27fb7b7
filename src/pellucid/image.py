"""Image: a scan as a tensor, where it lies, what its numbers mean, and where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.grid import Grid, as_affine
from pellucid.ops.resample import pull


def digest(*parts: Tensor | str | bytes) -> str:
    """sha256 over tensors (dtype, shape, bytes) and strings, as 64 hex digits."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            flat = part.detach().cpu().contiguous()
            h.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
            h.update(flat.view(-1).view(torch.uint8).numpy().data if flat.numel() else b"")
        else:
            h.update(part.encode() if isinstance(part, str) else part)
    return h.hexdigest()


@dataclass(frozen=True, eq=False)
class Image:
    """A scan: tensor ``(c, *space)``, float32 or float64, with its Grid.

    ``quantity`` says what the numbers are (``"HU"``, ``"SUV"``, ``"a.u."``, ``"intensity"``); ``channels`` names each channel.
    ``background`` is True where the scanner put padding, not patient: ``(*space)`` bool or None. ``facts`` holds what the reader
    learned and may be shown (modality, format, photometric interpretation, ...), never identifiers; ``notes`` are remarks a
    person should read (a missing slice, two affines that differ). The fingerprint covers values, grid and meaning.

    >>> import torch
    >>> scan = Image(torch.zeros(1, 4, 5))
    >>> scan.grid.unit, scan.channels
    ('px', ('0',))
    """

    values: Tensor
    grid: Grid = None  # type: ignore[assignment]  # filled from the tensor's shape in __post_init__
    quantity: str = "a.u."
    channels: tuple[str, ...] = ()
    background: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        affine = getattr(self.values, "affine", None)  # MONAI's MetaTensor carries one, in RAS mm
        values = plain(self.values)
        if values.ndim not in (3, 4):
            raise BadImage(
                "an image is (c, h, w) or (c, i, j, k), without a batch axis", f"shape {tuple(values.shape)}", "Index or add an axis."
            )
        if values.numel() == 0:
            raise BadImage("an image has at least one sample", f"shape {tuple(values.shape)}", "Check the crop or the file.")
        grid = self.grid
        if grid is None:
            space = tuple(values.shape[1:])
            known = affine is not None and len(space) == 3
            grid = Grid(space, as_affine(np.asarray(torch.as_tensor(affine).cpu())), "mm") if known else Grid(space)
        if grid.shape != tuple(values.shape[1:]):
            raise BadImage("grid and tensor must have one shape", f"{grid.shape} and {tuple(values.shape[1:])}", "Crop both.")
        channels = tuple(self.channels) or tuple(str(i) for i in range(len(values)))
        if len(channels) != len(values):
            raise BadImage("each channel has one name", f"{len(channels)} names, {len(values)} channels", "Name them all.")
        if self.background is not None and tuple(self.background.shape) != grid.shape:
            raise BadImage("the background mask has the shape of the grid", f"{tuple(self.background.shape)}", f"Give {grid.shape}.")
        if self.background is not None:
            object.__setattr__(self, "background", torch.as_tensor(self.background).detach().clone())  # as the values, of its own memory
        for name, value in {"values": values, "grid": grid, "channels": channels, "notes": tuple(self.notes)}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Image, (self.values, self.grid, self.quantity, self.channels, self.background, dict(self.facts), self.notes)

    def __repr__(self) -> str:
        return f"Image({tuple(self.values.shape)}, {self.quantity}, {self.grid.unit}, {self.fingerprint[:12]})"

    @property
    def fingerprint(self) -> str:
        """sha256 of values, grid and meaning."""
        return digest(self.values, repr(self.grid), self.quantity, repr(self.channels))

    def with_values(self, values: Tensor, **changes: Any) -> Image:
        """The same scan with other numbers (and, if given, other facts)."""
        return replace(self, values=values, **changes)

    def on(self, grid: Grid, *, nearest: bool = False, fill: float | None = None) -> Image:
        """This image read at the samples of another grid (linear, or nearest for labels)."""
        if grid == self.grid:
            return self
        matrix = grid.map_to(self.grid)
        background = self.background
        if background is not None:
            background = pull(background[None].float(), grid.shape, matrix, nearest=True, fill=1.0)[0] > 0.5
        return replace(self, values=pull(self.values, grid.shape, matrix, nearest=nearest, fill=fill), grid=grid, background=background)

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> Image:
        """The part from ``start`` (inclusive) to ``stop`` (exclusive), inside the image."""
        cut = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        if any(a < 0 or b > n or a >= b for a, b, n in zip(start, stop, self.grid.shape, strict=True)):
            raise BadImage("a crop lies inside the image", f"{tuple(start)}..{tuple(stop)} of {self.grid.shape}", "Clip it first.")
        background = None if self.background is None else self.background[cut]
        return replace(self, values=self.values[(slice(None), *cut)], grid=self.grid.crop(start, stop), background=background)

    def permute(self, order: Sequence[int], flip: Sequence[bool] | None = None) -> Image:
        """Axes in another order, some reversed, with the grid; every sample keeps its place in the world."""
        flip = list(flip or [False] * self.grid.ndim)
        turned = [a for a, f in enumerate(flip) if f]

        def turn(t: Tensor) -> Tensor:
            return t.permute(*order).flip(turned)

        values = torch.stack([turn(c) for c in self.values])
        background = None if self.background is None else turn(self.background)
        return replace(self, values=values, grid=self.grid.permute(order, flip), background=background)


def plain(values: Any) -> Tensor:
    """A plain float tensor of its own memory, where it was: MetaTensor stripped, detached, checked for NaN and infinity.

    Raises:
        BadImage: not a tensor or array, or not finite.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        values = torch.from_numpy(np.ascontiguousarray(values))
    if not isinstance(values, Tensor):
        got = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise BadImage("an image is a tensor, an array, a path or an Image", got, "Read it with pl.read(path).")
    if values.is_complex():
        raise BadImage("an image holds real numbers", str(values.dtype), "Give its magnitude: x.abs().")
    with torch.inference_mode(False), torch._C.DisableTorchFunctionSubclass():
        t = values.as_subclass(Tensor).detach()
        t = t.clone() if t.dtype in (torch.float32, torch.float64) else t.float()  # a buffer that its owner fills again
    if not bool(torch.isfinite(t).all()):
        bad = int((~torch.isfinite(t)).sum())
        raise BadImage("an image holds finite numbers", f"{bad} of {t.numel()} NaN or infinite", "Fill them first: torch.nan_to_num(x).")
    return t
