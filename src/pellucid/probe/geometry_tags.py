"""Tags: what a tensor's dimensions mean, where along the image their indices lie, and how meanings meet and regroup."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

BATCH, CHANNEL, PART, INNER = "batch", "channel", "part of the channels", "inside a window"


@dataclass(frozen=True)
class Axis:
    """A dimension along image axis ``axis``: cell u lies at input index ``stride * u + offset``, known to within ``spread``.

    NaN stands for a place that is not affine. ``spread`` is not 0 only where paths of one stride meet less than a cell apart.
    """

    axis: int
    stride: float
    offset: float
    spread: float = 0.0

    def moved(self, scale: float, shift: float) -> Axis:
        """The axis whose index o is this one's index ``scale * o + shift``."""
        return Axis(self.axis, self.stride * scale, self.offset + self.stride * shift, self.spread)

    def lost(self) -> Axis:
        """The same axis, of which only the order of the cells is known."""
        return Axis(self.axis, math.nan, math.nan)

    @property
    def affine(self) -> bool:
        """Whether the cells lie at known, evenly spaced places."""
        return math.isfinite(self.stride) and math.isfinite(self.offset)


@dataclass(frozen=True)
class Tokens:
    """Several axes flattened into one dimension of ``skip`` leading tokens without a place, then ``counts`` cells in row-major order."""

    axes: tuple[Axis, ...]
    counts: tuple[int, ...]
    skip: int = 0

    @property
    def cells(self) -> int:
        return math.prod(self.counts)


Tag: TypeAlias = Axis | Tokens | str | None
Meaning: TypeAlias = tuple[Tag, ...]


class Seen(NamedTuple):
    """An operand as it was before the operation: tags and sizes of its dimensions."""

    tags: Meaning
    shape: tuple[int, ...]

    @property
    def tagged(self) -> bool:
        return any(t is not None for t in self.tags)


class Tags:
    """Meanings of the tensors of one forward pass; forgets a tensor when it dies and leaves nothing on it.

    It also keeps what tells the head from the trunk: ``started`` (calls that had ended when the running module began), ``mix`` (its
    value when cells were last mixed over the whole image, as attention does), ``reads`` (for every later removal of the token
    dimension: whether cells were among the tokens read) and ``framed`` (outputs of adaptive pools and of
    paddings: a grid, but no features of its own).
    """

    def __init__(self) -> None:
        self._known = WeakIdKeyDictionary()
        self.before: dict[int, Seen] = {}
        self.started = 0
        self.mix: int | None = None
        self.reads: list[bool] = []
        self.framed = WeakIdKeyDictionary()

    def of(self, x: Any) -> Seen:
        """Tags and sizes of an operand, as they were before the operation now running."""
        if id(x) in self.before:
            return self.before[id(x)]
        shape = tuple(x.shape)
        seen: Seen | None = self._known.get(x)
        return seen if seen is not None and seen.shape == shape else Seen((None,) * len(shape), shape)

    def set(self, x: Tensor, tags: Meaning) -> None:
        """Keep what an output means."""
        self._known[x] = Seen(tags, tuple(x.shape))

    def __contains__(self, x: Any) -> bool:
        return x in self._known

    def mixed(self) -> None:
        """The operation now running mixes all cells."""
        self.mix = self.started
        self.reads.clear()


