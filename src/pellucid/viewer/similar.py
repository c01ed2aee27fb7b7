"""Similar cases: those of an index that are nearest to the scan, found in the queue, with what the numbers mean and what they do not."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pellucid.errors import BadParameter, PellucidError
from pellucid.exemplars import Exemplars, Index, Match
from pellucid.exemplars import similar as most_alike
from pellucid.exemplars.index import Key
from pellucid.image import Image
from pellucid.model import Model
from pellucid.report.words import named, number
from pellucid.run import Meter
from pellucid.viewer.desk import Desk
from pellucid.viewer.jobs import Job, problem
from pellucid.viewer.offers import Picture
from pellucid.viewer.store import missing
from pellucid.written import written

KIND = "similar"
MOST = 24  # cases at once
WHOLE = 5000  # cases of an index, up to which it is said how alike the usual one is
KEPT = 8  # answers that are remembered, with their pictures
SCALES = {
    "cosine": "Likeness is the cosine between two descriptions, 1 where they point the same way and 0 where they share nothing; distance is 1 less the cosine.",
    "ssim": "Likeness is the structural similarity of two pictures, 1 where they are equal; distance is 1 less that.",
    "euclidean": "Likeness is the mean cosine between two descriptions over all places, 1 where they are equal; distance is Euclidean.",
}  # fmt: skip
CANNOT = (
    "It orders cases as this network sees them: no probability, and no number to compare between networks, indexes or measures.",
    "It does not say that two patients have the same disease, nor why the network decided as it did.",
    "The labels are those that the index was given; nobody has checked them here.",
)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in an index, without the cases of the scan's own patient, and a picture of each case."""

    compared: str
    metric: str
    usual: str
    found: Exemplars
    among: Counter[str]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


def offered(desk: Desk, model: str) -> list[dict[str, Any]]:
    """Every index: how many cases, of which labels and measure; or why it cannot be asked with this network."""
    desk.nets.get(model)
    rows = []
    for name in desk.offers.indexes:
        row: dict[str, Any] = {"id": name, "cases": 0, "measure": "", "labels": [], "patients": False, "problem": None}
        try:
            index = desk.offers.index(name)
            row |= {"cases": len(index), "measure": compared(index), "patients": any(e.patient for e in index.entries)}
            row["labels"] = [{"label": k, "among": n} for k, n in counted(index.labels).most_common()]
            _check(desk, model, index, name)
        except PellucidError as error:
            row["problem"] = problem(error)
        rows.append(row)
    return rows


def _check(desk: Desk, model: str, index: Index, name: str) -> None:
    """Refuse an index of another network or preparation; the network may be running."""
    net, (identity, weights) = desk.nets.get(model), desk.nets.marks(model)
    try:
        index.key.check(Key(identity, weights, written(net.prepare), written(net.normalize), repr(index.measure)))
    except BadParameter as error:
        fix = "Choose the network that it was made with, or index the cases anew."
        got = f"{error.got.partition(' (')[0]} ({index.key.network[:12]}, not {identity[:12]})"
        raise BadParameter(f"an index of this network: {name}", got, fix) from error


def compared(index: Index) -> str:
    """What makes two images alike, for people."""
    told: Any = index.measure
    name = type(told).__name__
    if name == "Features":
        how = {"mean": "the mean activation of each channel", "max": "the highest activation of each channel", "none": "all activations"}[
            told.pool
        ]
        return f"what the network sees: {how} at {told.site}"
    if name == "Weighted":
        return f"what the network sees where it looks: activations at {told.site}, weighted by {named(told.method)}"
    if name == "MapFeatures":
        return f"what the map looks like: that of {named(told.method)}, shown to the network, at {told.site}"
    if name == "Structural":
        return "the pictures themselves, whatever the network thinks of them"
    return f"what the network sees, place by place, at {', '.join(getattr(told, 'sites', ()))}"


def counted(labels: tuple[str, ...]) -> Counter[str]:
    """How many cases bear each label; a case may bear several."""
    return Counter(one for told in labels for one in (told.split(";") if told else ("no label",)))


def begin(desk: Desk, scan: str, model: str, name: str, k: int, patient: str) -> str:
    """Check a question and put it into the queue; its id is random, for it may depend on who the patient is.

    Raises:
        PellucidError: no such scan, network or index; an index of another network, or that knows no patients where one is named.
    """
    image, net, index = desk.scans.image(scan), desk.nets.get(model), desk.offers.index(name)
    _check(desk, model, index, name)
    if patient and not any(e.patient for e in index.entries):
        raise BadParameter(
            "an index that knows its patients", f"{name}, which knows none", "Leave the patient out, or index a table with patients."
        )
    desk.queue.only(KIND, KEPT)
    about = {"scan": scan, "model": model, "index": name}
    return desk.queue.add(
        Job(secrets.token_hex(8), KIND, partial(_find, desk, net, image, index, k, index.hashed(patient)), asked=about)
    ).id


