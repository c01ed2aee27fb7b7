"""``pellucid serve``: the viewer, on this machine alone."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.options import Described, Text, asking, network
from pellucid.cli.telling import quiet_errors
from pellucid.errors import BadFile, BadParameter, Unsupported

MEBI = 2**20


@asking
def serve(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Folder of scans: pictures, NIfTI, DICOM series.")] = ".",
    model: Annotated[list[str] | None, typer.Option(help="As for explain; repeatable. The shipped phantoms are always there.")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="State dict of each factory, in their order.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    token: Annotated[Text, typer.Option(help="Who has it may look. Default: a new one each time.")] = None,
    out: Annotated[str, typer.Option(help="Folder for results, marks and uploads; what lies there is listed again.")] = "out/viewer",
    index: Annotated[
        list[str] | None,
        typer.Option(help="Folder of an index, as similar --index keeps it: its nearest cases stand beside the scan. Repeatable."),
    ] = None,
    concepts: Annotated[
        list[str] | None, typer.Option(help="What concepts --out wrote, folder or file: shown in words. Repeatable.")
    ] = None,
    influence: Annotated[
        list[str] | None,
        typer.Option(help="What influence --out wrote, a folder of them or a file: the training images that decided. Repeatable."),
    ] = None,
    findings: Annotated[
        list[str] | None,
        typer.Option(help="What effects or prototypes --out wrote, folder or file: the model as a whole. Repeatable."),
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option(help="A further folder whose images may be shown as cases of an index; the served one always may. Repeatable."),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Show the file names of cases, and pictures whose pixels may name a patient.")
    ] = False,
    upload: Annotated[int, typer.Option(min=1, help="MiB that one upload may have.")] = 512,
    unpacked: Annotated[int, typer.Option(min=1, help="MiB that one scan may unpack to.")] = 4096,
    *,
    described: Described,
) -> None:
    """Serve a folder of scans in the browser: open, ask, look, compare, measure. On 127.0.0.1 alone, and only with the printed address."""
    with quiet_errors():
        if any(find_spec(name) is None for name in ("fastapi", "uvicorn")):
            raise Unsupported("the viewer, which needs FastAPI and uvicorn", "neither or one of them", "pip install 'pellucid[serve]'.")
        from pellucid.viewer.app import serve as served
        from pellucid.viewer.limits import Limits
        from pellucid.viewer.offers import Beside

        models = list(dict.fromkeys(model or []))
        if weights and len(weights) != len(models):
            raise BadParameter("as many --weights as --model, or none", f"{len(weights)} for {len(models)}", "Give them in the same order.")
        if token is not None and (len(token) < 8 or not token.isascii() or not token.replace("-", "").replace("_", "").isalnum()):
            raise BadParameter("a token of at least 8 letters, digits, - or _", f"{len(token)} signs", "Leave it out for a random one.")
        nets = {m: network(m, w, described) for m, w in zip(models, weights or repeat(None), strict=False)}
        beside = Beside(
            indexes=_there("index", index), concepts=_there("concepts", concepts), influences=_there("influence", influence),
            cases=_there("cases", cases), names=names, findings=_there("findings", findings),
        )  # fmt: skip
        limits = Limits(upload=upload * MEBI, unpacked=unpacked * MEBI)
        served(Path(folder), Path(out), nets, port=port, token=token, limits=limits, beside=beside, on_ready=partial(_ready, Path(out)))


def _there(option: str, given: list[str] | None) -> tuple[Path, ...]:
    """Paths that an option names; each must exist, and be a folder where only a folder makes sense."""
    found = tuple(Path(g) for g in dict.fromkeys(given or ()))
    for path in found:
        folder = option in ("index", "cases")
        if not (path.is_dir() if folder else path.exists()):
            raise BadFile(f"--{option} names a {'folder' if folder else 'folder or file'}: {path}", "none", "Check the path.")
    return found


def _ready(out: Path, address: str) -> None:
    from pellucid.viewer.store import seen_by_others

    print(f"viewer: {address}", flush=True)
    print("Whoever has this address sees the scans. Stop with Ctrl+C.", flush=True)
    if warning := seen_by_others(out):
        print(warning, flush=True)
