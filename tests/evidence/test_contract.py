"""What every metric owes, over the registry, in 2D and 3D: its price, its facts, the same answer again, nothing touched, no number that means nothing."""

import copy
import math
import multiprocessing
import pickle
import re

import pytest
import torch
from tests.evidence.toy import learned, positives

import pellucid as pl
from pellucid.evidence import controls
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import METRICS, metric
from pellucid.explanation import Measurement
from pellucid.image import Image
from pellucid.method import Cite
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.study.tables import RANGES

assert list(pl.metrics())  # their folders are imported with the first question
STATUSES = {"pass", "fail", "inconclusive", "void"}
DIMS = [(name, d) for name in sorted(METRICS) for d in sorted(METRICS[name].facts.space)]


def panel_of(dims, maps=("saliency", "integrated_gradients(steps=4)")):
    net = learned(dims)
    (x,) = positives(net, 1, 5, dims)
    model = pl.Model(net)
    mask = torch.zeros(x.shape[1:], dtype=torch.bool)
    peak = torch.unravel_index(x[0].argmax(), x[0].shape)
    mask[tuple(slice(max(0, int(p) - 2), int(p) + 3) for p in peak)] = True
    panel = open_panel(model, Image(x), list(maps), target=1, mask=mask, run=Run(seed=3, chunk=16))
    controls.add(panel, ("random", "edges", "blurred"))
    return panel


def measured(name, panel):
    with untouched(panel.model.module):
        return METRICS[name].measure(panel)


@pytest.mark.parametrize(("name", "dims"), DIMS)
def test_a_metric_keeps_its_contract(name, dims):
    panel, known = panel_of(dims), METRICS[name]
    weights = copy.deepcopy(panel.model.module.state_dict())
    state, before, n = torch.get_rng_state(), dict(panel.spent), len(panel.entries)
    found = measured(name, panel)
    spent = {k: v - before.get(k, 0) for k, v in panel.spent.items()}

    assert list(found) == list(panel.entries)
    for m in found.values():
        unit = ("mm", "samples") if known.facts.unit == "the grid's unit" else (known.facts.unit,)
        assert (m.name, m.direction) == (name, known.facts.better)
        assert m.unit in unit
        assert m.status in STATUSES
        assert m.text.endswith((".", ".)"))
        assert m.status in ("void", "inconclusive") or math.isfinite(m.value), m.text
        assert m.low is None or m.high is None or math.isnan(m.value) or m.low <= m.high
        low, high = RANGES.get(known.facts.unit, (-math.inf, math.inf))
        assert math.isnan(m.value) or low - 1e-6 <= m.value <= high + 1e-6, "a study would cut its interval off"
        assert m.detail["score"] == repr(panel.target)
    asked = [e for e in panel.entries.values() if e.ask is not None]
    price = known.price(dims)
    forward, maps = price.shared + price.each * n, price.anew * len(asked)
    own = spent.get("forward", 0) if not maps else None  # maps made anew bring their methods' passes
    assert spent.get("maps", 0) == maps or (price.at_most and spent.get("maps", 0) <= maps)
    if own is not None:
        assert own == forward or (price.at_most and own <= forward), f"{own} passes, declared {forward}"

    again = measured(name, panel_of(dims))
    for n_, m in found.items():
        assert m.value == pytest.approx(again[n_].value, rel=1e-6, abs=1e-9, nan_ok=True), "the same seed, another answer"
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, weights[k]) for k, v in panel.model.module.state_dict().items())


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_map_without_numbers_or_content_is_void(name):
    from dataclasses import replace

    dims = min(METRICS[name].facts.space)
    panel = panel_of(dims, ["saliency"])
    shape = panel.grid.shape
    own = panel.entries["saliency"]
    panel.entries = {
        "saliency": own,
        "nan": replace(own, relevance=torch.full(shape, math.nan, dtype=torch.float64)),
        "zero": replace(own, relevance=torch.zeros(shape, dtype=torch.float64)),
    }
    found = measured(name, panel)
    assert found["nan"].status == "void"
    assert math.isnan(found["nan"].value)
    assert found["zero"].status in ("void", "inconclusive", "fail"), "an empty map passes nothing"


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_documented(name):
    doc = METRICS[name].fn.__doc__ or ""
    assert "**Misleads when**" in doc
    assert "**Source**" in doc
    assert len(doc.splitlines()) <= 32
    assert re.match(r"[A-Z].*[.:?]$", doc.strip().splitlines()[0]), doc.strip().splitlines()[0]
    assert pl.read_metric(repr(METRICS[name])) == METRICS[name]


def _sent(data):
    known = pickle.loads(data)
    return repr(known), known.fn.__module__


def test_every_metric_travels_to_a_spawned_process():
    """Also one that only its own module registers."""
    from tests.evidence.outside import from_outside

    try:
        sent = [*METRICS.values(), from_outside(k=3)]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(_sent, [pickle.dumps(m) for m in sent]) == [(repr(m), m.fn.__module__) for m in sent]
    finally:
        del METRICS["from_outside"]


def test_the_contract_catches_a_metric_that_cheats():
    @metric(cite=Cite("Nobody", 2026, "Cheats", "none"), unit="1", better="up", reference="none")
    def cheating(panel):
        """Ask the network in secret."""
        score = panel.scores([panel.x * 0.5])[0]
        return {n: Measurement("x", score, "1", "up", "pass", "It is so.") for n in panel.names}

    try:
        with pytest.raises(AssertionError, match="declared 0"):
            test_a_metric_keeps_its_contract("cheating", 2)
        with pytest.raises(AssertionError, match="empty map passes nothing"):
            test_a_map_without_numbers_or_content_is_void("cheating")
    finally:
        del METRICS["cheating"]
