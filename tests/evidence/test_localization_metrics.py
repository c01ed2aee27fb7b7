"""Maps against masks: closed forms, slow references, peers where they are right, and what must not happen where they are wrong."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadGrid, BadParameter
from pellucid.evidence import read_metric
from pellucid.evidence.grade import on_grid
from pellucid.evidence.localization import max_box_accuracy_over
from pellucid.evidence.localization.emd import moved
from pellucid.evidence.localization.placing import displaced, otsu, scaled
from pellucid.evidence.masks import Laid
from pellucid.evidence.metric import METRICS
from pellucid.evidence.panel import Entry, Panel
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.blur import gaussian
from pellucid.run import Run

NAMES = sorted(n for n, m in METRICS.items() if m.group == "localization")
RANKING = ("roc_auc", "auprc", "max_f1", "relevance_rank", "top_k_intersection")


def panel_of(maps, mask, spacing=None):
    """A panel of maps that were not made by any network."""
    shape = tuple(mask.shape)
    grid = Grid(shape) if spacing is None else Grid.spaced(shape, spacing)
    image = Image(torch.zeros(1, *shape), grid)
    model = pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(mask.numel(), 2)))
    entries = {n: Entry(m.double()) for n, m in maps.items()}
    return Panel(model, image, pl.logit(1), image.values, Run(), entries, Laid(mask))


def measure(text, a, mask, spacing=None):
    return read_metric(text).measure(panel_of({"map": a}, mask, spacing))["map"]


def noise(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(shape, start, stop):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)])
def test_displacements_are_those_of_a_loop_over_all_of_them(shape):
    """Rolled one by one over a mask that is no mirror image of itself, and over graded weights; maps with ties too."""
    corner = torch.zeros(shape, dtype=torch.bool)
    for steps in ([0, 0, 0], [1, 0, 0], [2, 0, 1], [0, 1, 0]):
        corner[tuple(steps[: len(shape)])] = True
    graded = noise(shape, 9) ** 3
    told = []
    for seed, coarse in itertools.product(range(4), (False, True)):
        w = noise(shape, seed)
        w = (3 * w).round() if coarse else w
        for where in (corner.double(), graded):
            own = float((w * where).sum())
            rolled = itertools.product(*map(range, shape))
            sums = [float((torch.roll(w, steps, tuple(range(len(shape)))) * where).sum()) for steps in rolled]
            told.append(sum(s >= own - 1e-9 for s in sums) / w.numel())
            assert displaced(w, where) == pytest.approx(told[-1], abs=1e-12)
    assert min(told) < 0.3 and max(told) > 0.6


# ---------------------------------------------------------------- closed forms
@pytest.mark.parametrize("shape", [(12, 16), (8, 9, 10)])
@pytest.mark.parametrize("name", NAMES)
def test_the_mask_itself_is_best_and_its_opposite_is_not(name, shape):
    mask = block(shape, [2] * len(shape), [5] * len(shape))
    k = "(k=9)" if name == "top_k_intersection" else ""
    right, wrong = measure(name + k, mask.double(), mask), measure(name + k, (~mask).double(), mask)
    best = 0.0 if right.direction == "down" else 1.0
    assert right.value == pytest.approx(best, abs=1e-9)
    assert right.status == "pass"
    assert wrong.status != "pass", wrong.text
    assert (wrong.value - best) * (1 if right.direction == "down" else -1) > 0.1


def test_a_negative_map_of_the_mask_counts_by_the_part_that_is_asked_for():
    mask = block((10, 10), (2, 2), (5, 5))
    against = -mask.double()
    assert measure("roc_auc(of='absolute')", against, mask).value == 1
    assert measure("roc_auc(of='signed')", against, mask).value == 0
    assert measure("roc_auc", against, mask).status == "void"
    assert measure("relevance_mass(of='absolute')", against, mask).value == 1


def test_values_written_out_by_hand():
    a = torch.tensor([[4.0, 3.0], [2.0, 0.0]])
    mask = torch.tensor([[True, False], [True, False]])
    assert measure("roc_auc", a, mask).value == 3 / 4  # pairs: 4>3, 4>0, 2<3, 2>0
    assert measure("auprc", a, mask).value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert measure("max_f1", a, mask).value == pytest.approx(4 / 5)
    assert measure("mae", a, mask).value == pytest.approx((0 + 0.75 + 0.5 + 0) / 4)
    assert measure("relevance_mass", a, mask).value == pytest.approx(6 / 9)
    assert measure("relevance_rank", a, mask).value == 0.5
    cut = measure("f1", a, mask)  # scaled mean 9/16, twice it is above 1: the maximum alone is kept
    assert (cut.detail["cut"], cut.value) == (1.0, pytest.approx(2 / 3))
    assert measure("f1(threshold=0.5)", a, mask).value == pytest.approx(4 / 5)


def test_ties_at_the_end_count_by_their_mean_whatever_their_order():
    mask = block((4, 4), (0, 0), (1, 2))
    a = torch.zeros(4, 4)
    a[0, 0] = 1.0
    assert measure("relevance_rank", a, mask).value == pytest.approx((1 + 1 / 15) / 2)
    assert measure("relevance_rank", a.flip(0, 1), mask.flip(0, 1)).value == pytest.approx((1 + 1 / 15) / 2)
    two = torch.zeros(4, 4)
    two[0, 0] = two[3, 3] = 1.0
    assert measure("pointing_game", two, mask).value == 0.5


NUMBERS = ("roc_auc", "auprc", "f1(threshold=0.5)", "mae", "iou_otsu", "relevance_mass", "relevance_rank", "top_k_intersection(k=200)")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("shape", [(40, 40), (14, 15, 16)])
def test_random_maps_reach_the_level_that_is_called_chance(shape, name):
    mask = block(shape, [3] * len(shape), [9] * len(shape))
    found = [measure(name, noise(shape, s), mask) for s in range(12)]
    values = np.array([m.value for m in found])
    spread = 3 * values.std(ddof=1) / math.sqrt(len(values))
    level = np.mean([m.reference for m in found])
    slack = 0.03 * level if name == "auprc" else 0.0  # finite samples: average precision of noise lies slightly above its share
    assert abs(values.mean() - level) < spread + slack + 1e-3
    assert sum(m.status == "pass" for m in found) <= 2


@pytest.mark.parametrize("name", NUMBERS)
def test_smooth_maps_that_know_nothing_pass_about_one_time_in_twenty(name):
    """The spread of chance is that of the map's own smoothness: a blurred blob is often near the mask by luck."""
    mask = block((32, 32), (4, 4), (12, 14))
    fields = [gaussian(noise((1, 40, 40), s) - 0.5, [3.0, 3.0])[0, 4:36, 4:36] for s in range(60)]
    passed = sum(measure(name, f - f.min() + 1e-3, mask).status == "pass" for f in fields)
    better = sum(m.value > m.reference for m in (measure("roc_auc", f, mask) for f in fields))
    assert passed <= 9, "of 60, three are to be expected"
    assert better >= 15, "better than chance alone would say yes to half of them"


