import numpy as np
import pytest
import torch

import pellucid as pl
from pellucid import Grid, Image, Prepare
from pellucid.errors import BadImage, BadParameter


def chance(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lia(shape=(6, 7, 8), spacing=(1.0, 2.0, 3.0)):
    """A volume whose axes run left, inferior, anterior, as the T1 of many archives."""
    m = np.zeros((4, 4))
    m[0, 0], m[2, 1], m[1, 2], m[3, 3] = -spacing[0], -spacing[1], spacing[2], 1
    m[:3, 3] = (10, 20, -30)
    return Image(chance(1, *shape), Grid(shape, m, "mm"))


def test_repr_is_exact():
    for p in (
        Prepare(),
        Prepare(orientation="LPS", spacing=1.5, crop=(96, 96, 80), window=(40, 400), range=(0, 1)),
        Prepare(crop="foreground", resize=[3, 4], window="dicom", inverted=False, channels="rgb", spacing=[1, 2]),
        Prepare(inverted=True, channels=3),
    ):
        assert eval(repr(p)) == p and hash(eval(repr(p))) == hash(p)
    assert repr(Prepare(resize=224)) == "Prepare(resize=224)"


def test_nothing_asked_changes_nothing():
    scan = lia()
    seen = Prepare()(scan)
    assert seen.grid == scan.grid and torch.equal(seen.values, scan.values) and seen.fingerprint == scan.fingerprint


@pytest.mark.parametrize("wanted", ["RAS", "LPS", "SAR", "LIA", "PIR"])
def test_orientation_keeps_every_sample_in_its_place(wanted):
    scan = lia()
    assert scan.grid.orientation == "LIA"
    seen = Prepare(orientation=wanted)(scan)
    assert seen.grid.orientation == wanted
    for index in ((0, 0, 0), (2, 3, 4), tuple(n - 1 for n in seen.grid.shape)):
        there = tuple(round(v) for v in scan.grid.index(seen.grid.world(index)))
        assert seen.values[(0, *index)] == scan.values[(0, *there)]
    assert torch.equal(seen.on(scan.grid).values, scan.values)


def test_orientation_of_an_oblique_volume_takes_the_nearest_axes():
    scan = lia()
    a = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    oblique = Image(scan.values, Grid(scan.grid.shape, turn @ scan.grid.matrix, "mm"))
    seen = Prepare(orientation="RAS")(oblique)
    assert seen.grid.orientation == "RAS" and sorted(seen.values.flatten().tolist()) == sorted(scan.values.flatten().tolist())


def test_geometry_that_needs_millimeters_says_so():
    plain = Image(chance(1, 4, 5, 6))
    with pytest.raises(BadImage, match="knows its sides"):
        Prepare(orientation="RAS")(plain)
    with pytest.raises(BadImage, match="millimeters"):
        Prepare(spacing=1.0)(plain)
    with pytest.raises(BadImage, match="LIA"):
        Prepare(orientation="RA")(lia())
    with pytest.raises(BadImage, match="2 axes"):
        Prepare(resize=(3, 4))(lia())


def test_spacing_of_a_linear_scan_is_linear():
    """A ramp in world millimeters stays that ramp wherever it is read."""
    grid = Grid.spaced((20, 18, 16), (1.0, 1.5, 2.0))
    i = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in grid.shape], indexing="ij")
    scan = Image((i[0] * 1.0 + i[1] * 1.5 * 2 + i[2] * 2.0 * 3)[None], grid)
    for spacing in (0.8, 1.7, (3.5, 1.5, 2.0)):
        seen = Prepare(spacing=spacing)(scan)
        assert np.allclose(seen.grid.spacing, spacing)
        wanted = torch.tensor([[[[np.dot(seen.grid.world((a, b, c)), (1, 2, 3)) for c in range(seen.grid.shape[2])]
                                 for b in range(seen.grid.shape[1])] for a in range(seen.grid.shape[0])]])  # fmt: skip
        inner = (slice(None), *[slice(2, -2)] * 3)
        assert torch.allclose(seen.values[inner], wanted[inner], atol=1e-9)


def test_resize_keeps_the_extent():
    seen = Prepare(resize=(3, 14, 4))(lia())
    for a, (n, s) in enumerate(zip((6, 7, 8), (1.0, 2.0, 3.0), strict=True)):
        assert seen.grid.shape[a] * seen.grid.spacing[a] == pytest.approx(n * s)
    both = Prepare(spacing=2.0, crop="center", resize=5)(lia())
    assert both.grid.shape == (5, 5, 5) and len({round(s, 6) for s in both.grid.spacing}) == 1


