"""Scoring: one network and one target about many images and about changes of each of them, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadParameter, BadTarget
from pellucid.image import Image
from pellucid.model import Model, as_model
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.probe import Probe
from pellucid.probe.question import Question
from pellucid.run import Meter, Run
from pellucid.target import Probability, Target, as_target, read_target

Mask = Image | Tensor | str | Path | None


class Scoring:
    """A network and a target that mean the same for every image. Ticks of progress count images, not passes.

    Raises:
        BadTarget: no target, or one that each image would choose for itself.
    """

    def __init__(self, net: Any, target: Any, run: Run | None, first: Scan, steps: int) -> None:
        self.model: Model = as_model(net)
        self.model.check_weights()
        self.run = run or Run()
        self.steps, self.done = steps, 0
        self.engine = Engine(self.model, replace(self.run, on_tick=None), Meter(replace(self.run, on_tick=None)))
        wanted = as_target(read_target(target) if isinstance(target, str) and target not in self.model.classes else target)
        if target is None or wanted.open:
            raise BadTarget("one target for all images", repr(target), "Name a class: target='disease'.")
        prepared, x = self.model.ready(as_image(first))
        question = Question(wanted, prepared.grid, x)
        with untouched(self.model.module):
            self.engine.settle(question)
        self.target: Target = question.target

    @property
    def within(self) -> tuple[float, float] | None:
        """What a score cannot leave."""
        return (0.0, 1.0) if isinstance(self.target, Probability) else None

    @property
    def forward(self) -> int:
        """Passes so far."""
        return self.engine.meter.forward

    @property
    def notes(self) -> list[str]:
        """What was noticed about the network."""
        return self.engine.notes

    def ready(self, scan: Scan) -> Image:
        """The prepared image."""
        return self.model.ready(as_image(scan))[0]

    def scores(self, image: Image, inputs: Iterable[Tensor]) -> list[float]:
        """The target's score of each input (c, *space), streamed; all are shaped like the prepared image."""
        x = image.values.to(self.model.device, self.model.dtype or image.values.dtype)
        question = Question(self.target, image.grid, x, settled=True)
        probe = Probe(self.engine, question, image, x, image.grid, chance(self.run.seed, "probe"))
        with untouched(self.model.module):
            return [float(a.score) for a in probe.scores(i.to(x) for i in inputs)]

    def tick(self) -> None:
        """One image more is done."""
        self.done += 1
        if self.run.on_tick is not None:
            self.run.on_tick(self.done, self.steps)
        self.engine.meter.tick()


def chance(seed: int, part: str) -> torch.Generator:
    """A source of chance for one purpose, the same in every run of one seed."""
    word = sha256(f"{seed} {part}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(word, "little"))


def masks_of(masks: Sequence[Mask] | None, scans: Sequence[Scan]) -> list[Mask]:
    """A mask or None for each image.

    Raises:
        BadParameter: another number.
    """
    if masks is None:
        return [None] * len(scans)
    if len(masks) != len(scans):
        raise BadParameter(f"a mask for each of {len(scans)} images", f"{len(masks)}", "Give as many; None where there is none.")
    return list(masks)


def laid(mask: Mask, scan: Scan, image: Image) -> Tensor | None:
    """A mask as bool (*space) on the prepared image; a tensor lies on the scan as it was given, or on the prepared image.

    Raises:
        BadImage: neither shape fits.
    """
    if mask is None:
        return None
    if isinstance(mask, (str, Path)):
        read = as_image(mask)
        mask = read.with_values((read.values != 0).any(0, keepdim=True).float(), channels=("mask",))
    if isinstance(mask, Image):
        return mask.on(image.grid, nearest=True, fill=0.0).values.sum(0) > 0.5
    found = torch.as_tensor(mask).detach().cpu()
    found = found[0] if found.ndim == image.grid.ndim + 1 and len(found) == 1 else found
    if tuple(found.shape) == image.grid.shape:
        return found > 0.5
    given = as_image(scan)
    if tuple(found.shape) != given.grid.shape:
        got = f"{tuple(found.shape)} for a scan of {given.grid.shape}"
        raise BadImage("a mask of the scan's shape, or of the prepared image's", got, "Give it as an Image with its own grid.")
    return Image((found > 0.5).float()[None], given.grid).on(image.grid, nearest=True, fill=0.0).values[0] > 0.5


def inside(image: Image) -> Tensor:
    """All samples (*space) but the scanner's padding."""
    space = image.grid.shape
    return torch.ones(space, dtype=torch.bool) if image.background is None else ~image.background.bool()
