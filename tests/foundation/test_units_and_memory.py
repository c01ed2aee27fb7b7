"""Units of the image change nothing, and what a public function was given is its own afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.model import span


class In(nn.Module):
    """The same function of images in another unit."""

    def __init__(self, unit):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
        )
        self.double()

    def forward(self, x):
        return self.body(x)


def explained(unit, method):
    torch.manual_seed(1)
    x = torch.rand(1, 16, 16, dtype=torch.float64)
    x[0, 0, 0], x[0, 15, 15] = 0, 1
    x *= unit
    model = pl.Model(In(unit).eval(), normalize=pl.Normalize(0.5 * unit, 0.25 * unit))
    return pl.explain(model, x, 0, method=method, run=pl.Run(seed=3))


@pytest.mark.parametrize(
    "method",
    [
        "xrai",
        "integrated_gradients(steps=8, baseline='white')",
        "occlusion(fill='half_gray')",
        "expected_gradients(samples=4, baseline='random(2)')",
    ],
)
def test_a_unit_of_its_own_changes_no_map(method):
    plain = explained(1.0, method)
    for unit in (1e-3, 1e3):
        other = explained(unit, method)
        assert torch.allclose(other.values, plain.values, rtol=1e-5, atol=1e-7 * float(plain.values.abs().max())), (
            unit,
            other.provenance.caveats,
        )


def test_the_span_of_an_image():
    dark, faint, black = torch.full((1, 4, 4), 0.3), torch.full((1, 4, 4), 0.003), torch.zeros(1, 4, 4)
    for image in (dark, faint, black):
        image[0, 0, 0] = 0.0
    assert span(dark) == (0, 1) == span(black)
    assert span(faint) == (0, pytest.approx(0.003))
    assert span(faint, normalize=pl.Normalize(0.45, 0.22)) == (0, 1), "a nearly black photograph"
    assert span(dark, normalize=pl.Normalize(0.05, 0.02)) == (0, pytest.approx(0.3))
    assert span(faint, (0.0, 2.0)) == (0, 2)
    assert span(dark - 0.1)[0] == pytest.approx(-0.1)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
def test_one_buffer_filled_again_makes_two_targets(kind):
    torch.manual_seed(0)
    buffer = torch.zeros(12, 12) if kind is torch.Tensor else np.zeros((12, 12), np.float32)
    targets = []
    for at in (1, 8):
        buffer[:] = 0
        buffer[at : at + 3, at : at + 3] = 1
        targets.append(pl.region(1, mask=buffer))
    one, two = pl.explain(Dense().eval(), torch.rand(1, 12, 12), targets, method="saliency")
    assert bool(one.values[0, 2, 2]) and not bool(one.values[0, 9, 9]) and bool(two.values[0, 9, 9])
    assert one.provenance.target != two.provenance.target


def test_baselines_and_backgrounds_keep_what_they_were_given():
    given = torch.zeros(1, 16, 16)
    for baseline in (pl.baseline.read(given), pl.baseline.each_of([given]), pl.baseline.mean_of([given])):
        before = repr(baseline)
        given += 1
        assert repr(baseline) == before
        given.zero_()
    outside = torch.zeros(16, 16, dtype=torch.bool)
    image = pl.Image(torch.rand(1, 16, 16), background=outside)
    outside[:] = True
    assert image.background is not None and not bool(image.background.any())
