"""Shapes of questions and answers: what the OpenAPI description is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=400)]
Key = Annotated[str, Field(max_length=80)]
Level = Literal["none", "quick", "standard", "full"]
State = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]
Value = str | bool | int | float | None
Number = float | None  # JSON knows no infinity


class Strict(BaseModel):
    """A question: nothing that is not known."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What went wrong: what was asked, what was got, the way out."""

    kind: str
    asked: str
    got: str
    fix: str


# ---------------------------------------------------------------------------------------------------- scans
class FileEntry(BaseModel):
    """A folder, a scan, or all DICOM files that lie in the listed folder."""

    path: str
    name: str
    kind: str
    size: int
    files: int


class Listing(BaseModel):
    """What lies directly in a folder. ``skipped`` files are no scans."""

    path: str
    parent: str | None
    entries: list[FileEntry]
    skipped: int


class SeriesEntry(BaseModel):
    """One DICOM series; ``uid`` is what opening it takes."""

    uid: str
    modality: str
    slices: int
    shape: list[int]


class OpenScan(Strict):
    """A file or folder of the shelf, or an upload."""

    path: Annotated[str, Field(max_length=2000)] = ""
    series: Text | None = None
    upload: Key | None = None


class Upload(BaseModel):
    """Files that were sent; opened by its id."""

    id: str
    name: str
    files: int
    size: int


class Plane(BaseModel):
    """One view: the axes along and down the screen and the one that is scrolled; letters at the left, right, top and bottom edge."""

    name: str
    x: int
    y: int
    through: int | None
    flipY: bool
    edges: list[str]


class Channel(BaseModel):
    """Samples are ``low + step * number``; black and white of the first window."""

    name: str
    bits: int
    low: float
    step: float
    window: list[float]


class Laid(BaseModel):
    """How viewing order lies in the scan as stored: its shape, and for each axis shown which axis of the scan, whether reversed, how coarse."""

    shape: list[int]
    order: list[int]
    flip: list[bool]
    factors: list[int]


class Shown(BaseModel):
    """How a scan is laid out: shape and affine in viewing order; what ``Scene`` of the report draws."""

    shape: list[int]
    affine: list[list[float]]
    unit: str
    axes: list[dict[str, Any]]
    sided: bool
    coordinates: str
    scan: Laid
    planes: list[Plane]
    color: bool
    inverted: bool
    quantity: str
    channels: list[Channel]


class Scan(BaseModel):
    """An opened scan; ``rows`` tell what may be told of it, ``remarks`` what a person should read."""

    id: str
    name: str
    format: str
    dicom: bool
    rows: list[tuple[str, str]]
    remarks: list[str]
    display: Shown


# ---------------------------------------------------------------------------------------------------- networks and methods
class ModelName(BaseModel):
    """A network on offer; ``given``: named on the command line."""

    id: str
    given: bool


class ModelFacts(BaseModel):
    """What may be told of a network before it has run."""

    id: str
    name: str
    kind: str
    trust: str
    classes: list[str]
    sha256: dict[str, str]
    notes: list[str]


class Site(BaseModel):
    """A place in the network, and the shape of its activation (channels, *space)."""

    name: str
    shape: list[int]


class Look(BaseModel):
    """What a pass over the scan tells of the network, once ``state`` is done."""

    state: State
    ahead: int = 0
    error: Problem | None = None
    output: str = ""
    classes: list[str] = []
    probabilities: list[float] = []
    predicted: str = ""
    shape: list[int] = []
    sites: list[Site] = []
    remarks: list[str] = []


class FormField(BaseModel):
    """A parameter of a method: its kind, what it may be, its default as text (null: left open)."""

    name: str
    kind: str
    wants: str
    says: str
    optional: bool
    default: str | None
    choices: list[str]
    ideas: list[str]
    low: float | None
    high: float | None
    step: float | None


class MethodForm(BaseModel):
    """A method, its traps and its parameters."""

    name: str
    title: str
    says: str
    misleads: str
    source: str
    space: list[int]
    where: str
    gives: list[str]
    random: bool
    hears_weights: bool
    hears_target: bool
    fields: list[FormField]


