"""The zoo: public networks as their authors publish them, with random weights that let no layer sleep; what is asked of them.

Weights are drawn from a seed. Zero weights and scales (a ViT's head, ConvNeXt's 1e-6) are drawn anew, biases are not zero, and BatchNorm
keeps the statistics of a few pictures, so that every rule has something to do and no activation explodes.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pellucid as pl

CLASSES = 5
SHARPER = 6.0  # times the query and key weights of a peaked attention net, as training leaves them


@dataclass(frozen=True)
class Entry:
    """One network: where it comes from, how large its input is in a full and in a reduced run, and what is special about it."""

    name: str
    source: str  # "torchvision.models:alexnet"
    full: int
    reduced: int
    seconds: float  # of one forward pass at the full size, in float64 on one core
    dims: int = 2
    arguments: dict[str, Any] = field(default_factory=dict)
    smaller: dict[str, Any] = field(default_factory=dict)  # arguments of the reduced run, where the published size would take too long
    sized: str | None = None  # the argument that holds the size of the input
    attention: bool = False
    select: Any = None
    dense: bool = False  # gives a map of classes: its target is a region
    peaked: bool = False

    @property
    def channels(self) -> int:
        return 3 if self.dims == 2 else 1

    def side(self, reduced: bool) -> int:
        return self.reduced if reduced else self.full


def _vision(name: str, seconds: float, full: int = 224, reduced: int = 64, **more: Any) -> Entry:
    return Entry(
        name,
        f"torchvision.models:{name}",
        full,
        reduced,
        seconds,
        arguments={"weights": None, "num_classes": CLASSES, **more.pop("arguments", {})},
        **more,
    )


def _monai(name: str, seconds: float, source: str, arguments: dict[str, Any], full: int = 64, reduced: int = 32, **more: Any) -> Entry:
    return Entry(name, f"monai.networks.nets:{source}", full, reduced, seconds, 3, {"spatial_dims": 3, **arguments}, **more)


ENTRIES = (
    _vision("alexnet", 0.12),
    _vision("vgg16", 1.7),
    _vision("resnet50", 0.45),
    _vision("densenet121", 0.45),
    _vision("inception_v3", 0.7, 299, 80, arguments={"init_weights": False}),
    _vision("efficientnet_b0", 0.33),
    _vision("mobilenet_v3_small", 0.09),
    _vision("mobilenet_v3_large", 0.19),
    _vision("convnext_tiny", 1.8),
    _vision("vit_b_16", 1.3, sized="image_size", attention=True),
    _vision("swin_t", 0.5, attention=True),
    _monai("densenet121_3d", 1.5, "DenseNet121", {"in_channels": 1, "out_channels": CLASSES}),
    _monai("resnet18_3d", 0.6, "resnet18", {"n_input_channels": 1, "num_classes": CLASSES, "conv1_t_stride": 2}),
    _monai("seresnet50_3d", 0.75, "SEResNet50", {"in_channels": 1, "num_classes": CLASSES}),
    _monai("efficientnet_b0_3d", 1.3, "EfficientNetBN", {"model_name": "efficientnet-b0", "in_channels": 1, "num_classes": CLASSES, "pretrained": False}),
    _monai(
        "vit_3d",
        3.8,
        "ViT",
        {"in_channels": 1, "patch_size": (8, 8, 8), "classification": True, "num_classes": CLASSES, "post_activation": None},
        smaller={"hidden_size": 192, "mlp_dim": 384, "num_layers": 4, "num_heads": 4},
        sized="img_size",
        attention=True,
        select=0,
    ),
    _monai(
        "unet_3d",
        0.55,
        "UNet",
        {"in_channels": 1, "out_channels": 3, "channels": (16, 32, 64), "strides": (2, 2), "num_res_units": 2},
        smaller={"channels": (8, 16, 32)},
        dense=True,
    ),
)  # fmt: skip
PEAKED = tuple(replace(e, name=f"{e.name}_peaked", peaked=True) for e in ENTRIES if e.attention)
ZOO = {e.name: e for e in (*ENTRIES, *PEAKED)}


def build(entry: Entry, side: int, reduced: bool, seed: int = 0) -> nn.Module:
    """The network in float64 and in eval mode; the global random state stays as it was."""
    module, name = entry.source.split(":")
    make: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    arguments = dict(entry.arguments) | (entry.smaller if reduced else {})
    if entry.sized:
        arguments[entry.sized] = side if entry.dims == 2 else (side,) * entry.dims
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make(**arguments)
        _wake(net)
        _meet_pictures(net, entry, side)
        if entry.peaked:
            _sharpen(net)
    return net.double().eval().requires_grad_(False)


@torch.no_grad()
def _wake(net: nn.Module) -> None:
    """No zero weights, no vanishing scales, no zero biases; norms that shift and scale; without norms weights that keep the variance."""
    if not any("Norm" in type(m).__name__ for m in net.modules()):
        for m in net.modules():
            if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)):
                nn.init.kaiming_normal_(m.weight)
    for name, p in net.named_parameters():
        last = name.split(".")[-1]
        if last == "layer_scale":
            p.uniform_(0.2, 0.8)
        elif p.ndim > 1 and not bool(p.any()):
            p.normal_(0, 0.1)
        elif p.ndim == 1 and last.endswith("bias"):
            p.add_(0.05 * torch.randn_like(p))
        elif p.ndim == 1:
            p.mul_(torch.empty_like(p).uniform_(0.7, 1.3))


@torch.no_grad()
def _meet_pictures(net: nn.Module, entry: Entry, side: int) -> None:
    """BatchNorm keeps the statistics of four pictures, then somewhat others."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    kept = [n.momentum for n in norms]
    for n in norms:
        n.momentum = 1.0
    net.eval()
    for n in norms:
        n.train()
    net(torch.stack([picture(entry, min(side, 96), seed=s).values.float() for s in range(4)]))
    for n, momentum in zip(norms, kept, strict=True):
        n.momentum = momentum
        assert n.running_mean is not None and n.running_var is not None
        n.running_mean.add_(0.2 * n.running_var.sqrt() * torch.randn_like(n.running_mean))
        n.running_var.mul_(torch.empty_like(n.running_var).uniform_(0.6, 1.6)).add_(1e-3)


