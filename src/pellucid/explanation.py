"""Explanation: what a method answered, where it lies, how it came about, and what was checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from pellucid import io
from pellucid.errors import BadFile, BadParameter
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.io.content import decoding
from pellucid.ops.resample import Keep, pull, push

Status = Literal["pass", "fail", "inconclusive", "void"]
Verdict = Literal["supported", "questionable", "not supported", "void"]
Direction = Literal["up", "down", "zero"]


@dataclass(frozen=True)
class Measurement:
    """One number about an explanation, and what it is held against.

    ``direction`` says where better lies (``up``, ``down``, or ``zero``); ``reference`` is the level that chance or a control
    reaches, named in ``against``; ``low`` and ``high`` bound the 95 % interval. ``text`` says the finding in plain words.
    """

    name: str
    value: float
    unit: str
    direction: Direction
    status: Status
    text: str
    reference: float | None = None
    against: str = ""
    low: float | None = None
    high: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Evidence:
    """What was checked, the numbers, and the verdict with its reasons. ``level`` is none, quick, standard or full."""

    level: str = "none"
    measurements: tuple[Measurement, ...] = ()
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measurement:
        for m in self.measurements:
            if m.name == name:
                return m
        have = ", ".join(m.name for m in self.measurements) or "nothing"
        raise KeyError(f"no measurement {name!r}; this evidence (level {self.level!r}) holds {have}. Ask examine(..., level='full').")

    def __contains__(self, name: object) -> bool:
        return any(m.name == name for m in self.measurements)

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)

    def __len__(self) -> int:
        return len(self.measurements)


@dataclass(frozen=True)
class Provenance:
    """How an explanation came about: enough to make it again, nothing that names a patient.

    ``weights`` is the sha256 of the network's parameters and buffers; it is worked out when first asked for, and says
    ``"unknown ..."`` if the weights have changed in between. ``output`` is what the network's numbers are, as ``Model(output=)`` names
    them; ``"undeclared"`` is one number of which nobody has said what it is. ``values`` is what the map's values are, as the method declares it.
    ``described`` is how the network was described, by the fields of ``Model`` that change a number besides weights and preparation.
    """

    method: str
    target: str
    site: str
    image: str
    model: str = ""
    classes: tuple[str, ...] = ()
    prepare: str = ""
    normalize: str = ""
    seed: int = 0
    chunk: int = 1
    forward: int = 0
    backward: int = 0
    setup: int = 0
    seconds: float = 0.0
    device: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    cite: str = ""
    caveats: tuple[str, ...] = ()
    scan: str = ""
    output: str = ""
    values: str = ""
    described: Mapping[str, str] = field(default_factory=dict)
    hash_weights: Callable[[], str] = field(default=lambda: "", repr=False, compare=False)

    @cached_property
    def weights(self) -> str:
        return self.hash_weights()

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, as written into every file."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "hash_weights"}
        return {**plain, "versions": dict(self.versions), "described": dict(self.described), "weights": self.weights}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Provenance:
        """The reverse of ``as_dict``."""
        known = {f.name for f in fields(cls)} - {"hash_weights"}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k in known}
        return cls(**values, hash_weights=Fixed(str(facts.get("weights", ""))))

    def __reduce__(self) -> tuple[Any, ...]:
        return Provenance.from_dict, (self.as_dict(),)


@dataclass(frozen=True)
class Fixed:
    """A hash that is known already."""

    value: str

    def __call__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class Explanation:
    """Abstract: every answer has a Grid, a Provenance and its Evidence."""

    grid: Grid
    provenance: Provenance
    evidence: Evidence


@dataclass(frozen=True, eq=False)
class Map(Explanation):
    """Relevance per sample: ``values`` (c, *space) on its own ``grid``, signed unless the method says otherwise.

    ``image`` is the prepared image that was explained (its grid may be finer than a feature map's); ``scan`` the image as given.
    ``score`` is the target's value for the image; ``probabilities`` those of all classes where a pass made them known.
    ``trace`` holds what the method recorded on its way (scores along a path, gradients per step, ...).
    """

    values: Tensor
    image: Image
    scan: Image
    score: float
    trace: Mapping[str, Any] = field(default_factory=dict)
    probabilities: tuple[float, ...] = ()
    ask: Any = None  # the settled question (method.Ask), so that it can be asked again; None where text could not hold it

    def __post_init__(self) -> None:
        object.__setattr__(self, "trace", MappingProxyType(dict(self.trace)))

    def __reduce__(self) -> tuple[Any, ...]:
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return _make_map, ({**state, "trace": dict(self.trace)},)

    def __repr__(self) -> str:
        verdict = self.evidence.verdict or "unexamined"
        return f"Map({tuple(self.values.shape)}, score={self.score:.4g}, {self.provenance.method}, {self.provenance.target}, {verdict})"

    @property
    def relevance(self) -> Tensor:
        """Sum over channels, (*space)."""
        return self.values.sum(0)

    @property
    def total(self) -> float:
        """Sum of all relevance, in float64."""
        return float(self.values.double().sum())

    def on(self, grid: Grid, *, keep: Keep = "density") -> Map:
        """The map read on another grid: ``density`` keeps the height of relevance, ``mass`` keeps its sum."""
        if grid == self.grid:
            return self
        if keep not in ("density", "mass"):
            raise BadParameter("keep is 'density' or 'mass'", repr(keep), "Say which of height and sum must stay.")
        values = self.values.detach().cpu()
        moved = (
            pull(values, grid.shape, grid.map_to(self.grid), fill=0.0)
            if keep == "density"
            else push(values, grid.shape, self.grid.map_to(grid))
        )
        return replace(self, values=moved, grid=grid)

    def with_evidence(self, evidence: Evidence) -> Map:
        """The same map with what was found out about it."""
        return replace(self, evidence=evidence)

    def save(self, path: str | Path, *, keep: Keep = "density", palette: str = "blue-orange") -> Path:
        """Write the map by suffix: ``.nii``/``.nii.gz`` and ``.png`` on the scan's own grid, ``.npz`` on the map's own (exact).

        Provenance and evidence go with it (a JSON sidecar for NIfTI, inside for NPZ, which ``pl.load`` reads back, as lines below a PNG and
        as texts inside it). Identifiers of patients do not.
        ``palette="green-red"`` of a PNG writes the signs into the picture.
        """
        if Path(path).suffix == ".npz":
            arrays, grid, facts = _archived(self)
            return io.write_archive(path, arrays, grid, facts=facts)
        shown = self.on(self.scan.grid, keep=keep)
        return io.write(path, shown.values.detach().cpu(), self.scan.grid, facts=self.facts(), image=self.scan, palette=palette)

    def dicom(
        self,
        folder: str | Path,
        *,
        source: str | Path | Sequence[str | Path],
        kinds: Sequence[str] | None = None,
        threshold: float = 0.5,
        keep_phi: bool = False,
    ) -> io.Filed:
        """Write DICOM objects on the grid of the scan's own files: Parametric Map, Segmentation, Secondary Capture, structured report.

        By default nothing in them names the patient: they make a study of their own, under a pseudonym. See ``docs/dicom_out.md``.

        Args:
            folder: gets the objects, whole or not at all; it may hold nothing but earlier ones.
            source: folder, file or files that the scan was read from, unchanged: another one is refused.
            kinds: some of ``map``, ``segmentation``, ``capture``, ``report``; None: all that the source can carry.
            threshold: share of the largest |relevance| from which a sample belongs to a segment, for or against.
            keep_phi: True files them in the patient's own study: same patient, same study and frame of reference.

        Returns:
            The files, and notes to read before they are sent.

        Raises:
            BadFile: a scan that was not read from DICOM, another source, a kind that it cannot carry, or somebody else's files in the folder.
        """
        facts = self.scan.facts
        if facts.get("format") != "DICOM" or "sha256" not in facts:
            got = f"a scan from {facts.get('format', 'memory')}"
            raise BadFile("write DICOM objects about a scan that was read from DICOM", got, "Save NIfTI or PNG: why.save('why.nii.gz').")
        origin = io.find_origin(source, self.scan, named=keep_phi)
        shown = self.on(origin.grid).relevance.detach().cpu().float()
        slices = shown.movedim(2, 0) if shown.ndim == 3 else shown[None]
        return io.file_dicom(folder, io.Derived(origin, slices.contiguous().numpy(), self.facts(), threshold), kinds)

    def audit(self, path: str | Path) -> str:
        """Append to an audit record what was explained, how, and with what verdict; see ``pl.check_audit``.

        One JSON line: fingerprints of scan, image and weights, the question, its answer, measurements, versions; no identifiers. Each line
        is sealed with the hash of the one before, so that a changed or missing line is noticed.

        Returns:
            The line's seal; kept elsewhere, it proves that the record was not cut off before it.
        """
        said = self.provenance.as_dict()
        kept = "method target site model classes prepare normalize seed device versions caveats weights scan image".split()
        numbers = {m.name: {"value": m.value, "unit": m.unit, "status": m.status} for m in self.evidence}
        found = {"level": self.evidence.level, "verdict": self.evidence.verdict, "reasons": self.evidence.reasons, "measurements": numbers}
        answer = {"score": self.score, "probabilities": self.probabilities, "explained": said["time"], "map": digest(self.values)}
        return io.append_record(path, {**{k: said[k] for k in kept}, **found, **answer})

    def animate(self, path: str | Path, *, frames: int = 60, most: int = 8_000_000) -> Path:
        """Write how the map came about as an animated ``.gif`` or ``.webp``: what the network was shown step by step, and what it answered.

        Of ``occlusion`` and ``lime``, and of ``integrated_gradients(keep=True)`` and ``blur_ig(keep=True)``, which hold their way in the trace.

        Args:
            path: the suffix chooses the format.
            frames: at most so many steps are shown, evenly spread, and the map at the end.
            most: bytes; the pictures are made smaller until they fit.

        Raises:
            Unsupported: another method, or one that was not asked to keep its way.
        """
        image, said = self.image, self.provenance
        sided = image.grid.unit == "mm" and (image.grid.frame is not None or bool(image.facts.get("sided")))
        known = [k for k, c in enumerate(said.classes) if f"({c!r})" in said.target or f"({k})" in said.target]
        shown = known[0] if len(known) == 1 else None
        verdict = self.evidence.verdict or "not examined"
        target, _ = io.target_of({"target": said.target, "classes": said.classes, "output": said.output})
        told = io.Told(image, self.values, self.trace, said.method, target, self.score, sided, shown, said.classes, verdict)
        return io.write_film(path, told, frames=frames, most=most)

    def facts(self) -> dict[str, Any]:
        """Provenance, evidence and geometry as plain values."""
        return {
            "kind": "map",
            "score": self.score,
            "probabilities": list(self.probabilities),
            "provenance": self.provenance.as_dict(),
            "evidence": evidence_facts(self.evidence),
            "trace": {k: v for k, v in self.trace.items() if plain_value(v)},
            "image": image_facts(self.image),
            "scan": image_facts(self.scan),
        }


def _make_map(state: dict[str, Any]) -> Map:
    return Map(**state)


def plain_value(value: Any) -> bool:
    """Whether JSON can hold it: numbers, strings, and lists of them."""
    if isinstance(value, (list, tuple)):
        return all(plain_value(v) for v in value)
    return isinstance(value, (int, float, str, bool)) or value is None


def image_facts(image: Image) -> dict[str, Any]:
    """What may be told of an image: geometry and meaning, its fingerprint, technical facts; no identifiers."""
    told = {k: v for k, v in image.facts.items() if k != "phi" and plain_value(v)}
    return {
        "grid": image.grid.facts(),
        "quantity": image.quantity,
        "channels": list(image.channels),
        "facts": told,
        "notes": list(image.notes),
        "fingerprint": image.fingerprint,
    }


def image_from(values: Tensor, facts: Mapping[str, Any], background: Tensor | None = None) -> Image:
    """The reverse of ``image_facts``."""
    grid, known = Grid.of_facts(facts["grid"]), facts["facts"]
    return Image(values, grid, facts["quantity"], tuple(facts["channels"]), background, known, tuple(facts["notes"]))


def evidence_facts(evidence: Evidence) -> dict[str, Any]:
    """Evidence as plain values."""
    rows = [{f.name: getattr(m, f.name) for f in fields(m) if f.name != "detail"} | {"detail": dict(m.detail)} for m in evidence]
    return {"level": evidence.level, "verdict": evidence.verdict, "reasons": list(evidence.reasons), "measurements": rows}


def evidence_from(facts: Mapping[str, Any]) -> Evidence:
    """The reverse of ``evidence_facts``."""
    rows = tuple(Measurement(**row) for row in facts["measurements"])
    return Evidence(facts["level"], rows, facts["verdict"], tuple(facts["reasons"]))


MAPS = 2  # version of what an archive of a map holds; 1 had neither tensors in its trace nor backgrounds
TRACED = "trace_"


def _archived(why: Map) -> tuple[dict[str, Tensor], Grid, dict[str, Any]]:
    """Everything of a map that can be written: arrays, grid, facts."""
    arrays = {"values": why.values, "image": why.image.values}
    if why.scan is not why.image:
        arrays["scan"] = why.scan.values
    for name, image in (("image", why.image), ("scan", why.scan)):
        if image.background is not None and name in arrays:
            arrays[f"{name}_background"] = image.background
    told = {k: v for k, v in why.trace.items() if plain_value(v) or (isinstance(v, Mapping) and all(plain_value(n) for n in v.values()))}
    arrays |= {f"{TRACED}{k}": v for k, v in why.trace.items() if isinstance(v, Tensor)}
    return arrays, why.grid, why.facts() | {"trace": told, "version": MAPS}


def load(path: str | Path) -> Map:
    """Read a Map back from the ``.npz`` that ``Map.save`` wrote; every number is as it was (lists come back as tuples).

    Raises:
        BadFile: no map in it, or one that a newer Pellucid wrote.
    """
    if Path(path).name.lower().endswith((".nii", ".nii.gz", ".png")):
        fix = "Save it with why.save('why.npz') too; pl.read takes values and places of the others."
        raise BadFile(f"read an explanation from {path}", "a picture or volume of its values alone", fix)
    arrays, facts, grid = io.read_archive(path)
    if facts.get("kind") != "map":
        raise BadFile(f"read a map from {path}", "an archive without one", "Save it with why.save('why.npz').")
    version = facts.get("version", 1)
    if not isinstance(version, int) or version > MAPS:
        raise BadFile(f"read a map from {path}", f"version {version}, newer than {MAPS}", "Update Pellucid.")
    with decoding("map", Path(path)):
        return _map_of(arrays, facts, grid)


def _map_of(arrays: Mapping[str, Tensor], facts: Mapping[str, Any], grid: Grid) -> Map:
    image = image_from(arrays["image"], facts["image"], arrays.get("image_background"))
    return Map(
        grid=grid,
        provenance=Provenance.from_dict(facts["provenance"]),
        evidence=evidence_from(facts["evidence"]),
        values=arrays["values"],
        image=image,
        scan=image_from(arrays["scan"], facts["scan"], arrays.get("scan_background")) if "scan" in arrays else image,
        score=facts["score"],
        trace=facts["trace"] | {k.removeprefix(TRACED): v for k, v in arrays.items() if k.startswith(TRACED)},
        probabilities=tuple(facts["probabilities"]),
    )
