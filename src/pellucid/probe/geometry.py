"""Geometry: which dimensions of every module's output are spatial, and where each cell lies on the input.

The network's own code runs once. A ``TorchFunctionMode`` follows what each *operation* (module or function, in place or not) does to the
meaning of the dimensions, so that strides, kernels, dilations and paddings compose exactly, through skip connections too. Where cells
take turns (transposed convolution, nearest enlargement) the place is the mean over the turns. Attention leaves tokens where they are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import BadSite
from pellucid.probe.geometry_rules import RULES
from pellucid.probe.geometry_tags import BATCH, CHANNEL, Meaning, Tag, Tags, broadcast
from pellucid.probe.geometry_tags import Axis as Axis
from pellucid.probe.geometry_tags import Tokens as Tokens

__all__ = ["Axis", "Call", "Layout", "Tokens", "pick_auto", "trace"]

Kind = Literal["channels_first", "channels_last", "tokens", "vector", "unknown"]
LEADING = 5  # class, distillation and register tokens before the cells, at most, where only the shape tells (DINOv2 has 1 + 4)


@dataclass(frozen=True)
class Layout:
    """How a module's output is laid out: ``tags`` say what each dimension means, ``space`` is its grid in the image's axis order.

    ``channel`` is the dimension of the channels (None where there is none), the batch is dimension 0.
    """

    kind: Kind
    tags: tuple[Tag, ...]
    channel: int | None = None
    space: tuple[int, ...] | None = None

    @property
    def _axes(self) -> list[Axis]:
        return sorted(chain.from_iterable(_axes_in(t) for t in self.tags), key=lambda a: a.axis)

    @property
    def affine(self) -> bool:
        """Whether cells lie at known, evenly spaced places: cell u at input index ``stride * u + offset``."""
        return self.space is not None and all(a.affine for a in self._axes)

    @property
    def stride(self) -> tuple[float, ...] | None:
        """Input samples from cell to cell, per image axis; None if not affine."""
        return tuple(a.stride for a in self._axes) if self.affine else None

    @property
    def offset(self) -> tuple[float, ...] | None:
        """Input index that cell 0 looks at, per image axis; None if not affine."""
        return tuple(a.offset for a in self._axes) if self.affine else None

    @property
    def spread(self) -> tuple[float, ...] | None:
        """Doubt about the offset: half the distance between paths that meet less than a cell apart; None if not affine."""
        return tuple(a.spread for a in self._axes) if self.affine else None

    def to_map(self, z: Tensor) -> Tensor:
        """Activation (n, *dims) as (n, c, *space), a vector as (n, c); class and register tokens are dropped.

        Raises:
            BadSite: neither a vector nor known to have space.
        """
        if self.kind == "vector":
            return z.flatten(1)
        order, opened = self._order()
        if isinstance(token := self._token(), tuple):
            dim, tokens = token
            z = z.narrow(dim, tokens.skip, tokens.cells).unflatten(dim, tokens.counts)
        z = z.permute(order)
        return z if CHANNEL in opened else z.unsqueeze(1)

    def from_map(self, m: Tensor, like: Tensor) -> Tensor:
        """A map (n, c, *space) laid out as the activation ``like``, whose class and register tokens are kept."""
        if self.kind == "vector":
            return m.view_as(like)
        order, opened = self._order()
        m = m if CHANNEL in opened else m.squeeze(1)
        inverse = [order.index(d) for d in range(len(order))]
        z = m.permute(inverse)
        if not isinstance(token := self._token(), tuple):
            return z
        dim, tokens = token
        z = z.flatten(dim, dim + len(tokens.counts) - 1)
        end = tokens.skip + tokens.cells
        return torch.cat([like.narrow(dim, 0, tokens.skip), z, like.narrow(dim, end, like.shape[dim] - end)], dim)

    def _token(self) -> tuple[int, Tokens] | None:
        return next(((d, t) for d, t in enumerate(self.tags) if isinstance(t, Tokens)), None)

    def _order(self) -> tuple[list[int], list[Tag]]:
        """The dimensions, tokens opened, in the order batch, channel, image axes."""
        if self.space is None:
            raise BadSite(
                "a site with spatial extent", f"a layout of kind {self.kind!r}", "Choose a site before the pooling or flattening."
            )
        opened: list[Tag] = []
        for d, tag in enumerate(self.tags):
            opened += tag.axes if isinstance(tag, Tokens) else [BATCH if d == 0 else CHANNEL if d == self.channel else tag]
        place = {d: t.axis for d, t in enumerate(opened) if isinstance(t, Axis)}
        channel = [opened.index(CHANNEL)] if CHANNEL in opened else []
        return [0, *channel, *sorted(place, key=place.__getitem__)], opened


def _axes_in(tag: Tag) -> tuple[Axis, ...]:
    return tag.axes if isinstance(tag, Tokens) else (tag,) if isinstance(tag, Axis) else ()


@dataclass(frozen=True)
class Call:
    """One tensor in the output of one call of a module.

    ``value`` is equal for two calls exactly if they return the very same tensor, unchanged in between. ``head`` marks what ``"auto"``
    must not choose, though it has a grid: outputs of adaptive pools and of paddings and, where the head reads class tokens alone, everything from the
    last mixing of tokens on, because the cells after it are not heard.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    layout: Layout
    path: tuple[Any, ...] = ()
    value: int = -1
    head: bool = False


