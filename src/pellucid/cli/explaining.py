"""``pellucid explain`` and ``pellucid compare``."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import Asked, Described, Evidence, Scan, Text, Weights, asking, level_of, network
from pellucid.cli.telling import progress, quiet_errors, say, tell, write_all, write_maps
from pellucid.errors import BadParameter

if TYPE_CHECKING:
    from pellucid.evidence import Level
    from pellucid.explanation import Map
    from pellucid.image import Image
    from pellucid.model import Model


@asking
def explain(
    scan: Scan,
    model: Annotated[str, typer.Option(help="package.module:factory, a .pt2, .ts or MONAI bundle, or phantom:NAME.")],
    weights: Weights = None,
    evidence: Evidence = "quick",
    *,
    asked: Asked,
    described: Described,
) -> None:
    """Explain why a network gives a target for a scan; write maps, provenance and one report."""
    from pellucid.io import read

    with quiet_errors():
        level = level_of(evidence)
        image = read(scan, series=asked.series)
        net = network(model, weights, described)
        targets: list[Text] = [*asked.target] if asked.target else [None]
        methods = asked.method or ["integrated_gradients"]
        maps = explained_maps(net, image, methods, targets, asked.site, asked.mask, level, asked.seed, asked.chunk)
        files = write_all(maps, Path(asked.out), "Explanation of one scan")
    tell(maps, files, asked.as_json)


# ---------------------------------------------------------------------------------------------------- compare
@asking
def compare(
    scan: Scan,
    model: Annotated[list[str], typer.Option(help="As for explain; repeat it to compare networks that are described alike.")],
    weights: Annotated[list[str] | None, typer.Option(help="State dict of each factory, in their order.")] = None,
    baseline: Annotated[list[str] | None, typer.Option(help="black, white, blurred(4), random(2), 0.5. Repeatable.")] = None,
    evidence: Evidence = "none",
    palette: Annotated[str, typer.Option(help="Colors of the figure: blue-orange, or green-red with marks of sign.")] = "blue-orange",
    *,
    asked: Asked,
    described: Described,
) -> None:
    """Explain a scan by several methods, targets, baselines or networks; write one figure, one table, maps and a report."""
    from pellucid.compare import compare as compared
    from pellucid.evidence.masks import marked
    from pellucid.io import read
    from pellucid.report import write_comparison
    from pellucid.run import Run
    from pellucid.target import read_target

    with quiet_errors():
        level, image = level_of(evidence), read(scan, series=asked.series)
        if weights and len(weights) != len(model):
            raise BadParameter("as many --weights as --model, or none", f"{len(weights)} for {len(model)}", "Give them in the same order.")
        each = zip(model, weights or repeat(None), strict=False)
        nets = [network(m, w, described) for m, w in each]
        where = marked(read(asked.mask)) if asked.mask else None
        with progress("comparing") as tick:
            found = compared(
                nets[0], image, asked.method or ["saliency", "integrated_gradients", "grad_cam", "occlusion"],
                target=[read_target(t, where) for t in asked.target or (None,)], models=nets[1:], baselines=baseline or (), site=asked.site,
                run=Run(seed=asked.seed, chunk=asked.chunk, on_tick=tick), evidence=level,
            )  # fmt: skip
        out = Path(asked.out)
        out.mkdir(parents=True, exist_ok=True)
        files = [write_comparison(out / "report.html", found), *write_maps(list(found), out)]
        files.append(found.figure(out / "comparison.png", palette=palette))
        files.append(found.table().renew(out / "comparison.csv"))
    tell(list(found), files, asked.as_json, found.labels)
    if not asked.as_json:
        say(f"figure: {files[-2].resolve()}")


def explained_maps(
    net: Model, image: Image, methods: list[str], targets: list[Text], site: Text, mask: Text, evidence: Level, seed: int, chunk: int | None
) -> list[Map]:
    """Every method for every target, with progress."""
    from pellucid.evidence.masks import marked
    from pellucid.explain import explain as explained
    from pellucid.io import read
    from pellucid.method import ask, read_method
    from pellucid.run import Run
    from pellucid.target import read_target

    where = marked(read(mask)) if mask else None
    asks = [ask(read_method(m), target=read_target(t, where), site=site) for t in targets for m in methods]
    with progress("explaining") as tick:
        found: list[Map] = explained(net, [image], asks, run=Run(seed=seed, chunk=chunk, on_tick=tick), evidence=evidence)
    return found
