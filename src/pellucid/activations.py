"""Activations of many images at a site: one after the other, or as a table that goes to the disk where it outgrows memory."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.asking import Scan, as_image, versions
from pellucid.errors import BadFile, BadImage, BadParameter, Unsupported
from pellucid.files import put, whole
from pellucid.image import digest
from pellucid.model import Model
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.question import Block, Question
from pellucid.probe.sites import find
from pellucid.run import Meter, Run
from pellucid.target import Target, as_target

Pool = Literal["mean", "max", "none"]
MEMORY = 2**30  # bytes of a table that stay in memory where Run(memory=) says nothing


@dataclass(frozen=True, eq=False)
class Seen:
    """What one image caused at one site: the activation (c, *space), the target's score and its gradient there, the logits of all classes.

    ``gradient`` is None where it was not asked for, ``logits`` where the output is dense. ``image`` is the fingerprint of the prepared image.
    """

    activation: Tensor
    gradient: Tensor | None
    score: float
    logits: Tensor | None
    image: str


@dataclass(frozen=True, eq=False)
class Activations:
    """A table (n, d) of what n images caused at a site, in float32; a file under the memory limit's other side.

    ``shape`` is that of one activation before pooling, ``images`` the fingerprints of the prepared images, ``key`` says what the table depends on:
    network, scans, site, pooling. ``network`` is the network's identity, ``notes`` what was noticed of it when the table was made.
    """

    site: str
    pool: Pool
    rows: NDArray[np.float32]
    shape: tuple[int, ...]
    images: tuple[str, ...]
    network: str
    key: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def pooled(activation: Tensor, pool: Pool) -> Tensor:
    """An activation (c, *space) as a vector: the mean or the highest value of each channel, or all values."""
    flat = activation.flatten(1) if activation.ndim > 1 else activation[:, None]
    return flat.mean(1) if pool == "mean" else flat.amax(1) if pool == "max" else flat.flatten()


def look(
    model: Model,
    scans: Sequence[Scan],
    site: str,
    target: Any = None,
    *,
    gradient: bool = False,
    run: Run | None = None,
    notes: list[str] | None = None,
) -> Iterator[Seen]:
    """What each scan causes at ``site``, in the scans' order, as few passes as there are chunks; scans are read as they come.

    Args:
        model: the network described.
        scans: images, tensors (c, *space) or paths; of any sizes that the network takes.
        site: a named site, or ``"auto"``.
        target: whose score and gradient are told; None: only activations and logits are of interest.
        gradient: whether the gradient at the site is told too (one backward pass each).
        run: seed, chunk, memory, progress, cancel.
        notes: gets what an explanation would tell as caveats: a network that answers otherwise when asked again, an ending that nothing tells.

    Raises:
        BadParameter: a gradient of no target, or a target that each image would choose for itself.
        BadSite, BadImage, BadModel: as ``explain`` raises them.
    """
    wanted = as_target(_nothing if target is None else target)
    if gradient and target is None:
        raise BadParameter("a gradient is that of a target", "target=None", "Name a class: target='disease'.")
    if wanted.open:
        raise BadParameter("one target for all images", f"{wanted!r}, which each image chooses", "Name a class: target='disease'.")
    if model.windows is not None:
        raise Unsupported("a hidden site needs one pass over the whole image", "windows=", "Crop in prepare= and leave windows= out.")
    model.check_weights()
    run = run or Run()
    engine = Engine(model, run, Meter(run, total=len(scans)))
    for chunk in _chunks(engine, scans, site, wanted, gradient):
        with untouched(model.module):  # never while the caller has the turn
            seen = _answered(engine, chunk, gradient)
        if notes is not None:
            notes += [n for n in engine.notes if n not in notes]
        yield from seen


def _nothing(output: Tensor) -> Tensor:
    """A score that nobody asks for."""
    return output.detach().flatten(1).sum(1) * 0


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A prepared image in line, with the question that all images of its shape share."""

    question: Question
    x: Tensor
    image: str


def _chunks(engine: Engine, scans: Sequence[Scan], site: str, target: Target, gradient: bool) -> Iterator[list[_Waiting]]:
    """Images of one shape, as many as go side by side, in the scans' order."""
    questions: dict[tuple[int, ...], Question] = {}
    waiting: list[_Waiting] = []
    for given in scans:
        image, x = engine.model.ready(as_image(given))
        shape = tuple(x.shape)
        if shape not in questions:
            questions[shape] = _opened(engine, Question(target, image.grid, x), site)
        question = questions[shape]
        if waiting and (waiting[0].question is not question or len(waiting) >= _room(engine, waiting[0].question, gradient)):
            yield waiting
            waiting = []
        waiting.append(_Waiting(question, x, image.fingerprint))
    if waiting:
        yield waiting


def _opened(engine: Engine, question: Question, site: str) -> Question:
    """The question with its place; how the network ends is looked at, as for an explanation."""
    with untouched(engine.model.module):
        engine.settle(question)
        question.place, cost = find(engine.model, site, question.x)
    engine.count_setup(question, cost)
    return question


def _room(engine: Engine, question: Question, gradient: bool) -> int:
    return engine.plan("gradients" if gradient else "scores", question).size


