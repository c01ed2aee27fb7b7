"""Infidelity: Yeh's formula slowly, Captum on the same perturbations, and what Quantus and an unscaled number get wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evidence.test_faithfulness_correlation import bent, contributions, g, linear, panel_of

import pellucid as pl
from pellucid.evidence.faithfulness.infidelity import _Draw, _edges
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import read_metric
from pellucid.image import Image
from pellucid.run import Run


def draws_of(panel, change, reads, sigma=0.2):
    return _Draw(panel, change, reads, _edges(panel, None), sigma, torch.zeros_like(panel.x))


def changes(net, panel, draw, n):
    with torch.no_grad():
        return [float((net(panel.x[None]) - net((panel.x - taken)[None]))[0, 1]) for taken, _ in draw.each(n)]


@pytest.mark.parametrize("shape", [(1, 9, 7), (2, 5, 6, 4)])
@pytest.mark.parametrize("change", ["square", "gaussian"])
def test_it_is_the_papers_formula_over_the_perturbations_drawn(shape, change):
    net, x = bent(shape)
    a = torch.rand(shape[1:], generator=g(4), dtype=torch.float64)
    panel = panel_of(net, x, {"a": a})
    found = read_metric(f"infidelity(change={change!r}, draws=12, fill='black')").measure(panel)["a"]
    draw = draws_of(panel, change, "contribution")
    said = np.array([sum(float(v) for v in (share[0] * a).flatten()) for _, share in draw.each(12)])
    lost = np.array(changes(net, panel, draw, 12))
    beta = (said * lost).mean() / (said**2).mean()
    assert found.detail["infidelity"] == pytest.approx(((said - lost) ** 2).mean(), rel=1e-9)
    if beta > 0:
        assert found.detail["beta"] == pytest.approx(beta, rel=1e-9)
        assert found.detail["scaled"] == pytest.approx(((beta * said - lost) ** 2).mean(), rel=1e-9)
        assert found.value == pytest.approx(((beta * said - lost) ** 2).mean() / (lost**2).mean(), rel=1e-9)
    else:
        assert (found.value, found.detail["beta"]) == (1.0, 0.0)


@pytest.mark.parametrize("change", ["square", "gaussian"])
def test_it_agrees_with_captum_on_the_same_perturbations(change):
    metrics = pytest.importorskip("captum.metrics")
    net, x = bent((2, 8, 7))
    leaf = x[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[0, 1], leaf)
    panel = open_panel(pl.Model(net), Image(x), ["saliency"], target=1, run=Run(seed=2))
    own = panel.entries["saliency"]
    panel.entries["saliency"] = replace(own, map=replace(own.map, values=gradient[0]), relevance=gradient[0].sum(0))
    found = read_metric(f"infidelity(change={change!r}, reads='slope', draws=14, fill='black')").measure(panel)["saliency"]
    taken = torch.stack([t for t, _ in draws_of(panel, change, "slope").each(14)])

    def perturb(inputs):
        return taken, inputs - taken

    with torch.no_grad():
        plain, scaled = (
            float(metrics.infidelity(net, perturb, x[None], gradient, target=1, n_perturb_samples=14, normalize=n)) for n in (False, True)
        )
    assert found.detail["infidelity"] == pytest.approx(plain, rel=1e-6)
    assert found.detail["scaled"] == pytest.approx(scaled, rel=1e-6)


def test_scale_does_not_decide_but_the_sign_does():
    """captum#613: without the best scale, the number is that of the map's size."""
    net, x = linear((1, 12, 12))
    true = contributions(net, x)
    shuffled = true.flatten()[torch.randperm(144, generator=g(5))].view(12, 12)
    panel = panel_of(net, x, {"true": true, "large": 1e4 * true, "turned": -true, "shuffled": shuffled})
    for change in ("square", "gaussian"):
        found = read_metric(f"infidelity(change={change!r}, fill='black')").measure(panel)
        assert found["true"].value == pytest.approx(0, abs=1e-9)
        assert found["large"].value == pytest.approx(0, abs=1e-9)
        assert found["large"].detail["beta"] == pytest.approx(1e-4)
        assert found["large"].detail["infidelity"] > 1e6 > found["large"].detail["scaled"]
        assert (found["turned"].value, found["turned"].status) == (1.0, "fail")
        assert found["shuffled"].value > 0.6
        assert (found["true"].status, found["shuffled"].status != "pass") == ("pass", True)


def test_one_square_goes_at_a_time_and_each_draw_is_another():
    """Quantus 0.6.0 lets patches accumulate, repeats itself for every sample, and raises where the patch does not divide the image (fault 9)."""
    net, x = bent((1, 11, 13))
    panel = panel_of(net, x, {"a": torch.rand(11, 13, dtype=torch.float64)})
    draw = _Draw(panel, "square", "contribution", (4, 4), 0.2, torch.zeros_like(x))
    shares = [s[0] for _, s in draw.each(60)]
    assert max(float(s.sum()) for s in shares) == 16
    assert len({tuple(s.flatten().tolist()) for s in shares}) > 40
    met = torch.stack([s for _, s in draw.each(4000)]).mean((0, 1))
    assert float(met.max() / met.min()) < 1.6, "corners are met as often as the middle"


def test_squares_are_cubes_in_the_patient():
    net, x = linear((1, 6, 24, 24))
    true = contributions(net, x)
    panel = panel_of(net, x, {"true": true}, spacing=(4.0, 1.0, 1.0))
    found = read_metric("infidelity(draws=20, edge='8mm', fill='black')").measure(panel)["true"]
    assert found.detail["edges"] == [2, 8, 8]
    assert found.value == pytest.approx(0, abs=1e-9)
