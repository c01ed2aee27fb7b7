"""Shapes that several routes speak in; the others stand with their routes. The OpenAPI description is made of them."""

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


class Begun(BaseModel):
    """The id of a question that was put into the queue."""

    id: str


class Going(BaseModel):
    """How far a question is that waits in the queue like a run; ``stopping``: it was cancelled, and ends at the next pass of the network."""

    id: str
    state: State
    phase: str
    done: int
    total: int | None
    ahead: int
    stopping: bool
    error: Problem | None


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


class MethodAsk(Strict):
    """A method with the parameters that differ from their defaults."""

    name: Annotated[str, Field(max_length=80)]
    params: Annotated[dict[str, Value], Field(max_length=40)] = {}


class LayerFacts(BaseModel):
    """How a map's samples are read: share = (number - levels) / levels; value = share * most; full color at ``full``."""

    bits: int
    most: float
    full: float
    positive: float
    negative: float
    peak: list[int]


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


class About(BaseModel):
    """The viewer: its version, the folder's name, limits in bytes, the palette, the metrics of localization on offer; and what can be shown beside a
    map: how many indexes, results of concepts and of influence, and findings of the model as a whole were named at the start."""

    version: str
    folder: str
    upload: int
    colors: dict[str, Any]
    metrics: list[str]
    beside: dict[str, int]
