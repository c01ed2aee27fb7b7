"""What every route can reach, and what each may answer instead."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from pellucid.errors import BadFile
from pellucid.explanation import Measurement
from pellucid.report.words import BETTER, number
from pellucid.viewer.desk import Desk
from pellucid.viewer.offers import Picture
from pellucid.viewer.shapes import Problem


def _desk(request: Request) -> Desk:
    found: Desk = request.app.state.desk
    return found


AtDesk = Annotated[Desk, Depends(_desk)]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "What was asked cannot be done; the answer says why, and the way out."},
    401: {"model": Problem, "description": "The token is missing."},
    403: {"model": Problem, "description": "The request does not come from the viewer's own page, or a network is not trusted."},
    404: {"model": Problem, "description": "No such thing."},
    413: {"model": Problem, "description": "Too many bytes."},
    422: {"model": Problem, "description": "The request is not of the shape that this description gives."},
}
PACKED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "description": "Samples."}
}


PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "The picture."}}


def drawn(picture: Picture) -> Response:
    """A thumbnail, or why there is none."""
    if not picture.png:
        raise BadFile("a picture that can be shown", picture.why.rstrip("."), "Look the image up by its place.")
    return Response(picture.png, media_type="image/png")


def packed(data: bytes) -> Response:
    """Samples as the report packs them: deflated, all low bytes before all high bytes. The browser inflates."""
    return Response(data, media_type="application/octet-stream", headers={"content-encoding": "deflate"})


def finite(value: float | None) -> float | None:
    """JSON knows no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else value


SHORT = {"roc": "ROC", "auc": "AUC", "auprc": "AUPRC", "iou": "IoU", "f1": "F1", "emd": "EMD", "mae": "MAE", "otsu": "Otsu"}


def _said(name: str) -> str:
    return " ".join(SHORT.get(w, w) for w in name.split("_"))


def row(r: Measurement) -> dict[str, Any]:
    """A finding as the page shows it."""
    return {
        "name": r.name, "title": _said(r.name), "value": finite(r.value), "shown": number(r.value), "unit": r.unit,
        "better": BETTER[r.direction], "reference": finite(r.reference), "held": "" if r.reference is None else number(r.reference),
        "against": r.against, "low": finite(r.low), "high": finite(r.high), "status": r.status, "text": r.text,
    }  # fmt: skip
