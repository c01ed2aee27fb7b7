"""The page of a cohort: a row for each explained case, with its picture and verdict; sorted and filtered in the page itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pellucid.errors import BadParameter
from pellucid.explanation import Map
from pellucid.files import put
from pellucid.report.html import check, gradient, guard, page
from pellucid.report.meaning import meaning
from pellucid.report.pictures import still_of
from pellucid.report.words import VERDICTS, class_names, date, exclusive, findings, none_of, number, percent, scored, short_target

LIMIT = 25_000_000  # bytes of a page
THUMB = 132  # pixels along the longer side


@dataclass(frozen=True, eq=False)
class Patient:
    """One explained case of a cohort: its maps (the first is shown), what is known of it, and where its own report lies, relative to the page."""

    maps: Sequence[Map]
    truth: str = ""
    report: str = ""
    name: str = ""


def write_cohort(path: str | Path, cases: Iterable[Patient | Map], *, title: str = "Explained cases", note: str | None = None) -> Path:
    """Write many explained cases as one HTML page: a table with pictures, to be sorted by any column and filtered by verdict.

    Args:
        path: where to write; the file appears whole or not at all, and replaces only a page of Pellucid.
        cases: one after the other; only small pictures of each are kept.
        title, note: printed as given, as are names and truths: keep names of patients out of them.

    Raises:
        BadParameter: no cases, more than a page of 25 MB holds, or a link that leads elsewhere than beside the page.
        PellucidError: as ``write_report``.
    """
    path = Path(path)
    guard(path)
    rows, size, latest, version = [], 0, "", ""
    for n, given in enumerate(cases, 1):
        case = given if isinstance(given, Patient) else Patient([given])
        row = _row(case, n)
        latest = max(latest, date(case.maps))
        version = version or case.maps[0].provenance.versions.get("pellucid", "")
        size += sum(len(v) for v in row.values() if isinstance(v, str))
        if size > LIMIT:
            raise BadParameter(f"a page of at most {LIMIT // 1_000_000} MB", f"more after {n} cases", "Write several pages.")
        rows.append(row)
    if not rows:
        raise BadParameter("at least one case", "none", "Explain some scans first.")
    counts = Counter(r["verdict"] for r in rows)
    verdicts = [{"word": w, "slug": w.replace(" ", "-"), "count": counts[w]} for w in VERDICTS if counts[w]]
    right = [r["right"] for r in rows if r["right"] is not None]
    html = page(
        "cohort", ("theme", "cohort"), scene=False, styles=("cohort",), title=title, note=note, rows=rows, verdicts=verdicts, date=latest,
        version=version, gradient=gradient(), right=(sum(right), len(right)), truths=any(r["truth"] for r in rows), links=any(r["report"] for r in rows),
    )  # fmt: skip
    return put(path, html)


def _row(case: Patient, n: int) -> dict[str, Any]:
    maps = list(case.maps)
    check(maps)
    link = PurePosixPath(case.report)
    if case.report and (link.is_absolute() or ":" in case.report or case.report.startswith("/")):
        raise BadParameter(
            "a link relative to the page", repr(case.report), "Give the path from the page's folder, such as 'case1/report.html'."
        )
    first = maps[0]
    predicted, said, top, right = _answer(first, case.truth)
    word = first.evidence.verdict or "not examined"
    target, unit = short_target(first.provenance)
    return {
        "n": n, "case": case.name or first.scan.fingerprint[:12], "picture": still_of(first.scan, longest=THUMB),
        "overlay": still_of(first.scan, first, longest=THUMB), "target": target, "predicted": predicted,
        "p": top, "percent": said, "truth": case.truth, "right": right, "score": number(first.score), "raw": first.score, "unit": unit,
        "verdict": word, "slug": word.replace(" ", "-"), "rank": list(VERDICTS).index(word), "reason": _reason(first), "report": case.report,
        "method": first.provenance.method.split("(")[0].replace("_", " "), "others": len(maps) - 1,
        "means": meaning(first.provenance.method, target, unit, scored(first.provenance)).what,
    }  # fmt: skip


def _answer(m: Map, truth: str) -> tuple[str, str, float, bool | None]:
    """What the network says, its percentages, the largest; and whether that is what is known, where it can be compared."""
    p = m.probabilities
    if not p:
        return "", "", 0.0, None
    names, found, top = class_names(m), findings(p, exclusive(m)), max(range(len(p)), key=lambda k: p[k])
    shown = found or [top]
    none = none_of(names) + (f"; the highest: {names[top]}" if len(names) > 1 else "")
    predicted = ", ".join(names[k] for k in found) or none
    comparable = truth and (exclusive(m) or truth in names)
    of = f"{names[top]} " if not found and len(names) == 1 else ""  # "not benign" and 1 %: of what, is said
    return predicted, of + ", ".join(percent(p[k]) for k in shown), p[top], truth in [names[k] for k in found] if comparable else None


def _reason(m: Map) -> str:
    """The check that decides, if one failed; else what the verdict says."""
    failed = [r.text for r in m.evidence if r.status in ("fail", "void")]
    return failed[0] if failed else VERDICTS[m.evidence.verdict or "not examined"]
