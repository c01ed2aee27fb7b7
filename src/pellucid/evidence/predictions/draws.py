"""Draws: the same question put to other members of a family: networks with dropout at work, images moved a little, several networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pellucid.baseline import samples
from pellucid.errors import BadParameter, Unsupported
from pellucid.image import Image
from pellucid.model import Model, as_model
from pellucid.params import Distance

F = nn.functional
EACH = (F.dropout, torch.dropout, torch.dropout_)
WHOLE = (F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout, torch.feature_dropout_)  # whole channels
ALPHA = (F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_)
ALPHA_WHOLE = (F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_)
SELU = -1.7580993408473766  # what a SELU gives for minus infinity: -alpha x scale (Klambauer et al. 2017)


@dataclass(frozen=True, eq=False)
class Draw:
    """One member: the network that answers, the image that it answers, and how its maps (c, *space) go back onto the image's samples.

    ``known`` (*space) is False where a moved image shows nothing of the original (None: known everywhere).
    """

    model: Model
    image: Image
    back: Callable[[Tensor], Tensor]
    known: Tensor | None = None
    prefix: str = ""  # what stands before the names of its sites


class _Dropping(TorchFunctionMode):
    """Dropout at work wherever the network calls for it, by a mask of its own for each call, the same for all images of a batch.

    Functions are exchanged, not flags: normalizations stay in evaluation mode and the global random state is never read, so that one draw is
    one network, which answers the same however often and in whatever chunks it is asked.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.calls = seed, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in EACH + WHOLE + ALPHA + ALPHA_WHOLE:
            return func(*args, **kwargs)
        x, p = args[0] if args else kwargs["input"], float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
        if p == 0:
            return x
        self.calls += 1
        chance = torch.Generator().manual_seed(1_000_003 * self.seed + self.calls)
        whole = func in WHOLE + ALPHA_WHOLE
        shape = (1, x.shape[1], *[1] * (x.ndim - 2)) if whole else (1, *x.shape[1:])
        keep = (torch.rand(shape, generator=chance, dtype=torch.float64) >= p).to(
            device=x.device, dtype=x.dtype
        )  # never .to(x): rules would take it for derived from x
        if func in ALPHA + ALPHA_WHOLE:
            a = ((1 - p) * (1 + p * SELU**2)) ** -0.5
            return (x * keep + SELU * (1 - keep)) * a - a * p * SELU
        return x * (keep / (1 - p) if p < 1 else keep)


class Dropped(nn.Module):
    """A network with one draw of its dropout. It holds the network itself, no copy."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seed, self.met = net, 0, 0

    def forward(self, x: Tensor) -> Any:
        with _Dropping(self.seed) as mode:
            out = self.net(x)
        self.met = mode.calls
        return out


def dropout_draws(model: Model, image: Image, draws: int, seed: int) -> Iterator[Draw]:
    """The network with its dropout drawn anew each time (Gal and Ghahramani 2016).

    Raises:
        Unsupported: scripted networks, whose functions cannot be seen.
    """
    if isinstance(model.module, torch.jit.ScriptModule):
        raise Unsupported("dropout can be turned on where functions are seen", "TorchScript", "Use how='tta', or load the factory.")
    module = Dropped(model.module)  # one shell for all draws, so that plans and the geometry of sites are found once
    for i in range(draws):
        module.seed = 7919 * (seed + 1) + i
        yield Draw(replace(model, module=module, name=f"{model.name}, dropout draw {i}"), image, _same, prefix="net.")
        if module.met == 0:
            fix = "Use how='ensemble' or how='tta'."
            raise Unsupported("MC dropout needs a network with dropout", "none at work (or none with p above 0) in one pass", fix)


def moved_draws(
    model: Model, image: Image, draws: int, seed: int, *, noise: float, shift: Distance, flips: Sequence[int]
) -> Iterator[Draw]:
    """The image with noise, moved by whole samples, and mirrored along the axes allowed (Wang et al. 2019).

    Raises:
        BadParameter: nothing to draw, or an axis that the image does not have.
    """
    d = image.grid.ndim
    reach = [round(r) for r in samples(shift, image.grid)] if shift.value > 0 else [0] * d
    reach = [min(r, n // 4) for r, n in zip(reach, image.grid.shape, strict=True)]
    if any(a >= d for a in flips):
        raise BadParameter(f"axes from 0 to {d - 1}", f"flips={tuple(flips)}", "Name the image's own axes.")
    if noise == 0 and not any(reach) and not flips:
        raise BadParameter("noise, shifts of a sample or more, or flips", "none of them", "Give noise=0.02.")
    low, high = model.span(image.values)
    spread = (noise * (high - low)).to(image.values)
    for i in range(draws):
        chance = torch.Generator().manual_seed(7919 * (seed + 1) + i)
        turned = [a for a in flips if int(torch.randint(2, (1,), generator=chance))]
        step = [int(torch.randint(-r, r + 1, (1,), generator=chance)) for r in reach]
        grain = torch.randn(image.values.shape, generator=chance, dtype=torch.float64).to(image.values)
        values = _flipped(_shifted(image.values, step), turned) + spread * grain
        known = _shifted(_shifted(torch.ones(1, *image.grid.shape), step, 0.0), [-s for s in step], 0.0)[0] > 0.5
        yield Draw(model, image.with_values(values), _Back(tuple(step), tuple(turned)), known)


def member_draws(nets: Sequence[Any] | Mapping[str, Any], image: Image) -> Iterator[Draw]:
    """Several networks of one task (Lakshminarayanan et al. 2017); each prepares the image its own way.

    Raises:
        BadParameter: fewer than two.
    """
    members = list(nets.values()) if isinstance(nets, Mapping) else list(nets)
    if len(members) < 2:
        raise BadParameter("an ensemble of two networks or more", f"{len(members)}", "Give a list of Models.")
    for member in members:
        model = as_model(member)
        prepared = model.prepare(image) if model.prepare is not None else image
        yield Draw(replace(model, prepare=None), prepared, _same)


@dataclass(frozen=True)
class _Back:
    """Undo a shift and then a flip."""

    step: tuple[int, ...]
    turned: tuple[int, ...]

    def __call__(self, values: Tensor) -> Tensor:
        return _shifted(_flipped(values, self.turned), [-s for s in self.step])


def _same(values: Tensor) -> Tensor:
    return values


def _flipped(values: Tensor, axes: Sequence[int]) -> Tensor:
    return values.flip([a + 1 for a in axes]) if axes else values


def _shifted(values: Tensor, step: Sequence[int], fill: float | None = None) -> Tensor:
    """Values (c, *space) moved by whole samples; at the edge its own value again, or ``fill``."""
    for a, s in enumerate(step):
        if s:
            n = values.shape[a + 1]
            at = torch.arange(n) - s
            values = values.index_select(a + 1, at.clamp(0, n - 1))
            if fill is not None:
                shape = [-1 if b == a + 1 else 1 for b in range(values.ndim)]
                values = torch.where(((at >= 0) & (at < n)).view(shape), values, torch.as_tensor(fill, dtype=values.dtype))
    return values
