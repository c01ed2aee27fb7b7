"""Cases of the exercise: phantoms with known findings, or scans that a reader annotated in the viewer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pellucid import phantoms
from pellucid.annotation.exercise import Case
from pellucid.annotation.session import Annotation, begin
from pellucid.annotation.simulated import true_findings
from pellucid.errors import BadFile, BadParameter, PellucidError
from pellucid.evidence.localization import propose
from pellucid.explain import explain
from pellucid.io import read
from pellucid.loading import load_model
from pellucid.method import Method
from pellucid.model import Model

# what is looked for, by kind of phantom: the class, the mask, the method whose maps propose, and how they are cut
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "fundus_dme": ("DME", "edema", "grad_cam", {}),
    "chest": ("effusion", "effusion", "grad_cam", {}),
    "brain_atrophy": ("atrophy", "causal", "grad_cam", {}),
}


def phantom_cases(
    kind: str, n: int, *, seed: int = 0, method: str | Method[Any] | None = None, size: int | None = None,
    on_case: Callable[[int, int], None] | None = None, **cut: Any,
) -> list[Case]:  # fmt: skip
    """``n`` phantoms, a finding in every other one, with what the shipped network's maps propose.

    A map proposes only where the network says at least 0.5: where it sees no finding there is nothing to propose. ``method`` and the parameters of
    ``propose`` (``cut``) are by default those of KINDS.

    Raises:
        BadParameter: a kind that the exercise does not know.
    """
    if kind not in KINDS:
        raise BadParameter(f"a kind of phantom is one of {', '.join(KINDS)}", repr(kind), "Choose one.")
    target, part, usual, cuts = KINDS[kind]
    net = load_model(f"phantom:{kind}")
    found = []
    for i, p in enumerate(phantoms.cases(kind, n, seed, size=size)):
        truth = tuple(true_findings(p.masks[part]) if p.labels[_label(kind)] else ())
        found.append(Case(p.image, _proposed(net, p.image, target, method or usual, {**cuts, **cut}), None, truth, f"{kind}-{seed}-{i}"))
        if on_case is not None:
            on_case(i + 1, n)
    return found


def _label(kind: str) -> str:
    return {"fundus_dme": "dme", "chest": "effusion", "brain_atrophy": "atrophy"}[kind]


def _proposed(net: Model, image: Any, target: str, method: str | Method[Any], cut: dict[str, Any]) -> Annotation:
    why = explain(net, image, target, method=method)
    shape = image.grid.shape
    if why.probabilities and why.probabilities[net.classes.index(target)] < 0.5:
        return begin(shape)
    try:
        return begin(shape, propose(why, **cut), label=target)
    except BadParameter:  # a map without anything positive proposes nothing
        return begin(shape)


def session_cases(work: str | Path, scans: str | Path) -> list[Case]:
    """Scans that were annotated in the viewer: ``work`` is its folder of results, ``scans`` the folder that it served.

    The truth of a case is what its reader stands by; a case with proposals left open is left out. See ``docs/annotate.md`` on what that can tell.

    Raises:
        BadFile: nothing annotated there.
    """
    home, found = Path(work), []
    for record in _records(home / "annotations"):
        annotation = Annotation.read(record)
        if annotation.open:
            continue
        scan = json.loads((home / "scans" / str(record["scan"]) / "record.json").read_text(encoding="utf-8"))
        image = read(Path(scans) / scan["path"], series=scan.get("series"))
        if image.fingerprint != scan["fingerprint"]:
            raise BadFile("the scans that were annotated", f"{scan['name']}, which has changed since", "Give the folder that was served.")
        proposed = Annotation(annotation.shape, annotation.proposed, annotation.proposed, made=annotation.made)
        found.append(Case(image, proposed, annotation, annotation.accepted, str(record["scan"])))
    if not found:
        raise BadFile(
            f"annotations without open proposals in {home / 'annotations'}", "none", "Annotate scans with `pellucid serve` first."
        )
    return found


def _records(home: Path) -> Iterator[dict[str, Any]]:
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        try:
            yield json.loads((folder / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, PellucidError):
            continue


def halves(cases: Sequence[Case], share: float = 0.5) -> tuple[list[Case], list[Case]]:
    """Cases for training and cases that are held out, every other one, scan by scan: no scan in both."""
    scans = sorted({c.patient for c in cases})
    first = {s for i, s in enumerate(scans) if int((i + 1) * share) > int(i * share)}
    return [c for c in cases if c.patient in first], [c for c in cases if c.patient not in first]
