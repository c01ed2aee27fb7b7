"""Ending: whether a network gives probabilities of its own, told by its numbers and by the operation that they come from."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import BadModel
from pellucid.model import Model
from pellucid.probe.rules.operation import spelled, tensors
from pellucid.probe.tiles import tiles

By = Literal["softmax", "sigmoid"]
SQUASHES: dict[str, By] = {"softmax": "softmax", "sigmoid": "sigmoid", "special_expit": "sigmoid"}
KEEPS = frozenset(  # what probabilities survive, if all that goes in are such: other shapes, choices, means, sums (until they are divided)
    "view reshape squeeze unsqueeze flatten unflatten clone contiguous to float double __getitem__ as_subclass detach permute transpose mean "
    "select narrow split chunk unbind interpolate upsample cat stack dropout add sum div mul max amax min amin maximum minimum clamp flip roll "
    "index_select rsub avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool2d max_pool3d".split()
)
SUMS = frozenset({"add", "sum"})
SCALES = frozenset({"div", "mul"})
LOOKS = frozenset({"requires_grad_", "register_hook", "is_complex"})
CLOSE = 1e-4  # of the sum of probabilities to one

_plain: weakref.WeakKeyDictionary[nn.Module, set[str]] = weakref.WeakKeyDictionary()  # selections that were found to be no probabilities


class _Follower(TorchFunctionMode):
    """Remembers which tensors are probabilities, or made of such alone."""

    def __init__(self) -> None:
        super().__init__()
        self.squashed, self.sums = WeakIdKeyDictionary(), WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = spelled(func)[0]
        given = [t for t in tensors((args, kwargs or {})) if t.is_floating_point()]
        by = SQUASHES.get(name)
        if by is None and name in KEEPS and given and all(t in self.squashed for t in given):
            scaled = name in SCALES and not all(t in self.sums for t in given)
            shifted = name in SUMS and len(given) == 1 and name == "add"
            by = None if scaled or shifted else self.squashed[given[0]]
        summed = name in SUMS or (name not in SCALES and any(t in self.sums for t in given))
        out = func(*args, **(kwargs or {}))
        for t in tensors(out):
            if by is not None:
                self.squashed[t] = by
                if summed and by not in (SQUASHES.get(name),):
                    self.sums[t] = True
            elif t in self.squashed and name not in LOOKS:  # written into
                del self.squashed[t]
        return out


def check_ending(model: Model, image: Tensor, output: Tensor) -> int:
    """Refuse a network that gives probabilities and was not said to, or the other way about; how many passes that took.

    ``image`` (c, *space) gave ``output``. Numbers from 0 to 1 that sum to 1 over the classes are probabilities; others from 0 to 1 may be: then
    the network is run up to three times more and its operations are followed (one with ``windows`` on one of them), until it is found to give scores.

    Raises:
        BadModel: probabilities without ``ends_in``, or ``ends_in`` without probabilities.
    """
    if model.output == "regression":
        return 0
    low, high = float(output.min()), float(output.max())
    whole = _whole(output)
    if model.ends_in is not None:
        if low < -CLOSE or high > 1 + CLOSE or (model.ends_in == "softmax" and not whole):
            got = f"numbers from {low:.3g} to {high:.3g}" + (", which do not sum to 1" if model.ends_in == "softmax" else "")
            raise BadModel(f"probabilities, as ends_in={model.ends_in!r} says", got, "Leave ends_in= out.")
        return 0
    if low < 0 or high > 1 or repr(model.select) in _plain.get(model.module, ()):
        return 0
    by, passes = _followed(model, image, whole)
    if by is None:
        _plain.setdefault(model.module, set()).add(repr(model.select))
        return passes
    fix = f"Say pl.Model(..., ends_in={by!r}) (--ends-in {by}), or output='regression' to take its numbers as they are."
    raise BadModel("an output of scores, before probabilities are made of them", f"a network that ends in a {by} of its own", fix)


def _whole(output: Tensor) -> bool:
    """Whether numbers of at least 0 sum to 1 over the classes."""
    return output.ndim > 1 and output.shape[1] > 1 and float(output.min()) >= 0 and float((output.sum(1) - 1).abs().max()) < CLOSE


def _followed(model: Model, image: Tensor, whole: bool) -> tuple[By | None, int]:
    """By what the output was squashed, and the passes that it took to see that; scores that sum to 1 by chance do so for one image."""
    if model.windows is not None:
        image = image[(slice(None), *tiles(tuple(image.shape[1:]), model.windows)[0])]
    with torch.no_grad():
        if whole:
            first, other = (model.forward(x[None]).detach() for x in (image, 0.5 * image))
            if _whole(other) and not torch.allclose(first, other, rtol=CLOSE):  # a network that does not look says nothing
                return "softmax", 2
        if isinstance(model.module, torch.jit.ScriptModule):
            with contextlib.suppress(Exception):  # a graph of another kind tells nothing
                graph = model.module.inlined_graph  # held, or its nodes are gone
                (last, *_) = [value.node().kind() for value in graph.outputs()]
                return SQUASHES.get(last.removeprefix("aten::")), 2 * whole
            return None, 2 * whole
        follower = _Follower()
        with follower:
            seen = model.forward(image[None])
    return follower.squashed.get(seen), 1 + 2 * whole
