"""Ending: whether a network gives probabilities of its own, told by its numbers and by the operation that they come from."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import BadModel
from pellucid.model import Model
from pellucid.probe.rules.operation import spelled, tensors
from pellucid.probe.scripted import operation, part_of_output
from pellucid.probe.tiles import tiles

By = Literal["softmax", "sigmoid"]
Known = tuple[
    By | None, float
]  # a sum of probabilities by which operation (None: zeros alone), and the sum of its weights: 1 where it is one again
SQUASHES: dict[str, By] = {"softmax": "softmax", "sigmoid": "sigmoid", "special_expit": "sigmoid"}
LOGS: dict[str, By] = {"log_softmax": "softmax", "logsigmoid": "sigmoid", "log_sigmoid": "sigmoid"}
KEEPS = frozenset(  # what probabilities survive: other shapes, choices, means
    "slice view reshape squeeze unsqueeze flatten unflatten clone contiguous to float double __getitem__ as_subclass detach permute transpose mean "
    "select narrow split chunk unbind ListUnpack index interpolate upsample cat stack dropout max amax min amin maximum minimum clamp flip roll "
    "index_select gather sort topk nan_to_num where type_as expand prod avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d max_pool2d max_pool3d".split()
)
ZEROS = frozenset({"zeros", "zeros_like", "new_zeros"})
SCORES = frozenset(  # what makes scores of anything: weights of the network, logarithms
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d _convolution matmul mm bmm addmm baddbmm einsum bilinear batch_norm "
    "layer_norm group_norm instance_norm native_batch_norm native_layer_norm log logit log_softmax logsigmoid log1p cdist embedding "
    "scaled_dot_product_attention multi_head_attention_forward".split()
)
GROUPS = frozenset("linear matmul mm addmm einsum".split())  # which may add up probabilities by a fixed matrix
WRITES = frozenset({"__setitem__", "copy", "index_copy", "index_put", "fill", "masked_fill"})
LOOKS = frozenset({"requires_grad_", "requires_grad", "register_hook", "is_complex"})
CLOSE = 1e-4  # of the sum of probabilities to one
PERCENT, SHOOT = 100.0, 0.2  # probabilities may be given as, and how far smooth resizing throws them below 0

UNTOLD = (
    "all outputs lie between 0 and 1, and nothing tells whether they are probabilities: say ends_in='sigmoid' or 'softmax' if they are, or "
    "output='regression' to take them as they are"
)
SCALED = (
    "the outputs may be probabilities that were scaled, resized or combined; they are taken as scores: say output='regression' to take them as they are, "
    "or give the network without these steps"
)

_plain: weakref.WeakKeyDictionary[nn.Module, set[str]] = weakref.WeakKeyDictionary()  # selections that were found to be no probabilities


class _Follower(TorchFunctionMode):
    """Remembers which tensors are sums of probabilities, which their logarithms, and which were made of them by steps that nobody knows.

    ``hidden`` are those that come from steps out of sight: of a TorchScript part, of ``torch.func.vmap``, of an extension.
    """

    def __init__(self, module: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.seen: Any = WeakIdKeyDictionary()
        own = (v for m in module.modules() for v in vars(m).values())
        for t in (image, *module.parameters(), *module.buffers(), *(v for v in own if isinstance(v, Tensor))):
            self.seen[t] = True
        self.known: Any = WeakIdKeyDictionary()
        self.logs: Any = WeakIdKeyDictionary()
        self.made: Any = WeakIdKeyDictionary()
        self.hidden: Any = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = spelled(func)[0], kwargs or {}
        given = [t for t in tensors((args, kwargs)) if t.is_floating_point()]
        before = [self.known.get(t) for t in given]
        sums = any(k is not None and k[0] is not None for k in before)
        made = sums or any(t in self.made for t in given)
        hidden = any(t in self.hidden or t not in self.seen for t in given)
        log = self.logs.get(given[0]) if given and name == "exp" else None
        size = given[0].numel() if given else 0
        out = func(*args, **kwargs)
        if name in LOOKS:
            return out
        if name in WRITES and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self._write(args[0], args[-1])
            return out
        numbers = [v for v in (*args, *kwargs.values()) if isinstance(v, (int, float)) and not isinstance(v, bool)]
        for t in tensors(out):
            if not t.is_floating_point():
                continue
            self.seen[t] = True
            found = (log, 1.0) if log is not None else combined(name, before, numbers, size / max(1, t.numel()))
            for book, holds in (
                (self.known, found),
                (self.logs, LOGS.get(name)),
                (self.made, found is None and made and (name not in SCORES or (sums and name in GROUPS))),
                (self.hidden, found is None and hidden and name not in SCORES),
            ):
                if holds:
                    book[t] = holds
                elif t in book:  # written into
                    del book[t]
        return out

    def _write(self, into: Tensor, value: Any) -> None:
        """A part of a tensor was written: zeros that get probabilities are such from then on, whatever else stands in the rest."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return
        whole = into if into._base is None else into._base
        own, new = self.known.get(whole), self.known.get(value)
        for t in (into, whole):
            if new is not None and (own is None or own[0] is None or own == new):
                self.known[t] = new
            elif new is not None or own is not None or value in self.made:
                self.known.pop(t, None)
                self.made[t] = True


