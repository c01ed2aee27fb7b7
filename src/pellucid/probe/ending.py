"""Ending: whether a network gives probabilities of its own, told by the operation that its output comes from."""

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
from pellucid.probe.tiles import tiles

SQUASHES: dict[str, Literal["softmax", "sigmoid"]] = {"softmax": "softmax", "sigmoid": "sigmoid", "special_expit": "sigmoid"}
KEEPS = {  # what probabilities survive: other shapes, means, choices
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "flatten",
    "unflatten",
    "clone",
    "contiguous",
    "to",
    "float",
    "double",
    "__getitem__",
}
LOOKS = {"requires_grad_", "register_hook", "is_complex"}
KEEPS |= {
    "as_subclass",
    "detach",
    "permute",
    "transpose",
    "mean",
    "select",
    "narrow",
    "split",
    "chunk",
    "unbind",
    "interpolate",
    "upsample",
    "cat",
    "stack",
    "dropout",
}

_known: weakref.WeakKeyDictionary[nn.Module, dict[str, str | None]] = weakref.WeakKeyDictionary()


class _Follower(TorchFunctionMode):
    """Remembers which tensors are probabilities, or parts of such."""

    def __init__(self) -> None:
        super().__init__()
        self.squashed = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = spelled(func)[0]
        by = SQUASHES.get(name)
        if by is None and name in KEEPS:
            by = next((self.squashed[t] for t in tensors((args, kwargs or {})) if t in self.squashed), None)
        out = func(*args, **(kwargs or {}))
        for t in tensors(out):
            if by is not None:
                self.squashed[t] = by
            elif t in self.squashed and name not in LOOKS:  # written into
                del self.squashed[t]
        return out


def check_ending(model: Model, structure: str, image: Tensor, output: Tensor) -> int:
    """Refuse a network that ends in softmax or sigmoid and was not said to; how many passes that took (0: known, or out of question).

    ``image`` (c, *space) gave ``output``. Only where all of it lies between 0 and 1 the network is run once more and its operations are
    followed (a network with ``windows`` on one of them).

    Raises:
        BadModel: the output comes from a softmax or sigmoid, and ``ends_in`` is None.
    """
    if model.ends_in is not None or model.output == "regression" or isinstance(model.module, torch.jit.ScriptModule):
        return 0
    if bool(((output < 0) | (output > 1)).any()):
        return 0
    known, passes = _known.setdefault(model.module, {}), 0
    key = f"{structure} {model.select!r}"
    if key not in known:
        follower, passes = _Follower(), 1
        if model.windows is not None:
            image = image[(slice(None), *tiles(tuple(image.shape[1:]), model.windows)[0])]
        with torch.no_grad(), follower:
            seen = model.forward(image[None])
        known[key] = follower.squashed.get(seen)
    if (by := known[key]) is not None:
        fix = f"Say pl.Model(..., ends_in={by!r}) (--ends-in {by}), or output='regression' to take its numbers as they are."
        raise BadModel("an output of scores, before probabilities are made of them", f"a network that ends in a {by} of its own", fix)
    return passes