def layout_of(tags: Meaning, shape: tuple[int, ...], dims: int, grids: list[tuple[int, ...]]) -> Layout:
    """The layout of a tensor with these tags; where tags are lost, by its shape and the grids seen before (newest last)."""
    unknown = Layout("unknown", tags)
    if not shape or shape[0] != 1:
        return unknown
    placed = [t for t in tags if isinstance(t, Axis | Tokens)]
    if len(shape) <= 2 and not placed:
        return Layout("vector", tags, 1 if len(shape) == 2 else None)
    if any(isinstance(t, Tokens) for t in placed):
        return _tokens(tags, dims) or unknown
    if not placed and len(shape) == 3 and (found := _tokens_by_shape(tags, shape, grids, dims)):
        return found
    if len(placed) == dims and len(shape) == dims + 1:
        space = [(t, n) for t, n in zip(tags, shape, strict=True) if isinstance(t, Axis)]
        return _spread_out("channels_first", tags, None, space, dims) or unknown
    if len(shape) != dims + 2 or isinstance(tags[0], Axis):
        return unknown
    first, last = ([c, *rest] for c, rest in ((1, range(2, dims + 2)), (dims + 1, range(1, dims + 1))))
    kinds: list[tuple[Kind, list[int]]] = [("channels_first", first), ("channels_last", last)]
    if not placed and shape[2:] not in grids and shape[1:-1] in grids:
        kinds.reverse()
    for kind, (channel, *spatial) in kinds:
        said = [tags[d] for d in spatial]
        if not isinstance(tags[channel], Axis) and all(t is None or isinstance(t, Axis) for t in said):
            axes = [(t if isinstance(t, Axis) else Axis(i, math.nan, math.nan), shape[d]) for i, (t, d) in enumerate(zip(said, spatial))]
            full = list(tags)
            for d, (axis, _) in zip(spatial, axes, strict=True):
                full[d] = axis
            if found := _spread_out(kind, tuple(full), channel, axes, dims):
                return found
    return unknown


def _spread_out(kind: Kind, tags: Meaning, channel: int | None, space: list[tuple[Axis, int]], dims: int) -> Layout | None:
    grid = {axis.axis: n for axis, n in space}
    return Layout(kind, tags, channel, tuple(grid[i] for i in range(dims))) if set(grid) == set(range(dims)) else None


def _tokens(tags: Meaning, dims: int) -> Layout | None:
    """(n, N, c) or (n, c, N), N all image axes flattened."""
    rest = [d for d, t in enumerate(tags) if d and not isinstance(t, Tokens)]
    token = next(t for t in tags if isinstance(t, Tokens))
    if len(tags) != 3 or len(rest) != 1 or isinstance(tags[0], Axis | Tokens) or isinstance(tags[rest[0]], Axis):
        return None
    return _spread_out("tokens", tags, rest[0], list(zip(token.axes, token.counts, strict=True)), dims)


