"""Quality of images and duplicates: closed forms of every number, planted faults, and what must pass."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.features import numbers
from pellucid.features.duplicates import bits, cosines
from pellucid.features.quality import measures, tilt
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.ops.blur import gaussian


def body(seed: int, dims: int = 2, side: int = 40) -> Tensor:
    """A lopsided bright body with a texture of its own and a little noise."""
    g = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side)] * dims, indexing="ij")
    shape = [0.62, 0.8, 0.7][:dims]
    move = [float(v) * 0.03 for v in torch.randn(dims, generator=g)]
    far = sum(((a - m) / s) ** 2 for a, m, s in zip(axes, move, shape, strict=True))
    heart = sum(((a - c - m) / 0.4) ** 2 for a, c, m in zip(axes, (0.3, -0.4, 0.2), move, strict=False))
    texture = gaussian(torch.randn(1, *[side] * dims, generator=g), [1.5] * dims)[0]
    x = torch.sigmoid(8 * (1 - far)) + 1.5 * torch.sigmoid(6 * (1 - heart)) + 0.5 * texture + 0.01 * torch.randn([side] * dims, generator=g)
    return 100 * x[None]


def scans(n: int, dims: int = 2, start: int = 0) -> list[Image]:
    grid = Grid.spaced((40,) * dims, (1.0, 1.0, 2.0)[:dims]) if dims == 2 else Grid.spaced((24,) * 3, (1.0, 1.0, 2.0))
    return [Image(body(start + i, dims, 40 if dims == 2 else 24), grid) for i in range(n)]


# ---------------------------------------------------------------- numbers
@pytest.mark.parametrize("shape", [(64, 60), (24, 22, 20)])
def test_noise_is_found_under_a_smooth_image(shape):
    g = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(0, 1, n, dtype=torch.float64) for n in shape], indexing="ij")
    smooth = sum(axes)
    for sigma in (0.01, 0.1):
        y = smooth + sigma * torch.randn(shape, generator=g, dtype=torch.float64)
        assert numbers.noise(y) == pytest.approx(sigma, rel=0.1)
        y[: shape[0] // 2] = 0.0  # a masked background is left out, it would halve the estimate
        assert numbers.noise(y) == pytest.approx(sigma, rel=0.15)


def test_sharpness_in_closed_form():
    """White noise: the variance of 1 -2d 1 ... is (2d)^2 + 2d times its own; a plane wave's share of fine power is all or nothing."""
    g = torch.Generator().manual_seed(0)
    for shape in ((120, 120), (30, 30, 30)):
        d = len(shape)
        y = torch.randn(shape, generator=g, dtype=torch.float64)
        assert numbers.laplacian(y) == pytest.approx(4 * d * d + 2 * d, rel=0.06)
        at = torch.arange(shape[0], dtype=torch.float64).view(-1, *[1] * (d - 1)).expand(shape)
        assert numbers.fine(torch.cos(2 * math.pi * 0.1 * at)) < 0.01 and numbers.fine(torch.cos(2 * math.pi * 0.4 * at)) > 0.99
        assert numbers.laplacian(gaussian(y[None], [1.0] * d)[0]) < 0.3 * numbers.laplacian(y)
        assert numbers.laplacian(5 * y + 3) == pytest.approx(numbers.laplacian(y)), "whatever the units"


def test_margins_clipping_and_shrinking_in_closed_form():
    x = torch.zeros(2, 10, 20)
    x[:, 2:7, 5:15] = torch.rand(2, 5, 10) + 0.1
    assert numbers.margins(x, None) == pytest.approx(1 - 0.5 * 0.5)
    x[:, 3, 6] = x[:, 4, 6] = x.max()
    assert numbers.clipped(x, None) == pytest.approx((1 - 50 / 200, 3 / 200))
    y = torch.arange(12, dtype=torch.float64).view(3, 4)
    assert numbers.shrink(y, 2) == pytest.approx(torch.tensor([[(0 + 1 + (4 + 5) / 2) / 3, (2 + 3 + (6 + 7) / 2) / 3], [((4 + 5) / 2 + 8 + 9) / 3, ((6 + 7) / 2 + 10 + 11) / 3]], dtype=torch.float64))  # fmt: skip
    assert numbers.block(torch.zeros(1, 100, 200), 5000).shape == (1, 50, 100)