Rule = Callable[..., Any]
RULES: dict[str, tuple[Rule, inspect.Signature]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register what the operations of these names do to tags."""

    def keep(f: Rule) -> Rule:
        RULES.update({name: (f, inspect.signature(f)) for name in names})
        return f

    return keep


def same(a: float, b: float) -> bool:
    """Equal to within 1e-6, absolute below 1 and relative above."""
    return abs(a - b) <= 1e-6 * max(1.0, abs(a))


def _agree_axes(axes: Sequence[Axis], comb: bool) -> Axis:
    """Paths that meet: equal ones stay; one stride and less than a cell apart meet in the middle; others are not affine."""
    first = axes[0]
    if any(not a.affine or not same(first.stride, a.stride) for a in axes):
        return first.lost()
    offsets = sorted(a.offset for a in axes)
    apart = offsets[-1] - offsets[0]
    spread = max(a.spread for a in axes)
    if same(apart, 0.0):
        return Axis(first.axis, first.stride, first.offset, spread)
    if apart >= abs(first.stride) * (1 - 1e-6):
        return first.lost()
    steps = [b - a for a, b in itertools.pairwise(offsets) if not same(b, a)]
    # slices x[0::m], ..., x[m-1::m] laid side by side as channels are one cell of m samples (space to depth): no doubt remains
    regular = comb and all(same(s, abs(first.stride) / (len(steps) + 1)) for s in steps)
    return Axis(first.axis, first.stride, offsets[0] + apart / 2, spread + (0.0 if regular else apart / 2))


def agree(tags: Iterable[Tag], comb: bool = False) -> Tag:
    """What several operands say of one dimension, together."""
    said = [t for t in tags if t is not None]
    axes = [t for t in said if isinstance(t, Axis)]
    tokens = [t for t in said if isinstance(t, Tokens)]
    if axes and tokens:
        return None
    if axes:
        return _agree_axes(axes, comb) if len({a.axis for a in axes}) == 1 else None
    if tokens:
        if len({(t.counts, t.skip, tuple(a.axis for a in t.axes)) for t in tokens}) > 1:
            return None
        merged = tuple(_agree_axes(column, comb) for column in zip(*(t.axes for t in tokens), strict=True))
        return Tokens(merged, tokens[0].counts, tokens[0].skip)
    return (said[0] if len(set(said)) == 1 else CHANNEL if CHANNEL in said else None) if said else None


def broadcast(shape: tuple[int, ...], operands: Iterable[Seen]) -> Meaning | None:
    """Elementwise: operands aligned at the last dimension; one that is 1 long where the output is not (a gate) has no say."""
    fits = [s for s in operands if len(s.shape) <= len(shape) and all(a in (1, b) for a, b in zip(s.shape[::-1], shape[::-1]))]
    if not fits:
        return None
    out: list[Tag] = []
    for back in range(1, len(shape) + 1):
        out.append(agree(s.tags[-back] for s in fits if len(s.shape) >= back and s.shape[-back] == shape[-back]))
    return tuple(out[::-1])


def _merged(dims: list[tuple[Tag, int]]) -> Tag:
    """One dimension out of several: axes side by side are tokens, an axis followed by what lies inside its cells is a finer axis."""
    tags = [t for t, _ in dims]
    if not tags or any(isinstance(t, Tokens) for t in tags):
        return None
    if not any(isinstance(t, Axis) for t in tags):
        return CHANNEL if CHANNEL in tags or PART in tags else INNER if tags and set(tags) == {INNER} else None
    if CHANNEL in tags:
        return CHANNEL
    runs: list[tuple[Axis, int]] = []
    for tag, size in dims:
        if isinstance(tag, Axis):
            runs.append((tag, size))
        elif runs and tag in (PART, INNER):
            axis, count = runs[-1]
            runs[-1] = (axis.moved(1 / size, (1 / size - 1) / 2), count * size)
        else:
            return None
    return runs[0][0] if len(runs) == 1 else Tokens(tuple(a for a, _ in runs), tuple(n for _, n in runs))


def _divided(tag: Tag, sizes: list[int]) -> list[Tag]:
    if isinstance(tag, Axis):
        inside = math.prod(sizes[1:])
        return [tag.moved(inside, (inside - 1) / 2), *[INNER] * (len(sizes) - 1)]
    return [PART if tag in (CHANNEL, PART) else INNER if tag == INNER else None] * len(sizes)


def _group(dims: list[tuple[Tag, int]], sizes: list[int]) -> list[Tag]:
    if len(dims) == len(sizes) == 1:
        return [dims[0][0]]
    real = [(t, n) for t, n in dims if n > 1 or isinstance(t, Axis)]
    wide = [i for i, n in enumerate(sizes) if n > 1]
    out: list[Tag] = [None] * len(sizes)
    if not wide and sizes and dims:
        out[0] = dims[0][0]
    elif len(wide) == 1:
        out[wide[0]] = _merged(real)
    elif len(real) == 1 and wide:
        for i, tag in zip(wide, _divided(real[0][0], [sizes[i] for i in wide]), strict=True):
            out[i] = tag
    return out


def regroup(seen: Seen, shape: tuple[int, ...]) -> Meaning:
    """Row-major reshape: the smallest groups of dimensions with equal products are matched, token dimensions opened first."""
    old: list[tuple[Tag, int]] = []
    for tag, size in zip(*seen, strict=True):
        if isinstance(tag, Tokens) and tag.skip == 0 and tag.cells == size:
            old += list(zip(tag.axes, tag.counts, strict=True))
        else:
            old.append((tag, size))
    if math.prod(shape) == 0:
        return (None,) * len(shape)
    out: list[Tag] = []
    i = j = 0
    while i < len(old) or j < len(shape):
        a, b = min(i + 1, len(old)), min(j + 1, len(shape))
        while (left := math.prod(n for _, n in old[i:a])) != (right := math.prod(shape[j:b])):
            a, b = (a + 1, b) if left < right else (a, b + 1)
        out += _group(old[i:a], list(shape[j:b]))
        i, j = a, b
    return tuple(out)
