"""The door for maps: ``write``, by suffix, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from pellucid.errors import BadFile, BadImage
from pellucid.files import put, whole
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io import animation, archive, nifti, picture
from pellucid.io.animation import Told
from pellucid.io.caption import Caption, caption_of, captioned
from pellucid.io.sheet import Tile, sheet

NOTHING: Mapping[str, Any] = MappingProxyType({})


def write(
    path: str | Path,
    values: Tensor,
    grid: Grid,
    *,
    facts: Mapping[str, Any] = NOTHING,
    image: Image | None = None,
    palette: str = "blue-orange",
) -> Path:
    """A map on disk: ``.nii``/``.nii.gz`` (with a JSON file beside it), ``.npz`` (exact), ``.png`` (laid over the image).

    The file appears whole or not at all, and replaces only files that Pellucid wrote; never the scan itself.

    Args:
        path: the suffix chooses the format.
        values: ``(c, *space)`` or ``(*space)`` on ``grid``, finite.
        grid: where the values lie; the file keeps its place in the world.
        facts: provenance as text, numbers, sequences and mappings; no identifiers.
        image: the scan that was explained: background of a PNG, and guarded against being overwritten.
        palette: of a PNG: ``blue-orange``, or ``green-red``, which marks signs.

    Returns:
        The path written.

    Raises:
        BadFile: unknown suffix, no such folder, or a file there that is not Pellucid's to replace.
        BadImage: values that are not finite or do not fit the grid.
        BadParameter: facts that JSON cannot hold, or no palette of that name.
    """
    path = Path(path)
    form = next((f for s, f in FORMATS.items() if path.name.lower().endswith(s)), None)
    if form is None:
        raise BadFile(f"write {path}", f"suffix {path.suffix!r}", f"Use one of {', '.join(FORMATS)}.")
    values = _fitting(values, grid)
    scans = {str(m["sha256"]) for m in (facts, image.facts if image else {}) if "sha256" in m}
    _guard(path, form.is_ours, scans)
    form.write(path, _Given(values, grid, facts, image, _sides_known(grid, facts, image), palette, scans))
    return path


@dataclass(frozen=True, eq=False)
class _Given:
    """What ``write`` was given; ``sided``: the grid's axes are the patient's; ``scans``: digests of files that must stay."""

    values: Tensor
    grid: Grid
    facts: Mapping[str, Any]
    image: Image | None
    sided: bool
    palette: str
    scans: set[str]


def _write_nifti(path: Path, given: _Given) -> None:
    beside = path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE) + ".json")
    _guard(beside, _is_our_sidecar, given.scans)
    text = nifti.sidecar(given.facts, given.grid, given.sided)
    with whole(path) as target:
        nifti.write_nifti(target, given.values, given.grid, given.facts, given.sided)
    put(beside, text)


def _write_archive(path: Path, given: _Given) -> None:
    with whole(path) as target:
        archive.pack_archive(target, {"values": given.values}, given.grid, given.facts)


def _write_picture(path: Path, given: _Given) -> None:
    words = caption_of(given.facts, zero=not bool(given.values.any()))
    drawn = picture.overlay(given.values, given.grid, image=given.image, sided=given.sided, palette=given.palette)
    with whole(path) as target:
        picture.save(captioned(drawn, words), target, words.texts if words else {})


@dataclass(frozen=True)
class Format:
    """How a map is written, and how a file of ours, which may be replaced, is known."""

    write: Callable[[Path, _Given], None]
    is_ours: Callable[[Path], bool]


FORMATS = {
    ".nii.gz": Format(_write_nifti, nifti.is_ours),
    ".nii": Format(_write_nifti, nifti.is_ours),
    ".npz": Format(_write_archive, archive.is_ours),
    ".png": Format(_write_picture, picture.is_ours),
}


def write_archive(path: str | Path, arrays: Mapping[str, Tensor], grid: Grid, *, facts: Mapping[str, Any] = NOTHING) -> Path:
    """Named tensors, facts and grid as one ``.npz``, exact and whole or not at all; ``read_archive`` gives them back.

    Raises:
        BadFile: another suffix, no such folder, or a file there that is not Pellucid's to replace.
        BadParameter: a name that is not an identifier, or facts that JSON cannot hold.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise BadFile(f"write an archive to {path}", f"suffix {path.suffix!r}", "Use .npz.")
    _guard(path, archive.is_ours, {str(facts["sha256"])} if "sha256" in facts else set())
    with whole(path) as target:
        archive.pack_archive(target, arrays, grid, facts)
    return path


