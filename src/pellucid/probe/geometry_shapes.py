"""What operations that only move numbers (reshape, reorder, cut, join) do to the meaning of a tensor's dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pellucid.probe.geometry_tags import CHANNEL, Axis, Meaning, Tag, Tags, Tokens, agree, regroup, rule, same

# -- reshaping and reordering ------------------------------------------------------------------------------------------------


@rule("reshape", "view", "flatten", "unflatten", "ravel", "view_as", "reshape_as", "_unsafe_view", "_reshape_alias")
def _reshape(t: Tags, out: Tensor, input: Tensor, *_a: Any, **_k: Any) -> Meaning:
    return regroup(t.of(input), tuple(out.shape))


@rule("permute")
def _permute(t: Tags, out: Tensor, input: Tensor, *dims: Any, **named: Any) -> Meaning:
    order = named.get("dims", dims[0] if dims and not isinstance(dims[0], int) else dims)
    return tuple(t.of(input).tags[d] for d in order)


@rule("transpose", "swapaxes", "swapdims")
def _transpose(t: Tags, out: Tensor, input: Tensor, dim0: int, dim1: int) -> Meaning:
    tags = list(t.of(input).tags)
    tags[dim0], tags[dim1] = tags[dim1], tags[dim0]
    return tuple(tags)


@rule("mT", "mH", "adjoint", "t")
def _swap_last(t: Tags, out: Tensor, input: Tensor) -> Meaning:
    tags = t.of(input).tags
    return (*tags[:-2], *tags[:-3:-1])


@rule("T", "H")
def _reverse(t: Tags, out: Tensor, input: Tensor) -> Meaning:
    return t.of(input).tags[::-1]


@rule("movedim", "moveaxis")
def _movedim(t: Tags, out: Tensor, input: Tensor, source: Any, destination: Any) -> Meaning:
    tags = t.of(input).tags
    pairs = zip(*([v] if isinstance(v, int) else v for v in (source, destination)), strict=True)
    chosen = {d % len(tags): s % len(tags) for s, d in pairs}
    rest = iter(i for i in range(len(tags)) if i not in chosen.values())
    return tuple(tags[chosen[d]] if d in chosen else tags[next(rest)] for d in range(len(tags)))


@rule("squeeze")
def _squeeze(t: Tags, out: Tensor, input: Tensor, dim: Any = None) -> Meaning:
    tags, shape = t.of(input)
    dims = range(len(shape)) if dim is None else [d % len(shape) for d in ([dim] if isinstance(dim, int) else dim)]
    return tuple(tag for d, tag in enumerate(tags) if d not in dims or shape[d] != 1)


@rule("unsqueeze")
def _unsqueeze(t: Tags, out: Tensor, input: Tensor, dim: int) -> Meaning:
    tags = list(t.of(input).tags)
    tags.insert(dim % (len(tags) + 1), None)
    return tuple(tags)


@rule("repeat", "tile", "repeat_interleave")
def _repeat(t: Tags, out: Tensor, input: Tensor, *_a: Any, **_k: Any) -> Meaning:
    tags, shape = t.of(input)
    lead = out.dim() - len(shape)
    return (*[None] * lead, *(tag if a == b or tag == CHANNEL else None for tag, a, b in zip(tags, shape, out.shape[max(lead, 0) :])))


# -- cutting and joining -----------------------------------------------------------------------------------------------------


def taken(t: Tags, tag: Tag, size: int, kept: range) -> Tag:
    """A dimension after an evenly spaced slice."""
    if isinstance(tag, Axis):
        return tag.moved(kept.step, kept.start)
    if not isinstance(tag, Tokens) or kept == range(size):
        return tag
    if kept.step == 1 and kept.start <= tag.skip and kept.stop >= tag.skip + tag.cells:
        return Tokens(tag.axes, tag.counts, tag.skip - kept.start)
    t.reads.append(any(i >= tag.skip for i in kept))
    return None


@rule("__getitem__")
def _getitem(t: Tags, out: Tensor, input: Tensor, index: Any) -> Meaning | None:
    tags, shape = t.of(input)
    items = list(index) if isinstance(index, tuple) else [index]
    arrays = [i for i in items if i is not None and i is not Ellipsis and (isinstance(i, bool) or not isinstance(i, int | slice))]
    if len(arrays) > 1 or any(isinstance(i, bool) or (isinstance(i, Tensor) and i.dim() != 1) for i in arrays):
        return None
    used = sum(i is not None and i is not Ellipsis for i in items)
    if Ellipsis not in [i for i in items if not isinstance(i, Tensor)]:
        items.append(Ellipsis)
    out_tags: list[Tag] = []
    d = 0
    for item in items:
        if item is None:
            out_tags.append(None)
        elif item is Ellipsis:
            out_tags += tags[d : d + len(shape) - used]
            d += len(shape) - used
        else:
            if isinstance(item, slice):
                out_tags.append(taken(t, tags[d], shape[d], range(*item.indices(shape[d]))))
            elif isinstance(item, int):
                taken(t, tags[d], shape[d], range(item % shape[d], item % shape[d] + 1))
            else:
                out_tags.append(CHANNEL if tags[d] == CHANNEL else None)
            d += 1
    return tuple(out_tags)


def at(tags: Meaning, dim: int, new: Tag) -> Meaning:
    """The tags with one of them exchanged."""
    dim %= len(tags)
    return (*tags[:dim], new, *tags[dim + 1 :])


@rule("select")
def _select(t: Tags, out: Tensor, input: Tensor, dim: int, index: int) -> Meaning:
    tags, shape = t.of(input)
    taken(t, tags[dim], shape[dim], range(int(index) % shape[dim], int(index) % shape[dim] + 1))
    return tuple(tag for d, tag in enumerate(tags) if d != dim % len(tags))


@rule("slice")
def _slice(t: Tags, out: Tensor, input: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Meaning:
    tags, shape = t.of(input)
    return at(tags, dim, taken(t, tags[dim], shape[dim], range(*slice(start, end, step).indices(shape[dim]))))


@rule("narrow")
def _narrow(t: Tags, out: Tensor, input: Tensor, dim: int, start: int, length: int) -> Meaning:
    return _slice(t, out, input, dim, int(start), int(start) % t.of(input).shape[dim] + length)  # type: ignore[no-any-return]


@rule("index_select")
def _index_select(t: Tags, out: Tensor, input: Tensor, dim: int, index: Tensor) -> Meaning:
    tags = t.of(input).tags
    return at(tags, dim, CHANNEL if tags[dim] == CHANNEL else None)


@rule("split", "chunk", "tensor_split", "split_with_sizes")
def _split(t: Tags, out: Sequence[Tensor], input: Tensor, *args: Any, **named: Any) -> list[Meaning]:
    dim = named.get("dim", args[1] if len(args) > 1 else 0)
    tags, shape = t.of(input)
    pieces, start = [], 0
    for piece in out:
        pieces.append(at(tags, dim, taken(t, tags[dim], shape[dim], range(start, start + piece.shape[dim]))))
        start += piece.shape[dim]
    return pieces


@rule("unbind")
def _unbind(t: Tags, out: Sequence[Tensor], input: Tensor, dim: int = 0) -> list[Meaning]:
    tags = t.of(input).tags
    return [tuple(tag for d, tag in enumerate(tags) if d != dim % len(tags))] * len(out)


def _joined(parts: list[tuple[Tag, int]]) -> Tag:
    """The dimension along which tensors are laid end to end."""
    first = next((i for i, (tag, _) in enumerate(parts) if isinstance(tag, Axis | Tokens)), None)
    if first is None:
        return agree(tag for tag, _ in parts)
    tag, before = parts[first][0], sum(n for _, n in parts[:first])
    rest = parts[first + 1 :]
    if isinstance(tag, Tokens):
        return None if any(isinstance(r, Axis | Tokens) for r, _ in rest) else Tokens(tag.axes, tag.counts, tag.skip + before)
    assert isinstance(tag, Axis)
    end = tag.offset + tag.stride * parts[first][1]
    for other, size in rest:
        if isinstance(other, Axis) and not (same(other.stride, tag.stride) and same(other.offset, end)):
            return tag.lost()
        end += tag.stride * size
    return tag.moved(1, -before)


@rule("cat", "concat", "concatenate")
def _cat(t: Tags, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Meaning:
    parts = [s for s in (t.of(x) for x in tensors) if len(s.shape) == out.dim()]
    dim %= out.dim()
    return tuple(
        _joined([(s.tags[d], s.shape[d]) for s in parts]) if d == dim else agree((s.tags[d] for s in parts), comb=True)
        for d in range(out.dim())
    )


@rule("stack")
def _stack(t: Tags, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Meaning:
    tags = [agree(column) for column in zip(*(t.of(x).tags for x in tensors), strict=True)]
    tags.insert(dim % (len(tags) + 1), None)
    return tuple(tags)