def test_displacements_are_those_of_rolling_the_map():
    a, mask = noise((7, 6)), block((7, 6), (1, 1), (3, 4))
    own = float(a[mask].sum())
    slow = np.mean([float(a.roll((i, j), (0, 1))[mask].sum()) >= own - 1e-12 for i in range(7) for j in range(6)])
    assert displaced(a, mask) == pytest.approx(slow)
    deep, where = noise((3, 4, 5)), block((3, 4, 5), (0, 1, 1), (2, 3, 4))
    rolled = [deep.roll(s, (0, 1, 2))[where].sum() for s in itertools.product(range(3), range(4), range(5))]
    assert displaced(deep, where) == pytest.approx(np.mean([float(r) >= float(deep[where].sum()) - 1e-12 for r in rolled]))


def test_a_map_of_a_network_whose_truth_is_known_beats_itself_shuffled():
    """f(x) = sum of x over a block: input times gradient lies in the block, its shuffled copy nowhere in particular."""
    mask = block((16, 16), (3, 4), (8, 9))
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([-mask.flatten().float(), mask.flatten().float()]))
    x = 0.2 + 0.8 * noise((1, 16, 16)).float()
    found = pl.grade(net, x, ["input_x_gradient"], ["roc_auc", "auprc", "relevance_mass", "emd"], target=1, mask=mask)
    for name in ("roc_auc", "auprc", "relevance_mass", "emd"):
        own, other = found["input_x_gradient", name], found["random", name]
        assert own.value > other.value + 0.05
        assert own.status == "pass"
        assert found["input_x_gradient", "relevance_mass"].value == pytest.approx(1.0)


