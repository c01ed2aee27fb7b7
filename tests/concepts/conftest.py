"""A small network trained to find a bright spot, and images with and without it; a striped background has no bearing on the class."""

import pytest
import torch
from torch import nn

import pellucid as pl

SIZE = 12


def picture(spot, seed, stripes=None, dims=2, size=SIZE):
    chance = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(1, *[size] * dims, generator=chance)
    striped = bool(torch.rand((), generator=chance) < 0.5) if stripes is None else stripes
    if striped:
        x[..., ::3] += 1.0
    at = torch.randint(1, size - 4, (dims,), generator=chance).tolist()
    if spot:
        x[(0, *[slice(a, a + 3) for a in at])] += 2.0
    return x


def pictures(n, spot, start=0, **more):
    return [picture(spot, start + i, **more) for i in range(n)]


@pytest.fixture(scope="session")
def trained():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 12), nn.ReLU(), nn.Linear(12, 2),
    )  # fmt: skip
    x = torch.stack(pictures(256, True, 10_000) + pictures(256, False, 20_000))
    y = torch.tensor([1] * 256 + [0] * 256)
    adam = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(100):
        at = torch.randperm(512, generator=torch.Generator().manual_seed(step))[:128]
        loss = nn.functional.cross_entropy(net(x[at]), y[at])
        adam.zero_grad()
        loss.backward()
        adam.step()
    net.eval()
    fresh = torch.stack(pictures(100, True, 30_000) + pictures(100, False, 31_000))
    right = (net(fresh).argmax(1) == torch.tensor([1] * 100 + [0] * 100)).float().mean()
    assert right > 0.93, "a network that has learned nothing tests nothing"
    return pl.Model(net, classes=("plain", "spot"))


@pytest.fixture(scope="session")
def difference():
    return pl.logit("spot") - pl.logit("plain")
