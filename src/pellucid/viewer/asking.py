"""From a question that the page sends to maps in the store: checked at once, answered in the queue."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from functools import partial
from typing import Any

from pellucid.errors import BadParameter, Cancelled
from pellucid.evidence import examine
from pellucid.explain import explain
from pellucid.explanation import Map, load
from pellucid.image import Image
from pellucid.method import Ask, Method
from pellucid.model import Model
from pellucid.report.words import named, short_target
from pellucid.target import Target, read_target
from pellucid.viewer import marks, way
from pellucid.viewer.desk import Desk
from pellucid.viewer.forms import bound
from pellucid.viewer.jobs import OVER, SOON, Job, problem
from pellucid.viewer.nets import look
from pellucid.viewer.store import missing

MOST_MAPS = 24  # of one run


def look_at(desk: Desk, scan: str, model: str) -> Job | None:
    """The job that looks at a network with a scan; None where that is known."""
    if (scan, model) in desk.looks:
        return None
    desk.scans.image(scan)
    desk.nets.get(model)

    def work(job: Job) -> None:
        job.enter("looking at the network")
        desk.looks[scan, model] = look(desk.nets.get(model), desk.scans.image(scan), (model, scan), job.run)

    return desk.queue.add(Job(f"look-{scan}-{model}", "look", work), SOON)


def begin(desk: Desk, question: dict[str, Any]) -> str:
    """Check a question, keep it, and put it into the queue; the id of its run.

    Raises:
        PellucidError: no such scan, network, method or mark; a parameter that its kind refuses; a target that makes no sense.
    """
    image, model = desk.scans.image(question["scan"]), desk.nets.get(question["model"])
    methods = [bound(m["name"], m["params"]) for m in question["methods"]]
    sites = question["sites"] or [None]
    if not methods or len(methods) * len(sites) > MOST_MAPS:
        got = f"{len(methods)} methods at {len(sites)} sites"
        raise BadParameter(f"from one map to {MOST_MAPS} in a run", got, "Choose a method, or ask in several runs.")
    for m in methods:
        if image.grid.ndim not in m.facts.space:
            got = f"a scan in {image.grid.ndim}"
            raise BadParameter(f"a scan in {sorted(m.facts.space)} dimensions for {m.name}", got, "Choose another method.")
    target = _target(desk, question)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    key = desk.store.new("runs", {"question": question, "state": "waiting", "made": now, "maps": [], "error": None, "seconds": 0.0})

    asks = [Ask(m, target, s) for m in methods for s in sites]
    work = partial(_work, desk, key, model, image, asks, question["evidence"])
    desk.queue.add(Job(key, "explain", work, question["seed"], question["chunk"]))
    return key


def _work(desk: Desk, key: str, model: Model, image: Image, asks: list[Ask], level: Any, job: Job) -> None:
    """The work of a run, with its end written into the record whatever happens."""
    began = time.monotonic()
    desk.store.change("runs", key, state="running")
    try:
        _answer(desk, job, key, model, image, asks, level)
    except Cancelled:
        desk.store.change("runs", key, state="cancelled")
        raise
    except Exception as error:
        desk.store.change("runs", key, state="failed", error=problem(error))
        raise
    desk.store.change("runs", key, state="done", seconds=round(time.monotonic() - began, 2))


def _target(desk: Desk, question: dict[str, Any]) -> Target:
    mark = question["mark"]
    return read_target(question["target"] or None, marks.image(desk, mark) if mark else None)


def _answer(desk: Desk, job: Job, key: str, model: Model, image: Image, asks: list[Ask], level: Any) -> None:
    """Map after map: shown as soon as it is there, and again when it is examined."""
    groups: dict[str, list[Ask]] = {}
    for a in asks:
        groups.setdefault(repr(a.method), []).append(a)
    found: list[Map] = []
    for n, group in enumerate(groups.values()):
        name = named(repr(group[0].method))
        job.enter(name if len(groups) == 1 else f"{name} ({n + 1} of {len(groups)})")
        settled = found[0].ask.target if found else None  # what the scan is predicted as is found once
        group = [replace(a, target=settled) if settled is not None and a.target.open else a for a in group]
        maps = explain(model, [image], group, run=job.run)
        for m in maps:
            _keep(desk, key, len(found), m)
            found.append(m)
    if level == "none":
        return
    for n, m in enumerate(found):
        job.enter(f"checking {named(repr(m.ask.method))}" + ("" if len(found) == 1 else f" ({n + 1} of {len(found)})"))
        _keep(desk, key, n, m.with_evidence(examine(model, m.image, m, level, run=job.run)))


def _keep(desk: Desk, key: str, n: int, why: Map) -> None:
    """A map as an archive, the way to it where it was recorded, and a line about it in the record."""
    folder = desk.store.folder("runs", key)
    why.save(folder / f"{n}.npz")
    steps = (folder / f"{n}.way.npz").exists() or way.save(folder / f"{n}.way.npz", why)
    desk.maps.forget(f"{key}.{n}")
    p = why.provenance
    line = {
        "n": n, "name": named(p.method), "method": p.method, "target": p.target, "explained": short_target(p)[0], "site": p.site, "score": why.score,
        "verdict": why.evidence.verdict, "level": why.evidence.level, "way": steps,
    }  # fmt: skip
    with desk.store.changing("runs", key) as record:
        record["maps"] = [*[m for m in record["maps"] if m["n"] != n], line]


def progress(desk: Desk, key: str) -> dict[str, Any]:
    """The record of a run, with how far it is."""
    record = desk.store.get("runs", key)
    job = desk.queue.jobs.get(key)
    told = {"id": key, "phase": "", "done": 0, "total": None, "ahead": 0, "stopping": False, **record}
    if job is not None and record["state"] not in OVER:
        state = job.state if job.state in OVER else record["state"]
        told |= {"state": state, "phase": job.phase, "done": job.done, "total": job.total, "ahead": desk.queue.ahead(job)}
        told["stopping"] = job.cancel.is_set()
    return told


def stop(desk: Desk, key: str) -> None:
    """Cancel a run; the network is as it was."""
    desk.store.get("runs", key)
    job = desk.queue.jobs.get(key)
    waiting = job is not None and job.state == "waiting"
    if desk.queue.stop(key) and waiting:
        desk.store.change("runs", key, state="cancelled")


def split(map_id: str) -> tuple[str, int]:
    """Run and number of a map's id.

    Raises:
        BadFile: it is none.
    """
    run, _, n = map_id.rpartition(".")
    if not n.isdecimal() or len(n) > 3 or not n.isascii():
        raise missing("maps", map_id)
    return run, int(n)


def map_of(desk: Desk, map_id: str) -> Map:
    """A map by its id, read back from its archive."""
    run, n = split(map_id)
    path = desk.store.folder("runs", run) / f"{n}.npz"
    if not path.is_file():
        raise missing("maps", map_id)
    return desk.maps.get(map_id, lambda: load(path))


def word(desk: Desk, map_id: str) -> str:
    """What the checks of a map said, in a word."""
    return map_of(desk, map_id).evidence.verdict or "not examined"


def scan_of(desk: Desk, map_id: str) -> str:
    """The id of the scan that a map explains."""
    return str(desk.store.get("runs", split(map_id)[0])["question"]["scan"])


def cost(desk: Desk, scan: str, m: Method[Any]) -> dict[str, Any]:
    """Passes that a method spends on a scan, where that can be said before."""
    image = desk.scans.image(scan)
    try:
        spent = m.on(image.grid).cost(tuple(image.values.shape), image.grid)
    except Exception:  # a cost that depends on a site's shape
        return {"forward": None, "backward": None, "at_most": False}
    return {"forward": spent.forward, "backward": spent.backward, "at_most": spent.at_most}
