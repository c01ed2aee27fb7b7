"""TCAV against captum's: directional derivatives and scores, given one direction (its classifier, its split and its cache are not ours)."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.concepts import ConceptBank, tcav
from pellucid.concepts.ranking import cavs, weigh
from pellucid.concepts.vectors import Span, rows_of, slopes_of
from pellucid.model import Model
from pellucid.run import Run


@pytest.mark.parametrize("dims", [2, 3])
def test_scores_and_derivatives(dims, tmp_path):
    captum = pytest.importorskip("captum.concept")
    from captum.attr import LayerGradientXActivation
    from captum.concept import TCAV, Classifier, Concept

    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    net = nn.Sequential(conv(1, 3, 3), nn.Tanh(), conv(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 3**dims, 3)).eval()
    images = torch.rand(40, 1, *[6] * dims)
    images[:8] += 0.5

    class Pattern(Classifier):
        """Ours: the mean difference, as weights of the first class and of the second."""

        def __init__(self):
            pass

        def train_and_eval(self, dataloader, **_):
            x, y = (torch.cat(v) for v in zip(*((b[0], b[1]) for b in dataloader), strict=True))
            v = x[y == 0].double().mean(0) - x[y == 1].double().mean(0)
            self.v, self.labels = (v / v.norm()).float(), [0, 1]
            return {"accs": torch.tensor(1.0)}

        def weights(self):
            return torch.stack([self.v, -self.v])

        def classes(self):
            return self.labels

    concept = Concept(0, "bright", torch.utils.data.DataLoader(list(images[:8]), batch_size=8))
    random = Concept(1, "random", torch.utils.data.DataLoader(list(images[8:16]), batch_size=8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attribution = LayerGradientXActivation(net, None, multiply_by_inputs=False)  # the bare gradient at the layer
        theirs = TCAV(net, ["1"], classifier=Pattern(), layer_attr_method=attribution, save_path=str(tmp_path))
        told = theirs.interpret(images[16:], [[concept, random]], target=1)["0-1"]["1"]

    model = Model(net)
    bank = ConceptBank.of({"bright": list(images[:8])}, random=list(images[8:16]))
    span = Span.of(rows_of(model, [bank["bright"], bank.random], "1", "none", None, Run()))
    slopes = slopes_of(model, list(images[16:]), "1", 1, span, "none", Run())
    ours = weigh(cavs(span.coordinates, [np.arange(8), np.arange(8, 16)], "pattern", 0), slopes)
    assert ours.pairs[0, 1] == pytest.approx(float(told["sign_count"][0]), abs=1e-6)
    assert ours.pairs[1, 0] == pytest.approx(float(told["sign_count"][1]), abs=1e-6)
    assert ours.sensitivity[0] == pytest.approx(float(told["magnitude"][0]), rel=1e-4), "which its documentation calls something else"
    assert captum.TCAV is TCAV


def test_where_the_peer_is_stale_we_are_not(tmp_path):
    """captum keys its directions by id and layer; ours are made from what the images hold."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)).eval()
    images = torch.rand(120, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    kept, fresh = [], []
    for shift in (1.0, -1.0):
        bank = ConceptBank.of({"c": list(images[:6] + shift)}, random=list(images[6:115]))
        for found, folder in ((kept, tmp_path), (fresh, None)):
            found.append(tcav(net, bank, list(images[115:]), 1, sites="0", folder=folder).rows[0].effect)
    assert kept == pytest.approx(fresh, rel=1e-6) and fresh[0] > 0 > fresh[1]
