"""Agreement with PAIR saliency's XRAI: the same segments, the same base attribution."""

import numpy as np
import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net
from tests.reference.cuts import blocks

import pellucid as pl

pair = pytest.importorskip("saliency.core", reason="saliency is not installed")


def _cuts(space):
    slanted = (torch.arange(space[0]).view(-1, 1) + torch.arange(space[1])) // 6
    return [blocks(space, 2), blocks(space, 4), slanted]


def _theirs(x, base, masks, least):
    """Two-dimensional; a volume is laid out flat, which changes nothing for a ranking of regions."""
    extra = pair.XRAIParameters()
    extra.experimental_params = {"min_pixel_diff": least}
    plane = (len(x), x.shape[1], -1)
    to_last = [np.moveaxis(t.reshape(plane).numpy(), 0, -1) for t in (x, base)]
    masks = [m.reshape(plane[1:]).numpy() for m in masks]
    found = pair.XRAI().GetMask(to_last[0], None, segments=masks, base_attribution=to_last[1], extra_parameters=extra)
    return torch.from_numpy(found).view(1, *x.shape[1:])


def regions(inner, least):
    def maps(dims):
        x = image(dims)
        cuts = _cuts(x.shape[1:]) if dims == 2 else [blocks(x.shape[1:], 2), blocks(x.shape[1:], 3)]
        masks = [c == k for c in cuts for k in range(int(c.max()) + 1)]
        base = pl.explain(net(dims), x, TARGET, method=inner).values
        params = {"inner": inner, "segments": cuts, "least": least / x[0].numel()}
        return pl.explain(net(dims), x, TARGET, method="xrai", **params).values, _theirs(x, base, masks, least)

    return maps


ROWS = [
    Row("PAIR saliency", "xrai of integrated_gradients", regions("integrated_gradients(baseline=black_and_white, steps=16)", 1), 1e-12),
    Row("PAIR saliency", "xrai of saliency, regions of 7 new samples at least", regions("saliency", 7), 1e-12),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_xrai(row, dims):
    row.check(dims)
