"""Architectures of the family of networks: four that share no code with the shipped ones."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES = {"fundus_dme": 64, "chest": 64, "brain_atrophy": 32}
LABEL = {"fundus_dme": "dme", "chest": "effusion", "brain_atrophy": "atrophy"}


class Bare(nn.Module):
    """Convolutions with biases and no norms, maximum pooling, two linear layers."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        widths = (16, 32, 32, 48)
        layers: list[nn.Module] = []
        for before, width in zip((channels, *widths), widths):
            layers += [conv(before, width, 3, 2 if before != 16 else 1, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.hidden, self.head = nn.Linear(widths[-1], 24), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.features(x).flatten(2).amax(2)).relu())


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int, dims: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv1, self.norm1 = conv(before, width, 3, stride, 1, bias=False), norm(width)
        self.conv2, self.norm2 = conv(width, width, 3, 1, 1, bias=False), norm(width)
        self.short = nn.Sequential(conv(before, width, 1, stride, bias=False), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.short(x))


class Residual(nn.Module):
    """Residual blocks with batch norm, mean pooling."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_Block(channels, 16, 2, dims), _Block(16, 24, 2, dims), _Block(24, 32, 2, dims))
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).flatten(2).mean(2))


class Attending(nn.Module):
    """Patches, a class token, two layers of attention, layer norm, GELU; a convolutional stem."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.stem = nn.Sequential(conv(channels, 24, 4, 4), nn.GELU(), conv(24, 48, 2, 2))
        self.token = nn.Parameter(torch.randn(1, 1, 48) * 0.02)
        layer = nn.TransformerEncoderLayer(48, 4, 96, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x).flatten(2).transpose(1, 2)
        z = self.layers(torch.cat([self.token.expand(len(z), -1, -1), z], 1))
        return self.head(self.norm(z[:, 0]))


class Excited(nn.Module):
    """No shortcuts: convolutions, instance norm, SiLU, squeeze-and-excitation after each stage, mean pooling."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
        widths = (channels, 16, 24, 32, 32)
        self.stages, self.gates = nn.ModuleList(), nn.ModuleList()
        for before, width in pairwise(widths):
            self.stages.append(
                nn.Sequential(conv(before, width, 3, 1 if before == channels else 2, 1), norm(width, affine=True), nn.SiLU())
            )
            self.gates.append(nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, width), nn.Sigmoid()))
        self.head = nn.Linear(widths[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        for stage, gate in zip(self.stages, self.gates):
            x = stage(x)
            x = x * gate(x.flatten(2).mean(2)).view(*x.shape[:2], *[1] * (x.ndim - 2))
        return self.head(x.flatten(2).mean(2))


NETS = {"excited": Excited, "bare": Bare, "residual": Residual, "attending": Attending}


def untrained(kind: str, net: str, seed: int) -> nn.Module:
    """A network as its own initialization leaves it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETS[net](1 if kind != "fundus_dme" else 3, 3 if kind == "brain_atrophy" else 2).eval()
