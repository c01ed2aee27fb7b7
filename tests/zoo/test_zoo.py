"""Every method on public networks, at reduced sizes: it runs and keeps what it declares, or refuses by name where the table says so.

Methods of few passes meet every network; those of many passes the three light ones. `make zoo` runs all of it in full.
"""

import pytest
import torch

import pellucid as pl
from pellucid.method import REGISTRY, Asks
from pellucid.method import methods as registered

pytest.importorskip("torchvision")
pytest.importorskip("monai")
from tests.zoo.cells import bound, claims_a_sum, key, measure, measure_twin, passes_of
from tests.zoo.networks import PEAKED, ZOO, build, model, picture

FEW = 6  # passes, forward and backward, up to which a method meets every network
LIGHT = ("mobilenet_v3_small", "vit_3d", "unet_3d")  # a 2D net with squeeze and excitation, attention, and a dense output
EXACT = 1e-6  # of the change or the score, where no integral is taken by steps
STEPWISE = {"blur_ig", "conductance", "integrated_gradients"}  # their gap is a matter of steps, which are few here
ATTENTION = {e.name for e in ZOO.values() if e.attention}

# which cells refuse, and the words by which they do; every other cell runs. "_3d" nets are so small here that their last map is one voxel
WINDOWED = {"swin_t", "swin_t_peaked"}
PLAIN = {
    "alexnet",
    "vgg16",
    "resnet50",
    "densenet121",
    "inception_v3",
    "resnet18_3d",
    "densenet121_3d",
}  # no gates, attention, or norms but BatchNorm
REFUSES: dict[str, tuple[str, set[str]]] = {
    "cam": ("behind global average pooling and one linear layer", set(ZOO) - {"resnet50", "densenet121", "efficientnet_b0", "swin_t", "swin_t_peaked"}),
    "attention_rollout": ("attention", set(ZOO) - ATTENTION | WINDOWED),
    "transformer_attribution": ("needs attention", set(ZOO) - ATTENTION),
    "pattern_net": ("a rule of pattern_net for every operation", set(ZOO) - PLAIN),
    "pattern_attribution": ("a rule of pattern_attribution for every operation", set(ZOO) - PLAIN),
    "xgrad_cam": ("activations such as a ReLU gives", {"densenet121", "vit_b_16_peaked", "efficientnet_b0_3d"}),
    "grad_cam_plus_plus": ("activations such as a ReLU gives", {"vit_b_16_peaked", "vit_3d_peaked", "efficientnet_b0_3d"}),
}  # fmt: skip
# rules of shares of at least 0 forget the class where dense layers follow each other (Sixt, Granz, Landgraf 2020, "When explanations lie")
FORGETS = {("excitation_backprop", "alexnet"), ("excitation_backprop", "inception_v3"), ("excitation_backprop", "vgg16")}
TWIN_LIMIT = {"lrp": 1e-4, "transformer_attribution": 1e-4}  # their stabilizer moves a little between unlike terms of a sum
SLOW = {
    "pattern_net": ("densenet121",),
    "pattern_attribution": ("resnet18_3d",),
}  # few passes, much arithmetic: one net besides the light ones
METHODS = {m.name: m for m in registered()}


def _meets(name: str, net: str) -> bool:
    if net == "mobilenet_v3_large" or (
        net in ("vit_b_16", "swin_t") and not (claims_a_sum(METHODS[name]) or METHODS[name].facts.asks & Asks.RULES)
    ):
        return False  # its small sister is here; the attention nets meet every method with their attention peaked
    return net in LIGHT or (net in SLOW[name] if name in SLOW else passes_of(METHODS[name], net) <= FEW)


CELLS = [(net, name) for net in ZOO for name in METHODS if _meets(name, net)]
# residual sums, dense joints, peaked attention in windows, squeeze and excitation in 3D: where rules could let the halves mix
JOINTS = ("resnet50", "densenet121", "swin_t_peaked", "seresnet50_3d")
TWINS = [
    (net, name)
    for net in ZOO
    for name, m in METHODS.items()
    if claims_a_sum(m) and (net in LIGHT or (net in JOINTS and m.facts.asks & Asks.RULES))
]


