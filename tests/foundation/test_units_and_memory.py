"""Units of the image change nothing, and what a public function was given is its own afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.channels import span


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


def of(values, **told):
    """The span as plain numbers: one pair, or one for each channel."""
    low, high = (end.flatten().tolist() for end in span(values, **told))
    pairs = list(zip(low, high, strict=True))
    return pairs[0] if len(set(pairs)) == 1 else pairs


def test_the_span_of_an_image():
    dark, faint, black = torch.full((1, 4, 4), 0.3), torch.full((1, 4, 4), 0.003), torch.zeros(1, 4, 4)
    for image in (dark, faint, black):
        image[0, 0, 0] = 0.0
    assert of(dark) == (0, 1) == of(black)
    assert of(faint) == (0, pytest.approx(0.003))
    assert of(faint, normalize=pl.Normalize(0.45, 0.22)) == (0, 1), "a nearly black photograph"
    assert of(dark, normalize=pl.Normalize(0.05, 0.02)) == (0, pytest.approx(0.3))
    assert of(faint, stated=(0.0, 2.0)) == (0, 2)
    assert of(dark - 0.1)[0] == pytest.approx(-0.1)


def channels(*pairs):
    """An image whose channels reach from the lowest to the highest values given."""
    unit = torch.rand(len(pairs), 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit[:, 0, 0], unit[:, 5, 5] = 0, 1
    low, high = torch.tensor(pairs, dtype=torch.float64).T[..., None, None]
    return low + (high - low) * unit


def test_channels_share_a_unit_or_have_their_own():
    blue = channels((0, 0.9), (0, 0.6), (0, 0.03))
    assert of(blue) == (0, 1) == of(blue, normalize=pl.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))), "a color photograph"
    assert of(channels((0, 255), (0, 90), (0, 20))) == (0, 255)
    assert of(channels((-1000, 3000), (0, 20))) == [(-1000, 3000), (0, 20)]
    assert of(channels((0, 1), (0, 0.003)), normalize=pl.Normalize((0.5, 0.001), (0.25, 0.001))) == [(0, 1), (0, 0.003)]
    assert of(channels((0, 0.9), (0, 0.003))) == [(0, 1), (0, 0.003)]
    three = channels((0, 1), (0, 0.003), (0, 0.002))
    assert of(three, normalize=pl.Normalize((0.5, 0.001, 0.001), (0.25, 0.0007, 0.0005))) == [(0, 1), (0, 0.003), (0, 0.002)]
    assert of(channels((-2, 3), (-1, 5))) == (-2, 5), "sequences of one scanner, standardized"
    assert of(channels((0, 1000), (0, 0))) == (0, 1000), "a channel that is missing has no unit"
    assert of(channels((-1, 1), (-1, 0.8), (-1, 0.3))) == (-1, 1) and of(channels((-2, 3), (-2, 2.5), (-1.5, 2))) == (-2, 3), "pictures too"
    assert of(channels((0, 250), (0, 3), (0, 100))) == [(0, 250), (0, 3), (0, 100)], "T2, ADC and diffusion"
    for most in (254, 256):
        assert of(channels((0, most), (0, 0.003), (0, 100))) == [(0, most), (0, 0.003), (0, 100)]
    assert of(channels((0, 1), (0, 20), (0, 1))) == [(0, 1), (0, 20), (0, 1)], "CT, PET and a mask"
    deep = channels((0, 1), (0, 0.5), (0, 0.3))[..., None].expand(3, 6, 6, 2)
    assert of(100 * deep) == (0, 100) and of(10 * deep.clone().mul_(torch.tensor([1, 0.1, 1]).view(3, 1, 1, 1))) == [
        (0, 10),
        (0, 1),
        (0, 3),
    ]
    for most in (5, 33, 34, 200):  # however much of the tracer there is
        assert of(channels((-1000, 1000), (0, most))) == [(-1000, 1000), (0, most)]
        assert of(channels((0, 1), (0, most))) == [(0, 1), (0, most)]
    assert of(channels((0, 3000), (0, 20)), stated=((-1000, 3000), (0, 20))) == [(-1000, 3000), (0, 20)]


def test_deviations_near_each_other_are_no_shared_unit():
    ct_and_pet = pl.Normalize((0.4, 1), (0.3, 1.5))
    assert of(channels((0, 1), (0, 20)), normalize=ct_and_pet) == [(0, 1), (0, 20)]
    assert of(channels((0, 900), (0, 3500), (0, 300)), normalize=pl.Normalize(0, (200, 600, 120))) == [(0, 900), (0, 3500), (0, 300)]
    perfusion = channels((0, 300), (0, 20), (0, 15), (0, 12))
    assert of(perfusion, normalize=pl.Normalize(0, (25.0, 4, 4, 3))) == [(0, 300), (0, 20), (0, 15), (0, 12)]
    assert of(channels((0, 0.9), (0, 0.6), (0, 0.03)), normalize=pl.Normalize((0.4, 0.2, 0.07), (0.27, 0.15, 0.065))) == (0, 1), "fundus"
    sequences = channels((-2, 3), (-2, 5), (-1, 4))[..., None].expand(3, 6, 6, 2)
    assert of(sequences, normalize=pl.Normalize(0, (1.0, 1.2, 0.9))) == (-2, 5)


def test_what_resizing_rounds_is_still_a_picture_and_a_mask_is_no_color():
    assert of(channels((0, 1 + 2e-7), (0, 0.6), (0, 0.03))) == (0, 1)
    assert of(channels((0, 1 + 2e-7), (0, 1))) == (0, 1)
    assert of(channels((-2, 3), (-1.5, 4), (0, 1))) == [(-2, 3), (-1.5, 4), (0, 1)]


def test_a_range_for_each_channel():
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(72, 2)).double(), channels((0, 1), (0, 1))
    each = pl.Model(net, range=[[-1000, 3000], [0, 20]])
    assert each.range == ((-1000.0, 3000.0), (0.0, 20.0)) and pl.Model(net, range=(0, 2)).range == (0.0, 2.0)
    assert each.identity != pl.Model(net, range=((-1000, 3000), (0, 21))).identity
    white = pl.explain(each, x, 0, method="integrated_gradients(baseline='white', steps=2)")
    by_hand = pl.explain(net, x, 0, method=pl.integrated_gradients(baseline=pl.baseline.Constant((3000, 20)), steps=2))
    assert torch.equal(white.values, by_hand.values)
    for wrong in (5, (1, 0), (0, 1, 2), ((0, 1), 2), ((0, 1), (2, 1)), (0, float("inf")), "ab", ()):
        with pytest.raises(pl.errors.BadParameter, match="lowest, highest"):
            pl.Model(net, range=wrong)
    with pytest.raises(pl.errors.BadImage, match="a pair for each of 3 channels"):
        pl.explain(pl.Model(net, range=((0, 1),) * 3), x, 0, method="saliency")


def test_what_was_stated_is_heard_by_noise_and_segments_too():
    image = channels((0, 1), (0, 20))
    model, other = (pl.Model(nn.Identity(), range=r) for r in (((0, 1), (0, 20)), (0, 20)))
    assert model.width(image).flatten().tolist() == [1, 20] and other.width(image).flatten().tolist() == [20, 20]
    assert float(model.comparable(image)[1].max()) == 1 and torch.equal(other.comparable(image), image)


UNITS = {"T2 and ADC": ((1.0, 0.003), (0.0, 0.0)), "CT and PET": ((2000.0, 20.0), (-1000.0, 0.0))}
STARTS = ("black", "white", "half_gray", "black_and_white", "random(2)", "blurred(2)")
UNLIKE = [
    *(f"integrated_gradients(steps=4, baseline='{start}')" for start in STARTS),
    "smoothgrad(n=3)", "expected_gradients(samples=4)", "deep_shap", "deeplift(baseline='white')",
    "lime(segments='slic(12)', samples=30)", "kernel_shap(segments='slic(12)', samples=40, fill='half_gray')",
    "xrai(inner=\"integrated_gradients(steps=4, baseline='black')\")",
    "occlusion(window='4px', fill='white')", "occlusion(window='4px', fill='random(1)')", "rise(masks=12, cells=3, fill='half_gray')",
    "meaningful_perturbation(steps=3, jitter='0px', fill='noise')", "extremal_perturbation(steps=3, areas=[0.2])", "guided_ig(steps=4, baseline='black')",
]  # fmt: skip


def several(dims, unit):
    """The same function of the same image, with channels in units of their own; what a gradient in each channel has to be multiplied by."""
    torch.manual_seed(1)
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    net = nn.Sequential(conv(2, 4, 3), nn.ReLU(), conv(4, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2)).double().eval()
    x = torch.rand(2, *[16, 14] if dims == 2 else [10, 9, 8], dtype=torch.float64)
    flat = x.flatten(1)
    flat[:, 0], flat[:, -1] = 0, 1
    scale, offset = UNITS.get(unit, ((1.0, 1.0), (0.0, 0.0)))
    column = torch.tensor(scale, dtype=torch.float64).view(2, *[1] * dims)
    mean = tuple(0.5 * s + o for s, o in zip(scale, offset, strict=True))
    model = pl.Model(net, normalize=pl.Normalize(mean, tuple(0.25 * s for s in scale)))
    return model, x * column + torch.tensor(offset).view_as(column), column


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", UNLIKE)
def test_units_of_channels_change_no_map(method, dims):
    def explained(unit):
        model, x, scale = several(dims, unit)
        why = pl.explain(model, x, 0, method=method, run=pl.Run(seed=3))
        return why, why.values * scale if method.startswith("smoothgrad") else why.values

    values = explained("one unit")[1]
    assert bool(values.any())
    for unit in UNITS:
        other, there = explained(unit)
        assert torch.allclose(there, values, rtol=1e-5, atol=1e-6 * float(values.abs().max())), unit
        assert [c for c in other.provenance.caveats if "standard deviations" in c] == []


@pytest.mark.parametrize("dims", [2, 3])
def test_units_of_channels_change_no_measurement(dims):
    names = [
        "max_sensitivity", "road", "deletion", "repeatability", "prediction_saliency_correlation", "fragility", "input_invariance",
        "sensitivity_zero", "remove_top", "irof",
    ]  # fmt: skip

    def graded(unit):
        model, x, _ = several(dims, unit)
        method = "integrated_gradients(steps=2, baseline='blurred(2)')"  # black is another in every noisy copy: its own lowest value
        return pl.grade(model, x, {"map": pl.explain(model, x, 0, method=method)}, names)

    plain = graded("one unit")
    for unit in UNITS:
        there = graded(unit)
        for name in names:
            a, b = plain["map", name].value, there["map", name].value
            assert b == pytest.approx(a, rel=1e-4, abs=1e-6, nan_ok=True), (unit, name)


def test_a_start_far_from_all_scans_is_told():
    model, x, _ = several(2, "T2 and ADC")
    told = pl.explain(model, x, 0, method="integrated_gradients(baseline=0.5, steps=2)").provenance.caveats
    assert any("value=0.5" in c and "665 standard deviations" in c for c in told), told
    near = pl.explain(model, x, 0, method="integrated_gradients(baseline='white', steps=2)").provenance.caveats
    assert not any("standard deviations" in c for c in near)


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


STATISTICS = {  # of images in [0, 1], as published
    "fundus": ((0.4138, 0.2210, 0.0737), (0.2390, 0.1316, 0.0567)), "other fundus": ((0.40, 0.27, 0.18), (0.27, 0.18, 0.13)), "brain": (0.08, 0.13),
    "chest": (0.5, 0.25), "photographs": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}  # fmt: skip


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("brightest", [0.05, 0.4, 1.0])
def test_usual_statistics_leave_the_usual_range(name, brightest):
    mean, std = STATISTICS[name]
    image = torch.rand(3 if isinstance(mean, tuple) else 1, 8, 8, generator=torch.Generator().manual_seed(0)) * brightest
    low, high = span(image, normalize=pl.Normalize(mean, std))
    assert (low == 0).all() and (high == 1).all()
