"""Curves: references written slowly, the peers where they are right, their faults, chance, and the proof that answers are shared."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadTarget
from pellucid.evidence.faithfulness.curves import judged, spread_of_mean, steps_of
from pellucid.evidence.metric import METRICS, read_metric
from pellucid.evidence.panel import Entry, Panel
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.params import Distance
from pellucid.run import Run
from pellucid.target import Logit, Probability

CURVES = ("deletion", "insertion", "pixel_flipping", "region_perturbation", "irof", "remove_top", "monotonicity")


class Linear(nn.Module):
    """Two classes, (-s, s), with s the sum of known weights times the image: every curve has a closed form."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        s = (x * self.w).flatten(1).sum(1)
        return torch.stack([-s, s], 1)


def curved(channels: int, dims: int = 2, seed: int = 0) -> nn.Module:
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(conv(channels, 6, 3, padding=1), nn.Tanh(), conv(6, 6, 3, padding=1), nn.ReLU(), pool(2), nn.Flatten(),
                             nn.Linear(6 * 2**dims, 3)).double().eval()  # fmt: skip


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def panel_of(net: nn.Module, x: Tensor, maps: dict[str, Tensor], *, target=None, spacing=None, seed: int = 0) -> Panel:
    grid = Grid(tuple(x.shape[1:])) if spacing is None else Grid.spaced(tuple(x.shape[1:]), spacing)
    entries = {n: Entry(m.double()) for n, m in maps.items()}
    return Panel(pl.Model(net), Image(x, grid), target or Logit(1), x, Run(seed=seed, chunk=16), entries)


def measure(text: str, panel: Panel) -> dict[str, Measurement]:
    return read_metric(text).measure(panel)


def score(net: nn.Module, x: Tensor, k: int = 1) -> float:
    with torch.no_grad():
        return float(net(x[None])[0, k])


# ---------------------------------------------------------------- steps, intervals, status
def test_steps_double_or_are_the_same_from_both_ends():
    assert steps_of(256, 5, "doubling") == (8, 16, 32, 64, 128)
    for n, steps in ((16, 16), (49, 10), (7, 3), (100, 8)):
        found = steps_of(n, steps, "equal")
        middle = [k for k in found if 2 * k == n + 1]  # an odd number has no half
        assert {n - k for k in found if k not in middle} == set(found) - set(middle)
        assert len(found) == min(n, steps) - 1


def test_interval_is_students_and_status_is_a_permutation_test():
    drawn = [0.1, 0.4, 0.3, 0.7]
    assert spread_of_mean(drawn) == pytest.approx(3.182446305284263 * np.std(drawn, ddof=1) / 2, rel=1e-12)  # t of 3 degrees of freedom
    assert math.isinf(spread_of_mean([0.3]))
    assert [judged(1.0, a, 19, 0.02) for a in (19, 18, 0)] == ["pass", "inconclusive", "inconclusive"]
    assert judged(0.01, 19, 19, 0.02) == "fail"


# ---------------------------------------------------------------- references
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 6), (1, 4, 4, 6)])
def test_the_curves_are_those_of_the_papers_written_slowly(shape):
    """RISE's area (sum less half the ends), Bach's curve, Samek's AOPC and ABPC, one sample after another, all channels together."""
    net, x = curved(shape[0], len(shape) - 1).double(), draw(*shape)
    a = draw(*shape[1:], seed=1) - 0.5
    panel = panel_of(net, x, {"a": a})
    n = a.numel()
    order = a.flatten().argsort(descending=True)

    def path(from_: Tensor, to: Tensor, order: Tensor) -> list[float]:
        now, found = from_.clone(), [score(net, from_)]
        for i in order:
            now.flatten(1)[:, i] = to.flatten(1)[:, i]
            found.append(score(net, now))
        return found

    black = torch.zeros_like(x)
    options = f"steps={n}, spacing='equal', orders=3, fill=0.0"
    down, up, least = path(x, black, order), path(black, x, order), path(x, black, order.flip(0))
    for name, want, area in (
        (f"deletion({options}, patch='1px')", down, -np.trapezoid(down) / n),
        (f"insertion({options}, patch='1px')", up, np.trapezoid(up) / n),
        (f"pixel_flipping({options})", down, -np.trapezoid(down) / n),
        (f"region_perturbation({options}, patch='1px')", down, np.mean(down[0] - np.array(down))),
        (f"region_perturbation({options}, patch='1px', less='least')", down, np.mean(np.array(least) - np.array(down))),
    ):
        m = measure(name, panel)["a"]
        assert m.detail["curve"] == pytest.approx(want, rel=1e-9), name
        assert m.detail["own"] == pytest.approx(area, rel=1e-9, abs=1e-12), name
        unit = m.detail["range"][1] - m.detail["range"][0] if "range" in m.unit else 1.0
        assert m.value == pytest.approx((area - np.mean(m.detail["random"])) / unit, rel=1e-9, abs=1e-12), name


