"""The cases of a study: a scan, its patient, what is known of it; from a table on disk or from phantoms."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from pellucid import io
from pellucid.asking import Scan, as_image
from pellucid.errors import BadFile, BadParameter
from pellucid.evidence.masks import marked
from pellucid.image import Image
from pellucid.table import read_csv
from pellucid.target import Target, as_target, read_target

KNOWN = ("image", "mask", "patient", "label", "target")


@dataclass(frozen=True, eq=False)
class StudyCase:
    """One scan of a study. ``patient`` groups the scans of one person; neither it nor ``facts`` is ever written.

    ``mask`` says where the cause lies, ``label`` what is true (a class index or name, or a tuple of all names that are, of a network with several
    labels; () or "none" if none is), ``target`` what is asked where that differs from the study's; ``facts`` are further columns (scanner, site, laterality), to be associated with what is found;
    ``where`` is the place in a table to name when something is wrong with it.
    """

    image: Scan
    patient: str = ""
    mask: Image | Tensor | str | Path | None = None
    label: int | str | tuple[str, ...] | None = None
    target: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @cached_property
    def scan(self) -> Image:
        """The scan, read when it is first needed."""
        return as_image(self.image)

    @cached_property
    def truth(self) -> Image | Tensor | None:
        """The mask, read; of a file what is not 0 belongs to it."""
        return marked(io.read(self.mask)) if isinstance(self.mask, (str, Path)) else self.mask

    @cached_property
    def asked(self) -> Target:
        """What is asked of this case."""
        return as_target(self.target)

    def forget(self) -> None:
        """Let go of what was read; it is read again when it is needed."""
        for name in ("scan", "truth"):
            self.__dict__.pop(name, None)


def read_cases(path: str | Path) -> list[StudyCase]:
    """Cases from a CSV table with the columns image, and where known mask, patient, label (``a;b`` where several are true), target; others become facts.

    Paths are relative to the table.

    Raises:
        BadFile: no such table, no column ``image``, or a row whose scan is missing.
    """
    path = Path(path)
    fix = "Its columns are image, and where known mask, patient, label, target."
    read = read_csv(path, "a table of cases", "image", fix=fix)
    if not read.rows:
        raise BadFile(f"cases in {path.name}", "no rows", fix)
    found = []
    for n, row in zip(read.lines, read.rows, strict=True):
        places = {k: _place(path, n, row.get(k)) for k in ("image", "mask")}
        if places["image"] is None:
            raise BadFile(f"an image in line {n} of {path.name}", "an empty cell", "Give its path, relative to the table.")
        facts = {k: v for k, v in row.items() if k not in KNOWN and v}
        label, target = (row.get(k, "") for k in ("label", "target"))
        asked = read_target(target) if target else None
        where = f"line {n} of {path.name}"
        found.append(StudyCase(places["image"], row.get("patient", ""), places["mask"], _told(label), asked, facts, where))
    return found


def _place(table: Path, line: int, text: str | None) -> Path | None:
    if not text:
        return None
    found = table.parent / text
    if not found.exists():
        raise BadFile(f"the file in line {line} of {table.name}", "no such file", "Paths are relative to the table.")
    return found


def _told(text: str) -> str | tuple[str, ...] | None:
    if ";" in text:
        return tuple(t.strip() for t in text.split(";") if t.strip())
    return text or None


LABELS = {"fundus_dme": "dme", "fundus_dr": "stage", "brain_atrophy": "atrophy"}  # of phantoms whose classes exclude each other


def phantom_cases(kind: str, n: int, *, seed: int = 900_000, mask: str = "causal", **switches: Any) -> Iterator[StudyCase]:
    """Synthetic patients of one of ``pellucid.phantoms.KINDS``: a balanced set by its own coins, or with ``switches`` (``dme=True, shortcut=True``) all alike.

    ``mask`` names the mask that counts as the cause. Labels are those of the network of that kind.

    Raises:
        BadParameter: no such kind or mask.
    """
    from pellucid import phantoms

    if kind not in phantoms.KINDS:
        raise BadParameter(f"a kind of phantom is one of {', '.join(phantoms.KINDS)}", repr(kind), "Choose one of them.")
    maker = getattr(phantoms, kind.split("_")[0])
    known = [k for k in inspect.signature(maker).parameters if k != "seed"]
    for switch, value in switches.items():
        if switch not in known or not isinstance(value, (bool, int, float, list, tuple)):
            raise BadParameter(
                f"switches of {kind} are {', '.join(known)}, each true, false or numbers", f"{switch}={value!r}", "Choose among them."
            )
    drawn: Iterator[phantoms.Phantom] = (maker(seed=seed + i, **switches) for i in range(n)) if switches else phantoms.cases(kind, n, seed)
    for i, p in enumerate(drawn):
        if mask not in p.masks:
            raise BadParameter(f"a mask of the phantom: {', '.join(p.masks)}", repr(mask), "Choose one of them.")
        name = LABELS.get(kind)
        label = tuple(k for k, v in p.labels.items() if v) if name is None else int(p.labels[name])
        facts = {f"has_{part}": bool(p.masks[part].any()) for part in ("shortcut", "distractor", "suppressor") if part in p.masks}
        truth = Image(p.masks[mask][None].float(), p.image.grid)
        yield StudyCase(p.image, f"{kind} {seed} {i}", truth, label, facts=facts)
