"""Asking: open a question, run its method, and give the answer its provenance. Several side by side share passes."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid import io
from pellucid.errors import BadSite, Unsupported
from pellucid.explanation import Evidence, Map, Provenance
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.method import Ask, Asks, Method, Values, Where
from pellucid.model import Model, as_model
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.lockstep import Answering, meet
from pellucid.probe.probe import FAR, Drawn, Probe
from pellucid.probe.question import Question
from pellucid.probe.sites import Place, everywhere, find
from pellucid.run import Meter, Run
from pellucid.target import Target, as_target
from pellucid.written import written

Scan = Image | Tensor | str | Path
AT_ONCE = 16  # explanations side by side; more would not fill a chunk better


@dataclass(eq=False)
class _Job:
    """One explanation on its way."""

    scan: Image
    image: Image
    probe: Probe
    method: Method[Any]
    site: str

    def work(self, post: Answering) -> Drawn:
        return self.probe.answer_by(self.method, post)


def explain_all(model: Model, scans: Sequence[Image], asks: Sequence[Ask], run: Run) -> list[Map]:
    """Every Ask about every scan; scans outermost. Those of one method at one site go side by side.

    An Ask with ``site="all"`` stands for one Ask per site with spatial extent.
    """
    meter = Meter(run)
    found: dict[tuple[int, int], Map] = {}
    model.check_weights()
    with untouched(model.module):
        engine = Engine(model, run, meter)
        engine.measure_single = len(scans) > 2
        asks = _everywhere(engine, scans[0], asks)
        settled: dict[tuple[int, int], Target] = {}  # what a scan predicts is found once
        for group in _groups(scans, asks):
            began = meter.seconds
            ready = {i: model.ready(scans[i]) for i, _ in group}
            jobs = []
            for i, k in group:
                seen = settled.setdefault((i, id(asks[k].target)), asks[k].target)
                jobs.append(_open(engine, scans[i], *ready[i], replace(asks[k], target=seen)))
                settled[i, id(asks[k].target)] = jobs[-1].probe.question.target
            for j in jobs:
                j.probe.side_by_side = len(ready) * len({j.site for j in jobs})
            if meter.total is None and not found:
                meter.total = _total(jobs[0].probe, len(scans), asks)
            drawn = [jobs[0].work(engine.answer)] if len(jobs) == 1 else meet(engine.answer, [j.work for j in jobs])
            seconds = (meter.seconds - began) / len(jobs)
            found |= {at: _finish(engine, j, d, seconds) for at, j, d in zip(group, jobs, drawn, strict=True)}
    return [found[i, k] for i in range(len(scans)) for k in range(len(asks))]


def _everywhere(engine: Engine, scan: Image, asks: Sequence[Ask]) -> list[Ask]:
    """Asks at ``"all"`` sites as one Ask per site with spatial extent."""
    if all(a.site != "all" for a in asks):
        return list(asks)
    sites, passes = everywhere(engine.model, engine.model.ready(scan)[1])
    engine.meter.tick(setup=passes)
    return [replace(a, site=s) for a in asks for s in (sites if a.site == "all" else [a.site])]


def _groups(scans: Sequence[Image], asks: Sequence[Ask]) -> list[list[tuple[int, int]]]:
    """(scan, ask) that go side by side: of one method and site, the first scan's alone, so that the chunk is known before others join;
    or of one method and target at several sites, a scan at a time."""
    alike: dict[str, list[int]] = {}
    for k, ask in enumerate(asks):
        sweeps = ask.method.opening is not None and any(a.target is ask.target and a.site != ask.site for a in asks)
        alike.setdefault(f"{ask.method!r} {id(ask.target) if sweeps else ask.site}", []).append(k)
    groups: list[list[tuple[int, int]]] = []
    for ks in alike.values():
        pieces = [ks[n : n + AT_ONCE] for n in range(0, len(ks), AT_ONCE)]
        groups += [[(0, k) for k in piece] for piece in pieces]
        for piece in pieces:
            together = max(1, AT_ONCE // len(piece)) if len({asks[k].site for k in piece}) == 1 else 1
            for i in range(1, len(scans), together):
                groups.append([(j, k) for j in range(i, min(i + together, len(scans))) for k in piece])
    return groups


def _total(probe: Probe, scans: int, asks: Sequence[Ask]) -> int | None:
    """Forward passes in all; None where a method knows only a bound, or several look at sites whose shapes are not known yet."""
    looks_inside = [a.site is not None or a.method.facts.where is Where.FEATURES for a in asks]
    if any(looks_inside) and len({f"{a.method!r} {a.site}" for a in asks}) > 1:
        return None
    shape = tuple(probe.x.shape) if probe.question.place is None else probe.question.place.shape
    costs = [a.method.on(probe.image.grid).cost(shape, probe.grid) for a in asks]
    return None if any(c.at_most for c in costs) else scans * sum(c.forward for c in costs)


def as_image(given: Any) -> Image:
    """An Image from an Image, a tensor (c, *space), an array, or a path."""
    if isinstance(given, Image):
        return given
    return io.read(given) if isinstance(given, (str, Path)) else Image(given)


def _open(engine: Engine, scan: Image, image: Image, x: Tensor, ask: Ask) -> _Job:
    """Settle target and site, and set up the probe."""
    method, facts = ask.method.on(image.grid), ask.method.facts
    if image.grid.ndim not in facts.space:
        raise Unsupported(
            f"{method.name} works in {sorted(facts.space)} dimensions", f"an image in {image.grid.ndim}", "Choose another method."
        )
    if facts.asks & Asks.RULES and isinstance(engine.model.module, torch.jit.ScriptModule):
        raise Unsupported(f"{method.name} needs to see the network's operations", "TorchScript", "Load the factory with its weights.")
    site = ask.site or ("auto" if facts.where is Where.FEATURES else None)
    if site is not None and facts.where is Where.INPUT:
        raise BadSite(f"{method.name} explains {facts.where.value}", f"site={site!r}", "Leave site= out.")
    question = Question(ask.target, image.grid, x)
    if ask.target.open:
        engine.settle(question)
    chance = torch.Generator().manual_seed(engine.run.seed)
    probe = Probe(engine, question, image, x, image.grid, chance)
    if engine.model.normalize is not None and (far := float(engine.model.normalize(x[None]).abs().max())) > FAR:
        units = "the image's values seem not to be in the units of normalize=; give prepare=pl.Prepare(range=(0, 1)) or the like"
        probe.notes.append(f"after normalize= the image reaches {far:.0f} standard deviations: {units}")
    if site is not None:
        _look_inside(engine, probe, site)
    return _Job(scan, image, probe, method, "input" if question.place is None else question.place.text)


def _look_inside(engine: Engine, probe: Probe, site: str) -> None:
    """Move the probe to a hidden site: its cells become the grid; its activation becomes ``x`` when the method begins."""
    if engine.model.windows is not None:
        raise Unsupported("a hidden site needs one pass over the whole image", "windows=", "Crop in prepare= and leave windows= out.")
    question = probe.question
    place, cost = find(engine.model, site, question.x)
    engine.count_setup(question, cost)
    question.place, probe.seen = place, False
    if place.layout.space is not None:
        probe.grid, probe.affine = _grid_of(place, place.layout.space, probe)


def _grid_of(place: Place, space: tuple[int, ...], probe: Probe) -> tuple[Grid, bool]:
    grid, layout = probe.image.grid, place.layout
    if layout.stride is not None and layout.offset is not None and len(space) == grid.ndim:
        return grid.coarsen(layout.stride, layout.offset, space), True
    if len(space) != grid.ndim:
        raise BadSite(f"a site with {grid.ndim} spatial axes, or none", f"{place.text!r} of {place.shape}", "Choose a neighbor.")
    probe.notes.append(f"the cells of {place.text!r} have no fixed place on the image; the map is stretched over it")
    return grid.resize(space), False


def _finish(engine: Engine, job: _Job, drawn: Drawn, seconds: float) -> Map:
    """The Map with its provenance."""
    probe, question = job.probe, job.probe.question
    score = probe.known if probe.known is not None else engine.score_of(question)
    facts = job.method.facts
    caveats = [*dict.fromkeys([*engine.model.source.get("notes", ()), *probe.notes, *engine.notes])]
    if not facts.hears_weights:
        caveats.append(f"{job.method.name} is known to depend little on the network's weights")
    if not facts.hears_target:
        caveats.append(f"{job.method.name} shows the same for every target")
    if not bool(drawn.values.any()):
        way_out = "; relu=False shows what the ReLU took away" if job.method.params.get("relu") is True else ""
        caveats.append(f"the map is zero everywhere{way_out}")
    if job.image.facts.get("photometric") == "MONOCHROME1" and "polarity" not in job.image.facts:
        caveats.append("the scan is MONOCHROME1 (bright means air); say which the network was trained on: Prepare(inverted=...)")
    provenance = Provenance(
        method=repr(job.method),
        target=repr(question.target),
        site=job.site,
        image=job.image.fingerprint,
        scan=job.scan.fingerprint if job.scan is not job.image else job.image.fingerprint,
        model=engine.model.name,
        classes=engine.model.classes,
        output=engine.output,
        prepare=written(engine.model.prepare),
        normalize=written(engine.model.normalize),
        seed=engine.run.seed,
        chunk=question.tally.chunk,
        forward=question.tally.forward,
        backward=question.tally.backward,
        setup=question.tally.setup,
        seconds=round(seconds, 4),
        device=str(engine.model.device),
        versions=versions(),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        cite=str(facts.cite),
        values=facts.values.value if isinstance(facts.values, Values) else "",
        described=engine.model.described(),
        caveats=tuple(caveats),
        hash_weights=engine.model.weights_later(),
    )
    settled = Ask(job.method, question.target, None if question.place is None else question.place.text)
    values, trace = drawn.values.cpu(), drawn.trace
    return Map(drawn.grid, provenance, Evidence(), values, job.image, job.scan, score, trace, question.probabilities, settled)


@cache
def versions() -> dict[str, str]:
    """Versions that an explanation depends on."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms

    try:
        own = version("pellucid")
    except PackageNotFoundError:
        own = "source"
    return {"pellucid": own, "torch": torch.__version__, "python": platform.python_version()}


def predict(net: Model | nn.Module, image: Scan) -> tuple[float, ...]:
    """Probabilities of all classes for an image (empty for dense outputs and regressions); one pass."""
    model = as_model(net)
    with untouched(model.module):
        engine = Engine(model, Run(), Meter(Run()))
        prepared, x = model.ready(as_image(image))
        question = Question(as_target(None), prepared.grid, x)
        engine.settle(question)
    return question.probabilities
