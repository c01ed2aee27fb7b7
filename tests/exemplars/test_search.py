"""Exact search against a slow loop, whatever the data and the way; the scores of a ranking against scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pellucid.errors import BadImage, BadParameter
from pellucid.exemplars import Search, average_precision, kendall, ndcg, over_patients, precision_at
from pellucid.exemplars import coarse as coarse_module
from pellucid.exemplars import search as searching
from pellucid.exemplars.coarse import Coarse
from pellucid.exemplars.structural import Pictures
from pellucid.ops.similarity import ssim


def slow(rows, query, k, metric, leave=None):
    """All distances in float64, one after the other."""
    found = []
    for i, r in enumerate(rows):
        a, b = r.astype(np.float64), query.astype(np.float64)
        if metric == "cosine":
            d = 1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
        else:
            d = math.sqrt(float(((a - b) ** 2).sum()))
        if leave is None or not leave[i]:
            found.append((d, i))
    return sorted(found)[:k]


def data(kind, n=700, d=80, seed=0):
    chance = np.random.default_rng(seed)
    x = chance.standard_normal((n, d))
    if kind == "spectrum":
        x = (x / np.arange(1, d + 1)) @ np.linalg.qr(chance.standard_normal((d, d)))[0]
    if kind == "far away":
        x = x * 1e-2 + 50
    return x.astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", ["isotropic", "spectrum", "far away"])
@pytest.mark.parametrize("screened", [False, True])
def test_search_equals_a_slow_loop(kind, metric, screened, monkeypatch):
    monkeypatch.setattr(searching, "SCREENED", 0 if screened else 2**62)
    rows = data(kind)
    leave = np.arange(len(rows)) % 5 == 0
    search = Search.over(rows[:-4], metric)
    for n, query in enumerate(rows[-4:]):
        without = leave[:-4] if n % 2 else None
        (found,) = search.nearest(query[None], 9, leave=without)
        expected = slow(rows[:-4], query, 9, metric, without)
        assert found.places.tolist() == [i for _, i in expected]
        assert np.allclose(found.distances, [d for d, _ in expected], rtol=1e-4, atol=1e-7)
    together = search.nearest(rows[-4:], 9)
    assert together[0].places.tolist() == search.nearest(rows[-4:-3], 9)[0].places.tolist()


def test_the_screen_reads_few_rows_in_full_and_is_used(monkeypatch):
    monkeypatch.setattr(searching, "SCREENED", 0)
    rows = data("spectrum", n=4000)
    search = Search.over(rows[1:])
    assert search._screened(search.rows[0], 5, None) is not None
    seen = []
    monkeypatch.setattr(Search, "_multiplied", lambda *a: seen.append(a))
    assert search.nearest(rows[:1], 5)[0].places.size == 5 and not seen


@pytest.mark.parametrize("kind", ["isotropic", "spectrum", "far away", "sizes", "extremes"])
def test_products_of_bytes_are_never_further_off_than_said(kind):
    """The bound holds for every row, and is far from what would let every row through."""
    chance = np.random.default_rng(3)
    rows = data("isotropic" if kind in ("sizes", "extremes") else kind, n=900, d=512)
    if kind == "sizes":
        rows *= 10.0 ** chance.uniform(-6, 6, (900, 1)).astype(np.float32)
        rows[7] = 0
    if kind == "extremes":
        rows = np.where(rows > 0, 1, -1).astype(np.float32) * chance.choice([1.0, 1e-3], rows.shape).astype(np.float32)
    coarse = Coarse.of(rows[:-5])
    for q in rows[-5:]:
        about, off = (t.numpy().astype(np.float64) for t in coarse.products(q))
        gap = np.abs(rows[:-5].astype(np.float64) @ q.astype(np.float64) - about)
        size = np.linalg.norm(rows[:-5].astype(np.float64), axis=1) * np.linalg.norm(q.astype(np.float64))
        assert (gap <= off + 1e-6 * size).all()
        assert (off <= 0.025 * size).all(), "a bound that says nothing finds nothing"
        assert (gap[size > 0] > 0.03 * off[size > 0]).any()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rows_without_structure_are_searched_in_bytes(metric, monkeypatch):
    monkeypatch.setattr(searching, "SCREENED", 0)
    rows = data("isotropic", n=4000, d=256)
    rows[5:9] = rows[4]  # ties
    search = Search.over(rows[:-3], metric)
    assert not search.directed
    monkeypatch.setattr(Search, "_leading", lambda *a: pytest.fail("leading directions cannot help here"))
    monkeypatch.setattr(Search, "_multiplied", lambda *a: pytest.fail("all rows were read in full"))
    leave = np.arange(len(search.rows)) % 3 == 0
    for query in (*rows[-3:], rows[4]):
        for without in (None, leave):
            (found,) = search.nearest(query[None], 7, leave=without)
            assert found.places.tolist() == [i for _, i in slow(rows[:-3], query, 7, metric, without)]
            assert len(search._bytes(search.rows[0], 7, None)) < 400


def test_a_machine_that_saturates_gets_the_same_answers(monkeypatch):
    monkeypatch.setattr(searching, "SCREENED", 0)
    monkeypatch.setattr(coarse_module, "products_are_exact", lambda: False)
    rows = data("isotropic", n=600, d=256)
    search = Search.over(rows[1:])
    assert search.coarse is None and search.directed
    assert search.nearest(rows[:1], 5)[0].places.tolist() == [i for _, i in slow(rows[1:], rows[0], 5, "cosine")]
    assert Coarse.of(np.ones((3, 2000), np.float32)) is None, "sums that float32 cannot hold"


def test_products_that_saturate_are_noticed(monkeypatch):
    """Processors without an instruction for bytes shift one side to 0 .. 255 and add pairs of products in 16 bits."""

    def pairwise(a, b, most):
        pairs = ((a.int() + 128)[:, :, None] * b.int()[None]).reshape(len(a), -1, 2, b.shape[1]).sum(2)
        return (pairs.clamp(-most - 1, most).sum(1) - 128 * b.int().sum(0)).int()

    for most, exact in ((2**15 - 1, False), (2**31 - 1, True)):
        coarse_module.products_are_exact.cache_clear()
        monkeypatch.setattr(torch, "_int_mm", lambda a, b, most=most: pairwise(a, b, most))
        assert coarse_module.products_are_exact() == exact
    coarse_module.products_are_exact.cache_clear()


def test_rows_that_differ_by_less_than_float32_products_can_tell_are_told_apart():
    chance = np.random.default_rng(1)
    rows = np.repeat(chance.standard_normal((1, 64)).astype(np.float32) * 100, 50, 0)
    rows[:, 3] += np.arange(50, dtype=np.float32)[::-1] * 1e-4
    (found,) = Search.over(rows, "euclidean").nearest(rows[-1:], 5)
    assert found.places.tolist() == [49, 48, 47, 46, 45]


def test_equal_rows_come_by_place_and_k_is_cut():
    rows = np.ones((4, 3), np.float32)
    (found,) = Search.over(rows).nearest(rows[:1], 9, leave=np.array([False, True, False, False]))
    assert found.places.tolist() == [0, 2, 3] and found.distances.tolist() == [0, 0, 0]
    assert Search.over(rows).nearest(rows[:1], 2, leave=np.ones(4, bool))[0].places.size == 0


def test_a_table_in_a_file_is_searched(tmp_path):
    np.save(tmp_path / "rows.npy", data("isotropic"))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for metric in ("cosine", "euclidean"):
        assert Search.over(rows, metric).nearest(rows[7:8], 1)[0].places.tolist() == [7]


def test_wide_rows_are_not_screened(monkeypatch):
    """Finding directions takes the third power of the width: minutes for the cells of several sites."""
    monkeypatch.setattr(searching, "SCREENED", 0)
    monkeypatch.setattr(Search, "_screened", lambda *a: pytest.fail("screened"))
    rows = data("isotropic", 3, 3000)
    assert Search.over(rows).nearest(rows[1:2], 1)[0].places.tolist() == [1]


def test_what_search_refuses():
    rows = np.ones((4, 3), np.float32)
    with pytest.raises(BadParameter, match="cosine or euclidean"):
        Search.over(rows, "manhattan")
    with pytest.raises(BadParameter, match="rows"):
        Search.over(rows[0])
    with pytest.raises(BadImage, match="only zeros for image 2"):
        Search.over(np.array([[1.0], [2.0], [0.0]]))
    with pytest.raises(BadImage, match="NaN"):
        Search.over(np.array([[np.nan]]))
    for call in (lambda s: s.nearest(rows[:1], 0), lambda s: s.nearest(rows[:1], True)):
        with pytest.raises(BadParameter, match="k is a whole number"):
            call(Search.over(rows))
    with pytest.raises(BadParameter, match="queries"):
        Search.over(rows).nearest(rows[:, :2], 1)


@pytest.mark.parametrize("shape", [(2, 20, 17), (1, 9, 14, 12)])
def test_structural_similarity_of_many_is_that_of_pairs(shape):
    torch.manual_seed(0)
    pictures = torch.rand(7, *shape)
    pictures[3] = pictures[0] + 0.05 * torch.rand(shape)
    rows = pictures.flatten(1).numpy()
    (found,) = Pictures(rows, shape, 1.0).nearest(rows[:1], 7)
    each = [1 - np.mean([ssim(a, b, data_range=1.0) for a, b in zip(pictures[0], p, strict=True)]) for p in pictures]
    assert found.places[:2].tolist() == [0, 3]
    assert np.allclose(found.distances, np.sort(each), atol=1e-9)


def test_scores_are_those_of_scikit_learn_and_scipy():
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    chance = np.random.default_rng(0)
    for ties in (False, True):
        for _ in range(30):
            grades = chance.integers(0, 4, 12).astype(float)
            far = chance.integers(0, 5, 12).astype(float) if ties else chance.random(12)
            hits = (grades > 1).astype(float)
            if not hits.any() or hits.all():
                continue
            for k in (None, 3, 10):
                assert ndcg(grades, far, k) == pytest.approx(metrics.ndcg_score([grades], [-far], k=k), abs=1e-12)
            assert average_precision(hits, far) == pytest.approx(metrics.average_precision_score(hits, -far), abs=1e-12)
            assert kendall(far, grades) == pytest.approx(stats.kendalltau(far, grades).statistic, abs=1e-12)
            best = np.argsort(far, kind="stable")[:4]
            assert precision_at(hits, far, 4) == pytest.approx(metrics.precision_score(hits[best], np.ones(4), zero_division=0))


def test_scores_of_nothing_are_nan_and_bad_input_is_told():
    assert math.isnan(ndcg([0, 0], [1, 2])) and math.isnan(average_precision([0], [1])) and math.isnan(kendall([1, 1], [1, 2]))
    with pytest.raises(BadParameter, match="0 or more"):
        ndcg([-1, 1], [1, 2])
    with pytest.raises(BadParameter, match="one length"):
        ndcg([1], [1, 2])
    with pytest.raises(BadParameter, match="finite"):
        kendall([1, math.nan], [1, 2])
    with pytest.raises(BadParameter, match="k is a whole number"):
        precision_at([1], [1], 0)


def test_intervals_are_over_patients_not_over_queries():
    from scipy import stats

    each = [0.2, 0.4, 0.9, 0.6]
    alone = over_patients(each)
    low, high = stats.t.interval(0.95, 3, np.mean(each), stats.sem(each))
    assert (alone.low, alone.high) == (pytest.approx(max(0, low)), pytest.approx(min(1, high)))
    many = over_patients(np.repeat(each, 25), np.repeat(["a", "b", "c", "d"], 25))
    assert (many.low, many.high, many.queries, many.patients) == (pytest.approx(alone.low), pytest.approx(alone.high), 100, 4)
    few = over_patients([0.2, math.nan, 0.4], ["a", "b", "c"])
    assert few.queries == 2 and math.isnan(few.low) and few.value == pytest.approx(0.3)
    assert math.isnan(over_patients([math.nan]).value)
    with pytest.raises(BadParameter, match="a patient for each"):
        over_patients([1.0, 0.5], ["a"])


def test_intervals_hold_the_truth():
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        shift = chance.normal(0, 0.1, 12)
        queries = np.clip(0.5 + np.repeat(shift, 5) + chance.normal(0, 0.05, 60), 0, 1)
        found = over_patients(queries, np.repeat(np.arange(12), 5))
        held += found.low <= 0.5 <= found.high
    assert 0.92 <= held / 300 <= 0.98