def combined(name: str, given: Sequence[Known | None], numbers: Sequence[float], times: float) -> Known | None:
    """What an operation makes of sums of probabilities; None where that is no such sum. ``times``: how many values become one."""
    if name in SQUASHES:
        return SQUASHES[name], 1.0
    if name in ZEROS:
        return None, 0.0
    if name == "type_as":
        given = given[:1]
    if not given or any(g is None for g in given):
        return None
    known = [g for g in given if g is not None]
    by = next((b for b, _ in known if b is not None), None)
    weights = [w for _, w in known]
    if name == "add":
        return (by, sum(weights)) if (len(known) > 1 and not numbers) or (len(known) == 1 and numbers == [0]) else None
    if name == "sum":
        return by, weights[0] * times
    if name == "rsub":
        return (by, 1.0) if numbers and numbers[0] == 1 and _one(weights[0]) else None
    if name in ("mul", "div") and len(known) == 1 and len(numbers) == 1 and numbers[0]:
        return by, weights[0] * (numbers[0] if name == "mul" else 1 / numbers[0])
    if name == "mul" and len(known) > 1:
        return (by, 1.0) if all(map(_one, weights)) else None
    kept = {w for b, w in known if b is not None}  # zeros beside probabilities are probabilities too
    return (by, kept.pop() if kept else 0.0) if name in KEEPS and len(kept) <= 1 else None


def _one(weight: float) -> bool:
    return abs(weight - 1) < CLOSE


def check_ending(model: Model, image: Tensor, output: Tensor) -> tuple[int, str]:
    """Refuse a network that gives probabilities and was not said to, or the other way about; else how many passes that took, and what stays untold.

    ``image`` (c, *space) gave ``output``. Numbers from 0 to 1 that sum to 1 over the classes for several images are probabilities; others from 0
    to 1 may be, and up to 100 may have been: then the operations are followed that they come from (with ``windows``, on one of them). A network
    that was found to give scores is not asked again.

    Raises:
        BadModel: probabilities without ``ends_in``, or ``ends_in`` without probabilities.
    """
    if model.output == "regression":
        return 0, ""
    low, high = float(output.min()), float(output.max())
    whole = _whole(output)
    if model.ends_in is not None:
        if low < -CLOSE or high > 1 + CLOSE or (model.ends_in == "softmax" and not whole):
            got = f"numbers from {low:.3g} to {high:.3g}" + (", which do not sum to 1" if model.ends_in == "softmax" else "")
            raise BadModel(f"probabilities, as ends_in={model.ends_in!r} says", got, "Leave ends_in= out.")
        return 0, ""
    within = low >= -CLOSE and high <= 1 + CLOSE
    if low < -max(CLOSE, SHOOT * high) or high > PERCENT * (1 + CLOSE) or repr(model.select) in _plain.get(model.module, ()):
        return 0, ""
    if model.windows is not None:
        image = image[(slice(None), *tiles(tuple(image.shape[1:]), model.windows)[0])]
    with torch.no_grad():
        by, scores, passes = _summing(model, image) if whole else (None, True, 0)
        by, followed, more = (by, True, 0) if by is not None else _followed(model, image, within)
    if by is not None and within:
        said = by if whole else "sigmoid"  # one class of a softmax, alone
        fix = f"Say pl.Model(..., ends_in={said!r}) (--ends-in {said}), or output='regression' to take its numbers as they are."
        raise BadModel("an output of scores, before probabilities are made of them", f"a network that ends in a {by} of its own", fix)
    if by is None and scores and followed:
        _plain.setdefault(model.module, set()).add(repr(model.select))
        return passes + more, ""
    return passes + more, UNTOLD if within else SCALED