def test_a_map_finds_its_way_back_to_the_scan():
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())
    scan = lia((12, 12, 12))
    spot = torch.zeros(1, 12, 12, 12)
    spot[0, 8:10, 2:5, 3] = 5
    scan = Image(spot, scan.grid)
    model = pl.Model(net, prepare=Prepare(orientation="RAS", spacing=1.0, crop=(10, 30, 20)))
    why = pl.explain(model, scan, target=0, method="input_x_gradient")
    assert why.grid.orientation == "RAS" and why.grid.shape == (10, 30, 20) and "spacing=1.0" in why.provenance.prepare
    back = why.on(scan.grid).values[0].abs()
    assert (back > 0).any() and (back[spot[0] == 0].max() < back.max())
    center = (back * torch.arange(12.0)[:, None, None]).sum() / back.sum()
    assert abs(float(center) - 8.5) < 0.6


def test_coarse_grids_do_not_alias():
    """Stripes finer than the new samples become gray, not coarse stripes."""
    stripes = (torch.arange(120) % 3 == 0).double().expand(120, 120)[None].contiguous()
    seen = Prepare(resize=40)(Image(stripes)).values  # plain linear reads every third sample: all dark
    assert float((seen - 1 / 3).abs().max()) < 0.12
    small = Prepare(resize=80)(Image(stripes))  # less than twice as coarse: as it is
    assert torch.equal(small.values, Image(stripes).on(small.grid).values)


def test_center_crop_is_square_in_millimeters():
    scan = Image(chance(1, 20, 30), Grid.spaced((20, 30), (1.0, 0.5)))
    seen = Prepare(crop="center")(scan)
    assert seen.grid.shape == (15, 30)
    assert torch.equal(seen.values, scan.values[:, 2:17])
    assert torch.equal(Prepare(crop="center")(Image(chance(1, 4, 7))).values, chance(1, 4, 7)[:, :, 1:5])


def test_crop_sizes_cut_and_pad():
    scan = Image(chance(2, 5, 8) + 3)
    seen = Prepare(crop=(9, 4))(scan)
    assert seen.grid.shape == (9, 4) and torch.equal(seen.values[:, 2:7], scan.values[:, :, 2:6])
    assert (seen.values[:, :2] == scan.values.min()).all() and seen.background is not None
    assert seen.background[:2].all() and seen.background[7:].all() and not seen.background[2:7].any()
    dark = Image(scan.values[:1], facts={"photometric": "MONOCHROME1"})
    assert (Prepare(crop=(9, 8))(dark).values[:, 0] == dark.values.max()).all()  # air is bright there


def test_foreground_is_the_box_around_the_patient():
    values = 0.02 * chance(1, 20, 22)
    values[0, 5:12, 7:16] = 0.5 + 0.5 * chance(7, 9)
    values[0, 0, 0] = 0.02
    seen = Prepare(crop="foreground")(Image(values))
    assert torch.equal(seen.values, values[:, 5:12, 7:16]) and seen.grid.world((0, 0))[:2] == (5.0, 7.0)
    padding = torch.zeros(20, 22, dtype=torch.bool)
    padding[:6] = True
    assert Prepare(crop="foreground")(Image(values, background=padding)).grid.shape == (6, 9)
    with pytest.raises(BadImage, match="one value"):
        Prepare(crop="foreground")(Image(torch.ones(1, 4, 4)))


def test_windows_clip_and_ranges_map():
    ct = Image(torch.tensor([[[-1000.0, -160.0], [40.0, 240.0], [1000.0, 0.0]]]), quantity="HU", facts={"window": (40.0, 400.0)})
    clipped = Prepare(window=(40, 400))(ct)
    assert clipped.values.tolist() == [[[-160.0, -160.0], [40.0, 240.0], [240.0, 0.0]]] and clipped.quantity == "HU"
    mapped = Prepare(window="dicom", range=(-1, 1))(ct)
    assert torch.allclose(mapped.values, torch.tensor([[[-1.0, -1.0], [0.0, 1.0], [1.0, -0.2]]]))
    assert mapped.quantity == "a.u." and "window" not in mapped.facts
    whole = Prepare(range=(0, 1))(ct).values
    assert float(whole.min()) == 0 and float(whole.max()) == 1 and torch.allclose(whole[0, 1], torch.tensor([0.52, 0.62]))
    with pytest.raises(BadImage, match="without one"):
        Prepare(window="dicom")(Image(torch.rand(1, 3, 3)))


def test_range_of_a_picture_is_its_full_scale():
    """A dark photograph stays dark; an 8-bit and a 16-bit file of one scene give one image."""
    eight = Image(torch.tensor([[[0.0, 51.0], [102.0, 204.0]]]), quantity="intensity")
    sixteen = Image(eight.values * 257, quantity="intensity")
    wanted = torch.tensor([[[0.0, 0.2], [0.4, 0.8]]])
    assert torch.allclose(Prepare(range=(0, 1))(eight).values, wanted) and torch.allclose(Prepare(range=(0, 1))(sixteen).values, wanted)
    assert torch.allclose(Prepare(range=(-1024, 1024))(eight).values, wanted * 2048 - 1024)


