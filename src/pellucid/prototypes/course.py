"""Course: what the units of a module give along a sequence, and where each step lies."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.activations import look
from pellucid.errors import BadSite
from pellucid.image import Image
from pellucid.model import Model
from pellucid.probe.geometry import Axis, Call
from pellucid.probe.ledger import untouched
from pellucid.probe.sites import calls
from pellucid.prototypes.cells import cells_of
from pellucid.recurrence import Course, Watched
from pellucid.run import Run

State = Literal["output", "cell"]
Floats = NDArray[np.float64]
STRETCHED = "Where the steps of {} lie in time is not known: they are spread evenly."


@dataclass(eq=False)
class Caught:
    """Values (steps, units) of one sequence, and the index along the image at which each step looks; ``notes`` says what is not known."""

    values: Floats
    at: Floats
    notes: list[str] = field(default_factory=list)


def along(model: Model, image: Image, site: str, state: State, layer: int, axis: int, run: Run) -> Caught:
    """The course of a site's units along an axis of a prepared image.

    Raises:
        BadSite: no such site, no steps, or several calls that are no steps.
    """
    if image.grid.shape[0] > 1 or image.grid.ndim > 2:
        return _cells(model, image, site, axis, run)
    with untouched(model.module):
        module = _named(model, site)
        ready, x = model.ready(image)
        known = calls(model, x)[0]
        outputs, watched = _run(model, x, module)
    note: list[str] = []
    if isinstance(module, nn.RNNBase):
        values = np.concatenate([_states(c, site, state, layer) for c in watched.courses])
    elif isinstance(module, nn.RNNCellBase):
        values = np.stack([_of_cell(o, site, state) for o in outputs])
    else:
        _no_state(state, site)
        values = _plain(outputs, [c for c in known if c.name == site], site)
    return Caught(values, _places(known, site, len(values), ready.grid.shape[-1], note), note)


def _named(model: Model, site: str) -> nn.Module:
    names = dict(model.module.named_modules())
    if site in names and site:
        return names[site]
    near = difflib.get_close_matches(site, list(names), 3, 0.4) or [n for n in names if n][-3:]
    raise BadSite(f"a site of {model.name}", f"{site!r}, which does not exist", "Nearest: " + ", ".join(repr(n) for n in near) + ".")


def _run(model: Model, x: Tensor, module: nn.Module) -> tuple[list[Any], Watched]:
    """One pass; what every call of the module returned, and the states of fused layers."""
    outputs: list[Any] = []
    watched = Watched()

    def enter(_m: nn.Module, _args: Any) -> None:
        watched.__enter__()

    def leave(_m: nn.Module, _args: Any, output: Any) -> None:
        watched.__exit__(None, None, None)
        outputs.append(output)

    fused = isinstance(module, nn.RNNBase)
    handles = [module.register_forward_hook(leave if fused else lambda _m, _a, o: outputs.append(o))]
    if fused:
        handles.append(module.register_forward_pre_hook(enter))
    try:
        with torch.no_grad():
            model.forward(x[None])
    finally:
        for handle in handles:
            handle.remove()
    if not outputs:
        raise BadSite("a site that runs", "one that does not run on this sequence", "Choose another site.")
    return outputs, watched


def _states(courses: Sequence[Course], site: str, state: State, layer: int) -> Floats:
    """Of a call of a fused layer: (steps, units), both directions side by side."""
    layers = 1 + max(c.layer for c in courses)
    if not -layers <= layer < layers:
        raise BadSite(f"a layer of {site!r}: 0 to {layers - 1}, or -1 for the last", repr(layer), "Choose one.")
    chosen = [c for c in courses if c.layer == layer % layers]
    parts = [c.outputs if state == "output" else c.memory for c in chosen]
    if any(p is None for p in parts):
        raise BadSite(f"a cell state at {site!r}", "a layer without one", "Only an LSTM has it; write state='output'.")
    return np.concatenate([p[:, 0].double().cpu().numpy() for p in parts if p is not None], 1)


def _of_cell(output: Any, site: str, state: State) -> Floats:
    if state == "cell" and not isinstance(output, tuple):
        raise BadSite(f"a cell state at {site!r}", "a cell without one", "Only an LSTM has it; write state='output'.")
    chosen = output[1 if state == "cell" else 0] if isinstance(output, tuple) else output
    found: Floats = chosen.reshape(-1, chosen.shape[-1])[0].double().cpu().numpy()
    return found


def _no_state(state: State, site: str) -> None:
    if state != "output":
        raise BadSite(f"a cell state at {site!r}", "a module without one", "Only an LSTM has it; write state='output'.")


def _plain(outputs: list[Any], known: Sequence[Call], site: str) -> Floats:
    """Of any other module: a call with steps, or a call for each step."""
    first = [o[0] if isinstance(o, (tuple, list)) else o for o in outputs]
    if len(first) > 1 and all(isinstance(o, Tensor) and o.ndim == 2 for o in first):
        return np.concatenate([o[:1].double().cpu().numpy() for o in first])
    if len(first) > 1 or not isinstance(first[0], Tensor) or first[0].ndim != 3:
        got = f"{len(first)} calls" if len(first) > 1 else f"an output of shape {tuple(getattr(first[0], 'shape', ()))}"
        raise BadSite(f"steps and units at {site!r}", got, "Choose a recurrent layer, a 1-D convolution, or what keeps (n, units, steps).")
    z = first[0][0].double().cpu().numpy()
    steps = _steps(known)
    if steps is None:
        fix = "Choose a recurrent layer, a 1-D convolution, or a layer that keeps their shape."
        raise BadSite(f"a site of which it is known which axis runs along the sequence: {site!r}", f"shape {tuple(first[0].shape)}", fix)
    return z if steps == 1 else z.T


def _steps(known: Sequence[Call]) -> int | None:
    """Which dimension of an output (n, a, b) runs along the sequence."""
    tags = known[0].layout.tags if known else ()
    if len(tags) != 3:
        return None
    axes = [d for d in (1, 2) if isinstance(tags[d], Axis)]
    units = [d for d in (1, 2) if tags[d] == "channel"]
    return axes[0] if len(axes) == 1 else 3 - units[0] if len(units) == 1 else None


def _places(known: Sequence[Call], site: str, steps: int, samples: int, notes: list[str]) -> Floats:
    """The sample that each step looks at: as followed through convolutions and pools, by the last site with as many steps."""
    own = [k for k, c in enumerate(known) if c.name == site]
    before = known[: own[0] + 1] if own else known
    for call in reversed(before):
        for tag, n in zip(call.layout.tags, call.shape, strict=True):
            if isinstance(tag, Axis) and tag.affine and n == steps:
                return np.asarray(tag.offset + tag.stride * np.arange(steps), np.float64)
    if steps == samples:
        return np.arange(steps, dtype=np.float64)
    notes.append(STRETCHED.format(site))
    return (np.arange(steps) + 0.5) * samples / steps - 0.5


def _cells(model: Model, image: Image, site: str, axis: int, run: Run) -> Caught:
    """Of a site with cells on a picture or volume: the mean of each unit over all cells at one place along the axis."""
    name, grid, placed = cells_of(model, image, site)
    seen = next(iter(look(model, [image], site, run=run)))
    values = seen.activation.double().transpose(1, axis + 1).flatten(2).mean(2).numpy().T
    ready = model.ready(image)[0].grid
    at = np.array([ready.index(grid.world([k if a == axis else 0 for a in range(grid.ndim)]))[axis] for k in range(len(values))])
    return Caught(values, at, [] if placed else [STRETCHED.format(name)])
