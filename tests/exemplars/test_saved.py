"""Exemplars saved and loaded again: each kind, in 2D and 3D, its network, and what is never written."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadFile, BadModel
from pellucid.exemplars import (
    Critic,
    Exemplars,
    Influence,
    LabelErrors,
    Typical,
    Unit,
    exciting,
    influence,
    influence_by_cg,
    label_errors,
    prototypes,
    similar,
    tracin,
    typical,
)  # fmt: skip
from pellucid.findings import Finding
from pellucid.report import similar_of


def net(dims=2, seed=0):
    torch.manual_seed(seed)
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return pl.Model(nn.Sequential(conv(1, 4, 3), nn.Tanh(), pool(2), nn.Flatten(), nn.Linear(4 * 2**dims, 2)).eval(), classes=("a", "b"))


def scans(dims=2, n=10):
    torch.manual_seed(1)
    return [torch.rand(1, *[7] * dims) + 0.4 * (i % 2) for i in range(n)]


LABELS = list("ab" * 5)


def cropped(image):
    return image.crop([0] * image.grid.ndim, [6] * image.grid.ndim)


@pytest.mark.parametrize("dims", [2, 3])
def test_similar_cases_come_back(dims, tmp_path):
    model = pl.Model(net(dims).module, classes=("a", "b"), prepare=cropped)
    x = scans(dims)
    found = similar(model, x[3], x, 4, labels=LABELS, patients=[f"Miller {i}" for i in range(10)], names=[f"{i}_Meyer" for i in range(10)])
    path = found.save(tmp_path / "similar.json")
    again = Exemplars.load(path, model)
    assert [(m.place, m.distance, m.likeness, m.label, m.image, m.same_image) for m in again] == [
        (m.place, m.distance, m.likeness, m.label, m.image, m.same_image) for m in found
    ]
    assert again.provenance == found.provenance and again.sentence == found.sentence and again.grid == found.grid
    assert torch.equal(again.scan.values, found.scan.values) and again.scan.fingerprint == found.scan.fingerprint
    assert torch.equal(again.image.values, found.image.values) and again.image.values.shape != again.scan.values.shape
    for one, other in zip(similar_of(again, x), similar_of(found, x), strict=True):
        assert (one.label, one.likeness, one.note) == (other.label, other.likeness, other.note)
    assert not any(name in b"".join(p.read_bytes() for p in tmp_path.iterdir()) for name in (b"Miller", b"Meyer"))
    assert json.loads(path.read_text())["sentence"] == found.sentence
    with pytest.raises(BadModel, match="exemplars of this network"):
        Exemplars.load(path, net(dims))


def influences(model, x):
    yield influence(model, x, LABELS, x[0] * 0.9, "a", check=6)
    yield tracin(model, x, LABELS, x[0], "a", checkpoints=[model.module.state_dict()], rates=0.1)
    yield influence_by_cg(model, x, LABELS, x[0], "a", damping=20.0)


def test_influence_comes_back_by_each_way(tmp_path):
    model, x = net(), scans()
    for n, found in enumerate(influences(model, x)):
        path = found.save(tmp_path / f"{n}.json")
        again = Influence.load(path, model)
        assert again.values.dtype == np.float64 and again.values.tobytes() == found.values.tobytes(), "every bit"
        assert again.table(3) == found.table(3) and again.labels == found.labels and again.images == found.images
        assert again.provenance == found.provenance and again.evidence == found.evidence
        assert np.isnan(again.probability) if np.isnan(found.probability) else again.probability == found.probability
        assert again.scan is again.image and again.scan.fingerprint == found.scan.fingerprint
        assert found.images == tuple(model.ready(pl.Image(i))[0].fingerprint for i in x)
        with pytest.raises(BadModel, match="influence of this network"):
            Influence.load(path, net(seed=1))
        with pytest.raises(BadFile, match="exemplars in .*; got 'influence'"):
            Exemplars.load(path)


def test_what_was_found_in_a_table_comes_back(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 3))
    labels = ["a" if r[0] > 0 else "b" for r in rows]
    made = [prototypes(rows, 2, 2), typical(rows, labels, "a", 2), label_errors(rows, labels), exciting(net(), scans(), "0", 1, 2)]
    for found, kind in zip(made, (Critic, Typical, LabelErrors, Unit), strict=True):
        path = found.save(tmp_path / f"{kind.__name__}.json")
        again = kind.load(path)
        assert type(Finding.load(path)) is kind
        assert json.dumps(again.facts(), sort_keys=True) == json.dumps(found.facts(), sort_keys=True)
        assert (
            again.provenance == found.provenance
            and again.provenance.method
            and again.provenance.versions["pellucid"]
            and again.provenance.image
        )
    again = Critic.load(tmp_path / "Critic.json")
    assert again.witness.tobytes() == made[0].witness.tobytes() and again.nearest.dtype == made[0].nearest.dtype
    assert Unit.load(tmp_path / "Unit.json", net()).most == made[3].most
    assert made[0].provenance.image != prototypes(rows + 1, 2, 2).provenance.image, "which table it was"
    with pytest.raises(BadModel, match="no network was asked"):
        Critic.load(tmp_path / "Critic.json", net())
