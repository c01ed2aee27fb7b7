"""Answers: what a network says about images, as logits in float64; and what was given instead, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, BadTarget, Unsupported
from pellucid.image import Image
from pellucid.model import Model, as_model
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.question import Question
from pellucid.reading import Reading
from pellucid.run import Meter, Run
from pellucid.target import as_target

Floats = NDArray[np.float64]


def excluding(reading: Reading, outputs: int) -> bool:
    """Whether the classes exclude each other: softmax over several, or the mirrored pair of a single logit."""
    return reading.kind in ("logits", "segmentation") and outputs > 1


@dataclass(frozen=True, eq=False)
class Answer:
    """One image's output: raw (1, ...), its reading, and its logits (k, *rest) in float64. A single logit stays one number."""

    image: Image
    output: Tensor
    reading: Reading

    @property
    def logits(self) -> Tensor:
        single = Reading(self.reading.kind, (), self.reading.ends_in)  # without names a single logit is not mirrored
        return single.logits(self.output.double())[0]

    @property
    def exclusive(self) -> bool:
        return excluding(self.reading, len(self.logits))

    @property
    def probabilities(self) -> Tensor:
        """(k, *rest); of a regression the values themselves."""
        z = self.logits
        return z if self.reading.kind == "regression" else z.softmax(0) if self.exclusive else z.sigmoid()


@contextlib.contextmanager
def asking(model: Model, run: Run) -> Iterator[Engine]:
    """The engine of a network, which is held untouched meanwhile."""
    with untouched(model.module):
        yield Engine(model, run, Meter(run))


def answer(engine: Engine, image: Image, x: Tensor) -> Answer:
    """One pass over a prepared image (c, *space)."""
    question = Question(as_target(0), image.grid, x)
    with torch.no_grad():
        output, _ = engine.forward(question, x[None], [])
    engine.meter.tick(forward=1)
    return Answer(image, output.detach().cpu(), engine.model.reading.of(output, image.grid.ndim))


def answers(net: Model | nn.Module, images: Iterable[Scan], run: Run | None = None) -> Iterator[Answer]:
    """What the network says about each image: one pass each, one image at a time, since scans differ in size."""
    model = as_model(net)
    with asking(model, run or Run()) as engine:
        for scan in images:
            image, x = model.ready(as_image(scan))
            yield answer(engine, image, x)


@dataclass(frozen=True, eq=False)
class Cases:
    """Logits (n, k) with the truth (n, k) as zeros and ones (NaN: not known) for n answers, and which image each is of."""

    logits: Floats
    truth: Floats
    exclusive: bool
    classes: tuple[str, ...]
    owner: NDArray[np.int64]

    @property
    def probabilities(self) -> Floats:
        return squashed(self.logits, self.exclusive)


def squashed(logits: Floats, exclusive: bool) -> Floats:
    """Softmax over classes, or a sigmoid for each."""
    z = torch.from_numpy(np.ascontiguousarray(logits))
    return (z.softmax(1) if exclusive else z.sigmoid()).numpy()


