"""A network asked under rules: one image, forward through surrogates and back by a method's own rules."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pellucid.errors import BadModel, NoRule
from pellucid.model import Model
from pellucid.probe.question import Question, Ruled
from pellucid.probe.rules import RuleMode, Rules
from pellucid.probe.sites import planting

if TYPE_CHECKING:
    from pellucid.probe.engine import Engine

_checked: weakref.WeakKeyDictionary[nn.Module, tuple[Hashable, set[object]]] = weakref.WeakKeyDictionary()
# by network: its weights, and the shapes and rules with which its output under the mode was compared


def answer_ruled(engine: Engine, question: Question, rules: Rules, reference: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Ruled]:
    """Score (1,), gradient (1, c, *space), output and what else was told; ``reference`` (1, c, *space) for paired rules.

    Raises:
        NoRule: an operation without a rule, or an output that the rules change.
        BadModel: the score does not depend on what is explained.
    """
    plain = _plain_output(engine, question, rules)
    record = start = None
    if rules.paired:
        assert reference is not None
        recorder = RuleMode(rules, recording=True)
        start = float(_run(engine, question, recorder, reference)[2].detach())
        record = recorder.record
    mode = RuleMode(rules, record)
    try:
        leaf, output, score = _run(engine, question, mode, None)
        if plain is not None:
            _same(plain, output, rules)
            _compared(engine).add(_key(question, rules))
        mode.check(score)
        if not score.requires_grad:
            fix = "Remove detach(), no_grad(), argmax or rounding."
            raise BadModel("the score depends on the input by differentiable steps", "a score without gradient", fix)
        gradient, *parts = torch.autograd.grad(score.sum(), [leaf, *(a.leaf for a in mode.absorbed)], allow_unused=True)
        if gradient is None:
            got = "a target that the input or site does not reach"
            raise BadModel("the score depends on what is explained", got, "Choose another site.")
        absorbed: dict[str, float] = {}
        for a, part in zip(mode.absorbed, parts, strict=True):
            absorbed[a.why] = absorbed.get(a.why, 0.0) + (0.0 if part is None else float(part))
    finally:
        mode.forget()
    told = Ruled(leaf.detach()[0], absorbed, mode.largest, tuple(mode.caveats), start)
    return score.detach(), gradient.detach(), output.detach(), told


def _run(engine: Engine, question: Question, mode: RuleMode, reference: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The pass of the image, or of a reference in its place: leaf, output and score."""
    model, place, found = engine.model, question.place, []
    normalized = mode.rules.normalized and model.normalize is not None and place is None
    plant = None
    image = question.x[None].detach()
    if place is None:
        start = image if reference is None else reference.detach()
        leaf = (model.normalize(start) if normalized and model.normalize else start.clone()).requires_grad_()
        found.append(leaf)
        image = leaf
    else:
        plant = planting(place, reference, found, True)
    with torch.enable_grad(), mode.following(model.module), mode:
        output, sites = engine.forward(question, image, [question.target], plant, normalized)
        mode.in_target = True
        if mode.rules.seed is not None:
            output, sites = mode.rules.seed(output), {name: mode.rules.seed(z) for name, z in sites.items()}
        score = engine.score_from(question, output, sites)
    return found[0], output, score


def look(model: Model, mode: RuleMode, forward: Callable[[], object]) -> None:
    """One forward pass under a table that only looks at the operations as they run."""
    try:
        with torch.enable_grad(), mode.following(model.module), mode:
            forward()
    finally:
        mode.forget()


def _compared(engine: Engine) -> set[object]:
    """What was compared for the network with the weights that it has now."""
    state = engine.model.state()
    known = _checked.get(engine.model.module)
    if known is None or known[0] != state:
        known = _checked[engine.model.module] = (state, set())
    return known[1]


def _key(question: Question, rules: Rules) -> object:
    return tuple(question.x.shape), question.x.dtype, rules.name


def _plain_output(engine: Engine, question: Question, rules: Rules) -> Tensor | None:
    """The network's own output, to compare with; None where this was done before. One setup pass."""
    if _key(question, rules) in _compared(engine):
        return None
    with torch.no_grad():
        plain, _ = engine.forward(question, question.x[None], [question.target])
    engine.count_setup(question, 1)
    return plain


def _same(plain: Tensor, output: Tensor, rules: Rules) -> None:
    apart, scale = float((output.detach() - plain).abs().max()), float(plain.abs().max())
    if not apart <= (1e-9 if plain.dtype == torch.float64 else 1e-3) * (scale + 1e-6):
        got = f"one that differs by {apart:.3g} where outputs reach {scale:.3g}"
        raise NoRule(f"the network's own output under {rules.name}", got, "It runs otherwise under rules; choose another method.")
