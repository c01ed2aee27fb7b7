"""Words: numbers, verdicts and provenance as a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pellucid.explanation import Map, Measurement, Provenance
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io.caption import MEASURED as MEASURED
from pellucid.io.caption import UNDECLARED as UNDECLARED
from pellucid.io.caption import target_of
from pellucid.report.meaning import meaning
from pellucid.report.pictures import Layer, Pictures
from pellucid.table import percent as percent

VERDICTS = {
    "supported": "The checks agree: this map follows what the network has learned to use.",
    "questionable": "Some checks stay open. Read this map with reserve.",
    "not supported": "The checks speak against this map. Do not rely on it.",
    "void": "The map or the score cannot be examined, so nothing can be concluded from it.",
    "not examined": "No checks were made. A map can look convincing and still be wrong.",
}
BETTER = {"up": "higher is better", "down": "lower is better", "zero": "nearer to zero is better"}
# facts that a reader may set and that cannot name a patient; everything else stays out of the page
TELLABLE = {
    "modality": "Modality", "body_part": "Body part", "view": "View", "laterality": "Laterality", "format": "File format",
    "photometric": "Photometric interpretation", "slices": "Slices", "bits": "Bits per sample", "transfer_syntax": "Transfer syntax",
}  # fmt: skip
CONVENTIONS = {  # whose millimeters they are: read by another convention, they lead to the other side
    "DICOM": "DICOM patient coordinates x {}, y {}, z {} mm",
    "RAS": "RAS coordinates x {}, y {}, z {} mm",
    "": "coordinates x {}, y {}, z {} mm, sides unknown",
}
TOP_CLASSES = 10
CLOSE = 0.985  # likeness from which tenths of a percent are told
NEARLY = 0.9999  # alike at most, of two images that are not one: "> 99.9 %"
SPELLED = {
    "cam": "CAM", "ig": "IG", "rise": "RISE", "lrp": "LRP", "shap": "SHAP", "lime": "LIME", "xrai": "XRAI", "hires": "HiRes", "xgrad": "XGrad",
    "grad": "Grad",
}  # fmt: skip
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, sign: bool = False) -> str:
    """Three digits, a true minus sign, powers of ten written out."""
    if value is None or math.isnan(value):
        return "not available"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:+.3g}" if sign else f"{value:.3g}"
    if "e" in text:
        head, power = text.split("e")
        text = f"{head} × 10{str(int(power)).translate(SUPERSCRIPT)}"
    return text.replace("-", "−")


def alike(likeness: float | None, same: bool) -> str:
    """How alike two images are; only one and the same image is said to be wholly so."""
    if likeness is None:
        return "identical" if same else ""
    if same and likeness == 1:
        return "identical"
    return f"{percent(min(likeness, NEARLY)) if likeness >= CLOSE else f'{100 * likeness:.0f} %'} alike"


def date(maps: Sequence[Map]) -> str:
    """When the latest of the maps was made, to the minute, in UTC."""
    latest = max(m.provenance.time for m in maps)
    return latest[:16].replace("T", " ") + " UTC" if latest else "not recorded"


# ---------------------------------------------------------------------------------------------------- prediction
def class_names(m: Map) -> list[str]:
    """Names of the classes that a map's probabilities are of."""
    known = m.provenance.classes
    return [known[k] if k < len(known) else f"class {k}" for k in range(len(m.probabilities))]


def exclusive(m: Map) -> bool:
    """Whether the classes exclude each other: as the output is read, never by what the probabilities happen to sum to."""
    return m.provenance.output in ("logits", "single logit") and len(m.probabilities) > 1


def findings(p: Sequence[float], excluding: bool) -> list[int]:
    """The classes that a network says hold, most likely first: the one of several that exclude each other, else all from a half on."""
    ranked = sorted(range(len(p)), key=lambda k: -p[k])
    return ranked[:1] if excluding else [k for k in ranked if p[k] >= 0.5]


def none_of(names: Sequence[str]) -> str:
    """What a network says that gives none of ``names``, each judged by itself: never that nothing is found, for a name may be a good one."""
    return f"none of its {len(names)} answers reaches 50 %" if len(names) > 1 else f"not {names[0]}"


def of_samples(m: Map) -> bool:
    """Whether a region of a segmentation is explained."""
    return "region(" in m.provenance.target


def unsaid(m: Map) -> str:
    """Why there are no probabilities of classes."""
    whole = "volume" if m.scan.grid.ndim == 3 else "picture"
    if of_samples(m):
        return f"This network labels every sample by itself: there is no one answer for the whole {whole}."
    return "This network gives no class probabilities."