def test_padding_does_not_set_the_range():
    values = torch.tensor([[[-2000.0, -1000.0], [0.0, 1000.0]]])
    padding = torch.tensor([[True, False], [False, False]])
    assert Prepare(range=(0, 1))(Image(values, background=padding)).values.tolist() == [[[0.0, 0.0], [0.5, 1.0]]]


def test_one_value_has_no_range_and_says_so():
    seen = Prepare(range=(2, 3))(Image(torch.full((1, 3, 3), 7.0)))
    assert (seen.values == 2).all() and "one value" in seen.notes[-1]


@pytest.mark.parametrize("trained_on_air", [False, True])
def test_polarity(trained_on_air):
    film = chance(1, 4, 4) * 1000
    one = Image(film, facts={"photometric": "MONOCHROME1", "window": (500.0, 600.0)})
    two = Image(film.max() + film.min() - film, facts={"photometric": "MONOCHROME2"})
    p = Prepare(inverted=trained_on_air, range=(-1024, 1024))
    assert torch.allclose(p(one).values, p(two).values)  # one patient, two files, one input
    corner = p(one).values[0, 0, 0] > p(one).values[0, 1, 1]
    assert bool(corner) == (bool(film[0, 0, 0] > film[0, 1, 1]) == trained_on_air)
    plain = Prepare(inverted=trained_on_air)
    assert torch.equal(plain(one if trained_on_air else two).values, (one if trained_on_air else two).values)
    windowed = Prepare(inverted=False, window="dicom", range=(0, 1))(one).values
    assert torch.allclose(windowed, 1 - ((film - 200) / 600).clamp(0, 1))


def test_the_caveat_stands_until_polarity_is_settled():
    film = Image(torch.rand(1, 6, 6), facts={"photometric": "MONOCHROME1"})
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    for inverted, stands in ((None, True), (False, False), (True, False)):
        why = pl.explain(pl.Model(net, prepare=Prepare(inverted=inverted)), film, target=0, method="saliency")
        assert any("MONOCHROME1" in c for c in why.provenance.caveats) == stands


def test_polarity_of_a_picture_is_an_assumption_that_is_noted():
    seen = Prepare(inverted=True)(Image(torch.tensor([[[0.0, 255.0]]]), quantity="intensity"))
    assert seen.values.tolist() == [[[255.0, 0.0]]] and "does not say" in seen.notes[-1]
    with pytest.raises(BadImage, match="gray"):
        Prepare(inverted=True)(Image(torch.rand(3, 2, 2)))


def test_channels():
    gray, color = Image(chance(1, 3, 4)), Image(chance(3, 3, 4), channels=("red", "green", "blue"))
    rgb = Prepare(channels="rgb")(gray)
    assert rgb.channels == ("red", "green", "blue") and all(torch.equal(c, gray.values[0]) for c in rgb.values)
    assert Prepare(channels="rgb")(color) is color and len(Prepare(channels=4)(gray).values) == 4
    luminance = Prepare(channels="gray")(color)
    assert luminance.channels == ("gray",) and torch.allclose(
        luminance.values[0], 0.2126 * color.values[0] + 0.7152 * color.values[1] + 0.0722 * color.values[2]
    )
    for bad, image in (("gray", Image(chance(3, 3, 4))), ("rgb", Image(chance(2, 3, 4))), (3, Image(chance(4, 3, 4))), (1, color)):
        with pytest.raises(BadImage, match="channels="):
            Prepare(channels=bad)(image)


@pytest.mark.parametrize(
    "bad",
    [
        {"orientation": "RAX"}, {"orientation": "RLS"}, {"orientation": "R"}, {"orientation": ""}, {"spacing": 0}, {"spacing": (1, -1)},
        {"crop": "middle"}, {"crop": (0, 3)}, {"crop": 2.5}, {"crop": 96}, {"resize": 0}, {"resize": (2.5, 3)}, {"resize": True},
        {"window": (40,)}, {"window": (40, 0)}, {"window": "lung"}, {"range": (1, 1)}, {"range": (1, 0)}, {"range": "ab"},
        {"inverted": "no"}, {"channels": 0}, {"channels": "hsv"}, {"channels": 1.5},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(bad):
    with pytest.raises(BadParameter) as error:
        Prepare(**bad)
    assert next(iter(bad)) in str(error.value) and "\n" not in str(error.value)


def test_the_scan_is_not_written_to():
    scan = Image(chance(1, 8, 9), Grid.spaced((8, 9), (1.0, 1.0)), facts={"photometric": "MONOCHROME1", "window": (0.5, 0.5)})
    before = scan.fingerprint, dict(scan.facts)
    Prepare(orientation="LA", spacing=2.5, crop=(4, 4), resize=6, window="dicom", range=(0, 1), inverted=False, channels="rgb")(scan)
    assert (scan.fingerprint, dict(scan.facts)) == before
