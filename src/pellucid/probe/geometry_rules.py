"""What operations that compute (sample, sum, multiply) do to the meaning of a tensor's dimensions.

A rule is a function of the operation's own arguments; it sees the tags of the operands through ``Tags`` and returns the tags of
the output (a list of them for a list of tensors, None for no meaning). Every spatial rule says one thing: output index o looks at
input index ``scale * o + shift``. An operation without a rule is elementwise (``broadcast``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pellucid.probe.geometry_shapes import at, taken
from pellucid.probe.geometry_tags import BATCH, CHANNEL, Axis, Meaning, Seen, Tag, Tags, Tokens, broadcast, rule
from pellucid.probe.geometry_tags import RULES as RULES


def _nd(*stems: str) -> list[str]:
    return [f"{stem}{d}d" for stem in stems for d in (1, 2, 3)]


# -- sampling ----------------------------------------------------------------------------------------------------------------


def _each(value: Any, d: int) -> list[float]:
    values = [value] if isinstance(value, int | float) else list(value)
    return [float(v) for v in (values * d if len(values) == 1 else values)]


def _spatial(seen: Seen, moves: Sequence[tuple[float, float]], channel: bool = False) -> Meaning:
    """The last dimensions resampled, each by its (scale, shift); the one before them is the channel, if asked."""
    d = len(moves)
    lead = seen.tags[:-d]
    tail: list[Tag] = []
    for tag, (scale, shift) in zip(seen.tags[-d:], moves, strict=True):
        tail.append(tag.moved(scale, shift) if isinstance(tag, Axis) else tag if (scale, shift) == (1, 0) else None)
    return (*(lead[:-1] if channel else lead), *([CHANNEL] if channel else []), *tail)


def _window(kernel: Any, stride: Any, padding: Any, dilation: Any, d: int) -> list[tuple[float, float]]:
    k, s, dil = _each(kernel, d), _each(stride, d), _each(dilation, d)
    if isinstance(padding, str):
        # "same" pads the smaller half in front (torch.nn.functional.conv2d)
        p = [float(b * (a - 1) // 2) if padding == "same" else 0.0 for a, b in zip(k, dil, strict=True)]
    else:
        p = _each(padding, d)
    return [(b, -c + e * (a - 1) / 2) for a, b, c, e in zip(k, s, p, dil, strict=True)]


def _undone(moves: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(1 / scale, -shift / scale) for scale, shift in moves]


@rule(*_nd("conv"))
def _conv(
    t: Tags,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Meaning:
    kernel = weight.shape[2:]
    return _spatial(t.of(input), _window(kernel, stride, padding, dilation, len(kernel)), channel=True)


@rule(*_nd("conv_transpose"))
def _conv_transpose(
    t: Tags, out: Tensor, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Meaning:  # fmt: skip
    kernel = weight.shape[2:]
    return _spatial(t.of(input), _undone(_window(kernel, stride, padding, dilation, len(kernel))), channel=True)


@rule("convolution")
def _convolution(
    t: Tags, out: Tensor, input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool = False, *_a: Any, **_k: Any,
) -> Meaning:  # fmt: skip
    kernel = weight.shape[2:]
    moves = _window(kernel, stride, padding, dilation, len(kernel))
    return _spatial(t.of(input), _undone(moves) if transposed else moves, channel=True)


def _pool_rules(d: int) -> None:
    """Rules that know the number of dimensions by the operation's name alone."""

    @rule(f"max_pool{d}d", f"max_pool{d}d_with_indices")
    def _max_pool(
        t: Tags, out: Any, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_a: Any, **_k: Any
    ) -> Meaning:
        return _spatial(t.of(input), _window(kernel_size, stride or kernel_size, padding, dilation, d))

    @rule(f"avg_pool{d}d")
    def _avg_pool(
        t: Tags, out: Tensor, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_a: Any, **_k: Any
    ) -> Meaning:
        return _spatial(t.of(input), _window(kernel_size, stride or kernel_size, padding, 1, d))

    @rule(f"lp_pool{d}d")
    def _lp_pool(
        t: Tags, out: Tensor, input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Meaning:
        return _spatial(t.of(input), _window(kernel_size, stride or kernel_size, 0, 1, d))

    @rule(f"max_unpool{d}d")
    def _unpool(
        t: Tags, out: Tensor, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_a: Any, **_k: Any
    ) -> Meaning:
        return _spatial(t.of(input), _undone(_window(kernel_size, stride or kernel_size, padding, 1, d)))

    @rule(*(f"{kind}_pool{d}d{end}" for kind in ("adaptive_avg", "adaptive_max", "fractional_max") for end in ("", "_with_indices")))
    def _adaptive(t: Tags, out: Any, input: Tensor, *_a: Any, **_k: Any) -> Meaning:
        pooled = out if isinstance(out, Tensor) else out[0]
        ratios = [a / b for a, b in zip(t.of(input).shape[-d:], pooled.shape[-d:], strict=True)]
        t.framed[pooled] = True
        return _spatial(t.of(input), [(r, (r - 1) / 2) for r in ratios])


for _d in (1, 2, 3):
    _pool_rules(_d)


def _resized(n: int, m: int, factor: float | None, mode: str, corners: bool | None) -> tuple[float, float]:
    """Where m samples look that are interpolated from n (torch.nn.functional.interpolate)."""
    scale = 1 / factor if factor else n / m
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest-exact" else 0.0
        steps = [min(n - 1, math.floor((o + half) * scale + 1e-9)) - o * scale for o in range(m)]
        return scale, sum(steps) / m  # the mean over a period: for doubling -1/4, as the picture's center stays
    if corners and n > 1 and m > 1:
        return (n - 1) / (m - 1), 0.0
    return (n / m if mode == "area" else scale), ((n / m if mode == "area" else scale) - 1) / 2


@rule("interpolate", "upsample")
def _interpolate(
    t: Tags, out: Tensor, input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Meaning:  # fmt: skip
    seen, d = t.of(input), input.dim() - 2
    factors = [None] * d if scale_factor is None or recompute_scale_factor else _each(scale_factor, d)
    sizes = zip(seen.shape[2:], out.shape[2:], factors, strict=True)
    return _spatial(seen, [_resized(n, m, f, mode, align_corners) for n, m, f in sizes])


@rule(*_nd("upsample_nearest"), "upsample_nearest")
def _nearest(t: Tags, out: Tensor, input: Tensor, size: Any = None, *factors: Any, **named: Any) -> Meaning:
    return _interpolate(t, out, input)  # type: ignore[no-any-return]


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d")
def _linear_resize(t: Tags, out: Tensor, input: Tensor, size: Any, align_corners: bool = False, *_a: Any, **_k: Any) -> Meaning:
    return _interpolate(t, out, input, mode="linear", align_corners=align_corners)  # type: ignore[no-any-return]


@rule("upsample_bilinear")
def _bilinear(t: Tags, out: Tensor, input: Tensor, *_a: Any, **_k: Any) -> Meaning:
    return _interpolate(t, out, input, mode="linear", align_corners=True)  # type: ignore[no-any-return]


@rule("pad", "constant_pad_nd", *_nd("reflection_pad", "replication_pad"))
def _pad(t: Tags, out: Tensor, input: Tensor, pad: Sequence[int], *_a: Any, **_k: Any) -> Meaning:
    tags, shape = t.of(input)
    if any(int(n) > 0 for n in pad):
        t.framed[out] = True
    for i in range(len(pad) // 2):
        tag, before, after, n = tags[-1 - i], int(pad[2 * i]), int(pad[2 * i + 1]), shape[-1 - i]
        if isinstance(tag, Tokens) and (before < 0 or after < 0):
            tag = taken(t, tag, n, range(max(0, -before), n + min(0, after)))
        elif isinstance(tag, Tokens):
            tag = Tokens(tag.axes, tag.counts, tag.skip + before)
        tags = at(tags, -1 - i, tag.moved(1, -before) if isinstance(tag, Axis) else tag)
    return tags


@rule("flip", "fliplr", "flipud")
def _flip(t: Tags, out: Tensor, input: Tensor, *dims: Any, **named: Any) -> Meaning:
    tags, shape = t.of(input)
    chosen = named.get("dims", dims[0] if dims and not isinstance(dims[0], int) else dims)
    for d in chosen:
        tag = tags[d]
        tags = at(tags, d, tag.moved(-1, shape[d] - 1) if isinstance(tag, Axis) else None if isinstance(tag, Tokens) else tag)
    return tags


@rule("pixel_shuffle")
def _pixel_shuffle(t: Tags, out: Tensor, input: Tensor, upscale_factor: int) -> Meaning:
    return _spatial(t.of(input), [(1 / upscale_factor, (1 / upscale_factor - 1) / 2)] * 2)


@rule("pixel_unshuffle")
def _pixel_unshuffle(t: Tags, out: Tensor, input: Tensor, downscale_factor: int) -> Meaning:
    return _spatial(t.of(input), [(downscale_factor, (downscale_factor - 1) / 2)] * 2)


@rule("unfold", "im2col")
def _unfold(t: Tags, out: Tensor, input: Tensor, *args: Any, **named: Any) -> Meaning | None:
    """Both of the name: ``Tensor.unfold(dimension, size, step)`` and ``F.unfold(input, kernel_size, dilation, padding, stride)``."""
    seen = t.of(input)
    if out.dim() == len(seen.shape) + 1:
        dim, size, step = (*args, *named.values())[:3]
        tag = seen.tags[dim]
        return (*at(seen.tags, dim, tag.moved(step, (size - 1) / 2) if isinstance(tag, Axis) else None), None)
    options = dict(zip(("kernel_size", "dilation", "padding", "stride"), args, strict=False)) | named
    k, dil, p, s = (
        _each(options.get(key, default), 2) for key, default in (("kernel_size", 1), ("dilation", 1), ("padding", 0), ("stride", 1))
    )
    axes = _spatial(seen, _window(k, s, p, dil, 2))[-2:]
    counts = [int((n + 2 * c - b * (a - 1) - 1) // e + 1) for n, a, b, c, e in zip(seen.shape[-2:], k, dil, p, s, strict=True)]
    cells = Tokens(tuple(a for a in axes if isinstance(a, Axis)), tuple(counts))
    return (*seen.tags[:-3], CHANNEL, cells if len(cells.axes) == 2 else None)


@rule("fold", "col2im")
def _fold(
    t: Tags, out: Tensor, input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Meaning:
    tags = t.of(input).tags
    cells = tags[-1]
    axes = cells.axes if isinstance(cells, Tokens) and len(cells.axes) == 2 else (None, None)
    opened = Seen((*tags[:-1], *axes), tuple(out.shape))
    return _spatial(opened, _undone(_window(kernel_size, stride, padding, dilation, 2)), channel=True)


# -- sums over dimensions ----------------------------------------------------------------------------------------------------

REDUCTIONS = (
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "aminmax",
    "std",
    "var",
    "prod",
    "logsumexp",
    "norm",
    "any",
    "all",
    "median",
    "nanmean",
    "nansum",
    "argmax",
    "argmin",
    "vector_norm",
    "linalg_vector_norm",
    "std_mean",
    "var_mean",
    "count_nonzero",
    "quantile",
    "nanmedian",
    "mode",
)


def _dims(name_takes_order: bool, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    place = 1 if name_takes_order else 0
    return named.get("dim", named.get("axis", args[place] if len(args) > place else None))


def _reduce_rule(name: str) -> None:
    @rule(name)
    def _reduce(t: Tags, out: Any, input: Tensor, *args: Any, **named: Any) -> Meaning | None:
        seen = t.of(input)
        dim = _dims(name in ("norm", "vector_norm", "linalg_vector_norm", "quantile"), args, named)
        result = out if isinstance(out, Tensor) else out[0]
        if isinstance(dim, Tensor) or "other" in named:
            return broadcast(tuple(result.shape), [seen, t.of(dim if isinstance(dim, Tensor) else named["other"])])
        if isinstance(dim, bool) or dim is None or dim == []:
            dim = range(len(seen.shape))
        gone = {d % len(seen.shape) for d in ([dim] if isinstance(dim, int) else dim)}
        kept: list[Tag] = []
        for d, (tag, n) in enumerate(zip(*seen, strict=True)):
            if d not in gone:
                kept.append(tag)
                continue
            if isinstance(tag, Tokens):
                t.reads.append(True)
            if result.dim() == len(seen.shape):
                kept.append(tag.moved(n, (n - 1) / 2) if isinstance(tag, Axis) else tag if isinstance(tag, str) else None)
        return tuple(kept)


for _name in REDUCTIONS:
    _reduce_rule(_name)


# -- products ----------------------------------------------------------------------------------------------------------------


def _mixes(t: Tags, *contracted: Tag) -> None:
    if any(isinstance(tag, Axis | Tokens) for tag in contracted):
        t.mixed()


@rule("linear")
def _linear(t: Tags, out: Tensor, input: Tensor, weight: Tensor, bias: Any = None) -> Meaning:
    tags = t.of(input).tags
    _mixes(t, tags[-1])
    return (*tags[:-1], None if isinstance(tags[-1], Axis | Tokens) else CHANNEL)


@rule("matmul", "bmm", "mm", "__matmul__", "__rmatmul__", "mv")
def _matmul(t: Tags, out: Tensor, input: Tensor, other: Tensor) -> Meaning | None:
    a, b = t.of(input), t.of(other)
    if len(a.shape) < 2 or len(b.shape) < 2:
        _mixes(t, a.tags[-1])
        return a.tags[:-1] if len(b.shape) == 1 else None
    _mixes(t, a.tags[-1], b.tags[-2])
    lead = broadcast(tuple(out.shape[:-2]), [Seen(s.tags[:-2], s.shape[:-2]) for s in (a, b)]) or (None,) * (out.dim() - 2)
    rows = a.tags[-2] if a.tags[-2] is not None or b.tags[-2] != CHANNEL else CHANNEL
    columns = b.tags[-1] if b.tags[-1] is not None or a.tags[-1] != CHANNEL else CHANNEL
    return (*lead, rows, columns)


@rule("addmm", "baddbmm")
def _addmm(t: Tags, out: Tensor, input: Tensor, mat1: Tensor, mat2: Tensor, **_k: Any) -> Meaning | None:
    return _matmul(t, out, mat1, mat2)  # type: ignore[no-any-return]


@rule("einsum")
def _einsum(t: Tags, out: Tensor, equation: Any, *operands: Any) -> Meaning | None:
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return None
    tensors = operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    left, right = equation.replace(" ", "").split("->")
    said: dict[str, Tag] = {}
    for letters, x in zip(left.split(","), tensors, strict=True):
        for letter, tag in zip(letters, t.of(x).tags, strict=True):
            said[letter] = said.get(letter) or tag
    _mixes(t, *(tag for letter, tag in said.items() if letter not in right))
    return tuple(said.get(letter) for letter in right)


@rule("scaled_dot_product_attention")
def _attention(t: Tags, out: Tensor, query: Tensor, key: Tensor, value: Tensor, *_a: Any, **_k: Any) -> Meaning:
    _mixes(t, t.of(key).tags[-2])
    return (*t.of(query).tags[:-1], t.of(value).tags[-1])


@rule("multi_head_attention_forward")
def _heads(
    t: Tags, out: tuple[Tensor, Tensor | None], query: Tensor, key: Tensor, value: Tensor, *_a: Any, **_k: Any
) -> list[Meaning | None]:
    q, k = t.of(query).tags, t.of(key).tags
    _mixes(t, k[0])
    result: list[Meaning | None] = [(*q[:-1], CHANNEL)]
    if out[1] is not None:
        result.append((BATCH, *[None] * (out[1].dim() - 3), q[0], k[0]))
    return result


# -- operations after which places are lost, though the shape may stay -------------------------------------------------------


@rule("copy")
def _copy(t: Tags, out: Tensor, input: Tensor, src: Tensor, *_a: Any, **_k: Any) -> Meaning | None:
    return broadcast(tuple(out.shape), [t.of(src)])


@rule("grid_sample", "grid_sampler", "rot90")
def _warp(t: Tags, out: Tensor, input: Tensor, *_a: Any, **_k: Any) -> Meaning:
    return tuple(tag.lost() if isinstance(tag, Axis) else tag for tag in t.of(input).tags)


@rule("sort", "topk", "gather", "take_along_dim", "scatter", "scatter_add", "cdist",
       *(f"{k}fft{n}" for k in ("", "i", "r", "ir", "h", "ih") for n in ("", "2", "n")),
       *(f"fft_{k}fft{n}" for k in ("", "i", "r", "ir", "h", "ih") for n in ("", "2", "n")))  # fmt: skip
def _lost(t: Tags, out: Any, *_a: Any, **_k: Any) -> None:
    return None
