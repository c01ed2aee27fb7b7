"""Ending: whether a network gives probabilities of its own, told by its numbers and by the operation that they come from."""

from __future__ import annotations

import weakref
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
SQUASHES: dict[str, By] = {"softmax": "softmax", "sigmoid": "sigmoid", "special_expit": "sigmoid"}
KEEPS = frozenset(  # what probabilities survive, if all that goes in are such: other shapes, choices, means, sums (until they are divided)
    "slice view reshape squeeze unsqueeze flatten unflatten clone contiguous to float double __getitem__ as_subclass detach permute transpose mean "
    "select narrow split chunk unbind interpolate upsample cat stack dropout add sum div mul max amax min amin maximum minimum clamp flip roll "
    "index_select rsub avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool2d max_pool3d".split()
)
SUMS = frozenset({"add", "sum"})
SCALES = frozenset({"div", "mul"})
LOOKS = frozenset({"requires_grad_", "register_hook", "is_complex"})
CLOSE = 1e-4  # of the sum of probabilities to one

UNTOLD = (
    "all outputs lie between 0 and 1, and nothing tells whether they are probabilities: say ends_in='sigmoid' or 'softmax' if they are, or "
    "output='regression' to take them as they are"
)

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


def check_ending(model: Model, image: Tensor, output: Tensor) -> tuple[int, str]:
    """Refuse a network that gives probabilities and was not said to, or the other way about; else how many passes that took, and what stays untold.

    ``image`` (c, *space) gave ``output``. Numbers from 0 to 1 that sum to 1 over the classes for several images are probabilities; others from 0
    to 1 may be: then the operations are followed that they come from (with ``windows``, on one of them). A network that was found to give scores is
    not asked again.

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
    if low < 0 or high > 1 or repr(model.select) in _plain.get(model.module, ()):
        return 0, ""
    if model.windows is not None:
        image = image[(slice(None), *tiles(tuple(image.shape[1:]), model.windows)[0])]
    with torch.no_grad():
        by, scores, passes = _summing(model, image) if whole else (None, True, 0)
        by, followed, more = (by, True, 0) if by is not None else _followed(model, image)
    if by is not None:
        fix = f"Say pl.Model(..., ends_in={by!r}) (--ends-in {by}), or output='regression' to take its numbers as they are."
        raise BadModel("an output of scores, before probabilities are made of them", f"a network that ends in a {by} of its own", fix)
    if scores and followed:
        _plain.setdefault(model.module, set()).add(repr(model.select))
        return passes + more, ""
    return passes + more, UNTOLD


def _whole(output: Tensor) -> bool:
    """Whether numbers of at least 0 sum to 1 over the classes."""
    return output.ndim > 1 and output.shape[1] > 1 and float(output.min()) >= 0 and float((output.sum(1) - 1).abs().max()) < CLOSE


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


def _followed(model: Model, image: Tensor) -> tuple[By | None, bool, int]:
    """By what the output was squashed, as the operations say, whether they could be followed, and the passes that it took."""
    if isinstance(model.module, torch.jit.ScriptModule):
        path = () if model.select is None else model.select if isinstance(model.select, tuple) else (model.select,)
        graph, value = part_of_output(model.module, path)  # the graph is held, or its nodes are gone
        by, _, sure = _scripted(value) if value is not None else (None, False, False)
        del graph
        return by, sure, 0
    follower = _Follower()
    with follower:
        seen = model.forward(image[None])
    return follower.squashed.get(seen), True, 1


def _scripted(value: Any) -> tuple[By | None, bool, bool]:
    """By what a value of a graph was squashed, whether it is a sum of such, and whether that is sure: a graph with branches is not followed."""
    name, given = operation(value)
    if name in SQUASHES:
        return SQUASHES[name], False, True
    if name not in KEEPS or not given:
        return None, False, name not in ("If", "Loop", "CallMethod", "CallFunction", "TupleUnpack", "GetAttr", "Param")
    inside = [_scripted(v) for v in given]
    sure = all(i[2] for i in inside)
    if any(i[0] is None for i in inside):
        return None, False, sure
    summed = any(i[1] for i in inside) or name == "sum" or (name == "add" and len(given) > 1)
    if (name in SCALES and not any(i[1] for i in inside)) or (name == "add" and len(given) == 1):
        return None, False, True
    return inside[0][0], summed and name not in SCALES, sure
