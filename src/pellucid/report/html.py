"""Assembly: maps of one scan in, one self-contained HTML file out. No network, no identifiers, nothing but the explanations read."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.evidence.predictions import Calibration, Temperature
from pellucid.explanation import Map
from pellucid.files import put
from pellucid.grid import Grid
from pellucid.report import words
from pellucid.report.curves import removal_curves
from pellucid.report.pictures import AGAINST, BEND, FOR, STRENGTH, Pictures, extent, for_script, packed_text, pictures, ruler
from pellucid.report.planes import Plane
from pellucid.report.process import processes
from pellucid.report.related import Concept, Decided, Similar, Step, concept_rows, decided_sides, similar_cards, strip
from pellucid.report.scripts import REPORT, niivue, part, script, style
from pellucid.report.summary import calibrated, summary

MARK = '<meta name="generator" content="pellucid">'


@dataclass(frozen=True)
class Beside:
    """What a report shows beside its maps, where it is given."""

    temperature: Temperature | None = None
    calibration: Calibration | None = None
    similar: Sequence[Similar] = ()
    influence: Decided | None = None
    concepts: Sequence[Concept] = ()
    counterfactual: Sequence[Step] = ()
    alike: Mapping[str, Any] | None = None
    names: Sequence[str] = ()


def write_report(
    path: str | Path,
    maps: Sequence[Map],
    *,
    title: str = "Explanation of one scan",
    note: str | None = None,
    temperature: Temperature | None = None,
    calibration: Calibration | None = None,
    similar: Sequence[Similar] = (),
    influence: Decided | None = None,
    concepts: Sequence[Concept] = (),
    counterfactual: Sequence[Step] = (),
) -> Path:
    """Write maps of one scan as one HTML page that opens from disk, asks the network for nothing, and says how far to trust it.

    The page answers in plain sentences what the network says, how sure it is, where it looked and how far that can be trusted; then come the
    maps over the scan, how they came about, and what was checked. It holds no identifiers: the case is named by the first 12 digits of
    the scan's fingerprint. Same maps, same bytes.

    Args:
        path: where to write; the file appears whole or not at all, and replaces only a report.
        maps: one or several maps of one scan (methods, targets, sites, networks), each on its own grid.
        title: the headline. Title and note are printed as given: keep names of patients out of them.
        note: a remark of the author, shown below the headline.
        temperature: learned on other cases of the same network; the probabilities are then shown corrected.
        calibration: what was measured of the network's probabilities; its finding is told.
        similar, influence, concepts, counterfactual: what else explains the case, see ``report.Similar``, ``Decided``, ``Concept``, ``Step``.

    Returns:
        The path written.

    Raises:
        BadImage: no maps, maps of different scans, or a map without spatial extent.
        BadGrid: a map that cannot be laid over the scan.
        BadFile: no such folder, or a file there that is not a report of Pellucid.
    """
    path, maps = Path(path), list(maps)
    check(maps)
    guard(path)
    return put(path, render(maps, title, note, Beside(temperature, calibration, similar, influence, concepts, counterfactual)))


def check(maps: Sequence[Map]) -> None:
    """Maps of one scan that can be drawn, or an error that says why not."""
    if not maps:
        raise BadImage("a report shows at least one map", "none", "Explain the scan first.")
    for m in maps:
        if not isinstance(m, Map):
            raise BadParameter("a report takes Maps", type(m).__name__, "Give what explain() returned, in a list.")
        if tuple(m.values.shape[1:]) != m.grid.shape:
            got = f"{tuple(m.values.shape)} at {m.provenance.site!r}"
            raise BadImage("a report draws maps with spatial extent, (c, *space)", got, "Leave that map out; save it as .npz.")
        if not bool(m.values.isfinite().all()):
            raise BadImage("a report draws finite numbers", f"NaN or infinity in {m.provenance.method}", "Look at the evidence first.")
    scans = {id(m.scan): m.scan.fingerprint for m in maps}
    if len(set(scans.values())) > 1:
        short = ", ".join(sorted({f[:12] for f in scans.values()}))
        raise BadImage("a report shows maps of one scan", f"{len(set(scans.values()))} scans: {short}", "Write one report for each.")


def guard(path: Path) -> None:
    """Only a page of Pellucid is replaced."""
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    if path.is_dir():
        raise BadFile(f"write {path}", "a folder of that name", "Choose another name.")
    if path.exists() and MARK.encode() not in path.read_bytes()[:2048]:
        raise BadFile(f"write {path}", "a file that is not a report of Pellucid", "Choose another name, or move that file away.")


def render(maps: Sequence[Map], title: str, note: str | None, beside: Beside | None = None) -> str:
    """The page as text."""
    beside = beside or Beside()
    scan, corrected = maps[0].scan, None
    if (learned := beside.temperature) is not None:
        corrected = lambda m: calibrated(m, learned)  # noqa: E731
    shown = pictures(scan, maps)
    told = [words.about(m, layer, shown, n) for n, (m, layer) in enumerate(zip(maps, shown.layers, strict=True))]
    for t, name in zip(told, beside.names, strict=False):
        t["name"] = name
    data = for_script(shown, scan)
    for one, t in zip(data["maps"], told, strict=True):
        one["label"] = words.label(t)
    moving = processes(maps)
    volume = scan.grid.ndim == 3
    return page(
        "report",
        REPORT,
        [niivue()] if volume else [],
        data=Markup(_inside_script(data)),
        moving=moving,
        moving_data=Markup(_inside_script([p["facts"] for p in moving])),
        niivue=packed_text(zlib.compress(niivue().encode(), 9)) if volume else "",
        niivue_license=part("vendor/LICENSE").partition("\n\n")[2] if volume else "",
        title=title,
        note=note,
        case=scan.fingerprint[:12],
        date=words.date(maps),
        version=maps[0].provenance.versions.get("pellucid", ""),
        answers=summary(maps, beside.temperature, beside.calibration, [t["name"] for t in told]),
        predictions=words.predictions(maps, corrected),
        unsaid=words.unsaid(maps[0]),
        calibration=beside.calibration,
        temperature=beside.temperature,
        maps=told,
        removal=[removal_curves(m) for m in maps],
        panels=_panels(shown),
        flat=not volume,
        scan=words.scan_rows(scan),
        remarks=[*shown.remarks, *scan.notes],
        gradient=gradient(),
        channels=len(shown.channels) if not shown.color else 0,
        color=shown.color,
        similar=similar_cards(beside.similar),
        influence=decided_sides(beside.influence),
        concepts=concept_rows(beside.concepts),
        steps=strip(beside.counterfactual),
        alike=beside.alike,
    )


def page(
    name: str, scripts: Sequence[str], others: Sequence[str] = (), *, scene: bool = True, styles: Sequence[str] = (), **facts: Any
) -> str:
    """A page from its template, with its scripts and a policy that allows those and nothing else; ``others``: scripts that it may run later."""
    code = script(tuple(scripts), scene=scene) if scripts else ""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in (code, *others) if c)
    policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    env = environment()
    return env.get_template(f"{name}.html.j2").render(
        mark=Markup(MARK),
        policy=policy + (f"script-src {hashes}; " if hashes else "") + "base-uri 'none'; form-action 'none'",
        style=Markup(style(*styles)),
        script=Markup(code),
        **facts,
    )


def environment() -> Environment:
    """Templates that escape whatever is said in them."""
    loader = FunctionLoader(lambda name: part(f"page/{name}"))
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader)
    env.filters["number"] = words.number
    return env


def _inside_script(data: Any) -> str:
    """JSON that cannot end its element or start another."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _panels(shown: Pictures) -> list[dict[str, Any]]:
    """One figure for each plane; a flat image also stands bare beside its map."""
    found = []
    for n, (plane, bare, over) in enumerate(shown.stills):
        wide, tall = extent(plane, shown.grid)
        per, unit = _per_sample(plane, shown.grid)
        bar = ruler(wide * per)
        peak = shown.layers[0].peak
        slice_ = None if plane.through is None else (peak[plane.through] + 1, shown.grid.shape[plane.through])
        one = {
            "plane": n, "name": plane.name, "wide": wide, "tall": tall, "edges": plane.edges, "slice": slice_,
            "ruler": 100 * bar / (wide * per), "length": f"{bar:g} {unit}",
        }  # fmt: skip
        if plane.through is None:
            found.append({**one, "name": "Image", "picture": bare, "overlay": False})
        found.append({**one, "name": "Image with map" if plane.through is None else plane.name, "picture": over, "overlay": True})
    return found


def _per_sample(plane: Plane, grid: Grid) -> tuple[float, str]:
    """What a unit of the grid is along the screen, and in which unit: seconds of a spectrogram, else the grid's own."""
    axis = grid.axes[plane.x] if grid.axes else None
    return (abs(axis.step), axis.unit) if axis is not None and axis.scale == "linear" else (1.0, grid.unit)


def gradient() -> str:
    """The color bar as a CSS gradient: what the map looks like over black, against on the left, for on the right."""
    stops = []
    for k in range(-10, 11):
        share = abs(k) / 10
        a, b = FOR if k > 0 else AGAINST
        cover = STRENGTH * share**BEND
        rgb = ", ".join(str(round((p + (q - p) * share) * cover + 22 * (1 - cover))) for p, q in zip(a, b, strict=True))
        stops.append(f"rgb({rgb}) {50 + 5 * k}%")
    return f"linear-gradient(to right, {', '.join(stops)})"
