"""Data randomization: maps of a network with true labels against those of one that memorized permuted ones."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.evidence.toy import blobs, fresh
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence.sanity import data_randomization
from pellucid.ops.similarity import spearman

X, Y = blobs(24, 5)


def train(labels, seed, steps=25):
    """Learns the labels of 24 images by heart, in a second."""
    net = copy.deepcopy(fresh(seed))
    step = torch.optim.Adam(net.parameters(), 1e-2)
    y = torch.tensor(labels)
    for _ in range(steps):
        net.train()
        step.zero_grad()
        loss = F.cross_entropy(net(X), y)
        loss.backward()
        step.step()
    with torch.no_grad():  # the statistics of the images, so that what was learned holds when evaluated
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = None
                m.reset_running_stats()
        net.train()(X)
    return net.eval()


def test_labels_are_permuted_learned_and_told_apart():
    calls = []

    def watched(labels, seed):
        calls.append((list(labels), seed))
        return train(labels, seed)

    found = data_randomization(watched, list(X), Y.tolist(), ["saliency", "grad_cam"], seed=3)
    assert [s for _, s in calls] == [3, 4, 3] and calls[0][0] == calls[1][0] == Y.tolist()
    assert calls[2][0] != Y.tolist() and sorted(calls[2][0]) == sorted(Y.tolist())
    m = found["saliency"]
    assert set(m.detail["accuracy"]) == {"true", "true again", "permuted"} and min(m.detail["accuracy"].values()) > 0.95
    assert m.low <= m.value <= m.high and m.value < 0.5 and m.reference is not None and m.direction == "down"
    nets = [train(*c) for c in calls]
    one = [pl.explain(n, X[0], int(Y[0]), method="saliency").relevance for n in nets]
    assert m.detail["each"][0] == pytest.approx(abs(spearman(one[0], one[2])), abs=1e-5)
    assert m.detail["each_retrained"][0] == pytest.approx(abs(spearman(one[0], one[1])), abs=1e-5)


def test_networks_that_have_not_learned_conclude_nothing():
    m = data_randomization(lambda labels, seed: fresh(seed), list(X), Y.tolist(), ["saliency"])["saliency"]
    assert m.status == "inconclusive" and "training accuracy" in m.text


def test_a_map_that_ignores_the_labels_fails():
    net = train(Y.tolist(), 0)
    held = Y.tolist()

    def stubborn(labels, seed):
        """The same network whatever the labels, but for a shift of its head that makes it right."""
        return Looked(net, {X[i].sum().item(): k for i, k in enumerate(labels)})

    m = data_randomization(stubborn, list(X), held, ["saliency"])["saliency"]
    assert m.status == "fail" and m.value > 0.99


class Looked(nn.Module):
    """Answers by heart, explains itself by another network: its gradient never changes."""

    def __init__(self, inner, known):
        super().__init__()
        self.inner, self.known = inner, known

    def forward(self, x):
        z = self.inner(x)
        say = torch.tensor([self.known.get(i.sum().item(), 0) for i in x])
        return z - z.detach() + 5.0 * F.one_hot(say, 2)


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(BadParameter, match="a label for each image"):
        data_randomization(train, list(X), [0, 1], ["saliency"])
    with pytest.raises(BadParameter, match="targets"):
        data_randomization(train, list(X), Y.tolist(), ["saliency"], explained=list(X[:3]))
