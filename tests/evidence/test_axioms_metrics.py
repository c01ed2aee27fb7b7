"""Axioms: networks on which they hold or fail in closed form, the peers' faults, and one engine for both ways in."""

from dataclasses import replace

import pytest
import torch
from tests.evidence.toy import learned, positives
from torch import Tensor, nn

import pellucid as pl
from pellucid.evidence import examine
from pellucid.evidence.axioms.symmetry import mirrored
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import METRICS
from pellucid.image import Image
from pellucid.probe.ledger import untouched
from pellucid.run import Run


def graded(net, x: Tensor, maps, name: str, controls=(), **params):
    found = pl.grade(net, x, maps, [METRICS[name](**params)], target=1, controls=controls)
    return {m: value for (m, _), value in found.measurements.items()}


class Halves(nn.Module):
    """The score hears the left half alone; a wide reading of the image that comes to nothing stands beside it."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        s = (x[..., :half] ** 2).flatten(1).sum(1) + 0.0 * x.flatten(1).sum(1)
        return torch.stack([-s, s], 1)


# ---------------------------------------------------------------- sums
def test_fault_7_an_exactly_complete_map_is_complete():
    """Quantus compares floats for equality after normalizing: False on a linear network, whose gap is 8e-7."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    x = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = graded(net, x, ["integrated_gradients(steps=4)", "saliency"], "completeness_gap")
    assert found["integrated_gradients"].status == "pass" and found["integrated_gradients"].value < 1e-5
    assert found["saliency"].status == "void", "a slope promises no sum"


def test_metric_and_examination_say_the_same_of_one_map():
    net, x = learned(), positives(learned(), 1, 3)[0]
    why = pl.explain(net, x, 1, method="integrated_gradients", steps=4)
    panel = open_panel(pl.Model(net), Image(x), why, run=Run())
    with untouched(net):
        found = METRICS["completeness_gap"].measure(panel)["integrated_gradients"]
    checked = examine(net, x, why)["completeness_gap"]
    assert found.value == pytest.approx(checked.value, rel=1e-6) and found.text == checked.text and found.detail["from"] == "asked anew"
    double = replace(why, values=2 * why.values)
    panel = open_panel(pl.Model(net), Image(x), double, run=Run())
    with untouched(net):
        assert METRICS["completeness_gap"].measure(panel)["integrated_gradients"].status == "fail"


@pytest.mark.parametrize("dims", [2, 3])
def test_what_biases_take_counts_as_kept(dims):
    net, x = learned(dims), positives(learned(dims), 1, 3, dims)[0]
    why = pl.explain(net, x, 1, method="lrp")
    panel = open_panel(pl.Model(net), Image(x), why, run=Run())
    with untouched(net):
        found = METRICS["conservation"].measure(panel)["lrp"]
    assert found.status == "pass" and found.value < 1e-4
    assert found.detail["sum"] + sum(found.detail["absorbed"].values()) == pytest.approx(why.score, rel=1e-4)
    assert abs(found.detail["sum"] - why.score) > 1e-3 * abs(why.score), "without the absorbed it is not the score"
    panel = open_panel(pl.Model(net), Image(x), replace(why, values=why.values * 0.5), run=Run())
    with untouched(net):
        assert METRICS["conservation"].measure(panel)["lrp"].status == "fail"


# ---------------------------------------------------------------- input invariance
@pytest.mark.parametrize("dims", [2, 3])
def test_a_shift_that_the_network_undoes(dims):
    net, x = learned(dims), positives(learned(dims), 1, 3, dims)[0]
    model = pl.Model(net, normalize=pl.Normalize(0.4, 0.3))
    maps = {
        "slope": "saliency",
        "times the image": "input_x_gradient",
        "from zero": "integrated_gradients(steps=4)",
        "from black": pl.integrated_gradients(baseline="black", steps=4),
    }
    found = graded(model, x, maps, "input_invariance")
    assert found["slope"].status == found["from black"].status == "pass"
    assert found["times the image"].status == found["from zero"].status == "fail", "Kindermans et al. 2017, sections 3 and 4"
    assert found["slope"].detail["shift"] == pytest.approx(-1.0)


