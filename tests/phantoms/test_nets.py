"""The shipped networks: as good as their facts say, made from these phantoms, and leaning on the lesion rather than on the shortcut."""

from __future__ import annotations

import functools

import pytest
import torch

from pellucid.errors import BadParameter
from pellucid.explain import explain
from pellucid.loading import load_model
from pellucid.phantoms import Phantom, cases, fundus, load
from pellucid.phantoms.files import save
from pellucid.phantoms.nets import CLASSES, WEIGHTS, code_hash

SHIPPED = sorted(path.stem for path in WEIGHTS.glob("*.json"))
SEVERAL = {"chest": ("effusion", 0), "spectrogram": ("violin", 1)}  # several labels: the one that is looked at, and its output
KEYS = {"fundus_dme": "dme", "fundus_dr": "stage", "brain_atrophy": "atrophy"} | {name: label for name, (label, _) in SEVERAL.items()}


@functools.cache
def fresh(kind: str) -> tuple[Phantom, ...]:
    """Few brains: they take longest to draw."""
    return tuple(cases(kind, 24 if kind == "brain_atrophy" else 60, seed=101))


shipped = functools.cache(load)


def logits(name: str, phantoms) -> torch.Tensor:
    net, _, _ = shipped(name)
    with torch.no_grad():
        return torch.cat([net(p.image.values[None]) for p in phantoms])


def auc(score: torch.Tensor, positive: torch.Tensor) -> float:
    a, b = score[positive], score[~positive]
    return float(((a[:, None] > b).float() + 0.5 * (a[:, None] == b).float()).mean())


def positive_score(name: str, phantom: Phantom) -> float:
    out = logits(name, [phantom])[0]
    return float(out[SEVERAL[name][1]] if name in SEVERAL else out[1] - out[0])


def test_the_networks_that_the_catalogue_promises_are_there():
    assert {"fundus_dme", "fundus_dr", "chest", "brain_atrophy", "spectrogram"} <= set(SHIPPED)
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 2_000_000


@pytest.mark.parametrize("name", SHIPPED)
def test_fresh_phantoms_are_told_apart(name):
    found = fresh(name)
    out, facts = logits(name, found), shipped(name)[2]
    floor = 0.85 if name == "fundus_dr" else 0.95
    for k, label in enumerate(CLASSES[name]):
        if name in SEVERAL:
            score, truth = out[:, k], torch.tensor([p.labels[label] == 1 for p in found])
        else:
            score, truth = out.softmax(1)[:, k], torch.tensor([p.labels[KEYS[name]] == k for p in found])
        assert facts["auc"][label] > (0.9 if name == "fundus_dr" else 0.97)
        assert auc(score, truth) > floor, label


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_were_trained_on_the_phantoms_as_they_are_drawn_now(name):
    facts = shipped(name)[2]
    hint = f"the phantoms changed after {name} was trained: run python studies/train_phantom_nets.py {name}"
    assert facts["code_hash"] == code_hash(name), hint
    assert facts["cases"]["train_seed"] != facts["cases"]["held_out_seed"]


@pytest.mark.parametrize("name", [n for n in SHIPPED if n != "fundus_dr"])
def test_removing_the_lesion_moves_the_score_and_removing_the_shortcut_does_not(name):
    off = {
        "fundus_dme": {"dme": False},
        "chest": {"effusion": False},
        "brain_atrophy": {"atrophy": False},
        "spectrogram": {"violin": False},
    }[name]
    lesion, token = [], []
    for phantom in [p for p in fresh(name) if p.labels[KEYS[name]]][:5]:
        with_token = phantom.twin(shortcut=1.0)
        score = positive_score(name, with_token)
        lesion.append(score - positive_score(name, with_token.twin(**off)))
        token.append(abs(score - positive_score(name, with_token.twin(shortcut=False))))
    assert sum(lesion) > 8 * sum(token)
    assert min(lesion) > 0


@pytest.mark.parametrize("name", [n for n in SHIPPED if n != "fundus_dr"])
def test_relevance_lies_in_the_lesion(name):
    net, _, _ = shipped(name)
    enrichment = []
    for phantom in [p for p in fresh(name) if p.labels[KEYS[name]]][:6]:
        x = phantom.image.values
        path = (torch.arange(8) + 0.5).view(-1, *[1] * x.ndim) / 8 * x
        path.requires_grad_(True)
        out = net(path)
        (slope,) = torch.autograd.grad((out[:, SEVERAL[name][1]] if name in SEVERAL else out[:, 1] - out[:, 0]).sum(), path)
        relevance = (slope.mean(0) * x).sum(0).clamp_min(0)
        mask = phantom.masks[KEYS[name] if name in SEVERAL else "causal"]
        enrichment.append(float(relevance[mask].sum() / relevance.sum() / mask.float().mean()))
    assert min(enrichment) > 1
    assert sum(enrichment) / len(enrichment) > 3


def test_an_untrained_twin_has_no_facts_and_leaves_the_global_chance_alone():
    before = torch.get_rng_state()
    twin, classes, facts = load("fundus_dme", trained=False, seed=3)
    again, _, _ = load("fundus_dme", trained=False, seed=3)
    other, _, _ = load("fundus_dme", trained=False, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert classes == ("no DME", "DME")
    assert facts == {}
    first, second, third = (next(net.parameters()) for net in (twin, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not twin.training


@pytest.mark.parametrize("name", SHIPPED)
def test_probabilities_of_labels_that_do_not_exclude_each_other_are_each_their_own(name):
    net, phantom = load_model(f"phantom:{name}"), fresh(name)[0]
    why = explain(net, phantom.image, target=0, method="saliency")
    out = logits(name, [phantom])[0]
    assert list(why.probabilities) == pytest.approx((out.sigmoid() if name in SEVERAL else out.softmax(0)).tolist(), abs=1e-5)


def test_a_network_that_does_not_exist_is_named():
    with pytest.raises(BadParameter, match="fundus_dme"):
        load("knee")


def test_a_picture_of_a_phantom_is_told_as_the_phantom_itself(tmp_path):
    """The PNG that `pellucid phantom` writes has 8 bits a channel; the network was trained on [0, 1]."""
    case = fundus(seed=31, dme=True)
    save(case, str(tmp_path))
    net = load_model("phantom:fundus_dme")
    told = [
        explain(net, image, method="saliency").probabilities[1] for image in (case.image, tmp_path / "image.png", tmp_path / "image.npy")
    ]
    assert told[0] > 0.5
    assert max(told) - min(told) < 0.01