# ---------------------------------------------------------------- peers, where they are right
@pytest.mark.parametrize("ties", [False, True])
def test_curves_agree_with_scikit_learn(ties):
    sk = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        a, mask = noise((17, 23), seed), noise((17, 23), seed + 50) > 0.8
        a = (8 * a).round() / 8 if ties else a
        y, s = mask.flatten().numpy(), a.flatten().numpy()
        assert measure("roc_auc", a, mask).value == pytest.approx(sk.roc_auc_score(y, s), abs=1e-12)
        assert measure("auprc", a, mask).value == pytest.approx(sk.average_precision_score(y, s), abs=1e-12)
        p, r, _ = sk.precision_recall_curve(y, s)
        assert measure("max_f1", a, mask).value == pytest.approx(np.max(2 * p * r / np.maximum(p + r, 1e-12)), abs=1e-12)
        kept = scaled(a).flatten().numpy() > otsu(scaled(a))
        assert measure("f1(threshold='otsu')", a, mask).value == pytest.approx(sk.f1_score(y, kept), abs=1e-12)
        assert measure("iou_otsu", a, mask).value == pytest.approx(sk.jaccard_score(y, kept), abs=1e-12)
        assert measure("mae", a, mask).value == pytest.approx(sk.mean_absolute_error(y, scaled(a).flatten().numpy()), abs=1e-12)


def test_otsu_is_scikit_images():
    filters = pytest.importorskip("skimage.filters")
    for seed, power in itertools.product(range(4), (1, 3, 8)):
        a = noise((31, 29), seed) ** power
        assert otsu(a) == pytest.approx(filters.threshold_otsu(a.numpy()), abs=1e-12)


def test_the_moved_distance_is_scipys_in_one_dimension_and_that_of_a_shift():
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(0)
    places = np.arange(20.0)[:, None]
    a, b = rng.random(20), rng.random(20)
    a, b = a / a.sum(), b / b.sum()
    assert moved(a, b, places) == pytest.approx(wasserstein_distance(places[:, 0], places[:, 0], a, b), abs=1e-6)
    mask = block((16, 16), (4, 4), (8, 8))
    m = measure("emd", mask.roll(4, 1).double(), mask, spacing=(1.0, 2.0))
    assert m.detail["distance"] == pytest.approx(8.0, abs=1e-6), "four samples of 2 mm"
    assert m.detail["longest"] == pytest.approx(math.hypot(15, 30))
    assert m.value == pytest.approx(1 - 8.0 / math.hypot(15, 30), abs=1e-6)


def test_emd_agrees_with_a_program_over_all_pairs_of_samples():
    """Relevance that stays where it is right changes no optimum: the full transport problem, with nothing left out."""
    from scipy.optimize import linprog
    from scipy.spatial.distance import cdist

    a, mask = noise((5, 4)), block((5, 4), (1, 1), (3, 3))
    places = np.array(list(itertools.product(range(5), range(4))), dtype=float)
    p, q = a.flatten().numpy() / float(a.sum()), mask.flatten().numpy() / 4
    n = len(p)
    rows = np.zeros((2 * n, n * n))
    for i in range(n):
        rows[i, i * n : (i + 1) * n] = 1
        rows[n + i, i::n] = 1
    best = linprog(cdist(places, places).ravel(), A_eq=rows, b_eq=np.concatenate([p, q]), method="highs").fun
    assert measure("emd(cells=20)", a, mask).detail["distance"] == pytest.approx(best, abs=1e-6)


