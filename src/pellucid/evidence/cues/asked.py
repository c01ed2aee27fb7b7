"""Asked: one network and one target about many images; AUC with its interval over patients. What all questions of this group share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.baseline import Setting
from pellucid.errors import BadParameter, BadTarget
from pellucid.image import Image
from pellucid.intervals import Interval, area, statistic
from pellucid.model import Model, as_model
from pellucid.probe.engine import Engine
from pellucid.probe.probe import Probe
from pellucid.probe.question import Question
from pellucid.run import Meter, Run
from pellucid.target import Probability, Scaled, Sum, Target, as_target

Floats = NDArray[np.float64]
LEAST = 2  # patients of each kind, below which an AUC has no interval


class Asked:
    """A network and a target that mean the same for every image. ``forward`` counts passes."""

    def __init__(self, net: Any, target: Any, run: Run | None, first: Scan) -> None:
        self.model: Model = as_model(net)
        self.run = replace(run or Run(), on_tick=None)
        self.engine = Engine(self.model, self.run, Meter(self.run))
        wanted = as_target(target)
        if wanted.open:
            raise BadTarget("one target for all images", repr(wanted), "Name the class: target='DME'.")
        prepared, x = self.ready(first)
        question = Question(wanted, prepared.grid, x)
        self.engine.settle(question)
        self.target: Target = question.target

    @property
    def forward(self) -> int:
        """Passes so far, without those that the plan needed."""
        return self.engine.meter.forward

    def ready(self, scan: Scan) -> tuple[Image, Tensor]:
        """The prepared image, and its tensor as the network wants it."""
        return self.model.ready(as_image(scan))

    def probe(self, image: Image, target: Target | None = None) -> Probe:
        """What asks about changes of one prepared image."""
        x = image.values.to(self.model.device, self.model.dtype or image.values.dtype)
        question = Question(target or self.target, image.grid, x, settled=True)
        return Probe(self.engine, question, image, x, image.grid, self.chance("probe"))

    def scores(self, image: Image, inputs: Iterable[Tensor]) -> list[float]:
        """The target's score of each input (c, *space), streamed; all are shaped like the prepared image."""
        return [float(a.score) for a in self.probe(image).scores(inputs)]

    def setting(self, image: Image) -> Setting:
        """What a fill may look at."""
        probe = self.probe(image)
        return replace(probe.setting(), random=self.chance(f"fill {image.fingerprint}"))

    def chance(self, part: str) -> torch.Generator:
        """A source of chance of its own for each purpose."""
        return chance(self.run.seed, part)


def chance(seed: int, part: str) -> torch.Generator:
    """A source of chance for one purpose, the same in every run of one seed."""
    from hashlib import sha256

    word = sha256(f"{seed} {part}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(word, "little"))


def cut_of(target: Target, cut: float | None) -> float:
    """From where on a score says yes: 0.5 for probabilities, 0 for scores before softmax or sigmoid, or as given."""
    return float(cut) if cut is not None else 0.5 if _probable(target) else 0.0


def _probable(target: Target) -> bool:
    if isinstance(target, Sum):
        return _probable(target.a) and _probable(target.b)
    return _probable(target.a) if isinstance(target, Scaled) else isinstance(target, Probability)


def read_labels(labels: Sequence[Any], images: int) -> tuple[int, ...]:
    """0 or 1 for each image, both among them.

    Raises:
        BadParameter: another number of labels, other values, or fewer than two of a kind.
    """
    found = tuple(int(v) for v in labels)
    if len(found) != images or set(found) - {0, 1}:
        raise BadParameter(
            "a label of 0 or 1 for each image", f"{len(found)} labels for {images} images", "Say label >= 2 where there are more."
        )
    if min(found.count(0), found.count(1)) < LEAST:
        raise BadParameter(f"at least {LEAST} images of each label", f"{found.count(0)} and {found.count(1)}", "Give more images.")
    return found


def read_patients(patients: Sequence[Hashable] | None, images: int) -> tuple[Hashable, ...]:
    """A patient for each image; None: each image is one of its own."""
    if patients is not None and len(patients) != images:
        raise BadParameter("a patient for each image", f"{len(patients)} for {images} images", "Give as many.")
    return tuple(range(images)) if patients is None else tuple(patients)


def auc_lost(before: Sequence[float], after: Sequence[float], labels: Sequence[int], patients: Sequence[Hashable]) -> Interval:
    """How much lower the AUC of ``after`` is, on the same patients."""
    return statistic((before, after, labels), lambda a, b, y: area(a, y) - area(b, y), patients, within=(-1.0, 1.0))