def _asks_for(target: str, k: int, name: str) -> bool:
    """Whether a target's text names class ``k``."""
    return re.search(rf"\b(logit|probability|region)\(({re.escape(repr(name))}|{k})[,)]", target) is not None


def predictions(maps: Sequence[Map], corrected: Callable[[Map], tuple[float, ...]] | None = None) -> list[dict[str, Any]]:
    """For each network its probabilities of all classes, those explained marked; many classes sorted, the first ten up front.

    ``corrected`` gives calibrated probabilities; what the network itself stated is then told beside them.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for m in maps:
        if not m.probabilities:
            continue
        key = (m.provenance.model, m.probabilities, m.provenance.classes)
        group = found.setdefault(
            key, {"model": m.provenance.model, "bars": _bars(m, corrected), "corrected": corrected is not None, "exclusive": exclusive(m)}
        )
        for k, bar in enumerate(group["bars"]):
            bar["explained"] |= _asks_for(m.provenance.target, k, bar["name"])
    for group in found.values():
        bars = group["bars"]
        many = len(bars) > TOP_CLASSES + 2
        bars = sorted(bars, key=lambda b: -b["p"]) if many else bars
        group["first"] = [b for n, b in enumerate(bars) if not many or n < TOP_CLASSES or b["explained"]]
        group["bars"] = bars if many else []
    return list(found.values())


def _bars(m: Map, corrected: Callable[[Map], tuple[float, ...]] | None) -> list[dict[str, Any]]:
    shown = m.probabilities if corrected is None else corrected(m)
    best = max(shown)
    return [
        {
            "name": name, "p": p, "percent": percent(p), "width": 100 * min(max(p, 0.0), 1.0), "highest": p == best, "explained": False,
            "stated": "" if corrected is None else percent(stated),
        }
        for name, p, stated in zip(class_names(m), shown, m.probabilities, strict=True)
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- one map
def told(m: Map) -> dict[str, Any]:
    """What is said of one map wherever it is shown, in report and viewer alike: its name, question, verdict, and what its values are."""
    p, e = m.provenance, m.evidence
    word = e.verdict or "not examined"
    target, unit = short_target(p)
    return {
        "name": named(p.method),
        "method": p.method,
        "target": target,
        "raw_target": p.target,
        "site": p.site,
        "unit": unit,
        "asked": scored(p),
        "score": f"{number(m.score)} {unit}".strip(),
        "beside": _beside(m),
        "verdict": word,
        "slug": word.replace(" ", "-"),
        "sentence": VERDICTS[word],
        "reasons": list(e.reasons),
        "level": e.level,
        "rows": [_row(r) for r in e.measurements],
        "caveats": list(p.caveats),
        "cannot": _cannot(p.method),
        "bar": asdict(meaning(p.method, target, unit, scored(p))),
    }


LABEL = ("name", "target", "site", "unit", "verdict", "slug", "bar")  # what the scene's scripts say of a map: ``label`` of scene.addMap


def label(said: dict[str, Any]) -> dict[str, Any]:
    """The part of what is told that stands on the pictures themselves."""
    return {k: said[k] for k in LABEL}


def about(m: Map, layer: Layer, shown: Pictures, n: int) -> dict[str, Any]:
    """Everything the page says about one map."""
    return {
        **told(m),
        "n": n,
        "full": number(layer.full),
        "beyond": (layer.negative < -layer.full * 1.001, layer.positive > layer.full * 1.001),
        "single": layer.negative == 0,
        "signs": _signs(layer),
        "peak": _peak(layer, shown),
        "provenance": _provenance(m),
    }


def _beside(m: Map) -> str:
    """Beside which score a logit counts, where classes exclude each other: its own sign says nothing."""
    p = m.probabilities
    names = class_names(m)
    if m.provenance.output == "single logit" or not exclusive(m):
        return ""
    explained = [k for k, name in enumerate(names) if _asks_for(m.provenance.target, k, name)]
    if len(explained) != 1 or not m.provenance.target.startswith("logit("):
        return ""
    (k,) = explained
    other = max((j for j in range(len(p)) if j != k), key=lambda j: p[j])
    if not 0 < p[k] < 1 or not 0 < p[other] < 1:
        return "Logits count only against each other."
    apart = math.log(p[k]) - math.log(p[other])
    return f"{number(abs(apart))} {'above' if apart >= 0 else 'below'} {names[other]}; logits count only against each other."


def _cannot(method: str) -> str:
    """What a map by this method cannot tell."""
    traps = " ".join(misleads(method))
    return "What is wrong with the patient: only what the network used." + (f" It misleads when {traps}" if traps else "")


def named(method: str) -> str:
    """The name of a method by its text, that of a wrapped method with it."""
    inner = re.search(r"inner=(\w+)", method)
    return title(method.split("(")[0]) + (f" of {title(inner[1])}" if inner else "")


def title(method: str) -> str:
    """A method's name as a title: ``grad_cam`` is Grad-CAM."""
    words = [SPELLED.get(w, w) for w in method.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]]).replace(" CAM", "-CAM").replace(" plus plus", "++")


