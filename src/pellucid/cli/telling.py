"""What the commands say and write: progress, errors, tables, files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pellucid.errors import PellucidError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawn

    from pellucid.explanation import Map
    from pellucid.table import Table


def console(*, stderr: bool = False) -> Console:
    """The terminal, for words that others wrote (names of classes, files, networks): square brackets are no markup there."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def plain(text: object) -> str:
    """Words for the terminal: what would move its cursor, clear it or name its window shows as an escaped number; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


def say(text: object, *, stderr: bool = False, style: str | None = None) -> None:
    """A line, in full: the reader's terminal breaks it."""
    console(stderr=stderr).print(plain(text), soft_wrap=True, style=style)


def fail(error: PellucidError) -> NoReturn:
    """One line on stderr, and exit code 1."""
    say(f"error: {error}", stderr=True, style="red")
    raise SystemExit(1)


@contextmanager
def progress(what: str, counted: str = "passes") -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, where stderr is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(counted), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def quiet_errors() -> Iterator[None]:
    """Errors of ours as one line and exit code 1, wherever the command is called from."""
    try:
        yield
    except PellucidError as error:
        fail(error)


def slug(why: Map) -> str:
    """A file name for a map: fingerprint of the scan, target, method and site; never the scan's own name."""
    target = re.sub(r"[^0-9A-Za-z]+", "-", re.sub(r"mask=\w+:\d+, ", "", why.provenance.target)).strip("-").lower()[:48]
    method = why.provenance.method.split("(")[0]
    inner = re.search(r"inner=(\w+)", why.provenance.method)
    site = "" if why.provenance.site == "input" else "-at-" + re.sub(r"[^0-9A-Za-z]+", "-", why.provenance.site)
    return f"{why.provenance.scan[:10]}-{target}-{method}{'-' + inner[1] if inner else ''}{site}"


def write_all(maps: list[Map], out: Path, title: str) -> list[Path]:
    """One report, and every map."""
    from pellucid.report import write_report

    out.mkdir(parents=True, exist_ok=True)
    return [write_report(out / "report.html", maps, title=title), *write_maps(maps, out)]


def write_maps(maps: list[Map], out: Path) -> list[Path]:
    """Every map: NIfTI where it has a place in space, PNG where it is flat, and the exact archive."""
    files, taken = list[Path](), set[str]()
    for why in maps:
        name = slug(why)
        while name in taken:
            name += "-again"
        taken.add(name)
        suffixes = [".nii.gz", ".npz"] if why.scan.grid.unit == "mm" else [".npz"]
        files += [why.save(out / (name + s)) for s in ([".png", *suffixes] if why.scan.grid.ndim == 2 else suffixes)]
    return files


def tell(maps: list[Map], files: list[Path], as_json: bool, labels: Sequence[str] = ()) -> None:
    """Maps with their verdicts, and the report."""
    if as_json:
        told = {"maps": [m.facts() for m in maps], "files": [str(f) for f in files]}
        print(json.dumps(told | ({"labels": list(labels)} if labels else {}), indent=2))
        return
    table = _drawn(("method", "target", "score", "verdict", "why"))
    where = ["" if m.provenance.site == "input" else f" at {m.provenance.site}" for m in maps]
    names = list(labels) or [m.provenance.method.split("(")[0] + w for m, w in zip(maps, where, strict=True)]
    for name, m in zip(names, maps, strict=True):
        verdict = m.evidence.verdict or "not examined"
        _row(table, (name, m.provenance.target, f"{m.score:.4g}", verdict, " ".join(m.evidence.reasons[:2])))
    console().print(table)
    if maps and maps[0].probabilities:
        classes = maps[0].provenance.classes or tuple(map(str, range(len(maps[0].probabilities))))
        say("predicted: " + ", ".join(f"{c} {p:.3f}" for c, p in zip(classes, maps[0].probabilities, strict=False)))
    for line in _notes(names, maps):
        say(line)
    say(f"report: {files[0].resolve()}")


def _notes(names: Sequence[str], maps: Sequence[Map]) -> list[str]:
    """Every caveat once, after the maps that it is about where it is not about all."""
    if len(set(names)) < len(names):
        names = [f"{n}, {m.provenance.target}" for n, m in zip(names, maps, strict=True)]
    found: dict[str, list[str]] = {}
    for name, m in zip(names, maps, strict=True):
        for caveat in dict.fromkeys(m.provenance.caveats):
            found.setdefault(caveat, []).append(name)
    return [f"note: {caveat}" if len(of) == len(maps) else f"note on {'; '.join(of)}: {caveat}" for caveat, of in found.items()]


def show(table: Table) -> None:
    """A table on the terminal."""
    drawn = _drawn(table.columns, whole=1)
    for row in table.rows:
        _row(drawn, ["" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row])
    console().print(drawn)


def _drawn(columns: Sequence[str], whole: int = 0) -> Drawn:
    """An empty table; the first ``whole`` columns are not wrapped."""
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, pad_edge=False)
    for n, c in enumerate(columns):
        drawn.add_column(Text(plain(c)), overflow="fold", no_wrap=n < whole)
    return drawn


def _row(drawn: Drawn, cells: Sequence[str]) -> None:
    from rich.text import Text

    drawn.add_row(*(Text(plain(c)) for c in cells))
