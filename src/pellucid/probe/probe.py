"""Probe: all that a method may ask of a model, about one image, one target, at one site."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from pellucid.baseline import Setting, Starts, samples
from pellucid.errors import BadImage, BadParameter, Unsupported
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.params import Distance
from pellucid.probe.engine import Engine
from pellucid.probe.lockstep import Answering, meet
from pellucid.probe.question import Block, Question, Reply
from pellucid.probe.rules import Rules
from pellucid.run import Pass
from pellucid.target import neuron

Asked = TypeVar("Asked")
MISSED = 0.05  # of the score's change: what is more is told on the map
FAR = 30.0  # standard deviations that no prepared scan reaches; 0..255 where 0..1 was meant reaches hundreds


@dataclass(frozen=True, eq=False)
class Answer:
    """What was asked, with its answer: the target's score, its gradient like the input, and the logits of all classes.

    ``gradient`` is empty where only scores were asked; ``classes`` is empty for dense outputs. ``found`` is what the gradient belongs to:
    the input asked about, or the activation that it caused at the site.
    """

    asked: Any
    score: Tensor
    gradient: Tensor
    classes: Tensor
    found: Tensor


@dataclass(frozen=True, eq=False)
class RuledAnswer:
    """What a backward pass under rules gave: the score, and its rule-made gradient at ``input`` (c, *space).

    ``input`` is ``x``, or its normalized form where the rules ask for that. ``absorbed`` sums by reason the relevance that ended in
    operations (biases, embedded parameters); ``largest`` is the largest multiplier that a rule reported; ``start`` the reference's score.
    """

    score: Tensor
    gradient: Tensor
    input: Tensor
    absorbed: dict[str, float]
    largest: float
    start: float | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a method hands back through ``probe.map``: values on a grid, remarks, and a trace; ``explain`` makes a Map of it."""

    values: Tensor
    grid: Grid
    trace: dict[str, Any]
    score: float | None = None


_NOTHING = torch.zeros(0)
AT_ONCE = 8  # units side by side: they share their forward passes, so more would only hold more memory


