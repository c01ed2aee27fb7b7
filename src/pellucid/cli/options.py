"""Options that several commands share, and what they mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_type_hints

import typer

from pellucid.errors import BadParameter

if TYPE_CHECKING:
    from pellucid.evidence import Level
    from pellucid.model import Model

Text = str | None

# options that several commands take
Scan = Annotated[str, typer.Argument(metavar="INPUT", help="A scan: PNG, JPEG, TIFF, NPY, NIfTI, a DICOM file, or a folder of a series.")]
Weights = Annotated[Text, typer.Option(help="State dict for a factory: .safetensors, .pt, .pth.")]
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
Mask = Annotated[Text, typer.Option(help="Mask of a region(...) target, an image file on any grid: what is not 0 belongs to it.")]
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
class Described:
    """How a network is described on the command line."""

    classes: Classes = None
    output: Output = None
    select: Select = None
    ends_in: EndsIn = None
    options: Options = None
    prepare: Prepared = None
    normalize: Normalized = None
    windows: Tiles = None
    trust: Trusted = False
    unsafe_pickle: Unsafe = False


@dataclass(frozen=True)
class Asked:
    """What ``explain`` and ``compare`` are asked alike."""

    method: Methods = None
    target: Targets = None
    site: Site = None
    out: Out = "out"
    mask: Mask = None
    series: Series = None
    seed: Seed = 0
    chunk: Chunk = None
    as_json: AsJson = False


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of its parameters that are dataclasses as options of its own."""
    hints = get_type_hints(command, include_extras=True)
    given_as = {n: h for n, h in hints.items() if is_dataclass(h)}
    own = [p for p in inspect.signature(command).parameters.values() if p.name not in given_as]
    options = {p.name: (p.default, hints[p.name]) for p in own}
    for kind in given_as.values():
        kinds = get_type_hints(kind, include_extras=True)
        options |= {f.name: (f.default, kinds[f.name]) for f in fields(kind)}

    @wraps(command)
    def run(**given: Any) -> None:
        groups = {n: cast("type", kind)(**{f.name: given.pop(f.name) for f in fields(kind)}) for n, kind in given_as.items()}
        command(**given, **groups)

    made = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=h) for n, (d, h) in options.items()]
    # where typer reads options
    run.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    run.__annotations__ = {n: h for n, (_, h) in options.items()}
    return run


def level_of(text: str) -> Level:
    """A level of evidence."""
    from pellucid.evidence import Level

    if text not in get_args(Level):
        raise BadParameter(f"--evidence is one of {', '.join(get_args(Level))}", repr(text), "Choose one.")
    return cast("Level", text)


def network(source: str, weights: Text, how: Described) -> Model:
    """The network that these options describe."""
    from pellucid.loading import Trust, load_model
    from pellucid.loading.described import described

    told = {f.name: getattr(how, f.name) for f in fields(how) if f.name not in ("trust", "unsafe_pickle")}
    level: Trust = "pickle" if how.unsafe_pickle else "code" if how.trust else "data"
    return load_model(source, weights=weights, trust=level, **described(told, lambda name: f"--{name.replace('_', '-')}"))
