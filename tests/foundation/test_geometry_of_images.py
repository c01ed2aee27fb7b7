import numpy as np
import pytest
import torch

from pellucid.errors import BadGrid, BadImage
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.ops.resample import pull, push


def oblique(shape=(6, 7, 8), spacing=(0.8, 1.5, 3.0)):
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    m = np.eye(4)
    m[:3, :3] = turn @ tilt @ np.diag(spacing)
    m[:3, 3] = (-10, 20, 5)
    return Grid(shape, as_affine(m), "mm", "frame")


def test_spacing_world_and_index_of_an_oblique_grid():
    g = oblique()
    assert np.allclose(g.spacing, (0.8, 1.5, 3.0))
    assert np.isclose(g.voxel, 0.8 * 1.5 * 3.0)
    assert np.allclose(g.index(g.world((1.5, 2, 3))), (1.5, 2, 3))
    assert g.orientation == "RAS"


@pytest.mark.parametrize(
    "order, flip", [((2, 0, 1), (True, False, True)), ((0, 2, 1), (False, False, False)), ((1, 2, 0), (True, True, True))]
)
def test_axes_move_but_no_sample_leaves_its_place(order, flip):
    image = Image(torch.rand(2, 6, 7, 8), oblique(), background=torch.rand(6, 7, 8) > 0.5)
    moved = image.permute(order, flip)
    at = (3, 2, 1)
    there = tuple(round(i) for i in moved.grid.index(image.grid.world(at)))
    assert torch.equal(moved.values[(slice(None), *there)], image.values[(slice(None), *at)])
    assert moved.background[there] == image.background[at]


def test_crop_resize_and_coarsen_keep_the_world():
    g = oblique()
    assert np.allclose(g.crop((1, 2, 3), (4, 5, 6)).world((0, 0, 0)), g.world((1, 2, 3)))
    half = g.resize((3, 7, 4))
    assert np.allclose(half.world((0, 0, 0)), g.world((0.5, 0, 0.5)))  # centers of pairs, edges stay
    assert np.allclose(g.coarsen((2, 1, 1), (0.5, 0, 0), (3, 7, 8)).world((1, 0, 0)), g.world((2.5, 0, 0)))
    fine = g.resample((0.4, 1.5, 3.0))
    assert fine.shape == (12, 7, 8)
    middle = [(n - 1) / 2 for n in g.shape]
    assert np.allclose(fine.world([(n - 1) / 2 for n in fine.shape]), g.world(middle))


def test_other_frames_units_and_planes_are_refused():
    g = oblique()
    with pytest.raises(BadGrid, match="frame"):
        g.map_to(Grid(g.shape, g.affine, "mm", "another"))
    with pytest.raises(BadGrid, match="unit"):
        Grid((4, 4)).map_to(Grid.spaced((4, 4), (1, 1)))
    lifted = np.eye(4)
    lifted[2, 3] = 5
    with pytest.raises(BadGrid, match="plane"):
        Grid.spaced((4, 4), (1, 1)).map_to(Grid((4, 4), as_affine(lifted), "mm"))


def test_the_resampler_reads_a_linear_ramp_exactly_and_pads_only_outside():
    g = oblique()
    world = torch.tensor([[[g.world((i, j, k)) for k in range(8)] for j in range(7)] for i in range(6)]).movedim(-1, 0)
    fine = g.coarsen((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (10, 12, 14))  # strictly inside
    read = Image(world, g).on(fine).values
    assert torch.allclose(read[:, 3, 4, 5].double(), torch.tensor(fine.world((3, 4, 5)), dtype=torch.float64), atol=1e-4)
    out = Image(torch.ones(1, 6, 7, 8), g).on(g.crop((-2, 0, 0), (6, 7, 8)), fill=-1.0).values
    assert bool((out[0, :2] == -1).all())
    assert bool((out[0, 2:] == 1).all())


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("order, flip", [((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, False, True))])
def test_reading_axis_by_axis_is_reading_sample_by_sample(order, flip, nearest):
    from pellucid.ops.resample import _pull_along_axes, _pull_oblique

    g = oblique()
    other = g.permute(order, flip).coarsen((0.7, 1.3, 2.0), (-1.47, 0.23, 0.41), (12, 5, 6))
    x = torch.rand(2, *g.shape, dtype=torch.float64)
    (a, out_a), (b, out_b) = (f(x, other.shape, other.map_to(g), nearest) for f in (_pull_along_axes, _pull_oblique))
    assert torch.allclose(a, b, atol=1e-12)
    assert torch.equal(out_a.expand_as(out_b), out_b)


def test_mass_is_kept_and_push_is_the_adjoint_of_pull():
    g, coarse = oblique(), oblique().resize((3, 4, 4))
    m = coarse.map_to(g)
    x, y = torch.rand(1, *coarse.shape, dtype=torch.float64), torch.rand(1, *g.shape, dtype=torch.float64)
    assert torch.isclose((pull(y, coarse.shape, m) * x).sum(), (y * push(x, g.shape, m)).sum())
    assert torch.isclose(push(x, g.shape, m).sum(), x.sum())


def test_nearest_keeps_labels():
    labels = torch.randint(0, 5, (1, 6, 7, 8)).float()
    assert set(Image(labels, oblique()).on(oblique().resize((9, 9, 9)), nearest=True).values.unique().tolist()) <= {0, 1, 2, 3, 4}


def test_an_image_refuses_what_it_cannot_be():
    with pytest.raises(BadImage, match="NaN"):
        Image(torch.tensor([[[float("nan"), 1.0]]]))
    with pytest.raises(BadImage, match="batch"):
        Image(torch.zeros(1, 1, 4, 4, 4))
    with pytest.raises(BadImage, match="shape"):
        Image(torch.zeros(1, 4, 4), Grid((4, 5)))


def test_the_fingerprint_hears_values_grid_and_meaning():
    x = torch.rand(1, 4, 4)
    prints = {
        Image(x).fingerprint,
        Image(x + 1e-6).fingerprint,
        Image(x, Grid.spaced((4, 4), (1, 2))).fingerprint,
        Image(x, quantity="HU").fingerprint,
        Image(x.clone()).fingerprint,
    }
    assert len(prints) == 4
