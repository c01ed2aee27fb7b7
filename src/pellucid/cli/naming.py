"""``pellucid concepts``: whether a network uses what people have words for."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from pellucid.cli.options import AsJson, Described, Seed, Text, Weights, asking, network
from pellucid.cli.sets import Cases, named_in, read_set, unnamed
from pellucid.cli.telling import progress, quiet_errors, say, show
from pellucid.errors import BadParameter
from pellucid.files import put

if TYPE_CHECKING:
    from pellucid.concepts import ConceptBank, Concepts
    from pellucid.model import Model
    from pellucid.table import Table


@asking
def concepts(
    bank: Annotated[str, typer.Option(help="A folder with a folder of images for each concept, and one called random; or a .csv table "
                                           "(image, concept, patient, mask).")],
    images: Annotated[str, typer.Option(help="Images of the class asked about, others than the bank's: a folder, or a .csv table.")],
    model: Annotated[str, typer.Option(help="package.module:factory, a .pt2, .ts or MONAI bundle, or phantom:NAME.")],
    target: Annotated[list[str], typer.Option(help="Class name or index, or logit('a') - logit('b'). Repeatable.")],
    weights: Weights = None,
    site: Annotated[list[str] | None, typer.Option(help="Where in the network: layer4, auto. Repeatable.")] = None,
    label: Annotated[Text, typer.Option(help="Of a table of images: only those with this label.")] = None,
    direction: Annotated[str, typer.Option(help="pattern, logistic, ridge or sgd.")] = "pattern",
    pool: Annotated[Text, typer.Option(help="Activations over their cells: mean, max or none. Default: none where images have one shape.")] = None,
    randoms: Annotated[int, typer.Option(min=1, help="Random sets, at most; below 19 no p reaches 0.05.")] = 50,
    relative: Annotated[bool, typer.Option("--relative", help="Hold each concept against the others, not against random images.")] = False,
    alpha: Annotated[float, typer.Option(help="Level of each verdict.")] = 0.05,
    expected: Annotated[Text, typer.Option(help="A .csv table (concept, expected: yes or no, target) of what an expert expects; the figure and "
                                                "agreement.csv tell where the network agrees.")] = None,
    keep: Annotated[Text, typer.Option(help="Folder in which activations are kept, by what they depend on.")] = None,
    out: Annotated[Text, typer.Option(help="Folder for table.csv, a figure a site, sentences.txt and concepts.json, which Concepts.load reads.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    *,
    described: Described,
) -> None:  # fmt: skip
    """Test whether a score rises with concepts, more often than with random images in their place; in sentences and numbers."""
    from pellucid.concepts import agreement, read_expected, tcav
    from pellucid.concepts.figure import told
    from pellucid.run import Run

    with quiet_errors():
        _one_of("--direction", direction, "pellucid.concepts.directions", "Direction")
        _one_of("--pool", pool, "pellucid.activations", "Pool")
        cases = read_set(images).labelled(label)
        shown, known = _bank(bank)
        net = network(model, weights, described)
        wanted = _wanted(net, {} if expected is None else read_expected(expected), target, shown)
        with progress("looking", "images") as tick, unnamed(cases, known):
            found = tcav(
                net, shown, cases.scans, [_target(net, t) for t in target], sites=site or "auto", direction=cast("Any", direction),
                pool=cast("Any", pool), randoms=randoms, relative=relative, patients=cases.known_patients, alpha=alpha, folder=keep,
                run=Run(seed=seed, on_tick=tick),
            )  # fmt: skip
        agreed = agreement(found, wanted)
        files = _write(found, Path(out), wanted) if out is not None else []
    if as_json:
        print(json.dumps(found.facts() | {"agreement": list(agreed) if wanted else [], "files": [str(f) for f in files]}, indent=2))
        return
    show(_short(found, agreed if wanted else None))
    for line in (*found.sentences(), *told(agreed), *(f"note: {n}" for n in found.notes), *(f"file: {f.resolve()}" for f in files)):
        say(line)


def _one_of(option: str, given: Text, module: str, name: str) -> None:
    import importlib

    known = get_args(getattr(importlib.import_module(module), name))
    if given is not None and given not in known:
        raise BadParameter(f"{option} is one of {', '.join(known)}", repr(given), "Choose one.")


def _bank(text: str) -> tuple[ConceptBank, Cases]:
    """The bank, and its files as they are told in errors."""
    from pellucid.concepts import ConceptBank

    path = Path(text)
    files = named_in(path, ("image", "mask"))
    if path.is_dir():
        found = [p for d in sorted(path.iterdir()) if d.is_dir() for p in sorted(d.iterdir())]
        where = [f"an image of {p.parent.name!r}" for p in found]
        files = Cases(tuple(found), ("",) * len(found), ("",) * len(found), tuple(where))
    with unnamed(files):
        return (ConceptBank.from_folders(path) if path.is_dir() else ConceptBank.from_table(path)), files


def _wanted(net: Model, told: dict[tuple[str, str], bool], targets: list[str], bank: ConceptBank) -> dict[tuple[str, str], bool]:
    """What is expected, under the names of the findings: a target as it was asked for, or as it is told; none where there is one alone.

    Raises:
        BadParameter: of a concept or target that is not asked about, or of no target where there are several.
    """
    from pellucid.concepts.result import label

    names = {t: label(net, _target(net, t)) for t in targets}
    names |= {n: n for n in names.values()} | ({"": next(iter(names.values()))} if len(set(names.values())) == 1 else {})
    for concept, target in told:
        if target not in names:
            raise BadParameter(
                "expectations of a --target", repr(target) if target else "none", f"There are {', '.join(sorted({*names} - {''}))}."
            )
        if concept not in bank.names:
            raise BadParameter("expectations of a concept of the bank", repr(concept), f"There are {', '.join(bank.names)}.")
    return {(concept, names[target]): said for (concept, target), said in told.items()}


def _target(net: Model, text: str) -> Any:
    """A class by its name, or an expression."""
    from pellucid.target import read_target

    return text if text in net.classes else int(text) if text.isdigit() else read_target(text)


def _short(found: Concepts, agreed: Table | None) -> Table:
    """What fits on a terminal; a site or target that is the same in all rows stands in the sentences. ``agreed``: with what an expert expects."""
    from pellucid.table import Table

    several = [name for name in ("site", "target") if len({getattr(r, name) for r in found}) > 1]
    rows = [
        (r.concept, *(getattr(r, n) for n in several), _share(r.score, r.low, r.high), _share(r.random, *r.random_range), r.p, r.verdict)
        for r in found
    ]
    columns = ("concept", *several, "score rises in", "random sets", "p", "finding")
    if agreed is None:
        return Table(columns, tuple(rows))
    more = zip(rows, agreed["expected"], agreed["agreement"], strict=True)
    return Table((*columns, "expected", "agreement"), tuple((*r, e, a) for r, e, a in more))


def _share(value: float, low: float, high: float) -> str:
    """A share in percent with its interval, where there is one."""
    return f"{100 * value:.0f} %" + ("" if math.isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]")


def _write(found: Concepts, out: Path, wanted: dict[tuple[str, str], bool]) -> list[Path]:
    """Table, figures, sentences, the finding to be loaded again; where something is expected, how far it agrees."""
    from pellucid.concepts import agreement, matrix_figure
    from pellucid.concepts.figure import told

    out.mkdir(parents=True, exist_ok=True)
    files = [found.table().renew(out / "table.csv")]  # first: it refuses to replace what is not ours
    sites = list(dict.fromkeys(r.site for r in found))
    for site in sites:
        slug = "" if len(sites) == 1 else "-" + re.sub(r"[^0-9A-Za-z]+", "-", site).strip("-")
        files.append(out / f"figure{slug}.png")
        matrix_figure(found, wanted, files[-1], site=site)
    if wanted:
        files.append(agreement(found, wanted).renew(out / "agreement.csv"))
    files.append(put(out / "sentences.txt", "\n".join((*found.sentences(), *told(agreement(found, wanted)), *found.notes)) + "\n"))
    files.append(found.save(out / "concepts.json"))
    return files
