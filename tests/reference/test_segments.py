"""Cuts: whole, without holes, the same every time, isotropic in the patient, and written as they are read."""

import pickle

import pytest
import torch
from tests.reference.cuts import blocks

import pellucid as pl
from pellucid.errors import BadGrid, BadParameter, Unsupported
from pellucid.features.segments import read, scales
from pellucid.method import read_method

TEXTS = ["slic(30)", 'slic("9px")', "slic(20, 60)", "slic(30, compactness=2)", "felzenszwalb(80)", "felzenszwalb(50, 400)", "quickshift(3)"]


def picture(space):
    """Two bright boxes on a slope, with a little noise."""
    x = 0.05 * torch.rand(1, *space, generator=torch.Generator().manual_seed(0))
    x += torch.linspace(0, 0.3, space[-1])
    x[(0, *[slice(n // 6, n // 2) for n in space])] += 0.5
    x[(0, *[slice(2 * n // 3, n - 2) for n in space])] += 0.8
    return x


@pytest.mark.parametrize("text", TEXTS)
def test_a_cut_covers_everything_and_reads_back(text):
    x = picture((48, 40))
    cut = read(text)
    found, again = (cut.labels(x, pl.Grid((48, 40))) for _ in range(2))
    for labels, same in zip(found, again, strict=True):
        assert torch.equal(labels, same)
        assert labels.shape == (48, 40) and labels.unique().tolist() == list(range(int(labels.max()) + 1))
        assert int(labels.max()) >= 2
    method = pl.lime(segments=text)
    assert read_method(repr(method)) == method == pickle.loads(pickle.dumps(method))


def test_pieces_follow_the_picture():
    """The bright boxes are made of whole segments (but for a few samples at their edges)."""
    x = picture((48, 40))
    truth = torch.zeros(48, 40, dtype=torch.bool)
    truth[8:24, 6:20] = True
    for text in ("slic(40)", "felzenszwalb(200)"):
        labels = read(text).labels(x, pl.Grid((48, 40)))[0]
        share = torch.zeros(int(labels.max()) + 1).index_add_(0, labels.flatten(), truth.flatten().float())
        inside = share / torch.bincount(labels.flatten())
        wrong = (inside > 0.5)[labels] != truth
        assert float(wrong.float().mean()) < 0.04, text


@pytest.mark.parametrize(("space", "spacing"), [((60, 60, 12), (1.0, 1.0, 5.0)), ((60, 20, 60), (1.0, 3.0, 1.0)), ((60, 15), (1.0, 4.0))])
def test_thick_slices_give_isotropic_pieces(space, spacing):
    grid = pl.Grid.spaced(space, spacing)
    noise = torch.rand(1, *space, generator=torch.Generator().manual_seed(0)) * 0.01
    labels = read("slic(27)" if len(space) == 3 else "slic(16)").labels(noise, grid)[0]
    extents = []
    for k in range(int(labels.max()) + 1):
        at = (labels == k).nonzero()
        extents.append((at.amax(0) - at.amin(0) + 1) * torch.tensor(spacing))
    mean = torch.stack(extents).mean(0)
    assert float(mean.max() / mean.min()) < 1.35, mean
    in_mm = read('slic("15mm")').labels(noise, grid)[0]
    wanted = torch.tensor([n * s / 15 for n, s in zip(space, spacing, strict=True)]).prod()
    assert 0.6 < (int(in_mm.max()) + 1) / float(wanted) < 1.6


def test_labels_from_outside_are_taken_as_they_are():
    net, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)), torch.rand(1, 8, 8)
    odd = blocks((8, 8)) * 7 - 3
    ours = pl.explain(net, x, 1, method="kernel_shap", segments=odd)
    assert torch.equal(ours.trace["segments"], blocks((8, 8)))
    fine = pl.Image(blocks((16, 16))[None].float(), pl.Grid((8, 8)).resize((16, 16)))
    assert torch.equal(pl.explain(net, x, 1, method="kernel_shap", segments=fine).trace["segments"], blocks((8, 8))), "read on its grid"
    assert repr(pl.lime(segments=odd)) == repr(pl.lime(segments=odd.clone())) != repr(pl.lime(segments=blocks((8, 8))))


def test_what_cannot_be_cut_is_refused():
    net, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)), torch.rand(1, 8, 8)
    for segments, match in ((torch.rand(8, 8), "whole numbers"), (torch.zeros(7, 8), "shape"), ('slic("5mm")', "knows its spacing")):
        with pytest.raises(BadParameter, match=match):
            pl.explain(net, x, 1, method="lime", segments=segments)
    for wrong in ("slic(0)", "slic(-3)", "watershed(3)", "slic(", "__import__('os')", 7, "slic(1.5)", "slic(True)"):
        with pytest.raises(BadParameter, match="segments of lime"):
            pl.lime(segments=wrong)
    with pytest.raises(Unsupported, match="2 dimensions"):
        read("felzenszwalb").labels(torch.rand(1, 4, 4, 4), pl.Grid((4, 4, 4)))
    with pytest.raises(BadGrid, match="unit"):
        pl.explain(net, x, 1, method="lime", segments=pl.Image(torch.zeros(1, 8, 8), pl.Grid.spaced((8, 8), (1.0, 1.0))))


@pytest.mark.parametrize("dims", [2, 3])
def test_own_scales_are_several(dims):
    x = picture((48, 40, 20)[:dims])
    counts = [int(labels.max()) + 1 for labels in scales(dims).labels(x, pl.Grid(tuple(x.shape[1:])))]
    assert len(counts) >= 4 and len(set(counts)) >= 2 and min(counts) >= 2