@pytest.mark.parametrize(("net", "name"), CELLS)
def test_the_method_runs_there_or_refuses_by_name(net, name):
    words, refusing = REFUSES.get(name, ("", set()))
    cell = measure(METHODS[name], net, reduced=True)
    if net in refusing:
        assert cell.status == "refuses", f"{name} on {net} {cell.status}; the table says that it refuses. {cell.message}"
        assert words in cell.message
        return
    assert cell.status == "runs", f"{name} on {net} {cell.status}: {cell.message}"
    assert cell.faults == (["one map for two targets"] if (name, net) in FORGETS else [])
    if name not in STEPWISE:
        assert all(gap <= EXACT for gap in cell.gaps.values()), f"{name} on {net}: gaps {cell.gaps}"


@pytest.mark.parametrize(("net", "name"), TWINS)
def test_of_a_sum_of_two_networks_each_half_gets_its_own(net, name):
    cell = measure_twin(METHODS[name], net, reduced=True)
    if net in REFUSES.get(name, ("", set()))[1]:
        assert cell.status == "refuses"
        return
    assert cell.status == "runs", f"{name} on {net}: {cell.message}"
    assert cell.twin <= TWIN_LIMIT.get(name, 1e-6)


@pytest.mark.parametrize(
    ("net", "baseline", "steps", "tolerance"),
    [("vit_3d", 0.0, 4, 1e-6), ("vit_3d_peaked", 0.3, 16, 1e-3), ("mobilenet_v3_small", 0.0, 16, 0.02)],
)
def test_integrated_gradients_meets_its_tolerance(net, baseline, steps, tolerance):
    image = picture(ZOO[net], ZOO[net].reduced)
    why = pl.explain(model(net, True), image, 1, method="integrated_gradients", steps=steps, tolerance=tolerance, baseline=baseline)
    assert abs(why.trace["gap"]) <= tolerance * abs(why.trace["change"])


def test_no_layer_of_the_zoo_sleeps():
    """Two pictures give other scores, no score is zero, and peaked attention is another network."""
    for name in ("mobilenet_v3_small", "vit_3d", "unet_3d"):
        entry = ZOO[name]
        net = model(name, True)
        x = torch.stack([picture(entry, entry.reduced, seed=s).values for s in (1, 2)])
        out = net.forward(x).detach()
        assert float(out.abs().min()) > 0
        assert float((out[0] - out[1]).abs().max()) > 1e-4
        weights = [p for p in net.module.parameters() if p.ndim > 1]
        assert all(float(p.abs().max()) > 0 for p in weights)
    for entry in PEAKED[-1:]:
        plain, sharp = (build(ZOO[n], 32, True) for n in (entry.name.removesuffix("_peaked"), entry.name))
        ratio = [
            float((a / b).median())
            for (n, a), b in zip(sharp.named_parameters(), plain.parameters(), strict=True)
            if "qkv" in n and a.ndim > 1
        ]
        assert ratio and all(r == pytest.approx(6) for r in ratio)


def test_cells_are_known_by_their_code_and_their_budget():
    a, b = key(REGISTRY["saliency"], "vit_3d", True), key(REGISTRY["saliency"], "vit_3d", False)
    assert a != b
    assert a != key(REGISTRY["input_x_gradient"], "vit_3d", True)
    assert bound(REGISTRY["rise"], 2, True).params["masks"] == 64


def test_a_study_that_was_cut_off_goes_on_where_it_was(tmp_path):
    from studies.zoo import Kept, collected, page

    asked = []

    def counted(*cell):
        asked.append(cell)
        return measure(*cell)

    saliency, cam = METHODS["saliency"], METHODS["cam"]
    for _ in range(2):  # the second time from disk
        kept = Kept(tmp_path / "cells.jsonl")
        for m in (saliency, cam):
            kept.get("cell", m, "vit_3d", True, counted)
    assert len(asked) == 2
    found = collected(kept, [saliency, cam], True)
    text = page(found, [saliency, cam], True, 1.0, {})
    assert "2 cells: 1 run and keep what they declare" in text
    assert "1 refuse by name" in text
    assert "`cam` on vit_3d." in text
    kept.path.write_text(kept.path.read_text().replace(" on vit_3d at 32", " on vit_3d at 31"))  # another size is another cell
    assert Kept(kept.path).get("cell", saliency, "vit_3d", True, None) is None