def test_the_shifted_network_answers_as_before_though_its_first_layer_pads():
    """Compensating in the first bias, as by the position of a layer, is wrong where zeros are padded after the shift."""
    from pellucid.evidence.axioms.input_invariance import _undoing

    net, x = learned(), positives(learned(), 1, 3)[0]
    twin = _undoing(pl.Model(net), 2.0)
    with torch.no_grad():
        assert torch.allclose(twin.forward(x[None] + 2.0), net(x[None]), atol=1e-4)
        first = net[0]
        biased = nn.functional.conv2d(x[None] + 2.0, first.weight, first.bias - 2.0 * first.weight.sum((1, 2, 3)), 2, 2)
        assert not torch.allclose(biased, first(x[None]), atol=1e-2)


# ---------------------------------------------------------------- symmetry
def test_mirrored_networks_give_mirrored_maps():
    net, x = learned(), positives(learned(), 1, 3)[0]
    found = graded(net, x, ["saliency", "grad_cam", "occlusion(window='8px')", "lrp"], "symmetry", ("random", "edges"), axes=1)
    assert all(m.value < 1e-4 and m.status == "pass" for n, m in found.items() if n != "random")
    assert found["random"].status == "fail"
    volume = graded(learned(3), positives(learned(3), 1, 3, 3)[0], ["saliency", "grad_cam"], "symmetry", axes=[0, 2])
    assert all(m.status == "pass" for m in volume.values())
    before = len(net._forward_pre_hooks)
    twin = mirrored(net, [-1])
    assert len(net._forward_pre_hooks) == before and next(twin.parameters()) is next(net.parameters())
    with torch.no_grad():
        assert torch.equal(twin(x[None].flip(-1)), net(x[None]))


def test_a_method_that_favors_a_side_is_found():
    from pellucid.method import GRADIENTS, REGISTRY, SIGNED, Cite, Cost, method

    def leaning(probe, x):
        """Slopes, more of them to the right."""
        return probe.map(probe.local().gradient * torch.linspace(0, 1, x.shape[-1]))

    made = method(cite=Cite("nobody", 2026, "", ""), asks=GRADIENTS, gives=SIGNED, cost=lambda **_: Cost(1, 1))(leaning)
    try:
        net, x = learned(), positives(learned(), 1, 3)[0]
        assert graded(net, x, [made], "symmetry", axes=1)["leaning"].status == "fail"
        assert graded(net, x, [made], "symmetry", axes=0)["leaning"].status == "pass"
    finally:
        del REGISTRY["leaning"]


# ---------------------------------------------------------------- sensitivity zero
@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 8, 8, 8)])
def test_parts_that_never_move_the_score(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = graded(Halves(), x, ["saliency", "occlusion(window='1px')"], "sensitivity_zero", ("random", "center"))
    parts = found["saliency"].detail
    assert parts["dead"] == parts["parts"] // 2 and parts["missed"] == 0
    assert found["saliency"].value == pytest.approx(0, abs=1e-6) and found["saliency"].status == found["occlusion"].status == "pass"
    assert found["random"].value == pytest.approx(1, abs=0.15) and found["random"].status == found["center"].status == "fail"
    assert found["random"].detail["non_sensitivity"] == parts["dead"], "the paper's count"


def test_a_network_that_does_not_look_and_one_that_sees_all():
    class Blind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[0.0, 1.0]]).expand(len(x), 2) + 0 * x.flatten(1).sum(1, keepdim=True)

    class Sees(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            s = (x**2).flatten(1).sum(1)
            return torch.stack([-s, s], 1)

    x = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert graded(Blind(), x, ["saliency"], "sensitivity_zero", ("random",), settings=1)["random"].status == "void"
    assert graded(Sees(), x, ["saliency"], "sensitivity_zero", settings=1)["saliency"].status == "inconclusive"
