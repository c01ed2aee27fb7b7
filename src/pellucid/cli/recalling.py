"""``pellucid similar`` and ``pellucid influence``: real cases like this one, and the training images that decided."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.options import AsJson, Described, Evidence, Scan, Seed, Text, Weights, asking, level_of, network
from pellucid.cli.sets import Cases, read_set, unnamed
from pellucid.cli.telling import progress, quiet_errors, say, show
from pellucid.errors import BadFile, BadParameter, PellucidError

if TYPE_CHECKING:
    from pellucid.evidence import Level
    from pellucid.exemplars import Exemplars, Index, Influence, Measure
    from pellucid.explanation import Map
    from pellucid.image import Image
    from pellucid.model import Model
    from pellucid.table import Table

Network = Annotated[str, typer.Option(help="package.module:factory, a .pt2, .ts or MONAI bundle, or phantom:NAME.")]
Drawn = Annotated[str, typer.Option("--method", help="Whose maps the report shows, of the scan and of the cases.")]
Named = Annotated[bool, typer.Option("--names", help="Print the file names of the cases; without it they are told by their place.")]


@dataclass(frozen=True)
class Telling:
    """How both commands tell what they found."""

    method: Drawn = "integrated_gradients"
    evidence: Evidence = "quick"
    seed: Seed = 0
    names: Named = False
    as_json: AsJson = False


@asking
def similar(
    scan: Scan,
    model: Network,
    among: Annotated[
        str, typer.Option(help="The cases: a .csv table (image, label, patient), a folder of images, or the folder of an index.")
    ],
    weights: Weights = None,
    k: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    by: Annotated[Text, typer.Option(help="What makes two images alike: features (default), weighted, map, ssim, perceptual.")] = None,
    site: Annotated[Text, typer.Option(help="Where in the network, for the measures that look there.")] = None,
    patient: Annotated[Text, typer.Option(help="Who the scan is of, as in the table: that patient's cases are left out.")] = None,
    index: Annotated[
        Text, typer.Option(help="Folder that keeps what the network makes of the cases, with their paths and labels; new ones are added.")
    ] = None,
    out: Annotated[
        Text, typer.Option(help="report.html: the scan with a map, the cases beside it; or similar.json, which Exemplars.load reads.")
    ] = None,
    *,
    told: Telling,
    described: Described,
) -> None:
    """Find the cases most like a scan, by what the network makes of them; no name of a file or patient is told unless asked for."""
    from pellucid.exemplars import similar as most_alike
    from pellucid.io import read
    from pellucid.run import Run

    with quiet_errors():
        level, page = level_of(told.evidence), _page(out)
        image, net = read(scan), network(model, weights, described)
        with progress("describing", "images") as tick:
            catalogue = _catalogue(net, among, index, by, site, Run(seed=told.seed, on_tick=tick))
        found = most_alike(net, image, catalogue, k, by=_measure(by, site, catalogue), patient=patient, run=Run(seed=told.seed))
        called = [catalogue.entries[m.place].name for m in found]
        notes = [*found.provenance.caveats]
        known = patient is None and any(e.patient for e in catalogue.entries)
        for m in (m for m in found if m.same_image):
            notes.append(f"place {m.place} is the scan itself" + ("; --patient leaves out its patient" if known else ""))
        if page is not None and page.suffix == ".json":
            found.save(page)
        elif page is not None:
            notes += _similar_page(page, net, image, found, called, told.method, level, told.seed)
    if told.as_json:
        facts = found.facts() | ({"names": called} if told.names else {})
        print(json.dumps(facts | {"notes": notes, "files": [str(page)] if page else []}, indent=2))
        return
    show(_alike(found, told.names))
    say(found.sentence)
    for note in notes:
        say(f"note: {note}")
    if page is not None:
        say(f"{'report' if page.suffix == '.html' else 'file'}: {page.resolve()}")


@asking
def influence(
    scan: Scan,
    model: Network,
    training: Annotated[str, typer.Option(help="What the network learned from, or some of it: a .csv table (image, label).")],
    weights: Weights = None,
    target: Annotated[Text, typer.Option(help="One of the labels. Default: what the last layer, fitted to them anew, predicts.")] = None,
    k: Annotated[int, typer.Option(min=1, help="How many are told on each side.")] = 5,
    check: Annotated[int, typer.Option(min=0, help="How many images the last layer is trained without, one by one, to check.")] = 0,
    penalty: Annotated[float, typer.Option(help="Ridge penalty of the last layer.")] = 1e-3,
    layer: Annotated[Text, typer.Option(help="The linear layer. Default: the last that runs.")] = None,
    out: Annotated[
        Text,
        typer.Option(help="Folder for a report, the strongest of both sides (CSV), and all values (JSON), which Influence.load reads."),
    ] = None,
    *,
    told: Telling,
    described: Described,
) -> None:
    """Find the training images that spoke for a prediction and against it, through the last layer."""
    from pellucid.exemplars import influence as decided
    from pellucid.io import read
    from pellucid.run import Run
    from pellucid.table import Table

    with quiet_errors():
        level, page = level_of(told.evidence), None
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
            page = _page(str(Path(out) / "report.html"))
        cases = read_set(training)
        labels = cases.one_label_each("--training")
        image, net = read(scan), network(model, weights, described)
        with progress("looking", "images") as tick, unnamed(cases):
            run = Run(seed=told.seed, on_tick=tick)
            found = decided(net, cases.scans, labels, image, target, penalty=penalty, layer=layer, check=check, run=run)
        table = found.table(k)
        called = [str(cases.scans[i]) for i in table["place"]]
        files, notes = [], [*found.provenance.caveats]
        if page is not None:
            files = [table.renew(page.with_name("influence.csv")), found.save(page.with_name("influence.json"))]
            notes += _influence_page(page, net, image, found, cases, k, told.method, level, told.seed)
            files.append(page)
    if told.as_json:
        facts = found.facts() | {"strongest": list(table)} | ({"names": called} if told.names else {})
        print(json.dumps(facts | {"notes": notes, "files": [str(f) for f in files]}, indent=2))
        return
    show(Table((*table.columns, "name"), tuple((*r, n) for r, n in zip(table.rows, called, strict=True))) if told.names else table)
    say(f"influence: log probability of {found.target} with the image, less that without it; {found.target}: {found.probability:.3f}")
    for line in (*found.evidence.reasons, *(f"note: {n}" for n in notes), *(f"file: {f.resolve()}" for f in files)):
        say(line)


def _page(out: Text) -> Path | None:
    """Where the report goes; what stands in its way is said before anything is computed."""
    from pellucid.report.html import guard

    if out is None:
        return None
    page = Path(out)
    if page.suffix not in (".html", ".json"):
        raise BadFile("--out names a page or a file: report.html, similar.json", repr(out), "End it in .html or .json.")
    page.parent.mkdir(parents=True, exist_ok=True)
    if page.suffix == ".html":
        guard(page)
    return page


def _alike(found: Exemplars, names: bool) -> Table:
    """The cases as a person reads them: no other image is said to be wholly alike."""
    from pellucid.report.words import alike
    from pellucid.table import Table

    columns = ("rank", "label", "alike", "distance", "place", *(("name",) if names else ()))
    told = [(alike(m.likeness, m.same_image).removesuffix(" alike"), m.distance, m.place, *((m.name,) if names else ())) for m in found]
    return Table(columns, tuple((n, m.label, *t) for n, (m, t) in enumerate(zip(found, told, strict=True), 1)))


def _measure(by: Text, site: Text, catalogue: Index | None = None) -> Measure | str | None:
    """What was asked for; None where nothing was."""
    from pellucid.exemplars.measures import as_measure

    if site is None:
        return by
    asked: Any = as_measure(by or "features") if by or catalogue is None else catalogue.measure
    if "site" not in {f.name for f in fields(asked)}:
        raise BadParameter("--site with a measure that looks at one: features, weighted, map", repr(by), "Leave --site out.")
    return replace(asked, site=site)  # type: ignore[no-any-return]


def _catalogue(net: Model, among: str, index: Text, by: Text, site: Text, run: Any) -> Index:
    """What the network makes of the cases: as it was kept, or made now."""
    from pellucid.exemplars import build_index, open_index
    from pellucid.exemplars.index import MANIFEST

    if (Path(among) / MANIFEST).is_file():
        if index is not None:
            raise BadParameter("--index with a table or folder of images as --among", "the folder of an index", "Leave --index out.")
        return open_index(among)
    cases = read_set(among)
    with unnamed(cases):
        if index is not None and (Path(index) / MANIFEST).is_file():
            return _longer(net, open_index(index), cases, run)
        measure = _measure(by or "features", site)
        assert measure is not None
        return build_index(net, cases.scans, by=measure, **_known(cases), folder=index, run=run)


def _known(cases: Cases) -> dict[str, Any]:
    """What an index keeps of cases besides its rows."""
    return {"labels": cases.labels, "patients": cases.known_patients, "names": [str(p.resolve()) for p in cases.scans]}


def _longer(net: Model, kept: Index, cases: Cases, run: Any) -> Index:
    """An index with the cases that it does not hold yet; the others are known again by what is in the image, not by its name."""
    from pellucid.asking import as_image
    from pellucid.exemplars.index import Key

    kept.key.check(Key.of(net, kept.measure))
    held = Counter((e.image, e.label, e.patient) for e in kept.entries)
    new = []
    for i, (path, label, patient) in enumerate(zip(cases.scans, cases.labels, cases.patients, strict=True)):
        mark = (net.ready(as_image(path))[0].fingerprint, label, kept.hashed(patient))
        if held[mark]:
            held[mark] -= 1
        else:
            new.append(i)
    if held.total():
        got = f"{held.total()} of {len(kept)} that it does not, or whose label or patient it changes"
        raise BadParameter(f"cases that name every case of the index in {kept.folder}", got, "Name another folder with --index.")
    if not new:
        return kept
    more = cases.at(new)
    return kept.add(net, more.scans, **_known(more), run=run)


def _similar_page(
    page: Path, net: Model, image: Image, found: Exemplars, called: list[str], method: str, level: Level, seed: int
) -> list[str]:
    """The report, and remarks on cases whose file is gone or holds something else now."""
    from pellucid.report import similar_of, write_report

    there = _there(net, {m.place: (name, m.image) for m, name in zip(found, called, strict=True)})
    shown = replace(found, matches=tuple(m for m in found if m.place in there))
    why, maps = _explained(net, image, there, method, level, seed)
    write_report(page, [why], title="A scan and cases like it", note=found.sentence, similar=similar_of(shown, there, maps))
    return _gone(len(found), len(there), "cases are not in the report")


def _influence_page(
    page: Path, net: Model, image: Image, found: Influence, cases: Cases, k: int, method: str, level: Level, seed: int
) -> list[str]:
    """As ``_similar_page``, for training images."""
    from pellucid.report import influence_of, write_report

    wanted = [*found.proponents(k), *found.opponents(k)]
    there = _there(net, {i: (str(cases.scans[i]), found.images[i]) for i in wanted})
    why, maps = _explained(net, image, there, method, level, seed, found.target if found.target in net.classes else None)
    told = influence_of(found, there, k, maps)
    write_report(page, [why], title="A scan and the training images that decided", influence=told)
    return _gone(len(wanted), len(there), "training images have no picture in the report")


def _gone(wanted: int, there: int, what: str) -> list[str]:
    return [f"{wanted - there} of {wanted} {what}: their files are gone or changed"] if there < wanted else []


def _explained(
    net: Model, image: Image, there: Mapping[int, Image], method: str, level: Level, seed: int, target: Text = None
) -> tuple[Map, list[Map]]:
    """The map of the scan, and those of the cases for the same target."""
    from pellucid import attribution as attribution  # registers the methods
    from pellucid.explain import explain
    from pellucid.method import ask, read_method
    from pellucid.run import Run
    from pellucid.target import read_target

    with progress("explaining") as tick:
        run = Run(seed=seed, on_tick=tick)
        (why,) = explain(net, [image], [ask(read_method(method), target=read_target(target))], run=run, evidence=level)
        same = ask(read_method(method), target=read_target(why.provenance.target))
        return why, explain(net, list(there.values()), [same], run=run, evidence="none") if there else []


def _there(net: Model, wanted: Mapping[int, tuple[str, str]]) -> dict[int, Image]:
    """Cases by their place, read again from their file; without those that are no longer what was described."""
    read = {place: _again(net, name, mark) for place, (name, mark) in wanted.items()}
    return {place: case for place, case in read.items() if case is not None}


def _again(net: Model, name: str, mark: str) -> Image | None:
    """A case read again; None where its file is gone, damaged, or holds something else than what was described."""
    from pellucid.io import read

    try:
        found = read(name) if name else None
        return found if found is not None and net.ready(found)[0].fingerprint == mark else None
    except PellucidError:
        return None