def cases(
    given: Model | nn.Module | Tensor | Floats,
    labels: Any,
    images: Iterable[Scan] | None,
    *,
    probabilities: bool,
    classes: Sequence[str] = (),
    multi_label: bool = False,
    run: Run | None = None,
) -> Cases:
    """The cases of a network and its images, or of numbers (n, k) or (n,) (``probabilities``: after softmax or sigmoid, else logits).

    Raises:
        BadParameter: numbers and labels that do not fit, or no probabilities where some were promised.
        Unsupported: a regression.
    """
    if isinstance(given, (Model, nn.Module)):
        z, exclusive, names = _asked(as_model(given), images, run)
    else:
        if images is not None:
            raise BadParameter("numbers, or a network with its images", "numbers and images", "Leave images= out.")
        z, exclusive = _given(given, probabilities, multi_label)
        names = tuple(classes)
    owner = np.repeat(np.arange(len(z)), z[0].size // z.shape[1]) if len(z) else np.zeros(0, dtype=np.int64)
    k = z.shape[1]
    flat = np.moveaxis(z, 1, -1).reshape(-1, k)
    names = names if len(names) == k else names[1:] if k == 1 and len(names) == 2 else tuple(str(i) for i in range(k))
    truth = _truth(labels, z.shape, exclusive, names)
    return Cases(flat, truth, exclusive, names, owner)


def _asked(model: Model, images: Iterable[Scan] | None, run: Run | None) -> tuple[Floats, bool, tuple[str, ...]]:
    if images is None:
        raise BadParameter("a network with images", "none", "Give images=, or the numbers themselves.")
    rows, exclusive = [], True
    for a in answers(model, images, run):
        if a.reading.kind == "regression":
            raise Unsupported("calibration is of probabilities", "a regression", "Compare its values with the truth.")
        rows.append(a.logits.numpy())
        exclusive = a.exclusive
    if not rows:
        raise BadParameter("at least one image", "none", "Give the held-out images.")
    if len({r.shape for r in rows}) > 1:
        raise BadParameter("outputs of one shape", f"{rows[0].shape} and others", "Crop or resample in prepare=.")
    return np.stack(rows), exclusive, model.classes


def _given(given: Tensor | Floats, probabilities: bool, multi_label: bool) -> tuple[Floats, bool]:
    z = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim < 2 or not z.size or np.isnan(z).any():
        raise BadParameter("numbers (n, k) or (n,), none of them NaN", f"shape {z.shape}", "One row for each image.")
    exclusive = z.shape[1] > 1 and not multi_label
    if not probabilities:
        return z, exclusive
    if (z < 0).any() or (z > 1).any() or (exclusive and np.abs(z.sum(1) - 1).max() > 1e-3):
        got = f"numbers from {z.min():.3g} to {z.max():.3g}" + (f", sums up to {z.sum(1).max():.3g}" if exclusive else "")
        fix = "Give probabilities (several labels: multi_label=True), or the network and its images."
        raise BadParameter("probabilities lie in [0, 1], and of classes that exclude each other sum to 1", got, fix)
    with np.errstate(divide="ignore"):
        return (np.log(z) if exclusive else np.log(z) - np.log1p(-z)), exclusive


def _truth(labels: Any, shape: tuple[int, ...], exclusive: bool, names: tuple[str, ...]) -> Floats:
    """The truth (n, k): of one class among several from indices or names (n, *rest), of several labels from zeros and ones (n, k, *rest)."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    if exclusive and len(labels) and isinstance(labels[0], str):
        unknown = [v for v in labels if v not in names]
        if unknown:
            raise BadTarget("a label is one of the classes", repr(unknown[0]), f"They are {', '.join(names)}.")
        labels = [names.index(v) for v in labels]
    found = np.asarray(labels, dtype=np.float64)
    n, k, *rest = shape
    wanted = (n, *rest) if exclusive else (n, k, *rest)
    if not exclusive and k == 1 and found.shape == (n, *rest):
        found = found[:, None]
    if found.shape != wanted:
        what = "one class index for each" if exclusive else "0 or 1 for each label"
        raise BadParameter(f"labels of shape {wanted}, {what}", f"shape {found.shape}", "Give one row for each image, in their order.")
    known = found[~np.isnan(found)]
    if exclusive:
        if len(known) < found.size or (known != known.round()).any() or known.min() < 0 or known.max() >= k:
            raise BadParameter(f"class indices from 0 to {k - 1}", f"{known.min():g} to {known.max():g}", "Count classes from zero.")
        return np.eye(k)[found.reshape(-1).astype(np.int64)]
    if not np.isin(known, (0.0, 1.0)).all():
        raise BadParameter("labels are 0 or 1 (NaN: not known)", f"{known.min():g} to {known.max():g}", "Binarize them.")
    return np.moveaxis(found, 1, -1).reshape(-1, k)


def by_patient(who: Sequence[Any] | Mapping[Any, Any] | None, cases: Cases) -> list[Any]:
    """Whose each answer is; without names every image is a patient of its own."""
    images = int(cases.owner.max()) + 1
    if who is None:
        return cases.owner.tolist()
    names = list(who)
    if len(names) != images:
        raise BadParameter("a patient for each image", f"{len(names)} for {images} images", "Give as many.")
    return [names[i] for i in cases.owner]
