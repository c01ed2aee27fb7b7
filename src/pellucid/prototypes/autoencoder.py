"""A small autoencoder that was trained on phantoms: what it can draw looks like one, which makes it a prior for pictures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.errors import BadFile, BadParameter

WEIGHTS = Path(__file__).parent / "weights"
PLANS = {"chest": (1, 128, 30)}  # channels, samples along an edge, numbers of a code
WIDE = 12  # channels of the convolutions that mend what the code's numbers add up to


class Autoencoder(nn.Module):
    """Images (n, c, size, size) to codes (n, k) and back: what most tells the images apart, by principal components, mended by three convolutions.

    It draws at half the resolution, enlarged: large shapes, no fine texture. A number of a code is 1 where an image lies a standard deviation off.
    """

    mean: Tensor
    shapes: Tensor
    spread: Tensor

    def __init__(self, channels: int, size: int, numbers: int) -> None:
        super().__init__()
        self.size, self.numbers, self.small = size, numbers, (channels, size // 2, size // 2)
        self.register_buffer("mean", torch.zeros(self.small))
        self.register_buffer("shapes", torch.zeros(numbers, *self.small))  # of length 1, at right angles
        self.register_buffer("spread", torch.ones(numbers))
        widths = (channels, WIDE, WIDE, channels)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 5, padding=2), nn.LeakyReLU(0.1)]
        self.mend = nn.Sequential(*layers[:-1])

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, k) of images (n, c, size, size)."""
        return (F.avg_pool2d(x, 2) - self.mean).flatten(1) @ self.shapes.flatten(1).T / self.spread

    def decode(self, code: Tensor) -> Tensor:
        """Images (n, c, size, size), from 0 to 1, of codes (n, k)."""
        return F.interpolate(self.drawn(code), (self.size, self.size), mode="bilinear", align_corners=False).clamp(0, 1)

    def drawn(self, code: Tensor) -> Tensor:
        """Images at half the resolution, as they are drawn before they are enlarged."""
        added = self.mean + ((code * self.spread) @ self.shapes.flatten(1)).unflatten(1, self.small)
        return added + self.mend(added)

    def forward(self, x: Tensor) -> Tensor:
        """Images as the code keeps them."""
        return self.decode(self.encode(x))


def build(name: str, seed: int = 0) -> Autoencoder:
    """An untrained autoencoder, its start drawn from the seed; the global random state stays as it was.

    Raises:
        BadParameter: none of that name.
    """
    if name not in PLANS:
        raise BadParameter(f"an autoencoder is one of {', '.join(PLANS)}", repr(name), "Choose one, or give your own decoder.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(*PLANS[name]).eval()


def autoencoder(name: str = "chest") -> tuple[Autoencoder, dict[str, Any]]:
    """The autoencoder that ships, in eval mode, and the facts of its training: held-out error, cases, seed, script, hash of the drawing code.

    Raises:
        BadParameter: none of that name.
        BadFile: the weights are missing or do not fit.

    >>> net, facts = autoencoder("chest")
    >>> net.decode(torch.zeros(1, net.numbers)).shape, facts["cases"]["train_seed"]
    (torch.Size([1, 1, 128, 128]), 1)
    """
    net = build(name)
    from safetensors.torch import load_file

    try:
        facts = json.loads((WEIGHTS / f"{name}.json").read_text())
        net.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS / f"{name}.safetensors").items()})
    except (OSError, RuntimeError, ValueError) as error:
        raise BadFile(f"the weights of {name} ship with the package", str(error).splitlines()[0], "Install it again.") from error
    return net.eval(), facts