def quantus_on(name, a, mask, **settings):
    quantus = pytest.importorskip("quantus")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = getattr(quantus, name)(normalise=False, abs=False, disable_warnings=True, **settings)
        x = np.zeros((len(a), 1, *a.shape[1:]), dtype=np.float32)
        net = nn.Sequential(nn.Flatten(), nn.Linear(int(a[0].numel()), 2))
        given = {"a_batch": a[:, None].numpy(), "s_batch": mask[:, None].numpy(), "channel_first": True}
        return peer(model=net, x_batch=x, y_batch=np.zeros(len(a), dtype=int), device="cpu", **given)


def test_metrics_agree_with_quantus_where_it_is_right():
    a, mask = torch.stack([noise((12, 13), s) for s in range(2)]), torch.stack([block((12, 13), (2, 3), (6, 8))] * 2)
    pairs = {
        "RelevanceMassAccuracy": "relevance_mass",
        "RelevanceRankAccuracy": "relevance_rank",
        "AUC": "roc_auc",
        "PointingGame": "pointing_game",
    }
    for theirs, ours in pairs.items():
        found = quantus_on(theirs, a, mask)
        assert [float(v) for v in found] == pytest.approx([measure(ours, m, s).value for m, s in zip(a, mask, strict=True)], abs=1e-9)
    found = quantus_on("TopKIntersection", a, mask, k=10)
    assert [float(v) for v in found] == pytest.approx(
        [measure("top_k_intersection(k=10)", m, s).value for m, s in zip(a, mask, strict=True)]
    )


# ---------------------------------------------------------------- peers' faults (evaluation notes, part 4.2)
@pytest.mark.parametrize("name", NAMES)
def test_fault_6_an_empty_mask_is_neither_hit_nor_miss(name):
    empty, full = torch.zeros(9, 9, dtype=torch.bool), torch.ones(9, 9, dtype=torch.bool)
    for mask, word in ((empty, "empty"), (full, "whole image")):
        m = measure(name, noise((9, 9)), mask)
        assert math.isnan(m.value)
        assert m.status == "void"
        assert word in m.text


def test_fault_6_is_still_there_in_quantus():
    """An image without a finding counts as a hit: if this fails, the peer was mended and the note in the docs can go."""
    a, mask = noise((1, 9, 9)), torch.zeros(1, 9, 9, dtype=torch.bool)
    try:
        found = quantus_on("PointingGame", a, mask)
    except ValueError as error:  # it refuses such a batch in some versions
        pytest.skip(str(error))
    assert bool(found[0]) is True


def test_fault_10_mass_weighed_by_size_does_not_depend_on_the_batch():
    mask = block((10, 10), (0, 0), (5, 4))
    one = measure("relevance_mass", mask.double(), mask)
    assert one.detail["enrichment"] == pytest.approx(100 / 20)
    both = read_metric("relevance_mass").measure(panel_of({"a": mask.double(), "b": noise((10, 10))}, mask))
    assert both["a"].detail["enrichment"] == one.detail["enrichment"]


@pytest.mark.parametrize("name", NAMES)
def test_fault_8_other_maps_of_the_panel_do_not_matter(name):
    mask = block((12, 12), (2, 2), (6, 7))
    alone = measure(name, noise((12, 12)), mask)
    beside = read_metric(name).measure(
        panel_of({"large": 1e6 * noise((12, 12), 1), "map": noise((12, 12)), "zero": torch.zeros(12, 12)}, mask)
    )
    assert beside["map"].value == pytest.approx(alone.value, abs=1e-12)
    assert beside["zero"].status == "void"


@pytest.mark.parametrize("name", NAMES)
def test_maps_that_say_nothing_are_void_and_scale_does_not_matter(name):
    mask = block((12, 12), (2, 2), (6, 7))
    for said, a in (
        ("same everywhere", torch.ones(12, 12)),
        ("no numbers", torch.full((12, 12), math.nan)),
        ("positive", -noise((12, 12))),
    ):
        m = measure(name, a, mask)
        assert m.status == "void"
        assert said in m.text
        assert math.isnan(m.value)
    assert measure(name, 1e-12 * noise((12, 12)), mask).value == pytest.approx(measure(name, noise((12, 12)), mask).value, abs=1e-6)


