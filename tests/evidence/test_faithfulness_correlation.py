"""Faithfulness correlation and sensitivity-n: the papers' formulas slowly, Quantus where it is right, and what ten maps cost."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.evidence.faithfulness.subsets import drawn, going_along
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import read_metric
from pellucid.evidence.panel import Entry
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.run import Run


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(shape, seed=0):
    """A score that is a sum over samples: its contributions to a black image are known in closed form."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(net[1].weight.shape, generator=g(seed), dtype=torch.float64))
    return net, torch.rand(shape, generator=g(seed + 1), dtype=torch.float64)


def bent(shape, seed=0):
    """Not a sum: tanh of pieces."""
    torch.manual_seed(seed)
    conv = (nn.Conv2d if len(shape) == 3 else nn.Conv3d)(shape[0], 4, 3, padding=1)
    net = nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(4 * int(np.prod(shape[1:])), 2)).double().eval()
    return net, torch.rand(shape, generator=g(seed), dtype=torch.float64)


def panel_of(net, x, maps, spacing=None, **kw):
    image = Image(x, Grid.spaced(tuple(x.shape[1:]), spacing)) if spacing else Image(x)
    panel = open_panel(pl.Model(net), image, ["saliency"], target=1, run=Run(seed=2), **kw)
    panel.entries = {n: Entry(r.double()) for n, r in maps.items()}
    panel.spent.clear()
    return panel


def contributions(net, x):
    return (net[1].weight[1].detach().view(x.shape) * x).sum(0)


@pytest.mark.parametrize("shape", [(1, 9, 7), (2, 8, 8), (1, 5, 6, 4)])
def test_the_correlation_is_the_papers_over_the_subsets_drawn(shape):
    net, x = bent(shape)
    a = torch.randn(shape[1:], generator=g(4), dtype=torch.float64)
    panel = panel_of(net, x, {"a": a})
    found = read_metric("faithfulness_correlation(subsets=20, share=0.3, parts='samples', fill='black')").measure(panel)["a"]
    n = a.numel()
    said, lost = [], []
    for subset in drawn(panel, "samples", n, round(0.3 * n), 20):
        gone = x.clone().flatten(1)
        gone[:, subset] = 0.0
        said.append(sum(float(a.flatten()[i]) for i in subset))
        lost.append(float((net(x[None]) - net(gone.view(x.shape)[None]))[0, 1].detach()))
    assert found.value == pytest.approx(np.corrcoef(said, lost)[0, 1], abs=1e-10)
    assert len({tuple(s.tolist()) for s in drawn(panel, "samples", n, 3, 20)}) > 15, "subsets are drawn anew"


def test_it_agrees_with_quantus_on_the_same_subsets(monkeypatch):
    quantus = pytest.importorskip("quantus")
    net, x = bent((1, 8, 8))
    x[0, 0, 0] = 0.0  # black is the image's lowest value there
    a = torch.randn((8, 8), generator=g(4), dtype=torch.float64)
    panel = panel_of(net, x, {"a": a})
    ours = read_metric("faithfulness_correlation(subsets=16, share=0.25, parts='samples', fill='black')").measure(panel)["a"].value
    subsets = iter([s.numpy() for s in drawn(panel, "samples", 64, 16, 16)])
    monkeypatch.setattr(np.random, "choice", lambda *args, **kwargs: next(subsets))
    peer = quantus.FaithfulnessCorrelation(
        nr_runs=16, subset_size=16, abs=False, normalise=False, perturb_baseline="black", disable_warnings=True, return_aggregate=False
    )
    theirs = peer(
        net.float(), x[None].float().numpy(), np.array([1]), a[None, None].float().numpy(), channel_first=True, device="cpu", softmax=False
    )[0]
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_true_contributions_reach_one_and_other_maps_chance():
    net, x = linear((2, 12, 12))
    true = contributions(net, x)
    shuffled = true.flatten()[torch.randperm(144, generator=g(5))].view(12, 12)
    maps = {"true": true, "turned": -true, "shuffled": shuffled, "scaled": 1e-6 * true}
    maps |= {f"random {k}": torch.rand(12, 12, generator=g(k + 50), dtype=torch.float64) for k in range(20)}
    panel = panel_of(net, x, maps)
    for name in ("faithfulness_correlation(fill='black')", "sensitivity_n(fill='black')"):
        found = read_metric(name).measure(panel)
        assert found["true"].value == pytest.approx(1, abs=1e-6)
        assert found["scaled"].value == pytest.approx(1, abs=1e-6)
        assert found["turned"].value == pytest.approx(-1, abs=1e-6)
        assert (found["true"].status, found["turned"].status) == ("pass", "fail")
        assert found["shuffled"].value < 0.4
        values = [found[f"random {k}"].value for k in range(20)]
        assert abs(np.mean(values)) < 0.12, "maps that know nothing are at chance on average"


