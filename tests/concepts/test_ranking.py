"""The set-level test: exact under exchange, whatever the gradients; the classical one beside it."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from pellucid.concepts.ranking import bonferroni, cavs, classical, rank, share_interval, weigh
from pellucid.intervals import adjusted


def test_rank_counts_sets_that_are_as_far_from_the_middle():
    assert rank(np.array([1.0, 0.4, 0.6, 0.5])) == 0.25
    assert rank(np.array([0.5, 0.9, 0.1, 0.5])) == 1.0  # the middle is as near as can be
    assert rank(np.array([1.0, 0.0, 0.5, 0.5])) == 0.5  # as far on the other side
    assert rank(np.array([1.0, 0.0, 0.5, 0.5]), np.array([3.0, -1.0, 0.0, 0.0])) == 0.25
    assert rank(np.zeros(5)) == 1.0


def test_weighing_is_the_slow_formula():
    rng = np.random.default_rng(0)
    rows, slopes = rng.normal(size=(30, 6)), rng.normal(size=(11, 6))
    sets = [np.arange(5 * k, 5 * k + 5) for k in range(6)]
    found = weigh(cavs(rows, sets, "pattern", 0), slopes)
    for i in range(6):
        shares, means, effects = [], [], []
        for j in range(6):
            if i == j:
                continue
            gap = rows[sets[i]].mean(0) - rows[sets[j]].mean(0)
            s = slopes @ (gap / np.linalg.norm(gap))
            shares.append((s > 0).mean())
            means.append(s.mean())
            effects.append((slopes @ gap).mean())
            assert found.pairs[i, j] == pytest.approx((s > 0).mean())
        assert found.score[i] == pytest.approx(np.mean(shares))
        assert found.sensitivity[i] == pytest.approx(np.mean(means))
        assert found.effect[i] == pytest.approx(np.mean(effects))
    assert found.score.mean() == pytest.approx(0.5)
    assert found.each.shape == (11, 5)


@pytest.mark.parametrize("how", ["logistic", "ridge", "sgd"])
def test_other_directions_take_the_same_way(how):
    rng = np.random.default_rng(0)
    rows, slopes = rng.normal(size=(48, 4)), rng.normal(size=(9, 4)) + 2 * np.eye(4)[0]
    rows[:8, 0] += 6
    found = weigh(cavs(rows, [np.arange(8 * k, 8 * k + 8) for k in range(6)], how, 0), slopes)
    assert found.score[0] > 0.9 and found.effect[0] == found.effect.max()


@pytest.mark.parametrize("steady", [False, True])
def test_p_of_null_concepts_is_uniform_also_where_all_images_have_one_gradient(steady):
    """A linear head gives every image the same gradient: scores are ranks, 0 and 1 both occur, and ties must not spoil the level."""
    rng = np.random.default_rng(0)
    slopes = np.ones((20, 8)) if steady else rng.normal(size=(20, 8)) + 0.5
    p = []
    for _ in range(400):
        rows = rng.normal(size=(20 * 6, 8))
        p.append(weigh(cavs(rows, [np.arange(6 * k, 6 * k + 6) for k in range(20)], "pattern", 0), slopes).p)
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(np.array(p) <= level + 1e-9) - level) < 3.3 * np.sqrt(level * (1 - level) / 400)


def test_a_concept_that_matters_is_first_even_with_nineteen_sets_and_one_gradient():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(40):
        rows = rng.normal(size=(20 * 6, 8))
        rows[:6] += 2
        p.append(weigh(cavs(rows, [np.arange(6 * k, 6 * k + 6) for k in range(20)], "pattern", 0), np.ones((20, 8))).p)
    assert np.mean(np.array(p) <= 0.05) > 0.95


def test_the_classical_test_is_scipys():
    rng = np.random.default_rng(0)
    pairs = rng.random((7, 7))
    null = [pairs[i, j] for i in range(1, 7) for j in range(1, 7) if i != j]
    assert classical(pairs) == pytest.approx(ttest_ind(null, pairs[0, 1:]).pvalue)
    assert classical(np.zeros((4, 4))) == 1.0
    one = np.zeros((4, 4))
    one[0, 1:] = 1
    assert classical(one) == 0.0


def test_corrections():
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert bonferroni([0.01, 0.04, float("nan")])[:2] == pytest.approx([0.02, 0.08])
    assert np.isnan(adjusted([float("nan"), 0.5])[0])


def test_intervals_count_patients():
    shares = np.array([1.0] * 18 + [0.0] * 2)
    low, high = share_interval(shares, None)
    assert low == pytest.approx(0.699, abs=1e-3) and high == pytest.approx(0.972, abs=1e-3)
    wide = share_interval(shares, [i // 5 for i in range(20)])
    assert wide[1] - wide[0] > high - low
    assert np.isnan(share_interval(shares[:2], None)[0])
