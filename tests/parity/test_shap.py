"""Agreement with shap's KernelExplainer and Captum's Shapley values: exact where all coalitions are asked, close where they are drawn."""

import numpy as np
import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net
from tests.reference.cuts import blocks

import pellucid as pl

shap = pytest.importorskip("shap", reason="shap is not installed")
FILL = 0.25


def _labels(space, parts):
    count = int(np.prod(space))
    return (torch.arange(count) * parts // count).view(*space)


def _ours(dims, labels, samples):
    why = pl.explain(net(dims), image(dims), TARGET, method="kernel_shap", segments=labels, samples=samples, fill=FILL)
    return torch.tensor(why.trace["weights"], dtype=torch.float64)


def _theirs(dims, labels, samples):
    made, x = net(dims), image(dims)

    def score(rows):
        shown = torch.from_numpy(np.asarray(rows)).bool()
        images = torch.stack([torch.where(r[labels], x, torch.full_like(x, FILL)) for r in shown])
        with torch.no_grad():
            return made(images)[:, TARGET].numpy()

    parts = int(labels.max()) + 1
    explainer = shap.KernelExplainer(score, np.zeros((1, parts)))
    return torch.from_numpy(np.asarray(explainer.shap_values(np.ones((1, parts)), nsamples=samples, l1_reg=0, silent=True))[0])


def exact(dims):
    labels = _labels(image(dims).shape[1:], 8)
    return _ours(dims, labels, 10), _theirs(dims, labels, 2**8)


def drawn(dims):
    labels = _labels(image(dims).shape[1:], 13)
    return _ours(dims, labels, 1500), _theirs(dims, labels, 2**13)


def captums(dims):
    attr = pytest.importorskip("captum.attr")
    x, labels = image(dims), blocks(image(dims).shape[1:])[None]
    labels = labels.clamp_max(4)
    peer = attr.ShapleyValues(net(dims)).attribute(x[None], FILL, TARGET, feature_mask=labels[None], perturbations_per_eval=8)
    per_part = [float(peer[0, 0][labels[0] == k][0]) for k in range(int(labels.max()) + 1)]
    assert int(labels.max()) == (3 if dims == 2 else 4)
    return _ours(dims, labels[0], 10), torch.tensor(per_part, dtype=torch.float64)


ROWS = [
    Row("shap", "kernel_shap, 8 segments, all coalitions", exact, 1e-7),
    Row("shap", "kernel_shap, 13 segments, 1500 of 8190 coalitions", drawn, 0.03, (2,)),
    Row("Captum", "kernel_shap, 5 segments, all orders", captums, 1e-5),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_shap(row, dims):
    row.check(dims)