def test_random_orders_are_curves_of_their_own_number():
    net, x = curved(1), draw(1, 8, 8)
    panel = panel_of(net, x, {"a": draw(8, 8, seed=1)})
    m = measure("deletion(patch='1px', steps=4, spacing='equal', orders=6, fill=0.0)", panel)["a"]
    assert len(set(m.detail["random"])) == 6
    assert m.low < m.value < m.high
    assert (m.high - m.low) / 2 == pytest.approx(spread_of_mean(m.detail["random"]) / (m.detail["range"][1] - m.detail["range"][0]))


def test_a_map_is_not_ahead_of_orders_that_do_exactly_as_well():
    """Where all samples count the same every order has the same curve: a tie is no win, and p says so."""
    panel = panel_of(Linear(torch.ones(1, 8, 8, dtype=torch.float64)), torch.ones(1, 8, 8, dtype=torch.float64), {"a": draw(8, 8, seed=1)})
    for name in ("deletion", "insertion"):
        m = measure(f"{name}(patch='1px', steps=4, spacing='equal', orders=19, fill=0.0)", panel)["a"]
        assert set(m.detail["random"]) == {m.detail["own"]}
        assert m.detail["p"] == 1.0
        assert m.status == "fail" and "ahead of 0 of 19" in m.text


