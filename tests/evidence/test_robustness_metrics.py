"""Robustness: the papers' formulas, the peers where they are right, their faults, and what a cheap imitation must not get past."""

import math

import numpy as np
import pytest
import torch
from tests.evidence.toy import fresh, learned, positives
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import METRICS
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness import replicates, reproducibility
from pellucid.evidence.robustness.agreement import Sums
from pellucid.evidence.robustness.ball import noises
from pellucid.evidence.robustness.changes import unrelated
from pellucid.evidence.robustness.fragility import kept
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.similarity import spearman
from pellucid.probe.ledger import untouched
from pellucid.run import Run


class Squares(nn.Module):
    """The score is ``sum w x^2``: its gradient is ``2 w x``, so that maps under noise have a closed form."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        s = (self.w * x * x).flatten(1).sum(1)
        return torch.stack([-s, s], 1)


def panel_of(net: nn.Module, x: Tensor, maps=("saliency",), grid: Grid | None = None, **kwargs) -> Panel:
    return open_panel(pl.Model(net), Image(x, grid or Grid(tuple(x.shape[1:]))), list(maps), target=1, run=Run(), **kwargs)


def measured(panel: Panel, name: str, **params):
    with untouched(panel.model.module):
        return METRICS[name](**params).measure(panel)


def image(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---------------------------------------------------------------- noise in a ball
@pytest.mark.parametrize("shape", [(1, 9, 7), (1, 5, 6, 4)])
def test_sensitivity_and_lipschitz_are_the_papers_formulas(shape):
    x = image(shape)
    net = Squares(shape)
    panel = panel_of(net, x)
    e = list(noises(panel, 0.1, "absolute", 6))
    a = 2 * net.w.detach() * x
    far = [float((2 * net.w.detach() * (x + d) - a).norm()) for d in e]
    found = measured(panel, "max_sensitivity", radius=0.1, of="absolute", samples=6)["saliency"]
    assert found.value == pytest.approx(max(far) / float(a.norm()), rel=1e-9)
    assert found.detail["average"] == pytest.approx(sum(far) / 6 / float(a.norm()), rel=1e-9)
    slope = measured(panel, "local_lipschitz", radius=0.1, of="absolute", samples=6)["saliency"]
    assert slope.value == pytest.approx(max(f / float(d.norm()) for f, d in zip(far, e, strict=True)), rel=1e-9)
    assert slope.detail["relative"] == pytest.approx(slope.value * float(x.norm()) / float(a.norm()), rel=1e-9)
    assert panel.spent["maps"] == 6, "both look into one ball"
    assert max(float(d.abs().max()) for d in e) <= 0.1 and min(float(d.min()) for d in e) < -0.08, "noise on both sides"


def test_a_map_times_two_rises_twice_as_steeply_and_relatively_as_much():
    x, net, twice = image((1, 8, 8)), Squares((1, 8, 8)), Squares((1, 8, 8))
    with torch.no_grad():
        twice.w.mul_(2)
    one, two = (measured(panel_of(n, x), "local_lipschitz", samples=3)["saliency"] for n in (net, twice))
    assert two.value == pytest.approx(2 * one.value, rel=1e-9)
    assert two.detail["relative"] == pytest.approx(one.detail["relative"], rel=1e-9)


def test_a_radius_follows_the_range_and_twice_the_map_is_as_steady():
    x = 500 * image((1, 8, 8))
    wide, narrow = panel_of(Squares((1, 8, 8)), x), panel_of(Squares((1, 8, 8)), x / 500)
    a, b = (measured(p, "max_sensitivity", radius=0.05, samples=3)["saliency"].value for p in (wide, narrow))
    assert a == pytest.approx(b, rel=0.02)


def test_sensitivity_agrees_with_captum():
    metrics = pytest.importorskip("captum.metrics")
    x, net = image((1, 8, 8)), Squares((1, 8, 8))
    panel = panel_of(net, x)
    e = torch.stack(list(noises(panel, 0.02, "absolute", 10)))

    def gradient(inputs):
        inputs = (inputs[0] if isinstance(inputs, tuple) else inputs).detach().requires_grad_(True)
        with torch.enable_grad():
            return (torch.autograd.grad(net(inputs)[:, 1].sum(), inputs)[0],)

    theirs = float(
        metrics.sensitivity_max(
            gradient, x[None], perturb_func=lambda v: (v[0] + e,) if isinstance(v, tuple) else v + e, n_perturb_samples=10
        )
    )
    assert measured(panel, "max_sensitivity", radius=0.02, of="absolute")["saliency"].value == pytest.approx(theirs, rel=1e-6)


def test_lipschitz_agrees_with_quantus():
    quantus = pytest.importorskip("quantus")
    x, net = image((1, 8, 8), dtype=torch.float32), Squares((1, 8, 8), torch.float32)
    panel = panel_of(net, x)
    e = iter(list(noises(panel, 0.05, "absolute", 5)))

    def explain(model, inputs, targets, **_):
        v = torch.as_tensor(inputs).float().requires_grad_(True)
        return torch.autograd.grad(net(v)[:, 1].sum(), v)[0].numpy()

    def shaken(arr, indices, **_):
        return arr + next(e).numpy().reshape(arr.shape)

    theirs = quantus.LocalLipschitzEstimate(
        nr_samples=5, abs=False, normalise=False, perturb_func=shaken, disable_warnings=True, return_nan_when_prediction_changes=False
    )
    (value,) = theirs(model=net.eval(), x_batch=x[None].numpy(), y_batch=np.array([1]), a_batch=None, explain_func=explain)
    assert measured(panel, "local_lipschitz", radius=0.05, of="absolute", samples=5)["saliency"].value == pytest.approx(
        float(value), rel=1e-3
    )


def test_the_level_of_an_unrelated_map_is_that_of_shuffled_ones():
    a = torch.randn(900, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.7
    g = torch.Generator().manual_seed(1)
    drawn = [float((a[torch.randperm(900, generator=g)] - a).norm() / a.norm()) for _ in range(20)]
    assert unrelated(a) == pytest.approx(sum(drawn) / 20, rel=0.02)


# ---------------------------------------------------------------- translations
def test_a_network_that_follows_has_a_map_that_follows():
    class Sum(nn.Module):
        def __init__(self, follows: bool) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(12, 10) if follows else torch.randn(12, 10, generator=torch.Generator().manual_seed(0)))

        def forward(self, x: Tensor) -> Tensor:
            s = (self.w * x[:, 0] ** 2).flatten(1).sum(1)
            return torch.stack([-s, s], 1)

    x = image((1, 12, 10), dtype=torch.float32)
    follows, stays = (measured(panel_of(Sum(f), x), "continuity")["saliency"] for f in (True, False))
    assert follows.value == pytest.approx(0, abs=1e-6) and follows.status == "pass"
    assert stays.status != "pass" and stays.value > 0.5
    assert follows.detail["variation"] > 0, "the paper's number holds that moving along is change"


def test_fault_12_continuity_has_a_number_where_the_answer_turns():
    """Quantus writes np.NaN where a prediction changes, which numpy 2 no longer has."""
    net, x = learned(), positives(learned(), 1, 3)[0]
    found = measured(panel_of(net, x, ["grad_cam"]), "continuity", step="6px", steps=1)["grad_cam"]
    assert math.isfinite(found.value) and found.detail["score_moved"] > 0


def test_a_step_is_a_length_in_the_patient():
    x = image((1, 12, 12, 6), dtype=torch.float32)
    panel = panel_of(Squares((1, 12, 12, 6), torch.float32), x, grid=Grid.spaced((12, 12, 6), (1.0, 1.0, 3.0)))
    assert measured(panel, "continuity", step="3mm", steps=2)["saliency"].detail["shifts"] == 12


# ---------------------------------------------------------------- replicates
def test_the_intraclass_correlation_is_shrout_and_fleiss():
    """Table 2 and 4 of Shrout and Fleiss 1979: six targets, four judges, ICC(2,1) = .29."""
    judges = torch.tensor([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]]).double()
    sums = Sums()
    for j in judges:
        sums.add(j)
    assert sums.icc == pytest.approx(0.2898, abs=5e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_steady_maps_repeat_and_chance_does_not(dims):
    net, x = learned(dims), positives(learned(dims), 1, 3, dims)[0]
    found = pl.grade(net, x, ["grad_cam"], [METRICS["repeatability"](scans=3)], target=1, controls=("random", "center"))
    assert found["grad_cam", "repeatability"].value > 0.75 and found["center", "repeatability"].value > 0.95
    assert abs(found["random", "repeatability"].value) < 0.15 and found["random", "repeatability"].status == "fail"
    m = found["grad_cam", "repeatability"]
    assert m.low <= m.value <= m.high and m.detail["icc"] > 0.75
    same = pl.grade(net, x, ["grad_cam"], [METRICS["repeatability"](scans=2, noise=0.0, shift="0px")], target=1, controls=())
    assert same["grad_cam", "repeatability"].value == pytest.approx(1) and same["grad_cam", "repeatability"].detail["icc"] == pytest.approx(
        1
    )


def test_replicates_given_by_hand_are_laid_over_each_other():
    net, x = learned(), positives(learned(), 1, 3)[0]
    first = Image(x, Grid.spaced((32, 32), (1.0, 1.0)))
    again = Image(x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), first.grid)
    other = Image(positives(net, 3, 9)[2], first.grid)
    near, far = (replicates(net, [first, b], ["grad_cam", "saliency"], target=1) for b in (again, other))
    assert near["grad_cam"].status == "pass" and near["saliency"].value > far["saliency"].value + 0.3
    with pytest.raises(BadParameter, match="two scans"):
        replicates(net, [first], "saliency")


def test_networks_of_one_task_agree_more_than_an_untrained_one():
    x, others = positives(learned(), 1, 3)[0], positives(learned(), 2, 17)
    nets = {"seed 0": learned(), "seed 0 again": learned(), "untrained": fresh(5)}
    found = reproducibility(nets, x, ["grad_cam", "saliency"], target=1, others=others)["grad_cam"]
    pairs = {(p["a"], p["b"]): p["rank"] for p in found.detail["pairs"]}
    assert pairs["seed 0", "seed 0 again"] == pytest.approx(1) and pairs["seed 0", "untrained"] < 0.7
    assert found.value == pytest.approx(sum(pairs.values()) / 3) and found.low < found.value < found.high
    assert len(found.detail["floor"]) == 9 and found.reference == pytest.approx(sum(found.detail["floor"]) / 9)
    with pytest.raises(BadParameter, match="two networks"):
        reproducibility([learned()], x, "saliency")


# ---------------------------------------------------------------- attacks
def test_an_attack_finds_more_than_noise_and_keeps_the_answer():
    net, x = learned(), positives(learned(), 1, 3)[0]
    found = measured(panel_of(net, x, ["saliency", "integrated_gradients(steps=4)", "grad_cam"]), "fragility")
    for m in found.values():
        assert m.value <= m.reference, "the search is worse than chance"
        assert m.detail["score_moved"] <= m.detail["score_may_move"]
    assert found["saliency"].value < found["saliency"].reference
    assert found["grad_cam"].value > found["integrated_gradients"].value


def test_the_top_that_is_kept_is_an_intersection():
    a = torch.arange(20.0)
    assert kept(a, a, 0.2) == 1 and kept(a, -a, 0.2) == 0 and kept(a, a.roll(2), 0.2) == 0.5


def test_a_map_that_follows_the_answer_correlates_and_noise_does_not():
    net, x = learned(), positives(learned(), 1, 3)[0]
    found = pl.grade(net, x, ["grad_cam"], ["prediction_saliency_correlation"], target=1, controls=("random", "center"))
    own, noise = found["grad_cam", "prediction_saliency_correlation"], found["random", "prediction_saliency_correlation"]
    assert own.value > 0.5 and own.status == "pass" and own.low > 0
    assert noise.status != "pass" and noise.low < 0 < noise.high
    assert found["center", "prediction_saliency_correlation"].status == "void"
    want = np.corrcoef(own.detail["answer_moved"], own.detail["map_moved"])[0, 1]
    assert own.value == pytest.approx(want, rel=1e-9)
    assert own.detail["rank_correlation"] == pytest.approx(
        spearman(torch.tensor(own.detail["answer_moved"]), torch.tensor(own.detail["map_moved"]))
    )
