"""MACO: the magnitude stays, the phase alone is moved; and the operations that it stands on."""

import math

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.ops.spectrum import falling, frequencies, magnitude, smoothing, with_magnitude
from pellucid.ops.warp import boxes, moves, warp
from pellucid.prototypes import maco
from pellucid.prototypes.asked import Asked
from pellucid.prototypes.canvas import Phases
from pellucid.prototypes.given import mean_spectrum, mixing, read_given
from pellucid.target import logit


class Spot(nn.Module):
    """The second class wants a bright spot in the middle."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.dims, self.channels = dims, channels

    def forward(self, x: Tensor) -> Tensor:
        middle = [slice(n // 2 - 2, n // 2 + 2) for n in x.shape[2:]]
        inside = x[(slice(None), slice(None), *middle)].flatten(1).mean(1)
        return torch.stack([-inside, inside], 1) * 5


def scans(shape: tuple[int, ...], n: int = 4) -> list[Tensor]:
    g = torch.Generator().manual_seed(2)
    weights = falling(shape[1:], [1.0] * (len(shape) - 1), 1.0)
    made = []
    for _ in range(n):
        waves = torch.fft.rfftn(torch.randn(shape, generator=g, dtype=torch.float64), dim=tuple(range(1, len(shape)))) * weights
        x = torch.fft.irfftn(waves, s=shape[1:], dim=tuple(range(1, len(shape))))
        made.append((0.5 + 0.12 * x / x.std()).float())
    return made


@pytest.mark.parametrize("shape", [(1, 16, 15), (3, 12, 12), (2, 8, 9, 10), (1, 1, 24)])
def test_the_spectrum_keeps_the_magnitude_of_the_images_whatever_the_phase(shape: tuple[int, ...]) -> None:
    given = scans(shape)
    asked = Asked.of(pl.Model(Spot(len(shape) - 1, shape[0]), range=(-9.0, 9.0)), given[0], logit(1), pl.Run())
    known = read_given(asked, given)
    size = mean_spectrum(asked, given, known.axes)
    canvas = Phases(size, known.axes, known.low.double(), known.high.double())
    at = canvas.begin(2, torch.Generator().manual_seed(0))
    for k in range(2):
        whole = canvas.whole(at)[k]
        along = torch.einsum("ji,j...->i...", known.axes, whole)
        assert torch.allclose(magnitude(along), size, rtol=1e-9, atol=1e-9 * float(size.max()))
    slow = sum(torch.fft.fftn(torch.einsum("ji,j...->i...", known.axes, x.double()), dim=tuple(range(1, len(shape)))).abs() for x in given)
    assert torch.allclose(slow / len(given), size), "the mean magnitude of the user's own images"
    assert float(canvas.whole(at)[0].sub(canvas.whole(at)[1]).abs().max()) > 1e-3, "another phase is another image"


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 14, 14), (1, 10, 10, 10)])
def test_the_made_picture_has_the_spectrum_of_the_images_and_what_was_asked_for(shape: tuple[int, ...]) -> None:
    given = scans(shape)
    net = pl.Model(Spot(len(shape) - 1, shape[0]), classes=("dark", "bright"), range=(-9.0, 9.0))
    found = maco(net, "bright", given, steps=40, crops=2, noise=0.0)
    assert found.numbers["spectrum"] < 1e-5, "nothing was cut, so the spectrum is that of the images"
    optimum = found.optima[0]
    assert optimum.score > max(found.references), "phases alone gather the light in the middle"
    x = optimum.image.values
    if shape[0] == 1:
        mean = torch.stack([magnitude(g) for g in given]).mean(0)
        assert float((magnitude(x) - mean).norm() / mean.norm()) < 1e-5
    assert math.isclose(float(x.mean()), float(torch.stack(given).mean()), abs_tol=1e-3), "the mean is a frequency too"
    weight = optimum.weight
    assert weight is not None and weight.values.shape == (1, *shape[1:])
    middle = tuple(n // 2 for n in shape[1:])
    assert float(weight.values[(0, *middle)]) > 0.5 > float(weight.values[(0, *([0] * len(middle)))])


def test_what_is_cut_is_told_and_stays_within_the_span() -> None:
    given = [x.clamp(0.4, 0.6) for x in scans((1, 16, 16))]
    found = maco(pl.Model(Spot(2, 1), range=(0.4, 0.6)), 1, given, steps=30, crops=1)
    x = found.image.values
    assert float(x.min()) >= 0.4 and float(x.max()) <= 0.6 + 1e-6
    assert found.numbers["spectrum"] > 0.02 and any("moved the spectrum" in s for s in found.sentences())
    again = maco(pl.Model(Spot(2, 1), range=(0.4, 0.6)), 1, given, steps=30, crops=1)
    assert torch.equal(x, again.image.values)


def test_boxes_must_shrink() -> None:
    with pytest.raises(pl.PellucidError, match="shrink"):
        maco(Spot(2, 1), 1, scans((1, 8, 8)), first=0.3, last=0.5)


def test_frequencies_fall_and_a_blur_is_a_blur() -> None:
    f = frequencies((6, 8), (1.0, 2.0))
    assert f.shape == (6, 5) and math.isclose(float(f[3, 0]), 0.5) and math.isclose(float(f[0, 4]), 0.25)
    w = falling((8, 8), (1.0, 1.0), 1.0)
    assert math.isclose(float(w[0, 1] / w[0, 2]), 2.0) and math.isclose(float(w.square().mean()), 1.0)
    x = torch.zeros(1, 33, dtype=torch.float64)
    x[0, 16] = 1
    soft = torch.fft.irfftn(torch.fft.rfftn(x, dim=(0, 1)) * smoothing((1, 33), (1.0, 1.0), 2.0), s=(1, 33), dim=(0, 1))[0]
    t = torch.arange(33, dtype=torch.float64) - 16
    assert torch.allclose(soft, torch.exp(-(t**2) / 8) / math.sqrt(8 * math.pi), atol=1e-6)


def test_an_image_of_a_magnitude_is_real_and_keeps_its_mean() -> None:
    x = torch.rand(2, 6, 7, dtype=torch.float64)
    made = with_magnitude(magnitude(x), torch.randn(3, 2, 6, 7, dtype=torch.float64))
    assert torch.allclose(torch.fft.fftn(made, dim=(2, 3)).abs(), magnitude(x).expand(3, 2, 6, 7))
    assert torch.allclose(made.mean((2, 3)), x.mean((1, 2)).expand(3, 2))


@pytest.mark.parametrize("space", [(9, 12), (7, 8, 9)])
def test_moves_are_what_they_say(space: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, *space, generator=g, dtype=torch.float64)
    none = moves(2, space, [1.0] * len(space), g)
    assert torch.allclose(warp(x, none), x)
    one = torch.eye(len(space), len(space) + 1, dtype=torch.float64).repeat(2, 1, 1)
    one[:, 0, -1] = 2 / space[0]  # one sample along the first axis
    assert torch.allclose(warp(x, one)[:, :, :-1], x[:, :, 1:])
    turned = moves(50, space, [1.0, 2.0, 3.0][: len(space)], g, turn=10.0)
    half = torch.tensor([n * s / 2 for n, s in zip(space, (1.0, 2.0, 3.0), strict=False)], dtype=torch.float64)
    rigid = turned[:, :, :-1] * half[:, None] / half
    assert torch.allclose(rigid @ rigid.mT, torch.eye(len(space), dtype=torch.float64).expand_as(rigid), atol=1e-9), "a turn of the patient"
    angle = torch.arccos(((torch.diagonal(rigid, dim1=1, dim2=2).sum(1) - (len(space) - 2)) / 2).clamp(-1, 1)).rad2deg()
    assert 5 < float(angle.max()) <= 10.0001


def test_boxes_lie_inside() -> None:
    cut = boxes(200, 0.25, (8, 8), torch.Generator().manual_seed(0), spread=0.4)
    reach = cut[:, :, -1].abs() + 0.25
    assert float(reach.max()) <= 1 + 1e-12 and float(cut[:, :, -1].std()) > 0.3


def test_mixing_gives_the_correlation_back() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(3, 3, generator=g, dtype=torch.float64)
    covariance = a @ a.T
    root = mixing(covariance)
    spread = covariance.diagonal().sqrt()
    assert torch.allclose(root @ root.T, covariance / spread / spread[:, None])
    flat = covariance.clone()
    flat[1] = flat[:, 1] = 0
    assert torch.isfinite(mixing(flat)).all() and torch.allclose(mixing(flat)[1], torch.eye(3, dtype=torch.float64)[1])