def test_sensitivity_n_draws_random_subsets_of_each_size_and_knows_where_a_map_adds_up():
    """Quantus 0.6.0 takes cumulative tops of the map instead and keeps the first batch alone (fault 5)."""
    net, x = bent((1, 9, 8))
    a = torch.randn((9, 8), generator=g(4), dtype=torch.float64)
    panel = panel_of(net, x, {"a": a})
    found = read_metric("sensitivity_n(sizes=4, subsets=15, parts='samples', fill='black')").measure(panel)["a"]
    assert found.detail["sizes"] == [1, 4, 15, 58]
    want = []
    for n in found.detail["sizes"]:
        said, lost = [], []
        for subset in drawn(panel, "samples", 72, n, 15):
            assert len(set(subset.tolist())) == n
            gone = x.clone().flatten(1)
            gone[:, subset] = 0.0
            said.append(float(a.flatten()[subset].sum()))
            lost.append(float((net(x[None]) - net(gone.view(x.shape)[None]))[0, 1].detach()))
        want.append(np.corrcoef(said, lost)[0, 1])
    assert found.detail["curve"] == pytest.approx(want, abs=1e-10)
    assert found.value == pytest.approx(np.mean(want), abs=1e-10)
    tops = a.flatten().argsort(descending=True)
    assert not torch.equal(next(drawn(panel, "samples", 72, 15, 1)).sort().values, tops[:15].sort().values)
    one = read_metric("sensitivity_n(n=15, subsets=15, parts='samples', fill='black')").measure(panel)["a"]
    assert one.value == pytest.approx(want[2], abs=1e-10)


def test_patches_are_equal_in_the_patient():
    net, x = linear((1, 8, 32, 32))
    panel = panel_of(net, x, {"true": contributions(net, x)}, spacing=(4.0, 1.0, 1.0))
    found = read_metric("faithfulness_correlation(subsets=30, fill='black')").measure(panel)["true"]
    assert (found.detail["parts"], found.value) == (512, pytest.approx(1, abs=1e-6))


def test_a_flat_score_and_a_flat_map_are_void():
    net, x = linear((1, 8, 8))
    with torch.no_grad():
        net[1].weight.zero_()
    maps = {"a": torch.rand(8, 8), "flat": torch.ones(8, 8), "nan": torch.full((8, 8), float("nan"))}
    for name in ("faithfulness_correlation(subsets=8)", "sensitivity_n(subsets=8)", "infidelity(draws=8)"):
        found = read_metric(name).measure(panel_of(net, x, maps))
        assert [m.status for m in found.values()] == ["void"] * 3
        assert all(np.isnan(m.value) for m in found.values())


@pytest.mark.parametrize("name", ["faithfulness_correlation(subsets=30)", "sensitivity_n(subsets=10)", "infidelity(draws=30)"])
@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 6, 8, 8)])
def test_ten_maps_cost_as_many_passes_as_one(name, shape):
    net, x = bent(shape)
    spent, alone = [], []
    many = {f"m{k}": torch.randn(shape[1:], generator=g(k), dtype=torch.float64) for k in range(10)}
    for maps in ({"m0": many["m0"]}, many):
        panel = panel_of(net, x, maps)
        found = read_metric(name).measure(panel)
        spent.append(panel.spent["forward"])
        alone.append(found["m0"].value)
    assert spent[0] == spent[1] > 0
    assert alone[0] == pytest.approx(alone[1], rel=1e-9), "a map's grade does not depend on its company"


def test_a_second_metric_with_the_same_subsets_asks_nothing():
    net, x = bent((1, 12, 12))
    panel = panel_of(net, x, {"a": torch.randn(12, 12, generator=g(1), dtype=torch.float64)})
    read_metric("faithfulness_correlation(subsets=20, share=0.25)").measure(panel)
    before = panel.spent["forward"]
    read_metric("sensitivity_n(n=36, subsets=20)").measure(panel)
    assert panel.spent["forward"] == before


def test_the_interval_of_a_correlation_holds_it():
    """Fisher's z for comparison: 20 rows, r 0.7, each end within 0.15 of his on average, and 86 of 100 at least hold r."""
    held, off = 0, []
    for seed in range(100):
        a = torch.randn(20, generator=g(seed), dtype=torch.float64).numpy()
        b = 0.7 * a + math.sqrt(1 - 0.49) * torch.randn(20, generator=g(seed + 500), dtype=torch.float64).numpy()
        _, found = going_along([a], [b])
        held += found.low <= 0.7 <= found.high
        z = math.atanh(found.value)
        off += [abs(found.low - math.tanh(z - 1.96 / math.sqrt(17))), abs(found.high - math.tanh(z + 1.96 / math.sqrt(17)))]
    assert held >= 86
    assert sum(off) / len(off) < 0.15