def misleads(text: str) -> list[str]:
    """What a map cannot tell, in the words of its methods' own docstrings (their paragraph *Misleads when*), wrapped methods included."""
    from pellucid import attribution as attribution  # registers them
    from pellucid.method import methods

    known = {m.name: m.doc for m in methods()}
    names = [
        n
        for n in dict.fromkeys(re.findall(r"[a-z_]\w*", text.split("(")[0] + " " + " ".join(re.findall(r"(?:inner|method)=(\w+)", text))))
        if n in known
    ]
    found = []
    for name in names:
        match = re.search(r"\*{0,2}Misleads when\*{0,2}:\s*(.*?)(?:\n\s*\n|\n\s*\*{0,2}Source|\Z)", known[name], re.DOTALL)
        if match:
            said = re.sub(r"``|\*\*", "", " ".join(match[1].split()))
            found.append(said[:1].lower() + said[1:])
    return found


def short_target(p: Provenance) -> tuple[str, str]:
    """What is explained, in short, and the unit of its score ("" where it has none that is known)."""
    return target_of({"target": p.target, "classes": p.classes, "output": p.output})


def scored(p: Provenance) -> str:
    """What the explained number is called: the value that was measured, or a score."""
    return "value" if p.output in MEASURED else "score"


def _signs(layer: Layer) -> str:
    """Which signs there are, and what lies beyond the ends of the color bar."""
    if layer.positive == 0 == layer.negative:
        return "This map is zero everywhere."
    signs = "This map has no negative values." if layer.negative == 0 else "This map has no positive values." if layer.positive == 0 else ""
    beyond = f"Full color is at ±{number(layer.full)}; {percent(layer.beyond)} of the samples lie beyond, up to {number(layer.most)}."
    return " ".join(s for s in (signs, beyond if layer.beyond else "") if s)


def _peak(layer: Layer, shown: Pictures) -> str:
    value = layer.positive if layer.positive >= -layer.negative else layer.negative
    if not value:
        return "none: the map is zero everywhere"
    return f"{number(value, sign=True)} at {position(shown, layer.peak)}"


def position(shown: Pictures, index: Sequence[int]) -> str:
    """A place in words, ``index`` in viewing order: mm from the edges of the whole scan, however little of it is drawn; else mm or samples.

    The origin of a scan's coordinates lies where the scanner or the file put it, not in the middle of the patient: their signs say no side. So
    a side is told as the nearer edge with its letter, and the coordinates stand behind it, by the name of their convention. ``place`` of
    scene.js says the same.
    """
    layout, grid, at = shown.layout, shown.whole, _stored(shown, index)
    if grid.unit == "px":
        return ", ".join(grid.say(at)) or "sample " + ", ".join(f"{p:g}" for p in at)
    from_first = [grid.shape[a] - 1 - at[a] if f else at[a] for a, f in zip(layout.order, layout.flip, strict=True)]
    far = [_tenths((min(p, grid.shape[a] - 1 - p) + 0.5) * grid.spacing[a]) for a, p in zip(layout.order, from_first, strict=True)]
    if grid.ndim == 2:
        down, across = (_tenths((p + 0.5) * grid.spacing[a]) for a, p in zip(layout.order, from_first, strict=True))
        return f"{across} mm from the left edge, {down} mm from the top"
    world = [w * (-1 if layout.coordinates == "DICOM" and n < 2 else 1) for n, w in enumerate(grid.world(at))]
    coordinates = CONVENTIONS[layout.coordinates].format(*map(_tenths, world))
    if not layout.sided:
        return coordinates
    letters = [ends[2 * p + 1 > grid.shape[a]] for a, p, ends in zip(layout.order, from_first, layout.ends(), strict=True)]
    near = ", ".join(f"{mm} mm from {'' if n else 'the scan’s edge '}{side}" for n, (mm, side) in enumerate(zip(far, letters, strict=True)))
    return f"{near}; {coordinates}"


def _stored(shown: Pictures, index: Sequence[int]) -> list[float]:
    """Where in the scan as it is stored the middle of a drawn sample lies: a block of samples, smaller at the end of what is shown."""
    found = [0.0] * len(index)
    for i, n, axis, turned in zip(index, shown.grid.shape, shown.layout.order, shown.layout.flip, strict=True):
        start, block = shown.start[axis], shown.factors[axis]
        first = start + (n - 1 - i if turned else i) * block
        found[axis] = (first + min(first + block, shown.whole.shape[axis] - start) - 1) / 2
    return found


