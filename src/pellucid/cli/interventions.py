"""``pellucid effects dose | sequences``: images changed along an axis that can be measured, and which MRI sequence counts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from pellucid.cli.options import AsJson, Described, Seed, Text, Weights, asking, network
from pellucid.cli.sets import Cases, named_in, read_set, unnamed
from pellucid.cli.tabular import write
from pellucid.cli.telling import progress, quiet_errors, say, show
from pellucid.errors import BadParameter

if TYPE_CHECKING:
    from pellucid.effects import DoseResponse, SequenceImportance
    from pellucid.model import Model
    from pellucid.table import Table

Images = Annotated[str, typer.Option(help="A folder, or a .csv table (image, mask, patient, label).")]
Source = Annotated[str, typer.Option("--model", help="package.module:factory, a .pt2, .ts or MONAI bundle, or phantom:NAME.")]
Target = Annotated[str, typer.Option(help="Class name or index, or logit('a') - logit('b').")]
Out = Annotated[Text, typer.Option(help="Folder for effects.html, table.csv, figure.svg, sentences.txt and a .json that loads again.")]


@asking
def dose(
    images: Images,
    model: Source,
    target: Target,
    axis: Annotated[str, typer.Option(help="What is changed: lesion_contrast, lesion_size, \"ring_intensity(inner=0, outer=1.8)\", blur, resolution, "
                                           "noise, \"attenuation(channel='T2')\".")],
    values: Annotated[Text, typer.Option(help="Doses, comma-separated, in the axis' unit. Default: within the images and a little beyond.")] = None,
    weights: Weights = None,
    out: Out = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    *,
    described: Described,
) -> None:  # fmt: skip
    """Change one thing about images that can be measured, and see what the network answers to each dose: partial dependence of images."""
    from pellucid.effects import dose_response
    from pellucid.run import Run

    with quiet_errors():
        cases, masks = _cases(images)
        net = network(model, weights, described)
        with progress("changing", "images") as tick, unnamed(cases, _files(images)):
            found = dose_response(
                net, cases.scans, axis, _target(net, target), values=_doses(values), masks=masks, patients=cases.known_patients,
                run=Run(seed=seed, on_tick=tick),
            )  # fmt: skip
        files = write(found, Path(out), name="dose") if out is not None else []
    _tell(found, found.table(), files, as_json)


@asking
def sequences(
    images: Images,
    model: Source,
    target: Target,
    positive: Annotated[Text, typer.Option(help="The label that counts as 1: mutual information and levels are held against it.")] = None,
    filling: Annotated[str, typer.Option(help="What stands for a missing sequence: patients, mean or zero.")] = "patients",
    method: Annotated[str, typer.Option(help="Whose attribution is counted.")] = "integrated_gradients(steps=16)",
    weights: Weights = None,
    out: Out = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    *,
    described: Described,
) -> None:
    """Which MRI sequence (channel) counts, five ways; where the ways disagree; and whether how one was scaled carries the score."""
    from pellucid.effects import sequence_importance
    from pellucid.effects.sequence_result import Filling
    from pellucid.run import Run

    with quiet_errors():
        if filling not in get_args(Filling):
            raise BadParameter(f"--filling is one of {', '.join(get_args(Filling))}", repr(filling), "Choose one.")
        cases, masks = _cases(images)
        net = network(model, weights, described)
        with progress("asking", "images") as tick, unnamed(cases, _files(images)):
            found = sequence_importance(
                net, cases.scans, _target(net, target), labels=_labels(cases, positive), filling=cast("Any", filling), method=method,
                masks=masks, patients=cases.known_patients, run=Run(seed=seed, on_tick=tick),
            )  # fmt: skip
        files = write(found, Path(out), name="sequences") if out is not None else []
    _tell(found, _short(found), files, as_json)


def _cases(images: str) -> tuple[Cases, list[Path | None] | None]:
    """The images, and their masks where a table names them."""
    from pellucid.study import read_cases

    cases = read_set(images)
    if Path(images).is_dir():
        return cases, None
    masks = [Path(str(c.mask)) if c.mask is not None else None for c in read_cases(images)]
    return cases, masks if any(masks) else None


def _files(images: str) -> Cases:
    return named_in(Path(images), ("image", "mask"))


def _labels(cases: Cases, positive: Text) -> list[int] | None:
    if positive is None:
        return None
    cases.labelled(positive)
    return [int(positive in told.split(";")) for told in cases.labels]


def _doses(text: Text) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(v) for v in text.split(",")]
    except ValueError:
        raise BadParameter("--values takes numbers, comma-separated", repr(text), "Write 0,0.5,1.") from None


def _target(net: Model, text: str) -> Any:
    """A class by its name, or an expression."""
    from pellucid.target import read_target

    return text if text in net.classes else int(text) if text.isdigit() else read_target(text)


def _short(found: SequenceImportance) -> Table:
    """A row for each sequence, a column for each way: its number, and its rank."""
    from pellucid.table import Table

    told = {w: found.of(w) for w in found.ways}
    rows = [(s, *(f"{told[w][s].value:.3g}{_ends(told[w][s])} ({told[w][s].rank})" for w in found.ways)) for s in found.sequences]
    return Table(("sequence", *(f"{w} (rank)" for w in found.ways)), tuple(rows))


def _ends(row: Any) -> str:
    return "" if math.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]"


def _tell(found: DoseResponse | SequenceImportance, table: Table, files: list[Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.facts() | {"sentences": list(found.sentences()), "files": [str(f) for f in files]}, indent=2))
        return
    show(table)
    notes = [f"note: {n}" for n in found.provenance.caveats]
    for line in (*found.sentences(), *notes, *(f"file: {f.resolve()}" for f in files)):
        say(line)
