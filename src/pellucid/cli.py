"""The command line: ``pellucid demo | explain | compare | methods | phantom``. Heavy imports wait until a command runs."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast, get_args, get_type_hints

import typer

from pellucid.errors import BadParameter, PellucidError

if TYPE_CHECKING:
    from pellucid.evidence import Level
    from pellucid.explanation import Map
    from pellucid.image import Image
    from pellucid.model import Model

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Explain medical-imaging networks, with the evidence for trusting it.")

Text = str | None

# options that several commands take
Scan = Annotated[str, typer.Argument(metavar="INPUT", help="A scan: PNG, JPEG, TIFF, NPY, NIfTI, a DICOM file, or a folder of a series.")]
Methods = Annotated[
    list[str] | None, typer.Option("--method", help="A method, with parameters: 'integrated_gradients(steps=32)'. Repeatable.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="Class name or index, or logit('a') - logit('b'), region('tumor'), ... Repeatable."),
]
Site = Annotated[Text, typer.Option(help="Where in the network: layer4, relu#2, encoder[0], auto, all.")]
Out = Annotated[str, typer.Option(help="Folder for report, maps and provenance.")]
Evidence = Annotated[str, typer.Option(help="How much is checked: none, quick, standard, full.")]
Mask = Annotated[Text, typer.Option(help="Mask of a region(...) target: an image file on any grid.")]
Classes = Annotated[Text, typer.Option(help="Class names, comma-separated, in the order of the outputs.")]
Output = Annotated[Text, typer.Option(help="logits, multi-label, single logit, segmentation, regression. Default: by shape.")]
Select = Annotated[Text, typer.Option(help="Part of a tuple or dict that the network returns: 0, logits.")]
EndsIn = Annotated[Text, typer.Option(help="softmax or sigmoid, where the network gives probabilities.")]
Options = Annotated[Text, typer.Option(help="Arguments of the factory: 'num_classes=2'.")]
Prepared = Annotated[Text, typer.Option(help="Geometry and windowing: 'resize=256, range=(0, 1)'. See pellucid.Prepare.")]
Normalized = Annotated[Text, typer.Option(help="Per channel: 'mean=0.5, std=0.25'.")]
Tiles = Annotated[Text, typer.Option(help="Sliding windows: 'size=96, overlap=0.25'.")]
Series = Annotated[Text, typer.Option(help="SeriesInstanceUID, where a folder holds several.")]
Trusted = Annotated[bool, typer.Option("--trust", help="Let the model's code run (factories, bundles, TorchScript).")]
Unsafe = Annotated[bool, typer.Option("--unsafe-pickle", help="Load a pickled module: runs whatever the file says.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Chunk = Annotated[int | None, typer.Option(help="Samples side by side. Default: planned from measured memory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Facts on stdout as JSON.")]


@dataclass(frozen=True)
class Asked:
    """What ``explain`` and ``compare`` are asked alike: every field is an option of both."""

    method: Methods = None
    target: Targets = None
    site: Site = None
    out: Out = "out"
    mask: Mask = None
    classes: Classes = None
    output: Output = None
    select: Select = None
    ends_in: EndsIn = None
    options: Options = None
    prepare: Prepared = None
    normalize: Normalized = None
    windows: Tiles = None
    series: Series = None
    trust: Trusted = False
    unsafe_pickle: Unsafe = False
    seed: Seed = 0
    chunk: Chunk = None
    as_json: AsJson = False


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of ``Asked`` as further options, which it gets as one value named ``asked``."""
    hints = get_type_hints(command, include_extras=True) | get_type_hints(Asked, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "asked"]
    shared = {f.name: f.default for f in fields(Asked)}

    @wraps(command)
    def run(**given: Any) -> None:
        asked = Asked(**{name: given.pop(name) for name in shared})
        command(**given, asked=asked)

    options = [(p.name, p.default) for p in own] + list(shared.items())
    made = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=hints[n]) for n, d in options]
    # where typer reads options
    run.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    run.__annotations__ = {n: hints[n] for n, _ in options}
    return run


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 1."""
    try:
        app()
    except PellucidError as error:
        _fail(error)


def _fail(error: PellucidError) -> NoReturn:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", style="red", markup=False)
    raise SystemExit(1)


# ---------------------------------------------------------------------------------------------------- explain
@app.command()
@_asking
def explain(
    scan: Scan,
    model: Annotated[str, typer.Option(help="package.module:factory, a .pt2, .ts or MONAI bundle, or phantom:NAME.")],
    weights: Annotated[Text, typer.Option(help="State dict for a factory: .safetensors, .pt, .pth.")] = None,
    evidence: Evidence = "quick",
    *,
    asked: Asked,
) -> None:
    """Explain why a network gives a target for a scan; write maps, provenance and one report."""
    from pellucid.io import read

    with _quiet_errors():
        level = _level(evidence)
        image = read(scan, series=asked.series)
        net = _model(model, weights, asked)
        targets: list[Text] = [*asked.target] if asked.target else [None]
        methods = asked.method or ["integrated_gradients"]
        maps = _explained(net, image, methods, targets, asked.site, asked.mask, level, asked.seed, asked.chunk)
        files = write_all(maps, Path(asked.out), "Explanation of one scan")
    _tell(maps, files, asked.as_json)


# ---------------------------------------------------------------------------------------------------- compare
@app.command()
@_asking
def compare(
    scan: Scan,
    model: Annotated[list[str], typer.Option(help="As for explain; repeat it to compare networks that are described alike.")],
    weights: Annotated[list[str] | None, typer.Option(help="State dict of each factory, in their order.")] = None,
    baseline: Annotated[list[str] | None, typer.Option(help="black, white, blurred(4), random(2), 0.5. Repeatable.")] = None,
    evidence: Evidence = "none",
    palette: Annotated[str, typer.Option(help="Colors of the figure: blue-orange, or green-red with marks of sign.")] = "blue-orange",
    *,
    asked: Asked,
) -> None:
    """Explain a scan by several methods, targets, baselines or networks; write one figure, one table, maps and a report."""
    from pellucid.compare import compare as compared
    from pellucid.io import read
    from pellucid.run import Run
    from pellucid.target import read_target

    with _quiet_errors():
        level, image = _level(evidence), read(scan, series=asked.series)
        if weights and len(weights) != len(model):
            raise BadParameter("as many --weights as --model, or none", f"{len(weights)} for {len(model)}", "Give them in the same order.")
        each = zip(model, weights or repeat(None), strict=False)
        nets = [_model(m, w, asked) for m, w in each]
        where = read(asked.mask) if asked.mask else None
        with _progress("comparing") as tick:
            found = compared(
                nets[0], image, asked.method or ["saliency", "integrated_gradients", "grad_cam", "occlusion"],
                target=[read_target(t, where) for t in asked.target or (None,)], models=nets[1:], baselines=baseline or (), site=asked.site,
                run=Run(seed=asked.seed, chunk=asked.chunk, on_tick=tick), evidence=level,
            )  # fmt: skip
        files = write_all(list(found), Path(asked.out), "Comparison of maps of one scan")
        files.append(found.figure(Path(asked.out) / "comparison.png", palette=palette))
        files.append(Path(asked.out) / "comparison.csv")
        files[-1].write_text(found.table().csv(), encoding="utf-8")
    _tell(list(found), files, asked.as_json, found.labels)
    if not asked.as_json:
        print(f"figure: {files[-2].resolve()}")


# ---------------------------------------------------------------------------------------------------- what both need
def _level(text: str) -> Level:
    from pellucid.evidence import Level

    if text not in get_args(Level):
        raise BadParameter(f"--evidence is one of {', '.join(get_args(Level))}", repr(text), "Choose one.")
    return cast("Level", text)


def _model(source: str, weights: Text, asked: Asked) -> Model:
    from pellucid.loading import Trust, load_model
    from pellucid.model import Normalize, Windows
    from pellucid.prepare import Prepare

    classes, select = asked.classes, asked.select
    described: dict[str, Any] = {
        "classes": tuple(c.strip() for c in classes.split(",")) if classes else None,
        "output": asked.output,
        "select": int(select) if select is not None and select.isdigit() else select,
        "ends_in": asked.ends_in,
        "prepare": Prepare(**_named("--prepare", asked.prepare)) if asked.prepare else None,
        "normalize": Normalize(**_named("--normalize", asked.normalize)) if asked.normalize else None,
        "windows": Windows(**_named("--windows", asked.windows)) if asked.windows else None,
    }
    given = {k: v for k, v in described.items() if v is not None}
    level: Trust = "pickle" if asked.unsafe_pickle else "code" if asked.trust else "data"
    return load_model(source, weights=weights, trust=level, options=_named("--options", asked.options), **given)


def _named(flag: str, text: Text) -> dict[str, Any]:
    """Keyword arguments from text, read as data."""
    if not text:
        return {}
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise BadParameter(f"{flag} takes name=value, separated by commas", repr(text), "For example 'resize=256'.") from None


def _explained(
    net: Model, image: Image, methods: list[str], targets: list[Text], site: Text, mask: Text, evidence: Level, seed: int, chunk: int | None
) -> list[Map]:
    from pellucid.explain import explain as explained
    from pellucid.io import read
    from pellucid.method import ask, read_method
    from pellucid.run import Run
    from pellucid.target import read_target

    where = read(mask) if mask else None
    asks = [ask(read_method(m), target=read_target(t, where), site=site) for t in targets for m in methods]
    with _progress("explaining") as tick:
        found: list[Map] = explained(net, [image], asks, run=Run(seed=seed, chunk=chunk, on_tick=tick), evidence=evidence)
    return found


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, where stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("passes"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _quiet_errors() -> Iterator[None]:
    """Errors of ours as one line and exit code 1, wherever the command is called from."""
    try:
        yield
    except PellucidError as error:
        _fail(error)


def slug(why: Map) -> str:
    """A file name for a map: fingerprint of the scan, target, method and site; never the scan's own name."""
    target = re.sub(r"[^0-9A-Za-z]+", "-", re.sub(r"mask=\w+:\d+, ", "", why.provenance.target)).strip("-").lower()[:48]
    method = why.provenance.method.split("(")[0]
    inner = re.search(r"inner=(\w+)", why.provenance.method)
    site = "" if why.provenance.site == "input" else "-at-" + re.sub(r"[^0-9A-Za-z]+", "-", why.provenance.site)
    return f"{why.provenance.scan[:10]}-{target}-{method}{'-' + inner[1] if inner else ''}{site}"