def _whole(output: Tensor) -> bool:
    """Whether numbers of at least 0, but for rounding, sum to 1 over the classes."""
    return output.ndim > 1 and output.shape[1] > 1 and float(output.min()) >= -CLOSE and float((output.sum(1) - 1).abs().max()) < CLOSE


def _summing(model: Model, image: Tensor) -> tuple[By | None, bool, int]:
    """Whether outputs that sum to 1 for an image do so for others (then it is a softmax), whether they do not (then it is chance), and the passes.

    The others are the image at half its values and with its samples in disorder: what a network standardizes away in one, it sees in the other.
    """
    order = torch.randperm(image[0].numel(), generator=torch.Generator().manual_seed(0)).to(image.device)
    others = (
        0.5 * image,
        image.flatten(1)[:, order].view_as(image),
        0.3 * image.flatten(1)[:, order].view_as(image) + 0.1 * image.abs().mean(),
    )
    first = model.forward(image[None]).detach()
    answers = [model.forward(x[None]).detach() for x in others]
    if not all(map(_whole, answers)):
        return None, True, 1 + len(others)
    looks = any(float((a - first).abs().max()) > CLOSE**2 for a in answers)
    return ("softmax" if looks else None), False, 1 + len(others)


def _followed(model: Model, image: Tensor, within: bool) -> tuple[By | None, bool, int]:
    """By what the output was squashed, as the operations say; whether they say that it was by nothing; and the passes that it took.

    What comes from steps out of sight may be anything if it lies ``within`` 0 and 1.
    """
    if isinstance(model.module, torch.jit.ScriptModule):
        path = () if model.select is None else model.select if isinstance(model.select, tuple) else (model.select,)
        graph, value = part_of_output(model.module, path)  # the graph is held, or its nodes are gone
        known, plain = _scripted(value) if value is not None else (None, False)
        del graph
        passes = 0
    else:
        follower = _Follower(model.module, image)
        with follower:
            out = model.forward(image[None])
        hidden = out in follower.hidden or out not in follower.seen
        known, plain, passes = follower.known.get(out), out not in follower.made and not (hidden and within), 1
    by = known[0] if known is not None and _one(known[1]) else None
    return by, plain and (known is None or known[0] is None), passes


def _scripted(value: Any, asker: str = "") -> tuple[Known | None, bool]:
    """Which sum of probabilities a value of a graph is, and whether it is surely none. Sums over an axis count as means: what divides them is no number."""
    name, given, numbers = operation(value)
    for use in value.uses():
        written = use.user.kind().rpartition("::")[2]
        into = written.endswith("_") and next(use.user.inputs()).debugName() == value.debugName()
        if into and asker not in [out.debugName() for out in use.user.outputs()]:  # what it was made of is not what it holds at the end
            return ((SQUASHES[written[:-1]], 1.0) if written[:-1] in SQUASHES else None), False
    if name in SQUASHES:
        return (SQUASHES[name], 1.0), False
    if not given and name not in ("Param", "GetAttr", "Constant"):
        return None, False
    if name in SCORES or name == "Constant":
        return None, True
    if name in ("", "If", "Loop", "CallMethod", "CallFunction", "TupleUnpack", "TupleIndex", "Param", "GetAttr"):
        return None, name in ("Param", "GetAttr")
    if name == "exp" and given and (log := LOGS.get(operation(given[0])[0])):
        return (log, 1.0), False
    inside = [_scripted(v, value.debugName()) for v in given]
    plain = all(p for _, p in inside)
    before = [k for k, _ in inside]
    if name == "add" and len(before) > 1:
        numbers = []  # alpha
    if name in KEEPS:
        numbers = []
    if name == "div" and len(before) > 1:  # by a number that was computed
        return None, plain
    return (None if plain else combined(name, before, numbers, 1.0)), plain
