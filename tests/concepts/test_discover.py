"""Automatic concepts: pieces of a physical size, twins dropped, the planted thing found again among groups."""

import pytest
import torch
from tests.concepts.conftest import pictures

from pellucid.concepts import discover_concepts
from pellucid.concepts.discover import _half, _kept
from pellucid.errors import BadImage, BadParameter
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.run import Run


def test_pieces_of_a_finer_cut_that_are_there_already_are_dropped():
    coarse = torch.zeros(10, 10, dtype=torch.int32)
    coarse[:, 5:] = 1
    fine = coarse.clone()
    fine[:5, :5] = 2  # halves the left; the right stays as it is
    assert _kept([coarse, fine]) == [[0, 1], [0, 2]]
    big = torch.zeros(100, 100, dtype=torch.int32)
    big[0, :9] = 1
    assert _kept([big]) == [[0]], "tiny pieces are dropped"


def test_halves_are_of_patients():
    who = [i // 3 for i in range(30)]
    half = _half(who, 0)
    assert all(len({half[i] for i in range(30) if who[i] == p}) == 1 for p in range(10)) and sum(half) == 15


def test_the_spot_is_among_the_groups(trained, difference):
    grid = Grid.spaced((24, 24), (0.5, 0.5))
    scans = [Image(x, grid) for x in pictures(14, True, 500, size=24)]
    found = discover_concepts(trained, scans, difference, site="1", sizes=("1.5mm",), clusters=4, run=Run(chunk=4))
    assert found.pieces > 14 * 30 and 1 <= len(found.concepts) <= 4
    brightness = {}
    for c in found:
        (name,) = c.bank.names
        own = c.bank[name]
        brightness[name] = torch.stack([s.values[0][m].mean() for s, m in zip(own.scans, own.masks, strict=True)]).mean()
        assert len(set(own.patients)) >= 5 and max(own.patients.count(p) for p in own.patients) <= 2
        assert c.rows[0].size == len(own) and len(c.rows[0].null) >= 19
        drawn = set(c.bank.random.fingerprints)
        assert not drawn & set(own.fingerprints)
    spot = max(brightness, key=brightness.get)
    row = next(r for r in found.rows if r.concept == spot)
    assert row.score > 0.5 and row.accuracy > 0.8
    assert len(found.table()) == len(found.rows) == len(found.sentences())


def test_what_cannot_be_is_told(trained):
    scans = pictures(12, True, 500)
    with pytest.raises(BadImage, match="at least 10 patients"):
        discover_concepts(trained, scans[:6], 1, site="1", sizes=("3px",))
    with pytest.raises(BadParameter, match="mm need an image that knows its spacing"):
        discover_concepts(trained, scans, 1, site="1", sizes=("3mm",))
    with pytest.raises(BadParameter, match="at least one size"):
        discover_concepts(trained, scans, 1, site="1", sizes=())
    with pytest.raises(BadParameter, match="a patient for each of 12"):
        discover_concepts(trained, scans, 1, site="1", sizes=("3px",), patients=[1])
