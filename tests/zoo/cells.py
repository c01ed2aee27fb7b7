"""One cell of the zoo: a method on a network, for two targets. Does it run, or refuse by name; does it keep what it declares?"""

from __future__ import annotations

import inspect
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tests.zoo.networks import ZOO, model, picture, recipe_hash, targets, twin
from torch import Tensor

import pellucid as pl
from pellucid.errors import PellucidError
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.method import Asks, Gives, Method, Where
from pellucid.source import HERE, code_hash, reached

# samples, steps and rounds by the name of the parameter, full and reduced; a method's own line wins
BUDGETS: dict[str, tuple[Any, Any]] = {
    "steps": (16, 8), "masks": (64, 64), "samples": (64, 64), "n": (4, 2), "iterations": (16, 6), "rounds": (16, 6),
}  # fmt: skip
OWN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "integrated_gradients": ({"steps": 8, "tolerance": 0.02}, {"steps": 16}),
    "blur_ig": ({"steps": 16}, {"steps": 16}),
    "expected_gradients": ({"samples": 16}, {"samples": 16, "baseline": "random(2)"}),
    "influential_neurons": ({"k": 2}, {"k": 2}),
    "lime": ({"segments": "slic(60)"}, {"segments": "slic(20)"}),
    "kernel_shap": ({"segments": "slic(60)"}, {"segments": "slic(20)"}),
    "occlusion": ({"window": "56px", "stride": "28px"}, {"window": "32px", "stride": "16px"}),
    "pattern_net": ({"data": "random(8)"}, {"data": "random(2)"}),
    "pattern_attribution": ({"data": "random(8)"}, {"data": "random(2)"}),
}
OWN_3D: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "occlusion": ({"window": "32px", "stride": "16px"}, {"window": "16px", "stride": "16px"}),
}
INSIDE = ({"steps": 16, "n": 4, "tolerance": None}, {"steps": 2, "n": 2, "tolerance": None})  # of a method that another one wraps
# methods that claim a sum and yet may give the left half something of the right, and why
NOT_ADDITIVE = {
    "guided_ig": "its path takes the features with the smallest slopes of the whole image first",
    "deep_taylor": "its rules give a sum to its positive terms alone, and nothing where the score is negative",
    "excitation_backprop": "it shares out one probability, of which each half gets its part",
}
RULED = ("ruled.py", "relevance.py", "against.py", "patterns.py")  # the part of the probe that only methods with rules use
ENGINE = (
    "asking.py", "baseline.py", "channels.py", "model.py", "target.py", "reading.py", "run.py", "grid.py", "image.py",
)  # fmt: skip


@dataclass
class Cell:
    """What was found. ``gaps`` are shares of the change (COMPLETE) or of the score (CONSERVING), per target and baseline."""

    method: str
    net: str
    bound: str = ""
    status: str = "runs"  # runs, refuses, error
    message: str = ""
    side: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    passes: tuple[int, int] = (0, 0)
    declared: tuple[int, int, bool] = (0, 0, False)
    setup: int = 0
    gaps: dict[str, float] = field(default_factory=dict)
    absorbed: float | None = None  # share of the score taken up by biases and embedded parameters
    largest: float | None = None  # the largest multiplier
    faults: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    twin: float | None = None  # largest difference on the left half of g(left) + h(right) from g alone, over the largest value

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bound(method: Method[Any], dims: int, reduced: bool) -> Method[Any]:
    """The method with a budget: as many steps, masks and samples as the run allows; a CAM keeps its signs, so that none is empty."""
    own = (OWN_3D if dims == 3 else {}).get(method.name) or OWN.get(method.name, ({}, {}))
    given: dict[str, Any] = {k: v[reduced] for k, v in BUDGETS.items() if k in method.params} | own[reduced]
    for k, inner in method.params.items():
        if isinstance(inner, Method):
            given[k] = inner(**{n: v for n, v in INSIDE[reduced].items() if n in inner.params})
            if "relu" in inner.params:
                given[k] = given[k](relu=False)
    if "relu" in method.params:
        given["relu"] = False
    return method(**given)


