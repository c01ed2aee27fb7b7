"""Influence: training images that spoke for a prediction and against it, as ``pellucid influence`` saved them for the scan."""

from __future__ import annotations

import math
from typing import Any

from pellucid.errors import PellucidError
from pellucid.exemplars import Influence
from pellucid.exemplars.index import Entry
from pellucid.image import Image
from pellucid.model import Model
from pellucid.report.words import number
from pellucid.viewer.desk import Desk
from pellucid.viewer.jobs import problem
from pellucid.viewer.offers import Picture
from pellucid.viewer.store import missing

MEANS = (
    "By how much the log probability of {target} is higher than if the last layer had learned without that image, to first order. Above 0 it spoke "
    "for {target}, below 0 against it; at +0.1 the probability is about a tenth higher with it than without."
)
SMALL = 5.0  # percent of the probability, below which one image did not decide
CANNOT = (
    "It tells of the last layer alone, fitted anew to these images: what an image did for the features below is not in the number.",
    "An image that spoke for a class does not show that the network is right, nor that the image's own label is.",
)


def of_scan(desk: Desk, scan: str, model: str, k: int) -> dict[str, Any]:
    """What saved results say of a scan and a network; ``others``: how many are about other scans."""
    image, net = desk.scans.image(scan), desk.nets.get(model)
    saved, others = desk.offers.influences(image.fingerprint)
    known = _known(desk)
    told, problems = [], []
    for name, found in saved.items():
        try:
            if isinstance(found, PellucidError):
                raise found
            desk.nets.check(model, found.network, "influence")
            told.append(_told(desk, net, image, name, found, known, k))
        except PellucidError as error:
            problems.append({"name": name, "problem": problem(error)})
    return {"found": told, "problems": problems, "others": others}


def _known(desk: Desk) -> dict[str, Entry]:
    """Cases of all indexes by the fingerprint of their prepared image: they know where a training image lies, a result does not."""
    known: dict[str, Entry] = {}
    for name in desk.offers.indexes:
        try:
            known |= {e.image: e for e in desk.offers.index(name).entries}
        except PellucidError:  # said where indexes are listed
            continue
    return known


def _told(desk: Desk, net: Model, image: Image, name: str, found: Influence, known: dict[str, Entry], k: int) -> dict[str, Any]:
    own = net.ready(image)[0].fingerprint
    most = max((abs(float(v)) for v in found.values), default=0.0) or 1.0

    def row(i: int) -> dict[str, Any]:
        mark, value = found.images[i] if i < len(found.images) else "", float(found.values[i])
        shown = {"label": found.labels[i], "value": value, "shown": number(value, sign=True), "share": abs(value) / most}
        lies = desk.offers.where(known[mark]) if mark in known else "No index at hand knows where it lies."
        return {
            "place": i,
            **shown,
            "same": mark == own,
            "picture": not isinstance(lies, str),
            "why": lies if isinstance(lies, str) else "",
        }

    return {
        "id": name, "target": found.target, "probability": found.probability if math.isfinite(found.probability) else None,
        "images": len(found.values), "verdict": found.evidence.verdict or "not examined", "reasons": list(found.evidence.reasons),
        "weight": _weight(found), "caveats": list(found.provenance.caveats), "means": MEANS.format(target=found.target), "cannot": list(CANNOT),
        "pro": [row(i) for i in found.proponents(k)], "against": [row(i) for i in found.opponents(k)],
    }  # fmt: skip


def _weight(found: Influence) -> str:
    """How much a single image weighs, so that nobody takes the strongest of many small ones for a cause."""
    most = max((abs(float(v)) for v in found.values), default=0.0)
    share = 100 * math.expm1(most)
    told = f"the strongest alone changes the probability by {number(share)} % of itself"
    return f"No single image decided: {told}." if share < SMALL else f"{told[0].upper()}{told[1:]}."


def picture(desk: Desk, scan: str, model: str, name: str, place: int) -> Picture:
    """A training image that a saved result tells of, out of an index that knows where it lies.

    Raises:
        BadFile: no such result or image, or no index that holds it.
    """
    image, net = desk.scans.image(scan), desk.nets.get(model)
    found = desk.offers.influences(image.fingerprint)[0].get(name)
    if isinstance(found, Influence) and 0 <= place < len(found.images):
        desk.nets.check(model, found.network, "influence")
        entry = _known(desk).get(found.images[place])
        if entry is not None:
            return desk.offers.picture(net, entry)
    raise missing("training images", str(place))
