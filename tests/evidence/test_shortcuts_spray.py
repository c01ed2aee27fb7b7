"""SpRAy: the spectrum against slow sums, planted strategies found and named, none named where there are none, and what each kind of row ignores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence.shortcuts import spectral, spray, traits
from pellucid.evidence.shortcuts.association import associations

N = 40


def planted(dims=2, seed=0, *, wander=False, share=0.3):
    """Maps of a smooth lesion in the middle; in some of them a cross in a corner (or anywhere) instead."""
    g = torch.Generator().manual_seed(seed)
    side = 24 if dims == 2 else 12
    axes = torch.meshgrid(*[torch.arange(side).float()] * dims, indexing="ij")
    marked = torch.arange(N) < share * N
    maps = []
    for i in range(N):
        m = 0.02 * torch.randn((1, *[side] * dims), generator=g)
        at = side / 2 + torch.rand(dims, generator=g)
        lesion = torch.exp(-sum((a - c) ** 2 for a, c in zip(axes, at)) / (side / 4))
        if marked[i]:
            start = (torch.rand(dims, generator=g) * (side - 4)).long() if wander else torch.tensor([1] * dims)
            m[(0, *[slice(int(s), int(s) + 3) for s in start])] += 1
        else:
            m[0] += lesion
        maps.append(m)
    return maps, marked.tolist()


def test_spectrum_is_that_of_the_slow_sums():
    rows = np.random.default_rng(0).normal(size=(14, 3))
    apart = spectral.distances(rows)
    n, k = 14, 4
    slow = np.array([[np.sqrt(sum((rows[i][d] - rows[j][d]) ** 2 for d in range(3))) for j in range(n)] for i in range(n)])
    assert np.allclose(apart, slow, atol=1e-7)
    a = np.zeros((n, n))
    for i in range(n):
        for j in sorted((j for j in range(n) if j != i), key=lambda j: slow[i][j])[:k]:
            a[i, j] = a[j, i] = 1
    degree = a.sum(1)
    laplacian = np.array([[float(i == j) - a[i, j] / np.sqrt(degree[i] * degree[j]) for j in range(n)] for i in range(n)])
    found = spectral.spectrum(spectral.affinity(apart, k), 8)
    assert np.allclose(found.values, np.linalg.eigvalsh(laplacian)[:9], atol=1e-9)
    for value, vector in zip(found.values, found.vectors.T):
        assert np.allclose(laplacian @ vector, value * vector, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
def test_groups_are_those_of_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    metrics = pytest.importorskip("sklearn.metrics")
    g = np.random.default_rng(3)
    rows = np.concatenate([g.normal(c, 0.3, (15, 4)) for c in (0, 2, 4)])
    near = spectral.affinity(spectral.distances(rows), 6)
    own = spectral.spectrum(near)
    assert own.gap == 3
    theirs = cluster.SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(near)
    for by in ("k-means", "agglomerative"):
        assert metrics.adjusted_rand_score(own.groups(3, by, 0), theirs) == 1


def test_a_correlation_is_no_distance():
    """CoRelAy's SpRAy script passes r itself as distance: by it, the least alike would be neighbors."""
    rows = np.array([[1.0, 2, 3], [2.0, 4, 6.1], [3.0, 2, 1]])
    d = spectral.distances(rows, "correlation")
    assert d[0, 1] < 0.01 and d[0, 2] == pytest.approx(2)
    assert np.allclose(np.diag(d), 0) and np.allclose(d, 1 - np.corrcoef(rows))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_planted_strategy_is_found_and_named(dims):
    maps, marked = planted(dims)
    found = spray(
        maps,
        metadata={"site": ["B" if m else "A" for m in marked], "age": [50 + i * 7 % 31 for i in range(N)]},
        permutations=499,
        bootstraps=15,
    )
    own = next(c for c in found if list(c.members) == [i for i, m in enumerate(marked) if m])
    assert own.stability > 0.9 and own.fixity > 0.8 and own.tightness < 0.5 and own.away > 0.7 and found.rand > 0.4
    assert found.suspects == (own,) and len(own.reasons) == 2, "groups of lesions that lie a little apart are none"
    assert next(a for a in own.associations if a.column == "site").value == "B"
    region = found.region(own.number, 0.015 if dims == 2 else 0.01)
    side = maps[0].shape[-1]
    assert region.shape == maps[0].shape[1:] and bool(region[(slice(0, side // 4),) * dims].any())
    assert not bool(region[(slice(side // 3, None),) * dims].any())
    assert found.embedding().shape == (N, 2) and len(found.table()) == len(found.clusters)


def test_exchanged_metadata_are_seldom_named():
    """Holm over clusters and columns: at most 5 % of clean tables raise an alarm."""
    g = np.random.default_rng(1)
    labels = g.integers(0, 4, 60)
    alarms = 0
    for i in range(25):
        table = {"site": g.integers(0, 3, 60).astype(str).tolist(), "age": g.normal(size=60).tolist()}
        alarms += min(a.holm for a in associations(labels, table, list(range(60)), 99, i)) < 0.05
    assert alarms <= 4  # binomial(25, 0.05): more in less than 1 % of runs


def test_images_of_one_patient_are_not_counted_as_independent():
    """Clusters that are patients go with anything that is a patient's by chance; only tests that exchange patients know that."""
    g = np.random.default_rng(2)
    who = np.repeat(np.arange(8), 8)
    labels = (who >= 4).astype(np.int64)
    alarms = {"patients": 0, "images": 0}
    for i in range(30):
        site = g.integers(0, 2, 8).astype(str)[who].tolist()
        for name, patients in (("patients", who.tolist()), ("images", list(range(64)))):
            found = associations(labels, {"site": site}, patients, 99, i)
            alarms[name] += bool(found) and min(a.holm for a in found) < 0.05
    assert alarms["patients"] <= 4 < alarms["images"]


def test_what_differs_within_patients_is_exchanged_within_them():
    labels = np.array([0, 1] * 15)
    found = associations(labels, {"eye": ["left", "right"] * 15}, [i // 2 for i in range(30)], 499, 0)
    assert found[0].p < 0.01 and found[0].inside == 1 and found[0].outside == 0


def test_aligned_rows_find_a_mark_wherever_it_is():
    maps, marked = planted(wander=True)
    want = np.array(marked)
    apart = {f: spectral.distances(traits.rows(maps, f)) for f in ("grid", "aligned", "radial", "histogram")}
    inner = {f: d[np.ix_(want, want)][np.triu_indices(int(want.sum()), 1)].mean() / d[np.ix_(want, ~want)].mean() for f, d in apart.items()}
    assert inner["grid"] > 0.9
    assert inner["aligned"] < 0.5 and inner["radial"] < 0.95 and inner["histogram"] < 0.8


def test_radial_rows_measure_in_the_patient():
    """A round spot on an anisotropic grid gives the row that it gives on an even one."""

    def spot(shape, spacing):
        axes = torch.meshgrid(*[torch.arange(n).double() * s for n, s in zip(shape, spacing)], indexing="ij")
        values = torch.exp(-sum((a - n * s / 2) ** 2 for a, n, s in zip(axes, shape, spacing)) / 20)[None].float()
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(values.numel(), 2))
        made = pl.explain(net, pl.Image(values, pl.Grid.spaced(shape, spacing)), 1, method="saliency")
        return replace(made, values=values)

    a, b = spot((32, 32, 32), (1.0, 1.0, 1.0)), spot((32, 32, 16), (1.0, 1.0, 2.0))
    assert spectral.distances(traits.rows([a, b], "radial"))[0, 1] < 0.15
    c = spot((32, 32, 16), (1.0, 1.0, 1.0))
    assert spectral.distances(traits.rows([a, c], "radial"))[0, 1] > 0.2, "without the spacing it would be another form"


def test_channels_of_a_site():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 5, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(5, 2)
    )
    maps = pl.explain(net, [torch.rand(1, 12, 12) for _ in range(10)], 1, method="input_x_gradient", site="1")
    rows = traits.rows(maps, "channels")
    assert rows.shape == (10, 5)
    sums = maps[0].values.double().flatten(1).sum(1).numpy()
    assert np.allclose(rows[0], sums / np.linalg.norm(sums))
    assert spray(maps, features="channels", clusters=2, bootstraps=3).labels
    assert traits.rows(maps, lambda m: [m.values.sum(), m.values.abs().max()]).shape == (10, 2)
    with pytest.raises(BadParameter, match="several channels"):
        traits.rows([torch.rand(1, 8, 8)], "channels")


def test_empty_maps_are_set_aside_and_nonsense_is_refused():
    maps, marked = planted()
    found = spray([*maps, torch.zeros(1, 24, 24)], bootstraps=3, metadata={"site": [*map(str, marked), "x"]}, permutations=19)
    assert found.labels[-1] == -1 and len(found.kept) == N
    with pytest.raises(BadParameter, match="maps with something"):
        spray(maps[:4])
    with pytest.raises(BadParameter, match="value of 'site'"):
        spray(maps, metadata={"site": [1, 2]})
    with pytest.raises(BadParameter, match="features of spray"):
        spray(maps, features="pixels")
    with pytest.raises(BadParameter, match="NaN"):
        spray([*maps, torch.full((1, 24, 24), torch.nan)])


def test_one_strategy_is_one_cluster_and_no_suspect():
    maps, _ = planted(share=0)
    found = spray(maps, clusters=None, bootstraps=5, metadata={"site": ["A", "B"] * (N // 2)}, permutations=99)
    assert not [c for c in found if any("goes with" in r for r in c.reasons)]


@pytest.mark.parametrize("distance", ["euclidean", "correlation"])
def test_maps_that_are_all_alike_have_no_groups(distance):
    """It ended in a ZeroDivisionError."""
    one = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    for maps in ([torch.ones(1, 8, 8)] * 12, [one] * 12):
        with pytest.raises(BadParameter, match="all alike"):
            spray(maps, distance=distance, permutations=19, bootstraps=3)
