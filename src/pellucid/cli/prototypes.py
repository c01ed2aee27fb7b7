"""``pellucid prototypes``: the network as a whole. Its filters, what excites it, what a site keeps, what its units answer to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.options import AsJson, Described, Seed, Text, Weights, asking, network
from pellucid.cli.sets import Cases, named_in, read_set, unnamed
from pellucid.cli.telling import progress, quiet_errors, say, show
from pellucid.errors import BadFile, BadParameter
from pellucid.params import named
from pellucid.table import read_csv

if TYPE_CHECKING:
    from pellucid.image import Image
    from pellucid.model import Model
    from pellucid.report.whole import Whole
    from pellucid.run import Run

prototypes = typer.Typer(
    no_args_is_help=True,
    help="The network as a whole: filters, maximize, maco, invert, dissect, trace. Each writes a page, a table, a figure and a file to load again.",
)

Source = Annotated[str, typer.Option("--model", help="package.module:factory, a .pt2, .ts or MONAI bundle, or phantom:NAME.")]
Wanted = Annotated[
    str, typer.Option("--target", help="Class name or index, channel('layer4', 7), neuron(...), or logit('a') - logit('b').")
]
Images = Annotated[
    str, typer.Option(help="Images of the kind that the network takes: a file, a folder, or a .csv table (image, label, patient).")
]
At = Annotated[str, typer.Option("--site", help="Where in the network: features.0, layer4, auto.")]
More = Annotated[Text, typer.Option("--with", help="Other parameters, as in Python: 'steps=64, facets=3'.")]


@dataclass(frozen=True)
class Asked:
    """What all of them are asked alike."""

    weights: Weights = None
    out: Annotated[
        str, typer.Option(help="Folder for prototypes.html, table.csv, figure.png, sentences.txt and a .json that loads again.")
    ] = "out"
    seed: Seed = 0
    as_json: AsJson = False


Given = Described  # options that describe the network


@prototypes.command()
@asking
def filters(
    model: Source,
    site: At,
    images: Annotated[Text, typer.Option(help="Images over which it is seen which filters never speak: a folder, or a .csv table.")] = None,
    more: More = None,
    *,
    asked: Asked,
    described: Given,
) -> None:
    """The filters of a convolution, with those that are dead, silent or twice there."""
    from pellucid import prototypes as made

    with quiet_errors():
        net, cases = network(model, asked.weights, described), None if images is None else _cases(images)
        _tell(asked, lambda run: made.filters(net, site, () if cases is None else cases.scans, **_more(made.filters, more), run=run), cases)


@prototypes.command()
@asking
def maximize(model: Source, target: Wanted, images: Images, more: More = None, *, asked: Asked, described: Given) -> None:
    """A picture that excites a target, beside the one that fools the network: score, confidence, and what stays of it when it is moved."""
    from pellucid import prototypes as made

    _excited(made.activation_maximization, model, target, images, more, asked, described)


@prototypes.command()
@asking
def maco(model: Source, target: Wanted, images: Images, more: More = None, *, asked: Asked, described: Given) -> None:
    """A picture that excites a target with the frequencies of your own images; only its phases are chosen."""
    from pellucid import prototypes as made

    _excited(made.maco, model, target, images, more, asked, described)


def _excited(make: Callable[..., Any], model: str, target: str, images: str, more: Text, asked: Asked, described: Described) -> None:
    with quiet_errors():
        net, cases = network(model, asked.weights, described), _cases(images)
        _tell(asked, lambda run: make(net, _target(net, target), list(cases.scans), **_more(make, more), run=run), cases)


@prototypes.command()
@asking
def invert(
    scan: Annotated[str, typer.Argument(metavar="INPUT", help="The image whose code at the site is looked at.")],
    model: Source,
    site: At = "auto",
    more: More = None,
    *,
    asked: Asked,
    described: Given,
) -> None:
    """Images made from nothing but the code of one image at a site: what the site keeps of it, and what it leaves open."""
    from pellucid import prototypes as made

    with quiet_errors():
        net, cases = network(model, asked.weights, described), _cases(scan)
        if len(cases) != 1:
            raise BadParameter("one image to invert", f"{len(cases)}", "Name a file.")
        _tell(asked, lambda run: made.inversion(net, str(cases.scans[0]), site, **_more(made.inversion, more), run=run), cases)


@prototypes.command()
@asking
def dissect(
    model: Source,
    masks: Annotated[str, typer.Option(help="A .csv table: image, patient (may be left out), and a column for each concept that names the file of its "
                                            "mask; an empty cell: nobody looked.")],
    site: At = "auto",
    quantile: Annotated[float, typer.Option(help="Share of a unit's cells above its threshold.")] = 0.005,
    more: More = None,
    *,
    asked: Asked,
    described: Given,
) -> None:  # fmt: skip
    """Which units answer where something was marked, more than the masks of other patients explain."""
    from pellucid import prototypes as made

    with quiet_errors():
        cases, marked = _masks(Path(masks))
        net = network(model, asked.weights, described)
        known: dict[str, Any] = {"patients": cases.known_patients} | _more(made.network_dissection, more)
        told = named_in(Path(masks), ("image", *marked))
        _tell(asked, lambda run: made.network_dissection(net, cases.scans, marked, site, quantile=quantile, **known, run=run), told)


@prototypes.command()
@asking
def trace(
    images: Annotated[str, typer.Argument(metavar="INPUT", help="A sequence (.npy, (c, t)), a folder of them, or a .csv table (image, patient, event); "
                                                                "pictures and volumes are followed along --axis.")],
    model: Source,
    site: At,
    step: Annotated[float | None, typer.Option(help="The inputs are signals (c, t), sampled each so many seconds.")] = None,
    unit: Annotated[str, typer.Option(help="Of --step.")] = "s",
    state: Annotated[str, typer.Option(help="output, or cell: an LSTM's memory.")] = "output",
    axis: Annotated[int, typer.Option(help="Of pictures and volumes: which axis is the sequence.")] = -1,
    more: More = None,
    *,
    asked: Asked,
    described: Given,
) -> None:  # fmt: skip
    """What units give step by step along a sequence, and which of them follow an event: column event, such as '0.45-0.51; 0.7-0.8' in --unit."""
    from pellucid import prototypes as made
    from pellucid.signals import on_signals

    with quiet_errors():
        cases = _cases(images)
        net = network(model, asked.weights, described)
        with unnamed(cases):
            scans = [_sequence(p, step, unit) for p in cases.scans]
            given: dict[str, Any] = {"state": state, "axis": axis, "patients": cases.known_patients} | _more(made.unit_traces, more)
            if (told := _events(Path(images), scans, axis)) is not None:
                given["events"] = told
        asking_it = net if step is None else on_signals(net)
        _tell(asked, lambda run: made.unit_traces(asking_it, scans, site, **given, run=run), cases)


# ---------------------------------------------------------------------------- what is given
def _cases(text: str) -> Cases:
    """A set, or a single file."""
    path = Path(text)
    if path.is_file() and path.suffix.lower() != ".csv":
        return Cases((path,), ("",), ("",), ("the image",))
    return read_set(text)


def _target(net: Model, text: str) -> Any:
    from pellucid.target import read_target

    return text if text in net.classes else int(text) if text.isdigit() else read_target(text)


def _more(make: Callable[..., Any], text: Text) -> dict[str, Any]:
    """Other parameters of a function, by name."""
    import inspect

    given = named("--with", text)
    known = [p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "run"]
    strange = next((n for n in given if n not in known), None)
    if strange is not None:
        raise BadParameter(f"--with takes {', '.join(known)}", strange, "Choose one of these.")
    return given


def _masks(table: Path) -> tuple[Cases, dict[str, list[str | None]]]:
    """The scans of a table of masks, and the mask of each concept for each scan.

    Raises:
        BadFile: no such table, or one without images or concepts.
    """
    fix = "Its columns are image, patient, and one for each concept."
    read = read_csv(table, "a table of masks", "image", fix=fix)
    concepts = [c for c in read.columns if c not in ("image", "patient", "label")]
    if not concepts or not read.rows:
        raise BadFile(f"masks of concepts in {table.name}", ", ".join(read.columns) if read.rows else "no rows", fix)
    gap = next((n for n, row in zip(read.lines, read.rows, strict=True) if not row["image"]), None)
    if gap is not None:
        raise BadFile(f"an image in line {gap} of {table.name}", "an empty cell", "Fill it.")
    where = tuple(f"line {n} of {table.name}" for n in read.lines)
    scans = tuple(table.parent / row["image"] for row in read.rows)
    cases = Cases(scans, ("",) * len(scans), tuple(row.get("patient", "") for row in read.rows), where)
    return cases, {c: [str(table.parent / row[c]) if row[c] else None for row in read.rows] for c in concepts}


def _sequence(path: Path, step: float | None, unit: str) -> Image:
    from pellucid.io import read
    from pellucid.signals import signal

    if step is None:
        return read(path)
    import numpy as np

    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadFile(f"a signal (c, t) as .npy: {path}", "nothing that can be read", "Save it with numpy.save(path, values).") from error
    return signal(values[None] if values.ndim == 1 else values, step=step, unit=unit)


def _events(table: Path, scans: list[Image], axis: int) -> list[Any] | None:
    """From the column event of a table: which samples of each sequence lie in it; None where there is no such column."""
    if table.suffix.lower() != ".csv":
        return None
    read = read_csv(table, "a table of sequences", fix="Its columns are image and event.")
    if "event" not in read.columns:
        return None
    rows = zip(read.lines, read.rows, scans, strict=True)
    return [_marked(row["event"], scan, axis, f"line {n} of {table.name}") for n, row, scan in rows]


def _marked(text: str, scan: Image, axis: int, where: str) -> Any:
    import numpy as np

    grid = scan.grid
    n, spacing = grid.shape[axis], grid.spacing[axis] if grid.unit == "mm" else 1.0
    at = np.array([grid.axes[axis].at(k) if grid.axes else k * spacing for k in range(n)])
    found = np.zeros(n, bool)
    for one in filter(None, (t.strip() for t in text.split(";"))):
        try:
            start, stop = (float(v) for v in one.split("-"))
        except ValueError:
            raise BadFile(f"an event such as '0.45-0.51' in {where}", repr(one), "Write its beginning and end.") from None
        found |= (at >= start - 1e-9) & (at <= stop + 1e-9)
    return found


# ---------------------------------------------------------------------------- what is told
def _tell(asked: Asked, ask: Callable[[Run], Whole], *sets: Cases | None) -> None:
    """Ask, write everything, and tell it."""
    from pellucid.run import Run

    with progress("looking") as tick, unnamed(*(c for c in sets if c is not None)):
        found = ask(Run(seed=asked.seed, on_tick=tick))
    files = _write(found, Path(asked.out))
    if asked.as_json:
        print(json.dumps(found.facts() | {"files": [str(f) for f in files]}, indent=2))
        return
    show(_short(found))
    for line in (*found.sentences(), *(f"file: {f.resolve()}" for f in files)):
        say(line)


def _short(found: Whole) -> Any:
    """What fits on a terminal."""
    from pellucid.table import Table

    table = found.table()
    return Table(table.columns[:8], tuple(row[:8] for row in table.rows[:12]))


def _write(found: Whole, out: Path) -> list[Path]:
    from pellucid.files import put
    from pellucid.report.findings_page import write_findings

    out.mkdir(parents=True, exist_ok=True)
    found.figure(out / "figure.png")
    return [
        write_findings(out / "prototypes.html", found),
        found.table().renew(out / "table.csv"),
        out / "figure.png",
        put(out / "sentences.txt", "\n".join(found.sentences()) + "\n"),
        found.save(out / f"{found.kind}.json"),
    ]
