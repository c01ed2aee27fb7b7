"""How far an identity may be missed: the limits that all axioms share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.explanation import Measurement, Status

PASS, FAIL = 0.05, 0.20  # of what must come out: below, the rest is the integral's error; above, a fifth of the answer is unaccounted for


def judged(name: str, gap: float, unit: str, text: str, detail: Mapping[str, Any]) -> Measurement:
    """A gap from an identity as a measurement; a gap that is no number is void."""
    status: Status = "void" if math.isnan(gap) else "pass" if gap <= PASS else "fail" if gap > FAIL else "inconclusive"
    return Measurement(name, gap, unit, "zero", status, text, 0.0, f"pass to {PASS:.0%}, fail above {FAIL:.0%}", detail=detail)


def apart(a: Tensor, b: Tensor) -> float:
    """``|b - a|_1 / |a|_1`` of two maps; NaN where ``a`` is empty or a value is no number."""
    size = float(a.double().abs().sum())
    if not size > 0 or not math.isfinite(size) or not bool(torch.isfinite(b).all()):
        return math.nan
    return float((b.double() - a.double()).abs().sum()) / size


def empty(name: str, unit: str) -> Measurement:
    """A map that says nothing cannot keep or break a promise."""
    return Measurement(name, math.nan, unit, "zero", "void", "The map is zero everywhere, or holds values that are no numbers.")
