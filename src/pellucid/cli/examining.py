"""``pellucid examine``: saved maps, examined or measured with the network that they explain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import AsJson, Chunk, Described, Mask, Seed, Text, Weights, asking, level_of, network
from pellucid.cli.telling import quiet_errors, say, show, tell, write_all

if TYPE_CHECKING:
    from pellucid.explanation import Map
    from pellucid.method import Ask


@asking
def examine(
    maps: Annotated[list[str], typer.Argument(metavar="MAPS", help="Maps of one scan, as saved by explain: .npz files.")],
    model: Annotated[str, typer.Option(help="The network that was explained, as for explain.")],
    weights: Weights = None,
    level: Annotated[str, typer.Option(help="How much is checked: quick, standard, full; none with --metric.")] = "quick",
    metric: Annotated[
        list[str] | None, typer.Option(help="A metric, with parameters: 'deletion(points=4)'. Repeatable; see `pellucid metrics`.")
    ] = None,
    score: Annotated[Text, typer.Option(help="What is followed while the image is changed. Default: the target of the maps.")] = None,
    out: Annotated[str, typer.Option(help="Folder for the report and the table of metrics.")] = "out",
    mask: Mask = None,
    seed: Seed = 0,
    chunk: Chunk = None,
    as_json: AsJson = False,
    *,
    described: Described,
) -> None:
    """Examine maps that were saved before: a verdict with its reasons, and any metric, beside controls that know nothing."""
    from pellucid.evidence import examine as examined
    from pellucid.evidence import grade
    from pellucid.evidence.masks import marked
    from pellucid.explanation import load
    from pellucid.io import read
    from pellucid.run import Run
    from pellucid.target import read_target

    with quiet_errors():
        checked, run = level_of(level), Run(seed=seed, chunk=chunk)
        net = replace(network(model, weights, described), prepare=None)  # the archive holds the image as it was prepared
        loaded = [load(m) for m in maps]
        found = [replace(m, scan=m.image, ask=_asked(m)) for m in loaded]
        known = [m.with_evidence(examined(net, m.image, m, checked, run=run)) if checked != "none" else m for m in found]
        files = write_all(
            [replace(k, scan=m.scan) for k, m in zip(known, loaded, strict=True)], Path(out), "Examination of maps of one scan"
        )
        graded = None
        if metric:
            followed = read_target(score) if score else None
            graded = grade(net, found[0].image, found, metric, mask=marked(read(mask)) if mask else None, score=followed, run=run)
            files.append(graded.table().renew(Path(out) / "metrics.csv"))
    if as_json:
        rows = list(graded.table()) if graded else []
        print(json.dumps({"maps": [m.facts() for m in known], "metrics": rows, "files": [str(f) for f in files]}, indent=2, default=str))
        return
    if checked != "none" or graded is None:
        tell(known, files, as_json=False)
    if graded is not None:
        show(graded.wide())
        say("* better than what is held against it, - not better; intervals, references and findings stand in the table")
        say(f"table: {files[-1].resolve()}")


def _asked(why: Map) -> Ask:
    """The question of a map, from its own words."""
    from pellucid import attribution as attribution  # registers the methods
    from pellucid.method import Ask, read_method
    from pellucid.target import read_target

    p = why.provenance
    return Ask(read_method(p.method), read_target(p.target), None if p.site == "input" else p.site)