class MethodAsk(Strict):
    """A method with the parameters that differ from their defaults."""

    name: Annotated[str, Field(max_length=80)]
    params: Annotated[dict[str, Value], Field(max_length=40)] = {}


class Priced(BaseModel):
    """A bound method as it is written, and the passes that it takes (null where that depends on the site)."""

    method: str
    forward: int | None
    backward: int | None
    at_most: bool


# ---------------------------------------------------------------------------------------------------- runs and maps
class Question(Strict):
    """Why does this model give this target for this scan, seen at these sites, by these methods? ``mark``: the mask of ``region(...)``."""

    scan: Key
    model: Text
    target: Text | None = None
    mark: Key | None = None
    sites: Annotated[list[Text | None], Field(max_length=24)] = []
    methods: Annotated[list[MethodAsk], Field(min_length=1, max_length=24)]
    evidence: Level = "quick"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    chunk: Annotated[int, Field(ge=1, le=1024)] | None = None


class MapLine(BaseModel):
    """A map of a run in a line; ``explained``: its target in short; ``way``: each step of its path was kept."""

    id: str
    name: str
    method: str
    target: str
    explained: str
    site: str
    score: Number
    verdict: str | None
    level: str
    way: bool


class RunRecord(BaseModel):
    """A run: its question, how far it is, its maps so far; ``stopping``: it was cancelled, and ends at the next pass of the network."""

    id: str
    state: State
    made: str
    phase: str
    done: int
    total: int | None
    ahead: int
    stopping: bool
    seconds: float
    question: Question
    error: Problem | None
    maps: list[MapLine]


class Ran(BaseModel):
    """The id of a run that was put into the queue."""

    id: str


class LayerFacts(BaseModel):
    """How a map's samples are read: share = (number - levels) / levels; value = share * most; full color at ``full``."""

    bits: int
    most: float
    full: float
    positive: float
    negative: float
    peak: list[int]


class Class(BaseModel):
    """A class and its probability."""

    name: str
    p: float


class Row(BaseModel):
    """One finding: value, what it is held against, and what it says in words."""

    name: str
    title: str
    value: Number
    shown: str
    unit: str
    better: str
    reference: Number
    held: str
    against: str
    low: Number
    high: Number
    status: str
    text: str


class MapFacts(BaseModel):
    """A map in words and numbers."""

    id: str
    run: str
    scan: str
    name: str
    method: str
    target: str
    site: str
    score: Number
    classes: list[Class]
    said: str
    beside: str
    verdict: str
    sentence: str
    reasons: list[str]
    cannot: str
    caveats: list[str]
    level: str
    rows: list[Row]
    provenance: list[tuple[str, str]]
    layer: LayerFacts
    label: dict[str, Any]
    way: str | None
    kept: bool


class Way(BaseModel):
    """The path of a map's method: where each step lies, what it contributed, what the network said there."""

    kind: str
    at: list[float]
    unit: str
    contributions: list[float]
    scores: list[float]
    probabilities: list[list[float]]
    classes: list[str]
    kept: bool


class Frame(BaseModel):
    """The image at a step of a way, and the map so far; both packed in base64 as the report packs them."""

    display: Shown
    channels: list[str]
    layer: LayerFacts | None
    map: str | None


# ---------------------------------------------------------------------------------------------------- marks
class MarkLine(BaseModel):
    """A region that was drawn over a scan; ``size`` in mm², mm³ or samples."""

    id: str
    scan: str
    name: str
    samples: int
    size: float
    unit: str
    space: int


class MarkFile(Strict):
    """A mask that lies in the folder."""

    scan: Key
    path: Annotated[str, Field(max_length=2000)]
    name: Text = "mask"


class Measure(Strict):
    """Which maps are held against which mark, by which metrics (none: the usual ones)."""

    mark: Key
    maps: Annotated[list[Key], Field(min_length=1, max_length=24)]
    metrics: Annotated[list[Text], Field(max_length=24)] = []


class Measured(BaseModel):
    """Findings of each map."""

    rows: dict[str, list[Row]]


class About(BaseModel):
    """The viewer: its version, the folder's name, limits in bytes, the palette, and the metrics of localization on offer."""

    version: str
    folder: str
    upload: int
    colors: dict[str, Any]
    metrics: list[str]
