"""Phantoms on disk: image, masks and labels, for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor

from pellucid import io
from pellucid.files import put, whole
from pellucid.phantoms.drawing import Phantom


def save(phantom: Phantom, folder: str | Path) -> list[Path]:
    """Write image, masks and labels into a folder: NIfTI for volumes; PNG, and the exact image as NPY, for flat images."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    image, files = phantom.image, []
    sides = {"sided": bool(image.facts.get("sided"))}
    for name, values in {"image": image.values, **{f"mask-{n}": m[None].float() for n, m in phantom.masks.items()}}.items():
        if image.grid.ndim == 3:
            files.append(io.write(folder / f"{name}.nii.gz", values, image.grid, facts=sides))
        else:
            files.append(_picture(folder / f"{name}.png", values))
    if image.grid.ndim == 2:
        files.append(folder / "image.npy")
        with whole(files[-1]) as draft:
            np.save(draft, image.values.numpy())
    files.append(folder / "labels.json")
    told = {"labels": dict(phantom.labels), "parameters": dict(phantom.parameters), "spacing": image.grid.spacing, "unit": image.grid.unit}
    put(files[-1], json.dumps(told, indent=2, default=str))
    return files


def _picture(path: Path, values: Tensor) -> Path:
    """(c, h, w) in [0, 1] as an 8-bit PNG, gray or RGB."""
    from PIL import Image as Picture

    bytes_ = (values.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    with whole(path) as draft:
        Picture.fromarray(bytes_.squeeze(-1) if bytes_.shape[-1] == 1 else bytes_).save(draft)
    return path
