"""Similar cases: planted duplicates, patients left out, five measures, an index that is kept, refused, and survives a killed update."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.activations import gather
from pellucid.errors import BadFile, BadImage, BadParameter, BadSite, Cancelled
from pellucid.exemplars import Features, MapFeatures, Perceptual, Structural, Weighted, build_index, open_index, similar
from pellucid.exemplars.index import Entry
from pellucid.run import Run

MEASURES = ["features", "weighted", "map", "ssim", "perceptual"]


def net(dims, seed=0):
    torch.manual_seed(seed)
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return nn.Sequential(
        conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 6, 3, stride=2, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()


def scans(dims, n=9, side=12, seed=1):
    torch.manual_seed(seed)
    return [torch.rand(1, *[side] * dims) ** (1 + i % 3) for i in range(n)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("by", MEASURES)
def test_a_planted_duplicate_comes_first_unless_it_is_of_the_same_patient(by, dims):
    module, images = net(dims), scans(dims)
    query = images[2] + 0.001 * torch.rand_like(images[2])
    who = [f"p{i // 2}" for i in range(9)]
    found = similar(module, query, images, 3, by=by, labels=list("abcabcabc"), patients=who)
    assert found.places[0] == 2 and found.labels[0] == "c" and found.distances[0] < 0.05
    assert found.distances == tuple(sorted(found.distances)) and found.searched == 9
    without = similar(module, query, images, 9, by=by, patients=who, patient="p1")
    assert {2, 3}.isdisjoint(without.places) and len(without) == 7 and without.left_out == 2 and without.searched == 7
    assert all(m.likeness is not None and 0 <= m.likeness <= 1 for m in found)


@pytest.mark.parametrize("dims", [2, 3])
def test_features_are_pooled_activations(dims):
    model, images = pl.Model(net(dims)), scans(dims)
    index = build_index(model, images, by=Features(site="3", pool="max"))
    assert np.allclose(index.rows, gather(model, images, "3", pool="max").rows, atol=1e-6)
    rows = index.rows / np.linalg.norm(index.rows, axis=1, keepdims=True)
    expected = np.argsort(1 - rows.astype(float) @ rows[4].astype(float), kind="stable")
    assert similar(model, images[4], index, 9).places == tuple(expected)


def hooked(module, site, x):
    seen = []
    handle = module[site].register_forward_hook(lambda m, a, out: seen.append(out.detach()))
    module(x[None])
    handle.remove()
    return seen[0][0]


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_are_the_positive_map(dims):
    """With a class activation map the cells are those of the site, so the row is the weighted mean of what a hook sees."""
    module, images = net(dims), scans(dims, 4)
    index = build_index(pl.Model(module), images, by=Weighted(site="3", target=1))
    for row, x in zip(index.rows, images, strict=True):
        z = hooked(module, 3, x)
        why = pl.explain(module, x, 1, method="grad_cam", site="3")
        w = why.values[0].clamp_min(0)
        w = w if float(w.sum()) > 0 else torch.ones_like(w)
        assert np.allclose(row, ((z * w).flatten(1).sum(1) / w.sum()).numpy(), atol=1e-5)


def test_weights_of_a_map_on_the_image_are_summed_into_the_cells():
    """A network that looks left only: weighted by its map, the right half changes nothing, though the plain mean does."""

    class Left(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 5, 4, stride=4)

        def forward(self, x):
            return self.conv(x)[..., :2].relu().mean((2, 3))

    torch.manual_seed(3)
    module, x = Left().eval(), torch.rand(1, 16, 16)
    other = x.clone()
    other[..., 8:] = torch.rand(1, 16, 8)
    by = Weighted(site="conv", method="input_x_gradient()", target=3)
    one, two = build_index(pl.Model(module), [x, other], by=by).rows
    plain = build_index(pl.Model(module), [x, other], by=Features(site="conv")).rows
    assert np.allclose(one, two, atol=1e-4) and not np.allclose(plain[0], plain[1], atol=1e-3)


def test_a_map_that_is_nowhere_positive_is_told():
    module = net(2)
    with torch.no_grad():
        module[6].weight.zero_()
    found = similar(module, scans(2)[0], scans(2, 3), 1, by=Weighted(site="3", target=0))
    assert any("nowhere positive" in c and "of 3 images" in c for c in found.provenance.caveats)


def test_features_of_the_map_hear_the_map_and_not_the_picture():
    """Two pictures with one map have one row."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3, padding=1)

        def forward(self, x):
            return torch.stack([x[:, 0, 2:5, 2:5].sum((1, 2)), self.conv(x).sum((1, 2, 3)) * 0], 1)

    torch.manual_seed(0)
    module, (a, b) = Sum().eval(), scans(2, 2)
    index = build_index(pl.Model(module, range=(0, 1)), [a, b], by=MapFeatures(site="conv", method="saliency()", target=0))
    assert np.allclose(index.rows[0], index.rows[1], atol=1e-6)
    picture = torch.zeros(1, 12, 12)
    picture[:, 2:5, 2:5] = 1
    assert np.allclose(index.rows[0], module.conv(picture[None])[0].mean((1, 2)).detach(), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_perceptual_distance_is_the_formula(dims):
    module, (a, b) = net(dims), scans(dims, 2)
    found = similar(module, a, [b], 1, by=Perceptual(sites=("1", "3"), cells=None))
    expected = 0.0
    for site in (1, 3):
        u, v = (hooked(module, site, x).double() for x in (a, b))
        u, v = u / u.norm(dim=0).clamp_min(1e-10), v / v.norm(dim=0).clamp_min(1e-10)
        expected += float(((u - v) ** 2).sum(0).mean()) / 2
    assert found.distances[0] ** 2 == pytest.approx(expected, rel=1e-4)


def test_the_index_in_a_folder_is_the_index_in_memory(tmp_path):
    model, images = pl.Model(net(2)), scans(2)
    for i, by in enumerate(MEASURES):
        home = tmp_path / str(i)
        made = build_index(model, images[:5], by=by, labels=range(5), patients="vwxyz", names=list("VWXYZ"), folder=home)
        longer = made.add(model, images[5:], labels=range(5, 9))
        again = open_index(home, by)
        assert len(made) == 5 and len(longer) == len(again) == 9
        assert np.array_equal(again.rows, longer.rows) and again.entries == longer.entries and again.key == longer.key
        whole = similar(model, images[7], images, 4, by=by)
        assert similar(model, images[7], home, 4).places == whole.places == similar(model, images[7], again, 4, by=by).places


def test_the_span_of_structural_similarity_is_the_indexes():
    model, images = pl.Model(net(2)), [1000 * x - 500 for x in scans(2)]
    index = build_index(model, images, by=Structural(size=12))
    assert similar(model, 2 * images[1], index, 3, by=Structural(size=12)).measure == repr(index.measure)
    with pytest.raises(BadParameter, match="measure or site"):
        similar(model, images[1], index, by=Structural(size=12, span=1.0))


def test_no_name_is_printed_and_patients_are_hashed(tmp_path):
    model, images = pl.Model(net(2)), scans(2, 4)
    index = build_index(
        model, images, labels="abab", patients=["Anna", "Berta", "Anna", ""], names=["file of Anna"] * 4, folder=tmp_path / "i"
    )
    found = similar(model, images[0], index, 2, patient="Berta")
    assert "Anna" not in repr(index) + repr(index.entries) + repr(found.matches) + str(found.table()) + json.dumps(found.facts())
    assert "file of Anna" in str(found.table(names=True))
    kept = "".join(p.read_text(errors="replace").replace("file of Anna", "") for p in (tmp_path / "i").iterdir())
    assert "Anna" not in kept and "Berta" not in kept
    assert index.entries[0].patient == index.entries[2].patient != index.entries[1].patient
    other = build_index(model, images, patients=["Anna"] * 4)
    assert other.entries[0].patient != index.entries[0].patient, "two indexes cannot be joined"
    assert index.entries[3].patient == ""


def test_an_index_is_refused_for_another_network_site_measure_or_preparation(tmp_path):
    module, images = net(2), scans(2)
    index = build_index(pl.Model(module), images, by=Features(site="3"), folder=tmp_path / "i")
    x = images[0]
    with pytest.raises(BadParameter, match="another network"):
        similar(net(2, seed=5), x, index)
    with pytest.raises(BadParameter, match="another normalization"):
        similar(pl.Model(module, normalize=pl.Normalize(0.5, 0.5)), x, index)
    with pytest.raises(BadParameter, match="another preparation"):
        similar(pl.Model(module, prepare=lambda i: i), x, index)
    with pytest.raises(BadParameter, match="measure or site"):
        similar(module, x, index, by=Features(site="1"))
    with pytest.raises(BadParameter, match="measure or site"):
        similar(module, x, index, by="ssim")
    with pytest.raises(BadParameter, match="structure or reading"):
        similar(pl.Model(module, classes=("a", "b", "c")), x, index)
    with pytest.raises(BadParameter, match="another network"):
        index.add(pl.Model(net(2, seed=5)), images)
    with pytest.raises(BadParameter, match="an index of"):
        open_index(tmp_path / "i", "ssim")
    assert similar(pl.Model(module, name="renamed"), x, index, 1).places == (0,), "a name changes nothing"
    with torch.no_grad():
        module[0].weight += 0.1
    with pytest.raises(BadParameter, match="another network"):
        similar(module, x, index)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {here!r})
