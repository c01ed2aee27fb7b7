"""``pellucid demo``, ``methods``, ``metrics`` and ``phantom``."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.explaining import explained_maps
from pellucid.cli.options import AsJson, Text, level_of
from pellucid.cli.telling import console, quiet_errors, say, tell, write_all
from pellucid.errors import BadParameter
from pellucid.params import named


def demo(
    out: Annotated[str, typer.Option(help="Folder for the reports.")] = "out/demo",
    evidence: Annotated[str, typer.Option(help="How much is checked: none, quick, standard, full.")] = "quick",
    look: Annotated[bool, typer.Option("--open", help="Open the reports where there is a desktop.")] = False,
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
    with quiet_errors():
        level = level_of(evidence)
        for kind, (source, phantom, methods) in cases.items():
            net = load_model(source)
            maps = explained_maps(net, phantom.image, methods, [net.classes[1]], None, None, level, 0, None)
            files = write_all(maps, Path(out) / kind, f"Phantom {kind}")
            tell(maps, files, as_json=False)
            if look and _desktop():
                webbrowser.open(files[0].resolve().as_uri())


def _desktop() -> bool:
    """Whether a browser would have a screen: on a terminal alone, one in text would take it over."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def methods(as_json: AsJson = False) -> None:
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
    _list(rows)


def metrics(as_json: AsJson = False) -> None:
    """List the metrics, their parameters with defaults, what is held against them, and where they come from."""
    from pellucid.evidence import metrics as registered

    rows: list[dict[str, Any]] = [
        {
            "name": m.name,
            "group": m.group,
            "parameters": {k: repr(v) for k, v in m.params.items()},
            "dimensions": sorted(m.facts.space),
            "unit": m.facts.unit,
            "better": m.facts.better,
            "reference": m.facts.reference,
            "needs": [n.name for n in m.facts.needs],
            "ranks": m.facts.ranks,
            "meaning": (m.fn.__doc__ or "").strip().splitlines()[0],
            "source": str(m.facts.cite),
        }
        for m in registered()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    _list(rows)


def _list(rows: list[dict[str, Any]]) -> None:
    from rich.text import Text

    for row in rows:
        settings = ", ".join(f"{k}={v}" for k, v in row["parameters"].items())
        console().print(Text.assemble((row["name"], "bold"), f"({settings})"), soft_wrap=True)
        say(f"    {row['meaning']}\n    {row['source']}\n", style="dim")


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
    with quiet_errors():
        if kind not in kinds:
            raise BadParameter(f"a phantom is one of {', '.join(kinds)}", repr(kind), "Choose one.")
        made = kinds[kind](seed=seed, **named("--with", settings))
        files = phantoms.save(made, Path(out))
    for f in files:
        say(f)
