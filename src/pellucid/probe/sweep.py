"""Sweep: one pass over one image tells the activations at several sites, and one pass back the slopes at all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.errors import BadSite
from pellucid.probe.sites import Place, watching

if TYPE_CHECKING:
    from pellucid.probe.engine import Engine, Question


@dataclass(frozen=True, eq=False)
class Swept:
    """The score (1,) and output of the image, and per place activation and slope (None if not asked), (1, c, *space)."""

    score: Tensor
    output: Tensor
    found: list[Tensor]
    slopes: list[Tensor | None]


def sweep(engine: Engine, question: Question, places: Sequence[Place], gradient: bool) -> Swept:
    """Let the question's image through and keep the activations at all places; they stay connected, so that one backward pass does.

    A slope is zero where the score does not hear the place.
    """
    kept: dict[str, Tensor] = {}

    def keeper(place: Place) -> Callable[[Tensor], Tensor]:
        def use(z: Tensor) -> Tensor:
            kept[place.text] = z.detach().requires_grad_() if gradient and not z.requires_grad else z
            return kept[place.text].clone()  # the network may write into it

        return use

    with contextlib.ExitStack() as stack, torch.enable_grad() if gradient else torch.no_grad():
        for place in places:
            stack.enter_context(watching(engine.model.module, place, keeper(place)))
        output, sites = engine.forward(question, question.x[None], [question.target])
        if missing := [p.text for p in places if p.text not in kept]:
            raise BadSite(f"{missing[0]!r} runs for every input", "an input for which it does not", "Choose another site.")
        score = engine.score_from(question, output, sites)
        given = [kept[p.text] for p in places]
        heard = gradient and score.requires_grad
        slopes = torch.autograd.grad(score.sum(), given, allow_unused=True) if heard else [None] * len(given)
    maps = [p.layout.to_map(z.detach()) for p, z in zip(places, given, strict=True)]
    laid = [torch.zeros_like(m) if g is None else p.layout.to_map(g) for p, m, g in zip(places, maps, slopes, strict=True)]
    return Swept(score.detach().double().cpu(), output.detach(), maps, list(laid) if gradient else [None] * len(laid))
