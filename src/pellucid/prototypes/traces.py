"""Unit traces: what the units of a layer give step by step along a sequence, and which of them follow an event."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadParameter
from pellucid.findings import signed
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.intervals import Interval, average
from pellucid.model import Model, as_model
from pellucid.prototypes.course import Caught, Floats, State, along
from pellucid.prototypes.traced import Followed, Traces, UnitTrace
from pellucid.run import Meter, Run
from pellucid.signals import on_signals, signal

CITE = "Karpathy, Johnson, Fei-Fei 2016, Visualizing and understanding recurrent networks, ICLR workshop"


def unit_traces(
    net: Model | nn.Module,
    scans: Scan | NDArray[Any] | Sequence[Scan | NDArray[Any]],
    site: str,
    *,
    events: Sequence[Any] | None = None,
    state: State = "output",
    layer: int = -1,
    axis: int = -1,
    patients: Sequence[Hashable] | None = None,
    draws: int = 200,
    alpha: float = 0.05,
    run: Run | None = None,
) -> Traces:
    """The activations of a layer's units along a sequence, in seconds (or mm) where the image knows them.

    Fused recurrent layers are followed step by step (``state="cell"``: an LSTM's memory instead of its output), loops over cells call by call, 1-D
    convolutions and what keeps their shape by their own steps. Of pictures and volumes (a film whose axis is time) each unit's mean over the
    cells at one place along ``axis``.

    With ``events`` each unit gets two numbers: how surely it tells steps in the event from others (``during``) and steps from its beginning on from
    those before (``since``), as the probability that the one is higher (AUC: 0.5 says nothing, below it the unit falls). Chance: the events of all
    sequences turned around in time, so that a unit that merely counts steps follows nothing.

    Args:
        net: a Model, or a bare network; of sequences (n, c, t) if the scans are (c, t).
        scans: one sequence or several: ``pl.signal(...)``, tensors or arrays (c, t), images (c, 1, t), or pictures and volumes.
        site: name of a module that gives units at steps.
        events: for each sequence which samples along the axis belong to the event (t,), not 0 where they do.
        state: ``output``, or ``cell`` of an LSTM.
        layer: of a recurrent layer of several; -1 is the last.
        axis: of pictures and volumes, which axis is the sequence.
        patients: whose each sequence is; None: a patient each.
        draws: turns of the events.
        alpha: of the test over all units and both numbers.
        run: seed, progress, cancel.

    Returns:
        The first sequence's course in full, and a row for each unit over all of them.

    Raises:
        BadSite: no such site, none with steps, or no such state.
        BadParameter: events or settings that do not fit.

    **Misleads when**: a unit that follows an event is taken for the reason of a decision, or one sequence for all.
    **Source**: Karpathy et al. 2016 look at traces; the numbers and their test are ours.
    """
    began, run = time.perf_counter(), run or Run()
    model, images = _given(as_model(net), scans)
    if isinstance(draws, bool) or not isinstance(draws, int) or not 0 < alpha < 1 or 1 / (1 + draws) > alpha:
        raise BadParameter(f"draws enough for p at most {alpha!r}", repr(draws), "Write draws=200, alpha=0.05.")
    meter = Meter(run, total=len(images))
    caught, marks = [], []
    for image in images:
        which = axis if -image.grid.ndim <= axis < image.grid.ndim else image.grid.ndim
        if which == image.grid.ndim:
            raise BadParameter(f"an axis of the image, -1 to {image.grid.ndim - 1}", repr(axis), "Choose one.")
        caught.append(along(model, image, site, state, layer, which % image.grid.ndim, replace(run, on_tick=None)))
        marks.append(model.ready(image)[0].fingerprint)
        meter.tick(forward=1)
    who: list[Hashable] = list(range(len(images))) if patients is None else list(patients)
    inside = None if events is None else _events(events, images, caught, axis)
    if len(who) != len(images):
        raise BadParameter(f"a patient for each of {len(images)} sequences", f"{len(who)}", "Give as many.")
    rows = _measured(caught, inside, who, _Level(draws, alpha, run.seed), meter.tick)
    first, ready = caught[0], model.ready(images[0])[0]
    at, unit, label = _times(ready.grid, first.at, axis)
    asked = f"unit_traces(state={state!r}, layer={layer}, axis={axis}, draws={draws}, sequences={len(images)}, events={events is not None})"
    notes = tuple(dict.fromkeys(n for c in caught for n in c.notes))
    said = signed(model, run, asked, site=site, image=digest(*marks), seconds=time.perf_counter() - began, cite=CITE, notes=notes)
    shown = np.empty(0, dtype=np.float64) if inside is None else inside[0].astype(np.float64)
    return Traces(
        site,
        state,
        label,
        unit,
        at,
        first.values,
        shown,
        _course(ready, axis),
        rows,
        len(images),
        len(set(who)),
        said,
        model.identity,
        notes,
    )


def _given(model: Model, scans: Any) -> tuple[Model, list[Image]]:
    """The network as it takes images, and these; sequences (c, t) become signals of unknown time."""
    several = list(scans) if isinstance(scans, (list, tuple)) else [scans]
    if not several:
        raise BadParameter("at least one sequence", "none", "Give pl.signal(values, step=1 / rate).")
    flat = [isinstance(s, (Tensor, np.ndarray)) and s.ndim == 2 for s in several]
    if any(flat) and not all(flat):
        raise BadImage("sequences of one kind", "some (c, t), some images", "Make all of them with pl.signal(values, step=...).")
    if all(flat):
        return on_signals(model), [signal(s, unit="steps") for s in several]
    return model, [as_image(s) for s in several]


def _events(events: Sequence[Any], images: Sequence[Image], caught: Sequence[Caught], axis: int) -> list[NDArray[np.bool_]]:
    """For each sequence which steps look at a sample of the event."""
    if len(events) != len(images):
        raise BadParameter(f"events for each of {len(images)} sequences", f"{len(events)}", "Give a list, also for one sequence.")
    found = []
    for k, (event, image, one) in enumerate(zip(events, images, caught, strict=True)):
        marks = np.asarray(event).reshape(-1) != 0
        if len(marks) != image.grid.shape[axis]:
            raise BadParameter(f"an event along {image.grid.shape[axis]} samples of sequence {k}", f"{len(marks)}", "Mark each sample.")
        found.append(marks[np.floor(one.at + 0.5).astype(int).clip(0, len(marks) - 1)])
    return found


def _times(grid: Grid, at: Floats, axis: int) -> tuple[Floats, str, str]:
    """Where steps lie, in words' units: seconds, mm, or samples."""
    axis %= grid.ndim
    if grid.axes:
        known = grid.axes[axis]
        return np.array([known.at(float(v)) for v in at]), known.unit, known.name
    if grid.unit == "mm":
        return at * grid.spacing[axis], "mm", f"axis {axis + 1}"
    return at.copy(), "samples", f"axis {axis + 1}"


def _course(ready: Image, axis: int) -> Image:
    """The first sequence as it is drawn: of pictures and volumes the mean over all but the axis."""
    if ready.grid.shape[0] == 1 and ready.grid.ndim == 2:
        return ready
    values = ready.values.double().transpose(1, axis % ready.grid.ndim + 1).flatten(2).mean(2)
    at, unit, label = _times(ready.grid, np.arange(values.shape[1], dtype=np.float64), axis)
    step = float(at[1] - at[0]) if len(at) > 1 else 1.0
    found = signal(values, step=abs(step) or 1.0, unit=unit, start=float(at[0]), channels=ready.channels, quantity=ready.quantity)
    return replace(found, facts={"axis": label})


# ---------------------------------------------------------------------------- what follows an event
@dataclass(frozen=True)
class _Level:
    draws: int
    alpha: float
    seed: int


def _measured(
    caught: Sequence[Caught], inside: list[NDArray[np.bool_]] | None, who: Sequence[Hashable], level: _Level, hear: Callable[[], None]
) -> tuple[UnitTrace, ...]:
    """A row for each unit; without events only how far it moves."""
    units = caught[0].values.shape[1]
    if any(c.values.shape[1] != units for c in caught):
        raise BadImage(f"{units} units in all sequences", "other numbers", "Choose a site whose units do not depend on the length.")
    reach = np.mean([np.ptp(c.values, axis=0) for c in caught], 0)
    if inside is None:
        return tuple(UnitTrace(k, float(reach[k])) for k in range(units))
    if not any(m.any() and not m.all() for m in inside):
        raise BadParameter("events that begin or end within a sequence", "none", "Mark some samples, and not all.")
    found, p = _against_turns(caught, inside, level, hear)
    rows = []
    for k in range(units):
        each = [average(found[:, k, i], who, within=(0.0, 1.0)) for i in (0, 1)]
        best = int(p[k].argmin()) if p[k, 0] != p[k, 1] else int(np.argmax([abs(e.value - 0.5) for e in each]))
        follows: Followed = ("during", "since")[best] if p[k, best] <= level.alpha else "nothing"  # type: ignore[assignment]
        rows.append(UnitTrace(k, float(reach[k]), *_ends(each[0]), float(p[k, 0]), *_ends(each[1]), float(p[k, 1]), follows))
    return tuple(rows)


def _ends(found: Interval) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def _against_turns(
    caught: Sequence[Caught], inside: Sequence[NDArray[np.bool_]], level: _Level, hear: Callable[[], None]
) -> tuple[Floats, Floats]:
    """AUC (sequences, units, 2), and p (units, 2) by the most remarkable of all of them (Westfall and Young 1993)."""
    from scipy.stats import rankdata

    ranks = [rankdata(c.values, axis=0) for c in caught]
    rng = np.random.default_rng(level.seed)
    found = np.stack([_aucs(r, m) for r, m in zip(ranks, inside, strict=True)])
    here, deals = np.nanmean(found, 0), []
    for _ in range(level.draws):
        hear()
        turned = [np.roll(m, int(rng.integers(len(m)))) for m in inside]
        deals.append(np.nanmean([_aucs(r, m) for r, m in zip(ranks, turned, strict=True)], 0))
    pool = np.stack([here, *deals])
    mean, spread = pool.mean(0), pool.std(0)
    z = np.divide(np.abs(pool - mean), spread, out=np.zeros(pool.shape), where=spread > 1e-6)
    most = np.sort(z[1:].reshape(level.draws, -1).max(1))
    return found, (1 + level.draws - np.searchsorted(most, z[0] - 1e-9)) / (level.draws + 1)


def _aucs(ranks: Floats, event: NDArray[np.bool_]) -> Floats:
    """(units, 2): of steps in the event against the others, and of those from its beginning on against those before; 0.5 where a kind is missing."""
    since = np.maximum.accumulate(event)
    found = []
    for mask in (event, since):
        n = int(mask.sum())
        rest = len(mask) - n
        found.append((mask @ ranks - n * (n + 1) / 2) / (n * rest) if n and rest else np.full(ranks.shape[1], 0.5))
    return np.stack(found, 1)