def passes_of(method: Method[Any], net: str, reduced: bool = True) -> int:
    """Declared passes of a cell, forward and backward (for a CAM, behind 512 channels)."""
    entry = ZOO[net]
    grid = Grid((entry.side(reduced),) * entry.dims)
    shape = (entry.channels, *grid.shape) if method.facts.where is not Where.FEATURES else (512, *[2] * entry.dims)
    cost = bound(method, entry.dims, reduced).cost(shape, grid)
    return cost.forward + cost.backward


def measure(method: Method[Any], net: str, reduced: bool) -> Cell:
    """Run one cell; nothing is raised but what ends the run itself."""
    entry = ZOO[net]
    m = bound(method, entry.dims, reduced)
    cell = Cell(method.name, net, repr(m), side=entry.side(reduced))
    if entry.dims not in m.facts.space:
        cell.status, cell.message = "refuses", f"works in {sorted(m.facts.space)} dimensions"
        return cell
    described, image = model(net, reduced), picture(entry, entry.side(reduced))
    wanted = targets(entry, image.grid.shape)
    asks = [pl.ask(m, target=t) for t in wanted]
    names = ["first", "second"]
    if "baseline" in m.params and m.facts.gives & Gives.COMPLETE:
        asks.append(pl.ask(m(baseline=0.3), target=wanted[0]))
        names.append("other baseline")
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        maps: list[Map] = pl.explain(described, image, asks)
    except PellucidError as error:
        cell.status, cell.message = "refuses", f"{type(error).__name__}: {error}"
    except Exception as error:
        cell.status, cell.message = "error", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    cell.seconds, cell.cpu = round(time.perf_counter() - wall, 3), round(time.process_time() - cpu, 3)
    if cell.status == "runs":
        _look(cell, m, described, dict(zip(names, maps, strict=True)))
    return cell


def _shape(m: Method[Any], net: pl.Model, why: Map) -> tuple[int, ...]:
    """The shape of what is explained: the image, or the activation at the site."""
    if m.facts.where is not Where.FEATURES:
        return tuple(why.image.values.shape)
    known = (net.name, why.provenance.site, tuple(why.image.values.shape))
    if known not in _SHAPES:
        _SHAPES[known] = tuple(pl.explain(net, why.image, why.ask.target, method="saliency", site=why.provenance.site).values.shape)
    return _SHAPES[known]


_SHAPES: dict[Any, tuple[int, ...]] = {}


def _look(cell: Cell, m: Method[Any], net: pl.Model, maps: dict[str, Map]) -> None:
    first, second = maps["first"], maps["second"]
    cost = m.on(first.image.grid).cost(_shape(m, net, first), first.grid)
    cell.passes = (first.provenance.forward, first.provenance.backward)
    cell.declared, cell.setup = (cost.forward, cost.backward, cost.at_most), first.provenance.setup
    cell.caveats = [*first.provenance.caveats]
    too_many = cell.passes[0] > cost.forward or cell.passes[1] > cost.backward
    if too_many or (not cost.at_most and cell.passes != (cost.forward, cost.backward)):
        cell.faults.append(f"passes {cell.passes}, declared {cell.declared}")
    if not any(_moves(why.values) for why in maps.values()):
        said = all(any("zero everywhere" in c for c in why.provenance.caveats) for why in maps.values())
        cell.message = "zero everywhere, and says so" if said else ""
        cell.faults += [] if said else ["constant"]
    elif (_difference(first.values, second.values) < 1e-6) == m.facts.hears_target:
        said = all(any("same for every target" in c for c in why.provenance.caveats) for why in maps.values())
        cell.message = "one map for two targets, and says so" if said and m.facts.hears_target else ""
        cell.faults += [] if cell.message else ["one map for two targets" if m.facts.hears_target else "another map for another target"]
    for name, why in maps.items():
        _sum(cell, m, name, why)
    if "largest" in first.trace:
        cell.largest = float(first.trace["largest"])


