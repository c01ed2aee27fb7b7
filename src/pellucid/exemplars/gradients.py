"""Gradients of one image's loss with respect to a network's weights, on a copy of it in float64; what has none is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, Unsupported
from pellucid.image import Image
from pellucid.model import Model

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Weighed:
    """A copy of the network in evaluation mode and float64, the parameters that count, and the loss of an output (n, c) and labels (n,), summed."""

    model: Model
    names: tuple[str, ...]
    loss: Loss

    @property
    def parameters(self) -> list[nn.Parameter]:
        held = dict(self.model.module.named_parameters())
        return [held[n] for n in self.names]

    def total(self, x: Tensor, y: Tensor) -> Tensor:
        """The summed loss of a batch."""
        out = self.model.forward(x)
        found = self.loss(out, y)
        if found.numel() != 1:
            raise BadParameter("a loss (output, labels) that is one number, summed over images", f"shape {tuple(found.shape)}", "Sum it.")
        return found.sum()

    def gradient(self, x: Tensor, y: Tensor, *, again: bool = False) -> Tensor:
        """Of the summed loss, all parameters in one vector (p,); ``again``: to be differentiated once more."""
        found = _differentiated(self.total(x, y), self.parameters, self.names, again)
        return torch.cat([g.flatten() for g in found])


def weigh(model: Model, layers: str | Sequence[str] | None, loss: Loss | None) -> Weighed:
    """The network made ready: ``layers`` None all its parameters, ``"last"`` those of its last linear layer, or names that parameters begin with.

    Raises:
        Unsupported: TorchScript, windows, or a network without parameters there.
        BadParameter: no parameter of that name.
    """
    if isinstance(model.module, torch.jit.ScriptModule):
        raise Unsupported(
            "a network whose weights can be copied and differentiated twice", "TorchScript", "Load the factory with its weights."
        )
    if model.windows is not None:
        raise Unsupported("a loss of the whole image", "windows=", "Crop in prepare= and leave windows= out.")
    model.check_weights()
    twin = copy.deepcopy(model.module).double().eval()
    names = [n for n, p in twin.named_parameters() if p.is_floating_point()]
    if layers == "last":
        linear = [n for n, m in twin.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise Unsupported("a network with a linear layer", type(twin).__name__, "Name the layers, or leave layers= out.")
        layers = (f"{linear[-1]}.",)
    if layers is not None:
        wanted = (layers,) if isinstance(layers, str) else tuple(layers)
        lost = [w for w in wanted if not any(n.startswith(w) for n in names)]
        if lost or not wanted:
            raise BadParameter("names that parameters begin with", repr(lost[0] if lost else wanted), f"The last: {names[-1:]}.")
        names = [n for n in names if n.startswith(wanted)]
    if not names:
        raise Unsupported("a network with weights", "none", "Choose another network.")
    for n, p in twin.named_parameters():
        p.requires_grad_(n in names)
    return Weighed(replace(model, module=twin), tuple(names), loss or _cross_entropy)


def batches(weighed: Weighed, scans: Sequence[Scan], labels: Sequence[object], size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared images (n, c, *space) and labels (n,), float64 and long, ``size`` at a time; images of other sizes begin a new batch."""
    held: list[Tensor] = []
    told: list[int] = []
    for scan, label in zip(scans, labels, strict=True):
        x = weighed.model.ready(as_image(scan))[1].double()
        if held and (len(held) >= size or held[0].shape != x.shape):
            yield torch.stack(held), torch.tensor(told)
            held, told = [], []
        held.append(x)
        told.append(class_of(weighed.model, label))
    if held:
        yield torch.stack(held), torch.tensor(told)


def class_of(model: Model, label: object) -> int:
    """The place of a class among the network's outputs, by its name or number."""
    if isinstance(label, str) and label in model.classes:
        return model.classes.index(label)
    try:
        at = int(label)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        at = -1
    if at < 0 or (model.classes and at >= max(2, len(model.classes))):
        known = ", ".join(model.classes) or "0, 1, ..."
        raise BadParameter(f"a label that is a class of the network: {known}", repr(label), "Give its name or number.")
    return at


def paired(model: Model, training: Sequence[Scan], labels: Sequence[object]) -> None:
    """Raise BadParameter unless there is an image, and a label for each."""
    if not len(training) or len(training) != len(labels):
        raise BadParameter("training images with a label each", f"{len(training)} and {len(labels)}", "Give as many.")
    for label in labels:
        class_of(model, label)


def prepared(model: Model, image: Scan) -> tuple[Image, Image]:
    """The scan, and the image that the network is asked about."""
    scan = as_image(image)
    return scan, model.ready(scan)[0]


def _cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """Of logits (n, c), or of one logit (n,) or (n, 1) for class 1."""
    if out.ndim > 2:
        raise BadParameter("one label an image needs one answer an image", f"an output of shape {tuple(out.shape)}", "Give loss=.")
    if out.ndim == 1 or out.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(out.flatten(), y.to(out.dtype), reduction="sum")
    return F.cross_entropy(out, y, reduction="sum")


def _differentiated(total: Tensor, parameters: Sequence[Tensor], names: Sequence[str], again: bool) -> tuple[Tensor, ...]:
    if not total.requires_grad:
        raise Unsupported("a loss that depends on the weights through autograd", "one that does not", "Keep the network differentiable.")
    found: Any = torch.autograd.grad(total, parameters, create_graph=again, allow_unused=True)
    missing = [n for n, g in zip(names, found, strict=True) if g is None]
    if missing:
        raise Unsupported(
            "weights that the loss depends on", f"{missing[0]!r} without a gradient", "Name the layers that count: layers=(...)."
        )
    if any(g.is_sparse for g in found):
        raise Unsupported("dense gradients", "sparse ones", "Set sparse=False in the embedding.")
    return tuple(found)
