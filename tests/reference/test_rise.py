"""RISE against its formula, with masks made by the authors' recipe (scikit-image's resize) from the same draws."""

import math

import numpy as np
import pytest
import torch
from skimage.transform import resize
from tests.reference.plain import close, explained, score, setting

import pellucid as pl
from pellucid.attribution.rise import draw
from pellucid.errors import BadParameter

MASKS, CELLS, KEEP = 12, 3, 0.4


def authors_masks(space):
    random = torch.Generator().manual_seed(0)
    for _ in range(MASKS):
        grid = (torch.rand([CELLS] * len(space), generator=random, dtype=torch.float64) < KEEP).double().numpy()
        sizes = [math.ceil(n / CELLS) for n in space]
        large = resize(grid, [(CELLS + 1) * s for s in sizes], order=1, mode="reflect", anti_aliasing=False)
        shifts = [int(torch.randint(s, (1,), generator=random)) for s in sizes]
        yield torch.from_numpy(large[tuple(slice(a, a + n) for a, n in zip(shifts, space, strict=True))].copy())


@pytest.mark.parametrize("dims", [2, 3])
def test_rise(dims):
    net, x = setting(dims)
    slow = torch.zeros(1, *x.shape[1:], dtype=torch.float64)
    for mask in authors_masks(x.shape[1:]):
        slow += score(net, x * mask) * mask / (MASKS * KEEP)
    ours = explained(net, x, "rise", masks=MASKS, cells=CELLS, keep=KEEP)
    close(ours.values, slow)
    assert ours.provenance.forward == MASKS


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_show_each_sample_as_often_as_asked(dims):
    space = (20, 17, 13)[:dims]
    mean = sum(draw(space, 3000, 5, 0.3, torch.Generator().manual_seed(1))) / 3000
    assert float((mean - 0.3).abs().max()) < 0.05
    one = next(draw(space, 1, 5, 0.5, torch.Generator().manual_seed(1)))
    assert 0 <= float(one.min()) < float(one.max()) <= 1


def test_many_masks_find_what_a_linear_score_sees():
    """The expectation for s = mean over a patch: the map is highest there."""
    x = torch.ones(1, 21, 21, dtype=torch.float64)

    class Patch(torch.nn.Module):
        def forward(self, v):
            return torch.stack([v[:, 0, 12:18, 3:9].mean((1, 2)), v[:, 0, 1:5, 14:20].mean((1, 2))], 1)

    for target, (i, j) in enumerate([(14.5, 5.5), (2.5, 16.5)]):
        found = pl.explain(Patch(), x, target, method="rise", masks=1500, cells=5).values[0]
        peak = np.unravel_index(int(found.argmax()), found.shape)
        assert max(abs(peak[0] - i), abs(peak[1] - j)) <= 3


def test_memory_does_not_grow_with_masks():
    net, x = setting(2)
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, v):
            seen.append(len(v))
            return net(v)

    pl.explain(Watched(), x, 1, method="rise", masks=300, cells=3)
    assert sum(seen) >= 300
    assert max(seen) <= 64, "masks come in chunks"


def test_nothing_kept_is_refused():
    net, x = setting(2)
    with pytest.raises(BadParameter, match="something is seen"):
        explained(net, x, "rise", keep=0.0)