def test_irof_is_the_area_over_the_curve_of_segments():
    net, x = curved(3), draw(3, 12, 12)
    a, labels = draw(12, 12, seed=1), (torch.arange(12)[:, None] // 4) * 4 + torch.arange(12)[None] // 3
    panel = panel_of(net, x, {"a": a}, target=Probability(1))
    m = METRICS["irof"](segments=labels, steps=99, orders=3).measure(panel)["a"]
    mean = x.flatten(1).mean(1)[:, None, None].expand_as(x)

    def f(image: Tensor) -> float:
        with torch.no_grad():
            return float(net(image[None]).softmax(1)[0, 1])

    pieces = sorted(range(12), key=lambda k: -float(a[labels == k].mean()))
    now, over = x.clone(), []
    for k in pieces:
        now = torch.where(labels == k, mean, now)
        over.append(1 - f(now) / f(x))
    assert m.detail["own"] == pytest.approx(np.mean(over), rel=1e-9)
    low = panel_of(net, x, {"a": a}, target=-1000.0 * Probability(1))
    assert METRICS["irof"](segments=labels).measure(low)["a"].status == "void"
    assert low.spent["forward"] == 1, "what cannot be measured is not asked"


def test_remove_top_is_the_mean_drop_over_fills():
    net, x = curved(2), draw(2, 10, 10)
    a = draw(10, 10, seed=1)
    panel = panel_of(net, x, {"a": a})
    m = measure("remove_top(share=0.1, draws=3, orders=5)", panel)["a"]
    top = a >= a.flatten().sort(descending=True).values[9]
    fills = pl.baseline.random(3).starts(panel.setting)
    assert float(fills[0].min()) >= 0 and float(fills[0].max()) <= 1 and not torch.equal(fills[0], fills[1])
    want = np.mean([score(net, x) - score(net, torch.where(top, f, x)) for f in fills])
    assert m.detail["own"] == pytest.approx(want, rel=1e-9)
    assert m.value == pytest.approx(want - np.mean(m.detail["random"]), rel=1e-9)


def test_monotonicity_counts_steps_of_what_speaks_for_the_score():
    w = torch.zeros(1, 8, 8, dtype=torch.float64)
    w[0, :4] = 1 + draw(4, 8)
    w[0, 4:] = -1 - draw(4, 8, seed=1)
    net, x = Linear(w), torch.ones(1, 8, 8, dtype=torch.float64)
    maps = {"true": w[0] * x[0], "wrong": -w[0], "magnitude": w[0].abs()}
    found = measure("monotonicity(patch='1px', steps=32, spacing='equal', fill=0.0)", panel_of(net, x, maps))
    assert found["true"].detail["own"] == 1.0 and found["true"].status == "pass"
    assert found["wrong"].detail["own"] == 0.0 and found["wrong"].status == "fail"
    assert found["magnitude"].detail["own"] < 1.0


# ---------------------------------------------------------------- the paper's digit test
class Digits(nn.Module):
    """Three classes, each the sum of its own part of the image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0, :4].sum((1, 2)), x[:, 0, 3:8].sum((1, 2)), 0.1 * x[:, 0].sum((1, 2))], 1)


def test_log_odds_switch_erases_what_speaks_for_one_class_and_not_for_the_other():
    x = 0.5 + 0.5 * draw(1, 8, 8).float()
    asked = [pl.ask("input_x_gradient", target=0), pl.ask("saliency", target=0)]
    grades = pl.grade(Digits(), x, asked, ["log_odds_switch(share=0.25, other=1)"], controls=("random", "edges"))
    m = grades["input_x_gradient", "log_odds_switch"]
    # rows 0 to 2 speak for class 0 alone, row 3 for both, the rest for class 1: the 16 largest samples of rows 0 to 2 go
    largest = x[0, :3].flatten().sort(descending=True).values[:16]
    assert m.detail["own"] == pytest.approx(float(largest.sum()), rel=1e-4)
    assert m.status == "pass" and m.detail["other"] == "1" and m.detail["shares"] == [0.0, 0.25]
    assert grades["edges", "log_odds_switch"].status == "void"
    assert grades["random", "log_odds_switch"].status != "pass"
    runner_up = pl.grade(Digits(), x, asked[:1], ["log_odds_switch"], controls=())
    assert runner_up["input_x_gradient", "log_odds_switch"].detail["other"] == "1"


def test_log_odds_switch_refuses_what_is_no_pair_of_classes():
    x = draw(1, 8, 8).float()
    with pytest.raises(BadTarget, match="maps of one class"):
        pl.grade(Digits(), x, ["saliency"], ["log_odds_switch"], target=Logit(0) - Logit(1), controls=())
    with pytest.raises(BadTarget, match="not the map's own"):
        pl.grade(Digits(), x, ["saliency"], ["log_odds_switch(other=0)"], target=0, controls=())
    with pytest.raises(BadTarget, match="two classes"):
        pl.grade(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), x, ["saliency"], ["log_odds_switch"], target=0, controls=())


# ---------------------------------------------------------------- peers
def test_curves_agree_with_quantus_where_it_is_right():
    """One channel, no ties, softmax off: PixelFlipping and RegionPerturbation give the same curves."""
    quantus = pytest.importorskip("quantus", reason="quantus is not installed")
    net, x = curved(1).float(), draw(1, 16, 16).float()
    a = draw(16, 16, seed=1).float()
    panel, black = panel_of(net, x, {"a": a}), float(x.min())  # their black is the image's lowest value
    given = {"model": net, "x_batch": x[None].numpy(), "y_batch": np.array([1]), "a_batch": a[None, None].numpy(), "softmax": False}
    plain = {"abs": False, "normalise": False, "perturb_baseline": "black", "disable_warnings": True, "display_progressbar": False}
    theirs = quantus.PixelFlipping(features_in_step=32, **plain)(**given)[0]
    ours = measure(f"pixel_flipping(steps=8, spacing='equal', orders=2, fill={black!r})", panel)["a"].detail["curve"]
    assert ours[1:] == pytest.approx(list(np.ravel(theirs)), rel=1e-5)
    theirs = quantus.RegionPerturbation(patch_size=4, regions_evaluation=16, order="morf", **plain)(**given)[0]
    ours = measure(f"region_perturbation(patch='4px', steps=16, spacing='equal', orders=2, fill={black!r})", panel)["a"].detail
    drop = [score(net, x) - s for s in ours["curve"][1:]]
    assert drop == pytest.approx(list(np.ravel(theirs)), rel=1e-4, abs=1e-6)


def test_channels_of_a_pixel_go_together_fault_11():
    """Quantus sorts the channels of a pixel apart: with one relevance for three channels they tie, and the curve is the sort's."""
    net, x = curved(3), draw(3, 8, 8)
    a = draw(8, 8, seed=1)
    panel, seen = panel_of(net, x, {"a": a}), []
    inner = panel.scores
    panel.scores = lambda inputs, model=None: inner((seen.append(i) or i for i in inputs), model)
    measure("pixel_flipping(steps=64, spacing='equal', orders=1, fill=0.0)", panel)
    for state in seen:
        gone = (state == 0).sum(0)
        assert set(gone.unique().tolist()) <= {0, 3}, "a pixel lost some of its channels"


def test_volumes_and_scores_other_than_softmax_work_faults_13_and_14():
    x, a = draw(1, 6, 6, 4), draw(6, 6, 4, seed=1)
    panel = panel_of(curved(1, 3), x, {"a": a}, spacing=(1.0, 1.0, 3.0))
    for name in CURVES:
        m = read_metric(name)(orders=3).measure(panel)["a"]
        assert m.detail["score"] == "logit(1)"
        assert m.status == "void" or math.isfinite(m.value)
    single = panel_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)).double(), draw(1, 8, 8), {"a": draw(8, 8, seed=1)}, target=Logit(0))
    curve = measure("pixel_flipping(orders=2, fill=0.0)", single)["a"].detail["curve"]
    assert len(set(curve)) == len(curve), "a single logit is followed as it is, and not as a softmax of one"


