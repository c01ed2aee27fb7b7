"""What each sample contributes to the difference from one or several references: DeepLIFT's multipliers times the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pellucid.errors import NoRule
from pellucid.probe.rules.deeplift import Way, deeplift

if TYPE_CHECKING:
    from pellucid.probe.probe import Probe


def against(probe: Probe, x: Tensor, starts: Sequence[Tensor], way: Way) -> tuple[Tensor, dict[str, Any]]:
    """Mean over ``starts`` of multipliers times ``x - start``, one start at a time; and the trace.

    Raises:
        NoRule: an operation has no rule, or the contributions to one start do not add up to the change (the network draws by chance).
    """
    values = torch.zeros_like(x, dtype=torch.float64)
    changes, gaps, largest = [], [], 0.0
    for start in starts:
        found = probe.ruled(deeplift(way), start)
        assert found.start is not None
        one = (x - start).double() * found.gradient.double()
        changes.append(float(found.score) - found.start)
        gaps.append(float(one.sum()) - changes[-1])
        largest = max(largest, found.largest)
        _sums(gaps[-1], changes[-1], float(one.abs().sum()), max(abs(float(found.score)), abs(found.start)), x.dtype)
        values += one / len(starts)
    change = sum(changes) / len(changes)
    total, size = float(values.sum()), float(values.abs().sum())
    ratio = size / max(abs(change), 1e-30)
    return values, {"gap": total - change, "change": change, "changes": changes, "gaps": gaps, "largest": largest, "ratio": ratio}


def _sums(gap: float, change: float, size: float, score: float, dtype: torch.dtype) -> None:
    """Refuse contributions that do not add up."""
    # rounding stays below 1e-7 of the contributions in float32, 1e-15 in float64, on deep networks too
    if abs(gap) > torch.finfo(dtype).eps ** 0.5 * (size + score):
        raise NoRule(
            "contributions that add up to the change of the score",
            f"{change + gap:.6g} where the score changes by {change:.6g}",
            "Two runs of the network differ by more than their input (chance, numbers read out of tensors); choose another method.",
        )
