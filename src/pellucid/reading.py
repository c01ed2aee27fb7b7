"""Reading: what the numbers of a network's output mean."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pellucid.errors import BadTarget

Output = Literal["logits", "multi-label", "single logit", "segmentation", "regression"]
Class = int | str


@dataclass(frozen=True)
class Reading:
    """What the numbers of an output mean: kind (None: told by the shape), class names, and whether they are probabilities already."""

    kind: Output | None = None
    classes: tuple[str, ...] = ()
    ends_in: Literal["softmax", "sigmoid"] | None = None

    def of(self, out: Tensor, space: int) -> Reading:
        """The reading with its kind settled for an output of an image with ``space`` spatial axes; sigmoids of many are many labels."""
        if self.kind is not None:
            return self
        several: Output = "multi-label" if self.ends_in == "sigmoid" else "logits"
        dense = out.ndim == 2 + space
        return replace(self, kind="segmentation" if dense else "single logit" if out.ndim == 1 or out.shape[1] == 1 else several)

    def logits(self, out: Tensor) -> Tensor:
        """Scores per class, (n, k, *rest). A single logit z with two class names stands for (-z, z)."""
        out = out[:, None] if out.ndim == 1 else out
        if self.ends_in == "softmax":
            out = out.clamp_min(torch.finfo(out.dtype).tiny).log()
        elif self.ends_in == "sigmoid":
            out = torch.logit(out, eps=torch.finfo(out.dtype).eps)
        if out.shape[1] == 1 and len(self.classes) == 2:
            out = torch.cat([-out, out], 1)
        return out

    def probabilities(self, out: Tensor) -> Tensor:
        """Probabilities per class, (n, k, *rest); of a regression there are none."""
        return self.squash(self.logits(out), single=out.ndim == 1 or out.shape[1] == 1)

    def squash(self, z: Tensor, *, single: bool) -> Tensor:
        """Probabilities from logits (n, k, *rest); ``single``: the output has one number per sample, z may be its mirrored pair."""
        if self.kind == "regression":
            raise BadTarget("a probability needs a classifier", "a regression", "Use the value itself: target=0.")
        one_of_many = self.kind in ("logits", "segmentation") and z.shape[1] > 1 and not single and self.ends_in != "sigmoid"
        return z.softmax(1) if one_of_many else z.sigmoid()

    def index(self, k: Class, count: int | None = None) -> int:
        """A class as its index. Raises BadTarget for an unknown name or an index that the output does not have."""
        if isinstance(k, str):
            if k in self.classes:
                return self.classes.index(k)
            if k.isdecimal():
                return self.index(int(k), count)
            near = difflib.get_close_matches(k, self.classes, 1)
            names = ", ".join(map(repr, self.classes)) or "no names: give pl.Model(..., classes=...)"
            raise BadTarget(
                "the target is one of the model's classes", repr(k), f"Did you mean {near[0]!r}?" if near else f"It has {names}."
            )
        count = len(self.classes) if count is None and self.classes else count
        if isinstance(k, bool) or k < 0 or (count is not None and k >= count):
            last = "the last class" if count is None else str(count - 1)
            raise BadTarget(f"a class index runs from 0 to {last}", repr(k), "Count classes from zero.")
        return int(k)

    def name(self, k: int) -> str:
        """How a class is written in a target's repr: by its name where it has one."""
        return repr(self.classes[k]) if k < len(self.classes) else repr(k)
