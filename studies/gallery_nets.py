"""Networks for the methods that the shipped phantom networks cannot serve: their convolutions, frozen, behind a new head fitted in seconds.

CAM needs global average pooling and one linear layer; attention rollout and transformer attribution need attention. Seeded, never saved.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import phantoms

SEED = 800_000  # no network was trained on phantoms of this seed
COUNT = {"fundus_dme": 360, "chest": 360, "brain_atrophy": 140}
LABEL = {"fundus_dme": "dme", "chest": "effusion", "brain_atrophy": "atrophy"}


@dataclass(frozen=True, eq=False)
class Cohort:
    """Phantoms of one kind: a head is fitted on the first three quarters, measured on the rest. ``healthy`` ones serve as references."""

    images: Tensor  # (n, c, *space)
    labels: Tensor  # (n,)

    @classmethod
    def drawn(cls, kind: str) -> Cohort:
        made = list(phantoms.cases(kind, COUNT[kind], SEED))
        return cls(torch.stack([p.image.values for p in made]), torch.tensor([int(p.labels[LABEL[kind]]) for p in made]))

    @property
    def healthy(self) -> Tensor:
        return self.images[self.labels == 0]


class Averaged(nn.Module):
    """Global average pooling and one linear layer: the head that CAM was made for."""

    def __init__(self, features: nn.Module, width: int, ndim: int) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1) if ndim == 2 else nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(width, 2)

    def after(self, z: Tensor) -> Tensor:
        """Logits from the features."""
        return self.head(self.pool(z).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.features(x))


class Attending(nn.Module):
    """Patches of the features as tokens, a class token, places learned, two layers of attention."""

    def __init__(self, features: nn.Module, width: int, ndim: int, places: int) -> None:
        super().__init__()
        self.features = features
        self.patches = (nn.Conv2d if ndim == 2 else nn.Conv3d)(width, 32, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, 32) * 0.02)
        self.places = nn.Parameter(torch.randn(1, places, 32) * 0.02)
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(32, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2))
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 2)

    def after(self, z: Tensor) -> Tensor:
        """Logits from the features."""
        z = self.patches(z).flatten(2).transpose(1, 2) + self.places
        z = self.layers(torch.cat([self.token.expand(len(z), -1, -1), z], 1))
        return self.head(self.norm(z[:, 0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.features(x))


def auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve."""
    a, b = scores[labels == 1], scores[labels == 0]
    return float(((a[:, None] > b).double() + 0.5 * (a[:, None] == b).double()).mean())


def fitted(shipped: nn.Module, cohort: Cohort, made: type[nn.Module], epochs: int = 24) -> tuple[nn.Module, float]:
    """The shipped network's convolutions behind a new head, and its AUC on phantoms that it was not fitted on."""
    cut, ndim = 3 * len(cohort.labels) // 4, cohort.images.ndim - 2
    with torch.no_grad():
        z = torch.cat([shipped.features(part) for part in cohort.images.split(16)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        places = () if made is Averaged else (z[0, 0].numel() // 2**ndim,)
        net = made(shipped.features, z.shape[1], ndim, *places)
    fresh = [p for name, p in net.named_parameters() if not name.startswith("features.")]
    batches = cut // 16
    step = torch.optim.AdamW(fresh, 3e-3, weight_decay=1e-2)
    plan = torch.optim.lr_scheduler.OneCycleLR(step, 1e-2 if made is Averaged else 3e-3, total_steps=epochs * batches)
    chance = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(cut, generator=chance).split(16)[:batches]:
            step.zero_grad()
            F.cross_entropy(net.after(z[rows]), cohort.labels[rows], label_smoothing=0.05).backward()
            step.step()
            plan.step()
    with torch.no_grad():
        logits = net.eval().after(z[cut:])
    return net, auc(logits[:, 1] - logits[:, 0], cohort.labels[cut:])