def write_sheet(
    path: str | Path, tiles: Sequence[Tile], *, columns: int, palette: str = "blue-orange", image: Image, words: Caption | None = None
) -> Path:
    """Many maps of one scan as one PNG, whole or not at all, with ``words`` below; see ``Tile``.

    Raises:
        BadFile: another suffix, no such folder, or a file there that is not Pellucid's to replace.
        BadParameter: no palette of that name.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise BadFile(f"write a figure to {path}", f"suffix {path.suffix!r}", "Use .png.")
    _guard(path, picture.is_ours, {str(image.facts["sha256"])} if "sha256" in image.facts else set())
    made = sheet(tiles, columns=columns, palette=palette, sided=_sides_known(image.grid, NOTHING, image))
    with whole(path) as target:
        picture.save(captioned(made, words), target, words.texts if words else {})
    return path


def write_film(path: str | Path, told: Told, *, frames: int = 60, most: int = 8_000_000) -> Path:
    """The way of a method as an animated ``.gif`` or ``.webp``, whole or not at all, of at most ``most`` bytes; see ``Map.animate``.

    Raises:
        BadFile: another suffix, no such folder, or a file there that is not Pellucid's to replace.
        Unsupported: a map whose trace does not hold the way.
        BadParameter: fewer than two frames, or a limit too small for any picture.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".webp"):
        raise BadFile(f"write a film to {path}", f"suffix {path.suffix!r}", "Use .gif or .webp.")
    _guard(path, animation.is_ours, {str(told.image.facts["sha256"])} if "sha256" in told.image.facts else set())
    data = animation.packed(*animation.film(told, frames=frames), suffix, most)
    with whole(path) as target:
        target.write_bytes(data)
    return path


def _fitting(values: Tensor, grid: Grid) -> Tensor:
    """Values as (c, *space), checked against the grid."""
    values = values.detach()
    values = values[None] if values.ndim == grid.ndim else values
    if values.ndim != grid.ndim + 1 or tuple(values.shape[1:]) != grid.shape:
        got = f"{tuple(values.shape)} on a grid of {grid.shape}"
        raise BadImage("a map to write has shape (c, *space) or (*space) of its grid", got, "Use the map's own grid.")
    if values.is_floating_point() and not bool(values.isfinite().all()):
        bad = int((~values.isfinite()).sum())
        raise BadImage("a map to write holds finite numbers", f"{bad} NaN or infinite", "Look at the evidence before saving.")
    return values


def _sides_known(grid: Grid, facts: Mapping[str, Any], image: Image | None) -> bool:
    """Whether the grid's axes are the patient's: a frame of reference, or the reader said so."""
    if grid.unit != "mm":
        return False
    return grid.frame is not None or any(bool(m.get("sided")) for m in (facts, image.facts if image else {}))


def _guard(path: Path, is_ours: Callable[[Path], bool], scans: set[str]) -> None:
    """Refuse to touch the scan, or any file that somebody else wrote."""
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    if not path.exists():
        return
    if path.is_dir():
        raise BadFile(f"write {path}", "a folder of that name", "Choose another name.")
    if scans and hashlib.sha256(path.read_bytes()).hexdigest() in scans:
        raise BadFile(f"write {path}", "the scan that was explained", "Choose another name: a scan is never overwritten.")
    if not is_ours(path):
        raise BadFile(f"write {path}", "a file that Pellucid did not write", "Choose another name, or move that file away.")


def _is_our_sidecar(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("pellucid") == "map"