def _answered(engine: Engine, waiting: Sequence[_Waiting], gradient: bool) -> list[Seen]:
    block = Block(waiting[0].question, torch.stack([w.x for w in waiting]), gradient, through=True)
    reply = engine.answer([block])[0]
    seen = []
    for i, one in enumerate(waiting):
        slope = None if reply.gradients is None else reply.gradients[i].cpu()
        logits = None if reply.classes is None else reply.classes[i]
        seen.append(Seen(reply.inputs[i].cpu(), slope, float(reply.scores[i]), logits, one.image))
    return seen


def gather(
    model: Model,
    scans: Sequence[Scan],
    site: str,
    *,
    pool: Pool = "mean",
    folder: str | Path | None = None,
    run: Run | None = None,
) -> Activations:
    """The activations of all scans at a site as one table; looked up where it was made before.

    Args:
        model: the network described.
        scans: images, tensors (c, *space) or paths, at least one.
        site: a named site, or ``"auto"``.
        pool: ``mean`` or ``max`` over the cells, or ``none``: all values, for which all activations must have one shape.
        folder: where tables are kept, each under the hash of network, scans, site and pooling: never under a name that something else may bear.
        run: ``memory``: bytes of a table that stay in memory (1 GiB where it is None); larger ones become a file.

    Raises:
        BadImage: activations of several shapes with ``pool="none"``, or values that are not finite.
        BadFile: ``folder`` is a file.
    """
    if pool not in get_args(Pool):
        raise BadParameter("pool is mean, max or none", repr(pool), "Choose one of them.")
    if not len(scans):
        raise BadParameter("at least one image", "none", "Give the images.")
    images = [model.ready(as_image(s))[0].fingerprint for s in scans]  # what prepare reads besides a scan's values has told on it
    network = model.identity
    told = {"pellucid": versions()["pellucid"], "network": network, "images": images, "site": site, "pool": pool}
    key = digest(json.dumps(told, sort_keys=True))[:32]
    kept = None if folder is None else _folder(Path(folder)) / f"{key}.npy"
    if kept is not None and (found := _kept(kept, len(scans))) is not None:
        rows, shape, notes = found
    else:
        rows, shape, notes = _made(model, scans, site, pool, kept, run or Run())
    return Activations(site, pool, rows, shape, tuple(images), network, key, notes)


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise BadFile(f"a folder for tables: {path}", "a file", "Choose another folder.")
    path.mkdir(parents=True, exist_ok=True)
    return path


Table = tuple[NDArray[np.float32], tuple[int, ...], tuple[str, ...]]  # rows, the shape of one activation, notes


def _kept(path: Path, n: int) -> Table | None:
    """A table made before; None where there is none, or none that can be read."""
    try:
        told = json.loads(path.with_suffix(".json").read_text())
        shape, notes = tuple(int(s) for s in told["shape"]), tuple(map(str, told["notes"]))
        if told["sha256"] != _hash(path):
            return None
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, RecursionError):
        return None
    return (rows, shape, notes) if rows.ndim == 2 and len(rows) == n and rows.dtype == np.float32 else None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _made(model: Model, scans: Sequence[Scan], site: str, pool: Pool, kept: Path | None, run: Run) -> Table:
    if kept is None:
        return _filled(model, scans, site, pool, None, run)
    with whole(kept) as draft:
        _, shape, notes = _filled(model, scans, site, pool, draft, run)
    put(kept.with_suffix(".json"), json.dumps({"shape": shape, "notes": notes, "sha256": _hash(kept)}))
    return np.load(kept, mmap_mode="r"), shape, notes


def _filled(model: Model, scans: Sequence[Scan], site: str, pool: Pool, path: Path | None, run: Run) -> Table:
    rows: NDArray[np.float32] | None = None
    shape: tuple[int, ...] = ()
    notes: list[str] = []
    for i, seen in enumerate(look(model, scans, site, run=run, notes=notes)):
        row = pooled(seen.activation, pool).float().numpy()
        if rows is None:
            rows, shape = _room_for(len(scans), len(row), path, run.memory or MEMORY), tuple(seen.activation.shape)
        if len(row) != rows.shape[1]:
            got = f"{tuple(seen.activation.shape)} after {shape}"
            raise BadImage(f"activations of one shape at {site!r}", got, "Choose pool='mean', or bring the images to one size in prepare=.")
        if not np.isfinite(row).all():
            raise BadImage(f"finite activations at {site!r}", f"NaN or infinity for image {i}", "Look at its values.")
        rows[i] = row
    assert rows is not None
    if isinstance(rows, np.memmap):
        rows.flush()
    return rows, shape, tuple(notes)


def _room_for(n: int, d: int, path: Path | None, memory: int) -> NDArray[np.float32]:
    """An empty table: in memory where it fits, else in a file that goes with it; ``path``: in that very file."""
    if path is None and n * d * 4 <= memory:
        return np.empty((n, d), np.float32)
    if path is not None:
        return np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    folder = tempfile.mkdtemp(prefix="pellucid-")
    rows = np.lib.format.open_memmap(Path(folder) / "rows.npy", "w+", np.float32, (n, d))
    weakref.finalize(rows, shutil.rmtree, folder, ignore_errors=True)
    return rows