def test_geometry_is_told_in_millimeters():
    turn = math.radians(12)
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    affine[:2, :2] = 0.5 * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    grid = Grid((8, 10, 6), as_affine(affine), "mm")
    assert tilt(grid) == pytest.approx(12)
    found = measures(Image(torch.rand(1, 8, 10, 6), grid))
    assert found["spacing k"] == pytest.approx(3) and found["extent k"] == pytest.approx(18) and found["spacing ratio"] == pytest.approx(6)
    thick = pl.check_image(Image(torch.rand(1, 8, 10, 6), grid))
    assert thick["spacing ratio"].level == "note" and "slices are thick" in thick["spacing ratio"].text and thick["spacing ratio"].high == 3


# ---------------------------------------------------------------- what is wrong with any scan
def test_what_is_wrong_with_any_scan():
    assert pl.check_image(torch.zeros(1, 8, 8)).level == "refuse" and pl.check_image(torch.zeros(1, 4, 8, 8)).level == "refuse"
    missing = torch.rand(3, 8, 8)
    missing[1] = 0.5
    assert pl.check_image(missing)["content"].text.startswith("Channel 1")
    hu = Image(200 * torch.rand(1, 9, 9), quantity="HU")
    assert pl.check_image(hu)["quantity"].level == "refuse" and "no air" in pl.check_image(hu)["quantity"].text
    unsaid = Image(torch.linspace(-1024, 900, 81).view(1, 9, 9))
    assert (
        pl.check_image(unsaid)["quantity"].level == "note" and pl.check_image(Image(unsaid.values, quantity="HU"))["quantity"].level == "ok"
    )
    assert pl.check_image(Image(torch.linspace(-1, 5, 81).view(1, 9, 9), quantity="SUV"))["quantity"].level == "refuse"
    film = Image(torch.rand(1, 9, 9), facts={"photometric": "MONOCHROME1"})
    assert pl.check_image(film)["polarity"].level == "note"
    gap = Image(torch.rand(1, 9, 9), notes=("slice 4 is missing",))
    assert "slice 4" in pl.check_image(gap)["sampling"].text
    assert pl.check_image(torch.rand(1, 9, 9))["orientation"].level == "note", "a raster does not know its sides"
    assert pl.check_image((3 * torch.rand(1, 30, 30)).clamp(0, 1))["clipped high"].level == "refuse"


# ---------------------------------------------------------------- limits learned
@pytest.mark.parametrize("dims", [2, 3])
def test_planted_faults_are_found_and_clean_scans_pass(dims):
    limits = pl.QualityLimits.learned(iter(scans(16, dims)))
    assert limits.cases == 16 and limits.orientations == ("RA" if dims == 2 else "RAS",) and limits.unit == "mm"
    clean = [pl.check_image(s, limits) for s in scans(8, dims, 100)]
    assert all(q.level != "refuse" for q in clean) and sum(q.level == "note" for q in clean) <= 4
    one = scans(1, dims, 200)[0]
    x = one.values
    top = float(x.flatten().kthvalue(int(0.6 * x.numel())).values)
    faults = {
        "edges": gaussian(x, [2.0] * dims), "noise": x + 30 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)),
        "clipped high": x.clamp(max=top), "likeness": x.max() + x.min() - x, "content": torch.zeros_like(x),
    }  # fmt: skip
    for name, values in faults.items():
        found = pl.check_image(one.with_values(values), limits)
        assert found.level == "refuse" and found[name].level == "refuse", (name, found.remarks)
    assert "exchanged" in pl.check_image(one.with_values(faults["likeness"]), limits)["likeness"].text
    mirrored = pl.check_image(one.with_values(x.flip(1)), limits)["likeness"]
    assert mirrored.level == "refuse" and "mirrored along i" in mirrored.text
    wide = pl.check_image(Image(x, Grid.spaced(one.grid.shape, (2.0, 1.0, 2.0)[:dims])), limits)
    assert wide["spacing i"].level == "refuse" and wide["spacing i"].unit == "mm" and wide["spacing j"].level == "ok"
    raster = pl.check_image(Image(x), limits)
    assert raster["orientation"].level == "refuse"
    turned = one.permute(range(dims), [True] + [False] * (dims - 1))
    assert pl.check_image(turned, limits)["orientation"].level == "refuse", "the file says so itself"
    assert pl.check_image(Image(x, one.grid, "HU"), limits)["quantity"].level == "refuse"


