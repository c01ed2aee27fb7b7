"""Pictures that lose a cue: what each keeps and takes, to the number, in 2D and in volumes with oblong voxels."""

import math

import pytest
import torch

from pellucid.errors import BadImage, BadParameter, Unsupported
from pellucid.evidence import cues as c
from pellucid.evidence.cues.stress import coarse, flat, noisy, out_of_focus, turned
from pellucid.grid import Grid
from pellucid.image import Image


def rgb(seed=0, side=24):
    return Image(0.3 + 0.4 * torch.rand((3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def volume(seed=0, shape=(24, 24, 8), spacing=(1.0, 1.0, 3.0)):
    g = torch.Generator().manual_seed(seed)
    return Image(torch.rand((1, *shape), generator=g, dtype=torch.float64), Grid.spaced(shape, spacing))


def test_color_pictures_keep_brightness_and_order():
    image = rgb()
    x = image.values
    gray = c.grayscale(image).values
    assert torch.allclose(gray[0], 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])
    assert torch.equal(gray[0], gray[2])
    third = c.recolored(image, 1 / 3).values
    assert torch.allclose(third, c.channels_permuted(image).values, atol=1e-12), "a third of the circle is a permutation"
    assert torch.allclose(c.recolored(image, 0.15).values.mean(0), x.mean(0), atol=1e-12)
    assert torch.allclose(c.recolored(image, 1.0).values, x, atol=1e-12)
    hot = Image(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 4, 4).clone())
    assert float(c.recolored(hot).values.min()) >= 0
    assert float(c.recolored(hot).values.max()) <= 1
    for make in (c.grayscale, c.recolored, c.channels_permuted):
        with pytest.raises(Unsupported):
            make(volume())
        with pytest.raises(Unsupported):  # three sequences of a volume are no colors
            make(Image(torch.rand(3, 4, 4, 4)))


@pytest.mark.parametrize("image", [rgb(), volume()], ids=["2d", "3d"])
def test_detail_and_coarse_form_add_up(image):
    low, high = c.blurred(image, "2px").values, c.high_pass(image, "2px").values
    middle = 0.5
    inside = (high > 0) & (high < 1)
    assert torch.allclose((low + high - middle)[inside], image.values[inside], atol=1e-9)
    assert float(low.std()) < 0.5 * float(image.values.std())


def test_blur_is_as_wide_in_all_directions_of_the_patient():
    image = volume(shape=(33, 33, 11))
    spike = torch.zeros_like(image.values)
    spike[0, 16, 16, 5] = 1.0
    seen = c.blurred(image.with_values(spike), "3mm").values[0]
    along = [float(seen[19, 16, 5] / seen[16, 16, 5]), float(seen[16, 16, 6] / seen[16, 16, 5])]  # 3 mm away on either axis
    assert along[0] == pytest.approx(along[1], rel=0.02)
    assert along[0] == pytest.approx(math.exp(-0.5), rel=0.02)


def test_gamma_keeps_the_order_and_the_ends():
    image = rgb()
    seen = c.gamma(image, 2.0).values
    assert torch.allclose(seen, image.values**2)
    hounsfield = image.with_values(image.values * 2000 - 1000)
    bent = c.gamma(hounsfield, 0.5).values
    assert torch.equal(bent.flatten().argsort(), hounsfield.values.flatten().argsort())
    assert float(bent.min()) == pytest.approx(float(hounsfield.values.min()))
    assert float(bent.max()) == pytest.approx(float(hounsfield.values.max()))


def disc(side=48):
    y, x = torch.meshgrid(torch.arange(side).double(), torch.arange(side).double(), indexing="ij")
    far = ((y - side / 2) ** 2 + (x - side / 2) ** 2).sqrt()
    inside = far < 0.4 * side
    values = torch.where(inside, 0.6, 0.02) + 0.01 * torch.rand((side, side), generator=torch.Generator().manual_seed(1))
    values[far < 5] = 0.02  # as dark as the outside, but inside
    return Image(values[None].float()), inside


def test_foreground_fills_holes_and_ignores_a_label_in_the_corner():
    image, inside = disc()
    image.values[0, :3, :4] = 1.0
    assert torch.equal(c.foreground(image), inside)
    padded = Image(image.values, image.grid, background=~inside)
    assert torch.equal(c.foreground(padded), inside)
    assert bool(c.foreground(Image(torch.ones(1, 8, 8))).all())


def test_silhouette_tells_nothing_but_the_outline():
    image, inside = disc()
    seen = c.silhouette(image).values[0]
    assert torch.equal(seen > 0.25, inside)
    brighter = image.with_values((image.values * 1.4).clamp(0, 1))
    assert torch.equal(c.silhouette(brighter).values, c.silhouette(image).values), "mean brightness leaks"
    own = torch.zeros(48, 48)
    own[3:9, 4:20] = 1
    assert torch.equal(c.silhouette(image, own).values[0] > 0.25, own > 0.5)
    with pytest.raises(BadImage):
        c.silhouette(image, torch.ones(5, 5))


def test_edges_show_contours_alone():
    image, _ = disc()
    seen = c.edges(image).values[0]
    assert float(seen[24, 10]) < 0.1 < 0.5 < float(seen[24, 4:7].max())
    assert torch.allclose(c.edges(image.with_values(1 - image.values)).values, c.edges(image).values, atol=1e-5), "brightness leaks"
    assert not bool(c.edges(Image(torch.full((3, 9, 9), 0.4))).values.any())


@pytest.mark.parametrize(("image", "size"), [(rgb(), (4, 4)), (volume(), (6, 6, 2))], ids=["2d", "3d"])
def test_texture_moves_whole_patches_inside_the_foreground(image, size):
    mask = torch.ones(image.grid.shape, dtype=torch.bool)
    mask[: size[0]] = False
    seen = c.texture(image, f"{size[0]}{image.grid.unit}", mask).values
    assert torch.equal(seen[:, : size[0]], image.values[:, : size[0]])
    assert torch.equal(seen.flatten(1).sort().values, image.values.flatten(1).sort().values), "values were made or lost"
    assert float((seen != image.values).double().mean()) > 0.4

    def patches(t):
        for a, s in enumerate(size, 1):
            t = t.unfold(a, s, s)
        return {tuple(p.flatten().tolist()) for p in t.movedim(0, len(size)).flatten(0, len(size) - 1)}

    assert patches(seen) == patches(image.values), "patches were cut"
    assert torch.equal(seen, c.texture(image, f"{size[0]}{image.grid.unit}", mask).values)
    assert not torch.equal(seen, c.texture(image, f"{size[0]}{image.grid.unit}", mask, seed=1).values)
    with pytest.raises(BadParameter):
        c.texture(image, "20px", mask)


def test_stress_turns_in_millimeters():
    image = rgb()
    quarter = turned(image, 90.0, 0).values
    assert any(torch.allclose(quarter, image.values.rot90(k, (1, 2)), atol=1e-9) for k in (1, 3))
    odd = Image(torch.zeros(1, 31, 16, 3), Grid.spaced((31, 16, 3), (1.0, 2.0, 5.0)))
    rows, columns = torch.arange(31.0)[:, None], 2 * torch.arange(16.0)[None]
    odd.values[0, :, :, 1] = (
        -((rows - 15) ** 2 + (columns - 23) ** 2) / 18
    ).exp()  # 8 mm beside the middle, which lies at 15 mm on both axes
    seen = turned(odd, 90.0, 0).values[0, :, :, 1]
    at = [float((seen * axis).sum() / seen.sum()) - 15 for axis in (rows, columns)]
    assert abs(at[0]) == pytest.approx(8, abs=0.2), "a quarter turn keeps the distance in mm"
    assert at[1] == pytest.approx(0, abs=0.2)
    assert not bool(turned(odd, 90.0, 0).values[0, :, :, 0].any())


@pytest.mark.parametrize("image", [rgb(), volume()], ids=["2d", "3d"])
def test_stress_does_what_it_says(image):
    for change in (noisy, turned, out_of_focus):
        assert torch.allclose(change(image, 0.0, 0).values, image.values, atol=1e-12)
    for change in (coarse, flat):
        assert torch.allclose(change(image, 1.0, 0).values, image.values, atol=1e-12)
    mean = image.values.flatten(1).mean(1)
    assert torch.allclose(flat(image, 4.0, 0).values.flatten(1).std(1), image.values.flatten(1).std(1) / 4)
    assert torch.allclose(flat(image, 4.0, 0).values.flatten(1).mean(1), mean)
    middle = image.with_values(torch.full_like(image.values, 0.5))
    weak, strong = (noisy(middle, s, 0).values - 0.5 for s in (0.02, 0.1))
    assert float(weak.std()) == pytest.approx(0.02, rel=0.1)
    assert torch.allclose(5 * weak, strong), "the same draw at every strength"
    assert float(coarse(image, 4.0, 0).values.std()) < 0.6 * float(image.values.std())