@torch.no_grad()
def _sharpen(net: nn.Module) -> None:
    """Query and key weights times SHARPER; the first two thirds of a joint projection in all three implementations."""
    found = 0
    for m in net.modules():
        joint = (
            getattr(m, "in_proj_weight", None) if isinstance(m, nn.MultiheadAttention) else getattr(getattr(m, "qkv", None), "weight", None)
        )
        if joint is not None:
            joint[: 2 * len(joint) // 3] *= SHARPER
            found += 1
    assert found, "a peaked net has query and key weights"


def picture(entry: Entry, side: int, seed: int = 7) -> pl.Image:
    """A smooth random picture in [0, 1] with a little grain, float64."""
    g = torch.Generator().manual_seed(seed)
    space = (side,) * entry.dims
    coarse = torch.rand((1, entry.channels, *[5] * entry.dims), generator=g, dtype=torch.float64)
    mode = "bilinear" if entry.dims == 2 else "trilinear"
    smooth = torch.nn.functional.interpolate(coarse, space, mode=mode)[0]
    return pl.Image(0.8 * smooth + 0.2 * torch.rand(smooth.shape, generator=g, dtype=torch.float64))


@lru_cache(maxsize=1)
def model(name: str, reduced: bool, seed: int = 0) -> pl.Model:
    """The network described; the last one stays in memory."""
    entry = ZOO[name]
    return described(build(entry, entry.side(reduced), reduced, seed), entry)


def described(net: nn.Module, entry: Entry) -> pl.Model:
    return pl.Model(net, select=entry.select, output="segmentation" if entry.dense else "logits", name=entry.name)


def targets(entry: Entry, space: tuple[int, ...]) -> list[Any]:
    """Two targets: classes 1 and 3, or two classes over a box in the middle."""
    if not entry.dense:
        return [pl.logit(1), pl.logit(3)]
    box = torch.zeros(space, dtype=torch.bool)
    box[tuple(slice(n // 4, n // 2) for n in space)] = True
    return [pl.region(k, mask=box) for k in (1, 2)]


class Sum(nn.Module):
    """f(x) = g(left half) + h(right half) along the last axis: nothing of the right may appear on the left."""

    def __init__(self, left: nn.Module, right: nn.Module, select: Any = None) -> None:
        super().__init__()
        self.left, self.right, self.select = left, right, select

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        u, v = self.left(a), self.right(b)
        return u + v if self.select is None else u[self.select] + v[self.select]


def twin(name: str, reduced: bool) -> tuple[pl.Model, pl.Model, pl.Image, pl.Image, list[Any]]:
    """The sum of two nets of one architecture, the left one alone, the picture for both, its left half, and the targets.

    The right half is a mirrored, darker picture before the same network, so that weights stand in memory once.
    """
    entry = ZOO[name]
    side = entry.side(reduced)
    alone = model(name, reduced)
    left, right = picture(entry, side, 7).values, picture(entry, side, 8).values.flip(-1) * 0.7
    both = pl.Image(torch.cat([left, right], -1))
    return (
        described(Sum(alone.module, alone.module, entry.select), replace(entry, select=None)),
        alone,
        both,
        pl.Image(left),
        targets(entry, (side,) * entry.dims),
    )


def recipe_hash() -> str:
    """Changes whenever this file does: cells measured on other networks are not these."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
