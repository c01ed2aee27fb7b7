"""Small trained networks for the phantoms: plain convolutions, shipped weights, and the facts of their training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import BadFile, BadParameter
from pellucid.image import Image

WEIGHTS = Path(__file__).parent / "weights"
CLASSES = {
    "fundus_dme": ("no DME", "DME"),
    "fundus_dr": ("no retinopathy", "mild", "moderate", "severe", "proliferative"),
    "chest": ("effusion", "cardiomegaly", "infiltration"),
    "brain_atrophy": ("no atrophy", "atrophy"),
    "spectrogram": ("music", "violin", "string", "singing bowl", "sine", "silence"),
}
# channels in, widths of the convolutions per stage (each stage but the first ends in halving the map)
PLANS: dict[str, tuple[int, tuple[tuple[int, ...], ...]]] = {
    "fundus": (3, ((16, 16), (32, 32), (48, 48))),
    "chest": (1, ((16, 16), (32, 32), (48, 48))),
    "brain": (1, ((8,), (16, 16, 32, 32))),
    "spectrogram": (1, ((12, 12), (24, 24), (40, 40))),
}


class PlainNet(nn.Module):
    """Convolution, batch norm, ReLU; halving between stages; then the mean and the maximum of each map, and one linear layer.

    The input is the phantom's image as it is, (n, c, *space). The map of the last stage is an eighth (brain: a quarter) of the input's extent.
    """

    def __init__(self, channels: int, stages: tuple[tuple[int, ...], ...], outputs: int, ndim: int) -> None:
        super().__init__()
        conv, norm, pool = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d) if ndim == 2 else (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)
        blocks: list[nn.Module] = []
        before, stride = channels, 2
        for stage, widths in enumerate(stages):
            layers: list[nn.Module] = [pool(2)] if stage else []
            for width in widths:
                kernel = 5 if stride == 2 else 3
                layers += [conv(before, width, kernel, stride, kernel // 2, bias=False), norm(width), nn.ReLU()]
                before, stride = width, 1
            blocks.append(nn.Sequential(*layers))
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(2 * before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, outputs)."""
        z = self.features(x).flatten(2)
        return self.head(torch.cat([z.mean(2), z.amax(2)], 1))


def build(name: str, seed: int = 0) -> nn.Module:
    """An untrained network of that name, its start drawn from the seed; the global random state stays as it was.

    Raises:
        BadParameter: no network of that name.
    """
    if name not in CLASSES:
        raise BadParameter(f"a phantom network is one of {', '.join(CLASSES)}", repr(name), "Choose one of them.")
    channels, stages = PLANS[name.split("_")[0]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PlainNet(channels, stages, len(CLASSES[name]), 3 if name.startswith("brain") else 2).eval()


def load(name: str, *, trained: bool = True, seed: int = 0) -> tuple[nn.Module, tuple[str, ...], dict[str, Any]]:
    """A phantom network in eval mode, its classes, and the facts of its training (held-out AUC per class, seeds, script, code hash).

    ``trained=False`` gives its untrained twin, drawn from ``seed``, with no facts.

    Raises:
        BadParameter: no network of that name.
        BadFile: the weights are missing or do not fit.
    """
    net = build(name, seed)
    if not trained:
        return net, CLASSES[name], {}
    from safetensors.torch import load_file

    try:
        facts = json.loads((WEIGHTS / f"{name}.json").read_text())
        net.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    except (OSError, RuntimeError, ValueError) as error:
        raise BadFile(f"the weights of {name} ship with the package", str(error).splitlines()[0], "Install it again.") from error
    return net.eval(), CLASSES[name], facts


def as_drawn(image: Image) -> Image:
    """A picture of a phantom in the values that it was drawn in: [0, 1], not the levels of its file."""
    high = float(image.values.max())
    if image.quantity != "intensity" or high <= 1:
        return image
    return image.with_values(image.values / (255.0 if high <= 255 else 65535.0), quantity="a.u.")


def code_hash(name: str) -> str:
    """sha256 of the sources that draw this network's phantoms: weights trained on other pictures carry another one."""
    here = Path(__file__).parent
    files = ("drawing.py", f"{name.split('_')[0]}.py", "cohort.py")
    return hashlib.sha256(b"\0".join((here / f).read_text().encode() for f in files)).hexdigest()
