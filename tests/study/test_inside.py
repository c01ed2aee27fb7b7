"""How much of a map lies in a mask, as the tables in docs/ count it: numbers by hand."""

import math

import pytest
import torch
from studies.inside import area_share, enrichment, hit, mass_share

MAP = torch.tensor([[3.0, -9.0, 1.0], [0.0, 2.0, -4.0]])
MASK = torch.tensor([[True, True, False], [False, False, True]])


def test_only_what_speaks_for_the_target_has_mass():
    assert mass_share(MAP, MASK) == pytest.approx(3 / 6)
    assert mass_share(MAP, ~MASK) == pytest.approx(3 / 6)
    assert area_share(MASK) == pytest.approx(1 / 2)
    assert enrichment(MAP, MASK) == pytest.approx(1.0)
    corner = torch.zeros_like(MASK)
    corner[0, 0] = True
    assert enrichment(MAP, corner) == pytest.approx((3 / 6) / (1 / 6)), "half of the mass on a sixth of the area"
    assert enrichment(torch.ones(4, 5, 6), torch.arange(120).view(4, 5, 6) % 7 == 0) == pytest.approx(1.0), "a map that knows nothing"


def test_the_highest_sample_hits_or_misses_with_its_sign():
    assert hit(MAP, MASK)
    assert not hit(-MAP, ~MASK), "the strongest against is the highest of the opposite map"
    assert not hit(MAP, ~MASK)
    assert not hit(MAP, torch.zeros_like(MASK))


def test_where_nothing_can_be_counted_there_is_no_number():
    assert math.isnan(mass_share(-MAP.abs(), MASK))
    assert math.isnan(enrichment(MAP, torch.zeros_like(MASK)))
