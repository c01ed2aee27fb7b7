"""Concepts in words: what ``pellucid concepts`` found over many images, and what it says of the scan, worded so that neither contradicts the other."""

from __future__ import annotations

import math
import secrets
from functools import partial
from typing import Any

from pellucid.concepts import ConceptRow, Concepts
from pellucid.concepts.result import SILENT
from pellucid.errors import PellucidError
from pellucid.image import Image
from pellucid.model import Model
from pellucid.report.words import number
from pellucid.viewer.desk import Desk
from pellucid.viewer.jobs import Job, problem
from pellucid.viewer.offers import Picture
from pellucid.viewer.store import missing

KIND = "concepts"
KEPT = 16  # answers that are remembered
STATUS = {"raises": "pass", "lowers": "pass", "no more than random": "fail"}
MEANS = (
    "The share says how often the score rises when activations move a little toward the concept, over the images tested and the concept's directions, "
    "one against each random set; in brackets its 95 % interval over patients. Random concepts are sets of other images in its place: a concept is a "
    "finding if it ranks beyond them (p)."
)
CANNOT = (
    "It is a slope, not an experiment: no image was changed. It does not say that the concept is visible in a given image.",
    "A concept is what its images share. If they share something else besides, that may be what was found.",
    "A concept of which nothing is said may matter all the same: its images did not suffice to tell.",
)


def offered(desk: Desk, model: str) -> list[dict[str, Any]]:
    """Every result with all its rows; or why it says nothing of this network."""
    desk.nets.get(model)
    return [_offer(desk, model, name) for name in desk.offers.concepts]


def _offer(desk: Desk, model: str, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {"id": name, "rows": [], "notes": [], "means": MEANS, "cannot": list(CANNOT), "problem": None}
    try:
        found = desk.offers.concepts_of(name)
        desk.nets.check(model, found.network, "concepts")
        told["rows"] = [_row(found, desk.nets.get(model).classes, r) for r in found]
        told["notes"] = list(found.notes)
    except PellucidError as error:
        told["problem"] = problem(error)
    return told


def _row(found: Concepts, classes: tuple[str, ...], r: ConceptRow) -> dict[str, Any]:
    low, high = r.random_range if r.null else (math.nan, math.nan)
    return {
        "concept": r.concept, "site": r.site, "target": r.target, "of": about(r.target, classes), "verdict": r.verdict,
        "status": _status(r, len(found)), "dropped": r.verdict in SILENT, "sentence": r.sentence, "score": _finite(r.score),
        "low": _finite(r.low), "high": _finite(r.high), "random": _finite(r.random) if r.null else None, "random_low": _finite(low),
        "random_high": _finite(high), "p": _finite(r.p), "beside": _beside(r), "holm": _holm(r, len(found)), "examples": len(found.bank.shown(r.concept)),
    }  # fmt: skip


def _stands(r: ConceptRow, rows: int) -> bool:
    """Whether a finding holds as one of several that were looked for."""
    return rows < 2 or r.p_holm <= r.alpha


def _status(r: ConceptRow, rows: int) -> str:
    told = STATUS.get(r.verdict, "inconclusive")
    return "inconclusive" if told == "pass" and not _stands(r, rows) else told


def _holm(r: ConceptRow, rows: int) -> str:
    """What is left of a finding when it is one of several that were looked for; "" where it is the only one, or nothing is said."""
    if rows < 2 or r.verdict in SILENT or not math.isfinite(r.p_holm):
        return ""
    chance = r.verdict in ("raises", "lowers") and not _stands(r, rows)
    return f"One of {rows} tests: p = {r.p_holm:.2g} when all count (Holm){', so it may be chance' if chance else ''}."


def _beside(r: ConceptRow) -> str:
    """What a reader may want to know besides the sentence."""
    said = [f"{len(r.null)} random sets of {r.size} images"]
    if math.isfinite(r.accuracy):
        said.append(f"told from {r.against} images in {100 * r.accuracy:.0f} % of held-out cases")
    if math.isfinite(r.effect) and r.verdict not in SILENT:
        said.append(f"a step as long as the concept lies from them changes the score by {number(r.effect, sign=True)}")
    return "; ".join(said) + "."


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def about(target: str, classes: tuple[str, ...]) -> str:
    """The class whose score a tested target is, alone or over another's; "" where it is none."""
    for c in classes:
        if target in (c, f"logit({c!r})", f"probability({c!r})"):
            return c
    pairs = (target.partition(f"{c} over ") for c in classes)
    return next((c for c, (before, found, other) in zip(classes, pairs, strict=True) if found and not before and other in classes), "")


def picture(desk: Desk, name: str, concept: str, n: int) -> Picture:
    """An image of a concept's as a thumbnail.

    Raises:
        BadFile: no such result, concept or image.
    """
    found = desk.offers.concepts_of(name)
    shown = found.bank.shown(concept) if concept in found.bank.names else ()
    if not 0 <= n < len(shown):
        raise missing("images of the concept", str(n))
    return desk.offers.shown(shown[n])


# ---------------------------------------------------------------------------------------------------- in this image
def begin(desk: Desk, scan: str, model: str, name: str) -> str:
    """Put the question into the queue what the concepts do in this scan; the id of its job.

    Raises:
        PellucidError: no such scan, network or result, or one of another network.
    """
    image, net, found = desk.scans.image(scan), desk.nets.get(model), desk.offers.concepts_of(name)
    desk.nets.check(model, found.network, "concepts")
    desk.queue.only(KIND, KEPT)
    return desk.queue.add(Job(secrets.token_hex(8), KIND, partial(_look, net, image, found))).id


def _look(net: Model, image: Image, found: Concepts, job: Job) -> list[dict[str, Any]]:
    job.enter("looking at the concepts in this image")
    every = found.sensitivities(net, image, run=job.run)
    tested = sum(r.verdict not in SILENT for r in found)
    return [{"concept": s.concept, "site": s.site, "target": s.target, "beyond": s.beyond, "sentence": s.says(tested)} for s in every]


def told(desk: Desk, key: str) -> dict[str, Any]:
    """How far a question is, and what was found.

    Raises:
        BadFile: no such question, or one that is no longer remembered.
    """
    job = desk.queue.jobs.get(key)
    if job is None or job.kind != KIND:
        raise missing("questions about concepts", key)
    return {"id": key, **desk.queue.far(job), "found": job.result}