def _tenths(value: float) -> str:
    """Millimeters to a tenth, halves up, as ``tenths`` of scene.js writes them: what is added hides in which language they were computed."""
    return f"{value + 1e-9:.1f}".replace("-0.0", "0.0").replace("-", "−")


def _row(r: Measurement) -> dict[str, Any]:
    interval = "" if r.low is None or r.high is None else f"{number(r.low)} to {number(r.high)}"
    return {
        "name": r.name.replace("_", " "), "value": number(r.value), "unit": r.unit, "interval": interval,
        "reference": "" if r.reference is None else number(r.reference), "against": r.against, "better": BETTER[r.direction],
        "status": r.status, "text": r.text, "plot": _plot(r),
    }  # fmt: skip


def _plot(r: Measurement) -> dict[str, float] | None:
    """Value, interval and reference as positions between 0 and 100, where there is something to compare."""
    have = {"value": r.value, "low": r.low, "high": r.high, "reference": r.reference}
    at = {k: float(v) for k, v in have.items() if v is not None and math.isfinite(v)}
    if "value" not in at or len(at) < 2:
        return None
    low, high = min(at.values()), max(at.values())
    room = (high - low) or 1.0
    return {k: round(8 + 84 * (v - low) / room, 2) for k, v in at.items()}


def _provenance(m: Map) -> list[tuple[str, str, bool]]:
    """Rows (name, text, whether it is code) on how the map came about; empty ones left out."""
    p = m.provenance
    cells = " × ".join(map(str, m.grid.shape))
    size = " × ".join(f"{s:.3g}" for s in m.grid.spacing)
    moved = "" if m.grid == m.scan.grid else "; drawn on the scan's samples by linear interpolation, heights kept"
    passes = f"{p.forward} forward, {p.backward} backward" + (f", {p.setup} to prepare" if p.setup else "")
    rows = [
        ("Method", p.method, True), ("Target", p.target, True), ("Site in the network", p.site, True), ("Network", p.model, False),
        ("Weights (SHA-256)", p.weights, True), ("Scan fingerprint", m.scan.fingerprint, True), ("Explained image", p.image, True),
        ("Preparation", p.prepare, True), ("Normalization", p.normalize, True), ("Own grid of the map", f"{cells} cells of {size} {m.grid.unit}{moved}", False),
        ("Channels", _channels(m), False), ("Seed", str(p.seed), False), ("Passes", passes, False),
        ("Time taken", f"{p.seconds:.3g} s on {p.device}, {p.chunk} at a time", False), ("Made", p.time, False),
        ("Versions", ", ".join(f"{k} {v}" for k, v in p.versions.items()), False), ("Source of the method", p.cite, False),
    ]  # fmt: skip
    return [r for r in rows if r[1]]


def _channels(m: Map) -> str:
    """How much of the relevance each channel holds, where there are several."""
    if len(m.values) < 2:
        return ""
    mass = m.values.detach().double().abs().flatten(1).sum(1)
    total = float(mass.sum())
    names = m.image.channels if len(m.image.channels) == len(m.values) and m.provenance.site == "input" else ()
    if not names or not total:
        return f"sum of {len(m.values)} is shown"
    return "sum is shown; share of each: " + ", ".join(f"{c} {percent(float(s) / total)}" for c, s in zip(names, mass, strict=True))


def _spacing(grid: Grid) -> list[tuple[str, str]]:
    """The distance between samples, or what the axes of a raster measure, from its first sample to its last."""
    if grid.unit == "mm":
        return [("Spacing", " × ".join(f"{s:.3g}" for s in grid.spacing) + " mm")]
    even = {a.name: " on the mel scale" if a.scale == "mel" else "" for a in grid.axes}
    reach = zip(grid.axes, grid.say([0] * grid.ndim), grid.say([n - 1 for n in grid.shape]), strict=False)
    return [(a.name.capitalize(), f"{first} to {last}, even steps{even[a.name]}") for a, first, last in reach] or [
        ("Spacing", "unknown (pixels)")
    ]


def scan_rows(scan: Image) -> list[tuple[str, str]]:
    """What may be told of the scan."""
    grid = scan.grid
    rows = [
        ("Size", " × ".join(map(str, grid.shape)) + (" voxels" if grid.ndim == 3 else " samples")),
        *_spacing(grid),
        ("Values", scan.quantity),
        ("Channels", ", ".join(scan.channels) if len(scan.channels) > 1 else ""),
    ]
    rows += [
        (label, str(scan.facts[k])) for k, label in TELLABLE.items() if k in scan.facts and isinstance(scan.facts[k], (str, int, float))
    ]
    return [r for r in rows if r[1]]