# ---------------------------------------------------------------- in the patient
def test_lengths_are_the_patients_in_anisotropic_volumes():
    mask = block((20, 20, 10), (8, 8, 4), (11, 11, 6))
    spacing = (1.0, 1.0, 4.0)
    above, aside = torch.zeros(20, 20, 10), torch.zeros(20, 20, 10)
    above[9, 9, 7] = aside[14, 9, 5] = 1.0  # two slices of 4 mm off; four samples of 1 mm off
    assert measure("peak_distance", above, mask, spacing).value == pytest.approx(8.0)
    assert measure("peak_distance", aside, mask, spacing).value == pytest.approx(4.0)
    assert measure("peak_distance", aside, mask).value == pytest.approx(4.0)
    near = "pointing_game(tolerance='5mm')"
    assert measure(near, aside, mask, spacing).value == 1
    assert measure(near, above, mask, spacing).value == 0
    assert measure("pointing_game(tolerance='4px')", above, mask, spacing).value == 1
    assert measure(near, above, mask, spacing).reference > measure("pointing_game", above, mask, spacing).reference
    with pytest.raises(BadParameter, match="spacing"):
        measure(near, above, mask)


def test_a_mask_on_another_grid_is_read_there_or_refused_by_name():
    fine, coarse = Grid.spaced((16, 16), (1.0, 1.0)), Grid.spaced((16, 16), (1.0, 1.0)).resize((8, 8))
    small = Image(block((8, 8), (2, 2), (4, 5))[None].float(), coarse)
    assert torch.equal(on_grid(small, fine), block((16, 16), (4, 4), (8, 10)))
    with pytest.raises(BadGrid) as error:
        on_grid(torch.ones(8, 8), fine)
    assert "(16, 16)" in str(error.value)
    assert "(8, 8)" in str(error.value)
    away = Image(
        small.values, Grid((8, 8), tuple(map(tuple, np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, 500.0]] + [[0] * 4] * 3))), "mm")
    )
    with pytest.raises(BadGrid, match="overlaps"):
        on_grid(away, fine)


# ---------------------------------------------------------------- boxes
@pytest.mark.parametrize("shape", [(30, 40), (16, 18, 20)])
def test_boxes_around_the_highest_part(shape):
    d = len(shape)
    mask, far = block(shape, [4] * d, [10] * d), [12] * d
    hot = block(shape, [4] * d, [9] * d).double()
    hot[tuple(slice(a, a + 2) for a in far)] = 0.6  # a smaller part, lower
    m = measure("max_box_accuracy", hot, mask)
    assert m.detail["best"] == pytest.approx((5 / 6) ** d)
    assert m.value == pytest.approx(1.0 if (5 / 6) ** d >= 0.7 else 2 / 3)
    beside = block(shape, far, [a + 3 for a in far]).double()
    beside[tuple(slice(4, 6) for _ in shape)] = 0.8  # the right place is the smaller part
    assert measure("max_box_accuracy", beside, mask).value == 0
    assert measure("max_box_accuracy(parts='all')", beside, mask).detail["best"] == pytest.approx(
        max((1 / 3) ** d, 6**d / math.prod(shape))
    )


def test_one_threshold_for_all_images_is_less_than_one_for_each():
    mask = block((20, 20), (5, 5), (10, 10))
    low, high = 0.2 * block((20, 20), (5, 5), (10, 10)).double(), 0.2 * block((20, 20), (3, 3), (14, 14)).double()
    low[15:17, 15:17] = 1.0  # needs a low cut; the other a high one
    high[5:10, 5:10] = 1.0
    found = [measure("max_box_accuracy", a, mask) for a in (low, high)]
    assert [m.value for m in found] == [1.0, 1.0]
    both, at = max_box_accuracy_over(found, 0.5)
    assert both == 0.5
    assert 0 <= at < 1
    assert max_box_accuracy_over(found)[0] <= 1.0
    with pytest.raises(BadParameter):
        max_box_accuracy_over([])
