"""Several images, one target: prepared, asked for scores, explained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, BadTarget
from pellucid.evidence.masks import laid
from pellucid.evidence.panel import Panel
from pellucid.image import Image, plain
from pellucid.model import Model
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.question import Question
from pellucid.run import Meter, Run
from pellucid.target import Target, as_target


@dataclass(eq=False)
class Asked:
    """A network, a target that is the same for all images, and how to run. ``spent`` counts passes."""

    model: Model
    target: Target
    run: Run
    spent: int = 0
    _panels: dict[tuple[int, ...], Panel] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, target: Any, run: Run | None) -> Asked:
        """Raises:
        BadTarget: no target; the predicted class would differ from image to image.
        """
        wanted = as_target(target)
        if target is None or wanted.open:
            raise BadTarget("one class for all images", "the class that each is predicted to be", "Give target=: its name or index.")
        return cls(model, wanted, run or Run())

    def ready(self, scans: Sequence[Scan]) -> list[tuple[Image, Tensor]]:
        """Prepared images with their tensors (c, *space) as the network gets them."""
        return [self.model.ready(as_image(s)) for s in scans]

    def scores(self, image: Image, inputs: Iterable[Tensor]) -> list[float]:
        """The target's score for inputs that are shaped like this prepared image, streamed."""
        shape = tuple(image.values.shape)
        if shape not in self._panels:
            x = image.values.to(self.model.device, self.model.dtype or image.values.dtype)
            question = Question(self.target, image.grid, x)
            with untouched(self.model.module):
                Engine(self.model, self.run, Meter(self.run)).settle(question)
            self._panels[shape] = Panel(self.model, image, question.target, x, self.run, {})
        found = self._panels[shape].scores(inputs)
        self.spent += len(found)
        return found

    def panel(self, image: Image, x: Tensor) -> Panel:
        """The panel of one image: what fills look at."""
        return Panel(self.model, image, self.target, x, self.run, {})

    def without_prepare(self) -> Model:
        """The model for images that are prepared already."""
        return replace(self.model, prepare=None)


def on_image(mask: Image | Tensor, image: Image) -> Tensor:
    """A mask as bool (*space) on a prepared image's grid.

    Raises:
        BadParameter: another shape, or nothing marked.
    """
    if isinstance(mask, Image):
        found = laid(mask, image.grid).values
    else:
        values = plain(mask.double() if mask.dtype == torch.bool else mask)
        found = (values[0] if values.ndim > image.grid.ndim else values).cpu() > 0.5
    if tuple(found.shape) != image.grid.shape:
        raise BadParameter(
            f"a mask on the image's grid {image.grid.shape}", f"{tuple(found.shape)}", "Give it as an Image with a grid of its own."
        )
    if not bool(found.any()):
        raise BadParameter("a mask with something marked", "an empty one", "Leave that image out.")
    return found


def each(given: Any, count: int, what: str) -> list[Any]:
    """One for all, or one for each image."""
    if isinstance(given, (list, tuple)):
        if len(given) != count:
            raise BadParameter(f"{what} for each of {count} images", f"{len(given)}", "Give as many, or one for all.")
        return list(given)
    return [given] * count


def owners(patients: Any, images: Sequence[Image]) -> list[Any]:
    """The patient of each image. Where none are given every image is of its own, but equal ones are of one."""
    who = [i.fingerprint for i in images] if patients is None else list(patients)
    if len(who) != len(images):
        raise BadParameter(f"a patient for each of {len(images)} images", f"{len(who)}", "Give as many.")
    return who