def test_exposure_is_no_reason_to_refuse_but_a_unit_is():
    def shown(quantity: str, factor: float) -> str:
        made = [Image(s.values * (10 if quantity == "HU" else 1) - (900 if quantity == "HU" else 0), s.grid, quantity) for s in scans(12)]
        limits = pl.QualityLimits.learned(made)
        return pl.check_image(made[0].with_values(made[0].values * factor), limits)["high"].level

    assert shown("a.u.", 5.0) == "note" and shown("HU", 5.0) == "refuse" and shown("a.u.", 1.0) == "ok"


def test_the_reference_itself_is_never_remarkable_and_few_are_refused():
    made = scans(10)
    limits = pl.QualityLimits.learned(made)
    assert all(pl.check_image(s, limits).level == "ok" for s in made)
    assert pl.check_image(made[3].values, made)["likeness"].level == "ok", "images instead of limits"
    with pytest.raises(BadParameter, match="eight images"):
        pl.QualityLimits.learned(made[:7])
    by_hand = pl.QualityLimits(numbers={"spacing k": (None, None, 3.0, 6.0)}, orientations=("RAS",))
    thick = Image(torch.rand(1, 5, 5, 5), Grid.spaced((5, 5, 5), (1, 1, 8)))
    assert pl.check_image(thick, by_hand)["spacing k"].level == "refuse"
    table = pl.check_image(thick, by_hand).table()
    assert set(table["level"]) <= {"ok", "note", "refuse"} and all(t.endswith(".") for t in table["text"])


# ---------------------------------------------------------------- duplicates
@pytest.mark.parametrize("dims", [2, 3])
def test_duplicates_are_found_and_different_patients_are_not(dims):
    made = scans(12) if dims == 2 else [Image(body(i, 3, 48)) for i in range(4)]
    n = len(made)
    x = made[2].values
    low, high = float(x.min()), float(x.max())
    half = made[2].grid.resize([side - 4 for side in made[2].grid.shape])
    copies = [
        made[2], Image(3 * x - 40), Image(x.flip(2)), made[2].on(half), Image(x + 0.005 * (high - low) * torch.randn(x.shape)),
    ]  # fmt: skip
    found = pl.find_duplicates(iter([*made, *copies]))
    rows = [r for r in found if r["a"] == 2]
    assert [r["b"] for r in rows] == [n, n + 1, n + 2, n + 3, n + 4]
    assert [r["kind"] for r in rows] == ["same values", "same look", "mirrored along j", "same look", "same look"]
    assert all({r["a"], r["b"]} <= {2, n, n + 1, n + 2, n + 3, n + 4} for r in found), "no two patients are one"


def test_hash_is_that_of_the_lowest_cosines():
    fft = pytest.importorskip("scipy.fft")
    y = torch.rand(32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slow = fft.dctn(y.numpy(), norm="ortho")[:8, :8].flatten()
    slow[0] = 0
    assert torch.equal(bits(y), torch.from_numpy(slow > np.sort(slow[1:])[31]))
    assert cosines(5) @ cosines(5).T == pytest.approx(torch.eye(5, dtype=torch.float64), abs=1e-12)
