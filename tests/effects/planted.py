"""Four sequences of small heads, and tiny networks trained on them: what their labels hang on is planted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid import Grid, Image

SEQUENCES = ("T1", "T1c", "T2", "FLAIR")
SIZE = 16


def heads(n: int, seed: int, *, lesion: str = "T1c", bias: str | None = None, weak: float = 1.0) -> tuple[list[Image], list[int]]:
    """Images (4, 16, 16) and labels. With label 1 a bright spot lies in ``lesion``; spots in T2 come by chance; ``bias``: that sequence is 12 % brighter
    where the label is 1. ``weak`` scales the lesion."""
    chance = torch.Generator().manual_seed(seed)
    at = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    images, labels = [], []
    for i in range(n):
        y = i % 2
        tissue = torch.tensor([0.6, 0.6, 0.4, 0.5]).view(4, 1, 1) * (1 + 0.04 * torch.randn(4, 1, 1, generator=chance))
        x = tissue + 0.05 * torch.randn(4, SIZE, SIZE, generator=chance)
        for name, there in ((lesion, bool(y)), ("T2", bool(torch.rand(1, generator=chance) < 0.5))):
            c = torch.randint(4, SIZE - 4, (2,), generator=chance)
            spot = ((at[0] - c[0]) ** 2 + (at[1] - c[1]) ** 2 < 6).float()
            if there:
                x[SEQUENCES.index(name)] += 0.4 * spot * (weak if name == lesion else 1.0)
        if bias is not None and y:
            x[SEQUENCES.index(bias)] *= 1.12
        images.append(Image(x, Grid.spaced((SIZE, SIZE), (2.0, 2.0)), channels=SEQUENCES))
        labels.append(y)
    return images, labels


class Net(nn.Module):
    """Two convolutions, mean and maximum of each map, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.features(x).flatten(2)
        return self.head(torch.cat([z.mean(2), z.amax(2)], 1))


def trained(images: list[Image], labels: list[int], steps: int = 120) -> Net:
    """A network that tells the labels apart; weights that nothing asks for decay."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
        x, y = torch.stack([i.values for i in images]), torch.tensor(labels)
        x = x - x.mean((0, 2, 3), keepdim=True)
        optimizer = torch.optim.AdamW(net.parameters(), 0.02, weight_decay=0.3)
        for step in range(steps):
            rows = torch.arange(step % 4, len(x), 4) if step % 2 else torch.randperm(len(x))[:32]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return net.eval()


def mean_of(images: list[Image]) -> tuple[float, ...]:
    """Each channel's mean over images: what ``trained`` takes off."""
    return tuple(float(v) for v in torch.stack([i.values for i in images]).mean((0, 2, 3)))
