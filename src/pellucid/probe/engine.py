"""The engine: blocks of inputs in, scores and gradients out. The only place that runs the network."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import BadModel, BadSite, OutOfMemory, PellucidError
from pellucid.model import Model
from pellucid.probe.ending import check_ending
from pellucid.probe.question import Block, Question, Reply, distinct
from pellucid.probe.ruled import answer_ruled, look
from pellucid.probe.rules import RuleMode, Rules
from pellucid.probe.sites import Place, find, forget, planting, watching
from pellucid.probe.sweep import several_sites
from pellucid.probe.tiles import tiled_gradients, tiled_output
from pellucid.reading import Reading
from pellucid.run import SMALL, Meter, Pass, Plan, Run, measured, no_memory
from pellucid.target import Seen, Target

_steady: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()  # the caveat, or nothing
UNDECLARED = "the network gives one number and nothing says what it is: Model(output='regression') for a measurement, classes= for a class"
_plans: weakref.WeakKeyDictionary[nn.Module, dict[Any, Plan]] = weakref.WeakKeyDictionary()


@dataclass(eq=False)
class Engine:
    """Runs one network for one or several explanations, counting and planning."""

    model: Model
    run: Run
    meter: Meter
    notes: list[str] = field(default_factory=list)
    output: str = ""  # what its numbers are, once it has answered; "undeclared": one number of which nobody has said what it is
    measure_single: bool = False  # whether a lone pass is measured too: worth it where many follow
    _shapes: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)  # of outputs, by that of the input
    turn: threading.RLock = field(default_factory=threading.RLock)  # explanations side by side take turns with the network

    def __post_init__(self) -> None:
        forget(self.model.module)

    def plan(self, kind: Pass, question: Question) -> Plan:
        """The chunk plan for such passes over such inputs; shared by all explanations of this network."""
        place = question.place
        key = (kind, tuple(question.x.shape), question.x.dtype, place and place.text, self.run.chunk, self.run.memory)
        known = _plans.setdefault(self.model.module, {})
        if key not in known:
            known[key] = Plan(self.model.device, self.run)
        return known[key]

    def activation(self, question: Question, image: Tensor) -> Tensor:
        """The activation at the question's site, in map form (c, *space), for an image (c, *space); one setup pass."""
        assert question.place is not None
        found: list[Tensor] = []
        with self.turn, torch.no_grad():
            self.forward(question, image[None].to(question.x), [], planting(question.place, None, found, False))
            self.count_setup(question, 1)
        return found[0][0]

    def look(self, question: Question, image: Tensor, rules: Rules) -> None:
        """Let an image (c, *space) pass through the network under a table that only looks: one forward pass."""
        batch = image[None].to(question.x).clone().requires_grad_()
        with self.turn:
            look(self.model, RuleMode(rules), lambda: self.forward(question, batch, []))
        question.tally.forward += 1
        self.meter.tick(forward=1)

    def count_setup(self, question: Question, passes: int) -> None:
        """Passes that no method asked for."""
        question.tally.setup += passes
        self.meter.tick(setup=passes)

    def settle(self, question: Question) -> None:
        """One setup pass over the image itself: predicted classes and regions become fixed, probabilities known."""
        with self.turn, torch.no_grad():
            output, sites = self.forward(question, question.x[None], [question.target])
        self.count_setup(question, 1)
        self._settle_with(question, output, sites)
        self.note_probabilities(question, output)

    def note_probabilities(self, question: Question, output: Tensor) -> None:
        """Keep the probabilities of all classes from an output for the image itself; refuse one that was probabilities before.

        Once per network the image is asked again: the map of one that answers otherwise is a map of one draw, and says so.
        """
        passes, untold = check_ending(self.model, question.x, output.detach())
        if passes:
            self.count_setup(question, passes)
        if untold and untold not in self.notes:
            self.notes.append(untold)
        self._steady(question, output)
        reading = self.model.reading.of(output, question.grid.ndim)
        self.output = reading.kind or ""
        if self._undeclared(reading):
            self.output = "undeclared"
            if UNDECLARED not in self.notes:
                self.notes.append(UNDECLARED)
        elif output.ndim <= 2 and reading.kind != "regression":
            question.probabilities = tuple(reading.probabilities(output.detach()[:1]).double()[0].tolist())

    def _undeclared(self, reading: Reading) -> bool:
        """One number that nobody has named: a probability of a measurement would be an invention."""
        own = self.model.reading
        return own.kind is None and own.ends_in is None and reading.kind == "single logit" and not reading.classes

    def _steady(self, question: Question, output: Tensor) -> None:
        module = self.model.module
        if module not in _steady:
            with self.turn, torch.no_grad():
                again, _ = self.forward(question, question.x[None], [])
            self.count_setup(question, 1)
            apart, scale = float((again - output[:1].detach()).abs().max()), float(again.abs().max())
            told = (
                f"the network answers otherwise when asked again (outputs of up to {scale:.3g} differ by {apart:.2g}): is dropout left on?"
            )
            _steady[module] = told if apart > 1e-3 * scale else ""
        if (note := _steady[module]) and note not in self.notes:
            self.notes.append(note)

    def probabilities(self, question: Question, logits: Tensor) -> list[list[float]]:
        """Probabilities of all classes from answers' logits (n, k); none of a regression or a dense output."""
        shape = self._shapes.get(tuple(question.x.shape))
        if shape is None or len(shape) > 1 or self.model.reading.kind == "regression":
            return [[] for _ in logits]
        reading = self.model.reading.of(torch.empty(1, *shape), question.grid.ndim)
        if self._undeclared(reading):
            return [[] for _ in logits]
        found: list[list[float]] = reading.squash(logits, single=not shape or shape[0] == 1).tolist()
        return found

    def classes_of(self, question: Question, output: Tensor) -> Tensor | None:
        """Logits of all classes (n, k); None for dense outputs."""
        return self.model.reading.of(output, question.grid.ndim).logits(output.detach()).double().cpu() if output.ndim <= 2 else None

    def score_of(self, question: Question) -> float:
        """The target's value for the image itself, by one setup pass."""
        with self.turn, torch.no_grad():
            output, sites = self.forward(question, question.x[None], [question.target])
        self.count_setup(question, 1)
        self.note_probabilities(question, output)
        return float(self.score_from(question, output, sites)[0])

    # ------------------------------------------------------------------ answering
    def answer(self, blocks: Sequence[Block]) -> list[Reply]:
        """Answer several blocks of one kind in as few passes as possible; equal inputs of different targets share theirs."""
        first = blocks[0]
        if first.rules is not None:
            return [self._ruled(b, b.rules) for b in blocks if b.rules is not None]
        if first.inputs is None and len({b.question.place and b.question.place.text for b in blocks}) > 1:
            return several_sites(self, blocks)
        plan = self.plan("gradients" if first.gradient else "scores", first.question)
        unique = distinct(blocks)
        if first.inputs is None and len(unique) > plan.size:  # the plan may grow between the two
            parts = [[b for same in side for b in same] for side in (unique[: plan.size], unique[plan.size :])]
            told = {id(b): r for part in parts for b, r in zip(part, self.answer(part), strict=True)}
            return [told[id(b)] for b in blocks]
        leaders = [same[0] for same in unique]
        counts = [1 if b.inputs is None else len(b.inputs) for b in leaders]
        total = sum(counts)
        single = first.inputs is None and not self.measure_single
        watch = (plan.wants_measure and total == plan.size and not single) or first.question.x.numel() > SMALL
        try:
            with self.turn, measured(self.model.device) if watch else contextlib.nullcontext() as peak:
                rows = self._pass(leaders, counts, unique, first.gradient)
        except Exception as error:
            if isinstance(error, PellucidError) and not isinstance(error, (BadModel, OutOfMemory)):
                raise
            return self._smaller(blocks, plan, total, error)
        if peak is not None and plan.run.chunk is None:
            plan.peaks.setdefault(total, peak.bytes)
            plan.largest = peak.largest if total == 1 else plan.largest
        if not plan.checked and total > 1:
            plan.checked = True
            self._check_alone(leaders, [rows[id(b)] for b in leaders])
        for same, n in zip(unique, counts, strict=True):
            for b in same:
                tally = b.question.tally
                tally.forward, tally.chunk = tally.forward + n, max(tally.chunk, total)
                tally.backward += n if first.gradient else 0
        self.meter.tick(forward=total, backward=sum(n * len(s) for n, s in zip(counts, unique, strict=True)) if first.gradient else 0)
        return [rows[id(b)] for b in blocks]

    def _check_alone(self, blocks: Sequence[Block], replies: Sequence[Reply]) -> None:
        """Once per network: the first and the last sample of a batch must not depend on their neighbors."""
        least = 1e-3 * max(float(r.scores.abs().max()) for r in replies)
        for at, block, reply in ((0, blocks[0], replies[0]), (-1, blocks[-1], replies[-1])):
            question, place = block.question, block.question.place
            planted = None if block.planted is None else block.planted[at][None]
            plant = None if place is None else planting(place, planted, [], False)
            with self.turn, torch.no_grad():
                output, sites = self.forward(question, block.fed[at][None], [question.target], plant)
                alone = float(self.score_from(question, output, sites)[0])
            self.count_setup(question, 1)
            beside = float(reply.scores[at])
            bears = max(least, 1e-3 * abs(alone))
            logits, before = self.classes_of(question, output), None if reply.classes is None else reply.classes[at]
            apart = 0.0
            if logits is not None and before is not None and logits.shape[1] == len(before):
                bears = max(bears, 1e-3 * float(logits.abs().max()))  # scores may be small differences of large logits
                apart = float((logits[0] - before).abs().max())
            if abs(alone - beside) > bears or apart > bears:
                with self.turn, torch.no_grad():
                    self._steady(question, self.forward(question, question.x[None], [])[0])
                if told := _steady[self.model.module]:
                    raise BadModel("one answer to one image", told, "Switch off what is random, or use Run(chunk=1) for a map of one draw.")
                got = f"{alone:.6g} alone, {beside:.6g} beside others"
                raise BadModel("samples of one batch do not influence each other", got, "Use Run(chunk=1).")

    def _smaller(self, blocks: Sequence[Block], plan: Plan, total: int, error: Exception) -> list[Reply]:
        """After a failure: halve and ask again; what fails for one sample is the caller's to know."""
        short = no_memory(error)
        if total == 1:
            if short and not isinstance(error, OutOfMemory):
                raise OutOfMemory(
                    "one pass must fit into memory", str(error).splitlines()[0], "Crop in prepare= or give windows=."
                ) from error
            raise error
        if not short and plan.checked:  # larger chunks have worked before: it is not the batch
            raise error
        plan.limit = max(1, total // 2) if short else 1
        if not short:
            self.notes.append("the network takes one sample at a time; chunks of one were used")
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        out = []
        for b in blocks:
            pieces = [None] if b.inputs is None else b.inputs.split(plan.limit)
            parts = [self.answer([replace(b, inputs=piece)])[0] for piece in pieces]
            out.append(
                Reply(
                    torch.cat([p.scores for p in parts]),
                    torch.cat([p.gradients for p in parts if p.gradients is not None]) if b.gradient else None,
                    torch.cat([p.classes for p in parts if p.classes is not None]) if parts[0].classes is not None else None,
                    torch.cat([p.inputs for p in parts]),
                )
            )
        return out

    def _pass(self, leaders: list[Block], counts: list[int], unique: list[list[Block]], gradient: bool) -> dict[int, Reply]:
        """One forward pass over all leaders side by side, and one backward pass per target that shares inputs."""
        question = leaders[0].question
        place = question.place
        images = torch.cat([b.fed for b in leaders])
        planted = None if leaders[0].planted is None else torch.cat([b.planted for b in leaders if b.planted is not None])
        if self.model.windows is not None and place is None and gradient:
            return self._tiled_pass(images, counts, unique)
        targets = [b.question.target for same in unique for b in same]
        with torch.enable_grad() if gradient else torch.no_grad():
            if place is None:
                asked = images.detach().clone().requires_grad_(gradient)
                output, sites = self.forward(question, asked, targets)
            else:
                found: list[Tensor] = []
                output, sites = self.forward(question, images, targets, planting(place, planted, found, gradient))
                if not found:
                    raise BadSite(f"{place.text!r} runs for every input", "an input for which it does not", "Choose another site.")
                asked = found[0]
        replies: dict[int, Reply] = {}
        per_target: list[tuple[Tensor, Tensor | None]] = []
        rounds = max(map(len, unique))
        for r in range(rounds):
            with torch.enable_grad() if gradient else torch.no_grad():
                scores = self._scores(unique, counts, output, sites, r)
            per_target.append((scores, _gradient(scores, asked, keep=r + 1 < rounds) if gradient else None))
        starts = [sum(counts[:i]) for i in range(len(counts))]
        classes = self.classes_of(question, output)
        for same, at, n in zip(unique, starts, counts, strict=True):
            cut = slice(at, at + n)
            for r, block in enumerate(same):
                scores, grads = per_target[r]
                if block.inputs is None:
                    self.note_probabilities(block.question, output[cut])
                replies[id(block)] = Reply(
                    scores.detach().double().cpu()[cut],
                    None if grads is None else grads[cut],
                    None if classes is None else classes[cut],
                    asked.detach()[cut],
                )
        return replies

    def _tiled_pass(self, images: Tensor, counts: list[int], unique: list[list[Block]]) -> dict[int, Reply]:
        """Gradients of a sliding-window network: all tiles without gradient, then one product per tile that the target touches."""
        replies: dict[int, Reply] = {}
        at = 0
        for same, n in zip(unique, counts, strict=True):
            for block in same:
                inputs = images[at : at + n]

                def score(out: Tensor, block: Block = block) -> Tensor:
                    if not block.question.settled:
                        self._settle_with(block.question, out.detach(), {})
                    return self.score_from(block.question, out, {})

                scores, grads, output = tiled_gradients(self.model, inputs, score)
                classes = None
                if output.ndim <= 2:
                    classes = self.model.reading.of(output, block.question.grid.ndim).logits(output).double().cpu()
                replies[id(block)] = Reply(scores.double().cpu(), grads, classes, inputs)
            at += n
        return replies

    def _ruled(self, block: Block, rules: Rules) -> Reply:
        """One forward pass under rules (two, if they compare with a reference) and one backward pass, one sample at a time."""
        question = block.question
        try:
            with self.turn:
                score, gradient, output, told = answer_ruled(self, question, rules, block.inputs)
        except Exception as error:
            if no_memory(error) and not isinstance(error, OutOfMemory):
                fix = "Crop in prepare=, or choose a method that asks for scores."
                raise OutOfMemory(f"{rules.name} keeps one pass in memory", str(error).splitlines()[0], fix) from error
            raise
        passes = 2 if rules.paired else 1
        question.tally.forward, question.tally.backward = question.tally.forward + passes, question.tally.backward + 1
        self.meter.tick(forward=passes, backward=1)
        self.note_probabilities(question, output)
        classes = self.classes_of(question, output)
        return Reply(score.double().cpu(), gradient, classes, told.input[None], told)

    # ------------------------------------------------------------------ the network itself
    def forward(
        self,
        question: Question,
        images: Tensor,
        targets: Sequence[Target],
        plant: Callable[[Tensor], Tensor] | None = None,
        normalized: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One pass: the output, and the activations that the targets look at. ``plant`` exchanges the activation at the site."""
        sites: dict[str, Tensor] = {}
        with contextlib.ExitStack() as stack:
            if plant is not None and question.place is not None:
                stack.enter_context(watching(self.model.module, question.place, plant))
            for name in {s for t in targets for s in t.sites}:
                spot, cost = find(self.model, name, question.x)
                self.count_setup(question, cost)
                stack.enter_context(watching(self.model.module, spot, _keep(name, spot, sites)))
            run = self.model.forward if self.model.windows is None else partial(tiled_output, self.model)
            output = run(images, normalized=normalized)
        before = self._shapes.setdefault(tuple(images.shape[1:]), tuple(output.shape[1:]))
        if tuple(output.shape[1:]) != before:
            got = f"(n, *{tuple(output.shape[1:])}) after (n, *{before})"
            raise BadModel("outputs of one shape for inputs of one shape", got, "Take out what changes from call to call.")
        return output, sites

    def _settle_with(self, question: Question, output: Tensor, sites: dict[str, Tensor]) -> None:
        seen = Seen(output[:1], self.model.reading.of(output, question.grid.ndim), {k: v[:1] for k, v in sites.items()})
        question.target = question.target.settle(seen, question.grid)
        question.settled = True

    def score_from(self, question: Question, output: Tensor, sites: dict[str, Tensor]) -> Tensor:
        if not question.settled:
            self._settle_with(question, output.detach(), {k: v.detach() for k, v in sites.items()})
        return question.target.score(Seen(output, self.model.reading.of(output, question.grid.ndim), sites))

    def _scores(self, unique: list[list[Block]], counts: list[int], output: Tensor, sites: dict[str, Tensor], r: int) -> Tensor:
        """Score of every sample by the r-th target among those that share it (zero where there is none)."""
        parts, at = [], 0
        for same, n in zip(unique, counts, strict=True):
            cut = slice(at, at + n)
            if r < len(same):
                parts.append(self.score_from(same[r].question, output[cut], {k: v[cut] for k, v in sites.items()}))
            else:
                parts.append(output.new_zeros(n))
            at += n
        return torch.cat(parts)


def _gradient(scores: Tensor, leaf: Tensor, keep: bool) -> Tensor:
    if not scores.requires_grad:
        raise BadModel(
            "the score depends on the input by differentiable steps", "a score without gradient", "Remove detach(), argmax or rounding."
        )
    (g,) = torch.autograd.grad(scores.sum(), leaf, retain_graph=keep, allow_unused=True)
    if g is None:
        raise BadModel("the score depends on what is explained", "a target that the input or site does not reach", "Choose another site.")
    return g


def _keep(name: str, place: Place, sites: dict[str, Tensor]) -> Callable[[Tensor], None]:
    def use(z: Tensor) -> None:
        sites[name] = place.layout.to_map(z).clone()  # a later in-place operation must not reach it

    return use
