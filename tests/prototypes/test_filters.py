"""Filters: planted dead and double ones are found, and pictures are the weights."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadSite
from pellucid.prototypes import Filters, filters


class Net(nn.Module):
    """A convolution with planted filters: 1 is weak, 2 is silent after the ReLU, 4 is -2 times 3, 5 the same as 0."""

    def __init__(self, dims: int, channels: int, functional: bool = False) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = conv(channels, 6, 3, padding=1)
            self.act = nn.Identity() if functional else nn.ReLU()
            self.functional = functional
            self.last = nn.Linear(6, 2)
        with torch.no_grad():
            self.first.weight[1] *= 1e-4
            self.first.bias[2] = -50
            self.first.weight[4] = -2 * self.first.weight[3]
            self.first.weight[5] = self.first.weight[0]

    def forward(self, x: Tensor) -> Tensor:
        z = self.act(self.first(x))
        z = torch.relu(z) if self.functional else z
        return self.last(z.flatten(2).mean(2))


def scans(dims: int, channels: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.rand(channels, *((8, 7, 6)[:dims]), generator=g) for _ in range(3)]


@pytest.mark.parametrize(("dims", "channels"), [(2, 3), (3, 1), (2, 5)])
def test_planted_filters_are_found(dims: int, channels: int, tmp_path) -> None:
    module = Net(dims, channels)
    found = filters(module, "first", scans(dims, channels))
    assert found.read_at == "act" and found.weak == (1,) and 2 in found.silent
    assert {(t.first, t.second): round(t.cosine, 3) for t in found.twins} == {(0, 5): 1.0, (3, 4): -1.0}
    z = torch.stack([torch.relu(module.first(s)).detach() for s in scans(dims, channels)])
    assert np.allclose(found.loudest, z.amax((0, *range(2, z.ndim))).double().numpy(), atol=1e-6)
    assert found.table()["like"][3] == "4" and found.table()["remark"][1].startswith("weak")
    assert np.allclose(found.norms, module.first.weight.detach().double().flatten(1).norm(dim=1).numpy())
    told = " ".join(found.sentences())
    assert "3 and 4 (-1.00)" in told and "no picture of what it finds" in told
    back = Filters.load(found.save(tmp_path / "f.json"), net=module)
    assert back.sentences() == found.sentences() and np.array_equal(back.weights, found.weights)
    found.figure(tmp_path / "f.png", most=6)


def test_pictures_are_the_weights_on_a_scale_that_is_said() -> None:
    module = Net(3, 2)
    found = filters(module, "first")
    assert not found.silent and math.isnan(found.loudest[0])
    shared, own = found.panels(most=64), found.panels("own", most=64)
    assert len(shared) == 12 and torch.equal(shared[3].image.values[0], module.first.weight[1, 1].detach())
    assert shared[2].high == shared[0].high and own[2].high < 1e-3 * own[0].high, "a weak filter looks weak on the shared scale"
    colored = filters(pl.Model(Net(2, 3)), "first", [pl.Image(s, channels=("red", "green", "blue")) for s in scans(2, 3)])
    assert len(colored.panels()) == 6 and colored.panels()[0].image.values.shape == (3, 3, 3)


def test_a_filter_is_read_where_it_was_said_or_at_itself() -> None:
    module = Net(2, 1, functional=True)
    assert filters(module, "first", scans(2, 1)).read_at == "first"
    assert 2 in filters(module, "first", scans(2, 1)).silent
    assert filters(Net(2, 1), "first", scans(2, 1), read_at="first").read_at == "first"
    with pytest.raises(BadSite, match="one for each filter"):
        filters(module, "first", scans(2, 1), read_at="last")
    with pytest.raises(BadSite, match="a convolution"):
        filters(module, "last")


def test_lines_and_transposed_and_grouped_convolutions() -> None:
    line = Net(1, 2)
    signals = [pl.signal(s) for s in scans(1, 2)]
    found = filters(pl.on_signals(line), "first", signals)
    assert found.weights.shape == (6, 2, 3) and found.panels()[0].image.values.shape == (1, 1, 3) and 2 in found.silent
    up = nn.ConvTranspose2d(4, 6, 3, groups=2)
    seen = filters(nn.Sequential(up), "0")
    one = torch.zeros(1, 4, 1, 1)
    one[0, 3] = 1
    answer = (up(one) - up(torch.zeros_like(one))).detach()[0]
    assert np.allclose(seen.weights[4, 1], answer[4].numpy(), atol=1e-6), "what the second channel of its group lays down"
