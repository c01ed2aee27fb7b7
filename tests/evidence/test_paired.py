"""Paired tests over patients against all patterns of signs, counted out."""

import itertools
import math

import numpy as np
import pytest

from pellucid.intervals import adjusted, paired

# five patients with one to four images each; the differences a - b of the first are large, all others small
WHO = ["a", "a", "b", "c", "c", "c", "c", "d", "e", "e"]
A = [0.9, 0.8, 0.55, 0.50, 0.62, 0.40, 0.58, 0.2, 0.65, 0.40]
B = [0.5, 0.6, 0.50, 0.55, 0.50, 0.45, 0.50, 0.3, 0.55, 0.45]


def counted(differences: list[float]) -> float:
    """Share of all patterns of signs whose sum is as far from 0, on either side."""
    seen = abs(sum(differences))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in itertools.product((1, -1), repeat=len(differences))]
    return sum(abs(s) >= seen - 1e-12 for s in sums) / len(sums)


def by_patient(a: list[float], b: list[float], who: list[str]) -> list[float]:
    return [sum(x - y for x, y, w in zip(a, b, who, strict=True) if w == p) for p in dict.fromkeys(who)]


def test_p_of_paired_differences_is_that_of_all_patterns_of_signs():
    each = by_patient(A, B, WHO)
    assert each == pytest.approx([0.6, 0.05, 0.1, -0.1, 0.05])
    assert counted(each) == 12 / 32, "by hand: the first keeps its sign, and of the rest no more than six patterns reach 0.1"
    difference, p = paired(A, B, WHO)
    assert difference == pytest.approx(0.07)
    assert p == pytest.approx(12 / 32, abs=0.02), "two-sided, over patients"
    assert paired(B, A, WHO)[1] == pytest.approx(p, abs=0.02)
    assert paired(B, A, WHO)[0] == pytest.approx(-difference)
    alone = [x - y for x, y in zip(A, B, strict=True)]
    assert paired(A, B)[1] == pytest.approx(counted(alone), abs=0.02), "without patients every image is one"
    assert abs(counted(alone) - 12 / 32) > 0.1


def test_images_of_one_patient_are_no_further_evidence():
    """Twenty equal images of each of five patients tell what one of each tells: p is at least 2 of 32."""
    values, who = np.repeat([0.3, 0.2, 0.25, 0.1, 0.15], 20), np.repeat(list("abcde"), 20).tolist()
    assert paired(values.tolist(), [0.0] * 100, who)[1] == pytest.approx(2 / 32, abs=0.01)


def test_pairs_without_a_number_are_left_out_and_holm_is_holm():
    a = [*A, math.nan, 5.0]
    b = [*B, 1.0, math.nan]
    assert paired(a, b, [*WHO, "f", "g"])[1] == pytest.approx(12 / 32, abs=0.02)
    assert all(map(math.isnan, paired([math.nan], [1.0])))
    assert adjusted([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