def _tokens_by_shape(tags: Meaning, shape: tuple[int, ...], grids: list[tuple[int, ...]], dims: int) -> Layout | None:
    """(n, N, c) with as many tokens as a grid seen before has cells, and at most ``LEADING`` more."""
    near = [g for g in grids[::-1] if math.prod(g) > 1 and 0 <= shape[1] - math.prod(g) <= LEADING]
    if not near:
        return None
    grid = min(near, key=lambda g: shape[1] - math.prod(g))
    token = Tokens(tuple(Axis(i, math.nan, math.nan) for i in range(dims)), grid, shape[1] - math.prod(grid))
    return Layout("tokens", (tags[0], token, tags[2]), 2, grid)


def _tensors(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Every tensor inside lists, tuples and dicts, with its path."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, list | tuple | dict):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(part, (*path, key))


def _operation(func: Any) -> str:
    """One name for function, method, in-place variant, property and aten operation."""
    func = getattr(func, "overloadpacket", func)
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        name = str(getattr(func.__self__, "__name__", name))
    return name if name.startswith("__") else name.rstrip("_")


class _Tracer(TorchFunctionMode):
    """Follows the tags through every operation."""

    def __init__(self, tags: Tags) -> None:
        super().__init__()
        self.tags = tags

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [t for _, t in _tensors((args, kwargs)) if t in self.tags]
        self.tags.before = {id(t): self.tags.of(t) for t in known}
        before = list(self.tags.before.values())
        out = func(*args, **kwargs)
        results = [t for _, t in _tensors(out)] if known else []
        if results:
            said = self._rule(func, out, args, kwargs)
            for i, result in enumerate(results):
                tags = said[i] if isinstance(said, list) and i < len(said) else said
                if said is NotImplemented:
                    tags = broadcast(tuple(result.shape), before)
                fits = isinstance(tags, tuple) and len(tags) == result.dim()
                self.tags.set(result, tags if fits else (None,) * result.dim())
        self.tags.before = {}
        return out

    def _rule(self, func: Any, out: Any, args: Any, kwargs: Any) -> Any:
        """What the operation's rule says: tags, a list of them, None (lost), or NotImplemented (no rule for such arguments)."""
        rule, signature = RULES.get(_operation(func), (None, None))
        if rule is None or signature is None:
            return NotImplemented
        try:
            bound = signature.bind(self.tags, out, *args, **kwargs)
        except TypeError:
            return NotImplemented
        return rule(*bound.args, **bound.kwargs)


class _Recorder:
    """Turns finished module calls into ``Call`` records."""

    def __init__(self, tags: Tags, dims: int) -> None:
        self.tags, self.dims = tags, dims
        self.calls: list[Call] = []
        self._starts: list[int] = []
        self._runs: dict[str, int] = {}
        self._grids: list[tuple[int, ...]] = []
        self._values = WeakIdKeyDictionary()
        self._fresh = 0

    def begin(self, _name: str) -> None:
        self._starts.append(len(self.calls))
        self.tags.started = self._starts[-1]

    def end(self, module: nn.Module, name: str, args: Any, output: Any) -> None:
        self._starts.pop()
        self.tags.started = self._starts[-1] if self._starts else 0
        index = self._runs[name] = self._runs.get(name, -1) + 1
        for path, z in _tensors(output):
            given = [self.tags.of(a) for _, a in _tensors(args) if a in self.tags] if z not in self.tags else []
            if given:  # made by what no mode sees (custom autograd function, native kernel): a leaf that keeps the shape keeps the places
                alike = [g for g in given if g.shape == z.shape and not any(True for _ in module.children())]
                self.tags.set(z, broadcast(tuple(z.shape), alike) or (None,) * z.dim())
            shape = tuple(z.shape)
            tags = self.tags.of(z).tags
            # a tensor that does not come from the image (a table of positions) has no place on it, whatever its shape
            layout = layout_of(tags, shape, self.dims, self._grids) if z in self.tags else Layout("unknown", tags)
            if layout.affine and layout.space is not None and math.prod(layout.space) > 1:
                self._grids = [g for g in self._grids if g != layout.space] + [layout.space]
            self.calls.append(Call(name, index, shape, layout, path, self._value(z), z in self.tags.framed))

    def _value(self, z: Tensor) -> int:
        version = 0 if z.is_inference() else z._version
        if self._values.get(z, (None, 0))[0] != version:
            self._values[z] = (version, self._fresh)
            self._fresh += 1
        return int(self._values[z][1])

    def marked(self) -> list[Call]:
        """The calls, with those marked as head whose cells a head that reads class tokens alone cannot hear."""
        tags, output = self.tags, _output(self.calls)
        if tags.mix is None or not tags.reads or any(tags.reads) or output is None or _extended(output, (2,) * self.dims):
            return self.calls
        return [c if i < tags.mix else replace(c, head=True) for i, c in enumerate(self.calls)]


@contextlib.contextmanager
def _hooked(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    handles: list[RemovableHandle] = []

    def watch(name: str, part: nn.Module) -> None:
        def end(m: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            recorder.end(m, name, (args, kwargs), output)

        handles.append(part.register_forward_pre_hook(lambda _m, _a: recorder.begin(name)))
        handles.append(part.register_forward_hook(end, with_kwargs=True))

    try:
        for name, part in module.named_modules():
            watch(name, part)
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace(module: nn.Module, x: Tensor) -> list[Call]:
    """Every call of every submodule for ``x`` (1, c, *space), in the order in which they end: one forward pass without gradient.

    The network must be in eval mode and held by the caller; it is left as it was, after a crash too.
    """
    tags = Tags()
    recorder = _Recorder(tags, x.dim() - 2)
    with torch.inference_mode(False), torch.no_grad(), _hooked(module, recorder):
        x = x.detach().clone()  # the network may write into it
        tags.set(x, (BATCH, CHANNEL, *(Axis(i, 1.0, 0.0) for i in range(x.dim() - 2))))
        with _Tracer(tags):
            module(x)
    return recorder.marked()


def _extended(call: Call, x_space: tuple[int, ...]) -> bool:
    """More than one cell along every axis along which the image has more than one sample."""
    space = call.layout.space
    return space is not None and len(space) == len(x_space) and all(n > 1 for n, m in zip(space, x_space, strict=True) if m > 1)


def pick_auto(calls: list[Call], x_space: tuple[int, ...]) -> Call:
    """The site that ``"auto"`` means for class activation maps.

    Candidates are the calls of submodules with a known layout, more than one channel, and more than one cell along every axis (of more
    than one sample), without those marked ``head``. If the network's first output has no such extent (classification, regression), the
    last candidate is taken: whatever follows is the head, and a gate without extent inside the trunk does not end it. If it has
    (segmentation, reconstruction), the last candidate on the coarsest grid (fewest cells) is taken: the bottleneck; one with as many
    channels as the output (class scores before they are enlarged) only if there is no other. Of calls that return the very same
    tensor the outermost is named ("layer4", not "layer4.2.relu"), at equal depth the first. Raises BadSite if there is none.
    """
    able = [c for c in calls if c.name and not c.head and c.layout.channel is not None and _extended(c, x_space) and _width(c) > 1]
    if not able:
        seen = max((c.shape for c in calls), key=len, default=())
        raise BadSite("a site with channels and spatial extent", f"none in {len(calls)} calls, the largest shape {seen}", "Name a site.")
    output = _output(calls)
    if output is not None and _extended(output, x_space):
        coarsest = min(math.prod(c.layout.space or ()) for c in able)
        able = [c for c in able if math.prod(c.layout.space or ()) == coarsest]
        if math.prod(output.layout.space or ()) > coarsest:
            able = [c for c in able if _width(c) != _width(output)] or able
    chosen = able[-1]
    twins = [c for c in able if c.value == chosen.value and c.layout == chosen.layout]
    return min(twins, key=lambda c: c.name.count("."))


def spatial(calls: list[Call], x_space: tuple[int, ...]) -> list[Call]:
    """The calls of submodules with channels and extent (see ``pick_auto``) that are not head, the outermost of each tensor, in order."""
    found: dict[int, Call] = {}
    for call in calls:
        if call.name and not call.head and call.layout.channel is not None and _extended(call, x_space):
            known = found.get(call.value)
            if known is None or (known.layout == call.layout and call.name.count(".") < known.name.count(".")):
                found[call.value] = call
    return list(found.values())


def _output(calls: list[Call]) -> Call | None:
    """The first tensor that the network itself returns."""
    return next((c for c in calls if not c.name), None)


def _width(call: Call) -> int:
    return 1 if call.layout.channel is None else call.shape[call.layout.channel]