@dataclass(eq=False)
class Probe:
    """What a method may ask. It sees one image or activation ``x`` (c, *space); it never sees a batch, a module or a hook.

    ``grid`` is where the samples of ``x`` lie; ``random`` the only source of chance. ``affine`` is False where the place of the samples
    at a hidden site is not an affine matter (global attention): the grid is then stretched over the image.
    """

    engine: Engine
    question: Question
    image: Image
    x: Tensor
    grid: Grid
    random: torch.Generator
    affine: bool = True
    seen: bool = True  # False: x is found when the method begins, so that explanations side by side share the pass
    own: Reply | None = None  # answer for x itself, where the pass that found it gave it
    side_by_side: int = 1  # explanations that share each chunk
    post: Answering | None = None  # where blocks go: the engine, or the meeting point of several explanations
    known: float | None = None  # the target's value for x
    notes: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ asking
    def scores(self, items: Iterable[Asked], of: Callable[[Asked], Tensor] | None = None) -> Iterator[Answer]:
        """Score each item (or ``of(item)``), lazily, chunk by chunk. The iterable may not depend on its own answers."""
        return self._stream(items, of, gradient=False)

    def gradients(self, items: Iterable[Asked], of: Callable[[Asked], Tensor] | None = None) -> Iterator[Answer]:
        """Score and gradient of each item (or ``of(item)``), lazily. The iterable may not depend on its own answers."""
        return self._stream(items, of, gradient=True)

    def inside(self, items: Iterable[Asked], of: Callable[[Asked], Tensor] | None = None) -> Iterator[Answer]:
        """Let images shaped like ``source`` through the network: the activation that each causes at the site, and the gradient there."""
        return self._stream(items, of, gradient=True, through=True)

    def ask(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """For methods with feedback: scores (n,) and gradients (n, c, *space) of a round, at once."""
        answers = list(self.gradients(batch))
        return torch.stack([a.score for a in answers]), torch.stack([a.gradient for a in answers])

    def local(self) -> Answer:
        """Score and gradient at ``x`` itself: one forward and one backward pass, at any site."""
        reply = self.own if self.own is not None and self.own.gradients is not None else self._post(Block(self.question, None, True))
        self.known = float(reply.scores[0])
        assert reply.gradients is not None
        return Answer(self.x, reply.scores[0], reply.gradients[0], _NOTHING if reply.classes is None else reply.classes[0], reply.inputs[0])

    def ruled(self, rules: Rules, reference: Tensor | None = None) -> RuledAnswer:
        """Score and rule-made gradient at ``x``: one forward and one backward pass; one forward more for paired rules.

        Raises:
            NoRule: an operation of the network has no rule.
        """
        reply = self._post(Block(self.question, None if reference is None else reference[None].to(self.x), True, rules))
        self.known = float(reply.scores[0])
        assert reply.gradients is not None
        assert reply.ruled is not None
        told = reply.ruled
        self.notes += [f"{rules.name}: {text}" for text in told.caveats]
        return RuledAnswer(reply.scores[0], reply.gradients[0], told.input, told.absorbed, told.largest, told.start)

    def look(self, rules: Rules, image: Tensor) -> None:
        """Let an image shaped like ``source`` pass under a table that only looks at the operations: one forward pass."""
        self.engine.look(self.question, image, rules)

    def outside(self) -> Probe:
        """The same question about the image itself, for methods that look inside and ask about images."""
        question = replace(self.question, place=None)
        return replace(self, question=question, x=question.x, grid=question.grid, affine=True, seen=True, own=None)

    def at_input(self, method: Any) -> Drawn:
        """Another method's answer about the image itself, also where ``x`` is an activation."""
        chance = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=self.random)))
        return replace(self.outside(), random=chance).answer_by(method, self.post or self.engine.answer)

    def units(self, method: Any, indices: Iterable[tuple[int, ...]]) -> Iterator[Drawn]:
        """A method about the image for each neuron (or channel) of the site in the role of the target; those of a group share passes."""
        assert self.question.place is not None
        site, answer = self.question.place.text, self.post or self.engine.answer
        source = iter(indices)
        while group := list(itertools.islice(source, AT_ONCE)):
            works = []
            for index in group:
                question = replace(self.question, target=neuron(site, index), place=None)
                chance = torch.Generator().manual_seed(self.random.initial_seed())
                one = replace(self.outside(), question=question, random=chance, known=None)
                works.append(partial(one.answer_by, method))
            yield from [works[0](answer)] if len(works) == 1 else meet(answer, works)

    def probabilities(self, classes: Sequence[Tensor]) -> list[list[float]]:
        """Probabilities of all classes at several answers, from their ``classes``; none of a regression or a dense output."""
        return self.engine.probabilities(self.question, torch.stack(list(classes))) if classes else []

    def score(self) -> float:
        """The target's value at ``x``: known from an earlier answer, or one pass."""
        if self.known is None:
            self.known = float(self._post(Block(self.question, None, False)).scores[0])
        return self.known

    def _post(self, block: Block) -> Reply:
        return (self.post or self.engine.answer)([block])[0]

    def _stream(
        self, items: Iterable[Asked], of: Callable[[Asked], Tensor] | None, gradient: bool, through: bool = False
    ) -> Iterator[Answer]:
        kind: Pass = "gradients" if gradient else "scores"
        like = self.source if through else self.x
        source = iter(items)
        while True:
            size = max(1, self.engine.plan(kind, self.question).size // self.side_by_side)
            asked = list(itertools.islice(source, size))
            if not asked:
                return
            inputs = [cast(Tensor, a) if of is None else of(a) for a in asked]
            for one in inputs:
                if one.shape != like.shape:
                    raise BadImage(
                        f"a method asks about inputs of shape {tuple(like.shape)}", f"{tuple(one.shape)}", "Broadcast them first."
                    )
            reply = self._post(Block(self.question, torch.stack(inputs).detach().to(like), gradient, through=through))
            for i, a in enumerate(asked):
                yield Answer(
                    a,
                    reply.scores[i],
                    _NOTHING if reply.gradients is None else reply.gradients[i],
                    _NOTHING if reply.classes is None else reply.classes[i],
                    reply.inputs[i],
                )

    # ------------------------------------------------------------------ what methods need besides
    def setting(self) -> Setting:
        """What baselines and fills may look at here: ``x`` and its range, the grid, chance."""
        low, high = self.range
        return Setting(self.x, self.grid, low, high, self.random)

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of an image by channel, by ``Model.span``; at a hidden site the activation's own, one for all channels."""
        if self.question.place is None:
            return self.engine.model.span(self.x)
        shape = (len(self.x), *[1] * (self.x.ndim - 1))
        low, high = (end.detach().cpu().double().expand(shape) for end in (self.x.min(), self.x.max()))
        return low, high

    def starts(self, baseline: Any) -> list[Tensor]:
        """Where paths start (or what fills holes): the baseline's images; at a hidden site, the activations they cause there."""
        images = self.images(baseline)
        return images if self.question.place is None else [self.engine.activation(self.question, image) for image in images]

    def images(self, baseline: Any) -> list[Tensor]:
        """The baseline's images themselves, shaped like ``source``, also where ``x`` is an activation."""
        assert isinstance(baseline, Starts)
        model = self.engine.model
        found = baseline.starts(Setting(self.source, self.question.grid, *model.span(self.source), self.random))
        if model.normalize is not None:
            whole, far = (max(float(model.normalize(i[None]).abs().max()) for i in images) for images in ([self.source], found))
            if far > max(FAR, whole):
                way_out = "give one in the units of each channel, or the model's range="
                self.notes.append(f"{baseline!r} reaches {far:.0f} standard deviations after normalize=, the image {whole:.1f}: {way_out}")
        return found

    def samples(self, length: Any, *, whole: bool = False) -> tuple[float, ...]:
        """A length parameter in samples along each axis of ``x``; ``whole``: at least one sample, or an error."""
        assert isinstance(length, Distance)
        found = samples(length, self.grid)
        if whole and max(found) < 1:
            raise BadParameter(
                "a length of at least one sample", f"{length!r} on samples of {self.grid.spacing} {self.grid.unit}", "Enlarge it."
            )
        return found

    def spatial(self, method: str) -> None:
        """Refuse by name where ``x`` has no spatial extent."""
        if self.x.ndim < 3 or max(self.x.shape[1:]) < 2:
            raise Unsupported(f"{method} needs a site with spatial extent", f"{tuple(self.x.shape)}", "Choose an earlier site.")

    @property
    def source(self) -> Tensor:
        """The image (c, *space) itself, also where ``x`` is an activation."""
        return self.question.x

    @property
    def comparable(self) -> Tensor:
        """``source`` with all channels in one unit, for what cuts it by its values."""
        return self.engine.model.comparable(self.source)

    def run(self, method: Any, images: Iterable[Tensor]) -> Iterator[Drawn]:
        """Another method about each of ``images`` (shaped like ``source``), in groups that fill a chunk, advancing side by side."""
        kind: Pass = "gradients" if method.gradients else "scores"
        self.engine.measure_single = True
        # an image and its seed are drawn in turns: so the draws do not depend on the chunk
        source = ((image, int(torch.randint(2**62, (1,), generator=self.random))) for image in images)
        answer = self.post or self.engine.answer
        while True:
            size = max(1, self.engine.plan(kind, self.question).size // self.side_by_side)
            group = [self.about(image, seed=seed) for image, seed in itertools.islice(source, size)]
            if not group:
                return
            for one in group:
                one.side_by_side *= len(group)
            works = [partial(one.answer_by, method) for one in group]
            yield from [works[0](answer)] if len(works) == 1 else meet(answer, works)

    def answer_by(self, method: Any, post: Answering) -> Drawn:
        """A bound method's answer, asking through ``post``."""
        self.post = post
        if not self.seen:
            self._look(method.opening)
        drawn: Drawn = method.answer(self, self.x)
        return drawn

    def _look(self, opening: bool | None) -> None:
        """Find the activation at the site: by a pass that scores it too (``opening``: and goes backward), or by a setup pass."""
        if opening is None:
            self.x = self.engine.activation(self.question, self.question.x)
        else:
            self.own = self._post(Block(self.question, None, opening))
            self.x, self.known = self.own.inputs[0], float(self.own.scores[0])
        self.seen = True

    def about(self, image: Tensor, *, seed: int) -> Probe:
        """The same question about another image; at a hidden site the activation that it causes is found when a method begins."""
        question = replace(self.question, x=image.detach().to(self.question.x))
        chance = torch.Generator().manual_seed(seed)
        seen = question.place is None
        return replace(self, question=question, x=question.x, random=chance, seen=seen, own=None, post=None, known=None)

    def over(self, image: Tensor) -> Probe:
        """The same question about the same activation, while another image, shaped like ``source``, goes through the network."""
        return replace(self, question=replace(self.question, x=image.detach().to(self.source)), own=None, known=None)

    def missed(self, gap: float, change: float, way_out: str, bears: float = MISSED) -> None:
        """Tell on the map, with the way out, that its sum misses the score's change by more than ``bears`` times the change."""
        if abs(gap) > bears * abs(change):
            share = abs(gap / change) if change else 0.0
            by = f"{abs(gap):.3g}" if not change else f"{share:.2g} of it" if share < 0.01 else f"{share:.0%} of it"
            self.notes.append(f"the map's sum misses the change of the score by {by}; {way_out}")

    def map(self, values: Tensor, grid: Grid | None = None, **trace: Any) -> Drawn:
        """The method's answer: values (c, *space) on the grid of ``x`` (or another), and what was recorded on the way."""
        values = values.detach().to(self.x.dtype)
        grid = grid or self.grid
        if tuple(values.shape[1:]) != grid.shape and values.ndim > 1:
            raise BadImage(f"a map on a grid of {grid.shape}", f"values of shape {tuple(values.shape)}", "Give (c, *space).")
        if not bool(torch.isfinite(values).all()):
            raise BadImage(
                "a map of finite numbers", "NaN or infinity", "The score is not finite on the way; choose another baseline or target."
            )
        return Drawn(values, grid, trace, self.known)
