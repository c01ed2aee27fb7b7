"""Cues, stress, surprise, color bias, spread and attacks on networks whose answer is known in closed form."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from tests.evidence.toy import fresh, learned, positives
from torch import nn

import pellucid as pl
from pellucid.errors import BadModel, BadParameter, BadTarget, Unsupported
from pellucid.evidence import cues as c
from pellucid.evidence.cues.stress import Curve
from pellucid.image import Image
from pellucid.intervals import Interval, area
from pellucid.ops.similarity import spearman


class Reads(nn.Module):
    """Two logits (-z, z) of a number read from the picture."""

    def __init__(self, fn):
        super().__init__()
        self.fn, self.weight = fn, nn.Parameter(torch.ones(1))

    def forward(self, x):
        z = self.weight * self.fn(x)
        return torch.stack([-z, z], 1)


def color(x):
    return x[:, 0].flatten(1).mean(1) - x[:, 2].flatten(1).mean(1)


def roughness(x):
    return (x[:, :, 1:] - x[:, :, :-1]).abs().flatten(1).mean(1)


def eyes(n=24, side=24):
    """Label 1 is redder; every second image, whatever its label, is rougher."""
    g, images, labels = torch.Generator().manual_seed(0), [], []
    for k in range(n):
        label = k % 2
        x = 0.4 + 0.02 * torch.randn((1, side, side), generator=g).expand(3, -1, -1).clone()
        x[0] += 0.1 * label + 0.01 * float(torch.rand(1, generator=g))
        images.append(Image(x.clamp(0, 1)))
        labels.append(label)
    return images, labels


def test_auc_is_that_of_scikit_learn_with_ties():
    from sklearn.metrics import roc_auc_score

    chance = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = chance.integers(0, 6, 40).astype(float), chance.integers(0, 2, 40)
        assert area(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert math.isnan(area(np.ones(3), np.ones(3)))


def test_a_network_of_color_is_told_from_one_of_texture():
    images, labels = eyes()
    found = c.cues(Reads(color), images, labels, target=1, versions=["grayscale", "texture", "blurred", "silhouette"])
    assert found["as they are"].auc.value == 1.0
    assert found["grayscale"].auc.value == pytest.approx(0.5), "all scores tie"
    assert found["grayscale"].missed
    assert not found["grayscale"].enough
    assert found["texture"].enough, "color survives in patches"
    assert found["blurred"].enough
    assert not found["silhouette"].enough
    assert "color (grayscale)" in found.text
    assert found.forward == len(images) * 5
    assert len(found.table()) == 5

    rough = [i.with_values((0.4 + (1 + 2 * y) * (i.values - 0.4)).clamp(0, 1)) for i, y in zip(eyes()[0], labels, strict=True)]
    rough = [i.with_values(i.values[1:2].expand(3, -1, -1).clone()) for i in rough]
    seen = c.cues(Reads(roughness), rough, labels, target=1, versions=["grayscale", "texture", "silhouette", "high_pass"])
    assert [seen[n].enough for n in ("grayscale", "texture", "silhouette", "high_pass")] == [True, True, False, True]
    assert not seen["grayscale"].missed


def test_cues_in_a_volume_leave_colors_out_and_count_patients():
    net, g = fresh(0, 3), torch.Generator().manual_seed(0)
    images, labels = [torch.rand((1, 16, 16, 16), generator=g) for _ in range(12)], [k % 2 for k in range(12)]
    one = c.cues(net, images, labels, target=1, versions=["grayscale", "gamma", "texture"])
    assert one.left_out == ("grayscale",)
    assert [r.name for r in one.rows] == ["as they are", "gamma", "texture"]
    two = c.cues(net, images, labels, target=1, versions=["gamma"], patients=[k // 4 for k in range(12)])
    assert two["gamma"].auc.patients == 3
    assert one["gamma"].auc.patients == 12
    own = c.cues(net, images, labels, target=1, versions={"nothing": lambda i: i})
    assert own.scores["nothing"] == own.scores["as they are"]
    assert own["nothing"].lost.value == 0


def test_cues_refuse_by_name():
    images, labels = eyes(6)
    net = Reads(color)
    with pytest.raises(BadTarget):
        c.cues(net, images, labels, target=None)
    for bad in ({"labels": [0] * 6}, {"labels": [2] * 6}, {"labels": [0, 1]}, {"versions": ["sepia"]}, {"patients": [1]}, {"masks": []}):
        with pytest.raises(BadParameter):
            c.cues(net, images, **{"labels": labels, "target": 1, **bad})
    with pytest.raises(BadParameter):
        c.cues(net, images, labels, target=1, versions={"cut": lambda i: i.crop((0, 0), (4, 4))})


def test_stress_breaks_where_the_cue_is_gone():
    images, labels = eyes(60)
    found = c.stress(Reads(color), images, labels, target=1, kinds=["blur", "rotation", "contrast"])
    assert [k.breaks for k in found.curves.values()] == [None, None, None]
    assert found["blur"].values[-1].value == 1.0, "a mean over the picture survives a blur"

    def dot(x):
        return x[:, 0, 12, 12] - x[:, 0].flatten(1).mean(1)

    for i, y in zip(images, labels, strict=True):
        i.values[:, 12, 12] = 0.9 if y else 0.2
    seen = c.stress(Reads(dot), images, labels, target=1, kinds=["blur", "resolution"], strengths={"blur": (0.001, 0.3)})
    assert seen["blur"].breaks == 0.3
    assert seen["blur"].values[0].value == 1.0
    assert "breaks" in seen["blur"].text
    plain = c.stress(Reads(dot), [i for i, y in zip(images, labels, strict=True) if y], target=1, kinds=["blur"])
    assert plain.of == "mean score"
    assert plain["blur"].breaks is not None
    with pytest.raises(BadParameter):
        c.stress(Reads(dot), images, labels, target=1, kinds=["blur"], strengths={"blur": (0.3, 0.1)})
    with pytest.raises(BadParameter):
        c.stress(Reads(dot), images, labels, target=1, kinds=["hail"])


def test_the_breaking_point_is_where_intervals_part():
    clean, near, far = (Interval(v, v - 0.05, v + 0.05, 9, 9) for v in (0.9, 0.82, 0.7))
    assert Curve("noise", "", (1.0, 2.0, 3.0), (near, far, near), clean).breaks == 2.0
    assert Curve("noise", "", (1.0,), (near,), clean).breaks is None


def darkness(x):
    return 10 * (1 - x).flatten(1).mean(1)


@pytest.mark.parametrize("shape", [(1, 24, 24), (1, 12, 12, 6)], ids=["2d", "3d"])
def test_surprise_is_the_rise_that_was_built_in(shape):
    g = torch.Generator().manual_seed(0)
    images = [0.5 + 0.02 * torch.rand(shape, generator=g, dtype=torch.float64) for _ in range(8)]
    net = Reads(darkness).double()
    found = c.surprise(net, images, ["black", "white", "blurred('2px')"], target=1, window="4px" if len(shape) == 3 else "3px")
    share = (4 / 24) ** 2 if len(shape) == 3 else 27 / 864
    mean = float(torch.stack(images).mean())
    assert found["black"].rise.value == pytest.approx(10 * share * mean, rel=1e-3)
    assert found["white"].rise.value == pytest.approx(-10 * share * (1 - mean), rel=1e-3)
    assert [f.surprises for f in found.fills.values()] == [True, False, False]
    assert found["black"].alarms.value == 1.0
    assert found["black"].rise.low <= found["black"].rise.value <= found["black"].rise.high
    assert found.forward == 8 * (1 + 3 * found.rises["black"].shape[1])


def test_caution_goes_to_maps_that_used_the_fill():
    g = torch.Generator().manual_seed(0)
    images = [0.5 + 0.02 * torch.rand((1, 24, 24), generator=g) for _ in range(8)]
    net = Reads(darkness)
    found = c.surprise(net, images, ["black", "white"], target=1, window="4px")
    hid = pl.explain(net, images[0], 1, method="occlusion", window="4px")  # its default fill is the number 0, which is black here
    told = c.caution(hid, found)
    assert any("takes for a finding" in t for t in told.provenance.caveats)
    assert told.evidence["surprise: black"].status == "fail"
    assert told.provenance.weights == hid.provenance.weights
    assert torch.equal(told.values, hid.values)
    assert len(c.caution(told, found).evidence) == 1, "said once"
    calm = c.caution(pl.explain(net, images[0], 1, method="occlusion", window="4px", fill="white"), found)
    assert calm.evidence["surprise: white"].status == "pass"
    assert not any("finding" in t for t in calm.provenance.caveats)
    whole = pl.explain(net, images[0], 1, method="saliency")
    assert c.caution(whole, found) is whole
    inside = pl.explain(net, images[0], 1, method="smooth('integrated_gradients(baseline=black, steps=2)', n=2)")
    assert "surprise: black" in c.caution(inside, found).evidence
    other = Reads(darkness)
    other.weight.data *= 2
    with pytest.raises(BadParameter):
        c.caution(pl.explain(other, images[0], 1, method="occlusion", window="4px"), found)
    with pytest.raises(BadParameter):
        c.surprise(net, images[:1], ["black"], target=1)


def test_color_bias_of_a_linear_network_is_the_distance_itself():
    x = torch.rand((1, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = Reads(lambda t: t.flatten(1).mean(1)).double()  # IG from b is (x - b) / n: it follows nothing but the baseline's color
    found = c.baseline_color_bias(net, Image(x), target=1, baselines={"black": 0.0, "white": 1.0, "mean": "mean"}, steps=2)
    rows = {r.name: r for r in found.rows}
    far = {"black": x[0], "white": 1 - x[0], "mean": (x[0] - x.mean()).abs()}
    for b in far:
        others = [spearman(far[k], far[b]) for k in far if k != b]
        assert rows[b].own.value == pytest.approx(1.0)
        assert rows[b].others.value == pytest.approx(sum(others) / 2, abs=1e-9)
    assert found.change["black", "white"].value == pytest.approx(-1.0)
    assert found.maps["Blur IG"].values.shape == (1, 12, 12)

    peak = torch.zeros(12, 12, dtype=torch.float64)
    peak[4:6, 4:6] = 1  # a weight that is zero elsewhere: where, is not the baseline's doing
    steady = Reads(lambda t: (peak * t[:, 0]).flatten(1).mean(1)).double()
    less = c.baseline_color_bias(steady, [Image(x), Image(x.flip(1))], target=1, baselines={"black": 0.0, "white": 1.0}, steps=2)
    assert less.bias.value < 0.3 * found.bias.value
    assert less.bias.patients == 2
    with pytest.raises(BadParameter):
        c.baseline_color_bias(net, Image(x), target=1, method="saliency")


def test_spread_over_baselines_is_that_of_the_maps():
    x = torch.rand((1, 12, 12), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    net = Reads(lambda t: t.flatten(1).mean(1)).double()
    own = pl.grade(net, x, ["integrated_gradients(steps=2)", "saliency"], ["baseline_spread"], target=1, controls=("random",))
    found = own["integrated_gradients", "baseline_spread"]
    pairs = found.detail["pairs"]
    assert pairs["black - white"] == pytest.approx(1.0), "with signs, x - 0 and x - 1 have one order"
    assert pairs["black - mean"] == pytest.approx(1.0)
    assert pairs["black - random"] < 0.9
    assert found.value == pytest.approx(1 - sum(pairs.values()) / 6)
    assert own["random", "baseline_spread"].status == "void"
    wave = Reads(lambda t: (6 * t).sin().flatten(1).mean(1)).double()
    moved = pl.grade(wave, x, ["integrated_gradients(steps=8)"], ["baseline_spread"], target=1, controls=())
    assert moved["integrated_gradients", "baseline_spread"].value > found.value


class Linear(nn.Module):
    def __init__(self, dims):
        super().__init__()
        shape = (1, 10, 10) if dims == 2 else (1, 6, 6, 6)
        self.w = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))

    def forward(self, x):
        z = (self.w * (x - 0.45)).flatten(1).sum(1)
        return torch.stack([-z, z], 1)


@pytest.mark.parametrize(("dims", "attack"), list(itertools.product((2, 3), ("pgd", "fgsm"))))
def test_an_attack_on_a_linear_network_goes_as_far_as_it_can(dims, attack):
    net = Linear(dims)
    x = 0.5 + 0.1 * net.w.detach().sign()
    found = c.attacked(net, x, 1, method="saliency", epsilon=0.02, attack=attack)
    assert found.odds[0] == pytest.approx(2 * float((net.w.detach() * (x - 0.45)).sum()))
    assert found.odds[0] - found.odds[1] == pytest.approx(2 * 0.02 * float(net.w.detach().abs().sum())), "e times the norm of the slope"
    assert float((found.attacked.values - x).abs().max()) <= 0.02 + 1e-12
    assert abs(found.noise - found.odds[0]) < 0.5 * (found.odds[0] - found.odds[1]), "random signs do less"
    assert found.likeness.rank == pytest.approx(1.0), "the slope of a linear network is the same everywhere"
    assert not found.fooled
    assert c.attacked(net, x, 1, method="saliency", epsilon=0.3, attack=attack).fooled
    assert len(found.table()) == 3


def test_an_attack_leaves_the_network_alone_and_shows_the_true_class():
    net = learned()
    (x,) = positives(net, 1, 5)
    state, chance = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    found = c.attacked(net, x, 1, epsilon=0.2, method="grad_cam")
    assert found.fooled
    assert found.after.provenance.target == found.before.provenance.target == "logit(1)"
    assert int(net(found.attacked.values[None]).argmax()) == 0
    assert float(found.attacked.values.min()) >= 0
    assert float(found.attacked.values.max()) <= 1
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all((p.grad is None and g is None) or torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert torch.equal(chance, torch.get_rng_state())


def test_an_attack_without_a_slope_is_refused():
    x = torch.rand(1, 8, 8)
    with pytest.raises(BadModel):
        c.attacked(Reads(lambda t: t.detach().flatten(1).mean(1)).requires_grad_(False), x, 1, method="saliency")
    with pytest.raises(Unsupported, match="zero everywhere"):
        c.attacked(Reads(lambda t: t.round().flatten(1).mean(1)), x, 1, method="saliency")
    with pytest.raises(BadParameter):
        c.attacked(Reads(color), torch.rand(3, 8, 8), 1, attack="prayer")
