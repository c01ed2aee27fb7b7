"""Sweep: one pass over one image tells the activations at several sites, and one pass back the slopes at all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.errors import BadSite
from pellucid.probe.question import Block, Question, Reply
from pellucid.probe.sites import Place, watching
from pellucid.run import SMALL, measured, no_memory

if TYPE_CHECKING:
    from pellucid.probe.engine import Engine


@dataclass(frozen=True, eq=False)
class _Swept:
    """The score (1,) and output of the image, and per place activation and slope (None if not asked), (1, c, *space)."""

    score: Tensor
    output: Tensor
    found: list[Tensor]
    slopes: list[Tensor | None]


def _sweep(engine: Engine, question: Question, places: Sequence[Place], gradient: bool) -> _Swept:
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
    return _Swept(score.detach().double().cpu(), output.detach(), maps, list(laid) if gradient else [None] * len(laid))


def several_sites(engine: Engine, blocks: Sequence[Block]) -> list[Reply]:
    """Activations at several sites, as they are: those of one image and target share one pass."""
    groups: list[list[Block]] = []
    for block in blocks:
        own = block.question
        for group in groups:
            other = group[0].question
            if own.place and other.place and own.x is other.x and own.target == other.target:
                group.append(block)
                break
        else:
            groups.append([block])
    told = {id(b): r for group in groups for b, r in zip(group, _shared(engine, group), strict=True)}
    return [told[id(b)] for b in blocks]


def _shared(engine: Engine, blocks: list[Block]) -> list[Reply]:
    """The sites of one image and target by one pass; by two if memory runs out."""
    if len(blocks) == 1:
        return engine.answer(blocks)
    question, gradient = blocks[0].question, blocks[0].gradient
    try:
        with engine.turn, measured(engine.model.device) if question.x.numel() > SMALL else contextlib.nullcontext():
            swept = _sweep(engine, question, [b.question.place for b in blocks if b.question.place is not None], gradient)
    except Exception as error:
        if not no_memory(error):
            raise
        half = len(blocks) // 2
        return _shared(engine, blocks[:half]) + _shared(engine, blocks[half:])
    engine.meter.tick(forward=1, backward=int(gradient))
    for own in (b.question for b in blocks):
        own.target, own.settled = question.target, question.settled
        own.tally.forward, own.tally.backward = own.tally.forward + 1, own.tally.backward + gradient
        engine.note_probabilities(own, swept.output)
    classes = engine.classes_of(question, swept.output)
    return [Reply(swept.score, slope, classes, found) for found, slope in zip(swept.found, swept.slopes, strict=True)]
