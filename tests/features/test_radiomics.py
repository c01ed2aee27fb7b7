"""Radiomics against the values that the IBSI agreed on for its digital phantom, against scikit-image, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pellucid import Grid, Image
from pellucid.errors import BadParameter
from pellucid.features.cooccurrence import directions, glcm, texture
from pellucid.features.describe import FIRST_ORDER, SHAPE, TEXTURE, definitions, describe
from pellucid.features.first_order import discretized, first_order, histogram
from pellucid.features.rings import distances, middle, rings
from pellucid.features.shape import equivalent_diameter, shape

# the digital phantom of the IBSI manual, chapter 5: four slices of four rows, 2 mm voxels; 0: outside of the region
PHANTOM = np.array([
    [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
    [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
])  # fmt: skip
# the manual's benchmark values, in the three digits that they have
STATISTICS = {
    "mean": 2.15, "variance": 3.05, "skewness": 1.08, "kurtosis": -0.355, "median": 1, "minimum": 1, "p10": 1, "p90": 4, "maximum": 6,
    "interquartile_range": 3, "range": 5, "mean_absolute_deviation": 1.55, "robust_mean_absolute_deviation": 1.11,
    "median_absolute_deviation": 1.15, "coefficient_of_variation": 0.812, "quartile_coefficient_of_dispersion": 0.6, "energy": 567,
    "root_mean_square": 2.77, "entropy": 1.27, "uniformity": 0.512,
}  # fmt: skip
MORPHOLOGY = {
    "volume": 556, "volume_by_voxels": 592, "surface": 388, "surface_to_volume": 0.698, "sphericity": 0.843, "maximum_diameter": 13.1,
    "major_axis": 11.4, "minor_axis": 9.31, "least_axis": 8.54, "elongation": 0.816, "flatness": 0.749,
}  # fmt: skip
AVERAGE = {
    "joint_maximum": 0.503, "joint_average": 2.14, "joint_variance": 3.1, "joint_entropy": 2.4, "difference_average": 1.43,
    "difference_variance": 3.06, "difference_entropy": 1.56, "sum_average": 4.29, "sum_variance": 7.07, "sum_entropy": 1.92,
    "angular_second_moment": 0.303, "contrast": 5.32, "dissimilarity": 1.43, "inverse_difference": 0.677, "inverse_difference_moment": 0.618,
    "correlation": 0.157, "autocorrelation": 5.06, "cluster_tendency": 7.07, "cluster_shade": 16.6, "cluster_prominence": 145,
    "information_correlation_1": -0.157, "information_correlation_2": 0.52,
}  # fmt: skip
MERGED = AVERAGE | {
    "joint_maximum": 0.509, "joint_average": 2.15, "joint_variance": 3.13, "joint_entropy": 2.57, "difference_average": 1.38,
    "difference_variance": 3.21, "difference_entropy": 1.64, "sum_average": 4.3, "sum_variance": 7.41, "sum_entropy": 2.11,
    "angular_second_moment": 0.291, "contrast": 5.12, "dissimilarity": 1.38, "inverse_difference": 0.688, "inverse_difference_moment": 0.631,
    "correlation": 0.183, "autocorrelation": 5.19, "cluster_tendency": 7.41, "cluster_shade": 17.4, "cluster_prominence": 147,
    "information_correlation_1": -0.0288, "information_correlation_2": 0.269,
}  # fmt: skip


def in_three_digits(found: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def test_first_order_is_ibsi() -> None:
    levels = PHANTOM[PHANTOM > 0]
    assert in_three_digits(first_order(levels.astype(float)) | histogram(levels)) == STATISTICS
    assert set(STATISTICS) == set(FIRST_ORDER)


def test_shape_is_ibsi() -> None:
    found = in_three_digits(shape(PHANTOM > 0, Grid.spaced(PHANTOM.shape, (2, 2, 2))))
    assert found == MORPHOLOGY | {"pieces": 1.0}
    assert set(found) <= set(SHAPE)


@pytest.mark.parametrize(("over", "wanted"), [("average", AVERAGE), ("merged", MERGED)])
def test_texture_is_ibsi(over: str, wanted: dict[str, float]) -> None:
    assert in_three_digits(texture(glcm(PHANTOM), over)) == wanted
    assert set(wanted) == set(TEXTURE)
    assert len(directions(3)) == 13


def test_glcm_is_that_of_scikit_image() -> None:
    from skimage.feature import graycomatrix, graycoprops

    levels = np.random.default_rng(0).integers(1, 9, (17, 12))
    angles = {(0, 1): 0, (1, -1): 3 * math.pi / 4, (1, 0): math.pi / 2, (1, 1): math.pi / 4}  # skimage: row += sin, column += cos
    for distance in (1, 2):
        ours = dict(zip(directions(2), glcm(levels, distance, 8), strict=True))
        far = distance if distance == 1 else distance * math.sqrt(2)  # scikit-image rounds where it steps
        for step, angle in angles.items():
            theirs = graycomatrix((levels - 1).astype(np.uint8), [far if 0 not in step else distance], [angle], 8, symmetric=True)
            np.testing.assert_array_equal(ours[step], theirs[:, :, 0, 0])
            read = texture(ours[step][None])
            normal = theirs / theirs.sum()
            names = {"contrast": "contrast", "dissimilarity": "dissimilarity", "homogeneity": "inverse_difference_moment",
                     "ASM": "angular_second_moment", "correlation": "correlation"}  # fmt: skip
            for name, own in names.items():
                assert read[own] == pytest.approx(float(graycoprops(normal, name)[0, 0]), rel=1e-9)


def test_pairs_with_the_outside_do_not_count() -> None:
    levels = np.array([[1, 0, 2], [1, 1, 2]])
    assert glcm(levels)[directions(2).index((0, 1))].tolist() == [[2, 1], [1, 0]]
    with pytest.raises(BadParameter, match="side by side"):
        texture(glcm(np.array([[1, 0, 2]])))


def test_a_ball_and_a_disk_in_mm() -> None:
    grid = Grid.spaced((40, 40, 20), (0.5, 0.5, 1.0))
    away = distances(grid, grid.world((19.5, 19.5, 9.5)))
    ball = shape((away <= 8).numpy(), grid)
    assert ball["volume"] == pytest.approx(4 / 3 * math.pi * 8**3, rel=0.03)
    assert ball["maximum_diameter"] == pytest.approx(16, abs=1.0)
    assert ball["major_axis"] == pytest.approx(4 * 8 / math.sqrt(5), rel=0.03)
    assert 0.85 < ball["sphericity"] < 1
    flat = Grid.spaced((64, 128), (0.5, 0.25))
    disk = shape((distances(flat, flat.world((31.5, 63.5))) <= 12).numpy(), flat)
    assert disk["area"] == pytest.approx(math.pi * 144, rel=0.01)
    assert disk["maximum_diameter"] == pytest.approx(24, abs=0.6)
    assert equivalent_diameter(disk["area"], 2) == pytest.approx(24, rel=0.01)
    assert disk["elongation"] == pytest.approx(1, abs=0.01)


def test_a_tilted_grid_changes_no_shape() -> None:
    mask = torch.zeros(9, 9, 9, dtype=torch.bool)
    mask[2:7, 3:6, 3:5] = True
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]]
    straight = Grid.spaced((9, 9, 9), (1, 2, 3))
    oblique = Grid(straight.shape, turn @ straight.matrix, "mm")
    a, b = shape(mask.numpy(), straight), shape(mask.numpy(), oblique)
    assert a == pytest.approx(b)
    assert a["volume_by_voxels"] == 5 * 3 * 2 * 6


def test_a_hole_is_no_area() -> None:
    mask = np.zeros((12, 12), bool)
    mask[2:10, 2:10] = True
    mask[5:7, 5:7] = False
    found = shape(mask, Grid.spaced((12, 12), (1, 1)))
    whole = shape(np.pad(np.ones((8, 8), bool), 2), Grid.spaced((12, 12), (1, 1)))
    assert found["area"] < whole["area"] - 3
    assert found["perimeter"] > whole["perimeter"] + 5


def test_rings_are_means_by_distance() -> None:
    grid = Grid.spaced((30, 20, 10), (1, 1.5, 3))
    center = grid.world((14.5, 9.5, 4.5))
    away = distances(grid, center)
    values = torch.stack([away, torch.full_like(away, 2.0)]).float()
    found = rings(values, grid, center, (0, 3, 6, 9, 400, 500))
    assert [float(away[(away >= a) & (away < b)].mean()) for a, b in ((0, 3), (3, 6), (6, 9))] == pytest.approx(found[0, :3].tolist())
    assert found[1, :4].tolist() == [2.0] * 4
    assert bool(found[:, 4].isnan().all())
    assert middle(away < 5, grid) == pytest.approx(center)
    with pytest.raises(BadParameter, match="rise"):
        rings(values, grid, center, (3, 3))


def test_gray_levels() -> None:
    assert discretized(np.array([-10.0, 14.9, 15.0, 200.0]), width=25, lowest=-10).tolist() == [1, 1, 2, 9]
    assert discretized(np.full(3, 5.0)).tolist() == [1, 1, 1]
    assert first_order(np.full(3, 5.0))["kurtosis"] == 0


def test_describe_gives_a_row_for_each_image() -> None:
    grid = Grid.spaced((12, 12, 8), (1, 1, 2))
    scans = [Image(torch.rand(2, 12, 12, 8, generator=torch.Generator().manual_seed(s)), grid, channels=("T1", "FLAIR")) for s in range(3)]
    mask = distances(grid, grid.world((5, 5, 4))) < 5
    table = describe(scans, [mask] * 3, groups=("first_order", "texture", "shape", "rings"), edges=(0, 2, 4))
    assert len(table) == 3
    assert table["FLAIR.first_order.mean"][1] == pytest.approx(float(scans[1].values[1][mask].double().mean()))
    assert len(set(table["T1.texture.contrast"])) == 3
    assert len(set(table["shape.volume"])) == 1
    assert table["T1.ring.0-2"][0] == pytest.approx(float(rings(scans[0].values, grid, middle(mask, grid), (0, 2))[0, 0]))
    known = set(definitions()["feature"])
    assert {c.split(".")[-1] for c in table.columns[1:] if "ring" not in c} <= known
    assert "shape.volume" not in describe(scans).columns
    with pytest.raises(BadParameter, match="channels"):
        describe([scans[0], Image(torch.rand(1, 12, 12, 8), grid)])
    with pytest.raises(BadParameter, match="something marked"):
        describe(scans, [mask & False] * 3)