def _sum(cell: Cell, m: Method[Any], name: str, why: Map) -> None:
    """The axiom that the method declares: the gap, as a share of what should be shared out."""
    if m.facts.gives & Gives.COMPLETE:
        if "change" not in why.trace:
            cell.faults.append("complete, but the trace does not say the change")
            return
        cell.gaps[name] = abs(why.total - why.trace["change"]) / max(abs(why.trace["change"]), 1e-12)
    if m.facts.gives & Gives.CONSERVING:
        if "absorbed" not in why.trace:
            cell.faults.append("conserving, but the trace does not say what was absorbed")
            return
        absorbed = sum(why.trace["absorbed"].values())
        cell.gaps[name] = abs(why.total + absorbed - why.score) / max(abs(why.score), 1e-12)
        cell.absorbed = absorbed / why.score if cell.absorbed is None else cell.absorbed


def measure_twin(method: Method[Any], net: str, reduced: bool) -> Cell:
    """f = g(left) + h(right): the left half of its map against the map of g alone, for a method that claims a sum."""
    entry = ZOO[net]
    m = bound(method, entry.dims, reduced)
    if "axes" in m.params:  # a blur across the seam would mix the halves before any network sees them
        m = m(axes=list(range(entry.dims - 1)))
    cell = Cell(method.name, net, repr(m), side=entry.side(reduced))
    f, g, both, left, wanted = twin(net, reduced)
    began = time.process_time()
    try:
        whole = pl.explain(f, both, wanted[0], method=m)
        alone = pl.explain(g, left, wanted[0], method=m)
    except PellucidError as error:
        cell.status, cell.message = "refuses", f"{type(error).__name__}: {error}"
    except Exception as error:
        cell.status, cell.message = "error", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    else:
        cell.twin = float((whole.values.chunk(2, -1)[0] - alone.values).abs().max() / alone.values.abs().max())
    cell.cpu = round(time.process_time() - began, 3)
    return cell


def claims_a_sum(m: Method[Any]) -> bool:
    """Whether the twin can be asked: a sum over the image, no draws (two shapes draw otherwise), and no written reason against it."""
    sums = bool(m.facts.gives & (Gives.COMPLETE | Gives.CONSERVING))
    return sums and not m.facts.random and m.facts.where is not Where.FEATURES and m.name not in NOT_ADDITIVE


def _moves(values: Tensor) -> bool:
    return float(values.max() - values.min()) > 1e-12 * float(values.abs().max()) and bool(values.any())


def _difference(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / max(float(torch.linalg.vector_norm(a) + torch.linalg.vector_norm(b)), 1e-300))


def key(m: Method[Any], net: str, reduced: bool) -> str:
    """Which code and which networks a cell was measured with: the method's file and those of the methods inside it, the engine, the zoo."""
    files = sorted({_file(m), *(_file(v) for v in m.params.values() if isinstance(v, Method))})
    probe = [f"probe/{p.name}" for p in sorted((HERE / "probe").glob("*.py")) if p.name not in RULED]
    rules = ["probe/rules", *(f"probe/{name}" for name in RULED)] if m.facts.asks & Asks.RULES else []
    size = ZOO[net].side(reduced)
    parts = [*files, *ENGINE, *probe, *rules]
    return f"{bound(m, ZOO[net].dims, reduced)!r} on {net} at {size}, {code_hash(*parts, *reached(parts, ['ops']))[:12]}, {recipe_hash()}"


def _file(m: Method[Any]) -> str:
    return Path(inspect.getsourcefile(m.fn) or "").resolve().relative_to(HERE.resolve()).as_posix()
