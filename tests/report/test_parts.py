"""Parts of a page by themselves: the cut to the body, the words of methods, calibrated numbers, where the map points."""

import numpy as np
import pytest
import torch
from tests.report.cases import AGAINST_AT, FOR_AT, SHAPE, explained, flat, head

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence.predictions import Temperature
from pellucid.image import Image
from pellucid.method import methods
from pellucid.report import body, process, summary, words, write_cohort
from pellucid.report import pictures as drawing


def test_a_big_volume_is_cut_to_the_body_and_keeps_every_peak(monkeypatch):
    monkeypatch.setattr(body, "MOST", 500)
    monkeypatch.setattr(drawing, "MOST", 500)
    scan, values = head()
    inside = torch.zeros(1, *SHAPE)
    inside[0, 3:9, 4:10, 3:8] = 1.0
    scan = Image(inside, scan.grid, facts=scan.facts)
    values[(0, *AGAINST_AT)], values[0, 0, 0, 0] = 0.0, -1.0  # the weaker place, in a corner
    found, start, told = body.cut_to_body(scan, [explained(scan, values)])
    kept = [(s, s + n) for s, n in zip(start, found.grid.shape, strict=True)]
    assert all(a <= p < b for p, (a, b) in zip(FOR_AT, kept, strict=True))  # the peak lies outside the body, and is kept
    assert found.grid.world((0, 0, 0)) == pytest.approx(scan.grid.world(start))
    assert "12 × 14 × 10 voxels" in told[0] and "33.3 %" in told[0]  # the weaker place, 1 of 3, is cut off
    assert not all(a <= 0 for a, _ in kept)
    assert [a for a, _ in kept] == [n - b for (_, b), n in zip(kept, SHAPE, strict=True)]  # as much at both ends: halves stay halves
    shown = drawing.pictures(scan, [explained(scan, values)])
    assert shown.start == start and np.prod(shown.grid.shape) <= 500
    assert shown.grid.world(shown.layers[0].peak) == pytest.approx(scan.grid.world(FOR_AT), abs=2.6)


def test_every_method_says_when_it_misleads():
    silent = [m.name for m in methods() if not words.misleads(repr(m))]
    assert silent == []
    assert len(words.misleads("smooth(inner=saliency(), n=25)")) == 2  # the wrapper's and the wrapped method's


def test_calibrated_probabilities_are_those_of_scaled_logits():
    scan, values = flat()
    m = explained(scan, values)
    logits = torch.tensor(m.probabilities, dtype=torch.float64).log() + 3.0
    names = ("healthy", "early", "late")
    learned = Temperature((0.5,) * 3, (0.1, 0.0, -0.2), "temperature", True, names, 9, 1.0, 0.9)
    wanted = (0.5 * logits + torch.tensor([0.1, 0.0, -0.2], dtype=torch.float64)).softmax(0)
    assert summary.calibrated(m, learned) == pytest.approx(wanted.tolist(), rel=1e-9)
    each = Temperature((0.5, 1.0, 2.0), (0.0,) * 3, "each", False, names, 9, 1.0, 0.9)
    logit = torch.tensor(m.probabilities, dtype=torch.float64).logit()
    assert summary.calibrated(m, each) == pytest.approx((logit * torch.tensor([0.5, 1.0, 2.0])).sigmoid().tolist(), rel=1e-9)
    with pytest.raises(BadParameter):
        summary.calibrated(m, Temperature((0.5, 1.0, 2.0), (0.0,) * 3, "vector", True, names, 9, 1.0, 0.9))


@pytest.mark.parametrize(("output", "word"), [("regression", "value"), ("", "score")])
@pytest.mark.parametrize("method", ["occlusion(window=8)", "kernel_shap(samples=8)"])
def test_the_curve_of_a_method_names_what_it_shows(output, word, method):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
    scan = Image(torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)))
    (shown,) = process.processes([pl.explain(pl.Model(net, output=output or None), scan, target=1, method=method)])
    other = "score" if word == "value" else "value"
    assert f"{word} of " in shown["svg"] + str(shown["facts"]["says"])
    assert word in shown["text"]
    assert f"{other} of " not in shown["svg"] + str(shown["facts"]["says"]) + shown["text"]


def test_a_cohort_says_what_the_values_of_each_map_are(tmp_path):
    scan, values = flat()
    rows = [explained(scan, values, method=m) for m in ("integrated_gradients()", "saliency()", "eigen_cam()", "another()")]
    page = write_cohort(tmp_path / "c.html", rows).read_text()
    assert "raises the score" not in page
    for words_ in ("contribution to the score", "slope: change of the score", "activation, the same for every answer", "unit not declared"):
        assert page.count(words_) == 1, words_