def _find(desk: Desk, net: Model, image: Image, index: Index, k: int, who: str, job: Job) -> Answer:
    job.enter("describing the scan")
    mine, notes = _own(index, net.ready(image)[0].fingerprint, who)
    theirs = {n for n, e in enumerate(index.entries) if e.patient in mine}
    wanted = len(index) if len(index) <= WHOLE else k + len(theirs)
    every = most_alike(net, image, index, wanted, run=job.run)  # exact: without theirs, the first k are the nearest of the others
    others = [m for m in every if m.place not in theirs]
    kept = tuple(others[:k])
    usual = _usual(others) if len(index) <= WHOLE else ""
    found = replace(every, matches=kept, searched=len(index) - len(theirs), left_out=len(theirs))
    job.enter("reading the cases")
    meter, pictures = Meter(job.run, total=len(kept)), []
    for m in kept:
        pictures.append(desk.offers.picture(net, index.entries[m.place]))
        meter.tick(forward=1)
    if image.grid.ndim > 2:
        notes = (*notes, "A picture shows the middle slice of a volume.")
    among = counted(tuple(e.label for n, e in enumerate(index.entries) if n not in theirs))
    return Answer(compared(index), index.measure.metric, usual, found, among, tuple(pictures), (*notes, *found.provenance.caveats))


def _usual(others: list[Match]) -> str:
    """How alike the case in the middle is: a high likeness means little where all are alike."""
    if len(others) < 2:
        return ""
    middle = others[len(others) // 2]
    told = f"distance {number(middle.distance)}" if middle.likeness is None else f"likeness {middle.likeness:.3f}"
    return f" For comparison, the case in the middle of all {len(others)}: {told}."


def _own(index: Index, image: str, asked: str) -> tuple[set[str], tuple[str, ...]]:
    """Whose cases are left out, as the index calls them, and what there is to say of that; ``asked``: who was named, hashed."""
    if not any(e.patient for e in index.entries):
        return set(), ("This index does not know its patients: cases of the same patient may be among these.",)
    seen = {e.patient for e in index.entries if e.image == image and e.patient}
    mine = seen | ({asked} if asked else set())
    count = sum(e.patient in mine for e in index.entries)
    if count:
        how = "the scan itself is in the index" if seen else "as named"
        return mine, (f"Left out: {count} {'case' if count == 1 else 'cases'} of the same patient ({how}).",)
    if asked:
        return mine, ("No case of the index is of the patient named.",)
    return mine, ("Nothing was left out: the scan itself is not in the index. If its patient is, name them as the index does.",)


def answer_of(desk: Desk, key: str) -> tuple[Job, Answer | None]:
    """The job of an id, and what it found, once it is done.

    Raises:
        BadFile: no such question, or one that is no longer remembered.
    """
    job = desk.queue.jobs.get(key)
    if job is None or job.kind != KIND:
        raise missing("questions for similar cases", key)
    return job, job.result


def told(desk: Desk, key: str) -> dict[str, Any]:
    """How far a question is, and what was found."""
    job, answer = answer_of(desk, key)
    far = {"id": key, **job.asked, **desk.queue.far(job), "found": None}
    if answer is None:
        return far
    found = answer.found
    here = counted(found.labels)
    labels = [
        {"label": k, "here": n, "among": answer.among[k], "chance": number(len(found) * answer.among[k] / max(1, found.searched))}
        for k, n in here.most_common()
    ]
    far["found"] = {
        "sentence": found.sentence.replace(";", " and ") if len(found) else "No case is left to compare with.", "measure": found.measure,
        "compared": answer.compared, "searched": found.searched, "left_out": found.left_out,
        "means": f"{SCALES[answer.metric]}{answer.usual}", "cannot": list(CANNOT), "notes": list(dict.fromkeys(answer.notes)), "labels": labels,
        "matches": [_row(desk, n, m, p) for n, (m, p) in enumerate(zip(found, answer.pictures, strict=True))],
    }  # fmt: skip
    return far


def _row(desk: Desk, n: int, m: Match, picture: Picture) -> dict[str, Any]:
    return {
        "n": n, "place": m.place, "label": m.label.replace(";", ", ") or "no label", "likeness": m.likeness,
        "likeness_shown": "" if m.likeness is None else f"{m.likeness:.3f}", "distance": number(m.distance), "same": m.same_image,
        "picture": bool(picture.png), "why": picture.why, "name": m.name if desk.offers.given.names else "",
    }  # fmt: skip


def picture(desk: Desk, key: str, n: int) -> Picture:
    """The thumbnail of a case that was found.

    Raises:
        BadFile: no such case.
    """
    _, answer = answer_of(desk, key)
    if answer is None or not 0 <= n < len(answer.pictures):
        raise missing("cases", str(n))
    return answer.pictures[n]
