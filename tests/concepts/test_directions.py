"""Directions: formulas, signs, what distractors do to filters, and accuracy without leaks."""

import numpy as np
import pytest

from pellucid.concepts import cav, held_out
from pellucid.concepts.directions import beyond_chance, folds
from pellucid.concepts.vectors import Span
from pellucid.errors import BadImage, BadParameter

ALL = ["pattern", "logistic", "ridge", "sgd"]


def two(n=40, d=16, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    a[:, 3] += 3
    return a, b


@pytest.mark.parametrize("how", ALL)
def test_a_direction_has_length_one_and_points_at_the_concept(how):
    a, b = two()
    v = cav(a, b, how)
    assert np.linalg.norm(v) == pytest.approx(1) and v[3] > 0.5
    assert ((a - b) @ v).mean() > 0
    assert np.allclose(cav(a, b, how, seed=5), cav(a, b, how, seed=5))


def test_pattern_is_the_covariance_over_the_variance_of_the_label():
    a, b = two(30)
    b = b[:20]
    rows, label = np.concatenate([a, b]), np.repeat([1.0, 0.0], [30, 20])
    slow = np.array([np.cov(rows[:, k], label, bias=True)[0, 1] / label.var() for k in range(16)])
    assert np.allclose(cav(a, b), slow / np.linalg.norm(slow))


def test_ridge_in_its_dual_is_ridge():
    a, b = two(8, 40)
    wide = cav(a, b, "ridge")
    rows, y = np.concatenate([a, b]), np.repeat([1.0, -1.0], 8)
    x = (rows - rows.mean(0)) / 4  # the root of 16 rows, each of which weighs 1/16
    slow = np.linalg.solve(x.T @ x + (x**2).sum() / 16 * np.eye(40), x.T @ (y / 4))
    assert np.allclose(wide, slow / np.linalg.norm(slow))


@pytest.mark.parametrize("d", [64, 512])
def test_pattern_finds_what_changes_where_filters_turn_away_from_distractors(d):
    rng = np.random.default_rng(1)
    truth = np.zeros(d)
    truth[0] = 1
    noise = rng.normal(size=(8, d)) / np.sqrt(d)
    noise[:, 0] += 0.5  # what distracts overlaps the concept's direction
    s = np.repeat([1.0, 0.0], 100)
    rows = s[:, None] * truth * 4 + 3 * rng.normal(size=(200, 8)) @ noise + 0.05 * rng.normal(size=(200, d))
    near = {how: float(cav(rows[:100], rows[100:], how) @ truth) for how in ALL}
    assert near["pattern"] > 0.9
    assert all(near["pattern"] > near[how] + 0.1 for how in ALL[1:]), near


def test_the_references_signs_give_the_same_score():
    """tensorflow/tcav: concept = label 0, direction = -coef, and a gradient of the loss below 0 counts."""
    from sklearn.linear_model import SGDClassifier

    a, b = two()
    theirs = SGDClassifier(alpha=0.01, max_iter=1000, tol=1e-3, random_state=3).fit(np.concatenate([a, b]), np.repeat([0, 1], 40))
    flipped = -theirs.coef_[0] / np.linalg.norm(theirs.coef_)
    ours = cav(a, b, "sgd", seed=3)
    assert float(ours @ flipped) > 0.99
    logit_slopes = np.random.default_rng(2).normal(size=(50, 16)) + 0.3 * np.eye(16)[3]
    loss_slopes = -logit_slopes  # of -log p, up to a positive factor
    assert np.mean(logit_slopes @ ours > 0) == pytest.approx(np.mean(loss_slopes @ flipped < 0), abs=0.041)


def test_no_patient_is_on_both_sides_of_a_split():
    rng = np.random.default_rng(0)
    for seed in range(5):
        who = rng.integers(0, 9, 40).tolist(), rng.integers(5, 15, 40).tolist()
        a, b = folds(who, seed)
        where = {}
        for p, f in [*zip(who[0], a, strict=True), *zip(who[1], b, strict=True)]:
            assert where.setdefault(p, f) == f
        assert set(a) == set(b) == set(range(5))


def test_accuracy_leaks_without_patients_and_not_with_them():
    """Images of a patient are copies; the label is the patient's by chance."""
    rng = np.random.default_rng(0)
    leaky, honest = [], []
    for seed in range(30):
        who = np.repeat(np.arange(8), 6)
        rows = rng.normal(size=(16, 100))
        a, b = rows[who] + 0.01 * rng.normal(size=(48, 100)), rows[who + 8] + 0.01 * rng.normal(size=(48, 100))
        leaky.append(held_out(a, b, seed=seed))
        honest.append(held_out(a, b, patients=(who.tolist(), (who + 8).tolist()), seed=seed))
    assert np.mean(leaky) > 0.95
    assert 0.35 < np.mean(honest) < 0.6


@pytest.mark.parametrize("how", ALL)
def test_accuracy_of_what_is_there_and_of_what_is_not(how):
    a, b = two(60)
    assert held_out(a, b, how) > 0.85
    same = np.random.default_rng(4).normal(size=(120, 16))
    assert 0.3 < held_out(same[:60], same[60:], how) < 0.7


def test_chance_is_binomial():
    assert beyond_chance(0.75, 20) == pytest.approx(0.0207, abs=1e-4)
    assert beyond_chance(0.5, 20) > 0.5 and beyond_chance(1.0, 10) == pytest.approx(2**-10)


def test_the_span_keeps_every_product_and_gives_directions_back():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 9000)).astype(np.float32)
    span = Span.of(rows)
    assert span.coordinates.shape == (20, 20)
    for how in ALL:
        v = span.vector(cav(span.coordinates[:10], span.coordinates[10:], how))
        full = cav(rows[:10].astype(float), rows[10:].astype(float), how)
        assert float(v @ full) > (0.9999 if how != "sgd" else 0.98)
    v = cav(span.coordinates[:10], span.coordinates[10:])
    slope = rng.normal(size=(3, 9000)).astype(np.float32)
    assert np.allclose(span.project(slope) @ v, slope @ span.vector(v), atol=1e-3)
    few = rows[:, :7]
    assert np.array_equal(Span.of(few).coordinates, few.astype(float))


def test_what_cannot_be_is_told():
    a, b = two(10)
    with pytest.raises(BadParameter, match="pattern, logistic"):
        cav(a, b, "svm")
    with pytest.raises(BadImage, match="two patients on each side"):
        held_out(a, b, patients=(["one"] * 10, list(range(10))))