def test_scores_do_not_depend_on_mates_fault_8():
    net, x = curved(1), draw(1, 16, 16)
    a, b = draw(16, 16, seed=1), 1e6 * draw(16, 16, seed=2) ** 8
    for name in CURVES:
        metric = read_metric(name)(orders=4)
        alone, beside = metric.measure(panel_of(net, x, {"a": a})), metric.measure(panel_of(net, x, {"b": b, "a": a, "c": -b}))
        assert alone["a"].value == pytest.approx(beside["a"].value, rel=1e-9, nan_ok=True), name


# ---------------------------------------------------------------- truth, chance, geometry
@pytest.mark.parametrize("dims", [2, 3])
def test_the_true_map_beats_its_imitations(dims):
    shape = (32, 32) if dims == 2 else (16, 16, 8)
    w = torch.zeros(1, *shape, dtype=torch.float64)
    w[(0, *[slice(n // 4, n // 2) for n in shape])] = 1.0
    x = 0.5 + 0.1 * draw(1, *shape)
    true = (w * x)[0]
    shuffled = true.flatten()[torch.randperm(true.numel(), generator=torch.Generator().manual_seed(0))].view(shape)
    panel = panel_of(
        Linear(w), x, {"true": true, "shuffled": shuffled, "wrong": -true}, spacing=(1.0,) * 2 if dims == 2 else (1.0, 1.0, 2.0)
    )
    for name in CURVES:
        found = read_metric(name)(fill=0.0).measure(panel)
        if name != "monotonicity":
            assert found["true"].status == "pass", (name, found["true"].text)
            assert found["true"].value > max(found["shuffled"].value, found["wrong"].value), name
        assert found["wrong"].status in ("fail", "void") and found["shuffled"].status != "pass", name
        assert read_metric(name).facts.better == found["true"].direction == "up" and found["true"].reference in (0.0, None)


def test_maps_that_know_nothing_reach_chance_and_pass_as_often_as_said():
    net, x = curved(1), draw(1, 16, 16)
    g = torch.Generator().manual_seed(0)
    noise = {str(i): torch.randn(16, 16, generator=g) for i in range(60)}
    found = measure("deletion(steps=5, fill=0.0)", panel_of(net, x, noise)).values()
    gains = [m.value for m in found]
    reach = 2 * np.std(gains) / math.sqrt(len(gains)) + (next(iter(found)).high - next(iter(found)).value)
    assert abs(np.mean(gains)) < reach
    assert sum(m.status == "pass" for m in found) <= 8  # 5 % of 60 is 3; 8 or more have a chance below 2 %


def test_a_smooth_map_is_held_against_smooth_orders():
    net, x = curved(1), draw(1, 32, 32)
    far = sum((torch.arange(32.0).view(s) - 12) ** 2 for s in ((32, 1), (1, 32)))
    found = measure("deletion(orders=2, steps=5)", panel_of(net, x, {"smooth": (-far / 100).exp(), "rough": draw(32, 32, seed=1)}))
    assert found["smooth"].detail["smoothness"] == 3.0 and found["rough"].detail["smoothness"] == 0.0


def test_patches_of_a_length_are_cubes_in_the_patient():
    grid = Grid.spaced((30, 30, 10), (1.0, 1.0, 3.0))
    assert Patches.cut(grid, Distance(6.0, "mm")).shape == (5, 5, 5)
    assert Patches.cut(grid, Distance(5.0, "px")).shape == (6, 6, 2)
    uneven = Patches.cut(Grid((10,) * 2), Distance(4.0, "px"))
    assert uneven.shape == (2, 2) and uneven.index.flatten().bincount().tolist() == [25] * 4


def test_nothing_to_measure_is_void():
    x, a = draw(1, 8, 8), draw(8, 8, seed=1)
    blind = panel_of(Linear(torch.zeros(1, 8, 8, dtype=torch.float64)), x, {"a": a, "even": torch.ones(8, 8)})
    for name in CURVES:
        found = read_metric(name)(orders=2).measure(blind)
        for m in found.values():
            assert m.status == "void" and math.isnan(m.value) and m.text.endswith("."), name


# ---------------------------------------------------------------- shared answers
def test_four_metrics_of_ten_maps_cost_little_more_than_one():
    """The count of forward passes is the proof: the states of one curve are those of the others."""
    net, x = curved(1), draw(1, 16, 16)
    maps = {str(i): draw(16, 16, seed=i + 1) for i in range(10)}
    options = "patch='1px', steps=8, spacing='equal'"
    texts = [f"deletion({options})", f"insertion({options})", f"region_perturbation({options}, less='least')",
             "pixel_flipping(steps=8, spacing='equal')", f"monotonicity({options})"]  # fmt: skip

    def passes(names: list[str], texts: list[str]) -> int:
        panel = panel_of(net, x, {n: maps[n] for n in names})
        for text in texts:
            measure(text, panel)
        return panel.spent["forward"]

    every = list(maps)
    both, together = passes(every, [texts[2]]), passes(every, texts)
    # 7 inner states from either end, for 10 maps and 19 random orders of one smoothness, image and fill; one state more where the middle is odd
    assert both == together == 2 + 2 * 7 * (10 + 19)
    alone = passes(every, texts[:1])
    assert alone == 2 + 7 * (10 + 19)
    one_by_one = 10 * sum(passes(["0"], [t]) for t in texts)
    assert one_by_one == 10 * (6 * 7 * 20 + 5 * 2)
    assert one_by_one > 20 * together

    panel = panel_of(net, x, maps)
    measure(texts[0], panel)
    before = panel.spent["forward"]
    again = measure(texts[4], panel)["0"].detail["spent"]
    assert panel.spent["forward"] == before and again == {"shared": 2 + 7 * (10 + 19)}, "known answers are counted as shared"


def test_a_known_state_is_the_same_number():
    net, x = curved(1), draw(1, 16, 16)
    maps = {"a": draw(16, 16, seed=1)}
    fresh = measure("insertion(steps=6, spacing='equal')", panel_of(net, x, maps))["a"]
    panel = panel_of(net, x, maps)
    measure("region_perturbation(steps=6, spacing='equal', less='least')", panel)
    shared = measure("insertion(steps=6, spacing='equal')", panel)["a"]
    assert shared.value == pytest.approx(fresh.value, rel=1e-12)
    other = measure("insertion(steps=6, spacing='equal', fill=0.0)", panel)["a"]
    assert other.detail["curve"][0] != shared.detail["curve"][0], "another fill is another state"