from test_similar import net, scans
import pellucid as pl
from pellucid.exemplars import open_index, similar
home, real = {home!r}, os.replace
for moment in (1, 2, 3):  # before the rows, the entries, the list of files get their names
    before = len(os.listdir(home))
    child = os.fork()
    if not child:
        left = [moment]
        def dying(*args, **more):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)
        os.replace = dying
        open_index(home).add(pl.Model(net(2)), scans(2, 4, seed=9), labels=["new"] * 4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert "".join(open_index(home).labels) == "old" * 9
    print(len(os.listdir(home)), flush=True)
"""


def test_an_update_killed_at_any_moment_leaves_the_old_index(tmp_path):
    home, model, images = tmp_path / "i", pl.Model(net(2)), scans(2)
    build_index(model, images, labels=["old"] * 9, folder=home)
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(here=str(Path(__file__).parent), home=str(home))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(int(n) > 4 for n in done.stdout.split()) and len(done.stdout.split()) == 3, "something was left behind each time"
    again = open_index(home)
    assert again.labels == ("old",) * 9 and similar(model, images[3], again, 1).places == (3,)
    longer = again.add(model, scans(2, 2, seed=9), labels=["new"] * 2)
    assert open_index(home).labels == longer.labels == ("old",) * 9 + ("new",) * 2
    assert sorted(p.suffix for p in home.iterdir()) == [".json"] * 3 + [".lock"] + [".npy"] * 2, "what the killed ones left is gone"


def test_damage_and_strangers_are_told(tmp_path):
    model, images = pl.Model(net(2)), scans(2)
    home = tmp_path / "i"
    index = build_index(model, images, folder=home)
    stale = open_index(home)
    index.add(model, images[:1])
    with pytest.raises(BadFile, match="changed since"):
        stale.add(model, images[:1])
    with pytest.raises(BadFile, match="something in it"):
        build_index(model, images, folder=home)
    part = next(home.glob("*.npy"))
    good = part.read_bytes()
    part.write_bytes(good[:-1] + b"x")
    with pytest.raises(BadFile, match="other bytes"):
        open_index(home)
    part.unlink()
    with pytest.raises(BadFile, match="no such file"):
        open_index(home)
    told = json.loads((home / "index.json").read_text())
    for change, said in (({"version": 99}, "version 99"), ({"measure": {"name": "No", "parameters": {}}}, "known measure")):
        (home / "index.json").write_text(json.dumps(told | change))
        with pytest.raises(BadFile, match=said):
            open_index(home)
    (home / "index.json").write_text(json.dumps(told | {"parts": [told["parts"][0] | {"rows": "../../etc/passwd"}]}))
    with pytest.raises(BadFile, match="part of the index"):
        open_index(home)
    for text in ("{", "[]", "{}"):
        (home / "index.json").write_text(text)
        with pytest.raises(BadFile, match="cannot be read"):
            open_index(home)
    with pytest.raises(BadFile, match="Build it"):
        open_index(tmp_path / "nowhere")


def test_what_cannot_be_is_told():
    model, images = pl.Model(net(2)), scans(2)
    with pytest.raises(BadParameter, match="features, weighted"):
        similar(model, images[0], images, by="likeness")
    with pytest.raises(BadParameter, match="at least one image"):
        similar(model, images[0], [])
    with pytest.raises(BadParameter, match="at least one image"):
        build_index(model, images).add(model, [])
    with pytest.raises(BadParameter, match="labels for 9 images"):
        build_index(model, images, labels=["a"])
    with pytest.raises(BadParameter, match="k is a whole number"):
        similar(model, images[0], images, 0)
    with pytest.raises(BadParameter, match="knows its patients"):
        similar(model, images[0], images, patient="p")
    with pytest.raises(BadParameter, match="labels beside it"):
        similar(model, images[0], build_index(model, images), labels=["a"] * 9)
    with pytest.raises(BadImage, match="rows of shape"):
        build_index(model, [images[0], torch.rand(1, 9, 9)], by=Structural(size=64))
    with pytest.raises(BadImage, match="image whose row"):
        build_index(model, images, by="ssim").add(model, [torch.rand(1, 9, 9)])
    with pytest.raises(BadSite):
        similar(model, images[0], images, by=Features(site="nowhere"))
    with pytest.raises(BadSite, match="spatial extent"):
        similar(model, images[0], images, by=Weighted(site="6", method="saliency()"))
    for make in (lambda: Structural(size=1), lambda: Structural(span=0), lambda: Perceptual(sites="1"), lambda: Perceptual(cells=0)):
        with pytest.raises(BadParameter):
            make()
    with pytest.raises(BadParameter, match="mean, max or none"):
        Features(pool="median")
    with pytest.raises(BadParameter):
        Weighted(method="no_such_method()")


@pytest.mark.parametrize("by", MEASURES)
def test_progress_counts_images_cancel_is_heard_and_the_network_stays(by):
    module, images = net(2).train(), scans(2)
    ticks = []
    stop = threading.Event()
    build_index(pl.Model(module), images, by=by, run=Run(on_tick=lambda done, total: ticks.append((done, total))))
    assert ticks == [(i, 9) for i in range(1, 10)]
    stop.set()
    with pytest.raises(Cancelled):
        build_index(pl.Model(module), images, by=by, run=Run(cancel=stop))
    assert module.training and all(p.requires_grad for p in module.parameters())


def test_what_is_found_is_an_explanation(tmp_path):
    model, images = pl.Model(net(2), name="small"), scans(2)
    found = similar(model, images[0], images, 3, labels=["sick", "well", "sick"] * 3)
    assert isinstance(found, pl.Explanation) and found.grid == pl.Image(images[0]).grid
    said = found.provenance
    assert said.site == "3" and said.weights == model.fingerprint and said.model == "small" and "cases=9" in said.method and said.time
    assert found.matches[0].same_image and found.note(found.matches[0]) == "the same image"
    assert found.sentence.startswith("The 3 most similar of 9 other cases: ")
    told = json.loads(found.save(tmp_path / "s.json").read_text())
    assert [m["place"] for m in told["matches"]] == list(found.places) and told["kind"] == "exemplars"
    with pytest.raises(BadParameter, match=r"\.json"):
        found.save(tmp_path / "s.txt")
    from pellucid.report.related import Similar, similar_cards

    cards = similar_cards([Similar(pl.Image(images[m.place]), m.label, m.likeness, note=found.note(m), same=m.same_image) for m in found])
    assert [c["label"] for c in cards] == list(found.labels) and cards[0]["likeness"] == "identical"
    assert Entry("i", "l", "p", "secret") and "secret" not in repr(Entry("i", "l", "p", "secret"))


def two_units(n=6, dims=2, factor=1.0, seed=0):
    """Images of a channel in hundreds beside one that is a thousandth of it; in the second lies what tells them apart."""
    chance = torch.Generator().manual_seed(seed)
    return [
        torch.stack([torch.rand([12] * dims, generator=chance) * 900 - 300, torch.rand([12] * dims, generator=chance) * factor])
        for _ in range(n)
    ]


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_of_different_units_have_spans_of_their_own(dims):
    from pellucid.ops.similarity import ssim

    model = pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(2 * 12**dims, 2)))
    scans = two_units(dims=dims)
    index = build_index(model, scans, by="ssim")
    assert len(index.measure.span) == 2 and index.measure.span[0] > 500 * index.measure.span[1]
    found = similar(model, scans[0], index, 6)
    slow = [1 - np.mean([float(ssim(a.double(), b.double(), data_range=s)) for a, b, s in zip(scans[0], x, index.measure.span, strict=True)])
            for x in scans]  # fmt: skip
    assert np.array(found.distances) == pytest.approx(np.sort(slow), abs=1e-9)
    assert max(found.distances) > 0.8, "one span for both would find all second channels alike"
    scaled = two_units(dims=dims, factor=50.0)  # another unit of the second channel changes nothing
    assert similar(pl.Model(model.module), scaled[0], build_index(model, scaled, by="ssim"), 6).distances == pytest.approx(
        found.distances, abs=1e-3
    )
    alike = build_index(
        pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(2 * 12**dims, 2))), [torch.rand(2, *[12] * dims) for _ in range(3)], by="ssim"
    )
    assert alike.measure.span == 1.0, "channels of one unit share their span"


def test_spans_that_cannot_be(tmp_path):
    model = pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(288, 2)))
    kept = build_index(model, two_units(), by="ssim", folder=tmp_path / "i")
    assert open_index(tmp_path / "i").measure == kept.measure, "kept and read with its spans"
    for span in ((), (1.0, 0.0), -1.0, (1.0, float("inf"))):
        with pytest.raises(BadParameter, match="span is above 0"):
            Structural(span=span)
    with pytest.raises(BadParameter, match="a span for each channel"):
        build_index(model, two_units(), by=Structural(span=(1.0, 1.0, 1.0))).search  # noqa: B018