def write_all(maps: list[Map], out: Path, title: str) -> list[Path]:
    """Every map (NIfTI for volumes, PNG for flat images, and the exact archive), and one report."""
    from pellucid.report import write_report

    out.mkdir(parents=True, exist_ok=True)
    files, taken = [write_report(out / "report.html", maps, title=title)], set[str]()
    for why in maps:
        name = slug(why)
        while name in taken:
            name += "-again"
        taken.add(name)
        suffixes = [".nii.gz", ".npz"] if why.scan.grid.unit == "mm" else [".npz"]
        files += [why.save(out / (name + s)) for s in ([".png", *suffixes] if why.scan.grid.ndim == 2 else suffixes)]
    return files


def _tell(maps: list[Map], files: list[Path], as_json: bool, labels: Sequence[str] = ()) -> None:
    if as_json:
        told = {"maps": [m.facts() for m in maps], "files": [str(f) for f in files]}
        print(json.dumps(told | ({"labels": list(labels)} if labels else {}), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    for column in ("method", "target", "score", "verdict", "why"):
        table.add_column(column, overflow="fold")
    where = ["" if m.provenance.site == "input" else f" at {m.provenance.site}" for m in maps]
    for name, m in zip(labels or [m.provenance.method.split("(")[0] + w for m, w in zip(maps, where, strict=True)], maps, strict=True):
        verdict = m.evidence.verdict or "not examined"
        table.add_row(name, m.provenance.target, f"{m.score:.4g}", verdict, " ".join(m.evidence.reasons[:2]))
    console.print(table)
    if maps and maps[0].probabilities:
        names = maps[0].provenance.classes or tuple(map(str, range(len(maps[0].probabilities))))
        console.print(
            "predicted: " + ", ".join(f"{c} {p:.3f}" for c, p in zip(names, maps[0].probabilities, strict=False)), highlight=False
        )
    for caveat in dict.fromkeys(c for m in maps for c in m.provenance.caveats):
        console.print(f"note: {caveat}", highlight=False)
    console.print(f"report: {files[0].resolve()}", highlight=False, soft_wrap=True)


# ---------------------------------------------------------------------------------------------------- demo, methods, phantom
@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder for the reports.")] = "out/demo",
    evidence: Annotated[str, typer.Option(help="How much is checked: none, quick, standard, full.")] = "quick",
) -> None:
    """Explain a phantom fundus photograph and a phantom brain volume, and name the reports."""
    from pellucid import phantoms
    from pellucid.loading import load_model

    cases = {
        "fundus": (
            "phantom:fundus_dme",
            phantoms.fundus(seed=7, dme=True),
            ["integrated_gradients", "blur_ig", "grad_cam", "occlusion(window='1.2mm')"],
        ),
        "brain": ("phantom:brain_atrophy", phantoms.brain(seed=7, atrophy=True), ["integrated_gradients", "grad_cam"]),
    }
    with _quiet_errors():
        level = _level(evidence)
        for kind, (source, phantom, methods) in cases.items():
            net = load_model(source)
            maps = _explained(net, phantom.image, methods, [net.classes[1]], None, None, level, 0, None)
            _tell(maps, write_all(maps, Path(out) / kind, f"Phantom {kind}"), as_json=False)


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the methods, their parameters with defaults, and where they come from."""
    from pellucid import explain as explain  # registers them
    from pellucid.method import methods as registered

    rows: list[dict[str, Any]] = [
        {
            "name": m.name,
            "parameters": {k: repr(v) for k, v in m.params.items()},
            "dimensions": sorted(m.facts.space),
            "asks": [a.name for a in m.facts.asks],
            "gives": [g.name for g in m.facts.gives],
            "where": m.facts.where.value,
            "random": m.facts.random,
            "hears_weights": m.facts.hears_weights,
            "hears_target": m.facts.hears_target,
            "meaning": m.doc.splitlines()[0],
            "source": str(m.facts.cite),
        }
        for m in registered()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for row in rows:
        console.print(f"[bold]{row['name']}[/bold]({', '.join(f'{k}={v}' for k, v in row['parameters'].items())})", soft_wrap=True)
        console.print(f"    {row['meaning']}\n    {row['source']}\n", style="dim", markup=False)


@app.command()
def phantom(
    kind: Annotated[str, typer.Argument(help="fundus, chest, brain or spectrogram.")],
    out: Annotated[str, typer.Option(help="Folder for image, masks and labels.")] = "out/phantom",
    seed: Annotated[int, typer.Option(help="Seed: one seed, one patient.")] = 0,
    settings: Annotated[Text, typer.Option("--with", help="Parameters: 'dme=True, shortcut=True'.")] = None,
) -> None:
    """Make a synthetic patient with known causes: image, masks and labels."""
    from pellucid import phantoms

    makers = (phantoms.fundus, phantoms.chest, phantoms.brain, phantoms.spectrogram)
    kinds: dict[str, Callable[..., phantoms.Phantom]] = {maker.__name__: maker for maker in makers}
    with _quiet_errors():
        if kind not in kinds:
            raise BadParameter(f"a phantom is one of {', '.join(kinds)}", repr(kind), "Choose one.")
        made = kinds[kind](seed=seed, **_named("--with", settings))
        files = phantoms.save(made, Path(out))
    for f in files:
        print(f)
